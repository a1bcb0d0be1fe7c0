//! Mistakes that a new user makes: each is answered with one line that names the cause and a way out, and costs nothing earlier.

use crate::program::{Place, Said, assert_same_files, files};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The command was refused in one line with all of these words in it: the file, row, field or key that is at fault, and a hint.
fn refused(said: &Said, words: &[&str]) {
    println!("{}", said.err.trim_end());
    assert_eq!(said.code, Some(1), "{said:#?}");
    // a run that had begun may have been warned of what its first steps sampled
    let lines: Vec<&str> = said.err.lines().filter(|line| !line.contains("[percept doctor: ")).collect();
    assert!(lines.first().is_some_and(|line| line.starts_with("error: ")), "{said:#?}");
    assert_eq!(lines.len(), 1, "one line: {said:#?}");
    for panicking in ["panicked", "internal mistake", "RUST_BACKTRACE"] {
        assert!(!said.err.contains(panicking), "{said:#?}");
    }
    for word in words {
        assert!(said.err.contains(word), "{word:?} is not in: {}", said.err);
    }
}

/// A folder with a run in it that was killed after two steps of four. Every refusal must leave it as it is.
struct Bad {
    place: Place,
    run: BTreeMap<String, Vec<u8>>,
}

impl Bad {
    fn new() -> Self {
        let place = Place::new();
        let mut running = place.start_run("train", &format!("{EARLIER} trainer.run_dir=earlier"));
        running.wait_until("two steps", || place.pointer("earlier/latest").is_some());
        running.kill();
        let run = files(&place.path().join("earlier"));
        Self { place, run }
    }

    fn path(&self) -> &Path {
        self.place.path()
    }

    /// `percept COMMAND run.toml` with these sets is refused.
    fn refuses(&self, command: &str, sets: &str, words: &[&str]) {
        refused(&self.place.run(command, sets), words);
        self.nothing_is_lost();
    }

    fn nothing_is_lost(&self) {
        let now = files(&self.path().join("earlier"));
        assert_eq!(now.keys().collect::<Vec<_>>(), self.run.keys().collect::<Vec<_>>());
        for (name, bytes) in &self.run {
            assert!(&now[name] == bytes, "earlier/{name} was changed");
        }
    }

    /// The earlier run once more, to be changed.
    fn copy(&self) -> PathBuf {
        let copy = self.path().join("copy");
        let _ = std::fs::remove_dir_all(&copy);
        for (file, bytes) in &self.run {
            let path = copy.join(file);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, bytes).expect("writes");
        }
        copy
    }

    /// The warm checkpoint under another name, to be damaged.
    fn checkpoint(&self, name: &str) -> PathBuf {
        let folder = self.path().join(name);
        std::fs::create_dir(&folder).expect("a folder");
        for (file, bytes) in files(&self.place.workshop.warm()) {
            std::fs::write(folder.join(file), bytes).expect("writes");
        }
        folder
    }

    /// Twelve rows of JSON lines with their pictures, of which row `line` (from 1) is changed.
    fn rows(&self, name: &str, line: usize, change: impl Fn(&mut Value)) -> String {
        let folder = self.path().join(name);
        for (file, bytes) in files(&self.place.workshop.lines()) {
            let path = folder.join(file);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, bytes).expect("writes");
        }
        let file = folder.join("train.jsonl");
        let mut rows = crate::program::lines(&file);
        assert_eq!(rows.len(), 12);
        change(&mut rows[line - 1]);
        let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
        std::fs::write(file, text).expect("writes");
        format!("{name}/train.jsonl")
    }

    /// A run file whose rubric ends with an external program.
    fn judged(&self, name: &str, settings: &str) {
        let text = std::fs::read_to_string(self.path().join("run.toml")).expect("a run file");
        let rubric = "[[reward.verifiers]]\nname = \"accuracy\"\nkind = \"math\"\n[[reward.verifiers]]\nname = \"judge\"\nkind = \"command\"";
        self.place.write(name, format!("{text}\n{rubric}\n{settings}\n"));
    }
}

const EARLIER: &str = "trainer.steps=4 validation.every=0";

