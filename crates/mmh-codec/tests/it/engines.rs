//! Frames do not show which engine wrote them, and every engine reads each of them alike, whole or
//! damaged.

use mmh_codec::entropy::engines;
use mmh_codec::samples::{Noise, convolution, moved, quantised, weights};
use mmh_codec::{Base, Context, Decoder, Encoder, Hint, Level, Method, Settings};
use mmh_core::Dtype;

const DTYPES: [Dtype; 7] = [
    Dtype::BF16,
    Dtype::F16,
    Dtype::F32,
    Dtype::F64,
    Dtype::I8,
    Dtype::Q4_K,
    Dtype::Q8_0,
];

/// The one frame that all engines write.
fn frame(raw: &[u8], hint: &Hint, level: Level) -> Vec<u8> {
    let mut frames = Vec::new();
    for &engine in engines() {
        let settings = Settings {
            level,
            verify: true,
        };
        let mut frame = Vec::new();
        Encoder::with_engine(settings, engine)
            .encode(raw, hint, &mut frame)
            .expect("the content can be coded");
        frames.push(frame);
    }
    let frame = frames.swap_remove(0);
    assert!(frames.iter().all(|other| *other == frame), "{hint:?}");
    frame
}

/// What all engines make of `frame`.
fn read(frame: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut found = engines().iter().map(|&engine| {
        let mut back = Vec::new();
        let done = Decoder::with_engine(engine).decode(frame, limit, &mut back);
        assert!(done.is_ok() || back.is_empty());
        done.map(|()| back)
    });
    let first = found.next().expect("there is an engine");
    assert!(found.all(|other| other == first), "engines differ");
    first.ok()
}

#[test]
fn every_engine_writes_and_reads_the_same_frames() {
    for dtype in DTYPES {
        for (row_len, len) in [(0, 3000), (384, 40_000), (1024, 1 << 20)] {
            let raw = weights(dtype, row_len.max(256), len, 5);
            let hint = Hint::tensor(dtype, row_len as u64);
            for level in [Level::Fast, Level::Default] {
                let frame = frame(&raw, &hint, level);
                assert!(read(&frame, raw.len()) == Some(raw.clone()), "{dtype:?}");
            }
        }
    }
}

/// Tensors of a few numbers, where vectors have nothing whole to do, of every element type.
#[test]
fn every_engine_writes_and_reads_the_same_little_frames() {
    for &dtype in Dtype::ALL {
        for len in (0..260).step_by(13).chain([511, 1023, 2049]) {
            let raw = weights(dtype, 32, len, len as u64);
            for level in [Level::Fast, Level::Default, Level::Archive] {
                let frame = frame(&raw, &Hint::tensor(dtype, 32), level);
                assert!(read(&frame, raw.len()) == Some(raw.clone()), "{dtype:?}");
            }
        }
    }
}

#[test]
fn every_engine_refuses_the_same_damage() {
    let noise = &mut Noise::new(6);
    for dtype in DTYPES {
        let raw = weights(dtype, 256, 12_000, 7);
        let frame = frame(&raw, &Hint::tensor(dtype, 256), Level::Default);
        let method = crate::info(&frame).method;
        let checked = !matches!(method, Method::Raw | Method::Zstd);
        for _ in 0..150 {
            let mut bad = frame.clone();
            let at = usize::from(noise.below(256)) * bad.len() / 256 + usize::from(noise.below(16));
            let at = at % bad.len();
            bad[at] ^= 1 << noise.below(8);
            let back = read(&bad, raw.len());
            assert!(
                !checked || back.is_none_or(|back| back == raw),
                "{dtype:?} {at}"
            );
            assert_eq!(read(&frame[..at], raw.len()), None, "{dtype:?} {at}");
        }
    }
}

