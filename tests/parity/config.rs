//! Learning-rate factors against the reference's (`schedules.json`, kind `lr_factor`).
//!
//! The reference's factor at step s is min(1, s / max(1, warmup)): 0 at the first step. Percept's schedule is the same
//! curve one step earlier, so that the first step learns; every factor after the reference's first is compared.

use percept_config::{OptimizerConfig, Schedule};
use serde_json::Value;

use super::golden;

#[test]
fn warm_up_is_the_references_one_step_earlier() {
    let mut num_cases = 0;
    for folder in golden::folders("algorithms") {
        let path = folder.join("schedules.json");
        // The folder may hold other kinds of goldens only; that no case is found at all is an error below.
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let golden: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let cases = golden["cases"].as_array().expect("schedules.json holds a list of cases");
        for case in cases.iter().filter(|case| case["kind"] == "lr_factor") {
            let warmup_steps = case["warmup_steps"].as_u64().expect("warmup_steps is a whole number") as usize;
            let optimizer = OptimizerConfig { warmup_steps, schedule: Schedule::Constant, ..Default::default() };
            let factors = case["factor_used"].as_array().expect("factor_used is a list");
            assert!(factors.len() > 1, "{}: a case needs a step after the first", path.display());
            for (step, factor) in factors.iter().skip(1).enumerate() {
                let expected = factor.as_f64().expect("a factor is a number");
                let found = optimizer.schedule_factor(step as u64, factors.len() as u64);
                assert!(
                    (found - expected).abs() <= 1e-12,
                    "warm-up {warmup_steps}, step {step}: {found} for {expected}"
                );
            }
            assert!(optimizer.schedule_factor(0, 100) > 0.0, "the first step learns");
            num_cases += 1;
        }
    }
    assert!(num_cases > 0, "no learning-rate case was found in the goldens");
    println!("{num_cases} learning-rate schedules");
}
