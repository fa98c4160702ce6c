//! What somebody with a laptop does: installs the wheel, serves a folder, and goes on with the tools
//! that were there before. Everything runs in a fresh environment of Python, as a user types it.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::corpus::{self, Choice, python_name};
use crate::engines;
use crate::mmh::Serving;
use crate::shell::{Context as _, Failure, Outcome, Scratch, capture, typed};
use crate::wheel;

/// Tensors by name from a repository, while it is served, beside the same from the file.
const READ: &str = "\
import mmh, numpy, sys
from safetensors.numpy import load_file
file = load_file(sys.argv[1])
with mmh.open(sys.argv[2]).safe_open('acme/minilm:model.safetensors') as f:
    assert sorted(f.keys()) == sorted(file), 'other names'
    for name, value in file.items():
        assert numpy.array_equal(f.get_tensor(name), value), name
import fsspec
with fsspec.open('mmh://acme/minilm/tokenizer.json', repository=sys.argv[2]) as f:
    assert len(f.read()) > 0
print(len(file), 'tensors and a file read by mmh', mmh.__version__)
";

/// `cargo xtask drill laptop`
pub(crate) fn laptop() -> Outcome {
    let wheel = wheel::make(&crate::shell::cache().join("wheel"))?;
    let folder = corpus::default_folder();
    corpus::fetch(&folder, &Choice::Named(vec!["minilm".to_owned()]))?;
    let model = folder.join("minilm");
    let scratch = Scratch::new("drill-laptop")?;
    let home = scratch.path().join("venv");
    capture(Command::new(python_name()).args(["-m", "venv"]).arg(&home))?;
    let bin = home.join("bin");
    let here = |program: &str| {
        let mut command = Command::new(bin.join(program));
        command.current_dir(scratch.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("MMH_") || name.starts_with("HF_") {
                command.env_remove(name);
            }
        }
        command.env("HOME", scratch.path());
        command
    };
    say(here("python")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ])
        .arg(format!("{}[fsspec,numpy]", wheel.display()))
        .args(engines::HUB)
        .arg("safetensors==0.8.0"))?;
    say(here("mmh").arg("--version"))?;
    say(here("mmh").args(["-R", "repo", "init"]))?;
    let mut serve = here("mmh");
    serve.args(["-R", "repo", "serve", "--json"]);
    serve.args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    let served = Serving::start(&mut serve)?;
    let hf = |args: &[&OsStr]| {
        let mut hf = here("hf");
        hf.args(args).env("HF_ENDPOINT", &served.http);
        hf.env("HF_HUB_DISABLE_TELEMETRY", "1");
        say(&mut hf)
    };
    let upload = ["upload".as_ref(), "acme/minilm".as_ref(), model.as_os_str()];
    hf(&upload)?;
    let download = ["download", "acme/minilm", "--local-dir", "again"];
    hf(&download.map(OsStr::new))?;
    same(&model, &scratch.path().join("again"))?;
    let mut read = here("python");
    read.args(["-c", READ]).arg(model.join("model.safetensors"));
    say(read.arg("repo"))?;
    drop(served);
    say(here("mmh").args(["-R", "repo", "verify"]))?;
    say(here("mmh").args(["-R", "repo", "stat", "acme/minilm"]))
}

/// Shows a command, runs it, and shows what it says.
fn say(command: &mut Command) -> Outcome {
    println!("$ {}", typed(command));
    print!("{}", capture(command)?);
    Ok(())
}

/// Compares every file of a folder with the one of the same name in another.
fn same(folder: &Path, other: &Path) -> Outcome {
    for entry in fs::read_dir(folder).context(folder.display())? {
        let path = entry.context(folder.display())?.path();
        let twin = other.join(path.file_name().unwrap_or_default());
        let read = |path: &Path| fs::read(path).context(path.display());
        if read(&path)? != read(&twin)? {
            return Err(Failure::failed(format!("{} differs", twin.display())));
        }
        println!("{} came back as it went", twin.display());
    }
    Ok(())
}
