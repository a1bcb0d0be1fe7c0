//! Names of tensors: the ones files use, and the canonical ones a family is written with.
//!
//! Qwen2-VL and Qwen2.5-VL exist under two schemes. The released files, and what `save_pretrained` writes, say
//! `visual.*`, `model.layers.*`; transformers in memory (and files saved with `save_original_format=False`) says
//! `model.visual.*`, `model.language_model.layers.*`. The first is canonical here, because files of it load everywhere.

/// How the names in a family's files become canonical.
#[derive(Clone, Copy, Debug)]
pub struct NamingScheme {
    /// The first whose prefix fits is applied, once.
    pub renames: &'static [Rename],
    /// Last parts of names of buffers that old versions saved and no model needs, such as `rotary_emb.inv_freq`.
    pub ignorable: &'static [&'static str],
}

/// A leading part of a name, ending at a dot, and what stands for it in the canonical name.
#[derive(Clone, Copy, Debug)]
pub struct Rename {
    pub from: &'static str,
    pub to: &'static str,
}

/// Rotary frequencies: recomputed from the configuration, so that a stored copy says nothing.
const ROTARY_BUFFERS: &[&str] = &["inv_freq", "original_inv_freq"];

impl NamingScheme {
    /// The names as they stand in the file (Qwen3-VL, SmolVLM).
    pub const AS_WRITTEN: NamingScheme = NamingScheme { renames: &[], ignorable: ROTARY_BUFFERS };

    /// Both schemes of Qwen2-VL and Qwen2.5-VL, to the released files' names.
    pub const QWEN2_VL: NamingScheme = NamingScheme {
        renames: &[
            Rename { from: "model.visual.", to: "visual." },
            Rename { from: "model.language_model.", to: "model." },
        ],
        ignorable: ROTARY_BUFFERS,
    };

    /// The canonical form of a name in a file. A canonical name stays as it is.
    pub fn canonical(&self, name: &str) -> String {
        for rename in self.renames {
            if let Some(rest) = name.strip_prefix(rename.from) {
                return format!("{}{rest}", rename.to);
            }
        }
        name.to_owned()
    }

    /// Whether a model may do without a tensor of this name.
    pub fn is_ignorable(&self, name: &str) -> bool {
        self.ignorable
            .iter()
            .any(|last| name.strip_suffix(last).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
    }
}

/// Pairs of letters that are compared in search of a near name: some thousands of names as models have them, and no more time for a file
/// that was made to take it.
const MAX_PAIRS: usize = 1 << 23;

/// The candidate nearest to `name`, when it is near enough to be meant: at most a third of the letters differ.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    let allowed = length / 3;
    let mut pairs = 0;
    // What is much longer or shorter is not near, and comparing it would take its length times as much.
    let similar = candidates.into_iter().filter(|candidate| candidate.chars().count().abs_diff(length) <= allowed);
    let affordable = similar.take_while(|candidate| {
        pairs += length * candidate.len();
        pairs <= MAX_PAIRS
    });
    let distances = affordable.map(|candidate| (strsim::levenshtein(name, candidate), candidate));
    distances.filter(|(distance, _)| *distance <= allowed).min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_schemes_of_qwen2_vl_meet() {
        let scheme = NamingScheme::QWEN2_VL;
        for (in_memory, on_disk) in [
            ("model.visual.blocks.0.attn.qkv.weight", "visual.blocks.0.attn.qkv.weight"),
            ("model.language_model.layers.3.mlp.up_proj.weight", "model.layers.3.mlp.up_proj.weight"),
            ("model.language_model.embed_tokens.weight", "model.embed_tokens.weight"),
            ("lm_head.weight", "lm_head.weight"),
        ] {
            assert_eq!(scheme.canonical(in_memory), on_disk);
            assert_eq!(scheme.canonical(on_disk), on_disk);
        }
        // A prefix ends at a dot: these only look alike.
        assert_eq!(scheme.canonical("model.visuals.weight"), "model.visuals.weight");
        assert_eq!(NamingScheme::AS_WRITTEN.canonical("model.visual.x"), "model.visual.x");
    }

    #[test]
    fn rotary_buffers_are_ignorable_and_nothing_like_them() {
        let scheme = NamingScheme::QWEN2_VL;
        assert!(scheme.is_ignorable("model.layers.0.self_attn.rotary_emb.inv_freq"));
        assert!(scheme.is_ignorable("visual.rotary_pos_emb.inv_freq"));
        assert!(scheme.is_ignorable("inv_freq"));
        assert!(!scheme.is_ignorable("model.layers.0.my_inv_freq"));
        assert!(!scheme.is_ignorable("model.inv_freq.weight"));
    }

    #[test]
    fn nearest_is_near() {
        let names = ["model.layers.0.mlp.up_proj.weight", "model.norm.weight"];
        assert_eq!(nearest("model.layers.0.mlp.up_projection.weight", names), Some(names[0]));
        assert_eq!(nearest("lm_head.weight", names), None);
    }
}
