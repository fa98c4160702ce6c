//! Writing deltas: a sample tells whether one pays, then the base is compared with everything.

use super::bits::BitWriter;
use super::magnitude::{self, Magnitudes, half_octave};
use super::number::{self, Number};
use super::replay::Replay;
use super::rows::Rows;
use super::{CLASSES, Shape};
use crate::entropy::{Alphabet, Levels, SYMBOLS_MAX};
use crate::error::Result;
use crate::input::put_sized;
use crate::layout::{FloatFormat, Layout};
use crate::log2::{LOG_BITS, ONE_BIT, entropy, log2};
use crate::plane::{PlaneEncoder, put_blob, put_in_context};
use crate::settings::Hint;

/// Numbers that a sample has about.
const SAMPLE: usize = 16 << 10;
/// Numbers that lie together in the sample.
const SAMPLE_RUN: usize = 256;
/// A class table costs about this many bits.
const TABLE_BITS: u64 = 120;

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
    let mut predicted = base[..units.len()].to_vec();
    N::predict(&mut predicted, replay, &encoder.engine.kernels());
    let rows = Rows::of(hint.row_len, hint.first);
    let plan = Plan::of::<N>(units, base, &predicted, rows);
    out.push(layout.code());
    out.extend_from_slice(tail);
    Replay::put(replay, out);
    out.push(plan.magnitudes.low());
    rows.put(out);
    put_blob(&plan.values, encoder.packer, out)?;
    out.extend_from_slice(&plan.first.to_le_bytes());
    plan.shape.put(out);
    if !plan.symbols.is_empty() {
        let mut coded = Vec::new();
        let levels = (&plan.levels[..], Alphabet::ThirtyTwo);
        put_in_context(
            encoder.engine,
            &plan.symbols,
            &plan.classes,
            levels,
            &mut coded,
        )?;
        put_sized(out, &coded);
    }
    out.extend_from_slice(&plan.bits);
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
    let cost = |replay| {
        // All are asked: a sample would miss the few negative ones that make all have a sign.
        let signed = pairs().any(|(old, new)| difference::<N>(old, new, replay) < 0);
        cost::<N>(sample, replay, signed)
    };
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
fn cost<N: Number>(sample: &[(u32, u32)], replay: Option<Replay>, signed: bool) -> u64 {
    let mut counts = [[0u32; 64]; 32];
    let (mut bits, mut changed) = (0, 0);
    for &(old, new) in sample {
        let half = half_octave(difference::<N>(old, new, replay).unsigned_abs());
        let context = N::exponent(old) & 31;
        counts[usize::try_from(context).unwrap_or(0)][usize::from(half)] += 1;
        bits += u64::from(half / 2).saturating_sub(1);
        changed += u64::from(half > 0);
    }
    let symbols: u64 = counts.iter().map(|counts| entropy(counts)).sum();
    let signs = if signed { changed } else { 0 };
    symbols + (bits + signs) * ONE_BIT
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

/// Everything of a delta but its frame.
struct Plan {
    magnitudes: Magnitudes,
    first: i16,
    /// For each row, 0 where it is as predicted, else its size above `first`.
    values: Vec<u8>,
    shape: Shape,
    levels: Vec<Levels>,
    classes: Vec<u8>,
    symbols: Vec<u8>,
    bits: Vec<u8>,
}

/// Differences and the exponents of the base, of the rows that are not as predicted.
struct Changed {
    differences: Vec<i32>,
    exponents: Vec<i32>,
    /// For each row, if it is one of them, how far its update goes and how many numbers it has.
    sizes: Vec<Option<(i32, usize)>>,
}

impl Changed {
    fn of<N: Number>(units: &[u8], base: &[u8], predicted: &[u8], rows: Rows) -> Self {
        let n = units.len() / N::LEN;
        let (mut differences, mut exponents) = (vec![0; n], vec![0; n]);
        let mut at = 0;
        let size = |range: std::ops::Range<usize>| {
            let bytes = range.start * N::LEN..range.end * N::LEN;
            let (new, predicted) = (&units[bytes.clone()], &predicted[bytes.clone()]);
            if new == predicted {
                return None;
            }
            let here = at..at + range.len();
            at = here.end;
            let (differences, exponents) = (&mut differences[here.clone()], &mut exponents[here]);
            N::compare(new, predicted, &base[bytes], differences, exponents);
            Some((size_of_update(differences, exponents), range.len()))
        };
        let sizes = rows.ranges(n).map(size).collect();
        differences.truncate(at);
        exponents.truncate(at);
        Self {
            differences,
            exponents,
            sizes,
        }
    }

    /// What brings classes around the middle of all.
    fn shift(&self) -> i32 {
        let sizes = self.sizes.iter().flatten();
        let sizes: i64 = sizes.map(|&(size, n)| i64::from(size) * n as i64).sum();
        // Of a part no sum is beyond 32 bits.
        let parts = self.exponents.chunks(1 << 16);
        let exponents: i64 = parts.map(|part| i64::from(part.iter().sum::<i32>())).sum();
        let n = self.exponents.len().max(1) as i64;
        CLASSES / 2 - i32::try_from((sizes - 2 * exponents) / n).unwrap_or(0)
    }
}

impl Plan {
    fn of<N: Number>(units: &[u8], base: &[u8], predicted: &[u8], rows: Rows) -> Self {
        let changed = Changed::of::<N>(units, base, predicted, rows);
        let shift = changed.shift();
        let sizes = changed.sizes.iter().flatten().map(|&(size, _)| size);
        let first = i16::try_from(sizes.min().unwrap_or(0) + shift - 1).unwrap_or(0);
        let value = |size: &Option<(i32, usize)>| {
            size.map_or(0, |(size, _)| {
                let above = size + shift - i32::from(first);
                above.clamp(1, 255).to_le_bytes()[0]
            })
        };
        let low = if N::BITS == 16 {
            0
        } else {
            window(&changed.differences)
        };
        let mut plan = Self {
            magnitudes: Magnitudes::new(low, N::BITS),
            first,
            values: changed.sizes.iter().map(value).collect(),
            shape: Shape {
                merged: 0,
                signed: changed.differences.iter().any(|&d| d < 0),
            },
            levels: Vec::new(),
            classes: Vec::new(),
            symbols: Vec::new(),
            bits: Vec::new(),
        };
        plan.code(&changed);
        plan
    }

    /// Symbols, their classes, and the bits below them.
    fn code(&mut self, changed: &Changed) {
        let mut bits = BitWriter::default();
        let moves = self.magnitudes.moves(self.shape.signed);
        let mut counts = vec![[0u32; SYMBOLS_MAX]; 32];
        let n = changed.differences.len();
        (self.symbols, self.classes) = (vec![0; n], vec![0; n]);
        let mut end = 0;
        for (row, &value) in changed.sizes.iter().zip(&self.values) {
            let size = i32::from(self.first) + i32::from(value);
            let start = end;
            end += row.map_or(0, |(_, n)| n);
            let differences = &changed.differences[start..end];
            let exponents = &changed.exponents[start..end];
            let symbols = &mut self.symbols[start..end];
            let classes = &mut self.classes[start..end];
            for (class, &exponent) in classes.iter_mut().zip(exponents) {
                *class = number::class(size, exponent);
            }
            for (symbol, &difference) in symbols.iter_mut().zip(differences) {
                *symbol = self.magnitudes.symbol(difference.unsigned_abs());
                number::put_bits(difference, *symbol, &moves, &mut bits);
            }
            for (class, symbol) in classes.iter().zip(symbols) {
                counts[usize::from(class & 31)][usize::from(*symbol & 31)] += 1;
            }
        }
        self.bits = bits.finish();
        let (merged, counts) = merge(counts);
        self.shape.merged = merged;
        self.classes.iter_mut().for_each(|class| *class >>= merged);
        self.levels = counts.iter().map(Levels::from_counts).collect();
    }
}

/// Halves the number of classes as long as that makes symbols and tables shorter.
fn merge(counts: Vec<[u32; SYMBOLS_MAX]>) -> (u8, Vec<[u32; SYMBOLS_MAX]>) {
    let cost = |counts: &[[u32; SYMBOLS_MAX]]| -> u64 {
        let used = counts.iter().filter(|c| c.iter().any(|&n| n > 0)).count() as u64;
        counts.iter().map(|c| entropy(c)).sum::<u64>() + used * TABLE_BITS * ONE_BIT
    };
    let (mut merged, mut best) = (0, counts);
    while best.len() > 1 {
        let pairs: Vec<[u32; SYMBOLS_MAX]> = best
            .chunks(2)
            .map(|pair| std::array::from_fn(|i| pair.iter().map(|c| c[i]).sum()))
            .collect();
        if cost(&pairs) >= cost(&best) {
            break;
        }
        (merged, best) = (merged + 1, pairs);
    }
    (merged, best)
}

/// The logarithm of a row's mean update, in half octaves: of differences times their steps.
fn size_of_update(differences: &[i32], exponents: &[i32]) -> i32 {
    /// Steps further below the largest do not count.
    const REACH: i32 = 20;
    let top = exponents.iter().copied().max().unwrap_or(0) - REACH;
    let scaled = |(&difference, &exponent): (&i32, &i32)| {
        let magnitude = u64::from(difference.unsigned_abs());
        match exponent - top {
            up @ 0.. => magnitude << up.min(REACH),
            down => magnitude >> (-down).min(63),
        }
    };
    let sum: u64 = differences.iter().zip(exponents).map(scaled).sum();
    let mean = i64::from(log2(sum)) - i64::from(log2(differences.len() as u64));
    let halves = mean >> (LOG_BITS - 1);
    i32::try_from(halves).unwrap_or(0) + 2 * top
}

/// Where the window of magnitudes begins that takes the fewest bits.
fn window(differences: &[i32]) -> u8 {
    let mut halves = [0u32; 64];
    for difference in differences {
        halves[usize::from(half_octave(difference.unsigned_abs()))] += 1;
    }
    let cost = |low: &u8| {
        let moves = Magnitudes::new(*low, 32).moves(false);
        let (mut symbols, mut bits) = ([0u32; SYMBOLS_MAX], 0);
        for (half, &count) in (0u8..).zip(&halves) {
            let symbol = usize::from(magnitude::symbol(half, *low));
            symbols[symbol] += count;
            bits += u64::from(count) * u64::from(moves.widths[symbol]);
        }
        entropy(&symbols) + bits * ONE_BIT
    };
    (0..=33).min_by_key(cost).unwrap_or(0)
}
