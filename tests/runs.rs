//! Whole runs of the real program: interrupted and resumed, repeated, and long enough to learn something.

use crate::program::{Place, assert_same_files, files, lines, metrics, series};
use serde_json::Value;
use std::path::Path;

/// Compares all that a run leaves, but for its configuration, which names its folder.
pub fn assert_same_run(place: &Path, left: &str, right: &str) {
    let (left, right) = (place.join(left), place.join(right));
    let (a, b) = (metrics(&left.join("metrics.jsonl")), metrics(&right.join("metrics.jsonl")));
    let steps = |lines: &[std::collections::BTreeMap<String, Value>]| -> Vec<Value> {
        lines.iter().map(|line| line["step"].clone()).collect()
    };
    assert_eq!(steps(&a), steps(&b), "steps of metrics.jsonl");
    for (a, b) in a.iter().zip(&b) {
        assert_eq!(a, b, "metrics of step {}", a["step"]);
    }
    if left.join("samples.jsonl").exists() {
        assert_eq!(lines(&left.join("samples.jsonl")), lines(&right.join("samples.jsonl")), "samples.jsonl");
    }
    for pointer in ["latest", "best"] {
        let read = |run: &Path| std::fs::read_to_string(run.join(pointer)).ok();
        assert_eq!(read(&left), read(&right), "{pointer}");
    }
    assert_same_files(&left.join("checkpoints"), &right.join("checkpoints"));
}

/// Kills a run three times and takes it up again: as soon as a checkpoint is announced (all else that belongs to its step must be there
/// by then), in the middle of a step, and at once after resuming. `folder` is what the command makes in its run directory.
pub fn tear(place: &Place, command: &str, folder: &str, sets: &str) {
    let sets = format!("{sets} trainer.run_dir=torn");
    let run = format!("torn{folder}");
    let announced = |step: u64| {
        let pointer = place.pointer(&format!("{run}/latest"));
        pointer.is_some_and(|name| name == format!("checkpoints/step-{step:06}"))
    };
    let mut running = place.start_run(command, &sets);
    running.wait_until("the checkpoint of step 2", || announced(2));
    running.kill();
    let resumed = format!("{sets} --resume");
    let mut running = place.start_run(command, &resumed);
    running.wait_until("step 5", || place.last_step(&format!("{run}/metrics.jsonl")) == Some(5));
    running.kill();
    assert!(announced(4), "step 5 was done, and was not to be saved");
    let mut running = place.start_run(command, &resumed);
    running.wait_until("the checkpoint of step 6", || announced(6));
    running.kill();
    place.run(command, &resumed).well();
}

/// The metrics of a run that ended the same whether it was killed or not.
fn torn_and_whole(sets: &str) -> Vec<Value> {
    let place = Place::new();
    place.run("train", &format!("{sets} trainer.run_dir=whole")).well();
    tear(&place, "train", "", sets);
    assert_same_run(place.path(), "whole", "torn");
    lines(&place.path().join("whole/metrics.jsonl"))
}

fn largest(lines: &[Value], metric: &str) -> f64 {
    let values = lines.iter().filter_map(|line| line.get(metric)?.as_f64());
    values.fold(f64::NEG_INFINITY, f64::max)
}

#[test]
fn papo_g_killed_and_resumed_is_the_run_that_was_not() {
    let lines = torn_and_whole("objective.kind=papo_g");
    assert_eq!(lines.len(), 9, "eight steps, and the measurement before them");
    // without its reference, its masked view or any reward, a run would be equal to itself as well
    assert!(largest(&lines, "objective/reference_kl") > 0.0, "no reference");
    assert!(largest(&lines, "objective/kl_prcp") > 0.0, "no masked view");
    assert!(largest(&lines, "advantage_max") > 0.0, "nothing to learn from");
}

#[test]
fn dapo_killed_and_resumed_is_the_run_that_was_not() {
    let lines = torn_and_whole("objective.kind=dapo");
    // how many rows a step takes depends on the rewards, so the order of visits is a part of the checkpoint
    assert!(largest(&lines, "collect/tries") > 1.0, "dynamic sampling had nothing to do");
}

