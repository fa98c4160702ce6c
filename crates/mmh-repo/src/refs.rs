//! Names and history: resolve, list, branch, tag, remove, undo, log.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use mmh_core::SnapshotId;
use mmh_core::name::{DEFAULT_BRANCH, RefKind, RefName, RepoName, Target, check_rev};
use mmh_core::object::{Operation, RefChange, Snapshot};
use mmh_core::tree::Node;
use mmh_store::{Commit, RefsView};
use serde::Serialize;

use crate::edit::{Edit, Editor, Edits};
use crate::error::{Error, Result};
use crate::objects;
use crate::repository::Repository;

/// A snapshot that a target names.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Its id.
    pub id: SnapshotId,
    /// What it says.
    pub snapshot: Snapshot,
    /// The branch or tag by which it was found; `None` if by its id.
    pub by: Option<RefName>,
}

/// A snapshot in reports.
#[derive(Debug, Clone, Serialize)]
pub struct SnapshotReport {
    /// Its id.
    pub id: String,
    /// The digest in the id.
    pub digest: String,
    /// The tree's id.
    pub tree: String,
    /// The ids of those before it.
    pub parents: Vec<String>,
    /// Who made it.
    pub author: String,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// Why.
    pub message: String,
}

impl SnapshotReport {
    /// What a snapshot says.
    #[must_use]
    pub fn of(id: &SnapshotId, snapshot: &Snapshot) -> Self {
        Self {
            id: id.to_string(),
            digest: id.digest().to_string(),
            tree: snapshot.tree.to_string(),
            parents: snapshot.parents.iter().map(ToString::to_string).collect(),
            author: snapshot.author.clone(),
            time_ms: snapshot.time_ms,
            message: snapshot.message.clone(),
        }
    }
}

/// A repository name with its branches and tags.
#[derive(Debug, Clone, Serialize)]
pub struct NameInfo {
    /// The full name.
    pub name: String,
    /// Branches and what they name.
    pub branches: BTreeMap<String, String>,
    /// Tags and what they name.
    pub tags: BTreeMap<String, String>,
}

/// Fewest hexadecimal digits by which a snapshot may be named.
const SHORT_ID_LEN_MIN: usize = 6;

impl Repository {
    /// Finds the snapshot of a target, to read what it holds.
    ///
    /// # Errors
    /// Those of [`Self::find`]; `Denied` if the policy of [`Components::trust`] demands signatures
    /// that it does not have.
    ///
    /// [`Components::trust`]: crate::Components::trust
    pub fn resolve(&self, target: &Target) -> Result<Resolved> {
        let refs = self.refs()?;
        let found = self.find_in(&refs, target)?;
        self.vet(&refs, &target.repo, found.id)?;
        Ok(found)
    }

    /// Finds the snapshot of a target, whoever signed it: its branch, else its tag, else the
    /// snapshot in the history of the name with that id (CID, or at least six hexadecimal digits of
    /// the digest). For those who deal with names and history and not with what is in files.
    ///
    /// # Errors
    /// `NotFound` for an unknown name or revision, and for a snapshot whose files were given up;
    /// `Invalid` for an ambiguous one.
    pub fn find(&self, target: &Target) -> Result<Resolved> {
        let refs = self.refs()?;
        self.find_in(&refs, target)
    }

    fn find_in(&self, refs: &RefsView, target: &Target) -> Result<Resolved> {
        let rev = target.rev.as_deref().unwrap_or(DEFAULT_BRANCH);
        for name in [
            RefName::branch(target.repo.clone(), rev)?,
            RefName::tag(target.repo.clone(), rev)?,
        ] {
            if let Some(id) = refs.refs.get(&name) {
                let snapshot = objects::snapshot(self.source(), *id)?;
                return Ok(Resolved {
                    id: *id,
                    snapshot,
                    by: Some(name),
                });
            }
        }
        let tips = tips_of(refs, &target.repo);
        if tips.is_empty() {
            return Err(Error::not_found("name", target.repo.short()));
        }
        let found = self.by_id(tips, rev)?.ok_or_else(|| {
            Error::not_found("revision", &format!("{}@{rev}", target.repo.short()))
        })?;
        if self.is_pruned(&found.id)? {
            return Err(Error::Pruned { snapshot: found.id });
        }
        Ok(found)
    }

