//! The two phases, one after the other, with nobody else there.

use mmh_core::ErrorKind;
use mmh_store::gc::GRACE_MS;

use super::*;
use crate::common::{runtime, verify};

fn range(from: u64, to: u64) -> Vec<u64> {
    (from..to).collect()
}

#[test]
fn dead_packs_get_tombs_first_and_go_in_a_later_run() {
    let runtime = runtime();
    runtime.block_on(async {
        let place = Place::new().await;
        let store = place.open().await;
        publish(&store, "dead", &range(0, 60)).await;
        publish(&store, "alive", &range(100, 160)).await;
        remove(&store, "dead").await;
        let [packs, ..] = place.census().await;
        let [first, second] = gc_twice(&place, &store).await;
        assert!(
            first.buried_packs > 2 && first.deleted_packs == 0,
            "{first:?}"
        );
        assert_eq!(first.live_chunks, 61);
        assert_eq!(first.waiting_packs, first.buried_packs);
        assert_eq!(second.deleted_packs, first.buried_packs, "{second:?}");
        assert_eq!(second.deleted_bytes, first.buried_bytes);
        assert_eq!(second.waiting_packs, 0);
        let left = packs - usize::try_from(second.deleted_packs).unwrap();
        assert_eq!(place.census().await, [left, 0, 0]);
        assert_whole(&place, "after both runs").await;
        let report = verify(&place.open().await).await;
        assert!(
            report.is_clean() && report.unindexed_packs.is_empty(),
            "{report:?}"
        );
        // There is nothing left to do.
        let third = gc(&store, &at_once()).await.unwrap();
        assert_eq!(
            (third.buried_packs, third.deleted_packs, third.dead_bytes),
            (0, 0, 0)
        );
        let log = store.operations(None, 9).await.unwrap();
        assert_eq!(
            log[0].collected.as_ref().unwrap().packs.len() as u64,
            second.deleted_packs
        );
        assert_eq!(log.len(), 4);
    });
}

#[test]
fn a_tomb_stands_for_its_time() {
    let runtime = runtime();
    runtime.block_on(async {
        let place = Place::new().await;
        let store = place.open().await;
        publish(&store, "dead", &range(0, 20)).await;
        remove(&store, "dead").await;
        let options = GcOptions {
            undo_ms: 0,
            ..GcOptions::default()
        };
        let first = gc(&store, &options).await.unwrap();
        place.clock.turn(GRACE_MS - 1);
        let early = gc(&store, &options).await.unwrap();
        assert_eq!(
            (early.deleted_packs, early.waiting_packs),
            (0, first.buried_packs)
        );
        place.clock.turn(1);
        let due = gc(&store, &options).await.unwrap();
        assert_eq!(due.deleted_packs, first.buried_packs);
    });
}

#[test]
fn what_an_undo_needs_stays_for_its_time() {
    let runtime = runtime();
    runtime.block_on(async {
        let place = Place::new().await;
        let store = place.open().await;
        let old = publish(&store, "m", &range(0, 20)).await;
        remove(&store, "m").await;
        let options = GcOptions {
            grace_ms: 0,
            undo_ms: 1000,
            ..GcOptions::default()
        };
        let first = gc(&store, &options).await.unwrap();
        assert_eq!((first.buried_packs, first.floor), (0, 1));
        store
            .commit(since(commit(vec![change("m", None, Some(old))]), 2))
            .await
            .unwrap();
        assert_whole(&place, "undone").await;
        remove(&store, "m").await;
        place.clock.turn_beyond_leases();
        let later = gc(&store, &options).await.unwrap();
        assert!(later.buried_packs > 0);
        assert_eq!(later.floor, 5, "nothing can be undone any more");
    });
}

/// A pack of which little is alive is written anew; what was alive in it is read all the time.
#[test]
fn live_chunks_are_copied_out_of_mostly_dead_packs() {
    let runtime = runtime();
    runtime.block_on(async {
        let place = Place::new().await;
        let store = place.open().await;
        publish(&store, "all", &range(0, 200)).await;
        let few: Vec<u64> = (0..200).step_by(10).collect();
        publish(&store, "few", &few).await;
        remove(&store, "all").await;
        let before = store.stats().await.unwrap();
        let first = gc(&store, &at_once()).await.unwrap();
        assert!(first.copied_chunks >= 18, "{first:?}");
        assert_whole(&place, "copied").await;
        place.clock.turn_beyond_leases();
        let second = gc(&store, &at_once()).await.unwrap();
        assert_eq!(second.copied_chunks, 0);
        assert!(second.deleted_packs > 5);
        assert_whole(&place, "deleted").await;
        let after = store.stats().await.unwrap();
        assert!(
            after.pack_bytes * 4 < before.pack_bytes,
            "{before:?} {after:?}"
        );
        assert_eq!(after.chunks, 21, "every chunk once");
        assert!(verify(&place.open().await).await.is_clean());
    });
}

