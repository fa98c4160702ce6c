//! A repository as `mmh.Repository` uses it: plain values in, JSON and bytes out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use mmh_core::ErrorKind;
use mmh_core::FileId;
use mmh_core::name::{DEFAULT_BRANCH, RefName, Target};
use mmh_core::tree::Node;
use mmh_repo::list::Listed;
use mmh_repo::refs::SnapshotReport;
use mmh_repo::{AddOptions, Change, ChunkCache, Content, ExportOptions, Onto, SyncOptions};
use mmh_user::Remotes;
use pyo3::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};

use crate::failure::{Failure, Result};
use crate::file::File;
use crate::opening::{self, KeyTexts, Opened, Options, parse};

/// Opens a repository.
#[pyfunction(name = "open")]
pub(crate) fn open(py: Python<'_>, options: Options) -> Result<Repository> {
    Ok(Repository::new(opening::open(py, options)?))
}

/// Makes a repository: sealed for these recipients and the passphrase of the options, if any.
#[pyfunction(name = "init")]
pub(crate) fn init(
    py: Python<'_>,
    options: Options,
    sealed_for: Vec<String>,
) -> Result<Repository> {
    Ok(Repository::new(opening::init(py, options, &sealed_for)?))
}

/// A repository that is open.
#[pyclass(frozen, module = "mmh._native")]
#[derive(Debug)]
pub(crate) struct Repository {
    opened: Arc<Opened>,
    chunks: Arc<ChunkCache>,
}

/// What is added, and how.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Adding {
    paths: Vec<PathBuf>,
    to: String,
    message: Option<String>,
    replace: bool,
    follow: bool,
    base: Option<String>,
}

/// What is restored, and how.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Getting {
    target: String,
    dest: PathBuf,
    overwrite: bool,
    unsafe_links: bool,
}

/// What is sent to, or fetched from, where.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Sending {
    push: bool,
    remote: Option<String>,
    names: Vec<String>,
    force: bool,
    prune: bool,
    dry_run: bool,
    keys: KeyTexts,
}

/// A change of a branch.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Changing {
    folder: Option<PathBuf>,
    /// Paths, and targets whose files or folders they become.
    placed: BTreeMap<String, String>,
    removed: BTreeSet<String>,
    message: String,
    /// The snapshot that it must be put on, if any.
    parent: Option<String>,
}

impl Repository {
    fn new(opened: Opened) -> Self {
        Self {
            chunks: Arc::new(ChunkCache::new(opened.memory)),
            opened: Arc::new(opened),
        }
    }

    /// Does work that Ctrl-C stops.
    fn run<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mmh_repo::Repository) -> Result<T> + Send,
    ) -> Result<T> {
        self.told(py, None, work)
    }

    /// The same, and somebody is told how far it is.
    fn told<T: Send>(
        &self,
        py: Python<'_>,
        told: Option<&Bound<'_, PyAny>>,
        work: impl FnOnce(&mmh_repo::Repository) -> Result<T> + Send,
    ) -> Result<T> {
        let repository = &self.opened.repository;
        self.opened.machine.run(py, told, || work(repository))
    }
}

#[pymethods]
impl Repository {
    /// Where it is.
    #[getter]
    fn place(&self) -> &str {
        &self.opened.place
    }

    /// What it is and how much it holds.
    fn facts(&self, py: Python<'_>) -> Result<String> {
        self.run(py, |repo| text(&repo.facts()?))
    }

    /// Names with their branches and tags.
    fn names(&self, py: Python<'_>) -> Result<String> {
        self.run(py, |repo| text(&repo.names()?))
    }

    /// Snapshots from a target backwards.
    fn log(&self, py: Python<'_>, target: &str, count: Option<usize>) -> Result<String> {
        let target: Target = parse(target)?;
        self.run(py, |repo| {
            let history = repo.log(&target)?.take(count.unwrap_or(usize::MAX));
            let rows =
                history.map(|entry| entry.map(|(id, snapshot)| SnapshotReport::of(&id, &snapshot)));
            text(&rows.collect::<mmh_repo::Result<Vec<_>>>()?)
        })
    }

