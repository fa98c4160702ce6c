//! Floats in one pass: a sample shows what the planes are like, and then the numbers are split,
//! ranked and counted segment by segment.
//!
//! What the sample cannot promise, the pass notices; then the planes are coded one by one.

use std::borrow::Cow;

use super::bins::{self, BinWidths};
use super::packed::{Zeros, put_head};
use super::ranked::{EXCEPTION_BITS, Ranked, frequent};
use super::segments::{BLOCK_LEN, Rows, Segments, n_blocks};
use super::{Coder, PlaneEncoder, Shape, put_record};
use crate::cluster::Histogram;
use crate::entropy::{Alphabet, SYMBOLS_MAX};
use crate::error::Result;
use crate::input::put_sized_with;
use crate::kernel::{Bases, BitSink, Codes, Kernels, Keys, LOWER, Parts, RARE, Seen};
use crate::layout::{FloatFormat, Layout};
use crate::log2::{ONE_BIT, entropy};

/// Fewer numbers are not worth a sample.
const NUMBERS_MIN: usize = 4096;
/// Numbers of a sample, where there are so many.
const SAMPLE_LEN: usize = 1 << 14;
/// A sample has at least one segment of this many.
const SAMPLE_STEP_MAX: usize = 32;
/// One number of the sample in this many may lack a symbol, and twice as many of all.
const RARE_SHARE: usize = 50;
/// Numbers that are looked at together for one without a symbol.
const RARE_STEP: usize = 64;
/// A plane is packed unless its entropy, by the sample, saves one part in this many.
const SAVED_SHARE: u64 = 256;

/// Values that are packed at once: they fill whole bytes.
const STRIP: usize = 1 << 13;

/// Packs values like [`crate::bits::pack`].
type Pack<T> = fn(&[T], u32, u32, &mut Vec<u8>);

/// What the pass keeps from one frame to the next, so that memory is not fetched anew.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    symbols: Vec<u8>,
    bytes: Vec<u8>,
    words: Vec<u16>,
    counted: Vec<Histogram>,
}

/// A plane beside that of the exponents: the bytes or the words of [`Parts`].
#[derive(Debug)]
struct Side {
    /// Bits of its widest possible value.
    width_max: u32,
    /// The bits above `width`, the same in all values.
    base: u16,
    width: u32,
    /// Whether it is packed in the pass, because nothing else would be shorter.
    noise: bool,
}

/// Counts of a sample.
#[derive(Debug)]
struct Sample {
    numbers: usize,
    exponents: Vec<u32>,
    /// Of exponents with two bits of the mantissa, where bins may be tried.
    fine: Vec<u32>,
    sides: [SideSample; 2],
}

#[derive(Debug)]
struct SideSample {
    /// Bits of the parts that are counted.
    cut: u32,
    counts: [Vec<u32>; 2],
    first: Option<u16>,
    varying: u16,
    /// Numbers of each segment, and the bits that any of its values has.
    segments: Vec<(usize, u16)>,
}

impl SideSample {
    fn new(width: u32) -> Self {
        let cut = if width > 12 { 8 } else { width };
        Self {
            cut,
            counts: [vec![0; 1 << cut], vec![0; 1 << (width - cut)]],
            first: None,
            varying: 0,
            segments: Vec::new(),
        }
    }

    fn add(&mut self, values: &[u16]) {
        let first = *self
            .first
            .get_or_insert(values.first().copied().unwrap_or(0));
        let mask = (1 << self.cut) - 1;
        let [low, high] = &mut self.counts;
        for &value in values {
            low[usize::from(value & mask)] += 1;
        }
        if high.len() > 1 {
            for &value in values {
                high[usize::from(value >> self.cut)] += 1;
            }
        }
        self.varying |= values.iter().fold(0, |any, value| any | (value ^ first));
        let any = values.iter().fold(0, |any, value| any | value);
        self.segments.push((values.len(), any));
    }

