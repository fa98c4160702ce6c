//! The choice among coders: where one gives way to another, and that it is never a bad one.

use super::*;
use crate::input::{Input, varint_len};
use crate::plane::testing::{plane_decoder, shape, with_encoder};
use crate::samples::Noise;
use crate::zstd::Packer;

/// The coder and the record's content, after reading it back.
fn choose(values: &[u16], shape: Shape) -> (Coder, Vec<u8>) {
    let mut out = Vec::new();
    let coder = with_encoder(|encoder| encoder.choose(values, shape, &mut out)).unwrap();
    let mut record = Vec::new();
    put_record(coder, &out, &mut record);
    let mut back = vec![0xffff; values.len()];
    plane_decoder(|d| d.read(&mut Input::new(&record), shape.width, &mut back)).unwrap();
    assert!(back == values, "{coder:?} of {shape:?}");
    (coder, out)
}

/// Values below `n`, the lower the likelier.
fn skewed(len: usize, n: usize) -> Vec<u16> {
    let noise = &mut Noise::new(31);
    let mut draw = || (0..4).map(|_| noise.bits() % n as u64).min().unwrap_or(0);
    (0..len).map(|_| u16::try_from(draw()).unwrap()).collect()
}

/// Whatever the choice, packing with its five bytes of head would not have been shorter.
#[test]
fn no_choice_is_longer_than_packing() {
    for width in 1..=16 {
        for len in [1, 2, 63, 64, 65, 700, SHORT, SHORT + 1, 9000] {
            let noise = &mut Noise::new(u64::from(width));
            let even: Vec<u16> = (0..len)
                .map(|_| u16::try_from(noise.bits() >> (64 - width)).unwrap())
                .collect();
            for values in [even, skewed(len, 1 << width)] {
                for sequential in [false, true] {
                    let shape = Shape {
                        sequential,
                        ..shape(width, 0)
                    };
                    let (coder, content) = choose(&values, shape);
                    let packed = Packing::of(&values, shape.rows).len;
                    // An estimate decided, and it may be off by a little.
                    assert!(
                        content.len() <= packed + packed / 100 + 8,
                        "{coder:?} {width} {len}"
                    );
                }
            }
        }
    }
}

/// The estimate counts the head and the length that the record will state before it.
#[test]
fn the_length_of_packing_is_known_beforehand() {
    for values in [
        skewed(5000, 900),
        (0..5000).collect(),
        vec![0, 1],
        vec![0x8000; 700],
    ] {
        let packing = Packing::of(&values, shape(16, 0).rows);
        let mut out = Vec::new();
        packing.put(&values, &mut Packer::new(3), &mut out).unwrap();
        assert_eq!(packing.len, out.len() + varint_len(out.len() - 5));
    }
}

/// 32 values have a symbol each; of 33 the rarest is an exception while it is rare, and when
/// it is not, two symbols are cheaper.
#[test]
fn exceptions_are_for_few_values_only() {
    let mut values: Vec<u16> = skewed(20_000, 32);
    assert_eq!(choose(&values, shape(8, 0)).0, Coder::Ranked);
    values
        .iter_mut()
        .step_by(100)
        .for_each(|value| *value = 200);
    assert_eq!(choose(&values, shape(8, 0)).0, Coder::Ranked);
    for (i, value) in values.iter_mut().step_by(20).enumerate() {
        *value = 100 + u16::try_from(i % 100).unwrap();
    }
    assert_eq!(choose(&values, shape(8, 0)).0, Coder::Split);
    // Wider than two symbols: there is nothing but exceptions.
    let wide = values.iter().map(|value| value * 8).collect::<Vec<_>>();
    assert_eq!(choose(&wide, shape(11, 0)).0, Coder::Ranked);
}

/// Weights do not repeat, and trying costs time: only planes of ids and masks are tried with
/// zstd at any length.
#[test]
fn zstd_is_tried_for_short_and_for_sequential_planes() {
    let period = |n: usize| -> Vec<u16> {
        let cycle = skewed(512, 256);
        cycle.into_iter().cycle().take(n).collect()
    };
    let sequential = Shape {
        sequential: true,
        ..shape(8, 0)
    };
    assert_eq!(choose(&period(SHORT), shape(8, 0)).0, Coder::Zstd);
    assert_ne!(choose(&period(SHORT + 1), shape(8, 0)).0, Coder::Zstd);
    assert_eq!(choose(&period(SHORT + 1), sequential).0, Coder::Zstd);
    assert_eq!(choose(&period(40_000), sequential).0, Coder::Zstd);
}

/// One value that differs, wherever it stands, is not lost to the coder of constants.
#[test]
fn one_odd_value_is_no_constant() {
    for at in [0, 1, 63, 64, 999] {
        let mut values = vec![6; 1000];
        values[at] = 7;
        assert_ne!(choose(&values, shape(3, 0)).0, Coder::Constant, "{at}");
    }
    assert_eq!(
        choose(&[6; 1000], shape(3, 0)),
        (Coder::Constant, vec![6, 0])
    );
}

/// Rows of two scales are told apart by classes where rows are known.
#[test]
fn known_rows_make_planes_shorter() {
    let noise = &mut Noise::new(8);
    let row = |i: u16| if i.is_multiple_of(2) { 100 } else { 300 };
    let values: Vec<u16> = (0..200)
        .flat_map(|i| (0..64).map(move |_| row(i)))
        .map(|base| base + u16::from(noise.below(8)))
        .collect();
    let (_, known) = choose(&values, shape(9, 64));
    let (_, unknown) = choose(&values, shape(9, 0));
    assert!(
        known.len() + 1000 < unknown.len(),
        "{} {}",
        known.len(),
        unknown.len()
    );
}
