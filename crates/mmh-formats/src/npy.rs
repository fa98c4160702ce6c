//! npy: one numpy array behind a header that is a Python literal.
//!
//! Format: `numpy/lib/format.py`, versions 1 to 3. An array of objects is a pickle; arrays of
//! structures and big-endian numbers are bytes.

use mmh_core::{TensorInfo, limits};

use crate::container::Container;
use crate::error::{Error, Result};
use crate::layout::{Layout, LayoutBuilder};
use crate::pickle::machine::scan;
use crate::pickle::numpy::{Kind, kind_of_code};
use crate::pickle::{place_arrays, place_blobs, with_encoded};
use crate::read_at::{ReadAt, read_stated};

/// Whether the beginning is the magic string.
#[must_use]
pub fn matches(head: &[u8], _name: &str) -> bool {
    head.starts_with(MAGIC)
}

/// Locates the array, or the arrays in the pickle of an object array. An array in Fortran order
/// gets its dimensions reversed, as its elements lie in the file, and a note.
///
/// # Errors
/// [`Error::Malformed`] if the header contradicts itself or the file; [`Error::TooLarge`] beyond
/// the limits; [`Error::Io`].
pub fn parse(source: &dyn ReadAt) -> Result<Layout> {
    let (header, start) = read_header(source)?;
    let mut builder = LayoutBuilder::new(CONTAINER, source.len());
    let Header {
        kind,
        fortran,
        mut shape,
    } = header;
    let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
    let len = elements
        .zip(kind)
        .and_then(|(n, kind)| n.checked_mul(kind.width()));
    if kind.is_some() && len.is_none_or(|len| source.len() - start < len) {
        return Err(malformed("the array does not lie within the file"));
    }
    let note = match (kind, len) {
        (Some(Kind::Known(dtype)), Some(len)) => {
            let note = fortran.then_some("Fortran order: dimensions are shown reversed");
            if fortran {
                shape.reverse();
            }
            builder.tensor(
                start,
                len,
                TensorInfo {
                    name: "array".to_owned(),
                    dtype,
                    shape,
                },
            )?;
            note
        }
        (Some(Kind::Objects), _) => match scan(source, CONTAINER, start) {
            Ok(pickle) => {
                let besides = place_arrays(&pickle, 0, "", &mut builder)?;
                drop(pickle);
                let n_encoded = place_blobs(source, besides, &mut builder)?;
                return Ok(with_encoded(builder.finish()?, n_encoded));
            }
            Err(error @ Error::Io { .. }) => return Err(error),
            Err(_) => Some("its objects could not be read"),
        },
        _ => Some("its elements are no little-endian numbers"),
    };
    let layout = builder.finish()?;
    Ok(match note {
        Some(note) => layout.with_note(note),
        None => layout,
    })
}

struct Header {
    /// `None` for structures and types that are not known.
    kind: Option<Kind>,
    fortran: bool,
    shape: Vec<u64>,
}

/// Reads the header; also returns where the elements begin.
fn read_header(source: &dyn ReadAt) -> Result<(Header, u64)> {
    let magic = read_stated(source, CONTAINER, 0, 8)?;
    if !magic.starts_with(MAGIC) {
        return Err(malformed("no magic string"));
    }
    let wide = match magic.get(6) {
        Some(1) => false,
        Some(2 | 3) => true,
        _ => return Err(malformed("its version is not 1, 2 or 3")),
    };
    let len_width = if wide { 4 } else { 2 };
    let mut len = [0; 8];
    let bytes = read_stated(source, CONTAINER, 8, len_width)?;
    len.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    let len = u64::from_le_bytes(len);
    if len > NPY_HEADER_LEN_MAX {
        return Err(Error::too_large(
            CONTAINER,
            format!("a header of {len} bytes"),
        ));
    }
    let text = read_stated(source, CONTAINER, 8 + len_width, len)?;
    let header = Literal { rest: &text }.header();
    let header = header.ok_or_else(|| malformed("its header is not the expected literal"))?;
    Ok((header, 8 + len_width + len))
}

/// A position in the header's text. Each method returns `None` if the text goes on otherwise.
struct Literal<'a> {
    rest: &'a [u8],
}