#[test]
fn checkpoints_that_are_none() {
    let bad = Bad::new();
    bad.refuses("train", "model.checkpoint=nowhere", &["nowhere: no such folder", "model.checkpoint", "config.json"]);
    std::fs::create_dir(bad.path().join("empty")).expect("a folder");
    bad.refuses("train", "model.checkpoint=empty", &["empty/config.json", "Hugging Face layout"]);
    let folder = bad.checkpoint("other");
    let config: Value =
        serde_json::from_slice(&std::fs::read(folder.join("config.json")).expect("reads")).expect("JSON");
    let write = |change: &dyn Fn(&mut Value)| {
        let mut config = config.clone();
        change(&mut config);
        std::fs::write(folder.join("config.json"), config.to_string()).expect("writes");
    };
    write(&|config| config["model_type"] = json!("llama"));
    bad.refuses("train", "model.checkpoint=other", &["other/config.json", "\"llama\"", "known: qwen2_5_vl"]);
    write(&|config| drop(config.as_object_mut().expect("an object").remove("hidden_size")));
    bad.refuses("train", "model.checkpoint=other", &["other/config.json", "hidden_size", "expected"]);
    std::fs::write(folder.join("config.json"), "{ \"model_type\": ").expect("writes");
    bad.refuses("train", "model.checkpoint=other", &["other/config.json", "not valid JSON"]);
    std::fs::remove_file(folder.join("tokenizer.json")).expect("removes");
    write(&|_| {});
    bad.refuses("train", "model.checkpoint=other", &["other/tokenizer.json"]);

    let test = bad.place.workshop.data("test");
    let test = test.to_str().expect("Unicode");
    refused(&bad.place.percept(&["eval", "--checkpoint", "nowhere", "--data", test]), &["nowhere: no such folder"]);
    let words = ["sample", "--checkpoint", "nowhere", "--question", "What?"];
    refused(&bad.place.percept(&words), &["nowhere: no such folder"]);
    let warm = bad.place.workshop.warm();
    let words =
        ["sample", "--checkpoint", warm.to_str().expect("Unicode"), "--image", "nowhere.png", "--question", "What?"];
    refused(&bad.place.percept(&words), &["nowhere.png: cannot be read"]);
}

#[test]
fn weights_that_are_damaged() {
    let bad = Bad::new();
    let folder = bad.checkpoint("short");
    let path = folder.join("model.safetensors");
    let bytes = std::fs::read(&path).expect("reads");
    std::fs::write(&path, &bytes[..bytes.len() * 2 / 3]).expect("writes");
    bad.refuses(
        "train",
        "model.checkpoint=short",
        &["short/model.safetensors is truncated", "copy or download it again"],
    );
    std::fs::write(&path, "version https://git-lfs.github.com/spec/v1\n").expect("writes");
    bad.refuses("train", "model.checkpoint=short", &["short/model.safetensors"]);
    std::fs::remove_file(&path).expect("removes");
    bad.refuses("train", "model.checkpoint=short", &["no weights in short", "expected model.safetensors"]);

    let folder = bad.checkpoint("holed");
    let all = safetensors::SafeTensors::deserialize(&bytes).expect("weights");
    let (lost, kept): (Vec<_>, Vec<_>) =
        all.tensors().into_iter().partition(|(name, _)| name.ends_with("layers.1.mlp.up_proj.weight"));
    assert_eq!(lost.len(), 1);
    std::fs::write(folder.join("model.safetensors"), safetensors::serialize(kept, None).expect("weights"))
        .expect("writes");
    bad.refuses(
        "train",
        "model.checkpoint=holed",
        &["the weights in holed", "1 missing: ", "layers.1.mlp.up_proj.weight"],
    );

    // a damaged reference is found before the first step as well
    bad.refuses(
        "train",
        "objective.kind=papo_g model.reference=holed trainer.run_dir=never",
        &["the weights in holed"],
    );
    assert!(!bad.path().join("never/latest").exists());
}

#[test]
fn data_that_cannot_be_read() {
    let bad = Bad::new();
    bad.refuses("train", "data.train=nowhere.parquet", &["nowhere.parquet", "check the path"]);
    bad.refuses("train", "data.train=[]", &["data.train is missing", "parquet or JSONL"]);
    bad.refuses(
        "train",
        "data.answer_column=anwser",
        &["few/train.parquet", "no column `anwser`", "did you mean `answer`?"],
    );
    bad.refuses("train", "data.problem_column=question", &["no column `question`", "the columns are", "`problem`"]);
    bad.refuses(
        "train",
        "data.image_column=problem",
        &["few/train.parquet, row 0", "images[0]", "cannot be read", "image_root"],
    );
    bad.refuses("sft", "data.solution_column=trace", &["no column `trace`", "`solution`"]);
    bad.place.write("empty.jsonl", "");
    bad.refuses("train", "data.train=empty.jsonl", &["empty.jsonl", "no rows"]);
    let bytes = std::fs::read(bad.place.workshop.data("train")).expect("reads");
    bad.place.write("half.parquet", &bytes[..bytes.len() / 2]);
    bad.refuses("train", "data.train=half.parquet", &["half.parquet", "truncated"]);
    bad.place.write("table.csv", "problem,answer\n");
    bad.refuses("train", "data.train=table.csv", &["table.csv", ".parquet"]);
    bad.refuses("train", "data.max_prompt_tokens=5", &["none of 12 rows can be used", "data.max_prompt_tokens = 5"]);
    bad.refuses("train", "data.validation=nowhere.parquet", &["nowhere.parquet"]);
}

