//! The repository: a store (or a one-file archive) with the components that work on it.

use std::fmt;
use std::sync::Arc;

use mmh_codec::Level;
use mmh_codec::entropy::{Engine, best};
use mmh_core::object::{Operation, RefChange};
use mmh_core::ports::{Cancel, Clock, Progress, Silent, SystemClock};
use mmh_store::{
    Archive, Backend, ChunkSource, ChunkerParams, Commit, InitOptions, KeySource, NoKey,
    OpenOptions, RebuildOptions, RebuildReport, RefsView, Store,
};
use rayon::ThreadPool;
use serde::Serialize;
use tokio::runtime::Handle;

use crate::error::{Error, Result};
use crate::gear::Gear;
use crate::trust::Policy;
use crate::workshop::Workshop;

/// Plain data that a user may set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who makes snapshots and operations: `Name <mail>` or anything else.
    pub author: String,
    /// How hard to compress what is added.
    pub level: Level,
    /// Decode every frame after encoding it and compare. On unless there is a reason.
    pub verify_encode: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            author: "unknown".to_owned(),
            level: Level::default(),
            verify_encode: true,
        }
    }
}

/// Things that work, handed in by whoever opens the repository.
#[derive(Clone)]
pub struct Components {
    /// Where store operations run.
    pub runtime: Handle,
    /// Where computation runs.
    pub pool: Arc<ThreadPool>,
    /// Who hears how far we are.
    pub progress: Arc<dyn Progress>,
    /// Who may stop us.
    pub cancel: Cancel,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What codes and decodes chunks.
    pub engine: &'static dyn Engine,
    /// What opens sealed repositories.
    pub key: Arc<dyn KeySource>,
    /// Which names must be signed, and by whom.
    pub trust: Arc<Policy>,
}

impl Components {
    /// Silent, uncancelled, with the system's clock, the fastest engine and no key; no name must be
    /// signed.
    #[must_use]
    pub fn new(runtime: Handle, pool: Arc<ThreadPool>) -> Self {
        let (progress, clock) = (Arc::new(Silent), Arc::new(SystemClock));
        Self {
            runtime,
            pool,
            progress,
            cancel: Cancel::default(),
            clock,
            engine: best(),
            key: Arc::new(NoKey),
            trust: Arc::default(),
        }
    }
}

impl fmt::Debug for Components {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads = self.pool.current_num_threads();
        f.debug_struct("Components")
            .field("threads", &threads)
            .field("engine", &self.engine.name())
            .finish_non_exhaustive()
    }
}

pub(crate) enum Backing {
    Store(Store),
    /// With the length of its file in bytes.
    Archive(Arc<Archive>, u64),
}

/// A repository that is open. Methods block; none may be called from an async task.
pub struct Repository {
    pub(crate) backing: Backing,
    pub(crate) source: Arc<dyn ChunkSource>,
    pub(crate) shop: Workshop,
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository")
            .field("shop", &self.shop)
            .finish_non_exhaustive()
    }
}

impl Repository {
    /// Makes a new, empty repository.
    ///
    /// # Errors
    /// `Invalid` if there is one already; whatever the backend says.
    pub fn init(backend: Backend, settings: Settings, components: Components) -> Result<Self> {
        Self::init_with(backend, InitOptions::default(), settings, components)
    }

    /// Makes a new, empty repository with what is decided for its life; the components of the
    /// options are replaced by those given.
    ///
    /// # Errors
    /// Those of [`Repository::init`]; `Invalid` for an option out of bounds, or for recipients that
    /// do not fit together.
    pub fn init_with(
        backend: Backend,
        mut options: InitOptions,
        settings: Settings,
        components: Components,
    ) -> Result<Self> {
        options.open.clock = Arc::clone(&components.clock);
        options.open.engine = components.engine;
        let store = components.runtime.block_on(Store::init(backend, options))?;
        Self::of_store(store, settings, components)
    }

    /// Opens a repository.
    ///
    /// # Errors
    /// `NotFound` if there is none; `Unsupported` for a newer format; `Denied` if it is sealed and
    /// no key opens it.
    pub fn open(backend: Backend, settings: Settings, components: Components) -> Result<Self> {
        let options = OpenOptions {
            clock: Arc::clone(&components.clock),
            engine: components.engine,
            key: Arc::clone(&components.key),
            ..OpenOptions::default()
        };
        let store = components.runtime.block_on(Store::open(backend, options))?;
        Self::of_store(store, settings, components)
    }

    fn of_store(store: Store, settings: Settings, components: Components) -> Result<Self> {
        let source = Arc::new(store.reader(components.runtime.clone()));
        let mut shop = Workshop::new(settings, components, &store.config().chunker)?;
        // A read key has none; whoever holds it is told so when writing is tried.
        shop.gear = store.chunker_key().ok().flatten().map(|k| Gear::new(&k));
        Ok(Self {
            backing: Backing::Store(store),
            source,
            shop,
        })
    }

