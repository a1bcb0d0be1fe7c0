//! The decoder: packed tokens through blocks of attention and gated multi-layer perceptrons.

use super::config::Config;
use crate::ModelError;
use crate::common::{Along, Linear, Make, RmsNorm, Spec, parameters_of};
use burn::tensor::{DType, Tensor};
use percept_core::Parameter;
use percept_ops::{AttentionPlan, HeadShape, LaidOut, RotaryTable, Row};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(super) struct TextDecoder {
    pub(super) embedding: Parameter,
    pub(super) blocks: Vec<Block>,
    pub(super) norm: RmsNorm,
    /// Absent when the head is the embedding.
    head: Option<Parameter>,
    /// The head laid out for few rows, when [`TextDecoder::prepare`] made it.
    laid_out_head: Option<LaidOut>,
}
parameters_of!(TextDecoder: embedding, blocks, norm, head);

#[derive(Clone, Debug)]
pub(super) struct Block {
    norm1: RmsNorm,
    qkv: Linear,
    output: Linear,
    norm2: RmsNorm,
    gate_up: Linear,
    down: Linear,
}
parameters_of!(Block: norm1, qkv, output, norm2, gate_up, down);

/// How packed rows go through blocks.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    /// Of maps and attention; what blocks add to is float32.
    pub(super) dtype: DType,
    pub(super) rotary: &'a Arc<RotaryTable>,
    pub(super) heads: HeadShape,
    pub(super) along: Along<'a>,
}

impl Pass<'_> {
    /// The next result of attention; `compute` is given it where it was computed before.
    pub(super) fn attention(self, packed: Tensor<2>, plan: &Arc<AttentionPlan>) -> Tensor<2> {
        self.along.result(|known| percept_ops::attention_known(packed, plan, self.heads, known))
    }

    /// Rotated queries, keys and values.
    pub(super) fn before_attention(self, x: Tensor<2>, norm: &RmsNorm, qkv: &Linear) -> Tensor<2> {
        let turned = self.heads.heads + self.heads.kv_heads;
        if let (true, Some(map)) = (self.in_one(&x), qkv.plain()) {
            return percept_ops::before_attention(x, norm.plain(), map, self.rotary, turned);
        }
        let packed = qkv.forward(norm.before(x, self.dtype), self.along);
        percept_ops::rotate(packed, self.rotary, turned)
    }

    /// What a block does with its attention; `maps`: of the output, of gate and up, and down.
    pub(super) fn after_attention(
        self,
        x: Tensor<2>,
        attended: Tensor<2>,
        norm: &RmsNorm,
        maps: [&Linear; 3],
    ) -> Tensor<2> {
        if let (true, [Some(output), Some(gate_up), Some(down)]) = (self.in_one(&x), maps.map(Linear::plain)) {
            return percept_ops::after_attention(x, attended, norm.plain(), [output, gate_up, down]);
        }
        let [output, gate_up, down] = maps;
        let x = output.add_to(x, attended, self.along);
        let inner = percept_ops::swiglu(gate_up.forward(norm.before(x.clone(), self.dtype), self.along));
        down.add_to(x, inner, self.along)
    }

    /// Whether nothing looks at what lies between the steps of a block.
    fn in_one(self, x: &Tensor<2>) -> bool {
        self.dtype == DType::F32 && self.along.book.is_none() && percept_ops::has_halves(x)
    }
}

impl TextDecoder {
    pub(super) fn new(make: &mut Make, config: &Config) -> Result<Self, ModelError> {
        let shape = vec![config.vocabulary, config.hidden_size];
        let table = |name: &str| Spec::table(name.to_owned(), shape.clone());
        let embedding = make(table("model.embed_tokens.weight"))?;
        let blocks = (0..config.num_layers).map(|i| Block::new(make, config, &format!("model.layers.{i}")));
        let blocks = blocks.collect::<Result<_, _>>()?;
        let norm = RmsNorm::new(make, "model.norm", config.hidden_size, config.rms_norm_eps)?;
        let head = (!config.tie_word_embeddings).then(|| make(table("lm_head.weight"))).transpose()?;
        Ok(Self { embedding, blocks, norm, head, laid_out_head: None })
    }

