//! Coverage-guided fuzzing of codec, keys and Xet (libFuzzer), each target for its share of the time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::sanitizer::Sanitizer;
use crate::shell::{Context as _, Failure, Outcome, cache, cargo, last_lines, output, run, typed};
use crate::table::Table;

/// Targets in `fuzz/`, and how many parts of the time each has.
const TARGETS: [(&str, u64); 4] = [("frame", 3), ("content", 1), ("crypto", 1), ("xet", 1)];

/// Has the compiler count which edges are taken and what is compared, for the fuzzer to see.
const GUIDE: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
];

/// Inputs longer than this find nothing that shorter ones do not.
const INPUT_LEN_MAX: &str = "-max_len=6000";

/// Fuzzes for `minutes` in all, watching memory, from small frames of every method and from what
/// earlier runs found. `only` names one target.
pub(super) fn guided(minutes: u64, only: Option<&str>) -> Outcome {
    let targets: Vec<_> = TARGETS
        .into_iter()
        .filter(|(name, _)| only.is_none_or(|only| only == *name))
        .collect();
    if targets.is_empty() {
        return Err(Failure::usage(format!("the targets are {TARGETS:?}")));
    }
    let sanitizer = Sanitizer::find()?;
    let place = cache().join("fuzz");
    let seeds = place.join("seeds");
    for (package, example) in [
        ("mmh-codec", "fuzz_frames"),
        ("mmh-crypto", "fuzz_keys"),
        ("mmh-xet", "fuzz_xet"),
    ] {
        let mut write = cargo();
        write.args(["run", "-q", "-p", package, "--features", "testing"]);
        write.args(["--locked", "--example", example, "--"]);
        run(write.arg(&seeds))?;
    }
    let mut table = Table::new(&["target", "inputs run", "new", "seconds", "peak MB"]);
    let parts: u64 = targets.iter().map(|(_, part)| part).sum();
    for (name, part) in targets {
        let program = build(&sanitizer, name)?;
        let trial = Trial {
            program,
            corpus: place.join("corpus").join(name),
            seeds: seeds.join(name),
            findings: place.join("findings").join(name),
            seconds: minutes * 60 * part / parts,
        };
        let [runs, new, peak] = trial.run()?;
        table.row([name.to_owned(), runs, new, trial.seconds.to_string(), peak]);
    }
    print!("{}", table.text());
    Ok(())
}

/// Builds a target, and says where the program is.
fn build(sanitizer: &Sanitizer, name: &str) -> Outcome<PathBuf> {
    let words = ["build", "--manifest-path", "fuzz/Cargo.toml", "--release"];
    let mut command = sanitizer.cargo(&words, "fuzz", &GUIDE);
    command.args(["--locked", "--bin", name]);
    command.arg("--message-format=json-render-diagnostics");
    command.stderr(Stdio::inherit());
    println!("$ {}", typed(&command));
    let out = output(&mut command)?;
    let text = String::from_utf8_lossy(&out.stdout);
    let messages = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let built = messages
        .filter(|message: &serde_json::Value| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    built.filter(|_| out.status.success()).ok_or_else(|| {
        Failure::unavailable(format!(
            "`{}` ended with {}; if libFuzzer did not build, install a C++ compiler",
            typed(&command),
            out.status
        ))
    })
}

/// One target for a while.
#[derive(Debug)]
struct Trial {
    program: PathBuf,
    /// What was found to reach new code, kept from run to run.
    corpus: PathBuf,
    seeds: PathBuf,
    /// Where inputs go that broke the promise.
    findings: PathBuf,
    seconds: u64,
}

impl Trial {
    /// The number of inputs, of those that reached new code, and the peak of memory.
    fn run(&self) -> Outcome<[String; 3]> {
        for folder in [&self.corpus, &self.findings] {
            fs::create_dir_all(folder).context(folder.display())?;
        }
        let mut command = Command::new(&self.program);
        command
            .args([&self.corpus, &self.seeds])
            .args([
                INPUT_LEN_MAX,
                "-timeout=30",
                "-rss_limit_mb=1024",
                "-print_final_stats=1",
            ])
            .arg(format!("-max_total_time={}", self.seconds))
            .arg(format!("-artifact_prefix={}/", self.findings.display()));
        let path = self.findings.with_extension("log");
        println!("$ {} 2> {}", typed(&command), path.display());
        command.stderr(fs::File::create(&path).context(path.display())?);
        let out = output(&mut command)?;
        let log = fs::read(&path).context(path.display())?;
        let end = last_lines(&log, 25);
        let log = String::from_utf8_lossy(&log);
        if !out.status.success() {
            return Err(self.finding(&log, &end));
        }
        let figures = ["number_of_executed_units", "new_units_added", "peak_rss_mb"];
        let figures = figures.map(|name| statistic(&log, name));
        let [Some(runs), Some(new), Some(peak)] = figures else {
            return Err(Failure::failed(format!("no statistics: {end}")));
        };
        Ok([runs, new, peak])
    }

    fn finding(&self, log: &str, end: &str) -> Failure {
        let panic = log.lines().find(|line| line.contains("panicked at"));
        Failure::failed(format!(
            "a promise is broken: {}\n  {end}\n  again: {} {}/…",
            panic.unwrap_or("see below"),
            self.program.display(),
            Path::new(&self.findings).display()
        ))
    }
}

/// A figure of libFuzzer's closing statistics.
fn statistic(log: &str, name: &str) -> Option<String> {
    let lines = log.lines().filter_map(|line| line.strip_prefix("stat::"));
    let mut pairs = lines.filter_map(|line| line.split_once(':'));
    pairs.find_map(|(key, value)| (key == name).then(|| value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read_from_the_end_of_the_log() {
        let log = "#12 NEW\nstat::number_of_executed_units: 8215\nstat::peak_rss_mb:          61\n";
        assert_eq!(statistic(log, "number_of_executed_units").unwrap(), "8215");
        assert_eq!(statistic(log, "peak_rss_mb").unwrap(), "61");
        assert_eq!(statistic(log, "new_units_added"), None);
    }

    #[test]
    fn an_unknown_target_is_a_mistake_of_usage() {
        assert_eq!(guided(1, Some("frames")).unwrap_err().code, 2);
    }

    #[test]
    fn a_finding_says_where_it_is_and_what_broke() {
        let trial = Trial {
            program: "target/frame".into(),
            corpus: PathBuf::new(),
            seeds: PathBuf::new(),
            findings: "found/frame".into(),
            seconds: 1,
        };
        let message = trial
            .finding("x\nthread panicked at src/a.rs:3\n", "the end")
            .message;
        for part in ["src/a.rs:3", "the end", "target/frame found/frame/"] {
            assert!(message.contains(part), "{message}");
        }
    }
}
