//! Reading records from one store, checking them, and putting them into another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use mmh_core::ports::{Cancel, Progress};
use mmh_core::{ChunkId, ErrorKind, PackId};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::extents::{Extent, extents};
use crate::block_on::block_on;
use crate::chunk::{ChunkSink as _, ChunkSource as _};
use crate::error::{Error, Result};
use crate::frame::{self, Fault, REFERENCE_DEPTH_MAX};
use crate::lease::Lease;
use crate::pack::{Entry, Record, Source, read_footer};
use crate::reader::{Reader, check_record};
use crate::repair::plain_frame;
use crate::store::Store;
use crate::vault::Passed;
use crate::writer::{Writer, new_entry};

/// Packs that are read at the same time.
const PACKS: usize = 4;
/// Extents of one pack that are on their way at the same time; each has a thread to check it.
const EXTENTS: usize = 2;
/// Lookups that are on their way at the same time.
const LOOKUPS: usize = 32;

/// What was carried.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Carried {
    /// Chunks that were put, what the frames of others refer to included.
    pub chunks: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// Chunks that the source does not have whole, or that need one that it does not, and why.
    pub lost: BTreeMap<ChunkId, String>,
}

/// What would be carried.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Load {
    packs: BTreeSet<PackId>,
    bytes: u64,
    lost: BTreeMap<ChunkId, String>,
}

impl Store {
    /// What [`Writer::carry`] would carry of these sorted chunks from here, as far as the index
    /// tells: without what their frames refer to.
    ///
    /// # Errors
    /// Unavailable.
    pub async fn weigh(&self, ids: &[ChunkId]) -> Result<Carried> {
        let load = load(self, ids).await?;
        Ok(Carried {
            chunks: (ids.len() - load.lost.len()) as u64,
            bytes: load.bytes,
            lost: load.lost,
        })
    }
}

