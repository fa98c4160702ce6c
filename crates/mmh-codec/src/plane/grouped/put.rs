//! The encoder of grouped planes.

use super::super::rans::alphabet_of;
use super::super::segments::{n_parts, parts};
use super::super::{PlaneEncoder, Shape};
use super::units::{Arrangement, Extremes, blend, masks};
use super::{EXTREMES, KEYS, SYMBOL_BITS, units_of_part};
use crate::cluster::{Effort, SEGMENT_LEN_MAX, cost};
use crate::entropy::{
    Alphabet, Classes, EncodeSet, LANES, Levels, PROB_BITS, STATES_LEN, SYMBOLS_MAX, put_tables,
};
use crate::error::Result;
use crate::input::{put_sized, put_varint};
use crate::kernel::Kernels;
use crate::layout::Context;
use crate::log2::{LOG_BITS, ONE_BIT, entropy, log2};
use crate::plane::blob::put_blob;

/// Fewer values are coded in other ways.
const VALUES_MIN: usize = 4096;
/// Of so many units only one in [`SAMPLE_STEP`] is counted, which is no divisor of those of a
/// block.
const MANY_UNITS: usize = 1 << 15;
const SAMPLE_STEP: usize = 5;
/// Rounds of assigning and averaging.
const ROUNDS: usize = 4;
/// Cost of a symbol that a class has never seen, in bits.
const UNSEEN_BITS: u64 = 16;

type Counts = [u32; SYMBOLS_MAX];

impl PlaneEncoder<'_> {
    /// Writes `values` in units to the empty `out` if that is cheaper than packing or one
    /// distribution for all.
    pub(in crate::plane) fn put_grouped(
        &mut self,
        values: &[u8],
        shape: Shape,
        (context, keys): (&Context, &[u8]),
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        if values.len() < VALUES_MIN || values.iter().all(|&value| value == values[0]) {
            return Ok(false);
        }
        let take = self.engine.kernels().take_extremes;
        let plane = Units::of(values, shape.width, context, take);
        let grouping = group(&plane.counts(keys), plane.alphabet, self.effort);
        if grouping.cost + plane.cost(context.unit) >= plain_cost(values, shape.width) {
            return Ok(false);
        }
        plane.put(self, (context, keys), &grouping.classes, out)?;
        Ok(true)
    }
}

/// About what values cost packed or with one distribution, in bits times 2^10, by a sample.
fn plain_cost(values: &[u8], width: u32) -> u64 {
    const PIECE: usize = 4096;
    let step = (values.len() / PIECE / 16).max(1);
    let (mut counts, mut n) = ([0; 256], 0);
    for piece in values.chunks(PIECE).step_by(step) {
        piece.iter().for_each(|&v| counts[usize::from(v)] += 1);
        n += piece.len() as u64;
    }
    let coded = u128::from(entropy(&counts)) * values.len() as u128 / u128::from(n.max(1));
    let packed = values.len() as u64 * u64::from(width) * ONE_BIT;
    u64::try_from(coded).map_or(packed, |coded| coded.min(packed))
}

/// A plane in units.
struct Units {
    extremes: Option<Extremes>,
    /// The other values, unit after unit.
    kept: Vec<u8>,
    /// Of each unit.
    n_kept: usize,
    width: u32,
    lower_width: u32,
    alphabet: Alphabet,
}

impl Units {
    fn of(values: &[u8], width: u32, context: &Context, take: TakeExtremes) -> Self {
        let lower_width = width.saturating_sub(SYMBOL_BITS);
        let alphabet = alphabet_of(1 << (width - lower_width));
        let (extremes, kept) = match context.centre {
            Some(centre) => {
                let (extremes, kept) = take(values, context.unit, centre);
                (Some(extremes), kept)
            }
            None => (None, values.to_vec()),
        };
        Self {
            n_kept: context.unit - usize::from(extremes.is_some()),
            extremes,
            kept,
            width,
            lower_width,
            alphabet,
        }
    }