#[test]
fn rows_that_are_wrong() {
    let bad = Bad::new();
    let train = |file: String, words: &[&str]| bad.refuses("train", &format!("data.train={file}"), words);
    let good = bad.rows("good", 1, |_| {});
    bad.place.run("train", &format!("data.train={good} --dry-run")).well();

    let file = bad.rows("marks", 7, |row| row["problem"] = json!("<image>Is this <image> the same?"));
    train(
        file,
        &[
            "marks/train.jsonl, line 7",
            "problem",
            "put one `<image>` where each picture belongs",
            "data.on_bad_row = \"skip\"",
        ],
    );
    let file = bad.rows("unmarked", 3, |row| row["problem"] = json!("How many?"));
    train(file, &["unmarked/train.jsonl, line 3", "problem", "put one `<image>`"]);
    let file = bad.rows("unanswered", 5, |row| drop(row.as_object_mut().expect("a row").remove("answer")));
    train(file, &["unanswered/train.jsonl, line 5", "`answer`"]);
    let file = bad.rows("null", 5, |row| row["answer"] = Value::Null);
    train(file, &["null/train.jsonl, line 5", "`answer`"]);
    let file = bad.rows("absent", 6, |row| row["images"] = json!(["pictures/nowhere.png"]));
    train(file, &["absent/train.jsonl, line 6", "images[0]", "pictures/nowhere.png"]);

    // a picture that stops in the middle, and one that is none
    let file = bad.rows("torn", 1, |_| {});
    let row = &crate::program::lines(&bad.path().join(&file))[6];
    let picture = bad.path().join("torn").join(row["images"][0].as_str().expect("a path"));
    let bytes = std::fs::read(&picture).expect("a picture");
    std::fs::write(&picture, &bytes[..bytes.len() / 2]).expect("writes");
    train(file.clone(), &["torn/train.jsonl, line 7", "picture 1", "PNG picture cannot be decoded"]);
    std::fs::write(&picture, "<html>404</html>").expect("writes");
    train(file.clone(), &["torn/train.jsonl, line 7", "picture 1", "not a picture: expected PNG"]);
    // or it is left out, counted, and the run goes on
    let said = bad
        .place
        .run("train", &format!("data.train={file} data.on_bad_row=skip trainer.steps=1 trainer.run_dir=skipping"));
    assert!(said.err.contains("1 bad rows skipped"), "{said:#?}");
    said.well();

    let file = bad.rows("unsolved", 9, |row| drop(row.as_object_mut().expect("a row").remove("solution")));
    bad.refuses("sft", &format!("data.train={file}"), &["unsolved/train.jsonl, line 9", "solution"]);
    assert!(!bad.path().join("run/sft/metrics.jsonl").exists(), "rows are checked before the first step");

    let text = std::fs::read_to_string(bad.path().join("good/train.jsonl")).expect("reads");
    bad.place.write("good/broken.jsonl", text.replacen("\n{", "\n{{", 3));
    train("good/broken.jsonl".to_owned(), &["good/broken.jsonl, line 2"]);
}

