//! Coefficients over the steps of a run.

use super::cases;
use percept_algorithms::{GammaSchedule, PapoConfig, schedule};
use percept_core::Progress;
use serde::Deserialize;

#[test]
fn schedules() {
    #[derive(Deserialize)]
    #[serde(tag = "kind", rename_all = "snake_case")]
    enum Case {
        Annealing {
            start_value: f64,
            end_value: f64,
            training_steps: u64,
            annealing_ratio: f64,
            coef_used: Vec<f64>,
            entropy_discount: Vec<f64>,
        },
        Adaptive {
            init: f64,
            target: f64,
            horizon: f64,
            n_steps: u64,
            observed_kl: Vec<f64>,
            coef_used: Vec<f64>,
        },
        /// Compared in `config.rs`.
        LrFactor {},
    }
    // these are f64 on both sides: the same formula, up to its last bits
    let close = |what: &str, step: usize, found: f64, want: f64| {
        assert!((found - want).abs() <= 1e-12 * want.abs() + 1e-15, "{what}, step {step}: {found}, not {want}");
    };
    let mut num_cases = [0, 0];
    for case in cases::<Case>("schedules.json") {
        match case {
            Case::Annealing {
                start_value,
                end_value,
                training_steps,
                annealing_ratio,
                coef_used,
                entropy_discount,
            } => {
                let config = PapoConfig {
                    gamma: start_value,
                    gamma_schedule: GammaSchedule::Linear,
                    gamma_end: end_value,
                    gamma_anneal_fraction: annealing_ratio,
                    ..PapoConfig::default()
                };
                assert_eq!(coef_used.len(), entropy_discount.len());
                for (step, (coefficient, discount)) in coef_used.into_iter().zip(entropy_discount).enumerate() {
                    let at = step as u64;
                    let found = schedule::linear(start_value, end_value, training_steps, annealing_ratio, at);
                    close("annealing", step, found, coefficient);
                    let found = config.gamma_at(Progress { step: at, total_steps: training_steps });
                    close("gamma", step, found.0, coefficient);
                    close("entropy discount", step, found.1, discount);
                }
                num_cases[0] += 1;
            }
            Case::Adaptive { init, target, horizon, n_steps, observed_kl, coef_used } => {
                assert!(!coef_used.is_empty());
                let mut coefficient = init;
                for (step, want) in coef_used.into_iter().enumerate() {
                    close("adaptive", step, coefficient, want);
                    if let Some(&observed) = observed_kl.get(step) {
                        coefficient = schedule::adaptive(coefficient, observed, target, horizon, n_steps);
                    }
                }
                num_cases[1] += 1;
            }
            Case::LrFactor {} => {}
        }
    }
    assert!(num_cases.iter().all(|&count| count > 0), "annealing and adaptive cases: {num_cases:?}");
    println!("annealing and adaptive cases: {num_cases:?}");
}
