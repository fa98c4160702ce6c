//! What a store relies on: the same frames from every thread, encoders and decoders that survive
//! a failure, limits that hold for every method, descriptions that agree with the content.

use std::thread;

use mmh_codec::samples::{Noise, weights};
use mmh_codec::{
    Context, Decoder, Encoder, HEADER_LEN_MAX, Hint, Level, Method, Settings, frame_info,
    references,
};
use mmh_core::limits::CHUNK_LEN_MAX;
use mmh_core::{Dtype, ErrorKind};

use crate::encode;

/// Frames of all methods, decoded into one room, the longer ones and the shorter ones in turn, also after failures.
#[test]
fn one_room_serves_frames_of_all_lengths() {
    let context = Context::default();
    let (mut decoder, mut room) = (Decoder::new(), Vec::new());
    let frames = by_method();
    for (method, raw, frame) in frames.iter().chain(frames.iter().rev()) {
        let back = decoder.decode_in(frame, &context, raw.len(), &mut room);
        assert!(back.is_ok_and(|back| back == raw), "{method}");
        let longest = room.len();
        let cut = decoder.decode_in(&frame[..frame.len() - 1], &context, raw.len(), &mut room);
        assert!(cut.is_err(), "{method}");
        assert!(room.len() >= longest, "{method}");
    }
}

fn contents() -> Vec<(Hint, Vec<u8>)> {
    let mut contents: Vec<_> = (0u64..)
        .zip(Dtype::ALL)
        .map(|(i, &dtype)| (Hint::tensor(dtype, 64), weights(dtype, 64, 3000, i)))
        .collect();
    contents.push((Hint::bytes(), b"words and words and words ".repeat(20)));
    contents.push((Hint::bytes(), Vec::new()));
    contents
}

/// One content for each method, and its frame.
fn by_method() -> Vec<(Method, Vec<u8>, Vec<u8>)> {
    let noise = &mut Noise::new(5);
    let codes = weights(Dtype::I8, 64, 32 * 600, 1);
    let block = |codes: &[u8]| [&[7, 0x2c][..], codes].concat();
    let eights = codes.chunks(32).flat_map(block).collect();
    let contents = [
        (Hint::bytes(), (0..300).map(|_| noise.below(256)).collect()),
        (Hint::bytes(), b"abc".repeat(100)),
        (
            Hint::tensor(Dtype::BF16, 64),
            weights(Dtype::BF16, 64, 9000, 1),
        ),
        (Hint::tensor(Dtype::I8, 64), weights(Dtype::I8, 64, 9000, 1)),
        (Hint::tensor(Dtype::Q8_0, 0), eights),
    ];
    let mut frames: Vec<_> = contents
        .into_iter()
        .map(|(hint, raw): (Hint, Vec<u8>)| {
            let (method, frame) = encode(&raw, &hint);
            (method, raw, frame)
        })
        .collect();
    let raw = weights(Dtype::BF16, 64, 9000, 1);
    let mut frame = Vec::new();
    let method = Encoder::new(ARCHIVE)
        .encode(&raw, &Hint::tensor(Dtype::BF16, 64), &mut frame)
        .expect("the content can be coded");
    frames.push((method, raw, frame));
    let methods: Vec<_> = frames.iter().map(|(method, ..)| *method).collect();
    // Deltas need a base besides.
    let alone = Method::ALL.into_iter().filter(|m| *m != Method::Delta);
    assert_eq!(methods, alone.collect::<Vec<_>>());
    frames
}

const ARCHIVE: Settings = Settings {
    level: Level::Archive,
    verify: true,
};

/// Each thread has its own encoder and takes the contents in its own order.
#[test]
fn threads_write_the_same_frames() {
    let contents = &contents();
    let frames_from = |start: usize| {
        let mut encoder = Encoder::new(Settings::default());
        let mut frames = vec![Vec::new(); contents.len()];
        for i in (0..contents.len()).map(|i| (i + start) % contents.len()) {
            let (hint, raw) = &contents[i];
            encoder.encode(raw, hint, &mut frames[i]).unwrap();
        }
        frames
    };
    let expected = frames_from(0);
    thread::scope(|scope| {
        let threads = [7, 19, 40].map(|start| scope.spawn(move || frames_from(start)));
        for thread in threads {
            assert!(thread.join().unwrap() == expected);
        }
    });
}

