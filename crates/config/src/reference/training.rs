//! `[rollout]`, `[validation]`, `[optimizer]`, `[trainer]`, `[sft]`, `[device]`: how it goes.

use super::Fallback::{Toml, Words};
use super::{Key, Kind, ONE, Section, key};

pub(super) const ROLLOUT: Section = Section {
    path: "rollout",
    heading: None,
    before: "",
    columns: ONE,
    keys: &[
        key(
            "prompts_per_step",
            Kind::Whole,
            Toml("384"),
            "prompts collected for a step; a multiple of `trainer.prompts_per_update`",
        ),
        key("responses_per_prompt", Kind::Whole, Toml("5"), "size of a group, at least 2"),
        key("temperature", Kind::Number, Toml("1.0"), "of sampling, and of every log-probability in training; above 0"),
        key(
            "top_p",
            Kind::Number,
            Toml("0.99"),
            "the smallest set of tokens with this much probability; above 0, at most 1; 1 is off",
        ),
        key("top_k", Kind::Whole, Toml("0"), "the most probable tokens only; 0 is off"),
        key(
            "min_p",
            Kind::Number,
            Toml("0.0"),
            "tokens with at least this share of the most probable one's probability; 0 is off, below 1",
        ),
        key("max_new_tokens", Kind::Whole, Toml("2048"), "longest response, in tokens"),
        key("max_rows", Kind::Whole, Toml("64"), "rows decoded at once; bounds memory, never changes what is sampled"),
    ],
    after: "Log-probabilities are those of the distribution before top-p, top-k and min-p. The checkpoint's generation \
            configuration gives the stop tokens,\nnever the sampling parameters.",
};

pub(super) const VALIDATION: Section = Section {
    path: "validation",
    heading: None,
    before: "",
    columns: ONE,
    keys: &[
        key("every", Kind::Whole, Toml("5"), "steps between validations; 0 is never"),
        key("before_training", Kind::Flag, Toml("true"), "measure before the first step, too"),
        key("responses_per_prompt", Kind::Whole, Toml("8"), "the k of avg@k"),
        key("temperature", Kind::Number, Toml("1.0"), "0 is greedy, with one response"),
        key("top_p", Kind::Number, Toml("0.99"), "as in `[rollout]`"),
        key("top_k", Kind::Whole, Toml("0"), "as in `[rollout]`"),
        key("min_p", Kind::Number, Toml("0.0"), "as in `[rollout]`"),
        key("max_new_tokens", Kind::Whole, Words("`rollout.max_new_tokens`"), "longest response, in tokens"),
        key("limit", Kind::Whole, Words("all rows"), "measure on so many rows only, the first"),
    ],
    after: "",
};

const OPTIMIZER_KEYS: &[Key] = &[
    key("kind", Kind::Choice(&["adamw"]), Toml("\"adamw\""), "Adam with decoupled weight decay"),
    key("learning_rate", Kind::Number, Toml("1e-6"), "peak; above 0"),
    key(
        "betas",
        Kind::TwoNumbers,
        Toml("[0.9, 0.999]"),
        "decay of the averages of gradient and squared gradient; 0 or more, below 1",
    ),
    key("eps", Kind::Number, Toml("1e-8"), "added to the root of the squared average; above 0"),
    key("weight_decay", Kind::Number, Toml("0.01"), "times the learning rate; 0 or more"),
    key(
        "max_grad_norm",
        Kind::Number,
        Toml("1.0"),
        "longest gradient (Euclidean norm over all parameters); above 0; `inf` is off",
    ),
    key(
        "moments",
        Kind::Choice(&["f32", "bf16", "8bit"]),
        Toml("\"f32\""),
        "how moments are held between updates: 8 bytes a parameter; 4, rounded by chance, so that the small steps of the \
         second moment come through; or 2, in blocks of 256 ([2110.02861](https://arxiv.org/abs/2110.02861))",
    ),
    key("offload", Kind::Flag, Toml("false"), "moments stay in the host's memory between updates; on the CPU they do"),
    key(
        "schedule",
        Kind::Choice(&["constant", "linear", "cosine"]),
        Toml("\"constant\""),
        "how the learning rate moves after the warm-up",
    ),
    key("warmup_steps", Kind::Whole, Toml("0"), "steps over which the learning rate rises; the first step learns, too"),
    key(
        "final_ratio",
        Kind::Number,
        Toml("0.0"),
        "share of the peak that `linear` and `cosine` fall towards, from 0 to 1",
    ),
];

pub(super) const OPTIMIZER: Section =
    Section { path: "optimizer", heading: None, before: "", columns: ONE, keys: OPTIMIZER_KEYS, after: "" };

