//! The whole configuration of a run: read, merged, checked.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::data::DataConfig;
use crate::device::DeviceConfig;
use crate::error::ConfigError;
use crate::layers::{ENVIRONMENT_PREFIX, Layer, Origins, merge};
use crate::model::ModelConfig;
use crate::optimizer::OptimizerConfig;
use crate::reward::RewardConfig;
use crate::sampling::{RolloutConfig, ValidationConfig};
use crate::section::{explain, kind_of, parse_section};
use crate::strict::{Strict, fields_of};
use crate::trainer::{SftConfig, TrainerConfig};

/// Everything a run is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Which weights.
    pub model: ModelConfig,
    /// Which data, and how it is read.
    #[serde(default)]
    pub data: DataConfig,
    /// How training responses are sampled.
    #[serde(default)]
    pub rollout: RolloutConfig,
    /// How the policy is measured.
    #[serde(default)]
    pub validation: ValidationConfig,
    /// How responses are judged.
    #[serde(default)]
    pub reward: RewardConfig,
    /// What the policy learns: `kind` and that method's keys. Default: `kind = "grpo"`.
    #[serde(default = "grpo")]
    pub objective: Table,
    /// How weights move.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// How long, in which portions, and what is kept.
    #[serde(default)]
    pub trainer: TrainerConfig,
    /// The warm start.
    #[serde(default)]
    pub sft: SftConfig,
    /// Where tensors live.
    #[serde(default)]
    pub device: DeviceConfig,
    #[serde(skip)]
    pub(crate) origins: Origins,
}

fn grpo() -> Table {
    Table::from_iter([("kind".to_owned(), Value::from("grpo"))])
}

impl RunConfig {
    /// Read a run file, lay the environment's `PERCEPT__SECTION__KEY` and then `sets` (each `section.key=value`) over it,
    /// and check the result.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(path: impl AsRef<Path>, sets: &[String]) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&path.display().to_string(), &text, &variables(std::env::vars_os())?, sets)
    }

    /// The same from a text. `name` stands in messages and gives `trainer.run_dir` its default; `environment` are names
    /// and values, of which those beginning with `PERCEPT__` count.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(
        name: &str,
        text: &str,
        environment: &[(String, String)],
        sets: &[String],
    ) -> Result<Self, ConfigError> {
        let file = Layer::file(name, text)?;
        let mut layers = Vec::new();
        for (variable, value) in environment {
            layers.extend(Layer::variable(variable, value).transpose()?);
        }
        for argument in sets {
            layers.push(Layer::set(argument)?);
        }
        let (mut table, origins) = merge(file, layers)?;
        fill_derived(&mut table, name);
        let mut run = Self::deserialize(Strict::new(&Value::Table(table)))
            .map_err(|fault| origins.place(explain(fault, "", &known_keys())))?;
        run.origins = origins;
        run.validate()?;
        Ok(run)
    }

    /// The resolved configuration as TOML: every key with its value. Loading it gives the same configuration.
    ///
    /// # Errors
    /// A value has no TOML form: a path that is not Unicode, or a number of 2^63 or more.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(self).map_err(|error| ConfigError::Write(error.to_string()))
    }

    /// Give a section that was kept as a table its type, as [`parse_section`] does, with messages that say which file,
    /// variable or argument a wrong key came from.
    ///
    /// # Errors
    /// As [`parse_section`].
    pub fn section<T: DeserializeOwned>(&self, table: &Table, section: &str) -> Result<T, ConfigError> {
        parse_section(table, section).map_err(|error| self.place(error))
    }

    /// The `kind` of `[objective]`.
    ///
    /// # Errors
    /// It is missing (the section has other keys), or no string.
    pub fn objective_kind(&self) -> Result<&str, ConfigError> {
        kind_of(&self.objective, "objective").map_err(|error| self.place(error))
    }

    /// Say where the key that an error is about was given.
    pub fn place(&self, error: ConfigError) -> ConfigError {
        self.origins.place(error)
    }
}

