//! The operation log: one entry is one transaction over any number of refs.
//!
//! Entries are only ever created, never changed; the engine's put-if-absent decides races. The
//! head is found by probing upward from the newest checkpoint, never by listing alone.
//! FORMAT.md, "Log", has the rules.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use mmh_core::name::RefName;
use mmh_core::object::{Checkpoint, CheckpointTag, Operation, OperationTag, RefChange};
use mmh_core::ports::Clock;
use mmh_core::{Digest, SnapshotId};

use crate::entropy::Entropy;
use crate::error::{Error, Result};
use crate::log_engine::LogEngine;
use crate::names;
use crate::vault::Vault;

/// A checkpoint is written after every entry whose number is a multiple of this.
pub const CHECKPOINT_EVERY: u64 = 64;
/// Races that a commit may lose before it gives up.
const COMMIT_ATTEMPTS: u32 = 10_000;

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
}

/// Reads and extends the log of one repository.
#[derive(Debug)]
pub(crate) struct Log {
    engine: Arc<dyn LogEngine>,
    vault: Vault,
    /// The newest view that was seen, where the next probe begins.
    seen: Mutex<Option<Arc<RefsView>>>,
}

impl Log {
    pub(crate) fn new(engine: Arc<dyn LogEngine>, vault: Vault) -> Self {
        Self {
            engine,
            vault,
            seen: Mutex::new(None),
        }
    }

    /// All refs as they are now.
    pub(crate) async fn view(&self) -> Result<Arc<RefsView>> {
        let start = match self.seen() {
            Some(view) => view,
            None => self.newest_checkpoint().await?,
        };
        let seq = start.seq;
        let view = self.advance(start).await?;
        if seq == 0 || self.seen().is_none() {
            self.check_no_gap(view.seq).await?;
        }
        self.remember(&view);
        Ok(view)
    }

    /// Adds an entry.
    pub(crate) async fn commit(
        &self,
        commit: Commit,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<Operation> {
        let mut changes = commit.changes;
        changes.sort_by(|a, b| a.r#ref.cmp(&b.r#ref));
        let mut entry = Operation {
            r#type: OperationTag::Tag,
            seq: 0,
            prev: None,
            writer: entropy.draw()?,
            time_ms: clock.now_ms(),
            author: commit.author,
            command: commit.command,
            undoes: commit.undoes,
            changes,
        };
        for _ in 0..COMMIT_ATTEMPTS {
            let view = self.view().await?;
            entry
                .changes
                .iter()
                .try_for_each(|change| view.check(change))?;
            (entry.seq, entry.prev) = (view.seq + 1, view.head);
            let name = names::entry(entry.seq);
            let (bytes, digest) = self.vault.seal_object(&name, &entry)?;
            if self.create(&entry, bytes).await? {
                let mut next = RefsView::clone(&view);
                next.apply(&entry, digest, &names::entry(entry.seq))?;
                let next = Arc::new(next);
                self.remember(&next);
                self.write_checkpoint(&next).await;
                return Ok(entry);
            }
        }
        Err(Error::Busy {
            attempts: COMMIT_ATTEMPTS,
        })
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
            let read = self
                .read_entry(seq)
                .await?
                .ok_or_else(|| corrupt("it is missing"))?;
            let (entry, digest) = read;
            if entry.seq != seq || expected.is_some_and(|expected| expected != digest) {
                return Err(corrupt("it is not the entry that the next one follows"));
            }
            (expected, seq) = (entry.prev, seq - 1);
            found.push(entry);
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

    fn seen(&self) -> Option<Arc<RefsView>> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn remember(&self, view: &Arc<RefsView>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.as_ref().is_none_or(|seen| seen.seq < view.seq) {
            *seen = Some(Arc::clone(view));
        }
    }

    /// The view to begin with: the newest checkpoint that is whole and agrees with its entry. A
    /// damaged or lost checkpoint costs only time.
    async fn newest_checkpoint(&self) -> Result<Arc<RefsView>> {
        for (seq, name) in self.checkpoints().await?.into_iter().rev() {
            let view = match self.read_checkpoint(&name).await {
                // No honest log comes to the last number, which has no successor.
                Ok(Some(view)) if view.seq == seq && seq < u64::MAX => view,
                Ok(_) | Err(Error::Corrupt { .. } | Error::Core(_)) => continue,
                Err(error) => return Err(error),
            };
            let object = names::entry(seq);
            let reason = match self.read_entry(seq).await? {
                Some((_, digest)) if view.head == Some(digest) => return Ok(Arc::new(view)),
                Some(_) => "it is not the entry that its checkpoint folds in",
                None => "it is missing, but its checkpoint is there",
            };
            return Err(Error::Corrupt {
                object,
                reason: reason.to_owned(),
            });
        }
        Ok(Arc::default())
    }

    /// Follows the log from a view to its head.
    async fn advance(&self, start: Arc<RefsView>) -> Result<Arc<RefsView>> {
        let Some((first, digest)) = self.read_entry(start.seq + 1).await? else {
            return Ok(start);
        };
        let mut view = RefsView::clone(&start);
        view.apply(&first, digest, &names::entry(view.seq + 1))?;
        while let Some((entry, digest)) = self.read_entry(view.seq + 1).await? {
            view.apply(&entry, digest, &names::entry(view.seq + 1))?;
        }
        Ok(Arc::new(view))
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
