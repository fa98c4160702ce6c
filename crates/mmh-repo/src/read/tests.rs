//! Ranges of made-up files against the bytes that their slices join to.

use std::sync::atomic::{AtomicUsize, Ordering};

use mmh_core::object::{FileTag, PageRef, SegmentPageTag};
use mmh_core::{Digest, ErrorKind};
use mmh_store::ChunkInfo;
use proptest::prelude::*;

use super::*;
use crate::memory::Memory;
use crate::recycle::Encoders;

fn encoders() -> Encoders {
    Encoders::new(mmh_codec::Settings::default(), mmh_codec::entropy::best())
}

/// Stores a few chunks, each of other bytes.
fn chunks(memory: &Memory) -> Vec<(ChunkId, Vec<u8>)> {
    let chunk = |n: u8| {
        let raw: Vec<u8> = (0..=u8::MAX)
            .map(|i| i.wrapping_mul(n))
            .cycle()
            .take(300)
            .collect();
        let id = ChunkId::of(&raw);
        objects::put(memory, &encoders(), &raw).unwrap();
        (id, raw)
    };
    (1..6).map(chunk).collect()
}

fn file(segments: Segments, size: u64) -> File {
    let digest = Digest::of(b"not looked at here");
    File {
        r#type: FileTag::Tag,
        size,
        blake3: Some(digest),
        sha256: Some(digest),
        container: "unknown".to_owned(),
        note: None,
        segments,
    }
}

fn segment(chunks: Vec<ChunkRef>) -> Segment {
    let len = chunks.iter().map(|c| u64::from(c.len())).sum();
    Segment {
        len,
        tensors: Vec::new(),
        chunks,
    }
}

/// Puts segments on pages, so many on each.
fn paged(memory: &Memory, segments: &[Segment], each: usize) -> Segments {
    let page = |segments: &[Segment]| {
        let page = SegmentPage {
            r#type: SegmentPageTag::Tag,
            segments: segments.to_vec(),
        };
        let id = objects::write(memory, &encoders(), &page).unwrap();
        PageRef(id, segments.iter().map(|s| s.len).sum())
    };
    Segments::Pages(segments.chunks(each).map(page).collect())
}

fn slices(reader: &FileReader<'_>, range: ByteRange) -> Result<Vec<ChunkRef>> {
    let mut all = Vec::new();
    reader.for_each_slice(range, &mut |slice| {
        all.push(slice);
        Ok(())
    })?;
    Ok(all)
}

/// Reads slices as a file of them would be, one after the other.
fn read(source: &dyn ChunkSource, slices: &[ChunkRef], cancel: &Cancel) -> Result<Vec<u8>> {
    let mut shared = Shared::default();
    let mut read = |slice: &ChunkRef| {
        let chunk = shared.chunk(slice);
        let slice = Slice {
            offset: 0,
            slice: *slice,
            chunk,
        };
        Ok(slice.read(source, cancel)?.to_vec())
    };
    let pieces = slices.iter().map(&mut read);
    Ok(pieces.collect::<Result<Vec<_>>>()?.concat())
}

/// Counts how often it is asked for a chunk.
struct Counted<'a>(&'a Memory, AtomicUsize);

impl ChunkSource for Counted<'_> {
    fn locate(&self, id: &ChunkId) -> mmh_store::Result<Option<ChunkInfo>> {
        self.0.locate(id)
    }

    fn get(&self, id: &ChunkId) -> mmh_store::Result<Verified<Bytes>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.get(id)
    }

    fn references(&self, id: &ChunkId) -> mmh_store::Result<mmh_codec::References> {
        self.0.references(id)
    }
}

/// A chunk that many small slices want is read once, and so is one in a run of equal ones after the
/// first.
#[test]
fn chunks_that_are_wanted_again_are_kept() {
    let memory = Memory::default();
    let all = chunks(&memory);
    let counted = Counted(&memory, AtomicUsize::new(0));
    let small: Vec<_> = (0..20u32)
        .map(|i| ChunkRef(all[(i % 3) as usize].0, i, 2))
        .collect();
    let wanted: Vec<u8> = (0..20)
        .flat_map(|i: usize| all[i % 3].1[i..i + 2].to_vec())
        .collect();
    let cancel = Cancel::default();
    assert_eq!(read(&counted, &small, &cancel).unwrap(), wanted);
    assert_eq!(counted.1.load(Ordering::Relaxed), 3);
    let mut shared = Shared::default();
    let (large, other) = (
        ChunkRef(all[0].0, 0, SHARED_SLICE_LEN + 1),
        ChunkRef(all[1].0, 0, SHARED_SLICE_LEN + 1),
    );
    let kept = [&large, &large, &large, &other, &large].map(|slice| shared.chunk(slice));
    let held: Vec<bool> = kept.iter().map(Option::is_some).collect();
    assert_eq!(held, [false, true, true, false, false]);
    let (Some(a), Some(b)) = (&kept[1], &kept[2]) else {
        panic!("both are kept")
    };
    assert!(Arc::ptr_eq(a, b));
}

#[test]
fn few_chunks_are_kept() {
    let mut shared = Shared::default();
    for n in 0..=u8::MAX {
        assert!(shared.chunk(&ChunkRef(ChunkId::of(&[n]), 0, 1)).is_some());
        assert!(shared.chunks.len() <= SHARED_CHUNKS);
    }
}

