//! The crate against the model, a second decoder: they agree on what is content and what is not.

use std::collections::HashMap;
use std::path::Path;

use mmh_codec::samples::{Noise, convolution, quantised, weights};
use mmh_codec::{Decoder, Encoder, Hint, Level, Method, Settings, frame_info, references};
use mmh_core::{Digest, Dtype};
use proptest::prelude::*;

use crate::model;

const LIMIT: usize = 1 << 16;

/// What the crate says of `frame`, and that the model says the same.
fn agree(frame: &[u8], what: &dyn std::fmt::Debug) -> Option<Vec<u8>> {
    agree_within(LIMIT, frame, what)
}

/// The same of a frame that may state so many bytes.
fn agree_within(limit: usize, frame: &[u8], what: &dyn std::fmt::Debug) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let result = Decoder::new().decode(frame, limit, &mut out);
    let ours = result.clone().ok().map(|()| out);
    let theirs = model::decode(frame, limit);
    assert!(
        ours == theirs,
        "{what:?}: the crate says {result:?}, the model {}: {frame:02x?}",
        if theirs.is_some() { "content" } else { "error" },
    );
    ours
}

fn frame_of(raw: &[u8], hint: &Hint, level: Level) -> Vec<u8> {
    let settings = Settings {
        level,
        verify: true,
    };
    let mut frame = Vec::new();
    Encoder::new(settings)
        .encode(raw, hint, &mut frame)
        .expect("the content can be coded");
    frame
}

/// What stands in the repository as the format is what FORMAT.md says.
#[test]
fn golden_frames_are_as_the_specification_says() {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/v1/codec");
    let manifest = std::fs::read_to_string(place.join("MANIFEST")).unwrap();
    let mut contents = HashMap::new();
    for line in manifest.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let frame = std::fs::read(place.join(format!("{}.frame", fields[0]))).unwrap();
        let id = references(&frame).unwrap().base.unwrap_or_default();
        let base = contents.get(&id).map(|raw: &Vec<u8>| (&id, &raw[..]));
        let raw = model::decode_given(&frame, base, usize::MAX);
        let raw = raw.unwrap_or_else(|| panic!("{line}"));
        assert_eq!(Digest::of(&raw).to_string(), fields[3], "{line}");
        contents.insert(*Digest::of(&raw).as_bytes(), raw);
    }
}

/// Every element type at every level, begun within a row and with a tail, and with noise in all
/// bits, so that a misplaced bit cannot hide behind a zero.
#[test]
fn every_type_and_level_is_written_as_the_specification_says() {
    for (i, &dtype) in (0u64..).zip(Dtype::ALL) {
        for level in Level::ALL {
            let hint = Hint {
                first: 64,
                ..Hint::tensor(dtype, 128)
            };
            let raw = weights(dtype, 128, 9000 + 7, i);
            assert!(
                agree(&frame_of(&raw, &hint, level), &dtype) == Some(raw),
                "{dtype}"
            );
        }
        let noise = &mut Noise::new(i);
        // Every other byte is noise with a bias: too regular to store, too rich to be constant.
        let raw: Vec<u8> = (0..6000)
            .map(|_| noise.below(256) & noise.below(256))
            .collect();
        let frame = frame_of(&raw, &Hint::tensor(dtype, 0), Level::Fast);
        assert!(agree(&frame, &dtype) == Some(raw), "{dtype}");
    }
}

/// More than one coded block, rows with classes of their own, and a last group that is not whole.
#[test]
fn several_blocks_are_written_as_the_specification_says() {
    for (dtype, n) in [
        (Dtype::BF16, 2 * 300_037),
        (Dtype::I8, 200_001),
        (Dtype::Q4_0, 160_000),
    ] {
        let raw = weights(dtype, 640, n, 11);
        let frame = frame_of(&raw, &Hint::tensor(dtype, 640), Level::Default);
        assert!(model::decode(&frame, usize::MAX) == Some(raw), "{dtype}");
    }
}

/// Where one reader sees damage, the other must, or a store that one of them checked would fail
/// with the other.
#[test]
fn readers_agree_on_every_flipped_bit_of_the_first_bytes() {
    for dtype in [
        Dtype::BF16,
        Dtype::F32,
        Dtype::U16,
        Dtype::I8,
        Dtype::Q4_K,
        Dtype::F4,
    ] {
        let raw = weights(dtype, 64, 1700, 3);
        let frame = frame_of(&raw, &Hint::tensor(dtype, 64), Level::Default);
        for bit in 0..8 * frame.len().min(180) {
            let mut bad = frame.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            agree(&bad, &(dtype, bit));
        }
    }
}

