//! Downloads by Xet over plain HTTP, and chunks that earlier uploads brought: the requests of `hf_xet`
//! in their order, and those of others.

use std::collections::BTreeMap;

use mmh_core::name::Target;
use mmh_serve::{Limits, Role, Tokens, new_token};
use mmh_xet::{XetHash, file_hash};

use crate::home::{Home, address_of, large, noise, sha256};
use crate::xet::sent;

fn path_of(url: &str) -> &str {
    url.strip_prefix("http://localhost").unwrap()
}

/// Uploads a file by LFS and commits it.
fn upload(home: &Home, id: &str, path: &str, bytes: &[u8]) {
    let place = address_of(home, id, &sha256(bytes), bytes.len()).unwrap();
    assert_eq!(home.ask("PUT", &place, &[], bytes).status, 200);
    let done = home.commit(id, &[large(path, bytes)]);
    assert_eq!(done.status, 200, "{done:?}");
}

/// The hash that a file can be fetched by, and where.
fn hash_of(home: &Home, id: &str, path: &str) -> Option<(String, String)> {
    let head = home.ask("HEAD", &format!("/{id}/resolve/main/{path}"), &[], b"");
    assert_eq!(head.status, 200, "{head:?}");
    let hash = head.header("x-xet-hash")?.to_owned();
    let link = head.header("link").unwrap();
    let link = link.strip_suffix(">; rel=\"xet-auth\"").unwrap();
    let token = home.get(path_of(&link[1..]));
    assert_eq!(token.status, 200, "{token:?}");
    let address = token.header("x-xet-cas-url").unwrap();
    Some((hash, path_of(address).to_owned()))
}

/// The chunks in a range of a xorb, as clients unpack them.
fn unpacked(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<8>() {
        let len = u32::from_le_bytes([head[1], head[2], head[3], 0]) as usize;
        assert_eq!((head[0], head[4]), (0, 0), "version and scheme");
        assert_eq!(head[1..4], head[5..8]);
        let (chunk, rest) = rest.split_at(len);
        chunks.push(chunk.to_vec());
        bytes = rest;
    }
    assert!(bytes.is_empty());
    chunks
}

/// Fetches a range of a file as clients do, by either version.
fn fetch(home: &Home, at: &str, hash: &str, version: u8, range: Option<(u64, u64)>) -> Vec<u8> {
    let header = range.map(|(from, upto)| format!("bytes={from}-{upto}"));
    let headers: Vec<(&str, &str)> = header.iter().map(|h| ("range", h.as_str())).collect();
    let path = format!("{at}/v{version}/reconstructions/{hash}");
    let plan = home.ask("GET", &path, &headers, b"");
    assert_eq!(plan.status, 200, "{plan:?}");
    let plan = plan.json();
    let mut xorbs: BTreeMap<String, BTreeMap<u64, Vec<u8>>> = BTreeMap::new();
    let fetches = match version {
        1 => plan["fetch_info"].as_object().unwrap(),
        _ => plan["xorbs"].as_object().unwrap(),
    };
    for (xorb, list) in fetches {
        for one in list.as_array().unwrap() {
            let (chunks, bytes) = match version {
                1 => (&one["range"], &one["url_range"]),
                _ => (&one["ranges"][0]["chunks"], &one["ranges"][0]["bytes"]),
            };
            let range = format!("bytes={}-{}", bytes["start"], bytes["end"]);
            let url = path_of(one["url"].as_str().unwrap());
            let got = home.ask("GET", url, &[("range", &range)], b"");
            assert_eq!(got.status, 206, "{got:?}");
            let first = chunks["start"].as_u64().unwrap();
            let of_xorb = xorbs.entry(xorb.clone()).or_default();
            of_xorb.extend((first..).zip(unpacked(&got.body)));
        }
    }
    let mut file = Vec::new();
    for term in plan["terms"].as_array().unwrap() {
        let before = file.len();
        let number = |key: &str| term["range"][key].as_u64().unwrap();
        for n in number("start")..number("end") {
            file.extend(&xorbs[term["hash"].as_str().unwrap()][&n]);
        }
        let len = term["unpacked_length"].as_u64().unwrap();
        assert_eq!((file.len() - before) as u64, len);
    }
    let skip = plan["offset_into_first_range"].as_u64().unwrap();
    file.drain(..usize::try_from(skip).unwrap());
    if let Some((from, upto)) = range {
        file.truncate(usize::try_from(upto - from + 1).unwrap());
    }
    file
}

