//! Changes that come whole from a door: what they are put on, what they remove, copy and leave, and
//! files in pieces for those who wait between them.

use std::collections::{BTreeMap, BTreeSet};

use mmh_core::name::{RefName, RepoName};
use mmh_core::tree::Node;
use mmh_core::{ByteRange, ErrorKind, FileId, SnapshotId};
use mmh_repo::{Change, Onto, Repository};
use proptest::prelude::*;

use crate::scratch::{Scratch, add, target};

fn main_of(name: &str) -> RefName {
    RefName::branch(name.parse().unwrap(), "main").unwrap()
}

fn change(scratch: &Scratch, folder: &str, files: &[(&str, Vec<u8>)], onto: Onto) -> Change {
    Change {
        folder: Some(scratch.files(folder, files)),
        onto,
        message: format!("from {folder}"),
        author: Some("a door".to_owned()),
        ..Change::default()
    }
}

fn tip(repo: &Repository, name: &str) -> SnapshotId {
    repo.resolve(&target(name)).unwrap().id
}

fn kind(done: mmh_repo::Result<impl std::fmt::Debug>) -> ErrorKind {
    done.unwrap_err().kind()
}

#[test]
fn a_change_is_put_on_what_it_names_or_not_at_all() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let main = main_of("acme/m");
    let one = |folder: &str, byte: u8, onto| change(&scratch, folder, &[("a", vec![byte])], onto);
    assert_eq!(
        kind(repo.change(&main, &one("0", 0, Onto::Any))),
        ErrorKind::NotFound
    );
    let first = repo.change(&main, &one("1", 1, Onto::Nothing)).unwrap();
    let first: SnapshotId = first.snapshot.parse().unwrap();
    assert_eq!(
        kind(repo.change(&main, &one("2", 2, Onto::Nothing))),
        ErrorKind::Conflict
    );
    let second = repo
        .change(&main, &one("3", 3, Onto::Exactly(first)))
        .unwrap();
    assert!(second.changed);
    let late = repo.change(&main, &one("4", 4, Onto::Exactly(first)));
    assert_eq!(kind(late), ErrorKind::Conflict);
    assert_eq!(tip(&repo, "acme/m").to_string(), second.snapshot);
    let same = repo.change(&main, &one("5", 3, Onto::Any)).unwrap();
    assert_eq!((same.changed, same.snapshot), (false, second.snapshot));
    let said = repo.snapshot(first).unwrap();
    assert_eq!(
        (said.author.as_str(), said.message.as_str()),
        ("a door", "from 1")
    );
}

#[test]
fn a_change_adds_copies_and_removes_at_once() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let before = [("a", vec![1]), ("b/c", vec![2]), ("b/d", vec![3])];
    add(&repo, &scratch.files("in", &before), "acme/m");
    let found = repo.resolve(&target("acme/m")).unwrap();
    let node = repo.node_in(&found, "b/c").unwrap().unwrap();
    let mut change = change(&scratch, "more", &[("e", vec![4])], Onto::Exactly(found.id));
    change.placed = BTreeMap::from([("copy/c".to_owned(), node)]);
    change.removed = BTreeSet::from(["b".to_owned()]);
    repo.change(&main_of("acme/m"), &change).unwrap();
    let after = scratch.restore(&repo, "acme/m");
    let after: Vec<_> = after.iter().map(|(k, v)| (k.as_str(), v[0])).collect();
    assert_eq!(after, [("a", 1), ("copy/c", 2), ("e", 4)]);
    let listed = repo.list_in(&found, "b", true).unwrap().unwrap();
    let listed: Vec<_> = listed.iter().map(|l| l.path.as_str()).collect();
    assert_eq!(listed, ["b/c", "b/d"], "the old state is as it was");
    assert!(
        repo.list_in(&found, "a", false).unwrap().is_none(),
        "a file"
    );
    change.onto = Onto::Any;
    assert_eq!(
        kind(repo.change(&main_of("acme/m"), &change)),
        ErrorKind::NotFound
    );
    change.removed = BTreeSet::from(["../x".to_owned()]);
    assert_eq!(
        kind(repo.change(&main_of("acme/m"), &change)),
        ErrorKind::Invalid
    );
    change.removed.clear();
    change.message = "m".repeat((1 << 20) + 1);
    assert_eq!(
        kind(repo.change(&main_of("acme/m"), &change)),
        ErrorKind::Invalid
    );
}

