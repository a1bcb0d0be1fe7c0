//! Memory that runs out in the middle of a step: it is done again with less at once, and comes to the same.

use crate::tiny::{host, policy, prompts};
use burn::tensor::{Device, Tensor};
use percept_algorithms::{Grpo, GrpoConfig};
use percept_core::{Decoder, FrozenPolicy, Parameter, Policy, ScoreRequest, ScoringGroup, Tape, Task};
use percept_models::qwen2_5_vl::Qwen25Vl;
use percept_ops::MomentType;
use percept_rollout::InProcess;
use percept_trainer::{
    Grade, Grader, KeptWeights, Metrics, OptimizerSettings, Outcome, Reference, RolloutSettings, Run, Settings, State,
    TaskSource, TrainError, ValidationSettings, find_resume,
};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A policy on a device that holds only so many tokens or rows at once, and says so as cubecl does.
struct Cramped {
    inner: Box<dyn Policy>,
    tokens: usize,
    rows: usize,
}

impl Cramped {
    fn room_for(&self, groups: &[ScoringGroup]) {
        let own = |group: &ScoringGroup| group.responses.iter().map(|response| response.len() - 1).sum::<usize>();
        let tokens: usize = groups.iter().map(|group| group.prompt.tokens.len() + own(group)).sum();
        assert!(tokens <= self.tokens, "Server error\nout of device memory allocating {tokens} bytes\nbacktrace");
    }
}

impl Policy for Cramped {
    fn device(&self) -> Device {
        self.inner.device()
    }
    fn vocabulary(&self) -> usize {
        self.inner.vocabulary()
    }
    fn parameters(&self) -> Vec<&Parameter> {
        self.inner.parameters()
    }
    fn parameters_mut(&mut self) -> Vec<&mut Parameter> {
        self.inner.parameters_mut()
    }
    fn freeze(&self) -> FrozenPolicy {
        struct Inner(FrozenPolicy);
        impl Policy for Inner {
            fn device(&self) -> Device {
                self.0.device()
            }
            fn vocabulary(&self) -> usize {
                self.0.vocabulary()
            }
            fn parameters(&self) -> Vec<&Parameter> {
                self.0.parameters()
            }
            fn parameters_mut(&mut self) -> Vec<&mut Parameter> {
                unreachable!("frozen")
            }
            fn freeze(&self) -> FrozenPolicy {
                self.0.freeze()
            }
            fn score(&self, groups: &[ScoringGroup], request: ScoreRequest) -> Tensor<2> {
                self.0.score(groups, request)
            }
            fn decoder(&self, rows: usize, tokens: usize) -> Box<dyn Decoder + '_> {
                self.0.decoder(rows, tokens)
            }
        }
        let inner = Box::new(Inner(self.inner.freeze()));
        FrozenPolicy::new(Box::new(Self { inner, tokens: self.tokens, rows: self.rows }))
    }
    fn score(&self, groups: &[ScoringGroup], request: ScoreRequest) -> Tensor<2> {
        self.room_for(groups);
        self.inner.score(groups, request)
    }
    fn score_recomputed(&self, groups: &[ScoringGroup], request: ScoreRequest) -> (Tensor<2>, Box<dyn Tape + '_>) {
        self.room_for(groups);
        self.inner.score_recomputed(groups, request)
    }
    fn decoder(&self, rows: usize, tokens: usize) -> Box<dyn Decoder + '_> {
        assert!(rows <= self.rows, "An out-of-memory error happened during launch");
        self.inner.decoder(rows, tokens)
    }
}

/// The prompts of the tests of shared prefixes, again and again.
struct Endless;

impl TaskSource for Endless {
    fn num_rows(&self) -> usize {
        prompts().len()
    }
    fn task(&mut self, visit: u64) -> Result<Option<Task>, TrainError> {
        let mut all = prompts();
        let at = visit as usize % all.len();
        let prompt = all.swap_remove(at).0;
        let (problem, answer, place) = (String::new(), String::new(), String::new());
        Ok(Some(Task { prompt, problem, answer, solution: None, category: None, place }))
    }
}

/// Likes even tokens.
struct Even;

impl Grader for Even {
    fn names(&self) -> Vec<String> {
        vec!["even".to_owned()]
    }
    fn grade(&self, responses: &[(&Task, &[u32])]) -> Result<Vec<Grade>, TrainError> {
        let grade = |(_, tokens): &(&Task, &[u32])| {
            let share = tokens.iter().filter(|&&token| token % 2 == 0).count() as f32 / tokens.len() as f32;
            Grade { overall: share, parts: vec![share], text: String::new() }
        };
        Ok(responses.iter().map(grade).collect())
    }
}

