//! Writing an archive.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use mmh_core::name::RefName;
use mmh_core::{ChunkId, SnapshotId, canonical};

use super::table::encode_entry;
use super::{Root, RootTag};
use crate::chunk::ChunkSink;
use crate::error::{Error, Result};
use crate::pack::{ARCHIVE_ENTRY_LEN, Entry, Growing, Kind};
use crate::staging::{LocalStaging, StagedFile};
use crate::writer::new_entry;

/// Writes an archive; many threads may put at once. Nothing appears under the final name before
/// [`ArchiveWriter::finish`]; dropping the writer removes what it wrote. Holds about 100 bytes of
/// memory for every chunk.
#[derive(Debug)]
pub struct ArchiveWriter {
    file: Arc<dyn StagedFile>,
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
    ids: HashSet<ChunkId>,
    failure: Option<String>,
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
        let file: Arc<dyn StagedFile> = LocalStaging::beside(path)
            .map_err(Error::io(&place))?
            .into();
        let growing = Growing::begin(Arc::clone(&file), Kind::Archive);
        let growing = Some(growing.map_err(Error::io(file.name()))?);
        let (entries, ids) = (Vec::new(), HashSet::new());
        let state = Mutex::new(State {
            growing,
            entries,
            ids,
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
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.check()?;
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
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(state.ids.contains(id))
    }

    fn put(&self, id: ChunkId, raw_len: u32, frame: &[u8]) -> Result<bool> {
        let mut entry = new_entry(id, raw_len, frame)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.check()?;
        if state.ids.contains(&id) {
            return Ok(false);
        }
        match state.growing.as_mut().ok_or_else(gone)?.append(frame) {
            Ok(offset) => entry.offset = offset,
            Err(source) => {
                state.failure = Some(source.to_string());
                return Err(Error::io(self.file.name())(source));
            }
        }
        state.ids.insert(id);
        state.entries.push(entry);
        Ok(true)
    }
}