    fn side(&self, width_max: u32) -> Side {
        let width = u16::BITS - self.varying.leading_zeros();
        let below = u16::MAX.checked_shr(u16::BITS - width).unwrap_or(0);
        let packed: u64 = self
            .segments
            .iter()
            .map(|&(n, any)| {
                n as u64 * u64::from(width - (any & below).trailing_zeros().min(width))
            })
            .sum();
        let packed = packed * ONE_BIT;
        let coded: u64 = self.counts.iter().map(|counts| all_entropy(counts)).sum();
        Side {
            width_max,
            base: self.first.unwrap_or(0) & !below,
            width,
            noise: coded >= packed - packed / SAVED_SHARE,
        }
    }
}

/// About the entropy that a sample would have if it were as even as all numbers are: that of a
/// sample is lower by about half a nat for each kind of value but one (Miller and Madow).
fn all_entropy(counts: &[u32]) -> u64 {
    const HALF_NAT: u64 = 739;
    let kinds = counts.iter().filter(|&&count| count > 0).count() as u64;
    entropy(counts) + kinds.saturating_sub(1) * HALF_NAT
}

/// What the pass makes of the numbers.
struct Split {
    exceptions: Vec<(usize, u16)>,
    /// For each side that is noise: what its segments end in.
    zeros: [Vec<u8>; 2],
    /// Of bins: the details of each block.
    details: Vec<[BitSink; 2]>,
}

/// Why the pass came to an end.
enum Failure {
    /// A value of this side is wider than in the sample.
    Wider(usize),
    /// Too many numbers lack a symbol.
    Rare,
}

/// Numbers of one format, with the loops for them.
struct Numbers<'a> {
    format: FloatFormat,
    raw: &'a [u8],
    kernels: Kernels,
}

