//! `sync`, `push`, `pull` and `remote`: what goes between repositories.

use std::io;

use mmh_core::ErrorKind;
use mmh_repo::sync::{RefReport, What};
use mmh_repo::{Repository, SyncOptions, SyncReport};
use serde_json::json;

use crate::args::sync::{RemoteCommand, SendArgs, SyncArgs};
use crate::config::Process;
use crate::failure::Failure;
use crate::output::{BAD, DIM, GOOD, Output, count, plain, size, styled, table};
use crate::remotes::Remotes;
use crate::session::Session;

/// Which way it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Push,
    Pull,
}

/// Sends from this repository to another, or fetches from there.
pub(crate) fn send(session: &Session, way: Way, args: SendArgs) -> Result<(), Failure> {
    let remotes = Remotes::of(&session.place()?.value, &Process)?;
    let place = remotes.place(args.remote.as_deref())?;
    let this = session.open()?;
    let other = session.open_other_by(&place, &args.other)?;
    let (from, to, command) = match way {
        Way::Push => (&this, &other, "push".to_owned()),
        Way::Pull => (&other, &this, format!("pull {}", plain(&place))),
    };
    let options = SyncOptions {
        names: args.names,
        force: args.force,
        prune: args.prune,
        dry_run: args.dry_run,
        command,
        ..SyncOptions::default()
    };
    let report = from.send(to, &options)?;
    let value = json!({ "place": place, "report": report });
    session.output.report(&value, |out| {
        print(out, &report)?;
        summary(
            out,
            &report,
            if way == Way::Push { "sent" } else { "fetched" },
        )
    })?;
    verdict(session.output, &[&report])
}

/// Brings two repositories to the same state.
pub(crate) fn sync(session: &Session, args: SyncArgs) -> Result<(), Failure> {
    let place = |word: &str| match session.place() {
        // A folder wins over a remote of this name.
        Ok(here) if !std::path::Path::new(word).is_dir() => {
            Remotes::of(&here.value, &Process)?.place(Some(word))
        }
        // Without a repository here there are no remotes.
        _ => Ok(word.to_owned()),
    };
    let (place_a, place_b) = (place(&args.a)?, place(&args.b)?);
    let a = session.open_other(&place_a)?;
    let b = session.open_other_by(&place_b, &args.other)?;
    let one_way = |from: &Repository, to: &Repository, place: &str| {
        let options = SyncOptions {
            names: args.names.clone(),
            dry_run: args.dry_run,
            command: format!("sync with {}", plain(place)),
            ..SyncOptions::default()
        };
        from.send(to, &options)
    };
    let there = one_way(&a, &b, &place_a)?;
    let back = one_way(&b, &a, &place_b)?;
    let value = json!({ "a_to_b": there, "b_to_a": back });
    session.output.report(&value, |out| {
        for (report, place) in [(&there, &place_b), (&back, &place_a)] {
            writeln!(out, "to {}:", plain(place))?;
            print(out, report)?;
            summary(out, report, "sent")?;
        }
        Ok(())
    })?;
    verdict(session.output, &[&there, &back])
}

fn print(out: &mut dyn io::Write, report: &SyncReport) -> io::Result<()> {
    for r in &report.refs {
        writeln!(out, "{}", line(r, report.dry_run))?;
    }
    for finding in &report.findings {
        let (target, problem) = (plain(&finding.target), plain(&finding.problem));
        writeln!(out, "{} {target}: {problem}", styled(BAD, "damaged"))?;
    }
    Ok(())
}

/// `moved models/acme/m@heads/main`.
fn line(r: &RefReport, dry_run: bool) -> String {
    let would = if dry_run { "would be " } else { "" };
    let (style, what) = match r.what {
        What::Created => (GOOD, format!("{would}created")),
        What::Moved => (GOOD, format!("{would}moved")),
        What::Forced => (GOOD, format!("{would}moved by force")),
        What::Removed => (GOOD, format!("{would}removed")),
        What::Ahead => (DIM, "newer there".to_owned()),
        What::Diverged => (BAD, "diverged".to_owned()),
        What::Damaged => (BAD, "left out".to_owned()),
        _ => (DIM, "the same".to_owned()),
    };
    format!("{} {}", styled(style, what), plain(&r.name))
}

