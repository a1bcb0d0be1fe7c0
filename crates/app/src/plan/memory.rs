//! Peak memory by part, from sizes alone: a pure function of a [`Workload`].

use super::activations::{Execution, Kept, Micro, backward, forward, kept, logits, sampled, scratch};
use crate::cost::GroupSize;
use percept_models::{Outline, ParameterSizes};

/// Everything that decides how much memory a run needs.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) outline: Outline,
    /// Which parameters learn, in the outline's order.
    pub(crate) learns: Vec<bool>,
    pub(crate) how: Execution,
    /// Whether the device's memory is the host's.
    pub(crate) unified: bool,
    /// Whether frozen maps stay float32 because their type would round what the files hold.
    pub(crate) frozen_in_f32: bool,
    /// A frozen reference is loaded.
    pub(crate) reference: bool,
    /// It is there only while it scores.
    pub(crate) reference_brought: bool,
    /// Views that carry gradient, the whole picture's included.
    pub(crate) live_views: usize,
    /// Corrupted twins of a picture, in the mean.
    pub(crate) twins: f64,
    /// Most bytes of pictures' features that a policy keeps where vision does not learn.
    pub(crate) kept_features: usize,
    /// Most bytes of what sampling computes that are kept for the update; 0 where it cannot be used.
    pub(crate) kept_activations: usize,
    /// Blocks are computed again in the backward pass.
    pub(crate) recompute: bool,
    /// Bytes of both moments of one number.
    pub(crate) moment_bytes: usize,
    /// Whether moments stand in host memory between updates.
    pub(crate) moments_on_host: bool,
    /// Whether the sampler lays its weights out a second time.
    pub(crate) second_layout: bool,
    pub(crate) max_rows: usize,
    pub(crate) max_new_tokens: usize,
    pub(crate) max_prefill_tokens: usize,
    pub(crate) micro_tokens: usize,
    pub(crate) prompts_per_step: usize,
    pub(crate) prompts_per_update: usize,
    /// Prompts as they come, with all their responses; at least one. Steps go through them again and again.
    pub(crate) groups: Vec<GroupSize>,
    pub(crate) threads: usize,
}

/// Bytes of one part in one phase.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) bytes: f64,
    pub(crate) on_host: bool,
}

/// What is in memory at the same time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Moment {
    pub(crate) name: &'static str,
    pub(crate) parts: Vec<Part>,
}

/// Program, libraries, tokenizer and the data's buffers.
const PROGRAM: f64 = 84.0 * 1024.0 * 1024.0;
/// What allocators take beyond what they are asked for: size classes, and places that nothing fits into again. The host's was measured
/// (docs/benchmarks.md); the device's was not.
const SLACK_HOST: f64 = 1.24;
const SLACK_DEVICE: f64 = 1.08;
const F32: usize = 4;
/// Numbers that the optimizer computes at once on a device (`ops`, `PIECE`).
const OPTIMIZER_PIECE: usize = 1 << 22;

impl Moment {
    fn sum(&self, on_host: bool) -> f64 {
        self.parts.iter().filter(|part| part.on_host == on_host).map(|part| part.bytes).sum()
    }
}

/// Largest bytes on the device and on the host, allocators' slack included. Unified memory is all on the device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Peak {
    pub(crate) device: f64,
    pub(crate) host: f64,
}

impl Workload {
    fn parameters(&self) -> impl Iterator<Item = (&ParameterSizes, bool)> {
        self.outline.parameters.iter().zip(self.learns.iter().copied())
    }

    /// Bytes of the policy's weights: float32 where they learn.
    fn weights(&self) -> f64 {
        let bytes = |(parameter, learns): (&ParameterSizes, bool)| {
            let rounded = parameter.rounds && !learns && !self.frozen_in_f32;
            parameter.len * if rounded { self.how.width } else { F32 }
        };
        self.parameters().map(bytes).sum::<usize>() as f64
    }

    /// Bytes of a policy without gradient.
    fn frozen(&self) -> f64 {
        let bytes = |parameter: &ParameterSizes| parameter.len * if parameter.rounds { self.how.width } else { F32 };
        self.outline.parameters.iter().map(bytes).sum::<usize>() as f64
    }

    /// Bytes of the maps that a policy holds rounded beside its own weights.
    fn rounded_copy(&self) -> f64 {
        if self.how.width == F32 {
            return 0.0;
        }
        let copied =
            |(parameter, learns): &(&ParameterSizes, bool)| parameter.rounds && (*learns || self.frozen_in_f32);
        self.parameters().filter(copied).map(|(parameter, _)| parameter.len * self.how.width).sum::<usize>() as f64
    }

