//! Reads a dense plane: the symbols of each tap stay apart until all are known, and then the
//! values are made in the order of the plane.

use std::ops::Range;

use super::context::{Known, SIZES, STEPS, Scales};
use super::grid::Grid;
use super::{BASE_MAX, N_SCALES_MAX, SCALE_WIDTH, per_scale};
use crate::entropy::{Alphabet, Classes, DecodeSet};
use crate::error::{Result, corrupt};
use crate::input::Input;
use crate::plane::blob::read_blob;
use crate::plane::rans::{read_blocks, read_set};
use crate::plane::{Nesting, PlaneDecoder};

/// Values that are made at once: their symbols stay in the first cache.
const STRIP: usize = 4096;
/// The bit of a symbol, once it no longer depends on the prediction, that is its sign.
const SIGN: u8 = 16;
const _: () = assert!(SIGN as usize == STEPS);
/// What a value shows its neighbours, by its symbol.
const SHOWN: [i8; 2 * STEPS] = shown();

/// What decoding keeps from one plane to the next, so that memory is not fetched anew.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    known: Known,
    scales: Vec<u8>,
    classes: Vec<u8>,
    symbols: Vec<u8>,
    /// The symbols of each tap with the signs that they mean, and what they show; `n_kernels` each.
    signed: Vec<u8>,
    shown: Vec<i8>,
    /// Kernels that have an escape, tap by tap.
    escaped: Vec<u32>,
}

