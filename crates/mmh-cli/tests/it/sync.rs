//! What goes between repositories, as people type it.

use std::fs;

use crate::support::{Ran, Scratch, noise};

/// A scratch folder with a filled `repo` and an empty `other`.
fn two() -> Scratch {
    let s = Scratch::new();
    s.ok(&["init", "other"]);
    s.write("m/weights", &noise(300_000, 1));
    s.write("m/config.json", b"{}");
    s.ok(&["add", "m", "--to", "acme/m"]);
    s.ok(&["tag", "acme/m", "v1"]);
    s.write("n/weights", &noise(100_000, 2));
    s.ok(&["add", "n", "--to", "acme/n"]);
    s
}

fn names(s: &Scratch, place: &str) -> String {
    s.ok(&["-R", place, "ls"])
}

fn fails(s: &Scratch, args: &[&str], code: i32, says: &str) -> Ran {
    let ran = s.run(args);
    assert_eq!(ran.code, code, "{args:?}: {} {}", ran.out, ran.err);
    assert!(ran.err.contains(says), "{args:?}: {}", ran.err);
    ran
}

#[test]
fn push_and_pull_by_name_and_by_place() {
    let s = two();
    fails(&s, &["push"], 3, "mmh remote add");
    fails(&s, &["push", "backup"], 3, "no remote `backup`");
    s.ok(&["remote", "add", "backup", "other"]);
    let listed = s.json(&["remote", "list"]);
    let place = listed["backup"].as_str().unwrap();
    assert!(
        place.starts_with('/') && place.ends_with("/other"),
        "{place}"
    );
    let dry = s.ok(&["push", "backup", "--dry-run"]);
    assert!(
        dry.contains("would be created models/acme/m@heads/main"),
        "{dry}"
    );
    assert!(names(&s, "other").starts_with("nothing here yet"));
    let one = s.ok(&["push", "backup", "acme/n"]);
    assert!(
        one.starts_with("created models/acme/n@heads/main\nsent "),
        "{one}"
    );
    assert_eq!(names(&s, "other"), "acme/n\n");
    s.ok(&["push"]);
    assert_eq!(names(&s, "other"), names(&s, "repo"));
    assert!(
        s.ok(&["push"])
            .contains("sent 0 chunks, 0 B; 3 refs the same already")
    );
    s.write("m/config.json", b"{1}");
    s.ok(&["-R", "other", "add", "m", "--to", "acme/m"]);
    let pulled = s.ok(&["pull", "./other"]);
    assert!(
        pulled.starts_with("moved models/acme/m@heads/main\nfetched "),
        "{pulled}"
    );
    assert_eq!(s.ok(&["cat", "acme/m:config.json"]), "{1}");
    let operations = s.json(&["op", "log"]);
    assert!(
        operations[0]["command"]
            .as_str()
            .unwrap()
            .starts_with("pull "),
        "{operations}"
    );
    s.ok(&["remote", "rm", "backup"]);
    fails(&s, &["remote", "rm", "backup"], 3, "no remote");
    for place in ["repo", "other"] {
        assert!(s.ok(&["-R", place, "verify"]).starts_with("all right"));
    }
}

#[test]
fn what_diverged_is_said_and_left_alone() {
    let s = two();
    s.ok(&["push", "./other"]);
    for (place, text) in [("repo", "here"), ("other", "there")] {
        s.write("m/config.json", text.as_bytes());
        s.ok(&["-R", place, "add", "m", "--to", "acme/m"]);
    }
    s.write("o/new", b"new");
    s.ok(&["add", "o", "--to", "acme/o"]);
    let ran = fails(&s, &["push", "./other"], 6, "--force");
    assert!(
        ran.out.contains("diverged models/acme/m@heads/main"),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("created models/acme/o@heads/main"),
        "the rest went: {}",
        ran.out
    );
    fails(&s, &["sync", "repo", "other"], 6, "1 ref diverged");
    assert_eq!(s.ok(&["-R", "other", "cat", "acme/m:config.json"]), "there");
    s.ok(&["branch", "acme/m", "mine"]);
    s.ok(&["pull", "./other", "--force"]);
    assert_eq!(s.ok(&["cat", "acme/m:config.json"]), "there");
    assert_eq!(s.ok(&["cat", "acme/m@mine:config.json"]), "here");
    s.ok(&["push", "./other", "--force"]);
    s.ok(&["rm", "acme/o"]);
    s.ok(&["push", "./other"]);
    assert!(names(&s, "other").contains("acme/o"));
    s.ok(&["push", "./other", "--prune"]);
    assert_eq!(names(&s, "other"), names(&s, "repo"));
}

