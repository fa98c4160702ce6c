//! Whole decoded files that lie in the cache of this machine: read in pieces into buffers that are
//! used again, a little ahead of the socket. Files that are asked for again and again are put there.

use std::fs::File;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use lru::LruCache;
use mmh_core::{ByteRange, FileId};
use mmh_repo::FileCache;
use mmh_repo::files::Wanted;

use super::Hub;
use super::fail::Outcome;
use super::mirror::read_at;

/// Bytes of a piece: some fit into the cache of a core, between being read and being sent.
const PIECE_LEN: usize = 256 << 10;
/// Pieces of a client that are read ahead.
const AHEAD: usize = 2;
/// Buffers that are kept for later.
const KEPT_MAX: usize = 64;
/// Shorter files are decoded faster than they are looked for.
const LEN_MIN: u64 = 1 << 20;
/// How often a file is read from its beginning until it is put into the cache.
const READS: u32 = 2;
/// Files whose reads are counted.
const COUNTED_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// The cache, and what it is used with.
#[derive(Debug)]
pub(crate) struct OnDisk {
    cache: Arc<FileCache>,
    buffers: Arc<Mutex<Vec<Vec<u8>>>>,
    reads: Mutex<LruCache<FileId, u32>>,
}

/// A buffer that goes back when its bytes were sent.
#[derive(Debug)]
struct Lent {
    buffer: Vec<u8>,
    back: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut back = self.back.lock().unwrap_or_else(PoisonError::into_inner);
        if back.len() < KEPT_MAX {
            back.push(std::mem::take(&mut self.buffer));
        }
    }
}

impl OnDisk {
    pub(crate) fn new(cache: Arc<FileCache>) -> Self {
        Self {
            cache,
            buffers: Arc::default(),
            reads: Mutex::new(LruCache::new(COUNTED_MAX)),
        }
    }

    /// Whether a file was read so often that it belongs into the cache; said once.
    fn is_due(&self, id: FileId) -> bool {
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let n = reads.get_or_insert_mut(id, u32::default);
        *n = n.saturating_add(1);
        *n == READS
    }

    /// A range of a file of the cache.
    pub(crate) fn body(&self, file: &Arc<File>, range: ByteRange) -> Body {
        let (file, buffers) = (Arc::clone(file), Arc::clone(&self.buffers));
        let starts = stream::iter((range.start..range.end).step_by(PIECE_LEN));
        let pieces = starts.map(move |at| {
            let (file, back) = (Arc::clone(&file), Arc::clone(&buffers));
            let len = usize::try_from(range.end - at).unwrap_or(usize::MAX);
            let len = len.min(PIECE_LEN);
            let read = tokio::task::spawn_blocking(move || {
                let mut kept = back.lock().unwrap_or_else(PoisonError::into_inner);
                let mut buffer = kept.pop().unwrap_or_default();
                drop(kept);
                buffer.resize(len, 0);
                read_at(&file, &mut buffer, at)?;
                Ok::<_, std::io::Error>(Bytes::from_owner(Lent { buffer, back }))
            });
            async { read.await.map_err(std::io::Error::other)? }
        });
        Body::from_stream(pieces.buffered(AHEAD))
    }
}

impl Hub {
    /// A file as it lies in the cache, if it does, and whether it should be put there.
    pub(crate) fn on_disk(
        &self,
        (id, size): (FileId, u64),
        from_start: bool,
    ) -> Outcome<(Option<Arc<File>>, bool)> {
        let Some(disk) = self.disk.as_ref().filter(|_| size >= LEN_MIN) else {
            return Ok((None, false));
        };
        let Some(digest) = self.repo.digest_of(id)? else {
            return Ok((None, false));
        };
        match disk.cache.open(&digest, size) {
            Some(file) => Ok((Some(Arc::new(file)), false)),
            None => Ok((None, from_start && disk.is_due(id))),
        }
    }

    /// Puts a file into the cache, while others are served.
    pub(crate) fn keep_on_disk(self: &Arc<Self>, path: String, (id, size): (FileId, u64)) {
        let hub = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            if let Some(disk) = &hub.disk {
                // It is a cache: what fails is decoded again.
                hub.repo
                    .prefetch(&[Wanted { path, id, size }], &disk.cache)
                    .ok();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn disk(folder: &std::path::Path) -> OnDisk {
        OnDisk::new(Arc::new(FileCache::new(folder.to_owned(), 1 << 30)))
    }

    /// Every range, also of more pieces than are read ahead; buffers come back and are not mixed up.
    #[tokio::test]
    async fn ranges_are_those_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk(folder.path());
        let bytes: Vec<u8> = (0..900_001u32).map(|n| (n % 251) as u8).collect();
        let path = folder.path().join("file");
        std::fs::write(&path, &bytes).unwrap();
        let file = Arc::new(File::open(path).unwrap());
        for (start, end) in [
            (0, 900_001),
            (5, 6),
            (262_143, 262_145),
            (700_000, 900_001),
            (9, 9),
        ] {
            let range = ByteRange { start, end };
            let body = disk.body(&file, range).collect().await.unwrap();
            let (start, end) = (
                usize::try_from(start).unwrap(),
                usize::try_from(end).unwrap(),
            );
            assert!(body.to_bytes() == bytes[start..end], "{start}..{end}");
        }
        let kept = disk.buffers.lock().unwrap().len();
        assert!((1..=8).contains(&kept), "{kept}");
        let beyond = ByteRange {
            start: 900_000,
            end: 900_002,
        };
        assert!(disk.body(&file, beyond).collect().await.is_err());
    }

    #[test]
    fn files_are_due_once() {
        let disk = disk(std::path::Path::new("/nowhere"));
        let [a, b] = [1, 2].map(|n| FileId::from_digest(mmh_core::Digest::from_bytes([n; 32])));
        assert_eq!(
            [a, a, b, a, b].map(|id| disk.is_due(id)),
            [false, true, false, false, true]
        );
    }
}
