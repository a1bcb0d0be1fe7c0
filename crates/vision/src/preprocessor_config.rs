//! Reading a [`Preprocessor`] from a checkpoint folder.
//!
//! Settings stand in `preprocessor_config.json`, or under `image_processor` in `processor_config.json`, which wins, as
//! in transformers 5. Absent keys have the defaults of the processor's class, not those of the released files. The
//! pixel counts are `min_pixels` and `max_pixels`, else `size.shortest_edge` and `size.longest_edge` (areas, despite
//! their names).

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::VisionError;
use crate::preprocess::Preprocessor;

/// The class's own bounds, when a file gives none: 56 * 56 and 28 * 28 * 1280.
const CLASS_MIN_PIXELS: u64 = 3136;
const CLASS_MAX_PIXELS: u64 = 1_003_520;

/// Names under which the one algorithm appears.
const KNOWN_TYPES: [&str; 4] =
    ["Qwen2VLImageProcessor", "Qwen2VLImageProcessorFast", "Qwen2VLImageProcessorPil", "Qwen2_5_VLImageProcessor"];

/// Means, deviations and their quotients stay finite within these.
const LARGEST_LEVEL: f32 = 1e6;
const SMALLEST_DEVIATION: f32 = 1e-6;

/// The most of what a patch may be made of: pixels along its side, frames, and patches along a merged token's side.
const MOST_PIXELS_A_SIDE: usize = 1024;
const MOST_FRAMES: usize = 16;
const MOST_PATCHES_A_SIDE: usize = 64;

/// Pillow's number of the bicubic filter.
const BICUBIC: u64 = 3;

impl Preprocessor {
    /// The preprocessor of the checkpoint in `folder`.
    ///
    /// # Errors
    /// When no file describes it, or the description asks for something else than the Qwen2-VL family does.
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self, VisionError> {
        let folder = folder.as_ref();
        let nested = folder.join("processor_config.json");
        if let Some(mut settings) = read(&nested)?
            && let Some(inner) = settings.remove("image_processor")
        {
            let inner = object("image_processor", &inner).and_then(Self::from_settings);
            return inner.map_err(|error| in_file(&nested, error));
        }
        let own = folder.join("preprocessor_config.json");
        match read(&own)? {
            Some(settings) => Self::from_settings(&settings).map_err(|error| in_file(&own, error)),
            None => Err(VisionError::NoPreprocessor { folder: folder.to_path_buf() }),
        }
    }

    /// The preprocessor described by the content of a `preprocessor_config.json`.
    ///
    /// # Errors
    /// As [`Preprocessor::from_folder`].
    pub fn from_settings(settings: &Map<String, Value>) -> Result<Self, VisionError> {
        check_kind(settings)?;
        let default = Preprocessor::default();
        let (min_pixels, max_pixels) = pixel_bounds(settings)?;
        let rescale = match present(settings, "rescale_factor") {
            None => default.rescale,
            Some(value) => value
                .as_f64()
                .filter(|factor| *factor > 0.0 && *factor <= 1e6)
                .ok_or_else(|| unexpected("rescale_factor", "a positive number, such as 1/255", value))?,
        };
        let deviation = channels(settings, "image_std", default.deviation)?;
        if deviation.iter().any(|x| *x < SMALLEST_DEVIATION) {
            return Err(unexpected("image_std", "three positive numbers, 1e-6 or more", &settings["image_std"]));
        }
        Ok(Self {
            patch_size: at_most(MOST_PIXELS_A_SIDE, settings, "patch_size", default.patch_size)?,
            temporal_patch_size: at_most(MOST_FRAMES, settings, "temporal_patch_size", default.temporal_patch_size)?,
            merge_size: at_most(MOST_PATCHES_A_SIDE, settings, "merge_size", default.merge_size)?,
            mean: channels(settings, "image_mean", default.mean)?,
            deviation,
            rescale,
            min_pixels,
            max_pixels,
        })
    }
}

