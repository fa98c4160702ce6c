//! Numbers and lengths at which coders have to decide: every pattern of a 16-bit float, values far
//! apart, one odd number among equal ones, and the borders of groups and blocks.

use mmh_codec::entropy::engines;
use mmh_codec::samples::{Noise, weights};
use mmh_codec::{
    BLOCK_LEN, Base, Context, Decoder, Encoder, FRAME_OVERHEAD_MAX, Hint, Level, Method, Settings,
    frame_info,
};
use mmh_core::Dtype;

/// Floats with the bytes of one.
const FLOATS: [(Dtype, usize); 4] = [
    (Dtype::BF16, 2),
    (Dtype::F16, 2),
    (Dtype::F32, 4),
    (Dtype::F64, 8),
];

/// Codes with every engine, which must agree, and reads with each of them what came of it.
fn through_every_engine(
    raw: &[u8],
    hint: &Hint,
    context: &Context<'_>,
    level: Level,
) -> (Method, Vec<u8>) {
    let settings = Settings {
        level,
        verify: false,
    };
    let mut agreed: Option<(Method, Vec<u8>)> = None;
    for &engine in engines() {
        let mut frame = Vec::new();
        let method = Encoder::with_engine(settings.clone(), engine)
            .encode_with(raw, hint, context, &mut frame)
            .expect("the content can be coded");
        let (first_method, first) = agreed.get_or_insert((method, frame.clone()));
        assert!(
            *first_method == method && *first == frame,
            "{} writes another frame of {} bytes, {hint:?}",
            engine.name(),
            raw.len()
        );
    }
    let (method, frame) = agreed.expect("there is an engine");
    for &engine in engines() {
        let mut back = vec![1; 3];
        Decoder::with_engine(engine)
            .decode_with(&frame, context, raw.len(), &mut back)
            .expect("the frame is whole");
        assert!(
            back == raw,
            "{} reads {} bytes otherwise",
            engine.name(),
            raw.len()
        );
    }
    assert!(frame.len() <= raw.len() + FRAME_OVERHEAD_MAX + 32);
    (method, frame)
}

fn alone(raw: &[u8], dtype: Dtype, row_len: u64, level: Level) -> (Method, Vec<u8>) {
    let (hint, context) = (Hint::tensor(dtype, row_len), Context::default());
    through_every_engine(raw, &hint, &context, level)
}

fn on(base: &[u8], raw: &[u8], dtype: Dtype, row_len: u64) -> (Method, Vec<u8>) {
    let context = Context {
        base: Some(Base {
            id: [7; 32],
            raw: base,
        }),
    };
    let hint = Hint::tensor(dtype, row_len);
    through_every_engine(raw, &hint, &context, Level::Default)
}

/// Every pattern of 16 bits: in order, backwards, and shuffled by an odd factor.
fn all_patterns() -> [Vec<u8>; 3] {
    let orders: [fn(u16) -> u16; 3] = [|i| i, |i| u16::MAX - i, |i| i.wrapping_mul(40_503)];
    orders.map(|order| {
        (0..=u16::MAX)
            .flat_map(|i| order(i).to_le_bytes())
            .collect()
    })
}

#[test]
fn every_pattern_of_sixteen_bits_comes_back() {
    for raw in all_patterns() {
        for level in Level::ALL {
            for dtype in [Dtype::BF16, Dtype::F16] {
                alone(&raw, dtype, 256, level);
            }
            // As halves of wider numbers too.
            for dtype in [Dtype::F32, Dtype::F64, Dtype::I16] {
                alone(&raw, dtype, 64, level);
            }
        }
    }
}

#[test]
fn every_pattern_comes_back_given_any_other() {
    let [up, down, mixed] = all_patterns();
    for dtype in [Dtype::BF16, Dtype::F16] {
        for (base, raw) in [(&up, &down), (&mixed, &up), (&up, &mixed), (&down, &down)] {
            on(base, raw, dtype, 512);
        }
    }
}

/// Equal numbers but for one, wherever that is: at the borders of groups, rows and blocks.
#[test]
fn one_odd_number_among_equal_ones() {
    let n = BLOCK_LEN + 200;
    let places = [0, 63, 64, 65, 383, 384, BLOCK_LEN - 1, BLOCK_LEN, n - 1];
    for (dtype, width) in [(Dtype::BF16, 2), (Dtype::F32, 4)] {
        for place in places {
            let mut raw = [0x11, 0x3c, 0x80, 0x3f][4 - width..].repeat(n);
            let (_, equal) = alone(&raw, dtype, 384, Level::Default);
            raw[place * width + width - 1] ^= 0x40;
            let (_, frame) = alone(&raw, dtype, 384, Level::Default);
            assert!(frame.len() < 3000, "{dtype} {place}: {}", frame.len());
            assert!(equal.len() < 3000, "{dtype}: {}", equal.len());
        }
    }
}

