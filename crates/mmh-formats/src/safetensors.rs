//! safetensors: a length, a JSON header, then the tensors without gaps.
//!
//! Format: the README of the safetensors library; the rules are those that its own reader
//! enforces, and duplicate keys are refused besides.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;

use mmh_core::error::shorten;
use mmh_core::{Dtype, TensorInfo, limits};
use serde::Deserialize;
use serde::de::{
    DeserializeOwned, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use crate::container::Container;
use crate::error::{Error, Result};
use crate::layout::{Layout, LayoutBuilder};
use crate::read_at::{ReadAt, read_stated};

/// Whether the beginning is a plausible length and an opening brace, or the name says so.
#[must_use]
pub fn matches(head: &[u8], name: &str) -> bool {
    let by_head = head.get(8) == Some(&b'{')
        && head
            .first_chunk()
            .is_some_and(|len| (2..=limits::HEADER_LEN_MAX).contains(&u64::from_le_bytes(*len)));
    by_head || name.ends_with(".safetensors")
}

/// Locates the tensors.
///
/// # Errors
/// [`Error::Malformed`] if the header contradicts itself or the file; [`Error::TooLarge`] beyond
/// the limits; [`Error::Io`].
pub fn parse(source: &dyn ReadAt) -> Result<Layout> {
    let (mut header, start) = read_header::<Metadata>(source)?;
    header.tensors.sort_by_key(|(_, entry)| entry.data_offsets);
    place(source, start, header.tensors)
}

/// What the header says: more than a layout holds, which knows no metadata and no empty tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Tensors of known element types in the order of the header, each with the offset of its first
    /// byte in the file.
    pub tensors: Vec<(u64, TensorInfo)>,
    /// The metadata.
    pub metadata: BTreeMap<String, String>,
}

/// Reads the header for somebody who wants to read tensors by name.
///
/// # Errors
/// As [`parse`]; a file that it refuses is refused.
pub fn describe(source: &dyn ReadAt) -> Result<Described> {
    parse(source)?;
    let (header, start) = read_header::<BTreeMap<String, String>>(source)?;
    let known = |(name, entry): (String, Entry)| {
        let (dtype, shape) = (entry.dtype.0?, entry.shape.0);
        Some((
            start + entry.data_offsets.0,
            TensorInfo { name, dtype, shape },
        ))
    };
    Ok(Described {
        tensors: header.tensors.into_iter().filter_map(known).collect(),
        metadata: header.metadata.unwrap_or_default(),
    })
}

/// Reads the header, and says where it ends.
fn read_header<M: DeserializeOwned>(source: &dyn ReadAt) -> Result<(Header<M>, u64)> {
    let len = read_stated(source, CONTAINER, 0, 8)?;
    let len = len
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes));
    if len > limits::HEADER_LEN_MAX {
        return Err(Error::too_large(
            CONTAINER,
            format!("a header of {len} bytes"),
        ));
    }
    let text = read_stated(source, CONTAINER, 8, len)?;
    if text.first() != Some(&b'{') {
        return Err(malformed("the header does not begin with a brace"));
    }
    let header = serde_json::from_slice(&text)
        .map_err(|e| malformed(&format!("header: {}", shorten(&e.to_string()))))?;
    Ok((header, 8 + len))
}

/// Checks that the tensors follow each other from `start` to the end of the file.
fn place(source: &dyn ReadAt, start: u64, tensors: Vec<(String, Entry)>) -> Result<Layout> {
    let mut builder = LayoutBuilder::new(CONTAINER, source.len());
    let mut at = 0;
    let mut n_unknown = 0u64;
    for (
        name,
        Entry {
            dtype,
            shape,
            data_offsets: (begin, end),
        },
    ) in tensors
    {
        if begin != at || end < begin {
            let what = format!("tensor `{}` does not follow the one before", shorten(&name));
            return Err(malformed(&what));
        }
        at = end;
        match dtype.0 {
            Some(dtype) => {
                let info = TensorInfo {
                    name,
                    dtype,
                    shape: shape.0,
                };
                let offset = start.checked_add(begin);
                let offset = offset.ok_or_else(|| malformed("an offset overflows"))?;
                builder.tensor(offset, end - begin, info)?;
            }
            None => n_unknown += 1,
        }
    }
    if start.checked_add(at) != Some(source.len()) {
        return Err(malformed("the tensors do not end where the file ends"));
    }
    let layout = builder.finish()?;
    Ok(match n_unknown {
        0 => layout,
        n => layout.with_note(format!(
            "{n} tensors have an element type that is not known"
        )),
    })
}

fn malformed(reason: &str) -> Error {
    Error::malformed(CONTAINER, reason)
}

