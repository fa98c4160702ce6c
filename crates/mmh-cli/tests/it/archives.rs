//! `pack`, `unpack` and `-R FILE.mmh`: portable files as people send them.

use std::fs;

use crate::support::{Scratch, noise};

fn sample() -> Scratch {
    let s = Scratch::new();
    s.write("m/a", &noise(70_000, 1));
    s.write("m/sub/b", b"text");
    s.write("m/sub/empty", b"");
    s
}

/// A file packed is a file again, under the name that is asked for or its own in a folder.
#[test]
fn a_single_file_comes_back_as_a_file() {
    let s = sample();
    for (name, bytes) in [
        ("one", &b"1"[..]),
        ("none", b""),
        ("many", &noise(300_000, 2)),
    ] {
        s.write(name, bytes);
        s.ok(&["pack", "--force", name, "x.mmh"]);
        let to = format!("deep/er/{name}.out");
        s.ok(&["unpack", "x.mmh", &to]);
        assert_eq!(fs::read(s.path(&to)).unwrap(), bytes, "{name}");
        fs::create_dir(s.path(&format!("into-{name}"))).unwrap();
        s.ok(&["unpack", "x.mmh", &format!("into-{name}")]);
        assert_eq!(
            fs::read(s.path(&format!("into-{name}/{name}"))).unwrap(),
            bytes
        );
        assert_eq!(s.ok(&["-R", "x.mmh", "ls"]), "trees/file\n");
        assert_eq!(
            s.ok(&["-R", "x.mmh", "ls", "trees/file"]),
            format!("{name}\n")
        );
    }
}

/// An empty folder is a thing, and so is a folder of empty folders.
#[test]
fn folders_without_files_come_back() {
    let s = Scratch::new();
    fs::create_dir_all(s.path("void/deep/er")).unwrap();
    fs::create_dir(s.path("bare")).unwrap();
    s.ok(&["pack", "void", "void.mmh"]);
    s.ok(&["unpack", "void.mmh", "out"]);
    assert!(s.path("out/deep/er").is_dir());
    s.ok(&["pack", "bare", "bare.mmh"]);
    s.ok(&["unpack", "bare.mmh", "out-bare"]);
    assert!(s.path("out-bare").is_dir());
    assert_eq!(s.below("out-bare").len(), 0);
}

/// What only reads works on an archive; what writes is refused and leaves the file as it was.
#[test]
fn an_archive_is_a_repository_to_read() {
    let s = sample();
    s.ok(&["pack", "m", "m.mmh"]);
    let before = fs::read(s.path("m.mmh")).unwrap();
    for args in [
        &["ls"][..],
        &["ls", "-l"],
        &["ls", "-lR", "trees/folder"],
        &["log"],
        &["log", "trees/folder"],
        &["show", "trees/folder"],
        &["show", "trees/folder:a"],
        &["diff", "trees/folder", "trees/folder:sub"],
        &["branch", "trees/folder"],
        &["tag", "trees/folder"],
        &["stat", "-f"],
        &["verify"],
        &["verify", "trees/folder:sub/b"],
        &["doctor"],
        &["get", "trees/folder:sub", "got"],
    ] {
        s.ok(&[&["-R", "m.mmh"], args].concat());
    }
    assert_eq!(s.ok(&["-R", "m.mmh", "cat", "trees/folder:sub/b"]), "text");
    assert_eq!(fs::read(s.path("got/b")).unwrap(), b"text");
    for args in [
        &["add", "m", "--to", "a/b"][..],
        &["branch", "trees/folder", "dev"],
        &["branch", "trees/folder", "main", "-d"],
        &["tag", "trees/folder", "v1"],
        &["rm", "trees/folder"],
        &["rm", "trees/folder:a"],
        &["undo"],
        &["doctor", "--rebuild-index"],
    ] {
        let ran = s.run(&[&["-R", "m.mmh"], args].concat());
        assert_eq!(ran.code, 5, "{args:?}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains("read-only"), "{args:?}: {}", ran.err);
    }
    assert_eq!(fs::read(s.path("m.mmh")).unwrap(), before);
}

/// `show` prints the digests of a whole file where the archive has them.
#[test]
fn digests_of_whole_files_are_kept_on_demand() {
    let s = sample();
    for with in [false, true] {
        let flags: &[&str] = if with { &["--digests"] } else { &[] };
        s.ok(&[&["pack", "--force", "m", "m.mmh"], flags].concat());
        let show = ["-R", "m.mmh", "show", "trees/folder:sub/b"];
        let text = s.ok(&show);
        let value = s.json(&show);
        for digest in ["blake3", "sha256"] {
            assert_eq!(text.contains(&format!("{digest} ")), with, "{text}");
            assert_eq!(value[digest].is_string(), with, "{value}");
            assert!(with || value[digest].is_null(), "{value}");
        }
    }
}

/// A file that was cut anywhere, or has a byte more, is refused, and nothing is restored.
#[test]
fn a_cut_archive_is_refused() {
    let s = Scratch::new();
    s.write("m/a", &noise(900, 1));
    s.ok(&["pack", "m", "m.mmh"]);
    let whole = fs::read(s.path("m.mmh")).unwrap();
    for len in (0..whole.len()).step_by(97).chain([whole.len() - 1]) {
        s.write("cut.mmh", &whole[..len]);
        let ran = s.run(&["unpack", "cut.mmh", "out"]);
        assert!(
            [2, 8].contains(&ran.code),
            "{len}: {} {}",
            ran.code,
            ran.err
        );
        assert!(ran.err.starts_with("error: "), "{len}: {}", ran.err);
        assert!(ran.err.contains("cut.mmh"), "{len}: {}", ran.err);
    }
    s.write("cut.mmh", &[&whole[..], b"x"].concat());
    assert_ne!(s.run(&["unpack", "cut.mmh", "out"]).code, 0);
    assert!(!s.path("out/a").exists());
}

/// A flipped bit is found by `unpack` or does not matter: no wrong byte is ever restored.
#[test]
fn a_flipped_archive_gives_no_wrong_byte() {
    let s = Scratch::new();
    let content = noise(900, 1);
    s.write("m/a", &content);
    s.ok(&["pack", "m", "m.mmh"]);
    let whole = fs::read(s.path("m.mmh")).unwrap();
    let mut refused = 0;
    for at in (0..whole.len()).step_by(53) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        s.write("flip.mmh", &bytes);
        let out = format!("out-{at}");
        let ran = s.run(&["unpack", "flip.mmh", &out]);
        assert!(!ran.err.contains("panicked"), "{at}: {}", ran.err);
        match ran.code {
            0 => assert_eq!(fs::read(s.path(&out).join("a")).unwrap(), content, "{at}"),
            2 | 4 | 8 => {
                refused += 1;
                assert!(!s.path(&out).join("a").exists(), "{at}");
            }
            code => panic!("{at}: {code} {}", ran.err),
        }
    }
    assert!(refused > 10, "{refused} of the flips were found");
}

