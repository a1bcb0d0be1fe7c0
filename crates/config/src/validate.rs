//! What the types cannot say: ranges, and values that must agree with each other.

use std::fmt::Display;

use toml::Table;

use crate::error::ConfigError;
use crate::optimizer::OptimizerConfig;
use crate::run::RunConfig;
use crate::section::kind_of;
use crate::strict::{describe, join};
use crate::suggest::nearest;

/// Divisors tried for a suggestion, so that a mistyped, huge number does not keep the user waiting.
const SEARCHED: usize = 1 << 20;
/// The name under which the weighted sum of all verifiers is known.
const WEIGHTED_SUM: &str = "overall";

impl RunConfig {
    /// Check ranges, and that values agree. [`RunConfig::load`] has done so; call it again after changing fields.
    ///
    /// # Errors
    /// The first value that is out of range, or the first contradiction, with the values and a way out.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.check_model_and_data()?;
        self.check_sampling()?;
        self.check_rewards()?;
        self.check_optimizer("optimizer", &self.optimizer)?;
        self.check_optimizer("sft.optimizer", &self.sft.optimizer)?;
        self.check_lengths()?;
        self.check_portions()?;
        self.check_tokens()?;
        self.objective_kind().map(drop)
    }

    fn check_model_and_data(&self) -> Result<(), ConfigError> {
        let model = &self.model;
        self.filled("model.checkpoint", &model.checkpoint.to_string_lossy())?;
        self.filled("model.reference", &model.reference.to_string_lossy())?;
        for (index, pattern) in model.freeze.iter().enumerate() {
            self.filled(&format!("model.freeze[{index}]"), pattern)?;
        }
        if let Some(lora) = &model.lora {
            self.at_least_one("model.lora.rank", lora.rank as u64)?;
            self.in_range("model.lora.alpha", lora.alpha, lora.alpha > 0.0, "more than 0")?;
            let dropout = lora.dropout;
            self.in_range("model.lora.dropout", dropout, (0.0..1.0).contains(&dropout), "from 0 to below 1")?;
            self.at_least_one("model.lora.targets", lora.targets.len() as u64)?;
        }
        let data = &self.data;
        for (key, paths) in [("data.train", &data.train), ("data.validation", &data.validation)] {
            for (index, path) in paths.iter().enumerate() {
                self.filled(&format!("{key}[{index}]"), &path.to_string_lossy())?;
            }
        }
        self.filled("data.problem_column", &data.problem_column)?;
        self.filled("data.answer_column", &data.answer_column)?;
        self.filled("data.solution_column", &data.solution_column)?;
        self.filled("data.format_prompt", &String::from(data.format_prompt.clone()))?;
        self.at_least_one("data.max_prompt_tokens", data.max_prompt_tokens as u64)?;
        self.at_least_one("data.max_picture_pixels", data.max_picture_pixels)?;
        if let (Some(min), Some(max)) = (data.min_pixels, data.max_pixels)
            && min > max
        {
            return Err(self.contradiction(
                &[("data.min_pixels", &min), ("data.max_pixels", &max)],
                "no picture has at least the first and at most the second",
                "swap them, or switch one off with \"off\"",
            ));
        }
        kind_of(&data.corruption, "data.corruption").map(drop).map_err(|error| self.place(error))
    }

    fn check_sampling(&self) -> Result<(), ConfigError> {
        let rollout = &self.rollout;
        self.at_least_one("rollout.prompts_per_step", rollout.prompts_per_step as u64)?;
        self.in_range(
            "rollout.responses_per_prompt",
            rollout.responses_per_prompt,
            rollout.responses_per_prompt >= 2,
            "2 or more: an advantage compares the responses of one group",
        )?;
        let expected = "more than 0 and finite: log-probabilities are taken at this temperature";
        let temperature = rollout.temperature;
        self.in_range("rollout.temperature", temperature, temperature > 0.0 && temperature.is_finite(), expected)?;
        self.at_least_one("rollout.max_new_tokens", rollout.max_new_tokens as u64)?;
        self.at_least_one("rollout.max_rows", rollout.max_rows as u64)?;
        self.check_truncation("rollout", rollout.top_p, rollout.min_p)?;

        let validation = &self.validation;
        self.at_least_one("validation.responses_per_prompt", validation.responses_per_prompt as u64)?;
        let temperature = validation.temperature;
        let usable = temperature >= 0.0 && temperature.is_finite();
        self.in_range("validation.temperature", temperature, usable, "0 (greedy) or more, and finite")?;
        self.at_least_one("validation.max_new_tokens", validation.max_new_tokens as u64)?;
        if let Some(limit) = validation.limit {
            self.at_least_one("validation.limit", limit as u64)?;
        }
        self.check_truncation("validation", validation.top_p, validation.min_p)?;
        if temperature == 0.0 && validation.responses_per_prompt > 1 {
            return Err(self.contradiction(
                &[
                    ("validation.temperature", &temperature),
                    ("validation.responses_per_prompt", &validation.responses_per_prompt),
                ],
                "greedy decoding gives the same response every time",
                "set validation.responses_per_prompt = 1",
            ));
        }
        Ok(())
    }

    fn check_truncation(&self, section: &str, top_p: f64, min_p: f64) -> Result<(), ConfigError> {
        let expected = "more than 0 and at most 1 (1 is off)";
        self.in_range(&join(section, "top_p"), top_p, top_p > 0.0 && top_p <= 1.0, expected)?;
        let expected = "0 (off) or more and less than 1";
        self.in_range(&join(section, "min_p"), min_p, (0.0..1.0).contains(&min_p), expected)
    }

    fn check_rewards(&self) -> Result<(), ConfigError> {
        let reward = &self.reward;
        let seconds = reward.timeout_seconds;
        let usable = seconds > 0.0 && seconds.is_finite();
        self.in_range("reward.timeout_seconds", seconds, usable, "more than 0 and finite")?;
        if let Some(workers) = reward.workers {
            self.at_least_one("reward.workers", workers as u64)?;
        }
        if reward.verifiers.is_empty() {
            return Err(self.out_of_range("reward.verifiers", "a list of at least one verifier", "an empty list"));
        }
        for (index, verifier) in reward.verifiers.iter().enumerate() {
            self.check_verifier(&format!("reward.verifiers[{index}]"), verifier)?;
        }
        let names: Vec<&str> = reward.names().collect();
        for (index, name) in names.iter().enumerate() {
            if names[..index].contains(name) {
                let key = format!("reward.verifiers[{index}].name");
                return Err(self.out_of_range(&key, "a name that no other verifier has", &format!("{name:?} again")));
            }
        }
        self.check_filter_key(&names)
    }

    fn check_verifier(&self, key: &str, verifier: &Table) -> Result<(), ConfigError> {
        kind_of(verifier, key).map_err(|error| self.place(error))?;
        let name = join(key, "name");
        match verifier.get("name") {
            None => return Err(self.place(ConfigError::Missing { origin: String::new(), key: name })),
            Some(value) => match value.as_str() {
                Some(text) if !text.is_empty() && text != WEIGHTED_SUM => {}
                _ => {
                    let expected = format!("a name in quotes, not empty and not \"{WEIGHTED_SUM}\" (the weighted sum)");
                    return Err(self.out_of_range(&name, &expected, &describe(value)));
                }
            },
        }
        let Some(weight) = verifier.get("weight") else { return Ok(()) };
        let number = weight.as_float().or_else(|| weight.as_integer().map(|whole| whole as f64));
        if number.is_some_and(f64::is_finite) {
            return Ok(());
        }
        Err(self.out_of_range(&join(key, "weight"), "a finite number", &describe(weight)))
    }

    /// An objective that filters groups by one verifier's score must find that verifier.
    fn check_filter_key(&self, names: &[&str]) -> Result<(), ConfigError> {
        let Some(filter_key) = self.objective.get("filter_key").and_then(|value| value.as_str()) else { return Ok(()) };
        if filter_key == WEIGHTED_SUM || names.contains(&filter_key) {
            return Ok(());
        }
        let near = nearest(filter_key, names.iter().copied().chain([WEIGHTED_SUM])).unwrap_or(WEIGHTED_SUM);
        Err(self.contradiction(
            &[("objective.filter_key", &format!("{filter_key:?}")), ("reward.verifiers", &names.join(", "))],
            "no verifier has that name",
            &format!("set objective.filter_key = {near:?}"),
        ))
    }

    fn check_optimizer(&self, section: &str, optimizer: &OptimizerConfig) -> Result<(), ConfigError> {
        let key = |name: &str| join(section, name);
        let positive = |number: f64| number > 0.0 && number.is_finite();
        let expected = "more than 0 and finite";
        self.in_range(&key("learning_rate"), optimizer.learning_rate, positive(optimizer.learning_rate), expected)?;
        self.in_range(&key("eps"), optimizer.eps, positive(optimizer.eps), expected)?;
        for (index, beta) in optimizer.betas.into_iter().enumerate() {
            let name = format!("betas[{index}]");
            self.in_range(&key(&name), beta, (0.0..1.0).contains(&beta), "0 or more and less than 1")?;
        }
        let decay = optimizer.weight_decay;
        self.in_range(&key("weight_decay"), decay, decay >= 0.0 && decay.is_finite(), "0 or more and finite")?;
        let norm = optimizer.max_grad_norm;
        self.in_range(&key("max_grad_norm"), norm, norm > 0.0, "more than 0 (inf is off)")?;
        let ratio = optimizer.final_ratio;
        self.in_range(&key("final_ratio"), ratio, (0.0..=1.0).contains(&ratio), "from 0 to 1")
    }

    fn check_lengths(&self) -> Result<(), ConfigError> {
        self.at_least_one("trainer.epochs", self.trainer.epochs)?;
        self.at_least_one("sft.epochs", self.sft.epochs)?;
        for (key, steps) in [("trainer.steps", self.trainer.steps), ("sft.steps", self.sft.steps)] {
            if let Some(steps) = steps {
                self.at_least_one(key, steps)?;
            }
        }
        self.at_least_one("trainer.max_nonfinite_updates", self.trainer.max_nonfinite_updates as u64)?;
        let limit = self.trainer.log_ratio_limit;
        self.in_range("trainer.log_ratio_limit", limit, limit > 0.0, "more than 0")?;
        self.filled("trainer.run_dir", &self.trainer.run_dir.to_string_lossy())?;
        if let Some(threads) = self.device.threads {
            self.at_least_one("device.threads", threads as u64)?;
        }
        Ok(())
    }

    fn check_portions(&self) -> Result<(), ConfigError> {
        let trainer = &self.trainer;
        self.at_least_one("trainer.prompts_per_update", trainer.prompts_per_update as u64)?;
        self.at_least_one("trainer.prompts_per_try", trainer.prompts_per_try as u64)?;
        self.at_least_one("trainer.micro_tokens", trainer.micro_tokens.count().map_or(1, |count| count as u64))?;
        self.at_least_one("sft.rows_per_step", self.sft.rows_per_step as u64)?;
        let (collected, updated) = (self.rollout.prompts_per_step, trainer.prompts_per_update);
        let step = ("rollout.prompts_per_step", &collected as &dyn Display);
        if collected % updated != 0 {
            let multiple = collected.div_ceil(updated).saturating_mul(updated);
            let divisor =
                (1..=updated.min(collected)).rev().take(SEARCHED).find(|divisor| collected % divisor == 0).unwrap_or(1);
            return Err(self.contradiction(
                &[step, ("trainer.prompts_per_update", &updated)],
                "a step must be a whole number of updates",
                &format!("set rollout.prompts_per_step = {multiple} or trainer.prompts_per_update = {divisor}"),
            ));
        }
        let (tries, portion) = (trainer.max_tries, trainer.prompts_per_try);
        if tries > 0 && tries.saturating_mul(portion) < collected {
            return Err(self.contradiction(
                &[step, ("trainer.max_tries", &tries), ("trainer.prompts_per_try", &portion)],
                "so many tries cannot fill a step even when every group is admitted",
                &format!(
                    "set trainer.prompts_per_try = {} or more, or trainer.max_tries = 0",
                    collected.div_ceil(tries)
                ),
            ));
        }
        Ok(())
    }

    fn check_tokens(&self) -> Result<(), ConfigError> {
        let (prompt, response) = (self.data.max_prompt_tokens, self.rollout.max_new_tokens);
        let longest = prompt.saturating_add(response);
        let micro_tokens = self.trainer.micro_tokens.count().unwrap_or(longest);
        if longest > micro_tokens {
            return Err(self.contradiction(
                &[
                    ("trainer.micro_tokens", &micro_tokens),
                    ("data.max_prompt_tokens", &prompt),
                    ("rollout.max_new_tokens", &response),
                ],
                "the longest prompt with one response does not fit into a micro-batch",
                &format!("set trainer.micro_tokens = {longest} or more, or allow shorter prompts or responses"),
            ));
        }
        Ok(())
    }

    fn filled(&self, key: &str, text: &str) -> Result<(), ConfigError> {
        if text.is_empty() { Err(self.out_of_range(key, "something", "an empty string")) } else { Ok(()) }
    }

    fn at_least_one(&self, key: &str, count: u64) -> Result<(), ConfigError> {
        self.in_range(key, count, count > 0, "1 or more")
    }

    fn in_range(&self, key: &str, found: impl Display, holds: bool, expected: &str) -> Result<(), ConfigError> {
        if holds { Ok(()) } else { Err(self.out_of_range(key, expected, &found.to_string())) }
    }

    fn out_of_range(&self, key: &str, expected: &str, found: &str) -> ConfigError {
        // One path instead of a list is traced under the list's own key.
        let whole = key.rsplit_once('[').map_or(key, |(list, _)| list);
        let origin = self.origins.of(key).unwrap_or_else(|| self.origins.or_default(whole));
        ConfigError::WrongValue {
            origin: origin.to_owned(),
            key: key.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        }
    }

    /// Values that cannot hold together, each with where it came from.
    pub(crate) fn contradiction(&self, values: &[(&str, &dyn Display)], reason: &str, advice: &str) -> ConfigError {
        let shown = |(key, value): &(&str, &dyn Display)| format!("{key} = {value} ({})", self.origins.or_default(key));
        ConfigError::Contradiction {
            values: values.iter().map(shown).collect::<Vec<_>>().join(" and "),
            reason: reason.to_owned(),
            advice: advice.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::RunConfig;

    fn message(sets: &[&str]) -> String {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        match RunConfig::parse("run.toml", "model.checkpoint = 'm'", &[], &sets) {
            Ok(_) => panic!("{sets:?} was accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn values_out_of_range_name_key_expected_and_found() {
        let cases = [
            (
                "rollout.temperature=0",
                "more than 0 and finite: log-probabilities are taken at this temperature, found 0",
            ),
            (
                "rollout.temperature=nan",
                "more than 0 and finite: log-probabilities are taken at this temperature, found NaN",
            ),
            ("rollout.top_p=0", "more than 0 and at most 1 (1 is off), found 0"),
            ("rollout.top_p=1.5", "more than 0 and at most 1 (1 is off), found 1.5"),
            ("rollout.top_p=nan", "more than 0 and at most 1 (1 is off), found NaN"),
            ("rollout.min_p=1", "0 (off) or more and less than 1, found 1"),
            ("rollout.responses_per_prompt=1", "2 or more: an advantage compares the responses of one group, found 1"),
            ("rollout.prompts_per_step=0", "1 or more, found 0"),
            ("rollout.max_new_tokens=0", "1 or more, found 0"),
            ("rollout.max_rows=0", "1 or more, found 0"),
            ("validation.temperature=-1", "0 (greedy) or more, and finite, found -1"),
            ("validation.top_p=2", "more than 0 and at most 1 (1 is off), found 2"),
            ("validation.min_p=-0.1", "0 (off) or more and less than 1, found -0.1"),
            ("validation.responses_per_prompt=0", "1 or more, found 0"),
            ("validation.limit=0", "1 or more, found 0"),
            ("reward.timeout_seconds=0", "more than 0 and finite, found 0"),
            ("reward.workers=0", "1 or more, found 0"),
            ("reward.verifiers=[]", "a list of at least one verifier, found an empty list"),
            ("optimizer.learning_rate=0", "more than 0 and finite, found 0"),
            ("sft.optimizer.learning_rate=-1", "more than 0 and finite, found -1"),
            ("optimizer.eps=0", "more than 0 and finite, found 0"),
            ("optimizer.weight_decay=-0.5", "0 or more and finite, found -0.5"),
            ("optimizer.max_grad_norm=0", "more than 0 (inf is off), found 0"),
            ("optimizer.final_ratio=1.5", "from 0 to 1, found 1.5"),
            ("trainer.epochs=0", "1 or more, found 0"),
            ("trainer.steps=0", "1 or more, found 0"),
            ("trainer.prompts_per_update=0", "1 or more, found 0"),
            ("trainer.prompts_per_try=0", "1 or more, found 0"),
            ("trainer.micro_tokens=0", "1 or more, found 0"),
            ("trainer.micro_tokens=\"most\"", "a number of tokens or \"auto\", found the string \"most\""),
            ("trainer.micro_tokens=-4", "a number of tokens or \"auto\", found the number -4"),
            ("trainer.max_nonfinite_updates=0", "1 or more, found 0"),
            ("sft.rows_per_step=0", "1 or more, found 0"),
            ("sft.epochs=0", "1 or more, found 0"),
            ("data.max_prompt_tokens=0", "1 or more, found 0"),
            ("data.max_picture_pixels=0", "1 or more, found 0"),
            ("data.problem_column=\"\"", "something, found an empty string"),
            ("device.threads=0", "1 or more, found 0"),
        ];
        for (set, expected) in cases {
            let key = set.split_once('=').unwrap().0;
            assert_eq!(message(&[set]), format!("--set {set}: `{key}` must be {expected}"));
        }
    }

    #[test]
    fn entries_of_lists_are_named() {
        let betas = message(&["optimizer.betas=[0.9, 1]"]);
        assert_eq!(
            betas,
            "--set optimizer.betas=[0.9, 1]: `optimizer.betas[1]` must be 0 or more and less than 1, found 1"
        );
        let train = message(&["data.train=\"\""]);
        assert_eq!(train, "--set data.train=\"\": `data.train[0]` must be something, found an empty string");
    }

    #[test]
    fn a_step_is_a_whole_number_of_updates() {
        assert_eq!(
            message(&["rollout.prompts_per_step=100"]),
            "rollout.prompts_per_step = 100 (--set rollout.prompts_per_step=100) and trainer.prompts_per_update = 128 \
             (default): a step must be a whole number of updates; set rollout.prompts_per_step = 128 or \
             trainer.prompts_per_update = 100"
        );
        let uneven = message(&["trainer.prompts_per_update=100"]);
        assert!(uneven.ends_with("set rollout.prompts_per_step = 400 or trainer.prompts_per_update = 96"), "{uneven}");
    }

    #[test]
    fn tries_can_fill_a_step() {
        assert_eq!(
            message(&["trainer.prompts_per_try=10"]),
            "rollout.prompts_per_step = 384 (default) and trainer.max_tries = 20 (default) and trainer.prompts_per_try = \
             10 (--set trainer.prompts_per_try=10): so many tries cannot fill a step even when every group is admitted; \
             set trainer.prompts_per_try = 20 or more, or trainer.max_tries = 0"
        );
        let sets = ["trainer.prompts_per_try=10", "trainer.max_tries=0"].map(str::to_owned);
        assert!(RunConfig::parse("run.toml", "model.checkpoint = 'm'", &[], &sets).is_ok());
    }

    #[test]
    fn a_micro_batch_holds_the_longest_row() {
        assert_eq!(
            message(&["trainer.micro_tokens=6143"]),
            "trainer.micro_tokens = 6143 (--set trainer.micro_tokens=6143) and data.max_prompt_tokens = 4096 (default) \
             and rollout.max_new_tokens = 2048 (default): the longest prompt with one response does not fit into a \
             micro-batch; set trainer.micro_tokens = 6144 or more, or allow shorter prompts or responses"
        );
        let sets = ["trainer.micro_tokens=6144".to_owned()];
        assert!(RunConfig::parse("run.toml", "model.checkpoint = 'm'", &[], &sets).is_ok());
    }

    #[test]
    fn pixel_bounds_and_greedy_validation() {
        let pixels = message(&["data.min_pixels=20", "data.max_pixels=10"]);
        assert!(
            pixels.starts_with("data.min_pixels = 20 (--set data.min_pixels=20) and data.max_pixels = 10"),
            "{pixels}"
        );
        let greedy = message(&["validation.temperature=0"]);
        assert_eq!(
            greedy,
            "validation.temperature = 0 (--set validation.temperature=0) and validation.responses_per_prompt = 8 \
             (default): greedy decoding gives the same response every time; set validation.responses_per_prompt = 1"
        );
    }

    #[test]
    fn verifiers_have_names_and_kinds_of_their_own() {
        let verifiers = |list: &str| message(&[&format!("reward.verifiers={list}")]);
        assert!(verifiers("[{name='a'}]").contains("key `reward.verifiers[0].kind` is missing"));
        assert!(verifiers("[{kind='math'}]").contains("key `reward.verifiers[0].name` is missing"));
        assert!(
            verifiers("[{kind='math', name=3}]")
                .contains("`reward.verifiers[0].name` must be a name in quotes, not empty")
        );
        assert!(
            verifiers("[{kind='math', name='overall'}]").contains("(the weighted sum), found the string \"overall\"")
        );
        let weight = verifiers("[{kind='math', name='a', weight='x'}]");
        assert!(weight.contains("`reward.verifiers[0].weight` must be a finite number, found the string"), "{weight}");
        let twice = verifiers("[{kind='math', name='a'}, {kind='exact', name='a'}]");
        assert!(twice.contains("`reward.verifiers[1].name` must be a name that no other verifier has"), "{twice}");
    }

    #[test]
    fn groups_are_filtered_by_a_verifier_that_is_there() {
        assert_eq!(
            message(&["objective.kind=dapo", "objective.filter_key=acuracy"]),
            "objective.filter_key = \"acuracy\" (--set objective.filter_key=acuracy) and reward.verifiers = accuracy, \
             format (default): no verifier has that name; set objective.filter_key = \"accuracy\""
        );
    }

    #[test]
    fn data_without_pictures_have_no_column_for_them() {
        let run = |key: &str| RunConfig::parse("run.toml", "model.checkpoint = 'm'", &[], &[format!("data.{key}=''")]);
        assert_eq!(run("image_column").unwrap().data.image_column, "");
        assert!(run("answer_column").unwrap_err().to_string().contains("must be something, found an empty string"));
    }

    #[test]
    fn a_corruption_has_a_kind() {
        assert!(message(&["data.corruption.probability=0.4"]).contains("key `data.corruption.kind` is missing"));
    }
}
