//! Names, revisions and the operation log.

use std::thread;

use mmh_core::ErrorKind;
use mmh_repo::AddOptions;
use mmh_repo::list::Difference;

use crate::scratch::{Scratch, add, target};

fn put(scratch: &Scratch, repo: &mmh_repo::Repository, files: &[(&str, &str)], to: &str) -> String {
    let dir = tempfile::tempdir_in(scratch.dir.path()).unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    add(repo, dir.path(), to).snapshot
}

fn names(repo: &mmh_repo::Repository, what: &str) -> Vec<String> {
    repo.list(&target(what), true)
        .unwrap()
        .into_iter()
        .map(|l| l.path)
        .collect()
}

#[test]
fn additions_pile_up_and_replace_starts_over() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    put(&scratch, &repo, &[("a", "1"), ("d/b", "1")], "acme/m");
    put(&scratch, &repo, &[("d/c", "2")], "acme/m");
    assert_eq!(names(&repo, "acme/m"), ["a", "d", "d/b", "d/c"]);
    let only = scratch.files("only", &[("z", vec![1])]);
    let options = AddOptions {
        replace: true,
        ..AddOptions::default()
    };
    repo.add(&[only], &target("acme/m"), &options).unwrap();
    assert_eq!(names(&repo, "acme/m"), ["z"]);
    assert_eq!(repo.log(&target("acme/m")).unwrap().count(), 3);
}

#[test]
fn revisions_are_found_by_branch_tag_and_id() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let first = put(&scratch, &repo, &[("a", "1")], "acme/m");
    repo.create_tag(&target("acme/m"), "v1").unwrap();
    repo.create_branch(&target("acme/m"), "dev").unwrap();
    let second = put(&scratch, &repo, &[("a", "2")], "acme/m@dev");
    let id = |what: &str| repo.resolve(&target(what)).unwrap().id.to_string();
    assert_eq!(id("acme/m"), first);
    assert_eq!(id("acme/m@v1"), first);
    assert_eq!(id("acme/m@dev"), second);
    assert_eq!(id(&format!("acme/m@{first}")), first);
    let digest = repo
        .resolve(&target("acme/m@dev"))
        .unwrap()
        .id
        .digest()
        .to_string();
    assert_eq!(id(&format!("acme/m@{}", &digest[..12])), second);
    assert_eq!(
        repo.resolve(&target("acme/m@ffffffffffff"))
            .unwrap_err()
            .kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn branches_and_tags_are_not_made_twice() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    put(&scratch, &repo, &[("a", "1")], "acme/m");
    repo.create_tag(&target("acme/m"), "v1").unwrap();
    assert_eq!(
        repo.create_tag(&target("acme/m"), "v1").unwrap_err().kind(),
        ErrorKind::Conflict
    );
    assert_eq!(
        repo.create_branch(&target("acme/none"), "b")
            .unwrap_err()
            .kind(),
        ErrorKind::NotFound
    );
    let folder = scratch.files("in", &[("x", vec![1])]);
    let error = repo
        .add(&[folder], &target("acme/m@v1"), &AddOptions::default())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

/// Else the branch would hide the tag, and `rm NAME@REV` would take both.
#[test]
fn a_branch_and_a_tag_never_share_a_name() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    put(&scratch, &repo, &[("a", "1")], "acme/m");
    let at = target("acme/m");
    let tag = repo.create_tag(&at, "main").unwrap_err();
    assert_eq!(tag.kind(), ErrorKind::Conflict);
    repo.create_tag(&at, "v1").unwrap();
    let branch = repo.create_branch(&at, "v1").unwrap_err();
    assert_eq!(branch.kind(), ErrorKind::Conflict);
}

