//! Casts between floating-point types, element by element, by way of binary32.

use mmh_core::Dtype;

use crate::error::{Error, Result};
use crate::float::{BF16, F8_E4M3, F8_E5M2, F16, F32, Format, Nan, NanRule, narrow, widen};

/// A cast from one type to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cast {
    from: Dtype,
    to: Dtype,
    nan: NanRule,
    saturate: bool,
}

impl Cast {
    /// The types that are cast.
    pub const TYPES: [Dtype; 5] = [
        Dtype::F32,
        Dtype::F16,
        Dtype::BF16,
        Dtype::F8_E4M3,
        Dtype::F8_E5M2,
    ];

    /// A cast. With `saturate`, what lies beyond the largest number of a narrower type becomes
    /// that number; else infinity, or NaN in E4M3.
    ///
    /// # Errors
    /// [`Error::Parameter`] for types that are none of [`TYPES`](Self::TYPES), and if both are
    /// the same.
    pub fn new(from: Dtype, to: Dtype, nan: NanRule, saturate: bool) -> Result<Self> {
        for (name, dtype) in [("from", from), ("to", to)] {
            if !Self::TYPES.contains(&dtype) {
                return Err(Error::parameter(name, format!("{dtype} is not cast")));
            }
        }
        if from == to {
            return Err(Error::parameter("to", format!("the input is {to} already")));
        }
        Ok(Self {
            from,
            to,
            nan,
            saturate,
        })
    }

    /// Bytes of one element, before and after.
    #[must_use]
    pub fn element_bytes(&self) -> (usize, usize) {
        (self.from.block().1 as usize, self.to.block().1 as usize)
    }

    /// Casts whole elements.
    ///
    /// # Errors
    /// [`Error::Length`] if input and output do not have equally many.
    pub fn run(&self, input: &[u8], out: &mut [u8]) -> Result<()> {
        let (before, after) = self.element_bytes();
        let n = input.len() / before;
        if input.len() != n * before {
            return Err(Error::length("input", input.len(), n * before));
        }
        if out.len() != n * after {
            return Err(Error::length("output", out.len(), n * after));
        }
        dispatch(*self, input, out);
        Ok(())
    }

    #[inline(always)]
    fn all(self, input: &[u8], out: &mut [u8]) {
        match self.from {
            Dtype::F32 => self.starting_at::<Wide>(input, out),
            Dtype::F16 => self.starting_at::<Half>(input, out),
            Dtype::BF16 => self.starting_at::<Brain>(input, out),
            Dtype::F8_E4M3 => self.starting_at::<E4M3>(input, out),
            _ => self.starting_at::<E5M2>(input, out),
        }
    }

    #[inline(always)]
    fn starting_at<T: Element>(self, input: &[u8], out: &mut [u8]) {
        match self.to {
            Dtype::F32 => self.ending_at::<T, Wide>(input, out),
            Dtype::F16 => self.ending_at::<T, Half>(input, out),
            Dtype::BF16 => self.ending_at::<T, Brain>(input, out),
            Dtype::F8_E4M3 => self.ending_at::<T, E4M3>(input, out),
            _ => self.ending_at::<T, E5M2>(input, out),
        }
    }

    #[inline(always)]
    fn ending_at<T: Element, U: Element>(self, input: &[u8], out: &mut [u8]) {
        // A NaN on its way through binary32 is left as it is; the rule is for what comes out.
        let inner = if U::FORMAT.mantissa() == 23 {
            self.nan
        } else {
            NanRule::Raw
        };
        let (inner, outer) = (Nan::new(inner, F32), Nan::new(self.nan, U::FORMAT));
        let each = input.chunks_exact(T::LEN).zip(out.chunks_exact_mut(U::LEN));
        for (from, to) in each {
            let wide = T::get(from);
            let wide = if T::LEN == 4 {
                wide
            } else {
                widen(wide, T::FORMAT, inner)
            };
            let code = if U::LEN == 4 {
                wide
            } else {
                narrow(wide, U::FORMAT, outer, self.saturate)
            };
            U::put(code, to);
        }
    }
}

/// How an element lies in memory.
trait Element {
    const FORMAT: Format;
    const LEN: usize;
    fn get(from: &[u8]) -> u32;
    fn put(code: u32, to: &mut [u8]);
}

