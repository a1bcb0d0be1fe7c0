//! Whether a checkpoint looks: scores by category, under spoiled and swapped pictures, and training without looking.

use crate::program::{Place, lines, metrics, series};
use crate::torn::{assert_same_run, tear};
use serde_json::{Value, json};
use std::path::Path;

fn words(path: &Path) -> &str {
    path.to_str().expect("Unicode")
}

/// `percept eval` of the warm checkpoint.
fn eval(place: &Place, data: &Path, more: &[&str]) -> crate::program::Said {
    let warm = place.workshop.warm();
    let fixed = ["eval", "--config", "run.toml", "--checkpoint", words(&warm), "--data", words(data)];
    place.percept(&[&fixed[..], more].concat())
}

fn json_of(place: &Place, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(place.path().join(name)).expect("a file")).expect("JSON")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is a number"))
}

fn responses(place: &Place, name: &str) -> Vec<String> {
    lines(&place.path().join(name)).iter().map(|row| row["responses"].to_string()).collect()
}

/// The task's test rows with other keys, in a file of the test's own; pictures are found through `data.image_root`.
fn rows(place: &Place, change: impl Fn(usize, &mut Value)) -> (std::path::PathBuf, String) {
    let folder = place.workshop.lines();
    let mut all = lines(&folder.join("test.jsonl"));
    all.iter_mut().enumerate().for_each(|(at, row)| change(at, row));
    let text: String = all.iter().filter(|row| !row.is_null()).map(|row| format!("{row}\n")).collect();
    (place.write("rows.jsonl", text), format!("data.image_root={:?}", words(&folder)))
}

