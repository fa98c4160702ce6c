//! Chunks are carried from store to store as they are: all that are missing, bases before what needs
//! them, nothing twice, nothing that is not what its id says.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use mmh_core::ChunkId;
use mmh_core::ports::{Cancel, Silent};
use mmh_store::conformance::{noise, small_store};
use mmh_store::fault::{Fault, Faults};
use mmh_store::{
    Backend, Carried, ChunkSink, ChunkSource, MemoryStaging, Peer, Result, Store, Writer,
};
use object_store::memory::InMemory;
use tokio::runtime::Handle;

use crate::common::{Memory, assert_all, put_all, raw, runtime, store_in, verify};
use crate::linked::{LEN, chain, frame_as, id as version_id, put as put_version, version};

/// The ids of some test chunks in a store, sorted.
fn ids(store: &Store, seeds: impl IntoIterator<Item = u64>) -> Vec<ChunkId> {
    let reader = store.reader(Handle::current());
    let ids: BTreeSet<ChunkId> = seeds
        .into_iter()
        .map(|seed| reader.id(&raw(seed)))
        .collect();
    ids.into_iter().collect()
}

async fn bring(source: &Store, writer: &Arc<Writer>, ids: &[ChunkId]) -> Result<Carried> {
    let missing = writer.missing(ids).await?;
    let ports = (&Silent as _, &Cancel::default());
    let carried = writer.carry((source, None), &missing, ports).await?;
    writer.flush()?;
    Ok(carried)
}

async fn carry(source: &Store, dest: &Store, ids: &[ChunkId]) -> Result<Carried> {
    let writer = Arc::new(dest.writer(Handle::current()).await?);
    bring(source, &writer, ids).await
}

#[test]
fn what_is_missing_is_carried_as_it_is() {
    for memory in [Memory::new, Memory::sealed] {
        runtime().block_on(async {
            let (_, source) = store_in(memory(), 120, 50).await;
            let (there, dest) = store_in(memory(), 30, 50).await;
            let all = ids(&source, 0..120);
            assert_eq!(dest.missing(&all).await.unwrap(), ids(&dest, 30..120));
            let weighed = source.weigh(&ids(&dest, 30..120)).await.unwrap();
            let carried = carry(&source, &dest, &all).await.unwrap();
            assert_eq!(carried.chunks, 90);
            assert_eq!(weighed, carried);
            assert_all(&dest.reader(Handle::current()), 0..120);
            assert!(verify(&dest).await.is_clean());
            assert!(there.staging_is_empty());
            for at in [5, 77] {
                let [one, other] = [&source, &dest].map(|store| {
                    let reader = store.reader(Handle::current());
                    reader.frame(&reader.id(&raw(at))).unwrap()
                });
                assert_eq!(one, other, "it was not coded again");
            }
            let again = carry(&source, &dest, &all).await.unwrap();
            assert_eq!(again, Carried::default());
        });
    }
}

#[test]
fn stores_with_other_keys_are_refused() {
    runtime().block_on(async {
        let (_, open) = store_in(Memory::new(), 3, 9).await;
        let (_, sealed) = store_in(Memory::sealed(), 3, 9).await;
        assert!(open.shares_keys_with(&open) && sealed.shares_keys_with(&sealed));
        assert!(!open.shares_keys_with(&sealed) && !sealed.shares_keys_with(&open));
        assert!(carry(&open, &sealed, &ids(&open, 0..3)).await.is_err());
    });
}

/// Only the last version is asked for: those that it is a difference from come first.
#[test]
fn what_a_frame_refers_to_comes_with_it() {
    runtime().block_on(async {
        let (_, source) = chain(4).await;
        let dest = small_store(Memory::new().backend).await;
        let carried = carry(&source, &dest, &[version_id(3)]).await.unwrap();
        assert_eq!(carried.chunks, 4);
        let reader = dest.reader(Handle::current());
        for n in 0..4 {
            assert_eq!(&reader.get(&version_id(n)).unwrap()[..], version(n));
        }
        assert!(verify(&dest).await.is_clean());
    });
}

