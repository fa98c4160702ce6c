//! A store in memory for the tests of what needs only the two ports.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use mmh_core::{ChunkId, Verified};
use mmh_store::{ChunkInfo, ChunkSink, ChunkSource};

/// Frames in memory, decoded when they are read.
#[derive(Default)]
pub(crate) struct Memory(Mutex<BTreeMap<ChunkId, Vec<u8>>>);

impl Memory {
    /// The ids of all chunks, in order.
    pub(crate) fn ids(&self) -> Vec<ChunkId> {
        self.0.lock().unwrap().keys().copied().collect()
    }

    /// The frame of a chunk, if it is here.
    pub(crate) fn frame(&self, id: &ChunkId) -> Option<Vec<u8>> {
        self.0.lock().unwrap().get(id).cloned()
    }

    /// Forgets a chunk and says whether it was there.
    pub(crate) fn lose(&self, id: &ChunkId) -> bool {
        self.0.lock().unwrap().remove(id).is_some()
    }
}

impl ChunkSink for Memory {
    fn id(&self, raw: &[u8]) -> ChunkId {
        ChunkId::of(raw)
    }

    fn contains(&self, id: &ChunkId) -> mmh_store::Result<bool> {
        Ok(self.0.lock().unwrap().contains_key(id))
    }

    fn put(&self, id: ChunkId, _raw_len: u32, frame: &[u8]) -> mmh_store::Result<bool> {
        Ok(self.0.lock().unwrap().insert(id, frame.to_vec()).is_none())
    }
}

impl ChunkSource for Memory {
    fn locate(&self, _id: &ChunkId) -> mmh_store::Result<Option<ChunkInfo>> {
        Ok(None)
    }

    fn get(&self, id: &ChunkId) -> mmh_store::Result<Verified<Bytes>> {
        let frames = self.0.lock().unwrap();
        let frame = frames
            .get(id)
            .ok_or(mmh_store::Error::NoSuchChunk { chunk: *id })?
            .clone();
        drop(frames);
        let base = self.references(id)?.base;
        let of = |id| ChunkId::from_digest(mmh_core::Digest::from_bytes(id));
        let raw_base = base.map(|id| self.get(&of(id))).transpose()?;
        let base = base.zip(raw_base.as_deref());
        let context = mmh_codec::Context {
            base: base.map(|(id, raw)| mmh_codec::Base { id, raw }),
        };
        let mut raw = Vec::new();
        mmh_codec::Decoder::new()
            .decode_with(&frame, &context, 1 << 22, &mut raw)
            .unwrap();
        Ok(Verified::chunk(id, raw.into()).unwrap())
    }

    fn references(&self, id: &ChunkId) -> mmh_store::Result<mmh_codec::References> {
        let frames = self.0.lock().unwrap();
        let frame = frames
            .get(id)
            .ok_or(mmh_store::Error::NoSuchChunk { chunk: *id })?;
        Ok(mmh_codec::references(frame).unwrap())
    }
}
