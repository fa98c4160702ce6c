//! The hub over plain HTTP: what clients see, what hostile ones get, and that nothing of theirs stays.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use mmh_serve::{Limits, Role, Tokens, new_token};
use serde_json::{Value, json};

use crate::home::{Home, address_of, hex, large, noise, regular, sha256};

/// A file is uploaded, committed, listed, and read whole and in parts.
#[test]
fn a_model_goes_in_and_comes_out() {
    let home = Home::new();
    home.create("acme/tiny");
    let weights = noise(2_000_000, 1);
    let place = address_of(&home, "acme/tiny", &sha256(&weights), weights.len()).unwrap();
    assert_eq!(home.ask("PUT", &place, &[], &weights).status, 200);
    assert_eq!(home.staged(), 2, "with the list of its chunks");
    assert_eq!(
        address_of(&home, "acme/tiny", &sha256(&weights), weights.len()),
        None
    );
    let lines = [large("w/x.bin", &weights), regular("config.json", b"{}")];
    let done = home.commit("acme/tiny", &lines);
    assert_eq!(done.status, 200, "{done:?}");
    assert_eq!(home.staged(), 0, "what is committed is not kept twice");
    let oid = done.json()["commitOid"].as_str().unwrap().to_owned();
    assert_eq!(home.head_of("acme/tiny"), oid);

    let path = format!("/acme/tiny/resolve/{oid}/w/x.bin");
    let whole = home.get(&path);
    assert_eq!((whole.status, &whole.body), (200, &weights));
    let quoted = format!("\"{}\"", sha256(&weights));
    assert_eq!(whole.header("etag"), Some(quoted.as_str()));
    assert_eq!(whole.header("x-linked-etag"), Some(quoted.as_str()));
    assert_eq!(whole.header("x-repo-commit"), Some(oid.as_str()));
    let head = home.ask("HEAD", &path, &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some("2000000"));
    assert_eq!(head.header("accept-ranges"), Some("bytes"));
    for (range, from, upto) in [
        ("0-0", 0, 1),
        ("1000000-1000999", 1_000_000, 1_001_000),
        ("1999990-", 1_999_990, 2_000_000),
        ("-10", 1_999_990, 2_000_000),
        ("1999999-99999999", 1_999_999, 2_000_000),
    ] {
        let range = format!("bytes={range}");
        let part = home.ask("GET", &path, &[("range", &range)], b"");
        assert_eq!(
            (part.status, &part.body[..]),
            (206, &weights[from..upto]),
            "{range}"
        );
        let said = format!("bytes {from}-{}/2000000", upto - 1);
        assert_eq!(part.header("content-range"), Some(said.as_str()));
    }
    let beyond = home.ask("GET", &path, &[("range", "bytes=2000000-")], b"");
    assert_eq!(beyond.status, 416);
    assert_eq!(beyond.header("content-range"), Some("bytes */2000000"));

    let small = home.get("/acme/tiny/resolve/main/config.json");
    let blob = hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, b"blob 2\0{}").as_ref());
    assert_eq!(small.header("etag"), Some(format!("\"{blob}\"").as_str()));
    let pointer = home.get("/acme/tiny/raw/main/w/x.bin");
    assert!(pointer.body.starts_with(b"version https://git-lfs"));
    let batch = json!({
        "operation": "download",
        "objects": [{ "oid": sha256(&weights), "size": 2_000_000 }, { "oid": "0".repeat(64), "size": 1 }],
    });
    let batch = home
        .post("/acme/tiny.git/info/lfs/objects/batch", &batch)
        .json();
    let href = batch["objects"][0]["actions"]["download"]["href"]
        .as_str()
        .unwrap();
    assert_eq!(
        home.get(href.strip_prefix("http://localhost").unwrap())
            .body,
        weights
    );
    assert_eq!(batch["objects"][1]["error"]["code"], 404);
}