    pub(crate) fn of_archive(
        archive: Archive,
        len: u64,
        settings: Settings,
        components: Components,
    ) -> Result<Self> {
        let archive = Arc::new(archive.with_engine(components.engine));
        let source = Arc::clone(&archive) as Arc<dyn ChunkSource>;
        let shop = Workshop::new(settings, components, &ChunkerParams::default())?;
        Ok(Self {
            backing: Backing::Archive(archive, len),
            source,
            shop,
        })
    }

    /// The store behind this repository.
    ///
    /// # Errors
    /// `Denied` for a one-file archive, which cannot be changed.
    pub fn store(&self) -> Result<&Store> {
        match &self.backing {
            Backing::Store(store) => Ok(store),
            Backing::Archive(..) => Err(Error::Denied(
                "a .mmh archive is read-only; unpack it, or add it to a repository".to_owned(),
            )),
        }
    }

    /// Where chunks are read.
    #[must_use]
    pub fn source(&self) -> &dyn ChunkSource {
        self.source.as_ref()
    }

    /// All refs now.
    ///
    /// # Errors
    /// `Corrupt` if the log is damaged.
    pub fn refs(&self) -> Result<Arc<RefsView>> {
        match &self.backing {
            Backing::Store(store) => Ok(self.block_on(store.refs())?),
            Backing::Archive(archive, _) => {
                let refs = archive.refs().iter().cloned().collect();
                Ok(Arc::new(RefsView {
                    seq: 0,
                    head: None,
                    refs,
                }))
            }
        }
    }

    /// Changes any number of refs at once, or none. Snapshots that refs are to name must be there
    /// now; [`Commit::since`] is for those that were found earlier.
    ///
    /// # Errors
    /// `Conflict` if a ref no longer names what its change expects.
    pub fn transact(
        &self,
        changes: Vec<RefChange>,
        command: &str,
        undoes: Option<u64>,
    ) -> Result<Operation> {
        let commit = Commit {
            undoes,
            ..self.commit(changes, command)
        };
        Ok(self.block_on(self.store()?.commit(commit))?)
    }

    /// A transaction to be.
    pub(crate) fn commit(&self, changes: Vec<RefChange>, command: &str) -> Commit {
        Commit {
            changes,
            author: self.shop.settings.author.clone(),
            command: command.to_owned(),
            undoes: None,
            since: None,
        }
    }

    /// Does something again, from its beginning, whenever garbage collection took away what it
    /// was about to refer to.
    pub(crate) fn again_if_collected<T>(&self, work: impl Fn() -> Result<T>) -> Result<T> {
        const ATTEMPTS: usize = 4;
        let mut done = work();
        for _ in 1..ATTEMPTS {
            match done {
                Err(Error::Store(mmh_store::Error::Collected { .. })) => done = work(),
                done => return done,
            }
        }
        done
    }

    /// Threads of the pool.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.shop.components.pool.current_num_threads()
    }

    /// Runs work on the pool, without waiting for it.
    pub fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        self.shop.components.pool.spawn(work);
    }

    pub(crate) fn runtime(&self) -> Handle {
        self.shop.components.runtime.clone()
    }

    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.shop.components.runtime.block_on(future)
    }

    /// What the repository is and how much it holds.
    ///
    /// # Errors
    /// `Unavailable`; `Corrupt` if the log is damaged.
    pub fn facts(&self) -> Result<Facts> {
        match &self.backing {
            Backing::Store(store) => {
                let stats = self.block_on(store.stats())?;
                let config = store.config();
                Ok(Facts {
                    format: config.format,
                    id: config.repository.to_string(),
                    put_if_absent: config.conditional_put,
                    sealed: config.sealed.is_some(),
                    log: config.log.clone(),
                    packs: stats.packs,
                    pack_bytes: stats.pack_bytes,
                    chunks: stats.chunks,
                    operations: self.refs()?.seq,
                })
            }
            Backing::Archive(archive, len) => Ok(Facts {
                format: mmh_store::FORMAT_VERSION,
                id: String::new(),
                put_if_absent: false,
                sealed: false,
                log: None,
                packs: 1,
                pack_bytes: *len,
                chunks: archive.n_chunks(),
                operations: 0,
            }),
        }
    }

    /// Makes the index anew from the packs.
    ///
    /// # Errors
    /// `Denied` for an archive; `Conflict` if packs are missing that the old index names, unless
    /// that is accepted.
    pub fn rebuild_index(&self, options: RebuildOptions) -> Result<RebuildReport> {
        let c = &self.shop.components;
        let rebuild = self
            .store()?
            .rebuild_index(options, c.progress.as_ref(), &c.cancel);
        Ok(self.block_on(rebuild)?)
    }
}

/// What a repository is and how much it holds.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// Format version.
    pub format: u32,
    /// The repository's random id; empty for an archive.
    pub id: String,
    /// Whether the storage engine creates objects only if they are absent.
    pub put_if_absent: bool,
    /// Whether everything in it is sealed.
    pub sealed: bool,
    /// Where the log lives, if not beside the packs.
    pub log: Option<String>,
    /// Packs.
    pub packs: u64,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Chunks in the index.
    pub chunks: u64,
    /// Operations in the log.
    pub operations: u64,
}
