//! The hub: names, branches, proposals, lists, health, and clients that are slow or many.

use std::sync::Arc;
use std::time::Duration;

use mmh_core::name::{RefName, Target};
use mmh_serve::{Gate, Hub, HubOptions, Limits, Role, Silent, Tokens};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::home::{Answer, Home, address_of, large, noise, regular, sha256};

impl Home {
    /// A repository with these files.
    fn holding(&self, id: &str, files: &[(&str, &[u8])]) {
        self.create(id);
        let lines: Vec<Value> = files.iter().map(|(p, b)| regular(p, b)).collect();
        assert_eq!(self.commit(id, &lines).status, 200);
    }

    fn ids(&self, query: &str) -> Vec<String> {
        let list = self.get(&format!("/api/models{query}"));
        assert_eq!(list.status, 200, "{list:?}");
        let list = list.json();
        let ids = list.as_array().unwrap().iter().map(|one| &one["id"]);
        ids.map(|id| id.as_str().unwrap().to_owned()).collect()
    }
}

fn code(answer: &Answer) -> (u16, Option<&str>) {
    (answer.status, answer.header("x-error-code"))
}

#[test]
fn names_are_found_by_what_their_cards_say() {
    let home = Home::new();
    let card = |text: &str| format!("---\n{text}\n---\n").into_bytes();
    home.holding(
        "acme/one",
        &[("README.md", &card("tags: [small, en]\nlicense: mit"))],
    );
    home.holding(
        "acme/two",
        &[("README.md", &card("pipeline_tag: text-generation"))],
    );
    home.holding("other/three", &[]);
    assert_eq!(home.ids(""), ["acme/one", "acme/two", "other/three"]);
    assert_eq!(home.ids("?author=acme&limit=1"), ["acme/one"]);
    assert_eq!(home.ids("?search=THREE"), ["other/three"]);
    assert_eq!(home.ids("?filter=small&filter=license:mit"), ["acme/one"]);
    assert_eq!(home.ids("?filter=text-generation"), ["acme/two"]);
    assert_eq!(home.ids("?filter=small,none"), [""; 0]);
    let newest = home.get("/api/models?sort=lastModified").json();
    let newest = newest.as_array().unwrap().iter();
    let times: Vec<&str> = newest
        .map(|one| one["lastModified"].as_str().unwrap())
        .collect();
    assert!(
        times.len() == 3 && times.is_sorted_by(|a, b| a >= b),
        "{times:?}"
    );
    let page = home.get("/api/models?limit=2&author=");
    assert!(page.header("link").is_none(), "nobody has no name");
    let page = home.get("/api/models?limit=2");
    assert!(
        page.header("link")
            .unwrap()
            .ends_with("cursor=2>; rel=\"next\""),
        "{page:?}"
    );
    assert_eq!(home.ids("?limit=2&cursor=2"), ["other/three"]);
    let told = |text: &str| home.post("/api/validate-yaml", &json!({ "content": text }));
    let bad = told("\n---\nmodel-index: foo\n---\n");
    assert_eq!((bad.status, &bad.json()["warnings"]), (400, &json!([])));
    let none = told("# A");
    assert_eq!(
        (
            none.status,
            none.json()["warnings"].as_array().unwrap().len()
        ),
        (200, 1)
    );
    let full = home.get("/api/models/acme/one?blobs=true").json();
    assert_eq!(full["cardData"]["license"], "mit");
    assert_eq!(full["private"], false);
    assert_eq!(full["siblings"].as_array().unwrap().len(), 2);
    assert_eq!(home.get("/api/datasets").json(), json!([]));
    let size = home.get("/api/models/acme/one/treesize/main").json();
    assert_eq!(size["size"], full["usedStorage"]);
}