    fn by_id(&self, tips: Vec<SnapshotId>, text: &str) -> Result<Option<Resolved>> {
        let cid = text.parse::<SnapshotId>().ok();
        let hex = text.len() >= SHORT_ID_LEN_MIN
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if cid.is_none() && !hex {
            return Ok(None);
        }
        let mut found = None;
        for entry in self.history(tips)? {
            let (id, snapshot) = entry?;
            let fits = cid == Some(id) || hex && id.digest().to_string().starts_with(text);
            if fits
                && found
                    .replace(Resolved {
                        id,
                        snapshot,
                        by: None,
                    })
                    .is_some()
            {
                return Err(Error::Invalid(format!(
                    "`{text}` names more than one snapshot"
                )));
            }
        }
        Ok(found)
    }

    /// Walks the history from `tips` backwards, newest first, each snapshot once.
    ///
    /// # Errors
    /// Those of reading the tips; the iterator yields those of reading further.
    pub fn history(&self, tips: Vec<SnapshotId>) -> Result<History<'_>> {
        let mut history = History {
            repo: self,
            seen: HashSet::new(),
            queue: BTreeMap::new(),
        };
        for tip in tips {
            history.push(tip)?;
        }
        Ok(history)
    }

    /// The history of a target, newest first.
    ///
    /// # Errors
    /// Those of [`Self::find`].
    pub fn log(&self, target: &Target) -> Result<History<'_>> {
        let tip = self.find(target)?.id;
        self.history(vec![tip])
    }

    /// The names in the repository, in order.
    ///
    /// # Errors
    /// Those of [`Self::refs`].
    pub fn names(&self) -> Result<Vec<NameInfo>> {
        let mut names: BTreeMap<String, NameInfo> = BTreeMap::new();
        for (r, id) in &self.refs()?.refs {
            let is_branch = match r.kind {
                RefKind::Branch => true,
                RefKind::Tag => false,
                RefKind::Signature | RefKind::Note => continue,
            };
            let name = r.repo.to_string();
            let info = names.entry(name.clone()).or_insert_with(|| NameInfo {
                name,
                branches: BTreeMap::new(),
                tags: BTreeMap::new(),
            });
            let map = match is_branch {
                true => &mut info.branches,
                false => &mut info.tags,
            };
            map.insert(r.rev().to_owned(), id.to_string());
        }
        Ok(names.into_values().collect())
    }

    /// Creates a branch at a target, or moves nothing: an existing branch is a conflict.
    ///
    /// # Errors
    /// `Conflict` if it exists; those of [`Self::resolve`].
    pub fn create_branch(&self, at: &Target, branch: &str) -> Result<SnapshotId> {
        let name = RefName::branch(at.repo.clone(), branch)?;
        self.create_ref(name, at, &format!("branch {} {branch}", at.repo.short()))
    }

    /// Creates a tag at a target.
    ///
    /// # Errors
    /// `Conflict` if it exists; those of [`Self::resolve`].
    pub fn create_tag(&self, at: &Target, tag: &str) -> Result<SnapshotId> {
        let name = RefName::tag(at.repo.clone(), tag)?;
        self.create_ref(name, at, &format!("tag {} {tag}", at.repo.short()))
    }

    fn create_ref(&self, name: RefName, at: &Target, command: &str) -> Result<SnapshotId> {
        check_rev(name.rev())?;
        self.again_if_collected(|| self.create_ref_once(&name, at, command))
    }

    fn create_ref_once(&self, name: &RefName, at: &Target, command: &str) -> Result<SnapshotId> {
        let refs = self.refs()?;
        let id = self.find(at)?.id;
        // One name must not mean two things: a branch would hide the tag.
        for other in [
            RefName::branch(name.repo.clone(), name.rev())?,
            RefName::tag(name.repo.clone(), name.rev())?,
        ] {
            if refs.refs.contains_key(&other) {
                return Err(Error::Conflict(format!("`{other}` exists already")));
            }
        }
        let change = RefChange {
            r#ref: name.clone(),
            old: None,
            new: Some(id),
        };
        let commit = Commit {
            since: Some(refs.seq),
            ..self.commit(vec![change], command)
        };
        self.block_on(self.store()?.commit(commit))?;
        Ok(id)
    }

    /// Removes a branch or a tag.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn remove_ref(&self, name: RefName) -> Result<()> {
        let refs = self.refs()?;
        let old = refs.refs.get(&name).copied();
        let old = old.ok_or_else(|| Error::not_found("ref", &name.to_string()))?;
        let command = format!("rm {name}");
        self.transact(
            vec![RefChange {
                r#ref: name,
                old: Some(old),
                new: None,
            }],
            &command,
            None,
        )?;
        Ok(())
    }

    /// Removes what a target names: a path (in a new snapshot), one branch or tag, or the name
    /// with all its branches and tags. The bytes stay until space is reclaimed; `undo` brings
    /// everything back.
    ///
    /// # Errors
    /// `NotFound`, `Conflict`.
    pub fn remove(&self, target: &Target) -> Result<Operation> {
        let command = format!("rm {target}");
        if let Some(path) = &target.path {
            let edits = Edits::from_iter([(path.into(), Edit::Remove)]);
            return self.again_if_collected(|| self.edit_branch(target, &edits, &command));
        }
        let refs = self.refs()?;
        let fits = |name: &RefName| {
            let is_rev = |rev: &str| rev == name.rev() && name.is_by_people();
            name.repo == target.repo && target.rev.as_deref().is_none_or(is_rev)
        };
        let removed: Vec<RefChange> = refs
            .refs
            .iter()
            .filter(|(name, _)| fits(name))
            .map(|(name, id)| RefChange {
                r#ref: name.clone(),
                old: Some(*id),
                new: None,
            })
            .collect();
        if removed.is_empty() {
            return Err(Error::not_found("name", &target.to_string()));
        }
        self.transact(removed, &command, None)
    }

    fn edit_branch(&self, target: &Target, edits: &Edits<'_>, message: &str) -> Result<Operation> {
        let tip = self.find(target)?;
        let branch = tip
            .by
            .filter(|name| name.kind == RefKind::Branch)
            .ok_or_else(|| {
                Error::Invalid(format!(
                    "`{target}` is not a branch, so it cannot be changed"
                ))
            })?;
        let writer = self.block_on(self.store()?.writer(self.shop.components.runtime.clone()))?;
        let editor = Editor {
            source: self.source(),
            sink: &writer,
            encoders: &self.shop.encoders,
        };
        let tree = editor.apply(Some(tip.snapshot.tree), edits)?;
        let id = self
            .shop
            .write_snapshot(&writer, tree, vec![tip.id], (message, None))?;
        let change = RefChange {
            r#ref: branch,
            old: Some(tip.id),
            new: Some(id),
        };
        let done = writer.commit(self.commit(vec![change], message))?;
        writer.finish()?;
        Ok(done)
    }

    /// Operations of the log, newest first, at most `count`.
    ///
    /// # Errors
    /// `Corrupt` if the log is damaged.
    pub fn operations(&self, count: usize) -> Result<Vec<Operation>> {
        match self.store() {
            Ok(store) => Ok(self.block_on(store.operations(None, count))?),
            Err(_) => Ok(Vec::new()),
        }
    }

    /// Takes back the newest operation that is neither an undo nor undone already.
    ///
    /// # Errors
    /// `NotFound` if there is none, or if what it replaced may have been collected; `Conflict` if
    /// a ref it changed has changed since.
    pub fn undo(&self) -> Result<Operation> {
        self.take_back(None)
    }

    /// Takes back the operation of this number.
    ///
    /// # Errors
    /// `Invalid` if it is an undo, undone already, a collection or of notes alone; those of
    /// [`Self::undo`].
    pub fn undo_operation(&self, seq: u64) -> Result<Operation> {
        self.take_back(Some(seq))
    }

    fn take_back(&self, which: Option<u64>) -> Result<Operation> {
        self.again_if_collected(|| {
            let since = self.refs()?.seq;
            let operation = self.undoable(which)?;
            let back = |c: &RefChange| RefChange {
                r#ref: c.r#ref.clone(),
                old: c.new,
                new: c.old,
            };
            let changes = operation.changes.iter().map(back).collect();
            let command = format!("undo {}: {}", operation.seq, operation.command);
            let commit = Commit {
                undoes: Some(operation.seq),
                since: Some(since),
                ..self.commit(changes, &command)
            };
            Ok(self.block_on(self.store()?.commit(commit))?)
        })
    }

    /// Finds an operation that can be undone, a block at a time: that of a number, else the
    /// newest.
    fn undoable(&self, which: Option<u64>) -> Result<Operation> {
        const BLOCK: usize = 64;
        let store = self.store()?;
        let (mut undone, mut before, mut floor) = (BTreeSet::new(), None, 0);
        loop {
            self.shop.components.cancel.check()?;
            let block = self.block_on(store.operations(before, BLOCK))?;
            let Some(oldest) = block.last() else {
                return Err(match which {
                    Some(seq) if seq < floor => Error::BeyondUndo { seq, floor },
                    Some(seq) => Error::not_found("operation", &seq.to_string()),
                    None => Error::NothingToUndo,
                });
            };
            before = Some(oldest.seq);
            // An undo comes after what it takes back, so it was seen before it.
            for operation in block {
                let seq = operation.seq;
                floor = (operation.collected.as_ref()).map_or(floor, |c| c.floor.max(floor));
                let fixed = undone.contains(&seq)
                    || operation.undoes.is_some()
                    || operation.collected.is_some()
                    || is_of_notes(&operation);
                undone.extend(operation.undoes);
                if which.is_some_and(|which| which != seq) || which.is_none() && fixed {
                    continue;
                }
                if fixed {
                    let what =
                        format!("operation {seq} is an undo, undone, a collection or of notes");
                    return Err(Error::Invalid(what));
                }
                if seq < floor {
                    return Err(Error::BeyondUndo { seq, floor });
                }
                return Ok(operation);
            }
        }
    }

    /// What a target's path is: the tree's root without one.
    ///
    /// # Errors
    /// `NotFound`; those of [`Self::resolve`].
    pub fn node(&self, target: &Target) -> Result<Node> {
        self.node_of(&self.resolve(target)?, target)
    }

    /// The same, whoever signed it.
    pub(crate) fn find_node(&self, target: &Target) -> Result<Node> {
        self.node_of(&self.find(target)?, target)
    }

    /// What a path of a snapshot is; its tree's root if the path is empty.
    ///
    /// # Errors
    /// Those of reading.
    pub fn node_in(&self, found: &Resolved, path: &str) -> Result<Option<Node>> {
        objects::find(self.source(), found.snapshot.tree, path)
    }

    fn node_of(&self, found: &Resolved, target: &Target) -> Result<Node> {
        let tree = found.snapshot.tree;
        let path = target.path.as_deref().unwrap_or_default();
        objects::find(self.source(), tree, path)?
            .ok_or_else(|| Error::not_found("path", &target.to_string()))
    }
}

