//! Repositories that are spread over several stores.

mod away;
mod crash;
mod damage;
mod loss;

use std::sync::Arc;

use mmh_core::SnapshotId;
use mmh_core::ports::{Cancel, Silent};
use mmh_store::config::PACK_LEN_MIN;
use mmh_store::conformance::{change, commit};
use mmh_store::{
    Backend, InitOptions, MemoryStaging, OpenOptions, Replaced, Result, Sealing, ShardReport,
    Store, StripeShape, SystemEntropy,
};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use tokio::runtime::Handle;

use crate::common::{assert_all, put_all, raw, root, verify};

/// The stores of a stripe, in memory.
#[derive(Debug, Clone)]
struct Stores {
    objects: Vec<Arc<InMemory>>,
    shape: StripeShape,
    sealed: bool,
}

impl Stores {
    fn new(data: u32, parity: u32) -> Self {
        let shape = StripeShape { data, parity };
        let objects = (0..shape.stores()).map(|_| Arc::default()).collect();
        Self {
            objects,
            shape,
            sealed: false,
        }
    }

    fn n(&self) -> usize {
        self.objects.len()
    }

    /// The store of a number, whose place tells the number.
    fn store(&self, n: usize) -> Backend {
        Self::of(&format!("store-{n}"), &self.objects[n])
    }

    fn of(name: &str, objects: &Arc<InMemory>) -> Backend {
        let staging = Arc::new(MemoryStaging::default());
        Backend::custom(name, Arc::clone(objects) as _, staging)
    }

    /// Those stores of the stripe, in this order.
    fn some(&self, numbers: impl IntoIterator<Item = usize>) -> Backend {
        Backend::stripe_of(numbers.into_iter().map(|n| self.store(n)).collect())
    }

    fn all(&self) -> Backend {
        self.some(0..self.n())
    }

    /// All but those.
    fn without(&self, lost: &[usize]) -> Backend {
        self.some((0..self.n()).filter(|n| !lost.contains(n)))
    }

    fn options(&self) -> OpenOptions {
        let mut options = OpenOptions::default();
        if self.sealed {
            options.key = Arc::new(root());
        }
        options
    }

    async fn init_in(&self, backend: Backend) -> Result<Store> {
        let sealing = self.sealed.then(|| Sealing {
            root: root(),
            slots: Vec::new(),
        });
        let options = InitOptions {
            pack_len_max: PACK_LEN_MIN,
            parity: 0,
            sealing,
            stripe: Some(self.shape),
            ..InitOptions::default()
        };
        Store::init(backend, options).await
    }

    /// A stripe that holds the test chunks 0..40 and a snapshot.
    async fn filled(data: u32, parity: u32) -> Self {
        let stores = Self::new(data, parity);
        stores.fill().await;
        stores
    }

    async fn fill(&self) {
        let store = self.init_in(self.all()).await.unwrap();
        add(&store, 0..40).await.unwrap();
        move_ref(&store, None, Some(1)).await.unwrap();
    }

    async fn open(&self, backend: Backend) -> Result<Store> {
        Store::open(backend, self.options()).await
    }

    /// Copies of all stores as they are.
    fn fork(&self) -> Self {
        let objects = self.objects.iter().map(|o| Arc::new(o.fork())).collect();
        Self {
            objects,
            ..self.clone()
        }
    }

    /// An empty store in the place of another.
    fn empty(&self, n: usize) -> Self {
        let mut other = self.clone();
        other.objects[n] = Arc::default();
        other
    }

    /// Names of the objects of a store.
    async fn names(&self, n: usize) -> Vec<String> {
        names_in(&self.objects[n]).await
    }

    /// Asserts that the chunks 0..`chunks` and all else are whole, whichever as many stores as may
    /// be are lost.
    async fn assert_safe(&self, chunks: u64) {
        for lost in lost(self.n(), self.shape.parity as usize) {
            let store = self.open(self.without(&lost)).await.unwrap();
            assert_all(&store.reader(Handle::current()), 0..chunks);
            let report = verify(&store).await;
            assert!(report.is_clean(), "without {lost:?}: {report:?}");
        }
    }
}

async fn names_in(objects: &InMemory) -> Vec<String> {
    use futures::TryStreamExt;
    use object_store::ObjectStore;
    let list = objects.list(None).map_ok(|meta| meta.location.to_string());
    let mut names: Vec<String> = list.try_collect().await.unwrap();
    names.sort();
    names
}

async fn bytes_of(objects: &InMemory, name: &str) -> Vec<u8> {
    let got = objects.get(&Path::from(name)).await.unwrap();
    got.bytes().await.unwrap().to_vec()
}

/// All ways of losing `n_lost` of `n` stores.
fn lost(n: usize, n_lost: usize) -> Vec<Vec<usize>> {
    let all = 0..1_u32 << n;
    let chosen = all.filter(|set| set.count_ones() as usize == n_lost);
    let numbers = |set: u32| (0..n).filter(|i| set >> i & 1 == 1).collect();
    chosen.map(numbers).collect()
}

/// Puts the test chunks of these numbers.
async fn add(store: &Store, seeds: std::ops::Range<u64>) -> Result<()> {
    let writer = store.writer(Handle::current()).await?;
    put_all(&writer, seeds)?;
    writer.finish()
}

/// The snapshot of a number: a test chunk, so that it is there.
fn snapshot(store: &Store, n: u8) -> SnapshotId {
    let id = store.reader(Handle::current()).id(&raw(u64::from(n)));
    SnapshotId::from_digest(*id.digest())
}

/// Moves the one branch between numbered snapshots.
async fn move_ref(store: &Store, from: Option<u8>, to: Option<u8>) -> Result<u64> {
    let named = |n: Option<u8>| n.map(|n| snapshot(store, n));
    let changes = vec![change("m", named(from), named(to))];
    Ok(store.commit(commit(changes)).await?.seq)
}

/// The last entry, and which snapshot the branch names.
async fn at(store: &Store) -> (u64, Option<u8>) {
    let view = store.refs().await.unwrap();
    let named = view.refs.values().next();
    let number = |id| (0..40).find(|n| snapshot(store, *n) == id).unwrap();
    (view.seq, named.map(|id| number(*id)))
}

async fn replace(backend: &Backend) -> Result<(Vec<Replaced>, ShardReport)> {
    Store::replace_lost(backend, &SystemEntropy, &Silent, &Cancel::default()).await
}

async fn scrub(store: &Store) -> ShardReport {
    let options = mmh_store::ScrubOptions::default();
    let cancel = Cancel::default();
    let report = store.scrub(options, &|_| (), &Silent, &cancel);
    report.await.unwrap().shards
}
