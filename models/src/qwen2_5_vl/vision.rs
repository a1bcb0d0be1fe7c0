//! The vision tower: patches of pictures to features in the decoder's width.

use super::config::VisionConfig;
use super::features::KeptFeatures;
use super::position::{patch_angles, window_order};
use super::text::Pass;
use crate::ModelError;
use crate::common::{Along, Book, Linear, Make, Parameters, RmsNorm, parameters_of};
use burn::tensor::{DType, Device, Tensor, TensorData};
use percept_core::{Parameter, PicturePatches};
use percept_ops::{AttentionPlan, RotaryTable, RowKeys, next_key};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(super) struct VisionTower {
    config: VisionConfig,
    /// Where the tower does not learn, and features may be kept.
    pub(super) kept: Option<Arc<KeptFeatures>>,
    pub(super) patch_embed: Linear,
    pub(super) blocks: Vec<VisionBlock>,
    merger_norm: RmsNorm,
    merger_in: Linear,
    merger_out: Linear,
}
parameters_of!(VisionTower: patch_embed, blocks, merger_norm, merger_in, merger_out);

#[derive(Clone, Debug)]
pub(super) struct VisionBlock {
    norm1: RmsNorm,
    qkv: Linear,
    proj: Linear,
    norm2: RmsNorm,
    gate_up: Linear,
    down: Linear,
}
parameters_of!(VisionBlock: norm1, qkv, proj, norm2, gate_up, down);

/// Pictures of a batch in the tower's order.
pub(super) struct Windows {
    rotary: Arc<RotaryTable>,
    /// Keys of patches and of merged patches, where adapters with dropout are to draw.
    keys: Option<[Arc<RowKeys>; 2]>,
    windows: Arc<AttentionPlan>,
    pictures: Arc<AttentionPlan>,
}

/// Features of a batch of pictures, in the tower's order, and where each picture's merged patches (in raster order) are among them.
pub(super) struct Features {
    /// `[merged patches, hidden]`
    pub(super) rows: Tensor<2>,
    /// For each picture, the feature row of each of its placeholders.
    pub(super) index: Vec<Vec<u32>>,
}

impl VisionTower {
    pub(super) fn new(make: &mut Make, config: &VisionConfig, output: usize) -> Result<Self, ModelError> {
        const EPSILON: f32 = 1e-6;
        let width = config.hidden_size;
        let merged = width * config.spatial_merge_size.pow(2);
        let patch = config.patch_size;
        let kernel = vec![width, config.in_channels, config.temporal_patch_size, patch, patch];
        let patch_embed = Linear::convolution(make, "visual.patch_embed.proj", kernel)?;
        let blocks = (0..config.depth).map(|i| VisionBlock::new(make, config, &format!("visual.blocks.{i}"), EPSILON));
        Ok(Self {
            config: config.clone(),
            kept: None,
            patch_embed,
            blocks: blocks.collect::<Result<_, _>>()?,
            merger_norm: RmsNorm::new(make, "visual.merger.ln_q", width, EPSILON)?,
            merger_in: Linear::new(make, merged, &[("visual.merger.mlp.0".into(), merged)], true)?,
            merger_out: Linear::new(make, merged, &[("visual.merger.mlp.2".into(), output)], true)?,
        })
    }

    /// Features of all pictures, computed in this type, or kept from before.
    ///
    /// `dropout`: the key of what is dropped. `book`: of what is computed, unless features are kept.
    pub(super) fn forward(
        &self,
        pictures: &[&PicturePatches],
        device: &Device,
        dtype: DType,
        dropout: Option<u64>,
        book: Option<&dyn Book>,
    ) -> Features {
        let Some(kept) = &self.kept else { return self.compute(pictures, device, dtype, dropout, book) };
        let (mut rows, mut index, mut before) = (Vec::with_capacity(pictures.len()), Vec::new(), 0);
        for picture in pictures {
            let (own, mut place) = kept.of(picture, || {
                // nothing of it learns, so nothing is dropped
                let Features { rows, mut index } = self.compute(&[picture], device, dtype, None, None);
                let rows = if rows.device().is_autodiff() { rows.inner() } else { rows };
                (rows, index.remove(0))
            });
            place.iter_mut().for_each(|row| *row += before);
            before += own.dims()[0] as u32;
            index.push(place);
            rows.push(own);
        }
        let rows = if rows.len() == 1 { rows.remove(0) } else { Tensor::cat(rows, 0) };
        Features { rows: if device.is_autodiff() { Tensor::from_inner(rows) } else { rows }, index }
    }

