//! CTranslate2 `model.bin`: a plain sequence of named arrays.
//!
//! Specification: the serialisation in `model_spec.py` of the CTranslate2 project, whose binary
//! versions 2 to 6 are read. Lengths are 32-bit, strings end with a NUL that their length counts.

use mmh_core::{Dtype, TensorInfo, limits};

use crate::container::Container;
use crate::error::Result;
use crate::layout::{Layout, LayoutBuilder};
use crate::read_at::ReadAt;
use crate::reader::Reader;

/// Binary versions whose layout is known.
const VERSIONS: std::ops::RangeInclusive<u32> = 2..=6;
/// The first version that states element types instead of widths.
const TYPED_SINCE: u32 = 4;

/// Whether a file that begins with `head` may be such a model: a known version and the name of
/// a specification, printable and NUL-terminated.
#[must_use]
pub fn matches(head: &[u8], _name: &str) -> bool {
    let Some((version, rest)) = head.split_first_chunk::<4>() else {
        return false;
    };
    let Some((len, rest)) = rest.split_first_chunk::<2>() else {
        return false;
    };
    let len = usize::from(u16::from_le_bytes(*len));
    let spec = rest.get(..len).and_then(<[u8]>::split_last);
    VERSIONS.contains(&u32::from_le_bytes(*version))
        && spec.is_some_and(|(&nul, name)| {
            nul == 0 && !name.is_empty() && name.iter().all(u8::is_ascii_alphanumeric)
        })
}

/// Locates the variables of a model.
///
/// # Errors
/// [`crate::Error::Malformed`] if the file contradicts itself, [`crate::Error::TooLarge`] beyond
/// limits, [`crate::Error::Io`] if it cannot be read.
pub fn parse(source: &dyn ReadAt) -> Result<Layout> {
    let mut reader = Reader::new(source, Container::Ctranslate2);
    let mut builder = LayoutBuilder::new(Container::Ctranslate2, source.len());
    let version = reader.u32(0)?;
    if !VERSIONS.contains(&version) {
        return Err(reader.malformed(format!("binary version {version}")));
    }
    let mut at = 4;
    let _spec = string(&mut reader, &mut at)?;
    at += 4; // revision of the specification
    let n_variables = reader.u32(at)?;
    at += 4;
    for _ in 0..n_variables {
        variable(&mut reader, &mut at, version, &mut builder)?;
    }
    builder.finish()
}

fn variable(
    reader: &mut Reader<'_>,
    at: &mut u64,
    version: u32,
    builder: &mut LayoutBuilder,
) -> Result<()> {
    let name = string(reader, at)?;
    let rank = reader.u8(*at)?;
    *at += 1;
    if usize::from(rank) > limits::TENSOR_RANK_MAX {
        return Err(reader.too_large(format!("rank {rank} at {at}")));
    }
    let mut shape = Vec::new();
    for _ in 0..rank {
        shape.push(u64::from(reader.u32(*at)?));
        *at += 4;
    }
    let code = reader.u8(*at)?;
    let count = u64::from(reader.u32(*at + 1)?);
    *at += 5;
    let (dtype, len) = if version >= TYPED_SINCE {
        (dtype(code), count)
    } else {
        (dtype_of_width(code), count * u64::from(code))
    };
    let dtype = dtype.ok_or_else(|| reader.malformed(format!("element type {code} at {at}")))?;
    let end = reader.end(*at, len)?;
    builder.tensor(*at, len, TensorInfo { name, dtype, shape })?;
    *at = end;
    Ok(())
}

/// A 16-bit length and as many bytes, the last of them NUL.
fn string(reader: &mut Reader<'_>, at: &mut u64) -> Result<String> {
    let start = *at;
    let len = u64::from(reader.u16(start)?);
    let mut text = reader.text(start + 2, len, limits::TENSOR_NAME_LEN_MAX as u64)?;
    if text.pop() != Some('\0') {
        return Err(reader.malformed(format!("string at {start} without its NUL")));
    }
    *at = start + 2 + len;
    Ok(text)
}

/// `DataType` since version 4.
fn dtype(code: u8) -> Option<Dtype> {
    Some(match code {
        0 => Dtype::F32,
        1 => Dtype::I8,
        2 => Dtype::I16,
        3 => Dtype::I32,
        4 => Dtype::F16,
        5 => Dtype::BF16,
        _ => return None,
    })
}

/// Before version 4 only the width was written, and one type of each width was in use.
fn dtype_of_width(width: u8) -> Option<Dtype> {
    Some(match width {
        1 => Dtype::I8,
        2 => Dtype::I16,
        4 => Dtype::F32,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::hostile::attack;
    use crate::samples::SampleTensor;
    use crate::samples::ctranslate2::model;

    fn tensors() -> Vec<SampleTensor> {
        vec![
            SampleTensor::new("decoder/embeddings/weight", Dtype::F16, &[4, 3]),
            SampleTensor::new("decoder/layer_0/bias", Dtype::F32, &[5]),
            SampleTensor::new("decoder/scale", Dtype::I16, &[]),
        ]
    }

    #[test]
    fn every_variable_is_found() {
        let file = model(&tensors());
        assert!(matches(&file, "model.bin"));
        let layout = parse(&file).unwrap();
        assert_eq!(layout.container(), Container::Ctranslate2);
        crate::samples::assert_holds(&layout, &file, &tensors());
    }

    /// Before version 4: width and number of elements instead of type and bytes.
    #[test]
    fn old_versions_state_widths() {
        let mut file = vec![3, 0, 0, 0, 2, 0, b'S', 0, 1, 0, 0, 0, 1, 0, 0, 0];
        file.extend([2, 0, b'w', 0, 1, 3, 0, 0, 0, 4, 3, 0, 0, 0]);
        file.extend([9; 12]);
        let layout = parse(&file).unwrap();
        let (part, info) = layout.tensors().next().unwrap();
        assert_eq!((part.offset, part.len, info.dtype), (30, 12, Dtype::F32));
    }

    #[test]
    fn another_file_is_refused() {
        let mut file = model(&tensors());
        assert!(!matches(b"\x06\0\0\0\x02\0 \0", ""));
        assert!(!matches(b"\x06\0\0", ""));
        file[0] = 7;
        assert!(!matches(&file, "model.bin"));
        assert!(matches!(parse(&file), Err(Error::Malformed { .. })));
    }

    #[test]
    fn withstands_bad_input() {
        attack(parse, &model(&tensors()), 4000);
    }
}
