//! Deltas against the model: both readers make the same of every frame and base.

use mmh_codec::samples::{Noise, moved, weights};
use mmh_codec::{
    BLOCK_LEN, Base, Context, Decoder, Encoder, HEADER_LEN_MAX, Hint, Method, References, Settings,
    frame_info, references, with_references,
};
use mmh_core::{Dtype, ErrorKind};
use proptest::prelude::*;

use crate::model;

const ID: [u8; 32] = [9; 32];
const LIMIT: usize = 1 << 20;

fn given(raw: &[u8]) -> Context<'_> {
    Context {
        base: Some(Base { id: ID, raw }),
    }
}

fn frame_of(raw: &[u8], base: &[u8], hint: &Hint) -> (Method, Vec<u8>) {
    let mut frame = Vec::new();
    let method = Encoder::new(Settings::default())
        .encode_with(raw, hint, &given(base), &mut frame)
        .expect("the content can be coded");
    assert_eq!(
        frame_info(&frame).expect("the frame is whole").method,
        method
    );
    (method, frame)
}

fn agree(frame: &[u8], base: &[u8], what: &dyn std::fmt::Debug) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let result = Decoder::new().decode_with(frame, &given(base), LIMIT, &mut out);
    let ours = result.clone().ok().map(|()| out);
    let theirs = model::decode_given(frame, Some((&ID, base)), LIMIT);
    assert!(
        ours == theirs,
        "{what:?}: the crate says {result:?}, the model {}: {frame:02x?}",
        if theirs.is_some() { "content" } else { "error" },
    );
    ours
}

const FLOATS: [(Dtype, usize); 3] = [(Dtype::BF16, 2), (Dtype::F16, 2), (Dtype::F32, 4)];

#[test]
fn deltas_are_written_as_the_specification_says() {
    for (dtype, _) in FLOATS {
        for (row, first, octaves) in [(64, 0, 3), (100, 37, 8), (0, 5, 12), (700, 699, 1)] {
            let base = weights(dtype, 96, 30_011, 5);
            let raw = moved(&base, dtype, octaves, row);
            let hint = Hint {
                first,
                ..Hint::tensor(dtype, row)
            };
            let (_, frame) = frame_of(&raw, &base, &hint);
            assert!(agree(&frame, &base, &(dtype, row)) == Some(raw), "{dtype}");
        }
    }
}

/// Positive numbers that fall by a factor and then rise need no signs.
#[test]
fn second_moments_are_written_as_the_specification_says() {
    let noise = &mut Noise::new(8);
    let numbers = (0..20_000u32).map(|i| (i * 7919 % 10_007 + 1) as f32 * 1e-9);
    let old: Vec<f32> = numbers.collect();
    let new = old
        .iter()
        .map(|v| v * 0.98 + v * f32::from(noise.below(100)) * 1e-4);
    let new: Vec<u8> = new.flat_map(f32::to_le_bytes).collect();
    let base: Vec<u8> = old.iter().flat_map(|v| v.to_le_bytes()).collect();
    let (method, frame) = frame_of(&new, &base, &Hint::tensor(Dtype::F32, 200));
    assert_eq!(method, Method::Delta);
    // 23 bits and a few of a larger exponent, if nothing were known.
    assert!(frame.len() * 32 < new.len() * 22, "{}", frame.len());
    assert!(agree(&frame, &base, &"moments") == Some(new));
}

#[test]
fn readers_agree_on_flipped_bits_of_deltas() {
    for (dtype, len) in FLOATS {
        let base = weights(dtype, 64, 64 * 20 * len, 5);
        let raw = moved(&base, dtype, 6, 4);
        let (method, frame) = frame_of(&raw, &base, &Hint::tensor(dtype, 64));
        assert_eq!(method, Method::Delta, "{dtype}");
        let mut mended = 0;
        // Behind the base's name, where every bit makes it another base.
        for bit in 8 * 36..8 * frame.len().min(250) {
            let mut bad = frame.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // Without the checks, which find everything.
            model::mend_delta(&mut bad, &base);
            mended += usize::from(agree(&bad, &base, &(dtype, bit)).is_some());
        }
        assert!(mended > 0, "some damage makes other content");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Checks made right, so that what the readers make of the body is compared and not only refused.
    #[test]
    fn readers_agree_on_damaged_deltas(
        which in 0usize..3, rng_seed in any::<u64>(), len in 1usize..900, octaves in 0usize..16,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let (dtype, each) = FLOATS[which];
        let base = weights(dtype, 64, len * each, rng_seed);
        let raw = moved(&base, dtype, octaves, rng_seed);
        let (_, mut frame) = frame_of(&raw, &base, &Hint::tensor(dtype, 64));
        for (at, value) in damage {
            let at = at.index(frame.len().min(160));
            frame[at] = value;
        }
        model::mend_delta(&mut frame, &base);
        agree(&frame, &base, &dtype);
    }

    /// Bodies of small numbers, which are codes, widths and lengths more often than noise is.
    #[test]
    fn readers_agree_on_delta_bodies_of_small_numbers(
        raw_len in 0u8..100,
        head in prop::collection::vec(0u8..4, 0..6),
        rest in prop::collection::vec(prop_oneof![0u8..10, 0u8..10, Just(64u8), 0u8..=255], 0..60),
    ) {
        let base = weights(Dtype::BF16, 8, usize::from(raw_len), 1);
        let checks = &[0; 4][..4 * usize::from(raw_len > 0)];
        let mut frame = [&[1, 5 | 1 << 6, raw_len][..], &ID, checks, &head, &rest].concat();
        model::mend_delta(&mut frame, &base);
        agree(&frame, &base, &head);
    }
}

/// Updates that are sums of products of rows with columns, and noise; with random signs if `flips`.
#[allow(
    clippy::cast_possible_truncation,
    reason = "small steps, rounded before"
)]
fn trained(base: &[u8], each: usize, row_len: usize, flips: bool) -> Vec<u8> {
    const RANK: usize = 2;
    let noise = &mut Noise::new(4);
    let n = base.len() / each;
    let mut normal = |n: usize| -> Vec<f32> { (0..n).map(|_| noise.normal()).collect() };
    let (rows, columns) = (normal(RANK * n.div_ceil(row_len)), normal(RANK * row_len));
    let other = normal(2 * n);
    let numbers = base.chunks_exact(each).enumerate().map(|(i, number)| {
        let (row, column) = (i / row_len * RANK, i % row_len * RANK);
        let sum: f32 = (0..RANK).map(|k| rows[row + k] * columns[column + k]).sum();
        let step = (sum * 4.0 + other[i] * 2.0).round();
        let step = if flips && other[n + i] < 0.0 {
            -step
        } else {
            step
        };
        let mut bits = [0; 4];
        bits[..each].copy_from_slice(number);
        // The magnitude grows or falls with the sign, so that the place moves by the step.
        let negative = number[each - 1] & 0x80 != 0;
        let step = if negative { -step } else { step } as i32;
        let bits = u32::from_le_bytes(bits).wrapping_add_signed(step);
        bits.to_le_bytes()[..each].to_vec()
    });
    let mut raw: Vec<u8> = numbers.flatten().collect();
    raw.extend_from_slice(&base[n * each..]);
    raw
}

