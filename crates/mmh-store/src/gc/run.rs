//! One run of garbage collection, step by step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use mmh_core::object::{Collected, Operation, OperationTag};
use mmh_core::ports::{Cancel, Progress};
use mmh_core::{ChunkId, ErrorKind, PackId, limits};
use tokio::runtime::Handle;

use super::note::{LeaseNote, TombNote, TombTag};
use super::survey::{Facts, Plan, len_of};
use super::{GcOptions, GcReport, GcRoots, Marks};
use crate::error::{Error, Result};
use crate::frame;
use crate::index::Located;
use crate::lease::{CLOCK_SKEW_MS, is_live};
use crate::log::{Reliance, Seen};
use crate::names;
use crate::objects::is_taken;
use crate::pack::{Entry, Source, read_footer};
use crate::store::Store;
use crate::verify::windows;
use crate::writer::Writer;

/// Log entries that are read at once while the undo window is found.
pub(super) const BLOCK: usize = 256;
/// Small objects that are read, written or deleted at the same time.
const PARALLEL: usize = 8;

/// What a run knows.
pub(super) struct Run<'a> {
    pub store: &'a Store,
    pub options: &'a GcOptions,
    pub progress: &'a dyn Progress,
    pub cancel: &'a Cancel,
    pub packs: BTreeMap<PackId, Facts>,
    /// When the run began, in milliseconds since 1970-01-01 UTC.
    pub now_ms: u64,
    /// When the first of all living leases began, taken as early as clocks may differ.
    pub oldest_lease_ms: Option<u64>,
    /// Writes copies, under the run's lease; none on a dry run.
    writer: Option<Writer>,
    expired: Vec<String>,
    /// The last log entry when the run began, or its own last entry.
    since: u64,
    /// The log entry up to which everything is marked.
    marked: Arc<Seen>,
    report: GcReport,
}

impl<'a> Run<'a> {
    /// Reads what must be known before the refs: packs and index first, then leases, so that a
    /// pack that is met and not pinned has been committed or given up.
    pub(super) async fn begin(
        store: &'a Store,
        handle: Handle,
        options: &'a GcOptions,
        (progress, cancel): (&'a dyn Progress, &'a Cancel),
    ) -> Result<Self> {
        let writer = match options.dry_run {
            true => None,
            false => Some(store.writer_for("gc", handle).await?),
        };
        let marked = store.log().seen_now().await?;
        let since = (writer.as_ref()).map_or(marked.view.seq, |writer| writer.lease().seq());
        let mut run = Self {
            store,
            options,
            progress,
            cancel,
            packs: BTreeMap::new(),
            now_ms: store.clock().now_ms(),
            oldest_lease_ms: None,
            writer,
            expired: Vec::new(),
            since,
            marked,
            report: GcReport {
                dry_run: options.dry_run,
                ..GcReport::default()
            },
        };
        run.read_packs().await?;
        run.read_tombs().await?;
        run.read_leases().await?;
        Ok(run)
    }

    async fn read_packs(&mut self) -> Result<()> {
        let listed = self.store.backend().list(names::PACKS).await?;
        self.store.index().refresh().await?;
        let indexed = self.store.index().packs();
        for (name, len) in listed {
            let Some(pack) = names::parse_pack(&name) else {
                continue;
            };
            self.report.packs += 1;
            self.report.pack_bytes += len;
            let old = indexed.contains(&pack);
            let facts = Facts {
                len,
                old,
                ..Facts::default()
            };
            self.packs.insert(pack, facts);
        }
        Ok(())
    }

    async fn read_tombs(&mut self) -> Result<()> {
        let backend = self.store.backend();
        let listed = backend.list(names::TOMBS).await?;
        let packs = listed
            .iter()
            .filter_map(|(name, _)| names::parse_tomb(name));
        let read = |pack: PackId| async move {
            let name = names::tomb(&pack);
            let note = backend.read_note_if_whole::<TombNote>(&name).await?;
            Ok::<_, Error>((pack, note))
        };
        let mut tombs = futures::stream::iter(packs.map(read)).buffered(PARALLEL);
        while let Some((pack, note)) = tombs.try_next().await? {
            let facts = self.packs.entry(pack).or_default();
            // A damaged tomb is a tomb; when it was laid, nobody knows.
            facts.tomb_ms = Some(note.map_or(self.now_ms, |note| note.time_ms));
        }
        drop(tombs);
        let unlisted = self.packs.iter().filter(|(_, facts)| facts.len == 0);
        let unlisted: Vec<PackId> = unlisted.map(|(pack, _)| *pack).collect();
        for pack in unlisted {
            let len = backend.len(&names::pack(&pack)).await?.unwrap_or(0);
            self.packs.entry(pack).or_default().len = len;
        }
        Ok(())
    }