#[test]
fn a_policy_that_looks_loses_without_its_pictures() {
    let place = Place::new();
    let data = place.workshop.data("train");
    let rows = ["--limit", "96", "--rows", "rows.jsonl"];
    let more = [&rows[..], &["--reliance", "--ratios", "0.5,1.0", "--json", "reliance.json"]].concat();
    let out = eval(&place, &data, &more).well();
    println!("{out}");
    let found = json_of(&place, "reliance.json");
    let conditions = found["conditions"].as_array().expect("conditions");
    let names: Vec<&str> = conditions.iter().map(|condition| condition["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["whole", "masked 0.5", "masked 1", "blank", "swapped"]);
    let mean = |at: usize| number(&conditions[at]["mean"]);
    assert!(mean(0) > mean(3) + 0.05 && mean(0) > mean(4) + 0.05, "the policy looks: {found}");
    assert!((number(&found["reliance"]) - (mean(0) - mean(4)) / mean(0)).abs() < 1e-12, "{found}");
    assert_eq!((&found["rows"], found.get("left_out")), (&json!(96), None));
    for condition in conditions {
        let bounds = |key: &str| (number(&condition[key][0]), number(&condition[key][1]));
        let (value, (low, high)) = (number(&condition["mean"]), bounds("interval"));
        assert!(low <= value && value <= high, "{condition}");
        assert!((mean(0) - value - number(&condition["drop"])).abs() < 1e-12, "{condition}");
        let name = condition["name"].as_str().expect("a name");
        let line = out.lines().find(|line| line.starts_with(&format!("{name}  "))).expect(name);
        assert!(line.contains(&format!(" {value:.4} ")), "{line}");
    }
    let told = format!("reliance, (whole - swapped) / whole: {:.4}", number(&found["reliance"]));
    assert!(out.contains(&told), "{told}: {out}");

    // whole is what `eval` alone measures, and blank what it measures with black pictures
    eval(&place, &data, &rows).well();
    assert_eq!(responses(&place, "rows.jsonl"), responses(&place, "rows.whole.jsonl"));
    eval(&place, &data, &[&rows[..], &["--corrupt", "black"]].concat()).well();
    assert_eq!(responses(&place, "rows.jsonl"), responses(&place, "rows.blank.jsonl"));
    assert_eq!(
        responses(&place, "rows.blank.jsonl"),
        responses(&place, "rows.masked-1.jsonl"),
        "nothing is left to see"
    );
    // a policy that always names one answer is right as often as the answer stands there; one that looks, for pictures of the same answer
    let share =
        format!("those of a row with the same answer for {:.1} % of rows", 100.0 * number(&found["same_answer"]));
    assert!(
        out.contains(&share) && (0.1..0.4).contains(&number(&found["same_answer"])),
        "four answers: {share}, {out}"
    );
    // all rows ask the same: with the pictures, the responses change hands, and none is lost
    let (whole, swapped) = (responses(&place, "rows.whole.jsonl"), responses(&place, "rows.swapped.jsonl"));
    assert_ne!(whole, swapped);
    let sorted = |mut all: Vec<String>| {
        all.sort();
        all
    };
    assert_eq!(sorted(whole), sorted(swapped));
    let compared = place.percept(&["compare", "rows.whole.jsonl", "rows.swapped.jsonl", "--part", "accuracy"]).well();
    assert!(compared.contains(&format!("{:+.4}", mean(4) - mean(0))), "{compared}");
}

#[test]
fn pictures_of_other_sizes_are_swapped_as_they_are() {
    let place = Place::new();
    let task =
        ["task", "--out", "large", "--seed", "4", "--grid", "2", "--size", "112", "--train", "1", "--validation", "1"];
    place.percept(&[&task[..], &["--test", "8"]].concat()).well();
    let more =
        ["--data", "large/test.parquet", "--reliance", "--ratios", "0.5", "--rows", "rows.jsonl", "--json", "r.json"];
    eval(&place, &place.workshop.data("test"), &more).well();
    assert_eq!(json_of(&place, "r.json")["rows"], json!(24));
    let sorted = |name: &str| {
        let mut all = responses(&place, name);
        all.sort();
        all
    };
    // all rows ask the same: a picture is answered alike whosever row it stands in
    assert_eq!(sorted("rows.whole.jsonl"), sorted("rows.swapped.jsonl"));
}

#[test]
fn categories_add_up() {
    let place = Place::new();
    let subjects = ["plane", "solid", "plane", "plane"];
    let (data, root) = rows(&place, |at, row| {
        if at % 5 != 4 {
            row["subject"] = json!(subjects[at % 4]);
        }
    });
    let sampled = ["--set", &root, "-k", "4", "--temperature", "1.0", "--json", "summary.json"];
    let out = eval(&place, &data, &[&sampled[..], &["--category", "subject"]].concat()).well();
    println!("{out}");
    let summary = json_of(&place, "summary.json");
    let categories = summary["categories"].as_object().expect("categories");
    assert_eq!(categories.keys().collect::<Vec<_>>(), ["(none)", "plane", "solid"]);
    let counts: Vec<f64> = categories.values().map(|category| number(&category["rows"])).collect();
    assert_eq!((counts.iter().sum::<f64>(), counts[0]), (16.0, 3.0));
    for name in ["avg_accuracy", "avg_format", "avg_overall", "pass_at_1", "pass_at_2", "pass_at_4"] {
        let values: Vec<f64> = categories.values().map(|category| number(&category[name])).collect();
        let weighted: f64 = values.iter().zip(&counts).map(|(value, count)| value * count).sum();
        assert!((weighted / 16.0 - number(&summary[name])).abs() < 1e-9, "{name}: {summary}");
        assert!((values.iter().sum::<f64>() / 3.0 - number(&summary["category_mean"][name])).abs() < 1e-9, "{name}");
    }
    for (name, category) in categories {
        let line = out.lines().find(|line| line.starts_with(&format!("{name}  "))).expect(name);
        let cells: Vec<&str> = line.split_whitespace().collect();
        let expected = ["avg_accuracy", "pass_at_2", "pass_at_4"].map(|key| format!("{:.4}", number(&category[key])));
        assert_eq!(cells[1], category["rows"].to_string());
        assert_eq!(cells[2..], expected);
    }
    assert!(out.contains("mean of 3 categories") && out.contains("all rows"), "{out}");

    let said = eval(&place, &data, &["--set", &root, "--category", "subjcet"]);
    assert!(said.code == Some(1) && said.err.contains("did you mean `subject`?"), "{}", said.err);
    let more = ["--set", &root, "--category", "subject", "--reliance", "--ratios", "0.5", "--json", "reliance.json"];
    let out = eval(&place, &data, &more).well();
    println!("{out}");
    let found = json_of(&place, "reliance.json");
    for (at, condition) in found["conditions"].as_array().expect("conditions").iter().enumerate() {
        let of = |category: &Value| number(&category["rows"]) * number(&category["conditions"][at]["mean"]);
        let sum: f64 = found["categories"].as_object().expect("categories").values().map(of).sum();
        assert!((sum / 16.0 - number(&condition["mean"])).abs() < 1e-9, "{condition}");
    }
}

#[test]
fn rows_that_cannot_be_swapped_are_told() {
    let place = Place::new();
    let first = lines(&place.workshop.lines().join("test.jsonl"))[0]["images"].clone();
    let (data, root) = rows(&place, |at, row| match at {
        // four rows with the picture of the first, one without, two with pictures of their own
        0 => {}
        1..=3 => row["images"] = first.clone(),
        4 => *row = json!({ "problem": "How many?", "answer": "1" }),
        5 | 6 => {}
        _ => *row = Value::Null,
    });
    let more = ["--set", &root, "--reliance", "--ratios", "0.5", "--json", "reliance.json"];
    let said = eval(&place, &data, &more);
    let told = said.err.clone();
    said.well();
    assert!(told.contains("1 have no picture") && told.contains("2 find no other row with as many"), "{told}");
    let found = json_of(&place, "reliance.json");
    assert_eq!(found["rows"], json!(4));
    assert!(found["left_out"]["without_pictures"][0].as_str().expect("a place").ends_with("rows.jsonl, line 5"));
    assert_eq!(found["left_out"]["without_partner"].as_array().expect("a list").len(), 2);

    let (data, root) = rows(&place, |_, row| row["images"] = first.clone());
    let said = eval(&place, &data, &["--set", &root, "--reliance"]);
    assert!(
        said.code == Some(1) && said.err.contains("none of 16 rows can be given another's pictures"),
        "{}",
        said.err
    );
    let sets = format!("data.picture=swapped data.train={} {root}", data.display());
    let said = place.run("train", &sets);
    assert!(said.code == Some(1) && said.err.contains("of 16 rows, 16 have pictures"), "{}", said.err);
}

#[test]
fn what_reliance_cannot_measure_is_refused() {
    let place = Place::new();
    let data = place.workshop.data("test");
    let refused = |more: &[&str], told: &str| {
        let said = eval(&place, &data, more);
        assert!(said.code != Some(0) && said.err.contains(told), "{more:?}: {}", said.err);
    };
    refused(&["--reliance", "--corrupt", "black"], "cannot be used with");
    refused(&["--ratios", "0.5"], "--reliance");
    refused(&["--reliance", "--ratios", "0.5,1.5"], "at most 1, found 1.5");
    refused(&["--reliance", "--ratios", "0"], "more than 0");
    let noise = ["--reliance", "--set", "data.corruption.kind=gaussian_noise"];
    refused(&noise, "takes no probability; set data.corruption.kind = \"blacken\"");
    // cells of the configured size: two by two of 28 pixels, or one that covers the picture
    let masked = |size: &str| {
        let set = format!("data.corruption.patch_size={size}");
        let mask = ["--set", "data.corruption.kind=blacken", "--set", &set, "--rows", "rows.jsonl"];
        eval(&place, &data, &[&mask[..], &["--reliance", "--ratios", "0.5"]].concat()).well();
        responses(&place, "rows.masked-0.5.jsonl")
    };
    assert_ne!(masked("28"), masked("56"));
}

/// One update a step: later updates would compare with a policy that is not the one that sampled.
const ONE_UPDATE: &str =
    "trainer.steps=2 trainer.prompts_per_update=4 validation.every=1 validation.before_training=true";

#[test]
fn training_on_black_pictures_is_a_control_and_leaves_papo_nothing() {
    let place = Place::new();
    let train = |picture: &str, kind: &str| {
        let run = format!("{picture}-{kind}");
        let sets = format!(
            "{ONE_UPDATE} objective.kind={kind} data.picture={picture} trainer.run_dir={run} trainer.pictures_per_step=1"
        );
        let said = place.run("train", &sets);
        let told = said.err.clone();
        said.well();
        (place.path().join(run), told)
    };
    let warned = |told: &str| told.contains("warning: objective.kind = \"papo_g\" compares pictures with masked ones");
    let (blank, told) = train("blank", "papo_g");
    assert!(told.contains("data.picture = \"blank\": training shows black pictures; validation shows"), "{told}");
    assert!(warned(&told) && told.contains("divergence is 0"), "{told}");
    let divergence = series(&blank.join("metrics.jsonl"), "objective/kl_prcp");
    assert!(divergence.len() == 2 && divergence.iter().all(|value| value.abs() < 1e-6), "{divergence:?}");
    let sample = &lines(&blank.join("samples.jsonl"))[0];
    let png = |key: &str| std::fs::read(blank.join(sample[key][0].as_str().expect("a path"))).expect("a picture");
    assert!(png("picture") == png("masked_picture"), "black, and black with black patches");

    let (whole, told) = train("whole", "papo_g");
    assert!(!told.contains("data.picture"), "{told}");
    let divergence = series(&whole.join("metrics.jsonl"), "objective/kl_prcp");
    assert!(divergence.iter().all(|value| *value > 1e-4), "with its picture, a mask tells: {divergence:?}");
    let first = |run: &Path| metrics(&run.join("metrics.jsonl")).remove(0);
    assert_eq!(first(&blank), first(&whole), "validation before training shows both the same pictures");

    let (_, told) = train("blank", "grpo");
    assert!(told.contains("data.picture = \"blank\"") && !told.contains("degenerate"), "{told}");
    let (swapped, told) = train("swapped", "papo_g");
    assert!(warned(&told) && told.contains("does not belong to the question"), "{told}");
    assert_eq!(first(&swapped), first(&whole));
    let responses = |run: &Path| -> Vec<Value> {
        lines(&run.join("samples.jsonl")).iter().map(|sample| sample["response"].clone()).collect()
    };
    assert_ne!(responses(&swapped), responses(&whole), "other pictures, other responses");

    let said = place.run("sft", "sft.steps=1 data.picture=blank");
    let told = said.err.clone();
    said.well();
    assert!(told.contains("training shows black pictures"), "{told}");
}

#[test]
fn a_run_on_swapped_pictures_resumes_exactly() {
    let place = Place::new();
    // three passes over the twelve rows: the swap of each epoch is its own
    let sets = "objective.kind=grpo data.picture=swapped";
    place.run("train", &format!("{sets} trainer.run_dir=whole")).well();
    tear(&place, "train", "", sets);
    assert_same_run(place.path(), "whole", "torn");
}
