//! Upper bits as up to 32 symbols, and lower bits with a distribution for each of those.

use super::ranked::Ranked;
use super::rans::{alphabet_of, put_in_context, read_in_context};
use super::segments::n_blocks;
use super::{Coder, Nesting, PlaneDecoder, PlaneEncoder, Shape, put_record};
use crate::bits::packed_len;
use crate::cluster::cost;
use crate::entropy::{Levels, STATES_LEN, SYMBOLS_MAX};
use crate::error::{Result, corrupt};
use crate::input::Input;
use crate::log2::ONE_BIT;
use crate::plane::packed::Packing;

/// Bits of a symbol of the largest alphabet.
const SYMBOL_BITS: u32 = 5;
/// Widest plane that two symbols cover.
pub(crate) const SPLIT_WIDTH_MAX: u32 = 2 * SYMBOL_BITS;
/// The lower bits are coded only where that saves a share of them: 1 in this many.
const SAVED_SHARE: u64 = 128;

/// A plane as upper and lower bits, not yet written.
#[derive(Debug)]
pub(crate) struct Split {
    lower_width: u32,
    upper: Vec<u16>,
    lower: Vec<u16>,
    ranked: Ranked<'static>,
    contexts: Option<Vec<Levels>>,
    lower_cost: u64,
}

impl Split {
    /// Splits `values` whose `counts` reach to the width of the plane, at most
    /// [`SPLIT_WIDTH_MAX`] bits.
    pub(crate) fn of(
        values: &[u16],
        counts: &[u32],
        shape: Shape,
        encoder: &PlaneEncoder<'_>,
    ) -> Self {
        let lower_width = shape.width.saturating_sub(SYMBOL_BITS);
        let mask = (1u16 << lower_width) - 1;
        let upper: Vec<u16> = values.iter().map(|value| value >> lower_width).collect();
        let lower: Vec<u16> = values.iter().map(|value| value & mask).collect();
        let mut upper_counts = vec![0u32; SYMBOLS_MAX];
        let mut by_upper = vec![[0u32; SYMBOLS_MAX]; SYMBOLS_MAX];
        for (value, &count) in counts.iter().enumerate() {
            upper_counts[(value >> lower_width) & 31] += count;
            by_upper[(value >> lower_width) & 31][value & usize::from(mask)] += count;
        }
        let ranked = Ranked::of(&upper, &upper_counts, shape, encoder);
        let levels: Vec<Levels> = by_upper.iter().map(Levels::from_counts).collect();
        let packed = 8 * packed_len(values.len(), lower_width) as u64 * ONE_BIT;
        let states = (8 * (STATES_LEN * n_blocks(values.len()) + SYMBOLS_MAX * 4)) as u64 * ONE_BIT;
        let coded: u64 = by_upper
            .iter()
            .zip(&levels)
            .map(|(c, l)| cost(c, l))
            .sum::<u64>()
            + states;
        let saves = coded + packed / SAVED_SHARE < packed;
        let lower_cost = if saves { coded } else { packed };
        let contexts = saves.then_some(levels);
        Self {
            lower_width,
            upper,
            lower,
            ranked,
            contexts,
            lower_cost,
        }
    }

    /// About what it takes, in bits times 2^10.
    pub(crate) fn cost(&self) -> u64 {
        self.ranked.cost() + self.lower_cost
    }

    pub(crate) fn put(
        &self,
        encoder: &mut PlaneEncoder<'_>,
        shape: Shape,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        out.push(u8::try_from(self.lower_width).expect("at most 5 bits"));
        let mut coded = Vec::new();
        self.ranked.put(encoder, &mut coded)?;
        put_record(Coder::Ranked, &coded, out);
        let mut coded = Vec::new();
        if let Some(levels) = &self.contexts {
            let symbols = small_symbols(&self.lower);
            let context = small_symbols(&self.upper);
            let alphabet = alphabet_of(1 << self.lower_width);
            put_in_context(
                encoder.engine,
                &symbols,
                &context,
                (levels, alphabet),
                &mut coded,
            )?;
            put_record(Coder::Context, &coded, out);
        } else {
            Packing::of(&self.lower, shape.rows).put(&self.lower, encoder.packer, &mut coded)?;
            put_record(Coder::Packed, &coded, out);
        }
        Ok(())
    }
}

