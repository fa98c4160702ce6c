//! `cargo xtask wheel`: the package for Python as a wheel that also carries the program.
//!
//! maturin builds the module, and `wheel` takes the result apart, puts the program among the scripts and
//! closes it again with a new list of digests. So a source tree needs no program beside it to be
//! built by `pip install`. The tag names the oldest C library that both halves run on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::args::Args;
use crate::engines;
use crate::shell::{Context as _, Failure, Outcome, RELEASE, Scratch, build, cache, capture, root};

/// What makes wheels, pinned.
const TOOLS: &[&str] = &["maturin==1.16.0", "wheel==0.48.0"];
/// Symbols of the GNU C library begin so, with the minor version that brought them.
const SYMBOL: &[u8] = b"GLIBC_2.";

/// `cargo xtask wheel [DIR]`
pub(crate) fn command(mut args: Args) -> Outcome {
    let folder = args
        .positional()
        .map_or_else(|| cache().join("wheel"), PathBuf::from);
    args.finish()?;
    let wheel = make(&folder)?;
    println!("pip install {}", wheel.display());
    Ok(())
}

/// Makes the wheel in a folder, instead of those that are there.
pub(crate) fn make(folder: &Path) -> Outcome<PathBuf> {
    let tools = cache().join("engines/wheel");
    engines::python(&tools, TOOLS)?;
    let program = build("mmh", &RELEASE)?;
    let scratch = Scratch::new("wheel")?;
    let (built, taken) = (scratch.path().join("built"), scratch.path().join("taken"));
    let mut maturin = Command::new(tools.join("bin/maturin"));
    maturin.args(["build", "--release", "--locked", "--compatibility", "linux"]);
    maturin.arg("--manifest-path");
    maturin.arg(root().join("crates/mmh-python/Cargo.toml"));
    println!("maturin builds the module");
    capture(maturin.arg("--out").arg(&built).current_dir(root()))?;
    let wheel = || {
        let mut wheel = Command::new(tools.join("bin/python"));
        wheel.args(["-m", "wheel"]);
        wheel
    };
    capture(
        wheel()
            .arg("unpack")
            .arg("--dest")
            .arg(&taken)
            .arg(only(&built, "whl")?),
    )?;
    let package = only(&taken, "")?;
    let name = package.file_name().unwrap_or_default().to_string_lossy();
    let scripts = package.join(format!("{name}.data/scripts"));
    fs::create_dir_all(&scripts).context(scripts.display())?;
    let script = scripts.join("mmh");
    capture(Command::new("strip").arg("-o").arg(&script).arg(&program))?;
    let module = only(&package.join("mmh"), "so")?;
    let libc = newest_libc(&[&script, &module])?;
    fs::create_dir_all(folder).context(folder.display())?;
    for old in files(folder, "whl")? {
        fs::remove_file(&old).context(old.display())?;
    }
    capture(
        wheel()
            .arg("pack")
            .arg("--dest-dir")
            .arg(folder)
            .arg(&package),
    )?;
    let platform = format!("manylinux_2_{libc}_{}", std::env::consts::ARCH);
    let mut tags = wheel();
    tags.args(["tags", "--remove", "--platform-tag", &platform]);
    capture(tags.arg(only(folder, "whl")?))?;
    only(folder, "whl")
}

/// The only entry of a folder with this ending; without an ending, the only one.
fn only(folder: &Path, ending: &str) -> Outcome<PathBuf> {
    let mut all = files(folder, ending)?;
    match (all.pop(), all.is_empty()) {
        (Some(file), true) => Ok(file),
        _ => Err(Failure::failed(format!(
            "{} should hold one entry `*.{ending}`",
            folder.display()
        ))),
    }
}

fn files(folder: &Path, ending: &str) -> Outcome<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).context(folder.display())? {
        let path = entry.context(folder.display())?.path();
        if ending.is_empty() || path.extension().is_some_and(|other| other == ending) {
            all.push(path);
        }
    }
    Ok(all)
}

/// The newest minor version of the C library whose symbols these files name.
fn newest_libc(files: &[&Path]) -> Outcome<u32> {
    let mut newest = 0;
    for file in files {
        let bytes = fs::read(file).context(file.display())?;
        newest = newest.max(libc_of(&bytes));
    }
    Ok(newest)
}

fn libc_of(bytes: &[u8]) -> u32 {
    let named = bytes.windows(SYMBOL.len()).enumerate();
    let named = named.filter(|(_, window)| *window == SYMBOL);
    let minor = named.filter_map(|(at, _)| {
        let digits = &bytes[at + SYMBOL.len()..];
        let n = digits
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        std::str::from_utf8(&digits[..n]).ok()?.parse().ok()
    });
    minor.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_symbol_counts() {
        assert_eq!(libc_of(b"\0GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.17\0"), 34);
        assert_eq!(libc_of(b"GLIBC_2."), 0);
    }
}
