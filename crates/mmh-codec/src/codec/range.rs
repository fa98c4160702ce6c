//! A part of a frame's content, decoded without the blocks that it does not need.

use std::ops::Range;

use mmh_core::limits::CHUNK_LEN_MAX;

use super::Decoder;
use crate::body::read_part;
use crate::error::{Error, Result};
use crate::frame::{CHECK_LEN, Header, Method, compare_checks, read_checks};
use crate::input::Input;
use crate::plane::PlaneDecoder;
use crate::settings::Context;

impl Decoder {
    /// Replaces the content of `out` with the bytes `range` of the content of `frame`. When it fails,
    /// `out` is empty.
    ///
    /// Of floats only the blocks are decoded that have these bytes, each of [`crate::BLOCK_LEN`]
    /// numbers, and only the checks of these bytes are compared: several threads may share a frame,
    /// each with a decoder and a range of its own. Of other content all is decoded.
    ///
    /// # Errors
    /// As [`Self::decode_with`]; Invalid when the content does not have the range.
    pub fn decode_range(
        &mut self,
        frame: &[u8],
        context: &Context<'_>,
        range: Range<usize>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let result = self.range_into(frame, context, range, out);
        if result.is_err() {
            out.clear();
        }
        result
    }

    fn range_into(
        &mut self,
        frame: &[u8],
        context: &Context<'_>,
        range: Range<usize>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let mut input = Input::new(frame);
        let header = Header::read(&mut input)?;
        if range.start > range.end || range.end > header.raw_len {
            return Err(Error::RangeOutside {
                start: range.start as u64,
                end: range.end as u64,
                raw_len: header.raw_len as u64,
            });
        }
        let start = if header.method == Method::Float && header.raw_len <= CHUNK_LEN_MAX {
            self.float_part(header.raw_len, input, &range, out)?
        } else {
            self.decode_into(frame, context, CHUNK_LEN_MAX, out)?;
            0
        };
        out.truncate(range.end - start);
        out.drain(..range.start - start);
        Ok(())
    }

    /// Decodes what has the range, and says where in the content that begins.
    fn float_part(
        &mut self,
        raw_len: usize,
        mut input: Input<'_>,
        range: &Range<usize>,
        out: &mut Vec<u8>,
    ) -> Result<usize> {
        let checks = read_checks(raw_len, &mut input)?;
        let first = range.start / CHECK_LEN;
        let checked = first * CHECK_LEN..range.end.next_multiple_of(CHECK_LEN).min(raw_len);
        let mut decoder = PlaneDecoder {
            engine: self.engine,
            unpacker: &mut self.unpacker,
            buffers: &mut self.buffers,
        };
        let body = (Method::Float, input.finish());
        let found = read_part(&mut decoder, body, raw_len, &checked, out)?;
        let part = &out[checked.start - found.start..checked.end - found.start];
        compare_checks(part, &checks[first..])?;
        Ok(found.start)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use mmh_core::{Dtype, ErrorKind};

    use super::*;
    use crate::entropy::{Classes, DecodeSet, EncodeSet, Engine, Reference};
    use crate::samples::weights;
    use crate::{BLOCK_LEN, Encoder, Hint, Settings};

    fn frame_of(dtype: Dtype, raw: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        let mut encoder = Encoder::new(Settings::default());
        let hint = Hint::tensor(dtype, 512);
        let method = encoder.encode(raw, &hint, &mut frame).unwrap();
        assert_eq!(method, Method::Float);
        frame
    }

    /// Blocks are counted as they are decoded: a range costs those that it touches.
    #[test]
    fn only_the_blocks_that_are_needed_are_decoded() {
        static DECODED: AtomicUsize = AtomicUsize::new(0);
        #[derive(Debug)]
        struct Counting;
        impl Engine for Counting {
            fn name(&self) -> &'static str {
                "counting"
            }
            fn encode(
                &self,
                set: &EncodeSet,
                classes: Classes<'_>,
                symbols: &[u8],
                out: &mut Vec<u8>,
            ) -> Result<()> {
                Reference.encode(set, classes, symbols, out)
            }
            fn decode(
                &self,
                set: &DecodeSet,
                classes: Classes<'_>,
                block: &[u8],
                symbols: &mut [u8],
            ) -> Result<()> {
                DECODED.fetch_add(1, Ordering::Relaxed);
                Reference.decode(set, classes, block, symbols)
            }
        }
        let raw = weights(Dtype::BF16, 512, 8 * BLOCK_LEN - 5, 3);
        let (frame, block) = (frame_of(Dtype::BF16, &raw), 2 * BLOCK_LEN);
        let mut decoder = Decoder {
            engine: &Counting,
            ..Decoder::default()
        };
        let mut out = Vec::new();
        let mut blocks_of = |range: Range<usize>| {
            let context = Context::default();
            decoder
                .decode_range(&frame, &context, range.clone(), &mut out)
                .unwrap();
            assert!(out == raw[range]);
            DECODED.swap(0, Ordering::Relaxed)
        };
        assert_eq!(blocks_of(5..6), 1);
        assert_eq!(blocks_of(block - 1..block), 1);
        assert_eq!(blocks_of(block - 1..block + 1), 2);
        assert_eq!(blocks_of(raw.len() - 1..raw.len()), 1, "the tail");
        assert_eq!(blocks_of(0..raw.len()), 4);
        assert_eq!(blocks_of(3..3), 1);
    }

    /// What the range does not touch may be damaged; what it touches may not.
    #[test]
    fn the_checks_of_a_range_are_compared() {
        let raw = weights(Dtype::F32, 512, 8 * BLOCK_LEN, 4);
        let mut frame = frame_of(Dtype::F32, &raw);
        let at = frame.len() - 3;
        frame[at] ^= 0x40;
        let (mut decoder, mut out) = (Decoder::new(), vec![1]);
        let context = Context::default();
        let end = raw.len();
        decoder
            .decode_range(&frame, &context, 100..end / 2, &mut out)
            .unwrap();
        assert!(out == raw[100..end / 2]);
        let last = decoder.decode_range(&frame, &context, end - 9..end - 7, &mut out);
        assert_eq!(last.unwrap_err().kind(), ErrorKind::Corrupt);
        assert!(out.is_empty());
    }

    #[test]
    fn ranges_that_are_not_there_are_refused() {
        let raw = weights(Dtype::F16, 512, 9000, 5);
        let frame = frame_of(Dtype::F16, &raw);
        let (mut decoder, mut out) = (Decoder::new(), vec![1]);
        #[allow(clippy::reversed_empty_ranges, reason = "that is what is refused")]
        let ranges = [
            0..raw.len() + 1,
            5..4,
            raw.len() + 1..raw.len() + 1,
            0..usize::MAX,
        ];
        for range in ranges {
            let result = decoder.decode_range(&frame, &Context::default(), range, &mut out);
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Invalid);
            assert!(out.is_empty());
        }
    }
}
