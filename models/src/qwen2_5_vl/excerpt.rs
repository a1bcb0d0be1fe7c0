//! See [`crate::excerpt`].

use super::config::Config;
use super::outline::{described, of_config};
use super::policy::Qwen25Vl;
use crate::common::{Freeze, Holding, Lora, Placement, random_values};
use crate::{Described, Excerpt, ModelError};

/// Of the random matrices.
const DEVIATION: f64 = 0.02;
/// Rows of the embedding that are left at least, where there are as many.
const LEAST_VOCABULARY: usize = 256;

/// See [`crate::excerpt`].
pub(crate) fn excerpt(
    from: Described,
    layers: usize,
    placement: &Placement,
    freeze: &Freeze,
    lora: Option<&Lora>,
) -> Result<Excerpt, ModelError> {
    let (mut config, stored) = described(from)?;
    shorten(&mut config, layers);
    let outline = of_config(&config, stored, &placement.device)?;
    let holding = Holding::new(placement, stored, freeze);
    let mut number = 0;
    let mut policy = Qwen25Vl::build(&config, placement, &mut |spec| {
        number += 1;
        let values = random_values(&spec, 0, number, DEVIATION, 0..spec.len());
        Ok(holding.parameter(&spec, values))
    })?;
    policy.keep_features(placement.kept_features);
    if let Some(lora) = lora {
        policy.adapt(lora);
    }
    Ok(Excerpt { policy: Box::new(policy), outline, image: config.image_token_id })
}

/// As many of the decoder's blocks, and the same part of all else that repeats. The last row of the embedding stands for pictures.
fn shorten(config: &mut Config, layers: usize) {
    let whole = config.num_layers;
    let layers = layers.clamp(1, whole);
    let part = |count: usize| (count * layers).div_ceil(whole);
    config.num_layers = layers;
    config.vocabulary = part(config.vocabulary).max(LEAST_VOCABULARY.min(config.vocabulary));
    config.image_token_id = config.vocabulary as u32 - 1;
    config.video_token_id = None;
    let vision = &mut config.vision;
    let full = vision.full_attention_blocks.iter().filter(|&&block| block < vision.depth).count();
    vision.depth = part(vision.depth);
    vision.full_attention_blocks = (vision.depth - part(full)..vision.depth).collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn of_3b(layers: usize) -> Config {
        let (mut config, _) = described(Described::Size { family: "qwen2_5_vl", size: "3b" }).expect("a size");
        shorten(&mut config, layers);
        config
    }

    #[test]
    fn all_that_repeats_is_shortened_alike() {
        let config = of_3b(9);
        assert_eq!((config.num_layers, config.vocabulary, config.vision.depth), (9, 151_936 / 4, 8));
        assert_eq!(config.vision.full_attention_blocks, [7]);
        assert_eq!(config.image_token_id, 151_936 / 4 - 1);
        // widths are what is to be measured
        assert_eq!((config.hidden_size, config.vision.hidden_size), (2048, 1280));
        let whole = of_3b(100);
        assert_eq!((whole.num_layers, whole.vocabulary, whole.vision.depth), (36, 151_936, 32));
        assert_eq!(whole.vision.full_attention_blocks, [28, 29, 30, 31]);
    }

    #[test]
    fn it_holds_what_its_outline_says() {
        let device = Device::flex();
        let frozen = |name: &str| name.starts_with("visual.");
        let placement = Placement::from(&device.clone().autodiff());
        let from = Described::Size { family: "qwen2_5_vl", size: "tiny" };
        let found = excerpt(from, 2, &placement, &frozen, None).expect("a size");
        assert_eq!(found.outline.text.layers, 2);
        let parameters = found.policy.parameters();
        assert_eq!(parameters.len(), found.outline.parameters.len());
        for (own, sizes) in parameters.into_iter().zip(&found.outline.parameters) {
            assert_eq!(own.value.dims().iter().product::<usize>(), sizes.len);
            assert_eq!(own.trainable, !sizes.vision, "{}", sizes.names[0]);
        }
    }
}
