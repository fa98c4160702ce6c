//! The auditor: looks at everything that is published after each change, and keeps an account of
//! what was acknowledged.
//!
//! What must hold after each step:
//! - a log entry follows the one before it, leaves no gap, and never changes; it is deleted only
//!   behind a boundary;
//! - an acknowledged transaction is in the log, with its writer, for ever;
//! - every chunk that a ref or an operation which can be undone needs is found by an index run in a
//!   pack that is there and not condemned by the log. Until the first collection so is what a flush
//!   acknowledged. Excused is only what rotted.

use std::collections::{BTreeMap, BTreeSet};

use futures::FutureExt;
use mmh_core::object::Operation;
use mmh_core::{ChunkId, Digest, PackId, SnapshotId};

use super::disk::Disk;
use super::workload;
use crate::error::Result;
use crate::index::Run;
use crate::log::RefsView;
use crate::names;
use crate::pack::{Source, read_footer};

/// What is found to be broken.
pub(super) type Verdict = std::result::Result<(), String>;

/// An account of what is published and of what was promised.
#[derive(Debug, Clone, Default)]
pub(super) struct Audit {
    /// Packs with a whole footer.
    packs: BTreeMap<PackId, Vec<ChunkId>>,
    /// Index runs that open, and what they say.
    runs: BTreeMap<String, Vec<(ChunkId, PackId)>>,
    /// How many runs say that a chunk is in a pack which is there.
    places: BTreeMap<ChunkId, u32>,
    /// Every log entry, and the refs after the last.
    log: BTreeMap<u64, (Digest, Operation)>,
    view: RefsView,
    /// Transactions that were acknowledged: number and writer.
    acknowledged: BTreeMap<u64, Digest>,
    /// Entries up to this number may be deleted.
    boundary: u64,
    /// Operations from this number on can be undone, since something was collected.
    floor: Option<u64>,
    /// Packs that the log condemns and that are not deleted yet.
    condemned: BTreeSet<PackId>,
    /// Packs that the log ever condemned.
    pub(super) collected: BTreeSet<PackId>,
    /// Chunks that must be found.
    live: BTreeSet<ChunkId>,
    /// Chunks that a flush acknowledged.
    flushed: BTreeSet<ChunkId>,
    /// What every snapshot that a writer made needs: itself and its chunks.
    snapshots: BTreeMap<SnapshotId, Vec<ChunkId>>,
    /// Chunks with a place that rotted.
    pub(super) hurt: BTreeSet<ChunkId>,
    /// Objects that rotted.
    pub(super) rotten: BTreeSet<String>,
}

/// Reads a pack's footer from a disk without faults.
fn pack_chunks(disk: &Disk, id: PackId) -> Option<Vec<ChunkId>> {
    let read = read_footer(Source::Published(disk.raw(), id)).now_or_never()?;
    let (_, entries) = read.ok()?;
    Some(entries.into_iter().map(|entry| entry.id).collect())
}

/// Reads a whole index run from a disk without faults.
fn run_entries(disk: &Disk, name: &str, id: Digest) -> Option<Vec<(ChunkId, PackId)>> {
    let read = async {
        let len = disk.raw().len(name).await?.unwrap_or(0);
        let run = Run::open(disk.raw(), (name.to_owned(), id), len).await?;
        let mut entries = Vec::new();
        for no in 0..run.n_blocks() {
            let block = run.read_block(disk.raw(), no).await?;
            let found = run.entries(&block)?;
            entries.extend(found.into_iter().map(|at| (at.entry.id, at.pack)));
        }
        Result::Ok(entries)
    };
    read.now_or_never()?.ok()
}

impl Audit {
    /// Looks at everything on a disk, as after a power cut.
    pub(super) fn scan(&mut self, disk: &Disk) -> Verdict {
        self.packs.clear();
        self.runs.clear();
        self.places.clear();
        self.scan_log(disk)?;
        let collected = self
            .log
            .values()
            .filter_map(|(_, entry)| entry.collected.as_ref());
        let condemned: BTreeSet<PackId> = collected.flat_map(|c| &c.packs).copied().collect();
        self.condemned = &self.condemned & &condemned;
        for folder in [names::PACKS, names::INDEX] {
            for (name, _) in disk.list(folder) {
                self.enter(disk, &name)?;
            }
        }
        self.check_acknowledged()?;
        self.check_live()
    }

