//! Garbage collection as a repository sees it: what names, history and the undo window reach is
//! marked, the store does the rest.
//!
//! With rules of what to keep, older snapshots of a branch lose their files. What they say of
//! themselves stays: `log` goes on to the first one.

use std::collections::{BTreeSet, HashMap, HashSet};

use mmh_core::name::RefKind;
use mmh_core::object::{ChunkRef, File, PageRef, Segment, SegmentPage, Segments};
use mmh_core::tree::{Body, Node};
use mmh_core::{ErrorKind, FileId, SnapshotId, TreeId, limits};
use mmh_store::{GcOptions, GcReport, GcRoots, Marks};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::keep::Keep;
use crate::objects;
use crate::repository::Repository;

/// How often a collection begins again because another one was faster.
const OVERTAKEN_MAX: usize = 3;
/// File objects that are in memory at once.
const FILES_AT_ONCE: usize = 64;

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
            let mut marker = Marker {
                repo: self,
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
                self.tree(known.tree, 0, marks)?;
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
            let snapshot = objects::snapshot(self.repo.source(), id).map_err(|e| needed(&id, e))?;
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

    /// Marks a page of a folder and everything below.
    fn tree(&self, page: TreeId, depth: usize, marks: &mut Marks) -> Result<()> {
        let deepest = limits::TREE_DEPTH_MAX * (limits::TREE_PAGE_DEPTH_MAX + 1);
        if !marks.walk(page.object().chunk()) {
            return Ok(());
        }
        if depth > deepest {
            return Err(Error::Corrupt(format!("tree {page} is nested too deep")));
        }
        self.repo.shop.components.cancel.check()?;
        let tree = objects::tree_page(self.repo.source(), page).map_err(|e| needed(&page, e))?;
        match tree.body {
            Body::Pages(pages) => pages
                .iter()
                .try_for_each(|page| self.tree(page.1, depth + 1, marks)),
            Body::Entries(entries) => {
                let mut files = Vec::new();
                for entry in &entries {
                    match &entry.node {
                        Node::Dir { id } => self.tree(*id, depth + 1, marks)?,
                        Node::File { id, .. } if marks.walk(id.object().chunk()) => files.push(*id),
                        Node::File { .. } | Node::Link { .. } => {}
                    }
                }
                files
                    .chunks(FILES_AT_ONCE)
                    .try_for_each(|files| self.files(files, marks))
            }
        }
    }

    /// Marks what files are made of; they are read in parallel.
    fn files(&self, ids: &[FileId], marks: &mut Marks) -> Result<()> {
        let source = self.repo.source();
        let components = &self.repo.shop.components;
        let read = |id: &FileId| -> Result<File> {
            components.cancel.check()?;
            objects::file(source, *id).map_err(|e| needed(id, e))
        };
        let all = || ids.par_iter().map(read).collect::<Result<Vec<_>>>();
        for file in components.pool.install(all)? {
            match file.segments {
                Segments::Inline(segments) => mark_segments(&segments, marks),
                Segments::Pages(pages) => {
                    for PageRef(page, _) in pages {
                        if marks.walk(page.chunk()) {
                            let read = objects::read::<SegmentPage>(source, page);
                            let page = read.map_err(|e| needed(&page, e))?;
                            mark_segments(&page.segments, marks);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

fn mark_segments(segments: &[Segment], marks: &mut Marks) {
    for ChunkRef(id, _, _) in segments.iter().flat_map(|segment| &segment.chunks) {
        marks.insert(*id);
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