/// A file that is asked for again comes from the cache of whole files, and is the same; one that rotted
/// there is decoded again.
#[test]
fn files_that_are_asked_for_again_are_kept_whole() {
    let home = Home::new();
    home.create("acme/m");
    let bytes = noise(1_500_000, 8);
    let to = address_of(&home, "acme/m", &sha256(&bytes), bytes.len()).unwrap();
    assert_eq!(home.ask("PUT", &to, &[], &bytes).status, 200);
    assert_eq!(home.commit("acme/m", &[large("w.bin", &bytes)]).status, 200);
    let path = "/acme/m/resolve/main/w.bin";
    let cache = mmh_repo::FileCache::new(home.cached.path().to_owned(), 1 << 30);
    assert!(home.get(path).body == bytes);
    assert_eq!(cache.stat().files, 0, "once is not enough");
    assert!(home.get(path).body == bytes);
    while cache.stat().files == 0 {
        std::thread::yield_now();
    }
    assert!(home.get(path).body == bytes);
    let part = home.ask("GET", path, &[("range", "bytes=1000000-1000009")], b"");
    assert_eq!(part.body, bytes[1_000_000..1_000_010]);
    assert_eq!(home.ask("HEAD", path, &[], b"").status, 200);
    let mut left = vec![home.cached.path().to_owned()];
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => left.push(path),
                false => {
                    std::fs::remove_file(&path).unwrap();
                    std::fs::write(&path, vec![7; bytes.len()]).unwrap();
                }
            }
        }
    }
    assert!(home.get(path).body == bytes);
}

/// The requests of `llama-server -hf acme/tiny`, in order.
#[test]
fn llama_cpp_finds_its_file() {
    let home = Home::new();
    home.create("acme/tiny");
    let weights = noise(300_000, 2);
    let place = address_of(&home, "acme/tiny", &sha256(&weights), weights.len()).unwrap();
    home.ask("PUT", &place, &[], &weights);
    let done = home.commit("acme/tiny", &[large("tiny-Q4_K_M.gguf", &weights)]);
    assert_eq!(done.status, 200, "{done:?}");
    let refs = home.get("/api/models/acme/tiny/refs").json();
    assert_eq!(refs["branches"][0]["name"], "main");
    let sha = refs["branches"][0]["targetCommit"].as_str().unwrap();
    let tree = home.get(&format!("/api/models/acme/tiny/tree/{sha}?recursive=true"));
    let tree = tree.json();
    let mut entries = tree.as_array().unwrap().iter();
    let file = entries.find(|e| e["path"] == "tiny-Q4_K_M.gguf").unwrap();
    assert_eq!(file["type"], "file");
    assert_eq!(file["lfs"]["oid"], sha256(&weights));
    assert_eq!(file["size"], 300_000);
    let path = format!("/acme/tiny/resolve/{sha}/tiny-Q4_K_M.gguf");
    let head = home.ask("HEAD", &path, &[], b"");
    assert!(head.header("etag").is_some() && head.header("accept-ranges") == Some("bytes"));
    assert_eq!(home.get(&path).body, weights);
}

#[test]
fn pages_hold_everything_once() {
    let home = Home::new();
    home.create("acme/many");
    let lines: Vec<Value> = (0..25)
        .map(|n| regular(&format!("d/{n:02}"), &[n]))
        .collect();
    assert_eq!(home.commit("acme/many", &lines).status, 200);
    let mut next = "/api/models/acme/many/tree/main?recursive=1&limit=10".to_owned();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let page = home.get(&next);
        let entries = page.json();
        seen.extend(
            entries
                .as_array()
                .unwrap()
                .iter()
                .map(|e| e["path"].to_string()),
        );
        let Some(link) = page.header("link") else {
            break;
        };
        let url = link.strip_prefix("<http://localhost").unwrap();
        next = url.split_once('>').unwrap().0.to_owned();
    }
    assert_eq!(
        seen.len(),
        27,
        "files, their folder, and .gitattributes: {seen:?}"
    );
    seen.dedup();
    assert_eq!(seen.len(), 27);
    let commits = home.get("/api/models/acme/many/commits/main?limit=1");
    assert_eq!(commits.json().as_array().unwrap().len(), 1);
    assert!(commits.header("link").unwrap().contains("cursor=1"));
    let form = b"paths=d%2F03&paths=none&expand=true";
    let info = home
        .ask("POST", "/api/models/acme/many/paths-info/main", &[], form)
        .json();
    assert_eq!(info.as_array().unwrap().len(), 1);
    assert_eq!(info[0]["lastCommit"]["title"], "s");
}

