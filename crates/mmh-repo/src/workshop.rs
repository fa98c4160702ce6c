//! Where files become chunks: the part of a repository that needs no store to exist.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use mmh_core::TensorInfo;
use mmh_core::object::{Snapshot, SnapshotTag};
use mmh_core::{SnapshotId, TreeId};
use mmh_formats::read_at::FileSource;
use mmh_formats::{Container, Layout};
use mmh_store::{ChunkSink, ChunkerParams};
use rayon::prelude::*;

use crate::base::Bases;
use crate::cut::Chunking;
use crate::error::{Error, Result};
use crate::gear::Gear;
use crate::ingest::{Ingest, Ingested};
use crate::objects;
use crate::recycle::Encoders;
use crate::repository::{Components, Settings};
use crate::walk::Found;

/// Files up to this length are added several at a time, larger ones one after another with their
/// chunks in parallel.
const SMALL_FILE_LEN: u64 = 4 << 20;
/// Raw bytes coded at once, for each thread.
const BATCH_LEN_PER_THREAD: u64 = 4 << 20;
/// Raw bytes of small chunks that a thread takes from a file at once.
const TAKE_LEN: u64 = 1 << 20;

/// Tensors that index files (ONNX, TensorFlow) place in other files, by the other file's path.
type Externals = HashMap<PathBuf, Vec<(u64, u64, TensorInfo)>>;

/// Settings, components and encoders together.
#[derive(Debug)]
pub(crate) struct Workshop {
    pub(crate) settings: Settings,
    pub(crate) components: Components,
    pub(crate) encoders: Encoders,
    pub(crate) chunking: Chunking,
    /// What cuts by content in a sealed repository; `None` without its root seed too.
    pub(crate) gear: Option<Gear>,
    /// Whether files get the digests of their whole content.
    pub(crate) digests: bool,
}

impl Workshop {
    pub(crate) fn new(
        settings: Settings,
        components: Components,
        chunker: &ChunkerParams,
    ) -> Result<Self> {
        let coding = mmh_codec::Settings {
            level: settings.level,
            verify: settings.verify_encode,
        };
        let (encoders, chunking) = (
            Encoders::new(coding, components.engine),
            Chunking::new(chunker)?,
        );
        Ok(Self {
            settings,
            components,
            encoders,
            chunking,
            gear: None,
            digests: true,
        })
    }

    pub(crate) fn batch_len(&self) -> u64 {
        BATCH_LEN_PER_THREAD * self.components.pool.current_num_threads() as u64
    }

    /// Stores the content of every file; the result has the order of the files found. There may be
    /// millions.
    pub(crate) fn ingest(
        &self,
        sink: &dyn ChunkSink,
        found: &[Found],
        bases: &Bases<'_>,
    ) -> Result<Vec<Ingested>> {
        let total = found.iter().map(Found::len).sum();
        self.components.progress.begin("adding", Some(total));
        let done = self
            .components
            .pool
            .install(|| self.ingest_all(sink, found, bases));
        self.components.progress.end();
        done
    }

    fn ingest_all(
        &self,
        sink: &dyn ChunkSink,
        found: &[Found],
        bases: &Bases<'_>,
    ) -> Result<Vec<Ingested>> {
        let ingest = self.ingest_into(sink);
        let externals = externals(found)?;
        let one = |file: &Found, parallel: bool| {
            self.components.cancel.check()?;
            self.components.progress.item(&file.name);
            let path = file.path();
            let outside = externals.get(&path).map(Vec::as_slice);
            let candidates = || bases.for_file(&file.name);
            let ingest = Ingest {
                bases: Some((bases.source, &candidates)),
                ..ingest
            };
            ingest.file(&path, outside, parallel)
        };
        let files: Vec<&Found> = found.iter().filter(|f| f.is_file()).collect();
        let mut all: Vec<Option<Ingested>> = Vec::with_capacity(files.len());
        all.resize_with(files.len(), || None);
        let small = |file: &Found| file.len() <= SMALL_FILE_LEN;
        let slots = files.par_iter().zip(&mut all);
        slots
            .filter(|(file, _)| small(file))
            .try_for_each(|(file, slot)| -> Result<()> {
                *slot = Some(one(file, false)?);
                Ok(())
            })?;
        for (file, slot) in files.iter().zip(&mut all) {
            if !small(file) {
                *slot = Some(one(file, true)?);
            }
        }
        Ok(all.into_iter().flatten().collect())
    }

    /// Stores bytes as a file.
    pub(crate) fn ingest_bytes(&self, sink: &dyn ChunkSink, bytes: Vec<u8>) -> Result<Ingested> {
        let layout = Layout::bytes(Container::Unknown, bytes.len() as u64);
        self.ingest_into(sink).source(&bytes, &layout, false)
    }

    fn ingest_into<'a>(&'a self, sink: &'a dyn ChunkSink) -> Ingest<'a> {
        Ingest {
            sink,
            encoders: &self.encoders,
            progress: self.components.progress.as_ref(),
            cancel: &self.components.cancel,
            chunking: self.chunking,
            gear: self.gear.as_ref(),
            take_len: TAKE_LEN,
            digests: self.digests,
            bases: None,
        }
    }

    pub(crate) fn write_snapshot(
        &self,
        sink: &dyn ChunkSink,
        tree: TreeId,
        parents: Vec<SnapshotId>,
        (message, author): (&str, Option<&str>),
    ) -> Result<SnapshotId> {
        let snapshot = Snapshot {
            r#type: SnapshotTag::Tag,
            tree,
            parents,
            author: author.unwrap_or(&self.settings.author).to_owned(),
            time_ms: self.components.clock.now_ms(),
            message: message.to_owned(),
        };
        Ok(SnapshotId::from_object(objects::write(
            sink,
            &self.encoders,
            &snapshot,
        )?))
    }
}

/// Reads the index files among `found` for the tensors they place elsewhere.
fn externals(found: &[Found]) -> Result<Externals> {
    let all: Mutex<Externals> = Mutex::new(HashMap::new());
    let index = |f: &&Found| {
        let name = f.name.to_ascii_lowercase();
        f.is_file() && (name.ends_with(".onnx") || name.ends_with(".index"))
    };
    found
        .par_iter()
        .filter(index)
        .try_for_each(|file| -> Result<()> {
            let path = file.path();
            let opened = std::fs::File::open(&path).map_err(Error::io("open", &path))?;
            let source = FileSource::new(opened).map_err(Error::io("read", &path))?;
            let folder = path.parent().unwrap_or(Path::new(""));
            let name = file.name.rsplit('/').next().unwrap_or_default();
            // What is wrong with the file itself is said when it is added.
            let Ok(layout) = mmh_formats::recognise(&source, name) else {
                return Ok(());
            };
            for external in layout.externals() {
                if let Ok(mut all) = all.lock() {
                    let list = all.entry(folder.join(&external.location)).or_default();
                    list.extend(external.tensors.iter().cloned());
                }
            }
            Ok(())
        })?;
    Ok(all.into_inner().unwrap_or_default())
}
