//! Packs with parity, damaged in every way that their budget covers: what is read is right, and
//! the pack is bit for bit what it was. Beyond the budget the damaged chunks are named, and the
//! rest reads.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use mmh_core::{ChunkId, ErrorKind};
use mmh_store::conformance::{noise, put};
use mmh_store::fault::{Fault, Faults};
use mmh_store::{
    Backend, ChunkSource, Healed, InitOptions, OpenOptions, StagedFile, Staging, Store,
};
use proptest::prelude::*;
use tokio::runtime::Handle;

use crate::common::{Memory, assert_all, count_damaged, put_all, runtime, verify};

const N: u64 = 60;

/// A store of several short packs with parity.
async fn healthy() -> (Memory, Store) {
    let memory = Memory::new();
    let store = memory.init_with(3).await;
    let writer = store.writer(Handle::current()).await.unwrap();
    put_all(&writer, 0..N).unwrap();
    writer.finish().unwrap();
    assert!(verify(&store).await.is_clean());
    (memory, store)
}

async fn packs(memory: &Memory) -> BTreeMap<String, Vec<u8>> {
    let mut packs = BTreeMap::new();
    for name in memory.names("mmh/packs").await {
        let bytes = memory.read(&name).await;
        packs.insert(name, bytes);
    }
    packs
}

/// Damages every pack, reads everything, and compares the packs with what they were.
async fn assert_heals(memory: &Memory, damage: impl Fn(&mut Vec<u8>), what: &str) -> Vec<Healed> {
    let before = packs(memory).await;
    let copy = memory.fork();
    for (name, bytes) in &before {
        let mut bad = bytes.clone();
        damage(&mut bad);
        copy.write(name, bad).await;
    }
    let store = copy.open().await.unwrap();
    assert_all(&store.reader(Handle::current()), 0..N);
    let told = store.take_healed();
    assert!(store.take_healed().is_empty(), "{what}: told once");
    if told.len() == before.len() {
        assert!(packs(&copy).await == before, "{what}: not what they were");
        assert!(copy.staging_is_empty());
        assert!(verify(&store).await.is_clean(), "{what}");
    }
    told
}

#[test]
fn every_pack_heals_while_it_is_read() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = healthy().await;
        let n_packs = packs(&memory).await.len();
        assert!(n_packs >= 3);
        let told = assert_heals(&memory, |bytes| bytes[40] ^= 1, "a flipped bit").await;
        assert_eq!(told.len(), n_packs);
        assert!(told.iter().all(|healed| healed.blocks == 1
            && healed.parity_blocks == 0
            && healed.block_len == 512
            && healed.unwritten.is_none()));
        let told = assert_heals(&memory, |bytes| bytes[..4096].fill(0), "a sector of zeros").await;
        // In the last, short pack the sector reaches into the parity.
        let n_hit = |healed: &Healed| healed.blocks + healed.parity_blocks;
        assert!(
            told.iter().all(|healed| (5..=9).contains(&n_hit(healed))),
            "{told:?}"
        );
        let both = |bytes: &mut Vec<u8>| {
            bytes[20..2000].fill(0xff);
            let len = bytes.len();
            bytes[len - 30..].fill(0);
        };
        let told = assert_heals(&memory, both, "head and end").await;
        assert!(told.iter().all(|healed| healed.parity_blocks >= 1));
        let torn = |bytes: &mut Vec<u8>| {
            bytes[30] ^= 0x80;
            bytes.truncate(bytes.len() - 1500);
        };
        assert_eq!(assert_heals(&memory, torn, "torn off").await.len(), n_packs);
        let longer = |bytes: &mut Vec<u8>| {
            bytes[30] ^= 0x80;
            bytes.extend_from_slice(&[7; 700]);
        };
        assert_eq!(
            assert_heals(&memory, longer, "too long").await.len(),
            n_packs
        );
    });
}

/// Parity is of the bytes as they are stored, whatever they say.
#[test]
fn a_sealed_store_heals_too() {
    let runtime = runtime();
    runtime.block_on(async {
        let memory = Memory::sealed();
        let store = memory.init_with(3).await;
        let writer = store.writer(Handle::current()).await.unwrap();
        put_all(&writer, 0..N).unwrap();
        writer.finish().unwrap();
        let burst = |bytes: &mut Vec<u8>| bytes[10..1800].fill(0x55);
        let told = assert_heals(&memory, burst, "a sealed burst").await;
        assert_eq!(told.len(), packs(&memory).await.len());
    });
}

