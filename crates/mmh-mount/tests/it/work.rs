//! A workspace, called as the kernel does but without one; what is committed; and what is left after
//! a crash.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use mmh_core::ErrorKind;
use mmh_core::tree::Node;
use mmh_mount::{Change, Entry, Errno, Files, Kind, New, Opened, Staging, Who, Work};

use crate::scratch::{Scratch, noise, target};

const ROOT: u64 = 1;
const RDONLY: i32 = 0;
const WRONLY: i32 = 1;
const RDWR: i32 = 2;
const EXCL: i32 = 0o200;
const TRUNC: i32 = 0o1000;

fn os(name: &str) -> &OsStr {
    OsStr::new(name)
}

fn me() -> Who {
    let own = fs::metadata("/proc/self").unwrap();
    Who {
        uid: own.uid(),
        gid: own.gid(),
    }
}

fn find(work: &Work, path: &str) -> Result<Entry, Errno> {
    let mut found = work.attr(ROOT)?;
    for name in path.split('/') {
        found = work.lookup(found.attr.ino, os(name))?;
    }
    Ok(found)
}

fn open(work: &Work, path: &str, flags: i32) -> Result<Opened, Errno> {
    work.open(find(work, path)?.attr.ino, flags)
}

fn read(work: &Work, path: &str) -> Vec<u8> {
    let opened = open(work, path, RDONLY).unwrap();
    let len = usize::try_from(find(work, path).unwrap().attr.size).unwrap();
    let bytes = work.read(opened.handle, 0, len + 10).unwrap();
    work.release(opened.handle);
    bytes.to_vec()
}

fn model() -> Vec<u8> {
    noise(1_500_000, 1)
}

fn sample() -> Scratch {
    let scratch = Scratch::new();
    let files = [
        ("model.bin", model()),
        ("sub/config", b"{}".to_vec()),
        ("empty", Vec::new()),
    ];
    scratch.add(&files, "acme/m");
    scratch
}

/// What the workspace's name holds, as any reader sees it.
fn committed(scratch: &Scratch, path: &str) -> Option<Vec<u8>> {
    let repo = scratch.repo();
    let node = repo.node(&target(&format!("acme/m:{path}"))).ok()?;
    let dest = scratch.path("out");
    let options = mmh_repo::ExportOptions {
        overwrite: true,
        ..Default::default()
    };
    repo.export(&node, "out", &dest, options).unwrap();
    Some(fs::read(dest).unwrap())
}

fn commit(scratch: &Scratch, work: &Work) -> mmh_repo::CommitReport {
    let mut staging = Staging::again(&work.staging()).unwrap();
    staging
        .commit(&scratch.repo(), Some("why".to_owned()))
        .unwrap()
}

#[test]
fn unchanged_files_are_there_without_taking_space() {
    let scratch = sample();
    let work = scratch.work("acme/m");
    let found = find(&work, "model.bin").unwrap().attr;
    // A block of the disk may be there for its attribute.
    assert_eq!((found.size, found.kind), (1_500_000, Kind::File));
    assert!(found.blocks < 100);
    let snapshot = scratch.repo().resolve(&target("acme/m")).unwrap().snapshot;
    let time = std::time::Duration::from_millis(snapshot.time_ms);
    assert_eq!(found.modified, std::time::SystemTime::UNIX_EPOCH + time);
    assert!(read(&work, "model.bin") == model());
    assert_eq!(read(&work, "sub/config"), b"{}");
    assert_eq!(read(&work, "empty"), b"");
    // The kernel must not read past us what is not there.
    assert!(open(&work, "model.bin", RDONLY).unwrap().backing.is_none());
    assert!(find(&work, "model.bin").unwrap().attr.blocks < 100);
    let mut names: Vec<_> = work.list(ROOT).unwrap();
    names.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<_> = names.into_iter().map(|l| (l.name, l.kind)).collect();
    let expected = [
        ("empty", Kind::File),
        ("model.bin", Kind::File),
        ("sub", Kind::Dir),
    ];
    assert_eq!(names, expected.map(|(name, kind)| (name.into(), kind)));
}

