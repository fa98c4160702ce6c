//! What writers that died leave behind: staged packs cut anywhere, packs without index.

use std::io;
use std::sync::{Arc, Mutex};

use mmh_core::ChunkId;
use mmh_core::ports::{Cancel, Silent};
use mmh_store::conformance::{commit, noise, put, small_store};
use mmh_store::pack::{HEADER_LEN, RECORD_HEAD_LEN};
use mmh_store::{
    Backend, ChunkSink, ChunkSource, Error, GcOptions, GcRoots, InitOptions, LocalStaging, Marks,
    MemoryStaging, OpenOptions, StagedFile, Staging, Store,
};
use object_store::memory::InMemory;
use tokio::runtime::Handle;

use crate::common::{Memory, assert_all, put_all, raw, runtime, store_with, verify};

/// Everything that a writer had staged when it died.
fn staged_bytes(memory: &Memory) -> Vec<u8> {
    let file = memory.staging.orphans().unwrap().remove(0);
    let mut bytes = vec![0; usize::try_from(file.len()).unwrap()];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

fn stage(memory: &Memory, bytes: &[u8]) {
    let file: Box<dyn StagedFile> = memory.staging.create().unwrap();
    file.append(&[bytes]).unwrap();
}

/// A staged pack of six chunks, and where each record ends.
async fn staged_pack() -> (Memory, Vec<u8>, Vec<usize>) {
    let memory = Memory::new();
    let store = small_store(memory.backend.clone()).await;
    let empty = memory.fork();
    let writer = store.writer(Handle::current()).await.unwrap();
    let reader = store.reader(Handle::current());
    let mut ends = Vec::new();
    for seed in 0..6 {
        let (id, _) = put(&writer, &raw(seed)).unwrap();
        let at = reader.locate(&id).unwrap().unwrap();
        assert_eq!(at.pack, None, "it is still growing");
        let end = at.offset + RECORD_HEAD_LEN + u64::from(at.stored_len);
        ends.push(usize::try_from(end).unwrap());
    }
    drop(writer);
    let bytes = staged_bytes(&memory);
    (empty, bytes, ends)
}

/// An interrupted writer costs only the chunk in flight, wherever the file ends.
#[test]
fn a_staged_pack_cut_anywhere_gives_its_whole_records() {
    let runtime = runtime();
    runtime.block_on(async {
        let (empty, bytes, ends) = staged_pack().await;
        assert_eq!(ends.last(), Some(&bytes.len()));
        for len in 0..=bytes.len() {
            let memory = empty.fork();
            stage(&memory, &bytes[..len]);
            let store = memory.open().await.unwrap();
            let found = store.recover().await.unwrap();
            let whole = ends.iter().filter(|end| **end <= len).count() as u64;
            assert_eq!(found.salvaged_chunks, whole, "cut to {len}");
            assert_eq!(found.salvaged_packs, u64::from(whole > 0));
            assert_eq!(found.adopted_packs, u64::from(whole > 0));
            assert!(memory.staging_is_empty());
            if len % 50 == 0 || ends.contains(&len) {
                assert_all(&store.reader(Handle::current()), 0..whole);
                assert!(verify(&store).await.is_clean());
            }
        }
    });
}

/// After a power cut, blocks of the file may be garbage or zeros: what comes before them counts.
#[test]
fn a_staged_pack_with_garbage_gives_the_records_before_it() {
    let runtime = runtime();
    runtime.block_on(async {
        let (empty, bytes, ends) = staged_pack().await;
        for at in (0..bytes.len()).step_by(3) {
            let memory = empty.fork();
            let mut bad = bytes.clone();
            let stop = (at + 40).min(bad.len());
            bad[at..stop].fill(0);
            if bad == bytes {
                continue;
            }
            bad.extend_from_slice(&noise(at as u64, 100));
            stage(&memory, &bad);
            let store = memory.open().await.unwrap();
            let found = store.recover().await.unwrap();
            let before = ends.iter().filter(|end| **end <= at).count() as u64;
            let most = ends.len() as u64;
            assert!(
                (before..=most).contains(&found.salvaged_chunks),
                "zeros at {at}"
            );
            assert_all(&store.reader(Handle::current()), 0..before);
            assert!(verify(&store).await.is_clean(), "zeros at {at}");
        }
    });
}

/// The process died after the trailer was written and before the pack was published.
#[test]
fn a_sealed_staged_pack_becomes_a_pack_of_the_same_records() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = store_with(6, 100).await;
        let packs = memory.names("mmh/packs").await;
        let bytes = memory.read(&packs[0]).await;
        let copy = memory.fork();
        copy.delete(&packs[0]).await;
        for run in copy.names("mmh/index").await {
            copy.delete(&run).await;
        }
        stage(&copy, &bytes);
        let store = copy.open().await.unwrap();
        assert_eq!(store.recover().await.unwrap().salvaged_chunks, 6);
        assert_eq!(copy.records().await, memory.records().await);
        assert_ne!(copy.names("mmh/packs").await, packs, "it is another pack");
    });
}

