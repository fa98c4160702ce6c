//! GGUF: metadata, a table of tensors, then their blocks, each aligned.
//!
//! Format: `docs/gguf.md` of ggml; block types: `ggml.h`. Versions 2 and 3 in little-endian
//! order; other files are bytes with a note.

use mmh_core::error::shorten;
use mmh_core::{Dtype, TensorInfo, limits};

use crate::container::Container;
use crate::error::{Error, Result};
use crate::layout::{Layout, LayoutBuilder};
use crate::read_at::ReadAt;
use crate::reader::Reader;

/// Whether the beginning is the magic number.
#[must_use]
pub fn matches(head: &[u8], _name: &str) -> bool {
    head.starts_with(b"GGUF")
}

/// Locates the tensors.
///
/// # Errors
/// [`Error::Malformed`] if the header contradicts itself or the file; [`Error::TooLarge`] beyond
/// the limits; [`Error::Io`].
pub fn parse(source: &dyn ReadAt) -> Result<Layout> {
    let mut header = Header {
        reader: Reader::new(source, CONTAINER),
        at: 0,
    };
    if header.bytes::<4>()? != *b"GGUF" {
        return Err(Error::malformed(CONTAINER, "no magic number"));
    }
    let note = match header.u32()? {
        2 | 3 => None,
        1 => Some("GGUF version 1 is stored as bytes".to_owned()),
        version if (1..=3).contains(&version.swap_bytes()) => {
            Some("big-endian GGUF is stored as bytes".to_owned())
        }
        version => Some(format!("GGUF version {version} is not known")),
    };
    if let Some(note) = note {
        return Ok(Layout::bytes(CONTAINER, source.len()).with_note(note));
    }
    let n_tensors = header.u64()?;
    if n_tensors > limits::TENSORS_MAX as u64 {
        return Err(Error::too_large(CONTAINER, format!("{n_tensors} tensors")));
    }
    let alignment = header.metadata()?;
    let tensors = header.tensors(n_tensors)?;
    let start = header.at.next_multiple_of(alignment);
    place(source, start, alignment, tensors)
}

struct Tensor {
    name: String,
    ggml_type: u32,
    /// Outermost dimension first.
    shape: Vec<u64>,
    /// From the start of the data.
    offset: u64,
}

fn place(source: &dyn ReadAt, start: u64, alignment: u64, tensors: Vec<Tensor>) -> Result<Layout> {
    let mut builder = LayoutBuilder::new(CONTAINER, source.len());
    let mut n_unknown = 0u64;
    for Tensor {
        name,
        ggml_type,
        shape,
        offset,
    } in tensors
    {
        if !offset.is_multiple_of(alignment) {
            return Err(malformed(&name, "is not aligned"));
        }
        let Some(dtype) = dtype_of_type(ggml_type) else {
            n_unknown += 1;
            continue;
        };
        let Some(offset) = start.checked_add(offset) else {
            return Err(malformed(&name, "lies nowhere"));
        };
        let whole_rows = shape
            .last()
            .is_none_or(|&row| dtype.bytes_for(row).is_some());
        let info = TensorInfo { name, dtype, shape };
        match info.bytes().filter(|_| whole_rows) {
            Some(len) => builder.tensor(offset, len, info)?,
            None => return Err(malformed(&info.name, "does not have whole blocks")),
        }
    }
    let layout = builder.finish()?;
    Ok(match n_unknown {
        0 => layout,
        n => layout.with_note(format!("{n} tensors have a block type that is not known")),
    })
}

fn malformed(name: &str, what: &str) -> Error {
    Error::malformed(CONTAINER, format!("tensor `{}` {what}", shorten(name)))
}

/// A position in the header; all of it must lie within the limit.
struct Header<'a> {
    reader: Reader<'a>,
    at: u64,
}

