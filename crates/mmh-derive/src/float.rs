//! Narrow floating-point formats, bit by bit: what each code means and what a binary32 becomes.
//!
//! Rounding is to nearest, to even at a tie, subnormals included; nothing is flushed to zero.
//! binary16: IEEE 754. bfloat16: the high half of binary32. FP8: OCP 8-bit floating point
//! specification 1.0 (E5M2 has infinities, E4M3 has none and one NaN of either sign).

use crate::error::{Error, Result};

/// What a NaN becomes. Programs differ, so a recipe names the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NanRule {
    /// Sign and the high bits of the payload, made quiet: x86 and ARM instructions, llama.cpp's BF16.
    Keep,
    /// Sign and the high bits of the payload, quiet or not; 1 if those are 0: NumPy.
    Raw,
    /// Sign and the quiet bit alone: `ml_dtypes`, llama.cpp's F16.
    Canonical,
    /// The quiet bit alone, without a sign.
    Positive,
    /// All bits set: torch's vector code for BF16.
    Ones,
}

impl NanRule {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Keep,
        Self::Raw,
        Self::Canonical,
        Self::Positive,
        Self::Ones,
    ];

    /// The name in recipes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Raw => "raw",
            Self::Canonical => "canonical",
            Self::Positive => "positive",
            Self::Ones => "ones",
        }
    }

    /// Finds a rule by its name.
    ///
    /// # Errors
    /// [`Error::Parameter`] for other texts.
    pub fn parse(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|rule| rule.as_str() == text);
        found.ok_or_else(|| {
            Error::parameter("nan", "must be keep, raw, canonical, positive or ones")
        })
    }
}

/// A format: one sign bit, then exponent, then mantissa.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Format {
    mantissa_bits: u32,
    bias: u32,
    /// The code that follows the largest number: infinity, or NaN if there is no infinity.
    infinity: u32,
    /// Without infinities: all codes but one are numbers.
    finite_only: bool,
    sign: u32,
}

/// binary32 itself, as which it is only a target of widening.
pub(crate) const F32: Format = Format::new(8, 23, false);
/// IEEE 754 binary16.
pub(crate) const F16: Format = Format::new(5, 10, false);
/// bfloat16.
pub(crate) const BF16: Format = Format::new(8, 7, false);
/// OCP E5M2.
pub(crate) const F8_E5M2: Format = Format::new(5, 2, false);
/// OCP E4M3, which has no infinities.
pub(crate) const F8_E4M3: Format = Format::new(4, 3, true);

impl Format {
    const fn new(exponent_bits: u32, mantissa_bits: u32, finite_only: bool) -> Self {
        let codes = 1 << (exponent_bits + mantissa_bits);
        Self {
            mantissa_bits,
            bias: (1 << (exponent_bits - 1)) - 1,
            infinity: if finite_only {
                codes - 1
            } else {
                codes - (1 << mantissa_bits)
            },
            finite_only,
            sign: codes,
        }
    }

    /// Bits of the mantissa.
    pub(crate) const fn mantissa(self) -> u32 {
        self.mantissa_bits
    }

    /// How many bits of a binary32's mantissa lie beyond this one's.
    const fn shift(self) -> u32 {
        23 - self.mantissa_bits
    }
}

/// A [`NanRule`] for one format, as three masks: what is kept of the sign and of the payload, and
/// what is set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nan {
    sign: u32,
    payload: u32,
    set: u32,
    /// Set if no bit of the mantissa is.
    fill: u32,
}

impl Nan {
    pub(crate) const fn new(rule: NanRule, format: Format) -> Self {
        let mantissa = (1 << format.mantissa_bits) - 1;
        let quiet = format.infinity | (1 << (format.mantissa_bits - 1));
        let quiet = if format.finite_only {
            format.infinity
        } else {
            quiet
        };
        let (sign, payload, set, fill) = match rule {
            NanRule::Keep => (format.sign, mantissa, quiet, 0),
            NanRule::Raw => (format.sign, mantissa, format.infinity, 1),
            NanRule::Canonical => (format.sign, 0, quiet, 0),
            NanRule::Positive => (0, 0, quiet, 0),
            NanRule::Ones => (0, 0, format.sign | (format.sign - 1), 0),
        };
        Self {
            sign,
            payload,
            set,
            fill,
        }
    }

    /// The code for a NaN with this sign bit (at its place) and this payload (cut to fit).
    #[inline(always)]
    const fn code(self, sign: u32, payload: u32, mantissa: u32) -> u32 {
        let code = (sign & self.sign) | (payload & self.payload) | self.set;
        let fill = if code & mantissa == 0 { self.fill } else { 0 };
        code | fill
    }
}

