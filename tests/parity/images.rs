//! Pictures: resize, masking and patches against Pillow, transformers and PAPO, on every case the golden folders hold.

use std::path::{Path, PathBuf};

use super::golden;
use percept_vision::{
    Alpha, Blacken, Limits, Picture, Pixels, Preprocessor, VisionError, bound_pixels, decode, smart_resize,
};
use safetensors::SafeTensors;
use serde_json::Value;

fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_else(|| panic!("{key} of {case}"))
}

fn number(case: &Value, key: &str) -> u64 {
    case[key].as_u64().unwrap_or_else(|| panic!("{key} of {case}"))
}

fn open(path: &Path) -> Picture {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    decode(&bytes, &Limits::default()).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Calls `check` with the folder and each case of a file, and returns how many there were over all folders.
fn for_each_case(file: &str, mut check: impl FnMut(&Path, &Value)) {
    let mut count = 0;
    for folder in golden::folders("images").into_iter().filter(|folder| folder.join(file).is_file()) {
        for case in json(&folder.join(file))["cases"].as_array().expect("a list of cases") {
            check(&folder, case);
            count += 1;
        }
    }
    println!("{file}: {count} cases");
    assert!(count > 0, "no case of {file} was found; PERCEPT_GOLDEN names a folder with goldens");
}

/// Whether the picture was opened in the mode Pillow gives it.
fn has_mode(picture: &Picture, mode: &str) -> bool {
    match (picture.pixels(), picture.is_indexed()) {
        (Pixels::Gray(_), indexed) => mode == if indexed { "1" } else { "L" },
        (Pixels::Rgb(_) | Pixels::Rgba(_), true) => mode == "P",
        (Pixels::Gray16(_), _) => mode == "I;16",
        (Pixels::GrayAlpha(_), _) => mode == "LA",
        (Pixels::Rgb(_), false) => mode == "RGB",
        (Pixels::Rgba(_), false) => mode == "RGBA",
        (Pixels::Cmyk(_), _) => mode == "CMYK",
    }
}

fn assert_same(found: &Picture, expected: &Picture, case: &Value) {
    assert_eq!((found.width(), found.height()), (expected.width(), expected.height()), "{case}");
    let (found, expected) = (found.to_rgb(Alpha::Drop).data, expected.to_rgb(Alpha::Drop).data);
    let different = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
    assert_eq!(different, 0, "{different} of {} samples differ: {case}", expected.len());
}

#[test]
fn resize_is_pillows() {
    for_each_case("resize.json", |folder, case| {
        let input = open(&folder.join(text(case, "input")));
        assert!(has_mode(&input, text(case, "mode")), "{case}");
        let resized = input.resize(number(case, "width") as usize, number(case, "height") as usize);
        assert_same(&resized, &open(&folder.join(text(case, "output"))), case);
        if !input.is_indexed() && matches!(input.pixels(), Pixels::Rgb(_)) {
            let rgb = input.to_rgb(Alpha::Drop).resize(resized.width(), resized.height());
            assert_eq!(rgb, resized.to_rgb(Alpha::Drop), "{case}");
        }
    });
}

#[test]
fn smart_resize_is_the_processors() {
    for_each_case("smart_resize.json", |_, case| {
        let side = |key| number(case, key) as usize;
        let (min, max) = (number(case, "min_pixels"), number(case, "max_pixels"));
        let found = smart_resize(side("height"), side("width"), side("factor"), min, max);
        match case["error"].as_str() {
            None => assert_eq!(found.ok(), Some((side("out_height"), side("out_width"))), "{case}"),
            Some(message) => {
                let error = found.expect_err(&case.to_string());
                assert!(matches!(error, VisionError::AspectRatio { .. }), "{case}: {error}");
                assert!(error.to_string().contains(message), "{case}: {error}");
            }
        }
    });
}

#[test]
fn bounds_on_pixels_are_the_trainers() {
    for_each_case("process_image.json", |folder, case| {
        let input = open(&folder.join(text(case, "input")));
        assert!(has_mode(&input, text(case, "input_mode")), "{case}");
        let limit = |key: &str| case[key].as_u64();
        let bounded = bound_pixels(&input, limit("min_pixels"), limit("max_pixels")).unwrap();
        assert_eq!((bounded.width() as u64, bounded.height() as u64), (number(case, "width"), number(case, "height")));
        assert_same(&bounded, &open(&folder.join(text(case, "output"))), case);
    });
}

#[test]
fn blackening_is_the_trainers() {
    for_each_case("blacken.json", |folder, case| {
        let input = open(&folder.join(text(case, "input")));
        assert!(has_mode(&input, text(case, "mode")), "{case}");
        let probability = case["black_prob"].as_f64().expect("a probability");
        let corruption = Blacken { patch_size: number(case, "patch_size") as usize, probability };
        let uniforms = case["uniforms"].as_array().expect("uniforms").iter().map(|x| x.as_f64().expect("a number"));
        let cells = input.width().div_ceil(corruption.patch_size) * input.height().div_ceil(corruption.patch_size);
        assert_eq!(uniforms.len(), cells, "{case}");
        let expected = open(&folder.join(text(case, "output")));
        assert_eq!(corruption.blacken(&input, uniforms).pixels(), expected.pixels(), "{case}");
    });
}

/// A tensor's shape and its values.
fn tensor<T>(file: &SafeTensors<'_>, name: &str, value: impl Fn(&[u8]) -> T) -> (Vec<usize>, Vec<T>) {
    let view = file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    let size = view.dtype().bitsize() / 8;
    (view.shape().to_vec(), view.data().chunks_exact(size).map(value).collect())
}

fn f32_of(bytes: &[u8]) -> f32 {
    f32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

fn i64_of(bytes: &[u8]) -> i64 {
    i64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

/// All files of a list of lists, in order.
fn files(lists: &Value) -> Vec<&str> {
    let lists = lists.as_array().expect("a list for each row");
    lists.iter().flat_map(|row| row.as_array().expect("a list of files")).map(|x| x.as_str().expect("a file")).collect()
}

/// Compares patches and grids of pictures, one after the other, with a golden file's tensors.
fn assert_patches(
    preprocessor: &Preprocessor,
    pictures: impl IntoIterator<Item = percept_vision::Rgb>,
    golden: &SafeTensors<'_>,
    name: &str,
) {
    let (shape, expected) = tensor(golden, name, f32_of);
    let (_, expected_grids) = tensor(golden, "image_grid_thw", i64_of);
    let (mut rows, mut grids, mut num_tokens) = (Vec::new(), Vec::new(), 0);
    for picture in pictures {
        let patches = preprocessor.preprocess(&picture).unwrap();
        assert_eq!(patches.row_width, shape[1], "{name}");
        num_tokens += patches.num_tokens();
        rows.extend(patches.rows);
        grids.extend(patches.grid.map(|x| x as i64));
    }
    assert_eq!(grids, expected_grids, "{name}");
    assert_eq!(num_tokens * preprocessor.merge_size.pow(2), shape[0], "{name}");
    assert_eq!(rows.len(), expected.len(), "{name}");
    let worst = rows.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("  {name} {shape:?}: largest difference {worst:e}");
    assert!(worst <= 1e-6, "{name}: values differ by up to {worst}");
}

/// Folders of one kind with a golden file in them.
fn cases(kind: &str) -> Vec<PathBuf> {
    let inside =
        |folder: PathBuf| std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut folders: Vec<PathBuf> = golden::folders(kind).into_iter().flat_map(inside).collect();
    folders.retain(|folder| folder.join("golden.safetensors").is_file());
    folders.sort();
    folders
}

/// Of another family than Qwen-VL, which this preprocessing is not for.
fn other_family(folder: &Path) -> Option<String> {
    let kind = json(&folder.join("preprocessor_config.json"))["image_processor_type"].to_string();
    (!kind.contains("Qwen2VL") && !kind.contains("Qwen2_5_VL")).then_some(kind)
}

#[test]
fn patches_are_the_processors() {
    let mut count = 0;
    for folder in cases("models") {
        if let Some(kind) = other_family(&folder) {
            println!("{}: skipped ({kind})", folder.display());
            continue;
        }
        println!("{}", folder.display());
        let preprocessor = Preprocessor::from_folder(&folder).unwrap();
        let bytes = std::fs::read(folder.join("golden.safetensors")).unwrap();
        let golden = SafeTensors::deserialize(&bytes).unwrap();
        let description = json(&folder.join("golden.json"));
        let pictures: Vec<_> = files(&description["images"])
            .iter()
            .map(|file| open(&folder.join(file)).to_rgb(Alpha::OverWhite))
            .collect();
        let (_, grids) = tensor(&golden, "image_grid_thw", i64_of);
        let found = pictures.iter().flat_map(|picture| preprocessor.grid(picture.width, picture.height).unwrap());
        assert_eq!(found.map(|x| x as i64).collect::<Vec<_>>(), grids, "{}", folder.display());
        // Variants of one checkpoint share its values and do not repeat them.
        if golden.tensor("pixel_values").is_ok() {
            assert_patches(&preprocessor, pictures, &golden, "pixel_values");
            count += 1;
        }
    }
    assert!(count > 0, "no checkpoint with pixel_values was found; PERCEPT_GOLDEN names a folder with goldens");
}

#[test]
fn masked_twins_have_the_trainers_patches() {
    let mut count = 0;
    for folder in cases("train_step") {
        println!("{}", folder.display());
        let data = json(&folder.join("data.json"));
        let preprocessor = Preprocessor::from_folder(folder.join(text(&data, "policy"))).unwrap();
        let bytes = std::fs::read(folder.join("golden.safetensors")).unwrap();
        let golden = SafeTensors::deserialize(&bytes).unwrap();
        let limit = |key: &str| data["process_image"][key].as_u64();
        for (list, name) in [("images", "pixel_values"), ("masked_images", "masked_pixel_values")] {
            let pictures = files(&data[list]).into_iter().map(|file| {
                let picture = open(&folder.join(file));
                bound_pixels(&picture, limit("min_pixels"), limit("max_pixels")).unwrap().to_rgb(Alpha::Drop)
            });
            // A small set of goldens need not repeat the whole pictures' values.
            if name == "masked_pixel_values" || golden.tensor(name).is_ok() {
                assert_patches(&preprocessor, pictures, &golden, name);
            }
        }
        count += 1;
    }
    assert!(count > 0, "no train_step folder was found; PERCEPT_GOLDEN names a folder with goldens");
}