#[test]
fn two_repositories_come_to_the_same_state() {
    let s = two();
    s.write("p/x", b"x");
    s.ok(&["-R", "other", "add", "p", "--to", "acme/p"]);
    let dry = s.json(&["sync", "repo", "other", "--dry-run"]);
    assert_eq!(dry["a_to_b"]["refs"].as_array().unwrap().len(), 3);
    assert_eq!(dry["b_to_a"]["refs"].as_array().unwrap().len(), 1);
    s.ok(&["sync", "repo", "other"]);
    assert_eq!(names(&s, "other"), names(&s, "repo"));
    assert!(names(&s, "repo").contains("acme/p"));
    let again = s.json(&["sync", "repo", "other"]);
    for way in ["a_to_b", "b_to_a"] {
        assert_eq!(
            (&again[way]["chunks"], &again[way]["same"]),
            (&0.into(), &4.into())
        );
    }
    fails(&s, &["sync", "repo", "nowhere"], 3, "nowhere");
    fails(&s, &["sync", "repo", "other", "acme/none"], 3, "acme/none");
}

#[test]
fn a_clone_is_all_of_it_or_some_names() {
    let s = two();
    let whole = s.json(&["clone", "repo", "whole"]);
    assert_eq!(
        (&whole["names"], &whole["scope"]),
        (&2.into(), &serde_json::Value::Null)
    );
    assert_eq!(s.ok(&["-R", "whole", "op", "log"]), s.ok(&["op", "log"]));
    fails(&s, &["clone", "repo", "whole"], 2, "already");
    s.ok(&["clone", "repo", "some", "--name", "acme/m@v1"]);
    assert_eq!(names(&s, "some"), "acme/m\n");
    let id = |place: &str| s.json(&["-R", place, "doctor"])["facts"]["id"].clone();
    assert_eq!(id("some"), id("repo"));
    s.ok(&["clone", "repo", "some", "--name", "acme/n"]);
    assert_eq!(
        names(&s, "some"),
        names(&s, "repo"),
        "begun again, it goes on"
    );
    // Where it came from is its origin.
    s.write("n/weights", &noise(100_000, 3));
    s.ok(&["add", "n", "--to", "acme/n"]);
    assert!(
        s.ok(&["-R", "whole", "pull"])
            .contains("moved models/acme/n@heads/main")
    );
    fails(&s, &["clone", "nowhere", "x"], 3, "nowhere");
    assert!(!s.path("x").join("mmh/config").exists());
    for place in ["whole", "some"] {
        assert!(s.ok(&["-R", place, "verify"]).starts_with("all right"));
    }
}

#[test]
fn each_side_has_its_own_keys() {
    let s = two();
    let to = s.ok(&["key", "generate", "id"]);
    s.ok(&["init", "vault", "--encrypt", "--recipient", to.trim()]);
    fails(&s, &["push", "./vault"], 5, "sealed");
    s.ok(&["push", "./vault", "--other-identity", "id"]);
    fn run<'a>(args: &[&'a str]) -> Vec<&'a str> {
        [&["-R", "vault", "-i", "id"], args].concat()
    }
    assert_eq!(s.ok(&run(&["ls"])), names(&s, "repo"));
    assert!(s.ok(&run(&["verify"])).starts_with("all right"));
    fails(&s, &run(&["push", "./other"]), 5, "not sealed");
    s.ok(&run(&["push", "./other", "--other-open"]));
    assert_eq!(
        s.ok(&["-R", "other", "log", "acme/m"]),
        s.ok(&["log", "acme/m"])
    );
    // A seed for one name makes a clone of that name.
    let seed = s.ok(&run(&["seed", "show", "acme/n", "--read-only"]));
    s.write("card", seed.as_bytes());
    let cloned = s.json(&["clone", "card", "one"]);
    assert_eq!(
        (&cloned["names"], &cloned["scope"]),
        (&1.into(), &"models/acme/n".into())
    );
}

#[test]
fn damage_is_told_and_the_rest_is_sent() {
    let s = Scratch::without_parity();
    s.ok(&["init", "other"]);
    s.write("m/weights", &noise(300_000, 1));
    s.ok(&["add", "m", "--to", "acme/m"]);
    let pack = s.below("repo/mmh/packs").remove(0);
    s.write("n/weights", &noise(100_000, 2));
    s.ok(&["add", "n", "--to", "acme/n"]);
    let mut bytes = fs::read(&pack).unwrap();
    bytes[100_000] ^= 1;
    s.replace(&pack, &bytes);
    let ran = s.run(&["push", "./other"]);
    assert_eq!(ran.code, 8, "{}", ran.err);
    assert!(
        ran.out.contains("left out models/acme/m@heads/main"),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("damaged models/acme/m@heads/main:weights"),
        "{}",
        ran.out
    );
    assert_eq!(names(&s, "other"), "acme/n\n");
}
