//! Reading: ranges of files, verified chunk by chunk, decoded in parallel, delivered in order.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use mmh_core::object::{ChunkRef, File, Segment, SegmentPage, Segments};
use mmh_core::ports::{Cancel, Progress};
use mmh_core::{ByteRange, ChunkId, FileId, Verified};
use mmh_store::ChunkSource;

use crate::error::{Error, Result};
use crate::in_order::{Feed, in_order};
use crate::objects;
use crate::repository::Repository;

/// Bytes on their way at once, for each thread.
const ON_WAY_LEN: u64 = 8 << 20;
/// What a piece counts at least: a few bytes keep their whole chunk in memory.
const PIECE_LEN_MIN: u64 = ON_WAY_LEN / 16;
/// Slices up to this length are of chunks that others may want as well;
const SHARED_SLICE_LEN: u32 = 64 << 10;
/// and so many such chunks are kept for them.
const SHARED_CHUNKS: usize = 8;

/// A file of the repository, open for reading at any offset.
pub struct FileReader<'a> {
    source: &'a dyn ChunkSource,
    file: File,
}

impl fmt::Debug for FileReader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileReader")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl Repository {
    /// Opens a file by its id.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    pub fn open_file(&self, id: FileId) -> Result<FileReader<'_>> {
        let file = objects::file(self.source(), id)?;
        Ok(FileReader::new(self.source(), file))
    }

    /// Reads a range of a file in order and hands each verified piece to `write`.
    ///
    /// # Errors
    /// `Invalid` for a range outside the file; `Corrupt` if a chunk is damaged; those of `write`.
    pub fn read_range(
        &self,
        reader: &FileReader<'_>,
        range: ByteRange,
        write: &mut (dyn FnMut(Verified<Bytes>) -> Result<()> + Send),
    ) -> Result<()> {
        let cancel = &self.shop.components.cancel;
        let work = |slice: Slice| slice.read(reader.source, cancel);
        self.in_order(reader, range, &work, &mut |piece| {
            self.progress().advance(piece.len() as u64);
            write(piece)
        })
    }

    /// Reads a range of a file by all threads. Each verified piece goes to `place` with its offset
    /// in the range, at once and in any order, then to `take`, in order.
    ///
    /// # Errors
    /// As [`Self::read_range`]; those of `place` and `take`.
    pub(crate) fn read_to(
        &self,
        reader: &FileReader<'_>,
        range: ByteRange,
        place: &(dyn Fn(u64, &[u8]) -> Result<()> + Sync),
        take: &mut (dyn FnMut(Verified<Bytes>) -> Result<()> + Send),
    ) -> Result<()> {
        let cancel = &self.shop.components.cancel;
        let work = |slice: Slice| {
            let offset = slice.offset;
            let piece = slice.read(reader.source, cancel)?;
            place(offset, &piece)?;
            Ok(piece)
        };
        self.in_order(reader, range, &work, take)
    }

    fn in_order(
        &self,
        reader: &FileReader<'_>,
        range: ByteRange,
        work: &(dyn Fn(Slice) -> Result<Verified<Bytes>> + Sync),
        take: &mut (dyn FnMut(Verified<Bytes>) -> Result<()> + Send),
    ) -> Result<()> {
        let pool = &self.shop.components.pool;
        let most = ON_WAY_LEN * pool.current_num_threads() as u64;
        let (mut shared, mut offset) = (Shared::default(), 0);
        let feed = |put: Feed<'_, Slice>| {
            reader.for_each_slice(range, &mut |slice| {
                let len = u64::from(slice.len());
                let chunk = shared.chunk(&slice);
                let slice = Slice {
                    offset,
                    slice,
                    chunk,
                };
                offset += len;
                put(slice, len.max(PIECE_LEN_MIN))
            })
        };
        in_order(pool, most, feed, work, take)
    }

    pub(crate) fn progress(&self) -> &dyn Progress {
        self.shop.components.progress.as_ref()
    }
}

/// A chunk that several slices want: the first that comes reads it.
pub(crate) type Cell = Arc<Mutex<Option<Verified<Bytes>>>>;

/// A part of a chunk, and where it lies in what is read.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) offset: u64,
    pub(crate) slice: ChunkRef,
    pub(crate) chunk: Option<Cell>,
}

impl Slice {
    pub(crate) fn read(
        &self,
        source: &dyn ChunkSource,
        cancel: &Cancel,
    ) -> Result<Verified<Bytes>> {
        cancel.check()?;
        let get = || source.get(self.slice.id());
        let Some(cell) = &self.chunk else {
            return cut(&get()?, &self.slice);
        };
        let mut chunk = cell.lock().unwrap_or_else(PoisonError::into_inner);
        let chunk = match &mut *chunk {
            Some(chunk) => chunk,
            empty => empty.insert(get()?),
        };
        cut(chunk, &self.slice)
    }
}

