//! What simulated writers store: a small universe of chunks, snapshots that list their chunks, and
//! the stores that a simulation begins with.

use std::fmt;
use std::sync::{Arc, OnceLock};

use mmh_core::ports::FixedClock;
use mmh_core::{ChunkId, Digest, SnapshotId};
use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;
use tokio::runtime::Handle;

use super::audit::Audit;
use super::disk::Disk;
use super::random::Random;
use crate::backend::Backend;
use crate::block_on::block_on;
use crate::chunk::ChunkSink;
use crate::config::{Config, PACK_LEN_MIN};
use crate::conformance::{change, commit, frame, noise};
use crate::entropy::Entropy;
use crate::error::{Error, Result};
use crate::names;
use crate::objects::seal;
use crate::staging::MemoryStaging;
use crate::store::{InitOptions, OpenOptions, Store};
use crate::writer::Writer;

/// Different chunks in the universe: so few that writers meet the same ones.
pub(super) const UNIVERSE: usize = 40;
/// The branches that writers move.
pub(super) const BRANCHES: [&str; 3] = ["a", "b", "c"];

/// A chunk with the frame that stores it.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) id: ChunkId,
    pub(super) raw: Vec<u8>,
    frame: Vec<u8>,
}

impl Item {
    fn of(raw: Vec<u8>) -> Self {
        let (id, frame) = (ChunkId::of(&raw), frame(&raw));
        Self { id, raw, frame }
    }

    pub(super) fn put(&self, writer: &Writer) -> Result<bool> {
        let len = u32::try_from(self.raw.len()).expect("a chunk of the universe is short");
        writer.put(self.id, len, &self.frame)
    }
}

/// The chunks that all simulations of this process share.
pub(super) fn universe() -> &'static [Item] {
    static ITEMS: OnceLock<Vec<Item>> = OnceLock::new();
    ITEMS.get_or_init(|| {
        let long = |no: usize| 60 + no * 37 % 900;
        (0..UNIVERSE)
            .map(|no| Item::of(noise(no as u64, long(no))))
            .collect()
    })
}

/// A chunk for messages: its place in the universe, or its id.
pub(super) fn describe(chunk: &ChunkId) -> impl fmt::Display {
    let known = universe().iter().position(|item| item.id == *chunk);
    known.map_or_else(|| format!("chunk {chunk}"), |no| format!("chunk no. {no}"))
}

/// A snapshot: what tells it from others, and the ids of its chunks.
pub(super) fn snapshot(nonce: Digest, chunks: &[ChunkId]) -> (SnapshotId, Item) {
    let mut raw = nonce.as_bytes().to_vec();
    for chunk in chunks {
        raw.extend_from_slice(chunk.digest().as_bytes());
    }
    let item = Item::of(raw);
    (SnapshotId::from_digest(*item.id.digest()), item)
}

/// The chunks that a snapshot lists.
pub(super) fn listed(raw: &[u8]) -> Vec<ChunkId> {
    let ids = raw.chunks_exact(32).skip(1);
    ids.map(|id| {
        let bytes = id.try_into().expect("chunks of 32 bytes");
        ChunkId::from_digest(Digest::from_bytes(bytes))
    })
    .collect()
}

/// A repository that a simulation begins with.
#[derive(Debug)]
pub(super) struct Start {
    /// As it is with its log beside its packs, and with its log elsewhere.
    pub(super) objects: [InMemory; 2],
    pub(super) audit: Audit,
}

/// Randomness that a seed decides.
#[derive(Debug)]
pub(super) struct SimEntropy(std::sync::Mutex<Random>);

impl SimEntropy {
    pub(super) fn new(rng: Random) -> Self {
        Self(std::sync::Mutex::new(rng))
    }
}

impl Entropy for SimEntropy {
    fn draw(&self) -> Result<Digest> {
        let mut rng = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(rng.digest())
    }
}

/// Which of the [`starts`] comes just before a merge of runs and a checkpoint.
pub(super) const START_BEFORE_CHECKPOINT: usize = 3;

/// Repositories to begin with: empty, young, before a merge and a checkpoint, and with so long a log
/// that a part of it can be taken away.
pub(super) fn starts(handle: &Handle) -> Vec<Arc<Start>> {
    [0, 0, 4, 31, 66]
        .into_iter()
        .map(|transactions| {
            let made = block_on(handle, start(handle, transactions));
            Arc::new(made.expect("a store without faults works"))
        })
        .collect()
}

/// A repository after so many transactions, each of its own pack and index run, and the same
/// number of entries that only move a branch to and fro.
async fn start(handle: &Handle, transactions: u64) -> Result<Start> {
    let objects = Arc::new(InMemory::new());
    let staging = MemoryStaging::publishing_into(Arc::clone(&objects) as _);
    let backend = Backend::custom("start", Arc::clone(&objects) as _, Arc::new(staging));
    let open = OpenOptions {
        clock: Arc::new(FixedClock(0)),
        entropy: Arc::new(SimEntropy::new(Random::new(transactions))),
        ..OpenOptions::default()
    };
    let options = InitOptions {
        pack_len_max: PACK_LEN_MIN,
        open,
        ..InitOptions::default()
    };
    let store = Store::init(backend, options).await?;
    let mut audit = Audit::default();
    let mut rng = Random::new(transactions);
    let mut old = None;
    for _ in 0..transactions {
        let writer = store.writer(handle.clone()).await?;
        let item = rng.pick(universe());
        let (id, root) = snapshot(rng.digest(), &[item.id]);
        audit.snapshot(id, vec![item.id, root.id]);
        item.put(&writer)?;
        root.put(&writer)?;
        writer.finish()?;
        for (from, to) in [(old, Some(id)), (Some(id), Some(id))] {
            store
                .commit(commit(vec![change(BRANCHES[0], from, to)]))
                .await?;
        }
        old = Some(id);
    }
    let objects = objects.fork();
    let scanned = audit.scan(&Disk::new(objects.fork(), false));
    scanned.expect("a store without faults keeps its promises");
    let elsewhere = objects.fork();
    let config = Config {
        log: Some("simulated".to_owned()),
        ..store.config().clone()
    };
    let (bytes, _) = seal(&config)?;
    let put = elsewhere.put(&names::CONFIG.into(), bytes.into()).await;
    put.map_err(Error::engine(names::CONFIG.to_owned()))?;
    Ok(Start {
        objects: [objects, elsewhere],
        audit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_lists_its_chunks() {
        let chunks: Vec<ChunkId> = universe()[..3].iter().map(|item| item.id).collect();
        let (id, item) = snapshot(Digest::of(b"n"), &chunks);
        assert_eq!(id.digest(), item.id.digest());
        assert_eq!(listed(&item.raw), chunks);
        assert_eq!(describe(&chunks[2]).to_string(), "chunk no. 2");
    }
}
