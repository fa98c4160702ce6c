//! Eight writers that extend one log as fast as they can, each through a store of its own.

use std::time::Instant;

use mmh_core::SnapshotId;
use mmh_store::conformance::{change, commit};
use mmh_store::{Backend, InitOptions, OpenOptions, Store};

/// Writers at once.
const WRITERS: u64 = 8;

/// Transactions of each writer: few, unless `MMH_TRANSACTIONS` says how many, as
/// `cargo xtask drill writers` does.
#[allow(clippy::disallowed_methods, reason = "the drill makes the test long")]
fn transactions() -> u64 {
    let set = std::env::var("MMH_TRANSACTIONS");
    set.ok().and_then(|n| n.parse().ok()).unwrap_or(10)
}

fn snapshot(writer: u64, n: u64) -> SnapshotId {
    SnapshotId::of(format!("{writer} {n}").as_bytes())
}

/// Moves a branch of its own again and again.
async fn write(backend: Backend, writer: u64) {
    let store = Store::open(backend, OpenOptions::default()).await.unwrap();
    let mut old = None;
    for n in 0..transactions() {
        let new = Some(snapshot(writer, n));
        let name = format!("m{writer}");
        store
            .commit(commit(vec![change(&name, old, new)]))
            .await
            .unwrap();
        old = new;
    }
}

#[allow(
    clippy::print_stdout,
    reason = "the rate is for who reads the drill's output"
)]
fn report(engine: &str, seconds: f64) {
    let each = transactions();
    let rate = (WRITERS * each) as f64 / seconds;
    println!("{engine}: {WRITERS} writers × {each} in {seconds:.1} s, {rate:.0} transactions/s");
}

/// Every acknowledged transaction is in the log, once, and the log has no gap.
pub(super) async fn many_writers(engine: &str, backend: &Backend) {
    let store = Store::init(backend.clone(), InitOptions::default())
        .await
        .unwrap();
    let start = Instant::now();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(backend.clone(), writer)))
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let seconds = start.elapsed().as_secs_f64();

    let (each, all) = (transactions(), WRITERS * transactions());
    let fresh = Store::open(backend.clone(), OpenOptions::default())
        .await
        .unwrap();
    let view = fresh.refs().await.unwrap();
    assert_eq!(view.seq, all, "as many entries as were acknowledged");
    for writer in 0..WRITERS {
        let change = change(&format!("m{writer}"), None, None);
        assert_eq!(
            view.refs.get(&change.r#ref),
            Some(&snapshot(writer, each - 1))
        );
    }
    let entries = store.operations(None, usize::MAX).await.unwrap();
    let numbers: Vec<u64> = entries.iter().map(|entry| entry.seq).collect();
    assert!(numbers.iter().copied().eq((1..=all).rev()), "without a gap");
    let mut moved: Vec<_> = entries
        .iter()
        .flat_map(|e| &e.changes)
        .map(|c| c.new)
        .collect();
    moved.sort_unstable();
    moved.dedup();
    assert_eq!(moved.len() as u64, all, "each transaction once");
    report(engine, seconds);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_in_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    many_writers("folder", &Backend::local(dir.path()).unwrap()).await;
}
