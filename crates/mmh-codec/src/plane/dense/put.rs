//! Writes a plane densely.

use super::context::{Known, Scales};
use super::fit::fit;
use super::grid::Grid;
use super::{N_SCALES_MAX, SCALE_WIDTH, per_scale, rows_of_map};
use crate::bits::packed_len;
use crate::cluster::{Effort, Histogram, SEGMENT_LEN_MAX, cluster};
use crate::entropy::{
    Alphabet, CLASSES_MAX, Classes, EncodeSet, Engine, Levels, SYMBOLS_MAX, put_tables,
};
use crate::error::Result;
use crate::input::{put_sized, put_varint};
use crate::kernel::Kernels;
use crate::kernel::dense::{PER_SCALE, SIGN, SIZES, STEPS};
use crate::layout::FloatFormat;
use crate::plane::blob::put_blob;
use crate::plane::packed::Packing;
use crate::plane::rans::put_blocks;
use crate::plane::{Coder, PlaneEncoder, Rows, Shape, put_record};

/// Scales that choose classes: those of a kernel have more contexts each.
const N_SCALES_SIGNED: usize = 16;
const N_SCALES: usize = 32;
/// Beside dense exponents, mantissas are split only where that saves one part in this many of
/// packing: it takes as long again to decode.
const SPLIT_SHARE: usize = 16;
/// The search for classes: as many as are decoded fast.
const EFFORT: Effort = Effort {
    classes_max: CLASSES_MAX / 2,
    rounds: 6,
};

impl PlaneEncoder<'_> {
    /// Appends the records of the planes of floats, that of the exponents densely.
    pub(crate) fn put_dense(
        &mut self,
        format: FloatFormat,
        raw: &[u8],
        grid: Grid,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let mut planes = format.split(raw);
        let signed = grid.has_signs();
        if signed {
            format.move_signs(&mut planes);
        }
        let rows = Rows::new(grid.row_len() as u64, grid.before as u64);
        let widths = format.planes().zip(format.signed_planes());
        for (i, (values, ((_, width), (_, with_sign)))) in planes.iter().zip(widths).enumerate() {
            let width = if signed { with_sign } else { width };
            if i == 0 {
                let mut coded = Vec::new();
                self.dense(values, width, grid, &mut coded)?;
                put_record(Coder::Dense, &coded, out);
                continue;
            }
            let sequential = false;
            let shape = Shape {
                width,
                rows,
                sequential,
            };
            let start = out.len();
            self.put(values, shape, out)?;
            let packed = packed_len(values.len(), width);
            let saves_little = out.len() - start > packed - packed / SPLIT_SHARE;
            if out.get(start) == Some(&Coder::Split.code()) && saves_little {
                out.truncate(start);
                let mut coded = Vec::new();
                Packing::of(values, rows).put(values, self.packer, &mut coded)?;
                put_record(Coder::Packed, &coded, out);
            }
        }
        Ok(())
    }

    /// Appends the content of a dense record.
    pub(super) fn dense(
        &mut self,
        values: &[u16],
        width: u32,
        grid: Grid,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let signed = grid.has_signs();
        let size_width = width - u32::from(signed);
        let mask = u16::MAX >> (u16::BITS - size_width);
        let sizes: Vec<u16> = values.iter().map(|value| value & mask).collect();
        let (base, scales) = fit(grid, &sizes);
        grid.put(out);
        out.extend_from_slice(&base.to_le_bytes());
        self.put_scales(&scales.columns, out)?;
        out.push(u8::from(!scales.rows.is_empty()));
        if !scales.rows.is_empty() {
            self.put_scales(&scales.rows, out)?;
        }
        let highest = |scales: &[u8]| usize::from(scales.iter().copied().max().unwrap_or(0));
        let n_scales = highest(&scales.columns) + highest(&scales.rows) + 1;
        let n_scales = n_scales
            .min(if signed { N_SCALES_SIGNED } else { N_SCALES })
            .min(N_SCALES_MAX);
        let waves = Writer {
            grid,
            base,
            scales: &scales,
            n_scales,
            sign: if signed { mask + 1 } else { 0 },
            kernels: self.engine.kernels(),
        }
        .waves(values);
        put_varint(out, waves.escapes.len());
        if !waves.escapes.is_empty() {
            let mut record = Vec::new();
            let coder = self.choose(&waves.escapes, plain(size_width), &mut record)?;
            put_record(coder, &record, out);
        }
        put_varint(out, n_scales);
        let (levels, map) = classes(self.engine, &waves, n_scales * per_scale(grid.kernel));
        put_varint(out, levels.len());
        put_sized(out, &put_tables(&levels, Alphabet::ThirtyTwo));
        put_blob(&map, self.packer, out)?;
        let set = EncodeSet::new(&levels, Alphabet::ThirtyTwo);
        let map = rows_of_map(map);
        let mut ids = vec![0; waves.symbols.len()];
        (self.engine.kernels().classes)(map.as_chunks().0, waves.known.all(), &mut ids);
        for wave in &waves.ends {
            let symbols = &waves.symbols[wave.clone()];
            let mut blocks = Vec::new();
            put_blocks(
                self.engine,
                &set,
                Classes::Symbols(&ids[wave.clone()]),
                symbols,
                &mut blocks,
            )?;
            put_sized(out, &blocks);
        }
        Ok(())
    }

    fn put_scales(&mut self, scales: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let scales: Vec<u16> = scales.iter().copied().map(u16::from).collect();
        self.put(&scales, plain(SCALE_WIDTH), out)
    }
}

