//! What the network believes about tokens, given pictures.

use crate::task::Prompt;
use crate::view::Image;
use burn::tensor::{Device, Tensor};
use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

/// A weight matrix (or a vector, as one row) with the tensors of the checkpoint that it holds.
#[derive(Clone, Debug)]
pub struct Parameter {
    pub value: Tensor<2>,
    pub pieces: Vec<Piece>,
    pub trainable: bool,
    /// Whether it may be held in a 16-bit type of activations; the others (embeddings, the output head, scales of normalizations) are
    /// float32 always.
    pub rounds: bool,
}

impl Parameter {
    /// Whether it is part of an adapter, which no checkpoint of the whole model holds.
    pub fn is_adapter(&self) -> bool {
        [".lora_A.weight", ".lora_B.weight"].iter().any(|ending| self.pieces[0].name.ends_with(ending))
    }
}

/// A tensor of the checkpoint inside a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Name in the checkpoint's files.
    pub name: String,
    /// Shape in the checkpoint's files.
    pub shape: Vec<usize>,
    /// Its values among the parameter's, row by row.
    pub range: Range<usize>,
}

/// Responses to one prompt that are to be scored together.
#[derive(Clone, Debug)]
pub struct ScoringGroup {
    pub prompt: Arc<Prompt>,
    pub image: Image,
    /// Token ids of each response; none is empty.
    pub responses: Vec<Arc<[u32]>>,
}

/// What is wanted of a scoring.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreRequest {
    /// Logits are divided by this.
    pub temperature: f32,
    /// Whether the entropy is wanted, too.
    pub entropy: bool,
    /// The step that a policy with dropout draws for; nothing: as it samples, without dropout.
    pub dropout: Option<u64>,
}

/// A language model that sees, for training and for sampling alike.
pub trait Policy: Send + Sync {
    fn device(&self) -> Device;

    fn vocabulary(&self) -> usize;

    /// What a loss is multiplied by before its gradient is taken, and the gradient divided by afterwards: more than 1 for types of
    /// activations whose smallest numbers are too large for gradients.
    fn loss_scale(&self) -> f32 {
        1.0
    }

    /// All parameters, always in the same order.
    fn parameters(&self) -> Vec<&Parameter>;

    /// The same to be changed. What the policy remembers of its weights is forgotten.
    fn parameters_mut(&mut self) -> Vec<&mut Parameter>;

    /// The parameters that learn, with their numbers, to be changed.
    fn learning_mut(&mut self) -> Vec<(usize, &mut Parameter)> {
        self.parameters_mut().into_iter().enumerate().filter(|(_, parameter)| parameter.trainable).collect()
    }

    /// The same weights without gradient; memory is shared until they are replaced.
    fn freeze(&self) -> FrozenPolicy;

    /// The policy that adapters were added to, sharing its memory; nothing where there are no adapters.
    fn without_adapters(&self) -> Option<FrozenPolicy> {
        None
    }

    /// The value of the parameter with this number as a checkpoint without adapters holds it, without gradient.
    fn merged(&self, number: usize) -> Tensor<2> {
        let value = self.parameters()[number].value.clone();
        if value.device().is_autodiff() { value.inner() } else { value }
    }

    /// Log-probability (and entropy) of every response token, packed in order of groups, responses, tokens.
    ///
    /// A prompt is computed once for all its responses.
    ///
    /// # Shapes
    /// `[n, 1]`, or `[n, 2]` with entropies in the second column.
    fn score(&self, groups: &[ScoringGroup], request: ScoreRequest) -> Tensor<2>;

    /// The same for responses that this policy sampled with the weights it has now, where it may use what was computed then: one of
    /// `activations` for each group. They serve one scoring. Without an implementation of its own, a policy computes anew.
    ///
    /// # Shapes
    /// As [`Policy::score`].
    fn score_sampled(
        &self,
        groups: &[ScoringGroup],
        request: ScoreRequest,
        _activations: &[&Activations],
    ) -> Tensor<2> {
        self.score(groups, request)
    }

    /// The same numbers without a graph, and how their gradient is taken later: for what learns when memory is short, since only the
    /// inputs of pieces of the computation are kept, and the pieces computed again.
    ///
    /// Without an implementation of its own, a policy keeps the whole graph.
    ///
    /// # Shapes
    /// As [`Policy::score`].
    fn score_recomputed(&self, groups: &[ScoringGroup], request: ScoreRequest) -> (Tensor<2>, Box<dyn Tape + '_>) {
        let scores = self.score(groups, request);
        (scores.clone().inner(), Box::new(WholeGraph { parameters: self.parameters(), scores }))
    }

