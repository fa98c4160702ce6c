//! Floats read block by block: symbols, mantissas and low halves meet in the cache and become
//! numbers at once. Planes in forms that are rare in floats are left to the reader of single planes.

use std::ops::Range;

use super::packed::PackedPlane;
use super::ranked::read_values;
use super::rans::{CodedSymbols, alphabet_of};
use super::segments::{blocks, n_blocks};
use super::{Coder, PlaneDecoder};
use crate::entropy::{Engine, SYMBOLS_MAX};
use crate::error::{Result, corrupt};
use crate::input::Input;
use crate::kernel::{Fields, Kernels, Values};
use crate::layout::FloatFormat;

/// Numbers that are joined at once: their fields stay in the first cache.
const STRIP: usize = 4096;

/// The planes of whole numbers, their blocks not decoded yet.
#[derive(Debug)]
pub(crate) struct Numbers<'a> {
    format: FloatFormat,
    n: usize,
    /// How many symbols have a value.
    n_values: usize,
    values: Values,
    symbols: CodedSymbols<'a>,
    exceptions: Vec<(usize, u16)>,
    mantissa: Side<'a>,
    low: Option<Side<'a>>,
}

/// A plane beside that of the exponents.
#[derive(Debug)]
enum Side<'a> {
    Constant(u16),
    Packed(PackedPlane<'a>),
}

/// What decoding keeps from one block to the next.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    symbols: Vec<u8>,
    bytes: Vec<u8>,
    words: Vec<u16>,
}

impl<'a> Numbers<'a> {
    /// Reads everything but the blocks of `n` numbers. Nothing, if they have to be read plane by
    /// plane; then `input` is where it was.
    pub(crate) fn read(
        decoder: &mut PlaneDecoder<'_>,
        input: &mut Input<'a>,
        format: FloatFormat,
        n: usize,
    ) -> Result<Option<Self>> {
        let mut ahead = *input;
        let found = Self::read_from(decoder, &mut ahead, format, n)?;
        if found.is_some() {
            *input = ahead;
        }
        Ok(found)
    }

    fn read_from(
        decoder: &mut PlaneDecoder<'_>,
        input: &mut Input<'a>,
        format: FloatFormat,
        n: usize,
    ) -> Result<Option<Self>> {
        let widths: Vec<u32> = format.planes().map(|(_, width)| width).collect();
        if format == FloatFormat::F64 || Coder::read(input)? != Coder::Ranked {
            return Ok(None);
        }
        let record = &mut Input::new(input.sized()?);
        let frequent = read_values(record)?;
        let exceptions = decoder.exceptions(record, n)?;
        let wide = |value: &u16| u32::from(*value) >> widths[0] != 0;
        if frequent.iter().any(wide) || exceptions.iter().any(|(_, value)| wide(value)) {
            return corrupt("a value is too wide for its plane");
        }
        let alphabet = alphabet_of(frequent.len());
        let symbols = CodedSymbols::read(record, alphabet, decoder.unpacker, n)?;
        record.expect_end()?;
        let mut sides = Vec::with_capacity(2);
        for &width in &widths[1..] {
            match Side::read(decoder, input, (n, width))? {
                Some(side) => sides.push(side),
                None => return Ok(None),
            }
        }
        let mut values = [0; SYMBOLS_MAX];
        values[..frequent.len()].copy_from_slice(&frequent);
        let mut sides = sides.into_iter();
        let Some(mantissa) = sides.next() else {
            return Ok(None);
        };
        Ok(Some(Self {
            format,
            n,
            n_values: frequent.len(),
            values,
            symbols,
            exceptions,
            mantissa,
            low: sides.next(),
        }))
    }

