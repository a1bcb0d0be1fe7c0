//! Making parameters, from a checkpoint or at random, and walking over them.
//!
//! A model is built by one constructor that asks for each parameter by a [`Spec`]; who answers decides whether this lists what a
//! checkpoint must hold, reads it, or draws new weights.

use super::layers::Linear;
use crate::ModelError;
use burn::tensor::{DType, Device, Tensor, TensorData};
use percept_core::{Parameter, Piece};
use percept_random::{Key, Purpose};
use percept_weights::{Checkpoint, Expected, NamingScheme, StoredDtype};
use rayon::prelude::*;
use std::ops::Range;
use std::path::Path;

/// Names (as in the checkpoint) of parameters that take no gradient.
pub type Freeze<'a> = dyn Fn(&str) -> bool + 'a;

/// Where a model lives, and the type of its activations.
///
/// Parameters that learn are float32 whatever the type is: an update of 1e-6 would be lost in bfloat16. Maps that do not learn are kept in
/// it, unless that would round what a checkpoint holds; embeddings, the output head and normalizations stay float32.
#[derive(Clone, Debug)]
pub struct Placement {
    pub device: Device,
    pub dtype: DType,
    /// Bytes of the device's largest buffer, where there is a limit; a parameter above it is refused before anything is read.
    pub largest_buffer: Option<u64>,
    /// Bytes of pictures' features that may be kept from one pass to the next, where the vision tower does not learn; 0 keeps none.
    pub kept_features: usize,
}

impl From<&Device> for Placement {
    /// Float32, and nothing is kept.
    fn from(device: &Device) -> Self {
        Self { device: device.clone(), dtype: DType::F32, largest_buffer: None, kept_features: 0 }
    }
}

/// What a parameter consists of.
pub(crate) struct Spec {
    /// Tensors of the checkpoint, joined along their first dimension.
    pub(crate) tensors: Vec<(String, Vec<usize>)>,
    /// Whether it multiplies values one by one and starts at 1.
    pub(crate) scale: bool,
    /// See [`Parameter::rounds`].
    pub(crate) rounds: bool,
}

impl Spec {
    pub(crate) fn matrix(tensors: Vec<(String, Vec<usize>)>) -> Self {
        Self { tensors, scale: false, rounds: true }
    }

    /// A matrix whose rows are looked up, or that gives logits: float32 whatever activations are.
    pub(crate) fn table(name: String, shape: Vec<usize>) -> Self {
        Self { tensors: vec![(name, shape)], scale: false, rounds: false }
    }

    pub(crate) fn scale(name: String, width: usize) -> Self {
        Self { tensors: vec![(name, vec![width])], scale: true, rounds: false }
    }

    pub(crate) fn len(&self) -> usize {
        self.tensors.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }

    /// Rows and columns: vectors are one row; further dimensions of a matrix are flattened into its columns.
    pub(crate) fn dims(&self) -> [usize; 2] {
        let shape = &self.tensors[0].1;
        if shape.len() == 1 {
            return [1, self.len()];
        }
        let columns = shape[1..].iter().product();
        [self.len() / columns, columns]
    }

    /// The tensors with their places among the parameter's values.
    pub(crate) fn pieces(&self) -> Vec<Piece> {
        let mut from = 0;
        let piece = |(name, shape): &(String, Vec<usize>)| {
            let range = from..from + shape.iter().product::<usize>();
            from = range.end;
            Piece { name: name.clone(), shape: shape.clone(), range }
        };
        self.tensors.iter().map(piece).collect()
    }

    fn parameter(&self, values: Vec<f32>, device: &Device, dtype: DType, trainable: bool) -> Parameter {
        // converted on the host, so that the device never holds it twice
        let data = TensorData::new(values, self.dims()).convert_dtype(dtype);
        let value = Tensor::from_data(data, (device, dtype));
        let value = if trainable { value.require_grad() } else { value };
        Parameter { value, pieces: self.pieces(), trainable, rounds: self.rounds }
    }
}

/// Answers a model's constructor.
pub(crate) type Make<'a> = dyn FnMut(Spec) -> Result<Parameter, ModelError> + 'a;

/// What a model's constructor asks for, in order. No weights are made: the device only serves for placeholders.
pub(crate) fn specs_of<M>(
    device: &Device,
    build: impl Fn(&mut Make) -> Result<M, ModelError>,
) -> Result<Vec<Spec>, ModelError> {
    let mut specs = Vec::new();
    build(&mut |spec: Spec| {
        specs.push(spec);
        Ok(Parameter { value: Tensor::zeros([1, 1], device), pieces: Vec::new(), trainable: false, rounds: false })
    })?;
    Ok(specs)
}