impl Numbers<'_> {
    /// What to do with the numbers, by a sample. No plan if they are few, or many of them would
    /// lack a symbol.
    fn plan(&self, segments: Segments) -> Option<Plan<'_>> {
        let widths = self.widths().filter(|_| self.count() >= NUMBERS_MIN)?;
        let sample = self.sample(segments, widths);
        let values = exponents_of(&sample.exponents, self.format);
        let count = |value: u16| sample.exponents[usize::from(value)];
        let covered: usize = values.iter().map(|&value| count(value) as usize).sum();
        if (sample.numbers - covered) * RARE_SHARE > sample.numbers {
            return None;
        }
        let mut keys = [RARE; 512];
        for (symbol, &value) in (0u8..).zip(&values) {
            keys[usize::from(value)] = symbol;
        }
        let commonest = values.iter().max_by_key(|&&value| count(value));
        let commonest = commonest.copied().unwrap_or(0);
        let mut plan = Plan {
            numbers: self,
            segments,
            stand_in: keys[usize::from(commonest)],
            keys,
            values,
            bins: None,
            sides: [0, 1].map(|i| sample.sides[i].side(widths[i])),
        };
        let bytes = &plan.sides[0];
        if !sample.fine.is_empty() && bytes.noise && bytes.width == bytes.width_max {
            let cost = cost_of(&sample, &plan.values);
            if let Some(bins) = BinWidths::of(&sample.fine, cost, self.count()) {
                plan.take_bins(bins, commonest);
            }
        }
        Some(plan)
    }

    fn count(&self) -> usize {
        self.raw.len() / self.format.len()
    }

    /// The widths of bytes and words, 0 for what the format has not.
    const fn widths(&self) -> Option<[u32; 2]> {
        match self.format {
            FloatFormat::Bf16 => Some([7, 0]),
            FloatFormat::F16 => Some([0, 10]),
            FloatFormat::F32 => Some([7, 16]),
            FloatFormat::F64 => None,
        }
    }

    fn part(&self, range: std::ops::Range<usize>) -> &[u8] {
        &self.raw[range.start * self.format.len()..range.end * self.format.len()]
    }

    fn split(&self, raw: &[u8], keys: &Keys, bases: Bases, parts: Parts<'_>) -> Seen {
        match self.format {
            FloatFormat::Bf16 => (self.kernels.split_bf16)(raw.as_chunks().0, keys, bases, parts),
            FloatFormat::F16 => (self.kernels.split_f16)(raw.as_chunks().0, keys, bases, parts),
            _ => (self.kernels.split_f32)(raw.as_chunks().0, keys, bases, parts),
        }
    }

    /// The exponents of numbers of binary32 with two bits of the mantissa.
    fn fine_exponents(raw: &[u8]) -> impl Iterator<Item = u16> {
        let numbers = raw.as_chunks().0.iter();
        numbers.map(|&[_, _, low, high]| u16::from_le_bytes([low, high]) >> 5 & 0x3ff)
    }

    /// The plane `exponent` of some numbers.
    fn exponents<'a>(&self, raw: &'a [u8]) -> impl Iterator<Item = u16> + use<'a> {
        // Little-endian: the last two bytes have the exponent.
        let format = self.format;
        raw.chunks_exact(format.len()).map(move |number| {
            let x = match number {
                [.., low, high] => u16::from_le_bytes([*low, *high]),
                _ => 0,
            };
            match format {
                FloatFormat::F16 => x >> 9 & 0x3f,
                _ => x >> 6 & 0x1ff,
            }
        })
    }

    fn sample(&self, segments: Segments, [bytes_width, words_width]: [u32; 2]) -> Sample {
        let n = self.count();
        let step = (n / SAMPLE_LEN).clamp(1, SAMPLE_STEP_MAX);
        let fine = self.format == FloatFormat::F32;
        let mut sample = Sample {
            numbers: 0,
            exponents: vec![0; 512],
            fine: vec![0; if fine { 1 << bins::WIDTH } else { 0 }],
            sides: [SideSample::new(bytes_width), SideSample::new(words_width)],
        };
        let (mut symbols, mut bytes, mut words) = (Vec::new(), Vec::new(), Vec::new());
        for range in segments.ranges(n).skip(step / 2).step_by(step) {
            let len = range.len();
            let raw = self.part(range);
            sample.numbers += len;
            if fine {
                for exponent in Self::fine_exponents(raw) {
                    sample.fine[usize::from(exponent)] += 1;
                }
            } else {
                for exponent in self.exponents(raw) {
                    sample.exponents[usize::from(exponent)] += 1;
                }
            }
            symbols.resize(len, 0);
            bytes.resize(len, 0);
            words.resize(len, 0);
            let parts = Parts {
                symbols: &mut symbols,
                bytes: &mut bytes,
                words: &mut words,
            };
            self.split(raw, &[0; 512], Bases::default(), parts);
            if bytes_width > 0 {
                let widened: Vec<u16> = bytes.iter().copied().map(u16::from).collect();
                sample.sides[0].add(&widened);
            }
            if words_width > 0 {
                sample.sides[1].add(&words);
            }
        }
        let pairs = sample.fine.as_chunks::<2>().0;
        for (count, [even, odd]) in sample.exponents.iter_mut().zip(pairs) {
            *count = even + odd;
        }
        sample
    }
}

/// What a sample would cost with a symbol for each of these values, and a bit of the mantissa apart,
/// in bits times 2^10.
fn cost_of(sample: &Sample, values: &[u16]) -> u64 {
    let of = |&value: &u16| sample.exponents[usize::from(value)];
    let counts: Vec<u32> = values.iter().map(of).collect();
    let with: u64 = counts.iter().map(|&count| u64::from(count)).sum();
    let without = sample.numbers as u64 - with;
    entropy(&counts) + (with + EXCEPTION_BITS * without) * ONE_BIT
}

