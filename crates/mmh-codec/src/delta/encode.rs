//! Writing deltas: a sample tells whether one pays, then the base is compared with everything.

use std::borrow::Cow;

use super::bits::BitWriter;
use super::fit::Updates;
use super::forecast::Forecast;
use super::magnitude::{SymbolTable, half_octave};
use super::number::{self, Number};
use super::replay::Replay;
use super::rows::Rows;
use super::scheme::{EXPECTATIONS, Scheme};
use super::tables::Tables;
use crate::entropy::Classes;
use crate::error::Result;
use crate::input::put_sized;
use crate::kernel::{Kernels, NEGATIVE, STEPS_REACH};
use crate::layout::{FloatFormat, Layout};
use crate::log2::{LOG_BITS, ONE_BIT, entropy, log2};
use crate::plane::PlaneEncoder;
use crate::settings::Hint;

/// Numbers that a sample has about.
const SAMPLE: usize = 16 << 10;
/// Numbers that lie together in the sample.
const SAMPLE_RUN: usize = 256;
/// The expectation, in half octaves, where the mean difference is one step.
const ONE_STEP: i16 = 6;
/// Appends the body of `raw` given `base`, of the same length. Gives false, and appends nothing,
/// where a sample says that it does not pay.
pub(crate) fn put_delta(
    encoder: &mut PlaneEncoder<'_>,
    (layout, format): (Layout, FloatFormat),
    (raw, base): (&[u8], &[u8]),
    hint: &Hint,
    out: &mut Vec<u8>,
) -> Result<bool> {
    match format {
        FloatFormat::Bf16 => put::<number::Bf16>(encoder, layout, (raw, base), hint, out),
        FloatFormat::F16 => put::<number::F16>(encoder, layout, (raw, base), hint, out),
        FloatFormat::F32 => put::<number::F32>(encoder, layout, (raw, base), hint, out),
        FloatFormat::F64 => Ok(false),
    }
}

fn put<N: Number>(
    encoder: &mut PlaneEncoder<'_>,
    layout: Layout,
    (raw, base): (&[u8], &[u8]),
    hint: &Hint,
    out: &mut Vec<u8>,
) -> Result<bool> {
    let n = raw.len() / N::LEN;
    let (units, tail) = raw.split_at(n * N::LEN);
    let sample = sample::<N>(units, base);
    let Some(replay) = replay_that_pays::<N>(&sample, (units, base)) else {
        return Ok(false);
    };
    let kernels = encoder.engine.kernels();
    let mut predicted = Cow::Borrowed(&base[..units.len()]);
    if replay.is_some() {
        N::predict(predicted.to_mut(), replay, &kernels);
    }
    let rows = Rows::of(hint.row_len, hint.first);
    let changed = Changed::of::<N>((units, base, &predicted), rows, &kernels);
    let mut forecast = changed.forecast(rows, &kernels);
    let coded = Coded::of::<N>(&changed.differences, base, &mut forecast, &kernels);
    out.push(layout.code());
    out.extend_from_slice(tail);
    Replay::put(replay, out);
    forecast.put(encoder, out)?;
    if forecast.has_changes() {
        coded.tables.put(&forecast, out);
        let set = coded.tables.encode_set();
        let (mut classes, mut symbols) = (&coded.classes[..], &coded.symbols[..]);
        for (len, fields) in &coded.blocks {
            let (of_block, later) = classes.split_at(*len);
            classes = later;
            let (block, later) = symbols.split_at(*len);
            symbols = later;
            let mut bytes = Vec::new();
            let classes = Classes::Symbols(of_block);
            encoder.engine.encode(&set, classes, block, &mut bytes)?;
            put_sized(out, &bytes);
            put_sized(out, fields);
        }
    }
    Ok(true)
}

/// Old and new numbers from places all over the content.
fn sample<N: Number>(units: &[u8], base: &[u8]) -> Vec<(u32, u32)> {
    let runs = (units.len() / N::LEN).div_ceil(SAMPLE_RUN);
    let step = (runs * SAMPLE_RUN / SAMPLE).max(1);
    let run = SAMPLE_RUN * N::LEN;
    let pairs = base.chunks(run).zip(units.chunks(run)).step_by(step);
    pairs
        .flat_map(|(old, new)| N::bits(old).zip(N::bits(new)))
        .collect()
}

