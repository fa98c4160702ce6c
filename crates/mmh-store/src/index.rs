//! The index: immutable sorted runs that say in which pack a chunk lies. FORMAT.md, "Index runs".
//!
//! The index can always be made anew from the packs. A damaged run therefore never stops a store
//! from opening: what other runs know is still found, and only a chunk that none of them knows
//! makes the damage an error.

mod filter;
mod format;
mod merge;
mod run;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use futures::{StreamExt, TryStreamExt};
use lru::LruCache;
use mmh_core::{ChunkId, Digest, PackId};

pub(crate) use format::Located;
pub use format::{
    BLOCK_ENTRIES, BLOCK_LEN, RUN_COUNTS_LEN, RUN_ENTRY_LEN, RUN_FENCE_LEN, RUN_SALT_LEN,
    RUN_TAIL_LEN_MAX, RUN_TRAILER_LEN, RUN_TRAILER_MAGIC, fuzz_run,
};
pub(crate) use merge::Merged;
pub(crate) use run::{Run, RunWriter};
pub(crate) use whole::Whole;

use crate::backend::Backend;
use crate::entropy::Entropy;
use crate::error::{Error, Result};
use crate::names;
use crate::pack::Entry;
use filter::Filter;
use format::Block;

/// Blocks kept in memory: 2048 of 12 KiB are 24 MiB.
const CACHE_BLOCKS: NonZeroUsize = NonZeroUsize::new(2048).expect("it is not zero");
/// More runs than this are merged.
pub const RUNS_MAX: usize = 32;
/// Runs that may be left alone by a merge: the largest ones.
const RUNS_KEPT: usize = 8;
/// Bytes of filters that are kept in memory: those of 44 million chunks.
const FILTERS_LEN_MAX: u64 = 64 << 20;
/// A run with fewer blocks gets no filter: all of it is in memory soon.
const FILTER_BLOCKS_MIN: u32 = 64;
/// Runs that are opened at the same time.
const OPEN_PARALLEL: usize = 8;
/// How often a lookup starts again because a merge took its run away.
const VANISHED_ATTEMPTS: usize = 8;

/// All runs of a repository, and a cache of their blocks.
#[derive(Debug)]
pub(crate) struct Index {
    backend: Backend,
    entropy: Arc<dyn Entropy>,
    runs: RwLock<Arc<Runs>>,
    /// The runs that are known to last.
    settled: Mutex<BTreeSet<String>>,
    cache: Mutex<LruCache<(Digest, u32), Arc<Block>>>,
}

/// The runs as they were when last listed.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    /// Those that opened, by name.
    pub open: BTreeMap<String, Arc<Run>>,
    /// Those that are damaged: name and reason.
    pub damaged: BTreeMap<String, String>,
}

impl Index {
    /// Lists and opens the runs.
    pub(crate) async fn open(backend: Backend, entropy: Arc<dyn Entropy>) -> Result<Self> {
        let cache = Mutex::new(LruCache::new(CACHE_BLOCKS));
        let index = Self {
            backend,
            entropy,
            runs: RwLock::default(),
            settled: Mutex::default(),
            cache,
        };
        index.refresh().await?;
        Ok(index)
    }

