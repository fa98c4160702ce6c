//! Distributions that follow what they code: sums of probabilities that move toward the last
//! outcome by a share that halves as the outcomes seen double.

use super::stream::{PROB_BITS, PROB_SCALE};

/// Bits of the numbers kept, more than are coded with so that slow movement is not lost.
pub(super) const KEPT_BITS: u32 = 28;
/// What is left for the least probability of 32 outcomes.
const RESERVED: i32 = 32 << (KEPT_BITS - PROB_BITS);
/// The sum of the kept probabilities of all outcomes.
pub(super) const KEPT_SCALE: i32 = (1 << KEPT_BITS) - RESERVED;
/// Outcomes are counted up to here.
const COUNT_MAX: u16 = 3840;

/// Distributions over `N` outcomes, one for each of `M` contexts, which are a power of two.
#[derive(Debug, Clone)]
pub(super) struct Bank<const N: usize, const M: usize> {
    /// For each context, the kept sums of what comes before each outcome.
    sums: Vec<[i32; N]>,
    counts: Vec<u16>,
    count_max: u16,
}

impl<const N: usize, const M: usize> Bank<N, M> {
    /// A bank with the distribution `first(context)` for each context, as if `head_start` outcomes
    /// were seen.
    pub(super) fn new(head_start: u16, first: impl Fn(usize) -> [i32; N]) -> Self {
        const { assert!(M.is_power_of_two()) }
        Self {
            sums: (0..M).map(first).collect(),
            counts: vec![head_start; M],
            count_max: head_start + COUNT_MAX,
        }
    }

    /// A bank in which all outcomes are equally likely.
    pub(super) fn even(head_start: u16) -> Self {
        let mut even = [0; N];
        let mut sum = 0;
        for kept in &mut even {
            *kept = sum;
            sum += KEPT_SCALE / i32::try_from(N).unwrap_or(i32::MAX);
        }
        Self::new(head_start, |_| even)
    }

    /// The kept sums of a context.
    #[inline(always)]
    pub(super) fn sums(&self, context: usize) -> &[i32; N] {
        &self.sums[context % M]
    }

    /// The starts of a context alone.
    #[inline(always)]
    pub(super) fn starts(&self, context: usize) -> [i32; N] {
        let mut starts = *self.sums(context);
        for (i, start) in (0..).zip(&mut starts) {
            *start = (*start >> (KEPT_BITS - PROB_BITS)) + i;
        }
        starts
    }

    /// Moves a context toward an outcome.
    #[inline(always)]
    pub(super) fn learn(&mut self, context: usize, outcome: usize) {
        let count = &mut self.counts[context % M];
        // Never zero; so said because the compiler cannot know.
        let shift = (*count | 1).ilog2();
        *count += u16::from(*count < self.count_max);
        let sums = &mut self.sums[context % M];
        if N == 4 {
            for (sum, target) in sums.iter_mut().zip(TARGETS_OF_4[outcome % 4]) {
                *sum += (target - *sum) >> shift;
            }
            return;
        }
        let outcome = i32::try_from(outcome).unwrap_or(i32::MAX);
        for (i, sum) in (0..).zip(sums) {
            let target = if i > outcome { KEPT_SCALE } else { 0 };
            *sum += (target - *sum) >> shift;
        }
    }
}

/// Where the sums move for each of four outcomes.
const TARGETS_OF_4: [[i32; 4]; 4] = [
    [0, KEPT_SCALE, KEPT_SCALE, KEPT_SCALE],
    [0, 0, KEPT_SCALE, KEPT_SCALE],
    [0, 0, 0, KEPT_SCALE],
    [0; 4],
];

/// The starts of the mean of two distributions.
#[inline(always)]
pub(super) fn mean<const N: usize>(of: [&[i32; N]; 2]) -> [i32; N] {
    let mut starts = [0; N];
    for (i, start) in starts.iter_mut().enumerate() {
        *start = mean_start(of, i);
    }
    starts
}

/// The start of one outcome.
#[inline(always)]
pub(super) fn mean_start<const N: usize>(of: [&[i32; N]; 2], outcome: usize) -> i32 {
    let sum = of[0][outcome] + of[1][outcome];
    (sum >> (KEPT_BITS + 1 - PROB_BITS)) + i32::try_from(outcome).unwrap_or(0)
}

/// Bits of the probability of a bit that is kept; the others of 32 count.
const BIT_KEPT: u32 = 22;
const BIT_COUNT_MASK: u32 = (1 << (32 - BIT_KEPT)) - 1;

/// Probabilities of a single bit, one for each of `M` contexts, which are a power of two.
#[derive(Debug, Clone)]
pub(super) struct Bits<const M: usize> {
    /// The kept probability that the bit is set, above the count.
    kept: Vec<u32>,
    count_max: u32,
}

