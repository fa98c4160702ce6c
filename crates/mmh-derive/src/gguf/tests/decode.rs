//! What blocks mean, written from their layouts alone: the number that each code stands for.
//! Quantised numbers have to be near what they were made of, whatever the quantiser did.

use super::*;

/// The numbers of one block.
fn decode(of: Dtype, block: &[u8]) -> Vec<f32> {
    let half = |at: usize| rounded_half(&block[at..]);
    let nibble = |from: usize, i: usize, run: usize| {
        let (run_idx, within) = (i / run, i % run);
        block[from + run_idx / 2 * run + within] >> (run_idx % 2 * 4) & 15
    };
    let number = |i: usize| match of {
        Dtype::Q4_0 => (f32::from(nibble(2, i, 16)) - 8.0) * half(0),
        Dtype::Q4_1 => f32::from(nibble(4, i, 16)) * half(0) + half(2),
        Dtype::Q5_0 => (f32::from(nibble(6, i, 16) | fifth(block, 2, i)) - 16.0) * half(0),
        Dtype::Q5_1 => f32::from(nibble(8, i, 16) | fifth(block, 4, i)) * half(0) + half(2),
        Dtype::Q8_0 => f32::from(block[2 + i].cast_signed()) * half(0),
        Dtype::Q2_K => {
            let scales = block[i / 16];
            let code = block[16 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
            let scale = half(80) * f32::from(scales & 15);
            scale * f32::from(code) - half(82) * f32::from(scales >> 4)
        }
        Dtype::Q3_K => {
            let low = block[32 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
            let high = block[i % 32] >> (i / 32) & 1;
            let j = i / 16;
            let four = block[96 + j % 8] >> (j / 8 * 4) & 15;
            let two = block[104 + j % 4] >> (j / 4 * 2) & 3;
            let scale = f32::from(four | two << 4) - 32.0;
            half(108) * scale * (f32::from(low | high << 2) - 4.0)
        }
        Dtype::Q4_K => {
            let (scale, minimum) = sixes(&block[4..16], i / 32);
            half(0) * scale * f32::from(nibble(16, i, 32)) - half(2) * minimum
        }
        Dtype::Q5_K => {
            let (scale, minimum) = sixes(&block[4..16], i / 32);
            let high = block[16 + i % 32] >> (i / 32) & 1;
            let code = nibble(48, i, 32) | high << 4;
            half(0) * scale * f32::from(code) - half(2) * minimum
        }
        Dtype::Q6_K => {
            let quarter = i % 128 / 32;
            let low = block[i / 128 * 64 + quarter % 2 * 32 + i % 32] >> (quarter / 2 * 4) & 15;
            let high = block[128 + i / 128 * 32 + i % 32] >> (quarter * 2) & 3;
            let scale = f32::from(block[192 + i / 16].cast_signed());
            half(208) * scale * (f32::from(low | high << 4) - 32.0)
        }
        Dtype::IQ4_NL => half(0) * level(nibble(2, i, 16)),
        Dtype::IQ4_XS => {
            let j = i / 32;
            let low = block[4 + j / 2] >> (j % 2 * 4) & 15;
            let high = u16::from_le_bytes([block[2], block[3]]) >> (2 * j) & 3;
            let scale = f32::from(u16::from(low) | high << 4) - 32.0;
            half(0) * scale * level(nibble(8, i, 16))
        }
        Dtype::TQ1_0 => {
            let (at, trit) = match i {
                0..160 => (i % 32, i / 32),
                160..240 => (32 + (i - 160) % 16, (i - 160) / 16),
                _ => (48 + (i - 240) % 4, (i - 240) / 4),
            };
            let turned = (0..trit).fold(block[at], |q, _| q.wrapping_mul(3));
            half(52) * (f32::from(u8::try_from((u16::from(turned) * 3) >> 8).unwrap()) - 1.0)
        }
        Dtype::TQ2_0 => {
            let code = block[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
            half(64) * (f32::from(code) - 1.0)
        }
        _ => unreachable!("not a type that is quantised"),
    };
    (0..of.block().0 as usize).map(number).collect()
}

/// The fifth bit of a code, in its place.
fn fifth(block: &[u8], at: usize, i: usize) -> u8 {
    (block[at + i / 8] >> (i % 8) & 1) << 4
}

/// Scale and minimum of a sub-block, of six bits each.
fn sixes(packed: &[u8], j: usize) -> (f32, f32) {
    let (scale, minimum) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        let scale = packed[j + 4] & 15 | packed[j - 4] >> 6 << 4;
        (scale, packed[j + 4] >> 4 | packed[j] >> 6 << 4)
    };
    (f32::from(scale), f32::from(minimum))
}

fn level(code: u8) -> f32 {
    const LEVELS: [f32; 16] = [
        -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0,
        69.0, 89.0, 113.0,
    ];
    LEVELS[usize::from(code)]
}

/// Bell-shaped numbers, as weights are, and how far away (root of the mean square, in parts of
/// that of the numbers) each type leaves them: a little above what was measured.
const BOUNDS: [(Dtype, f64); 14] = [
    (Dtype::Q4_0, 0.12),
    (Dtype::Q4_1, 0.11),
    (Dtype::Q5_0, 0.06),
    (Dtype::Q5_1, 0.055),
    (Dtype::Q8_0, 0.008),
    (Dtype::Q2_K, 0.35),
    (Dtype::Q3_K, 0.19),
    (Dtype::Q4_K, 0.09),
    (Dtype::Q5_K, 0.045),
    (Dtype::Q6_K, 0.025),
    (Dtype::IQ4_NL, 0.1),
    (Dtype::IQ4_XS, 0.1),
    (Dtype::TQ1_0, 0.8),
    (Dtype::TQ2_0, 0.8),
];

fn weights_like(n: usize) -> Vec<f32> {
    let mut state = 0x1234_5678u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        f64::from(state >> 8) / f64::from(1u32 << 24) - 0.5
    };
    #[allow(clippy::cast_possible_truncation, reason = "samples")]
    (0..n)
        .map(|_| ((0..6).map(|_| next()).sum::<f64>() * 0.05) as f32)
        .collect()
}

#[test]
fn quantised_numbers_are_near_those_they_were_made_of() {
    let x = weights_like(256 * 40);
    let power: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
    for (to, bound) in BOUNDS {
        for contraction in Contraction::ALL {
            for weights in [None, Some(vec![1.0; 256])] {
                let quantiser = Quantiser::new(to, 256, contraction).unwrap();
                let out = quantise(&quantiser, &x, weights.as_deref()).unwrap();
                let blocks = out.chunks(to.block().1 as usize);
                let back: Vec<f32> = blocks.flat_map(|block| decode(to, block)).collect();
                assert_eq!(back.len(), x.len());
                let miss = x.iter().zip(&back).map(|(x, y)| f64::from(x - y).powi(2));
                let miss = (miss.sum::<f64>() / power).sqrt();
                assert!(
                    miss < bound,
                    "{to} {contraction} {}: {miss}",
                    weights.is_some()
                );
                assert!(
                    miss > bound / 4.0,
                    "{to}: a bound of {bound} says nothing of {miss}"
                );
            }
        }
    }
}

/// Importance draws the error to where it counts less.
#[test]
fn what_is_important_is_nearer() {
    let x = weights_like(256 * 40);
    let important = |i: usize| i % 4 == 1;
    let weights: Vec<f32> = (0..256)
        .map(|i| if important(i) { 50.0 } else { 1.0 })
        .collect();
    for to in [
        Dtype::Q4_0,
        Dtype::Q4_1,
        Dtype::Q2_K,
        Dtype::Q3_K,
        Dtype::Q4_K,
        Dtype::IQ4_XS,
    ] {
        let quantiser = Quantiser::new(to, 256, Contraction::Off).unwrap();
        let miss = |weights: Option<&[f32]>| {
            let out = quantise(&quantiser, &x, weights).unwrap();
            let blocks = out.chunks(to.block().1 as usize);
            let back = blocks.flat_map(|block| decode(to, block));
            let misses = x.iter().zip(back).enumerate();
            let there = misses.filter(|(i, _)| important(*i));
            there
                .map(|(_, (x, y))| f64::from(x - y).powi(2))
                .sum::<f64>()
        };
        let (plain, weighted) = (miss(None), miss(Some(&weights)));
        assert!(
            weighted < plain * 0.95,
            "{to}: {weighted} is not less than {plain}"
        );
    }
}

/// Numbers on a grid that blocks can hold come back as the same ones of it.
#[test]
fn numbers_on_the_grid_come_back() {
    let grid = |levels: i16| -> Vec<f32> {
        let code = |i: i16| f32::from(i * 7 % (2 * levels) - levels) / 64.0;
        (0..256).map(code).collect()
    };
    for (to, levels) in [
        (Dtype::Q4_0, 8),
        (Dtype::Q5_0, 16),
        (Dtype::Q6_K, 32),
        (Dtype::Q8_0, 127),
    ] {
        let x = grid(levels);
        let quantiser = Quantiser::new(to, 256, Contraction::Off).unwrap();
        let out = quantise(&quantiser, &x, None).unwrap();
        let blocks = out.chunks(to.block().1 as usize);
        let back: Vec<f32> = blocks.flat_map(|block| decode(to, block)).collect();
        for (x, y) in x.iter().zip(back) {
            // At most half a step of the grid.
            assert!((x - y).abs() <= 1.0 / 128.0, "{to}: {x} became {y}");
        }
    }
    let trits: Vec<f32> = (0..256u16)
        .map(|i| f32::from(i * 5 % 3) * 0.5 - 0.5)
        .collect();
    for to in [Dtype::TQ1_0, Dtype::TQ2_0] {
        let quantiser = Quantiser::new(to, 256, Contraction::Off).unwrap();
        let out = quantise(&quantiser, &trits, None).unwrap();
        assert_eq!(decode(to, &out), trits, "{to}");
    }
}
