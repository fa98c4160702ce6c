//! What the codec must withstand: any content, any frame. The bodies are meant for tests and
//! fuzz targets alike.
//!
//! A build with `cfg(fuzzing)` does not compare checks, so that what decoders make of damaged
//! frames is compared here, engine with engine and part with whole.

use std::sync::OnceLock;

use mmh_core::{Dtype, ErrorKind};

use crate::entropy::{Engine, engines};
use crate::frame::Header;
use crate::input::Input;
use crate::samples::{convolution, moved, quantised, weights};
use crate::{
    Base, Context, Decoder, Encoder, Error, FRAME_OVERHEAD_MAX, Hint, Level, Result, Settings,
    frame_info,
};

/// The most content that [`fuzz_frame`] accepts of a frame.
pub const FUZZ_RAW_LEN_MAX: usize = 1 << 16;

/// Decodes `bytes` as a frame, whole and in parts, with every engine. A frame that refers to a base
/// is given [`base_content`]. An error is as good an answer as content, but not one that blames
/// ourselves, and neither may exceed the limit.
///
/// # Panics
/// If the promise is broken: that is its purpose.
pub fn fuzz_frame(bytes: &[u8]) {
    let header = Header::read(&mut Input::new(bytes)).ok();
    let id = header.and_then(|header| header.references.base);
    let raw_len = header.map_or(0, |header| header.raw_len.min(FUZZ_RAW_LEN_MAX));
    let context = Context {
        base: id.map(|id| Base {
            id,
            raw: &base_content()[..raw_len],
        }),
    };
    if id.is_some() {
        let alone = Decoder::new().decode(bytes, FUZZ_RAW_LEN_MAX, &mut Vec::new());
        assert!(alone.is_err(), "a base is needed");
    }
    let mut found = engines().iter().map(|&engine| {
        let mut out = vec![1, 2, 3];
        let result =
            Decoder::with_engine(engine).decode_with(bytes, &context, FUZZ_RAW_LEN_MAX, &mut out);
        (result, out)
    });
    let (result, whole) = found.next().expect("there is always an engine");
    let same =
        |(other, out): (Result<()>, Vec<u8>)| other.is_ok() == result.is_ok() && out == whole;
    assert!(found.all(same), "engines differ");
    // Also where decoding fails, the description may not panic.
    let info = frame_info(bytes);
    match &result {
        Ok(()) => {
            let info = info.expect("a frame that decodes can be described");
            assert_eq!(info.raw_len, whole.len(), "content is as long as stated");
        }
        Err(error) => assert!(whole.is_empty() && blames_the_frame(error), "{error}"),
    }
    if raw_len == header.map_or(0, |header| header.raw_len) {
        for &engine in engines() {
            fuzz_range(
                bytes,
                (engine, &context),
                raw_len,
                result.is_ok().then_some(&whole),
            );
        }
    }
}

/// The content of bases: a frame that states `n` bytes is given the first `n` of it.
#[must_use]
pub fn base_content() -> &'static [u8] {
    static CONTENT: OnceLock<Vec<u8>> = OnceLock::new();
    CONTENT.get_or_init(|| weights(Dtype::BF16, 64, FUZZ_RAW_LEN_MAX, 1))
}

/// Whether an error says that a frame is wrong, too long, or of a newer version.
fn blames_the_frame(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported)
}

/// Decodes parts of a frame that states `raw_len` bytes; `whole` is its content, if it has any.
fn fuzz_range(
    bytes: &[u8],
    (engine, context): (&'static dyn Engine, &Context<'_>),
    raw_len: usize,
    whole: Option<&Vec<u8>>,
) {
    let places = [0, 1, raw_len / 3, raw_len];
    let mut decoder = Decoder::with_engine(engine);
    let mut part = vec![1];
    for range in places.windows(2).map(|pair| pair[0]..pair[1].max(pair[0])) {
        let range = range.start.min(raw_len)..range.end.min(raw_len);
        match decoder.decode_range(bytes, context, range.clone(), &mut part) {
            // A part may be whole where the rest is damaged.
            Ok(()) => {
                assert_eq!(part.len(), range.len());
                assert!(
                    whole.is_none_or(|whole| part == whole[range]),
                    "a part differs"
                );
            }
            Err(error) => {
                assert!(part.is_empty() && whole.is_none(), "{error}");
                assert!(blames_the_frame(&error), "{error}");
            }
        }
    }
}

