//! HDF5 files, Keras weights included: datasets with plain storage are tensors.
//!
//! Specification: "HDF5 File Format Specification Version 3.0". Read are superblocks 0 to 3,
//! both object headers, groups as symbol tables, link messages and fractal heaps, and
//! contiguous, compact and unfiltered chunked datasets of little-endian numbers. Filtered chunks
//! and the chunk indexes of layouts 4 and 5 stay bytes; the latter are noted. Every structure is
//! visited once or counted, so cycles and aliases end.

mod dense;
mod group;
mod object;

use std::collections::BTreeSet;

use mmh_core::{TensorInfo, limits};

use crate::container::Container;
use crate::error::Result;
use crate::layout::{Layout, LayoutBuilder};
use crate::read_at::ReadAt;
use crate::reader::Reader;

use group::{Keys, Leaf};
use object::{DataLayout, Object};

const SIGNATURE: &[u8; 8] = b"\x89HDF\r\n\x1a\n";
/// Where a superblock may lie, behind a block of the user's own.
const SUPERBLOCK_PLACES: [u64; 4] = [0, 512, 1024, 2048];
/// Most messages, links and chunks that are read.
const STEPS_MAX: u64 = 1 << 22;
/// Most bytes in the names of all links together, and in the paths of all objects.
const NAMES_LEN_MAX: u64 = 64 << 20;

/// Whether a file that begins with `head` holds an HDF5 superblock.
#[must_use]
pub fn matches(head: &[u8], _name: &str) -> bool {
    SUPERBLOCK_PLACES
        .iter()
        .filter_map(|&at| head.get(usize::try_from(at).ok()?..))
        .any(|rest| rest.starts_with(SIGNATURE))
}

/// Locates the datasets of an HDF5 file; their names are paths such as `/dense/kernel:0`.
///
/// # Errors
/// [`crate::Error::Malformed`] if the file contradicts itself, [`crate::Error::TooLarge`] beyond
/// limits, [`crate::Error::Io`] if it cannot be read.
pub fn parse(source: &dyn ReadAt) -> Result<Layout> {
    let (mut file, root) = File::open(source)?;
    let mut walk = Walk {
        builder: LayoutBuilder::new(Container::Hdf5, source.len()),
        seen: BTreeSet::new(),
        pending: Vec::new(),
        paths_len: 0,
        note: None,
    };
    walk.push(&file, root, String::new())?;
    while let Some((address, path)) = walk.pending.pop() {
        let object = Object::read(&mut file, address)?;
        walk.visit(&mut file, object, path)?;
    }
    let layout = walk.builder.finish()?;
    Ok(match walk.note {
        Some(note) => layout.with_note(note),
        None => layout,
    })
}

/// An open file and the widths of its addresses and lengths.
struct File<'a> {
    reader: Reader<'a>,
    /// What addresses are relative to.
    base: u64,
    address_width: u8,
    length_width: u8,
    n_steps: u64,
    names_len: u64,
}

/// A run of bytes that is read from front to back.
#[derive(Debug, Clone)]
struct Cursor {
    at: u64,
    end: u64,
}

impl<'a> File<'a> {
    /// Reads the superblock; returns the address of the root group's object header.
    fn open(source: &'a dyn ReadAt) -> Result<(Self, u64)> {
        let mut reader = Reader::new(source, Container::Hdf5);
        let mut start = None;
        for at in SUPERBLOCK_PLACES {
            if at + 8 <= source.len() && reader.array::<8>(at)? == *SIGNATURE {
                start = Some(at);
                break;
            }
        }
        let start = start.ok_or_else(|| reader.malformed("no superblock"))?;
        let version = reader.u8(start + 8)?;
        let (widths_at, base_at) = match version {
            0 => (start + 13, start + 24),
            1 => (start + 13, start + 28),
            2 | 3 => (start + 9, start + 12),
            _ => return Err(reader.malformed(format!("superblock version {version}"))),
        };
        let (address_width, length_width) = (reader.u8(widths_at)?, reader.u8(widths_at + 1)?);
        if ![address_width, length_width]
            .iter()
            .all(|width| [2, 4, 8].contains(width))
        {
            let what = format!("addresses of {address_width} and lengths of {length_width} bytes");
            return Err(reader.malformed(what));
        }
        let mut file = Self {
            reader,
            base: 0,
            address_width,
            length_width,
            n_steps: 0,
            names_len: 0,
        };
        let mut cursor = Cursor {
            at: base_at,
            end: source.len(),
        };
        file.base = file.uint(&mut cursor, address_width)?;
        // Behind the base: two addresses of no use here; then, in the old form, one more and
        // the name offset of the root's symbol table entry.
        let skipped = if version < 2 { 4 } else { 2 };
        file.take(&mut cursor, skipped * u64::from(address_width))?;
        let root = file.address(&mut cursor)?;
        let root = root.ok_or_else(|| file.reader.malformed("no root group"))?;
        Ok((file, root))
    }

    /// Counts a message, link or chunk.
    fn step(&mut self) -> Result<()> {
        self.n_steps += 1;
        if self.n_steps > STEPS_MAX {
            return Err(self.reader.too_large("too many messages, links and chunks"));
        }
        Ok(())
    }

    /// The name of a link; many links may share one, so their lengths are added up.
    fn name(&mut self, at: u64, len: u64) -> Result<String> {
        self.names_len = self.names_len.saturating_add(len);
        if self.names_len > NAMES_LEN_MAX {
            return Err(self.reader.too_large("names too long"));
        }
        self.reader
            .text(at, len, limits::TENSOR_NAME_LEN_MAX as u64)
    }

