//! How long a command takes, in wall and CPU time, how much memory it holds, and what it costs when
//! nothing of it is in the system's cache.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::mmh::{Mmh, Watched};
use crate::shell::{Context as _, Failure, Outcome};

/// Runs of which the fastest counts, for what takes milliseconds.
const RUNS: u32 = 5;

/// Clock ticks of a CPU second in Linux' process file system, as its manual page proc(5) has them.
const TICKS: u64 = 100;

/// Measures commands.
#[derive(Debug)]
pub(super) struct Meter {
    /// Whether the system lets us empty all its caches.
    all_caches: bool,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self {
            all_caches: drop_all().is_ok(),
        }
    }

    /// The meter for what has nothing to do with caches.
    pub(super) fn still() -> Self {
        Self { all_caches: false }
    }

    /// How caches are emptied, for people.
    pub(super) fn cold_method(&self) -> &'static str {
        match self.all_caches {
            true => "`echo 3 > /proc/sys/vm/drop_caches`, which forgets names and the program too",
            false => {
                "`dd iflag=nocache` on each file of the repository, which keeps names in memory"
            }
        }
    }

    /// Runs a command once.
    pub(super) fn once<I, S>(&self, mmh: &Mmh, args: I) -> Outcome<Value>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        let before = cpu_of_children();
        let watched = mmh.watch(args)?;
        Ok(record(watched, before.zip(cpu_of_children())))
    }

    /// The fastest of some runs.
    pub(super) fn best<const N: usize>(&self, mmh: &Mmh, args: [&str; N]) -> Outcome<Value> {
        let wall = |value: &Value| value["wall_s"].as_f64().unwrap_or(f64::MAX);
        let mut best = self.once(mmh, args)?;
        for _ in 1..RUNS {
            let next = self.once(mmh, args)?;
            if wall(&next) < wall(&best) {
                best = next;
            }
        }
        Ok(best)
    }

    /// Runs a command with nothing of the repository in the caches.
    pub(super) fn cold<const N: usize>(&self, mmh: &Mmh, args: [&str; N]) -> Outcome<Value> {
        run(Command::new("sync"))?;
        match self.all_caches {
            true => drop_all()?,
            false => drop_files(&mmh.repository)?,
        }
        self.once(mmh, args)
    }
}

fn record(watched: Watched, cpu: Option<(Duration, Duration)>) -> Value {
    json!({
        "wall_s": watched.time.as_secs_f64(),
        "cpu_s": cpu.map(|(before, after)| after.saturating_sub(before).as_secs_f64()),
        "peak": watched.peak_rss,
    })
}

/// The CPU time of all children that have ended.
fn cpu_of_children() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    cpu_in(&stat)
}

/// The fields 16 and 17; the second, in brackets, may hold blanks.
fn cpu_in(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(13);
    let mut next = || fields.next()?.parse::<u64>().ok();
    let ticks = next()? + next()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS))
}

fn drop_all() -> Outcome {
    std::fs::write("/proc/sys/vm/drop_caches", "3").context("drop_caches")
}

/// Asks the system to forget the content of every file of a folder.
fn drop_files(folder: &Path) -> Outcome {
    let mut find = Command::new("find");
    find.arg(folder).args(["-type", "f", "-exec", "dd"]);
    find.args(["if={}", "iflag=nocache", "count=0", "status=none", ";"]);
    run(find)
}

fn run(mut command: Command) -> Outcome {
    let status = command.stdout(Stdio::null()).status();
    let status = status.context("cannot empty caches")?;
    match status.success() {
        true => Ok(()),
        false => Err(Failure::failed(format!("cannot empty caches: {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_the_name() {
        let stat = "7 (a ) b) R 1 2 3 4 5 6 7 8 9 10 11 12 130 20 0 0";
        assert_eq!(cpu_in(stat), Some(Duration::from_millis(1500)));
        assert_eq!(cpu_in("7 (a) R 1 2"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_child_that_worked_is_seen() {
        let before = cpu_of_children().unwrap();
        let mut loops = Command::new("sh");
        loops.args(["-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"]);
        run(loops).unwrap();
        assert!(cpu_of_children().unwrap() > before);
    }
}
