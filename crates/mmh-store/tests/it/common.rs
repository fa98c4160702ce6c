//! What the tests share: small stores in memory and blocking work beside the runtime.

use std::collections::BTreeSet;
use std::sync::Arc;

use mmh_core::ErrorKind;
use mmh_core::ports::{Cancel, Silent};
use mmh_crypto::{RootSeed, Secret};
use mmh_store::config::PACK_LEN_MIN;
use mmh_store::conformance::{noise, put};
use mmh_store::pack::TRAILER_LEN;
use mmh_store::{
    Backend, ChunkSource, InitOptions, MemoryStaging, OpenOptions, Reader, Result, Sealing, Store,
    VerifyOptions, VerifyReport, Writer,
};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::runtime::{Handle, Runtime};

/// A backend in memory whose parts a test can reach.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    pub(crate) objects: Arc<InMemory>,
    pub(crate) staging: MemoryStaging,
    pub(crate) backend: Backend,
    /// The secret of the repository in it, if that is to be sealed.
    pub(crate) root: Option<RootSeed>,
}

/// The secret of sealed test repositories.
pub(crate) fn root() -> RootSeed {
    RootSeed::from_secret(Secret::from_bytes(&[42; 32]))
}

impl Memory {
    /// Empty; staged files are published as by renaming.
    pub(crate) fn new() -> Self {
        Self::of(Arc::new(InMemory::new()))
    }

    /// The same for a sealed repository.
    pub(crate) fn sealed() -> Self {
        Self {
            root: Some(root()),
            ..Self::new()
        }
    }

    /// Makes a store of small packs without parity.
    pub(crate) async fn init(&self) -> Store {
        self.init_with(0).await
    }

    /// Makes a store of small packs with so many per cent of parity.
    pub(crate) async fn init_with(&self, parity: u32) -> Store {
        let sealing = self.root.clone().map(|root| Sealing {
            root,
            slots: Vec::new(),
        });
        let options = InitOptions {
            pack_len_max: PACK_LEN_MIN,
            parity,
            sealing,
            ..InitOptions::default()
        };
        Store::init(self.backend.clone(), options).await.unwrap()
    }

    /// How the store is opened.
    pub(crate) fn options(&self) -> OpenOptions {
        let mut options = OpenOptions::default();
        if let Some(root) = &self.root {
            options.key = Arc::new(root.clone());
        }
        options
    }

    /// A copy of the published objects with an empty staging area.
    pub(crate) fn fork(&self) -> Self {
        let copy = Self::of(Arc::new(self.objects.fork()));
        let root = self.root.clone();
        Self { root, ..copy }
    }

    fn of(objects: Arc<InMemory>) -> Self {
        let staging = MemoryStaging::publishing_into(Arc::clone(&objects) as _);
        let backend = Backend::custom(
            "memory",
            Arc::clone(&objects) as _,
            Arc::new(staging.clone()),
        );
        Self {
            objects,
            staging,
            backend,
            root: None,
        }
    }

    pub(crate) async fn open(&self) -> Result<Store> {
        Store::open(self.backend.clone(), self.options()).await
    }

    /// The name of a pack with many records: packs end with random bytes, so that which of them is
    /// the first by name, and might be the last and short one, differs from run to run.
    pub(crate) async fn longest_pack(&self) -> String {
        let mut longest = (0, String::new());
        for name in self.names("mmh/packs").await {
            longest = longest.max((self.read(&name).await.len(), name));
        }
        longest.1
    }

    /// Names of all objects that begin with `prefix`.
    pub(crate) async fn names(&self, prefix: &str) -> Vec<String> {
        use futures::TryStreamExt;
        let list = self.objects.list(Some(&Path::from(prefix)));
        let mut names: Vec<String> = list
            .map_ok(|meta| meta.location.to_string())
            .try_collect()
            .await
            .unwrap();
        names.sort();
        names
    }

