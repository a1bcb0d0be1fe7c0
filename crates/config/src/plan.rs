//! What the configuration comes to: how many prompts, responses, updates and steps.

use std::fmt;

use crate::error::ConfigError;
use crate::run::RunConfig;

/// The derived numbers of a training run, as `--dry-run` prints them.
///
/// Steps are counted on the rows there are. An objective that turns groups away takes more rows for the same steps.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchPlan {
    /// Rows of training data.
    pub rows: u64,
    /// Prompts collected for a step.
    pub prompts_per_step: u64,
    /// Responses of a step: prompts times group size.
    pub responses_per_step: u64,
    /// Optimizer updates of a step.
    pub updates_per_step: u64,
    /// Prompts of an update.
    pub prompts_per_update: u64,
    /// Responses of an update.
    pub responses_per_update: u64,
    /// Micro-batches of an update when every prompt and response is as long as it may be; shorter ones make fewer. Nothing where their size
    /// is yet to be chosen.
    pub max_micro_batches_per_update: Option<u64>,
    /// Whole steps that the rows are enough for; what is left over is a part of no step.
    pub steps_per_epoch: u64,
    /// Steps of the run.
    pub total_steps: u64,
    /// Optimizer updates of the run.
    pub total_updates: u64,
    /// Passes over the rows that the steps come to.
    pub epochs: f64,
}

impl BatchPlan {
    /// The numbers for a data set of `rows` rows.
    ///
    /// # Errors
    /// The rows are not enough for one step and `trainer.steps` is not given, or the warm-up does not end within the run.
    pub fn new(run: &RunConfig, rows: u64) -> Result<Self, ConfigError> {
        let prompts_per_step = run.rollout.prompts_per_step as u64;
        let prompts_per_update = run.trainer.prompts_per_update as u64;
        let group = run.rollout.responses_per_prompt as u64;
        let lengths =
            Lengths::of(run, "trainer.steps", run.trainer.steps, run.trainer.epochs, rows, STEP, prompts_per_step)?;
        lengths.check_warmup(run, "optimizer.warmup_steps", run.optimizer.warmup_steps as u64)?;
        let updates_per_step = prompts_per_step / prompts_per_update;
        Ok(Self {
            rows,
            prompts_per_step,
            responses_per_step: prompts_per_step.saturating_mul(group),
            updates_per_step,
            prompts_per_update,
            responses_per_update: prompts_per_update.saturating_mul(group),
            max_micro_batches_per_update: max_micro_batches(run),
            steps_per_epoch: lengths.steps_per_epoch,
            total_steps: lengths.total_steps,
            total_updates: lengths.total_steps.saturating_mul(updates_per_step),
            epochs: lengths.epochs(rows, prompts_per_step),
        })
    }
}

impl fmt::Display for BatchPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "step:   {} prompts, {} responses, {} updates",
            self.prompts_per_step, self.responses_per_step, self.updates_per_step
        )?;
        write!(f, "update: {} prompts, {} responses, ", self.prompts_per_update, self.responses_per_update)?;
        match self.max_micro_batches_per_update {
            Some(count) => writeln!(f, "at most {count} micro-batches")?,
            None => writeln!(f, "micro-batches as large as memory allows")?,
        }
        write!(
            f,
            "run:    {} steps, {} updates, {:.2} epochs of {} rows ({} steps each)",
            self.total_steps, self.total_updates, self.epochs, self.rows, self.steps_per_epoch
        )
    }
}

/// The derived numbers of a warm start.
#[derive(Clone, Debug, PartialEq)]
pub struct SftPlan {
    /// Rows of training data.
    pub rows: u64,
    /// Rows of a step, which is one optimizer update.
    pub rows_per_step: u64,
    /// Whole steps that the rows are enough for.
    pub steps_per_epoch: u64,
    /// Steps of the warm start.
    pub total_steps: u64,
    /// Passes over the rows that the steps come to.
    pub epochs: f64,
}