/// Whether it changed only what doors remember: nobody asked for that, so nobody takes it back.
fn is_of_notes(operation: &Operation) -> bool {
    let mut changes = operation.changes.iter();
    !operation.changes.is_empty() && changes.all(|change| change.r#ref.kind == RefKind::Note)
}

fn tips_of(refs: &RefsView, repo: &RepoName) -> Vec<SnapshotId> {
    refs.refs
        .iter()
        .filter(|(name, _)| name.repo == *repo && name.is_by_people())
        .map(|(_, id)| *id)
        .collect()
}

/// Snapshots from some tips backwards, newest first, each once.
#[derive(Debug)]
pub struct History<'a> {
    repo: &'a Repository,
    seen: HashSet<SnapshotId>,
    queue: BTreeMap<(u64, SnapshotId), Snapshot>,
}

impl History<'_> {
    fn push(&mut self, id: SnapshotId) -> Result<()> {
        if self.seen.insert(id) {
            let snapshot = objects::snapshot(self.repo.source(), id)?;
            self.queue.insert((snapshot.time_ms, id), snapshot);
        }
        Ok(())
    }

    fn step(&mut self, id: SnapshotId, snapshot: Snapshot) -> Result<(SnapshotId, Snapshot)> {
        self.repo.shop.components.cancel.check()?;
        for parent in &snapshot.parents {
            self.push(*parent)?;
        }
        Ok((id, snapshot))
    }
}

impl Iterator for History<'_> {
    type Item = Result<(SnapshotId, Snapshot)>;

    fn next(&mut self) -> Option<Self::Item> {
        let ((_, id), snapshot) = self.queue.pop_last()?;
        Some(self.step(id, snapshot))
    }
}
