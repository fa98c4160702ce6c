//! Object headers: the messages that say what an object is.

use mmh_core::{Dtype, limits};

use super::{Cursor, File};
use crate::error::Result;

/// Most blocks of one header; the library writes a few.
const BLOCKS_MAX: usize = 1 << 12;

/// What the messages of one object header say, as far as it matters here.
#[derive(Debug, Default)]
pub(super) struct Object {
    pub(super) shape: Option<Vec<u64>>,
    /// `None` for types that are not little-endian numbers.
    pub(super) dtype: Option<Dtype>,
    pub(super) layout: Option<DataLayout>,
    pub(super) filtered: bool,
    /// The elements are in other files.
    pub(super) elsewhere: bool,
    /// Hard links of a new-style group: name and object header.
    pub(super) links: Vec<(String, u64)>,
    /// A new-style group with many links: fractal heap and index.
    pub(super) dense_links: Option<(u64, u64)>,
    /// An old-style group: B-tree and heap.
    pub(super) symbol_table: Option<(u64, u64)>,
}

/// Where the elements of a dataset lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DataLayout {
    /// In one run; its length may be left to shape and type.
    Plain { at: u64, len: Option<u64> },
    /// In chunks of `dims` elements, listed in a B-tree.
    Chunked { tree: u64, dims: Vec<u64> },
    /// In a way that is not read.
    Unread,
}

/// How messages are written in one header.
#[derive(Clone, Copy)]
enum Form {
    V1,
    V2 { with_order: bool },
}

impl Object {
    /// Reads the object header at `at`.
    pub(super) fn read(file: &mut File<'_>, at: u64) -> Result<Self> {
        let mut object = Self::default();
        let (form, first) = first_block(file, at)?;
        let mut blocks = vec![first];
        let mut i = 0;
        while let Some(mut block) = blocks.get(i).cloned() {
            i += 1;
            while let Some((kind, shared, body)) = next_message(file, form, &mut block)? {
                file.step()?;
                if kind == 0x10 {
                    if blocks.len() >= BLOCKS_MAX {
                        return Err(file.reader.too_large(format!("header blocks at {at}")));
                    }
                    blocks.push(continuation(file, form, body)?);
                } else if !shared {
                    object.message(file, kind, body)?;
                }
            }
        }
        Ok(object)
    }

    fn message(&mut self, file: &mut File<'_>, kind: u64, mut body: Cursor) -> Result<()> {
        match kind {
            0x01 => self.shape = dataspace(file, body)?,
            0x02 => self.dense_links = dense_links(file, body)?,
            0x03 => self.dtype = datatype(file, body)?,
            0x06 => self.links.extend(link(file, body)?),
            0x07 => self.elsewhere = true,
            0x08 => self.layout = data_layout(file, body)?,
            0x0b => {
                let _version = file.u8(&mut body)?;
                self.filtered = file.u8(&mut body)? > 0;
            }
            0x11 => {
                let (tree, heap) = (file.address(&mut body)?, file.address(&mut body)?);
                self.symbol_table = tree.zip(heap);
            }
            _ => {}
        }
        Ok(())
    }
}

/// The form of the header at `at` and its first block of messages.
fn first_block(file: &mut File<'_>, at: u64) -> Result<(Form, Cursor)> {
    let mut cursor = Cursor {
        at,
        end: file.reader.len(),
    };
    if file.reader.array::<4>(at)? != *b"OHDR" {
        let version = file.u8(&mut cursor)?;
        if version != 1 {
            return Err(file
                .reader
                .malformed(format!("object header version {version} at {at}")));
        }
        file.take(&mut cursor, 7)?;
        let len = file.uint(&mut cursor, 4)?;
        file.take(&mut cursor, 4)?;
        return Ok((Form::V1, block(file, &mut cursor, len)?));
    }
    file.take(&mut cursor, 5)?;
    let flags = file.u8(&mut cursor)?;
    let times_len = if flags & 0x20 != 0 { 16 } else { 0 };
    let limits_len = if flags & 0x10 != 0 { 4 } else { 0 };
    file.take(&mut cursor, times_len + limits_len)?;
    let len = file.uint(&mut cursor, 1 << (flags & 3))?;
    let form = Form::V2 {
        with_order: flags & 0x04 != 0,
    };
    Ok((form, block(file, &mut cursor, len)?))
}

