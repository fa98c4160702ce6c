//! Which numbers are coded side by side: rows are taken in groups of [`LANES`], and of a group
//! the numbers in a column are a step.

use super::{LANES, Setup};

/// The places of `n` numbers in rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    row_len: usize,
    first: usize,
    n: usize,
}

/// Where the numbers of a step are, row by row; none where a row has not begun or has ended.
pub(super) type Places = [Option<usize>; LANES];

impl Grid {
    pub(super) fn new(setup: Setup, n: usize) -> Self {
        Self {
            row_len: setup.row_len,
            first: setup.first,
            n,
        }
    }

    /// The groups, each as the place in the grid where it begins.
    pub(super) fn groups(self) -> impl Iterator<Item = usize> {
        let end = if self.n == 0 { 0 } else { self.first + self.n };
        (0..end).step_by(LANES * self.row_len)
    }

    /// The first number of a group that has all its numbers.
    pub(super) fn whole(self, group: usize) -> Option<usize> {
        let begin = group.checked_sub(self.first)?;
        (begin + LANES * self.row_len <= self.n).then_some(begin)
    }

    /// The numbers of a group in a column, unless there are none.
    pub(super) fn places(self, group: usize, column: usize) -> Option<Places> {
        let places: Places = std::array::from_fn(|lane| {
            let place = (group + lane * self.row_len + column).checked_sub(self.first)?;
            (place < self.n).then_some(place)
        });
        places.iter().any(Option::is_some).then_some(places)
    }
}

/// The rows of a whole group that begins with the first of `numbers`.
pub(super) fn rows_mut(numbers: &mut [u16], row_len: usize) -> [&mut [u16]; LANES] {
    let mut rows = numbers.chunks_exact_mut(row_len);
    std::array::from_fn(|_| rows.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every number is in one step, in its column, and steps come in the order of columns.
    #[test]
    fn every_number_is_coded_once() {
        for row_len in [1, 2, 7, 100] {
            for first in [0, row_len / 2, row_len - 1] {
                for n in (0..40).chain([8 * row_len, 8 * row_len + 1, 333, 1999]) {
                    let setup = Setup {
                        row_len,
                        first,
                        level: 0,
                        far: false,
                    };
                    let grid = Grid::new(setup, n);
                    let mut seen = vec![0; n];
                    for group in grid.groups() {
                        let mut found = 0;
                        for column in 0..row_len {
                            let places = grid.places(group, column).unwrap_or_default();
                            for place in places.into_iter().flatten() {
                                assert_eq!((first + place) % row_len, column);
                                seen[place] += 1;
                                found += 1;
                            }
                        }
                        assert_eq!(grid.whole(group).is_some(), found == LANES * row_len);
                    }
                    assert!(
                        seen.iter().all(|&times| times == 1),
                        "{row_len} {first} {n}"
                    );
                }
            }
        }
    }
}
