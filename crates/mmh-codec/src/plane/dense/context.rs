//! What is known of a value before it is coded: the scale of its column, and in a kernel the
//! values next to it. FORMAT.md, "Dense".

use super::grid::{Grid, Neighbours};
use crate::kernel::Kernels;
use crate::kernel::dense::{ALONE, Near};

/// The scales of a plane: that of a value is the sum of those of its column and its row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scales {
    /// One for each place in a row.
    pub(super) columns: Vec<u8>,
    /// One for each row; none if they are all 0.
    pub(super) rows: Vec<u8>,
}

impl Scales {
    /// Appends the scales of the values of a tap, kernel after kernel.
    pub(super) fn add_tap(&self, grid: Grid, tap: usize, scales: &mut Vec<u8>) {
        let taps = grid.kernel.taps();
        let columns: Vec<u8> = (self.columns.iter().skip(tap).step_by(taps).copied()).collect();
        for run in grid.runs(tap) {
            let row = self.rows.get(run.row).copied().unwrap_or(0);
            let part = &columns[run.channel..run.channel + run.len];
            let start = scales.len();
            scales.extend_from_slice(part);
            if row > 0 {
                scales[start..].iter_mut().for_each(|scale| *scale += row);
            }
        }
    }
}

/// What is known of the values of some taps, and their scales.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// In kernels as [`Kernels::contexts`] has it, else the scale as far as it chooses a class.
    /// May be longer than `scales`: what was there is not cleared.
    contexts: Vec<u8>,
    scales: Vec<u8>,
    /// What is shown where there is no neighbour.
    nothing: Vec<i8>,
}

impl Known {
    pub(super) fn clear(&mut self) {
        self.scales.clear();
    }

    /// The scales, and what else is known.
    pub(super) fn all(&self) -> (&[u8], &[u8]) {
        (&self.scales, &self.contexts[..self.scales.len()])
    }

    /// Appends what is known of the values of `tap`, by their scales, of which `n_scales` choose
    /// classes, and by what the taps before it show: signed sizes, of each tap one for each kernel,
    /// 0 where there is none.
    pub(super) fn add(
        &mut self,
        (grid, tap): (Grid, usize),
        (scales, n_scales): (&Scales, usize),
        shown: &[i8],
        kernels: &Kernels,
    ) {
        let start = self.scales.len();
        scales.add_tap(grid, tap, &mut self.scales);
        let len = self.scales.len();
        self.contexts.resize(len.max(self.contexts.len()), 0);
        let contexts = &mut self.contexts[start..len];
        if !grid.has_signs() {
            let highest = u8::try_from(n_scales - 1).unwrap_or(u8::MAX);
            for (context, &scale) in contexts.iter_mut().zip(&self.scales[start..]) {
                *context = scale.min(highest);
            }
            return;
        }
        let Neighbours { straight, corner } = grid.kernel.neighbours(tap);
        let count = straight.iter().flatten().count();
        if count == 0 {
            return contexts.fill(ALONE);
        }
        let range = grid.kernels(tap);
        self.nothing.resize(range.len(), 0);
        let near = |tap: Option<usize>| {
            tap.map_or(&self.nothing[..], |tap| {
                &shown[tap * grid.stride()..][range.clone()]
            })
        };
        let near = Near {
            straight: straight.map(near),
            corner: near(corner),
            count,
        };
        (kernels.contexts)(near, contexts);
    }
}

#[cfg(test)]
mod tests {
    use super::super::grid::Kernel;
    use super::*;

    const SQUARE: Kernel = Kernel {
        width: 2,
        height: 2,
        depth: 1,
    };

    #[test]
    fn scales_are_of_the_column_and_the_row() {
        let grid = Grid {
            kernel: SQUARE,
            channels: 2,
            before: 5,
            n: 9,
        };
        let scales = Scales {
            columns: (0..8).collect(),
            rows: vec![10, 20],
        };
        let of_tap = |scales: &Scales, tap| {
            let mut found = Vec::new();
            scales.add_tap(grid, tap, &mut found);
            found
        };
        // Places 5, 6, 7 of the first row and 0 to 5 of the second.
        assert_eq!(of_tap(&scales, 0), [20, 24]);
        assert_eq!(of_tap(&scales, 1), [15, 21, 25]);
        assert_eq!(of_tap(&scales, 3), [17, 23]);
        let columns = Scales {
            rows: Vec::new(),
            ..scales
        };
        assert_eq!(of_tap(&columns, 2), [6, 2]);
    }

    /// The last tap of a square sees three others, and the first sees none.
    #[test]
    fn contexts_are_as_the_neighbours_say() {
        let grid = Grid {
            kernel: SQUARE,
            channels: 2,
            before: 0,
            n: 8,
        };
        let scales = Scales {
            columns: vec![0, 0, 0, 1, 0, 0, 0, 9],
            rows: Vec::new(),
        };
        let mut sizes = vec![0; 4 * grid.stride()];
        for (tap, shown) in [[3, -16], [8, -45], [-2, -45]].iter().enumerate() {
            sizes[tap * grid.stride()..][..2].copy_from_slice(shown);
        }
        let mut known = Known::default();
        let kernels = &Kernels::PORTABLE;
        known.add((grid, 3), (&scales, 4), &sizes, kernels);
        // 2 (8 - 2) - 3 = 9, a mean of 5; 2 (-90) + 16 = -164, a mean of 45.
        assert_eq!(known.all().1, [1 << 3 | 1, 7 << 3 | 5 | 0x80]);
        known.add((grid, 0), (&scales, 4), &sizes, kernels);
        assert_eq!(known.all().1[2..], [ALONE; 2]);
        assert_eq!(known.all().0, [1, 9, 0, 0]);
        known.clear();
        let grid = Grid {
            kernel: Kernel::POINT,
            channels: 8,
            ..grid
        };
        known.add((grid, 0), (&scales, 4), &[], kernels);
        assert_eq!(known.all().1, [0, 0, 0, 1, 0, 0, 0, 3]);
    }
}
