//! Scoring whose gradient is taken block by block, each computed again: only the blocks' inputs are kept.
//!
//! Chen et al., "Training deep nets with sublinear memory cost" (arXiv 1604.06174), with a block as the unit. Nothing is computed below the
//! lowest part that learns.

use super::policy::{Packed, Qwen25Vl, packed_keys, pictures_of};
use super::position::rotary;
use super::vision::{Features, Windows};
use crate::common::{Sink, learns};
use burn::tensor::Tensor;
use percept_core::{Parameter, PicturePatches, Policy, ScoreRequest, ScoringGroup, Tape};
use percept_ops::{AttentionPlan, RotaryTable, Row, RowKeys};
use std::sync::Arc;

/// Rows of the output head whose graph exists at a time.
const HEAD_ROWS: usize = 1024;

pub(super) struct Recomputed<'a> {
    policy: &'a Qwen25Vl,
    /// Where the tower learns.
    vision: Option<VisionTape>,
    /// `[merged patches, hidden]`
    features: Option<Tensor<2>>,
    rows: Arc<[Row]>,
    table: Arc<RotaryTable>,
    keys: Option<Arc<RowKeys>>,
    plan: Arc<AttentionPlan>,
    wanted: Arc<[Row]>,
    /// Inputs of the decoder's blocks.
    inputs: Vec<Tensor<2>>,
    /// Of the last normalization: `[n, hidden]`
    last: Tensor<2>,
    targets: Arc<[u32]>,
    request: ScoreRequest,
}

struct VisionTape {
    windows: Windows,
    /// `[patches, patch width]`
    patches: Tensor<2>,
    /// Inputs of the tower's blocks.
    inputs: Vec<Tensor<2>>,
    /// Of the merger.
    last: Tensor<2>,
}

impl<'a> Recomputed<'a> {
    /// Computes the scores without a graph.
    pub(super) fn forward(
        policy: &'a Qwen25Vl,
        groups: &[ScoringGroup],
        request: ScoreRequest,
    ) -> (Tensor<2>, Recomputed<'a>) {
        let plain = policy.without_graph();
        let pictures: Vec<&PicturePatches> = groups.iter().flat_map(pictures_of).collect();
        let dropout = policy.dropout_key(request);
        let (vision, features) = match learns(&policy.vision) && !pictures.is_empty() {
            true => {
                let (tape, features) = VisionTape::forward(&plain, &pictures, dropout);
                (Some(tape), Some(features))
            }
            false => (None, plain.features(&pictures, dropout, None)),
        };
        let keys = dropout.map(|key| Arc::new(packed_keys(key, groups)));
        let (features, index) = features.map_or((None, Vec::new()), |Features { rows, index }| (Some(rows), index));
        let Packed { rows, positions, predictors, targets, groups } = policy.pack(groups, &index);
        let plan = AttentionPlan::shared_prefix(groups.iter().map(|(prompt, lengths)| (*prompt, lengths.as_slice())));
        let [rows, wanted]: [Arc<[Row]>; 2] = [rows, predictors].map(Arc::from);
        let targets: Arc<[u32]> = targets.into();
        let (table, plan) = (Arc::new(rotary(&policy.config, &positions)), Arc::new(plan));
        let mut x = plain.text.embed(features.clone(), &rows);
        let (pass, last) = (policy.pass(&table, keys.as_ref()), plain.text.blocks.len() - 1);
        let mut inputs = Vec::with_capacity(last + 1);
        for (i, block) in plain.text.blocks.iter().enumerate() {
            inputs.push(x.clone());
            let attended = percept_ops::attention(block.before_attention(x.clone(), pass), &plan, pass.heads);
            x = block.after_attention(x, attended, pass, (i == last).then_some(&wanted));
        }
        let hidden = plain.text.norm.forward(x.clone());
        let ScoreRequest { temperature, entropy, .. } = request;
        let scores = percept_ops::token_log_probs(hidden, plain.text.head(), &targets, temperature, entropy);
        (scores, Self { policy, vision, features, rows, table, keys, plan, wanted, inputs, last: x, targets, request })
    }

    /// Through the head and the last normalization, some rows at a time.
    fn head(&self, upstream: &Tensor<2>, sink: &mut Sink) -> Tensor<2> {
        let text = &self.policy.text;
        let n = self.last.dims()[0];
        let of_rows = |from: usize| {
            let rows = HEAD_ROWS.min(n - from);
            let targets: Arc<[u32]> = self.targets[from..from + rows].into();
            let [x, upstream] = [&self.last, upstream].map(|all| all.clone().narrow(0, from, rows));
            let [dx] = sink.pull([x], upstream, &[&text.norm, text.head_parameter()], |[x]| {
                let ScoreRequest { temperature, entropy, .. } = self.request;
                percept_ops::token_log_probs(text.norm.forward(x), text.head(), &targets, temperature, entropy)
            });
            dx
        };
        Tensor::cat((0..n).step_by(HEAD_ROWS).map(of_rows).collect(), 0)
    }
}

