//! Blocks of packed fields as planes: a table of runs says which bits of a block are which
//! symbols of which plane.

use std::borrow::Cow;

use super::context::Context;

/// About so many bytes are joined at a time, field after field, so that they stay near.
const PART_LEN: usize = 32 << 10;

/// Consecutive bytes of a block, each of which holds some bits of one symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// The first symbol, counted within the block.
    pub(crate) symbol: usize,
    /// From one symbol to the next.
    pub(crate) step: usize,
    /// The first byte of the block.
    pub(crate) byte: usize,
    /// Bytes, and so symbols.
    pub(crate) n: usize,
    /// Where the bits begin in each byte.
    pub(crate) shift: u32,
    /// How many bits.
    pub(crate) bits: u32,
    /// Where they go in the symbol.
    pub(crate) at: u32,
}

impl Run {
    pub(crate) const fn new(symbol: usize, byte: usize, n: usize) -> Self {
        Self {
            symbol,
            step: 1,
            byte,
            n,
            shift: 0,
            bits: 8,
            at: 0,
        }
    }

    /// Takes `bits` bits from bit `shift` on.
    pub(crate) const fn bits(self, shift: u32, bits: u32) -> Self {
        Self {
            shift,
            bits,
            ..self
        }
    }

    /// Puts them at bit `at` of the symbol.
    pub(crate) const fn at(self, at: u32) -> Self {
        Self { at, ..self }
    }

    pub(crate) const fn step(self, step: usize) -> Self {
        Self { step, ..self }
    }

    fn mask(self) -> u8 {
        u8::MAX >> (8 - self.bits)
    }
}

/// 4 consecutive bytes of a block that hold the same bit of the 32 symbols of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bits {
    /// The first byte of the block.
    pub(crate) byte: usize,
    /// Where the bits go in the symbols.
    pub(crate) at: u32,
}

/// Symbols of which [`Bits`] holds a bit.
pub(crate) type Symbols = [u8; 32];

/// One field of a block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    /// Bits of a symbol.
    pub(crate) width: u32,
    /// Symbols in a block.
    pub(crate) per_block: usize,
    /// Whether the top bit is inverted, so that signed numbers keep their order.
    pub(crate) signed: bool,
    pub(crate) runs: Vec<Run>,
    pub(crate) bits: Option<Bits>,
    /// What its values depend on, if that is known.
    pub(crate) context: Option<Context>,
}

/// How a block is divided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blocks {
    /// Bytes of a block.
    pub(crate) len: usize,
    /// Elements of the tensor in a block.
    pub(crate) elements: usize,
    pub(crate) fields: Vec<Field>,
}

/// The values of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plane {
    /// Of at most 8 bits.
    Bytes(Vec<u8>),
    /// Of more.
    Words(Vec<u16>),
}

impl Plane {
    /// How many values.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Bytes(values) => values.len(),
            Self::Words(values) => values.len(),
        }
    }

    /// The values in their wider form.
    pub(crate) fn widened(&self) -> Cow<'_, [u16]> {
        match self {
            Self::Bytes(values) => values.iter().copied().map(u16::from).collect(),
            Self::Words(values) => Cow::Borrowed(values),
        }
    }
}

/// [`Field::take`], as the machine does it best.
pub(crate) type SplitField = fn(&Field, &[u8], usize, &mut [u8]);
/// [`Field::join`], as the machine does it best.
pub(crate) type JoinField = fn(&Field, &[u8], &mut [u8], usize);

