//! The family as a policy: loading, group-shaped scoring.

use super::activations::Reading;
use super::config::Config;
use super::decoder::CachedDecoder;
use super::features::KeptFeatures;
use super::position::{positions, rotary};
use super::recomputed::Recomputed;
use super::text::{Pass, TextDecoder};
use super::vision::{Features, VisionTower};
use crate::ModelError;
use crate::common::{
    Along, Book, Freeze, Linear, Lora, Make, Parameters, Placement, from_checkpoint, learns, parameters_of,
    random_parameter,
};
use burn::tensor::{DType, Device, Tensor};
use percept_core::{
    Activations, Decoder, FrozenPolicy, Image, Parameter, PicturePatches, Policy, Prompt, ScoreRequest, ScoringGroup,
    Tape,
};
use percept_ops::{AttentionPlan, RotaryTable, Row, RowKeys, next_key};
use percept_random::{Key, Purpose};
use percept_weights::NamingScheme;
use std::path::Path;
use std::sync::Arc;

/// A Qwen2.5-VL model of any size.
#[derive(Clone, Debug)]
pub struct Qwen25Vl {
    pub(super) config: Config,
    pub(super) device: Device,
    /// Of activations.
    pub(super) dtype: DType,
    pub(super) vision: VisionTower,
    pub(super) text: TextDecoder,
    /// Of adapters with dropout.
    dropout_seed: Option<u64>,
}
parameters_of!(Qwen25Vl: vision, text);

/// Loads a checkpoint folder; see [`crate::load`].
///
/// # Errors
/// When its files are missing, damaged, or do not fit its configuration.
pub fn load(
    folder: &Path,
    placement: &Placement,
    freeze: &Freeze,
    lora: Option<&Lora>,
) -> Result<Box<dyn Policy>, ModelError> {
    let mut policy = Qwen25Vl::from_folder(folder, placement.clone(), freeze)?;
    if let Some(lora) = lora {
        policy.adapt(lora);
    }
    Ok(Box::new(policy))
}

/// A model with random weights: matrices normal with this deviation.
///
/// # Errors
/// None for a valid configuration.
pub fn initialize(config: &Config, seed: u64, deviation: f64, device: &Device) -> Result<Qwen25Vl, ModelError> {
    let mut number = 0;
    Qwen25Vl::build(config, &device.into(), &mut |spec| {
        number += 1;
        Ok(random_parameter(&spec, seed, number, deviation, device))
    })
}

/// Tokens of a batch, packed: each prompt, then its responses without their last tokens (from which nothing is predicted).
pub(super) struct Packed {
    pub(super) rows: Vec<Row>,
    pub(super) positions: Vec<[u32; 3]>,
    /// For each response token, the row it is predicted from.
    pub(super) predictors: Vec<Row>,
    pub(super) targets: Vec<u32>,
    /// Length of each prompt and of the packed part of its responses.
    pub(super) groups: Vec<(usize, Vec<usize>)>,
}

impl Qwen25Vl {
    pub(super) fn build(config: &Config, placement: &Placement, make: &mut Make) -> Result<Self, ModelError> {
        let vision = VisionTower::new(make, &config.vision, config.hidden_size)?;
        let text = TextDecoder::new(make, config)?;
        let Placement { device, dtype, .. } = placement.clone();
        Ok(Self { config: config.clone(), device, dtype, vision, text, dropout_seed: None })
    }

    /// Loads a checkpoint folder; see [`crate::load`].
    ///
    /// # Errors
    /// When its files are missing, damaged, or do not fit its configuration.
    pub fn from_folder(folder: &Path, placement: impl Into<Placement>, freeze: &Freeze) -> Result<Self, ModelError> {
        let placement = placement.into();
        let config = Config::from_folder(folder)?;
        let shape = vec![config.vocabulary, config.hidden_size];
        let tied = config.tie_word_embeddings.then_some(("lm_head.weight", shape, "model.embed_tokens.weight"));
        let build = |make: &mut Make| Self::build(&config, &placement, make);
        let mut policy = from_checkpoint(folder, NamingScheme::QWEN2_VL, tied, &placement, freeze, build)?;
        policy.keep_features(placement.kept_features);
        Ok(policy)
    }

