//! No picture and no description of how to prepare one makes the reader panic, or take more than it should.

mod reading;

use percept_hostile::{Bound, Counting, any_bytes, damaged, sentence, within};
use proptest::prelude::*;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The limits' 8 MiB, what decoders hold beside them, and the prepared picture.
const PICTURE: Bound = Bound::mib(48);

const HEADS: [&[u8]; 6] = [
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    b"\xff\xd8\xff",
    b"RIFF\x40\0\0\0WEBPVP8X",
    b"RIFF\x40\0\0\0WEBPVP8L",
    b"BM",
    b"GIF89a",
];

const SETTINGS: [&str; 22] = [
    "{",
    "}",
    "\"size\":",
    "{\"shortest_edge\":",
    "\"longest_edge\":",
    "\"min_pixels\":",
    "\"max_pixels\":",
    "\"patch_size\":",
    "\"merge_size\":",
    "\"temporal_patch_size\":",
    "\"image_std\":[",
    "1e-60",
    "1e300",
    "]",
    "18446744073709551615",
    "1",
    ",",
    "\"rescale_factor\":",
    "\"image_mean\":[0,0,",
    "1048576",
    "null",
    "14",
];

#[test]
fn whole_files_are_read() {
    for (at, picture) in reading::pictures().iter().enumerate() {
        assert!(within(PICTURE, || reading::picture(picture)), "picture {at}");
        assert_eq!(*reading::with_right_checksums(picture), **picture, "picture {at}");
    }
    for config in reading::preprocessor_configs() {
        assert!(reading::preprocessor_config(&config));
    }
}

proptest! {
    #![proptest_config(percept_hostile::config())]

    #[test]
    fn any_bytes_are_no_harm(input in any_bytes(&HEADS, 600)) {
        within(PICTURE, || reading::picture(&input));
    }

    #[test]
    fn damaged_pictures_are_no_harm(input in damaged(reading::pictures())) {
        within(PICTURE, || reading::picture(&input));
        let repaired = reading::with_right_checksums(&input);
        within(PICTURE, || reading::picture(&repaired));
    }

    #[test]
    fn damaged_descriptions_are_no_harm(input in damaged(reading::preprocessor_configs())) {
        within(Bound::mib(32), || reading::preprocessor_config(&input));
    }

    #[test]
    fn settings_in_any_order_are_no_harm(text in sentence(&SETTINGS, 12)) {
        within(Bound::mib(32), || reading::preprocessor_config(format!("{{{text}}}").as_bytes()));
    }

    /// Every number of a description may be any number.
    #[test]
    fn numbers_of_any_size_are_no_harm(
        counts in prop::collection::vec(prop_oneof![0..100u64, any::<u64>(), (0..64u32).prop_map(|bits| 1 << bits)], 5),
        scale in any::<f64>(),
        deviation in prop::array::uniform3(prop_oneof![any::<f64>(), 0.1..1.0f64]),
    ) {
        let keys = ["min_pixels", "max_pixels", "patch_size", "merge_size", "temporal_patch_size"];
        let mut settings: serde_json::Map<_, _> =
            keys.into_iter().zip(counts).map(|(key, count)| (key.to_owned(), count.into())).collect();
        settings.insert("rescale_factor".into(), scale.into());
        settings.insert("image_std".into(), deviation.to_vec().into());
        let text = serde_json::to_vec(&settings).expect("an object");
        within(Bound::mib(32), || reading::preprocessor_config(&text));
    }
}
