//! `cargo xtask test`: every check in order of cost, each with its time.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::arm;
use crate::drill;
use crate::engines;
use crate::shell::{Failure, Outcome, build, cargo, run};
use crate::table::{Table, seconds};
use crate::tidy;

/// One feature set for every stage, so that nothing is compiled twice.
pub(crate) const EVERYTHING: [&str; 3] = ["--workspace", "--all-features", "--locked"];

/// Names of tests that throw hostile input or faults at the code.
const HOSTILE: [&str; 12] = [
    "attack",
    "crash",
    "cut",
    "damage",
    "fault",
    "flip",
    "fuzz",
    "golden",
    "hostile",
    "never_panic",
    "salvage",
    "sweep",
];

/// Cases of each property in the hostile stage, for properties that do not fix their own number.
const HOSTILE_CASES: &str = "2048";

/// Rounds of mutated models and damaged repositories in the hostile stage.
const HOSTILE_ROUNDS: u32 = 12;

/// Simulated worlds in the hostile stage.
const HOSTILE_WORLDS: [&str; 2] = ["--seeds", "10000"];

/// A stage of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Tidy,
    Lint,
    Test,
    Hostile,
    Doors,
    Features,
}

impl Stage {
    /// In order of cost.
    const ALL: [Self; 6] = [
        Self::Tidy,
        Self::Lint,
        Self::Test,
        Self::Hostile,
        Self::Doors,
        Self::Features,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Tidy => "tidy",
            Self::Lint => "lint",
            Self::Test => "test",
            Self::Hostile => "hostile",
            Self::Doors => "doors",
            Self::Features => "features",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::Tidy => "formatting and the rules of the house",
            Self::Lint => "clippy on every target and on the codec for ARM, warnings are errors",
            Self::Test => "all tests, then the examples in the documentation",
            Self::Hostile => {
                "hostile input and faults with more cases, in simulated worlds, through the program"
            }
            Self::Doors => "the program end to end, killed and resumed",
            Self::Features => "each crate on its own; documentation, warnings are errors",
        }
    }

    fn run(self) -> Outcome {
        match self {
            Self::Tidy => {
                run(cargo().args(["fmt", "--all", "--check"]))?;
                tidy::run()
            }
            Self::Lint => lint(),
            Self::Test => {
                let missing = engines::provide();
                let mut tests = tests(&[]);
                if missing.is_empty() {
                    // Then a server that a test does not find is a failure.
                    tests.env("MMH_ENGINES", "all");
                }
                for what in missing {
                    println!("LEFT OUT: {what}");
                }
                run(&mut tests)?;
                run(cargo().args(["test", "--doc"]).args(EVERYTHING))
            }
            Self::Hostile => {
                run(tests(&HOSTILE).env("PROPTEST_CASES", HOSTILE_CASES))?;
                drill::simulate(&EVERYTHING, &HOSTILE_WORLDS.map(str::to_owned))?;
                drill::fuzz(&build("mmh", &EVERYTHING)?, HOSTILE_ROUNDS, 3)
            }
            Self::Doors => crate::doors::run(),
            Self::Features => features(),
        }
    }
}

/// `cargo xtask test [STAGE…]`
pub(crate) fn command(mut args: Args) -> Outcome {
    let words = args.positionals();
    args.finish()?;
    let stages = if words.is_empty() {
        Stage::ALL.to_vec()
    } else {
        chosen(&words)?
    };
    let mut times: Vec<(Stage, Duration)> = Vec::new();
    let mut failure = None;
    for stage in &stages {
        println!("\n── {}: {}", stage.name(), stage.what());
        let start = Instant::now();
        let result = stage.run();
        times.push((*stage, start.elapsed()));
        if let Err(error) = result {
            failure = Some(Failure {
                message: format!("stage {}: {error}", stage.name()),
                ..error
            });
            break;
        }
    }
    print!("\n{}", closing(&stages, &times, failure.is_some()));
    failure.map_or(Ok(()), Err)
}

/// The stages that these words name, in the order of cost.
fn chosen(words: &[String]) -> Outcome<Vec<Stage>> {
    let all = Stage::ALL.map(Stage::name);
    if let Some(word) = words.iter().find(|word| !all.contains(&word.as_str())) {
        return Err(Failure::usage(format!(
            "no stage `{word}`; there are: {}",
            all.join(" ")
        )));
    }
    Ok(Stage::ALL
        .into_iter()
        .filter(|stage| words.iter().any(|word| word == stage.name()))
        .collect())
}

/// The closing table: what passed, what failed, what was not reached.
fn closing(stages: &[Stage], times: &[(Stage, Duration)], failed: bool) -> String {
    let mut table = Table::new(&["stage", "result", "time"]);
    for (idx, stage) in stages.iter().enumerate() {
        let result = match times.len() {
            n if idx >= n => "not reached",
            n if failed && idx + 1 == n => "FAILED",
            _ => "passed",
        };
        let time = times
            .get(idx)
            .map_or_else(String::new, |(_, time)| seconds(*time));
        table.row([stage.name().to_owned(), result.to_owned(), time]);
    }
    let total: Duration = times.iter().map(|(_, time)| *time).sum();
    table.row(["all".to_owned(), String::new(), seconds(total)]);
    table.text()
}

fn lint() -> Outcome {
    let mut clippy = cargo();
    clippy
        .arg("clippy")
        .args(EVERYTHING)
        .args(["--all-targets", "--", "-D", "warnings"]);
    run(&mut clippy)?;
    arm::lint()
}

/// The test runner over the whole workspace; with names, only the tests that contain one of them.
fn tests(names: &[&str]) -> Command {
    let mut command = cargo();
    if has_nextest() {
        command
            .args(["nextest", "run", "--no-fail-fast"])
            .args(EVERYTHING)
            .args(names);
    } else {
        command.args([
            "test",
            "--no-fail-fast",
            "--lib",
            "--bins",
            "--tests",
            "--examples",
        ]);
        command.args(EVERYTHING).arg("--").args(names);
    }
    command
}

fn has_nextest() -> bool {
    let mut version = cargo();
    version
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}

/// The default features must do without the testing ones, the store without engines elsewhere, and the
/// documentation must be whole.
fn features() -> Outcome {
    run(cargo().args(["check", "--workspace", "--locked"]))?;
    run(cargo().args([
        "check",
        "-p",
        "mmh-store",
        "--no-default-features",
        "--locked",
    ]))?;
    let mut doc = cargo();
    doc.arg("doc")
        .args(EVERYTHING)
        .arg("--no-deps")
        .env("RUSTDOCFLAGS", "-D warnings");
    run(&mut doc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_run_in_order_of_cost_whatever_the_order_of_words() {
        let words = ["features", "tidy"].map(String::from);
        assert_eq!(chosen(&words).unwrap(), [Stage::Tidy, Stage::Features]);
        let error = chosen(&["tidi".to_owned()]).unwrap_err();
        assert_eq!(error.code, 2);
        assert!(error.message.contains("tidy lint test"), "{error}");
    }

    #[test]
    fn the_closing_table_says_how_far_it_came() {
        let times = [
            (Stage::Tidy, Duration::from_secs(1)),
            (Stage::Lint, Duration::from_secs(2)),
        ];
        let text = closing(&[Stage::Tidy, Stage::Lint, Stage::Test], &times, true);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[2].contains("passed"), "{text}");
        assert!(lines[3].contains("FAILED"), "{text}");
        assert!(lines[4].contains("not reached"), "{text}");
        assert!(lines[5].contains("3.0 s"), "{text}");
        assert!(!closing(&Stage::ALL, &[], false).contains("FAILED"));
    }
}
