//! One example of each object of FORMAT.md §3, twice: as the crate's type and in the words of
//! that page, for the tests that compare the two.

use std::collections::BTreeMap;

use mmh_core::canonical::{Canonical, decode, encode};
use mmh_core::object::*;
use mmh_core::tree::{Body, Entry, Node, Page, Tree, TreeTag};
use mmh_core::{
    ChunkId, Digest, Dtype, Error, FileId, ObjectId, PackId, SnapshotId, TensorInfo, TreeId,
};

use crate::cbor::{Value, link, map, text};

const RAW: u8 = 0x55;
const DAG_CBOR: u8 = 0x71;

/// An object, its encoding by this crate, what FORMAT.md says of it, and a way to decode it.
pub(crate) struct Example {
    pub(crate) name: &'static str,
    pub(crate) encoding: Vec<u8>,
    pub(crate) value: Value,
    /// Decodes and encodes again.
    pub(crate) decode: fn(&[u8]) -> Result<Vec<u8>, Error>,
}

fn example<T: Canonical + PartialEq + std::fmt::Debug>(
    name: &'static str,
    object: &T,
    value: Value,
) -> Example {
    let encoding = encode(object).expect("examples are valid");
    assert_eq!(decode::<T>(&encoding).expect("what was written"), *object);
    Example {
        name,
        encoding,
        value,
        decode: |bytes| encode(&decode::<T>(bytes)?),
    }
}

/// A digest that shows where it came from: 32 times one byte.
fn digest(byte: u8) -> Digest {
    Digest::from_bytes([byte; 32])
}

fn bytes32(byte: u8) -> Value {
    Value::Bytes(vec![byte; 32])
}

fn object_link(byte: u8) -> Value {
    link(DAG_CBOR, &[byte; 32])
}

fn uints(numbers: &[u64]) -> Value {
    Value::List(numbers.iter().map(|&n| Value::Uint(n)).collect())
}

fn slice(byte: u8, start: u64, len: u64) -> Value {
    let chunk = link(RAW, &[byte; 32]);
    Value::List(vec![chunk, Value::Uint(start), Value::Uint(len)])
}

fn segment() -> (Segment, Value) {
    let info = TensorInfo {
        name: "h.0.attn".to_owned(),
        dtype: Dtype::Q4_K,
        shape: vec![2, 256],
    };
    let tensor = map([
        ("name", text("h.0.attn")),
        ("dtype", text("Q4_K")),
        ("shape", uints(&[2, 256])),
    ]);
    let chunk = |byte, start, len| ChunkRef(ChunkId::from_digest(digest(byte)), start, len);
    let (start, skip) = (24, 1 << 33);
    let segment = Segment {
        len: 312,
        tensors: vec![TensorSpan { info, start, skip }],
        chunks: vec![chunk(1, 0, 24), chunk(2, 70_000, 288)],
    };
    let span = map([
        ("info", tensor),
        ("start", Value::Uint(start)),
        ("skip", Value::Uint(skip)),
    ]);
    let chunks = vec![slice(1, 0, 24), slice(2, 70_000, 288)];
    let value = map([
        ("len", Value::Uint(312)),
        ("chunks", Value::List(chunks)),
        ("tensors", Value::List(vec![span])),
    ]);
    (segment, value)
}

fn bare_segment() -> (Segment, Value) {
    let chunk = ChunkId::from_digest(digest(3));
    let segment = Segment {
        len: 4 << 20,
        tensors: Vec::new(),
        chunks: vec![ChunkRef(chunk, 0, 4 << 20)],
    };
    let chunks = Value::List(vec![slice(3, 0, 4 << 20)]);
    (
        segment,
        map([("len", Value::Uint(4 << 20)), ("chunks", chunks)]),
    )
}

