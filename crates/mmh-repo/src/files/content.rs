//! One file, read at any offset: from the disk once it is whole there, else from decoded chunks.
//!
//! A read inside a large tensor makes the whole tensor wanted, in the order of the file, and a read
//! that goes on where the last one ended makes wanted what follows: a bounded number of threads of
//! the pool decode it meanwhile. What is decoded goes into the memory cache and, if the disk cache
//! has room for the file, into a file there that is published once it is whole.

use std::fmt;
use std::fs::File as Disk;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use mmh_core::object::{ChunkRef, File, Segment};
use mmh_core::{ByteRange, FileId, Verified};
use rayon::prelude::*;

use super::cache::{FileCache, Partial};
use super::chunks::ChunkCache;
use crate::error::{Error, Result};
use crate::read::for_each_segment;
use crate::repository::Repository;

/// Tensors from this length on are fetched as a whole.
const TENSOR_LEN_MIN: u64 = 1 << 20;
/// Files from this length on are put into the disk cache as they are read; smaller ones cost more
/// there than they save.
const KEPT_LEN_MIN: u64 = 1 << 20;
/// How far is decoded ahead of a reader and beyond a tensor; never more than half of the memory.
const AHEAD_LEN: u64 = 32 << 20;
/// Parts from this length on are not kept in memory for a reader of much at once; of shorter ones
/// several may share a chunk.
const PASSING_LEN_MIN: u32 = 256 << 10;
/// A read that begins at most so far from where another ended goes on from there: the kernel asks
/// for several pieces at once, in any order.
const NEAR_LEN: u64 = 8 << 20;

/// A file that is open.
pub struct Content {
    repo: Arc<Repository>,
    chunks: Arc<ChunkCache>,
    file: File,
    parts: Vec<Part>,
    /// Large tensors: first byte and one past the last, in order.
    tensors: Vec<(u64, u64)>,
    /// The whole file in the disk cache, if it was there: then there are no parts.
    whole: Option<Arc<Disk>>,
    disk: Option<OnDisk>,
    ahead: Mutex<Ahead>,
}

/// A run of bytes of the file that lies in one chunk.
#[derive(Debug, Clone, Copy)]
struct Part {
    start: u64,
    chunk: ChunkRef,
}

impl Part {
    fn end(&self) -> u64 {
        self.start + u64::from(self.chunk.len())
    }
}

/// The file on the disk as it fills up.
struct OnDisk {
    cache: Arc<FileCache>,
    file: Arc<Disk>,
    /// Until it is published or given up.
    partial: Mutex<Option<Partial>>,
    /// Which parts are written.
    written: Vec<AtomicBool>,
    missing: AtomicUsize,
    /// The disk failed, so that nothing more is written.
    failed: AtomicBool,
}

/// What is decoded before anybody asks.
#[derive(Debug, Default)]
struct Ahead {
    /// The run of parts that is wanted: where it began, the next one, and up to which offset.
    from: usize,
    next: usize,
    goal: u64,
    /// Where the last read ended.
    read_end: u64,
    workers: usize,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl Content {
    /// Opens a file of the repository; it is kept in `cache` as it is read, if it fits there and
    /// states the digest of its content, as files of archives do only if they were packed so.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    pub fn open(
        repo: &Arc<Repository>,
        id: FileId,
        chunks: &Arc<ChunkCache>,
        cache: Option<&Arc<FileCache>>,
    ) -> Result<Arc<Self>> {
        let reader = repo.open_file(id)?;
        let size = reader.size();
        let whole = match (cache, reader.file().blake3) {
            (Some(cache), Some(digest)) if size > 0 => cache.open(&digest, size),
            _ => None,
        };
        if let Some(whole) = whole {
            return Ok(Arc::new(Self {
                repo: Arc::clone(repo),
                chunks: Arc::clone(chunks),
                file: reader.into_file(),
                parts: Vec::new(),
                tensors: Vec::new(),
                whole: Some(Arc::new(whole)),
                disk: None,
                ahead: Mutex::default(),
            }));
        }
        let (mut parts, mut tensors, mut start) = (Vec::new(), Vec::new(), 0);
        reader.for_each_slice(ByteRange::all(size), &mut |chunk| {
            parts.push(Part { start, chunk });
            start += u64::from(chunk.len());
            Ok(())
        })?;
        reader.for_each_segment(ByteRange::all(size), &mut |at, segment| {
            for span in &segment.tensors {
                // What lies in earlier segments was seen there.
                let len = span.info.bytes().unwrap_or_default();
                if span.skip == 0 && len >= TENSOR_LEN_MIN {
                    let start = at.saturating_add(span.start);
                    tensors.push((start, start.saturating_add(len).min(size)));
                }
            }
            Ok(())
        })?;
        tensors.sort_unstable();
        let file = reader.into_file();
        let disk = cache.and_then(|cache| OnDisk::begin(cache, &file, parts.len()));
        Ok(Arc::new(Self {
            repo: Arc::clone(repo),
            chunks: Arc::clone(chunks),
            file,
            parts,
            tensors,
            whole: None,
            disk,
            ahead: Mutex::default(),
        }))
    }