/// Frames that an engine writes given a base, read by all of them, whole and damaged.
#[test]
fn every_engine_writes_and_reads_the_same_deltas() {
    let noise = &mut Noise::new(7);
    for dtype in [Dtype::BF16, Dtype::F16, Dtype::F32] {
        for (row_len, octaves) in [(0, 2), (300, 5), (1024, 9)] {
            let base = weights(dtype, row_len.max(64), 50_000, 8);
            let raw = moved(&base, dtype, octaves, row_len as u64 + 1);
            let hint = Hint::tensor(dtype, row_len as u64);
            let context = Context {
                base: Some(Base {
                    id: [3; 32],
                    raw: &base,
                }),
            };
            let mut frames = engines().iter().map(|&engine| {
                let mut frame = Vec::new();
                let mut encoder = Encoder::with_engine(Settings::default(), engine);
                let method = encoder.encode_with(&raw, &hint, &context, &mut frame);
                (method, frame)
            });
            let (method, mut frame) = frames.next().expect("there is an engine");
            assert!(method.is_ok(), "{method:?}");
            assert!(frames.all(|other| other == (method.clone(), frame.clone())));
            let read = |frame: &[u8]| {
                let mut found = engines().iter().map(|&engine| {
                    let mut back = Vec::new();
                    let mut decoder = Decoder::with_engine(engine);
                    (
                        decoder.decode_with(frame, &context, raw.len(), &mut back),
                        back,
                    )
                });
                let first = found.next().expect("there is an engine");
                assert!(found.all(|other| other == first), "engines differ");
                first
            };
            assert!(read(&frame) == (Ok(()), raw.clone()), "{dtype:?} {row_len}");
            for _ in 0..30 {
                let at = usize::from(noise.below(256)) * frame.len() / 256;
                frame[at] ^= 1 << noise.below(8);
                let (done, back) = read(&frame);
                assert!(done.is_err() || back == raw);
            }
        }
    }
}

/// Convolutions, whose symbols have classes of their own, and blocks of codes.
#[test]
fn every_engine_writes_and_reads_the_same_kernels_and_blocks() {
    let mut contents: Vec<(Vec<u8>, Hint)> = Vec::new();
    for dtype in [Dtype::BF16, Dtype::F16, Dtype::F32] {
        let raw = convolution(dtype, [3, 3, 1], 32, 20_000, 9);
        contents.push((raw, Hint::tensor(dtype, 32 * 9)));
    }
    for dtype in [Dtype::Q4_K, Dtype::Q6_K, Dtype::Q8_0, Dtype::Q4_0] {
        contents.push((quantised(dtype, 300, 10), Hint::tensor(dtype, 1024)));
    }
    for (raw, hint) in contents {
        for level in [Level::Fast, Level::Default, Level::Archive] {
            let frame = frame(&raw, &hint, level);
            assert!(read(&frame, raw.len()) == Some(raw.clone()), "{hint:?}");
        }
    }
}

/// Parts of whole and of damaged frames, which each engine reads with a decoder used before.
#[test]
fn every_engine_reads_the_same_parts() {
    let noise = &mut Noise::new(8);
    for dtype in DTYPES {
        let raw = weights(dtype, 320, 1_200_000, 11);
        let mut frame = frame(&raw, &Hint::tensor(dtype, 320), Level::Default);
        let mut decoders: Vec<Decoder> = (engines().iter())
            .map(|&engine| Decoder::with_engine(engine))
            .collect();
        for round in 0..12 {
            let mut place = || usize::from(noise.below(256)) * raw.len() / 255;
            let (start, end) = (place(), place());
            let range = start.min(end)..start.max(end);
            let mut found = decoders.iter_mut().map(|decoder| {
                let mut part = Vec::new();
                let context = Context::default();
                let done = decoder.decode_range(&frame, &context, range.clone(), &mut part);
                done.map(|()| part)
            });
            let first = found.next().expect("there is an engine");
            assert!(found.all(|other| other == first), "{dtype:?} {range:?}");
            match first {
                Ok(part) => assert!(part == raw[range.clone()], "{dtype:?} {range:?}"),
                Err(error) => assert!(round > 6, "{dtype:?} {range:?}: {error}"),
            }
            if round >= 6 {
                let at = place() % frame.len();
                frame[at] ^= 1 << noise.below(8);
            }
        }
    }
}
