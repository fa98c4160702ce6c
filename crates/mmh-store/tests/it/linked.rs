//! Chunks whose frames refer to others: read through them, and honest about what is missing.

use std::sync::Arc;

use mmh_codec::{Base, Context, Encoder, Hint, Method, Settings};
use mmh_core::name::RefName;
use mmh_core::ports::{Cancel, Silent};
use mmh_core::{ChunkId, Dtype, ErrorKind, SnapshotId};
use mmh_store::conformance::{noise, small_store};
use mmh_store::{
    Archive, ArchiveWriter, ChunkSink, ChunkSource, Error, GcOptions, GcReport, GcRoots,
    InitOptions, Marks, REFERENCE_DEPTH_MAX, RebuildOptions, StagedFile, Staging, Store,
    VerifyOptions,
};
use tokio::runtime::Handle;

use crate::common::{Memory, runtime, verify};

/// Numbers in a version.
const N: usize = 6000;
/// Bytes of a version.
pub(crate) const LEN: u32 = 12_000;

/// The `n`-th version of some BF16 weights: each a few small steps from the one before.
pub(crate) fn version(n: u64) -> Vec<u8> {
    let mut numbers: Vec<u16> = noise(1, 4 * N)
        .chunks_exact(4)
        .map(|b| 0x3c00 + u16::from(b[0]) + (u16::from(b[1]) << 8 & 0x8100))
        .collect();
    for step in 1..=n {
        for (number, byte) in numbers.iter_mut().zip(noise(100 + step, N)) {
            *number += u16::from(byte < 60);
        }
    }
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}

pub(crate) fn id(n: u64) -> ChunkId {
    ChunkId::of(&version(n))
}

/// The frame of a version; as the difference from `base`, under the name `named`.
pub(crate) fn frame_as(n: u64, base: Option<(u64, ChunkId)>) -> Vec<u8> {
    let (mut frame, raw) = (Vec::new(), base.map(|(base, _)| version(base)));
    let base = base.zip(raw.as_deref()).map(|((_, named), raw)| Base {
        id: *named.digest().as_bytes(),
        raw,
    });
    let context = Context { base };
    let hint = Hint::tensor(Dtype::BF16, 100);
    let method = Encoder::new(Settings::default())
        .encode_with(&version(n), &hint, &context, &mut frame)
        .unwrap();
    assert_eq!(method == Method::Delta, base.is_some());
    frame
}

pub(crate) fn put(sink: &impl ChunkSink, n: u64, base: Option<u64>) {
    let frame = frame_as(n, base.map(|base| (base, id(base))));
    assert!(sink.put(id(n), LEN, &frame).unwrap());
}

/// A store of versions, each the difference from the one before.
pub(crate) async fn chain(n: u64) -> (Memory, Store) {
    let memory = Memory::new();
    let store = small_store(memory.backend.clone()).await;
    let writer = store.writer(Handle::current()).await.unwrap();
    for n in 0..n {
        put(&writer, n, n.checked_sub(1));
    }
    writer.finish().unwrap();
    (memory, store)
}

/// The name of the pack that holds a version.
fn pack_of(store: &Store, n: u64) -> String {
    let at = store.reader(Handle::current()).locate(&id(n)).unwrap();
    let digits = at.unwrap().pack.unwrap().digest().to_string();
    format!("mmh/packs/{}/{digits}", &digits[..2])
}

