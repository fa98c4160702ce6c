//! Where the values of a plane stand in the kernels of a convolution.

use std::ops::Range;

use crate::error::{Result, corrupt};
use crate::input::{Input, put_varint};

/// Longest side of a kernel.
const SIDE_MAX: usize = 16;
/// Most values in a row.
pub(super) const ROW_LEN_MAX: usize = 1 << 16;

/// The sides of a kernel, of which the width varies fastest; all 1 where there are no kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) depth: usize,
}

/// The taps next to one, as far as the kernel has them: to its left, above it, before it, and
/// above the one to its left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Neighbours {
    pub(super) straight: [Option<usize>; 3],
    pub(super) corner: Option<usize>,
}

impl Kernel {
    pub(crate) const POINT: Self = Self {
        width: 1,
        height: 1,
        depth: 1,
    };

    pub(super) const fn sides(self) -> [usize; 3] {
        [self.width, self.height, self.depth]
    }

    pub(crate) const fn taps(self) -> usize {
        self.width * self.height * self.depth
    }

    fn place(self, tap: usize) -> (usize, usize, usize) {
        let (row, x) = (tap / self.width, tap % self.width);
        (x, row % self.height, row / self.height)
    }

    /// Taps that are equally many steps from the first: none of them is next to another.
    pub(super) const fn waves(self) -> usize {
        self.width + self.height + self.depth - 2
    }

    /// The taps of a wave, ascending.
    pub(super) fn of_wave(self, wave: usize) -> impl Iterator<Item = usize> {
        (0..self.taps()).filter(move |&tap| {
            let (x, y, z) = self.place(tap);
            x + y + z == wave
        })
    }

    pub(super) fn neighbours(self, tap: usize) -> Neighbours {
        let (x, y, z) = self.place(tap);
        let back = |steps: usize, there: bool| there.then(|| tap - steps);
        Neighbours {
            straight: [
                back(1, x > 0),
                back(self.width, y > 0),
                back(self.width * self.height, z > 0),
            ],
            corner: back(self.width + 1, x > 0 && y > 0),
        }
    }
}

/// A plane of `n` values in rows of `channels` kernels, begun `before` values into a row. The
/// first and the last kernel may be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(super) kernel: Kernel,
    pub(super) channels: usize,
    pub(super) before: usize,
    pub(super) n: usize,
}

/// Kernels that follow each other in one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) row: usize,
    pub(super) channel: usize,
    pub(super) len: usize,
}

impl Grid {
    pub(super) fn put(self, out: &mut Vec<u8>) {
        let Kernel {
            width,
            height,
            depth,
        } = self.kernel;
        for number in [width, height, depth, self.channels, self.before] {
            put_varint(out, number);
        }
    }

    pub(super) fn read(input: &mut Input<'_>, n: usize) -> Result<Self> {
        let kernel = Kernel {
            width: input.varint()?,
            height: input.varint()?,
            depth: input.varint()?,
        };
        let sides = [kernel.width, kernel.height, kernel.depth];
        if !sides.iter().all(|side| (1..=SIDE_MAX).contains(side)) {
            return corrupt("a kernel has no possible side");
        }
        let (channels, before) = (input.varint()?, input.varint()?);
        let row_len = channels.saturating_mul(kernel.taps());
        if row_len > ROW_LEN_MAX || before >= row_len {
            return corrupt("rows of kernels have no possible length");
        }
        Ok(Self {
            kernel,
            channels,
            before,
            n,
        })
    }

    /// Whether signs are coded with the sizes: neighbours tell of both.
    pub(crate) fn has_signs(self) -> bool {
        self.kernel.taps() > 1
    }

    pub(super) fn row_len(self) -> usize {
        self.channels * self.kernel.taps()
    }

    /// Values of the first kernel that lie before the plane.
    pub(super) fn phase(self) -> usize {
        self.before % self.kernel.taps()
    }

    pub(super) fn n_kernels(self) -> usize {
        (self.phase() + self.n).div_ceil(self.kernel.taps())
    }

    /// How far apart taps lie in memory where what they have is kept for each kernel: so that
    /// their cache lines do not compete for the same places.
    pub(super) fn stride(self) -> usize {
        const LINE: usize = 64;
        (self.n_kernels().div_ceil(LINE) | 1) * LINE
    }

    pub(super) fn n_rows(self) -> usize {
        (self.before + self.n).div_ceil(self.row_len())
    }

    /// The kernels that have this tap within the plane.
    pub(super) fn kernels(self, tap: usize) -> Range<usize> {
        let end = (self.phase() + self.n).saturating_sub(tap);
        let end = end.div_ceil(self.kernel.taps());
        usize::from(tap < self.phase()).min(end)..end
    }

