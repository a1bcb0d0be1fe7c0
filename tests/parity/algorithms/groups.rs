//! What a group's rewards decide: advantages, whether it is admitted, and the penalty of a long response.

use super::{Rows, Tolerance, cases};
use percept_algorithms::{Dapo, DapoConfig, Grpo, GrpoConfig, Papo, PapoConfig, overlong_penalty};
use percept_core::{GroupOutcome, Objective};
use percept_trainer::{Refill, RefillProgress};
use serde::Deserialize;
use std::collections::BTreeMap;

fn outcome<'a>(rewards: &'a [f32], parts: &'a [(String, Vec<f32>)], lengths: &'a [usize]) -> GroupOutcome<'a> {
    GroupOutcome { rewards, parts, lengths, max_new_tokens: 64 }
}

/// What the reference gives to a group of equal rewards: the float32 mean of them can miss them by a rounding error, which the
/// division by std + 1e-6 makes an advantage (0.06 for three times 0.9). Percept gives 0 and does no work for such a group; the
/// golden must be this error to the last digits, and nothing else.
fn rounding_error(rewards: &[f32]) -> f32 {
    let n = rewards.len() as f32;
    let mean = rewards.iter().sum::<f32>() / n;
    let squares: f64 = rewards.iter().map(|&reward| (f64::from(reward) - f64::from(mean)).powi(2)).sum();
    let deviation = (squares / f64::from(n - 1.0)).sqrt() as f32;
    (rewards[0] - mean) / (deviation + 1e-6)
}

#[test]
fn advantages() {
    #[derive(Deserialize)]
    struct Want {
        advantages: Rows,
    }
    #[derive(Deserialize)]
    struct Case {
        token_level_rewards: Rows,
        response_mask: Rows,
        group: Vec<String>,
        grpo: Want,
        dapo: Want,
    }
    let mut tolerance = Tolerance::default();
    let mut num_rounded = 0;
    let cases: Vec<Case> = cases("advantages.json");
    for (number, case) in cases.iter().enumerate() {
        let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        case.group.iter().enumerate().for_each(|(row, name)| groups.entry(name).or_default().push(row));
        let papo = |base: Box<dyn Objective>| Box::new(Papo::new(PapoConfig::default(), base));
        let methods: [(&str, Box<dyn Objective>, &Want); 4] = [
            ("grpo", Box::new(Grpo::new(GrpoConfig::default())), &case.grpo),
            ("dapo", Box::new(Dapo::new(DapoConfig::default())), &case.dapo),
            ("papo_g", papo(Box::new(Grpo::new(GrpoConfig::default()))), &case.grpo),
            ("papo_d", papo(Box::new(Dapo::new(DapoConfig::default()))), &case.dapo),
        ];
        for (name, method, want) in methods {
            for rows in groups.values() {
                let rewards: Vec<f32> = rows.iter().map(|&row| case.token_level_rewards[row].iter().sum()).collect();
                let credit = method.credit(&outcome(&rewards, &[], &vec![1; rows.len()]));
                let rounding = if rewards.iter().all(|reward| reward == &rewards[0]) {
                    assert!(credit.iter().all(|&advantage| advantage == 0.0), "equal rewards, credit {credit:?}");
                    rounding_error(&rewards)
                } else {
                    0.0
                };
                num_rounded += usize::from(rounding != 0.0);
                for (&row, advantage) in rows.iter().zip(credit) {
                    // the trainer gives each token of a response the response's advantage
                    let advantage = advantage + rounding;
                    let found: Vec<f32> = case.response_mask[row].iter().map(|mask| mask * advantage).collect();
                    tolerance.check_all(&format!("case {number}, {name}, row {row}"), &found, &want.advantages[row]);
                }
            }
        }
    }
    tolerance.print("advantages");
    println!("{num_rounded} groups of equal rewards to which the reference gives its rounding error");
    println!("{} cases; skipped: rloo, remax, reinforce_plus_plus, dr_grpo", cases.len());
}

