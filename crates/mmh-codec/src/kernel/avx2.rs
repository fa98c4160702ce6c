//! The plain loops, compiled for AVX2.

#![allow(
    unsafe_code,
    reason = "functions for CPUs with AVX2 are called where one was found"
)]

use super::{Bases, Kernels, Keys, Parts, Seen, portable};
use crate::cluster::{Histogram, Prices};
use crate::entropy::Avx2;

/// The same function as in [`portable`], and one that calls it.
macro_rules! compiled {
    ($($name:ident($($argument:ident: $kind:ty),*) $(-> $result:ty)?;)*) => {
        $(
            fn $name($($argument: $kind),*) $(-> $result)? {
                #[target_feature(enable = "avx2,popcnt")]
                fn compiled($($argument: $kind),*) $(-> $result)? {
                    portable::$name($($argument),*)
                }
                // SAFETY: only `Kernels::avx2` hands this out, for an `Avx2`, which is only made
                // where its instructions were found.
                unsafe { compiled($($argument),*) }
            }
        )*
        impl Kernels {
            /// The loops for a CPU that has what [`Avx2`] needs, of which one is the proof.
            pub(crate) const fn avx2(_: Avx2) -> Self {
                Self {
                    $($name,)*
                    ..Self::PORTABLE
                }
            }
        }
    };
}

compiled! {
    count(symbols: &[u8]) -> Histogram;
    assign(segments: &[Histogram], prices: &Prices, ids: &mut [u8]);
    split_bf16(raw: &[[u8; 2]], keys: &Keys, bases: Bases, parts: Parts<'_>) -> Seen;
    split_f16(raw: &[[u8; 2]], keys: &Keys, bases: Bases, parts: Parts<'_>) -> Seen;
    split_f32(raw: &[[u8; 4]], keys: &Keys, bases: Bases, parts: Parts<'_>) -> Seen;
    pack_bytes(values: &[u8], shift: u32, width: u32, out: &mut Vec<u8>);
    pack_words(values: &[u16], shift: u32, width: u32, out: &mut Vec<u8>);
}
