//! Shards: what files are made of, and what xorbs.
//!
//! Specification, "Shard Format": a head of 48 bytes, records of 48 bytes in two sections, each ended
//! by a record of ones; behind them, where a shard is kept and not sent, tables to look things up and
//! a footer of 200 bytes. Sections are read in order, so the tables are not needed.

mod read;
mod write;

use std::ops::Range;

use crate::error::{Error, Result};
use crate::hash::XetHash;
use crate::merkle::{Leaf, Tree, range_hash, xorb_hash};

/// Longest shard in bytes.
pub const SHARD_LEN_MAX: usize = 64 << 20;
/// Most chunks of one file: at 64 KiB each, 4 TiB.
const FILE_CHUNKS_MAX: u64 = 1 << 26;

/// Bytes of every record, and of the head.
const RECORD_LEN: usize = 48;
/// Bytes of the footer.
const FOOTER_LEN: usize = 200;
/// What a shard begins with.
const TAG: &[u8; 32] =
    b"HFRepoMetaData\0\x55\x69\x67\x45\x6a\x7b\x81\x57\x83\xa5\xbd\xd9\x5c\xcd\xd1\x4a\xa9";
const HEAD_VERSION: u64 = 2;
const FOOTER_VERSION: u64 = 1;
/// In place of a hash: a section ends.
const END: XetHash = XetHash::from_bytes([0xff; 32]);
/// Flag of a file: its segments have hashes over their chunks.
const WITH_RANGES: u32 = 1 << 31;
/// Flag of a file: it has a SHA-256.
const WITH_SHA256: u32 = 1 << 30;
/// Flag of a chunk: clients may ask for it.
const SHARED: u32 = 1 << 31;

/// A shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shard {
    /// Files, by the order of their hashes when written.
    pub files: Vec<FileInfo>,
    /// Xorbs, likewise.
    pub xorbs: Vec<XorbInfo>,
    /// Of a shard that is kept: until when.
    pub validity: Option<Validity>,
}

/// How long what a shard says may be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// When it was made, in seconds since 1970.
    pub created_s: u64,
    /// When it ends, in seconds since 1970; all ones for never.
    pub expires_s: u64,
}

/// What a file is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// Its hash.
    pub hash: XetHash,
    /// Runs of chunks, in order.
    pub segments: Vec<Segment>,
    /// The plain SHA-256 of its content.
    pub sha256: Option<[u8; 32]>,
}

/// A run of chunks of one xorb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The xorb.
    pub xorb: XetHash,
    /// Its chunks.
    pub chunks: Range<u32>,
    /// Their raw length in bytes.
    pub raw_len: u32,
    /// The hash over the hashes of the chunks: files have it of all segments or of none.
    pub range_hash: Option<XetHash>,
}

/// What a xorb is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XorbInfo {
    /// Its hash.
    pub hash: XetHash,
    /// Its chunks, in order.
    pub chunks: Vec<Chunk>,
    /// Its length in bytes as it was sent; 0 if that is not known.
    pub packed_len: u32,
}

/// A chunk of a xorb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Its hash.
    pub hash: XetHash,
    /// Its raw length in bytes.
    pub raw_len: u32,
    /// Whether it is marked as one that clients may ask for.
    pub shared: bool,
}

impl FileInfo {
    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.segments.iter().map(|s| u64::from(s.raw_len)).sum()
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Holds all that is said of it against the chunks of its xorbs, which `leaves` knows.
    ///
    /// # Errors
    /// Malformed for chunks that are not there, lengths that do not add up, or too many chunks;
    /// WrongHash; those of `leaves`.
    pub fn verify<'a>(&self, leaves: &dyn Fn(&XetHash) -> Result<&'a [Leaf]>) -> Result<()> {
        let (mut tree, mut n_chunks) = (Tree::default(), 0u64);
        for segment in &self.segments {
            let run = segment.run(leaves(&segment.xorb)?)?;
            n_chunks += run.len() as u64;
            if n_chunks > FILE_CHUNKS_MAX {
                let reason = format!("a file has more than {FILE_CHUNKS_MAX} chunks");
                return Err(Error::malformed("shard", reason));
            }
            run.iter().for_each(|leaf| tree.push(*leaf));
        }
        compare("file", self.hash, tree.file_hash())
    }
}

impl Segment {
    /// Its chunks among those of its xorb, compared with what is said of them.
    ///
    /// # Errors
    /// Malformed for chunks that are not there or have another length; WrongHash.
    pub fn run<'a>(&self, leaves: &'a [Leaf]) -> Result<&'a [Leaf]> {
        let bad = |what: &str| {
            let (Range { start, end }, xorb) = (&self.chunks, self.xorb);
            let reason = format!("chunks {start} to {end} of xorb {xorb} {what}");
            Error::malformed("shard", reason)
        };
        let run = leaves.get(self.chunks.start as usize..self.chunks.end as usize);
        let run = run.ok_or_else(|| bad("are not there"))?;
        if run.iter().map(|leaf| leaf.1).sum::<u64>() != u64::from(self.raw_len) {
            return Err(bad("have another length"));
        }
        if let Some(claimed) = self.range_hash {
            compare("range", claimed, range_hash(run.iter().map(|leaf| &leaf.0)))?;
        }
        Ok(run)
    }
}

impl XorbInfo {
    /// Its chunks with their lengths.
    #[must_use]
    pub fn leaves(&self) -> Vec<Leaf> {
        let leaf = |chunk: &Chunk| (chunk.hash, u64::from(chunk.raw_len));
        self.chunks.iter().map(leaf).collect()
    }

    /// Compares its hash with that of the chunks it names.
    ///
    /// # Errors
    /// WrongHash.
    pub fn verify(&self) -> Result<()> {
        compare("xorb", self.hash, xorb_hash(&self.leaves()))
    }
}

fn compare(what: &'static str, claimed: XetHash, actual: XetHash) -> Result<()> {
    if claimed == actual {
        return Ok(());
    }
    Err(Error::WrongHash {
        what,
        claimed,
        actual,
    })
}

#[cfg(test)]
mod tests;
