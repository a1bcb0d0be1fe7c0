//! Sections whose types belong to other crates: objectives, corruptions, verifiers.

use super::Fallback::{ByColumn, Required, Toml, Words};
use super::{Key, Kind, ONE, Section, key};

const ESTIMATORS: Kind = Kind::Choice(&["k1", "k2", "k3", "abs"]);
const PART: Kind = Kind::Choice(&["boxed", "last_line", "whole"]);

const fn of_kind(path: &'static str, heading: &'static str, before: &'static str, keys: &'static [Key]) -> Section {
    Section { path, heading: Some(heading), before, columns: ONE, keys, after: "" }
}

/// `[data.corruption]`, a table for each kind.
pub const CORRUPTIONS: &[Section] = &[
    Section {
        before: "How the masked twin of a picture is made, for objectives that compare with one. It works on the raw picture, \
                 before any resize. `kind` is\none of `blacken` (default), `blank`, `gaussian_noise`, `gaussian_blur`; the \
                 other keys are the kind's.\n\nSquare cells of the raw picture, each black with the same probability:",
        ..of_kind(
            "data.corruption",
            "`[data.corruption]` with `kind = \"blacken\"`",
            "",
            &[
                key("patch_size", Kind::Whole, Toml("14"), "side of a cell in pixels, at least 1"),
                key("probability", Kind::Number, Toml("0.6"), "of a cell to turn black, from 0 to 1"),
            ],
        )
    },
    of_kind(
        "data.corruption",
        "`kind = \"blank\"`",
        "The whole picture one colour.",
        &[key("color", Kind::Choice(&["black", "white", "mean"]), Toml("\"black\""), "`mean` is the picture's own")],
    ),
    of_kind(
        "data.corruption",
        "`kind = \"gaussian_noise\"`",
        "Normal noise on every sample.",
        &[key("deviation", Kind::Number, Toml("189.0"), "in levels of 0 to 255; 0 or more")],
    ),
    of_kind(
        "data.corruption",
        "`kind = \"gaussian_blur\"`",
        "Gaussian blur.",
        &[key("radius", Kind::Number, Toml("6.0"), "in pixels, from 0 to 1000")],
    ),
];

/// What all entries of `[[reward.verifiers]]` have.
pub const VERIFIER: Section = Section {
    path: "reward.verifiers",
    heading: Some("`[[reward.verifiers]]`"),
    before: "",
    columns: ONE,
    keys: &[
        key("name", Kind::Text, Required, "what metrics call it; `accuracy` is what checkpoints are judged by"),
        key(
            "kind",
            Kind::Text,
            Required,
            "`math`, `format`, `choice`, `exact`, `numeric`, `command`, or one of your own",
        ),
        key("weight", Kind::Number, Toml("1.0"), "what its score is multiplied with; the reward is the sum"),
        key(
            "on_error",
            Kind::Choice(&["stop", "zero"]),
            Toml("\"stop\""),
            "when it cannot judge a response, grading stops, or the score is 0, counted and logged",
        ),
    ],
    after: "`kind = \"math\"` has no keys of its own: 1 for a last `\\boxed{}` that equals the answer as mathematics.",
};

/// The keys of each kind of verifier that has any.
pub const VERIFIERS: &[Section] = &[
    of_kind(
        "reward.verifiers",
        "`kind = \"format\"`",
        "1 for `<think>...</think>...\\boxed{...}`.",
        &[key(
            "style",
            Kind::Choice(&["think", "think_opened"]),
            Toml("\"think\""),
            "`think_opened`: the chat template opens `<think>`, and the response need not",
        )],
    ),
    of_kind(
        "reward.verifiers",
        "`kind = \"choice\"`",
        "1 for the right option, by letter or text.",
        &[
            key("letters", Kind::Text, Toml("\"ABCDEFGH\""), "the letters options may have, A to Z"),
            key("boxed_only", Kind::Flag, Toml("false"), "whether a `\\boxed{}` is asked for"),
        ],
    ),
    of_kind(
        "reward.verifiers",
        "`kind = \"exact\"`",
        "1 for the answer as it is.",
        &[
            key("part", PART, Toml("\"boxed\""), "which part of the response is compared"),
            key("ignore_case", Kind::Flag, Toml("false"), "whether `Yes` is `yes`"),
        ],
    ),
    of_kind(
        "reward.verifiers",
        "`kind = \"numeric\"`",
        "1 for a number within the tolerance.",
        &[
            key("part", PART, Toml("\"boxed\""), "which part of the response is read"),
            key("absolute", Kind::Number, Toml("0.0"), "the distance that is always forgiven"),
            key("relative", Kind::Number, Toml("1e-6"), "the distance that is forgiven, as a share of the true number"),
        ],
    ),
    Section {
        after: "The program reads lines `{\"id\": 7, \"problem\": \"...\", \"response\": \"...\", \"answer\": \"...\"}` and \
                answers each with `{\"id\": 7, \"score\": 1.0}`.\nNo shell stands between. When it does not answer in time, \
                it is killed with what it started, and a fresh copy takes its place.",
        ..of_kind(
            "reward.verifiers",
            "`kind = \"command\"`",
            "What a program of your own says.",
            &[
                key("command", Kind::Texts, Required, "the program and its arguments: `[\"python3\", \"judge.py\"]`"),
                key("directory", Kind::Path, Words("where Percept runs"), "where it runs"),
                key("environment", Kind::Table, Words("none"), "variables added to its environment"),
                key("workers", Kind::Whole, Toml("1"), "copies that run"),
                key("timeout_seconds", Kind::Number, Toml("10.0"), "longest time for one item, in seconds"),
                key("start_seconds", Kind::Number, Toml("20.0"), "added to it for a copy's first item, in seconds"),
                key("lowest", Kind::Number, Toml("0.0"), "the lowest score"),
                key("highest", Kind::Number, Toml("1.0"), "the highest score"),
            ],
        )
    },
];

