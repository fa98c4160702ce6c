//! Garbage collection: what is dead goes, in its time; what is alive stays, whatever happens.
//!
//! A *book* is the least that has something to mark: a chunk that names others by their numbers.
//! A branch names a book.

mod crash;
mod log;
mod phases;
mod race;
mod together;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mmh_core::ports::{Cancel, Clock, Silent};
use mmh_core::{ChunkId, SnapshotId};
use mmh_store::conformance::{change, commit, put, small_store};
use mmh_store::lease::{CLOCK_SKEW_MS, LEASE_MS};
use mmh_store::{
    Backend, Broken, ChunkSource, Commit, Error, GcOptions, GcReport, GcRoots, Marks, OpenOptions,
    Result, Store, Writer,
};
use tokio::runtime::Handle;

use crate::common::{Memory, raw};

/// A clock that tests turn; clones show the same time.
#[derive(Debug, Clone)]
pub(crate) struct Turned(Arc<AtomicU64>);

impl Clock for Turned {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Turned {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(1_000_000_000_000)))
    }

    fn turn(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }

    /// So far that every lease has ended.
    pub(crate) fn turn_beyond_leases(&self) {
        self.turn(LEASE_MS + 2 * CLOCK_SKEW_MS);
    }
}

/// A place with a clock.
#[derive(Debug, Clone)]
struct Place {
    memory: Memory,
    clock: Turned,
}

impl Place {
    async fn new() -> Self {
        let memory = Memory::new();
        small_store(memory.backend.clone()).await;
        Self {
            memory,
            clock: Turned::new(),
        }
    }

    async fn open_at(&self, backend: Backend, broken: Broken) -> Result<Store> {
        let options = OpenOptions {
            clock: Arc::new(self.clock.clone()),
            broken,
            ..OpenOptions::default()
        };
        Store::open(backend, options).await
    }

    async fn open(&self) -> Store {
        let backend = self.memory.backend.clone();
        self.open_at(backend, Broken::default()).await.unwrap()
    }

    /// Packs, tombs, and leases.
    async fn census(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for (count, prefix) in counts.iter_mut().zip(["packs", "tombs", "leases"]) {
            *count = self.memory.names(&format!("mmh/{prefix}")).await.len();
        }
        counts
    }
}

/// The bytes of a book.
fn book(seeds: &[u64]) -> Vec<u8> {
    let mut bytes = b"book".to_vec();
    seeds
        .iter()
        .for_each(|seed| bytes.extend_from_slice(&seed.to_le_bytes()));
    bytes
}

/// The chunks that a book names, by its id.
fn chapters(source: &dyn ChunkSource, id: SnapshotId) -> Result<Vec<ChunkId>> {
    let bytes = source.get(&id.object().chunk())?;
    let seeds = bytes[4..].chunks_exact(8);
    Ok(seeds
        .map(|b| ChunkId::of(&raw(u64::from_le_bytes(b.try_into().unwrap()))))
        .collect())
}

/// Puts the chunks of these numbers and the book of them.
fn write_book(writer: &Writer, seeds: &[u64]) -> Result<SnapshotId> {
    for seed in seeds {
        put(writer, &raw(*seed))?;
    }
    let (chunk, _) = put(writer, &book(seeds))?;
    Ok(SnapshotId::from_digest(*chunk.digest()))
}

async fn tip(store: &Store, name: &str) -> Option<SnapshotId> {
    let view = store.refs().await.unwrap();
    let named = change(name, None, None).r#ref;
    view.refs.get(&named).copied()
}

/// Moves a branch to a new book.
async fn publish(store: &Store, name: &str, seeds: &[u64]) -> SnapshotId {
    let writer = store.writer(Handle::current()).await.unwrap();
    let id = write_book(&writer, seeds).unwrap();
    let old = tip(store, name).await;
    writer
        .commit(commit(vec![change(name, old, Some(id))]))
        .unwrap();
    writer.finish().unwrap();
    id
}

async fn remove(store: &Store, name: &str) {
    let old = tip(store, name).await;
    store
        .commit(commit(vec![change(name, old, None)]))
        .await
        .unwrap();
}

/// Marks what roots reach.
fn mark(store: &Store, roots: &GcRoots, marks: &mut Marks) -> Result<()> {
    let reader = store.reader(Handle::current());
    let changes = roots.window.iter().flat_map(|operation| &operation.changes);
    let olds = changes.filter_map(|change| change.old);
    for id in roots.view.refs.values().copied().chain(olds) {
        if marks.walk(id.object().chunk()) {
            for chunk in chapters(&reader, id)? {
                marks.insert(chunk);
            }
        }
    }
    Ok(())
}

/// Options that wait for nothing.
fn at_once() -> GcOptions {
    GcOptions {
        grace_ms: 0,
        undo_ms: 0,
        ..GcOptions::default()
    }
}

async fn gc(store: &Store, options: &GcOptions) -> Result<GcReport> {
    let mut marking = |roots: &GcRoots, marks: &mut Marks| mark(store, roots, marks);
    let ports = (&Silent as _, &Cancel::default());
    store
        .gc(Handle::current(), options, &mut marking, ports)
        .await
}

/// Two runs, far enough apart.
async fn gc_twice(place: &Place, store: &Store) -> [GcReport; 2] {
    let first = gc(store, &at_once()).await.unwrap();
    place.clock.turn_beyond_leases();
    let second = gc(store, &at_once()).await.unwrap();
    [first, second]
}

/// Asserts that every ref of a newly opened store reads to the last chunk.
async fn assert_whole(place: &Place, what: &str) {
    let store = place.open().await;
    let reader = store.reader(Handle::current());
    for (name, id) in &store.refs().await.unwrap().refs {
        let chunks = chapters(&reader, *id).unwrap_or_else(|e| panic!("{what}: {name}: {e}"));
        for chunk in chunks {
            let got = reader.get(&chunk);
            assert!(got.is_ok(), "{what}: {name}: {}", got.unwrap_err());
        }
    }
}

fn is_collected<T: std::fmt::Debug>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Collected { .. }))
}

/// A commit that says when its caller looked.
fn since(commit: Commit, seq: u64) -> Commit {
    Commit {
        since: Some(seq),
        ..commit
    }
}
