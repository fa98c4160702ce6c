//! Deltas come back, are smaller where the base helps, and refuse what no encoder writes.

use mmh_core::Dtype;
use proptest::prelude::*;

use crate::samples::{Noise, weights};
use crate::{Base, Context, Decoder, Encoder, Error, Hint, Method, Settings, references};

const ID: [u8; 32] = [7; 32];

fn given(raw: &[u8]) -> Context<'_> {
    Context {
        base: Some(Base { id: ID, raw }),
    }
}

fn encode(raw: &[u8], base: &[u8], hint: &Hint) -> (Method, Vec<u8>) {
    let mut frame = Vec::new();
    let method = Encoder::new(Settings::default())
        .encode_with(raw, hint, &given(base), &mut frame)
        .unwrap();
    (method, frame)
}

fn decode(frame: &[u8], base: &[u8], limit: usize) -> crate::Result<Vec<u8>> {
    let mut out = Vec::new();
    Decoder::new().decode_with(frame, &given(base), limit, &mut out)?;
    Ok(out)
}

/// What training does: most numbers move a little, some rows not at all.
fn trained(base: &[u8], dtype: Dtype, row: usize, noise: &mut Noise) -> Vec<u8> {
    let mut new = base.to_vec();
    let len = dtype.block().1 as usize;
    for (i, row) in new.chunks_mut(row * len).enumerate() {
        if i % 3 == 0 {
            continue;
        }
        for number in row.chunks_exact_mut(len) {
            let step = u64::from(noise.below(8)) * u64::from(noise.below(8)) / 16;
            let mut bits = [0; 8];
            bits[..len].copy_from_slice(number);
            let bits = u64::from_le_bytes(bits);
            let bits = if noise.below(2) == 0 {
                bits.wrapping_add(step)
            } else {
                bits.wrapping_sub(step)
            };
            number.copy_from_slice(&bits.to_le_bytes()[..len]);
        }
    }
    new
}

#[test]
fn small_updates_take_a_fraction_of_the_numbers() {
    let noise = &mut Noise::new(1);
    for dtype in [Dtype::BF16, Dtype::F16, Dtype::F32] {
        for row in [64, 384, 5000] {
            let base = weights(dtype, row, 90_011, 5);
            let new = trained(&base, dtype, row, noise);
            let hint = Hint::tensor(dtype, row as u64);
            let (method, frame) = encode(&new, &base, &hint);
            assert_eq!(method, Method::Delta, "{dtype} {row}");
            assert!(
                frame.len() * 3 < new.len(),
                "{dtype} {row}: {}",
                frame.len()
            );
            assert_eq!(references(&frame).unwrap().base, Some(ID));
            assert_eq!(decode(&frame, &base, new.len()).unwrap(), new);
        }
    }
}

/// Unrelated siblings come out as they would alone.
#[test]
fn a_base_that_does_not_help_is_refused() {
    for dtype in [Dtype::BF16, Dtype::F16, Dtype::F32] {
        let (base, new) = (
            weights(dtype, 128, 50_000, 1),
            weights(dtype, 128, 50_000, 2),
        );
        let hint = Hint::tensor(dtype, 128);
        let (method, frame) = encode(&new, &base, &hint);
        let mut alone = Vec::new();
        Encoder::new(Settings::default())
            .encode(&new, &hint, &mut alone)
            .unwrap();
        assert_eq!((method, &frame), (Method::Float, &alone), "{dtype}");
        let shorter = &base[..base.len() - 2];
        assert_eq!(encode(&new, shorter, &hint).1, alone, "another length");
    }
}

/// Rows without gradient are multiplied by 1 - rate * decay at each step, and cost nothing.
#[test]
fn decayed_rows_are_grown_again() {
    let base = weights(Dtype::F32, 256, 100_000, 9);
    let mut new = base.clone();
    for (i, number) in new.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let mut value = f32::from_le_bytes(*number);
        for _ in 0..20 {
            value *= 1.0 - 2e-7;
        }
        let bits = value.to_bits();
        let bits = if i / 256 % 5 == 0 {
            bits.wrapping_add(97)
        } else {
            bits
        };
        *number = bits.to_le_bytes();
    }
    let (method, frame) = encode(&new, &base, &Hint::tensor(Dtype::F32, 256));
    assert_eq!(method, Method::Delta);
    assert!(frame.len() * 10 < new.len(), "{}", frame.len());
    assert_eq!(decode(&frame, &base, new.len()).unwrap(), new);
}

