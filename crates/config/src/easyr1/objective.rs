//! `algorithm:` and the clips of `worker.actor:` to `[objective]` and `[data.corruption]`.
//!
//! EasyR1 and PAPO switch terms on by flags; here a method has a name. `algorithm.use_kl_prcp` makes it PAPO, and
//! `algorithm.online_filtering` makes the base DAPO:
//!
//! | | plain | use_kl_prcp |
//! |---|---|---|
//! | plain | `grpo` | `papo_g` |
//! | online_filtering | `dapo` | `papo_d` |
//!
//! An entropy term without `use_kl_prcp` is `papo` with gamma 0.

use super::draft::Draft;
use super::error::ImportError;
use super::source::Source;

/// Estimators of a divergence by EasyR1's names; `full` sums over the vocabulary.
const ESTIMATORS: [(&str, Option<&str>); 5] =
    [("kl", Some("k1")), ("abs", Some("abs")), ("mse", Some("k2")), ("low_var_kl", Some("k3")), ("full", None)];

pub(super) fn convert(source: &mut Source, draft: &mut Draft) -> Result<(), ImportError> {
    method(source, draft)?;
    clips(source, draft)?;
    reference(source, draft)?;
    if draft.base == "dapo" {
        filter(source, draft)?;
    }
    if source.flag("algorithm.use_sft_loss")?.unwrap_or(false) {
        let coefficient = source.number("algorithm.sft_loss_coef")?.unwrap_or(1e-3);
        draft.set_with("objective.imitation_coefficient", coefficient, "algorithm.sft_loss_coef");
    }
    match draft.kind {
        "papo_g" | "papo_d" => perception(source, draft),
        "papo" => entropy(source, draft, false),
        _ => Ok(()),
    }
}

fn method(source: &mut Source, draft: &mut Draft) -> Result<(), ImportError> {
    const ESTIMATOR: &str = "algorithm.adv_estimator";
    let estimator = source.text(ESTIMATOR)?.unwrap_or_else(|| "grpo".to_owned());
    if !["grpo", "dapo"].contains(&estimator.as_str()) {
        return Err(source.unsupported(
            ESTIMATOR,
            "Percept has the advantages of grpo and dapo",
            "choose one with the override `algorithm.adv_estimator=grpo`, or write the objective (docs/extending.md)",
        ));
    }
    if source.text("worker.actor.loss_type")?.is_some_and(|kind| kind != "default") {
        return Err(source.unsupported(
            "worker.actor.loss_type",
            "Percept has the clipped policy loss",
            "go on with the override `worker.actor.loss_type=default`, or write the objective (docs/extending.md)",
        ));
    }
    let filters = source.flag("algorithm.online_filtering")?.unwrap_or(false);
    let perceives = source.flag("algorithm.use_kl_prcp")?.unwrap_or(false);
    let has_entropy = source.flag("algorithm.use_ori_entropy_loss")?.unwrap_or(false);
    draft.base = if filters { "dapo" } else { "grpo" };
    draft.kind = match (perceives, filters) {
        (true, true) => "papo_d",
        (true, false) => "papo_g",
        (false, _) if has_entropy => "papo",
        (false, _) => draft.base,
    };
    if estimator == "dapo" && !filters {
        source.note(
            ESTIMATOR,
            "the advantages are grpo's; dapo's other part, online_filtering, is off, so the kind is grpo's",
        );
    }
    let why = match draft.kind {
        "papo_g" => "algorithm.use_kl_prcp",
        "papo_d" => "algorithm.use_kl_prcp and online_filtering",
        "papo" => "algorithm.use_ori_entropy_loss without use_kl_prcp",
        "dapo" => "algorithm.online_filtering",
        _ => "",
    };
    draft.set_with("objective.kind", draft.kind, why);
    if draft.kind == "papo" {
        draft.set("objective.base", draft.base);
        draft.set_with("objective.gamma", 0.0, "the masked picture is computed for metrics only");
    }
    Ok(())
}

