//! Archives: a repository in one file, whole or not at all.

use std::path::{Path, PathBuf};

use mmh_core::name::RefName;
use mmh_core::ports::{Cancel, Silent};
use mmh_core::{ChunkId, ErrorKind, SnapshotId};
use mmh_store::conformance::put;
use mmh_store::pack::TRAILER_LEN;
use mmh_store::{Archive, ArchiveWriter, ChunkSink, ChunkSource, Error, Result};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::common::raw;

fn name(text: &str) -> RefName {
    RefName::branch(text.parse().unwrap(), "main").unwrap()
}

fn roots() -> Vec<(RefName, SnapshotId)> {
    vec![
        (name("a"), SnapshotId::of(b"a")),
        (name("b"), SnapshotId::of(b"b")),
    ]
}

fn write(path: &Path, seeds: impl IntoIterator<Item = u64>) -> u64 {
    let writer = ArchiveWriter::create(path).unwrap();
    for seed in seeds {
        put(&writer, &raw(seed)).unwrap();
    }
    writer.finish(&roots()).unwrap()
}

/// An archive of six chunks.
fn sample() -> (TempDir, PathBuf, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sample.mmh");
    write(&path, 0..6);
    let bytes = std::fs::read(&path).unwrap();
    (dir, path, bytes)
}

fn files(dir: &TempDir) -> usize {
    std::fs::read_dir(dir.path()).unwrap().count()
}

/// Bytes that are stored as they are, for each number others.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new_derive_key("noise")
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Small frames are gathered and large ones are not, and threads do not wait for each other's writing:
/// all the same each lies where the table says.
#[test]
fn threads_write_small_and_large_frames_at_once() {
    const LENS: [usize; 6] = [32, 700, 63 << 10, (64 << 10) - 40, 70 << 10, 600 << 10];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.mmh");
    let writer = ArchiveWriter::create(&path).unwrap();
    let chunk = |seed: u64| noise(seed, LENS[usize::try_from(seed).unwrap() % LENS.len()]);
    let new = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (writer, new) = (&writer, &new);
            scope.spawn(move || {
                // Each chunk is put by two threads: the second is told that it is there.
                for seed in 0..60 {
                    let seed = thread / 2 * 60 + (seed + thread * 17) % 60;
                    let is_new = put(writer, &chunk(seed)).unwrap().1;
                    new.fetch_add(u64::from(is_new), std::sync::atomic::Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(new.into_inner(), 120);
    assert_eq!(
        writer.finish(&roots()).unwrap(),
        std::fs::metadata(&path).unwrap().len()
    );
    let archive = Archive::open(&path).unwrap();
    assert_eq!(archive.n_chunks(), 120);
    for seed in 0..120 {
        let bytes = chunk(seed);
        assert_eq!(&archive.get(&ChunkId::of(&bytes)).unwrap()[..], bytes);
    }
    let report = archive.verify(&Silent, &Cancel::default()).unwrap();
    assert!(report.is_clean(), "{:?}", report.damage);
}

#[test]
fn what_goes_in_comes_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.mmh");
    let len = write(&path, 0..700);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), len);
    assert_eq!(files(&dir), 1, "no partial file is left");
    let archive = Archive::open(&path).unwrap();
    assert_eq!(archive.refs(), roots());
    assert_eq!(archive.n_chunks(), 700);
    for seed in 0..700 {
        let bytes = raw(seed);
        let id = ChunkId::of(&bytes);
        assert_eq!(&archive.get(&id).unwrap()[..], bytes);
        let at = archive.locate(&id).unwrap().unwrap();
        assert_eq!(
            (at.pack, at.raw_len as usize),
            (Some(archive.content()), bytes.len())
        );
    }
    let report = archive.verify(&Silent, &Cancel::default()).unwrap();
    assert!(report.is_clean());
    assert_eq!((report.chunks, report.stored_bytes), (700, len));
}

#[test]
fn an_empty_archive_is_an_archive() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("empty.mmh");
    ArchiveWriter::create(&path).unwrap().finish(&[]).unwrap();
    let archive = Archive::open(&path).unwrap();
    assert_eq!((archive.refs().len(), archive.n_chunks()), (0, 0));
    assert_eq!(archive.locate(&ChunkId::of(b"x")).unwrap(), None);
    assert_eq!(
        archive.get(&ChunkId::of(b"x")).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert!(
        archive
            .verify(&Silent, &Cancel::default())
            .unwrap()
            .is_clean()
    );
}

#[test]
fn equal_content_gives_equal_archives_and_a_chunk_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("1"), dir.path().join("2"));
    write(&one, 0..20);
    write(&two, (0..20).chain(5..15));
    assert_eq!(std::fs::read(one).unwrap(), std::fs::read(two).unwrap());
}

