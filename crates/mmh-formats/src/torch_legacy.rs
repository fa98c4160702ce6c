//! PyTorch before zip: three pickles, the object, the list of storage keys, then each storage.
//!
//! Layout: `_legacy_save` in `torch/serialization.py`. Each storage is its element count as a
//! 64-bit integer, then its elements, in the byte order of the machine that wrote it.

use std::collections::BTreeMap;

use mmh_core::error::shorten;

use crate::container::Container;
use crate::error::{Error, Result};
use crate::layout::{Layout, LayoutBuilder};
use crate::pickle::heap::Value;
use crate::pickle::machine::{Pickle, scan};
use crate::pickle::place_arrays;
use crate::pickle::torch::{Storage, storages};
use crate::read_at::{ReadAt, read_vec};
use crate::reader::Reader;

/// Whether the file begins with the pickled magic number.
#[must_use]
pub fn matches(head: &[u8], _name: &str) -> bool {
    head.first() == Some(&0x80)
        && head
            .windows(MAGIC_OPCODE.len())
            .take(MAGIC_LEN)
            .any(|window| window == MAGIC_OPCODE)
}

/// Whether the file is a tar archive with a name of PyTorch's, the form before this one.
#[must_use]
pub fn matches_tar(head: &[u8], name: &str) -> bool {
    let named = [".pt", ".pth", ".bin", ".pkl"]
        .iter()
        .any(|end| name.ends_with(end));
    named && head.get(257..262) == Some(b"ustar")
}

/// Says that the oldest form, a tar archive, is stored as bytes.
///
/// # Errors
/// None.
pub fn parse_tar(source: &dyn ReadAt) -> Result<Layout> {
    let layout = Layout::bytes(Container::Unknown, source.len());
    Ok(layout.with_note("PyTorch's oldest form, a tar archive, is stored as bytes"))
}

/// Locates the storages.
///
/// # Errors
/// [`Error::Malformed`], [`Error::TooLarge`], [`Error::Io`].
pub fn parse(source: &dyn ReadAt) -> Result<Layout> {
    let head = read_vec(source, 0, source.len().min(MAGIC_LEN as u64))?;
    if !matches(&head, "") {
        return Err(malformed("it does not begin with the magic number"));
    }
    let magic = scan(source, CONTAINER, 0)?;
    let version = scan(source, CONTAINER, magic.end)?;
    if version.root != Value::Int(PROTOCOL_VERSION) {
        return Err(malformed("its protocol version is not 1001"));
    }
    let system = scan(source, CONTAINER, version.end)?;
    if system.heap.item(system.root, "little_endian") == Some(Value::Bool(false)) {
        return Ok(Layout::bytes(CONTAINER, source.len()).with_note("big-endian storages"));
    }
    let object = scan(source, CONTAINER, system.end)?;
    let mut builder = LayoutBuilder::new(CONTAINER, source.len());
    place_arrays(&object, source, 0, "", &mut builder)?;
    let (storages, end) = (storages(&object), object.end);
    drop(object);
    let keys = scan(source, CONTAINER, end)?;
    place(source, storages, &keys, &mut builder)?;
    builder.finish()
}

/// Places the storages in the order of the list of keys, behind which they lie.
fn place(
    source: &dyn ReadAt,
    mut storages: BTreeMap<String, Storage>,
    keys: &Pickle,
    builder: &mut LayoutBuilder,
) -> Result<()> {
    let listed = keys.heap.elements(keys.root);
    let listed = listed.ok_or_else(|| malformed("its list of storages is none"))?;
    let mut reader = Reader::new(source, CONTAINER);
    let mut at = keys.end;
    for &key in listed {
        let key = keys
            .heap
            .text(key)
            .ok_or_else(|| malformed("a storage key is no text"))?;
        let Some(storage) = storages.remove(key) else {
            return Err(malformed(&format!(
                "nothing is known of storage `{}`",
                shorten(key)
            )));
        };
        if reader.u64(at)? != storage.n_elements {
            let what = format!("storage `{}` has another length than claimed", shorten(key));
            return Err(malformed(&what));
        }
        let len = storage
            .bytes()
            .ok_or_else(|| malformed("a storage of impossible size"))?;
        storage.place(builder, at + 8, len)?;
        at = reader.end(at + 8, len)?;
    }
    Ok(())
}

fn malformed(reason: &str) -> Error {
    Error::malformed(CONTAINER, reason)
}

const CONTAINER: Container = Container::TorchLegacy;
/// The magic number stands within so many bytes.
const MAGIC_LEN: usize = 32;
/// LONG1 with the ten bytes of 0x1950a86a20f9469cfc6c.
const MAGIC_OPCODE: [u8; 12] = [
    0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19,
];
/// The only version there ever was.
const PROTOCOL_VERSION: i64 = 1001;
