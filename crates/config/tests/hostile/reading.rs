//! What is done with run files, overrides and YAML files of EasyR1, whatever they say; the fuzz targets do the same.

use percept_config::easyr1;
use percept_config::{BatchPlan, RunConfig, SftPlan};

/// The first line is the file's, or the key's; none has a second.
fn assert_one_line(error: &impl ToString) {
    let message = error.to_string();
    assert!(!message.is_empty() && !message.contains('\n'), "{message:?}");
}

/// Reads a run file with overrides laid over it, counts its steps, and reads what it resolves to again. Says whether it
/// was one.
pub fn run_file(text: &str, environment: &[(String, String)], sets: &[String]) -> bool {
    let run = match RunConfig::parse("run.toml", text, environment, sets) {
        Ok(run) => run,
        Err(error) => {
            assert_one_line(&error);
            return false;
        }
    };
    for rows in [0, 1, 1000, u64::MAX] {
        let _ = BatchPlan::new(&run, rows).map(|plan| plan.to_string()).map_err(|error| assert_one_line(&error));
        let _ = SftPlan::new(&run, rows).map(|plan| plan.to_string()).map_err(|error| assert_one_line(&error));
    }
    if let Ok(written) = run.to_toml() {
        let again = RunConfig::parse("again.toml", &written, &[], &[]).expect("what is resolved is a run file");
        assert_eq!(again.to_toml().expect("it was written before"), written);
    }
    true
}

/// Imports a YAML file with overrides; what comes out is a run file. Says whether it could be.
pub fn easyr1(text: &str, overrides: &[String]) -> bool {
    match easyr1::convert("c.yaml", text, overrides) {
        Ok(imported) => {
            let run = RunConfig::parse("imported", &imported.toml, &[], &[]);
            assert!(run.is_ok(), "{run:?}\n{}", imported.toml);
            true
        }
        Err(error) => {
            assert_one_line(&error);
            false
        }
    }
}

/// The files of this repository.
pub fn run_files() -> Vec<Vec<u8>> {
    [
        include_str!("../../../../configs/qwen2_5_vl_3b_papo_d.toml"),
        include_str!("../../../../configs/qwen2_5_vl_7b_grpo.toml"),
        "model.checkpoint = 'c'\nmodel.lora = {rank = 8, targets = ['q_proj']}\n[data]\ntrain = ['a.parquet']\nmin_pixels = 3136\n\
         [[reward.verifiers]]\nkind = 'math'\nname = 'm'\nweight = 0.5\n[optimizer]\nlearning_rate = 1e-6\nbetas = [0.9, 0.99]\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

pub fn yaml_files() -> Vec<Vec<u8>> {
    ["data:\n  train_files: papo/train@train\n  val_files: papo/val@test\n  prompt_key: problem\n  image_key: images\n  seed: 1\n\
         \x20 max_prompt_length: 2048\n  max_response_length: ${data.max_prompt_length}\n  rollout_batch_size: 512\n\
         \x20 min_pixels: 262144\nalgorithm:\n  adv_estimator: grpo\n  disable_kl: false\n  use_kl_loss: true\n  kl_penalty: low_var_kl\n\
         \x20 kl_coef: 1.0e-2\nworker:\n  actor: &actor\n    global_batch_size: 128\n    max_grad_norm: 1.0\n    model:\n\
         \x20     model_path: Qwen/Qwen2.5-VL-3B-Instruct\n    optim: {lr: 1.0e-6, betas: [0.9, 0.999]}\n  rollout:\n    n: 5\n\
         \x20   temperature: 1.0\n    val_override_config: {temperature: 0.5, n: 1}\n  other: *actor\n\
         trainer:\n  total_epochs: 2\n  experiment_name: \"a\\tb\"\n  save_limit: 3\n  logger: ['console', \"wandb\"]\n"]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
