//! Canonical objects kept as chunks: their id as an object is their id as a chunk.

use mmh_codec::Hint;
use mmh_core::canonical::{self, Canonical};
use mmh_core::object::{File, Snapshot};
use mmh_core::tree::{self, Entry, Node, Tree};
use mmh_core::{FileId, ObjectId, SnapshotId, TreeId};
use mmh_store::{ChunkSink, ChunkSource};

use crate::error::{Error, Result};
use crate::recycle::Encoders;

/// Reads any canonical object.
pub(crate) fn read<T: Canonical>(source: &dyn ChunkSource, id: ObjectId) -> Result<T> {
    let bytes = source.get(&id.chunk())?;
    Ok(canonical::decode(&bytes)?)
}

/// Reads a file object.
pub(crate) fn file(source: &dyn ChunkSource, id: FileId) -> Result<File> {
    read(source, id.object())
}

/// Reads a snapshot.
pub(crate) fn snapshot(source: &dyn ChunkSource, id: SnapshotId) -> Result<Snapshot> {
    read(source, id.object())
}

/// Reads a page of a tree.
pub(crate) fn tree_page(source: &dyn ChunkSource, id: TreeId) -> Result<Tree> {
    read(source, id.object())
}

/// All entries of one directory.
pub(crate) fn entries(source: &dyn ChunkSource, id: TreeId) -> Result<Vec<Entry>> {
    tree::entries(id, &mut |page| tree_page(source, page))
}

/// Follows a path below a directory; the empty path is the directory itself.
pub(crate) fn find(source: &dyn ChunkSource, root: TreeId, path: &str) -> Result<Option<Node>> {
    let mut node = Node::Dir { id: root };
    for name in path.split('/').filter(|p| !p.is_empty()) {
        let Node::Dir { id } = node else {
            return Ok(None);
        };
        match tree::find(id, name, &mut |page| tree_page(source, page))? {
            Some(next) => node = next,
            None => return Ok(None),
        }
    }
    Ok(Some(node))
}

/// Writes the encoding of an object, compressed where that helps, and returns its id.
pub(crate) fn put(sink: &dyn ChunkSink, encoders: &Encoders, bytes: &[u8]) -> Result<ObjectId> {
    let chunk = sink.id(bytes);
    let id = ObjectId::from_digest(*chunk.digest());
    if sink.contains(&chunk)? {
        return Ok(id);
    }
    encoders.with(|encoder, frame| {
        encoder.encode(bytes, &Hint::bytes(), frame)?;
        let raw_len = u32::try_from(bytes.len()).map_err(|_| {
            Error::Invalid(format!("object {id} of {} bytes is too large", bytes.len()))
        })?;
        sink.put(chunk, raw_len, frame)?;
        Ok(id)
    })
}

/// Encodes and writes an object and returns its id.
pub(crate) fn write<T: Canonical>(
    sink: &dyn ChunkSink,
    encoders: &Encoders,
    value: &T,
) -> Result<ObjectId> {
    put(sink, encoders, &canonical::encode(value)?)
}
