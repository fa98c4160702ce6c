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

/// Distributions over `N` outcomes, one for each context.
#[derive(Debug, Clone)]
pub(super) struct Bank<const N: usize> {
    /// For each context, the kept sums of what comes before each outcome.
    sums: Vec<[i32; N]>,
    counts: Vec<u16>,
    /// What a context counts as having seen at the start.
    head_start: u16,
}

impl<const N: usize> Bank<N> {
    /// A bank with the distribution `first(context)` for each context.
    pub(super) fn new(n: usize, head_start: u16, first: impl Fn(usize) -> [i32; N]) -> Self {
        Self {
            sums: (0..n).map(first).collect(),
            counts: vec![head_start; n],
            head_start,
        }
    }

    /// A bank in which all outcomes are equally likely.
    pub(super) fn even(n: usize, head_start: u16) -> Self {
        let mut even = [0; N];
        let mut sum = 0;
        for kept in &mut even {
            *kept = sum;
            sum += KEPT_SCALE / i32::try_from(N).unwrap_or(i32::MAX);
        }
        Self::new(n, head_start, |_| even)
    }

    /// The kept sums of a context.
    #[inline(always)]
    pub(super) fn sums(&self, context: usize) -> &[i32; N] {
        &self.sums[context]
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
        let count = &mut self.counts[context];
        let shift = count.ilog2();
        *count += u16::from(*count < self.head_start + COUNT_MAX);
        let outcome = i32::try_from(outcome).unwrap_or(i32::MAX);
        for (i, sum) in (0..).zip(&mut self.sums[context]) {
            let target = if i > outcome { KEPT_SCALE } else { 0 };
            *sum += (target - *sum) >> shift;
        }
    }
}

/// The starts of the mean of four distributions.
#[inline(always)]
pub(super) fn mean<const N: usize>(of: [&[i32; N]; 4]) -> [i32; N] {
    let mut starts = [0; N];
    for (i, start) in starts.iter_mut().enumerate() {
        let sum = of[0][i] + of[1][i] + of[2][i] + of[3][i];
        *start = (sum >> (KEPT_BITS + 2 - PROB_BITS)) + i32::try_from(i).unwrap_or(0);
    }
    starts
}

/// Probabilities of a single bit, one for each context.
#[derive(Debug, Clone)]
pub(super) struct Bits {
    /// Kept probabilities that the bit is set.
    set: Vec<i32>,
    counts: Vec<u16>,
    count_max: u16,
}

impl Bits {
    /// Contexts that begin with the kept probability `first`, as if `head_start` bits were seen.
    pub(super) fn new(n: usize, first: i32, (head_start, count_max): (u16, u16)) -> Self {
        Self {
            set: vec![first; n],
            counts: vec![head_start; n],
            count_max,
        }
    }

    /// The kept probability that the bit of a context is set.
    #[inline(always)]
    pub(super) fn set(&self, context: usize) -> i32 {
        self.set[context]
    }

    /// Moves a context toward a bit.
    #[inline(always)]
    pub(super) fn learn(&mut self, context: usize, bit: bool) {
        let count = &mut self.counts[context];
        let shift = count.ilog2();
        *count += u16::from(*count < self.count_max);
        let target = if bit { 1 << KEPT_BITS } else { 0 };
        self.set[context] += (target - self.set[context]) >> shift;
    }
}

/// The probability that a bit is set, the mean of two kept ones, at least `least` from certainty.
#[inline(always)]
pub(super) fn mean_of_bits(a: i32, b: i32, least: i32) -> i32 {
    ((a + b) >> (KEPT_BITS + 1 - PROB_BITS)).clamp(least, PROB_SCALE - least)
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
        for head_start in [1, 8, 64, 256] {
            let mut banks = vec![Bank::<32>::even(1, head_start); 4];
            let mut small = Bank::<4>::even(1, head_start);
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
                check_starts(mean([0, 1, 2, 3].map(|i| banks[i].sums(0))));
            }
        }
    }

    #[test]
    fn a_distribution_becomes_what_was_seen() {
        let noise = &mut Noise::new(2);
        let mut bank = Bank::<16>::even(3, 8);
        let mut counts = [0; 16];
        for _ in 0..30_000 {
            let outcome = usize::from(noise.below(16).min(noise.below(16)));
            bank.learn(1, outcome);
            counts[outcome] += 1;
        }
        let starts = bank.starts(1);
        let mut below = 0;
        for (outcome, count) in counts.into_iter().enumerate() {
            let expected = below * PROB_SCALE / 30_000;
            assert!((starts[outcome] - expected).abs() < 900, "{starts:?}");
            below += count;
        }
        assert_eq!(bank.starts(0), bank.starts(2), "the others have not moved");
    }

    #[test]
    fn a_bit_becomes_as_likely_as_it_was_and_never_certain() {
        let mut bits = Bits::new(2, 1 << 22, (2, 256));
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
