//! Casts beside their definition: of all codes of the narrow type, the nearest; the even one of
//! two that are equally near.

use mmh_core::Dtype;
use mmh_derive::{Cast, NanRule};
use proptest::prelude::*;

fn run(from: Dtype, to: Dtype, saturate: bool, bytes: &[u8]) -> Vec<u8> {
    let cast = Cast::new(from, to, NanRule::Canonical, saturate).unwrap();
    let (before, after) = cast.element_bytes();
    let mut out = vec![0; bytes.len() / before * after];
    cast.run(bytes, &mut out).unwrap();
    out
}

fn f32_of(from: Dtype, code: u32) -> f32 {
    let len = from.block().1 as usize;
    let bytes = run(from, Dtype::F32, false, &code.to_le_bytes()[..len]);
    f32::from_le_bytes(bytes.try_into().unwrap())
}

fn code_of(to: Dtype, x: f32, saturate: bool) -> u32 {
    let mut bytes = run(Dtype::F32, to, saturate, &x.to_le_bytes());
    bytes.resize(4, 0);
    u32::from_le_bytes(bytes.try_into().unwrap())
}

/// A narrow type: the number of its positive finite codes, and where the sign stands.
const NARROW: [(Dtype, u32, u32); 4] = [
    (Dtype::F16, 0x7c00, 0x8000),
    (Dtype::BF16, 0x7f80, 0x8000),
    (Dtype::F8_E4M3, 0x7f, 0x80),
    (Dtype::F8_E5M2, 0x7c, 0x80),
];

/// The nearest code, found by halving; what lies beyond the last by half a step or more is past it.
fn nearest(to: Dtype, finite: u32, x: f32) -> u32 {
    let size = f64::from(x.abs());
    let value = |code: u32| f64::from(f32_of(to, code));
    let (mut low, mut high) = (0, finite);
    while high - low > 1 {
        let middle = u32::midpoint(low, high);
        if value(middle) <= size {
            low = middle;
        } else {
            high = middle;
        }
    }
    let next = if high == finite {
        2.0 * value(finite - 1) - value(finite - 2)
    } else {
        value(high)
    };
    let (below, above) = (size - value(low), next - size);
    if below < above || (below == above && low.is_multiple_of(2)) {
        low
    } else {
        high
    }
}

proptest! {
    #[test]
    fn a_cast_takes_the_nearest_code(bits: u32, exponent in 90u32..140, near: bool) {
        // Half of them in the range that FP8 and F16 have.
        let bits = if near { bits & 0x807f_ffff | exponent << 23 } else { bits };
        let x = f32::from_bits(bits);
        prop_assume!(x.is_finite());
        for (to, finite, sign) in NARROW {
            let sign = if x.is_sign_negative() { sign } else { 0 };
            let code = nearest(to, finite, x);
            prop_assert_eq!(code_of(to, x, false), sign | code, "{} to {}", x, to);
            let most = code.min(finite - 1);
            prop_assert_eq!(code_of(to, x, true), sign | most, "{} to {}, at most", x, to);
        }
    }

    /// From one narrow type to another: by way of F32, which has all numbers of both.
    #[test]
    fn a_cast_between_narrow_types_is_two_casts(codes in prop::collection::vec(any::<u16>(), 40)) {
        let bytes: Vec<u8> = codes.iter().flat_map(|code| code.to_le_bytes()).collect();
        for (from, _, _) in NARROW {
            for (to, _, _) in NARROW.into_iter().filter(|(to, ..)| *to != from) {
                let direct = run(from, to, false, &bytes);
                let wide = run(from, Dtype::F32, false, &bytes);
                let twice = run(Dtype::F32, to, false, &wide);
                prop_assert_eq!(direct, twice, "{} to {}", from, to);
            }
        }
    }
}

/// Numbers of torch 2 and ml_dtypes (research/codec.md, §5) for which programs are often wrong.
#[test]
fn known_numbers_have_their_codes() {
    for (to, x, code) in [
        (Dtype::BF16, f32::from_bits(0x0001_16c2), 1),
        (Dtype::BF16, f32::from_bits(0x3f80_8000), 0x3f80),
        (Dtype::BF16, f32::from_bits(0x3f81_8000), 0x3f82),
        (Dtype::F16, 65_519.996, 0x7bff),
        (Dtype::F16, 65_520.0, 0x7c00),
        (Dtype::F16, 5.960_464_5e-8, 1),
        (Dtype::F16, 2.980_232_2e-8, 0),
        (Dtype::F8_E4M3, 0.001_953_125, 1),
        (Dtype::F8_E4M3, 0.000_976_562_5, 0),
        (Dtype::F8_E4M3, 464.0, 0x7e),
        (Dtype::F8_E5M2, 57_344.0, 0x7b),
        (Dtype::F8_E5M2, -0.0, 0x80),
    ] {
        assert_eq!(code_of(to, x, false), code, "{x} to {to}");
    }
}
