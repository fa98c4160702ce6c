//! Chunks through writers and readers: many threads, many runs, merging, and a model beside it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use mmh_core::{ChunkId, ErrorKind};
use mmh_store::conformance::{frame, noise, put, small_store};
use mmh_store::index::RUNS_MAX;
use mmh_store::{Backend, ChunkSink, ChunkSource, Error, InitOptions, OpenOptions, Store, Writer};
use proptest::prelude::*;
use tokio::runtime::Handle;

use crate::common::{Memory, assert_all, put_all, raw, runtime, store_with, verify};

#[test]
fn a_chunk_that_nobody_stored_is_not_found() {
    let runtime = runtime();
    runtime.block_on(async {
        let (_, store) = store_with(5, 2).await;
        let reader = store.reader(Handle::current());
        let id = ChunkId::of(b"nobody's");
        assert_eq!(reader.locate(&id).unwrap(), None);
        let error = reader.get(&id).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains(&id.to_string()), "{error}");
    });
}

#[test]
fn what_locate_says_is_what_was_put() {
    let runtime = runtime();
    runtime.block_on(async {
        let store = small_store(Backend::memory()).await;
        let writer = store.writer(Handle::current()).await.unwrap();
        let bytes = vec![7; 5000];
        let id = ChunkId::of(&bytes);
        let coded = frame(&bytes);
        writer.put(id, 5000, &coded).unwrap();
        writer.finish().unwrap();
        let at = store
            .reader(Handle::current())
            .locate(&id)
            .unwrap()
            .unwrap();
        assert_eq!((at.stored_len as usize, at.raw_len), (coded.len(), 5000));
        assert_eq!(
            at.method,
            mmh_codec::frame_info(&coded).unwrap().method.code()
        );
        assert!(at.pack.is_some());
    });
}

#[test]
fn frames_that_are_none_are_refused() {
    let runtime = runtime();
    runtime.block_on(async {
        let store = small_store(Backend::memory()).await;
        let writer = store.writer(Handle::current()).await.unwrap();
        let id = ChunkId::of(b"abc");
        let good = frame(b"abc");
        for (len, bytes) in [
            (3, &b""[..]),
            (4, &good),
            (2, &good),
            (u32::MAX, &good),
            (3, b"\xff"),
        ] {
            let error = writer.put(id, len, bytes).unwrap_err();
            assert!(matches!(error, Error::BadFrame { .. }), "{error}");
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
        let huge = vec![0; mmh_store::FRAME_LEN_MAX + 1];
        assert!(writer.put(id, 3, &huge).is_err());
        assert!(
            writer.put(id, 3, &good).unwrap(),
            "a refusal does not stop the writer"
        );
    });
}

/// A frame of other bytes under an id is the caller's fault; readers never hand it out.
#[test]
fn a_frame_of_other_bytes_is_never_handed_out() {
    let runtime = runtime();
    runtime.block_on(async {
        let store = small_store(Backend::memory()).await;
        let writer = store.writer(Handle::current()).await.unwrap();
        let id = ChunkId::of(b"abc");
        writer.put(id, 3, &frame(b"abd")).unwrap();
        let reader = store.reader(Handle::current());
        assert_eq!(
            reader.get(&id).unwrap_err().kind(),
            ErrorKind::Corrupt,
            "staged"
        );
        writer.finish().unwrap();
        assert_eq!(
            reader.get(&id).unwrap_err().kind(),
            ErrorKind::Corrupt,
            "published"
        );
    });
}

/// Eight threads put overlapping chunks, some flush: each chunk is stored once.
#[test]
fn each_chunk_is_stored_once_by_many_threads() {
    let runtime = runtime();
    let store = runtime.block_on(small_store(Backend::memory()));
    let writer = runtime
        .block_on(store.writer(runtime.handle().clone()))
        .unwrap();
    let fresh = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let (writer, fresh) = (&writer, &fresh);
            scope.spawn(move || {
                for i in 0..200 {
                    let seed = (i * (thread + 1)) % 200;
                    let (_, new) = put(writer, &raw(seed)).unwrap();
                    fresh.fetch_add(u64::from(new), Ordering::Relaxed);
                    if i % 50 == thread {
                        writer.flush().unwrap();
                    }
                }
            });
        }
    });
    writer.finish().unwrap();
    assert_eq!(fresh.into_inner(), 200);
    let report = runtime.block_on(verify(&store));
    assert!(report.is_clean());
    assert_eq!(report.chunks, 200, "no chunk lies in two packs");
    assert_all(&store.reader(runtime.handle().clone()), 0..200);
}

