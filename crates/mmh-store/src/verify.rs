//! Checking everything, and making the index anew.

use mmh_core::{ChunkId, PackId};

/// How much is checked.
#[derive(Debug, Clone, Copy)]
pub struct VerifyOptions {
    /// Whether every frame is decoded and compared with its id; else only checksums are compared.
    pub decode: bool,
    /// Packs that are checked at the same time; each costs up to 24 MiB of memory.
    pub parallel: usize,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            decode: true,
            parallel: 2,
        }
    }
}

/// One damaged place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The object's name: pack, index run, log entry, checkpoint, ref.
    pub object: String,
    /// The pack, if it is one.
    pub pack: Option<PackId>,
    /// Offset in bytes, if it is known.
    pub offset: Option<u64>,
    /// The chunk that is hit, if it is known.
    pub chunk: Option<ChunkId>,
    /// What does not hold.
    pub reason: String,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// Packs read.
    pub packs: u64,
    /// Records read.
    pub chunks: u64,
    /// Bytes of the packs.
    pub stored_bytes: u64,
    /// Bytes of the chunks.
    pub raw_bytes: u64,
    /// Log entries read.
    pub operations: u64,
    /// Everything that does not hold.
    pub damage: Vec<Damage>,
    /// Packs that an index run names and that are not there.
    pub missing_packs: Vec<PackId>,
    /// Packs that no index run names: harmless, the next writer adopts them.
    pub unindexed_packs: Vec<PackId>,
}

impl VerifyReport {
    /// Whether nothing is damaged or missing.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty() && self.missing_packs.is_empty()
    }
}

/// How the index is made anew.
#[derive(Debug, Clone, Copy, Default)]
pub struct RebuildOptions {
    /// Go on although packs that the old index names are not listed.
    pub accept_missing: bool,
}

/// What a rebuilt index holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RebuildReport {
    /// Packs read.
    pub packs: u64,
    /// Packs whose footer was damaged and whose records were scanned instead.
    pub scanned_packs: Vec<PackId>,
    /// Packs that gave nothing.
    pub lost_packs: Vec<PackId>,
    /// Packs that the old index named and that are not there.
    pub missing_packs: Vec<PackId>,
    /// Chunks found.
    pub chunks: u64,
}
