//! The whole index in memory, for passes that look every chunk up: 32 bytes for each.
//!
//! Such a pass asks for ids in no order, so that most lookups would read and hash another block of
//! 256 entries. One sorted reading of all runs costs as much as a few thousand of them.
//!
//! An id is kept by its first 128 bits. That two ids share them would need 2^64 attempts to bring
//! about, and then at worst the record of one is compared with the id of the other and refused.

use mmh_core::ports::Cancel;
use mmh_core::{ChunkId, PackId};

use super::{Index, Located, Merged};
use crate::error::{Error, Result};
use crate::pack::Entry;

/// Entries between two looks at whether the user has had enough.
const CANCEL_EVERY: usize = 4096;

/// One copy of every chunk, as the index was when it was read.
#[derive(Debug)]
pub(crate) struct Whole {
    packs: Vec<PackId>,
    /// Sorted, each once.
    keys: Vec<u128>,
    /// In the order of keys.
    places: Vec<Place>,
}

/// Where a chunk lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Its pack's place in the list.
    pack: u32,
    offset: u32,
    stored_len: u32,
    /// Method and raw length, as in a run.
    packed: u32,
}

fn key(id: &ChunkId) -> u128 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&id.as_bytes()[..16]);
    u128::from_be_bytes(bytes)
}

impl Whole {
    /// Reads all runs once.
    ///
    /// # Errors
    /// Corrupt if a run is damaged; NotFound if one was merged away meanwhile; cancelled.
    pub(crate) async fn load(index: &Index, cancel: &Cancel) -> Result<Self> {
        let runs = index.runs();
        if let Some((object, reason)) = runs.damaged.first_key_value() {
            let (object, reason) = (object.clone(), reason.clone());
            return Err(Error::CorruptIndex { object, reason });
        }
        // Their lengths were compared with the lengths of their files.
        let n: u64 = runs.open.values().map(|run| run.n_entries()).sum();
        let n = usize::try_from(n).unwrap_or(0);
        let mut whole = Self {
            packs: index.packs().into_iter().collect(),
            keys: Vec::with_capacity(n),
            places: Vec::with_capacity(n),
        };
        let open = runs.open.values().map(AsRef::as_ref);
        let mut merged = Merged::begin(&index.backend, open).await?;
        let mut copies = Vec::new();
        while merged.next(&mut copies).await? {
            if let Some(at) = copies.first() {
                whole.push(at)?;
            }
            if whole.keys.len().is_multiple_of(CANCEL_EVERY) {
                cancel.check()?;
            }
        }
        Ok(whole)
    }

    fn push(&mut self, at: &Located) -> Result<()> {
        let key = key(&at.entry.id);
        if self.keys.last() == Some(&key) {
            return Ok(());
        }
        let pack = self.packs.binary_search(&at.pack).ok();
        let fits = pack.and_then(|no| u32::try_from(no).ok());
        let (Some(pack), Ok(offset)) = (fits, u32::try_from(at.entry.offset)) else {
            return Err(Error::Internal {
                what: format!("an entry of pack {}, which no run covers", at.pack),
            });
        };
        self.keys.push(key);
        self.places.push(Place {
            pack,
            offset,
            stored_len: at.entry.stored_len,
            packed: at.entry.packed(),
        });
        Ok(())
    }

    /// Finds a chunk; `None` also if it came later.
    pub(crate) fn locate(&self, id: &ChunkId) -> Option<Located> {
        let at = self.keys.binary_search(&key(id)).ok()?;
        let place = self.places.get(at)?;
        let pack = *self.packs.get(place.pack as usize)?;
        let offset = u64::from(place.offset);
        let entry = Entry::unpack(*id, offset, place.stored_len, place.packed)?;
        Some(Located { pack, entry })
    }
}

#[cfg(test)]
mod tests {
    use mmh_core::ErrorKind;

    use super::super::tests::{entry, index, pack, publish};
    use super::*;
    use crate::names;

    #[tokio::test]
    async fn it_answers_as_the_runs_do() {
        let (_, index) = index().await;
        publish(&index, pack(1), 0..700).await;
        publish(&index, pack(2), 500..900).await;
        let whole = Whole::load(&index, &Cancel::default()).await.unwrap();
        assert_eq!(whole.keys.len(), 900, "each chunk once");
        for n in 0..1000 {
            let found = whole.locate(&entry(n).id);
            let copies = index.locate_all(&entry(n).id).await.unwrap();
            assert_eq!(found, copies.first().copied(), "{n}");
        }
        assert_eq!(whole.locate(&ChunkId::of(b"none")), None);
    }

    #[tokio::test]
    async fn an_empty_index_has_nothing() {
        let (_, index) = index().await;
        let whole = Whole::load(&index, &Cancel::default()).await.unwrap();
        assert_eq!(whole.locate(&entry(1).id), None);
    }

    /// What a damaged run knows would else be said to be missing.
    #[tokio::test]
    async fn damage_is_an_error() {
        let (backend, index) = index().await;
        let name = publish(&index, pack(1), 0..10).await;
        let bytes = backend.read(&name, 1 << 20).await.unwrap().unwrap();
        for at in [20, bytes.len() - 1] {
            let mut bad = bytes.to_vec();
            bad[at] ^= 1;
            backend.write(&name, bad).await.unwrap();
            let fresh = Index::open(
                backend.clone(),
                std::sync::Arc::new(crate::entropy::SystemEntropy),
            )
            .await
            .unwrap();
            let error = Whole::load(&fresh, &Cancel::default()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        }
        assert_eq!(backend.list(names::INDEX).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn whoever_has_had_enough_is_heard() {
        let (_, index) = index().await;
        publish(&index, pack(1), 0..9000).await;
        let cancel = Cancel::default();
        cancel.cancel();
        assert!(Whole::load(&index, &cancel).await.is_err());
    }
}
