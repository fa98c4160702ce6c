//! Encodings against FORMAT.md §3: byte by byte where they are short, by the second writer where
//! they are long. Whatever changes here changes every id in every repository.

use mmh_core::canonical::{decode, encode};
use mmh_core::object::*;
use mmh_core::tree::{Body, Entry, Node, Tree, TreeTag};
use mmh_core::{ChunkId, Digest, FileId, ObjectId, SnapshotId, TreeId};

use crate::model::examples;

/// Digest of 32 bytes 0x11 and what a link to it looks like: tag 42, 37 bytes, zero, CIDv1.
const ID: Digest = Digest::from_bytes([0x11; 32]);
const LINK: &[u8] = b"\xd8\x2a\x58\x25\x00\x01\x71\x1e\x20\
    \x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\
    \x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11";
const DIGEST: &[u8] = b"\x58\x20\
    \x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\
    \x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11";

/// Two writers that share no line agree on every kind of object.
#[test]
fn every_object_is_encoded_as_the_format_says() {
    for example in examples() {
        assert_eq!(example.encoding, example.value.encode(), "{}", example.name);
        let again = (example.decode)(&example.value.encode()).unwrap();
        assert_eq!(again, example.encoding, "{}", example.name);
    }
}

/// No object can be taken for one of another kind: the `type` field, or the fields, differ.
#[test]
fn no_object_decodes_as_another_kind() {
    let all = examples();
    for bytes in all.iter().map(|e| &e.encoding) {
        let as_kind: Vec<bool> = vec![
            decode::<File>(bytes).is_ok(),
            decode::<SegmentPage>(bytes).is_ok(),
            decode::<Tree>(bytes).is_ok(),
            decode::<Snapshot>(bytes).is_ok(),
            decode::<Operation>(bytes).is_ok(),
            decode::<Checkpoint>(bytes).is_ok(),
            decode::<Record>(bytes).is_ok(),
        ];
        assert_eq!(as_kind.iter().filter(|ok| **ok).count(), 1);
    }
}

/// The empty directory, and its id: the one that every repository shares.
#[test]
fn the_empty_directory_is_these_bytes() {
    let tree = Tree {
        r#type: TreeTag::Tag,
        body: Body::Entries(Vec::new()),
    };
    let bytes = encode(&tree).unwrap();
    assert_eq!(bytes, b"\xa2\x64body\xa1\x67entries\x80\x64type\x64tree");
    assert_eq!(
        TreeId::of(&bytes).to_string(),
        "bafyr4ihm3ulb7lpekmg2fwqxbv5tx3noodrlcyk5p46zswb4cenxojya6y"
    );
}

#[test]
fn a_directory_of_one_file_is_these_bytes() {
    let node = Node::File {
        id: FileId::from_digest(ID),
        size: 24,
        executable: true,
    };
    let tree = Tree {
        r#type: TreeTag::Tag,
        body: Body::Entries(vec![Entry {
            name: "a".to_owned(),
            node,
        }]),
    };
    let expected = [
        b"\xa2\x64body\xa1\x67entries\x81\xa2\x64name\x61a\x64node\xa1\x64file\xa3\x62id",
        LINK,
        b"\x64size\x18\x18\x6aexecutable\xf5\x64type\x64tree",
    ];
    assert_eq!(encode(&tree).unwrap(), expected.concat());
}

#[test]
fn the_empty_file_is_these_bytes() {
    let file = File {
        r#type: FileTag::Tag,
        size: 0,
        blake3: Some(ID),
        sha256: Some(ID),
        container: "unknown".to_owned(),
        note: None,
        segments: Segments::Inline(Vec::new()),
    };
    let expected = [
        b"\xa6\x64size\x00\x64type\x64file\x66blake3",
        DIGEST,
        b"\x66sha256",
        DIGEST,
        b"\x68segments\xa1\x66inline\x80\x69container\x67unknown",
    ];
    assert_eq!(encode(&file).unwrap(), expected.concat());
    let without = File {
        blake3: None,
        sha256: None,
        ..file
    };
    let expected: [&[u8]; 2] = [
        b"\xa4\x64size\x00\x64type\x64file",
        b"\x68segments\xa1\x66inline\x80\x69container\x67unknown",
    ];
    assert_eq!(encode(&without).unwrap(), expected.concat());
}

