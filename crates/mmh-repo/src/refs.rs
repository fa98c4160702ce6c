//! Names and history: resolve, list, branch, tag, remove, undo, log.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use mmh_core::SnapshotId;
use mmh_core::name::{DEFAULT_BRANCH, RefKind, RefName, RepoName, Target, check_rev};
use mmh_core::object::{Operation, RefChange, Snapshot};
use mmh_core::tree::Node;
use mmh_store::RefsView;
use serde::Serialize;

use crate::edit::{Edit, Editor};
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
    /// Finds the snapshot of a target: its branch, else its tag, else the snapshot in the history
    /// of the name with that id (CID, or at least six hexadecimal digits of the digest).
    ///
    /// # Errors
    /// `NotFound` for an unknown name or revision; `Invalid` for an ambiguous one.
    pub fn resolve(&self, target: &Target) -> Result<Resolved> {
        let refs = self.refs()?;
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
        let tips = tips_of(&refs, &target.repo);
        if tips.is_empty() {
            return Err(Error::not_found("name", target.repo.short()));
        }
        self.by_id(tips, rev)?
            .ok_or_else(|| Error::not_found("revision", &format!("{}@{rev}", target.repo.short())))
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
    /// Those of [`Self::resolve`].
    pub fn log(&self, target: &Target) -> Result<History<'_>> {
        let tip = self.resolve(target)?.id;
        self.history(vec![tip])
    }

    /// The names in the repository, in order.
    ///
    /// # Errors
    /// Those of [`Self::refs`].
    pub fn names(&self) -> Result<Vec<NameInfo>> {
        let mut names: BTreeMap<String, NameInfo> = BTreeMap::new();
        for (r, id) in &self.refs()?.refs {
            let name = r.repo.to_string();
            let info = names.entry(name.clone()).or_insert_with(|| NameInfo {
                name,
                branches: BTreeMap::new(),
                tags: BTreeMap::new(),
            });
            let map = match r.kind {
                RefKind::Branch => &mut info.branches,
                RefKind::Tag => &mut info.tags,
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
        let id = self.resolve(at)?.id;
        // One name must not mean two things: a branch would hide the tag.
        let refs = self.refs()?;
        for other in [
            RefName::branch(name.repo.clone(), name.rev())?,
            RefName::tag(name.repo.clone(), name.rev())?,
        ] {
            if refs.refs.contains_key(&other) {
                return Err(Error::Conflict(format!("`{other}` exists already")));
            }
        }
        self.transact(
            vec![RefChange {
                r#ref: name,
                old: None,
                new: Some(id),
            }],
            command,
            None,
        )?;
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
            let edits = BTreeMap::from([(path.clone(), Edit::Remove)]);
            return self.edit_branch(target, edits, &command);
        }
        let refs = self.refs()?;
        let fits = |name: &RefName| {
            name.repo == target.repo && target.rev.as_deref().is_none_or(|rev| rev == name.rev())
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

    fn edit_branch(
        &self,
        target: &Target,
        edits: BTreeMap<String, Edit>,
        message: &str,
    ) -> Result<Operation> {
        let tip = self.resolve(target)?;
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
            .write_snapshot(&writer, tree, vec![tip.id], message)?;
        writer.finish()?;
        let change = RefChange {
            r#ref: branch,
            old: Some(tip.id),
            new: Some(id),
        };
        self.transact(vec![change], message, None)
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
    /// `NotFound` if there is none; `Conflict` if a ref it changed has changed since.
    pub fn undo(&self) -> Result<Operation> {
        let operation = self.undoable()?.ok_or(Error::NothingToUndo)?;
        let back = |c: &RefChange| RefChange {
            r#ref: c.r#ref.clone(),
            old: c.new,
            new: c.old,
        };
        let changes = operation.changes.iter().map(back).collect();
        let command = format!("undo {}: {}", operation.seq, operation.command);
        self.transact(changes, &command, Some(operation.seq))
    }

    /// The newest operation that is neither an undo nor undone, found a block at a time.
    fn undoable(&self) -> Result<Option<Operation>> {
        const BLOCK: usize = 64;
        let store = self.store()?;
        let (mut undone, mut before) = (BTreeSet::new(), None);
        loop {
            self.shop.components.cancel.check()?;
            let block = self.block_on(store.operations(before, BLOCK))?;
            let Some(oldest) = block.last() else {
                return Ok(None);
            };
            before = Some(oldest.seq);
            // An undo comes after what it takes back, so it was seen before it.
            for operation in block {
                match operation.undoes {
                    Some(seq) => drop(undone.insert(seq)),
                    None if undone.contains(&operation.seq) => {}
                    None => return Ok(Some(operation)),
                }
            }
        }
    }

    /// What a target's path is: the tree's root without one.
    ///
    /// # Errors
    /// `NotFound`; those of [`Self::resolve`].
    pub fn node(&self, target: &Target) -> Result<Node> {
        let tree = self.resolve(target)?.snapshot.tree;
        let path = target.path.as_deref().unwrap_or_default();
        objects::find(self.source(), tree, path)?
            .ok_or_else(|| Error::not_found("path", &target.to_string()))
    }
}

fn tips_of(refs: &RefsView, repo: &RepoName) -> Vec<SnapshotId> {
    refs.refs
        .iter()
        .filter(|(name, _)| name.repo == *repo)
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
