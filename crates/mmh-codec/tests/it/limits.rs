//! Limits: what may be encoded, what a decoder accepts, what it allocates.

use mmh_codec::{Decoder, Encoder, Error, FRAME_VERSION, Hint, Method, Settings};
use mmh_core::ErrorKind;
use mmh_core::limits::CHUNK_LEN_MAX;

use crate::{encode, info};

#[test]
fn the_longest_chunk_is_accepted_and_no_longer_one() {
    let raw = vec![0; CHUNK_LEN_MAX + 1];
    let (method, frame) = encode(&raw[1..], &Hint::bytes());
    assert_eq!(method, Method::Zstd);
    assert!(frame.len() < 1000);
    let error = Encoder::new(Settings::default())
        .encode(&raw, &Hint::bytes(), &mut Vec::new())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

/// The caller's limit counts before anything is allocated, and the format's limit counts too.
#[test]
fn a_frame_that_states_too_much_is_refused() {
    let (_, frame) = encode(&[5; 1000], &Hint::bytes());
    let error = Decoder::new()
        .decode(&frame, 999, &mut Vec::new())
        .unwrap_err();
    assert_eq!(
        error,
        Error::FrameTooLarge {
            raw_len: 1000,
            limit: 999
        }
    );
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    for method in Method::ALL {
        let refers = u8::from(method == Method::Delta) << 6;
        let head = [FRAME_VERSION, method.code() | refers];
        let huge = [&head[..], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0; 34]].concat();
        let error = Decoder::new()
            .decode(&huge, usize::MAX, &mut Vec::new())
            .unwrap_err();
        let limit = CHUNK_LEN_MAX as u64;
        assert_eq!(
            error,
            Error::FrameTooLarge {
                raw_len: u32::MAX.into(),
                limit
            }
        );
    }
}

#[test]
fn newer_versions_and_methods_are_unsupported_not_corrupt() {
    let decode = |frame: &[u8]| {
        Decoder::new()
            .decode(frame, 10, &mut Vec::new())
            .unwrap_err()
    };
    assert_eq!(
        decode(&[2, 0, 0]),
        Error::UnknownVersion {
            found: 2,
            newest: 1
        }
    );
    for code in 0..=u8::MAX {
        let error = decode(&[FRAME_VERSION, code, 5]);
        let method = Method::ALL.iter().any(|method| method.code() == code % 32);
        let known = method && code & 0xa0 == 0; // bits that are reserved
        let expected = if known {
            ErrorKind::Corrupt
        } else {
            ErrorKind::Unsupported
        };
        assert_eq!(error.kind(), expected, "{code}");
    }
    assert_eq!(decode(&[]).kind(), ErrorKind::Corrupt);
}

/// The codes are part of the format.
#[test]
fn method_codes_never_change() {
    let codes: Vec<_> = Method::ALL.iter().map(|m| (m.code(), m.as_str())).collect();
    assert_eq!(
        codes,
        [
            (0, "raw"),
            (1, "zstd"),
            (2, "float"),
            (3, "integer"),
            (4, "block"),
            (5, "delta"),
            (6, "mixed")
        ]
    );
}

#[test]
fn an_empty_chunk_is_three_bytes() {
    let (method, frame) = encode(&[], &Hint::bytes());
    assert_eq!(
        (method, &frame[..]),
        (Method::Raw, &[FRAME_VERSION, 0, 0][..])
    );
    assert_eq!(info(&frame).raw_len, 0);
}