    /// Follows the log again; of entries behind the boundary it has the account only.
    fn scan_log(&mut self, disk: &Disk) -> Verdict {
        let known = std::mem::take(&mut self.log);
        self.view = RefsView::default();
        self.live = self.flushed.clone();
        (self.boundary, self.floor) = (0, None);
        for (name, _) in disk.list(names::BOUNDARIES) {
            self.enter(disk, &name)?;
        }
        for seq in 1.. {
            let name = names::entry(seq);
            match known.get(&seq) {
                Some((digest, entry)) if seq <= self.boundary => {
                    self.follow(&name, *digest, entry.clone(), false)?;
                }
                _ if disk.read(&name).is_some() => self.enter_log(disk, &name, seq, false)?,
                _ => break,
            }
        }
        let listed = disk.list(names::LOG);
        let last = listed
            .iter()
            .filter_map(|(name, _)| names::parse_seq(name))
            .max();
        match last.filter(|last| *last > self.view.seq) {
            Some(last) => Err(format!(
                "a gap after {}: entry {last} is there",
                self.view.seq
            )),
            None => Ok(()),
        }
    }

    /// Looks at an object that was written.
    pub(super) fn written(&mut self, disk: &Disk, name: &str) -> Verdict {
        self.leave(name);
        self.enter(disk, name)?;
        if name.starts_with(names::LOG) {
            self.check_acknowledged()?;
        }
        self.check_live()
    }

    /// Looks at what is left after a deletion.
    pub(super) fn deleted(&mut self, name: &str) -> Verdict {
        self.leave(name);
        if let Some(pack) = names::parse_pack(name) {
            self.condemned.remove(&pack);
        }
        let seq = names::parse_seq(name).filter(|_| name.starts_with(names::LOG));
        if seq.is_some_and(|seq| seq > self.boundary) {
            return Err(format!("{name} was deleted before the boundary"));
        }
        self.check_live()
    }

    /// Takes note that an object is damaged from now on.
    pub(super) fn rotted(&mut self, name: &str) {
        self.rotten.insert(name.to_owned());
        if let Some(pack) = names::parse_pack(name) {
            let chunks = self.packs.get(&pack).cloned();
            self.hurt.extend(chunks.unwrap_or_default());
        }
        if let Some(entries) = self.runs.get(name) {
            self.hurt.extend(entries.iter().map(|(chunk, _)| *chunk));
        }
        self.leave(name);
    }

    /// A writer is about to put a snapshot that needs these chunks.
    pub(super) fn snapshot(&mut self, id: SnapshotId, chunks: Vec<ChunkId>) {
        self.snapshots.insert(id, chunks);
    }

    /// A flush acknowledged these chunks.
    pub(super) fn promise(&mut self, chunks: &[ChunkId]) -> Verdict {
        // Whatever no ref needs may be collected before it is committed.
        if self.floor.is_some() {
            return Ok(());
        }
        self.flushed.extend(chunks);
        self.live.extend(chunks);
        self.check_found(chunks, "a flush acknowledged")
    }

    /// A commit was acknowledged.
    pub(super) fn acknowledge(&mut self, entry: &Operation) -> Verdict {
        if let Some(other) = self.acknowledged.insert(entry.seq, entry.writer) {
            return Err(format!(
                "entry {} was acknowledged to {other} and to {}",
                entry.seq, entry.writer
            ));
        }
        self.check_acknowledged()
    }

    pub(super) fn view(&self) -> &RefsView {
        &self.view
    }

    pub(super) fn live(&self) -> &BTreeSet<ChunkId> {
        &self.live
    }

    pub(super) fn n_acknowledged(&self) -> u64 {
        self.acknowledged.len() as u64
    }

    fn enter(&mut self, disk: &Disk, name: &str) -> Verdict {
        if let Some(pack) = names::parse_pack(name) {
            if self.condemned.contains(&pack) {
                return Ok(());
            }
            if let Some(chunks) = pack_chunks(disk, pack) {
                self.packs.insert(pack, chunks);
                let runs: Vec<String> = self.runs.keys().cloned().collect();
                for run in runs {
                    self.count(&run, Some(pack), true);
                }
            }
        } else if let Some((_, id)) = names::parse_run(name) {
            if let Some(entries) = run_entries(disk, name, id) {
                self.runs.insert(name.to_owned(), entries);
                self.count(name, None, true);
            }
        } else if name.starts_with(names::BOUNDARIES) {
            self.boundary = self.boundary.max(names::parse_seq(name).unwrap_or(0));
        } else if name.starts_with(names::LOG)
            && let Some(seq) = names::parse_seq(name)
        {
            return self.enter_log(disk, name, seq, true);
        }
        Ok(())
    }

    /// Counts the places that a run names, in one pack or in all that are there.
    fn count(&mut self, run: &str, only: Option<PackId>, up: bool) {
        for (chunk, pack) in self.runs.get(run).into_iter().flatten() {
            if only.is_some_and(|only| only != *pack) || !self.packs.contains_key(pack) {
                continue;
            }
            let n = self.places.entry(*chunk).or_default();
            *n = if up { *n + 1 } else { n.saturating_sub(1) };
        }
    }

