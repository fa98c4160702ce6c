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

/// A hub that everybody reads, in which an owner has a private, a gated and an open name.
#[test]
fn private_and_gated_names_are_not_built_on() {
    let (owner, one) = new_token(Role::Admin, &["*/ana/*".to_owned()], "ana").unwrap();
    let (stranger, two) = new_token(Role::Admin, &["*/bob/*".to_owned()], "bob").unwrap();
    let tokens = Tokens::parse(&(one + &two), "f", Role::Reader).unwrap();
    let home = Home::with(tokens, Limits::default(), 16 << 20);
    let ask = |token: &str, method: &str, path: &str, body: &[u8]| {
        let token = format!("Bearer {token}");
        home.ask(method, path, &[("authorization", token.as_str())], body)
    };
    let create = |token: &str, body: &serde_json::Value| {
        let made = ask(
            token,
            "POST",
            "/api/repos/create",
            body.to_string().as_bytes(),
        );
        assert_eq!(made.status, 200, "{made:?}");
    };
    create(&stranger, &serde_json::json!({ "name": "bob/x" }));
    let path = "/api/models/bob/x/xet-write-token/main";
    let said = ask(&stranger, "GET", path, b"");
    let url = said.header("x-xet-cas-url").unwrap();
    let at = url.strip_prefix("http://localhost").unwrap().to_owned();
    let cases = [("private", 404), ("gated", 403), ("open", 200)];
    for (seed, (what, status)) in (10..).zip(cases) {
        let id = format!("ana/{what}");
        create(
            &owner,
            &serde_json::json!({ "name": id, "private": what == "private" }),
        );
        if what == "gated" {
            let settings = format!("/api/models/{id}/settings");
            let set = ask(&owner, "PUT", &settings, br#"{"gated":"auto"}"#);
            assert_eq!(set.status, 200, "{set:?}");
        }
        let bytes = noise(300_000, seed);
        let place = format!("/{id}.git/info/lfs/objects/{}", crate::home::sha256(&bytes));
        assert_eq!(ask(&owner, "PUT", &place, &bytes).status, 200);
        let header = serde_json::json!({ "key": "header", "value": { "summary": "s" } });
        let lines = format!("{header}\n{}\n", large("w.bin", &bytes));
        let path = format!("/api/models/{id}/commit/main");
        assert_eq!(ask(&owner, "POST", &path, lines.as_bytes()).status, 200);

        let path = format!("/api/models/{id}/xet-read-token/main");
        assert_eq!(ask(&stranger, "GET", &path, b"").status, status, "{what}");
        let token = ask(&owner, "GET", &path, b"");
        let theirs = token.header("x-xet-cas-url").unwrap();
        let theirs = theirs.strip_prefix("http://localhost").unwrap();
        let known = sent(&bytes);
        let plan = format!("{theirs}/v2/reconstructions/{}", known.info.hash);
        assert_eq!(ask(&owner, "GET", &plan, b"").status, 200);
        assert_eq!(ask(&stranger, "GET", &plan, b"").status, status, "{what}");
        let nobody = home.get(&plan).status;
        assert!(
            nobody == status || what == "gated" && nobody == 401,
            "{what}: {nobody}"
        );
        let bare = format!("{theirs}/xorbs/{}", known.xorb);
        assert_eq!(ask(&stranger, "GET", &bare, b"").status, status, "{what}");

        let chunks = format!("{at}/v1/chunks/default/{}", known.leaves[0].0);
        let open = what == "open";
        let expected = if open { 200 } else { 404 };
        assert_eq!(
            ask(&stranger, "GET", &chunks, b"").status,
            expected,
            "{what}"
        );
        let (_, info) = turned(&bytes, known.xorb, &known.leaves);
        let shard = Shard {
            files: vec![info],
            ..Shard::default()
        };
        let shards = format!("{at}/v1/shards");
        let expected = if open { 200 } else { 400 };
        let said = ask(&stranger, "POST", &shards, &shard.write());
        assert_eq!(said.status, expected, "{what}: {said:?}");
    }
}

/// Of a xorb that was thrown away, what a commit wanted is known, and the rest is not: whoever believes
/// that it is gets another address.
#[test]
fn what_no_commit_wanted_is_forgotten_after_a_day() {
    let home = Home::new();
    home.create("acme/tiny");
    let bytes = noise(800_000, 20);
    let one = sent(&bytes);
    let at = address(&home, "acme/tiny");
    assert_eq!(put(&home, &at, one.xorb, &one.body).status, 200);
    let n_chunks = u32::try_from(one.leaves.len()).unwrap();
    let first = usize::try_from(one.leaves[0].1).unwrap();
    let part = |from: usize, chunks: std::ops::Range<u32>| {
        let run = &one.leaves[chunks.start as usize..chunks.end as usize];
        let info = FileInfo {
            hash: file_hash(run),
            segments: vec![segment(one.xorb, &one.leaves, chunks)],
            sha256: Some(digest(&bytes[from..])),
        };
        (bytes[from..].to_vec(), info)
    };
    let (rest, rest_info) = part(first, 1..n_chunks);
    assert_eq!(
        register(&home, &at, std::slice::from_ref(&rest_info)).status,
        200
    );
    commit(&home, "acme/tiny", "rest.bin", &rest);
    assert_eq!(home.staged(), 1, "the xorb");
    assert_eq!(address(&home, "acme/tiny"), at);
    home.turn(25 * 60 * 60 * 1000);
    let next = address(&home, "acme/tiny");
    assert_ne!(next, at);
    assert_eq!(home.staged(), 0);
    assert_eq!(register(&home, &next, &[rest_info]).status, 200);
    let (_, whole) = part(0, 0..n_chunks);
    let said = register(&home, &next, &[whole]);
    assert_eq!(said.status, 400, "{said:?}");
    assert_ne!(address(&home, "acme/tiny"), next);
}

#[test]
fn files_of_tiny_chunks_are_refused() {
    let home = Home::new();
    home.create("acme/tiny");
    let at = address(&home, "acme/tiny");
    let (mut writer, mut leaves) = (mmh_xet::XorbWriter::default(), Vec::new());
    let bytes = noise(100, 21);
    for byte in bytes.chunks(1) {
        assert!(writer.push(byte, mmh_xet::Scheme::None));
        leaves.push((XetHash::of_chunk(byte), 1));
    }
    let (xorb, body) = writer.finish(false);
    assert_eq!(put(&home, &at, xorb.hash(), &body).status, 200);
    let info = |n: u32| FileInfo {
        hash: file_hash(&leaves[..n as usize]),
        segments: vec![segment(xorb.hash(), &leaves, 0..n)],
        sha256: Some(digest(&bytes[..n as usize])),
    };
    let said = register(&home, &at, &[info(100)]);
    assert_eq!(said.status, 400);
    assert!(said.json()["error"].to_string().contains("on average"));
    assert_eq!(
        register(&home, &at, &[info(16)]).status,
        200,
        "a small file"
    );
}

/// Whoever uploads anything makes the server look which files are gone, and forget those that were gone
/// for 22 days.
#[test]
fn files_that_are_gone_are_noticed_and_forgotten() {
    let home = Home::new();
    home.create("acme/tiny");
    home.create("acme/other");
    let one = upload(&home, "acme/tiny", "w.bin", &noise(200_000, 30));
    let removed = serde_json::json!({ "key": "deletedFile", "value": { "path": "w.bin" } });
    assert_eq!(home.commit("acme/tiny", &[removed]).status, 200);
    let name = "acme/tiny".parse().unwrap();
    let count = |folder: &str| {
        let note = home.repo.note(&name, "xet").unwrap().unwrap();
        home.repo.note_list(&note, folder).unwrap().len()
    };
    let day = 24 * 60 * 60 * 1000;
    // A token makes the server look, meanwhile.
    let until = |is_done: &dyn Fn() -> bool| {
        address(&home, "acme/other");
        while !is_done() {
            std::thread::yield_now();
        }
    };
    assert_eq!((count("files"), count("gone")), (1, 0));
    until(&|| count("gone") == 1);
    assert_eq!((count("files"), count("xorbs")), (1, 1));
    home.turn(22 * day + 1);
    until(&|| count("files") == 0);
    let all = ["hashes", "made", "xorbs", "parts", "shared", "gone"];
    assert_eq!(all.map(count), [0; 6]);
    let at = address(&home, "acme/tiny");
    assert_eq!(chunk(&home, &at, &one.leaves[0].0).status, 404);
}
