//! Lengths at their edge, where packs end, and what the figures and the progress say.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use mmh_core::limits::CHUNK_LEN_MAX;
use mmh_core::ports::{Cancel, Progress, Silent};
use mmh_core::{ChunkId, PackId};
use mmh_store::conformance::{frame, noise, put, small_store};
use mmh_store::pack::{HEADER_LEN, PACK_ENTRY_LEN, PACK_SALT_LEN, RECORD_HEAD_LEN, TRAILER_LEN};
use mmh_store::{
    Archive, ArchiveWriter, Backend, ChunkInfo, ChunkSink, ChunkSource, RebuildOptions, Store,
    VerifyOptions,
};
use tokio::runtime::Handle;

use crate::common::{Memory, assert_all, put_all, raw, runtime, store_with, verify};

/// Chunks of the shortest and longest lengths, and around powers of 256.
fn of_every_length() -> Vec<Vec<u8>> {
    let short = [0, 1, 2, 127, 128, 255, 256, 257, 65_535, 65_536, 65_537];
    let mut chunks: Vec<Vec<u8>> = short.map(|len| noise(len as u64, len)).to_vec();
    chunks.push(vec![0; CHUNK_LEN_MAX]);
    chunks
}

fn put_every_length(sink: &impl ChunkSink) {
    for raw in of_every_length() {
        assert!(put(sink, &raw).unwrap().1, "{} bytes", raw.len());
    }
    let longer = u32::try_from(CHUNK_LEN_MAX + 1).unwrap();
    assert!(sink.put(ChunkId::of(b"x"), longer, &frame(b"x")).is_err());
}

fn get_every_length(source: &impl ChunkSource) {
    for raw in of_every_length() {
        let id = ChunkId::of(&raw);
        assert_eq!(&source.get(&id).unwrap()[..], raw, "{} bytes", raw.len());
        let at = source.locate(&id).unwrap().unwrap();
        assert_eq!(at.raw_len as usize, raw.len());
    }
}