impl SftPlan {
    /// The numbers for a data set of `rows` rows.
    ///
    /// # Errors
    /// As [`BatchPlan::new`], for `sft.steps` and `sft.optimizer.warmup_steps`.
    pub fn new(run: &RunConfig, rows: u64) -> Result<Self, ConfigError> {
        let rows_per_step = run.sft.rows_per_step as u64;
        let lengths =
            Lengths::of(run, "sft.steps", run.sft.steps, run.sft.epochs, rows, "sft.rows_per_step", rows_per_step)?;
        lengths.check_warmup(run, "sft.optimizer.warmup_steps", run.sft.optimizer.warmup_steps as u64)?;
        Ok(Self {
            rows,
            rows_per_step,
            steps_per_epoch: lengths.steps_per_epoch,
            total_steps: lengths.total_steps,
            epochs: lengths.epochs(rows, rows_per_step),
        })
    }
}

impl fmt::Display for SftPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "warm start: {} steps of {} rows, {:.2} epochs of {} rows ({} steps each)",
            self.total_steps, self.rows_per_step, self.epochs, self.rows, self.steps_per_epoch
        )
    }
}

const STEP: &str = "rollout.prompts_per_step";

/// How long a run is.
struct Lengths<'a> {
    steps_key: &'a str,
    steps_per_epoch: u64,
    total_steps: u64,
}

impl<'a> Lengths<'a> {
    fn of(
        run: &RunConfig,
        steps_key: &'a str,
        steps: Option<u64>,
        epochs: u64,
        rows: u64,
        portion_key: &str,
        portion: u64,
    ) -> Result<Self, ConfigError> {
        let steps_per_epoch = rows / portion;
        if rows == 0 {
            let origin = run.origins.or_default("data.train").to_owned();
            let (expected, found) = ("data with at least one usable row".to_owned(), "no rows".to_owned());
            return Err(ConfigError::WrongValue { origin, key: "data.train".to_owned(), expected, found });
        }
        let total_steps = match steps {
            Some(steps) => steps,
            None if steps_per_epoch == 0 => {
                return Err(run.contradiction(
                    &[(portion_key, &portion), ("data.train", &format!("{rows} rows"))],
                    "an epoch has not enough rows for one step",
                    &format!("set {portion_key} = {rows} or less, or say how long the run is with {steps_key}"),
                ));
            }
            None => steps_per_epoch.saturating_mul(epochs),
        };
        Ok(Self { steps_key, steps_per_epoch, total_steps })
    }

    fn epochs(&self, rows: u64, portion: u64) -> f64 {
        self.total_steps as f64 * portion as f64 / rows as f64
    }

    fn check_warmup(&self, run: &RunConfig, key: &str, warmup: u64) -> Result<(), ConfigError> {
        if warmup <= self.total_steps {
            return Ok(());
        }
        Err(run.contradiction(
            &[(key, &warmup), (self.steps_key, &self.total_steps)],
            "the run ends before the learning rate has reached its peak",
            &format!("set {key} = {} or less, or make the run longer", self.total_steps),
        ))
    }
}

