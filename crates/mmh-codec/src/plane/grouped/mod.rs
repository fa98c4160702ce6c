//! Units of values, grouped by a class that follows from what was decoded before them, so that
//! whole groups of symbols have one distribution; and the extreme of each unit apart, which most
//! quantisers leave at a known value (FORMAT.md, "Grouped").

pub(crate) mod put;
pub(crate) mod units;

use std::ops::Range;

use super::rans::{alphabet_of, read_set};
use super::segments::{BLOCK_LEN, n_parts, parts};
use super::{Nesting, PlaneDecoder};
use crate::bits::packed_len;
use crate::entropy::{Classes, DecodeSet, Engine};
use crate::error::{Error, Result, corrupt};
use crate::input::Input;
use crate::kernel::Packed;
use crate::layout::Context;
use crate::plane::blob::read_blob;
use units::{Apart, Arrangement, Extremes, Source};

/// Possible keys.
const KEYS: usize = 256;
/// The flag of a plane whose extremes are apart.
const EXTREMES: u8 = 1;
/// Bits of a symbol; what a value has more is packed.
const SYMBOL_BITS: u32 = 5;

/// How many units are coded together.
const fn units_of_part(unit: usize) -> usize {
    BLOCK_LEN / unit
}

/// What decoding keeps from one part to the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    arrangement: Arrangement,
    symbols: Vec<u8>,
    lower: Vec<u8>,
    values: Vec<u8>,
}

impl PlaneDecoder<'_> {
    /// Gives the values of each part that has `wanted` units to `sink`, behind the number of its
    /// first unit. The units are of this context, with these keys.
    pub(super) fn grouped(
        &mut self,
        input: &mut Input<'_>,
        width: u32,
        ((context, keys), wanted): ((&Context, &[u8]), Range<usize>),
        sink: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<()> {
        let unit = context.unit;
        let extremes = match input.u8()? {
            0 => None,
            EXTREMES if unit > 1 => Some(self.extremes(input, width, (unit, keys.len()))?),
            EXTREMES => return corrupt("a unit of one value has no extreme"),
            code => {
                return Err(Error::UnknownCode {
                    what: "grouping",
                    code,
                });
            }
        };
        let kept = unit - usize::from(extremes.is_some());
        let coded = Coded::read(self, input, (width, keys.len(), kept), unit)?;
        let scratch = &mut self.buffers.grouped;
        for (i, part) in parts(keys.len(), units_of_part(unit)).enumerate() {
            if part.end <= wanted.start || part.start >= wanted.end {
                continue;
            }
            let first = part.start;
            let extremes = extremes.as_ref().map(|all| all.of(part.clone()));
            scratch.values.resize(part.len() * unit, 0);
            let of_units = (&keys[part.clone()], extremes);
            coded.part(self.engine, (i, part), of_units, scratch)?;
            sink(first, &scratch.values);
        }
        Ok(())
    }

    /// The extremes of `n` units: two records.
    fn extremes(
        &mut self,
        input: &mut Input<'_>,
        width: u32,
        (unit, n): (usize, usize),
    ) -> Result<Extremes> {
        let bytes = |values: Vec<u16>| values.iter().map(|value| value.to_le_bytes()[0]).collect();
        let mut places = vec![0; n];
        self.record(input, unit.ilog2(), &mut places, Nesting::Byte)?;
        let mut values = vec![0; n];
        self.record(input, width, &mut values, Nesting::Byte)?;
        Ok(Extremes {
            places: bytes(places),
            values: bytes(values),
        })
    }
}

/// A plane of which the parts are not decoded yet.
struct Coded<'a> {
    unit: usize,
    kept: usize,
    symbol_width: u32,
    lower_width: u32,
    set: DecodeSet,
    /// The class of each key.
    classes: [u8; KEYS],
    lower: &'a [u8],
    parts: Vec<&'a [u8]>,
}

impl<'a> Coded<'a> {
    /// `n` units of which `kept` values are coded here.
    fn read(
        decoder: &mut PlaneDecoder<'_>,
        input: &mut Input<'a>,
        (width, n, kept): (u32, usize, usize),
        unit: usize,
    ) -> Result<Self> {
        let lower_width = u32::from(input.u8()?);
        let symbol_width = width.saturating_sub(lower_width);
        if lower_width >= width || symbol_width > SYMBOL_BITS {
            return corrupt("a plane is split where it cannot be");
        }
        let classes = read_blob(input, KEYS, decoder.unpacker)?;
        let set = read_set(input, alphabet_of(1 << symbol_width))?;
        let Ok(classes) = <[u8; KEYS]>::try_from(classes) else {
            return corrupt("keys have no classes");
        };
        let highest = classes.iter().fold(0, |highest, &class| class.max(highest));
        if usize::from(highest) >= set.tables.len() {
            return corrupt("a class has no distribution");
        }
        let lower = input.take(packed_len(n * kept, lower_width))?;
        let mut lens = Vec::new();
        for _ in 1..n_parts(n, units_of_part(unit)) {
            lens.push(input.varint()?);
        }
        let mut parts = Vec::with_capacity(lens.len() + 1);
        for len in lens {
            parts.push(input.take(len)?);
        }
        parts.push(input.take_rest());
        Ok(Self {
            unit,
            kept,
            symbol_width,
            lower_width,
            set,
            classes,
            lower,
            parts,
        })
    }

    /// Fills the values of part `i`, which has these units.
    fn part(
        &self,
        engine: &dyn Engine,
        (i, units): (usize, Range<usize>),
        (keys, extremes): (&[u8], Apart<'_>),
        scratch: &mut Scratch,
    ) -> Result<()> {
        let Scratch {
            arrangement,
            symbols,
            lower,
            values,
        } = scratch;
        arrangement.arrange(keys, &self.classes, self.kept);
        let n = units.len() * self.kept;
        symbols.resize(units::padded(n, self.unit), 0);
        let groups = Classes::Groups(&arrangement.groups);
        engine.decode(&self.set, groups, self.parts[i], &mut symbols[1..=n])?;
        let any = symbols[1..=n].iter().fold(0, |all, symbol| all | symbol);
        if any >> self.symbol_width != 0 {
            return corrupt("a value is too wide for its plane");
        }
        if self.lower_width > 0 {
            lower.resize(units::padded(n, self.unit), 0);
            let how = Packed {
                base: 0,
                shift: 0,
                width: self.lower_width,
            };
            let packed = &self.lower[packed_len(units.start * self.kept, self.lower_width)..];
            (engine.kernels().unpack_bytes)(packed, how, &mut lower[1..=n]);
        }
        let source = Source {
            symbols,
            lower,
            lower_width: self.lower_width,
        };
        let restore = engine.kernels().restore;
        restore(source, &arrangement.starts, extremes, self.unit, values);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