/// More operations than are read at once lie between the end of the log and what is taken back.
#[test]
fn undo_goes_back_as_far_as_it_needs_to() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    put(&scratch, &repo, &[("a", "1")], "acme/m");
    for i in 0..80 {
        repo.create_tag(&target("acme/m"), &format!("v{i}"))
            .unwrap();
    }
    for i in (0..80).rev() {
        let taken_back = repo.undo().unwrap();
        assert_eq!(taken_back.undoes, Some(i + 2));
    }
    assert_eq!(names(&repo, "acme/m"), ["a"]);
    repo.undo().unwrap();
    assert!(matches!(repo.undo(), Err(mmh_repo::Error::NothingToUndo)));
}

#[test]
fn removals_can_be_taken_back_one_by_one() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    put(&scratch, &repo, &[("a", "1"), ("d/b", "1")], "acme/m");
    repo.create_tag(&target("acme/m"), "v1").unwrap();
    repo.remove(&target("acme/m:d/b")).unwrap();
    assert_eq!(names(&repo, "acme/m"), ["a"]);
    repo.remove(&target("acme/m")).unwrap();
    assert!(repo.names().unwrap().is_empty());
    repo.undo().unwrap();
    assert_eq!(names(&repo, "acme/m"), ["a"]);
    assert_eq!(names(&repo, "acme/m@v1"), ["a", "d", "d/b"]);
    repo.undo().unwrap();
    assert_eq!(names(&repo, "acme/m"), ["a", "d", "d/b"]);
    repo.undo().unwrap();
    assert!(repo.resolve(&target("acme/m@v1")).is_err());
    repo.undo().unwrap();
    assert!(repo.names().unwrap().is_empty());
    assert_eq!(repo.undo().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(repo.operations(usize::MAX).unwrap().len(), 8);
}

#[test]
fn removing_what_is_not_there_is_not_found() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    put(&scratch, &repo, &[("a", "1")], "acme/m");
    for what in [
        "acme/none",
        "acme/m@none",
        "acme/m:none",
        "acme/m:a/b",
        "acme/m:x/y/z",
    ] {
        assert_eq!(
            repo.remove(&target(what)).unwrap_err().kind(),
            ErrorKind::NotFound,
            "{what}"
        );
    }
    assert_eq!(names(&repo, "acme/m"), ["a"]);
}

#[test]
fn differences_name_paths_and_sizes() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    put(
        &scratch,
        &repo,
        &[("same", "1"), ("gone/x", "22"), ("c", "1")],
        "acme/m",
    );
    repo.create_tag(&target("acme/m"), "v1").unwrap();
    repo.remove(&target("acme/m:gone")).unwrap();
    put(
        &scratch,
        &repo,
        &[("c", "333"), ("new/y", "4444")],
        "acme/m",
    );
    let found = repo.diff(&target("acme/m@v1"), &target("acme/m")).unwrap();
    let path = |s: &str| s.to_owned();
    assert_eq!(
        found,
        [
            Difference::Changed {
                path: path("c"),
                old_size: 1,
                new_size: 3
            },
            Difference::Removed {
                path: path("gone/x"),
                size: 2
            },
            Difference::Added {
                path: path("new/y"),
                size: 4
            },
        ]
    );
    assert!(
        repo.diff(&target("acme/m"), &target("acme/m"))
            .unwrap()
            .is_empty()
    );
}

/// Two processes that add to one branch at once both succeed, one on top of the other.
#[test]
fn racing_additions_to_one_branch_are_all_kept() {
    let scratch = Scratch::new();
    scratch.init();
    let n = 6;
    thread::scope(|scope| {
        for i in 0..n {
            let scratch = &scratch;
            scope.spawn(move || {
                let repo = scratch.open();
                put(
                    scratch,
                    &repo,
                    &[(&format!("file-{i}"), &"x".repeat(i + 1))],
                    "acme/m",
                );
            });
        }
    });
    let repo = scratch.open();
    assert_eq!(names(&repo, "acme/m").len(), n);
    assert_eq!(repo.log(&target("acme/m")).unwrap().count(), n);
    assert!(repo.check_all().unwrap().is_clean());
}
