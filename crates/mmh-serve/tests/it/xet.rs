//! Uploads by Xet over plain HTTP: the requests of `hf_xet` in their order, and lying ones.

use mmh_serve::{Limits, Role, Tokens, new_token};
use mmh_xet::{Chunker, FileInfo, Leaf, Scheme, Segment, Shard, XetHash, XorbWriter, file_hash};

use crate::home::{Answer, Home, large, noise};

/// A file as a client has it: one xorb, and what a shard says of it.
pub(crate) struct Sent {
    pub(crate) xorb: XetHash,
    pub(crate) body: Vec<u8>,
    pub(crate) leaves: Vec<Leaf>,
    pub(crate) info: FileInfo,
}

pub(crate) fn sent(bytes: &[u8]) -> Sent {
    let (mut writer, mut leaves) = (XorbWriter::default(), Vec::new());
    let mut take = |raw: &[u8]| {
        assert!(writer.push(raw, Scheme::Lz4));
        leaves.push((XetHash::of_chunk(raw), raw.len() as u64));
    };
    let mut chunker = Chunker::default();
    chunker.push(bytes, &mut take);
    chunker.finish(&mut take);
    let (xorb, body) = writer.finish(false);
    let n_chunks = u32::try_from(leaves.len()).unwrap();
    let segments = vec![segment(xorb.hash(), &leaves, 0..n_chunks)];
    let info = FileInfo {
        hash: file_hash(&leaves),
        segments,
        sha256: Some(digest(bytes)),
    };
    let xorb = xorb.hash();
    Sent {
        xorb,
        body,
        leaves,
        info,
    }
}

pub(crate) fn segment(xorb: XetHash, leaves: &[Leaf], chunks: std::ops::Range<u32>) -> Segment {
    let run = &leaves[chunks.start as usize..chunks.end as usize];
    let raw_len: u64 = run.iter().map(|leaf| leaf.1).sum();
    Segment {
        xorb,
        chunks,
        raw_len: u32::try_from(raw_len).unwrap(),
        range_hash: Some(mmh_xet::range_hash(run.iter().map(|leaf| &leaf.0))),
    }
}

pub(crate) fn digest(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().try_into().unwrap()
}

/// The path of an address that a token is for.
pub(crate) fn address(home: &Home, id: &str) -> String {
    let said = home.get(&format!("/api/models/{id}/xet-write-token/main"));
    assert_eq!(said.status, 200, "{said:?}");
    let json = said.json();
    let url = json["casUrl"].as_str().unwrap();
    assert_eq!(said.header("x-xet-cas-url"), Some(url));
    assert_eq!(
        said.header("x-xet-access-token"),
        json["accessToken"].as_str()
    );
    let until = said.header("x-xet-token-expiration").unwrap();
    assert_eq!(json["exp"].to_string(), until);
    url.strip_prefix("http://localhost").unwrap().to_owned()
}

pub(crate) fn put(home: &Home, at: &str, hash: XetHash, body: &[u8]) -> Answer {
    home.ask("POST", &format!("{at}/v1/xorbs/default/{hash}"), &[], body)
}

pub(crate) fn register(home: &Home, at: &str, files: &[FileInfo]) -> Answer {
    let shard = Shard {
        files: files.to_vec(),
        ..Shard::default()
    };
    home.ask("POST", &format!("{at}/v1/shards"), &[], &shard.write())
}

