//! Old-style groups: a B-tree of symbol nodes, and a heap of names.

use std::collections::BTreeSet;

use mmh_core::limits;

use super::{Cursor, File};
use crate::error::Result;

/// Name and object header address of each hard link in the group.
pub(super) fn symbols(file: &mut File<'_>, tree: u64, heap: u64) -> Result<Vec<(String, u64)>> {
    let names = heap_data(file, heap)?;
    let mut links = Vec::new();
    for leaf in leaves(file, tree, Keys::Names)? {
        symbol_node(file, leaf.child, &names, &mut links)?;
    }
    Ok(links)
}

/// The place of a local heap's data segment.
fn heap_data(file: &mut File<'_>, at: u64) -> Result<Cursor> {
    let mut cursor = file.signed(at, b"HEAP")?;
    file.take(&mut cursor, 4)?;
    let len = file.length(&mut cursor)?;
    let _free_list = file.length(&mut cursor)?;
    let data = file.address(&mut cursor)?;
    let data = data.ok_or_else(|| file.reader.malformed(format!("no data in heap at {at}")))?;
    Ok(Cursor {
        at: data,
        end: file.reader.end(data, len)?,
    })
}

fn symbol_node(
    file: &mut File<'_>,
    at: u64,
    names: &Cursor,
    links: &mut Vec<(String, u64)>,
) -> Result<()> {
    const SOFT_LINK: u64 = 2;
    let mut cursor = file.signed(at, b"SNOD")?;
    file.take(&mut cursor, 2)?;
    let n = file.uint(&mut cursor, 2)?;
    for _ in 0..n {
        file.step()?;
        let name = file.uint(&mut cursor, file.address_width)?;
        let object = file.address(&mut cursor)?;
        let cache = file.uint(&mut cursor, 4)?;
        file.take(&mut cursor, 4 + 16)?;
        if let (Some(object), true) = (object, cache != SOFT_LINK) {
            links.push((heap_name(file, names, name)?, object));
        }
    }
    Ok(())
}

/// The NUL-terminated name at `offset` of the heap.
fn heap_name(file: &mut File<'_>, names: &Cursor, offset: u64) -> Result<String> {
    let at = names.at.checked_add(offset).filter(|&at| at < names.end);
    let at = at.ok_or_else(|| {
        file.reader
            .malformed(format!("name {offset} leaves its heap"))
    })?;
    let len = (names.end - at).min(limits::TENSOR_NAME_LEN_MAX as u64);
    let bytes = file.reader.bytes(at, len, len)?;
    let end = bytes.iter().position(|&byte| byte == 0);
    let end = end.ok_or_else(|| file.reader.malformed(format!("endless name at {at}")))?;
    file.name(at, end as u64)
}

/// What the keys of a B-tree are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Keys {
    /// Offsets of names: the tree of a group.
    Names,
    /// Size, filter mask and offsets: the tree of a dataset with this many dimensions.
    Chunks(u64),
}

/// An entry of a leaf.
#[derive(Debug)]
pub(super) struct Leaf {
    /// Where its key lies.
    pub(super) key: u64,
    /// The address it leads to.
    pub(super) child: u64,
}

/// Every entry of the leaves of a version 1 B-tree, each node visited once.
pub(super) fn leaves(file: &mut File<'_>, root: u64, keys: Keys) -> Result<Vec<Leaf>> {
    let (node_type, key_len) = match keys {
        Keys::Names => (0, u64::from(file.length_width)),
        Keys::Chunks(rank) => (1, 8 + 8 * (rank + 1)),
    };
    let mut seen = BTreeSet::from([root]);
    let mut pending = vec![(root, None)];
    let mut found = Vec::new();
    while let Some((at, expected_level)) = pending.pop() {
        let mut cursor = file.signed(at, b"TREE")?;
        let (kind, level) = (file.u8(&mut cursor)?, file.u8(&mut cursor)?);
        if kind != node_type || expected_level.is_some_and(|expected| level != expected) {
            return Err(file
                .reader
                .malformed(format!("node of type {kind}.{level} at {at}")));
        }
        let n = file.uint(&mut cursor, 2)?;
        file.take(&mut cursor, 2 * u64::from(file.address_width))?;
        for _ in 0..n {
            file.step()?;
            let key = file.take(&mut cursor, key_len)?;
            let Some(child) = file.address(&mut cursor)? else {
                continue;
            };
            match level.checked_sub(1) {
                None => found.push(Leaf { key, child }),
                Some(below) if seen.insert(child) => pending.push((child, Some(below))),
                Some(_) => return Err(file.reader.malformed(format!("tree node {child} twice"))),
            }
        }
    }
    Ok(found)
}