/// `pack` that fails leaves an older archive of that name alone, and no partial file.
#[test]
fn a_failed_pack_leaves_what_was_there() {
    let s = sample();
    s.ok(&["pack", "m", "m.mmh"]);
    let before = fs::read(s.path("m.mmh")).unwrap();
    let names = || {
        let list = fs::read_dir(s.path(".")).unwrap();
        let mut names: Vec<_> = list.map(|item| item.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let listed = names();
    s.write("m/wrong\u{7}name", b"x");
    let ran = s.run(&["pack", "m", "m.mmh"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("not a valid file name"), "{}", ran.err);
    assert_eq!(fs::read(s.path("m.mmh")).unwrap(), before);
    assert_eq!(s.run(&["pack", "absent", "new.mmh"]).code, 3);
    assert_eq!(s.run(&["pack", "m/a", "no/such/folder.mmh"]).code, 3);
    assert_eq!(names(), listed);
}

/// An archive of an archive is a file like any other.
#[test]
fn archives_nest() {
    let s = sample();
    s.ok(&["pack", "m", "inner.mmh"]);
    s.ok(&["pack", "inner.mmh", "outer.mmh"]);
    s.ok(&["unpack", "outer.mmh", "again.mmh"]);
    assert_eq!(
        fs::read(s.path("again.mmh")).unwrap(),
        fs::read(s.path("inner.mmh")).unwrap()
    );
    s.ok(&["unpack", "again.mmh", "back"]);
    assert_eq!(fs::read(s.path("back/a")).unwrap(), noise(70_000, 1));
}

/// Files in the way: equal ones stay, others stop it unless told, folders stop it always.
#[test]
fn unpack_overwrites_only_when_told() {
    let s = sample();
    s.ok(&["pack", "m", "m.mmh"]);
    s.write("out/a", b"mine");
    s.write("out/other", b"stays");
    let refused = s.run(&["unpack", "m.mmh", "out"]);
    assert_eq!(refused.code, 6, "{}", refused.err);
    assert!(
        refused.err.contains("out/a exists with other content"),
        "{}",
        refused.err
    );
    assert_eq!(fs::read(s.path("out/a")).unwrap(), b"mine");
    s.ok(&["unpack", "m.mmh", "out", "--overwrite"]);
    assert_eq!(fs::read(s.path("out/a")).unwrap(), noise(70_000, 1));
    assert_eq!(fs::read(s.path("out/other")).unwrap(), b"stays");
    let again = s.json(&["unpack", "m.mmh", "out"]);
    assert_eq!((&again["written"], &again["kept"]), (&0.into(), &3.into()));
    fs::remove_file(s.path("out/a")).unwrap();
    fs::create_dir(s.path("out/a")).unwrap();
    let ran = s.run(&["unpack", "m.mmh", "out", "--overwrite"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("out/a is in the way"), "{}", ran.err);
    s.write("file", b"");
    let ran = s.run(&["unpack", "m.mmh", "file", "--overwrite"]);
    assert!(
        ran.err.contains("file is in the way and is no folder"),
        "{}",
        ran.err
    );
}
