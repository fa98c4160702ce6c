//! What is known of each number before its difference is coded, and the cut into blocks.

use std::ops::Range;

use super::directions::Directions;
use super::grow;
use super::number::Number;
use super::rows::Rows;
use super::scheme::{EXPECTATIONS, Scheme};
use crate::entropy::CLASSES_MAX;
use crate::error::{Result, corrupt};
use crate::input::Input;
use crate::kernel::{Expected, Kernels};
use crate::plane::{PlaneDecoder, PlaneEncoder, blocks, put_blob, read_blob};

/// How often the number of classes can be halved.
const HALVINGS_MAX: u8 = 5;

/// Rows and their sizes, and how classes follow from them.
#[derive(Debug)]
pub(super) struct Forecast {
    pub(super) rows: Rows,
    /// For each row, 0 where it is as predicted, else how far its updates go, in half octaves.
    pub(super) sizes: Vec<u8>,
    /// What is expected of a size and an exponent of 0.
    pub(super) offset: i16,
    pub(super) scheme: Scheme,
    pub(super) directions: Directions,
}

/// Numbers that follow each other, of which those in rows that have changes are a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) numbers: Range<usize>,
    /// Which of the rows that have changes is the first in it.
    changed: usize,
}

/// The part of a row in a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) row: usize,
    pub(super) numbers: Range<usize>,
    /// The place of its first number in the row of the tensor.
    pub(super) column: usize,
    /// Which of the rows that have changes it is, if it is one.
    pub(super) changed: Option<usize>,
}

impl Forecast {
    /// Reads the forecast of `n` numbers, whose magnitudes have at most `low_max` low bits apart.
    pub(super) fn read(
        input: &mut Input<'_>,
        (n, low_max): (usize, i16),
        decoder: &mut PlaneDecoder<'_>,
    ) -> Result<Self> {
        let rows = Rows::read(input)?;
        let sizes = read_blob(input, rows.count(n), decoder.unpacker)?;
        let mut forecast = Self {
            rows,
            sizes,
            offset: 0,
            scheme: Scheme::EACH,
            directions: Directions::default(),
        };
        if !forecast.has_changes() {
            return Ok(forecast);
        }
        forecast.offset = i16::from_le_bytes([input.u8()?, input.u8()?]);
        let [least, halvings] = [input.u8()?, input.u8()?];
        let [reach, low_least, low_most] = [input.u8()?, input.u8()?, input.u8()?];
        if usize::from(least) >= EXPECTATIONS || halvings > HALVINGS_MAX {
            return corrupt("a delta merges more classes than there are");
        }
        if low_least > low_most || i16::from(low_most) > low_max {
            return corrupt("a delta has more low bits apart than numbers have");
        }
        let n_changed = forecast.sizes.iter().filter(|&&size| size > 0).count();
        forecast.directions = Directions::read(input, (n, rows.len(), n_changed), decoder)?;
        let n_classes = input.u8()?;
        let n_tables = usize::from(n_classes) * forecast.directions.levels();
        if !(1..=CLASSES_MAX).contains(&n_tables) {
            return corrupt("the number of classes is out of range");
        }
        forecast.scheme = Scheme {
            least,
            halvings,
            n_classes,
            reach,
            low: (low_least, low_most),
        };
        Ok(forecast)
    }

    pub(super) fn put(&self, encoder: &mut PlaneEncoder<'_>, out: &mut Vec<u8>) -> Result<()> {
        self.rows.put(out);
        put_blob(&self.sizes, encoder.packer, out)?;
        if self.has_changes() {
            out.extend_from_slice(&self.offset.to_le_bytes());
            let Scheme {
                least,
                halvings,
                n_classes,
                reach,
                low,
            } = self.scheme;
            out.extend_from_slice(&[least, halvings, reach, low.0, low.1]);
            self.directions.put(encoder, out)?;
            out.push(n_classes);
        }
        Ok(())
    }

    /// Whether any row is not as predicted.
    pub(super) fn has_changes(&self) -> bool {
        self.sizes.iter().any(|&size| size > 0)
    }