#[test]
fn rounded_checkpoints_resume_exactly() {
    let place = Place::new();
    let sets = "objective.kind=grpo model.save_dtype=bf16 validation.every=0";
    place.run("train", &format!("{sets} trainer.run_dir=whole")).well();
    tear(&place, "train", "", sets);
    assert_same_run(place.path(), "whole", "torn");
    let bytes = |folder: &str| place.path().join(folder).join("model.safetensors").metadata().expect("weights").len();
    let base = place.workshop.base().join("model.safetensors").metadata().expect("weights").len();
    assert!(bytes("whole/checkpoints/step-000008") < base * 6 / 10, "the weights were to be rounded");
}

#[test]
fn smaller_moments_resume_exactly() {
    for (moments, more) in [("bf16", "optimizer.offload=true"), ("8bit", "model.offload_reference=true")] {
        let place = Place::new();
        let sets = format!("objective.kind=grpo optimizer.moments={moments} {more} validation.every=0");
        place.run("train", &format!("{sets} trainer.run_dir=whole")).well();
        tear(&place, "train", "", &sets);
        assert_same_run(place.path(), "whole", "torn");
        let bytes = |file: &str| {
            place.path().join("whole/checkpoints/step-000008").join(file).metadata().expect("a file").len()
        };
        // eight bits are kept as eight bits; weights are float32
        assert_eq!(bytes("trainer.safetensors") < bytes("model.safetensors"), moments == "8bit");
        // other moments are another configuration; once that is accepted, what was rounded can still be read, and codes cannot
        let words = "optimizer.moments=f32 objective.kind=grpo validation.every=0 trainer.run_dir=whole --resume \
                     --allow-change=optimizer --allow-change=model";
        let said = place.run("train", words);
        assert_eq!(said.code == Some(0), moments == "bf16", "{}", said.err);
        assert!(moments == "bf16" || said.err.contains("moments of 8 bits, and more are configured"), "{}", said.err);
    }
}

/// Looking in between whether a step is full leaves out what would have been thrown away.
#[test]
fn a_try_can_end_when_the_step_is_full() {
    let place = Place::new();
    let sets =
        "objective.kind=dapo trainer.steps=3 validation.every=0 trainer.prompts_per_try=16 trainer.samples_per_step=64";
    let learned = |run: &str, look: usize| {
        place.run("train", &format!("{sets} trainer.prompts_per_look={look} trainer.run_dir={run}")).well();
        let folder = place.path().join(run);
        let samples = std::fs::read_to_string(folder.join("samples.jsonl")).expect("samples");
        (samples, mean(&series(&folder.join("metrics.jsonl"), "collect/admitted_fraction")))
    };
    let (whole, looked) = (learned("whole", 0), learned("looked", 2));
    // rows together in a product may round otherwise, and no more: the same responses with the same advantages
    assert_eq!(whole.0, looked.0, "what is learned");
    assert!(looked.1 > whole.1, "fewer groups were sampled in vain: {} against {}", looked.1, whole.1);
}

#[test]
fn a_warm_start_killed_and_resumed_is_the_one_that_was_not() {
    let place = Place::new();
    place.run("sft", "trainer.run_dir=whole").well();
    tear(&place, "sft", "/sft", "");
    assert_same_run(place.path(), "whole/sft", "torn/sft");
    assert_eq!(series(&place.path().join("whole/sft/metrics.jsonl"), "sft/loss").len(), 8);
}

/// Ctrl-C, and then the command that the program prints, given to a shell as a user would.
#[cfg(unix)]
fn interrupt(command: &str, folder: &str, sets: &str) {
    let place = Place::new();
    place.run(command, &format!("{sets} trainer.run_dir=whole")).well();
    let mut running = place.start_run(command, &format!("{sets} trainer.run_dir=torn"));
    let metrics = format!("torn{folder}/metrics.jsonl");
    running.wait_until("step 2", || place.last_step(&metrics).is_some_and(|step| step >= 2));
    running.interrupt();
    let said = running.end();
    assert_eq!(said.code, Some(130), "{said:#?}");
    let step = place.last_step(&metrics).expect("a step");
    assert!(step < 24, "the run was to be interrupted, and had ended");
    assert_eq!(place.pointer(&format!("torn{folder}/latest")), Some(format!("checkpoints/step-{step:06}")));
    let (told, next) = said.out.trim_end().rsplit_once("go on with: ").expect("how to go on");
    assert!(told.contains(&format!("stopped after step {step}")), "{}", said.out);
    let program = Path::new(env!("CARGO_BIN_EXE_percept")).parent().expect("a folder");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    let shell =
        std::process::Command::new("sh").args(["-c", next]).current_dir(place.path()).env("PATH", path).output();
    let shell = shell.expect("a shell");
    assert!(shell.status.success(), "{next}: {}", String::from_utf8_lossy(&shell.stderr));
    assert_same_run(place.path(), &format!("whole{folder}"), &format!("torn{folder}"));
}