/// The replay that makes differences cheapest, or none of it; `None` where also these do not take
/// clearly fewer bits than the numbers themselves.
fn replay_that_pays<N: Number>(
    sample: &[(u32, u32)],
    (units, base): (&[u8], &[u8]),
) -> Option<Option<Replay>> {
    let pairs = || N::bits(base).zip(N::bits(units));
    let cost = |replay| cost::<N>(sample, replay);
    let mut best = (cost(None), None);
    if N::BITS == 32 {
        for replay in [Replay::find(sample), Replay::below(pairs())] {
            if replay.is_some() && cost(replay) < best.0 {
                best = (cost(replay), replay);
            }
        }
    }
    (best.0 < cost_alone::<N>(sample) / 16 * 15).then_some(best.1)
}

fn difference<N: Number>(old: u32, new: u32, replay: Option<Replay>) -> i32 {
    N::difference(new, replay.map_or(old, |replay| replay.predict(old)))
}

/// About what the differences of a sample cost, in the context of their exponent.
fn cost<N: Number>(sample: &[(u32, u32)], replay: Option<Replay>) -> u64 {
    let mut counts = [[0u32; 64]; 32];
    let (mut bits, mut signs) = (0, [0u32; 2]);
    for &(old, new) in sample {
        let difference = difference::<N>(old, new, replay);
        let half = half_octave(difference.unsigned_abs());
        let context = N::exponent(old) & 31;
        counts[usize::try_from(context).unwrap_or(0)][usize::from(half)] += 1;
        bits += u64::from(half / 2).saturating_sub(1);
        signs[usize::from(difference < 0)] += u32::from(half > 0);
    }
    let symbols: u64 = counts.iter().map(|counts| entropy(counts)).sum();
    symbols + bits * ONE_BIT + entropy(&signs)
}

/// About what the numbers of a sample cost by themselves.
fn cost_alone<N: Number>(sample: &[(u32, u32)]) -> u64 {
    let below = if N::BITS == 32 { 22 } else { N::BITS - 9 };
    let (mut counts, mut any) = (vec![0u32; 512], 0);
    for &(_, new) in sample {
        counts[(new >> below & 511) as usize] += 1;
        any |= new;
    }
    let low = u64::from(below.saturating_sub(any.trailing_zeros()));
    entropy(&counts) + sample.len() as u64 * low * ONE_BIT
}

/// What the rows that are not as predicted have.
struct Changed {
    /// Differences of their numbers.
    differences: Vec<i32>,
    /// For each row of all, how far its updates go if it is one of them.
    sizes: Vec<Option<i32>>,
    updates: Updates,
}

impl Changed {
    fn of<N: Number>(
        (units, base, predicted): (&[u8], &[u8], &[u8]),
        rows: Rows,
        kernels: &Kernels,
    ) -> Self {
        let n = units.len() / N::LEN;
        let mut differences = Vec::with_capacity(n);
        let mut exponents = vec![0; rows.len()];
        let mut updates = Updates {
            entries: Vec::with_capacity(n + rows.len()),
            len: rows.len(),
        };
        let size = |range: std::ops::Range<usize>| {
            let bytes = range.start * N::LEN..range.end * N::LEN;
            let (new, predicted) = (&units[bytes.clone()], &predicted[bytes.clone()]);
            if new == predicted {
                return None;
            }
            let exponents = &mut exponents[..range.len()];
            let start = differences.len();
            differences.resize(start + range.len(), 0);
            let differences = &mut differences[start..];
            N::compare(new, predicted, &base[bytes], differences, exponents);
            let size = size_of_update(differences, exponents, kernels);
            let column = rows.column(range.start);
            let start = updates.entries.len();
            updates.entries.resize(start + rows.len(), 0);
            let entries = &mut updates.entries[start + column..];
            (kernels.relate_updates)(differences, exponents, size, entries);
            Some(size)
        };
        let sizes = rows.ranges(n).map(size).collect();
        Self {
            differences,
            sizes,
            updates,
        }
    }

