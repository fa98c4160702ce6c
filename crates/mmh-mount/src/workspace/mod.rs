//! A workspace: one name's tree to be changed, as a folder of the disk in which what was not changed
//! yet is not there yet.
//!
//! Everything but the bytes of unchanged files is in the staging folder ([`Staging`]), so that the
//! file system below gives renames, links, permissions and durability: what it was told to sync is
//! on the disk, whatever becomes of this process. An unchanged file is a hole of the right length
//! with an attribute that says which file of the repository it stands for ([`hole`]); it is read from
//! there, and filled when it is opened for writing.

mod files;
pub(crate) mod hole;
mod staging;

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mmh_repo::{ChunkCache, Content, FileCache, Repository};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::error::{Error, Result};
use crate::files::ROOT;

pub use staging::{Staging, WorkReport};

/// An inode of the staging folder that the kernel knows.
#[derive(Debug)]
struct Node {
    ino: u64,
    /// Opened as a place only: it stays the same however it is renamed or unlinked.
    file: File,
    /// Held while a hole is filled or given up.
    filling: Mutex<()>,
}

impl Node {
    /// A path by which this inode can be opened.
    fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.file.as_raw_fd())
    }
}

/// An open file.
struct Handle {
    node: Arc<Node>,
    file: Arc<File>,
    /// Where its bytes come from while it is a hole.
    hole: Option<Arc<Content>>,
}

/// A workspace as a file system.
pub struct Work {
    repo: Arc<Repository>,
    staging: Staging,
    chunks: Arc<ChunkCache>,
    cache: Option<Arc<FileCache>>,
    nodes: Mutex<HashMap<u64, (Arc<Node>, u64)>>,
    handles: Mutex<HashMap<u64, Arc<Handle>>>,
    next_handle: AtomicU64,
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work")
            .field("staging", &self.staging)
            .finish_non_exhaustive()
    }
}

impl Work {
    /// The workspace in a staging folder, with what reading from the repository is cached by.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn new(
        repo: Arc<Repository>,
        staging: Staging,
        memory_len: u64,
        cache: Option<Arc<FileCache>>,
    ) -> Result<Self> {
        // Each inode that the kernel knows is an open file here.
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        let _as_before = setrlimit(Resource::Nofile, limit).is_err();
        let tree = staging.tree();
        let opened = hole::open_place(&tree).map_err(|source| Error::Io {
            action: "open",
            place: tree,
            source,
        })?;
        let root = Node {
            ino: ROOT,
            file: opened,
            filling: Mutex::default(),
        };
        Ok(Self {
            repo,
            staging,
            chunks: Arc::new(ChunkCache::new(memory_len)),
            cache,
            nodes: Mutex::new(HashMap::from([(ROOT, (Arc::new(root), 1))])),
            handles: Mutex::default(),
            next_handle: AtomicU64::new(1),
        })
    }

    /// Where what is changed lies.
    #[must_use]
    pub fn staging(&self) -> PathBuf {
        self.staging.folder().to_owned()
    }
}

/// The number of an inode, which is that of the disk; only the root is called otherwise.
fn number(meta: &std::fs::Metadata) -> u64 {
    meta.ino().max(ROOT + 1)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
