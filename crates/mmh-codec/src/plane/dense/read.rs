//! Reads a dense plane: its symbols become codes tap by tap, and the codes of any numbers are
//! brought into their order when they are asked for.

use std::ops::Range;

use super::context::{Known, Scales};
use super::grid::Grid;
use super::{BASE_MAX, N_SCALES_MAX, SCALE_WIDTH, per_scale, rows_of_map};
use crate::entropy::{Alphabet, Classes, DecodeSet};
use crate::error::{Result, corrupt};
use crate::input::Input;
use crate::kernel::dense::{Coded, Interleave, Kept, PER_SCALE, SIGN};
use crate::kernel::{Above, Kernels};
use crate::plane::blob::read_blob;
use crate::plane::rans::{read_blocks, read_set};
use crate::plane::{Nesting, PlaneDecoder};

/// What decoding keeps from one plane to the next, so that memory is not fetched anew.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    known: Known,
    classes: Vec<u8>,
    symbols: Vec<u8>,
    /// What the values of each tap show, one for each kernel, [`Grid::stride`] apart.
    shown: Vec<i8>,
    /// Those of a plane that is no longer needed.
    codes: Vec<u8>,
}

/// How far codes may begin below the base: as far as the highest step of the highest scale leaves
/// room, in kernels and without.
const LIFT_SIGNED: u8 = 127 - 15 - 63;
const LIFT: u8 = 255 - 31 - 2 * 63;

/// How the symbols of a plane were coded.
struct CodedWaves<'a> {
    scales: &'a Scales,
    n_scales: usize,
    set: &'a DecodeSet,
    map: &'a [[u8; PER_SCALE]],
    lift: u8,
}

/// A plane whose symbols are decoded.
#[derive(Debug)]
pub(crate) struct DensePlane {
    grid: Grid,
    above: Above,
    size_width: u32,
    /// Of each tap one for each kernel, [`Grid::stride`] apart.
    codes: Vec<u8>,
    /// The values that no code stands for.
    escapes: Vec<u16>,
    /// The kernels that have these, tap by tap; and which of them each tap has.
    escaped: Vec<u32>,
    of_tap: Vec<Range<usize>>,
    interleave: Interleave,
}

