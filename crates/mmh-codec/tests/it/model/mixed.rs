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
    let mut state = State::new(row_len, level, far);
    let mut numbers = vec![0; n];
    // Rows in groups of 8, as the places in the numbers where they begin.
    for group in (0..first + n).step_by(8 * row_len).take_while(|_| n > 0) {
        for j in 0..row_len {
            let place = |row: usize| (group + row * row_len + j).checked_sub(first);
            let places = (0..8).filter_map(|row| Some((row, place(row).filter(|&at| at < n)?)));
            let places: Vec<(usize, usize)> = places.collect();
            let rows: Vec<usize> = places.iter().map(|&(row, _)| row).collect();
            for ((_, at), (e, t, sign)) in
                places.into_iter().zip(state.step(&mut choices, j, &rows))
            {
                if e >> exponent_width != 0 {
                    return None;
                }
                numbers[at] = (sign << exponent_width | e) << 2 | t;
            }
        }
        state.end_group();
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
    /// One for each row of a group.
    states: [u128; 8],
    words: Bytes<'a>,
    missing: bool,
}

impl<'a> Choices<'a> {
    fn of(mut content: Bytes<'a>) -> Option<Self> {
        let mut states = [0; 8];
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

    /// Outcome of a choice of a row with these starts.
    fn pick(&mut self, row: usize, starts: &[i64]) -> i64 {
        let x = self.states[row];
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
        self.states[row] = x;
        i64::try_from(outcome).unwrap()
    }

    fn end(&self) -> Option<()> {
        let whole = !self.missing && self.words.0.is_empty() && self.states == [1 << 32; 8];
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

    fn code(&self, choices: &mut Choices<'_>, row: usize) -> i64 {
        let starts: Vec<i64> = (0..)
            .zip(&self.sums)
            .map(|(i, sum)| (sum >> 13) + i)
            .collect();
        choices.pick(row, &starts)
    }
}

/// What a distribution or a bit is for, and its context.
type Context = (&'static str, i64);

/// How bits begin, what c grows to, and their margin.
type How = ((i64, i64), i64, i64);

/// Distributions and bits by what they are for and their context.
#[derive(Default)]
struct Memory {
    distributions: BTreeMap<Context, Distribution>,
    bits: BTreeMap<Context, (i64, i64)>,
}

impl Memory {
    /// Codes a bit of each row by two; returns the bits and the probabilities q.
    fn bits(
        &mut self,
        choices: &mut Choices<'_>,
        of_rows: &[(usize, [Context; 2])],
        (first, count_max, margin): How,
    ) -> Vec<(i64, i64)> {
        let mut coded = Vec::new();
        for &(row, contexts) in of_rows {
            let [a, b] = contexts.map(|context| self.bits.entry(context).or_insert(first).0);
            let q = ((a + b) >> 8).clamp(margin, (1 << 15) - margin);
            coded.push((choices.pick(row, &[0, (1 << 15) - q]), q));
        }
        for (&(_, contexts), &(bit, _)) in of_rows.iter().zip(&coded) {
            for context in contexts {
                let (p, c) = self.bits.get_mut(&context).unwrap();
                *p += ((if bit == 1 { (1 << 22) - 1 } else { 0 }) - *p) >> c.ilog2();
                *c = (*c + 1).min(count_max);
            }
        }
        coded
    }
}

#[derive(Clone, Copy, Default)]
struct Column {
    scale: i64,
    mean: i64,
    last: i64,
    history: i64,
}

#[derive(Clone, Copy)]
struct Row {
    scale: i64,
    near: [i64; 2],
    trend: i64,
    history: i64,
    mean: i64,
    last: i64,
}

/// A number on its way through the steps.
#[derive(Clone, Copy, Default)]
struct Number {
    row: usize,
    p: i64,
    f: i64,
    far: bool,
    s: i64,
    e: i64,
    t: i64,
    sign: i64,
}

impl Number {
    fn d(&self) -> i64 {
        256 * ((self.s - 24) >> 1) + [82, 207][usize::from(self.s % 2 != 0)] - 16 * self.f - 8
    }

    fn limited(&self) -> i64 {
        self.d().clamp(-1280, 768)
    }

    fn z(&self) -> i64 {
        match self.far {
            true => 0,
            false => x((self.d() >> 5).clamp(-48, 16)) >> 4,
        }
    }

    fn pull(&self) -> i64 {
        let k = self.d() >> 4;
        match self.far {
            true => 0,
            false => x(k.clamp(-128, 30)).min(7 << 16) - (1 << 16) + 2048 * (k + 64).clamp(-64, 0),
        }
    }
}

struct State {
    far: bool,
    columns: Vec<Column>,
    rows: [Row; 8],
    usual: i64,
    r: i64,
    weights: [i64; 4],
    memory: Memory,
    table: Vec<Vec<i64>>,
}

impl State {
    fn new(row_len: usize, level: i64, far: bool) -> Self {
        let row = Row {
            scale: level << 8,
            near: [8; 2],
            trend: -3680,
            history: 0,
            mean: 0,
            last: 0,
        };
        Self {
            far,
            columns: vec![Column::default(); row_len],
            rows: [row; 8],
            usual: level << 8,
            r: 0,
            weights: [32768, 0, 0, 0],
            memory: Memory::default(),
            table: normal_table(),
        }
    }

    /// Steps 1 to 8: of each row, e, t and the sign of its number.
    fn step(
        &mut self,
        choices: &mut Choices<'_>,
        j: usize,
        rows: &[usize],
    ) -> Vec<(i64, i64, i64)> {
        let predicted = |&row: &usize| {
            let p = self.rows[row].scale + self.columns[j].scale;
            let p = p.clamp(0, (1 << 24) - 1);
            let f = (p >> 12) % 16;
            Number {
                row,
                p,
                f,
                ..Number::default()
            }
        };
        let mut numbers: Vec<Number> = rows.iter().map(predicted).collect();
        if self.far {
            self.far(choices, j, &mut numbers);
        }
        self.places(choices, j, &mut numbers);
        self.exponents(choices, &mut numbers);
        let context = |number: &Number| ("mantissa", number.s * 16 + number.f);
        for number in &mut numbers {
            let kept = self.memory.distributions.entry(context(number));
            let kept = kept.or_insert_with(|| Distribution::even(4, 64));
            number.t = kept.code(choices, number.row);
        }
        for number in &numbers {
            let kept = self.memory.distributions.get_mut(&context(number));
            kept.unwrap().learn(number.t);
        }
        self.signs(choices, j, &mut numbers);
        self.adapt(j, &numbers);
        let found = numbers
            .iter()
            .map(|number| (number.e, number.t, number.sign));
        found.collect()
    }

    fn far(&mut self, choices: &mut Choices<'_>, j: usize, numbers: &mut [Number]) {
        let column = self.columns[j].history;
        let contexts = numbers.iter().map(|number| {
            let row = self.rows[number.row].history;
            let near = 16 * (column % 16) + row % 16;
            let counts = 9 * i64::from(column.count_ones()) + i64::from(row.count_ones());
            (number.row, [("near", near), ("counts", counts)])
        });
        let contexts: Vec<_> = contexts.collect();
        let how = ((1 << 16, 2), 256, 8);
        let bits = self.memory.bits(choices, &contexts, how);
        for (number, (bit, _)) in numbers.iter_mut().zip(bits) {
            number.far = bit == 1;
            for history in [
                &mut self.columns[j].history,
                &mut self.rows[number.row].history,
            ] {
                *history = (2 * *history + bit) % 256;
            }
        }
    }

    fn places(&mut self, choices: &mut Choices<'_>, j: usize, numbers: &mut [Number]) {
        let column = index((self.columns[j].scale >> 15) + 16, 32);
        let contexts = |number: &Number| {
            let row = &self.rows[number.row];
            let trend = index((((row.trend + 3680) * 6) >> 12) + 8, 16);
            let near = (row.near[0] + row.near[1]) >> 1;
            let scale = index(((row.scale - self.usual) >> 14) + 4, 8);
            let coarse = number.f / 4;
            [
                ("trend", (near * 16 + trend) * 4 + coarse),
                ("scales", (column * 8 + scale) * 4 + coarse),
            ]
        };
        let contexts: Vec<[Context; 2]> = numbers.iter().map(contexts).collect();
        let known = &mut self.memory.distributions;
        for (number, contexts) in numbers.iter_mut().zip(&contexts).filter(|(n, _)| !n.far) {
            let row = &self.table[usize::try_from(4 * (number.f / 4) + 1).unwrap()];
            let new = || Distribution::new((0..32).map(|s| normal(row, s)).collect(), 512);
            let mut sums = vec![0; 32];
            for &context in contexts {
                let known = known.entry(context).or_insert_with(new);
                sums.iter_mut()
                    .zip(&known.sums)
                    .for_each(|(sum, p)| *sum += p);
            }
            let starts: Vec<i64> = (0..).zip(sums).map(|(i, sum)| (sum >> 14) + i).collect();
            number.s = choices.pick(number.row, &starts);
        }
        for (number, contexts) in numbers.iter().zip(contexts).filter(|(n, _)| !n.far) {
            for context in contexts {
                known.get_mut(&context).unwrap().learn(number.s);
            }
        }
    }

    fn exponents(&mut self, choices: &mut Choices<'_>, numbers: &mut [Number]) {
        for number in numbers {
            let s = number.s;
            number.e = 2 * (number.p >> 16) - 24 + s;
            if s != 0 && s != 31 {
                continue;
            }
            let mut code = |what, n, context| {
                let kept = self.memory.distributions.entry((what, context));
                let kept = kept.or_insert_with(|| Distribution::even(n, 8));
                let outcome = kept.code(choices, number.row);
                kept.learn(outcome);
                outcome
            };
            let high = code("high", 16, s);
            number.e = high * 32 + code("low", 32, s * 16 + high);
        }
    }

    fn signs(&mut self, choices: &mut Choices<'_>, j: usize, numbers: &mut [Number]) {
        let column = self.columns[j];
        let clues = |number: &Number| {
            let row = &self.rows[number.row];
            let from = [column.mean >> 8, row.mean >> 8, row.last, column.last];
            from.map(|x| (x * number.z()) >> 14)
        };
        let clues: Vec<[i64; 4]> = numbers.iter().map(clues).collect();
        let contexts = numbers.iter().zip(&clues).map(|(number, clues)| {
            let sum: i64 = self
                .weights
                .iter()
                .zip(clues)
                .map(|(w, a)| (w >> 4) * a)
                .sum();
            let v = index(((6 * (sum >> 10)) >> 12) + 32, 64);
            let by_size = 16 * v + index((number.limited() >> 7) + 10, 16);
            let by_column = 32 * v + index(((24 * clues[0]) >> 12) + 16, 32);
            (number.row, [("size", by_size), ("mean", by_column)])
        });
        let contexts: Vec<_> = contexts.collect();
        let how = ((1 << 21, 16), 1023, 64);
        let bits = self.memory.bits(choices, &contexts, how);
        let (mut moves, mut sum) = ([0; 4], 0);
        for ((number, clues), (bit, q)) in numbers.iter_mut().zip(clues).zip(bits) {
            number.sign = bit;
            for (moves, a) in moves.iter_mut().zip(clues) {
                *moves += ((q - (bit << 15)) * a) >> 16;
            }
            let y = if bit == 1 { -number.z() } else { number.z() };
            sum += y;
            let row = &mut self.rows[number.row];
            row.mean += ((y << 8) - row.mean) >> 4;
            row.last = y.clamp(-6144, 6144);
            self.columns[j].last = row.last;
        }
        for (w, moves) in self.weights.iter_mut().zip(moves) {
            *w = (*w + moves).clamp(-(1 << 18), 1 << 18);
        }
        let rate = 65536 / ((self.r + 8).min(316) + 16);
        let n = i64::try_from(numbers.len()).unwrap();
        self.columns[j].mean += ((((sum << 8) - n * column.mean) >> 8) * rate) >> 8;
    }

    fn adapt(&mut self, j: usize, numbers: &[Number]) {
        let rate = |n: i64| 47274 / (n.min(242) + 16);
        let moved = |scale: i64, pull: i64, n| {
            (scale + (((pull >> 4) * rate(n)) >> 12)).clamp(-(1 << 24), 1 << 24)
        };
        let pull = numbers.iter().map(Number::pull).sum();
        self.columns[j].scale = moved(self.columns[j].scale, pull, self.r + 8);
        for number in numbers {
            let row = &mut self.rows[number.row];
            row.scale = moved(row.scale, number.pull(), i64::try_from(j).unwrap());
            row.near = [index((number.limited() >> 7) + 10, 16), row.near[0]];
            row.trend += ((number.limited() << 4) - row.trend) >> 3;
        }
    }

    fn end_group(&mut self) {
        let mean = self.rows.iter().map(|row| row.scale).sum::<i64>() >> 3;
        self.usual += (mean - self.usual) >> 1;
        for row in &mut self.rows {
            row.scale = (mean + self.usual) >> 1;
            row.trend = -3680;
            row.mean >>= 1;
        }
        self.r += 8;
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
