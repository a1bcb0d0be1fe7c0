//! Moments between updates: float32, bfloat16 or eight bits, in the device's memory or in the host's.

use super::code::{BLOCK, Code, bytes, words};
use super::{AdamW, Constants, adamw};
use crate::composed::row_major;
use crate::is_fused;
use burn::backend::Flex;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use rayon::prelude::*;

/// How moments are held between updates; updates themselves are float32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MomentType {
    #[default]
    F32,
    /// Rounded up or down by chance, so that the many small steps of the second moment, below half of what bfloat16 tells apart, come
    /// through on average.
    Bf16,
    /// Blocks of 256 numbers, by the dynamic tree of arXiv 2110.02861.
    EightBit,
}

/// A moment's numbers as a checkpoint holds them, bit for bit.
#[derive(Clone, Debug, PartialEq)]
pub enum StoredMoment {
    Float(Vec<f32>),
    /// Codes of whole blocks, and the blocks' scales.
    Coded {
        codes: Vec<u8>,
        scales: Vec<f32>,
    },
}

/// First and second moment of one parameter.
#[derive(Debug)]
pub struct Moments {
    shape: [usize; 2],
    kind: MomentType,
    held: Held,
}

#[derive(Debug)]
enum Held {
    /// Float32 in the memory of the fused kernels.
    Whole(Box<[Tensor<2>; 2]>),
    /// Fewer bits there.
    Packed([HostMoment; 2]),
    /// On a device, piece by piece, so that an update's temporaries are small.
    Pieces { pieces: Vec<[Piece; 2]>, device: Device, on_host: bool },
}

#[derive(Debug)]
enum HostMoment {
    Bf16(Vec<u16>),
    Coded { codes: Vec<u8>, scales: Vec<f32> },
}

/// Some numbers of a moment on a device, or away from it.
#[derive(Debug)]
enum Piece {
    Float(Box<Tensor<2>>),
    Coded(Box<(Tensor<2, Int>, Tensor<2>)>),
    Away(Vec<TensorData>),
}

/// Numbers of a piece: whole blocks.
const PIECE: usize = 1 << 22;
const CODES: [Code; 2] = [Code::Signed, Code::Unsigned];

impl Moments {
    /// Moments of zero. `on_host`: kept in the host's memory between updates; in the fused kernels' they are always.
    pub fn zeros(shape: [usize; 2], kind: MomentType, on_host: bool, device: &Device) -> Self {
        let len = shape[0] * shape[1];
        let zeros = || match kind {
            MomentType::EightBit => {
                let blocks = len.div_ceil(BLOCK);
                StoredMoment::Coded { codes: vec![0; blocks * BLOCK], scales: vec![0.0; blocks] }
            }
            _ => StoredMoment::Float(vec![0.0; len]),
        };
        if kind == MomentType::F32 && is_fused(device) {
            let zeros = || Tensor::zeros(shape, device);
            return Self { shape, kind, held: Held::Whole(Box::new([zeros(), zeros()])) };
        }
        Self::restore(shape, kind, on_host, device, [zeros(), zeros()]).expect("as many numbers as the shape has")
    }

    /// Moments as [`Self::store`] gave them.
    ///
    /// # Errors
    /// When they are of another size or type; the text says which.
    pub fn restore(
        shape: [usize; 2],
        kind: MomentType,
        on_host: bool,
        device: &Device,
        stored: [StoredMoment; 2],
    ) -> Result<Self, String> {
        Self::place(shape, kind, on_host, (device, is_fused(device)), stored)
    }

