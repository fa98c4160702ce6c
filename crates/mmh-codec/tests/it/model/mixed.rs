//! Mixed frames, "Mixed" of FORMAT.md, in the words of its numbered steps.
#![allow(clippy::unwrap_used, reason = "what cannot be, fails the test")]

use std::collections::BTreeMap;

use super::{Bytes, Within, record};

const K: i64 = (1 << 28) - (1 << 18);
const W: [i64; 8] = [65536, 71468, 77936, 84990, 92682, 101_070, 110_218, 120_194];

/// The table of "Normal sums", read from the document itself.
fn normal_table() -> Vec<Vec<i64>> {
    let document = include_str!("../../../../../docs/FORMAT.md");
    let (_, after) = document.split_once("**Normal sums.**").unwrap();
    let table = after.split("```").nth(1).unwrap();
    let line = |line: &str| {
        line.split_whitespace()
            .map(|n| n.parse().unwrap())
            .collect()
    };
    table.trim().lines().map(line).collect()
}

/// The content of a body of `raw_len` bytes.
pub(super) fn body(mut input: Bytes<'_>, raw_len: usize) -> Option<Vec<u8>> {
    let (len, exponent_width, left) = match input.u8()? {
        0 => (2, 9, 4),
        1 => (2, 6, 7),
        2 => (4, 9, 4),
        _ => return None,
    };
    let row_len = input.varint().filter(|&len| (1..=65536).contains(&len))?;
    let first = input.varint().filter(|&first| first < row_len)?;
    let level = i64::from(input.u16()?);
    let far = input.u8().filter(|&far| far < 2)? == 1;
    let n = raw_len / len;
    let mut choices = Choices::of(input.sized()?)?;
    let mut state = State::new(row_len, first, level);
    let mut numbers = Vec::with_capacity(n);
    for _ in 0..n {
        let (e, t, sign) = state.number(&mut choices, far);
        if e >> exponent_width != 0 {
            return None;
        }
        numbers.push((sign << exponent_width | e) << 2 | t);
    }
    choices.end()?;
    // The sign, the exponent with one bit of the mantissa, two more; then what the model leaves.
    let rest = record(&mut input, left, n, Within::Frame)?;
    for (number, rest) in numbers.iter_mut().zip(rest) {
        *number = *number << left | i64::from(rest);
    }
    if len == 4 {
        for (number, low) in numbers
            .iter_mut()
            .zip(record(&mut input, 16, n, Within::Frame)?)
        {
            *number = *number << 16 | i64::from(low);
        }
    }
    let mut raw: Vec<u8> = numbers
        .iter()
        .flat_map(|number| number.to_le_bytes()[..len].to_vec())
        .collect();
    raw.extend(input.take(raw_len - len * n)?);
    input.end()?;
    Some(raw)
}

struct Choices<'a> {
    states: [u128; 4],
    words: Bytes<'a>,
    missing: bool,
}

impl<'a> Choices<'a> {
    fn of(mut content: Bytes<'a>) -> Option<Self> {
        let mut states = [0; 4];
        for state in &mut states {
            let bytes = content.take(8)?;
            *state = u128::from(u64::from_le_bytes(bytes.try_into().ok()?));
        }
        let whole = content.0.len().is_multiple_of(4);
        let choices = Self {
            states,
            words: content,
            missing: false,
        };
        (whole && states.iter().all(|&x| x >= 1 << 32)).then_some(choices)
    }

    /// Outcome of a choice of a kind with these starts.
    fn pick(&mut self, kind: usize, starts: &[i64]) -> i64 {
        let x = self.states[kind];
        let slot = i64::try_from(x % (1 << 15)).unwrap();
        let outcome = starts.iter().rposition(|&start| start <= slot).unwrap();
        let start = starts[outcome];
        let end = starts.get(outcome + 1).copied().unwrap_or(1 << 15);
        let positive = |x: i64| u128::try_from(x).unwrap();
        let mut x = positive(end - start) * (x >> 15) + positive(slot - start);
        if x < 1 << 32 {
            let word = self.words.take(4);
            self.missing |= word.is_none();
            let word = word.map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            x = x << 32 | u128::from(word);
        }
        self.states[kind] = x;
        i64::try_from(outcome).unwrap()
    }

    fn end(&self) -> Option<()> {
        let whole = !self.missing && self.words.0.is_empty() && self.states == [1 << 32; 4];
        whole.then_some(())
    }
}

#[derive(Clone)]
struct Distribution {
    sums: Vec<i64>,
    count: i64,
    count_max: i64,
}

impl Distribution {
    fn new(sums: Vec<i64>, count: i64) -> Self {
        Self {
            sums,
            count,
            count_max: count + 3840,
        }
    }