/// The shape of a plane without rows.
fn plain(width: u32) -> Shape {
    Shape {
        width,
        rows: Rows::default(),
        sequential: false,
    }
}

/// What becomes of a plane, all waves in their order.
struct Waves {
    known: Known,
    symbols: Vec<u8>,
    escapes: Vec<u16>,
    ends: Vec<std::ops::Range<usize>>,
}

struct Writer<'a> {
    grid: Grid,
    base: u16,
    scales: &'a Scales,
    n_scales: usize,
    /// The bit of the sign; 0 if the plane has none.
    sign: u16,
    kernels: Kernels,
}

impl Writer<'_> {
    fn waves(&self, values: &[u16]) -> Waves {
        let grid = self.grid;
        let mut waves = Waves {
            known: Known::default(),
            symbols: Vec::with_capacity(values.len()),
            escapes: Vec::new(),
            ends: Vec::new(),
        };
        let mut shown = vec![0; grid.kernel.taps() * grid.stride()];
        for wave in 0..grid.kernel.waves() {
            let start = waves.symbols.len();
            for tap in grid.kernel.of_wave(wave) {
                let scales = (self.scales, self.n_scales);
                let known = &mut waves.known;
                known.add((grid, tap), scales, &shown, &self.kernels);
                let shown = &mut shown[tap * grid.stride()..][grid.kernels(tap)];
                self.tap(tap, values, (shown, &mut waves));
            }
            waves.ends.push(start..waves.symbols.len());
        }
        waves
    }

    /// Appends the symbols of a tap, and tells what they show their neighbours.
    fn tap(&self, tap: usize, values: &[u16], (shown, waves): (&mut [i8], &mut Waves)) {
        let grid = self.grid;
        let steps = if self.sign == 0 { SYMBOLS_MAX } else { STEPS };
        let start = waves.symbols.len();
        let (scales, known) = waves.known.all();
        let known = scales[start..].iter().zip(&known[start..]);
        let places = grid.places(tap).zip(known);
        for (shown, (place, (&scale, &known))) in shown.iter_mut().zip(places) {
            let value = values[place];
            let size = value & self.sign.wrapping_sub(1);
            let below = u16::from(scale) + self.base;
            let step = usize::from(size.saturating_sub(below));
            let step = if step < steps { step } else { 0 };
            if step == 0 {
                waves.escapes.push(size);
            }
            let mut symbol = u8::try_from(step).unwrap_or(0);
            if self.sign != 0 {
                let sign = if value & self.sign == 0 { 0 } else { SIGN };
                let size = SIZES[step % STEPS];
                *shown = if sign == 0 { size } else { -size };
                symbol |= ((known ^ sign) & SIGN) >> 3;
            }
            waves.symbols.push(symbol);
        }
    }
}

/// The distributions, and the class of each context.
fn classes(engine: &dyn Engine, waves: &Waves, n_contexts: usize) -> (Vec<Levels>, Vec<u8>) {
    let mut counts = vec![[0u32; SYMBOLS_MAX]; n_contexts];
    let n_rows = n_contexts.div_ceil(PER_SCALE);
    let (scales, known) = waves.known.all();
    for ((&scale, &known), &symbol) in scales.iter().zip(known).zip(&waves.symbols) {
        let row = usize::from(scale).min(n_rows - 1);
        let context = row * PER_SCALE + usize::from(known) % PER_SCALE;
        counts[context][usize::from(symbol & 31)] += 1;
    }
    // A context with more symbols than a histogram can hold is several of the same.
    let mut parts: Vec<Histogram> = Vec::new();
    let mut first_part = Vec::with_capacity(n_contexts);
    for counts in &counts {
        let total: u32 = counts.iter().sum();
        let n = total.div_ceil(PART_LEN);
        first_part.push((n > 0).then_some(parts.len()));
        parts.extend((0..n).map(|_| counts.map(|count| share(count, n))));
    }
    let clusters = cluster(&parts, Alphabet::ThirtyTwo, EFFORT, &engine.kernels());
    let ids = first_part
        .iter()
        .map(|part| part.map_or(0, |part| clusters.ids[part]));
    let map: Vec<u8> = ids.collect();
    let mut sums = vec![[0u32; SYMBOLS_MAX]; clusters.levels.len()];
    for (counts, &id) in counts.iter().zip(&map) {
        for (sum, count) in sums[usize::from(id)].iter_mut().zip(counts) {
            *sum += count;
        }
    }
    (sums.iter().map(Levels::from_counts).collect(), map)
}

/// Most symbols of a part: half of what a histogram may hold, since shares are rounded up.
const PART_LEN: u32 = 1 << 13;
const _: () = assert!(PART_LEN as usize <= SEGMENT_LEN_MAX / 2);

/// The share of one of `n` parts, rounded up so that no symbol is lost.
fn share(count: u32, n: u32) -> i16 {
    i16::try_from(count.div_ceil(n)).unwrap_or(i16::MAX)
}
