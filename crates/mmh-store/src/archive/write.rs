//! Writing an archive.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mmh_core::name::RefName;
use mmh_core::{ChunkId, SnapshotId, canonical};

use super::table::encode_entry;
use super::{Root, RootTag};
use crate::chunk::ChunkSink;
use crate::error::{Error, Result};
use crate::pack::{ARCHIVE_ENTRY_LEN, Entry, Growing, Kind, RECORD_HEAD_LEN, encode_record_head};
use crate::staging::{LocalFile, LocalStaging, StagedFile as _};
use crate::writer::new_entry;

/// Shorter frames are gathered, so that they do not wait for the file while others write.
const SMALL_FRAME_LEN: usize = 64 << 10;
/// What was gathered is written when it has this many bytes.
const GATHERED_LEN: usize = 512 << 10;

/// Writes an archive; many threads may put at once. Nothing appears under the final name before
/// [`ArchiveWriter::finish`]; dropping the writer removes what it wrote. Holds about 100 bytes of
/// memory for every chunk, and half a MiB of small ones.
#[derive(Debug)]
pub struct ArchiveWriter {
    file: Arc<LocalFile>,
    /// The final name, beside the partial one.
    name: String,
    /// The whole path, for messages.
    place: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None` once the file has its final name.
    growing: Option<Growing>,
    entries: Vec<Entry>,
    gathered: Gathered,
    ids: HashSet<ChunkId>,
    failure: Option<String>,
}

/// Records that have no place in the file yet.
#[derive(Debug, Default)]
struct Gathered {
    records: Vec<u8>,
    /// With offsets among the records.
    entries: Vec<Entry>,
}

impl ArchiveWriter {
    /// Begins the archive that will be `path`.
    ///
    /// # Errors
    /// Invalid if the path names no file; Denied; Unavailable.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let place = path.display().to_string();
        let Some(name) = path
            .file_name()
            .and_then(|name| name.to_str())
            .map(str::to_owned)
        else {
            let reason = "the path does not end with a file name in UTF-8".to_owned();
            return Err(Error::NotAnArchive { place, reason });
        };
        if path.is_dir() {
            let reason = "it is a directory".to_owned();
            return Err(Error::NotAnArchive { place, reason });
        }
        let file = Arc::new(LocalStaging::beside(path).map_err(Error::io(&place))?);
        let growing = Growing::begin(Arc::<LocalFile>::clone(&file), Kind::Archive);
        let state = Mutex::new(State {
            growing: Some(growing.map_err(Error::io(file.name()))?),
            entries: Vec::new(),
            gathered: Gathered::default(),
            ids: HashSet::new(),
            failure: None,
        });
        Ok(Self {
            file,
            name,
            place,
            state,
        })
    }

    /// Names the roots, syncs, and gives the file its final name, replacing what is there.
    /// Returns the file's length in bytes.
    ///
    /// # Errors
    /// Invalid if a name comes twice; Unavailable; Denied.
    pub fn finish(self, refs: &[(RefName, SnapshotId)]) -> Result<u64> {
        let named = refs
            .iter()
            .map(|(name, id)| (name.to_string(), *id))
            .collect();
        let root = Root {
            r#type: RootTag::Tag,
            refs: named,
        };
        if root.refs.len() != refs.len() {
            let reason = "a ref is named twice".to_owned();
            return Err(mmh_core::Error::BadObject {
                what: "archive",
                reason,
            }
            .into());
        }
        let root = canonical::encode(&root)?;
        let mut state = self.lock();
        state.check()?;
        if let Some((offset, records)) = state.place_gathered()? {
            let written = self.file.write_at(offset, &[&records]);
            written.map_err(Error::io(self.file.name()))?;
        }
        let growing = state.growing.take().ok_or_else(gone)?;
        let mut entries = std::mem::take(&mut state.entries);
        drop(state);
        entries.sort_unstable_by_key(|entry| entry.id);
        let mut footer = Vec::with_capacity(entries.len() * ARCHIVE_ENTRY_LEN + root.len());
        entries
            .iter()
            .for_each(|entry| encode_entry(entry, &mut footer));
        footer.extend_from_slice(&root);
        let failed = Error::io(self.file.name());
        growing
            .end(footer, entries.len() as u64, 0)
            .map_err(failed)?;
        let len = self.file.len();
        self.file
            .publish(&self.name)
            .map_err(Error::io(&self.place))?;
        Ok(len)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ArchiveWriter {
    fn drop(&mut self) {
        // After `finish` the partial name is gone and there is nothing to remove.
        let _gone = self.file.discard().is_err();
    }
}

impl State {
    fn check(&self) -> Result<()> {
        match &self.failure {
            Some(reason) => Err(Error::WriterFailed {
                reason: reason.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Gives the record of a large frame its place, which is the caller's to fill.
    fn place(&mut self, mut entry: Entry, frame: &[u8]) -> Result<u64> {
        let growing = self.growing.as_mut().ok_or_else(gone)?;
        entry.offset = growing.reserve(RECORD_HEAD_LEN + frame.len() as u64);
        self.entries.push(entry);
        Ok(entry.offset)
    }

    /// Gives the records of small frames their place, which is the caller's to fill with them.
    fn place_gathered(&mut self) -> Result<Option<(u64, Vec<u8>)>> {
        let Gathered { records, entries } = std::mem::take(&mut self.gathered);
        if records.is_empty() {
            return Ok(None);
        }
        let growing = self.growing.as_mut().ok_or_else(gone)?;
        let offset = growing.reserve(records.len() as u64);
        self.entries.extend(entries.into_iter().map(|mut entry| {
            entry.offset += offset;
            entry
        }));
        Ok(Some((offset, records)))
    }
}

impl Gathered {
    fn add(&mut self, mut entry: Entry, frame: &[u8]) {
        entry.offset = self.records.len() as u64;
        self.entries.push(entry);
        self.records.extend_from_slice(&encode_record_head(frame));
        self.records.extend_from_slice(frame);
    }
}

fn gone() -> Error {
    Error::Internal {
        what: "the archive is finished already".to_owned(),
    }
}

impl ChunkSink for ArchiveWriter {
    fn id(&self, raw: &[u8]) -> ChunkId {
        ChunkId::of(raw)
    }

    fn contains(&self, id: &ChunkId) -> Result<bool> {
        Ok(self.lock().ids.contains(id))
    }

    fn put(&self, id: ChunkId, raw_len: u32, frame: &[u8]) -> Result<bool> {
        let entry = new_entry(id, raw_len, frame)?;
        let mut state = self.lock();
        state.check()?;
        if !state.ids.insert(id) {
            return Ok(false);
        }
        // The file is written without the lock: the others go on meanwhile.
        let written = if frame.len() < SMALL_FRAME_LEN {
            state.gathered.add(entry, frame);
            if state.gathered.records.len() < GATHERED_LEN {
                return Ok(true);
            }
            let placed = state.place_gathered()?;
            drop(state);
            placed.map_or(Ok(()), |(offset, records)| {
                self.file.write_at(offset, &[&records])
            })
        } else {
            let offset = state.place(entry, frame)?;
            drop(state);
            let head = encode_record_head(frame);
            self.file.write_at(offset, &[&head, frame])
        };
        written.map_err(|source| {
            self.lock().failure = Some(source.to_string());
            Error::io(self.file.name())(source)
        })?;
        Ok(true)
    }
}