#[test]
fn an_unfinished_writer_is_visible_to_readers_of_its_store_only() {
    let runtime = runtime();
    runtime.block_on(async {
        let memory = Memory::new();
        let store = small_store(memory.backend.clone()).await;
        let other = memory.open().await.unwrap();
        let writer = store.writer(Handle::current()).await.unwrap();
        put_all(&writer, 0..50).unwrap();
        assert_all(&store.reader(Handle::current()), 0..50);
        let elsewhere = other.reader(Handle::current());
        assert_eq!(elsewhere.locate(&ChunkId::of(&raw(49))).unwrap(), None);
        writer.flush().unwrap();
        assert_all(&elsewhere, 0..50);
    });
}

#[test]
fn flushing_twice_writes_nothing_new() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, store) = store_with(5, 100).await;
        let names = memory.names("mmh").await;
        let writer = store.writer(Handle::current()).await.unwrap();
        put_all(&writer, 0..5).unwrap();
        writer.flush().unwrap();
        writer.flush().unwrap();
        writer.finish().unwrap();
        assert_eq!(memory.names("mmh").await, names);
    });
}

/// Overhead that the issue asks for: little for each chunk, in pack and index.
#[test]
fn a_chunk_costs_under_a_hundred_bytes_beside_its_frame() {
    let runtime = runtime();
    runtime.block_on(async {
        let memory = Memory::new();
        let options = InitOptions {
            parity: 0,
            ..InitOptions::default()
        };
        let store = Store::init(memory.backend.clone(), options).await.unwrap();
        let writer = store.writer(Handle::current()).await.unwrap();
        let mut frames = 0;
        for seed in 0..1000 {
            let bytes = noise(seed, 100);
            frames += frame(&bytes).len() as u64;
            put(&writer, &bytes).unwrap();
        }
        writer.finish().unwrap();
        let stats = store.stats().await.unwrap();
        assert_eq!((stats.packs, stats.index_runs, stats.chunks), (1, 1, 1000));
        assert!(stats.pack_bytes - frames < 1000 * 48 + 200, "{stats:?}");
        assert!(stats.index_bytes < 1000 * 49, "{stats:?}");
    });
}

#[test]
fn many_runs_are_merged_and_nothing_is_lost() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, store) = store_with(300, 3).await;
        let runs = memory.names("mmh/index").await;
        assert!(runs.len() <= RUNS_MAX, "{} runs", runs.len());
        assert!(
            runs.iter().any(|name| !name.starts_with("mmh/index/00-")),
            "none was merged"
        );
        assert_all(&store.reader(Handle::current()), 0..300);
        let again = memory.open().await.unwrap();
        assert_all(&again.reader(Handle::current()), 0..300);
        let report = verify(&again).await;
        assert!(
            report.is_clean() && report.unindexed_packs.is_empty(),
            "{report:?}"
        );
        assert_eq!(again.stats().await.unwrap().chunks, 300);
    });
}

/// Another process merges the runs away under an open reader.
#[test]
fn a_reader_goes_on_when_its_runs_vanish() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = store_with(60, 3).await;
        let old = memory.open().await.unwrap();
        let before = memory.names("mmh/index").await;
        let other = memory.open().await.unwrap();
        let writer = other.writer(Handle::current()).await.unwrap();
        for seed in 60..120 {
            put_all(&writer, [seed]).unwrap();
            writer.flush().unwrap();
        }
        writer.finish().unwrap();
        let after = memory.names("mmh/index").await;
        assert!(
            before.iter().any(|name| !after.contains(name)),
            "some were merged away"
        );
        assert_all(&old.reader(Handle::current()), 0..120);
    });
}