#[test]
#[cfg(unix)]
fn an_interrupted_run_is_saved_and_says_how_to_go_on() {
    // nothing is due to be saved; and a list in quotes is what a shell would take apart
    interrupt(
        "train",
        "",
        "trainer.steps=24 trainer.checkpoint_every=0 trainer.keep_last=1 model.freeze=[\"visual.*\"] data.validation=[]",
    );
}

#[test]
#[cfg(unix)]
fn an_interrupted_warm_start_is_saved_and_says_how_to_go_on() {
    interrupt("sft", "/sft", "sft.steps=24 trainer.checkpoint_every=0 trainer.keep_last=1 data.validation=[]");
}

#[test]
fn the_seed_decides_everything() {
    let place = Place::new();
    for (run, seed) in [("once", 7), ("twice", 7), ("other", 8)] {
        place.run("train", &format!("trainer.steps=2 trainer.seed={seed} trainer.run_dir={run}")).well();
    }
    assert_same_run(place.path(), "once", "twice");
    let read = |run: &str, file: &str| std::fs::read(place.path().join(run).join(file)).expect("reads");
    for file in ["samples.jsonl", "checkpoints/step-000002/model.safetensors"] {
        assert!(read("once", file) != read("other", file), "{file} does not depend on the seed");
    }
}

#[test]
fn what_is_sampled_depends_neither_on_threads_nor_on_batches() {
    let place = Place::new();
    let mut runs = Vec::new();
    for (run, threads, max_rows) in [("one", "1", 16), ("two", "2", 16), ("narrow", "2", 3)] {
        let rows = format!("rollout.max_rows={max_rows}");
        let folder = format!("trainer.run_dir={run}");
        let sets = ["trainer.steps=1", "data.shuffle=false", &rows, &folder];
        let arguments = [&["train", "run.toml"][..], &sets.map(|set| ["--set", set]).concat()].concat();
        place.percept_with(&arguments, &[("RAYON_NUM_THREADS", threads)]).well();
        let samples = lines(&place.path().join(run).join("samples.jsonl"));
        assert_eq!(samples.len(), 16, "four responses to four prompts");
        runs.push(samples.iter().map(|sample| (sample["row"].clone(), sample["response"].clone())).collect::<Vec<_>>());
    }
    // pictures are prepared side by side, and still come in the data set's order
    let rows = runs[0].iter().take(4).map(|(row, _)| row.as_str().and_then(|row| row.rsplit(' ').next()));
    assert_eq!(rows.collect::<Vec<_>>(), ["0", "1", "2", "3"].map(Some), "the first response to each prompt");
    assert_eq!(runs[0], runs[1], "one thread, two threads");
    assert_eq!(runs[0], runs[2], "sixteen rows at once, three");
}

