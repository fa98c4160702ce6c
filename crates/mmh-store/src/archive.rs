//! The archive: one portable file that holds chunks, their index and named roots.

use std::path::Path;

use bytes::Bytes;
use mmh_core::name::RefName;
use mmh_core::{ChunkId, SnapshotId, Verified};

use crate::chunk::{ChunkInfo, ChunkSink, ChunkSource};
use crate::error::{Error, Result};

fn unfinished<T>() -> Result<T> {
    Err(Error::Internal {
        what: "not there yet".to_owned(),
    })
}

/// Writes an archive. Nothing appears under the final name before [`ArchiveWriter::finish`].
#[derive(Debug)]
pub struct ArchiveWriter {}

impl ArchiveWriter {
    /// Begins the archive that will be `path`.
    ///
    /// # Errors
    /// Denied; Unavailable.
    pub fn create(_path: &Path) -> Result<Self> {
        unfinished()
    }

    /// Names the roots, syncs, and gives the file its final name, replacing what is there.
    /// Returns the file's length in bytes.
    ///
    /// # Errors
    /// Unavailable; Denied.
    pub fn finish(self, _refs: &[(RefName, SnapshotId)]) -> Result<u64> {
        unfinished()
    }
}

impl ChunkSink for ArchiveWriter {
    fn contains(&self, _id: &ChunkId) -> Result<bool> {
        unfinished()
    }

    fn put(&self, _id: ChunkId, _raw_len: u32, _frame: &[u8]) -> Result<bool> {
        unfinished()
    }
}

/// Reads an archive.
#[derive(Debug)]
pub struct Archive {
    refs: Vec<(RefName, SnapshotId)>,
}

impl Archive {
    /// Opens the archive at `path`.
    ///
    /// # Errors
    /// Invalid if it is none; Unsupported for a newer version; Corrupt.
    pub fn open(_path: &Path) -> Result<Self> {
        unfinished()
    }

    /// The named roots, in order of name.
    #[must_use]
    pub fn refs(&self) -> &[(RefName, SnapshotId)] {
        &self.refs
    }
}

impl ChunkSource for Archive {
    fn locate(&self, _id: &ChunkId) -> Result<Option<ChunkInfo>> {
        unfinished()
    }

    fn get(&self, _id: &ChunkId) -> Result<Verified<Bytes>> {
        unfinished()
    }
}
