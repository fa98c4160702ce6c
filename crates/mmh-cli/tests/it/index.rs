//! `doctor --rebuild-index`: the index is a cache of the packs and can be made anew.

use std::fs;

use crate::support::{Scratch, noise};

fn sample() -> Scratch {
    let s = Scratch::new();
    for i in 0..3 {
        s.write(&format!("m{i}/data"), &noise(40_000, i));
        s.ok(&["add", &format!("m{i}"), "--to", &format!("a/m{i}")]);
    }
    s
}

fn all_there(s: &Scratch) {
    for i in 0..3 {
        let out = format!("out-{i}");
        s.ok(&["get", &format!("a/m{i}"), &out]);
        assert_eq!(
            fs::read(s.path(&out).join("data")).unwrap(),
            noise(40_000, i)
        );
        fs::remove_dir_all(s.path(&out)).unwrap();
    }
    assert!(s.ok(&["verify"]).starts_with("all right"));
}

/// Without its index files the repository is rebuilt from the packs alone.
#[test]
fn a_lost_index_is_made_anew() {
    let s = sample();
    let facts = s.json(&["doctor"])["facts"].clone();
    for file in s.below("repo/mmh/index") {
        fs::remove_file(file).unwrap();
    }
    let report = s.json(&["doctor", "--rebuild-index"]);
    assert_eq!(report["packs"], facts["packs"]);
    assert_eq!(report["chunks"], facts["chunks"]);
    assert_eq!(report["missing"], serde_json::json!([]));
    all_there(&s);
    assert_eq!(s.json(&["doctor"])["facts"]["chunks"], facts["chunks"]);
}

/// Damaged index files are found by `verify` and repaired by a rebuild.
#[test]
fn a_damaged_index_is_made_anew() {
    let s = sample();
    for file in s.below("repo/mmh/index") {
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        s.replace(&file, &bytes);
    }
    let ran = s.run(&["verify"]);
    assert_ne!(ran.code, 0, "{}{}", ran.out, ran.err);
    s.ok(&["doctor", "--rebuild-index"]);
    all_there(&s);
}

/// A rebuild of a whole repository changes nothing that can be read, however often it is done.
#[test]
fn a_rebuild_is_idempotent() {
    let s = sample();
    let first = s.json(&["doctor", "--rebuild-index"]);
    assert_eq!(s.json(&["doctor", "--rebuild-index"]), first);
    all_there(&s);
}

/// A pack that is gone stops the rebuild until the loss is accepted; what other packs hold stays.
#[test]
fn a_lost_pack_must_be_accepted() {
    let s = sample();
    let packs = s.below("repo/mmh/packs");
    let lost = packs.iter().find(|pack| {
        let kept = fs::read(pack).unwrap();
        fs::remove_file(pack).unwrap();
        let gone = s.run(&["cat", "a/m0:data"]).code != 0;
        if !gone {
            fs::write(pack, kept).unwrap();
        }
        gone
    });
    let lost = lost.unwrap().file_name().unwrap().to_str().unwrap();
    let ran = s.run(&["doctor", "--rebuild-index"]);
    assert_eq!(ran.code, 8, "{}", ran.out);
    assert!(ran.err.contains("it is not there"), "{}", ran.err);
    let report = s.json(&["doctor", "--rebuild-index", "--accept-missing"]);
    assert_eq!(report["missing"].as_array().unwrap().len(), 1, "{report}");
    assert_ne!(s.run(&["verify"]).code, 0, "pack {lost} is not forgotten");
    assert_eq!(s.run(&["cat", "a/m1:data"]).code, 0);
    assert_eq!(s.run(&["cat", "a/m2:data"]).code, 0);
    // The bytes come again when they are added again.
    s.ok(&["add", "m0", "--to", "a/again"]);
    s.ok(&["verify", "a/again"]);
    s.ok(&["get", "a/again", "out"]);
    assert_eq!(fs::read(s.path("out/data")).unwrap(), noise(40_000, 0));
}

/// A repository that cannot be opened is reported in full before the failure.
#[test]
fn doctor_tells_what_it_knows_of_a_repository_that_does_not_open() {
    let s = sample();
    let config = s.path("repo/mmh/config");
    let mut bytes = fs::read(&config).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    s.replace(&config, &bytes);
    let ran = s.run(&["doctor"]);
    assert_eq!(ran.code, 8, "{}", ran.err);
    assert!(ran.out.starts_with("program mmh "), "{}", ran.out);
    assert!(ran.out.contains("cannot be opened"), "{}", ran.out);
    let ran = s.run(&["doctor", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert!(value["facts"].is_null() && value["version"].is_string());
}

/// `doctor` outside any repository is about the program only, and no failure.
#[test]
fn doctor_works_without_a_repository() {
    let s = Scratch::new();
    let mut command = s.command(&["doctor"]);
    let output = command.env_remove("MMH_REPOSITORY").output().unwrap();
    let ran = crate::support::ran(output);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.contains("mmh init"), "{}", ran.out);
    assert_eq!(s.run(&["doctor", "--accept-missing"]).code, 2);
}
