//! Committing a folder in which most files are known: they are named, not read.

use std::path::Path;
use std::sync::Arc;

use mmh_core::name::{DEFAULT_BRANCH, RefKind, RefName, Target};
use mmh_core::object::RefChange;
use mmh_core::tree::Node;
use mmh_core::{FileId, SnapshotId};
use serde::Serialize;

use crate::add::{check_paths, edits};
use crate::edit::Edit;
use crate::error::{Error, Result};
use crate::list::Listed;
use crate::objects;
use crate::repository::Repository;
use crate::walk::{Found, Kind, WalkOptions, walk};

/// A file whose content the repository has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownFile {
    /// Its id.
    pub id: FileId,
    /// Its length in bytes.
    pub size: u64,
}

/// Says of a file of a folder which one of the repository it is, if that is known.
pub type Known<'a> = &'a dyn Fn(&Path) -> Result<Option<KnownFile>>;

/// What a commit did.
#[derive(Debug, Clone, Serialize)]
pub struct CommitReport {
    /// The branch.
    pub name: String,
    /// The snapshot that it names now.
    pub snapshot: String,
    /// Whether there was anything new; if not, no snapshot was made.
    pub changed: bool,
    /// Files that were read.
    pub read: u64,
    /// Files that were known.
    pub known: u64,
    /// What was left out, and why.
    pub skipped: Vec<String>,
    /// Bytes of the files that were read.
    pub raw: u64,
    /// Of them, what the repository did not have before.
    pub new_raw: u64,
    /// What that takes in the repository.
    pub new_stored: u64,
}

impl Repository {
    /// What a branch names; nothing if there is no such branch.
    ///
    /// # Errors
    /// `Invalid` if that is a tag; `Denied` if it is not signed as it must be.
    pub fn head_of(&self, branch: &Target) -> Result<Option<SnapshotId>> {
        let rev = branch.rev.as_deref().unwrap_or(DEFAULT_BRANCH);
        let refs = self.refs()?;
        let name = RefName::branch(branch.repo.clone(), rev)?;
        if refs.refs.contains_key(&name) {
            return Ok(Some(self.resolve(branch)?.id));
        }
        match refs
            .refs
            .contains_key(&RefName::tag(branch.repo.clone(), rev)?)
        {
            true => Err(Error::Invalid(format!(
                "`{branch}` is a tag, so it cannot be changed"
            ))),
            false => Ok(None),
        }
    }

    /// When a snapshot was made, in milliseconds since 1970-01-01 UTC.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    pub fn time_of(&self, snapshot: SnapshotId) -> Result<u64> {
        Ok(objects::snapshot(self.source(), snapshot)?.time_ms)
    }

    /// All paths of a snapshot, each folder before what is in it.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    pub fn list_snapshot(&self, snapshot: SnapshotId) -> Result<Vec<Listed>> {
        let tree = objects::snapshot(self.source(), snapshot)?.tree;
        let mut all = Vec::new();
        self.list_below(tree, "", true, &mut all)?;
        Ok(all)
    }

    /// Makes what is in a folder the new head of a branch that still names `base`. What `known` knows
    /// is not read; it must be part of `base`.
    ///
    /// # Errors
    /// `Conflict` if the branch names something else now, or a file changes while it is read; those
    /// of [`Self::add`].
    pub fn commit_folder(
        &self,
        (folder, known): (&Path, Known<'_>),
        to: &Target,
        base: Option<SnapshotId>,
        message: Option<String>,
    ) -> Result<CommitReport> {
        let rev = to.rev.as_deref().unwrap_or(DEFAULT_BRANCH);
        let branch = RefName::branch(to.repo.clone(), rev)?;
        let moved = |now: Option<SnapshotId>| {
            let now = now.map_or_else(|| "nothing".to_owned(), |id| id.to_string());
            Error::Conflict(format!(
                "`{branch}` names {now} now, not what this folder began with: copy your changes away, \
                 and make it anew from there"
            ))
        };
        let head = self.refs()?.refs.get(&branch).copied();
        if head != base {
            return Err(moved(head));
        }
        let (found, skipped) = walk(&[folder.to_owned()], WalkOptions::default())?;
        check_paths(&found, None)?;
        let (read, kept) = split(found, known)?;
        self.again_if_collected(|| {
            let writer =
                self.block_on(self.store()?.writer(self.shop.components.runtime.clone()))?;
            let bases = self.bases(&read, &branch, None, None)?;
            let files = self.shop.ingest(&writer, &read, &bases)?;
            let kept_too = kept.iter();
            let kept_too = kept_too.map(|(name, edit)| (name.as_ref().into(), edit.clone()));
            let all = edits(&read, &files, None).chain(kept_too);
            let tree = self.edit_tree(&writer, None, &all.collect())?;
            let before = base
                .map(|id| objects::snapshot(self.source(), id))
                .transpose()?;
            let sum = |of: fn(&crate::ingest::Ingested) -> u64| files.iter().map(of).sum();
            let mut report = CommitReport {
                name: branch.to_string(),
                snapshot: String::new(),
                changed: before.is_none_or(|before| before.tree != tree),
                read: files.len() as u64,
                known: kept.len() as u64,
                skipped: skipped.clone(),
                raw: sum(|f| f.size),
                new_raw: sum(|f| f.new_raw),
                new_stored: sum(|f| f.new_stored),
            };
            if let (false, Some(base)) = (report.changed, base) {
                report.snapshot = base.to_string();
                writer.finish()?;
                return Ok(report);
            }
            let message = message.clone().unwrap_or_else(|| "Change files".to_owned());
            let parents = base.into_iter().collect();
            let id = self
                .shop
                .write_snapshot(&writer, tree, parents, (&message, None))?;
            let change = RefChange {
                r#ref: branch.clone(),
                old: base,
                new: Some(id),
            };
            debug_assert_eq!(branch.kind, RefKind::Branch);
            let command = format!("commit {}", branch.repo.short());
            match writer.commit(self.commit(vec![change], &command)) {
                Ok(_) => writer.finish()?,
                Err(mmh_store::Error::RefConflict { actual, .. }) => return Err(moved(actual)),
                Err(error) => return Err(error.into()),
            }
            report.snapshot = id.to_string();
            Ok(report)
        })
    }
}

/// A file that is put as it is known.
type Kept = (Arc<str>, Edit);

/// What is to be read, and what is put as it is known.
fn split(found: Vec<Found>, known: Known<'_>) -> Result<(Vec<Found>, Vec<Kept>)> {
    let (mut read, mut kept) = (Vec::new(), Vec::new());
    for item in found {
        let of_file = match item.kind {
            Kind::File { executable, .. } => known(&item.path())?.map(|file| (file, executable)),
            _ => None,
        };
        match of_file {
            Some((KnownFile { id, size }, executable)) => {
                let node = Node::File {
                    id,
                    size,
                    executable,
                };
                kept.push((item.name, Edit::Put(node)));
            }
            None => read.push(item),
        }
    }
    Ok((read, kept))
}
