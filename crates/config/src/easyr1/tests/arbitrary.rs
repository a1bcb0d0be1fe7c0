//! Whatever is given is answered: with a run that Percept reads, or with what is wrong.

use proptest::prelude::*;

use super::{COMMON, file, papo, script, strings};
use crate::RunConfig;
use crate::easyr1::convert;

/// Lines with YAML's own characters in them.
const LINES: &str = "([ ]{0,4}[a-z&*!?|>'\"\\[\\]{}:,#%@`~<-]{0,6}[:\\-,\n ]{0,3}){0,24}";

/// Keys that are read or known, so that arbitrary trees reach the conversion.
fn keys() -> impl Strategy<Value = String> {
    let all = [file("dapo_papo"), script("3B", "grpo", 2), papo("0.01", Some("0.03"))].concat();
    let mut known: Vec<String> = all.iter().map(|key| key.split('=').next().unwrap_or("").to_owned()).collect();
    known.extend(strings(&["data", "worker.actor", "trainer.max_steps", "worker.rollout.val_override_config.n"]));
    known.extend(strings(&[
        "data.min_pixels",
        "worker.actor.model.lora.rank",
        "worker.actor.optim.betas",
        "worker.rollout.n",
    ]));
    known.extend(strings(&[
        "algorithm.use_kl_prcp",
        "trainer.save_limit",
        "worker.rollout.top_k",
        "algorithm.use_kl_loss",
    ]));
    prop_oneof![8 => proptest::sample::select(known), 1 => "[a-z.]{0,12}", 1 => any::<String>()]
}

fn yaml_values() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:?}")),
        proptest::sample::select(strings(&["true", "no", "null", ".nan", ".inf", "0", "2", "", "overall", "papo/x@y"])),
        proptest::sample::select(strings(&[
            "${data.seed}",
            "${.n}",
            "${trainer}",
            "a${",
            "*a",
            "&a 1",
            "!!str 1",
            "!x 1"
        ])),
        "[a-z/:.@]{1,10}",
        any::<String>().prop_map(|text| format!("{text:?}")),
        any::<String>(),
    ];
    scalar.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            proptest::collection::vec(("[a-z_]{1,8}", inner), 0..4).prop_map(|entries| {
                let entries: Vec<String> = entries.into_iter().map(|(key, value)| format!("{key}: {value}")).collect();
                format!("{{{}}}", entries.join(", "))
            }),
        ]
    })
}

/// What comes out is a run that Percept reads; what does not says why on one line.
fn assert_answers(text: &str, overrides: &[String]) {
    match convert("c.yaml", text, overrides) {
        Ok(imported) => {
            let run = RunConfig::parse("imported", &imported.toml, &[], &[]);
            assert!(run.is_ok(), "{run:?}\n{}", imported.toml);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_answered(text in any::<String>(), lines in LINES) {
        assert_answers(&text, &[]);
        assert_answers(&lines, &[]);
        assert_answers(&format!("data:\n  {text}: {lines}"), &[text.clone(), lines]);
    }

    #[test]
    fn any_tree_is_answered(given in proptest::collection::vec((keys(), yaml_values()), 1..12), in_file in any::<bool>()) {
        let overrides: Vec<String> = given.iter().map(|(key, value)| format!("{key}={value}")).collect();
        for (key, value) in &given {
            let line = |(depth, name): (usize, &str)| format!("\n{}{name}:", "  ".repeat(depth));
            let nested: String = key.split('.').enumerate().map(line).collect();
            assert_answers(&format!("{nested} {value}\n"), if in_file { &[] } else { &overrides });
        }
        assert_answers(COMMON, &overrides);
        for one in overrides {
            assert_answers(COMMON, std::slice::from_ref(&one));
        }
    }
}
