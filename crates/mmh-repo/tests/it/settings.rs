//! What a user may set, and how many threads there are, must not show in what comes back.

use std::sync::Arc;

use mmh_core::ErrorKind;
use mmh_core::ports::FixedClock;
use mmh_core::{Dtype, limits};
use mmh_formats::samples::{SampleTensor, npy, safetensors};
use mmh_repo::{AddOptions, Backend, Components, Level, Repository, Settings};

use crate::scratch::{Scratch, add, noise, read_tree, settings, target};

fn components(scratch: &Scratch, threads: usize) -> Components {
    let pool = rayon_pool(threads);
    Components {
        pool,
        clock: Arc::new(FixedClock(1_700_000_000_000)),
        ..scratch.components()
    }
}

fn rayon_pool(threads: usize) -> Arc<rayon::ThreadPool> {
    Arc::new(
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap(),
    )
}

fn folder(scratch: &Scratch) -> std::path::PathBuf {
    let tensors: Vec<_> = (0u64..60)
        .map(|i| SampleTensor::new(&format!("t{i}"), Dtype::F32, &[1 + i * 40, 9]))
        .collect();
    scratch.files(
        "in",
        &[
            ("m.safetensors", safetensors::file(&tensors)),
            ("m.npz", npy::npz(&tensors)),
            ("large", noise(6_000_000, 1)),
            ("text/a.txt", "word ".repeat(5000).into_bytes()),
        ],
    )
}

/// One tree has one id, by whatever machine it was added.
#[test]
fn ids_do_not_depend_on_the_number_of_threads() {
    let mut ids = Vec::new();
    for threads in [1, 2, 7] {
        let scratch = Scratch::new();
        let backend = Backend::local(scratch.path("repo")).unwrap();
        let repo = Repository::init(backend, settings(), components(&scratch, threads)).unwrap();
        let report = repo
            .add(
                &[folder(&scratch)],
                &target("acme/m"),
                &AddOptions {
                    message: Some("the same".to_owned()),
                    ..AddOptions::default()
                },
            )
            .unwrap();
        let facts = repo.facts().unwrap();
        ids.push((
            report.snapshot,
            report.new_raw,
            report.new_stored,
            facts.chunks,
        ));
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[0], ids[2]);
}

/// Levels are effort: each is read by all, and what one has stored the next does not store again.
#[test]
fn every_level_stores_the_same_files() {
    let scratch = Scratch::new();
    scratch.init();
    let tensors = [SampleTensor::new("w", Dtype::BF16, &[50, 400])];
    let files = [
        ("m.safetensors", safetensors::file(&tensors)),
        ("t", b"text ".repeat(500)),
    ];
    let folder = scratch.files("in", &files);
    let mut first = true;
    for level in Level::ALL {
        for verify_encode in [true, false] {
            let settings = Settings {
                level,
                verify_encode,
                ..settings()
            };
            let backend = Backend::local(scratch.path("repo")).unwrap();
            let repo = Repository::open(backend, settings.clone(), scratch.components()).unwrap();
            let name = format!("acme/{level}-{verify_encode}");
            let report = add(&repo, &folder, &name);
            assert_eq!(report.new_raw > 0, first, "{name}");
            first = false;
            assert_eq!(scratch.restore(&repo, &name), read_tree(&folder));
            let own = Scratch::new();
            let backend = Backend::local(own.path("repo")).unwrap();
            let repo = Repository::init(backend, settings, own.components()).unwrap();
            add(&repo, &folder, &name);
            assert_eq!(own.restore(&repo, &name), read_tree(&folder));
        }
    }
}

/// Author, time and message are those that were given; a default names what was added.
#[test]
fn snapshots_say_who_when_and_what() {
    let scratch = Scratch::new();
    scratch.init();
    let repo = scratch.open_with(components(&scratch, 1));
    let folder = scratch.files(
        "in",
        &[
            ("a", vec![1]),
            ("b", vec![2]),
            ("c", vec![3]),
            ("d", vec![4]),
        ],
    );
    let add = |names: &[&str], message: Option<&str>| {
        let paths: Vec<_> = names.iter().map(|n| folder.join(n)).collect();
        let options = AddOptions {
            message: message.map(str::to_owned),
            replace: true,
            ..AddOptions::default()
        };
        repo.add(&paths, &target("acme/m"), &options).unwrap();
        repo.resolve(&target("acme/m")).unwrap().snapshot
    };
    let snapshot = add(&["a"], Some("why"));
    assert_eq!(snapshot.message, "why");
    assert_eq!(snapshot.author, "a tester");
    assert_eq!(snapshot.time_ms, 1_700_000_000_000);
    assert!(snapshot.parents.is_empty());
    assert_eq!(add(&["a", "b"], None).message, "Add a, b");
    assert_eq!(add(&["a", "b", "c"], None).message, "Add a, b, c");
    let last = add(&["a", "b", "c", "d"], None);
    assert_eq!(last.message, "Add a, b, c and 1 more");
    assert_eq!(last.parents.len(), 1);
}

/// Texts beyond the limits of objects are refused, and the branch stays where it was.
#[test]
fn texts_beyond_their_limits_are_refused() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let folder = scratch.files("in", &[("a", vec![1])]);
    let add = |len| {
        let options = AddOptions {
            message: Some("x".repeat(len)),
            ..AddOptions::default()
        };
        repo.add(std::slice::from_ref(&folder), &target("acme/m"), &options)
    };
    let error = add(limits::MESSAGE_LEN_MAX + 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(repo.names().unwrap().is_empty());
    add(limits::MESSAGE_LEN_MAX).unwrap();
    let long = Settings {
        author: "x".repeat(limits::NAME_LEN_MAX + 1),
        ..settings()
    };
    let backend = Backend::local(scratch.path("repo")).unwrap();
    let repo = Repository::open(backend, long, scratch.components()).unwrap();
    let more = scratch.files("more", &[("b", vec![2])]);
    let error = repo
        .add(&[more], &target("acme/m"), &AddOptions::default())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert_eq!(repo.refs().unwrap().seq, 1);
}

/// With `replace` the branch becomes what is added, be it nothing at all.
#[test]
fn replacing_by_nothing_empties_the_branch() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    add(&repo, &scratch.files("in", &[("a", vec![1])]), "acme/m");
    std::fs::create_dir(scratch.path("void")).unwrap();
    let options = AddOptions {
        replace: true,
        ..AddOptions::default()
    };
    let replace = || {
        repo.add(&[scratch.path("void")], &target("acme/m"), &options)
            .unwrap()
    };
    assert!(replace().changed);
    assert!(repo.list(&target("acme/m"), true).unwrap().is_empty());
    assert!(!replace().changed, "a second time changes nothing");
    assert_eq!(repo.log(&target("acme/m")).unwrap().count(), 2);
}