#[test]
fn a_chunk_is_read_by_way_of_its_bases_down_to_a_limit() {
    let runtime = runtime();
    runtime.block_on(async {
        let most = REFERENCE_DEPTH_MAX as u64;
        let (_, store) = chain(most + 2).await;
        let reader = store.reader(Handle::current());
        for n in 0..=most {
            assert_eq!(&reader.get(&id(n)).unwrap()[..], version(n), "version {n}");
            let base = reader.references(&id(n)).unwrap().base;
            assert_eq!(base, n.checked_sub(1).map(|b| *id(b).digest().as_bytes()));
        }
        let error = reader.get(&id(most + 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("deep"), "{error}");
        let report = verify(&store).await;
        assert_eq!(report.damage.len(), 1);
        assert_eq!(report.damage[0].chunk, Some(id(most + 1)));
    });
}

/// While a writer grows its pack, what is in it can be a base.
#[test]
fn a_chunk_of_an_unfinished_writer_is_read_by_way_of_its_base() {
    let runtime = runtime();
    runtime.block_on(async {
        let store = Store::init(Memory::new().backend, InitOptions::default())
            .await
            .unwrap();
        let writer = store.writer(Handle::current()).await.unwrap();
        put(&writer, 0, None);
        put(&writer, 1, Some(0));
        let reader = store.reader(Handle::current());
        assert_eq!(reader.locate(&id(1)).unwrap().unwrap().pack, None);
        assert_eq!(&reader.get(&id(1)).unwrap()[..], version(1));
        writer.finish().unwrap();
        assert!(verify(&store).await.is_clean());
    });
}

/// Two frames that refer to each other: no reader follows them round.
#[test]
fn a_circle_is_refused() {
    let runtime = runtime();
    runtime.block_on(async {
        let store = small_store(Memory::new().backend).await;
        let writer = store.writer(Handle::current()).await.unwrap();
        for (n, base) in [(0, 1), (1, 0)] {
            let frame = frame_as(n, Some((base, id(base))));
            writer.put(id(n), LEN, &frame).unwrap();
        }
        writer.finish().unwrap();
        for n in 0..2 {
            let error = store.reader(Handle::current()).get(&id(n)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        }
        assert_eq!(verify(&store).await.damage.len(), 2);
    });
}

#[test]
fn a_missing_base_is_not_found_and_both_chunks_are_named() {
    let runtime = runtime();
    runtime.block_on(async {
        let store = small_store(Memory::new().backend).await;
        let writer = store.writer(Handle::current()).await.unwrap();
        put(&writer, 1, Some(0));
        put(&writer, 2, Some(1));
        put(&writer, 5, None);
        writer.finish().unwrap();
        let reader = store.reader(Handle::current());
        let error = reader.get(&id(2)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let text = error.to_string();
        for n in 0..3 {
            assert!(text.contains(&id(n).to_string()), "version {n}: {text}");
        }
        assert_eq!(&reader.get(&id(5)).unwrap()[..], version(5));
        for decode in [true, false] {
            let options = VerifyOptions {
                decode,
                ..VerifyOptions::default()
            };
            let report = store
                .verify(options, &Silent, &Cancel::default())
                .await
                .unwrap();
            // Without decoding, only what a frame itself refers to is looked for.
            assert_eq!(report.damage.len(), 1 + usize::from(decode));
            assert!(report.damage.iter().all(|d| d.reason.contains("base")));
        }
    });
}

#[test]
fn a_damaged_base_is_corrupt_and_others_are_readable() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, store) = chain(3).await;
        let name = pack_of(&store, 1);
        let mut bytes = memory.read(&name).await;
        bytes[300] ^= 1;
        memory.write(&name, bytes).await;
        let reader = memory.open().await.unwrap().reader(Handle::current());
        assert_eq!(&reader.get(&id(0)).unwrap()[..], version(0));
        for n in 1..3 {
            let error = reader.get(&id(n)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(error.to_string().contains(&id(1).to_string()));
        }
        let error = reader.get(&id(2)).unwrap_err();
        assert!(matches!(error, Error::Reference { what: "base", .. }));
    });
}