    /// Computes a group and shows the result of each piece of the model, by the name its weights begin with, in the order they are
    /// computed: for finding the one that first goes wrong. Without an implementation of its own, a policy shows nothing.
    fn trace(&self, _group: &ScoringGroup, _see: &mut dyn FnMut(&str, Tensor<2>)) {}

    /// A decoder for at most `rows` responses at once, each of at most `tokens` tokens.
    fn decoder(&self, rows: usize, tokens: usize) -> Box<dyn Decoder + '_>;
}

/// A computation whose gradient can be taken once.
pub trait Tape {
    /// Takes the gradient with respect to the parameters, from that with respect to the result. `add` is called with a parameter's number
    /// and a part of its gradient: more than once for a parameter that stands in several pieces.
    fn backward(self: Box<Self>, upstream: Tensor<2>, add: &mut dyn FnMut(usize, Tensor<2>));
}

/// All of a graph at once.
struct WholeGraph<'a> {
    parameters: Vec<&'a Parameter>,
    scores: Tensor<2>,
}

impl Tape for WholeGraph<'_> {
    fn backward(self: Box<Self>, upstream: Tensor<2>, add: &mut dyn FnMut(usize, Tensor<2>)) {
        let mut gradients = (self.scores * Tensor::from_inner(upstream)).sum().backward();
        for (number, parameter) in self.parameters.into_iter().enumerate().filter(|(_, parameter)| parameter.trainable)
        {
            if let Some(gradient) = parameter.value.grad_remove(&mut gradients) {
                add(number, gradient);
            }
        }
    }
}

/// A response that takes one more token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeRow {
    /// The row's place in the cache, below the decoder's `rows`.
    pub slot: usize,
    /// Its prompt, by the number given to [`Decoder::prefill`].
    pub prompt: usize,
    /// The response's newest token.
    pub token: u32,
    /// Tokens of the response before this one.
    pub length: usize,
}

/// Token-by-token computation with cached keys and values.
pub trait Decoder {
    /// Computes prompts once, under numbers of the caller's, and gives the logits of the first response token.
    ///
    /// # Shapes
    /// `[prompts, vocabulary]`
    fn prefill(&mut self, prompts: &[(usize, &Prompt)]) -> Tensor<2>;

    /// Logits of the token that follows each row.
    ///
    /// # Shapes
    /// `[rows, vocabulary]`
    fn step(&mut self, rows: &[DecodeRow]) -> Tensor<2>;

    /// From now on keeps what it computes for [`Policy::score_sampled`], as long as that is at most so many bytes; of a decoder that can.
    /// `tokens`: of all prompts and responses, at most.
    fn keep_activations(&mut self, _bytes: usize, _tokens: usize) {}

    /// What was kept of a prompt and its responses, all of which are complete.
    fn activations(&mut self, _prompt: usize) -> Option<Activations> {
        None
    }

    /// Frees a prompt's memory.
    fn forget(&mut self, prompt: usize);
}

/// What a policy computed of a group while it sampled, in a form of its own.
#[derive(Clone, Debug)]
pub struct Activations {
    kept: Arc<dyn Kept>,
    bytes: usize,
}

trait Kept: Any + Debug + Send + Sync {}
impl<T: Any + Debug + Send + Sync> Kept for T {}

impl Activations {
    /// `bytes`: what all that was kept in this sampling takes.
    pub fn new(kept: impl Any + Debug + Send + Sync, bytes: usize) -> Self {
        Self { kept: Arc::new(kept), bytes }
    }

    /// What was given, when it is of this type.
    pub fn get<T: Any>(&self) -> Option<&T> {
        let any: &dyn Any = &*self.kept;
        any.downcast_ref()
    }

    /// Bytes of all that was kept in the same sampling.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A policy without gradient: the only kind that samplers take.
pub struct FrozenPolicy(Box<dyn Policy>);

impl FrozenPolicy {
    /// Wraps a policy whose parameters carry no gradient.
    ///
    /// # Panics
    /// When one does.
    pub fn new(policy: Box<dyn Policy>) -> Self {
        assert!(!policy.device().is_autodiff(), "a frozen policy's parameters live on a device without gradient");
        Self(policy)
    }
}

impl std::ops::Deref for FrozenPolicy {
    type Target = dyn Policy;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}
