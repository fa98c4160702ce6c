//! The operation log: one entry is one transaction over any number of refs.
//!
//! Entries are only ever created, never changed; the engine's put-if-absent decides races. The
//! head is found by probing upward from the newest checkpoint, never by listing alone. Old entries
//! may be taken away (see [`boundary`]), so every probe ends with a look at the boundary: a number
//! that is free may be one that was taken once.
//! FORMAT.md, "Log", has the rules.

mod boundary;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use mmh_core::name::RefName;
use mmh_core::object::{Checkpoint, CheckpointTag, Collected, Operation, OperationTag, RefChange};
use mmh_core::ports::Clock;
use mmh_core::{Digest, ErrorKind, PackId, SnapshotId};

use crate::broken::Broken;
use crate::entropy::Entropy;
use crate::error::{Error, Result};
use crate::log_engine::LogEngine;
use crate::names;
use crate::vault::Vault;

/// A checkpoint is written after every entry whose number is a multiple of this.
pub const CHECKPOINT_EVERY: u64 = 64;
/// Races that a commit may lose before it gives up.
const COMMIT_ATTEMPTS: u32 = 10_000;
/// How often the log is read anew because what was seen of it had been taken away.
const STALE_ATTEMPTS: u32 = 8;

/// All refs after a log entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RefsView {
    /// The number of the last entry; 0 for an empty log.
    pub seq: u64,
    /// Its digest; `None` for an empty log.
    pub head: Option<Digest>,
    /// Every ref and what it names.
    pub refs: BTreeMap<RefName, SnapshotId>,
}

