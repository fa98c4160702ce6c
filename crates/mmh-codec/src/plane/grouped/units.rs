//! Units in the order of their classes, and back.

use std::ops::Range;

use super::KEYS;
use crate::entropy::{CLASSES_MAX, LANES};

/// Where the units of a part lie among its symbols.
#[derive(Debug, Default)]
pub(super) struct Arrangement {
    /// The first symbol of each unit.
    pub(super) starts: Vec<u32>,
    /// The class of each group of symbols: that of the unit with its first symbol.
    pub(super) groups: Vec<u8>,
}

impl Arrangement {
    /// Arranges units with these keys, `kept` symbols each, by the classes of their keys, which
    /// are below [`CLASSES_MAX`].
    pub(super) fn arrange(&mut self, keys: &[u8], classes: &[u8; KEYS], kept: usize) {
        let kept = u32::try_from(kept).unwrap_or(0);
        let class = |key: u8| usize::from(classes[usize::from(key)]) % CLASSES_MAX;
        // Two counters for each class, of the two halves of the units: a chain of additions each.
        let halves = keys.split_at(keys.len() / 2);
        let mut counts = [[0u32; CLASSES_MAX]; 2];
        for (&first, &second) in halves.0.iter().zip(halves.1) {
            counts[0][class(first)] += kept;
            counts[1][class(second)] += kept;
        }
        let odd = halves.1.get(halves.0.len());
        if let Some(&key) = odd {
            counts[1][class(key)] += kept;
        }
        self.groups.clear();
        let mut end = 0;
        let [mut first, mut second] = [[0; CLASSES_MAX]; 2];
        for (class, name) in (0..CLASSES_MAX).zip(0u8..) {
            first[class] = end;
            second[class] = end + counts[0][class];
            end = second[class] + counts[1][class];
            self.groups.resize((end as usize).div_ceil(LANES), name);
        }
        let take = |next: &mut [u32; CLASSES_MAX], key: u8| {
            let next = &mut next[class(key)];
            let start = *next;
            *next += kept;
            start
        };
        self.starts.resize(keys.len(), 0);
        let starts = self.starts.split_at_mut(keys.len() / 2);
        let of_first = starts.0.iter_mut().zip(halves.0);
        let of_second = starts.1.iter_mut().zip(halves.1);
        for ((a, &first_key), (b, &second_key)) in of_first.zip(of_second) {
            *a = take(&mut first, first_key);
            *b = take(&mut second, second_key);
        }
        if let (Some(start), Some(&key)) = (starts.1.last_mut(), odd) {
            *start = take(&mut second, key);
        }
    }
}

/// The value of each unit that stands apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Extremes {
    /// Where it belongs.
    pub(super) places: Vec<u8>,
    pub(super) values: Vec<u8>,
}

/// The places and values of the extremes of some units, if they are apart.
pub(crate) type Apart<'a> = Option<(&'a [u8], &'a [u8])>;

impl Extremes {
    pub(super) fn of(&self, units: Range<usize>) -> (&[u8], &[u8]) {
        (&self.places[units.clone()], &self.values[units])
    }
}

/// What values are made of. Symbols are in the order of the arrangement, lower bits in that of
/// the units; both begin at index 1, and have [`padded`] bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) symbols: &'a [u8],
    /// Looked at only if they have bits.
    pub(crate) lower: &'a [u8],
    pub(crate) lower_width: u32,
}

/// Bytes for `n` symbols, so that a whole unit can be read from one before and from each of them.
pub(crate) const fn padded(n: usize, unit: usize) -> usize {
    n + unit + 1
}

/// Fills `values`, units of `unit` values, the first symbols of which are at `starts`. `extremes`:
/// their places and values.
#[inline(always)]
pub(crate) fn restore(
    source: Source<'_>,
    starts: &[u32],
    extremes: Apart<'_>,
    unit: usize,
    values: &mut [u8],
) {
    match (extremes, unit) {
        (None, 1) => restore_single(source, starts, values),
        (None, 16) => restore_whole::<16>(source, starts, values),
        (None, 32) => restore_whole::<32>(source, starts, values),
        (Some(extremes), 16) => restore_around::<16>(source, starts, extremes, values),
        (Some(extremes), 32) => restore_around::<32>(source, starts, extremes, values),
        _ => restore_any(source, starts, extremes, unit, values),
    }
}

#[inline(always)]
fn restore_single(source: Source<'_>, starts: &[u32], values: &mut [u8]) {
    for (i, (value, &start)) in values.iter_mut().zip(starts).enumerate() {
        *value = source.value(start as usize, i);
    }
}

#[inline(always)]
fn restore_any(
    source: Source<'_>,
    starts: &[u32],
    extremes: Apart<'_>,
    unit: usize,
    values: &mut [u8],
) {
    let kept = unit - usize::from(extremes.is_some());
    for (i, (unit, &start)) in values.chunks_exact_mut(unit).zip(starts).enumerate() {
        let (start, first) = (start as usize, i * kept);
        let place = extremes.map_or(unit.len(), |(places, _)| usize::from(places[i]));
        for (j, value) in unit.iter_mut().enumerate() {
            *value = match extremes {
                Some((_, extremes)) if j == place => extremes[i],
                _ => {
                    let k = j - usize::from(j > place);
                    source.value(start + k, first + k)
                }
            };
        }
    }
}

#[inline(always)]
fn restore_whole<const UNIT: usize>(source: Source<'_>, starts: &[u32], values: &mut [u8]) {
    let units = values.as_chunks_mut::<UNIT>().0;
    for (i, (unit, &start)) in units.iter_mut().zip(starts).enumerate() {
        let Some(symbols) = window::<UNIT>(source.symbols, start as usize + 1) else {
            return;
        };
        *unit = *symbols;
        if source.lower_width > 0 {
            let Some(lower) = window::<UNIT>(source.lower, i * UNIT + 1) else {
                return;
            };
            add_lower(unit, lower, source.lower_width);
        }
    }
}

