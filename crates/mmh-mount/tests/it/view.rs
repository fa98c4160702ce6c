//! The view, called as the kernel does but without one.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use mmh_mount::{Change, Errno, Files, Kind, New, View, Who};
use proptest::prelude::*;

use crate::scratch::{Scratch, noise, target};

const ROOT: u64 = 1;

fn lookup(view: &View, path: &str) -> Result<mmh_mount::Attr, Errno> {
    let mut attr = view.attr(ROOT)?.attr;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        attr = view.lookup(attr.ino, OsStr::new(name))?.attr;
    }
    Ok(attr)
}

fn read(view: &View, path: &str) -> Result<Vec<u8>, Errno> {
    let attr = lookup(view, path)?;
    let opened = view.open(attr.ino, 0)?;
    let mut all = Vec::new();
    loop {
        let piece = view.read(opened.handle, all.len() as u64, 100_000)?;
        if piece.is_empty() {
            break;
        }
        all.extend_from_slice(&piece);
    }
    view.release(opened.handle);
    assert_eq!(all.len() as u64, attr.size);
    Ok(all)
}

fn names(view: &View, path: &str) -> Vec<String> {
    let listed = view.list(lookup(view, path).unwrap().ino).unwrap();
    let name = |l: mmh_mount::Listed| l.name.into_string().unwrap();
    listed.into_iter().map(name).collect()
}

/// Everything below, files with their bytes.
fn walk(view: &View, ino: u64, at: &str, all: &mut BTreeMap<String, Vec<u8>>) {
    for listed in view.list(ino).unwrap() {
        let path = format!("{at}/{}", listed.name.to_str().unwrap());
        let found = view.lookup(ino, &listed.name).unwrap().attr;
        assert_eq!(found.kind, listed.kind);
        match found.kind {
            Kind::Dir => walk(view, found.ino, &path, all),
            _ => drop(all.insert(path.clone(), read(view, &path).unwrap())),
        }
    }
}

fn sample() -> Scratch {
    let scratch = Scratch::new();
    let files = [
        ("config.json", b"{}".to_vec()),
        ("sub/deep/noise", noise(3_000_000, 1)),
        ("sub/small", noise(10, 2)),
    ];
    scratch.add(&files, "acme/m");
    scratch
}

#[test]
fn names_and_revisions_are_folders() {
    let scratch = sample();
    scratch.repo().create_tag(&target("acme/m"), "v1").unwrap();
    scratch.add(&[("new", b"2".to_vec())], "acme/m");
    scratch.add(&[("data", b"3".to_vec())], "datasets/squad@try/it");
    let view = scratch.view(None, None);
    assert_eq!(names(&view, ""), ["models", "datasets", "spaces", "trees"]);
    assert_eq!(names(&view, "models/acme"), ["m", "m@v1"]);
    assert_eq!(names(&view, "models/acme/m"), ["new"]);
    assert_eq!(read(&view, "models/acme/m/new").unwrap(), b"2");
    assert_eq!(read(&view, "models/acme/m@v1/config.json").unwrap(), b"{}");
    assert_eq!(read(&view, "datasets/squad@try%2Fit/data").unwrap(), b"3");
    assert_eq!(lookup(&view, "datasets/squad").unwrap_err(), Errno::NOENT);
    let id = scratch.repo().resolve(&target("acme/m@v1")).unwrap().id;
    let by_id = format!("models/acme/m@{}/sub/small", &id.digest().to_string()[..8]);
    assert_eq!(read(&view, &by_id).unwrap(), noise(10, 2));
}

/// The head moves; who is inside the old one stays there.
#[test]
fn the_head_is_asked_for_again() {
    let scratch = sample();
    let view = scratch.view(None, None);
    let old = lookup(&view, "models/acme/m").unwrap();
    let open = lookup(&view, "models/acme/m/sub/small").unwrap();
    let open = view.open(open.ino, 0).unwrap();
    scratch.add(&[("sub/small", b"other".to_vec())], "acme/m");
    let new = lookup(&view, "models/acme/m").unwrap();
    assert_ne!(old.ino, new.ino);
    assert_eq!(read(&view, "models/acme/m/sub/small").unwrap(), b"other");
    assert_eq!(view.read(open.handle, 0, 100).unwrap(), noise(10, 2));
    assert_eq!(view.list(old.ino).unwrap().len(), 2);
}