    fn compute(
        &self,
        pictures: &[&PicturePatches],
        device: &Device,
        dtype: DType,
        dropout: Option<u64>,
        book: Option<&dyn Book>,
    ) -> Features {
        let (input, patches, index) = self.arrange(pictures, device, dtype, dropout);
        let mut x = self.embed(patches, book);
        let mut pass = self.pass(&input, dtype);
        pass.along.book = book;
        for (i, block) in self.blocks.iter().enumerate() {
            let packed = block.before_attention(x.clone(), pass);
            x = block.after_attention(x, pass.attention(packed, self.plan(&input, i)), pass);
        }
        Features { rows: self.merge(x, &input, dtype, book), index }
    }

    /// How patches go through the blocks.
    pub(super) fn pass<'a>(&self, input: &'a Windows, dtype: DType) -> Pass<'a> {
        let along = Along::keys(input.keys.as_ref().map(|[patches, _]| patches));
        Pass { dtype, rotary: &input.rotary, heads: self.config.heads(), along }
    }

    /// `[patches, patch width]`, of all frames or of one that stands for all, to `[patches, width]`
    pub(super) fn embed(&self, patches: Tensor<2>, book: Option<&dyn Book>) -> Tensor<2> {
        let VisionConfig { in_channels, temporal_patch_size, patch_size, .. } = self.config;
        let along = Along { keys: None, book };
        let embedded = if patches.dims()[1] < self.config.patch_width() {
            self.patch_embed.forward_repeated(patches, [in_channels, temporal_patch_size, patch_size.pow(2)], along)
        } else {
            self.patch_embed.forward(patches, along)
        };
        percept_ops::cast(embedded, DType::F32)
    }

    /// Whether the frames of each patch are the same.
    fn is_still(&self, picture: &PicturePatches) -> bool {
        let frame = self.config.patch_size.pow(2);
        picture.rows.chunks_exact(self.config.temporal_patch_size * frame).all(|channel| {
            let (first, others) = channel.split_at(frame);
            let differs =
                |other: &[f32]| first.iter().zip(other).fold(0, |bits, (a, b)| bits | (a.to_bits() ^ b.to_bits()));
            others.chunks_exact(frame).all(|other| differs(other) == 0)
        })
    }

    /// What patches see in a block.
    pub(super) fn plan<'a>(&self, input: &'a Windows, block: usize) -> &'a Arc<AttentionPlan> {
        if self.config.full_attention_blocks.contains(&block) { &input.pictures } else { &input.windows }
    }

    /// Features of merged patches.
    pub(super) fn merge(&self, x: Tensor<2>, input: &Windows, dtype: DType, book: Option<&dyn Book>) -> Tensor<2> {
        let along = Along { keys: input.keys.as_ref().map(|[_, merged]| merged), book };
        let merge = self.config.spatial_merge_size.pow(2);
        let patches = x.dims()[0];
        let merged = self.merger_norm.before(x, dtype).reshape([patches / merge, merge * self.config.hidden_size]);
        self.merger_out.forward(percept_ops::gelu(self.merger_in.forward(merged, along)), along)
    }

    /// Whether rounding its weights to this type changes nothing.
    pub(super) fn is_computed_in(&self, dtype: DType) -> bool {
        let mut all = Vec::new();
        self.collect(&mut all);
        all.into_iter().all(|parameter| !parameter.rounds || parameter.value.dtype() == dtype)
    }

    pub(super) fn has_adapters(&self) -> bool {
        let mut all = Vec::new();
        self.collect(&mut all);
        all.into_iter().any(Parameter::is_adapter)
    }

    /// The parts behind the blocks.
    pub(super) fn merger(&self) -> [&dyn Parameters; 3] {
        [&self.merger_norm, &self.merger_in, &self.merger_out]
    }

    /// Brings pictures into window order, `[patches, patch width]`, or one frame of each patch where all frames are the same; the permutation is
    /// undone where features are looked up.
    pub(super) fn arrange(
        &self,
        pictures: &[&PicturePatches],
        device: &Device,
        dtype: DType,
        dropout: Option<u64>,
    ) -> (Windows, Tensor<2>, Vec<Vec<u32>>) {
        let (width, merge) = (self.config.patch_width(), self.config.spatial_merge_size.pow(2));
        let VisionConfig { temporal_patch_size: frames, patch_size, .. } = self.config;
        let still = frames > 1 && pictures.iter().all(|picture| self.is_still(picture));
        let kept = if still { width / frames } else { width };
        let total: usize = pictures.iter().map(|picture| picture.rows.len() / width * kept).sum();
        let mut patches = Vec::with_capacity(total);
        let mut angles = Vec::new();
        let (mut windows, mut sizes, mut index) = (Vec::new(), Vec::new(), Vec::new());
        let mut keys = [Vec::new(), Vec::new()];
        for picture in pictures {
            let [time, height, across] = picture.grid;
            assert_eq!(picture.rows.len(), time * height * across * width, "patches of a picture {:?}", picture.grid);
            let (order, own) = window_order(picture.grid, &self.config);
            let turned = patch_angles(picture, &self.config);
            let before = (patches.len() / kept / merge) as u32;
            let mut place = vec![0u32; order.len()];
            let own_key = dropout.map(|key| picture_key(key, picture));
            for (at, &unit) in order.iter().enumerate() {
                let rows = &picture.rows[unit * merge * width..(unit + 1) * merge * width];
                if still {
                    let frame = patch_size.pow(2);
                    rows.chunks_exact(frames * frame).for_each(|frames| patches.extend_from_slice(&frames[..frame]));
                } else {
                    patches.extend_from_slice(rows);
                }
                angles.extend(turned[unit * merge..(unit + 1) * merge].iter().flatten());
                place[unit] = before + at as u32;
                if let Some(key) = own_key {
                    let merged = next_key(key, unit as u64);
                    keys[0].extend((0..merge as u64).map(|patch| next_key(merged, patch)));
                    keys[1].push(merged);
                }
            }
            index.push(place);
            windows.extend(own.iter().map(|units| units * merge));
            // attention never crosses the frames of a video
            sizes.extend((0..time).map(|_| height * across));
        }
        let half = self.config.heads().width / 2;
        let rows = TensorData::new(patches, [angles.len() / (self.config.heads().width / 2), kept]);
        let patches = percept_ops::cast(Tensor::from_data(rows, device), dtype);
        let input = Windows {
            rotary: Arc::new(RotaryTable::new(&angles, half)),
            keys: dropout.map(|_| keys.map(|keys| Arc::new(RowKeys::new(keys)))),
            windows: Arc::new(AttentionPlan::separate(&windows, false)),
            pictures: Arc::new(AttentionPlan::separate(&sizes, false)),
        };
        (input, patches, index)
    }
}

