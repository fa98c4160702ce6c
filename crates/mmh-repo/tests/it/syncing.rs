//! Refs and what they reach go from one repository to another: all of it, only what is missing,
//! never half, and never over what the other side has.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mmh_core::ErrorKind;
use mmh_core::name::RefName;
use mmh_core::ports::{Clock, SystemClock};
use mmh_repo::keys::{RootSeed, Sealing, Secret};
use mmh_repo::sync::What;
use mmh_repo::{
    AddOptions, Components, GcOptions, InitOptions, Keep, Repository, SyncOptions, SyncReport,
};

use crate::bases::model;
use crate::scratch::{Scratch, add, noise, read_tree, target};

fn plain() -> InitOptions {
    InitOptions::default()
}

fn sealed(seed: u8) -> InitOptions {
    InitOptions {
        sealing: Some(Sealing {
            root: RootSeed::from_secret(Secret::from_bytes(&[seed; 32])),
            slots: Vec::new(),
        }),
        ..InitOptions::default()
    }
}

fn only(names: &[&str]) -> SyncOptions {
    SyncOptions {
        names: names.iter().map(|name| target(name)).collect(),
        ..SyncOptions::default()
    }
}

fn force() -> SyncOptions {
    SyncOptions {
        force: true,
        ..SyncOptions::default()
    }
}

fn send(from: &Repository, to: &Repository) -> SyncReport {
    from.send(to, &SyncOptions::default()).unwrap()
}

/// What became of each ref, by name.
fn fates(report: &SyncReport) -> BTreeMap<String, What> {
    let refs = report.refs.iter();
    refs.map(|r| (r.name.replace("models/", ""), r.what))
        .collect()
}

fn fate(report: &SyncReport) -> What {
    let fates = fates(report);
    assert_eq!(fates.len(), 1, "{fates:?}");
    fates.into_values().next().unwrap()
}

/// Puts one file of noise on a branch.
fn put(scratch: &Scratch, repo: &Repository, to: &str, seed: u64) {
    let folder = scratch.files(&format!("in{seed}"), &[("weights", noise(200_000, seed))]);
    add(repo, &folder, to);
}

fn assert_equal(a: &Repository, b: &Repository) {
    assert_eq!(a.refs().unwrap().refs, b.refs().unwrap().refs);
    let check = b.check_all().unwrap();
    assert!(check.is_clean() && check.remarks.is_empty(), "{check:?}");
}

/// Two names, versions that are differences, a tag, a folder of many pages.
fn content(scratch: &Scratch, repo: &Repository) {
    for steps in 0..3 {
        let files = [
            ("m.safetensors", model("w", steps)),
            ("note", noise(70, steps)),
        ];
        add(repo, &scratch.files("m", &files), "acme/m");
    }
    repo.create_tag(&target("acme/m"), "v1").unwrap();
    let many: Vec<(String, Vec<u8>)> = (0..1500u64)
        .map(|n| (format!("d{}/f{n}", n % 3), n.to_le_bytes().to_vec()))
        .collect();
    let many: Vec<(&str, Vec<u8>)> = many.iter().map(|(n, b)| (n.as_str(), b.clone())).collect();
    add(repo, &scratch.files("many", &many), "trees/many");
}

#[test]
fn everything_arrives_once_and_nothing_is_sent_again() {
    let scratch = Scratch::new();
    let a = scratch.init_at("a", plain());
    let b = scratch.init_at("b", plain());
    content(&scratch, &a);
    let dry = SyncOptions {
        dry_run: true,
        ..SyncOptions::default()
    };
    let would = a.send(&b, &dry).unwrap();
    assert!(b.refs().unwrap().refs.is_empty(), "nothing was written");
    let first = send(&a, &b);
    assert_eq!(
        fates(&first).into_values().collect::<Vec<_>>(),
        [What::Created; 3]
    );
    assert_eq!(
        (would.chunks, would.bytes),
        (first.chunks, first.bytes),
        "{would:?} {first:?}"
    );
    assert_equal(&a, &b);
    let (size_a, size_b) = (a.facts().unwrap().pack_bytes, b.facts().unwrap().pack_bytes);
    assert!(
        size_b < size_a + size_a / 10,
        "nothing is coded again: {size_a} {size_b}"
    );
    assert_eq!(
        scratch.restore(&b, "trees/many"),
        read_tree(&scratch.path("many"))
    );
    let again = send(&a, &b);
    assert_eq!((again.chunks, again.same, again.refs.len()), (0, 3, 0));
    // One file more: its chunk, its object, pages of folders, a snapshot.
    add(
        &a,
        &scratch.files("more", &[("d1/new", noise(50_000, 1))]),
        "trees/many",
    );
    let more = send(&a, &b);
    assert_eq!(fate(&more), What::Moved);
    assert!((5..=8).contains(&more.chunks), "{more:?}");
    assert!(more.bytes < 150_000, "{more:?}");
    assert_equal(&a, &b);
    // Back: there is nothing.
    assert_eq!(send(&b, &a).chunks, 0);
}