/// The code for a binary32. What lies beyond the largest number becomes infinity (NaN without a
/// payload if there is none), or the largest number if `saturate`; so does infinity.
#[inline(always)]
pub(crate) const fn narrow(x: u32, to: Format, nan: Nan, saturate: bool) -> u32 {
    let shift = to.shift();
    let magnitude = x & 0x7fff_ffff;
    let sign = (x >> 31) * to.sign;
    let half = (1 << (shift - 1)) - 1 + (magnitude >> shift & 1);
    let rebias = (127 - to.bias) << to.mantissa_bits;
    let rounded = ((magnitude + half) >> shift).wrapping_sub(rebias);
    // Below the normal numbers: adding a number whose last bit is the smallest subnormal rounds.
    let least = (127 - to.bias + 1) << 23;
    let ruler = (1 + 127 - to.bias + shift) << 23;
    let small = f32::from_bits(magnitude) + f32::from_bits(ruler);
    let code = if magnitude < least && to.bias < 127 {
        small.to_bits() - ruler
    } else {
        rounded
    };
    let top = if saturate {
        to.infinity - 1
    } else {
        to.infinity
    };
    let code = if code > top || magnitude >= 0x7f80_0000 {
        top
    } else {
        code
    };
    if magnitude > 0x7f80_0000 {
        let payload = (magnitude & 0x007f_ffff) >> shift;
        nan.code(sign, payload, (1 << to.mantissa_bits) - 1)
    } else {
        sign | code
    }
}

/// The binary32 that a code means; every number has one.
#[inline(always)]
pub(crate) const fn widen(code: u32, from: Format, nan: Nan) -> u32 {
    let shift = from.shift();
    let magnitude = code & (from.sign - 1);
    let sign = ((code / from.sign) & 1) << 31;
    let is_nan = magnitude > from.infinity || (from.finite_only && magnitude == from.infinity);
    if is_nan {
        let mantissa = (1 << from.mantissa_bits) - 1;
        let payload = if from.finite_only {
            0
        } else {
            (magnitude & mantissa) << shift
        };
        return nan.code(sign, payload, 0x007f_ffff);
    }
    if magnitude == from.infinity {
        return sign | 0x7f80_0000;
    }
    // A power of two; the product is exact.
    let scale = f32::from_bits((254 - from.bias) << 23);
    let value = if from.bias == 127 {
        magnitude << shift
    } else {
        (f32::from_bits(magnitude << shift) * scale).to_bits()
    };
    sign | value
}

/// The F16 next to a number; NaN as llama.cpp has it.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "codes have 16 bits")]
pub(crate) const fn half_from(x: f32) -> u16 {
    const NAN: Nan = Nan::new(NanRule::Canonical, F16);
    narrow(x.to_bits(), F16, NAN, false) as u16
}

/// The number that an F16 means.
#[inline(always)]
pub(crate) const fn from_half(code: u16) -> f32 {
    const NAN: Nan = Nan::new(NanRule::Keep, F32);
    f32::from_bits(widen(code as u32, F16, NAN))
}

