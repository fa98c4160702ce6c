//! TensorFlow checkpoints: the `.index` table says where tensors lie in the `.data-…` shards.
//!
//! Specifications: `tensor_bundle.proto` of TensorFlow for the values, "Table format" in the
//! LevelDB documentation for the table around them. Block checksums are not compared: a layout
//! is a hint, and the bytes are kept whatever it says.

use std::ops::Range;

use mmh_core::{Dtype, TensorInfo, limits};

use crate::container::Container;
use crate::error::Result;
use crate::externals::Externals;
use crate::layout::{Layout, LayoutBuilder};
use crate::protobuf::{Fields, Value};
use crate::read_at::ReadAt;
use crate::reader::Reader;

/// Two block handles padded to 40 bytes, and the magic number.
const FOOTER_LEN: u64 = 48;
const MAGIC: u64 = 0xdb47_7524_8b80_fb57;
/// Compression type and checksum behind each block.
const BLOCK_TRAILER_LEN: u64 = 5;
/// Largest table that is read: an index has about 100 bytes for each tensor.
const INDEX_LEN_MAX: u64 = limits::HEADER_LEN_MAX;

/// Whether a file named `name` that begins with `head` may be a checkpoint's index: its first
/// entry has the empty key and begins with the number of shards.
#[must_use]
pub fn matches(head: &[u8], name: &str) -> bool {
    name.ends_with(".index") && matches!(head, [0, 0, _, 0x08, ..])
}

/// Locates the tensors of a checkpoint in the shards that lie beside its index `file_name`.
///
/// # Errors
/// [`crate::Error::Malformed`] if the table contradicts itself, [`crate::Error::TooLarge`]
/// beyond limits, [`crate::Error::Io`] if the file cannot be read.
pub fn parse_named(source: &dyn ReadAt, file_name: &str) -> Result<Layout> {
    let container = Container::TfCheckpoint;
    let mut reader = Reader::new(source, container);
    if reader.len() > INDEX_LEN_MAX {
        return Err(reader.too_large(format!("an index of {} bytes", reader.len())));
    }
    let prefix = file_name.strip_suffix(".index").unwrap_or(file_name);
    let mut index = Index::new(prefix);
    read_table(&mut reader, &mut index)?;
    if index.shards.is_none() {
        return Err(reader.malformed("no header entry"));
    }
    let mut builder = LayoutBuilder::new(container, reader.len());
    if let Some(note) = index.note {
        return Ok(builder.finish()?.with_note(note));
    }
    index.externals.finish(&mut builder)?;
    builder.finish()
}

/// What the entries add up to.
struct Index<'a> {
    prefix: &'a str,
    shards: Option<u64>,
    externals: Externals,
    note: Option<&'static str>,
}

impl<'a> Index<'a> {
    fn new(prefix: &'a str) -> Self {
        Self {
            prefix,
            shards: None,
            externals: Externals::default(),
            note: None,
        }
    }

    fn entry(&mut self, reader: &mut Reader<'_>, key: &[u8], value: Range<u64>) -> Result<()> {
        if key.is_empty() {
            return self.header(reader, value);
        }
        let shards = self
            .shards
            .ok_or_else(|| reader.malformed("the header is not first"))?;
        let Some(entry) = bundle_entry(reader, value)? else {
            return Ok(());
        };
        if entry.shard >= shards {
            return Err(reader.malformed(format!("shard {} of {shards}", entry.shard)));
        }
        let name = String::from_utf8_lossy(key).into_owned();
        let info = TensorInfo {
            name,
            dtype: entry.dtype,
            shape: entry.shape,
        };
        if info.bytes() != Some(entry.size) {
            let name = mmh_core::error::shorten(&info.name);
            return Err(reader.malformed(format!("`{name}` cannot have {} bytes", entry.size)));
        }
        let location = format!("{}.data-{:05}-of-{shards:05}", self.prefix, entry.shard);
        let place = (entry.offset, entry.size);
        self.externals
            .push(Container::TfCheckpoint, &location, place, info)
    }

    /// Notes that a block cannot be read, which may be the one with the header entry.
    fn set_compressed(&mut self) {
        self.note = Some("a compressed checkpoint index: its shards are kept as bytes");
        self.shards = self.shards.or(Some(0));
    }

