//! Reading chunks: locate, fetch, check the record, decode, compare the digest.

use bytes::Bytes;
use mmh_core::{ChunkId, PackId, Verified};
use tokio::runtime::Handle;

use crate::block_on::block_on;
use crate::chunk::{ChunkInfo, ChunkSource};
use crate::error::{Error, Result};
use crate::frame;
use crate::names;
use crate::pack::{Entry, Record};
use crate::store::Store;

/// How often a read starts again because the chunk moved from staging into a pack meanwhile.
const MOVED_ATTEMPTS: usize = 4;

/// Reads the chunks of a store, those of its unfinished writers included. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reader {
    store: Store,
    handle: Handle,
}

impl Reader {
    pub(crate) fn new(store: Store, handle: Handle) -> Self {
        Self { store, handle }
    }

    async fn locate_published(&self, id: &ChunkId) -> Result<Option<(PackId, Entry)>> {
        let index = self.store.index();
        if let Some(at) = index.locate(id).await? {
            return Ok(Some((at.pack, at.entry)));
        }
        // Another process may have published it since the runs were listed.
        index.refresh().await?;
        Ok(index.locate(id).await?.map(|at| (at.pack, at.entry)))
    }

    /// The record of a chunk and where it lies.
    async fn record(&self, id: &ChunkId) -> Result<(Option<PackId>, Entry, Bytes)> {
        let mut failure = Error::NoSuchChunk { chunk: *id };
        for _ in 0..MOVED_ATTEMPTS {
            if let Some(found) = self.store.pending(id) {
                let entry = found.entry;
                if let Some(pack) = found.pack {
                    return Ok((Some(pack), entry, self.fetch(pack, &entry).await?));
                }
                let len = usize::try_from(entry.record_len()).unwrap_or(usize::MAX);
                let mut record = vec![0; len];
                match found.file.read_at(entry.offset, &mut record) {
                    Ok(()) => return Ok((None, entry, record.into())),
                    Err(source) => failure = Error::io(found.file.name())(source),
                }
                continue;
            }
            let found = self.locate_published(id).await?;
            let (pack, entry) = found.ok_or(Error::NoSuchChunk { chunk: *id })?;
            return Ok((Some(pack), entry, self.fetch(pack, &entry).await?));
        }
        Err(failure)
    }

    async fn fetch(&self, pack: PackId, entry: &Entry) -> Result<Bytes> {
        let name = names::pack(&pack);
        let read = self
            .store
            .backend()
            .read_range(&name, entry.offset, entry.record_len())
            .await;
        read.map_err(|error| match error {
            Error::Corrupt { reason, .. } => corrupt(pack, entry, reason),
            error if error.is_missing_object() => {
                corrupt(pack, entry, "the pack is missing".to_owned())
            }
            other => other,
        })
    }
}

fn corrupt(pack: PackId, entry: &Entry, reason: String) -> Error {
    Error::CorruptPack {
        pack,
        offset: entry.offset,
        chunk: Some(entry.id),
        reason,
    }
}

/// Checks a record against its entry, decodes it and compares the bytes with the id.
pub(crate) fn check_record(
    record: &[u8],
    entry: &Entry,
) -> std::result::Result<Verified<Bytes>, String> {
    let frame = Record::frame(record).map_err(|flaw| flaw.to_string())?;
    let raw = frame::verified(frame, &entry.id)?;
    if raw.len() as u64 != u64::from(entry.raw_len) {
        return Err(format!(
            "the index states {} bytes, not {}",
            entry.raw_len,
            raw.len()
        ));
    }
    Ok(raw)
}

/// The error for a whole record whose frame a newer version has written.
pub(crate) fn newer(record: &[u8], id: &ChunkId) -> Option<Error> {
    let reason = frame::unknown(Record::frame(record).ok()?)?;
    Some(Error::UnknownFrame { chunk: *id, reason })
}

impl ChunkSource for Reader {
    fn locate(&self, id: &ChunkId) -> Result<Option<ChunkInfo>> {
        if let Some(found) = self.store.pending(id) {
            return Ok(Some(info(found.pack, &found.entry)));
        }
        let found = block_on(&self.handle, self.locate_published(id))?;
        Ok(found.map(|(pack, entry)| info(Some(pack), &entry)))
    }

    fn get(&self, id: &ChunkId) -> Result<Verified<Bytes>> {
        let (pack, entry, record) = block_on(&self.handle, self.record(id))?;
        check_record(&record, &entry).map_err(|reason| match (newer(&record, id), pack) {
            (Some(newer), _) => newer,
            (None, Some(pack)) => corrupt(pack, &entry, reason),
            (None, None) => Error::Corrupt {
                object: format!("staged chunk {id}"),
                reason,
            },
        })
    }
}

pub(crate) fn info(pack: Option<PackId>, entry: &Entry) -> ChunkInfo {
    ChunkInfo {
        pack,
        offset: entry.offset,
        stored_len: entry.stored_len,
        raw_len: entry.raw_len,
        method: entry.method,
    }
}

#[cfg(test)]
mod tests {
    use mmh_core::ErrorKind;

    use super::*;

    fn record(frame: &[u8]) -> Vec<u8> {
        let len = u32::try_from(frame.len()).unwrap();
        let head = [len.to_le_bytes(), crc32c::crc32c(frame).to_le_bytes()];
        [head.concat(), frame.to_vec()].concat()
    }

    /// A whole frame of a later version is not damage: another copy would not help.
    #[test]
    fn frames_of_later_versions_are_unsupported_and_not_corrupt() {
        let id = ChunkId::of(b"x");
        let later = [[200, 0, 1, b'x'], [1, 31, 1, b'x']];
        for frame in later {
            let error = newer(&record(&frame), &id).unwrap();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        }
        assert!(newer(&record(&[1, 0, 1, b'x']), &id).is_none(), "readable");
        let mut torn = record(&[200, 0, 1, b'x']);
        torn[8] ^= 1;
        assert!(newer(&torn, &id).is_none(), "the checksum says damage");
    }
}