/// How a model's parameters are held where it is placed.
pub(crate) struct Holding<'a> {
    placement: &'a Placement,
    freeze: &'a Freeze<'a>,
    /// Whether the type of activations would round what a checkpoint holds.
    would_round: bool,
}

impl<'a> Holding<'a> {
    /// `stored`: the type of most weights in the checkpoint.
    pub(crate) fn new(placement: &'a Placement, stored: Option<DType>, freeze: &'a Freeze<'a>) -> Self {
        let would_round = placement.device.is_autodiff() && stored != Some(placement.dtype);
        Self { placement, freeze, would_round }
    }

    fn learns(&self, spec: &Spec) -> bool {
        self.placement.device.is_autodiff() && !spec.tensors.iter().any(|(name, _)| (self.freeze)(name))
    }

    fn dtype(&self, spec: &Spec) -> DType {
        let exact = self.learns(spec) || self.would_round || !spec.rounds;
        if exact { DType::F32 } else { self.placement.dtype }
    }

    pub(crate) fn parameter(&self, spec: &Spec, values: Vec<f32>) -> Parameter {
        spec.parameter(values, &self.placement.device, self.dtype(spec), self.learns(spec))
    }
}

/// Builds a model from the checkpoint in `folder`, after comparing all names and shapes. `tied`: a tensor that may be missing, and
/// the one that it repeats.
pub(crate) fn from_checkpoint<M>(
    folder: &Path,
    scheme: NamingScheme,
    tied: Option<(&str, Vec<usize>, &str)>,
    placement: &Placement,
    freeze: &Freeze,
    build: impl Fn(&mut Make) -> Result<M, ModelError>,
) -> Result<M, ModelError> {
    let Placement { device, largest_buffer, .. } = placement;
    let checkpoint = Checkpoint::open(folder, scheme)?;
    let specs = specs_of(device, &build)?;
    let tensors = specs.iter().flat_map(|spec| &spec.tensors);
    let mut expected: Vec<Expected> = tensors.map(|(name, shape)| Expected::new(name.clone(), shape.clone())).collect();
    expected.extend(tied.map(|(name, shape, to)| Expected::tied(name, shape, to)));
    checkpoint.check(&expected)?;
    let holding = Holding::new(placement, computed(checkpoint.dtype()), freeze);
    for spec in &specs {
        let bytes = (spec.len() * holding.dtype(spec).size()) as u64;
        if let Some(limit) = largest_buffer.filter(|limit| bytes > *limit) {
            let name = spec.tensors[0].0.clone();
            return Err(ModelError::TooLargeForDevice { folder: folder.to_owned(), name, bytes, limit });
        }
    }
    build(&mut |spec: Spec| {
        let mut values = Vec::with_capacity(spec.len());
        for (name, _) in &spec.tensors {
            values.extend(checkpoint.to_f32(name)?);
        }
        Ok(holding.parameter(&spec, values))
    })
}

/// The type of a file of weights, among those that are computed in.
pub(crate) fn computed(stored: Option<StoredDtype>) -> Option<DType> {
    [DType::F32, DType::F16, DType::BF16].into_iter().find(|dtype| stored == self::stored(*dtype))
}

/// The type's name in a file of weights.
fn stored(dtype: DType) -> Option<StoredDtype> {
    match dtype {
        DType::F32 => Some(StoredDtype::F32),
        DType::F16 => Some(StoredDtype::F16),
        DType::BF16 => Some(StoredDtype::BF16),
        _ => None,
    }
}

/// Values that one thread draws in a row.
const DRAWN_TOGETHER: usize = 1 << 14;

/// Values `range` of a new parameter: scales are 1, vectors 0, matrices normal with this deviation, from the stream of the parameter's
/// number (the first parameter's is 1). A value depends neither on the range it is drawn with nor on the number of threads.
pub(crate) fn random_values(spec: &Spec, seed: u64, number: u64, deviation: f64, range: Range<usize>) -> Vec<f32> {
    let [rows, _] = spec.dims();
    let mut values = vec![if spec.scale { 1.0 } else { 0.0 }; range.len()];
    if !spec.scale && rows > 1 {
        let key = Key::new(seed, Purpose::Initialization).prompt(number);
        values.par_chunks_mut(DRAWN_TOGETHER).enumerate().for_each(|(chunk, values)| {
            // each takes two numbers of the stream
            let mut stream = key.stream_at(2 * (range.start + chunk * DRAWN_TOGETHER) as u64);
            values.iter_mut().for_each(|value| *value = (stream.normal() * deviation) as f32);
        });
    }
    values
}

/// A new parameter; see [`random_values`].
pub(crate) fn random_parameter(spec: &Spec, seed: u64, number: u64, deviation: f64, device: &Device) -> Parameter {
    spec.parameter(
        random_values(spec, seed, number, deviation, 0..spec.len()),
        device,
        DType::F32,
        device.is_autodiff(),
    )
}

