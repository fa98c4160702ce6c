//! The program under trial, driven as a user would.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::shell::{Context as _, Failure, Outcome, last_lines, output, typed};

/// The binary `mmh` and the repository it works on.
#[derive(Debug, Clone)]
pub(crate) struct Mmh {
    /// The binary.
    pub(crate) program: PathBuf,
    /// The repository's folder.
    pub(crate) repository: PathBuf,
}

/// How a program ran that was watched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watched {
    /// Wall time.
    pub(crate) time: Duration,
    /// The most memory it held, in bytes; nothing where the system does not tell.
    pub(crate) peak_rss: Option<u64>,
}

/// `mmh serve` while it runs; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Serving {
    child: Child,
    /// Where it serves by HTTP.
    pub(crate) http: String,
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Serving {
    /// The most memory that it has held so far, in bytes; nothing where the system does not tell.
    pub(crate) fn peak(&self) -> Option<u64> {
        high_water(self.child.id())
    }

    /// Starts a command that ends in `serve --json …`, and waits until it says where it serves.
    pub(crate) fn start(command: &mut Command) -> Outcome<Self> {
        let child = command.stdout(Stdio::piped()).spawn();
        let mut serving = Self {
            child: child.context(typed(command))?,
            http: String::new(),
        };
        let out = serving.child.stdout.take();
        let out = out.ok_or_else(|| Failure::failed("mmh serve says nothing"))?;
        let mut text = String::new();
        for line in BufReader::new(out).lines() {
            text.push_str(&line.context("mmh serve")?);
            if let Ok(said) = serde_json::from_str::<Value>(&text) {
                let http = said["http"].as_str().unwrap_or_default();
                http.clone_into(&mut serving.http);
                return Ok(serving);
            }
        }
        Err(Failure::failed(format!("mmh serve ended: {text}")))
    }
}

impl Mmh {
    /// A new repository in a folder that does not exist yet.
    pub(crate) fn init(program: &Path, repository: &Path) -> Outcome<Self> {
        let mmh = Self {
            program: program.to_path_buf(),
            repository: repository.to_path_buf(),
        };
        mmh.run(["init"])?;
        Ok(mmh)
    }

    /// `mmh -R REPOSITORY ARGS`, quiet, without settings from this machine.
    pub(crate) fn command<I, S>(&self, args: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        let mut command = Command::new(&self.program);
        command.arg("-R").arg(&self.repository).arg("-q").args(args);
        command.env("MMH_AUTHOR", "xtask").stdin(Stdio::null());
        for name in ["MMH_REPOSITORY", "MMH_THREADS", "MMH_LEVEL"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs it, whatever comes.
    pub(crate) fn output<I, S>(&self, args: I) -> Outcome<Output>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        output(&mut self.command(args))
    }

    /// Runs it and returns its standard output; anything but exit code 0 is a failure.
    pub(crate) fn run<I, S>(&self, args: I) -> Outcome<Vec<u8>>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        let mut command = self.command(args);
        let out = output(&mut command)?;
        if out.status.success() {
            return Ok(out.stdout);
        }
        let why = last_lines(&out.stderr, 6);
        Err(Failure::failed(format!(
            "`{}` ended with {}: {why}",
            typed(&command),
            out.status
        )))
    }

    /// Runs it with `--json` and parses what it prints.
    pub(crate) fn json<I, S>(&self, args: I) -> Outcome<Value>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        let text = self.run(std::iter::once("--json".into()).chain(args))?;
        serde_json::from_slice(&text).context("output of mmh --json")
    }

    /// Starts it and returns at once.
    pub(crate) fn start<I, S>(&self, args: I) -> Outcome<Child>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        let mut command = self.command(args);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().context(typed(&command))
    }

    /// Runs it to a good end and reports how long it took and how much memory it held.
    pub(crate) fn watch<I, S>(&self, args: I) -> Outcome<Watched>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        let mut command = self.command(args);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let start = Instant::now();
        let mut child = command.spawn().context(typed(&command))?;
        let mut peak_rss = None;
        loop {
            // The high-water mark only grows, so the last look before the end is the answer.
            peak_rss = high_water(child.id()).or(peak_rss);
            if child.try_wait().context(typed(&command))?.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let time = start.elapsed();
        let out = child.wait_with_output().context(typed(&command))?;
        if out.status.success() {
            return Ok(Watched { time, peak_rss });
        }
        let why = last_lines(&out.stderr, 6);
        Err(Failure::failed(format!(
            "`{}` ended with {}: {why}",
            typed(&command),
            out.status
        )))
    }
}

/// The most memory that a living process has held, in bytes, from Linux' process file system.
fn high_water(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_high_water_mark_of_this_process_is_plausible() {
        let mark = high_water(std::process::id()).unwrap();
        assert!(mark > 100_000, "{mark}");
        assert_eq!(high_water(u32::MAX), None);
    }

    #[test]
    fn the_repository_comes_before_the_arguments() {
        let mmh = Mmh {
            program: "mmh".into(),
            repository: "repo".into(),
        };
        assert_eq!(typed(&mmh.command(["ls"])), "mmh -R repo -q ls");
    }
}