/// The check after encoding changes nothing but the time it takes.
#[test]
fn frames_do_not_depend_on_verification() {
    for level in Level::ALL {
        let mut encoders = [true, false].map(|verify| Encoder::new(Settings { level, verify }));
        for (hint, raw) in contents() {
            let frames = encoders.each_mut().map(|encoder| {
                let mut frame = Vec::new();
                encoder.encode(&raw, &hint, &mut frame).unwrap();
                frame
            });
            assert!(frames[0] == frames[1], "{level} {hint:?}");
        }
    }
}

/// One damaged chunk must not cost the others that the same thread reads after it.
#[test]
fn a_decoder_works_after_every_kind_of_failure() {
    let mut decoder = Decoder::new();
    let mut out = Vec::new();
    for (_, raw, frame) in by_method() {
        for (_, _, bad) in by_method() {
            for cut in [0, 1, 3, bad.len() / 2, bad.len() - 1] {
                assert!(decoder.decode(&bad[..cut], raw.len(), &mut out).is_err());
                assert!(out.is_empty());
            }
            decoder.decode(&frame, raw.len(), &mut out).unwrap();
            assert!(out == raw);
        }
    }
}

#[test]
fn an_encoder_works_after_a_chunk_that_is_too_large() {
    let mut encoders = [Settings::default(), ARCHIVE].map(Encoder::new);
    let mut frame = Vec::new();
    for (method, raw, expected) in by_method() {
        let encoder = &mut encoders[usize::from(method == Method::Mixed)];
        let huge = vec![1; CHUNK_LEN_MAX + 1];
        assert!(encoder.encode(&huge, &Hint::bytes(), &mut frame).is_err());
        let hint = match method {
            Method::Float | Method::Mixed => Hint::tensor(Dtype::BF16, 64),
            Method::Integer => Hint::tensor(Dtype::I8, 64),
            Method::Block => Hint::tensor(Dtype::Q8_0, 0),
            _ => Hint::bytes(),
        };
        assert_eq!(encoder.encode(&raw, &hint, &mut frame), Ok(method));
        assert!(frame == expected, "{method}");
    }
}

/// The limit is exact, and a frame within it is not refused for what it might be.
#[test]
fn the_limit_of_a_reader_is_exact_for_every_method() {
    for (method, raw, frame) in by_method() {
        let decode = |limit| Decoder::new().decode(&frame, limit, &mut Vec::new());
        assert_eq!(decode(raw.len()), Ok(()), "{method}");
        assert_eq!(decode(usize::MAX), Ok(()), "{method}");
        assert!(decode(raw.len() - 1).is_err(), "{method}");
        assert!(decode(0).is_err(), "{method}");
    }
}

