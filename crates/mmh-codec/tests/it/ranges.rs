//! Parts of content: whatever they are, they are what the whole has there.

use mmh_codec::samples::{convolution, moved, quantised, weights};
use mmh_codec::{
    BLOCK_LEN, Base, Context, Decoder, Encoder, Hint, Level, Method, Settings, frame_info,
};
use mmh_core::{Dtype, ErrorKind};
use proptest::prelude::*;

use super::encode;

fn check(frame: &[u8], raw: &[u8], ranges: impl IntoIterator<Item = (usize, usize)>) {
    let (mut decoder, mut out) = (Decoder::new(), Vec::new());
    for (start, end) in ranges {
        let range = start.min(end)..start.max(end);
        let context = Context::default();
        decoder
            .decode_range(frame, &context, range.clone(), &mut out)
            .expect("the content has the range");
        assert!(out == raw[range.clone()], "{range:?}");
    }
}

proptest! {
    /// Every element type, so every layout and most coders.
    #[test]
    fn a_range_is_what_the_whole_has_there(
        kind in 0..Dtype::ALL.len(), row in 1usize..300, len in 0usize..9000, rng_seed in any::<u64>(),
        places in prop::collection::vec(any::<[prop::sample::Index; 2]>(), 1..5),
    ) {
        let dtype = Dtype::ALL[kind];
        let raw = weights(dtype, row, len, rng_seed);
        let (_, frame) = encode(&raw, &Hint::tensor(dtype, row as u64));
        check(&frame, &raw, places.iter().map(|p| p.map(|i| i.index(raw.len() + 1)).into()));
    }
}

/// Around the borders of blocks and of checks, with a tail that is no whole number.
#[test]
fn ranges_of_several_blocks() {
    for dtype in [Dtype::BF16, Dtype::F16, Dtype::F32] {
        let n = 2 * BLOCK_LEN + BLOCK_LEN / 2 + 77;
        let mut raw = weights(dtype, 384, n * dtype.block().1 as usize, 7);
        raw.push(9);
        let (method, frame) = encode(&raw, &Hint::tensor(dtype, 384));
        assert_eq!(method, Method::Float);
        let block = BLOCK_LEN * dtype.block().1 as usize;
        let len = raw.len();
        let borders = [
            0,
            1,
            262_143,
            262_145,
            block - 1,
            block,
            block + 3,
            2 * block + 1,
            len - 1,
            len,
        ];
        let pairs = borders.iter().flat_map(|&a| borders.map(|b| (a, b)));
        check(
            &frame,
            &raw,
            pairs.filter(|(a, b)| a <= b && (b - a < 9 || a % 2 == 1)),
        );
    }
}

/// Quantised blocks over several parts: around the borders of blocks, parts and checks, and in the
/// bytes before and after whole blocks of a chunk that is cut anywhere.
#[test]
fn ranges_of_quantised_blocks() {
    for dtype in [
        Dtype::Q4_K,
        Dtype::Q6_K,
        Dtype::Q8_0,
        Dtype::IQ4_XS,
        Dtype::IQ2_S,
    ] {
        let (elements, block) = dtype.block();
        let (elements, block) = (elements as usize, block as usize);
        let n = 5 * BLOCK_LEN / 2 / elements;
        let tensor = quantised(dtype, n + 2, 5);
        // Chunks of a tensor are cut each 4 MiB, here within the block before the first whole one.
        let first = (4usize << 20) / block;
        let cut = (4 << 20) % block;
        let hint = Hint {
            first: (first * elements) as u64,
            ..Hint::tensor(dtype, 0)
        };
        for (raw, hint) in [
            (&tensor[..n * block], &Hint::tensor(dtype, 0)),
            (&tensor[cut..(n + 1) * block + 7], &hint),
        ] {
            let (method, frame) = encode(raw, hint);
            assert_eq!(method, Method::Block, "{dtype}");
            let (len, part) = (raw.len(), BLOCK_LEN / elements * block);
            let head = block - cut;
            let borders = [
                0,
                1,
                head,
                block,
                part - 1,
                part + head,
                2 * part,
                len - 8,
                len - 1,
                len,
            ];
            let pairs = borders.iter().flat_map(|&a| borders.map(|b| (a, b)));
            check(&frame, raw, pairs.filter(|(a, b)| a <= b));
        }
    }
}

