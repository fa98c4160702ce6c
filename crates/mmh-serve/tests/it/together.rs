//! Several clients of one node, and everything that a store does by way of it.

use mmh_core::ports::{Cancel, Silent};
use mmh_core::{ErrorKind, SnapshotId};
use mmh_store::conformance::{change, commit, noise};
use mmh_store::{Backend, InitOptions, OpenOptions, Store, VerifyOptions};

use crate::common::{Served, Setup};
use crate::sliced::fill;

async fn open(backend: Backend) -> Store {
    Store::open(backend, OpenOptions::default()).await.unwrap()
}

async fn is_clean(store: &Store) -> bool {
    let options = VerifyOptions::default();
    let report = store.verify(options, &Silent, &Cancel::default()).await;
    report.unwrap().is_clean()
}

/// Writers on two machines and one at the node itself commit to the same branch: each commit
/// moves it from where it was, and nothing that was acknowledged is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_one_node_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::open(Backend::local(dir.path()).unwrap())
        .serve()
        .await;
    let other = tempfile::tempdir().unwrap();
    let mut access = node.access(&[]);
    access.cache = Some(other.path().to_owned());
    let second = Backend::parse(&node.place(), &access).unwrap();
    Store::init(node.client(), InitOptions::default())
        .await
        .unwrap();
    let places = [node.client(), second, node.backend.clone()];
    let push = |n: u64, backend: Backend| async move {
        let store = open(backend).await;
        for round in 0..5 {
            let seed = 100 * n + round;
            fill(&store, seed, 10_000).await;
            let new = Some(SnapshotId::of(&noise(seed, 10_000)));
            loop {
                let old = store.refs().await.unwrap().refs.values().next().copied();
                match store.commit(commit(vec![change("m", old, new)])).await {
                    Ok(_) => break,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                }
            }
        }
    };
    let pushed = (1..)
        .zip(places)
        .map(|(n, place)| tokio::spawn(push(n, place)));
    for task in pushed.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let inside = open(node.backend.clone()).await;
    assert_eq!(inside.chunk_set().await.unwrap().len(), 15);
    assert!(is_clean(&inside).await && is_clean(&open(node.client()).await).await);
    let operations = inside.operations(None, 100).await.unwrap();
    assert_eq!(operations.len(), 15, "one entry for each commit");
    for pair in operations.windows(2) {
        let (newer, older) = (&pair[0].changes[0], &pair[1].changes[0]);
        assert_eq!(newer.old, older.new, "each moved it from where it was");
    }
}

/// A copy into a node and out of it is the same repository.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_is_copied_into_a_node_and_out_of_it() {
    let here = Store::init(Backend::memory(), InitOptions::default())
        .await
        .unwrap();
    fill(&here, 1, 9 << 20).await;
    here.commit(commit(vec![change(
        "m",
        None,
        Some(SnapshotId::of(&noise(1, 1 << 20))),
    )]))
    .await
    .unwrap();
    let node = Served::memory().await;
    let cancel = Cancel::default();
    here.copy_to(&node.client(), &Silent, &cancel)
        .await
        .unwrap();
    let there = open(node.client()).await;
    let back = Backend::memory();
    there.copy_to(&back, &Silent, &cancel).await.unwrap();
    let back = open(back).await;
    assert_eq!(
        back.chunk_set().await.unwrap(),
        here.chunk_set().await.unwrap()
    );
    assert_eq!(
        back.refs().await.unwrap().refs,
        here.refs().await.unwrap().refs
    );
    assert!(is_clean(&back).await);
    let slices = {
        let notes = node.memo.0.lock().unwrap();
        let is = |note: &&mmh_serve::Note| matches!(note, mmh_serve::Note::Answered { path, .. } if path.contains("/slices/"));
        notes.iter().filter(is).count()
    };
    assert!(slices > 0, "packs came in slices");
}