/// Two rows of a convolution with dead channels, so that each step of the model is taken.
/// A frame of `n` numbers of one spread, which are coded in bins, and its content.
fn in_bins(n: usize) -> (Vec<u8>, Vec<u8>) {
    let raw = weights(Dtype::F32, usize::MAX, 4 * n, 11);
    let frame = frame_of(&raw, &Hint::tensor(Dtype::F32, 640), Level::Default);
    let info = frame_info(&frame).expect("the frame is whole");
    assert_eq!(info.planes[0].coder, "bins");
    (frame, raw)
}

/// One block and two, and a last group that is not whole.
#[test]
fn bins_are_written_as_the_specification_says() {
    for n in [100_001, 400_037] {
        let (frame, raw) = in_bins(n);
        assert!(model::decode(&frame, usize::MAX) == Some(raw), "{n}");
    }
}

/// Of bins, both readers need the symbols before they can tell what details there must be.
#[test]
fn readers_agree_on_bins_with_flipped_bits() {
    let (frame, raw) = in_bins(100_001);
    // Mantissas and low halves have 22 bits a number; the details are before them.
    let details = frame.len() - raw.len() / 4 * 22 / 8 - 20;
    let heads = (8..80 * 8).step_by(13);
    for bit in heads.chain((details * 8 - 160_000..details * 8).step_by(9001)) {
        let mut bad = frame.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        agree_within(raw.len(), &bad, &bit);
    }
}

fn with_dead_channels(dtype: Dtype, n: usize) -> Vec<u8> {
    let len = n * dtype.block().1 as usize;
    let mut raw = weights(dtype, 96, len, 21);
    let unit = raw.len() / n;
    for (i, number) in raw.chunks_mut(unit).enumerate() {
        if i % 96 % 31 < 3 || i / 96 % 5 == 2 {
            // Far below the others; the sign and one bit of the exponent stay.
            number[unit - 1] &= 0x88;
        }
    }
    raw
}

#[test]
fn mixed_frames_are_written_as_the_specification_says() {
    let mut mixed = 0;
    for dtype in [Dtype::BF16, Dtype::F16, Dtype::F32, Dtype::C64] {
        for row_len in [96, 0, 1, 7] {
            let raw = with_dead_channels(dtype, 4003);
            let hint = Hint {
                first: 5,
                ..Hint::tensor(dtype, row_len)
            };
            let frame = frame_of(&raw, &hint, Level::Archive);
            mixed += usize::from(frame_info(&frame).unwrap().method == Method::Mixed);
            assert!(
                agree(&frame, &(dtype, row_len)) == Some(raw),
                "{dtype} {row_len}"
            );
        }
    }
    assert!(mixed > 8, "{mixed} of 16 are mixed");
}

#[test]
fn readers_agree_on_mixed_frames_with_flipped_bits() {
    let raw = with_dead_channels(Dtype::BF16, 700);
    let frame = frame_of(&raw, &Hint::tensor(Dtype::BF16, 96), Level::Archive);
    assert_eq!(frame_info(&frame).unwrap().method, Method::Mixed);
    for bit in (0..8 * frame.len()).filter(|bit| bit / 8 < 60 || bit % 41 == 0) {
        let mut bad = frame.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        agree(&bad, &bit);
    }
    for cut in (0..frame.len()).filter(|cut| *cut < 60 || cut % 17 == 0) {
        assert!(agree(&frame[..cut], &cut).is_none(), "cut at {cut}");
    }
}

