//! Every limit of FORMAT.md §8 on objects: what lies at it is written and read, what lies one
//! beyond it is neither.

use std::collections::BTreeMap;

use mmh_core::canonical::{Canonical, decode, encode};
use mmh_core::object::*;
use mmh_core::tree::{Body, Entry, Node, Page, Tree, TreeTag};
use mmh_core::{
    ChunkId, Digest, Dtype, Error, ErrorKind, ObjectId, PackId, SnapshotId, TensorInfo, TreeId,
    limits::{self, COLLECTED_MAX},
};

const ID: Digest = Digest::from_bytes([1; 32]);

/// Builds an object with `limit` and with `limit + 1` of what is limited.
fn at_limit<T: Canonical + PartialEq>(limit: usize, build: impl Fn(usize) -> T) {
    let bytes = encode(&build(limit)).unwrap();
    assert!(decode::<T>(&bytes).unwrap() == build(limit));
    let above = build(limit + 1);
    let encoding = serde_ipld_dagcbor::to_vec(&above).unwrap();
    for result in [encode(&above).map(drop), decode::<T>(&encoding).map(drop)] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let Error::TooLarge {
            value, limit: said, ..
        } = error
        else {
            panic!("{error}")
        };
        assert_eq!((value, said), (limit as u64 + 1, limit as u64));
    }
}

fn snapshot() -> Snapshot {
    Snapshot {
        r#type: SnapshotTag::Tag,
        tree: TreeId::from_digest(ID),
        parents: Vec::new(),
        author: String::new(),
        time_ms: 0,
        message: String::new(),
    }
}

fn operation() -> Operation {
    Operation {
        r#type: OperationTag::Tag,
        seq: 2,
        prev: Some(ID),
        writer: ID,
        time_ms: 0,
        author: String::new(),
        command: String::new(),
        undoes: None,
        collected: None,
        changes: Vec::new(),
    }
}

fn record(payload_len: usize) -> Record {
    Record {
        r#type: RecordTag::Tag,
        subject: ObjectId::from_digest(ID),
        payload_type: String::new(),
        payload: serde_bytes::ByteBuf::from(vec![0; payload_len]),
        signatures: Vec::new(),
    }
}

fn signature() -> RecordSignature {
    RecordSignature {
        algorithm: String::new(),
        key_id: String::new(),
        signature: serde_bytes::ByteBuf::new(),
        certificate: None,
    }
}

fn chunk(start: u32, len: u32) -> ChunkRef {
    ChunkRef(ChunkId::from_digest(ID), start, len)
}

/// A segment of `chunks` bytes, each from a chunk of its own, and `tensors` of one byte.
fn segment(chunks: usize, tensors: usize) -> Segment {
    let span = TensorSpan {
        info: TensorInfo {
            name: "w".to_owned(),
            dtype: Dtype::U8,
            shape: vec![1],
        },
        start: 0,
        skip: 0,
    };
    Segment {
        len: chunks as u64,
        tensors: vec![span; tensors],
        chunks: vec![chunk(0, 1); chunks],
    }
}

fn page(segments: Vec<Segment>) -> SegmentPage {
    SegmentPage {
        r#type: SegmentPageTag::Tag,
        segments,
    }
}

fn file(segments: Segments) -> File {
    let size = match &segments {
        Segments::Inline(list) => list.iter().map(|s| s.len).sum(),
        Segments::Pages(list) => list.iter().map(|p| p.1).sum(),
    };
    File {
        r#type: FileTag::Tag,
        size,
        blake3: Some(ID),
        sha256: Some(ID),
        container: String::new(),
        note: None,
        segments,
    }
}

fn tree(body: Body) -> Tree {
    Tree {
        r#type: TreeTag::Tag,
        body,
    }
}

fn link(name: String, target: String) -> Entry {
    let node = Node::Link { target };
    Entry { name, node }
}

