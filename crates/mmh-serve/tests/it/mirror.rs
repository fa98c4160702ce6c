//! A hub that brings what it has not from another one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use mmh_core::name::{RefName, Target};
use mmh_core::tree::Node;
use mmh_serve::{Limits, Server, Silent};
use serde_json::{Value, json};

use crate::home::{Home, address_of, hex, large, noise, regular, sha256};

fn url(home: &Home) -> String {
    format!("http://{}", home.address)
}

/// Puts a large file into a repository.
fn put_large(home: &Home, id: &str, path: &str, bytes: &[u8]) {
    let to = address_of(home, id, &sha256(bytes), bytes.len()).unwrap();
    assert_eq!(home.ask("PUT", &to, &[], bytes).status, 200);
    assert_eq!(home.commit(id, &[large(path, bytes)]).status, 200);
}

/// Until what came in the background is committed.
fn settled(home: &Home) {
    while home.staged() > 0 {
        std::thread::yield_now();
    }
}

fn len_in_repository(home: &Home, path: &str) -> Option<u64> {
    let target: Target = format!("acme/m:{path}").parse().unwrap();
    match home.repo.node(&target) {
        Ok(Node::File { size, .. }) => Some(size),
        _ => None,
    }
}

/// Small files come with the revision, large ones when they are wanted; then the other hub may go.
#[test]
fn what_was_read_once_is_here_after() {
    let there = Home::new();
    there.create("acme/m");
    let (first, second) = (noise(700_000, 1), noise(1_200_000, 2));
    let small = [
        regular("config.json", b"{}"),
        regular("deep/er/a.txt", b"hello"),
    ];
    assert_eq!(there.commit("acme/m", &small).status, 200);
    put_large(&there, "acme/m", "w1.bin", &first);
    put_large(&there, "acme/m", "deep/w2.bin", &second);
    let here = Home::mirror(&url(&there));
    let described = |home: &Home, path: &str| {
        let all = home.get(&format!("/api/models/acme/m/{path}")).json();
        let all = all.get("siblings").cloned().unwrap_or(all);
        let of = |one: &Value| {
            let name = one.get("rfilename").or(one.get("path")).cloned();
            (
                name,
                one["size"].clone(),
                one["lfs"].clone(),
                one["oid"].clone(),
            )
        };
        let all = all
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| one["type"] != "directory");
        all.map(of).collect::<Vec<_>>()
    };
    for path in ["revision/main?blobs=true", "tree/main?recursive=true"] {
        assert_eq!(described(&here, path), described(&there, path), "{path}");
    }
    let size = "/api/models/acme/m/treesize/main";
    assert_eq!(here.get(size).json(), there.get(size).json());
    assert_eq!(
        here.get("/acme/m/resolve/main/deep/er/a.txt").body,
        b"hello"
    );
    let head = here.ask("HEAD", "/acme/m/resolve/main/w1.bin", &[], b"");
    assert_eq!(head.header("content-length"), Some("700000"));
    assert_eq!(
        head.header("etag"),
        Some(&*format!("\"{}\"", sha256(&first)))
    );
    assert!(
        len_in_repository(&here, "w1.bin").unwrap() < 200,
        "a pointer"
    );
    let pinned = here.head_of("acme/m");
    let part = here.ask(
        "GET",
        "/acme/m/resolve/main/w1.bin",
        &[("range", "bytes=5-9")],
        b"",
    );
    assert_eq!((part.status, &part.body[..]), (206, &first[5..10]));
    settled(&here);
    assert_eq!(here.head_of("acme/m"), pinned, "not all of it came");
    let whole = here.get(&format!("/acme/m/resolve/{pinned}/deep/w2.bin"));
    assert!(whole.body == second, "other bytes came");
    settled(&here);
    let there_sha = there.head_of("acme/m");
    drop(there);
    // All came: the repository has the files themselves, and old ids are good still.
    assert_eq!(len_in_repository(&here, "deep/w2.bin"), Some(1_200_000));
    for rev in ["main", &pinned, &there_sha] {
        let got = here.get(&format!("/acme/m/resolve/{rev}/w1.bin"));
        assert!(got.body == first, "{rev}: {}", got.status);
    }
    let batch =
        json!({ "operation": "download", "objects": [{ "oid": sha256(&first), "size": 700_000 }] });
    let batch = here
        .post("/acme/m.git/info/lfs/objects/batch", &batch)
        .json();
    assert!(batch["objects"][0]["actions"]["download"]["href"].is_string());
    assert_eq!(
        here.get("/api/models/other/x").status,
        502,
        "nobody is left to ask"
    );
}

