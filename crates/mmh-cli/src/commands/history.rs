//! `ls` without a name, `log`, `show`, `branch`, `tag`, `rm` and `undo`.

use std::io::{self, Write};

use mmh_core::ByteRange;
use mmh_core::name::{RefName, Target};
use mmh_core::object::Snapshot;
use mmh_core::tree::Node;
use mmh_core::{FileId, SnapshotId};
use mmh_repo::Repository;
use mmh_repo::list::Difference;
use mmh_repo::refs::SnapshotReport;
use serde_json::{Value, json};

use super::files::print_differences;
use crate::args::RefArgs;
use crate::failure::Failure;
use crate::output::{DIM, GOOD, HEAD, ID, plain, size, styled, table, time};
use crate::session::Session;

/// The beginning of a snapshot's digest, enough to name it.
fn short(id: &SnapshotId) -> String {
    id.digest().to_string().chars().take(12).collect()
}

/// Lists the names of the repository.
pub(crate) fn names(session: &Session, long: bool) -> Result<(), Failure> {
    let names = session.open()?.names()?;
    session.output.report(&names, |out| {
        for info in &names {
            let name = info.name.strip_prefix("models/").unwrap_or(&info.name);
            if long {
                let list = |map: &std::collections::BTreeMap<String, String>| {
                    map.keys().cloned().collect::<Vec<_>>().join(", ")
                };
                let tags = match info.tags.len() {
                    0 => String::new(),
                    _ => format!("; tags: {}", list(&info.tags)),
                };
                let side = format!("branches: {}{tags}", list(&info.branches));
                writeln!(out, "{name}  {}", styled(DIM, side))?;
            } else {
                writeln!(out, "{name}")?;
            }
        }
        if names.is_empty() {
            writeln!(
                out,
                "nothing here yet; `mmh add PATH --to NAME` adds something"
            )?;
        }
        Ok(())
    })
}

fn print_snapshot(out: &mut dyn Write, id: &SnapshotId, s: &Snapshot) -> io::Result<()> {
    writeln!(
        out,
        "{}  {}  {}",
        styled(ID, short(id)),
        time(s.time_ms),
        styled(DIM, plain(&s.author))
    )?;
    s.message
        .lines()
        .try_for_each(|line| writeln!(out, "    {}", plain(line)))
}

/// The history of a target.
pub(crate) fn log(session: &Session, target: &Target, count: Option<usize>) -> Result<(), Failure> {
    let repo = session.open()?;
    let history = repo.log(target)?.take(count.unwrap_or(usize::MAX));
    let entries = history.collect::<mmh_repo::Result<Vec<_>>>()?;
    let value = entries.iter().map(|(id, s)| SnapshotReport::of(id, s));
    let value: Vec<SnapshotReport> = value.collect();
    session.output.report(&value, |out| {
        entries
            .iter()
            .try_for_each(|(id, snapshot)| print_snapshot(out, id, snapshot))
    })
}

