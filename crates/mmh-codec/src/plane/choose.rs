//! The choice of a plane's coder, by cost.

use super::packed::Packing;
use super::ranked::{RANKED_WIDTH_MAX, Ranked, frequent};
use super::segments::n_blocks;
use super::split::{SPLIT_WIDTH_MAX, Split};
use super::{Coder, PlaneEncoder, Shape, put_record};
use crate::entropy::STATES_LEN;
use crate::error::Result;
use crate::log2::{ONE_BIT, entropy};
use crate::zstd::may_pack;

/// Entropy coding must save one part in this many of packing to be worth its time.
const SAVED_SHARE: u64 = 256;
/// One value in this many may be an exception; more of them are split.
const EXCEPTION_SHARE: u64 = 50;
/// Planes up to this long are tried with zstd if it may be worth it.
const SHORT: usize = 4096;

impl PlaneEncoder<'_> {
    /// Writes `values` to the empty `out` in the cheapest way, and says which it is.
    pub(super) fn choose(
        &mut self,
        values: &[u16],
        shape: Shape,
        out: &mut Vec<u8>,
    ) -> Result<Coder> {
        let first = values.first().copied().unwrap_or(0);
        if values.iter().all(|&value| value == first) {
            out.extend_from_slice(&first.to_le_bytes());
            return Ok(Coder::Constant);
        }
        let packing = Packing::of(values, shape.rows);
        let packed = packing.len as u64 * 8 * ONE_BIT;
        let mut coder = self.by_entropy(values, shape, packed - packed / SAVED_SHARE, out)?;
        if coder.is_none() {
            packing.put(values, self.packer, out)?;
            coder = Some(Coder::Packed);
        }
        if shape.sequential || values.len() <= SHORT {
            let bytes = as_bytes(values, shape.width);
            if shape.sequential || may_pack(&bytes, out.len()) {
                let mut zstd = Vec::new();
                self.packer.pack(&bytes, &mut zstd)?;
                if zstd.len() < out.len() {
                    *out = zstd;
                    coder = Some(Coder::Zstd);
                }
            }
        }
        Ok(coder.unwrap_or(Coder::Packed))
    }

    /// Writes `values` with an entropy coder if that takes less than `limit`, in bits times 2^10.
    fn by_entropy(
        &mut self,
        values: &[u16],
        shape: Shape,
        limit: u64,
        out: &mut Vec<u8>,
    ) -> Result<Option<Coder>> {
        if shape.width > RANKED_WIDTH_MAX {
            return self.by_bytes(values, shape, limit, out);
        }
        let mut counts = vec![0u32; 1 << shape.width];
        values
            .iter()
            .for_each(|&value| counts[usize::from(value)] += 1);
        let states = (8 * STATES_LEN * n_blocks(values.len())) as u64 * ONE_BIT;
        let order0 = entropy(&counts);
        if order0 + states / 2 >= limit && shape.width > 5 {
            return Ok(None);
        }
        let covered: u64 = frequent(&counts)
            .iter()
            .map(|&v| u64::from(counts[usize::from(v)]))
            .sum();
        let exceptions = values.len() as u64 - covered;
        if exceptions * EXCEPTION_SHARE <= values.len() as u64 || shape.width > SPLIT_WIDTH_MAX {
            let ranked = Ranked::of(values, &counts, shape, self);
            if ranked.cost() >= limit {
                return Ok(None);
            }
            ranked.put(self, out)?;
            return Ok(Some(Coder::Ranked));
        }
        let split = Split::of(values, &counts, shape, self);
        if split.cost() >= limit {
            return Ok(None);
        }
        split.put(self, shape, out)?;
        Ok(Some(Coder::Split))
    }

    /// Planes too wide for one table of counts: as two of bytes, where those have structure.
    fn by_bytes(
        &mut self,
        values: &[u16],
        shape: Shape,
        limit: u64,
        out: &mut Vec<u8>,
    ) -> Result<Option<Coder>> {
        let mut counts = [[0u32; 256]; 2];
        for value in values {
            for (counts, byte) in counts.iter_mut().zip(value.to_le_bytes()) {
                counts[usize::from(byte)] += 1;
            }
        }
        if entropy(&counts[0]) + entropy(&counts[1]) >= limit {
            return Ok(None);
        }
        let upper: Vec<u16> = values.iter().map(|value| value >> 8).collect();
        let lower: Vec<u16> = values.iter().map(|value| value & 0xff).collect();
        for (part, width) in [(upper, shape.width - 8), (lower, 8)] {
            let mut coded = Vec::new();
            let coder = self.choose(&part, Shape { width, ..shape }, &mut coded)?;
            put_record(coder, &coded, out);
        }
        let fits = out.len() as u64 * 8 * ONE_BIT < limit;
        if !fits {
            out.clear();
        }
        Ok(fits.then_some(Coder::Bytes))
    }
}

fn as_bytes(values: &[u16], width: u32) -> Vec<u8> {
    if width <= 8 {
        values.iter().map(|value| value.to_le_bytes()[0]).collect()
    } else {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }
}

#[cfg(test)]
mod tests;