fn dtype_of_name(name: &str) -> Option<Dtype> {
    Some(match name {
        "BOOL" => Dtype::Bool,
        "F4" => Dtype::F4,
        "U8" => Dtype::U8,
        "I8" => Dtype::I8,
        "F8_E5M2" => Dtype::F8_E5M2,
        "F8_E4M3" => Dtype::F8_E4M3,
        "F8_E8M0" => Dtype::F8_E8M0,
        "I16" => Dtype::I16,
        "U16" => Dtype::U16,
        "F16" => Dtype::F16,
        "BF16" => Dtype::BF16,
        "I32" => Dtype::I32,
        "U32" => Dtype::U32,
        "F32" => Dtype::F32,
        "C64" => Dtype::C64,
        "F64" => Dtype::F64,
        "I64" => Dtype::I64,
        "U64" => Dtype::U64,
        _ => return None,
    })
}

/// The header: tensors in the order of the text, and what is to become of the metadata.
struct Header<M> {
    tensors: Vec<(String, Entry)>,
    metadata: Option<M>,
}

#[derive(Deserialize)]
struct Entry {
    dtype: KnownDtype,
    shape: Shape,
    data_offsets: (u64, u64),
}

impl<'de, M: Deserialize<'de>> Deserialize<'de> for Header<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor(PhantomData))
    }
}

struct HeaderVisitor<M>(PhantomData<M>);

impl<'de, M: Deserialize<'de>> Visitor<'de> for HeaderVisitor<M> {
    type Value = Header<M>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Header<M>, A::Error> {
        let mut tensors: Vec<(String, Entry)> = Vec::new();
        let mut metadata = None;
        let mut held_len = 0;
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                if metadata.is_some() {
                    return Err(A::Error::custom("metadata given twice"));
                }
                metadata = Some(map.next_value()?);
                continue;
            }
            let entry: Entry = map.next_value()?;
            held_len += size_of_val(&entry) + size_of_val(&name) + name.len();
            held_len += size_of_val(entry.shape.0.as_slice());
            if held_len > HELD_LEN_MAX {
                return Err(A::Error::custom("more tensors than are kept"));
            }
            tensors.push((name, entry));
        }
        let mut names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair.first() == pair.last()) {
            Some(_) => Err(A::Error::custom("a tensor named twice")),
            None => Ok(Header { tensors, metadata }),
        }
    }
}

/// A map of strings to strings, as the library demands; its content is not of interest.
struct Metadata;

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Strings;
        impl<'de> Visitor<'de> for Strings {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Metadata, A::Error> {
                let mut keys = BTreeSet::new();
                let mut held_len = 0;
                while let Some((key, _)) = map.next_entry::<String, String>()? {
                    held_len += 2 * size_of_val(&key) + key.len();
                    if held_len > HELD_LEN_MAX {
                        return Err(A::Error::custom("more metadata than is kept"));
                    }
                    if !keys.insert(key) {
                        return Err(A::Error::custom("a metadata key given twice"));
                    }
                }
                Ok(Metadata)
            }
        }
        deserializer.deserialize_map(Strings)
    }
}

/// The element type, if it is known.
struct KnownDtype(Option<Dtype>);

impl<'de> Deserialize<'de> for KnownDtype {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Ok(Self(dtype_of_name(&name)))
    }
}

/// Dimensions, at most as many as a tensor may have.
struct Shape(Vec<u64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Dims;
        impl<'de> Visitor<'de> for Dims {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {} dimensions", limits::TENSOR_RANK_MAX)
            }

            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> std::result::Result<Shape, A::Error> {
                let mut dims = Vec::new();
                while dims.len() < limits::TENSOR_RANK_MAX {
                    match seq.next_element()? {
                        Some(dim) => dims.push(dim),
                        None => {
                            dims.shrink_to_fit();
                            return Ok(Shape(dims));
                        }
                    }
                }
                match seq.next_element::<IgnoredAny>()? {
                    None => Ok(Shape(dims)),
                    Some(_) => Err(A::Error::custom("too many dimensions")),
                }
            }
        }
        deserializer.deserialize_seq(Dims)
    }
}

