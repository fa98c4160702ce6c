//! Garbage collection without locks: in two phases, beside any number of writers and readers.
//! FORMAT.md, "Garbage collection", has the protocol, docs/decisions/0015 the reasons.
//!
//! A run marks what must stay, copies it out of packs that are mostly dead, and lays *tombs* on
//! packs that nothing needs: from then on nobody relies on them. A later run, when enough time
//! has passed, marks again and *condemns* packs with old tombs by one entry in the log, made
//! exactly after the state that was marked. Writers that began before that entry and rely on one
//! of its packs cannot commit after it. Only then are the packs taken out of the index and
//! deleted. So safety rests on the log alone; tombs, leases and clocks only see to it that nobody
//! is sent back without need.

mod damaged;
mod marks;
pub(crate) mod note;
mod pruned;
mod run;
mod survey;

use std::sync::Arc;

use mmh_core::PackId;
use mmh_core::object::Operation;
use mmh_core::ports::{Cancel, Progress};
use serde::Serialize;
use tokio::runtime::Handle;

pub use marks::Marks;
use run::Run;

use crate::error::Error;
use crate::log::RefsView;
use crate::store::Store;

/// How long a tomb stands before its pack may be deleted, unless told otherwise: 23 hours, so that
/// a daily run deletes what the one before found.
pub const GRACE_MS: u64 = 23 * 60 * 60 * 1000;
/// How long an operation can be taken back, unless told otherwise: 30 days.
pub const UNDO_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// The dead share of a pack, in per cent of its records, above which it is written anew.
pub const REPACK_PERCENT: u8 = 25;

/// How garbage is collected.
#[derive(Debug, Clone)]
pub struct GcOptions {
    /// How long a tomb stands before its pack may be deleted, in milliseconds.
    pub grace_ms: u64,
    /// How long operations can be taken back, in milliseconds.
    pub undo_ms: u64,
    /// The dead share of a pack, in per cent, above which its live chunks are copied.
    pub repack_percent: u8,
    /// Say what would be done, and write nothing.
    pub dry_run: bool,
    /// Who does it, for the log.
    pub author: String,
}

impl Default for GcOptions {
    fn default() -> Self {
        Self {
            grace_ms: GRACE_MS,
            undo_ms: UNDO_MS,
            repack_percent: REPACK_PERCENT,
            dry_run: false,
            author: String::new(),
        }
    }
}

/// Where marking begins.
#[derive(Debug, Clone)]
pub struct GcRoots {
    /// Everything that these refs reach must stay.
    pub view: Arc<RefsView>,
    /// So must everything that the `old` of each of these operations reaches: they can be undone.
    pub window: Vec<Operation>,
    /// Operations with smaller numbers cannot be undone any more.
    pub floor: u64,
}

/// What a run found and did. Bytes of chunks are those of their records in packs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GcReport {
    /// Whether nothing was written: the rest is then what would be done.
    pub dry_run: bool,
    /// Packs before the run.
    pub packs: u64,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Chunks that must stay.
    pub live_chunks: u64,
    /// Their bytes, each chunk once.
    pub live_bytes: u64,
    /// Bytes of chunks that nothing needs, and of second copies.
    pub dead_bytes: u64,
    /// Packs on which tombs were laid.
    pub buried_packs: u64,
    /// Their bytes.
    pub buried_bytes: u64,
    /// Chunks that were copied out of packs with tombs.
    pub copied_chunks: u64,
    /// Their bytes.
    pub copied_bytes: u64,
    /// Packs that were deleted.
    pub deleted_packs: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Packs with tombs that are deleted by a later run.
    pub waiting_packs: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// Packs that were left alone because they are damaged.
    pub damaged_packs: u64,
    /// Packs that a repair had set aside, and that were deleted.
    pub deleted_set_aside: u64,
    /// Their bytes.
    pub deleted_set_aside_bytes: u64,
    /// Leases that are held.
    pub leases: u64,
    /// Snapshots that lost their trees, in this run for the first time.
    pub pruned_snapshots: u64,
    /// Entries that were taken out of the log.
    pub log_entries: u64,
    /// Operations with smaller numbers cannot be undone any more.
    pub floor: u64,
    /// Bytes of memory that the set of live chunks took.
    pub mark_bytes: u64,
}

impl Store {
    /// Takes those out of a list of missing packs that the log says were collected. An index run
    /// may still name them: one that was merged meanwhile, or whose deletion a power cut took back.
    pub(crate) async fn forget_collected(&self, missing: &mut Vec<PackId>) -> Result<(), Error> {
        let mut before = None;
        while !missing.is_empty() {
            let block = self.operations(before, run::BLOCK).await?;
            let Some(last) = block.last() else { break };
            before = Some(last.seq);
            for collected in block.iter().filter_map(|entry| entry.collected.as_ref()) {
                missing.retain(|pack| collected.packs.binary_search(pack).is_err());
            }
        }
        Ok(())
    }

    /// Collects garbage. `mark` marks all chunks that must stay; it is called again, with later
    /// roots and the same marks, if refs change before packs are condemned.
    ///
    /// May be broken off at any instant and run again; several may run at once.
    ///
    /// # Errors
    /// Corrupt if a chunk that must stay is missing or an index run is damaged: nothing is
    /// collected then; Conflict if another run was faster; Denied; Unavailable; cancelled; those
    /// of `mark`.
    pub async fn gc<E: From<Error>>(
        &self,
        handle: Handle,
        options: &GcOptions,
        mark: &mut (dyn FnMut(&GcRoots, &mut Marks) -> Result<(), E> + Send),
        (progress, cancel): (&dyn Progress, &Cancel),
    ) -> Result<GcReport, E> {
        let mut run = Run::begin(self, handle, options, (progress, cancel)).await?;
        let mut marks = Marks::default();
        progress.begin("marking", None);
        let roots = run.roots().await?;
        let marked = mark(&roots, &mut marks);
        run.unless_overtaken(marked).await?;
        progress.end();
        let surveyed = run.survey(&mut marks).await;
        let plan = run.unless_overtaken(surveyed).await?;
        if options.dry_run {
            return Ok(run.would_do(plan, &marks).await?);
        }
        let copied = run.copy(plan, &marks).await;
        let mut plan = run.unless_overtaken(copied).await?;
        let pruned = self.add_pruned(marks.pruned()).await?;
        run.bury(&plan).await?;
        if self.broken().delete_before_fence {
            run.delete(&plan.doomed).await?;
        }
        let mut condemned = std::mem::take(&mut plan.gone);
        while let Some(batch) = run.next_batch(&plan) {
            if let Some(roots) = run.moved().await? {
                marks.watch();
                let marked = mark(&roots, &mut marks);
                run.unless_overtaken(marked).await?;
                let spared = run.spare(&mut plan, &mut marks).await;
                run.unless_overtaken(spared).await?;
            } else if run.condemn(&batch).await? {
                batch.iter().for_each(|pack| {
                    plan.doomed.remove(pack);
                });
                condemned.extend(batch);
            }
        }
        run.delete(&condemned).await?;
        run.tend_set_aside().await?;
        run.end(&marks, pruned).await.map_err(E::from)
    }
}
