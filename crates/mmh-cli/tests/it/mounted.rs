//! `mmh mount` and what goes with it: plain programs see what was added, whoever dies.

#![cfg(target_os = "linux")]
#![allow(clippy::print_stderr, reason = "what is skipped is said")]

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::support::{Scratch, noise, ran};

/// A folder that is mounted; killed and unmounted if a test fails.
struct Mounted {
    child: Child,
    place: PathBuf,
    /// What it said when it was ready.
    said: serde_json::Value,
}

impl Mounted {
    /// Mounts at `mnt`; nothing, and why, if that cannot be done here.
    fn start(scratch: &Scratch, more: &[&str]) -> Option<Self> {
        let place = scratch.path("mnt");
        std::fs::create_dir_all(&place).unwrap();
        let args = [&["mount", "mnt", "--json"], more].concat();
        let mut command = scratch.command(&args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        while !text.ends_with("}\n") {
            if out.read_line(&mut text).unwrap() == 0 {
                let ran = ran(child.wait_with_output().unwrap());
                assert!(matches!(ran.code, 4 | 5), "{ran:?}");
                eprintln!("SKIPPED: nothing can be mounted here: {}", ran.err);
                return None;
            }
        }
        let said: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(said["writes"], more.contains(&"--rw"));
        Some(Self { child, place, said })
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &id])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _gone_already = self.child.kill().is_err();
        let _gone_already = self.child.wait().is_err();
        let mut unmount = Command::new(env!("CARGO_BIN_EXE_mmh"));
        unmount.args(["unmount", "--lazy"]).arg(&self.place);
        let _gone_already = unmount.stderr(Stdio::null()).stdout(Stdio::null()).status();
    }
}

fn sample() -> (Scratch, Vec<u8>) {
    let s = Scratch::new();
    let bytes = noise(3_000_000, 5);
    s.write("m/model.bin", &bytes);
    s.write("m/sub/config.json", b"{}");
    s.ok(&["add", "m", "--to", "acme/m"]);
    (s, bytes)
}

#[test]
fn names_are_mounted_until_somebody_unmounts() {
    let (s, bytes) = sample();
    let Some(mut mounted) = Mounted::start(&s, &[]) else {
        return;
    };
    let model = mounted.place.join("models/acme/m");
    assert!(std::fs::read(model.join("model.bin")).unwrap() == bytes);
    // What is added while it is mounted is there.
    s.write("n/new", b"new");
    s.ok(&["add", "n", "--to", "acme/n"]);
    let new = mounted.place.join("models/acme/n/new");
    assert_eq!(std::fs::read(new).unwrap(), b"new");
    let unmounted = s.json(&["unmount", "mnt"]);
    assert_eq!(unmounted["unmounted"], "mnt");
    assert!(mounted.child.wait().unwrap().success());
    assert_eq!(std::fs::read_dir(&mounted.place).unwrap().count(), 0);
    assert_eq!(s.run(&["unmount", "mnt"]).code, 2);
}

#[test]
fn one_name_is_mounted_until_a_signal() {
    let (s, bytes) = sample();
    for signal in ["-INT", "-TERM"] {
        let Some(mut mounted) = Mounted::start(&s, &["acme/m@main"]) else {
            return;
        };
        assert!(std::fs::read(mounted.place.join("model.bin")).unwrap() == bytes);
        mounted.signal(signal);
        assert!(mounted.child.wait().unwrap().success());
        assert_eq!(std::fs::read_dir(&mounted.place).unwrap().count(), 0);
    }
}

/// A daemon that was killed leaves a dead folder; the next mount takes its place.
#[test]
fn a_killed_mount_is_mounted_again() {
    let (s, bytes) = sample();
    let Some(mut mounted) = Mounted::start(&s, &["acme/m"]) else {
        return;
    };
    mounted.signal("-KILL");
    mounted.child.wait().unwrap();
    assert!(std::fs::read(mounted.place.join("model.bin")).is_err());
    let again = Mounted::start(&s, &["acme/m"]).unwrap();
    assert!(std::fs::read(again.place.join("model.bin")).unwrap() == bytes);
    drop(again);
    drop(mounted);
    let Some(mut third) = Mounted::start(&s, &["acme/m"]) else {
        return;
    };
    third.signal("-KILL");
    third.child.wait().unwrap();
    assert_eq!(s.json(&["unmount", "mnt"])["unmounted"], "mnt");
}

