//! One file into the store: parse, cut, code in parallel, and describe it by a file object.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mmh_codec::{Base, Context};
use mmh_core::object::{
    ChunkRef, File, FileTag, PageRef, Segment, SegmentPage, SegmentPageTag, Segments, TensorSpan,
};
use mmh_core::ports::{Cancel, Progress};
use mmh_core::{ChunkId, FileId, TensorInfo, limits};
use mmh_formats::read_at::FileSource;
use mmh_formats::{Container, Layout, ReadAt};
use mmh_store::{ChunkSink, ChunkSource};

use crate::base::{Candidates, Match, Matcher};
use crate::cut::{Chunking, Cutter, Job, Piece, Place, Slot};
use crate::error::{Error, Result};
use crate::gear::Gear;
use crate::objects;
use crate::recycle::Encoders;

/// Most chunks of one segment; a larger tensor continues in the next.
const SEGMENT_CHUNKS_MAX: usize = 1024;

/// What adding needs from the repository.
#[derive(Clone, Copy)]
pub(crate) struct Ingest<'a> {
    pub(crate) sink: &'a dyn ChunkSink,
    pub(crate) encoders: &'a Encoders,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) cancel: &'a Cancel,
    pub(crate) chunking: Chunking,
    /// What cuts by content in a sealed repository.
    pub(crate) gear: Option<&'a Gear>,
    /// Raw bytes that a thread takes at once, and up to a chunk more; each holds no others.
    pub(crate) take_len: u64,
    /// Whether files get the digests of their whole content.
    pub(crate) digests: bool,
    /// Candidates for bases, best first, and where their chunks are.
    pub(crate) bases: Option<(&'a dyn ChunkSource, Candidates<'a>)>,
}

/// The outcome for one file.
#[derive(Debug, Clone)]
pub(crate) struct Ingested {
    pub(crate) id: FileId,
    pub(crate) size: u64,
    pub(crate) container: Container,
    pub(crate) note: Option<Box<str>>,
    /// Raw bytes of chunks that the store did not have yet.
    pub(crate) new_raw: u64,
    /// What those became.
    pub(crate) new_stored: u64,
}

impl Ingest<'_> {
    /// Adds the file at `path`. `external` places tensors that another file says lie in it.
    pub(crate) fn file(
        &self,
        path: &Path,
        external: Option<&[(u64, u64, TensorInfo)]>,
        parallel: bool,
    ) -> Result<Ingested> {
        let opened = fs::File::open(path).map_err(Error::io("open", path))?;
        let before = opened.metadata().map_err(Error::io("read", path))?;
        let source = FileSource::new(opened).map_err(Error::io("read", path))?;
        let name = path
            .file_name()
            .map(|n| n.to_string_lossy())
            .unwrap_or_default();
        let layout = match external {
            Some(tensors) => mmh_formats::onnx::external_layout(source.len(), tensors),
            None => mmh_formats::probe(&source, &name).map_err(|e| shrunk(e, path))?,
        };
        let ingested = self
            .source(&source, &layout, parallel)
            .map_err(|e| match e {
                Error::Formats(e) => shrunk(e, path),
                other => other,
            })?;
        let after = fs::metadata(path).map_err(Error::io("read", path))?;
        let stamp = |m: &fs::Metadata| (m.len(), m.modified().ok());
        if stamp(&before) != stamp(&after) {
            return Err(Error::Changed(path.to_owned()));
        }
        Ok(ingested)
    }

    /// Adds bytes with a known layout.
    pub(crate) fn source(
        &self,
        source: &dyn ReadAt,
        layout: &Layout,
        parallel: bool,
    ) -> Result<Ingested> {
        let matcher = self
            .bases
            .map(|bases| Matcher::new(bases, (source, layout), self.chunking));
        let from = (source, matcher.as_ref());
        let cutter = Cutter::new(source, layout, self.chunking).keyed(self.gear);
        let cutter = match self.digests {
            true => cutter.with_digests(),
            false => cutter.leaving_unread(),
        };
        let line = Line::new(cutter);
        loop {
            if parallel {
                rayon::scope(|scope| {
                    for _ in 0..rayon::current_num_threads() {
                        scope.spawn(|_| self.work(&line, from));
                    }
                });
            } else {
                self.work(&line, from);
            }
            let mut state = line.lock();
            if let Some(failure) = state.failure.take() {
                return Err(failure);
            }
            if state.ended {
                break;
            }
            state.out.write_pages(self)?;
            state.paused = false;
        }
        let Taken { cutter, out, .. } = line.into_inner();
        self.finish(layout, cutter, out)
    }

    fn finish(&self, layout: &Layout, cutter: Cutter<'_>, mut out: Builder) -> Result<Ingested> {
        let segments = out.segments(self)?;
        let (blake3, sha256) = cutter.digests().unzip();
        let file = File {
            r#type: FileTag::Tag,
            size: layout.len(),
            blake3,
            sha256,
            container: layout.container().as_str().to_owned(),
            note: layout.note().map(|n| n.chars().take(1000).collect()),
            segments,
        };
        let id = FileId::from_object(objects::write(self.sink, self.encoders, &file)?);
        Ok(Ingested {
            id,
            size: file.size,
            container: layout.container(),
            note: file.note.map(String::into_boxed_str),
            new_raw: out.new_raw,
            new_stored: out.new_stored,
        })
    }

    /// Takes chunks from the file and codes them, until there are none or a round is complete.
    fn work(&self, line: &Line<'_>, (source, matcher): (&dyn ReadAt, Option<&Matcher<'_>>)) {
        let mut done = Ok(Vec::new());
        while let Some(jobs) = line.exchange(done, self.take_len) {
            let code = |mut job: Job| {
                job.read(source)?;
                self.code(&job, matcher)
            };
            let going = self.cancel.check().map_err(Error::from);
            done = going.and_then(|()| jobs.into_iter().map(code).collect());
        }
    }

    /// Codes one chunk unless the store has it.
    fn code(&self, job: &Job, matcher: Option<&Matcher<'_>>) -> Result<Coded> {
        let id = self.sink.id(&job.raw);
        let mut coded = Coded {
            slot: job.slot,
            id,
            new_raw: 0,
            new_stored: 0,
        };
        if !self.sink.contains(&id)? {
            let base = base_of(job, matcher)?;
            let base = base.filter(|base| base.id != *id.digest().as_bytes());
            self.encoders.with(|encoder, frame| {
                encoder.encode_with(&job.raw, &job.hint, &context(base.as_ref()), frame)?;
                let raw_len = u32::try_from(job.raw.len())
                    .expect("chunks are shorter than 4 GiB by the limits of the cutter");
                if self.sink.put(id, raw_len, frame)? {
                    coded.new_raw = u64::from(raw_len);
                    coded.new_stored = frame.len() as u64;
                }
                Ok(())
            })?;
        }
        self.progress.advance(job.raw.len() as u64);
        Ok(coded)
    }
}

