//! Filling the cache of whole files before anybody reads them.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use mmh_core::name::Target;
use mmh_core::tree::Node;
use mmh_core::{ByteRange, Digest, FileId, Verified};
use serde::Serialize;

use super::cache::FileCache;
use super::content::write_all_at;
use crate::error::{Error, Result};
use crate::list::Listed;
use crate::repository::Repository;

/// A file that is to be in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its path below what was named, for messages.
    pub path: String,
    /// Which one.
    pub id: FileId,
    /// Its length in bytes, as its folder states it.
    pub size: u64,
}

/// What became of a prefetch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PrefetchReport {
    /// Files that were decoded.
    pub fetched: u64,
    /// Their bytes.
    pub fetched_bytes: u64,
    /// Files that were there already, and are right.
    pub kept: u64,
    /// Their bytes.
    pub kept_bytes: u64,
    /// Files that are not kept, and why.
    pub skipped: Vec<String>,
}

impl Repository {
    /// The files at or below a target, in order of path.
    ///
    /// # Errors
    /// Those of [`Self::list`].
    pub fn files_of(&self, target: &Target) -> Result<Vec<Wanted>> {
        let wanted = |Listed { path, node }| match node {
            Node::File { id, size, .. } => Some(Wanted { path, id, size }),
            _ => None,
        };
        Ok(self
            .list(target, true)?
            .into_iter()
            .filter_map(wanted)
            .collect())
    }

    /// The digest of a file's content, by which a cache knows it, if the file states it.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    pub fn digest_of(&self, id: FileId) -> Result<Option<Digest>> {
        Ok(self.open_file(id)?.file().blake3)
    }

    /// Sees that these files are whole in the cache.
    ///
    /// # Errors
    /// Those of reading. What does not fit is no error but told.
    pub fn prefetch(&self, files: &[Wanted], cache: &FileCache) -> Result<PrefetchReport> {
        let total = files.iter().map(|f| f.size).fold(0, u64::saturating_add);
        self.progress().begin("fetching", Some(total));
        let mut report = PrefetchReport::default();
        let done = (files.iter()).try_for_each(|file| self.prefetch_file(file, cache, &mut report));
        self.progress().end();
        done.map(|()| report)
    }

    fn prefetch_file(
        &self,
        wanted: &Wanted,
        cache: &FileCache,
        report: &mut PrefetchReport,
    ) -> Result<()> {
        self.shop.components.cancel.check()?;
        self.progress().item(&wanted.path);
        let reader = self.open_file(wanted.id)?;
        reader.check_size(wanted.size)?;
        let size = reader.size();
        let mut skip = |why: &str| report.skipped.push(format!("{}: {why}", wanted.path));
        if size == 0 {
            return Ok(());
        }
        let Some(digest) = reader.file().blake3 else {
            skip("its archive states no digest of the whole file");
            return Ok(());
        };
        if cache.open(&digest, size).is_some() {
            report.kept += 1;
            report.kept_bytes += size;
            self.progress().advance(size);
            return Ok(());
        }
        let Some(partial) = cache.begin(digest, size) else {
            skip("the cache has no room for it");
            return Ok(());
        };
        let mut hasher = blake3::Hasher::new();
        let full = AtomicBool::new(false);
        let place = |offset, piece: &[u8]| {
            if write_all_at(partial.file(), piece, offset).is_err() {
                full.store(true, Ordering::Relaxed);
                return Err(Error::Invalid("the disk takes no more".to_owned()));
            }
            self.progress().advance(piece.len() as u64);
            Ok(())
        };
        let mut hash = |piece: Verified<Bytes>| {
            hasher.update(&piece);
            Ok(())
        };
        let read = self.read_to(&reader, ByteRange::all(size), &place, &mut hash);
        if full.load(Ordering::Relaxed) {
            skip("the disk takes no more");
            return Ok(());
        }
        read?;
        let hashed = Digest::from_bytes(*hasher.finalize().as_bytes());
        if hashed != digest {
            return Err(Error::Corrupt(format!(
                "the parts of {} do not join to what it should be: BLAKE3 {digest}",
                wanted.path
            )));
        }
        if cache.publish(partial, Some(hashed)) {
            report.fetched += 1;
            report.fetched_bytes += size;
        } else {
            skip("the cache does not take it");
        }
        Ok(())
    }
}
