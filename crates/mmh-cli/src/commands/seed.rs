//! `seed`: a whole repository from one string, or from some of several shares.

use std::path::{Path, PathBuf};

use mmh_core::name::Target;
use mmh_repo::keys::{self, Parsed, Scope, Seed, SeedKey, SeedOptions};
use serde_json::json;
use zeroize::Zeroizing;

use crate::args::keys::{SeedCommand, SlotArgs};
use crate::failure::Failure;
use crate::keys::read_secret;
use crate::output::{DIM, GOOD, styled};
use crate::session::Session;
use crate::terminal;

/// Runs one of the commands.
pub(crate) fn seed(session: &Session, command: SeedCommand) -> Result<(), Failure> {
    match command {
        SeedCommand::Show {
            target,
            read_only,
            hint,
        } => show(session, target.as_ref(), read_only, hint),
        SeedCommand::Restore { file, slot } => restore(session, file.as_deref(), &slot),
        SeedCommand::Split { shares, read_only } => split(session, shares, read_only),
        SeedCommand::Combine {
            files,
            read_only,
            hint,
        } => combine(session, &files, read_only, hint),
    }
}

fn show(
    session: &Session,
    target: Option<&Target>,
    read_only: bool,
    hints: Vec<String>,
) -> Result<(), Failure> {
    let repo = session.open()?;
    let options = SeedOptions { read_only, hints };
    print(session, &repo.seed(target, options)?)
}

/// Prints a seed, which is what was asked for.
fn print(session: &Session, seed: &Seed) -> Result<(), Failure> {
    let text = seed.to_text().map_err(mmh_repo::Error::from)?;
    let value = json!({
        "seed": text.as_str(), "read_only": is_read_only(seed), "scope": scope(seed),
        "hints": seed.hints,
    });
    session
        .output
        .report(&value, |out| writeln!(out, "{}", *text))
}

fn is_read_only(seed: &Seed) -> bool {
    matches!(seed.key, SeedKey::Read(_))
}

pub(super) fn scope(seed: &Seed) -> String {
    match &seed.scope {
        Scope::Repository => "repository".to_owned(),
        Scope::Name(name) => name.to_string(),
        Scope::Snapshot => "snapshot".to_owned(),
    }
}

/// Reads a seed from a file, standard input, or a person.
pub(super) fn read(file: Option<&Path>) -> Result<Parsed, Failure> {
    let text: Zeroizing<String> = match file {
        // Every process of the machine sees the arguments of this one.
        Some(file) if file.to_string_lossy().starts_with("mmh1") && !file.exists() => {
            let what = "a seed is no argument: others could read it there. Put it into a file, or \
                        use `-` and type it";
            return Err(Failure::invalid(what.to_owned()));
        }
        Some(file) if file != Path::new("-") => read_secret(file)?,
        _ if terminal::is_watched() => terminal::ask("seed").map_err(|e| {
            Failure::Other(mmh_core::ErrorKind::of_io(&e), format!("the terminal: {e}"))
        })?,
        _ => read_secret(Path::new("-"))?,
    };
    Ok(Seed::parse(&text).map_err(mmh_repo::Error::from)?)
}

/// Says how badly a seed was written, so that the card can be mended.
pub(super) fn mended(parsed: &Parsed) -> Option<String> {
    let at: Vec<String> = parsed
        .corrected
        .iter()
        .map(|at| (at + 1).to_string())
        .collect();
    (!at.is_empty()).then(|| format!("corrected characters {} of the seed", at.join(", ")))
}

fn restore(session: &Session, file: Option<&Path>, slot: &SlotArgs) -> Result<(), Failure> {
    let parsed = read(file)?;
    let repo = session.open_with(parsed.seed.key.clone())?;
    repo.check_state(&parsed.seed)?;
    let (name, recipients) = session.keyring.recipients(slot, true)?;
    let read_only = is_read_only(&parsed.seed);
    repo.add_slot(&name, &recipients, read_only)?;
    let corrected = parsed.corrected.len();
    let value = json!({ "slot": name, "read_only": read_only, "corrected": corrected });
    session.output.report(&value, |out| {
        if let Some(mended) = mended(&parsed) {
            writeln!(out, "{}", styled(DIM, mended))?;
        }
        writeln!(out, "{} with key slot {name}", styled(GOOD, "restored"))
    })
}

fn split(session: &Session, parts: (u8, u8), read_only: bool) -> Result<(), Failure> {
    let repo = session.open()?;
    let seed = repo.seed(
        None,
        SeedOptions {
            read_only,
            hints: Vec::new(),
        },
    )?;
    let shares = keys::split(&seed.key, parts)?;
    let value: Vec<&str> = shares.iter().map(|share| share.as_str()).collect();
    session.output.report(&value, |out| {
        value.iter().try_for_each(|share| writeln!(out, "{share}"))
    })
}

fn combine(
    session: &Session,
    files: &[PathBuf],
    read_only: bool,
    hints: Vec<String>,
) -> Result<(), Failure> {
    let mut text = Zeroizing::new(String::with_capacity(1 << 16));
    let stdin = [PathBuf::from("-")];
    let files = if files.is_empty() { &stdin[..] } else { files };
    for file in files {
        text.push_str(&read_secret(file)?);
        text.push('\n');
    }
    let seed = Seed {
        key: keys::combine(&text, read_only)?,
        scope: Scope::Repository,
        state: None,
        hints,
    };
    print(session, &seed)
}
