//! The search among the 32 places, as the machine does it best.

use super::SYMBOLS;
use super::adaptive::mean;
use super::stream::PROB_SCALE;

/// A place that was found, and what comes before it and before the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) place: usize,
    pub(crate) start: i32,
    pub(crate) end: i32,
}

/// A way to search.
pub(crate) trait Machine {
    /// The last place of the mean of two distributions that starts at or before `slot`, which is
    /// below [`PROB_SCALE`].
    fn find(sums: [&[i32; SYMBOLS]; 2], slot: i32) -> Found;
}

/// The search that every machine can do.
#[derive(Debug)]
pub(crate) struct Portable;

impl Machine for Portable {
    #[inline(always)]
    fn find(sums: [&[i32; SYMBOLS]; 2], slot: i32) -> Found {
        let starts = mean(sums);
        let mut bounds = [PROB_SCALE; SYMBOLS + 1];
        bounds[..SYMBOLS].copy_from_slice(&starts);
        found(&bounds, last_at_most(&starts, slot))
    }
}

#[inline(always)]
fn found(bounds: &[i32; SYMBOLS + 1], place: usize) -> Found {
    let place = place % SYMBOLS;
    Found {
        place,
        start: bounds[place],
        end: bounds[place + 1],
    }
}

/// The index of the last of ascending `starts`, the first being 0, that is at most `slot`.
#[inline(always)]
pub(super) fn last_at_most<const N: usize>(starts: &[i32; N], slot: i32) -> usize {
    let (quads, rest) = starts.as_chunks::<4>();
    let mut counts = [0i32; 4];
    for quad in quads {
        for (count, &start) in counts.iter_mut().zip(quad) {
            *count += i32::from(start <= slot);
        }
    }
    let rest: i32 = rest.iter().map(|&start| i32::from(start <= slot)).sum();
    let count = counts.iter().sum::<i32>() + rest;
    (count - 1).cast_unsigned() as usize
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! Searches that count the starts by masks of comparisons.
    #![allow(
        unsafe_code,
        reason = "instructions that only some machines have, in functions for these"
    )]

    use std::arch::x86_64::*;

    use super::super::SYMBOLS;
    use super::super::adaptive::mean;
    use super::super::stream::PROB_SCALE;
    use super::{Found, Machine, found};

    /// With the masks of AVX-512. Used only in functions that enable its feature `avx512f`.
    #[derive(Debug)]
    pub(crate) struct Avx512;

    impl Machine for Avx512 {
        #[inline(always)]
        fn find(sums: [&[i32; SYMBOLS]; 2], slot: i32) -> Found {
            let mut bounds = [PROB_SCALE; SYMBOLS + 1];
            bounds[..SYMBOLS].copy_from_slice(&mean(sums));
            let (halves, _) = bounds.as_chunks::<16>();
            // SAFETY: the functions that search this way are called where the feature was found,
            // and each half is 64 bytes.
            let masks = unsafe {
                let slots = _mm512_set1_epi32(slot);
                [0, 1].map(|i| {
                    let starts = _mm512_loadu_si512(halves[i].as_ptr().cast());
                    _mm512_cmple_epi32_mask(starts, slots)
                })
            };
            let before = masks[0].count_ones() + masks[1].count_ones();
            found(&bounds, (before as usize).wrapping_sub(1))
        }
    }

    /// With AVX2. Used only in functions that enable it.
    #[derive(Debug)]
    pub(crate) struct Avx2;

    impl Machine for Avx2 {
        #[inline(always)]
        fn find(sums: [&[i32; SYMBOLS]; 2], slot: i32) -> Found {
            let mut bounds = [PROB_SCALE; SYMBOLS + 1];
            bounds[..SYMBOLS].copy_from_slice(&mean(sums));
            let (quarters, _) = bounds.as_chunks::<8>();
            // SAFETY: the functions that search this way are called where AVX2 was found, and
            // each quarter is 32 bytes.
            let beyond = unsafe {
                let slots = _mm256_set1_epi32(slot);
                let [a, b, c, d] = [0, 1, 2, 3].map(|i| {
                    let starts = _mm256_loadu_si256(quarters[i].as_ptr().cast());
                    _mm256_cmpgt_epi32(starts, slots)
                });
                // Only how many there are matters, not their order.
                let words = [_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d)];
                _mm256_movemask_epi8(_mm256_packs_epi16(words[0], words[1]))
            };
            found(&bounds, (beyond.count_zeros() as usize).wrapping_sub(1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::adaptive::Bank;
    use super::*;
    use crate::samples::Noise;

    #[test]
    fn the_last_start_at_most_a_slot_is_found() {
        let starts = [0, 5, 6, 100, 101, 4000];
        for slot in 0..5000 {
            let expected = starts.iter().rposition(|&start| start <= slot).unwrap();
            assert_eq!(last_at_most(&starts, slot), expected);
        }
    }

    #[test]
    fn all_machines_find_the_same() {
        let noise = &mut Noise::new(5);
        let mut bank = Bank::<SYMBOLS, 2>::even(64);
        for _ in 0..60 {
            for _ in 0..200 {
                bank.learn(0, usize::from(noise.below(32)));
                bank.learn(1, usize::from(noise.below(3)));
            }
            let sums = [bank.sums(0), bank.sums(1)];
            let starts = mean(sums);
            for slot in (0..PROB_SCALE).step_by(7).chain([PROB_SCALE - 1]) {
                let place = starts.iter().rposition(|&start| start <= slot).unwrap();
                let expected = Found {
                    place,
                    start: starts[place],
                    end: starts.get(place + 1).copied().unwrap_or(PROB_SCALE),
                };
                assert_eq!(Portable::find(sums, slot), expected);
                #[cfg(target_arch = "x86_64")]
                {
                    if std::is_x86_feature_detected!("avx512f") {
                        assert_eq!(Avx512::find(sums, slot), expected);
                    }
                    if std::is_x86_feature_detected!("avx2") {
                        assert_eq!(Avx2::find(sums, slot), expected);
                    }
                }
            }
        }
    }
}