/// Commits that are none: each has its status, and nothing of them is kept.
/// Lines of differences are those that git would write, with the lengths of large files.
#[test]
fn revisions_are_compared() {
    let home = Home::new();
    home.create("acme/m");
    let git = |bytes: &[u8]| {
        let whole = [format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat();
        hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, &whole).as_ref())
    };
    let weights = noise(2_000_000, 5);
    let place = address_of(&home, "acme/m", &sha256(&weights), weights.len()).unwrap();
    assert_eq!(home.ask("PUT", &place, &[], &weights).status, 200);
    let (old, new, zeros) = (b"{}\n", b"{\"a\": 1}\n", [0_u8; 9]);
    let gone = [
        regular("config.json", old),
        regular("d/e \u{30a8}", b"x"),
        regular("same", b"s"),
    ];
    let first = home.commit("acme/m", &gone).json();
    let lines = [
        regular("config.json", new),
        large("w/x.bin", &weights),
        regular("zeros", &zeros),
        json!({ "key": "deletedFile", "value": { "path": "d/e \u{30a8}" } }),
    ];
    let second = home.commit("acme/m", &lines).json();
    let pointer = home.get("/acme/m/raw/main/w/x.bin").body;
    let none = "0".repeat(40);
    let wanted = format!(
        "T 9\t:100644 100644 {}... {}... M\tconfig.json\n\
         T 1\t:100644 000000 {}... {none}... D\td/e \u{30a8}\n\
         T 2000000\t:000000 100644 {none}... {}... A\tw/x.bin\n\
         B 9\t:000000 100644 {none}... {}... A\tzeros\n",
        git(old),
        git(new),
        git(b"x"),
        git(&pointer),
        git(&zeros),
    );
    let at = |spec: &str| home.get(&format!("/api/models/acme/m/compare/{spec}"));
    let text = |spec: &str| {
        let answer = at(spec);
        assert_eq!(answer.status, 200, "{spec}: {answer:?}");
        String::from_utf8(answer.body).unwrap()
    };
    let oid = |said: &Value| said["commitOid"].as_str().unwrap().to_owned();
    let (first, second) = (oid(&first), oid(&second));
    for spec in [
        format!("{first}..{second}"),
        format!("{first}..main"),
        "main^..main".to_owned(),
        "main%5E..refs%2Fheads%2Fmain".to_owned(),
        "main".to_owned(),
    ] {
        assert_eq!(text(&format!("{spec}?raw=true")), wanted, "{spec}");
    }
    assert_eq!(text("main..main?raw=1"), "");
    // The first commit of all has nothing before it.
    let start = text("main^^^..main^?raw=true");
    assert!(start.contains(" A\tsame\n") && start.contains(" A\t.gitattributes\n"));
    let back = text("main..main^?raw=true");
    assert!(
        back.contains(" D\tw/x.bin\n") && back.contains(" A\td/e"),
        "{back}"
    );
    for (spec, status) in [
        ("main^..main", 501),
        ("main...main?raw=true", 400),
        ("..main?raw=true", 400),
        ("none..main?raw=true", 404),
        ("main^^^^^..main?raw=true", 404),
        ("main..main^^^?raw=true", 404),
        ("^..main?raw=true", 404),
    ] {
        assert_eq!(at(spec).status, status, "{spec}");
    }
}

