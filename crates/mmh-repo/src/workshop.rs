//! Where files become chunks: the part of a repository that needs no store to exist.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

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
use crate::walk::{Found, Kind};

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

    /// Stores the content of every file; the result is in order of name.
    pub(crate) fn ingest(
        &self,
        sink: &dyn ChunkSink,
        found: &[Found],
        bases: &Bases<'_>,
    ) -> Result<Vec<(Arc<str>, Ingested)>> {
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
    ) -> Result<Vec<(Arc<str>, Ingested)>> {
        let ingest = self.ingest_into(sink);
        let externals = externals(found)?;
        let one = |file: &Found, parallel: bool| -> Result<(Arc<str>, Ingested)> {
            self.components.cancel.check()?;
            self.components.progress.item(&file.name);
            let path = file.path();
            let outside = externals.get(&path).map(Vec::as_slice);
            let sets = bases.for_file(&file.name)?;
            let ingest = Ingest {
                bases: Some((bases.source, &sets)),
                ..ingest
            };
            Ok((
                Arc::clone(&file.name),
                ingest.file(&path, outside, parallel)?,
            ))
        };
        let files = found.iter().filter(|f| matches!(f.kind, Kind::File { .. }));
        let (small, large): (Vec<&Found>, Vec<&Found>) =
            files.partition(|f| f.len() <= SMALL_FILE_LEN);
        let mut all = small
            .par_iter()
            .map(|f| one(f, false))
            .collect::<Result<Vec<_>>>()?;
        for file in large {
            all.push(one(file, true)?);
        }
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
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
        matches!(f.kind, Kind::File { .. }) && (name.ends_with(".onnx") || name.ends_with(".index"))
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