    /// Keeps at most so many bytes of the features of pictures that are in use, where the vision tower does not learn.
    pub fn keep_features(&mut self, bytes: usize) {
        let keeps = bytes > 0 && !learns(&self.vision);
        self.vision.kept = keeps.then(|| Arc::new(KeptFeatures::new(bytes)));
    }

    /// Of weights that may be others.
    fn forget_features(&mut self) {
        self.vision.kept = self.vision.kept.take().map(|kept| Arc::new(kept.anew()));
    }

    /// Adds low-rank adapters, which start as no change. Of the rest, what learned goes on to.
    pub fn adapt(&mut self, lora: &Lora) {
        let device = self.device.clone();
        let mut linears = Vec::new();
        self.linears_mut(&mut linears);
        for (number, linear) in linears.into_iter().enumerate() {
            linear.adapt(lora, number as u64, &device);
        }
        self.dropout_seed = (lora.dropout > 0.0).then_some(lora.seed);
        self.forget_features();
        if learns(&self.vision) {
            self.vision.kept = None;
        }
    }

    /// The same policy with activations of another type.
    #[must_use]
    pub fn computed_in(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self.forget_features();
        self
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Features of pictures, each in raster order: `[merged patches, hidden]`.
    pub fn image_features(&self, pictures: &[&PicturePatches]) -> Tensor<2> {
        let Features { rows, index } = self.vision.forward(pictures, &self.device, self.dtype, None, None);
        let order: Arc<[Row]> = index.into_iter().flatten().map(Row::Table).collect();
        percept_ops::cast(percept_ops::gather(rows, None, &order), DType::F32)
    }

    pub(super) fn features(
        &self,
        pictures: &[&PicturePatches],
        dropout: Option<u64>,
        book: Option<&dyn Book>,
    ) -> Option<Features> {
        (!pictures.is_empty()).then(|| self.vision.forward(pictures, &self.device, self.dtype, dropout, book))
    }

    /// How packed tokens go through the decoder's blocks.
    pub(super) fn pass<'a>(&self, rotary: &'a Arc<RotaryTable>, keys: Option<&'a Arc<RowKeys>>) -> Pass<'a> {
        Pass { dtype: self.dtype, rotary, heads: self.config.heads, along: Along::keys(keys) }
    }

    /// The key of what is dropped in a scoring, if anything is.
    pub(super) fn dropout_key(&self, request: ScoreRequest) -> Option<u64> {
        let key = Key::new(self.dropout_seed?, Purpose::Dropout).step(request.dropout?);
        Some(key.stream().below(u64::MAX))
    }

    /// A prompt's embedding rows and positions, and the position behind it. `features`: feature rows of its pictures, in order.
    pub(super) fn prompt_rows(
        &self,
        prompt: &Prompt,
        features: &mut dyn Iterator<Item = &Vec<u32>>,
    ) -> (Vec<Row>, Vec<[u32; 3]>, u32) {
        let image = self.config.image_token_id;
        let grids: Vec<[usize; 3]> = prompt.pictures.iter().map(|picture| picture.grid).collect();
        let own: Vec<u32> = features.take(grids.len()).flatten().copied().collect();
        let placeholders = prompt.tokens.iter().filter(|&&token| token == image).count();
        assert_eq!(placeholders, own.len(), "prompt {}: placeholders and merged patches", prompt.id);
        let mut own = own.into_iter();
        let row = |&token: &u32| match token == image {
            true => Row::Feature(own.next().expect("counted above")),
            false => Row::Table(token),
        };
        let rows = prompt.tokens.iter().map(row).collect();
        let (positions, next) = positions(&prompt.tokens, &grids, image, self.config.vision.spatial_merge_size);
        (rows, positions, next)
    }

    pub(super) fn pack(&self, groups: &[ScoringGroup], features: &[Vec<u32>]) -> Packed {
        let mut packed = Packed {
            rows: Vec::new(),
            positions: Vec::new(),
            predictors: Vec::new(),
            targets: Vec::new(),
            groups: Vec::new(),
        };
        let mut features = features.iter();
        for group in groups {
            let (rows, positions, next) = self.prompt_rows(&group.prompt, &mut features);
            assert!(!rows.is_empty(), "prompt {} is empty", group.prompt.id);
            let prompt = rows.len();
            packed.rows.extend(rows);
            packed.positions.extend(positions);
            let last = packed.rows.len() - 1;
            let mut lengths = Vec::with_capacity(group.responses.len());
            for response in &group.responses {
                let (_, head) = response.split_last().expect("a response has at least one token");
                packed.predictors.push(Row::Table(last as u32));
                let first = packed.rows.len();
                packed.predictors.extend((0..head.len()).map(|i| Row::Table((first + i) as u32)));
                packed.rows.extend(head.iter().map(|&token| Row::Table(token)));
                packed.positions.extend((0..head.len()).map(|i| [next + i as u32; 3]));
                packed.targets.extend_from_slice(response);
                lengths.push(head.len());
            }
            packed.groups.push((prompt, lengths));
        }
        packed
    }

    /// See [`Policy::score`]; `books`: of the vision tower, and of the decoder.
    fn score_by(&self, groups: &[ScoringGroup], request: ScoreRequest, books: [Option<&dyn Book>; 2]) -> Tensor<2> {
        let pictures: Vec<&PicturePatches> = groups.iter().flat_map(pictures_of).collect();
        let dropout = self.dropout_key(request);
        let features = self.features(&pictures, dropout, books[0]);
        let index = features.as_ref().map_or(&[][..], |features| &features.index);
        let packed = self.pack(groups, index);
        let plan = packed.groups.iter().map(|(prompt, responses)| (*prompt, responses.as_slice()));
        let plan = Arc::new(AttentionPlan::shared_prefix(plan));
        let x = self.text.embed(features.map(|f| f.rows), &packed.rows.into());
        let table = Arc::new(rotary(&self.config, &packed.positions));
        let keys = dropout.map(|key| Arc::new(packed_keys(key, groups)));
        let mut pass = self.pass(&table, keys.as_ref());
        pass.along.book = books[1];
        let wanted = packed.predictors.into();
        let hidden = self.text.forward(x, pass, Some(&wanted), |_, packed| pass.attention(packed, &plan));
        let targets = packed.targets.into();
        percept_ops::token_log_probs(hidden, self.text.head(), &targets, request.temperature, request.entropy)
    }

    pub(super) fn has_adapters(&self) -> bool {
        self.parameters().iter().any(|parameter| parameter.is_adapter())
    }

    /// Logits at every position of one prompt, `[tokens, vocabulary]`: for comparisons with other implementations.
    pub fn prompt_logits(&self, prompt: &Prompt) -> Tensor<2> {
        let pictures: Vec<&PicturePatches> = prompt.pictures.iter().collect();
        let features = self.features(&pictures, None, None);
        let index = features.as_ref().map_or_else(Vec::new, |features| features.index.clone());
        let (rows, positions, _) = self.prompt_rows(prompt, &mut index.iter());
        let plan = Arc::new(AttentionPlan::separate(&[rows.len()], true));
        let x = self.text.embed(features.map(|f| f.rows), &rows.into());
        let table = Arc::new(rotary(&self.config, &positions));
        let pass = self.pass(&table, None);
        let hidden = self.text.forward(x, pass, None, |_, packed| percept_ops::attention(packed, &plan, pass.heads));
        self.text.logits(hidden)
    }
}

impl Policy for Qwen25Vl {
    fn device(&self) -> Device {
        self.device.clone()
    }

