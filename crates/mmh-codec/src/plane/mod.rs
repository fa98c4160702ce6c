//! A plane: the same field of every element, as values of a known width, coded by whichever
//! coder takes the fewest bytes.

mod blob;
mod choose;
mod packed;
mod ranked;
mod rans;
mod segments;
mod split;

pub use segments::BLOCK_LEN;
pub(crate) use segments::Rows;

use crate::cluster::Effort;
use crate::entropy::Engine;
use crate::error::{Error, Result, corrupt};
use crate::input::{Input, put_sized};
use crate::zstd::{Packer, Unpacker};

/// How a plane is coded. The code stands before the plane; 7 to 31 are reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coder {
    /// One value for all.
    Constant,
    /// Fixed width, see [`packed`].
    Packed,
    /// At most 32 values, and exceptions, see [`ranked`].
    Ranked,
    /// Upper bits, then lower bits in their context, see [`split`].
    Split,
    /// Lower bits of a split plane, with a distribution for each value of the upper ones.
    Context,
    /// Upper bits, then the lower 8, as two planes.
    Bytes,
    /// One zstd frame of the values as bytes (two, least significant first, above 8 bits).
    Zstd,
}

impl Coder {
    const ALL: [Self; 7] = [
        Self::Constant,
        Self::Packed,
        Self::Ranked,
        Self::Split,
        Self::Context,
        Self::Bytes,
        Self::Zstd,
    ];

    const fn code(self) -> u8 {
        match self {
            Self::Constant => 0,
            Self::Packed => 1,
            Self::Ranked => 2,
            Self::Split => 3,
            Self::Context => 4,
            Self::Bytes => 5,
            Self::Zstd => 6,
        }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Packed => "packed",
            Self::Ranked => "rans",
            Self::Split => "split",
            Self::Context => "context",
            Self::Bytes => "bytes",
            Self::Zstd => "zstd",
        }
    }

    pub(crate) fn read(input: &mut Input<'_>) -> Result<Self> {
        let code = input.u8()?;
        let found = Self::ALL.into_iter().find(|coder| coder.code() == code);
        found.ok_or(Error::UnknownCode {
            what: "plane coder",
            code,
        })
    }
}

/// What is known of a plane before it is coded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Bits of its widest possible value, at most 16.
    pub(crate) width: u32,
    /// The rows of its tensor.
    pub(crate) rows: Rows,
    /// Whether zstd is worth a try: its values may repeat in sequence.
    pub(crate) sequential: bool,
}

/// Writes planes.
#[derive(Debug)]
pub(crate) struct PlaneEncoder<'a> {
    pub(crate) engine: &'a dyn Engine,
    pub(crate) packer: &'a mut Packer,
    pub(crate) effort: Effort,
}

/// Reads planes.
#[derive(Debug)]
pub(crate) struct PlaneDecoder<'a> {
    pub(crate) engine: &'a dyn Engine,
    pub(crate) unpacker: &'a mut Unpacker,
}

impl PlaneEncoder<'_> {
    /// Appends a record of `values`: the coder, the length of what follows, and the plane.
    pub(crate) fn put(&mut self, values: &[u16], shape: Shape, out: &mut Vec<u8>) -> Result<()> {
        let mut coded = Vec::new();
        let coder = self.choose(values, shape, &mut coded)?;
        put_record(coder, &coded, out);
        Ok(())
    }
}

fn put_record(coder: Coder, coded: &[u8], out: &mut Vec<u8>) {
    out.push(coder.code());
    put_sized(out, coded);
}

/// Whether the record may hold further records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nesting {
    /// A plane of a frame.
    Top,
    /// A part of [`Coder::Bytes`]: no more bytes.
    Byte,
    /// The upper bits of [`Coder::Split`]: no more parts.
    Part,
}

impl PlaneDecoder<'_> {
    /// Fills `values`, each of at most `width` bits, from one record.
    pub(crate) fn read(
        &mut self,
        input: &mut Input<'_>,
        width: u32,
        values: &mut [u16],
    ) -> Result<()> {
        self.record(input, width, values, Nesting::Top)
    }

    fn record(
        &mut self,
        input: &mut Input<'_>,
        width: u32,
        values: &mut [u16],
        nesting: Nesting,
    ) -> Result<()> {
        let coder = Coder::read(input)?;
        let input = &mut Input::new(input.sized()?);
        match coder {
            Coder::Constant => values.fill(u16::from_le_bytes([input.u8()?, input.u8()?])),
            Coder::Packed => packed::read_packed(input, self.unpacker, values)?,
            Coder::Ranked => self.ranked(input, values)?,
            Coder::Split if nesting != Nesting::Part => self.split(input, width, values)?,
            Coder::Bytes if nesting == Nesting::Top => self.bytes(input, width, values)?,
            Coder::Zstd => self.zstd(input.take_rest(), width, values)?,
            _ => return corrupt("a plane is nested too deeply"),
        }
        input.expect_end()?;
        let any = values.iter().fold(0, |all, value| all | value);
        if u32::from(any) >> width != 0 {
            corrupt("a value is too wide for its plane")
        } else {
            Ok(())
        }
    }

    fn bytes(&mut self, input: &mut Input<'_>, width: u32, values: &mut [u16]) -> Result<()> {
        let Some(upper_width) = width.checked_sub(8) else {
            return corrupt("a plane of 8 bits has no upper byte");
        };
        let mut lower = vec![0; values.len()];
        self.record(input, upper_width, values, Nesting::Byte)?;
        self.record(input, 8, &mut lower, Nesting::Byte)?;
        for (value, lower) in values.iter_mut().zip(lower) {
            *value = *value << 8 | lower;
        }
        Ok(())
    }

    fn zstd(&mut self, content: &[u8], width: u32, values: &mut [u16]) -> Result<()> {
        if width <= 8 {
            let mut bytes = vec![0; values.len()];
            self.unpacker.unpack(content, &mut bytes)?;
            for (value, byte) in values.iter_mut().zip(bytes) {
                *value = u16::from(byte);
            }
        } else {
            let mut bytes = vec![0; 2 * values.len()];
            self.unpacker.unpack(content, &mut bytes)?;
            for (value, pair) in values.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *value = u16::from_le_bytes(*pair);
            }
        }
        Ok(())
    }
}
