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
    place_arrays(&object, 0, "", &mut builder)?;
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

#[cfg(test)]
mod tests {
    use mmh_core::Dtype;
    use proptest::prelude::*;

    use super::*;
    use crate::hostile::attack;
    use crate::samples::strategy::tensors;
    use crate::samples::torch::{legacy, legacy_head};
    use crate::samples::{SampleTensor, assert_holds};

    fn two() -> Vec<SampleTensor> {
        vec![
            SampleTensor::new("a", Dtype::F32, &[2, 2]),
            SampleTensor::new("b", Dtype::U8, &[3]),
        ]
    }

    fn assert_malformed(file: &[u8], word: &str) {
        match parse(&file.to_vec()) {
            Err(Error::Malformed { reason, .. }) => assert!(reason.contains(word), "{reason}"),
            other => panic!("{other:?} where `{word}` was expected"),
        }
    }

    #[test]
    fn the_magic_number_is_found_whatever_the_protocol() {
        assert!(matches(&legacy_head(true), ""));
        let framed = [&b"\x80\x04\x95\x0d\0\0\0\0\0\0\0"[..], &MAGIC_OPCODE].concat();
        assert!(matches(&framed, ""));
        assert!(!matches(b"\x80\x02}.", ""));
        let far = [&[0x80; 40][..], &MAGIC_OPCODE].concat();
        assert!(!matches(&far, ""));
    }

    #[test]
    fn lies_are_malformed() {
        let file = legacy(&two());
        assert_malformed(b"\x80\x02}.", "magic");
        let at = |what: &[u8]| file.windows(what.len()).position(|w| w == what).unwrap();
        let mut version = file.clone();
        version[at(b"M\xe9\x03") + 1] += 1;
        assert_malformed(&version, "protocol version");
        // The element count before the first storage.
        let mut count = file.clone();
        let first = file.len() - (8 + 16 + 8 + 3);
        count[first] += 1;
        assert_malformed(&count, "another length");
        // The list of keys names a storage that no tensor uses.
        let keys = file.windows(4).rposition(|w| w == b"0X\x01\0").unwrap();
        let mut unknown = file.clone();
        unknown[keys] = b'9';
        assert_malformed(&unknown, "storage `9`");
        // The same storage twice.
        let mut twice = file.clone();
        twice[keys + 6] = b'0';
        assert_malformed(&twice, "storage `0`");
        assert_malformed(&file[..file.len() - 1], "");
    }

    #[test]
    fn bytes_behind_the_last_storage_are_bytes() {
        let mut file = legacy(&two());
        file.extend(b"more");
        assert_holds(&parse(&file).unwrap(), &file, &two());
    }

    #[test]
    fn big_endian_storages_are_bytes_with_a_note() {
        let mut file = legacy_head(false);
        file.extend(b"N.].");
        let layout = parse(&file).unwrap();
        assert_eq!(layout.tensors().count(), 0);
        assert!(layout.note().unwrap().contains("big-endian"));
    }

    #[test]
    fn the_tar_form_is_bytes_with_a_note() {
        let mut file = vec![0; 512];
        file[257..262].copy_from_slice(b"ustar");
        let layout = crate::probe(&file, "model.pth").unwrap();
        assert!(layout.note().unwrap().contains("tar"));
        assert!(crate::probe(&file, "backup.tar").unwrap().note().is_none());
    }

    const DTYPES: &[Dtype] = &[Dtype::F32, Dtype::BF16, Dtype::I64, Dtype::Bool, Dtype::F64];

    proptest! {
        #[test]
        fn holds_what_was_written(tensors in tensors(DTYPES)) {
            let file = legacy(&tensors);
            assert_holds(&parse(&file).unwrap(), &file, &tensors);
        }
    }

    #[test]
    fn hostile_files_tile_or_err() {
        attack(parse, &legacy(&two()), 3000);
    }
}