    /// `[v, d]`
    pub(super) fn head(&self) -> Tensor<2> {
        self.head_parameter().value.clone()
    }

    pub(super) fn head_parameter(&self) -> &Parameter {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// Embeddings of tokens and features of pictures, in float32: `[rows, d]`
    pub(super) fn embed(&self, features: Option<Tensor<2>>, rows: &Arc<[Row]>) -> Tensor<2> {
        percept_ops::gather(self.embedding.value.clone(), features, rows)
    }

    /// `hidden head^T`, all float32: `[n, v]`
    pub(super) fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        match &self.laid_out_head {
            Some(head) => percept_ops::linear_laid_out(hidden, head, None, None),
            None => percept_ops::linear(hidden, self.head(), None, None),
        }
    }

    /// Lays weights out for the few rows of a decoding step, at the price of a second copy.
    pub(super) fn prepare(&mut self) {
        for block in &mut self.blocks {
            for linear in [&mut block.qkv, &mut block.output, &mut block.gate_up, &mut block.down] {
                linear.prepare();
            }
        }
        self.laid_out_head = Some(percept_ops::lay_out(self.head()));
    }

    /// Runs packed tokens through all blocks and the last normalization, and gives the hidden states of the rows `wanted`, or of all.
    ///
    /// `attend` is called with a block's number and its rotated queries, keys and values. Only their keys and values matter of rows that are
    /// not wanted, so the last block computes nothing else for them.
    pub(super) fn forward(
        &self,
        mut x: Tensor<2>,
        pass: Pass,
        wanted: Option<&Arc<[Row]>>,
        mut attend: impl FnMut(usize, Tensor<2>) -> Tensor<2>,
    ) -> Tensor<2> {
        let last = self.blocks.len() - 1;
        for (i, block) in self.blocks.iter().enumerate() {
            let attended = attend(i, block.before_attention(x.clone(), pass));
            x = block.after_attention(x, attended, pass, wanted.filter(|_| i == last));
        }
        self.norm.forward(x)
    }
}

impl Block {
    /// Rotated queries, keys and values.
    pub(super) fn before_attention(&self, x: Tensor<2>, pass: Pass) -> Tensor<2> {
        pass.before_attention(x, &self.norm1, &self.qkv)
    }

    /// The block's result; of some rows only when they are named.
    pub(super) fn after_attention(
        &self,
        mut x: Tensor<2>,
        mut attended: Tensor<2>,
        pass: Pass,
        wanted: Option<&Arc<[Row]>>,
    ) -> Tensor<2> {
        let of_wanted;
        let mut pass = pass;
        if let Some(wanted) = wanted {
            attended = percept_ops::gather(attended, None, wanted);
            x = percept_ops::gather(x, None, wanted);
            of_wanted = pass.along.keys.map(|keys| Arc::new(keys.of(wanted)));
            pass.along.keys = of_wanted.as_ref();
        }
        pass.after_attention(x, attended, &self.norm2, [&self.output, &self.gate_up, &self.down])
    }

    fn new(make: &mut Make, config: &Config, name: &str) -> Result<Self, ModelError> {
        let (d, inner, epsilon) = (config.hidden_size, config.intermediate_size, config.rms_norm_eps);
        let HeadShape { heads, kv_heads, width } = config.heads;
        let map = |part: &str, output: usize| (format!("{name}.{part}"), output);
        let (queries, keys) = (heads * width, kv_heads * width);
        let qkv = [map("self_attn.q_proj", queries), map("self_attn.k_proj", keys), map("self_attn.v_proj", keys)];
        Ok(Self {
            norm1: RmsNorm::new(make, &format!("{name}.input_layernorm"), d, epsilon)?,
            qkv: Linear::new(make, d, &qkv, true)?,
            output: Linear::new(make, queries, &[map("self_attn.o_proj", d)], false)?,
            norm2: RmsNorm::new(make, &format!("{name}.post_attention_layernorm"), d, epsilon)?,
            gate_up: Linear::new(make, d, &[map("mlp.gate_proj", inner), map("mlp.up_proj", inner)], false)?,
            down: Linear::new(make, inner, &[map("mlp.down_proj", d)], false)?,
        })
    }
}
