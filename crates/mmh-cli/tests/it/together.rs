//! Several processes at once, and processes that are asked to stop.

use std::fs;
use std::process::{Child, Command, Stdio};

use crate::support::{Ran, Scratch, noise, ran};

fn start(s: &Scratch, args: &[&str]) -> Child {
    let mut command = s.command(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn end(child: Child) -> Ran {
    ran(child.wait_with_output().unwrap())
}

/// What Ctrl-C sends.
fn interrupt(child: &Child) {
    let line = format!("kill -INT {}", child.id());
    assert!(
        Command::new("sh")
            .args(["-c", &line])
            .status()
            .unwrap()
            .success()
    );
}

/// Writers of one branch take turns: all succeed, nothing is lost, history is one line.
#[test]
fn writers_of_one_branch_lose_nothing() {
    let s = Scratch::new();
    for i in 0..4 {
        s.write(&format!("m{i}/file-{i}"), &noise(20_000, i));
        s.write(&format!("m{i}/shared"), b"the same in all");
    }
    let children: Vec<Child> = (0..4)
        .map(|i| start(&s, &["add", &format!("m{i}"), "--to", "a/b"]))
        .collect();
    for child in children {
        let ran = end(child);
        assert_eq!(ran.code, 0, "{}", ran.err);
    }
    assert_eq!(
        s.ok(&["ls", "a/b"]),
        "file-0\nfile-1\nfile-2\nfile-3\nshared\n"
    );
    let log = s.json(&["log", "a/b"]);
    let log = log.as_array().unwrap();
    assert_eq!(log.len(), 4);
    for (newer, older) in log.iter().zip(&log[1..]) {
        assert_eq!(newer["parents"][0], older["id"]);
    }
    assert!(s.ok(&["verify"]).starts_with("all right"));
}

/// Writers of different names share what is equal and disturb no reader. `verify` once looked
/// refs up that were newer than the index it had read, and called them damaged.
#[test]
fn writers_and_readers_of_different_names() {
    let s = Scratch::new();
    s.write("old/a", &noise(100_000, 9));
    s.ok(&["add", "old", "--to", "a/old"]);
    let (mut writers, mut readers) = (Vec::new(), Vec::new());
    for i in 0..3 {
        s.write(&format!("m{i}/own"), &noise(50_000, i));
        writers.push(start(
            &s,
            &["add", &format!("m{i}"), "--to", &format!("a/n{i}")],
        ));
        readers.push(start(&s, &["cat", "a/old:a"]));
        readers.push(start(&s, &["ls", "-R", "a/old"]));
        readers.push(start(&s, &["log"]));
        readers.push(start(&s, &["verify"]));
    }
    for child in writers.into_iter().chain(readers) {
        let ran = end(child);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    }
    assert_eq!(s.json(&["ls"]).as_array().unwrap().len(), 4);
    let seqs = s.json(&["log"]);
    let seqs: Vec<_> = seqs
        .as_array()
        .unwrap()
        .iter()
        .map(|op| op["seq"].clone())
        .collect();
    assert_eq!(serde_json::json!(seqs), serde_json::json!([4, 3, 2, 1]));
    assert!(s.ok(&["verify"]).starts_with("all right"));
}

/// Of several that create one tag, exactly one succeeds; the others are told of the conflict.
#[test]
fn one_of_many_makes_the_tag() {
    let s = Scratch::new();
    s.write("m/a", b"1");
    s.ok(&["add", "m", "--to", "a/b"]);
    let children: Vec<Child> = (0..4).map(|_| start(&s, &["tag", "a/b", "v1"])).collect();
    let mut codes: Vec<i32> = children.into_iter().map(|child| end(child).code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 6, 6, 6]);
    assert_eq!(s.json(&["log"]).as_array().unwrap().len(), 2);
}

/// Of several that make a repository in one place, exactly one succeeds.
#[test]
fn one_of_many_makes_the_repository() {
    let s = Scratch::new();
    let children: Vec<Child> = (0..4).map(|_| start(&s, &["init", "race"])).collect();
    let codes: Vec<i32> = children.into_iter().map(|child| end(child).code).collect();
    assert_eq!(
        codes.iter().filter(|code| **code == 0).count(),
        1,
        "{codes:?}"
    );
    assert!(
        codes.iter().all(|code| [0, 2, 6].contains(code)),
        "{codes:?}"
    );
    s.ok(&["-R", "race", "ls"]);
}

/// A process that ends with the test, however that ends.
struct Held(Option<Child>);

impl Held {
    fn start(s: &Scratch, args: &[&str]) -> Self {
        Self(Some(start(s, args)))
    }

    fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    fn interrupted(mut self) -> Ran {
        interrupt(self.child());
        end(self.0.take().unwrap())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(child) = self.0.as_mut() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// Waits until a process has put at least `len` bytes into a folder. By then it listens for
/// Ctrl-C, which it begins to do when it starts.
fn wait_for_bytes(s: &Scratch, dir: &str, len: u64, child: &mut Child) {
    loop {
        let sizes = s.below(dir).into_iter().filter_map(|f| f.metadata().ok());
        if sizes.map(|meta| meta.len()).sum::<u64>() >= len {
            return;
        }
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "it ended before it was interrupted");
        std::thread::yield_now();
    }
}

/// Ctrl-C during `add`: status 130, a word on how to go on, no name made; the next add finds
/// what was stored.
#[test]
fn an_interrupted_add_is_resumed() {
    let s = Scratch::new();
    s.write("m/a", &noise(8_000_000, 1));
    // Long enough that nobody waits for its end; only its name takes room on the disk.
    let huge = fs::File::create(s.path("m/z")).unwrap();
    huge.set_len(64 << 30).unwrap();
    let mut held = Held::start(&s, &["add", "m", "--to", "a/b", "-j", "2"]);
    wait_for_bytes(&s, "repo/mmh/staging", 7_000_000, held.child());
    let ran = held.interrupted();
    assert_eq!(ran.code, 130, "{}", ran.err);
    assert!(
        ran.err.contains("run the command again to go on"),
        "{}",
        ran.err
    );
    assert_eq!(ran.out, "");
    assert_eq!(s.run(&["ls", "a/b"]).code, 3);
    assert!(s.ok(&["verify"]).starts_with("all right"));
    huge.set_len(0).unwrap();
    let report = s.json(&["add", "m", "--to", "a/b"]);
    let new = report["new_raw"].as_u64().unwrap();
    assert!(new < 4_000_000, "{new} of 8000000 bytes were stored again");
    s.ok(&["get", "a/b", "out"]);
    assert!(fs::read(s.path("out/a")).unwrap() == noise(8_000_000, 1));
}

/// Ctrl-C during `pack`: status 130 and no file, neither whole nor partial.
#[test]
fn an_interrupted_pack_leaves_no_file() {
    let s = Scratch::new();
    s.write("m/a", &noise(3_000_000, 1));
    let huge = fs::File::create(s.path("m/z")).unwrap();
    huge.set_len(64 << 30).unwrap();
    fs::create_dir(s.path("to")).unwrap();
    let mut held = Held::start(&s, &["pack", "m", "to/m.mmh"]);
    wait_for_bytes(&s, "to", 2_000_000, held.child());
    let ran = held.interrupted();
    assert_eq!(ran.code, 130, "{}", ran.err);
    assert_eq!(s.below("to").len(), 0);
}

/// Ctrl-C during `cat` into a slow reader: it stops at the next piece.
#[test]
fn an_interrupted_cat_stops() {
    use std::io::Read;
    let s = Scratch::new();
    fs::create_dir(s.path("m")).unwrap();
    s.write("m/a", &noise(6_000_000, 1));
    s.ok(&["add", "m", "--to", "a/b"]);
    let mut child = start(&s, &["cat", "a/b:a"]);
    let mut out = child.stdout.take().unwrap();
    let mut first = vec![0; 2_000_000];
    out.read_exact(&mut first).unwrap();
    interrupt(&child);
    // Whatever was on its way may come; then it ends.
    let mut rest = Vec::new();
    out.read_to_end(&mut rest).unwrap();
    let ran = end(child);
    assert!([0, 130].contains(&ran.code), "{ran:?}");
    let whole = noise(6_000_000, 1);
    assert!(whole.starts_with(&[&first[..], &rest].concat()));
    assert!(ran.code == 130 || first.len() + rest.len() == whole.len());
}
