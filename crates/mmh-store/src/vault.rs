//! What stands between a repository and its disk: how ids are made, and what seals bytes.
//!
//! An unsealed repository has the plain vault: ids are BLAKE3, bytes are stored as they are. A
//! sealed one has keyed ids, and everything but its configuration, its key slots and the heads of
//! its files is sealed before it is stored. FORMAT.md, "Sealed repositories".

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use mmh_core::canonical::Canonical;
use mmh_core::ports::Ids;
use mmh_core::{ChunkId, Digest};
use mmh_crypto::padding::padme;
use mmh_crypto::seal::OVERHEAD_LEN;
use mmh_crypto::{IdKey, ReadKey, Sealer};

use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::objects::{SEAL_LEN, open_sealed, seal};

/// The name under which frames are sealed.
pub(crate) const FRAME_NAME: &str = "mmh/frames";
/// The name under which footers of packs are sealed.
pub(crate) const FOOTER_NAME: &str = "mmh/packs";
/// The name under which blocks of index runs are sealed.
pub(crate) const BLOCK_NAME: &str = "mmh/index/blocks";
/// The name under which tails of index runs are sealed.
pub(crate) const TAIL_NAME: &str = "mmh/index";

/// The keys of an open repository. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vault(Option<Arc<Keys>>);

/// The vault of repositories and archives without keys.
pub(crate) static PLAIN: Vault = Vault(None);

#[derive(Debug)]
struct Keys {
    ids: IdKey,
    content: Sealer,
    index: Sealer,
}

/// Bytes that were sealed or opened; those of an open repository are only borrowed.
#[derive(Debug)]
pub(crate) enum Passed<'a> {
    /// Nothing was to be done.
    Same(&'a [u8]),
    /// A buffer of their own.
    Other(Buffer),
}

impl Deref for Passed<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Same(bytes) => bytes,
            Self::Other(bytes) => bytes,
        }
    }
}

/// A buffer with these bytes and room for `more`.
fn copied(bytes: &[u8], more: usize) -> Buffer {
    let mut buffer = Buffer::idle(bytes.len() + more);
    buffer.clear();
    buffer.reserve_exact(bytes.len() + more);
    buffer.extend_from_slice(bytes);
    buffer
}

impl Ids for Vault {
    fn digest(&self, content: &[u8]) -> Digest {
        match &self.0 {
            Some(keys) => keys.ids.id(content),
            None => Digest::of(content),
        }
    }
}

impl Vault {
    /// The vault of a sealed repository.
    pub(crate) fn new(key: &ReadKey) -> Self {
        Self(Some(Arc::new(Keys {
            ids: key.id_key(),
            content: key.content(),
            index: key.index(),
        })))
    }

    /// The id of a chunk.
    pub(crate) fn id(&self, raw: &[u8]) -> ChunkId {
        ChunkId::from_digest(self.digest(raw))
    }

    /// What makes the id of a chunk that comes one piece after the other.
    pub(crate) fn hasher(&self) -> blake3::Hasher {
        match &self.0 {
            Some(keys) => keys.ids.hasher(),
            None => blake3::Hasher::new(),
        }
    }

    /// How many bytes `len` bytes take once they are stored.
    pub(crate) fn stored_len(&self, len: u64) -> u64 {
        match &self.0 {
            Some(_) => padme(len.saturating_add(1)).saturating_add(OVERHEAD_LEN as u64),
            None => len,
        }
    }