/// Where a plane of `width` bits is split.
pub(super) fn lower_width(input: &mut Input<'_>, width: u32) -> Result<u32> {
    let lower_width = u32::from(input.u8()?);
    let upper_width = width.saturating_sub(lower_width);
    if lower_width == 0 || lower_width > SYMBOL_BITS || upper_width > SYMBOL_BITS {
        return corrupt("a plane is split where it cannot be");
    }
    Ok(lower_width)
}

fn small_symbols(values: &[u16]) -> Vec<u8> {
    values.iter().map(|&value| value.to_le_bytes()[0]).collect()
}

impl PlaneDecoder<'_> {
    pub(super) fn split(
        &mut self,
        input: &mut Input<'_>,
        width: u32,
        values: &mut [u16],
    ) -> Result<()> {
        let lower_width = lower_width(input, width)?;
        let upper_width = width.saturating_sub(lower_width);
        self.record(input, upper_width, values, Nesting::Part)?;
        let coder = Coder::read(&mut { *input })?;
        let mut lower = vec![0; values.len()];
        if coder == Coder::Context {
            Coder::read(input)?;
            let input = &mut Input::new(input.sized()?);
            let alphabet = alphabet_of(1 << lower_width);
            let context = small_symbols(values);
            let mut symbols = vec![0; values.len()];
            read_in_context(self.engine, input, alphabet, &context, &mut symbols)?;
            input.expect_end()?;
            lower
                .iter_mut()
                .zip(symbols)
                .for_each(|(lower, symbol)| *lower = u16::from(symbol));
        } else {
            self.record(input, lower_width, &mut lower, Nesting::Part)?;
        }
        for (value, lower) in values.iter_mut().zip(lower) {
            *value = *value << lower_width | lower;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::testing::{plane_decoder, shape, with_encoder};
    use crate::samples::Noise;

    fn round_trip(values: &[u16], width: u32) -> (bool, usize) {
        let shape = shape(width, 0);
        let mut counts = vec![0; 1 << width];
        values
            .iter()
            .for_each(|&value| counts[usize::from(value)] += 1);
        with_encoder(|encoder| {
            let split = Split::of(values, &counts, shape, encoder);
            let mut out = Vec::new();
            split.put(encoder, shape, &mut out).unwrap();
            let estimate = split.cost() / ONE_BIT / 8;
            assert!(
                estimate.abs_diff(out.len() as u64) < 400,
                "{estimate} for {}",
                out.len()
            );
            let mut back = vec![0; values.len()];
            plane_decoder(|decoder| decoder.split(&mut Input::new(&out), width, &mut back))
                .unwrap();
            assert!(back == values);
            (split.contexts.is_some(), out.len())
        })
    }

    /// Where the lower bits depend on the upper ones they are coded, else packed.
    #[test]
    fn lower_bits_are_coded_only_where_that_pays() {
        let noise = &mut Noise::new(4);
        let flat: Vec<u16> = (0..50_000)
            .map(|_| {
                u16::from(noise.below(32).min(noise.below(32))) << 3 | u16::from(noise.below(8))
            })
            .collect();
        assert!(!round_trip(&flat, 8).0);
        let steep: Vec<u16> = (0..50_000)
            .map(|_| {
                let lower = noise.below(8).min(noise.below(8));
                u16::from(noise.below(32).min(noise.below(32))) << 3 | u16::from(lower)
            })
            .collect();
        let (coded, len) = round_trip(&steep, 8);
        assert!(coded && len < 50_000 * 31 / 32, "{len}");
    }

    #[test]
    fn every_width_that_two_symbols_cover_comes_back() {
        let noise = &mut Noise::new(5);
        for width in 6..=SPLIT_WIDTH_MAX {
            let values: Vec<u16> = (0..3000)
                .map(|_| u16::try_from(noise.bits() >> (64 - width)).unwrap())
                .collect();
            round_trip(&values, width);
        }
    }

    #[test]
    fn splits_that_cannot_be_are_refused() {
        for (lower, width) in [(0, 5), (6, 8), (1, 8), (5, 11)] {
            let bad = [lower, 0, 2, 0, 0, 0, 2, 0, 0];
            let mut values = [0; 3];
            let done = plane_decoder(|d| d.split(&mut Input::new(&bad), width, &mut values));
            assert!(done.is_err(), "{lower} of {width}");
        }
        let mut values = [0; 3];
        let good = [3, 0, 2, 1, 0, 0, 2, 5, 0];
        plane_decoder(|d| d.split(&mut Input::new(&good), 8, &mut values)).unwrap();
        assert_eq!(values, [13; 3]);
    }
}
