//! Which products are added without being rounded: what compilers call floating-point contraction.
//!
//! C lets a compiler fuse `a * b + c` into one instruction that rounds once, where the machine has
//! it (64-bit ARM always, x86-64 when it is built for it). So the same source of llama.cpp makes
//! different files, and a recipe says which. The names are those of the option `-ffp-contract`. Its
//! third value, `fast`, lets GCC fuse what it finds after optimising: other products at each level
//! of optimisation, so that there is nothing to define.

use std::fmt;
use std::str::FromStr;

use super::lanes::{Lanes, MAGIC, unmagic};
use crate::error::{Error, Result};

/// Which products are fused with an addition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Contraction {
    /// None: llama.cpp on x86-64, as it is built since the end of 2024.
    #[default]
    Off,
    /// Those within one expression of the source: Clang where there is a fused instruction, such
    /// as llama.cpp on Apple's and other 64-bit ARM machines.
    On,
}

impl Contraction {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Off, Self::On];

    /// The name in recipes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
        }
    }
}

impl fmt::Display for Contraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Contraction {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|c| c.as_str() == text);
        found.ok_or_else(|| Error::parameter("contraction", "must be off or on"))
    }
}

/// A [`Contraction`] that the compiler knows, so that kernels are made once for each.
pub(super) trait Contract {
    /// Products within an expression are fused.
    const WITHIN: bool;
}

/// [`Contraction::Off`].
pub(super) struct Off;
/// [`Contraction::On`].
pub(super) struct On;

impl Contract for Off {
    const WITHIN: bool = false;
}
impl Contract for On {
    const WITHIN: bool = true;
}

/// `a * b + c` of one expression.
#[inline(always)]
pub(super) fn within<C: Contract, V: Lanes>(a: V, b: V, c: V) -> V {
    if C::WITHIN {
        a.mul_add(b, c)
    } else {
        a.mul(b).add(c)
    }
}

/// `a * b` rounded to an integer (to even at a tie) and limited to a range.
#[inline(always)]
pub(super) fn nearest<V: Lanes>(a: V, b: V, low: i32, high: i32) -> V {
    a.mul(b).add(V::splat(MAGIC)).unmagic(low, high)
}

/// `a * b` rounded to an integer (to even at a tie).
#[inline(always)]
pub(super) fn nearest_one(a: f32, b: f32) -> i32 {
    unmagic(a * b + MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A product whose last bits matter: fused, it is not 0.
    #[test]
    fn only_what_is_fused_keeps_the_low_bits_of_the_product() {
        let x = 1.0 + f32::EPSILON;
        let c = -(x * x);
        assert_eq!(within::<Off, f32>(x, x, c), 0.0);
        assert_ne!(within::<On, f32>(x, x, c), 0.0);
    }

    #[test]
    fn rounding_goes_to_even_and_wraps_beyond_22_bits() {
        for (x, want) in [(0.5, 0), (1.5, 2), (-0.5, 0), (-1.5, -2), (2.4999, 2)] {
            assert_eq!(nearest_one(x, 1.0), want, "{x}");
        }
        assert_eq!(nearest_one(f32::INFINITY, 1.0), -0x0040_0000);
        assert_eq!(nearest_one(4_194_304.0, 1.0), -0x0040_0000);
        assert_eq!(nearest::<f32>(9.0, 1.0, -4, 3), 3.0);
    }

    #[test]
    fn names_parse_back_and_others_are_refused() {
        for contraction in Contraction::ALL {
            assert_eq!(
                contraction.to_string().parse::<Contraction>().unwrap(),
                contraction
            );
        }
        assert!("fast".parse::<Contraction>().is_err());
    }
}
