//! The loops of dense planes do as FORMAT.md says, and every form as the plain one.

use super::*;
use crate::kernel::tests::{LENGTHS, noise_of, others};
use crate::kernel::{Above, Fields, Kernels, Meaning};
use crate::samples::Noise;

fn shown_of(n: usize, noise: &mut Noise) -> Vec<i8> {
    // What values show, and, rarely, anything.
    let draw = |noise: &mut Noise| match noise.below(20) {
        0 => noise.below(256).cast_signed(),
        _ => {
            let size = SIZES[usize::from(noise.below(16))];
            if noise.below(2) == 0 { size } else { -size }
        }
    };
    (0..n).map(|_| draw(noise)).collect()
}

#[test]
fn sizes_are_half_octaves() {
    for (step, &size) in SIZES.iter().enumerate().skip(1) {
        let exact = 16.0 * f64::exp2((step as f64 - 10.0) / 2.0);
        assert!((f64::from(size) - exact).abs() <= 0.51, "{step}");
    }
}

/// The numbers of the specification, for each number of neighbours.
#[test]
fn contexts_are_levels_of_prediction_and_mean() {
    let noise = &mut Noise::new(31);
    for n in LENGTHS {
        let shown = [(); 4].map(|()| shown_of(n, noise));
        let nothing = vec![0; n];
        for count in 1..=3 {
            let straight = [0, 1, 2].map(|i| if i < count { &shown[i] } else { &nothing });
            let near = Near {
                straight: straight.map(|shown| &shown[..]),
                corner: &shown[3],
                count,
            };
            let mut plain = vec![1; n];
            (Kernels::PORTABLE.contexts)(near, &mut plain);
            for (i, &known) in plain.iter().enumerate() {
                let [l, u, b] = straight.map(|shown| i32::from(shown[i]));
                let prediction = 2 * (l + u + b) - i32::from(shown[3][i]);
                let mean = [0, 6, 3, 2][count] * (l.abs() + u.abs() + b.abs());
                let below = |limits: &[i32], x: i32| limits.iter().filter(|&&l| l < x).count();
                let p = below(&[4, 10, 18, 28, 40, 56, 80], prediction.abs());
                let m = below(&[18, 36, 60, 96, 144], mean);
                assert_eq!(usize::from(known & 0x7f), 8 * p + m);
                assert_eq!(known & SIGN != 0, prediction < 0);
            }
            for kernels in others() {
                let mut quick = vec![2; n];
                (kernels.contexts)(near, &mut quick);
                assert!(quick == plain, "{n} {count}");
            }
        }
    }
}

#[test]
fn contexts_have_the_classes_of_the_map() {
    let noise = &mut Noise::new(32);
    for n in LENGTHS {
        for n_scales in [1, 2, 3, 16, 63, 64] {
            let map = noise_of(n_scales * PER_SCALE, noise);
            let map = map.as_chunks().0;
            let (scales, known) = (noise_of(n, noise), noise_of(n, noise));
            let scales: Vec<u8> = scales.into_iter().map(|scale| scale & 63).collect();
            for kernels in [vec![Kernels::PORTABLE], others()].concat() {
                let mut found = vec![255; n];
                (kernels.classes)(map, (&scales, &known), &mut found);
                for ((found, &scale), &known) in found.iter().zip(&scales).zip(&known) {
                    let row = usize::from(scale).min(n_scales - 1);
                    assert_eq!(*found, map[row][usize::from(known & 63)]);
                }
            }
        }
        for kernels in others() {
            let mut found = vec![9; n];
            (kernels.classes)(&[], (&vec![0; n], &vec![0; n]), &mut found);
            assert_eq!(found, vec![9; n], "no map, no class");
        }
    }
}

/// Codes, what is shown, the kernels of escapes and the highest code.
fn kept(kernels: &Kernels, signs: bool, coded: Coded<'_>) -> (Vec<u8>, Vec<i8>, Vec<u32>, u8) {
    let n = coded.symbols.len();
    let (mut codes, mut shown, mut escaped) = (vec![0; n], vec![0; n], vec![7]);
    let keep = if signs {
        kernels.keep_signed
    } else {
        kernels.keep
    };
    let to = Kept {
        codes: &mut codes,
        shown: &mut shown,
        escaped: &mut escaped,
        first: 1000,
        lift: 9,
    };
    let highest = keep(coded, to);
    (codes, shown, escaped, highest)
}

