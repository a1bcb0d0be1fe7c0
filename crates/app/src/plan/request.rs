//! What is to be planned: a run's configuration, its objective, a device and a checkpoint's sizes as one workload.

use super::activations::Execution;
use super::memory::Workload;
use super::time::Passes;
use crate::cost::GroupSize;
use crate::device::Found;
use crate::parts::recomputes;
use anyhow::ensure;
use burn::tensor::DType;
use percept_config::{Backend, FloatType, RunConfig};
use percept_core::{Image, Needs, Objective, View, Weights};
use percept_models::{Outline, ParameterSizes, Placement};
use percept_rollout::InProcess;
use percept_trainer::TaskSource;

/// Rows whose prompts are looked at.
pub(crate) const SAMPLED: usize = 256;
/// Parameters up to which the sampler lays weights out twice (`models`, `PREPARED_WEIGHTS`).
const PREPARED: usize = 1 << 29;

/// The device that is planned for, on this machine or another.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) dtype: DType,
    /// By the fused kernels, in the host's memory.
    pub(crate) is_host: bool,
    /// Without gradient; nothing when it is not here.
    pub(crate) placement: Option<Placement>,
    /// Bytes, where it tells.
    pub(crate) memory: Option<u64>,
}

impl Target {
    /// A device that is open.
    pub(crate) fn here(found: &Found, placement: &Placement) -> Self {
        let is_host = found.backend == Backend::Cpu;
        let memory =
            if is_host { None } else { found.facts().ok().and_then(|facts| facts.hardware.memory.or(facts.memory)) };
        let device = placement.device.clone().without_autodiff();
        let placement = Placement { device, ..placement.clone() };
        Self { name: found.key(), dtype: placement.dtype, is_host, placement: Some(placement), memory }
    }

    /// A device of another machine.
    pub(crate) fn elsewhere(run: &RunConfig) -> Self {
        let backend = run.device.backend;
        let dtype = match (run.device.dtype, backend) {
            (FloatType::Bf16, _) | (FloatType::Auto, Backend::Cuda | Backend::Rocm | Backend::Metal) => DType::BF16,
            (FloatType::F16, _) => DType::F16,
            _ => DType::F32,
        };
        let name = format!("{} elsewhere", backend.name());
        Self { name, dtype, is_host: backend == Backend::Cpu, placement: None, memory: None }
    }
}

/// Prompts of the first visits, each with all responses as long as allowed.
pub(crate) fn sampled(run: &RunConfig, source: &mut dyn TaskSource) -> anyhow::Result<Vec<GroupSize>> {
    let rollout = &run.rollout;
    let count = SAMPLED.min(source.num_rows());
    let mut groups = Vec::with_capacity(count);
    for visit in 0..count as u64 {
        if let Some(task) = source.task(visit)? {
            groups.push(GroupSize::of(&task.prompt, &vec![rollout.max_new_tokens; rollout.responses_per_prompt]));
        }
    }
    ensure!(!groups.is_empty(), "data.train: none of the first {count} rows gives a prompt");
    Ok(groups)
}

/// One prompt of a given length, of which so many tokens are a picture's.
pub(crate) fn imagined(run: &RunConfig, outline: &Outline, tokens: usize, picture: usize) -> anyhow::Result<GroupSize> {
    ensure!(tokens > 0, "--prompt-tokens 0: a prompt has at least one token");
    ensure!(picture <= tokens, "--image-tokens {picture}: more than the prompt's {tokens} tokens");
    let side = outline.vision.merged.isqrt();
    // about square, in merged patches
    let height = picture.isqrt().max(1);
    let pictures = match picture {
        0 => Vec::new(),
        _ => vec![[1, side * height, side * picture.div_ceil(height)]],
    };
    let rollout = &run.rollout;
    Ok(GroupSize { prompt: tokens, pictures, responses: vec![rollout.max_new_tokens; rollout.responses_per_prompt] })
}

/// Corrupted twins of a picture that an objective's views look at.
pub(crate) fn slots(needs: &Needs) -> usize {
    let slot = |view: &View| match view.image {
        Image::Corrupted(slot) => slot + 1,
        Image::Whole => 0,
    };
    needs.views.iter().map(slot).max().unwrap_or(0)
}

/// Everything together. `micro_tokens`: as configured, or any number where it is yet to be chosen.
pub(crate) fn workload(
    run: &RunConfig,
    objective: &dyn Objective,
    mut outline: Outline,
    target: &Target,
    groups: Vec<GroupSize>,
    micro_tokens: usize,
) -> Workload {
    let needs = objective.needs();
    let Needs { views, corrupted_every, .. } = &needs;
    let live = views.iter().filter(|view| view.weights == Weights::Live).count();
    let learns = |parameter: &ParameterSizes| !parameter.names.iter().any(|name| run.model.freezes(name));
    let mut learns: Vec<bool> = outline.parameters.iter().map(learns).collect();
    let mut reference = views.iter().any(|view| view.weights == Weights::Reference);
    if let Some(lora) = &run.model.lora {
        let adapters = outline.adapters(lora.rank, |name| lora.adapts(name));
        learns.iter_mut().for_each(|learns| *learns = false);
        learns.extend(adapters.iter().map(|_| true));
        outline.parameters.extend(adapters);
        // the policy without its adapters
        reference &= run.model.reference != run.model.checkpoint;
    }
    let fused = target.is_host && target.dtype == DType::F32;
    Workload {
        learns,
        how: Execution { fused, width: target.dtype.size() },
        unified: target.is_host,
        frozen_in_f32: outline.stored != Some(target.dtype),
        reference,
        reference_brought: run.model.offload_reference,
        live_views: 1 + live,
        twins: slots(&needs) as f64 / corrupted_every.get() as f64,
        kept_features: run.model.kept_features_mib.saturating_mul(1 << 20),
        kept_activations: match &run.model.lora {
            None if fused => run.trainer.kept_activations_mib.saturating_mul(1 << 20),
            _ => 0,
        },
        recompute: recomputes(run.trainer.recompute, fused),
        moment_bytes: run.optimizer.moments.bytes(),
        moments_on_host: run.optimizer.offload && !target.is_host,
        second_layout: fused && outline.num_parameters() <= PREPARED,
        max_rows: run.rollout.max_rows,
        max_new_tokens: run.rollout.max_new_tokens,
        max_prefill_tokens: InProcess::new(1).max_prefill_tokens,
        micro_tokens,
        prompts_per_step: run.rollout.prompts_per_step,
        prompts_per_update: run.trainer.prompts_per_update,
        groups,
        threads: rayon::current_num_threads(),
        outline,
    }
}

/// Passes without gradient that an objective asks for.
pub(crate) fn passes(objective: &dyn Objective) -> Passes {
    let needs = objective.needs();
    let mut passes = Passes { reference: 0, corrupted: 0, corrupted_every: needs.corrupted_every.get(), behavior: 0 };
    for view in needs.views {
        match (view.weights, view.image) {
            (Weights::Live, _) => {}
            (Weights::Reference, _) => passes.reference += 1,
            (Weights::Behavior, Image::Corrupted(_)) => passes.corrupted += 1,
            (Weights::Behavior, Image::Whole) => passes.behavior += 1,
        }
    }
    passes
}

/// The smallest micro-batch that the configuration allows: the longest prompt with one response.
pub(crate) fn smallest_micro_tokens(run: &RunConfig) -> usize {
    run.data.max_prompt_tokens.saturating_add(run.rollout.max_new_tokens)
}
