//! The two ports through which the rest of the house reads and writes chunks.

use bytes::Bytes;
use mmh_codec::References;
use mmh_core::{ChunkId, PackId, Verified};

use crate::error::Result;

/// Where a chunk lies and how it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkInfo {
    /// The pack, or for an archive the content id of the whole file; `None` while the pack that
    /// holds the chunk is still growing in a writer.
    pub pack: Option<PackId>,
    /// Offset in bytes of the chunk's record in the pack.
    pub offset: u64,
    /// Length in bytes of the frame, without the record's own head.
    pub stored_len: u32,
    /// Length in bytes of the chunk itself.
    pub raw_len: u32,
    /// The frame's second byte: the codec's method, and in the upper bits which references it has.
    pub method: u8,
}

/// Hands out chunks that were compared with their ids. Safe to share between threads.
///
/// Calls wait for the disk or the network; an async task wraps them in `spawn_blocking`.
pub trait ChunkSource: Send + Sync {
    /// Finds a chunk without reading it; `None` if it is not here.
    ///
    /// # Errors
    /// Corrupt or unreachable index.
    fn locate(&self, id: &ChunkId) -> Result<Option<ChunkInfo>>;

    /// Reads a chunk: locate, fetch, check the record, decode, compare the digest.
    ///
    /// # Errors
    /// NotFound; Corrupt with pack and offset; Unavailable.
    fn get(&self, id: &ChunkId) -> Result<Verified<Bytes>>;

    /// What the frame of a chunk refers to; nothing for a chunk that is not kept as a frame.
    ///
    /// # Errors
    /// As [`Self::get`].
    fn references(&self, id: &ChunkId) -> Result<References>;
}

/// Takes chunks. Safe to share between threads.
///
/// Calls may wait for the disk or the network; an async task wraps them in `spawn_blocking`.
pub trait ChunkSink: Send + Sync {
    /// The id that a chunk of these bytes has here.
    fn id(&self, raw: &[u8]) -> ChunkId;

    /// Whether the chunk is already kept or on its way.
    ///
    /// # Errors
    /// Corrupt or unreachable index.
    fn contains(&self, id: &ChunkId) -> Result<bool>;

    /// Takes the frame of a chunk of `raw_len` bytes and tells whether it was new.
    ///
    /// The caller made sure that the frame decodes to the bytes that `id` names; readers check.
    ///
    /// # Errors
    /// Invalid for a frame or length beyond the limits; Unavailable when the disk is full.
    fn put(&self, id: ChunkId, raw_len: u32, frame: &[u8]) -> Result<bool>;
}

impl<T: ChunkSource + ?Sized> ChunkSource for &T {
    fn locate(&self, id: &ChunkId) -> Result<Option<ChunkInfo>> {
        (**self).locate(id)
    }

    fn get(&self, id: &ChunkId) -> Result<Verified<Bytes>> {
        (**self).get(id)
    }

    fn references(&self, id: &ChunkId) -> Result<References> {
        (**self).references(id)
    }
}

impl<T: ChunkSink + ?Sized> ChunkSink for &T {
    fn id(&self, raw: &[u8]) -> ChunkId {
        (**self).id(raw)
    }

    fn contains(&self, id: &ChunkId) -> Result<bool> {
        (**self).contains(id)
    }

    fn put(&self, id: ChunkId, raw_len: u32, frame: &[u8]) -> Result<bool> {
        (**self).put(id, raw_len, frame)
    }
}
