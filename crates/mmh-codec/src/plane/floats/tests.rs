//! The pass over floats: what it writes reads back, is the same with every engine, and what it is
//! not made for it leaves alone.

use super::super::testing::{plane_decoder, with_encoder};
use super::super::{Buffers, Numbers};
use super::*;
use crate::entropy::{Engine, Reference, best, engines};
use crate::input::Input;
use crate::layout::Division;
use crate::samples::Noise;

const FORMATS: [FloatFormat; 3] = [FloatFormat::Bf16, FloatFormat::F16, FloatFormat::F32];

/// Weights of rows of 384 whose spread differs from row to row.
fn numbers(format: FloatFormat, n: usize, noise: &mut Noise) -> Vec<f32> {
    let small = if format == FloatFormat::F16 {
        0.2
    } else {
        1e-3
    };
    let mut spread = 0.0;
    (0..n)
        .map(|i| {
            if i % 384 == 0 {
                spread = small * (1.0 + f32::from(noise.below(8)));
            }
            spread * noise.normal()
        })
        .collect()
}

fn bytes(format: FloatFormat, numbers: &[f32]) -> Vec<u8> {
    let bits = numbers.iter().map(|x| x.to_bits());
    match format {
        FloatFormat::F32 => bits.flat_map(u32::to_le_bytes).collect(),
        FloatFormat::Bf16 => bits
            .flat_map(|x| (x >> 16).to_le_bytes()[..2].to_vec())
            .collect(),
        // Numbers below 2^16 with the exponent moved to the place of binary16's.
        _ => bits
            .flat_map(|x| {
                let half = x >> 16 & 0x8000 | (x >> 13).wrapping_sub(112 << 10) & 0x7fff;
                half.to_le_bytes()[..2].to_vec()
            })
            .collect(),
    }
}

type Records = Option<(Layout, Vec<u8>)>;

fn put(engine: &dyn Engine, format: FloatFormat, raw: &[u8], rows: Rows) -> Records {
    with_encoder(|encoder| {
        let mut encoder = PlaneEncoder {
            engine,
            packer: &mut *encoder.packer,
            scratch: &mut *encoder.scratch,
            effort: encoder.effort,
            dense: encoder.dense,
        };
        // Twice, since what is left of a frame must not show in the next one.
        let (mut first, mut out) = (Vec::new(), b"before".to_vec());
        encoder.put_floats(format, raw, rows, &mut first).unwrap();
        let done = encoder.put_floats(format, raw, rows, &mut out).unwrap();
        let records = out.strip_prefix(b"before").unwrap();
        assert!(records == first && done.is_none() == first.is_empty());
        done.map(|layout| (layout, first))
    })
}

/// The records of `raw`, checked, and the coders of its planes.
fn check(format: FloatFormat, raw: &[u8], row_len: u64) -> Option<Vec<Coder>> {
    let rows = Rows::new(row_len, 0);
    let records = put(&Reference, format, raw, rows);
    assert!(records == put(best(), format, raw, rows), "engines differ");
    let (layout, records) = records?;
    let Division::Float(format, form) = layout.division() else {
        panic!("{layout:?}")
    };
    let mut input = Input::new(&records);
    let n = raw.len() / format.len();
    let numbers =
        plane_decoder(|decoder| Numbers::read(decoder, &mut input, (format, form), n)).unwrap();
    input.expect_end().unwrap();
    for &engine in engines() {
        let mut back = vec![0; raw.len()];
        for i in 0..numbers.n_blocks() {
            let range = numbers.range(i);
            let part = &mut back[range.start * format.len()..range.end * format.len()];
            numbers
                .block(engine, &mut Buffers::default(), i, part)
                .unwrap();
        }
        assert!(back == raw, "{format:?} {}", engine.name());
    }
    let (mut input, mut coders) = (Input::new(&records), Vec::new());
    for _ in format.planes() {
        coders.push(Coder::read(&mut input).unwrap());
        input.sized().unwrap();
    }
    Some(coders)
}

/// Whether the planes are what the pass makes of numbers: symbols of either kind, and noise.
fn quick(coders: &[Coder]) -> bool {
    matches!(coders, [Coder::Ranked | Coder::Binned, Coder::Packed, ..])
}

#[test]
fn weights_of_every_format_and_length_come_back() {
    let noise = &mut Noise::new(1);
    for format in FORMATS {
        for n in [4096, 4097, 20_000, 300 * 384, 200_001] {
            let raw = bytes(format, &numbers(format, n, noise));
            for row_len in [0, 384, 100, 4096] {
                let coders = check(format, &raw, row_len).unwrap();
                assert!(quick(&coders), "{coders:?}");
            }
        }
    }
}

/// Of many numbers of binary32, whose mantissas are noise but for their upper bits.
#[test]
fn bins_are_taken_where_they_pay() {
    let noise = &mut Noise::new(7);
    let mut bell = |n: usize| -> Vec<f32> { (0..n).map(|_| 0.05 * noise.normal()).collect() };
    let coder = |format, numbers: &[f32]| check(format, &bytes(format, numbers), 384).unwrap()[0];
    let many = bell(300_000);
    assert_eq!(coder(FloatFormat::F32, &many), Coder::Binned);
    assert_eq!(coder(FloatFormat::F32, &many[..100_000]), Coder::Binned);
    assert_eq!(coder(FloatFormat::F32, &many[..20_000]), Coder::Ranked);
    assert_eq!(coder(FloatFormat::F16, &many), Coder::Ranked);
    let positive: Vec<f32> = many.iter().map(|x| x.abs()).collect();
    assert_eq!(coder(FloatFormat::F32, &positive), Coder::Ranked);
    // Numbers beyond all bins are exceptions, wherever they are.
    let mut odd = many.clone();
    for (at, x) in
        [0, 70_000, 262_143, 262_144, 299_999]
            .into_iter()
            .zip([f32::NAN, -1e30, 1e30, -0.0, 1e-30])
    {
        odd[at] = x;
    }
    assert_eq!(coder(FloatFormat::F32, &odd), Coder::Binned);
}

