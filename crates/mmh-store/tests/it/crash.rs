//! The fault sweep: a scenario runs once for every operation of backend and staging area, which
//! fails, loses its reply, is torn, or is the last of the process. Whatever was acknowledged
//! before must be there after reopening.

use std::collections::BTreeSet;

use mmh_core::{ChunkId, ErrorKind, SnapshotId};
use mmh_store::conformance::{change, commit, put, small_store};
use mmh_store::fault::{Fault, Faults};
use mmh_store::{ChunkSource, OpenOptions, Result, Store};
use tokio::runtime::Handle;

use crate::common::{Memory, assert_all, put_all, raw, runtime, verify};

/// What the store acknowledged to the scenario.
#[derive(Debug, Default)]
struct Acknowledged {
    chunks: BTreeSet<u64>,
    snapshot: Option<SnapshotId>,
}

/// Two writers one after the other, several packs each, two commits.
async fn scenario(store: &Store, sure: &mut Acknowledged) -> Result<()> {
    for round in 0..2u64 {
        let writer = store.writer(Handle::current()).await?;
        let mut waiting = Vec::new();
        for seed in round * 40..round * 40 + 44 {
            put(&writer, &raw(seed))?;
            waiting.push(seed);
            if seed % 16 == 15 {
                writer.flush()?;
                sure.chunks.extend(waiting.drain(..));
            }
        }
        let snapshot = b"snapshot".repeat(usize::try_from(round + 1).unwrap());
        let (chunk, _) = put(&writer, &snapshot)?;
        writer.finish()?;
        sure.chunks.extend(waiting);
        let id = SnapshotId::from_digest(*chunk.digest());
        store
            .commit(commit(vec![change("m", sure.snapshot, Some(id))]))
            .await?;
        sure.snapshot = Some(id);
    }
    Ok(())
}

/// Runs the scenario with one fault; returns whether the fault was met.
async fn run(n: u64, fault: Fault, kept: usize, memory: Memory) -> bool {
    memory.init().await;
    let faults = Faults::default();
    faults.strike(n, fault);
    let mut sure = Acknowledged::default();
    let backend = faults.decorate(&memory.backend);
    let result = match Store::open(backend, memory.options()).await {
        Ok(store) => scenario(&store, &mut sure).await,
        Err(error) => Err(error),
    };
    let met = faults.count() >= n;
    assert!(met || result.is_ok(), "no fault, no error: {result:?}");
    if let Err(error) = &result {
        let kind = error.kind();
        let honest = matches!(kind, ErrorKind::Unavailable | ErrorKind::Denied);
        assert!(honest, "{fault:?} at {n}: {kind}: {error}");
    }
    memory.staging.crash(kept);
    let what = format!("{fault:?} at {n}, {kept} bytes kept: {result:?}");
    assert_recovers(&memory, &sure, &what).await;
    met
}

async fn assert_recovers(memory: &Memory, sure: &Acknowledged, what: &str) {
    let store = memory
        .open()
        .await
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    let before = verify(&store).await;
    assert!(before.is_clean(), "{what}: {before:?}");
    assert_all(
        &store.reader(Handle::current()),
        sure.chunks.iter().copied(),
    );
    let named = store.refs().await.unwrap().refs.values().next().copied();
    if named != sure.snapshot {
        // The last commit may have happened although its caller never heard of it.
        let id = named.unwrap_or_else(|| panic!("{what}: an acknowledged commit is gone"));
        let reader = store.reader(Handle::current());
        assert!(
            reader.get(&id.object().chunk()).is_ok(),
            "{what}: a ref dangles"
        );
    }
    // Life goes on: the next writer takes over what was staged, and adds what is missing.
    let writer = store
        .writer(Handle::current())
        .await
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    put_all(&writer, 0..84).unwrap();
    writer.finish().unwrap();
    assert!(
        memory.staging_is_empty(),
        "{what}: staging is left with files"
    );
    let after = verify(&store).await;
    assert!(
        after.is_clean() && after.unindexed_packs.is_empty(),
        "{what}: {after:?}"
    );
    assert_all(&store.reader(Handle::current()), 0..84);
}

