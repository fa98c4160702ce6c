//! Checks: which place is named for what is missing, in every form that a target can have.

use mmh_core::object::{ChunkRef, Segment, Segments};
use mmh_core::tree::Node;
use mmh_core::{ChunkId, ErrorKind, FileId, SnapshotId, TreeId, name::RefName};
use mmh_repo::check::Finding;
use mmh_repo::{CheckReport, Components, Repository};

use crate::forge::{Forger, plain, segment};
use crate::scratch::{Scratch, add, noise, target};

fn places(report: &CheckReport) -> Vec<&str> {
    report.findings.iter().map(|f| f.target.as_str()).collect()
}

/// One folder `sub` with a good file, one whose chunk is missing, a link, and a lost folder.
fn broken(scratch: &Scratch) -> Repository {
    let forger = Forger::new(scratch);
    let lost = segment(&[ChunkId::of(b"never written")], 13);
    let lost = forger.whole_file(13, b"never written", Segments::Inline(vec![lost]));
    let link = Node::Link {
        target: "bad".to_owned(),
    };
    let sub = forger.dir(vec![
        ("bad", plain(lost, 13)),
        ("good", plain(forger.file(b"fine", b"fine"), 4)),
        ("link", link),
    ]);
    let gone = TreeId::of(b"no such folder");
    let root = forger.dir(vec![
        ("gone", Node::Dir { id: gone }),
        ("sub", Node::Dir { id: sub }),
    ]);
    forger.finish(&[("acme/m", root)], scratch.components())
}

/// A finding names the target as the user wrote it, with the path that is hit.
#[test]
fn findings_are_named_as_the_user_would() {
    let scratch = Scratch::new();
    let repo = broken(&scratch);
    for (what, expected) in [
        ("acme/m", vec!["acme/m:gone/", "acme/m:sub/bad"]),
        (
            "acme/m@main",
            vec!["acme/m@main:gone/", "acme/m@main:sub/bad"],
        ),
        ("acme/m:sub", vec!["acme/m:sub/bad"]),
        ("acme/m:sub/bad", vec!["acme/m:sub/bad"]),
        ("acme/m:sub/good", vec![]),
        ("acme/m:sub/link", vec![]),
        ("acme/m:gone", vec!["acme/m:gone/"]),
    ] {
        let report = repo.check_targets(&[target(what)]).unwrap();
        assert_eq!(places(&report), expected, "{what}");
        assert_eq!(report.is_clean(), expected.is_empty());
    }
    let all = repo.check_all().unwrap();
    let full = [
        "models/acme/m@heads/main:gone/",
        "models/acme/m@heads/main:sub/bad",
    ];
    assert_eq!(places(&all), full);
    assert!(
        all.findings
            .iter()
            .all(|f| f.problem.contains("not in the store") || f.problem.contains("missing")),
        "{:?}",
        all.findings
    );
}