/// The operation log.
pub(crate) fn operations(session: &Session, count: Option<usize>) -> Result<(), Failure> {
    let operations = session.open()?.operations(count.unwrap_or(usize::MAX))?;
    let value: Vec<Value> = operations
        .iter()
        .map(|op| {
            let changes: Vec<Value> = op
                .changes
                .iter()
                .map(|c| {
                    let id = |id: &Option<SnapshotId>| id.map(|id| id.to_string());
                    json!({ "ref": c.r#ref.to_string(), "old": id(&c.old), "new": id(&c.new) })
                })
                .collect();
            json!({
                "seq": op.seq, "time_ms": op.time_ms, "author": op.author,
                "command": op.command, "undoes": op.undoes, "changes": changes,
                "collected": op.collected.as_ref().map(|c| json!({
                    "floor": c.floor,
                    "packs": c.packs.iter().map(|pack| pack.digest().to_string()).collect::<Vec<_>>(),
                })),
            })
        })
        .collect();
    session.output.report(&value, |out| {
        for op in &operations {
            let seq = styled(ID, format!("{:>6}", op.seq));
            writeln!(
                out,
                "{seq}  {}  {}  {}",
                time(op.time_ms),
                plain(&op.command),
                styled(DIM, plain(&op.author))
            )?;
        }
        Ok(())
    })
}

/// A snapshot with its changes, or a file with its tensors.
pub(crate) fn show(session: &Session, target: &Target) -> Result<(), Failure> {
    let repo = session.open_to_look()?;
    if target.path.is_some() {
        return match repo.node(target)? {
            Node::File { id, .. } => show_file(session, &repo, id),
            Node::Dir { .. } => super::files::ls(session, target, true, false),
            Node::Link { target: to } => session.output.report(&json!({ "link": to }), |out| {
                writeln!(out, "link to {}", plain(&to))
            }),
        };
    }
    let tip = repo.find(target)?;
    let at = |id: &SnapshotId| Target {
        repo: target.repo.clone(),
        rev: Some(id.to_string()),
        path: None,
    };
    let parent = tip.snapshot.parents.first();
    let pruned = parent.map_or(Ok(false), |parent| repo.is_pruned(parent))?;
    let changes = match parent {
        Some(_) if pruned => Vec::new(),
        Some(parent) => repo.diff(&at(parent), &at(&tip.id))?,
        None => {
            let all = repo.list(&at(&tip.id), true)?;
            let added = |l: mmh_repo::list::Listed| match l.node {
                Node::File { size, .. } => Some(Difference::Added { path: l.path, size }),
                _ => None,
            };
            all.into_iter().filter_map(added).collect()
        }
    };
    let mut value = json!(SnapshotReport::of(&tip.id, &tip.snapshot));
    value["changes"] = json!(changes);
    session.output.report(&value, |out| {
        print_snapshot(out, &tip.id, &tip.snapshot)?;
        writeln!(out, "    {}", styled(DIM, format!("snapshot {}", tip.id)))?;
        if pruned {
            let why = "what it changed is not known: the files before it were given up";
            writeln!(out, "    {}", styled(DIM, why))?;
        }
        print_differences(out, &changes)
    })
}

fn show_file(session: &Session, repo: &Repository, id: FileId) -> Result<(), Failure> {
    let reader = repo.open_file(id)?;
    let file = reader.file();
    let mut tensors = Vec::new();
    reader.for_each_segment(ByteRange::all(file.size), &mut |offset, segment| {
        for span in segment.tensors.iter().filter(|span| span.skip == 0) {
            tensors.push((offset + span.start, span.info.clone()));
        }
        Ok(())
    })?;
    let listed: Vec<Value> = tensors
        .iter()
        .map(|(at, t)| json!({ "name": t.name, "dtype": t.dtype, "shape": t.shape, "offset": at }))
        .collect();
    let value = json!({
        "id": id.to_string(), "size": file.size, "container": file.container, "note": file.note,
        "blake3": file.blake3.map(|d| d.to_string()), "sha256": file.sha256.map(|d| d.to_string()),
        "tensors": listed,
    });
    session.output.report(&value, |out| {
        writeln!(
            out,
            "{} {}, {} tensors",
            styled(HEAD, plain(&file.container)),
            size(file.size),
            tensors.len()
        )?;
        writeln!(out, "{}", styled(DIM, format!("file   {id}")))?;
        for (what, digest) in [("blake3", file.blake3), ("sha256", file.sha256)] {
            if let Some(digest) = digest {
                writeln!(out, "{}", styled(DIM, format!("{what} {digest}")))?;
            }
        }
        if let Some(note) = &file.note {
            writeln!(out, "kept as bytes: {}", plain(note))?;
        }
        if tensors.is_empty() {
            return Ok(());
        }
        let row = |(at, t): &(u64, mmh_core::TensorInfo)| {
            vec![
                t.name.clone(),
                t.dtype.to_string(),
                format!("{:?}", t.shape),
                at.to_string(),
            ]
        };
        let rows: Vec<_> = tensors.iter().map(row).collect();
        table(out, &["tensor", "dtype", "shape", "offset"], &[3], &rows)
    })
}

/// Lists, creates or deletes branches.
pub(crate) fn branch(session: &Session, args: RefArgs) -> Result<(), Failure> {
    change_ref(session, args, true)
}

/// Lists, creates or deletes tags.
pub(crate) fn tag(session: &Session, args: RefArgs) -> Result<(), Failure> {
    change_ref(session, args, false)
}

fn change_ref(session: &Session, args: RefArgs, is_branch: bool) -> Result<(), Failure> {
    let repo = session.open()?;
    let target = args.target;
    let Some(new) = args.new else {
        return list_refs(session, &repo, &target, is_branch);
    };
    let make = if is_branch {
        RefName::branch
    } else {
        RefName::tag
    };
    let name = make(target.repo.clone(), &new)?;
    if args.delete {
        repo.remove_ref(name.clone())?;
        return session
            .output
            .report(&json!({ "deleted": name.to_string() }), |out| {
                writeln!(
                    out,
                    "{} {name}; `mmh undo` brings it back",
                    styled(GOOD, "deleted")
                )
            });
    }
    let id = if is_branch {
        repo.create_branch(&target, &new)?
    } else {
        repo.create_tag(&target, &new)?
    };
    let value = json!({ "created": name.to_string(), "snapshot": id.to_string() });
    session.output.report(&value, |out| {
        writeln!(
            out,
            "{} {name} at {}",
            styled(GOOD, "created"),
            styled(ID, short(&id))
        )
    })
}

fn list_refs(
    session: &Session,
    repo: &Repository,
    target: &Target,
    is_branch: bool,
) -> Result<(), Failure> {
    let names = repo.names()?;
    let info = names
        .into_iter()
        .find(|info| info.name == target.repo.as_str());
    let Some(info) = info else {
        repo.find(target)?;
        return Ok(());
    };
    let list = if is_branch { info.branches } else { info.tags };
    session.output.report(&list, |out| {
        list.iter()
            .try_for_each(|(name, id)| writeln!(out, "{name}  {}", styled(DIM, id)))
    })
}

/// Removes a path, a ref or a name.
pub(crate) fn rm(session: &Session, target: &Target) -> Result<(), Failure> {
    let operation = session.open()?.remove(target)?;
    session
        .output
        .report(&json!({ "operation": operation.seq }), |out| {
            writeln!(
                out,
                "{} {target}; `mmh undo` brings it back",
                styled(GOOD, "removed")
            )
        })
}

/// Takes back an operation, the last one if none is given.
pub(crate) fn undo(session: &Session, number: Option<u64>) -> Result<(), Failure> {
    let repo = session.open()?;
    let operation = match number {
        Some(number) => repo.undo_operation(number)?,
        None => repo.undo()?,
    };
    let value = json!({ "operation": operation.seq, "undoes": operation.undoes });
    session.output.report(&value, |out| {
        let what = operation.command.trim_start_matches("undo ");
        writeln!(
            out,
            "{} operation {}",
            styled(GOOD, "took back"),
            plain(what)
        )
    })
}
