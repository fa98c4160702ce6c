//! Reading chunks: locate, fetch, check the record, decode, compare the digest.

use std::sync::Arc;

use bytes::Bytes;
use mmh_codec::References;
use mmh_codec::entropy::Engine;
use mmh_core::ports::Cancel;
use mmh_core::{ChunkId, PackId, Verified};
use tokio::runtime::Handle;

use crate::block_on::block_on;
use crate::chunk::{ChunkInfo, ChunkSource};
use crate::error::{Error, Result};
use crate::frame::{self, Fault, Found, Others};
use crate::index::{Located, Whole};
use crate::names;
use crate::pack::Entry;
use crate::store::Store;
use crate::vault::Vault;

/// How often a read starts again because the chunk moved from staging into a pack meanwhile.
const MOVED_ATTEMPTS: usize = 4;

/// Reads the chunks of a store, those of its unfinished writers included. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reader {
    store: Store,
    handle: Handle,
    /// Whether damaged packs are healed from their parity.
    heals: bool,
    /// The index as it was when a pass over everything began.
    whole: Option<Arc<Whole>>,
}

impl Reader {
    pub(crate) fn new(store: Store, handle: Handle) -> Self {
        Self {
            store,
            handle,
            heals: true,
            whole: None,
        }
    }

    /// The reader for a pass that looks most chunks up: it holds the whole index, if that is not
    /// damaged.
    pub(crate) async fn with_whole_index(self, cancel: &Cancel) -> Result<Self> {
        let index = self.store.index();
        index.refresh().await?;
        let whole = match Whole::load(index, cancel).await {
            Ok(whole) => Some(Arc::new(whole)),
            Err(Error::CorruptIndex { .. }) => None,
            // A merge took a run away.
            Err(error) if error.is_missing_object() => None,
            Err(error) => return Err(error),
        };
        Ok(Self { whole, ..self })
    }

    /// The reader that takes packs as they are, for looking for damage.
    pub(crate) fn without_healing(self) -> Self {
        Self {
            heals: false,
            ..self
        }
    }

    /// The id that a chunk of these bytes has in this repository.
    #[must_use]
    pub fn id(&self, raw: &[u8]) -> ChunkId {
        self.vault().id(raw)
    }

    /// The frame of a chunk as it is kept, without what sealed it. That it decodes to the chunk is
    /// not checked.
    ///
    /// # Errors
    /// As [`ChunkSource::get`].
    pub fn frame(&self, id: &ChunkId) -> Result<Bytes> {
        match self.find(id)? {
            Found::Frame(frame) => Ok(frame),
            Found::Content(_) => Err(Error::NoSuchChunk { chunk: *id }),
        }
    }

    async fn locate_published(&self, id: &ChunkId) -> Result<Option<(PackId, Entry)>> {
        if let Some(at) = self.whole.as_ref().and_then(|whole| whole.locate(id)) {
            return Ok(Some((at.pack, at.entry)));
        }
        let index = self.store.index();
        if let Some(at) = index.locate(id).await? {
            if !frame::has_references(at.entry.method) {
                return Ok(Some((at.pack, at.entry)));
            }
            // A copy that needs no other chunk is part of no circle, and less work.
            let copies = index.locate_all(id).await?;
            let free = copies
                .iter()
                .find(|at| !frame::has_references(at.entry.method));
            let at = free.unwrap_or(&at);
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
                    return match self.fetch(pack, &entry).await {
                        Err(error) if error.is_missing_object() => {
                            self.elsewhere(id, pack, &entry).await
                        }
                        read => Ok((Some(pack), entry, read?)),
                    };
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
            return match self.fetch(pack, &entry).await {
                Err(error) if error.is_missing_object() => self.elsewhere(id, pack, &entry).await,
                read => Ok((Some(pack), entry, read?)),
            };
        }
        Err(failure)
    }

    async fn fetch(&self, pack: PackId, entry: &Entry) -> Result<Bytes> {
        match self.store.fetch(pack, entry).await {
            // The file is cut off.
            Err(error @ Error::CorruptPack { .. }) => {
                self.healed(Some(pack), entry).await?.ok_or(error)
            }
            other => other,
        }
    }

    /// The healed record of a chunk that is damaged; `None` if it cannot be healed.
    async fn healed(&self, pack: Option<PackId>, entry: &Entry) -> Result<Option<Bytes>> {
        let Some(pack) = pack.filter(|_| self.heals) else {
            return Ok(None);
        };
        let backend = self.store.backend();
        match self.store.infirmary().record(backend, pack, entry).await {
            // The pack is gone, or what is there says less than its damaged record did.
            Err(Error::NoSuchObject { .. } | Error::Corrupt { .. }) => Ok(None),
            other => other,
        }
    }

    /// Reads a chunk whose pack has gone from another pack: garbage collection copies what is
    /// alive before it deletes.
    async fn elsewhere(
        &self,
        id: &ChunkId,
        gone: PackId,
        entry: &Entry,
    ) -> Result<(Option<PackId>, Entry, Bytes)> {
        self.store.index().refresh().await?;
        let copies = self.store.index().locate_all(id).await?;
        if copies.is_empty() {
            return Err(Error::NoSuchChunk { chunk: *id });
        }
        for at in copies {
            if at.pack == gone {
                continue;
            }
            match self.fetch(at.pack, &at.entry).await {
                Err(error) if error.is_missing_object() => {}
                read => return Ok((Some(at.pack), at.entry, read?)),
            }
        }
        let reason = "the pack is missing".to_owned();
        Err(corrupt(gone, entry, reason))
    }
}

