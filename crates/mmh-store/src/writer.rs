//! Writing chunks into packs: many threads put, one pack grows, full packs are published.
//!
//! Order of publishing: the pack, synced and under its name; then the index run that names it;
//! only then does [`Writer::flush`] return. What a writer that dies leaves in staging is taken
//! over by the next one.
//!
//! A chunk that is there already is not stored again; the writer then *relies* on the pack it lies
//! in, which garbage collection may take away before the writer commits. So it looks at each such
//! pack once, and [`Writer::commit`] is refused if the log says that one of them was collected
//! since the writer began. FORMAT.md, "Garbage collection".

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use mmh_core::object::Operation;
use mmh_core::{ChunkId, PackId, limits};
use tokio::runtime::Handle;

use crate::block_on::block_on;
use crate::chunk::ChunkSink;
use crate::error::{Error, Result};
use crate::frame::{self, FRAME_LEN_MAX, REFERENCE_DEPTH_MAX};
use crate::lease::Lease;
use crate::log::Commit;
use crate::pack::{Entry, Growing, Kind, PACK_RECORDS_MAX, publish};
use crate::presence::Presence;
use crate::staging::StagedFile;
use crate::store::Store;
use crate::vault::{Passed, Vault};

/// Entries that may wait for the next index run: at about 250 bytes each at the worst moment,
/// when they are sorted, 32 MiB.
const PENDING_MAX: usize = 1 << 17;

/// Stores chunks. Many threads may put at once; each chunk is stored once.
#[derive(Debug)]
pub struct Writer {
    pen: Arc<Pen>,
    handle: Handle,
}

/// The part of a writer that readers of the same store look into.
#[derive(Debug)]
pub(crate) struct Pen {
    store: Store,
    state: Mutex<State>,
    /// Signalled whenever a pack is no longer on its way.
    settled: Condvar,
    /// Held while an index run is published, so that each section is indexed once.
    indexing: Mutex<()>,
    lease: Lease,
    presence: Presence,
    own: Mutex<Own>,
}

#[derive(Debug, Default)]
struct State {
    /// Where every chunk lies that is not yet in the index: section and place in it.
    ids: HashMap<ChunkId, (u32, u32)>,
    /// Packs that are growing, on their way, or published but not yet indexed.
    sections: BTreeMap<u32, Section>,
    next_section: u32,
    /// The growing pack of the newest section.
    growing: Option<Growing>,
    /// How many packs are on their way.
    n_moving: usize,
    /// Changes whenever sections leave for the index.
    epoch: u64,
    /// The first failure; nothing is accepted after it.
    failure: Option<String>,
}

/// Own packs that no commit has reached.
#[derive(Debug, Default)]
struct Own {
    packs: BTreeSet<PackId>,
    /// How many of them the lease pins.
    n_pinned: usize,
}

impl Own {
    /// Adds a pack. Returns what the lease is to pin, if that is an eighth more than it does: a
    /// lease is written whole.
    fn add(&mut self, pack: PackId) -> Option<Vec<PackId>> {
        self.packs.insert(pack);
        let due = self.packs.len() > self.n_pinned + self.n_pinned / 8;
        due.then(|| self.all())
    }

    fn all(&mut self) -> Vec<PackId> {
        self.n_pinned = self.packs.len();
        self.packs.iter().copied().collect()
    }
}

#[derive(Debug)]
struct Section {
    file: Arc<dyn StagedFile>,
    entries: Vec<Entry>,
    pack: Option<PackId>,
}

/// A chunk of an unfinished writer.
#[derive(Debug, Clone)]
pub(crate) struct PendingChunk {
    /// Where its pack grows.
    pub file: Arc<dyn StagedFile>,
    /// The record.
    pub entry: Entry,
    /// The pack, once it is published.
    pub pack: Option<PackId>,
}

