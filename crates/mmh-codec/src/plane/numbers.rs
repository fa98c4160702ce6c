//! Floats read block by block: symbols, mantissas and low halves meet in the cache and become
//! numbers at once. Planes in forms that are rare in floats are read whole before.

use std::ops::Range;

use super::packed::PackedPlane;
use super::ranked::read_values;
use super::rans::{CodedSymbols, alphabet_of};
use super::segments::{BLOCK_LEN, blocks, n_blocks};
use super::{Coder, PlaneDecoder};
use crate::entropy::{Engine, SYMBOLS_MAX};
use crate::error::{Result, corrupt};
use crate::input::Input;
use crate::kernel::{DecodeHalves, Fields, Kernels, Values};
use crate::layout::FloatFormat;

/// Numbers that are joined at once: their fields stay in the first cache.
const STRIP: usize = 4096;

/// The planes of whole numbers, their blocks not decoded yet.
#[derive(Debug)]
pub(crate) struct Numbers<'a> {
    format: FloatFormat,
    /// Whether the sign is the top bit of the first plane.
    signed: bool,
    n: usize,
    exponents: Exponents<'a>,
    /// The planes below, from the mantissa on.
    sides: Vec<Side<'a>>,
}

/// The first plane.
#[derive(Debug)]
enum Exponents<'a> {
    Ranked(Ranks<'a>),
    Values(Vec<u16>),
}

/// A first plane of symbols and exceptions.
#[derive(Debug)]
struct Ranks<'a> {
    /// How many symbols have a value.
    n_values: usize,
    values: Values,
    symbols: CodedSymbols<'a>,
    /// Whether a symbol could have no value.
    may_exceed: bool,
    exceptions: Vec<(usize, u16)>,
}

/// A plane beside that of the exponents.
#[derive(Debug)]
enum Side<'a> {
    Constant(u16),
    Packed(PackedPlane<'a>),
    Values(Vec<u16>),
}

/// What decoding keeps from one block to the next.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    pub(super) grouped: super::grouped::Scratch,
    symbols: Vec<u8>,
    bytes: Vec<u8>,
    words: Vec<u16>,
    /// A strip of each plane.
    planes: Vec<Vec<u16>>,
    pub(super) dense: super::dense::Buffers,
}

impl<'a> Numbers<'a> {
    /// Reads everything but the blocks of `n` numbers; `signed` if their signs are the top bits of
    /// the first plane. A plane in a form that is rare here is read as a whole.
    pub(crate) fn read(
        decoder: &mut PlaneDecoder<'_>,
        input: &mut Input<'a>,
        (format, signed): (FloatFormat, bool),
        n: usize,
    ) -> Result<Self> {
        let widths: Vec<u32> = if signed {
            format.signed_planes().map(|(_, width)| width).collect()
        } else {
            format.planes().map(|(_, width)| width).collect()
        };
        let exponents = Exponents::read(decoder, input, (n, widths[0]))?;
        let mut sides = Vec::with_capacity(widths.len() - 1);
        for &width in &widths[1..] {
            sides.push(Side::read(decoder, input, (n, width))?);
        }
        Ok(Self {
            format,
            signed,
            n,
            exponents,
            sides,
        })
    }

    /// How many blocks there are.
    pub(crate) fn n_blocks(&self) -> usize {
        n_blocks(self.n)
    }

    /// The blocks that have these numbers; at least one.
    pub(crate) fn blocks_of(&self, numbers: Range<usize>) -> Range<usize> {
        let last = self.n_blocks() - 1;
        let first = (numbers.start / BLOCK_LEN).min(last);
        let end = numbers.end.div_ceil(BLOCK_LEN).clamp(first + 1, last + 1);
        first..end
    }

    /// The numbers that block `i` has.
    pub(crate) fn range(&self, i: usize) -> Range<usize> {
        blocks(self.n).nth(i).unwrap_or(self.n..self.n)
    }

    /// Decodes block `i` into `raw`, which has room for its numbers.
    pub(crate) fn block(
        &self,
        engine: &dyn Engine,
        buffers: &mut Buffers,
        i: usize,
        raw: &mut [u8],
    ) -> Result<()> {
        let range = self.range(i);
        let Exponents::Ranked(ranks) = &self.exponents else {
            return self.strips(&engine.kernels(), buffers, range, raw);
        };
        let fused = !self.signed && self.format != FloatFormat::F64;
        if fused && let Some((decode, packed)) = self.plain(&engine.kernels(), ranks, range.start) {
            let numbers = raw.as_chunks_mut().0;
            let block = ranks.symbols.parts(i, range.clone());
            decode(block, &ranks.values, packed, &mut buffers.symbols, numbers)?;
        } else {
            let symbols = &mut buffers.symbols;
            symbols.resize(range.len(), 0);
            ranks.block(engine, i, range.clone(), symbols)?;
            if fused {
                self.join(&engine.kernels(), buffers, range.start, raw);
            } else {
                self.strips(&engine.kernels(), buffers, range.clone(), raw)?;
            }
        }
        self.replace(&ranks.exceptions, range, raw);
        Ok(())
    }