    /// A frame as it is stored: the chunk's id goes with it, so that a frame cannot be passed off
    /// as another chunk's, and so that it can be named where nothing else names it.
    pub(crate) fn seal_frame<'a>(&self, id: &ChunkId, frame: &'a [u8]) -> Result<Passed<'a>> {
        let Some(keys) = &self.0 else {
            return Ok(Passed::Same(frame));
        };
        // As much as sealing asks for, so that it does not copy once more.
        let len = frame.len() + ID_LEN;
        let mut bytes = copied(frame, ID_LEN + len / 8 + 2 + OVERHEAD_LEN);
        bytes.extend_from_slice(id.as_bytes());
        keys.content.seal(FRAME_NAME.as_bytes(), &mut bytes)?;
        Ok(Passed::Other(bytes))
    }

    /// The frame that `seal_frame` stored; of the chunk `id`, if that is given.
    pub(crate) fn open_frame<'a>(
        &self,
        stored: &'a [u8],
        id: Option<&ChunkId>,
    ) -> std::result::Result<Passed<'a>, String> {
        let Some(keys) = &self.0 else {
            return Ok(Passed::Same(stored));
        };
        let mut bytes = copied(stored, 0);
        let opened = keys.content.open(FRAME_NAME.as_bytes(), &mut bytes);
        opened.map_err(|e| e.to_string())?;
        let Some((_, found)) = bytes.split_last_chunk::<ID_LEN>() else {
            return Err("it is too short for an id".to_owned());
        };
        if id.is_some_and(|id| id.as_bytes() != found) {
            return Err("it is the frame of another chunk".to_owned());
        }
        let len = bytes.len() - ID_LEN;
        bytes.truncate(len);
        Ok(Passed::Other(bytes))
    }

    /// A part of the structure as it is stored.
    pub(crate) fn seal(&self, name: &str, mut bytes: Vec<u8>) -> Result<Vec<u8>> {
        if let Some(keys) = &self.0 {
            keys.index.seal(name.as_bytes(), &mut bytes)?;
        }
        Ok(bytes)
    }

    /// What [`Vault::seal`] stored.
    pub(crate) fn open<'a>(
        &self,
        name: &str,
        stored: &'a [u8],
    ) -> std::result::Result<Passed<'a>, String> {
        let Some(keys) = &self.0 else {
            return Ok(Passed::Same(stored));
        };
        let mut bytes = copied(stored, 0);
        let opened = keys.index.open(name.as_bytes(), &mut bytes);
        opened.map_err(|e| e.to_string())?;
        Ok(Passed::Other(bytes))
    }

    /// Encodes a small object for storing under its name, with the digest of its encoding.
    pub(crate) fn seal_object<T: Canonical>(
        &self,
        name: &str,
        value: &T,
    ) -> Result<(Bytes, Digest)> {
        let (bytes, digest) = seal(value)?;
        if self.0.is_none() {
            return Ok((bytes, digest));
        }
        Ok((self.seal(name, bytes.into())?.into(), digest))
    }

    /// Reads an object that [`Vault::seal_object`] encoded for this name.
    pub(crate) fn open_object<T: Canonical>(
        &self,
        bytes: &[u8],
        name: &str,
    ) -> Result<(T, Digest)> {
        let opened = self.open(name, bytes).map_err(|reason| Error::Corrupt {
            object: name.to_owned(),
            reason,
        })?;
        open_sealed(&opened, name)
    }

    /// Most bytes that an object of this type takes once it is stored.
    pub(crate) fn object_len_max<T: Canonical>(&self) -> usize {
        let most = self.stored_len((T::LEN_MAX + SEAL_LEN) as u64);
        usize::try_from(most).unwrap_or(usize::MAX)
    }
}

const ID_LEN: usize = 32;

#[cfg(test)]
pub(crate) mod tests {
    use mmh_core::ErrorKind;
    use mmh_core::object::{Checkpoint, CheckpointTag};
    use mmh_crypto::{RootSeed, Secret};
    use proptest::prelude::*;

    use super::*;
    use crate::conformance::noise;

    pub(crate) fn sealed(seed: u8) -> Vault {
        let root = RootSeed::from_secret(Secret::from_bytes(&[seed; 32]));
        Vault::new(&root.read_key())
    }

    #[test]
    fn a_plain_vault_changes_nothing() {
        let id = PLAIN.id(b"abc");
        assert_eq!(id, ChunkId::of(b"abc"));
        assert_eq!(&*PLAIN.seal_frame(&id, b"frame").unwrap(), b"frame");
        assert_eq!(&*PLAIN.open_frame(b"frame", Some(&id)).unwrap(), b"frame");
        assert_eq!(PLAIN.seal("x", b"table".to_vec()).unwrap(), b"table");
        assert_eq!(PLAIN.stored_len(77), 77);
    }

