//! Laws that hold for quantisers whatever they search: they need no other implementation.

use super::*;

fn plain(to: Dtype, row: usize, contraction: Contraction) -> Quantiser {
    Quantiser::new(to, row, contraction).unwrap()
}

/// Numbers of a size at which neither the bound for zeros nor subnormals of F16 matter.
fn moderate(n: usize, rng_seed: u64) -> Vec<f32> {
    let x = numbers(n, rng_seed).into_iter();
    x.map(|x| (x * 64.0).round() / 64.0)
        .map(|x| x.clamp(-8.0, 8.0))
        .collect()
}

/// Where the F16 scales of a block lie.
fn halves(to: Dtype) -> Vec<usize> {
    match to {
        Dtype::Q4_1 | Dtype::Q5_1 | Dtype::Q4_K | Dtype::Q5_K => vec![0, 2],
        Dtype::Q2_K => vec![80, 82],
        Dtype::Q3_K => vec![108],
        Dtype::Q6_K => vec![208],
        Dtype::TQ1_0 => vec![52],
        Dtype::TQ2_0 => vec![64],
        _ => vec![0],
    }
}

/// The block with its scales taken out, and the scales.
fn apart(to: Dtype, block: &[u8]) -> (Vec<u8>, Vec<f32>) {
    let mut rest = block.to_vec();
    let mut scales = Vec::new();
    for at in halves(to) {
        scales.push(rounded_half(&block[at..]));
        (rest[at], rest[at + 1]) = (0, 0);
    }
    (rest, scales)
}

/// Twice the numbers are the same codes with twice the scale: powers of two change no rounding.
#[test]
fn twice_the_numbers_have_twice_the_scale_and_the_same_codes() {
    for to in Quantiser::TYPES {
        let len = to.block().1 as usize;
        for contraction in Contraction::ALL {
            let quantiser = plain(to, 512, contraction);
            for weights in [None, Some(importance(512, 21))] {
                let x = moderate(512 * 6, 8);
                let twice: Vec<f32> = x.iter().map(|x| x * 2.0).collect();
                let one = quantise(&quantiser, &x, weights.as_deref()).unwrap();
                let two = quantise(&quantiser, &twice, weights.as_deref()).unwrap();
                for (one, two) in one.chunks(len).zip(two.chunks(len)) {
                    let ((one, scales), (two, doubled)) = (apart(to, one), apart(to, two));
                    for (scale, double) in scales.into_iter().zip(doubled) {
                        // A scale below the normal numbers of F16 has more bits when it is doubled.
                        if scale.abs() >= 6.2e-5 {
                            assert_eq!(scale * 2.0, double, "{to} {contraction}");
                            assert_eq!(one, two, "{to} {contraction}");
                        }
                    }
                }
            }
        }
    }
}

/// The other sign is the other sign of the scale, for types without a minimum: codes are counted
/// from the extreme number, whichever sign it has. (`Q3_K` moves codes for one sign only.)
#[test]
fn the_other_sign_turns_the_scale_and_keeps_the_codes() {
    for to in [
        Dtype::Q4_0,
        Dtype::Q5_0,
        Dtype::Q6_K,
        Dtype::IQ4_NL,
        Dtype::IQ4_XS,
    ] {
        let len = to.block().1 as usize;
        for weights in [None, Some(importance(256, 4))] {
            let quantiser = plain(to, 256, Contraction::Off);
            let x = moderate(256 * 12, 30);
            let other: Vec<f32> = x.iter().map(|x| -x).collect();
            let one = quantise(&quantiser, &x, weights.as_deref()).unwrap();
            let two = quantise(&quantiser, &other, weights.as_deref()).unwrap();
            for (one, two) in one.chunks(len).zip(two.chunks(len)) {
                let ((one, scales), (two, turned)) = (apart(to, one), apart(to, two));
                assert_eq!(scales[0], -turned[0], "{to}");
                // The grid's codes are not mirrored where a number lies half way between two.
                let differ = one.iter().zip(&two).filter(|(a, b)| a != b).count();
                assert!(
                    differ * 16 <= one.len(),
                    "{to}: {differ} bytes of {}",
                    one.len()
                );
            }
        }
    }
}

/// Without weights a block knows nothing of those beside it.
#[test]
fn blocks_in_another_order_are_the_same_blocks() {
    for to in Quantiser::TYPES {
        let (numbers_of, len) = (to.block().0 as usize, to.block().1 as usize);
        let quantiser = plain(to, numbers_of * 10, Contraction::On);
        let x = numbers(numbers_of * 10, 17);
        let turned: Vec<f32> = x.chunks(numbers_of).rev().flatten().copied().collect();
        let one = quantise(&quantiser, &x, None).unwrap();
        let two = quantise(&quantiser, &turned, None).unwrap();
        let back: Vec<u8> = two.chunks(len).rev().flatten().copied().collect();
        assert_eq!(one, back, "{to}");
    }
}

/// Weights that are all equal are those of no column more than another: the same for any size of
/// them, if it is a power of two.
#[test]
fn equal_weights_count_the_same_whatever_their_size() {
    for to in Quantiser::TYPES {
        let quantiser = plain(to, 256, Contraction::Off);
        let x = moderate(256 * 8, 5);
        let one = quantise(&quantiser, &x, Some(&[1.0; 256])).unwrap();
        for size in [0.25, 4.0, 1024.0] {
            let other = quantise(&quantiser, &x, Some(&[size; 256])).unwrap();
            assert_eq!(one, other, "{to} with weights of {size}");
        }
    }
}
