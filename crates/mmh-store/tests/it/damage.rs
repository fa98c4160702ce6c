//! Packs and index runs, cut at each length and with bits flipped: never wrong bytes, never a
//! panic, always reported, and the index can be made anew.

use mmh_core::ports::{Cancel, Silent};
use mmh_core::{ChunkId, ErrorKind};
use mmh_store::conformance::put;
use mmh_store::{ChunkSource, Error, RebuildOptions, VerifyOptions};
use tokio::runtime::Handle;

use crate::common::{Memory, assert_all, count_damaged, raw, runtime, store_with, verify};

const N: u64 = 8;

async fn damaged(memory: &Memory, name: &str, bytes: Vec<u8>) -> Memory {
    let copy = memory.fork();
    copy.write(name, bytes).await;
    copy
}

#[test]
fn every_flip_in_a_pack_is_found_and_no_wrong_byte_comes_out() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = store_with(N, N).await;
        let name = memory.names("mmh/packs").await.remove(0);
        let bytes = memory.read(&name).await;
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 1 << (i % 8);
            let copy = damaged(&memory, &name, bad).await;
            let store = copy.open().await.unwrap();
            let report = verify(&store).await;
            assert!(!report.is_clean(), "byte {i} of {}", bytes.len());
            assert!(
                report
                    .damage
                    .iter()
                    .all(|d| d.object == name && d.offset.is_some())
            );
            assert!(count_damaged(&store.reader(Handle::current()), 0..N) <= 1);
        }
    });
}

#[test]
fn a_flip_in_a_record_is_reported_with_its_chunk_and_offset() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, store) = store_with(N, N).await;
        let reader = store.reader(Handle::current());
        let id = ChunkId::of(&raw(4));
        let at = reader.locate(&id).unwrap().unwrap();
        let name = memory.names("mmh/packs").await.remove(0);
        let mut bytes = memory.read(&name).await;
        bytes[usize::try_from(at.offset).unwrap() + 20] ^= 0x10;
        memory.write(&name, bytes).await;
        let error = reader.get(&id).unwrap_err();
        let Error::CorruptPack {
            pack,
            offset,
            chunk,
            ..
        } = &error
        else {
            panic!("{error}")
        };
        assert_eq!(
            (Some(*pack), *offset, *chunk),
            (at.pack, at.offset, Some(id))
        );
        for decode in [true, false] {
            let options = VerifyOptions {
                decode,
                ..VerifyOptions::default()
            };
            let report = store
                .verify(options, &Silent, &Cancel::default())
                .await
                .unwrap();
            let [damage] = &report.damage[..] else {
                panic!("{report:?}")
            };
            assert_eq!(
                (damage.pack, damage.offset, damage.chunk),
                (at.pack, Some(at.offset), Some(id))
            );
        }
    });
}

#[test]
fn a_pack_cut_anywhere_is_found_and_whole_records_still_read() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = store_with(N, N).await;
        let name = memory.names("mmh/packs").await.remove(0);
        let bytes = memory.read(&name).await;
        for len in 0..bytes.len() {
            let copy = damaged(&memory, &name, bytes[..len].to_vec()).await;
            let store = copy.open().await.unwrap();
            assert!(!verify(&store).await.is_clean(), "cut to {len}");
            count_damaged(&store.reader(Handle::current()), 0..N);
        }
    });
}

/// A pack under the name of another is not what its name says, though it is whole.
#[test]
fn a_swapped_pack_is_found() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, store) = store_with(N, 4).await;
        let packs = memory.names("mmh/packs").await;
        let other = memory.read(&packs[1]).await;
        memory.write(&packs[0], other).await;
        let report = verify(&store).await;
        assert!(
            report.damage.iter().any(|d| d.object == packs[0]),
            "{report:?}"
        );
        assert!(count_damaged(&store.reader(Handle::current()), 0..N) > 0);
    });
}

