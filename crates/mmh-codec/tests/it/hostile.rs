//! Frames that nobody wrote: cut, flipped, spliced from two, and made of codes and small numbers.
//! All engines answer alike, with content or with an error that blames the frame.

use std::path::Path;

use mmh_codec::hostile::{FUZZ_RAW_LEN_MAX, base_content, fuzz_frame, fuzz_round_trip};
use mmh_codec::samples::{Noise, convolution, moved, quantised, weights};
use mmh_codec::{Base, Context, Encoder, Hint, Level, Method, Settings, frame_info};
use mmh_core::Dtype;
use proptest::prelude::*;

const FLOATS: [Dtype; 3] = [Dtype::BF16, Dtype::F16, Dtype::F32];

fn golden() -> Vec<Vec<u8>> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/v1/codec");
    let entries = std::fs::read_dir(place).expect("golden frames are in the repository");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("a folder can be listed").path())
        .collect();
    paths.sort();
    let frames = paths
        .iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "frame"))
        .map(|path| std::fs::read(path).expect("a frame can be read"));
    frames
        .filter(|frame| frame_info(frame).expect("it is whole").raw_len <= FUZZ_RAW_LEN_MAX)
        .collect()
}

fn frame_of(raw: &[u8], hint: &Hint, level: Level, base: Option<&[u8]>) -> Vec<u8> {
    let settings = Settings {
        level,
        verify: true,
    };
    let context = Context {
        base: base.map(|raw| Base { id: [3; 32], raw }),
    };
    let mut frame = Vec::new();
    Encoder::new(settings)
        .encode_with(raw, hint, &context, &mut frame)
        .expect("any content can be encoded");
    frame
}

/// A small frame of each method that has planes, by each of the ways in which floats are coded.
fn small_frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for dtype in FLOATS {
        let len = dtype.block().1 as usize;
        let hint = Hint::tensor(dtype, 64);
        let raw = weights(dtype, 64, 640 * len, 9);
        frames.push(frame_of(&raw, &hint, Level::Default, None));
        frames.push(frame_of(&raw, &hint, Level::Archive, None));
        let kernels = convolution(dtype, [3, 3, 1], 32, 2880, 9);
        let rows = Hint::tensor(dtype, 288);
        frames.push(frame_of(&kernels, &rows, Level::Default, None));
        let base = &base_content()[..640 * len];
        let next = moved(base, dtype, 6, 9);
        frames.push(frame_of(&next, &hint, Level::Default, Some(base)));
    }
    for dtype in [Dtype::Q4_0, Dtype::Q4_K, Dtype::Q6_K, Dtype::IQ4_XS] {
        let raw = quantised(dtype, 40, 9);
        frames.push(frame_of(
            &raw,
            &Hint::tensor(dtype, 0),
            Level::Default,
            None,
        ));
    }
    for dtype in [Dtype::I16, Dtype::I32, Dtype::F8_E4M3, Dtype::U4] {
        let raw = weights(dtype, 96, 12_005, 9);
        frames.push(frame_of(
            &raw,
            &Hint::tensor(dtype, 64),
            Level::Default,
            None,
        ));
    }
    frames
}

/// What the other tests start from has every method with planes.
#[test]
fn small_frames_have_every_method_that_can_be_damaged_inside() {
    let frames = small_frames();
    for method in [
        Method::Float,
        Method::Integer,
        Method::Block,
        Method::Delta,
        Method::Mixed,
    ] {
        let found = frames
            .iter()
            .any(|frame| frame_info(frame).unwrap().method == method);
        assert!(found, "{method}");
    }
    frames.iter().for_each(|frame| fuzz_frame(frame));
}

#[test]
fn golden_frames_cut_anywhere_are_harmless() {
    for frame in golden() {
        let len = frame.len();
        let ends = (0..len.min(64)).chain((64..len).step_by(len / 15 + 1));
        ends.for_each(|end| fuzz_frame(&frame[..end]));
        fuzz_frame(&[&frame[..], &[0]].concat());
    }
}

#[test]
fn golden_frames_with_flipped_bits_are_harmless() {
    let noise = &mut Noise::new(12);
    for frame in golden() {
        for _ in 0..15 {
            let mut bad = frame.clone();
            let near = bad.len().min(1 << (3 + noise.below(10)));
            for _ in 0..=noise.below(3) {
                let at = usize::try_from(noise.bits() >> 33).unwrap() % near;
                bad[at] ^= 1 << noise.below(8);
            }
            fuzz_frame(&bad);
        }
    }
}

/// The head of one frame before the rest of another: lengths and tables that belong elsewhere.
#[test]
fn spliced_frames_are_harmless() {
    let frames = small_frames();
    let noise = &mut Noise::new(13);
    for first in &frames {
        for second in &frames {
            for _ in 0..3 {
                let place = |noise: &mut Noise, frame: &[u8]| {
                    usize::try_from(noise.bits() >> 33).unwrap() % frame.len().min(300)
                };
                let (end, start) = (place(noise, first), place(noise, second));
                fuzz_frame(&[&first[..end], &second[start..]].concat());
            }
        }
    }
}

/// Content of each type that is all the same, all zeros or ones, or has one odd value.
#[test]
fn flat_content_of_every_type_is_never_damaged() {
    for (kind, _) in (0u8..).zip(Dtype::ALL) {
        for value in [0, 0x3f, 0x80, 0xff] {
            for how in [0, 4, 6, 20] {
                let mut content = vec![value; 1200];
                let head = [kind, 64, 0, how];
                fuzz_round_trip(&[&head[..], &content].concat());
                content[700] ^= 0x41;
                fuzz_round_trip(&[&head[..], &content[..1199]].concat());
            }
        }
    }
}

/// A byte that is a code, a width or a small length more often than noise is.
fn small_number() -> impl Strategy<Value = u8> {
    prop_oneof![0u8..10, 0u8..10, 0u8..34, Just(64u8), any::<u8>()]
}

proptest! {
    /// Bodies behind a right header: the layouts of the method, then coders with small contents.
    #[test]
    fn bodies_of_small_numbers_are_harmless(
        (method, layout) in prop_oneof![
            (Just(2u8), 0u8..8), (Just(3u8), 16u8..23), (Just(4u8), 64u8..104), (Just(6u8), 0u8..4),
        ],
        raw_len in 0u8..128,
        body in prop::collection::vec(small_number(), 0..120),
    ) {
        let checks = &[0; 4][..4 * usize::from(raw_len > 0)];
        let head = [1, method, raw_len];
        fuzz_frame(&[&head[..], checks, &[layout], &body].concat());
    }

    /// The same for differences from a base.
    #[test]
    fn deltas_of_small_numbers_are_harmless(
        layout in 0u8..4, raw_len in 0u8..128,
        body in prop::collection::vec(small_number(), 0..120),
    ) {
        let checks = &[0; 4][..4 * usize::from(raw_len > 0)];
        let head = [1, 5 | 1 << 6, raw_len];
        fuzz_frame(&[&head[..], &[3; 32], checks, &[layout], &body].concat());
    }

    /// Records within right frames, changed where their codes and lengths are.
    #[test]
    fn changed_records_are_harmless(
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), small_number()), 1..5),
    ) {
        thread_local!(static FRAMES: Vec<Vec<u8>> = small_frames());
        let mut frame = FRAMES.with(|frames| frames[which.index(frames.len())].clone());
        for (at, value) in damage {
            let at = at.index(frame.len().min(250));
            frame[at] = value;
        }
        fuzz_frame(&frame);
    }
}