/// A chunk's link has the multicodec `raw`, an object's `dag-cbor`; all else is the same.
#[test]
fn a_segment_of_one_slice_is_these_bytes() {
    let page = SegmentPage {
        r#type: SegmentPageTag::Tag,
        segments: vec![Segment {
            len: 256,
            tensors: Vec::new(),
            chunks: vec![ChunkRef(ChunkId::from_digest(ID), 65_536, 256)],
        }],
    };
    let mut raw = LINK.to_vec();
    raw[6] = 0x55;
    let expected = [
        b"\xa2\x64type\x68segments\x68segments\x81\xa2\x63len\x19\x01\x00\x66chunks\x81\x83",
        &raw[..],
        b"\x1a\x00\x01\x00\x00\x19\x01\x00",
    ];
    assert_eq!(encode(&page).unwrap(), expected.concat());
}

#[test]
fn the_first_snapshot_is_these_bytes() {
    let snapshot = Snapshot {
        r#type: SnapshotTag::Tag,
        tree: TreeId::from_digest(ID),
        parents: Vec::new(),
        author: "ab".to_owned(),
        time_ms: 1 << 32,
        message: "m".to_owned(),
    };
    let expected = [
        b"\xa6\x64tree",
        LINK,
        b"\x64type\x68snapshot\x66author\x62ab\x67message\x61m\x67parents\x80\x67time_ms",
        b"\x1b\x00\x00\x00\x01\x00\x00\x00\x00",
    ];
    assert_eq!(encode(&snapshot).unwrap(), expected.concat());
}

/// What is absent in an operation is spelled in two ways: `prev`, `old` and `new` as null,
/// `undoes` not at all.
#[test]
fn the_first_operation_is_these_bytes() {
    let operation = Operation {
        r#type: OperationTag::Tag,
        seq: 1,
        prev: None,
        writer: ID,
        time_ms: 0,
        author: String::new(),
        command: "init".to_owned(),
        undoes: None,
        collected: None,
        changes: vec![RefChange {
            r#ref: "trees/x@heads/main".parse().unwrap(),
            old: None,
            new: Some(SnapshotId::from_digest(ID)),
        }],
    };
    let expected = [
        b"\xa8\x63seq\x01\x64prev\xf6\x64type\x69operation\x66author\x60\x66writer",
        DIGEST,
        b"\x67changes\x81\xa3\x63new",
        LINK,
        b"\x63old\xf6\x63ref\x72trees/x@heads/main\x67command\x64init\x67time_ms\x00",
    ];
    assert_eq!(encode(&operation).unwrap(), expected.concat());
}

#[test]
fn a_checkpoint_and_a_record_are_these_bytes() {
    let checkpoint = Checkpoint {
        r#type: CheckpointTag::Tag,
        seq: 64,
        head: ID,
        refs: std::iter::once(("trees/x@tags/1".to_owned(), SnapshotId::from_digest(ID))).collect(),
    };
    let expected = [
        b"\xa4\x63seq\x18\x40\x64head",
        DIGEST,
        b"\x64refs\xa1\x6etrees/x@tags/1",
        LINK,
        b"\x64type\x6acheckpoint",
    ];
    assert_eq!(encode(&checkpoint).unwrap(), expected.concat());
    let record = Record {
        r#type: RecordTag::Tag,
        subject: ObjectId::from_digest(ID),
        payload_type: "t".to_owned(),
        payload: serde_bytes::ByteBuf::from(vec![0xff, 0x00]),
        signatures: Vec::new(),
    };
    let expected = [
        b"\xa5\x64type\x66record\x67payload\x42\xff\x00\x67subject",
        LINK,
        b"\x6asignatures\x80\x6cpayload_type\x61t",
    ];
    assert_eq!(encode(&record).unwrap(), expected.concat());
}