impl Tape for Recomputed<'_> {
    fn backward(mut self: Box<Self>, upstream: Tensor<2>, add: &mut dyn FnMut(usize, Tensor<2>)) {
        let policy = self.policy;
        let (text, pass) = (&policy.text, policy.pass(&self.table, self.keys.as_ref()));
        let mut sink = Sink::new(&policy.parameters(), add);
        let mut upstream = self.head(&upstream, &mut sink);
        let to_embedding = self.vision.is_some() || text.embedding.trainable;
        let lowest = match to_embedding {
            true => 0,
            false => text.blocks.iter().position(|block| learns(block)).unwrap_or(text.blocks.len()),
        };
        let last = text.blocks.len() - 1;
        for (i, block) in text.blocks.iter().enumerate().skip(lowest).rev() {
            let x = self.inputs.pop().expect("an input of each block");
            let wanted = (i == last).then_some(&self.wanted);
            upstream = sink.pull_block(
                x,
                upstream,
                block,
                (&self.plan, pass.heads),
                |x| block.before_attention(x, pass),
                |[x, attended]| block.after_attention(x, attended, pass, wanted),
            );
        }
        if !to_embedding {
            return;
        }
        let parts: [&dyn crate::common::Parameters; 1] = [&text.embedding];
        match self.features {
            Some(features) => {
                let [upstream] =
                    sink.pull([features], upstream, &parts, |[features]| text.embed(Some(features), &self.rows));
                if let Some(vision) = self.vision {
                    vision.backward(policy, upstream, &mut sink);
                }
            }
            None => {
                sink.pull([], upstream, &parts, |[]| text.embed(None, &self.rows));
            }
        }
    }
}

impl VisionTape {
    fn forward(plain: &Qwen25Vl, pictures: &[&PicturePatches], dropout: Option<u64>) -> (Self, Features) {
        let (tower, dtype) = (&plain.vision, plain.dtype);
        let (windows, patches, index) = tower.arrange(pictures, &plain.device, dtype, dropout);
        let pass = tower.pass(&windows, dtype);
        let mut x = tower.embed(patches.clone(), None);
        let mut inputs = Vec::with_capacity(tower.blocks.len());
        for (i, block) in tower.blocks.iter().enumerate() {
            inputs.push(x.clone());
            let packed = block.before_attention(x.clone(), pass);
            let attended = percept_ops::attention(packed, tower.plan(&windows, i), pass.heads);
            x = block.after_attention(x, attended, pass);
        }
        let rows = tower.merge(x.clone(), &windows, dtype, None);
        (Self { windows, patches, inputs, last: x }, Features { rows, index })
    }

    fn backward(mut self, policy: &Qwen25Vl, upstream: Tensor<2>, sink: &mut Sink) {
        let (tower, dtype, windows) = (&policy.vision, policy.dtype, &self.windows);
        let pass = tower.pass(windows, dtype);
        let [mut upstream] =
            sink.pull([self.last.clone()], upstream, &tower.merger(), |[x]| tower.merge(x, windows, dtype, None));
        let embedding_learns = learns(&tower.patch_embed);
        let lowest = match embedding_learns {
            true => 0,
            false => tower.blocks.iter().position(|block| learns(block)).unwrap_or(tower.blocks.len()),
        };
        for (i, block) in tower.blocks.iter().enumerate().skip(lowest).rev() {
            let x = self.inputs.pop().expect("an input of each block");
            upstream = sink.pull_block(
                x,
                upstream,
                block,
                (tower.plan(windows, i), pass.heads),
                |x| block.before_attention(x, pass),
                |[x, attended]| block.after_attention(x, attended, pass),
            );
        }
        if embedding_learns {
            let patches = Tensor::from_inner(self.patches);
            sink.pull([], upstream, &[&tower.patch_embed], |[]| tower.embed(patches, None));
        }
    }
}

impl Qwen25Vl {
    /// The same weights without a graph, in the types in which they learn: what is computed with them is what is computed with a graph.
    fn without_graph(&self) -> Self {
        let mut plain = self.clone();
        plain.device = plain.device.without_autodiff();
        for parameter in plain.parameters_mut() {
            let Parameter { value, trainable, .. } = parameter;
            *value = value.clone().inner();
            *trainable = false;
        }
        plain.vision.kept.clone_from(&self.vision.kept);
        plain
    }
}
