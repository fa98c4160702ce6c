//! Others at work meanwhile, step by step: writers that are stalled, readers that are late.

use futures::future::BoxFuture;
use mmh_store::Peer;
use mmh_store::fault::Faults;

use super::*;
use crate::common::{assert_all, put_all, runtime, verify};

/// A store with a dead book of these chunks and a living one.
async fn with_dead(seeds: std::ops::Range<u64>) -> (Place, Store) {
    let place = Place::new().await;
    let store = place.open().await;
    let dead: Vec<u64> = seeds.collect();
    publish(&store, "dead", &dead).await;
    publish(&store, "alive", &[900, 901]).await;
    remove(&store, "dead").await;
    (place, store)
}

/// Whoever meets a chunk in a pack with a tomb stores it again.
#[test]
fn nobody_relies_on_a_pack_with_a_tomb() {
    let runtime = runtime();
    runtime.block_on(async {
        let (place, store) = with_dead(0..40).await;
        let first = gc(&store, &at_once()).await.unwrap();
        assert!(first.buried_packs > 0);
        let other = place.open().await;
        let writer = other.writer(Handle::current()).await.unwrap();
        assert!(put(&writer, &raw(7)).unwrap().1, "it counts as missing");
        assert!(!put(&writer, &raw(900)).unwrap().1, "this one is alive");
        drop(writer);
        publish(&other, "again", &[7, 8]).await;
        place.clock.turn_beyond_leases();
        assert!(gc(&store, &at_once()).await.unwrap().deleted_packs > 0);
        assert_whole(&place, "after the old packs went").await;
    });
}

/// The writer found a chunk before its pack got a tomb, was stalled beyond its lease, and the pack
/// is gone when it commits.
async fn stalled(broken: Broken) -> (Place, Result<()>) {
    let (place, store) = with_dead(0..40).await;
    let backend = place.memory.backend.clone();
    let other = place.open_at(backend, broken).await.unwrap();
    let writer = other.writer(Handle::current()).await.unwrap();
    assert!(!put(&writer, &raw(7)).unwrap().1, "it is there");
    let id = write_book(&writer, &[7, 8]).unwrap();
    writer.flush().unwrap();
    place.clock.turn_beyond_leases();
    let [_, second] = gc_twice(&place, &store).await;
    assert!(second.deleted_packs > 0);
    let late = commit(vec![change("late", None, Some(id))]);
    let done = writer.commit(late).map(drop);
    (place, done)
}

#[test]
fn a_stalled_writer_is_told_that_what_it_relied_on_was_collected() {
    let runtime = runtime();
    runtime.block_on(async {
        let (place, done) = stalled(Broken::default()).await;
        assert!(is_collected(&done), "{done:?}");
        assert_eq!(done.unwrap_err().kind(), mmh_core::ErrorKind::Conflict);
        assert_whole(&place, "without the late one").await;
        publish(&place.open().await, "late", &[7, 8]).await;
        assert_whole(&place, "with the late one").await;
    });
}

/// The check of a store read the refs, and was stalled until what they named was collected: they have
/// moved on, and nothing is damaged.
#[test]
fn a_check_that_was_overtaken_looks_at_the_refs_again() {
    let runtime = runtime();
    runtime.block_on(async {
        let (place, faults) = (Place::new().await, Faults::default());
        let store = place.open().await;
        publish(&store, "moves", &[1, 2]).await;
        publish(&store, "moves", &[3, 4]).await;
        let [_, second] = gc_twice(&place, &store).await;
        assert!(second.deleted_packs > 0);
        let backend = faults.decorate(&place.memory.backend);
        let late = place.open_at(backend, Broken::default()).await.unwrap();
        faults.let_be_late("mmh/log/00000000000000000002");
        let report = verify(&late).await;
        assert!(report.is_clean(), "{:?}", report.damage);
        assert!(report.operations >= 2, "it followed the log to its end");
    });
}

/// The other side, which answers by its own index.
#[derive(Debug)]
struct Says(Store);

impl Peer for Says {
    fn missing<'a>(&'a self, ids: &'a [ChunkId]) -> BoxFuture<'a, Result<Vec<ChunkId>>> {
        Box::pin(self.0.missing(ids))
    }
}

/// The other side does not say which packs the chunks are in, so that none may be collected.
#[test]
fn a_writer_that_was_told_what_is_there_is_told_what_was_collected() {
    let runtime = runtime();
    runtime.block_on(async {
        let (place, store) = with_dead(0..40).await;
        let says = Arc::new(Says(place.open().await));
        let backend = place.memory.backend.clone().with_peer(says);
        let other = place.open_at(backend, Broken::default()).await.unwrap();
        let writer = other.writer(Handle::current()).await.unwrap();
        let mut ids = [7, 8].map(|seed| ChunkId::of(&raw(seed)));
        ids.sort_unstable();
        assert_eq!(writer.missing(&ids).await.unwrap(), [], "they are there");
        let (book, _) = put(&writer, &book(&[7, 8])).unwrap();
        writer.flush().unwrap();
        place.clock.turn_beyond_leases();
        let [_, second] = gc_twice(&place, &store).await;
        assert!(second.deleted_packs > 0);
        let id = SnapshotId::from_digest(*book.digest());
        let done = writer.commit(commit(vec![change("late", None, Some(id))]));
        assert!(is_collected(&done), "{done:?}");
        assert_whole(&place, "without the late one").await;
    });
}