    /// The loop that decodes and joins at once, and the mantissas from number `first` on, where
    /// nothing about the numbers is out of the ordinary.
    fn plain(
        &self,
        kernels: &Kernels,
        ranks: &Ranks<'_>,
        first: usize,
    ) -> Option<(DecodeHalves, &[u8])> {
        let (decode, width) = match self.format {
            FloatFormat::Bf16 => (kernels.decode_bf16?, 7),
            FloatFormat::F16 => (kernels.decode_f16?, 10),
            FloatFormat::F32 | FloatFormat::F64 => return None,
        };
        match &self.sides[..] {
            [Side::Packed(plane)] if !ranks.may_exceed => {
                Some((decode, plane.plain(width, first)?))
            }
            _ => None,
        }
    }

    /// Joins the numbers of the symbols in `buffers`, of which the first is number `first`.
    fn join(&self, kernels: &Kernels, buffers: &mut Buffers, first: usize, raw: &mut [u8]) {
        let Buffers {
            symbols,
            bytes,
            words,
            ..
        } = buffers;
        let (Exponents::Ranked(ranks), [mantissa, low @ ..]) = (&self.exponents, &self.sides[..])
        else {
            return;
        };
        bytes.resize(STRIP, 0);
        words.resize(STRIP, 0);
        let strips = symbols
            .chunks(STRIP)
            .zip(raw.chunks_mut(STRIP * self.format.len()));
        for (i, (symbols, raw)) in strips.enumerate() {
            let first = first + i * STRIP;
            let (bytes, words) = (&mut bytes[..symbols.len()], &mut words[..symbols.len()]);
            match self.format {
                FloatFormat::F16 => mantissa.words(kernels, first, words),
                _ => mantissa.bytes(kernels, first, bytes),
            }
            if let [low] = low {
                low.words(kernels, first, words);
            }
            let fields = Fields {
                symbols,
                values: &ranks.values,
                bytes,
                words,
            };
            match self.format {
                FloatFormat::Bf16 => (kernels.join_bf16)(fields, raw.as_chunks_mut().0),
                FloatFormat::F16 => (kernels.join_f16)(fields, raw.as_chunks_mut().0),
                FloatFormat::F32 | FloatFormat::F64 => {
                    (kernels.join_f32)(fields, raw.as_chunks_mut().0)
                }
            }
        }
    }

    /// Joins numbers of any form, whose symbols, if they have any, are in `buffers`.
    fn strips(
        &self,
        kernels: &Kernels,
        buffers: &mut Buffers,
        range: Range<usize>,
        raw: &mut [u8],
    ) -> Result<()> {
        let Buffers {
            symbols, planes, ..
        } = buffers;
        planes.resize_with(1 + self.sides.len(), Vec::new);
        let starts = range.clone().step_by(STRIP);
        for (start, raw) in starts.zip(raw.chunks_mut(STRIP * self.format.len())) {
            let n = raw.len() / self.format.len();
            planes.iter_mut().for_each(|plane| plane.resize(n, 0));
            let [exponents, rest @ ..] = &mut planes[..] else {
                break;
            };
            match &self.exponents {
                Exponents::Values(values) => {
                    exponents.copy_from_slice(&values[start..start + n]);
                }
                Exponents::Ranked(ranks) => {
                    let symbols = &symbols[start - range.start..];
                    for (place, symbol) in exponents.iter_mut().zip(symbols) {
                        *place = ranks.values[usize::from(symbol & 31)];
                    }
                }
            }
            for (side, words) in self.sides.iter().zip(rest) {
                side.words(kernels, start, words);
            }
            if self.signed {
                self.format.return_signs(planes);
            }
            self.format.join(planes, raw)?;
        }
        Ok(())
    }