#[test]
fn a_slice_beyond_its_chunk_is_damage() {
    let memory = Memory::default();
    let (id, raw) = chunks(&memory).swap_remove(0);
    let (len, go) = (u32::try_from(raw.len()).unwrap(), Cancel::default());
    assert_eq!(
        read(&memory, &[ChunkRef(id, len - 1, 1)], &go).unwrap(),
        raw[raw.len() - 1..]
    );
    for (start, n) in [(len, 1), (len - 1, 2), (0, len + 1), (u32::MAX, u32::MAX)] {
        let error = read(&memory, &[ChunkRef(id, start, n)], &go).unwrap_err();
        assert!(matches!(error, Error::Corrupt(_)), "{error:?}");
        assert!(error.to_string().contains(&id.to_string()), "{error}");
    }
}

#[test]
fn a_lost_chunk_is_not_found_and_a_stop_is_a_stop() {
    let memory = Memory::default();
    let all = chunks(&memory);
    assert!(memory.lose(&all[1].0));
    let wanted = |i: usize| ChunkRef(all[i].0, 0, 1);
    let cancel = Cancel::default();
    let error = read(&memory, &[wanted(0), wanted(1)], &cancel).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    cancel.cancel();
    let error = read(&memory, &[wanted(0)], &cancel).unwrap_err();
    assert!(error.is_cancelled());
}

/// A page is looked into only if the range touches it, so that a lost page hits its bytes alone.
#[test]
fn a_lost_page_hits_only_the_ranges_that_touch_it() {
    let memory = Memory::default();
    let (id, _) = chunks(&memory).swap_remove(0);
    let segments: Vec<_> = (1..=4)
        .map(|n| segment(vec![ChunkRef(id, n, 100)]))
        .collect();
    let pages = paged(&memory, &segments, 1);
    let Segments::Pages(list) = &pages else {
        panic!("pages")
    };
    assert!(memory.lose(&list[2].0.chunk()));
    let reader = FileReader {
        source: &memory,
        file: file(pages, 400),
    };
    for (start, end, whole) in [
        (0, 200, true),
        (199, 200, true),
        (300, 400, true),
        (200, 200, true),
        (199, 201, false),
        (299, 301, false),
        (0, 400, false),
    ] {
        let found = slices(&reader, ByteRange { start, end });
        assert_eq!(found.is_ok(), whole, "{start}..{end}");
    }
}

/// What a page covers is compared with what the file says before any of it is handed out.
#[test]
fn a_page_that_covers_other_bytes_is_damage() {
    let memory = Memory::default();
    let (id, _) = chunks(&memory).swap_remove(0);
    let Segments::Pages(pages) = paged(&memory, &[segment(vec![ChunkRef(id, 0, 50)])], 1) else {
        panic!("pages")
    };
    for covers in [49, 51, 0, u64::MAX] {
        let lies = Segments::Pages(vec![PageRef(pages[0].0, covers)]);
        let reader = FileReader {
            source: &memory,
            file: file(lies, covers),
        };
        let found = slices(&reader, ByteRange::all(covers));
        if covers == 0 {
            assert!(found.unwrap().is_empty(), "nothing is asked of it");
        } else {
            assert_eq!(found.unwrap_err().kind(), ErrorKind::Corrupt, "{covers}");
        }
    }
}

/// The first error of whoever takes the slices ends the visit.
#[test]
fn a_visitor_that_fails_is_not_called_again() {
    let memory = Memory::default();
    let (id, _) = chunks(&memory).swap_remove(0);
    let segments = (0..3)
        .map(|n| segment(vec![ChunkRef(id, n, 10); 3]))
        .collect();
    let reader = FileReader {
        source: &memory,
        file: file(Segments::Inline(segments), 90),
    };
    let mut calls = 0;
    let error = reader.for_each_chunk(&mut |_, _| {
        calls += 1;
        if calls == 4 {
            Err(Error::Denied("enough".to_owned()))
        } else {
            Ok(())
        }
    });
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(calls, 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Slices of chunks in any order, listed in the file or on pages: a range of the file is the
    /// range of the bytes that they join to.
    #[test]
    fn a_range_is_the_range_of_the_joined_slices(
        list in prop::collection::vec(
            prop::collection::vec((0usize..5, 0u32..200, 1u32..100), 1..5), 1..8),
        each in 1usize..4,
        a: prop::sample::Index,
        b: prop::sample::Index,
    ) {
        let memory = Memory::default();
        let all = chunks(&memory);
        let mut joined = Vec::new();
        let mut segments = Vec::new();
        for slices in list {
            let of = |(which, start, len): &(usize, u32, u32)| ChunkRef(all[*which].0, *start, *len);
            segments.push(segment(slices.iter().map(of).collect()));
            for (which, start, len) in slices {
                joined.extend_from_slice(&all[which].1[start as usize..][..len as usize]);
            }
        }
        let (a, b) = (a.index(joined.len() + 1), b.index(joined.len() + 1));
        let (start, end) = (a.min(b), a.max(b));
        let range = ByteRange { start: start as u64, end: end as u64 };
        for segments in [paged(&memory, &segments, each), Segments::Inline(segments)] {
            let file = file(segments, joined.len() as u64);
            let reader = FileReader { source: &memory, file };
            let found = slices(&reader, range).unwrap();
            let bytes = read(&memory, &found, &Cancel::default()).unwrap();
            prop_assert_eq!(&bytes[..], &joined[start..end]);
            let outside = ByteRange { end: joined.len() as u64 + 1, ..range };
            prop_assert_eq!(slices(&reader, outside).unwrap_err().kind(), ErrorKind::Invalid);
        }
    }
}