/// `[objective]`: what GRPO and DAPO share, and DAPO's own keys. PAPO_G has GRPO's, PAPO_D has DAPO's.
pub const OBJECTIVE: Section = Section {
    path: "objective",
    heading: None,
    before: "`kind` selects the method, one of `grpo` (default), `dapo`, `papo_g`, `papo_d`, `papo`, or one of your own; the other \
             keys are its own.",
    columns: &["grpo, papo_g", "dapo, papo_d"],
    keys: &[
        key("clip_low", Kind::Number, Toml("0.2"), "ratios below 1 - this are clipped; 0 or more, less than 1"),
        key("clip_high", Kind::Number, ByColumn(&["0.3", "0.28"]), "ratios above 1 + this are clipped; 0 or more"),
        key(
            "clip_dual",
            Kind::Number,
            Toml("3.0"),
            "with a negative advantage A, the loss of a token is at most -A times this; above 1; `inf` is off",
        ),
        key(
            "average",
            Kind::Choice(&["token", "sequence", "micro_batch_token", "micro_batch_sequence"]),
            Toml("\"token\""),
            "what a sum over tokens is divided by: `token` (mean over the mini-batch's tokens), `sequence` (mean of the \
             responses' means), `micro_batch_token` and `micro_batch_sequence` (mean of micro-batch means: the reference's \
             code)",
        ),
        key(
            "kl_coefficient",
            Kind::Number,
            ByColumn(&["0.01", "0.0"]),
            "of the divergence to the reference; 0: no reference model is loaded",
        ),
        key("kl_estimator", ESTIMATORS, Toml("\"k3\""), "how that divergence is estimated"),
        key(
            "imitation_coefficient",
            Kind::Number,
            Toml("0.0"),
            "of the negative log-likelihood of right responses; 0 or more",
        ),
        key(
            "filter_low",
            Kind::Number,
            ByColumn(&["", "0.01"]),
            "a group is admitted when the mean of `filter_key` is more than this",
        ),
        key("filter_high", Kind::Number, ByColumn(&["", "0.99"]), "and less than this"),
        key("filter_key", Kind::Text, ByColumn(&["", "\"accuracy\""]), "a verifier's name, or `overall`"),
        key(
            "overlong_buffer_tokens",
            Kind::Whole,
            ByColumn(&["", "none"]),
            "responses longer than `max_new_tokens` less this lose reward, linearly",
        ),
        key("overlong_factor", Kind::Number, ByColumn(&["", "1.0"]), "up to this much; 0 or more"),
    ],
    after: "Coefficients are 0 or more; anything else is refused before the model is read.",
};

/// What PAPO adds to its base's keys.
pub const PAPO: Section = Section {
    path: "objective",
    heading: Some("`[objective]`: what PAPO adds"),
    before: "`papo_g` has `grpo`'s keys and these, `papo_d` has `dapo`'s and these, and `papo` those of `base = \"grpo\"` (default) \
             or `\"dapo\"`.",
    columns: &["papo_g", "papo_d", "papo"],
    keys: &[
        key(
            "gamma",
            Kind::Number,
            ByColumn(&["0.02", "0.01", "0.01"]),
            "of the divergence between the views with the picture and with the masked one; 0 or more",
        ),
        key(
            "gamma_schedule",
            Kind::Choice(&["fixed", "linear"]),
            Toml("\"fixed\""),
            "`linear`: to `gamma_end`; the entropy terms shrink in proportion",
        ),
        key("gamma_end", Kind::Number, Toml("0.0"), "where `linear` ends; 0 or more"),
        key(
            "gamma_anneal_fraction",
            Kind::Number,
            Toml("0.5"),
            "share of the steps over which it gets there; above 0, at most 1",
        ),
        key("perception_estimator", ESTIMATORS, Toml("\"k3\""), "as `kl_estimator`"),
        key(
            "entropy_coefficient",
            Kind::Number,
            ByColumn(&["0.0", "0.03", "0.0"]),
            "of the entropy with the picture; 0 or more",
        ),
        key(
            "masked_entropy_coefficient",
            Kind::Number,
            ByColumn(&["0.0", "0.03", "0.0"]),
            "of the entropy with the masked picture; 0 or more; a constant unless `masked_gradient`",
        ),
        key(
            "entropy",
            Kind::Choice(&["sampled", "full"]),
            Toml("\"sampled\""),
            "negative log-likelihood of the sampled tokens (the reference), or entropy of the whole softmax",
        ),
        key(
            "masked_gradient",
            Kind::Flag,
            Toml("false"),
            "whether the masked branch carries gradient (the reference's does not)",
        ),
        key(
            "token_mask_top_p",
            Kind::Number,
            ByColumn(&["none", "none", "none"]),
            "only this share of each response's tokens counts, those with the largest divergence; above 0, at most 1",
        ),
        key(
            "kl_prcp_clip",
            Kind::Number,
            ByColumn(&["none", "none", "none"]),
            "upper bound of a token's divergence; above 0",
        ),
        key(
            "perception_every",
            Kind::Whole,
            Toml("1"),
            "one of so many prompts is scored with its masked picture, and the perception terms are means over these: 2 halves what PAPO costs (the reference scores all)",
        ),
    ],
    after: "",
};
