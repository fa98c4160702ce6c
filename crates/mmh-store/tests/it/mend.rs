//! Scrubbing and repairing: what heals, what is kept, what is fetched from elsewhere, and that what
//! is lost for good is named and can be stored again.

use std::collections::BTreeSet;
use std::sync::Mutex;

use mmh_core::ports::{Cancel, Silent};
use mmh_core::{ChunkId, ErrorKind, PackId};
use mmh_store::conformance::put;
use mmh_store::fault::{Fault, Faults};
use mmh_store::{
    ChunkSink, ChunkSource, Error, OpenOptions, RepairReport, ScrubOptions, ScrubReport, Store,
};
use tokio::runtime::Handle;

use crate::common::{Memory, assert_all, count_damaged, put_all, raw, runtime, verify};

const N: u64 = 60;

/// A store of several short packs.
async fn healthy(parity: u32) -> (Memory, Store) {
    let memory = Memory::new();
    let store = memory.init_with(parity).await;
    let writer = store.writer(Handle::current()).await.unwrap();
    put_all(&writer, 0..N).unwrap();
    writer.finish().unwrap();
    (memory, store)
}

async fn scrub(store: &Store, after: Option<PackId>) -> ScrubReport {
    let options = ScrubOptions {
        after,
        ..ScrubOptions::default()
    };
    let cancel = Cancel::default();
    let scrubbed = store.scrub(options, &|_| {}, &Silent, &cancel);
    scrubbed.await.unwrap()
}

async fn repair(store: &Store, sources: &[Store]) -> RepairReport {
    let cancel = Cancel::default();
    let repaired = store.repair(sources, &Silent, &cancel);
    repaired.await.unwrap()
}

/// Flips a bit in every 500 bytes: more than any parity of a few per cent heals.
fn ruin(bytes: &mut [u8]) {
    bytes.iter_mut().step_by(500).for_each(|byte| *byte ^= 1);
}

/// The test chunks that a pack holds, by its name.
fn held(store: &Store, name: &str) -> Vec<u64> {
    let reader = store.reader(Handle::current());
    let inside = |seed: &u64| {
        let at = reader.locate(&ChunkId::of(&raw(*seed))).unwrap().unwrap();
        name.ends_with(&at.pack.unwrap().digest().to_string())
    };
    (0..N).filter(inside).collect()
}

#[test]
fn a_scrub_heals_every_pack_and_says_what_it_did() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, store) = healthy(3).await;
        let names = memory.names("mmh/packs").await;
        let n_packs = names.len() as u64;
        let mut whole = Vec::new();
        for name in &names {
            let mut bytes = memory.read(name).await;
            whole.push(bytes.clone());
            bytes[200..1500].fill(0xee);
            memory.write(name, bytes).await;
        }
        let done = Mutex::new(Vec::new());
        let hear = |pack| done.lock().unwrap().push(pack);
        let (options, cancel) = (ScrubOptions::default(), Cancel::default());
        let scrubbed = store.scrub(options, &hear, &Silent, &cancel);
        let report = scrubbed.await.unwrap();
        assert_eq!((report.packs, report.without_parity), (n_packs, 0));
        assert_eq!(report.healed.len() as u64, n_packs);
        assert!(report.is_clean());
        for (name, bytes) in names.iter().zip(whole) {
            assert!(memory.read(name).await == bytes, "{name}");
        }
        assert!(verify(&store).await.is_clean());
        let again = scrub(&store, None).await;
        assert!(again.is_clean() && again.healed.is_empty());
        let done = done.into_inner().unwrap();
        assert!(done.is_sorted() && done.len() as u64 == n_packs);
        let rest = scrub(&store, Some(done[0])).await;
        assert_eq!(rest.packs, n_packs - 1, "it goes on behind the first");
    });
}

/// Every kind of damage of the parity alone is found too: nobody would read it otherwise.
#[test]
fn a_scrub_finds_damage_that_no_reader_meets() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, store) = healthy(3).await;
        let name = memory.longest_pack().await;
        let whole = memory.read(&name).await;
        for at in (0..whole.len()).step_by(101) {
            let mut bad = whole.clone();
            bad[at] ^= 0x20;
            memory.write(&name, bad).await;
            let report = scrub(&store, None).await;
            assert_eq!(report.healed.len(), 1, "byte {at}");
            assert!(memory.read(&name).await == whole, "byte {at}");
        }
        for len in [whole.len() - 1, whole.len() - 600] {
            memory.write(&name, whole[..len].to_vec()).await;
            assert_eq!(scrub(&store, None).await.healed.len(), 1, "cut to {len}");
            assert!(memory.read(&name).await == whole);
        }
    });
}

