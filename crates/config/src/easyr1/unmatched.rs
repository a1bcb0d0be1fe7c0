//! Keys of EasyR1 and PAPO that have no counterpart, and why. `*` stands for any run of characters; the first that fits counts.

use super::Unmatched;
use super::source::Source;
use crate::model::matches;

const SHARDING: &str =
    "one device, no sharding: memory is bounded by trainer.micro_tokens, trainer.recompute and model.lora";
const ENGINE: &str = "of vLLM's; Percept samples in its own process, and rollout.max_rows bounds the memory";
const SPEED: &str = "only cuts the work into portions; nothing is learned from it";
const CRITIC: &str = "Percept has no critic";

const WHY: &[(&str, &str)] = &[
    ("data.aug_image_key", "pictures that were masked beforehand are not read; [data.corruption] masks them"),
    ("data.video*", "videos are not read"),
    ("data.val_batch_size", SPEED),
    (
        "data.mini_rollout_batch_size",
        "counts only with algorithm.online_filtering; without it nothing is collected twice",
    ),
    ("data.filter_overlong_prompts*", "longer prompts are always left out and counted; every processor helps"),
    ("data.override_chat_template", "the checkpoint's own chat template is used; change it there"),
    ("algorithm.gamma", "discounts rewards for GAE and REINFORCE++ only"),
    ("algorithm.lam", "for GAE only"),
    ("algorithm.kl_type", "moves the coefficient of a divergence in the reward only; the one in the loss is fixed"),
    ("algorithm.kl_horizon", "for an adaptive coefficient of a divergence in the reward only"),
    ("algorithm.kl_target", "for an adaptive coefficient of a divergence in the reward only"),
    ("algorithm.kl_penalty", "counts only with a divergence to the reference"),
    ("algorithm.kl_coef", "counts only with a divergence to the reference"),
    ("algorithm.use_kl_loss", "counts only without algorithm.disable_kl"),
    ("algorithm.filter_*", "counts only with algorithm.online_filtering"),
    ("algorithm.incorrect_weighting", "the released code does not use it"),
    ("algorithm.contrastive_type", "counts only with algorithm.use_kl_prcp"),
    ("algorithm.aug_config*", "counts only with algorithm.use_kl_prcp"),
    ("algorithm.kl_prcp_schedule_args*", "counts only with algorithm.kl_prcp_schedule: annealing"),
    ("algorithm.kl_prcp_clipping", "counts only with algorithm.use_kl_prcp_clipping"),
    ("algorithm.kl_prcp_token_level_mask_top_p", "counts only with algorithm.use_kl_prcp_token_level_mask"),
    ("algorithm.*kl_prcp*", "counts only with algorithm.use_kl_prcp"),
    ("algorithm.use_aug_entropy_loss", "counts only with algorithm.use_kl_prcp"),
    ("algorithm.aug_entropy_loss_coef", "counts only with algorithm.use_aug_entropy_loss and use_kl_prcp"),
    ("algorithm.ori_entropy_loss_coef", "counts only with algorithm.use_ori_entropy_loss"),
    ("algorithm.sft_loss_coef", "counts only with algorithm.use_sft_loss"),
    ("worker.actor.strategy", SHARDING),
    ("worker.actor.micro_batch_size_per_device*", "counts rows; Percept counts tokens: trainer.micro_tokens"),
    ("worker.actor.dynamic_batching", "micro-batches are always cut by tokens: trainer.micro_tokens"),
    ("worker.actor.padding_free", "there is never padding in the model"),
    ("worker.actor.ulysses*", SHARDING),
    ("worker.actor.use_torch_compile", "of torch; fused kernels are burn's"),
    ("worker.actor.model.tokenizer_path", "the tokenizer is the checkpoint's"),
    ("worker.actor.model.override_config*", "the architecture is the checkpoint's config.json"),
    ("worker.actor.model.trust_remote_code", "no code is loaded with a checkpoint"),
    ("worker.actor.model.lora*", "counts only with a rank above 0"),
    ("worker.actor.optim.warmup_style", "the released code builds the constant schedule whatever it says"),
    ("worker.actor.optim.min_lr_ratio", "counts only with lr_scheduler_type: cosine"),
    ("worker.actor.optim.training_steps", "counted from the data, or trainer.steps"),
    ("worker.actor.fsdp.torch_dtype", "device.dtype; weights that learn are float32 always"),
    ("worker.*fsdp*", SHARDING),
    ("worker.*offload*", SHARDING),
    ("worker.ref*", "the reference is the policy's own code on the same device; model.reference names its weights"),
    ("worker.critic*", CRITIC),
    ("worker.hybrid_engine", ENGINE),
    ("worker.rollout.dtype", "device.dtype"),
    ("worker.rollout.limit_images", "a prompt has the pictures its row has"),
    ("worker.rollout.ignore_eos", "a response ends at a stop token"),
    ("worker.rollout.max_model_len", "data.max_prompt_tokens and rollout.max_new_tokens"),
    ("worker.rollout.val_override_config.*", "validation has temperature, top_p, top_k, n and max_tokens"),
    ("worker.rollout.*", ENGINE),
    ("worker.reward.reward_type", "each response is judged by itself, in parallel"),
    ("worker.reward.skip_special_tokens", "special tokens are never part of the text that is judged"),
    ("worker.reward.num_cpus", "reward.workers"),
    ("worker.reward.*", "rewards are Percept's verifiers: [[reward.verifiers]]"),
    ("trainer.project_name", "a run is its folder, trainer.run_dir"),
    ("trainer.experiment_name", "trainer.save_checkpoint_path names the folder"),
    ("trainer.logger", "metrics.jsonl in the run directory has them"),
    ("trainer.nnodes", "one device"),
    ("trainer.n_gpus_per_node", "one device"),
    ("trainer.critic_warmup", CRITIC),
    ("trainer.max_try_make_batch", "counts only with algorithm.online_filtering"),
    ("trainer.val_only", "percept eval measures a checkpoint"),
    ("trainer.val_generations_to_log", "percept eval --rows writes responses; samples.jsonl has those of training"),
    ("trainer.save_model_only", "checkpoints always hold what resuming needs"),
    ("trainer.load_checkpoint_path", "percept train RUN.toml --resume goes on from the run's own latest checkpoint"),
    ("trainer.find_last_checkpoint", "percept train RUN.toml --resume goes on from the run's own latest checkpoint"),
    ("trainer.ray_timeline", "time/ in metrics.jsonl"),
];

