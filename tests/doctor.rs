//! `percept doctor` on a run that learns, and on runs that were broken on purpose: each time it names what was done.

use crate::program::{Place, Said, files};
use serde_json::{Value, json};
use std::path::PathBuf;

/// What the doctor said, and the file it wrote for programs.
struct Examined {
    said: Said,
    file: Value,
}

impl Examined {
    fn findings(&self) -> &[Value] {
        self.file["findings"].as_array().expect("a list")
    }

    fn codes(&self, severity: &str) -> Vec<&str> {
        let of = self.findings().iter().filter(|finding| finding["severity"] == severity);
        of.map(|finding| finding["code"].as_str().expect("a code")).collect()
    }

    /// The only error is this one, with these words somewhere in it.
    fn names(&self, code: &str, words: &[&str]) {
        assert_eq!(self.said.code, Some(1), "{:#?}", self.said);
        assert_eq!(self.codes("error"), [code], "{}", self.said.out);
        assert_eq!(self.file["healthy"], false);
        assert!(self.said.out.contains(&format!("ERROR {code}")), "{}", self.said.out);
        let finding = self.findings().iter().find(|finding| finding["code"] == code).expect("it is there").to_string();
        for word in words {
            assert!(finding.contains(word), "{word:?} is not in {finding}");
        }
    }
}

/// Rich enough to judge: 8 prompts of the 12, 4 responses each, with room to end.
const SETS: [&str; 2] = ["rollout.max_new_tokens=48", "trainer.seed=1"];

fn doctor(place: &Place, sets: &[&str]) -> Examined {
    let mut arguments = vec!["doctor", "run.toml", "--json", "doctor.json"];
    arguments.extend(SETS.iter().chain(sets).flat_map(|set| ["--set", set]));
    let said = place.percept(&arguments);
    println!("{}{}", said.out, said.err);
    let text = std::fs::read_to_string(place.path().join("doctor.json")).expect("what it found");
    Examined { said, file: serde_json::from_str(&text).expect("JSON") }
}

/// The warm checkpoint, to be changed.
fn checkpoint(place: &Place, name: &str) -> PathBuf {
    let folder = place.path().join(name);
    std::fs::create_dir(&folder).expect("a folder");
    for (file, bytes) in files(&place.workshop.warm()) {
        std::fs::write(folder.join(file), bytes).expect("writes");
    }
    folder
}

#[test]
fn a_run_that_learns_is_healthy() {
    let place = Place::new();
    let examined = doctor(&place, &[]);
    assert_eq!(examined.said.code, Some(0), "{:#?}", examined.said);
    assert_eq!(examined.codes("error"), [""; 0]);
    assert_eq!(examined.file["healthy"], true);
    let groups = examined.file["groups"].as_array().expect("groups");
    assert_eq!(groups.len(), 8);
    for response in groups.iter().flat_map(|group| group["responses"].as_array().expect("responses")) {
        // every verifier tells what it read
        let verifiers = response["verifiers"].as_array().expect("verifiers");
        assert_eq!(verifiers.len(), 2);
        for verifier in verifiers {
            assert!(verifier["score"].is_number() && verifier["wanted"].is_string(), "{verifier}");
            assert_ne!(verifier["read"].is_string(), verifier["lacks"].is_string(), "{verifier}");
        }
        let right = verifiers[0]["score"] == 1.0;
        let row = groups.iter().find(|group| group["responses"].as_array().is_some_and(|all| all.contains(response)));
        assert!(!right || verifiers[0]["read"] == row.expect("its group")["answer"], "{response}");
    }
    let wide = examined.said.out.lines().find(|line| line.chars().count() > 100 && !line.contains("--set"));
    assert!(wide.is_none_or(|line| !line.trim().contains(' ')), "{wide:?}");
    // fewer of everything; and a group of one has nothing to compare
    let few = place.percept(&["doctor", "run.toml", "--prompts", "2", "--responses", "3", "--rows", "4"]);
    assert!(few.out.contains("2 prompts x 3 responses") && few.out.contains("4 of 12 checked"), "{few:#?}");
    let one = place.percept(&["doctor", "run.toml", "--responses", "1"]);
    assert_eq!(one.code, Some(1));
    assert!(one.err.contains("--responses must be at least 2"), "{one:#?}");
}

#[test]
fn a_format_prompt_that_asks_for_something_else() {
    let place = Place::new();
    place.write("answer.jinja", "{{ content }} Write the number between <answer> and </answer>.");
    let words = ["<think>", "boxed", "they ask for <answer> and </answer>", "answer.jinja", "data.format_prompt=papo"];
    doctor(&place, &["data.format_prompt=answer.jinja"]).names("prompt_does_not_ask", &words);
    doctor(&place, &["data.format_prompt=none"]).names("prompt_does_not_ask", &["none", "data.format_prompt=papo"]);
    // asked for, and not done: random weights
    let base = format!("model.checkpoint={}", place.workshop.base().display());
    let examined = doctor(&place, &[&base]);
    assert!(examined.codes("error").contains(&"form_is_missing"), "{}", examined.said.out);
    assert!(!examined.codes("error").contains(&"prompt_does_not_ask"), "{}", examined.said.out);
}

