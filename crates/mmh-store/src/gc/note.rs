//! The small objects that garbage collection and writers leave for each other: leases, tombs,
//! boundary markers, and lists of pruned snapshots. FORMAT.md, "Garbage collection".

use mmh_core::canonical::Canonical;
use mmh_core::{PackId, SnapshotId};
use serde::{Deserialize, Serialize};

use crate::backend::Backend;
use crate::error::{Error, Result};

/// Makes the zero-sized `type` field of a note.
macro_rules! tag {
    ($name:ident, $text:literal) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
        pub(crate) enum $name {
            #[default]
            #[serde(rename = $text)]
            Tag,
        }
    };
}

tag!(LeaseTag, "lease");
tag!(TombTag, "tomb");
tag!(BoundaryTag, "boundary");
tag!(PrunedTag, "pruned");

/// Somebody is at work, and wants nothing to be collected that it may have seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeaseNote {
    /// Always `"lease"`.
    pub r#type: LeaseTag,
    /// What it does: `write`, `read`, `gc`.
    pub purpose: String,
    /// When it began, in milliseconds since 1970-01-01 UTC on its own clock.
    pub started_ms: u64,
    /// When the lease ends unless it is renewed, on the same clock.
    pub expires_ms: u64,
    /// The last log entry that it knew when it began.
    pub seq: u64,
    /// Packs that it has published and that no ref reaches yet, sorted.
    pub pins: Vec<PackId>,
}

impl Canonical for LeaseNote {
    const WHAT: &'static str = "lease";
    /// A million packs, at 64 MiB a writer of 64 TiB.
    const LEN_MAX: usize = 64 << 20;

    fn check(&self) -> mmh_core::Result<()> {
        Ok(())
    }
}

/// A pack that nobody may rely on any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TombNote {
    /// Always `"tomb"`.
    pub r#type: TombTag,
    /// When it was laid, in milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
}

impl Canonical for TombNote {
    const WHAT: &'static str = "tomb";

    fn check(&self) -> mmh_core::Result<()> {
        Ok(())
    }
}

/// Log entries up to this number may be gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BoundaryNote {
    /// Always `"boundary"`.
    pub r#type: BoundaryTag,
    /// The number.
    pub seq: u64,
}

impl Canonical for BoundaryNote {
    const WHAT: &'static str = "boundary";

    fn check(&self) -> mmh_core::Result<()> {
        Ok(())
    }
}

/// Snapshots whose trees may be gone although later ones have them among their ancestors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PrunedNote {
    /// Always `"pruned"`.
    pub r#type: PrunedTag,
    /// Their ids, sorted, each once.
    pub snapshots: Vec<SnapshotId>,
}

impl Canonical for PrunedNote {
    const WHAT: &'static str = "pruned";
    /// Six million snapshots.
    const LEN_MAX: usize = 256 << 20;

    fn check(&self) -> mmh_core::Result<()> {
        if self.snapshots.is_sorted_by(|a, b| a < b) {
            return Ok(());
        }
        Err(mmh_core::Error::BadObject {
            what: Self::WHAT,
            reason: "snapshots are not sorted, each once".to_owned(),
        })
    }
}

impl Backend {
    /// Writes a note under a name that only its owner writes, or that always has these bytes.
    pub(crate) async fn write_note<T: Canonical>(&self, name: &str, note: &T) -> Result<()> {
        let (bytes, _) = self.vault().seal_object(name, note)?;
        self.write(name, bytes).await
    }

    /// Reads a note; `None` if there is none.
    pub(crate) async fn read_note<T: Canonical>(&self, name: &str) -> Result<Option<T>> {
        let vault = self.vault();
        let Some(bytes) = self.read(name, vault.object_len_max::<T>()).await? else {
            return Ok(None);
        };
        vault.open_object(&bytes, name).map(|(note, _)| Some(note))
    }

    /// Reads a note whose damage costs no more than its absence.
    pub(crate) async fn read_note_if_whole<T: Canonical>(&self, name: &str) -> Result<Option<T>> {
        match self.read_note(name).await {
            Err(Error::Corrupt { .. } | Error::Core(_)) => Ok(None),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pruned(n: u8) -> PrunedNote {
        let mut snapshots: Vec<_> = (0..n).map(|n| SnapshotId::of(&[n])).collect();
        snapshots.sort_unstable();
        PrunedNote {
            r#type: PrunedTag::Tag,
            snapshots,
        }
    }

    #[tokio::test]
    async fn notes_are_read_as_they_were_written() {
        let backend = Backend::memory();
        let lease = LeaseNote {
            r#type: LeaseTag::Tag,
            purpose: "write".to_owned(),
            started_ms: 1,
            expires_ms: 2,
            seq: 3,
            pins: vec![PackId::of(b"p")],
        };
        backend.write_note("mmh/l", &lease).await.unwrap();
        assert_eq!(backend.read_note("mmh/l").await.unwrap(), Some(lease));
        backend.write_note("mmh/p", &pruned(3)).await.unwrap();
        assert_eq!(backend.read_note("mmh/p").await.unwrap(), Some(pruned(3)));
        assert_eq!(backend.read_note::<TombNote>("mmh/t").await.unwrap(), None);
        // One kind of note is not another.
        assert!(backend.read_note::<TombNote>("mmh/p").await.is_err());
        let none = backend.read_note_if_whole::<TombNote>("mmh/p").await;
        assert_eq!(none.unwrap(), None);
    }

    #[tokio::test]
    async fn a_cut_or_flipped_note_is_damage_and_never_another_note() {
        let backend = Backend::memory();
        backend.write_note("mmh/p", &pruned(2)).await.unwrap();
        let bytes = backend.read("mmh/p", 1000).await.unwrap().unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            backend.write("mmh/p", bad).await.unwrap();
            assert!(backend.read_note::<PrunedNote>("mmh/p").await.is_err());
        }
        for len in 0..bytes.len() {
            backend.write("mmh/p", bytes.slice(..len)).await.unwrap();
            assert!(backend.read_note::<PrunedNote>("mmh/p").await.is_err());
        }
    }

    #[test]
    fn a_list_of_pruned_snapshots_is_sorted() {
        let mut note = pruned(3);
        note.snapshots.reverse();
        assert!(note.check().is_err());
        assert!(pruned(0).check().is_ok());
    }
}