/// The base of a chunk, if there is one.
pub(crate) fn base_of(job: &Job, matcher: Option<&Matcher<'_>>) -> Result<Option<Match>> {
    match (matcher, job.of) {
        (Some(matcher), Some(of)) => matcher.base(of, job.raw.len()),
        _ => Ok(None),
    }
}

/// What an encoder may refer to.
pub(crate) fn context(base: Option<&Match>) -> Context<'_> {
    let base = base.map(|base| Base {
        id: base.id,
        raw: &base.raw,
    });
    Context { base }
}

/// A file that ends earlier than when it was opened changed under us.
fn shrunk(error: mmh_formats::Error, path: &Path) -> Error {
    match error {
        mmh_formats::Error::Io { source, .. }
            if source.kind() == std::io::ErrorKind::UnexpectedEof =>
        {
            Error::Changed(path.to_owned())
        }
        mmh_formats::Error::Io { source, .. } => Error::io("read", path)(source),
        other => Error::Formats(other),
    }
}

/// A file that threads take chunks from, one after the other, and bring the ids back to.
struct Line<'a>(Mutex<Taken<'a>>);

struct Taken<'a> {
    cutter: Cutter<'a>,
    out: Builder,
    /// Nothing is to be taken: a round is complete, the file has ended, or something failed.
    paused: bool,
    ended: bool,
    failure: Option<Error>,
}