/// Damage that no reader meets is found by a check, in every byte of the parity.
#[test]
fn every_flip_in_parity_is_found_and_read_over() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = healthy().await;
        let (name, bytes) = packs(&memory).await.pop_first().unwrap();
        for at in (0..bytes.len()).step_by(13) {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << (at % 8);
            let copy = memory.fork();
            copy.write(&name, bad).await;
            let store = copy.open().await.unwrap();
            let report = verify(&store).await;
            assert!(!report.is_clean(), "byte {at} of {}", bytes.len());
            assert!(
                report
                    .damage
                    .iter()
                    .all(|d| d.object == name && d.offset.is_some())
            );
            assert!(store.take_healed().is_empty(), "a check changes nothing");
            assert_all(&store.reader(Handle::current()), 0..N);
        }
    });
}

/// What cannot be healed is named; the packs beside it are healed, and nothing wrong comes out.
#[test]
fn beyond_the_budget_damage_is_damage() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, store) = healthy().await;
        let reader = store.reader(Handle::current());
        let before = packs(&memory).await;
        let lost = memory.longest_pack().await;
        for (name, bytes) in &before {
            let mut bad = bytes.clone();
            if *name == lost {
                bad.iter_mut().step_by(500).for_each(|byte| *byte ^= 1);
            } else {
                bad[100] ^= 1;
            }
            memory.write(name, bad).await;
        }
        let in_lost = |seed: &u64| {
            let id = ChunkId::of(&crate::common::raw(*seed));
            let pack = reader.locate(&id).unwrap().unwrap().pack.unwrap();
            lost.ends_with(&pack.digest().to_string())
        };
        let (hit, whole): (Vec<u64>, Vec<u64>) = (0..N).partition(in_lost);
        assert_all(&reader, whole);
        assert!(count_damaged(&reader, hit) > 3);
        assert_eq!(store.take_healed().len(), before.len() - 1);
        let report = verify(&store).await;
        assert!(report.damage.iter().all(|d| d.object == lost), "{report:?}");
    });
}

/// A staging area on a disk that cannot be written.
#[derive(Debug)]
struct ReadOnly;

impl Staging for ReadOnly {
    fn create(&self) -> io::Result<Box<dyn StagedFile>> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn orphans(&self) -> io::Result<Vec<Box<dyn StagedFile>>> {
        Ok(Vec::new())
    }
}

/// Where nothing can be written, reading heals in memory, and says why not on the disk.
#[test]
fn a_store_that_cannot_be_written_is_read_all_the_same() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = healthy().await;
        for (name, mut bytes) in packs(&memory).await {
            bytes[50] ^= 1;
            memory.write(&name, bytes).await;
        }
        let damaged = packs(&memory).await;
        let objects = Arc::clone(memory.backend.objects());
        let backend = Backend::custom("read-only", objects, Arc::new(ReadOnly));
        let store = Store::open(backend, OpenOptions::default()).await.unwrap();
        let reader = store.reader(Handle::current());
        assert_all(&reader, 0..N);
        assert_all(&reader, 0..N);
        let told = store.take_healed();
        assert_eq!(told.len(), damaged.len(), "each once");
        assert!(told.iter().all(|healed| healed.unwritten.is_some()));
        assert!(packs(&memory).await == damaged);
    });
}

/// Healing interrupted at any operation, in any way: the pack is the damaged one or the healed
/// one, never something else, and the next reader goes on.
#[test]
fn healing_can_be_interrupted_anywhere() {
    let runtime = runtime();
    let _inside = runtime.enter();
    for fault in Fault::ALL {
        let mut n = 1;
        while runtime.block_on(interrupted(n, fault)) {
            n += 1;
        }
        assert!(n > 10, "healing has that many operations, not {n}");
    }
}

async fn interrupted(n: u64, fault: Fault) -> bool {
    let (memory, _) = healthy().await;
    let before = packs(&memory).await;
    let name = &memory.longest_pack().await;
    let whole = &before[name];
    let mut bad = whole.clone();
    bad[1000..1500].fill(0);
    memory.write(name, bad.clone()).await;
    let faults = Faults::default();
    let backend = faults.decorate(&memory.backend);
    let store = Store::open(backend, OpenOptions::default()).await.unwrap();
    faults.strike(n, fault);
    let reader = store.reader(Handle::current());
    for seed in 0..N {
        let raw = crate::common::raw(seed);
        if let Ok(got) = reader.get(&ChunkId::of(&raw)) {
            assert_eq!(&got[..], raw);
        }
    }
    let met = faults.count() >= n;
    memory.staging.crash(0);
    let now = memory.read(name).await;
    assert!(now == *whole || now == bad, "{fault:?} at {n}");
    let store = memory.open().await.unwrap();
    assert_all(&store.reader(Handle::current()), 0..N);
    assert!(packs(&memory).await == before, "{fault:?} at {n}");
    store
        .writer(Handle::current())
        .await
        .unwrap()
        .finish()
        .unwrap();
    assert!(memory.staging_is_empty() && verify(&store).await.is_clean());
    met
}

