//! `cargo xtask tidy`: rules of the house that no compiler checks.

mod arrows;
mod constants;
mod documents;
mod limits;
mod packages;
mod sources;

use std::path::PathBuf;
use std::process::Command;

use crate::args::Args;
use crate::shell::{Context as _, Failure, Outcome, capture, root};

/// A text file under version control, or about to be.
#[derive(Debug)]
struct Tracked {
    /// Relative to the root, with `/` between parts.
    path: String,
    text: String,
}

/// `cargo xtask tidy`
pub(crate) fn command(args: Args) -> Outcome {
    args.finish()?;
    run()
}

/// Runs every check and reports all findings at once.
pub(crate) fn run() -> Outcome {
    let limits = limits::Limits::read()?;
    let files = tracked()?;
    let workspace = packages::metadata(&["--no-deps"])?;
    let resolved = packages::metadata(&[])?;
    let mut findings = Vec::new();
    findings.extend(arrows::check(&workspace, &limits)?);
    findings.extend(sources::check(&files, &limits));
    findings.extend(documents::check(&files));
    findings.extend(constants::check(&files));
    findings.extend(packages::check(&resolved, &files, &limits)?);
    if findings.is_empty() {
        return Ok(());
    }
    for finding in &findings {
        println!("  {finding}");
    }
    Err(Failure::failed(format!(
        "tidy: {} findings",
        findings.len()
    )))
}

/// The text files that git tracks or would add.
fn tracked() -> Outcome<Vec<Tracked>> {
    let mut git = Command::new("git");
    git.current_dir(root()).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let mut files = Vec::new();
    for path in capture(&mut git)?
        .split('\0')
        .filter(|path| !path.is_empty())
    {
        let full: PathBuf = root().join(path);
        if !full.is_file() {
            continue;
        }
        let bytes = std::fs::read(&full).context(full.display())?;
        if let Ok(text) = String::from_utf8(bytes) {
            files.push(Tracked {
                path: path.to_owned(),
                text,
            });
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files.dedup_by(|a, b| a.path == b.path);
    Ok(files)
}