#[test]
fn an_archive_that_is_not_finished_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.mmh");
    let writer = ArchiveWriter::create(&path).unwrap();
    put(&writer, b"abc").unwrap();
    assert!(writer.contains(&ChunkId::of(b"abc")).unwrap());
    assert!(!path.exists());
    drop(writer);
    assert_eq!(files(&dir), 0);
}

#[test]
fn finishing_replaces_an_older_archive_only_at_the_end() {
    let (dir, path, bytes) = sample();
    let writer = ArchiveWriter::create(&path).unwrap();
    put(&writer, b"new").unwrap();
    assert_eq!(
        std::fs::read(&path).unwrap(),
        bytes,
        "the old one stays until then"
    );
    writer.finish(&[]).unwrap();
    assert_eq!(Archive::open(&path).unwrap().n_chunks(), 1);
    assert_eq!(files(&dir), 1);
}

#[test]
fn a_root_named_twice_is_invalid() {
    let dir = tempfile::tempdir().unwrap();
    let writer = ArchiveWriter::create(dir.path().join("x")).unwrap();
    let twice = [
        (name("a"), SnapshotId::of(b"1")),
        (name("a"), SnapshotId::of(b"2")),
    ];
    assert_eq!(
        writer.finish(&twice).unwrap_err().kind(),
        ErrorKind::Invalid
    );
    assert_eq!(files(&dir), 0);
}