#[test]
fn keys_that_are_misspelt() {
    let bad = Bad::new();
    let text = std::fs::read_to_string(bad.path().join("run.toml")).expect("a run file");
    bad.place.write("misspelt.toml", text.replace("max_new_tokens", "max_new_token"));
    refused(
        &bad.place.percept(&["train", "misspelt.toml"]),
        &["misspelt.toml", "`rollout.max_new_token`", "did you mean `rollout.max_new_tokens`?"],
    );
    bad.place.write("broken.toml", text.replace("[rollout]", "[rollout"));
    refused(&bad.place.percept(&["train", "broken.toml"]), &["broken.toml, line", "not valid TOML"]);
    refused(
        &bad.place.percept(&["train", "nowhere.toml"]),
        &["nowhere.toml", "cannot read the run file", "check the path"],
    );
    bad.refuses(
        "train",
        "trainer.step=3",
        &["--set trainer.step=3", "unknown key `trainer.step`", "did you mean `trainer.steps`?"],
    );
    bad.refuses("train", "trainr.steps=3", &["unknown key `trainr`", "did you mean `trainer`?"]);
    bad.refuses("train", "trainer.steps", &["--set trainer.steps", "there is no `=`", "--set section.key=value"]);
    bad.refuses("train", "trainer.steps=many", &["`trainer.steps` must be", "found"]);
    bad.refuses(
        "train",
        "objective.kind=grpo objective.clip_hihg=0.3",
        &["--set objective.clip_hihg=0.3", "`objective.clip_hihg`", "`objective.clip_high`"],
    );
    bad.refuses(
        "train",
        "objective.kind=papo_g objective.gama=0.3",
        &["--set objective.gama=0.3", "unknown key `objective.gama`", "did you mean `objective.gamma`?"],
    );
    bad.refuses(
        "train",
        "objective.kind=papo_d objective.filter_hihg=0.3",
        &["`objective.filter_hihg`", "`objective.filter_high`"],
    );
    bad.refuses("train", "objective.kind=gropo", &["`objective.kind` cannot be \"gropo\"", "did you mean \"grpo\"?"]);
    bad.refuses("train", "objective.kind=ppo", &["`objective.kind` cannot be \"ppo\"", "papo_g"]);
    bad.refuses(
        "train",
        "objective.kind=papo objective.base=reinforce",
        &["--set objective.base=reinforce", "`objective.base` cannot be \"reinforce\"", "\"grpo\""],
    );
    for (value, expected) in [
        ("kind=grpo objective.clip_low=1.0", "`objective.clip_low` must be 0 or more and less than 1, found 1"),
        ("kind=dapo objective.clip_low=-1", "`objective.clip_low` must be 0 or more and less than 1, found -1"),
        ("kind=papo_d objective.clip_high=nan", "`objective.clip_high` must be 0 or more and finite, found NaN"),
        ("kind=papo_g objective.clip_dual=1.0", "`objective.clip_dual` must be more than 1"),
        ("kind=grpo objective.kl_coefficient=-0.01", "`objective.kl_coefficient` must be 0 or more"),
        (
            "kind=dapo objective.filter_high=0.0",
            "`objective.filter_high` must be finite and more than `objective.filter_low`",
        ),
        ("kind=papo_g objective.gamma=-0.01", "`objective.gamma` must be 0 or more"),
        ("kind=papo objective.gamma_anneal_fraction=0", "`objective.gamma_anneal_fraction` must be more than 0"),
        ("kind=papo objective.perception_every=0", "`objective.perception_every` must be at least 1"),
        (
            "kind=papo_d objective.token_mask_top_p=1.5",
            "`objective.token_mask_top_p` must be more than 0 and at most 1",
        ),
    ] {
        bad.refuses("train", &format!("objective.{value}"), &["--set objective.", expected]);
    }
    let verifiers = |table: &str| format!("reward.verifiers=[{{name=\"accuracy\",{table}}}]");
    bad.refuses("train", &verifiers("kind=\"mth\""), &["unknown kind `mth`", "did you mean `math`?"]);
    bad.refuses("train", &verifiers("kind=\"numeric\",relativ=0.1"), &["`accuracy`", "`relativ`", "`relative`"]);
    bad.refuses(
        "train",
        "data.corruption.kind=blacken data.corruption.probabilty=0.5",
        &["`data.corruption.probabilty`", "did you mean `data.corruption.probability`?"],
    );
    bad.refuses(
        "train",
        "objective.kind=papo_g data.corruption.kind=blackn",
        &["data.corruption", "blackn", "blacken"],
    );
}

