//! Staging in memory, for tests: it remembers what was synced, so that a test can pull the plug.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::{StagedFile, Staging};

/// Staged files in memory. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryStaging {
    state: Arc<Mutex<State>>,
    /// The engine into which files are published, if not by the caller.
    objects: Option<Arc<dyn ObjectStore>>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    files: BTreeMap<u64, Content>,
}

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    synced_len: usize,
    held: bool,
}

impl MemoryStaging {
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Staging that publishes by itself into an engine in memory, as renaming does, and as
    /// mercilessly: only what was synced before arrives.
    #[must_use]
    pub fn publishing_into(objects: Arc<dyn ObjectStore>) -> Self {
        Self {
            objects: Some(objects),
            ..Self::default()
        }
    }

    /// How many files there are, held or not.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn n_files(&self) -> usize {
        self.with(|state| state.files.len())
    }

    /// Cuts the power: every file loses what was not synced, but for `kept` bytes of it, and
    /// nobody holds any file any more.
    #[cfg(any(test, feature = "testing"))]
    pub fn crash(&self, kept: usize) {
        self.with(|state| {
            for file in state.files.values_mut() {
                file.bytes.truncate(file.synced_len.saturating_add(kept));
                file.held = false;
            }
        });
    }
}

impl Staging for MemoryStaging {
    fn create(&self) -> io::Result<Box<dyn StagedFile>> {
        let id = self.with(|state| {
            let id = state.next;
            state.next += 1;
            state.files.insert(
                id,
                Content {
                    held: true,
                    ..Content::default()
                },
            );
            id
        });
        Ok(Box::new(MemoryFile {
            staging: self.clone(),
            id,
        }))
    }

    fn orphans(&self) -> io::Result<Vec<Box<dyn StagedFile>>> {
        let ids: Vec<u64> = self.with(|state| {
            let free = state.files.iter_mut().filter(|(_, file)| !file.held);
            free.map(|(id, file)| {
                file.held = true;
                *id
            })
            .collect()
        });
        let hold = |id| -> Box<dyn StagedFile> {
            Box::new(MemoryFile {
                staging: self.clone(),
                id,
            })
        };
        Ok(ids.into_iter().map(hold).collect())
    }
}

#[derive(Debug)]
struct MemoryFile {
    staging: MemoryStaging,
    id: u64,
}

impl MemoryFile {
    fn with<T>(&self, f: impl FnOnce(&mut Content) -> io::Result<T>) -> io::Result<T> {
        self.staging
            .with(|state| match state.files.get_mut(&self.id) {
                Some(file) => f(file),
                None => Err(io::ErrorKind::NotFound.into()),
            })
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        self.staging.with(|state| {
            if let Some(file) = state.files.get_mut(&self.id) {
                file.held = false;
            }
        });
    }
}

impl StagedFile for MemoryFile {
    fn name(&self) -> String {
        format!("memory staging {}", self.id)
    }

    fn len(&self) -> u64 {
        self.with(|file| Ok(file.bytes.len() as u64)).unwrap_or(0)
    }

    fn append(&self, parts: &[&[u8]]) -> io::Result<()> {
        self.with(|file| {
            parts
                .iter()
                .for_each(|part| file.bytes.extend_from_slice(part));
            Ok(())
        })
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.with(|file| {
            let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
            let end = start
                .checked_add(buf.len())
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            let part = file
                .bytes
                .get(start..end)
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            buf.copy_from_slice(part);
            Ok(())
        })
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.with(|file| {
            file.bytes
                .truncate(usize::try_from(len).unwrap_or(usize::MAX));
            file.synced_len = file.synced_len.min(file.bytes.len());
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|file| {
            file.synced_len = file.bytes.len();
            Ok(())
        })
    }

    fn publish(&self, object: &str) -> io::Result<bool> {
        let Some(objects) = &self.staging.objects else {
            return Ok(false);
        };
        let bytes = self.with(|file| Ok(file.bytes[..file.synced_len].to_vec()))?;
        let put = objects
            .put(&Path::from(object), bytes.into())
            .now_or_never();
        put.ok_or_else(|| io::Error::other("the engine is not in memory"))??;
        self.discard().map(|()| true)
    }

    fn discard(&self) -> io::Result<()> {
        self.staging.with(|state| state.files.remove(&self.id));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[test]
    fn a_crash_keeps_what_was_synced_and_frees_every_file() {
        let staging = MemoryStaging::default();
        let file = staging.create().unwrap();
        file.append(&[b"synced"]).unwrap();
        file.sync().unwrap();
        file.append(&[b"not synced"]).unwrap();
        staging.crash(3);
        let orphans = staging.orphans().unwrap();
        assert_eq!(orphans.len(), 1);
        let mut bytes = [0; 9];
        orphans[0].read_at(0, &mut bytes).unwrap();
        assert_eq!((&bytes, orphans[0].len()), (b"syncednot", 9));
        assert!(orphans[0].read_at(1, &mut bytes).is_err());
        assert!(orphans[0].read_at(u64::MAX, &mut bytes).is_err());
    }

    #[test]
    fn publishing_carries_only_what_was_synced() {
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let staging = MemoryStaging::publishing_into(Arc::clone(&objects));
        let file = staging.create().unwrap();
        file.append(&[b"synced"]).unwrap();
        file.sync().unwrap();
        file.append(&[b"lost"]).unwrap();
        assert!(file.publish("mmh/x").unwrap());
        assert_eq!(staging.n_files(), 0);
        let got = objects
            .get(&Path::from("mmh/x"))
            .now_or_never()
            .unwrap()
            .unwrap();
        assert_eq!(&got.bytes().now_or_never().unwrap().unwrap()[..], b"synced");
        assert!(
            file.append(&[b"gone"]).is_err(),
            "the file is not in staging any more"
        );
    }

    #[test]
    fn a_truncated_file_is_synced_only_up_to_its_end() {
        let staging = MemoryStaging::default();
        let file = staging.create().unwrap();
        file.append(&[b"abcdef"]).unwrap();
        file.sync().unwrap();
        file.truncate(2).unwrap();
        file.append(&[b"xyz"]).unwrap();
        staging.crash(0);
        assert_eq!(staging.orphans().unwrap()[0].len(), 2);
    }
}
