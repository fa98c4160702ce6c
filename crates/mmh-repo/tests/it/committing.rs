//! Committing a folder of which most is known: what is known is named, the rest is read.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use mmh_core::ErrorKind;
use mmh_core::tree::Node;
use mmh_repo::{CommitReport, Error, KnownFile, Repository, Result};

use crate::scratch::{Scratch, add, noise, target};

fn fixture() -> (Scratch, Repository, PathBuf) {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let files = [
        ("model.bin", noise(400_000, 1)),
        ("sub/config", b"{}".to_vec()),
    ];
    let folder = scratch.files("in", &files);
    add(&repo, &folder, "acme/m");
    (scratch, repo, folder)
}

/// Commits a folder in which files of these names are what the branch has.
fn commit(repo: &Repository, folder: &Path, known: &[&str]) -> Result<CommitReport> {
    let to = target("acme/m");
    let find = |path: &Path| {
        let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
        if !known.contains(&name) {
            return Ok(None);
        }
        match repo.node(&target(&format!("acme/m:{name}")))? {
            Node::File { id, size, .. } => Ok(Some(KnownFile { id, size })),
            _ => panic!("{name} is a file"),
        }
    };
    let base = repo.head_of(&to)?;
    repo.commit_folder((folder, &find), &to, base, Some("why".to_owned()))
}

#[test]
fn what_is_known_is_not_read() {
    let (scratch, repo, folder) = fixture();
    // As a hole would be.
    fs::File::create(folder.join("model.bin"))
        .unwrap()
        .set_len(400_000)
        .unwrap();
    fs::write(folder.join("sub/config"), b"[]").unwrap();
    let report = commit(&repo, &folder, &["model.bin"]).unwrap();
    assert_eq!(
        (report.changed, report.read, report.known, report.raw),
        (true, 1, 1, 2)
    );
    let restored = scratch.restore(&repo, "acme/m");
    assert!(restored["model.bin"] == noise(400_000, 1));
    assert_eq!(restored["sub/config"], b"[]");
    let found = repo.find(&target("acme/m")).unwrap();
    assert_eq!(found.id.to_string(), report.snapshot);
    assert_eq!(
        (
            found.snapshot.message.as_str(),
            found.snapshot.parents.len()
        ),
        ("why", 1)
    );
    assert!(repo.check_all().unwrap().is_clean());
    assert!(
        repo.operations(1).unwrap()[0]
            .command
            .starts_with("commit ")
    );
}

#[test]
fn the_tree_becomes_what_the_folder_is() {
    let (scratch, repo, folder) = fixture();
    fs::remove_dir_all(folder.join("sub")).unwrap();
    fs::rename(folder.join("model.bin"), folder.join("moved")).unwrap();
    fs::create_dir(folder.join("empty")).unwrap();
    let report = commit(&repo, &folder, &[]).unwrap();
    assert_eq!((report.read, report.new_raw), (1, 0), "its bytes are there");
    let listed = repo.list(&target("acme/m"), true).unwrap();
    let paths: Vec<_> = listed.iter().map(|l| l.path.as_str()).collect();
    assert_eq!(paths, ["empty", "moved"]);
    let _unused = scratch;
}

#[test]
fn nothing_new_makes_no_snapshot() {
    let (_scratch, repo, folder) = fixture();
    let before = repo.find(&target("acme/m")).unwrap().id.to_string();
    for known in [&[][..], &["model.bin", "sub/config"]] {
        let report = commit(&repo, &folder, known).unwrap();
        assert_eq!((report.changed, &report.snapshot), (false, &before));
    }
    let head = repo.find(&target("acme/m")).unwrap().id;
    assert_eq!(repo.history(vec![head]).unwrap().count(), 1);
}

#[test]
fn a_branch_that_moved_is_left_alone() {
    let (scratch, repo, folder) = fixture();
    let to = target("acme/m");
    let base = repo.head_of(&to).unwrap();
    add(
        &repo,
        &scratch.files("more", &[("theirs", b"1".to_vec())]),
        "acme/m",
    );
    let nothing = |_: &Path| Ok(None);
    let refused = repo
        .commit_folder((&folder, &nothing), &to, base, None)
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.to_string().contains("acme/m"), "{refused}");
    // It moves while the folder is read.
    let base = repo.head_of(&to).unwrap();
    let once = RefCell::new(Some(&repo));
    let meanwhile = |_: &Path| {
        if let Some(repo) = once.take() {
            add(
                repo,
                &scratch.files("again", &[("again", b"2".to_vec())]),
                "acme/m",
            );
        }
        Ok(None)
    };
    let refused = repo
        .commit_folder((&folder, &meanwhile), &to, base, None)
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    // It must not be there yet, and is; it must be there, and is not.
    for (name, base) in [("acme/m", None), ("acme/none", base)] {
        let refused = repo.commit_folder((&folder, &nothing), &target(name), base, None);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
    }
    let read = scratch.restore(&repo, "acme/m");
    assert_eq!(
        (&read["theirs"][..], &read["again"][..]),
        (&b"1"[..], &b"2"[..])
    );
}

#[test]
fn heads_are_of_branches() {
    let (_scratch, repo, _) = fixture();
    let head = repo.head_of(&target("acme/m")).unwrap().unwrap();
    assert_eq!(repo.head_of(&target("acme/m@main")).unwrap(), Some(head));
    assert_eq!(repo.head_of(&target("acme/m@dev")).unwrap(), None);
    repo.create_tag(&target("acme/m"), "v1").unwrap();
    let refused = repo.head_of(&target("acme/m@v1")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(repo.time_of(head).unwrap() > 0);
    assert_eq!(
        repo.list_snapshot(head).unwrap(),
        repo.list(&target("acme/m"), true).unwrap()
    );
}

#[test]
fn a_failure_to_know_is_told() {
    let (_scratch, repo, folder) = fixture();
    let to = target("acme/m");
    let base = repo.head_of(&to).unwrap();
    let fails = |_: &Path| Err(Error::Corrupt("it says nothing".to_owned()));
    let refused = repo
        .commit_folder((&folder, &fails), &to, base, None)
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt);
    assert_eq!(repo.head_of(&to).unwrap(), base);
}
