//! Every kind of rounding, and what is not a number.

use crate::device::each_lane;

fn of_floats(statements: &str, input: &[f32]) -> Vec<u32> {
    each_lane(statements, &input.iter().map(|value| value.to_bits()).collect::<Vec<_>>())
}

fn floats(words: Vec<u32>) -> Vec<f32> {
    words.into_iter().map(f32::from_bits).collect()
}

/// tf32 keeps 10 bits of the fraction; ties go away from zero, and a NaN with all bits set stays one.
#[test]
fn tf32_ties_go_away_from_zero() {
    let unit = 2f32.powi(-10);
    let input = [1.0, 1.0 + 0.5 * unit, 1.0 + 0.499 * unit, 1.0 + 1.5 * unit, -1.0 - 0.5 * unit, f32::INFINITY, 0.0];
    let found = floats(of_floats("cvt.rna.tf32.f32 %r3, %r2;", &input));
    assert_eq!(found, [1.0, 1.0 + unit, 1.0, 1.0 + 2.0 * unit, -1.0 - unit, f32::INFINITY, 0.0]);
    assert!(f32::from_bits(each_lane("cvt.rna.tf32.f32 %r3, %r2;", &[u32::MAX])[0]).is_nan());
}

/// bf16 keeps 7 bits of the fraction; ties go to even.
#[test]
fn bf16_ties_go_to_even() {
    let unit = 2f32.powi(-7);
    let input = [
        1.0 + 0.5 * unit,
        1.0 + 1.5 * unit,
        1.0 + 0.501 * unit,
        -1.0 - 0.5 * unit,
        2.0 - 0.25 * unit,
        f32::MAX,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::from_bits(0xffff_ffff),
        f32::from_bits(0x0000_8001),
    ];
    let found = of_floats("cvt.rn.bf16.f32 %h1, %r2;\ncvt.u32.u16 %r3, %h1;", &input);
    assert_eq!(found, [0x3f80, 0x3f82, 0x3f81, 0xbf80, 0x4000, 0x7f80, 0xff80, 0x7fff, 0x7fff, 1]);
    let back = each_lane("mov.b32 {%h1, _}, %r2;\ncvt.f32.bf16 %r3, %h1;", &[0x3f82, 0xff80, 0xdead_0001]);
    assert_eq!(back, [0x3f82_0000, 0xff80_0000, 0x0001_0000]);
}

/// f16 has 5 bits of exponent: below 2^-14 units of 2^-24, from 65520 on infinity.
#[test]
fn f16_subnormals_and_overflow() {
    let least = 2f32.powi(-24);
    let cases = [
        (1.0, 0x3c00),
        (-2.5, 0xc100),
        (1.0 + 2f32.powi(-11), 0x3c00),
        (1.0 + 3.0 * 2f32.powi(-11), 0x3c02),
        (2.0 - 2f32.powi(-12), 0x4000),
        (2f32.powi(-14), 0x0400),
        (2f32.powi(-14) - least, 0x03ff),
        (2f32.powi(-14) - 0.25 * least, 0x0400),
        (3.0 * least, 3),
        (1.5 * least, 2),
        (0.5 * least, 0),
        (0.501 * least, 1),
        (-0.0, 0x8000),
        (65504.0, 0x7bff),
        (65519.9, 0x7bff),
        (65520.0, 0x7c00),
        (f32::NEG_INFINITY, 0xfc00),
        (f32::NAN, 0x7fff),
        (f32::from_bits(1), 0),
    ];
    let found = of_floats("cvt.rn.f16.f32 %h1, %r2;\ncvt.u32.u16 %r3, %h1;", &cases.map(|(value, _)| value));
    assert_eq!(found, cases.map(|(_, bits)| bits));
    let bits = [0x0001, 0x03ff, 0x0400, 0x7bff, 0xc100, 0xfc00, 0x8000];
    let found = floats(each_lane("mov.b32 {%h1, _}, %r2;\ncvt.f32.f16 %r3, %h1;", &bits));
    assert_eq!(found[..6], [least, 1023.0 * least, 1024.0 * least, 65504.0, -2.5, f32::NEG_INFINITY]);
    assert_eq!(found[6].to_bits(), 0x8000_0000);
    // every number of 16 bits comes back
    for bits in 0..=u16::MAX {
        let value = cuda::f16(bits);
        assert!(value.is_nan() || cuda::f16_bits(value) == bits, "{bits:#x}");
    }
}

/// The first operand is the upper half.
#[test]
fn two_halves_go_into_one_register() {
    for (kind, one, two) in [("bf16x2", 0x3f80, 0x4000), ("f16x2", 0x3c00, 0x4000)] {
        let packed = of_floats(&format!("cvt.rn.{kind}.f32 %r3, 0f40000000, %r2;"), &[1.0])[0];
        assert_eq!(packed, two << 16 | one, "{kind}");
        let sum = each_lane(&format!("add.{kind} %r3, %r2, %r2;"), &[packed])[0];
        assert_eq!(sum, (two + (two - one)) << 16 | two, "{kind}");
    }
}

