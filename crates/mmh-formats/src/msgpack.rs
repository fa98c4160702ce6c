//! MessagePack with arrays inside: flax checkpoints and the models of spaCy and thinc.
//!
//! Specification: `spec.md` of MessagePack. Flax keeps an array as extension type 1 that holds
//! (shape, type name, bytes); msgpack-numpy keeps it as a map with the key `nd`. Everything else
//! is walked over: text and binary data are skipped by their length, never read.

use std::ops::Range;

use mmh_core::{Dtype, TensorInfo, limits};

use crate::container::Container;
use crate::error::Result;
use crate::layout::{Layout, LayoutBuilder};
use crate::read_at::ReadAt;
use crate::reader::Reader;

/// Deepest nesting of maps, arrays and extensions.
const DEPTH_MAX: u32 = 64;
/// Most values read from one file.
const VALUES_MAX: u64 = 1 << 25;
/// Longest key or type name that is looked at, in bytes.
const TEXT_LEN_MAX: u64 = 256;
/// Flax's extension types for an array and for a numpy scalar.
const FLAX_TYPES: [u8; 2] = [1, 3];

/// Whether a file that begins with `head` may be MessagePack: a map with a text key first, which
/// is not valid UTF-8 and so never the beginning of a text.
#[must_use]
pub fn matches(head: &[u8], _name: &str) -> bool {
    let ([0x81..=0x8f, key @ ..] | [0xde, _, _, key @ ..] | [0xdf, _, _, _, _, key @ ..]) = head
    else {
        return false;
    };
    let (len, text) = match key {
        [fixed @ 0xa1..=0xbf, text @ ..] => (fixed & 0x1f, text),
        [0xd9 | 0xc4, len @ 1..=0xff, text @ ..] => (*len, text),
        _ => return false,
    };
    text.get(..usize::from(len))
        .is_some_and(|key| key.iter().all(|b| (0x20..0x7f).contains(b)))
}

/// Locates the arrays of a MessagePack file.
///
/// # Errors
/// [`crate::Error::Malformed`] if it is not exactly one value or an array contradicts itself,
/// [`crate::Error::TooLarge`] beyond limits, [`crate::Error::Io`] if it cannot be read.
pub fn parse(source: &dyn ReadAt) -> Result<Layout> {
    let mut walk = Walk {
        reader: Reader::new(source, Container::Msgpack),
        builder: LayoutBuilder::new(Container::Msgpack, source.len()),
        at: 0,
        end: source.len(),
        depth: 0,
        n_values: 0,
        path: String::new(),
    };
    walk.value()?;
    if walk.at != walk.end {
        return Err(walk
            .reader
            .malformed(format!("the value ends at {}", walk.at)));
    }
    walk.builder.finish()
}

struct Walk<'a> {
    reader: Reader<'a>,
    builder: LayoutBuilder,
    at: u64,
    /// Where the extension that is being walked, or the file, ends.
    end: u64,
    depth: u32,
    n_values: u64,
    /// Keys and positions down to the value at hand, joined by dots.
    path: String,
}

/// What the first bytes of a value say.
enum Head {
    Bool(bool),
    Int(u64),
    /// Nil, floats, negative integers.
    Other,
    Text(Range<u64>),
    Bin(Range<u64>),
    Array(u64),
    Map(u64),
    Ext(u8, Range<u64>),
}

/// What is kept of a value by whoever asked for it.
#[derive(Debug, Default)]
enum Found {
    True,
    Int(u64),
    Data(Range<u64>),
    /// An array of non-negative integers, such as a shape.
    Ints(Vec<u64>),
    #[default]
    Other,
}

/// The parts of a map that msgpack-numpy writes for an array.
#[derive(Default)]
struct NumpyMap {
    nd: Found,
    kind: Found,
    type_name: Found,
    shape: Found,
    data: Found,
}

