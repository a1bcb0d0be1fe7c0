//! What is carried over, what is reported, and what is refused, on the files and scripts that PAPO released.

mod arbitrary;
mod scripts;

use std::path::Path;

use toml::Value;

use super::*;
use crate::MicroTokens;

/// A file in the layout of EasyR1's `examples/config.yaml` with the values that PAPO's four files share.
const COMMON: &str = include_str!("common.yaml");

/// What PAPO's four files add: grpo, grpo_papo, dapo, dapo_papo.
fn file(name: &str) -> Vec<String> {
    let mut keys = vec![];
    if name.starts_with("dapo") {
        keys.extend(["algorithm.adv_estimator=dapo", "algorithm.disable_kl=true", "algorithm.online_filtering=true"]);
        keys.extend(["algorithm.filter_key=overall", "data.mini_rollout_batch_size=128"]);
    }
    if name.ends_with("papo") {
        keys.extend([
            "algorithm.use_kl_prcp=true",
            "algorithm.contrastive_type=augmented",
            "algorithm.kl_prcp_coef=0.01",
        ]);
        keys.extend(["algorithm.kl_prcp_penalty=low_var_kl", "algorithm.kl_prcp_apply_mode=all"]);
        keys.push("algorithm.aug_config={patch_size: 14, black_prob: 0.6}");
        keys.push("algorithm.kl_prcp_schedule_args={start_value: 1.0e-2, end_value: 0, annealing_ratio: 0.5}");
    }
    keys.into_iter().map(str::to_owned).collect()
}

/// What all of PAPO's scripts give.
fn script(size: &str, file: &str, gpus: usize) -> Vec<String> {
    [
        format!("config=examples/configs/config_{file}.yaml"),
        "data.train_files=PAPOGalaxy/PAPO_ViRL39K_train".to_owned(),
        "data.val_files=PAPOGalaxy/PAPO_MMK12_test".to_owned(),
        "data.rollout_batch_size=384".to_owned(),
        "data.format_prompt=examples/format_prompt/math_perception.jinja".to_owned(),
        format!("worker.actor.model.model_path=Qwen/Qwen2.5-VL-{size}-Instruct"),
        "worker.rollout.tensor_parallel_size=1".to_owned(),
        "worker.actor.global_batch_size=128".to_owned(),
        "trainer.experiment_name=run".to_owned(),
        format!("trainer.n_gpus_per_node={gpus}"),
        "trainer.total_epochs=2".to_owned(),
        "worker.reward.reward_function=examples/reward_function/math.py:compute_score".to_owned(),
        "data.max_prompt_length=4096".to_owned(),
    ]
    .into()
}

const DAPO: [&str; 3] =
    ["worker.actor.clip_ratio_low=0.2", "worker.actor.clip_ratio_high=0.28", "algorithm.filter_key=accuracy"];

fn papo(gamma: &str, eta: Option<&str>) -> Vec<String> {
    let mut keys = vec![format!("algorithm.kl_prcp_coef={gamma}")];
    if let Some(eta) = eta {
        for name in ["aug", "ori"] {
            keys.push(format!("algorithm.use_{name}_entropy_loss=true"));
            keys.push(format!("algorithm.{name}_entropy_loss_coef={eta}"));
        }
    }
    keys
}