    /// Puts the exceptions among these numbers in their places.
    fn replace(&self, exceptions: &[(usize, u16)], range: Range<usize>, raw: &mut [u8]) {
        let (below, width) = self.format.exponent();
        let from = exceptions.partition_point(|&(at, _)| at < range.start);
        let inside = exceptions[from..]
            .iter()
            .take_while(|(at, _)| *at < range.end);
        for &(at, value) in inside {
            let len = self.format.len();
            let place = &mut raw[(at - range.start) * len..][..len];
            let mut number = [0; 8];
            number[..len].copy_from_slice(place);
            let mut number = u64::from_le_bytes(number);
            let mask = ((1u64 << width) - 1) << below;
            number = number & !mask | (u64::from(value) << below) & mask;
            if self.signed {
                let sign = 8 * len - 1;
                number = number & !(1 << sign) | u64::from(value >> width) << sign;
            }
            place.copy_from_slice(&number.to_le_bytes()[..len]);
        }
    }
}

impl<'a> Exponents<'a> {
    fn read(
        decoder: &mut PlaneDecoder<'_>,
        input: &mut Input<'a>,
        (n, width): (usize, u32),
    ) -> Result<Self> {
        let mut ahead = *input;
        if Coder::read(&mut ahead)? == Coder::Ranked {
            let record = &mut Input::new(ahead.sized()?);
            *input = ahead;
            let ranks = Ranks::read(decoder, record, (n, width))?;
            record.expect_end()?;
            return Ok(Self::Ranked(ranks));
        }
        let mut values = vec![0; n];
        decoder.read(input, width, &mut values)?;
        Ok(Self::Values(values))
    }
}

impl<'a> Ranks<'a> {
    fn read(
        decoder: &mut PlaneDecoder<'_>,
        record: &mut Input<'a>,
        (n, width): (usize, u32),
    ) -> Result<Self> {
        let frequent = read_values(record)?;
        let exceptions = decoder.exceptions(record, n)?;
        let wide = |value: &u16| u32::from(*value) >> width != 0;
        if frequent.iter().any(wide) || exceptions.iter().any(|(_, value)| wide(value)) {
            return corrupt("a value is too wide for its plane");
        }
        let alphabet = alphabet_of(frequent.len());
        let symbols = CodedSymbols::read(record, alphabet, decoder.unpacker, n)?;
        let mut values = [0; SYMBOLS_MAX];
        values[..frequent.len()].copy_from_slice(&frequent);
        Ok(Self {
            n_values: frequent.len(),
            values,
            may_exceed: symbols.may_exceed(frequent.len()),
            symbols,
            exceptions,
        })
    }

    /// Decodes the symbols of block `i`, which has these of all numbers.
    fn block(
        &self,
        engine: &dyn Engine,
        i: usize,
        range: Range<usize>,
        symbols: &mut [u8],
    ) -> Result<()> {
        self.symbols.block(engine, i, range, symbols)?;
        let highest = || symbols.iter().fold(0, |highest, &s| s.max(highest));
        if self.may_exceed && !symbols.is_empty() && usize::from(highest()) >= self.n_values {
            return corrupt("a symbol stands for no value");
        }
        Ok(())
    }
}

impl<'a> Side<'a> {
    fn read(
        decoder: &mut PlaneDecoder<'_>,
        input: &mut Input<'a>,
        (n, width): (usize, u32),
    ) -> Result<Self> {
        let mut ahead = *input;
        let coder = Coder::read(&mut ahead)?;
        let record = &mut Input::new(ahead.sized()?);
        let side = match coder {
            Coder::Constant => {
                let value = u16::from_le_bytes([record.u8()?, record.u8()?]);
                (u32::from(value) >> width == 0).then_some(Self::Constant(value))
            }
            Coder::Packed => {
                PackedPlane::read(record, decoder.unpacker, (n, width))?.map(Self::Packed)
            }
            _ => None,
        };
        if let Some(side) = side {
            record.expect_end()?;
            *input = ahead;
            return Ok(side);
        }
        let mut values = vec![0; n];
        decoder.read(input, width, &mut values)?;
        Ok(Self::Values(values))
    }

    fn bytes(&self, kernels: &Kernels, first: usize, bytes: &mut [u8]) {
        match self {
            Self::Constant(value) => bytes.fill(value.to_le_bytes()[0]),
            Self::Packed(plane) => plane.fill(kernels.unpack_bytes, first, bytes),
            Self::Values(values) => {
                for (byte, value) in bytes.iter_mut().zip(&values[first..]) {
                    *byte = value.to_le_bytes()[0];
                }
            }
        }
    }

    fn words(&self, kernels: &Kernels, first: usize, words: &mut [u16]) {
        match self {
            Self::Constant(value) => words.fill(*value),
            Self::Packed(plane) => plane.fill(kernels.unpack_words, first, words),
            Self::Values(values) => words.copy_from_slice(&values[first..first + words.len()]),
        }
    }
}

#[cfg(test)]
mod tests;
