//! Every kind of failure has its exit status and a message that says what, where and what next.

use std::fs;

use crate::support::{Scratch, noise, ran};

fn fails(s: &Scratch, args: &[&str], code: i32, says: &str) {
    let ran = s.run(args);
    assert_eq!(ran.code, code, "{args:?}: {} {}", ran.out, ran.err);
    assert!(ran.err.contains(says), "{args:?}: {}", ran.err);
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
}

#[test]
fn requests_that_make_no_sense_exit_with_2() {
    let s = Scratch::new();
    s.write("m/a", b"1");
    s.ok(&["add", "m", "--to", "a/b"]);
    fails(&s, &["add", "m", "--to", "../x"], 2, "not a valid name");
    fails(&s, &["cat", "a/b:../a"], 2, "not a valid file name");
    fails(&s, &["cat", "a/b:a", "--range", "5-"], 2, "does not fit");
    fails(&s, &["cat", "a/b:a", "--range", "x"], 2, "range");
    fails(&s, &["cat", "a/b"], 2, "not a file");
    fails(&s, &["frobnicate"], 2, "unrecognized");
    fails(&s, &["-j", "0", "ls"], 2, "1 to 1024");
    fails(&s, &["inspect", "m"], 2, "folder");
    fails(&s, &["bench", "m"], 2, "no file");
    fails(&s, &["-R", "m/a", "ls"], 2, "archive");
}

#[test]
fn what_is_not_there_exits_with_3() {
    let s = Scratch::new();
    fails(&s, &["ls", "a/b"], 3, "`a/b` is not in the repository");
    fails(&s, &["get", "a/b", "out"], 3, "a/b");
    fails(&s, &["add", "absent", "--to", "a/b"], 3, "absent");
    fails(&s, &["undo"], 3, "undo");
    fails(&s, &["inspect", "absent"], 3, "absent");
    fails(&s, &["bench", "absent"], 3, "absent");
    let mut outside = s.command(&["ls"]);
    let ran = ran(outside.env_remove("MMH_REPOSITORY").output().unwrap());
    assert_eq!(ran.code, 3);
    assert!(ran.err.contains("mmh init"), "{}", ran.err);
}

#[test]
fn unknown_engines_exit_with_4() {
    let s = Scratch::new();
    fails(&s, &["-R", "ftp://host/prefix", "ls"], 4, "s3://");
    fails(
        &s,
        &["--log", "mysql://host/db", "init", "other"],
        4,
        "postgres://",
    );
}

#[test]
fn conflicts_exit_with_6() {
    let s = Scratch::new();
    s.write("m/a", b"1");
    s.write("out/a", b"2");
    s.ok(&["add", "m", "--to", "a/b"]);
    s.ok(&["tag", "a/b", "v1"]);
    fails(&s, &["tag", "a/b", "v1"], 6, "exists already");
    fails(&s, &["get", "a/b", "out"], 6, "other content");
    s.ok(&["get", "a/b", "out", "--overwrite"]);
}