    /// The snapshot that a target names, if what is in it may be read.
    fn resolve(&self, py: Python<'_>, target: &str) -> Result<String> {
        let target: Target = parse(target)?;
        self.run(py, |repo| {
            let found = repo.resolve(&target)?;
            text(&SnapshotReport::of(&found.id, &found.snapshot))
        })
    }

    /// What a target's path is.
    fn node(&self, py: Python<'_>, target: &str) -> Result<String> {
        let target: Target = parse(target)?;
        self.run(py, |repo| {
            let path = target.path.as_deref().unwrap_or_default();
            text(&node_json(path, &repo.node(&target)?))
        })
    }

    /// What a target holds.
    fn list(&self, py: Python<'_>, target: &str, recursive: bool) -> Result<String> {
        let target: Target = parse(target)?;
        self.run(py, |repo| {
            let listed = repo.list(&target, recursive)?;
            let row = |Listed { path, node }: &Listed| node_json(path, node);
            text(&listed.iter().map(row).collect::<Vec<_>>())
        })
    }

    /// Where the bytes of targets are.
    fn stat(&self, py: Python<'_>, targets: Vec<String>) -> Result<String> {
        let targets = targets
            .iter()
            .map(|t| parse(t))
            .collect::<Result<Vec<_>>>()?;
        self.run(py, |repo| text(&repo.stat(&targets, true)?))
    }

    /// Opens the file that a target names.
    fn file(&self, py: Python<'_>, target: &str) -> Result<File> {
        let target: Target = parse(target)?;
        let content = self.run(py, |repo| {
            let id = file_id(repo, &target)?;
            Ok(Content::open(
                &self.opened.repository,
                id,
                &self.chunks,
                None,
            )?)
        })?;
        Ok(File::stored(content, Arc::clone(&self.opened)))
    }

    /// Adds files and folders.
    fn add(
        &self,
        py: Python<'_>,
        adding: Adding,
        told: Option<&Bound<'_, PyAny>>,
    ) -> Result<String> {
        let to: Target = parse(&adding.to)?;
        let base = adding.base.as_deref().map(parse).transpose()?;
        let options = AddOptions {
            message: adding.message,
            replace: adding.replace,
            follow: adding.follow,
            base,
        };
        let paths = adding.paths;
        self.told(py, told, |repo| text(&repo.add(&paths, &to, &options)?))
    }

    /// Restores what a target names.
    fn get(
        &self,
        py: Python<'_>,
        getting: Getting,
        told: Option<&Bound<'_, PyAny>>,
    ) -> Result<String> {
        let target: Target = parse(&getting.target)?;
        let dest = getting.dest;
        let options = ExportOptions {
            overwrite: getting.overwrite,
            unsafe_links: getting.unsafe_links,
        };
        self.told(py, told, |repo| {
            let path = target.path.as_deref().unwrap_or_default();
            let name = path.rsplit('/').next().unwrap_or_default();
            let node = repo.node(&target)?;
            text(&repo.export(&node, name, &dest, options)?)
        })
    }

    /// Sends names to another repository, or fetches them from there.
    fn send(
        &self,
        py: Python<'_>,
        sending: Sending,
        told: Option<&Bound<'_, PyAny>>,
    ) -> Result<String> {
        let names = sending.names.iter().map(|t| parse(t));
        let names = names.collect::<Result<Vec<_>>>()?;
        let keys = sending.keys.into();
        self.told(py, told, |this| {
            let remotes = Remotes::of(&self.opened.place, &self.opened.variables)?;
            let place = remotes.place(sending.remote.as_deref())?;
            let other = self.opened.other(&place, keys)?;
            let (from, to, command) = match sending.push {
                true => (this, &other, "push".to_owned()),
                false => (&other, this, format!("pull {}", plain(&place))),
            };
            let options = SyncOptions {
                names,
                force: sending.force,
                prune: sending.prune,
                dry_run: sending.dry_run,
                command,
                ..SyncOptions::default()
            };
            let report = from.send(to, &options)?;
            let complete = report.is_complete();
            text(&json!({ "place": place, "complete": complete, "report": report }))
        })
    }

