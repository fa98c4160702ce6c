//! How the content of a frame is divided into planes.

pub(crate) mod block;
mod context;
mod float;
mod gguf;
mod nibbles;

use mmh_core::Dtype;

pub(crate) use block::{Blocks, Field, JoinField, Plane, SplitField};
pub(crate) use context::Context;
#[cfg(test)]
pub(crate) use context::Keys;
pub(crate) use float::{FloatFormat, Form};
pub(crate) use nibbles::of_nibbles;

use crate::error::{Error, Result};
use crate::frame::Method;
use block::Run;

/// The first code of the layouts that are GGUF types.
const GGUF_BASE: u8 = 64;
/// The first code of the layouts of floats with their signs in the first plane.
const SIGNED_BASE: u8 = 4;

/// A way to divide content. The code stands at the head of a frame's body; codes that are not
/// named here are reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Floating point numbers, codes 0 to 3.
    Float(FloatFormat),
    /// The same with the sign as the top bit of the first plane, codes 4 to 7.
    Signed(FloatFormat),
    /// Numbers of binary32 with two bits of the mantissa in the first plane, code 10.
    Fine,
    /// Integers of so many bytes, one plane for each byte; codes 16 to 19.
    Bytes(u8),
    /// Signed bytes, code 20.
    SignedByte,
    /// 8-bit floats, the sign moved to the low end; code 21.
    Float8,
    /// Two symbols of 4 bits a byte, the low one first; code 22.
    Nibbles,
    /// Blocks of a GGUF type, code 64 + type.
    Gguf(u8),
}

impl Layout {
    /// The layout for elements of a type.
    pub(crate) fn of(dtype: Dtype) -> Option<Self> {
        Some(match dtype {
            Dtype::BF16 => Self::Float(FloatFormat::Bf16),
            Dtype::F16 => Self::Float(FloatFormat::F16),
            Dtype::F32 | Dtype::C64 => Self::Float(FloatFormat::F32),
            Dtype::F64 | Dtype::C128 => Self::Float(FloatFormat::F64),
            Dtype::Bool | Dtype::U8 | Dtype::F8_E8M0 => Self::Bytes(1),
            Dtype::U16 | Dtype::I16 => Self::Bytes(2),
            Dtype::U32 | Dtype::I32 => Self::Bytes(4),
            Dtype::U64 | Dtype::I64 => Self::Bytes(8),
            Dtype::I8 => Self::SignedByte,
            Dtype::F8_E4M3 | Dtype::F8_E5M2 => Self::Float8,
            Dtype::I4 | Dtype::U4 | Dtype::F4 => Self::Nibbles,
            _ => Self::Gguf(gguf_type(dtype)?),
        })
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Float(FloatFormat::Bf16) => 0,
            Self::Float(FloatFormat::F16) => 1,
            Self::Float(FloatFormat::F32) => 2,
            Self::Float(FloatFormat::F64) => 3,
            Self::Signed(format) => SIGNED_BASE + Self::Float(format).code(),
            Self::Fine => 10,
            Self::Bytes(2) => 17,
            Self::Bytes(4) => 18,
            Self::Bytes(8) => 19,
            Self::Bytes(_) => 16,
            Self::SignedByte => 20,
            Self::Float8 => 21,
            Self::Nibbles => 22,
            Self::Gguf(kind) => GGUF_BASE + kind,
        }
    }

    pub(crate) fn from_code(code: u8) -> Result<Self> {
        Ok(match code {
            0 => Self::Float(FloatFormat::Bf16),
            1 => Self::Float(FloatFormat::F16),
            2 => Self::Float(FloatFormat::F32),
            3 => Self::Float(FloatFormat::F64),
            4 => Self::Signed(FloatFormat::Bf16),
            5 => Self::Signed(FloatFormat::F16),
            6 => Self::Signed(FloatFormat::F32),
            7 => Self::Signed(FloatFormat::F64),
            10 => Self::Fine,
            16 => Self::Bytes(1),
            17 => Self::Bytes(2),
            18 => Self::Bytes(4),
            19 => Self::Bytes(8),
            20 => Self::SignedByte,
            21 => Self::Float8,
            22 => Self::Nibbles,
            _ => match code.checked_sub(GGUF_BASE) {
                Some(kind) if gguf::blocks(kind).is_some() => Self::Gguf(kind),
                _ => {
                    return Err(Error::UnknownCode {
                        what: "layout",
                        code,
                    });
                }
            },
        })
    }

    /// The method of frames with this layout.
    pub(crate) fn method(self) -> Method {
        match self {
            Self::Float(_) | Self::Signed(_) | Self::Fine => Method::Float,
            Self::Gguf(_) => Method::Block,
            _ => Method::Integer,
        }
    }

    /// Whether values may repeat in sequence, as ids and masks do and weights do not.
    pub(crate) fn sequential(self) -> bool {
        matches!(self, Self::Bytes(_))
    }

    /// What the layout means.
    pub(crate) fn division(self) -> Division {
        let (len, fields) = match self {
            Self::Float(format) => return Division::Float(format, Form::Plain),
            Self::Signed(format) => return Division::Float(format, Form::Signed),
            Self::Fine => return Division::Float(FloatFormat::F32, Form::Fine),
            Self::Gguf(kind) => match gguf::blocks(kind) {
                Some(blocks) => return Division::Blocks(blocks),
                None => (1, vec![field("codes", 8, vec![Run::new(0, 0, 1)])]),
            },
            Self::Bytes(len) => {
                let len = usize::from(len);
                (
                    len,
                    (0..len)
                        .map(|i| field(BYTE_NAMES[i], 8, vec![Run::new(0, i, 1)]))
                        .collect(),
                )
            }
            Self::SignedByte => {
                let byte = field("codes", 8, vec![Run::new(0, 0, 1)]);
                (
                    1,
                    vec![Field {
                        signed: true,
                        ..byte
                    }],
                )
            }
            Self::Float8 => {
                let runs = vec![
                    Run::new(0, 0, 1).bits(0, 7).at(1),
                    Run::new(0, 0, 1).bits(7, 1),
                ];
                (1, vec![field("codes", 8, runs)])
            }
            Self::Nibbles => {
                let half = |which: usize| Run::new(which, 0, 1).step(2);
                let runs = vec![half(0).bits(0, 4), half(1).bits(4, 4)];
                (
                    1,
                    vec![Field {
                        per_block: 2,
                        ..field("codes", 4, runs)
                    }],
                )
            }
        };
        let elements = if self == Self::Nibbles { 2 } else { 1 };
        Division::Blocks(Blocks {
            len,
            elements,
            fields,
        })
    }
}

