//! Files as doors read them: any range, in any order, from memory, decoder or disk, the same bytes.

use std::sync::{Arc, LazyLock};

use mmh_core::tree::Node;
use mmh_core::{Dtype, ErrorKind, FileId};
use mmh_formats::samples::{SampleTensor, safetensors};
use mmh_repo::files::Wanted;
use mmh_repo::{ChunkCache, Content, FileCache, PackOptions, Repository, pack};
use proptest::prelude::*;

use crate::scratch::{Scratch, add, noise, settings, target};

const MODEL: &str = "acme/m:model.safetensors";

fn model() -> Vec<u8> {
    let tensors: Vec<_> = (0u64..6)
        .map(|i| SampleTensor::new(&format!("layer.{i}"), Dtype::BF16, &[700 + i, 512]))
        .chain((0..20).map(|i| SampleTensor::new(&format!("bias.{i}"), Dtype::F32, &[37 + i])))
        .collect();
    safetensors::file(&tensors)
}

fn repository() -> (Scratch, Arc<Repository>, Vec<u8>) {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let files = [("model.safetensors", model()), ("empty", Vec::new())];
    add(&repo, &scratch.files("in", &files), "acme/m");
    let [(_, bytes), _] = files;
    (scratch, Arc::new(repo), bytes)
}

fn id(repo: &Repository, what: &str) -> FileId {
    let Node::File { id, .. } = repo.node(&target(what)).unwrap() else {
        panic!("{what} is no file")
    };
    id
}

fn open(repo: &Arc<Repository>, memory: u64, cache: Option<&Arc<FileCache>>) -> Arc<Content> {
    let chunks = Arc::new(ChunkCache::new(memory));
    Content::open(repo, id(repo, MODEL), &chunks, cache).unwrap()
}

fn cache(scratch: &Scratch, len_max: u64) -> Arc<FileCache> {
    Arc::new(FileCache::new(scratch.path("cache"), len_max))
}

/// Waits for the threads that decode ahead, which have it open a little longer.
fn quiet(content: &Arc<Content>) {
    while Arc::strong_count(content) > 1 {
        std::thread::yield_now();
    }
}

#[test]
fn a_file_read_from_its_beginning_is_itself_and_then_on_the_disk() {
    let (scratch, repo, bytes) = repository();
    let cache = cache(&scratch, 1 << 30);
    let content = open(&repo, 1 << 24, Some(&cache));
    let digest = content.file().blake3.unwrap();
    assert!(!content.is_on_disk() && cache.open(&digest, content.size()).is_none());
    let mut read = Vec::new();
    while (read.len() as u64) < content.size() {
        let piece = content.read(read.len() as u64, 100_000).unwrap();
        read.extend_from_slice(&piece);
    }
    assert!(read == bytes);
    quiet(&content);
    assert!(content.is_on_disk());
    assert!(cache.open(&digest, content.size()).is_some());
    // Whatever else happens to the cache, who has it open reads on.
    assert_eq!(cache.clear(true).files, 1);
    assert_eq!(
        content.read(1_000_000, 5000).unwrap(),
        bytes[1_000_000..1_005_000]
    );
    assert_eq!(content.read(content.size(), 10).unwrap(), b""[..]);
    assert_eq!(content.read(u64::MAX, 10).unwrap(), b""[..]);
    let last = content.size() - 3;
    assert_eq!(content.read(last, 10).unwrap(), bytes[bytes.len() - 3..]);
}

#[test]
fn a_file_that_was_not_read_whole_leaves_nothing() {
    let (scratch, repo, _) = repository();
    let cache = cache(&scratch, 1 << 30);
    let content = open(&repo, 1 << 24, Some(&cache));
    content.read(content.size() - 10, 10).unwrap();
    assert_eq!(cache.stat().files, 0);
    assert_eq!(cache.stat().partial_bytes, content.size());
    quiet(&content);
    drop(content);
    assert_eq!(cache.stat().partial_bytes, 0);
}

