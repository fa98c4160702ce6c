//! Values of fixed width, without the bits above that are the same in the whole plane and the
//! zeros below that a segment has in common.

use super::blob::{put_blob, read_blob};
use super::segments::{Rows, Segments};
use crate::bits::{WIDTH_MAX, pack, packed_len, unpack};
use crate::error::{Error, Result, corrupt};
use crate::input::{Input, varint_len};
use crate::kernel::Packed;
use crate::zstd::{Packer, Unpacker};

/// One number of zeros for the whole plane.
const UNIFORM: u8 = 0;
/// A number of zeros for each segment.
const BY_SEGMENT: u8 = 1;

/// How a plane would be packed, and how long that is.
#[derive(Debug, Clone)]
pub(crate) struct Packing {
    /// The bits above, the same in all values.
    base: u16,
    /// The bits below them.
    width: u32,
    /// Zeros at the low end: of all values, or of each segment.
    zeros: Zeros,
    /// Bytes in all.
    pub(crate) len: usize,
}

/// Zeros at the low end of packed values.
#[derive(Debug, Clone)]
pub(crate) enum Zeros {
    Uniform(u32),
    BySegment(Segments, Vec<u8>),
}

impl Packing {
    /// Finds the bits that vary.
    pub(crate) fn of(values: &[u16], rows: Rows) -> Self {
        let segments = Segments::of_rows(rows);
        let (first, n) = (values.first().copied().unwrap_or(0), values.len());
        let varying = values.iter().fold(0, |all, value| all | (value ^ first));
        let width = WIDTH_MAX - varying.leading_zeros();
        let below = low_mask(width);
        let mut each = Vec::with_capacity(segments.count(n));
        let mut by_segment = 0;
        for range in segments.ranges(n) {
            let any = values[range.clone()]
                .iter()
                .fold(0, |all, value| all | value)
                & below;
            let zeros = any.trailing_zeros().min(width);
            by_segment += packed_len(range.len(), width - zeros);
            each.push(u8::try_from(zeros).expect("at most 16 zeros"));
        }
        let least = u32::from(each.iter().copied().min().unwrap_or(0));
        let uniform = packed_len(n, width - least);
        let (zeros, len) = if by_segment + each.len() / 4 < uniform {
            (Zeros::BySegment(segments, each), by_segment)
        } else {
            (Zeros::Uniform(least), uniform)
        };
        Self {
            base: first & !below,
            width,
            zeros,
            len: len + 5 + varint_len(len),
        }
    }

    pub(crate) fn put(&self, values: &[u16], packer: &mut Packer, out: &mut Vec<u8>) -> Result<()> {
        put_head(self.base, self.width, &self.zeros, packer, out)?;
        match &self.zeros {
            Zeros::Uniform(zeros) => pack(values, *zeros, self.width - zeros, out),
            Zeros::BySegment(segments, each) => {
                for (range, &zeros) in segments.ranges(values.len()).zip(each) {
                    let zeros = u32::from(zeros);
                    pack(&values[range], zeros, self.width - zeros, out);
                }
            }
        }
        Ok(())
    }
}

/// Appends what stands before packed values.
pub(crate) fn put_head(
    base: u16,
    width: u32,
    zeros: &Zeros,
    packer: &mut Packer,
    out: &mut Vec<u8>,
) -> Result<()> {
    out.extend_from_slice(&base.to_le_bytes());
    out.push(u8::try_from(width).expect("at most 16 bits"));
    match zeros {
        Zeros::Uniform(zeros) => {
            out.extend_from_slice(&[UNIFORM, u8::try_from(*zeros).expect("at most 16 zeros")]);
            Ok(())
        }
        Zeros::BySegment(segments, each) => {
            out.push(BY_SEGMENT);
            segments.put(out);
            put_blob(each, packer, out)
        }
    }
}

/// Fills `values` from what [`Packing::put`] wrote.
pub(crate) fn read_packed(
    input: &mut Input<'_>,
    unpacker: &mut Unpacker,
    values: &mut [u16],
) -> Result<()> {
    let base = u16::from_le_bytes([input.u8()?, input.u8()?]);
    let width = u32::from(input.u8()?);
    if width > WIDTH_MAX || base & low_mask(width) != 0 {
        return corrupt("a packed plane has an impossible width");
    }
    let fill = |input: &mut Input<'_>, zeros: u8, part: &mut [u16]| {
        let zeros = u32::from(zeros);
        let Some(packed) = width.checked_sub(zeros) else {
            return corrupt("a packed plane has more zeros than bits");
        };
        unpack(
            input.take(packed_len(part.len(), packed))?,
            zeros,
            packed,
            base,
            part,
        );
        Ok(())
    };
    match input.u8()? {
        UNIFORM => {
            let zeros = input.u8()?;
            fill(input, zeros, values)
        }
        BY_SEGMENT => {
            let segments = Segments::read(input)?;
            let each = read_blob(input, segments.count(values.len()), unpacker)?;
            for (range, zeros) in segments.ranges(values.len()).zip(each) {
                fill(input, zeros, &mut values[range])?;
            }
            Ok(())
        }
        code => Err(Error::UnknownCode {
            what: "packing",
            code,
        }),
    }
}

/// A packed plane whose values are not unpacked yet.
#[derive(Debug)]
pub(super) struct PackedPlane<'a> {
    /// `shift` is 0 where it is that of a segment.
    how: Packed,
    /// For each segment: its first value, where it begins in `packed`, its zeros.
    segments: Vec<(usize, usize, u32)>,
    packed: &'a [u8],
}

