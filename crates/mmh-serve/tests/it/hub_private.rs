//! Names that are private or gated, names that had others, and callers with names of their own.

use mmh_serve::{Limits, Role, Tokens, new_token};
use serde_json::{Value, json};

use crate::home::{Answer, Home, address_of, regular};

/// A hub that everybody reads, with tokens for an owner and for a stranger.
struct Town {
    home: Home,
    owner: String,
    stranger: String,
}

impl Town {
    fn new() -> Self {
        let scope = |name: &str| [format!("*/{name}/*")];
        let (owner, one) = new_token(Role::Admin, &scope("ana"), "ana").unwrap();
        let (stranger, two) = new_token(Role::Admin, &scope("bob"), "bob").unwrap();
        let tokens = Tokens::parse(&(one + &two), "f", Role::Reader).unwrap();
        Self {
            home: Home::with(tokens, Limits::default(), 64 << 20),
            owner: format!("Bearer {owner}"),
            stranger: format!("Bearer {stranger}"),
        }
    }

    fn ask(&self, who: &str, method: &str, path: &str, body: &[u8]) -> Answer {
        let headers = [("authorization", who)];
        let headers = if who.is_empty() {
            &[][..]
        } else {
            &headers[..]
        };
        self.home.ask(method, path, headers, body)
    }

    fn status(&self, who: &str, path: &str) -> u16 {
        self.ask(who, "GET", path, b"").status
    }

    fn owned(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.ask(&self.owner, method, path, body.to_string().as_bytes())
    }

    fn create(&self, body: &Value) {
        let made = self.owned("POST", "/api/repos/create", body);
        assert_eq!(made.status, 200, "{made:?}");
        let header = json!({ "key": "header", "value": { "summary": "s" } });
        let text = format!("{header}\n{}\n", regular("a", b"1"));
        let id = made.json()["id"].as_str().unwrap().to_owned();
        let path = format!("/api/models/{id}/commit/main");
        assert_eq!(
            self.ask(&self.owner, "POST", &path, text.as_bytes()).status,
            200
        );
    }
}

/// What is private is not there for others, by whatever path they come.
#[test]
fn private_names_are_not_there_for_others() {
    let town = Town::new();
    town.create(&json!({ "name": "m", "private": true }));
    town.create(&json!({ "name": "open" }));
    let paths = [
        "/api/models/ana/m",
        "/api/models/ana/m/tree/main",
        "/api/models/ana/m/refs",
        "/api/models/ANA/M",
        "/api/models/ana/m/auth-check",
        "/ana/m/resolve/main/a",
        "/ana/m/raw/main/a",
    ];
    for path in paths {
        assert_eq!(town.status(&town.owner, path), 200, "{path}");
        for other in [&town.stranger, ""] {
            let answer = town.ask(other, "GET", path, b"");
            assert_eq!(answer.status, 404, "{path}");
            assert_eq!(answer.header("x-error-code"), Some("RepoNotFound"));
        }
    }
    let batch = json!({ "operation": "download", "objects": [] }).to_string();
    let path = "/ana/m.git/info/lfs/objects/batch";
    assert_eq!(town.ask("", "POST", path, batch.as_bytes()).status, 404);
    assert_eq!(
        town.ask(&town.owner, "POST", path, batch.as_bytes()).status,
        200
    );
    let ids = |who: &str| town.ask(who, "GET", "/api/models", b"").json();
    assert_eq!(ids(&town.owner).as_array().unwrap().len(), 2);
    assert_eq!(ids(&town.stranger)[0]["id"], "ana/open");
    assert_eq!(ids("").as_array().unwrap().len(), 1);
    let info = town.owned("GET", "/api/models/ana/m", &json!({})).json();
    assert_eq!(info["private"], true);
    for body in [
        json!({ "fromRepo": "ana/m", "toRepo": "bob/m" }),
        json!({ "name": "ana/m" }),
    ] {
        let (method, path) = match body.get("name") {
            Some(_) => ("DELETE", "/api/repos/delete"),
            None => ("POST", "/api/repos/move"),
        };
        let text = body.to_string();
        let tried = town.ask(&town.stranger, method, path, text.as_bytes());
        assert!([403, 404].contains(&tried.status), "{tried:?}");
    }
    let settings = "/api/models/ana/m/settings";
    assert_eq!(
        town.owned("PUT", settings, &json!({ "private": false }))
            .status,
        200
    );
    assert_eq!(town.status("", paths[0]), 200);
    let bad = json!({ "visibility": "odd" });
    assert_eq!(town.owned("PUT", settings, &bad).status, 400);
}

