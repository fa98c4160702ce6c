//! A repository's store: opening, making, and the doors to refs, chunks and checks.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use mmh_codec::entropy::{Engine, best};
use mmh_core::canonical::Canonical;
use mmh_core::object::Operation;
use mmh_core::ports::{Cancel, Clock, Progress, SystemClock};
use mmh_core::{ChunkId, PackId};
use mmh_crypto::ChunkerKey;
use mmh_crypto::age::Recipient;
use mmh_crypto::seed::SeedKey;
use tokio::runtime::Handle;

use crate::backend::Backend;
use crate::broken::Broken;
use crate::config::{
    ChunkerParams, Config, ConfigTag, FORMAT_VERSION, PACK_LEN_DEFAULT, PARITY_DEFAULT,
};
use crate::entropy::{Entropy, SystemEntropy};
use crate::error::{Error, Result};
use crate::heal::{Healed, Infirmary};
use crate::index::Index;
use crate::keys::{self, KeySource, NoKey, Sealing, Slot};
use crate::lease::Lease;
use crate::log::{Commit, Log, RefsView};
use crate::log_home;
use crate::names;
use crate::objects::{SEAL_LEN, is_taken, seal, unseal};
use crate::reader::Reader;
use crate::rebuild::{RebuildOptions, RebuildReport};
use crate::recover::Recovered;
use crate::repair::RepairReport;
use crate::scrub::{ScrubOptions, ScrubReport};
use crate::stripe::{self, Replaced, ShardReport, StripeShape};
use crate::verify::{VerifyOptions, VerifyReport};
use crate::writer::{Pen, PendingChunk, Writer};

/// What is decided when a repository is made.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// Length in bytes at which a writer begins the next pack.
    pub pack_len_max: u64,
    /// How bytes are cut into chunks.
    pub chunker: ChunkerParams,
    /// How everything is sealed, if it is.
    pub sealing: Option<Sealing>,
    /// Parity of packs in per cent, at most [`PARITY_PERCENT_MAX`](crate::parity::PARITY_PERCENT_MAX);
    /// 0 for none.
    pub parity: u32,
    /// How many of the stores hold data and how many may be lost, if there are several.
    pub stripe: Option<StripeShape>,
    /// How the store is used from here on.
    pub open: OpenOptions,
}