#[test]
fn a_file_that_is_opened_for_writing_is_filled_first() {
    let scratch = sample();
    let work = scratch.work("acme/m");
    // Who reads it meanwhile reads on.
    let reader = open(&work, "model.bin", RDONLY).unwrap();
    let before = find(&work, "model.bin").unwrap().attr.modified;
    let opened = open(&work, "model.bin", RDWR).unwrap();
    assert_eq!(find(&work, "model.bin").unwrap().attr.modified, before);
    assert!(opened.backing.is_some());
    work.write(opened.handle, 1_000_000, b"changed").unwrap();
    work.sync(opened.handle, true).unwrap();
    work.sync(opened.handle, false).unwrap();
    let mut expected = model();
    expected[1_000_000..1_000_007].copy_from_slice(b"changed");
    assert!(read(&work, "model.bin") == expected);
    assert_eq!(
        work.read(reader.handle, 1_000_000, 7).unwrap(),
        b"changed"[..]
    );
    // On the disk it is what it is.
    assert!(fs::read(work.staging().join("tree/model.bin")).unwrap() == expected);
    let report = commit(&scratch, &work);
    assert_eq!((report.changed, report.read, report.known), (true, 2, 1));
    assert!(committed(&scratch, "model.bin").unwrap() == expected);
    assert_eq!(committed(&scratch, "sub/config").unwrap(), b"{}");
}

#[test]
fn truncating_keeps_what_is_before() {
    for (len, by_open) in [
        (0, true),
        (0, false),
        (1, false),
        (700_000, false),
        (2_000_000, false),
    ] {
        let scratch = sample();
        let work = scratch.work("acme/m");
        let mut expected = model();
        expected.resize(len, 0);
        if by_open {
            let opened = open(&work, "model.bin", WRONLY | TRUNC).unwrap();
            work.release(opened.handle);
        } else {
            let change = Change {
                size: Some(len as u64),
                ..Change::default()
            };
            let ino = find(&work, "model.bin").unwrap().attr.ino;
            assert_eq!(work.set_attr(ino, &change).unwrap().attr.size, len as u64);
        }
        assert!(read(&work, "model.bin") == expected, "{len}");
        commit(&scratch, &work);
        assert!(
            committed(&scratch, "model.bin").unwrap() == expected,
            "{len}"
        );
    }
}

/// Truncated and made as long again, it must not be taken for what it was.
#[test]
fn a_file_of_the_old_length_is_not_the_old_file() {
    let scratch = sample();
    let work = scratch.work("acme/m");
    let opened = open(&work, "model.bin", WRONLY | TRUNC).unwrap();
    work.write(opened.handle, 1_499_999, b"x").unwrap();
    let mut expected = vec![0; 1_500_000];
    expected[1_499_999] = b'x';
    assert!(read(&work, "model.bin") == expected);
    // As if this had died between truncating and saying that it is no hole any more.
    let path = work.staging().join("tree/sub/config");
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(0)
        .unwrap();
    assert_eq!(read(&work, "sub/config"), b"");
    let opened = open(&work, "sub/config", WRONLY).unwrap();
    work.write(opened.handle, 0, b"[]").unwrap();
    assert_eq!(read(&work, "sub/config"), b"[]");
    commit(&scratch, &work);
    assert!(committed(&scratch, "model.bin").unwrap() == expected);
    assert_eq!(committed(&scratch, "sub/config").unwrap(), b"[]");
}