/// Two processes that heal the same pack do the same.
#[test]
fn many_readers_heal_a_pack_once() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = healthy().await;
        let before = packs(&memory).await;
        for (name, bytes) in &before {
            let mut bad = bytes.clone();
            bad[20..4000].fill(1);
            memory.write(name, bad).await;
        }
        let store = memory.open().await.unwrap();
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let reader = store.reader(Handle::current());
                tokio::task::spawn_blocking(move || assert_all(&reader, 0..N))
            })
            .collect();
        for reader in readers {
            reader.await.unwrap();
        }
        assert_eq!(store.take_healed().len(), before.len());
        assert!(packs(&memory).await == before);
    });
}

/// What a writer that died left, and what a rebuild reads, has parity as any pack.
#[test]
fn salvaged_packs_have_parity_and_the_index_is_made_anew() {
    let runtime = runtime();
    runtime.block_on(async {
        let memory = Memory::new();
        let store = memory.init_with(10).await;
        let writer = store.writer(Handle::current()).await.unwrap();
        put_all(&writer, 0..5).unwrap();
        drop(writer);
        memory.staging.crash(usize::MAX);
        let store = memory.open().await.unwrap();
        assert_eq!(store.recover().await.unwrap().salvaged_chunks, 5);
        let (name, whole) = packs(&memory).await.pop_first().unwrap();
        let mut bad = whole.clone();
        bad[100..3000].fill(0);
        memory.write(&name, bad).await;
        assert_all(&store.reader(Handle::current()), 0..5);
        assert_eq!(memory.read(&name).await, whole);
        for run in memory.names("mmh/index").await {
            memory.delete(&run).await;
        }
        let store = memory.open().await.unwrap();
        store.recover().await.unwrap();
        assert_all(&store.reader(Handle::current()), 0..5);
    });
}

#[test]
fn a_share_beyond_the_bounds_is_refused() {
    let runtime = runtime();
    runtime.block_on(async {
        let options = InitOptions {
            parity: 51,
            ..InitOptions::default()
        };
        let error = Store::init(Memory::new().backend, options)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    });
}

/// A longer pack, whose blocks are sectors.
async fn long_pack(seed: u64, percent: u32) -> (Memory, Vec<Vec<u8>>) {
    let memory = Memory::new();
    let options = InitOptions {
        parity: percent,
        ..InitOptions::default()
    };
    let store = Store::init(memory.backend.clone(), options).await.unwrap();
    let writer = store.writer(Handle::current()).await.unwrap();
    let chunks: Vec<Vec<u8>> = (0..8).map(|i| noise(seed + i, 150_000)).collect();
    for chunk in &chunks {
        put(&writer, chunk).unwrap();
    }
    writer.finish().unwrap();
    (memory, chunks)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// Random sectors of a file, half as many as there are recovery blocks: in parity, cells are
    /// not aligned, so that a sector may cost two.
    #[test]
    fn random_sectors_heal(seed in 0..1000u64, percent in 2..20u32, zero: bool) {
        let runtime = runtime();
        runtime.block_on(async {
            let (memory, chunks) = long_pack(seed, percent).await;
            let (name, whole) = packs(&memory).await.pop_first().unwrap();
            let mut bad = whole.clone();
            let n_sectors = bad.len() / 4096;
            let budget = 1_200_000 / 4096 * percent as usize / 100 / 2;
            for i in 0..budget as u64 {
                let word = u64::from_le_bytes(noise(seed * 1000 + i, 8).try_into().unwrap());
                let at = usize::try_from(word % n_sectors as u64).unwrap() * 4096;
                let sector = &mut bad[at..at + 4096];
                if zero { sector.fill(0) } else { sector[usize::try_from(word >> 52).unwrap()] ^= 8 }
            }
            memory.write(&name, bad.clone()).await;
            let store = memory.open().await.unwrap();
            let reader = store.reader(Handle::current());
            for chunk in &chunks {
                assert!(reader.get(&ChunkId::of(chunk)).unwrap()[..] == chunk[..]);
            }
            let healed = store.take_healed();
            assert!(healed.is_empty() || memory.read(&name).await == whole);
            assert!(healed.len() <= 1);
        });
    }
}