/// The environment's variables for runs, in the order of their names.
fn variables(environment: impl Iterator<Item = (OsString, OsString)>) -> Result<Vec<(String, String)>, ConfigError> {
    let mut variables = Vec::new();
    for (name, value) in environment {
        if !name.as_encoded_bytes().starts_with(ENVIRONMENT_PREFIX.as_bytes()) {
            continue;
        }
        let shown = name.to_string_lossy().into_owned();
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => variables.push((name, value)),
            _ => {
                let origin = format!("environment variable {shown}");
                let reason = "it is not Unicode text".to_owned();
                return Err(ConfigError::Override { origin, reason, expected: "PERCEPT__SECTION__KEY=value" });
            }
        }
    }
    variables.sort();
    Ok(variables)
}

/// Defaults that are another key's value. They are written in before types are checked, so that the structures hold
/// plain values; a value of the wrong type is not passed on, so that it is reported under the key that was given.
fn fill_derived(table: &mut Table, name: &str) {
    let stem = Path::new(name).file_stem().map_or_else(|| "run".to_owned(), |stem| stem.to_string_lossy().into_owned());
    // An absent `[model]` is a missing `model.checkpoint`, not a missing section.
    table.entry("model").or_insert_with(|| Value::Table(Table::new()));
    default_to(table, ("trainer", "run_dir"), Some(Value::from(format!("runs/{stem}"))));
    let given = |section: &str, key: &str| table.get(section).and_then(|section| section.get(key)).cloned();
    let is_count = |value: &Value| value.as_integer().is_some_and(|number| number >= 0);
    let reference = given("model", "checkpoint").filter(Value::is_str);
    let max_new_tokens = given("rollout", "max_new_tokens").filter(is_count);
    let prompts_per_try = given("trainer", "prompts_per_update").filter(is_count);
    default_to(table, ("model", "reference"), reference);
    default_to(table, ("validation", "max_new_tokens"), max_new_tokens);
    default_to(table, ("trainer", "prompts_per_try"), prompts_per_try);
}

fn default_to(table: &mut Table, (section, key): (&str, &str), value: Option<Value>) {
    let Some(value) = value else { return };
    let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    // A section that is no table is reported as such when types are checked.
    if let Value::Table(section) = section {
        section.entry(key).or_insert(value);
    }
}