/// Nobody but the server writes where settings stand, and lists of branches do not show it.
#[test]
fn settings_are_the_servers_own() {
    let town = Town::new();
    town.create(&json!({ "name": "m", "visibility": "private" }));
    let header = json!({ "key": "header", "value": { "summary": "s" } });
    let text = format!("{header}\n{}\n", regular("hub.json", b"{}"));
    let path = "/api/models/ana/m/commit/refs%2Fmeta%2Fconfig";
    assert_eq!(
        town.ask(&town.owner, "POST", path, text.as_bytes()).status,
        400
    );
    for (method, path) in [
        ("POST", "branch/refs%2Fmeta%2Fother"),
        ("DELETE", "branch/refs%2Fmeta%2Fconfig"),
        ("POST", "super-squash/refs%2Fmeta%2Fconfig"),
    ] {
        let path = format!("/api/models/ana/m/{path}");
        assert_eq!(town.owned(method, &path, &json!({})).status, 400, "{path}");
    }
    let refs = town
        .owned("GET", "/api/models/ana/m/refs", &json!({}))
        .json();
    assert_eq!(refs["branches"].as_array().unwrap().len(), 1);
    // It moves along, and what had the name once leads nobody there who may not see it.
    let body = json!({ "fromRepo": "ana/m", "toRepo": "ana/n" });
    assert_eq!(town.owned("POST", "/api/repos/move", &body).status, 200);
    assert_eq!(town.status(&town.owner, "/ana/m/resolve/main/a"), 307);
    assert_eq!(town.status("", "/ana/m/resolve/main/a"), 404);
    assert_eq!(town.status("", "/api/models/ana/n"), 404);
    // A new name takes the old one's place.
    town.create(&json!({ "name": "m" }));
    assert_eq!(town.status("", "/ana/m/resolve/main/a"), 200);
}

#[test]
fn gated_names_are_seen_and_not_had() {
    let town = Town::new();
    town.create(&json!({ "name": "m" }));
    let settings = "/api/models/ana/m/settings";
    assert_eq!(
        town.owned("PUT", settings, &json!({ "gated": "manual" }))
            .status,
        200
    );
    let info = town.ask("", "GET", "/api/models/ana/m", b"").json();
    assert_eq!(info["gated"], "manual");
    for path in ["/ana/m/resolve/main/a", "/api/models/ana/m/auth-check"] {
        assert_eq!(town.status(&town.owner, path), 200);
        for (who, status) in [("", 401), (town.stranger.as_str(), 403)] {
            let answer = town.ask(who, "GET", path, b"");
            let told = (answer.status, answer.header("x-error-code"));
            assert_eq!(told, (status, Some("GatedRepo")), "{path}");
        }
    }
    assert_eq!(
        town.owned("PUT", settings, &json!({ "gated": 3 })).status,
        400
    );
    assert_eq!(
        town.owned("PUT", settings, &json!({ "gated": false }))
            .status,
        200
    );
    assert_eq!(town.status("", "/ana/m/resolve/main/a"), 200);
}

/// A token takes nothing away that everybody may, and a name of one part is its bearer's own.
#[test]
fn callers_have_names_of_their_own() {
    let town = Town::new();
    town.create(&json!({ "name": "m" }));
    assert_eq!(town.status(&town.stranger, "/ana/m/resolve/main/a"), 200);
    let text = json!({ "name": "ana/x" }).to_string();
    let tried = town.ask(&town.stranger, "POST", "/api/repos/create", text.as_bytes());
    assert_eq!(tried.status, 403);
    let again = town.owned("POST", "/api/repos/create", &json!({ "name": "m" }));
    assert_eq!(again.status, 409);
    let delete = |name: &str| {
        let body = json!({ "name": name });
        town.owned("DELETE", "/api/repos/delete", &body).status
    };
    assert_eq!(delete("m"), 200);
    assert_eq!(delete("m"), 404);
    // A name that everybody calls by one part stays what it is.
    let home = Home::new();
    home.create("tiny");
    assert_eq!(home.get("/api/models/tiny").status, 200);
}

