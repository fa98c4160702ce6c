//! What earlier uploads brought need not be sent again: chunks are answered for, and xorbs referred to,
//! of the same name, of others that the caller may read, and of no more.

use mmh_core::name::Target;
use mmh_serve::{Limits, Role, Tokens, new_token};
use mmh_xet::{FileInfo, Leaf, Shard, XetHash, file_hash};

use crate::home::{Answer, Home, large, noise};
use crate::xet::{Sent, address, digest, put, register, segment, sent};

/// Sends a file by Xet and commits it.
fn upload(home: &Home, id: &str, path: &str, bytes: &[u8]) -> Sent {
    let sent = sent(bytes);
    let at = address(home, id);
    assert_eq!(put(home, &at, sent.xorb, &sent.body).status, 200);
    let said = register(home, &at, std::slice::from_ref(&sent.info));
    assert_eq!(said.status, 200, "{said:?}");
    commit(home, id, path, bytes);
    sent
}

fn commit(home: &Home, id: &str, path: &str, bytes: &[u8]) {
    let done = home.commit(id, &[large(path, bytes)]);
    assert_eq!(done.status, 200, "{done:?}");
    assert_eq!(home.get(&format!("/{id}/resolve/main/{path}")).body, bytes);
}

fn chunk(home: &Home, at: &str, hash: &XetHash) -> Answer {
    home.get(&format!("{at}/v1/chunks/default/{hash}"))
}

/// The file with a part of it put behind the rest, as a client says it that knows the xorb.
fn turned(bytes: &[u8], xorb: XetHash, leaves: &[Leaf]) -> (Vec<u8>, FileInfo) {
    let first = usize::try_from(leaves[0].1).unwrap();
    let turned = [&bytes[first..], &bytes[..first]].concat();
    let n_chunks = u32::try_from(leaves.len()).unwrap();
    let info = FileInfo {
        hash: file_hash(&[&leaves[1..], &leaves[..1]].concat()),
        segments: vec![
            segment(xorb, leaves, 1..n_chunks),
            segment(xorb, leaves, 0..1),
        ],
        sha256: Some(digest(&turned)),
    };
    (turned, info)
}

#[test]
fn a_chunk_is_answered_with_the_xorb_that_it_is_in() {
    let home = Home::new();
    home.create("acme/tiny");
    home.create("acme/other");
    let bytes = noise(2_000_000, 1);
    let one = upload(&home, "acme/tiny", "w.bin", &bytes);
    for id in ["acme/tiny", "acme/other"] {
        let at = address(&home, id);
        let said = chunk(&home, &at, &one.leaves[0].0);
        assert_eq!(said.status, 200, "{id}: {said:?}");
        let shard = Shard::read(&said.body).unwrap();
        assert!(shard.files.is_empty());
        let validity = shard.validity.unwrap();
        assert_eq!(validity.expires_s - validity.created_s, 24 * 60 * 60);
        let [xorb] = &shard.xorbs[..] else {
            panic!("{shard:?}");
        };
        xorb.verify().unwrap();
        assert_eq!(xorb.leaves(), one.leaves);
        let spec = at.clone() + "/v1/chunks/default-merkledb/" + &one.leaves[0].0.to_string();
        assert_eq!(home.get(&spec).status, 200);
        // Others than the first of a file, and one in a thousand, are not asked for.
        let plain = one.leaves[5..].iter().find(|leaf| !leaf.0.is_shared());
        assert_eq!(chunk(&home, &at, &plain.unwrap().0).status, 404);
        // What the answer says is taken for what it is.
        let (file, info) = turned(&bytes, xorb.hash, &one.leaves);
        let said = register(&home, &at, &[info]);
        assert_eq!(said.status, 200, "{said:?}");
        commit(&home, id, "turned.bin", &file);
    }
}