#[test]
fn branches_move_forward_only() {
    let scratch = Scratch::new();
    let a = scratch.init_at("a", plain());
    let b = scratch.init_at("b", plain());
    put(&scratch, &a, "acme/m", 1);
    send(&a, &b);
    put(&scratch, &b, "acme/m", 2);
    let ahead = send(&a, &b);
    assert_eq!((fate(&ahead), ahead.chunks), (What::Ahead, 0));
    assert!(ahead.is_complete());
    put(&scratch, &a, "acme/m", 3);
    let before = b.refs().unwrap();
    for (from, to) in [(&a, &b), (&b, &a)] {
        let report = send(from, to);
        assert_eq!((fate(&report), report.chunks), (What::Diverged, 0));
        assert!(!report.is_complete());
    }
    assert_eq!(b.refs().unwrap().seq, before.seq);
    assert_eq!(fate(&a.send(&b, &force()).unwrap()), What::Forced);
    assert_equal(&a, &b);
    b.undo().unwrap();
    assert_eq!(b.refs().unwrap().refs, before.refs);
}

#[test]
fn tags_stay_where_they_are() {
    let scratch = Scratch::new();
    let a = scratch.init_at("a", plain());
    let b = scratch.init_at("b", plain());
    put(&scratch, &a, "acme/m", 1);
    a.create_tag(&target("acme/m"), "v1").unwrap();
    send(&a, &b);
    put(&scratch, &a, "acme/m", 2);
    let tag = RefName::tag("acme/m".parse().unwrap(), "v1").unwrap();
    a.remove_ref(tag).unwrap();
    a.create_tag(&target("acme/m"), "v1").unwrap();
    let report = send(&a, &b);
    let expected = [
        ("acme/m@heads/main".to_owned(), What::Moved),
        ("acme/m@tags/v1".to_owned(), What::Diverged),
    ];
    assert_eq!(fates(&report), BTreeMap::from(expected));
    assert_eq!(fate(&a.send(&b, &force()).unwrap()), What::Forced);
    assert_equal(&a, &b);
}