impl<'a> Literal<'a> {
    /// `{'descr': …, 'fortran_order': …, 'shape': …, }`, the keys in any order, each once.
    fn header(mut self) -> Option<Header> {
        let (mut kind, mut fortran, mut shape) = (None, None, None);
        self.token(b"{")?;
        while self.token(b"}").is_none() {
            let key = self.string()?;
            self.token(b":")?;
            let is_new = match key {
                b"descr" => kind.replace(self.descr()?).is_none(),
                b"fortran_order" => fortran.replace(self.boolean()?).is_none(),
                b"shape" => shape.replace(self.shape()?).is_none(),
                _ => false,
            };
            if !is_new {
                return None;
            }
            if self.token(b",").is_none() {
                self.token(b"}")?;
                break;
            }
        }
        self.space();
        if !self.rest.is_empty() {
            return None;
        }
        Some(Header {
            kind: kind?,
            fortran: fortran?,
            shape: shape?,
        })
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn token(&mut self, token: &[u8]) -> Option<()> {
        self.space();
        self.rest = self.rest.strip_prefix(token)?;
        Some(())
    }

    /// A string in single or double quotes, without escapes.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.space();
        let (&quote, rest) = self.rest.split_first()?;
        if quote != b'\'' && quote != b'"' {
            return None;
        }
        let end = rest.iter().position(|&b| b == quote || b == b'\\')?;
        let (text, rest) = rest.split_at_checked(end)?;
        self.rest = rest.strip_prefix(&[quote])?;
        Some(text)
    }

    fn boolean(&mut self) -> Option<bool> {
        if self.token(b"True").is_some() {
            return Some(true);
        }
        self.token(b"False").map(|()| false)
    }

    /// An element type; a structure is a list, whose end alone is sought.
    fn descr(&mut self) -> Option<Option<Kind>> {
        self.space();
        if self.rest.first() == Some(&b'[') {
            self.brackets()?;
            return Some(None);
        }
        let text = std::str::from_utf8(self.string()?).ok()?;
        let (order, code) = text.split_at_checked(1)?;
        Some(kind_of_code(code, order))
    }

    /// Goes behind the bracket that matches the one here, whatever strings are between.
    fn brackets(&mut self) -> Option<()> {
        let mut depth = 0u32;
        loop {
            match self.rest.first()? {
                b'\'' | b'"' => {
                    self.string()?;
                    continue;
                }
                b'[' | b'(' => depth += 1,
                b']' | b')' => depth -= 1,
                _ => {}
            }
            self.rest = self.rest.get(1..)?;
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// A tuple of integers.
    fn shape(&mut self) -> Option<Vec<u64>> {
        let mut dims = Vec::new();
        self.token(b"(")?;
        while self.token(b")").is_none() {
            self.space();
            let digits = self.rest.iter().take_while(|b| b.is_ascii_digit()).count();
            let (number, rest) = self.rest.split_at_checked(digits)?;
            dims.push(std::str::from_utf8(number).ok()?.parse().ok()?);
            // Python 2 wrote long integers with a suffix.
            self.rest = rest.strip_prefix(b"L").unwrap_or(rest);
            if dims.len() > limits::TENSOR_RANK_MAX {
                return None;
            }
            if self.token(b",").is_none() {
                self.token(b")")?;
                break;
            }
        }
        Some(dims)
    }
}

fn malformed(reason: &str) -> Error {
    Error::malformed(CONTAINER, reason)
}

const CONTAINER: Container = Container::Npy;
const MAGIC: &[u8] = b"\x93NUMPY";
/// Longest header; structures of a thousand fields take less.
const NPY_HEADER_LEN_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use mmh_core::Dtype;
    use proptest::prelude::*;

    use super::*;
    use crate::hostile::attack;
    use crate::samples::npy::{npy, with_header};
    use crate::samples::{SampleTensor, assert_holds};

    /// The layout of an array of 12 bytes with this header.
    fn parsed(header: &str) -> Result<Layout> {
        parse(&with_header(1, header, &[0; 12]))
    }

    const GOOD: &str = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }";

    #[test]
    fn every_version_of_the_header_is_read() {
        for major in 1..=3 {
            let file = with_header(major, GOOD, &[0; 12]);
            assert!(matches(&file, ""));
            assert_eq!(parse(&file).unwrap().tensors().count(), 1, "{major}");
        }
        assert!(parse(&with_header(4, GOOD, &[0; 12])).is_err());
    }