fn settings(run_dir: &Path, micro_tokens: usize) -> Settings {
    let rollout = RolloutSettings {
        prompts_per_step: 4,
        responses_per_prompt: 4,
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        min_p: 0.0,
        max_new_tokens: 8,
    };
    Settings {
        run_dir: run_dir.to_owned(),
        seed: 1,
        steps: 3,
        prompts_per_update: 2,
        micro_tokens,
        micro_tokens_chosen: false,
        recompute: false,
        kept_activations: 0,
        max_tries: 1,
        prompts_per_try: 4,
        prompts_per_look: 0,
        checkpoint_every: 1,
        keep_last: 0,
        keep_best: false,
        may_change_length: false,
        watch: percept_trainer::WatchSettings {
            on_incident: percept_trainer::OnIncident::Stop,
            log_ratio_limit: 10.0,
            collapse_window: 10,
        },
        deadline_seconds: 0,
        max_nonfinite_updates: 1,
        samples_per_step: 0,
        pictures_per_step: 0,
        validation: ValidationSettings { every: 0, before_training: false, limit: None, sampling: rollout.clone() },
        rollout,
        optimizer: OptimizerSettings {
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            moments: MomentType::F32,
            offload: false,
            seed: 1,
            learning_rate: Arc::new(|_, _| 1e-3),
        },
        kept_weights: KeptWeights::All,
        stop_tokens: (0..6).collect(),
        banned_tokens: vec![60, 61],
    }
}

struct Done {
    outcome: Result<Outcome, TrainError>,
    metrics: Vec<Metrics>,
    max_rows: usize,
}

/// Three steps of GRPO on a device with room for so many tokens and rows.
fn train(folder: &Path, micro_tokens: usize, tokens: usize, rows: usize) -> Done {
    let settings = settings(folder, micro_tokens);
    std::fs::create_dir_all(folder).expect("a folder");
    let inner: Qwen25Vl = policy(&Device::flex().autodiff(), 1);
    let objective = Grpo::new(GrpoConfig { kl_coefficient: 0.1, ..GrpoConfig::default() });
    let reference = Cramped { inner: Box::new(policy(&Device::flex().autodiff(), 1)), tokens, rows }.freeze();
    let mut sampler = InProcess::new(64);
    let mut metrics = Vec::new();
    let outcome = Run {
        settings: &settings,
        policy: Box::new(Cramped { inner: Box::new(inner), tokens, rows }),
        reference: Some(Reference::Kept(reference)),
        objective: &objective,
        train: &mut Endless,
        validation: None,
        sampler: &mut sampler,
        grader: &Even,
        save: &|_, _| Ok(()),
        interrupt: &AtomicBool::new(false),
        report: &mut |_, step| metrics.push(step.clone()),
        watch: &|_| {},
    }
    .run(None);
    Done { outcome, metrics, max_rows: sampler.max_rows }
}

fn weights(folder: &Path) -> Vec<Vec<f32>> {
    let mut policy = policy(&Device::flex().autodiff(), 1);
    let settings = settings(folder, 1).optimizer;
    let mut optimizer = percept_trainer::Optimizer::new(&policy, settings);
    let latest = find_resume(folder).expect("a checkpoint").folder;
    let state: State =
        percept_trainer::Checkpoint::read(&latest, &mut policy, &mut optimizer).expect("a state that can be read");
    assert_eq!(state.step, 3);
    policy.parameters().iter().map(|parameter| host(parameter.value.clone())).collect()
}

#[test]
fn a_step_without_room_is_done_again_in_smaller_portions() {
    let place = tempfile::tempdir().expect("a folder");
    let (roomy, cramped) = (place.path().join("roomy"), place.path().join("cramped"));
    // 512 halves to 256, 128, and 64, which fits
    let found = train(&cramped, 512, 64, 5);
    found.outcome.expect("a run that shrinks");
    assert_eq!(found.max_rows, 4, "16 rows, 8, 4");
    let sizes: Vec<f64> = found.metrics.iter().map(|step| step.get("memory/micro_tokens").expect("a size")).collect();
    assert_eq!(sizes, [64.0; 3]);
    // what fits is known to a run that goes on
    let state =
        std::fs::read(find_resume(&cramped).expect("a checkpoint").folder.join("trainer.safetensors")).expect("a file");
    assert!(String::from_utf8_lossy(&state).contains(r#"\"micro_tokens\":64"#), "the state tells what fits");
    let expected = train(&roomy, 64, usize::MAX, 4);
    expected.outcome.expect("a run with room");
    assert_eq!(weights(&cramped), weights(&roomy), "the same numbers as with small portions from the start");
    let reward = |done: &[Metrics]| done.iter().map(|step| step.get("reward/overall")).collect::<Vec<_>>();
    assert_eq!(reward(&found.metrics), reward(&expected.metrics));
}

#[test]
fn what_is_too_large_in_the_smallest_portion_ends_the_run_and_keeps_what_was_done() {
    let place = tempfile::tempdir().expect("a folder");
    // the longest prompt has 25 tokens: with a response it is cut no further
    let done = train(place.path(), 512, 20, 64);
    let error = done.outcome.expect_err("no portion fits").to_string();
    assert!(error.contains("out of memory with the smallest portions there are: out of device memory"), "{error}");
    assert!(error.contains("percept plan"), "{error}");
    let done = train(place.path(), 512, usize::MAX, 0);
    let error = done.outcome.expect_err("no row fits").to_string();
    assert!(error.contains("An out-of-memory error happened during launch"), "{error}");
}