/// The exam must notice a store that does not look, or it would prove nothing.
#[test]
fn a_store_that_does_not_look_at_the_fence_loses_data() {
    let runtime = runtime();
    runtime.block_on(async {
        let broken = Broken {
            no_fence_check: true,
            ..Broken::default()
        };
        let (place, done) = stalled(broken).await;
        done.unwrap();
        let store = place.open().await;
        let reader = store.reader(Handle::current());
        assert!(reader.get(&ChunkId::of(&raw(7))).is_err());
    });
}

/// As long as a lease lives, its holder is not sent back.
#[test]
fn a_living_lease_keeps_what_its_holder_may_have_seen() {
    let runtime = runtime();
    runtime.block_on(async {
        let (place, store) = with_dead(0..40).await;
        let other = place.open().await;
        let writer = other.writer(Handle::current()).await.unwrap();
        assert!(!put(&writer, &raw(7)).unwrap().1);
        for _ in 0..4 {
            let report = gc(&store, &at_once()).await.unwrap();
            assert_eq!((report.deleted_packs, report.leases), (0, 1), "{report:?}");
            // It goes on working, so its lease is renewed.
            place.clock.turn(LEASE_MS / 2);
            put_all(&writer, [7]).unwrap();
        }
        let id = write_book(&writer, &[7, 8]).unwrap();
        writer
            .commit(commit(vec![change("slow", None, Some(id))]))
            .unwrap();
        writer.finish().unwrap();
        gc_twice(&place, &store).await;
        assert_whole(&place, "slow but well").await;
        let lease = other.lease("read").await.unwrap();
        publish(&store, "slow", &[1]).await;
        let report = gc(&store, &at_once()).await.unwrap();
        assert_eq!(report.leases, 1);
        lease.release().await.unwrap();
        assert_eq!(gc(&store, &at_once()).await.unwrap().leases, 0);
    });
}

/// What a living writer has published and not committed gets no tomb: it would all be copied.
#[test]
fn packs_of_a_writer_at_work_are_left_alone() {
    let runtime = runtime();
    runtime.block_on(async {
        let place = Place::new().await;
        let store = place.open().await;
        let writer = store.writer(Handle::current()).await.unwrap();
        let id = write_book(&writer, &(0..60).collect::<Vec<_>>()).unwrap();
        writer.flush().unwrap();
        let report = gc(&place.open().await, &at_once()).await.unwrap();
        assert!(report.packs > 2 && report.buried_packs == 0, "{report:?}");
        writer
            .commit(commit(vec![change("m", None, Some(id))]))
            .unwrap();
        writer.finish().unwrap();
        assert_whole(&place, "committed").await;
        // Another one gives up: what it left is garbage once its lease has ended.
        let writer = store.writer(Handle::current()).await.unwrap();
        put_all(&writer, 100..160).unwrap();
        writer.finish().unwrap();
        let report = gc(&store, &at_once()).await.unwrap();
        assert!(report.buried_packs > 2, "{report:?}");
    });
}

/// A commit comes between marking and condemning: what it needs is spared.
async fn between(broken: Broken) -> (Place, Result<GcReport>) {
    let (place, store) = with_dead(0..40).await;
    let stalled = place.open().await;
    let writer = stalled.writer(Handle::current()).await.unwrap();
    let id = write_book(&writer, &[7, 8]).unwrap();
    writer.flush().unwrap();
    place.clock.turn_beyond_leases();
    gc(&store, &at_once()).await.unwrap();
    place.clock.turn_beyond_leases();
    let backend = place.memory.backend.clone();
    let store = place.open_at(backend, broken).await.unwrap();
    let mut late = Some(commit(vec![change("late", None, Some(id))]));
    let mut calls = 0;
    let mut marking = |roots: &GcRoots, marks: &mut Marks| {
        calls += 1;
        mark(&store, roots, marks)?;
        late.take()
            .map_or(Ok(()), |late| writer.commit(late).map(drop))
    };
    let ports = (&Silent as _, &Cancel::default());
    let options = at_once();
    let run = store.gc(Handle::current(), &options, &mut marking, ports);
    let done = run.await;
    assert_eq!(calls, 2, "it marked again");
    (place, done)
}

