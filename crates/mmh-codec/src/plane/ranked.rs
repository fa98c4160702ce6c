//! At most 32 frequent values, coded as symbols, and a list of exceptions for the rest.

use std::borrow::Cow;

use super::blob::{put_blob, read_blob};
use super::rans::{Classified, alphabet_of, histograms, put_symbols, read_symbols};
use super::segments::{Segments, n_blocks};
use super::{PlaneDecoder, PlaneEncoder, Shape};
use crate::cluster::{Clusters, Histogram, cluster};
use crate::entropy::{STATES_LEN, SYMBOLS_MAX};
use crate::error::{Result, corrupt};
use crate::input::{Input, put_sized, put_varint};
use crate::log2::ONE_BIT;
use crate::zstd::Packer;

/// Widest value that can be ranked: the range of the table that maps values to symbols.
pub(crate) const RANKED_WIDTH_MAX: u32 = 12;
/// The mark of a value without a symbol.
const NONE: u8 = 255;
/// About what an exception takes, in bits: a gap, a value, and a symbol in its place.
pub(super) const EXCEPTION_BITS: u64 = 24;

/// A plane as symbols and exceptions, not yet written.
#[derive(Debug)]
pub(crate) struct Ranked<'a> {
    /// The frequent values, ascending; a symbol is an index into them.
    values: Vec<u16>,
    symbols: Cow<'a, [u8]>,
    exceptions: Vec<(usize, u16)>,
    segments: Segments,
    clusters: Clusters,
}

/// The most frequent values with a count, at most 32, ascending.
pub(crate) fn frequent(counts: &[u32]) -> Vec<u16> {
    let mut values: Vec<u16> = (0..=u16::MAX)
        .zip(counts)
        .filter_map(|(value, &count)| (count > 0).then_some(value))
        .collect();
    if values.len() > SYMBOLS_MAX {
        let count = |value: &u16| std::cmp::Reverse((counts[usize::from(*value)], *value));
        values.select_nth_unstable_by_key(SYMBOLS_MAX - 1, count);
        values.truncate(SYMBOLS_MAX);
        values.sort_unstable();
    }
    values
}

impl<'a> Ranked<'a> {
    /// Ranks `values` by `counts` of each value below 2^12.
    pub(crate) fn of(
        values: &[u16],
        counts: &[u32],
        shape: Shape,
        encoder: &PlaneEncoder<'_>,
    ) -> Self {
        let frequent = frequent(counts);
        let mut symbol_of = vec![NONE; counts.len()];
        for (symbol, &value) in (0u8..).zip(&frequent) {
            symbol_of[usize::from(value)] = symbol;
        }
        let commonest = frequent
            .iter()
            .max_by_key(|&&value| counts[usize::from(value)]);
        let stand_in = commonest.map_or(0, |&value| symbol_of[usize::from(value)]);
        let mut exceptions = Vec::new();
        let mut symbols = vec![0; values.len()];
        for (i, (symbol, &value)) in symbols.iter_mut().zip(values).enumerate() {
            *symbol = symbol_of.get(usize::from(value)).copied().unwrap_or(NONE);
            if *symbol == NONE {
                *symbol = stand_in;
                exceptions.push((i, value));
            }
        }
        let segments = Segments::of_rows(shape.rows);
        let counted = histograms(&symbols, segments, &encoder.engine.kernels());
        let symbols = Cow::Owned(symbols);
        Self::of_parts(frequent, symbols, exceptions, (segments, &counted), encoder)
    }

    /// A plane whose symbols have been counted in each segment.
    pub(crate) fn of_parts(
        values: Vec<u16>,
        symbols: Cow<'a, [u8]>,
        exceptions: Vec<(usize, u16)>,
        (segments, counted): (Segments, &[Histogram]),
        encoder: &PlaneEncoder<'_>,
    ) -> Self {
        let kernels = encoder.engine.kernels();
        let clusters = cluster(counted, alphabet_of(values.len()), encoder.effort, &kernels);
        Self {
            values,
            symbols,
            exceptions,
            segments,
            clusters,
        }
    }

    /// About what it takes, in bits times 2^10.
    pub(crate) fn cost(&self) -> u64 {
        let states = (8 * STATES_LEN * n_blocks(self.symbols.len())) as u64;
        let exceptions = self.exceptions.len() as u64 * EXCEPTION_BITS;
        self.clusters.cost + (states + exceptions + 8 * self.values.len() as u64) * ONE_BIT
    }

    pub(crate) fn put(&self, encoder: &mut PlaneEncoder<'_>, out: &mut Vec<u8>) -> Result<()> {
        put_values(&self.values, out);
        self.put_exceptions(encoder.packer, out)?;
        self.put_coded(encoder, out)
    }

    pub(super) fn put_exceptions(&self, packer: &mut Packer, out: &mut Vec<u8>) -> Result<()> {
        let mut gaps = Vec::new();
        let mut rest = Vec::new();
        let mut next = 0;
        for &(at, value) in &self.exceptions {
            put_varint(&mut gaps, at - next);
            rest.extend_from_slice(&value.to_le_bytes());
            next = at + 1;
        }
        put_varint(out, self.exceptions.len());
        if !self.exceptions.is_empty() {
            put_sized(out, &gaps);
            put_blob(&rest, packer, out)?;
        }
        Ok(())
    }

