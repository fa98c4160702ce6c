//! A repository on several folders, as a user meets it.

use crate::support::{Scratch, noise};

/// Three folders with one model, which is `noise(600_000, 1)`.
fn striped() -> (Scratch, String) {
    let s = Scratch::new();
    s.ok(&["init", "--stripe", "2+1", "a,b,c"]);
    s.write("m/w", &noise(600_000, 1));
    s.ok(&["-R", "a,b,c", "add", "m", "--to", "x/y"]);
    (s, "a,b,c".to_owned())
}

fn reads(s: &Scratch, place: &str) -> String {
    let out = format!("out-{}", s.below(".").len());
    let ran = s.run(&["-R", place, "get", "x/y", &out]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let read = std::fs::read(s.path(&out).join("w")).unwrap();
    assert!(read == noise(600_000, 1), "other bytes");
    ran.err
}

#[test]
fn any_one_of_three_folders_may_be_lost() {
    let (s, all) = striped();
    assert_eq!(reads(&s, &all), "");
    for one in ["a", "b", "c"] {
        assert_eq!(reads(&s, one), "", "one leads to the others");
    }
    for lost in ["a", "b", "c"] {
        std::fs::rename(s.path(lost), s.path("lost")).unwrap();
        let err = reads(&s, &all);
        assert!(err.contains("without store") && err.contains(lost), "{err}");
        assert_eq!(s.run(&["-R", &all, "verify"]).code, 0);
        let ran = s.run(&["-R", &all, "add", "m", "--to", "x/z"]);
        assert_eq!(ran.code, 7, "{}", ran.err);
        assert!(ran.err.contains("mmh repair"), "{}", ran.err);
        assert_eq!(s.run(&["-R", &all, "scrub"]).code, 8, "a store is missing");
        std::fs::rename(s.path("lost"), s.path(lost)).unwrap();
    }
    std::fs::remove_dir_all(s.path("a")).unwrap();
    std::fs::remove_dir_all(s.path("b")).unwrap();
    let ran = s.run(&["-R", &all, "ls"]);
    assert_eq!(ran.code, 7, "{}", ran.err);
    assert!(
        ran.err
            .contains("1 of the 3 stores are there, 2 are needed"),
        "{}",
        ran.err
    );
}

#[test]
fn repair_fills_an_empty_folder_in_the_place_of_a_lost_one() {
    let (s, all) = striped();
    std::fs::rename(s.path("a"), s.path("old")).unwrap();
    let ran = s.run(&["-R", "b", "repair"]);
    assert_eq!(ran.code, 8, "{}", ran.err);
    assert!(
        ran.out.contains("put an empty store in the place"),
        "{}",
        ran.out
    );
    std::fs::create_dir(s.path("a")).unwrap();
    let ran = s.run(&["-R", "b", "repair"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(
        ran.out.contains("takes the place of") && ran.out.contains("all right"),
        "{}",
        ran.out
    );
    std::fs::remove_dir_all(s.path("b")).unwrap();
    reads(&s, &all);
    // Elsewhere than the lost one, and said for programs.
    std::fs::create_dir(s.path("d")).unwrap();
    let ran = s.run(&["-R", "a,c,d", "repair", "--json"]);
    let value: serde_json::Value = serde_json::from_str(ran.out.trim()).unwrap();
    assert!(
        value["replaced"][0]["place"]
            .as_str()
            .unwrap()
            .ends_with("/d"),
        "{value}"
    );
    assert_eq!(value["shards"]["healed"], serde_json::json!([]));
    assert_eq!(reads(&s, "d"), "");
    // The old store comes back, and is left alone.
    let err = reads(&s, "old,a,c,d");
    assert!(
        err.contains("old") && err.contains("replaced by another store"),
        "{err}"
    );
    s.ok(&["-R", "d", "add", "m", "--to", "x/z"]);
}

#[test]
fn damaged_shards_are_told_and_made_again() {
    let (s, all) = striped();
    let pack = s.below("a/mmh/shards/packs").remove(0);
    let whole = std::fs::read(&pack).unwrap();
    let mut bad = whole.clone();
    bad[1000] ^= 1;
    s.replace(&pack, &bad);
    let err = reads(&s, &all);
    assert!(err.contains("read around 1 damaged shard;"), "{err}");
    let ran = s.run(&["-R", &all, "scrub", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let value: serde_json::Value = serde_json::from_str(ran.out.trim()).unwrap();
    assert_eq!(
        value["shards"]["healed"].as_array().unwrap().len(),
        1,
        "{value}"
    );
    assert!(std::fs::read(&pack).unwrap() == whole);
    assert_eq!(reads(&s, &all), "");
}

#[test]
fn a_stripe_is_made_with_a_shape_and_as_many_stores() {
    let s = Scratch::new();
    for (args, hint) in [
        (["init", "--stripe", "2+1", "a,b"], "needs 3 stores, not 2"),
        (["init", "--stripe", "2", "a,b,c"], "`2+1`"),
        (["init", "--stripe", "2+1", "a,,c"], "empty place"),
        (["init", "--stripe", "1+1", "a,a"], "given twice"),
        (["init", "--parity", "3%", "a,b"], "--stripe"),
    ] {
        let ran = s.run(&args);
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.err);
        assert!(ran.err.contains(hint), "{args:?}: {}", ran.err);
    }
    s.ok(&["init", "--stripe", "1+1", "a,b"]);
    assert_eq!(s.run(&["init", "--stripe", "1+1", "a,b"]).code, 2);
    assert_eq!(s.run(&["init", "b"]).code, 2, "it is part of a stripe");
}