#[test]
fn a_scrub_tells_what_it_cannot_heal_and_changes_nothing_then() {
    let runtime = runtime();
    runtime.block_on(async {
        for parity in [0, 3] {
            let (memory, store) = healthy(parity).await;
            let names = memory.names("mmh/packs").await;
            let mut bad = memory.read(&names[0]).await;
            ruin(&mut bad);
            memory.write(&names[0], bad.clone()).await;
            memory.write(&names[1], Vec::new()).await;
            let run = memory.names("mmh/index").await.remove(0);
            let mut index = memory.read(&run).await;
            index[30] ^= 1;
            memory.write(&run, index).await;
            let report = scrub(&store, None).await;
            assert!(!report.is_clean());
            assert_eq!(report.damaged_packs.len(), 2);
            assert!(report.damage.iter().any(|damage| damage.object == run));
            let bare = if parity == 0 { names.len() - 2 } else { 0 };
            assert_eq!(report.without_parity, bare as u64);
            assert!(memory.read(&names[0]).await == bad);
        }
    });
}

#[test]
fn mending_can_be_cancelled() {
    let runtime = runtime();
    runtime.block_on(async {
        let (_, store) = healthy(3).await;
        let cancel = Cancel::default();
        cancel.cancel();
        let cancelled = |error| matches!(error, Error::Core(mmh_core::Error::Cancelled));
        let scrubbed = store.scrub(ScrubOptions::default(), &|_| {}, &Silent, &cancel);
        assert!(cancelled(scrubbed.await.unwrap_err()));
        assert!(cancelled(
            store.repair(&[], &Silent, &cancel).await.unwrap_err()
        ));
    });
}

/// Beyond the budget: exactly what is damaged is lost, the rest is kept, and adding the lost
/// chunks again brings all back.
#[test]
fn a_repair_keeps_what_is_whole_and_lets_the_rest_be_stored_again() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, store) = healthy(3).await;
        let name = memory.longest_pack().await;
        let mut bad = memory.read(&name).await;
        let half = bad.len() / 2;
        ruin(&mut bad[half..]);
        bad[100] ^= 1;
        memory.write(&name, bad).await;
        let hit = held(&store, &name);
        let reader = store.reader(Handle::current());
        let lost = count_damaged(&reader, hit.iter().copied());
        assert!(lost > 0 && lost < hit.len());
        let report = repair(&store, &[]).await;
        assert_eq!(report.set_aside.len(), 1);
        assert_eq!(report.lost_chunks.len(), lost);
        assert_eq!(report.kept_chunks, (hit.len() - lost) as u64);
        assert!(report.index_rebuilt);
        assert_eq!(memory.names("mmh/damaged").await.len(), 1);
        assert!(!memory.names("mmh/packs").await.contains(&name));
        let gone: BTreeSet<ChunkId> = report.lost_chunks.into_iter().collect();
        let is_lost = |seed: &u64| gone.contains(&ChunkId::of(&raw(*seed)));
        let (again, whole): (Vec<u64>, Vec<u64>) = (0..N).partition(is_lost);
        assert_all(&reader, whole);
        assert!(verify(&store).await.is_clean());
        for seed in &again {
            let error = reader.get(&ChunkId::of(&raw(*seed))).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
        let writer = store.writer(Handle::current()).await.unwrap();
        for seed in again {
            assert!(put(&writer, &raw(seed)).unwrap().1, "it is stored again");
        }
        writer.finish().unwrap();
        assert_all(&store.reader(Handle::current()), 0..N);
        let nothing = repair(&store, &[]).await;
        assert!(nothing.set_aside.is_empty() && !nothing.index_rebuilt);
    });
}