const CONTAINER: Container = Container::Safetensors;
/// Most bytes of memory for the tensors, or the metadata, of a header, beside the header itself.
const HELD_LEN_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hostile::attack;
    use crate::samples::safetensors::{file, with_header};
    use crate::samples::strategy::tensors;
    use crate::samples::{SampleTensor, assert_holds};

    /// The header's entries for a file with 8 bytes of data.
    fn parsed(header: &str) -> Result<Layout> {
        parse(&with_header(header, &[0; 8]))
    }

    const GOOD: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;

    #[test]
    fn recognised_by_its_head_or_its_name() {
        let sample = file(&[SampleTensor::new("a", Dtype::U8, &[1])]);
        assert!(matches(&sample, ""));
        assert!(matches(b"", "model.safetensors"));
        assert!(!matches(b"\x01\0\0\0\0\0\0\0{", ""), "a header of one byte");
        assert!(!matches(b"\xff\xff\xff\xff\xff\xff\xff\xff{", ""));
        assert!(!matches(&sample[..8], ""));
    }

    #[test]
    fn a_description_has_metadata_and_empty_tensors() {
        let header = r#"{"__metadata__":{"format":"pt","é":""},
            "b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
            "e":{"dtype":"U8","shape":[3,0],"data_offsets":[8,8]},
            "new":{"dtype":"Q9","shape":[],"data_offsets":[8,8]},
            "a":{"dtype":"I8","shape":[],"data_offsets":[8,9]}}"#;
        let described = describe(&with_header(header, &[0; 9])).unwrap();
        let start = 8 + header.len() as u64;
        let found: Vec<_> = (described.tensors.iter())
            .map(|(offset, info)| (info.name.as_str(), *offset - start, info.shape.as_slice()))
            .collect();
        assert_eq!(
            found,
            [("b", 0, &[2][..]), ("e", 8, &[3, 0]), ("a", 8, &[])]
        );
        assert_eq!(described.metadata["format"], "pt");
        assert_eq!(described.metadata["é"], "");
        assert!(describe(&with_header(header, &[0; 8])).is_err());
        let plain = describe(&with_header(GOOD, &[0; 8])).unwrap();
        assert!(plain.metadata.is_empty() && plain.tensors.len() == 1);
    }

    #[test]
    fn spaces_behind_the_header_and_fields_of_the_future_are_allowed() {
        assert!(parsed(GOOD).is_ok());
        assert!(parsed(&format!("{GOOD}   ")).is_ok());
        assert!(parsed(&GOOD.replace("[0,8]", r#"[0,8],"new":[1,{"x":null}]"#)).is_ok());
        assert!(
            parsed(&GOOD.replace('{', " {")).is_err(),
            "must begin with a brace"
        );
    }

    #[test]
    fn tensors_may_be_listed_in_any_order_and_be_empty() {
        let header = r#"{
            "b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},
            "none":{"dtype":"F32","shape":[0,7],"data_offsets":[4,4]},
            "a":{"dtype":"I16","shape":[1,2],"data_offsets":[0,4]}}"#;
        let layout = parsed(header.trim_start()).unwrap();
        let names: Vec<&str> = layout
            .tensors()
            .map(|(_, info)| info.name.as_str())
            .collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn what_the_library_refuses_is_refused() {
        let entry = |offsets: &str| GOOD.replace("[0,8]", offsets);
        let two = |first: &str, second: &str| {
            format!(
                r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":{first}}},
                "b":{{"dtype":"U8","shape":[4],"data_offsets":{second}}}}}"#
            )
        };
        assert!(parsed(&two("[0,4]", "[4,8]")).is_ok());
        let cases = [
            entry("[0,7]"),
            entry("[0,9]"),
            entry("[8,0]"),
            entry("[1,9]"),
            entry("[0,18446744073709551615]"),
            entry("[0,18446744073709551616]"),
            entry("[-1,7]"),
            entry("[0,8,9]"),
            entry("[0]"),
            entry("null"),
            two("[0,4]", "[3,7]"),
            two("[0,4]", "[5,9]"),
            two("[0,4]", "[0,4]"),
            two("[0,4]", "[4,8]").replace("\"b\"", "\"a\""),
            GOOD.replace("[2]", "[3]"),
            GOOD.replace("[2]", "[18446744073709551615,4]"),
            GOOD.replace("[2]", "[-2]"),
            GOOD.replace("[2]", "[2.0]"),
            GOOD.replace("[2]", "2"),
            GOOD.replace("\"F32\"", "32"),
            GOOD.replace("\"dtype\":\"F32\",", ""),
            GOOD.replace("\"shape\":[2],", ""),
            GOOD.replace("\"shape\":[2]", "\"shape\":[2],\"shape\":[2]"),
            format!("{GOOD}x"),
            GOOD.replace("}}", "}"),
            "{}".to_owned(),
            "[]".to_owned(),
            String::new(),
        ];
        for header in cases {
            assert!(
                matches!(parsed(&header), Err(Error::Malformed { .. })),
                "{header}"
            );
        }
    }

    #[test]
    fn metadata_is_one_map_of_strings() {
        let with = |metadata: &str| {
            parsed(&GOOD.replacen('{', &format!("{{\"__metadata__\":{metadata},"), 1))
        };
        assert!(with(r#"{"format":"pt"}"#).is_ok());
        for bad in [
            r#"{"a":1}"#,
            r#"{"a":"b","a":"c"}"#,
            "[]",
            r#"{},"__metadata__":{}"#,
        ] {
            assert!(with(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_unknown_element_type_leaves_bytes_and_a_note() {
        let layout = parsed(&GOOD.replace("F32", "F6_E2M3")).unwrap();
        assert_eq!(layout.tensors().count(), 0);
        assert!(layout.note().unwrap().contains("1 tensors"));
        // Block types of other containers are unknown here.
        assert_eq!(dtype_of_name("Q4_K"), None);
    }

    #[test]
    fn every_element_type_of_the_library_has_its_size() {
        for (name, bits) in [
            ("BOOL", 8),
            ("F4", 4),
            ("U8", 8),
            ("I8", 8),
            ("F8_E5M2", 8),
            ("F8_E4M3", 8),
            ("F8_E8M0", 8),
            ("I16", 16),
            ("U16", 16),
            ("F16", 16),
            ("BF16", 16),
            ("I32", 32),
            ("U32", 32),
            ("F32", 32),
            ("F64", 64),
            ("I64", 64),
            ("U64", 64),
            ("C64", 64),
        ] {
            let n = 64 / bits;
            let header = GOOD.replace("F32", name).replace("[2]", &format!("[{n}]"));
            assert_eq!(parsed(&header).unwrap().tensors().count(), 1, "{name}");
        }
    }

    #[test]
    fn limits_hold_before_anything_is_kept() {
        let long = (limits::HEADER_LEN_MAX + 1).to_le_bytes().to_vec();
        assert!(matches!(parse(&long), Err(Error::TooLarge { .. })));
        let lying = 1000u64.to_le_bytes().to_vec();
        assert!(matches!(parse(&lying), Err(Error::Malformed { .. })));
        let dims = vec!["1"; limits::TENSOR_RANK_MAX + 1].join(",");
        assert!(parsed(&GOOD.replace("[2]", &format!("[{dims}]"))).is_err());
        let name = "n".repeat(limits::TENSOR_NAME_LEN_MAX + 1);
        let result = parsed(&GOOD.replace("\"a\"", &format!("\"{name}\"")));
        assert!(matches!(result, Err(Error::TooLarge { .. })));
        // Each of many takes more memory than text.
        let entry =
            |i: u32| format!(r#""{i}":{{"dtype":"U8","shape":[],"data_offsets":[{i},{i}]}}"#);
        let tensors: Vec<String> = (0..700_000).map(entry).collect();
        assert!(parsed(&format!("{{{}}}", tensors.join(","))).is_err());
        let keys: Vec<String> = (0..1_400_000).map(|i| format!(r#""{i}":"""#)).collect();
        let with_keys = GOOD.replacen(
            '{',
            &format!("{{\"__metadata__\":{{{}}},", keys.join(",")),
            1,
        );
        let Err(error) = parsed(&with_keys) else {
            panic!("accepted")
        };
        assert!(error.to_string().contains("more metadata"), "{error}");
        let deep = GOOD.replace("[2]", &"[".repeat(100_000));
        assert!(matches!(parsed(&deep), Err(Error::Malformed { .. })));
    }

    const DTYPES: &[Dtype] = &[
        Dtype::U8,
        Dtype::BF16,
        Dtype::F32,
        Dtype::F64,
        Dtype::F8_E4M3,
    ];

    proptest! {
        #[test]
        fn holds_what_was_written(tensors in tensors(DTYPES)) {
            prop_assume!(!tensors.is_empty());
            let file = file(&tensors);
            assert_holds(&parse(&file).unwrap(), &file, &tensors);
        }
    }

    #[test]
    fn hostile_files_tile_or_err() {
        let tensors = [
            SampleTensor::new("a", Dtype::F32, &[2, 2]),
            SampleTensor::new("b", Dtype::U8, &[3]),
        ];
        attack(parse, &file(&tensors), 3000);
    }

    /// Whatever is described can be read, and is what the layout says, empty tensors aside.
    #[test]
    fn hostile_files_are_described_as_they_are_parsed() {
        fn both(source: &dyn ReadAt) -> Result<Layout> {
            let layout = parse(source);
            let described = describe(source);
            assert_eq!(layout.is_ok(), described.is_ok());
            for (offset, info) in described?.tensors {
                let end = offset.checked_add(info.bytes().unwrap()).unwrap();
                assert!(end <= source.len(), "{info:?}");
            }
            layout
        }
        let tensors = [
            SampleTensor::new("a", Dtype::F32, &[2, 2]),
            SampleTensor::new("b", Dtype::U8, &[3]),
        ];
        attack(both, &file(&tensors), 1000);
    }
}
