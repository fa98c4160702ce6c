//! Writing chunks into packs.

use mmh_core::ChunkId;

use crate::chunk::ChunkSink;
use crate::error::{Error, Result};

/// What recovery found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Packs made from what died writers had staged.
    pub salvaged_packs: u64,
    /// Chunks in them.
    pub salvaged_chunks: u64,
    /// Packs that were published but not indexed.
    pub adopted_packs: u64,
}

/// Stores chunks. Many threads may put at once.
#[derive(Debug)]
pub struct Writer {}

impl Writer {
    /// Returns when everything that was put is on the disk and indexed.
    ///
    /// # Errors
    /// Unavailable; what an earlier flush acknowledged stays safe.
    pub fn flush(&self) -> Result<()> {
        Err(Error::Internal {
            what: "not there yet".to_owned(),
        })
    }

    /// Flushes and ends the writer.
    ///
    /// # Errors
    /// Those of [`Writer::flush`].
    pub fn finish(self) -> Result<()> {
        self.flush()
    }
}

impl ChunkSink for Writer {
    fn contains(&self, _id: &ChunkId) -> Result<bool> {
        Err(Error::Internal {
            what: "not there yet".to_owned(),
        })
    }

    fn put(&self, _id: ChunkId, _raw_len: u32, _frame: &[u8]) -> Result<bool> {
        Err(Error::Internal {
            what: "not there yet".to_owned(),
        })
    }
}