    /// Spans that tile the `n` numbers: one for each block.
    pub(super) fn spans(&self, n: usize) -> Vec<Span> {
        let changed = |(row, size): (usize, &u8)| (*size > 0).then(|| self.rows.range(row, n));
        let ranges = || self.sizes.iter().enumerate().filter_map(changed);
        let total = ranges().map(|range| range.len()).sum();
        let mut spans = vec![Span {
            numbers: 0..n,
            changed: 0,
        }];
        if total == 0 {
            return spans;
        }
        let mut starts = blocks(total).map(|block| block.start).skip(1).peekable();
        let mut before = 0;
        for (i, range) in ranges().enumerate() {
            while let Some(start) = starts.next_if(|&start| start < before + range.len()) {
                let at = range.start + start - before;
                if let Some(last) = spans.last_mut() {
                    last.numbers.end = at;
                }
                spans.push(Span {
                    numbers: at..n,
                    changed: i,
                });
            }
            before += range.len();
        }
        spans
    }

    /// The parts of rows in a span.
    pub(super) fn pieces(&self, span: &Span) -> impl Iterator<Item = Piece> {
        let numbers = span.numbers.clone();
        let mut next = span.changed;
        self.rows.parts(numbers).map(move |(row, numbers)| {
            let changed = self.sizes.get(row).is_some_and(|&size| size > 0);
            let changed = changed.then(|| {
                next += 1;
                next - 1
            });
            let column = self.rows.column(numbers.start);
            Piece {
                row,
                numbers,
                column,
                changed,
            }
        })
    }

    /// Fills in class and shift of each number of a block, and says how many these are.
    pub(super) fn expect<N: Number>(
        &self,
        span: &Span,
        base: &[u8],
        kernels: &Kernels,
        (classes, shifts): (&mut Vec<u8>, &mut Vec<u8>),
    ) -> usize {
        let changed = || self.pieces(span).filter(|piece| piece.changed.is_some());
        let n = changed().map(|piece| piece.numbers.len()).sum();
        grow(classes, n);
        grow(shifts, n);
        let mut done = 0;
        for piece in changed() {
            let here = done..done + piece.numbers.len();
            done = here.end;
            let bytes = piece.numbers.start * N::LEN..piece.numbers.end * N::LEN;
            let targets = (&mut classes[here.clone()], &mut shifts[here]);
            N::expect(&base[bytes], &self.expected::<N>(&piece), targets, kernels);
        }
        n
    }