#[test]
fn readers_agree_on_zstd_frames_with_flipped_bits() {
    let raw = b"text, and text again, and more text, and again text".repeat(3);
    let frame = frame_of(&raw, &Hint::bytes(), Level::Default);
    for bit in 0..8 * frame.len() {
        let mut bad = frame.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        agree(&bad, &bit);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Several bytes at once, near the front where structure is.
    #[test]
    fn readers_agree_on_mutated_frames(
        kind in 0..Dtype::ALL.len(), rng_seed in any::<u64>(), len in 100usize..2500,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let dtype = Dtype::ALL[kind];
        let raw = weights(dtype, 64, len, rng_seed);
        let mut frame = frame_of(&raw, &Hint::tensor(dtype, 64), Level::Fast);
        for (at, value) in damage {
            let at = at.index(frame.len().min(120));
            frame[at] = value;
        }
        agree(&frame, &dtype);
    }

    /// Bodies of small numbers, which are codes, widths and lengths more often than noise is.
    #[test]
    fn readers_agree_on_bodies_of_small_numbers(
        layout in prop::sample::select(vec![0u8, 1, 2, 16, 17, 20, 22, 66, 70, 76, 103]),
        raw_len in 0u8..100,
        rest in prop::collection::vec(prop_oneof![0u8..10, 0u8..10, 0u8..=255], 0..60),
    ) {
        let method = match layout { 0..=3 => 2, 4..=22 => 3, _ => 4 };
        agree(&[&[1, method, raw_len, layout, 0][..], &rest].concat(), &layout);
    }
}

/// Convolutions begun within a kernel: dense planes with signs, and without.
#[test]
fn dense_planes_are_as_the_specification_says() {
    for (sides, channels) in [([3, 3, 1], 20), ([3, 3, 3], 8), ([1, 1, 1], 96)] {
        for dtype in [Dtype::BF16, Dtype::F16, Dtype::F32, Dtype::F64] {
            let n = (LIMIT / dtype.block().1 as usize).max(1 << 14);
            let raw = convolution(dtype, sides, channels, n + 100, 6);
            let raw = raw[100 * dtype.block().1 as usize..].to_vec();
            let row_len = channels * sides.iter().product::<usize>();
            let hint = Hint {
                first: 100,
                ..Hint::tensor(dtype, row_len as u64)
            };
            let frame = frame_of(&raw, &hint, Level::Default);
            let coder = frame_info(&frame).unwrap().planes[0].coder;
            // Of wider numbers the exponents are too small a part to be worth the time.
            let halves = matches!(dtype, Dtype::BF16 | Dtype::F16);
            assert!(coder == "dense" || !halves, "{sides:?} {dtype} {coder}");
            assert!(model::decode(&frame, usize::MAX) == Some(raw.clone()));
            let fast = frame_of(&raw, &hint, Level::Fast);
            assert_ne!(frame_info(&fast).unwrap().planes[0].coder, "dense");
            assert!(frame.len() <= fast.len(), "{sides:?} {dtype}");
            if dtype == Dtype::BF16 {
                damaged(&frame, 60);
            }
        }
    }
}

/// Every plane that has a context, and where a frame begins within a block.
#[test]
fn grouped_planes_are_as_the_specification_says() {
    for (i, &dtype) in (0u64..).zip(Dtype::ALL) {
        let (elements, len) = dtype.block();
        if !matches!(elements, 32 | 256) {
            continue;
        }
        let n = if elements == 32 { 48_000 } else { 160_000 };
        let raw = quantised(dtype, n / elements as usize, i);
        let hint = Hint::tensor(dtype, 1024);
        let frame = frame_of(&raw, &hint, Level::Default);
        let planes = frame_info(&frame).unwrap().planes;
        let grouped = planes.iter().any(|plane| plane.coder == "grouped");
        assert!(grouped || !GROUPED.contains(&dtype), "{dtype}: {planes:?}");
        assert!(
            model::decode(&frame, raw.len()) == Some(raw),
            "{dtype} of {len} bytes"
        );
        if grouped {
            damaged(&frame, 20);
        }
    }
}

const GROUPED: [Dtype; 13] = [
    Dtype::Q4_0,
    Dtype::Q4_1,
    Dtype::Q5_0,
    Dtype::Q5_1,
    Dtype::Q8_0,
    Dtype::Q8_1,
    Dtype::Q3_K,
    Dtype::Q4_K,
    Dtype::Q5_K,
    Dtype::Q6_K,
    Dtype::IQ4_NL,
    Dtype::IQ4_XS,
    Dtype::MXFP4,
];

/// Both decoders say the same of a frame with one bit flipped, for some bits near its head.
fn damaged(frame: &[u8], n: usize) {
    let noise = &mut Noise::new(8);
    for _ in 0..n {
        let mut bad = frame.to_vec();
        let at = usize::from(noise.below(256)) * (1 + usize::from(noise.below(4)));
        bad[at] ^= 1 << noise.below(8);
        agree(&bad, &at);
    }
}
