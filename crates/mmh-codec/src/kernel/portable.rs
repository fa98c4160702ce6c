//! The loops in plain form.

use super::{Bases, Keys, Parts, RARE, Seen};
use crate::bits::pack;
use crate::cluster::{Histogram, Prices};
use crate::entropy::{CLASSES_MAX, SYMBOLS_MAX};

#[inline(always)]
pub(super) fn count(symbols: &[u8]) -> Histogram {
    // Four tables, so that equal neighbours do not wait for each other.
    let mut counts = [[0i16; SYMBOLS_MAX]; 4];
    let (fours, last) = symbols.as_chunks::<4>();
    for four in fours {
        for (counts, symbol) in counts.iter_mut().zip(four) {
            counts[usize::from(symbol & 31)] += 1;
        }
    }
    for symbol in last {
        counts[0][usize::from(symbol & 31)] += 1;
    }
    let [mut all, rest @ ..] = counts;
    for counts in rest {
        for (all, count) in all.iter_mut().zip(counts) {
            *all += count;
        }
    }
    all
}

#[inline(always)]
pub(super) fn assign(segments: &[Histogram], prices: &Prices, ids: &mut [u8]) {
    match prices.n_classes {
        0..=8 => assign_in::<8>(segments, prices, ids),
        9..=16 => assign_in::<16>(segments, prices, ids),
        _ => assign_in::<CLASSES_MAX>(segments, prices, ids),
    }
}

/// Of the first `N` classes.
#[inline(always)]
fn assign_in<const N: usize>(segments: &[Histogram], prices: &Prices, ids: &mut [u8]) {
    for (histogram, id) in segments.iter().zip(ids) {
        let mut costs = [0i32; N];
        costs.copy_from_slice(&prices.names[..N]);
        for (counts, prices) in histogram.as_chunks::<2>().0.iter().zip(&prices.pairs) {
            let counts = [i32::from(counts[0]), i32::from(counts[1])];
            for (cost, price) in costs.iter_mut().zip(prices) {
                *cost += counts[0] * i32::from(price[0]) + counts[1] * i32::from(price[1]);
            }
        }
        let least = costs.iter().fold(i32::MAX, |least, &cost| least.min(cost));
        let first = (0u8..).zip(&costs).find(|&(_, &cost)| cost == least);
        *id = first.map_or(0, |(id, _)| id);
    }
}

#[inline(always)]
pub(super) fn split_bf16(
    raw: &[[u8; 2]],
    keys: &Keys,
    bases: Bases,
    Parts { symbols, bytes, .. }: Parts<'_>,
) -> Seen {
    let mut seen = Seen::default();
    for ((number, symbol), byte) in raw.iter().zip(symbols).zip(bytes) {
        let x = u16::from_le_bytes(*number);
        *symbol = keys[usize::from(x >> 6 & 0x1ff)];
        *byte = upper(x);
        seen.rare |= *symbol == RARE;
        seen.bytes |= *byte ^ bases.bytes;
    }
    seen
}

#[inline(always)]
pub(super) fn split_f16(
    raw: &[[u8; 2]],
    keys: &Keys,
    bases: Bases,
    Parts { symbols, words, .. }: Parts<'_>,
) -> Seen {
    let mut seen = Seen::default();
    for ((number, symbol), word) in raw.iter().zip(symbols).zip(words) {
        let x = u16::from_le_bytes(*number);
        *symbol = keys[usize::from(x >> 9 & 0x3f)];
        *word = x >> 15 << 9 | x & 0x1ff;
        seen.rare |= *symbol == RARE;
        seen.words |= *word ^ bases.words;
    }
    seen
}

#[inline(always)]
pub(super) fn split_f32(raw: &[[u8; 4]], keys: &Keys, bases: Bases, parts: Parts<'_>) -> Seen {
    let mut seen = Seen::default();
    let targets = parts.symbols.iter_mut().zip(parts.bytes).zip(parts.words);
    for (&[a, b, c, d], ((symbol, byte), word)) in raw.iter().zip(targets) {
        let x = u16::from_le_bytes([c, d]);
        *symbol = keys[usize::from(x >> 6 & 0x1ff)];
        *byte = upper(x);
        *word = u16::from_le_bytes([a, b]);
        seen.rare |= *symbol == RARE;
        seen.bytes |= *byte ^ bases.bytes;
        seen.words |= *word ^ bases.words;
    }
    seen
}

/// The sign above the 6 lowest bits of a bfloat16, or of the upper half of a binary32.
fn upper(x: u16) -> u8 {
    let [low, high] = x.to_le_bytes();
    high >> 7 << 6 | low & 0x3f
}

#[inline(always)]
pub(super) fn pack_bytes(values: &[u8], shift: u32, width: u32, out: &mut Vec<u8>) {
    let mut words = [0u16; 256];
    for part in values.chunks(words.len()) {
        let words = &mut words[..part.len()];
        for (word, &byte) in words.iter_mut().zip(part) {
            *word = u16::from(byte);
        }
        pack(words, shift, width, out);
    }
}

#[inline(always)]
pub(super) fn pack_words(values: &[u16], shift: u32, width: u32, out: &mut Vec<u8>) {
    pack(values, shift, width, out);
}