#[test]
fn hostile_commits_change_nothing() {
    let home = Home::new();
    home.create("acme/tiny");
    let before = home.head_of("acme/tiny");
    let header = json!({ "key": "header", "value": { "summary": "s" } });
    let path = "/api/models/acme/tiny/commit/main";
    let none = "0".repeat(64);
    let lfs =
        |path: &str, oid: &str| json!({ "key": "lfsFile", "value": { "path": path, "oid": oid } });
    let bad: Vec<(Vec<u8>, u16)> = [
        (String::new(), 400),
        ("{".to_owned(), 400),
        (format!("{header}\n{header}"), 400),
        (format!("{}\n{header}", regular("a", b"x")), 400),
        (format!("{header}\n{{\"key\":\"unknown\",\"value\":{{}}}}"), 400),
        (format!("{header}\n{}", regular("../up", b"x")), 422),
        (format!("{header}\n{}", regular("/etc/x", b"x")), 422),
        (format!("{header}\n{}", regular("a//b", b"x")), 422),
        (format!("{header}\n{}", regular("a\\b", b"x")), 422),
        (format!("{header}\n{}", regular("", b"x")), 422),
        (format!("{header}\n{}", regular(&"x/".repeat(3000), b"x")), 422),
        (format!("{header}\n{}", regular(&"x".repeat(300), b"x")), 422),
        (format!("{header}\n{}\n{}", regular("a", b"x"), regular("a", b"y")), 400),
        (format!("{header}\n{}\n{}", regular("a", b"x"), regular("a/b", b"y")), 400),
        (format!("{header}\n{}", lfs("a", &none)), 400),
        (format!("{header}\n{}", lfs("a", "xyz")), 400),
        (format!("{header}\n{}", lfs("../a", &none)), 422),
        (format!("{header}\n{}", json!({ "key": "deletedFile", "value": { "path": "no" } })), 404),
        (
            format!("{header}\n{}", json!({ "key": "file", "value": { "path": "a", "content": "%", "encoding": "base64" } })),
            400,
        ),
    ]
    .into_iter()
    .map(|(text, status)| (text.into_bytes(), status))
    .chain([([header.to_string().as_bytes(), b"\n\xff\xfe\n"].concat(), 400)])
    .collect();
    for (body, status) in &bad {
        let answer = home.ask("POST", path, &[], body);
        let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        assert_eq!(answer.status, *status, "{shown}: {answer:?}");
    }
    // One that breaks off in the middle.
    let whole = format!("{header}\n{}\n", regular("a", b"x"));
    let cut = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{whole}",
        whole.len() + 1
    );
    home.send_and_leave(cut.as_bytes());
    assert_eq!(home.head_of("acme/tiny"), before);
    assert_eq!(home.staged(), 0);
    let parent = json!({ "summary": "s", "parentCommit": "1".repeat(40) });
    let late = home.commit_on("acme/tiny", &[regular("a", b"x")], &parent);
    assert_eq!(late.status, 412);
    assert_eq!(home.commit("acme/none", &[]).status, 404);
    assert_eq!(
        home.commit("acme/tiny", &[regular("a", b"x")]).status,
        200,
        "it lives"
    );
}

#[test]
fn lying_uploads_are_refused() {
    let home = Home::with(Tokens::none(Role::Admin), Limits::default(), 1 << 20);
    home.create("acme/tiny");
    let (right, wrong) = (noise(1000, 1), noise(1000, 2));
    let place = address_of(&home, "acme/tiny", &sha256(&right), 1000).unwrap();
    assert_eq!(home.ask("PUT", &place, &[], &wrong).status, 400);
    assert_eq!(home.ask("PUT", &place, &[], &right[..999]).status, 400);
    assert_eq!(home.staged(), 0);
    let big = noise((1 << 20) + 1, 3);
    let place = address_of(&home, "acme/tiny", &sha256(&big), big.len()).unwrap();
    assert_eq!(
        home.ask("PUT", &place, &[], &big).status,
        507,
        "there is no room"
    );
    let verify = json!({ "oid": sha256(&right), "size": 1000 });
    let door = "/acme/tiny.git/info/lfs/objects/verify";
    assert_eq!(home.post(door, &verify).status, 404);
    for batch in [
        json!({ "operation": "steal", "objects": [] }),
        json!({ "operation": "upload", "objects": [{ "oid": "../x", "size": 1 }] }),
        json!({ "operation": "upload", "objects": [], "hash_algo": "md5" }),
        json!({ "operation": "upload", "objects": [], "transfers": ["carrier-pigeon"] }),
        json!([]),
    ] {
        let answer = home.post("/acme/tiny.git/info/lfs/objects/batch", &batch);
        assert_eq!(answer.status, 400, "{batch}: {answer:?}");
    }
}

