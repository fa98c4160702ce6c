//! The loops of decoders: packed fields to values, and fields to numbers.

use crate::bits::{packed_len, unpack};
use crate::entropy::SYMBOLS_MAX;

/// The value of each symbol of the plane `exponent`.
pub(crate) type Values = [u16; SYMBOLS_MAX];

/// What the symbol of a number says of its exponent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Meaning<'a> {
    /// Each stands for a value.
    Values(&'a Values),
    /// Each is a code of a dense plane.
    Above(Above),
}

/// A code: how far an exponent is above the base and, if `signed`, a sign as the top bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Above {
    pub(crate) base: u16,
    /// The bits of an exponent. What exceeds them is cut off.
    pub(crate) mask: u16,
    pub(crate) signed: bool,
}

impl Above {
    /// The exponent, and the top bit of 16 where there is a sign.
    #[inline(always)]
    pub(crate) fn of(self, code: u8) -> (u16, u16) {
        let size = if self.signed { 0x7f } else { 0xff };
        let code = u16::from(code);
        let exponent = self.base.wrapping_add(code & size) & self.mask;
        (exponent, (code & !size) << 8)
    }
}

/// The fields of numbers, each for as many as are joined; those that a format does not have are not
/// looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    pub(crate) symbols: &'a [u8],
    pub(crate) meaning: Meaning<'a>,
    pub(crate) bytes: &'a [u8],
    pub(crate) words: &'a [u16],
    /// The low halves of binary32, as numbers have them.
    pub(crate) pairs: &'a [[u8; 2]],
}

/// How values were packed, see [`crate::bits::unpack`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Packed {
    /// Bits that all values have.
    pub(crate) base: u16,
    /// Zeros below.
    pub(crate) shift: u32,
    /// Bits of each, at most 16.
    pub(crate) width: u32,
}

/// Unpacks values of at most 8 bits. `packed` may have more bytes than they take.
pub(super) fn unpack_bytes(packed: &[u8], how: Packed, bytes: &mut [u8]) {
    let mut values = [0; 64];
    let mut packed = packed;
    for bytes in bytes.chunks_mut(64) {
        let len = packed_len(bytes.len(), how.width);
        let (now, rest) = packed.split_at(len);
        packed = rest;
        let values = &mut values[..bytes.len()];
        unpack(now, how.shift, how.width, how.base, values);
        for (byte, value) in bytes.iter_mut().zip(values) {
            *byte = value.to_le_bytes()[0];
        }
    }
}

/// Unpacks values of at most 16 bits. `packed` may have more bytes than they take.
pub(super) fn unpack_words(packed: &[u8], how: Packed, words: &mut [u16]) {
    let packed = &packed[..packed_len(words.len(), how.width)];
    unpack(packed, how.shift, how.width, how.base, words);
}

/// The upper 16 bits of a number: exponent and top mantissa bit, sign, six further bits.
#[inline(always)]
fn upper(exponent: u16, byte: u8) -> u16 {
    let byte = u16::from(byte);
    exponent << 6 | byte & 0x3f | (byte & 0x40) << 9
}

/// An exponent for each symbol, and a sign if the symbol has one.
macro_rules! with_exponents {
    ($meaning:expr, $exponent:ident => $work:expr) => {
        match $meaning {
            Meaning::Values(values) => {
                let $exponent = |symbol: u8| (values[usize::from(symbol & 31)], 0);
                $work
            }
            Meaning::Above(above) => {
                let $exponent = |code: u8| above.of(code);
                $work
            }
        }
    };
}

/// Joins numbers of bfloat16.
#[inline(always)]
pub(super) fn join_bf16(fields: Fields<'_>, raw: &mut [[u8; 2]]) {
    with_exponents!(fields.meaning, exponent => {
        let fields = fields.symbols.iter().zip(fields.bytes);
        for (raw, (&symbol, &byte)) in raw.iter_mut().zip(fields) {
            let (exponent, sign) = exponent(symbol);
            *raw = (upper(exponent, byte) | sign).to_le_bytes();
        }
    });
}

/// Joins numbers of binary16.
#[inline(always)]
pub(super) fn join_f16(fields: Fields<'_>, raw: &mut [[u8; 2]]) {
    with_exponents!(fields.meaning, exponent => {
        let fields = fields.symbols.iter().zip(fields.words);
        for (raw, (&symbol, &word)) in raw.iter_mut().zip(fields) {
            let (exponent, sign) = exponent(symbol);
            let lower = word & 0x1ff | (word & 0x200) << 6;
            *raw = (exponent << 9 | lower | sign).to_le_bytes();
        }
    });
}

/// Joins numbers of binary32.
#[inline(always)]
pub(super) fn join_f32(fields: Fields<'_>, raw: &mut [[u8; 4]]) {
    with_exponents!(fields.meaning, exponent => {
        let fields = fields.symbols.iter().zip(fields.bytes).zip(fields.pairs);
        for (raw, ((&symbol, &byte), &[a, b])) in raw.iter_mut().zip(fields) {
            let (exponent, sign) = exponent(symbol);
            let [c, d] = (upper(exponent, byte) | sign).to_le_bytes();
            *raw = [a, b, c, d];
        }
    });
}
