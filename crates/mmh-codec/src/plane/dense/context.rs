//! What is known of a value before it is coded: the scale of its column, and in a kernel the
//! values next to it. FORMAT.md, "Dense".

use super::grid::{Grid, Neighbours};

/// The steps of a half octave that a symbol with a sign distinguishes, with 0 for all others.
pub(super) const STEPS: usize = 16;
/// The size of a value at each step, in units of which the scale has 16.
pub(super) const SIZES: [i8; STEPS] = [0, 1, 1, 1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91];
/// Contexts of each scale in a kernel: 8 of the prediction, for each 8 of the neighbours' sizes.
pub(super) const PER_SCALE: usize = 64;
const PREDICTIONS: [i16; 7] = [4, 10, 18, 28, 40, 56, 80];
const MEANS: [i16; 5] = [18, 36, 60, 96, 144];
/// Stands for the mean where a value has no neighbour.
const ALONE: u16 = 7;

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
        let columns = self.columns.iter().skip(tap).step_by(taps);
        let columns: Vec<u8> = columns.copied().collect();
        for run in grid.runs(tap) {
            let row = self.rows.get(run.row).copied().unwrap_or(0);
            let part = &columns[run.channel..run.channel + run.len];
            scales.extend(part.iter().map(|scale| scale + row));
        }
    }
}

/// What is known of the values of a tap.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) contexts: Vec<u16>,
    /// 1 where a value is likely to be below 0.
    pub(super) negative: Vec<u8>,
    /// What is shown where there is no neighbour.
    nothing: Vec<i8>,
}

impl Known {
    pub(super) fn clear(&mut self) {
        self.contexts.clear();
        self.negative.clear();
    }

    /// Appends what is known of the values of `tap`, by their scales and by what the taps before
    /// it show: signed sizes, of each tap one for each kernel, 0 where there is none.
    pub(super) fn add(
        &mut self,
        grid: Grid,
        tap: usize,
        (scales, n_scales): (&[u8], usize),
        shown: &[i8],
    ) {
        let highest = u16::try_from(n_scales - 1).unwrap_or(u16::MAX);
        let scales = scales.iter().map(|&scale| u16::from(scale).min(highest));
        if grid.kernel.taps() == 1 {
            self.contexts.extend(scales);
            self.negative.resize(self.contexts.len(), 0);
            return;
        }
        let Neighbours { straight, corner } = grid.kernel.neighbours(tap);
        let kernels = grid.kernels(tap);
        self.nothing.resize(kernels.len(), 0);
        let near = |tap: Option<usize>| {
            tap.map_or(&self.nothing[..], |tap| {
                &shown[tap * grid.n_kernels()..][kernels.clone()]
            })
        };
        let [left, above, before] = straight.map(near);
        let corner = near(corner);
        let count = straight.iter().flatten().count();
        let (sixth, mean) = match count {
            0 => (0, ALONE),
            1 => (6, 0),
            2 => (3, 0),
            _ => (2, 0),
        };
        let start = self.contexts.len();
        self.contexts.extend(scales.map(|scale| scale << 6 | mean));
        self.negative.resize(self.contexts.len(), 0);
        let (contexts, negative) = (&mut self.contexts[start..], &mut self.negative[start..]);
        let sizes = left.iter().zip(above).zip(before.iter().zip(corner));
        let targets = contexts.iter_mut().zip(negative);
        for ((context, negative), ((&left, &above), (&before, &corner))) in targets.zip(sizes) {
            let straight = [left, above, before].map(i16::from);
            let [left, above, before] = straight;
            let prediction = 2 * (left + above + before) - i16::from(corner);
            let mean = sixth * (left.abs() + above.abs() + before.abs());
            *context += level(prediction.abs(), PREDICTIONS) << 3 | level(mean, MEANS);
            *negative = u8::from(prediction < 0);
        }
    }
}

/// How many of the limits lie below `x`.
#[inline(always)]
fn level<const N: usize>(x: i16, limits: [i16; N]) -> u16 {
    limits.iter().map(|&limit| u16::from(x > limit)).sum()
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
    fn sizes_are_half_octaves() {
        for (step, &size) in SIZES.iter().enumerate().skip(1) {
            let exact = 16.0 * f64::exp2((step as f64 - 10.0) / 2.0);
            assert!((f64::from(size) - exact).abs() <= 0.51, "{step}");
        }
    }

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
        let sizes = [3, -16, 8, -45, -2, -45, 0, 0];
        let mut known = Known::default();
        known.add(grid, 3, (&[1, 9], 4), &sizes);
        // 2 (8 - 2) - 3 = 9, a mean of 5; 2 (-90) + 16 = -164, a mean of 45.
        assert_eq!(known.contexts, [1 << 6 | 1 << 3 | 1, 3 << 6 | 7 << 3 | 5]);
        assert_eq!(known.negative, [0, 1]);
        known.add(grid, 0, (&[1, 9], 4), &sizes);
        assert_eq!(known.contexts[2..], [1 << 6 | ALONE, 3 << 6 | ALONE]);
    }

    #[test]
    fn the_largest_neighbours_do_not_overflow() {
        let cube = Kernel { depth: 2, ..SQUARE };
        let grid = Grid {
            kernel: cube,
            channels: 1,
            before: 0,
            n: 8,
        };
        for size in [-128, 127] {
            let mut known = Known::default();
            known.add(grid, 7, (&[0], 1), &[size; 8]);
            assert_eq!(known.contexts, [7 << 3 | 5]);
        }
    }
}
