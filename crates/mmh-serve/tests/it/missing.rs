//! Asking a node which chunks it lacks, in one request.

use mmh_core::{ChunkId, ErrorKind};
use mmh_store::conformance::noise;
use mmh_store::{InitOptions, OpenOptions, Store};

use crate::common::{Served, Setup};
use crate::sliced::fill;

fn ids(seeds: std::ops::Range<u64>) -> Vec<ChunkId> {
    let mut ids: Vec<ChunkId> = seeds.map(|seed| ChunkId::of(&noise(seed, 1000))).collect();
    ids.sort_unstable();
    ids
}

fn asked(node: &Served) -> usize {
    let notes = node.memo.0.lock().unwrap();
    let is = |note: &&mmh_serve::Note| matches!(note, mmh_serve::Note::Answered { path, .. } if path == "/mmh/v1/missing");
    notes.iter().filter(is).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_lacks_is_asked_in_one_request() {
    let node = Served::memory().await;
    let inside = Store::init(node.backend.clone(), InitOptions::default())
        .await
        .unwrap();
    for seed in 0..5 {
        fill(&inside, seed, 1000).await;
    }
    let there = Store::open(node.client(), OpenOptions::default())
        .await
        .unwrap();
    assert_eq!(there.missing(&ids(0..5)).await.unwrap(), []);
    let missing = there.missing(&ids(3..9)).await.unwrap();
    assert_eq!(missing, ids(5..9));
    assert_eq!(asked(&node), 2, "one request each");
    assert_eq!(
        inside.missing(&ids(3..9)).await.unwrap(),
        missing,
        "as the node sees it"
    );
    fill(&inside, 5, 1000).await;
    assert_eq!(
        there.missing(&ids(3..9)).await.unwrap(),
        ids(6..9),
        "it looks again"
    );
}

/// A node that names what was not asked after, or half an id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_lie_are_noticed() {
    use axum::body::Body;
    use axum::extract::Request;
    use axum::middleware::{Next, from_fn};
    use axum::response::Response;
    async fn answered(request: Request, next: Next, answer: Vec<u8>) -> Response {
        match request.uri().path() {
            "/mmh/v1/missing" => Response::new(Body::from(answer)),
            _ => next.run(request).await,
        }
    }
    let betweens: [fn(axum::Router) -> axum::Router; 4] = [
        |r| r.layer(from_fn(|q, n| answered(q, n, vec![7; 32]))),
        |r| r.layer(from_fn(|q, n| answered(q, n, vec![7; 31]))),
        |r| r.layer(from_fn(|q, n| answered(q, n, vec![7; 1 << 20]))),
        |r| {
            let twice: Vec<u8> = ids(0..1)
                .iter()
                .cycle()
                .take(2)
                .flat_map(|id| *id.as_bytes())
                .collect();
            r.layer(from_fn(move |q, n| answered(q, n, twice.clone())))
        },
    ];
    for (n, between) in betweens.into_iter().enumerate() {
        let mut setup = Setup::open(mmh_store::Backend::memory());
        setup.between = between;
        let node = setup.serve().await;
        Store::init(node.backend.clone(), InitOptions::default())
            .await
            .unwrap();
        let there = Store::open(node.client(), OpenOptions::default())
            .await
            .unwrap();
        let error = there.missing(&ids(0..3)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{n}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_out_of_order_are_refused() {
    let node = Served::memory().await;
    for body in [[2u8; 64], [0; 64]] {
        let head = "POST /mmh/v1/missing HTTP/1.1\r\nhost: n\r\nconnection: close\r\ncontent-length: 64\r\n\r\n";
        let answer = node.raw(&[head.as_bytes(), &body].concat()).await;
        assert!(answer.contains(" 400 "), "{answer}");
    }
}