/// What the client may leave out it is told: by the repository's rules, or by those it brings.
#[test]
fn ignored_files_are_told() {
    let home = Home::new();
    home.create("acme/m");
    let path = "/api/models/acme/m/preupload/main";
    let asked = |ignore: Option<&str>| {
        let files = ["a.tmp", "build/x", "b"].map(|p| json!({ "path": p, "size": 1 }));
        let mut body = json!({ "files": files });
        if let Some(text) = ignore {
            body["gitIgnore"] = text.into();
        }
        let files = home.post(path, &body).json()["files"].clone();
        let files = files.as_array().unwrap().iter();
        files
            .map(|f| f["shouldIgnore"].as_bool().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(asked(None), [false, false, false]);
    assert_eq!(asked(Some("*.tmp\nbuild/\n")), [true, true, false]);
    let rules = regular(".gitignore", b"build\n");
    assert_eq!(home.commit("acme/m", &[rules]).status, 200);
    assert_eq!(asked(None), [false, true, false]);
    assert_eq!(asked(Some("b")), [false, false, true]);
    let evil = json!({ "files": [{ "path": "../x", "size": 1 }] });
    assert_eq!(home.post(path, &evil).status, 422);
}

/// An address that was signed needs no token, also where nobody else sees the name.
#[test]
fn uploads_to_private_names_need_no_second_token() {
    let town = Town::new();
    town.create(&json!({ "name": "m", "private": true }));
    let oid = crate::home::sha256(b"hello");
    let batch = json!({
        "operation": "upload", "transfers": ["basic"],
        "objects": [{ "oid": oid, "size": 5 }],
    });
    let path = "/ana/m.git/info/lfs/objects/batch";
    let answer = town.owned("POST", path, &batch).json();
    let actions = &answer["objects"][0]["actions"];
    let bare = |kind: &str| {
        let href = actions[kind]["href"].as_str().unwrap();
        href.strip_prefix("http://localhost").unwrap().to_owned()
    };
    assert_eq!(town.ask("", "PUT", &bare("upload"), b"hello").status, 200);
    let object = json!({ "oid": oid, "size": 5 }).to_string();
    assert_eq!(
        town.ask("", "POST", &bare("verify"), object.as_bytes())
            .status,
        200
    );
    let home = Home::new();
    home.create("acme/m");
    assert!(address_of(&home, "acme/m", &oid, 5).is_some());
}

/// A name that moved twice leads on from both, but not from one that somebody took since.
#[test]
fn names_lead_on_however_often_they_moved() {
    let home = Home::new();
    home.create("acme/a");
    assert_eq!(home.commit("acme/a", &[regular("f", b"1")]).status, 200);
    let moved = |from: &str, to: &str| {
        let body = json!({ "fromRepo": from, "toRepo": to, "type": "model" });
        assert_eq!(
            home.post("/api/repos/move", &body).status,
            200,
            "{from} {to}"
        );
    };
    moved("acme/a", "acme/b");
    moved("acme/b", "acme/c");
    let leads = |from: &str| {
        let answer = home.get(&format!("/acme/{from}/resolve/main/f"));
        (answer.status, answer.header("location").map(str::to_owned))
    };
    let to_c = Some("/acme/c/resolve/main/f".to_owned());
    assert_eq!(leads("a"), (307, to_c.clone()));
    assert_eq!(leads("b"), (307, to_c));
    assert_eq!(leads("c"), (200, None));
    home.create("acme/a");
    assert_eq!(leads("a").0, 404, "the new one has no such file");
    moved("acme/c", "acme/b");
    assert_eq!(leads("b"), (200, None));
    assert_eq!(leads("c").0, 307);
    let info = home.get("/api/models/acme/b").json();
    assert_eq!(info["private"], false);
}

/// Names that differ in case only are two names; a third spelling means neither.
#[test]
fn spellings_that_mean_two_names_mean_none() {
    let home = Home::new();
    home.create("acme/Tiny");
    assert_eq!(home.get("/api/models/acme/tiny").json()["id"], "acme/Tiny");
    assert_eq!(home.get("/api/models/ACME/TINY").json()["id"], "acme/Tiny");
    home.create("acme/tiny");
    assert_eq!(home.get("/api/models/acme/Tiny").json()["id"], "acme/Tiny");
    assert_eq!(home.get("/api/models/acme/tiny").json()["id"], "acme/tiny");
    assert_eq!(home.get("/api/models/acme/TINY").status, 404);
}

/// Who is private stays so whatever becomes of branches, over undo, and in lists of all kinds.
#[test]
fn private_stays_private() {
    let town = Town::new();
    town.create(&json!({ "name": "m", "private": true }));
    let at = |path: &str| format!("/api/models/ana/m/{path}");
    assert_eq!(
        town.owned("POST", &at("branch/dev"), &json!({})).status,
        200
    );
    let tag = json!({ "tag": "v1" });
    assert_eq!(town.owned("POST", &at("tag/main"), &tag).status, 200);
    let squash = json!({ "message": "one" });
    assert_eq!(
        town.owned("POST", &at("super-squash/main"), &squash).status,
        200
    );
    for rev in ["main", "dev", "v1", "refs%2Fmeta%2Fconfig"] {
        for other in ["", town.stranger.as_str()] {
            let path = format!("/ana/m/resolve/{rev}/a");
            assert_eq!(town.status(other, &path), 404, "{rev}");
            assert_eq!(
                town.status(other, &at(&format!("tree/{rev}"))),
                404,
                "{rev}"
            );
            assert_eq!(
                town.status(other, &at(&format!("commits/{rev}"))),
                404,
                "{rev}"
            );
        }
    }
    for path in ["preupload/main", "paths-info/main", "discussions"] {
        for other in ["", town.stranger.as_str()] {
            let answer = town.ask(other, "POST", &at(path), b"{}");
            assert_eq!(answer.status, 404, "{path}");
        }
    }
    let open = json!({ "private": false });
    assert_eq!(town.owned("PUT", &at("settings"), &open).status, 200);
    assert_eq!(town.status("", &at("tree/main")), 200);
    town.home.repo.undo().unwrap();
    assert_eq!(town.status("", &at("tree/main")), 404, "as it was before");
    for query in ["", "?search=m", "?author=ana", "?sort=createdAt&limit=1"] {
        let all = town
            .ask("", "GET", &format!("/api/models{query}"), b"")
            .json();
        assert_eq!(all, json!([]), "{query}");
    }
}

/// Settings that nobody can read are damage: what they are about is not public by mistake.
#[test]
fn settings_that_cannot_be_read_hide_a_name() {
    let town = Town::new();
    town.create(&json!({ "name": "m" }));
    assert_eq!(town.status("", "/api/models/ana/m"), 200);
    let name: mmh_core::name::RepoName = "ana/m".parse().unwrap();
    let branch = mmh_core::name::RefName::branch(name, "refs/meta/config").unwrap();
    for (text, onto) in [
        ("{", mmh_repo::Onto::NoBranch),
        (r#"{"privat":true}"#, mmh_repo::Onto::Any),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("hub.json"), text).unwrap();
        let change = mmh_repo::Change {
            folder: Some(folder.path().to_owned()),
            onto,
            message: "by another way".to_owned(),
            ..mmh_repo::Change::default()
        };
        town.home.repo.change(&branch, &change).unwrap();
        let again = mmh_repo::Change {
            onto: mmh_repo::Onto::NoBranch,
            ..change
        };
        let taken = town.home.repo.change(&branch, &again).unwrap_err();
        assert_eq!(
            taken.kind(),
            mmh_core::ErrorKind::Conflict,
            "the branch is there"
        );
        assert_eq!(town.status("", "/api/models/ana/m"), 500, "{text}");
        assert_eq!(town.status("", "/ana/m/resolve/main/a"), 500, "{text}");
    }
}