#[test]
fn group_filter() {
    #[derive(Deserialize)]
    struct Case {
        filter_key: String,
        prompts_needed: usize,
        filter_low: f64,
        filter_high: f64,
        max_tries: usize,
        chunks: Vec<Vec<Vec<f32>>>,
        decisions: Vec<Vec<bool>>,
        chunks_used: usize,
        batch: Option<Vec<[usize; 2]>>,
        error: Option<String>,
    }
    let cases: Vec<Case> = cases("group_filter.json");
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, case) in cases.iter().enumerate() {
        let what = format!("case {number}");
        let (filter_low, filter_high, filter_key) = (case.filter_low, case.filter_high, case.filter_key.clone());
        let config = DapoConfig { filter_low, filter_high, filter_key, ..DapoConfig::default() };
        // PAPO admits what its base admits
        let papo = Papo::new(PapoConfig::default(), Box::new(Dapo::new(config.clone())));
        let methods: [Box<dyn Objective>; 2] = [Box::new(Dapo::new(config)), Box::new(papo)];
        let decide = |outcome: &GroupOutcome| {
            let [dapo, papo] = methods.each_ref().map(|method| method.admit(outcome));
            assert_eq!(dapo, papo, "case {number}: PAPO_D decides otherwise than DAPO");
            dapo
        };
        let admit = |scores: &Vec<f32>, want: bool| {
            // what the filter should not read speaks for the other decision
            let middle = 0.5 * (case.filter_low + case.filter_high) as f32;
            let others = vec![if want { case.filter_high as f32 + 1.0 } else { middle }; scores.len()];
            let lengths = vec![1; scores.len()];
            if case.filter_key == "overall" {
                return decide(&outcome(scores, &[("accuracy".to_owned(), others)], &lengths));
            }
            let parts = [("other".to_owned(), others.clone()), (case.filter_key.clone(), scores.clone())];
            decide(&outcome(&others, &parts, &lengths))
        };
        let mut refill = Refill::new(case.prompts_needed, case.max_tries).keep_rejected_chunk();
        let mut end = None;
        for (k, chunk) in case.chunks.iter().enumerate() {
            let wanted = case.decisions[k].iter();
            let decisions: Vec<bool> = chunk.iter().zip(wanted).map(|(scores, want)| admit(scores, *want)).collect();
            assert_eq!(decisions, case.decisions[k], "{what}: decisions of chunk {k}");
            let groups = decisions.into_iter().enumerate().map(|(prompt, admitted)| ([k, prompt], admitted));
            let progress = refill.push(groups.collect());
            if progress != RefillProgress::More {
                end = Some(progress);
                break;
            }
        }
        assert_eq!(refill.tries(), case.chunks_used, "{what}: chunks used");
        let error = match end {
            Some(RefillProgress::Full) => None,
            Some(_) => Some("too many tries"),
            None => Some("data ended"),
        };
        assert_eq!(error, case.error.as_deref(), "{what}");
        if error.is_none() {
            assert_eq!(Some(refill.into_groups()), case.batch, "{what}: the batch");
        }
        *outcomes.entry(error.unwrap_or("full")).or_default() += 1;
    }
    println!("{} cases: {outcomes:?}", cases.len());
}

#[test]
fn a_rejected_chunk_is_kept_for_the_comparison_only() {
    let mut refill = Refill::new(3, 0).keep_rejected_chunk();
    assert_eq!(refill.push(vec![(0, true), (1, false)]), RefillProgress::More);
    assert_eq!(refill.push(vec![(2, false), (3, false)]), RefillProgress::Full);
    assert_eq!(refill.into_groups(), [0, 2, 3]);
    // what a run does: rejected groups never come back
    let mut refill = Refill::new(3, 2);
    assert_eq!(refill.push(vec![(0, true), (1, false)]), RefillProgress::More);
    assert_eq!(refill.push(vec![(2, false), (3, false)]), RefillProgress::TooManyTries);
    assert_eq!(refill.into_groups(), [0]);
}

#[test]
fn overlong_penalties() {
    #[derive(Deserialize)]
    struct Case {
        length: usize,
        max_length: usize,
        buffer: usize,
        penalty: f64,
    }
    let mut tolerance = Tolerance::default();
    let cases: Vec<Case> = cases("overlong.json");
    for case in &cases {
        let Case { length, max_length, buffer, penalty } = *case;
        let what = || format!("{length} of {max_length}, buffer {buffer}");
        tolerance.check(what, overlong_penalty(length, max_length, buffer), penalty);
        // in a group: as if the rewards were given with the penalty taken off
        let factor = 0.5;
        let dapo = |overlong_buffer_tokens| {
            Dapo::new(DapoConfig { overlong_buffer_tokens, overlong_factor: factor, ..DapoConfig::default() })
        };
        let (rewards, lengths) = ([0.25, 1.0, 0.5], [length, 0, 0]);
        let shaped = [0.25 + (factor * penalty) as f32, 1.0, 0.5];
        let with = GroupOutcome { rewards: &rewards, parts: &[], lengths: &lengths, max_new_tokens: max_length };
        let without = GroupOutcome { rewards: &shaped, ..with };
        tolerance.check_all(&what(), &dapo(Some(buffer)).credit(&with), &dapo(None).credit(&without));
    }
    tolerance.print("overlong");
    println!("{} cases", cases.len());
}
