//! Clients that mean no good, or do not know what they do.

use std::sync::Arc;
use std::time::Duration;

use mmh_core::ErrorKind;
use mmh_serve::{Gate, Limits, Node, Note, Role, Silent, Tokens, new_token};
use mmh_store::{Backend, InitOptions, OpenOptions, Store};
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{Served, Setup, read_all};

/// The status line's number; 0 if the node just closed.
fn status(answer: &str) -> u16 {
    let word = answer.split(' ').nth(1).unwrap_or_default();
    word.parse().unwrap_or(0)
}

/// A request that ends the connection after its answer.
fn request(method: &str, path: &str, more: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nhost: n\r\nconnection: close\r\n{more}\r\n").into_bytes()
}

async fn put(node: &Served, name: &str, bytes: &[u8]) {
    let path = Path::from(name);
    node.backend
        .objects()
        .put(&path, bytes.to_vec().into())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_cannot_leave_the_repository() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("secret"), b"hush").unwrap();
    let backend = Backend::local(dir.path().join("repo")).unwrap();
    std::fs::create_dir_all(dir.path().join("repo/mmh/staging")).unwrap();
    std::fs::write(dir.path().join("repo/mmh/staging/1"), b"hush").unwrap();
    let node = Setup::open(backend).serve().await;
    for path in [
        "mmh/../../secret",
        "mmh/%2e%2e/%2e%2e/secret",
        "mmh/..%2f..%2fsecret",
        "../secret",
        "/secret",
        "%2fsecret",
        "mmh/staging/1",
        "mmh/%73taging/1",
        "mmh//config",
        "mmh/\\..\\secret",
        "mmh/a%00b",
        "mmh/%ff",
        "",
    ] {
        for root in ["/mmh/v1/objects/", "/mmh/v1/slices/"] {
            for method in ["GET", "PUT", "DELETE"] {
                let more = "content-length: 0\r\n";
                let answer = node
                    .raw(&request(method, &format!("{root}{path}"), more))
                    .await;
                let refused = [400, 404, 405].contains(&status(&answer));
                assert!(
                    refused && !answer.contains("hush"),
                    "{method} {path}: {answer}"
                );
            }
        }
    }
    for query in [
        "?prefix=",
        "?prefix=mmh/..",
        "?prefix=/",
        "?prefix=mmh/staging",
        "?after=x",
    ] {
        let answer = node
            .raw(&request("GET", &format!("/mmh/v1/list{query}"), ""))
            .await;
        assert_eq!(status(&answer), 400, "{query}: {answer}");
    }
    for query in [
        "",
        "?from=mmh/a",
        "?from=mmh/../x&to=mmh/b",
        "?from=mmh/a&to=../b",
    ] {
        let answer = node
            .raw(&request("POST", &format!("/mmh/v1/copy{query}"), ""))
            .await;
        assert_eq!(status(&answer), 400, "{query}: {answer}");
    }
    let answer = node
        .raw(&request("GET", "/mmh/v1/list?prefix=mmh", ""))
        .await;
    assert!(
        answer.contains("end 0\n"),
        "what is staged is not listed: {answer}"
    );
    assert_eq!(std::fs::read(dir.path().join("secret")).unwrap(), b"hush");
    assert!(dir.path().join("repo/mmh/staging/1").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_are_bounded() {
    let node = Served::memory().await;
    let long = format!("x: {}\r\n", "a".repeat(200 << 10));
    let many: String = (0..1000).map(|n| format!("x-{n}: 1\r\n")).collect();
    let path = format!("/mmh/v1/objects/mmh/{}", "a".repeat(100 << 10));
    for bad in [
        request("GET", "/mmh/v1/list", &long),
        request("GET", "/mmh/v1/list", &many),
        request("GET", &path, ""),
        b"\0\0\0\0".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".to_vec(),
    ] {
        let answer = node.raw(&bad).await;
        let refused = [0, 400, 414, 431, 505].contains(&status(&answer));
        assert!(
            refused,
            "{}: {answer}",
            String::from_utf8_lossy(&bad[..20.min(bad.len())])
        );
    }
    assert_eq!(node.answers(200), 0);
    assert_eq!(
        status(&node.raw(&request("GET", "/mmh/v1/list", "")).await),
        200,
        "it lives"
    );
}

/// A node with one place and these limits.
async fn impatient(change: fn(&mut Limits)) -> Served {
    let mut setup = Setup::open(Backend::memory());
    setup.limits.connections = 1;
    change(&mut setup.limits);
    setup.serve().await
}

const SOON: Duration = Duration::from_millis(50);

/// Bounded by the node's own timers, made short: nothing waits longer than they say, and the only
/// place is free again for whoever comes next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_a_head_too_slowly_loses_the_connection() {
    let node = impatient(|limits| limits.head = SOON).await;
    for head in [&b""[..], b"G", b"GET /mmh/v1/list HTTP/1.1\r\nhost: n\r\n"] {
        let mut slow = node.connect().await;
        // Under load the time may be over before it is sent.
        let _closed = slow.write_all(head).await.is_err();
        assert!(!read_all(&mut slow).await.contains(" 200 "));
    }
    let notes = node.memo.0.lock().unwrap();
    let answered = |note: &Note| matches!(note, Note::Answered { .. });
    assert!(!notes.iter().any(answered), "{notes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_a_body_too_slowly_is_told_so() {
    let node = impatient(|limits| limits.stall = SOON).await;
    let half = request("PUT", "/mmh/v1/objects/mmh/x", "content-length: 10\r\n");
    for _ in 0..2 {
        let answer = node.raw(&[&half[..], b"12345"].concat()).await;
        assert_eq!(status(&answer), 408, "{answer}");
    }
    let found = node.backend.objects().head(&Path::from("mmh/x")).await;
    assert!(found.is_err(), "half a body is nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_shake_hands_loses_the_connection() {
    use tokio::io::AsyncReadExt as _;
    let node = impatient(|limits| limits.handshake = SOON).await;
    for hello in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let mut plain = tokio::net::TcpStream::connect(&node.address).await.unwrap();
        plain.write_all(hello).await.unwrap();
        let mut answer = Vec::new();
        // Closed or reset, but not kept.
        let _reset = plain.read_to_end(&mut answer).await.is_err();
        assert!(answer.is_empty());
    }
    let notes = node.memo.0.lock().unwrap();
    let slow = |note: &Note| format!("{note:?}").contains("too long");
    assert!(notes.iter().all(slow), "{notes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_decide_who_reads_and_who_writes() {
    let (read, read_line) = new_token(Role::Reader, &[], "reader").unwrap();
    let (write, write_line) = new_token(Role::Writer, &[], "writer").unwrap();
    let mut setup = Setup::open(Backend::memory());
    setup.tokens = Tokens::parse(&(read_line + &write_line), "f", Role::Nobody).unwrap();
    let node = setup.serve().await;
    let init = |backend| Store::init(backend, InitOptions::default());
    let open = |backend| Store::open(backend, OpenOptions::default());
    for nobody in [
        node.client(),
        node.client_with("hf_no"),
        node.client_with(&format!("{read}0")),
    ] {
        let error = init(nobody.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert_eq!(open(nobody).await.unwrap_err().kind(), ErrorKind::Denied);
    }
    let error = init(node.client_with(&read)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("only read"), "{error}");
    init(node.client_with(&write)).await.unwrap();
    open(node.client_with(&read)).await.unwrap();
    open(node.client_with(&write)).await.unwrap();
    let mine = format!("{}={read}", node.address);
    open(node.client_with(&mine)).await.unwrap();
    let others = format!("127.0.0.1:1={read}");
    assert_eq!(
        open(node.client_with(&others)).await.unwrap_err().kind(),
        ErrorKind::Denied
    );
    let answer = node.raw(&request("GET", "/mmh/v1/list", "")).await;
    assert!(
        answer.contains("401") && answer.contains("www-authenticate: Bearer"),
        "{answer}"
    );
    let answer = node.raw(&request("POST", "/mmh/v1/nothing", "")).await;
    assert_eq!(
        status(&answer),
        401,
        "what is there is not told either: {answer}"
    );
    let notes = node.memo.0.lock().unwrap();
    let who = |name: &str| {
        notes
            .iter()
            .any(|n| matches!(n, Note::Answered { token, .. } if token == name))
    };
    assert!(who("reader") && who("writer") && who(""));
    assert!(!format!("{notes:?}").contains(&write), "no token is noted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_node_changes_nothing() {
    let mut setup = Setup::open(Backend::memory());
    setup.read_only = true;
    let node = setup.serve().await;
    put(&node, "mmh/x", b"x").await;
    for (method, path) in [
        ("PUT", "/mmh/v1/objects/mmh/y"),
        ("DELETE", "/mmh/v1/objects/mmh/x"),
        ("POST", "/mmh/v1/copy?from=mmh/x&to=mmh/y"),
    ] {
        let answer = node
            .raw(&request(method, path, "content-length: 0\r\n"))
            .await;
        assert_eq!(status(&answer), 403, "{method}: {answer}");
        assert!(answer.contains("read-only"), "{answer}");
    }
    let answer = node.raw(&request("GET", "/mmh/v1/objects/mmh/x", "")).await;
    assert!(answer.ends_with("\r\n\r\nx"), "{answer}");
    let answer = node.raw(&request("GET", "/mmh/v1/list", "")).await;
    assert!(answer.contains("end 1\n"), "nothing was added: {answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_and_ranges_are_what_they_say() {
    let node = Served::memory().await;
    put(&node, "mmh/x", b"0123456789").await;
    let get = |range: &str| {
        request(
            "GET",
            "/mmh/v1/objects/mmh/x",
            &format!("range: {range}\r\n"),
        )
    };
    for (range, expected, body) in [
        ("bytes=2-4", 206, "234"),
        ("bytes=8-100", 206, "89"),
        ("bytes=-3", 206, "789"),
        ("bytes=7-", 206, "789"),
        ("bytes=10-", 416, "has 10 bytes\n"),
        ("bytes=0-1,4-5", 400, "\n"),
        ("lines=1-2", 400, "\n"),
    ] {
        let answer = node.raw(&get(range)).await;
        assert_eq!(status(&answer), expected, "{range}: {answer}");
        assert!(answer.ends_with(body), "{range}: {answer}");
    }
    let head = node
        .raw(&request("HEAD", "/mmh/v1/objects/mmh/x", ""))
        .await;
    assert!(
        head.contains("content-length: 10\r\n") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    let pack = format!("mmh/packs/aa/{}", "a".repeat(64));
    for (path, more, expected) in [
        (
            "mmh/y".to_owned(),
            "if-match: \"x\"\r\ncontent-length: 0\r\n",
            501,
        ),
        (
            "mmh/y".to_owned(),
            "if-none-match: \"x\"\r\ncontent-length: 0\r\n",
            501,
        ),
        ("mmh/y".to_owned(), "content-length: 99999999999\r\n", 413),
        (
            "mmh/y".to_owned(),
            "if-none-match: *\r\ncontent-length: 99999999999\r\n",
            413,
        ),
        (
            "mmh/x".to_owned(),
            "if-none-match: *\r\ncontent-length: 0\r\n",
            412,
        ),
        (pack.clone(), "content-length: 0\r\n", 400),
    ] {
        let answer = node
            .raw(&request("PUT", &format!("/mmh/v1/objects/{path}"), more))
            .await;
        assert_eq!(status(&answer), expected, "{path} {more}: {answer}");
    }
    let not_it = request(
        "PUT",
        &format!("/mmh/v1/objects/{pack}"),
        "content-length: 5\r\n",
    );
    let answer = node.raw(&[&not_it[..], b"12345"].concat()).await;
    assert_eq!(
        status(&answer),
        400,
        "it is not the pack of that name: {answer}"
    );
    assert!(
        node.backend.staging().orphans().unwrap().is_empty(),
        "nothing stays behind"
    );
    let key = request("POST", "/mmh/v1/reconcile", "content-length: 31\r\n");
    let answer = node.raw(&[&key[..], &[0; 31]].concat()).await;
    assert_eq!(status(&answer), 400, "{answer}");
}

/// Sends the head of an object of ten bytes, and returns when the node asks for them.
async fn begin_to_put(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) {
    let fields = "content-length: 10\r\nexpect: 100-continue\r\n";
    let head = request("PUT", "/mmh/v1/objects/mmh/y", fields);
    stream.write_all(&head).await.unwrap();
    let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut answer = vec![0; go_on.len()];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, go_on);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_stops_when_what_is_under_way_is_done() {
    let node = Served::memory().await;
    put(&node, "mmh/x", b"x").await;
    let idle = node.connect().await;
    let mut busy = node.connect().await;
    begin_to_put(&mut busy).await;
    busy.write_all(b"12345").await.unwrap();
    let backend = node.backend.clone();
    let address = node.address.clone();
    let stopped = tokio::spawn(node.stop());
    while tokio::net::TcpStream::connect(&address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    busy.write_all(b"67890").await.unwrap();
    let answer = read_all(&mut busy).await;
    assert_eq!(status(&answer), 201, "{answer}");
    assert_eq!(stopped.await.unwrap().broken_off, 0);
    drop(idle);
    let kept = backend.objects().get(&Path::from("mmh/y")).await.unwrap();
    assert_eq!(kept.bytes().await.unwrap(), "1234567890");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_done_in_time_is_broken_off() {
    let mut setup = Setup::open(Backend::memory());
    setup.limits.grace = Duration::ZERO;
    let node = setup.serve().await;
    let mut busy = node.connect().await;
    begin_to_put(&mut busy).await;
    assert_eq!(node.stop().await.broken_off, 1);
    assert_eq!(read_all(&mut busy).await, "");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// The router alone, without the network: any request is answered, and never by a fault.
    #[test]
    fn any_request_is_answered(
        method in "(GET|HEAD|PUT|POST|DELETE|OPTIONS|[A-Z]{1,5})",
        path in "/(mmh/v1/(objects|slices|list|copy|reconcile)/?)?[ -~]{0,30}",
        range in "(bytes=)?[0-9,-]{0,12}",
        body in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        use hyper::service::Service as _;
        let Ok(uri) = path.parse::<axum::http::Uri>() else { return Ok(()) };
        let gate = Gate::new(Tokens::none(Role::Writer), false, Arc::new(Silent)).unwrap();
        let options = OpenOptions::default();
        let node = Node::new(Backend::memory(), &gate, Limits::default(), options);
        let service = hyper_util::service::TowerToHyperService::new(node.router());
        let request = axum::http::Request::builder()
            .method(method.as_str())
            .uri(uri)
            .header("range", range)
            .body(axum::body::Body::from(body))
            .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(service.call(request)).unwrap();
        let status = answer.status().as_u16();
        prop_assert!(status == 501 || status < 500, "{} {}", path, status);
    }
}
