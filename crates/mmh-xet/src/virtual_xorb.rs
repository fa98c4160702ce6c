//! A xorb that is not stored: what its bytes would be if every chunk were in it as it is.
//!
//! Clients fetch ranges of bytes of xorbs. Only lengths are kept of them; a range is answered with
//! heads, which follow from the lengths, and raw bytes, which come from wherever they are stored.

use std::ops::Range;

use mmh_core::ByteRange;

use crate::chunker::CHUNK_LEN_MAX;
use crate::error::{Error, Result};
use crate::scheme::Scheme;
use crate::xorb::{HEAD_LEN, XORB_CHUNKS_MAX, XORB_LEN_MAX, head};

/// The lengths of a xorb's chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualXorb {
    /// Where each chunk begins in the raw bytes, and where the last one ends.
    starts: Vec<u32>,
}

/// A piece of a virtual xorb's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the head of a chunk.
    Head(Vec<u8>),
    /// A range of the raw bytes of all chunks, one after the other.
    Raw(ByteRange),
}

impl VirtualXorb {
    /// A xorb of chunks with these raw lengths in bytes.
    ///
    /// # Errors
    /// Malformed for none, too many, too long or empty ones.
    pub fn new(lens: impl IntoIterator<Item = u32>) -> Result<Self> {
        let bad = |reason: &str| Error::malformed("xorb", reason);
        let (mut starts, mut end) = (vec![0], 0usize);
        for len in lens {
            if len == 0 || len as usize > CHUNK_LEN_MAX {
                return Err(bad("a chunk is empty or too long"));
            }
            end += len as usize;
            if end > XORB_LEN_MAX || starts.len() > XORB_CHUNKS_MAX {
                return Err(bad("it is too long"));
            }
            starts.push(u32::try_from(end).map_err(|_| bad("it is too long"))?);
        }
        match starts.len() {
            1 => Err(bad("it has no chunk")),
            _ => Ok(Self { starts }),
        }
    }

    /// The number of chunks.
    #[must_use]
    pub fn n_chunks(&self) -> u32 {
        u32::try_from(self.starts.len() - 1).expect("at most 8192")
    }