#[test]
fn damage_exits_with_8_and_names_the_file() {
    let s = Scratch::without_parity();
    s.write("m/data.bin", &noise(200_000, 1));
    s.ok(&["add", "m", "--to", "a/b"]);
    let shelf = fs::read_dir(s.path("repo/mmh/packs"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let pack = fs::read_dir(shelf).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[100_000] ^= 1;
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, bytes).unwrap();
    let ran = s.run(&["verify"]);
    assert_eq!(ran.code, 8, "{}", ran.err);
    assert!(ran.out.contains("a/b@heads/main:data.bin"), "{}", ran.out);
    fails(&s, &["-q", "verify"], 8, "does not hold");
    fails(&s, &["get", "a/b", "out"], 8, "verify");
    fails(&s, &["cat", "a/b:data.bin"], 8, "chunk");
}

/// Arguments that no command takes are answered in JSON too, and help stays help.
#[test]
fn misread_arguments_are_errors_in_json() {
    let s = Scratch::new();
    for args in [
        &["--json", "frobnicate"][..],
        &["get", "a/b", "--json"],
        &["cat", "a/b:../c", "--json"],
    ] {
        let ran = s.run(args);
        let error: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
        assert_eq!(
            (ran.code, &error["error"]["exit"]),
            (2, &2.into()),
            "{args:?}"
        );
        assert_eq!(error["error"]["kind"], "invalid");
    }
    let help = s.run(&["--help", "--json"]);
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    assert!(help.out.contains("Usage"), "{}", help.out);
}

/// A message that says what to do is not followed by other advice.
#[test]
fn advice_fits_the_message() {
    let s = Scratch::new();
    s.write("m/a", b"1");
    s.write("out/a", b"2");
    s.ok(&["add", "m", "--to", "a/b"]);
    let ran = s.run(&["get", "a/b", "out"]);
    assert!(ran.err.contains("--overwrite"), "{}", ran.err);
    assert!(!ran.err.contains("another writer"), "{}", ran.err);
    let ran = s.run(&["add", "absent", "--to", "a/b"]);
    assert!(!ran.err.contains("mmh ls"), "{}", ran.err);
    fails(&s, &["cat", "a/b:a", "--range", "5-9"], 2, "range 5-9 does");
    s.ok(&["undo"]);
    fails(&s, &["undo"], 3, "nothing to undo");
}

/// Messages, links and names come from whoever made the repository.
#[cfg(unix)]
#[test]
fn text_from_a_repository_cannot_steer_the_terminal() {
    let s = Scratch::new();
    s.write("m/a", b"1");
    std::os::unix::fs::symlink("\u{1b}[31mred\nforged", s.path("m/link")).unwrap();
    let message = "first\nsecond \u{1b}]0;title\u{7}";
    s.ok(&[
        "--author",
        "\u{1b}[2J",
        "add",
        "m",
        "--to",
        "a/b",
        "-m",
        message,
    ]);
    for args in [
        &["log", "a/b"][..],
        &["log"],
        &["show", "a/b"],
        &["ls", "a/b"],
        &["show", "a/b:link"],
        &["get", "a/b:link", "out"],
    ] {
        let ran = s.run(args);
        let text = format!("{}{}", ran.out, ran.err);
        let odd = |c: char| c.is_control() && c != '\n';
        assert!(!text.contains(odd), "{args:?}: {text:?}");
        assert!(!text.contains("\nforged"), "{args:?}: {text:?}");
    }
    assert!(s.ok(&["log", "a/b"]).contains("\n    second"));
    let exact = s.json(&["log", "a/b"]);
    assert_eq!(exact[0]["message"], message);
}

/// To open a pipe is to wait for its writer; what is no file is refused before.
#[cfg(target_os = "linux")]
#[test]
fn what_is_no_file_is_refused() {
    let s = Scratch::new();
    fails(&s, &["inspect", "/dev/zero"], 2, "no file");
    fails(
        &s,
        &["add", "/dev/null", "--to", "a/b"],
        2,
        "nothing to add",
    );
    fails(&s, &["pack", "/dev/null", "x.mmh"], 2, "nothing to add");
    assert!(!s.path("x.mmh").exists());
}

#[test]
fn errors_in_json_have_kind_and_message() {
    let s = Scratch::new();
    let ran = s.run(&["--json", "ls", "a/b"]);
    let error: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!(error["error"]["kind"], "not_found");
    assert!(ran.out.is_empty());
}

#[test]
fn a_second_init_is_refused() {
    let s = Scratch::new();
    let ran = s.run(&["init", "repo"]);
    assert!([2, 6].contains(&ran.code), "{}", ran.err);
    assert!(ran.err.contains("already"), "{}", ran.err);
}

/// `mmh cat | head` must end quietly; a full disk behind a redirect must not.
#[cfg(target_os = "linux")]
#[test]
fn a_closed_pipe_is_silent_and_a_full_disk_is_not() {
    use std::process::Stdio;
    let s = Scratch::new();
    s.write("m/big", &noise(3_000_000, 2));
    s.ok(&["add", "m", "--to", "a/b"]);
    let mut child = s
        .command(&["cat", "a/b:big"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut script = s
        .command(&["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(script.stdout.take());
    let unread = ran(script.wait_with_output().unwrap());
    assert_eq!((unread.code, unread.err.as_str()), (0, ""));
    let closed = ran(child.wait_with_output().unwrap());
    assert_eq!((closed.code, closed.err.as_str()), (0, ""));
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = s
        .command(&["cat", "a/b:big"])
        .stdout(full)
        .output()
        .unwrap();
    let full = ran(output);
    assert_eq!(full.code, 7, "{}", full.err);
    assert!(full.err.contains("standard output"), "{}", full.err);
}
