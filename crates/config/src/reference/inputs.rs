//! `[model]`, `[data]`, `[reward]`: what a run is made from.

use super::Fallback::{Required, Toml, Words};
use super::{Kind, ONE, Section, key};

pub(super) const MODEL: Section = Section {
    path: "model",
    heading: None,
    before: "",
    columns: ONE,
    keys: &[
        key("checkpoint", Kind::Path, Required, "folder of the checkpoint to start from, in Hugging Face layout"),
        key(
            "reference",
            Kind::Path,
            Words("`model.checkpoint`"),
            "folder of the frozen reference policy; read only when the objective needs one",
        ),
        key(
            "offload_reference",
            Kind::Flag,
            Toml("false"),
            "the reference is read from its files again for each scoring, and holds no memory in between",
        ),
        key(
            "freeze",
            Kind::Texts,
            Toml("[]"),
            "name patterns of parameters that are not trained, `*` for any run of characters: `[\"visual.*\"]`; a pattern \
             that matches nothing is an error",
        ),
        key(
            "save_dtype",
            Kind::Choice(&["f32", "bf16", "f16"]),
            Toml("\"f32\""),
            "numbers in saved checkpoints; when they are rounded, exact weights are kept beside them for resuming",
        ),
        key(
            "kept_features_mib",
            Kind::Whole,
            Toml("1024"),
            "MiB of pictures' features that are kept on the device while a step lasts, so that sampling, update and the reference \
             of adapters compute them once; only where the vision tower does not learn (`freeze`, `[model.lora]`); `0` keeps none",
        ),
        key(
            "lora",
            Kind::Table,
            Words("absent"),
            "`[model.lora]`: low-rank adapters learn in place of the weights; see below",
        ),
    ],
    after: "",
};

pub(super) const LORA: Section = Section {
    path: "model.lora",
    heading: None,
    before: "Low-rank adapters ([2106.09685](https://arxiv.org/abs/2106.09685)), in PEFT's conventions. The weights do not \
             learn, the reference policy is\nthe policy without its adapters (no second copy), and only adapters have \
             gradients and moments. `--dry-run` prints how many numbers learn.",
    columns: ONE,
    keys: &[
        key("rank", Kind::Whole, Toml("16"), "rank of each adapter, at least 1"),
        key("alpha", Kind::Number, Toml("32.0"), "the product is scaled by `alpha / rank`; above 0"),
        key(
            "dropout",
            Kind::Number,
            Toml("0.0"),
            "share of an adapter's inputs that it does not see while it learns, drawn anew each step; from 0 to below 1",
        ),
        key(
            "targets",
            Kind::Texts,
            Toml("[\"model.layers.*\"]"),
            "name patterns of linear maps, without `.weight`, as in `\"model.layers.*.self_attn.*\"` or `\"visual.blocks.*\"`",
        ),
        key(
            "save",
            Kind::Choice(&["merged", "adapter"]),
            Toml("\"merged\""),
            "`merged`: checkpoints are whole models with the adapters in their weights; `adapter`: folders in PEFT's layout \
             that name their base, and that `eval` and `sample` take as a checkpoint. Both resume exactly",
        ),
    ],
    after: "With dropout the policy that learns is not the function that sampled: ratios of their probabilities differ from 1 from the first \
            update on, and\n`rollout/logprob_gap_max` shows by how much. Sampling, validation, the reference and masked views of the policy \
            that sampled have none. What is\ndropped depends on the seed, the step and the tokens, not on micro-batches; maps that read the \
            same input (q, k and v; gate and up) miss the same\nnumbers of it.",
};

pub(super) const DATA: Section = Section {
    path: "data",
    heading: None,
    before: "",
    columns: ONE,
    keys: &[
        key(
            "train",
            Kind::Paths,
            Toml("[]"),
            "training data: files or folders (`.parquet`, `.jsonl`, `.ndjson`, `.json` with an object a line); `train` and \
             `sft` need it",
        ),
        key(
            "validation",
            Kind::Paths,
            Toml("[]"),
            "validation data, written likewise; without it nothing is validated",
        ),
        key(
            "problem_column",
            Kind::Text,
            Toml("\"problem\""),
            "column with the question, `<image>` where each picture stands",
        ),
        key("answer_column", Kind::Text, Toml("\"answer\""), "column with the right answer"),
        key("image_column", Kind::Text, Toml("\"images\""), "column with the pictures; `\"\"` for data without any"),
        key("solution_column", Kind::Text, Toml("\"solution\""), "column with a worked solution, read by `sft` only"),
        key(
            "image_root",
            Kind::Path,
            Words("folder of the data file"),
            "folder that picture paths in the data are relative to",
        ),
        key(
            "format_prompt",
            Kind::Text,
            Toml("\"papo\""),
            "text around each question: `papo` (the paper's), `none`, or a Jinja file that is given the question as `content`",
        ),
        key(
            "special_tokens_in_text",
            Kind::Choice(&["text", "allow"]),
            Toml("\"text\""),
            "special-token strings in a question are text, or tokens (`allow`, as in the reference)",
        ),
        key(
            "max_prompt_tokens",
            Kind::Whole,
            Toml("4096"),
            "longest prompt in tokens, picture tokens included; longer ones are left out and counted",
        ),
        key("min_pixels", Kind::WholeOrOff, Toml("200704"), "smaller pictures are enlarged to this many pixels"),
        key("max_pixels", Kind::WholeOrOff, Toml("1003520"), "larger pictures are shrunk to this many pixels"),
        key(
            "alpha",
            Kind::Choice(&["white", "drop"]),
            Toml("\"white\""),
            "transparent pictures are laid over white, or their alpha is left out",
        ),
        key(
            "on_bad_row",
            Kind::Choice(&["stop", "skip"]),
            Toml("\"stop\""),
            "a row that cannot be used stops the run, or is left out and counted",
        ),
        key(
            "picture",
            Kind::Choice(&["whole", "blank", "swapped"]),
            Toml("\"whole\""),
            "what `train` and `sft` show: the row's pictures, black ones, or another row's; a control for \
             [what is learned without looking](evaluation.md#training-without-looking). Validation shows the row's own",
        ),
        key("shuffle", Kind::Flag, Toml("true"), "whether each epoch visits the rows in a new order"),
        key(
            "max_picture_pixels",
            Kind::Whole,
            Toml("178956970"),
            "pictures that claim more pixels are refused before they are decoded",
        ),
        key("corruption", Kind::Table, Toml("{ kind = \"blacken\" }"), "`[data.corruption]`; see below"),
    ],
    after: "",
};

pub(super) const REWARD: Section = Section {
    path: "reward",
    heading: None,
    before: "",
    columns: ONE,
    keys: &[
        key(
            "timeout_seconds",
            Kind::Number,
            Toml("10.0"),
            "longest time for one judgement inside the program, in seconds",
        ),
        key("workers", Kind::Whole, Words("one for each thread of the machine"), "judgements made at once"),
        key(
            "verifiers",
            Kind::Tables,
            Toml(
                "[{ name = \"accuracy\", kind = \"math\", weight = 0.9 }, { name = \"format\", kind = \"format\", weight = 0.1 }]",
            ),
            "the rubric, below; a list given by a higher layer replaces the whole list",
        ),
    ],
    after: "",
};