macro_rules! elements {
    ($($name:ident, $format:ident, $int:ty;)*) => { $(
        struct $name;
        impl Element for $name {
            const FORMAT: Format = $format;
            const LEN: usize = size_of::<$int>();
            #[inline(always)]
            #[allow(clippy::cast_lossless, reason = "also for u32")]
            fn get(from: &[u8]) -> u32 {
                let mut bytes = [0; size_of::<$int>()];
                bytes.copy_from_slice(from);
                <$int>::from_le_bytes(bytes) as u32
            }
            #[inline(always)]
            #[allow(clippy::cast_possible_truncation, reason = "codes have as many bits")]
            fn put(code: u32, to: &mut [u8]) {
                to.copy_from_slice(&(code as $int).to_le_bytes());
            }
        }
    )* };
}

elements! {
    Wide, F32, u32;
    Half, F16, u16;
    Brain, BF16, u16;
    E4M3, F8_E4M3, u8;
    E5M2, F8_E5M2, u8;
}

#[cfg(target_arch = "x86_64")]
#[allow(
    unsafe_code,
    reason = "calls a function whose instructions were found at run time"
)]
fn dispatch(cast: Cast, input: &[u8], out: &mut [u8]) {
    #[target_feature(enable = "avx2")]
    fn inner(cast: Cast, input: &[u8], out: &mut [u8]) {
        cast.all(input, out);
    }
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the instructions are there.
        unsafe { inner(cast, input, out) }
    } else {
        cast.all(input, out);
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn dispatch(cast: Cast, input: &[u8], out: &mut [u8]) {
    cast.all(input, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every code of every type through every cast: what the scalar functions say, also at the
    /// ends of vectors.
    #[test]
    fn all_codes_of_all_casts_are_those_of_one_element() {
        for from in Cast::TYPES {
            let len = from.block().1 as usize;
            let codes: Vec<u8> = (0..=u16::MAX)
                .flat_map(|code| match len {
                    4 => ((u32::from(code) << 16) | (0x7fff + (u32::from(code) & 1)))
                        .to_le_bytes()
                        .to_vec(),
                    2 => code.to_le_bytes().to_vec(),
                    _ => code.to_le_bytes()[..1].to_vec(),
                })
                .take((4099 << 4) * len)
                .collect();
            for to in Cast::TYPES.into_iter().filter(|&to| to != from) {
                for (nan, saturate) in NanRule::ALL
                    .into_iter()
                    .zip([false, true, false, true, false])
                {
                    let cast = Cast::new(from, to, nan, saturate).unwrap();
                    let (before, after) = cast.element_bytes();
                    let mut out = vec![0; codes.len() / before * after];
                    cast.run(&codes, &mut out).unwrap();
                    let mut one = vec![0; after];
                    for (x, y) in codes.chunks(before).zip(out.chunks(after)).step_by(11) {
                        cast.all(x, &mut one);
                        assert_eq!(y, one, "{from} to {to} of {x:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn casts_have_known_values() {
        let cast = |from, to, x: &[u8]| {
            let cast = Cast::new(from, to, NanRule::Keep, false).unwrap();
            let mut out = vec![0; cast.element_bytes().1];
            cast.run(x, &mut out).unwrap();
            out
        };
        let one = 1f32.to_le_bytes();
        assert_eq!(cast(Dtype::F32, Dtype::BF16, &one), 0x3f80u16.to_le_bytes());
        assert_eq!(cast(Dtype::F32, Dtype::F16, &one), 0x3c00u16.to_le_bytes());
        assert_eq!(cast(Dtype::F32, Dtype::F8_E4M3, &one), [0x38]);
        assert_eq!(cast(Dtype::F32, Dtype::F8_E5M2, &one), [0x3c]);
        assert_eq!(
            cast(Dtype::BF16, Dtype::F16, &0x3f80u16.to_le_bytes()),
            0x3c00u16.to_le_bytes()
        );
        assert_eq!(
            cast(Dtype::F8_E4M3, Dtype::F32, &[0x7e]),
            448f32.to_le_bytes()
        );
    }

    #[test]
    fn other_types_and_lengths_are_refused() {
        assert!(Cast::new(Dtype::I8, Dtype::F32, NanRule::Keep, false).is_err());
        assert!(Cast::new(Dtype::F32, Dtype::Q4_0, NanRule::Keep, false).is_err());
        assert!(Cast::new(Dtype::F32, Dtype::F32, NanRule::Keep, false).is_err());
        let cast = Cast::new(Dtype::F32, Dtype::BF16, NanRule::Keep, false).unwrap();
        assert!(cast.run(&[0; 7], &mut [0; 4]).is_err());
        assert!(cast.run(&[0; 8], &mut [0; 2]).is_err());
        cast.run(&[], &mut []).unwrap();
    }
}