    /// How often each key has each symbol, about: of many units only some are looked at.
    fn counts(&self, keys: &[u8]) -> Vec<Counts> {
        let step = if keys.len() < MANY_UNITS {
            1
        } else {
            SAMPLE_STEP
        };
        let mut counts = vec![[0; SYMBOLS_MAX]; KEYS];
        let units = self.kept.chunks_exact(self.n_kept).zip(keys);
        for (unit, &key) in units.step_by(step) {
            let counts = &mut counts[usize::from(key)];
            for &value in unit {
                counts[usize::from(value >> self.lower_width) % SYMBOLS_MAX] += 1;
            }
        }
        let step = u32::try_from(step).unwrap_or(1);
        counts
            .as_flattened_mut()
            .iter_mut()
            .for_each(|count| *count *= step);
        counts
    }

    /// About what it takes beside the symbols, in bits times 2^10.
    fn cost(&self, unit: usize) -> u64 {
        let lower = self.kept.len() as u64 * u64::from(self.lower_width) * ONE_BIT;
        let n_units = self.kept.len() / self.n_kept;
        let n_parts = n_parts(n_units, units_of_part(unit));
        let states = (n_parts * STATES_LEN * 8) as u64 * ONE_BIT;
        let extremes = self.extremes.as_ref().map_or(0, |extremes| {
            plain_cost(&extremes.places, unit.ilog2()) + plain_cost(&extremes.values, 8)
        });
        lower + states + extremes
    }

    fn put(
        &self,
        encoder: &mut PlaneEncoder<'_>,
        (context, keys): (&Context, &[u8]),
        classes: &[u8; KEYS],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        match &self.extremes {
            None => out.push(0),
            Some(Extremes { places, values }) => {
                out.push(EXTREMES);
                for (values, width) in [(places, context.unit.ilog2()), (values, self.width)] {
                    let values: Vec<u16> = values.iter().copied().map(u16::from).collect();
                    let shape = Shape {
                        width,
                        rows: crate::plane::Rows::default(),
                        sequential: false,
                    };
                    encoder.put(&values, shape, out)?;
                }
            }
        }
        out.push(self.lower_width.to_le_bytes()[0]);
        put_blob(classes, encoder.packer, out)?;
        let (symbols, groups, ends) = self.arranged(context.unit, keys, classes);
        let levels = levels_of(&symbols, &groups, &ends, &encoder.engine.kernels());
        put_varint(out, levels.len());
        put_sized(out, &put_tables(&levels, self.alphabet));
        if self.lower_width > 0 {
            let pack = encoder.engine.kernels().pack_bytes;
            let lower: Vec<u8> = self
                .kept
                .iter()
                .map(|v| v & ((1 << self.lower_width) - 1))
                .collect();
            pack(&lower, 0, self.lower_width, out);
        }
        let set = EncodeSet::new(&levels, self.alphabet);
        let (mut lens, mut coded) = (Vec::new(), Vec::new());
        let mut start = (0, 0);
        for (i, &end) in ends.iter().enumerate() {
            let before = coded.len();
            let groups = Classes::Groups(&groups[start.1..end.1]);
            encoder
                .engine
                .encode(&set, groups, &symbols[start.0..end.0], &mut coded)?;
            if i + 1 < ends.len() {
                put_varint(&mut lens, coded.len() - before);
            }
            start = end;
        }
        out.extend_from_slice(&lens);
        out.extend_from_slice(&coded);
        Ok(())
    }