#[test]
fn values_that_cannot_be() {
    let bad = Bad::new();
    let words = [
        "rollout.prompts_per_step = 5",
        "trainer.prompts_per_update = 2",
        "whole number of updates",
        "set rollout.prompts_per_step = 6",
    ];
    bad.refuses("train", "rollout.prompts_per_step=5", &words);
    if !cfg!(feature = "cuda") {
        bad.refuses(
            "train",
            "device.backend=cuda",
            &["device.backend = \"cuda\"", "not part of this build", "--features cuda"],
        );
    }
    bad.refuses("train", "device.dtype=tf32", &["device.dtype = \"tf32\"", "the CPU does not", "expected \"f32\""]);
    bad.refuses("train", "device.backend=gpu", &["`device.backend` cannot be \"gpu\"", "possible: "]);
    bad.refuses(
        "train",
        "model.freeze=[\"vision.*\"]",
        &["model.freeze", "\"vision.*\" matches no parameter", "parameters are named like"],
    );
    bad.refuses("train", "model.freeze=[\"*\"]", &["model.freeze", "no parameter to train"]);
    bad.refuses(
        "train",
        "optimizer.warmup_steps=100",
        &["optimizer.warmup_steps = 100", "trainer.steps = 8", "or less"],
    );
    bad.refuses("train", "data.format_prompt=nowhere.jinja", &["nowhere.jinja", "\"none\""]);
    bad.refuses("train", "objective.kind=dapo objective.filter_key=acuracy", &["objective.filter_key", "\"accuracy\""]);
    let task = ["task", "--out", "made", "--kinds", "counting"];
    refused(&bad.place.percept(&task), &["--kinds counting", "count, compare and leftmost"]);
    let (warm, test) = (bad.place.workshop.warm(), bad.place.workshop.data("test"));
    let eval = ["eval", "--checkpoint", warm.to_str().expect("Unicode"), "--data", test.to_str().expect("Unicode")];
    refused(
        &bad.place.percept(&[&eval[..], &["--corrupt", "blak"]].concat()),
        &["--corrupt blak", "black, white, mean", "\"blacken\""],
    );
    refused(
        &bad.place.percept(&[&eval[..], &["-k", "4"]].concat()),
        &["--temperature 0 is greedy", "--temperature 1.0"],
    );
    bad.nothing_is_lost();
}

#[test]
fn runs_that_cannot_go_on() {
    let bad = Bad::new();
    bad.refuses("train", "trainer.run_dir=nowhere --resume", &["nowhere: nothing to resume", "without --resume"]);
    bad.refuses(
        "train",
        "trainer.run_dir=earlier trainer.steps=6 --resume",
        &["trainer.steps: was 4, is 6", "validation.every: was 0, is 3", "--allow-change trainer.steps"],
    );
    bad.refuses("train", &format!("{EARLIER} trainer.run_dir=earlier"), &["earlier holds a run already", "--resume"]);
    // a state that was cut short is named, and not taken for an empty one
    let copy = bad.copy();
    let state = copy.join("checkpoints/step-000002/trainer.safetensors");
    std::fs::write(&state, &std::fs::read(&state).expect("reads")[..1000]).expect("writes");
    let words = ["none of its 1 checkpoints is whole", "step-000002/trainer.safetensors", "found 1000"];
    bad.refuses("train", &format!("{EARLIER} trainer.run_dir=copy --resume"), &words);
    // and after all that, the earlier run goes on to its end as if nothing had been
    bad.place.run("train", &format!("{EARLIER} trainer.run_dir=earlier --resume")).well();
    bad.place.run("train", &format!("{EARLIER} trainer.run_dir=whole")).well();
    assert_same_files(&bad.path().join("whole/checkpoints"), &bad.path().join("earlier/checkpoints"));
}