/// The length in the header, changed by one either way, never passes for another content.
#[test]
fn a_changed_length_is_noticed_by_every_method() {
    for (method, raw, frame) in by_method() {
        let body = frame.len() - frame[2..].iter().position(|byte| byte < &128).unwrap() - 3;
        let body = &frame[frame.len() - body..];
        for len in [raw.len() - 1, raw.len() + 1, 0, 2 * raw.len()] {
            let mut bad = vec![frame[0], frame[1]];
            let mut rest = len;
            while rest >= 128 {
                bad.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            bad.push(u8::try_from(rest).unwrap());
            bad.extend_from_slice(body);
            let mut out = Vec::new();
            let done = Decoder::new().decode(&bad, CHUNK_LEN_MAX, &mut out);
            assert!(done.is_err(), "{method}: {len} for {}", raw.len());
        }
    }
}

/// A description needs no content, but all of the planes; it fails where they are cut.
#[test]
fn descriptions_account_for_every_byte() {
    for (hint, raw) in contents() {
        let (method, frame) = encode(&raw, &hint);
        let info = frame_info(&frame).unwrap();
        assert_eq!((info.method, info.raw_len), (method, raw.len()), "{hint:?}");
        let planes: usize = info.planes.iter().map(|plane| plane.coded_len).sum();
        if info.planes.is_empty() {
            assert!(matches!(method, Method::Raw | Method::Zstd), "{hint:?}");
            continue;
        }
        // Header, checks and layout take up to 10 bytes, each plane 2 to 4 more; the rest fills no unit.
        let heads = 10 + 4 * info.planes.len();
        let unit = hint.dtype.unwrap().block().1 as usize;
        assert!(
            planes < frame.len() && planes + heads + 2 * unit > frame.len(),
            "{hint:?}"
        );
        for cut in (0..planes).step_by(planes / 50 + 1) {
            assert!(frame_info(&frame[..cut]).is_err(), "{hint:?} cut at {cut}");
        }
    }
}

/// Whole rows before a chunk do not matter: chunks of equal content are equal, wherever they lie.
#[test]
fn equal_chunks_at_equal_places_of_a_row_have_equal_frames() {
    for dtype in [Dtype::BF16, Dtype::F32, Dtype::I8, Dtype::I32, Dtype::C64] {
        let raw = weights(dtype, 384, 40_000, 7);
        let at = |first| Hint {
            first,
            ..Hint::tensor(dtype, 384)
        };
        let frame = encode(&raw, &at(128)).1;
        for rows in [1, 2, 1_000_003] {
            assert!(
                encode(&raw, &at(128 + 384 * rows)).1 == frame,
                "{dtype} {rows}"
            );
        }
    }
}

/// More effort is never larger by more than a class search may miss, and for bytes it is smaller.
#[test]
fn levels_trade_time_for_size() {
    let frame_len = |raw: &[u8], hint: &Hint| {
        Level::ALL.map(|level| {
            let mut frame = Vec::new();
            let settings = Settings {
                level,
                verify: true,
            };
            Encoder::new(settings)
                .encode(raw, hint, &mut frame)
                .unwrap();
            frame.len()
        })
    };
    let raw = weights(Dtype::BF16, 256, 1 << 18, 3);
    let [fast, default, archive] = frame_len(&raw, &Hint::tensor(Dtype::BF16, 256));
    assert!(
        default < fast && archive <= default + default / 1000,
        "{fast} {default} {archive}"
    );
    let words: Vec<u8> = {
        let noise = &mut Noise::new(2);
        let mut word = || format!("w{} ", noise.below(200).min(noise.below(200)));
        (0..8000).flat_map(|_| word().into_bytes()).collect()
    };
    let [fast, default, archive] = frame_len(&words, &Hint::bytes());
    assert!(
        archive < default && archive < fast,
        "{fast} {default} {archive}"
    );
}

/// The reference stands in the header, and is told without the rest of the frame.
#[test]
fn references_are_read_from_the_header_alone() {
    let (hint, raw) = contents().remove(0);
    let (_, frame) = encode(&raw, &hint);
    assert!(references(&frame).unwrap().is_empty());
    let header = frame.len().min(HEADER_LEN_MAX);
    assert_eq!(references(&frame[..header]), references(&frame));
    // A method that does not use what it refers to is not one that an encoder writes.
    let mut other = frame.clone();
    other[1] |= 0x40;
    assert_eq!(references(&other).unwrap_err().kind(), ErrorKind::Corrupt);
}

/// Damage that leaves a frame well formed is found by its checks.
#[test]
fn other_content_than_was_coded_is_found_by_the_checks() {
    let raw = [1u8, 2, 3, 250].repeat(300);
    let (method, mut frame) = encode(&raw, &Hint::tensor(Dtype::U8, 0));
    assert!(method != Method::Raw);
    let at = frame.len() - 1;
    let mut found = 0;
    for bit in 0..8 {
        frame[at] ^= 1 << bit;
        let decoded = Decoder::new().decode(&frame, raw.len(), &mut Vec::new());
        found += usize::from(decoded.is_err_and(|e| e.kind() == ErrorKind::Corrupt));
        frame[at] ^= 1 << bit;
    }
    assert_eq!(found, 8);
}