    pub(super) fn put_coded(
        &self,
        encoder: &mut PlaneEncoder<'_>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let plane = Classified {
            symbols: &self.symbols,
            alphabet: alphabet_of(self.values.len()),
            segments: self.segments,
            clusters: &self.clusters,
        };
        put_symbols(encoder.engine, &plane, encoder.packer, out)
    }
}

impl PlaneDecoder<'_> {
    pub(super) fn ranked(&mut self, input: &mut Input<'_>, values: &mut [u16]) -> Result<()> {
        let table = read_values(input)?;
        let alphabet = alphabet_of(table.len());
        let exceptions = self.exceptions(input, values.len())?;
        let mut symbols = vec![0; values.len()];
        read_symbols(self.engine, input, alphabet, self.unpacker, &mut symbols)?;
        let highest = symbols.iter().fold(0, |highest, &s| s.max(highest));
        if usize::from(highest) >= table.len() {
            return corrupt("a symbol stands for no value");
        }
        let mut value_of = [0; SYMBOLS_MAX];
        value_of[..table.len()].copy_from_slice(&table);
        let contiguous = table.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        if contiguous {
            values.iter_mut().zip(&symbols).for_each(|(value, &s)| {
                *value = table[0] + u16::from(s);
            });
        } else {
            values.iter_mut().zip(&symbols).for_each(|(value, &s)| {
                *value = value_of[usize::from(s & 31)];
            });
        }
        for (at, value) in exceptions {
            values[at] = value;
        }
        Ok(())
    }

    pub(super) fn exceptions(
        &mut self,
        input: &mut Input<'_>,
        n: usize,
    ) -> Result<Vec<(usize, u16)>> {
        let count = input.varint()?;
        if count > n {
            return corrupt("a plane has more exceptions than values");
        }
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut gaps = Input::new(input.sized()?);
        if count > gaps.len() {
            return corrupt("a plane has more exceptions than gaps");
        }
        let rest = read_blob(input, 2 * count, self.unpacker)?;
        let mut exceptions = Vec::with_capacity(count);
        let mut next = 0;
        for pair in rest.as_chunks::<2>().0 {
            let at = next + gaps.varint()?;
            if at >= n {
                return corrupt("an exception lies outside its plane");
            }
            exceptions.push((at, u16::from_le_bytes(*pair)));
            next = at + 1;
        }
        gaps.expect_end()?;
        Ok(exceptions)
    }
}

/// The number of values, the first, and the gaps between the others unless there are none.
fn put_values(values: &[u16], out: &mut Vec<u8>) {
    let gaps: Vec<usize> = values
        .windows(2)
        .map(|pair| usize::from(pair[1] - pair[0] - 1))
        .collect();
    let contiguous = gaps.iter().all(|&gap| gap == 0);
    let count = u8::try_from(values.len()).expect("at most 32 values");
    out.push(count << 1 | u8::from(contiguous));
    put_varint(out, usize::from(values[0]));
    if !contiguous {
        gaps.into_iter().for_each(|gap| put_varint(out, gap));
    }
}

pub(super) fn read_values(input: &mut Input<'_>) -> Result<Vec<u16>> {
    let head = input.u8()?;
    let (count, contiguous) = (usize::from(head >> 1), head & 1 == 1);
    if count == 0 || count > SYMBOLS_MAX {
        return corrupt("the number of frequent values is out of range");
    }
    let mut values = Vec::with_capacity(count);
    let mut next = input.varint()?;
    for i in 0..count {
        if i > 0 && !contiguous {
            next = next.saturating_add(input.varint()?);
        }
        match u16::try_from(next) {
            Ok(value) => values.push(value),
            Err(_) => return corrupt("a frequent value is out of range"),
        }
        next += 1;
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_values_are_the_commonest_in_ascending_order() {
        let mut counts = vec![0; 4096];
        for i in 0..40 {
            counts[100 * i] = u32::try_from(i % 8 * 10 + 1).unwrap();
        }
        let found = frequent(&counts);
        assert_eq!(found.len(), 32);
        assert!(found.is_sorted());
        assert!(found.iter().all(|&v| counts[usize::from(v)] >= 11));
        counts[200..].fill(0);
        assert_eq!(frequent(&counts), [0, 100]);
    }

    #[test]
    fn value_tables_come_back() {
        for values in [&[5][..], &[0, 1, 2, 3], &[1, 2, 7, 4000], &[65_000]] {
            let mut out = Vec::new();
            put_values(values, &mut out);
            assert_eq!(read_values(&mut Input::new(&out)).unwrap(), values);
            for cut in 0..out.len() {
                assert!(read_values(&mut Input::new(&out[..cut])).is_err());
            }
        }
        let mut contiguous = Vec::new();
        put_values(&(60..92).collect::<Vec<_>>(), &mut contiguous);
        assert_eq!(contiguous.len(), 2);
        for bad in [
            &[0, 0][..],
            &[33 << 1 | 1, 0],
            &[3 << 1 | 1, 0xfe, 0xff, 3],
            &[2 << 1, 1, 0xff, 0xff, 3],
        ] {
            assert!(read_values(&mut Input::new(bad)).is_err(), "{bad:?}");
        }
    }
}