#[test]
fn paths_that_cannot_be_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(
        ArchiveWriter::create(dir.path()).unwrap_err().kind(),
        ErrorKind::Invalid
    );
    assert_eq!(
        ArchiveWriter::create("/").unwrap_err().kind(),
        ErrorKind::Invalid
    );
    let missing = ArchiveWriter::create(dir.path().join("no/x")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.to_string().contains("no/x"), "{missing}");
    assert_eq!(
        Archive::open(dir.path().join("no")).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn other_files_are_not_archives() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    for bytes in [&b""[..], b"MMH", &[0; 500], &b"PK\x03\x04".repeat(100)] {
        std::fs::write(&path, bytes).unwrap();
        let error = Archive::open(&path).unwrap_err();
        assert!(matches!(error, Error::NotAnArchive { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

/// Reads all that an archive promises to hold.
fn read_all(path: &Path) -> Result<()> {
    let archive = Archive::open(path)?;
    assert_eq!(archive.refs(), roots(), "wrong roots must never come out");
    for seed in 0..6 {
        let bytes = raw(seed);
        assert_eq!(&archive.get(&ChunkId::of(&bytes))?[..], bytes);
    }
    Ok(())
}

#[test]
fn an_archive_cut_anywhere_is_refused() {
    let (_dir, path, bytes) = sample();
    read_all(&path).unwrap();
    for len in 0..bytes.len() {
        std::fs::write(&path, &bytes[..len]).unwrap();
        let kind = Archive::open(&path).unwrap_err().kind();
        assert!(
            matches!(kind, ErrorKind::Corrupt | ErrorKind::Invalid),
            "cut to {len}: {kind}"
        );
    }
}

#[test]
fn every_flip_is_found() {
    let (_dir, path, bytes) = sample();
    for i in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[i] ^= 1 << (i % 8);
        std::fs::write(&path, bad).unwrap();
        if let Err(error) = read_all(&path) {
            let kinds = [
                ErrorKind::Corrupt,
                ErrorKind::Invalid,
                ErrorKind::Unsupported,
            ];
            assert!(kinds.contains(&error.kind()), "byte {i}: {error}");
        }
        let found = Archive::open(&path).and_then(|a| a.verify(&Silent, &Cancel::default()));
        assert!(found.is_err() || !found.unwrap().is_clean(), "byte {i}");
    }
}

/// Footer and trailer made anew by an attacker, so that all checksums hold.
#[test]
fn a_forged_footer_is_refused_or_harmless() {
    let (_dir, path, bytes) = sample();
    let start = bytes.len() - TRAILER_LEN;
    let footer_offset = u64::from_le_bytes(bytes[start..start + 8].try_into().unwrap());
    let footer_offset = usize::try_from(footer_offset).unwrap();
    let forge = |footer: &[u8], n: u64| {
        let mut file = bytes[..footer_offset].to_vec();
        file.extend_from_slice(footer);
        let content = blake3::hash(&[&bytes[..16], footer].concat());
        let mut trailer = bytes[start..].to_vec();
        trailer[8..16].copy_from_slice(&(footer.len() as u64).to_le_bytes());
        trailer[16..24].copy_from_slice(&n.to_le_bytes());
        trailer[24..56].copy_from_slice(blake3::hash(footer).as_bytes());
        trailer[56..88].copy_from_slice(content.as_bytes());
        let crc = crc_fast::crc32_iscsi(&trailer[..100]);
        trailer[100..].copy_from_slice(&crc.to_le_bytes());
        file.extend_from_slice(&trailer);
        std::fs::write(&path, file).unwrap();
        Archive::open(&path)
    };
    let footer = bytes[footer_offset..start].to_vec();
    assert!(forge(&footer, 6).is_ok(), "the forger can make a good one");
    for n in [0, 5, 7, 1 << 60, u64::MAX] {
        assert!(forge(&footer, n).is_err(), "{n} records");
    }
    let entry = |i: usize| i * 48..(i + 1) * 48;
    let mut unsorted = footer.clone();
    unsorted[entry(0)].copy_from_slice(&footer[entry(1)]);
    assert!(forge(&unsorted, 6).is_err(), "an id twice");
    for (at, value) in [
        (32, u64::MAX),
        (32, 0),
        (32, footer_offset as u64),
        (40, u64::MAX),
    ] {
        let mut bad = footer.clone();
        bad[at..at + 8].copy_from_slice(&value.to_le_bytes());
        assert!(forge(&bad, 6).is_err(), "{value} at {at}");
    }
    // An entry that points at another record is found when it is read, and by a check.
    let mut swapped = footer.clone();
    swapped[32..48].copy_from_slice(&footer[48 + 32..96]);
    let archive = forge(&swapped, 6).unwrap();
    let id = ChunkId::from_digest(mmh_core::Digest::from_bytes(
        footer[..32].try_into().unwrap(),
    ));
    assert_eq!(archive.get(&id).unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(archive.verify(&Silent, &Cancel::default()).is_err());
}

#[test]
fn many_threads_write_one_archive() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.mmh");
    let writer = ArchiveWriter::create(&path).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let writer = &writer;
            scope.spawn(move || (0..100).for_each(|i| drop(put(writer, &raw(i + thread * 50)))));
        }
    });
    writer.finish(&[]).unwrap();
    let archive = Archive::open(&path).unwrap();
    assert_eq!(archive.n_chunks(), 250);
    assert!(
        archive
            .verify(&Silent, &Cancel::default())
            .unwrap()
            .is_clean()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn any_chunks_make_a_round_trip(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..40),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.mmh");
        let writer = ArchiveWriter::create(&path).unwrap();
        for chunk in &chunks {
            put(&writer, chunk).unwrap();
        }
        writer.finish(&[]).unwrap();
        let archive = Archive::open(&path).unwrap();
        for chunk in &chunks {
            let got = archive.get(&ChunkId::of(chunk)).unwrap();
            prop_assert_eq!(&got[..], &chunk[..]);
        }
        prop_assert!(archive.verify(&Silent, &Cancel::default()).unwrap().is_clean());
    }
}