#[test]
fn snapshots_and_operations_keep_their_limits() {
    at_limit(limits::PARENTS_MAX, |n| Snapshot {
        parents: vec![SnapshotId::from_digest(ID); n],
        ..snapshot()
    });
    at_limit(limits::NAME_LEN_MAX, |n| Snapshot {
        author: "a".repeat(n),
        ..snapshot()
    });
    at_limit(limits::MESSAGE_LEN_MAX, |n| Snapshot {
        message: "m".repeat(n),
        ..snapshot()
    });
    at_limit(limits::NAME_LEN_MAX, |n| Operation {
        author: "a".repeat(n),
        ..operation()
    });
    at_limit(limits::MESSAGE_LEN_MAX, |n| Operation {
        command: "c".repeat(n),
        ..operation()
    });
    let change = |i: usize| RefChange {
        r#ref: format!("trees/x@tags/{i:05}").parse().unwrap(),
        old: Some(SnapshotId::from_digest(ID)),
        new: Some(SnapshotId::from_digest(ID)),
    };
    at_limit(limits::CHANGES_MAX, |n| Operation {
        changes: (0..n).map(change).collect(),
        ..operation()
    });
}

#[test]
fn records_keep_their_limits() {
    at_limit(limits::NAME_LEN_MAX, |n| Record {
        payload_type: "t".repeat(n),
        ..record(0)
    });
    at_limit(limits::PARENTS_MAX, |n| Record {
        signatures: vec![signature(); n],
        ..record(0)
    });
    at_limit(limits::NAME_LEN_MAX, |n| {
        let algorithm = "x".repeat(n);
        let signatures = vec![RecordSignature {
            algorithm,
            ..signature()
        }];
        Record {
            signatures,
            ..record(0)
        }
    });
    at_limit(limits::NAME_LEN_MAX, |n| {
        let key_id = "k".repeat(n);
        let signatures = vec![
            signature(),
            RecordSignature {
                key_id,
                ..signature()
            },
        ];
        Record {
            signatures,
            ..record(0)
        }
    });
}

/// Chunks and tensors count together, over all segments of a page or an inline list.
#[test]
fn files_and_pages_keep_their_limits() {
    let most = limits::FILE_PAGE_ITEMS_MAX;
    at_limit(most, |n| page(vec![segment(n, 0)]));
    at_limit(most, |n| page(vec![segment(1, n - 1)]));
    at_limit(most, |n| page(vec![segment(10, 5), segment(n - 17, 2)]));
    at_limit(most, |n| {
        file(Segments::Inline(vec![segment(10, 5), segment(n - 17, 2)]))
    });
    let link = PageRef(ObjectId::from_digest(ID), 1);
    at_limit(limits::FILE_PAGES_MAX, |n| {
        file(Segments::Pages(vec![link; n]))
    });
    let empty = || file(Segments::Inline(Vec::new()));
    at_limit(limits::NAME_LEN_MAX, |n| File {
        container: "c".repeat(n),
        ..empty()
    });
    at_limit(limits::PATH_LEN_MAX, |n| File {
        note: Some("n".repeat(n)),
        ..empty()
    });
    at_limit(limits::TENSOR_NAME_LEN_MAX, |n| {
        let mut segment = segment(1, 2);
        segment.tensors[1].info.name = "t".repeat(n);
        page(vec![segment])
    });
    at_limit(limits::TENSOR_RANK_MAX, |n| {
        let mut segment = segment(1, 2);
        segment.tensors[1].info.shape = vec![1; n];
        page(vec![segment])
    });
}

#[test]
fn trees_keep_their_limits() {
    let most = limits::TREE_PAGE_ENTRIES_MAX;
    let name = |i: usize| format!("{i:04}");
    at_limit(most, |n| {
        let entries = (0..n).map(|i| link(name(i), String::new()));
        tree(Body::Entries(entries.collect()))
    });
    at_limit(most, |n| {
        let pages = (0..n).map(|i| Page(name(i), TreeId::from_digest(ID)));
        tree(Body::Pages(pages.collect()))
    });
    at_limit(limits::PATH_LEN_MAX, |n| {
        let longest = link(name(1), "t".repeat(n));
        tree(Body::Entries(vec![link(name(0), String::new()), longest]))
    });
}