/// The other side has some versions in another form, and one of them without its base.
#[test]
fn no_circle_is_closed() {
    runtime().block_on(async {
        let (_, source) = chain(3).await;
        let memory = Memory::new();
        let dest = small_store(memory.backend.clone()).await;
        let writer = dest.writer(Handle::current()).await.unwrap();
        // Version 0 as a difference from version 2, which is not there: in the source it is the
        // other way round.
        let frame = frame_as(0, Some((2, version_id(2))));
        writer.put(version_id(0), LEN, &frame).unwrap();
        put_version(&writer, 1, Some(0));
        writer.finish().unwrap();
        let mut wanted = [0, 1, 2].map(version_id);
        wanted.sort_unstable();
        let carried = carry(&source, &dest, &wanted).await.unwrap();
        assert!(carried.lost.is_empty(), "{carried:?}");
        let reader = dest.reader(Handle::current());
        for n in 0..3 {
            assert_eq!(&reader.get(&version_id(n)).unwrap()[..], version(n), "{n}");
        }
        let report = verify(&dest).await;
        assert!(report.is_clean(), "{report:?}");
    });
}

/// What is in a pack with a tomb is about to go.
#[test]
fn chunks_in_packs_with_tombs_count_as_missing() {
    runtime().block_on(async {
        let (_, source) = store_in(Memory::new(), 10, 50).await;
        let (memory, dest) = store_in(Memory::new(), 10, 50).await;
        for name in memory.names("mmh/packs").await {
            let tomb = format!("mmh/tombs/{}", name.rsplit('/').next().unwrap());
            memory
                .write(&tomb, b"a damaged tomb is a tomb".to_vec())
                .await;
        }
        let all = ids(&source, 0..10);
        assert_eq!(dest.missing(&all).await.unwrap(), all);
        assert_eq!(carry(&source, &dest, &all).await.unwrap().chunks, 10);
    });
}

/// Flips a bit in a record, a third into the longest pack.
async fn damage(memory: &Memory) {
    let name = memory.longest_pack().await;
    let mut bytes = memory.read(&name).await;
    let at = bytes.len() / 3;
    bytes[at] ^= 1;
    memory.write(&name, bytes).await;
}

#[test]
fn what_is_damaged_is_left_out_and_named() {
    for memory in [Memory::new, Memory::sealed] {
        runtime().block_on(async {
            let (here, source) = store_in(memory(), 60, 100).await;
            let dest = memory().init().await;
            damage(&here).await;
            let all = ids(&source, 0..60);
            let carried = carry(&source, &dest, &all).await.unwrap();
            assert_eq!((carried.chunks, carried.lost.len()), (59, 1));
            let lost: Vec<ChunkId> = carried.lost.keys().copied().collect();
            assert_eq!(dest.missing(&all).await.unwrap(), lost);
            assert!(verify(&dest).await.is_clean());
            // Another copy of it is as good.
            let writer = source.writer(Handle::current()).await.unwrap();
            let (_, spare) = store_in(memory(), 60, 100).await;
            let ports = (&Silent as _, &Cancel::default());
            let writer = Arc::new(writer);
            let from = (&spare, None);
            assert_eq!(writer.carry(from, &lost, ports).await.unwrap().chunks, 1);
            writer.flush().unwrap();
            assert_eq!(carry(&source, &dest, &all).await.unwrap().chunks, 1);
            assert_all(&dest.reader(Handle::current()), 0..60);
        });
    }
}

#[test]
fn damage_that_parity_heals_is_no_damage() {
    runtime().block_on(async {
        let here = Memory::new();
        let source = here.init_with(10).await;
        let writer = source.writer(Handle::current()).await.unwrap();
        put_all(&writer, 0..60).unwrap();
        writer.finish().unwrap();
        damage(&here).await;
        let dest = Memory::new().init().await;
        let carried = carry(&source, &dest, &ids(&source, 0..60)).await.unwrap();
        assert_eq!((carried.chunks, carried.lost.len()), (60, 0));
        assert_eq!(source.take_healed().len(), 1);
    });
}

/// A record whose checksum is right, but which is not what its id says: somebody lies.
#[test]
fn a_lie_is_not_carried() {
    runtime().block_on(async {
        let source = small_store(Memory::new().backend).await;
        let writer = source.writer(Handle::current()).await.unwrap();
        let truth = noise(1, 100);
        let lie = mmh_store::conformance::frame(&noise(2, 100));
        let id = ChunkId::of(&truth);
        assert!(writer.put(id, 100, &lie).unwrap());
        writer.finish().unwrap();
        let dest = small_store(Memory::new().backend).await;
        let carried = carry(&source, &dest, &[id]).await.unwrap();
        assert_eq!((carried.chunks, carried.lost.len()), (0, 1));
        assert_eq!(dest.stats().await.unwrap().packs, 0);
    });
}

