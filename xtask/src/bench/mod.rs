//! `cargo xtask bench`: mmh beside its peers through one driver; results go to docs/benchmarks.md.

mod derived;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::args::Args;
use crate::corpus::{self, Choice, python_name};
use crate::shell::{Context as _, Failure, Outcome, RELEASE, build, cache, output, root, run};

/// Python packages of the peers, each tried on its own: one that cannot be had leaves only its row.
const PEERS: [&str; 9] = [
    "numpy",
    "zstandard",
    "lmzip",
    "zipnn>=0.5",
    "openzl",
    "pcodec",
    "z4ai",
    "glyd",
    "hf-xet",
];

/// `cargo xtask bench [FILE…]`, `--corpus DIR`, `--install-peers`
pub(crate) fn command(mut args: Args) -> Outcome {
    if args.flag("--install-peers") {
        args.finish()?;
        return install_peers();
    }
    let rounds: u32 = args.value("--rounds")?.unwrap_or(3);
    let threads: u32 = args.value("--threads")?.unwrap_or(1);
    let only: Option<String> = args.value("--only")?;
    let corpus: Option<PathBuf> = args.value("--corpus")?;
    let files = args.positionals();
    args.finish()?;
    let program = build("mmh", &RELEASE)?;
    let mut driver = Command::new(interpreter());
    driver.arg(root().join("bench/peers.py"));
    driver
        .arg(if corpus.is_some() { "tree" } else { "files" })
        .arg("--mmh")
        .arg(program);
    driver.args([
        "--rounds",
        &rounds.to_string(),
        "--threads",
        &threads.to_string(),
    ]);
    driver.args(only.map(|only| format!("--only={only}")));
    let kind = if corpus.is_some() {
        report::Kind::Corpus
    } else {
        report::Kind::Files
    };
    let results = root().join("bench/results");
    fs::create_dir_all(&results).context(results.display())?;
    let raw = results.join(format!("{}.json", kind.name()));
    driver.arg("--json").arg(&raw);
    match corpus {
        Some(folder) => driver.arg(fs::canonicalize(&folder).context(folder.display())?),
        None if files.is_empty() => driver.args(default_files()?),
        None => driver.args(files),
    };
    run(&mut driver)?;
    report::write(kind, &raw)
}

/// The files measured when none are named: one real model in F32, cast to BF16, and quantised.
fn default_files() -> Outcome<Vec<PathBuf>> {
    let folder = corpus::default_folder();
    let sets = ["minilm", "minilm-int8"].map(String::from).to_vec();
    corpus::fetch(&folder, &Choice::Named(sets))?;
    let full = folder.join("minilm/model.safetensors");
    let half = cache().join("derived/minilm-bf16.safetensors");
    derived::cast_to_bf16(&full, &half)?;
    Ok(vec![half, full, folder.join("minilm-int8/model.onnx")])
}

/// The Python with the peers, if they were installed, else any: then only mmh is measured.
fn interpreter() -> PathBuf {
    let ours = environment().join("bin/python");
    if ours.exists() {
        return ours;
    }
    println!("The peers are not installed; `cargo xtask bench --install-peers` does that.");
    python_name().into()
}

fn environment() -> PathBuf {
    cache().join("peers")
}

fn install_peers() -> Outcome {
    let folder = environment();
    run(Command::new(python_name())
        .args(["-m", "venv"])
        .arg(&folder))?;
    let python = folder.join("bin/python");
    let mut missing = Vec::new();
    for package in PEERS {
        if let Err(why) = install(&python, package) {
            println!("  {package}: {why}");
            missing.push(package);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::unavailable(format!(
        "could not install: {}",
        missing.join(", ")
    )))
}

fn install(python: &Path, package: &str) -> Outcome {
    println!("  installing {package}");
    let mut pip = Command::new(python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--prefer-binary",
    ]);
    pip.arg(package);
    let out = output(&mut pip)?;
    if out.status.success() {
        return Ok(());
    }
    Err(Failure::unavailable(crate::shell::last_lines(
        &out.stderr,
        2,
    )))
}
