//! Readers that go away, disks that are full, and terminals that are none.

use std::process::Stdio;

use crate::support::{Ran, Scratch, noise, ran};

fn sample() -> Scratch {
    let s = Scratch::new();
    for i in 0..30 {
        s.write(&format!("m/file-{i}"), format!("text {i}").as_bytes());
    }
    s.write("m/noise", &noise(50_000, 1));
    s.ok(&["add", "m", "--to", "a/b"]);
    s
}

const READING: [&[&str]; 13] = [
    &["ls"],
    &["ls", "-lR", "a/b"],
    &["log"],
    &["log", "a/b"],
    &["show", "a/b"],
    &["show", "a/b:noise"],
    &["cat", "a/b:noise"],
    &["branch", "a/b"],
    &["stat", "-f"],
    &["verify"],
    &["inspect", "m/noise"],
    &["doctor"],
    &["completions", "zsh"],
];

/// Runs with a standard output whose reader has gone before anything is written.
fn unread(s: &Scratch, args: &[&str]) -> Ran {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = s
        .command(args)
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn();
    ran(child.unwrap().wait_with_output().unwrap())
}

/// `mmh … | head` ends quietly, whatever the command and its form.
#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let s = sample();
    for args in READING {
        for json in [&[][..], &["--json"]] {
            let args = [args, json].concat();
            let ran = unread(&s, &args);
            assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
        }
    }
}

/// A change whose report nobody reads is made all the same.
#[test]
fn a_change_is_made_although_nobody_reads_its_report() {
    let s = sample();
    s.write("new/a", b"1");
    for args in [
        &["add", "new", "--to", "a/new"][..],
        &["tag", "a/new", "v1"],
        &["rm", "a/new:a"],
        &["undo"],
        &["get", "a/b", "out"],
        &["pack", "m", "m.mmh"],
    ] {
        let ran = unread(&s, args);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
    }
    assert_eq!(s.ok(&["cat", "a/new@v1:a"]), "1");
    assert_eq!(s.ok(&["cat", "a/new:a"]), "1");
    assert_eq!(s.below("out").len(), 31);
    s.ok(&["unpack", "m.mmh", "back"]);
}

/// A full disk behind a redirect is a failure that says so, whatever the command and its form.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_a_failure() {
    let s = sample();
    for args in READING {
        for json in [&[][..], &["--json"]] {
            let args = [args, json].concat();
            let full = std::fs::File::options()
                .write(true)
                .open("/dev/full")
                .unwrap();
            let ran = ran(s.command(&args).stdout(full).output().unwrap());
            assert_eq!(ran.code, 7, "{args:?}: {}", ran.err);
            assert!(ran.err.contains("standard output"), "{args:?}: {}", ran.err);
        }
    }
}

/// A failure keeps its exit status when nobody can be told of it.
#[test]
fn the_status_survives_a_closed_standard_error() {
    let s = sample();
    for (args, code) in [
        (&["ls", "a/none"][..], 3),
        (&["ls", "a/none", "--json"], 3),
        (&["frobnicate"], 2),
        (&["frobnicate", "--json"], 2),
        (&["tag", "a/b", "main"], 6),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = s
            .command(args)
            .stderr(writer)
            .stdout(Stdio::null())
            .status();
        assert_eq!(status.unwrap().code(), Some(code), "{args:?}");
    }
}

/// Into a pipe there are no colours and no progress bars, whatever the terminal can do.
#[test]
fn pipes_get_plain_text() {
    let s = sample();
    for args in READING {
        let output = s
            .command(args)
            .env("TERM", "xterm-256color")
            .output()
            .unwrap();
        if args[0] != "cat" {
            assert!(!output.stdout.contains(&0x1b), "{args:?}");
        }
        assert!(output.stderr.is_empty(), "{args:?}");
    }
    s.write("big/a", &noise(2_000_000, 5));
    let ran = s.run(&["add", "big", "--to", "a/big"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let ran = s.run(&["ls", "a/none"]);
    assert!(ran.err.starts_with("error: ") && !ran.err.contains('\u{1b}'));
}

/// Colours can be asked for; then they are closed on each line they are opened on.
#[test]
fn colours_are_closed_where_they_are_opened() {
    let s = sample();
    for args in [
        &["ls", "-l", "a/b"][..],
        &["log"],
        &["stat", "-f"],
        &["show", "a/b"],
    ] {
        let output = s.command(args).env("CLICOLOR_FORCE", "1").output().unwrap();
        let text = ran(output).out;
        assert!(text.contains("\u{1b}["), "{args:?}");
        for line in text.lines() {
            let mut open = false;
            for code in line.split("\u{1b}[").skip(1) {
                open = !code.starts_with("0m");
            }
            assert!(!open, "{args:?}: {line:?}");
        }
    }
    let plain = s
        .command(&["log"])
        .env("CLICOLOR_FORCE", "1")
        .env("NO_COLOR", "1")
        .output();
    let json = s
        .command(&["log", "--json"])
        .env("CLICOLOR_FORCE", "1")
        .output();
    let json = ran(json.unwrap()).out;
    assert!(!json.contains('\u{1b}'));
    assert!(plain.unwrap().status.success());
}

/// Quiet commands print nothing but what was asked for by name: bytes of `cat`, and errors.
#[test]
fn quiet_leaves_bytes_and_errors() {
    let s = sample();
    for args in READING {
        let ran = s.run(&[&["-q"], args].concat());
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
        let speaks = ["cat", "completions"].contains(&args[0]);
        assert_eq!(ran.out.is_empty(), !speaks, "{args:?}: {}", ran.out);
    }
    let ran = s.run(&["-q", "ls", "a/none"]);
    assert_eq!((ran.code, ran.out.as_str()), (3, ""));
    assert!(ran.err.contains("a/none"));
    let both = s.run(&["-q", "-v", "ls"]);
    assert_eq!(both.code, 2);
    assert!(both.err.contains("cannot be used with"), "{}", both.err);
}