#[test]
fn files_that_are_no_packs_are_removed_from_staging() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, store) = store_with(6, 100).await;
        let run = memory.names("mmh/index").await.remove(0);
        let run = memory.read(&run).await;
        for bytes in [&b""[..], b"x", &noise(1, 1000), &run, &run[..20]] {
            stage(&memory, bytes);
            assert_eq!(
                store.recover().await.unwrap(),
                mmh_store::Recovered::default()
            );
            assert!(memory.staging_is_empty());
        }
    });
}

/// A pack was published and the process died before its index run was.
#[test]
fn packs_without_index_are_adopted() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = store_with(60, 7).await;
        let runs = memory.names("mmh/index").await;
        memory.delete(&runs[0]).await;
        memory.delete(&runs[3]).await;
        let store = memory.open().await.unwrap();
        let report = verify(&store).await;
        assert!(report.is_clean() && !report.unindexed_packs.is_empty());
        let found = store.recover().await.unwrap();
        assert_eq!(found.adopted_packs, report.unindexed_packs.len() as u64);
        assert_all(&store.reader(Handle::current()), 0..60);
        assert_eq!(
            store.recover().await.unwrap().adopted_packs,
            0,
            "once is enough"
        );
    });
}

#[test]
fn two_processes_may_recover_at_once() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, bytes, _) = staged_pack().await;
        for _ in 0..4 {
            stage(&memory, &bytes);
        }
        let stores = [memory.open().await.unwrap(), memory.open().await.unwrap()];
        let tasks = stores
            .clone()
            .map(|store| tokio::spawn(async move { store.recover().await }));
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        for store in stores {
            assert!(verify(&store).await.is_clean());
            assert_all(&store.reader(Handle::current()), 0..6);
        }
    });
}

/// Recovery takes nothing from a writer that lives, in this process or, by the file lock, in
/// another.
#[test]
fn the_file_of_a_living_writer_is_left_alone() {
    let runtime = runtime();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let backend = Backend::local(dir.path()).unwrap();
        let store = Store::init(backend.clone(), InitOptions::default())
            .await
            .unwrap();
        let one = store.writer(Handle::current()).await.unwrap();
        put_all(&one, 0..5).unwrap();
        let other = Store::open(backend, OpenOptions::default()).await.unwrap();
        assert_eq!(
            other.recover().await.unwrap(),
            mmh_store::Recovered::default()
        );
        let two = other.writer(Handle::current()).await.unwrap();
        put_all(&two, 3..9).unwrap();
        two.finish().unwrap();
        put_all(&one, 9..12).unwrap();
        one.finish().unwrap();
        assert_all(&other.reader(Handle::current()), 0..12);
        assert!(verify(&store).await.is_clean());
        let left = std::fs::read_dir(dir.path().join("mmh/staging"))
            .unwrap()
            .count();
        assert_eq!(left, 0, "nothing stays in staging");
    });
}

/// An engine elsewhere: the staged file waits in a local folder until the next writer.
#[test]
fn a_local_folder_keeps_what_was_staged_for_an_engine_elsewhere() {
    let runtime = runtime();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let staging = Arc::new(LocalStaging::in_folder(dir.path()));
        let backend = Backend::custom("engine", Arc::new(InMemory::new()), staging);
        let store = small_store(backend.clone()).await;
        let writer = store.writer(Handle::current()).await.unwrap();
        put_all(&writer, 0..5).unwrap();
        drop((writer, store));
        let store = Store::open(backend, OpenOptions::default()).await.unwrap();
        assert_eq!(store.recover().await.unwrap().salvaged_chunks, 5);
        assert_all(&store.reader(Handle::current()), 0..5);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    });
}

/// The header is all that a writer wrote: nothing to salvage, nothing left over.
#[test]
fn an_empty_pack_is_no_pack() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, bytes, _) = staged_pack().await;
        stage(&memory, &bytes[..usize::try_from(HEADER_LEN).unwrap()]);
        let store = memory.open().await.unwrap();
        assert_eq!(
            store.recover().await.unwrap(),
            mmh_store::Recovered::default()
        );
        assert!(memory.names("mmh/packs").await.is_empty());
        assert_eq!(
            store
                .reader(Handle::current())
                .locate(&ChunkId::of(b"x"))
                .unwrap(),
            None
        );
    });
}

/// A staging area that remembers what it was asked to settle.
#[derive(Debug)]
struct Recorder {
    inner: MemoryStaging,
    settled: Mutex<Vec<String>>,
}

/// The place again, with such an area.
fn recorded(memory: &Memory) -> (Arc<Recorder>, Backend) {
    let recorder = Arc::new(Recorder {
        inner: MemoryStaging::publishing_into(Arc::clone(&memory.objects) as _),
        settled: Mutex::default(),
    });
    let staging = Arc::clone(&recorder) as Arc<dyn Staging>;
    let backend = Backend::custom("recorded", Arc::clone(&memory.objects) as _, staging);
    (recorder, backend)
}

