//! Dense coding of a plane of exponents: each value relative to the scale of its column, in a
//! class that its scale and, in the kernels of a convolution, its neighbours choose.
//!
//! The taps of a convolution's kernel are like pixels: those next to each other have like signs
//! and sizes. Taps are coded in waves, so that a value's neighbours come before it and all values
//! of a wave are coded together. FORMAT.md, "Dense".

mod context;
mod fit;
mod grid;
mod put;

pub(crate) use fit::find;
pub(crate) use grid::Grid;
use grid::Kernel;

use super::blob::read_blob;
use super::rans::{read_blocks, read_set};
use super::{Nesting, PlaneDecoder};
use crate::entropy::{Alphabet, Classes};
use crate::error::{Result, corrupt};
use crate::input::Input;
use context::{Known, PER_SCALE, SIZES, STEPS, Scales, Sizes};

/// Bits of a scale of a row or a column.
const SCALE_WIDTH: u32 = 6;
/// Most scales that choose a class; higher ones are as the highest.
const N_SCALES_MAX: usize = 64;
/// The highest base, so that no sum overflows: above the widest plane.
const BASE_MAX: u16 = 1 << 13;

/// The contexts of each scale.
fn per_scale(kernel: Kernel) -> usize {
    if kernel.taps() == 1 { 1 } else { PER_SCALE }
}

impl PlaneDecoder<'_> {
    pub(super) fn dense(
        &mut self,
        input: &mut Input<'_>,
        width: u32,
        values: &mut [u16],
    ) -> Result<()> {
        let grid = Grid::read(input, values.len())?;
        let base = u16::from_le_bytes([input.u8()?, input.u8()?]);
        if base > BASE_MAX {
            return corrupt("the least scale is out of range");
        }
        let columns = self.scales(input, grid.row_len())?;
        let rows = match input.u8()? {
            0 => Vec::new(),
            1 => self.scales(input, grid.n_rows())?,
            _ => return corrupt("rows have no possible scales"),
        };
        let signed = grid.has_signs();
        let Some(size_width) = width.checked_sub(u32::from(signed)) else {
            return corrupt("a plane has no room for signs");
        };
        let escapes = self.escapes(input, size_width, values.len())?;
        let n_scales = input.varint()?;
        if !(1..=N_SCALES_MAX).contains(&n_scales) {
            return corrupt("the number of scales is out of range");
        }
        let set = read_set(input, Alphabet::ThirtyTwo)?;
        let map = read_blob(input, n_scales * per_scale(grid.kernel), self.unpacker)?;
        let mut reader = Reader {
            grid,
            base,
            scales: Scales { columns, rows },
            sizes: vec![Sizes::new(); grid.kernel.taps()],
            escapes: escapes.into_iter(),
            any: 0,
            sign: u32::from(signed) << size_width,
        };
        for wave in 0..grid.kernel.waves() {
            let known = reader.known(wave, n_scales);
            let class = |&context: &u16| map.get(usize::from(context)).copied().unwrap_or(0);
            let classes: Vec<u8> = known.contexts.iter().map(class).collect();
            let mut symbols = vec![0; classes.len()];
            let mut blocks = Input::new(input.sized()?);
            let classes = Classes::Symbols(&classes);
            read_blocks(self.engine, &set, classes, &mut blocks, &mut symbols)?;
            reader.place(wave, &symbols, &known.negative, values)?;
        }
        if reader.escapes.next().is_some() {
            return corrupt("a plane has more values apart than it needs");
        }
        if u32::from(reader.any) >> size_width != 0 {
            return corrupt("a value is too wide for its plane");
        }
        Ok(())
    }

    fn scales(&mut self, input: &mut Input<'_>, n: usize) -> Result<Vec<u8>> {
        let mut scales = vec![0; n];
        self.record(input, SCALE_WIDTH, &mut scales, Nesting::Byte)?;
        Ok(scales.into_iter().map(|s| s.to_le_bytes()[0]).collect())
    }

    /// The values that no symbol stands for.
    fn escapes(&mut self, input: &mut Input<'_>, width: u32, n: usize) -> Result<Vec<u16>> {
        let count = input.varint()?;
        if count > n {
            return corrupt("a plane has more values apart than values");
        }
        let mut values = vec![0; count];
        if count > 0 {
            self.record(input, width, &mut values, Nesting::Byte)?;
        }
        Ok(values)
    }
}

/// A plane that is being read, wave by wave.
struct Reader {
    grid: Grid,
    base: u16,
    scales: Scales,
    /// The values that were read, as their neighbours see them; by tap.
    sizes: Vec<Sizes>,
    escapes: std::vec::IntoIter<u16>,
    /// The bits that any value has.
    any: u16,
    /// The bit of the sign; 0 if the plane has none.
    sign: u32,
}

impl Reader {
    fn known(&self, wave: usize, n_scales: usize) -> Known {
        let mut known = Known::default();
        for tap in self.grid.kernel.of_wave(wave) {
            let scales = self.scales.of_tap(self.grid, tap);
            known.add(self.grid, tap, (&scales, n_scales), &self.sizes);
        }
        known
    }

    /// Puts the values of a wave in their places.
    fn place(
        &mut self,
        wave: usize,
        symbols: &[u8],
        negative: &[u8],
        values: &mut [u16],
    ) -> Result<()> {
        let grid = self.grid;
        let mut start = 0;
        for tap in grid.kernel.of_wave(wave) {
            let end = start + grid.kernels(tap).len();
            let part = (&symbols[start..end], &negative[start..end]);
            start = end;
            if self.sign == 0 {
                self.place_sizes(tap, part.0, values)?;
            } else {
                self.place_signed(tap, part, values)?;
            }
        }
        Ok(())
    }

    fn place_sizes(&mut self, tap: usize, symbols: &[u8], values: &mut [u16]) -> Result<()> {
        let scales = self.scales.of_tap(self.grid, tap);
        for ((place, &symbol), &scale) in self.grid.places(tap).zip(symbols).zip(&scales) {
            let size = if symbol == 0 {
                self.escapes.next().ok_or(NO_ESCAPE)?
            } else {
                self.base + u16::from(scale) + u16::from(symbol)
            };
            self.any |= size;
            values[place] = size;
        }
        Ok(())
    }

    fn place_signed(
        &mut self,
        tap: usize,
        (symbols, negative): (&[u8], &[u8]),
        values: &mut [u16],
    ) -> Result<()> {
        let grid = self.grid;
        let scales = self.scales.of_tap(grid, tap);
        let sign = u16::try_from(self.sign).unwrap_or(0);
        let mut seen = vec![0; grid.n_kernels()];
        let targets = seen[grid.kernels(tap)].iter_mut().zip(grid.places(tap));
        let symbols = symbols.iter().zip(negative).zip(&scales);
        for ((seen, place), ((&symbol, &negative), &scale)) in targets.zip(symbols) {
            let step = symbol & 15;
            let size = if step == 0 {
                self.escapes.next().ok_or(NO_ESCAPE)?
            } else {
                self.base + u16::from(scale) + u16::from(step)
            };
            let negative = symbol >> 4 ^ negative;
            let shown = SIZES[usize::from(step) % STEPS];
            *seen = if negative == 1 { -shown } else { shown };
            self.any |= size;
            values[place] = size | (sign * u16::from(negative));
        }
        self.sizes[tap] = seen;
        Ok(())
    }
}

const NO_ESCAPE: crate::error::Error = crate::error::Error::Corrupt {
    what: "a plane has fewer values apart than it needs",
};

#[cfg(test)]
mod tests;
