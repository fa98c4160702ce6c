//! TensorFlow's checkpoint index, one field at a time: tables written by hand, each with one lie.

use mmh_formats::tfcheckpoint::parse_named;
use mmh_formats::{Container, Error, Layout, ReadAt, Result, probe};

use crate::wire::{message, number, varint};

/// The number of bytes that a key shares with the one before, the rest of the key, the value.
type Row = (u64, &'static [u8], Vec<u8>);

fn block(rows: &[Row], restarts: u32) -> Vec<u8> {
    let mut out = Vec::new();
    for (shared, key, value) in rows {
        for n in [*shared, key.len() as u64, value.len() as u64] {
            varint(&mut out, n);
        }
        out.extend_from_slice(key);
        out.extend_from_slice(value);
    }
    out.extend([0; 4]);
    out.extend(restarts.to_le_bytes());
    out
}

fn handle(at: usize, len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, at as u64);
    varint(&mut out, len as u64);
    out
}

/// A table of data blocks, named by an index block in the order of `order`. The first type byte
/// is that of the data blocks, the second that of the index block: 0 is uncompressed.
fn table_of(blocks: &[Vec<u8>], order: &[usize], types: [u8; 2]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut handles = Vec::new();
    for block in blocks {
        handles.push(handle(out.len(), block.len()));
        out.extend_from_slice(block);
        out.extend([types[0], 0, 0, 0, 0]);
    }
    let rows: Vec<Row> = order
        .iter()
        .map(|&i| (0, &b"~"[..], handles[i].clone()))
        .collect();
    let index = block(&rows, 1);
    let index_at = out.len();
    out.extend_from_slice(&index);
    out.extend([types[1], 0, 0, 0, 0]);
    let mut footer = [handle(0, 0), handle(index_at, index.len())].concat();
    footer.resize(40, 0);
    out.extend(footer);
    out.extend(0xdb47_7524_8b80_fb57_u64.to_le_bytes());
    out
}

fn table(rows: &[Row]) -> Vec<u8> {
    table_of(&[block(rows, 1)], &[0], [0, 0])
}

fn header(shards: u64) -> Row {
    (0, b"", number(1, shards))
}

/// An entry of four elements of `dtype` that takes `size` bytes at offset 8 of `shard`.
fn entry(dtype: u64, shard: u64, size: u64) -> Vec<u8> {
    let shape = message(2, &number(1, 4));
    [
        number(1, dtype),
        message(2, &shape),
        number(3, shard),
        number(4, 8),
        number(5, size),
    ]
    .concat()
}

fn parsed(file: &dyn ReadAt) -> Result<Layout> {
    parse_named(file, "model.ckpt.index")
}

fn assert_malformed(rows: &[Row], word: &str) {
    match parsed(&table(rows)) {
        Err(Error::Malformed { reason, .. }) => assert!(reason.contains(word), "{reason}"),
        other => panic!("{other:?} where `{word}` was expected"),
    }
}

/// Keys share their beginnings with the key before; each shard is a file of its own.
#[test]
fn every_shard_has_its_tensors() {
    let rows = [
        header(3),
        (0, b"dense/a", entry(1, 2, 16)),
        (6, b"b", entry(9, 0, 32)),
        (6, b"bc", entry(19, 2, 8)),
    ];
    let file = table(&rows);
    let layout = probe(&file, "model.ckpt.index").unwrap();
    assert_eq!(layout.container(), Container::TfCheckpoint);
    let found: Vec<(&str, Vec<(&str, u64)>)> = layout
        .externals()
        .iter()
        .map(|file| {
            let tensors = file.tensors.iter();
            (
                file.location.as_str(),
                tensors.map(|(at, _, t)| (t.name.as_str(), *at)).collect(),
            )
        })
        .collect();
    let expected = [
        ("model.ckpt.data-00000-of-00003", vec![("dense/b", 8)]),
        (
            "model.ckpt.data-00002-of-00003",
            vec![("dense/a", 8), ("dense/bc", 8)],
        ),
    ];
    assert_eq!(found, expected);
}

