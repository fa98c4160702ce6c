//! Element types of tensors, and what is known of a tensor inside a file.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result, shorten};
use crate::limits;

macro_rules! dtypes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $elements:literal, $bytes:literal;)*) => {
        /// The element type of a tensor. Block types (GGUF, MX) store several elements together.
        ///
        /// GGUF block layouts: the `ggml-common.h` header of llama.cpp. FP8: OCP OFP8 and MX
        /// specifications.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        #[allow(non_camel_case_types, reason = "the field's own names, such as Q4_K")]
        pub enum Dtype { $($(#[$doc])* $name,)* }

        impl Dtype {
            /// Every element type.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name as it is written in objects and output.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Elements and bytes of the smallest unit of storage: (1, 4) for F32, (256, 144)
            /// for `Q4_K`.
            #[must_use]
            pub const fn block(self) -> (u32, u32) {
                match self { $(Self::$name => ($elements, $bytes),)* }
            }
        }
    };
}

dtypes! {
    /// One byte, 0 or 1.
    Bool = "BOOL", 1, 1;
    /// Unsigned 8-bit integer.
    U8 = "U8", 1, 1;
    /// Signed 8-bit integer.
    I8 = "I8", 1, 1;
    /// Unsigned 16-bit integer.
    U16 = "U16", 1, 2;
    /// Signed 16-bit integer.
    I16 = "I16", 1, 2;
    /// Unsigned 32-bit integer.
    U32 = "U32", 1, 4;
    /// Signed 32-bit integer.
    I32 = "I32", 1, 4;
    /// Unsigned 64-bit integer.
    U64 = "U64", 1, 8;
    /// Signed 64-bit integer.
    I64 = "I64", 1, 8;
    /// IEEE 754 binary16.
    F16 = "F16", 1, 2;
    /// bfloat16: the high half of binary32.
    BF16 = "BF16", 1, 2;
    /// IEEE 754 binary32.
    F32 = "F32", 1, 4;
    /// IEEE 754 binary64.
    F64 = "F64", 1, 8;
    /// Two binary32: real, imaginary.
    C64 = "C64", 1, 8;
    /// Two binary64: real, imaginary.
    C128 = "C128", 1, 16;
    /// FP8 with 4 exponent and 3 mantissa bits.
    F8_E4M3 = "F8_E4M3", 1, 1;
    /// FP8 with 5 exponent and 2 mantissa bits.
    F8_E5M2 = "F8_E5M2", 1, 1;
    /// Exponent only, the scale of MX blocks.
    F8_E8M0 = "F8_E8M0", 1, 1;
    /// Two signed 4-bit integers a byte.
    I4 = "I4", 2, 1;
    /// Two unsigned 4-bit integers a byte.
    U4 = "U4", 2, 1;
    /// Two 4-bit floats (E2M1) a byte.
    F4 = "F4", 2, 1;
    /// GGUF type 2.
    Q4_0 = "Q4_0", 32, 18;
    /// GGUF type 3.
    Q4_1 = "Q4_1", 32, 20;
    /// GGUF type 6.
    Q5_0 = "Q5_0", 32, 22;
    /// GGUF type 7.
    Q5_1 = "Q5_1", 32, 24;
    /// GGUF type 8.
    Q8_0 = "Q8_0", 32, 34;
    /// GGUF type 9.
    Q8_1 = "Q8_1", 32, 36;
    /// GGUF type 10.
    Q2_K = "Q2_K", 256, 84;
    /// GGUF type 11.
    Q3_K = "Q3_K", 256, 110;
    /// GGUF type 12.
    Q4_K = "Q4_K", 256, 144;
    /// GGUF type 13.
    Q5_K = "Q5_K", 256, 176;
    /// GGUF type 14.
    Q6_K = "Q6_K", 256, 210;
    /// GGUF type 15.
    Q8_K = "Q8_K", 256, 292;
    /// GGUF type 16.
    IQ2_XXS = "IQ2_XXS", 256, 66;
    /// GGUF type 17.
    IQ2_XS = "IQ2_XS", 256, 74;
    /// GGUF type 18.
    IQ3_XXS = "IQ3_XXS", 256, 98;
    /// GGUF type 19.
    IQ1_S = "IQ1_S", 256, 50;
    /// GGUF type 20.
    IQ4_NL = "IQ4_NL", 32, 18;
    /// GGUF type 21.
    IQ3_S = "IQ3_S", 256, 110;
    /// GGUF type 22.
    IQ2_S = "IQ2_S", 256, 82;
    /// GGUF type 23.
    IQ4_XS = "IQ4_XS", 256, 136;
    /// GGUF type 29.
    IQ1_M = "IQ1_M", 256, 56;
    /// GGUF type 34.
    TQ1_0 = "TQ1_0", 256, 54;
    /// GGUF type 35.
    TQ2_0 = "TQ2_0", 256, 66;
    /// GGUF type 39: one E8M0 scale and 32 E2M1 codes.
    MXFP4 = "MXFP4", 32, 17;
}

impl Dtype {
    /// Bytes of `elements` elements, or `None` if they do not fill whole blocks or overflow.
    #[must_use]
    pub fn bytes_for(self, elements: u64) -> Option<u64> {
        let (per_block, block_len) = self.block();
        if !elements.is_multiple_of(u64::from(per_block)) {
            return None;
        }
        (elements / u64::from(per_block)).checked_mul(u64::from(block_len))
    }

    /// Bits of one element, as a fraction for block types.
    #[must_use]
    pub fn bits_per_element(self) -> f64 {
        let (elements, bytes) = self.block();
        f64::from(bytes) * 8.0 / f64::from(elements)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Dtype {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|d| d.as_str() == text)
            .ok_or_else(|| Error::BadName {
                what: "dtype",
                text: shorten(text),
                reason: "unknown element type",
            })
    }
}

impl Serialize for Dtype {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Dtype {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Name, element type and shape of a tensor, as its container states them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorInfo {
    /// The tensor's name; several names of one storage are joined by their container's parser.
    pub name: String,
    /// The element type.
    pub dtype: Dtype,
    /// Dimensions, outermost first. Empty for a scalar.
    pub shape: Vec<u64>,
}

impl TensorInfo {
    /// The number of elements, or `None` on overflow.
    #[must_use]
    pub fn elements(&self) -> Option<u64> {
        self.shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d))
    }

    /// The number of bytes, or `None` on overflow or when blocks are not filled.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        self.dtype.bytes_for(self.elements()?)
    }

    /// Elements in one row, which is what belongs to one output: the innermost dimension, and as
    /// many of the next as make it 64 elements long, but not the outermost; 0 when unknown or
    /// scalar. Weights of a convolution have all taps of all its input channels in a row.
    #[must_use]
    pub fn row_len(&self) -> u64 {
        const LONG: u64 = 64;
        let Some((&last, outer)) = self.shape.split_last() else {
            return 0;
        };
        let inner = outer.get(1..).unwrap_or(&[]).iter().rev();
        inner.fold(last, |row, &next| {
            if row < LONG {
                row.saturating_mul(next.max(1))
            } else {
                row
            }
        })
    }

    /// Checks name length and rank.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub fn check(&self) -> Result<()> {
        limits_check(
            "tensor name length",
            self.name.len(),
            limits::TENSOR_NAME_LEN_MAX,
        )?;
        limits_check("tensor rank", self.shape.len(), limits::TENSOR_RANK_MAX)
    }
}

pub(crate) fn limits_check(what: &'static str, value: usize, limit: usize) -> Result<()> {
    if value > limit {
        return Err(Error::TooLarge {
            what,
            value: value as u64,
            limit: limit as u64,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dtype_has_one_name_that_parses_back() {
        for &dtype in Dtype::ALL {
            assert_eq!(dtype.as_str().parse::<Dtype>().unwrap(), dtype);
        }
    }

    #[test]
    fn block_types_need_whole_blocks() {
        assert_eq!(Dtype::Q4_K.bytes_for(512), Some(288));
        assert_eq!(Dtype::Q4_K.bytes_for(300), None);
        assert_eq!(Dtype::F64.bytes_for(u64::MAX), None);
    }

    #[test]
    fn a_shape_that_overflows_has_no_size() {
        let info = TensorInfo {
            name: String::new(),
            dtype: Dtype::F32,
            shape: vec![u64::MAX, 2],
        };
        assert_eq!(info.bytes(), None);
    }
}