#[test]
fn names_change_and_content_stays() {
    let scratch = sample();
    let work = scratch.work("acme/m");
    let made = work
        .make(ROOT, os("new"), New::Dir(0o755), me())
        .unwrap()
        .attr;
    assert_eq!(made.kind, Kind::Dir);
    work.rename((ROOT, os("model.bin")), (made.ino, os("m2")), 0)
        .unwrap();
    let ino = find(&work, "new/m2").unwrap().attr.ino;
    let linked = work.link(ino, ROOT, os("twin")).unwrap().attr;
    assert_eq!((linked.ino, linked.links), (ino, 2));
    work.make(ROOT, os("to"), New::Link(os("new/m2")), me())
        .unwrap();
    assert_eq!(
        work.read_link(find(&work, "to").unwrap().attr.ino).unwrap(),
        "new/m2"
    );
    work.unlink(ROOT, os("empty")).unwrap();
    let sub = find(&work, "sub").unwrap().attr.ino;
    assert_eq!(work.remove_dir(ROOT, os("sub")), Err(Errno::NOTEMPTY));
    work.unlink(sub, os("config")).unwrap();
    work.remove_dir(ROOT, os("sub")).unwrap();
    work.sync_dir(ROOT).unwrap();
    assert!(read(&work, "new/m2") == model() && read(&work, "twin") == model());
    // Through one name, for both.
    let opened = open(&work, "twin", RDWR).unwrap();
    work.write(opened.handle, 0, b"both").unwrap();
    assert_eq!(&read(&work, "new/m2")[..4], b"both");
    let report = commit(&scratch, &work);
    assert_eq!(report.known, 0);
    assert_eq!(&committed(&scratch, "new/m2").unwrap()[..4], b"both");
    assert!(committed(&scratch, "empty").is_none() && committed(&scratch, "sub").is_none());
    let link = scratch.repo().node(&target("acme/m:to")).unwrap();
    assert!(matches!(link, Node::Link { target } if target == "new/m2"));
}

#[test]
fn what_was_unlinked_is_read_while_it_is_open() {
    let scratch = sample();
    let work = scratch.work("acme/m");
    let opened = open(&work, "model.bin", RDONLY).unwrap();
    work.unlink(ROOT, os("model.bin")).unwrap();
    assert_eq!(find(&work, "model.bin").unwrap_err(), Errno::NOENT);
    assert!(work.read(opened.handle, 0, 1_500_000).unwrap() == model());
    work.release(opened.handle);
    assert_eq!(work.read(opened.handle, 0, 1), Err(Errno::BADF));
}

#[test]
fn new_files_have_the_mode_and_owner_that_were_asked_for() {
    let scratch = sample();
    let work = scratch.work("acme/m");
    let (made, opened) = work.create((ROOT, os("run")), 0o750, RDWR, me()).unwrap();
    assert_eq!((made.attr.perm, made.attr.uid), (0o750, me().uid));
    work.write(opened.handle, 0, b"#!/bin/sh").unwrap();
    work.allocate(opened.handle, 0, 100, 0).unwrap();
    assert_eq!(find(&work, "run").unwrap().attr.size, 100);
    // It is there: opened, unless it must not be.
    let again = work.create((ROOT, os("run")), 0o700, RDWR, me()).unwrap();
    assert_eq!(again.0.attr.ino, made.attr.ino);
    let refused = work.create((ROOT, os("run")), 0o700, RDWR | EXCL, me());
    assert_eq!(refused.unwrap_err(), Errno::EXIST);
    let mode = Change {
        mode: Some(0o640),
        modified: Some(Some(std::time::SystemTime::UNIX_EPOCH)),
        accessed: Some(None),
        ..Change::default()
    };
    let now = work.set_attr(made.attr.ino, &mode).unwrap().attr;
    assert_eq!(
        (now.perm, now.modified),
        (0o640, std::time::SystemTime::UNIX_EPOCH)
    );
    let pipe = work
        .make(ROOT, os("pipe"), New::Node(0o010_600, 0), me())
        .unwrap();
    assert_eq!(pipe.attr.kind, Kind::Pipe);
    let plain = work
        .make(ROOT, os("plain"), New::Node(0o100_600, 0), me())
        .unwrap();
    assert_eq!((plain.attr.kind, plain.attr.perm), (Kind::File, 0o600));
    let report = commit(&scratch, &work);
    assert_eq!(report.skipped.len(), 1, "{report:?}");
}