#[test]
fn equal_content_is_next_to_nothing() {
    let base = weights(Dtype::BF16, 128, 100_000, 3);
    let (method, frame) = encode(&base, &base, &Hint::tensor(Dtype::BF16, 128));
    assert_eq!(method, Method::Delta);
    assert!(frame.len() < 200, "{}", frame.len());
    assert_eq!(decode(&frame, &base, base.len()).unwrap(), base);
}

#[test]
fn a_frame_says_which_base_it_needs() {
    let base = weights(Dtype::BF16, 128, 20_000, 3);
    let new = trained(&base, Dtype::BF16, 128, &mut Noise::new(2));
    let (_, frame) = encode(&new, &base, &Hint::tensor(Dtype::BF16, 128));
    let missing = Error::MissingReference {
        what: "base",
        id: ID,
    };
    let decoder = &mut Decoder::new();
    let mut out = vec![1];
    assert_eq!(
        decoder.decode(&frame, new.len(), &mut out),
        Err(missing.clone())
    );
    assert!(out.is_empty());
    let other = Context {
        base: Some(Base {
            id: [8; 32],
            raw: &base,
        }),
    };
    assert_eq!(
        decoder.decode_with(&frame, &other, new.len(), &mut out),
        Err(missing)
    );
    // Another content under the right name is found by the checks.
    let changed = trained(&base, Dtype::BF16, 128, &mut Noise::new(77));
    assert!(decode(&frame, &changed, new.len()).is_err());
    assert!(decode(&frame, &base[2..], new.len()).is_err());
}

#[test]
fn every_cut_and_flipped_bit_is_an_error() {
    for dtype in [Dtype::BF16, Dtype::F32] {
        let base = weights(dtype, 64, 700, 3);
        let new = trained(&base, dtype, 64, &mut Noise::new(2));
        let (method, frame) = encode(&new, &base, &Hint::tensor(dtype, 64));
        assert_eq!(method, Method::Delta);
        for cut in 0..frame.len() {
            assert!(decode(&frame[..cut], &base, new.len()).is_err(), "{cut}");
        }
        assert!(decode(&[&frame[..], &[0]].concat(), &base, new.len()).is_err());
        let mut frame = frame;
        for bit in 0..8 * frame.len() {
            frame[bit / 8] ^= 1 << (bit % 8);
            let decoded = decode(&frame, &base, new.len());
            assert!(decoded.is_err() || decoded == Ok(new.clone()), "{bit}");
            frame[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

proptest! {
    /// Any numbers, NaN and infinities among them, given any others.
    #[test]
    fn any_content_comes_back(
        pairs in proptest::collection::vec((any::<u32>(), any::<u32>(), 0u8..4), 0..3000),
        which in 0usize..3,
        row in prop_oneof![Just(0u64), 1u64..200],
        first in 0u64..200,
    ) {
        let dtype = [Dtype::BF16, Dtype::F16, Dtype::F32][which];
        let base: Vec<u8> = pairs.iter().flat_map(|&(old, ..)| old.to_le_bytes()).collect();
        let new = pairs.iter().flat_map(|&(old, other, how)| match how {
            0 => other.to_le_bytes(),
            1 => old.wrapping_add(other % 16).to_le_bytes(),
            _ => old.to_le_bytes(),
        });
        let new: Vec<u8> = new.collect();
        let hint = Hint { first, ..Hint::tensor(dtype, row) };
        let (_, frame) = encode(&new, &base, &hint);
        prop_assert_eq!(decode(&frame, &base, new.len()).unwrap(), new);
    }

    /// Bodies of noise.
    #[test]
    fn noise_is_an_error_or_some_content(body in proptest::collection::vec(any::<u8>(), 0..300), n in 0u8..200) {
        let base = vec![0x3f; usize::from(n)];
        for layout in 0..3 {
            let mut frame = vec![1, 5 | 0x40, n & 0x7f];
            frame.extend_from_slice(&ID);
            frame.extend_from_slice(&[0; 4][..if n & 0x7f > 0 { 4 } else { 0 }]);
            frame.push(layout);
            frame.extend_from_slice(&body);
            let decoded = decode(&frame, &base[..usize::from(n & 0x7f)], 200);
            prop_assert!(decoded.is_err() || decoded.is_ok_and(|raw| raw.len() == usize::from(n & 0x7f)));
        }
    }
}