impl PlaneDecoder<'_> {
    /// Reads a dense plane of `n` values of `width` bits.
    pub(in crate::plane) fn dense(
        &mut self,
        input: &mut Input<'_>,
        (n, width): (usize, u32),
    ) -> Result<DensePlane> {
        let grid = Grid::read(input, n)?;
        let base = u16::from_le_bytes([input.u8()?, input.u8()?]);
        if base > BASE_MAX {
            return corrupt("the least scale is out of range");
        }
        let columns = self.scales(input, grid.row_len())?;
        let rows = match input.u8()? {
            0 => Vec::new(),
            1 if !grid.has_signs() => self.scales(input, grid.n_rows())?,
            _ => return corrupt("rows have no possible scales"),
        };
        let Some(size_width) = width.checked_sub(u32::from(grid.has_signs())) else {
            return corrupt("a plane has no room for signs");
        };
        let escapes = self.escapes(input, size_width, n)?;
        let n_scales = input.varint()?;
        if !(1..=N_SCALES_MAX).contains(&n_scales) {
            return corrupt("the number of scales is out of range");
        }
        let set = read_set(input, Alphabet::ThirtyTwo)?;
        let map = read_blob(input, n_scales * per_scale(grid.kernel), self.unpacker)?;
        // Codes begin lower, so that most values apart become codes too.
        let room = if grid.has_signs() { LIFT_SIGNED } else { LIFT };
        let lift = u8::try_from(base).map_or(room, |base| base.min(room));
        let mut plane = DensePlane {
            grid,
            above: Above {
                base: base - u16::from(lift),
                mask: u16::MAX.checked_shr(u16::BITS - size_width).unwrap_or(0),
                signed: grid.has_signs(),
            },
            size_width,
            codes: std::mem::take(&mut self.buffers.dense.codes),
            escapes: Vec::new(),
            escaped: Vec::new(),
            of_tap: vec![0..0; grid.kernel.taps()],
            interleave: Interleave::new(grid.kernel.sides()),
        };
        let scales = Scales { columns, rows };
        let map = rows_of_map(map);
        let coded = CodedWaves {
            scales: &scales,
            n_scales,
            set: &set,
            map: map.as_chunks().0,
            lift,
        };
        self.waves(input, &mut plane, &coded, &escapes)?;
        Ok(plane)
    }

    /// Decodes the symbols of all waves.
    fn waves(
        &mut self,
        input: &mut Input<'_>,
        plane: &mut DensePlane,
        coded: &CodedWaves<'_>,
        mut escapes: &[u16],
    ) -> Result<()> {
        let grid = plane.grid;
        let kernels = self.engine.kernels();
        let Buffers {
            known,
            classes,
            symbols,
            shown,
            ..
        } = &mut self.buffers.dense;
        let n = grid.stride() * grid.kernel.taps();
        plane.codes.resize(n.max(plane.codes.len()), 0);
        shown.resize(n.max(shown.len()), 0);
        plane.blank_ends(shown);
        let (mut highest, mut n_escapes) = (0, 0);
        for wave in 0..grid.kernel.waves() {
            known.clear();
            for tap in grid.kernel.of_wave(wave) {
                let scales = (coded.scales, coded.n_scales);
                known.add((grid, tap), scales, shown, &kernels);
            }
            let (scales, contexts) = known.all();
            classes.resize(scales.len().max(classes.len()), 0);
            symbols.resize(scales.len().max(symbols.len()), 0);
            let classes = &mut classes[..scales.len()];
            let symbols = &mut symbols[..scales.len()];
            (kernels.classes)(coded.map, (scales, contexts), classes);
            let mut blocks = Input::new(input.sized()?);
            let classes = Classes::Symbols(classes);
            read_blocks(self.engine, coded.set, classes, &mut blocks, symbols)?;
            let mut start = 0;
            for tap in grid.kernel.of_wave(wave) {
                let values = start..start + grid.kernels(tap).len();
                start = values.end;
                let part = Coded {
                    symbols: &symbols[values.clone()],
                    known: &contexts[values.clone()],
                    scales: &scales[values],
                };
                let part = (part, coded.lift, escapes);
                let (above, used) = plane.keep(&kernels, tap, part, shown)?;
                highest = highest.max(above);
                n_escapes += used;
                escapes = &escapes[used..];
            }
        }
        if !escapes.is_empty() {
            return corrupt("a plane has more values apart than it needs");
        }
        // What is too wide for a size would be taken for a sign.
        let highest = u32::from(plane.above.base) + u32::from(highest);
        if highest >> plane.size_width != 0 && n_escapes < grid.n {
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

/// Values that no code stands for, each of which is met once.
#[derive(Debug)]
pub(crate) struct Escapes<'a> {
    plane: &'a DensePlane,
    /// The next of each tap.
    next: Vec<usize>,
}

impl Escapes<'_> {
    /// Hands over the values before the place `end`, with their places, those of a tap in order.
    #[inline]
    pub(crate) fn until(&mut self, end: usize, mut take: impl FnMut(usize, u16)) {
        let DensePlane {
            grid,
            size_width,
            codes,
            escapes,
            escaped,
            of_tap,
            ..
        } = self.plane;
        let (taps, phase) = (grid.kernel.taps(), grid.phase());
        let of_taps = of_tap.iter().zip(codes.chunks_exact(grid.stride()));
        for (tap, (next, (of_tap, codes))) in self.next.iter_mut().zip(of_taps).enumerate() {
            // What is before the end has a kernel before this one.
            let end = (end + phase).saturating_sub(tap).div_ceil(taps);
            let kernels = &escaped[*next..of_tap.end];
            let sizes = &escapes[*next..of_tap.end];
            for (&kernel, &size) in kernels.iter().zip(sizes) {
                let kernel = kernel as usize;
                if kernel >= end {
                    break;
                }
                let sign = u16::from(codes[kernel] & SIGN) >> 7;
                let sign = if grid.has_signs() { sign } else { 0 };
                let value = size | sign.unbounded_shl(*size_width);
                take(grid.place(tap, kernel), value);
                *next += 1;
            }
        }
    }
}