/// Convolutions, whose exponents are dense.
#[test]
fn ranges_of_dense_numbers() {
    for (dtype, sides) in [(Dtype::BF16, [3, 3, 1]), (Dtype::F16, [3, 3, 3])] {
        let width = dtype.block().1 as usize;
        let n = BLOCK_LEN + BLOCK_LEN / 2 + 1000;
        let raw = convolution(dtype, sides, 16, n, 3);
        let row_len = 16 * sides.iter().product::<usize>() as u64;
        let (_, frame) = encode(&raw, &Hint::tensor(dtype, row_len));
        assert_eq!(frame_info(&frame).unwrap().planes[0].coder, "dense");
        let block = width * BLOCK_LEN;
        let borders = [0, 5, 262_143, block - 1, block + 7, raw.len() - 1];
        let pairs = borders
            .iter()
            .map(|&start| (start, (start + 9).min(raw.len())));
        check(&frame, &raw, pairs.chain([(3, raw.len()), (block, block)]));
    }
}

/// Every level, with and without a base: whatever the method, a range is a part of the whole.
#[test]
fn ranges_of_every_method() {
    let mut methods = Vec::new();
    for dtype in [Dtype::BF16, Dtype::F16, Dtype::F32, Dtype::I16, Dtype::Q4_1] {
        let raw = match dtype {
            Dtype::Q4_1 => quantised(dtype, 700, 8),
            _ => weights(dtype, 96, 12_005, 8),
        };
        let next = moved(&raw, Dtype::BF16, 5, 8);
        for (level, given) in [
            (Level::Fast, false),
            (Level::Default, true),
            (Level::Archive, false),
        ] {
            let context = Context {
                base: given.then_some(Base {
                    id: [1; 32],
                    raw: &raw,
                }),
            };
            let settings = Settings {
                level,
                verify: true,
            };
            let mut frame = Vec::new();
            let method = Encoder::new(settings)
                .encode_with(&next, &Hint::tensor(dtype, 96), &context, &mut frame)
                .expect("the content can be coded");
            methods.push(method);
            let (mut decoder, mut out) = (Decoder::new(), Vec::new());
            for range in [
                0..0,
                0..1,
                5..77,
                4000..9001,
                0..next.len(),
                next.len() - 1..next.len(),
            ] {
                decoder
                    .decode_range(&frame, &context, range.clone(), &mut out)
                    .expect("the content has the range");
                assert!(out == next[range.clone()], "{method} {range:?}");
                if given && method == Method::Delta {
                    let alone = Context::default();
                    let result = decoder.decode_range(&frame, &alone, range, &mut out);
                    assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound);
                    assert!(out.is_empty());
                }
            }
        }
    }
    for method in [
        Method::Float,
        Method::Integer,
        Method::Block,
        Method::Delta,
        Method::Mixed,
    ] {
        assert!(methods.contains(&method), "{method}");
    }
}

/// Content that is stored, packed as bytes, or a head before whole blocks: no layout is left out.
#[test]
fn ranges_of_other_methods() {
    let noise: Vec<u8> = weights(Dtype::U8, 64, 5000, 1);
    let text = b"the same words again and again ".repeat(40);
    for (raw, dtype) in [(&noise, None), (&text, None), (&noise, Some(Dtype::Q4_K))] {
        let hint = dtype.map_or(Hint::bytes(), |dtype| Hint::tensor(dtype, 0));
        let (_, frame) = encode(raw, &hint);
        check(
            &frame,
            raw,
            [(0, 0), (0, raw.len()), (7, 90), (raw.len() - 1, raw.len())],
        );
    }
}

/// Every cut of a frame, and every bit of its first bytes: content or an error, and then nothing
/// is left in the output.
#[test]
fn damaged_frames_are_errors() {
    let raw = weights(Dtype::BF16, 64, 3000, 2);
    let (_, frame) = encode(&raw, &Hint::tensor(Dtype::BF16, 64));
    let (mut decoder, mut out) = (Decoder::new(), Vec::new());
    let context = Context::default();
    for cut in 0..frame.len() {
        out.push(1);
        let result = decoder.decode_range(&frame[..cut], &context, 9..99, &mut out);
        assert!(result.is_err() && out.is_empty(), "{cut}");
    }
    for bit in 0..8 * 300 {
        let mut frame = frame.clone();
        frame[bit / 8] ^= 1 << (bit % 8);
        match decoder.decode_range(&frame, &context, 9..99, &mut out) {
            Ok(()) => assert_eq!(out, raw[9..99], "{bit}"),
            Err(error) => assert!(
                out.is_empty() && error.kind() != ErrorKind::Internal,
                "{bit}"
            ),
        }
    }
}