#[test]
fn what_cannot_be_mounted_is_refused() {
    let (s, _) = sample();
    std::fs::create_dir_all(s.path("mnt")).unwrap();
    for (args, code) in [
        (vec!["mount", "absent"], 3),
        (vec!["mount", "m/model.bin"], 2),
        (vec!["mount", "mnt", "acme/none"], 3),
        (vec!["mount", "mnt", "acme/m:model.bin"], 2),
        (vec!["unmount", "mnt"], 2),
        (vec!["unmount", "absent/x"], 3),
        (vec!["mount", "mnt", "--cache-size", "much"], 2),
    ] {
        assert_eq!(s.run(&args).code, code, "{args:?}");
    }
}

/// What was synced is there after the daemon was killed in the middle of writing, and is committed.
#[test]
fn a_killed_workspace_loses_nothing_that_was_synced() {
    use std::io::Write as _;
    let (s, bytes) = sample();
    let Some(mut mounted) = Mounted::start(&s, &["--rw", "acme/m"]) else {
        return;
    };
    assert_eq!(mounted.said["recovered"], false);
    let work = mounted.place.clone();
    let model = work.join("model.bin");
    let mut file = std::fs::File::options().write(true).open(model).unwrap();
    file.write_all(b"changed").unwrap();
    file.sync_all().unwrap();
    let mut log = std::fs::File::create(work.join("sub/log")).unwrap();
    let mut synced = 0;
    for n in 0..46u8 {
        log.write_all(&[n; 1000]).unwrap();
        if n % 10 == 9 {
            log.sync_all().unwrap();
            synced = usize::from(n) + 1;
        }
    }
    mounted.signal("-KILL");
    mounted.child.wait().unwrap();
    drop((file, log));
    let again = Mounted::start(&s, &["--rw", "acme/m"]).unwrap();
    assert_eq!(again.said["recovered"], true);
    let expected = [b"changed", &bytes[7..]].concat();
    assert!(std::fs::read(work.join("model.bin")).unwrap() == expected);
    let log = std::fs::read(work.join("sub/log")).unwrap();
    assert!(log.len() >= synced * 1000);
    let is = |part: &[u8], n: u8| part.iter().all(|byte| *byte == n);
    assert!(log.chunks(1000).zip(0u8..).all(|(part, n)| is(part, n)));
    let done = s.json(&["commit", "mnt", "-m", "after a crash"]);
    assert_eq!((&done["changed"], &done["read"]), (&true.into(), &2.into()));
    assert_eq!(s.json(&["commit", "mnt"])["changed"], false);
    s.ok(&["get", "acme/m", "out"]);
    assert!(std::fs::read(s.path("out/model.bin")).unwrap() == expected);
    assert!(std::fs::read(s.path("out/sub/log")).unwrap() == log);
    assert!(s.ok(&["log", "acme/m"]).contains("after a crash"));
}

