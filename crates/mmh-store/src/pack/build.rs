//! Growing a pack in the staging area and publishing it.

use std::io;
use std::sync::Arc;

use mmh_core::PackId;

use super::format::{
    Entry, HEADER_LEN, Kind, PACK_SALT_LEN, RECORD_HEAD_LEN, Tail, encode_footer, encode_header,
    encode_record_head,
};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::names;
use crate::parity;
use crate::staging::StagedFile;
use crate::upload::upload;
use crate::vault::{FOOTER_NAME, Vault};

/// A pack or archive to which records are added. A pack hashes as it grows: the digest names it.
/// An archive has a name, so that its trailer's digest leaves the records out: they have checksums,
/// and their chunks ids.
#[derive(Debug)]
pub(crate) struct Growing {
    file: Arc<dyn StagedFile>,
    kind: Kind,
    hasher: blake3::Hasher,
    len: u64,
}

impl Growing {
    /// Begins a pack or archive in an empty staged file.
    pub(crate) fn begin(file: Arc<dyn StagedFile>, kind: Kind) -> io::Result<Self> {
        let header = encode_header(kind);
        file.append(&[&header])?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&header);
        Ok(Self {
            file,
            kind,
            hasher,
            len: HEADER_LEN,
        })
    }

    /// Goes on with a pack in a staged file that holds a header and whole records up to its end.
    pub(crate) fn resume(file: Arc<dyn StagedFile>, hasher: blake3::Hasher) -> Self {
        let len = file.len();
        Self {
            file,
            kind: Kind::Pack,
            hasher,
            len,
        }
    }

    /// Makes room for `len` bytes of records in an archive, which the caller will write, and returns
    /// their offset.
    pub(crate) fn reserve(&mut self, len: u64) -> u64 {
        debug_assert_eq!(self.kind, Kind::Archive, "a pack is hashed in order");
        self.len += len;
        self.len - len
    }

    /// Adds a record to a pack and returns its offset.
    pub(crate) fn append(&mut self, frame: &[u8]) -> io::Result<u64> {
        debug_assert_eq!(self.kind, Kind::Pack, "an archive is not hashed");
        let head = encode_record_head(frame);
        self.file.append(&[&head, frame])?;
        self.hasher.update(&head).update(frame);
        let offset = self.len;
        self.len += RECORD_HEAD_LEN + frame.len() as u64;
        Ok(offset)
    }

    /// Length in bytes so far.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Ends a pack whose records are these, in order, adds parity for so many per cent of it, and
    /// syncs. The `salt` sees to it that no other pack has its id: what was deleted under that id,
    /// or is about to be, is another.
    pub(crate) fn seal(
        self,
        entries: &[Entry],
        vault: &Vault,
        (parity, salt): (u32, [u8; PACK_SALT_LEN]),
    ) -> Result<PackId> {
        let mut footer = encode_footer(entries);
        footer.extend_from_slice(&salt);
        let footer = vault.seal(FOOTER_NAME, footer)?;
        let place = self.file.name();
        let ended = self.end(footer, entries.len() as u64, parity);
        ended.map_err(Error::io(place))
    }

    /// Adds footer, trailer and parity, and syncs.
    pub(crate) fn end(self, footer: Vec<u8>, n_records: u64, parity: u32) -> io::Result<PackId> {
        let tail = Tail::new(self.hasher, footer, self.len, n_records);
        self.file.append(&[&tail.footer, &tail.trailer])?;
        parity::append_for(&*self.file, parity)?;
        self.file.sync()?;
        Ok(PackId::from_digest(tail.content))
    }
}

/// Publishes a sealed pack; when it returns, the pack is durable under its name.
pub(crate) async fn publish(backend: &Backend, file: &dyn StagedFile, id: &PackId) -> Result<()> {
    publish_as(backend, file, &names::pack(id)).await
}

/// Publishes a synced staged file under any object name.
pub(crate) async fn publish_as(backend: &Backend, file: &dyn StagedFile, name: &str) -> Result<()> {
    if file.publish(name).map_err(Error::io(file.name()))? {
        return Ok(());
    }
    upload(backend, file, name).await?;
    file.discard().map_err(Error::io(file.name()))
}