    #[test]
    fn the_literal_may_be_spelled_as_python_may_spell_it() {
        for header in [
            "{'shape': (3,), 'fortran_order': False, 'descr': '<f4'}",
            "{\"descr\":\"<f4\",\"fortran_order\":False,\"shape\":(3,)}",
            "{ 'descr' : '<f4' , 'fortran_order' : False , 'shape' : ( 3 , ) , }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3L,), }",
            "{'descr': '=f4', 'fortran_order': False, 'shape': (3, 1), }",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 6), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (), }",
        ] {
            assert_eq!(parsed(header).unwrap().tensors().count(), 1, "{header}");
        }
    }

    #[test]
    fn any_other_literal_is_malformed() {
        let replaced = |from: &str, to: &str| GOOD.replace(from, to);
        let cases = [
            String::new(),
            "{}".to_owned(),
            replaced("{", ""),
            replaced("}", ""),
            replaced("}", "} x"),
            replaced("'shape'", "'other'"),
            replaced("'shape'", "'descr'"),
            replaced("'shape': (3,), ", ""),
            replaced("'descr': '<f4', ", ""),
            replaced("False", "0"),
            replaced("False", "false"),
            replaced("'<f4'", "<f4"),
            replaced("'<f4'", "'<f4"),
            replaced("'<f4'", "'<f\\x34'"),
            replaced("'<f4'", "''"),
            replaced("'<f4'", "[('a', '<f4')"),
            replaced("'<f4'", "['a]"),
            replaced("(3,)", "(-3,)"),
            replaced("(3,)", "(3.0,)"),
            replaced("(3,)", "(3"),
            replaced("(3,)", "(,)"),
            replaced("(3,)", "3"),
            replaced("(3,)", "(18446744073709551616,)"),
            replaced("(3,)", &format!("({})", "1,".repeat(65))),
            replaced(", 'fortran", " 'fortran"),
        ];
        for header in cases {
            assert!(
                matches!(parsed(&header), Err(Error::Malformed { .. })),
                "{header}"
            );
        }
    }

    #[test]
    fn the_array_must_lie_in_the_file_but_need_not_end_it() {
        let layout = parsed(&GOOD.replace("(3,)", "(2,)")).unwrap();
        assert_eq!(layout.tensors().next().unwrap().0.len, 8);
        for shape in [
            "(4,)",
            "(18446744073709551615, 4)",
            "(4611686018427387904,)",
        ] {
            assert!(parsed(&GOOD.replace("(3,)", shape)).is_err(), "{shape}");
        }
        assert_eq!(
            parsed(&GOOD.replace("(3,)", "(0, 9)"))
                .unwrap()
                .tensors()
                .count(),
            0
        );
    }

    #[test]
    fn what_is_no_little_endian_number_is_bytes_with_a_note() {
        for descr in [
            "'>f4'",
            "'<U3'",
            "'|V12'",
            "'<M8[ns]'",
            "[('a', '<f4'), ('b', [('c', '<i2')])]",
        ] {
            let layout = parsed(&GOOD.replace("'<f4'", descr).replace("(3,)", "(1,)")).unwrap();
            assert_eq!(layout.tensors().count(), 0, "{descr}");
            assert!(layout.note().unwrap().contains("little-endian"), "{descr}");
        }
    }

    #[test]
    fn fortran_order_shows_the_dimensions_as_they_lie() {
        let header = GOOD.replace("False", "True").replace("(3,)", "(3, 1)");
        let layout = parsed(&header).unwrap();
        assert_eq!(layout.tensors().next().unwrap().1.shape, [1, 3]);
        assert!(layout.note().unwrap().contains("Fortran"));
    }

    #[test]
    fn objects_that_are_no_pickle_are_bytes_with_a_note() {
        let layout = parsed(&GOOD.replace("<f4", "|O")).unwrap();
        assert_eq!(layout.tensors().count(), 0);
        assert!(layout.note().unwrap().contains("objects"));
    }

    #[test]
    fn a_header_longer_than_any_is_not_loaded() {
        let mut file = b"\x93NUMPY\x02\0".to_vec();
        file.extend(u32::MAX.to_le_bytes());
        assert!(matches!(parse(&file), Err(Error::TooLarge { .. })));
        file.truncate(8);
        file.extend(1000u32.to_le_bytes());
        assert!(matches!(parse(&file), Err(Error::Malformed { .. })));
    }

    const DTYPES: &[Dtype] = &[
        Dtype::Bool,
        Dtype::I16,
        Dtype::U16,
        Dtype::U32,
        Dtype::U64,
        Dtype::F16,
        Dtype::F32,
        Dtype::C64,
        Dtype::C128,
    ];

    proptest! {
        #[test]
        fn holds_what_was_written(
            dtype in prop::sample::select(DTYPES),
            shape in prop::collection::vec(0u64..5, 0..5),
        ) {
            let tensor = SampleTensor::new("array", dtype, &shape);
            let file = npy(&tensor);
            assert_holds(&parse(&file).unwrap(), &file, &[tensor]);
        }
    }

    #[test]
    fn hostile_files_tile_or_err() {
        attack(
            parse,
            &npy(&SampleTensor::new("a", Dtype::F32, &[2, 3])),
            3000,
        );
        attack(
            parse,
            &with_header(2, &GOOD.replace("<f4", "|O"), b"\x80\x04]N\x85a."),
            1000,
        );
    }
}