impl Walk<'_> {
    fn value(&mut self) -> Result<Found> {
        self.n_values += 1;
        if self.n_values > VALUES_MAX {
            return Err(self.reader.too_large("too many values"));
        }
        Ok(match self.head()? {
            Head::Bool(true) => Found::True,
            Head::Int(value) => Found::Int(value),
            Head::Bool(false) | Head::Other => Found::Other,
            Head::Text(range) | Head::Bin(range) => Found::Data(range),
            Head::Array(n) => self.nested(|walk| walk.array(n))?,
            Head::Map(n) => self.nested(|walk| walk.map(n))?,
            Head::Ext(kind, range) if FLAX_TYPES.contains(&kind) => {
                self.nested(|walk| walk.flax(range))?
            }
            Head::Ext(..) => Found::Other,
        })
    }

    fn nested(&mut self, inner: impl FnOnce(&mut Self) -> Result<Found>) -> Result<Found> {
        if self.depth >= DEPTH_MAX {
            return Err(self.reader.too_large("values nested too deep"));
        }
        self.depth += 1;
        let path_len = self.path.len();
        let found = inner(self);
        self.path.truncate(path_len);
        self.depth -= 1;
        found
    }

    /// Extends the path by one component for the next value. Paths that grow beyond a tensor's
    /// name are cut short, which costs a name its end and nothing else.
    fn descend(&mut self, path_len: usize, component: &str) {
        self.path.truncate(path_len);
        if path_len + component.len() < limits::TENSOR_NAME_LEN_MAX {
            if path_len > 0 {
                self.path.push('.');
            }
            self.path.push_str(component);
        }
    }

    fn array(&mut self, n: u64) -> Result<Found> {
        let path_len = self.path.len();
        let mut ints = Some(Vec::new());
        for i in 0..n {
            // Only what has something below it needs a path.
            if self.at < self.end && !matches!(self.reader.u8(self.at)?, 0x00..=0x7f | 0xc0..=0xc3)
            {
                self.descend(path_len, &i.to_string());
            }
            let value = self.value()?;
            ints = match (ints, value) {
                (Some(mut ints), Found::Int(value)) if ints.len() < limits::TENSOR_RANK_MAX => {
                    ints.push(value);
                    Some(ints)
                }
                _ => None,
            };
        }
        Ok(ints.map_or(Found::Other, Found::Ints))
    }

    fn map(&mut self, n: u64) -> Result<Found> {
        let path_len = self.path.len();
        let mut numpy = NumpyMap::default();
        for i in 0..n {
            let key = match self.value()? {
                Found::Data(range) => self.short_text(&range)?,
                Found::Int(key) => key.to_string(),
                _ => i.to_string(),
            };
            self.descend(path_len, &key);
            let value = self.value()?;
            match key.as_str() {
                "nd" => numpy.nd = value,
                "kind" => numpy.kind = value,
                "type" => numpy.type_name = value,
                "shape" => numpy.shape = value,
                "data" => numpy.data = value,
                _ => {}
            }
        }
        self.path.truncate(path_len);
        self.numpy_array(numpy)?;
        Ok(Found::Other)
    }

    /// A map `{nd: true, type: "<f4", kind: "", shape: […], data: …}` is an array. A big-endian
    /// or structured one stays bytes.
    fn numpy_array(&mut self, map: NumpyMap) -> Result<()> {
        let (Found::True, Found::Data(type_name), Found::Ints(shape), Found::Data(data)) =
            (map.nd, map.type_name, map.shape, map.data)
        else {
            return Ok(());
        };
        if matches!(map.kind, Found::Data(kind) if kind.start != kind.end) {
            return Ok(());
        }
        let type_name = self.short_text(&type_name)?;
        let Some(dtype) = numpy_dtype(&type_name) else {
            return Ok(());
        };
        self.place(dtype, shape, &data)
    }

    /// The payload of flax's extension: an array of shape, type name and bytes.
    fn flax(&mut self, range: Range<u64>) -> Result<Found> {
        let outer_end = std::mem::replace(&mut self.end, range.end);
        self.at = range.start;
        let Head::Array(3) = self.head()? else {
            return Err(self
                .reader
                .malformed(format!("no array at {}", range.start)));
        };
        let (shape, type_name, data) = (self.value()?, self.value()?, self.value()?);
        if self.at != range.end {
            return Err(self
                .reader
                .malformed(format!("extension at {} not filled", range.start)));
        }
        self.end = outer_end;
        let (Found::Ints(shape), Found::Data(type_name), Found::Data(data)) =
            (shape, type_name, data)
        else {
            return Err(self
                .reader
                .malformed(format!("no shape, type, data at {}", range.start)));
        };
        let type_name = self.short_text(&type_name)?;
        if let Some(dtype) = flax_dtype(&type_name) {
            self.place(dtype, shape, &data)?;
        }
        Ok(Found::Other)
    }

    fn place(&mut self, dtype: Dtype, shape: Vec<u64>, data: &Range<u64>) -> Result<()> {
        let info = TensorInfo {
            name: self.path.clone(),
            dtype,
            shape,
        };
        self.builder.tensor(data.start, data.end - data.start, info)
    }

    /// The beginning of a text or binary value.
    fn short_text(&self, range: &Range<u64>) -> Result<String> {
        let len = (range.end - range.start).min(TEXT_LEN_MAX);
        self.reader.text(range.start, len, TEXT_LEN_MAX)
    }

    fn head(&mut self) -> Result<Head> {
        let tag = self.take(1).and_then(|r| self.reader.u8(r.start))?;
        Ok(match tag {
            0x00..=0x7f => Head::Int(u64::from(tag)),
            0x80..=0x8f => self.map_head(u64::from(tag & 0xf))?,
            0x90..=0x9f => self.array_head(u64::from(tag & 0xf))?,
            0xa0..=0xbf => Head::Text(self.take(u64::from(tag & 0x1f))?),
            0xc0 | 0xe0..=0xff => Head::Other,
            0xc1 => return Err(self.reader.malformed(format!("byte c1 before {}", self.at))),
            0xc2 | 0xc3 => Head::Bool(tag == 0xc3),
            0xc4..=0xc6 => Head::Bin(self.sized(1 << (tag - 0xc4))?),
            0xc7..=0xc9 => {
                let len = self.uint(1 << (tag - 0xc7))?;
                self.ext(len)?
            }
            0xca | 0xd2 => self.skip(4)?,
            0xcb | 0xd3 => self.skip(8)?,
            0xcc..=0xcf => Head::Int(self.uint(1 << (tag - 0xcc))?),
            0xd0 => self.skip(1)?,
            0xd1 => self.skip(2)?,
            0xd4..=0xd8 => self.ext(1 << (tag - 0xd4))?,
            0xd9..=0xdb => Head::Text(self.sized(1 << (tag - 0xd9))?),
            0xdc | 0xdd => {
                let n = self.uint(2 << (tag - 0xdc))?;
                self.array_head(n)?
            }
            0xde | 0xdf => {
                let n = self.uint(2 << (tag - 0xde))?;
                self.map_head(n)?
            }
        })
    }

    /// A count is compared with the bytes that are left: each item has at least one.
    fn array_head(&self, n: u64) -> Result<Head> {
        self.room(n)?;
        Ok(Head::Array(n))
    }

    fn map_head(&self, n: u64) -> Result<Head> {
        self.room(n * 2)?;
        Ok(Head::Map(n))
    }

    fn room(&self, items: u64) -> Result<()> {
        if items > self.end - self.at {
            let what = format!(
                "{items} items at {} in {} bytes",
                self.at,
                self.end - self.at
            );
            return Err(self.reader.malformed(what));
        }
        Ok(())
    }

    fn ext(&mut self, len: u64) -> Result<Head> {
        let kind = self.take(1).and_then(|r| self.reader.u8(r.start))?;
        Ok(Head::Ext(kind, self.take(len)?))
    }

    fn sized(&mut self, width: u8) -> Result<Range<u64>> {
        let len = self.uint(width)?;
        self.take(len)
    }

    fn skip(&mut self, len: u64) -> Result<Head> {
        self.take(len)?;
        Ok(Head::Other)
    }

    /// A big-endian integer of 1, 2, 4 or 8 bytes.
    fn uint(&mut self, width: u8) -> Result<u64> {
        let at = self.take(u64::from(width))?.start;
        let little = self.reader.uint(at, width)?;
        Ok(little.swap_bytes() >> (64 - 8 * u32::from(width)))
    }

    fn take(&mut self, len: u64) -> Result<Range<u64>> {
        let start = self.at;
        let end = start
            .checked_add(len)
            .filter(|&end| end <= self.end)
            .ok_or_else(|| {
                self.reader
                    .malformed(format!("{len} bytes at {start} end behind {}", self.end))
            })?;
        self.at = end;
        Ok(start..end)
    }
}

