//! Garbage collection of a repository: names, history, undo, and what rules give up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mmh_core::ErrorKind;
use mmh_core::ports::Clock;
use mmh_repo::{AddOptions, GcOptions, GcReport, Keep, Repository};

use crate::scratch::{Scratch, add, noise, target};

const HOUR: u64 = 60 * 60 * 1000;

/// A clock that tests turn.
#[derive(Debug, Clone)]
struct Turned(Arc<AtomicU64>);

impl Clock for Turned {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

struct Place {
    scratch: Scratch,
    clock: Turned,
}

impl Place {
    fn new() -> Self {
        let scratch = Scratch::new();
        drop(scratch.init());
        let clock = Turned(Arc::new(AtomicU64::new(1_700_000_000_000)));
        Self { scratch, clock }
    }

    fn open(&self) -> Repository {
        let mut components = self.scratch.components();
        components.clock = Arc::new(self.clock.clone());
        self.scratch.open_with(components)
    }

    fn turn(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
    }

    /// Puts one file of noise on a branch; returns the snapshot.
    fn put(&self, repo: &Repository, to: &str, seed: u64) -> String {
        let folder = format!("in{seed}");
        let bytes = noise(200_000, seed);
        let path = self.scratch.files(&folder, &[("weights", bytes)]);
        add(repo, &path, to).snapshot
    }

