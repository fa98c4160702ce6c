//! Symbolic links: kept as links, followed when told, and never a way out of a folder.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::Scratch;

fn link_at(s: &Scratch, name: &str) -> String {
    let target = fs::read_link(s.path(name)).unwrap();
    target.to_str().unwrap().to_owned()
}

/// A model folder as download caches make them: links into a folder of blobs beside it.
fn cache() -> Scratch {
    let s = Scratch::new();
    s.write("cache/blobs/1234", b"weights");
    fs::create_dir_all(s.path("cache/snap/sub")).unwrap();
    symlink("../blobs/1234", s.path("cache/snap/w")).unwrap();
    symlink("../../blobs", s.path("cache/snap/sub/all")).unwrap();
    s
}

/// Without `-L` links stay links; with it their files are there and no link is left.
#[test]
fn links_are_kept_or_followed() {
    let s = cache();
    s.ok(&["add", "cache/snap", "--to", "a/links"]);
    assert_eq!(
        s.ok(&["ls", "-R", "a/links"]),
        "sub/\nsub/all → ../../blobs\nw → ../blobs/1234\n"
    );
    for (flag, name) in [("-L", "a/one"), ("--follow", "a/two")] {
        s.ok(&["add", "cache/snap", "--to", name, flag]);
        assert_eq!(
            s.ok(&["ls", "-R", name]),
            "sub/\nsub/all/\nsub/all/1234\nw\n"
        );
        assert_eq!(s.ok(&["cat", &format!("{name}:w")]), "weights");
    }
}

