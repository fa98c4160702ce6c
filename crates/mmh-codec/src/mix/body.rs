//! The body of mixed frames: what the model begins with, its choices, and records of the bits
//! that it leaves alone.

use mmh_core::Dtype;

use super::{ROW_LEN_MAX, Setup};
use crate::body::float_rows;
use crate::error::{Error, Result, corrupt};
use crate::frame::PlaneInfo;
use crate::input::{Input, put_sized, put_varint};
use crate::layout::{FloatFormat, Layout};
use crate::plane::{Coder, PlaneDecoder, PlaneEncoder, Rows, Shape};
use crate::settings::Hint;

/// The row length where none is known or a row is too long.
const ROW_LEN_USUAL: usize = 1024;
/// One number in this many must be far below the usual for such numbers to be told apart.
const FAR_SHARE: usize = 1024;
/// How far that is, in halves of an octave.
const FAR_BELOW: usize = 26;

/// Bits of the plane `mantissa` that the model predicts: the sign and two of the mantissa.
const PREDICTED: u32 = 3;

/// The formats that have mixed frames.
fn format_of(layout: Layout) -> Option<FloatFormat> {
    match layout {
        Layout::Float(format) if format != FloatFormat::F64 => Some(format),
        _ => None,
    }
}

/// Appends the body of `raw`, whose elements are of type `dtype`, and says so, or appends nothing
/// where the type has no such body.
pub(crate) fn put_mixed(
    encoder: &mut PlaneEncoder<'_>,
    (layout, dtype): (Layout, Dtype),
    raw: &[u8],
    hint: &Hint,
    out: &mut Vec<u8>,
) -> Result<bool> {
    let Some(format) = format_of(layout) else {
        return Ok(false);
    };
    let rows = float_rows(format, dtype, hint);
    let (units, tail) = raw.split_at(raw.len() - raw.len() % format.len());
    let mut planes = format.split(units).into_iter();
    let (Some(exponents), Some(mut mantissas)) = (planes.next(), planes.next()) else {
        return Ok(false);
    };
    let (_, left) = widths(format);
    let setup = setup_for(&exponents, rows);
    let numbers: Vec<u16> = exponents
        .iter()
        .zip(&mantissas)
        .map(|(exponent, mantissa)| exponent << PREDICTED | mantissa >> left)
        .collect();
    out.push(layout.code());
    put_varint(out, setup.row_len);
    put_varint(out, setup.first);
    out.extend_from_slice(&setup.level.to_le_bytes());
    out.push(u8::from(setup.far));
    let mut choices = Vec::new();
    (encoder.engine.kernels().put_numbers)(setup, &numbers, &mut choices);
    put_sized(out, &choices);

    let mask = (1 << left) - 1;
    mantissas.iter_mut().for_each(|upper| *upper &= mask);
    let widths = [left].into_iter().chain(std::iter::repeat(16));
    for (values, width) in [mantissas].into_iter().chain(planes).zip(widths) {
        let shape = Shape {
            width,
            rows,
            sequential: false,
        };
        encoder.put(&values, shape, out)?;
    }
    out.extend_from_slice(tail);
    Ok(true)
}

/// Fills `raw` from a body.
pub(crate) fn read_mixed(
    decoder: &mut PlaneDecoder<'_>,
    body: &[u8],
    raw: &mut [u8],
) -> Result<()> {
    let mut input = Input::new(body);
    let (format, setup) = read_setup(&mut input)?;
    let n = raw.len() / format.len();
    let (units, tail) = raw.split_at_mut(n * format.len());
    let (exponent_width, left) = widths(format);
    let mut exponents = vec![0; n];
    let read = decoder.engine.kernels().read_numbers;
    read(setup, input.sized()?, &mut exponents, exponent_width)?;
    let mut mantissas = vec![0; n];
    decoder.read(&mut input, left, &mut mantissas)?;
    for (upper, number) in mantissas.iter_mut().zip(&mut exponents) {
        *upper |= (*number & ((1 << PREDICTED) - 1)) << left;
        *number >>= PREDICTED;
    }
    let mut planes = vec![exponents, mantissas];
    for (_, width) in format.planes().skip(2) {
        let mut values = vec![0; n];
        decoder.read(&mut input, width, &mut values)?;
        planes.push(values);
    }
    format.join(&planes, units)?;
    tail.copy_from_slice(input.take(tail.len())?);
    input.expect_end()
}

/// Names and lengths of the parts of a body.
pub(crate) fn mixed_info(body: &[u8]) -> Result<Vec<PlaneInfo>> {
    let mut input = Input::new(body);
    let (format, _) = read_setup(&mut input)?;
    let mut parts = vec![PlaneInfo {
        name: "numbers",
        coder: "mixed",
        coded_len: input.sized()?.len(),
    }];
    for (name, _) in format.planes().skip(1) {
        let coder = Coder::read(&mut input)?.as_str();
        parts.push(PlaneInfo {
            name,
            coder,
            coded_len: input.sized()?.len(),
        });
    }
    Ok(parts)
}

/// Widths of the exponents, and of what the model leaves of the plane `mantissa`.
fn widths(format: FloatFormat) -> (u32, u32) {
    let mut widths = format.planes().map(|(_, width)| width);
    let exponent = widths.next().unwrap_or(0);
    (
        exponent,
        widths.next().unwrap_or(0).saturating_sub(PREDICTED),
    )
}

