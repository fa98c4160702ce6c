//! `cargo xtask bench`: mmh beside its peers through one driver; results go to docs/benchmarks.md.

pub(crate) mod derived;
pub(crate) mod report;
mod targets;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::args::Args;
use crate::corpus::{self, Choice, python_name};
use crate::shell::{Context as _, Failure, Outcome, RELEASE, build, cache, output, root, run};
use derived::Cast;

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

/// `cargo xtask bench [FILE…]`, `--family DIR`, `--corpus DIR`, `--install-peers`
pub(crate) fn command(mut args: Args) -> Outcome {
    if args.flag("--install-peers") {
        args.finish()?;
        return install_peers();
    }
    let rounds: u32 = args.value("--rounds")?.unwrap_or(3);
    let threads: u32 = args.value("--threads")?.unwrap_or(1);
    let only: Option<String> = args.value("--only")?;
    let corpus: Option<PathBuf> = args.value("--corpus")?;
    let family: Option<PathBuf> = args.value("--family")?;
    let files = args.positionals();
    args.finish()?;
    let program = build("mmh", &RELEASE)?;
    let mut driver = Command::new(interpreter());
    driver.arg(root().join("bench/peers.py"));
    let (kind, mode) = match (&corpus, &family) {
        (Some(_), _) => (report::Kind::Corpus, "tree"),
        (None, Some(_)) => (report::Kind::Delta, "delta"),
        (None, None) => (report::Kind::Files, "files"),
    };
    driver.arg(mode).arg("--mmh").arg(program);
    driver.args([
        "--rounds",
        &rounds.to_string(),
        "--threads",
        &threads.to_string(),
    ]);
    driver.args(only.map(|only| format!("--only={only}")));
    let results = root().join("bench/results");
    fs::create_dir_all(&results).context(results.display())?;
    let raw = results.join(format!("{}.json", kind.name()));
    driver.arg("--json").arg(&raw);
    match (corpus, family) {
        (Some(folder), _) => driver.arg(fs::canonicalize(&folder).context(folder.display())?),
        (None, Some(folder)) => driver.args(pairs(&folder)?),
        (None, None) if files.is_empty() => driver.args(default_files()?),
        (None, None) => driver.args(files),
    };
    run(&mut driver)?;
    report::write(kind, &raw)
}

/// The files measured when none are named: one for each class of content that the codec has targets
/// for, from published models, some cast or cut to a length that every peer bears.
fn default_files() -> Outcome<Vec<PathBuf>> {
    let folder = corpus::default_folder();
    let sets = [
        "minilm",
        "minilm-int8",
        "astra-bf16",
        "easyocr-en",
        "qwen2.5-coder-0.5b-gguf",
        "whisper-base",
    ];
    corpus::fetch(&folder, &Choice::Named(sets.map(String::from).to_vec()))?;
    let minilm = folder.join("minilm/model.safetensors");
    let derived = cache().join("derived");
    let mut files = vec![minilm.clone()];
    let astra = folder.join("astra-bf16/astra_encoder.pt");
    let craft = folder.join("easyocr-en/craft_mlt_25k.pth");
    for (source, name, cast, limit) in [
        (&minilm, "minilm-bf16", Cast::Bf16, u64::MAX),
        (&minilm, "minilm-f16", Cast::F16, u64::MAX),
        (&minilm, "minilm-bf16-in-f32", Cast::Bf16InF32, u64::MAX),
        (&astra, "astra-bf16", Cast::Keep, 48_500_000),
        (&craft, "craft-f32", Cast::Keep, 44_000_000),
    ] {
        let target = derived.join(name).with_extension("safetensors");
        derived::derive(source, &target, cast, limit)?;
        files.push(target);
    }
    files.push(folder.join("minilm-int8/model.onnx"));
    files.push(folder.join("whisper-base/model.bin"));
    files.push(folder.join("qwen2.5-coder-0.5b-gguf/qwen2.5-coder-0.5b-q4_k_m.gguf"));
    // Only training makes an optimiser's state: what `--family` left is measured alone as well.
    let adam = derived.join("adam-80.safetensors");
    if adam.exists() {
        files.push(adam);
    }
    Ok(files)
}

/// Pairs OLD=NEW from a folder that `bench/fine_tune.py` filled: fine-tunes given their base and given
/// an earlier step, and the optimiser's state given the earlier one.
fn pairs(family: &Path) -> Outcome<Vec<String>> {
    let folder = corpus::default_folder();
    corpus::fetch(&folder, &Choice::Named(vec!["minilm".to_owned()]))?;
    let base = folder.join("minilm/model.safetensors");
    let derived = cache().join("derived");
    let file = |name: &str| derived.join(name).with_extension("safetensors");
    let (step_60, step_80) = (family.join("step-0060"), family.join("step-0080"));
    let all = u64::MAX;
    for (source, name, cast, limit) in [
        (base.clone(), "minilm-bf16", Cast::Bf16, all),
        (
            step_60.join("model.safetensors"),
            "tuned-60-bf16",
            Cast::Bf16,
            all,
        ),
        (
            step_80.join("model.safetensors"),
            "tuned-80-bf16",
            Cast::Bf16,
            all,
        ),
        (
            step_80.join("model.safetensors"),
            "tuned-80-f32",
            Cast::Keep,
            all,
        ),
        (
            step_60.join("optimizer.safetensors"),
            "adam-60",
            Cast::Keep,
            all,
        ),
        (
            step_80.join("optimizer.safetensors"),
            "adam-80",
            Cast::Keep,
            all,
        ),
    ] {
        derived::derive(&source, &file(name), cast, limit)?;
    }
    let pair = |old: PathBuf, new: &str| format!("{}={}", old.display(), file(new).display());
    Ok(vec![
        pair(file("minilm-bf16"), "tuned-80-bf16"),
        pair(file("tuned-60-bf16"), "tuned-80-bf16"),
        pair(base, "tuned-80-f32"),
        pair(file("adam-60"), "adam-80"),
    ])
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