/// Whether all numbers are finite.
pub(crate) fn all_finite(x: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    x.iter()
        .fold(true, |all, x| all & (x.to_bits() & EXPONENT != EXPONENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANONICAL: Nan = Nan::new(NanRule::Canonical, F32);

    fn formats() -> [(Format, u32); 4] {
        [(F16, 16), (BF16, 16), (F8_E5M2, 8), (F8_E4M3, 8)]
    }

    /// The value of a code, by the definition: sign · 2^(e - bias) · 1.m, or 2^(1 - bias) · 0.m.
    fn value(code: u32, format: Format) -> f64 {
        let magnitude = code & (format.sign - 1);
        let mantissa = f64::from(magnitude & ((1 << format.mantissa_bits) - 1));
        let fraction = mantissa / f64::from(1u32 << format.mantissa_bits);
        let exponent = i32::try_from(magnitude >> format.mantissa_bits).unwrap();
        let bias = i32::try_from(format.bias).unwrap();
        let size = match exponent {
            0 => fraction * 2f64.powi(1 - bias),
            _ => (1.0 + fraction) * 2f64.powi(exponent - bias),
        };
        if code & format.sign == 0 { size } else { -size }
    }

    #[test]
    fn every_code_widens_to_its_value_and_narrows_back() {
        for (format, bits) in formats() {
            let nan = Nan::new(NanRule::Canonical, format);
            for code in 0..1u32 << bits {
                let wide = widen(code, format, CANONICAL);
                let magnitude = code & (format.sign - 1);
                if magnitude < format.infinity {
                    assert_eq!(
                        f64::from(f32::from_bits(wide)),
                        value(code, format),
                        "{code:#x}"
                    );
                    assert_eq!(narrow(wide, format, nan, false), code);
                    assert_eq!(narrow(wide, format, nan, true), code);
                } else if magnitude == format.infinity && !format.finite_only {
                    assert_eq!(wide & 0x7fff_ffff, 0x7f80_0000);
                    assert_eq!(narrow(wide, format, nan, false), code);
                } else {
                    assert!(f32::from_bits(wide).is_nan());
                }
            }
        }
    }

    /// Between two neighbours: below the middle down, above it up, at it to the even code.
    #[test]
    fn numbers_between_two_codes_go_to_the_nearer_and_to_even_at_a_tie() {
        for (format, _) in formats() {
            let nan = Nan::new(NanRule::Canonical, format);
            for code in (0..format.infinity - 1).step_by(7) {
                let middle = f64::midpoint(value(code, format), value(code + 1, format));
                #[allow(clippy::cast_possible_truncation, reason = "exact for these formats")]
                let middle = middle as f32;
                if format.mantissa_bits == 7 && code < 128 {
                    continue; // Middles of BF16's subnormals are binary32's, tested below.
                }
                let at = |x: f32| narrow(x.to_bits(), format, nan, false);
                assert_eq!(at(middle), code + (code & 1), "{code:#x}");
                assert_eq!(at(f32::from_bits(middle.to_bits() - 1)), code);
                assert_eq!(at(f32::from_bits(middle.to_bits() + 1)), code + 1);
                assert_eq!(at(-middle), format.sign | (code + (code & 1)));
            }
        }
    }

    /// `vcvtneps2bf16` gives 0 here, torch and NumPy's `ml_dtypes` give 1.
    #[test]
    fn subnormals_are_not_flushed() {
        let nan = Nan::new(NanRule::Canonical, BF16);
        assert_eq!(narrow(0x0001_16c2, BF16, nan, false), 1);
        assert_eq!(narrow(0x8000_8001, BF16, nan, false), 0x8001);
        assert_eq!(narrow(0x0000_8000, BF16, nan, false), 0);
        assert_eq!(narrow(0x0001_8000, BF16, nan, false), 2);
        assert_eq!(half_from(2f32.powi(-25)), 0);
        assert_eq!(half_from(2f32.powi(-25) * 1.0001), 1);
        assert_eq!(from_half(1), 2f32.powi(-24));
    }

    #[test]
    fn beyond_the_largest_number_lies_infinity_or_the_largest_number() {
        for (format, largest, tie) in [(F16, 65504.0, 65520.0), (F8_E5M2, 57344.0, 61440.0)] {
            let nan = Nan::new(NanRule::Canonical, format);
            let at = |x: f32, saturate| narrow(x.to_bits(), format, nan, saturate);
            assert_eq!(at(largest, false), format.infinity - 1);
            assert_eq!(at(tie, false), format.infinity);
            assert_eq!(at(tie, true), format.infinity - 1);
            assert_eq!(at(f32::INFINITY, true), format.infinity - 1);
            assert_eq!(at(f32::NEG_INFINITY, false), format.sign | format.infinity);
        }
        let nan = Nan::new(NanRule::Canonical, F8_E4M3);
        let at = |x: f32, saturate| narrow(x.to_bits(), F8_E4M3, nan, saturate);
        assert_eq!(
            [at(448.0, false), at(464.0, false), at(464.1, false)],
            [0x7e, 0x7e, 0x7f]
        );
        assert_eq!([at(1e30, true), at(-1e30, false)], [0x7e, 0xff]);
        assert_eq!(
            [at(f32::INFINITY, false), at(f32::INFINITY, true)],
            [0x7f, 0x7e]
        );
        let nan = Nan::new(NanRule::Canonical, BF16);
        assert_eq!(narrow(f32::MAX.to_bits(), BF16, nan, false), 0x7f80);
        assert_eq!(narrow(f32::MAX.to_bits(), BF16, nan, true), 0x7f7f);
    }

    #[test]
    fn each_rule_makes_its_nan() {
        let signalling = 0xff81_2345;
        let low = 0x7f80_0001;
        let at = |rule, format, x| narrow(x, format, Nan::new(rule, format), false);
        let bf16 = NanRule::ALL.map(|rule| at(rule, BF16, signalling));
        assert_eq!(bf16, [0xffc1, 0xff81, 0xffc0, 0x7fc0, 0xffff]);
        let f16 = NanRule::ALL.map(|rule| at(rule, F16, low));
        assert_eq!(f16, [0x7e00, 0x7c01, 0x7e00, 0x7e00, 0xffff]);
        let e4m3 = NanRule::ALL.map(|rule| at(rule, F8_E4M3, signalling));
        assert_eq!(e4m3, [0xff, 0xff, 0xff, 0x7f, 0xff]);
        let wide = |rule| widen(0xfc01, F16, Nan::new(rule, F32));
        let wide = NanRule::ALL.map(wide);
        assert_eq!(
            wide,
            [
                0xffc0_2000,
                0xff80_2000,
                0xffc0_0000,
                0x7fc0_0000,
                0xffff_ffff
            ]
        );
        for rule in NanRule::ALL {
            assert_eq!(NanRule::parse(rule.as_str()).unwrap(), rule);
        }
        assert!(NanRule::parse("quiet").is_err());
    }

    #[test]
    fn infinity_and_nan_are_not_finite() {
        assert!(all_finite(&[0.0, -0.0, f32::MAX, 1e-45]));
        assert!(!all_finite(&[0.0, f32::INFINITY]));
        assert!(!all_finite(&[f32::NAN, 0.0]));
    }
}
