//! Floats read block by block: symbols, mantissas and low halves meet in the cache and become
//! numbers at once. Planes in forms that are rare in floats are read whole before.

use std::ops::Range;

use super::apart::{Apart, replace};
use super::bins::{self, BinWidths};
use super::dense::{self, DensePlane};
use super::packed::PackedPlane;
use super::ranked::read_values;
use super::rans::{CodedInContext, CodedSymbols, alphabet_of};
use super::segments::{BLOCK_LEN, blocks, n_blocks};
use super::split::lower_width;
use super::{Coder, PlaneDecoder};
use crate::entropy::{Engine, SYMBOLS_MAX};
use crate::error::{Result, corrupt};
use crate::input::Input;
use crate::kernel::{Above, Bins, Bits, DecodeHalves, Fields, Kernels, Meaning, Values};
use crate::layout::{FloatFormat, Form};

/// Numbers that are joined at once: their fields stay in the first cache.
const STRIP: usize = 4096;

/// Numbers of a dense plane whose codes are brought in order at once.
const DENSE_STRIP: usize = 8 * STRIP;

/// The planes of whole numbers, their blocks not decoded yet.
#[derive(Debug)]
pub(crate) struct Numbers<'a> {
    format: FloatFormat,
    form: Form,
    n: usize,
    exponents: Exponents<'a>,
    /// The planes below, from the mantissa on.
    sides: Vec<Side<'a>>,
}

/// The first plane.
#[derive(Debug)]
enum Exponents<'a> {
    Ranked(Ranks<'a>),
    Dense(DensePlane),
    Binned(BinnedPlane<'a>),
    Values(Vec<u16>),
}

/// A first plane of symbols that stand for bins, and exceptions.
#[derive(Debug)]
struct BinnedPlane<'a> {
    /// The values of its symbols are not used.
    ranks: Ranks<'a>,
    base: u16,
    bins: Bins,
    /// Those of each block.
    details: Vec<Details<'a>>,
}

/// Symbols in a buffer, and what they mean.
#[derive(Debug)]
struct Decoded<'a, 'b> {
    /// The number that the first is of.
    first: usize,
    /// Where in the buffer that is.
    start: usize,
    meaning: Meaning<'a>,
    /// Of symbols that stand for bins, and then become codes: these and the details.
    bins: Option<(&'a Bins, &'a mut Details<'b>)>,
}

impl<'a> Decoded<'a, '_> {
    const fn new(first: usize, start: usize, meaning: Meaning<'a>) -> Self {
        Self {
            first,
            start,
            meaning,
            bins: None,
        }
    }
}

/// Bits that say which values of their bins numbers have, see [`Bins`].
type Details<'a> = [Bits<'a>; 2];

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
    Split(SplitPlane<'a>),
    Values(Vec<u16>),
}

/// A plane of at most 8 bits in two parts.
#[derive(Debug)]
struct SplitPlane<'a> {
    upper: Ranks<'a>,
    lower_width: u32,
    lower: Lower<'a>,
}

/// The lower bits of a plane in two parts.
#[derive(Debug)]
enum Lower<'a> {
    Packed(PackedPlane<'a>),
    Context(CodedInContext<'a>),
}

/// What decoding keeps from one block to the next.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    pub(super) grouped: super::grouped::Scratch,
    symbols: Vec<u8>,
    bytes: Vec<u8>,
    words: Vec<u16>,
    pairs: Vec<[u8; 2]>,
    exceptions: Vec<(usize, u16)>,
    split: SplitBlock,
    /// A strip of each plane.
    planes: Vec<Vec<u16>>,
    pub(super) dense: dense::Buffers,
    pub(crate) delta: [crate::delta::Buffers; 2],
}

/// The values of a block of a split plane.
#[derive(Debug, Default)]
struct SplitBlock {
    /// The number that the first is of.
    first: usize,
    values: Vec<u8>,
    lower: Vec<u8>,
}

