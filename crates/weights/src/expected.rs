//! What a model needs of a checkpoint, and the comparison that names everything that differs.

use std::collections::BTreeMap;

use crate::checkpoint::Checkpoint;
use crate::error::{Mismatch, SHOWN, WeightsError};
use crate::names::nearest;

/// A tensor of the model, under its canonical name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub name: String,
    pub shape: Vec<usize>,
    /// Another tensor that this one repeats: the checkpoint then may hold it, equal, or leave it out.
    pub tied_to: Option<String>,
}

impl Expected {
    /// A tensor that the checkpoint must hold.
    pub fn new(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Expected {
        Expected { name: name.into(), shape: shape.into(), tied_to: None }
    }

    /// A tensor tied to another, such as `lm_head.weight` to `model.embed_tokens.weight`.
    pub fn tied(name: impl Into<String>, shape: impl Into<Vec<usize>>, to: impl Into<String>) -> Expected {
        Expected { tied_to: Some(to.into()), ..Expected::new(name, shape) }
    }
}

impl Checkpoint {
    /// Compares the checkpoint with all tensors of a model.
    ///
    /// # Errors
    /// One [`Mismatch`] with every missing, unexpected and misshapen tensor, and every tied one that differs from what
    /// it repeats. Ignorable buffers (of the naming scheme) are not unexpected.
    pub fn check(&self, expected: &[Expected]) -> Result<(), WeightsError> {
        let wanted: BTreeMap<&str, &Expected> = expected.iter().map(|entry| (entry.name.as_str(), entry)).collect();
        assert_eq!(wanted.len(), expected.len(), "the list of expected tensors names one twice");

        let mut mismatch = Mismatch { folder: self.folder().to_owned(), ..Mismatch::default() };
        for entry in wanted.values() {
            self.compare(entry, &mut mismatch)?;
        }
        for name in self.names() {
            if !wanted.contains_key(name) && !self.scheme().is_ignorable(name) {
                mismatch.unexpected.push((name.to_owned(), self.tensor(name)?.shape.to_vec()));
            }
        }
        if mismatch.is_empty() {
            return Ok(());
        }
        mismatch.suggestions = suggestions(&mismatch);
        Err(WeightsError::Mismatch(Box::new(mismatch)))
    }

    fn compare(&self, entry: &Expected, mismatch: &mut Mismatch) -> Result<(), WeightsError> {
        if !self.contains(&entry.name) {
            if entry.tied_to.is_none() {
                mismatch.missing.push((entry.name.clone(), entry.shape.clone()));
            }
            return Ok(());
        }
        let stored = self.tensor(&entry.name)?;
        if stored.shape != entry.shape {
            mismatch.misshapen.push((entry.name.clone(), entry.shape.clone(), stored.shape.to_vec()));
            return Ok(());
        }
        // Where the source is missing or misshapen, that alone is reported: it is an expected tensor itself.
        let source = entry.tied_to.as_ref().filter(|source| self.contains(source));
        if let Some(source) = source
            && self.tensor(source)?.shape == stored.shape
            && !self.equal(&entry.name, source)?
        {
            mismatch.untied.push((entry.name.clone(), source.clone()));
        }
        Ok(())
    }

