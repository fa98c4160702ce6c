//! Whether a chunk is in a store so that a commit may rely on it: in a pack that is there and has no
//! tomb, with everything that its frame refers to. FORMAT.md, "Garbage collection".

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mmh_core::{ChunkId, PackId};

use crate::error::Result;
use crate::frame::{self, REFERENCE_DEPTH_MAX};
use crate::index::Located;
use crate::names;
use crate::store::Store;

/// What a commit relies on.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    /// Packs that were looked at: whether they may be relied on, and are.
    packs: Mutex<HashMap<PackId, bool>>,
    /// Others said that chunks are there, but not in which packs.
    any: AtomicBool,
}

impl Presence {
    fn looked(&self) -> MutexGuard<'_, HashMap<PackId, bool>> {
        self.packs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Relies on a pack that was just published.
    pub(crate) fn add(&self, pack: PackId) {
        self.looked().insert(pack, true);
    }

    /// Relies on whatever is there: no pack may be collected before the commit.
    pub(crate) fn rely_on_any(&self) {
        self.any.store(true, Ordering::Relaxed);
    }

    /// The packs that are relied on; `None` if that may be any.
    pub(crate) fn relied(&self) -> Option<BTreeSet<PackId>> {
        if self.any.load(Ordering::Relaxed) {
            return None;
        }
        let looked = self.looked();
        let packs = looked.iter().filter(|(_, good)| **good);
        Some(packs.map(|(pack, _)| *pack).collect())
    }

    /// Whether a pack may be relied on: it has no tomb, and is there. Looked up once by name, in
    /// this order: a tomb goes only after its pack.
    async fn relies_on(&self, store: &Store, pack: &PackId) -> Result<bool> {
        if let Some(known) = self.looked().get(pack) {
            return Ok(*known);
        }
        let backend = store.backend();
        let condemned = backend.len(&names::tomb(pack)).await?.is_some();
        let good = !condemned && backend.len(&names::pack(pack)).await?.is_some();
        self.looked().insert(*pack, good);
        Ok(good)
    }

    /// Whether a published copy of the chunk may be relied on, and what its frame refers to too;
    /// what is `pending` counts as there.
    pub(crate) async fn holds(
        &self,
        store: &Store,
        id: &ChunkId,
        pending: &(dyn Fn(&ChunkId) -> bool + Sync),
    ) -> Result<bool> {
        let look = Look {
            presence: self,
            store,
            pending,
        };
        look.holds(id, 0).await
    }
}

/// One search.
#[derive(Clone, Copy)]
struct Look<'a> {
    presence: &'a Presence,
    store: &'a Store,
    pending: &'a (dyn Fn(&ChunkId) -> bool + Sync),
}

impl Look<'_> {
    async fn holds(self, id: &ChunkId, depth: usize) -> Result<bool> {
        let Some(at) = self.store.index().locate(id).await? else {
            return Ok(false);
        };
        if self.holds_copy(&at, depth).await? {
            return Ok(true);
        }
        for other in self.store.index().locate_all(id).await? {
            if other.pack != at.pack && self.holds_copy(&other, depth).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn holds_copy(self, at: &Located, depth: usize) -> Result<bool> {
        Ok(self.presence.relies_on(self.store, &at.pack).await?
            && self.holds_references(at, depth).await?)
    }

    async fn holds_references(self, at: &Located, depth: usize) -> Result<bool> {
        if !frame::has_references(at.entry.method) {
            return Ok(true);
        }
        if depth == REFERENCE_DEPTH_MAX {
            return Ok(false);
        }
        let read = self.store.frame_at(at).await;
        let references = read.map(|frame| mmh_codec::references(&frame));
        let Ok(Ok(references)) = references else {
            // Damaged: the chunk is stored again.
            return Ok(false);
        };
        for (_, id) in frame::named(&references) {
            if !(self.pending)(&id) && !Box::pin(self.holds(&id, depth + 1)).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