#[test]
fn only_what_was_asked_for_is_sent() {
    let scratch = Scratch::new();
    let a = scratch.init_at("a", plain());
    let b = scratch.init_at("b", plain());
    // One add, so that all of it lies in one pack.
    let files = [("secret", noise(300_000, 1)), ("public", noise(300_000, 2))];
    add(&a, &scratch.files("in", &files), "acme/both");
    add(
        &a,
        &scratch.files("one", &[("public", noise(300_000, 2))]),
        "acme/public",
    );
    a.create_branch(&target("acme/public"), "other").unwrap();
    let report = a.send(&b, &only(&["acme/public@main"])).unwrap();
    assert_eq!(fate(&report), What::Created);
    assert_eq!(b.refs().unwrap().refs.len(), 1);
    let size = b.facts().unwrap().pack_bytes;
    assert!(
        (300_000..400_000).contains(&size),
        "the secret stays: {size}"
    );
    assert!(b.check_all().unwrap().is_clean());
    a.send(&b, &only(&["acme/public"])).unwrap();
    assert_eq!(b.refs().unwrap().refs.len(), 2);
    for bad in ["acme/none", "acme/public@none"] {
        let error = a.send(&b, &only(&[bad])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
    let part = a.send(&b, &only(&["acme/public:public"])).unwrap_err();
    assert_eq!(part.kind(), ErrorKind::Invalid);
}

#[test]
fn refs_go_away_only_if_that_is_asked_for() {
    let scratch = Scratch::new();
    let a = scratch.init_at("a", plain());
    let b = scratch.init_at("b", plain());
    put(&scratch, &a, "acme/m", 1);
    put(&scratch, &b, "acme/m2", 2);
    put(&scratch, &b, "acme/m3", 3);
    send(&a, &b);
    assert_eq!(b.refs().unwrap().refs.len(), 3);
    let prune = SyncOptions {
        prune: true,
        ..only(&["acme/m2"])
    };
    assert_eq!(fate(&a.send(&b, &prune).unwrap()), What::Removed);
    assert_eq!(b.refs().unwrap().refs.len(), 2);
    let prune = SyncOptions {
        prune: true,
        ..SyncOptions::default()
    };
    a.send(&b, &prune).unwrap();
    assert_equal(&a, &b);
}

/// What was kept as a difference from a chunk of another name needs that chunk.
#[test]
fn bases_come_with_what_needs_them() {
    let scratch = Scratch::new();
    let a = scratch.init_at("a", plain());
    let b = scratch.init_at("b", plain());
    add(
        &a,
        &scratch.files("base", &[("m.safetensors", model("w", 0))]),
        "acme/base",
    );
    let options = AddOptions {
        base: Some(target("acme/base")),
        ..AddOptions::default()
    };
    let tuned = scratch.files("tuned", &[("m.safetensors", model("w", 2))]);
    let added = a.add(&[tuned], &target("acme/tuned"), &options).unwrap();
    assert!(
        added.new_stored * 3 < added.new_raw,
        "it is a difference: {added:?}"
    );
    a.send(&b, &only(&["acme/tuned"])).unwrap();
    assert!(b.check_all().unwrap().is_clean());
    assert_eq!(
        scratch.restore(&b, "acme/tuned")["m.safetensors"],
        model("w", 2)
    );
    // The base's own files are there already, but for what names them.
    let base = a.send(&b, &only(&["acme/base"])).unwrap();
    assert!(base.chunks <= 4, "{base:?}");
    assert_equal(&a, &b);
}

#[test]
fn between_sealed_and_open_everything_is_named_anew_and_back() {
    let scratch = Scratch::new();
    let open = scratch.init_at("open", plain());
    let one = scratch.init_at("one", sealed(1));
    let two = scratch.init_at("two", sealed(2));
    let back = scratch.init_at("back", plain());
    content(&scratch, &open);
    let dry = SyncOptions {
        dry_run: true,
        ..SyncOptions::default()
    };
    let would = open.send(&one, &dry).unwrap();
    let first = send(&open, &one);
    assert_eq!(
        (would.refs.len(), would.chunks, would.bytes),
        (3, first.chunks, first.bytes)
    );
    send(&one, &two);
    send(&two, &back);
    assert_equal(&open, &back);
    for repo in [&one, &two] {
        assert!(repo.check_all().unwrap().is_clean());
        assert_eq!(
            scratch.restore(repo, "acme/m")["m.safetensors"],
            model("w", 2)
        );
        assert_eq!(
            scratch.restore(repo, "trees/many"),
            read_tree(&scratch.path("many"))
        );
        assert_eq!(repo.log(&target("acme/m")).unwrap().count(), 3);
        let (there, here) = (repo.facts().unwrap(), open.facts().unwrap());
        assert!(
            there.pack_bytes < here.pack_bytes * 3 / 2,
            "nothing is coded again"
        );
    }
    assert_ne!(one.refs().unwrap().refs, two.refs().unwrap().refs);
    // Nothing new, then something, then something on each side.
    assert_eq!((send(&open, &one).chunks, send(&open, &one).same), (0, 3));
    put(&scratch, &open, "acme/m", 7);
    assert_eq!(fate(&send(&open, &one)), What::Moved);
    assert_eq!(fate(&send(&back, &one)), What::Ahead);
    put(&scratch, &back, "acme/m", 8);
    assert_eq!(fate(&send(&back, &one)), What::Diverged);
    assert_eq!(fate(&back.send(&one, &force()).unwrap()), What::Forced);
}

/// Clones of a sealed repository have the same keys: what is sealed is carried as it is.
#[test]
fn clones_of_a_sealed_repository_exchange_records() {
    let scratch = Scratch::new();
    let one = scratch.init_at("one", sealed(3));
    let two = scratch.init_at("two", sealed(3));
    content(&scratch, &one);
    send(&one, &two);
    assert_equal(&one, &two);
    assert_eq!(
        scratch.restore(&two, "acme/m")["m.safetensors"],
        model("w", 2)
    );
    assert_eq!(send(&one, &two).chunks, 0);
}

/// History whose files were given up stays what it is on the other side.
#[test]
fn snapshots_without_files_go_without_them() {
    let scratch = Scratch::new();
    let a = scratch.init_at("a", plain());
    let b = scratch.init_at("b", plain());
    for seed in 1..=4 {
        put(&scratch, &a, "acme/m", seed);
    }
    let options = GcOptions {
        grace_ms: 0,
        undo_ms: 0,
        ..GcOptions::default()
    };
    let keep: Keep = "last:2".parse().unwrap();
    for _ in 0..2 {
        a.gc(&keep, &options).unwrap();
    }
    send(&a, &b);
    assert_equal(&a, &b);
    assert_eq!(b.log(&target("acme/m")).unwrap().count(), 4);
    let size = b.facts().unwrap().pack_bytes;
    assert!(size < 500_000, "two versions: {size}");
}

fn packs(root: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for shelf in fs::read_dir(root.join("mmh/packs")).unwrap() {
        for pack in fs::read_dir(shelf.unwrap().path()).unwrap() {
            all.push(pack.unwrap().path());
        }
    }
    all
}

/// Flips a bit far from both ends of a pack.
fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn damage_is_named_and_the_rest_is_sent() {
    for (options, other) in [
        (plain(), plain()),
        (plain(), sealed(1)),
        (sealed(1), sealed(1)),
    ] {
        let scratch = Scratch::new();
        let without_parity = InitOptions {
            parity: 0,
            ..options
        };
        let a = scratch.init_at("a", without_parity);
        let b = scratch.init_at("b", other);
        put(&scratch, &a, "acme/hit", 1);
        let pack = packs(&scratch.path("a")).pop().unwrap();
        put(&scratch, &a, "acme/fine", 2);
        flip(&pack, 100_000);
        let report = send(&a, &b);
        let expected = [
            ("acme/fine@heads/main".to_owned(), What::Created),
            ("acme/hit@heads/main".to_owned(), What::Damaged),
        ];
        assert_eq!(fates(&report), BTreeMap::from(expected));
        let hit: Vec<&str> = report.findings.iter().map(|f| f.target.as_str()).collect();
        assert_eq!(hit, ["models/acme/hit@heads/main:weights"]);
        assert_eq!(b.refs().unwrap().refs.len(), 1);
        assert!(b.check_all().unwrap().is_clean());
        assert_eq!(
            scratch.restore(&b, "acme/fine")["weights"],
            noise(200_000, 2)
        );
    }
}

/// With parity the same damage is healed on the way.
#[test]
fn what_can_be_healed_arrives_whole() {
    for options in [plain(), sealed(1)] {
        let scratch = Scratch::new();
        let a = scratch.init_at("a", options.clone());
        let b = scratch.init_at("b", options);
        put(&scratch, &a, "acme/m", 1);
        flip(&packs(&scratch.path("a"))[0], 100_000);
        send(&a, &b);
        assert_equal(&a, &b);
    }
}

#[test]
fn neither_side_may_be_an_archive() {
    let scratch = Scratch::new();
    let a = scratch.init_at("a", plain());
    let input = scratch.files("in", &[("x", noise(100, 1))]);
    let out = scratch.path("x.mmh");
    mmh_repo::pack(
        &input,
        &out,
        &mmh_repo::PackOptions::default(),
        crate::scratch::settings(),
        scratch.components(),
    )
    .unwrap();
    let archive =
        Repository::open_archive(&out, crate::scratch::settings(), scratch.components()).unwrap();
    for (from, to) in [(&a, &archive), (&archive, &a)] {
        let error = from.send(to, &SyncOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
    }
}

/// A clock that is hours ahead, and more so each time it is asked: no lease protects anybody.
#[derive(Debug, Default)]
struct Ahead(AtomicU64);

impl Clock for Ahead {
    fn now_ms(&self) -> u64 {
        let hours = 3 + self.0.fetch_add(3, Ordering::SeqCst);
        SystemClock.now_ms() + hours * 60 * 60 * 1000
    }
}

/// Writers and collectors are at work on both sides meanwhile: what a ref names is whole at the
/// end, and everything arrives.
#[test]
fn others_are_at_work_on_both_sides() {
    const ROUNDS: u64 = 5;
    let scratch = Scratch::new();
    for name in ["a", "b"] {
        drop(scratch.init_at(name, plain()));
    }
    let scratch = &scratch;
    let open = |name: &str| scratch.open_at(name, scratch.components());
    let collect = |name: &str| {
        let components = Components {
            clock: Arc::new(Ahead::default()),
            ..scratch.components()
        };
        let repo = scratch.open_at(name, components);
        let options = GcOptions {
            grace_ms: 0,
            undo_ms: 0,
            ..GcOptions::default()
        };
        for _ in 0..2 * ROUNDS {
            // Another may have been faster.
            let done = repo.gc(&Keep::default(), &options);
            assert!(done.map_or_else(|e| e.kind() == ErrorKind::Conflict, |_| true));
        }
    };
    let write = |name: &str| {
        let repo = open(name);
        let give = |to: &str, seed: u64| {
            let files = [("weights", noise(200_000, seed))];
            let folder = scratch.files(&format!("{name}-{seed}"), &files);
            let options = AddOptions::default();
            // Collected again and again, at worst.
            while let Err(error) = repo.add(std::slice::from_ref(&folder), &target(to), &options) {
                assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
            }
        };
        for seed in 0..ROUNDS {
            // The same on both sides, then something of its own; what was first is garbage soon.
            give("acme/both", seed);
            give(&format!("acme/{name}{seed}"), 100 + seed);
            let removed = repo.remove(&target("acme/both")).map_err(|e| e.kind());
            // The other side may move or remove it too.
            let raced = [ErrorKind::Conflict, ErrorKind::NotFound];
            assert!(removed.map_or_else(|kind| raced.contains(&kind), |_| true));
        }
    };
    std::thread::scope(|scope| {
        for name in ["a", "b"] {
            scope.spawn(move || collect(name));
            scope.spawn(move || write(name));
        }
        let (a, b) = (open("a"), open("b"));
        for _ in 0..ROUNDS {
            for (from, to) in [(&a, &b), (&b, &a)] {
                match from.send(to, &SyncOptions::default()) {
                    Ok(report) => assert_eq!(report.findings, []),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                }
            }
        }
    });
    let (a, b) = (open("a"), open("b"));
    send(&a, &b);
    send(&b, &a);
    for repo in [&a, &b] {
        let check = repo.check_all().unwrap();
        assert!(check.is_clean(), "{check:?}");
        for name in ["a", "b"] {
            for seed in 0..ROUNDS {
                let what = format!("acme/{name}{seed}");
                assert_eq!(
                    scratch.restore(repo, &what)["weights"],
                    noise(200_000, 100 + seed)
                );
            }
        }
    }
}

/// A snapshot that no ref names any more can still be sent.
#[test]
fn an_older_snapshot_may_get_a_name() {
    let scratch = Scratch::new();
    let a = scratch.init_at("a", plain());
    let b = scratch.init_at("b", plain());
    put(&scratch, &a, "acme/m", 1);
    let old = a.resolve(&target("acme/m")).unwrap().id;
    put(&scratch, &a, "acme/m", 2);
    let branch = RefName::branch("acme/m".parse().unwrap(), "main").unwrap();
    let options = SyncOptions {
        at: vec![(branch, old)],
        ..SyncOptions::default()
    };
    assert_eq!(fate(&a.send(&b, &options).unwrap()), What::Created);
    assert_eq!(scratch.restore(&b, "acme/m")["weights"], noise(200_000, 1));
    assert!(b.facts().unwrap().pack_bytes < 250_000);
    assert_eq!(fate(&send(&a, &b)), What::Moved);
    assert_equal(&a, &b);
}
