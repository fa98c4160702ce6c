//! What quantisers keep whatever the input: equal bytes from every engine, errors within bounds.

mod decode;
mod laws;
mod plain;

use proptest::prelude::*;

use super::*;
use crate::samples::{importance, numbers};

fn quantise(quantiser: &Quantiser, x: &[f32], weights: Option<&[f32]>) -> Result<Vec<u8>> {
    let mut out = vec![0xaa; x.len() / quantiser.row_len() * quantiser.row_bytes()];
    quantiser.rows(x, weights, &mut out)?;
    Ok(out)
}

/// Rows of lengths that are no whole vectors, with and without weights, every contraction.
#[test]
fn engines_agree() {
    for to in Quantiser::TYPES {
        let block = to.block().0 as usize;
        for (seed, blocks) in [1, 3, 8, 9, 16].into_iter().enumerate() {
            let row = blocks * block;
            let x = numbers(row * 4, seed as u64);
            let weights = importance(row, 99);
            for contraction in Contraction::ALL {
                for weights in [None, Some(weights.as_slice())] {
                    let quantiser = Quantiser::new(to, row, contraction).unwrap();
                    let run =
                        |engine| quantise(&quantiser.with_engine(engine), &x, weights).unwrap();
                    let [one, more] = Engine::ALL.map(run);
                    assert_eq!(one, more, "{to} {contraction} {blocks}");
                }
            }
        }
    }
}

/// Rows depend on nothing beside them: any split gives the same bytes, so threads do.
#[test]
fn rows_are_independent() {
    for to in Quantiser::TYPES {
        let row = 2 * to.block().0 as usize;
        let quantiser = Quantiser::new(to, row, Contraction::On).unwrap();
        let x = numbers(row * 9, 3);
        let weights = importance(row, 5);
        let whole = quantise(&quantiser, &x, Some(&weights)).unwrap();
        for threads in [1, 2, 7] {
            let mut out = vec![0; whole.len()];
            let rows = 9usize.div_ceil(threads);
            std::thread::scope(|scope| {
                let inputs = x.chunks(rows * row);
                for (x, out) in inputs.zip(out.chunks_mut(rows * quantiser.row_bytes())) {
                    let weights = &weights;
                    scope.spawn(move || quantiser.rows(x, Some(weights), out).unwrap());
                }
            });
            assert_eq!(out, whole, "{to} with {threads} threads");
        }
    }
}

/// What codes and scales mean, by the layouts of blocks: no number is further away than a step.
#[test]
fn q8_0_and_q4_0_are_near_what_they_were_made_of() {
    let x = numbers(32 * 200, 11);
    for (to, levels) in [(Dtype::Q8_0, 127.0), (Dtype::Q4_0, 8.0)] {
        let quantiser = Quantiser::new(to, 32, Contraction::Off).unwrap();
        let out = quantise(&quantiser, &x, None).unwrap();
        for (x, block) in x.chunks(32).zip(out.chunks(quantiser.row_bytes())) {
            let scale = rounded_half(block);
            let largest = x.iter().fold(0f32, |max, x| max.max(x.abs()));
            for (i, &x) in x.iter().enumerate() {
                let code = if to == Dtype::Q8_0 {
                    f32::from(block[2 + i].cast_signed())
                } else {
                    f32::from(block[2 + i % 16] >> (i / 16 * 4) & 15) - 8.0
                };
                let bound = largest / levels * 1.01 + levels * f32::powi(2.0, -24);
                assert!(
                    (code * scale - x).abs() <= bound,
                    "{to}: {x} as {code} times {scale}"
                );
            }
        }
    }
}

#[test]
fn zeros_have_the_bytes_of_llama_cpp() {
    let zeros = [0.0; 256];
    let at = |to, len: usize| {
        let quantiser = Quantiser::new(to, len, Contraction::Off).unwrap();
        quantise(&quantiser, &zeros[..len], None).unwrap()
    };
    // The scale of a block of zeros is -0, for it is divided by -8.
    let mut q4_0 = vec![0x88; 18];
    (q4_0[0], q4_0[1]) = (0, 0x80);
    assert_eq!(at(Dtype::Q4_0, 32), q4_0);
    assert_eq!(at(Dtype::Q8_0, 32), [0; 34]);
    assert_eq!(at(Dtype::Q4_K, 256), [0; 144]);
    assert_eq!(at(Dtype::Q6_K, 256), [0; 210]);
    assert_eq!(at(Dtype::TQ2_0, 256)[..64], [0b0101_0101; 64]);
}