fn summary(out: &mut dyn io::Write, report: &SyncReport, done: &str) -> io::Result<()> {
    let done = match report.dry_run {
        true => format!("would have {done}"),
        false => done.to_owned(),
    };
    let (chunks, bytes) = (count(report.chunks, "chunk"), size(report.bytes));
    let same = count(report.same, "ref");
    let same = match report.same {
        0 => String::new(),
        _ => styled(DIM, format!("; {same} the same already")),
    };
    writeln!(out, "{} {chunks}, {bytes}{same}", styled(GOOD, done))
}

/// Damage first, then what diverged.
pub(super) fn verdict(output: Output, reports: &[&SyncReport]) -> Result<(), Failure> {
    let n = |what| {
        reports
            .iter()
            .map(|r| r.refs_that(what).count())
            .max()
            .unwrap_or(0) as u64
    };
    let damaged = n(What::Damaged);
    if damaged > 0 {
        let refs = count(damaged, "ref");
        let unseen = output.quiet && !output.json;
        let what = format!("{refs} left out: what they reach is damaged in the source");
        return Err(Failure::Damaged(unseen.then_some(what)));
    }
    let diverged = n(What::Diverged);
    if diverged > 0 {
        let refs = count(diverged, "ref");
        let what = format!(
            "{refs} diverged: each side has what the other lacks. Keep yours under another name \
             (`mmh branch NAME OTHER`) and `mmh pull --force`, or `mmh push --force` over theirs"
        );
        return Err(Failure::Other(ErrorKind::Conflict, what));
    }
    Ok(())
}

/// Lists, adds or forgets remotes.
pub(crate) fn remote(session: &Session, command: RemoteCommand) -> Result<(), Failure> {
    let remotes = Remotes::of(&session.place()?.value, &Process)?;
    match command {
        RemoteCommand::List => {
            let all = remotes.list()?;
            session.output.report(&all, |out| {
                let row = |(name, place): (&String, &String)| vec![name.clone(), place.clone()];
                let rows: Vec<_> = all.iter().map(row).collect();
                table(out, &["remote", "place"], &[], &rows)
            })
        }
        RemoteCommand::Add { name, place } => {
            let place = remotes.add(&name, &place)?;
            let value = json!({ "remote": name, "place": place });
            session.output.report(&value, |out| {
                writeln!(out, "{} {name} is {}", styled(GOOD, "added"), plain(&place))
            })
        }
        RemoteCommand::Rm { name } => {
            remotes.remove(&name)?;
            let value = json!({ "removed": name });
            session.output.report(&value, |out| {
                writeln!(out, "{} {name}", styled(GOOD, "forgotten"))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(whats: &[What]) -> SyncReport {
        let one = |what: &What| RefReport {
            name: "models/m@heads/main".to_owned(),
            what: *what,
            old: None,
            new: None,
        };
        SyncReport {
            refs: whats.iter().map(one).collect(),
            same: 2,
            chunks: 1,
            bytes: 2000,
            ..SyncReport::default()
        }
    }

    fn text(report: &SyncReport) -> String {
        let mut out = Vec::new();
        print(&mut out, report).unwrap();
        summary(&mut out, report, "sent").unwrap();
        let text = anstream::adapter::strip_bytes(&out).into_vec();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_report_says_what_became_of_each_ref() {
        let done = report(&[What::Created, What::Ahead, What::Diverged]);
        assert_eq!(
            text(&done),
            "created models/m@heads/main\n\
             newer there models/m@heads/main\n\
             diverged models/m@heads/main\n\
             sent 1 chunk, 2.00 kB; 2 refs the same already\n"
        );
        let dry = SyncReport {
            dry_run: true,
            ..report(&[What::Moved])
        };
        assert!(text(&dry).starts_with("would be moved models/m@heads/main\nwould have sent"));
    }

    #[test]
    fn damage_is_said_before_what_diverged() {
        let output = Output {
            json: false,
            quiet: false,
            verbose: 0,
        };
        let (diverged, both) = (
            report(&[What::Diverged]),
            report(&[What::Diverged, What::Damaged]),
        );
        let kind = |reports: &[&SyncReport]| verdict(output, reports).map_err(|f| f.kind());
        assert_eq!(kind(&[&report(&[What::Moved])]), Ok(()));
        assert_eq!(kind(&[&diverged, &diverged]), Err(ErrorKind::Conflict));
        assert_eq!(kind(&[&both]), Err(ErrorKind::Corrupt));
    }
}