/// Torn apart in every way: a footer gone with the parity, a pack gone, one empty, the index gone.
#[test]
fn another_store_gives_back_what_is_lost() {
    let runtime = runtime();
    runtime.block_on(async {
        let (_, other) = healthy(0).await;
        let (memory, _) = healthy(3).await;
        let names = memory.names("mmh/packs").await;
        assert!(names.len() >= 4);
        let cut = memory.read(&names[0]).await[..1000].to_vec();
        memory.write(&names[0], cut).await;
        memory.delete(&names[1]).await;
        memory.write(&names[2], Vec::new()).await;
        let mut bad = memory.read(&names[3]).await;
        bad[50] ^= 2;
        memory.write(&names[3], bad).await;
        let store = memory.open().await.unwrap();
        let report = repair(&store, &[other]).await;
        assert_eq!((report.set_aside.len(), report.missing_packs.len()), (2, 1));
        assert_eq!(report.healed.len(), 1);
        assert!(report.fetched_chunks > 10 && report.lost_chunks.is_empty());
        assert_all(&store.reader(Handle::current()), 0..N);
        assert!(verify(&store).await.is_clean());
        for run in memory.names("mmh/index").await {
            memory.write(&run, b"nothing".to_vec()).await;
        }
        let store = memory.open().await.unwrap();
        assert!(repair(&store, &[]).await.index_rebuilt);
        assert_all(&store.reader(Handle::current()), 0..N);
    });
}

/// A store that has other things, or the same damaged, helps as far as it can.
#[test]
fn sources_are_asked_one_after_the_other() {
    let runtime = runtime();
    runtime.block_on(async {
        let empty = Memory::new().init_with(0).await;
        let (broken, broken_store) = healthy(0).await;
        for name in broken.names("mmh/packs").await {
            let mut bytes = broken.read(&name).await;
            ruin(&mut bytes);
            broken.write(&name, bytes).await;
        }
        let (_, whole) = healthy(0).await;
        let (memory, store) = healthy(3).await;
        for name in memory.names("mmh/packs").await {
            memory.write(&name, Vec::new()).await;
        }
        let some = repair(&store, &[empty.clone(), broken_store]).await;
        assert!(some.lost_chunks.len() > 20, "{}", some.lost_chunks.len());
        assert_eq!(some.fetched_chunks + some.lost_chunks.len() as u64, N);
        // What is lost is not in the index any more, so that only a new repair that is told of
        // it could fetch it: it is stored by adding.
        let writer = store.writer(Handle::current()).await.unwrap();
        let reader = whole.reader(Handle::current());
        for id in some.lost_chunks {
            assert!(!writer.contains(&id).unwrap());
            put(&writer, &reader.get(&id).unwrap()).unwrap();
        }
        writer.finish().unwrap();
        assert_all(&store.reader(Handle::current()), 0..N);
    });
}

/// Repairing interrupted at any operation loses nothing that could be read before, and repairing
/// again ends it.
#[test]
fn repairing_can_be_interrupted_anywhere() {
    let runtime = runtime();
    let _inside = runtime.enter();
    for fault in Fault::ALL {
        let mut n = 1;
        while runtime.block_on(interrupted(n, fault)) {
            n += 1;
        }
        assert!(n > 30, "a repair has that many operations, not {n}");
    }
}

async fn interrupted(n: u64, fault: Fault) -> bool {
    let (memory, store) = healthy(3).await;
    let name = memory.longest_pack().await;
    let mut bad = memory.read(&name).await;
    let half = bad.len() / 2;
    ruin(&mut bad[half..]);
    bad[100] ^= 1;
    memory.write(&name, bad).await;
    let hit = held(&store, &name);
    let lost = count_damaged(&store.reader(Handle::current()), hit.iter().copied());
    let faults = Faults::default();
    let backend = faults.decorate(&memory.backend);
    let store = Store::open(backend, OpenOptions::default()).await.unwrap();
    faults.strike(n, fault);
    // An error is as good as a success: what counts is what is there afterwards.
    let _result = store.repair(&[], &Silent, &Cancel::default()).await.is_ok();
    let met = faults.count() >= n;
    memory.staging.crash(0);
    let store = memory.open().await.unwrap();
    let report = repair(&store, &[]).await;
    let reader = store.reader(Handle::current());
    let whole = (0..N).filter(|seed| reader.get(&ChunkId::of(&raw(*seed))).is_ok());
    assert_eq!(
        whole.count(),
        usize::try_from(N).unwrap() - lost,
        "{fault:?} at {n}: {report:?}"
    );
    let writer = store.writer(Handle::current()).await.unwrap();
    put_all(&writer, hit).unwrap();
    writer.finish().unwrap();
    assert_all(&store.reader(Handle::current()), 0..N);
    assert!(verify(&store).await.is_clean(), "{fault:?} at {n}");
    assert!(memory.staging_is_empty());
    met
}
