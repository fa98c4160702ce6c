//! Runs `mmh` in a folder of its own, cut off from the settings of whoever runs the tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

pub(crate) struct Scratch {
    dir: TempDir,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Scratch {
    /// A folder with an empty repository in `repo`.
    pub(crate) fn new() -> Self {
        Self::with(&["init", "repo"])
    }

    /// The same, whose packs have no parity: damage stays.
    pub(crate) fn without_parity() -> Self {
        Self::with(&["init", "repo", "--parity", "off"])
    }

    fn with(init: &[&str]) -> Self {
        let scratch = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        scratch.ok(init);
        scratch
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// All files below a folder, in order; none if a process has not made it yet.
    pub(crate) fn below(&self, name: &str) -> Vec<PathBuf> {
        let (mut files, mut open) = (Vec::new(), vec![self.path(name)]);
        while let Some(dir) = open.pop() {
            let Ok(items) = std::fs::read_dir(dir) else {
                continue;
            };
            for item in items {
                let path = item.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    files.push(path);
                }
            }
        }
        files.sort();
        files
    }

    /// Puts other bytes into a file of the repository, which may be write-protected.
    pub(crate) fn replace(&self, path: &Path, bytes: &[u8]) {
        assert!(path.starts_with(self.dir.path()));
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mmh"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .env("HOME", self.dir.path())
            .env("USER", "tester")
            .env("MMH_REPOSITORY", self.path("repo"));
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        ran(self.command(args).output().unwrap())
    }

    /// Runs and expects success; gives standard output.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        ran.out
    }

    /// Runs with `--json` and parses the answer.
    pub(crate) fn json(&self, args: &[&str]) -> serde_json::Value {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.ok(&args)).unwrap()
    }
}

pub(crate) fn ran(output: Output) -> Ran {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let code = output.status.code().unwrap_or(-1);
    Ran {
        code,
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// Bytes from a fixed sequence: incompressible, the same for the same start.
pub(crate) fn noise(len: usize, start: u64) -> Vec<u8> {
    let mut state = start.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[4]
        })
        .collect()
}
