//! Builds that watch memory: the codec's tests under AddressSanitizer, and what fuzzing shares with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{Context as _, Failure, Outcome, Scratch, capture, cargo, output, root, run};

/// Has the compiler watch every access to memory.
const WATCH: &str = "-Zsanitizer=address";

/// A program that reads behind its memory. Where it ends well, the sanitizer is not at work.
const OVER_READ: &str = "fn main() {
    let bytes = vec![1u8; std::env::args().count() + 7].into_boxed_slice();
    let behind = unsafe { std::ptr::read_volatile(bytes.as_ptr().add(bytes.len())) };
    std::process::exit(i32::from(behind & 1));
}
";

/// A stable toolchain that was found able to watch memory.
#[derive(Debug)]
pub(super) struct Sanitizer {
    /// The machine's own target; naming it keeps build scripts free of instrumentation.
    target: String,
}

impl Sanitizer {
    /// Finds out whether the toolchain can, by a program that must be caught.
    pub(super) fn find() -> Outcome<Self> {
        let about = capture(Command::new("rustc").arg("-vV").current_dir(root()))?;
        let target = about.lines().find_map(|line| line.strip_prefix("host: "));
        let target = target.unwrap_or_default().to_owned();
        let scratch = Scratch::new("drill-sanitizer")?;
        if catches(scratch.path(), &target)? {
            return Ok(Self { target });
        }
        Err(Failure::unavailable(format!(
            "a read behind memory was not caught: this toolchain has no AddressSanitizer for {target}; \
             x86-64 and AArch64 Linux and macOS have it"
        )))
    }

    /// A cargo whose builds, in a folder of their own, watch memory; more `flags` are for rustc.
    pub(super) fn cargo(&self, words: &[&str], folder: &str, flags: &[&str]) -> Command {
        let mut command = cargo();
        let target_dir = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root().join("target"), PathBuf::from);
        command
            .args(words)
            .args(["--target", &self.target])
            .env("CARGO_TARGET_DIR", target_dir.join(folder))
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTFLAGS", [&[WATCH], flags].concat().join(" "));
        command
    }
}

/// Whether a build for `target` notices [`OVER_READ`].
fn catches(scratch: &Path, target: &str) -> Outcome<bool> {
    let (source, program) = (scratch.join("over_read.rs"), scratch.join("over_read"));
    fs::write(&source, OVER_READ).context(source.display())?;
    let mut rustc = Command::new("rustc");
    rustc
        .args([WATCH, "--edition=2024", "--target", target, "-o"])
        .args([&program, &source])
        .env("RUSTC_BOOTSTRAP", "1")
        .current_dir(root());
    if !output(&mut rustc)?.status.success() {
        return Ok(false);
    }
    let out = output(&mut Command::new(&program))?;
    Ok(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains("AddressSanitizer"))
}

/// Runs every test of the codec, all engines that this machine has among them.
pub(super) fn asan() -> Outcome {
    let sanitizer = Sanitizer::find()?;
    println!("a read behind memory was caught, as it should; now the codec's tests");
    let words = [
        "test",
        "-p",
        "mmh-codec",
        "--all-features",
        "--locked",
        "--lib",
        "--tests",
    ];
    run(&mut sanitizer.cargo(&words, "asan", &[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_watched_and_apart_from_others() {
        let sanitizer = Sanitizer {
            target: "some-target".to_owned(),
        };
        let command = sanitizer.cargo(&["build"], "asan", &["-Copt-level=1"]);
        let env = |name: &str| {
            let found = command.get_envs().find(|(key, _)| *key == name);
            found.and_then(|(_, value)| Some(value?.to_string_lossy().into_owned()))
        };
        assert_eq!(
            env("RUSTFLAGS").unwrap(),
            "-Zsanitizer=address -Copt-level=1"
        );
        assert!(env("CARGO_TARGET_DIR").unwrap().ends_with("asan"));
        let args: Vec<_> = command.get_args().collect();
        assert_eq!(args, ["build", "--target", "some-target"]);
    }

    /// Without a sanitizer for the target there is nothing to run, and that is said.
    #[test]
    fn a_target_that_cannot_is_found_out() {
        let scratch = Scratch::new("test-sanitizer").unwrap();
        assert!(!catches(scratch.path(), "wasm32-unknown-unknown").unwrap());
    }
}