impl Blocks {
    /// Writes the fields into whole blocks.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn join(&self, planes: &[Plane], raw: &mut [u8], join: JoinField) {
        self.join_with((planes, None), 0, raw, join);
    }

    /// Writes the fields into the whole blocks from number `first` on. `planes` has all values of
    /// all fields, but of the last one `last` may have those from these blocks on.
    pub(crate) fn join_with(
        &self,
        (planes, last): (&[Plane], Option<&[u8]>),
        first: usize,
        raw: &mut [u8],
        join: JoinField,
    ) {
        let n_part = (PART_LEN / self.len).max(1);
        for (i, part) in raw.chunks_mut(n_part * self.len).enumerate() {
            // Fields set the bits that they have.
            part.fill(0);
            let n = part.len() / self.len;
            let range = |field: &Field, first: usize| {
                first * field.per_block..(first + n) * field.per_block
            };
            for (field, plane) in self.fields.iter().zip(planes) {
                let range = range(field, first + i * n_part);
                match plane {
                    Plane::Bytes(values) => join(field, &values[range], part, self.len),
                    Plane::Words(values) => field.join_words(&values[range], part, self.len),
                }
            }
            if let (Some(last), Some(field)) = (last, self.fields.last()) {
                join(field, &last[range(field, i * n_part)], part, self.len);
            }
        }
    }
}

impl Field {
    /// The field's plane of whole blocks.
    pub(crate) fn split(&self, raw: &[u8], block_len: usize, split: SplitField) -> Plane {
        let n = raw.len() / block_len * self.per_block;
        if self.width > 8 {
            let mut values = vec![0; n];
            self.split_words(raw, block_len, &mut values);
            return Plane::Words(values);
        }
        let mut values = vec![0; n];
        split(self, raw, block_len, &mut values);
        Plane::Bytes(values)
    }

    /// Takes the values of whole blocks, of at most 8 bits, into as many zeros.
    #[inline(always)]
    pub(crate) fn take(&self, raw: &[u8], block_len: usize, values: &mut [u8]) {
        for run in &self.runs {
            let (run, per_block, block_len) = whole(run, self.per_block, block_len, raw.len());
            let blocks = raw.chunks_exact(block_len);
            for (block, values) in blocks.zip(values.chunks_exact_mut(per_block)) {
                run.take(block, values);
            }
        }
        if let Some(bits) = &self.bits {
            let blocks = raw.chunks_exact(block_len);
            for (block, values) in blocks.zip(values.chunks_exact_mut(self.per_block)) {
                bits.take(block, values);
            }
        }
        if self.signed {
            values
                .iter_mut()
                .for_each(|value| *value ^= 1 << (self.width - 1));
        }
    }

    /// The numbers of a field of two bytes each.
    fn split_words(&self, raw: &[u8], block_len: usize, values: &mut [u16]) {
        for run in self.runs.iter().filter(|run| run.n == 1) {
            let blocks = raw.chunks_exact(block_len);
            for (block, values) in blocks.zip(values.chunks_exact_mut(self.per_block)) {
                values[run.symbol] |= u16::from(block[run.byte]) << run.at;
            }
        }
    }

    /// Writes the values of whole blocks, whose bits of this field must be zero. `gather` does
    /// what [`gather`] does.
    #[inline(always)]
    pub(crate) fn join(
        &self,
        values: &[u8],
        raw: &mut [u8],
        block_len: usize,
        gather: impl Fn(&Symbols, u32) -> u32,
    ) {
        let flip = u8::from(self.signed) << (self.width - 1);
        let len = raw.len();
        let mut runs = &self.runs[..];
        while let [low, high, rest @ ..] = runs
            && let Some(halves) = Halves::of(low, high)
        {
            let blocks = raw.chunks_exact_mut(block_len);
            let blocks = blocks.zip(values.chunks_exact(self.per_block));
            match halves.n {
                16 => blocks.for_each(|(block, values)| halves.put::<16>(values, block)),
                _ => blocks.for_each(|(block, values)| halves.put::<32>(values, block)),
            }
            runs = rest;
        }
        for run in runs {
            let (run, per_block, block_len) = whole(run, self.per_block, block_len, len);
            let blocks = raw.chunks_exact_mut(block_len);
            for (block, values) in blocks.zip(values.chunks_exact(per_block)) {
                run.put(values, flip, block);
            }
        }
        if let Some(bits) = &self.bits {
            let blocks = raw.chunks_exact_mut(block_len);
            for (block, values) in blocks.zip(values.chunks_exact(self.per_block)) {
                bits.put(values, block, &gather);
            }
        }
    }

