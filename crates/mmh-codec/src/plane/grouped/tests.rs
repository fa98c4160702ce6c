//! Grouped planes come back, take the place that their contexts promise, and refuse what no encoder writes.

use super::*;
use crate::layout::Keys;
use crate::plane::testing::{plane_decoder, shape, with_encoder};
use crate::samples::Noise;

fn context(unit: usize, centre: Option<u8>) -> Context {
    Context {
        unit,
        centre,
        keys: Keys::None,
    }
}

/// Codes of units whose spread follows from their key, one of them always 0.
fn sample(unit: usize, n: usize, width: u32) -> (Vec<u8>, Vec<u8>) {
    let noise = &mut Noise::new(11);
    let top = u8::MAX >> (8 - width);
    let (mut values, mut keys) = (Vec::new(), Vec::new());
    for _ in 0..n {
        let key = noise.below(20);
        let spread = 2 + u16::from(top) * (4 + 2 * u16::from(key)) / 48;
        let start = values.len();
        for _ in 0..unit {
            let sum = (0..3)
                .map(|_| u16::from(noise.below(255)) * spread / 255)
                .sum::<u16>()
                / 3;
            let centred = (u16::from(top / 2) + sum).saturating_sub(spread / 2);
            values.push(u8::try_from(centred).unwrap().clamp(1, top));
        }
        let place = usize::from(noise.below(unit));
        if unit > 1 {
            values[start + place] = 0;
        }
        keys.push(key);
    }
    (values, keys)
}

fn coded(values: &[u8], width: u32, how: (&Context, &[u8])) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let done = with_encoder(|encoder| encoder.put_grouped(values, shape(width, 0), how, &mut out));
    done.unwrap().then_some(out)
}

fn decoded(coded: &[u8], width: u32, how: (&Context, &[u8])) -> Result<Vec<u8>> {
    let mut values = Vec::new();
    let mut input = Input::new(coded);
    plane_decoder(|d| {
        d.grouped(&mut input, width, (how, 0..how.1.len()), &mut |_, part| {
            values.extend_from_slice(part);
        })
    })?;
    input.expect_end()?;
    Ok(values)
}

/// Every unit and width that layouts have, with and without extremes, over more than one part.
#[test]
fn grouped_planes_come_back_and_are_shorter() {
    for (unit, n) in [(1, 300_000), (16, 9000), (32, 9000), (32, 13_000)] {
        for width in [3, 4, 5, 6, 8] {
            let (values, keys) = sample(unit, n, width);
            let plain = with_encoder(|encoder| {
                let wide: Vec<u16> = values.iter().copied().map(u16::from).collect();
                let mut out = Vec::new();
                encoder.put(&wide, shape(width, 0), &mut out).unwrap();
                out.len()
            });
            for centre in [None, Some(u8::MAX >> (9 - width))]
                .into_iter()
                .take(unit.min(2))
            {
                let context = context(unit, centre);
                let how = (&context, &keys[..]);
                let Some(out) = coded(&values, width, how) else {
                    panic!("{unit} {width} {centre:?}")
                };
                assert!(decoded(&out, width, how).unwrap() == values);
                assert!(
                    out.len() < plain,
                    "{unit} {width} {centre:?}: {} of {plain}",
                    out.len()
                );
            }
        }
    }
}

#[test]
fn planes_without_structure_are_left_to_others() {
    let noise = &mut Noise::new(5);
    let values: Vec<u8> = (0..64_000).map(|_| noise.below(16)).collect();
    let (context, keys) = (context(32, None), vec![3; 2000]);
    assert_eq!(coded(&values, 4, (&context, &keys)), None);
    assert_eq!(coded(&values[..64], 4, (&context, &keys[..2])), None);
    assert_eq!(coded(&[9; 64_000], 4, (&context, &keys)), None);
}

#[test]
fn cut_and_flipped_planes_are_errors_or_other_values() {
    let (values, keys) = sample(32, 500, 5);
    let context = context(32, Some(15));
    let how = (&context, &keys[..]);
    let out = coded(&values, 5, how).unwrap();
    for cut in (0..out.len()).filter(|cut| cut % 9 == 0 || *cut < 400) {
        assert!(decoded(&out[..cut], 5, how).is_err(), "{cut}");
    }
    let mut refused = 0;
    for bit in (0..out.len() * 8).step_by(37) {
        let mut bad = out.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        match decoded(&bad, 5, how) {
            Ok(values) => assert!(values.iter().all(|&value| value < 32)),
            Err(_) => refused += 1,
        }
    }
    assert!(
        refused > out.len() / 20,
        "{refused} of {}",
        out.len() * 8 / 37
    );
}

#[test]
fn what_the_format_does_not_allow_is_refused() {
    let (values, keys) = sample(32, 500, 5);
    let context = context(32, None);
    let how = (&context, &keys[..]);
    let out = coded(&values, 5, how).unwrap();
    assert_eq!(out[..2], [0, 0]);
    let changed = |at: usize, to: u8| {
        let mut bad = out.clone();
        bad[at] = to;
        decoded(&bad, 5, how)
    };
    let unknown = Error::UnknownCode {
        what: "grouping",
        code: 2,
    };
    assert_eq!(changed(0, 2), Err(unknown));
    assert!(changed(1, 5).is_err(), "no bit is left for symbols");
    assert!(decoded(&out, 8, how).is_err(), "symbols of 8 bits");
    let single = Context { unit: 1, ..context };
    assert!(decoded(&[&[1], &out[1..]].concat(), 5, (&single, &keys)).is_err());
}