#[test]
fn mostly_live_packs_are_left_alone() {
    let runtime = runtime();
    runtime.block_on(async {
        let place = Place::new().await;
        let store = place.open().await;
        publish(&store, "all", &range(0, 100)).await;
        let most: Vec<u64> = (0..100).filter(|n| n % 10 != 0).collect();
        publish(&store, "most", &most).await;
        remove(&store, "all").await;
        let report = gc(&store, &at_once()).await.unwrap();
        assert!(report.dead_bytes > 0);
        assert_eq!(report.copied_chunks, 0, "{report:?}");
    });
}

#[test]
fn a_dry_run_says_it_all_and_writes_nothing() {
    let runtime = runtime();
    runtime.block_on(async {
        let place = Place::new().await;
        let store = place.open().await;
        publish(&store, "dead", &range(0, 60)).await;
        publish(&store, "alive", &range(100, 160)).await;
        remove(&store, "dead").await;
        let dry = GcOptions {
            dry_run: true,
            ..at_once()
        };
        let before = place.memory.names("").await;
        let would = gc(&store, &dry).await.unwrap();
        assert_eq!(place.memory.names("").await, before);
        let did = gc(&store, &at_once()).await.unwrap();
        assert_eq!(
            (would.buried_packs, would.buried_bytes),
            (did.buried_packs, did.buried_bytes)
        );
        assert_eq!(
            (would.dead_bytes, would.live_bytes),
            (did.dead_bytes, did.live_bytes)
        );
        place.clock.turn_beyond_leases();
        let would = gc(&store, &dry).await.unwrap();
        let did = gc(&store, &at_once()).await.unwrap();
        assert_eq!(
            (would.deleted_packs, would.deleted_bytes),
            (did.deleted_packs, did.deleted_bytes)
        );
        assert!(would.dry_run && did.deleted_packs > 0);
    });
}