fn clips(source: &mut Source, draft: &mut Draft) -> Result<(), ImportError> {
    for (key, path, default) in [
        ("worker.actor.clip_ratio_low", "objective.clip_low", 0.2),
        ("worker.actor.clip_ratio_high", "objective.clip_high", 0.3),
        ("worker.actor.clip_ratio_dual", "objective.clip_dual", 3.0),
    ] {
        draft.set(path, source.number(key)?.unwrap_or(default));
    }
    let modes = [("token", "token"), ("seq", "sequence")];
    let of_actor = source.choice("worker.actor.loss_avg_mode", &modes)?;
    let average = source.choice("algorithm.loss_avg_mode", &modes)?.or(of_actor).unwrap_or("token");
    draft.set("objective.average", average);
    source.note(
        "algorithm.loss_avg_mode",
        format!(
            "PAPO's code averages each micro-batch by itself; the mean here is the mini-batch's. \
             objective.average = \"micro_batch_{average}\" is the code's"
        ),
    );
    Ok(())
}

fn reference(source: &mut Source, draft: &mut Draft) -> Result<(), ImportError> {
    if source.flag("algorithm.disable_kl")?.unwrap_or(false) {
        draft.set_with("objective.kl_coefficient", 0.0, "algorithm.disable_kl");
        return Ok(());
    }
    if !source.flag("algorithm.use_kl_loss")?.unwrap_or(false) {
        return Err(source.unsupported(
            "algorithm.use_kl_loss",
            "the divergence to the reference would be part of the reward, and Percept has it in the loss",
            "choose with the override `algorithm.use_kl_loss=true` or `algorithm.disable_kl=true`",
        ));
    }
    let coefficient = source.number("algorithm.kl_coef")?.unwrap_or(1e-3);
    draft.set_with("objective.kl_coefficient", coefficient, "algorithm.kl_coef");
    draft.set_with("objective.kl_estimator", estimator(source, "algorithm.kl_penalty")?, "algorithm.kl_penalty");
    Ok(())
}

fn estimator(source: &mut Source, key: &str) -> Result<&'static str, ImportError> {
    match source.choice(key, &ESTIMATORS)? {
        None => Ok("k1"),
        Some(Some(name)) => Ok(name),
        Some(None) => Err(source.unsupported(
            key,
            "the sum over the vocabulary (the reference's code cannot compute it either)",
            &format!("choose an estimator with the override `{key}=low_var_kl`"),
        )),
    }
}

fn filter(source: &mut Source, draft: &mut Draft) -> Result<(), ImportError> {
    let names = [("overall", "overall"), ("accuracy", "accuracy"), ("format", "format")];
    let key = source.choice("algorithm.filter_key", &names)?.unwrap_or("overall");
    draft.set("objective.filter_key", key);
    draft.set("objective.filter_low", source.number("algorithm.filter_low")?.unwrap_or(0.01));
    draft.set("objective.filter_high", source.number("algorithm.filter_high")?.unwrap_or(0.99));
    let tries = source.whole("trainer.max_try_make_batch")?.unwrap_or(20);
    draft.set("trainer.max_tries", tries.max(0));
    let portion = source.count("data.mini_rollout_batch_size")?;
    let portion = match portion {
        Some(portion) => Some(portion),
        None => source.count("data.rollout_batch_size")?.or(Some(512)),
    };
    let update = source.count("worker.actor.global_batch_size")?.unwrap_or(256);
    if let Some(portion) = portion.filter(|portion| *portion != update) {
        draft.set_with("trainer.prompts_per_try", portion, "data.mini_rollout_batch_size");
    }
    source.note(
        "algorithm.online_filtering",
        "PAPO's code keeps a whole portion when none of its groups passes the filter; Percept \
         never uses a group that was turned away",
    );
    Ok(())
}