#[test]
fn branches_and_tags_are_made_and_go() {
    let home = Home::new();
    home.holding("acme/m", &[("a", b"1")]);
    let at = |path: &str| format!("/api/models/acme/m/{path}");
    let first = home.head_of("acme/m");
    assert_eq!(home.post(&at("branch/dev%2Fone"), &json!({})).status, 200);
    assert_eq!(home.post(&at("branch/dev%2Fone"), &json!({})).status, 409);
    let start = json!({ "startingPoint": "0".repeat(40) });
    let none = home.post(&at("branch/x"), &start);
    assert_eq!(code(&none), (404, Some("RevisionNotFound")));
    assert_eq!(
        home.post(&at("tag/main"), &json!({ "tag": "v1" })).status,
        200
    );
    assert_eq!(home.post(&at("tag/main"), &json!({})).status, 400);
    assert_eq!(home.post(&at("branch/..%2Fx"), &json!({})).status, 400);
    assert_eq!(home.commit("acme/m", &[regular("a", b"2")]).status, 200);
    for rev in ["v1", "refs%2Ftags%2Fv1", "dev%2Fone", &first] {
        let old = home.get(&format!("/acme/m/resolve/{rev}/a"));
        assert_eq!((old.status, &old.body[..]), (200, &b"1"[..]), "{rev}");
        assert_eq!(old.header("x-repo-commit"), Some(first.as_str()));
    }
    let refs = home.get(&at("refs")).json();
    assert_eq!(refs["branches"].as_array().unwrap().len(), 2);
    assert_eq!(refs["tags"][0]["targetCommit"], first.as_str());
    assert_eq!(home.ask("DELETE", &at("tag/v1"), &[], b"").status, 200);
    let gone = home.ask("DELETE", &at("tag/v1"), &[], b"");
    assert_eq!(code(&gone), (404, Some("RevisionNotFound")));
    assert_eq!(
        home.ask("DELETE", &at("branch/dev%2Fone"), &[], b"").status,
        200
    );
    assert_eq!(home.ask("DELETE", &at("branch/main"), &[], b"").status, 403);
    // The tag and the branch are gone, but the history of main has the commit still.
    assert_eq!(home.get(&format!("/acme/m/resolve/{first}/a")).status, 200);
    assert_eq!(home.post(&at("super-squash/main"), &json!({})).status, 200);
    assert_eq!(home.get(&format!("/acme/m/resolve/{first}/a")).status, 404);
    assert_eq!(home.get("/acme/m/resolve/main/a").body, b"2");
    let squashed = home.get(&at("commits/main")).json();
    assert_eq!(squashed.as_array().unwrap().len(), 1);
}

/// Two proposals on a branch that moves on; neither changes it.
#[test]
fn proposals_are_branches_of_their_own() {
    let home = Home::new();
    home.holding("acme/m", &[("a", b"1")]);
    let head = home.head_of("acme/m");
    let propose = |byte: u8, parent: Option<&str>| {
        let header =
            json!({ "key": "header", "value": { "summary": "p", "parentCommit": parent } });
        let body = format!("{header}\n{}\n", regular("a", &[byte]));
        let path = "/api/models/acme/m/commit/main?create_pr=1";
        home.ask("POST", path, &[], body.as_bytes())
    };
    let first = propose(b'x', Some(&head));
    assert!(
        first.json()["pullRequestUrl"]
            .as_str()
            .unwrap()
            .ends_with("/acme/m/discussions/1")
    );
    assert_eq!(home.commit("acme/m", &[regular("b", b"2")]).status, 200);
    assert_eq!(propose(b'y', None).status, 200);
    for (rev, bytes) in [
        ("refs%2Fpr%2F1", b"x"),
        ("refs%2Fpr%2F2", b"y"),
        ("main", b"1"),
    ] {
        assert_eq!(home.get(&format!("/acme/m/resolve/{rev}/a")).body, bytes);
    }
    let plain = home.get("/api/models/acme/m/refs").json();
    assert_eq!(plain["branches"].as_array().unwrap().len(), 1);
    assert!(plain.get("pullRequests").is_none());
    let begin = |body: &Value| home.post("/api/models/acme/m/discussions", body);
    let begun = begin(&json!({ "title": "t", "pullRequest": true })).json();
    assert_eq!(
        (begun["num"].as_u64(), &begun["isPullRequest"]),
        (Some(3), &json!(true))
    );
    assert_eq!(
        begin(&json!({ "title": "t", "pullRequest": false })).status,
        501
    );
    let third = home.get("/api/models/acme/m/discussions/3").json();
    assert_eq!(third["repo"], json!({ "name": "acme/m", "type": "model" }));
    assert_eq!(
        home.get("/api/models/acme/m/discussions").json()["count"],
        3
    );
    assert_eq!(home.get("/api/models/acme/m/discussions/4").status, 404);
    let path = "/api/models/acme/m/branch/refs%2Fpr%2F3";
    assert_eq!(home.ask("DELETE", path, &[], b"").status, 200);
    let all = home.get("/api/models/acme/m/refs?include_prs=1").json();
    assert_eq!(all["pullRequests"].as_array().unwrap().len(), 2);
}