impl<'a> Line<'a> {
    fn new(cutter: Cutter<'a>) -> Self {
        Self(Mutex::new(Taken {
            cutter,
            out: Builder::default(),
            paused: false,
            ended: false,
            failure: None,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Taken<'a>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn into_inner(self) -> Taken<'a> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings back what came of chunks and takes the next, about `len` bytes of them. What is cut by
    /// content, pooled or taken into digests is read under the lock, in the order of the file.
    fn exchange(&self, done: Result<Vec<Coded>>, len: u64) -> Option<Vec<Job>> {
        let mut state = self.lock();
        if let Err(failure) = done.map(|done| state.out.take(done)) {
            state.fail(failure);
        }
        if state.paused {
            return None;
        }
        match state.cutter.next_batch(len) {
            Ok(batch) => {
                state.ended = batch.pieces.is_empty() && batch.jobs.is_empty();
                state.paused = state.ended || batch.closed;
                state.out.pending.extend(batch.pieces);
                Some(batch.jobs)
            }
            Err(failure) => {
                state.fail(failure);
                None
            }
        }
    }
}

impl Taken<'_> {
    /// Keeps the first failure; nothing more is taken.
    fn fail(&mut self, failure: Error) {
        self.failure.get_or_insert(failure);
        self.paused = true;
    }
}

#[derive(Debug)]
struct Coded {
    slot: Slot,
    id: ChunkId,
    new_raw: u64,
    new_stored: u64,
}

/// Collects pieces and ids, and makes segments of them once all ids are known.
#[derive(Debug, Default)]
struct Builder {
    pending: Vec<Piece>,
    ids: BTreeMap<Slot, ChunkId>,
    pages: Vec<PageRef>,
    /// The tensor that the last piece belonged to, and how many of its bytes came so far.
    current: Option<(TensorInfo, u64)>,
    new_raw: u64,
    new_stored: u64,
}

impl Builder {
    fn take(&mut self, coded: Vec<Coded>) {
        for coded in coded {
            self.ids.insert(coded.slot, coded.id);
            self.new_raw += coded.new_raw;
            self.new_stored += coded.new_stored;
        }
    }

    /// Turns pending pieces into segments.
    fn drain(&mut self) -> Vec<Segment> {
        let mut segments: Vec<Segment> = Vec::new();
        let mut after_pooled = false;
        for piece in std::mem::take(&mut self.pending) {
            let chunk = ChunkRef(self.ids[&piece.slot], piece.start, piece.len);
            let full = segments
                .last()
                .is_none_or(|s| s.items() + 2 > SEGMENT_CHUNKS_MAX);
            let opens = match piece.place {
                Place::Begins => true,
                Place::Continues => false,
                Place::Pooled => !after_pooled,
            };
            if full || opens {
                segments.push(Segment {
                    len: 0,
                    tensors: Vec::new(),
                    chunks: Vec::new(),
                });
            }
            after_pooled = piece.place == Place::Pooled;
            let segment = segments
                .last_mut()
                .expect("one was pushed when there was none");
            self.describe(segment, &piece);
            segment.len += u64::from(piece.len);
            segment.chunks.push(chunk);
        }
        self.ids.clear();
        segments
    }

    /// Notes the tensor that the piece begins, or the one that a new segment goes on with.
    fn describe(&mut self, segment: &mut Segment, piece: &Piece) {
        if let Some(info) = &piece.begins {
            segment.tensors.push(TensorSpan {
                info: info.clone(),
                start: segment.len,
                skip: 0,
            });
        }
        match (piece.place, &mut self.current) {
            (Place::Begins, _) => {
                self.current = piece
                    .begins
                    .clone()
                    .map(|info| (info, u64::from(piece.len)));
            }
            (Place::Pooled, _) => self.current = None,
            (Place::Continues, Some((info, done))) => {
                if segment.chunks.is_empty() {
                    let span = TensorSpan {
                        info: info.clone(),
                        start: 0,
                        skip: *done,
                    };
                    segment.tensors.push(span);
                }
                *done += u64::from(piece.len);
            }
            (Place::Continues, None) => {}
        }
    }

    fn write_pages(&mut self, ingest: &Ingest<'_>) -> Result<()> {
        let segments = self.drain();
        self.page_out(segments, ingest)
    }

    fn page_out(&mut self, segments: Vec<Segment>, ingest: &Ingest<'_>) -> Result<()> {
        let mut page: Vec<Segment> = Vec::new();
        let mut items = 0;
        let mut rest = segments.into_iter().peekable();
        while let Some(segment) = rest.next() {
            items += segment.items();
            page.push(segment);
            let next = rest.peek().map_or(usize::MAX, Segment::items);
            if items.saturating_add(next) > limits::FILE_PAGE_ITEMS_MAX / 2 {
                let segments = std::mem::take(&mut page);
                let covers = segments.iter().map(|s| s.len).sum();
                let value = SegmentPage {
                    r#type: SegmentPageTag::Tag,
                    segments,
                };
                let id = objects::write(ingest.sink, ingest.encoders, &value)?;
                self.pages.push(PageRef(id, covers));
                items = 0;
            }
        }
        Ok(())
    }

    fn segments(&mut self, ingest: &Ingest<'_>) -> Result<Segments> {
        let segments = self.drain();
        let items: usize = segments.iter().map(Segment::items).sum();
        if self.pages.is_empty() && items <= limits::FILE_PAGE_ITEMS_MAX / 2 {
            return Ok(Segments::Inline(segments));
        }
        self.page_out(segments, ingest)?;
        Ok(Segments::Pages(std::mem::take(&mut self.pages)))
    }
}

#[cfg(test)]
mod tests;
