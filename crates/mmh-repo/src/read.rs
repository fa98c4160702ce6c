//! Reading: ranges of files, verified chunk by chunk, decoded in parallel, delivered in order.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use mmh_core::object::{ChunkRef, File, Segment, SegmentPage, Segments};
use mmh_core::ports::{Cancel, Progress};
use mmh_core::{ByteRange, ChunkId, FileId, Verified};
use mmh_store::ChunkSource;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::objects;
use crate::repository::Repository;

/// Chunks decoded at once, for each thread.
const WINDOW_PER_THREAD: usize = 4;
/// Slices handed out between two looks at a window: a file of one chunk repeated has many.
const WINDOW_SLICES_MAX: usize = 4096;

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
        write: &mut dyn FnMut(Verified<Bytes>) -> Result<()>,
    ) -> Result<()> {
        let cancel = &self.shop.components.cancel;
        self.read_windows(reader, range, &mut |pieces| {
            pieces.into_iter().try_for_each(|piece| {
                cancel.check()?;
                self.progress().advance(piece.len() as u64);
                write(piece)
            })
        })
    }

    /// Reads a range of a file in order and hands over verified pieces that join, several at a time.
    ///
    /// # Errors
    /// As [`Self::read_range`].
    pub(crate) fn read_windows(
        &self,
        reader: &FileReader<'_>,
        range: ByteRange,
        take: &mut dyn FnMut(Vec<Verified<Bytes>>) -> Result<()>,
    ) -> Result<()> {
        let pool = Arc::clone(&self.shop.components.pool);
        let most = WINDOW_PER_THREAD * pool.current_num_threads();
        let cancel = &self.shop.components.cancel;
        let mut window = Window::default();
        let mut run = |window: &mut Window| -> Result<()> {
            take(pool.install(|| window.decode(reader.source, cancel))?)
        };
        reader.for_each_slice(range, &mut |slice| {
            window.push(slice);
            if window.chunks.len() >= most || window.slices.len() >= WINDOW_SLICES_MAX {
                run(&mut window)
            } else {
                Ok(())
            }
        })?;
        run(&mut window)
    }

    pub(crate) fn progress(&self) -> &dyn Progress {
        self.shop.components.progress.as_ref()
    }
}

/// Slices to be read together; a chunk that several of them share is decoded once.
#[derive(Debug, Default)]
struct Window {
    slices: Vec<(usize, ChunkRef)>,
    chunks: Vec<ChunkId>,
    index: HashMap<ChunkId, usize>,
}

impl Window {
    fn push(&mut self, slice: ChunkRef) {
        let next = self.chunks.len();
        let at = *self.index.entry(*slice.id()).or_insert(next);
        if at == next {
            self.chunks.push(*slice.id());
        }
        self.slices.push((at, slice));
    }

    /// Empties the window into verified pieces, in order.
    fn decode(
        &mut self,
        source: &dyn ChunkSource,
        cancel: &Cancel,
    ) -> Result<Vec<Verified<Bytes>>> {
        let get = |id: &ChunkId| -> Result<Verified<Bytes>> {
            cancel.check()?;
            Ok(source.get(id)?)
        };
        let chunks = self
            .chunks
            .par_iter()
            .map(get)
            .collect::<Result<Vec<_>>>()?;
        self.chunks.clear();
        self.index.clear();
        self.slices
            .drain(..)
            .map(|(at, slice)| cut(&chunks[at], &slice))
            .collect()
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
        match &self.file.segments {
            Segments::Inline(segments) => list(segments, &mut offset),
            Segments::Pages(pages) => {
                for page in pages {
                    let end = offset.saturating_add(page.1);
                    if offset < range.end && end > range.start {
                        let read: SegmentPage = objects::read(self.source, page.0)?;
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

#[cfg(test)]
mod tests;
