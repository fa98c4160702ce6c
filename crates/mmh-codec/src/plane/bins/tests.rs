//! Bins: found by what they cost, told apart, and refused where the format does not have them.

use super::*;
use crate::kernel::RARE;
use crate::samples::Noise;

fn bins(first: u16, widths: &[u8]) -> BinWidths {
    BinWidths {
        first,
        widths: widths.to_vec(),
    }
}

/// Counts of the upper bits of numbers drawn from a bell of this spread.
fn bell(spread: f32, n: usize) -> Vec<u32> {
    let noise = &mut Noise::new(5);
    let mut counts = vec![0; 1 << WIDTH];
    for _ in 0..n {
        let bits = (spread * noise.normal()).to_bits() & 0x7fff_ffff;
        counts[(bits >> BELOW) as usize] += 1;
    }
    counts
}

/// What bins cost, by the definition, in bits times 2^10.
fn cost(counts: &[u32], bins: &BinWidths) -> u64 {
    let total: u64 = counts.iter().map(|&c| u64::from(c)).sum();
    let (mut bits, mut with) = (0, 0);
    for (start, &width) in bins.starts().into_iter().zip(&bins.widths) {
        let start = usize::from(start);
        let count: u32 = counts[start..start + (1 << width)].iter().sum();
        let each = u64::from(log2(total) - log2(count.into())) + u64::from(width) * ONE_BIT;
        bits += u64::from(count) * each + SYMBOL_BITS * ONE_BIT;
        with += u64::from(count);
    }
    bits + (total - with) * EXCEPTION_BITS * ONE_BIT
}

#[test]
fn a_bell_has_narrow_bins_above_and_wide_ones_below() {
    let counts = bell(0.05, 40_000);
    let (found, found_cost) = Search::new(&counts).unwrap().best().unwrap();
    assert_eq!(found_cost, cost(&counts, &found));
    assert!(
        found.widths.contains(&0) && found.widths[0] == 2,
        "{found:?}"
    );
    assert!(found.widths.iter().filter(|&&width| width == 0).count() >= 6);
    // No shift of a border between two bins is cheaper.
    for i in 1..found.len() {
        for (before, after) in [(0, 2), (2, 0), (1, 1), (0, 1), (1, 0), (2, 2)] {
            let mut other = found.clone();
            (other.widths[i - 1], other.widths[i]) = (before, after);
            let starts = other.starts();
            let aligned = |(start, width): (&u16, &u8)| start.is_multiple_of(1 << width);
            if starts.iter().zip(&other.widths).all(aligned) && other.end().is_multiple_of(2) {
                assert!(cost(&counts, &other) >= found_cost, "{i} {before} {after}");
            }
        }
    }
    let plain: u64 = counts
        .as_chunks::<2>()
        .0
        .iter()
        .map(|pair| {
            let count = u64::from(pair[0] + pair[1]);
            count * u64::from(log2(40_000) - log2(count) + 1024)
        })
        .sum();
    assert!(
        found_cost + 40_000 * 10 < plain,
        "a hundredth of a bit and more"
    );
    assert_eq!(BinWidths::of(&counts, plain, 1000), None, "too few to pay");
    let bins = BinWidths::of(&counts, plain, 1 << 20).unwrap();
    assert_eq!(bins.len(), 32);
    assert_eq!(BinWidths::of(&counts, found_cost, 1 << 20), None);
}

#[test]
fn odd_counts_have_bins_too() {
    let mut counts = vec![0; 1 << WIDTH];
    assert!(Search::new(&counts).is_none());
    for at in [0, 1, 2, 511, 1022, 1023] {
        counts.fill(0);
        counts[at] = 100;
        let (found, found_cost) = Search::new(&counts).unwrap().best().unwrap();
        assert_eq!(found_cost, cost(&counts, &found), "{at}");
        let extended = found.extended();
        assert!(extended.len() == 16 && extended.end() <= 1 << WIDTH);
        let inside = usize::from(extended.first)..usize::from(extended.end());
        assert!(inside.contains(&at) && extended.first.is_multiple_of(4));
    }
    // Far apart: what few numbers have are exceptions.
    counts.fill(0);
    counts[100] = 100_000;
    counts[900] = 2;
    let (found, _) = Search::new(&counts).unwrap().best().unwrap();
    assert!(found.end() < 500);
}

/// Each value with a code has one symbol, whose meaning has the value in it.
#[test]
fn codes_are_the_opposite_of_meanings() {
    for bins in [
        bins(400, &[2, 2, 1, 1, 0, 0, 1, 0, 0, 0, 0, 2]),
        bins(0, &[2; 32]),
        bins(992, &[0; 32]),
        bins(4, &[1]),
    ] {
        let (keys, codes) = bins.codes();
        let meaning = bins.meaning();
        for value in 0..1u16 << WIDTH {
            let code = keys[usize::from(value >> 1)];
            let inside = (bins.first..bins.end()).contains(&value);
            assert_eq!(code != RARE, inside, "{value}");
            if !inside {
                continue;
            }
            let code = usize::from(code);
            let (flags, low) = (codes.flags[code], value % 2);
            let own = low & u16::from(flags & FIRST == 0);
            let symbol = usize::from(u16::from(codes.symbols[code]) + own);
            assert_eq!(meaning.flags[symbol] & 3, flags);
            let mut start = 2 * (bins.base() + u16::from(meaning.above[symbol]));
            start += u16::from(meaning.flags[symbol] / LOWER);
            assert_eq!(start, bins.starts()[symbol]);
            assert!((start..start + (1 << bins.widths[symbol])).contains(&value));
        }
    }
}

#[test]
fn heads_come_back_and_bad_ones_are_refused() {
    for bins in [
        bins(400, &[2, 1, 1, 0]),
        bins(0, &[2; 32]),
        bins(1023, &[0]),
        bins(6, &[1, 0, 0, 1, 0]),
    ] {
        let mut out = Vec::new();
        bins.put(&mut out);
        assert_eq!(BinWidths::read(&mut Input::new(&out)), Ok(bins));
        for cut in 0..out.len() {
            assert!(BinWidths::read(&mut Input::new(&out[..cut])).is_err());
        }
    }
    for bad in [
        &[0, 0][..],
        &[33, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0, 3],
        &[1, 0, 1 << 2],
        &[1, 1, 1],
        &[1, 2, 2],
        &[1, 0x80, 8, 0],
        &[2, 0xff, 7, 0],
        &[1, 0x80, 0x80, 8, 0],
    ] {
        assert!(BinWidths::read(&mut Input::new(bad)).is_err(), "{bad:?}");
    }
}