#[test]
fn a_file_of_xorbs_is_committed_and_read() {
    let home = Home::new();
    home.create("acme/tiny");
    let weights = noise(2_000_000, 1);
    let sent_one = sent(&weights);
    let at = address(&home, "acme/tiny");
    // What is not here, and what is not spoken, is said to be missing: the client goes on without.
    let chunk = sent_one.leaves[0].0;
    let chunks = home.get(&format!("{at}/v1/chunks/default/{chunk}"));
    assert_eq!(chunks.status, 404);
    let grants = format!("{at}/v1/xorb-grants/default/{}", sent_one.xorb);
    assert_eq!(home.ask("POST", &grants, &[], b"{}").status, 404);
    for is_new in [true, false] {
        let said = put(&home, &at, sent_one.xorb, &sent_one.body);
        assert_eq!(said.status, 200, "{said:?}");
        assert_eq!(said.json()["was_inserted"], is_new);
    }
    let other = home.ask("POST", &format!("{at}/v2/shards"), &[], b"x");
    assert_eq!(other.status, 400, "{other:?}");
    let files = [sent_one.info.clone()];
    for _ in 0..2 {
        let said = register(&home, &at, &files);
        assert_eq!((said.status, &said.body[..]), (200, &b"{\"result\":1}"[..]));
    }
    let telemetry = home.ask("POST", &format!("{at}/v1/telemetry"), &[], b"{}");
    assert_eq!(telemetry.status, 200);
    let done = home.commit("acme/tiny", &[large("w.bin", &weights)]);
    assert_eq!(done.status, 200, "{done:?}");
    assert_eq!(home.get("/acme/tiny/resolve/main/w.bin").body, weights);
    assert_eq!(home.staged(), 0, "the repository has all of the xorb");

    // A second file refers to chunks that came with the first.
    let Sent { xorb, leaves, .. } = sent_one;
    let n_chunks = u32::try_from(leaves.len()).unwrap();
    let first = usize::try_from(leaves[0].1).unwrap();
    let turned = [&weights[first..], &weights[..first]].concat();
    let turned_leaves = [&leaves[1..], &leaves[..1]].concat();
    let again = FileInfo {
        hash: file_hash(&turned_leaves),
        segments: vec![
            segment(xorb, &leaves, 1..n_chunks),
            segment(xorb, &leaves, 0..1),
        ],
        sha256: Some(digest(&turned)),
    };
    let said = register(&home, &at, &[again]);
    assert_eq!(said.status, 200, "{said:?}");
    let done = home.commit("acme/tiny", &[large("turned.bin", &turned)]);
    assert_eq!(done.status, 200, "{done:?}");
    assert_eq!(home.get("/acme/tiny/resolve/main/turned.bin").body, turned);
}

/// Nothing that does not hold is kept, and each lie has its own sentence.
#[test]
fn lies_about_xorbs_and_files_are_refused() {
    let home = Home::new();
    home.create("acme/tiny");
    home.create("acme/other");
    let bytes = noise(300_000, 2);
    let one = sent(&bytes);
    let at = address(&home, "acme/tiny");
    let wrong = XetHash::from_bytes([7; 32]);
    assert_eq!(put(&home, &at, wrong, &one.body).status, 400);
    let end = one.body.len();
    for cut in [0, 1, 7, 8, end / 2, end - 1] {
        assert_eq!(
            put(&home, &at, one.xorb, &one.body[..cut]).status,
            400,
            "{cut}"
        );
    }
    let mut flipped = one.body.clone();
    flipped[end / 2] ^= 1;
    assert_eq!(put(&home, &at, one.xorb, &flipped).status, 400);
    let path = format!("{at}/v1/xorbs/default/XYZ");
    assert_eq!(home.ask("POST", &path, &[], &one.body).status, 400);
    assert_eq!(home.staged(), 0);

    let files = [one.info.clone()];
    let early = register(&home, &at, &files);
    assert_eq!(early.status, 400, "{early:?}");
    assert!(early.json()["error"].to_string().contains("not known"));
    assert_eq!(put(&home, &at, one.xorb, &one.body).status, 200);
    let lie = |change: &dyn Fn(&mut FileInfo), what: &str| {
        let mut file = one.info.clone();
        change(&mut file);
        let said = register(&home, &at, &[file]);
        assert_eq!(said.status, 400, "{what}: {said:?}");
        let text = said.json()["error"].to_string();
        assert!(text.contains(what), "{what}: {text}");
        assert_eq!(home.staged(), 1, "the xorb only");
    };
    lie(&|file| file.hash = wrong, "the file has the hash");
    lie(&|file| file.sha256 = Some([1; 32]), "has the digest");
    lie(&|file| file.sha256 = None, "without its SHA-256");
    lie(&|file| file.segments[0].raw_len -= 1, "another length");
    lie(&|file| file.segments[0].range_hash = Some(wrong), "range");
    lie(&|file| file.segments[0].chunks.end += 1, "are not there");
    lie(&|file| file.segments[0].xorb = wrong, "not known");
    let many = |file: &mut FileInfo| file.segments = vec![file.segments[0].clone(); 2];
    lie(&many, "the file has the hash");
    let shards = format!("{at}/v1/shards");
    assert_eq!(home.ask("POST", &shards, &[], b"no shard").status, 400);

    // What was sent for one name is no other's. Who believes that it is gets another address.
    let elsewhere = address(&home, "acme/other");
    let said = register(&home, &elsewhere, &files);
    assert_eq!(said.status, 400, "{said:?}");
    assert_ne!(address(&home, "acme/other"), elsewhere);
    let fresh = address(&home, "acme/tiny");
    assert_ne!(fresh, at, "there too something was not known");
    let no_address = "/api/models/acme/tiny/xet/../v1/shards";
    assert_eq!(home.ask("POST", no_address, &[], b"").status, 404);
    assert_eq!(register(&home, &fresh, &files).status, 200, "of its name");
    assert_eq!(address(&home, "acme/tiny"), fresh);
    assert_eq!(register(&home, &at, &files).status, 200, "it lives");
}