#[test]
fn a_file_is_fetched_whole_and_in_ranges() {
    let home = Home::new();
    home.create("acme/tiny");
    let bytes = noise(3_000_000, 1);
    upload(&home, "acme/tiny", "w.bin", &bytes);
    assert_eq!(home.staged(), 0);
    let (hash, at) = hash_of(&home, "acme/tiny", "w.bin").unwrap();
    assert_eq!(hash, file_hash(&sent(&bytes).leaves).to_string());
    for version in [1, 2] {
        assert_eq!(fetch(&home, &at, &hash, version, None), bytes);
        for (from, upto) in [
            (0, 0),
            (1_000_000, 2_000_000),
            (2_999_999, 2_999_999),
            (7, 99),
        ] {
            let got = fetch(&home, &at, &hash, version, Some((from, upto)));
            let range = usize::try_from(from).unwrap()..=usize::try_from(upto).unwrap();
            assert_eq!(got, &bytes[range], "{from} to {upto}");
        }
    }
    let head = home.ask("HEAD", "/acme/tiny/raw/main/w.bin", &[], b"");
    assert_eq!(head.header("x-xet-hash"), None, "that is the pointer");
    let small = home.ask("HEAD", "/acme/tiny/resolve/main/.gitattributes", &[], b"");
    assert_eq!((small.status, small.header("x-xet-hash")), (200, None));
}

/// A file that came another way is read once, when somebody wants it.
#[test]
fn files_that_came_elsewhere_get_their_hash_later() {
    let home = Home::new();
    home.create("acme/tiny");
    let bytes = noise(2_000_000, 2);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("w.bin"), &bytes).unwrap();
    let target: Target = "acme/tiny".parse().unwrap();
    let paths = [folder.path().join("w.bin")];
    home.repo
        .add(&paths, &target, &mmh_repo::AddOptions::default())
        .unwrap();
    let whole = home.get("/acme/tiny/resolve/main/w.bin");
    assert_eq!((whole.status, whole.body.as_slice()), (200, &bytes[..]));
    let (hash, at) = loop {
        if let Some(found) = hash_of(&home, "acme/tiny", "w.bin") {
            break found;
        }
        std::thread::yield_now();
    };
    assert_eq!(fetch(&home, &at, &hash, 2, None), bytes);
    assert_eq!(home.staged(), 0);
    let undone = home.repo.undo().unwrap();
    assert!(undone.command.contains("add"), "{}", undone.command);
}