#[test]
fn names_that_cannot_be_committed_are_refused_at_once() {
    use std::os::unix::ffi::OsStrExt;
    let scratch = sample();
    let work = scratch.work("acme/m");
    let long = "x".repeat(256);
    for (name, errno) in [
        (OsStr::from_bytes(b"\xff"), Errno::ILSEQ),
        (os("a\\b"), Errno::INVAL),
        (os("a\nb"), Errno::INVAL),
        (os(&long), Errno::NAMETOOLONG),
    ] {
        let made = work.make(ROOT, name, New::Dir(0o755), me());
        assert_eq!(made.unwrap_err(), errno, "{name:?}");
        let created = work.create((ROOT, name), 0o600, RDWR, me());
        assert_eq!(created.unwrap_err(), errno, "{name:?}");
        assert_eq!(
            work.rename((ROOT, os("empty")), (ROOT, name), 0),
            Err(errno)
        );
    }
}

#[test]
fn attributes_are_kept_and_ours_cannot_be_changed() {
    let scratch = sample();
    let work = scratch.work("acme/m");
    let ino = find(&work, "model.bin").unwrap().attr.ino;
    let Node::File { id, .. } = scratch.repo().node(&target("acme/m:model.bin")).unwrap() else {
        panic!("it is a file")
    };
    assert_eq!(
        work.xattr(ino, os("user.mmh.id")).unwrap(),
        id.to_string().as_bytes()
    );
    assert_eq!(work.xattr(ino, os("user.mmh.hole")), Err(Errno::NODATA));
    for name in ["user.mmh.hole", "user.mmh.id", "user.mmh.x"] {
        assert_eq!(work.set_xattr(ino, os(name), b"x", 0), Err(Errno::PERM));
        assert_eq!(work.remove_xattr(ino, os(name)), Err(Errno::PERM));
    }
    work.set_xattr(ino, os("user.own"), b"value", 0).unwrap();
    assert_eq!(work.xattr(ino, os("user.own")).unwrap(), b"value");
    let mut names = work.xattrs(ino).unwrap();
    names.sort();
    assert_eq!(names, ["user.mmh.id", "user.own"]);
    work.remove_xattr(ino, os("user.own")).unwrap();
    assert_eq!(work.xattr(ino, os("user.own")), Err(Errno::NODATA));
    let root = work.xattr(ROOT, os("user.mmh.work")).unwrap();
    assert_eq!(root, work.staging().as_os_str().as_encoded_bytes());
    // Changed, it is no longer what it was.
    open(&work, "model.bin", RDWR).unwrap();
    assert_eq!(work.xattr(ino, os("user.mmh.id")), Err(Errno::NODATA));
    assert!(work.space().unwrap().blocks > 0);
}

#[test]
fn changes_are_found_again_and_only_they() {
    let scratch = sample();
    let folder = scratch.staging("acme/m", false).0.folder().to_owned();
    // Nothing was changed: it follows the branch.
    scratch.add(&[("other", b"1".to_vec())], "acme/m");
    let (staging, recovered) = scratch.staging("acme/m", false);
    assert!(!recovered && staging.tree().join("other").exists());
    assert!(!staging.tree().join("model.bin").exists());
    drop(staging);
    for change in 0..6 {
        let tree = folder.join("tree");
        match change {
            0 => fs::write(tree.join("new"), b"2").unwrap(),
            1 => fs::remove_file(tree.join("other")).unwrap(),
            2 => fs::write(tree.join("other"), b"22").unwrap(),
            3 => fs::rename(tree.join("other"), tree.join("another")).unwrap(),
            4 => fs::create_dir(tree.join("dir")).unwrap(),
            _ => {
                let mode = fs::Permissions::from_mode(0o755);
                fs::set_permissions(tree.join("other"), mode).unwrap();
            }
        }
        let (_, recovered) = scratch.staging("acme/m", false);
        assert!(recovered, "{change}");
        let (staging, recovered) = scratch.staging("acme/m", true);
        assert!(!recovered && staging.tree().join("other").exists());
    }
}