impl PlaneDecoder<'_> {
    pub(in crate::plane) fn dense(
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
        let Some(size_width) = width.checked_sub(u32::from(grid.has_signs())) else {
            return corrupt("a plane has no room for signs");
        };
        let escapes = self.escapes(input, size_width, values.len())?;
        let n_scales = input.varint()?;
        if !(1..=N_SCALES_MAX).contains(&n_scales) {
            return corrupt("the number of scales is out of range");
        }
        let set = read_set(input, Alphabet::ThirtyTwo)?;
        let map = read_blob(input, n_scales * per_scale(grid.kernel), self.unpacker)?;
        let mut buffers = std::mem::take(&mut self.buffers.dense);
        let mut plane = Plane {
            grid,
            base,
            scales: Scales { columns, rows },
            n_scales,
            escapes: &escapes,
            of_tap: vec![0..0; grid.kernel.taps()],
            buffers: &mut buffers,
        };
        let result = self
            .waves(input, (&set, &map), &mut plane)
            .and_then(|()| plane.fill(size_width, values));
        self.buffers.dense = buffers;
        result
    }

    fn waves(
        &self,
        input: &mut Input<'_>,
        (set, map): (&DecodeSet, &[u8]),
        plane: &mut Plane<'_>,
    ) -> Result<()> {
        plane.begin();
        for wave in 0..plane.grid.kernel.waves() {
            plane.classes(wave, map);
            let mut blocks = Input::new(input.sized()?);
            let Buffers {
                classes, symbols, ..
            } = &mut *plane.buffers;
            symbols.resize(classes.len(), 0);
            let classes = Classes::Symbols(classes);
            read_blocks(self.engine, set, classes, &mut blocks, symbols)?;
            plane.keep(wave);
        }
        if plane.buffers.escaped.len() != plane.escapes.len() {
            return corrupt("a plane has more or fewer values apart than it needs");
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

/// A plane that is being read.
struct Plane<'a> {
    grid: Grid,
    base: u16,
    scales: Scales,
    n_scales: usize,
    escapes: &'a [u16],
    /// The escapes of each tap.
    of_tap: Vec<Range<usize>>,
    buffers: &'a mut Buffers,
}

impl Plane<'_> {
    fn begin(&mut self) {
        let n = self.grid.n_kernels() * self.grid.kernel.taps();
        let Buffers {
            signed,
            shown,
            escaped,
            ..
        } = &mut *self.buffers;
        escaped.clear();
        signed.clear();
        signed.resize(n, 0);
        shown.clear();
        shown.resize(n, 0);
    }

    /// Finds the classes of a wave's values.
    fn classes(&mut self, wave: usize, map: &[u8]) {
        let grid = self.grid;
        let Buffers {
            known,
            scales,
            classes,
            shown,
            ..
        } = &mut *self.buffers;
        known.clear();
        classes.clear();
        for tap in grid.kernel.of_wave(wave) {
            scales.clear();
            self.scales.add_tap(grid, tap, scales);
            let start = known.contexts.len();
            known.add(grid, tap, (scales, self.n_scales), shown);
            let class = |&context: &u16| map.get(usize::from(context)).copied().unwrap_or(0);
            classes.extend(known.contexts[start..].iter().map(class));
        }
    }

    /// Keeps the symbols of a wave, tap by tap.
    fn keep(&mut self, wave: usize) {
        let grid = self.grid;
        let n_kernels = grid.n_kernels();
        let mask = self.mask();
        let Buffers {
            known,
            symbols,
            signed,
            shown,
            escaped,
            ..
        } = &mut *self.buffers;
        let mut start = 0;
        for tap in grid.kernel.of_wave(wave) {
            let kernels = grid.kernels(tap);
            let symbols = &symbols[start..start + kernels.len()];
            let negative = &known.negative[start..start + kernels.len()];
            start += kernels.len();
            let first = tap * n_kernels;
            let signed = &mut signed[first..][kernels.clone()];
            let shown = &mut shown[first..][kernels.clone()];
            for ((to, symbol), negative) in signed.iter_mut().zip(symbols).zip(negative) {
                *to = symbol ^ (negative << SIGN.trailing_zeros());
            }
            for (shown, symbol) in shown.iter_mut().zip(&*signed) {
                *shown = SHOWN[usize::from(symbol & (2 * SIGN - 1))];
            }
            self.of_tap[tap] = escaped.len()..escaped.len();
            for (kernel, _) in (0u32..).zip(&*signed).filter(|(_, s)| **s & mask == 0) {
                escaped.push(kernel + small(kernels.start));
            }
            self.of_tap[tap].end = escaped.len();
        }
    }

    /// Makes the values.
    fn fill(&self, size_width: u32, values: &mut [u16]) -> Result<()> {
        let mut symbols = [0; STRIP];
        let mut any = 0;
        let mut next = self.of_tap.clone();
        for (i, values) in values.chunks_mut(STRIP).enumerate() {
            let symbols = &mut symbols[..values.len()];
            self.gather(i * STRIP, symbols);
            any |= self.sizes(i * STRIP, symbols, values);
            if self.grid.has_signs() {
                for (value, symbol) in values.iter_mut().zip(&*symbols) {
                    *value |= u16::from(symbol / SIGN) << size_width;
                }
            }
            self.replace(i * STRIP, size_width, &mut next, values);
        }
        // What is too wide for a size would be taken for a sign.
        if u32::from(any) >> size_width != 0 {
            return corrupt("a value is too wide for its plane");
        }
        Ok(())
    }

    /// The symbols of the values from `first` on, in their order.
    fn gather(&self, first: usize, symbols: &mut [u8]) {
        let taps = self.grid.kernel.taps();
        let signed = self
            .buffers
            .signed
            .chunks_exact(self.grid.n_kernels().max(1));
        for (tap, signed) in signed.enumerate() {
            let (kernel, offset) = self.grid.first_kernel(tap, first);
            let places = symbols.iter_mut().skip(offset).step_by(taps);
            for (to, symbol) in places.zip(&signed[kernel..]) {
                *to = *symbol;
            }
        }
    }

    /// The sizes of the values from `first` on, and the bits that any of them has.
    fn sizes(&self, first: usize, symbols: &[u8], values: &mut [u16]) -> u16 {
        let mask = u16::from(self.mask());
        let row_len = self.grid.row_len();
        let mut any = 0;
        let mut done = 0;
        while done < values.len() {
            let at = self.grid.before + first + done;
            let (row, column) = (at / row_len, at % row_len);
            let len = (row_len - column).min(values.len() - done);
            let base = self.base + u16::from(self.scales.rows.get(row).copied().unwrap_or(0));
            let columns = &self.scales.columns[column..column + len];
            let symbols = symbols[done..done + len].iter().zip(columns);
            for (value, (&symbol, &scale)) in values[done..done + len].iter_mut().zip(symbols) {
                let step = u16::from(symbol) & mask;
                let size = base + u16::from(scale) + step;
                any |= if step == 0 { 0 } else { size };
                *value = size;
            }
            done += len;
        }
        any
    }

    /// Puts the escapes among the values from `first` on in their places.
    fn replace(
        &self,
        first: usize,
        size_width: u32,
        next: &mut [Range<usize>],
        values: &mut [u16],
    ) {
        let sign = u16::from(self.grid.has_signs()) << size_width.min(15);
        for (tap, next) in next.iter_mut().enumerate() {
            while next.start < next.end {
                let kernel = self.buffers.escaped[next.start] as usize;
                let place = self.grid.place(tap, kernel) - first;
                let Some(value) = values.get_mut(place) else {
                    break;
                };
                *value = *value & sign | self.escapes[next.start];
                next.start += 1;
            }
        }
    }

    /// The bits of a symbol that are its step.
    fn mask(&self) -> u8 {
        if self.grid.has_signs() {
            SIGN - 1
        } else {
            2 * SIGN - 1
        }
    }
}

fn small(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

const fn shown() -> [i8; 2 * STEPS] {
    let mut shown = [0; 2 * STEPS];
    let mut step = 0;
    while step < STEPS {
        shown[step] = SIZES[step];
        shown[step + STEPS] = -SIZES[step];
        step += 1;
    }
    shown
}