#[test]
fn swapped_columns() {
    let place = Place::new();
    let swapped = ["data.problem_column=answer", "data.answer_column=problem"];
    let words = ["12 of 12 rows", "Columns are swapped", "data.problem_column=problem", "data.answer_column=answer"];
    doctor(&place, &swapped).names("answers_swapped", &words);
    doctor(&place, &["data.answer_column=problem"])
        .names("answer_is_problem", &["12 of 12 rows", "not the column with the answers"]);
    doctor(&place, &["data.answer_column=solution"])
        .names("answers_score_zero", &["`accuracy`", "12 of 12 rows", "worked solutions", "data.answer_column=answer"]);
}

#[test]
fn responses_that_are_cut() {
    let place = Place::new();
    let words = ["rollout.max_new_tokens = 4", "the shortest response with full marks", "end at the limit"];
    let examined = doctor(&place, &["rollout.max_new_tokens=4"]);
    examined.names("responses_cut", &words);
    // what it says helps
    let finding = &examined.findings()[0];
    let set = finding["set"][0].as_str().expect("an override");
    assert!(set.starts_with("rollout.max_new_tokens="), "{set}");
    assert_eq!(doctor(&place, &[set]).said.code, Some(0));
}

#[test]
fn a_stop_token_that_never_comes() {
    let place = Place::new();
    let folder = checkpoint(&place, "endless");
    let path = folder.join("generation_config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).expect("reads")).expect("JSON");
    // the second one is `<|endoftext|>`, which ends no turn
    config["eos_token_id"] = json!([config["eos_token_id"][1]]);
    std::fs::write(&path, config.to_string()).expect("writes");
    doctor(&place, &["model.checkpoint=endless"])
        .names("never_stops", &["<|endoftext|>", "eos_token_id", "generation_config.json"]);
}

#[test]
fn a_tag_that_is_left_out_of_what_is_decoded() {
    let place = Place::new();
    // a checkpoint that has learned to write `<think>` as one special token
    let folder = place.path().join("special");
    std::fs::create_dir(&folder).expect("a folder");
    for (file, bytes) in files(&place.workshop.base()) {
        std::fs::write(folder.join(file), bytes).expect("writes");
    }
    let path = folder.join("tokenizer.json");
    let text = std::fs::read_to_string(&path).expect("reads");
    assert!(text.contains("<|vision_pad|>"));
    std::fs::write(&path, text.replace("<|vision_pad|>", "<think>")).expect("writes");
    let train = place.workshop.data("train");
    let sets = format!(
        "model.checkpoint=special data.special_tokens_in_text=allow data.train={} sft.steps=40 validation.every=0",
        train.display()
    );
    assert_eq!(place.run("sft", &sets).code, Some(0));
    let examined =
        doctor(&place, &["model.checkpoint=run/sft/checkpoints/step-000040", "data.special_tokens_in_text=allow"]);
    examined.names("tag_is_special", &["<think> (token", "left out when responses are decoded", "tokenizer.json"]);
}

#[test]
fn pictures_and_prompts_that_do_not_fit() {
    let place = Place::new();
    doctor(&place, &["data.max_pixels=784"])
        .names("pictures_shrunk", &["12 of 12 pictures", "56 x 56", "28 x 28", "data.max_pixels=3136"]);
    let examined = doctor(&place, &["data.max_prompt_tokens=30"]);
    examined.names("prompts_too_long", &["12 of 12 rows", "more than 30 tokens", "data.max_prompt_tokens="]);
    assert!(examined.said.out.contains("no row can be used"), "{}", examined.said.out);
}

#[test]
fn training_warns_in_its_first_steps() {
    let place = Place::new();
    let said = place.run("train", "trainer.steps=4 validation.every=0 rollout.max_new_tokens=48 trainer.run_dir=good");
    assert_eq!(said.code, Some(0));
    assert!(!said.err.contains("[percept doctor:"), "{}", said.err);
    let said = place.run("train", "trainer.steps=4 validation.every=0 rollout.max_new_tokens=4 trainer.run_dir=cut");
    assert_eq!(said.code, Some(0), "{said:#?}");
    let warnings: Vec<&str> =
        said.err.lines().filter(|line| line.contains("[percept doctor: responses_cut]")).collect();
    assert_eq!(warnings.len(), 1, "once: {}", said.err);
    let doctor = doctor(&place, &["rollout.max_new_tokens=4"]);
    let cause = doctor.findings()[0]["cause"].as_str().expect("a cause");
    assert!(warnings[0].starts_with("warning: ") && warnings[0].contains(cause), "{}", warnings[0]);
    // a step that cannot be filled is explained before the run ends
    let base = format!("model.checkpoint={}", place.workshop.base().display());
    let said = place.run(
        "train",
        &format!("validation.every=0 objective.kind=dapo trainer.max_tries=2 trainer.run_dir=base {base}"),
    );
    assert_eq!(said.code, Some(1));
    let (warning, error) = (said.err.find("[percept doctor: responses_cut]"), said.err.find("error: "));
    assert!(warning.is_some() && warning < error, "{}", said.err);
}
