//! A plane: the same field of every element, as values of a known width, coded by whichever
//! coder takes the fewest bytes.

mod apart;
mod bins;
mod blob;
mod choose;
mod dense;
mod floats;
pub(crate) mod grouped;
mod numbers;
mod packed;
mod ranked;
mod rans;
mod segments;
mod split;

pub(crate) use blob::{put_blob, read_blob};
pub(crate) use dense::{Grid, find as find_grid};
pub(crate) use floats::Scratch;
pub(crate) use numbers::{Buffers, Numbers};
pub use segments::BLOCK_LEN;
pub(crate) use segments::{Rows, blocks};

use std::ops::Range;

use crate::cluster::Effort;
use crate::entropy::Engine;
use crate::error::{Error, Result, corrupt};
use crate::input::{Input, put_sized};
use crate::layout::{Blocks, Field, Plane};
use crate::zstd::{Packer, Unpacker};

/// How a plane is coded. The code stands before the plane; 10 to 31 are reserved.
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
    /// Relative to scales, in the context of neighbours, see [`dense`].
    Dense,
    /// Units in the order of their classes, see [`grouped`].
    Grouped,
    /// At most 32 bins of values, and exceptions, see [`bins`].
    Binned,
}

impl Coder {
    const ALL: [Self; 10] = [
        Self::Constant,
        Self::Packed,
        Self::Ranked,
        Self::Split,
        Self::Context,
        Self::Bytes,
        Self::Zstd,
        Self::Dense,
        Self::Grouped,
        Self::Binned,
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
            Self::Dense => 7,
            Self::Grouped => 8,
            Self::Binned => 9,
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
            Self::Dense => "dense",
            Self::Grouped => "grouped",
            Self::Binned => "bins",
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
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) effort: Effort,
    /// Whether [`Coder::Dense`] is tried.
    pub(crate) dense: bool,
}

/// Reads planes.
#[derive(Debug)]
pub(crate) struct PlaneDecoder<'a> {
    pub(crate) engine: &'a dyn Engine,
    pub(crate) unpacker: &'a mut Unpacker,
    pub(crate) buffers: &'a mut Buffers,
}

