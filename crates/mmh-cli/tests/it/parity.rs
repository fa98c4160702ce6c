//! Damage that parity heals, as a user meets it.

use crate::support::{Scratch, noise};

/// Damages every pack at this offset, and returns what the packs were.
fn damage(s: &Scratch, at: usize) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut packs = Vec::new();
    for path in s.below("repo/mmh/packs") {
        let whole = std::fs::read(&path).unwrap();
        let mut bad = whole.clone();
        bad[at] ^= 4;
        s.replace(&path, &bad);
        packs.push((path, whole));
    }
    packs
}

#[test]
fn a_damaged_pack_heals_when_it_is_read_and_is_told_once() {
    let s = Scratch::new();
    let bytes = noise(100_000, 1);
    s.write("m/a", &bytes);
    s.ok(&["add", "m", "--to", "a/b"]);
    let packs = damage(&s, 50_000);
    assert_eq!(s.run(&["verify"]).code, 8, "it is found");
    let packs_now = || s.below("repo/mmh/packs");
    let ran = s.run(&["get", "a/b", "out"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let told = "1 damaged block of 512 bytes";
    assert!(
        ran.err.starts_with("healed pack ") && ran.err.contains(told),
        "{}",
        ran.err
    );
    assert_eq!(std::fs::read(s.path("out/a")).unwrap(), bytes);
    for (path, whole) in &packs {
        assert!(std::fs::read(path).unwrap() == *whole, "not what it was");
    }
    assert_eq!(packs_now().len(), packs.len());
    let again = s.run(&["get", "a/b", "again"]);
    assert_eq!((again.code, again.err.as_str()), (0, ""));
    assert_eq!(s.run(&["verify"]).code, 0);
    damage(&s, 50_000);
    let ran = s.run(&["cat", "a/b:a", "--range", "50000-50010", "--json"]);
    let value: serde_json::Value = serde_json::from_str(ran.err.trim()).unwrap();
    assert_eq!(value["healed"]["blocks"], 1);
}

#[test]
fn the_share_is_chosen_once() {
    let s = Scratch::new();
    s.write("m/a", &noise(400_000, 2));
    let len = |name: &str, share: &str| -> u64 {
        s.ok(&["init", name, "--parity", share]);
        s.ok(&["-R", name, "add", "m", "--to", "a/b"]);
        let packs = s.below(&format!("{name}/mmh/packs"));
        packs
            .iter()
            .map(|pack| pack.metadata().unwrap().len())
            .sum()
    };
    let (none, few, many) = (len("r0", "off"), len("r3", "3%"), len("r50", "50"));
    assert!(none < 402_000 && few > none + 12_000 && many > none + 200_000);
    for share in ["51%", "0", "much"] {
        let ran = s.run(&["init", "bad", "--parity", share]);
        assert_eq!(ran.code, 2, "{}", ran.err);
        assert!(ran.err.contains("50%"), "{}", ran.err);
    }
}

/// A user's way out of damage beyond the budget: told which file it hits, add it again.
#[test]
fn what_cannot_be_healed_is_named_and_can_be_added_again() {
    let s = Scratch::new();
    s.write("m/a", &noise(300_000, 1));
    s.write("m/b", &noise(300_000, 2_000_000));
    s.ok(&["add", "m", "--to", "a/b"]);
    let needle = &noise(300_000, 2_000_000)[250_000..250_032];
    let packs = s.below("repo/mmh/packs");
    let has = |path: &&std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(32).any(|window| window == needle)
    };
    let pack = packs.iter().find(has).unwrap();
    let mut bytes = std::fs::read(pack).unwrap();
    let at = bytes
        .windows(32)
        .position(|window| window == needle)
        .unwrap();
    bytes[at - 20_000..at + 20_000].fill(0);
    s.replace(pack, &bytes);
    let ran = s.run(&["scrub"]);
    assert_eq!(ran.code, 8, "{}", ran.err);
    assert!(ran.out.contains("mmh repair"), "{}", ran.out);
    let ran = s.run(&["repair"]);
    assert_eq!(ran.code, 8, "{}", ran.err);
    assert!(
        ran.out.contains("a/b@heads/main:b") && !ran.out.contains("main:a:"),
        "{}",
        ran.out
    );
    let value: serde_json::Value = serde_json::from_str(&s.run(&["repair", "--json"]).out).unwrap();
    assert_eq!(value["set_aside"], serde_json::json!([]));
    assert_eq!(value["findings"].as_array().unwrap().len(), 1);
    s.ok(&["add", "m", "--to", "a/b"]);
    s.ok(&["verify"]);
    s.ok(&["repair"]);
    s.ok(&["scrub", "--rate", "1G", "--resume"]);
}

#[test]
fn another_store_mends_what_is_lost() {
    let s = Scratch::new();
    let bytes = noise(200_000, 3);
    s.write("m/a", &bytes);
    s.ok(&["add", "m", "--to", "a/b"]);
    for path in s.below("repo") {
        let below = path.strip_prefix(s.path("repo")).unwrap();
        s.write(
            &format!("backup/{}", below.display()),
            &std::fs::read(&path).unwrap(),
        );
    }
    for path in s.below("repo/mmh/packs") {
        s.replace(&path, b"gone");
    }
    let ran = s.run(&["repair", "--from", "backup"]);
    assert!(ran.out.contains("0 lost"), "{} {}", ran.out, ran.err);
    s.ok(&["get", "a/b", "out"]);
    assert_eq!(std::fs::read(s.path("out/a")).unwrap(), bytes);
    let ran = s.run(&["repair", "--from", "nowhere"]);
    assert_eq!(ran.code, 3, "{}", ran.err);
}
