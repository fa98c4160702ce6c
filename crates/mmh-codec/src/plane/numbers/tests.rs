//! Numbers read block by block are those that their planes, read one by one, join to.

use super::super::testing::{plane_decoder, with_encoder};
use super::super::{Shape, put_record};
use super::*;
use crate::entropy::engines;
use crate::plane::Rows;
use crate::samples::Noise;

const FORMATS: [FloatFormat; 4] = [
    FloatFormat::Bf16,
    FloatFormat::F16,
    FloatFormat::F32,
    FloatFormat::F64,
];

fn widths(format: FloatFormat, signed: bool) -> Vec<u32> {
    let planes: Vec<_> = if signed {
        format.signed_planes().collect()
    } else {
        format.planes().collect()
    };
    planes.into_iter().map(|(_, width)| width).collect()
}

/// Values of up to `width` bits, most of them among a few neighbours, and some that are rare.
fn skewed(n: usize, width: u32, noise: &mut Noise) -> Vec<u16> {
    (0..n)
        .map(|_| {
            let any = u16::from_le_bytes([noise.below(256), noise.below(256)]) >> (16 - width);
            let near = u16::from(noise.below(20).min(noise.below(20)));
            if noise.below(200) == 0 {
                any
            } else {
                near & (u16::MAX >> (16 - width))
            }
        })
        .collect()
}

/// The records of planes, and the numbers that they join to.
fn numbers((format, signed): (FloatFormat, bool), planes: &mut [Vec<u16>]) -> (Vec<u8>, Vec<u8>) {
    let mut records = Vec::new();
    for (values, width) in planes.iter().zip(widths(format, signed)) {
        let shape = Shape {
            width,
            rows: Rows::new(320, 0),
            sequential: false,
        };
        with_encoder(|encoder| encoder.put(values, shape, &mut records)).unwrap();
    }
    if signed {
        format.return_signs(planes);
    }
    let mut raw = vec![0; planes[0].len() * format.len()];
    format.join(planes, &mut raw).unwrap();
    (records, raw)
}

/// With `engine`, and buffers that have something in them.
fn read(
    engine: &dyn Engine,
    (format, signed): (FloatFormat, bool),
    records: &[u8],
    n: usize,
) -> Result<Vec<u8>> {
    let mut raw = vec![0xee; n * format.len()];
    let mut input = Input::new(records);
    let mut buffers = Buffers {
        symbols: vec![9; 77],
        bytes: vec![9; 5],
        words: vec![9; 5],
        planes: vec![vec![9; 5]; 9],
        ..Buffers::default()
    };
    let numbers = plane_decoder(|decoder| Numbers::read(decoder, &mut input, (format, signed), n))?;
    input.expect_end()?;
    for i in (0..numbers.n_blocks()).rev() {
        let range = numbers.range(i);
        let raw = &mut raw[range.start * format.len()..range.end * format.len()];
        numbers.block(engine, &mut buffers, i, raw)?;
    }
    Ok(raw)
}

#[test]
fn planes_of_any_form_are_joined_by_every_engine() {
    let noise = &mut Noise::new(1);
    for format in FORMATS {
        for signed in [false, true] {
            for n in [0, 1, 63, 4096, 9001] {
                // Skewed planes are ranked or split, noise is packed, zeros are constant.
                for kind in 0..8 {
                    let mut planes = Vec::new();
                    for (i, width) in widths(format, signed).into_iter().enumerate() {
                        planes.push(match kind >> i.min(2) & 1 {
                            1 if i == 0 => (0..n).map(|i| u16::try_from(i % 61).unwrap()).collect(),
                            1 if kind == 7 => vec![0; n],
                            1 => skewed(n, width, noise),
                            _ if i == 0 => skewed(n, width.min(12), noise),
                            _ => (0..n)
                                .map(|_| noise.bits().to_le_bytes())
                                .map(|b| u16::from_le_bytes([b[0], b[1]]) >> (16 - width))
                                .collect(),
                        });
                        let mask = u16::MAX >> (16 - width);
                        planes[i].iter_mut().for_each(|value| *value &= mask);
                    }
                    let (records, raw) = numbers((format, signed), &mut planes);
                    for &engine in engines() {
                        let found = read(engine, (format, signed), &records, n);
                        assert!(found.as_ref() == Ok(&raw), "{format:?} {signed} {n} {kind}");
                    }
                }
            }
        }
    }
}

#[test]
fn truncated_planes_are_errors_for_every_engine() {
    let noise = &mut Noise::new(2);
    for format in FORMATS {
        let mut planes: Vec<Vec<u16>> = widths(format, false)
            .into_iter()
            .map(|width| skewed(500, width, noise))
            .collect();
        let (records, _) = numbers((format, false), &mut planes);
        for cut in 0..records.len() {
            for &engine in engines() {
                assert!(read(engine, (format, false), &records[..cut], 500).is_err());
            }
        }
    }
}

#[test]
fn values_too_wide_for_their_plane_are_refused() {
    let constant = |value: u16| {
        let mut record = Vec::new();
        put_record(Coder::Constant, &value.to_le_bytes(), &mut record);
        record
    };
    let read = |exponent, mantissa| {
        let records = [constant(exponent), constant(mantissa)].concat();
        read(engines()[0], (FloatFormat::Bf16, false), &records, 3)
    };
    assert_eq!(read(0x1ff, 0x7f), Ok(vec![0xff; 6]));
    assert!(read(0x200, 0).is_err());
    assert!(read(0, 0x80).is_err());
}