impl Store {
    /// Reads a record.
    pub(crate) async fn fetch(&self, pack: PackId, entry: &Entry) -> Result<Bytes> {
        let (name, len) = (names::pack(&pack), entry.record_len());
        let read = self.backend().read_piece(&name, entry.offset, len).await;
        read.map_err(|error| match error {
            Error::Corrupt { reason, .. } => corrupt(pack, entry, reason),
            other => other,
        })
    }

    /// Reads the frame of a record, whose checksum is compared.
    pub(crate) async fn frame_at(&self, at: &Located) -> Result<Bytes> {
        let record = self.fetch(at.pack, &at.entry).await?;
        let frame = frame::shared_of_record(&record, self.backend().vault(), &at.entry.id);
        frame.map_err(|fault| corrupt(at.pack, &at.entry, fault.to_string()))
    }
}

impl Reader {
    /// Keeps a record whose checksum and, if it was decoded, digest were right.
    fn keep(&self, pack: Option<PackId>, entry: &Entry, record: &[u8]) {
        if let Some(pack) = pack {
            let backend = self.store.backend();
            backend.keep(&names::pack(&pack), entry.offset, record);
        }
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
    others: &dyn Others,
) -> std::result::Result<Verified<Bytes>, Fault> {
    let frame = frame::of_record(record, others.vault(), Some(&entry.id))?;
    let raw = frame::verified(&frame, &entry.id, others)?;
    compare_len(entry, raw.len() as u64).map(|()| raw)
}

/// The same without keeping the bytes.
pub(crate) fn prove_record(
    record: &[u8],
    entry: &Entry,
    others: &dyn Others,
) -> std::result::Result<(), Fault> {
    let frame = frame::of_record(record, others.vault(), Some(&entry.id))?;
    compare_len(entry, frame::prove(&frame, &entry.id, others)?)
}

fn compare_len(entry: &Entry, len: u64) -> std::result::Result<(), Fault> {
    let stated = entry.raw_len;
    if len == u64::from(stated) {
        return Ok(());
    }
    let reason = format!("the index states {stated} bytes, not {len}");
    Err(Fault::Damaged(reason))
}

/// What the frame of a record refers to.
pub(crate) fn record_references(
    record: &[u8],
    entry: &Entry,
    vault: &Vault,
) -> std::result::Result<References, Fault> {
    let frame = frame::of_record(record, vault, Some(&entry.id))?;
    Ok(mmh_codec::references(&frame)?)
}

/// The error for a damaged record.
fn damaged(pack: Option<PackId>, entry: &Entry, reason: String) -> Error {
    match pack {
        Some(pack) => corrupt(pack, entry, reason),
        None => Error::Corrupt {
            object: format!("staged chunk {}", entry.id),
            reason,
        },
    }
}

impl Others for Reader {
    fn engine(&self) -> &'static dyn Engine {
        self.store.engine()
    }

    fn vault(&self) -> &Vault {
        self.store.backend().vault()
    }

    fn find(&self, id: &ChunkId) -> Result<Found> {
        let (pack, entry, record) = block_on(&self.handle, self.record(id))?;
        let fault = match frame::shared_of_record(&record, self.vault(), id) {
            Ok(frame) => {
                self.keep(pack, &entry, &record);
                return Ok(Found::Frame(frame));
            }
            Err(fault) => fault,
        };
        let healed = block_on(&self.handle, self.healed(pack, &entry))?;
        let frame = healed.and_then(|r| frame::shared_of_record(&r, self.vault(), id).ok());
        match frame {
            Some(frame) => Ok(Found::Frame(frame)),
            None => Err(damaged(pack, &entry, fault.to_string())),
        }
    }
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
        let (pack, entry, mut record) = block_on(&self.handle, self.record(id))?;
        let mut checked = check_record(&record, &entry, self);
        if let Err(Fault::Damaged(_)) = &checked
            && let Some(healed) = block_on(&self.handle, self.healed(pack, &entry))?
        {
            checked = check_record(&healed, &entry, self);
            record = healed;
        }
        let raw = checked.map_err(|fault| fault.of(*id, |reason| damaged(pack, &entry, reason)))?;
        self.keep(pack, &entry, &record);
        Ok(raw)
    }

    fn references(&self, id: &ChunkId) -> Result<References> {
        let info = self.locate(id)?.ok_or(Error::NoSuchChunk { chunk: *id })?;
        if !frame::has_references(info.method) {
            return Ok(References::default());
        }
        let (pack, entry, record) = block_on(&self.handle, self.record(id))?;
        let mut found = record_references(&record, &entry, self.vault());
        if let Err(Fault::Damaged(_)) = &found
            && let Some(healed) = block_on(&self.handle, self.healed(pack, &entry))?
        {
            found = record_references(&healed, &entry, self.vault());
        }
        found.map_err(|fault| fault.of(*id, |reason| damaged(pack, &entry, reason)))
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
