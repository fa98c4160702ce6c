//! Staging in memory, for tests: it remembers what was synced, so that a test can pull the plug.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    files: BTreeMap<u64, Arc<Mutex<Content>>>,
}

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    synced_len: usize,
    held: bool,
}

impl MemoryStaging {
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut lock(&self.state))
    }

    fn hold(&self, id: u64, content: Arc<Mutex<Content>>) -> Box<dyn StagedFile> {
        let staging = self.clone();
        Box::new(MemoryFile {
            staging,
            id,
            content,
        })
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
            for file in state.files.values() {
                let mut file = lock(file);
                let len = file.synced_len.saturating_add(kept);
                file.bytes.truncate(len);
                file.held = false;
            }
        });
    }
}

impl Staging for MemoryStaging {
    fn create(&self) -> io::Result<Box<dyn StagedFile>> {
        let content = Arc::new(Mutex::new(Content {
            held: true,
            ..Content::default()
        }));
        let id = self.with(|state| {
            let id = state.next;
            state.next += 1;
            state.files.insert(id, Arc::clone(&content));
            id
        });
        Ok(self.hold(id, content))
    }

    fn orphans(&self) -> io::Result<Vec<Box<dyn StagedFile>>> {
        let free: Vec<_> = self.with(|state| {
            let files = state.files.iter();
            let free = files.filter(|(_, file)| !std::mem::replace(&mut lock(file).held, true));
            free.map(|(id, file)| (*id, Arc::clone(file))).collect()
        });
        let held = free.into_iter().map(|(id, file)| self.hold(id, file));
        Ok(held.collect())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A handle of a staged file. As with a file of the system, it reads on when the name is gone.
#[derive(Debug)]
struct MemoryFile {
    staging: MemoryStaging,
    id: u64,
    content: Arc<Mutex<Content>>,
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        lock(&self.content).held = false;
    }
}

impl StagedFile for MemoryFile {
    fn name(&self) -> String {
        format!("memory staging {}", self.id)
    }

    fn len(&self) -> u64 {
        lock(&self.content).bytes.len() as u64
    }

    fn append(&self, parts: &[&[u8]]) -> io::Result<()> {
        let bytes = &mut lock(&self.content).bytes;
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        Ok(())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let file = lock(&self.content);
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start.checked_add(buf.len());
        let part = end.and_then(|end| file.bytes.get(start..end));
        buf.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut file = lock(&self.content);
        file.bytes
            .truncate(usize::try_from(len).unwrap_or(usize::MAX));
        file.synced_len = file.synced_len.min(file.bytes.len());
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut file = lock(&self.content);
        file.synced_len = file.bytes.len();
        Ok(())
    }

    fn publish(&self, object: &str) -> io::Result<bool> {
        let Some(objects) = &self.staging.objects else {
            return Ok(false);
        };
        let file = lock(&self.content);
        let bytes = file.bytes[..file.synced_len].to_vec();
        drop(file);
        let put = objects
            .put(&Path::from(object), bytes.into())
            .now_or_never();
        put.ok_or_else(|| io::Error::other("the engine is not in memory"))??;
        self.discard().map(|()| true)
    }

    fn discard(&self) -> io::Result<()> {
        let file = self.staging.with(|state| state.files.remove(&self.id));
        file.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
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
            file.discard().is_err(),
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
