//! FORMAT.md, "Coded symbols": tables, frequencies, slots, blocks.

use super::{Bytes, Segments, bit};

const WEIGHTS: [u64; 8] = [
    65_536, 71_468, 77_936, 84_990, 92_682, 101_070, 110_218, 120_194,
];

/// A distribution: symbol, rank and frequency of each slot.
pub(super) type Slots = Vec<(u16, u32, u32)>;

/// `n` coded symbols; with `contexts`, the class of each is its context.
pub(super) fn read(
    input: &mut Bytes<'_>,
    alphabet: usize,
    n: usize,
    contexts: Option<&[u16]>,
) -> Option<Vec<u16>> {
    let classes = read_classes(input, alphabet)?;
    let n_classes = classes.len();
    let mut class_of = vec![0usize; n];
    if let Some(contexts) = contexts {
        class_of = contexts
            .iter()
            .map(|&context| usize::from(context))
            .collect();
    } else if n_classes > 1 {
        let segments = Segments::read(input)?;
        let ids = input.list(segments.count(n))?;
        class_of = (0..n).map(|i| usize::from(ids[segments.of(i)])).collect();
    }
    read_blocks(input, &classes, &class_of)
}

/// The number of classes and their distributions.
pub(super) fn read_classes(input: &mut Bytes<'_>, alphabet: usize) -> Option<Vec<Slots>> {
    let n_classes = input.varint().filter(|n| (1..=32).contains(n))?;
    let levels = tables(input.sized()?.0, n_classes, alphabet)?;
    let slots = levels
        .iter()
        .map(|levels| slots(&frequencies(levels), alphabet));
    Some(slots.collect())
}

/// The blocks of as many symbols as have a class, to the end of the input.
pub(super) fn read_blocks(
    input: &mut Bytes<'_>,
    classes: &[Slots],
    class_of: &[usize],
) -> Option<Vec<u16>> {
    let n = class_of.len();
    let class_of: Vec<&Slots> = class_of
        .iter()
        .map(|&c| classes.get(c))
        .collect::<Option<_>>()?;
    let n_blocks = ((n + 131_072) / 262_144).max(1);
    let lens: Vec<usize> = (1..n_blocks)
        .map(|_| input.varint())
        .collect::<Option<_>>()?;
    let mut symbols = Vec::new();
    for i in 0..n_blocks {
        let end = if i + 1 == n_blocks {
            n
        } else {
            (i + 1) * 262_144
        };
        let len = lens.get(i).copied().unwrap_or(input.0.len());
        let coded = input.take(len)?;
        symbols.extend(block(coded, &class_of[i * 262_144..end])?);
    }
    Some(symbols)
}

/// The levels of `n` tables, which fill `bytes`.
pub(super) fn tables(bytes: &[u8], n: usize, alphabet: usize) -> Option<Vec<Vec<i64>>> {
    let mut at = 0;
    let mut take = |n: usize| {
        let value = (0..n).map(|b| (at + b < 8 * bytes.len()).then(|| bit(bytes, at + b) << b));
        let value = value.sum::<Option<u16>>().map(i64::from);
        at += n;
        value
    };
    let tables: Vec<_> = (0..n)
        .map(|_| table(&mut take, alphabet))
        .collect::<Option<_>>()?;
    let used = at.div_ceil(8);
    let filled = (at..8 * used).all(|at| bit(bytes, at) == 0);
    (used == bytes.len() && filled).then_some(tables)
}

fn table(take: &mut impl FnMut(usize) -> Option<i64>, alphabet: usize) -> Option<Vec<i64>> {
    let mut levels = vec![0; alphabet];
    if take(1)? == 0 {
        return Some(levels);
    }
    let position_bits = if alphabet == 16 { 4 } else { 5 };
    let first = usize::try_from(take(position_bits)?).ok()?;
    let last = usize::try_from(take(position_bits)?)
        .ok()
        .filter(|&last| last >= first)?;
    let (gaps, predictor) = (take(1)?, take(1)?);
    let r = usize::try_from(take(3)?).ok()?;
    levels[first] = take(7)?;
    let mut seen = vec![levels[first]; 2];
    for level in &mut levels[first + 1..=last] {
        if gaps == 1 && take(1)? == 0 {
            continue;
        }
        let mut ones = 0;
        while take(1)? == 1 {
            ones += 1;
        }
        let zigzag = (ones << r) + take(r)?;
        let difference = if zigzag % 2 == 0 {
            zigzag / 2
        } else {
            -(zigzag / 2 + 1)
        };
        let predicted = if predictor == 0 {
            seen[seen.len() - 1]
        } else {
            seen[seen.len() - 2]
        };
        *level = Some(predicted + difference).filter(|level| (1..=97).contains(level))?;
        seen.push(*level);
    }
    seen.iter()
        .all(|level| (1..=97).contains(level))
        .then_some(levels)
}