#[test]
fn a_missing_pack_is_named_and_its_chunks_are_corrupt() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, store) = store_with(N, 4).await;
        let packs = memory.names("mmh/packs").await;
        memory.delete(&packs[0]).await;
        let report = verify(&store).await;
        assert_eq!(report.missing_packs.len(), 1);
        assert!(!report.is_clean());
        assert_eq!(count_damaged(&store.reader(Handle::current()), 0..N), 4);
    });
}

#[test]
fn every_flip_in_an_index_run_is_found() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = store_with(N, N).await;
        let name = memory.names("mmh/index").await.remove(0);
        let bytes = memory.read(&name).await;
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            if bit % 8 != bit / 8 % 8 && bit / 8 > 200 {
                continue;
            }
            let copy = damaged(&memory, &name, bad).await;
            let store = copy.open().await.unwrap();
            let report = verify(&store).await;
            assert!(
                report.damage.iter().any(|d| d.object == name),
                "bit {bit}: {report:?}"
            );
            count_damaged(&store.reader(Handle::current()), 0..N);
        }
    });
}

#[test]
fn an_index_run_cut_anywhere_says_how_to_rebuild() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = store_with(N, N).await;
        let name = memory.names("mmh/index").await.remove(0);
        let bytes = memory.read(&name).await;
        for len in 0..bytes.len() {
            let copy = damaged(&memory, &name, bytes[..len].to_vec()).await;
            let store = copy.open().await.unwrap();
            let error = store
                .reader(Handle::current())
                .get(&ChunkId::of(&raw(1)))
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert!(error.to_string().contains("--rebuild-index"), "{error}");
        }
    });
}

/// What undamaged runs know is still found beside a damaged one.
#[test]
fn a_damaged_run_does_not_hide_the_others() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = store_with(N, 4).await;
        let runs = memory.names("mmh/index").await;
        memory.write(&runs[0], b"garbage".repeat(50)).await;
        let store = memory.open().await.unwrap();
        assert_eq!(count_damaged(&store.reader(Handle::current()), 0..N), 4);
        let report = store
            .rebuild_index(RebuildOptions::default(), &Silent, &Cancel::default())
            .await;
        assert_eq!(report.unwrap().chunks, N);
        assert_all(&store.reader(Handle::current()), 0..N);
        assert!(verify(&store).await.is_clean());
    });
}

#[test]
fn the_index_is_made_anew_from_nothing() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = store_with(60, 7).await;
        for run in memory.names("mmh/index").await {
            memory.delete(&run).await;
        }
        let store = memory.open().await.unwrap();
        let rebuild = || async {
            let options = RebuildOptions::default();
            store
                .rebuild_index(options, &Silent, &Cancel::default())
                .await
                .unwrap()
        };
        let report = rebuild().await;
        assert_eq!((report.packs, report.chunks), (9, 60));
        assert_all(&store.reader(Handle::current()), 0..60);
        let runs = memory.names("mmh/index").await;
        assert_eq!(rebuild().await, report, "again gives the same");
        let again = memory.names("mmh/index").await;
        assert_eq!((runs.len(), again.len()), (1, 1));
        assert_ne!(again, runs, "somebody may be about to delete the old name");
    });
}

#[test]
fn a_pack_with_a_damaged_footer_is_rescued_record_by_record() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, store) = store_with(N, N).await;
        let first = store
            .reader(Handle::current())
            .locate(&ChunkId::of(&raw(0)))
            .unwrap()
            .unwrap();
        let name = memory.names("mmh/packs").await.remove(0);
        let mut bytes = memory.read(&name).await;
        // The trailer is torn off and the frame of the first record is damaged.
        bytes.truncate(bytes.len() - 10);
        bytes[usize::try_from(first.offset).unwrap() + 12] ^= 1;
        memory.write(&name, bytes).await;
        for run in memory.names("mmh/index").await {
            memory.delete(&run).await;
        }
        let store = memory.open().await.unwrap();
        assert_eq!(
            store.recover().await.unwrap().adopted_packs,
            0,
            "a rebuild has to be asked for"
        );
        let options = RebuildOptions::default();
        let report = store
            .rebuild_index(options, &Silent, &Cancel::default())
            .await
            .unwrap();
        assert_eq!((report.rescued_packs.len(), report.chunks), (1, N - 1));
        assert_all(&store.reader(Handle::current()), 1..N);
        assert!(
            !verify(&store).await.is_clean(),
            "the pack is still damaged"
        );
    });
}

