//! The plain loops of encoders, compiled for AVX2, and those of decoders written for it.

#![allow(
    unsafe_code,
    reason = "functions for CPUs with AVX2 are called where one was found"
)]

use super::bins::{Bins, BitSink, Bits, Codes};
use super::dense::{Coded, Interleave, Kept, Near, PER_SCALE};
use super::join::{Fields, Packed};
use super::{
    Bases, Expected, Kernels, Keys, Parts, RANK, Seen, bins_avx2, dense, expect, join_avx2, moves,
    portable, vectors,
};
use crate::cluster::{Histogram, Prices};
use crate::entropy::Avx2;
use crate::error::Result;
use crate::layout::{Field, block};
use crate::mix::{self, Setup};
use crate::plane::grouped::put;
use crate::plane::grouped::units::{self, Apart, Extremes, Source};

/// The reading of mixed frames, with the search of AVX2.
mod mixed {
    use super::{Result, Setup, mix};

    #[inline(always)]
    pub(super) fn read_numbers(
        setup: Setup,
        content: &[u8],
        numbers: &mut [u16],
        width: u32,
    ) -> Result<()> {
        mix::read_numbers::<mix::Avx2>(setup, content, numbers, width)
    }
}

/// Functions like those in a module, compiled for AVX2, and ones that call them.
macro_rules! compiled {
    ($($module:ident::$name:ident($($argument:ident: $kind:ty),*) $(-> $result:ty)?;)*) => {
        $(
            fn $name($($argument: $kind),*) $(-> $result)? {
                #[target_feature(enable = "avx2,bmi2,popcnt")]
                fn compiled($($argument: $kind),*) $(-> $result)? {
                    $module::$name($($argument),*)
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
    portable::count(symbols: &[u8]) -> Histogram;
    portable::assign(segments: &[Histogram], prices: &Prices, ids: &mut [u8]);
    portable::split_bf16(raw: &[[u8; 2]], keys: &Keys, bases: Bases, parts: Parts<'_>) -> Seen;
    portable::split_f16(raw: &[[u8; 2]], keys: &Keys, bases: Bases, parts: Parts<'_>) -> Seen;
    portable::split_f32(raw: &[[u8; 4]], keys: &Keys, bases: Bases, parts: Parts<'_>) -> Seen;
    portable::pack_bytes(values: &[u8], shift: u32, width: u32, out: &mut Vec<u8>);
    portable::pack_words(values: &[u16], shift: u32, width: u32, out: &mut Vec<u8>);
    join_avx2::unpack_bytes(packed: &[u8], how: Packed, bytes: &mut [u8]);
    join_avx2::unpack_words(packed: &[u8], how: Packed, words: &mut [u16]);
    join_avx2::join_bf16(fields: Fields<'_>, raw: &mut [[u8; 2]]);
    join_avx2::join_f16(fields: Fields<'_>, raw: &mut [[u8; 2]]);
    join_avx2::join_f32(fields: Fields<'_>, raw: &mut [[u8; 4]]);
    bins_avx2::refine(bins: &Bins, details: &mut [Bits<'_>; 2], symbols: &mut [u8], bytes: &mut [u8]);
    bins_avx2::coarsen(codes: &Codes, symbols: &mut [u8], bytes: &mut [u8], details: &mut [BitSink; 2]);
    expect::expect_words(base: &[[u8; 2]], expected: &Expected<'_>, classes: &mut [u8], shifts: &mut [u8]);
    expect::expect_doubles(base: &[[u8; 4]], expected: &Expected<'_>, classes: &mut [u8], shifts: &mut [u8]);
    moves::move_words(numbers: &mut [[u8; 2]], symbols: &[u8], shifts: &[u8], fields: &[u8], at: usize) -> usize;
    moves::move_doubles(numbers: &mut [[u8; 4]], symbols: &[u8], shifts: &[u8], fields: &[u8], at: usize) -> usize;
    units::restore(source: Source<'_>, starts: &[u32], extremes: Apart<'_>, unit: usize, values: &mut [u8]);
    block::split_field(field: &Field, raw: &[u8], block_len: usize, values: &mut [u8]);
    put::take_extremes(values: &[u8], unit: usize, centre: u8) -> (Extremes, Vec<u8>);
    join_avx2::join_field(field: &Field, values: &[u8], raw: &mut [u8], block_len: usize);
    dense::contexts(near: Near<'_>, known: &mut [u8]);
    dense::classes(map: &[[u8; PER_SCALE]], of: (&[u8], &[u8]), out: &mut [u8]);
    dense::keep(coded: Coded<'_>, kept: Kept<'_>) -> u8;
    dense::keep_signed(coded: Coded<'_>, kept: Kept<'_>) -> u8;
    dense::interleave(how: &Interleave, taps: &[&[u8]], out: &mut [u8]);
    vectors::products(row: &[i16], vectors: &[i16], out: &mut [i32; RANK]);
    vectors::add_rows(rows: [&[i16]; 2], parts: [&[i16; RANK]; 2], sums: &mut [i32]);
    vectors::incline(parts: &[i16], columns: &[i16], sums: &mut [i16]);
    vectors::sum_updates(differences: &[i32], exponents: &[i32], least: i32) -> u64;
    vectors::relate_updates(differences: &[i32], exponents: &[i32], size: i32, entries: &mut [i16]);
    moves::decay(numbers: &mut [[u8; 4]], factor: f32, steps: u16);
    mix::put_numbers(setup: Setup, numbers: &[u16], out: &mut Vec<u8>);
    mixed::read_numbers(setup: Setup, content: &[u8], numbers: &mut [u16], width: u32) -> Result<()>;
}