/// What is asked for at once comes by all threads, and does not fill the memory.
#[test]
fn much_at_once_is_the_same_bytes_from_memory_decoder_and_disk() {
    let (scratch, repo, bytes) = repository();
    let len = bytes.len();
    let ranges = [
        (0, len),
        (0, 0),
        (len, 0),
        (1, 9),
        (700_000, 800_001),
        (len - 1, 1),
    ];
    let check = |content: &Arc<Content>| {
        for (start, n) in ranges {
            let mut buf = vec![7; n];
            content.read_into(start as u64, &mut buf).unwrap();
            assert!(buf == bytes[start..start + n], "{start} {n}");
        }
        for (start, n) in [(0, len + 1), (len, 1), (len + 1, 0), (usize::MAX, 2)] {
            let error = content
                .read_into(start as u64, &mut vec![0; n])
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{start} {n}");
        }
    };
    let chunks = Arc::new(ChunkCache::new(1 << 26));
    let content = Content::open(&repo, id(&repo, MODEL), &chunks, None).unwrap();
    content.read_into(0, &mut vec![0; len]).unwrap();
    assert!(chunks.len() < 1 << 18, "only what parts share is kept");
    check(&content);
    content.read(0, len).unwrap();
    check(&content);
    let cache = cache(&scratch, 1 << 30);
    for _ in 0..2 {
        let content = open(&repo, 0, Some(&cache));
        check(&content);
        quiet(&content);
        assert!(content.is_on_disk());
    }
}