/// A digest is no right: who may write to one name cannot take another's file by it.
#[test]
fn digests_open_no_other_repository() {
    let home = Home::new();
    home.create("acme/mine");
    home.create("acme/yours");
    let secret = noise(1000, 1);
    let place = address_of(&home, "acme/yours", &sha256(&secret), 1000).unwrap();
    home.ask("PUT", &place, &[], &secret);
    assert_eq!(
        home.commit("acme/mine", &[large("a.bin", &secret)]).status,
        400
    );
    assert_eq!(
        home.commit("acme/yours", &[large("a.bin", &secret)]).status,
        200
    );
    assert_eq!(
        home.commit("acme/mine", &[large("a.bin", &secret)]).status,
        400
    );
    assert!(address_of(&home, "acme/mine", &sha256(&secret), 1000).is_some());
    let oid = home.head_of("acme/yours");
    assert_eq!(
        home.get(&format!("/acme/mine/resolve/{oid}/a.bin")).status,
        404
    );
}

#[test]
fn tokens_and_their_scopes_hold() {
    let (reader, one) = new_token(Role::Reader, &[], "r").unwrap();
    let (writer, two) = new_token(Role::Writer, &["models/acme/*".to_owned()], "w").unwrap();
    let (admin, three) = new_token(Role::Admin, &[], "a").unwrap();
    let tokens = Tokens::parse(&(one + &two + &three), "f", Role::Nobody).unwrap();
    let home = Home::with(tokens, Limits::default(), 1 << 20);
    let as_ = |token: &str, method: &str, path: &str, body: &Value| {
        let token = format!("Bearer {token}");
        let headers = [("authorization", token.as_str())];
        home.ask(method, path, &headers, body.to_string().as_bytes())
            .status
    };
    let create =
        |token: &str, id: &str| as_(token, "POST", "/api/repos/create", &json!({ "name": id }));
    let (info, null) = ("/api/models/acme/tiny", Value::Null);
    assert_eq!(home.get(info).status, 401);
    assert_eq!(home.get("/api/whoami-v2").status, 401);
    assert_eq!(home.get("/api/models").status, 401);
    assert_eq!(create(&reader, "acme/tiny"), 403);
    assert_eq!(create(&writer, "acme/tiny"), 200);
    assert_eq!(create(&admin, "other/tiny"), 200);
    assert_eq!(
        create(&writer, "other/two"),
        404,
        "it is not told what is there"
    );
    for (token, expected) in [(&reader, 200), (&writer, 404), (&admin, 200)] {
        assert_eq!(as_(token, "GET", "/api/models/other/tiny", &null), expected);
        assert_eq!(as_(token, "GET", info, &null), 200);
        assert_eq!(as_(token, "GET", "/api/whoami-v2", &null), 200);
    }
    let delete =
        |token: &str, id: &str| as_(token, "DELETE", "/api/repos/delete", &json!({ "name": id }));
    assert_eq!(delete(&writer, "acme/tiny"), 403);
    // An address that a batch gave is good without a token, and for that file only.
    let bytes = noise(100, 1);
    let batch =
        json!({ "operation": "upload", "objects": [{ "oid": sha256(&bytes), "size": 100 }] });
    let bearer = format!("Bearer {writer}");
    let door = "/acme/tiny.git/info/lfs/objects/batch";
    let headers = [("authorization", bearer.as_str())];
    let said = home
        .ask("POST", door, &headers, batch.to_string().as_bytes())
        .json();
    let href = said["objects"][0]["actions"]["upload"]["href"]
        .as_str()
        .unwrap();
    let place = href.strip_prefix("http://localhost").unwrap();
    let elsewhere = place.replace("acme/tiny", "other/tiny");
    assert_eq!(home.ask("PUT", &elsewhere, &[], &bytes).status, 401);
    assert_eq!(
        home.ask("PUT", &place.replace("size=100", "size=99"), &[], &bytes)
            .status,
        401
    );
    assert_eq!(home.ask("PUT", place, &[], &bytes).status, 200);
    assert_eq!(delete(&admin, "acme/tiny"), 200);
    assert_eq!(as_(&reader, "GET", "/metrics", &null), 200);
    assert_eq!(as_(&writer, "GET", "/metrics", &null), 403);
    assert_eq!(home.get("/healthz").status, 200);
    assert_eq!(home.get("/readyz").status, 200);
    assert_eq!(home.get("/metrics").status, 401);
}

