//! `get`, `cat`, `ls NAME` and `diff`.

use std::io::{self, Write};
use std::path::Path;

use mmh_core::ByteRange;
use mmh_core::name::Target;
use mmh_core::range::RangeSpec;
use mmh_core::tree::Node;
use mmh_repo::list::{Difference, Listed};
use mmh_repo::{ExportOptions, ExportReport};
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{BAD, DIM, GOOD, count, plain, size, styled, verb};
use crate::session::Session;

/// Restores what a target names.
pub(crate) fn get(
    session: &Session,
    target: &Target,
    dest: &Path,
    overwrite: bool,
    unsafe_links: bool,
) -> Result<(), Failure> {
    let repo = session.open()?;
    let node = repo.node(target)?;
    let name = target
        .path
        .as_deref()
        .and_then(|p| p.rsplit('/').next())
        .unwrap_or_default();
    let report = repo.export(
        &node,
        name,
        dest,
        ExportOptions {
            overwrite,
            unsafe_links,
        },
    )?;
    restored(session, &report)
}

/// Prints what was restored.
pub(crate) fn restored(session: &Session, report: &ExportReport) -> Result<(), Failure> {
    session.output.report(report, |out| {
        for skipped in &report.skipped {
            let left = format!("left out: {}", plain(skipped));
            writeln!(out, "  {}", styled(DIM, left))?;
        }
        let kept = match report.kept {
            0 => String::new(),
            n => format!(", {n} {} there already", verb(n, "was", "were")),
        };
        let (written, bytes) = (count(report.written, "file"), size(report.bytes));
        writeln!(
            out,
            "{} {written} written{kept}; {bytes}, all verified",
            styled(GOOD, "restored")
        )
    })
}

/// Writes a file to standard output.
pub(crate) fn cat(
    session: &Session,
    target: &Target,
    range: Option<RangeSpec>,
) -> Result<(), Failure> {
    let repo = session.open()?;
    let Node::File { id, .. } = repo.node(target)? else {
        return Err(Failure::invalid(format!(
            "`{target}` is not a file; name one after `:`"
        )));
    };
    let reader = repo.open_file(id)?;
    let range = match range {
        Some(spec) => spec.resolve(reader.size())?,
        None => ByteRange::all(reader.size()),
    };
    let mut out = io::stdout();
    let mut failed = None;
    let read = repo.read_range(&reader, range, &mut |bytes| {
        out.write_all(&bytes).map_err(|e| {
            failed = Some(Failure::from(e));
            mmh_repo::Error::Invalid("output failed".to_owned())
        })
    });
    match (failed, read) {
        (Some(failure), _) => Err(failure),
        (None, read) => Ok(read.map(|()| out.flush())??),
    }
}

/// A path as it stands in JSON; borrowed, because a listing may be long.
#[derive(Serialize)]
struct Line<'a> {
    path: &'a str,
    node: Shown<'a>,
}

/// A node with its id as people write it.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Shown<'a> {
    File {
        id: String,
        size: u64,
        executable: bool,
    },
    Dir {
        id: String,
    },
    Link {
        target: &'a str,
    },
}

impl<'a> From<&'a Listed> for Line<'a> {
    fn from(Listed { path, node }: &'a Listed) -> Self {
        let node = match node {
            Node::File {
                id,
                size,
                executable,
            } => Shown::File {
                id: id.to_string(),
                size: *size,
                executable: *executable,
            },
            Node::Dir { id } => Shown::Dir { id: id.to_string() },
            Node::Link { target } => Shown::Link { target },
        };
        Self { path, node }
    }
}

/// Lists what a target holds.
pub(crate) fn ls(
    session: &Session,
    target: &Target,
    long: bool,
    recursive: bool,
) -> Result<(), Failure> {
    let repo = session.open()?;
    let listed = repo.list(target, recursive)?;
    let value: Vec<Line<'_>> = listed.iter().map(Line::from).collect();
    session.output.report(&value, |out| {
        for item in &listed {
            let path = plain(&item.path);
            let (kind, bytes, mark) = match &item.node {
                Node::Dir { .. } => ("folder", String::new(), "/".to_owned()),
                Node::File {
                    size: n,
                    executable: true,
                    ..
                } => ("program", size(*n), String::new()),
                Node::File { size: n, .. } => ("file", size(*n), String::new()),
                Node::Link { target } => ("link", String::new(), format!(" → {}", plain(target))),
            };
            if long {
                let id = match &item.node {
                    Node::File { id, .. } => id.to_string(),
                    Node::Dir { id } => id.to_string(),
                    Node::Link { .. } => String::new(),
                };
                writeln!(
                    out,
                    "{kind:<7} {bytes:>9}  {}  {path}{mark}",
                    styled(DIM, id)
                )?;
            } else {
                writeln!(out, "{path}{mark}")?;
            }
        }
        Ok(())
    })
}

/// Compares two targets.
pub(crate) fn diff(session: &Session, old: &Target, new: &Target) -> Result<(), Failure> {
    let differences = session.open_to_look()?.diff(old, new)?;
    session
        .output
        .report(&differences, |out| print_differences(out, &differences))
}

/// Prints differences, one a line.
pub(crate) fn print_differences(out: &mut dyn Write, list: &[Difference]) -> io::Result<()> {
    for difference in list {
        match difference {
            Difference::Added { path, size: n } => {
                writeln!(
                    out,
                    "{} {}  {}",
                    styled(GOOD, "+"),
                    plain(path),
                    styled(DIM, size(*n))
                )?;
            }
            Difference::Removed { path, size: n } => {
                writeln!(
                    out,
                    "{} {}  {}",
                    styled(BAD, "-"),
                    plain(path),
                    styled(DIM, size(*n))
                )?;
            }
            Difference::Changed {
                path,
                old_size,
                new_size,
            } => {
                let sizes = format!("{} → {}", size(*old_size), size(*new_size));
                writeln!(out, "* {}  {}", plain(path), styled(DIM, sizes))?;
            }
        }
    }
    Ok(())
}