    fn forecast(&self, rows: Rows, kernels: &Kernels) -> Forecast {
        let least = self.sizes.iter().flatten().min().copied().unwrap_or(0);
        let above = |size: i32| (size - least + 1).clamp(1, 255).to_le_bytes()[0];
        Forecast {
            rows,
            sizes: self
                .sizes
                .iter()
                .map(|size| size.map_or(0, above))
                .collect(),
            offset: i16::try_from(least - 1).unwrap_or(0) + ONE_STEP,
            scheme: Scheme::EACH,
            directions: self.updates.directions(kernels),
        }
    }
}

/// The logarithm of a row's mean update, in half octaves: of differences times their steps.
fn size_of_update(differences: &[i32], exponents: &[i32], kernels: &Kernels) -> i32 {
    let least = exponents.iter().copied().max().unwrap_or(0) - STEPS_REACH;
    let sum = (kernels.sum_updates)(differences, exponents, least);
    let mean = i64::from(log2(sum)) - i64::from(log2(differences.len() as u64));
    let halves = mean >> (LOG_BITS - 1);
    i32::try_from(halves).unwrap_or(0) + 2 * least
}

/// Everything that follows the forecast.
struct Coded {
    tables: Tables,
    /// What is expected of each number, and then its class.
    classes: Vec<u8>,
    symbols: Vec<u8>,
    /// Numbers and fields of each block.
    blocks: Vec<(usize, Vec<u8>)>,
}

/// The bits of what is expected of a number: the expectation itself and the level. The sign is
/// [`NEGATIVE`].
const EXPECTED: u8 = 0x3f;
const LEVEL: u8 = 0x40;

impl Coded {
    /// Codes differences, and chooses the scheme of the forecast.
    fn of<N: Number>(
        differences: &[i32],
        base: &[u8],
        forecast: &mut Forecast,
        kernels: &Kernels,
    ) -> Self {
        let spans = forecast.spans(base.len() / N::LEN);
        let (mut expected, mut lens) = (Vec::with_capacity(differences.len()), Vec::new());
        let (mut classes, mut shifts) = (Vec::new(), Vec::new());
        for span in spans.iter().filter(|_| forecast.has_changes()) {
            let n = forecast.expect::<N>(span, base, kernels, (&mut classes, &mut shifts));
            let both = classes[..n].iter().zip(&shifts);
            expected.extend(both.map(|(class, shift)| class | shift & NEGATIVE));
            lens.push(n);
        }
        let mut seen = Box::new([[[0; EXPECTATIONS]; EXPECTATIONS]; 2]);
        let mut signs = [[0u32; 2]; 2];
        for (&difference, &expected) in differences.iter().zip(&expected) {
            let half = half_octave(difference.unsigned_abs());
            let unexpected = (difference < 0) != (expected & NEGATIVE > 0);
            let level = usize::from(expected & LEVEL > 0);
            seen[level][usize::from(expected & EXPECTED)][usize::from(half & 63)] += 1;
            signs[level][usize::from(unexpected)] += u32::from(half > 0);
        }
        let levels = forecast.directions.levels();
        let (scheme, magnitudes) = Scheme::of(&seen[..levels], N::BITS);
        forecast.scheme = scheme;
        let mut coded = Self {
            tables: Tables::of(&magnitudes, scheme.n_classes, &signs[..levels]),
            classes: expected,
            symbols: vec![0; differences.len()],
            blocks: Vec::with_capacity(lens.len()),
        };
        coded.code(differences, &lens, scheme, N::BITS);
        coded
    }

