//! Every engine of this machine decoding: one block of symbols in each form, and chunks of floats.
//!
//! `cargo bench -p mmh-codec --bench decode`

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use mmh_codec::entropy::{
    Alphabet, Classes, DecodeSet, EncodeSet, Engine as _, LANES, Levels, Reference, SYMBOLS_MAX,
    by_name, engines,
};
use mmh_codec::samples::{Noise, weights};
use mmh_codec::{BLOCK_LEN, Decoder, Encoder, Hint, Settings};
use mmh_core::Dtype;
use mmh_core::limits::TENSOR_CHUNK_LEN;

fn main() {
    divan::main();
}

fn names() -> impl Iterator<Item = String> {
    engines().iter().map(|engine| engine.name().to_owned())
}

/// Each engine with each of these words.
fn cases(words: &[&str]) -> Vec<String> {
    names()
        .flat_map(|name| words.iter().map(move |word| format!("{name} {word}")))
        .collect()
}

/// A block, whose symbols have a class for each group or for each symbol.
#[divan::bench(args = cases(&["16 groups", "32 groups", "16 symbols", "32 symbols"]))]
fn block(bencher: Bencher<'_, '_>, case: &str) {
    const N_CLASSES: usize = 24;
    let parts: Vec<&str> = case.split(' ').collect();
    let engine = by_name(parts[0]).expect("a name of this machine");
    let (alphabet, reach) = if parts[1] == "16" {
        (Alphabet::Sixteen, 14)
    } else {
        (Alphabet::ThirtyTwo, 28)
    };
    let mut noise = Noise::new(1);
    // Rows of 6 groups.
    let groups: Vec<u8> = (0..BLOCK_LEN / LANES)
        .map(|g| u8::try_from(g / 6 * 7 % N_CLASSES).expect("few classes"))
        .collect();
    let each: Vec<u8> = (0..BLOCK_LEN).map(|_| noise.below(N_CLASSES)).collect();
    let symbols: Vec<u8> = (0..BLOCK_LEN)
        .map(|_| (0..4).map(|_| noise.below(reach)).max().unwrap_or(0))
        .collect();
    let mut counts = [0; SYMBOLS_MAX];
    symbols.iter().for_each(|&s| counts[usize::from(s)] += 1);
    let levels = vec![Levels::from_counts(&counts); N_CLASSES];
    let classes = if parts[2] == "groups" {
        Classes::Groups(&groups)
    } else {
        Classes::Symbols(&each)
    };
    let mut coded = Vec::new();
    Reference
        .encode(
            &EncodeSet::new(&levels, alphabet),
            classes,
            &symbols,
            &mut coded,
        )
        .expect("it encodes");
    let set = DecodeSet::new(&levels, alphabet);
    let mut back = vec![0; BLOCK_LEN];
    bencher
        .counter(ItemsCount::new(BLOCK_LEN))
        .bench_local(|| engine.decode(&set, classes, black_box(&coded), &mut back));
}

/// A chunk of weights.
#[divan::bench(args = cases(&["BF16", "F16", "F32", "F64"]))]
fn chunk(bencher: Bencher<'_, '_>, case: &str) {
    let (name, dtype) = case.split_once(' ').expect("two words");
    let dtype: Dtype = dtype.parse().expect("a name of the list above");
    let raw = weights(dtype, 1024, TENSOR_CHUNK_LEN, 1);
    let mut frame = Vec::new();
    Encoder::new(Settings::default())
        .encode(&raw, &Hint::tensor(dtype, 1024), &mut frame)
        .expect("it encodes");
    let mut decoder = Decoder::with_engine(by_name(name).expect("a name of this machine"));
    let mut back = Vec::new();
    bencher
        .counter(BytesCount::new(raw.len()))
        .bench_local(|| decoder.decode(black_box(&frame), raw.len(), &mut back));
}
