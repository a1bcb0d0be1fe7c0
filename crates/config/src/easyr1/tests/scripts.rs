//! The released scripts give the values of `configs/`.

use std::path::Path;

use toml::{Table, Value};

use super::{DAPO, file, imported, papo, script, strings};
use crate::RunConfig;
use crate::easyr1::draft::default_of;
use crate::reference::CORRUPTIONS;

/// Every value of a run, also those of sections that this crate does not know, without the places of files.
fn values(run: &RunConfig) -> Table {
    let mut run = run.clone();
    let kind = run.objective_kind().unwrap().to_owned();
    let base = if kind.ends_with("_d") || kind == "dapo" { "dapo" } else { "grpo" };
    let objective = crate::reference::OBJECTIVE.keys.iter().chain(crate::reference::PAPO.keys);
    for key in objective.filter(|key| kind.starts_with("papo") || default_of("grpo", base, key.name).is_some()) {
        if let Some(value) = default_of(&kind, base, key.name) {
            run.objective.entry(key.name).or_insert(value);
        }
    }
    for key in CORRUPTIONS[0].keys {
        let value = CORRUPTIONS[0].default("default", key.name).unwrap();
        run.data.corruption.entry(key.name).or_insert(value);
    }
    run.data.train.clear();
    run.data.validation.clear();
    let mut table: Table = run.to_toml().unwrap().parse().unwrap();
    table["model"].as_table_mut().unwrap().retain(|key, _| !["checkpoint", "reference"].contains(&key));
    table["trainer"].as_table_mut().unwrap().remove("run_dir");
    table
}

fn assert_is_configuration(overrides: &[String], name: &str) {
    let imported = imported(overrides);
    let run = RunConfig::parse("imported", &imported.toml, &[], &[]).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs").join(name);
    let expected = RunConfig::load(path, &[]).unwrap();
    assert_eq!(values(&run), values(&expected), "{name}\n{}", imported.toml);
}

#[test]
fn the_scripts_are_the_configurations() {
    for (size, low, gpus) in [("3B", "3b", 2), ("7B", "7b", 4)] {
        let of =
            |file_name: &str, own: &[String]| [file(file_name), script(size, file_name, gpus), own.to_vec()].concat();
        let configuration = |method: &str| format!("qwen2_5_vl_{low}_{method}.toml");
        let eta = if size == "7B" { Some("0.05") } else { None };
        assert_is_configuration(&of("grpo", &[]), &configuration("grpo"));
        assert_is_configuration(&of("dapo", &strings(&DAPO)), &configuration("dapo"));
        assert_is_configuration(&of("grpo_papo", &papo("0.02", eta)), &configuration("papo_g"));
        let own = [strings(&DAPO), papo("0.01", Some("0.03"))].concat();
        assert_is_configuration(&of("dapo_papo", &own), &configuration("papo_d"));
    }
}

#[test]
fn the_released_7b_grpo_script_is_papo() {
    let toml = imported(&[file("grpo_papo"), script("7B", "grpo_papo", 4)].concat()).toml;
    assert!(toml.contains("kind = \"papo_g\"") && toml.contains("gamma = 0.01  # algorithm.kl_prcp_coef"), "{toml}");
}

#[test]
fn without_reference_papo_keeps_its_other_terms() {
    let own = [papo("0.01", Some("0.03")), strings(&["algorithm.disable_kl=true"])].concat();
    let toml = imported(&[file("grpo_papo"), script("3B", "grpo_papo", 2), own].concat()).toml;
    let run = RunConfig::parse("imported", &toml, &[], &[]).unwrap();
    let value = |key: &str| run.objective.get(key).and_then(Value::as_float);
    assert_eq!((value("kl_coefficient"), value("entropy_coefficient")), (Some(0.0), Some(0.03)));
    assert_eq!((value("gamma"), value("clip_high")), (Some(0.01), None));
}

#[test]
fn the_text_says_what_differs_and_no_more() {
    let own = papo("0.02", Some("0.05"));
    let toml = imported(&[file("grpo_papo"), script("7B", "grpo_papo", 4), own].concat()).toml;
    assert_eq!(
        toml,
        "# Imported from config.yaml and 25 overrides. What is not written here is a default.

[model]
checkpoint = \"Qwen/Qwen2.5-VL-7B-Instruct\"

[data]
train = \"PAPOGalaxy/PAPO_ViRL39K_train\"
validation = \"PAPOGalaxy/PAPO_MMK12_test\"

[data.corruption]
kind = \"blacken\"

[objective]
kind = \"papo_g\"  # algorithm.use_kl_prcp
entropy_coefficient = 0.05  # algorithm.ori_entropy_loss_coef
masked_entropy_coefficient = 0.05  # algorithm.aug_entropy_loss_coef

[trainer]
run_dir = \"runs/run\"  # trainer.experiment_name
"
    );
}