/// Several processes that merge at the same time delete only what is replaced.
#[test]
fn merging_at_once_loses_nothing() {
    let runtime = runtime();
    let memory = Memory::new();
    runtime.block_on(small_store(memory.backend.clone()));
    std::thread::scope(|scope| {
        for part in 0..4u64 {
            let (memory, handle) = (&memory, runtime.handle().clone());
            scope.spawn(move || {
                let store = handle.block_on(memory.open()).unwrap();
                let writer = handle.block_on(store.writer(handle.clone())).unwrap();
                for seed in part * 50..part * 50 + 50 {
                    put_all(&writer, [seed]).unwrap();
                    writer.flush().unwrap();
                }
            });
        }
    });
    runtime.block_on(async {
        let store = memory.open().await.unwrap();
        assert_all(&store.reader(Handle::current()), 0..200);
        let report = verify(&store).await;
        assert!(
            report.is_clean() && report.unindexed_packs.is_empty(),
            "{report:?}"
        );
    });
}

/// A run with many blocks: every entry is found, neighbours of entries are not.
#[test]
fn a_run_of_many_blocks_finds_every_entry() {
    let runtime = runtime();
    runtime.block_on(async {
        let memory = Memory::new();
        let store = Store::init(memory.backend.clone(), InitOptions::default())
            .await
            .unwrap();
        let writer = store.writer(Handle::current()).await.unwrap();
        let chunk = |seed: u64| seed.to_le_bytes();
        for seed in 0..1500 {
            put(&writer, &chunk(seed)).unwrap();
        }
        writer.finish().unwrap();
        let reader = memory.open().await.unwrap().reader(Handle::current());
        for seed in 0..1500 {
            assert_eq!(
                &reader.get(&ChunkId::of(&chunk(seed))).unwrap()[..],
                chunk(seed)
            );
            assert_eq!(
                reader.locate(&ChunkId::of(&chunk(seed + 1500))).unwrap(),
                None
            );
        }
    });
}

/// What a test does to the store.
#[derive(Debug, Clone)]
enum Step {
    Put(u64),
    Flush,
    /// The writer ends in good order.
    Finish,
    /// The writer is dropped, and the power goes: so many unsynced bytes stay.
    PowerCut(usize),
    Rebuild,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..120u64).prop_map(Step::Put),
        2 => Just(Step::Flush),
        1 => Just(Step::Finish),
        1 => (0..3000usize).prop_map(Step::PowerCut),
        1 => Just(Step::Rebuild),
    ]
}

async fn follow(steps: &[Step]) {
    let memory = Memory::new();
    let mut store = small_store(memory.backend.clone()).await;
    let mut writer: Option<Writer> = None;
    // The model: every chunk that was put, and whether it was acknowledged by a flush.
    let mut model: BTreeMap<u64, bool> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Put(seed) => {
                if writer.is_none() {
                    writer = Some(store.writer(Handle::current()).await.unwrap());
                }
                let (_, new) = put(writer.as_ref().unwrap(), &raw(*seed)).unwrap();
                assert!(!new || !model.get(seed).copied().unwrap_or(false));
                model.entry(*seed).or_insert(false);
            }
            Step::Flush => {
                if let Some(writer) = &writer {
                    writer.flush().unwrap();
                    model.values_mut().for_each(|sure| *sure = true);
                }
            }
            Step::Finish => {
                if let Some(writer) = writer.take() {
                    writer.finish().unwrap();
                    model.values_mut().for_each(|sure| *sure = true);
                }
            }
            Step::PowerCut(kept) => {
                writer = None;
                memory.staging.crash(*kept);
                model.retain(|_, sure| *sure);
                store = memory.open().await.unwrap();
            }
            Step::Rebuild => {
                let (progress, cancel) = (mmh_core::ports::Silent, Default::default());
                store
                    .rebuild_index(Default::default(), &progress, &cancel)
                    .await
                    .unwrap();
            }
        }
        let reader = store.reader(Handle::current());
        if writer.is_some() {
            assert_all(&reader, model.keys().copied());
        } else {
            assert_all(
                &reader,
                model
                    .iter()
                    .filter(|(_, sure)| **sure)
                    .map(|(seed, _)| *seed),
            );
        }
    }
    drop(writer);
    assert!(verify(&store).await.is_clean());
    let reopened = Store::open(memory.backend.clone(), OpenOptions::default())
        .await
        .unwrap();
    let sure = model
        .iter()
        .filter(|(_, sure)| **sure)
        .map(|(seed, _)| *seed);
    assert_all(&reopened.reader(Handle::current()), sure);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_a_map_does(steps in prop::collection::vec(step(), 1..60)) {
        runtime().block_on(follow(&steps));
    }
}
