//! Files written by Pillow, each beside what Pillow reads from it.

use std::path::Path;

use super::{Limits, decode};
use crate::picture::Alpha;

pub fn read(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Decodes a fixture and compares it, as RGB, with the PNG beside it: no sample may differ by more than `tolerance`.
pub fn check(name: &str, tolerance: u8) {
    let picture = decode(&read(name), &Limits::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
    let expected = decode(&read(&format!("{name}.png")), &Limits::default()).unwrap();
    let (found, expected) = (picture.to_rgb(Alpha::Drop), expected.to_rgb(Alpha::Drop));
    assert_eq!((found.width, found.height), (expected.width, expected.height), "{name}");
    let worst = found.data.iter().zip(&expected.data).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(worst <= Some(tolerance), "{name}: a sample differs by {worst:?}, expected at most {tolerance}");
}