/// Where tensors lie is told without reading them.
#[test]
fn tensors_are_where_the_segments_say() {
    let (_scratch, repo, bytes) = repository();
    let content = open(&repo, 1 << 24, None);
    let (mut covered, mut names) = (0, Vec::new());
    content
        .for_each_segment(&mut |at, segment| {
            assert_eq!(at, covered, "segments tile the file");
            covered += segment.len;
            for span in &segment.tensors {
                let start = at + span.start;
                let len = span.info.bytes().unwrap();
                let mut buf = vec![0; usize::try_from(len).unwrap()];
                content.read_into(start, &mut buf)?;
                let there = usize::try_from(start).unwrap();
                assert!(buf == bytes[there..there + buf.len()]);
                names.push(span.info.name.clone());
            }
            Ok(())
        })
        .unwrap();
    assert_eq!((covered, names.len()), (bytes.len() as u64, 26));
    let stop = content.for_each_segment(&mut |_, _| Err(mmh_repo::Error::NothingToUndo));
    assert_eq!(stop.unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn an_empty_file_is_read() {
    let (scratch, repo, _) = repository();
    let chunks = Arc::new(ChunkCache::new(1 << 20));
    let cache = cache(&scratch, 1 << 30);
    let empty = id(&repo, "acme/m:empty");
    let content = Content::open(&repo, empty, &chunks, Some(&cache)).unwrap();
    assert_eq!(content.read(0, 10).unwrap(), b""[..]);
}

/// One touch inside a large tensor, and all of it comes without being asked for.
#[test]
fn a_touch_fetches_the_whole_tensor() {
    let (scratch, repo, bytes) = repository();
    let cache = cache(&scratch, 1 << 30);
    let chunks = Arc::new(ChunkCache::new(1 << 26));
    let content = Content::open(&repo, id(&repo, MODEL), &chunks, Some(&cache)).unwrap();
    content.read(2_000_000, 10).unwrap();
    quiet(&content);
    // Everything behind it lies within what is decoded ahead.
    assert!(chunks.len() >= bytes.len() as u64 - 2_000_000);
}

#[test]
fn many_readers_of_one_file_see_the_same() {
    let (scratch, repo, bytes) = repository();
    for memory in [0, 1 << 20, 1 << 26] {
        let content = open(&repo, memory, Some(&cache(&scratch, 1 << 30)));
        std::thread::scope(|scope| {
            for n in 0..6usize {
                let (content, bytes) = (&content, &bytes);
                scope.spawn(move || {
                    for step in 0..12 {
                        let at = (step * 7 + n * 5) % 12 * bytes.len() / 12;
                        let piece = content.read(at as u64, 300_000).unwrap();
                        assert!(piece == bytes[at..(at + 300_000).min(bytes.len())]);
                    }
                });
            }
        });
    }
}

#[test]
fn damage_is_an_error_for_what_it_hits_and_nothing_is_kept() {
    let scratch = Scratch::new();
    let repo = scratch.init_without_parity();
    add(
        &repo,
        &scratch.files("in", &[("model.safetensors", noise(9_000_000, 3))]),
        "acme/m",
    );
    drop(repo);
    for pack in walk(&scratch.path("repo/mmh/packs")) {
        let mut bytes = std::fs::read(&pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::remove_file(&pack).unwrap();
        std::fs::write(&pack, bytes).unwrap();
    }
    let repo = Arc::new(scratch.open());
    let cache = cache(&scratch, 1 << 30);
    let content = open(&repo, 1 << 26, Some(&cache));
    let reads = (0..9).map(|n| content.read(n * 1_000_000, 1_000_000));
    let (good, bad): (Vec<_>, Vec<_>) = reads.partition(Result::is_ok);
    assert!(!good.is_empty() && !bad.is_empty());
    for error in bad {
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Corrupt);
    }
    assert_eq!(cache.stat().files, 0);
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let shelves = std::fs::read_dir(dir).unwrap().map(|d| d.unwrap().path());
    let packs = shelves.flat_map(|shelf| std::fs::read_dir(shelf).unwrap());
    packs.map(|pack| pack.unwrap().path()).collect()
}

#[test]
fn prefetch_fetches_what_is_missing_and_keeps_what_is_right() {
    let (scratch, repo, bytes) = repository();
    let cache = cache(&scratch, 1 << 30);
    let files = repo.files_of(&target("acme/m")).unwrap();
    assert_eq!(files.len(), 2);
    let first = repo.prefetch(&files, &cache).unwrap();
    assert_eq!(
        (first.fetched, first.fetched_bytes),
        (1, bytes.len() as u64)
    );
    let digest = repo.digest_of(id(&repo, MODEL)).unwrap().unwrap();
    let second = repo.prefetch(&files, &cache).unwrap();
    assert_eq!((second.fetched, second.kept), (0, 1));
    // Rotten, it is fetched again by the next process.
    let hex = digest.to_string();
    let path = cache.folder().join(&hex[..2]).join(&hex[2..]);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, vec![0; bytes.len()]).unwrap();
    let third = repo.prefetch(&files, &cache).unwrap();
    assert_eq!((third.fetched, third.kept), (1, 0));
    assert!(std::fs::read(path).unwrap() == bytes);
}

/// What is there is read from there, also when it is small, and for as long as it is open.
#[test]
fn what_was_fetched_is_read_from_the_disk() {
    let (scratch, repo, bytes) = repository();
    let small = scratch.files("s", &[("small", b"a few bytes".to_vec())]);
    add(&repo, &small, "acme/s");
    let cache = cache(&scratch, 1 << 30);
    for (what, expected) in [(MODEL, &bytes[..]), ("acme/s:small", b"a few bytes")] {
        let chunks = Arc::new(ChunkCache::new(1 << 26));
        let files = repo.files_of(&target(what)).unwrap();
        repo.prefetch(&files, &cache).unwrap();
        let content = Content::open(&repo, id(&repo, what), &chunks, Some(&cache)).unwrap();
        assert!(content.is_on_disk());
        assert_eq!(cache.clear(true).files, 1);
        let len = expected.len();
        assert!(content.read(0, len + 1).unwrap() == expected);
        assert_eq!(
            content.read(len as u64 - 2, 9).unwrap(),
            expected[len - 2..]
        );
        assert!(content.read(len as u64, 9).unwrap().is_empty());
        // Nothing was decoded for it, and it is decoded now that it is gone.
        assert!(chunks.is_empty());
        let content = Content::open(&repo, id(&repo, what), &chunks, Some(&cache)).unwrap();
        assert!(content.on_disk().is_none());
        assert!(content.read(0, len).unwrap() == expected);
        quiet(&content);
        let _all = cache.clear(true);
    }
}

#[test]
fn what_does_not_fit_is_told() {
    let (scratch, repo, _) = repository();
    let files = repo.files_of(&target(MODEL)).unwrap();
    let report = repo.prefetch(&files, &cache(&scratch, 1000)).unwrap();
    assert_eq!((report.fetched, report.skipped.len()), (0, 1));
    assert!(report.skipped[0].contains("no room"), "{report:?}");
    let lying = Wanted {
        size: 7,
        ..files[0].clone()
    };
    let refused = repo.prefetch(&[lying], &cache(&scratch, 1 << 30));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Corrupt);
}