/// Numpy's type strings; `None` for big-endian and other types.
fn numpy_dtype(name: &str) -> Option<Dtype> {
    let bare = name.strip_prefix(['<', '|', '=']).unwrap_or(name);
    Some(match bare {
        "b1" | "?" => Dtype::Bool,
        "u1" => Dtype::U8,
        "i1" => Dtype::I8,
        "u2" => Dtype::U16,
        "i2" => Dtype::I16,
        "u4" => Dtype::U32,
        "i4" => Dtype::I32,
        "u8" => Dtype::U64,
        "i8" => Dtype::I64,
        "f2" => Dtype::F16,
        "f4" => Dtype::F32,
        "f8" => Dtype::F64,
        "c8" => Dtype::C64,
        "c16" => Dtype::C128,
        _ => return None,
    })
}

/// The names of numpy's and ml_dtypes' types.
fn flax_dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "bool" => Dtype::Bool,
        "uint8" => Dtype::U8,
        "int8" => Dtype::I8,
        "uint16" => Dtype::U16,
        "int16" => Dtype::I16,
        "uint32" => Dtype::U32,
        "int32" => Dtype::I32,
        "uint64" => Dtype::U64,
        "int64" => Dtype::I64,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "float32" => Dtype::F32,
        "float64" => Dtype::F64,
        "complex64" => Dtype::C64,
        "complex128" => Dtype::C128,
        "float8_e4m3fn" => Dtype::F8_E4M3,
        "float8_e5m2" => Dtype::F8_E5M2,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::Error;
    use crate::hostile::{attack, fuzz_parser};
    use crate::samples::SampleTensor;
    use crate::samples::msgpack::{flax, thinc};

    fn tensors() -> Vec<SampleTensor> {
        vec![
            SampleTensor::new("params.dense.bias", Dtype::F32, &[3]),
            SampleTensor::new("params.dense.kernel", Dtype::BF16, &[4, 3]),
            SampleTensor::new("step", Dtype::I64, &[]),
        ]
    }

    #[test]
    fn flax_arrays_are_found_with_their_paths() {
        let file = flax(&tensors());
        assert!(matches(&file, "flax_model.msgpack"));
        let layout = parse(&file).unwrap();
        assert_eq!(layout.container(), Container::Msgpack);
        crate::samples::assert_holds(&layout, &file, &tensors());
    }

    #[test]
    fn numpy_maps_are_found_with_their_paths() {
        let tensors = [
            SampleTensor::new("params.0.W", Dtype::F32, &[3, 5]),
            SampleTensor::new("params.0.b", Dtype::F32, &[300]),
        ];
        let file = thinc(&tensors);
        assert!(matches(&file, "model"));
        crate::samples::assert_holds(&parse(&file).unwrap(), &file, &tensors);
    }

    #[test]
    fn big_endian_and_structured_arrays_stay_bytes() {
        let tensors = [SampleTensor::new("params.0.W", Dtype::F32, &[2])];
        let mut file = thinc(&tensors);
        let at = file.windows(3).position(|w| w == b"<f4").unwrap();
        file[at] = b'>';
        assert_eq!(parse(&file).unwrap().tensors().count(), 0);
    }

    #[test]
    fn large_arrays_in_chunks_are_one_part_each() {
        let tensors = [
            SampleTensor::new("w.chunks.0", Dtype::F32, &[4]),
            SampleTensor::new("w.chunks.1", Dtype::F32, &[2]),
        ];
        let file = flax(&tensors);
        crate::samples::assert_holds(&parse(&file).unwrap(), &file, &tensors);
    }

    #[test]
    fn every_kind_of_value_is_walked_over() {
        let mut file = vec![0x81, 0xa1, b'k', 0xdc, 0, 19];
        file.extend([0xc0, 0xc2, 0xc3, 0xe0, 0xcc, 1, 0xd0, 1]);
        file.extend([0xcd, 0, 1, 0xd1, 0, 1, 0xce, 0, 0, 0, 1, 0xd2, 0, 0, 0, 1]);
        file.extend([
            0xca, 0, 0, 0, 0, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0, 0xd3, 0, 0, 0, 0, 0, 0, 0, 0,
        ]);
        file.extend([
            0xcf, 0, 0, 0, 0, 0, 0, 0, 0, 0xc5, 0, 1, 9, 0xda, 0, 1, b'x',
        ]);
        file.extend([0xd4, 9, 9, 0xc7, 1, 9, 9, 0xdf, 0, 0, 0, 0]);
        let layout = parse(&file).unwrap();
        assert_eq!((layout.tensors().count(), layout.parts().len()), (0, 1));
    }

    #[test]
    fn lies_are_refused() {
        for bad in [
            &b"\x81\xa1k\xdd\xff\xff\xff\xff"[..],
            b"\x81\xa1k\xc6\xff\xff\xff\xff",
            b"\x81\xa1k\xc1",
            b"\x81\xa1k\xc0\xc0",
            b"\x81\xa1k\xd4\x01\xc0",
            b"",
        ] {
            let error = parse(&bad.to_vec()).unwrap_err();
            assert!(matches!(error, Error::Malformed { .. }), "{bad:?}");
        }
        assert!(matches!(
            parse(&vec![0x91; 100]),
            Err(Error::TooLarge { .. })
        ));
    }

    #[test]
    fn text_and_others_do_not_match() {
        for head in [
            &b"{\"a\":1}"[..],
            b"\x80",
            b"\x81\x01",
            b"\x81\xa2a\0",
            b"\xdf\0\0",
        ] {
            assert!(!matches(head, "x.msgpack"), "{head:?}");
        }
    }

    #[test]
    fn withstands_bad_input() {
        attack(parse, &flax(&tensors()), 4000);
        attack(
            parse,
            &thinc(&[SampleTensor::new("params.0.W", Dtype::F32, &[3])]),
            4000,
        );
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            fuzz_parser(parse, &bytes);
        }
    }
}