fn block(file: &File<'_>, cursor: &mut Cursor, len: u64) -> Result<Cursor> {
    let at = file.take(cursor, len)?;
    Ok(Cursor { at, end: at + len })
}

/// The block that a continuation message points to.
fn continuation(file: &mut File<'_>, form: Form, mut body: Cursor) -> Result<Cursor> {
    let at = file.address(&mut body)?;
    let at = at.ok_or_else(|| file.reader.malformed("a continuation without address"))?;
    let len = file.length(&mut body)?;
    let end = file.reader.end(at, len)?;
    match form {
        Form::V1 => Ok(Cursor { at, end }),
        Form::V2 { .. } => {
            let cursor = file.signed(at, b"OCHK")?;
            let end = end.checked_sub(4).filter(|&end| end >= cursor.at);
            let end = end.ok_or_else(|| file.reader.malformed(format!("short block at {at}")))?;
            Ok(Cursor { at: cursor.at, end })
        }
    }
}

/// The next message of a block: type, whether its body is only a reference, and the body.
fn next_message(
    file: &mut File<'_>,
    form: Form,
    block: &mut Cursor,
) -> Result<Option<(u64, bool, Cursor)>> {
    let head_len = match form {
        Form::V1 => 8,
        Form::V2 { with_order } => 4 + if with_order { 2 } else { 0 },
    };
    // What is too short for a message is a gap.
    if block.end - block.at < head_len {
        return Ok(None);
    }
    let head = file.take(block, head_len)?;
    let mut head = Cursor {
        at: head,
        end: head + head_len,
    };
    let kind_width = if matches!(form, Form::V1) { 2 } else { 1 };
    let kind = file.uint(&mut head, kind_width)?;
    let len = file.uint(&mut head, 2)?;
    let flags = file.u8(&mut head)?;
    let at = file.take(block, len)?;
    Ok(Some((
        kind,
        flags & 0x02 != 0,
        Cursor { at, end: at + len },
    )))
}

/// The dimensions; `None` for the null dataspace.
fn dataspace(file: &mut File<'_>, mut body: Cursor) -> Result<Option<Vec<u64>>> {
    let version = file.u8(&mut body)?;
    let rank = file.u8(&mut body)?;
    let _flags = file.u8(&mut body)?;
    match version {
        1 => {
            file.take(&mut body, 5)?;
        }
        2 => {
            if file.u8(&mut body)? == 2 {
                return Ok(None);
            }
        }
        _ => {
            return Err(file
                .reader
                .malformed(format!("dataspace version {version}")));
        }
    }
    dimensions(file, &mut body, rank, file.length_width).map(Some)
}

fn dimensions(file: &mut File<'_>, body: &mut Cursor, rank: u8, width: u8) -> Result<Vec<u64>> {
    if usize::from(rank) > limits::TENSOR_RANK_MAX {
        return Err(file.reader.too_large(format!("rank {rank}")));
    }
    (0..rank).map(|_| file.uint(body, width)).collect()
}

/// The element type, if it is a little-endian number.
fn datatype(file: &mut File<'_>, mut body: Cursor) -> Result<Option<Dtype>> {
    const FIXED: u8 = 0;
    const FLOAT: u8 = 1;
    const ENUM: u8 = 8;
    let class = file.u8(&mut body)? & 0x0f;
    let bits = file.u8(&mut body)?;
    let _more_bits = file.uint(&mut body, 2)?;
    let size = file.uint(&mut body, 4)?;
    let big_endian = bits & 0x01 != 0;
    let signed = bits & 0x08 != 0;
    Ok(match (class, size) {
        (FIXED, 1) => Some(if signed { Dtype::I8 } else { Dtype::U8 }),
        // The only enumeration in use is h5py's boolean.
        (ENUM, 1) => Some(Dtype::U8),
        (FIXED | FLOAT, _) if big_endian => None,
        (FIXED, 2) => Some(if signed { Dtype::I16 } else { Dtype::U16 }),
        (FIXED, 4) => Some(if signed { Dtype::I32 } else { Dtype::U32 }),
        (FIXED, 8) => Some(if signed { Dtype::I64 } else { Dtype::U64 }),
        (FLOAT, 1) => Some(Dtype::U8),
        (FLOAT, 2) => {
            // Bit offset and precision in two bytes each, exponent location, exponent size.
            file.take(&mut body, 5)?;
            let exponent_len = file.u8(&mut body)?;
            Some(if exponent_len == 8 {
                Dtype::BF16
            } else {
                Dtype::F16
            })
        }
        (FLOAT, 4) => Some(Dtype::F32),
        (FLOAT, 8) => Some(Dtype::F64),
        _ => None,
    })
}