fn read_setup(input: &mut Input<'_>) -> Result<(FloatFormat, Setup)> {
    let Some(format) = format_of(Layout::from_code(input.u8()?)?) else {
        return corrupt("the layout belongs to another method");
    };
    let (row_len, first) = (input.varint()?, input.varint()?);
    if row_len > ROW_LEN_MAX || first >= row_len {
        return corrupt("a row is too long or begins beyond its end");
    }
    let level = u16::from_le_bytes([input.u8()?, input.u8()?]);
    let far = match input.u8()? {
        0 => false,
        1 => true,
        code => return Err(Error::UnknownCode { what: "mix", code }),
    };
    let setup = Setup {
        row_len,
        first,
        level,
        far,
    };
    Ok((format, setup))
}

/// The scale that most numbers have, and whether many are far below it.
fn setup_for(exponents: &[u16], rows: Rows) -> Setup {
    let mut counts = [0usize; 512];
    for &exponent in exponents {
        counts[usize::from(exponent & 511)] += 1;
    }
    let mut below = 0;
    let usual = counts.iter().position(|&count| {
        below += count;
        5 * below >= 3 * exponents.len()
    });
    let usual = usual.unwrap_or(0);
    let far: usize = counts[..usual.saturating_sub(FAR_BELOW)].iter().sum();
    let given = usize::try_from(rows.len).ok();
    let given = given.filter(|len| (1..=ROW_LEN_MAX).contains(len));
    let row_len = given.unwrap_or(ROW_LEN_USUAL);
    let before = usize::try_from(rows.before).unwrap_or(0);
    Setup {
        row_len,
        first: if given.is_some() { before % row_len } else { 0 },
        level: u16::try_from(usual / 2 + 1).unwrap_or(0) << 8,
        far: far * FAR_SHARE > exponents.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{convolution, weights};
    use crate::{Decoder, Encoder, Level, Method, Settings, frame_info};

    fn frame(dtype: Dtype, raw: &[u8], hint: Hint) -> Vec<u8> {
        let settings = Settings {
            level: Level::Archive,
            verify: true,
        };
        let mut frame = Vec::new();
        let method = Encoder::new(settings).encode(raw, &hint, &mut frame);
        assert_eq!(method, Ok(Method::Mixed), "{dtype}");
        frame
    }

    /// Less than the other methods take, and described part by part.
    #[test]
    fn floats_are_smaller_than_by_planes() {
        for (dtype, names) in [
            (Dtype::BF16, &["numbers", "mantissa"][..]),
            (Dtype::F16, &["numbers", "mantissa"]),
            (Dtype::F32, &["numbers", "mantissa", "low"]),
        ] {
            let raw = weights(dtype, 2048, 400_001, 5);
            let hint = Hint::tensor(dtype, 2048);
            let mixed = frame(dtype, &raw, hint);
            let mut plain = Vec::new();
            let mut encoder = Encoder::new(Settings::default());
            encoder.encode(&raw, &hint, &mut plain).unwrap();
            assert!(mixed.len() < plain.len(), "{dtype}");
            let parts = frame_info(&mixed).unwrap().planes;
            assert!(parts.iter().map(|part| part.name).eq(names.iter().copied()));
            assert_eq!(parts[0].coder, "mixed");
        }
    }

    #[test]
    fn setups_that_cannot_be_are_refused() {
        let raw = convolution(Dtype::BF16, [2, 2, 1], 16, 5000, 5);
        let good = frame(Dtype::BF16, &raw, Hint::tensor(Dtype::BF16, 64));
        // Version, method, two bytes of length, one check; layout, row_len, first, level, far.
        let at = 8;
        assert_eq!(good[at..at + 3], [0, 64, 0]);
        let decode = |frame: &[u8]| Decoder::new().decode(frame, raw.len(), &mut Vec::new());
        for (place, value, what) in [
            (0, 3, "a layout without mixed frames"),
            (0, 16, "integers"),
            (1, 0, "no columns"),
            (2, 64, "a first column beyond the row"),
            (5, 2, "another way to tell what is far"),
        ] {
            let mut bad = good.clone();
            bad[at + place] = value;
            assert!(decode(&bad).is_err(), "{what}");
        }
        let long = [&good[..at + 1], &[0x81, 0x80, 4], &good[at + 2..]].concat();
        assert!(decode(&long).is_err(), "65537 columns");
        assert_eq!(decode(&good), Ok(()));
    }

    #[test]
    fn rows_that_are_unknown_or_too_long_get_a_usual_length() {
        for len in [0, 65_537, u64::MAX] {
            let setup = setup_for(&[254; 9], Rows { len, before: 3 });
            assert_eq!((setup.row_len, setup.first), (ROW_LEN_USUAL, 0));
        }
        let setup = setup_for(
            &[254; 9],
            Rows {
                len: 65_536,
                before: 3,
            },
        );
        assert_eq!((setup.row_len, setup.first), (65_536, 3));
        assert_eq!((setup.level, setup.far), (128 << 8, false));
        let low = setup_for(&[&[254; 900][..], &[40; 1400]].concat(), Rows::default());
        assert_eq!((low.level, low.far), (21 << 8, false), "most are low");
        let far = setup_for(&[&[254; 900][..], &[40; 90]].concat(), Rows::default());
        assert!(far.far);
    }
}
