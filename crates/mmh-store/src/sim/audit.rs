//! The auditor: looks at everything that is published after each change, and keeps an account of
//! what was acknowledged.
//!
//! What must hold after each step:
//! - a log entry follows the one before it, leaves no gap, and never changes;
//! - an acknowledged transaction is in the log, with its writer, for ever;
//! - every chunk that a log entry needs, or a flush acknowledged, is found by an index run in a pack
//!   that is there. Excused is only what rotted.

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
use crate::objects::open_sealed;
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
        self.log.clear();
        self.view = RefsView::default();
        self.live = self.flushed.clone();
        for folder in [names::PACKS, names::INDEX, names::LOG] {
            for (name, _) in disk.list(folder) {
                self.enter(disk, &name)?;
            }
        }
        self.check_acknowledged()?;
        self.check_live()
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
        if name.starts_with(names::LOG) {
            return Err(format!("{name} was deleted"));
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
        } else if name.starts_with(names::LOG)
            && let Some(seq) = names::parse_seq(name)
        {
            return self.enter_log(disk, name, seq);
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
        if let Some(pack) = names::parse_pack(name)
            && self.packs.contains_key(&pack)
        {
            let runs: Vec<String> = self.runs.keys().cloned().collect();
            for run in runs {
                self.count(&run, Some(pack), false);
            }
            self.packs.remove(&pack);
        }
        if self.runs.contains_key(name) {
            self.count(name, None, false);
            self.runs.remove(name);
        }
    }

    fn enter_log(&mut self, disk: &Disk, name: &str, seq: u64) -> Verdict {
        let bytes = disk.read(name).unwrap_or_default();
        let (entry, digest): (Operation, Digest) =
            open_sealed(&bytes, name).map_err(|e| format!("a log entry is not whole: {e}"))?;
        if let Some((known, _)) = self.log.get(&seq) {
            if *known == digest {
                return Ok(());
            }
            return Err(format!("{name} was replaced by another entry"));
        }
        let applied = self.view.apply(&entry, digest, name);
        applied.map_err(|e| format!("the log is not linear: {e}"))?;
        for change in &entry.changes {
            let Some(id) = change.new else { continue };
            let Some(chunks) = self.snapshots.get(&id).cloned() else {
                return Err(format!("{name} names {id}, which nobody made"));
            };
            self.live.extend(&chunks);
            self.check_found(&chunks, &format!("{name} needs"))?;
        }
        self.log.insert(seq, (digest, entry));
        Ok(())
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
                "live {} is not to be found",
                workload::describe(chunk)
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

    fn is_found(&self, chunk: &ChunkId) -> bool {
        self.places.get(chunk).is_some_and(|n| *n > 0) || self.hurt.contains(chunk)
    }
}