    /// What is known of the file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Its length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.file.size
    }

    /// Visits the segments in order with their offsets: where its tensors lie.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`; those of `visit`.
    pub fn for_each_segment(
        &self,
        visit: &mut dyn FnMut(u64, &Segment) -> Result<()>,
    ) -> Result<()> {
        let all = ByteRange::all(self.size());
        for_each_segment(self.repo.source(), &self.file, all, visit)
    }

    /// Whether all of it is on the disk now.
    #[must_use]
    pub fn is_on_disk(&self) -> bool {
        self.on_disk().is_some()
    }

    /// The file of the disk that has the same bytes, once all are there.
    #[must_use]
    pub fn on_disk(&self) -> Option<&Arc<Disk>> {
        let complete = |disk: &&OnDisk| {
            disk.missing.load(Ordering::Acquire) == 0 && !disk.failed.load(Ordering::Acquire)
        };
        let filled = self.disk.as_ref().filter(complete).map(|disk| &disk.file);
        self.whole.as_ref().or(filled)
    }

    /// Reads up to `len` bytes at `offset`: fewer only at the end of the file.
    ///
    /// # Errors
    /// `Corrupt` if a chunk is damaged; `NotFound`, `Unavailable`.
    pub fn read(self: &Arc<Self>, offset: u64, len: usize) -> Result<Bytes> {
        let end = offset.saturating_add(len as u64).min(self.file.size);
        if offset >= end {
            return Ok(Bytes::new());
        }
        let n = usize::try_from(end - offset).unwrap_or(usize::MAX);
        if let Some(whole) = &self.whole {
            let mut bytes = BytesMut::zeroed(n);
            let read = read_exact_at(whole, &mut bytes, offset);
            let path = || std::path::Path::new("a file of the cache");
            return read
                .map(|()| bytes.freeze())
                .map_err(Error::io("read", path()));
        }
        self.want(offset, end);
        let first = self.part_at(offset);
        if self.parts[first].end() >= end {
            return self.piece(first, offset, end);
        }
        let mut all = BytesMut::with_capacity(n);
        for (n, part) in self.parts.iter().enumerate().skip(first) {
            if part.start >= end {
                break;
            }
            let (from, upto) = (offset.max(part.start), end.min(part.end()));
            all.extend_from_slice(&self.piece(n, from, upto)?);
        }
        Ok(all.freeze())
    }

    /// Fills `buf` from `offset` by all threads, for readers of much at once: what is decoded for
    /// that is not kept in memory.
    ///
    /// # Errors
    /// `Invalid` if the file ends earlier; those of [`Self::read`].
    pub fn read_into(self: &Arc<Self>, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset.saturating_add(buf.len() as u64);
        ByteRange { start: offset, end }.within(self.file.size)?;
        if buf.is_empty() {
            return Ok(());
        }
        if let Some(whole) = &self.whole {
            let path = std::path::Path::new("a file of the cache");
            return read_exact_at(whole, buf, offset).map_err(Error::io("read", path));
        }
        let (mut jobs, mut rest, mut from) = (Vec::new(), buf, offset);
        for n in self.part_at(offset)..self.parts.len() {
            let upto = self.parts[n].end().min(end);
            let len = usize::try_from(upto - from).unwrap_or(usize::MAX);
            let (own, after) = rest.split_at_mut(len);
            jobs.push((n, from, own));
            (rest, from) = (after, upto);
            if from == end {
                break;
            }
        }
        let components = &self.repo.shop.components;
        let fill = |(n, from, own): (usize, u64, &mut [u8])| {
            components.cancel.check()?;
            own.copy_from_slice(&self.passing(n, from, from + own.len() as u64)?);
            Ok(())
        };
        let all = || jobs.into_par_iter().try_for_each(fill);
        components.pool.install(all)
    }

    /// As [`Self::piece`]; but a large part that is wanted whole is not put into the memory.
    fn passing(&self, n: usize, from: u64, upto: u64) -> Result<Bytes> {
        let part = &self.parts[n];
        let id = part.chunk.id();
        let is_whole = (from, upto) == (part.start, part.end());
        let passes = is_whole && part.chunk.len() >= PASSING_LEN_MIN && self.disk.is_none();
        if !passes || self.chunks.peek(id).is_some() {
            return self.piece(n, from, upto);
        }
        self.slice(n, &self.repo.source().get(id)?, from, upto)
    }

    /// Bytes `from..upto` of the file out of the chunk of the `n`th part.
    fn slice(&self, n: usize, chunk: &Verified<Bytes>, from: u64, upto: u64) -> Result<Bytes> {
        let part = &self.parts[n];
        let skip = |at: u64| usize::try_from(at - part.start).unwrap_or(usize::MAX);
        let start = part.chunk.start() as usize;
        let range = start.saturating_add(skip(from))..start.saturating_add(skip(upto));
        let (id, len) = (part.chunk.id(), chunk.len());
        let wrong = |_| {
            Error::Corrupt(format!(
                "a file wants {range:?} of chunk {id} of {len} bytes"
            ))
        };
        Ok(chunk.slice(range.clone()).map_err(wrong)?.into_inner())
    }

    /// Bytes `from..upto` of the file, which lie in the `n`th part.
    fn piece(&self, n: usize, from: u64, upto: u64) -> Result<Bytes> {
        if let Some(chunk) = self.chunks.peek(self.parts[n].chunk.id()) {
            self.keep(n, &chunk)?;
            return self.slice(n, &chunk, from, upto);
        }
        if let Some(bytes) = self.disk.as_ref().and_then(|disk| disk.read(n, from, upto)) {
            return Ok(bytes);
        }
        self.slice(n, &self.decoded(n)?, from, upto)
    }

    /// The chunk of the `n`th part, which is also put where it is missing.
    fn decoded(&self, n: usize) -> Result<Verified<Bytes>> {
        let id = self.parts[n].chunk.id();
        let chunk = self.chunks.get(id, || Ok(self.repo.source().get(id)?))?;
        self.keep(n, &chunk)?;
        Ok(chunk)
    }

    /// Writes the `n`th part to the disk, if that lacks it.
    fn keep(&self, n: usize, chunk: &Verified<Bytes>) -> Result<()> {
        let Part { start, chunk: of } = &self.parts[n];
        let (from, upto) = (of.start() as usize, (of.start() + of.len()) as usize);
        let slice = chunk.slice(from..upto).map_err(|_| {
            let (id, len) = (of.id(), chunk.len());
            Error::Corrupt(format!(
                "a file wants bytes {from}..{upto} of chunk {id}, which has {len}"
            ))
        })?;
        if let Some(disk) = &self.disk
            && disk.write(n, &slice, *start)
        {
            disk.publish();
        }
        Ok(())
    }

    /// The part that holds this offset, which lies in the file.
    fn part_at(&self, offset: u64) -> usize {
        self.parts.partition_point(|part| part.end() <= offset)
    }

    /// Notes what a read of `offset..end` makes wanted, and sees that somebody decodes it.
    fn want(self: &Arc<Self>, offset: u64, end: u64) {
        if self.is_on_disk() {
            return;
        }
        let threads = self.repo.threads();
        let ahead_len = AHEAD_LEN.min(self.chunks.len_max() / 2);
        let tensor = self.tensors.partition_point(|(start, _)| *start <= offset);
        let tensor = tensor.checked_sub(1).map(|n| self.tensors[n]);
        let mut ahead = self.ahead();
        let follows = offset.abs_diff(ahead.read_end) <= NEAR_LEN;
        let mut goal = match tensor.filter(|(_, tensor_end)| offset < *tensor_end) {
            // Without a disk a long tensor would push itself out of the memory.
            Some((_, tensor_end)) if self.keeps() => tensor_end.saturating_add(ahead_len),
            Some((_, tensor_end)) => tensor_end.max(end).min(end.saturating_add(ahead_len)),
            None => end,
        };
        if follows {
            goal = goal.max(end.saturating_add(ahead_len));
        }
        ahead.read_end = end;
        let first = self.part_at(offset);
        if first < ahead.from || first > ahead.next.max(ahead.from) + 1 {
            // Somewhere else.
            (ahead.from, ahead.next, ahead.goal) = (first, first, 0);
        }
        ahead.goal = ahead.goal.max(goal).min(self.file.size);
        while ahead.workers < threads && self.is_wanted(&ahead, ahead.workers) {
            ahead.workers += 1;
            let own = Arc::clone(self);
            self.repo.spawn(move || own.work());
        }
    }

    /// Whether there is work for one more than `busy` workers.
    fn is_wanted(&self, ahead: &Ahead, busy: usize) -> bool {
        let next = self.parts.get(ahead.next + busy);
        next.is_some_and(|part| part.start < ahead.goal)
    }

    /// Whether the disk takes what is decoded.
    fn keeps(&self) -> bool {
        let disk = self.disk.as_ref();
        disk.is_some_and(|disk| !disk.failed.load(Ordering::Acquire))
    }

    /// Decodes what is wanted until nothing is.
    fn work(&self) {
        loop {
            let mut ahead = self.ahead();
            if !self.is_wanted(&ahead, 0) {
                ahead.workers -= 1;
                return;
            }
            let n = ahead.next;
            ahead.next += 1;
            drop(ahead);
            let there = match &self.disk {
                Some(disk) => disk.has(n),
                None => self.chunks.peek(self.parts[n].chunk.id()).is_some(),
            };
            if !there {
                // Whoever reads it tries again and is told.
                let _told_later = self.decoded(n).is_err();
            }
        }
    }

    fn ahead(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OnDisk {
    fn begin(cache: &Arc<FileCache>, file: &File, n_parts: usize) -> Option<Self> {
        if file.size < KEPT_LEN_MIN {
            return None;
        }
        let partial = cache.begin(file.blake3?, file.size)?;
        Some(Self {
            cache: Arc::clone(cache),
            file: Arc::new(partial.file().try_clone().ok()?),
            partial: Mutex::new(Some(partial)),
            written: (0..n_parts).map(|_| AtomicBool::new(false)).collect(),
            missing: AtomicUsize::new(n_parts),
            failed: AtomicBool::new(false),
        })
    }

    fn has(&self, n: usize) -> bool {
        self.written[n].load(Ordering::Acquire)
    }

    fn read(&self, n: usize, from: u64, upto: u64) -> Option<Bytes> {
        if !self.has(n) {
            return None;
        }
        let mut bytes = BytesMut::zeroed(usize::try_from(upto - from).ok()?);
        read_exact_at(&self.file, &mut bytes, from).ok()?;
        Some(bytes.freeze())
    }

    /// Writes a part once; says whether it was the last one.
    fn write(&self, n: usize, bytes: &[u8], offset: u64) -> bool {
        if self.has(n) || self.failed.load(Ordering::Acquire) {
            return false;
        }
        if write_all_at(&self.file, bytes, offset).is_err() {
            // The disk is full, perhaps: what was written stays right, and nothing gets a name.
            self.failed.store(true, Ordering::Release);
            drop(self.take());
            return false;
        }
        let first = !self.written[n].swap(true, Ordering::AcqRel);
        first && self.missing.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Gives the whole file its name; a file whose parts do not join to its digest gets none.
    fn publish(&self) {
        if let Some(partial) = self.take() {
            let _named = self.cache.publish(partial, None);
        }
    }

    fn take(&self) -> Option<Partial> {
        let mut partial = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        partial.take()
    }
}

#[cfg(unix)]
pub(super) fn write_all_at(file: &Disk, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(unix)]
fn read_exact_at(file: &Disk, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

/// Elsewhere files are read from memory only.
#[cfg(not(unix))]
pub(super) fn write_all_at(_: &Disk, _: &[u8], _: u64) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(not(unix))]
fn read_exact_at(_: &Disk, _: &mut [u8], _: u64) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
