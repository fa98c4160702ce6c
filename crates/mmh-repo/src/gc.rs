//! Garbage collection as a repository sees it: what names, history and the undo window reach is
//! marked, the store does the rest.
//!
//! With rules of what to keep, older snapshots of a branch lose their files. What they say of
//! themselves stays: `log` goes on to the first one.

use std::collections::{BTreeSet, HashMap, HashSet};

use mmh_core::name::RefKind;
use mmh_core::{ChunkId, ErrorKind, ObjectId, SnapshotId, TreeId};
use mmh_store::{GcOptions, GcReport, GcRoots, Marks, Reader};

use crate::error::{Error, Result};
use crate::keep::Keep;
use crate::objects;
use crate::reach::{self, Kind, Visit};
use crate::repository::Repository;

/// How often a collection begins again because another one was faster.
const OVERTAKEN_MAX: usize = 3;

impl Repository {
    /// Collects garbage: what neither names with the history that `keep` chooses, nor operations
    /// that can be undone, nor writers at work need.
    ///
    /// # Errors
    /// `Corrupt` if something that is needed is missing or damaged: nothing is collected then;
    /// `Denied` for an archive; `Conflict` if other collections were faster; `Unavailable`.
    pub fn gc(&self, keep: &Keep, options: &GcOptions) -> Result<GcReport> {
        let c = &self.shop.components;
        let store = self.store()?;
        let options = GcOptions {
            author: self.shop.settings.author.clone(),
            ..options.clone()
        };
        for attempt in 1.. {
            let source = store.reader_of_all(c.runtime.clone(), &c.cancel);
            let mut marker = Marker {
                repo: self,
                source: self.block_on(source)?,
                keep,
                pruned: self.block_on(store.pruned())?,
                known: HashMap::new(),
                kept: HashSet::new(),
            };
            let mut mark =
                |roots: &GcRoots, marks: &mut Marks| -> Result<()> { marker.mark(roots, marks) };
            let ports = (c.progress.as_ref(), &c.cancel);
            let done = self.block_on(store.gc(c.runtime.clone(), &options, &mut mark, ports));
            match done {
                Err(Error::Store(mmh_store::Error::Overtaken { .. }))
                    if attempt < OVERTAKEN_MAX => {}
                done => return done,
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Whether a snapshot's files may be gone because [`Repository::gc`] did not keep them.
    ///
    /// # Errors
    /// `Corrupt`, `Unavailable`.
    pub fn is_pruned(&self, id: &SnapshotId) -> Result<bool> {
        if self.refs()?.refs.values().any(|tip| tip == id) {
            return Ok(false);
        }
        Ok(self.pruned()?.contains(id))
    }

    /// Snapshots whose files may be gone; none in an archive.
    pub(crate) fn pruned(&self) -> Result<BTreeSet<SnapshotId>> {
        match self.store() {
            Ok(store) => Ok(self.block_on(store.pruned())?),
            Err(_) => Ok(BTreeSet::new()),
        }
    }
}

/// What is known of a snapshot.
#[derive(Debug)]
struct Known {
    tree: TreeId,
    time_ms: u64,
    parents: Vec<SnapshotId>,
}

/// Marks what must stay; may be called again with later roots.
struct Marker<'a> {
    repo: &'a Repository,
    source: Reader,
    keep: &'a Keep,
    /// Those that lost their files before.
    pruned: BTreeSet<SnapshotId>,
    known: HashMap<SnapshotId, Known>,
    /// Those whose trees are marked.
    kept: HashSet<SnapshotId>,
}

impl Marker<'_> {
    fn mark(&mut self, roots: &GcRoots, marks: &mut Marks) -> Result<()> {
        let refs = &roots.view.refs;
        let changes = roots.window.iter().flat_map(|operation| &operation.changes);
        let olds = changes.filter_map(|change| change.old);
        let tips: BTreeSet<SnapshotId> = refs.values().copied().chain(olds).collect();
        let mut keep = tips.clone();
        for tip in &tips {
            self.learn(*tip, marks)?;
        }
        if self.keep.is_all() {
            for tip in &tips {
                keep.extend(self.history(*tip).iter().map(|(id, _)| *id));
            }
        } else {
            let branches = refs.iter().filter(|(name, _)| name.kind == RefKind::Branch);
            for (_, tip) in branches {
                keep.extend(self.keep.choose(&self.history(*tip)));
            }
        }
        for id in keep {
            // What lost its files before has not got them back, unless a name was given to it.
            if self.pruned.contains(&id) && !tips.contains(&id) || !self.kept.insert(id) {
                continue;
            }
            if let Some(known) = self.known.get(&id) {
                reach::walk_by((self.repo, &self.source), known.tree, marks)?;
            }
        }
        for id in self.known.keys().filter(|id| !self.kept.contains(*id)) {
            marks.prune(*id);
        }
        Ok(())
    }

    /// Reads and marks a snapshot and all it came from, without their trees.
    fn learn(&mut self, tip: SnapshotId, marks: &mut Marks) -> Result<()> {
        let mut open = vec![tip];
        while let Some(id) = open.pop() {
            if self.known.contains_key(&id) {
                continue;
            }
            self.repo.shop.components.cancel.check()?;
            marks.walk(id.object().chunk());
            let snapshot = objects::snapshot(&self.source, id).map_err(|e| needed(&id, e))?;
            open.extend(&snapshot.parents);
            let known = Known {
                tree: snapshot.tree,
                time_ms: snapshot.time_ms,
                parents: snapshot.parents,
            };
            self.known.insert(id, known);
        }
        Ok(())
    }

    /// A snapshot and all it came from, newest first.
    fn history(&self, tip: SnapshotId) -> Vec<(SnapshotId, u64)> {
        let (mut seen, mut open, mut all) = (HashSet::new(), vec![tip], Vec::new());
        while let Some(id) = open.pop() {
            if let Some(known) = self.known.get(&id)
                && seen.insert(id)
            {
                all.push((id, known.time_ms));
                open.extend(&known.parents);
            }
        }
        // The tip is the newest, whatever clocks said.
        all.sort_by_key(|(id, time_ms)| (*id != tip, std::cmp::Reverse(*time_ms), *id));
        all
    }
}

impl Visit for Marks {
    fn object(&mut self, id: ObjectId, _: Kind) -> bool {
        self.walk(id.chunk())
    }

    fn chunk(&mut self, id: ChunkId) {
        self.insert(id);
    }

    fn unread(&mut self, id: ObjectId, error: Error) -> Result<()> {
        Err(needed(&id, error))
    }
}

/// Says that an object is needed; that it is not there is damage.
fn needed(id: &dyn std::fmt::Display, error: Error) -> Error {
    if error.kind() == ErrorKind::NotFound {
        return Error::Corrupt(format!(
            "{id} is needed and missing ({error}); nothing was collected"
        ));
    }
    error
}
