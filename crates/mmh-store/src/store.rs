//! A repository's store: opening, making, and the doors to refs, chunks and checks.

use std::sync::Arc;

use mmh_core::object::Operation;
use mmh_core::ports::{Cancel, Clock, Progress, SystemClock};
use tokio::runtime::Handle;

use crate::backend::Backend;
use crate::config::{ChunkerParams, Config, PACK_LEN_DEFAULT};
use crate::entropy::{Entropy, SystemEntropy};
use crate::error::{Error, Result};
use crate::log::{Commit, RefsView};
use crate::reader::Reader;
use crate::verify::{RebuildOptions, RebuildReport, VerifyOptions, VerifyReport};
use crate::writer::{Recovered, Writer};

/// What is decided when a repository is made.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// Length in bytes at which a writer begins the next pack.
    pub pack_len_max: u64,
    /// How bytes are cut into chunks.
    pub chunker: ChunkerParams,
    /// How the store is used from here on.
    pub open: OpenOptions,
}

impl Default for InitOptions {
    fn default() -> Self {
        Self {
            pack_len_max: PACK_LEN_DEFAULT,
            chunker: ChunkerParams::default(),
            open: OpenOptions::default(),
        }
    }
}

/// The components a store works with.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Gives the time of operations.
    pub clock: Arc<dyn Clock>,
    /// Gives ids to writers and repositories.
    pub entropy: Arc<dyn Entropy>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
        }
    }
}

/// What a repository holds, in figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Packs that are published.
    pub packs: u64,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Index runs that are published.
    pub index_runs: u64,
    /// Their bytes.
    pub index_bytes: u64,
    /// Entries of the index; a chunk that two writers stored at once counts twice.
    pub chunks: u64,
}

/// An open repository. Cheap to clone; clones share caches.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
}

fn unfinished<T>() -> Result<T> {
    Err(Error::Internal {
        what: "not there yet".to_owned(),
    })
}

impl Store {
    /// Makes a repository.
    ///
    /// # Errors
    /// Invalid if there is one already or a setting is out of bounds; Unsupported if the engine
    /// ignores conditions; Denied; Unavailable.
    pub async fn init(_backend: Backend, _options: InitOptions) -> Result<Self> {
        unfinished()
    }

    /// Opens a repository.
    ///
    /// # Errors
    /// Invalid if there is none; Unsupported for a newer format; Corrupt; Denied; Unavailable.
    pub async fn open(_backend: Backend, _options: OpenOptions) -> Result<Self> {
        unfinished()
    }

    /// What was decided when the repository was made.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// All refs as they are now.
    ///
    /// # Errors
    /// Corrupt if the log has a gap or a broken chain; Unavailable.
    pub async fn refs(&self) -> Result<RefsView> {
        unfinished()
    }

    /// Changes refs in one transaction and returns the log entry.
    ///
    /// # Errors
    /// Conflict, naming the ref that does not have the expected old value; Invalid; Unavailable.
    pub async fn commit(&self, _commit: Commit) -> Result<Operation> {
        unfinished()
    }

    /// Log entries, newest first: at most `limit` with numbers below `before`.
    ///
    /// # Errors
    /// Corrupt; Unavailable.
    pub async fn operations(&self, _before: Option<u64>, _limit: usize) -> Result<Vec<Operation>> {
        unfinished()
    }

    /// Begins to write chunks. First recovers what writers that died left behind.
    ///
    /// # Errors
    /// Denied for a read-only place; Unavailable; Corrupt.
    pub async fn writer(&self, _handle: Handle) -> Result<Writer> {
        unfinished()
    }

    /// Reads chunks, those of unfinished writers of this store included.
    #[must_use]
    pub fn reader(&self, _handle: Handle) -> Reader {
        Reader {}
    }

    /// Publishes what writers that died left in staging, and indexes packs that no run mentions.
    ///
    /// # Errors
    /// Denied; Unavailable.
    pub async fn recover(&self) -> Result<Recovered> {
        unfinished()
    }

    /// Checks packs, index runs and the log, and lists all damage.
    ///
    /// # Errors
    /// Unavailable; cancelled. Damage is in the report, not an error.
    pub async fn verify(
        &self,
        _options: VerifyOptions,
        _progress: &dyn Progress,
        _cancel: &Cancel,
    ) -> Result<VerifyReport> {
        unfinished()
    }

    /// Makes the index anew from the packs alone.
    ///
    /// # Errors
    /// Corrupt if packs that the old index names are missing and that is not accepted.
    pub async fn rebuild_index(
        &self,
        _options: RebuildOptions,
        _progress: &dyn Progress,
        _cancel: &Cancel,
    ) -> Result<RebuildReport> {
        unfinished()
    }

    /// Counts what the repository holds.
    ///
    /// # Errors
    /// Unavailable.
    pub async fn stats(&self) -> Result<Stats> {
        unfinished()
    }
}