/// Report every key that nobody read.
pub(super) fn report(source: &mut Source) {
    for (key, value, unresolved) in source.unread() {
        let known = WHY.iter().find(|(pattern, _)| matches(pattern, &key)).map(|(_, why)| (*why).to_owned());
        let why = known.or(unresolved).unwrap_or_else(|| unknown(&key));
        source.unmatched.push(Unmatched { key, value, why });
    }
}

/// Keys that are read: an unknown one may be a slip of the pen.
const READ: &[&str] = &[
    "data.train_files",
    "data.val_files",
    "data.prompt_key",
    "data.answer_key",
    "data.image_key",
    "data.image_dir",
    "data.max_prompt_length",
    "data.max_response_length",
    "data.rollout_batch_size",
    "data.format_prompt",
    "data.shuffle",
    "data.seed",
    "data.min_pixels",
    "data.max_pixels",
    "algorithm.adv_estimator",
    "algorithm.disable_kl",
    "algorithm.use_kl_loss",
    "algorithm.online_filtering",
    "algorithm.loss_avg_mode",
    "algorithm.use_kl_prcp",
    "algorithm.kl_prcp_coef",
    "algorithm.use_ori_entropy_loss",
    "worker.actor.global_batch_size",
    "worker.actor.max_grad_norm",
    "worker.actor.clip_ratio_low",
    "worker.actor.clip_ratio_high",
    "worker.actor.clip_ratio_dual",
    "worker.actor.ppo_epochs",
    "worker.actor.model.model_path",
    "worker.actor.model.freeze_vision_tower",
    "worker.actor.model.enable_gradient_checkpointing",
    "worker.actor.optim.lr",
    "worker.actor.optim.betas",
    "worker.actor.optim.weight_decay",
    "worker.actor.optim.strategy",
    "worker.actor.optim.lr_warmup_ratio",
    "worker.actor.optim.lr_warmup_steps",
    "worker.actor.optim.lr_scheduler_type",
    "worker.rollout.n",
    "worker.rollout.temperature",
    "worker.rollout.top_p",
    "worker.rollout.top_k",
    "worker.reward.reward_function",
    "trainer.experiment_name",
    "trainer.total_epochs",
    "trainer.max_steps",
    "trainer.val_freq",
    "trainer.val_before_train",
    "trainer.save_freq",
    "trainer.save_limit",
    "trainer.save_best",
    "trainer.save_checkpoint_path",
];

fn unknown(key: &str) -> String {
    let (parent, name) = key.rsplit_once('.').unwrap_or(("", key));
    let names = READ.iter().chain(WHY.iter().map(|(key, _)| key)).filter_map(|known| known.rsplit_once('.'));
    let near = crate::nearest(name, names.clone().filter(|(of, _)| *of == parent).map(|(_, name)| name))
        .map(|name| format!("{parent}.{name}"));
    let elsewhere = || names.clone().find(|(_, known)| *known == name).map(|(of, name)| format!("{of}.{name}"));
    match near.or_else(elsewhere) {
        Some(known) => format!("not a key that is known here; did you mean `{known}`?"),
        None => "not a key that is known here".to_owned(),
    }
}