#[test]
fn a_workspace_may_be_committed_when_it_ends_or_given_up() {
    let (s, _) = sample();
    let rw = ["--rw", "acme/m"];
    let Some(mut mounted) = Mounted::start(&s, &[&rw[..], &["--commit"]].concat()) else {
        return;
    };
    std::fs::write(mounted.place.join("new"), b"1").unwrap();
    mounted.signal("-INT");
    assert!(mounted.child.wait().unwrap().success());
    assert_eq!(s.ok(&["cat", "acme/m:new"]), "1");
    drop(mounted);
    // The second is found again, and thrown away when that is asked for.
    let mut mounted = Mounted::start(&s, &rw).unwrap();
    std::fs::write(mounted.place.join("new"), b"22").unwrap();
    s.json(&["unmount", "mnt"]);
    assert!(mounted.child.wait().unwrap().success());
    assert_eq!(s.ok(&["cat", "acme/m:new"]), "1");
    drop(mounted);
    let mounted = Mounted::start(&s, &[&rw[..], &["--discard"]].concat()).unwrap();
    assert_eq!(std::fs::read(mounted.place.join("new")).unwrap(), b"1");
    // Somebody else moves the branch: that is said, and nothing is lost.
    std::fs::write(mounted.place.join("mine"), b"3").unwrap();
    s.write("m/theirs", b"4");
    s.ok(&["add", "m", "--to", "acme/m"]);
    assert_eq!(s.run(&["commit", "mnt"]).code, 6);
    assert_eq!(std::fs::read(mounted.place.join("mine")).unwrap(), b"3");
    assert_eq!(s.run(&["commit", "m"]).code, 2);
    let busy = s.run(&["mount", "m", "--rw", "acme/m"]);
    assert_eq!(busy.code, 6, "{busy:?}");
    let both = s.run(&["mount", "m", "acme/m", "--rw", "acme/m"]);
    assert_eq!(both.code, 2);
}

#[test]
fn the_cache_is_filled_looked_at_pinned_and_emptied() {
    let (s, bytes) = sample();
    let stat = |key: &str| s.json(&["cache", "stat"])[key].as_u64().unwrap();
    assert_eq!((stat("files"), stat("bytes")), (0, 0));
    let fetched = s.json(&["prefetch", "acme/m"]);
    assert_eq!(fetched["fetched"], 2);
    assert_eq!(s.json(&["prefetch", "acme/m"])["kept"], 2);
    assert_eq!((stat("files"), stat("bytes")), (2, bytes.len() as u64 + 2));
    s.json(&["cache", "pin", "acme/m:model.bin"]);
    assert_eq!(
        (stat("pinned_files"), stat("pinned_bytes")),
        (1, bytes.len() as u64)
    );
    assert_eq!(s.json(&["cache", "clear"])["removed"], 1);
    assert_eq!(s.json(&["cache", "unpin", "acme/m"])["unpinned"], 1);
    assert_eq!(s.json(&["cache", "clear"])["removed"], 1);
    // Only what a profile names, and what fits.
    s.write(
        "profile",
        b"# a comment\nsub/config.json\n\nabsent\nsub/config.json\n",
    );
    let fetched = s.json(&["prefetch", "acme/m", "--profile", "profile"]);
    assert_eq!(
        (&fetched["fetched"], &fetched["fetched_bytes"]),
        (&1.into(), &2.into())
    );
    let fetched = s.json(&["prefetch", "acme/m", "--cache-size", "1M"]);
    assert_eq!(fetched["skipped"].as_array().unwrap().len(), 1);
    assert_eq!(s.run(&["prefetch", "acme/m", "--profile", "none"]).code, 3);
    let off = s.run(&["prefetch", "acme/m", "--cache-size", "off"]);
    assert_eq!(off.code, 2, "{off:?}");
    // For people.
    assert!(s.ok(&["cache", "stat"]).contains("1 file"));
}

/// What is sealed is not laid down in the clear unless that is asked for.
#[test]
fn files_of_a_sealed_repository_are_kept_only_on_demand() {
    let s = Scratch::new();
    let key = s.write("secret", b"a passphrase of some length");
    let sealed = |args: &[&str]| {
        let mut command = s.command(args);
        command.env("MMH_PASSPHRASE_FILE", &key);
        command.env("MMH_REPOSITORY", s.path("sealed"));
        ran(command.output().unwrap())
    };
    let made = sealed(&["init", "sealed", "--encrypt"]);
    assert_eq!(made.code, 0, "{made:?}");
    s.write("m/secret.bin", &noise(2_000_000, 1));
    assert_eq!(sealed(&["add", "m", "--to", "acme/m"]).code, 0);
    let refused = sealed(&["prefetch", "acme/m"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(s.below(".cache/mmh/files").is_empty());
    assert_eq!(
        sealed(&["prefetch", "acme/m", "--cache-size", "1G"]).code,
        0
    );
    assert_eq!(s.below(".cache/mmh/files").len(), 1);
}