impl RefsView {
    /// Checks a change against what the ref names now.
    fn check(&self, change: &RefChange) -> Result<()> {
        let actual = self.refs.get(&change.r#ref).copied();
        if actual == change.old {
            return Ok(());
        }
        Err(Error::RefConflict {
            change: Box::new(change.clone()),
            actual,
        })
    }

    /// Follows an entry that was read from the log.
    pub(crate) fn apply(&mut self, entry: &Operation, digest: Digest, object: &str) -> Result<()> {
        let corrupt = |reason: String| Error::Corrupt {
            object: object.to_owned(),
            reason,
        };
        if entry.seq != self.seq + 1 || entry.prev != self.head {
            return Err(corrupt(format!("it does not follow entry {}", self.seq)));
        }
        for change in &entry.changes {
            self.check(change).map_err(|e| corrupt(e.to_string()))?;
        }
        for change in &entry.changes {
            match change.new {
                Some(id) => drop(self.refs.insert(change.r#ref.clone(), id)),
                None => drop(self.refs.remove(&change.r#ref)),
            }
        }
        (self.seq, self.head) = (entry.seq, Some(digest));
        Ok(())
    }
}

/// A transaction to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Commit {
    /// The changes, in any order; each ref at most once.
    pub changes: Vec<RefChange>,
    /// Who does it, as given by the caller.
    pub author: String,
    /// What is done, for people.
    pub command: String,
    /// The operation that this one takes back, if it is an undo.
    pub undoes: Option<u64>,
    /// The last log entry when the caller looked at what it refers to: if anything was collected
    /// after that, the commit is refused. `None` if it refers to nothing older.
    pub since: Option<u64>,
}

/// What a commit needs to be there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reliance<'a> {
    /// The last log entry when the writer began.
    pub since: u64,
    /// The packs that it counts on; `None` if that may be any.
    pub packs: Option<&'a BTreeSet<PackId>>,
}

/// What was seen of the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Refs after the last entry.
    pub view: Arc<RefsView>,
    /// Every entry after this number was read.
    from: u64,
    /// Those of them that collect.
    collected: Vec<(u64, Arc<Collected>)>,
}

impl Seen {
    fn at(view: RefsView) -> Self {
        Self {
            from: view.seq,
            view: Arc::new(view),
            collected: Vec::new(),
        }
    }

    fn apply(&mut self, entry: &Operation, digest: Digest) -> Result<()> {
        let name = names::entry(self.view.seq + 1);
        Arc::make_mut(&mut self.view).apply(entry, digest, &name)?;
        if let Some(collected) = &entry.collected {
            self.collected
                .push((entry.seq, Arc::new(collected.clone())));
        }
        Ok(())
    }

    /// Refuses a reliance on what was collected since.
    pub(crate) fn check(&self, reliance: Reliance<'_>) -> Result<()> {
        let Reliance { since, packs } = reliance;
        if since < self.from {
            // Entries that may have collected were taken away unread.
            return Err(Error::Collected { seq: self.from });
        }
        let relies = |pack: &PackId| packs.is_none_or(|packs| packs.contains(pack));
        for (seq, collected) in self.collected.iter().filter(|(seq, _)| *seq > since) {
            if collected.packs.iter().any(relies) {
                return Err(Error::Collected { seq: *seq });
            }
        }
        Ok(())
    }
}

/// Reads and extends the log of one repository.
#[derive(Debug)]
pub(crate) struct Log {
    engine: Arc<dyn LogEngine>,
    vault: Vault,
    /// The newest state that was seen, where the next probe begins.
    seen: Mutex<Option<Arc<Seen>>>,
    /// Entries up to here are known to last.
    settled: AtomicU64,
    broken: Broken,
}

impl Log {
    pub(crate) fn new(engine: Arc<dyn LogEngine>, vault: Vault, broken: Broken) -> Self {
        Self {
            engine,
            vault,
            seen: Mutex::new(None),
            settled: AtomicU64::new(0),
            broken,
        }
    }

    /// All refs as they are now.
    pub(crate) async fn view(&self) -> Result<Arc<RefsView>> {
        Ok(Arc::clone(&self.seen_now().await?.view))
    }

    /// The log as it is now: its end was found, and lies beyond every boundary.
    pub(crate) async fn seen_now(&self) -> Result<Arc<Seen>> {
        for _ in 0..STALE_ATTEMPTS {
            let first = self.seen().is_none_or(|seen| seen.view.seq == 0);
            let seen = self.advance().await?;
            let seq = seen.view.seq;
            if self.is_gone(seq.max(1)).await? {
                self.forget(seq);
                continue;
            }
            if first && let Err(error) = self.check_no_gap(seq).await {
                self.forget(seq);
                return Err(error);
            }
            return Ok(seen);
        }
        Err(Error::Corrupt {
            object: names::BOUNDARIES.to_owned(),
            reason: "entries up to there are gone, and no later checkpoint can be read".to_owned(),
        })
    }

    /// Adds an entry.
    pub(crate) async fn commit(
        &self,
        commit: Commit,
        packs: Option<&BTreeSet<PackId>>,
        (clock, entropy): (&dyn Clock, &dyn Entropy),
    ) -> Result<Operation> {
        let reliance = commit.since.map(|since| Reliance { since, packs });
        let mut entry = new_entry(commit, clock, entropy)?;
        let mut sure = self.seen().is_none();
        for _ in 0..COMMIT_ATTEMPTS {
            let seen = if sure {
                self.seen_now().await?
            } else {
                self.advance().await?
            };
            if let Err(refusal) = self.admits(&seen, &entry, reliance) {
                if sure {
                    return Err(refusal);
                }
                // What was seen may be the end of entries that were taken away.
                sure = true;
                continue;
            }
            if self.append(&mut entry, &seen).await?.is_some() {
                return Ok(entry);
            }
            sure = true;
        }
        Err(Error::Busy {
            attempts: COMMIT_ATTEMPTS,
        })
    }

    fn admits(&self, seen: &Seen, entry: &Operation, on: Option<Reliance<'_>>) -> Result<()> {
        let mut changes = entry.changes.iter();
        changes.try_for_each(|change| seen.view.check(change))?;
        match on {
            Some(reliance) if !self.broken.no_fence_check => seen.check(reliance),
            _ => Ok(()),
        }
    }

    /// Adds an entry right after what was seen and returns what is seen then; `None` if another is
    /// there already. An entry whose number lies before a boundary is not acknowledged: the number
    /// was free because its entry had been taken away.
    pub(crate) async fn append(
        &self,
        entry: &mut Operation,
        seen: &Seen,
    ) -> Result<Option<Arc<Seen>>> {
        (entry.seq, entry.prev) = (seen.view.seq + 1, seen.view.head);
        let name = names::entry(entry.seq);
        let (bytes, digest) = self.vault.seal_object(&name, entry)?;
        self.settle(seen.view.seq).await?;
        if !self.create(entry, bytes).await? {
            return Ok(None);
        }
        self.settled.fetch_max(entry.seq, Ordering::Relaxed);
        let unconfirmed = |e: Error| Error::Unconfirmed {
            seq: entry.seq,
            reason: e.to_string(),
        };
        if !self.broken.no_boundary_check && self.is_gone(entry.seq).await.map_err(unconfirmed)? {
            self.forget(seen.view.seq);
            return Ok(None);
        }
        let mut next = seen.clone();
        next.apply(entry, digest)?;
        let next = Arc::new(next);
        self.remember(&next);
        self.write_checkpoint(&next.view).await;
        Ok(Some(next))
    }

    /// Log entries below `before`, newest first.
    pub(crate) async fn operations(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Operation>> {
        let view = self.view().await?;
        let mut seq = before.map_or(view.seq, |seq| seq.saturating_sub(1).min(view.seq));
        let mut expected = if seq == view.seq { view.head } else { None };
        let mut found = Vec::new();
        while seq > 0 && found.len() < limit {
            let name = names::entry(seq);
            let corrupt = |reason: &str| Error::Corrupt {
                object: name.clone(),
                reason: reason.into(),
            };
            let flaw = match self.read_entry(seq).await? {
                None => "it is missing",
                Some((entry, digest)) => {
                    if entry.seq == seq && expected.is_none_or(|expected| expected == digest) {
                        (expected, seq) = (entry.prev, seq - 1);
                        found.push(entry);
                        continue;
                    }
                    "it is not the entry that the next one follows"
                }
            };
            if self.is_gone(seq).await? {
                break;
            }
            return Err(corrupt(flaw));
        }
        Ok(found)
    }

    /// Reads an entry with its digest; `None` if there is none of that number.
    pub(crate) async fn read_entry(&self, seq: u64) -> Result<Option<(Operation, Digest)>> {
        let name = names::entry(seq);
        let len_max = self.vault.object_len_max::<Operation>();
        let bytes = self.engine.read(&name, len_max).await?;
        bytes
            .map(|bytes| self.vault.open_object(&bytes, &name))
            .transpose()
    }

    /// Reads a checkpoint of that name.
    pub(crate) async fn read_checkpoint(&self, name: &str) -> Result<Option<RefsView>> {
        let len_max = self.vault.object_len_max::<Checkpoint>();
        let Some(bytes) = self.engine.read(name, len_max).await? else {
            return Ok(None);
        };
        let (checkpoint, _): (Checkpoint, _) = self.vault.open_object(&bytes, name)?;
        let parse = |(name, id): (String, SnapshotId)| Ok((name.parse()?, id));
        let refs: mmh_core::Result<_> = checkpoint.refs.into_iter().map(parse).collect();
        Ok(Some(RefsView {
            seq: checkpoint.seq,
            head: Some(checkpoint.head),
            refs: refs?,
        }))
    }

    /// The checkpoints that are listed, by number.
    pub(crate) async fn checkpoints(&self) -> Result<BTreeMap<u64, String>> {
        let listed = self.engine.list(names::CHECKPOINTS, None).await?;
        let numbered = |(name, _): (String, u64)| Some((names::parse_seq(&name)?, name));
        Ok(listed.into_iter().filter_map(numbered).collect())
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Arc<Seen>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> Option<Arc<Seen>> {
        self.slot().clone()
    }

    fn remember(&self, new: &Arc<Seen>) {
        let mut slot = self.slot();
        if slot.as_ref().is_none_or(|old| old.view.seq < new.view.seq) {
            *slot = Some(Arc::clone(new));
        }
    }

    /// Forgets what was seen up to this number, which was taken away.
    fn forget(&self, seq: u64) {
        let mut slot = self.slot();
        if slot.as_ref().is_some_and(|old| old.view.seq <= seq) {
            *slot = None;
        }
    }

    /// The newest checkpoint below `end` that is whole and agrees with its entry: the view to begin
    /// with. A damaged or lost checkpoint costs only time.
    async fn newest_checkpoint(&self, end: u64) -> Result<RefsView> {
        let listed = self.checkpoints().await?;
        for (seq, name) in listed.into_iter().rev().filter(|(seq, _)| *seq < end) {
            let Some(view) = self.read_checkpoint_if_whole(seq, &name).await? else {
                continue;
            };
            let reason = match self.read_entry(seq).await? {
                Some((_, digest)) if view.head == Some(digest) => return Ok(view),
                Some(_) => "it is not the entry that its checkpoint folds in",
                None => "it is missing, but its checkpoint is there",
            };
            if self.is_gone(seq).await? {
                continue;
            }
            return Err(Error::Corrupt {
                object: names::entry(seq),
                reason: reason.to_owned(),
            });
        }
        Ok(RefsView::default())
    }

    async fn read_checkpoint_if_whole(&self, seq: u64, name: &str) -> Result<Option<RefsView>> {
        match self.read_checkpoint(name).await {
            // No honest log comes to the last number, which has no successor.
            Ok(view) => Ok(view.filter(|view| view.seq == seq && seq < u64::MAX)),
            Err(Error::Corrupt { .. } | Error::Core(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Follows the log from what was seen to its end.
    async fn advance(&self) -> Result<Arc<Seen>> {
        for _ in 0..STALE_ATTEMPTS {
            let start = match self.seen() {
                Some(seen) => seen,
                None => Arc::new(Seen::at(self.newest_checkpoint(u64::MAX).await?)),
            };
            let seq = start.view.seq;
            match self.follow(start).await {
                Ok(seen) => {
                    self.remember(&seen);
                    return Ok(seen);
                }
                // Where entries were taken away, a stalled writer may have left one of its own.
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    if !self.is_gone(seq.max(1)).await? {
                        return Err(error);
                    }
                    self.forget(seq);
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::Busy {
            attempts: STALE_ATTEMPTS,
        })
    }

    async fn follow(&self, start: Arc<Seen>) -> Result<Arc<Seen>> {
        let Some((first, digest)) = self.read_entry(start.view.seq + 1).await? else {
            return Ok(start);
        };
        let mut seen = Seen::clone(&start);
        seen.apply(&first, digest)?;
        while let Some((entry, digest)) = self.read_entry(seen.view.seq + 1).await? {
            seen.apply(&entry, digest)?;
        }
        Ok(Arc::new(seen))
    }

    /// Makes sure that no entry lies beyond a missing one.
    pub(crate) async fn check_no_gap(&self, head: u64) -> Result<()> {
        let listed = self
            .engine
            .list(names::LOG, Some(&names::entry(head)))
            .await?;
        let last = listed
            .iter()
            .rev()
            .find_map(|(name, _)| names::parse_seq(name));
        let missing = head + 1;
        if last.is_none_or(|last| last < missing) {
            return Ok(());
        }
        // Another writer may have added entries since the probe ended; they leave no gap.
        if self.read_entry(missing).await?.is_some() {
            return Ok(());
        }
        let reason = format!(
            "it is missing, but entry {} is there",
            last.unwrap_or(missing)
        );
        Err(Error::Corrupt {
            object: names::entry(missing),
            reason,
        })
    }

    /// Makes sure that an entry lasts before another follows it: it may be seen before it does, and
    /// a log that has lost one in the middle cannot be read.
    async fn settle(&self, seq: u64) -> Result<()> {
        if self.settled.load(Ordering::Relaxed) < seq {
            self.engine.settle(&names::entry(seq)).await?;
            self.settled.fetch_max(seq, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Creates the entry and tells whether it is ours. A create that fails may have happened all
    /// the same: it is read back and recognised by its writer.
    async fn create(&self, entry: &Operation, bytes: Bytes) -> Result<bool> {
        let name = names::entry(entry.seq);
        let created = self.engine.create(&name, bytes.clone()).await;
        if let Ok(true) = created {
            return Ok(true);
        }
        let taken = created.is_ok();
        match self.read_entry(entry.seq).await {
            Ok(Some((found, _))) if found.writer != entry.writer => return Ok(false),
            Ok(Some(_)) if taken => return Ok(true),
            Ok(Some(_)) => {}
            // Gone or unreadable: what the engine said first is the better message.
            Ok(None) | Err(_) => {
                let gone = || {
                    let (path, source) = (name.clone(), "taken, but not there".into());
                    let taken = object_store::Error::AlreadyExists { path, source };
                    Error::engine(self.engine.place(&name))(taken)
                };
                return Err(created.err().unwrap_or_else(gone));
            }
        }
        // It is ours, but the engine failed after making it, so it may not be durable.
        let confirmed = self.engine.confirm(&name, bytes).await;
        let unconfirmed = |e: Error| Error::Unconfirmed {
            seq: entry.seq,
            reason: e.to_string(),
        };
        confirmed.map(|()| true).map_err(unconfirmed)
    }

    /// Writes a checkpoint if it is time. Its loss is harmless, so failures are not reported.
    async fn write_checkpoint(&self, view: &RefsView) {
        let Some(head) = view
            .head
            .filter(|_| view.seq.is_multiple_of(CHECKPOINT_EVERY))
        else {
            return;
        };
        let refs = view
            .refs
            .iter()
            .map(|(name, id)| (name.to_string(), *id))
            .collect();
        let checkpoint = Checkpoint {
            r#type: CheckpointTag::Tag,
            seq: view.seq,
            head,
            refs,
        };
        let name = names::checkpoint(view.seq);
        if let Ok((bytes, _)) = self.vault.seal_object(&name, &checkpoint) {
            let _lost = self
                .engine
                .create(&names::checkpoint(view.seq), bytes)
                .await
                .is_err();
        }
    }
}

fn new_entry(commit: Commit, clock: &dyn Clock, entropy: &dyn Entropy) -> Result<Operation> {
    let mut changes = commit.changes;
    changes.sort_by(|a, b| a.r#ref.cmp(&b.r#ref));
    Ok(Operation {
        r#type: OperationTag::Tag,
        seq: 0,
        prev: None,
        writer: entropy.draw()?,
        time_ms: clock.now_ms(),
        author: commit.author,
        command: commit.command,
        undoes: commit.undoes,
        collected: None,
        changes,
    })
}