    fn place(
        shape: [usize; 2],
        kind: MomentType,
        on_host: bool,
        (device, fused): (&Device, bool),
        stored: [StoredMoment; 2],
    ) -> Result<Self, String> {
        let len = shape[0] * shape[1];
        for moment in &stored {
            let (found, expected) = match (moment, kind) {
                (StoredMoment::Float(values), MomentType::F32 | MomentType::Bf16) => (values.len(), len),
                (StoredMoment::Coded { codes, scales }, MomentType::EightBit) => {
                    (codes.len().min(scales.len() * BLOCK), len.div_ceil(BLOCK) * BLOCK)
                }
                (StoredMoment::Float(_), _) => return Err("moments of 32 or 16 bits, and 8 are configured".to_owned()),
                (StoredMoment::Coded { .. }, _) => return Err("moments of 8 bits, and more are configured".to_owned()),
            };
            if found != expected {
                return Err(format!("{found} numbers in a moment, expected {expected}"));
            }
        }
        let held = match kind {
            MomentType::F32 if fused => Held::Whole(Box::new(stored.map(|moment| match moment {
                StoredMoment::Float(values) => Tensor::from_data(TensorData::new(values, shape), device),
                StoredMoment::Coded { .. } => unreachable!("refused above"),
            }))),
            _ if fused => Held::Packed(stored.map(|moment| match moment {
                StoredMoment::Float(values) => HostMoment::Bf16(values.into_iter().map(|x| to_bf16(x, 0.5)).collect()),
                StoredMoment::Coded { codes, scales } => HostMoment::Coded { codes, scales },
            })),
            _ => {
                let ranges = (0..len).step_by(PIECE).map(|first| first..(first + PIECE).min(len));
                let pieces = ranges.map(|range| {
                    [0, 1].map(|which| Piece::upload(&stored[which], range.clone(), kind, device).settle(on_host))
                });
                Held::Pieces { pieces: pieces.collect(), device: device.clone(), on_host }
            }
        };
        Ok(Self { shape, kind, held })
    }

    pub fn kind(&self) -> MomentType {
        self.kind
    }

    /// The numbers, bit for bit.
    pub fn store(&self) -> [StoredMoment; 2] {
        let floats = |tensor: &Tensor<2>| tensor.clone().into_data().convert::<f32>().try_to_vec().expect("float32");
        match &self.held {
            Held::Whole(pair) => [0, 1].map(|which| StoredMoment::Float(floats(&pair[which]))),
            Held::Packed(pair) => [0, 1].map(|which| match &pair[which] {
                HostMoment::Bf16(values) => StoredMoment::Float(values.iter().map(|&bits| from_bf16(bits)).collect()),
                HostMoment::Coded { codes, scales } => {
                    StoredMoment::Coded { codes: codes.clone(), scales: scales.clone() }
                }
            }),
            Held::Pieces { pieces, .. } => [0, 1].map(|which| {
                let (mut all, mut codes, mut scales) = (Vec::new(), Vec::new(), Vec::new());
                for piece in pieces {
                    let data = piece[which].data();
                    let first: Vec<f32> = match data.len() {
                        1 => data[0].clone().convert::<f32>().try_to_vec().expect("float32"),
                        _ => {
                            codes.extend(bytes(&data[0].clone().convert::<i32>().try_to_vec::<i32>().expect("i32")));
                            scales.extend(data[1].try_to_vec::<f32>().expect("float32"));
                            Vec::new()
                        }
                    };
                    all.extend(first);
                }
                match self.kind {
                    MomentType::EightBit => StoredMoment::Coded { codes, scales },
                    _ => StoredMoment::Float(all),
                }
            }),
        }
    }

    /// The parameter after an update with this gradient (scaled by `gradient_scale` first); the moments are updated.
    ///
    /// `chance` is a number in [0, 1) that decides how bfloat16 is rounded: another one for each update and parameter.
    ///
    /// # Shapes
    /// `parameter` and `gradient` those of the moments; tensors without autodiff. Memory that nobody else holds is reused.
    pub fn update(
        &mut self,
        parameter: Tensor<2>,
        gradient: Tensor<2>,
        gradient_scale: f32,
        step: &AdamW,
        chance: f32,
    ) -> Tensor<2> {
        let constants = Constants::new(step, gradient_scale);
        match &mut self.held {
            Held::Whole(pair) => {
                let device = parameter.device();
                let nothing = || Tensor::empty([0, 0], &device);
                let moments = std::mem::replace(&mut **pair, [nothing(), nothing()]);
                let (parameter, moments) = adamw(parameter, gradient, moments, gradient_scale, step);
                **pair = moments;
                parameter
            }
            Held::Packed(pair) => update_packed(parameter, gradient, pair, &constants, &chances(chance)),
            Held::Pieces { pieces, device, on_host } => {
                let [rows, columns] = self.shape;
                let len = rows * columns;
                let chance = Tensor::<1>::from_floats(chances(chance).as_slice(), device).reshape([1, BLOCK]);
                let gradient = row_major(gradient).reshape([1, len]);
                let mut parameter = parameter.reshape([1, len]);
                for (index, [m, v]) in pieces.iter_mut().enumerate() {
                    let range = index * PIECE..((index + 1) * PIECE).min(len);
                    let (count, whole) = (range.len(), range.len() == len);
                    let part = |tensor: &Tensor<2>| match whole {
                        true => tensor.clone(),
                        false => tensor.clone().narrow(1, range.start, count),
                    };
                    let (old, gradient) = (part(&parameter), part(&gradient));
                    let moments = [m.open(Code::Signed, count, device), v.open(Code::Unsigned, count, device)];
                    let (new, [first, second]) = constants.update_on_device(old, gradient, moments);
                    *m = Piece::close(first, self.kind, Code::Signed, &chance).settle(*on_host);
                    *v = Piece::close(second, self.kind, Code::Unsigned, &chance).settle(*on_host);
                    parameter = if whole { new } else { parameter.slice_assign([0..1, range], new) };
                }
                parameter.reshape([rows, columns])
            }
        }
    }
}