/// Micro-batches of an update whose prompts and responses are all as long as allowed. A group stays together when it
/// fits; otherwise its responses are spread over several micro-batches, each with the prompt.
fn max_micro_batches(run: &RunConfig) -> Option<u64> {
    let budget = run.trainer.micro_tokens.count()? as u64;
    let (prompt, response) = (run.data.max_prompt_tokens as u64, run.rollout.max_new_tokens as u64);
    let group = run.rollout.responses_per_prompt as u64;
    let prompts = run.trainer.prompts_per_update as u64;
    let longest_group = prompt.saturating_add(group.saturating_mul(response));
    if longest_group <= budget {
        return Some(prompts.div_ceil(budget / longest_group));
    }
    let responses_that_fit = (budget.saturating_sub(prompt) / response).max(1);
    Some(prompts.saturating_mul(group.div_ceil(responses_that_fit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> RunConfig {
        RunConfig::parse("run.toml", &format!("model.checkpoint = 'm'\n{text}"), &[], &[]).unwrap()
    }

    #[test]
    fn the_papers_numbers() {
        // 38,870 rows of ViRL39K: 101 steps an epoch, 202 in all, three updates each.
        let plan = BatchPlan::new(&run(""), 38_870).unwrap();
        let expected = BatchPlan {
            rows: 38_870,
            prompts_per_step: 384,
            responses_per_step: 1920,
            updates_per_step: 3,
            prompts_per_update: 128,
            responses_per_update: 640,
            max_micro_batches_per_update: Some(128),
            steps_per_epoch: 101,
            total_steps: 202,
            total_updates: 606,
            epochs: 202.0 * 384.0 / 38_870.0,
        };
        assert_eq!(plan, expected);
        assert_eq!(
            plan.to_string(),
            "step:   384 prompts, 1920 responses, 3 updates\n\
             update: 128 prompts, 640 responses, at most 128 micro-batches\n\
             run:    202 steps, 606 updates, 2.00 epochs of 38870 rows (101 steps each)"
        );
    }

    #[test]
    fn steps_go_before_epochs() {
        let plan = BatchPlan::new(&run("trainer.steps = 7"), 100).unwrap();
        assert_eq!((plan.steps_per_epoch, plan.total_steps, plan.total_updates), (0, 7, 21));
        assert_eq!(plan.epochs, 26.88);
    }

    #[test]
    fn micro_batches_by_the_longest_groups() {
        let micro = |budget: usize| {
            let text = format!(
                "data.max_prompt_tokens = 100\nrollout = {{max_new_tokens = 20, prompts_per_step = 8}}\n\
                 trainer = {{prompts_per_update = 8, micro_tokens = {budget}}}"
            );
            BatchPlan::new(&run(&text), 100).unwrap().max_micro_batches_per_update.unwrap()
        };
        // A group is 100 + 5 * 20 = 200 tokens at most.
        assert_eq!(micro(1600), 1);
        assert_eq!(micro(400), 4);
        assert_eq!(micro(599), 4);
        assert_eq!(micro(600), 3);
        assert_eq!(micro(200), 8);
        // 199 tokens hold the prompt and 4 responses: two pieces. 120 hold it and one response: five.
        assert_eq!(micro(199), 16);
        assert_eq!(micro(120), 40);
        let chosen = BatchPlan::new(&run("trainer.micro_tokens = 'auto'\ntrainer.steps = 1"), 100).unwrap();
        assert!(chosen.to_string().contains("micro-batches as large as memory allows"), "{chosen}");
    }

    #[test]
    fn too_few_rows_are_a_contradiction() {
        let message = BatchPlan::new(&run(""), 100).unwrap_err().to_string();
        assert_eq!(
            message,
            "rollout.prompts_per_step = 384 (default) and data.train = 100 rows (default): an epoch has not enough rows \
             for one step; set rollout.prompts_per_step = 100 or less, or say how long the run is with trainer.steps"
        );
        let message = BatchPlan::new(&run("trainer.steps = 3"), 0).unwrap_err().to_string();
        assert_eq!(message, "default: `data.train` must be data with at least one usable row, found no rows");
    }

    #[test]
    fn a_warm_up_ends_within_the_run() {
        let run = run("optimizer.warmup_steps = 10\ntrainer.steps = 5");
        assert_eq!(
            BatchPlan::new(&run, 1000).unwrap_err().to_string(),
            "optimizer.warmup_steps = 10 (run.toml) and trainer.steps = 5 (run.toml): the run ends before the learning \
             rate has reached its peak; set optimizer.warmup_steps = 5 or less, or make the run longer"
        );
    }

    #[test]
    fn warm_start_steps() {
        let plan = SftPlan::new(&run("sft.epochs = 3"), 100).unwrap();
        assert_eq!((plan.steps_per_epoch, plan.total_steps, plan.epochs), (6, 18, 2.88));
        assert_eq!(plan.to_string(), "warm start: 18 steps of 16 rows, 2.88 epochs of 100 rows (6 steps each)");
        assert_eq!(SftPlan::new(&run("sft.steps = 400"), 10).unwrap().total_steps, 400);
        assert!(SftPlan::new(&run(""), 10).unwrap_err().to_string().contains("sft.rows_per_step = 16"));
    }
}