    fn leave(&mut self, name: &str) {
        if let Some(pack) = names::parse_pack(name) {
            self.leave_pack(pack);
        }
        if self.runs.contains_key(name) {
            self.count(name, None, false);
            self.runs.remove(name);
        }
    }

    fn leave_pack(&mut self, pack: PackId) {
        if self.packs.contains_key(&pack) {
            let runs: Vec<String> = self.runs.keys().cloned().collect();
            for run in runs {
                self.count(&run, Some(pack), false);
            }
            self.packs.remove(&pack);
        }
    }

    fn enter_log(&mut self, disk: &Disk, name: &str, seq: u64, new: bool) -> Verdict {
        let bytes = disk.read(name).unwrap_or_default();
        let opened = disk.raw().vault().open_object(&bytes, name);
        let (entry, digest): (Operation, Digest) =
            opened.map_err(|e| format!("a log entry is not whole: {e}"))?;
        match self.log.get(&seq) {
            Some((known, _)) if *known == digest => Ok(()),
            // The number was free because its entry was taken away; nobody may count on this one.
            Some(_) if seq <= self.boundary => Ok(()),
            Some(_) => Err(format!("{name} was replaced by another entry")),
            None => self.follow(name, digest, entry, new),
        }
    }

    /// Follows an entry; a new one must find what it needs.
    fn follow(&mut self, name: &str, digest: Digest, entry: Operation, new: bool) -> Verdict {
        let applied = self.view.apply(&entry, digest, name);
        applied.map_err(|e| format!("the log is not linear: {e}"))?;
        for id in entry.changes.iter().filter_map(|change| change.new) {
            let Some(chunks) = self.snapshots.get(&id).cloned() else {
                return Err(format!("{name} names {id}, which nobody made"));
            };
            self.live.extend(&chunks);
            if new {
                self.check_found(&chunks, &format!("{name} needs"))?;
            }
        }
        let collected = entry.collected.clone();
        self.log.insert(entry.seq, (digest, entry));
        if let Some(collected) = collected {
            self.floor = self.floor.max(Some(collected.floor));
            self.narrow();
            if new {
                for pack in collected.packs {
                    self.leave_pack(pack);
                    self.condemned.insert(pack);
                    self.collected.insert(pack);
                }
                return self.check_live();
            }
        }
        Ok(())
    }

    /// After a collection only refs, and what can be undone, need anything.
    fn narrow(&mut self) {
        let window = self.log.range(self.floor.unwrap_or(0)..);
        let replaced = window.flat_map(|(_, (_, entry))| &entry.changes);
        let roots = replaced.filter_map(|change| change.old);
        let roots: Vec<SnapshotId> = roots.chain(self.view.refs.values().copied()).collect();
        let needs = roots.iter().filter_map(|id| self.snapshots.get(id));
        self.live = needs.flatten().copied().collect();
    }

    fn check_acknowledged(&self) -> Verdict {
        for (seq, writer) in &self.acknowledged {
            match self.log.get(seq) {
                Some((_, entry)) if entry.writer == *writer => {}
                Some(_) => return Err(format!("acknowledged entry {seq} is another writer's")),
                None => return Err(format!("acknowledged entry {seq} is not in the log")),
            }
        }
        Ok(())
    }

    fn check_live(&self) -> Verdict {
        let lost = self.live.iter().find(|chunk| !self.is_found(chunk));
        lost.map_or(Ok(()), |chunk| {
            Err(format!(
                "live {} is not to be found: {}",
                workload::describe(chunk),
                self.places_of(chunk)
            ))
        })
    }

    fn check_found(&self, chunks: &[ChunkId], why: &str) -> Verdict {
        let lost = chunks.iter().find(|chunk| !self.is_found(chunk));
        lost.map_or(Ok(()), |chunk| {
            Err(format!(
                "{why} {}, which is not to be found",
                workload::describe(chunk)
            ))
        })
    }

    /// Where the index runs say that a chunk is, for messages.
    fn places_of(&self, chunk: &ChunkId) -> String {
        let mut places = Vec::new();
        for (run, entries) in &self.runs {
            for (_, pack) in entries.iter().filter(|(id, _)| id == chunk) {
                let state = match (self.packs.contains_key(pack), self.condemned.contains(pack)) {
                    (true, _) => "there",
                    (false, true) => "condemned",
                    (false, false) => "missing",
                };
                places.push(format!("{run} says {}, which is {state}", pack.digest()));
            }
        }
        places.join("; ")
    }

    fn is_found(&self, chunk: &ChunkId) -> bool {
        self.places.get(chunk).is_some_and(|n| *n > 0) || self.hurt.contains(chunk)
    }
}
