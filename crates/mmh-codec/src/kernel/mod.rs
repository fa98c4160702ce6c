//! Loops over all values that encoders spend their time in: written plainly here, and with
//! vectors where an engine has them. Every form gives the same results.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod bins;
#[cfg(target_arch = "x86_64")]
mod bins_avx2;
#[cfg(target_arch = "x86_64")]
mod bins_avx512;
pub(crate) mod dense;
#[cfg(target_arch = "x86_64")]
mod dense_avx512;
mod expect;
#[cfg(target_arch = "x86_64")]
mod expect_avx512;
mod join;
#[cfg(target_arch = "x86_64")]
mod join_avx2;
#[cfg(target_arch = "x86_64")]
mod join_avx512;
mod moves;
#[cfg(target_arch = "x86_64")]
mod moves_avx512;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon;
#[cfg(any(
    target_arch = "x86_64",
    all(target_arch = "aarch64", target_endian = "little")
))]
mod places;
mod portable;
mod vectors;
#[cfg(target_arch = "x86_64")]
mod xxh3_avx512;

use crate::cluster::{Histogram, Prices};
use crate::entropy::DecodeSet;
use crate::error::Result;
use crate::layout::{JoinField, SplitField, block};
use crate::mix::{self, PutNumbers, ReadNumbers};
use crate::plane::grouped::put::{self, TakeExtremes};
use crate::plane::grouped::units::{self, Apart, Source};
pub(crate) use bins::{Bins, BitSink, Bits, CODES, Codes, FIRST, LOWER, SECOND};
use dense::{Coded, Interleave, Kept, Near, PER_SCALE};
pub(crate) use expect::{COLUMNS_REACH, Expected, NEGATIVE};
pub(crate) use join::{Above, Fields, Meaning, Packed, Values};
pub(crate) use moves::{BEYOND, MAGNITUDES, UNEXPECTED, field};
pub(crate) use vectors::{RANK, STEPS_REACH};

/// The symbol of each value of the plane `exponent`; [`RARE`] for a value without one.
pub(crate) type Keys = [u8; 512];
/// Stands for a value without a symbol.
pub(crate) const RARE: u8 = 255;

/// Set, classes of groups, block; values of symbols; packed mantissas; a buffer; the numbers.
pub(crate) type DecodeHalves =
    fn((&DecodeSet, &[u8], &[u8]), &Values, &[u8], &mut Vec<u8>, &mut [[u8; 2]]) -> Result<()>;