/// The symbols of the commonest exponents. Where there is room, neighbours follow that the sample
/// lacks: they cost nothing, and exceptions do.
fn exponents_of(counts: &[u32], format: FloatFormat) -> Vec<u16> {
    let mut values = frequent(counts);
    let highest = if format == FloatFormat::F16 {
        0x3f
    } else {
        0x1ff
    };
    let size = if values.len() <= Alphabet::Sixteen.size() {
        Alphabet::Sixteen.size()
    } else {
        SYMBOLS_MAX
    };
    while values.len() < size {
        // Small numbers are commoner than large ones, and so are the values below.
        let below = values.first().and_then(|&least| least.checked_sub(1));
        let above = values
            .last()
            .map(|&most| most + 1)
            .filter(|&v| v <= highest);
        match (below, above) {
            (Some(below), _) if values.len() % 4 != 3 || above.is_none() => values.insert(0, below),
            (_, Some(above)) => values.push(above),
            _ => break,
        }
    }
    values
}

impl PlaneEncoder<'_> {
    /// Appends the records of the planes of whole numbers in the layout that it gives, if they are
    /// what the pass is made for; else appends nothing.
    pub(crate) fn put_floats(
        &mut self,
        format: FloatFormat,
        raw: &[u8],
        rows: Rows,
        out: &mut Vec<u8>,
    ) -> Result<Option<Layout>> {
        let kernels = self.engine.kernels();
        let numbers = Numbers {
            format,
            raw,
            kernels,
        };
        let mut scratch = std::mem::take(self.scratch);
        let segments = Segments::of_rows(rows);
        let done = numbers
            .plan(segments)
            .and_then(|plan| plan.run(&mut scratch));
        let mut layout = None;
        if let Some((plan, split)) = done {
            let n = numbers.count();
            let symbols = Cow::Borrowed(&scratch.symbols[..n]);
            let counted = (segments, &scratch.counted[..]);
            let ranked = Ranked::of_parts(plan.values, symbols, split.exceptions, counted, self);
            layout = Some(if let Some((bins, _)) = plan.bins {
                out.push(Coder::Binned.code());
                put_sized_with(out, |out| self.put_bins(&bins, &ranked, split.details, out))?;
                Layout::Fine
            } else {
                out.push(Coder::Ranked.code());
                put_sized_with(out, |out| ranked.put(self, out))?;
                Layout::Float(format)
            });
            let [bytes, words] = &plan.sides;
            let [bytes_end, words_end] = split.zeros;
            let mut planes = 1..;
            for (side, zeros) in [(bytes, bytes_end), (words, words_end)] {
                if side.width_max == 0 {
                    continue;
                }
                let plane = planes.next().unwrap_or(1);
                if !side.noise {
                    let shape = Shape {
                        width: side.width_max,
                        rows,
                        sequential: false,
                    };
                    self.put(&format.split(raw)[plane], shape, out)?;
                } else if std::ptr::eq(side, bytes) {
                    let values = (&scratch.bytes[..n], kernels.pack_bytes);
                    self.put_side(side, (segments, zeros), values, out)?;
                } else {
                    let values = (&scratch.words[..n], kernels.pack_words);
                    self.put_side(side, (segments, zeros), values, out)?;
                }
            }
        }
        *self.scratch = scratch;
        Ok(layout)
    }

    /// Appends a plane of noise, packed.
    fn put_side<T>(
        &mut self,
        side: &Side,
        (segments, zeros): (Segments, Vec<u8>),
        (values, pack): (&[T], Pack<T>),
        out: &mut Vec<u8>,
    ) -> Result<()> {
        if side.width == 0 {
            put_record(Coder::Constant, &side.base.to_le_bytes(), out);
            return Ok(());
        }
        let first = zeros.first().copied().unwrap_or(0);
        let zeros = if zeros.iter().all(|&z| z == first) {
            Zeros::Uniform(u32::from(first))
        } else {
            Zeros::BySegment(segments, zeros)
        };
        out.push(Coder::Packed.code());
        put_sized_with(out, |out| {
            put_head(side.base, side.width, &zeros, self.packer, out)?;
            match &zeros {
                // What is packed grows in the nearest cache.
                Zeros::Uniform(zeros) => values
                    .chunks(STRIP)
                    .for_each(|values| pack(values, *zeros, side.width - zeros, out)),
                Zeros::BySegment(segments, each) => {
                    for (range, &zeros) in segments.ranges(values.len()).zip(each) {
                        let zeros = u32::from(zeros);
                        pack(&values[range], zeros, side.width - zeros, out);
                    }
                }
            }
            Ok(())
        })
    }
}

