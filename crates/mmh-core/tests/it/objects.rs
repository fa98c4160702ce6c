//! Canonical objects survive a round trip; cut, flipped and respelled ones are refused.

use std::collections::BTreeMap;

use mmh_core::canonical::{Canonical, decode, encode};
use mmh_core::name::RefName;
use mmh_core::object::*;
use mmh_core::{ChunkId, Digest, Dtype, Error, SnapshotId, TensorInfo, TreeId, limits};
use proptest::prelude::*;

fn segment(lens: &[u32]) -> Segment {
    let chunks: Vec<ChunkRef> = lens
        .iter()
        .map(|&n| ChunkRef(ChunkId::of(&n.to_le_bytes()), 0, n))
        .collect();
    let info = TensorInfo {
        name: "w".to_owned(),
        dtype: Dtype::BF16,
        shape: vec![3, 4],
    };
    Segment {
        len: lens.iter().map(|&n| u64::from(n)).sum(),
        tensors: vec![TensorSpan {
            info,
            start: 0,
            skip: 0,
        }],
        chunks,
    }
}

fn file(lens: &[u32]) -> File {
    let segment = segment(lens);
    File {
        r#type: FileTag::Tag,
        size: segment.len,
        blake3: Some(Digest::of(b"b")),
        sha256: Some(Digest::of(b"s")),
        container: "safetensors".to_owned(),
        note: None,
        segments: Segments::Inline(vec![segment]),
    }
}

fn operation() -> Operation {
    let change = |name: &str| RefChange {
        r#ref: name.parse::<RefName>().unwrap(),
        old: None,
        new: Some(SnapshotId::of(name.as_bytes())),
    };
    Operation {
        r#type: OperationTag::Tag,
        seq: 1,
        prev: None,
        writer: Digest::of(b"w"),
        time_ms: 5,
        author: "a".to_owned(),
        command: "add".to_owned(),
        undoes: None,
        collected: None,
        changes: vec![
            change("models/a/b@heads/main"),
            change("models/a/b@tags/v1"),
        ],
    }
}

fn snapshot() -> Snapshot {
    Snapshot {
        r#type: SnapshotTag::Tag,
        tree: TreeId::of(b"t"),
        parents: vec![SnapshotId::of(b"p")],
        author: "someone".to_owned(),
        time_ms: 1_700_000_000_000,
        message: "first".to_owned(),
    }
}

fn record() -> Record {
    Record {
        r#type: RecordTag::Tag,
        subject: TreeId::of(b"t").object(),
        payload_type: "application/vnd.in-toto+json".to_owned(),
        payload: serde_bytes::ByteBuf::from(b"{}".to_vec()),
        signatures: vec![RecordSignature {
            algorithm: "Ed25519".to_owned(),
            key_id: "k".to_owned(),
            signature: serde_bytes::ByteBuf::from(vec![1, 2, 3]),
            certificate: None,
        }],
    }
}