/// A part of a model that holds parameters.
pub(crate) trait Parameters {
    fn collect<'a>(&'a self, into: &mut Vec<&'a Parameter>);
    fn collect_mut<'a>(&'a mut self, into: &mut Vec<&'a mut Parameter>);
    /// The linear maps, in the same order.
    fn linears<'a>(&'a self, _: &mut Vec<&'a Linear>) {}
    fn linears_mut<'a>(&'a mut self, _: &mut Vec<&'a mut Linear>) {}
}

impl Parameters for Parameter {
    fn collect<'a>(&'a self, into: &mut Vec<&'a Parameter>) {
        into.push(self);
    }
    fn collect_mut<'a>(&'a mut self, into: &mut Vec<&'a mut Parameter>) {
        into.push(self);
    }
}

impl<T: Parameters> Parameters for Option<T> {
    fn collect<'a>(&'a self, into: &mut Vec<&'a Parameter>) {
        self.iter().for_each(|part| part.collect(into));
    }
    fn collect_mut<'a>(&'a mut self, into: &mut Vec<&'a mut Parameter>) {
        self.iter_mut().for_each(|part| part.collect_mut(into));
    }
    fn linears<'a>(&'a self, into: &mut Vec<&'a Linear>) {
        self.iter().for_each(|part| part.linears(into));
    }
    fn linears_mut<'a>(&'a mut self, into: &mut Vec<&'a mut Linear>) {
        self.iter_mut().for_each(|part| part.linears_mut(into));
    }
}

impl<T: Parameters> Parameters for Vec<T> {
    fn collect<'a>(&'a self, into: &mut Vec<&'a Parameter>) {
        self.iter().for_each(|part| part.collect(into));
    }
    fn collect_mut<'a>(&'a mut self, into: &mut Vec<&'a mut Parameter>) {
        self.iter_mut().for_each(|part| part.collect_mut(into));
    }
    fn linears<'a>(&'a self, into: &mut Vec<&'a Linear>) {
        self.iter().for_each(|part| part.linears(into));
    }
    fn linears_mut<'a>(&'a mut self, into: &mut Vec<&'a mut Linear>) {
        self.iter_mut().for_each(|part| part.linears_mut(into));
    }
}

/// `parameters_of!(Type: field, field)`: the fields of a type that hold parameters, in order.
macro_rules! parameters_of {
    ($type:ident: $($field:ident),+) => {
        impl $crate::common::Parameters for $type {
            fn collect<'a>(&'a self, into: &mut Vec<&'a percept_core::Parameter>) {
                $($crate::common::Parameters::collect(&self.$field, into);)+
            }
            fn collect_mut<'a>(&'a mut self, into: &mut Vec<&'a mut percept_core::Parameter>) {
                $($crate::common::Parameters::collect_mut(&mut self.$field, into);)+
            }
            fn linears<'a>(&'a self, into: &mut Vec<&'a $crate::common::Linear>) {
                $($crate::common::Parameters::linears(&self.$field, into);)+
            }
            fn linears_mut<'a>(&'a mut self, into: &mut Vec<&'a mut $crate::common::Linear>) {
                $($crate::common::Parameters::linears_mut(&mut self.$field, into);)+
            }
        }
    };
}
pub(crate) use parameters_of;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_one_stream_whatever_part_is_drawn() {
        let tensors = vec![("q".to_owned(), vec![100, 301]), ("k".to_owned(), vec![20, 301])];
        let spec = Spec::matrix(tensors);
        let mut stream = Key::new(5, Purpose::Initialization).prompt(3).stream();
        let expected: Vec<f32> = (0..spec.len()).map(|_| (stream.normal() * 0.08) as f32).collect();
        assert!(expected.len() > 2 * DRAWN_TOGETHER);
        for range in [0..spec.len(), 1..2, 7..7, 12_345..spec.len(), 100 * 301..spec.len()] {
            assert_eq!(random_values(&spec, 5, 3, 0.08, range.clone()), expected[range]);
        }
        assert_ne!(random_values(&spec, 5, 4, 0.08, 0..9), expected[..9]);
    }

    #[test]
    fn scales_start_at_one_and_biases_at_zero() {
        let values = |spec: &Spec| random_values(spec, 1, 1, 0.08, 1..4);
        assert_eq!(values(&Spec::scale("norm.weight".into(), 5)), [1.0; 3]);
        let biases = vec![("q.bias".to_owned(), vec![4]), ("k.bias".to_owned(), vec![2])];
        assert_eq!(values(&Spec::matrix(biases)), [0.0; 3]);
    }
}
