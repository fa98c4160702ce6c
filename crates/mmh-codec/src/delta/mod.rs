//! Floats as differences from a base: an older version of the same tensor.
//!
//! The base first *predicts*: as it is, or after the multiplications that an optimiser's decay
//! does to weights without gradient. What remains is the difference of the numbers' places among
//! all numbers in order (a sign-magnitude integer taken as two's complement), whose magnitude
//! falls into half octaves. An update has about one size in a row, while a number's step doubles
//! with its exponent; so size of the row less exponent of the base tells how large a difference
//! to expect, and is the class that its symbol is coded in. FORMAT.md, "Deltas".

mod bits;
mod encode;
mod magnitude;
mod number;
mod replay;
mod rows;

#[cfg(test)]
mod tests;

pub(crate) use encode::put_delta;

use crate::entropy::{Alphabet, CLASSES_MAX};
use crate::error::{Error, Result, corrupt};
use crate::input::Input;
use crate::layout::{FloatFormat, Layout};
use crate::plane::{PlaneDecoder, read_blob, read_in_context};
use bits::BitReader;
use magnitude::Magnitudes;
use number::Number;
use replay::Replay;
use rows::Rows;

/// Fills `raw` from a body and a base of the same length.
pub(crate) fn read_delta(
    decoder: &mut PlaneDecoder<'_>,
    body: &[u8],
    base: &[u8],
    raw: &mut [u8],
) -> Result<()> {
    if base.len() != raw.len() {
        return corrupt("the base has another length");
    }
    let mut input = Input::new(body);
    let code = input.u8()?;
    match Layout::from_code(code)? {
        Layout::Float(FloatFormat::Bf16) => read::<number::Bf16>(decoder, &mut input, base, raw),
        Layout::Float(FloatFormat::F16) => read::<number::F16>(decoder, &mut input, base, raw),
        Layout::Float(FloatFormat::F32) => read::<number::F32>(decoder, &mut input, base, raw),
        _ => Err(Error::UnknownCode {
            what: "layout of a delta",
            code,
        }),
    }
}

fn read<N: Number>(
    decoder: &mut PlaneDecoder<'_>,
    input: &mut Input<'_>,
    base: &[u8],
    raw: &mut [u8],
) -> Result<()> {
    let n = raw.len() / N::LEN;
    let (units, tail) = raw.split_at_mut(n * N::LEN);
    tail.copy_from_slice(input.take(tail.len())?);
    let replay = Replay::read(input)?;
    let kernels = &decoder.engine.kernels();
    units.copy_from_slice(&base[..units.len()]);
    N::predict(units, replay, kernels);
    let magnitudes = Magnitudes::read(input, N::BITS)?;
    let rows = Rows::read(input)?;
    let values = read_blob(input, rows.count(n), decoder.unpacker)?;
    let first = i32::from(i16::from_le_bytes([input.u8()?, input.u8()?]));
    let Shape { merged, signed } = Shape::read(input)?;
    let changed = || rows.ranges(n).zip(&values).filter(|&(_, &value)| value > 0);
    let mut classes = vec![0; changed().map(|(range, _)| range.len()).sum()];
    let mut rest = &mut classes[..];
    for (range, &value) in changed() {
        let (now, later) = rest.split_at_mut(range.len());
        rest = later;
        let row = &base[range.start * N::LEN..range.end * N::LEN];
        N::classes(row, first + i32::from(value), merged, now);
    }
    let mut symbols = vec![0; classes.len()];
    if !classes.is_empty() {
        let coded = &mut Input::new(input.sized()?);
        read_in_context(
            decoder.engine,
            coded,
            Alphabet::ThirtyTwo,
            &classes,
            &mut symbols,
        )?;
        coded.expect_end()?;
    }
    let mut bits = BitReader::new(input.take_rest());
    let mut symbols = &symbols[..];
    let moves = magnitudes.moves(signed);
    for (range, _) in changed() {
        let (now, later) = symbols.split_at(range.len());
        symbols = later;
        let row = &mut units[range.start * N::LEN..range.end * N::LEN];
        N::apply(row, now, &moves, &mut bits, kernels);
    }
    bits.finish()
}

/// How differences are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    /// How often the number of classes was halved, at most 5 times.
    merged: u8,
    /// Whether differences have signs; else none is negative.
    signed: bool,
}

impl Shape {
    const UNSIGNED: u8 = 8;

    fn put(self, out: &mut Vec<u8>) {
        out.push(self.merged | if self.signed { 0 } else { Self::UNSIGNED });
    }

    fn read(input: &mut Input<'_>) -> Result<Self> {
        let code = input.u8()?;
        let (merged, signed) = (code & !Self::UNSIGNED, code & Self::UNSIGNED == 0);
        if merged > 5 {
            return corrupt("a delta merges more classes than there are");
        }
        Ok(Self { merged, signed })
    }
}

/// Classes of symbols before neighbours are merged.
const CLASSES: i32 = 32;
const _: () = assert!(CLASSES_MAX == 32);
