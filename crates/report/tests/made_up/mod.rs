//! Runs that never were, to look at: curves as a run of PAPO has them, pictures of circles, responses in pieces.

mod picture;

use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;

/// What is made up.
#[derive(Clone, Copy, Debug)]
pub struct MadeUp {
    pub seed: u64,
    pub steps: u64,
    pub objective: &'static str,
    /// Prompts kept at each step, of 4 responses each.
    pub prompts: u64,
}

/// Numbers between 0 and 1 that look random, from SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About normal, with this deviation.
    fn noise(&mut self, deviation: f64) -> f64 {
        (0..6).map(|_| self.next() - 0.5).sum::<f64>() * deviation * 1.4
    }
}

/// Writes metrics, samples, pictures and configuration.
pub fn write_run(run: &Path, made_up: MadeUp) {
    fs::create_dir_all(run.join("pictures")).expect("a folder");
    let mut numbers = Numbers(made_up.seed);
    let steps = 0..=made_up.steps;
    let metrics: String =
        steps.map(|step| format!("{}\n", Value::Object(metrics(&mut numbers, made_up, step)))).collect();
    fs::write(run.join("metrics.jsonl"), metrics).expect("written");
    let mut samples = String::new();
    // samples of the last 60 steps or fewer are enough to look at
    for step in made_up.steps.saturating_sub(59).max(1)..=made_up.steps {
        for prompt in 0..made_up.prompts {
            write_samples(run, &mut samples, &mut numbers, made_up, step, prompt);
        }
    }
    fs::write(run.join("samples.jsonl"), samples).expect("written");
    let papo = made_up.objective.starts_with("papo");
    let own = if papo { "gamma = 0.02\nentropy_coefficient = 0.0\n" } else { "" };
    let config = format!(
        "[model]\ncheckpoint = \"checkpoints/Qwen2.5-VL-3B-Instruct\"\n\n[data]\ntrain = [\"data/train.parquet\"]\n\
         validation = \"data/validation.parquet\"\n\n[data.corruption]\nkind = \"blacken\"\nratio = 0.6\n\n[objective]\n\
         kind = \"{}\"\nclip_low = 0.2\nclip_high = 0.3\n{own}\n[optimizer]\nlearning_rate = 1e-6\n\n[trainer]\nsteps = {}\n\
         run_dir = \"runs/{}\"\nseed = {}\n",
        made_up.objective, made_up.steps, made_up.objective, made_up.seed
    );
    fs::write(run.join("config.toml"), config).expect("written");
}

fn metrics(numbers: &mut Numbers, made_up: MadeUp, step: u64) -> Map<String, Value> {
    let share = step as f64 / made_up.steps as f64;
    let papo = made_up.objective.starts_with("papo");
    let skill = 0.25 + (if papo { 0.58 } else { 0.45 }) * (1.0 - (-3.2 * share).exp());
    let mut line = Map::new();
    let mut set = |name: &str, value: f64| drop(line.insert(name.to_owned(), json!(value)));
    let every = (made_up.steps / 20).max(1);
    if step.is_multiple_of(every) {
        let accuracy = (skill + numbers.noise(0.015)).clamp(0.0, 1.0);
        set("validation/accuracy", accuracy);
        set("validation/format", (0.6 + 0.4 * share + numbers.noise(0.01)).min(1.0));
        set("validation/overall", 0.9 * accuracy + 0.09);
        set("validation/rows", 256.0);
    }
    if step > 0 {
        let accuracy = (skill + numbers.noise(0.05)).clamp(0.0, 1.0);
        let length = 220.0 - 90.0 * share + numbers.noise(18.0);
        let levels = [
            ("reward/accuracy", accuracy),
            ("reward/format", (0.55 + 0.44 * (1.0 - (-9.0 * share).exp()) + numbers.noise(0.02)).min(1.0)),
            ("reward/overall", 0.9 * accuracy + 0.08),
            ("response/length_mean", length),
            ("response/length_max", length * 2.1),
            ("response/length_min", length * 0.3),
            ("response/cut_fraction", (0.06 - 0.05 * share + numbers.noise(0.01)).max(0.0)),
            ("response/tokens", length * 64.0),
            ("prompt/length_mean", 318.0 + numbers.noise(6.0)),
            ("advantage_mean", numbers.noise(1e-7)),
            ("advantage_max", 1.7 + numbers.noise(0.1)),
            ("advantage_min", -1.8 + numbers.noise(0.1)),
            ("collect/correct_fraction", accuracy),
            ("collect/groups_without_variance", (0.1 + 0.4 * share + numbers.noise(0.05)).clamp(0.0, 1.0)),
            ("collect/tries", 1.0),
            ("objective/loss", 0.01 * (1.0 - share) + numbers.noise(0.008)),
            ("objective/policy_loss", numbers.noise(0.006)),
            ("objective/clip_fraction_high", (0.002 + numbers.noise(0.001)).max(0.0)),
            ("objective/behavior_kl", (0.0004 + numbers.noise(0.0002)).max(0.0)),
            ("objective/reference_kl", 0.08 * share + numbers.noise(0.003)),
            ("objective/nll", 0.52 - 0.3 * share + numbers.noise(0.02)),
            ("optimizer/grad_norm", (0.6 + numbers.noise(0.15)).abs() * if numbers.next() > 0.995 { 9.0 } else { 1.0 }),
            ("optimizer/learning_rate", 1e-6 * (step as f64 / 10.0).min(1.0)),
            ("optimizer/skipped_updates", 0.0),
            ("rollout/logprob_gap_max", (0.02 + numbers.noise(0.004)).abs()),
            ("rollout/logprob_gap_kl", numbers.noise(1e-5)),
            ("memory/peak_rss_mib", 5_230.0 + 40.0 * share),
        ];
        levels.into_iter().for_each(|(name, value)| set(name, value));
        if papo {
            set("objective/kl_prcp", 0.35 + 1.1 * share + numbers.noise(0.06));
            set("objective/kl_prcp_variance", (2.0 + numbers.noise(0.5)).abs());
            set("objective/masked_likelier_fraction", 0.3 - 0.1 * share + numbers.noise(0.01));
        }
        times(&mut set, numbers, length, papo, step.is_multiple_of(every));
        if step % 97 == 13 {
            line.insert("optimizer/grad_norm".to_owned(), Value::Null);
        }
    }
    line.insert("step".to_owned(), step.into());
    line
}