fn perception(source: &mut Source, draft: &mut Draft) -> Result<(), ImportError> {
    source.choice("algorithm.contrastive_type", &[("augmented", ())])?;
    source.choice("algorithm.kl_prcp_apply_mode", &[("all", ())])?;
    let gamma = source.number("algorithm.kl_prcp_coef")?.unwrap_or(1e-3);
    draft.set_with("objective.gamma", gamma, "algorithm.kl_prcp_coef");
    let kind = estimator(source, "algorithm.kl_prcp_penalty")?;
    draft.set_with("objective.perception_estimator", kind, "algorithm.kl_prcp_penalty");
    schedule(source, draft, gamma)?;
    if source.flag("algorithm.use_kl_prcp_clipping")?.unwrap_or(false) {
        let bound = source.number("algorithm.kl_prcp_clipping")?.unwrap_or(0.2);
        draft.set_with("objective.kl_prcp_clip", bound, "algorithm.kl_prcp_clipping");
    }
    if source.flag("algorithm.use_kl_prcp_token_level_mask")?.unwrap_or(false) {
        let share = source.number("algorithm.kl_prcp_token_level_mask_top_p")?.unwrap_or(0.2);
        draft.set_with("objective.token_mask_top_p", share, "algorithm.kl_prcp_token_level_mask_top_p");
    }
    entropy(source, draft, true)?;
    draft.set("data.corruption.kind", "blacken");
    let size = source.count("algorithm.aug_config.patch_size")?.unwrap_or(14);
    draft.set_with("data.corruption.patch_size", size, "algorithm.aug_config.patch_size");
    let probability = source.number("algorithm.aug_config.black_prob")?.unwrap_or(0.6);
    draft.set_with("data.corruption.probability", probability, "algorithm.aug_config.black_prob");
    source.note(
        "algorithm.use_kl_prcp",
        "as in PAPO's code the masked branch is a constant; objective.masked_gradient = true lets gradient through \
         both, as its RECOMPUTE_AUG_LOG_PROBS does. Rows without a picture have no part in the term",
    );
    Ok(())
}

fn schedule(source: &mut Source, draft: &mut Draft, gamma: f64) -> Result<(), ImportError> {
    const KEY: &str = "algorithm.kl_prcp_schedule";
    if source.choice(KEY, &[("fixed", false), ("annealing", true)])? != Some(true) {
        return Ok(());
    }
    let start = source.number("algorithm.kl_prcp_schedule_args.start_value")?.unwrap_or(gamma);
    let end = source.number("algorithm.kl_prcp_schedule_args.end_value")?.unwrap_or(0.0);
    let share = source.number("algorithm.kl_prcp_schedule_args.annealing_ratio")?.unwrap_or(0.5);
    draft.set("objective.gamma_schedule", "linear");
    draft.set_with("objective.gamma", start, "algorithm.kl_prcp_schedule_args.start_value");
    draft.set("objective.gamma_end", end);
    draft.set("objective.gamma_anneal_fraction", share);
    if start != gamma {
        source.note(
            KEY,
            format!(
                "the entropy terms shrink with gamma from {start:?}; PAPO's code divides by \
                 algorithm.kl_prcp_coef ({gamma:?})"
            ),
        );
    }
    Ok(())
}

/// Both entropy terms, or the one with the picture only.
fn entropy(source: &mut Source, draft: &mut Draft, has_masked: bool) -> Result<(), ImportError> {
    let mut term = |flag: &str, coefficient: &'static str, path: &'static str| {
        let on = source.flag(flag)?.unwrap_or(false);
        let value = if on { source.number(coefficient)?.unwrap_or(0.03) } else { 0.0 };
        draft.set_with(path, value, if on { coefficient } else { flag });
        Ok::<(), ImportError>(())
    };
    term("algorithm.use_ori_entropy_loss", "algorithm.ori_entropy_loss_coef", "objective.entropy_coefficient")?;
    if has_masked {
        let path = "objective.masked_entropy_coefficient";
        term("algorithm.use_aug_entropy_loss", "algorithm.aug_entropy_loss_coef", path)?;
    }
    source.note(
        "algorithm.use_ori_entropy_loss",
        "as in PAPO's code it is the negative log-likelihood of the sampled tokens; \
         objective.entropy = \"full\" is the softmax's entropy",
    );
    Ok(())
}
