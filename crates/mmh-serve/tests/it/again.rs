//! What is asked again, what never is, and what is made of replies that are lost.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use mmh_core::{ErrorKind, SnapshotId};
use mmh_store::conformance::{change, commit};
use mmh_store::{Backend, Error, InitOptions, OpenOptions, Store};
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions};

use crate::common::{Served, Setup};

fn kind(source: object_store::Error) -> ErrorKind {
    let place = "x".to_owned();
    Error::Engine { place, source }.kind()
}

async fn behind(between: fn(Router) -> Router) -> Served {
    let mut setup = Setup::open(Backend::memory());
    setup.between = between;
    setup.serve().await
}

/// Answers 503 to the first `n` requests of a method, without doing them.
async fn busy(count: &AtomicU64, n: u64, method: Method, request: Request, next: Next) -> Response {
    if request.method() == method && count.fetch_add(1, Ordering::Relaxed) < n {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    next.run(request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_node_is_asked_again() {
    static GETS: AtomicU64 = AtomicU64::new(0);
    static PUTS: AtomicU64 = AtomicU64::new(0);
    let node = behind(|router| {
        let gets = from_fn(|request, next| busy(&GETS, 2, Method::GET, request, next));
        let puts = from_fn(|request, next| busy(&PUTS, 2, Method::PUT, request, next));
        router.layer(gets).layer(puts)
    })
    .await;
    let (client, path) = (node.client(), Path::from("mmh/x"));
    client.objects().put(&path, "x".into()).await.unwrap();
    let got = client
        .objects()
        .get(&path)
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    assert_eq!(got, "x");
    assert_eq!(GETS.load(Ordering::Relaxed), 3);
    assert_eq!(PUTS.load(Ordering::Relaxed), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stays_busy_is_unavailable_in_the_end() {
    static ALL: AtomicU64 = AtomicU64::new(0);
    let node = behind(|router| {
        router.layer(from_fn(|request, next| {
            busy(&ALL, u64::MAX, Method::GET, request, next)
        }))
    })
    .await;
    let error = node
        .client()
        .objects()
        .get(&Path::from("mmh/x"))
        .await
        .unwrap_err();
    assert_eq!(kind(error), ErrorKind::Unavailable);
    assert_eq!(ALL.load(Ordering::Relaxed), 5, "the first and four more");
}

/// The second attempt could find what the first has made, and would call it lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_is_never_repeated() {
    static PUTS: AtomicU64 = AtomicU64::new(0);
    let node = behind(|router| {
        router.layer(from_fn(|request, next| {
            busy(&PUTS, u64::MAX, Method::PUT, request, next)
        }))
    })
    .await;
    let (client, path) = (node.client(), Path::from("mmh/x"));
    let create = PutOptions::from(PutMode::Create);
    let error = client
        .objects()
        .put_opts(&path, "x".into(), create)
        .await
        .unwrap_err();
    assert_eq!(kind(error), ErrorKind::Unavailable);
    assert_eq!(PUTS.load(Ordering::Relaxed), 1);
}

/// Does what is asked, and then breaks off every second conditional create instead of answering.
async fn forgets(count: &AtomicU64, request: Request, next: Next) -> Response {
    let create = request.headers().contains_key("if-none-match");
    let response = next.run(request).await;
    if create && count.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    response
}

/// Every second commit is made and not answered: it is read back and counts, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_whose_reply_is_lost_is_read_back() {
    static CREATES: AtomicU64 = AtomicU64::new(1);
    let node =
        behind(|router| router.layer(from_fn(|request, next| forgets(&CREATES, request, next))))
            .await;
    // Inside, where no reply is lost.
    Store::init(node.backend.clone(), InitOptions::default())
        .await
        .unwrap();
    let store = Store::open(node.client(), OpenOptions::default())
        .await
        .unwrap();
    let mut old = None;
    for n in 0..8u64 {
        let new = Some(SnapshotId::of(&n.to_le_bytes()));
        store
            .commit(commit(vec![change("m", old, new)]))
            .await
            .unwrap();
        old = new;
    }
    let inside = Store::open(node.backend.clone(), OpenOptions::default())
        .await
        .unwrap();
    assert_eq!(
        inside.operations(None, 100).await.unwrap().len(),
        8,
        "each is there once"
    );
    assert_eq!(
        inside.refs().await.unwrap().refs.values().next().copied(),
        old
    );
    assert!(CREATES.load(Ordering::Relaxed) > 8);
}

/// Two clients, both of which lose replies: one log, no gap, no commit twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_clients_that_lose_replies_keep_the_log_whole() {
    static CREATES: AtomicU64 = AtomicU64::new(0);
    let node =
        behind(|router| router.layer(from_fn(|request, next| forgets(&CREATES, request, next))))
            .await;
    Store::init(node.backend.clone(), InitOptions::default())
        .await
        .unwrap();
    let work = |name: &'static str| {
        let client = node.client();
        async move {
            let store = Store::open(client, OpenOptions::default()).await.unwrap();
            let mut old = None;
            for n in 0..6u64 {
                let new = Some(SnapshotId::of(&n.to_le_bytes()));
                store
                    .commit(commit(vec![change(name, old, new)]))
                    .await
                    .unwrap();
                old = new;
            }
        }
    };
    let (one, two) = (tokio::spawn(work("a")), tokio::spawn(work("b")));
    one.await.unwrap();
    two.await.unwrap();
    let inside = Store::open(node.backend.clone(), OpenOptions::default())
        .await
        .unwrap();
    let operations = inside.operations(None, 100).await.unwrap();
    assert_eq!(operations.len(), 12);
    let seqs: Vec<u64> = operations
        .iter()
        .rev()
        .map(|operation| operation.seq)
        .collect();
    assert_eq!(seqs, (1..=12).collect::<Vec<_>>(), "without a gap");
}

/// A connection that was kept and has died meanwhile is not an error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_started_again_is_found_again() {
    let mut setup = Setup::open(Backend::memory());
    setup.limits.head = std::time::Duration::from_millis(200);
    let node = setup.serve().await;
    let (client, path) = (node.client(), Path::from("mmh/x"));
    for n in 0..3u8 {
        client.objects().put(&path, vec![n].into()).await.unwrap();
        // Until the node has closed what was kept.
        let idle = node.connect().await;
        let mut idle = idle;
        assert_eq!(crate::common::read_all(&mut idle).await, "");
        let got = client
            .objects()
            .get(&path)
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        assert_eq!(got, vec![n]);
    }
}

/// Nobody listens, or somebody else does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_node_is_unavailable() {
    let node = Served::memory().await;
    let (client, pin) = (node.client(), node.pin.clone());
    let cache = node.access(&[]);
    node.stop().await;
    let error = client
        .objects()
        .head(&Path::from("mmh/x"))
        .await
        .unwrap_err();
    assert_eq!(kind(error), ErrorKind::Unavailable);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = format!("mmhs://{pin}@{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let hello = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            let _gone = tokio::io::AsyncWriteExt::write_all(&mut stream, hello)
                .await
                .is_err();
        }
    });
    let client = Backend::parse(&place, &cache).unwrap();
    let error = client
        .objects()
        .head(&Path::from("mmh/x"))
        .await
        .unwrap_err();
    assert_eq!(kind(error), ErrorKind::Unavailable);
}
