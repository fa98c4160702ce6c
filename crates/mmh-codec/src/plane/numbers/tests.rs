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

const fn form(signed: bool) -> Form {
    if signed { Form::Signed } else { Form::Plain }
}

fn widths(format: FloatFormat, signed: bool) -> Vec<u32> {
    let planes = format.planes_of(form(signed));
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
    let numbers =
        plane_decoder(|decoder| Numbers::read(decoder, &mut input, (format, form(signed)), n))?;
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

/// Numbers of bfloat16 whose mantissas are two parts, the lower in the context of the upper or
/// packed; with upper parts that are few or rare, and over the border of two blocks.
fn with_split_mantissas(n: usize, lower: Coder, noise: &mut Noise) -> (Vec<u8>, Vec<u8>) {
    let mut exponents = skewed(n, 9, noise);
    exponents.iter_mut().for_each(|value| *value &= 15);
    let mantissas: Vec<u16> = (0..n)
        .map(|_| {
            let upper = u16::from(noise.below(24).min(noise.below(24)));
            let most = if lower == Coder::Packed {
                4
            } else {
                1 + usize::from(noise.below(4))
            };
            upper << 2 | u16::from(noise.below(most))
        })
        .collect();
    let upper: Vec<u16> = mantissas.iter().map(|value| value >> 2).collect();
    let mut content = vec![2];
    let part = |width| Shape {
        width,
        rows: Rows::new(320, 0),
        sequential: false,
    };
    let mut records = Vec::new();
    with_encoder(|encoder| {
        encoder.put(&exponents, part(9), &mut records)?;
        encoder.put(&upper, part(5), &mut content)?;
        if lower == Coder::Packed {
            let low: Vec<u16> = mantissas.iter().map(|value| value & 3).collect();
            encoder.put(&low, part(2), &mut content)?;
        } else {
            let mut counts = vec![[0u32; SYMBOLS_MAX]; SYMBOLS_MAX];
            for value in &mantissas {
                counts[usize::from(value >> 2)][usize::from(value & 3)] += 1;
            }
            let levels: Vec<_> = counts
                .iter()
                .map(crate::entropy::Levels::from_counts)
                .collect();
            let bytes = |values: Vec<u16>| -> Vec<u8> {
                values.iter().map(|value| value.to_le_bytes()[0]).collect()
            };
            let low = bytes(mantissas.iter().map(|value| value & 3).collect());
            let mut coded = Vec::new();
            crate::plane::rans::put_in_context(
                encoder.engine,
                &low,
                &bytes(upper),
                (&levels, alphabet_of(4)),
                &mut coded,
            )?;
            put_record(Coder::Context, &coded, &mut content);
        }
        Ok::<_, crate::error::Error>(())
    })
    .unwrap();
    put_record(Coder::Split, &content, &mut records);
    let mut raw = vec![0; 2 * n];
    FloatFormat::Bf16
        .join(&[exponents, mantissas], &mut raw)
        .unwrap();
    (records, raw)
}

#[test]
fn split_mantissas_are_joined_block_by_block() {
    let noise = &mut Noise::new(5);
    for n in [64, 5000, BLOCK_LEN + BLOCK_LEN / 2 + 100] {
        for lower in [Coder::Context, Coder::Packed] {
            let (records, raw) = with_split_mantissas(n, lower, noise);
            for &engine in engines() {
                let found = read(engine, (FloatFormat::Bf16, false), &records, n);
                assert!(found.as_ref() == Ok(&raw), "{n} {lower:?}");
            }
        }
    }
}

/// Every cut, and flips: the same error or the same numbers whatever the engine.
#[test]
fn damaged_split_mantissas_are_the_same_for_every_engine() {
    let noise = &mut Noise::new(6);
    for lower in [Coder::Context, Coder::Packed] {
        let (records, _) = with_split_mantissas(300, lower, noise);
        let read_by_all = |records: &[u8]| {
            let mut results = engines()
                .iter()
                .map(|&engine| read(engine, (FloatFormat::Bf16, false), records, 300));
            let first = results.next().unwrap();
            assert!(results.all(|other| other == first));
            first
        };
        for cut in 0..records.len() {
            assert!(read_by_all(&records[..cut]).is_err(), "{cut}");
        }
        for bit in (0..8 * records.len()).step_by(3) {
            let mut bad = records.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            if let Ok(raw) = read_by_all(&bad) {
                assert_eq!(raw.len(), 600);
            }
        }
    }
}