#[inline(always)]
fn restore_around<const UNIT: usize>(
    source: Source<'_>,
    starts: &[u32],
    (places, extremes): (&[u8], &[u8]),
    values: &mut [u8],
) {
    let masks = const { &masks::<UNIT>() };
    let units = values.as_chunks_mut::<UNIT>().0.iter_mut().zip(starts);
    for (i, ((unit, &start), (&place, &extreme))) in
        units.zip(places.iter().zip(extremes)).enumerate()
    {
        let place = usize::from(place) % UNIT;
        let from = |from: &[u8], start: usize| {
            let before = window::<UNIT>(from, start + 1)?;
            Some(blend(before, window(from, start)?, &masks[place]))
        };
        let Some(values) = from(source.symbols, start as usize) else {
            return;
        };
        *unit = values;
        if source.lower_width > 0 {
            let Some(lower) = from(source.lower, i * (UNIT - 1)) else {
                return;
            };
            add_lower(unit, &lower, source.lower_width);
        }
        unit[place] = extreme;
    }
}

/// `before` where the mask is set, and else `after`.
#[inline(always)]
pub(super) fn blend<const UNIT: usize>(
    before: &[u8; UNIT],
    after: &[u8; UNIT],
    mask: &[u8; UNIT],
) -> [u8; UNIT] {
    // Words of 8 values: compilers make less of single bytes.
    let mut blended = [0; UNIT];
    let words = before
        .as_chunks::<8>()
        .0
        .iter()
        .zip(after.as_chunks::<8>().0);
    let parts = words.zip(mask.as_chunks::<8>().0);
    for (target, ((before, after), mask)) in blended.as_chunks_mut::<8>().0.iter_mut().zip(parts) {
        let [before, after, mask] = [before, after, mask].map(|word| u64::from_le_bytes(*word));
        *target = (before & mask | after & !mask).to_le_bytes();
    }
    blended
}

/// For each place, a mask of the values before it.
pub(super) const fn masks<const UNIT: usize>() -> [[u8; UNIT]; UNIT] {
    let mut masks = [[0; UNIT]; UNIT];
    let mut place = 0;
    while place < UNIT {
        let mut at = 0;
        while at < place {
            masks[place][at] = 0xff;
            at += 1;
        }
        place += 1;
    }
    masks
}

#[inline(always)]
fn window<const UNIT: usize>(from: &[u8], start: usize) -> Option<&[u8; UNIT]> {
    from.get(start..)?.first_chunk()
}

/// Puts lower bits below values that leave room for them.
#[inline(always)]
fn add_lower<const UNIT: usize>(unit: &mut [u8; UNIT], lower: &[u8; UNIT], width: u32) {
    let words = unit.as_chunks_mut::<8>().0.iter_mut();
    for (values, lower) in words.zip(lower.as_chunks::<8>().0) {
        let upper = u64::from_le_bytes(*values) << width;
        *values = (upper | u64::from_le_bytes(*lower)).to_le_bytes();
    }
}

impl Source<'_> {
    #[inline(always)]
    fn value(&self, symbol: usize, lower: usize) -> u8 {
        let symbol = self.symbols[symbol + 1];
        if self.lower_width == 0 {
            symbol
        } else {
            symbol << self.lower_width | self.lower[lower + 1]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_stand_in_the_order_of_their_classes() {
        let mut classes = [0; KEYS];
        (classes[7], classes[9]) = (1, 2);
        let mut arrangement = Arrangement::default();
        arrangement.arrange(&[9, 7, 3, 7, 4], &classes, 40);
        assert_eq!(arrangement.starts, [160, 80, 0, 120, 40]);
        // Symbols 0, 64, 128 and 192 belong to classes 0, 0, 1, 2.
        assert_eq!(arrangement.groups, [0, 0, 1, 2]);
        arrangement.arrange(&[], &classes, 40);
        assert!(arrangement.starts.is_empty() && arrangement.groups.is_empty());
    }

    /// The quick forms against the plain one.
    #[test]
    fn every_form_restores_the_same() {
        let noise = &mut crate::samples::Noise::new(8);
        for unit in [1usize, 8, 16, 32] {
            for (apart, lower_width) in [(false, 0), (true, 0), (false, 3), (true, 3)] {
                let n = 50;
                let apart = apart && unit > 1;
                let kept = unit - usize::from(apart);
                let mut random = |len: usize, below: usize| -> Vec<u8> {
                    (0..len).map(|_| noise.below(below)).collect()
                };
                let symbols = random(padded(n * kept, unit), 32);
                let lower = random(padded(n * kept, unit), 8);
                let places = random(n, unit);
                let extremes = random(n, 255);
                let mut arrangement = Arrangement::default();
                let classes = std::array::from_fn(|key| u8::try_from(key % 5).unwrap());
                arrangement.arrange(&random(n, 200), &classes, kept);
                let source = Source {
                    symbols: &symbols,
                    lower: &lower,
                    lower_width,
                };
                let extremes = apart.then_some((&places[..], &extremes[..]));
                let (mut quick, mut plain) = (vec![1; n * unit], vec![2; n * unit]);
                restore(source, &arrangement.starts, extremes, unit, &mut quick);
                restore_any(source, &arrangement.starts, extremes, unit, &mut plain);
                assert!(quick == plain, "{unit} {apart} {lower_width}");
            }
        }
    }
}
