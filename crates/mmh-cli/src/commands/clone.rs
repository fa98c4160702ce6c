//! `clone`: the same repository elsewhere, from a place or from where a seed says it is.

use std::path::Path;

use mmh_repo::Backend;
use mmh_repo::clone::{Cloned, clone_place, clone_seed};
use serde_json::json;

use super::seed;
use crate::args::sync::CloneArgs;
use crate::config::Process;
use crate::failure::Failure;
use crate::output::{DIM, GOOD, count, plain, size, styled};
use crate::remotes::{DEFAULT, Remotes};
use crate::session::Session;

/// Copies a repository, or some names of it.
pub(crate) fn clone(session: &Session, args: &CloneArgs) -> Result<(), Failure> {
    let dest = Backend::parse(&args.dir, &session.config.access())?;
    let (settings, components) = (session.settings(), session.components());
    let parsed = match is_seed(&args.from) {
        true => Some(seed::read(Some(Path::new(&args.from)))?),
        false => None,
    };
    let cloned = match &parsed {
        Some(parsed) => clone_seed(&parsed.seed, &args.names, dest, settings, components)?,
        None => {
            let source = session.open_other(&args.from)?;
            clone_place(&source, &args.names, dest, settings, components)?
        }
    };
    let Cloned {
        repository,
        from,
        bytes,
        report,
    } = &cloned;
    let names = repository.names()?.len() as u64;
    // A clone without its origin is still a clone.
    let origin = Remotes::of(&args.dir, &Process)
        .and_then(|remotes| remotes.add(DEFAULT, from))
        .ok();
    let scope = parsed.as_ref().map(|parsed| seed::scope(&parsed.seed));
    let corrected = parsed.as_ref().map_or(0, |parsed| parsed.corrected.len());
    let findings = report.as_ref().map(|report| &report.findings);
    let value = json!({
        "repository": args.dir, "from": from, "bytes": bytes, "names": names, "scope": scope,
        "corrected": corrected, "origin": origin, "findings": findings,
    });
    session.output.report(&value, |out| {
        if let Some(mended) = parsed.as_ref().and_then(seed::mended) {
            writeln!(out, "{}", styled(DIM, mended))?;
        }
        let (from, names, bytes) = (plain(from), count(names, "name"), size(*bytes));
        writeln!(out, "{} {from}: {names}, {bytes}", styled(GOOD, "cloned"))
    })?;
    match report {
        Some(report) => super::sync::verdict(session.output, &[report]),
        None => Ok(()),
    }
}

/// Whether something to clone is a seed: in a file, or to be typed.
fn is_seed(from: &str) -> bool {
    let typed = from.starts_with("mmh1") && !Path::new(from).exists();
    from == "-" || typed || Path::new(from).is_file()
}