/// Seconds of a step's phases.
fn times(set: &mut impl FnMut(&str, f64), numbers: &mut Numbers, length: f64, papo: bool, validates: bool) {
    let mut whole = 0.3;
    let mut phases =
        vec![("data", 0.4), ("rollout", length / 9.0), ("reward", 0.2), ("reference", 2.1), ("update", 14.0)];
    if papo {
        phases.push(("corrupted", 3.0));
    }
    if validates {
        phases.push(("validation", 25.0));
    }
    for (name, seconds) in phases {
        let seconds = seconds * (1.0 + numbers.noise(0.04));
        whole += seconds;
        set(&format!("time/{name}_seconds"), seconds);
    }
    set("time/step_seconds", whole);
    set("speed/tokens_per_second", length * 64.0 / whole);
}

fn write_samples(run: &Path, lines: &mut String, numbers: &mut Numbers, made_up: MadeUp, step: u64, prompt: u64) {
    let number = 1 + (numbers.next() * 6.0) as u64;
    let [whole, masked] = ["", "-masked"].map(|kind| format!("pictures/{step:06}-{prompt}{kind}.png"));
    let circles: Vec<[f64; 3]> =
        (0..number).map(|_| [numbers.next(), numbers.next(), 0.05 + 0.08 * numbers.next()]).collect();
    for (path, is_masked) in [(&whole, false), (&masked, true)] {
        fs::write(run.join(path), picture::circles(&circles, is_masked, step * 31 + prompt)).expect("written");
    }
    for _ in 0..4 {
        let is_right = numbers.next() < 0.35 + 0.5 * step as f64 / made_up.steps as f64;
        let said = if is_right { number } else { number + 1 };
        let hostile = prompt == 0 && numbers.next() < 0.1;
        let (pieces, divergence) = response(numbers, number, said, hostile);
        let accuracy = f64::from(u8::from(is_right));
        lines.push_str(&format!("{}\n", json!({
            "step": step,
            "row": format!("train.parquet row {}", step * 16 + prompt),
            "problem": "<image>How many red circles are in the image? Count each one, also those that are partly hidden.",
            "answer": number.to_string(),
            "response": pieces[..pieces.len() - 1].concat(),
            "reward": 0.9 * accuracy + 0.1,
            "parts": {"accuracy": accuracy, "format": 1.0},
            "advantage": if is_right { 0.78 } else { -1.26 },
            "tokens": pieces.len(),
            "group": prompt,
            "correct": is_right,
            "pieces": pieces,
            "divergence": divergence,
            "picture": [whole],
            "masked_picture": masked,
        })));
    }
}

/// Pieces of a response, with their divergence: large where the picture is read.
fn response(numbers: &mut Numbers, number: u64, said: u64, hostile: bool) -> (Vec<String>, Vec<Option<f64>>) {
    let where_it_is = ["top", "left", "middle", "right", "bottom", "corner"];
    let mut words: Vec<(String, f64)> = Vec::new();
    let mut say = |text: &str, size: f64| {
        words.extend(text.split_inclusive(' ').map(|word| (word.to_owned(), size * (0.6 + 0.8 * numbers.next()))));
    };
    say("<think>\nLet me look at the picture and go through the circles one by one.\n", 0.02);
    for at in 0..said {
        say("There is a red circle near the ", 0.05);
        say(&format!("{} ", where_it_is[(at as usize + number as usize) % 6]), if at < number { 1.6 } else { -0.7 });
        say("of the image.\n", 0.04);
    }
    if hostile {
        say("</script><script>document.body.remove()</script><img src=x onerror=alert(1)>\n", 0.1);
    }
    say("Together these are ", 0.1);
    say(&format!("{said} "), if said == number { 2.4 } else { -1.1 });
    say("circles.\n</think>\nThe answer is \\boxed{", 0.03);
    say(&said.to_string(), 0.9);
    say("}.", 0.01);
    let mut divergence: Vec<Option<f64>> = words.iter().map(|(_, size)| Some((size * 1e4).round() / 1e4)).collect();
    divergence.push(None);
    let pieces = words.into_iter().map(|(word, _)| word).chain(["<|im_end|>".to_owned()]).collect();
    (pieces, divergence)
}