/// The fields of one unit of content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Division {
    /// A floating point number, and what its first plane has.
    Float(FloatFormat, Form),
    /// A block of packed fields, or one element of several bytes.
    Blocks(Blocks),
}

impl Division {
    /// Bytes of a unit.
    pub(crate) fn unit_len(&self) -> usize {
        match self {
            Self::Float(format, _) => format.len(),
            Self::Blocks(blocks) => blocks.len,
        }
    }
}

const BYTE_NAMES: [&str; 8] = [
    "byte0", "byte1", "byte2", "byte3", "byte4", "byte5", "byte6", "byte7",
];

fn field(name: &'static str, width: u32, runs: Vec<Run>) -> Field {
    Field {
        name,
        width,
        per_block: 1,
        runs,
        ..Field::default()
    }
}

/// The type number of a block type in GGUF files.
fn gguf_type(dtype: Dtype) -> Option<u8> {
    Some(match dtype {
        Dtype::Q4_0 => 2,
        Dtype::Q4_1 => 3,
        Dtype::Q5_0 => 6,
        Dtype::Q5_1 => 7,
        Dtype::Q8_0 => 8,
        Dtype::Q8_1 => 9,
        Dtype::Q2_K => 10,
        Dtype::Q3_K => 11,
        Dtype::Q4_K => 12,
        Dtype::Q5_K => 13,
        Dtype::Q6_K => 14,
        Dtype::Q8_K => 15,
        Dtype::IQ2_XXS => 16,
        Dtype::IQ2_XS => 17,
        Dtype::IQ3_XXS => 18,
        Dtype::IQ1_S => 19,
        Dtype::IQ4_NL => 20,
        Dtype::IQ3_S => 21,
        Dtype::IQ2_S => 22,
        Dtype::IQ4_XS => 23,
        Dtype::IQ1_M => 29,
        Dtype::TQ1_0 => 34,
        Dtype::TQ2_0 => 35,
        Dtype::MXFP4 => 39,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No element type is left to zstd by oversight, and blocks are as long as their type says.
    #[test]
    fn every_element_type_has_a_layout_of_its_length() {
        for &dtype in Dtype::ALL {
            let layout = Layout::of(dtype).unwrap_or_else(|| panic!("{dtype} has none"));
            assert_eq!(Layout::from_code(layout.code()), Ok(layout), "{dtype}");
            let (elements, len) = dtype.block();
            match layout.division() {
                Division::Float(format, _) => {
                    assert_eq!(len as usize % format.len(), 0);
                }
                Division::Blocks(blocks) => {
                    let expected = (len as usize, elements as usize);
                    assert_eq!((blocks.len, blocks.elements), expected, "{dtype}");
                }
            }
        }
    }

    #[test]
    fn reserved_codes_are_refused() {
        let known = (0..=u8::MAX)
            .filter(|&code| Layout::from_code(code).is_ok())
            .count();
        assert_eq!(known, 8 + 1 + 7 + 24);
        let error = Layout::from_code(63).unwrap_err();
        assert_eq!(
            error,
            Error::UnknownCode {
                what: "layout",
                code: 63
            }
        );
    }

    #[test]
    fn small_floats_have_their_sign_at_the_low_end() {
        let split = |layout: Layout, raw: &[u8]| match layout.division() {
            Division::Blocks(blocks) => blocks.fields[0]
                .split(raw, 1, Field::take)
                .widened()
                .into_owned(),
            Division::Float(..) => Vec::new(),
        };
        assert_eq!(split(Layout::Float8, &[0x80, 0x01, 0xff]), [1, 2, 255]);
        assert_eq!(split(Layout::Nibbles, &[0x21, 0x43]), [1, 2, 3, 4]);
    }
}