#[test]
fn chunks_of_every_length_come_back() {
    let runtime = runtime();
    runtime.block_on(async {
        let memory = Memory::new();
        let store = small_store(memory.backend.clone()).await;
        let writer = store.writer(Handle::current()).await.unwrap();
        put_every_length(&writer);
        get_every_length(&store.reader(Handle::current()));
        writer.finish().unwrap();
        get_every_length(&memory.open().await.unwrap().reader(Handle::current()));
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.mmh");
    let writer = ArchiveWriter::create(&path).unwrap();
    put_every_length(&writer);
    writer.finish(&[]).unwrap();
    get_every_length(&Archive::open(&path).unwrap());
}

/// Where each test chunk lies, by pack, in order of offset.
fn by_pack(store: &Store, n: u64) -> BTreeMap<PackId, Vec<ChunkInfo>> {
    let reader = store.reader(Handle::current());
    let mut packs: BTreeMap<PackId, Vec<ChunkInfo>> = BTreeMap::new();
    for seed in 0..n {
        let at = reader.locate(&ChunkId::of(&raw(seed))).unwrap().unwrap();
        packs.entry(at.pack.unwrap()).or_default().push(at);
    }
    packs
        .values_mut()
        .for_each(|chunks| chunks.sort_by_key(|at| at.offset));
    packs
}

/// The record that reaches the length ends its pack; records follow each other without gap, and
/// footer and trailer are all that is behind them.
#[test]
fn a_pack_ends_with_the_record_that_reaches_its_length() {
    runtime().block_on(async {
        let (memory, store) = store_with(200, 1000).await;
        let limit = store.config().pack_len_max;
        let packs = by_pack(&store, 200);
        let mut n_short = 0;
        for (pack, chunks) in &packs {
            let mut at = HEADER_LEN;
            let mut before_last = at;
            for chunk in chunks {
                assert_eq!(chunk.offset, at);
                before_last = at;
                at += RECORD_HEAD_LEN + u64::from(chunk.stored_len);
            }
            assert!(before_last < limit, "it was full before its last record");
            n_short += u32::from(at < limit);
            let hex = pack.digest().to_string();
            let file = memory.read(&format!("mmh/packs/{}/{hex}", &hex[..2])).await;
            let behind = chunks.len() * PACK_ENTRY_LEN + PACK_SALT_LEN + TRAILER_LEN;
            assert_eq!(file.len() as u64, at + behind as u64);
        }
        assert!(packs.len() > 5 && n_short <= 1, "only the last is not full");
    });
}

/// Every published object, by name.
async fn contents(memory: &Memory, prefix: &str) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for name in memory.names(prefix).await {
        let bytes = memory.read(&name).await;
        found.insert(name, bytes);
    }
    found
}

/// Nothing in records depends on time or chance: two repositories that are told the same hold the
/// same, in packs that are alike but for what makes each of them another one.
#[test]
fn equal_work_gives_equal_records_and_no_equal_packs() {
    runtime().block_on(async {
        let ((one, first), (two, second)) = (store_with(60, 7).await, store_with(60, 7).await);
        assert_ne!(first.config().repository, second.config().repository);
        let records = one.records().await;
        assert_eq!(records, two.records().await);
        let (packs, others) = (one.names("mmh/packs").await, two.names("mmh/packs").await);
        assert_eq!((packs.len(), others.len()), (records.len(), records.len()));
        assert!(packs.iter().all(|name| !others.contains(name)));
    });
}

#[test]
fn figures_are_the_sums_of_the_objects() {
    runtime().block_on(async {
        let (memory, store) = store_with(60, 7).await;
        memory
            .write("mmh/packs/aa/README", b"not a pack".to_vec())
            .await;
        memory
            .write("mmh/index/README", b"not a run".to_vec())
            .await;
        let stats = store.stats().await.unwrap();
        let sum = |found: BTreeMap<String, Vec<u8>>| {
            let of_store = found.iter().filter(|(name, _)| !name.ends_with("README"));
            of_store.fold((0, 0), |(n, len), (_, bytes)| {
                (n + 1, len + bytes.len() as u64)
            })
        };
        assert_eq!(
            (stats.packs, stats.pack_bytes),
            sum(contents(&memory, "mmh/packs").await)
        );
        assert_eq!(
            (stats.index_runs, stats.index_bytes),
            sum(contents(&memory, "mmh/index").await)
        );
        assert_eq!(stats.chunks, 60);
        let report = verify(&store).await;
        let raw_bytes: usize = (0..60).map(|seed| raw(seed).len()).sum();
        assert_eq!((report.packs, report.chunks), (stats.packs, 60));
        assert_eq!(report.raw_bytes, raw_bytes as u64);
    });
}

/// How many packs are checked at once changes the time and nothing in the report.
#[test]
fn a_check_reports_the_same_however_many_packs_at_once() {
    runtime().block_on(async {
        let (memory, store) = store_with(100, 1000).await;
        let names = memory.names("mmh/packs").await;
        for (i, name) in names.iter().enumerate().step_by(2) {
            let mut bytes = memory.read(name).await;
            bytes[20 + i] ^= 1;
            memory.write(name, bytes).await;
        }
        memory.delete(&names[1]).await;
        let mut reports = Vec::new();
        for parallel in [1, 0, 2, 100] {
            let options = VerifyOptions {
                parallel,
                ..VerifyOptions::default()
            };
            reports.push(
                store
                    .verify(options, &Silent, &Cancel::default())
                    .await
                    .unwrap(),
            );
        }
        let report = &reports[0];
        assert!(report.damage.len() >= names.len().div_ceil(2), "{report:?}");
        assert_eq!(report.missing_packs.len(), 1, "{report:?}");
        assert!(reports.iter().all(|report| *report == reports[0]));
    });
}

/// Checksums alone do not tell that a frame holds other bytes than its id says; decoding does.
#[test]
fn only_decoding_finds_a_frame_under_a_wrong_id() {
    runtime().block_on(async {
        let store = small_store(Backend::memory()).await;
        let writer = store.writer(Handle::current()).await.unwrap();
        let id = ChunkId::of(b"abc");
        writer.put(id, 3, &frame(b"abd")).unwrap();
        writer.finish().unwrap();
        for decode in [false, true] {
            let options = VerifyOptions {
                decode,
                ..VerifyOptions::default()
            };
            let report = store
                .verify(options, &Silent, &Cancel::default())
                .await
                .unwrap();
            assert_eq!(report.is_clean(), !decode);
            assert_eq!(
                report.damage.first().and_then(|d| d.chunk),
                decode.then_some(id)
            );
        }
    });
}

/// Adds up what it is told.
#[derive(Debug, Default)]
struct Sums {
    total: AtomicU64,
    done: AtomicU64,
    open: AtomicU64,
}

impl Progress for Sums {
    fn begin(&self, _stage: &str, total: Option<u64>) {
        self.total.fetch_add(total.unwrap(), Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    fn advance(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        assert!(
            done <= self.total.load(Ordering::Relaxed),
            "beyond what was announced"
        );
    }

    fn item(&self, _name: &str) {}

    fn end(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Sums {
    fn assert_complete(self, what: &str) {
        assert_eq!(self.done.into_inner(), self.total.into_inner(), "{what}");
        assert_eq!(self.open.into_inner(), 0, "{what}");
    }
}

/// Long work announces how much it is, and does as much as it announced.
#[test]
fn progress_reaches_its_end() {
    runtime().block_on(async {
        let (_, store) = store_with(100, 20).await;
        let (sums, cancel) = (Sums::default(), Cancel::default());
        store
            .verify(VerifyOptions::default(), &sums, &cancel)
            .await
            .unwrap();
        sums.assert_complete("verify");
        let sums = Sums::default();
        store
            .rebuild_index(RebuildOptions::default(), &sums, &cancel)
            .await
            .unwrap();
        sums.assert_complete("rebuild");
    });
}

/// What a put has taken is there for every thread from then on, whatever flushes go on.
#[test]
fn readers_beside_a_writer_see_all_that_was_put() {
    let runtime = runtime();
    let store = runtime.block_on(small_store(Backend::memory()));
    let writer = runtime
        .block_on(store.writer(runtime.handle().clone()))
        .unwrap();
    let n_put = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for step in [1, 3, 7] {
            let (reader, n_put) = (store.reader(runtime.handle().clone()), &n_put);
            scope.spawn(move || {
                let mut seen = 0;
                while seen < 150 {
                    seen = n_put.load(Ordering::Acquire);
                    assert_all(&reader, (0..seen).rev().step_by(step).take(20));
                }
            });
        }
        for seed in 0..150 {
            put_all(&writer, [seed]).unwrap();
            n_put.store(seed + 1, Ordering::Release);
            if seed % 11 == 0 {
                writer.flush().unwrap();
            }
        }
    });
}
