//! Floats in one pass: a sample shows what the planes are like, and then the numbers are split,
//! ranked and counted segment by segment.
//!
//! What the sample cannot promise, the pass notices; then the planes are coded one by one.

use std::borrow::Cow;

use super::packed::{Zeros, put_head};
use super::ranked::{Ranked, frequent};
use super::segments::{Rows, Segments};
use super::{Coder, PlaneEncoder, Shape, put_record};
use crate::cluster::Histogram;
use crate::entropy::{Alphabet, SYMBOLS_MAX};
use crate::error::Result;
use crate::input::put_sized_with;
use crate::kernel::{Bases, Kernels, Keys, Parts, RARE, Seen};
use crate::layout::FloatFormat;
use crate::log2::{ONE_BIT, entropy};

/// Fewer numbers are not worth a sample.
const NUMBERS_MIN: usize = 4096;
/// Numbers of a sample, where there are so many.
const SAMPLE_LEN: usize = 1 << 14;
/// A sample has at least one segment of this many.
const SAMPLE_STEP_MAX: usize = 32;
/// One number of the sample in this many may lack a symbol, and twice as many of all.
const RARE_SHARE: usize = 50;
/// A plane is packed unless its entropy, by the sample, saves one part in this many.
const SAVED_SHARE: u64 = 256;

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
        Some(Plan {
            numbers: self,
            segments,
            stand_in: commonest.map_or(0, |&value| keys[usize::from(value)]),
            keys,
            values,
            sides: [0, 1].map(|i| sample.sides[i].side(widths[i])),
        })
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
        let mut sample = Sample {
            numbers: 0,
            exponents: vec![0; 512],
            sides: [SideSample::new(bytes_width), SideSample::new(words_width)],
        };
        let (mut symbols, mut bytes, mut words) = (Vec::new(), Vec::new(), Vec::new());
        for range in segments.ranges(n).skip(step / 2).step_by(step) {
            let len = range.len();
            let raw = self.part(range);
            sample.numbers += len;
            for exponent in self.exponents(raw) {
                sample.exponents[usize::from(exponent)] += 1;
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
        sample
    }
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
    /// Appends the records of the planes of whole numbers, if they are what the pass is made for;
    /// else appends nothing.
    pub(crate) fn put_floats(
        &mut self,
        format: FloatFormat,
        raw: &[u8],
        rows: Rows,
        out: &mut Vec<u8>,
    ) -> Result<bool> {
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
        let fits = done.is_some();
        if let Some((plan, split)) = done {
            let n = numbers.count();
            let symbols = Cow::Borrowed(&scratch.symbols[..n]);
            let counted = (segments, &scratch.counted[..]);
            let ranked = Ranked::of_parts(plan.values, symbols, split.exceptions, counted, self);
            out.push(Coder::Ranked.code());
            put_sized_with(out, |out| ranked.put(self, out))?;
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
        Ok(fits)
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
                Zeros::Uniform(zeros) => pack(values, *zeros, side.width - zeros, out),
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
    sides: [Side; 2],
}

impl Plan<'_> {
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
        };
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
            scratch.counted.push((self.numbers.kernels.count)(symbols));
            let whole = range.end < n;
            self.end_in(0, u16::from(seen.bytes), &mut split.zeros[0], whole)?;
            self.end_in(1, seen.words, &mut split.zeros[1], whole)?;
        }
        Ok(split)
    }

    /// Takes numbers without a symbol out of the symbols of a segment that begins at `start`.
    fn except(
        &self,
        start: usize,
        raw: &[u8],
        symbols: &mut [u8],
        exceptions: &mut Vec<(usize, u16)>,
    ) {
        let exponents = self.numbers.exponents(raw);
        for (i, (symbol, exponent)) in symbols.iter_mut().zip(exponents).enumerate() {
            if *symbol == RARE {
                *symbol = self.stand_in;
                exceptions.push((start + i, exponent));
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