impl Header<'_> {
    fn advance(&mut self, len: u64) -> Result<u64> {
        let at = self.at;
        self.at = self.reader.end(at, len)?;
        if self.at > limits::HEADER_LEN_MAX {
            return Err(self.reader.too_large("header longer than is read"));
        }
        Ok(at)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let at = self.advance(N as u64)?;
        self.reader.array(at)
    }

    fn u32(&mut self) -> Result<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    /// A string of at most `max` bytes.
    fn text(&mut self, max: u64) -> Result<String> {
        let len = self.u64()?;
        let at = self.advance(len)?;
        self.reader.text(at, len, max)
    }

    /// Goes behind the key-value pairs; returns the alignment, which is one of them.
    fn metadata(&mut self) -> Result<u64> {
        let mut alignment = ALIGNMENT_DEFAULT;
        // Each pair takes bytes, so a lying count ends at the end of the file.
        for _ in 0..self.u64()? {
            let key_len = self.u64()?;
            let key_at = self.advance(key_len)?;
            let is_alignment = key_len == ALIGNMENT_KEY.len() as u64
                && self.reader.bytes(key_at, key_len, key_len)? == ALIGNMENT_KEY;
            let value_type = self.u32()?;
            if is_alignment && value_type == TYPE_U32 {
                alignment = u64::from(self.u32()?);
            } else {
                self.skip_value(value_type, 0)?;
            }
        }
        if !alignment.is_power_of_two() {
            let what = format!("an alignment of {alignment} is no power of two");
            return Err(self.reader.malformed(what));
        }
        Ok(alignment)
    }

    fn skip_value(&mut self, value_type: u32, depth: u32) -> Result<()> {
        let width = match value_type {
            TYPE_STRING => self.u64()?,
            TYPE_ARRAY if depth >= ARRAY_DEPTH_MAX => {
                return Err(self.reader.too_large("arrays nested too deep"));
            }
            TYPE_ARRAY => {
                let (element_type, n) = (self.u32()?, self.u64()?);
                if let Some(width) = width_of_type(element_type) {
                    let len = n.saturating_mul(width);
                    return self.advance(len).map(drop);
                }
                for _ in 0..n {
                    self.skip_value(element_type, depth + 1)?;
                }
                return Ok(());
            }
            _ => width_of_type(value_type)
                .ok_or_else(|| self.reader.malformed(format!("value type {value_type}")))?,
        };
        self.advance(width).map(drop)
    }

    fn tensors(&mut self, n: u64) -> Result<Vec<Tensor>> {
        let mut tensors = Vec::new();
        for _ in 0..n {
            let name = self.text(limits::TENSOR_NAME_LEN_MAX as u64)?;
            let rank = self.u32()?;
            if rank as usize > limits::TENSOR_RANK_MAX {
                return Err(self.reader.too_large(format!("{rank} dimensions")));
            }
            let mut shape = Vec::new();
            for _ in 0..rank {
                shape.push(self.u64()?);
            }
            shape.reverse();
            let (ggml_type, offset) = (self.u32()?, self.u64()?);
            tensors.push(Tensor {
                name,
                ggml_type,
                shape,
                offset,
            });
        }
        Ok(tensors)
    }
}

/// Bytes of a metadata value of fixed width.
fn width_of_type(value_type: u32) -> Option<u64> {
    Some(match value_type {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        TYPE_U32 | 5 | 6 => 4,
        10..=12 => 8,
        _ => return None,
    })
}

fn dtype_of_type(ggml_type: u32) -> Option<Dtype> {
    Some(match ggml_type {
        0 => Dtype::F32,
        1 => Dtype::F16,
        2 => Dtype::Q4_0,
        3 => Dtype::Q4_1,
        6 => Dtype::Q5_0,
        7 => Dtype::Q5_1,
        8 => Dtype::Q8_0,
        9 => Dtype::Q8_1,
        10 => Dtype::Q2_K,
        11 => Dtype::Q3_K,
        12 => Dtype::Q4_K,
        13 => Dtype::Q5_K,
        14 => Dtype::Q6_K,
        15 => Dtype::Q8_K,
        16 => Dtype::IQ2_XXS,
        17 => Dtype::IQ2_XS,
        18 => Dtype::IQ3_XXS,
        19 => Dtype::IQ1_S,
        20 => Dtype::IQ4_NL,
        21 => Dtype::IQ3_S,
        22 => Dtype::IQ2_S,
        23 => Dtype::IQ4_XS,
        24 => Dtype::I8,
        25 => Dtype::I16,
        26 => Dtype::I32,
        27 => Dtype::I64,
        28 => Dtype::F64,
        29 => Dtype::IQ1_M,
        30 => Dtype::BF16,
        34 => Dtype::TQ1_0,
        35 => Dtype::TQ2_0,
        39 => Dtype::MXFP4,
        _ => return None,
    })
}