#[test]
fn what_is_not_there_or_not_allowed_is_not_fetched() {
    let (reader, one) = new_token(Role::Reader, &[], "r").unwrap();
    let (writer, two) = new_token(Role::Writer, &["models/acme/*".to_owned()], "w").unwrap();
    let (other, three) = new_token(Role::Reader, &["models/else/*".to_owned()], "o").unwrap();
    let tokens = Tokens::parse(&(one + &two + &three), "f", Role::Nobody).unwrap();
    let home = Home::with(tokens, Limits::default(), 1 << 20);
    let ask = |token: &str, path: &str, headers: &[(&str, &str)]| {
        let token = format!("Bearer {token}");
        let all = [&[("authorization", token.as_str())], headers].concat();
        home.ask("GET", path, &all, b"")
    };
    let bytes = noise(300_000, 3);
    commit_with(&home, &writer, &bytes);
    let at = "/api/models/acme/tiny";
    let token = ask(&reader, &format!("{at}/xet-read-token/main"), &[]);
    assert_eq!(token.header("x-xet-access-token"), Some(reader.as_str()));
    let address = path_of(token.header("x-xet-cas-url").unwrap()).to_owned();
    for (rev, status) in [("main", 200), ("none", 404)] {
        let path = format!("{at}/xet-read-token/{rev}");
        assert_eq!(ask(&reader, &path, &[]).status, status);
    }
    let path = format!("{at}/xet-read-token/main");
    assert_eq!(
        ask(&other, &path, &[]).status,
        404,
        "it is not there for it"
    );
    assert_eq!(home.get(&path).status, 401);
    let hash = file_hash(&sent(&bytes).leaves);
    let plan = format!("{address}/v2/reconstructions/{hash}");
    assert_eq!(ask(&other, &plan, &[]).status, 404);
    assert_eq!(home.get(&plan).status, 401);
    assert_eq!(
        ask(&reader, &plan, &[("range", "bytes=300000-")]).status,
        416
    );
    assert_eq!(
        ask(&reader, &plan, &[("range", "bytes=0-9999999")]).status,
        200
    );
    let none = XetHash::from_bytes([7; 32]);
    for (wanted, status) in [(none.to_string(), 404), ("xyz".to_owned(), 400)] {
        let path = format!("{address}/v1/reconstructions/{wanted}");
        assert_eq!(ask(&reader, &path, &[]).status, status);
    }
    // The address of a xorb is good for everybody, for that xorb of that name and its time.
    let plan = ask(&reader, &plan, &[]).json();
    let (xorb, list) = plan["xorbs"].as_object().unwrap().iter().next().unwrap();
    let url = path_of(list[0]["url"].as_str().unwrap());
    let whole = home.get(url);
    assert_eq!(whole.status, 200);
    assert_eq!(unpacked(&whole.body).concat(), bytes);
    let (bare, proof) = url.split_once('?').unwrap();
    assert_eq!(home.get(bare).status, 401);
    assert_eq!(ask(&reader, bare, &[]).status, 200);
    assert_eq!(ask(&other, bare, &[]).status, 404);
    let forged = bare.replace("acme/tiny", "acme/other");
    assert_eq!(home.get(&format!("{forged}?{proof}")).status, 403);
    assert_eq!(home.get(&url.replace("until=", "until=9")).status, 403);
    let another = url.replace(xorb.as_str(), &none.to_string());
    assert_eq!(
        home.get(&another).status,
        403,
        "clients ask for another then"
    );
    let len = whole.body.len();
    for (range, status) in [
        (format!("bytes={len}-"), 416),
        ("bytes=0-0".to_owned(), 206),
        (format!("bytes=5-{}", len + 9), 206),
        ("bytes=-3".to_owned(), 206),
        ("bytes=8-2".to_owned(), 200),
    ] {
        let got = home.ask("GET", url, &[("range", &range)], b"");
        assert_eq!(got.status, status, "{range}");
        if status == 416 {
            let said = format!("bytes */{len}");
            assert_eq!(got.header("content-range"), Some(said.as_str()));
        }
    }
    let head = home.ask("HEAD", url, &[], b"");
    let length = len.to_string();
    assert_eq!(head.header("content-length"), Some(length.as_str()));
    assert!(head.body.is_empty());
}

/// Commits a file to `acme/tiny` with a token.
fn commit_with(home: &Home, token: &str, bytes: &[u8]) {
    let token = format!("Bearer {token}");
    let auth = [("authorization", token.as_str())];
    let made = home.ask(
        "POST",
        "/api/repos/create",
        &auth,
        br#"{"name":"acme/tiny"}"#,
    );
    assert_eq!(made.status, 200, "{made:?}");
    let place = format!("/acme/tiny.git/info/lfs/objects/{}", sha256(bytes));
    assert_eq!(home.ask("PUT", &place, &auth, bytes).status, 200);
    let header = serde_json::json!({ "key": "header", "value": { "summary": "s" } });
    let lines = format!("{header}\n{}\n", large("w.bin", bytes));
    let path = "/api/models/acme/tiny/commit/main";
    let done = home.ask("POST", path, &auth, lines.as_bytes());
    assert_eq!(done.status, 200, "{done:?}");
}