fn read(path: &Path) -> Result<Option<Map<String, Value>>, VisionError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(VisionError::Unreadable { path: path.to_path_buf(), source }),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|source| VisionError::Json { path: path.to_path_buf(), source })
}

fn in_file(path: &Path, error: VisionError) -> VisionError {
    VisionError::InFile { path: path.to_path_buf(), source: Box::new(error) }
}

/// Refuses processors of other families, and steps of this one switched off or changed.
fn check_kind(settings: &Map<String, Value>) -> Result<(), VisionError> {
    if let Some(kind) = present(settings, "image_processor_type")
        && !kind.as_str().is_some_and(|kind| KNOWN_TYPES.contains(&kind))
    {
        return Err(unexpected("image_processor_type", &format!("one of {}", KNOWN_TYPES.join(", ")), kind));
    }
    for step in ["do_resize", "do_rescale", "do_normalize", "do_convert_rgb"] {
        match present(settings, step) {
            None | Some(Value::Bool(true)) => {}
            Some(value) => return Err(unexpected(step, "true (the step cannot be left out)", value)),
        }
    }
    match present(settings, "resample") {
        Some(value) if value.as_u64() != Some(BICUBIC) => Err(unexpected("resample", "3 (bicubic)", value)),
        _ => Ok(()),
    }
}

fn pixel_bounds(settings: &Map<String, Value>) -> Result<(u64, u64), VisionError> {
    let from_size = match present(settings, "size") {
        None => [Some(CLASS_MIN_PIXELS), Some(CLASS_MAX_PIXELS)],
        Some(size) => {
            let size = object("size", size)?;
            [count(size, "shortest_edge", "size.shortest_edge")?, count(size, "longest_edge", "size.longest_edge")?]
        }
    };
    let min = count(settings, "min_pixels", "min_pixels")?.or(from_size[0]);
    let max = count(settings, "max_pixels", "max_pixels")?.or(from_size[1]);
    match (min, max) {
        (Some(min), Some(max)) if min <= max => Ok((min, max)),
        (Some(min), Some(max)) => Err(VisionError::Setting {
            key: "max_pixels".into(),
            expected: format!("at least min_pixels = {min}"),
            found: max.to_string(),
        }),
        _ => Err(unexpected("size", "both shortest_edge and longest_edge (areas in pixels)", &settings["size"])),
    }
}

fn present<'a>(settings: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    settings.get(key).filter(|value| !value.is_null())
}

fn unexpected(key: &str, expected: &str, found: &Value) -> VisionError {
    VisionError::Setting { key: key.to_string(), expected: expected.to_string(), found: found.to_string() }
}

fn object<'a>(key: &str, value: &'a Value) -> Result<&'a Map<String, Value>, VisionError> {
    value.as_object().ok_or_else(|| unexpected(key, "an object", value))
}

fn count(settings: &Map<String, Value>, key: &str, full_key: &str) -> Result<Option<u64>, VisionError> {
    let Some(value) = present(settings, key) else { return Ok(None) };
    match value.as_u64() {
        Some(count) if count > 0 => Ok(Some(count)),
        _ => Err(unexpected(full_key, "a positive whole number", value)),
    }
}

fn at_most(most: usize, settings: &Map<String, Value>, key: &str, default: usize) -> Result<usize, VisionError> {
    match count(settings, key, key)? {
        None => Ok(default),
        Some(count) if count <= most as u64 => Ok(count as usize),
        Some(_) => Err(unexpected(key, &format!("at most {most}"), &settings[key])),
    }
}