#[test]
fn one_snapshot_or_folder_may_be_the_root() {
    let scratch = sample();
    let view = scratch.view(Some("acme/m:sub"), None);
    assert_eq!(names(&view, ""), ["deep", "small"]);
    assert_eq!(read(&view, "deep/noise").unwrap(), noise(3_000_000, 1));
    for (what, kind) in [
        ("acme/none", mmh_core::ErrorKind::NotFound),
        ("acme/m:config.json", mmh_core::ErrorKind::Invalid),
    ] {
        let options = mmh_mount::ViewOptions {
            target: Some(target(what)),
            ..Default::default()
        };
        let refused = View::new(scratch.repo(), options).unwrap_err();
        assert_eq!(refused.kind(), kind, "{what}");
    }
}

#[test]
fn inodes_and_times_are_the_same_every_time() {
    let scratch = sample();
    let (one, two) = (scratch.view(None, None), scratch.view(None, None));
    for path in [
        "models",
        "models/acme",
        "models/acme/m",
        "models/acme/m/sub/deep/noise",
    ] {
        let attr = lookup(&one, path).unwrap();
        assert_eq!(attr, lookup(&two, path).unwrap());
        assert_eq!((attr.uid, attr.gid), (7, 8));
    }
    let snapshot = scratch.repo().resolve(&target("acme/m")).unwrap().snapshot;
    let since = std::time::Duration::from_millis(snapshot.time_ms);
    let file = lookup(&one, "models/acme/m/sub/small").unwrap();
    assert_eq!(file.modified, std::time::SystemTime::UNIX_EPOCH + since);
    assert_eq!((file.perm, file.links, file.blocks), (0o444, 1, 1));
    assert_eq!(lookup(&one, "models/acme/m").unwrap().perm, 0o555);
}

#[cfg(unix)]
#[test]
fn programs_and_links_are_what_they_were() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let folder = scratch.path("in");
    crate::scratch::write(&folder.join("run"), b"#!/bin/sh\n");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.join("run"), mode).unwrap();
    std::os::unix::fs::symlink("run", folder.join("link")).unwrap();
    std::fs::create_dir(folder.join("empty")).unwrap();
    scratch.add_folder(&folder, "acme/m");
    let view = scratch.view(Some("acme/m"), None);
    assert_eq!(lookup(&view, "run").unwrap().perm, 0o555);
    let link = lookup(&view, "link").unwrap();
    assert_eq!((link.kind, link.size), (Kind::Link, 3));
    assert_eq!(view.read_link(link.ino).unwrap(), "run");
    assert_eq!(view.open(link.ino, 0).unwrap_err(), Errno::ISDIR);
    assert_eq!(names(&view, "empty"), [""; 0]);
    let run = lookup(&view, "run").unwrap().ino;
    assert_eq!(view.read_link(run).unwrap_err(), Errno::INVAL);
    assert_eq!(view.list(run).unwrap_err(), Errno::NOTDIR);
    assert_eq!(
        view.lookup(run, OsStr::new("x")).unwrap_err(),
        Errno::NOTDIR
    );
}

#[test]
fn nothing_can_be_changed() {
    let scratch = sample();
    let view = scratch.view(Some("acme/m"), None);
    let (name, who) = (OsStr::new("x"), Who { uid: 0, gid: 0 });
    let file = lookup(&view, "config.json").unwrap().ino;
    for flags in [1, 2] {
        assert_eq!(view.open(file, flags).unwrap_err(), Errno::ROFS);
    }
    let refusals = [
        view.set_attr(file, &Change::default()).map(drop),
        view.make(ROOT, name, New::Dir(0o777), who).map(drop),
        view.create((ROOT, name), 0o666, 1, who).map(drop),
        view.write(1, 0, b"x"),
        view.allocate(1, 0, 1, 0),
        view.unlink(ROOT, name),
        view.remove_dir(ROOT, name),
        view.rename((ROOT, name), (ROOT, name), 0),
        view.link(file, ROOT, name).map(drop),
        view.set_xattr(file, name, b"x", 0),
        view.remove_xattr(file, name),
    ];
    assert!(refusals.iter().all(|refusal| *refusal == Err(Errno::ROFS)));
    // There is nothing to wait for.
    assert_eq!((view.sync(1, true), view.sync_dir(1)), (Ok(()), Ok(())));
}