#[test]
fn repositories_move_and_go() {
    let home = Home::new();
    home.holding("acme/m", &[("a", b"1")]);
    home.holding("acme/taken", &[]);
    let again = home.post(
        "/api/repos/create",
        &json!({ "name": "m", "organization": "acme" }),
    );
    assert_eq!(again.status, 409);
    assert_eq!(again.json()["url"], "http://localhost/acme/m");
    let moved = |from: &str, to: &str| {
        home.post(
            "/api/repos/move",
            &json!({ "fromRepo": from, "toRepo": to, "type": "model" }),
        )
    };
    assert_eq!(moved("acme/m", "acme/taken").status, 409);
    assert_eq!(
        code(&moved("acme/none", "acme/x")),
        (404, Some("RepoNotFound"))
    );
    assert_eq!(moved("acme/m", "../x").status, 400);
    assert_eq!(moved("acme/m", "acme/n").status, 200);
    assert_eq!(home.get("/acme/n/resolve/main/a").body, b"1");
    let elsewhere = |path: &str, to: &str| {
        let answer = home.get(path);
        assert_eq!((answer.status, answer.header("location")), (307, Some(to)));
    };
    elsewhere("/api/models/acme/m", "/api/models/acme/n");
    elsewhere(
        "/api/models/acme/m/tree/main/x%20y?recursive=true",
        "/api/models/acme/n/tree/main/x%20y?recursive=true",
    );
    elsewhere("/acme/m/resolve/main/a", "/acme/n/resolve/main/a");
    assert_eq!(
        home.get("/ACME/N/resolve/main/a").body,
        b"1",
        "as if it were spelled so"
    );
    let delete = |body: &Value| {
        home.ask(
            "DELETE",
            "/api/repos/delete",
            &[],
            body.to_string().as_bytes(),
        )
    };
    assert_eq!(
        delete(&json!({ "name": "acme/n", "type": "ship" })).status,
        400
    );
    assert_eq!(delete(&json!({})).status, 400);
    assert_eq!(delete(&json!({ "name": "acme/n" })).status, 200);
    assert_eq!(home.get("/acme/n/resolve/main/a").status, 404);
    home.repo.undo().unwrap();
    assert_eq!(home.get("/acme/n/resolve/main/a").body, b"1");
    let settings = |body: &Value| {
        let path = "/api/models/acme/n/settings";
        home.ask("PUT", path, &[], body.to_string().as_bytes())
            .status
    };
    assert_eq!(
        settings(&json!({ "visibility": "public", "gated": false })),
        200
    );
    assert_eq!(settings(&json!({ "private": true })), 400);
    assert_eq!(settings(&json!({ "gated": "auto" })), 400);
}

/// What was put there by other ways than the hub is seen alike, by rules that do not depend on it.
#[test]
fn trees_without_attributes_go_by_the_rules_of_new_ones() {
    let home = Home::new();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("w.bin"), noise(5000, 1)).unwrap();
    std::fs::write(folder.path().join("c.json"), b"{}").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("c.json", folder.path().join("link")).unwrap();
    let target: Target = "acme/m@other".parse().unwrap();
    let paths = [folder.path().to_owned()];
    home.repo
        .add(&paths, &target, &mmh_repo::AddOptions::default())
        .unwrap();
    let tree = home.get("/api/models/acme/m/tree/other").json();
    let tree: Vec<_> = tree.as_array().unwrap().iter().collect();
    assert_eq!(tree.len(), 2, "hubs have no links: {tree:?}");
    assert!(tree[0].get("lfs").is_none() && tree[0]["path"] == "c.json");
    assert_eq!(tree[1]["lfs"]["oid"], sha256(&noise(5000, 1)));
    assert_eq!(home.get("/acme/m/resolve/other/link").status, 404);
    let info = home.get("/api/models/acme/m").json();
    assert_eq!(
        info["siblings"].as_array().unwrap().len(),
        2,
        "without a branch main too"
    );
    let branch = RefName::branch(target.repo, "other").unwrap();
    let before = home.repo.refs().unwrap().refs[&branch];
    let asked = json!({ "files": [
        { "path": "w.bin", "size": 5000, "sample": "" }, { "path": "new.txt", "size": 20_000_000 },
    ] });
    let said = home
        .post("/api/models/acme/m/preupload/other", &asked)
        .json();
    assert_eq!(
        said["files"][0]["oid"],
        sha256(&noise(5000, 1)),
        "so it is not sent again"
    );
    assert_eq!(said["files"][1]["uploadMode"], "lfs");
    assert_eq!(home.repo.refs().unwrap().refs[&branch], before);
    let bad = home.post(
        "/api/models/acme/m/preupload/other",
        &json!({ "files": [{ "path": "../x", "size": 1 }] }),
    );
    assert_eq!(bad.status, 422);
}