const CONTAINER: Container = Container::Gguf;
const ALIGNMENT_KEY: &[u8] = b"general.alignment";
const ALIGNMENT_DEFAULT: u64 = 32;
const TYPE_U32: u32 = 4;
const TYPE_STRING: u32 = 8;
const TYPE_ARRAY: u32 = 9;
/// Deepest nesting of metadata arrays; writers use one level.
const ARRAY_DEPTH_MAX: u32 = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hostile::attack;
    use crate::samples::gguf::file;
    use crate::samples::strategy::tensors;
    use crate::samples::{SampleTensor, assert_holds};

    fn tensors_of_each_kind() -> Vec<SampleTensor> {
        vec![
            SampleTensor::new("token_embd.weight", Dtype::Q4_K, &[3, 512]),
            SampleTensor::new("output_norm.weight", Dtype::F32, &[7]),
            SampleTensor::new("blk.0.attn_q.weight", Dtype::Q8_0, &[2, 2, 64]),
        ]
    }

    /// A header of `fields` behind the magic number.
    fn header(fields: &[&[u8]]) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        fields.iter().for_each(|field| out.extend(*field));
        out
    }

    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
    }

    /// One pair whose value is `value`, and one tensor of 4 F32 at `offset` in a data area of 64
    /// bytes.
    fn small(value: &[u8], dims: &[u64], ggml_type: u32, offset: u64) -> Vec<u8> {
        let one = 1u64.to_le_bytes();
        let mut out = header(&[
            &3u32.to_le_bytes(),
            &one,
            &one,
            &text("general.alignment"),
            value,
        ]);
        out.extend(text("t"));
        out.extend(u32::try_from(dims.len()).unwrap().to_le_bytes());
        out.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
        out.extend(ggml_type.to_le_bytes());
        out.extend(offset.to_le_bytes());
        out.resize(out.len().next_multiple_of(32), 0);
        out.resize(out.len() + 64, 7);
        out
    }

    const ALIGNED_32: &[u8] = b"\x04\0\0\0\x20\0\0\0";

    #[test]
    fn dimensions_are_turned_outermost_first() {
        let tensors = tensors_of_each_kind();
        let file = file(&tensors);
        assert!(matches(&file, ""));
        assert_holds(&parse(&file).unwrap(), &file, &tensors);
    }

    #[test]
    fn version_2_is_version_3_and_others_are_bytes_with_a_note() {
        let mut file = file(&tensors_of_each_kind());
        file[4] = 2;
        assert_eq!(parse(&file).unwrap().tensors().count(), 3);
        for (version, word) in [
            (1u32, "version 1"),
            (3u32.swap_bytes(), "big-endian"),
            (4, "version 4"),
            (0, "version 0"),
        ] {
            file[4..8].copy_from_slice(&version.to_le_bytes());
            let layout = parse(&file).unwrap();
            assert_eq!(
                (layout.container(), layout.tensors().count()),
                (CONTAINER, 0)
            );
            assert!(layout.note().unwrap().contains(word), "{:?}", layout.note());
        }
    }

    #[test]
    fn the_small_file_of_these_tests_is_good() {
        let layout = parse(&small(ALIGNED_32, &[4], 0, 32)).unwrap();
        let (part, info) = layout.tensors().next().unwrap();
        assert_eq!(
            (part.offset % 32, part.len, info.shape.as_slice()),
            (0, 16, &[4][..])
        );
    }

    #[test]
    fn tensors_that_do_not_fit_are_refused() {
        for (dims, ggml_type, offset) in [
            (&[4][..], 0, 64),
            (&[4], 0, 31),
            (&[4], 0, u64::MAX - 31),
            (&[17], 0, 0),
            (&[u64::MAX, 4], 0, 0),
            // Four rows of 8 have 32 elements, but no row is a whole block.
            (&[8, 4], 8, 0),
        ] {
            let result = parse(&small(ALIGNED_32, dims, ggml_type, offset));
            assert!(
                matches!(result, Err(Error::Malformed { .. })),
                "{dims:?} {offset}"
            );
        }
    }

    #[test]
    fn an_unknown_block_type_leaves_bytes_and_a_note() {
        for removed in [4, 5, 31, 36, 1000] {
            let layout = parse(&small(ALIGNED_32, &[4], removed, 0)).unwrap();
            assert_eq!(layout.tensors().count(), 0);
            assert!(layout.note().unwrap().contains("block type"));
        }
    }

    #[test]
    fn the_alignment_must_be_a_power_of_two() {
        for bad in [0u32, 3, 33] {
            let value = [&4u32.to_le_bytes()[..], &bad.to_le_bytes()].concat();
            let result = parse(&small(&value, &[4], 0, 0));
            assert!(matches!(result, Err(Error::Malformed { .. })), "{bad}");
        }
        let huge = [&4u32.to_le_bytes()[..], &(1u32 << 31).to_le_bytes()].concat();
        assert!(parse(&small(&huge, &[4], 0, 0)).is_err());
        // An alignment of another type is not one.
        assert!(parse(&small(b"\0\0\0\0\x03", &[4], 0, 0)).is_ok());
    }

    #[test]
    fn metadata_of_every_type_is_passed_over() {
        for (value_type, width) in [
            (0u32, 1),
            (1, 1),
            (2, 2),
            (3, 2),
            (5, 4),
            (6, 4),
            (7, 1),
            (10, 8),
            (11, 8),
            (12, 8),
        ] {
            let value = [&value_type.to_le_bytes()[..], &vec![1; width]].concat();
            assert!(parse(&small(&value, &[4], 0, 0)).is_ok(), "{value_type}");
            let three = [
                b"\x09\0\0\0",
                &value_type.to_le_bytes()[..],
                &3u64.to_le_bytes(),
            ];
            let array = [three.concat(), vec![1; 3 * width]].concat();
            assert!(
                parse(&small(&array, &[4], 0, 0)).is_ok(),
                "array of {value_type}"
            );
        }
        assert!(parse(&small(b"\x0d\0\0\0", &[4], 0, 0)).is_err(), "type 13");
    }

    #[test]
    fn lying_counts_end_at_the_end_of_the_file() {
        let huge = u64::MAX.to_le_bytes();
        let one = 1u64.to_le_bytes();
        let version = 3u32.to_le_bytes();
        let array =
            |element_type: u32| [&b"\x09\0\0\0"[..], &element_type.to_le_bytes(), &huge].concat();
        let cases = [
            header(&[&version, &huge, &one]),
            header(&[&version, &one, &huge]),
            header(&[&version, &one, &one, &huge]),
            small(&array(0), &[4], 0, 0),
            small(&array(8), &[4], 0, 0),
            small(&array(9), &[4], 0, 0),
            small(&[&b"\x08\0\0\0"[..], &huge].concat(), &[4], 0, 0),
            small(ALIGNED_32, &[1; 65], 0, 0),
        ];
        for file in cases {
            assert!(parse(&file).is_err());
        }
        // Arrays within arrays, each holding one more.
        let mut nested = Vec::new();
        for _ in 0..100_000 {
            nested.extend(
                [
                    &b"\x09\0\0\0"[..],
                    if nested.is_empty() { b"" } else { &one },
                ]
                .concat(),
            );
        }
        assert!(matches!(
            parse(&small(&nested, &[4], 0, 0)),
            Err(Error::TooLarge { .. })
        ));
    }

    const DTYPES: &[Dtype] = &[Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::I8, Dtype::F64];

    proptest! {
        #[test]
        fn holds_what_was_written(tensors in tensors(DTYPES)) {
            let file = file(&tensors);
            assert_holds(&parse(&file).unwrap(), &file, &tensors);
        }
    }

    #[test]
    fn hostile_files_tile_or_err() {
        let tensors = [
            SampleTensor::new("a", Dtype::F32, &[2, 2]),
            SampleTensor::new("b", Dtype::I8, &[3]),
        ];
        attack(parse, &file(&tensors), 3000);
    }
}
