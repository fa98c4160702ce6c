//! Reading chunks from packs.

use bytes::Bytes;
use mmh_core::{ChunkId, Verified};

use crate::chunk::{ChunkInfo, ChunkSource};
use crate::error::{Error, Result};

/// Reads the chunks of a store.
#[derive(Debug, Clone)]
pub struct Reader {}

impl ChunkSource for Reader {
    fn locate(&self, _id: &ChunkId) -> Result<Option<ChunkInfo>> {
        Err(Error::Internal {
            what: "not there yet".to_owned(),
        })
    }

    fn get(&self, id: &ChunkId) -> Result<Verified<Bytes>> {
        Err(Error::NoSuchChunk { chunk: *id })
    }
}