fn files() -> [Example; 3] {
    let ((first, first_value), (second, second_value)) = (segment(), bare_segment());
    let inline = File {
        r#type: FileTag::Tag,
        size: 312 + (4 << 20),
        blake3: Some(digest(4)),
        sha256: Some(digest(5)),
        container: "gguf".to_owned(),
        note: Some("two tensors overlap".to_owned()),
        segments: Segments::Inline(vec![first.clone(), second]),
    };
    let list = Value::List(vec![first_value.clone(), second_value]);
    let inline_value = map([
        ("type", text("file")),
        ("size", Value::Uint(312 + (4 << 20))),
        ("blake3", bytes32(4)),
        ("sha256", bytes32(5)),
        ("container", text("gguf")),
        ("note", text("two tensors overlap")),
        ("segments", map([("inline", list)])),
    ]);
    let page = |byte, len| PageRef(ObjectId::from_digest(digest(byte)), len);
    let paged = File {
        size: (1 << 40) + 1,
        blake3: None,
        sha256: None,
        note: None,
        segments: Segments::Pages(vec![page(6, 1 << 40), page(7, 1)]),
        ..inline.clone()
    };
    let page = |byte, len| Value::List(vec![object_link(byte), Value::Uint(len)]);
    let pages = Value::List(vec![page(6, 1 << 40), page(7, 1)]);
    let paged_value = map([
        ("type", text("file")),
        ("size", Value::Uint((1 << 40) + 1)),
        ("container", text("gguf")),
        ("segments", map([("pages", pages)])),
    ]);
    let page = SegmentPage {
        r#type: SegmentPageTag::Tag,
        segments: vec![first],
    };
    let page_value = map([
        ("type", text("segments")),
        ("segments", Value::List(vec![first_value])),
    ]);
    [
        example("file", &inline, inline_value),
        example("paged file", &paged, paged_value),
        example("segment page", &page, page_value),
    ]
}

fn trees() -> [Example; 2] {
    let file = |executable| Node::File {
        id: FileId::from_digest(digest(8)),
        size: 1000,
        executable,
    };
    let dir = Node::Dir {
        id: TreeId::from_digest(digest(9)),
    };
    let target = "../shared/tokenizer.json".to_owned();
    let nodes = [
        ("LICENSE", file(false)),
        ("convert.sh", file(true)),
        ("onnx", dir),
        ("tokenizer.json", Node::Link { target }),
    ];
    let entry = |(name, node): (&str, Node)| Entry {
        name: name.to_owned(),
        node,
    };
    let leaf = Tree {
        r#type: TreeTag::Tag,
        body: Body::Entries(nodes.map(entry).into()),
    };
    let file = map([("id", object_link(8)), ("size", Value::Uint(1000))]);
    let executable = map([
        ("id", object_link(8)),
        ("size", Value::Uint(1000)),
        ("executable", Value::Raw(vec![0xf5])),
    ]);
    let link = map([("target", text("../shared/tokenizer.json"))]);
    let entry = |(name, kind, node)| map([("name", text(name)), ("node", map([(kind, node)]))]);
    let entries = [
        ("LICENSE", "file", file),
        ("convert.sh", "file", executable),
        ("onnx", "dir", map([("id", object_link(9))])),
        ("tokenizer.json", "link", link),
    ];
    let page = |name: &str, byte| Page(name.to_owned(), TreeId::from_digest(digest(byte)));
    let list = Tree {
        r#type: TreeTag::Tag,
        body: Body::Pages(vec![page("a", 10), page("ä", 11)]),
    };
    let page = |name, byte| Value::List(vec![text(name), object_link(byte)]);
    let pages = Value::List(vec![page("a", 10), page("ä", 11)]);
    let tree = |kind, list| map([("type", text("tree")), ("body", map([(kind, list)]))]);
    let leaf_value = tree("entries", Value::List(entries.map(entry).into()));
    [
        example("tree of entries", &leaf, leaf_value),
        example("tree of pages", &list, tree("pages", pages)),
    ]
}

fn snapshot() -> Example {
    let parent = |byte| SnapshotId::from_digest(digest(byte));
    let snapshot = Snapshot {
        r#type: SnapshotTag::Tag,
        tree: TreeId::from_digest(digest(12)),
        parents: vec![parent(14), parent(13)],
        author: "Ada <ada@example.org>".to_owned(),
        time_ms: 1_700_000_000_123,
        message: String::new(),
    };
    let value = map([
        ("type", text("snapshot")),
        ("tree", object_link(12)),
        (
            "parents",
            Value::List(vec![object_link(14), object_link(13)]),
        ),
        ("author", text("Ada <ada@example.org>")),
        ("time_ms", Value::Uint(1_700_000_000_123)),
        ("message", text("")),
    ]);
    example("snapshot", &snapshot, value)
}

