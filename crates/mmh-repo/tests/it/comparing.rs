//! Differences between two trees against two maps from paths to sizes.

use std::collections::BTreeMap;

use mmh_core::tree::Node;
use mmh_core::{ErrorKind, FileId, TreeId};
use mmh_repo::Repository;
use mmh_repo::list::Difference;
use proptest::prelude::*;

use crate::forge::{Forger, plain};
use crate::scratch::{Scratch, add, noise, target};

fn diff(repo: &Repository, old: &str, new: &str) -> Vec<Difference> {
    repo.diff(&target(old), &target(new)).unwrap()
}

fn changed(path: &str, old_size: u64, new_size: u64) -> Difference {
    let path = path.to_owned();
    Difference::Changed {
        path,
        old_size,
        new_size,
    }
}

fn added(path: &str, size: u64) -> Difference {
    let path = path.to_owned();
    Difference::Added { path, size }
}

fn removed(path: &str, size: u64) -> Difference {
    let path = path.to_owned();
    Difference::Removed { path, size }
}

/// What changes without a byte: who may execute a file, and where a link points.
#[test]
fn modes_and_links_differ_too() {
    let scratch = Scratch::new();
    let forger = Forger::new(&scratch);
    let id = forger.file(b"x", b"x");
    let run = |executable| Node::File {
        id,
        size: 1,
        executable,
    };
    let link = |target: &str| Node::Link {
        target: target.to_owned(),
    };
    let old = forger.dir(vec![
        ("l", link("run")),
        ("r", run(false)),
        ("s", link("r")),
    ]);
    let new = forger.dir(vec![
        ("l", link("run-it")),
        ("r", run(true)),
        ("s", run(false)),
    ]);
    let repo = forger.finish(&[("trees/a", old), ("trees/b", new)], scratch.components());
    let expected = [changed("l", 3, 6), changed("r", 1, 1), changed("s", 1, 1)];
    assert_eq!(diff(&repo, "trees/a", "trees/b"), expected);
}

/// A folder that a file takes the place of is all its files removed, and the other way about.
#[test]
fn files_and_folders_that_change_places_are_removed_and_added() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let (one, two) = (noise(10, 1), noise(20, 2));
    add(
        &repo,
        &scratch.files("a", &[("x/y/1", one.clone()), ("x/2", two.clone())]),
        "trees/a",
    );
    add(&repo, &scratch.files("b", &[("x", one)]), "trees/b");
    let there = [removed("x/2", 20), removed("x/y/1", 10), added("x", 10)];
    assert_eq!(diff(&repo, "trees/a", "trees/b"), there);
    let back = [removed("x", 10), added("x/2", 20), added("x/y/1", 10)];
    assert_eq!(diff(&repo, "trees/b", "trees/a"), back);
}

/// Paths of two targets may be of any kind; what is named is the path in the new one.
#[test]
fn single_paths_are_compared_by_size() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let files = [
        ("d/a", noise(10, 1)),
        ("d/b", noise(20, 2)),
        ("f", noise(10, 1)),
    ];
    add(&repo, &scratch.files("in", &files), "trees/t");
    assert!(
        diff(&repo, "trees/t:f", "trees/t:d/a").is_empty(),
        "the same content"
    );
    assert_eq!(
        diff(&repo, "trees/t:f", "trees/t:d/b"),
        [changed("d/b", 10, 20)]
    );
    assert_eq!(
        diff(&repo, "trees/t:d", "trees/t:f"),
        [changed("f", 30, 10)]
    );
    assert_eq!(
        diff(&repo, "trees/t:f", "trees/t:d"),
        [changed("d", 10, 30)]
    );
    let sub = [
        removed("d/a", 10),
        removed("d/b", 20),
        removed("f", 10),
        added("a", 10),
        added("b", 20),
    ];
    let mut found = diff(&repo, "trees/t", "trees/t:d");
    let path = |d: &Difference| format!("{d:?}");
    let mut sub = sub.to_vec();
    found.sort_by_key(path);
    sub.sort_by_key(path);
    assert_eq!(found, sub);
    let error = repo
        .diff(&target("trees/t"), &target("trees/t:none"))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