#[test]
fn attributes_tell_what_things_are() {
    let scratch = sample();
    let view = scratch.view(None, None);
    let repo = scratch.repo();
    let get = |path: &str, name: &str| {
        let value = view.xattr(lookup(&view, path).unwrap().ino, OsStr::new(name));
        value.map(|value| String::from_utf8(value).unwrap())
    };
    let snapshot = repo.resolve(&target("acme/m")).unwrap();
    let file = "models/acme/m/sub/deep/noise";
    let mmh_core::tree::Node::File { id, .. } =
        repo.node(&target("acme/m:sub/deep/noise")).unwrap()
    else {
        panic!("it is a file")
    };
    assert_eq!(get(file, "user.mmh.id"), Ok(id.to_string()));
    assert_eq!(
        get(file, "user.mmh.saved"),
        Ok(repo.saved(id).unwrap().to_string())
    );
    assert_eq!(get(file, "user.mmh.snapshot"), Ok(snapshot.id.to_string()));
    let root = "models/acme/m";
    assert_eq!(
        get(root, "user.mmh.id"),
        Ok(snapshot.snapshot.tree.to_string())
    );
    assert_eq!(get(root, "user.mmh.saved"), Err(Errno::NODATA));
    assert_eq!(get("models", "user.mmh.id"), Err(Errno::NODATA));
    assert_eq!(get(file, "user.other"), Err(Errno::NODATA));
    let names = |path: &str| view.xattrs(lookup(&view, path).unwrap().ino).unwrap().len();
    assert_eq!((names(file), names(root), names("models")), (3, 2, 0));
    let space = view.space().unwrap();
    assert!(space.blocks > 0 && space.free == 0);
}

#[test]
fn a_file_that_was_read_is_backed_by_the_disk() {
    let scratch = sample();
    let cache = scratch.cache();
    let view = scratch.view(Some("acme/m"), Some(cache));
    let ino = lookup(&view, "sub/deep/noise").unwrap().ino;
    let first = view.open(ino, 0).unwrap();
    assert!(first.backing.is_none());
    let bytes = noise(3_000_000, 1);
    assert_eq!(read(&view, "sub/deep/noise").unwrap(), bytes);
    let second = view.open(ino, 0).unwrap();
    assert!(second.backing.is_some());
    for opened in [first, second] {
        let piece = view.read(opened.handle, 2_999_990, 100).unwrap();
        assert_eq!(piece, bytes[2_999_990..]);
        view.release(opened.handle);
        assert_eq!(view.read(opened.handle, 0, 1).unwrap_err(), Errno::BADF);
    }
    let small = lookup(&view, "sub/small").unwrap().ino;
    read(&view, "sub/small").unwrap();
    assert!(
        view.open(small, 0).unwrap().backing.is_none(),
        "not worth it"
    );
}

#[test]
fn what_nobody_refers_to_is_forgotten() {
    let scratch = sample();
    let view = scratch.view(Some("acme/m"), None);
    let ino = lookup(&view, "config.json").unwrap().ino;
    lookup(&view, "config.json").unwrap();
    view.forget(ino, 1);
    assert!(view.attr(ino).is_ok());
    view.forget(ino, 1);
    assert_eq!(view.attr(ino).unwrap_err(), Errno::STALE);
    view.forget(ino, 1);
    view.forget(ROOT, 1000);
    assert!(view.attr(ROOT).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Any tree, as the model says: every path and every byte, and nothing else.
    #[test]
    fn a_view_has_what_was_added(
        files in proptest::collection::btree_map(
            "[a-c]{1,2}(/[d-f]{1,2}){0,3}", proptest::collection::vec(any::<u8>(), 0..300), 1..12,
        )
    ) {
        // A file is no folder.
        let inside = |path: &str, other: &String| other.starts_with(&format!("{path}/"));
        let all = files.clone();
        let files: BTreeMap<String, Vec<u8>> = files
            .into_iter()
            .filter(|(path, _)| !all.keys().any(|other| inside(path, other)))
            .collect();
        let scratch = Scratch::new();
        let list: Vec<_> = files.iter().map(|(p, b)| (p.as_str(), b.clone())).collect();
        scratch.add(&list, "acme/m");
        let view = scratch.view(Some("acme/m"), None);
        let mut seen = BTreeMap::new();
        walk(&view, ROOT, "", &mut seen);
        let expected = files.into_iter().map(|(path, bytes)| (format!("/{path}"), bytes)).collect();
        prop_assert_eq!(seen, expected);
    }
}
