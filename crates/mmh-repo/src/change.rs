//! Changes of a branch that come whole from elsewhere: files that lie in a folder, removals and
//! copies, on top of a state that is named or of any.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use mmh_core::name::{RefName, RepoName, check_path};
use mmh_core::object::{Operation, RefChange, Snapshot};
use mmh_core::tree::Node;
use mmh_core::{SnapshotId, limits};
use mmh_store::Commit;

use crate::add::{AddReport, Addition, edits, report};
use crate::edit::Edit;
use crate::error::{Error, Result};
use crate::objects;
use crate::refs::Resolved;
use crate::repository::Repository;
use crate::walk::{WalkOptions, walk};

/// What a change is put on top of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Onto {
    /// Whatever the branch holds when it is this change's turn.
    #[default]
    Any,
    /// This snapshot, and no other.
    Exactly(SnapshotId),
    /// Nothing: the branch is new, and so is the name, which has no ref yet.
    Nothing,
    /// Nothing: the branch is new; the name may have others.
    NoBranch,
}

/// A change of a branch.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// A folder whose files are put where they lie in it; its links are left out.
    pub folder: Option<PathBuf>,
    /// What is put as it is, by path: copies of what the repository has.
    pub placed: BTreeMap<String, Node>,
    /// Files and folders that are taken away; each must be there.
    pub removed: BTreeSet<String>,
    /// What it is put on top of.
    pub onto: Onto,
    /// Why.
    pub message: String,
    /// Who; the repository's author if nobody is named.
    pub author: Option<String>,
}

impl Repository {
    /// Changes a branch: what is in the folder goes the way of [`Repository::add`], so that a new
    /// version is kept as differences from the old one, or from the base that a model card names.
    ///
    /// # Errors
    /// `Conflict` if the branch is not where the change says; `NotFound` for a branch that is not
    /// there, and for what is to be removed and is not; `Invalid` for paths that cannot be.
    pub fn change(&self, branch: &RefName, change: &Change) -> Result<AddReport> {
        let paths = change.placed.keys().chain(&change.removed);
        for path in paths {
            check_path(path)?;
        }
        check_text(&change.message)?;
        let (mut found, skipped) = match &change.folder {
            Some(folder) => walk(std::slice::from_ref(folder), WalkOptions::default())?,
            None => (Vec::new(), Vec::new()),
        };
        found.retain(|f| f.is_file());
        for f in &found {
            check_path(&f.name)?;
        }
        self.again_if_collected(|| {
            let store = self.store()?;
            let writer = self.block_on(store.writer(self.runtime()))?;
            let bases = self.bases(&found, branch, None, None)?;
            let files = self.shop.ingest(&writer, &found, &bases)?;
            let all = || {
                let placed = change.placed.iter();
                let placed = placed.map(|(path, node)| (path.into(), Edit::Put(node.clone())));
                let removed = change.removed.iter();
                let removed = removed.map(|path| (path.into(), Edit::Remove));
                let read = edits(&found, &files, None);
                read.chain(placed).chain(removed).collect()
            };
            let addition = Addition {
                branch,
                edits: &all,
                replace: false,
                message: &change.message,
                onto: Some(change.onto),
                author: change.author.as_deref(),
            };
            let (id, changed) = self.publish(writer, &addition)?;
            let mut report = report(branch, (&found, files), skipped.clone());
            report.snapshot = id.to_string();
            report.changed = changed;
            Ok(report)
        })
    }

    /// Puts a snapshot with the branch's tree and without parents in the place of its history.
    ///
    /// # Errors
    /// `NotFound` without such a branch; `Conflict` if it moved meanwhile.
    pub fn squash(&self, branch: &RefName, message: &str, author: Option<&str>) -> Result<()> {
        check_text(message)?;
        self.again_if_collected(|| {
            let old = self.refs()?.refs.get(branch).copied();
            let old = old.ok_or_else(|| Error::not_found("branch", &branch.to_string()))?;
            let tree = objects::snapshot(self.source(), old)?.tree;
            let writer = self.block_on(self.store()?.writer(self.runtime()))?;
            let id = self
                .shop
                .write_snapshot(&writer, tree, Vec::new(), (message, author))?;
            let change = RefChange {
                r#ref: branch.clone(),
                old: Some(old),
                new: Some(id),
            };
            writer.commit(self.commit(vec![change], &format!("squash {branch}")))?;
            Ok(writer.finish()?)
        })
    }

    /// Gives a name's branches, tags, signatures and notes to another name, which has none.
    ///
    /// # Errors
    /// `NotFound` without the name; `Conflict` if the other is taken.
    pub fn rename(&self, from: &RepoName, to: &RepoName) -> Result<Operation> {
        self.again_if_collected(|| {
            let refs = self.refs()?;
            if refs.refs.keys().any(|name| name.repo == *to) {
                return Err(Error::Conflict(format!("`{to}` exists already")));
            }
            let mut changes = Vec::new();
            for (name, id) in refs.refs.iter().filter(|(name, _)| name.repo == *from) {
                let change = |r#ref: RefName, old, new| RefChange { r#ref, old, new };
                changes.push(change(name.in_repo(to), None, Some(*id)));
                changes.push(change(name.clone(), Some(*id), None));
            }
            if changes.is_empty() {
                return Err(Error::not_found("name", from.as_str()));
            }
            let command = format!("mv {} {}", from.short(), to.short());
            let commit = Commit {
                since: Some(refs.seq),
                ..self.commit(changes, &command)
            };
            Ok(self.block_on(self.store()?.commit(commit))?)
        })
    }

    /// What a snapshot says of itself, whoever signed it.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    pub fn snapshot(&self, id: SnapshotId) -> Result<Snapshot> {
        objects::snapshot(self.source(), id)
    }

    /// What a snapshot of a name's history holds; that it is one, the caller knows.
    ///
    /// # Errors
    /// `NotFound` if its files were given up; `Denied` if the policy of trust demands signatures
    /// that it does not have.
    pub fn resolve_known(&self, repo: &RepoName, id: SnapshotId) -> Result<Resolved> {
        let refs = self.refs()?;
        let snapshot = self.snapshot(id)?;
        if self.is_pruned(&id)? {
            return Err(Error::Pruned { snapshot: id });
        }
        self.vet(&refs, repo, id)?;
        Ok(Resolved {
            id,
            snapshot,
            by: None,
        })
    }

    /// The tips of a name: what its branches and tags name.
    ///
    /// # Errors
    /// Those of [`Repository::refs`].
    pub fn tips(&self, repo: &RepoName) -> Result<BTreeSet<SnapshotId>> {
        let refs = self.refs()?;
        let of_name =
            |(name, _): &(&RefName, &SnapshotId)| name.repo == *repo && name.is_by_people();
        Ok(refs
            .refs
            .iter()
            .filter(of_name)
            .map(|(_, id)| *id)
            .collect())
    }
}

/// Refuses messages that snapshots cannot hold.
fn check_text(message: &str) -> Result<()> {
    if message.len() <= limits::MESSAGE_LEN_MAX {
        return Ok(());
    }
    let most = limits::MESSAGE_LEN_MAX;
    Err(Error::Invalid(format!(
        "the message is longer than {most} bytes"
    )))
}
