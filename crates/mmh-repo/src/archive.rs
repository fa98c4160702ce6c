//! One-file repositories: pack a file or folder into a `.mmh`, and back.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use mmh_codec::References;
use mmh_core::name::{DEFAULT_BRANCH, RefName, Target};
use mmh_core::tree::Node;
use mmh_core::{ChunkId, ErrorKind, Verified};
use mmh_store::{ArchiveWriter, ChunkInfo, ChunkSink, ChunkSource, ChunkerParams};
use serde::Serialize;

use crate::add::{check_paths, edits, nothing_in};
use crate::base::Bases;
use crate::cut::Chunking;
use crate::edit::Editor;
use crate::error::{Error, Result};
use crate::export::{ExportOptions, ExportReport};
use crate::outside::Outside;
use crate::repository::{Components, Repository, Settings};
use crate::walk::{WalkOptions, walk};
use crate::workshop::Workshop;

/// The name under which a packed folder stands in its archive.
pub const FOLDER_NAME: &str = "trees/folder";
/// The name under which a single packed file stands in its archive.
pub const FILE_NAME: &str = "trees/file";

/// The message of a packed snapshot,
const MESSAGE: &str = "pack";
/// and what comes in it before the names of the files it is on top of.
const ON_TOP: &str = "on top of ";

/// What packing did.
#[derive(Debug, Clone, Serialize)]
pub struct PackReport {
    /// Files packed.
    pub files: u64,
    /// Their bytes.
    pub raw: u64,
    /// The archive's bytes.
    pub stored: u64,
    /// What was left out, and why.
    pub skipped: Vec<String>,
}

/// How to pack.
#[derive(Debug, Clone, Default)]
pub struct PackOptions {
    /// Files and folders that tensors are coded as differences from; whoever unpacks needs them.
    pub bases: Vec<PathBuf>,
    /// Replace what is there under the archive's name.
    pub force: bool,
    /// Note the BLAKE3 and SHA-256 of each whole file, which tell others what the file is. What is
    /// unpacked is compared with the ids of its chunks in any case.
    pub digests: bool,
}

/// How to unpack.
#[derive(Debug, Clone, Default)]
pub struct UnpackOptions {
    /// How files are restored.
    pub export: ExportOptions,
    /// The files and folders that the archive was made on top of.
    pub bases: Vec<PathBuf>,
}

/// Packs a file or folder into one portable file.
///
/// # Errors
/// As [`Repository::add`]; `Conflict` if there is something under its name. The archive appears
/// under its name only when it is complete.
pub fn pack(
    input: &Path,
    output: &Path,
    options: &PackOptions,
    settings: Settings,
    components: Components,
) -> Result<PackReport> {
    let mut shop = Workshop::new(settings, components, &ChunkerParams::default())?;
    shop.digests = options.digests;
    let (found, skipped) = walk(&[input.to_owned()], WalkOptions::default())?;
    if found.is_empty() && !input.is_dir() {
        return Err(nothing_in(&[input.to_owned()], &skipped));
    }
    check_paths(&found, None)?;
    let name = if input.is_dir() {
        FOLDER_NAME
    } else {
        FILE_NAME
    };
    if !options.force && output.is_file() {
        let what = format!(
            "{} exists already; replace it with `--force`",
            output.display()
        );
        return Err(Error::Conflict(what));
    }
    let (outside, set) = Outside::open(&options.bases, shop.chunking, &shop.components)?;
    let bases = Bases {
        source: &outside,
        before: None,
        sets: vec![Arc::new(set)],
    };
    let archive = ArchiveWriter::create(output)?;
    let sink = OnTop {
        archive: &archive,
        outside: &outside,
    };
    let files = shop.ingest(&sink, &found, &bases)?;
    let editor = Editor {
        source: &Empty,
        sink: &sink,
        encoders: &shop.encoders,
    };
    let tree = editor.apply(None, &edits(&found, &files, None).collect())?;
    let message = message(&options.bases);
    let snapshot = shop.write_snapshot(&sink, tree, Vec::new(), (&message, None))?;
    let branch = RefName::branch(name.parse()?, DEFAULT_BRANCH)?;
    shop.components.cancel.check()?;
    let stored = archive.finish(&[(branch, snapshot)])?;
    let raw = files.iter().map(|f| f.size).sum();
    Ok(PackReport {
        files: files.len() as u64,
        raw,
        stored,
        skipped,
    })
}

