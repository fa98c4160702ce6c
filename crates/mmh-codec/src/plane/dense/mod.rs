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
mod read;
mod sample;

pub(crate) use fit::find;
pub(crate) use grid::Grid;

pub(crate) use read::{Buffers, DensePlane};

use crate::kernel::dense::PER_SCALE;
use grid::Kernel;

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

/// The classes of contexts as [`crate::kernel::Kernels::classes`] has them: rows of
/// [`PER_SCALE`], the last filled up.
fn rows_of_map(mut map: Vec<u8>) -> Vec<u8> {
    map.resize(map.len().next_multiple_of(PER_SCALE), 0);
    map
}

#[cfg(test)]
mod tests;
