//! A group's computation piece by piece, for finding the one that first goes wrong.

use super::policy::{Qwen25Vl, pictures_of};
use super::position::rotary;
use burn::tensor::{DType, Tensor};
use percept_core::{PicturePatches, ScoringGroup};
use percept_ops::{AttentionPlan, Row};
use std::sync::Arc;

impl Qwen25Vl {
    pub(super) fn show_pieces(&self, group: &ScoringGroup, see: &mut dyn FnMut(&str, Tensor<2>)) {
        let plain = |x: &Tensor<2>| percept_ops::cast(x.clone(), DType::F32);
        let pictures: Vec<&PicturePatches> = pictures_of(group).iter().collect();
        let (mut features, mut index) = (None, Vec::new());
        if !pictures.is_empty() {
            let (input, patches, own) = self.vision.arrange(&pictures, &self.device, self.dtype, None);
            let (mut x, pass) = (self.vision.embed(patches, None), self.vision.pass(&input, self.dtype));
            see("visual.patch_embed", plain(&x));
            for (i, block) in self.vision.blocks.iter().enumerate() {
                let packed = block.before_attention(x.clone(), pass);
                see(&format!("visual.blocks.{i}.attn.qkv"), plain(&packed));
                let attended = percept_ops::attention(packed, self.vision.plan(&input, i), pass.heads);
                see(&format!("visual.blocks.{i}.attn"), plain(&attended));
                x = block.after_attention(x, attended, pass);
                see(&format!("visual.blocks.{i}.mlp"), plain(&x));
            }
            let rows = self.vision.merge(x, &input, self.dtype, None);
            see("visual.merger", plain(&rows));
            (features, index) = (Some(rows), own);
        }
        let packed = self.pack(std::slice::from_ref(group), &index);
        let plan = packed.groups.iter().map(|(prompt, responses)| (*prompt, responses.as_slice()));
        let plan = Arc::new(AttentionPlan::shared_prefix(plan));
        let mut x = self.text.embed(features, &packed.rows.into());
        see("model.embed_tokens", plain(&x));
        let table = Arc::new(rotary(&self.config, &packed.positions));
        let pass = self.pass(&table, None);
        let wanted: Arc<[Row]> = packed.predictors.into();
        let last = self.text.blocks.len() - 1;
        for (i, block) in self.text.blocks.iter().enumerate() {
            let qkv = block.before_attention(x.clone(), pass);
            see(&format!("model.layers.{i}.self_attn.qkv_proj"), plain(&qkv));
            let attended = percept_ops::attention(qkv, &plan, pass.heads);
            see(&format!("model.layers.{i}.self_attn"), plain(&attended));
            x = block.after_attention(x, attended, pass, (i == last).then_some(&wanted));
            see(&format!("model.layers.{i}.mlp"), plain(&x));
        }
        see("model.norm", self.text.norm.forward(x));
    }
}