    fn vocabulary(&self) -> usize {
        self.config.vocabulary
    }

    fn loss_scale(&self) -> f32 {
        // a token's part of a mean over thousands lies below float16's normal numbers, which begin at 6e-5
        if self.dtype == DType::F16 { 8192.0 } else { 1.0 }
    }

    fn parameters(&self) -> Vec<&Parameter> {
        let mut all = Vec::new();
        self.collect(&mut all);
        all
    }

    fn parameters_mut(&mut self) -> Vec<&mut Parameter> {
        self.forget_features();
        let mut all = Vec::new();
        self.collect_mut(&mut all);
        all
    }

    fn learning_mut(&mut self) -> Vec<(usize, &mut Parameter)> {
        // features are kept only of a tower that does not learn
        let mut all = Vec::new();
        self.collect_mut(&mut all);
        all.into_iter().enumerate().filter(|(_, parameter)| parameter.trainable).collect()
    }

    fn freeze(&self) -> FrozenPolicy {
        let mut frozen = self.clone();
        if frozen.device.is_autodiff() {
            frozen.device = frozen.device.without_autodiff();
            for parameter in frozen.parameters_mut() {
                let value = parameter.value.clone().inner();
                parameter.value = if parameter.rounds { percept_ops::cast(value, self.dtype) } else { value };
                parameter.trainable = false;
            }
            if self.vision.is_computed_in(self.dtype) {
                frozen.vision.kept.clone_from(&self.vision.kept);
            }
        }
        FrozenPolicy::new(Box::new(frozen))
    }