impl Default for InitOptions {
    fn default() -> Self {
        Self {
            pack_len_max: PACK_LEN_DEFAULT,
            chunker: ChunkerParams::default(),
            sealing: None,
            parity: PARITY_DEFAULT,
            stripe: None,
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
    /// Decodes chunks.
    pub engine: &'static dyn Engine,
    /// Gives the key of a sealed repository.
    pub key: Arc<dyn KeySource>,
    /// What is left out of the protocol, to show that it is needed.
    #[cfg(feature = "testing")]
    pub broken: Broken,
}

impl OpenOptions {
    #[cfg(feature = "testing")]
    fn broken(&self) -> Broken {
        self.broken
    }

    #[cfg(not(feature = "testing"))]
    #[allow(clippy::unused_self, reason = "as with the feature")]
    fn broken(&self) -> Broken {
        Broken::default()
    }
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            engine: best(),
            key: Arc::new(NoKey),
            #[cfg(feature = "testing")]
            broken: Broken::default(),
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
    backend: Backend,
    config: Config,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    engine: &'static dyn Engine,
    index: Index,
    log: Log,
    /// The key of a sealed repository.
    key: Option<SeedKey>,
    infirmary: Infirmary,
    /// The writers of this store that still live.
    pens: Mutex<Vec<Weak<Pen>>>,
    broken: Broken,
}

impl Store {
    /// Makes a repository.
    ///
    /// # Errors
    /// Invalid if there is one already or a setting is out of bounds; Unsupported if the engine
    /// ignores conditions; Denied; Unavailable.
    pub async fn init(backend: Backend, options: InitOptions) -> Result<Self> {
        let (mut open, sealing) = (options.open, options.sealing);
        let entropy = &open.entropy;
        let there_is_one = || Error::AlreadyARepository {
            place: backend.name().to_owned(),
        };
        let repository = match backend.stripe() {
            Some(stripe) => *stripe.repository(),
            None => entropy.draw()?,
        };
        let backend =
            stripe::make(backend.clone(), options.stripe, &repository, &**entropy).await?;
        if backend.len(names::CONFIG).await?.is_some() {
            return Err(there_is_one());
        }
        let (backend, log) = log_home::choose(backend.clone(), &repository)?;
        let mut config = Config {
            r#type: ConfigTag::Tag,
            format: FORMAT_VERSION,
            repository,
            pack_len_max: options.pack_len_max,
            chunker: options.chunker,
            parity: options.parity,
            conditional_put: true,
            sealed: None,
            log,
        };
        if let Some(sealing) = &sealing {
            config.seal(&sealing.root.read_key())?;
        }
        config.check()?;
        let elsewhere = config.log.is_some();
        config.conditional_put = log_home::probe(&backend, &**entropy, elsewhere).await?;
        if let Some(sealing) = &sealing {
            config.seal(&sealing.root.read_key())?;
        }
        config.check()?;
        open.key = match sealing {
            Some(sealing) => {
                sealing.write_slots(&backend).await?;
                Arc::new(sealing.root)
            }
            None => Arc::new(NoKey),
        };
        let (bytes, _) = seal(&config)?;
        if elsewhere {
            log_home::mark(&backend, &bytes).await?;
        }
        match backend.create(names::CONFIG, bytes.clone()).await {
            Ok(()) => {}
            Err(error) if is_taken(&error) => return Err(there_is_one()),
            Err(error) => return Err(Error::engine(backend.place(names::CONFIG))(error)),
        }
        // An engine that ignores conditions lets the last of two win.
        if backend.read(names::CONFIG, bytes.len()).await? != Some(bytes) {
            return Err(there_is_one());
        }
        Self::open(backend, open).await
    }

    /// Opens a repository.
    ///
    /// # Errors
    /// NotFound if there is none; Unsupported for a newer format; Denied if it is sealed and no key
    /// opens it, or not sealed and a key was given; Corrupt; Unavailable.
    pub async fn open(backend: Backend, options: OpenOptions) -> Result<Self> {
        let (backend, config, bytes) = find(backend).await?;
        let backend = log_home::of(backend, &config)?;
        let (key, vault) = keys::unlock(&backend, &config, &*options.key).await?;
        let backend = backend.with_vault(vault);
        let broken = options.broken();
        let home = log_home::check(&backend, &config, &bytes);
        let index = Index::open(backend.clone(), Arc::clone(&options.entropy));
        let (index, home) = futures::join!(index, home);
        let index = index?;
        home?;
        let log = Log::new(backend.log_engine(), backend.vault().clone(), broken);
        let OpenOptions {
            clock,
            entropy,
            engine,
            ..
        } = options;
        let pens = Mutex::default();
        Ok(Self(Arc::new(Inner {
            backend,
            config,
            clock,
            entropy,
            engine,
            index,
            log,
            key,
            infirmary: Infirmary::default(),
            pens,
            broken,
        })))
    }

    /// What was decided when the repository was made.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The place the repository lives in.
    #[must_use]
    pub fn backend(&self) -> &Backend {
        &self.0.backend
    }

    /// All refs as they are now.
    ///
    /// # Errors
    /// Corrupt if the log has a gap or a broken chain; Unavailable.
    pub async fn refs(&self) -> Result<Arc<RefsView>> {
        self.0.log.view().await
    }

    /// Changes refs in one transaction and returns the log entry.
    ///
    /// # Errors
    /// Conflict, naming the ref that does not have the expected old value, or if anything was
    /// collected after [`Commit::since`]; Invalid; Denied for a read key; Unavailable.
    pub async fn commit(&self, commit: Commit) -> Result<Operation> {
        self.commit_relying(commit, None).await
    }

    /// Like [`Store::commit`], after a [`Store::receiver`] was flushed; a read key is enough.
    ///
    /// # Errors
    /// Those of [`Store::commit`].
    pub async fn commit_received(&self, commit: Commit) -> Result<Operation> {
        let ports = (&*self.0.clock, &*self.0.entropy);
        self.0.log.commit(commit, None, ports).await
    }

    /// Like [`Store::commit`]; of what was collected since only these packs count.
    pub(crate) async fn commit_relying(
        &self,
        commit: Commit,
        packs: Option<&BTreeSet<PackId>>,
    ) -> Result<Operation> {
        self.check_writes("change refs")?;
        let ports = (&*self.0.clock, &*self.0.entropy);
        self.0.log.commit(commit, packs, ports).await
    }

    /// Log entries, newest first: at most `limit` with numbers below `before`.
    ///
    /// # Errors
    /// Corrupt; Unavailable.
    pub async fn operations(&self, before: Option<u64>, limit: usize) -> Result<Vec<Operation>> {
        self.0.log.operations(before, limit).await
    }

    /// Begins to write chunks, under a lease. First recovers what writers that died left behind.
    ///
    /// # Errors
    /// Denied for a read-only place and for a read key; Unavailable; Corrupt.
    pub async fn writer(&self, handle: Handle) -> Result<Writer> {
        self.check_writes("write")?;
        self.writer_for("write", handle).await
    }

    /// Begins to take what a repository with the same keys sends: it cuts nothing, so that a read
    /// key is enough.
    ///
    /// # Errors
    /// Denied for a read-only place; Unavailable; Corrupt.
    pub async fn receiver(&self, handle: Handle) -> Result<Writer> {
        self.writer_for("sync", handle).await
    }

    pub(crate) async fn writer_for(&self, purpose: &str, handle: Handle) -> Result<Writer> {
        let lease = self.take_lease(purpose).await?;
        self.recover().await?;
        let pen = Arc::new(Pen::new(self.clone(), lease));
        let mut pens = self.0.pens.lock().unwrap_or_else(PoisonError::into_inner);
        pens.retain(|pen| pen.strong_count() > 0);
        pens.push(Arc::downgrade(&pen));
        Ok(Writer::new(pen, handle))
    }

    /// Takes a lease: for its time garbage collection deletes nothing that was reachable when it
    /// began. For long reads; a writer has one of its own.
    ///
    /// # Errors
    /// Denied for a read-only place; Unavailable; Corrupt.
    pub async fn lease(&self, purpose: &str) -> Result<Lease> {
        self.check_writes("take a lease")?;
        self.take_lease(purpose).await
    }

    async fn take_lease(&self, purpose: &str) -> Result<Lease> {
        let seq = self.0.log.view().await?.seq;
        let ports = (&self.0.clock, &*self.0.entropy);
        Lease::take(&self.0.backend, ports, purpose, seq).await
    }

    /// Reads chunks, those of unfinished writers of this store included.
    #[must_use]
    pub fn reader(&self, handle: Handle) -> Reader {
        Reader::new(self.clone(), handle)
    }

    /// Reads chunks in a pass over everything: the whole index is held in memory, 32 bytes for each
    /// chunk, as it is now; what comes later is found too.
    ///
    /// # Errors
    /// Unavailable; cancelled.
    pub async fn reader_of_all(&self, handle: Handle, cancel: &Cancel) -> Result<Reader> {
        self.reader(handle).with_whole_index(cancel).await
    }

    /// Publishes what writers that died left in staging, and indexes packs that no run mentions.
    /// Called by [`Store::writer`].
    ///
    /// # Errors
    /// Denied; Unavailable.
    pub async fn recover(&self) -> Result<Recovered> {
        let ends = (self.0.config.parity, &*self.0.entropy);
        crate::recover::recover(&self.0.backend, &self.0.index, ends).await
    }

    /// Damaged packs that readers of this store met and healed since this was last asked.
    #[must_use]
    pub fn take_healed(&self) -> Vec<Healed> {
        self.0.infirmary.take_untold()
    }

    /// Checks packs, index runs and the log, and lists all damage.
    ///
    /// # Errors
    /// Unavailable; cancelled. Damage is in the report, not an error.
    pub async fn verify(
        &self,
        options: VerifyOptions,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<VerifyReport> {
        crate::verify::verify(self, options, progress, cancel).await
    }

    /// Reads every pack at a bounded rate and heals what has rotted. `done` hears of every pack
    /// that need not be read again, in the order of their ids.
    ///
    /// # Errors
    /// Unavailable; cancelled. Damage is in the report, not an error.
    pub async fn scrub(
        &self,
        options: ScrubOptions,
        done: &(dyn Fn(PackId) + Sync),
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<ScrubReport> {
        crate::scrub::scrub(self, options, done, (progress, cancel)).await
    }

    /// Mends what can be mended: packs from their parity, lost chunks from other stores of the
    /// same content, the index from the packs. What is lost for good is taken out of the index, so
    /// that adding it again stores it.
    ///
    /// # Errors
    /// Denied; Unavailable; cancelled. What stays lost is in the report.
    pub async fn repair(
        &self,
        sources: &[Self],
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<RepairReport> {
        crate::repair::repair(self, sources, (progress, cancel)).await
    }

    /// Puts empty stores that `backend` names in the place of lost ones of its stripe, and makes
    /// what they should hold; does nothing where nothing is lost. The place is opened afterwards.
    ///
    /// # Errors
    /// Unavailable if too few stores are left; Conflict with another replacement at the same
    /// time; Denied; cancelled.
    pub async fn replace_lost(
        backend: &Backend,
        entropy: &dyn Entropy,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<(Vec<Replaced>, ShardReport)> {
        stripe::replace_lost(backend, entropy, (progress, cancel)).await
    }

    /// Makes the index anew from the packs alone.
    ///
    /// # Errors
    /// Corrupt if packs that the old index names are missing and that is not accepted.
    pub async fn rebuild_index(
        &self,
        options: RebuildOptions,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<RebuildReport> {
        crate::rebuild::rebuild(self, options, progress, cancel).await
    }

    /// The key that opened the repository, if it is sealed.
    #[must_use]
    pub fn key(&self) -> Option<&SeedKey> {
        self.0.key.as_ref()
    }

    /// What decides where content is cut, in a sealed repository.
    ///
    /// # Errors
    /// Denied for a read key.
    pub fn chunker_key(&self) -> Result<Option<ChunkerKey>> {
        self.check_writes("cut")?;
        Ok(match self.key() {
            Some(SeedKey::Root(root)) => Some(root.chunker_key()),
            _ => None,
        })
    }

    /// The key slots, sorted by name.
    ///
    /// # Errors
    /// Unavailable.
    pub async fn slots(&self) -> Result<Vec<Slot>> {
        keys::list(&self.0.backend).await
    }

    /// Adds a slot, which holds the root seed or, for `read_only`, the read key.
    ///
    /// # Errors
    /// Invalid if the name is taken or the recipients do not fit together; Denied if the repository
    /// is not sealed, or for a read key that should give more than itself; Unavailable.
    pub async fn add_slot(
        &self,
        name: &str,
        recipients: &[Recipient],
        read_only: bool,
    ) -> Result<()> {
        let backend = &self.0.backend;
        let secret = match (self.key(), read_only) {
            (Some(SeedKey::Root(root)), false) => root.secret().clone(),
            (Some(key), true) => keys::read_key(key).secret().clone(),
            (Some(SeedKey::Read(_)), false) => {
                let what = "make a slot that writes";
                return Err(Error::ReadOnlyKey { what });
            }
            (None, _) => {
                let place = backend.name().to_owned();
                return Err(Error::NoKeys { place });
            }
        };
        keys::write_slot(backend, name, recipients, &secret).await
    }

    /// Removes a slot. Whoever opened it before has the key for ever: only new readers are kept
    /// out.
    ///
    /// # Errors
    /// NotFound; Denied for a read key; Unavailable.
    pub async fn remove_slot(&self, name: &str) -> Result<()> {
        self.check_writes("take a slot away")?;
        let missing = || Error::NoSuchObject {
            what: format!("key slot `{}`", mmh_core::error::shorten(name)),
        };
        let object = names::slot(name).ok_or_else(missing)?;
        if self.0.backend.len(&object).await?.is_none() {
            return Err(missing());
        }
        self.0.backend.delete(&object).await
    }

    fn check_writes(&self, what: &'static str) -> Result<()> {
        match self.key() {
            Some(SeedKey::Read(_)) => Err(Error::ReadOnlyKey { what }),
            _ => Ok(()),
        }
    }

    /// Copies the whole repository to an empty place, where whoever opens this one opens it too.
    /// Returns how many bytes it holds. Called again after a failure, it goes on.
    ///
    /// # Errors
    /// Invalid if there is a repository already; Corrupt if a pack is damaged; Unavailable;
    /// cancelled.
    pub async fn copy_to(
        &self,
        dest: &Backend,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<u64> {
        crate::copy::copy(self, dest, progress, cancel).await
    }

    /// Makes an empty repository in another place, with the id, the configuration and the keys of
    /// this one: the beginning of a clone of some names. If it was made before, nothing is done.
    ///
    /// # Errors
    /// Invalid if there is another repository; Unsupported if the log of this one lives elsewhere;
    /// Unavailable.
    pub async fn found_at(&self, dest: &Backend) -> Result<()> {
        crate::copy::found(self, dest).await
    }

    /// Counts what the repository holds.
    ///
    /// # Errors
    /// Unavailable.
    pub async fn stats(&self) -> Result<Stats> {
        let mut stats = Stats::default();
        for (name, len) in self.0.backend.list(names::PACKS).await? {
            if names::parse_pack(&name).is_some() {
                stats.packs += 1;
                stats.pack_bytes += len;
            }
        }
        self.0.index.refresh().await?;
        for run in self.0.index.runs().open.values() {
            stats.index_runs += 1;
            stats.index_bytes += run.len();
            stats.chunks += run.n_entries();
        }
        Ok(stats)
    }

    pub(crate) fn engine(&self) -> &'static dyn Engine {
        self.0.engine
    }

    pub(crate) fn index(&self) -> &Index {
        &self.0.index
    }

    pub(crate) fn infirmary(&self) -> &Infirmary {
        &self.0.infirmary
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.0.clock
    }

    pub(crate) fn entropy(&self) -> &dyn Entropy {
        &*self.0.entropy
    }

    pub(crate) fn broken(&self) -> Broken {
        self.0.broken
    }

    pub(crate) fn log(&self) -> &Log {
        &self.0.log
    }

    /// Finds a chunk of an unfinished writer.
    pub(crate) fn pending(&self, id: &ChunkId) -> Option<PendingChunk> {
        let pens = self.0.pens.lock().unwrap_or_else(PoisonError::into_inner);
        pens.iter()
            .filter_map(Weak::upgrade)
            .find_map(|pen| pen.find(id))
    }
}

/// Finds the repository in a place, or the stripe that the place is a store of.
async fn find(backend: Backend) -> Result<(Backend, Config, Bytes)> {
    let error = match backend.given() {
        [] => match read_config(&backend).await {
            Err(error @ Error::NotARepository { .. }) => error,
            found => return found.map(|(config, bytes)| (backend, config, bytes)),
        },
        _ => Error::NotARepository {
            place: backend.name().to_owned(),
        },
    };
    let backend = stripe::attach(backend).await?;
    let Some(stripe) = backend.stripe() else {
        return Err(error);
    };
    let (config, bytes) = read_config(&backend).await?;
    if config.repository != *stripe.repository() {
        return Err(Error::Corrupt {
            object: names::STRIPES.to_owned(),
            reason: "its notes name another repository than its configuration".to_owned(),
        });
    }
    Ok((backend, config, bytes))
}

/// Reads the configuration; that there is none means that there is no repository.
async fn read_config(backend: &Backend) -> Result<(Config, Bytes)> {
    let Some(bytes) = backend
        .read(names::CONFIG, Config::LEN_MAX + SEAL_LEN)
        .await?
    else {
        return Err(Error::NotARepository {
            place: backend.name().to_owned(),
        });
    };
    let (body, _) = unseal(&bytes, names::CONFIG)?;
    Ok((Config::decode(body, names::CONFIG)?, bytes))
}