    /// Numbers that learn.
    pub(crate) fn learning(&self) -> usize {
        self.parameters().filter(|(_, learns)| *learns).map(|(parameter, _)| parameter.len).sum()
    }

    pub(crate) fn vision_learns(&self) -> bool {
        self.parameters().any(|(parameter, learns)| learns && parameter.vision)
    }

    /// Groups of one step or update, as many as asked for.
    pub(crate) fn some(&self, count: usize) -> Vec<GroupSize> {
        self.groups.iter().cycle().take(count).cloned().collect()
    }

    /// Bytes of what sampling computes and the update uses; nothing of a step that takes more than is to be kept.
    pub(crate) fn sampled(&self) -> f64 {
        if self.recompute || self.live_views > 1 || self.prompts_per_update < self.prompts_per_step {
            return 0.0;
        }
        let vision = self.vision_learns() || self.kept_features == 0;
        let bytes = sampled(&self.outline, &self.some(self.prompts_per_step), vision);
        if bytes > self.kept_activations as f64 { 0.0 } else { bytes }
    }

    /// Micro-batches of an update, cut as the trainer cuts them.
    pub(crate) fn micro_batches(&self) -> Vec<Vec<GroupSize>> {
        cut(&self.some(self.prompts_per_update), self.micro_tokens)
    }

    /// All moments at which memory can be at its largest.
    pub(crate) fn moments(&self) -> Vec<Moment> {
        let unified = self.unified;
        let device = |name, bytes| Part { name, bytes, on_host: false };
        let host = |name, bytes| Part { name, bytes, on_host: !unified };
        let learning = self.learning() as f64;
        let mut resident = vec![host("program", PROGRAM), device("weights", self.weights())];
        if self.reference && !self.reference_brought {
            resident.push(device("reference", self.frozen()));
        }
        let moments = learning * self.moment_bytes as f64;
        resident.push(if self.moments_on_host { host("moments", moments) } else { device("moments", moments) });
        let patches: usize = self.some(self.prompts_per_step).iter().map(patches).sum();
        let width = self.outline.vision.patch_width;
        if !self.vision_learns() {
            let features = patches / self.outline.vision.merged * self.outline.text.hidden * self.how.width;
            let all = (features as f64 * (1.0 + self.twins)).min(self.kept_features as f64);
            resident.push(device("features of a step's pictures", all));
        }
        resident.push(host("pictures of a step", (patches * width * F32) as f64 * (1.0 + self.twins)));

        let batches = self.micro_batches();
        let micros: Vec<Micro> = batches.iter().map(|batch| Micro::of(&self.outline, batch)).collect();
        let largest = |of: &dyn Fn(&Micro) -> f64| micros.iter().map(of).fold(0.0, f64::max);
        let scratch = batches.iter().map(|batch| scratch(batch, self.how, self.threads)).fold(0.0, f64::max);
        let with = |name, more: Vec<Part>| Moment { name, parts: resident.iter().cloned().chain(more).collect() };

        const SAMPLED: &str = "what sampling computed for the update";
        let sampled = self.sampled();
        let mut sampling = self.sampling(&device);
        sampling.push(device(SAMPLED, sampled));
        let mut all = vec![with("sampling", sampling)];
        let scoring = |micro: &Micro| forward(&self.outline, micro, self.how) + logits(&self.outline, micro, self.how);
        all.push(with(
            "scoring",
            vec![
                device("rounded weights of sampling", self.rounded_copy()),
                device("a micro-batch", largest(&scoring)),
                device("attention's scratch", scratch / 2.0),
                device("reference", if self.reference && self.reference_brought { self.frozen() } else { 0.0 }),
                device(SAMPLED, sampled),
            ],
        ));

        let how = Kept { vision_learns: self.vision_learns(), recompute: self.recompute, live_views: self.live_views };
        let table = (self.outline.text.vocabulary * self.outline.text.hidden * F32) as f64;
        let head_learns = self.parameters().any(|(parameter, learns)| {
            learns && !parameter.rounds && parameter.decodes && parameter.len as f64 * F32 as f64 == table
        });
        let gradients = learning * F32 as f64;
        let sums = if micros.len() > 1 { gradients } else { 0.0 };
        let begin = |micro: &Micro| {
            kept(&self.outline, micro, self.how, how)
                + logits(&self.outline, micro, self.how)
                + backward(&self.outline, micro, self.how, self.recompute)
        };
        // the first micro-batch has no sums of earlier ones beside it
        let sums_beside = |index: usize| if index == 0 { 0.0 } else { gradients };
        let training = micros.iter().enumerate().map(|(index, micro)| (sums_beside(index), begin(micro)));
        let (beside, activations) = training.max_by(|a, b| (a.0 + a.1).total_cmp(&(b.0 + b.1))).unwrap_or_default();
        all.push(with(
            "training",
            vec![
                device("rounded weights of training", self.rounded_copy()),
                device("gradients", beside + if head_learns { table } else { 0.0 }),
                device("activations of a micro-batch", activations),
                // of one micro-batch they become its activations, a result at a time
                device(SAMPLED, if micros.len() > 1 { sampled } else { 0.0 }),
                device("attention's scratch", scratch),
            ],
        ));
        all.push(with(
            "gradients",
            vec![
                device("gradients", gradients + sums),
                // the embedding's gradient beside that of the head which it also is, before they are one
                device("gradients of tables", if head_learns && self.outline.text.tied { 2.0 * table } else { 0.0 }),
            ],
        ));
        let widest =
            self.parameters().filter(|(_, learns)| *learns).map(|(parameter, _)| parameter.len).max().unwrap_or(0);
        // piece by piece, and what is put together of several pieces once more
        let several = if widest > OPTIMIZER_PIECE { widest } else { 0 };
        let temporaries = if self.how.fused { 0 } else { (6 * widest.min(OPTIMIZER_PIECE) + several) * F32 };
        all.push(with("optimizer", vec![device("gradients", gradients), device("temporaries", temporaries as f64)]));
        all
    }