/// A branch that moves there moves here, and takes along what it had; names of this hub stay.
#[test]
fn branches_move_along_and_own_names_stay() {
    let there = Home::new();
    there.create("acme/m");
    there.create("acme/own");
    let bytes = noise(400_000, 3);
    put_large(&there, "acme/m", "w.bin", &bytes);
    let first = there.head_of("acme/m");
    let here = Home::mirror(&url(&there));
    here.create("acme/own");
    assert_eq!(
        here.commit("acme/own", &[regular("mine", b"1")]).status,
        200
    );
    assert_eq!(here.get("/acme/m/resolve/main/w.bin").body, bytes);
    settled(&here);
    let gone = json!({ "key": "deletedFile", "value": { "path": "w.bin" } });
    assert_eq!(
        there.commit("acme/m", &[regular("a", b"2"), gone]).status,
        200
    );
    assert_eq!(here.get("/acme/m/resolve/main/a").body, b"2");
    assert_eq!(here.get("/acme/m/resolve/main/w.bin").status, 404);
    assert_eq!(
        here.get(&format!("/acme/m/resolve/{first}/w.bin")).body,
        bytes
    );
    assert_eq!(here.get("/acme/own/resolve/main/mine").body, b"1");
    let branch = RefName::branch("acme/own".parse().unwrap(), "main").unwrap();
    let refs = here.repo.refs().unwrap();
    assert!(refs.refs.contains_key(&branch));
    for (path, status) in [
        ("/api/models/acme/none", 404),
        ("/acme/m/resolve/none/a", 404),
        ("/acme/m/resolve/main/none", 404),
    ] {
        assert_eq!(here.get(path).status, status, "{path}");
    }
    let refs = here.get("/api/models/acme/m/refs").json();
    assert_eq!(refs["branches"].as_array().unwrap().len(), 1, "{refs}");
}

/// A hub that answers as it is told.
fn liar(answer: fn(usize, &Request) -> Response) -> (tokio::runtime::Runtime, String) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let router = Router::new().fallback(move |request: Request| {
        let n = asked.fetch_add(1, Ordering::Relaxed);
        async move { answer(n, &request) }
    });
    let address = "127.0.0.1:0".parse().unwrap();
    let server = Server::bind(address, None, router, (Limits::default(), Arc::new(Silent)));
    let server = runtime.block_on(server).unwrap();
    let url = format!("http://{}", server.address());
    runtime.spawn(server.run(std::future::pending()));
    (runtime, url)
}

const LEN: usize = 300_000;

fn file() -> Vec<u8> {
    noise(LEN, 9)
}

fn info(sibling: &Value) -> Response {
    let all = json!({ "sha": "1".repeat(40), "siblings": [sibling] });
    all.to_string().into_response()
}

fn of_large() -> Value {
    let lfs = json!({ "sha256": sha256(&file()), "size": LEN });
    json!({ "rfilename": "w.bin", "lfs": lfs, "blobId": "2".repeat(40) })
}

/// What is another file than was said is never sent whole, and not kept.
#[test]
fn lies_are_neither_handed_on_nor_kept() {
    let (_runtime, url) = liar(|_, request| match request.uri().path() {
        path if path.starts_with("/api/") => info(&of_large()),
        _ => vec![7; LEN].into_response(),
    });
    let here = Home::mirror(&url);
    let got = here.get("/acme/m/resolve/main/w.bin");
    assert_eq!(got.header("content-length"), Some(&*LEN.to_string()));
    assert!(got.body.len() < LEN, "it breaks off");
    settled(&here);
    assert!(len_in_repository(&here, "w.bin").unwrap() < 200);
    assert_eq!(here.get("/healthz").status, 200, "it lives");
    for bad in [
        json!({ "rfilename": "../up", "blobId": "2".repeat(40) }),
        json!({ "rfilename": "a", "blobId": "2".repeat(40) }),
        json!({ "rfilename": "a" }),
        json!({ "rfilename": "a", "lfs": { "sha256": "x", "size": 1 } }),
        json!({ "siblings": 3 }),
    ] {
        // A plain function knows nothing around it: the path says what to lie.
        let (_runtime, url) = liar(|_, request| match request.uri().path() {
            path if path.contains("/api/") => {
                let text = path.split('/').nth(1).unwrap();
                let bytes = (0..text.len()).step_by(2);
                let bytes: Vec<u8> = bytes
                    .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
                    .collect();
                info(&serde_json::from_slice(&bytes).unwrap())
            }
            _ => "other".into_response(),
        });
        let here = Home::mirror(&format!("{url}/{}", hex(bad.to_string().as_bytes())));
        assert_eq!(here.get("/api/models/acme/m").status, 502, "{bad}");
        assert_eq!(here.staged(), 0, "{bad}");
        assert!(here.repo.refs().unwrap().refs.is_empty(), "{bad}");
    }
}

/// A download that breaks off goes on where it was, and nobody notices.
#[test]
fn what_breaks_off_goes_on() {
    let (_runtime, url) = liar(|_, request| {
        if request.uri().path().starts_with("/api/") {
            return info(&of_large());
        }
        let from = request.headers().get("range").map(|range| {
            let text = range.to_str().unwrap().trim_start_matches("bytes=");
            text.trim_end_matches('-').parse::<usize>().unwrap()
        });
        let rest = file()[from.unwrap_or(0)..].to_vec();
        let part = futures::stream::iter([
            Ok(bytes::Bytes::from(rest[..rest.len().min(100_000)].to_vec())),
            Err(std::io::Error::other("a cable is cut")),
        ]);
        let whole = rest.len() <= 100_000;
        let body = if whole {
            Body::from(rest)
        } else {
            Body::from_stream(part)
        };
        let status = if from.is_some() { 206 } else { 200 };
        Response::builder().status(status).body(body).unwrap()
    });
    let here = Home::mirror(&url);
    let got = here.get("/acme/m/resolve/main/w.bin");
    assert!(got.status == 200 && got.body == file());
    settled(&here);
    assert_eq!(len_in_repository(&here, "w.bin"), Some(LEN as u64));
}