    fn even(n: i64, count: i64) -> Self {
        Self::new((0..n).map(|i| i * (K / n)).collect(), count)
    }

    fn learn(&mut self, outcome: i64) {
        for (i, sum) in (0..).zip(&mut self.sums) {
            *sum += ((if i > outcome { K } else { 0 }) - *sum) >> self.count.ilog2();
        }
        self.count = (self.count + 1).min(self.count_max);
    }

    fn code(&mut self, choices: &mut Choices<'_>, kind: usize) -> i64 {
        let starts: Vec<i64> = (0..)
            .zip(&self.sums)
            .map(|(i, sum)| (sum >> 13) + i)
            .collect();
        let outcome = choices.pick(kind, &starts);
        self.learn(outcome);
        outcome
    }
}

/// Distributions and bits by what they are for and their context.
#[derive(Default)]
struct Memory {
    distributions: BTreeMap<(&'static str, i64), Distribution>,
    bits: BTreeMap<(&'static str, i64), (i64, i64)>,
}

impl Memory {
    /// Codes a bit by two, which begin with `first`; returns it and the probability q.
    fn bit(
        &mut self,
        choices: &mut Choices<'_>,
        kind: usize,
        contexts: [(&'static str, i64); 2],
        (first, count_max, margin): ((i64, i64), i64, i64),
    ) -> (i64, i64) {
        let [a, b] = contexts.map(|context| self.bits.entry(context).or_insert(first).0);
        let q = ((a + b) >> 14).clamp(margin, (1 << 15) - margin);
        let bit = choices.pick(kind, &[0, (1 << 15) - q]);
        for context in contexts {
            let (p, c) = self.bits.get_mut(&context).unwrap();
            *p += ((if bit == 1 { 1 << 28 } else { 0 }) - *p) >> c.ilog2();
            *c = (*c + 1).min(count_max);
        }
        (bit, q)
    }
}

#[derive(Clone, Copy, Default)]
struct Column {
    scale: i64,
    mean: i64,
    last: i64,
    history: i64,
}

struct State {
    columns: Vec<Column>,
    j: usize,
    scale: i64,
    usual: i64,
    n: i64,
    r: i64,
    d: [i64; 2],
    trend: i64,
    history: i64,
    mean: i64,
    last: i64,
    weights: [i64; 4],
    memory: Memory,
    table: Vec<Vec<i64>>,
}

impl State {
    fn new(row_len: usize, first: usize, level: i64) -> Self {
        Self {
            columns: vec![Column::default(); row_len],
            j: first,
            scale: level << 8,
            usual: level << 8,
            n: 0,
            r: 0,
            d: [-230; 2],
            trend: -3680,
            history: 0,
            mean: 0,
            last: 0,
            weights: [32768, 0, 0, 0],
            memory: Memory::default(),
            table: normal_table(),
        }
    }

    /// Steps 1 to 10: e, t and the sign of the next number.
    fn number(&mut self, choices: &mut Choices<'_>, far: bool) -> (i64, i64, i64) {
        let p = (self.scale + self.columns[self.j].scale).clamp(0, (1 << 24) - 1);
        let f = (p >> 12) % 16;
        let far = far && self.far(choices);
        let s = if far { 0 } else { self.place(choices, f) };
        let mut e = 2 * (p >> 16) - 24 + s;
        let kept = &mut self.memory.distributions;
        let mut code = |what, n, context, count, kind| {
            let place = kept.entry((what, context));
            place
                .or_insert_with(|| Distribution::even(n, count))
                .code(choices, kind)
        };
        if s == 0 || s == 31 {
            let high = code("high", 16, s, 8, 0);
            e = high * 32 + code("low", 32, s * 16 + high, 8, 0);
        }
        let t = code("mantissa", 4, s * 16 + f, 64, 1);
        let d = 256 * (e / 2) + [82, 207][usize::from(e % 2 != 0)] - (p >> 8);
        let z = if far {
            0
        } else {
            x((d >> 5).clamp(-48, 16)) >> 4
        };
        let sign = self.sign(choices, d, z);
        self.adapt(d, far);
        (e, t, sign)
    }

    fn far(&mut self, choices: &mut Choices<'_>) -> bool {
        let (column, row) = (self.columns[self.j].history, self.history);
        let near = 16 * (column % 16) + row % 16;
        let counts = 9 * i64::from(column.count_ones()) + i64::from(row.count_ones());
        let how = ((1 << 22, 2), 256, 8);
        let contexts = [("near", near), ("counts", counts)];
        let (bit, _) = self.memory.bit(choices, 3, contexts, how);
        self.columns[self.j].history = (2 * column + bit) % 256;
        self.history = (2 * row + bit) % 256;
        bit == 1
    }

    fn place(&mut self, choices: &mut Choices<'_>, f: i64) -> i64 {
        let [d1, d2] = self.d.map(|d| index((d >> 7) + 10, 16));
        let column = index((self.columns[self.j].scale >> 15) + 16, 32);
        let trend = index((((self.trend + 3680) * 6) >> 12) + 8, 16);
        let coarse = f / 4;
        let contexts = [
            ("phase", f),
            ("trend", 4 * trend + coarse),
            ("neighbours", 4 * (16 * d1 + d2) + coarse),
            ("column", 4 * column + coarse),
        ];
        let mut sums = vec![0; 32];
        for (what, context) in contexts {
            let row = if what == "phase" { f } else { 4 * coarse + 1 };
            let row = &self.table[usize::try_from(row).unwrap()];
            let new = || Distribution::new((0..32).map(|s| normal(row, s)).collect(), 256);
            let known = self
                .memory
                .distributions
                .entry((what, context))
                .or_insert_with(new);
            sums.iter_mut()
                .zip(&known.sums)
                .for_each(|(sum, p)| *sum += p);
        }
        let starts: Vec<i64> = (0..).zip(sums).map(|(i, sum)| (sum >> 15) + i).collect();
        let s = choices.pick(0, &starts);
        for context in contexts {
            self.memory
                .distributions
                .get_mut(&context)
                .unwrap()
                .learn(s);
        }
        s
    }

    fn sign(&mut self, choices: &mut Choices<'_>, d: i64, z: i64) -> i64 {
        let column = self.columns[self.j];
        let from = [column.mean >> 8, self.mean >> 8, self.last, column.last];
        let clues = from.map(|x| (x * z) >> 14);
        let sum: i64 = self
            .weights
            .iter()
            .zip(clues)
            .map(|(w, a)| (w >> 4) * a)
            .sum();
        let v = index(((6 * (sum >> 10)) >> 12) + 32, 64);
        let by_size = 16 * v + index((d >> 7) + 10, 16);
        let by_column = 32 * v + index(((24 * clues[0]) >> 12) + 16, 32);
        let how = ((1 << 27, 16), 1024, 64);
        let contexts = [("size", by_size), ("mean", by_column)];
        let (sign, q) = self.memory.bit(choices, 2, contexts, how);
        for (w, a) in self.weights.iter_mut().zip(clues) {
            *w = (*w + (((q - (sign << 15)) * a) >> 16)).clamp(-(1 << 18), 1 << 18);
        }
        let y = if sign == 1 { -z } else { z };
        let rate = 65536 / (self.r.min(316) + 16);
        let column = &mut self.columns[self.j];
        column.mean += ((((y << 8) - column.mean) >> 8) * rate) >> 8;
        self.mean += ((y << 8) - self.mean) >> 4;
        self.last = y.clamp(-6144, 6144);
        column.last = self.last;
        sign
    }

    fn adapt(&mut self, d: i64, far: bool) {
        if !far {
            let rate = |n: i64| 47274 / (n.min(242) + 8);
            let k = (d >> 4).clamp(-128, 64);
            let g = x(k).min(7 << 16) - (1 << 16) + if k < -64 { 2048 * (k + 64) } else { 0 };
            let moved =
                |scale: i64, n| (scale + (((g >> 4) * rate(n)) >> 12)).clamp(-(1 << 24), 1 << 24);
            self.scale = moved(self.scale, self.n);
            self.columns[self.j].scale = moved(self.columns[self.j].scale, self.r);
            self.n += 1;
        }
        let d = d.clamp(-1280, 768);
        self.d = [d, self.d[0]];
        self.trend += ((d << 4) - self.trend) >> 3;
        self.j += 1;
        if self.j == self.columns.len() {
            self.j = 0;
            self.r += 1;
            self.usual += (self.scale - self.usual) >> 2;
            self.scale = (self.scale + self.usual) >> 1;
            self.n = 0;
            self.trend = -3680;
            self.mean >>= 1;
        }
    }
}

/// X(k).
fn x(k: i64) -> i64 {
    let w = W[usize::try_from(k.rem_euclid(8)).unwrap()];
    match k.div_euclid(8) {
        shift if shift < 0 => w >> -shift,
        shift => w << shift,
    }
}

fn index(x: i64, n: i64) -> i64 {
    x.clamp(0, n - 1)
}

/// P(s) for the phase whose row of the table this is.
fn normal(row: &[i64], s: i64) -> i64 {
    let (o, half) = (s / 2 - 12, s % 2);
    let listed = |place: i64| (row[usize::try_from(place).unwrap()] * K) >> 15;
    match o {
        _ if s == 0 => 0,
        -3..=2 => listed(2 * (o + 3) + half),
        _ if o < -3 => listed(half) >> (-3 - o),
        _ => K,
    }
}
