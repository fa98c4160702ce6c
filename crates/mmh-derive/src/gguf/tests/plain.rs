//! The types without a search, written once more in the plainest way.

use super::*;

/// `Q4_0` and `Q5_0`: the extreme number becomes the least code.
fn symmetric(bits: u32, x: &[f32]) -> (u16, Vec<u8>) {
    let mut most = 0f32;
    for &x in x {
        if x.abs() > most.abs() {
            most = x;
        }
    }
    let half = f32::from(1u8 << (bits - 1));
    let scale = most / -half;
    let code = |&x: &f32| {
        let x = if scale == 0.0 { 0.0 } else { x * (1.0 / scale) };
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a code"
        )]
        let code = (x + half + 0.5).floor() as u8;
        code.min((1 << bits) - 1)
    };
    (float::half_from(scale), x.iter().map(code).collect())
}

/// `Q4_1` and `Q5_1`: the least number is 0, the largest is the last code.
fn between(bits: u32, x: &[f32]) -> (u16, u16, Vec<u8>) {
    let least = x.iter().copied().fold(f32::INFINITY, f32::min);
    let most = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scale = (most - least) / (f32::from(1u8 << bits) - 1.0);
    let code = |&x: &f32| {
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a code"
        )]
        let code = ((x - least) * inverse + 0.5).floor() as u8;
        code.min((1 << bits) - 1)
    };
    let codes = x.iter().map(code).collect();
    (float::half_from(scale), float::half_from(least), codes)
}

/// Codes in their places.
fn packed(bits: u32, codes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if bits == 5 {
        let mut high = 0u32;
        for (i, code) in codes.iter().enumerate() {
            high |= u32::from(code / 16) << i;
        }
        out.extend(high.to_le_bytes());
    }
    out.extend((0..16).map(|j| codes[j] % 16 + 16 * (codes[j + 16] % 16)));
    out
}

#[test]
fn blocks_of_32_are_what_their_definition_says() {
    for seed in 0..40 {
        let mut x = numbers(32 * 30, seed);
        x.iter_mut()
            .filter(|x| x.is_subnormal())
            .for_each(|x| *x = 0.0);
        for (bits, to, with_minimum) in
            [(4, Dtype::Q4_0, Dtype::Q4_1), (5, Dtype::Q5_0, Dtype::Q5_1)]
        {
            let run = |to| {
                let quantiser = Quantiser::new(to, 32, Contraction::Off).unwrap();
                quantise(&quantiser, &x, None).unwrap()
            };
            let (plain, minimum) = (run(to), run(with_minimum));
            let lens = [to.block().1 as usize, with_minimum.block().1 as usize];
            for (idx, x) in x.chunks(32).enumerate() {
                let (scale, codes) = symmetric(bits, x);
                let block = [scale.to_le_bytes().to_vec(), packed(bits, &codes)].concat();
                assert_eq!(plain[idx * lens[0]..][..lens[0]], block, "{to} of {x:?}");
                let (scale, least, codes) = between(bits, x);
                let head = [scale.to_le_bytes(), least.to_le_bytes()].concat();
                let block = [head, packed(bits, &codes)].concat();
                assert_eq!(minimum[idx * lens[1]..][..lens[1]], block, "{with_minimum}");
            }
        }
    }
}

#[test]
fn q8_0_is_what_its_definition_says() {
    let mut x = numbers(32 * 500, 77);
    x.iter_mut()
        .filter(|x| x.is_subnormal())
        .for_each(|x| *x = 0.0);
    let quantiser = Quantiser::new(Dtype::Q8_0, 32, Contraction::Off).unwrap();
    let out = quantise(&quantiser, &x, None).unwrap();
    for (x, block) in x.chunks(32).zip(out.chunks(34)) {
        let scale = x.iter().fold(0f32, |max, x| max.max(x.abs())) / 127.0;
        assert_eq!(block[..2], float::half_from(scale).to_le_bytes());
        for (x, code) in x.iter().zip(&block[2..]) {
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            #[allow(clippy::cast_possible_truncation, reason = "a code")]
            let expected = (x * inverse).round() as i8;
            assert_eq!(code.cast_signed(), expected);
        }
    }
}