/// What is put of a chunk.
#[derive(Debug, Clone, Copy)]
enum Form<'a> {
    /// Its frame.
    Frame(&'a [u8]),
    /// What the vault made of its frame.
    Stored(&'a [u8]),
}

/// A pack that is full and was taken out of the state to be published.
struct Full {
    section: u32,
    growing: Growing,
    entries: Vec<Entry>,
}

impl State {
    fn check(&self) -> Result<()> {
        match &self.failure {
            Some(reason) => Err(Error::WriterFailed {
                reason: reason.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Takes the growing pack out, if it has records.
    fn take_full(&mut self) -> Option<Full> {
        let growing = self.growing.take()?;
        let (section, last) = self.sections.last_key_value()?;
        self.n_moving += 1;
        Some(Full {
            section: *section,
            growing,
            entries: last.entries.clone(),
        })
    }

    /// Takes note of the first failure and hands the error on.
    fn fail(&mut self, error: Error) -> Error {
        self.failure.get_or_insert_with(|| error.to_string());
        error
    }
}

impl Pen {
    /// Relies on whatever is there, for the commit that comes next: see [`Presence::rely_on_any`].
    pub(crate) fn rely_on_any(&self) {
        self.presence.rely_on_any();
    }

    pub(crate) fn new(store: Store, lease: Lease) -> Self {
        let (state, settled) = (Mutex::default(), Condvar::new());
        Self {
            store,
            state,
            settled,
            indexing: Mutex::new(()),
            lease,
            presence: Presence::default(),
            own: Mutex::default(),
        }
    }

    fn vault(&self) -> &Vault {
        self.store.backend().vault()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a published copy of the chunk may be relied on, and what its frame refers to too.
    pub(crate) async fn holds(&self, id: &ChunkId) -> Result<bool> {
        let pending = |id: &ChunkId| self.find(id).is_some();
        self.presence.holds(&self.store, id, &pending).await
    }

    /// Finds a chunk that is not in the index yet.
    pub(crate) fn find(&self, id: &ChunkId) -> Option<PendingChunk> {
        let state = self.state();
        let (section, place) = state.ids.get(id)?;
        let section = state.sections.get(section)?;
        let entry = *section.entries.get(*place as usize)?;
        Some(PendingChunk {
            file: Arc::clone(&section.file),
            entry,
            pack: section.pack,
        })
    }

    /// Appends a record to the growing pack, and takes the pack out if it is full now.
    fn append(&self, state: &mut State, mut entry: Entry, frame: &[u8]) -> Result<Option<Full>> {
        if state.growing.is_none() {
            let staging = self.store.backend().staging();
            let file: Arc<dyn StagedFile> = staging
                .create()
                .map_err(Error::io(self.store.backend().name()))?
                .into();
            let growing =
                Growing::begin(Arc::clone(&file), Kind::Pack).map_err(Error::io(file.name()))?;
            state.growing = Some(growing);
            let section = Section {
                file,
                entries: Vec::new(),
                pack: None,
            };
            state.sections.insert(state.next_section, section);
            state.next_section += 1;
        }
        let parts = (state.growing.as_mut(), state.sections.last_entry());
        let (Some(growing), Some(mut section)) = parts else {
            return Err(Error::Internal {
                what: "a growing pack has no section".to_owned(),
            });
        };
        let place = section.get().file.name();
        entry.offset = growing.append(frame).map_err(Error::io(place))?;
        let no = *section.key();
        let entries = &mut section.get_mut().entries;
        let place = u32::try_from(entries.len()).expect("below PACK_RECORDS_MAX");
        entries.push(entry);
        let full =
            growing.len() >= self.store.config().pack_len_max || entries.len() >= PACK_RECORDS_MAX;
        state.ids.insert(entry.id, (no, place));
        Ok(if full { state.take_full() } else { None })
    }

    /// Publishes a full pack.
    async fn publish(&self, full: Full) -> Result<()> {
        let Full {
            section,
            growing,
            entries,
        } = full;
        let file = self
            .state()
            .sections
            .get(&section)
            .map(|s| Arc::clone(&s.file));
        let result = match file {
            Some(file) => self.seal_and_publish(growing, &entries, &*file).await,
            None => Err(Error::Internal {
                what: "a full pack has no section".to_owned(),
            }),
        };
        let pack = {
            let mut state = self.state();
            state.n_moving -= 1;
            self.settled.notify_all();
            let pack = result.map_err(|error| state.fail(error))?;
            self.presence.add(pack);
            if let Some(section) = state.sections.get_mut(&section) {
                section.pack = Some(pack);
            }
            pack
        };
        let pins = locked(&self.own).add(pack);
        if let Some(pins) = pins {
            self.pin(pins).await;
        }
        Ok(())
    }

    /// Pins packs. A courtesy: unpinned ones are only copied sooner.
    async fn pin(&self, packs: Vec<PackId>) {
        let _unpinned = self.lease.pin(packs).await.is_err();
    }

    async fn seal_and_publish(
        &self,
        growing: Growing,
        entries: &[Entry],
        file: &dyn StagedFile,
    ) -> Result<PackId> {
        let ends = (self.store.config().parity, self.store.entropy().salt()?);
        let pack = growing.seal(entries, self.vault(), ends)?;
        publish(self.store.backend(), file, &pack).await?;
        Ok(pack)
    }

    /// Publishes an index run of all packs that are published, and forgets their sections.
    fn publish_index(&self, handle: &Handle) -> Result<()> {
        let _one = self.indexing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut packs = BTreeSet::new();
        let mut entries = Vec::new();
        let mut sections = Vec::new();
        for (no, section) in &self.state().sections {
            if let Some(pack) = section.pack {
                packs.insert(pack);
                entries.extend(section.entries.iter().map(|entry| (pack, *entry)));
                sections.push(*no);
            }
        }
        // What it relies on may have been indexed by another a moment ago. In one folder, the own
        // run settles those before it.
        let relies = || self.presence.relied().is_none_or(|packs| !packs.is_empty());
        if (packs.is_empty() || self.store.backend().stripe().is_some()) && relies() {
            let settled = block_on(handle, self.store.index().settle());
            settled.map_err(|error| self.state().fail(error))?;
        }
        if packs.is_empty() {
            return Ok(());
        }
        let own = locked(&self.own).all();
        block_on(handle, self.pin(own));
        let published = block_on(handle, self.store.index().publish(packs, entries));
        let mut state = self.state();
        published.map_err(|error| state.fail(error))?;
        for no in sections {
            let entries = state.sections.remove(&no).map(|section| section.entries);
            for entry in entries.unwrap_or_default() {
                state.ids.remove(&entry.id);
            }
        }
        state.epoch += 1;
        Ok(())
    }
}

impl Writer {
    pub(crate) fn new(pen: Arc<Pen>, handle: Handle) -> Self {
        Self { pen, handle }
    }

    /// Returns when everything that was put is on the disk and indexed.
    ///
    /// # Errors
    /// Unavailable; what an earlier flush acknowledged stays safe.
    pub fn flush(&self) -> Result<()> {
        let full = {
            let mut state = self.pen.state();
            state.check()?;
            state.take_full()
        };
        if let Some(full) = full {
            block_on(&self.handle, self.pen.publish(full))?;
        }
        let mut state = self.pen.state();
        while state.n_moving > 0 {
            state = self
                .pen
                .settled
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.check()?;
        drop(state);
        self.pen.publish_index(&self.handle)
    }

    /// Flushes, then changes refs in one transaction, if everything that this writer relied on is
    /// still there.
    ///
    /// # Errors
    /// Those of [`Writer::flush`]; Conflict as [`Store::commit`], or if what it relied on was
    /// collected: everything is then to be put again by another writer.
    pub fn commit(&self, mut commit: Commit) -> Result<Operation> {
        self.flush()?;
        commit.since = Some(self.pen.lease.seq());
        let packs = self.pen.presence.relied();
        let store = &self.pen.store;
        let done = block_on(&self.handle, store.commit_relying(commit, packs.as_ref()))?;
        *locked(&self.pen.own) = Own::default();
        Ok(done)
    }

    /// Flushes and ends the writer.
    ///
    /// # Errors
    /// Those of [`Writer::flush`].
    pub fn finish(self) -> Result<()> {
        self.flush()
    }

    /// Whether the chunk was put by this writer and is not yet in the index.
    pub(crate) fn has_pending(&self, id: &ChunkId) -> bool {
        self.pen.find(id).is_some()
    }

    /// The lease under which it writes.
    pub(crate) fn lease(&self) -> &Lease {
        &self.pen.lease
    }

    fn renew_lease(&self) {
        if self.pen.lease.is_due() {
            block_on(&self.handle, self.pen.lease.renew());
        }
    }

    /// Puts a chunk although the index may have it; `false` if this writer has put it already.
    pub(crate) fn put_again(&self, id: ChunkId, raw_len: u32, frame: &[u8]) -> Result<bool> {
        let entry = new_entry(id, raw_len, frame)?;
        self.put_entry(entry, Form::Frame(frame), true)
    }

    /// Puts a chunk although the index may have it, in the form in which a store with the same keys
    /// keeps it; the entry is that of its frame. `false` if this writer has put it already.
    pub(crate) fn put_stored(&self, entry: Entry, stored: &[u8]) -> Result<bool> {
        self.renew_lease();
        self.put_entry(entry, Form::Stored(stored), true)
    }

    /// What others may look into.
    pub(crate) fn pen(&self) -> &Arc<Pen> {
        &self.pen
    }

    /// The store that it writes to.
    pub(crate) fn store(&self) -> &Store {
        &self.pen.store
    }

    /// Makes sure that what a frame refers to stays: what lies only in packs that nobody may rely
    /// on any more is copied.
    fn keep_references(&self, frame: &[u8], depth: usize) -> Result<()> {
        let Ok(references) = mmh_codec::references(frame) else {
            return Ok(());
        };
        for (_, id) in frame::named(&references) {
            if self.contains(&id)? || depth == REFERENCE_DEPTH_MAX {
                continue;
            }
            let store = &self.pen.store;
            let copies = block_on(&self.handle, store.index().locate_all(&id))?;
            for at in copies {
                let Ok(frame) = block_on(&self.handle, store.frame_at(&at)) else {
                    continue;
                };
                self.keep_references(&frame, depth + 1)?;
                self.put_again(id, at.entry.raw_len, &frame)?;
                break;
            }
        }
        Ok(())
    }

    fn put_entry(&self, mut entry: Entry, form: Form<'_>, again: bool) -> Result<bool> {
        let mut stored = None;
        loop {
            let epoch = {
                let state = self.pen.state();
                state.check()?;
                state.epoch
            };
            if !again && self.contains(&entry.id)? {
                return Ok(false);
            }
            // Not under the lock, and only once it is known to be needed.
            let stored = match &stored {
                Some(stored) => stored,
                None => stored.insert(match form {
                    Form::Frame(frame) => self.pen.vault().seal_frame(&entry.id, frame)?,
                    Form::Stored(bytes) => Passed::Same(bytes),
                }),
            };
            entry.stored_len = u32_len(stored);
            let mut state = self.pen.state();
            state.check()?;
            if state.ids.contains_key(&entry.id) {
                return Ok(false);
            }
            // Sections that left for the index since it was asked may have held the chunk.
            if state.epoch != epoch {
                continue;
            }
            let appended = self.pen.append(&mut state, entry, stored);
            let full = appended.map_err(|error| state.fail(error))?;
            drop(state);
            if let Some(full) = full {
                block_on(&self.handle, self.pen.publish(full))?;
                if self.pen.state().ids.len() > PENDING_MAX {
                    self.pen.publish_index(&self.handle)?;
                }
            }
            return Ok(true);
        }
    }
}

/// Ends the lease; if that fails, it ends by itself.
impl Drop for Writer {
    fn drop(&mut self) {
        let _later = block_on(&self.handle, self.pen.lease.release()).is_err();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ChunkSink for Writer {
    fn id(&self, raw: &[u8]) -> ChunkId {
        self.pen.vault().id(raw)
    }

    fn contains(&self, id: &ChunkId) -> Result<bool> {
        self.renew_lease();
        if self.pen.find(id).is_some() {
            return Ok(true);
        }
        block_on(&self.handle, self.pen.holds(id))
    }

    fn put(&self, id: ChunkId, raw_len: u32, frame: &[u8]) -> Result<bool> {
        let entry = new_entry(id, raw_len, frame)?;
        if frame::has_references(entry.method) {
            self.keep_references(frame, 0)?;
        }
        self.put_entry(entry, Form::Frame(frame), false)
    }
}

/// Checks what is put against the limits and the frame's own head.
pub(crate) fn new_entry(id: ChunkId, raw_len: u32, frame: &[u8]) -> Result<Entry> {
    let bad = |reason: String| Error::BadFrame { chunk: id, reason };
    if frame.len() > FRAME_LEN_MAX || raw_len as usize > limits::CHUNK_LEN_MAX {
        return Err(bad(format!(
            "{} bytes for {raw_len} are beyond the limits",
            frame.len()
        )));
    }
    let (head_len, method) = frame::head(frame).map_err(bad)?;
    if head_len != raw_len {
        return Err(bad(format!("it holds {head_len} bytes, not {raw_len}")));
    }
    Ok(Entry {
        id,
        offset: 0,
        stored_len: u32_len(frame),
        raw_len,
        method,
    })
}

fn u32_len(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("at most STORED_LEN_MAX")
}