    /// The kernels that have values in a range of places.
    pub(super) fn kernels_of(self, places: &Range<usize>) -> Range<usize> {
        let taps = self.kernel.taps();
        (places.start + self.phase()) / taps..(places.end + self.phase()).div_ceil(taps)
    }

    /// The places in the plane of a tap, kernel after kernel.
    pub(super) fn places(self, tap: usize) -> impl Iterator<Item = usize> {
        self.kernels(tap).map(move |kernel| self.place(tap, kernel))
    }

    /// The place in the plane of a tap of a kernel that is within the plane.
    pub(super) fn place(self, tap: usize, kernel: usize) -> usize {
        kernel * self.kernel.taps() + tap - self.phase()
    }

    /// The kernels of a tap, row by row.
    pub(super) fn runs(self, tap: usize) -> impl Iterator<Item = Run> {
        let Range { start, end } = self.kernels(tap);
        let first = self.before / self.kernel.taps();
        let (mut at, end) = (first + start, first + end);
        std::iter::from_fn(move || {
            let (row, channel) = (at / self.channels, at % self.channels);
            let len = (self.channels - channel).min(end - at);
            at += len;
            (len > 0).then_some(Run { row, channel, len })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUBE: Kernel = Kernel {
        width: 3,
        height: 3,
        depth: 3,
    };

    #[test]
    fn waves_are_every_tap_once_and_after_its_neighbours() {
        let oblong = Kernel {
            width: 5,
            height: 1,
            depth: 2,
        };
        for kernel in [Kernel::POINT, CUBE, oblong] {
            let mut seen = vec![false; kernel.taps()];
            for wave in 0..kernel.waves() {
                let taps: Vec<usize> = kernel.of_wave(wave).collect();
                assert!(!taps.is_empty());
                for &tap in &taps {
                    let Neighbours { straight, corner } = kernel.neighbours(tap);
                    let all = straight.into_iter().chain([corner]).flatten();
                    assert!(all.into_iter().all(|near| seen[near]), "{kernel:?} {tap}");
                }
                for tap in taps {
                    assert!(!std::mem::replace(&mut seen[tap], true));
                }
            }
            assert!(seen.iter().all(|&seen| seen));
        }
    }

    #[test]
    fn neighbours_do_not_leave_the_kernel() {
        assert_eq!(CUBE.neighbours(0).straight, [None; 3]);
        let middle = CUBE.neighbours(13);
        assert_eq!(middle.straight, [Some(12), Some(10), Some(4)]);
        assert_eq!(middle.corner, Some(9));
        assert_eq!(CUBE.neighbours(9).straight, [None, None, Some(0)]);
        assert_eq!(CUBE.neighbours(3).corner, None);
    }

    /// Every value has one place, whatever part of a kernel a plane begins and ends with.
    #[test]
    fn places_tile_the_plane() {
        for before in [0, 1, 26, 27, 53, 107] {
            for n in [0, 1, 5, 26, 27, 28, 300] {
                let grid = Grid {
                    kernel: CUBE,
                    channels: 4,
                    before,
                    n,
                };
                let mut seen = vec![0; n];
                for tap in 0..27 {
                    let columns = grid.runs(tap).flat_map(|run| {
                        (0..run.len).map(move |i| run.row * 108 + (run.channel + i) * 27 + tap)
                    });
                    for (place, column) in grid.places(tap).zip(columns) {
                        assert_eq!(place + before, column);
                        seen[place] += 1;
                    }
                    assert_eq!(
                        grid.places(tap).count(),
                        grid.runs(tap).map(|r| r.len).sum()
                    );
                    for from in 0..=n {
                        let of = grid.kernels_of(&(from..n));
                        let (start, end) = (of.start * 27, of.end * 27);
                        assert!((start..start + 27).contains(&(grid.phase() + from)));
                        assert!(end >= grid.phase() + n && of.end <= grid.n_kernels());
                    }
                    assert!(grid.kernels(tap).end <= grid.n_kernels());
                    assert!(grid.runs(tap).all(|run| run.row < grid.n_rows()));
                }
                assert!(seen.iter().all(|&n| n == 1), "{before} {n}");
            }
        }
    }

    #[test]
    fn impossible_grids_are_refused() {
        let mut out = Vec::new();
        let grid = Grid {
            kernel: CUBE,
            channels: 64,
            before: 1727,
            n: 9,
        };
        grid.put(&mut out);
        assert_eq!(Grid::read(&mut Input::new(&out), 9), Ok(grid));
        for bad in [
            &[0, 3, 3, 64, 0][..],
            &[3, 17, 3, 64, 0],
            &[3, 3, 3, 0, 0],
            &[3, 3, 3, 1, 27],
            &[1, 1, 1, 0x81, 0x80, 4, 0],
            &[3, 3, 3, 64],
        ] {
            assert!(Grid::read(&mut Input::new(bad), 9).is_err(), "{bad:?}");
        }
    }
}