impl<'a> PackedPlane<'a> {
    /// Reads everything but the values, of which there are `n`. Nothing, if values may have more
    /// than `width_max` bits.
    pub(super) fn read(
        input: &mut Input<'a>,
        unpacker: &mut Unpacker,
        (n, width_max): (usize, u32),
    ) -> Result<Option<Self>> {
        let base = u16::from_le_bytes([input.u8()?, input.u8()?]);
        let width = u32::from(input.u8()?);
        if width > WIDTH_MAX || base & low_mask(width) != 0 {
            return corrupt("a packed plane has an impossible width");
        }
        if (base | low_mask(width)) & !low_mask(width_max) != 0 {
            return Ok(None);
        }
        let mut segments = Vec::new();
        let mut end = 0;
        let mut segment = |first: usize, len: usize, zeros: u8| {
            let Some(packed) = width.checked_sub(u32::from(zeros)) else {
                return corrupt("a packed plane has more zeros than bits");
            };
            segments.push((first, end, u32::from(zeros)));
            end += packed_len(len, packed);
            Ok(())
        };
        match input.u8()? {
            UNIFORM => segment(0, n, input.u8()?)?,
            BY_SEGMENT => {
                let places = Segments::read(input)?;
                let each = read_blob(input, places.count(n), unpacker)?;
                for (range, zeros) in places.ranges(n).zip(each) {
                    segment(range.start, range.len(), zeros)?;
                }
            }
            code => {
                return Err(Error::UnknownCode {
                    what: "packing",
                    code,
                });
            }
        }
        Ok(Some(Self {
            how: Packed {
                base,
                shift: 0,
                width,
            },
            segments,
            packed: input.take(end)?,
        }))
    }

    /// The bytes from value `first` on, a multiple of 8, if all values are plain fields of `width`.
    pub(super) fn plain(&self, width: u32, first: usize) -> Option<&[u8]> {
        let how = Packed {
            base: 0,
            shift: 0,
            width,
        };
        let plain = self.how == how && self.segments == [(0, 0, 0)];
        plain.then(|| &self.packed[packed_len(first, width)..])
    }

    /// Unpacks `values` that begin at number `first`, a multiple of 8, with `unpack`.
    pub(super) fn fill<T>(
        &self,
        unpack: fn(&[u8], Packed, &mut [T]),
        mut first: usize,
        mut values: &mut [T],
    ) {
        let mut at = self.segments.partition_point(|&(start, ..)| start <= first);
        while !values.is_empty() {
            let Some(&(start, place, shift)) = self.segments.get(at - 1) else {
                return;
            };
            let end = self
                .segments
                .get(at)
                .map_or(usize::MAX, |&(start, ..)| start);
            let (now, rest) = values.split_at_mut(values.len().min(end - first));
            let width = self.how.width - shift;
            let skipped = packed_len(first - start, width);
            let how = Packed {
                shift,
                width,
                ..self.how
            };
            unpack(&self.packed[place + skipped..], how, now);
            first += now.len();
            values = rest;
            at += 1;
        }
    }
}

fn low_mask(width: u32) -> u16 {
    u16::MAX.checked_shr(WIDTH_MAX - width).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(values: &[u16], rows: Rows) -> usize {
        let packing = Packing::of(values, rows);
        let mut out = Vec::new();
        packing.put(values, &mut Packer::new(3), &mut out).unwrap();
        let mut back = vec![0; values.len()];
        let unpacker = &mut Unpacker::default();
        let mut input = Input::new(&out);
        read_packed(&mut input, unpacker, &mut back).unwrap();
        input.expect_end().unwrap();
        assert_eq!(back, values);
        for cut in (0..out.len()).step_by(out.len() / 20 + 1) {
            assert!(read_packed(&mut Input::new(&out[..cut]), unpacker, &mut back).is_err());
        }
        out.len()
    }

    /// F32 rows that were once F16 keep 3 of their low 16 bits; the others keep all.
    #[test]
    fn a_row_that_ends_in_zeros_is_stored_without_them() {
        let mut values: Vec<u16> = (0..64_000u32)
            .map(|i| u16::try_from(i * 40_503 % 65_521).unwrap())
            .collect();
        for row in values.chunks_mut(640).step_by(2) {
            row.iter_mut().for_each(|value| *value &= 0xe000);
        }
        let len = round_trip(&values, Rows::new(640, 0));
        assert!(len < 64_000 * (16 + 3) / 16 + 100, "{len}");
    }

    #[test]
    fn bits_that_never_change_cost_nothing() {
        let values: Vec<u16> = (0..1000).map(|i| 0x4008 | (i % 16) << 4).collect();
        assert_eq!(Packing::of(&values, Rows::default()).width, 8);
        let len = round_trip(&values, Rows::default());
        assert_eq!(len, 5 + 1000 * 5 / 8);
        assert_eq!(round_trip(&[7; 500], Rows::default()), 5);
        assert_eq!(round_trip(&[], Rows::default()), 5);
    }

    #[test]
    fn impossible_widths_are_refused() {
        let unpacker = &mut Unpacker::default();
        for bad in [
            &[0, 0, 17, 0, 0][..],
            &[1, 0, 4, 0, 0, 0],
            &[0, 0, 4, 0, 5],
            &[0, 0, 4, 2, 0],
        ] {
            assert!(
                read_packed(&mut Input::new(bad), unpacker, &mut [0; 2]).is_err(),
                "{bad:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_values_come_back(
            values in prop::collection::vec(any::<u16>(), 0..300),
            mask in any::<u16>(), base in any::<u16>(), row in 0u64..200, first in 0u64..1000,
        ) {
            let values: Vec<u16> = values.iter().map(|v| v & mask | base & !mask).collect();
            round_trip(&values, Rows::new(row, first));
        }
    }
}