/// Names are refused as names, whichever page they stand in.
#[test]
fn a_name_in_a_tree_has_at_most_255_bytes() {
    let bodies = |name: &str| {
        let page = Page(name.to_owned(), TreeId::from_digest(ID));
        let entry = link(name.to_owned(), String::new());
        [Body::Entries(vec![entry]), Body::Pages(vec![page])].map(tree)
    };
    for fits in bodies(&"é".repeat(127)) {
        assert_eq!(decode::<Tree>(&encode(&fits).unwrap()).unwrap(), fits);
    }
    for name in [
        "é".repeat(128),
        "..".to_owned(),
        "a/b".to_owned(),
        String::new(),
    ] {
        for refused in bodies(&name) {
            assert!(
                matches!(encode(&refused), Err(Error::BadName { .. })),
                "{name}"
            );
            let encoding = serde_ipld_dagcbor::to_vec(&refused).unwrap();
            let error = decode::<Tree>(&encoding).unwrap_err();
            assert!(matches!(error, Error::BadName { .. }), "{name}: {error}");
        }
    }
}

/// Lengths of text are counted in bytes: half as many letters of two bytes fit.
#[test]
fn text_is_measured_in_bytes() {
    let by = |author: String| Snapshot {
        author,
        ..snapshot()
    };
    assert!(encode(&by("é".repeat(127))).is_ok());
    assert!(encode(&by("é".repeat(128))).is_err());
}

/// The whole encoding has a limit too, met before anything is decoded.
#[test]
fn an_encoding_has_at_most_four_mebibytes() {
    let beside = encode(&record(1 << 20)).unwrap().len() - (1 << 20);
    at_limit(limits::OBJECT_LEN_MAX, |n| record(n - beside));
    // Rules apart, 4096 links with long targets are no page.
    let target = "t".repeat(limits::PATH_LEN_MAX);
    let entries = (0..2000).map(|i| link(format!("{i:04}"), target.clone()));
    let too_long = encode(&tree(Body::Entries(entries.collect())));
    assert!(matches!(
        too_long,
        Err(Error::TooLarge { what: "tree", .. })
    ));
}

/// Checkpoints hold every ref, and so may be longer than other objects.
#[test]
fn a_checkpoint_may_be_longer_than_other_objects() {
    let name = |i: u32| format!("trees/{}/{i:05}@heads/main", "x".repeat(96));
    let refs: BTreeMap<_, _> = (0..30_000)
        .map(|i| (name(i), SnapshotId::from_digest(ID)))
        .collect();
    let checkpoint = Checkpoint {
        r#type: CheckpointTag::Tag,
        seq: 1,
        head: ID,
        refs,
    };
    let bytes = encode(&checkpoint).unwrap();
    assert!(bytes.len() > limits::OBJECT_LEN_MAX);
    assert_eq!(decode::<Checkpoint>(&bytes).unwrap(), checkpoint);
}

/// The keys of a checkpoint are refs in their one spelling.
#[test]
fn a_checkpoint_holds_nothing_but_refs() {
    for name in [
        "",
        "x",
        "a/b@heads/main",
        "models/a@heads/",
        "models/a@main",
    ] {
        let refs = BTreeMap::from([(name.to_owned(), SnapshotId::from_digest(ID))]);
        let checkpoint = Checkpoint {
            r#type: CheckpointTag::Tag,
            seq: 1,
            head: ID,
            refs,
        };
        let error = encode(&checkpoint).unwrap_err();
        assert!(matches!(error, Error::BadName { .. }), "{name}: {error}");
    }
}

/// A slice ends at the end of the largest chunk at the latest, whatever its start.
#[test]
fn a_slice_lies_within_a_chunk() {
    let most = u32::try_from(limits::CHUNK_LEN_MAX).unwrap();
    let of = |start, len| {
        let segment = Segment {
            len: u64::from(len),
            tensors: Vec::new(),
            chunks: vec![chunk(start, len)],
        };
        encode(&page(vec![segment]))
    };
    for (start, len) in [(0, most), (most - 1, 1), (1, most - 1), (0, 1)] {
        assert!(of(start, len).is_ok(), "{start} {len}");
    }
    for (start, len) in [
        (0, most + 1),
        (most, 1),
        (1, most),
        (0, 0),
        (most, 0),
        (u32::MAX, u32::MAX),
        (u32::MAX, 1),
    ] {
        let refused = of(start, len);
        assert!(
            matches!(refused, Err(Error::BadObject { .. })),
            "{start} {len}"
        );
    }
}