/// What symbols mean; details; symbols, which become codes; mantissas, which get a bit.
pub(crate) type Refine = fn(&Bins, &mut [Bits<'_>; 2], &mut [u8], &mut [u8]);

/// The symbols of codes; codes, which become symbols; mantissas, which lose a bit; details.
pub(crate) type Coarsen = fn(&Codes, &mut [u8], &mut [u8], &mut [BitSink; 2]);

/// Numbers of the base, what is known of their row; their classes and shifts.
pub(crate) type Expect<const LEN: usize> = fn(&[[u8; LEN]], &Expected<'_>, &mut [u8], &mut [u8]);

/// Two rows, their parts in [`RANK`] vectors; sums of these.
pub(crate) type AddRows = fn([&[i16]; 2], [&[i16; RANK]; 2], &mut [i32]);

/// Numbers, their symbols and shifts; fields, and the bit that they begin at. Gives the bit that
/// they end at.
pub(crate) type MoveNumbers<const LEN: usize> =
    fn(&mut [[u8; LEN]], &[u8], &[u8], &[u8], usize) -> usize;

/// [`units::restore`], as the machine does it best.
pub(crate) type RestoreUnits = fn(Source<'_>, &[u32], Apart<'_>, usize, &mut [u8]);

/// Rows of a map; scales, and what else is known of values; their classes.
pub(crate) type ClassesOf = fn(&[[u8; PER_SCALE]], (&[u8], &[u8]), &mut [u8]);

/// A set of loops.
#[derive(Debug, Clone, Copy)]
pub struct Kernels {
    /// Counts symbols below 32, at most 2^14 of them.
    pub(crate) count: fn(&[u8]) -> Histogram,
    /// The first of the cheapest classes for each histogram.
    pub(crate) assign: fn(&[Histogram], &Prices, &mut [u8]),
    /// Splits numbers of bfloat16.
    pub(crate) split_bf16: fn(&[[u8; 2]], &Keys, Bases, Parts<'_>) -> Seen,
    /// Splits numbers of binary16.
    pub(crate) split_f16: fn(&[[u8; 2]], &Keys, Bases, Parts<'_>) -> Seen,
    /// Splits numbers of binary32.
    pub(crate) split_f32: fn(&[[u8; 4]], &Keys, Bases, Parts<'_>) -> Seen,
    /// Packs bytes like [`crate::bits::pack`].
    pub(crate) pack_bytes: fn(&[u8], u32, u32, &mut Vec<u8>),
    /// Packs words like [`crate::bits::pack`].
    pub(crate) pack_words: fn(&[u16], u32, u32, &mut Vec<u8>),
    /// Unpacks values of at most 8 bits.
    pub(crate) unpack_bytes: fn(&[u8], Packed, &mut [u8]),
    /// Unpacks values of at most 16 bits.
    pub(crate) unpack_words: fn(&[u8], Packed, &mut [u16]),
    /// Decodes a block and joins it with mantissas of 7 bits at once; the buffer takes some symbols.
    pub(crate) decode_bf16: Option<DecodeHalves>,
    /// The same with the mantissas of 10 bits of binary16.
    pub(crate) decode_f16: Option<DecodeHalves>,
    /// Joins symbols and mantissas to numbers of bfloat16.
    pub(crate) join_bf16: fn(Fields<'_>, &mut [[u8; 2]]),
    /// Joins symbols and mantissas to numbers of binary16.
    pub(crate) join_f16: fn(Fields<'_>, &mut [[u8; 2]]),
    /// Joins symbols, mantissas and low halves to numbers of binary32.
    pub(crate) join_f32: fn(Fields<'_>, &mut [[u8; 4]]),
    /// Makes codes of symbols that stand for bins, and mantissas of 7 bits.
    pub(crate) refine: Refine,
    /// Makes such symbols of codes, and mantissas of 6 bits.
    pub(crate) coarsen: Coarsen,
    /// Classes and shifts of numbers of 16 bits.
    pub(crate) expect_words: Expect<2>,
    /// Classes and shifts of numbers of 32 bits.
    pub(crate) expect_doubles: Expect<4>,
    /// Moves numbers of 16 bits by differences.
    pub(crate) move_words: MoveNumbers<2>,
    /// Moves numbers of 32 bits by differences.
    pub(crate) move_doubles: MoveNumbers<4>,
    /// Products of a row with [`RANK`] vectors.
    pub(crate) products: fn(&[i16], &[i16], &mut [i32; RANK]),
    /// Adds two rows to sums of [`RANK`] vectors.
    pub(crate) add_rows: AddRows,
    /// Adds the products of parts and columns to inclinations.
    pub(crate) incline: fn(&[i16], &[i16], &mut [i16]),
    /// Sums the differences of a row.
    pub(crate) sum_updates: fn(&[i32], &[i32], i32) -> u64,
    /// Differences relative to the usual one.
    pub(crate) relate_updates: fn(&[i32], &[i32], i32, &mut [i16]),
    /// Multiplies numbers of binary32 by a factor, as often as is said.
    pub(crate) decay: fn(&mut [[u8; 4]], f32, u16),
    /// Puts the values of units in their order.
    pub(crate) restore: RestoreUnits,
    /// Takes the values of a field from blocks.
    pub(crate) split_field: SplitField,
    /// Takes the extremes of units.
    pub(crate) take_extremes: TakeExtremes,
    /// Writes the values of a field into blocks.
    pub(crate) join_field: JoinField,
    /// What is known of dense values by their neighbours.
    pub(crate) contexts: fn(Near<'_>, &mut [u8]),
    /// The classes of dense values, by a map, their scales and what is known of them.
    pub(crate) classes: ClassesOf,
    /// Makes codes of the symbols of dense values; gives the highest.
    pub(crate) keep: fn(Coded<'_>, Kept<'_>) -> u8,
    /// The same in kernels, where there are signs.
    pub(crate) keep_signed: fn(Coded<'_>, Kept<'_>) -> u8,
    /// Brings the codes of taps into the order of numbers.
    pub(crate) interleave: fn(&Interleave, &[&[u8]], &mut [u8]),
    /// XXH3 (64 bits, no seed).
    pub(crate) xxh3: fn(&[u8]) -> u64,
    /// Appends the choices of mixed frames.
    pub(crate) put_numbers: PutNumbers,
    /// Reads the choices of mixed frames.
    pub(crate) read_numbers: ReadNumbers,
}

impl Kernels {
    /// The loops that every machine has.
    pub(crate) const PORTABLE: Self = Self {
        count: portable::count,
        assign: portable::assign,
        split_bf16: portable::split_bf16,
        split_f16: portable::split_f16,
        split_f32: portable::split_f32,
        pack_bytes: portable::pack_bytes,
        pack_words: portable::pack_words,
        unpack_bytes: join::unpack_bytes,
        unpack_words: join::unpack_words,
        decode_bf16: None,
        decode_f16: None,
        join_bf16: join::join_bf16,
        join_f16: join::join_f16,
        join_f32: join::join_f32,
        refine: bins::refine,
        coarsen: bins::coarsen,
        expect_words: expect::expect_words,
        expect_doubles: expect::expect_doubles,
        move_words: moves::move_words,
        move_doubles: moves::move_doubles,
        products: vectors::products,
        add_rows: vectors::add_rows,
        incline: vectors::incline,
        sum_updates: vectors::sum_updates,
        relate_updates: vectors::relate_updates,
        decay: moves::decay,
        restore: units::restore,
        split_field: block::split_field,
        take_extremes: put::take_extremes,
        join_field: block::join_field,
        contexts: dense::contexts,
        classes: dense::classes,
        keep: dense::keep,
        keep_signed: dense::keep_signed,
        interleave: dense::interleave,
        xxh3: twox_hash::XxHash3_64::oneshot,
        put_numbers: mix::put_numbers,
        read_numbers: mix::read_numbers::<mix::Portable>,
    };
}

/// Where the fields of numbers go, each as long as there are numbers. Of bfloat16 the mantissa is
/// bytes, of binary16 it is words, of binary32 it is bytes and the low plane is words.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) symbols: &'a mut [u8],
    pub(crate) bytes: &'a mut [u8],
    pub(crate) words: &'a mut [u16],
}

/// The bits that most values have in common, of bytes and of words.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bases {
    pub(crate) bytes: u8,
    pub(crate) words: u16,
}

/// What numbers had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Whether a value has no symbol.
    pub(crate) rare: bool,
    /// Bits in which a byte differs from its base.
    pub(crate) bytes: u8,
    /// Bits in which a word differs from its base.
    pub(crate) words: u16,
}

#[cfg(test)]
pub(crate) mod tests;
