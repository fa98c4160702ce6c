//! The lists of pruned snapshots: whose trees may be gone, as garbage collection left only what
//! they say of themselves.
//!
//! Each run writes the union of all lists and its own, then deletes the lists it read. Two runs at
//! once leave two lists, both read.

use std::collections::BTreeSet;

use mmh_core::SnapshotId;

use super::note::{PrunedNote, PrunedTag};
use crate::error::Result;
use crate::names;
use crate::objects::seal;
use crate::store::Store;

/// How often the lists are read again because one vanished.
const ATTEMPTS: usize = 4;

impl Store {
    /// Snapshots whose trees may be gone, because garbage collection was told to keep fewer. What
    /// the snapshots say of themselves stays.
    ///
    /// # Errors
    /// Corrupt; Unavailable.
    pub async fn pruned(&self) -> Result<BTreeSet<SnapshotId>> {
        Ok(self.read_pruned().await?.1)
    }

    async fn read_pruned(&self) -> Result<(Vec<String>, BTreeSet<SnapshotId>)> {
        let mut attempt = 0;
        'again: loop {
            attempt += 1;
            let mut all = BTreeSet::new();
            let mut read = Vec::new();
            for (name, _) in self.backend().list(names::PRUNED).await? {
                match self.backend().read_note::<PrunedNote>(&name).await? {
                    Some(note) => all.extend(note.snapshots),
                    // Another run has put it into a longer list.
                    None if attempt < ATTEMPTS => continue 'again,
                    None => {}
                }
                read.push(name);
            }
            return Ok((read, all));
        }
    }

    /// Adds to the lists; durable on return. Returns how many were in none.
    ///
    /// # Errors
    /// Denied; Corrupt; Unavailable.
    pub async fn add_pruned(&self, more: &BTreeSet<SnapshotId>) -> Result<u64> {
        let (old, mut all) = self.read_pruned().await?;
        let before = all.len();
        all.extend(more);
        let new = all.len() - before;
        if new == 0 {
            return Ok(0);
        }
        let note = PrunedNote {
            r#type: PrunedTag::Tag,
            snapshots: all.into_iter().collect(),
        };
        let name = names::pruned(&seal(&note)?.1);
        self.backend().write_note(&name, &note).await?;
        for old in old.iter().filter(|old| **old != name) {
            self.backend().delete(old).await?;
        }
        Ok(new as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::store::InitOptions;

    fn ids(numbers: std::ops::Range<u8>) -> BTreeSet<SnapshotId> {
        numbers.map(|n| SnapshotId::of(&[n])).collect()
    }

    #[tokio::test]
    async fn lists_grow_into_one() {
        let backend = Backend::memory();
        let store = Store::init(backend.clone(), InitOptions::default()).await;
        let store = store.unwrap();
        assert!(store.pruned().await.unwrap().is_empty());
        for range in [0..3, 1..3, 2..9] {
            store.add_pruned(&ids(range.clone())).await.unwrap();
            assert!(ids(range).is_subset(&store.pruned().await.unwrap()));
            assert_eq!(backend.list(names::PRUNED).await.unwrap().len(), 1);
        }
        assert_eq!(store.pruned().await.unwrap(), ids(0..9));
        store.add_pruned(&BTreeSet::new()).await.unwrap();
        assert_eq!(store.pruned().await.unwrap(), ids(0..9));
    }

    /// A second list, by a run at the same time, counts as well; a damaged one is said.
    #[tokio::test]
    async fn several_lists_are_read_together() {
        let backend = Backend::memory();
        let store = Store::init(backend.clone(), InitOptions::default()).await;
        let store = store.unwrap();
        store.add_pruned(&ids(0..2)).await.unwrap();
        let other = PrunedNote {
            r#type: PrunedTag::Tag,
            snapshots: ids(5..7).into_iter().collect(),
        };
        let name = names::pruned(&seal(&other).unwrap().1);
        backend.write_note(&name, &other).await.unwrap();
        let both = &ids(0..2) | &ids(5..7);
        assert_eq!(store.pruned().await.unwrap(), both);
        backend.write(&name, &b"rot"[..]).await.unwrap();
        assert!(store.pruned().await.is_err());
    }
}
