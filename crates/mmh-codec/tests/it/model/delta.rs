//! FORMAT.md, "Deltas", number by number.

use super::{Bytes, Within, bit, record, symbols};

/// Where the fields of a number lie: bytes, lowest bit of the exponent, bits of the exponent.
const FORMATS: [(usize, u32, u32); 3] = [(2, 7, 8), (2, 10, 5), (4, 23, 8)];

/// The content of `raw_len` bytes that `body` makes of `base`.
pub(super) fn body(mut input: Bytes<'_>, raw_len: usize, base: &[u8]) -> Option<Vec<u8>> {
    let &(len, exponent_at, exponent_bits) = FORMATS.get(usize::from(input.u8()?))?;
    if base.len() != raw_len {
        return None;
    }
    let n = raw_len / len;
    let tail = input.take(raw_len - n * len)?;
    let steps = input.varint().filter(|&steps| steps <= 4096)?;
    let factor = if steps > 0 {
        Some(f32::from_bits(number(input.take(4)?))).filter(|f| f.is_finite() && *f > 0.0)?
    } else {
        1.0
    };
    let (first, row_len) = (input.varint()?, input.varint()?);
    if first == 0 || first > row_len || !(64..=65_536).contains(&row_len) {
        return None;
    }
    let row_of = |i: usize| {
        if i < first {
            0
        } else {
            1 + (i - first) / row_len
        }
    };
    let sizes = input.list(n.checked_sub(1).map_or(0, |last| row_of(last) + 1))?;
    let bits = 8 * u32::try_from(len).ok()?;
    let old = |i: usize| number(&base[i * len..][..len]);
    let mut places: Vec<u32> = (0..n)
        .map(|i| place(predicted(old(i), len, factor, steps), bits))
        .collect();
    let changed: Vec<usize> = (0..n).filter(|&i| sizes[row_of(i)] > 0).collect();
    if !changed.is_empty() {
        let forecast = Forecast::read(&mut input, (n, first, row_len), bits, &sizes)?;
        let classes = forecast.classes(&mut input)?;
        let expected = |&i: &usize| {
            let exponent = old(i) >> exponent_at & ((1 << exponent_bits) - 1);
            forecast.expected(i, row_of(i), i64::from(sizes[row_of(i)]), exponent)
        };
        let each: Vec<(usize, Expected)> = changed.iter().map(|i| (*i, expected(i))).collect();
        let n_blocks = ((each.len() + 131_072) / 262_144).max(1);
        for block in 0..n_blocks {
            let end = if block + 1 == n_blocks {
                each.len()
            } else {
                (block + 1) * 262_144
            };
            let each = &each[block * 262_144..end];
            let coded = input.sized()?;
            let of_class = each.iter().map(|(_, e)| classes.get(e.class));
            let symbols = symbols::block(coded.0, &of_class.collect::<Option<Vec<_>>>()?)?;
            let mut fields = Fields {
                bytes: input.sized()?.0,
                at: 0,
            };
            for ((i, expected), symbol) in each.iter().zip(symbols) {
                let difference = expected.difference(u32::from(symbol), bits, &mut fields)?;
                places[*i] = places[*i].wrapping_add(difference);
            }
            fields.end()?;
        }
    }
    input.end()?;
    let content = places
        .into_iter()
        .flat_map(|p| place(p, bits).to_le_bytes()[..len].to_vec());
    Some(content.chain(tail.to_vec()).collect())
}

/// How classes and likely signs follow from rows, columns and exponents.
struct Forecast {
    offset: i64,
    least: i64,
    halvings: u8,
    reach: i64,
    /// The fewest and the most low bits apart.
    low: [u32; 2],
    threshold: i32,
    /// The first row's numbers, and those of each other row.
    rows: (usize, usize),
    /// For each direction the parts of columns, and of the rows of those that have changes.
    columns: Vec<Vec<i32>>,
    of_rows: Vec<Vec<i32>>,
    /// For each row, which it is of those that have changes.
    changed: Vec<usize>,
    n_classes: usize,
}

/// What is known of a number.
struct Expected {
    class: usize,
    /// Low bits apart.
    low: u32,
    negative: bool,
}

impl Forecast {
    fn read(
        input: &mut Bytes<'_>,
        (n, first, row_len): (usize, usize, usize),
        bits: u32,
        sizes: &[u8],
    ) -> Option<Self> {
        let offset = i64::from(input.u16()?.cast_signed());
        let least = input.u8().filter(|&least| least < 64)?;
        let halvings = input.u8().filter(|&halvings| halvings <= 5)?;
        let reach = i64::from(input.u8()?);
        let low = [input.u8()?, input.u8()?].map(u32::from);
        if low[0] > low[1] || low[1] > bits - 8 {
            return None;
        }
        let rank = usize::from(input.u8()?);
        if rank > 16 || rank > 0 && rank * row_len > n {
            return None;
        }
        let mut before = 0;
        let changed = sizes.iter().map(|&size| {
            before += usize::from(size > 0);
            before - usize::from(size > 0)
        });
        let changed: Vec<usize> = changed.collect();
        let (mut threshold, mut columns, mut of_rows) = (0, vec![], vec![]);
        if rank > 0 {
            threshold = i32::from(i16::try_from(input.varint()?).ok()?);
            columns = parts(input, rank, row_len)?;
            of_rows = parts(input, rank, before)?;
        }
        let n_classes = usize::from(input.u8()?);
        let levels = if rank > 0 { 2 } else { 1 };
        (1..=32).contains(&(n_classes * levels)).then_some(Self {
            offset,
            least: i64::from(least),
            halvings,
            reach,
            low,
            threshold,
            rows: (first, row_len),
            columns,
            of_rows,
            changed,
            n_classes,
        })
    }

