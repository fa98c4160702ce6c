//! Micro benches: putting, getting and looking up chunks in a local repository.
#![allow(clippy::unwrap_used, reason = "a bench may end with a panic")]
#![allow(missing_docs, reason = "the bench macros make undocumented items")]

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use mmh_core::{ChunkId, Digest};
use mmh_store::conformance::{frame, noise};
use mmh_store::node::sketch::{KEY_LEN, Peeler, Sketcher};
use mmh_store::node::slice::{Checker, Outliner, Piece};
use mmh_store::{Archive, ArchiveWriter, Backend, ChunkSink, ChunkSource, InitOptions, Store};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const CHUNK_LEN: usize = 1 << 20;
const CHUNKS: u64 = 64;

fn main() {
    divan::main();
}

struct Fixture {
    runtime: Runtime,
    _dir: TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let backend = Backend::local(dir.path()).unwrap();
        let store = runtime
            .block_on(Store::init(backend, InitOptions::default()))
            .unwrap();
        Self {
            runtime,
            _dir: dir,
            store,
        }
    }

    fn put(&self, chunks: &[(ChunkId, Vec<u8>)], raw_len: usize) {
        let writer = self
            .runtime
            .block_on(self.store.writer(self.runtime.handle().clone()));
        let writer = writer.unwrap();
        for (id, frame) in chunks {
            writer
                .put(*id, u32::try_from(raw_len).unwrap(), frame)
                .unwrap();
        }
        writer.finish().unwrap();
    }
}

fn chunks(n: u64, len: usize) -> Vec<(ChunkId, Vec<u8>)> {
    let chunk = |seed| {
        let raw = noise(seed, len);
        (ChunkId::of(&raw), frame(&raw))
    };
    (0..n).map(chunk).collect()
}

/// New chunks of 1 MiB: record, pack, sync, index run.
#[divan::bench(sample_count = 10)]
fn put_64_mib(bencher: Bencher<'_, '_>) {
    let chunks = chunks(CHUNKS, CHUNK_LEN);
    bencher
        .counter(BytesCount::new(CHUNKS * CHUNK_LEN as u64))
        .with_inputs(Fixture::new)
        .bench_refs(|fixture| fixture.put(&chunks, CHUNK_LEN));
}

/// Chunks that are there already.
#[divan::bench(sample_count = 10)]
fn put_64_mib_again(bencher: Bencher<'_, '_>) {
    let (fixture, chunks) = (Fixture::new(), chunks(CHUNKS, CHUNK_LEN));
    fixture.put(&chunks, CHUNK_LEN);
    bencher
        .counter(BytesCount::new(CHUNKS * CHUNK_LEN as u64))
        .bench_local(|| fixture.put(&chunks, CHUNK_LEN));
}

/// Reading from the page cache, with all checks.
#[divan::bench(sample_count = 10)]
fn get_64_mib(bencher: Bencher<'_, '_>) {
    let (fixture, chunks) = (Fixture::new(), chunks(CHUNKS, CHUNK_LEN));
    fixture.put(&chunks, CHUNK_LEN);
    let reader = fixture.store.reader(fixture.runtime.handle().clone());
    bencher
        .counter(BytesCount::new(CHUNKS * CHUNK_LEN as u64))
        .bench_local(|| {
            for (id, _) in &chunks {
                divan::black_box(reader.get(id).unwrap());
            }
        });
}

/// Lookups in an index of 100,000 small chunks.
#[divan::bench(sample_count = 10, args = ["there", "not there"])]
fn look_up_1000(bencher: Bencher<'_, '_>, which: &str) {
    let (fixture, chunks) = (Fixture::new(), chunks(100_000, 40));
    fixture.put(&chunks, 40);
    let reader = fixture.store.writer(fixture.runtime.handle().clone());
    let writer = fixture.runtime.block_on(reader).unwrap();
    let there = which == "there";
    let id = |i: usize| match there {
        true => chunks[i * 97].0,
        false => ChunkId::of(&noise(1 << 40 | i as u64, 8)),
    };
    let ids: Vec<ChunkId> = (0..1000).map(id).collect();
    bencher.counter(ItemsCount::new(1000u64)).bench_local(|| {
        for id in &ids {
            assert_eq!(writer.contains(id).unwrap(), there);
        }
    });
}

/// An archive of the same chunks, written and read.
#[divan::bench(sample_count = 10)]
fn archive_64_mib(bencher: Bencher<'_, '_>) {
    let chunks = chunks(CHUNKS, CHUNK_LEN);
    bencher
        .counter(BytesCount::new(CHUNKS * CHUNK_LEN as u64))
        .with_inputs(|| tempfile::tempdir().unwrap())
        .bench_refs(|dir| {
            let path = dir.path().join("x.mmh");
            let writer = ArchiveWriter::create(&path).unwrap();
            for (id, frame) in &chunks {
                writer
                    .put(*id, u32::try_from(CHUNK_LEN).unwrap(), frame)
                    .unwrap();
            }
            writer.finish(&[]).unwrap();
            let archive = Archive::open(&path).unwrap();
            for (id, _) in &chunks {
                divan::black_box(archive.get(id).unwrap());
            }
        });
}

/// What the first slice of a pack costs a node beside reading it.
#[divan::bench(sample_count = 10)]
fn outline_64_mib(bencher: Bencher<'_, '_>) {
    let bytes = noise(1, 64 << 20);
    let bencher = bencher.counter(BytesCount::new(bytes.len()));
    bencher.bench_local(|| {
        let mut outliner = Outliner::default();
        bytes.chunks(1 << 20).for_each(|some| outliner.update(some));
        outliner.finish()
    });
}

/// What checking a pack that comes in slices costs its receiver.
#[divan::bench(sample_count = 10)]
fn check_64_mib(bencher: Bencher<'_, '_>) {
    let bytes = noise(1, 64 << 20);
    let mut outliner = Outliner::default();
    outliner.update(&bytes);
    let (outline, digest) = outliner.finish();
    let len = outline.len();
    let bencher = bencher.counter(BytesCount::new(bytes.len()));
    bencher.bench_local(|| {
        let mut checker = Checker::new(digest, len, 0..len);
        for piece in outline.slice(0..len) {
            let at = |n: u64| usize::try_from(n).unwrap();
            let proved = match &piece {
                Piece::Node(node) => checker.accept(node),
                Piece::Group(group) => checker.accept(&bytes[at(group.start)..at(group.end)]),
            };
            proved.unwrap();
        }
    });
}

/// Two sets of a million digests that differ in a hundred: one side's time.
#[divan::bench(sample_count = 3)]
fn reconcile_1_000_000(bencher: Bencher<'_, '_>) {
    let ids = |range: std::ops::Range<u64>| range.map(|n| Digest::of(&n.to_le_bytes()));
    let (ours, theirs): (Vec<_>, Vec<_>) =
        (ids(0..1_000_000).collect(), ids(50..1_000_050).collect());
    let key = [7; KEY_LEN];
    let symbols = Sketcher::new(&key, theirs).next(512);
    bencher.bench_local(|| {
        let mut sketcher = Sketcher::new(&key, ours.iter().copied());
        let mut peeler = Peeler::new(key);
        let block = 128;
        let known = symbols.chunks(block).any(|theirs| {
            let ours = sketcher.next(theirs.len());
            peeler.push(theirs, &ours).unwrap()
        });
        assert!(known);
        peeler.finish()
    });
}