fn strings(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

fn imported(overrides: &[String]) -> Imported {
    convert("config.yaml", COMMON, overrides).unwrap_or_else(|error| panic!("{error}"))
}

fn message(overrides: &[&str]) -> String {
    convert("config.yaml", COMMON, &strings(overrides)).expect_err("an error").to_string()
}

#[test]
fn what_has_no_counterpart_is_reported_with_a_reason() {
    let own =
        ["worker.actor.optim.learning_rate=1", "trainer.experiment_nam=x", "data.wheels=4", "algorithm.gamma=1.0"];
    let Imported { unmatched, .. } = imported(&[script("3B", "grpo", 2), strings(&own)].concat());
    let why = |key: &str| {
        let found = unmatched.iter().find(|entry| entry.key == key).unwrap_or_else(|| panic!("{key} is not reported"));
        (found.value.as_str(), found.why.as_str())
    };
    assert_eq!(why("trainer.n_gpus_per_node"), ("2", "one device"));
    assert!(why("worker.actor.fsdp.enable_full_shard").1.starts_with("one device, no sharding"));
    assert!(why("worker.rollout.gpu_memory_utilization").1.starts_with("of vLLM's"));
    assert_eq!(why("worker.rollout.limit_images").1, "a prompt has the pictures its row has");
    assert_eq!(why("trainer.logger").0, "[console, wandb]");
    assert_eq!(why("data.wheels").1, "not a key that is known here");
    assert_eq!(
        why("trainer.experiment_nam").1,
        "not a key that is known here; did you mean `trainer.experiment_name`?"
    );
    assert!(unmatched.iter().all(|entry| !entry.key.ends_with("_path")), "null is nothing");
    // what is carried over is not reported
    for key in ["data.seed", "worker.rollout.n", "worker.actor.optim.lr", "config", "trainer.experiment_name"] {
        assert!(unmatched.iter().all(|entry| entry.key != key), "{key}");
    }
}

#[test]
fn every_key_of_the_released_files_is_known() {
    let all = [file("dapo_papo"), script("3B", "dapo_papo", 2), papo("0.01", Some("0.03"))].concat();
    for entry in imported(&all).unmatched {
        assert!(!entry.why.starts_with("not a key"), "{}: {}", entry.key, entry.why);
    }
}

#[test]
fn notes_say_where_the_meaning_differs() {
    let all = [file("dapo_papo"), script("3B", "dapo_papo", 2)].concat();
    let notes = imported(&all).notes;
    let text =
        |key: &str| notes.iter().filter(|note| note.key == key).map(|note| note.text.as_str()).collect::<String>();
    assert!(text("worker.actor.global_batch_size").contains("counted in prompts"));
    assert!(text("algorithm.loss_avg_mode").contains("micro_batch_token"));
    assert!(text("algorithm.online_filtering").contains("never uses a group that was turned away"));
    assert!(text("algorithm.use_kl_prcp").contains("masked_gradient"));
    assert!(text("worker.actor.optim.strategy").contains("float32"));
    assert!(text("worker.reward.reward_function").contains("math.py"));
    assert!(text("worker.actor.model.model_path").contains("hf download Qwen/Qwen2.5-VL-3B-Instruct"));
    assert!(text("config").contains("config_dapo_papo.yaml"));
}

#[test]
fn absent_keys_have_easyr1s_defaults() {
    let least = "worker: {actor: {model: {model_path: m}}, rollout: {n: 4}}\nalgorithm: {use_kl_loss: true}";
    let toml = convert("c.yaml", least, &[]).unwrap().toml;
    let run = RunConfig::parse("imported", &toml, &[], &[]).unwrap();
    assert_eq!((run.data.problem_column.as_str(), run.data.max_prompt_tokens), ("prompt", 512));
    assert_eq!((run.rollout.top_p, run.rollout.prompts_per_step, run.trainer.prompts_per_update), (1.0, 512, 256));
    assert_eq!((run.trainer.epochs, run.trainer.checkpoint_every, run.validation.every), (15, 0, 0));
    assert_eq!((run.validation.responses_per_prompt, run.validation.top_p), (1, 1.0));
    assert_eq!((run.optimizer.weight_decay, run.optimizer.learning_rate), (0.01, 1e-6));
    assert_eq!(run.objective["kl_coefficient"].as_float(), Some(1e-3));
    assert_eq!(run.objective["kl_estimator"].as_str(), Some("k1"));
}

#[test]
fn what_would_change_the_mathematics_is_an_error_with_a_way_on() {
    let path = "worker.actor.model.model_path=m";
    assert_eq!(
        message(&[path, "algorithm.adv_estimator=rloo"]),
        "override `algorithm.adv_estimator=rloo`: `algorithm.adv_estimator: rloo`: Percept has the advantages of grpo and \
         dapo; choose one with the override `algorithm.adv_estimator=grpo`, or write the objective (docs/extending.md)"
    );
    assert!(message(&[path, "algorithm.use_kl_loss=false"]).contains("part of the reward"));
    assert!(message(&[path, "algorithm.kl_penalty=full"]).contains("algorithm.kl_penalty=low_var_kl"));
    assert!(message(&[path, "worker.actor.ppo_epochs=2"]).contains("learned from once"));
    assert!(message(&[path, "worker.actor.loss_type=gspo"]).contains("clipped policy loss"));
    assert!(message(&[path, "data.format_prompt='{{ content }} think'"]).contains("Jinja file"));
    assert!(
        message(&[path, "algorithm.use_kl_prcp=true", "algorithm.kl_prcp_apply_mode=weighted"]).contains("\"all\"")
    );
}

#[test]
fn wrong_values_name_file_line_key_and_what_is_expected() {
    assert_eq!(
        convert("c.yaml", "data:\n  seed: many", &[]).unwrap_err().to_string(),
        "c.yaml, line 2: `data.seed` must be a whole number, found many"
    );
    assert_eq!(
        convert("c.yaml", "data: 3", &strings(&["data.seed=1"])).unwrap_err().to_string(),
        "override `data.seed=1`: `data` is 3 in the file, and has no keys; write key=value, as in \
         `worker.actor.optim.lr=1e-6`"
    );
    assert_eq!(
        message(&["worker.actor.model.model_path=m", "algorithm.kl_penalty=low_var"]),
        "override `algorithm.kl_penalty=low_var`: `algorithm.kl_penalty` must be \"kl\" or \"abs\" or \"mse\" or \
         \"low_var_kl\" or \"full\", found low_var; did you mean \"low_var_kl\"?"
    );
    assert_eq!(
        message(&["worker.actor.model.model_path=null"]),
        "config.yaml: `worker.actor.model.model_path` is not given; write it into the file, or add the override \
         `worker.actor.model.model_path=checkpoints/NAME`"
    );
    assert!(message(&["worker.rollout.n=1"]).contains("`worker.rollout.n` must be 2 or more"));
    let apart = message(&["data.rollout_batch_size=100"]);
    assert!(
        apart.starts_with("config.yaml: as a run of Percept it is refused: rollout.prompts_per_step = 100"),
        "{apart}"
    );
    let syntax = convert("c.yaml", "data:\n  a: [1\n", &[]).unwrap_err().to_string();
    assert!(syntax.starts_with("c.yaml, line ") && syntax.contains("not usable YAML"), "{syntax}");
    for (text, found) in [("", "the file is empty"), ("- 1", "found [1]"), ("data:\n\t- 1", "YAML")] {
        let error = convert("c.yaml", text, &[]).unwrap_err().to_string();
        assert!(error.contains(found), "{error}");
    }
    let missing = import(Path::new("no/such.yaml"), &[]).unwrap_err().to_string();
    assert!(missing.starts_with("no/such.yaml: cannot be read"), "{missing}");
}

#[test]
fn an_interpolation_without_value_is_an_error_only_where_it_counts() {
    let own =
        strings(&["trainer.project_name=${oc.env:PROJECT}", "data.seed=${.answer}", "trainer.val_freq=${data.none}"]);
    let message = convert("c.yaml", COMMON, &own[1..2]).unwrap_err().to_string();
    assert_eq!(
        message,
        "override `data.seed=${.answer}`: `data.seed: an interpolation`: there is no key `data.answer` for `${.answer}`; or \
         add the override `data.seed=...`"
    );
    let shell = strings(&["worker.actor.model.model_path=${MODEL_PATH}"]);
    let message = convert("c.yaml", COMMON, &shell).unwrap_err().to_string();
    assert!(message.contains("a shell's variable has to be written out"), "{message}");
    let Imported { unmatched, .. } = imported(&own[..1]);
    let found = unmatched.iter().find(|entry| entry.key == "trainer.project_name").unwrap();
    assert_eq!(found.why, "a run is its folder, trainer.run_dir");
}

#[test]
fn options_of_papo_that_no_script_sets() {
    let own = [
        "algorithm.kl_prcp_schedule=annealing",
        "algorithm.use_kl_prcp_clipping=true",
        "algorithm.kl_prcp_clipping=0.3",
        "algorithm.use_kl_prcp_token_level_mask=true",
        "algorithm.use_sft_loss=true",
        "worker.actor.optim.lr_warmup_ratio=0.1",
        "trainer.max_steps=60",
        "worker.actor.model.freeze_vision_tower=true",
        "worker.reward.reward_function=examples/reward_function/qwen3_vl_think.py:compute_score",
        "data.max_response_length=16384",
        "worker.rollout.val_override_config.temperature=0.0",
    ];
    let toml = imported(&[file("grpo_papo"), script("3B", "grpo_papo", 2), strings(&own)].concat()).toml;
    let run = RunConfig::parse("imported", &toml, &[], &[]).unwrap();
    let value = |key: &str| run.objective.get(key).and_then(Value::as_float);
    assert_eq!(run.objective["gamma_schedule"].as_str(), Some("linear"));
    assert_eq!((value("gamma"), value("kl_prcp_clip"), value("token_mask_top_p")), (Some(0.01), Some(0.3), Some(0.2)));
    assert_eq!(value("imitation_coefficient"), Some(1e-3));
    assert_eq!(
        (run.optimizer.warmup_steps, run.trainer.steps, run.trainer.micro_tokens),
        (6, Some(60), MicroTokens::Count(20_480))
    );
    assert_eq!(run.model.freeze, ["visual.*"]);
    assert_eq!((run.validation.temperature, run.validation.responses_per_prompt), (0.0, 1));
    assert_eq!(run.reward.verifiers[1]["style"].as_str(), Some("think_opened"));
    let entropy = strings(&["algorithm.use_ori_entropy_loss=true", "algorithm.ori_entropy_loss_coef=0.03"]);
    let toml = imported(&[file("dapo"), script("7B", "dapo", 4), entropy].concat()).toml;
    assert!(
        toml.contains("kind = \"papo\"") && toml.contains("base = \"dapo\"") && toml.contains("gamma = 0.0"),
        "{toml}"
    );
}
