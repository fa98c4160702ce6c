//! The choice of an encoder: which low bits stand apart, and which expectations share a class.

use super::magnitude;
use crate::entropy::{CLASSES_MAX, SYMBOLS_MAX};
use crate::kernel::{BEYOND, MAGNITUDES};
use crate::log2::{ONE_BIT, entropy};

/// Expectations, in half octaves.
pub(super) const EXPECTATIONS: usize = 64;
/// Half octaves of magnitudes.
const HALVES: usize = 64;
/// A class table costs about this many bits.
const TABLE_BITS: u64 = 70;
/// So far below an expectation may low bits begin to stand apart.
const REACHES: [u8; 4] = [9, 11, 13, 15];
/// Places that are tried for the first class.
const PLACES: usize = 12;

/// How often each half octave of magnitude came with each expectation.
pub(super) type Seen = [[u32; HALVES]; EXPECTATIONS];

/// How often each magnitude came.
pub(super) type Magnitudes = [u32; SYMBOLS_MAX];

/// How low bits and classes follow from expectations, see [`super::forecast::Forecast`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scheme {
    pub(super) least: u8,
    pub(super) halvings: u8,
    pub(super) n_classes: u8,
    pub(super) reach: u8,
    pub(super) low: (u8, u8),
}

impl Scheme {
    /// A class for each expectation, without low bits apart.
    pub(super) const EACH: Self = Self {
        least: 0,
        halvings: 0,
        n_classes: 64,
        reach: 0,
        low: (0, 0),
    };

    /// The cheapest of those tried, and how often each magnitude then comes in each class, either of
    /// all levels together or of one level after the other; of numbers of `bits` bits.
    pub(super) fn of(levels: &[Seen], bits: u32) -> (Self, Vec<Magnitudes>) {
        let mut seen = Box::new([[0; HALVES]; EXPECTATIONS]);
        for level in levels {
            let sums = seen.as_flattened_mut().iter_mut();
            sums.zip(level.as_flattened())
                .for_each(|(sum, count)| *sum += count);
        }
        let (scheme, together) = Self::of_all(&seen, CLASSES_MAX / levels.len(), bits);
        let apart = levels
            .iter()
            .flat_map(|level| scheme.classes(&scheme.magnitudes(level)));
        let apart: Vec<Magnitudes> = apart.collect();
        if levels.len() > 1 && cost(&apart) < cost(&together) {
            (scheme, apart)
        } else {
            (scheme, together)
        }
    }

    fn of_all(seen: &Seen, classes_max: usize, bits: u32) -> (Self, Vec<Magnitudes>) {
        let most = (bits - 8).to_le_bytes()[0];
        let with = |reach, low| Self {
            reach,
            low,
            ..Self::EACH
        };
        let rising = REACHES.map(|reach| with(reach, (0, most)));
        let fixed = (0..=most).map(|low| with(0, (low, low)));
        let scheme = rising.into_iter().chain(fixed);
        let scheme = scheme.min_by_key(|scheme| scheme.cost(seen, bits));
        let scheme = scheme.unwrap_or(Self::EACH);
        scheme.with_classes(&scheme.magnitudes(seen), classes_max)
    }

    /// Low bits that stand apart.
    pub(super) fn low(&self, expected: u8) -> u8 {
        let above = expected.saturating_sub(self.reach) / 2;
        above.max(self.low.0).min(self.low.1)
    }

    /// The class of a level.
    pub(super) fn class(&self, expected: u8) -> u8 {
        let above = expected.saturating_sub(self.least) >> self.halvings;
        above.min(self.n_classes - 1)
    }

    /// What symbols and fields would cost if each expectation had its class.
    fn cost(&self, seen: &Seen, bits: u32) -> u64 {
        let symbols: u64 = self.magnitudes(seen).iter().map(|of| entropy(of)).sum();
        let mut fields = 0;
        for (expected, halves) in (0u8..).zip(seen) {
            let low = self.low(expected);
            for (half, &count) in (0u8..).zip(halves).filter(|(_, count)| **count > 0) {
                let kind = magnitude::kind(half, low);
                let index = usize::from(kind) | usize::from(low > 0) << 4;
                let width = match kind {
                    0 => 0,
                    BEYOND => bits,
                    _ => u32::from(MAGNITUDES.1[index & 31]) + u32::from(low),
                };
                fields += u64::from(count) * u64::from(width);
            }
        }
        symbols + fields * ONE_BIT
    }

    /// How often each magnitude comes with each expectation.
    fn magnitudes(&self, seen: &Seen) -> Vec<Magnitudes> {
        let of = |(expected, halves): (u8, &[u32; HALVES])| {
            let low = self.low(expected);
            let mut kinds = [0; SYMBOLS_MAX];
            for (half, &count) in (0u8..).zip(halves) {
                // Each table has the symbol for what is beyond; a class of nothing else needs one.
                let kind = match magnitude::kind(half, low) {
                    BEYOND => 0,
                    kind => kind,
                };
                kinds[usize::from(kind)] += count;
            }
            kinds
        };
        (0u8..).zip(seen).map(of).collect()
    }

