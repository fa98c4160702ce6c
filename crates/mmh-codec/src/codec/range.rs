//! A part of a frame's content, decoded without the blocks that it does not need.

use std::ops::Range;

use mmh_core::limits::CHUNK_LEN_MAX;

use super::{Decoder, find};
use crate::body::read_part;
use crate::delta::read_delta;
use crate::error::{Error, Result};
use crate::frame::{CHECK_LEN, Header, Method, compare_checks, read_checks};
use crate::input::Input;
use crate::plane::PlaneDecoder;
use crate::settings::{Base, Context};

impl Decoder {
    /// Replaces the content of `out` with the bytes `range` of the content of `frame`. When it fails,
    /// `out` is empty.
    ///
    /// Of floats, deltas, and quantised weights in blocks, only the parts are decoded that have these bytes,
    /// each of [`crate::BLOCK_LEN`] numbers, and only the checks of these bytes are compared: several
    /// threads may share a frame, each with a decoder and a range of its own. Of other content all
    /// is decoded.
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
        let by_parts = matches!(header.method, Method::Float | Method::Block | Method::Delta);
        let start = if by_parts && header.raw_len <= CHUNK_LEN_MAX {
            let base = find("base", header.references.base, context.base)?;
            self.part((&header, base), input, &range, out)?
        } else {
            self.decode_into(frame, context, CHUNK_LEN_MAX, out)?;
            0
        };
        out.truncate(range.end - start);
        out.drain(..range.start - start);
        Ok(())
    }

    /// Decodes what has the range, and says where in the content that begins.
    fn part(
        &mut self,
        (
            &Header {
                method, raw_len, ..
            },
            base,
        ): (&Header, Option<Base<'_>>),
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
        let body = input.finish();
        let start = if let Some(base) = base {
            let part = (raw_len, checked.clone());
            read_delta(&mut decoder, body, base.raw, part, out)?
        } else {
            read_part(&mut decoder, (method, body), raw_len, &checked, out)?
        };
        let part = &out[checked.start - start..checked.end - start];
        compare_checks(part, &checks[first..], &self.engine.kernels())?;
        Ok(start)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use mmh_core::{Dtype, ErrorKind};

    use super::*;
    use crate::entropy::{Classes, DecodeSet, EncodeSet, Engine, Reference};
    use crate::samples::{quantised, weights};
    use crate::{BLOCK_LEN, Encoder, Hint, Settings};

    fn frame_of(dtype: Dtype, raw: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        let mut encoder = Encoder::new(Settings::default());
        let hint = Hint::tensor(dtype, 512);
        let method = encoder.encode(raw, &hint, &mut frame).unwrap();
        assert!(matches!(method, Method::Float | Method::Block));
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
        let floats = weights(Dtype::BF16, 512, 8 * BLOCK_LEN - 5, 3);
        // Two scales before each 32 codes; the last part has the rest.
        let blocks = quantised(Dtype::Q4_0, 4 * BLOCK_LEN / 32 - 5, 3);
        for (dtype, raw, block) in [
            (Dtype::BF16, floats, 2 * BLOCK_LEN),
            (Dtype::Q4_0, blocks, BLOCK_LEN / 32 * 18),
        ] {
            costs_its_blocks(&DECODED, &Counting, (dtype, &raw), block);
        }
    }

    fn costs_its_blocks(
        decoded: &AtomicUsize,
        counting: &'static dyn Engine,
        (dtype, raw): (Dtype, &[u8]),
        block: usize,
    ) {
        let frame = frame_of(dtype, raw);
        let mut decoder = Decoder {
            engine: counting,
            ..Decoder::default()
        };
        let mut out = Vec::new();
        let mut blocks_of = |range: Range<usize>| {
            let context = Context::default();
            decoder
                .decode_range(&frame, &context, range.clone(), &mut out)
                .unwrap();
            assert!(out == raw[range]);
            decoded.swap(0, Ordering::Relaxed)
        };
        // A check covers bytes of its own, of which blocks may have parts.
        let checks = |range: Range<usize>| {
            let end = range.end.next_multiple_of(CHECK_LEN).min(raw.len());
            let blocks = range.start / CHECK_LEN * CHECK_LEN / block..end.div_ceil(block);
            blocks.len().min(4)
        };
        // What stands before the blocks, if it is coded at all, is always decoded.
        let others = blocks_of(3..3) - checks(3..3);
        for range in [
            5..6,
            block - 1..block,
            block - 1..block + 1,
            raw.len() - 1..raw.len(),
            0..raw.len(),
        ] {
            assert_eq!(
                blocks_of(range.clone()),
                others + checks(range.clone()),
                "{dtype} {range:?}"
            );
        }
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
