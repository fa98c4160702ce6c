//! The binary `mmh`: parses, opens, runs, and maps every failure to a message and an exit status.
//!
//! Only this crate prints, reads the environment, or ends the process.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod allocator;
mod args;
mod commands;
mod config;
mod failure;
mod keys;
mod output;
mod progress;
mod session;
mod terminal;
#[cfg(feature = "otlp")]
mod traces;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
pub(crate) use mmh_user::{remotes, trust};

use crate::args::Cli;
use crate::failure::Failure;
use crate::output::{BAD, DIM, plain, styled};

fn main() -> ExitCode {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    let _slower = !allocator::keep_freed();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misread(&error),
    };
    let json = cli.global.json;
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report(&failure, json);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Answers arguments that are no command: help as text, errors as they were asked for.
fn misread(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && std::env::args_os().any(|arg| arg == "--json") {
        let text = error.to_string();
        let message = text.trim_start_matches("error: ").trim_end().to_owned();
        let failure = Failure::invalid(message);
        report(&failure, true);
        return ExitCode::from(failure.exit_code());
    }
    // Nobody is left to hear that standard error is closed.
    error.print().ok();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Prints a failure to standard error: what, where, and what to do next.
fn report(failure: &Failure, json: bool) {
    let Some(message) = failure.message() else {
        return;
    };
    let advice = failure.advice();
    let text = if json {
        let (kind, code) = (failure.kind().as_str(), failure.exit_code());
        let error = serde_json::json!({
            "error": { "kind": kind, "exit": code, "message": message, "advice": advice }
        });
        format!("{error}\n")
    } else {
        let lines: Vec<_> = message.lines().map(plain).collect();
        let mut text = format!("{} {}\n", styled(BAD, "error:"), lines.join("\n"));
        if let Some(advice) = advice {
            text.push_str(&format!("{}\n", styled(DIM, format!("       {advice}"))));
        }
        text
    };
    // Nobody is left to hear that standard error is closed.
    anstream::stderr().write_all(text.as_bytes()).ok();
}