/// Lengths about whole groups and blocks, with bytes that are no number behind.
#[test]
fn lengths_about_groups_and_blocks() {
    for (dtype, width) in FLOATS {
        let near = |n: usize| [n - 1, n, n + 1];
        let short = (0..4).chain([64, 128, 4096].into_iter().flat_map(near));
        for n in short {
            for more in [0, 1, width - 1] {
                let raw = weights(dtype, 48, n * width + more, n as u64);
                for level in Level::ALL {
                    alone(&raw, dtype, 48, level);
                }
            }
        }
        if width <= 4 {
            for n in near(BLOCK_LEN).into_iter().chain(near(3 * BLOCK_LEN / 2)) {
                let raw = weights(dtype, 1000, n * width, 3);
                alone(&raw, dtype, 1000, Level::Default);
            }
        }
    }
}

/// Rare values of every size among common ones, so many that they are exceptions, then so many that
/// they are symbols.
#[test]
fn values_far_apart() {
    for every in [5, 40, 700, 9001] {
        let noise = &mut Noise::new(every);
        for (dtype, width) in FLOATS {
            let mut raw = weights(dtype, 128, 40_000 * width, 6);
            for number in raw.chunks_exact_mut(width) {
                if noise.bits().is_multiple_of(every) {
                    number.fill_with(|| noise.below(256));
                }
            }
            for level in Level::ALL {
                alone(&raw, dtype, 128, level);
            }
        }
    }
}

/// A base that is wholly other, or equal, or has other signs, or moved by one number.
#[test]
fn bases_that_do_not_fit() {
    for (dtype, width) in &FLOATS[..3] {
        let (dtype, width) = (*dtype, *width);
        let raw = weights(dtype, 300, 30_000 * width, 1);
        let other = weights(dtype, 300, 30_000 * width, 2);
        let (solo, frame) = alone(&raw, dtype, 300, Level::Default);
        let (method, given) = on(&other, &raw, dtype, 300);
        assert!(given.len() <= frame.len(), "{dtype}: a base never costs");
        assert_eq!(method, solo, "{dtype}: what does not pay is refused");
        let mut signs = raw.clone();
        for number in signs.chunks_exact_mut(width) {
            number[width - 1] ^= 0x80;
        }
        on(&signs, &raw, dtype, 300);
        let mut moved = raw[width..].to_vec();
        moved.extend_from_slice(&raw[..width]);
        on(&moved, &raw, dtype, 300);
        let (method, same) = on(&raw, &raw, dtype, 300);
        assert_eq!(method, Method::Delta);
        assert!(same.len() < 1200, "{dtype}: {}", same.len());
        for len in [0, 1, width, raw.len() - width] {
            let (method, short) = on(&raw[..len], &raw, dtype, 300);
            assert_eq!(method, solo, "{dtype}: a base of another length is none");
            assert!(short == frame);
        }
    }
}

/// One number changed, at the borders of rows, groups and blocks: the rest costs next to nothing.
#[test]
fn one_number_that_changed() {
    let n = BLOCK_LEN + 1000;
    for (dtype, width) in [(Dtype::BF16, 2), (Dtype::F32, 4)] {
        let base = weights(dtype, 500, n * width, 4);
        for place in [0, 63, 499, 500, BLOCK_LEN - 1, BLOCK_LEN, n - 1] {
            for byte in 0..width {
                let mut raw = base.clone();
                raw[place * width + byte] ^= 0x81;
                let (method, frame) = on(&base, &raw, dtype, 500);
                assert_eq!(method, Method::Delta, "{dtype} {place} {byte}");
                assert!(frame.len() < raw.len() / 50, "{dtype} {place} {byte}");
            }
        }
    }
}

/// What a frame says of itself is what it is made of.
#[test]
fn what_a_frame_tells_adds_up() {
    for &dtype in Dtype::ALL {
        let raw = weights(dtype, 256, 50_000, 12);
        for level in Level::ALL {
            let mut frame = Vec::new();
            let settings = Settings {
                level,
                verify: true,
            };
            let method = Encoder::new(settings)
                .encode(&raw, &Hint::tensor(dtype, 256), &mut frame)
                .expect("the content can be coded");
            let info = frame_info(&frame).expect("the frame is whole");
            assert_eq!((info.method, info.raw_len), (method, raw.len()), "{dtype}");
            let planes: usize = info.planes.iter().map(|plane| plane.coded_len).sum();
            assert!(
                planes <= frame.len(),
                "{dtype}: {planes} of {}",
                frame.len()
            );
            let whole = matches!(method, Method::Raw | Method::Zstd);
            assert!(
                whole == info.planes.is_empty() || method == Method::Mixed,
                "{dtype}"
            );
        }
    }
}