/// Space is collected, the file that a xorb came with is gone, and another server with no uploads of
/// its own takes over: the xorb is known for weeks.
#[test]
fn xorbs_outlive_their_file_a_collection_and_the_server() {
    let home = Home::new();
    home.create("acme/tiny");
    let bytes = noise(1_000_000, 2);
    let one = upload(&home, "acme/tiny", "w.bin", &bytes);
    let removed = serde_json::json!({ "key": "deletedFile", "value": { "path": "w.bin" } });
    assert_eq!(home.commit("acme/tiny", &[removed]).status, 200);
    let squash = home.post(
        "/api/models/acme/tiny/super-squash/main",
        &serde_json::json!({}),
    );
    assert_eq!(squash.status, 200);
    let options = mmh_repo::GcOptions {
        grace_ms: 0,
        undo_ms: 0,
        ..mmh_repo::GcOptions::default()
    };
    let keep = mmh_repo::Keep::default();
    for _ in 0..2 {
        home.repo.gc(&keep, &options).unwrap();
        home.turn(3 * 60 * 60 * 1000);
    }
    let before = address(&home, "acme/tiny");
    let home = home.again();
    let at = address(&home, "acme/tiny");
    assert_ne!(at, before, "its own folder knows nothing of the old one");
    let (file, info) = turned(&bytes, one.xorb, &one.leaves);
    assert_eq!(register(&home, &at, &[info]).status, 200);
    commit(&home, "acme/tiny", "turned.bin", &file);
    assert!(home.repo.check_all().unwrap().is_clean());
}

/// A xorb has chunks of two files, which are committed one after the other.
#[test]
fn a_xorb_of_several_files_is_kept_until_all_are_there() {
    let home = Home::new();
    home.create("acme/tiny");
    let bytes = noise(1_500_000, 3);
    let one = sent(&bytes);
    let at = address(&home, "acme/tiny");
    assert_eq!(put(&home, &at, one.xorb, &one.body).status, 200);
    let n_chunks = u32::try_from(one.leaves.len()).unwrap();
    let half = n_chunks / 2;
    let part = |chunks: std::ops::Range<u32>| {
        let run = &one.leaves[chunks.start as usize..chunks.end as usize];
        let before = &one.leaves[..chunks.start as usize];
        let len = |leaves: &[Leaf]| usize::try_from(leaves.iter().map(|l| l.1).sum::<u64>());
        let (from, len) = (len(before).unwrap(), len(run).unwrap());
        let content = bytes[from..from + len].to_vec();
        let info = FileInfo {
            hash: file_hash(run),
            segments: vec![segment(one.xorb, &one.leaves, chunks)],
            sha256: Some(digest(&content)),
        };
        (content, info)
    };
    let (first, first_info) = part(0..half);
    let (second, second_info) = part(half..n_chunks);
    let said = register(&home, &at, &[first_info, second_info.clone()]);
    assert_eq!(said.status, 200, "{said:?}");
    commit(&home, "acme/tiny", "1.bin", &first);
    assert_eq!(
        home.staged(),
        3,
        "the xorb, and the other file with its list"
    );
    commit(&home, "acme/tiny", "2.bin", &second);
    assert_eq!(home.staged(), 0);
    let whole = FileInfo {
        hash: file_hash(&one.leaves),
        segments: vec![segment(one.xorb, &one.leaves, 0..n_chunks)],
        sha256: Some(digest(&bytes)),
    };
    assert_eq!(register(&home, &at, &[whole]).status, 200);
    commit(&home, "acme/tiny", "both.bin", &bytes);
}

