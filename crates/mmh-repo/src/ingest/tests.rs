//! Files into a store in memory: what the objects say is what the file was, by any way.

use mmh_core::ports::Silent;
use mmh_core::{Dtype, ErrorKind};
use mmh_formats::LayoutBuilder;
use mmh_store::ChunkerParams;
use proptest::prelude::*;

use super::*;
use crate::memory::Memory;

/// How a file is cut and how much of it is coded at once.
#[derive(Clone, Copy)]
struct Way {
    tensor_len: u32,
    take_len: u64,
    digests: bool,
    parallel: bool,
}

const AT_ONCE: Way = Way {
    tensor_len: 64,
    take_len: u64::MAX,
    digests: true,
    parallel: false,
};

fn with<T>(sink: &dyn ChunkSink, way: Way, work: impl FnOnce(&Ingest<'_>) -> T) -> T {
    let params = ChunkerParams {
        tensor_len: way.tensor_len,
        ..ChunkerParams::default()
    };
    let encoders = Encoders::new(mmh_codec::Settings::default(), mmh_codec::entropy::best());
    work(&Ingest {
        sink,
        encoders: &encoders,
        progress: &Silent,
        cancel: &Cancel::default(),
        chunking: Chunking::new(&params).unwrap(),
        gear: None,
        take_len: way.take_len,
        digests: way.digests,
        bases: None,
    })
}

fn ingest(memory: &Memory, bytes: &[u8], layout: &Layout, way: Way) -> Ingested {
    let source = bytes.to_vec();
    with(memory, way, |i| i.source(&source, layout, way.parallel)).unwrap()
}

/// A layout of tensors with gaps before them, each as long as it says in elements of four bytes.
fn layout(parts: &[(u64, u64)], tail: u64) -> Layout {
    let len = parts.iter().map(|(gap, n)| gap + n * 4).sum::<u64>() + tail;
    let mut builder = LayoutBuilder::new(Container::Npz, len);
    let mut at = 0;
    for (i, (gap, n)) in parts.iter().enumerate() {
        at += gap;
        let info = TensorInfo {
            name: format!("t{i}"),
            dtype: Dtype::F32,
            shape: vec![*n],
        };
        builder.tensor(at, n * 4, info).unwrap();
        at += n * 4;
    }
    builder.finish().unwrap()
}

fn content(layout: &Layout) -> Vec<u8> {
    (0..layout.len())
        .map(|i| (i.wrapping_mul(i) >> 6).to_le_bytes()[0])
        .collect()
}

/// Follows the file object by hand: its segments, whether listed in it or on pages.
fn segments(memory: &Memory, id: FileId) -> (Vec<Segment>, usize) {
    match objects::file(memory, id).unwrap().segments {
        Segments::Inline(segments) => (segments, 0),
        Segments::Pages(pages) => {
            let read = |p: &PageRef| objects::read::<SegmentPage>(memory, p.0).unwrap();
            let n = pages.len();
            (pages.iter().flat_map(|p| read(p).segments).collect(), n)
        }
    }
}

/// Checks the object against the layout: bytes, and where each tensor is said to lie.
fn assert_describes(memory: &Memory, id: FileId, layout: &Layout, bytes: &[u8]) {
    let (segments, _) = segments(memory, id);
    let (mut joined, mut spans) = (Vec::new(), Vec::new());
    let mut chunks = BTreeMap::new();
    for segment in &segments {
        let begin = joined.len() as u64;
        for span in &segment.tensors {
            spans.push((begin + span.start - span.skip, span.info.clone()));
            assert!(
                span.skip == 0 || span.start == 0,
                "what goes on, goes on at the start"
            );
        }
        for ChunkRef(id, start, len) in &segment.chunks {
            let read = || ChunkSource::get(memory, id).unwrap();
            let chunk = chunks.entry(*id).or_insert_with(read);
            joined.extend_from_slice(&chunk[*start as usize..][..*len as usize]);
        }
        assert!(segment.items() <= SEGMENT_CHUNKS_MAX + 1);
    }
    assert!(joined == bytes, "the parts do not join to the file");
    spans.dedup();
    let expected: Vec<_> = layout
        .tensors()
        .map(|(p, info)| (p.offset, info.clone()))
        .collect();
    assert_eq!(spans, expected);
}

/// A tensor of more chunks than a segment lists goes on in the next, which says how far it came.
#[test]
fn a_tensor_of_many_chunks_goes_on_in_the_next_segment() {
    // Room for the tensor itself and for one more is kept in each segment.
    let n = 64 / 4 * (SEGMENT_CHUNKS_MAX as u64 - 2);
    for (elements, expected) in [(n, 1), (n + 1, 2), (3 * n, 3)] {
        let layout = layout(&[(0, elements)], 0);
        let (memory, bytes) = (Memory::default(), content(&layout));
        let done = ingest(&memory, &bytes, &layout, AT_ONCE);
        assert_describes(&memory, done.id, &layout, &bytes);
        let (segments, _) = segments(&memory, done.id);
        assert_eq!(segments.len(), expected, "{elements} elements");
        let skipped: Vec<_> = segments.iter().map(|s| s.tensors[0].skip).collect();
        let mut before = 0;
        for (segment, skip) in segments.iter().zip(skipped) {
            assert_eq!(skip, before);
            before += segment.len;
        }
    }
}

/// FORMAT.md, "Chunking": pools are closed after 65 536 pieces. A file's id must not tell how
/// much memory, that is how many threads, the machine had that added it.
#[test]
fn the_id_of_a_file_of_very_many_parts_does_not_depend_on_the_batches() {
    let small = layout(&vec![(0, 1); (1 << 16) + 3000], 700);
    let large = layout(&[(3, 16 * 66_000), (2, 5)], 9);
    for (layout, bytes) in [
        (&small, content(&small)),
        (&large, vec![7; 16 * 66_000 * 4 + 34]),
    ] {
        let memory = Memory::default();
        let ids: Vec<FileId> = [1000, 40_000, u64::MAX]
            .into_iter()
            .map(|take_len| {
                ingest(
                    &memory,
                    &bytes,
                    layout,
                    Way {
                        take_len,
                        ..AT_ONCE
                    },
                )
                .id
            })
            .collect();
        assert_describes(&memory, ids[0], layout, &bytes);
        assert!(segments(&memory, ids[0]).1 > 1, "it takes several pages");
        assert_eq!(ids[0], ids[1]);
        assert_eq!(ids[0], ids[2]);
    }
}

/// Whether the last batch fills the count exactly or not, nothing is lost or doubled.
#[test]
fn files_of_as_many_parts_as_one_round_takes_are_whole() {
    for n in [(1 << 16) - 1, 1 << 16, (1 << 16) + 1] {
        let layout = layout(&vec![(0, 1); n], 0);
        let (memory, bytes) = (Memory::default(), content(&layout));
        let done = ingest(&memory, &bytes, &layout, AT_ONCE);
        assert_describes(&memory, done.id, &layout, &bytes);
    }
}

/// What the store has is not counted as new, be it from this file or from one before.
#[test]
fn only_chunks_that_the_store_lacks_are_new() {
    let layout = layout(&[(0, 160), (0, 160)], 0);
    let bytes: Vec<u8> = (0..64).cycle().take(1280).collect();
    let memory = Memory::default();
    let first = ingest(&memory, &bytes, &layout, AT_ONCE);
    assert_eq!(first.new_raw, 64, "twenty equal chunks are one");
    assert!(first.new_stored > 0);
    let again = ingest(&memory, &bytes, &layout, AT_ONCE);
    assert_eq!(
        (again.id, again.new_raw, again.new_stored),
        (first.id, 0, 0)
    );
}

/// A note is cut so that the object stays within its limits, between characters.
#[test]
fn long_notes_are_cut_between_characters() {
    let layout = Layout::bytes(Container::Unknown, 3).with_note("𝄞".repeat(5000));
    let memory = Memory::default();
    let done = ingest(&memory, b"abc", &layout, AT_ONCE);
    let note = objects::file(&memory, done.id).unwrap().note.unwrap();
    assert_eq!(note, "𝄞".repeat(1000));
    assert_eq!(done.note.as_deref(), Some(&*note));
}

#[test]
fn an_empty_file_has_no_segments() {
    let memory = Memory::default();
    let done = ingest(&memory, b"", &Layout::bytes(Container::Unknown, 0), AT_ONCE);
    assert_eq!(segments(&memory, done.id), (Vec::new(), 0));
    assert_eq!((done.size, done.new_raw), (0, 0));
    assert_eq!(memory.ids(), [done.id.object().chunk()]);
}

/// A sink whose disk is full after some chunks.
struct Full {
    memory: Memory,
    most: usize,
}

impl ChunkSink for Full {
    fn id(&self, raw: &[u8]) -> ChunkId {
        ChunkId::of(raw)
    }

    fn contains(&self, id: &ChunkId) -> mmh_store::Result<bool> {
        self.memory.contains(id)
    }

    fn put(&self, id: ChunkId, raw_len: u32, frame: &[u8]) -> mmh_store::Result<bool> {
        if self.memory.ids().len() >= self.most {
            let source = std::io::ErrorKind::StorageFull.into();
            let place = "pack".to_owned();
            return Err(mmh_store::Error::Io { place, source });
        }
        self.memory.put(id, raw_len, frame)
    }
}

/// The disk may be full at any chunk or object; each time the store's error comes through.
#[test]
fn a_full_disk_is_reported_whenever_it_happens() {
    let layout = layout(&[(3, 40), (700, 200)], 1000);
    let source = content(&layout);
    let memory = Memory::default();
    ingest(&memory, &source, &layout, AT_ONCE);
    let all = memory.ids().len();
    for most in 0..=all {
        for parallel in [false, true] {
            let full = Full {
                memory: Memory::default(),
                most,
            };
            let way = Way {
                parallel,
                take_len: 300,
                ..AT_ONCE
            };
            let done = with(&full, way, |i| i.source(&source, &layout, parallel));
            match done {
                Ok(_) => assert_eq!(most, all),
                Err(e) => {
                    assert!(most < all);
                    assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
                }
            }
        }
    }
}

/// Stopping before anything was done stores nothing.
#[test]
fn a_cancelled_file_stores_nothing() {
    let layout = layout(&[(0, 100)], 0);
    let (memory, source, cancel) = (Memory::default(), content(&layout), Cancel::default());
    cancel.cancel();
    for parallel in [false, true] {
        let done = with(&memory, AT_ONCE, |i| {
            let stopped = Ingest {
                cancel: &cancel,
                ..*i
            };
            stopped.source(&source, &layout, parallel)
        });
        assert!(done.unwrap_err().is_cancelled());
    }
    assert!(memory.ids().is_empty());
}

/// An index file may place anything anywhere in a file beside it; the file is kept all the same.
#[test]
fn tensors_that_another_file_places_wrongly_leave_the_bytes_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes) = (dir.path().join("weights"), vec![3u8; 1000]);
    fs::write(&path, &bytes).unwrap();
    let tensor = |offset: u64, len: u64| {
        let info = TensorInfo {
            name: format!("at {offset}"),
            dtype: Dtype::F32,
            shape: vec![len / 4],
        };
        (offset, len, info)
    };
    for (tensors, container) in [
        (vec![tensor(0, 400), tensor(400, 600)], Container::External),
        (vec![], Container::External),
        (vec![tensor(0, 400), tensor(200, 400)], Container::Unknown),
        (vec![tensor(600, 404)], Container::Unknown),
        (vec![tensor(u64::MAX - 3, 4)], Container::Unknown),
        (vec![tensor(0, 402)], Container::Unknown),
    ] {
        let memory = Memory::default();
        let done = with(&memory, AT_ONCE, |i| i.file(&path, Some(&tensors), false)).unwrap();
        assert_eq!(done.container, container, "{tensors:?}");
        assert_eq!(done.note.is_some(), container == Container::Unknown);
        let (segments, _) = segments(&memory, done.id);
        assert_eq!(segments.iter().map(|s| s.len).sum::<u64>(), 1000);
    }
}