#[test]
fn sessions_keep_to_the_room_for_uploads() {
    let home = Home::with(Tokens::none(Role::Admin), Limits::default(), 500_000);
    home.create("acme/tiny");
    let at = address(&home, "acme/tiny");
    let big = sent(&noise(600_000, 3));
    assert_eq!(put(&home, &at, big.xorb, &big.body).status, 507);
    let half = sent(&noise(300_000, 4));
    assert_eq!(put(&home, &at, half.xorb, &half.body).status, 200);
    assert_eq!(register(&home, &at, &[half.info]).status, 507);
    assert_eq!(home.staged(), 1);
}

#[test]
fn tokens_of_xet_are_those_of_the_caller() {
    let (reader, one) = new_token(Role::Reader, &[], "r").unwrap();
    let (writer, two) = new_token(Role::Writer, &["models/acme/*".to_owned()], "w").unwrap();
    let tokens = Tokens::parse(&(one + &two), "f", Role::Nobody).unwrap();
    let home = Home::with(tokens, Limits::default(), 1 << 20);
    let ask = |token: &str, method: &str, path: &str, body: &[u8]| {
        let token = format!("Bearer {token}");
        home.ask(method, path, &[("authorization", token.as_str())], body)
    };
    let made = ask(
        &writer,
        "POST",
        "/api/repos/create",
        br#"{"name":"acme/tiny"}"#,
    );
    assert_eq!(made.status, 200);
    let path = "/api/models/acme/tiny/xet-write-token/main";
    assert_eq!(home.get(path).status, 401);
    assert_eq!(ask(&reader, "GET", path, b"").status, 403);
    let said = ask(&writer, "GET", path, b"");
    assert_eq!(said.header("x-xet-access-token"), Some(writer.as_str()));
    assert_eq!(said.header("cache-control"), Some("no-store"));
    let missing = "/api/models/acme/none/xet-write-token/main";
    assert_eq!(ask(&writer, "GET", missing, b"").status, 404);
    let one = sent(&noise(1000, 5));
    let url = said.header("x-xet-cas-url").unwrap();
    let at = url.strip_prefix("http://localhost").unwrap();
    let xorb = format!("{at}/v1/xorbs/default/{}", one.xorb);
    assert_eq!(put(&home, at, one.xorb, &one.body).status, 401);
    assert_eq!(ask(&reader, "POST", &xorb, &one.body).status, 403);
    assert_eq!(home.staged(), 0);
    assert_eq!(ask(&writer, "POST", &xorb, &one.body).status, 200);
}