#[test]
fn what_has_no_defined_result_is_refused() {
    for to in Quantiser::TYPES {
        let row = to.block().0 as usize;
        let quantiser = Quantiser::new(to, row, Contraction::Off).unwrap();
        let good = vec![0.5; row];
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = good.clone();
            x[row - 1] = bad;
            let error = quantise(&quantiser, &x, None).unwrap_err();
            assert!(matches!(error, Error::NotFinite { what: "number" }), "{to}");
            let error = quantise(&quantiser, &good, Some(&x)).unwrap_err();
            assert!(matches!(error, Error::NotFinite { what: "number" }), "{to}");
        }
        let mut far = good.clone();
        (far[0], far[1]) = (1e9, -1e9);
        let result = quantise(&quantiser, &far, None);
        assert!(
            matches!(result, Err(Error::NotFinite { what: "scale" })),
            "{to}: {result:?}"
        );
    }
}

#[test]
fn lengths_are_compared() {
    assert!(Quantiser::new(Dtype::F32, 32, Contraction::Off).is_err());
    assert!(Quantiser::new(Dtype::IQ2_XS, 256, Contraction::Off).is_err());
    for row in [0, 31, 33, ROW_LEN_MAX + 32, usize::MAX] {
        assert!(
            Quantiser::new(Dtype::Q4_0, row, Contraction::Off).is_err(),
            "{row}"
        );
    }
    let quantiser = Quantiser::new(Dtype::Q4_0, 64, Contraction::Off).unwrap();
    assert_eq!((quantiser.row_len(), quantiser.row_bytes()), (64, 36));
    assert!(quantiser.rows(&[0.0; 65], None, &mut [0; 36]).is_err());
    assert!(quantiser.rows(&[0.0; 64], None, &mut [0; 35]).is_err());
    assert!(
        quantiser
            .rows(&[0.0; 64], Some(&[0.0; 32]), &mut [0; 36])
            .is_err()
    );
    quantiser.rows(&[], None, &mut []).unwrap();
}

#[test]
fn rounding_away_from_zero_is_that_of_the_standard_library() {
    for step in -4000..=4000i16 {
        let x = f32::from(step) / 8.0;
        assert_eq!(round_away(x), x.round(), "{x}");
        let below = f32::from_bits(x.to_bits().wrapping_sub(1));
        if below.is_finite() {
            assert_eq!(round_away(below), below.round(), "{below}");
        }
    }
    assert_eq!(round_away(f32::INFINITY), f32::INFINITY);
    assert_eq!(
        [low_byte(f32::INFINITY), low_byte(f32::NAN), low_byte(-1e30)],
        [0; 3]
    );
    assert_eq!([low_byte(300.7), low_byte(-1.9)], [44, -1]);
}

proptest! {
    /// Any bits of finite numbers: engines agree, or both refuse.
    #[test]
    fn engines_agree_on_any_numbers(
        bits in prop::collection::vec(any::<u32>(), 256),
        mask in prop::sample::select(vec![u32::MAX, 0x8fff_ffff, 0xbfff_ffff, 0xbf00_ffff]),
        which in 0..Quantiser::TYPES.len(),
        contraction in 0..2usize,
        weighted: bool,
    ) {
        let x: Vec<f32> = bits.iter().map(|bits| f32::from_bits(bits & mask)).collect();
        let weights = importance(256, u64::from(bits[0]));
        let weights = weighted.then_some(weights.as_slice());
        let to = Quantiser::TYPES[which];
        let quantiser = Quantiser::new(to, 256, Contraction::ALL[contraction]).unwrap();
        let run = |engine| quantise(&quantiser.with_engine(engine), &x, weights).ok();
        let [one, more] = Engine::ALL.map(run);
        prop_assert_eq!(one, more, "{}", to);
    }
}
