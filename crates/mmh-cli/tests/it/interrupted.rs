//! `kill -9` in the middle of `add`, again and again: the repository stays whole.
//!
//! A few kills here; `cargo xtask drill kill` does two hundred.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use crate::support::{Scratch, noise};

#[test]
fn kill_at_any_moment_leaves_a_valid_repository() {
    let s = Scratch::new();
    for i in 0..6 {
        s.write(&format!("m/file-{i}"), &noise(6_000_000, i));
    }
    s.write("before/x", b"acknowledged");
    s.ok(&["add", "before", "--to", "acme/before"]);
    for round in 0u64..8 {
        let mut child = s
            .command(&["add", "m", "--to", "acme/m"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The moment is what varies; nothing is asserted about time.
        std::thread::sleep(Duration::from_millis(5 + round * round * 12));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(s.ok(&["cat", "acme/before:x"]), "acknowledged");
        s.ok(&["verify"]);
    }
    s.ok(&["add", "m", "--to", "acme/m"]);
    s.ok(&["get", "acme/m", "out"]);
    for i in 0..6 {
        let name = format!("file-{i}");
        assert_eq!(
            fs::read(s.path("out").join(name)).unwrap(),
            noise(6_000_000, i)
        );
    }
    assert!(s.ok(&["verify"]).starts_with("all right"));
}
