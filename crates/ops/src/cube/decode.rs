//! The attention of a decoding step, and the writing of its keys and values.

use super::kernels::{self, LANES};
use super::{address, cube_device, element};
use crate::HeadShape;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Device, Int, Shape, Tensor};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, cubecl};
use cubecl::prelude::*;

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sizes {
    pub(super) heads: usize,
    /// Key and value heads.
    pub(super) pairs: usize,
    /// Of a head.
    pub(super) width: usize,
    /// Units of a cube, a power of two.
    pub(super) units: usize,
}

impl Sizes {
    /// Tokens of a tile.
    fn tile(self) -> usize {
        self.units * LANES
    }

    /// Bytes of shared memory that a cube takes: queries, weights, and what is reduced.
    fn shared_bytes(self) -> usize {
        self.heads / self.pairs * (self.width + self.tile() + self.units) * size_of::<f32>()
    }

    /// For heads of this shape on this device, where the kernel can be made.
    pub(crate) fn of(shape: HeadShape, device: &Device) -> Option<Self> {
        let device = cube_device(device)?;
        let HeadShape { heads, kv_heads: pairs, width } = shape;
        let groups = width / LANES;
        if !width.is_multiple_of(LANES) || !groups.is_power_of_two() || !heads.is_multiple_of(pairs) {
            return None;
        }
        let hardware = device.client().properties().hardware.clone();
        [128, 64, 32].map(|units| Self { heads, pairs, width, units }).into_iter().find(|sizes| {
            groups <= sizes.units
                && heads / pairs <= sizes.units
                && sizes.shared_bytes() <= hardware.max_shared_memory_size
                && sizes.units <= hardware.max_units_per_cube as usize
        })
    }
}

/// A step of decoding in one layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(super) sizes: Sizes,
    pub(super) rows: usize,
    pub(super) slots: usize,
    pub(super) capacity: usize,
    /// The column that is written, and how many hold anything.
    pub(super) column: usize,
    pub(super) columns: usize,
    pub(super) prompts: usize,
    pub(super) prompt_tokens: usize,
}

/// The operations as burn dispatches them. Shapes: [`kernels::decode::write`] and [`kernels::decode::attend`]; caches have one dimension.
#[backend_extension(Cube, Fusion: cfg(feature = "fusion"))]
pub(crate) trait DecodeOps: Backend {
    #[fusion(dtype = own, shape = own)]
    fn write_cache(
        own: FloatTensor<Self>,
        packed: FloatTensor<Self>,
        rows: IntTensor<Self>,
        step: Step,
    ) -> FloatTensor<Self>;

    #[fusion(dtype = packed, shape = Shape::new([step.rows, step.sizes.heads * step.sizes.width]))]
    fn attend_cache(
        packed: FloatTensor<Self>,
        own: FloatTensor<Self>,
        prompts: FloatTensor<Self>,
        rows: IntTensor<Self>,
        step: Step,
    ) -> FloatTensor<Self>;
}

impl DecodeOps for CubeBackend {
    fn write_cache(own: CubeTensor, packed: CubeTensor, rows: CubeTensor, step: Step) -> CubeTensor {
        let own = if own.can_mut() { own } else { own.copy() };
        let packed = into_contiguous(packed);
        let count = step.rows * step.sizes.pairs * step.sizes.width;
        let client = own.client.clone();
        let cube = CubeDim::new(&client, count);
        let types = [element(&own), element(&rows)];
        let address = address(&[&own, &packed]);
        // SAFETY: a number for each unit below `count`; rows name slots below `slots`, and the column is below `capacity`
        unsafe {
            kernels::decode::write::launch_unchecked(
                &client,
                cubecl::calculate_cube_count_elemwise(&client, count, cube),
                cube,
                address,
                packed.into_tensor_arg(),
                rows.into_tensor_arg(),
                own.clone().into_tensor_arg(),
                step.rows,
                step.slots,
                step.capacity,
                step.column,
                step.sizes,
                types,
            );
        }
        own
    }

    fn attend_cache(
        packed: CubeTensor,
        own: CubeTensor,
        prompts: CubeTensor,
        rows: CubeTensor,
        step: Step,
    ) -> CubeTensor {
        let Sizes { heads, pairs, width, units } = step.sizes;
        let tile = step.sizes.tile();
        let tiles = step.prompt_tokens.div_ceil(tile) + step.columns.div_ceil(tile);
        let packed = into_contiguous(packed);
        let client = packed.client.clone();
        let empty = |shape: Shape, dtype: DType| {
            empty_device_contiguous_dtype(client.clone(), packed.device.clone(), shape, dtype)
        };
        let parts = empty(Shape::new([step.rows * heads * tiles * width]), DType::F32);
        let sums = empty(Shape::new([step.rows * heads * tiles * 2]), DType::F32);
        let output = empty(Shape::new([step.rows, heads * width]), packed.dtype);
        let types = [element(&packed), element(&rows)];
        let address = address(&[&packed, &own, &prompts, &parts]);
        // SAFETY: rows name slots and prompts that there are, and prompts' tokens are at most `prompt_tokens`
        unsafe {
            kernels::decode::attend::launch_unchecked(
                &client,
                CubeCount::Static(tiles as u32, pairs as u32, step.rows as u32),
                CubeDim::new_1d(units as u32),
                address,
                LANES,
                packed.into_tensor_arg(),
                own.into_tensor_arg(),
                prompts.into_tensor_arg(),
                rows.into_tensor_arg(),
                parts.clone().into_tensor_arg(),
                sums.clone().into_tensor_arg(),
                step.slots,
                step.capacity,
                step.column,
                step.columns,
                step.prompts,
                step.prompt_tokens,
                (width as f32).powf(-0.5),
                step.sizes,
                types,
            );
        }
        let count = step.rows * heads * width;
        let cube = CubeDim::new(&client, count);
        // SAFETY: a number for each unit below `count`
        unsafe {
            kernels::decode::combine::launch_unchecked(
                &client,
                cubecl::calculate_cube_count_elemwise(&client, count, cube),
                cube,
                address,
                parts.into_tensor_arg(),
                sums.into_tensor_arg(),
                output.clone().into_tensor_arg(),
                count,
                tiles,
                width,
                types[0],
            );
        }
        output
    }
}

/// Writes a step's keys and values, in place where nobody else holds the cache.
pub(super) fn write(own: Tensor<1>, packed: Tensor<2>, rows: Tensor<1, Int>, step: Step) -> Tensor<1> {
    let (own, packed) = (own.into_dispatch(), packed.into_dispatch());
    Tensor::from_dispatch(Dispatch::write_cache(own, packed, rows.into_dispatch(), step))
}

/// The attention of a step's rows.
pub(super) fn attend(
    packed: Tensor<2>,
    own: Tensor<1>,
    prompts: Tensor<1>,
    rows: Tensor<1, Int>,
    step: Step,
) -> Tensor<2> {
    let (packed, own, prompts) = (packed.into_dispatch(), own.into_dispatch(), prompts.into_dispatch());
    Tensor::from_dispatch(Dispatch::attend_cache(packed, own, prompts, rows.into_dispatch(), step))
}