/// Two levels, whose classes follow from the directions that the frame has.
#[test]
fn directions_are_written_as_the_specification_says() {
    for (dtype, each) in FLOATS {
        for (row_len, first) in [(100, 0), (200, 77)] {
            let base = weights(dtype, row_len, 40_000 * each + 1, 5);
            let hint = Hint {
                first,
                ..Hint::tensor(dtype, row_len as u64)
            };
            // The generator's rows begin where the tensor's do.
            let before = (row_len - usize::try_from(first).expect("a small number")) % row_len;
            let (head, rest) = base.split_at(before * each);
            let [raw, random] =
                [false, true].map(|flips| [head, &trained(rest, each, row_len, flips)].concat());
            let (method, frame) = frame_of(&raw, &base, &hint);
            assert_eq!(method, Method::Delta);
            assert!(
                agree(&frame, &base, &(dtype, row_len)) == Some(raw),
                "{dtype}"
            );
            let (_, without) = frame_of(&random, &base, &hint);
            assert!(
                agree(&without, &base, &(dtype, row_len)) == Some(random),
                "{dtype}"
            );
            let saved = without.len() - frame.len();
            assert!(saved * 8 > 40_000 / 5, "{dtype} {row_len}: {saved}");
        }
    }
}

/// Heads of frames with directions, whose checks are made right.
#[test]
fn readers_agree_on_flipped_bits_of_directions() {
    let base = weights(Dtype::BF16, 128, 128 * 150 * 2, 5);
    let raw = trained(&base, 2, 128, false);
    let (method, frame) = frame_of(&raw, &base, &Hint::tensor(Dtype::BF16, 128));
    assert_eq!(method, Method::Delta);
    for bit in (8 * 36..8 * 500).step_by(3) {
        let mut bad = frame.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        model::mend_delta(&mut bad, &base);
        agree(&bad, &base, &bit);
    }
}

/// Parts of a delta are what the whole has there, around the borders of blocks too.
#[test]
fn ranges_of_deltas() {
    for (dtype, each) in FLOATS {
        let n = 3 * BLOCK_LEN + 77;
        let mut base = weights(dtype, 384, n * each, 7);
        let mut raw = moved(&base, dtype, 5, 3);
        base.push(1);
        raw.push(2);
        let hint = Hint {
            first: 100,
            ..Hint::tensor(dtype, 384)
        };
        let (method, frame) = frame_of(&raw, &base, &hint);
        assert_eq!(method, Method::Delta);
        let len = raw.len();
        let borders = [0, 1, 768, 262_145, len / 2, len / 2 + 9, len - 1, len];
        let (mut decoder, mut out) = (Decoder::new(), Vec::new());
        for start in borders {
            for end in borders.into_iter().filter(|&end| end >= start) {
                decoder
                    .decode_range(&frame, &given(&base), start..end, &mut out)
                    .expect("the content has the range");
                assert!(out == raw[start..end], "{dtype} {start} {end}");
            }
        }
    }
}

/// A frame may name its base as another place does; its content is the same, and nothing else
/// changes.
#[test]
fn a_base_may_get_another_name() {
    let base = weights(Dtype::BF16, 96, 5000, 5);
    let raw = moved(&base, Dtype::BF16, 3, 64);
    let (method, frame) = frame_of(&raw, &base, &Hint::tensor(Dtype::BF16, 64));
    assert_eq!(method, Method::Delta);
    let new = References {
        base: Some([7; 32]),
    };
    let renamed = with_references(&frame, &new).unwrap();
    assert_eq!(references(&renamed).unwrap(), new);
    let old = references(&frame).unwrap();
    assert_eq!(with_references(&renamed, &old).unwrap(), frame);
    let context = Context {
        base: Some(Base {
            id: [7; 32],
            raw: &base,
        }),
    };
    let mut out = Vec::new();
    let mut decoder = Decoder::new();
    decoder
        .decode_with(&renamed, &context, LIMIT, &mut out)
        .unwrap();
    assert!(out == raw);
    let none = with_references(&frame, &References::default()).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Invalid);
    for len in 0..HEADER_LEN_MAX {
        let cut = with_references(&frame[..len], &new);
        assert_eq!(cut.is_ok(), references(&frame[..len]).is_ok(), "{len}");
    }
}