#[test]
fn a_name_moves_with_all_it_has() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    add(&repo, &scratch.files("in", &[("a", vec![1])]), "acme/m");
    repo.create_tag(&target("acme/m"), "v1").unwrap();
    add(&repo, &scratch.files("on", &[("a", vec![2])]), "acme/other");
    let name = |text: &str| text.parse::<RepoName>().unwrap();
    let moved = |from: &str, to: &str| repo.rename(&name(from), &name(to));
    assert_eq!(kind(moved("acme/m", "acme/other")), ErrorKind::Conflict);
    assert_eq!(kind(moved("acme/none", "acme/new")), ErrorKind::NotFound);
    let id = tip(&repo, "acme/m");
    moved("acme/m", "acme/new").unwrap();
    assert_eq!(
        (tip(&repo, "acme/new"), tip(&repo, "acme/new@v1")),
        (id, id)
    );
    assert!(repo.tips(&name("acme/m")).unwrap().is_empty());
    repo.undo().unwrap();
    assert_eq!(tip(&repo, "acme/m"), id);
}

#[test]
fn a_squashed_branch_keeps_its_files_and_has_no_past() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    for n in 0..3 {
        add(&repo, &scratch.files("in", &[("a", vec![n])]), "acme/m");
    }
    let old = tip(&repo, "acme/m");
    let main = main_of("acme/m");
    repo.squash(&main, "all of it", Some("me")).unwrap();
    let new = repo.resolve(&target("acme/m")).unwrap();
    assert!(new.snapshot.parents.is_empty() && new.id != old);
    assert_eq!(scratch.restore(&repo, "acme/m")["a"], [2]);
    assert_eq!(new.snapshot.tree, repo.snapshot(old).unwrap().tree);
    let none = repo.squash(&main_of("acme/none"), "x", None);
    assert_eq!(kind(none), ErrorKind::NotFound);
    let known = repo.resolve_known(&main.repo, new.id).unwrap();
    assert_eq!(known.id, new.id);
}

/// A file of several chunks, and its id.
fn long_file() -> (Scratch, Repository, FileId, Vec<u8>) {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let bytes: Vec<u8> = (0..1_500_000u32)
        .flat_map(|n| n.wrapping_mul(n).to_le_bytes())
        .collect();
    add(
        &repo,
        &scratch.files("in", &[("f", bytes.clone())]),
        "acme/m",
    );
    let found = repo.resolve(&target("acme/m")).unwrap();
    match repo.node_in(&found, "f").unwrap() {
        Some(Node::File { id, .. }) => (scratch, repo, id, bytes),
        other => panic!("{other:?}"),
    }
}

#[test]
fn pieces_make_up_any_range() {
    let (_scratch, repo, id, bytes) = long_file();
    let len = bytes.len() as u64;
    let read = |range: ByteRange| {
        let (mut rest, mut all) = (range, Vec::new());
        while !rest.is_empty() {
            let listed = repo.pieces(id, rest)?;
            assert!(listed.rest.start > rest.start, "it goes on");
            rest = listed.rest;
            for piece in listed.pieces {
                let read = piece.read(&repo)?;
                assert_eq!(read.len(), piece.len() as usize);
                all.extend_from_slice(&read);
            }
        }
        mmh_repo::Result::Ok(all)
    };
    let beyond = ByteRange {
        start: 0,
        end: len + 1,
    };
    assert_eq!(kind(read(beyond)), ErrorKind::Invalid);
    let ranges = (0..=len, 0..=len).prop_map(|(a, b)| (a.min(b), a.max(b)));
    proptest!(ProptestConfig::with_cases(8), |((start, end) in ranges)| {
        let part = read(ByteRange { start, end }).unwrap();
        let wanted = usize::try_from(start).unwrap()..usize::try_from(end).unwrap();
        prop_assert!(part == bytes[wanted]);
    });
}