#[test]
#[cfg(unix)]
fn verifiers_that_fail() {
    let bad = Bad::new();
    let cases = [
        ("hang", "[\"sleep\", \"600\"]", &["`sleep 600` did not answer within 0.5 s", "timeout_seconds"][..]),
        (
            "die",
            "[\"sh\", \"-c\", \"echo first >&2; echo 'the judge is tired' >&2; exit 3\"]",
            &["ended without answering", "exit status 3", "the judge is tired"],
        ),
        ("absent", "[\"/no/such/judge\"]", &["cannot start `/no/such/judge`", "is it installed and executable?"]),
        (
            "nonsense",
            "[\"sh\", \"-c\", \"while read -r line; do echo hello; done\"]",
            &["what is no reply", "\"score\"", "hello"],
        ),
        ("high", "[\"sh\", \"-c\", \"read -r line; echo '{\\\"id\\\": 0, \\\"score\\\": 7}'\"]", &["7"]),
    ];
    for (name, command, words) in cases {
        let file = format!("{name}.toml");
        bad.judged(&file, &format!("command = {command}\ntimeout_seconds = 0.5\nstart_seconds = 0.0"));
        let fresh = format!("trainer.run_dir={name}");
        let start = std::time::Instant::now();
        refused(&bad.place.percept(&["train", &file, "--set", "validation.every=0", "--set", &fresh]), words);
        assert!(start.elapsed().as_secs() < 60, "{name}: the program hung with its verifier");
        // the run that a failing verifier was given to keeps what it had
        let copy = bad.copy();
        let sets = ["validation.every=0", "trainer.steps=4", "trainer.run_dir=copy"];
        let flags = ["train", &file, "--resume", "--allow-change", "reward"];
        let resumed: Vec<&str> = flags.into_iter().chain(sets.into_iter().flat_map(|set| ["--set", set])).collect();
        let said = bad.place.percept(&resumed);
        let accepted = said.err.lines().filter(|line| line.starts_with("accepted: reward.verifiers: was ")).count();
        // a program that cannot be started is told before the run directory is looked at
        assert_eq!(accepted, usize::from(name != "absent"), "{}", said.err);
        let err = said.err.lines().filter(|line| !line.starts_with("accepted: ")).collect::<Vec<_>>().join("\n");
        refused(&Said { err, ..said }, words);
        assert_same_files(&bad.path().join("earlier/checkpoints"), &copy.join("checkpoints"));
        bad.nothing_is_lost();
    }
}

/// A judge that works until a file called `broken` is there.
#[cfg(unix)]
const JUDGE: &str = r#"command = ["sh", "-c", '''
while read -r line; do
  if [ -e broken ]; then echo "out of paper" >&2; exit 3; fi
  id=${line#*\"id\":}
  echo "{\"id\": ${id%%,*}, \"score\": 0.5}"
done''']"#;

#[test]
#[cfg(unix)]
fn what_was_learned_before_a_verifier_failed_is_kept() {
    let bad = Bad::new();
    bad.judged("judged.toml", JUDGE);
    // nothing is due to be saved before the last step
    let words = [
        "train",
        "judged.toml",
        "--set",
        "validation.every=0",
        "--set",
        "trainer.checkpoint_every=0",
        "--set",
        "trainer.keep_last=1",
    ];
    let words = |run: &'static str| [&words[..], &["--set", run]].concat();
    bad.place.percept(&words("trainer.run_dir=whole")).well();
    let running = bad.place.start(&words("trainer.run_dir=torn"));
    let mut running = running;
    running.wait_until("step 3", || bad.place.last_step("torn/metrics.jsonl").is_some_and(|step| step >= 3));
    bad.place.write("broken", "");
    refused(&running.end(), &["out of paper", "go on with --resume"]);
    let step = bad.place.last_step("torn/metrics.jsonl").expect("a step");
    assert_eq!(bad.place.pointer("torn/latest"), Some(format!("checkpoints/step-{step:06}")));
    std::fs::remove_file(bad.path().join("broken")).expect("removes");
    bad.place.percept(&[&words("trainer.run_dir=torn")[..], &["--resume"]].concat()).well();
    assert_same_files(&bad.path().join("whole/checkpoints"), &bad.path().join("torn/checkpoints"));
    let metrics = |run: &str| crate::program::metrics(&bad.path().join(run).join("metrics.jsonl"));
    assert_eq!(metrics("whole"), metrics("torn"));
}

/// A warm start meets its verifiers only when it is measured: the step that was just done is kept.
#[test]
fn what_was_learned_before_a_validation_failed_is_kept() {
    let bad = Bad::new();
    bad.judged("judged.toml", JUDGE);
    let sets = ["sft.steps=6", "validation.every=2", "trainer.checkpoint_every=0", "trainer.run_dir=torn"];
    let words: Vec<&str> =
        ["sft", "judged.toml"].into_iter().chain(sets.into_iter().flat_map(|set| ["--set", set])).collect();
    let mut running = bad.place.start(&words);
    let metrics = "torn/sft/metrics.jsonl";
    running.wait_until("step 2", || bad.place.last_step(metrics).is_some_and(|step| step >= 2));
    bad.place.write("broken", "");
    refused(&running.end(), &["out of paper", "go on with --resume"]);
    let step = bad.place.last_step(metrics).expect("a step");
    assert_eq!(bad.place.pointer("torn/sft/latest"), Some(format!("checkpoints/step-{step:06}")));
    std::fs::remove_file(bad.path().join("broken")).expect("removes");
    bad.place.percept(&[&words[..], &["--resume"]].concat()).well();
    assert_eq!(bad.place.last_step(metrics), Some(6));
}