    /// Changes a branch: one commit.
    fn change(
        &self,
        py: Python<'_>,
        branch: &str,
        changing: Changing,
        told: Option<&Bound<'_, PyAny>>,
    ) -> Result<String> {
        let target: Target = parse(branch)?;
        let rev = target.rev.as_deref().unwrap_or(DEFAULT_BRANCH);
        let branch = RefName::branch(target.repo.clone(), rev)?;
        let tag = RefName::tag(target.repo.clone(), rev)?;
        let onto = match &changing.parent {
            Some(id) => Onto::Exactly(parse(id)?),
            None => Onto::Any,
        };
        self.told(py, told, |repo| {
            let refs = repo.refs()?;
            if refs.refs.contains_key(&tag) {
                let what = format!("`{target}` is a tag, so it cannot be changed");
                return Err(Failure::invalid(what));
            }
            // A branch that is not there yet begins with what is put on it.
            let onto = match (onto, refs.refs.contains_key(&branch)) {
                (Onto::Any, false) => Onto::Nothing,
                (onto, _) => onto,
            };
            let mut change = Change {
                folder: changing.folder,
                removed: changing.removed,
                onto,
                message: changing.message,
                ..Change::default()
            };
            for (path, from) in changing.placed {
                change.placed.insert(path, repo.node(&parse(&from)?)?);
            }
            text(&repo.change(&branch, &change)?)
        })
    }

    /// Makes a branch, or a tag.
    fn mark(&self, py: Python<'_>, at: &str, name: &str, is_tag: bool) -> Result<String> {
        let at: Target = parse(at)?;
        self.run(py, |repo| {
            let id = match is_tag {
                true => repo.create_tag(&at, name)?,
                false => repo.create_branch(&at, name)?,
            };
            Ok(id.to_string())
        })
    }

    /// Removes what a target names.
    fn remove(&self, py: Python<'_>, target: &str) -> Result<()> {
        let target: Target = parse(target)?;
        self.run(py, |repo| Ok(repo.remove(&target).map(drop)?))
    }

    /// Takes back the newest operation, or that of a number; says what it was.
    fn undo(&self, py: Python<'_>, number: Option<u64>) -> Result<String> {
        self.run(py, |repo| {
            let undone = match number {
                Some(number) => repo.undo_operation(number)?,
                None => repo.undo()?,
            };
            Ok(undone.command)
        })
    }

    /// Compares every chunk with its digest, or those that targets reach.
    fn verify(
        &self,
        py: Python<'_>,
        targets: Vec<String>,
        told: Option<&Bound<'_, PyAny>>,
    ) -> Result<String> {
        let targets = targets
            .iter()
            .map(|t| parse(t))
            .collect::<Result<Vec<_>>>()?;
        self.told(py, told, |repo| {
            text(&match targets.is_empty() {
                true => repo.check_all()?,
                false => repo.check_targets(&targets)?,
            })
        })
    }
}

/// A value as JSON, in the shape that `mmh --json` gives it.
fn text(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|e| Failure::Other(ErrorKind::Internal, format!("no JSON: {e}")))
}

/// A place without characters that move a terminal's cursor.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn file_id(repo: &mmh_repo::Repository, target: &Target) -> Result<FileId> {
    match repo.node(target)? {
        Node::File { id, .. } => Ok(id),
        Node::Dir { .. } => Err(Failure::invalid(format!(
            "`{target}` is a folder; name a file in it"
        ))),
        Node::Link { target: to } => {
            let to = mmh_core::error::shorten(&to);
            Err(Failure::invalid(format!(
                "`{target}` is a link to `{to}`; name that"
            )))
        }
    }
}

fn node_json(path: &str, node: &Node) -> Value {
    match node {
        Node::File {
            id,
            size,
            executable,
        } => json!({
            "path": path, "type": "file", "size": size, "executable": executable,
            "id": id.to_string(),
        }),
        Node::Dir { id } => json!({ "path": path, "type": "directory", "id": id.to_string() }),
        Node::Link { target } => json!({ "path": path, "type": "link", "target": target }),
    }
}