    /// `BundleHeaderProto`.
    fn header(&mut self, reader: &mut Reader<'_>, value: Range<u64>) -> Result<()> {
        let mut fields = Fields::new(value);
        while let Some(field) = fields.read(reader)? {
            match (field.number, field.value) {
                (1, Value::Varint(n)) if n <= 99_999 => self.shards = Some(n),
                (2, Value::Varint(endianness)) if endianness != 0 => {
                    self.note = Some("a big-endian checkpoint: its shards are kept as bytes");
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A `BundleEntryProto` of a tensor with elements of fixed width.
struct Entry {
    dtype: Dtype,
    shape: Vec<u64>,
    shard: u64,
    offset: u64,
    size: u64,
}

/// Reads a `BundleEntryProto`; `None` for strings and for tensors that are kept in slices,
/// which have entries of their own.
fn bundle_entry(reader: &mut Reader<'_>, value: Range<u64>) -> Result<Option<Entry>> {
    let mut entry = Entry {
        dtype: Dtype::U8,
        shape: Vec::new(),
        shard: 0,
        offset: 0,
        size: 0,
    };
    let mut known = None;
    let mut fields = Fields::new(value);
    while let Some(field) = fields.read(reader)? {
        match (field.number, field.value) {
            (1, Value::Varint(number)) => known = dtype(number),
            (2, Value::Bytes(shape)) => entry.shape = tensor_shape(reader, shape)?,
            (3, Value::Varint(shard)) => entry.shard = shard,
            (4, Value::Varint(offset)) => entry.offset = offset,
            (5, Value::Varint(size)) => entry.size = size,
            (7, Value::Bytes(_)) => return Ok(None),
            _ => {}
        }
    }
    Ok(known.map(|dtype| Entry { dtype, ..entry }))
}

/// `TensorShapeProto`: each dimension is a message whose field 1 is the size; 0 is left out.
fn tensor_shape(reader: &mut Reader<'_>, range: Range<u64>) -> Result<Vec<u64>> {
    let mut shape = Vec::new();
    let mut fields = Fields::new(range);
    while let Some(field) = fields.read(reader)? {
        let (2, Value::Bytes(dim)) = (field.number, field.value) else {
            continue;
        };
        if shape.len() >= limits::TENSOR_RANK_MAX {
            return Err(reader.too_large("tensor rank"));
        }
        let mut size = 0;
        let mut dim_fields = Fields::new(dim);
        while let Some(field) = dim_fields.read(reader)? {
            if let (1, Value::Varint(value)) = (field.number, field.value) {
                size = value;
            }
        }
        shape.push(size);
    }
    Ok(shape)
}

/// Gives every entry of the table to `index`, in order.
fn read_table(reader: &mut Reader<'_>, index: &mut Index<'_>) -> Result<()> {
    let footer = reader
        .len()
        .checked_sub(FOOTER_LEN)
        .ok_or_else(|| reader.malformed("shorter than a table's footer"))?;
    if reader.u64(footer + 40)? != MAGIC {
        return Err(reader.malformed("no table magic at the end"));
    }
    let mut at = footer;
    let _meta_index = handle(reader, &mut at, footer + 40)?;
    let index_block = handle(reader, &mut at, footer + 40)?;
    let mut data_blocks = Vec::new();
    if !read_block(reader, index_block, &mut |reader, _, value| {
        let mut at = value.start;
        data_blocks.push(handle(reader, &mut at, value.end)?);
        Ok(())
    })? {
        index.set_compressed();
    }
    let mut behind = 0;
    for block in data_blocks {
        // Also what keeps a table from sending us to the same block for ever.
        if block.start < behind {
            return Err(reader.malformed(format!("blocks out of order at {}", block.start)));
        }
        behind = block.end;
        if !read_block(reader, block, &mut |reader, key, value| {
            index.entry(reader, key, value)
        })? {
            index.set_compressed();
        }
    }
    Ok(())
}

/// A block handle: offset and length, which must lie in the file with their trailer.
fn handle(reader: &mut Reader<'_>, at: &mut u64, end: u64) -> Result<Range<u64>> {
    let offset = reader.varint(at, end)?;
    let len = reader.varint(at, end)?;
    let block_end = reader.end(offset, len)?;
    reader.end(block_end, BLOCK_TRAILER_LEN)?;
    Ok(offset..block_end)
}

/// What is done with each entry: its key, and the place of its value in the file.
type Visit<'v> = dyn FnMut(&mut Reader<'_>, &[u8], Range<u64>) -> Result<()> + 'v;

/// Visits the entries of an uncompressed block: key, and place of the value in the file. Returns
/// `false` if the block is compressed.
fn read_block(reader: &mut Reader<'_>, block: Range<u64>, visit: &mut Visit<'_>) -> Result<bool> {
    if reader.u8(block.end)? != 0 {
        return Ok(false);
    }
    let restarts_end = block.end.checked_sub(4).filter(|&at| at >= block.start);
    let restarts_end = restarts_end.ok_or_else(|| reader.malformed("a block without restarts"))?;
    let restarts_len = u64::from(reader.u32(restarts_end)?) * 4;
    let end = restarts_end
        .checked_sub(restarts_len)
        .filter(|&at| at >= block.start);
    let end = end.ok_or_else(|| reader.malformed("a block of restarts only"))?;
    let mut key = Vec::new();
    let mut at = block.start;
    while at < end {
        let shared = reader.varint(&mut at, end)?;
        let unshared = reader.varint(&mut at, end)?;
        let value_len = reader.varint(&mut at, end)?;
        let value_at = at.checked_add(unshared).filter(|&v| v <= end);
        let value_at = value_at.ok_or_else(|| reader.malformed("a key leaves its block"))?;
        let value_end = value_at.checked_add(value_len).filter(|&v| v <= end);
        let value_end = value_end.ok_or_else(|| reader.malformed("a value leaves its block"))?;
        let shared = usize::try_from(shared).ok().filter(|&n| n <= key.len());
        key.truncate(shared.ok_or_else(|| reader.malformed("a key shares too much"))?);
        key.extend(reader.bytes(at, unshared, limits::TENSOR_NAME_LEN_MAX as u64)?);
        visit(reader, &key, value_at..value_end)?;
        at = value_end;
    }
    Ok(true)
}

/// `DataType` of TensorFlow; `None` for strings, resources and 4-bit types, which the bundle
/// keeps one a byte.
fn dtype(number: u64) -> Option<Dtype> {
    Some(match number {
        1 => Dtype::F32,
        2 => Dtype::F64,
        3 | 13 => Dtype::I32,
        4 | 12 => Dtype::U8,
        5 | 15 => Dtype::I16,
        6 | 11 => Dtype::I8,
        8 => Dtype::C64,
        9 => Dtype::I64,
        10 => Dtype::Bool,
        14 => Dtype::BF16,
        16 | 17 => Dtype::U16,
        18 => Dtype::C128,
        19 => Dtype::F16,
        22 => Dtype::U32,
        23 => Dtype::U64,
        24 => Dtype::F8_E5M2,
        25 => Dtype::F8_E4M3,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::hostile::attack;
    use crate::onnx::external_layout;
    use crate::samples::SampleTensor;
    use crate::samples::tfcheckpoint::checkpoint;

    fn tensors(n: usize) -> Vec<SampleTensor> {
        (0..n)
            .map(|i| {
                let dtype = [Dtype::F32, Dtype::I64, Dtype::BF16][i % 3];
                SampleTensor::new(
                    &format!("layer/{i:03}/.ATTRIBUTES/VARIABLE_VALUE"),
                    dtype,
                    &[2, (i % 5) as u64],
                )
            })
            .collect()
    }

    #[test]
    fn the_index_names_its_shard_and_every_tensor() {
        for n in [0, 1, 17, 200] {
            let (index, data) = checkpoint(&tensors(n));
            assert!(matches(&index, "variables.index"));
            let layout = parse_named(&index, "variables.index").unwrap();
            assert_eq!(layout.container(), Container::TfCheckpoint);
            assert_eq!(layout.tensors().count(), 0);
            let Some(external) = layout.externals().first() else {
                assert_eq!(n, 0);
                continue;
            };
            assert_eq!(external.location, "variables.data-00000-of-00001");
            let layout = external_layout(data.len() as u64, &external.tensors);
            crate::samples::assert_holds(&layout, &data, &tensors(n));
        }
    }

    #[test]
    fn a_compressed_table_is_said_so() {
        let (mut index, _) = checkpoint(&tensors(3));
        let layout = parse_named(&index, "m.index").unwrap();
        assert_eq!(layout.note(), None);
        // The first block's type byte stands before its checksum; find it by its handle.
        let end = crate::samples::tfcheckpoint::first_block_len(&tensors(3));
        index[end] = 1;
        let layout = parse_named(&index, "m.index").unwrap();
        assert!(layout.note().is_some() && layout.externals().is_empty());
    }

    #[test]
    fn another_file_is_refused() {
        assert!(!matches(b"\0\0\0", "a.index"));
        let (mut index, _) = checkpoint(&tensors(3));
        assert!(!matches(&index, "a.bin"));
        *index.last_mut().unwrap() ^= 1;
        assert!(matches!(
            parse_named(&index, "a.index"),
            Err(Error::Malformed { .. })
        ));
        assert!(parse_named(&vec![0; 10], "a.index").is_err());
    }

    #[test]
    fn withstands_bad_input() {
        attack(
            |source| parse_named(source, "m.index"),
            &checkpoint(&tensors(20)).0,
            3000,
        );
    }
}
