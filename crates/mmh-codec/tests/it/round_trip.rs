//! Content comes back, damage does not pass for content, and frames do not depend on the past.

use mmh_codec::hostile::fuzz_frame;
use mmh_codec::samples::weights;
use mmh_codec::{Decoder, Encoder, FRAME_OVERHEAD_MAX, Hint, Level, Settings};
use mmh_core::Dtype;

use crate::encode;

/// Lengths around units, groups of 64, blocks of 256 Ki values, and chunks.
#[test]
fn every_type_comes_back_at_many_lengths() {
    for &dtype in Dtype::ALL {
        for len in [0, 1, 2, 15, 255, 4096, 33_333] {
            let raw = weights(dtype, 96, len, len as u64);
            let (method, frame) = encode(&raw, &Hint::tensor(dtype, 96));
            assert!(
                frame.len() <= len + FRAME_OVERHEAD_MAX,
                "{dtype} {len} {method}"
            );
        }
    }
    for (dtype, len) in [
        (Dtype::BF16, 1_600_001),
        (Dtype::Q4_K, 300_000),
        (Dtype::I8, 1 << 20),
    ] {
        encode(&weights(dtype, 512, len, 1), &Hint::tensor(dtype, 512));
    }
}

#[test]
fn a_chunk_may_begin_within_a_row() {
    let raw = weights(Dtype::BF16, 384, 1 << 18, 2);
    for first in [0, 1, 64, 383, 384, 1 << 40, u64::MAX - 256, u64::MAX] {
        for row_len in [0, 1, 3, 384, 1 << 20, u64::MAX] {
            let q4 = Some(Dtype::Q4_K);
            encode(
                &raw[..5000],
                &Hint {
                    dtype: q4,
                    row_len,
                    first,
                },
            );
            encode(
                &raw,
                &Hint {
                    dtype: Some(Dtype::BF16),
                    row_len,
                    first,
                },
            );
        }
    }
}

/// The patterns that floating point code gets wrong: NaN payloads, infinities, subnormals, -0.
#[test]
fn odd_floats_keep_their_bits() {
    let odd = [
        0,
        1,
        0x7f80_0000,
        0xff80_0000,
        0x7fc0_1234,
        0xff81_0001,
        0x8000_0000,
        0x007f_ffff,
    ];
    let raw: Vec<u8> = (0..20_000)
        .flat_map(|i| u32::to_le_bytes(odd[i * i % 8]))
        .collect();
    for dtype in [
        Dtype::F32,
        Dtype::BF16,
        Dtype::F16,
        Dtype::F64,
        Dtype::F8_E4M3,
    ] {
        encode(&raw, &Hint::tensor(dtype, 128));
    }
}

/// One encoder for many chunks writes what a fresh one would: nothing of the last chunk stays.
#[test]
fn frames_do_not_depend_on_what_came_before() {
    let mut used = Encoder::new(Settings::default());
    for &dtype in Dtype::ALL {
        let raw = weights(dtype, 128, 40_000, 9);
        let hint = Hint::tensor(dtype, 128);
        let (_, expected) = encode(&raw, &hint);
        let mut frame = vec![7; 10];
        used.encode(&raw, &hint, &mut frame).unwrap();
        assert!(frame == expected, "{dtype}");
    }
}

#[test]
fn every_level_reads_back() {
    let raw = weights(Dtype::F32, 256, 100_000, 4);
    for level in Level::ALL {
        for verify in [false, true] {
            for hint in [Hint::tensor(Dtype::F32, 256), Hint::bytes()] {
                let (mut frame, mut back) = (Vec::new(), vec![1]);
                Encoder::new(Settings { level, verify })
                    .encode(&raw, &hint, &mut frame)
                    .unwrap();
                Decoder::new().decode(&frame, raw.len(), &mut back).unwrap();
                assert!(back == raw, "{level}");
            }
        }
    }
}

fn small_frames() -> Vec<(Vec<u8>, Vec<u8>)> {
    let dtypes = [
        Dtype::BF16,
        Dtype::F32,
        Dtype::I8,
        Dtype::Q4_K,
        Dtype::I32,
        Dtype::F16,
    ];
    let mut frames: Vec<_> = dtypes
        .into_iter()
        .map(|dtype| {
            let raw = weights(dtype, 64, 2600, 8);
            let frame = encode(&raw, &Hint::tensor(dtype, 64)).1;
            (raw, frame)
        })
        .collect();
    for raw in [
        b"text text text text text text".to_vec(),
        vec![0; 900],
        vec![1, 2, 3],
    ] {
        let frame = encode(&raw, &Hint::bytes()).1;
        frames.push((raw, frame));
    }
    frames
}

#[test]
fn a_frame_cut_anywhere_is_an_error() {
    let mut decoder = Decoder::new();
    for (raw, frame) in small_frames() {
        for cut in 0..frame.len() {
            let mut out = vec![1];
            assert!(
                decoder.decode(&frame[..cut], raw.len(), &mut out).is_err(),
                "cut at {cut}"
            );
            assert!(out.is_empty());
        }
        let longer = [&frame[..], &[0]].concat();
        assert!(decoder.decode(&longer, raw.len(), &mut Vec::new()).is_err());
    }
}

/// A flipped bit may give other content, for a frame has no checksum of its own; it must not
/// panic, nor give more than the limit.
#[test]
fn a_flipped_bit_is_harmless() {
    for (_, frame) in small_frames() {
        for bit in 0..8 * frame.len() {
            let mut bad = frame.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fuzz_frame(&bad);
        }
    }
}