impl Piece {
    fn float(values: Tensor<2>) -> Self {
        Self::Float(Box::new(values))
    }

    fn upload(stored: &StoredMoment, range: std::ops::Range<usize>, kind: MomentType, device: &Device) -> Self {
        match stored {
            StoredMoment::Float(values) => {
                let count = range.len();
                let values = Tensor::<2>::from_data(TensorData::new(values[range].to_vec(), [1, count]), device);
                Self::float(if kind == MomentType::Bf16 { values.cast(DType::BF16) } else { values })
            }
            StoredMoment::Coded { codes, scales } => {
                let blocks = range.start / BLOCK..range.end.div_ceil(BLOCK);
                let count = blocks.len();
                let packed = words(&codes[blocks.start * BLOCK..blocks.end * BLOCK]);
                let codes =
                    Tensor::<2, Int>::from_data(TensorData::new(packed, [count, BLOCK / 4]), (device, DType::I32));
                let scales = TensorData::new(scales[blocks].to_vec(), [count, 1]);
                Self::Coded(Box::new((codes, Tensor::from_data(scales, device))))
            }
        }
    }

    /// The numbers in float32: `[1, count]`
    fn open(&mut self, code: Code, count: usize, device: &Device) -> Tensor<2> {
        if let Self::Away(data) = self {
            let mut data = std::mem::take(data).into_iter();
            let first = data.next().expect("numbers or codes");
            *self = match data.next() {
                None => {
                    let dtype = first.dtype();
                    Self::float(Tensor::from_data(first, (device, dtype)))
                }
                Some(scales) => {
                    let codes = Tensor::from_data(first, (device, DType::I32));
                    Self::Coded(Box::new((codes, Tensor::from_data(scales, device))))
                }
            };
        }
        match std::mem::replace(self, Self::Away(Vec::new())) {
            Self::Float(values) => values.cast(DType::F32),
            Self::Coded(both) => {
                let (codes, scales) = *both;
                let values = code.decode_on_device(codes, scales);
                let [blocks, _] = values.dims();
                values.reshape([1, blocks * BLOCK]).narrow(1, 0, count)
            }
            Self::Away(_) => unreachable!("uploaded above"),
        }
    }

    /// Numbers of `[1, count]`, as they are kept.
    fn close(values: Tensor<2>, kind: MomentType, code: Code, chance: &Tensor<2>) -> Self {
        let [_, count] = values.dims();
        if kind == MomentType::F32 {
            return Self::float(values);
        }
        let (device, blocks) = (values.device(), count.div_ceil(BLOCK));
        let missing = blocks * BLOCK - count;
        let values = match missing {
            0 => values,
            _ => Tensor::cat(vec![values, Tensor::zeros([1, missing], &device)], 1),
        };
        let values = values.reshape([blocks, BLOCK]);
        if kind == MomentType::EightBit {
            let (codes, scales) = code.encode_on_device(values);
            return Self::Coded(Box::new((codes, scales)));
        }
        // what bfloat16 tells apart at this size
        let exponent =
            values.clone().abs().clamp_min(f32::MIN_POSITIVE).log().div_scalar(std::f32::consts::LN_2).floor();
        let unit = exponent.sub_scalar(7.0).mul_scalar(std::f32::consts::LN_2).exp();
        let moved = values + unit * chance.clone().sub_scalar(0.5);
        Self::float(moved.cast(DType::BF16).reshape([1, blocks * BLOCK]).narrow(1, 0, count))
    }