#[test]
fn a_tensor_begins_inside_its_segment() {
    let from = |start: u64, chunks: usize| {
        let mut segment = segment(chunks, 1);
        segment.tensors[0].start = start;
        segment.tensors[0].skip = u64::MAX;
        encode(&page(vec![segment]))
    };
    assert!(from(6, 7).is_ok());
    for (start, chunks) in [(7, 7), (u64::MAX, 7), (0, 0)] {
        let refused = from(start, chunks);
        assert!(
            matches!(refused, Err(Error::BadObject { .. })),
            "{start} of {chunks}"
        );
    }
}

/// Sums of lengths from outside must not wrap around to the length that is claimed.
#[test]
fn lengths_that_overflow_are_refused() {
    let page = |len| PageRef(ObjectId::from_digest(ID), len);
    let mut file = file(Segments::Pages(vec![page(u64::MAX)]));
    assert!(encode(&file).is_ok());
    file.segments = Segments::Pages(vec![page(u64::MAX), page(1)]);
    for size in [u64::MAX, 0] {
        file.size = size;
        assert!(matches!(encode(&file), Err(Error::BadObject { .. })));
        let bytes = serde_ipld_dagcbor::to_vec(&file).unwrap();
        assert!(matches!(
            decode::<File>(&bytes),
            Err(Error::BadObject { .. })
        ));
    }
}

/// Numbers of log entries: from 1, the first alone without a predecessor, an undo looks back.
#[test]
fn numbers_of_operations_are_checked_at_their_bounds() {
    let with = |seq, prev, undoes| {
        let operation = Operation {
            seq,
            prev,
            undoes,
            ..operation()
        };
        encode(&operation).is_ok()
    };
    let cases = [
        (0, None, None, false),
        (0, Some(ID), None, false),
        (1, None, None, true),
        (1, Some(ID), None, false),
        (1, None, Some(1), false),
        (2, None, None, false),
        (2, Some(ID), Some(1), true),
        (2, Some(ID), Some(2), false),
        (2, Some(ID), Some(u64::MAX), false),
        (u64::MAX, Some(ID), Some(u64::MAX - 1), true),
        (u64::MAX, Some(ID), Some(u64::MAX), false),
    ];
    for (seq, prev, undoes, ok) in cases {
        assert_eq!(with(seq, prev, undoes), ok, "{seq} {prev:?} {undoes:?}");
    }
}

/// Collecting is an operation of its own, and says each pack once.
#[test]
fn entries_that_collect_do_nothing_else() {
    let pack = |n: usize| PackId::of(&(n as u64).to_le_bytes());
    let packs = |n: usize| {
        let mut packs: Vec<PackId> = (0..n).map(pack).collect();
        packs.sort_unstable();
        packs
    };
    let with = |floor, packs| {
        let collected = Some(Collected { floor, packs });
        Operation {
            collected,
            ..operation()
        }
    };
    assert!(encode(&with(2, packs(3))).is_ok());
    assert!(encode(&with(3, packs(3))).is_err(), "beyond itself");
    assert!(encode(&with(0, Vec::new())).is_err(), "nothing");
    assert!(encode(&with(0, vec![pack(1), pack(1)])).is_err(), "twice");
    let mut reversed = packs(2);
    reversed.reverse();
    assert!(encode(&with(0, reversed)).is_err());
    assert!(encode(&with(0, packs(COLLECTED_MAX))).is_ok());
    assert!(encode(&with(0, packs(COLLECTED_MAX + 1))).is_err());
    let undo = Operation {
        undoes: Some(1),
        ..with(0, packs(1))
    };
    assert!(encode(&undo).is_err());
}