    /// Whether two tensors hold the same numbers.
    fn equal(&self, one: &str, other: &str) -> Result<bool, WeightsError> {
        let (left, right) = (self.tensor(one)?, self.tensor(other)?);
        if left.dtype == right.dtype && left.bytes == right.bytes {
            return Ok(true);
        }
        Ok(self.to_f32(one)? == self.to_f32(other)?)
    }
}

/// For the missing names that are shown, the unexpected name that may be meant.
fn suggestions(mismatch: &Mismatch) -> Vec<(String, String)> {
    let unexpected = || mismatch.unexpected.iter().map(|(name, _)| name.as_str());
    let shown = mismatch.missing.iter().take(SHOWN);
    shown.filter_map(|(name, _)| nearest(name, unexpected()).map(|near| (name.clone(), near.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tests::write_single;
    use crate::dtype::StoredDtype;
    use crate::names::NamingScheme;

    const EMBED: &str = "model.embed_tokens.weight";
    const HEAD: &str = "lm_head.weight";

    fn f32_bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    /// Checks a checkpoint of f32 tensors (name, shape, values) against a list.
    fn check(tensors: &[(&str, &[usize], &[f32])], expected: &[Expected]) -> Result<(), Box<Mismatch>> {
        let bytes: Vec<_> = tensors.iter().map(|(_, _, values)| f32_bytes(values)).collect();
        let stored: Vec<_> = tensors
            .iter()
            .zip(&bytes)
            .map(|((name, shape, _), bytes)| (*name, StoredDtype::F32, *shape, bytes.as_slice()))
            .collect();
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_single(folder.path(), &stored);
        let checkpoint = Checkpoint::open(folder.path(), NamingScheme::QWEN2_VL).expect("opens");
        match checkpoint.check(expected) {
            Err(WeightsError::Mismatch(mismatch)) => Err(mismatch),
            Err(other) => panic!("{other}"),
            Ok(()) => Ok(()),
        }
    }

    #[test]
    fn a_fitting_checkpoint_passes_whatever_its_scheme() {
        let expected = [Expected::new("model.norm.weight", [2]), Expected::new("visual.merger.ln_q.weight", [1])];
        let hub: [(&str, &[usize], &[f32]); 3] = [
            ("model.norm.weight", &[2], &[1.0, 2.0]),
            ("visual.merger.ln_q.weight", &[1], &[3.0]),
            ("model.rotary_emb.inv_freq", &[1], &[4.0]),
        ];
        assert!(check(&hub, &expected).is_ok());
        let in_memory: [(&str, &[usize], &[f32]); 2] = [
            ("model.language_model.norm.weight", &[2], &[1.0, 2.0]),
            ("model.visual.merger.ln_q.weight", &[1], &[3.0]),
        ];
        assert!(check(&in_memory, &expected).is_ok());
    }

    #[test]
    fn one_error_names_everything_that_differs() {
        let expected = [
            Expected::new("model.layers.0.mlp.up_proj.weight", [2, 1]),
            Expected::new("model.norm.weight", [2]),
            Expected::new("visual.patch_embed.proj.weight", [1]),
        ];
        let mismatch = check(
            &[("model.layers.0.mlp.up_projection.weight", &[2, 1], &[1.0, 2.0]), ("model.norm.weight", &[1], &[1.0])],
            &expected,
        )
        .expect_err("differs");
        assert_eq!(mismatch.missing.len(), 2);
        assert_eq!(mismatch.unexpected, [("model.layers.0.mlp.up_projection.weight".to_owned(), vec![2, 1])]);
        assert_eq!(mismatch.misshapen, [("model.norm.weight".to_owned(), vec![2], vec![1])]);
        let text = mismatch.to_string();
        assert!(text.contains("model.layers.0.mlp.up_proj.weight [2, 1] (the file has 'model.layers.0"), "{text}");
        assert!(text.contains("visual.patch_embed.proj.weight [1];"), "{text}");
    }

    #[test]
    fn a_tied_head_is_absent_or_equal() {
        let tied = [Expected::new(EMBED, [2, 1]), Expected::tied(HEAD, [2, 1], EMBED)];
        let embed: (&str, &[usize], &[f32]) = (EMBED, &[2, 1], &[1.0, -0.5]);
        assert!(check(&[embed], &tied).is_ok());
        assert!(check(&[embed, (HEAD, &[2, 1], &[1.0, -0.5])], &tied).is_ok());
        let differs = check(&[embed, (HEAD, &[2, 1], &[1.0, -0.25])], &tied).expect_err("differs");
        assert_eq!(differs.untied, [(HEAD.to_owned(), EMBED.to_owned())]);
        assert!(
            differs.to_string().contains("lm_head.weight (expected equal to model.embed_tokens.weight, or absent)")
        );
        let misshapen = check(&[embed, (HEAD, &[1, 2], &[1.0, -0.5])], &tied).expect_err("misshapen");
        assert_eq!((misshapen.misshapen.len(), misshapen.untied.len()), (1, 0));
        // The source is needed even when the head stands there, and an untied model needs its own head.
        assert_eq!(check(&[(HEAD, &[2, 1], &[1.0, -0.5])], &tied).expect_err("no source").missing[0].0, EMBED);
        let untied = [Expected::new(EMBED, [2, 1]), Expected::new(HEAD, [2, 1])];
        assert_eq!(check(&[embed], &untied).expect_err("no head").missing[0].0, HEAD);
    }
}