    /// How many blocks there are.
    pub(crate) fn n_blocks(&self) -> usize {
        n_blocks(self.n)
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
        let Buffers {
            symbols,
            bytes,
            words,
        } = buffers;
        let kernels = engine.kernels();
        if let (Some(decode), Some(packed)) = (kernels.decode_bf16, self.plain_bf16(range.start)) {
            let numbers = raw.as_chunks_mut().0;
            let block = self.symbols.parts(i, range.clone());
            decode(block, &self.values, packed, symbols, numbers)?;
            self.replace(range, raw);
            return Ok(());
        }
        symbols.resize(range.len(), 0);
        self.symbols.block(engine, i, range.clone(), symbols)?;
        if self.symbols.may_exceed(self.n_values) {
            let highest = symbols.iter().fold(0, |highest, &s| s.max(highest));
            if usize::from(highest) >= self.n_values && !symbols.is_empty() {
                return corrupt("a symbol stands for no value");
            }
        }
        bytes.resize(STRIP, 0);
        words.resize(STRIP, 0);
        let len = self.format.len();
        let strips = symbols.chunks(STRIP).zip(raw.chunks_mut(STRIP * len));
        for (i, (symbols, raw)) in strips.enumerate() {
            let (bytes, words) = (&mut bytes[..symbols.len()], &mut words[..symbols.len()]);
            self.join(
                &kernels,
                range.start + i * STRIP,
                (symbols, bytes, words),
                raw,
            );
        }
        self.replace(range, raw);
        Ok(())
    }

    /// The mantissas from number `first` on, where nothing about the numbers is out of the ordinary.
    fn plain_bf16(&self, first: usize) -> Option<&[u8]> {
        let plain = self.format == FloatFormat::Bf16 && !self.symbols.may_exceed(self.n_values);
        match &self.mantissa {
            Side::Packed(plane) if plain => plane.plain(7, first),
            _ => None,
        }
    }

    /// Joins the numbers of these symbols, of which the first is number `first`.
    fn join(
        &self,
        kernels: &Kernels,
        first: usize,
        (symbols, bytes, words): (&[u8], &mut [u8], &mut [u16]),
        raw: &mut [u8],
    ) {
        match self.format {
            FloatFormat::F16 => self.mantissa.words(kernels, first, words),
            _ => self.mantissa.bytes(kernels, first, bytes),
        }
        if let Some(low) = &self.low {
            low.words(kernels, first, words);
        }
        let fields = Fields {
            symbols,
            values: &self.values,
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

    /// Puts the exceptions among these numbers in their places.
    fn replace(&self, range: Range<usize>, raw: &mut [u8]) {
        let (below, width) = self.format.exponent();
        let from = self.exceptions.partition_point(|&(at, _)| at < range.start);
        let inside = self.exceptions[from..]
            .iter()
            .take_while(|(at, _)| *at < range.end);
        for &(at, value) in inside {
            let len = self.format.len();
            let place = &mut raw[(at - range.start) * len..][..len];
            let mut number = [0; 8];
            number[..len].copy_from_slice(place);
            let mask = ((1u64 << width) - 1) << below;
            let number = u64::from_le_bytes(number) & !mask | u64::from(value) << below;
            place.copy_from_slice(&number.to_le_bytes()[..len]);
        }
    }
}

impl<'a> Side<'a> {
    fn read(
        decoder: &mut PlaneDecoder<'_>,
        input: &mut Input<'a>,
        (n, width): (usize, u32),
    ) -> Result<Option<Self>> {
        let coder = Coder::read(input)?;
        let record = &mut Input::new(input.sized()?);
        let side = match coder {
            Coder::Constant => {
                let value = u16::from_le_bytes([record.u8()?, record.u8()?]);
                if u32::from(value) >> width != 0 {
                    return corrupt("a value is too wide for its plane");
                }
                Some(Self::Constant(value))
            }
            Coder::Packed => {
                PackedPlane::read(record, decoder.unpacker, (n, width))?.map(Self::Packed)
            }
            _ => return Ok(None),
        };
        record.expect_end()?;
        Ok(side)
    }

    fn bytes(&self, kernels: &Kernels, first: usize, bytes: &mut [u8]) {
        match self {
            Self::Constant(value) => bytes.fill(value.to_le_bytes()[0]),
            Self::Packed(plane) => plane.fill(kernels.unpack_bytes, first, bytes),
        }
    }

    fn words(&self, kernels: &Kernels, first: usize, words: &mut [u16]) {
        match self {
            Self::Constant(value) => words.fill(*value),
            Self::Packed(plane) => plane.fill(kernels.unpack_words, first, words),
        }
    }
}