#[test]
fn few_numbers_and_noise_are_left_alone() {
    let noise = &mut Noise::new(2);
    for format in FORMATS {
        let raw = bytes(format, &numbers(format, 4095, noise));
        assert_eq!(check(format, &raw, 384), None);
        assert_eq!(check(format, &[], 384), None);
        let raw: Vec<u8> = (0..80_000).map(|_| noise.below(256)).collect();
        let done = check(format, &raw, 384);
        assert!(done.is_none() || format == FloatFormat::F16);
    }
    let raw = bytes(FloatFormat::F32, &numbers(FloatFormat::F32, 8192, noise));
    assert_eq!(check(FloatFormat::F64, &raw, 384), None);
}

/// A value in a segment that no sample has: rarer, wider, of another sign, or less precise.
#[test]
fn what_the_sample_has_not_seen_is_noticed() {
    let noise = &mut Noise::new(3);
    for format in FORMATS {
        let like = numbers(format, 512 * 384, noise);
        let positive: Vec<f32> = like.iter().map(|x| x.abs()).collect();
        for at in [0, 383, 384, 1000 * 64, 512 * 384 - 1] {
            for odd in [0.0, -0.0, 3e4, -3e4, 1e-4, f32::NAN, f32::INFINITY] {
                let mut odd_one = positive.clone();
                odd_one[at] = odd;
                let coders = check(format, &bytes(format, &odd_one), 384).unwrap();
                assert!(quick(&coders), "{coders:?}");
            }
        }
        // A sign that never differs takes no place.
        let (rows, both) = (Rows::new(384, 0), bytes(format, &like));
        let both = put(&Reference, format, &both, rows).unwrap().1.len();
        let one = put(&Reference, format, &bytes(format, &positive), rows);
        let one = one.unwrap().1.len();
        assert!(one + positive.len() / 9 < both, "{format:?}: {one} {both}");
    }
}

/// Low bits that are zero in all numbers, in some rows, or in all but one number.
#[test]
fn zeros_below_take_no_place() {
    let noise = &mut Noise::new(4);
    let format = FloatFormat::F32;
    let cut = |x: &f32| f32::from_bits(x.to_bits() & !0xffff);
    let all = numbers(format, 400 * 384, noise);
    let halves: Vec<f32> = all.iter().map(cut).collect();
    let coders = check(format, &bytes(format, &halves), 384).unwrap();
    assert!(quick(&coders) && coders[2] == Coder::Constant, "{coders:?}");
    let mut but_one = halves.clone();
    but_one[777] = all[777];
    let coders = check(format, &bytes(format, &but_one), 384).unwrap();
    assert_ne!(coders[2], Coder::Packed, "nearly constant is not noise");
    let mut rows = all.clone();
    for row in rows.chunks_mut(384).step_by(5) {
        row.iter_mut()
            .for_each(|x| *x = f32::from_bits(x.to_bits() & !0x1fff));
    }
    let len = |numbers: &[f32]| {
        let raw = bytes(format, numbers);
        assert!(check(format, &raw, 384).is_some());
        put(&Reference, format, &raw, Rows::new(384, 0))
            .unwrap()
            .1
            .len()
    };
    let (full, saved) = (len(&all), len(&rows));
    assert!(saved + 80 * 384 * 13 / 8 < full + 200, "{saved} of {full}");
}

/// Mantissas of few kinds are worth more than packing.
#[test]
fn a_plane_that_is_not_noise_is_coded_apart() {
    let noise = &mut Noise::new(5);
    for format in FORMATS {
        let coarse: Vec<f32> = numbers(format, 300 * 384, noise)
            .iter()
            .map(|x| {
                let drop = if noise.below(8) > 0 { !0x001f_ffff } else { !0 };
                f32::from_bits(x.to_bits() & drop)
            })
            .collect();
        let coders = check(format, &bytes(format, &coarse), 384).unwrap();
        assert_eq!(coders[0], Coder::Ranked);
        assert_ne!(coders[1], Coder::Packed, "{format:?}");
    }
}

#[test]
fn room_in_the_alphabet_goes_to_neighbours() {
    let counted = |values: &[usize]| {
        let mut counts = vec![0; 512];
        values.iter().for_each(|&value| counts[value] = 5);
        counts
    };
    let bf16 = |values: &[usize]| exponents_of(&counted(values), FloatFormat::Bf16);
    let found = bf16(&[200, 201, 202]);
    assert!(found.len() == 16 && found.is_sorted() && found.contains(&203));
    assert!(found[0] < 195, "more of those below");
    assert_eq!(bf16(&[0]), (0..16).collect::<Vec<u16>>());
    assert_eq!(bf16(&[511]), (496..512).collect::<Vec<u16>>());
    let many: Vec<usize> = (100..120).collect();
    assert_eq!(bf16(&many).len(), 32);
    let f16 = exponents_of(&counted(&[63]), FloatFormat::F16);
    assert_eq!(f16, (48..64).collect::<Vec<u16>>());
}
