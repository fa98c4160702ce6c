//! The index: immutable sorted runs that say in which pack a chunk lies. FORMAT.md, "Index runs".
//!
//! The index can always be made anew from the packs. A damaged run therefore never stops a store
//! from opening: what other runs know is still found, and only a chunk that none of them knows
//! makes the damage an error.

mod format;
mod merge;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use futures::{StreamExt, TryStreamExt};
use lru::LruCache;
use mmh_core::{ChunkId, Digest, PackId};

pub(crate) use format::Located;
pub use format::{
    BLOCK_ENTRIES, BLOCK_LEN, RUN_COUNTS_LEN, RUN_ENTRY_LEN, RUN_FENCE_LEN, RUN_TRAILER_LEN,
    RUN_TRAILER_MAGIC, fuzz_run,
};
pub(crate) use run::{Run, RunWriter};

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::names;
use crate::pack::Entry;
use format::Block;

/// Blocks kept in memory: 2048 of 12 KiB are 24 MiB.
const CACHE_BLOCKS: NonZeroUsize = NonZeroUsize::new(2048).expect("it is not zero");
/// More runs than this are merged.
pub const RUNS_MAX: usize = 32;
/// Runs that are left alone by a merge: the largest ones.
const RUNS_KEPT: usize = 8;
/// Runs that are opened at the same time.
const OPEN_PARALLEL: usize = 8;
/// How often a lookup starts again because a merge took its run away.
const VANISHED_ATTEMPTS: usize = 8;

/// All runs of a repository, and a cache of their blocks.
#[derive(Debug)]
pub(crate) struct Index {
    backend: Backend,
    runs: RwLock<Arc<Runs>>,
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
    pub(crate) async fn open(backend: Backend) -> Result<Self> {
        let cache = Mutex::new(LruCache::new(CACHE_BLOCKS));
        let index = Self {
            backend,
            runs: RwLock::default(),
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
        let old = self.runs();
        let mut fresh = Runs::default();
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
                Err(error) if error.is_missing_object() => {}
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
        *self.runs.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        Ok(())
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

    async fn locate_once(&self, id: &ChunkId) -> Result<Option<Located>> {
        let runs = self.runs();
        let mut damage = runs
            .damaged
            .first_key_value()
            .map(|(name, reason)| Error::CorruptIndex {
                object: name.clone(),
                reason: reason.clone(),
            });
        for run in runs.open.values() {
            let Some(no) = run.block_of(id) else { continue };
            match self.block(run, no).await {
                Ok(block) => {
                    if let Some(found) = run.find(&block, id) {
                        return Ok(Some(found));
                    }
                }
                Err(error @ Error::CorruptIndex { .. }) => damage = Some(error),
                Err(error) => return Err(error),
            }
        }
        damage.map_or(Ok(None), Err)
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
        entries.dedup_by_key(|(_, entry)| entry.id);
        let mut writer = RunWriter::begin(&self.backend, packs)?;
        for (pack, entry) in &entries {
            writer.push(pack, entry)?;
        }
        let (name, run) = writer.finish(&self.backend, 0).await?;
        self.adopt(name.clone(), run, &[]);
        Ok(name)
    }

    /// Enters a run that was just published, and forgets runs that it replaces.
    fn adopt(&self, name: String, run: Run, replaced: &[String]) {
        let mut runs = self.runs.write().unwrap_or_else(PoisonError::into_inner);
        let mut open = runs.open.clone();
        open.retain(|name, _| !replaced.contains(name));
        open.insert(name, Arc::new(run));
        *runs = Arc::new(Runs {
            open,
            damaged: runs.damaged.clone(),
        });
    }

    /// Merges all runs but the largest ones into one. Another process may do the same at the
    /// same time: runs are deleted only after what replaces them is durable, and equal runs have
    /// equal names.
    async fn merge_small(&self) -> Result<()> {
        let runs = self.runs();
        let mut by_size: Vec<(&String, &Arc<Run>)> = runs.open.iter().collect();
        by_size.sort_by_key(|(name, run)| (run.n_entries(), (*name).clone()));
        by_size.truncate(by_size.len().saturating_sub(RUNS_KEPT));
        let small: Vec<String> = by_size.iter().map(|(name, _)| (*name).clone()).collect();
        let inputs: Vec<&Run> = by_size.iter().map(|(_, run)| run.as_ref()).collect();
        match merge::merge(&self.backend, &inputs, &small).await {
            Ok((name, run)) => {
                self.adopt(name.clone(), run, &small);
                futures::stream::iter(small.iter().filter(|old| **old != name).map(Ok))
                    .try_for_each_concurrent(OPEN_PARALLEL, |old| self.backend.delete(old))
                    .await
            }
            // Another process merged first, or a run is damaged: merging can wait.
            Err(error) if error.is_missing_object() => self.refresh().await,
            Err(Error::CorruptIndex { .. }) => Ok(()),
            Err(error) => Err(error),
        }
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