    /// Where it stays until the next update.
    fn settle(self, on_host: bool) -> Self {
        if on_host { Self::Away(self.data()) } else { self }
    }

    fn data(&self) -> Vec<TensorData> {
        match self {
            Self::Float(values) => vec![Tensor::clone(values).into_data()],
            Self::Coded(both) => {
                let (codes, scales) = &**both;
                vec![codes.clone().into_data(), scales.clone().into_data()]
            }
            Self::Away(data) => data.clone(),
        }
    }
}

/// A block's numbers in [0, 1), evenly spread and moved by `chance`: over the updates each of them is uniform.
fn chances(chance: f32) -> [f32; BLOCK] {
    std::array::from_fn(|i| {
        // multiples of the golden ratio
        let spread = (i as f64 * 0.618_033_988_749_894_9 + f64::from(chance)).fract();
        (spread as f32).min(1.0 - f32::EPSILON / 2.0)
    })
}

/// The upper half of the bits, one up with a probability of what is cut off.
fn to_bf16(value: f32, chance: f32) -> u16 {
    if !value.is_finite() {
        return (value.to_bits() >> 16) as u16;
    }
    ((value.to_bits() + (chance * 65536.0) as u32) >> 16) as u16
}

fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

fn update_packed(
    parameter: Tensor<2>,
    gradient: Tensor<2>,
    [first, second]: &mut [HostMoment; 2],
    constants: &Constants,
    chances: &[f32; BLOCK],
) -> Tensor<2> {
    let [mut parameter, gradient] = [parameter, gradient].map(crate::host);
    let numbers = parameter.values_mut().par_chunks_mut(BLOCK).zip(gradient.values().par_chunks(BLOCK));
    let one = |p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]| {
        for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            constants.update(p, *g, m, v);
        }
    };
    match (first, second) {
        (HostMoment::Bf16(first), HostMoment::Bf16(second)) => {
            let moments = first.par_chunks_mut(BLOCK).zip(second.par_chunks_mut(BLOCK));
            numbers.zip(moments).for_each(|((p, g), (m, v))| {
                let mut values = [[0f32; BLOCK]; 2];
                for (values, bits) in values.iter_mut().zip([&*m, &*v]) {
                    values.iter_mut().zip(bits).for_each(|(value, &bits)| *value = from_bf16(bits));
                }
                let [first, second] = &mut values;
                one(p, g, first, second);
                for (values, bits) in values.iter().zip([m, v]) {
                    let rounded = bits.iter_mut().zip(values).zip(chances);
                    rounded.for_each(|((bits, &value), &chance)| *bits = to_bf16(value, chance));
                }
            });
        }
        (
            HostMoment::Coded { codes: first, scales: first_scales },
            HostMoment::Coded { codes: second, scales: second_scales },
        ) => {
            let firsts = first.par_chunks_mut(BLOCK).zip(first_scales.par_iter_mut());
            let seconds = second.par_chunks_mut(BLOCK).zip(second_scales.par_iter_mut());
            numbers.zip(firsts.zip(seconds)).for_each(|((p, g), (m, v))| {
                let mut values = [[0f32; BLOCK]; 2];
                for ((code, values), (codes, scale)) in CODES.into_iter().zip(&mut values).zip([&m, &v]) {
                    code.decode(codes, **scale, values);
                }
                let [first, second] = &mut values;
                one(p, g, first, second);
                for ((code, values), (codes, scale)) in CODES.into_iter().zip(&values).zip([m, v]) {
                    *scale = code.scale(values);
                    code.encode(values, *scale, codes);
                }
            });
        }
        _ => unreachable!("both moments are of one type"),
    }
    Tensor::from_primitive::<Flex>(parameter.into_tensor())
}

#[cfg(test)]
mod tests;