    /// The symbols and the classes of groups of all parts, and where each part of them ends.
    fn arranged(
        &self,
        unit: usize,
        keys: &[u8],
        classes: &[u8; KEYS],
    ) -> (Vec<u8>, Vec<u8>, Vec<(usize, usize)>) {
        let mut arrangement = Arrangement::default();
        let (mut symbols, mut groups) = (vec![0; self.kept.len()], Vec::new());
        let mut ends = Vec::new();
        for part in parts(keys.len(), units_of_part(unit)) {
            arrangement.arrange(&keys[part.clone()], classes, self.n_kept);
            let range = part.start * self.n_kept..part.end * self.n_kept;
            let target = &mut symbols[range.clone()];
            let kept = (&self.kept[range.clone()], self.lower_width);
            match self.n_kept {
                31 => arrange::<31>(kept, &arrangement.starts, target),
                32 => arrange::<32>(kept, &arrangement.starts, target),
                15 => arrange::<15>(kept, &arrangement.starts, target),
                16 => arrange::<16>(kept, &arrangement.starts, target),
                _ => {
                    let units = kept.0.chunks_exact(self.n_kept);
                    for (unit, &start) in units.zip(&arrangement.starts) {
                        let target = &mut target[start as usize..];
                        for (symbol, value) in target.iter_mut().zip(unit) {
                            *symbol = value >> self.lower_width;
                        }
                    }
                }
            }
            groups.extend_from_slice(&arrangement.groups);
            ends.push((range.end, groups.len()));
        }
        (symbols, groups, ends)
    }
}

/// Copies the symbols of units of `N` values to where they start.
fn arrange<const N: usize>((kept, lower): (&[u8], u32), starts: &[u32], symbols: &mut [u8]) {
    for (unit, &start) in kept.as_chunks::<N>().0.iter().zip(starts) {
        let Some(symbols) = symbols[start as usize..].first_chunk_mut::<N>() else {
            return;
        };
        *symbols = unit.map(|value| value >> lower);
    }
}

/// [`take_extremes`], as the machine does it best.
pub(crate) type TakeExtremes = fn(&[u8], usize, u8) -> (Extremes, Vec<u8>);

/// Takes from each unit the first of the values that lie farthest from the centre, of equally far
/// ones on both sides the lower.
#[inline(always)]
pub(crate) fn take_extremes(values: &[u8], unit: usize, centre: u8) -> (Extremes, Vec<u8>) {
    match unit {
        32 => take_extremes_of::<32>(values, centre),
        _ => take_extremes_of::<16>(values, centre),
    }
}

#[inline(always)]
fn take_extremes_of<const UNIT: usize>(values: &[u8], centre: u8) -> (Extremes, Vec<u8>) {
    let masks = const { &masks::<UNIT>() };
    let units = values.as_chunks::<UNIT>().0;
    let mut extremes = Extremes::default();
    // One more, so that a whole unit can be written where all but one of its values go.
    let mut kept = vec![0; units.len() * (UNIT - 1) + 1];
    for (i, unit) in units.iter().enumerate() {
        // Distances come first, then places, the first being the greatest.
        let mut farthest = 0i16;
        for (at, &value) in (0i16..).zip(unit) {
            let distance = 2 * i16::from(value.abs_diff(centre)) + i16::from(value < centre);
            farthest = farthest.max(distance << 5 | (31 - at));
        }
        let place = usize::from(31 - (farthest & 31).to_le_bytes()[0]).min(UNIT - 1);
        extremes.places.push(u8::try_from(place).unwrap_or(0));
        extremes.values.push(unit[place]);
        // One value too many, which the next unit overwrites.
        let Some(target) = kept[i * (UNIT - 1)..].first_chunk_mut::<UNIT>() else {
            break;
        };
        let mut shifted = [0; UNIT];
        let after = match values[i * UNIT + 1..].first_chunk::<UNIT>() {
            Some(after) => after,
            None => {
                shifted[..UNIT - 1].copy_from_slice(&unit[1..]);
                &shifted
            }
        };
        *target = blend(unit, after, &masks[place]);
    }
    kept.truncate(units.len() * (UNIT - 1));
    (extremes, kept)
}