    /// Its length in bytes, heads included.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> u64 {
        self.start_of(self.n_chunks() as usize)
    }

    /// The raw bytes of a run of chunks.
    ///
    /// # Errors
    /// Malformed for a run that is empty or not in it.
    pub fn raw(&self, chunks: &Range<u32>) -> Result<ByteRange> {
        let at = |i: u32| self.starts.get(i as usize).copied().map(u64::from);
        match (at(chunks.start), at(chunks.end)) {
            (Some(start), Some(end)) if start < end => Ok(ByteRange { start, end }),
            _ => Err(Error::malformed(
                "reference to a xorb",
                format!("it has no chunks {} to {}", chunks.start, chunks.end),
            )),
        }
    }

    /// The bytes of a run of chunks, heads included.
    ///
    /// # Errors
    /// As [`Self::raw`].
    pub fn bytes(&self, chunks: &Range<u32>) -> Result<ByteRange> {
        self.raw(chunks)?;
        Ok(ByteRange {
            start: self.start_of(chunks.start as usize),
            end: self.start_of(chunks.end as usize),
        })
    }

    /// The chunk that a raw byte lies in.
    pub(crate) fn chunk_at(&self, raw: u64) -> u32 {
        let after = self
            .starts
            .partition_point(|start| u64::from(*start) <= raw);
        u32::try_from(after.saturating_sub(1)).expect("at most 8192")
    }

    /// What a range of its bytes is made of, in order.
    ///
    /// # Errors
    /// Malformed for a range that is not in it.
    pub fn pieces(&self, range: ByteRange) -> Result<Vec<Piece>> {
        let range = range
            .within(self.len())
            .map_err(|error| Error::malformed("range of a xorb", error.to_string()))?;
        let mut pieces = Vec::new();
        let mut chunk = self.first_within(range.start);
        while self.start_of(chunk) < range.end
            && let Some([start, end]) = self.starts.get(chunk..chunk + 2)
        {
            let head_at = self.start_of(chunk);
            let raw_at = head_at + HEAD_LEN as u64;
            let head = head(Scheme::None, end - start, end - start);
            let [from, upto] =
                [range.start, range.end].map(|at| at.clamp(head_at, raw_at) - head_at);
            let part = usize::try_from(from).ok().zip(usize::try_from(upto).ok());
            if let Some(part) = part.and_then(|(from, upto)| head.get(from..upto))
                && !part.is_empty()
            {
                pieces.push(Piece::Head(part.to_vec()));
            }
            let [start, end] = [range.start, range.end].map(|at| {
                let within = at.saturating_sub(raw_at).min(u64::from(end - start));
                u64::from(*start) + within
            });
            if start < end {
                pieces.push(Piece::Raw(ByteRange { start, end }));
            }
            chunk += 1;
        }
        Ok(pieces)
    }

    /// Where the head of a chunk begins; the end, for the one after the last.
    fn start_of(&self, chunk: usize) -> u64 {
        let raw = self.starts.get(chunk).copied().map_or(0, u64::from);
        raw + (chunk * HEAD_LEN) as u64
    }

    /// The chunk whose head or content has this byte.
    fn first_within(&self, at: u64) -> usize {
        let (mut low, mut high) = (0, self.starts.len());
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            match self.start_of(middle) <= at {
                true => low = middle,
                false => high = middle,
            }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::xorb::XorbWriter;

    #[test]
    fn limits_hold() {
        VirtualXorb::new([]).unwrap_err();
        VirtualXorb::new([0]).unwrap_err();
        VirtualXorb::new([(128 << 10) + 1]).unwrap_err();
        assert_eq!(VirtualXorb::new([1; 8192]).unwrap().n_chunks(), 8192);
        VirtualXorb::new([1; 8193]).unwrap_err();
        VirtualXorb::new([128 << 10; 512]).unwrap();
        VirtualXorb::new([128 << 10; 513]).unwrap_err();
    }

    #[test]
    fn runs_have_ranges() {
        let xorb = VirtualXorb::new([10, 20, 30]).unwrap();
        assert_eq!(xorb.raw(&(1..3)).unwrap(), ByteRange { start: 10, end: 60 });
        assert_eq!(
            xorb.bytes(&(1..3)).unwrap(),
            ByteRange { start: 18, end: 84 }
        );
        assert_eq!(xorb.len(), 84);
        #[allow(clippy::reversed_empty_ranges, reason = "hostile clients send them")]
        for bad in [1..1, 2..1, 0..4, 4..5, 0..u32::MAX] {
            xorb.raw(&bad).unwrap_err();
            xorb.bytes(&bad).unwrap_err();
        }
        assert_eq!([0, 9, 10, 59].map(|at| xorb.chunk_at(at)), [0, 0, 1, 2]);
        xorb.pieces(ByteRange { start: 0, end: 85 }).unwrap_err();
        assert_eq!(xorb.pieces(ByteRange { start: 84, end: 84 }).unwrap(), []);
    }

    proptest! {
        /// Pieces of any range are the bytes that a real xorb with the same chunks has there.
        #[test]
        fn pieces_are_bytes_of_the_real_one(
            lens in prop::collection::vec(1u32..40, 1..20),
            cuts in prop::array::uniform2(0u64..900),
        ) {
            let xorb = VirtualXorb::new(lens.clone()).unwrap();
            let (mut writer, mut raw) = (XorbWriter::default(), Vec::new());
            for (i, len) in (0u8..).zip(&lens) {
                let chunk = vec![i; *len as usize];
                prop_assert!(writer.push(&chunk, Scheme::None));
                raw.extend(chunk);
            }
            let (_, real) = writer.finish(false);
            prop_assert_eq!(xorb.len(), real.len() as u64);
            let [a, b] = cuts.map(|at| at % (xorb.len() + 1));
            let (start, end) = (a.min(b), a.max(b));
            let (mut made, at) = (Vec::new(), |n: u64| usize::try_from(n).unwrap());
            for piece in xorb.pieces(ByteRange { start, end }).unwrap() {
                match piece {
                    Piece::Head(bytes) => made.extend(bytes),
                    Piece::Raw(r) => made.extend(&raw[at(r.start)..at(r.end)]),
                }
            }
            prop_assert_eq!(&made, &real[at(start)..at(end)]);
        }
    }
}
