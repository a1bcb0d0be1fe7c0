//! Low-rank adapters: `y = x W^T + s (x A^T) B^T`, of which only A and B learn (Hu et al., arXiv 2106.09685).
//!
//! Names, initial values and scale are PEFT's: A uniform in +-1/sqrt(inputs) (kaiming_uniform with a = sqrt 5), B zero, s = alpha / rank.

use super::parameters::parameters_of;
use burn::tensor::{DType, Device, Tensor, TensorData};
use percept_core::{Parameter, Piece};
use percept_ops::{RowKeys, cast, composed::product, dropout, linear};
use percept_random::{Key, Purpose};
use std::sync::Arc;

/// Which maps get adapters, and how large they are.
#[derive(Clone, Copy)]
pub struct Lora<'a> {
    pub rank: usize,
    pub alpha: f64,
    /// Share of the numbers that A does not see while the policy learns (Hu et al., appendix D); 0 is off.
    pub dropout: f64,
    /// Of the initial values, and of what is dropped.
    pub seed: u64,
    /// Whether the map of this name (as in the checkpoint, without `.weight`) gets one.
    pub targets: &'a dyn Fn(&str) -> bool,
}

/// Adapters of the maps that stand in one matrix.
#[derive(Clone, Debug)]
pub(crate) struct Adapter {
    /// One below the other: `[rank * adapted maps, inputs]`
    a: Parameter,
    /// `[outputs, rank]` of each adapted map.
    b: Vec<Parameter>,
    /// For each map of the matrix its outputs, and whether it is adapted.
    maps: Vec<(usize, bool)>,
    rank: usize,
    scale: f32,
    dropout: f64,
    /// The matrix's number among all.
    number: u64,
}
parameters_of!(Adapter: a, b);

impl Adapter {
    /// Adapters of a matrix, whose number keys the initial values; nothing where no map is a target.
    pub(super) fn new(weight: &Parameter, lora: &Lora, number: u64, device: &Device) -> Option<Self> {
        let maps = weight.pieces.iter().map(|piece| {
            let name = piece.name.strip_suffix(".weight").filter(|_| piece.shape.len() == 2);
            (piece.shape[0], name.filter(|name| (lora.targets)(name)))
        });
        let maps: Vec<(usize, Option<&str>)> = maps.collect();
        let rank = lora.rank;
        let inputs = weight.value.dims()[1];
        let (mut values, mut pieces, mut b) = (Vec::new(), Vec::new(), Vec::new());
        for &(outputs, name) in &maps {
            let Some(name) = name else { continue };
            let mut stream = Key::new(lora.seed, Purpose::Adapter).prompt(number).sample(b.len() as u32).stream();
            let bound = (inputs as f64).powf(-0.5);
            let from = values.len();
            values.extend((0..rank * inputs).map(|_| ((2.0 * stream.uniform() - 1.0) * bound) as f32));
            let piece =
                |part: &str, shape: Vec<usize>, range| Piece { name: format!("{name}.{part}.weight"), shape, range };
            pieces.push(piece("lora_A", vec![rank, inputs], from..values.len()));
            let zeros = vec![0.0; outputs * rank];
            let piece = piece("lora_B", vec![outputs, rank], 0..outputs * rank);
            b.push(parameter(zeros, [outputs, rank], vec![piece], device));
        }
        if b.is_empty() {
            return None;
        }
        let a = parameter(values, [rank * b.len(), inputs], pieces, device);
        let maps = maps.into_iter().map(|(outputs, name)| (outputs, name.is_some())).collect();
        let (scale, dropout) = ((lora.alpha / rank as f64) as f32, lora.dropout);
        Some(Self { a, b, maps, rank, scale, dropout, number })
    }

    /// `y + s (x A^T) B^T`, in the type of `y`; with numbers of `x` dropped where rows have keys.
    ///
    /// Maps that stand in one matrix see the same numbers of their common input, unlike PEFT's, each of which draws for itself.
    pub(super) fn add(&self, x: Tensor<2>, y: Tensor<2>, rows: Option<&Arc<RowKeys>>) -> Tensor<2> {
        let x = match rows {
            Some(rows) if self.dropout > 0.0 => dropout(x, rows, self.number, self.dropout),
            _ => x,
        };
        let inner = linear(x, self.a.value.clone(), None, None).mul_scalar(self.scale);
        if let ([b], 1) = (self.b.as_slice(), self.maps.len()) {
            return linear(inner, b.value.clone(), None, Some(y));
        }
        let rows = inner.dims()[0];
        let part = |place: usize, b: &Parameter| {
            let own = inner.clone().narrow(1, place * self.rank, self.rank);
            linear(own, b.value.clone(), None, None)
        };
        let rest = |outputs: usize| Tensor::zeros([rows, outputs], (&y.device(), inner.dtype()));
        let added = Tensor::cat(self.placed(part, rest), 1);
        cast(added, y.dtype()) + y
    }

    /// What is added to the matrix when the adapters are merged into it, `s B A`, in float32.
    fn product(&self) -> Tensor<2> {
        let a = plain(&self.a);
        let inputs = a.dims()[1];
        let part = |place: usize, b: &Parameter| {
            product(plain(b), a.clone().narrow(0, place * self.rank, self.rank)).mul_scalar(self.scale)
        };
        let rest = |outputs: usize| Tensor::zeros([outputs, inputs], &a.device());
        Tensor::cat(self.placed(part, rest), 0)
    }

    /// The matrix with the adapters in it, in its type.
    pub(super) fn merged(&self, weight: &Parameter) -> Tensor<2> {
        let value = plain(weight);
        let dtype = value.dtype();
        cast(cast(value, DType::F32) + self.product(), dtype)
    }

    /// A part for each map of the matrix, in order: adapted ones by their place among the adapted, others by their outputs.
    fn placed(
        &self,
        part: impl Fn(usize, &Parameter) -> Tensor<2>,
        rest: impl Fn(usize) -> Tensor<2>,
    ) -> Vec<Tensor<2>> {
        let mut adapted = self.b.iter().enumerate();
        let place = |&(outputs, is_adapted): &(usize, bool)| match is_adapted {
            true => adapted.next().map(|(place, b)| part(place, b)).expect("one for each adapted map"),
            false => rest(outputs),
        };
        self.maps.iter().map(place).collect()
    }
}

fn plain(parameter: &Parameter) -> Tensor<2> {
    let value = parameter.value.clone();
    if value.device().is_autodiff() { value.inner() } else { value }
}

fn parameter(values: Vec<f32>, shape: [usize; 2], pieces: Vec<Piece>, device: &Device) -> Parameter {
    let value = Tensor::from_data(TensorData::new(values, shape), device);
    let trainable = device.is_autodiff();
    let value = if trainable { value.require_grad() } else { value };
    Parameter { value, pieces, trainable, rounds: false }
}