    /// Symbols and fields; what was expected becomes classes.
    fn code(&mut self, differences: &[i32], lens: &[usize], scheme: Scheme, bits: u32) {
        let each: [u8; EXPECTATIONS] =
            std::array::from_fn(|expected| scheme.class(u8::try_from(expected).unwrap_or(u8::MAX)));
        let low: [u8; EXPECTATIONS] =
            std::array::from_fn(|expected| scheme.low(u8::try_from(expected).unwrap_or(u8::MAX)));
        let symbols = SymbolTable::new(bits);
        let mut fields = BitWriter::default();
        let targets = self.classes.iter_mut().zip(&mut self.symbols);
        let mut rest = differences.iter().zip(targets);
        for &len in lens {
            for (&difference, (class, symbol)) in rest.by_ref().take(len) {
                let expected = *class;
                let index = usize::from(expected & EXPECTED);
                let shift = low[index] | expected & NEGATIVE;
                let coded = symbols.code(difference, shift);
                fields.put(u64::from(coded.field), coded.width);
                *symbol = coded.symbol;
                let level = (expected & LEVEL) / LEVEL * scheme.n_classes;
                *class = each[index] + level;
            }
            self.blocks.push((len, fields.take()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use number::{Bf16, F32};

    fn words(numbers: &[u16]) -> Vec<u8> {
        numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect()
    }

    #[test]
    fn the_size_of_a_row_is_that_of_its_mean_update() {
        let size = |differences: &[i32], exponents: &[i32]| {
            size_of_update(differences, exponents, &Kernels::PORTABLE)
        };
        // 1 step of exponent 127, in half octaves; 4 of them; and the same by smaller steps.
        assert_eq!(size(&[1, -1], &[127, 127]), 254);
        assert_eq!(size(&[4, -4], &[127, 127]), 258);
        assert_eq!(size(&[16, 4], &[125, 127]), 258);
        // A quarter of the numbers moved by a step: two octaves less.
        assert_eq!(size(&[1, 0, 0, 0], &[127; 4]), 250);
        // What is far below the largest exponent does not count.
        assert_eq!(size(&[1, 1000], &[127, 20]), 252);
    }

    #[test]
    fn rows_that_did_not_change_have_no_size_and_no_updates() {
        let base = words(&[0x3f80; 4 * 64]);
        let mut new = base.clone();
        new[2 * 64 * 2] ^= 1;
        let rows = Rows::of(64, 10);
        let changed = Changed::of::<Bf16>((&new, &base, &base), rows, &Kernels::PORTABLE);
        let at: Vec<usize> = (0..5).filter(|&i| changed.sizes[i].is_some()).collect();
        assert_eq!((at, changed.sizes.len()), (vec![2], 5));
        assert_eq!(changed.differences.len(), 64);
        assert_eq!(changed.differences[128 - 118], 1);
        // Its only update is far above the mean.
        assert_eq!(changed.updates.entries.len(), 64);
        assert_eq!(changed.updates.entries[10], 8);
        let forecast = changed.forecast(rows, &Kernels::PORTABLE);
        assert_eq!(forecast.sizes, [0, 0, 1, 0, 0]);
    }

    /// A delta costs less than the numbers by which it is more alike.
    #[test]
    fn costs_grow_with_the_differences() {
        let pairs = |spread: u32| -> Vec<(u32, u32)> {
            let old = |i: u32| 0x3d00_0000 + i * 7919 % 50_000 * 300;
            let pair = |i| (old(i), old(i) + i * 31 % spread);
            (0..4000).map(pair).collect()
        };
        let costs = [1, 8, 300, 1 << 20].map(|spread| cost::<F32>(&pairs(spread), None));
        assert!(costs.is_sorted(), "{costs:?}");
        assert!(costs[3] < cost_alone::<F32>(&pairs(1 << 20)));
        let apart: Vec<(u32, u32)> = pairs(1).into_iter().map(|(old, _)| (old, !old)).collect();
        assert!(cost::<F32>(&apart, None) > cost_alone::<F32>(&apart) / 16 * 15);
    }

    #[test]
    fn symbols_and_classes_are_as_many_as_the_numbers() {
        let numbers: Vec<u16> = (0..5000u16).map(|i| 0x3c00 + i % 1024).collect();
        let base = words(&numbers);
        let differences: Vec<i32> = (0..5000)
            .map(|i| i % 11 - 5 + i % 977 / 970 * 3000)
            .collect();
        let mut forecast = Forecast {
            rows: Rows::of(100, 0),
            sizes: vec![1; 50],
            offset: 252,
            scheme: Scheme::EACH,
            directions: super::super::directions::Directions::default(),
        };
        let coded = Coded::of::<Bf16>(&differences, &base, &mut forecast, &Kernels::PORTABLE);
        assert_eq!((coded.classes.len(), coded.symbols.len()), (5000, 5000));
        assert!(
            coded
                .classes
                .iter()
                .all(|&class| class < forecast.scheme.n_classes)
        );
        assert_eq!(coded.blocks.len(), 1);
        for (&difference, &symbol) in differences.iter().zip(&coded.symbols) {
            assert_eq!(difference == 0, symbol == 0);
        }
    }
}