#[test]
fn health_and_figures_are_told() {
    let home = Home::new();
    home.holding("acme/m", &[("a", b"1")]);
    assert_eq!(home.get("/healthz").body, b"ok\n");
    assert_eq!(home.get("/readyz").body, b"ready\n");
    home.get("/api/models/acme/none");
    let text = String::from_utf8(home.get("/metrics").body).unwrap();
    for line in [
        "mmh_requests_total{door=\"hub\",method=\"GET\",status=\"404\"} 1",
        "mmh_requests_total{door=\"hub\",method=\"POST\",status=\"200\"} 2",
        "mmh_operations 2",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
    let numbered = home.get("/healthz");
    assert!(numbered.header("x-request-id").is_some());
    let named = home.ask("GET", "/api/models", &[("x-request-id", "mine-1")], b"");
    assert_eq!(named.header("x-request-id"), Some("mine-1"));
}

/// A client that sends its commit drop by drop is let go, and one that reads nothing holds up nobody.
#[test]
fn slow_clients_hold_up_nobody() {
    let limits = Limits {
        stall: Duration::from_secs(1),
        ..Limits::default()
    };
    let home = Home::with(Tokens::none(Role::Admin), limits, 64 << 20);
    home.create("acme/m");
    let bytes = noise(24 << 20, 1);
    let place = address_of(&home, "acme/m", &sha256(&bytes), bytes.len()).unwrap();
    assert_eq!(home.ask("PUT", &place, &[], &bytes).status, 200);
    assert_eq!(home.commit("acme/m", &[large("w.bin", &bytes)]).status, 200);
    let start = "POST /api/models/acme/m/commit/main HTTP/1.1\r\nhost: localhost\r\n\
                 content-length: 1000\r\n\r\n{";
    assert_eq!(home.raw(start.as_bytes()).status, 408);
    home.runtime.block_on(async {
        let mut idle = Vec::new();
        for _ in 0..60 {
            let mut stream = TcpStream::connect(&home.address).await.unwrap();
            let ask = "GET /acme/m/resolve/main/w.bin HTTP/1.1\r\nhost: localhost\r\n\r\n";
            stream.write_all(ask.as_bytes()).await.unwrap();
            idle.push(stream);
        }
        // All of them wait with an answer that nobody reads; another client is served meanwhile.
        let mut stream = TcpStream::connect(&home.address).await.unwrap();
        let ask = "GET /acme/m/resolve/main/w.bin HTTP/1.1\r\nhost: localhost\r\n\
                   connection: close\r\n\r\n";
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        assert!(all.ends_with(&bytes), "{} bytes", all.len());
        drop(idle);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// The router alone, without the network: any request is answered, and never by a fault.
    #[test]
    fn any_request_of_a_hub_is_answered(
        method in "(GET|HEAD|PUT|POST|DELETE)",
        path in "/(api/(models|datasets|repos)/?|acme/m(\\.git/info/lfs/objects)?/?)?(resolve|tree|commit|batch|create)?[ -~]{0,30}",
        range in "(bytes=)?[0-9,-]{0,12}",
        body in "(\\{\"key\":\"(header|file|lfsFile)\",\"value\":)?[ -~]{0,64}",
    ) {
        use hyper::service::Service as _;
        let Ok(uri) = path.parse::<axum::http::Uri>() else { return Ok(()) };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap());
        let components = mmh_repo::Components::new(runtime.handle().clone(), pool);
        let backend = mmh_repo::Backend::memory();
        let repo = mmh_repo::Repository::init(backend, mmh_repo::Settings::default(), components);
        let folder = tempfile::tempdir().unwrap();
        let gate = Gate::new(Tokens::none(Role::Admin), false, Arc::new(Silent)).unwrap();
        let options = HubOptions {
            uploads: folder.path().to_owned(),
            uploads_len: 1000,
            part_len: 100,
            upstream: None,
            cache: None,
            clock: Arc::new(mmh_core::ports::SystemClock),
        };
        let hub = Hub::open(Arc::new(repo.unwrap()), &gate, Limits::default(), options).unwrap();
        let service = hyper_util::service::TowerToHyperService::new(hub.router());
        let request = axum::http::Request::builder()
            .method(method.as_str())
            .uri(uri)
            .header("range", range)
            .body(axum::body::Body::from(body))
            .unwrap();
        let answer = runtime.block_on(service.call(request)).unwrap();
        let status = answer.status().as_u16();
        prop_assert!([501, 507].contains(&status) || status < 500, "{} {}", path, status);
    }
}