/// Encodes content with a hint that its first bytes make up, and decodes it again. At times its
/// first half is the base of the second.
///
/// # Panics
/// If the content does not come back, engines write different frames, or the frame is too long.
pub fn fuzz_round_trip(bytes: &[u8]) {
    let Some((&[kind, row, first, how], content)) = bytes.split_first_chunk::<4>() else {
        return;
    };
    let dtype = Dtype::ALL
        .get(usize::from(kind) % (Dtype::ALL.len() + 1))
        .copied();
    let row_len = [0, u64::from(row), 64 * u64::from(row), u64::MAX][usize::from(how / 4) % 4];
    let hint = Hint {
        dtype,
        row_len,
        first: u64::from(first) << (row % 40),
    };
    let settings = Settings {
        level: Level::ALL[usize::from(how % 4) % Level::ALL.len()],
        verify: true,
    };
    let half = content.len() / 2;
    let (raw, base) = if how / 16 % 4 == 1 {
        (&content[half..2 * half], Some(&content[..half]))
    } else {
        (content, None)
    };
    let context = Context {
        base: base.map(|raw| Base { id: [7; 32], raw }),
    };
    let mut frames = engines().iter().map(|&engine| {
        let mut frame = Vec::new();
        Encoder::with_engine(settings.clone(), engine)
            .encode_with(raw, &hint, &context, &mut frame)
            .expect("any content can be encoded");
        frame
    });
    let frame = frames.next().expect("there is always an engine");
    assert!(
        frames.all(|other| other == frame),
        "engines differ: {hint:?}"
    );
    assert!(
        frame.len() <= raw.len() + FRAME_OVERHEAD_MAX,
        "{} bytes of {}, {hint:?}",
        frame.len(),
        raw.len()
    );
    let mut back = Vec::new();
    Decoder::new()
        .decode_with(&frame, &context, raw.len(), &mut back)
        .expect("a frame can be decoded");
    assert!(back == raw, "{hint:?}");
}

/// Small frames of every element type at every level, with differences from [`base_content`], each with a
/// name: what guided fuzzing of [`fuzz_frame`] starts from.
#[must_use]
pub fn frame_seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for &dtype in Dtype::ALL {
        for (row, raw) in small_samples(dtype) {
            let name = format!("{dtype}-{row}-{}", raw.len());
            let hint = Hint::tensor(dtype, row.into());
            for level in Level::ALL {
                let mut put = |name: &str, raw: &[u8], base: Option<&[u8]>| {
                    seeds.push((
                        format!("{name}-{level}"),
                        small_frame(level, (raw, base), &hint),
                    ));
                };
                put(&name, &raw, None);
                if matches!(dtype, Dtype::BF16 | Dtype::F16 | Dtype::F32) {
                    let base = &base_content()[..raw.len()];
                    let next = moved(base, dtype, usize::from(row % 13), u64::from(row));
                    put(&format!("{name}-moved"), &next, Some(base));
                }
            }
        }
    }
    seeds
}

/// The same for [`fuzz_round_trip`].
#[must_use]
pub fn content_seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (kind, &dtype) in (0u8..).zip(Dtype::ALL) {
        for (row, raw) in small_samples(dtype) {
            for how in [4, 5, 6, 8, 20] {
                let name = format!("{dtype}-{row}-{}-{how}", raw.len());
                seeds.push((name, [&[kind, row, 0, how], &raw[..]].concat()));
            }
        }
    }
    seeds
}

/// Content of a type, and the length of its rows.
fn small_samples(dtype: Dtype) -> Vec<(u8, Vec<u8>)> {
    let mut samples = Vec::new();
    for (row, len) in [(64, 300), (100, 1_501), (192, 4_000), (9, 640)] {
        samples.push((row, weights(dtype, row.into(), len, len as u64)));
    }
    if matches!(dtype, Dtype::BF16 | Dtype::F16 | Dtype::F32) {
        samples.push((72, convolution(dtype, [3, 3, 1], 8, 1_440, 2)));
    }
    let blocks = quantised(dtype, 12, 3);
    if !blocks.is_empty() {
        samples.push((0, blocks));
    }
    samples
}

fn small_frame(level: Level, (raw, base): (&[u8], Option<&[u8]>), hint: &Hint) -> Vec<u8> {
    let settings = Settings {
        level,
        verify: true,
    };
    let context = Context {
        base: base.map(|raw| Base { id: [7; 32], raw }),
    };
    let mut frame = Vec::new();
    Encoder::new(settings)
        .encode_with(raw, hint, &context, &mut frame)
        .expect("any content can be encoded");
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            fuzz_frame(&bytes);
            // Most noise fails at the first byte; look behind the header too.
            for (method, layout) in [(1, 0), (2, 0), (2, 2), (2, 10), (3, 16), (3, 18), (4, 70), (4, 76), (6, 0)] {
                if let Some(head) = bytes.first_chunk_mut() {
                    *head = [1, method, 0x84, 1, layout];
                }
                fuzz_frame(&bytes);
            }
        }

        #[test]
        fn any_content_comes_back(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            fuzz_round_trip(&bytes);
        }

        /// Content with structure, so that every coder is chosen at times.
        #[test]
        fn content_that_looks_like_weights_comes_back(
            head in any::<[u8; 4]>(), kind in 0..Dtype::ALL.len(), row in 1usize..400,
            len in 0usize..12_000, rng_seed in any::<u64>(),
        ) {
            let content = weights(Dtype::ALL[kind], row, len, rng_seed);
            let head = [u8::try_from(kind).unwrap(), head[1], head[2], head[3]];
            fuzz_round_trip(&[&head[..], &content].concat());
        }

        /// Frames with a few damaged bytes: deep paths of the decoder.
        #[test]
        fn mutated_frames_are_harmless(
            kind in 0..Dtype::ALL.len(), rng_seed in any::<u64>(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let dtype = Dtype::ALL[kind];
            let raw = weights(dtype, 64, 5000, rng_seed);
            let mut frame = Vec::new();
            Encoder::new(Settings::default())
                .encode(&raw, &Hint::tensor(dtype, 64), &mut frame)
                .unwrap();
            for (at, value) in damage {
                let at = at.index(frame.len().min(200));
                frame[at] = value;
            }
            fuzz_frame(&frame);
        }
    }
}