    fn without_adapters(&self) -> Option<FrozenPolicy> {
        self.has_adapters().then(|| {
            let mut base = self.clone();
            let mut linears = Vec::new();
            base.linears_mut(&mut linears);
            linears.into_iter().for_each(Linear::without_adapter);
            if self.vision.has_adapters() {
                base.forget_features();
            }
            base.freeze()
        })
    }

    fn merged(&self, number: usize) -> Tensor<2> {
        let parameter = self.parameters()[number];
        let mut linears = Vec::new();
        self.linears(&mut linears);
        let own = linears.into_iter().find(|linear| std::ptr::eq(linear.weight(), parameter));
        own.and_then(Linear::merged).unwrap_or_else(|| {
            let value = parameter.value.clone();
            if value.device().is_autodiff() { value.inner() } else { value }
        })
    }

    fn score(&self, groups: &[ScoringGroup], request: ScoreRequest) -> Tensor<2> {
        self.score_by(groups, request, [None, None])
    }

    fn score_sampled(&self, groups: &[ScoringGroup], request: ScoreRequest, activations: &[&Activations]) -> Tensor<2> {
        let books = Reading::of(self, groups, activations).unwrap_or_default();
        self.score_by(groups, request, books.each_ref().map(|book| book.as_ref().map(|book| book as &dyn Book)))
    }

    fn score_recomputed(&self, groups: &[ScoringGroup], request: ScoreRequest) -> (Tensor<2>, Box<dyn Tape + '_>) {
        let (scores, tape) = Recomputed::forward(self, groups, request);
        (scores, Box::new(tape))
    }

    fn trace(&self, group: &ScoringGroup, see: &mut dyn FnMut(&str, Tensor<2>)) {
        self.show_pieces(group, see);
    }

    fn decoder(&self, rows: usize, tokens: usize) -> Box<dyn Decoder + '_> {
        Box::new(CachedDecoder::new(self, rows, tokens))
    }
}

#[cfg(test)]
impl Qwen25Vl {
    pub(super) fn kept_features(&self) -> Option<&KeptFeatures> {
        self.vision.kept.as_deref()
    }

    pub(super) fn vision_mut(&mut self) -> Vec<&mut Parameter> {
        let mut all = Vec::new();
        self.vision.collect_mut(&mut all);
        all
    }
}

/// Keys of packed rows: of a row's prompt and all tokens up to its own, so that it does not matter what a row is computed beside.
pub(super) fn packed_keys(key: u64, groups: &[ScoringGroup]) -> RowKeys {
    let mut keys = Vec::new();
    let mut along = |from: u64, tokens: &[u32]| {
        tokens.iter().fold(from, |key, &token| {
            keys.push(next_key(key, u64::from(token)));
            keys[keys.len() - 1]
        })
    };
    for group in groups {
        let prompt = along(next_key(key, group.prompt.id), &group.prompt.tokens);
        for response in &group.responses {
            along(prompt, &response[..response.len() - 1]);
        }
    }
    RowKeys::new(keys)
}

/// The pictures that a group's view shows.
pub(super) fn pictures_of(group: &ScoringGroup) -> &[PicturePatches] {
    match group.image {
        Image::Whole => &group.prompt.pictures,
        Image::Corrupted(slot) => &group.prompt.corrupted[slot],
    }
}
