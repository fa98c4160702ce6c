//! Encoding and decoding of 1 MiB chunks, and the entropy coder alone.
//!
//! `cargo bench -p mmh-codec`

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use mmh_codec::entropy::{
    Alphabet, Classes, DecodeSet, EncodeSet, Engine as _, LANES, Levels, Reference,
};
use mmh_codec::samples::{Noise, weights};
use mmh_codec::{Decoder, Encoder, Hint, Level, Settings};
use mmh_core::Dtype;
use mmh_core::limits::TENSOR_CHUNK_LEN;

const DTYPES: [&str; 6] = ["BF16", "F16", "F32", "I8", "Q4_K", "Q8_0"];

fn main() {
    divan::main();
}

fn sample(dtype: &str) -> (Vec<u8>, Hint) {
    let dtype: Dtype = dtype.parse().expect("a name of the list above");
    (
        weights(dtype, 1024, TENSOR_CHUNK_LEN, 1),
        Hint::tensor(dtype, 1024),
    )
}

#[divan::bench(args = DTYPES)]
fn encode(bencher: Bencher<'_, '_>, dtype: &str) {
    let (raw, hint) = sample(dtype);
    let mut encoder = Encoder::new(Settings::default());
    let mut frame = Vec::new();
    bencher
        .counter(BytesCount::new(raw.len()))
        .bench_local(|| encoder.encode(black_box(&raw), &hint, &mut frame));
}

#[divan::bench(args = DTYPES)]
fn encode_fast_unverified(bencher: Bencher<'_, '_>, dtype: &str) {
    let (raw, hint) = sample(dtype);
    let mut encoder = Encoder::new(Settings {
        level: Level::Fast,
        verify: false,
    });
    let mut frame = Vec::new();
    bencher
        .counter(BytesCount::new(raw.len()))
        .bench_local(|| encoder.encode(black_box(&raw), &hint, &mut frame));
}

#[divan::bench(args = DTYPES)]
fn decode(bencher: Bencher<'_, '_>, dtype: &str) {
    let (raw, hint) = sample(dtype);
    let mut frame = Vec::new();
    Encoder::new(Settings::default())
        .encode(&raw, &hint, &mut frame)
        .expect("it encodes");
    let mut decoder = Decoder::new();
    let mut back = Vec::new();
    bencher
        .counter(BytesCount::new(raw.len()))
        .bench_local(|| decoder.decode(black_box(&frame), raw.len(), &mut back));
}

/// One block of 128 Ki symbols of 24 kinds; the counter counts symbols.
#[divan::bench(args = ["encode", "decode"])]
fn reference_engine(bencher: Bencher<'_, '_>, direction: &str) {
    let mut noise = Noise::new(1);
    let symbols: Vec<u8> = (0..128 << 10)
        .map(|_| noise.below(24).min(noise.below(24)))
        .collect();
    let mut counts = [0; 32];
    symbols
        .iter()
        .for_each(|&symbol| counts[usize::from(symbol)] += 1);
    let levels = [Levels::from_counts(&counts)];
    let groups = vec![0; symbols.len() / LANES];
    let classes = Classes::Groups(&groups);
    let set = EncodeSet::new(&levels, Alphabet::ThirtyTwo);
    let mut block = Vec::new();
    Reference
        .encode(&set, classes, &symbols, &mut block)
        .expect("it encodes");
    let bencher = bencher.counter(BytesCount::new(symbols.len()));
    if direction == "encode" {
        bencher.bench_local(|| {
            block.clear();
            Reference.encode(&set, classes, black_box(&symbols), &mut block)
        });
    } else {
        let set = DecodeSet::new(&levels, Alphabet::ThirtyTwo);
        let mut back = vec![0; symbols.len()];
        bencher.bench_local(|| Reference.decode(&set, classes, black_box(&block), &mut back));
    }
}