    /// What sampling holds beside what is always there.
    fn sampling(&self, device: &dyn Fn(&'static str, f64) -> Part) -> Vec<Part> {
        let text = &self.outline.text;
        let (prompts, per_prompt) = (self.some(self.prompts_per_step), self.groups[0].responses.len().max(1));
        let rows = self.max_rows.min(self.prompts_per_step * per_prompt);
        let open = prompts.len().min(rows.div_ceil(per_prompt) + 1);
        let mut lengths: Vec<usize> = prompts.iter().map(|group| group.prompt).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        let prompt_tokens: usize = lengths[..open].iter().sum();
        let per_token = 2 * text.keys * text.layers * self.how.width;
        // on an accelerator prompts' keys and values are held by themselves, and stacked
        let copies = if self.how.fused { 1 } else { 2 };
        let mut prefill: Vec<GroupSize> = Vec::new();
        let mut room = self.max_prefill_tokens;
        for group in &prompts[..open] {
            if !prefill.is_empty() && group.prompt > room {
                break;
            }
            room = room.saturating_sub(group.prompt);
            prefill.push(GroupSize { responses: Vec::new(), ..group.clone() });
        }
        let micro = Micro::of(&self.outline, &prefill);
        let second: usize = self.outline.parameters.iter().filter(|parameter| parameter.decodes).map(|p| p.len).sum();
        let logits = F32 * text.vocabulary * (open + rows * if self.how.fused { 2 } else { 6 });
        vec![
            device("rounded weights of sampling", self.rounded_copy()),
            device("second layout of weights", if self.second_layout { (second * F32) as f64 } else { 0.0 }),
            device("keys and values", (per_token * (rows * self.max_new_tokens + copies * prompt_tokens)) as f64),
            device("prompts computed at once", forward(&self.outline, &micro, self.how)),
            device("logits", logits as f64),
        ]
    }

    /// The largest of all moments, on device and host each.
    pub(crate) fn peak(&self) -> Peak {
        let moments = self.moments();
        let largest = |on_host: bool| moments.iter().map(|moment| moment.sum(on_host)).fold(0.0, f64::max);
        if self.unified {
            return Peak { device: PROGRAM + (largest(false) - PROGRAM) * SLACK_HOST, host: 0.0 };
        }
        Peak { device: largest(false) * SLACK_DEVICE, host: largest(true) * SLACK_HOST }
    }
}

fn patches(group: &GroupSize) -> usize {
    group.pictures.iter().map(|grid| grid.iter().product::<usize>()).sum()
}

/// Groups in micro-batches: `micro_batches` of the trainer, on sizes.
pub(crate) fn cut(groups: &[GroupSize], micro_tokens: usize) -> Vec<Vec<GroupSize>> {
    let mut batches: Vec<Vec<GroupSize>> = Vec::new();
    let mut room = 0usize;
    for group in groups {
        if group.rows() <= room {
            room -= group.rows();
            batches.last_mut().expect("there is room only in a batch").push(group.clone());
            continue;
        }
        let mut first = 0;
        while first < group.responses.len() {
            let mut used = group.prompt + group.responses[first] - 1;
            let mut next = first + 1;
            while next < group.responses.len() && used + group.responses[next] - 1 <= micro_tokens {
                used += group.responses[next] - 1;
                next += 1;
            }
            batches.push(vec![GroupSize { responses: group.responses[first..next].to_vec(), ..group.clone() }]);
            room = micro_tokens.saturating_sub(used);
            first = next;
        }
    }
    batches
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cost::flops::tests::of_size;

    /// 8 prompts of 100 tokens with a picture, 8 responses of 64 tokens each, everything learned on the CPU.
    pub(crate) fn workload(size: &str) -> Workload {
        let outline = of_size(size);
        Workload {
            learns: vec![true; outline.parameters.len()],
            outline,
            how: Execution { fused: true, width: 4 },
            unified: true,
            frozen_in_f32: false,
            reference: true,
            live_views: 1,
            twins: 0.0,
            kept_features: 1 << 30,
            kept_activations: 0,
            recompute: false,
            moment_bytes: 8,
            reference_brought: false,
            moments_on_host: false,
            second_layout: true,
            max_rows: 64,
            max_new_tokens: 64,
            max_prefill_tokens: 8192,
            micro_tokens: 16_384,
            prompts_per_step: 8,
            prompts_per_update: 8,
            groups: vec![GroupSize { prompt: 100, pictures: vec![[1, 6, 6]], responses: vec![64; 8] }],
            threads: 2,
        }
    }

    fn part(workload: &Workload, moment: &str, name: &str) -> f64 {
        let moments = workload.moments();
        let moment = moments.iter().find(|found| found.name == moment).expect("a moment");
        moment.parts.iter().filter(|part| part.name == name).map(|part| part.bytes).sum()
    }

    #[test]
    fn weights_moments_and_gradients_are_counted_by_parameter() {
        let all = workload("4m");
        let numbers = all.outline.num_parameters() as f64;
        assert_eq!(part(&all, "training", "weights"), 4.0 * numbers);
        assert_eq!(part(&all, "training", "reference"), 4.0 * numbers);
        let brought = Workload { reference_brought: true, ..all.clone() };
        assert_eq!(part(&brought, "training", "reference"), 0.0);
        assert_eq!(part(&brought, "scoring", "reference"), 4.0 * numbers);
        assert_eq!(part(&all, "training", "moments"), 8.0 * numbers);
        assert_eq!(part(&all, "optimizer", "gradients"), 4.0 * numbers);
        // in 16 bits, maps that learn stay float32, and those that do not are halved
        let mut some = Workload { how: Execution { fused: false, width: 2 }, unified: false, moment_bytes: 4, ..all };
        some.learns.iter_mut().zip(&some.outline.parameters).for_each(|(learns, p)| *learns = !p.vision);
        let vision: usize = some.outline.parameters.iter().filter(|p| p.vision && p.rounds).map(|p| p.len).sum();
        assert_eq!(part(&some, "training", "weights"), 4.0 * numbers - 2.0 * vision as f64);
        let learning: usize = some.outline.parameters.iter().filter(|p| !p.vision).map(|p| p.len).sum();
        assert_eq!(part(&some, "training", "moments"), 4.0 * learning as f64);
        some.frozen_in_f32 = true;
        assert_eq!(part(&some, "training", "weights"), 4.0 * numbers);
        some.moments_on_host = true;
        assert!(some.peak().host > 4.0 * learning as f64);
    }

    #[test]
    fn activations_grow_with_the_micro_batch_and_recomputing_keeps_inputs_only() {
        let all = workload("19m");
        let kept = |workload: &Workload| part(workload, "training", "activations of a micro-batch");
        let half = Workload { micro_tokens: 2500, ..all.clone() };
        assert_eq!((all.micro_batches().len(), half.micro_batches().len()), (1, 2));
        let ratio = kept(&half) / kept(&all);
        assert!((0.49..0.55).contains(&ratio), "{ratio}");
        // 10 blocks, of which one is whole, and the others are their inputs: 1 of about 15 widths
        let again = Workload { recompute: true, ..all.clone() };
        let ratio = kept(&again) / kept(&all);
        assert!((0.15..0.35).contains(&ratio), "{ratio}");
        let two = Workload { live_views: 2, ..all.clone() };
        assert!(kept(&two) > 1.8 * kept(&all));
    }

    #[test]
    fn what_sampling_computed_waits_for_the_update() {
        let off = workload("4m");
        let on = Workload { kept_activations: 1 << 30, ..off.clone() };
        let text = on.outline.text;
        let rows = 8 * (100 + 8 * 63);
        let widths = 2 * text.queries + 2 * text.keys + 2 * text.hidden + 2 * text.intermediate;
        let decoder = (rows * text.layers * widths * 4) as f64;
        let blind = GroupSize { pictures: Vec::new(), ..on.groups[0].clone() };
        let blind = Workload { groups: vec![blind], ..on.clone() };
        assert_eq!(blind.sampled(), decoder);
        assert!(on.sampled() > decoder, "and the tower's");
        let mut frozen = on.clone();
        frozen.learns.iter_mut().zip(&frozen.outline.parameters).for_each(|(learns, p)| *learns = !p.vision);
        assert_eq!(frozen.sampled(), decoder, "features are kept instead");
        let (name, all) = ("what sampling computed for the update", on.sampled());
        let parts = |run: &Workload| ["sampling", "scoring", "training"].map(|moment| part(run, moment, name));
        assert_eq!(parts(&on), [all, all, 0.0], "one micro-batch takes it over");
        assert_eq!(parts(&Workload { micro_tokens: 2500, ..on.clone() }), [all; 3]);
        for none in [
            Workload { kept_activations: all as usize - 1, ..on.clone() },
            Workload { recompute: true, ..on.clone() },
            Workload { live_views: 2, ..on.clone() },
            Workload { prompts_per_update: 4, ..on.clone() },
            off,
        ] {
            assert_eq!(parts(&none), [0.0; 3]);
        }
    }

    #[test]
    fn frozen_vision_keeps_no_activations_of_it() {
        let all = Workload {
            groups: vec![GroupSize { pictures: vec![[1, 36, 36]], ..workload("4m").groups[0].clone() }],
            ..workload("4m")
        };
        let mut frozen = all.clone();
        frozen.learns.iter_mut().zip(&frozen.outline.parameters).for_each(|(learns, p)| *learns = !p.vision);
        let kept = |workload: &Workload| part(workload, "training", "activations of a micro-batch");
        // 8 pictures of 1296 patches through 4 blocks of about 16 widths of 128 floats
        assert!(kept(&all) - kept(&frozen) > 8.0 * 1296.0 * 4.0 * 14.0 * 128.0 * 4.0);
    }

    #[test]
    fn caches_grow_with_rows_and_lengths() {
        let all = workload("4m");
        let keys = |workload: &Workload| part(workload, "sampling", "keys and values");
        let more = Workload { max_rows: 32, ..all.clone() };
        // 2 x 64 values a token (2 heads of 32), 6 layers, 4 bytes, for 64 tokens a row; 4 prompts less are open
        let per_token = (2 * 64 * 6 * 4) as f64;
        assert_eq!(keys(&all) - keys(&more), per_token * (32.0 * 64.0 + 3.0 * 100.0));
    }

    #[test]
    fn micro_batches_are_cut_as_the_trainer_cuts_them() {
        let group = GroupSize { prompt: 10, pictures: Vec::new(), responses: vec![5, 6, 7] };
        let lengths = |micro_tokens| -> Vec<Vec<Vec<usize>>> {
            let batches = cut(&[group.clone(), group.clone()], micro_tokens);
            batches.into_iter().map(|batch| batch.into_iter().map(|part| part.responses).collect()).collect()
        };
        assert_eq!(lengths(1000), [[[5, 6, 7], [5, 6, 7]]]);
        assert_eq!(lengths(25), [[[5, 6, 7]], [[5, 6, 7]]]);
        assert_eq!(lengths(19), [vec![vec![5, 6]], vec![vec![7]], vec![vec![5, 6]], vec![vec![7]]]);
        assert_eq!(lengths(1).len(), 6);
    }

    /// A full fine-tune of 3 billion parameters in bf16 with float32 masters, vision frozen, 8 x 8 x 1,024 tokens.
    #[test]
    fn three_billion_parameters_are_what_eighty_gibibytes_are_for() {
        let mut run = workload("3b");
        run.how = Execution { fused: false, width: 2 };
        run.unified = false;
        run.second_layout = false;
        run.learns = run.outline.parameters.iter().map(|parameter| !parameter.vision).collect();
        run.groups = vec![GroupSize { prompt: 1000, pictures: vec![[1, 56, 56]], responses: vec![1024; 8] }];
        (run.max_new_tokens, run.micro_tokens) = (1024, 2048);
        let gib = |bytes: f64| bytes / 2f64.powi(30);
        let peak = gib(run.peak().device);
        // 3.09 billion that learn take 12 bytes for themselves and their moments, and 4 for gradients
        let masters = gib(run.learning() as f64 * 16.0);
        assert!((45.0..47.0).contains(&masters), "{masters}");
        assert!(peak > masters, "{peak}");
        let again = Workload { recompute: true, ..run };
        assert!(gib(again.peak().device) < peak);
    }
}