fn data_layout(file: &mut File<'_>, mut body: Cursor) -> Result<Option<DataLayout>> {
    const COMPACT: u8 = 0;
    const CONTIGUOUS: u8 = 1;
    const CHUNKED: u8 = 2;
    let version = file.u8(&mut body)?;
    if matches!(version, 1 | 2) {
        return old_data_layout(file, body);
    }
    let class = file.u8(&mut body)?;
    Ok(match (version, class) {
        (3..=5, COMPACT) => {
            let len = file.uint(&mut body, 2)?;
            Some(DataLayout::Plain {
                at: file.take(&mut body, len)?,
                len: Some(len),
            })
        }
        (3..=5, CONTIGUOUS) => {
            let at = file.address(&mut body)?;
            let len = file.length(&mut body)?;
            at.map(|at| DataLayout::Plain { at, len: Some(len) })
        }
        (3, CHUNKED) => {
            let rank = file.u8(&mut body)?;
            let tree = file.address(&mut body)?;
            chunked(file, &mut body, rank, tree)?
        }
        (4 | 5, CHUNKED) => Some(DataLayout::Unread),
        // Virtual datasets have no elements of their own.
        (4 | 5, _) => None,
        _ => {
            return Err(file
                .reader
                .malformed(format!("layout version {version}.{class}")));
        }
    })
}

/// Versions 1 and 2 of the layout message, behind the version byte.
fn old_data_layout(file: &mut File<'_>, mut body: Cursor) -> Result<Option<DataLayout>> {
    let rank = file.u8(&mut body)?;
    let class = file.u8(&mut body)?;
    file.take(&mut body, 5)?;
    if class == 0 {
        dimensions(file, &mut body, rank, 4)?;
        let len = file.uint(&mut body, 4)?;
        return Ok(Some(DataLayout::Plain {
            at: file.take(&mut body, len)?,
            len: Some(len),
        }));
    }
    let at = file.address(&mut body)?;
    if class == 1 {
        return Ok(at.map(|at| DataLayout::Plain { at, len: None }));
    }
    chunked(file, &mut body, rank, at)
}

/// The dimensions of a chunk: `rank` counts one more, which is the size of an element.
fn chunked(
    file: &mut File<'_>,
    body: &mut Cursor,
    rank: u8,
    tree: Option<u64>,
) -> Result<Option<DataLayout>> {
    let rank = rank.checked_sub(1).filter(|&rank| rank > 0);
    let rank = rank.ok_or_else(|| file.reader.malformed("chunks without dimensions"))?;
    let dims = dimensions(file, body, rank, 4)?;
    Ok(tree.map(|tree| DataLayout::Chunked { tree, dims }))
}

/// The fractal heap and the index by name that a link info message may point to.
fn dense_links(file: &mut File<'_>, mut body: Cursor) -> Result<Option<(u64, u64)>> {
    let _version = file.u8(&mut body)?;
    let with_order = file.u8(&mut body)? & 0x01 != 0;
    file.take(&mut body, if with_order { 8 } else { 0 })?;
    let heap = file.address(&mut body)?;
    Ok(heap.zip(file.address(&mut body)?))
}

/// The name and address in a link message, if the link is a hard one.
pub(super) fn link(file: &mut File<'_>, mut body: Cursor) -> Result<Option<(String, u64)>> {
    let _version = file.u8(&mut body)?;
    let flags = file.u8(&mut body)?;
    let kind = if flags & 0x08 != 0 {
        file.u8(&mut body)?
    } else {
        0
    };
    let order_len = if flags & 0x04 != 0 { 8 } else { 0 };
    let charset_len = if flags & 0x10 != 0 { 1 } else { 0 };
    file.take(&mut body, order_len + charset_len)?;
    let name_len = file.uint(&mut body, 1 << (flags & 3))?;
    let name_at = file.take(&mut body, name_len)?;
    if kind != 0 {
        return Ok(None);
    }
    let address = file.address(&mut body)?;
    let name = file.name(name_at, name_len)?;
    Ok(address.map(|address| (name, address)))
}
