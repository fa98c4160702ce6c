//! FORMAT.md, "Grouped": keys, and units in the order of their classes.

use super::symbols::{Slots, block, read_classes};
use super::{Bytes, Within, record};

/// The length of a unit, and the key of each.
pub(super) struct Keys {
    unit: usize,
    keys: Vec<usize>,
}

/// The planes of a step or a minimum, the first of the block and the second of the unit, and the
/// value of the second that stands for 0; whether the first is an exponent.
struct Number(usize, Option<(usize, i64)>, bool);

/// The keys of the plane that follows `planes` and has `n` values.
pub(super) fn keys(kind: u8, planes: &[Vec<u16>], n: usize) -> Option<Keys> {
    let at = planes.len() + 1;
    let planes: Vec<Vec<i64>> = planes
        .iter()
        .map(|plane| plane.iter().map(|&value| i64::from(value)).collect())
        .collect();
    let planes = &planes[..];
    let of = |unit: usize, key: &dyn Fn(usize) -> i64| {
        let keys = (0..n / unit).map(|i| usize::try_from(key(i)).expect("keys are positive"));
        let keys = keys.collect();
        Some(Keys { unit, keys })
    };
    let by_step = |unit: usize, step: Number| {
        let relative = relative(&step.logs(planes, n / unit));
        of(unit, &|i| (relative[i].div_euclid(128) + 128).clamp(0, 255))
    };
    let by_zero = |unit: usize, step: Number, minimum: Number| {
        let n = n / unit;
        let relative = relative(&step.logs(planes, n));
        let (steps, minimums) = (step.values(planes, n), minimum.values(planes, n));
        of(unit, &|i| {
            let (a, b) = (steps[i], minimums[i]);
            let z = if a == 0 { 31 } else { (2 * b + a / 2) / a };
            8 * z.min(31) + (relative[i].div_euclid(512) + 4).clamp(0, 7)
        })
    };
    match (kind, at) {
        (2 | 6 | 8 | 20 | 39, 2) | (9, 3) => by_step(32, Number(1, None, kind == 39)),
        (3 | 7, 3) => by_zero(32, Number(1, None, kind == 39), Number(2, None, kind == 39)),
        (11, 3) => by_step(16, Number(1, Some((2, 32)), false)),
        (14, 2) => of(16, &|_| 0),
        (14, 3) => by_step(16, Number(1, Some((2, 128)), false)),
        (23, 3) => by_step(32, Number(1, Some((2, 32)), false)),
        (10 | 12 | 13, 4) => of(1, &|i| planes[2][i]),
        (10, 5) => by_zero(
            16,
            Number(1, Some((3, 0)), false),
            Number(2, Some((4, 0)), false),
        ),
        (12 | 13, 5) => by_zero(
            32,
            Number(1, Some((3, 0)), false),
            Number(2, Some((4, 0)), false),
        ),
        _ => None,
    }
}

impl Number {
    /// H and F of each of `n` units.
    fn parts(&self, planes: &[Vec<i64>], n: usize) -> Vec<(i64, i64)> {
        let whole = &planes[self.0 - 1];
        let part = |i: usize| match self.1 {
            None => 1,
            Some((plane, zero)) => (planes[plane - 1][i] - zero).abs(),
        };
        let h = |i: usize| {
            let number = whole[i / (n / whole.len())];
            // Exponents of two, or binary16.
            if self.2 {
                1024 * number
            } else {
                number % 32768
            }
        };
        (0..n).map(|i| (h(i), part(i))).collect()
    }

    fn logs(&self, planes: &[Vec<i64>], n: usize) -> Vec<i64> {
        let log = |f: i64| {
            let Some(e) = f.checked_ilog2() else {
                return -4096;
            };
            1024 * i64::from(e) + 1024 * f / (1 << e) - 1024
        };
        let parts = self.parts(planes, n).into_iter();
        parts.map(|(h, f)| h + log(f)).collect()
    }

    fn values(&self, planes: &[Vec<i64>], n: usize) -> Vec<i64> {
        let v = |h: i64| {
            if h < 1024 {
                h
            } else {
                (1024 + h % 1024) << (h / 1024 - 1)
            }
        };
        let parts = self.parts(planes, n).into_iter();
        parts.map(|(h, f)| v(h) * f).collect()
    }
}

/// S − M
fn relative(logs: &[i64]) -> Vec<i64> {
    let near = |i: usize| &logs[i.max(8) - 8..(i + 9).min(logs.len())];
    let mean = |logs: &[i64]| {
        logs.iter()
            .sum::<i64>()
            .div_euclid(i64::try_from(logs.len()).expect("few"))
    };
    (0..logs.len()).map(|i| logs[i] - mean(near(i))).collect()
}

/// The values of a grouped plane.
pub(super) fn read(input: &mut Bytes<'_>, width: usize, n: usize, keys: &Keys) -> Option<Vec<u16>> {
    let (unit, n_units) = (keys.unit, n / keys.unit);
    let apart = input.u8().filter(|&flag| flag < 2)? == 1;
    let mut extremes = None;
    if apart {
        let places_width = usize::try_from(unit.ilog2())
            .ok()
            .filter(|&width| width > 0)?;
        let places = record(input, places_width, n_units, Within::Bytes)?;
        extremes = Some((places, record(input, width, n_units, Within::Bytes)?));
    }
    let lower_width = usize::from(input.u8()?);
    let upper_width = width
        .checked_sub(lower_width)
        .filter(|width| (1..=5).contains(width))?;
    let class_of_key = input.list(256)?;
    let tables = read_classes(input, if upper_width <= 4 { 16 } else { 32 })?;
    if class_of_key
        .iter()
        .any(|&class| usize::from(class) >= tables.len())
    {
        return None;
    }
    let kept = unit - usize::from(apart);
    let lower = input.packed(n_units * kept, lower_width)?;
    let part_units = 262_144 / unit;
    let n_parts = ((n_units + part_units / 2) / part_units).max(1);
    let lens: Vec<usize> = (1..n_parts)
        .map(|_| input.varint())
        .collect::<Option<_>>()?;
    let mut upper = vec![0; n_units * kept];
    for part in 0..n_parts {
        let end = if part + 1 == n_parts {
            n_units
        } else {
            (part + 1) * part_units
        };
        let class = |i: usize| class_of_key[keys.keys[i]];
        let mut order: Vec<usize> = (part * part_units..end).collect();
        order.sort_by_key(|&i| class(i));
        let places: Vec<usize> = order
            .iter()
            .flat_map(|i| i * kept..(i + 1) * kept)
            .collect();
        let groups = places.chunks(64);
        let class_of: Vec<&Slots> = groups
            .flat_map(|group| vec![&tables[usize::from(class(group[0] / kept))]; group.len()])
            .collect();
        let coded = input.take(lens.get(part).copied().unwrap_or(input.0.len()))?;
        for (at, symbol) in places.into_iter().zip(block(coded, &class_of)?) {
            upper[at] = symbol;
        }
    }
    let mut values = Vec::new();
    for i in 0..n_units {
        let of_unit = (i * kept..(i + 1) * kept).map(|at| (upper[at] << lower_width) + lower[at]);
        let mut of_unit: Vec<u16> = of_unit.collect();
        if let Some((places, extremes)) = &extremes {
            of_unit.insert(usize::from(places[i]), extremes[i]);
        }
        values.extend(of_unit);
    }
    values
        .iter()
        .all(|&value| usize::from(value) < 1 << width)
        .then_some(values)
}