    fn has(&self, repo: &Repository, what: &str, seed: u64) -> bool {
        self.scratch.restore(repo, what)["weights"] == noise(200_000, seed)
    }
}

fn at_once() -> GcOptions {
    GcOptions {
        grace_ms: 0,
        undo_ms: 0,
        ..GcOptions::default()
    }
}

fn gc(repo: &Repository, keep: &str) -> GcReport {
    repo.gc(&keep.parse::<Keep>().unwrap(), &at_once()).unwrap()
}

/// Two runs, so far apart that no lease is in the way.
fn gc_twice(place: &Place, repo: &Repository, keep: &str) -> [GcReport; 2] {
    let first = gc(repo, keep);
    place.turn(3 * HOUR);
    [first, gc(repo, keep)]
}

#[test]
fn a_removed_name_gives_its_space_back_and_others_stay() {
    let place = Place::new();
    let repo = place.open();
    place.put(&repo, "acme/gone", 1);
    place.put(&repo, "acme/here", 2);
    repo.create_tag(&target("acme/here"), "v1").unwrap();
    repo.remove(&target("acme/gone")).unwrap();
    // Until the time of undoing is over, nothing goes.
    let report = repo.gc(&Keep::default(), &GcOptions::default()).unwrap();
    assert_eq!((report.buried_packs, report.deleted_packs), (0, 0));
    repo.undo().unwrap();
    assert!(place.has(&repo, "acme/gone", 1));
    repo.remove(&target("acme/gone")).unwrap();
    let [first, second] = gc_twice(&place, &repo, "all");
    assert!(first.buried_bytes > 200_000, "{first:?}");
    assert_eq!(second.deleted_bytes, first.buried_bytes);
    assert!(repo.facts().unwrap().pack_bytes < 250_000);
    assert!(place.has(&repo, "acme/here", 2) && place.has(&repo, "acme/here@v1", 2));
    let check = place.open().check_all().unwrap();
    assert!(check.is_clean() && check.remarks.is_empty(), "{check:?}");
}

#[test]
fn what_was_collected_cannot_be_undone_and_that_is_said() {
    let place = Place::new();
    let repo = place.open();
    place.put(&repo, "acme/m", 1);
    place.put(&repo, "acme/n", 2);
    repo.remove(&target("acme/m")).unwrap();
    gc_twice(&place, &repo, "all");
    let error = repo.undo().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error.to_string().contains("operation 3 cannot be undone"),
        "{error}"
    );
    assert!(repo.undo_operation(2).is_err());
    // The collection itself cannot be taken back either.
    assert_eq!(
        repo.undo_operation(4).unwrap_err().kind(),
        ErrorKind::Invalid
    );
    assert_eq!(
        repo.undo_operation(99).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    place.put(&repo, "acme/n", 3);
    assert_eq!(repo.undo().unwrap().undoes, Some(5));
    assert!(place.has(&repo, "acme/n", 2));
}

#[test]
fn an_operation_is_undone_by_its_number() {
    let place = Place::new();
    let repo = place.open();
    place.put(&repo, "acme/a", 1);
    place.put(&repo, "acme/b", 2);
    assert_eq!(repo.undo_operation(1).unwrap().undoes, Some(1));
    assert_eq!(repo.names().unwrap().len(), 1);
    for again in [1, 3] {
        let error = repo.undo_operation(again).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    // What it changed has changed since.
    place.put(&repo, "acme/b", 3);
    let error = repo.undo_operation(2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

/// Old versions give up their files; what they say of themselves stays, and nothing takes it for
/// damage.
#[test]
fn history_that_is_not_kept_keeps_its_names() {
    let place = Place::new();
    let repo = place.open();
    let snapshots: Vec<String> = (0..6)
        .map(|n| {
            place.turn(24 * HOUR);
            let snapshot = place.put(&repo, "acme/m", n);
            if n == 1 {
                repo.create_tag(&target("acme/m"), "v1").unwrap();
            }
            snapshot
        })
        .collect();
    let at = |n: usize| format!("acme/m@{}", snapshots[n]);
    place.turn(3 * HOUR);
    let [first, second] = gc_twice(&place, &repo, "last:2");
    assert_eq!((first.pruned_snapshots, second.pruned_snapshots), (3, 0));
    assert!(second.deleted_bytes > 3 * 200_000, "{second:?}");
    let fresh = place.open();
    assert_eq!(fresh.log(&target("acme/m")).unwrap().count(), 6);
    for (n, kept) in [false, true, false, false, true, true]
        .into_iter()
        .enumerate()
    {
        if kept {
            assert!(place.has(&fresh, &at(n), n as u64), "{n}");
        } else {
            let error = fresh.node(&target(&at(n))).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{n}: {error}");
            assert!(error.to_string().contains("given up"), "{n}: {error}");
        }
    }
    assert!(place.has(&fresh, "acme/m@v1", 1));
    let check = fresh.check_all().unwrap();
    assert!(check.is_clean(), "{:?}", check.findings);
    assert_eq!(check.snapshots, 6);
    // A rule that keeps more brings nothing back, and does no harm.
    let third = gc(&fresh, "all");
    assert_eq!((third.buried_packs, third.pruned_snapshots), (0, 0));
    // Without its tag a snapshot goes the way of the others.
    fresh.remove(&target("acme/m@v1")).unwrap();
    gc_twice(&place, &fresh, "last:2");
    assert!(fresh.node(&target(&at(1))).is_err());
    assert!(place.open().check_all().unwrap().is_clean());
}

/// A fine-tune is kept as a difference: its base stays although no name reaches it.
#[test]
fn bases_of_differences_stay() {
    let place = Place::new();
    let repo = place.open();
    let weights = |step: u16| -> Vec<u8> {
        let numbers = noise(400_000, 7);
        let numbers = numbers.chunks_exact(2).map(|b| {
            let number = 0x3c00 + u16::from(b[0]);
            number + if u16::from(b[1]) < 20 * step { 1 } else { 0 }
        });
        numbers.flat_map(u16::to_le_bytes).collect()
    };
    let file = |step: u16| {
        let header = br#"{"w":{"dtype":"BF16","shape":[200000],"data_offsets":[0,400000]}}"#;
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header);
        bytes.extend(weights(step));
        bytes
    };
    let base = place.scratch.files("base", &[("m.safetensors", file(0))]);
    let tuned = place.scratch.files("tuned", &[("m.safetensors", file(1))]);
    add(&repo, &base, "acme/base");
    let options = AddOptions {
        base: Some(target("acme/base")),
        ..AddOptions::default()
    };
    let report = repo.add(&[tuned], &target("acme/tuned"), &options).unwrap();
    assert!(
        report.new_stored * 3 < report.raw,
        "it is a difference: {report:?}"
    );
    repo.remove(&target("acme/base")).unwrap();
    gc_twice(&place, &repo, "all");
    assert_eq!(
        place.scratch.restore(&place.open(), "acme/tuned")["m.safetensors"],
        file(1)
    );
    assert!(place.open().check_all().unwrap().is_clean());
    repo.remove(&target("acme/tuned")).unwrap();
    gc_twice(&place, &repo, "all");
    assert_eq!(repo.facts().unwrap().packs, 0);
}

/// What is damaged stops a collection, whatever it would have freed.
#[test]
fn damage_stops_a_collection() {
    let place = Place::new();
    let repo = place.open();
    place.put(&repo, "acme/gone", 1);
    place.put(&repo, "acme/here", 2);
    repo.remove(&target("acme/gone")).unwrap();
    let packs = place.scratch.path("repo/mmh/packs");
    let before = crate::scratch::read_tree(&packs);
    for (name, bytes) in &before {
        let path = packs.join(name);
        std::fs::remove_file(&path).unwrap();
        let fresh = place.open();
        let done = fresh.gc(&Keep::default(), &at_once());
        if let Err(error) = done {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        }
        std::fs::write(&path, bytes).unwrap();
    }
    gc_twice(&place, &place.open(), "all");
    assert!(place.has(&place.open(), "acme/here", 2));
}

#[test]
fn an_archive_has_nothing_to_collect() {
    let place = Place::new();
    let input = place.scratch.files("in", &[("a", vec![1])]);
    let output = place.scratch.path("m.mmh");
    let (settings, components) = (crate::scratch::settings(), place.scratch.components());
    mmh_repo::pack(
        &input,
        &output,
        &mmh_repo::PackOptions::default(),
        settings,
        components,
    )
    .unwrap();
    let (settings, components) = (crate::scratch::settings(), place.scratch.components());
    let archive = Repository::open_archive(&output, settings, components).unwrap();
    let error = archive.gc(&Keep::default(), &at_once()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
}