    fn levels(&self) -> usize {
        if self.columns.is_empty() { 1 } else { 2 }
    }

    /// The distributions of all classes.
    fn classes(&self, input: &mut Bytes<'_>) -> Option<Vec<symbols::Slots>> {
        let apart = usize::from(input.u8().filter(|&apart| apart <= 1)?);
        let n_tables = self.n_classes * if apart == 1 { self.levels() } else { 1 };
        let magnitudes = symbols::tables(input.sized()?.0, n_tables, 16)?;
        let mut classes = vec![];
        for level in 0..self.levels() {
            let signs = [input.u8()?, input.u8()?].map(i64::from);
            for levels in &magnitudes[apart * level * self.n_classes..][..self.n_classes] {
                let mut both = vec![0; 32];
                for (m, &level) in levels.iter().enumerate() {
                    let with = |sign: usize| match signs[sign] {
                        by if level == 0 || by >= 97 => 0,
                        by => (level - by).max(1),
                    };
                    (both[m], both[16 + m]) = match m {
                        0 => (level, i64::from(levels.iter().any(|&level| level > 0))),
                        _ => (with(0), with(1)),
                    };
                }
                classes.push(symbols::slots(&symbols::frequencies(&both), 32));
            }
        }
        Some(classes)
    }

    fn expected(&self, i: usize, row: usize, size: i64, exponent: u32) -> Expected {
        let (first, row_len) = self.rows;
        let column = (i + row_len - first) % row_len;
        let directions = self.columns.iter().zip(&self.of_rows);
        let inclination: i32 = directions
            .map(|(columns, rows)| columns[column] * rows[self.changed[row]])
            .sum();
        let level = usize::from(inclination.abs() > self.threshold && self.levels() > 1);
        let expected = (self.offset + size - 2 * i64::from(exponent)).clamp(0, 63);
        let low = u32::try_from((expected - self.reach).max(0) / 2).unwrap_or(0);
        let of_level =
            usize::try_from((expected - self.least).max(0) >> self.halvings).unwrap_or(0);
        Expected {
            class: level * self.n_classes + of_level.min(self.n_classes - 1),
            low: low.max(self.low[0]).min(self.low[1]),
            negative: inclination < 0,
        }
    }
}

/// The parts that `n` rows or columns have in each direction.
fn parts(input: &mut Bytes<'_>, rank: usize, n: usize) -> Option<Vec<Vec<i32>>> {
    let values = record(input, 6, rank * n, Within::Bytes)?;
    let parts: Vec<i32> = values.into_iter().map(|v| i32::from(v) - 32).collect();
    let possible = parts.iter().all(|part| *part > -32);
    possible.then(|| (0..rank).map(|k| parts[k * n..][..n].to_vec()).collect())
}

impl Expected {
    fn difference(&self, symbol: u32, bits: u32, fields: &mut Fields<'_>) -> Option<u32> {
        let low = self.low;
        if symbol == 0 {
            return Some(0);
        }
        if symbol == 16 {
            return u32::try_from(fields.take(bits as usize)?).ok();
        }
        let h = symbol % 16 - u32::from(low > 0);
        let (least, n) = if h < 2 {
            (h, 0)
        } else {
            ((2 + h % 2) << (h / 2 - 1), h / 2 - 1)
        };
        let rest = fields.take((n + low) as usize)?;
        let magnitude = u32::try_from((u64::from(least) << low) + rest).ok()?;
        Some(if self.negative == (symbol < 16) {
            magnitude.wrapping_neg()
        } else {
            magnitude
        })
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .rev()
        .fold(0, |all, &byte| all << 8 | u32::from(byte))
}

/// What becomes of an old number, bit by bit.
fn predicted(old: u32, len: usize, factor: f32, steps: usize) -> u32 {
    if len < 4 || f32::from_bits(old).is_nan() {
        return old;
    }
    (0..steps)
        .fold(f32::from_bits(old), |x, _| x * factor)
        .to_bits()
}

/// The place of a number among all, or the number at a place: of negative ones all other bits change.
fn place(number: u32, bits: u32) -> u32 {
    let number = if bits == 32 { number } else { number & 0xffff };
    let negative = number >> (bits - 1) & 1 == 1;
    if negative {
        number ^ ((1 << (bits - 1)) - 1)
    } else {
        number
    }
}

/// Bits one after the other.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    fn take(&mut self, n: usize) -> Option<u64> {
        let here = self.at..self.at + n;
        self.at = here.end;
        let inside = self.at <= 8 * self.bytes.len();
        inside.then(|| {
            here.rev()
                .fold(0, |all, at| 2 * all + u64::from(bit(self.bytes, at)))
        })
    }

    /// Fewer than 8 bits are left, all zeros.
    fn end(&self) -> Option<()> {
        let mut left = self.at..8 * self.bytes.len();
        (left.len() < 8 && left.all(|at| bit(self.bytes, at) == 0)).then_some(())
    }
}
