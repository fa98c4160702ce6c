//! Fault sweeps: two runs of garbage collection with a commit between them, in which the n-th
//! operation fails, loses its reply, or is the last of the process, for every n.

use mmh_store::fault::{Fault, Faults};

use super::*;
use crate::common::{runtime, verify};

/// Something dead, something alive, something of both; a log that is long enough to be cut.
async fn prepared() -> Place {
    let place = Place::new().await;
    let store = place.open().await;
    publish(&store, "dead", &(0..40).collect::<Vec<_>>()).await;
    publish(&store, "mixed", &[3, 13, 23]).await;
    publish(&store, "alive", &(100..120).collect::<Vec<_>>()).await;
    remove(&store, "dead").await;
    for step in 0..70u64 {
        let seeds = [100 + step % 2];
        let writer = store.writer(Handle::current()).await.unwrap();
        let id = write_book(&writer, &seeds).unwrap();
        let old = tip(&store, "busy").await;
        let moved = commit(vec![change("busy", old, Some(id))]);
        writer.commit(moved).unwrap();
    }
    place
}

async fn scenario(place: &Place, backend: Backend) -> Result<()> {
    let store = place.open_at(backend, Broken::default()).await?;
    gc(&store, &at_once()).await?;
    place.clock.turn_beyond_leases();
    let writer = store.writer(Handle::current()).await?;
    let id = write_book(&writer, &[3, 5, 100, 300])?;
    let old = tip_of(&store, "new").await?;
    writer.commit(commit(vec![change("new", old, Some(id))]))?;
    writer.finish()?;
    place.clock.turn_beyond_leases();
    gc(&store, &at_once()).await.map(drop)
}

async fn tip_of(store: &Store, name: &str) -> Result<Option<SnapshotId>> {
    let view = store.refs().await?;
    Ok(view.refs.get(&change(name, None, None).r#ref).copied())
}

/// Runs the scenario with one fault; returns whether the fault was met.
async fn run(base: &Place, n: u64, fault: Fault) -> bool {
    let place = Place {
        memory: base.memory.fork(),
        clock: base.clock.clone(),
    };
    let faults = Faults::default();
    faults.strike(n, fault);
    let backend = faults.decorate(&place.memory.backend);
    let result = scenario(&place, backend).await;
    let met = faults.count() >= n;
    assert!(met || result.is_ok(), "no fault, no error: {result:?}");
    place.memory.staging.crash(0);
    let what = format!("{fault:?} at {n}: {result:?}");
    assert_whole(&place, &what).await;
    let report = verify(&place.open().await).await;
    assert!(report.is_clean(), "{what}: {report:?}");
    // The next runs end what was begun.
    place.clock.turn_beyond_leases();
    let store = place.open().await;
    for _ in 0..2 {
        let done = gc(&store, &at_once()).await;
        assert!(done.is_ok(), "{what}: {}", done.unwrap_err());
        place.clock.turn_beyond_leases();
    }
    assert_whole(&place, &what).await;
    let [_, tombs, leases] = place.census().await;
    assert_eq!((tombs, leases), (0, 0), "{what}");
    let report = verify(&place.open().await).await;
    let clean = report.is_clean() && report.unindexed_packs.is_empty();
    assert!(clean, "{what}: {report:?}");
    let left = gc(&store, &at_once()).await.unwrap();
    assert_eq!((left.buried_packs, left.deleted_packs), (0, 0), "{what}");
    met
}

fn sweep(fault: Fault) {
    let runtime = runtime();
    let _inside = runtime.enter();
    let base = runtime.block_on(prepared());
    let mut n = 1;
    while runtime.block_on(run(&base, n, fault)) {
        n += 1;
    }
    assert!(n > 200, "the scenario has that many operations, not {n}");
}

#[test]
fn a_collection_survives_every_failure() {
    sweep(Fault::Fail);
}

#[test]
fn a_collection_survives_every_lost_reply() {
    sweep(Fault::LostReply);
}

#[test]
fn a_collection_survives_every_crash() {
    sweep(Fault::Crash);
}

#[test]
fn a_collection_survives_every_crash_after_the_deed() {
    sweep(Fault::CrashAfter);
}
