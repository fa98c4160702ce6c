//! Whether dense coding pays, by a sample coded both ways.

use super::grid::Grid;
use crate::error::Result;
use crate::layout::FloatFormat;
use crate::log2::ONE_BIT;
use crate::plane::ranked::Ranked;
use crate::plane::{PlaneEncoder, Rows, Shape};

impl PlaneEncoder<'_> {
    /// Whether the exponents of numbers, dense in this grid, save one part in `share` of all; the
    /// other planes are as long either way.
    pub(crate) fn denser(
        &mut self,
        format: FloatFormat,
        raw: &[u8],
        (rows, grid): (Rows, Grid),
        share: usize,
    ) -> Result<bool> {
        let (below, width) = format.exponent();
        let mut planes = format.split(raw);
        let n = planes[0].len() as u64;
        let mut counts = vec![0u32; 1 << width];
        for &value in &planes[0] {
            counts[usize::from(value)] += 1;
        }
        let shape = Shape {
            width,
            rows,
            sequential: false,
        };
        let plain = Ranked::of(&planes[0], &counts, shape, self).cost() / ONE_BIT;
        let signed = grid.has_signs();
        if signed {
            format.move_signs(&mut planes);
        }
        let mut coded = Vec::new();
        self.dense(&planes[0], width + u32::from(signed), grid, &mut coded)?;
        let dense = 8 * coded.len() as u64;
        let rest = n * u64::from(below + u32::from(!signed));
        let plain = plain + n * u64::from(signed);
        Ok(dense < plain - (plain + rest) / share as u64)
    }
}
