//! `worker:` to `[model]`, `[optimizer]`, `[rollout]`, `[validation]` and `[reward]`.

use toml::{Table, Value};

use super::data::is_hub_name;
use super::draft::Draft;
use super::error::ImportError;
use super::source::Source;

const VALIDATION: &str = "worker.rollout.val_override_config";

pub(super) fn convert(source: &mut Source, draft: &mut Draft) -> Result<(), ImportError> {
    model(source, draft)?;
    update(source, draft)?;
    optimizer(source, draft)?;
    rollout(source, draft)?;
    validation(source, draft)?;
    reward(source, draft)
}

fn model(source: &mut Source, draft: &mut Draft) -> Result<(), ImportError> {
    const PATH: &str = "worker.actor.model.model_path";
    let Some(path) = source.text(PATH)? else {
        return Err(source.missing(PATH, &format!("the override `{PATH}=checkpoints/NAME`")));
    };
    if is_hub_name(&path) {
        source.note(PATH, format!("if `{path}` is a name on Hugging Face: hf download {path} --local-dir {path}"));
    }
    draft.set("model.checkpoint", path);
    if source.flag("worker.actor.model.freeze_vision_tower")?.unwrap_or(false) {
        draft.set_with("model.freeze", vec!["visual.*"], "worker.actor.model.freeze_vision_tower");
    }
    if source.flag("worker.actor.model.enable_gradient_checkpointing")? == Some(false) {
        draft.set_with("trainer.recompute", "off", "worker.actor.model.enable_gradient_checkpointing");
    }
    let rank = source.count("worker.actor.model.lora.rank")?.unwrap_or(0);
    if rank > 0 {
        const TARGETS: &str = "worker.actor.model.lora.target_modules";
        draft.set("model.lora.rank", rank);
        draft.set("model.lora.alpha", source.number("worker.actor.model.lora.alpha")?.unwrap_or(16.0));
        if source.texts(TARGETS)?.is_some_and(|targets| targets != ["all-linear"]) {
            source.leave(
                TARGETS,
                "patterns of whole names, as in \"model.layers.*.self_attn.*\": set model.lora.targets",
            );
        }
    }
    Ok(())
}

fn update(source: &mut Source, draft: &mut Draft) -> Result<(), ImportError> {
    const BATCH: &str = "worker.actor.global_batch_size";
    draft.set("trainer.prompts_per_update", source.count(BATCH)?.unwrap_or(256));
    source.note(
        BATCH,
        "counted in prompts here and there, though EasyR1 calls them samples: an update sees rollout.n responses \
         to each",
    );
    if source.whole("worker.actor.ppo_epochs")?.unwrap_or(1) != 1 {
        return Err(source.unsupported(
            "worker.actor.ppo_epochs",
            "each response is learned from once",
            "go on with the override `worker.actor.ppo_epochs=1`",
        ));
    }
    draft.set("optimizer.max_grad_norm", source.number("worker.actor.max_grad_norm")?.unwrap_or(1.0));
    Ok(())
}

fn optimizer(source: &mut Source, draft: &mut Draft) -> Result<(), ImportError> {
    const BETAS: &str = "worker.actor.optim.betas";
    const STRATEGY: &str = "worker.actor.optim.strategy";
    draft.set("optimizer.learning_rate", source.number("worker.actor.optim.lr")?.unwrap_or(1e-6));
    draft.set("optimizer.weight_decay", source.number("worker.actor.optim.weight_decay")?.unwrap_or(1e-2));
    if let Some(betas) = source.numbers(BETAS)? {
        if betas.len() != 2 {
            return Err(source.wrong(BETAS, "a list of 2 numbers", ""));
        }
        draft.set("optimizer.betas", betas);
    }
    let rounded = source.choice(STRATEGY, &[("adamw", false), ("adamw_bf16", true)])?;
    if rounded == Some(true) {
        source.note(
            STRATEGY,
            "weights and moments are float32 here, where adamw_bf16 keeps bfloat16 with compensated sums",
        );
    }
    schedule(source, draft)
}

fn schedule(source: &mut Source, draft: &mut Draft) -> Result<(), ImportError> {
    const RATIO: &str = "worker.actor.optim.lr_warmup_ratio";
    let kinds = [("constant", false), ("cosine", true)];
    if source.choice("worker.actor.optim.lr_scheduler_type", &kinds)? == Some(true) {
        draft.set("optimizer.schedule", "cosine");
        draft.set("optimizer.final_ratio", source.number("worker.actor.optim.min_lr_ratio")?.unwrap_or(0.0));
    }
    let ratio = source.number(RATIO)?.unwrap_or(0.0);
    let steps = source.count("trainer.max_steps")?;
    match (source.count("worker.actor.optim.lr_warmup_steps")?, steps) {
        (Some(warmup), _) => draft.set("optimizer.warmup_steps", warmup),
        (None, Some(steps)) if ratio > 0.0 => {
            draft.set_with(
                "optimizer.warmup_steps",
                (ratio * steps as f64) as i64,
                "lr_warmup_ratio of trainer.max_steps",
            );
        }
        (None, None) if ratio > 0.0 => {
            source.leave(
                RATIO,
                "a share of steps that only the data tell: set optimizer.warmup_steps (--dry-run prints the steps)",
            );
        }
        _ => source.note(
            "worker.actor.optim.lr",
            "the first step learns; PAPO's code has a learning rate of 0 for the whole of it when there is no warm-up",
        ),
    }
    Ok(())
}

