//! Large files that come in parts.

use serde_json::{Value, json};

use crate::home::{Home, PART_LEN, large, noise, sha256};

/// What a batch says of an upload.
fn batch(home: &Home, oid: &str, size: usize, transfers: &[&str]) -> Value {
    let asked = json!({
        "operation": "upload", "transfers": transfers,
        "objects": [{ "oid": oid, "size": size }],
    });
    let answer = home.post("/acme/m.git/info/lfs/objects/batch", &asked);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn bare(href: &Value) -> String {
    let href = href.as_str().unwrap().strip_prefix("http://localhost");
    href.unwrap().to_owned()
}

/// As clients of hubs do it: parts by number, then all of their etags.
#[test]
fn long_files_come_in_parts() {
    let home = Home::new();
    home.create("acme/m");
    let bytes = noise(2_500_000, 1);
    let oid = sha256(&bytes);
    let said = batch(&home, &oid, bytes.len(), &["basic", "multipart"]);
    assert_eq!(said["transfer"], "multipart");
    let upload = &said["objects"][0]["actions"]["upload"];
    let header = upload["header"].as_object().unwrap();
    assert_eq!(
        (header["chunk_size"].as_str(), header.len()),
        (Some("1000000"), 4)
    );
    let mut parts = Vec::new();
    for (part, n) in bytes.chunks(usize::try_from(PART_LEN).unwrap()).zip(1u32..) {
        let href = bare(&header[&format!("{n:05}")]);
        assert_eq!(home.ask("HEAD", &href, &[], b"").status, 404);
        assert_eq!(home.ask("PUT", &href, &[], &part[1..]).status, 400);
        let long = [part, b"x"].concat();
        assert!([400, 413].contains(&home.ask("PUT", &href, &[], &long).status));
        let put = home.ask("PUT", &href, &[], part);
        assert_eq!(put.status, 200, "{put:?}");
        let etag = put.header("etag").unwrap().to_owned();
        let head = home.ask("HEAD", &href, &[], b"");
        let told = (head.header("etag"), head.header("content-length"));
        assert_eq!(told, (Some(&*etag), Some(&*part.len().to_string())));
        parts.push(json!({ "partNumber": n, "etag": etag }));
    }
    let href = bare(&upload["href"]);
    let short = json!({ "oid": oid, "parts": parts[1..] });
    assert_eq!(home.post(&href, &short).status, 400);
    let all = json!({ "oid": oid, "parts": parts });
    assert_eq!(home.post(&href, &all).status, 200);
    assert_eq!(home.post(&href, &all).status, 200, "asked again");
    assert!(
        batch(&home, &oid, bytes.len(), &["multipart"])["objects"][0]
            .get("actions")
            .is_none()
    );
    assert_eq!(home.commit("acme/m", &[large("w.bin", &bytes)]).status, 200);
    assert_eq!(home.get("/acme/m/resolve/main/w.bin").body, bytes);
    assert_eq!(home.staged(), 0);
}

#[test]
fn who_cannot_or_need_not_sends_the_whole() {
    let home = Home::new();
    home.create("acme/m");
    for (size, transfers) in [
        (2_500_000, &["basic"][..]),
        (10, &["basic", "multipart"]),
        (3, &[]),
    ] {
        let said = batch(&home, &"1".repeat(64), size, transfers);
        assert_eq!(said["transfer"], "basic");
        assert!(
            said["objects"][0]["actions"]["upload"]
                .get("header")
                .is_none()
        );
    }
}

#[test]
fn lies_about_parts_are_refused() {
    let home = Home::new();
    home.create("acme/m");
    let (oid, size) = ("1".repeat(64), 2_000_001);
    let said = batch(&home, &oid, size, &["multipart"]);
    let upload = &said["objects"][0]["actions"]["upload"];
    let href = bare(&upload["href"]);
    for wrong in ["part=0", "part=4", "part=x", "part=18446744073709551616"] {
        assert_eq!(
            home.ask("PUT", &format!("{href}&{wrong}"), &[], b"").status,
            400,
            "{wrong}"
        );
    }
    // Anybody may write here, but not to an address with another length than it was signed for.
    for body in [
        &b"{"[..],
        b"{}",
        br#"{"parts":[{"partNumber":"x","etag":1}]}"#,
    ] {
        assert_eq!(home.ask("POST", &href, &[], body).status, 400);
    }
    let mut parts = Vec::new();
    for n in 1..=3u32 {
        let len = if n == 3 { 1 } else { 1_000_000 };
        let put = home.ask("PUT", &format!("{href}&part={n}"), &[], &vec![7; len]);
        parts.push(json!({ "partNumber": n, "etag": put.header("etag") }));
    }
    let lied = home.post(&href, &json!({ "oid": oid, "parts": parts }));
    assert_eq!(lied.status, 400);
    assert_eq!(home.staged(), 0, "nothing is kept");
}

/// A part that broke off is sent again alone; those that came before it are not.
#[test]
fn a_part_that_broke_off_is_sent_again_alone() {
    let home = Home::new();
    home.create("acme/m");
    let bytes = noise(2_000_001, 2);
    let oid = sha256(&bytes);
    let said = batch(&home, &oid, bytes.len(), &["multipart"]);
    let upload = &said["objects"][0]["actions"]["upload"];
    let href = bare(&upload["href"]);
    let parts: Vec<&[u8]> = bytes.chunks(1_000_000).collect();
    let at = |n: usize| format!("{href}&part={n}");
    assert_eq!(home.ask("PUT", &at(1), &[], parts[0]).status, 200);
    assert_eq!(home.ask("PUT", &at(2), &[], &parts[1][..1000]).status, 400);
    assert_eq!(home.ask("HEAD", &at(1), &[], b"").status, 200);
    assert_eq!(home.ask("HEAD", &at(2), &[], b"").status, 404);
    // Another batch tells the same address again, but for how long it is good.
    let again = batch(&home, &oid, bytes.len(), &["multipart"]);
    assert!(again["objects"][0]["actions"]["upload"]["header"]["00003"].is_string());
    for n in [3, 2] {
        assert_eq!(home.ask("PUT", &at(n), &[], parts[n - 1]).status, 200);
    }
    let etag = |n: usize| {
        let head = home.ask("HEAD", &at(n), &[], b"");
        head.header("etag").unwrap().to_owned()
    };
    let all: Vec<Value> = (1..=3)
        .map(|n| json!({ "partNumber": n, "etag": etag(n) }))
        .collect();
    assert_eq!(
        home.post(&href, &json!({ "oid": oid, "parts": all }))
            .status,
        200
    );
    assert_eq!(home.commit("acme/m", &[large("w.bin", &bytes)]).status, 200);
    assert!(home.get("/acme/m/resolve/main/w.bin").body == bytes);
}
