//! zstd contexts that are made once and reused, with errors in this crate's words.

use std::fmt;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::find_frame_compressed_size;

use crate::error::{Error, Result, corrupt};

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
    use super::*;

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