    /// What comes in each class, of what comes with each expectation.
    fn classes(&self, each: &[Magnitudes]) -> Vec<Magnitudes> {
        let mut classes = vec![[0; SYMBOLS_MAX]; usize::from(self.n_classes)];
        for (expected, counts) in (0u8..).zip(each).filter(|(_, counts)| used(counts)) {
            let class = &mut classes[usize::from(self.class(expected))];
            class
                .iter_mut()
                .zip(counts)
                .for_each(|(sum, count)| *sum += count);
        }
        classes
    }

    /// The cheapest classes, by what comes with each expectation.
    fn with_classes(self, each: &[Magnitudes], classes_max: usize) -> (Self, Vec<Magnitudes>) {
        let first = each.iter().position(used).unwrap_or(0);
        let last = each.iter().rposition(used).unwrap_or(0);
        let mut best = (u64::MAX, self, Vec::new());
        for halvings in 0..=5u8 {
            let reach = classes_max << halvings;
            let steps = (last + 1).saturating_sub(first + reach);
            for least in (first..=first + steps).step_by((steps / PLACES).max(1)) {
                let n_classes = ((last.saturating_sub(least) >> halvings) + 1).min(classes_max);
                let scheme = Self {
                    least: u8::try_from(least).unwrap_or(u8::MAX),
                    halvings,
                    n_classes: u8::try_from(n_classes).unwrap_or(u8::MAX),
                    ..self
                };
                let classes = scheme.classes(each);
                let cost = cost(&classes);
                if cost < best.0 {
                    best = (cost, scheme, classes);
                }
            }
        }
        (best.1, best.2)
    }
}

fn used(counts: &Magnitudes) -> bool {
    counts.iter().any(|&count| count > 0)
}

/// What symbols and tables of classes cost.
fn cost(classes: &[Magnitudes]) -> u64 {
    let tables = classes.iter().filter(|counts| used(counts)).count() as u64;
    let symbols: u64 = classes.iter().map(|counts| entropy(counts)).sum();
    symbols + tables * TABLE_BITS * ONE_BIT
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers whose magnitudes are around `half(expected)`.
    fn seen(half: impl Fn(usize) -> usize) -> Box<Seen> {
        let mut seen = Box::new([[0; HALVES]; EXPECTATIONS]);
        for (expected, halves) in seen.iter_mut().enumerate() {
            for (far, count) in [4000, 900, 300, 100, 30, 9, 2].into_iter().enumerate() {
                let half = half(expected);
                halves[half.saturating_sub(far)] += count;
                halves[(half + far).min(63)] += count;
            }
        }
        seen
    }

    #[test]
    fn low_bits_rise_with_expectations_or_stay() {
        let rising = Scheme::of_all(&seen(|expected| expected.saturating_sub(4)), 16, 32).0;
        assert!(rising.low == (0, 24) && rising.reach > 0, "{rising:?}");
        let fixed = Scheme::of_all(&seen(|_| 37), 16, 32).0;
        assert!(fixed.low.0 == fixed.low.1 && fixed.low.0 > 10, "{fixed:?}");
        assert!(fixed.n_classes <= 2, "all are alike: {fixed:?}");
        let small = Scheme::of_all(&seen(|_| 4), 16, 16).0;
        assert_eq!(small.low, (0, 0));
    }

    #[test]
    fn classes_hold_all_that_was_seen() {
        let seen = seen(|expected| expected / 2);
        for classes_max in [16, 32] {
            let (scheme, counts) = Scheme::of_all(&seen, classes_max, 16);
            assert!((2..=classes_max).contains(&counts.len()), "{scheme:?}");
            assert_eq!(counts.len(), usize::from(scheme.n_classes));
            let total: u32 = counts.as_flattened().iter().sum();
            assert_eq!(total, seen.as_flattened().iter().sum::<u32>());
            let highest = (0..64).map(|expected| scheme.class(expected)).max();
            assert_eq!(highest, Some(scheme.n_classes - 1));
        }
    }

    /// Levels that differ have tables of their own, those that are alike have not.
    #[test]
    fn levels_are_together_or_apart() {
        let (low, high) = (
            *seen(|expected| expected / 4),
            *seen(|expected| expected / 4 + 2),
        );
        for (second, times) in [(low, 1), (high, 2)] {
            let (scheme, counts) = Scheme::of(&[low, second], 16);
            assert_eq!(counts.len(), times * usize::from(scheme.n_classes));
        }
    }

    #[test]
    fn nothing_has_a_scheme() {
        let (scheme, counts) = Scheme::of(&[[[0; HALVES]; EXPECTATIONS]], 16);
        assert_eq!((scheme.n_classes, counts), (1, vec![[0; SYMBOLS_MAX]]));
    }
}