/// Links that leave the folder are left out with a remark, and restored only on request.
#[test]
fn links_that_leave_are_left_out() {
    let s = cache();
    symlink("/etc/hosts", s.path("cache/snap/absolute")).unwrap();
    symlink("sub", s.path("cache/snap/inside")).unwrap();
    s.ok(&["add", "cache/snap", "--to", "a/b"]);
    let out = s.ok(&["get", "a/b", "out"]);
    assert_eq!(out.matches("left out: ").count(), 3, "{out}");
    assert_eq!(link_at(&s, "out/inside"), "sub");
    for name in ["out/absolute", "out/w", "out/sub/all"] {
        assert!(fs::symlink_metadata(s.path(name)).is_err(), "{name}");
    }
    assert_eq!(
        s.json(&["get", "a/b", "out"])["skipped"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    s.ok(&["get", "a/b", "all", "--unsafe-links"]);
    assert_eq!(link_at(&s, "all/absolute"), "/etc/hosts");
    assert_eq!(link_at(&s, "all/sub/all"), "../../blobs");
}

/// The same in portable files.
#[test]
fn links_in_portable_files() {
    let s = cache();
    symlink("sub", s.path("cache/snap/inside")).unwrap();
    s.ok(&["pack", "cache/snap", "x.mmh"]);
    let out = s.ok(&["unpack", "x.mmh", "out"]);
    assert_eq!(out.matches("left out: ").count(), 2, "{out}");
    assert_eq!(link_at(&s, "out/inside"), "sub");
    s.ok(&["unpack", "--unsafe-links", "x.mmh", "all"]);
    assert_eq!(link_at(&s, "all/w"), "../blobs/1234");
}

/// Links that run in a circle end with a message, not with a full disk.
#[test]
fn circles_are_refused() {
    let s = Scratch::new();
    s.write("m/sub/a", b"1");
    symlink("..", s.path("m/sub/up")).unwrap();
    let ran = s.run(&["add", "m", "--to", "a/b", "-L"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("run in a circle"), "{}", ran.err);
    s.ok(&["add", "m", "--to", "a/b"]);
    symlink("self", s.path("m/self")).unwrap();
    assert_ne!(s.run(&["add", "m", "--to", "a/c", "-L"]).code, 0);
    s.ok(&["add", "m", "--to", "a/c"]);
}

/// A link that a user names is followed: it is what they mean. A dangling one is not there.
#[test]
fn a_named_link_is_what_it_points_to() {
    let s = Scratch::new();
    s.write("real/a", b"1");
    symlink("real", s.path("alias")).unwrap();
    symlink("absent", s.path("dangling")).unwrap();
    symlink("real/a", s.path("file")).unwrap();
    s.ok(&["add", "alias", "--to", "a/folder"]);
    assert_eq!(s.ok(&["ls", "a/folder"]), "a\n");
    s.ok(&["add", "file", "--to", "a/file"]);
    assert_eq!(s.ok(&["cat", "a/file:file"]), "1");
    assert_eq!(s.run(&["add", "dangling", "--to", "a/none"]).code, 3);
    symlink("absent", s.path("real/dangling")).unwrap();
    s.ok(&["add", "real", "--to", "a/kept"]);
    assert_eq!(s.ok(&["ls", "a/kept:dangling"]), "dangling → absent\n");
    assert_eq!(s.run(&["add", "real", "--to", "a/none", "-L"]).code, 3);
}

/// A link that lies where a folder or file should go is never written through.
#[test]
fn a_link_in_the_way_is_not_written_through() {
    let s = Scratch::new();
    s.write("m/sub/a", b"new");
    s.write("m/b", b"new");
    s.write("elsewhere/a", b"old");
    s.ok(&["add", "m", "--to", "a/b"]);
    for (link, target) in [("out/sub", "../elsewhere"), ("out/b", "../elsewhere/a")] {
        fs::create_dir(s.path("out")).unwrap();
        symlink(target, s.path(link)).unwrap();
        for flags in [&[][..], &["--overwrite"]] {
            let ran = s.run(&[&["get", "a/b", "out"], flags].concat());
            assert_eq!(ran.code, 2, "{link} {flags:?}: {}", ran.err);
            assert!(ran.err.contains("in the way"), "{}", ran.err);
        }
        assert_eq!(s.below("elsewhere").len(), 1);
        assert_eq!(fs::read(s.path("elsewhere/a")).unwrap(), b"old");
        fs::remove_dir_all(s.path("out")).unwrap();
    }
    // The destination itself may be a link: the user named it.
    fs::create_dir(s.path("real")).unwrap();
    symlink("real", s.path("alias")).unwrap();
    s.ok(&["get", "a/b", "alias"]);
    assert_eq!(fs::read(s.path("real/sub/a")).unwrap(), b"new");
}

/// Another link in the place of ours is a conflict; the same one is kept.
#[test]
fn links_follow_the_overwrite_rule() {
    let s = Scratch::new();
    s.write("m/a", b"1");
    symlink("a", s.path("m/l")).unwrap();
    s.ok(&["add", "m", "--to", "a/b"]);
    s.ok(&["get", "a/b", "out"]);
    s.ok(&["get", "a/b", "out"]);
    fs::remove_file(s.path("out/l")).unwrap();
    symlink("other", s.path("out/l")).unwrap();
    assert_eq!(s.run(&["get", "a/b", "out"]).code, 6);
    assert_eq!(link_at(&s, "out/l"), "other");
    s.ok(&["get", "a/b", "out", "--overwrite"]);
    assert_eq!(link_at(&s, "out/l"), "a");
}

/// The right to execute is part of a file, there and back, and a change of it is a change.
#[test]
fn programs_stay_programs() {
    use std::os::unix::fs::PermissionsExt;
    let s = Scratch::new();
    let path = s.write("m/run", b"#!/bin/sh\n");
    s.ok(&["add", "m", "--to", "a/b"]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(s.json(&["add", "m", "--to", "a/b"])["changed"], true);
    s.ok(&["get", "a/b", "out"]);
    let mode = fs::metadata(s.path("out/run"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o111, 0o111 & mode, "{mode:o}");
    assert_ne!(mode & 0o100, 0, "{mode:o}");
    assert!(s.ok(&["ls", "-l", "a/b"]).starts_with("program "));
    assert_eq!(s.json(&["diff", "a/b", "a/b"]), serde_json::json!([]));
}