/// A difference is one of files and links; a folder has none of its own.
#[test]
fn empty_folders_are_no_difference_and_equal_trees_have_none() {
    let scratch = Scratch::new();
    let forger = Forger::new(&scratch);
    let empty = forger.dir(Vec::new());
    let with = forger.dir(vec![("void", Node::Dir { id: empty })]);
    let repo = forger.finish(
        &[("trees/a", empty), ("trees/b", with)],
        scratch.components(),
    );
    assert!(diff(&repo, "trees/a", "trees/b").is_empty());
    assert!(diff(&repo, "trees/b", "trees/b").is_empty());
    assert_eq!(repo.list(&target("trees/b"), true).unwrap().len(), 1);
    assert!(repo.list(&target("trees/b:void"), true).unwrap().is_empty());
}

/// Builds the folders of a map from paths to sizes; a file's content is its size.
fn build(forger: &Forger, files: &BTreeMap<String, u64>) -> TreeId {
    let mut here: BTreeMap<&str, Node> = BTreeMap::new();
    let mut below: BTreeMap<&str, BTreeMap<String, u64>> = BTreeMap::new();
    for (path, size) in files {
        match path.split_once('/') {
            Some((dir, rest)) => drop(below.entry(dir).or_default().insert(rest.to_owned(), *size)),
            None => drop(here.insert(path, plain(FileId::of(&size.to_le_bytes()), *size))),
        }
    }
    for (dir, files) in below {
        let id = build(forger, &files);
        here.insert(dir, Node::Dir { id });
    }
    forger.dir(here.into_iter().collect())
}

/// Drops files that stand where another path has a folder.
fn proper(files: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let is_folder = |path: &str| files.keys().any(|q| q.starts_with(&format!("{path}/")));
    files
        .iter()
        .filter(|(p, _)| !is_folder(p))
        .map(|(p, n)| (p.clone(), *n))
        .collect()
}

fn model(old: &BTreeMap<String, u64>, new: &BTreeMap<String, u64>) -> Vec<Difference> {
    let mut all = Vec::new();
    for (path, size) in old {
        match new.get(path) {
            None => all.push(removed(path, *size)),
            Some(now) if now != size => all.push(changed(path, *size, *now)),
            Some(_) => {}
        }
    }
    let fresh = new.iter().filter(|(path, _)| !old.contains_key(*path));
    all.extend(fresh.map(|(path, size)| added(path, *size)));
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Any two trees differ in what two maps differ in.
    #[test]
    fn trees_differ_as_maps_do(
        old in prop::collection::btree_map("[abc](/[ab]){0,2}", 0u64..3, 0..8),
        new in prop::collection::btree_map("[abc](/[ab]){0,2}", 0u64..3, 0..8),
    ) {
        let (old, new) = (proper(old), proper(new));
        let scratch = Scratch::new();
        let forger = Forger::new(&scratch);
        let trees = [("trees/a", build(&forger, &old)), ("trees/b", build(&forger, &new))];
        let repo = forger.finish(&trees, scratch.components());
        let path = |d: &Difference| format!("{d:?}");
        let (mut found, mut expected) = (diff(&repo, "trees/a", "trees/b"), model(&old, &new));
        found.sort_by_key(path);
        expected.sort_by_key(path);
        prop_assert_eq!(found, expected);
        let listed = repo.list(&target("trees/b"), true).unwrap();
        let files: Vec<_> = listed.iter().filter(|l| !matches!(l.node, Node::Dir { .. })).collect();
        prop_assert!(files.iter().map(|l| &l.path).eq(new.keys()), "{:?}", files);
    }
}