    #[inline(always)]
    fn join_words(&self, values: &[u16], raw: &mut [u8], block_len: usize) {
        let mut runs = &self.runs[..];
        while let [low, high, rest @ ..] = runs
            && (*low, *high)
                == (
                    Run::new(low.symbol, low.byte, 1),
                    Run::new(low.symbol, low.byte + 1, 1).at(8),
                )
        {
            let blocks = raw.chunks_exact_mut(block_len);
            for (block, values) in blocks.zip(values.chunks_exact(self.per_block)) {
                block[low.byte..][..2].copy_from_slice(&values[low.symbol].to_le_bytes());
            }
            runs = rest;
        }
        for run in runs.iter().filter(|run| run.n == 1) {
            let blocks = raw.chunks_exact_mut(block_len);
            for (block, values) in blocks.zip(values.chunks_exact(self.per_block)) {
                block[run.byte] = (values[run.symbol] >> run.at).to_le_bytes()[0];
            }
        }
    }
}

/// Two runs that are the low and the high halves of the same bytes.
struct Halves {
    byte: usize,
    /// Bytes, 16 or 32.
    n: usize,
    low: usize,
    high: usize,
}

impl Halves {
    fn of(low: &Run, high: &Run) -> Option<Self> {
        let half = |run: &Run, shift: u32| {
            (run.bits, run.shift, run.at, run.step) == (4, shift, 0, 1) && matches!(run.n, 16 | 32)
        };
        let both = half(low, 0) && half(high, 4) && low.byte == high.byte && low.n == high.n;
        both.then_some(Self {
            byte: low.byte,
            n: low.n,
            low: low.symbol,
            high: high.symbol,
        })
    }

    /// Writes the bytes of a block, the lower 4 bits of two values in each.
    #[inline(always)]
    fn put<const N: usize>(&self, values: &[u8], block: &mut [u8]) {
        let bytes = block
            .get_mut(self.byte..)
            .and_then(|b| b.first_chunk_mut::<N>());
        let low = values.get(self.low..).and_then(|v| v.first_chunk::<N>());
        let high = values.get(self.high..).and_then(|v| v.first_chunk::<N>());
        if let (Some(bytes), Some(low), Some(high)) = (bytes, low, high) {
            for ((byte, low), high) in bytes.iter_mut().zip(low).zip(high) {
                *byte = low & 15 | high << 4;
            }
        }
    }
}

impl Run {
    /// Sets the bits of symbols from a block.
    #[inline(always)]
    fn take(&self, block: &[u8], values: &mut [u8]) {
        let mask = self.mask();
        let bytes = &block[self.byte..self.byte + self.n];
        if self.step != 1 {
            let values = values[self.symbol..].iter_mut().step_by(self.step);
            for (value, byte) in values.zip(bytes) {
                *value |= (byte >> self.shift & mask) << self.at;
            }
            return;
        }
        let masks = u64::from_le_bytes([mask; 8]);
        let (values, values_left) = values[self.symbol..self.symbol + self.n].as_chunks_mut::<8>();
        let (bytes, bytes_left) = bytes.as_chunks::<8>();
        for (values, bytes) in values.iter_mut().zip(bytes) {
            // What crosses from one byte to the next is masked.
            let taken = u64::from_le_bytes(*bytes) >> self.shift & masks;
            *values = (u64::from_le_bytes(*values) | taken << self.at).to_le_bytes();
        }
        for (value, byte) in values_left.iter_mut().zip(bytes_left) {
            *value |= (byte >> self.shift & mask) << self.at;
        }
    }