/// Only an early end means that someone changed the file; other failures keep their cause.
#[test]
fn failures_of_reading_are_told_apart() {
    use std::io::ErrorKind as Io;
    let io = |kind: Io| mmh_formats::Error::Io {
        offset: 0,
        len: 1,
        source: kind.into(),
    };
    let path = Path::new("some/file");
    let changed = shrunk(io(Io::UnexpectedEof), path);
    assert!(
        matches!(&changed, Error::Changed(p) if p == path),
        "{changed:?}"
    );
    let denied = shrunk(io(Io::PermissionDenied), path);
    assert_eq!(denied.kind(), ErrorKind::Denied);
    assert!(denied.to_string().contains("some/file"), "{denied}");
    let bad = shrunk(mmh_formats::Error::malformed(Container::Npy, "why"), path);
    assert!(matches!(bad, Error::Formats(_)), "{bad:?}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let memory = Memory::default();
    let path = Path::new("/no/such/file");
    let error = with(&memory, AT_ONCE, |i| i.file(path, None, false)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("/no/such/file"), "{error}");
}

/// Digests of the whole content are in the object when they are asked for, and change nothing else.
#[test]
fn digests_are_noted_when_they_are_asked_for() {
    let layout = layout(&[(3, 500), (700, 20)], 5000);
    let (memory, bytes) = (Memory::default(), content(&layout));
    let file = |digests| {
        let way = Way { digests, ..AT_ONCE };
        objects::file(&memory, ingest(&memory, &bytes, &layout, way).id).unwrap()
    };
    let (with, without) = (file(true), file(false));
    assert_eq!(with.blake3, Some(mmh_core::Digest::of(&bytes)));
    assert!(with.sha256.is_some());
    let bare = File {
        blake3: None,
        sha256: None,
        ..with
    };
    assert_eq!(without, bare);
}

/// A panic in whichever thread had the chunk leaves nobody waiting.
#[test]
fn a_panic_in_one_thread_reaches_the_caller() {
    struct Panics(Memory);
    impl ChunkSink for Panics {
        fn id(&self, raw: &[u8]) -> ChunkId {
            self.0.id(raw)
        }
        fn contains(&self, id: &ChunkId) -> mmh_store::Result<bool> {
            assert!(self.0.ids().len() < 20, "on purpose");
            self.0.contains(id)
        }
        fn put(&self, id: ChunkId, raw_len: u32, frame: &[u8]) -> mmh_store::Result<bool> {
            self.0.put(id, raw_len, frame)
        }
    }
    let layout = layout(&[(0, 5000)], 0);
    let bytes = content(&layout);
    let run = || {
        let sink = Panics(Memory::default());
        let way = Way {
            take_len: 1,
            ..AT_ONCE
        };
        with(&sink, way, |i| i.source(&bytes, &layout, true)).map(drop)
    };
    assert!(std::panic::catch_unwind(run).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Any layout, coded in batches of any length by one thread or by many, gives one object,
    /// and the object describes the file.
    #[test]
    fn objects_describe_the_file_and_do_not_depend_on_the_way(
        parts in prop::collection::vec((0u64..900, 0u64..500), 0..25),
        tail in 0u64..3000,
        take_len in 1u64..5000,
        parallel: bool,
    ) {
        let layout = layout(&parts, tail);
        let (memory, bytes) = (Memory::default(), content(&layout));
        let way = Way { take_len, parallel, ..AT_ONCE };
        let done = ingest(&memory, &bytes, &layout, way);
        assert_describes(&memory, done.id, &layout, &bytes);
        let other = Memory::default();
        let at_once = ingest(&other, &bytes, &layout, AT_ONCE);
        prop_assert_eq!(done.id, at_once.id);
        prop_assert_eq!(done.new_raw, at_once.new_raw);
        prop_assert_eq!(memory.ids(), other.ids());
    }
}