pub(super) fn frequencies(levels: &[i64]) -> Vec<u64> {
    let present: Vec<usize> = (0..levels.len()).filter(|&s| levels[s] > 0).collect();
    let mut freqs = vec![0u64; levels.len()];
    if present.len() < 2 {
        let only = present.first().copied().unwrap_or(0);
        (freqs[only], freqs[only ^ 1]) = (4095, 1);
        return freqs;
    }
    let weight = |s: usize| {
        let step = usize::try_from(levels[s] - 1).expect("levels are positive");
        WEIGHTS[step % 8] << (step / 8)
    };
    let total: u64 = present.iter().map(|&s| weight(s)).sum();
    for &s in &present {
        freqs[s] = ((weight(s) * 4096 + total / 2) / total).max(1);
    }
    let most = *freqs.iter().max().expect("there are symbols");
    let largest = freqs.iter().position(|&f| f == most).expect("it is there");
    let sum: u64 = freqs.iter().sum();
    freqs[largest] = freqs[largest] + 4096 - sum;
    freqs
}

pub(super) fn slots(freqs: &[u64], alphabet: usize) -> Slots {
    let size = 4096 / alphabet as u64;
    let (mut small, mut large): (Vec<usize>, Vec<usize>) =
        (0..alphabet).partition(|&s| freqs[s] < size);
    let mut rest = freqs.to_vec();
    let mut buckets: Vec<(u64, usize)> = (0..alphabet).map(|s| (size, s)).collect();
    while let (Some(&s), Some(&l)) = (small.last(), large.last()) {
        small.pop();
        buckets[s] = (rest[s], l);
        rest[l] -= size - rest[s];
        if rest[l] < size {
            large.pop();
            small.push(l);
        }
    }
    let mut ranks = vec![0; alphabet];
    let mut slots = Vec::new();
    for (own, &(n_own, other)) in buckets.iter().enumerate() {
        for slot in 0..size {
            let symbol = if slot < n_own { own } else { other };
            let freq = u32::try_from(freqs[symbol]).expect("frequencies are small");
            slots.push((
                u16::try_from(symbol).expect("symbols are small"),
                ranks[symbol],
                freq,
            ));
            ranks[symbol] += 1;
        }
    }
    slots
}

pub(super) fn block(coded: &[u8], class_of: &[&Slots]) -> Option<Vec<u16>> {
    let mut input = Bytes(coded);
    let mut widths = Vec::new();
    for _ in 0..32 {
        let pair = u32::from(input.u8()?);
        widths.extend([16 + pair % 16, 16 + pair / 16]);
    }
    let n_bits: u32 = widths.iter().sum();
    let mut bits = Vec::new();
    for byte in input.take(n_bits.div_ceil(8) as usize)? {
        bits.extend((0..8).map(|i| u32::from(byte >> i & 1)));
    }
    let mut bits = bits.into_iter();
    let mut states = Vec::new();
    for width in widths {
        let below = (0..width).map(|i| bits.next().unwrap_or(0) << i);
        states.push((1 << width) + below.sum::<u32>());
    }
    if bits.any(|bit| bit == 1) {
        return None;
    }
    let mut symbols = vec![0; class_of.len()];
    for group in (0..class_of.len()).step_by(64) {
        for (k, x) in states.iter_mut().enumerate() {
            let at = group + 4 * (k % 16) + k / 16;
            let Some(class) = class_of.get(at) else {
                continue;
            };
            let (symbol, rank, freq) = class[(*x % 4096) as usize];
            symbols[at] = symbol;
            *x = freq * (*x / 4096) + rank;
            if *x < 1 << 16 {
                *x = (*x << 16) + u32::from(input.u16()?);
            }
        }
    }
    input.end()?;
    states
        .iter()
        .all(|&state| state == 1 << 16)
        .then_some(symbols)
}
