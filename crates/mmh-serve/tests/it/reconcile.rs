//! Finding out what another repository lacks, in one request.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use http_body_util::BodyExt as _;
use mmh_core::ErrorKind;
use mmh_crypto::{RootSeed, Secret};
use mmh_serve::Note;
use mmh_store::{Backend, InitOptions, OpenOptions, Sealing, Store};

use crate::common::{Served, Setup};
use crate::sliced::fill;

async fn store(backend: &Backend, chunks: std::ops::Range<u64>) -> Store {
    let store = Store::init(backend.clone(), InitOptions::default())
        .await
        .unwrap();
    for seed in chunks {
        fill(&store, seed, 1000).await;
    }
    store
}

fn reconciled(node: &Served) -> usize {
    let notes = node.memo.0.lock().unwrap();
    let is =
        |note: &&Note| matches!(note, Note::Answered { path, .. } if path == "/mmh/v1/reconcile");
    notes.iter().filter(is).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_differences_are_found_in_one_request() {
    let node = Served::memory().await;
    store(&node.backend, 0..40).await;
    let here = store(&Backend::memory(), 5..43).await;
    let there = Store::open(node.client(), OpenOptions::default())
        .await
        .unwrap();
    let (found, bytes) = here.exchange(&there).await.unwrap().unwrap();
    let found = found.unwrap();
    assert_eq!((found.only_here.len(), found.only_there.len()), (3, 5));
    let (ours, theirs) = (
        here.chunk_set().await.unwrap(),
        there.chunk_set().await.unwrap(),
    );
    assert!(
        found
            .only_here
            .iter()
            .all(|id| ours.contains(id) && !theirs.contains(id))
    );
    assert!(
        found
            .only_there
            .iter()
            .all(|id| !ours.contains(id) && theirs.contains(id))
    );
    assert_eq!(reconciled(&node), 1, "one request");
    assert!(bytes > 0);
    assert_eq!(
        there.difference(&there).await.unwrap(),
        Some(Default::default())
    );
    assert_eq!(
        here.difference(&here).await.unwrap(),
        None,
        "no node, no answer"
    );
}

/// An empty side lists faster than it reconciles; it is told so, not made to wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sets_with_nothing_in_common_end_without_an_answer_or_with_the_right_one() {
    let node = Served::memory().await;
    store(&node.backend, 0..300).await;
    let here = store(&Backend::memory(), 0..0).await;
    let there = Store::open(node.client(), OpenOptions::default())
        .await
        .unwrap();
    if let Some(found) = here.difference(&there).await.unwrap() {
        assert_eq!((found.only_here.len(), found.only_there.len()), (0, 300));
    }
    assert_eq!(reconciled(&node), 1);
}

/// Symbols of no set, a short answer, a long one: an error or no answer, never a wrong one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn symbols_that_lie_are_noticed() {
    async fn answered(request: Request, next: Next, change: fn(Vec<u8>) -> Vec<u8>) -> Response {
        let symbols = request.uri().path() == "/mmh/v1/reconcile";
        let response = next.run(request).await;
        if !symbols {
            return response;
        }
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        Response::new(Body::from(change(bytes.to_vec())))
    }
    let betweens: [fn(Router) -> Router; 6] = [
        |r| r.layer(from_fn(|q, n| answered(q, n, |_| Vec::new()))),
        |r| r.layer(from_fn(|q, n| answered(q, n, |bytes| bytes[..7].to_vec()))),
        |r| {
            r.layer(from_fn(|q, n| {
                answered(q, n, |bytes| bytes[..8 + 47].to_vec())
            }))
        },
        |r| {
            r.layer(from_fn(|q, n| {
                answered(q, n, |bytes| vec![0xFF; bytes.len()])
            }))
        },
        |r| {
            r.layer(from_fn(|q, n| {
                answered(q, n, |mut bytes| {
                    // A set without end, in symbols that never come apart.
                    bytes[..8].fill(0xFF);
                    (0..200_000u32).for_each(|n| bytes.extend_from_slice(&n.to_le_bytes()));
                    bytes
                        .iter_mut()
                        .skip(8)
                        .step_by(48)
                        .for_each(|byte| *byte ^= 1);
                    bytes
                })
            }))
        },
        |r| {
            r.layer(from_fn(|q, n| {
                answered(q, n, |mut bytes| {
                    bytes
                        .iter_mut()
                        .skip(8 + 40)
                        .step_by(48)
                        .for_each(|count| *count = 1);
                    bytes
                })
            }))
        },
    ];
    let here = store(&Backend::memory(), 0..10).await;
    for (n, between) in betweens.into_iter().enumerate() {
        let mut setup = Setup::open(Backend::memory());
        setup.between = between;
        let node = setup.serve().await;
        store(&node.backend, 3..12).await;
        let there = Store::open(node.client(), OpenOptions::default())
            .await
            .unwrap();
        match here.difference(&there).await {
            Ok(found) => assert_eq!(found, None, "{n}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{n}: {error}"),
        }
    }
}

/// A node needs no key to serve what is sealed, but cannot read its index without.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_repository_is_reconciled_only_by_a_node_with_its_key() {
    let root = RootSeed::from_secret(Secret::from_bytes(&[9; 32]));
    let keys = OpenOptions {
        key: Arc::new(root.clone()),
        ..OpenOptions::default()
    };
    let backend = Backend::memory();
    let slots = Vec::new();
    let sealing = Some(Sealing { root, slots });
    let options = InitOptions {
        sealing,
        ..InitOptions::default()
    };
    let inside = Store::init(backend.clone(), options).await.unwrap();
    fill(&inside, 1, 1000).await;
    let without = Setup::open(backend.clone()).serve().await;
    let there = Store::open(without.client(), keys.clone()).await.unwrap();
    assert_eq!(there.stats().await.unwrap().chunks, 1);
    assert_eq!(
        inside.difference(&there).await.unwrap(),
        None,
        "go by the index"
    );
    let mut setup = Setup::open(backend);
    setup.keys = keys.clone();
    let with = setup.serve().await;
    let there = Store::open(with.client(), keys).await.unwrap();
    assert_eq!(
        inside.difference(&there).await.unwrap(),
        Some(Default::default())
    );
}
