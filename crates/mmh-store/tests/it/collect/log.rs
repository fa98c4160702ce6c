//! Old entries leave the log, and nobody is misled by the numbers they leave free.

use mmh_core::ErrorKind;

use super::*;
use crate::common::{runtime, verify};

/// Moves a branch `n` times.
async fn moves(store: &Store, name: &str, n: u64) {
    for step in 0..n {
        let old = tip(store, name).await;
        let seq = store.refs().await.unwrap().seq;
        let id = SnapshotId::of(&(step, seq).0.to_le_bytes());
        if old != Some(id) {
            let moved = commit(vec![change(name, old, Some(id))]);
            store.commit(moved).await.unwrap();
        }
    }
}

/// Marks nothing but what there is: these tests name snapshots that do not exist.
async fn truncate(place: &Place) -> GcReport {
    let store = place.open().await;
    let mut marking = |_: &GcRoots, _: &mut Marks| Ok::<(), Error>(());
    let ports = (&Silent as _, &Cancel::default());
    let options = at_once();
    let run = store.gc(Handle::current(), &options, &mut marking, ports);
    run.await.unwrap()
}

#[test]
fn whole_blocks_of_old_entries_go_and_the_rest_is_in_order() {
    let runtime = runtime();
    runtime.block_on(async {
        let place = Place::new().await;
        let store = place.open().await;
        moves(&store, "m", 60).await;
        assert_eq!(truncate(&place).await.log_entries, 0, "no checkpoint yet");
        moves(&store, "m", 140).await;
        let report = truncate(&place).await;
        assert_eq!((report.floor, report.log_entries), (201, 64));
        let boundaries = place.memory.names("mmh/boundary").await;
        assert_eq!(boundaries, ["mmh/boundary/00000000000000000064"]);
        assert_eq!(place.memory.names("mmh/log").await.len(), 136);
        assert_eq!(place.memory.names("mmh/checkpoint").await.len(), 2);
        let fresh = place.open().await;
        assert_eq!(fresh.refs().await.unwrap().seq, 200);
        let all = fresh.operations(None, usize::MAX).await.unwrap();
        assert_eq!(all.len(), 136, "the log ends at the boundary");
        assert_eq!(verify(&fresh).await.operations, 136);
        assert_eq!(truncate(&place).await.log_entries, 0);
        moves(&fresh, "m", 3).await;
        assert_eq!(place.open().await.refs().await.unwrap().seq, 203);
    });
}

/// The trace of slatedb #352: a writer reads the head, is stalled, the entry that it is about to
/// make is made by others and taken away again, and its create succeeds.
async fn stalled(broken: Broken) -> (Place, u64) {
    let place = Place::new().await;
    let store = place.open().await;
    moves(&store, "m", 10).await;
    let backend = place.memory.backend.clone();
    let stalled = place.open_at(backend, broken).await.unwrap();
    assert_eq!(stalled.refs().await.unwrap().seq, 10);
    moves(&store, "m", 190).await;
    assert_eq!(truncate(&place).await.log_entries, 64);
    let id = SnapshotId::of(b"late");
    let late = commit(vec![change("late", None, Some(id))]);
    let entry = stalled.commit(late).await.unwrap();
    (place, entry.seq)
}

#[test]
fn a_stalled_writer_never_counts_an_entry_beyond_the_boundary() {
    let runtime = runtime();
    runtime.block_on(async {
        let (place, seq) = stalled(Broken::default()).await;
        assert_eq!(seq, 201, "it went on at the true end");
        let fresh = place.open().await;
        assert!(tip(&fresh, "late").await.is_some());
        // What it left under the free number misleads nobody, and goes with the next run.
        let left = "mmh/log/00000000000000000011".to_owned();
        assert!(place.memory.names("mmh/log").await.contains(&left));
        assert_eq!(fresh.operations(None, usize::MAX).await.unwrap().len(), 137);
        assert_eq!(verify(&fresh).await.operations, 137);
        assert_eq!(truncate(&place).await.log_entries, 1);
    });
}