#[test]
fn nobody_builds_on_what_they_may_not_read() {
    let (admin, one) = new_token(Role::Admin, &[], "a").unwrap();
    let (writer, two) = new_token(Role::Writer, &["models/acme/*".to_owned()], "w").unwrap();
    let tokens = Tokens::parse(&(one + &two), "f", Role::Nobody).unwrap();
    let home = Home::with(tokens, Limits::default(), 16 << 20);
    let ask = |token: &str, method: &str, path: &str, body: &[u8]| {
        let token = format!("Bearer {token}");
        home.ask(method, path, &[("authorization", token.as_str())], body)
    };
    let place = |token: &str, id: &str| {
        let path = format!("/api/models/{id}/xet-write-token/main");
        let said = ask(token, "GET", &path, b"");
        assert_eq!(said.status, 200, "{said:?}");
        let url = said.header("x-xet-cas-url").unwrap().to_owned();
        url.strip_prefix("http://localhost").unwrap().to_owned()
    };
    let shard = |info: &FileInfo| {
        let files = vec![info.clone()];
        let shard = Shard {
            files,
            ..Shard::default()
        };
        shard.write()
    };
    for id in ["acme/open", "secret/m"] {
        let body = serde_json::json!({ "name": id }).to_string();
        let made = ask(&admin, "POST", "/api/repos/create", body.as_bytes());
        assert_eq!(made.status, 200, "{made:?}");
    }
    let bytes = noise(400_000, 4);
    let sent = sent(&bytes);
    let secret = place(&admin, "secret/m");
    let xorb = format!("{secret}/v1/xorbs/default/{}", sent.xorb);
    assert_eq!(ask(&admin, "POST", &xorb, &sent.body).status, 200);
    let shards = format!("{secret}/v1/shards");
    assert_eq!(ask(&admin, "POST", &shards, &shard(&sent.info)).status, 200);
    let header = serde_json::json!({ "key": "header", "value": { "summary": "s" } });
    let lines = format!("{header}\n{}\n", large("w.bin", &bytes));
    let path = "/api/models/secret/m/commit/main";
    assert_eq!(ask(&admin, "POST", path, lines.as_bytes()).status, 200);

    let first = sent.leaves[0].0;
    let (_, info) = turned(&bytes, sent.xorb, &sent.leaves);
    let open = place(&writer, "acme/open");
    let chunks = format!("{open}/v1/chunks/default/{first}");
    assert_eq!(ask(&writer, "GET", &chunks, b"").status, 404);
    assert_eq!(
        ask(&admin, "GET", &chunks, b"").status,
        200,
        "who may read it"
    );
    let theirs = format!("{secret}/v1/chunks/default/{first}");
    assert_eq!(ask(&writer, "GET", &theirs, b"").status, 404);
    assert_eq!(home.get(&theirs).status, 401);
    let shards = format!("{open}/v1/shards");
    let refused = ask(&writer, "POST", &shards, &shard(&info));
    assert_eq!(refused.status, 400, "{refused:?}");
    let shards = format!("{}/v1/shards", place(&admin, "acme/open"));
    assert_eq!(ask(&admin, "POST", &shards, &shard(&info)).status, 200);
}

/// Version 2: lines until the files are there.
#[test]
fn shards_of_version_2_are_answered_line_by_line() {
    let home = Home::new();
    home.create("acme/tiny");
    let bytes = noise(500_000, 5);
    let one = sent(&bytes);
    let at = address(&home, "acme/tiny");
    let shard = Shard {
        files: vec![one.info.clone()],
        ..Shard::default()
    };
    let lines = |body: &[u8]| {
        let said = home.ask("POST", &format!("{at}/v2/shards"), &[], body);
        assert_eq!(said.status, 200, "{said:?}");
        assert_eq!(said.header("content-type"), Some("application/x-ndjson"));
        let text = String::from_utf8(said.body).unwrap();
        let json = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok();
        // They come in pieces with their lengths before them.
        text.lines()
            .filter_map(json)
            .filter(serde_json::Value::is_object)
            .collect::<Vec<_>>()
    };
    let said = lines(&shard.write());
    let last = said.last().unwrap();
    assert_eq!(
        (&last["type"], &last["retryable"]),
        (&"error".into(), &false.into())
    );
    assert!(last["message"].to_string().contains("not known"), "{last}");
    assert_eq!(put(&home, &at, one.xorb, &one.body).status, 200);
    let said = lines(&shard.write());
    assert_eq!(said.last().unwrap()["type"], "result", "{said:?}");
    for line in &said[..said.len() - 1] {
        assert_eq!(
            (&line["type"], &line["total"]),
            (&"validating".into(), &500_000.into())
        );
    }
    commit(&home, "acme/tiny", "w.bin", &bytes);
}

/// What is remembered of a name is another's when that is made anew.
#[test]
fn a_name_that_is_made_anew_has_another_address() {
    let home = Home::new();
    home.create("acme/tiny");
    let bytes = noise(300_000, 6);
    let one = upload(&home, "acme/tiny", "w.bin", &bytes);
    let first = address(&home, "acme/tiny");
    assert_eq!(address(&home, "acme/tiny"), first);
    let gone = home.ask(
        "DELETE",
        "/api/repos/delete",
        &[],
        br#"{"name":"acme/tiny"}"#,
    );
    assert_eq!(gone.status, 200);
    home.create("acme/tiny");
    let second = address(&home, "acme/tiny");
    assert_ne!(second, first);
    let (_, info) = turned(&bytes, one.xorb, &one.leaves);
    assert_eq!(register(&home, &second, &[info]).status, 400);
    let moved =
        serde_json::json!({ "fromRepo": "acme/tiny", "toRepo": "acme/new", "type": "model" });
    assert_eq!(home.post("/api/repos/move", &moved).status, 200);
    assert_ne!(address(&home, "acme/new"), second);
    let target: Target = "acme/new".parse().unwrap();
    assert!(home.repo.resolve(&target).is_ok());
}