/// Room for `n` values, which may hold old ones.
fn grown<T: Clone + Default>(room: &mut Vec<T>, n: usize) -> &mut [T] {
    if room.len() < n {
        room.resize(n, T::default());
    }
    &mut room[..n]
}

/// Ranks and counts, segment by segment.
struct Plan<'a> {
    numbers: &'a Numbers<'a>,
    segments: Segments,
    /// The exponents that have a symbol, and the symbols of all.
    values: Vec<u16>,
    keys: Keys,
    /// What stands in the place of a number without a symbol.
    stand_in: u8,
    /// Bins, which take a bit from the mantissas: keys are codes then, and values the first of each.
    bins: Option<(BinWidths, Codes)>,
    sides: [Side; 2],
}

impl Plan<'_> {
    /// Has numbers coded by bins, where `commonest` is the commonest exponent.
    fn take_bins(&mut self, bins: BinWidths, commonest: u16) {
        let (keys, codes) = bins.codes();
        self.keys = keys;
        let codes_of_any = [commonest, bins.base()].map(|value| keys[usize::from(value)]);
        self.stand_in = codes_of_any
            .into_iter()
            .find(|&code| code != RARE)
            .unwrap_or(0);
        self.values = bins.starts();
        self.sides[0].width_max -= 1;
        self.sides[0].width -= 1;
        self.bins = Some((bins, codes));
    }

    /// Passes over the numbers, and once more for each side that the sample has shown wrong. No
    /// result if too many numbers lack a symbol.
    fn run(mut self, scratch: &mut Scratch) -> Option<(Self, Split)> {
        loop {
            match self.pass(scratch) {
                Ok(split) => return Some((self, split)),
                Err(Failure::Rare) => return None,
                Err(Failure::Wider(i)) => {
                    let side = &mut self.sides[i];
                    // What is only nearly constant may be worth more than packing.
                    side.noise &= side.width > 0;
                    (side.base, side.width) = (0, side.width_max);
                }
            }
        }
    }

    fn pass(&self, scratch: &mut Scratch) -> std::result::Result<Split, Failure> {
        let n = self.numbers.count();
        let mut split = Split {
            exceptions: Vec::new(),
            zeros: [Vec::new(), Vec::new()],
            details: Vec::new(),
        };
        let n_blocks = if self.bins.is_some() { n_blocks(n) } else { 0 };
        split.details.resize_with(n_blocks, Default::default);
        let [has_bytes, has_words] = [0, 1].map(|i| self.sides[i].width_max > 0);
        let (bytes_len, words_len) = (if has_bytes { n } else { 0 }, if has_words { n } else { 0 });
        let symbols = grown(&mut scratch.symbols, n);
        let bytes = grown(&mut scratch.bytes, bytes_len);
        let words = grown(&mut scratch.words, words_len);
        scratch.counted.clear();
        let bases = Bases {
            bytes: self.sides[0].base.to_le_bytes()[0],
            words: self.sides[1].base,
        };
        for range in self.segments.ranges(n) {
            let raw = self.numbers.part(range.clone());
            let symbols = &mut symbols[range.clone()];
            let parts = Parts {
                symbols,
                bytes: bytes.get_mut(range.clone()).unwrap_or_default(),
                words: words.get_mut(range.clone()).unwrap_or_default(),
            };
            let seen = self.numbers.split(raw, &self.keys, bases, parts);
            if seen.rare {
                self.except(range.start, raw, symbols, &mut split.exceptions);
                if split.exceptions.len() * RARE_SHARE > 2 * n {
                    return Err(Failure::Rare);
                }
            }
            if let Some((_, codes)) = &self.bins {
                let bytes = &mut bytes[range.clone()];
                self.coarsen(codes, range.start, (symbols, bytes), &mut split.details);
            }
            scratch.counted.push((self.numbers.kernels.count)(symbols));
            let whole = range.end < n;
            let any = if self.bins.is_some() {
                seen.bytes & (LOWER - 1) | seen.bytes >> 1 & LOWER
            } else {
                seen.bytes
            };
            self.end_in(0, u16::from(any), &mut split.zeros[0], whole)?;
            self.end_in(1, seen.words, &mut split.zeros[1], whole)?;
        }
        Ok(split)
    }

    /// Makes symbols of the codes of a segment that begins at `start`, block by block.
    fn coarsen(
        &self,
        codes: &Codes,
        start: usize,
        (symbols, bytes): (&mut [u8], &mut [u8]),
        details: &mut [[BitSink; 2]],
    ) {
        let last = details.len() - 1;
        let (mut at, mut symbols, mut bytes) = (start, symbols, bytes);
        while !symbols.is_empty() {
            let block = (at / BLOCK_LEN).min(last);
            let left = if block < last {
                (block + 1) * BLOCK_LEN - at
            } else {
                symbols.len()
            };
            let len = left.min(symbols.len());
            let (now, rest) = symbols.split_at_mut(len);
            let (bytes_now, bytes_rest) = bytes.split_at_mut(len);
            (self.numbers.kernels.coarsen)(codes, now, bytes_now, &mut details[block]);
            (at, symbols, bytes) = (at + len, rest, bytes_rest);
        }
    }

    /// Takes numbers without a symbol out of the symbols of a segment that begins at `start`.
    fn except(
        &self,
        start: usize,
        raw: &[u8],
        symbols: &mut [u8],
        exceptions: &mut Vec<(usize, u16)>,
    ) {
        let len = self.numbers.format.len();
        for (at, part) in symbols.chunks_mut(RARE_STEP).enumerate() {
            // Without a branch, so that it becomes vectors.
            let any = part
                .iter()
                .fold(false, |any, &symbol| any | (symbol == RARE));
            if !any {
                continue;
            }
            let first = at * RARE_STEP;
            let raw = &raw[first * len..];
            let mut note = |exponents: &mut dyn Iterator<Item = u16>| {
                for (i, (symbol, exponent)) in part.iter_mut().zip(exponents).enumerate() {
                    if *symbol == RARE {
                        *symbol = self.stand_in;
                        exceptions.push((start + first + i, exponent));
                    }
                }
            };
            if self.bins.is_some() {
                note(&mut Numbers::fine_exponents(raw));
            } else {
                note(&mut self.numbers.exponents(raw));
            }
        }
    }

    /// Notes the zeros that a segment ends in, whose values have the bits `any` beside the base of
    /// the side, if the side is noise.
    fn end_in(
        &self,
        i: usize,
        any: u16,
        zeros: &mut Vec<u8>,
        whole: bool,
    ) -> std::result::Result<(), Failure> {
        let side = &self.sides[i];
        if !side.noise || side.width_max == 0 {
            return Ok(());
        }
        if u32::from(any) >> side.width != 0 {
            return Err(Failure::Wider(i));
        }
        let mut found = any.trailing_zeros().min(side.width);
        if !whole {
            // The last segment may be short, and have more zeros than the others by chance.
            let least = zeros
                .iter()
                .fold(u32::MAX, |least, &z| least.min(u32::from(z)));
            found = found.min(least);
        }
        zeros.push(found.to_le_bytes()[0]);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