/// `DataType` of TensorFlow's `types.proto`; 7, 20 and 21 are strings, resources, variants, and
/// 4-bit types (29, 30) are kept one a byte.
#[test]
fn data_types_have_their_width() {
    let table_of_bits = [
        (1, 32),
        (2, 64),
        (3, 32),
        (4, 8),
        (5, 16),
        (6, 8),
        (8, 64),
        (9, 64),
        (10, 8),
        (11, 8),
        (12, 8),
        (13, 32),
        (14, 16),
        (15, 16),
        (16, 16),
        (17, 16),
        (18, 128),
        (19, 16),
        (22, 32),
        (23, 64),
        (24, 8),
        (25, 8),
    ];
    for dtype in 0..130 {
        let bits = table_of_bits
            .iter()
            .find(|row| row.0 == dtype)
            .map(|row| row.1);
        let size = bits.map_or(16, |bits| bits / 2);
        let layout = parsed(&table(&[header(1), (0, b"w", entry(dtype, 0, size))])).unwrap();
        assert_eq!(
            layout.externals().len(),
            usize::from(bits.is_some()),
            "{dtype}"
        );
        if bits.is_some() {
            let wrong = table(&[header(1), (0, b"w", entry(dtype, 0, size + 1))]);
            assert!(parsed(&wrong).is_err(), "{dtype}");
        }
    }
}

#[test]
fn lies_about_keys_and_values_are_malformed() {
    let good = || entry(1, 0, 16);
    assert_malformed(&[header(1), (1, b"w", good())], "shares too much");
    assert_malformed(
        &[header(1), (0, b"w", good()), (2, b"x", good())],
        "shares too much",
    );
    assert_malformed(&[(0, b"w", good())], "header is not first");
    assert_malformed(&[], "no header");
    assert_malformed(&[(0, b"", number(1, 100_000))], "no header");
    assert_malformed(&[header(2), (0, b"w", entry(1, 2, 16))], "shard 2 of 2");
    assert_malformed(&[header(0), (0, b"w", good())], "shard 0 of 0");
    assert_malformed(&[header(1), (0, b"w", entry(1, 0, 12))], "cannot have 12");
    assert_malformed(&[header(1), (0, b"w", vec![0x0a, 9, 1])], "");
}

/// A block that says it has more restart points than bytes, in steps up to the limit of 32 bits.
#[test]
fn restart_points_lie_within_their_block() {
    let rows = [header(1), (0, b"w", entry(1, 0, 16))];
    let len = block(&rows, 1).len() as u32;
    for restarts in [len / 4, len, u32::MAX / 4, u32::MAX] {
        let file = table_of(&[block(&rows, restarts)], &[0], [0, 0]);
        assert!(
            matches!(parsed(&file), Err(Error::Malformed { .. })),
            "{restarts}"
        );
    }
    assert!(
        parsed(&table_of(&[vec![0; 3]], &[0], [0, 0])).is_err(),
        "no room for a count"
    );
}

/// Blocks named twice or backwards would let a small table name a tensor without end.
#[test]
fn blocks_are_read_once_and_in_order() {
    let one = block(&[header(1), (0, b"a", entry(1, 0, 16))], 1);
    let two = block(&[(0, b"b", entry(1, 0, 16))], 1);
    let blocks = [one, two];
    let layout = parsed(&table_of(&blocks, &[0, 1], [0, 0])).unwrap();
    assert_eq!(layout.externals()[0].tensors.len(), 2);
    for order in [&[0, 0][..], &[1, 0], &[0, 1, 1], &[0, 1, 0]] {
        let result = parsed(&table_of(&blocks, order, [0, 0]));
        assert!(matches!(result, Err(Error::Malformed { .. })), "{order:?}");
    }
}

/// What cannot be located is said so, and the rest of the index is still a checkpoint.
#[test]
fn strings_slices_and_big_endian_shards_have_no_place() {
    let slices = [entry(1, 0, 0), message(7, &[])].concat();
    let rows = [
        header(1),
        (0, b"s", entry(7, 0, 99)),
        (0, b"t", slices),
        (0, b"u", entry(1, 0, 16)),
    ];
    let layout = parsed(&table(&rows)).unwrap();
    assert_eq!(layout.externals()[0].tensors.len(), 1);
    let big = [number(1, 1), number(2, 1)].concat();
    let layout = parsed(&table(&[(0, b"", big), (0, b"u", entry(1, 0, 16))])).unwrap();
    assert!(layout.externals().is_empty());
    assert!(layout.note().unwrap().contains("big-endian"));
}

/// A table whose index block is compressed hides even where its blocks lie.
#[test]
fn compression_of_either_block_is_a_note() {
    let blocks = [block(&[header(1), (0, b"w", entry(1, 0, 16))], 1)];
    for types in [[1, 0], [0, 1], [1, 1], [2, 0]] {
        let layout = parsed(&table_of(&blocks, &[0], types)).unwrap();
        assert!(layout.note().unwrap().contains("compressed"), "{types:?}");
        assert!(layout.externals().is_empty(), "{types:?}");
    }
}
