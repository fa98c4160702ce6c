//! The entropy coder's encoding side: blocks of 128 Ki symbols with each engine.
//!
//! `cargo bench -p mmh-codec --bench encode`

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use mmh_codec::entropy::{
    Alphabet, Classes, EncodeSet, LANES, Levels, SYMBOLS_MAX, by_name, engines,
};
use mmh_codec::samples::Noise;

const SYMBOLS: usize = 128 << 10;
const N_CLASSES: usize = 32;

fn main() {
    divan::main();
}

fn names() -> impl Iterator<Item = &'static str> {
    engines().iter().map(|engine| engine.name())
}

/// Symbols of as many kinds as the alphabet has, and a distribution for each class.
fn sample(alphabet: Alphabet) -> (Vec<u8>, EncodeSet) {
    let mut noise = Noise::new(1);
    let n = alphabet.size();
    let symbols: Vec<u8> = (0..SYMBOLS)
        .map(|_| noise.below(n).min(noise.below(n)))
        .collect();
    let mut counts = [0; SYMBOLS_MAX];
    for &symbol in &symbols {
        counts[usize::from(symbol)] += 1;
    }
    let levels: Vec<Levels> = (0..N_CLASSES)
        .map(|class| {
            counts[class % n] += 1000;
            Levels::from_counts(&counts)
        })
        .collect();
    (symbols, EncodeSet::new(&levels, alphabet))
}

fn bench(bencher: Bencher<'_, '_>, name: &str, alphabet: Alphabet, by_symbol: bool) {
    let engine = by_name(name).expect("the machine has it");
    let (symbols, set) = sample(alphabet);
    let count = if by_symbol { SYMBOLS } else { SYMBOLS / LANES };
    let mut noise = Noise::new(2);
    let classes: Vec<u8> = (0..count).map(|_| noise.below(N_CLASSES)).collect();
    let classes = if by_symbol {
        Classes::Symbols(&classes)
    } else {
        Classes::Groups(&classes)
    };
    let mut block = Vec::new();
    bencher.counter(ItemsCount::new(SYMBOLS)).bench_local(|| {
        block.clear();
        engine.encode(&set, classes, black_box(&symbols), &mut block)
    });
}

#[divan::bench(args = names())]
fn groups_of_16(bencher: Bencher<'_, '_>, name: &str) {
    bench(bencher, name, Alphabet::Sixteen, false);
}

#[divan::bench(args = names())]
fn groups_of_32(bencher: Bencher<'_, '_>, name: &str) {
    bench(bencher, name, Alphabet::ThirtyTwo, false);
}

#[divan::bench(args = names())]
fn classes_by_symbol(bencher: Bencher<'_, '_>, name: &str) {
    bench(bencher, name, Alphabet::ThirtyTwo, true);
}

/// Tables of 32 classes.
#[divan::bench]
fn tables(bencher: Bencher<'_, '_>) {
    let mut noise = Noise::new(3);
    let levels: Vec<Levels> = (0..N_CLASSES)
        .map(|_| Levels::from_counts(&[(); SYMBOLS_MAX].map(|()| u32::from(noise.below(200)) + 1)))
        .collect();
    bencher.bench_local(|| EncodeSet::new(black_box(&levels), Alphabet::ThirtyTwo));
}