    fn expected<N: Number>(&self, piece: &Piece) -> Expected<'_> {
        let scheme = self.scheme;
        let size = self.sizes.get(piece.row).copied().unwrap_or(0);
        // Further away all exponents have the same class.
        let size = (i32::from(self.offset) + i32::from(size)).clamp(-2048, 2048);
        Expected {
            size: i16::try_from(size).unwrap_or(0),
            exponent: N::EXPONENT,
            least: i16::from(scheme.least),
            halvings: u32::from(scheme.halvings),
            n_classes: i16::from(scheme.n_classes),
            reach: i16::from(scheme.reach),
            low: (i16::from(scheme.low.0), i16::from(scheme.low.1)),
            threshold: self.directions.threshold(),
            factors: self.directions.of_row(piece.changed.unwrap_or(0)),
            columns: self.directions.parts_from(piece.column),
            stride: self.directions.stride(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::BLOCK_LEN;

    fn forecast(rows: Rows, sizes: Vec<u8>) -> Forecast {
        Forecast {
            rows,
            sizes,
            offset: 0,
            scheme: Scheme::EACH,
            directions: Directions::default(),
        }
    }

    #[test]
    fn spans_tile_the_numbers_and_have_a_block_each() {
        let rows = Rows::of(384, 100);
        for n in [1, 384, 3000, 2 * BLOCK_LEN + 7, 5 * BLOCK_LEN] {
            for every in [1, 2, 3, 1000] {
                let sizes = (0..rows.count(n)).map(|i| u8::from(i % every == every / 2));
                let forecast = forecast(rows, sizes.collect());
                let spans = forecast.spans(n);
                let (mut end, mut lens, mut rows) = (0, Vec::new(), Vec::new());
                for span in &spans {
                    assert_eq!(span.numbers.start, end);
                    end = span.numbers.end;
                    let mut at = span.numbers.start;
                    let mut len = 0;
                    for piece in forecast.pieces(span) {
                        assert_eq!(piece.numbers.start, at);
                        at = piece.numbers.end;
                        assert_eq!(piece.column, (at - piece.numbers.len() + 100) % 384);
                        if let Some(changed) = piece.changed {
                            len += piece.numbers.len();
                            rows.push((changed, piece.row));
                        }
                    }
                    assert_eq!(at, end);
                    lens.push(len);
                }
                assert_eq!(end, n);
                let expected: Vec<usize> = match lens.iter().sum() {
                    0 => vec![0],
                    total => blocks(total).map(|block| block.len()).collect(),
                };
                assert_eq!(lens, expected, "{n} {every}");
                rows.dedup();
                let of = rows.iter().map(|&(_, row)| row).collect::<Vec<_>>();
                let all = (0..forecast.sizes.len()).filter(|&row| forecast.sizes[row] > 0);
                assert_eq!(of, all.collect::<Vec<_>>());
                assert!(
                    rows.iter()
                        .enumerate()
                        .all(|(i, &(changed, _))| i == changed)
                );
            }
        }
    }

    #[test]
    fn nothing_has_one_span() {
        let forecast = forecast(Rows::of(64, 0), Vec::new());
        let spans = forecast.spans(0);
        assert_eq!(spans.len(), 1);
        assert_eq!(forecast.pieces(&spans[0]).count(), 0);
    }

    /// A head of 128 numbers in rows of 64, whose sizes are 1 and 0.
    fn head(rest: &[u8]) -> Vec<u8> {
        [&[64, 64, 1, 0b01][..], rest].concat()
    }

    fn read(bytes: &[u8]) -> Result<Forecast> {
        let mut decoder = PlaneDecoder {
            engine: &crate::entropy::Reference,
            unpacker: &mut crate::zstd::Unpacker::default(),
            buffers: &mut crate::plane::Buffers::default(),
        };
        Forecast::read(&mut Input::new(bytes), (128, 8), &mut decoder)
    }

    #[test]
    fn a_head_says_how_classes_follow() {
        let found = read(&head(&[0xfe, 0xff, 3, 2, 9, 1, 8, 0, 32])).unwrap();
        assert_eq!((found.offset, found.sizes), (-2, vec![1, 0]));
        let scheme = Scheme {
            least: 3,
            halvings: 2,
            n_classes: 32,
            reach: 9,
            low: (1, 8),
        };
        assert_eq!(found.scheme, scheme);
        let unchanged = read(&[64, 64, 0]).unwrap();
        assert!(!unchanged.has_changes());
    }

    #[test]
    fn impossible_heads_are_refused() {
        let whole = head(&[0, 0, 0, 0, 0, 0, 8, 0, 1]);
        assert!(read(&whole).is_ok());
        for cut in 0..whole.len() {
            assert!(read(&whole[..cut]).is_err(), "{cut}");
        }
        // Expectation, halvings, low bits in the wrong order, too many, numbers of classes.
        for (at, value) in [(6, 64), (7, 6), (9, 9), (10, 9), (12, 0), (12, 33)] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            assert!(read(&bytes).is_err(), "{at} {value}");
        }
    }

    /// What is expected of the numbers of a row is the same from wherever a span begins.
    #[test]
    fn expectations_do_not_depend_on_the_cut() {
        let rows = Rows::of(100, 30);
        let parts: Vec<i16> = (0..100).map(|i| i % 7 - 3).collect();
        let sizes: Vec<u8> = vec![9, 0, 4, 7, 0, 5];
        let mut forecast = forecast(rows, sizes);
        forecast.offset = 250;
        forecast.scheme.n_classes = 16;
        forecast.directions = Directions::new(1, 2, vec![1, -2, 3, 1], &parts);
        let base: Vec<u8> = (0..520u16)
            .flat_map(|i| (i * 67 + 0x3c00).to_le_bytes())
            .collect();
        let kernels = &Kernels::PORTABLE;
        let expect = |span: &Span| {
            let (mut classes, mut shifts) = (Vec::new(), Vec::new());
            let targets = (&mut classes, &mut shifts);
            let n = forecast.expect::<super::super::number::Bf16>(span, &base, kernels, targets);
            assert_eq!((classes.len(), shifts.len()), (n, n));
            (classes, shifts)
        };
        let all = expect(&Span {
            numbers: 0..520,
            changed: 0,
        });
        assert_eq!(all.0.len(), 70 + 100 + 100 + 50);
        // From within the third row, the second that has changes.
        let (classes, shifts) = expect(&Span {
            numbers: 200..520,
            changed: 1,
        });
        assert_eq!(classes, all.0[100..]);
        assert_eq!(shifts, all.1[100..]);
    }
}