impl<const M: usize> Bits<M> {
    /// Contexts that begin with the probability `first` of 2^22, as if `head_start` bits were
    /// seen, which are counted up to `count_max`.
    pub(super) fn new(first: u32, (head_start, count_max): (u32, u32)) -> Self {
        const { assert!(M.is_power_of_two()) }
        debug_assert!(head_start > 0 && count_max <= BIT_COUNT_MASK);
        Self {
            kept: vec![first << (32 - BIT_KEPT) | head_start; M],
            count_max,
        }
    }

    /// The kept probability that the bit of a context is set.
    #[inline(always)]
    pub(super) fn set(&self, context: usize) -> i32 {
        (self.kept[context % M] >> (32 - BIT_KEPT)).cast_signed()
    }

    /// Moves a context toward a bit.
    #[inline(always)]
    pub(super) fn learn(&mut self, context: usize, bit: bool) {
        let set = self.set(context);
        let kept = &mut self.kept[context % M];
        let count = *kept & BIT_COUNT_MASK;
        let target = -i32::from(bit) & ((1 << BIT_KEPT) - 1);
        let set = set + ((target - set) >> (count | 1).ilog2());
        let count = count + u32::from(count < self.count_max);
        *kept = set.cast_unsigned() << (32 - BIT_KEPT) | count;
    }
}

/// The probability that a bit is set, the mean of two kept ones, at least `least` from certainty.
#[inline(always)]
pub(super) fn mean_of_bits(a: i32, b: i32, least: i32) -> i32 {
    ((a + b) >> (BIT_KEPT + 1 - PROB_BITS)).clamp(least, PROB_SCALE - least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::Noise;

    fn check_starts<const N: usize>(starts: [i32; N]) {
        assert_eq!(starts[0], 0);
        assert!(
            starts.windows(2).all(|pair| pair[0] < pair[1]),
            "{starts:?}"
        );
        assert!(starts[N - 1] < PROB_SCALE, "{starts:?}");
    }

    /// Whatever is seen, and however often, every outcome keeps a probability.
    #[test]
    fn no_outcome_becomes_impossible() {
        let noise = &mut Noise::new(1);
        for head_start in [1, 8, 64, 512] {
            let mut banks = vec![Bank::<32, 1>::even(head_start); 2];
            let mut small = Bank::<4, 1>::even(head_start);
            for i in 0..20_000 {
                let outcome = match i / 5000 {
                    0 => 31,
                    1 => 0,
                    2 => usize::from(noise.below(32)),
                    _ => 17,
                };
                banks.iter_mut().for_each(|bank| bank.learn(0, outcome));
                small.learn(0, outcome / 8);
                check_starts(banks[0].starts(0));
                check_starts(small.starts(0));
                check_starts(mean([0, 1].map(|i| banks[i].sums(0))));
            }
        }
    }

    #[test]
    fn a_distribution_becomes_what_was_seen() {
        let noise = &mut Noise::new(2);
        let mut bank = Bank::<16, 4>::even(8);
        let mut small = Bank::<4, 4>::even(8);
        let mut counts = [0; 16];
        for _ in 0..30_000 {
            let outcome = usize::from(noise.below(16).min(noise.below(16)));
            bank.learn(1, outcome);
            small.learn(1, outcome / 4);
            counts[outcome] += 1;
        }
        let (starts, quarters) = (bank.starts(1), small.starts(1));
        let mut below = 0;
        for (outcome, count) in counts.into_iter().enumerate() {
            let expected = below * PROB_SCALE / 30_000;
            assert!((starts[outcome] - expected).abs() < 900, "{starts:?}");
            if outcome % 4 == 0 {
                assert!((quarters[outcome / 4] - expected).abs() < 900);
            }
            below += count;
        }
        assert_eq!(bank.starts(0), bank.starts(2), "the others have not moved");
    }

    #[test]
    fn a_bit_becomes_as_likely_as_it_was_and_never_certain() {
        let mut bits = Bits::<2>::new(1 << 16, (2, 256));
        for i in 0..8000 {
            bits.learn(0, i % 4 == 0);
            bits.learn(1, true);
        }
        let share = mean_of_bits(bits.set(0), bits.set(0), 8);
        assert!((share - PROB_SCALE / 4).abs() < 200, "{share}");
        assert_eq!(mean_of_bits(bits.set(1), bits.set(1), 8), PROB_SCALE - 8);
        (0..8000).for_each(|_| bits.learn(1, false));
        assert_eq!(mean_of_bits(bits.set(1), bits.set(1), 8), 8);
    }
}
