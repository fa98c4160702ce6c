//! Project commands; `cargo xtask help` lists them.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a developer's tool talks to a terminal"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "a developer's tool reads its environment: cargo, the cache folder, CI"
)]

mod args;
mod arm;
mod bench;
mod compare;
mod corpus;
mod demo;
mod doors;
mod drill;
mod engines;
mod fixture;
mod mmh;
mod shell;
mod stages;
mod table;
mod tidy;
mod wheel;

use std::process::ExitCode;

use args::Args;
use shell::{Failure, Outcome};

const HELP: &str = "\
cargo xtask COMMAND

  test [STAGE…]        run the checks, cheapest first: tidy lint test hostile doors features
  demo [PATH…]         the main job on real models, or on your files: add, read, restore, verify
  tidy                 rules of the house: arrows, first lines, lengths, licences, constants, links
  corpus [DIR] CHOICE  fetch real model files: --small, --demo, --all, or --set NAME …
  bench [FILE…]        mmh beside its peers, into docs/benchmarks.md; --rounds, --threads, --only
  bench --corpus DIR   a whole folder, once; bench --install-peers brings the peers
  engines              bring what tests need: moto, PostgreSQL, etcd, NATS, model-signing, age,
                       huggingface_hub, transformers, datasets, numpy, fsspec, pandas
  wheel [DIR]          the package for Python with the program in it, to be installed by pip
  drill kill [-n N]    kill -9 at N random moments of an add (200); [--seed S]
  drill fuzz [-n N]    mutated models and damaged repositories, N rounds (200); [--seed S]
  drill simulate       the store in simulated worlds; [--seeds N] (10000), [--from SEED], [--threads N]
                       (2), [--seed S] for one, [--trace], [--broken WHAT], [--scenario WHICH]
  drill guided         coverage-guided fuzzing of the codec; [--minutes N] (60), [--only TARGET]
  drill asan           the codec's tests under AddressSanitizer
  drill large          add and restore a file of 20 GB within the bound of memory; [--gb N]
  drill neon           the codec's tests on 64-bit ARM, in an emulator; --install brings it
  drill writers [-n N] 8 writers with N transactions (500) each, on every engine
  drill laptop         the wheel in a fresh environment: install, serve, hf upload and download, read
  drill garage         a cluster of three Garage nodes, one killed during an add; --install builds it

Downloads and scratch repositories go to .demo/ in the root; MMH_DEMO_CACHE names another folder.
MMH_PROGRAM names a built `mmh` to use instead of building one.
Exit codes: 0 done, 1 a check failed, 2 usage, 7 a program or the network is missing.";

fn main() -> ExitCode {
    let mut args = Args::of_process();
    let command = args.positional().unwrap_or_else(|| "help".to_owned());
    match dispatch(&command, args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask {command}: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

fn dispatch(command: &str, args: Args) -> Outcome {
    match command {
        "test" => stages::command(args),
        "bench" => bench::command(args),
        "demo" => demo::command(args),
        "drill" => drill::command(args),
        "engines" => engines::command(args),
        "tidy" => tidy::command(args),
        "corpus" => corpus::command(args),
        "wheel" => wheel::command(args),
        "help" => {
            println!("{HELP}");
            Ok(())
        }
        _ => Err(Failure::usage(format!("no such command\n\n{HELP}"))),
    }
}