fn rollout(source: &mut Source, draft: &mut Draft) -> Result<(), ImportError> {
    let group = source.count("worker.rollout.n")?.unwrap_or(1);
    if group < 2 {
        return Err(source.wrong("worker.rollout.n", "2 or more: an advantage compares the responses of a group", ""));
    }
    draft.set("rollout.responses_per_prompt", group);
    draft.set("rollout.temperature", source.number("worker.rollout.temperature")?.unwrap_or(1.0));
    draft.set("rollout.top_p", source.number("worker.rollout.top_p")?.unwrap_or(1.0));
    draft.set("rollout.top_k", source.whole("worker.rollout.top_k")?.unwrap_or(-1).max(0));
    Ok(())
}

/// What validation overrides; the rest is as in sampling for training.
fn validation(source: &mut Source, draft: &mut Draft) -> Result<(), ImportError> {
    let key = |name: &str| format!("{VALIDATION}.{name}");
    let sampled = |draft: &Draft, path: &str| draft.get(path).and_then(Value::as_float);
    let temperature = source.number(&key("temperature"))?.or(sampled(draft, "rollout.temperature")).unwrap_or(1.0);
    let top_p = source.number(&key("top_p"))?.or(sampled(draft, "rollout.top_p")).unwrap_or(1.0);
    let top_k = source.whole(&key("top_k"))?.or(draft.get("rollout.top_k").and_then(Value::as_integer)).unwrap_or(0);
    let mut responses = source.count(&key("n"))?.unwrap_or(1);
    if temperature == 0.0 && responses > 1 {
        source.note(&key("n"), "at temperature 0 all responses are the same: one is measured");
        responses = 1;
    }
    draft.set("validation.temperature", temperature);
    draft.set("validation.top_p", top_p);
    draft.set("validation.top_k", top_k.max(0));
    draft.set("validation.responses_per_prompt", responses);
    if let Some(tokens) = source.count(&key("max_tokens"))? {
        draft.set("validation.max_new_tokens", tokens);
    }
    Ok(())
}

/// A reward file is Python; those of the released runs have verifiers that score alike.
fn reward(source: &mut Source, draft: &mut Draft) -> Result<(), ImportError> {
    let known = ["worker.reward.reward_function", "worker.reward.score_function", "worker.reward.compute_score"];
    let key = known.into_iter().find(|key| source.is_given(key)).unwrap_or(known[0]);
    let Some(function) = source.text(key)? else {
        source.note(key, "no reward file is named: Percept's default stands, accuracy (math, 0.9) and format (0.1)");
        return Ok(());
    };
    let (file, name) = function.rsplit_once(':').unwrap_or((&function, "compute_score"));
    let file = file.rsplit('/').next().unwrap_or(file);
    let opened = match (file, name) {
        ("math.py", "compute_score") | ("math", "compute_score") => false,
        ("qwen3_vl_think.py", "compute_score") => true,
        _ => {
            source.leave(
                key,
                "no Python is run in the program: choose verifiers in [[reward.verifiers]] (accuracy by math and format \
                 stand there until then), or have a program of yours asked with kind = \"command\"",
            );
            return Ok(());
        }
    };
    let weight = source.number("worker.reward.reward_function_kwargs.format_weight")?.unwrap_or(0.1);
    let mut format = verifier("format", "format", weight);
    if opened {
        format.insert("style".to_owned(), Value::from("think_opened"));
    }
    let rubric = vec![Value::Table(verifier("accuracy", "math", 1.0 - weight)), Value::Table(format)];
    draft.set_with("reward.verifiers", rubric, format!("{file}:{name}"));
    source.note(
        key,
        format!("{file} is taken for the released file of that name, and replaced by verifiers that score alike"),
    );
    Ok(())
}

fn verifier(name: &str, kind: &str, weight: f64) -> Table {
    let [name_key, kind_key, weight_key] = ["name", "kind", "weight"].map(str::to_owned);
    Table::from_iter([(name_key, Value::from(name)), (kind_key, Value::from(kind)), (weight_key, Value::from(weight))])
}
