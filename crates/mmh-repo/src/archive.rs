//! One-file repositories: pack a file or folder into a `.mmh`, and back.

use std::path::Path;

use bytes::Bytes;
use mmh_core::name::{DEFAULT_BRANCH, RefName, Target};
use mmh_core::tree::Node;
use mmh_core::{ChunkId, Verified};
use mmh_store::{ArchiveWriter, ChunkInfo, ChunkSource, ChunkerParams};
use serde::Serialize;

use crate::add::{check_paths, edits, nothing_in};
use crate::edit::Editor;
use crate::error::{Error, Result};
use crate::export::{ExportOptions, ExportReport};
use crate::repository::{Components, Repository, Settings};
use crate::walk::{WalkOptions, walk};
use crate::workshop::Workshop;

/// The name under which a packed folder stands in its archive.
pub const FOLDER_NAME: &str = "trees/folder";
/// The name under which a single packed file stands in its archive.
pub const FILE_NAME: &str = "trees/file";

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

/// Packs a file or folder into one portable file.
///
/// # Errors
/// As [`Repository::add`]. The archive appears under its name only when it is complete.
pub fn pack(
    input: &Path,
    output: &Path,
    settings: Settings,
    components: Components,
) -> Result<PackReport> {
    let shop = Workshop::new(settings, components, &ChunkerParams::default())?;
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
    let sink = ArchiveWriter::create(output)?;
    let files = shop.ingest(&sink, &found)?;
    let editor = Editor {
        source: &Empty,
        sink: &sink,
        encoders: &shop.encoders,
    };
    let tree = editor.apply(None, edits(&found, &files, None))?;
    let snapshot = shop.write_snapshot(&sink, tree, Vec::new(), "pack")?;
    let branch = RefName::branch(name.parse()?, DEFAULT_BRANCH)?;
    shop.components.cancel.check()?;
    let stored = sink.finish(&[(branch, snapshot)])?;
    let raw = files.iter().map(|(_, f)| f.size).sum();
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
    options: ExportOptions,
    settings: Settings,
    components: Components,
) -> Result<ExportReport> {
    let repo = Repository::open_archive(input, settings, components)?;
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
    let root = repo.node(&target)?;
    if only.name != FILE_NAME {
        return repo.export(&root, "", output, options);
    }
    let files = repo.list(&target, false)?;
    match &files[..] {
        [file] if matches!(file.node, Node::File { .. }) => {
            repo.export(&file.node, &file.path, output, options)
        }
        _ => Err(Error::Corrupt(format!(
            "{} does not hold one file",
            input.display()
        ))),
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
}

impl Repository {
    /// Opens a one-file repository, for reading only.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`, `Unsupported`.
    pub fn open_archive(path: &Path, settings: Settings, components: Components) -> Result<Self> {
        let archive = mmh_store::Archive::open(path)?;
        let len = std::fs::metadata(path)
            .map_err(Error::io("read", path))?
            .len();
        Self::of_archive(archive, len, settings, components)
    }
}