/// Looks where the chunks lie, in the order of their ids.
async fn load(source: &Store, ids: &[ChunkId]) -> Result<Load> {
    source.index().refresh().await?;
    let find = |id: ChunkId| async move { (id, source.index().locate(&id).await) };
    let mut found = futures::stream::iter(ids.iter().copied().map(find)).buffered(LOOKUPS);
    let mut load = Load::default();
    while let Some((id, at)) = found.next().await {
        match at {
            Ok(Some(at)) => {
                load.packs.insert(at.pack);
                load.bytes += at.entry.record_len();
            }
            Ok(None) => {
                load.lost.insert(id, format!("chunk {id} is missing"));
            }
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                load.lost.insert(id, error.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(load)
}

impl Writer {
    /// Puts these sorted chunks, which are missing here, as `source` keeps them, and what their
    /// frames refer to. Both have the same keys. What the source has not whole is in the result;
    /// nothing of what was put is durable before [`Writer::flush`].
    ///
    /// # Errors
    /// Unavailable; Denied; Corrupt for damage here; cancelled.
    pub async fn carry(
        self: &Arc<Self>,
        (source, lease): (&Store, Option<&Lease>),
        ids: &[ChunkId],
        (progress, cancel): (&dyn Progress, &Cancel),
    ) -> Result<Carried> {
        if !source.shares_keys_with(self.store()) {
            return Err(Error::Internal {
                what: "records are carried between stores with different keys".to_owned(),
            });
        }
        let handle = Handle::current();
        let Load { packs, bytes, lost } = load(source, ids).await?;
        let state = State {
            open: Mutex::new(vec![true; ids.len()]),
            lost: Mutex::new(lost),
            ..State::default()
        };
        let carrier = Carrier(Arc::new(Inner {
            reader: source.reader(handle.clone()),
            source: source.clone(),
            writer: Arc::clone(self),
            handle,
            state,
            jobs: TaskTracker::new(),
        }));
        progress.begin("sending", Some(bytes));
        let pack = |pack| {
            let carrier = carrier.clone();
            async move {
                cancel.check()?;
                if let Some(lease) = lease {
                    lease.renew().await;
                }
                carrier.pack(pack, ids, (progress, cancel)).await
            }
        };
        let all = futures::stream::iter(packs.into_iter().map(pack)).buffer_unordered(PACKS);
        let done = match all.try_collect().await {
            Ok(()) => carrier.rest(ids, (progress, cancel)).await,
            Err(error) => Err(error),
        };
        // After the first failure others still put: whoever is told of it may look at what is there.
        carrier.0.jobs.close();
        carrier.0.jobs.wait().await;
        done?;
        progress.end();
        Ok(carrier.0.state.carried())
    }
}

/// How far it is.
#[derive(Debug, Default)]
struct State {
    /// For each id, whether it is still to be put.
    open: Mutex<Vec<bool>>,
    lost: Mutex<BTreeMap<ChunkId, String>>,
    chunks: AtomicU64,
    bytes: AtomicU64,
}

impl State {
    fn open(&self) -> std::sync::MutexGuard<'_, Vec<bool>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self) -> std::sync::MutexGuard<'_, BTreeMap<ChunkId, String>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, record: &[u8]) {
        self.chunks.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(record.len() as u64, Ordering::Relaxed);
    }

    fn carried(&self) -> Carried {
        Carried {
            chunks: self.chunks.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            lost: self.lost().clone(),
        }
    }
}

#[derive(Debug, Clone)]
struct Carrier(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: Store,
    reader: Reader,
    writer: Arc<Writer>,
    handle: Handle,
    state: State,
    /// What runs on threads beside the runtime.
    jobs: TaskTracker,
}

impl Carrier {
    /// Runs blocking work on a thread of its own.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let carrier = self.clone();
        let done = self.0.jobs.spawn_blocking(move || work(&carrier)).await;
        done.map_err(|e| Error::Internal {
            what: format!("a carrying job stopped: {e}"),
        })?
    }

    /// Carries what is wanted of one pack; what cannot be read stays open.
    async fn pack(
        &self,
        pack: PackId,
        ids: &[ChunkId],
        (progress, cancel): (&dyn Progress, &Cancel),
    ) -> Result<()> {
        let source = Source::Published(self.0.source.backend(), pack);
        let entries = match read_footer(source).await {
            Ok((_, entries)) => entries,
            Err(error) if is_of_the_source(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut wanted = Vec::new();
        {
            let mut open = self.0.state.open();
            for entry in entries {
                if let Ok(place) = ids.binary_search(&entry.id)
                    && std::mem::take(&mut open[place])
                {
                    wanted.push(entry);
                }
            }
        }
        let read = |extent: Extent| async move {
            cancel.check()?;
            let bytes = match source.read(extent.offset, extent.len).await {
                Ok(bytes) => bytes,
                Err(error) if is_of_the_source(&error) => return Ok(extent.entries),
                Err(error) => return Err(error),
            };
            let len = extent.entries.iter().map(Entry::record_len).sum();
            let failed = self
                .run(move |carrier| carrier.extent(&extent, &bytes))
                .await?;
            progress.advance(len);
            Ok(failed)
        };
        let reads = extents(wanted).into_iter().map(read);
        let mut reads = futures::stream::iter(reads).buffer_unordered(EXTENTS);
        while let Some(failed) = reads.next().await {
            let mut open = self.0.state.open();
            for entry in failed? {
                if let Ok(place) = ids.binary_search(&entry.id) {
                    open[place] = true;
                }
            }
        }
        Ok(())
    }

    /// Puts the records of an extent; returns those that are not whole.
    fn extent(&self, extent: &Extent, bytes: &Bytes) -> Result<Vec<Entry>> {
        let mut failed = Vec::new();
        for entry in &extent.entries {
            let at = |offset: u64| usize::try_from(offset - extent.offset).unwrap_or(usize::MAX);
            let record = bytes.get(at(entry.offset)..at(entry.offset + entry.record_len()));
            let put = record
                .map(|record| self.put(record, entry, 0))
                .transpose()?;
            match put {
                Some(Ok(())) => {}
                Some(Err(_)) | None => failed.push(*entry),
            }
        }
        Ok(failed)
    }

    /// Carries one by one what could not be had in the easy way: from other copies, or healed.
    async fn rest(
        &self,
        ids: &[ChunkId],
        (progress, cancel): (&dyn Progress, &Cancel),
    ) -> Result<()> {
        let open = std::mem::take(&mut *self.0.state.open());
        let left = ids
            .iter()
            .zip(open)
            .filter_map(|(id, open)| open.then_some(*id));
        let left: Vec<ChunkId> = left
            .filter(|id| !self.0.state.lost().contains_key(id))
            .collect();
        for id in left {
            cancel.check()?;
            progress.item(&id.to_string());
            if let Err(reason) = self.run(move |carrier| carrier.one(&id, 0)).await? {
                self.0.state.lost().insert(id, reason);
            }
        }
        Ok(())
    }
}

/// Blocking work, for a thread beside the runtime. The inner result is of the source: why a chunk
/// cannot be had.
impl Carrier {
    /// Checks a record, puts what its frame refers to, then the record.
    fn put(&self, record: &[u8], entry: &Entry, depth: usize) -> Result<Outcome> {
        let writer = &self.0.writer;
        let frame = match self.check(record, entry) {
            Ok(frame) => frame,
            Err(fault) => return fault.into_failure().map_or_else(said, Err),
        };
        let known = new_entry(entry.id, entry.raw_len, &frame);
        let references = mmh_codec::references(&frame);
        let (entry, references) = match (known, references) {
            (Ok(entry), Ok(references)) => (entry, references),
            (Err(error), _) => return Ok(Err(error.to_string())),
            (_, Err(error)) => return Ok(Err(error.to_string())),
        };
        for (what, id) in frame::named(&references) {
            if let Err(reason) = self.ensure(&id, depth + 1)? {
                return Ok(Err(format!("it needs its {what} {id}: {reason}")));
            }
        }
        // What is wanted for itself and as a base may be on its way twice; it is stored once.
        let is_new = if !references.is_empty() && self.is_known(&entry.id)? {
            let raw = match self.0.reader.get(&entry.id) {
                Ok(raw) => raw,
                Err(error) if is_of_the_source(&error) => return Ok(Err(error.to_string())),
                Err(error) => return Err(error),
            };
            writer.put_again(entry.id, entry.raw_len, &plain_frame(&entry.id, &raw)?)?
        } else {
            let stored = match Record::frame(record) {
                Ok(stored) => stored,
                Err(flaw) => return Ok(Err(flaw.to_string())),
            };
            writer.put_stored(entry, stored)?
        };
        if is_new {
            self.0.state.count(record);
        }
        Ok(Ok(()))
    }

    /// The frame of a record that is the chunk's: by the tag of its seal, which only who has the
    /// keys can make, else by decoding it.
    fn check<'a>(&self, record: &'a [u8], entry: &Entry) -> std::result::Result<Passed<'a>, Fault> {
        let source = &self.0.source;
        if source.key().is_none() {
            check_record(record, entry, &self.0.reader)?;
        }
        frame::of_record(record, source.backend().vault(), Some(&entry.id))
    }

    /// Whether the other side has copies of a chunk, none of which it may rely on. What refers to
    /// others beside them might close a circle.
    fn is_known(&self, id: &ChunkId) -> Result<bool> {
        let index = self.0.writer.store().index();
        Ok(!block_on(&self.0.handle, index.locate_all(id))?.is_empty())
    }

    /// Puts a chunk that a frame refers to, unless it is there.
    fn ensure(&self, id: &ChunkId, depth: usize) -> Result<Outcome> {
        if depth > REFERENCE_DEPTH_MAX {
            return Ok(Err("too many refer to others on the way".to_owned()));
        }
        if self.0.writer.contains(id)? {
            return Ok(Ok(()));
        }
        self.one(id, depth)
    }

    /// Puts a chunk from whichever copy is whole, healed if need be.
    fn one(&self, id: &ChunkId, depth: usize) -> Result<Outcome> {
        let Inner { source, handle, .. } = &*self.0;
        let index = source.index();
        let mut reason = format!("chunk {id} is missing");
        for refreshed in [false, true] {
            if refreshed {
                // Garbage collection may have moved it.
                block_on(handle, index.refresh())?;
            }
            for at in block_on(handle, index.locate_all(id))? {
                let backend = source.backend();
                let read = block_on(handle, source.fetch(at.pack, &at.entry));
                match read.map(|record| self.put(&record, &at.entry, depth)) {
                    Ok(Ok(Ok(()))) => return Ok(Ok(())),
                    Ok(Ok(Err(why))) => reason = why,
                    Ok(Err(error)) => return Err(error),
                    Err(error) if is_of_the_source(&error) => reason = error.to_string(),
                    Err(error) => return Err(error),
                }
                let healed = source.infirmary().record(backend, at.pack, &at.entry);
                let healed = match block_on(handle, healed) {
                    Ok(healed) => healed,
                    Err(error) if is_of_the_source(&error) => None,
                    Err(error) => return Err(error),
                };
                if let Some(record) = healed
                    && self.put(&record, &at.entry, depth)?.is_ok()
                {
                    return Ok(Ok(()));
                }
            }
        }
        Ok(Err(reason))
    }
}

/// Whether a chunk was put; if not, why the source does not have it.
type Outcome = std::result::Result<(), String>;

fn said(fault: Fault) -> Result<Outcome> {
    Ok(Err(fault.to_string()))
}

/// Whether an error says that bytes of the source are not there or damaged.
fn is_of_the_source(error: &Error) -> bool {
    use ErrorKind as K;
    let kind = error.kind();
    matches!(kind, K::Corrupt | K::NotFound | K::Unsupported | K::Invalid)
}
