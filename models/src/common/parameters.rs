//! Making parameters, from a checkpoint or at random, and walking over them.
//!
//! A model is built by one constructor that asks for each parameter by a [`Spec`]; who answers decides whether this lists what a
//! checkpoint must hold, reads it, or draws new weights.

use crate::ModelError;
use burn::tensor::{DType, Device, Tensor, TensorData};
use percept_core::{Parameter, Piece};
use percept_random::Key;
use percept_weights::{Checkpoint, Expected, NamingScheme, StoredDtype};
use std::path::Path;

/// Names (as in the checkpoint) of parameters that take no gradient.
pub type Freeze<'a> = dyn Fn(&str) -> bool + 'a;

/// Where a model lives, and the type of its activations.
///
/// Parameters that learn are float32 whatever the type is: an update of 1e-6 would be lost in bfloat16. Others are kept in it, unless
/// that would round what a checkpoint holds.
#[derive(Clone, Debug)]
pub struct Placement {
    pub device: Device,
    pub dtype: DType,
}

impl From<&Device> for Placement {
    /// Float32.
    fn from(device: &Device) -> Self {
        Self { device: device.clone(), dtype: DType::F32 }
    }
}

/// What a parameter consists of.
pub(crate) struct Spec {
    /// Tensors of the checkpoint, joined along their first dimension.
    pub(crate) tensors: Vec<(String, Vec<usize>)>,
    /// Whether it multiplies values one by one and starts at 1.
    pub(crate) scale: bool,
}

impl Spec {
    pub(crate) fn matrix(tensors: Vec<(String, Vec<usize>)>) -> Self {
        Self { tensors, scale: false }
    }

    pub(crate) fn scale(name: String, width: usize) -> Self {
        Self { tensors: vec![(name, vec![width])], scale: true }
    }

    fn len(&self) -> usize {
        self.tensors.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }

    /// Rows and columns: vectors are one row; further dimensions of a matrix are flattened into its columns.
    fn dims(&self) -> [usize; 2] {
        let shape = &self.tensors[0].1;
        if shape.len() == 1 {
            return [1, self.len()];
        }
        let columns = shape[1..].iter().product();
        [self.len() / columns, columns]
    }

    fn pieces(&self) -> Vec<Piece> {
        let mut from = 0;
        let piece = |(name, shape): &(String, Vec<usize>)| {
            let range = from..from + shape.iter().product::<usize>();
            from = range.end;
            Piece { name: name.clone(), shape: shape.clone(), range }
        };
        self.tensors.iter().map(piece).collect()
    }

    fn parameter(&self, values: Vec<f32>, device: &Device, dtype: DType, trainable: bool) -> Parameter {
        let value = Tensor::from_data(TensorData::new(values, self.dims()), device);
        let value = percept_ops::cast(value, dtype);
        let value = if trainable { value.require_grad() } else { value };
        Parameter { value, pieces: self.pieces(), trainable }
    }
}

/// Answers a model's constructor.
pub(crate) type Make<'a> = dyn FnMut(Spec) -> Result<Parameter, ModelError> + 'a;

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
    let Placement { device, dtype } = placement;
    let checkpoint = Checkpoint::open(folder, scheme)?;
    let mut expected = Vec::new();
    build(&mut |spec: Spec| {
        expected.extend(spec.tensors.iter().map(|(name, shape)| Expected::new(name.clone(), shape.clone())));
        let value = Tensor::zeros([1, 1], device);
        Ok(Parameter { value, pieces: Vec::new(), trainable: false })
    })?;
    expected.extend(tied.map(|(name, shape, to)| Expected::tied(name, shape, to)));
    checkpoint.check(&expected)?;
    let rounds = device.is_autodiff() && checkpoint.dtype() != stored(*dtype);
    build(&mut |spec: Spec| {
        let mut values = Vec::with_capacity(spec.len());
        for (name, _) in &spec.tensors {
            values.extend(checkpoint.to_f32(name)?);
        }
        let frozen = spec.tensors.iter().any(|(name, _)| freeze(name));
        let trainable = device.is_autodiff() && !frozen;
        Ok(spec.parameter(values, device, if trainable || rounds { DType::F32 } else { *dtype }, trainable))
    })
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

/// A new parameter: scales are 1, vectors 0, matrices normal with this deviation, from the stream of the parameter's number.
pub(crate) fn random_parameter(spec: &Spec, key: Key, number: u64, deviation: f64, device: &Device) -> Parameter {
    let [rows, _] = spec.dims();
    let values = if spec.scale {
        vec![1.0; spec.len()]
    } else if rows == 1 {
        vec![0.0; spec.len()]
    } else {
        let mut stream = key.prompt(number).stream();
        (0..spec.len()).map(|_| (stream.normal() * deviation) as f32).collect()
    };
    spec.parameter(values, device, DType::F32, device.is_autodiff())
}

/// A part of a model that holds parameters.
pub(crate) trait Parameters {
    fn collect<'a>(&'a self, into: &mut Vec<&'a Parameter>);
    fn collect_mut<'a>(&'a mut self, into: &mut Vec<&'a mut Parameter>);
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
}

impl<T: Parameters> Parameters for Vec<T> {
    fn collect<'a>(&'a self, into: &mut Vec<&'a Parameter>) {
        self.iter().for_each(|part| part.collect(into));
    }
    fn collect_mut<'a>(&'a mut self, into: &mut Vec<&'a mut Parameter>) {
        self.iter_mut().for_each(|part| part.collect_mut(into));
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
        }
    };
}
pub(crate) use parameters_of;