#[test]
fn symbols_become_codes() {
    let noise = &mut Noise::new(33);
    for n in LENGTHS {
        for rare in [1, 2, 32] {
            let symbols: Vec<u8> = (0..n)
                .map(|_| noise.below(32).max(noise.below(rare)))
                .collect();
            let known = noise_of(n, noise);
            let scales: Vec<u8> = (0..n).map(|_| noise.below(64)).collect();
            let coded = Coded {
                symbols: &symbols,
                known: &known,
                scales: &scales,
            };
            for signs in [false, true] {
                let plain = kept(&Kernels::PORTABLE, signs, coded);
                let (codes, shown, escaped, highest) = &plain;
                let mut escapes = escaped[1..].iter();
                for i in 0..n {
                    let step = symbols[i] & if signs { 15 } else { 31 };
                    let negative = signs && (symbols[i] & 16 != 0) != (known[i] & SIGN != 0);
                    let sign = if negative { SIGN } else { 0 };
                    assert_eq!(codes[i], (scales[i] + step + 9) | sign);
                    if signs {
                        let size = SIZES[usize::from(step)];
                        assert_eq!(shown[i], if negative { -size } else { size });
                    }
                    if step == 0 {
                        assert_eq!(escapes.next(), Some(&(1000 + u32::try_from(i).unwrap())));
                    } else {
                        assert!(codes[i] & !sign <= *highest);
                    }
                }
                assert_eq!(escapes.next(), None);
                for kernels in others() {
                    assert!(kept(&kernels, signs, coded) == plain, "{n} {signs}");
                }
            }
        }
    }
}

#[test]
fn codes_of_taps_come_in_the_order_of_numbers() {
    let noise = &mut Noise::new(34);
    let all = [
        [1, 1, 1],
        [2, 1, 1],
        [1, 3, 1],
        [3, 3, 1],
        [5, 5, 1],
        [3, 3, 3],
        [7, 7, 1],
        [2, 16, 2],
        [16, 1, 4],
        [13, 5, 1],
        [7, 7, 7],
    ];
    for sides in all {
        let taps = sides.iter().product();
        for n in [0, 1, 63, 64, 65, 200] {
            let codes: Vec<Vec<u8>> = (0..taps).map(|_| noise_of(n + 5, noise)).collect();
            let parts: Vec<&[u8]> = codes.iter().map(|codes| &codes[3..3 + n]).collect();
            for kernels in [vec![Kernels::PORTABLE], others()].concat() {
                let mut out = vec![0; n * taps];
                (kernels.interleave)(&Interleave::new(sides), &parts, &mut out);
                for (i, code) in out.iter().enumerate() {
                    assert_eq!(*code, parts[i % taps][i / taps], "{sides:?} {n} {i}");
                }
            }
        }
    }
}

/// Codes are joined with the other fields of numbers; what an exponent has no room for is cut.
#[test]
fn codes_are_joined_to_numbers() {
    let noise = &mut Noise::new(35);
    for n in LENGTHS {
        let (symbols, bytes) = (noise_of(n, noise), noise_of(n, noise));
        let words: Vec<u16> = noise_of(2 * n, noise)
            .as_chunks()
            .0
            .iter()
            .map(|pair| u16::from_le_bytes(*pair))
            .collect();
        let pairs: Vec<[u8; 2]> = words.iter().map(|word| word.to_le_bytes()).collect();
        for (signed, base) in [(true, 200), (false, 100), (true, 8192), (false, 500)] {
            let bytes: Vec<u8> = (bytes.iter())
                .map(|byte| byte & if signed { 0x3f } else { 0x7f })
                .collect();
            let low: Vec<u16> = (words.iter())
                .map(|word| word & if signed { 0x1ff } else { 0x3ff })
                .collect();
            let parts = |code: u8, width: u32| {
                let above = code & if signed { 0x7f } else { 0xff };
                let exponent = (base + u32::from(above)) & ((1 << width) - 1);
                (exponent, u32::from(signed && code & 0x80 != 0) << 15)
            };
            let above = |width: u32| {
                let mask = (1 << width) - 1;
                Meaning::Above(Above {
                    base: u16::try_from(base).unwrap(),
                    mask,
                    signed,
                })
            };
            let fields = Fields {
                symbols: &symbols,
                meaning: above(9),
                bytes: &bytes,
                words: &[],
                pairs: &pairs,
            };
            let halves = Fields {
                meaning: above(6),
                words: &low,
                ..fields
            };
            for kernels in [vec![Kernels::PORTABLE], others()].concat() {
                let (mut bf16, mut f16) = (vec![[0; 2]; n], vec![[0; 2]; n]);
                let mut f32 = vec![[0; 4]; n];
                (kernels.join_bf16)(fields, &mut bf16);
                (kernels.join_f32)(fields, &mut f32);
                (kernels.join_f16)(halves, &mut f16);
                for i in 0..n {
                    let (exponent, sign) = parts(symbols[i], 9);
                    let byte = u32::from(bytes[i]);
                    let upper = exponent << 6 | sign | byte & 0x3f | (byte & 0x40) << 9;
                    assert_eq!(u32::from(u16::from_le_bytes(bf16[i])), upper);
                    let number = upper << 16 | u32::from(words[i]);
                    assert_eq!(u32::from_le_bytes(f32[i]), number);
                    let (exponent, sign) = parts(symbols[i], 6);
                    let word = u32::from(low[i]);
                    let half = exponent << 9 | sign | word & 0x1ff | (word & 0x200) << 6;
                    assert_eq!(u32::from(u16::from_le_bytes(f16[i])), half);
                }
            }
        }
    }
}
