//! Number formats: the three that weights are written in, and whatever a file may hold.

use std::fmt;
use std::str::FromStr;

pub use safetensors::Dtype as StoredDtype;

/// The formats a checkpoint can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    F32,
    F16,
    BF16,
}

impl Dtype {
    /// Bytes per number.
    pub fn size(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::BF16 => 2,
        }
    }

    /// The name `config.json` uses (`torch_dtype`, `dtype`).
    pub fn config_name(self) -> &'static str {
        match self {
            Dtype::F32 => "float32",
            Dtype::F16 => "float16",
            Dtype::BF16 => "bfloat16",
        }
    }

    /// The format of this name in a safetensors header.
    pub fn stored(self) -> StoredDtype {
        match self {
            Dtype::F32 => StoredDtype::F32,
            Dtype::F16 => StoredDtype::F16,
            Dtype::BF16 => StoredDtype::BF16,
        }
    }

    /// The writable format equal to a stored one, if there is one.
    pub fn from_stored(stored: StoredDtype) -> Option<Dtype> {
        [Dtype::F32, Dtype::F16, Dtype::BF16].into_iter().find(|dtype| dtype.stored() == stored)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.config_name())
    }
}

/// Reads the short names (`f32`, `f16`, `bf16`) and those of `config.json` (`float32`, ...); the error names them.
impl FromStr for Dtype {
    type Err = String;

    fn from_str(text: &str) -> Result<Dtype, String> {
        match text {
            "f32" | "float32" => Ok(Dtype::F32),
            "f16" | "float16" => Ok(Dtype::F16),
            "bf16" | "bfloat16" => Ok(Dtype::BF16),
            other => Err(format!("'{other}' is no number format for weights; possible: f32, f16, bf16")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_reads_its_own_name() {
        for (dtype, short, size) in [(Dtype::F32, "f32", 4), (Dtype::F16, "f16", 2), (Dtype::BF16, "bf16", 2)] {
            assert_eq!(short.parse(), Ok(dtype));
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
            assert_eq!(Dtype::from_stored(dtype.stored()), Some(dtype));
            assert_eq!((dtype.size(), dtype.stored().bitsize()), (size, size * 8));
        }
        assert_eq!(Dtype::from_stored(StoredDtype::I64), None);
        assert!("fp32".parse::<Dtype>().unwrap_err().contains("possible: f32"));
    }
}