fn operation() -> Example {
    let change = |name: &str, old, new| RefChange {
        r#ref: name.parse().expect("a ref"),
        old: Some(SnapshotId::from_digest(digest(old))),
        new: Some(SnapshotId::from_digest(digest(new))),
    };
    let operation = Operation {
        r#type: OperationTag::Tag,
        seq: 300,
        prev: Some(digest(15)),
        writer: digest(16),
        time_ms: 24,
        author: "a".to_owned(),
        command: "undo 23".to_owned(),
        undoes: Some(23),
        collected: None,
        changes: vec![
            change("datasets/squad@heads/main", 17, 18),
            change("models/a/b@tags/v1", 19, 20),
        ],
    };
    let change = |name, old, new| {
        map([
            ("ref", text(name)),
            ("old", object_link(old)),
            ("new", object_link(new)),
        ])
    };
    let changes = vec![
        change("datasets/squad@heads/main", 17, 18),
        change("models/a/b@tags/v1", 19, 20),
    ];
    let value = map([
        ("type", text("operation")),
        ("seq", Value::Uint(300)),
        ("prev", bytes32(15)),
        ("writer", bytes32(16)),
        ("time_ms", Value::Uint(24)),
        ("author", text("a")),
        ("command", text("undo 23")),
        ("undoes", Value::Uint(23)),
        ("changes", Value::List(changes)),
    ]);
    example("operation", &operation, value)
}

/// An entry of garbage collection.
fn collection() -> Example {
    let collected = Collected {
        floor: 7,
        packs: [26, 27]
            .map(|byte| PackId::from_digest(digest(byte)))
            .into(),
    };
    let operation = Operation {
        r#type: OperationTag::Tag,
        seq: 8,
        prev: Some(digest(28)),
        writer: digest(29),
        time_ms: 30,
        author: "a".to_owned(),
        command: "gc".to_owned(),
        undoes: None,
        collected: Some(collected),
        changes: Vec::new(),
    };
    let packs = vec![link(RAW, &[26; 32]), link(RAW, &[27; 32])];
    let collected = map([("floor", Value::Uint(7)), ("packs", Value::List(packs))]);
    let value = map([
        ("type", text("operation")),
        ("seq", Value::Uint(8)),
        ("prev", bytes32(28)),
        ("writer", bytes32(29)),
        ("time_ms", Value::Uint(30)),
        ("author", text("a")),
        ("command", text("gc")),
        ("collected", collected),
        ("changes", Value::List(Vec::new())),
    ]);
    example("collection", &operation, value)
}

fn checkpoint() -> Example {
    // In the map's own order the long name comes first, in the encoding the short one.
    let refs = [
        ("datasets/long-name@heads/main", 21),
        ("trees/x@tags/1", 22),
    ];
    let named = |(name, byte): (&str, u8)| {
        let id = SnapshotId::from_digest(digest(byte));
        (name.to_owned(), id)
    };
    let checkpoint = Checkpoint {
        r#type: CheckpointTag::Tag,
        seq: 64,
        head: digest(23),
        refs: BTreeMap::from(refs.map(named)),
    };
    let value = map([
        ("type", text("checkpoint")),
        ("seq", Value::Uint(64)),
        ("head", bytes32(23)),
        (
            "refs",
            map(refs.map(|(name, byte)| (name, object_link(byte)))),
        ),
    ]);
    example("checkpoint", &checkpoint, value)
}

fn record() -> Example {
    let record = Record {
        r#type: RecordTag::Tag,
        subject: ObjectId::from_digest(digest(24)),
        payload_type: "application/vnd.in-toto+json".to_owned(),
        payload: serde_bytes::ByteBuf::from(b"{\"a\":1}".to_vec()),
        signatures: vec![RecordSignature {
            algorithm: "Ed25519".to_owned(),
            key_id: "release-2026".to_owned(),
            signature: serde_bytes::ByteBuf::from(vec![25; 64]),
            certificate: None,
        }],
    };
    let signature = map([
        ("algorithm", text("Ed25519")),
        ("key_id", text("release-2026")),
        ("signature", Value::Bytes(vec![25; 64])),
    ]);
    let value = map([
        ("type", text("record")),
        ("subject", object_link(24)),
        ("payload_type", text("application/vnd.in-toto+json")),
        ("payload", Value::Bytes(b"{\"a\":1}".to_vec())),
        ("signatures", Value::List(vec![signature])),
    ]);
    example("record", &record, value)
}

/// Every kind of object.
pub(crate) fn examples() -> Vec<Example> {
    let mut all: Vec<Example> = files().into();
    all.extend(trees());
    all.extend([
        snapshot(),
        operation(),
        collection(),
        checkpoint(),
        record(),
    ]);
    all
}
