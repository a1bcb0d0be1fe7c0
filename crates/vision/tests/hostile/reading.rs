//! What is done with pictures and their preparation's description, whatever they hold; the fuzz targets do the same.

use std::borrow::Cow;

use percept_vision::{Alpha, Limits, Preprocessor, bound_pixels, decode};

/// Small, so that a claim beyond them is soon made.
const LIMITS: Limits = Limits { max_pixels: 1 << 20, max_bytes: 1 << 23 };

/// Decodes a picture and prepares it, as a run does with every row's. Says whether it was one.
pub fn picture(bytes: &[u8]) -> bool {
    let picture = match decode(bytes, &LIMITS) {
        Ok(picture) => picture,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    assert!((picture.width() * picture.height()) as u64 <= LIMITS.max_pixels);
    picture.to_rgb(Alpha::OverWhite);
    if let Ok(bounded) = bound_pixels(&picture, Some(64), Some(4096)) {
        let patches = Preprocessor::default().preprocess(&bounded.to_rgb(Alpha::Drop));
        assert!(patches.is_ok() || bounded.width().max(bounded.height()) > 200);
    }
    true
}

/// Reads the content of a `preprocessor_config.json`, and prepares a picture as it says. Says whether it was one.
pub fn preprocessor_config(bytes: &[u8]) -> bool {
    let Ok(settings) = serde_json::from_slice(bytes) else { return false };
    let Ok(preprocessor) = Preprocessor::from_settings(&settings) else { return false };
    let picture = percept_vision::Rgb { width: 40, height: 30, data: vec![90; 40 * 30 * 3] };
    let grid = preprocessor.grid(picture.width, picture.height);
    // What it would take is known beforehand; a run may well ask for larger pictures than a test does.
    if grid.is_ok_and(|grid| grid.iter().product::<usize>() * preprocessor.row_width() <= 1 << 20) {
        let patches = preprocessor.preprocess(&picture).expect("its grid is there");
        assert!(patches.rows.iter().all(|level| level.is_finite()));
    }
    true
}

/// The same chunks of a PNG with the checksums that belong to them, so that damage reaches what lies behind.
pub fn with_right_checksums(bytes: &[u8]) -> Cow<'_, [u8]> {
    const SIGNATURE: usize = 8;
    if !bytes.starts_with(b"\x89PNG") || bytes.len() < SIGNATURE {
        return Cow::Borrowed(bytes);
    }
    let mut repaired = bytes.to_vec();
    let mut at = SIGNATURE;
    while let Some(Ok(length)) = repaired.get(at..at + 4).map(<[u8; 4]>::try_from) {
        let end = at.saturating_add(8).saturating_add(u32::from_be_bytes(length) as usize);
        let Some(chunk) = repaired.get(at + 4..end) else { break };
        let checksum = crc(chunk).to_be_bytes();
        repaired.iter_mut().skip(end).zip(checksum).for_each(|(byte, right)| *byte = right);
        at = end + 4;
    }
    Cow::Owned(repaired)
}

/// CRC-32 as PNG has it.
fn crc(bytes: &[u8]) -> u32 {
    let shifted = |crc: u32| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| shifted(crc)))
}

/// Whole pictures of every format.
pub fn pictures() -> Vec<Vec<u8>> {
    macro_rules! fixtures {
        ($($name:literal),*) => { vec![$(include_bytes!(concat!("../fixtures/", $name)).to_vec()),*] };
    }
    let mut pictures = fixtures![
        "gray.jpg",
        "color.jpg",
        "progressive.jpg",
        "cmyk.jpg",
        "ycck.jpg",
        "lossy.webp",
        "rgb.bmp",
        "gray.bmp",
        "palette.bmp",
        "bilevel.bmp",
        "cmyk.jpg.png",
        "bilevel.bmp.png",
        "palette.bmp.png"
    ];
    pictures.extend([run_length_bmp(), gif(), lossless_webp()]);
    use png::{BitDepth::*, ColorType::*};
    for (color, depth) in
        [(Grayscale, One), (Grayscale, Sixteen), (GrayscaleAlpha, Eight), (Rgb, Sixteen), (Rgba, Eight)]
    {
        pictures.push(png(color, depth));
    }
    pictures.push(png(Indexed, Four));
    pictures
}

/// 7 x 5 pixels, with a palette and a transparent colour where there may be one.
fn png(color: png::ColorType, depth: png::BitDepth) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 7, 5);
    encoder.set_color(color);
    encoder.set_depth(depth);
    if color == png::ColorType::Indexed {
        encoder.set_palette((0..48).collect::<Vec<u8>>());
        encoder.set_trns(vec![0, 128]);
    }
    let row = (7 * color.samples() * depth as usize).div_ceil(8);
    let data: Vec<u8> = (0..row * 5).map(|i| (i * 37) as u8).collect();
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&data)).expect("writes to memory");
    bytes
}

fn run_length_bmp() -> Vec<u8> {
    let mut bytes = b"BM".to_vec();
    for word in [0u32, 0, 66, 40, 4, 2] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend([1, 0, 8, 0]);
    for word in [1u32, 16, 0, 0, 3, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend([3, 2, 1, 0, 6, 5, 4, 0, 9, 8, 7, 0]);
    bytes.extend([3, 1, 0, 0, 0, 2, 1, 0, 0, 3, 2, 1, 2, 0, 0, 1]);
    bytes
}

fn gif() -> Vec<u8> {
    let mut bytes = Vec::new();
    let palette = [10, 20, 30, 1, 2, 3, 200, 100, 0, 7, 7, 7];
    let mut encoder = gif::Encoder::new(&mut bytes, 9, 8, &palette).expect("writes to memory");
    let buffer: Vec<u8> = (0..42).map(|i| i * i % 4).collect();
    let frame = gif::Frame { left: 1, top: 1, width: 7, height: 6, buffer: buffer.into(), ..gif::Frame::default() };
    encoder.write_frame(&frame).expect("writes to memory");
    drop(encoder);
    bytes
}

fn lossless_webp() -> Vec<u8> {
    let mut bytes = Vec::new();
    let data: Vec<u8> = (0..9 * 7 * 4).map(|i| (i * 11) as u8).collect();
    let encoder = image_webp::WebPEncoder::new(&mut bytes);
    encoder.encode(&data, 9, 7, image_webp::ColorType::Rgba8).expect("writes to memory");
    bytes
}

/// Descriptions of a preparation.
pub fn preprocessor_configs() -> Vec<Vec<u8>> {
    [
        r#"{"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
            "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
            "image_processor_type": "Qwen2VLImageProcessor", "do_resize": true, "resample": 3}"#,
        r#"{"size": {"shortest_edge": 3136, "longest_edge": 1003520}, "rescale_factor": 0.00392156862745098}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
