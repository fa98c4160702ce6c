//! `doctor`: the installation, the settings and the repository's health, and index repair.

use std::io::{self, Write};

use mmh_repo::repository::Facts;
use mmh_repo::{RebuildOptions, entropy};
use serde_json::json;

use crate::config::{self, Process, Setting};
use crate::failure::Failure;
use crate::output::{BAD, DIM, GOOD, HEAD, count, size, styled};
use crate::session::Session;

/// Checks what can be checked without reading every byte.
pub(crate) fn doctor(
    session: &Session,
    rebuild_index: bool,
    accept_missing: bool,
) -> Result<(), Failure> {
    if rebuild_index {
        return rebuild(session, accept_missing);
    }
    let c = &session.config;
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let version = env!("CARGO_PKG_VERSION");
    let place = session.place();
    let opened = place.as_ref().ok().map(|_| session.open());
    let facts = match &opened {
        Some(Ok(repo)) => Some((repo.facts()?, repo.names()?.len())),
        _ => None,
    };
    let engines: Vec<&str> = entropy::engines().iter().map(|e| e.name()).collect();
    let value = json!({
        "version": version, "os": os, "arch": arch, "threads": c.threads.value,
        "author": c.author.value, "level": c.level.value.to_string(),
        "engine": c.engine.value, "engines": engines,
        "repository": place.as_ref().ok().map(|p| p.value.clone()),
        "facts": facts.as_ref().map(|(f, _)| f), "names": facts.as_ref().map(|(_, n)| n),
    });
    session.output.report(&value, |out| {
        writeln!(
            out,
            "{} mmh {version} on {os} {arch}",
            styled(HEAD, "program")
        )?;
        writeln!(
            out,
            "{} threads {}; author {}; level {}",
            styled(HEAD, "settings"),
            c.threads,
            c.author,
            c.level
        )?;
        writeln!(
            out,
            "{} {}; this machine has {}",
            styled(HEAD, "engine"),
            c.engine,
            engines.join(", ")
        )?;
        for file in config::files(&Process) {
            let state = if file.is_file() { "read" } else { "not there" };
            writeln!(
                out,
                "{}",
                styled(DIM, format!("  {} ({state})", file.display()))
            )?;
        }
        match (&place, &facts) {
            (Ok(place), Some((facts, names))) => print_facts(out, place, facts, *names),
            (Ok(place), None) => writeln!(
                out,
                "{} {place}: {}",
                styled(HEAD, "repository"),
                styled(BAD, "cannot be opened")
            ),
            (Err(failure), _) => {
                writeln!(
                    out,
                    "{} {}",
                    styled(HEAD, "repository"),
                    failure.message().unwrap_or_default()
                )
            }
        }
    })?;
    match opened {
        Some(Err(failure)) => Err(failure),
        _ => Ok(()),
    }
}

fn print_facts(
    out: &mut dyn Write,
    place: &Setting<String>,
    f: &Facts,
    names: usize,
) -> io::Result<()> {
    writeln!(
        out,
        "{} {place}: {}, {} in {}",
        styled(HEAD, "repository"),
        count(names as u64, "name"),
        size(f.pack_bytes),
        count(f.packs, "pack")
    )?;
    writeln!(
        out,
        "{}",
        styled(
            DIM,
            format!(
                "  format {}, {}, id {}, {}, {}",
                f.format,
                if f.sealed { "sealed" } else { "not sealed" },
                f.id,
                count(f.chunks, "chunk"),
                count(f.operations, "operation")
            )
        )
    )?;
    let works = if f.put_if_absent {
        "works".to_owned()
    } else {
        "does not work".to_owned()
    };
    let works = match &f.log {
        Some(log) => format!("{works}; the log lives in {log}"),
        None => format!("{works} here"),
    };
    writeln!(
        out,
        "{}",
        styled(DIM, format!("  creating only if absent {works}"))
    )
}

fn rebuild(session: &Session, accept_missing: bool) -> Result<(), Failure> {
    let report = session
        .open()?
        .rebuild_index(RebuildOptions { accept_missing })?;
    let ids = |list: &[mmh_core::PackId]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let value = json!({
        "packs": report.packs, "chunks": report.chunks, "rescued": ids(&report.rescued_packs),
        "lost": ids(&report.lost_packs), "missing": ids(&report.missing_packs),
    });
    session.output.report(&value, |out| {
        writeln!(
            out,
            "{} {} of {}",
            styled(GOOD, "indexed"),
            count(report.chunks, "chunk"),
            count(report.packs, "pack")
        )?;
        for pack in &report.rescued_packs {
            writeln!(
                out,
                "  footer damaged, what could be read was saved: {pack}"
            )?;
        }
        for pack in report.lost_packs.iter().chain(&report.missing_packs) {
            writeln!(out, "  {} {pack}", styled(BAD, "lost or missing:"))?;
        }
        Ok(())
    })
}
