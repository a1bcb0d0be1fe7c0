//! Features of pictures, kept from one pass over a step's prompts to the next.
//!
//! Sampling, the update and the reference of adapters look at the same pictures. Where the vision tower does not learn, its features are
//! the same each time, and computing them once is enough. A picture's features are computed by themselves then, so that no number depends
//! on what else is looked at, nor on what there was room for. (Without keeping, pictures are computed together, which differs in last bits.)

use burn::tensor::Tensor;
use percept_core::PicturePatches;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Features of pictures that are still in use somewhere.
#[derive(Debug)]
pub(super) struct KeptFeatures {
    /// Most bytes that are kept.
    limit: usize,
    /// By the address of the picture's patches, which is nobody else's while a weak pointer to it exists.
    entries: Mutex<HashMap<usize, Entry>>,
}

#[derive(Debug)]
struct Entry {
    picture: Weak<Vec<f32>>,
    /// `[merged patches, hidden]`, in the tower's order, without gradient.
    rows: Tensor<2>,
    /// The row of each placeholder.
    place: Vec<u32>,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.rows.dims().iter().product::<usize>() * self.rows.dtype().size()
    }
}

impl KeptFeatures {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, entries: Mutex::default() }
    }

    /// An empty one with the same limit, for other weights.
    pub(super) fn anew(&self) -> Self {
        Self::new(self.limit)
    }

    /// The picture's features, computed if they are not there.
    pub(super) fn of(
        &self,
        picture: &PicturePatches,
        compute: impl FnOnce() -> (Tensor<2>, Vec<u32>),
    ) -> (Tensor<2>, Vec<u32>) {
        let key = Arc::as_ptr(&picture.rows) as usize;
        if let Some(entry) = self.entries().get(&key) {
            return (entry.rows.clone(), entry.place.clone());
        }
        let (rows, place) = compute();
        let entry = Entry { picture: Arc::downgrade(&picture.rows), rows: rows.clone(), place: place.clone() };
        let mut entries = self.entries();
        entries.retain(|_, entry| entry.picture.strong_count() > 0);
        // what is kept of this step stays: its pictures come round in the same order
        if entries.values().map(Entry::bytes).sum::<usize>() + entry.bytes() <= self.limit {
            entries.insert(key, entry);
        }
        (rows, place)
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<usize, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qwen2_5_vl::sizes::{IDS, configuration};
    use crate::qwen2_5_vl::{Qwen25Vl, initialize};
    use burn::tensor::Device;
    use percept_core::Policy;

    fn picture(value: f32) -> PicturePatches {
        PicturePatches { rows: vec![value; 4].into(), grid: [1, 1, 1] }
    }

    fn features(value: f32) -> (Tensor<2>, Vec<u32>) {
        (Tensor::full([2, 3], value, &Device::flex()), vec![1, 0])
    }

    fn value(kept: &KeptFeatures, picture: &PicturePatches, otherwise: f32) -> f32 {
        kept.of(picture, || features(otherwise)).0.into_data().try_to_vec::<f32>().expect("float32")[0]
    }

    #[test]
    fn a_picture_in_use_is_computed_once() {
        let kept = KeptFeatures::new(48);
        let (a, b, c) = (picture(1.0), picture(1.0), picture(1.0));
        assert_eq!((value(&kept, &a, 1.0), value(&kept, &b, 2.0)), (1.0, 2.0), "equal pictures are not the same one");
        assert_eq!((value(&kept, &a.clone(), 9.0), value(&kept, &b, 9.0)), (1.0, 2.0));
        // there is no room for a third, until one is let go
        assert_eq!((value(&kept, &c, 3.0), value(&kept, &c, 4.0)), (3.0, 4.0));
        drop(b);
        assert_eq!((value(&kept, &c, 5.0), value(&kept, &c, 6.0)), (5.0, 5.0));
        assert_eq!(value(&kept, &a, 9.0), 1.0);
        assert_eq!(value(&kept.anew(), &a, 7.0), 7.0);
    }

    #[test]
    fn a_picture_that_changes_is_another() {
        let kept = KeptFeatures::new(48);
        let mut a = picture(1.0);
        assert_eq!(value(&kept, &a, 1.0), 1.0);
        Arc::make_mut(&mut a.rows)[0] = 2.0;
        assert_eq!(value(&kept, &a, 2.0), 2.0);
    }

    /// A tiny model whose vision tower does not learn, and a picture for it.
    fn frozen_tower() -> (Qwen25Vl, PicturePatches) {
        let config = configuration("tiny", &IDS).expect("a size").0;
        let mut policy = initialize(&config, 1, 0.08, &Device::flex().autodiff()).expect("a model");
        for parameter in policy.vision_mut() {
            parameter.value = Tensor::from_inner(parameter.value.clone().inner());
            parameter.trainable = false;
        }
        policy.keep_features(1 << 20);
        let count = 16 * config.vision.patch_width();
        let rows = (0..count).map(|i| (i as f32).sin()).collect::<Vec<f32>>();
        (policy, PicturePatches { rows: rows.into(), grid: [1, 4, 4] })
    }

    fn shown(policy: &Qwen25Vl, picture: &PicturePatches) -> Vec<f32> {
        let features = policy.image_features(&[picture, picture]);
        let features = if features.device().is_autodiff() { features.inner() } else { features };
        features.into_data().try_to_vec().expect("float32")
    }

    #[test]
    fn passes_share_what_one_of_them_computed() {
        let (mut policy, picture) = frozen_tower();
        let held = |policy: &Qwen25Vl| policy.kept_features().expect("kept").entries().len();
        let own = policy.clone();
        let first = shown(&policy, &picture);
        assert_eq!((held(&policy), held(&own)), (1, 1), "once, for clones as well");
        assert_eq!(first[..first.len() / 2], first[first.len() / 2..]);
        assert!(policy.learning_mut().len() > 10);
        assert_eq!(held(&policy), 1, "what learns is not vision");
        assert_eq!(shown(&policy, &picture), first);
        // without keeping: the same numbers, alone and beside others
        let mut plain = policy.clone();
        plain.keep_features(0);
        assert!(plain.kept_features().is_none());
        let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5;
        assert!(shown(&plain, &picture).iter().zip(&first).all(close));
    }

    #[test]
    fn other_weights_have_other_features() {
        let (mut policy, picture) = frozen_tower();
        let before = shown(&policy, &picture);
        for parameter in policy.parameters_mut() {
            parameter.value = Tensor::from_inner(parameter.value.clone().inner() * 1.5);
        }
        assert_ne!(shown(&policy, &picture), before);
        // a tower that learns keeps nothing
        policy.vision_mut()[0].trainable = true;
        policy.keep_features(1 << 20);
        assert!(policy.kept_features().is_none());
    }
}
