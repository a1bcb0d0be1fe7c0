//! Integers, bits, and comparisons.

use crate::device::each_lane;

#[test]
fn comparisons_with_a_nan() {
    let one = 1f32.to_bits();
    let compare = |comparison: &str, a: u32, b: f32| {
        let text = format!("setp.{comparison}.f32 %p1, %r2, 0f{:08X};\nselp.b32 %r3, 1, 0, %p1;", b.to_bits());
        each_lane(&text, &[a])[0]
    };
    for ordered in ["eq", "ne", "lt", "le", "gt", "ge", "num"] {
        assert_eq!((compare(ordered, one, f32::NAN), compare(ordered, f32::NAN.to_bits(), 1.0)), (0, 0), "{ordered}");
    }
    for unordered in ["equ", "neu", "ltu", "leu", "gtu", "geu", "nan"] {
        assert_eq!(
            (compare(unordered, one, f32::NAN), compare(unordered, f32::NAN.to_bits(), 1.0)),
            (1, 1),
            "{unordered}"
        );
    }
    // below, equal, above
    let expected = [
        ("eq", [0, 1, 0]),
        ("ne", [1, 0, 1]),
        ("lt", [1, 0, 0]),
        ("le", [1, 1, 0]),
        ("gt", [0, 0, 1]),
        ("ge", [0, 1, 1]),
        ("num", [1, 1, 1]),
    ];
    for (comparison, expected) in expected {
        assert_eq!([1.5, 1.0, 0.5].map(|b| compare(comparison, one, b)), expected, "{comparison}");
        if comparison != "num" {
            assert_eq!([1.5, 1.0, 0.5].map(|b| compare(&format!("{comparison}u"), one, b)), expected, "{comparison}u");
        }
    }
}

#[test]
fn comparisons_know_the_sign() {
    let compare = |comparison: &str| {
        each_lane(&format!("setp.{comparison} %p1, %r2, 1;\nselp.b32 %r3, 1, 0, %p1;"), &[u32::MAX])[0]
    };
    assert_eq!(["lt.s32", "lt.u32", "hi.u32", "ge.s32", "ne.b32"].map(compare), [1, 0, 1, 0, 1]);
}

/// A lane for each pair of position and length.
fn extracted(kind: &str, a: u32, places: &[(u32, u32)]) -> Vec<u32> {
    let input: Vec<u32> = places.iter().map(|(from, count)| from << 8 | count).collect();
    let text =
        format!("shr.u32 %r4, %r2, 8;\nand.b32 %r5, %r2, 255;\nmov.b32 %r6, {a};\nbfe.{kind} %r3, %r6, %r4, %r5;");
    each_lane(&text, &input)
}

#[test]
fn bits_are_extracted() {
    let places = [(4, 8), (24, 8), (28, 8), (0, 32), (0, 40), (32, 4), (7, 0), (31, 1)];
    let unsigned = extracted("u32", 0xF234_5678, &places);
    assert_eq!(unsigned, [0x67, 0xF2, 0xF, 0xF234_5678, 0xF234_5678, 0, 0, 1]);
    let signed = extracted("s32", 0xF234_56E8, &places);
    let minus = u32::MAX;
    assert_eq!(signed, [0x6E, 0xFFFF_FFF2, minus, 0xF234_56E8, 0xF234_56E8, minus, 0, minus]);
}

/// Bytes 0 to 3 are those of the first operand, 4 to 7 of the second; bit 3 of a choice spreads the byte's sign.
#[test]
fn bytes_are_chosen() {
    let chosen = |selector: u32| {
        each_lane(&format!("mov.b32 %r4, 0x44C32211;\nprmt.b32 %r3, %r4, %r2, {selector};"), &[0x8877_6655])[0]
    };
    assert_eq!(chosen(0x3210), 0x44C3_2211);
    assert_eq!(chosen(0x7654), 0x8877_6655);
    assert_eq!(chosen(0x0527), 0x1166_C388);
    assert_eq!(chosen(0x8FA3), 0x00FF_FF44);
}

#[test]
fn two_registers_are_shifted_as_one() {
    let shifted = |kind: &str, by: u32| {
        each_lane(&format!("mov.b32 %r4, 0x89ABCDEF;\nshf.{kind}.b32 %r3, %r4, %r2, {by};"), &[0x0123_4567])[0]
    };
    assert_eq!(shifted("l.wrap", 8), 0x2345_6789);
    assert_eq!(shifted("r.wrap", 8), 0x6789_ABCD);
    assert_eq!([shifted("l.wrap", 40), shifted("r.wrap", 40)], [0x2345_6789, 0x6789_ABCD]);
    assert_eq!([shifted("l.clamp", 40), shifted("r.clamp", 40)], [0x89AB_CDEF, 0x0123_4567]);
    assert_eq!([shifted("l.wrap", 0), shifted("r.wrap", 0)], [0x0123_4567, 0x89AB_CDEF]);
}

#[test]
fn shifts_by_the_width_or_more() {
    let shifted = |kind: &str| each_lane(&format!("{kind} %r3, %r2, 32;"), &[0x8000_0001])[0];
    assert_eq!(["shl.b32", "shr.u32", "shr.s32", "shr.b32"].map(shifted), [0, 0, u32::MAX, 0]);
}

#[test]
fn products_and_quotients_of_each_kind() {
    let of = |name: &str, a: i32, b: i32| each_lane(&format!("{name} %r3, %r2, {b};"), &[a as u32])[0] as i32;
    assert_eq!(of("mul.lo.s32", 70_000, 70_000), 605_032_704);
    assert_eq!(of("mul.hi.u32", -1, -1), -2);
    assert_eq!(of("mul.hi.s32", -1, -1), 0);
    assert_eq!([of("div.s32", -7, 2), of("rem.s32", -7, 2)], [-3, -1]);
    assert_eq!([of("div.u32", -7, 2), of("rem.u32", -7, 2)], [0x7fff_fffc, 1]);
    assert_eq!([of("div.u32", 7, 0), of("rem.u32", 7, 0)], [-1, 7]);
    assert_eq!([of("max.s32", -7, 2), of("max.u32", -7, 2), of("min.s32", -7, 2)], [2, -7, -7]);
    let wide = |kind: &str| {
        let text = format!("mul.wide.{kind} %rd6, %r2, %r2;\nshr.u64 %rd6, %rd6, 32;\ncvt.u32.u64 %r3, %rd6;");
        each_lane(&text, &[u32::MAX])[0]
    };
    assert_eq!(["u32", "s32"].map(wide), [u32::MAX - 1, 0]);
}

/// A register may hold more than the instruction's type says.
#[test]
fn narrow_types_pass_over_what_lies_above() {
    let text = "mov.b32 {%h1, %h2}, %r2;
        add.s16 %h3, %h1, %h2;
        cvt.s32.s16 %r4, %h3;
        cvt.u32.u16 %r5, %h3;
        cvt.u16.u32 %h4, %r2;
        mul.wide.s16 %r6, %h4, %h2;
        sub.s32 %r3, %r4, %r5;
        add.s32 %r3, %r3, %r6;";
    // -2 + 1 in 16 bits: -1 signed, 65535 unsigned; -2 * 1
    assert_eq!(each_lane(text, &[0x0001_FFFE])[0] as i32, -1 - 65535 - 2);
}