/// 1 + 2^-30 and 1 - 2^-30 lie between neighbours; 1 + 2^-60 and 1 - 2^-60 do in f64 too.
#[test]
fn products_and_sums_round_in_each_direction() {
    let (above, below) = (1f32.next_up(), 1f32.next_down());
    for little in [2f32.powi(-30), 2f32.powi(-60)] {
        let of = |mode: &str, c: f32| {
            let text = format!("fma.{mode}.f32 %r3, %r2, 0f{:08X}, 0f{:08X};", little.to_bits(), c.to_bits());
            floats(of_floats(&text, &[1.0, -1.0]))
        };
        assert_eq!(of("rn", 1.0), [1.0, 1.0]);
        assert_eq!(of("rm", 1.0), [1.0, below]);
        assert_eq!(of("rp", 1.0), [above, 1.0]);
        assert_eq!(of("rz", 1.0), [1.0, below]);
        assert_eq!(of("rm", -1.0), [-1.0, -above]);
        assert_eq!(of("rp", -1.0), [-below, -1.0]);
        assert_eq!(of("rz", -1.0), [-below, -1.0]);
    }
    // a fused product is rounded once: (1 + u)^2 - (1 + 2u) is u^2
    let unit = 2f32.powi(-23);
    let text = format!("fma.rn.f32 %r3, %r2, %r2, 0f{:08X};", (-1.0 - 2.0 * unit).to_bits());
    assert_eq!(floats(of_floats(&text, &[1.0 + unit])), [unit * unit]);
}

#[test]
fn whole_numbers_in_each_direction() {
    let input = [2.5, 3.5, -2.5, -0.7, 0.5];
    let of = |mode: &str| floats(of_floats(&format!("cvt.{mode}.f32.f32 %r3, %r2;"), &input));
    assert_eq!(of("rni"), [2.0, 4.0, -2.0, -1.0, 0.0]);
    assert_eq!(of("rzi"), [2.0, 3.0, -2.0, 0.0, 0.0]);
    assert_eq!(of("rmi"), [2.0, 3.0, -3.0, -1.0, 0.0]);
    assert_eq!(of("rpi"), [3.0, 4.0, -2.0, 0.0, 1.0]);
}

/// Beyond the range the ends of it; a NaN is 0, of 64 bits the topmost bit.
#[test]
fn integers_of_floats_stay_in_range() {
    let input = [-1.9, 1e10, -1e10, f32::NAN];
    assert_eq!(of_floats("cvt.rzi.s32.f32 %r3, %r2;", &input), [u32::MAX, i32::MAX as u32, i32::MIN as u32, 0]);
    assert_eq!(of_floats("cvt.rzi.u32.f32 %r3, %r2;", &input), [0, u32::MAX, 0, 0]);
    let upper = "cvt.rzi.s64.f32 %rd6, %r2;\nmov.b64 {_, %r3}, %rd6;";
    assert_eq!(of_floats(upper, &input), [u32::MAX, 2, -3i32 as u32, 0x8000_0000]);
    let rounded = floats(each_lane("cvt.rn.f32.u32 %r3, %r2;", &[16_777_217, 16_777_219, u32::MAX]));
    assert_eq!(rounded, [16_777_216.0, 16_777_220.0, 4_294_967_296.0]);
    assert_eq!(floats(each_lane("cvt.rn.f32.s32 %r3, %r2;", &[u32::MAX])), [-1.0]);
}

#[test]
fn the_larger_and_the_smaller_know_zeros_and_nans() {
    let of = |name: &str, a: f32, b: f32| of_floats(&format!("{name} %r3, %r2, 0f{:08X};", b.to_bits()), &[a])[0];
    let (plus, minus) = (0f32.to_bits(), (-0f32).to_bits());
    assert_eq!([of("max.f32", 0.0, -0.0), of("max.f32", -0.0, 0.0)], [plus; 2]);
    assert_eq!([of("min.f32", 0.0, -0.0), of("min.f32", -0.0, 0.0)], [minus; 2]);
    for name in ["max", "min"] {
        let number = [(f32::NAN, 3.0), (3.0, f32::NAN)].map(|(a, b)| of(&format!("{name}.f32"), a, b));
        assert_eq!(number, [3f32.to_bits(); 2], "{name}");
        let nan = [(f32::NAN, 3.0), (3.0, f32::NAN)].map(|(a, b)| of(&format!("{name}.NaN.f32"), a, b));
        assert!(nan.iter().all(|bits| f32::from_bits(*bits).is_nan()), "{name}.NaN");
    }
    assert_eq!([of("max.f32", 2.0, 3.0), of("min.f32", 2.0, 3.0)], [3f32.to_bits(), 2f32.to_bits()]);
}

#[test]
fn saturation_and_flushing() {
    let saturated = of_floats("cvt.sat.f32.f32 %r3, %r2;", &[-1.0, 0.25, 7.0, f32::NAN]);
    assert_eq!(saturated, [0.0f32, 0.25, 1.0, 0.0].map(f32::to_bits));
    // 2^-130 is subnormal: 2^19 times the least one
    let small = f32::from_bits(1 << 19);
    assert_eq!(floats(of_floats("ex2.approx.ftz.f32 %r3, %r2;", &[-130.0, 3.0])), [0.0, 8.0]);
    assert_eq!(floats(of_floats("ex2.approx.f32 %r3, %r2;", &[-130.0, 3.0])), [small, 8.0]);
}
