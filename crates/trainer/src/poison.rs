//! Puts something wrong into a chosen step, for tests of what finds it: `PERCEPT_POISON=3:advantage` makes an advantage of the fourth step
//! not a number. Kinds: `advantage`, `view` (a log-probability of a view), `weight` and `behavior` (a token that was sampled with almost no
//! probability).

use crate::Batch;
use percept_core::Policy;

/// Poisons the batch or the policy when the environment names this step.
pub(crate) fn apply(step: u64, batch: &mut Batch, policy: &mut dyn Policy) {
    let Ok(text) = std::env::var("PERCEPT_POISON") else { return };
    let kind = text.split_once(':').filter(|(at, _)| at.parse() == Ok(step)).map(|(_, kind)| kind);
    let group = batch.groups.last_mut().expect("a step has groups");
    match kind {
        None => {}
        Some("advantage") => group.advantages[1] = f32::NAN,
        Some("view") => {
            let numbers = group.views.iter_mut().find_map(|(_, numbers)| numbers.as_mut()).expect("a view");
            numbers.log_probs[0][2] = f32::INFINITY;
        }
        Some("behavior") => group.group.responses[1].log_probs[0] = -60.0,
        Some("weight") => {
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
        Some(other) => panic!("PERCEPT_POISON: there is no {other:?}"),
    }
}
