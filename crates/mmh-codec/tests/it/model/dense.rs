//! FORMAT.md, "Dense": one value at a time.

use super::{Bytes, Within, record, symbols};

const SHOWN: [i32; 16] = [0, 1, 1, 1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91];

/// The kernel's sides, and what a row has.
struct Place {
    width: usize,
    height: usize,
    depth: usize,
    row_len: usize,
    before: usize,
}

impl Place {
    fn read(input: &mut Bytes<'_>) -> Option<Self> {
        let mut side = || input.varint().filter(|side| (1..=16).contains(side));
        let (width, height, depth) = (side()?, side()?, side()?);
        let row_len = input.varint()?.checked_mul(width * height * depth)?;
        let before = input.varint()?;
        (row_len <= 65_536 && before < row_len).then_some(Self {
            width,
            height,
            depth,
            row_len,
            before,
        })
    }

    fn taps(&self) -> usize {
        self.width * self.height * self.depth
    }

    fn column(&self, i: usize) -> usize {
        (self.before + i) % self.row_len
    }

    fn row(&self, i: usize) -> usize {
        (self.before + i) / self.row_len
    }

    fn tap(&self, i: usize) -> usize {
        self.column(i) % self.taps()
    }

    fn coordinates(&self, i: usize) -> [usize; 3] {
        let tap = self.tap(i);
        let y = tap / self.width % self.height;
        [tap % self.width, y, tap / (self.width * self.height)]
    }

    /// The prediction of value `i`, and its context but for the scale, by what others show.
    fn context(&self, i: usize, shown: &[i32]) -> (i32, usize) {
        let [x, y, z] = self.coordinates(i);
        let near = |there: bool, steps: usize| {
            let value = i.checked_sub(steps).map_or(0, |at| shown[at]);
            if there { value } else { 0 }
        };
        let straight = [
            near(x > 0, 1),
            near(y > 0, self.width),
            near(z > 0, self.width * self.height),
        ];
        let corner = near(x > 0 && y > 0, self.width + 1);
        let prediction = 2 * straight.iter().sum::<i32>() - corner;
        let sum: i32 = straight.iter().map(|value| value.abs()).sum();
        let below = |limits: &[i32], x: i32| limits.iter().filter(|&&limit| limit < x).count();
        let m = match [x, y, z].iter().filter(|&&c| c > 0).count() {
            0 => 7,
            n => below(&[18, 36, 60, 96, 144], sum * [6, 3, 2][n - 1]),
        };
        let p = below(&[4, 10, 18, 28, 40, 56, 80], prediction.abs());
        (prediction, 8 * p + m)
    }
}

pub(super) fn read(input: &mut Bytes<'_>, width: usize, n: usize) -> Option<Vec<u16>> {
    let place = Place::read(input)?;
    let signed = place.taps() > 1;
    let base = input.u16().filter(|&base| base <= 8192)?;
    let columns = record(input, 6, place.row_len, Within::Bytes)?;
    let n_rows = (place.before + n).div_ceil(place.row_len);
    let rows = match input.u8()? {
        0 => vec![0; n_rows],
        1 => record(input, 6, n_rows, Within::Bytes)?,
        _ => return None,
    };
    let size_width = width - usize::from(signed);
    let n_escapes = input.varint().filter(|&count| count <= n)?;
    let mut escapes = Vec::new();
    if n_escapes > 0 {
        escapes = record(input, size_width, n_escapes, Within::Bytes)?;
    }
    let mut escapes = escapes.into_iter();
    let n_scales = input.varint().filter(|n| (1..=64).contains(n))?;
    let classes = symbols::read_classes(input, 32)?;
    let per_scale = if signed { 64 } else { 1 };
    let map = input.list(n_scales * per_scale)?;
    let mut values = vec![0; n];
    let mut shown = vec![0; n];
    for wave in 0..place.width + place.height + place.depth - 2 {
        let within = |&i: &usize| place.coordinates(i).iter().sum::<usize>() == wave;
        let mut order: Vec<usize> = (0..n).filter(within).collect();
        order.sort_by_key(|&i| place.tap(i));
        let scale = |i: usize| columns[place.column(i)] + rows[place.row(i)];
        let class = |&i: &usize| {
            let scale = usize::from(scale(i)).min(n_scales - 1);
            let (_, rest) = place.context(i, &shown);
            usize::from(map[scale * per_scale + if signed { rest } else { 0 }])
        };
        let class_of: Vec<usize> = order.iter().map(class).collect();
        let mut blocks = input.sized()?;
        let symbols = symbols::read_blocks(&mut blocks, &classes, &class_of)?;
        for (&i, symbol) in order.iter().zip(symbols) {
            let step = if signed { symbol % 16 } else { symbol };
            let size = match step {
                0 => escapes.next()?,
                _ => base + scale(i) + step,
            };
            if usize::from(size) >= 1 << size_width {
                return None;
            }
            values[i] = size;
            if signed {
                let negative = (symbol >= 16) != (place.context(i, &shown).0 < 0);
                let size = SHOWN[usize::from(step)];
                shown[i] = if negative { -size } else { size };
                values[i] += u16::from(negative) << size_width;
            }
        }
    }
    escapes.next().is_none().then_some(values)
}