    fn take(&self, cursor: &mut Cursor, len: u64) -> Result<u64> {
        let at = cursor.at;
        let end = at
            .checked_add(len)
            .filter(|&end| end <= cursor.end)
            .ok_or_else(|| {
                self.reader
                    .malformed(format!("{len} bytes at {at} end behind {}", cursor.end))
            })?;
        cursor.at = end;
        Ok(at)
    }

    fn uint(&mut self, cursor: &mut Cursor, width: u8) -> Result<u64> {
        let at = self.take(cursor, u64::from(width))?;
        self.reader.uint(at, width)
    }

    fn u8(&mut self, cursor: &mut Cursor) -> Result<u8> {
        let at = self.take(cursor, 1)?;
        self.reader.u8(at)
    }

    /// A length or size.
    fn length(&mut self, cursor: &mut Cursor) -> Result<u64> {
        self.uint(cursor, self.length_width)
    }

    /// An address as an offset of the file; `None` if it is the undefined one.
    fn address(&mut self, cursor: &mut Cursor) -> Result<Option<u64>> {
        let address = self.uint(cursor, self.address_width)?;
        if address == u64::MAX >> (64 - 8 * u32::from(self.address_width)) {
            return Ok(None);
        }
        let at = address
            .checked_add(self.base)
            .filter(|&at| at <= self.reader.len());
        at.map(Some).ok_or_else(|| {
            self.reader
                .malformed(format!("address {address} before {}", cursor.at))
        })
    }

    /// A cursor behind the four-byte `signature` at `at`, up to the end of the file.
    fn signed(&mut self, at: u64, signature: &[u8; 4]) -> Result<Cursor> {
        if self.reader.array::<4>(at)? != *signature {
            let what = format!("no {} at {at}", String::from_utf8_lossy(signature));
            return Err(self.reader.malformed(what));
        }
        Ok(Cursor {
            at: at + 4,
            end: self.reader.len(),
        })
    }
}

struct Walk {
    builder: LayoutBuilder,
    /// Object headers that were pushed, so that hard links and cycles are followed once.
    seen: BTreeSet<u64>,
    pending: Vec<(u64, String)>,
    paths_len: u64,
    note: Option<&'static str>,
}

impl Walk {
    fn push(&mut self, file: &File<'_>, address: u64, path: String) -> Result<()> {
        if !self.seen.insert(address) {
            return Ok(());
        }
        self.paths_len = self.paths_len.saturating_add(path.len() as u64);
        if self.paths_len > NAMES_LEN_MAX || path.len() > limits::TENSOR_NAME_LEN_MAX {
            return Err(file.reader.too_large("paths too long"));
        }
        self.pending.push((address, path));
        Ok(())
    }

    fn visit(&mut self, file: &mut File<'_>, object: Object, path: String) -> Result<()> {
        let mut links = object.links.clone();
        if let Some((tree, heap)) = object.symbol_table {
            links.extend(group::symbols(file, tree, heap)?);
        }
        if let Some((heap, index)) = object.dense_links {
            let messages = dense::links(file, heap, index)?;
            if messages.is_none() {
                self.note = Some("a group in a fractal heap with filters is kept as bytes");
            }
            for message in messages.unwrap_or_default() {
                links.extend(object::link(file, message)?);
            }
        }
        // Of several links to one object, the first name counts.
        links.sort();
        for (name, address) in links {
            self.push(file, address, format!("{path}/{name}"))?;
        }
        self.dataset(file, object, path)
    }

    fn dataset(&mut self, file: &mut File<'_>, object: Object, path: String) -> Result<()> {
        let (Some(shape), Some(dtype), Some(layout)) = (object.shape, object.dtype, object.layout)
        else {
            return Ok(());
        };
        if object.elsewhere {
            return Ok(());
        }
        let info = TensorInfo {
            name: path,
            dtype,
            shape,
        };
        match layout {
            DataLayout::Plain { at, len } => {
                let len = len.or(info.bytes());
                // A dataset may have more room than it has elements.
                match (len, info.bytes()) {
                    (Some(len), Some(bytes)) if bytes <= len => {
                        self.builder.tensor(at, bytes, info)
                    }
                    _ => {
                        let name = mmh_core::error::shorten(&info.name);
                        Err(file
                            .reader
                            .malformed(format!("dataset `{name}` beyond its storage")))
                    }
                }
            }
            DataLayout::Chunked { .. } if object.filtered => Ok(()),
            DataLayout::Chunked { tree, dims } => {
                for leaf in group::leaves(file, tree, Keys::Chunks(dims.len() as u64))? {
                    let (len, offsets) = chunk_key(file, &leaf, dims.len())?;
                    let name = format!("{}{offsets:?}", info.name);
                    let info = TensorInfo {
                        name,
                        dtype,
                        shape: dims.clone(),
                    };
                    // A chunk with fewer bytes than its shape was filtered after all.
                    if info.bytes() == Some(len) {
                        self.builder.tensor(leaf.child, len, info)?;
                    }
                }
                Ok(())
            }
            DataLayout::Unread => {
                self.note =
                    Some("datasets with a chunk index of layout version 4 or 5 are kept as bytes");
                Ok(())
            }
        }
    }
}

/// The stored length of a chunk, and the offsets of its first element in the dataset.
fn chunk_key(file: &mut File<'_>, leaf: &Leaf, rank: usize) -> Result<(u64, Vec<u64>)> {
    let mut key = Cursor {
        at: leaf.key,
        end: file.reader.len(),
    };
    let len = file.uint(&mut key, 4)?;
    let _filter_mask = file.uint(&mut key, 4)?;
    let offsets = (0..rank)
        .map(|_| file.uint(&mut key, 8))
        .collect::<Result<_>>()?;
    Ok((len, offsets))
}

#[cfg(test)]
mod tests;
