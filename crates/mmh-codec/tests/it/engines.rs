//! Frames do not show which engine wrote them, and every engine reads each of them alike, whole or
//! damaged.

use mmh_codec::entropy::engines;
use mmh_codec::samples::{Noise, weights};
use mmh_codec::{Decoder, Encoder, Hint, Level, Method, Settings};
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