/// What the other hub refuses is not there; that it fails is said.
#[test]
fn refusals_and_failures_are_told_apart() {
    let (_runtime, url) = liar(|_, request| {
        let status = match request.uri().path() {
            path if path.contains("/gated/") => 403,
            path if path.contains("/gone/") => 401,
            path if path.contains("/busy/") => 429,
            _ => 500,
        };
        Response::builder()
            .status(status)
            .body(Body::empty())
            .unwrap()
    });
    let here = Home::mirror(&url);
    for (name, status) in [
        ("gated/x", 404),
        ("gone/x", 404),
        ("busy/x", 502),
        ("bad/x", 502),
    ] {
        let answer = here.get(&format!("/api/models/{name}"));
        assert_eq!(answer.status, status, "{name}");
    }
}

/// What a mirror says of large files that have not come is what the other hub says.
#[test]
fn large_files_are_described_before_they_come() {
    let there = Home::new();
    there.create("acme/m");
    let bytes = noise(600_000, 4);
    put_large(&there, "acme/m", "w.bin", &bytes);
    let here = Home::mirror(&url(&there));
    let paths = json!({ "paths": ["w.bin", "none"] });
    let kind = [("content-type", "application/json")];
    let asked = |home: &Home| {
        let path = "/api/models/acme/m/paths-info/main";
        let body = paths.to_string();
        home.ask("POST", path, &kind, body.as_bytes()).json()
    };
    assert_eq!(asked(&here), asked(&there));
    let raw = |home: &Home| home.get("/acme/m/raw/main/w.bin").body;
    assert_eq!(raw(&here), raw(&there));
    assert!(raw(&here).starts_with(b"version https://git-lfs"));
    let past = [("range", "bytes=600000-")];
    let refused = here.ask("GET", "/acme/m/resolve/main/w.bin", &past, b"");
    assert_eq!(refused.status, 416);
    for (range, wanted) in [
        ("bytes=0-0", &bytes[..1]),
        ("bytes=599999-", &bytes[599_999..]),
        ("bytes=-3", &bytes[599_997..]),
        ("bytes=1000-2000", &bytes[1000..2001]),
    ] {
        let part = here.ask(
            "GET",
            "/acme/m/resolve/main/w.bin",
            &[("range", range)],
            b"",
        );
        assert_eq!((part.status, &part.body[..]), (206, wanted), "{range}");
    }
    settled(&here);
    assert_eq!(
        asked(&here),
        asked(&there),
        "nor does it change when they are here"
    );
}

/// Revisions that are no branch of this hub: a tag, a proposal, and a commit by its id.
#[test]
fn other_revisions_come_too() {
    let there = Home::new();
    there.create("acme/m");
    assert_eq!(there.commit("acme/m", &[regular("a", b"1")]).status, 200);
    let first = there.head_of("acme/m");
    let tag = there.post("/api/models/acme/m/tag/main", &json!({ "tag": "v1" }));
    assert_eq!(tag.status, 200);
    assert_eq!(there.commit("acme/m", &[regular("a", b"2")]).status, 200);
    let begun = json!({ "title": "t", "pullRequest": true });
    let begun = there.post("/api/models/acme/m/discussions", &begun);
    assert_eq!(begun.status, 200);
    let here = Home::mirror(&url(&there));
    for (rev, bytes) in [
        (first.as_str(), b"1"),
        ("v1", b"1"),
        ("refs%2Fpr%2F1", b"2"),
        ("main", b"2"),
    ] {
        let got = here.get(&format!("/acme/m/resolve/{rev}/a"));
        assert_eq!((got.status, &got.body[..]), (200, &bytes[..]), "{rev}");
    }
    drop(there);
    for (rev, bytes) in [(first.as_str(), b"1"), ("v1", b"1"), ("main", b"2")] {
        let got = here.get(&format!("/acme/m/resolve/{rev}/a"));
        assert_eq!((got.status, &got.body[..]), (200, &bytes[..]), "{rev}");
    }
}

/// However many ask for a file that comes, it is asked for once.
#[test]
fn one_download_serves_all() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let (_runtime, url) = liar(|_, request| {
        if request.uri().path().starts_with("/api/") {
            return info(&of_large());
        }
        ASKED.fetch_add(1, Ordering::SeqCst);
        file().into_response()
    });
    let here = Home::mirror(&url);
    assert_eq!(here.get("/api/models/acme/m").status, 200);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let got = here.get("/acme/m/resolve/main/w.bin");
                assert!(got.status == 200 && got.body == file());
            });
        }
    });
    settled(&here);
    assert!(here.get("/acme/m/resolve/main/w.bin").body == file());
    assert_eq!(ASKED.load(Ordering::SeqCst), 1);
}