fn sweep(fault: Fault, kept: usize) {
    sweep_in(Memory::new, fault, kept);
}

fn sweep_in(memory: fn() -> Memory, fault: Fault, kept: usize) {
    let runtime = runtime();
    let _inside = runtime.enter();
    let mut n = 1;
    // The scenario runs on this thread, which may block, as a computing pool's may.
    while runtime.block_on(run(n, fault, kept, memory())) {
        n += 1;
    }
    assert!(n > 150, "the scenario has that many operations, not {n}");
}

#[test]
fn nothing_acknowledged_is_lost_when_an_operation_fails() {
    sweep(Fault::Fail, 0);
}

#[test]
fn nothing_acknowledged_is_lost_when_a_reply_is_lost() {
    sweep(Fault::LostReply, 0);
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_dies() {
    sweep(Fault::Crash, usize::MAX);
    sweep(Fault::CrashAfter, 0);
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_goes() {
    sweep(Fault::Torn, 777);
    sweep(Fault::Torn, 0);
}

#[test]
fn nothing_acknowledged_is_lost_when_a_sealed_store_is_hit() {
    sweep_in(Memory::sealed, Fault::Fail, 0);
    sweep_in(Memory::sealed, Fault::CrashAfter, 0);
    sweep_in(Memory::sealed, Fault::Torn, 777);
}

/// An error of the device, a full disk, one that is read-only, and one that may not be written any
/// more: at every operation, for plain and sealed stores.
#[test]
fn nothing_acknowledged_is_lost_when_the_disk_refuses() {
    for fault in Fault::OF_DISK {
        sweep_in(Memory::new, fault, usize::MAX);
        sweep_in(Memory::sealed, fault, usize::MAX);
    }
}

/// The exam must notice a disk that does not sync, or it would prove nothing about syncing.
#[test]
fn a_disk_that_lies_about_syncing_is_noticed() {
    let runtime = runtime();
    runtime.block_on(async {
        let memory = Memory::new();
        small_store(memory.backend.clone()).await;
        let faults = Faults::default();
        faults.let_sync_lie();
        let backend = faults.decorate(&memory.backend);
        let store = Store::open(backend, OpenOptions::default()).await.unwrap();
        let writer = store.writer(Handle::current()).await.unwrap();
        put(&writer, &raw(1)).unwrap();
        writer.flush().unwrap();
        let store = memory.open().await.unwrap();
        let read = store.reader(Handle::current()).get(&ChunkId::of(&raw(1)));
        assert!(read.is_err());
        assert!(!verify(&store).await.is_clean());
    });
}

/// After a failure a writer accepts nothing more, and says why.
#[test]
fn a_full_disk_stops_the_writer_with_its_reason() {
    let runtime = runtime();
    runtime.block_on(async {
        let memory = Memory::new();
        small_store(memory.backend.clone()).await;
        let faults = Faults::default();
        let backend = faults.decorate(&memory.backend);
        let store = Store::open(backend, OpenOptions::default()).await.unwrap();
        let writer = store.writer(Handle::current()).await.unwrap();
        put(&writer, &raw(1)).unwrap();
        faults.strike(2, Fault::Fail);
        let error = put(&writer, &raw(2))
            .and_then(|_| put(&writer, &raw(3)))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("planned fault"), "{error}");
        for later in [put(&writer, &raw(4)).map(drop), writer.flush()] {
            let error = later.unwrap_err();
            assert!(error.to_string().contains("planned fault"), "{error}");
        }
        drop(writer);
        let next = store.writer(Handle::current()).await.unwrap();
        assert!(
            !put(&next, &raw(1)).unwrap().1,
            "the whole record was taken over"
        );
    });
}
