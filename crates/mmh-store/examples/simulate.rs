//! Runs the simulation of many seeds: `simulate --seeds N [--from SEED] [--seed S] [--trace]
//! [--broken WHAT] [--scenario WHICH]`; `cargo xtask drill simulate` calls it.
#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use mmh_store::sim::{Broken, Outcome, Plan, Scenario, Simulator};

/// Failing seeds that are named.
const NAMED_MAX: u64 = 20;

struct Options {
    from: u64,
    seeds: u64,
    threads: u64,
    trace: bool,
    broken: Option<Broken>,
    scenario: Option<Scenario>,
}

/// The one of that name.
fn named<T: Copy + std::fmt::Debug>(all: &[T], name: Option<String>) -> Result<T, String> {
    let wanted = name.unwrap_or_default();
    let found = all.iter().find(|one| format!("{one:?}") == wanted);
    found
        .copied()
        .ok_or_else(|| format!("`{wanted}` is none of {all:?}"))
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        from: 0,
        seeds: 10_000,
        threads: 2,
        trace: false,
        broken: None,
        scenario: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().and_then(|value| value.parse().ok());
            value.ok_or_else(|| format!("{word} needs a number"))
        };
        match word.as_str() {
            "--seeds" => options.seeds = number()?,
            "--from" => options.from = number()?,
            "--threads" => options.threads = number()?.max(1),
            "--seed" => (options.from, options.seeds) = (number()?, 1),
            "--scenario" => options.scenario = Some(named(&Scenario::ALL, words.next())?),
            "--trace" => options.trace = true,
            "--broken" => options.broken = Some(named(&Broken::ALL, words.next())?),
            _ => return Err(format!("unknown word {word}")),
        }
    }
    Ok(options)
}

fn report(seed: u64, outcome: &Outcome) {
    for line in &outcome.trace {
        println!("{line}");
    }
    match &outcome.violation {
        Some(violation) => println!("seed {seed}: {violation}"),
        None => println!(
            "seed {seed}: every promise was kept; digest {}",
            outcome.digest
        ),
    }
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(message) => {
            println!("{message}");
            return ExitCode::from(2);
        }
    };
    let begin = Instant::now();
    let next = AtomicU64::new(options.from);
    let end = options.from + options.seeds;
    let [failed, steps, faults, deaths, commits] = [const { AtomicU64::new(0) }; 5];
    std::thread::scope(|scope| {
        for _ in 0..options.threads.min(options.seeds) {
            scope.spawn(|| {
                let simulator = Simulator::new();
                loop {
                    let rng_seed = next.fetch_add(1, Ordering::Relaxed);
                    if rng_seed >= end {
                        break;
                    }
                    let outcome = simulator.run(&Plan {
                        rng_seed,
                        broken: options.broken,
                        scenario: options.scenario,
                        trace: options.trace,
                    });
                    for (sum, n) in [
                        (&steps, outcome.steps),
                        (&faults, outcome.faults),
                        (&deaths, outcome.deaths),
                        (&commits, outcome.commits),
                    ] {
                        sum.fetch_add(n, Ordering::Relaxed);
                    }
                    let fails = outcome.violation.is_some();
                    if options.trace || (fails && failed.load(Ordering::Relaxed) < NAMED_MAX) {
                        report(rng_seed, &outcome);
                    }
                    failed.fetch_add(u64::from(fails), Ordering::Relaxed);
                }
            });
        }
    });
    let [failed, steps, faults, deaths, commits] =
        [failed, steps, faults, deaths, commits].map(AtomicU64::into_inner);
    println!(
        "{} seeds from {}: {failed} broke a promise; {steps} steps, {faults} faults, {deaths} deaths, \
         {commits} commits acknowledged, {:.1} s",
        options.seeds,
        options.from,
        begin.elapsed().as_secs_f64()
    );
    ExitCode::from(u8::from(failed > 0))
}
