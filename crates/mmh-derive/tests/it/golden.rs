//! Quantised samples, made once by llama.cpp's own code, and read for ever.
//!
//! `quantised-off.bin` was made by `libggml-base.so` of the npm package `@node-llama-cpp/linux-x64`
//! 3.22.1, `quantised-on.bin` by `ggml-quants.c` compiled by Clang with `-ffp-contract=on -mfma`;
//! docs/testing.md says how to make them again.

use mmh_core::Dtype;
use mmh_derive::gguf::{Contraction, Engine, Quantiser};
use mmh_derive::samples::{importance, numbers};

/// Numbers in a row, and the seed; there are two rows.
const SET: (usize, u64) = (512, 3);

fn golden(contraction: Contraction) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata");
    let path = format!("{folder}/quantised-{contraction}.bin");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Each type, plain and weighted: where it lies in the file, and what it should be.
fn sections(golden: &[u8]) -> Vec<(Dtype, bool, &[u8])> {
    let mut rest = golden;
    let mut sections = Vec::new();
    for to in Quantiser::TYPES {
        let quantiser = Quantiser::new(to, SET.0, Contraction::Off).unwrap();
        for weighted in [false, true] {
            let (one, after) = rest.split_at(2 * quantiser.row_bytes());
            sections.push((to, weighted, one));
            rest = after;
        }
    }
    assert!(rest.is_empty());
    sections
}

#[test]
fn bytes_are_those_of_llama_cpp() {
    let (row, seed) = SET;
    let x = numbers(row * 2, seed);
    let weights = importance(row, seed);
    for contraction in Contraction::ALL {
        let golden = golden(contraction);
        for (to, weighted, wanted) in sections(&golden) {
            for engine in Engine::ALL {
                let quantiser = Quantiser::new(to, row, contraction).unwrap();
                let quantiser = quantiser.with_engine(engine);
                let mut out = vec![0; wanted.len()];
                let weights = weighted.then_some(weights.as_slice());
                quantiser.rows(&x, weights, &mut out).unwrap();
                assert_eq!(
                    out, wanted,
                    "{to} {contraction} {engine:?} weighted {weighted}"
                );
            }
        }
    }
}

/// The files differ where types have products to fuse, so that each proves its own variant.
#[test]
fn the_two_variants_are_not_the_same() {
    let [off, on] = Contraction::ALL.map(golden);
    let pairs = sections(&off)
        .into_iter()
        .zip(sections(&on))
        .collect::<Vec<_>>();
    let differ = pairs.iter().filter(|(a, b)| a.2 != b.2).count();
    assert!(differ >= 2, "{differ} sections differ");
}