fn channels(settings: &Map<String, Value>, key: &str, default: [f32; 3]) -> Result<[f32; 3], VisionError> {
    let Some(value) = present(settings, key) else { return Ok(default) };
    let numbers =
        value.as_array().map(|list| list.iter().filter_map(Value::as_f64).map(|x| x as f32).collect::<Vec<_>>());
    numbers
        .and_then(|numbers| <[f32; 3]>::try_from(numbers).ok())
        .filter(|numbers| numbers.iter().all(|number| number.abs() <= LARGEST_LEVEL))
        .ok_or_else(|| unexpected(key, "three numbers from -1e6 to 1e6", value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(settings: Value) -> Result<Preprocessor, VisionError> {
        Preprocessor::from_settings(settings.as_object().unwrap())
    }

    #[test]
    fn pixel_keys_override_edges_one_by_one() {
        let size = json!({"shortest_edge": 10, "longest_edge": 1000});
        let bounds = |settings| parse(settings).map(|p| (p.min_pixels, p.max_pixels)).unwrap();
        assert_eq!(bounds(json!({})), (3136, 1_003_520));
        assert_eq!(bounds(json!({"size": size})), (10, 1000));
        assert_eq!(bounds(json!({"size": size, "max_pixels": 77})), (10, 77));
        assert_eq!(bounds(json!({"size": null, "min_pixels": 1, "max_pixels": 9})), (1, 9));
        assert_eq!(bounds(json!({"size": {"longest_edge": 50}, "min_pixels": 5})), (5, 50));
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let cases = [
            (
                json!({"image_processor_type": "Idefics3ImageProcessor"}),
                "image_processor_type: expected one of Qwen2VL",
            ),
            (json!({"resample": 1}), "resample: expected 3 (bicubic), found 1"),
            (json!({"do_resize": false}), "do_resize: expected true"),
            (json!({"size": {"height": 3}}), "size: expected both shortest_edge and longest_edge"),
            (json!({"size": {"shortest_edge": 0}}), "size.shortest_edge: expected a positive whole number, found 0"),
            (json!({"min_pixels": 9, "max_pixels": 4}), "max_pixels: expected at least min_pixels = 9, found 4"),
            (json!({"image_mean": [0.5, 0.5]}), "image_mean: expected three numbers from -1e6 to 1e6, found [0.5,0.5]"),
            (json!({"image_mean": [0.5, 0.5, 1e300]}), "image_mean: expected three numbers from -1e6 to 1e6, found"),
            (json!({"image_std": [0.5, 0.5, 1e-60]}), "image_std: expected three positive numbers, 1e-6 or more"),
            (json!({"rescale_factor": 1e300}), "rescale_factor: expected a positive number, such as 1/255"),
            (json!({"patch_size": 1025}), "patch_size: expected at most 1024, found 1025"),
            (json!({"merge_size": u64::MAX}), "merge_size: expected at most 64"),
            (json!({"temporal_patch_size": 1u64 << 40}), "temporal_patch_size: expected at most 16"),
            (json!({"image_std": [1, 0, 1]}), "image_std: expected three positive numbers"),
            (json!({"patch_size": "14"}), "patch_size: expected a positive whole number, found \"14\""),
        ];
        for (settings, message) in cases {
            let error = parse(settings).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }

    #[test]
    fn a_folder_is_read_and_the_nested_description_wins() {
        let folder = tempfile::tempdir().unwrap();
        let error = Preprocessor::from_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("no preprocessor_config.json"), "{error}");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("preprocessor_config.json", r#"{"patch_size": 16}"#);
        write("processor_config.json", r#"{"processor_class": "Qwen3VLProcessor"}"#);
        assert_eq!(Preprocessor::from_folder(folder.path()).unwrap().patch_size, 16);
        write("processor_config.json", r#"{"image_processor": {"patch_size": 12}}"#);
        assert_eq!(Preprocessor::from_folder(folder.path()).unwrap().patch_size, 12);
        write("processor_config.json", r#"{"image_processor": {"patch_size": -1}}"#);
        let error = Preprocessor::from_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("processor_config.json: patch_size"), "{error}");
        write("processor_config.json", "{");
        assert!(matches!(Preprocessor::from_folder(folder.path()), Err(VisionError::Json { .. })));
    }
}