impl PlaneEncoder<'_> {
    /// Appends a record of `values`: the coder, the length of what follows, and the plane.
    pub(crate) fn put(&mut self, values: &[u16], shape: Shape, out: &mut Vec<u8>) -> Result<()> {
        let mut coded = Vec::new();
        let coder = self.choose(values, shape, &mut coded)?;
        put_record(coder, &coded, out);
        Ok(())
    }

    /// Appends a record of a field; `before` are the fields before it.
    pub(crate) fn put_field(
        &mut self,
        (field, plane): (&Field, &Plane),
        before: &[Plane],
        shape: Shape,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        if let (Some(context), Plane::Bytes(values)) = (&field.context, plane) {
            let keys = context.keys(before, values.len() / context.unit);
            let mut coded = Vec::new();
            if self.put_grouped(values, shape, (context, &keys), &mut coded)? {
                put_record(Coder::Grouped, &coded, out);
                return Ok(());
            }
        }
        self.put(&plane.widened(), shape, out)
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

    /// Fills `values` from one record that stands beside others, not for a plane of the frame.
    pub(crate) fn read_side(
        &mut self,
        input: &mut Input<'_>,
        width: u32,
        values: &mut [u16],
    ) -> Result<()> {
        self.record(input, width, values, Nesting::Byte)
    }

    /// Writes the `wanted` ones of `n_blocks` whole blocks, a record for each field, to `raw`, which
    /// has room for just these.
    pub(crate) fn read_blocks(
        &mut self,
        input: &mut Input<'_>,
        blocks: &Blocks,
        (n_blocks, wanted): (usize, Range<usize>),
        raw: &mut [u8],
    ) -> Result<()> {
        let join = self.engine.kernels().join_field;
        let mut planes = Vec::with_capacity(blocks.fields.len());
        for (i, field) in blocks.fields.iter().enumerate() {
            let n = n_blocks * field.per_block;
            if Coder::read(&mut { *input })? != Coder::Grouped {
                planes.push(self.read_field(input, (field, n))?);
                continue;
            }
            Coder::read(input)?;
            let Some(context) = field.context.filter(|_| field.width <= 8) else {
                return corrupt("a plane is grouped by nothing");
            };
            let keys = context.keys(&planes, n / context.unit);
            let input = &mut Input::new(input.sized()?);
            let how = (&context, &keys[..]);
            if i + 1 == blocks.fields.len() {
                // The others are there: parts become blocks while they are near.
                let units = field.per_block / context.unit;
                let of_wanted = wanted.start * units..wanted.end * units;
                self.grouped(input, field.width, (how, of_wanted), &mut |unit, part| {
                    let first = unit / units;
                    let end = (first + part.len() / field.per_block).min(wanted.end);
                    let start = first.max(wanted.start);
                    let part = &part[(start - first) * field.per_block..];
                    let place = start - wanted.start..end - wanted.start;
                    let raw = &mut raw[place.start * blocks.len..place.end * blocks.len];
                    blocks.join_with((&planes, Some(part)), start, raw, join);
                })?;
                return input.expect_end();
            }
            let mut values = Vec::with_capacity(n);
            self.grouped(input, field.width, (how, 0..keys.len()), &mut |_, part| {
                values.extend_from_slice(part);
            })?;
            input.expect_end()?;
            planes.push(Plane::Bytes(values));
        }
        blocks.join_with((&planes, None), wanted.start, raw, join);
        Ok(())
    }

    /// The field of `n` values in one record.
    fn read_field(&mut self, input: &mut Input<'_>, (field, n): (&Field, usize)) -> Result<Plane> {
        let mut values = vec![0; n];
        self.read(input, field.width, &mut values)?;
        if field.width > 8 {
            return Ok(Plane::Words(values));
        }
        let narrow = values.iter().map(|value| value.to_le_bytes()[0]);
        Ok(Plane::Bytes(narrow.collect()))
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
            Coder::Dense if nesting == Nesting::Top => {
                let plane = self.dense(input, (values.len(), width))?;
                plane.fill(&self.engine.kernels(), values);
                plane.into_buffers(&mut self.buffers.dense);
            }
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
        let Some(upper_width) = width.checked_sub(8).filter(|&width| width > 0) else {
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

#[cfg(test)]
mod testing {
    //! What the tests of this module share.

    use super::*;
    use crate::entropy::Reference;

    pub(super) fn shape(width: u32, row_len: u64) -> Shape {
        Shape {
            width,
            rows: Rows::new(row_len, 0),
            sequential: false,
        }
    }

    pub(super) fn with_encoder<T>(work: impl FnOnce(&mut PlaneEncoder<'_>) -> T) -> T {
        let effort = Effort {
            classes_max: 8,
            rounds: 3,
        };
        work(&mut PlaneEncoder {
            engine: &Reference,
            packer: &mut Packer::new(3),
            scratch: &mut Scratch::default(),
            effort,
            dense: true,
        })
    }

    pub(super) fn plane_decoder<T>(work: impl FnOnce(&mut PlaneDecoder<'_>) -> T) -> T {
        work(&mut PlaneDecoder {
            engine: &Reference,
            unpacker: &mut Unpacker::default(),
            buffers: &mut Buffers::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{plane_decoder, shape, with_encoder};
    use super::*;
    use crate::samples::Noise;

    fn record(values: &[u16], shape: Shape) -> Vec<u8> {
        let mut out = Vec::new();
        with_encoder(|encoder| encoder.put(values, shape, &mut out)).unwrap();
        out
    }

    fn check(values: &[u16], shape: Shape, coder: Coder) -> usize {
        let out = record(values, shape);
        let mut input = Input::new(&out);
        let mut back = vec![0xffff; values.len()];
        plane_decoder(|decoder| decoder.read(&mut input, shape.width, &mut back)).unwrap();
        input.expect_end().unwrap();
        assert!(back == values, "{coder:?}");
        assert_eq!(Coder::read(&mut Input::new(&out)), Ok(coder));
        out.len()
    }

    fn drawn(n: usize, mut draw: impl FnMut(&mut Noise) -> u16) -> Vec<u16> {
        let noise = &mut Noise::new(6);
        (0..n).map(|_| draw(noise)).collect()
    }

    /// One plane for each coder: the choice finds it, and it reads back.
    #[test]
    fn each_coder_is_chosen_for_what_it_is_good_at() {
        assert_eq!(check(&[77; 5000], shape(7, 0), Coder::Constant), 4);
        let noise = drawn(20_000, |n| u16::try_from(n.bits() >> 57).unwrap());
        assert_eq!(
            check(&noise, shape(7, 0), Coder::Packed),
            20_000 * 7 / 8 + 5 + 4
        );
        let skewed = drawn(20_000, |n| 300 + u16::from(n.below(20).min(n.below(20))));
        check(&skewed, shape(9, 0), Coder::Ranked);
        let wide = drawn(20_000, |n| u16::from(n.below(200).min(n.below(250))));
        check(&wide, shape(8, 0), Coder::Split);
        let halves = drawn(20_000, |n| {
            u16::from(n.below(9)) << 8 | u16::from(n.below(90))
        });
        check(&halves, shape(16, 0), Coder::Bytes);
        let text: Vec<u16> = (0..9000).map(|i| i / 3 % 97 + i % 3 * 80).collect();
        check(
            &text,
            Shape {
                sequential: true,
                ..shape(9, 0)
            },
            Coder::Zstd,
        );
        check(&[], shape(16, 0), Coder::Constant);
    }

    /// Values beyond the 32 commonest are listed apart.
    #[test]
    fn rare_values_are_exceptions() {
        let mut values = drawn(30_000, |n| 100 + u16::from(n.below(30).min(n.below(30))));
        for (i, value) in (0u16..).zip(values.iter_mut().step_by(977)) {
            *value = 13 * i;
        }
        let len = check(&values, shape(9, 0), Coder::Ranked);
        assert!(len < 30_000 * 5 / 8, "{len}");
    }

    #[test]
    fn records_nest_only_as_far_as_the_format_says() {
        let constant = [Coder::Constant.code(), 2, 1, 0];
        let nested = |outer: Coder, head: &[u8], inner: &[u8]| {
            let mut out = Vec::new();
            put_record(outer, &[head, inner, &constant].concat(), &mut out);
            out
        };
        let read = |record: &[u8], width| {
            let mut values = [0; 4];
            plane_decoder(|d| d.read(&mut Input::new(record), width, &mut values)).map(|()| values)
        };
        let split = nested(Coder::Split, &[4], &constant);
        assert_eq!(read(&split, 8), Ok([17; 4]));
        let bytes = nested(Coder::Bytes, &[], &split);
        assert!(read(&bytes, 16).is_ok());
        for (outer, head) in [(Coder::Bytes, &[][..]), (Coder::Split, &[5])] {
            assert!(read(&nested(outer, head, &bytes), 16).is_err());
        }
        assert!(read(&nested(Coder::Split, &[5], &split), 10).is_err());
        assert!(read(&bytes, 7).is_err(), "no upper byte");
        let mut context = Vec::new();
        put_record(Coder::Context, &[1, 1, 0], &mut context);
        assert!(read(&context, 8).is_err(), "no context at the top");
        assert_eq!(
            read(&[10, 0], 8).unwrap_err(),
            Error::UnknownCode {
                what: "plane coder",
                code: 10
            }
        );
    }

    #[test]
    fn values_wider_than_their_plane_are_refused() {
        let mut out = Vec::new();
        put_record(Coder::Constant, &[0, 1], &mut out);
        let read = |width| plane_decoder(|d| d.read(&mut Input::new(&out), width, &mut [0; 2]));
        assert!(read(8).is_err());
        assert!(read(9).is_ok());
    }

    /// Every cut of a record of each coder.
    #[test]
    fn truncated_records_are_errors() {
        let skewed = drawn(900, |n| u16::from(n.below(20).min(n.below(5))));
        let wide = drawn(900, |n| u16::from(n.below(200).min(n.below(50))));
        for (values, width) in [(skewed, 9), (wide, 8)] {
            let out = record(&values, shape(width, 64));
            let mut back = vec![0; values.len()];
            for cut in 0..out.len() {
                let mut input = Input::new(&out[..cut]);
                assert!(plane_decoder(|d| d.read(&mut input, width, &mut back)).is_err());
            }
        }
    }
}