/// Where something that is needed is missing, nothing can be known to be garbage.
#[test]
fn nothing_is_collected_where_something_is_missing() {
    let runtime = runtime();
    runtime.block_on(async {
        let place = Place::new().await;
        let store = place.open().await;
        publish(&store, "dead", &range(0, 30)).await;
        publish(&store, "alive", &range(100, 130)).await;
        remove(&store, "dead").await;
        gc(&store, &at_once()).await.unwrap();
        place.clock.turn_beyond_leases();
        let at = store.reader(Handle::current());
        let at = at.locate(&ChunkId::of(&raw(105))).unwrap().unwrap();
        let digits = at.pack.unwrap().digest().to_string();
        let name = format!("mmh/packs/{}/{digits}", &digits[..2]);
        let bytes = place.memory.read(&name).await;
        place.memory.delete(&name).await;
        let packs = place.memory.names("mmh/packs").await;
        let error = gc(&store, &at_once()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert_eq!(place.memory.names("mmh/packs").await, packs);
        // It was a mistake: the pack comes back, and with it the order of things.
        place.memory.write(&name, bytes).await;
        assert!(gc(&store, &at_once()).await.unwrap().deleted_packs > 0);
        assert_whole(&place, "with the pack back").await;
    });
}

#[test]
fn a_damaged_index_run_stops_a_collection() {
    let runtime = runtime();
    runtime.block_on(async {
        let place = Place::new().await;
        let store = place.open().await;
        publish(&store, "alive", &range(0, 30)).await;
        let name = place.memory.names("mmh/index").await.remove(0);
        let mut bytes = place.memory.read(&name).await;
        bytes[20] ^= 1;
        place.memory.write(&name, bytes).await;
        let error = gc(&place.open().await, &at_once()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    });
}

/// A pack that cannot be read is not copied from, and nothing is deleted meanwhile.
#[test]
fn a_damaged_pack_is_left_alone() {
    let runtime = runtime();
    runtime.block_on(async {
        let place = Place::new().await;
        let store = place.open().await;
        publish(&store, "all", &range(0, 40)).await;
        publish(&store, "few", &[3, 17]).await;
        remove(&store, "all").await;
        let at = store.reader(Handle::current());
        let at = at.locate(&ChunkId::of(&raw(3))).unwrap().unwrap();
        let digits = at.pack.unwrap().digest().to_string();
        let name = format!("mmh/packs/{}/{digits}", &digits[..2]);
        let mut bytes = place.memory.read(&name).await;
        let place_of = usize::try_from(at.offset).unwrap() + 12;
        bytes[place_of] ^= 1;
        place.memory.write(&name, bytes).await;
        for _ in 0..3 {
            let report = gc(&store, &at_once()).await.unwrap();
            assert_eq!(
                (report.damaged_packs, report.deleted_packs),
                (1, 0),
                "{report:?}"
            );
            place.clock.turn_beyond_leases();
        }
        assert!(place.memory.names("mmh/packs").await.contains(&name));
    });
}

/// Pruned snapshots are said by the store, whoever marks.
#[test]
fn what_is_pruned_is_remembered() {
    let runtime = runtime();
    runtime.block_on(async {
        let place = Place::new().await;
        let store = place.open().await;
        let id = publish(&store, "m", &[1]).await;
        for new in [1, 0] {
            let mut marking = |roots: &GcRoots, marks: &mut Marks| {
                marks.prune(id);
                mark(&store, roots, marks)
            };
            let ports = (&Silent as _, &Cancel::default());
            let options = at_once();
            let run = store.gc(Handle::current(), &options, &mut marking, ports);
            assert_eq!(run.await.unwrap().pruned_snapshots, new);
            assert!(place.open().await.pruned().await.unwrap().contains(&id));
        }
    });
}

#[test]
fn a_cancelled_run_leaves_all_in_order() {
    let runtime = runtime();
    runtime.block_on(async {
        let place = Place::new().await;
        let store = place.open().await;
        publish(&store, "dead", &range(0, 60)).await;
        remove(&store, "dead").await;
        let (cancel, options) = (Cancel::default(), at_once());
        cancel.cancel();
        let mut marking = |roots: &GcRoots, marks: &mut Marks| mark(&store, roots, marks);
        let run = store.gc(
            Handle::current(),
            &options,
            &mut marking,
            (&Silent, &cancel),
        );
        let error = run.await.unwrap_err();
        assert!(
            matches!(error, Error::Core(mmh_core::Error::Cancelled)),
            "{error}"
        );
        assert_eq!(place.census().await[2], 0, "its lease ended with it");
        let [_, second] = gc_twice(&place, &store).await;
        assert!(second.deleted_packs > 0);
    });
}

/// A pack that a repair set aside stays while something that is needed may be in it alone, and then
/// until a second run.
#[test]
fn packs_set_aside_go_when_nothing_is_missing() {
    let runtime = runtime();
    runtime.block_on(async {
        let place = Place::new().await;
        let store = place.open().await;
        publish(&store, "m", &[1, 2, 3]).await;
        let aside = format!("mmh/damaged/{}", "ab".repeat(32));
        place.memory.write(&aside, vec![7; 1000]).await;
        place.memory.write("mmh/damaged/README", vec![7]).await;
        let there = async || place.memory.names("mmh/damaged").await.contains(&aside);
        // The only copy of what is needed has gone: perhaps somebody can still save it.
        let pack = place.memory.names("mmh/packs").await.remove(0);
        let bytes = place.memory.read(&pack).await;
        place.memory.delete(&pack).await;
        assert!(gc(&store, &at_once()).await.is_err());
        place.clock.turn_beyond_leases();
        assert!(gc(&store, &at_once()).await.is_err());
        assert!(there().await);
        place.memory.write(&pack, bytes).await;
        let [first, second] = gc_twice(&place, &store).await;
        assert_eq!(first.deleted_set_aside, 0);
        assert_eq!(
            (second.deleted_set_aside, second.deleted_set_aside_bytes),
            (1, 1000)
        );
        assert!(!there().await);
        assert_eq!(place.memory.names("mmh/damaged").await.len(), 1, "not ours");
        assert_eq!(place.census().await[1], 0, "its tomb went with it");
        assert_whole(&place, "afterwards").await;
    });
}