    #[test]
    fn a_frame_opens_as_its_own_chunk_alone() {
        let vault = sealed(1);
        let (id, other) = (vault.id(b"abc"), vault.id(b"abd"));
        assert_ne!(id, ChunkId::of(b"abc"));
        let stored = vault.seal_frame(&id, b"frame").unwrap();
        assert_eq!(stored.len() as u64, vault.stored_len(5 + 32));
        assert_eq!(&*vault.open_frame(&stored, Some(&id)).unwrap(), b"frame");
        assert_eq!(&*vault.open_frame(&stored, None).unwrap(), b"frame");
        assert!(vault.open_frame(&stored, Some(&other)).is_err());
        assert!(sealed(2).open_frame(&stored, Some(&id)).is_err());
        assert!(vault.open(FRAME_NAME, &stored).is_err(), "keys differ");
        for bit in 0..stored.len() * 8 {
            let mut bad = stored.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(vault.open_frame(&bad, Some(&id)).is_err(), "bit {bit}");
        }
        for len in 0..stored.len() {
            assert!(vault.open_frame(&stored[..len], None).is_err(), "{len}");
        }
    }

    /// Other stored bytes would be another format: these must never change.
    #[test]
    fn a_known_frame_is_stored_as_it_always_was() {
        let vault = sealed(1);
        let stored = vault.seal_frame(&vault.id(b"abc"), b"frame").unwrap();
        let entry = vault.seal("mmh/log/1", b"entry".to_vec()).unwrap();
        assert_eq!(
            [Digest::of(&stored), Digest::of(&entry)].map(|d| d.to_string()[..16].to_owned()),
            ["c31ee7f99d286855", "5d62025b8c1a16ad"]
        );
    }

    /// An authentic piece that is too short for an id is refused, not a panic.
    #[test]
    fn a_frame_without_an_id_is_refused() {
        let vault = sealed(1);
        let mut short = b"short".to_vec();
        let keys = vault.0.as_ref().unwrap();
        keys.content
            .seal(FRAME_NAME.as_bytes(), &mut short)
            .unwrap();
        assert!(
            vault
                .open_frame(&short, None)
                .unwrap_err()
                .contains("short")
        );
    }

    /// A log entry moved to another number does not open there.
    #[test]
    fn an_object_opens_under_its_own_name_alone() {
        let value = Checkpoint {
            r#type: CheckpointTag::Tag,
            seq: 64,
            head: Digest::of(b"h"),
            refs: std::collections::BTreeMap::new(),
        };
        let vault = sealed(1);
        let (bytes, digest) = vault.seal_object("a/1", &value).unwrap();
        assert!(bytes.len() <= vault.object_len_max::<Checkpoint>());
        assert_eq!(digest, PLAIN.seal_object("a/1", &value).unwrap().1);
        let opened: (Checkpoint, _) = vault.open_object(&bytes, "a/1").unwrap();
        assert_eq!(opened, (value, digest));
        for bad in [
            vault.open_object::<Checkpoint>(&bytes, "a/2"),
            sealed(2).open_object(&bytes, "a/1"),
            PLAIN.open_object(&bytes, "a/1"),
            vault.open_object(&bytes[1..], "a/1"),
        ] {
            assert_eq!(bad.unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    proptest! {
        #[test]
        fn what_is_stored_comes_back(seed: u64, len in 0..5000usize) {
            let (vault, bytes) = (sealed(3), noise(seed, len));
            let stored = vault.seal("n", bytes.clone()).unwrap();
            prop_assert_eq!(stored.len() as u64, vault.stored_len(len as u64));
            prop_assert_eq!(&*vault.open("n", &stored).unwrap(), &bytes[..]);
            prop_assert!(vault.open("m", &stored).is_err());
        }

        #[test]
        fn any_bytes_are_refused_without_panic(bytes: Vec<u8>) {
            prop_assert!(sealed(4).open_frame(&bytes, None).is_err());
            prop_assert!(sealed(4).open("n", &bytes).is_err());
        }
    }
}
