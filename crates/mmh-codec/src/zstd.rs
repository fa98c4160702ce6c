//! zstd contexts that are made once and reused, with errors in this crate's words.

use std::fmt;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::find_frame_compressed_size;

use crate::error::{Error, Result, corrupt};
use crate::log2::{ONE_BIT, entropy};

/// What a frame of RFC 8878 begins with; others are skipped by the library, or of its old formats.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Compresses with one level; the context costs about a megabyte and is made at the first use.
pub(crate) struct Packer {
    level: i32,
    context: Option<Compressor<'static>>,
}

impl Packer {
    pub(crate) fn new(level: i32) -> Self {
        Self {
            level,
            context: None,
        }
    }

    /// Writes the zstd frame of `raw` over `out`, whose old content is dropped.
    pub(crate) fn pack(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let context = match &mut self.context {
            Some(context) => context,
            none => none.insert(new_compressor(self.level)?),
        };
        out.clear();
        out.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        context
            .compress_to_buffer(raw, out)
            .map(|_| ())
            .map_err(fault)
    }
}

fn new_compressor(level: i32) -> Result<Compressor<'static>> {
    let mut context = Compressor::new(level).map_err(fault)?;
    context.include_checksum(false).map_err(fault)?;
    context.include_contentsize(false).map_err(fault)?;
    Ok(context)
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packer")
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

/// About what zstd adds to literals and their code, in bytes.
const OVERHEAD: u64 = 20;
/// When one word of 8 bytes in this many was seen before, there may be matches.
const REPEAT_SHARE: usize = 10;

/// Whether zstd may make `bytes` shorter than `limit`: by the frequencies of their values, of which
/// each takes a bit at least, or by matches.
pub(crate) fn may_pack(bytes: &[u8], limit: usize) -> bool {
    let mut counts = [0u32; 256];
    for &byte in bytes {
        counts[usize::from(byte)] += 1;
    }
    let literals = entropy(&counts).max(bytes.len() as u64 * ONE_BIT);
    // A code takes about half a byte for each kind.
    let kinds = counts.iter().filter(|&&count| count > 0).count() as u64;
    literals / ONE_BIT / 8 + kinds / 2 + OVERHEAD < limit as u64 || repeats(bytes)
}

/// Whether words of 8 bytes come again more often than weights do: rows that are equal or zero.
/// Of long content, every second to sixteenth page is looked at.
pub(crate) fn repeats(raw: &[u8]) -> bool {
    const SLOT_BITS: u32 = 12;
    const PAGE: usize = 16 << 10;
    let step = (raw.len() / PAGE / 8).clamp(1, 16);
    let mut seen = [0u64; 1 << SLOT_BITS];
    let (mut repeated, mut n) = (0, 0);
    for page in raw.chunks(PAGE).step_by(step) {
        let words = page.as_chunks::<8>().0;
        for word in words {
            let word = u64::from_le_bytes(*word);
            let slot = word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SLOT_BITS);
            let last = &mut seen[usize::try_from(slot).unwrap_or(0)];
            repeated += usize::from(*last == word);
            *last = word;
        }
        n += words.len();
    }
    repeated * REPEAT_SHARE > n
}

/// Decompresses; made at the first use.
#[derive(Default)]
pub(crate) struct Unpacker {
    context: Option<Decompressor<'static>>,
}

impl Unpacker {
    /// Fills `out` with the content of `frame`, which must have exactly that length. The library
    /// would take several frames for one, and so would hide bytes that are left over.
    pub(crate) fn unpack(&mut self, frame: &[u8], out: &mut [u8]) -> Result<()> {
        let alone = find_frame_compressed_size(frame) == Ok(frame.len());
        if !alone || !frame.starts_with(&MAGIC) {
            return corrupt("zstd content is not one frame");
        }
        let context = match &mut self.context {
            Some(context) => context,
            none => none.insert(Decompressor::new().map_err(fault)?),
        };
        match context.decompress_to_buffer(frame, out) {
            Ok(len) if len == out.len() => Ok(()),
            Ok(_) => corrupt("zstd content is shorter than stated"),
            Err(_) => corrupt("zstd content cannot be decoded"),
        }
    }
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unpacker")
    }
}

fn fault(error: std::io::Error) -> Error {
    Error::Zstd {
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use mmh_core::Dtype;

    use super::*;
    use crate::samples::{Noise, weights};

    #[test]
    fn repeats_are_told_from_weights() {
        let raw = weights(Dtype::BF16, 128, 1 << 18, 1);
        assert!(!repeats(&raw));
        assert!(repeats(&raw[..4096].repeat(64)));
        assert!(repeats(&[0; 4096]));
        let mut some_rows = raw;
        some_rows[..1 << 15].fill(0);
        assert!(repeats(&some_rows));
        assert!(!repeats(b"short"));
    }

    /// What has no matches is told by its values; what has them, by those.
    #[test]
    fn zstd_is_tried_where_it_may_pay() {
        let drawn = &mut Noise::new(3);
        let noise: Vec<u8> = (0..2000).map(|_| drawn.bits().to_le_bytes()[7]).collect();
        assert!(!may_pack(&noise, noise.len()));
        let small: Vec<u8> = noise.iter().map(|byte| byte & 7).collect();
        assert!(may_pack(&small, 1000) && !may_pack(&small, 700));
        assert!(may_pack(&[&noise[..], &noise[..]].concat(), 4000));
        assert!(!may_pack(&[], 0));
    }

    #[test]
    fn content_comes_back_only_at_its_exact_length() {
        let raw: Vec<u8> = (0..2000u32).map(|i| u8::try_from(i % 7).unwrap()).collect();
        let mut packed = Vec::new();
        let mut packer = Packer::new(3);
        packer.pack(&raw, &mut packed).unwrap();
        let again = packed.clone();
        packer.pack(&raw, &mut packed).unwrap();
        assert_eq!(packed, again, "a reused context writes the same bytes");
        let mut unpacker = Unpacker::default();
        let mut out = vec![0; raw.len()];
        unpacker.unpack(&packed, &mut out).unwrap();
        assert_eq!(out, raw);
        assert!(unpacker.unpack(&packed, &mut out[1..]).is_err());
        assert!(
            unpacker
                .unpack(&packed, &mut vec![0; raw.len() + 1])
                .is_err()
        );
        for cut in 0..packed.len() {
            assert!(
                unpacker.unpack(&packed[..cut], &mut out).is_err(),
                "cut at {cut}"
            );
        }
    }
}
