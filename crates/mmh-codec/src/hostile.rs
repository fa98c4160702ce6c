//! What the codec must withstand: any content, any frame. The bodies are meant for tests and
//! fuzz targets alike.

use mmh_core::{Dtype, ErrorKind};

use crate::{
    Context, Decoder, Encoder, Error, FRAME_OVERHEAD_MAX, Hint, Level, Settings, frame_info,
};

/// The most content that [`fuzz_frame`] accepts of a frame.
pub const FUZZ_RAW_LEN_MAX: usize = 1 << 16;

/// Decodes `bytes` as a frame. An error is as good an answer as content, but not one that blames
/// ourselves, and neither may exceed the limit.
///
/// # Panics
/// If the promise is broken: that is its purpose.
pub fn fuzz_frame(bytes: &[u8]) {
    let mut out = vec![1, 2, 3];
    match Decoder::new().decode(bytes, FUZZ_RAW_LEN_MAX, &mut out) {
        Ok(()) => {
            let info = frame_info(bytes).expect("a frame that decodes can be described");
            assert_eq!(info.raw_len, out.len(), "content is as long as stated");
        }
        Err(Error::Corrupt { .. } | Error::FrameTooLarge { .. }) => assert!(out.is_empty()),
        Err(Error::UnknownVersion { .. } | Error::UnknownCode { .. }) => assert!(out.is_empty()),
        Err(Error::MissingReference { .. }) => assert!(out.is_empty()),
        Err(error) => panic!("{error}"),
    }
    // Also where decoding fails, the description may not panic.
    drop(frame_info(bytes));
    fuzz_range(bytes, &out);
}

/// Decodes parts of a frame whose whole content is `whole`, or that has none if that is empty.
fn fuzz_range(bytes: &[u8], whole: &[u8]) {
    let places = [0, 1, whole.len() / 3, whole.len()];
    let mut part = vec![1];
    for range in places.windows(2).map(|pair| pair[0]..pair[1].max(pair[0])) {
        let context = Context::default();
        match Decoder::new().decode_range(bytes, &context, range.clone(), &mut part) {
            // A part may be whole where the rest is damaged.
            Ok(()) => assert!(whole.is_empty() || part == whole[range]),
            Err(error) => {
                assert!(part.is_empty() && whole.is_empty(), "{error}");
                assert!(error.kind() != ErrorKind::Internal, "{error}");
            }
        }
    }
}

/// Encodes content with a hint that its first bytes make up, and decodes it again.
///
/// # Panics
/// If the content does not come back, or the frame is too long.
pub fn fuzz_round_trip(bytes: &[u8]) {
    let Some((&[kind, row, first, level], raw)) = bytes.split_first_chunk::<4>() else {
        return;
    };
    let dtype = Dtype::ALL
        .get(usize::from(kind) % (Dtype::ALL.len() + 1))
        .copied();
    let row_len = [0, u64::from(row), 64 * u64::from(row), u64::MAX][usize::from(level / 4) % 4];
    let hint = Hint {
        dtype,
        row_len,
        first: u64::from(first) << (row % 40),
    };
    let level = Level::ALL[usize::from(level) % Level::ALL.len()];
    let mut frame = Vec::new();
    let mut encoder = Encoder::new(Settings {
        level,
        verify: true,
    });
    let method = encoder
        .encode(raw, &hint, &mut frame)
        .expect("any content can be encoded");
    assert!(
        frame.len() <= raw.len() + FRAME_OVERHEAD_MAX,
        "{method}, {hint:?}"
    );
    let mut back = Vec::new();
    Decoder::new()
        .decode(&frame, raw.len(), &mut back)
        .expect("a frame can be decoded");
    assert_eq!(back, raw, "{method}, {hint:?}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::samples::weights;

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            fuzz_frame(&bytes);
            // Most noise fails at the first byte; look behind the header too.
            for (method, layout) in [(1, 0), (2, 0), (2, 2), (3, 16), (3, 18), (4, 70), (4, 76), (6, 0)] {
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