impl Recorder {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.settled.lock().unwrap())
    }
}

impl Staging for Recorder {
    fn create(&self) -> io::Result<Box<dyn StagedFile>> {
        self.inner.create()
    }

    fn orphans(&self) -> io::Result<Vec<Box<dyn StagedFile>>> {
        self.inner.orphans()
    }

    fn settle(&self, object: &str) -> io::Result<()> {
        self.settled.lock().unwrap().push(object.to_owned());
        Ok(())
    }
}

/// A pack was seen between its renaming and the syncing of its directory, and indexed; the power
/// was cut, and the index named a pack that was not there. Found by simulation.
#[test]
fn packs_are_settled_before_they_are_indexed() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = store_with(40, 10).await;
        let packs = memory.names("mmh/packs").await;
        for name in memory.names("mmh/index").await {
            memory.delete(&name).await;
        }
        let (recorder, backend) = recorded(&memory);
        let open = || Store::open(backend.clone(), OpenOptions::default());
        let store = open().await.unwrap();
        let take = || recorder.take();
        store
            .rebuild_index(Default::default(), &Silent, &Cancel::default())
            .await
            .unwrap();
        assert_eq!(take(), packs, "a rebuild indexes what no run named");
        store
            .rebuild_index(Default::default(), &Silent, &Cancel::default())
            .await
            .unwrap();
        assert!(take().is_empty(), "what a run names was settled before");
        for name in memory.names("mmh/index").await {
            memory.delete(&name).await;
        }
        let adopted = open().await.unwrap().recover().await.unwrap().adopted_packs;
        assert_eq!(
            (take().len() as u64, adopted),
            (adopted, packs.len() as u64)
        );
    });
}

/// A chunk was found in an index run that was seen between its renaming and the syncing of its
/// directory; the power was cut, and nothing named the chunk's pack until the next writer. Found by
/// simulation.
#[test]
fn an_index_run_is_settled_before_a_writer_relies_on_it() {
    let runtime = runtime();
    let handle = runtime.handle().clone();
    let (recorder, runs, store) = runtime.block_on(async {
        let (memory, _) = store_with(40, 10).await;
        let (recorder, backend) = recorded(&memory);
        let store = Store::open(backend, OpenOptions::default()).await.unwrap();
        (recorder, memory.names("mmh/index").await, store)
    });
    let writer = runtime.block_on(store.writer(handle)).unwrap();
    writer.flush().unwrap();
    assert!(recorder.take().is_empty(), "it relies on nothing");
    assert!(writer.contains(&ChunkId::of(&raw(0))).unwrap());
    writer.flush().unwrap();
    assert_eq!(recorder.take(), Vec::from_iter(runs.last().cloned()));
    writer.flush().unwrap();
    assert!(recorder.take().is_empty(), "it was settled before");
}

/// A log entry was seen between its creation and the syncing of its directory, and another was created
/// after it; the power was cut, and only the other was left. Found by simulation.
#[test]
fn a_log_entry_is_settled_before_another_follows() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = store_with(3, 1).await;
        let (recorder, backend) = recorded(&memory);
        let open = || Store::open(backend.clone(), OpenOptions::default());
        let take = || recorder.take();
        let names = async || memory.names("mmh/log").await;
        let store = open().await.unwrap();
        let mut last = names().await.pop();
        let mut add = async |store: &Store| {
            store.commit(commit(Vec::new())).await.unwrap();
            std::mem::replace(&mut last, names().await.pop())
        };
        let before = add(&store).await;
        assert_eq!(take(), Vec::from_iter(before), "it was there before");
        add(&store).await;
        assert!(take().is_empty(), "it is its own");
        let other = open().await.unwrap();
        let before = add(&other).await;
        assert_eq!(take(), Vec::from_iter(before), "another made it");
    });
}

/// What stands for old entries may be as new as their going.
#[test]
fn a_boundary_and_a_checkpoint_are_settled_before_entries_go() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = store_with(3, 1).await;
        let (recorder, backend) = recorded(&memory);
        let store = Store::open(backend, OpenOptions::default()).await.unwrap();
        for _ in 0..194 {
            store.commit(commit(Vec::new())).await.unwrap();
        }
        recorder.take();
        let options = GcOptions {
            undo_ms: 0,
            ..GcOptions::default()
        };
        let mut marking = |_: &GcRoots, _: &mut Marks| Ok::<(), Error>(());
        let ports = (&Silent as _, &Cancel::default());
        let run = store.gc(Handle::current(), &options, &mut marking, ports);
        assert_eq!(run.await.unwrap().log_entries, 64);
        let of = |folder: &str, number: u64| format!("mmh/{folder}/{number:020}");
        let expected = [
            of("boundary", 64),
            of("checkpoint", 128),
            of("log", 128),
            of("checkpoint", 192),
            of("log", 192),
        ];
        assert_eq!(recorder.take(), expected);
    });
}