    pub(crate) async fn read(&self, name: &str) -> Vec<u8> {
        let got = self.objects.get(&Path::from(name)).await.unwrap();
        got.bytes().await.unwrap().to_vec()
    }

    /// The records of every pack, without what comes after them.
    pub(crate) async fn records(&self) -> BTreeSet<Vec<u8>> {
        let mut all = BTreeSet::new();
        for name in self.names("mmh/packs").await {
            let mut pack = self.read(&name).await;
            let trailer = pack.len() - TRAILER_LEN;
            let footer = u64::from_le_bytes(pack[trailer..trailer + 8].try_into().unwrap());
            pack.truncate(usize::try_from(footer).unwrap());
            all.insert(pack);
        }
        all
    }

    pub(crate) async fn write(&self, name: &str, bytes: Vec<u8>) {
        self.objects
            .put(&Path::from(name), bytes.into())
            .await
            .unwrap();
    }

    pub(crate) async fn delete(&self, name: &str) {
        self.objects.delete(&Path::from(name)).await.unwrap();
    }
}

/// A runtime of two workers.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap()
}

/// The `seed`-th test chunk: lengths differ, some compress.
pub(crate) fn raw(seed: u64) -> Vec<u8> {
    let mut bytes = noise(seed, 50 + usize::try_from(seed * 37 % 300).unwrap());
    if seed.is_multiple_of(3) {
        let zeros = bytes.len() * 2;
        bytes.resize(zeros, 0);
    }
    bytes
}

/// Puts the test chunks of these numbers.
pub(crate) fn put_all(writer: &Writer, seeds: impl IntoIterator<Item = u64>) -> Result<()> {
    seeds
        .into_iter()
        .try_for_each(|seed| put(writer, &raw(seed)).map(drop))
}

/// A small store in memory with these chunks, flushed after every `every`-th.
pub(crate) async fn store_with(chunks: u64, every: u64) -> (Memory, Store) {
    store_in(Memory::new(), chunks, every).await
}

/// The same in a memory that is given.
pub(crate) async fn store_in(memory: Memory, chunks: u64, every: u64) -> (Memory, Store) {
    let store = memory.init().await;
    let writer = store.writer(Handle::current()).await.unwrap();
    for seed in 0..chunks {
        put_all(&writer, [seed]).unwrap();
        if seed % every == every - 1 {
            writer.flush().unwrap();
        }
    }
    writer.finish().unwrap();
    (memory, store)
}

/// Asserts that every chunk is there, whole.
pub(crate) fn assert_all(reader: &Reader, seeds: impl IntoIterator<Item = u64>) {
    for seed in seeds {
        let bytes = raw(seed);
        let got = reader.get(&reader.id(&bytes));
        assert_eq!(
            &got.unwrap_or_else(|e| panic!("chunk {seed}: {e}"))[..],
            bytes
        );
    }
}

/// Asserts that every chunk is there, whole, or that reading it says that bytes are damaged.
/// Returns how many are damaged.
pub(crate) fn count_damaged(reader: &Reader, seeds: impl IntoIterator<Item = u64>) -> usize {
    let damaged = |seed: &u64| {
        let bytes = raw(*seed);
        match reader.get(&reader.id(&bytes)) {
            Ok(got) => {
                assert_eq!(&got[..], bytes, "wrong bytes must never come out");
                false
            }
            Err(error) => {
                let kind = error.kind();
                let honest = matches!(kind, ErrorKind::Corrupt | ErrorKind::Unsupported);
                assert!(honest, "chunk {seed}: {error}");
                true
            }
        }
    };
    seeds.into_iter().filter(damaged).count()
}

pub(crate) async fn verify(store: &Store) -> VerifyReport {
    store
        .verify(VerifyOptions::default(), &Silent, &Cancel::default())
        .await
        .unwrap()
}

impl Memory {
    pub(crate) fn staging_is_empty(&self) -> bool {
        self.staging.n_files() == 0
    }
}