impl DensePlane {
    /// What codes mean.
    pub(crate) fn above(&self) -> Above {
        self.above
    }

    /// Replaces `codes` with those of the kernels that the values in `range` are of, and says where
    /// among them theirs begin.
    pub(crate) fn codes(
        &self,
        kernels: &Kernels,
        range: &Range<usize>,
        codes: &mut Vec<u8>,
    ) -> usize {
        let taps = self.grid.kernel.taps();
        let of = self.grid.kernels_of(range);
        codes.resize(of.len() * taps, 0);
        let all = self.codes.chunks_exact(self.grid.stride()).take(taps);
        let parts: Vec<&[u8]> = all.map(|codes| &codes[of.clone()]).collect();
        (kernels.interleave)(&self.interleave, &parts, codes);
        self.grid.phase() + range.start - of.start * taps
    }

    /// The values from place `start` on that no code stands for: the first of each tap.
    pub(crate) fn escapes(&self, start: usize) -> Escapes<'_> {
        let first = self.of_tap.iter().enumerate().map(|(tap, of_tap)| {
            let kernels = &self.escaped[of_tap.clone()];
            let place = |&kernel: &u32| self.grid.place(tap, kernel as usize);
            of_tap.start + kernels.partition_point(|kernel| place(kernel) < start)
        });
        Escapes {
            plane: self,
            next: first.collect(),
        }
    }

    /// All values.
    pub(crate) fn fill(&self, kernels: &Kernels, values: &mut [u16]) {
        let mut codes = Vec::new();
        let start = self.codes(kernels, &(0..values.len()), &mut codes);
        for (value, code) in values.iter_mut().zip(&codes[start..]) {
            let (size, sign) = self.above.of(*code);
            *value = size | (sign >> 15).unbounded_shl(self.size_width);
        }
        let end = values.len();
        self.escapes(0)
            .until(end, |place, value| values[place] = value);
    }

    /// Gives back the memory.
    pub(crate) fn into_buffers(self, buffers: &mut Buffers) {
        buffers.codes = self.codes;
    }

    /// The first and the last kernel may lack taps, which show nothing.
    fn blank_ends(&self, shown: &mut [i8]) {
        let last = self.grid.n_kernels().saturating_sub(1);
        for shown in shown.chunks_exact_mut(self.grid.stride()) {
            shown[0] = 0;
            shown[last] = 0;
        }
    }

    /// Makes codes of the symbols of a tap, and of as many `escapes` as it needs; what no code can
    /// stand for is noted. Gives the highest of the others, and how many escapes that were.
    fn keep(
        &mut self,
        kernels: &Kernels,
        tap: usize,
        (coded, lift, escapes): (Coded<'_>, u8, &[u16]),
        shown: &mut [i8],
    ) -> Result<(u8, usize)> {
        let (keep, size) = if self.grid.has_signs() {
            (kernels.keep_signed, SIGN - 1)
        } else {
            (kernels.keep, u8::MAX)
        };
        let range = self.grid.kernels(tap);
        let first = tap * self.grid.stride();
        let start = self.escaped.len();
        let kept = Kept {
            codes: &mut self.codes[first..][range.clone()],
            shown: &mut shown[first..][range.clone()],
            escaped: &mut self.escaped,
            first: u32::try_from(range.start).unwrap_or(u32::MAX),
            lift,
        };
        let highest = keep(coded, kept);
        let codes = &mut self.codes[first..];
        let used = self.escaped.len() - start;
        let Some(escapes) = escapes.get(..used) else {
            return corrupt("a plane has fewer values apart than it needs");
        };
        let mut end = start;
        for (i, &escape) in (start..).zip(escapes) {
            let kernel = self.escaped[i];
            let code = &mut codes[kernel as usize];
            match escape.checked_sub(self.above.base) {
                Some(above) if above <= u16::from(size) => {
                    *code = *code & !size | above.to_le_bytes()[0];
                }
                _ => {
                    self.escaped[end] = kernel;
                    self.escapes.push(escape);
                    end += 1;
                }
            }
        }
        self.escaped.truncate(end);
        self.of_tap[tap] = start..end;
        Ok((highest, used))
    }
}