#[test]
fn what_is_committed_between_marking_and_condemning_is_spared() {
    let runtime = runtime();
    runtime.block_on(async {
        let (place, done) = between(Broken::default()).await;
        done.unwrap();
        assert_whole(&place, "spared").await;
        let store = place.open().await;
        assert_all(&store.reader(Handle::current()), [7, 8]);
        // The next runs copy it out, and let go of the rest.
        gc_twice(&place, &store).await;
        assert_eq!(place.census().await[1], 0, "no tomb is left");
        assert_whole(&place, "copied out").await;
    });
}

#[test]
fn deleting_before_the_log_says_so_loses_data() {
    let runtime = runtime();
    runtime.block_on(async {
        let broken = Broken {
            delete_before_fence: true,
            ..Broken::default()
        };
        let (place, _) = between(broken).await;
        let store = place.open().await;
        let reader = store.reader(Handle::current());
        assert!(reader.get(&ChunkId::of(&raw(7))).is_err());
    });
}

/// A ref that is made of what was looked up before a collection is refused.
#[test]
fn a_ref_to_what_was_looked_up_before_is_refused() {
    let runtime = runtime();
    runtime.block_on(async {
        let place = Place::new().await;
        let store = place.open().await;
        let old = publish(&store, "m", &[1, 2, 3]).await;
        publish(&store, "m", &(50..80).collect::<Vec<_>>()).await;
        let looked = store.refs().await.unwrap().seq;
        gc_twice(&place, &store).await;
        let tag = commit(vec![change("old", None, Some(old))]);
        let done = store.commit(since(tag, looked)).await;
        assert!(is_collected(&done), "{done:?}");
        let now = store.refs().await.unwrap();
        let id = *now.refs.values().next().unwrap();
        let tag = commit(vec![change("new", None, Some(id))]);
        store.commit(since(tag, now.seq)).await.unwrap();
    });
}

/// A reader whose index is old finds a chunk where it was copied to.
#[test]
fn a_reader_finds_what_was_moved() {
    let runtime = runtime();
    runtime.block_on(async {
        let place = Place::new().await;
        let store = place.open().await;
        publish(&store, "all", &(0..200).collect::<Vec<_>>()).await;
        publish(&store, "few", &[3, 103]).await;
        remove(&store, "all").await;
        let late = place.open().await;
        let reader = late.reader(Handle::current());
        assert_all(&reader, [3]);
        gc_twice(&place, &store).await;
        assert_all(&reader, [3, 103]);
        assert!(reader.get(&ChunkId::of(&raw(50))).is_err(), "it is gone");
        // A writer with such an index does not take its word for what is there.
        let writer = late.writer(Handle::current()).await.unwrap();
        assert!(put(&writer, &raw(50)).unwrap().1);
        assert!(!put(&writer, &raw(3)).unwrap().1);
    });
}

/// Packs between index and deletion are not taken for forgotten ones.
#[test]
fn recovery_does_not_adopt_packs_with_tombs() {
    let runtime = runtime();
    runtime.block_on(async {
        let (place, store) = with_dead(0..40).await;
        gc(&store, &at_once()).await.unwrap();
        for name in place.memory.names("mmh/index").await {
            place.memory.delete(&name).await;
        }
        let store = place.open().await;
        let found = store.recover().await.unwrap();
        let [packs, tombs, _] = place.census().await;
        assert_eq!(found.adopted_packs, (packs - tombs) as u64);
        assert!(verify(&store).await.unindexed_packs.is_empty());
        place.clock.turn_beyond_leases();
        gc(&store, &at_once()).await.unwrap();
        assert_eq!(place.census().await[1], 0);
        assert_whole(&place, "adopted what lives").await;
    });
}

/// What was collected comes back chunk for chunk, in a pack with the same records: it is another
/// pack, or the one would be deleted with the other.
#[test]
fn a_pack_is_never_made_again() {
    let runtime = runtime();
    runtime.block_on(async {
        let place = Place::new().await;
        let store = place.open().await;
        let seeds: Vec<u64> = (0..30).collect();
        for round in 0..4 {
            publish(&store, "m", &seeds).await;
            let before = place.memory.names("mmh/packs").await;
            gc(&store, &at_once()).await.unwrap();
            assert_whole(&place, &format!("round {round}")).await;
            remove(&store, "m").await;
            gc(&store, &at_once()).await.unwrap();
            place.clock.turn_beyond_leases();
            // With tombs on all of them the same comes again.
            publish(&store, "m", &seeds).await;
            let after = place.memory.names("mmh/packs").await;
            assert_eq!(after.len(), 2 * before.len(), "all were stored again");
            gc_twice(&place, &store).await;
            assert_whole(&place, &format!("round {round}, again")).await;
            remove(&store, "m").await;
            gc_twice(&place, &store).await;
            assert_eq!(place.census().await, [0, 0, 0]);
        }
    });
}
