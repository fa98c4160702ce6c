//! The binary `mmh`: parses, opens, runs, and maps every failure to a message and an exit status.
//!
//! Only this crate prints, reads the environment, or ends the process.

mod args;
mod commands;
mod config;
mod failure;
mod output;
mod progress;
mod session;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;
use crate::failure::Failure;
use crate::output::{BAD, DIM, styled};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.global.json;
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report(&failure, json);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Prints a failure to standard error: what, where, and what to do next.
#[allow(
    clippy::print_stderr,
    reason = "the one place where errors are printed"
)]
fn report(failure: &Failure, json: bool) {
    let Some(message) = failure.message() else {
        return;
    };
    if json {
        let kind = failure.kind().as_str();
        let error = serde_json::json!({ "error": { "kind": kind, "message": message } });
        anstream::eprintln!("{error}");
        return;
    }
    anstream::eprintln!("{} {message}", styled(BAD, "error:"));
    if let Some(advice) = failure.advice() {
        anstream::eprintln!("{}", styled(DIM, format!("       {advice}")));
    }
}