/// The distribution of each class, from the groups that it has.
fn levels_of(
    symbols: &[u8],
    groups: &[u8],
    ends: &[(usize, usize)],
    kernels: &Kernels,
) -> Vec<Levels> {
    let n_classes = groups
        .iter()
        .max()
        .map_or(1, |&highest| usize::from(highest) + 1);
    let mut counts = vec![[0; SYMBOLS_MAX]; n_classes];
    let mut start = (0, 0);
    for &end in ends {
        let mut symbols = &symbols[start.0..end.0];
        for run in groups[start.1..end.1].chunk_by(|a, b| a == b) {
            let (now, rest) = symbols.split_at((run.len() * LANES).min(symbols.len()));
            symbols = rest;
            let counts = &mut counts[usize::from(run[0])];
            for piece in now.chunks(SEGMENT_LEN_MAX) {
                for (sum, count) in counts.iter_mut().zip((kernels.count)(piece)) {
                    *sum += u32::from(count.unsigned_abs());
                }
            }
        }
        start = end;
    }
    counts.iter().map(Levels::from_counts).collect()
}

/// Classes for keys.
struct Grouping {
    classes: [u8; KEYS],
    /// About what symbols and tables take, in bits times 2^10.
    cost: u64,
}

/// The cheapest of a few numbers of classes for keys with these counts of symbols.
fn group(counts: &[Counts], alphabet: Alphabet, effort: Effort) -> Grouping {
    let mut best = grouping(counts, 1, alphabet);
    for n_classes in [8, 32] {
        let n_classes = n_classes.min(effort.classes_max);
        let found = grouping(counts, n_classes, alphabet);
        if found.cost >= best.cost {
            break;
        }
        best = found;
    }
    best
}

fn grouping(counts: &[Counts], n_classes: usize, alphabet: Alphabet) -> Grouping {
    let weights: Vec<u64> = counts
        .iter()
        .map(|counts| counts.iter().map(|&c| u64::from(c)).sum())
        .collect();
    let total = weights.iter().sum::<u64>().max(1);
    let mut classes = [0u8; KEYS];
    let mut before = 0;
    for (class, weight) in classes.iter_mut().zip(&weights) {
        let middle = (before + weight / 2) * n_classes as u64 / total;
        *class = u8::try_from(middle.min(n_classes as u64 - 1)).unwrap_or(0);
        before += weight;
    }
    if n_classes > 1 {
        for _ in 0..ROUNDS {
            let prices: Vec<_> = averages(counts, &classes, n_classes)
                .iter()
                .map(|counts| prices(&Levels::from_counts(counts)))
                .collect();
            for ((class, counts), &weight) in classes.iter_mut().zip(counts).zip(&weights) {
                if weight > 0 {
                    *class = cheapest(counts, &prices);
                }
            }
        }
    }
    rename(&mut classes, &weights);
    let n_classes = usize::from(classes.iter().copied().max().unwrap_or(0)) + 1;
    let sums = averages(counts, &classes, n_classes);
    let levels: Vec<Levels> = sums.iter().map(Levels::from_counts).collect();
    let symbols: u64 = sums
        .iter()
        .zip(&levels)
        .map(|(sums, levels)| cost(sums, levels))
        .sum();
    let tables = 8 * (put_tables(&levels, alphabet).len() + KEYS / 2) as u64 * ONE_BIT;
    Grouping {
        classes,
        cost: symbols + tables,
    }
}

/// Gives classes numbers without gaps; keys that do not occur get class 0.
fn rename(classes: &mut [u8; KEYS], weights: &[u64]) {
    let mut names = [None; KEYS];
    let mut next = 0;
    for (class, &weight) in classes.iter_mut().zip(weights) {
        if weight == 0 {
            *class = 0;
            continue;
        }
        let name = names[usize::from(*class)].get_or_insert(next);
        next += u8::from(*name == next);
        *class = *name;
    }
}

fn averages(counts: &[Counts], classes: &[u8; KEYS], n_classes: usize) -> Vec<Counts> {
    let mut sums = vec![[0; SYMBOLS_MAX]; n_classes];
    for (counts, &class) in counts.iter().zip(classes) {
        for (sum, count) in sums[usize::from(class)].iter_mut().zip(counts) {
            *sum += count;
        }
    }
    sums
}