#[test]
fn masked_views_of_every_second_prompt() {
    let place = Place::new();
    let sets = "objective.kind=papo_g objective.perception_every=2 trainer.steps=2 trainer.run_dir=half data.shuffle=false \
                trainer.samples_per_step=16 rollout.prompts_per_step=4";
    place.run("train", sets).well();
    let samples = lines(&place.path().join("half/samples.jsonl"));
    assert_eq!(samples.len(), 32, "two steps of four prompts with four responses");
    for sample in &samples {
        let row = sample["row"].as_str().and_then(|row| row.rsplit(' ').next()).expect("a row");
        let number: usize = row.parse().expect("a number");
        assert_eq!(sample.get("divergence").is_some(), number.is_multiple_of(2), "{row}");
    }
    let terms = series(&place.path().join("half/metrics.jsonl"), "objective/kl_prcp");
    assert!(terms.len() == 2 && terms.iter().all(|term| term.is_finite()), "{terms:?}");
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// A weak warm start and 30 steps: the reward rises.
fn learns(sets: &str) {
    let place = Place::new();
    let workshop = &place.workshop;
    let longer = "trainer.steps=30 rollout.prompts_per_step=16 rollout.responses_per_prompt=8 rollout.max_rows=64 trainer.prompts_per_update=8 \
                  trainer.prompts_per_try=16 trainer.micro_tokens=16384 trainer.checkpoint_every=0 data.validation=[] \
                  optimizer.learning_rate=5e-4 optimizer.schedule=constant";
    place.run("train", &format!("{longer} data.train={} {sets}", workshop.data("train").display())).well();
    let rewards = series(&place.path().join("run/metrics.jsonl"), "reward/overall");
    assert_eq!(rewards.len(), 30);
    let (first, last) = (mean(&rewards[..10]), mean(&rewards[20..]));
    println!("{sets}: mean reward of the first ten steps {first:.3}, of the last ten {last:.3}");
    // the first ten steps are a part of what is learned; the ten-step means scatter by about 0.03
    assert!(last > first + 0.05, "{first} -> {last}");
}

#[test]
fn grpo_raises_the_reward() {
    learns("objective.kind=grpo objective.kl_coefficient=0.0");
}

#[test]
fn papo_g_raises_the_reward() {
    // at 5e-4 the course of 30 steps hangs on the last bit of a number: the mean rises by 0.2 with most seeds, and not at all with some
    let sets = "objective.kind=papo_g objective.entropy_coefficient=0.0 objective.masked_entropy_coefficient=0.0";
    learns(&format!("{sets} optimizer.learning_rate=3e-4"));
}

/// The chance that k of n responses hold one of c right ones, by counting choices.
fn pass(n: u64, c: u64, k: u64) -> f64 {
    let choose = |n: u64, k: u64| (0..k).map(|i| (n as f64 - i as f64) / (i + 1) as f64).product::<f64>();
    if n - c < k { 1.0 } else { 1.0 - choose(n - c, k) / choose(n, k) }
}

#[test]
fn eval_writes_rows_that_agree_with_its_averages() {
    let place = Place::new();
    let workshop = &place.workshop;
    let (warm, test) = (workshop.warm(), workshop.data("test"));
    let (warm, test) = (warm.to_str().expect("Unicode"), test.to_str().expect("Unicode"));
    let words = ["eval", "--config", "run.toml", "--checkpoint", warm, "--data", test];
    let sampled = ["-k", "4", "--temperature", "1.0", "--rows", "rows.jsonl", "--json", "summary.json"];
    let out = place.percept(&[&words[..], &sampled].concat()).well();
    let rows = lines(&place.path().join("rows.jsonl"));
    assert_eq!(rows.len(), 16);
    let scores = |row: &Value, part: &str| -> Vec<f64> {
        let scores = if part == "overall" { &row["overall"] } else { &row["parts"][part] };
        scores.as_array().expect("scores").iter().map(|score| score.as_f64().expect("a number")).collect()
    };
    let summary: Value =
        serde_json::from_slice(&std::fs::read(place.path().join("summary.json")).expect("a summary")).expect("JSON");
    let number = |name: &str| summary[name].as_f64().unwrap_or_else(|| panic!("{name} in {summary}"));
    for part in ["accuracy", "format", "overall"] {
        let means: Vec<f64> = rows.iter().map(|row| mean(&scores(row, part))).collect();
        assert!((mean(&means) - number(&format!("avg_{part}"))).abs() < 1e-6, "avg_{part}");
    }
    assert!(
        number("avg_accuracy") > 0.0 && number("avg_accuracy") < 1.0,
        "a weak policy is sometimes right: {summary}"
    );
    for k in [1, 2, 4] {
        let right = |row: &Value| scores(row, "accuracy").iter().filter(|&&score| score > 0.5).count() as u64;
        let expected = mean(&rows.iter().map(|row| pass(4, right(row), k)).collect::<Vec<_>>());
        assert!((expected - number(&format!("pass_at_{k}"))).abs() < 1e-9, "pass@{k}: {expected}, {summary}");
        let line = out.lines().find(|line| line.starts_with(&format!("pass@{k} "))).expect("a line");
        assert!(line.ends_with(&format!("{expected:.4}")), "{line}, expected {expected}");
    }
    for row in &rows {
        assert_eq!(row["responses"].as_array().expect("responses").len(), 4);
        // the overall score is what the rubric says: 0.9 accuracy, 0.1 format
        for ((overall, accuracy), format) in
            scores(row, "overall").iter().zip(scores(row, "accuracy")).zip(scores(row, "format"))
        {
            assert!((overall - (0.9 * accuracy + 0.1 * format)).abs() < 1e-6);
        }
    }
    assert!(
        rows.iter().any(|row| row["responses"]
            .as_array()
            .expect("responses")
            .iter()
            .any(|text| text != &row["responses"][0]))
    );
}

#[test]
fn black_pictures_are_all_the_same_to_the_policy() {
    let place = Place::new();
    let workshop = &place.workshop;
    let (warm, test) = (workshop.warm(), workshop.data("test"));
    let (warm, test) = (warm.to_str().expect("Unicode"), test.to_str().expect("Unicode"));
    let words = ["eval", "--config", "run.toml", "--checkpoint", warm, "--data", test, "--rows", "rows.jsonl"];
    let greedy = |more: &[&str]| -> Vec<Value> {
        place.percept(&[&words[..], more].concat()).well();
        lines(&place.path().join("rows.jsonl")).iter().map(|row| row["responses"][0].clone()).collect()
    };
    let (seen, black) = (greedy(&[]), greedy(&["--corrupt", "black"]));
    // every row asks the same, so that without its picture every row gets the same response
    assert!(black.iter().all(|response| response == &black[0]), "{black:?}");
    assert!(seen.iter().any(|response| response != &seen[0]), "the policy does not look: {seen:?}");
}

#[test]
fn sample_gives_the_response_that_eval_saw() {
    let place = Place::new();
    let workshop = &place.workshop;
    let (warm, data) = (workshop.warm(), workshop.lines().join("test.jsonl"));
    let (warm, data) = (warm.to_str().expect("Unicode"), data.to_str().expect("Unicode"));
    place
        .percept(&[
            "eval",
            "--config",
            "run.toml",
            "--checkpoint",
            warm,
            "--data",
            data,
            "--limit",
            "3",
            "--rows",
            "rows.jsonl",
        ])
        .well();
    let evaluated = lines(&place.path().join("rows.jsonl"));
    assert_eq!(evaluated.len(), 3);
    for (row, seen) in lines(Path::new(data)).iter().zip(&evaluated) {
        let picture =
            row["images"][0].as_str().or_else(|| row["images"][0]["path"].as_str()).expect("a picture's path");
        let picture = workshop.lines().join(picture);
        let question = row["problem"].as_str().expect("a question").replace("<image>", "");
        let words = [
            "sample",
            "--config",
            "run.toml",
            "--checkpoint",
            warm,
            "--image",
            picture.to_str().expect("Unicode"),
            "--question",
            &question,
        ];
        let response = place.percept(&[&words[..], &["--max-new-tokens", "20"]].concat()).well();
        assert_eq!(response.trim_end_matches('\n'), seen["responses"][0].as_str().expect("text"));
    }
}

#[test]
fn a_dry_run_prints_the_plan_and_writes_nothing() {
    let place = Place::new();
    let before = files(place.path());
    let out = place.run("train", "objective.kind=papo_g --dry-run").well();
    for words in [
        "4 prompts, 16 responses, 2 updates",
        "8 steps, 16 updates, 2.67 epochs of 12 rows",
        "Reference x Whole",
        "Corrupted",
    ] {
        assert!(out.contains(words), "{words:?} in {out}");
    }
    let out = place.run("sft", "--dry-run").well();
    assert!(out.contains("8 steps of 16 rows"), "{out}");
    assert_eq!(files(place.path()), before);
    // it tells what a run would, also of parts that are built late
    for wrong in ["reward.verifiers=[{name=\"accuracy\",kind=\"mth\"}]", "data.validation=nowhere.parquet"] {
        let said = place.run("train", &format!("{wrong} --dry-run"));
        assert_eq!(said.code, Some(1), "{said:#?}");
    }
}

#[test]
fn a_finished_run_is_not_overwritten() {
    let place = Place::new();
    place.run("train", "trainer.steps=1").well();
    let before = files(&place.path().join("run"));
    let said = place.run("train", "trainer.steps=1 trainer.seed=2");
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert!(said.err.starts_with("error: run holds a run already") && said.err.contains("--resume"), "{}", said.err);
    assert_eq!(files(&place.path().join("run")), before);
    // and resuming a run that is done changes nothing
    place.run("train", "trainer.steps=1 --resume").well();
    assert_eq!(files(&place.path().join("run")), before);
}

#[test]
fn the_newest_checkpoints_and_the_best_are_kept() {
    let place = Place::new();
    // so fast that it unlearns at once: the first measurement stays the best one
    let sets = "trainer.checkpoint_every=1 trainer.keep_last=2 validation.every=1 validation.before_training=false optimizer.learning_rate=0.05 \
                optimizer.schedule=constant optimizer.warmup_steps=0";
    let out = place.run("train", sets).well();
    let scores = series(&place.path().join("run/metrics.jsonl"), "validation/accuracy");
    assert_eq!(scores.len(), 8);
    let best = (0..8).rev().max_by(|&a, &b| scores[a].total_cmp(&scores[b])).expect("a score") as u64 + 1;
    assert!(best < 7, "the best was to be an old one: {scores:?}");
    assert_eq!(place.pointer("run/best"), Some(format!("checkpoints/step-{best:06}")));
    assert_eq!(place.pointer("run/latest"), Some("checkpoints/step-000008".to_owned()));
    assert!(out.contains(&format!("at step {best}")), "{out}");
    let kept = |run: &str| -> Vec<String> {
        let folder = std::fs::read_dir(place.path().join(run).join("checkpoints")).expect("a folder");
        let mut names: Vec<String> =
            folder.map(|entry| entry.expect("an entry").file_name().into_string().expect("Unicode")).collect();
        names.sort();
        names
    };
    assert_eq!(kept("run"), [format!("step-{best:06}"), "step-000007".to_owned(), "step-000008".to_owned()]);
    place.run("train", &format!("{sets} trainer.keep_best=false trainer.run_dir=newest")).well();
    assert_eq!(kept("newest"), ["step-000007", "step-000008"]);
    place.run("train", &format!("{sets} trainer.keep_last=0 trainer.steps=3 trainer.run_dir=all")).well();
    assert_eq!(kept("all"), ["step-000001", "step-000002", "step-000003"]);
}

#[test]
fn the_last_word_has_the_command_line() {
    let place = Place::new();
    let resolved = |run: &str| -> toml::Table {
        std::fs::read_to_string(place.path().join(run).join("config.toml"))
            .expect("a configuration")
            .parse()
            .expect("TOML")
    };
    let words = ["train", "run.toml", "--set", "trainer.steps=1", "--set", "trainer.run_dir=first"];
    place.percept_with(&words, &[("PERCEPT__TRAINER__SEED", "5")]).well();
    assert_eq!(resolved("first")["trainer"]["seed"].as_integer(), Some(5), "the environment goes before the file");
    let words =
        ["train", "run.toml", "--set", "trainer.steps=1", "--set", "trainer.run_dir=second", "--set", "trainer.seed=6"];
    place.percept_with(&words, &[("PERCEPT__TRAINER__SEED", "5")]).well();
    assert_eq!(
        resolved("second")["trainer"]["seed"].as_integer(),
        Some(6),
        "the command line goes before the environment"
    );
    assert_eq!(
        resolved("second")["optimizer"]["learning_rate"].as_float(),
        Some(3e-4),
        "what nobody overrides is the file's"
    );

    // the resolved configuration is a run file, and gives the same run
    place.percept(&["train", "second/config.toml", "--set", "trainer.run_dir=third"]).well();
    assert_same_run(place.path(), "second", "third");
}

#[test]
fn what_train_writes_can_be_trained_and_measured() {
    let place = Place::new();
    let workshop = &place.workshop;
    place.run("train", "trainer.steps=2 trainer.run_dir=first").well();
    let trained = "first/checkpoints/step-000002";
    place.run("train", &format!("trainer.steps=1 model.checkpoint={trained} trainer.run_dir=second")).well();
    // a new run from a checkpoint begins at step 1: it takes the weights, not the trainer's state
    assert_eq!(place.last_step("second/metrics.jsonl"), Some(1));
    place
        .run(
            "sft",
            &format!("sft.steps=1 sft.optimizer.warmup_steps=0 model.checkpoint={trained} trainer.run_dir=second"),
        )
        .well();
    let test = workshop.data("test");
    let out = place
        .percept(&["eval", "--config", "run.toml", "--checkpoint", trained, "--data", test.to_str().expect("Unicode")])
        .well();
    assert!(out.contains("16 rows"), "{out}");
    let names: Vec<String> = files(&place.path().join(trained)).into_keys().collect();
    let companions: Vec<String> = files(&workshop.base()).into_keys().collect();
    assert!(companions.iter().all(|name| names.contains(name)), "{names:?} has all of {companions:?}");
}