#[test]
fn what_is_not_there_cannot_be_checked() {
    let scratch = Scratch::new();
    let repo = broken(&scratch);
    for what in [
        "acme/none",
        "acme/m@none",
        "acme/m:sub/none",
        "acme/m:sub/good/x",
    ] {
        let error = repo.check_targets(&[target(what)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{what}: {error}");
    }
}

/// Several targets that overlap are read once, and each is told of what hits it first.
#[test]
fn each_chunk_is_read_once_for_all_targets() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let folder = scratch.files("in", &[("a", noise(40_000, 1)), ("b", noise(40_000, 1))]);
    add(&repo, &folder, "acme/m");
    add(&repo, &folder, "acme/n");
    let targets = ["acme/m", "acme/n", "acme/m:a", "acme/m:b"].map(target);
    let report = repo.check_targets(&targets).unwrap();
    assert!(report.is_clean());
    assert_eq!(report.files, 1, "both names have one content");
    let objects = report.bytes - 40_000;
    assert!(objects < 1000, "{objects} bytes beside the content");
}

/// More chunks than are read at once: the damaged one is found in whichever round it falls.
#[test]
fn long_files_are_read_in_rounds() {
    let scratch = Scratch::new();
    let forger = Forger::new(&scratch);
    let mut chunks: Vec<ChunkId> = (0..2500u32)
        .map(|i| forger.bytes(&i.to_le_bytes()))
        .collect();
    let whole = |chunks: &[ChunkId]| {
        let segments = Segments::Inline(vec![segment(chunks, 4)]);
        forger.whole_file(4 * chunks.len() as u64, b"", segments)
    };
    let good = whole(&chunks);
    let lost = [0usize, 1024, 2499].map(|at| {
        let kept = std::mem::replace(&mut chunks[at], ChunkId::of(b"lost"));
        let id = whole(&chunks);
        chunks[at] = kept;
        id
    });
    let mut entries = vec![("good", plain(good, 10_000))];
    entries.extend(
        ["first", "last", "middle"]
            .into_iter()
            .zip(lost)
            .map(|(n, id)| (n, plain(id, 10_000))),
    );
    entries.sort_by_key(|(name, _)| *name);
    let root = forger.dir(entries);
    let repo = forger.finish(&[("acme/m", root)], scratch.components());
    for report in [
        repo.check_targets(&[target("acme/m")]).unwrap(),
        repo.check_all().unwrap(),
    ] {
        let hit: Vec<_> = places(&report)
            .iter()
            .map(|p| p.rsplit(':').next().unwrap())
            .collect();
        assert_eq!(hit, ["first", "last", "middle"]);
    }
}

/// Every file that wants a missing chunk is named, whatever else it wants.
#[test]
fn a_missing_chunk_is_reported_for_each_file_that_wants_it() {
    let scratch = Scratch::new();
    let forger = Forger::new(&scratch);
    let lost = ChunkId::of(b"lost");
    let names: Vec<String> = (0..12).map(|i| format!("f{i:02}")).collect();
    let entry = |name: &String| -> (FileId, u64) {
        let own = forger.bytes(name.as_bytes());
        let chunks = vec![
            ChunkRef(own, 0, 3),
            ChunkRef(lost, 0, 4),
            ChunkRef(lost, 0, 2),
        ];
        let segment = Segment {
            len: 9,
            tensors: Vec::new(),
            chunks,
        };
        (
            forger.whole_file(9, b"", Segments::Inline(vec![segment])),
            9,
        )
    };
    let nodes: Vec<_> = names.iter().map(entry).collect();
    let entries = names
        .iter()
        .zip(nodes)
        .map(|(n, (id, size))| (n.as_str(), plain(id, size)));
    let root = forger.dir(entries.collect());
    let repo = forger.finish(&[("acme/m", root)], scratch.components());
    for report in [
        repo.check_targets(&[target("acme/m")]).unwrap(),
        repo.check_all().unwrap(),
    ] {
        assert_eq!(report.findings.len(), 12, "{:?}", places(&report));
        assert!(
            report
                .findings
                .iter()
                .all(|f| f.problem.contains(&lost.to_string()))
        );
    }
}

/// A lost ancestor is a finding of the whole check; the name itself is whole.
#[test]
fn a_lost_snapshot_of_the_history_is_found() {
    let scratch = Scratch::new();
    let forger = Forger::new(&scratch);
    let root = forger.dir(vec![("f", plain(forger.file(b"x", b"x"), 1))]);
    let lost = SnapshotId::of(b"lost");
    let middle = forger.snapshot(root, &[lost], 1);
    let tip = forger.snapshot(root, &[middle], 2);
    let name = RefName::branch("acme/m".parse().unwrap(), "main").unwrap();
    let repo = forger.finish_refs(&[(name, tip)], scratch.components());
    assert!(repo.check_targets(&[target("acme/m")]).unwrap().is_clean());
    let report = repo.check_all().unwrap();
    let place = format!("models/acme/m@heads/main (history, {lost})");
    assert!(!report.is_clean());
    assert!(
        places(&report).iter().all(|p| *p == place),
        "{:?}",
        report.findings
    );
    assert_eq!(report.snapshots, 3);
    let error = repo
        .log(&target("acme/m"))
        .unwrap()
        .find_map(Result::err)
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

/// A check that is stopped says so; it does not call what it did not read clean.
#[test]
fn a_check_that_is_stopped_has_no_result() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    add(
        &repo,
        &scratch.files("in", &[("a", noise(1000, 1))]),
        "acme/m",
    );
    let components: Components = scratch.components();
    let cancel = components.cancel.clone();
    let repo = scratch.open_with(components);
    cancel.cancel();
    assert!(repo.check_all().unwrap_err().is_cancelled());
    assert!(
        repo.check_targets(&[target("acme/m")])
            .unwrap_err()
            .is_cancelled()
    );
}

/// Reports are compared by scripts: findings come in order of place, each once.
#[test]
fn findings_are_ordered_and_distinct() {
    let scratch = Scratch::new();
    let repo = broken(&scratch);
    let targets = ["acme/m:sub", "acme/m", "acme/m:sub/bad", "acme/m"].map(target);
    let findings: Vec<Finding> = repo.check_targets(&targets).unwrap().findings;
    assert!(findings.is_sorted_by(|a, b| a < b), "{findings:?}");
}