pub(super) const TRAINER: Section = Section {
    path: "trainer",
    heading: None,
    before: "",
    columns: ONE,
    keys: &[
        key("run_dir", Kind::Path, Words("`runs/` and the file's name without its ending"), "folder of the run"),
        key("seed", Kind::Whole, Toml("1"), "of everything random"),
        key(
            "steps",
            Kind::Whole,
            Words("as many as `epochs` give"),
            "steps of the run; where given, `epochs` does not count",
        ),
        key("epochs", Kind::Whole, Toml("2"), "passes over the training data"),
        key(
            "prompts_per_update",
            Kind::Whole,
            Toml("128"),
            "prompts of one optimizer update; divides `rollout.prompts_per_step`",
        ),
        key(
            "micro_tokens",
            Kind::WholeOrAuto,
            Toml("16384"),
            "tokens computed at once in scoring and training, a prompt counted once for its group; bounds memory; at least \
             the longest prompt and response. `\"auto\"`: the most that `percept plan` finds to fit, chosen when the run \
             starts. When a device's memory runs out, it is halved and the micro-batches done again",
        ),
        key(
            "recompute",
            Kind::Choice(&["auto", "on", "off"]),
            Toml("\"auto\""),
            "`on`: blocks are computed again for their gradients, so that only their inputs are kept: less memory, for the \
             time of one more forward pass. `auto` is `on` on accelerators and in 16-bit types, where a block keeps the \
             most, and `off` for the fused kernels of the CPU",
        ),
        key(
            "kept_activations_mib",
            Kind::Whole,
            Toml("2048"),
            "MiB of what sampling computes that are kept for the update, whose forward pass is not computed again then: on the \
             CPU in float32, where a step has one update, without `[model.lora]`, `recompute` and `masked_gradient`. Nothing is \
             kept of a step that takes more. Each 16th step, from the first on, is computed anew, which checks the sampler. `0` \
             keeps nothing",
        ),
        key(
            "max_tries",
            Kind::Whole,
            Toml("20"),
            "collections made to fill a step with admitted groups before the run stops; 0 is without limit",
        ),
        key("prompts_per_try", Kind::Whole, Words("`trainer.prompts_per_update`"), "prompts of one such collection"),
        key(
            "prompts_per_look",
            Kind::Whole,
            Toml("0"),
            "prompts of a try that are sampled before it is looked whether the step is full already, and the rest of the try \
             left out; what is learned does not change; 0 samples the whole try",
        ),
        key(
            "checkpoint_every",
            Kind::Whole,
            Toml("5"),
            "steps between checkpoints; the last step is always saved; 0 is only the last",
        ),
        key("keep_last", Kind::Whole, Toml("3"), "checkpoints kept, the newest; 0 keeps all"),
        key("keep_best", Kind::Flag, Toml("true"), "keep the one with the best validation besides"),
        key(
            "max_nonfinite_updates",
            Kind::Whole,
            Toml("3"),
            "updates in a row with a non-finite loss or gradient that stop the run, where `on_incident` lets the first one pass",
        ),
        key(
            "on_incident",
            Kind::Choice(&["stop", "record", "ignore"]),
            Toml("\"stop\""),
            "what happens when a loss or gradient is not finite, a gradient is zero although there is something to learn, a ratio of \
             probabilities explodes, or the policy seems to game the perception term. `stop`: the update is recorded for \
             `percept replay`, and the run ends with the last good weights; `record`: the first of each kind is recorded, and the run \
             goes on; `ignore`: neither",
        ),
        key(
            "log_ratio_limit",
            Kind::Number,
            Toml("10.0"),
            "largest log of a token's probability over that which it was sampled with that is believed",
        ),
        key(
            "collapse_window",
            Kind::Whole,
            Toml("10"),
            "steps in each of the two spans whose means are compared for signs that the perception term is gamed; 0 does not look",
        ),
        key(
            "deadline_seconds",
            Kind::Whole,
            Toml("1800"),
            "seconds after which a part of a step tells what it waits for, and again each time they have doubled; 0 never",
        ),
        key("samples_per_step", Kind::Whole, Toml("16"), "responses written to `samples.jsonl` each step"),
        key(
            "pictures_per_step",
            Kind::Whole,
            Toml("2"),
            "prompts of these whose pictures are written, too, whole and masked, as the policy is shown them; for `percept report`",
        ),
    ],
    after: "",
};

pub(super) const SFT: Section = Section {
    path: "sft",
    heading: None,
    before: "The warm start of `percept sft`, into `sft/` of the run directory. Seed, micro-batches and checkpoints are \
             `[trainer]`'s; `[validation]` holds\ntoo.",
    columns: ONE,
    keys: &[
        key("steps", Kind::Whole, Words("as many as `epochs` give"), "steps; where given, `epochs` does not count"),
        key("epochs", Kind::Whole, Toml("1"), "passes over the training data"),
        key("rows_per_step", Kind::Whole, Toml("16"), "rows of one step, which is one optimizer update"),
        key("optimizer", Kind::Table, Words("below"), "`[sft.optimizer]`"),
    ],
    after: "",
};

pub(super) const SFT_OPTIMIZER: Section = Section {
    path: "sft.optimizer",
    heading: None,
    before: "The keys and defaults of `[optimizer]`; nothing is taken over from it.",
    columns: ONE,
    keys: OPTIMIZER_KEYS,
    after: "",
};

pub(super) const DEVICE: Section = Section {
    path: "device",
    heading: None,
    before: "",
    columns: ONE,
    keys: &[
        key(
            "backend",
            Kind::Choice(&["cpu", "auto", "cuda", "vulkan", "webgpu", "metal", "rocm"]),
            Toml("\"auto\""),
            "all but `cpu` need the Cargo feature of their name; `auto`: the first GPU that this build reaches, in the order \
             CUDA, ROCm, Metal, Vulkan, WebGPU, else the CPU",
        ),
        key(
            "index",
            Kind::Whole,
            Toml("0"),
            "which of the backend's devices, as `percept devices` numbers them; `--device cuda:1` sets both",
        ),
        key(
            "dtype",
            Kind::Choice(&["auto", "f32", "tf32", "bf16", "f16"]),
            Toml("\"auto\""),
            "activations, and weights that do not learn; `auto`: `bf16` on CUDA, ROCm and Metal, else `f32`. Losses, \
             gradients and learning weights are float32 always. `f32` multiplies with all 24 bits, on CUDA through float64, which is \
             slow; `tf32`, on CUDA, lets tensor cores multiply with 11 of them",
        ),
        key("threads", Kind::Whole, Words("one for each processor"), "threads of the CPU backend"),
    ],
    after: "",
};