/// Whoever is alive on the other side is asked once, in order.
#[test]
fn a_peer_answers_at_once() {
    #[derive(Debug)]
    struct Asked(Store, Mutex<Vec<usize>>);

    impl Peer for Asked {
        fn missing<'a>(&'a self, ids: &'a [ChunkId]) -> BoxFuture<'a, Result<Vec<ChunkId>>> {
            assert!(ids.is_sorted());
            self.1.lock().unwrap().push(ids.len());
            Box::pin(self.0.missing(ids))
        }
    }

    runtime().block_on(async {
        let (_, source) = store_in(Memory::new(), 40, 50).await;
        let (memory, dest) = store_in(Memory::new(), 10, 50).await;
        let peer = Arc::new(Asked(dest, Mutex::default()));
        let backend = memory.backend.clone().with_peer(Arc::clone(&peer) as _);
        let there = Store::open(backend, memory.options()).await.unwrap();
        let carried = carry(&source, &there, &ids(&source, 0..40)).await.unwrap();
        assert_eq!(carried.chunks, 30);
        assert_eq!(*peer.1.lock().unwrap(), [40]);
    });
}

/// Whatever fails, and whenever the process dies: what is there afterwards is whole, and what
/// arrived is not sent again.
#[test]
fn every_operation_may_fail_or_be_the_last() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let (source, wanted) = runtime.block_on(async {
        let (_, source) = chain(3).await;
        let writer = source.writer(Handle::current()).await.unwrap();
        put_all(&writer, 0..40).unwrap();
        writer.finish().unwrap();
        let mut wanted = ids(&source, 0..40);
        wanted.push(version_id(2));
        wanted.sort_unstable();
        (source, wanted)
    });
    for fault in Fault::ALL {
        let mut n = 1;
        while runtime.block_on(one_fault((&source, &wanted), n, fault)) {
            n += 1;
        }
        assert!(n > 20, "{fault:?}: {n} operations");
    }
}

/// Carries with one fault, then without; returns whether the fault was met.
async fn one_fault((source, wanted): (&Store, &[ChunkId]), n: u64, fault: Fault) -> bool {
    let memory = Memory::new();
    memory.init().await;
    let faults = Faults::default();
    let backend = faults.decorate(&memory.backend);
    faults.strike(n, fault);
    let done = match Store::open(backend, memory.options()).await {
        Ok(dest) => carry(source, &dest, wanted).await,
        Err(error) => Err(error),
    };
    let met = faults.count() >= n;
    let what = format!("{fault:?} at {n}: {done:?}");
    assert!(met || done.is_ok(), "{what}");
    memory.staging.crash(usize::MAX);
    let dest = memory.open().await.unwrap();
    // The next writer takes over what was staged; then only the rest is sent.
    dest.recover().await.unwrap();
    let report = verify(&dest).await;
    assert!(report.is_clean(), "{what}: {report:?}");
    let before = dest.stats().await.unwrap().chunks;
    let carried = carry(source, &dest, wanted).await.unwrap();
    assert!(
        before + carried.chunks <= 43,
        "{what}: {before} and {carried:?}"
    );
    assert!(dest.missing(wanted).await.unwrap().is_empty(), "{what}");
    let report = verify(&dest).await;
    assert!(report.is_clean(), "{what}: {report:?}");
    assert!(memory.staging_is_empty(), "{what}");
    met
}

/// A stale source: its packs were moved by garbage collection since its index was read.
#[test]
fn packs_that_moved_are_found_where_they_went() {
    runtime().block_on(async {
        let (memory, late) = store_in(Memory::new(), 40, 50).await;
        let all = ids(&late, 0..40);
        // All chunks again in other packs, and the old ones gone, index and all.
        let old = memory.names("mmh/").await;
        let objects = Arc::new(InMemory::new());
        let staging = MemoryStaging::publishing_into(Arc::clone(&objects) as _);
        let other = Backend::custom("other", objects, Arc::new(staging));
        let spare = small_store(other).await;
        carry(&late, &spare, &all).await.unwrap();
        for name in old.iter().filter(|name| !name.ends_with("config")) {
            memory.delete(name).await;
        }
        let fresh = memory.open().await.unwrap();
        carry(&spare, &fresh, &all).await.unwrap();
        let dest = small_store(Memory::new().backend).await;
        let carried = carry(&late, &dest, &all).await.unwrap();
        assert_eq!((carried.chunks, carried.lost.len()), (40, 0));
    });
}