#[test]
fn a_store_that_does_not_look_at_the_boundary_loses_a_commit() {
    let runtime = runtime();
    runtime.block_on(async {
        let broken = Broken {
            no_boundary_check: true,
            ..Broken::default()
        };
        let (place, seq) = stalled(broken).await;
        assert_eq!(seq, 11, "it was told that all is well");
        assert!(tip(&place.open().await, "late").await.is_none());
    });
}

/// Readers that saw the log before it was cut see it as it is, even where a stalled writer left
/// an entry right after what they had seen.
#[test]
fn a_stalled_reader_sees_the_log_as_it_is() {
    let runtime = runtime();
    runtime.block_on(async {
        let place = Place::new().await;
        let store = place.open().await;
        moves(&store, "m", 10).await;
        let (reader, other) = (place.open().await, place.open().await);
        assert_eq!(reader.refs().await.unwrap().seq, 10);
        assert_eq!(other.refs().await.unwrap().seq, 10);
        moves(&store, "m", 190).await;
        truncate(&place).await;
        let late = commit(vec![change("late", None, Some(SnapshotId::of(b"late")))]);
        assert_eq!(other.commit(late).await.unwrap().seq, 201);
        assert_eq!(reader.refs().await.unwrap().seq, 201);
        // A conflict is not judged by what was, either.
        let wrong = commit(vec![change("m", None, Some(SnapshotId::of(b"x")))]);
        let error = reader.commit(wrong).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
    });
}

/// The log was cut right before its newest checkpoint, which rotted: no ref could be read. Found by
/// simulation.
#[test]
fn one_rotten_checkpoint_hides_nothing() {
    let runtime = runtime();
    runtime.block_on(async {
        let place = Place::new().await;
        let store = place.open().await;
        moves(&store, "m", 200).await;
        truncate(&place).await;
        let expected = store.refs().await.unwrap();
        for name in place.memory.names("mmh/checkpoint").await {
            let whole = place.memory.read(&name).await;
            place
                .memory
                .write(&name, whole[..whole.len() / 2].to_vec())
                .await;
            let fresh = place.open().await;
            assert_eq!(fresh.refs().await.unwrap(), expected, "{name} is rotten");
            // The other one is the last of its kind, so nothing more goes.
            assert_eq!(truncate(&place).await.log_entries, 0);
            place.memory.write(&name, whole).await;
        }
    });
}

/// Without a checkpoint the rest cannot be understood, and that is said.
#[test]
fn a_cut_log_without_its_checkpoint_is_damaged() {
    let runtime = runtime();
    runtime.block_on(async {
        let place = Place::new().await;
        let store = place.open().await;
        moves(&store, "m", 200).await;
        truncate(&place).await;
        for name in place.memory.names("mmh/checkpoint").await {
            place.memory.delete(&name).await;
        }
        let fresh = place.open().await;
        let error = fresh.refs().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(!verify(&fresh).await.is_clean());
        let create = commit(vec![change("x", None, Some(SnapshotId::of(b"x")))]);
        assert!(fresh.commit(create).await.is_err());
    });
}

/// What collects is not forgotten while it may matter, and what is unknown counts as collected.
#[test]
fn a_writer_from_before_the_boundary_begins_again() {
    let runtime = runtime();
    runtime.block_on(async {
        let place = Place::new().await;
        let store = place.open().await;
        publish(&store, "m", &[1, 2]).await;
        let stalled = place.open().await;
        let writer = stalled.writer(Handle::current()).await.unwrap();
        let id = write_book(&writer, &[1, 2, 3]).unwrap();
        moves(&store, "n", 200).await;
        truncate(&place).await;
        let late = commit(vec![change("late", None, Some(id))]);
        let done = writer.commit(late);
        assert!(is_collected(&done), "{done:?}");
    });
}
