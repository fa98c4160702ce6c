//! `cargo xtask corpus`: real model files for demo, benchmarks and CI, checked by SHA-256.

mod fetch;
mod list;

use std::path::{Path, PathBuf};

use crate::args::Args;
use crate::shell::{Context as _, Failure, Outcome, cache};
use crate::table;

pub(crate) use fetch::python_name;
pub(crate) use list::{List, Set};

/// Which sets of the list are wanted.
#[derive(Debug)]
pub(crate) enum Choice {
    /// Those marked for CI.
    Small,
    /// Those marked for the demo.
    Demo,
    /// Every set.
    All,
    /// The sets of these names.
    Named(Vec<String>),
}

/// `cargo xtask corpus [DIR] [--small | --demo | --all | --set NAME …]`
pub(crate) fn command(mut args: Args) -> Outcome {
    let names = args.values("--set")?;
    let choice = match (
        args.flag("--small"),
        args.flag("--demo"),
        args.flag("--all"),
    ) {
        (true, false, false) if names.is_empty() => Choice::Small,
        (false, true, false) if names.is_empty() => Choice::Demo,
        (false, false, true) if names.is_empty() => Choice::All,
        (false, false, false) if !names.is_empty() => Choice::Named(names),
        _ => {
            return Err(Failure::usage(
                "choose one of --small, --demo, --all or --set NAME",
            ));
        }
    };
    let folder = args.positional().map_or_else(default_folder, PathBuf::from);
    args.finish()?;
    fetch(&folder, &choice).map(|_| ())
}

/// Where corpus files live unless a folder is given.
pub(crate) fn default_folder() -> PathBuf {
    cache().join("corpus")
}

/// Brings the chosen sets into `folder` and returns them. Files that are there and right are kept.
pub(crate) fn fetch(folder: &Path, choice: &Choice) -> Outcome<Vec<Set>> {
    let list = List::read()?;
    let sets = list.choose(choice)?;
    std::fs::create_dir_all(folder).context(folder.display())?;
    let fetcher = fetch::Fetcher::new(&list, folder)?;
    let mut total = 0;
    for set in &sets {
        println!("{}: {} ({})", set.name, set.about, set.licence);
        fetcher.set(set)?;
        total += set.file.iter().map(|file| file.bytes).sum::<u64>();
    }
    println!(
        "{} sets, {}, every file checked by SHA-256, in {}",
        sets.len(),
        table::bytes(total),
        folder.display()
    );
    Ok(sets)
}