impl VisionBlock {
    fn new(make: &mut Make, config: &VisionConfig, name: &str, epsilon: f32) -> Result<Self, ModelError> {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let map = |part: &str, output: usize| (format!("{name}.{part}"), output);
        Ok(Self {
            norm1: RmsNorm::new(make, &format!("{name}.norm1"), width, epsilon)?,
            qkv: Linear::new(make, width, &[map("attn.qkv", 3 * width)], true)?,
            proj: Linear::new(make, width, &[map("attn.proj", width)], true)?,
            norm2: RmsNorm::new(make, &format!("{name}.norm2"), width, epsilon)?,
            gate_up: Linear::new(make, width, &[map("mlp.gate_proj", inner), map("mlp.up_proj", inner)], true)?,
            down: Linear::new(make, inner, &[map("mlp.down_proj", width)], true)?,
        })
    }

    /// Rotated queries, keys and values.
    pub(super) fn before_attention(&self, x: Tensor<2>, pass: Pass) -> Tensor<2> {
        pass.before_attention(x, &self.norm1, &self.qkv)
    }

    pub(super) fn after_attention(&self, x: Tensor<2>, attended: Tensor<2>, pass: Pass) -> Tensor<2> {
        pass.after_attention(x, attended, &self.norm2, [&self.proj, &self.gate_up, &self.down])
    }
}