    async fn read_leases(&mut self) -> Result<()> {
        let backend = self.store.backend();
        let own = self.writer.as_ref().map(|writer| writer.lease().name());
        for (name, _) in backend.list(names::LEASES).await? {
            if own == Some(name.as_str()) {
                continue;
            }
            match backend.read_note_if_whole::<LeaseNote>(&name).await? {
                Some(note) if is_live(&note, self.now_ms) => {
                    self.report.leases += 1;
                    let began = note.started_ms.saturating_sub(CLOCK_SKEW_MS);
                    let oldest = self.oldest_lease_ms.get_or_insert(began);
                    *oldest = began.min(*oldest);
                    for pack in note.pins {
                        if let Some(facts) = self.packs.get_mut(&pack) {
                            facts.pinned = true;
                        }
                    }
                }
                _ => self.expired.push(name),
            }
        }
        Ok(())
    }

    /// Where marking begins: refs now, and operations that can still be undone.
    pub(super) async fn roots(&mut self) -> Result<GcRoots> {
        self.marked = self.store.log().seen_now().await?;
        let head = self.marked.view.seq;
        let (mut window, mut before, mut least) = (Vec::new(), None, 0);
        'all: loop {
            self.cancel.check()?;
            let block = self.store.operations(before, BLOCK).await?;
            for operation in block.iter() {
                least = (operation.collected.as_ref()).map_or(least, |c| c.floor.max(least));
                let age = self.now_ms.saturating_sub(operation.time_ms);
                if age >= self.options.undo_ms || operation.seq < least {
                    break 'all;
                }
                window.push(operation.clone());
            }
            match block.last() {
                Some(last) => before = Some(last.seq),
                None => break,
            }
        }
        let floor = window.last().map_or(head + 1, |operation| operation.seq);
        self.report.floor = floor;
        let view = Arc::clone(&self.marked.view);
        Ok(GcRoots {
            view,
            window,
            floor,
        })
    }

    /// What a run with this plan would do.
    pub(super) async fn would_do(mut self, plan: Plan, marks: &Marks) -> Result<GcReport> {
        let condemned = &plan.doomed;
        self.account(&plan, condemned, marks);
        let known = self.store.pruned().await?;
        self.report.pruned_snapshots = marks.pruned().difference(&known).count() as u64;
        self.report.copied_bytes = plan.copy.iter().map(|pack| self.packs[pack].live).sum();
        Ok(self.report)
    }

    /// Fills in the figures that follow from the survey.
    fn account(&mut self, plan: &Plan, deleted: &BTreeSet<PackId>, marks: &Marks) {
        let report = &mut self.report;
        let there = || self.packs.values().filter(|facts| facts.len > 0);
        report.live_chunks = marks.len();
        report.live_bytes = there().map(|facts| facts.live).sum();
        report.dead_bytes = there().map(|facts| facts.records - facts.live).sum();
        report.mark_bytes = marks.memory_len();
        report.buried_packs = plan.bury.len() as u64;
        report.buried_bytes = len_of(&self.packs, &plan.bury);
        report.deleted_packs = deleted.len() as u64;
        report.deleted_bytes = len_of(&self.packs, deleted);
        let waiting = plan.leaving.difference(deleted);
        let waiting: BTreeSet<PackId> = waiting
            .filter(|p| self.packs[*p].len > 0)
            .copied()
            .collect();
        report.waiting_packs = waiting.len() as u64;
        report.waiting_bytes = len_of(&self.packs, &waiting);
    }

    /// Copies live chunks out of packs that are to go. On return the copies are in the index. A
    /// pack that cannot be read is left alone, and while there is one nothing is deleted: another
    /// pack may have the good copy.
    pub(super) async fn copy(&mut self, mut plan: Plan, marks: &Marks) -> Result<Plan> {
        let bytes = plan.copy.iter().map(|pack| self.packs[pack].live).sum();
        self.progress.begin("copying", Some(bytes));
        for pack in plan.copy.clone() {
            self.cancel.check()?;
            self.progress.item(&names::pack(&pack));
            match self.copy_from(pack, &plan, marks).await {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    self.report.damaged_packs += 1;
                    plan.bury.remove(&pack);
                    plan.doomed.clear();
                }
                Err(error) => return Err(error),
            }
        }
        self.writer()?.flush()?;
        self.progress.end();
        self.account(&plan, &BTreeSet::new(), marks);
        Ok(plan)
    }

    async fn copy_from(&mut self, pack: PackId, plan: &Plan, marks: &Marks) -> Result<()> {
        let source = Source::Published(self.store.backend(), pack);
        let (_, entries) = read_footer(source).await?;
        let mut wanted: Vec<Entry> = Vec::new();
        for entry in entries {
            let id = &entry.id;
            let here = !marks.contains(id) || self.writer()?.has_pending(id);
            if !here && !self.stays(id, plan).await? {
                wanted.push(entry);
            }
        }
        let follows = |a: &Entry, b: &Entry| a.offset + a.record_len() == b.offset;
        for window in wanted.chunk_by(follows).flat_map(windows) {
            self.cancel.check()?;
            let start = window[0].offset;
            let len: u64 = window.iter().map(Entry::record_len).sum();
            let bytes = source.read(start, len).await?;
            for entry in window {
                let at = |offset: u64| usize::try_from(offset - start).unwrap_or(usize::MAX);
                let record = bytes.get(at(entry.offset)..at(entry.offset + entry.record_len()));
                let damaged = |reason: String| Error::CorruptPack {
                    pack,
                    offset: entry.offset,
                    chunk: Some(entry.id),
                    reason,
                };
                let record = record.ok_or_else(|| damaged("the record is cut off".to_owned()))?;
                let vault = self.store.backend().vault();
                let frame = frame::of_record(record, vault, Some(&entry.id));
                let frame = frame.map_err(|fault| damaged(fault.to_string()))?;
                let frame = &frame;
                self.writer()?.put_again(entry.id, entry.raw_len, frame)?;
                self.report.copied_chunks += 1;
                self.report.copied_bytes += entry.record_len();
            }
            self.progress.advance(len);
        }
        Ok(())
    }

    /// Whether a copy of the chunk lies in a pack that stays.
    async fn stays(&self, id: &ChunkId, plan: &Plan) -> Result<bool> {
        let copies = self.store.index().locate_all(id).await?;
        Ok(copies.iter().any(|at| !plan.leaving.contains(&at.pack)))
    }

    pub(super) fn report_mut(&mut self) -> &mut GcReport {
        &mut self.report
    }

    fn writer(&self) -> Result<&Writer> {
        self.writer.as_ref().ok_or_else(|| Error::Internal {
            what: "a dry run writes".to_owned(),
        })
    }

    /// Lays tombs.
    pub(super) async fn bury(&self, plan: &Plan) -> Result<()> {
        let note = TombNote {
            r#type: TombTag::Tag,
            time_ms: self.store.clock().now_ms(),
        };
        let backend = self.store.backend();
        let lay = |pack: &PackId| {
            let name = names::tomb(pack);
            let sealed = backend.vault().seal_object(&name, &note);
            async move {
                let (bytes, _) = sealed?;
                match backend.create(&name, bytes).await {
                    Err(error) if !is_taken(&error) => {
                        Err(Error::engine(backend.place(&name))(error))
                    }
                    // Another run has laid it.
                    _ => Ok(()),
                }
            }
        };
        let mut tombs = futures::stream::iter(plan.bury.iter().map(lay)).buffered(PARALLEL);
        while let Some(()) = tombs.try_next().await? {
            self.cancel.check()?;
        }
        Ok(())
    }

    /// The next packs to condemn, as many as go into one entry.
    pub(super) fn next_batch(&self, plan: &Plan) -> Option<BTreeSet<PackId>> {
        let batch: BTreeSet<PackId> = plan
            .doomed
            .iter()
            .take(limits::COLLECTED_MAX)
            .copied()
            .collect();
        (!batch.is_empty()).then_some(batch)
    }

    /// The log now, unless another run has condemned packs since this one began.
    async fn log_now(&self) -> Result<Arc<Seen>> {
        let seen = self.store.log().seen_now().await?;
        let reliance = Reliance {
            since: self.since,
            packs: None,
        };
        seen.check(reliance).map_err(|error| match error {
            Error::Collected { seq } => Error::Overtaken { seq },
            other => other,
        })?;
        Ok(seen)
    }

    /// Hands a result on; a failure is that of another run if one has condemned packs meanwhile,
    /// and so taken away what this one was about to read.
    pub(super) async fn unless_overtaken<T, E: From<Error>>(
        &self,
        result: std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        if result.is_err() {
            self.log_now().await?;
        }
        result
    }

    /// Looks whether refs have changed since they were marked; if so returns what is to be marked
    /// now.
    ///
    /// # Errors
    /// [`Error::Overtaken`] if another run has condemned packs meanwhile.
    pub(super) async fn moved(&mut self) -> Result<Option<GcRoots>> {
        self.cancel.check()?;
        let seen = self.log_now().await?;
        let before = self.marked.view.seq;
        if seen.view.seq == before {
            return Ok(None);
        }
        let n = usize::try_from(seen.view.seq - before).unwrap_or(usize::MAX);
        let window = self.store.operations(Some(seen.view.seq + 1), n).await?;
        let view = Arc::clone(&seen.view);
        self.marked = seen;
        Ok(Some(GcRoots {
            view,
            window,
            floor: self.report.floor,
        }))
    }

    /// Spares packs that hold the only copies of what was marked since they were doomed.
    pub(super) async fn spare(&self, plan: &mut Plan, marks: &mut Marks) -> Result<()> {
        self.store.index().refresh().await?;
        while let Some(id) = marks.next_fresh() {
            let copies = self.store.index().locate_all(&id).await?;
            let there = |at: &&Located| !plan.gone.contains(&at.pack);
            if !copies.iter().any(|at| there(&at)) {
                return Err(Error::Incomplete { missing: 1 });
            }
            if copies
                .iter()
                .all(|at| !there(&at) || plan.doomed.contains(&at.pack))
            {
                for at in &copies {
                    plan.doomed.remove(&at.pack);
                }
            }
            for at in &copies {
                if frame::has_references(at.entry.method) && !plan.gone.contains(&at.pack) {
                    let frame = self.store.frame_at(at).await?;
                    if let Ok(references) = mmh_codec::references(&frame) {
                        for (_, id) in frame::named(&references) {
                            marks.insert(id);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Says in the log that packs are deleted, exactly after what was marked; `false` if another
    /// entry came first.
    pub(super) async fn condemn(&mut self, batch: &BTreeSet<PackId>) -> Result<bool> {
        let store = self.store;
        let mut entry = Operation {
            r#type: OperationTag::Tag,
            seq: 0,
            prev: None,
            writer: store.entropy().draw()?,
            time_ms: store.clock().now_ms(),
            author: self.options.author.clone(),
            command: format!("gc: {} packs", batch.len()),
            undoes: None,
            collected: Some(Collected {
                floor: self.report.floor,
                packs: batch.iter().copied().collect(),
            }),
            changes: Vec::new(),
        };
        let Some(next) = store.log().append(&mut entry, &self.marked).await? else {
            return Ok(false);
        };
        (self.since, self.marked) = (entry.seq, next);
        Ok(true)
    }

    /// Takes packs out of the index, then deletes them, then their tombs.
    pub(super) async fn delete(&mut self, packs: &BTreeSet<PackId>) -> Result<()> {
        if packs.is_empty() {
            return Ok(());
        }
        self.progress.begin("deleting", None);
        self.store.index().drop_packs(packs).await?;
        for name in [names::pack, names::tomb] {
            self.delete_all(packs.iter().map(name)).await?;
        }
        self.progress.end();
        let there = |pack: &&PackId| self.packs.get(pack).is_some_and(|facts| facts.len > 0);
        let n = packs.iter().filter(there).count() as u64;
        let len = len_of(&self.packs, packs);
        let report = &mut self.report;
        report.deleted_packs += n;
        report.deleted_bytes += len;
        report.waiting_packs = report.waiting_packs.saturating_sub(n);
        report.waiting_bytes = report.waiting_bytes.saturating_sub(len);
        Ok(())
    }

    async fn delete_all(&self, names: impl Iterator<Item = String>) -> Result<()> {
        let backend = self.store.backend();
        let delete = |name: String| async move { backend.delete(&name).await };
        let mut deletions = futures::stream::iter(names.map(delete)).buffered(PARALLEL);
        while let Some(()) = deletions.try_next().await? {
            self.cancel.check()?;
        }
        Ok(())
    }

    /// Takes old entries out of the log and removes what died writers left of their leases.
    pub(super) async fn end(mut self, marks: &Marks, pruned: u64) -> Result<GcReport> {
        if let Some(cut) = self.store.log().truncatable(self.report.floor).await? {
            let done = self.store.log().truncate(cut, self.cancel).await?;
            self.report.log_entries = done.entries;
        }
        self.delete_all(self.expired.iter().cloned()).await?;
        self.report.mark_bytes = marks.memory_len();
        self.report.pruned_snapshots = pruned;
        if let Some(writer) = self.writer.take() {
            writer.finish()?;
        }
        Ok(self.report)
    }
}