/// What symbols cost, in bits times 2^10.
fn prices(levels: &Levels) -> [u64; SYMBOLS_MAX] {
    let freqs = levels.frequencies();
    std::array::from_fn(|symbol| {
        if levels.0[symbol] == 0 {
            UNSEEN_BITS * ONE_BIT
        } else {
            u64::from((PROB_BITS << LOG_BITS) - log2(u64::from(freqs[symbol])))
        }
    })
}

fn cheapest(counts: &Counts, prices: &[[u64; SYMBOLS_MAX]]) -> u8 {
    let costs = prices.iter().map(|prices| -> u64 {
        counts
            .iter()
            .zip(prices)
            .map(|(&count, price)| u64::from(count) * price)
            .sum()
    });
    let best = (0u8..).zip(costs).min_by_key(|&(_, cost)| cost);
    best.map_or(0, |(class, _)| class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_farthest_values_is_taken() {
        let mut units = [[8; 16]; 2];
        units[0][..4].copy_from_slice(&[7, 12, 4, 12]);
        let (extremes, kept) = take_extremes(units.as_flattened(), 16, 8);
        assert_eq!((extremes.places, extremes.values), (vec![2, 0], vec![4, 8]));
        assert_eq!(kept[..5], [7, 12, 12, 8, 8]);
        assert_eq!(kept[5..], [8; 25]);
    }

    #[test]
    fn keys_with_like_counts_share_a_class() {
        let mut counts = vec![[0; SYMBOLS_MAX]; KEYS];
        for (key, counts) in counts.iter_mut().enumerate().take(60) {
            let at = if key % 2 == 0 { 3 } else { 20 };
            counts[at..at + 3].copy_from_slice(&[400, 900, 300]);
        }
        let effort = Effort {
            classes_max: 32,
            rounds: 4,
        };
        let found = group(&counts, Alphabet::ThirtyTwo, effort);
        let [even, odd] = [found.classes[0], found.classes[1]];
        assert_ne!(even, odd);
        for key in 0..60 {
            let class = found.classes[key];
            assert!((class == even) == (key % 2 == 0) || class > 1, "{key}");
        }
        assert_eq!(found.classes[60..], [0; 196]);
        assert!(found.cost < grouping(&counts, 1, Alphabet::ThirtyTwo).cost);
    }

    /// Each unit has one key; every symbol is counted in few units, and about so in many.
    #[test]
    fn symbols_of_keys_are_counted() {
        let context = Context {
            unit: 16,
            centre: None,
            keys: crate::layout::Keys::None,
        };
        for n in [100, MANY_UNITS - 1, MANY_UNITS, 3 * MANY_UNITS + 7] {
            let keys: Vec<u8> = (0..n).map(|i| [3, 9][i % 2]).collect();
            let values: Vec<u8> = (0..n * 16)
                .map(|i| [2, 4][i / 16 % 2] + u8::from(i % 4 == 0))
                .collect();
            let plane = Units::of(&values, 4, &context, take_extremes);
            let counts = plane.counts(&keys);
            for (key, value) in [(3, 2), (9, 4)] {
                let exact = keys.iter().filter(|&&k| k == key).count() * 12;
                let counted = counts[usize::from(key)][value] as usize;
                let most = if n < MANY_UNITS { 0 } else { 12 * SAMPLE_STEP };
                assert!(counted.abs_diff(exact) <= most, "{n} {counted} {exact}");
                assert_eq!(counts[usize::from(key)][6], 0);
            }
        }
    }

    #[test]
    fn names_have_no_gaps() {
        let mut classes = [9; KEYS];
        classes[..4].copy_from_slice(&[5, 2, 5, 7]);
        let mut weights = [0; KEYS];
        weights[..5].fill(1);
        rename(&mut classes, &weights);
        assert_eq!(classes[..6], [0, 1, 0, 2, 3, 0]);
    }
}