    /// The runs as they were when last listed.
    pub(crate) fn runs(&self) -> Arc<Runs> {
        Arc::clone(&self.runs.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lists the runs again, opens new ones and forgets those that vanished.
    pub(crate) async fn refresh(&self) -> Result<()> {
        for attempt in 1..=VANISHED_ATTEMPTS {
            let (fresh, n_vanished) = self.list_runs().await?;
            // What replaced a run that vanished while it was opened may not have been listed yet.
            // A list that goes on naming it is an old one.
            if n_vanished == 0 || attempt == VANISHED_ATTEMPTS {
                *self.runs.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
                break;
            }
        }
        Ok(())
    }

    /// The runs that are listed, and how many of them are not there.
    async fn list_runs(&self) -> Result<(Runs, usize)> {
        let old = self.runs();
        let mut fresh = Runs::default();
        let mut n_vanished = 0;
        let mut unknown = Vec::new();
        for (name, len) in self.backend.list(names::INDEX).await? {
            let Some((_, id)) = names::parse_run(&name) else {
                continue;
            };
            match old.open.get(&name) {
                Some(run) => drop(fresh.open.insert(name, Arc::clone(run))),
                None => unknown.push((name, id, len)),
            }
        }
        let open = |(name, id, len)| async move { (name, Run::open(&self.backend, id, len).await) };
        let mut opened = futures::stream::iter(unknown.into_iter().map(|(name, id, len)| {
            let object = name.clone();
            open((name, (object, id), len))
        }))
        .buffer_unordered(OPEN_PARALLEL);
        while let Some((name, run)) = opened.next().await {
            match run {
                Ok(run) => drop(fresh.open.insert(name, Arc::new(run))),
                Err(error) if error.is_missing_object() => n_vanished += 1,
                Err(Error::CorruptIndex { reason, .. }) => {
                    fresh.damaged.insert(name, reason);
                }
                // The repository's format says which runs there may be; so this is damage too.
                Err(Error::UnknownVersion { found, .. }) => {
                    fresh
                        .damaged
                        .insert(name, format!("unknown format version {found}"));
                }
                Err(error) => return Err(error),
            }
        }
        drop(opened);
        Ok((fresh, n_vanished))
    }

    /// Finds a chunk.
    pub(crate) async fn locate(&self, id: &ChunkId) -> Result<Option<Located>> {
        for _ in 0..VANISHED_ATTEMPTS {
            match self.locate_once(id).await {
                Err(error) if error.is_missing_object() => self.refresh().await?,
                other => return other,
            }
        }
        Err(Error::NoSuchObject {
            what: "an index run that was listed".to_owned(),
        })
    }

    /// Finds every copy of a chunk, in the order of their packs' ids.
    pub(crate) async fn locate_all(&self, id: &ChunkId) -> Result<Vec<Located>> {
        for _ in 0..VANISHED_ATTEMPTS {
            match self.locate_all_once(id).await {
                Err(error) if error.is_missing_object() => self.refresh().await?,
                other => return other,
            }
        }
        Err(Error::NoSuchObject {
            what: "an index run that was listed".to_owned(),
        })
    }

    async fn locate_all_once(&self, id: &ChunkId) -> Result<Vec<Located>> {
        let runs = self.runs();
        let mut found = Vec::new();
        for run in runs.open.values().filter(|run| run.may_have(id)) {
            let before = found.len();
            for no in run.blocks_of(id) {
                match self.block(run, no).await {
                    Ok(block) => found.extend(run.find(&block, id)),
                    // What damage hides, no other copy may be.
                    Err(Error::CorruptIndex { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            if found.len() == before {
                self.asked_in_vain(run).await;
            }
        }
        found.sort_unstable_by_key(|at| at.pack);
        found.dedup_by_key(|at| at.pack);
        Ok(found)
    }

    async fn locate_once(&self, id: &ChunkId) -> Result<Option<Located>> {
        let runs = self.runs();
        let mut damage = runs
            .damaged
            .first_key_value()
            .map(|(name, reason)| Error::CorruptIndex {
                object: name.clone(),
                reason: reason.clone(),
            });
        for run in runs.open.values().filter(|run| run.may_have(id)) {
            for no in run.blocks_of(id).rev() {
                match self.block(run, no).await {
                    Ok(block) => {
                        if let Some(found) = run.find(&block, id).next() {
                            return Ok(Some(found));
                        }
                    }
                    Err(error @ Error::CorruptIndex { .. }) => damage = Some(error),
                    Err(error) => return Err(error),
                }
            }
            self.asked_in_vain(run).await;
        }
        damage.map_or(Ok(None), Err)
    }

    /// Takes note that a run was asked for a chunk that it does not have. Once that has cost as much
    /// as reading all of it, that is done, for a filter.
    async fn asked_in_vain(&self, run: &Run) {
        if !run.deserves_filter(FILTER_BLOCKS_MIN) {
            return;
        }
        let runs = self.runs();
        let filters = runs.open.values().map(|run| run.filter_len());
        if filters.sum::<u64>() + Filter::memory_len(run.n_entries()) <= FILTERS_LEN_MAX {
            // What is wrong with a run is said to whoever needs what it has.
            let _no_filter = run.load_filter(&self.backend).await.is_err();
        }
    }

    async fn block(&self, run: &Run, no: u32) -> Result<Arc<Block>> {
        let key = (run.id(), no);
        let cache = || self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(block) = cache().get(&key) {
            return Ok(Arc::clone(block));
        }
        let block = Arc::new(run.read_block(&self.backend, no).await?);
        cache().put(key, Arc::clone(&block));
        Ok(block)
    }

    /// Publishes a run of these entries, then merges if there are many runs.
    pub(crate) async fn publish(
        &self,
        packs: BTreeSet<PackId>,
        entries: Vec<(PackId, Entry)>,
    ) -> Result<()> {
        self.publish_unmerged(packs, entries).await?;
        if self.runs().open.len() > RUNS_MAX {
            self.merge_small().await
        } else {
            Ok(())
        }
    }

    /// Publishes a run of these entries, in any order, which covers these packs. The run is
    /// durable when this returns its name.
    pub(crate) async fn publish_unmerged(
        &self,
        packs: BTreeSet<PackId>,
        mut entries: Vec<(PackId, Entry)>,
    ) -> Result<String> {
        entries.sort_unstable_by_key(|(pack, entry)| (entry.id, *pack));
        entries.dedup_by_key(|(pack, entry)| (entry.id, *pack));
        let mut writer = RunWriter::begin(&self.backend, packs, self.entropy.salt()?)?;
        for (pack, entry) in &entries {
            writer.push(pack, entry)?;
        }
        let (name, run) = writer.finish(&self.backend, 0).await?;
        self.adopt(name.clone(), run, &[]);
        Ok(name)
    }

    /// Makes sure that every run lasts which is known here: another process may have published it
    /// a moment ago. Whoever relies on what it says calls this first.
    pub(crate) async fn settle(&self) -> Result<()> {
        let runs = self.runs();
        let settled = || self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<&String> = {
            let settled = settled();
            let known = runs.open.keys();
            known.filter(|name| !settled.contains(*name)).collect()
        };
        self.backend.settle_all(&new).await?;
        *settled() = runs.open.keys().cloned().collect();
        Ok(())
    }

    /// Enters a run that was just published, and forgets runs that it replaces.
    fn adopt(&self, name: String, run: Run, replaced: &[String]) {
        let mut runs = self.runs.write().unwrap_or_else(PoisonError::into_inner);
        let mut open = runs.open.clone();
        open.retain(|name, _| !replaced.contains(name));
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.insert(name.clone());
        open.insert(name, Arc::new(run));
        *runs = Arc::new(Runs {
            open,
            damaged: runs.damaged.clone(),
        });
    }

    /// Merges the smaller runs into one. Another process may do the same at the
    /// same time: runs are deleted only after what replaces them is durable, and no run is ever made
    /// again under the name of one that somebody may be about to delete.
    async fn merge_small(&self) -> Result<()> {
        let runs = self.runs();
        let mut by_size: Vec<(&String, &Arc<Run>)> = runs.open.iter().collect();
        by_size.sort_by_key(|(name, run)| (run.n_entries(), (*name).clone()));
        let lens: Vec<u64> = by_size.iter().map(|(_, run)| run.n_entries()).collect();
        by_size.truncate(n_to_merge(&lens));
        let small: Vec<String> = by_size.iter().map(|(name, _)| (*name).clone()).collect();
        let inputs: Vec<&Run> = by_size.iter().map(|(_, run)| run.as_ref()).collect();
        let (none, salt) = (BTreeSet::new(), self.entropy.salt()?);
        match merge::merge(&self.backend, &inputs, &small, &none, salt).await {
            Ok(None) => Ok(()),
            Ok(Some((name, run))) => {
                self.adopt(name.clone(), run, &small);
                self.delete_runs(small.iter().filter(|old| **old != name))
                    .await
            }
            // Another process merged first, or a run is damaged: merging can wait.
            Err(error) if error.is_missing_object() => self.refresh().await,
            Err(Error::CorruptIndex { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn delete_runs(&self, names: impl Iterator<Item = &String>) -> Result<()> {
        futures::stream::iter(names.map(Ok))
            .try_for_each_concurrent(OPEN_PARALLEL, |name| self.backend.delete(name))
            .await
    }

    /// Replaces every run that covers one of these packs by one that does not. On return none
    /// does, as far as a listing tells.
    pub(crate) async fn drop_packs(&self, gone: &BTreeSet<PackId>) -> Result<()> {
        for _ in 0..VANISHED_ATTEMPTS {
            self.refresh().await?;
            let runs = self.runs();
            let covers = |run: &Run| run.packs().iter().any(|pack| gone.contains(pack));
            let (old, inputs): (Vec<String>, Vec<&Run>) = (runs.open.iter())
                .filter(|(_, run)| covers(run))
                .map(|(name, run)| (name.clone(), run.as_ref()))
                .unzip();
            if old.is_empty() {
                return Ok(());
            }
            let salt = self.entropy.salt()?;
            match merge::merge(&self.backend, &inputs, &old, gone, salt).await {
                // Another process merged meanwhile.
                Err(error) if error.is_missing_object() => continue,
                Err(error) => return Err(error),
                Ok(merged) => drop(merged),
            }
            self.delete_runs(old.iter()).await?;
        }
        Err(Error::Busy {
            attempts: u32::try_from(VANISHED_ATTEMPTS).unwrap_or(u32::MAX),
        })
    }

    /// All packs that a readable run covers.
    pub(crate) fn packs(&self) -> BTreeSet<PackId> {
        self.runs()
            .open
            .values()
            .flat_map(|run| run.packs().iter().copied())
            .collect()
    }

    /// Forgets everything that is cached, after the runs were replaced.
    pub(crate) async fn reopen(&self) -> Result<()> {
        *self.runs.write().unwrap_or_else(PoisonError::into_inner) = Arc::default();
        self.cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.refresh().await
    }
}

/// How many of the runs with so many entries, sorted, are to be merged: all but the largest
/// [`RUNS_KEPT`], and of those the ones that are not longer than what comes before them together. So
/// an entry is mostly rewritten when its run at least doubles: some log2(n) times among n.
fn n_to_merge(lens: &[u64]) -> usize {
    let least = lens.len().saturating_sub(RUNS_KEPT);
    let mut sum: u64 = lens[..least].iter().sum();
    let more = lens[least..].iter().take_while(|len| {
        let joins = **len <= sum;
        sum += **len;
        joins
    });
    least + more.count()
}

#[cfg(test)]
mod tests;