/// The key of what is dropped of a picture: of its numbers, since it has no name.
fn picture_key(key: u64, picture: &PicturePatches) -> u64 {
    picture.rows.iter().fold(key, |key, value| next_key(key, u64::from(value.to_bits())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qwen2_5_vl::sizes::{IDS, configuration};
    use crate::qwen2_5_vl::{Qwen25Vl, initialize};

    fn numbers(tensor: Tensor<2>) -> Vec<f32> {
        let tensor = if tensor.device().is_autodiff() { tensor.inner() } else { tensor };
        tensor.into_data().try_to_vec().expect("float32")
    }

    /// Still pictures: each frame of a patch is the first.
    fn still(config: &VisionConfig, grid: [usize; 3], salt: f32) -> PicturePatches {
        let frame = config.patch_size.pow(2);
        let channels = grid.iter().product::<usize>() * config.in_channels;
        let value = |i: usize| (i as f32 * 0.37 + salt).sin();
        let rows = (0..channels).flat_map(|channel| {
            (0..config.temporal_patch_size).flat_map(move |_| (0..frame).map(move |i| value(channel * frame + i)))
        });
        PicturePatches { rows: Arc::new(rows.collect()), grid }
    }

    fn close(a: &[f32], b: &[f32]) -> bool {
        let largest = b.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5 * largest)
    }

    /// One frame is computed where all pictures are still; beside one that moves, every frame is.
    #[test]
    fn a_still_picture_has_the_same_features_however_it_is_computed() {
        let config = configuration("tiny", &IDS).expect("a size").0;
        let policy: Qwen25Vl = initialize(&config, 1, 0.08, &Device::flex().autodiff()).expect("a model");
        let picture = still(&config.vision, [1, 4, 6], 0.0);
        let mut moving = still(&config.vision, [1, 2, 2], 1.0);
        Arc::make_mut(&mut moving.rows)[3] += 1.0;
        let tower = &policy.vision;
        assert!(tower.is_still(&picture) && !tower.is_still(&moving));
        let widths =
            |pictures: &[&PicturePatches]| tower.arrange(pictures, &policy.device, DType::F32, None).1.dims()[1];
        let all = config.vision.patch_width();
        assert_eq!([widths(&[&picture]), widths(&[&picture, &moving])], [all / 2, all]);
        // of the still picture only
        let found = |pictures: &[&PicturePatches]| {
            let features = policy.image_features(pictures).narrow(0, 0, 6);
            let weights = Tensor::from_data(
                TensorData::new((0..6 * 96).map(|i| (i as f32).cos()).collect(), [6, 96]),
                &policy.device,
            );
            let gradients = (features.clone() * weights).sum().backward();
            let embedding = policy.vision.patch_embed.weight().value.grad(&gradients).expect("it learns");
            [numbers(features), numbers(embedding)]
        };
        let (alone, beside) = (found(&[&picture]), found(&[&picture, &moving]));
        assert!(close(&alone[0], &beside[0]) && close(&alone[1], &beside[1]));
    }
}