#[test]
fn a_workspace_is_mounted_once() {
    let scratch = sample();
    let (repo, works) = (scratch.repo(), scratch.path("works"));
    let open = |name: &str| Staging::open(&works, (&repo, "x"), &target(name), false);
    let first = open("acme/m").unwrap();
    assert_eq!(open("acme/m").unwrap_err().kind(), ErrorKind::Conflict);
    drop(first);
    drop(open("acme/m").unwrap());
    assert_eq!(open("acme/m:sub").unwrap_err().kind(), ErrorKind::Invalid);
    repo.create_tag(&target("acme/m"), "v1").unwrap();
    assert_eq!(open("acme/m@v1").unwrap_err().kind(), ErrorKind::Invalid);
    // What died while it was made is made again.
    let (staging, _) = open("acme/m").unwrap();
    let tree = staging.tree();
    drop(staging);
    fs::rename(&tree, tree.with_file_name("tree.new")).unwrap();
    let (staging, found) = open("acme/m").unwrap();
    assert!(!found.recovered && staging.tree().join("model.bin").exists());
}

#[test]
fn a_new_name_begins_empty() {
    let scratch = Scratch::new();
    let work = scratch.work("acme/m");
    assert_eq!(work.list(ROOT).unwrap(), []);
    let (_, opened) = work.create((ROOT, os("first")), 0o644, RDWR, me()).unwrap();
    work.write(opened.handle, 0, b"bytes").unwrap();
    let report = commit(&scratch, &work);
    assert!(report.changed);
    assert_eq!(committed(&scratch, "first").unwrap(), b"bytes");
    // Once more, and there is nothing to do.
    let report = commit(&scratch, &work);
    assert!(!report.changed);
    let all = scratch.repo().find(&target("acme/m")).unwrap();
    assert_eq!(
        (all.id.to_string(), all.snapshot.message.as_str()),
        (report.snapshot, "why")
    );
}

#[test]
fn a_branch_that_moved_is_a_conflict_and_loses_nothing() {
    let scratch = sample();
    let work = scratch.work("acme/m");
    open(&work, "model.bin", WRONLY | TRUNC).unwrap();
    scratch.add(&[("theirs", b"1".to_vec())], "acme/m");
    let mut staging = Staging::again(&work.staging()).unwrap();
    let refused = staging.commit(&scratch.repo(), None).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert_eq!(committed(&scratch, "theirs").unwrap(), b"1");
    assert_eq!(find(&work, "model.bin").unwrap().attr.size, 0);
    // Another repository is none of its business.
    let other = sample();
    let refused = staging.commit(&other.repo(), None).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    let nowhere = Staging::again(Path::new("/no/such")).unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::NotFound);
    let plain = Staging::of_mounted(&scratch.path("works")).unwrap_err();
    assert_eq!(plain.kind(), ErrorKind::Invalid);
}

#[test]
fn what_nobody_refers_to_is_forgotten() {
    let scratch = sample();
    let work = scratch.work("acme/m");
    let ino = find(&work, "model.bin").unwrap().attr.ino;
    find(&work, "model.bin").unwrap();
    work.forget(ino, 1);
    assert!(work.attr(ino).is_ok());
    work.forget(ino, 1);
    assert_eq!(work.attr(ino).unwrap_err(), Errno::STALE);
    work.forget(ino, 1);
    work.forget(ROOT, 9);
    assert!(work.attr(ROOT).is_ok());
}