    /// Sets the bits of a block from symbols, whose bits `flip` are inverted.
    #[inline(always)]
    fn put(&self, values: &[u8], flip: u8, block: &mut [u8]) {
        let mask = self.mask();
        let bytes = &mut block[self.byte..self.byte + self.n];
        let put = |byte: &mut u8, value: u8| {
            *byte |= ((value ^ flip) >> self.at & mask) << self.shift;
        };
        if self.step != 1 {
            let values = values[self.symbol..].iter().step_by(self.step);
            bytes
                .iter_mut()
                .zip(values)
                .for_each(|(byte, &value)| put(byte, value));
            return;
        }
        let masks = u64::from_le_bytes([mask; 8]);
        let flips = u64::from_le_bytes([flip; 8]);
        let (values, values_left) = values[self.symbol..self.symbol + self.n].as_chunks::<8>();
        let (bytes, bytes_left) = bytes.as_chunks_mut::<8>();
        for (bytes, values) in bytes.iter_mut().zip(values) {
            let taken = (u64::from_le_bytes(*values) ^ flips) >> self.at & masks;
            *bytes = (u64::from_le_bytes(*bytes) | taken << self.shift).to_le_bytes();
        }
        bytes_left
            .iter_mut()
            .zip(values_left)
            .for_each(|(byte, &value)| put(byte, value));
    }
}

impl Bits {
    /// Sets the bits of symbols from a block.
    #[inline(always)]
    fn take(&self, block: &[u8], values: &mut [u8]) {
        let bytes = &block[self.byte..self.byte + size_of::<Symbols>() / 8];
        for (values, &byte) in values.as_chunks_mut::<8>().0.iter_mut().zip(bytes) {
            for (i, value) in values.iter_mut().enumerate() {
                *value |= (byte >> i & 1) << self.at;
            }
        }
    }

    /// Sets the bytes of a block from symbols.
    #[inline(always)]
    fn put(&self, values: &[u8], block: &mut [u8], gather: impl Fn(&Symbols, u32) -> u32) {
        let bytes = block
            .get_mut(self.byte..)
            .and_then(|bytes| bytes.first_chunk_mut());
        if let (Some(bytes), Some(symbols)) = (bytes, values.first_chunk()) {
            *bytes = gather(symbols, self.at).to_le_bytes();
        }
    }
}

/// Bit `at` of each symbol, that of the first as the lowest.
#[inline(always)]
pub(crate) fn gather(symbols: &Symbols, at: u32) -> u32 {
    // The lowest bit of byte i goes to bit 56 + i.
    const UP: u64 = 0x0102_0408_1020_4080;
    let mut gathered = [0; 4];
    for (byte, symbols) in gathered.iter_mut().zip(symbols.as_chunks::<8>().0) {
        let lowest = u64::from_le_bytes(*symbols) >> at & 0x0101_0101_0101_0101;
        *byte = lowest.wrapping_mul(UP).to_le_bytes()[7];
    }
    u32::from_le_bytes(gathered)
}

/// [`Field::take`]
#[inline(always)]
pub(crate) fn split_field(field: &Field, raw: &[u8], block_len: usize, values: &mut [u8]) {
    field.take(raw, block_len, values);
}

/// [`Field::join`]
#[inline(always)]
pub(crate) fn join_field(field: &Field, values: &[u8], raw: &mut [u8], block_len: usize) {
    field.join(values, raw, block_len, gather);
}

/// A run that covers its whole block is as well one run over all blocks.
fn whole(run: &Run, per_block: usize, block_len: usize, raw_len: usize) -> (Run, usize, usize) {
    let covers = run.n == block_len && run.n * run.step == per_block;
    if covers && raw_len > 0 {
        let all = raw_len / block_len * block_len;
        (Run { n: all, ..*run }, all * run.step, all)
    } else {
        (*run, per_block, block_len)
    }
}

#[cfg(test)]
mod tests;