impl SplitBlock {
    /// The values from number `first` on.
    fn values(&self, first: usize) -> &[u8] {
        &self.values[first - self.first..]
    }
}

impl<'a> Numbers<'a> {
    /// Reads everything but the blocks of `n` numbers. A plane in a form that is rare here is read as a whole.
    pub(crate) fn read(
        decoder: &mut PlaneDecoder<'_>,
        input: &mut Input<'a>,
        (format, form): (FloatFormat, Form),
        n: usize,
    ) -> Result<Self> {
        let planes = format.planes_of(form);
        let exponents = Exponents::read(decoder, input, (n, planes[0].1), form)?;
        let mut sides = Vec::with_capacity(planes.len() - 1);
        for &(_, width) in &planes[1..] {
            sides.push(Side::read(decoder, input, (n, width))?);
        }
        Ok(Self {
            format,
            form,
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
        let kernels = &engine.kernels();
        for side in &self.sides {
            if let Side::Split(plane) = side {
                plane.block(engine, i, range.clone(), &mut buffers.split)?;
            }
        }
        match &self.exponents {
            Exponents::Values(values) => {
                let exponents = Apart::Whole(&values[range.clone()]);
                self.strips(kernels, buffers, (range.start, exponents), raw)
            }
            Exponents::Dense(plane) => {
                let mut escapes = plane.escapes(range.start);
                let parts = range.clone().step_by(DENSE_STRIP);
                let len = self.format.len();
                for (start, raw) in parts.zip(raw.chunks_mut(DENSE_STRIP * len)) {
                    let range = start..start + raw.len() / len;
                    let codes_start = plane.codes(kernels, &range, &mut buffers.symbols);
                    let meaning = Meaning::Above(plane.above());
                    let decoded = Decoded::new(start, codes_start, meaning);
                    self.join(kernels, buffers, decoded, raw)?;
                    let values = &mut buffers.exceptions;
                    values.clear();
                    escapes.until(range.end, |at, value| values.push((at, value)));
                    self.replace(values.iter().copied(), range.start, raw);
                }
                Ok(())
            }
            Exponents::Ranked(ranks) => {
                if let Some((decode, packed)) = self.plain(kernels, ranks, range.start) {
                    let block = ranks.symbols.parts(i, range.clone());
                    let numbers = raw.as_chunks_mut().0;
                    decode(block, &ranks.values, packed, &mut buffers.symbols, numbers)?;
                } else {
                    let symbols = &mut buffers.symbols;
                    symbols.resize(range.len(), 0);
                    ranks.block(engine, i, range.clone(), symbols)?;
                    let meaning = Meaning::Values(&ranks.values);
                    let decoded = Decoded::new(range.start, 0, meaning);
                    self.join(kernels, buffers, decoded, raw)?;
                }
                let exceptions = ranks.exceptions_in(range.clone());
                self.replace(exceptions, range.start, raw);
                Ok(())
            }
            Exponents::Binned(plane) => self.binned(engine, buffers, (plane, i), raw),
        }
    }

    /// Decodes block `i` into `raw`, by symbols that stand for bins.
    fn binned(
        &self,
        engine: &dyn Engine,
        buffers: &mut Buffers,
        (plane, i): (&BinnedPlane<'_>, usize),
        raw: &mut [u8],
    ) -> Result<()> {
        let range = self.range(i);
        let symbols = &mut buffers.symbols;
        symbols.resize(range.len(), 0);
        plane.ranks.block(engine, i, range.clone(), symbols)?;
        let meaning = Meaning::Above(Above {
            base: plane.base,
            mask: 0x1ff,
            signed: false,
        });
        let mut details = plane.details[i];
        let decoded = Decoded {
            bins: Some((&plane.bins, &mut details)),
            ..Decoded::new(range.start, 0, meaning)
        };
        self.join(&engine.kernels(), buffers, decoded, raw)?;
        details.iter().try_for_each(Bits::expect_end)?;
        self.replace(plane.ranks.exceptions_in(range.clone()), range.start, raw);
        Ok(())
    }

    /// Gives back the memory of the planes.
    pub(crate) fn into_buffers(self, buffers: &mut Buffers) {
        if let Exponents::Dense(plane) = self.exponents {
            plane.into_buffers(&mut buffers.dense);
        }
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
            _ if self.form != Form::Plain => return None,
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

    /// Joins numbers, whose symbols lie in `buffers`.
    fn join(
        &self,
        kernels: &Kernels,
        buffers: &mut Buffers,
        decoded: Decoded<'_, '_>,
        raw: &mut [u8],
    ) -> Result<()> {
        let Decoded {
            first,
            start,
            meaning,
            mut bins,
        } = decoded;
        let [mantissa, low @ ..] = &self.sides[..] else {
            return corrupt("a float frame lacks planes");
        };
        let signed = self.form == Form::Signed && matches!(meaning, Meaning::Values(_));
        if signed || self.format == FloatFormat::F64 {
            let exponents = Apart::Symbols(start, meaning);
            return self.strips(kernels, buffers, (first, exponents), raw);
        }
        let Buffers {
            symbols,
            bytes,
            words,
            pairs,
            split,
            ..
        } = buffers;
        bytes.resize(STRIP, 0);
        words.resize(STRIP, 0);
        let strips = symbols[start..]
            .chunks_mut(STRIP)
            .zip(raw.chunks_mut(STRIP * self.format.len()));
        for (i, (symbols, raw)) in strips.enumerate() {
            let first = first + i * STRIP;
            let n = raw.len() / self.format.len();
            let (bytes, words) = (&mut bytes[..n], &mut words[..n]);
            match self.format {
                FloatFormat::F16 => mantissa.words(kernels, first, (words, split)),
                _ => mantissa.bytes(kernels, first, (bytes, split)),
            }
            if let Some((bins, details)) = &mut bins {
                (kernels.refine)(bins, details, &mut symbols[..n], bytes);
            }
            let pairs = match low {
                [low] => low.pairs(kernels, first, (words, pairs), split),
                _ => &[],
            };
            let fields = Fields {
                symbols: &symbols[..n],
                meaning,
                bytes,
                words,
                pairs,
            };
            match self.format {
                FloatFormat::Bf16 => (kernels.join_bf16)(fields, raw.as_chunks_mut().0),
                FloatFormat::F16 => (kernels.join_f16)(fields, raw.as_chunks_mut().0),
                FloatFormat::F32 | FloatFormat::F64 => {
                    (kernels.join_f32)(fields, raw.as_chunks_mut().0)
                }
            }
        }
        Ok(())
    }

    /// Joins numbers of any form from number `first` on.
    fn strips(
        &self,
        kernels: &Kernels,
        buffers: &mut Buffers,
        (first, source): (usize, Apart<'_>),
        raw: &mut [u8],
    ) -> Result<()> {
        let Buffers {
            symbols,
            planes,
            split,
            ..
        } = buffers;
        planes.resize_with(1 + self.sides.len(), Vec::new);
        let starts = (0..).step_by(STRIP);
        for (start, raw) in starts.zip(raw.chunks_mut(STRIP * self.format.len())) {
            let n = raw.len() / self.format.len();
            planes.iter_mut().for_each(|plane| plane.resize(n, 0));
            let [exponents, rest @ ..] = &mut planes[..] else {
                break;
            };
            source.fill(symbols, start, self.format, exponents);
            for (side, words) in self.sides.iter().zip(rest) {
                side.words(kernels, first + start, (words, split));
            }
            if self.form == Form::Signed {
                self.format.return_signs(planes);
            }
            self.format.join(planes, raw)?;
        }
        Ok(())
    }

    /// Puts exceptions in their places among numbers from number `first` on.
    fn replace(
        &self,
        exceptions: impl Iterator<Item = (usize, u16)>,
        first: usize,
        raw: &mut [u8],
    ) {
        let (below, width) = match self.form {
            Form::Fine => (bins::BELOW, bins::WIDTH),
            Form::Plain | Form::Signed => self.format.exponent(),
        };
        let sign = (self.form == Form::Signed).then_some(width);
        let inside = exceptions.map(|(at, value)| (at - first, u64::from(value)));
        match self.format.len() {
            2 => replace(inside, (below, width, sign), raw.as_chunks_mut::<2>().0),
            4 => replace(inside, (below, width, sign), raw.as_chunks_mut::<4>().0),
            _ => replace(inside, (below, width, sign), raw.as_chunks_mut::<8>().0),
        }
    }
}

impl<'a> Exponents<'a> {
    fn read(
        decoder: &mut PlaneDecoder<'_>,
        input: &mut Input<'a>,
        (n, width): (usize, u32),
        form: Form,
    ) -> Result<Self> {
        let mut ahead = *input;
        let coder = Coder::read(&mut ahead)?;
        let record = &mut Input::new(ahead.sized()?);
        if (coder == Coder::Binned) != (form == Form::Fine) {
            return corrupt("bins are for one layout, which has nothing else");
        }
        let exponents = match coder {
            Coder::Binned => Self::Binned(BinnedPlane::read(decoder, record, n)?),
            Coder::Ranked => Self::Ranked(Ranks::read(decoder, record, (n, width))?),
            Coder::Dense => {
                let plane = decoder.dense(record, (n, width))?;
                if plane.above().signed == (form == Form::Signed) {
                    Self::Dense(plane)
                } else {
                    // The sign of a code is not that of a number.
                    let mut values = vec![0; n];
                    plane.fill(&decoder.engine.kernels(), &mut values);
                    Self::Values(values)
                }
            }
            _ => {
                let mut values = vec![0; n];
                decoder.read(input, width, &mut values)?;
                return Ok(Self::Values(values));
            }
        };
        record.expect_end()?;
        *input = ahead;
        Ok(exponents)
    }
}

impl<'a> BinnedPlane<'a> {
    /// Reads everything but the blocks of `n` numbers.
    fn read(decoder: &mut PlaneDecoder<'_>, record: &mut Input<'a>, n: usize) -> Result<Self> {
        let bins = BinWidths::read(record)?;
        let exceptions = decoder.exceptions(record, n)?;
        if exceptions
            .iter()
            .any(|e| u32::from(e.1) >> bins::WIDTH != 0)
        {
            return corrupt("a value is too wide for its plane");
        }
        let coded = &mut Input::new(record.sized()?);
        let symbols = CodedSymbols::read(coded, alphabet_of(bins.len()), decoder.unpacker, n)?;
        let mut two = || Ok([Bits::new(record.sized()?), Bits::new(record.sized()?)]);
        let details = (0..n_blocks(n)).map(|_| two()).collect::<Result<_>>()?;
        Ok(Self {
            ranks: Ranks {
                n_values: bins.len(),
                values: [0; SYMBOLS_MAX],
                may_exceed: symbols.may_exceed(bins.len()),
                symbols,
                exceptions,
            },
            base: bins.base(),
            bins: bins.meaning(),
            details,
        })
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

    fn exceptions_in(&self, range: Range<usize>) -> impl Iterator<Item = (usize, u16)> {
        let from = self.exceptions.partition_point(|&(at, _)| at < range.start);
        let inside = self.exceptions[from..].iter().copied();
        inside.take_while(move |&(at, _)| at < range.end)
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
            Coder::Split => SplitPlane::read(decoder, record, (n, width))?.map(Self::Split),
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

    fn bytes(&self, kernels: &Kernels, first: usize, (bytes, split): (&mut [u8], &SplitBlock)) {
        match self {
            Self::Constant(value) => bytes.fill(value.to_le_bytes()[0]),
            Self::Packed(plane) => plane.fill(kernels.unpack_bytes, first, bytes),
            Self::Split(_) => bytes.copy_from_slice(&split.values(first)[..bytes.len()]),
            Self::Values(values) => {
                for (byte, value) in bytes.iter_mut().zip(&values[first..]) {
                    *byte = value.to_le_bytes()[0];
                }
            }
        }
    }

    fn words(&self, kernels: &Kernels, first: usize, (words, split): (&mut [u16], &SplitBlock)) {
        match self {
            Self::Constant(value) => words.fill(*value),
            Self::Packed(plane) => plane.fill(kernels.unpack_words, first, words),
            Self::Split(_) => {
                for (word, byte) in words.iter_mut().zip(split.values(first)) {
                    *word = u16::from(*byte);
                }
            }
            Self::Values(values) => words.copy_from_slice(&values[first..first + words.len()]),
        }
    }

    /// As many words as there are in `words`, as they lie in a number; from where they are, or
    /// from `pairs`.
    fn pairs<'b>(
        &'b self,
        kernels: &Kernels,
        first: usize,
        (words, pairs): (&mut [u16], &'b mut Vec<[u8; 2]>),
        split: &SplitBlock,
    ) -> &'b [[u8; 2]] {
        let n = words.len();
        if let Self::Packed(plane) = self
            && let Some(plain) = plane.plain(16, first)
            && let Some(plain) = plain.as_chunks().0.get(..n)
        {
            return plain;
        }
        self.words(kernels, first, (words, split));
        pairs.clear();
        pairs.extend(words.iter().map(|word| word.to_le_bytes()));
        pairs
    }
}

impl<'a> SplitPlane<'a> {
    /// Reads everything but the blocks of `n` values, if the parts have the usual forms.
    fn read(
        decoder: &mut PlaneDecoder<'_>,
        record: &mut Input<'a>,
        (n, width): (usize, u32),
    ) -> Result<Option<Self>> {
        let lower_width = lower_width(record, width)?;
        if Coder::read(record)? != Coder::Ranked || width > 8 {
            return Ok(None);
        }
        let part = &mut Input::new(record.sized()?);
        let upper = Ranks::read(decoder, part, (n, width - lower_width))?;
        part.expect_end()?;
        let coder = Coder::read(record)?;
        let part = &mut Input::new(record.sized()?);
        let lower = match coder {
            Coder::Context => {
                let alphabet = alphabet_of(1 << lower_width);
                Lower::Context(CodedInContext::read(part, alphabet, n)?)
            }
            Coder::Packed => match PackedPlane::read(part, decoder.unpacker, (n, lower_width))? {
                Some(plane) => Lower::Packed(plane),
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        part.expect_end()?;
        Ok(Some(Self {
            upper,
            lower_width,
            lower,
        }))
    }

    /// Decodes block `i`, which has these of all values.
    fn block(
        &self,
        engine: &dyn Engine,
        i: usize,
        range: Range<usize>,
        block: &mut SplitBlock,
    ) -> Result<()> {
        let SplitBlock {
            first,
            values,
            lower,
        } = block;
        *first = range.start;
        values.resize(range.len(), 0);
        lower.resize(range.len(), 0);
        self.upper.block(engine, i, range.clone(), values)?;
        // Upper bits are mostly as their symbols: 32 of both.
        let own = |(i, &value): (usize, &u16)| usize::from(value) == i;
        if !self.upper.values.iter().enumerate().all(own) {
            for value in values.iter_mut() {
                [*value, _] = self.upper.values[usize::from(*value & 31)].to_le_bytes();
            }
        }
        for (at, value) in self.upper.exceptions_in(range.clone()) {
            [values[at - range.start], _] = value.to_le_bytes();
        }
        match &self.lower {
            Lower::Packed(plane) => {
                plane.fill(engine.kernels().unpack_bytes, range.start, lower);
            }
            Lower::Context(coded) => coded.block(engine, i, values, lower)?,
        }
        let any = lower.iter().fold(0, |any, lower| any | lower);
        if u32::from(any) >> self.lower_width != 0 {
            return corrupt("a value is too wide for its plane");
        }
        for (value, lower) in values.iter_mut().zip(lower) {
            *value = *value << self.lower_width | *lower;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