/// A byte of rot in the version looks like a newer format; it stops neither writers nor a rescue.
#[test]
fn rot_that_looks_like_a_newer_version_is_damage() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = store_with(N, N).await;
        for run in memory.names("mmh/index").await {
            memory.delete(&run).await;
        }
        let name = memory.names("mmh/packs").await.remove(0);
        let mut bytes = memory.read(&name).await;
        bytes[8] = 77;
        memory.write(&name, bytes).await;
        let store = memory.open().await.unwrap();
        let writer = store.writer(Handle::current()).await.unwrap();
        put(&writer, b"goes on").unwrap();
        writer.finish().unwrap();
        let options = RebuildOptions::default();
        let report = store
            .rebuild_index(options, &Silent, &Cancel::default())
            .await
            .unwrap();
        assert_eq!((report.rescued_packs.len(), report.chunks), (1, N + 1));
        assert_all(&store.reader(Handle::current()), 0..N);
    });
}

/// A listing that omits packs must not make chunks disappear from the index.
#[test]
fn a_rebuild_refuses_to_forget_packs_that_are_missing() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, store) = store_with(N, 4).await;
        let packs = memory.names("mmh/packs").await;
        let runs = memory.names("mmh/index").await;
        memory.delete(&packs[0]).await;
        let options = RebuildOptions::default();
        let error = store
            .rebuild_index(options, &Silent, &Cancel::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert_eq!(memory.names("mmh/index").await, runs, "nothing was touched");
        let options = RebuildOptions {
            accept_missing: true,
        };
        let report = store
            .rebuild_index(options, &Silent, &Cancel::default())
            .await
            .unwrap();
        assert_eq!((report.missing_packs.len(), report.chunks), (1, 4));
        assert!(verify(&store).await.is_clean());
    });
}

#[test]
fn a_check_can_be_cancelled() {
    let runtime = runtime();
    runtime.block_on(async {
        let (_, store) = store_with(N, 4).await;
        let cancel = Cancel::default();
        cancel.cancel();
        let verified = store
            .verify(VerifyOptions::default(), &Silent, &cancel)
            .await;
        assert!(matches!(
            verified,
            Err(Error::Core(mmh_core::Error::Cancelled))
        ));
        let rebuilt = store
            .rebuild_index(RebuildOptions::default(), &Silent, &cancel)
            .await;
        assert!(matches!(
            rebuilt,
            Err(Error::Core(mmh_core::Error::Cancelled))
        ));
        assert!(
            verify(&store).await.is_clean(),
            "cancelling changes nothing"
        );
    });
}

/// A ref whose snapshot is not in the store dangles, and the check says so.
#[test]
fn a_dangling_ref_is_reported() {
    let runtime = runtime();
    runtime.block_on(async {
        use mmh_store::conformance::{change, commit};
        let (_, store) = store_with(N, 4).await;
        let writer = store.writer(Handle::current()).await.unwrap();
        let (id, _) = put(&writer, b"a snapshot").unwrap();
        writer.finish().unwrap();
        let here = mmh_core::SnapshotId::from_digest(*id.digest());
        let gone = mmh_core::SnapshotId::of(b"nowhere");
        store
            .commit(commit(vec![change("here", None, Some(here))]))
            .await
            .unwrap();
        assert!(verify(&store).await.is_clean());
        store
            .commit(commit(vec![change("gone", None, Some(gone))]))
            .await
            .unwrap();
        let report = verify(&store).await;
        let [damage] = &report.damage[..] else {
            panic!("{report:?}")
        };
        assert!(damage.object.contains("models/gone"), "{damage:?}");
    });
}