/// Commits at the same moment all land, each once; those that name a parent land once in all.
#[test]
fn concurrent_commits_are_exact() {
    let home = Home::new();
    home.create("acme/tiny");
    let parent = home.head_of("acme/tiny");
    let landed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for n in 0..6u8 {
            let (home, parent, landed) = (&home, &parent, &landed);
            scope.spawn(move || {
                let lines = [regular(&format!("free/{n}"), &[n])];
                assert_eq!(home.commit("acme/tiny", &lines).status, 200);
                let header = json!({ "summary": "s", "parentCommit": parent });
                let bound = home.commit_on("acme/tiny", &[regular("bound", &[n])], &header);
                assert!([200, 412].contains(&bound.status), "{bound:?}");
                landed.fetch_add(u64::from(bound.status == 200), Ordering::Relaxed);
            });
        }
    });
    assert_eq!(
        landed.load(Ordering::Relaxed),
        0,
        "all came after one of the others"
    );
    let tree = home.get("/api/models/acme/tiny/tree/main/free").json();
    assert_eq!(tree.as_array().unwrap().len(), 6);
    let commits = home.get("/api/models/acme/tiny/commits/main").json();
    assert_eq!(commits.as_array().unwrap().len(), 7);
    let operations = home.repo.operations(100).unwrap();
    assert_eq!(operations.len(), 7);
}

#[test]
fn strange_requests_are_answered_and_pages_of_others_refused() {
    let home = Home::new();
    home.create("acme/tiny");
    for (path, status) in [
        ("/", 404),
        ("/api", 404),
        ("/api/models/../../etc/passwd", 404),
        ("/acme/tiny/resolve/main/../../x", 404),
        ("/acme/tiny/resolve/main/%2e%2e/x", 404),
        ("/acme/tiny/resolve/main/%00", 404),
        ("/acme/tiny/resolve/main/", 404),
        ("/acme/tiny/resolve/..%2f/x", 404),
        ("/api/models/acme/tiny/tree/main?limit=x&cursor=%ff", 200),
        ("/api/models/acme/tiny/tree/main/no", 404),
        (
            "/api/models/acme/tiny/commits/main?cursor=99999999999999999999999",
            200,
        ),
        ("/api/models?sort=magic", 400),
        ("/api/models?search=%", 200),
    ] {
        assert_eq!(home.get(path).status, status, "{path}");
    }
    let evil = [("origin", "http://example.com")];
    let post = home.ask("POST", "/api/repos/create", &evil, br#"{"name":"x"}"#);
    assert_eq!(post.status, 403);
    let rebound = "GET /api/models HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n\r\n";
    assert_eq!(home.raw(rebound.as_bytes()).status, 403);
    let long = format!(
        "GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "x".repeat(100_000)
    );
    assert!([414, 431].contains(&home.raw(long.as_bytes()).status));
    let gated = home.post(
        "/api/repos/create",
        &json!({ "name": "y", "private": true }),
    );
    assert_eq!(gated.status, 400, "nothing is private where anybody reads");
    assert_eq!(home.get("/api/models/acme/tiny").status, 200, "it lives");
}
