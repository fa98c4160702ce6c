//! `cargo xtask engines`: brings what tests hold the program against. Servers that they start: moto
//! from pip, etcd, NATS and PostgreSQL from Debian's packages. Stock tools: model-signing,
//! huggingface_hub, what is built on it, with Debian's torch too, and what Python's users of tensors have from pip, age and git-lfs from Debian. What is
//! installed is left alone.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::args::Args;
use crate::corpus::python_name;
use crate::shell::{Context as _, Failure, Outcome, cache, capture, output};

/// The model of Amazon's services that stands in for S3, pinned: its answers are what is tested.
const MOTO: &[&str] = &["moto[server]==5.2.5"];

/// The stock tool of OpenSSF Model Signing, pinned, with a library that it needs and does not name.
const MODEL_SIGNING: &[&str] = &["model-signing==1.1.1", "pyOpenSSL==26.4.0"];

/// The client of model hubs that most others are built on, pinned: 60 MB with what it needs.
pub(crate) const HUB: &[&str] = &["huggingface_hub==2.4.0"];

/// What people run against hubs, pinned, without torch: 570 MB with what it needs.
const HUB_USERS: &[&str] = &[
    "transformers==5.24.0",
    "datasets==5.2.0",
    "safetensors==0.8.0",
    "numpy==2.4.6",
    "Jinja2==3.1.6",
];

/// What runs models with Debian's torch, pinned: the last of transformers that takes a torch of 2022.
const TORCH_USERS: &[&str] = &[
    "transformers==4.44.2",
    "huggingface_hub==0.36.2",
    "numpy==1.26.4",
    "Jinja2==3.1.6",
];

/// What the package for Python works with, pinned: 200 MB.
const BINDING: &[&str] = &[
    "numpy==2.4.6",
    "ml_dtypes==0.6.0",
    "fsspec==2026.9.0",
    "safetensors==0.8.0",
    "pandas==3.1.1",
    "pytest==9.2.0",
];

/// Programs that Debian's packages bring, unpacked into the cache.
const UNPACKED: [(&str, &str); 4] = [
    ("age", "age"),
    ("etcd", "etcd-server"),
    ("git-lfs", "git-lfs"),
    ("nats-server", "nats-server"),
];

/// `cargo xtask engines`
pub(crate) fn command(args: Args) -> Outcome {
    args.finish()?;
    let missing = provide();
    if missing.is_empty() {
        println!("all servers and tools are there; tests start them");
        return Ok(());
    }
    Err(Failure::unavailable(missing.join("\n")))
}

/// Brings what is not there, and returns what cannot be had, each with the reason.
pub(crate) fn provide() -> Vec<String> {
    let folder = cache().join("engines");
    let mut missing = Vec::new();
    let mut note = |name: &str, outcome: Outcome| {
        if let Err(failure) = outcome {
            missing.push(format!("{name} cannot be had: {failure}"));
        }
    };
    note("moto", python(&folder.join("python"), MOTO));
    let signing = python(&folder.join("signing"), MODEL_SIGNING);
    note("model-signing", signing);
    let hub = python(&folder.join("hub"), &[HUB, HUB_USERS].concat());
    note("huggingface_hub, transformers and datasets", hub);
    note("numpy and fsspec", python(&folder.join("binding"), BINDING));
    for (program, package) in UNPACKED {
        note(package, unpack(&folder, program, package));
    }
    note("postgresql", postgres());
    note("torch", torch(&folder.join("torch")));
    missing
}

/// Packages in a Python environment of their own, which says which versions it holds.
pub(crate) fn python(folder: &Path, packages: &[&str]) -> Outcome {
    let mut venv = Command::new(python_name());
    venv.args(["-m", "venv"]);
    python_by(venv, folder, packages)
}

/// The same in an environment that a command makes.
fn python_by(mut venv: Command, folder: &Path, packages: &[&str]) -> Outcome {
    let stamp = folder.join("mmh-holds");
    let holds = packages.join(" ");
    if fs::read_to_string(&stamp).is_ok_and(|text| text == holds) {
        return Ok(());
    }
    println!("installing {holds}");
    capture(venv.arg(folder))?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]);
    capture(pip.arg("--prefer-binary").args(packages))?;
    fs::write(&stamp, holds).context(stamp.display())
}

/// Where a program is: unpacked, or installed.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let root = cache().join("engines/root/usr");
    let mut folders = vec![root.join("bin"), root.join("sbin"), "/usr/sbin".into()];
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&path));
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    folders.extend(versions.map(|version| version.path().join("bin")));
    folders
        .into_iter()
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// Downloads a package and unpacks it: nothing of the system changes.
fn unpack(folder: &Path, program: &str, package: &str) -> Outcome {
    if find(program).is_some() {
        return Ok(());
    }
    println!("unpacking {package}");
    let inbox = folder.join("packages");
    fs::create_dir_all(&inbox).context(inbox.display())?;
    with_lists(
        Command::new("apt-get")
            .args(["download", "-qq", package])
            .current_dir(&inbox),
    )?;
    for entry in fs::read_dir(&inbox).context(inbox.display())? {
        let path = entry.context(inbox.display())?.path();
        let name = path
            .file_name()
            .map(OsStr::to_string_lossy)
            .unwrap_or_default();
        if name.starts_with(&format!("{package}_")) {
            capture(
                Command::new("dpkg-deb")
                    .arg("-x")
                    .arg(&path)
                    .arg(folder.join("root")),
            )?;
        }
    }
    find(program).map(drop).ok_or_else(|| {
        Failure::unavailable(format!("the package {package} has no program `{program}`"))
    })
}

/// PostgreSQL has libraries, so it is installed; its tests start a cluster of their own.
fn postgres() -> Outcome {
    if find("initdb").is_some() {
        return Ok(());
    }
    install(&["postgresql"])
}

/// Debian's torch, of 176 MB with what it needs and without anything for GPUs, for the system's Python; the
/// library for matrices is the quick one.
fn torch(folder: &Path) -> Outcome {
    let python = "/usr/bin/python3";
    let has = output(Command::new(python).args(["-c", "import torch, venv, ensurepip"]));
    if !has.is_ok_and(|out| out.status.success()) {
        install(&["python3-torch", "libopenblas0-pthread", "python3-venv"])?;
    }
    let mut venv = Command::new(python);
    venv.args(["-m", "venv", "--system-site-packages"]);
    python_by(venv, folder, TORCH_USERS)
}

/// Installs Debian's packages.
fn install(packages: &[&str]) -> Outcome {
    println!("installing {}", packages.join(" "));
    let mut install = Command::new("apt-get");
    install.args(["install", "-y", "-qq", "--no-install-recommends"]);
    install.args(packages);
    with_lists(install.env("DEBIAN_FRONTEND", "noninteractive"))
}

/// Runs the package client; where it knows no packages yet, lists them first.
fn with_lists(command: &mut Command) -> Outcome {
    if output(command)?.status.success() {
        return Ok(());
    }
    capture(Command::new("apt-get").args(["update", "-qq"]))?;
    capture(command).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_on_the_path() {
        assert!(find("cargo").is_some() && find("no-such-program-anywhere").is_none());
    }

    #[test]
    fn what_is_brought_is_pinned() {
        let pinned = |packages: &[&str]| packages.iter().all(|name| name.contains("=="));
        assert!(pinned(MOTO) && pinned(MODEL_SIGNING) && pinned(BINDING) && pinned(TORCH_USERS));
        assert!(
            UNPACKED
                .iter()
                .all(|(program, package)| package.contains(program))
        );
    }
}
