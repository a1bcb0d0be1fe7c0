//! Puts something wrong into a chosen step, for tests of what finds it: `PERCEPT_POISON=3:advantage` makes an advantage of the fourth step
//! not a number. Kinds: `collapse` (the step's metrics are those of a policy that games the perception term), `advantage`, `view` (a
//! log-probability of a view), `picture`, `weight` and `behavior` (a token that was sampled with almost no probability).

use crate::{CollectedGroup, Metrics};
use percept_core::Policy;

/// The kind of poison for this step, if the environment names it.
fn kind(step: u64) -> Option<String> {
    let text = std::env::var("PERCEPT_POISON").ok()?;
    let (at, kind) = text.split_once(':')?;
    (at.parse() == Ok(step)).then(|| kind.to_owned())
}

/// Gives a step's metrics the signature of collapse.
pub(crate) fn apply_to_metrics(step: u64, metrics: &mut Metrics) {
    if kind(step).as_deref() != Some("collapse") {
        return;
    }
    for (name, factor) in
        [("objective/kl_prcp", 9.0), ("reward/overall", 0.0), ("objective/nll", 9.0), ("objective/masked_entropy", 9.0)]
    {
        let value = metrics.get(name).expect("PAPO's metrics");
        metrics.set(name, value * factor);
    }
    metrics.set("objective/clip_fraction_high", 0.5);
}

/// Poisons the batch or the policy when the environment names this step.
pub(crate) fn apply(step: u64, groups: &mut [CollectedGroup], policy: &mut dyn Policy) {
    let Some(kind) = kind(step) else { return };
    // what is poisoned is not what was computed while sampling
    groups.iter_mut().for_each(|group| group.group.activations = None);
    let group = groups.last_mut().expect("a step has groups");
    match kind.as_str() {
        "collapse" => {}
        "advantage" => group.advantages[1] = f32::NAN,
        "view" => {
            let numbers = group.views.iter_mut().find_map(|(_, numbers)| numbers.as_mut()).expect("a view");
            numbers.log_probs[0][2] = f32::INFINITY;
        }
        "picture" => {
            let mut prompt = (*group.group.prompt).clone();
            std::sync::Arc::make_mut(&mut prompt.pictures[0].rows)[7] = f32::NAN;
            group.group.prompt = prompt.into();
        }
        "behavior" => group.group.responses[1].log_probs[0] = -60.0,
        "weight" => {
            let mut parameters = policy.parameters_mut();
            let middle = parameters.len() / 2;
            let parameter = &mut parameters[middle];
            let value = parameter.value.clone();
            let plain = if value.device().is_autodiff() { value.inner() } else { value };
            let mut data = plain.clone().into_data();
            data.as_mut_slice::<f32>().expect("float32")[5] = f32::NAN;
            let value = burn::tensor::Tensor::<2>::from_data(data, &plain.device());
            let value = burn::tensor::Tensor::from_inner(value);
            parameter.value = if parameter.trainable { value.require_grad() } else { value };
        }
        other => panic!("PERCEPT_POISON: there is no {other:?}"),
    }
}