/// The full path of every key that this crate gives a type.
pub(crate) fn known_keys() -> Vec<String> {
    [
        ("model", fields_of::<ModelConfig>()),
        ("data", fields_of::<DataConfig>()),
        ("rollout", fields_of::<RolloutConfig>()),
        ("validation", fields_of::<ValidationConfig>()),
        ("reward", fields_of::<RewardConfig>()),
        ("optimizer", fields_of::<OptimizerConfig>()),
        ("trainer", fields_of::<TrainerConfig>()),
        ("sft", fields_of::<SftConfig>()),
        ("device", fields_of::<DeviceConfig>()),
    ]
    .into_iter()
    .flat_map(|(section, keys)| keys.iter().map(move |key| format!("{section}.{key}")))
    .collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{Backend, OnBadRow, SaveDtype, Schedule};

    const LEAST: &str = "[model]\ncheckpoint = 'checkpoints/tiny'\n";

    fn strings(sets: &[&str]) -> Vec<String> {
        sets.iter().map(|set| (*set).to_owned()).collect()
    }

    fn with_sets(sets: &[&str]) -> Result<RunConfig, String> {
        RunConfig::parse("run.toml", LEAST, &[], &strings(sets)).map_err(|error| error.to_string())
    }

    fn with_text(text: &str) -> Result<RunConfig, String> {
        RunConfig::parse("configs/run.toml", &format!("{LEAST}{text}"), &[], &[]).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_the_papers_values() {
        let run = with_sets(&[]).unwrap();
        assert_eq!(run.model.reference, PathBuf::from("checkpoints/tiny"));
        assert_eq!(run.model.save_dtype, SaveDtype::F32);
        assert_eq!((run.rollout.prompts_per_step, run.rollout.responses_per_prompt), (384, 5));
        assert_eq!((run.rollout.temperature, run.rollout.top_p, run.rollout.top_k), (1.0, 0.99, 0));
        assert_eq!((run.rollout.max_new_tokens, run.data.max_prompt_tokens), (2048, 4096));
        assert_eq!((run.data.min_pixels, run.data.max_pixels), (Some(200_704), Some(1_003_520)));
        assert_eq!((run.optimizer.learning_rate, run.optimizer.betas), (1e-6, [0.9, 0.999]));
        assert_eq!((run.optimizer.weight_decay, run.optimizer.max_grad_norm), (0.01, 1.0));
        assert_eq!(run.optimizer.schedule, Schedule::Constant);
        assert_eq!((run.trainer.epochs, run.trainer.prompts_per_update, run.trainer.max_tries), (2, 128, 20));
        assert_eq!((run.trainer.seed, run.trainer.checkpoint_every, run.trainer.keep_last), (1, 5, 3));
        assert_eq!((run.validation.every, run.validation.responses_per_prompt), (5, 8));
        assert_eq!(run.reward.names().collect::<Vec<_>>(), ["accuracy", "format"]);
        assert_eq!(run.objective_kind().unwrap(), "grpo");
        assert_eq!(run.device.backend, Backend::Auto);
    }

    #[test]
    fn some_defaults_are_another_keys_value() {
        let run = with_text("[rollout]\nmax_new_tokens = 77\n[trainer]\nprompts_per_update = 64").unwrap();
        assert_eq!((run.validation.max_new_tokens, run.trainer.prompts_per_try), (77, 64));
        assert_eq!(run.trainer.run_dir, PathBuf::from("runs/run"));
        let sets = ["model.reference=elsewhere", "validation.max_new_tokens=9", "trainer.prompts_per_try=32"];
        let run = with_sets(&[&sets[..], &["trainer.run_dir=runs/2026-11-22"]].concat()).unwrap();
        assert_eq!(run.model.reference, PathBuf::from("elsewhere"));
        assert_eq!((run.validation.max_new_tokens, run.trainer.prompts_per_try), (9, 32));
        assert_eq!(run.trainer.run_dir, PathBuf::from("runs/2026-11-22"));
    }

    #[test]
    fn a_wrong_value_is_reported_where_it_was_given_not_where_it_is_a_default() {
        let message = with_text("[trainer]\nprompts_per_update = 'many'").unwrap_err();
        assert!(
            message.starts_with("configs/run.toml: `trainer.prompts_per_update` must be a whole number"),
            "{message}"
        );
        let message = with_text("[rollout]\nmax_new_tokens = -3").unwrap_err();
        assert!(message.starts_with("configs/run.toml: `rollout.max_new_tokens` must be"), "{message}");
        let message = RunConfig::parse("run.toml", "[model]\ncheckpoint = 3", &[], &[]).unwrap_err().to_string();
        assert_eq!(message, "run.toml: `model.checkpoint` must be a path in quotes, found the number 3");
    }

    #[test]
    fn environment_goes_over_the_file_and_set_over_both() {
        let environment: Vec<(String, String)> = [
            ("PERCEPT__ROLLOUT__TOP_P", "0.8"),
            ("PERCEPT__ROLLOUT__TEMPERATURE", "0.7"),
            ("PERCEPT__DATA__ON_BAD_ROW", "skip"),
            ("PERCEPT__DATA__CORRUPTION__KIND", "blank"),
            ("PERCEPT_GOLDEN", "goldens"),
            ("HOME", "somewhere"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let text = format!("{LEAST}[rollout]\ntop_p = 0.5\ntop_k = 3\ntemperature = 0.6");
        let run = RunConfig::parse("run.toml", &text, &environment, &strings(&["rollout.temperature=2"])).unwrap();
        assert_eq!((run.rollout.top_k, run.rollout.top_p, run.rollout.temperature), (3, 0.8, 2.0));
        assert_eq!(run.data.on_bad_row, OnBadRow::Skip);
        assert_eq!(kind_of(&run.data.corruption, "data.corruption").unwrap(), "blank");
    }

    #[test]
    fn unknown_keys_name_place_path_and_the_nearest() {
        assert_eq!(
            with_text("[rollout]\ntemprature = 1").unwrap_err(),
            "configs/run.toml: unknown key `rollout.temprature`; did you mean `rollout.temperature`?"
        );
        assert_eq!(
            with_sets(&["rollout.temprature=1"]).unwrap_err(),
            "--set rollout.temprature=1: unknown key `rollout.temprature`; did you mean `rollout.temperature`?"
        );
        let variable = [("PERCEPT__ROLOUT__TOP_P".to_owned(), "1".to_owned())];
        assert_eq!(
            RunConfig::parse("run.toml", LEAST, &variable, &[]).unwrap_err().to_string(),
            "environment variable PERCEPT__ROLOUT__TOP_P: unknown key `rolout`; did you mean `rollout`?"
        );
        assert_eq!(
            with_sets(&["learning_rate=1e-5"]).unwrap_err(),
            "--set learning_rate=1e-5: unknown key `learning_rate`; did you mean `optimizer.learning_rate`?"
        );
        assert_eq!(
            with_text("[trainer]\ntop_k = 1").unwrap_err(),
            "configs/run.toml: unknown key `trainer.top_k`; did you mean `rollout.top_k` or `validation.top_k`?"
        );
        assert_eq!(
            with_text("[sft.optimizer]\nlearning_rat = 1").unwrap_err(),
            "configs/run.toml: unknown key `sft.optimizer.learning_rat`; did you mean `sft.optimizer.learning_rate`?"
        );
        let message = with_text("[model.colour]").unwrap_err();
        assert_eq!(
            message,
            "configs/run.toml: unknown key `model.colour`; possible here: checkpoint, reference, offload_reference, freeze, \
             save_dtype, kept_features_mib, lora"
        );
        let message = with_text("[wandb]\nproject = 'x'").unwrap_err();
        assert!(message.contains("unknown key `wandb`; possible here: model, data, rollout, "), "{message}");
    }

    #[test]
    fn every_section_refuses_what_it_does_not_know() {
        let mut sections: Vec<String> =
            known_keys().iter().map(|key| key.split_once('.').unwrap().0.to_owned()).collect();
        sections.push("sft.optimizer".to_owned());
        sections.dedup();
        assert_eq!(sections.len(), 10);
        for section in sections {
            let message = with_sets(&[&format!("{section}.zzzzzz=1")]).unwrap_err();
            assert!(message.contains(&format!("unknown key `{section}.zzzzzz`; possible here: ")), "{message}");
        }
    }

    #[test]
    fn wrong_types_name_key_expected_and_found() {
        let cases = [
            ("rollout.top_k=many", "`rollout.top_k` must be a whole number, 0 or more, found the string \"many\""),
            ("rollout.top_k=2.5", "`rollout.top_k` must be a whole number, 0 or more, found the number 2.5"),
            ("rollout.temperature='1'", "`rollout.temperature` must be a number, found the string \"1\""),
            ("data.shuffle=1", "`data.shuffle` must be true or false, found the number 1"),
            ("rollout=5", "`rollout` must be a table, found the number 5"),
            ("objective=grpo", "`objective` must be a table, found the string \"grpo\""),
            ("model.freeze=visual.*", "`model.freeze` must be a list, found the string \"visual.*\""),
            ("reward.verifiers=['math']", "`reward.verifiers[0]` must be a table, found the string \"math\""),
            ("optimizer.betas=[0.9]", "`optimizer.betas` must be a list of 2 values, found the list [0.9]"),
            (
                "device.backend=cude",
                "`device.backend` cannot be \"cude\"; did you mean \"cuda\"? (possible: \"cpu\", \"auto\", \"cuda\", \
                 \"vulkan\", \"webgpu\", \"metal\", \"rocm\")",
            ),
            ("optimizer.kind=sgd", "`optimizer.kind` cannot be \"sgd\"; possible: \"adamw\""),
        ];
        for (set, expected) in cases {
            assert_eq!(with_sets(&[set]).unwrap_err(), format!("--set {set}: {expected}"));
        }
    }

    #[test]
    fn the_checkpoint_is_required() {
        let expected =
            "run.toml: key `model.checkpoint` is missing; write it in the file or give --set model.checkpoint=...";
        for text in ["", "[model]\nfreeze = []", "[data]\ntrain = 'x'"] {
            assert_eq!(RunConfig::parse("run.toml", text, &[], &[]).unwrap_err().to_string(), expected);
        }
        assert!(RunConfig::parse("run.toml", "", &[], &strings(&["model.checkpoint=tiny"])).is_ok());
    }

    #[test]
    fn a_section_of_another_owner_is_traced_too() {
        #[derive(Debug, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct Grpo {
            clip_low: f64,
            clip_high: f64,
        }
        impl Default for Grpo {
            fn default() -> Self {
                Self { clip_low: 0.2, clip_high: 0.3 }
            }
        }
        let run = with_text("[objective]\nkind = 'grpo'\nclip_low = 0.1").unwrap();
        let grpo: Grpo = run.section(&run.objective, "objective").unwrap();
        assert_eq!((grpo.clip_low, grpo.clip_high), (0.1, 0.3));
        let run = with_sets(&["objective.kind=grpo", "objective.clip_hi=0.3"]).unwrap();
        assert_eq!(
            run.section::<Grpo>(&run.objective, "objective").unwrap_err().to_string(),
            "--set objective.clip_hi=0.3: unknown key `objective.clip_hi`; did you mean `objective.clip_high`?"
        );
        let error = run.place(crate::unknown_kind("objective", "grpo", &["gspo"])).to_string();
        assert!(error.starts_with("--set objective.kind=grpo: `objective.kind` cannot be \"grpo\""), "{error}");
    }

    #[test]
    fn an_objective_with_keys_needs_its_kind() {
        assert_eq!(
            with_sets(&["objective.gamma=0.02"]).unwrap_err(),
            "run.toml: key `objective.kind` is missing; write it in the file or give \
             --set objective.kind=..."
        );
    }

    #[test]
    fn what_is_written_loads_unchanged() {
        let text = "[model]\ncheckpoint = 'a \"b\"'\nfreeze = ['visual.*']\nsave_dtype = 'bf16'\n[data]\ntrain = 'x'\n\
                    min_pixels = 'off'\nimage_root = 'pictures'\nformat_prompt = 'none'\n[data.corruption]\n\
                    kind = 'blank'\ncolor = 'mean'\n[optimizer]\nlearning_rate = 3.3e-7\nmax_grad_norm = inf\n\
                    [objective]\nkind = 'papo'\nbase = 'dapo'\ngamma = 0.01\n[trainer]\nsteps = 9\n\
                    [sft]\nsteps = 4\noptimizer = {schedule = 'cosine'}\n\
                    [[reward.verifiers]]\nname = 'mine'\nkind = 'command'\nprogram = ['a', 'b']\nweight = 1\n\
                    [validation]\nlimit = 5\n[device]\nthreads = 2\n[reward]\nworkers = 3";
        let text = text.replace("[reward]\nworkers = 3", "");
        let run = RunConfig::parse("configs/mine.toml", &text, &[], &strings(&["reward.workers=3"])).unwrap();
        let written = run.to_toml().unwrap();
        let again = RunConfig::parse("runs/mine/config.toml", &written, &[], &[]).unwrap();
        assert_eq!(again.to_toml().unwrap(), written);
        assert_eq!(again.model, run.model);
        assert_eq!(again.data, run.data);
        assert_eq!(again.reward, run.reward);
        assert_eq!(again.objective, run.objective);
        assert_eq!(again.optimizer, run.optimizer);
        assert_eq!(again.trainer, run.trainer);
        assert_eq!(again.sft, run.sft);
        assert_eq!(again.trainer.run_dir, PathBuf::from("runs/mine"));
        assert_eq!(again.data.min_pixels, None);
        assert_eq!(again.optimizer.max_grad_norm, f64::INFINITY);
    }

    #[test]
    fn every_key_is_written() {
        let written: Table = with_sets(&[]).unwrap().to_toml().unwrap().parse().unwrap();
        let optional = [
            "model.lora",
            "data.image_root",
            "validation.limit",
            "reward.workers",
            "trainer.steps",
            "sft.steps",
            "device.threads",
        ];
        for key in known_keys() {
            let (section, name) = key.split_once('.').unwrap();
            let is_there = written[section].get(name).is_some();
            assert_ne!(is_there, optional.contains(&key.as_str()), "{key}");
        }
    }

    #[test]
    fn files_are_read_and_missing_ones_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my_run.toml");
        fs::write(&path, LEAST).unwrap();
        let run = RunConfig::load(&path, &strings(&["trainer.seed=7"])).unwrap();
        assert_eq!((run.trainer.seed, run.trainer.run_dir), (7, PathBuf::from("runs/my_run")));
        let message = RunConfig::load("nowhere/run.toml", &[]).unwrap_err().to_string();
        assert!(message.starts_with("nowhere/run.toml: cannot read the run file: "), "{message}");
        assert!(message.contains("check the path"), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn variables_that_are_no_text_are_refused_when_they_are_ours() {
        use std::os::unix::ffi::OsStringExt;

        let broken = || OsString::from_vec(vec![b'a', 0xff]);
        let other = [(OsString::from("PATH"), broken())];
        assert_eq!(variables(other.into_iter()).unwrap(), []);
        let ours = [(OsString::from("PERCEPT__MODEL__CHECKPOINT"), broken())];
        let message = variables(ours.into_iter()).unwrap_err().to_string();
        assert!(message.starts_with("environment variable PERCEPT__MODEL__CHECKPOINT: it is not Unicode"), "{message}");
    }

    #[test]
    fn the_reference_runs_load_with_the_papers_coefficients() {
        // (method, size): gamma, entropy coefficient (both views). Table 6 of the paper.
        let table = [
            (("grpo", "3b"), None),
            (("grpo", "7b"), None),
            (("dapo", "3b"), None),
            (("dapo", "7b"), None),
            (("papo_g", "3b"), Some((0.02, 0.0))),
            (("papo_g", "7b"), Some((0.02, 0.05))),
            (("papo_d", "3b"), Some((0.01, 0.03))),
            (("papo_d", "7b"), Some((0.01, 0.03))),
        ];
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
        for ((method, size), coefficients) in table {
            let name = format!("qwen2_5_vl_{size}_{method}");
            let run = load_file(&folder.join(format!("{name}.toml")));
            assert_eq!(run.objective_kind().unwrap(), method);
            let number = |key: &str| run.objective.get(key).and_then(Value::as_float);
            assert_eq!(number("gamma"), coefficients.map(|(gamma, _)| gamma), "{name}");
            for key in ["entropy_coefficient", "masked_entropy_coefficient"] {
                assert_eq!(number(key), coefficients.map(|(_, entropy)| entropy), "{name} {key}");
            }
            let size = size.to_uppercase();
            assert_eq!(run.model.checkpoint, PathBuf::from(format!("checkpoints/Qwen2.5-VL-{size}-Instruct")));
            assert_eq!(run.trainer.run_dir, PathBuf::from(format!("runs/{name}")));
            assert_eq!(crate::BatchPlan::new(&run, 38_870).unwrap().total_steps, 202);
        }
    }

    #[test]
    fn every_run_in_the_repository_loads_and_is_written_unchanged() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut count = 0;
        for path in files.filter(|path| path.extension().is_some_and(|ending| ending == "toml")) {
            let written = load_file(&path).to_toml().unwrap();
            let again = RunConfig::parse("config.toml", &written, &[], &[]).unwrap();
            assert_eq!(again.to_toml().unwrap(), written, "{}", path.display());
            count += 1;
        }
        assert!(count >= 8, "only {count} runs in configs/");
    }

    /// Without the environment of whoever runs the tests.
    fn load_file(path: &Path) -> RunConfig {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        RunConfig::parse(&path.display().to_string(), &text, &[], &[]).unwrap_or_else(|error| panic!("{error}"))
    }
}
