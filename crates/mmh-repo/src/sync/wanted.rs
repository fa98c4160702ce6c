//! Which chunks the other side needs for some refs: what their new snapshots reach, without what
//! the snapshots that it has already reach.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use mmh_core::{ChunkId, ObjectId, SnapshotId, TreeId};

use super::past::{Past, is_damage};
use super::plan::Wish;
use super::{Error, Result, Sending};
use crate::objects;
use crate::reach::{self, Kind, Visit};
use crate::repository::Repository;

/// Ids that may wait unsorted for their double to be noticed.
const UNSORTED_MAX: usize = 1 << 16;

/// Chunks that are needed: 32 bytes for each and for each object.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    ids: Vec<ChunkId>,
    /// How many of them are sorted, each once.
    n_sorted: usize,
    objects: HashSet<ObjectId>,
    /// What the other side has whole, with everything below.
    closed: HashSet<ObjectId>,
    /// Objects that cannot be read, and why.
    pub lost: BTreeMap<ChunkId, String>,
    /// Snapshots that the other side has.
    pub known: BTreeSet<SnapshotId>,
    /// Snapshots that are sent without their trees, which the source gave up.
    pub pruned: BTreeSet<SnapshotId>,
}

/// New snapshots, and those that the other side has on which they were made.
#[derive(Debug, Default)]
struct News {
    trees: Vec<TreeId>,
    borders: BTreeSet<SnapshotId>,
}

impl Wanted {
    pub(super) fn find(
        sending: &Sending<'_>,
        moves: &[&Wish],
        past: &mut Past<'_>,
    ) -> Result<Self> {
        let mut wanted = Self::default();
        if moves.is_empty() {
            return Ok(wanted);
        }
        wanted.known.extend(sending.there.refs.values());
        let mut there = BTreeSet::new();
        for (_, tip) in sending.refs_there(moves) {
            past.add_history(*tip, &mut there)?;
        }
        wanted.known.append(&mut there);
        let news = wanted.snapshots(sending, moves, past)?;
        let pruned_there = sending.dest.pruned()?;
        for border in news.borders {
            let gone = pruned_there.contains(&border) && !sending.is_tip_there(&border);
            if !gone && let Ok(known) = past.learn(border)? {
                reach::walk(past.near(), known.tree, &mut Closed(&mut wanted.closed))?;
            }
        }
        for tree in news.trees {
            reach::walk(sending.source, tree, &mut wanted)?;
        }
        Ok(wanted)
    }

    /// Finds the new snapshots.
    fn snapshots(
        &mut self,
        sending: &Sending<'_>,
        moves: &[&Wish],
        past: &mut Past<'_>,
    ) -> Result<News> {
        let (pruned_here, pruned_there) = (sending.source.pruned()?, sending.dest.pruned()?);
        let here: HashSet<SnapshotId> = sending.here.refs.values().copied().collect();
        let mut news = News::default();
        let mut seen = HashSet::new();
        for tip in moves.iter().filter_map(|wish| wish.new) {
            let mut open = vec![tip];
            while let Some(id) = open.pop() {
                // What is to get a name there needs its files, though they were given up.
                let revived = id == tip && pruned_there.contains(&id) && !sending.is_tip_there(&id);
                let known = self.known.contains(&id);
                if known && !revived {
                    news.borders.insert(id);
                    continue;
                }
                if !seen.insert(id) {
                    continue;
                }
                self.push(id.object().chunk());
                let snapshot = match past.learn(id)? {
                    Ok(snapshot) => snapshot,
                    Err(reason) => {
                        self.lost.insert(id.object().chunk(), reason);
                        continue;
                    }
                };
                if pruned_here.contains(&id) && !here.contains(&id) {
                    self.pruned.insert(id);
                } else {
                    news.trees.push(snapshot.tree);
                }
                if !known {
                    open.extend(snapshot.parents);
                }
            }
        }
        Ok(news)
    }

    fn push(&mut self, id: ChunkId) {
        self.ids.push(id);
        if self.ids.len() > 2 * self.n_sorted + UNSORTED_MAX {
            self.sort();
        }
    }

    fn sort(&mut self) {
        self.ids.sort_unstable();
        self.ids.dedup();
        self.n_sorted = self.ids.len();
    }

    /// The chunks, sorted, each once.
    pub(super) fn take_ids(&mut self) -> Vec<ChunkId> {
        self.sort();
        self.n_sorted = 0;
        std::mem::take(&mut self.ids)
    }
}

impl Visit for Wanted {
    fn object(&mut self, id: ObjectId, _: Kind) -> bool {
        let new = !self.closed.contains(&id) && self.objects.insert(id);
        if new {
            self.push(id.chunk());
        }
        new
    }

    fn chunk(&mut self, id: ChunkId) {
        self.push(id);
    }

    fn unread(&mut self, id: ObjectId, error: Error) -> Result<()> {
        if !is_damage(&error) {
            return Err(error);
        }
        self.lost.insert(id.chunk(), error.to_string());
        Ok(())
    }
}

/// Collects objects that the other side has whole: folders are read, files need not be.
struct Closed<'a>(&'a mut HashSet<ObjectId>);

impl Visit for Closed<'_> {
    fn object(&mut self, id: ObjectId, kind: Kind) -> bool {
        self.0.insert(id) && kind == Kind::Tree
    }

    fn chunk(&mut self, _: ChunkId) {}

    fn unread(&mut self, _: ObjectId, error: Error) -> Result<()> {
        // It only means that more is asked for.
        if is_damage(&error) {
            Ok(())
        } else {
            Err(error)
        }
    }
}

/// Whether a snapshot, or one of those it came from, reaches a chunk that is lost; snapshots in
/// `known` are whole on the other side.
pub(super) fn is_hit(
    source: &Repository,
    tip: SnapshotId,
    known: &BTreeSet<SnapshotId>,
    lost: &BTreeMap<ChunkId, String>,
) -> Result<bool> {
    let mut hit = Hit {
        lost,
        seen: HashSet::new(),
        found: false,
    };
    let mut pruned = source.pruned()?;
    for tip in source.refs()?.refs.values() {
        pruned.remove(tip);
    }
    let (mut seen, mut open) = (HashSet::new(), vec![tip]);
    while let Some(id) = open.pop() {
        if known.contains(&id) || !seen.insert(id) {
            continue;
        }
        hit.chunk(id.object().chunk());
        match objects::snapshot(source.source(), id) {
            Ok(snapshot) => {
                open.extend(snapshot.parents);
                if !pruned.contains(&id) {
                    reach::walk(source, snapshot.tree, &mut hit)?;
                }
            }
            Err(error) => hit.unread(id.object(), error)?,
        }
        if hit.found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Looks for lost chunks.
struct Hit<'a> {
    lost: &'a BTreeMap<ChunkId, String>,
    seen: HashSet<ObjectId>,
    found: bool,
}

impl Visit for Hit<'_> {
    fn object(&mut self, id: ObjectId, _: Kind) -> bool {
        self.chunk(id.chunk());
        !self.found && self.seen.insert(id)
    }

    fn chunk(&mut self, id: ChunkId) {
        self.found |= self.lost.contains_key(&id);
    }

    fn unread(&mut self, _: ObjectId, error: Error) -> Result<()> {
        self.found = true;
        if is_damage(&error) {
            Ok(())
        } else {
            Err(error)
        }
    }
}