/// Round trip; then every truncation errs, and every flipped bit gives an error or another value
/// whose own encoding is exactly those bytes.
fn examine<T: Canonical + PartialEq + std::fmt::Debug>(value: &T) {
    let bytes = encode(value).unwrap();
    assert_eq!(decode::<T>(&bytes).unwrap(), *value);
    for len in 0..bytes.len() {
        assert!(decode::<T>(&bytes[..len]).is_err(), "cut at {len}");
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(other) = decode::<T>(&flipped) {
            assert_ne!(other, *value, "bit {bit}");
            assert_eq!(encode(&other).unwrap(), flipped, "bit {bit}");
        }
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(decode::<T>(&longer).is_err(), "trailing byte");
}

#[test]
fn every_object_survives_and_refuses_damage() {
    examine(&file(&[1 << 20, 77]));
    examine(&operation());
    examine(&snapshot());
    examine(&record());
    examine(&SegmentPage {
        r#type: SegmentPageTag::Tag,
        segments: vec![segment(&[5])],
    });
    let refs = BTreeMap::from([("models/a/b@heads/main".to_owned(), SnapshotId::of(b"x"))]);
    examine(&Checkpoint {
        r#type: CheckpointTag::Tag,
        seq: 64,
        head: Digest::of(b"h"),
        refs,
    });
}

/// The same map with its keys in another order, an integer wider than needed, an indefinite
/// length: all name the same value and are all refused.
#[test]
fn second_spellings_are_refused() {
    let refs = BTreeMap::new();
    let value = Checkpoint {
        r#type: CheckpointTag::Tag,
        seq: 1,
        head: Digest::of(b"h"),
        refs,
    };
    let bytes = encode(&value).unwrap();
    // Map of 4: `seq` is the first key in canonical order (shortest first), value 1.
    assert_eq!(bytes[..6], [0xa4, 0x63, b's', b'e', b'q', 0x01]);
    let mut wide = bytes.clone();
    wide.splice(5..6, [0x18, 0x01]);
    assert!(matches!(
        decode::<Checkpoint>(&wide),
        Err(Error::NotCanonical { .. })
    ));
    let mut indefinite = bytes.clone();
    indefinite[0] = 0xbf;
    indefinite.push(0xff);
    assert!(decode::<Checkpoint>(&indefinite).is_err());
    let mut reordered = vec![0xa4];
    reordered.extend_from_slice(&bytes[6..]);
    reordered.extend_from_slice(&bytes[1..6]);
    assert!(decode::<Checkpoint>(&reordered).is_err());
    let mut extra = bytes;
    extra[0] = 0xa5;
    extra.extend_from_slice(&[0x65, b'z', b'z', b'z', b'z', b'z', 0x00]);
    assert!(decode::<Checkpoint>(&extra).is_err());
}

#[test]
fn a_file_whose_segments_do_not_tile_it_is_refused() {
    let mut short = file(&[10]);
    short.size = 11;
    assert!(encode(&short).is_err());
    let mut lying = file(&[10]);
    if let Segments::Inline(segments) = &mut lying.segments {
        segments[0].chunks[0].2 = 9;
    }
    assert!(encode(&lying).is_err());
    let mut outside = file(&[10]);
    if let Segments::Inline(segments) = &mut outside.segments {
        segments[0].chunks[0].1 = u32::MAX;
    }
    assert!(encode(&outside).is_err());
    let mut empty_chunk = file(&[10]);
    if let Segments::Inline(segments) = &mut empty_chunk.segments {
        segments[0].chunks.push(ChunkRef(ChunkId::of(b""), 0, 0));
    }
    assert!(encode(&empty_chunk).is_err());
}

#[test]
fn limits_are_kept() {
    let n = u32::try_from(limits::FILE_PAGE_ITEMS_MAX).unwrap() + 1;
    assert!(matches!(
        encode(&file(&vec![1; n as usize])),
        Err(Error::TooLarge { .. })
    ));
    let mut many = snapshot();
    many.parents = vec![SnapshotId::of(b"p"); limits::PARENTS_MAX + 1];
    assert!(matches!(encode(&many), Err(Error::TooLarge { .. })));
    let zeros = vec![0u8; limits::OBJECT_LEN_MAX + 1];
    assert!(matches!(
        decode::<Snapshot>(&zeros),
        Err(Error::TooLarge { .. })
    ));
}

#[test]
fn operations_keep_their_rules() {
    let mut unsorted = operation();
    unsorted.changes.reverse();
    assert!(encode(&unsorted).is_err());
    let mut twice = operation();
    twice.changes[1] = twice.changes[0].clone();
    assert!(encode(&twice).is_err());
    let mut orphan = operation();
    orphan.seq = 2;
    assert!(encode(&orphan).is_err());
    let mut future = operation();
    future.undoes = Some(1);
    assert!(encode(&future).is_err());
}

/// Thousands of nested arrays must not overflow the stack.
#[test]
fn deep_nesting_is_refused() {
    for byte in [0x81u8, 0xa1, 0xd8, 0x9f] {
        assert!(decode::<Snapshot>(&vec![byte; 1 << 20]).is_err());
    }
}

proptest! {
    /// Fuzz body: arbitrary bytes never panic, and what decodes encodes to the same bytes.
    #[test]
    fn arbitrary_bytes_decode_or_err(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(value) = decode::<Snapshot>(&bytes) {
            prop_assert_eq!(encode(&value).unwrap(), bytes);
        }
    }

    #[test]
    fn snapshots_survive(author in ".{0,40}", message: String, time_ms: u64, parents in 0usize..4) {
        let parents = (0..parents).map(|i| SnapshotId::of(&[u8::try_from(i).unwrap()])).collect();
        let value = Snapshot { author, message, time_ms, parents, ..snapshot() };
        prop_assert_eq!(decode::<Snapshot>(&encode(&value).unwrap()).unwrap(), value);
    }
}