/// Unpacks an archive that [`pack`] made: a folder into the folder `output`, a file as `output`.
///
/// # Errors
/// As [`Repository::export`]; `Invalid` if the archive holds several names.
pub fn unpack(
    input: &Path,
    output: &Path,
    options: &UnpackOptions,
    settings: Settings,
    components: Components,
) -> Result<ExportReport> {
    let repo = Repository::open_archive_on(input, &options.bases, settings, components)?;
    let names = repo.names()?;
    let [only] = &names[..] else {
        let what = format!(
            "{} holds {} names; use `mmh -R {} get NAME DEST`",
            input.display(),
            names.len(),
            input.display()
        );
        return Err(Error::Invalid(what));
    };
    let target: Target = only.name.parse()?;
    let root = repo.find_node(&target)?;
    if only.name != FILE_NAME {
        let done = repo.export(&root, "", output, options.export);
        return done.map_err(|e| on_top(e, &repo, &target));
    }
    let files = repo.list(&target, false)?;
    match &files[..] {
        [file] if matches!(file.node, Node::File { .. }) => {
            let done = repo.export(&file.node, &file.path, output, options.export);
            done.map_err(|e| on_top(e, &repo, &target))
        }
        _ => Err(Error::Corrupt(format!(
            "{} does not hold one file",
            input.display()
        ))),
    }
}

/// The message of a packed snapshot, which says what it is on top of.
fn message(bases: &[PathBuf]) -> String {
    let name = |path: &PathBuf| {
        let name = path.file_name().unwrap_or(path.as_os_str());
        name.to_string_lossy().into_owned()
    };
    let names: Vec<String> = bases.iter().take(8).map(name).collect();
    if names.is_empty() {
        MESSAGE.to_owned()
    } else {
        format!("{MESSAGE} {ON_TOP}{}", names.join(", "))
    }
}

/// Says of a missing base which files have it.
fn on_top(error: Error, repo: &Repository, target: &Target) -> Error {
    use mmh_store::Error as E;
    let Error::Store(inner @ (E::Reference { .. } | E::NoSuchChunk { .. })) = &error else {
        return error;
    };
    let message = repo.find(target).map(|tip| tip.snapshot.message);
    let message = message.unwrap_or_default();
    let names = message.split_once(ON_TOP).map(|(_, names)| names);
    let Some(names) = names.filter(|_| inner.kind() == ErrorKind::NotFound) else {
        return error;
    };
    Error::MissingBase {
        names: names.to_owned(),
        reason: inner.to_string(),
    }
}

/// An archive that leaves out what the files have that it is on top of.
struct OnTop<'a> {
    archive: &'a ArchiveWriter,
    outside: &'a Outside,
}

impl ChunkSink for OnTop<'_> {
    fn id(&self, raw: &[u8]) -> ChunkId {
        self.archive.id(raw)
    }

    fn contains(&self, id: &ChunkId) -> mmh_store::Result<bool> {
        Ok(self.archive.contains(id)? || self.outside.locate(id)?.is_some())
    }

    fn put(&self, id: ChunkId, raw_len: u32, frame: &[u8]) -> mmh_store::Result<bool> {
        self.archive.put(id, raw_len, frame)
    }
}

/// A source without chunks: what a tree is built on when nothing was there.
#[derive(Debug)]
struct Empty;

impl ChunkSource for Empty {
    fn locate(&self, _id: &ChunkId) -> mmh_store::Result<Option<ChunkInfo>> {
        Ok(None)
    }

    fn get(&self, id: &ChunkId) -> mmh_store::Result<Verified<Bytes>> {
        Err(mmh_store::Error::NoSuchChunk { chunk: *id })
    }

    fn references(&self, id: &ChunkId) -> mmh_store::Result<References> {
        Err(mmh_store::Error::NoSuchChunk { chunk: *id })
    }
}

impl Repository {
    /// Opens a one-file repository, for reading only.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`, `Unsupported`.
    pub fn open_archive(path: &Path, settings: Settings, components: Components) -> Result<Self> {
        Self::open_archive_on(path, &[], settings, components)
    }

    /// Opens a one-file repository that was made on top of other files.
    ///
    /// # Errors
    /// As [`Self::open_archive`]; those of reading the files.
    pub fn open_archive_on(
        path: &Path,
        bases: &[PathBuf],
        settings: Settings,
        components: Components,
    ) -> Result<Self> {
        let mut archive = mmh_store::Archive::open(path)?;
        if !bases.is_empty() {
            let chunking = Chunking::new(&ChunkerParams::default())?;
            let (outside, _) = Outside::open(bases, chunking, &components)?;
            archive = archive.with_bases(Arc::new(outside));
        }
        let len = std::fs::metadata(path)
            .map_err(Error::io("read", path))?
            .len();
        Self::of_archive(archive, len, settings, components)
    }
}