/// Under the name of its base lies other content: the base is to blame.
#[test]
fn a_base_that_is_not_what_its_name_says_is_corrupt() {
    let runtime = runtime();
    runtime.block_on(async {
        let store = small_store(Memory::new().backend).await;
        let writer = store.writer(Handle::current()).await.unwrap();
        let other = frame_as(7, None);
        writer.put(id(0), LEN, &other).unwrap();
        put(&writer, 1, Some(0));
        writer.finish().unwrap();
        let error = store.reader(Handle::current()).get(&id(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(&id(0).to_string()), "{error}");
    });
}

#[test]
fn an_archive_on_top_of_other_files_needs_them() {
    let dir = tempfile::tempdir().unwrap();
    let (path, base) = (dir.path().join("new.mmh"), dir.path().join("base.mmh"));
    let refs = [(
        RefName::branch("a".parse().unwrap(), "main").unwrap(),
        SnapshotId::of(b"a"),
    )];
    let writer = ArchiveWriter::create(&path).unwrap();
    put(&writer, 1, Some(0));
    put(&writer, 2, Some(1));
    writer.finish(&refs).unwrap();
    let writer = ArchiveWriter::create(&base).unwrap();
    put(&writer, 0, None);
    writer.finish(&refs).unwrap();

    let alone = Archive::open(&path).unwrap();
    assert_eq!(alone.get(&id(2)).unwrap_err().kind(), ErrorKind::NotFound);
    let report = alone.verify(&Silent, &Cancel::default()).unwrap();
    assert_eq!(report.damage.len(), 2, "both need what is not here");
    assert!(alone.references(&id(1)).unwrap().base.is_some());

    let base = Arc::new(Archive::open(&base).unwrap());
    let whole = Archive::open(&path).unwrap().with_bases(base);
    assert_eq!(&whole.get(&id(2)).unwrap()[..], version(2));
    assert!(
        whole
            .verify(&Silent, &Cancel::default())
            .unwrap()
            .is_clean()
    );
    assert_eq!(&whole.get(&id(0)).unwrap()[..], version(0));
    assert!(whole.references(&id(0)).unwrap().is_empty());
    assert_eq!(whole.locate(&id(0)).unwrap().unwrap().raw_len, LEN);
    assert_eq!(alone.locate(&id(0)).unwrap(), None);
    let error = whole.get(&id(9)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

/// What a writer that died had staged is named by its content, and content may need a base: in the
/// same file, or in a pack that was published before.
#[test]
fn differences_are_salvaged() {
    let runtime = runtime();
    runtime.block_on(async {
        let memory = Memory::new();
        let store = Store::init(memory.backend.clone(), InitOptions::default())
            .await
            .unwrap();
        let writer = store.writer(Handle::current()).await.unwrap();
        put(&writer, 0, None);
        writer.finish().unwrap();
        let writer = store.writer(Handle::current()).await.unwrap();
        put(&writer, 1, Some(0));
        put(&writer, 2, Some(1));
        let copy = memory.fork();
        let staged = memory.staging.orphans().unwrap();
        assert!(staged.is_empty(), "the writer lives");
        drop((writer, store));
        let staged = memory.staging.orphans().unwrap().remove(0);
        let mut bytes = vec![0; usize::try_from(staged.len()).unwrap()];
        staged.read_at(0, &mut bytes).unwrap();
        let file: Box<dyn StagedFile> = copy.staging.create().unwrap();
        file.append(&[&bytes]).unwrap();
        drop(file);
        let store = copy.open().await.unwrap();
        let found = store.recover().await.unwrap();
        assert_eq!((found.salvaged_packs, found.salvaged_chunks), (1, 2));
        for n in 0..3 {
            let got = store.reader(Handle::current()).get(&id(n)).unwrap();
            assert_eq!(&got[..], version(n));
        }
    });
}

/// Every pack may be the one whose footer is damaged: its chunks are decoded to be named, whatever
/// pack their bases lie in.
#[test]
fn differences_are_rescued_from_a_pack_without_footer() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, store) = chain(3).await;
        for n in 0..3 {
            let copy = memory.fork();
            let name = pack_of(&store, n);
            let mut bytes = copy.read(&name).await;
            let len = bytes.len();
            bytes[len - 120] ^= 1;
            copy.write(&name, bytes).await;
            let opened = copy.open().await.unwrap();
            let report = opened
                .rebuild_index(RebuildOptions::default(), &Silent, &Cancel::default())
                .await
                .unwrap();
            assert_eq!((report.rescued_packs.len(), report.chunks), (1, 3));
            let reader = opened.reader(Handle::current());
            for n in 0..3 {
                assert_eq!(&reader.get(&id(n)).unwrap()[..], version(n));
            }
        }
    });
}

/// Collects everything but what these chunks need.
async fn collect(store: &Store, alive: &[u64]) -> GcReport {
    let mut marking = |_: &GcRoots, marks: &mut Marks| {
        for n in alive {
            marks.insert(id(*n));
        }
        Ok::<(), Error>(())
    };
    let options = GcOptions {
        grace_ms: 0,
        undo_ms: 0,
        ..GcOptions::default()
    };
    let ports = (&Silent as _, &Cancel::default());
    let run = store.gc(Handle::current(), &options, &mut marking, ports);
    run.await.unwrap()
}

/// What a live frame refers to is alive, however many steps away.
#[test]
fn bases_are_alive_as_long_as_what_was_made_from_them() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, store) = chain(4).await;
        for _ in 0..2 {
            let report = collect(&store, &[3]).await;
            assert_eq!((report.live_chunks, report.buried_packs), (4, 0));
        }
        for _ in 0..2 {
            collect(&store, &[1]).await;
        }
        let reader = store.reader(Handle::current());
        assert_eq!(&reader.get(&id(1)).unwrap()[..], version(1));
        assert!(reader.locate(&id(3)).unwrap().is_none());
        assert!(verify(&memory.open().await.unwrap()).await.is_clean());
    });
}

/// A writer takes the difference from a base whose pack has a tomb: base and all are copied.
#[test]
fn a_base_in_a_pack_with_a_tomb_is_copied() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, store) = chain(2).await;
        assert!(collect(&store, &[]).await.buried_packs > 0);
        let writer = store.writer(Handle::current()).await.unwrap();
        assert!(!writer.contains(&id(1)).unwrap(), "it counts as missing");
        put(&writer, 2, Some(1));
        assert!(writer.contains(&id(0)).unwrap() && writer.contains(&id(1)).unwrap());
        writer.finish().unwrap();
        assert!(collect(&store, &[2]).await.deleted_packs > 0);
        let store = memory.open().await.unwrap();
        let reader = store.reader(Handle::current());
        assert_eq!(&reader.get(&id(2)).unwrap()[..], version(2));
        assert!(verify(&store).await.is_clean());
    });
}