/// Archives state no digests of whole files unless they were asked to, so nothing proves a file
/// of the disk: it is decoded each time.
#[test]
fn files_without_a_digest_are_not_kept() {
    let scratch = Scratch::new();
    let folder = scratch.files("in", &[("model.safetensors", model())]);
    let file = scratch.path("x.mmh");
    let packed = pack(
        &folder,
        &file,
        &PackOptions::default(),
        settings(),
        scratch.components(),
    );
    packed.unwrap();
    let archive = Repository::open_archive(&file, settings(), scratch.components()).unwrap();
    let repo = Arc::new(archive);
    let name = repo.names().unwrap().remove(0).name;
    let files = repo.files_of(&target(&name)).unwrap();
    let cache = cache(&scratch, 1 << 30);
    let report = repo.prefetch(&files, &cache).unwrap();
    assert_eq!((report.fetched, report.skipped.len()), (0, 1));
    let chunks = Arc::new(ChunkCache::new(1 << 26));
    let content = Content::open(&repo, files[0].id, &chunks, Some(&cache)).unwrap();
    assert!(content.read(0, 1 << 30).unwrap() == model());
    assert!(!content.is_on_disk() && cache.stat().files == 0);
}

#[test]
fn what_a_file_saves_is_told() {
    let (scratch, repo, bytes) = repository();
    let saved = repo.saved(id(&repo, MODEL)).unwrap();
    assert!(saved > 0 && saved < bytes.len() as i64, "{saved}");
    add(
        &repo,
        &scratch.files("n", &[("noise", noise(50_000, 1))]),
        "acme/n",
    );
    assert!(repo.saved(id(&repo, "acme/n:noise")).unwrap() <= 0);
    assert_eq!(repo.saved(id(&repo, "acme/m:empty")).unwrap(), 0);
}

/// One for all cases.
static SHARED: LazyLock<(Scratch, Arc<Repository>, Vec<u8>)> = LazyLock::new(repository);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any reads in any order, with any amount of memory, with and without a disk.
    #[test]
    fn any_reads_give_the_bytes_of_the_file(
        reads in proptest::collection::vec((0usize..5_000_000, 0usize..600_000), 1..12),
        memory in prop_oneof![Just(0u64), Just(1 << 21), Just(1 << 26)],
        disk in any::<bool>(),
    ) {
        let (scratch, repo, bytes) = &*SHARED;
        let cache = cache(scratch, 1 << 30);
        let content = open(repo, memory, disk.then_some(&cache));
        for (at, len) in reads {
            let end = (at + len).min(bytes.len());
            let expected = bytes.get(at..end).unwrap_or_default();
            prop_assert!(content.read(at as u64, len).unwrap() == expected);
        }
    }
}