/// The chunks that were wanted last, if they will be wanted again: small tensors lie together in
/// chunks, so that those between two large ones want the same chunk; and chunks come in runs of equal
/// ones.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    chunks: VecDeque<(ChunkId, Cell)>,
    last: Option<ChunkId>,
}

impl Shared {
    pub(crate) fn chunk(&mut self, slice: &ChunkRef) -> Option<Cell> {
        let id = *slice.id();
        let again = self.last.replace(id) == Some(id);
        if slice.len() > SHARED_SLICE_LEN && !again {
            return None;
        }
        if let Some((_, cell)) = self.chunks.iter().find(|(known, _)| *known == id) {
            return Some(Arc::clone(cell));
        }
        let cell = Cell::default();
        self.chunks.push_back((id, Arc::clone(&cell)));
        if self.chunks.len() > SHARED_CHUNKS {
            self.chunks.pop_front();
        }
        Some(cell)
    }
}

fn cut(chunk: &Verified<Bytes>, slice: &ChunkRef) -> Result<Verified<Bytes>> {
    let start = slice.start() as usize;
    let end = start + slice.len() as usize;
    chunk.slice(start..end).map_err(|_| {
        let (id, len) = (slice.id(), chunk.len());
        Error::Corrupt(format!(
            "a file wants bytes {start}..{end} of chunk {id}, which has {len}"
        ))
    })
}

impl<'a> FileReader<'a> {
    pub(crate) fn new(source: &'a dyn ChunkSource, file: File) -> Self {
        Self { source, file }
    }
}

impl FileReader<'_> {
    /// What is known of the file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Compares its length with what the folder says that names it.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn check_size(&self, size: u64) -> Result<()> {
        if self.file.size == size {
            return Ok(());
        }
        let own = self.file.size;
        Err(Error::Corrupt(format!(
            "its folder states {size} bytes, the file has {own}"
        )))
    }

    pub(crate) fn into_file(self) -> File {
        self.file
    }

    /// Its length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.file.size
    }

    /// Visits the segments in order with their offsets.
    ///
    /// # Errors
    /// `Corrupt` if a page is damaged or covers other bytes than it is said to; those of `visit`.
    pub fn for_each_segment(
        &self,
        range: ByteRange,
        visit: &mut dyn FnMut(u64, &Segment) -> Result<()>,
    ) -> Result<()> {
        for_each_segment(self.source, &self.file, range, visit)
    }

    /// Visits, in order, the slices of chunks that make up a range.
    ///
    /// # Errors
    /// As [`Self::for_each_segment`]; `Invalid` for a range outside the file.
    pub fn for_each_slice(
        &self,
        range: ByteRange,
        visit: &mut dyn FnMut(ChunkRef) -> Result<()>,
    ) -> Result<()> {
        range.within(self.file.size)?;
        self.for_each_segment(range, &mut |offset, segment| {
            let mut at = offset;
            for &ChunkRef(id, start, len) in &segment.chunks {
                let end = at + u64::from(len);
                let (from, upto) = (range.start.max(at), range.end.min(end));
                if from < upto {
                    let skip = u32::try_from(from - at).expect("within a chunk");
                    let n = u32::try_from(upto - from).expect("within a chunk");
                    visit(ChunkRef(id, start + skip, n))?;
                }
                at = end;
            }
            Ok(())
        })
    }

    /// Visits every chunk of the file, a chunk once for each slice of it.
    ///
    /// # Errors
    /// As [`Self::for_each_segment`].
    pub fn for_each_chunk(&self, visit: &mut dyn FnMut(ChunkId, u32) -> Result<()>) -> Result<()> {
        let all = ByteRange::all(self.file.size);
        self.for_each_slice(all, &mut |slice| visit(*slice.id(), slice.len()))
    }
}

/// Visits the segments of a file that have bytes of a range, in order, with their offsets.
///
/// # Errors
/// `Corrupt` if a page is damaged or covers other bytes than it is said to; those of `visit`.
pub(crate) fn for_each_segment(
    source: &dyn ChunkSource,
    file: &File,
    range: ByteRange,
    visit: &mut dyn FnMut(u64, &Segment) -> Result<()>,
) -> Result<()> {
    let mut offset = 0;
    let mut list = |segments: &[Segment], offset: &mut u64| -> Result<()> {
        for segment in segments {
            if *offset < range.end && *offset + segment.len > range.start {
                visit(*offset, segment)?;
            }
            *offset += segment.len;
        }
        Ok(())
    };
    match &file.segments {
        Segments::Inline(segments) => list(segments, &mut offset),
        Segments::Pages(pages) => {
            for page in pages {
                let end = offset.saturating_add(page.1);
                if offset < range.end && end > range.start {
                    let read: SegmentPage = objects::read(source, page.0)?;
                    // Before anything of it is handed out; its own sum was checked.
                    if read.segments.iter().map(|s| s.len).sum::<u64>() != page.1 {
                        let what = format!("segment page {} does not cover its range", page.0);
                        return Err(Error::Corrupt(what));
                    }
                    list(&read.segments, &mut offset)?;
                }
                offset = end;
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
