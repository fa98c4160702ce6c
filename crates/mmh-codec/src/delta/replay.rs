//! What an optimiser does to numbers that get no gradient: it multiplies them by one factor at
//! each step. Repeated in its own order, in single precision, that gives the very bits.

use super::number::{F32, Number as _};
use crate::error::{Result, corrupt};
use crate::input::{Input, put_varint};
use crate::kernel::Kernels;

/// Most multiplications that are repeated.
const STEPS_MAX: usize = 4096;

/// A factor, and how often it was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Replay {
    /// Bits of the factor, a finite number above 0.
    factor: u32,
    steps: u16,
}

impl Replay {
    /// What a number becomes. One that is no number stays what it is: what a product of it would
    /// be is not the same on all machines.
    #[inline(always)]
    pub(super) fn predict(self, bits: u32) -> u32 {
        let (mut value, factor) = (f32::from_bits(bits), f32::from_bits(self.factor));
        if value.is_nan() {
            return bits;
        }
        for _ in 0..self.steps {
            value *= factor;
        }
        value.to_bits()
    }

    /// The same for many.
    pub(super) fn predict_all(self, numbers: &mut [[u8; 4]], kernels: &Kernels) {
        (kernels.decay)(numbers, f32::from_bits(self.factor), self.steps);
    }

    pub(super) fn put(replay: Option<Self>, out: &mut Vec<u8>) {
        match replay {
            None => put_varint(out, 0),
            Some(Self { factor, steps }) => {
                put_varint(out, usize::from(steps));
                out.extend_from_slice(&factor.to_le_bytes());
            }
        }
    }

    pub(super) fn read(input: &mut Input<'_>) -> Result<Option<Self>> {
        let steps = input.varint()?;
        if steps == 0 {
            return Ok(None);
        }
        let bits = [input.u8()?, input.u8()?, input.u8()?, input.u8()?];
        let factor = u32::from_le_bytes(bits);
        let steps = u16::try_from(steps)
            .ok()
            .filter(|&n| usize::from(n) <= STEPS_MAX);
        let possible = f32::from_bits(factor) > 0.0 && f32::from_bits(factor).is_finite();
        match steps {
            Some(steps) if possible => Ok(Some(Self { factor, steps })),
            _ => corrupt("a delta repeats an impossible multiplication"),
        }
    }

    /// The replay that reproduces most numbers of a sample, if it reproduces one in this many.
    pub(super) fn find(pairs: &[(u32, u32)]) -> Option<Self> {
        const SHARE: usize = 50;
        const PROBES: usize = 64;
        const JUDGES: usize = 512;
        let moved: Vec<(u32, u32)> = pairs
            .iter()
            .copied()
            .filter(|(old, new)| old != new && plain(*old) && plain(*new))
            .collect();
        let some = |n: usize| moved.iter().step_by(moved.len() / n + 1);
        // What only decays moves least.
        let mut probes: Vec<_> = some(PROBES).collect();
        probes.sort_unstable_by_key(|(old, new)| (old.abs_diff(*new), *old));
        let judges: Vec<_> = some(JUDGES).collect();
        let mut best = (judges.len() / SHARE, None);
        let (mut tried, mut work) = (Vec::new(), WORK_MAX);
        for &(old, new) in probes {
            for replay in candidates(old, new, &mut work) {
                if tried.contains(&replay) {
                    continue;
                }
                tried.push(replay);
                work = work.saturating_sub(judges.len() * usize::from(replay.steps));
                let hit = |&&&(old, new): &&&(u32, u32)| replay.predict(old) == new;
                let hits = judges.iter().filter(hit).count();
                if hits > best.0 {
                    best = (hits, Some(replay));
                }
            }
            if work == 0 || best.0 > judges.len() / 2 {
                break;
            }
        }
        best.1
    }
}

impl Replay {
    /// One multiplication that takes no number beyond its new value, where none has a sign: second
    /// moments fall by a known factor and then only rise.
    pub(super) fn below(pairs: impl Iterator<Item = (u32, u32)>) -> Option<Self> {
        const POSSIBLE: std::ops::Range<f32> = 0.5..2.0;
        let mut least = f32::INFINITY;
        for (old, new) in pairs {
            if (old | new) >> 31 != 0 {
                return None;
            }
            if old != 0 {
                let ratio = f32::from_bits(new) / f32::from_bits(old);
                // Not so where the ratio is no number.
                let possible = ratio >= POSSIBLE.start;
                if !possible {
                    return None;
                }
                least = least.min(ratio);
            }
        }
        // Two steps lower, so that rounding does not reach above.
        POSSIBLE.contains(&least).then(|| Self {
            factor: least.to_bits() - 2,
            steps: 1,
        })
    }
}

/// Multiplications that a search takes about.
const WORK_MAX: usize = 1 << 22;

/// Normal numbers, whose ratio tells a factor.
fn plain(bits: u32) -> bool {
    (1..=253).contains(&F32::exponent(bits))
}

/// Factors that make `new` of `old`: one less a few steps of single precision, as a learning rate
/// times a decay gives it, or a round number, as moments of optimisers have it.
fn candidates(old: u32, new: u32, work: &mut usize) -> Vec<Replay> {
    const ROUND: [f32; 8] = [0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9995, 0.9999];
    const STEPS: u16 = 1024;
    // Signs are equal, and the magnitude is smaller.
    let falls = new < old && (old ^ new) >> 31 == 0;
    let fine = (1..=64u32).filter(|fine| falls && (old - new) / (fine + 1) <= u32::from(STEPS));
    let fine = fine.map(|fine| 1.0 - f32::EPSILON / 2.0 * as_f32(fine));
    let made = |factor: f32| {
        let (mut value, mut steps) = (f32::from_bits(old), 0);
        while value.to_bits() > new && steps < STEPS {
            value *= factor;
            steps += 1;
        }
        *work = work.saturating_sub(usize::from(steps));
        let factor = factor.to_bits();
        (value.to_bits() == new && steps > 0).then_some(Replay { factor, steps })
    };
    fine.chain(ROUND.into_iter().filter(|_| falls))
        .filter_map(made)
        .collect()
}

#[allow(clippy::cast_precision_loss, reason = "at most 64")]
fn as_f32(n: u32) -> f32 {
    n as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(factor: f32, steps: u16) -> Vec<(u32, u32)> {
        let replay = Replay {
            factor: factor.to_bits(),
            steps,
        };
        (1..4000u32)
            .map(|i| {
                let old = (i * 7919 % 10_007) as f32 / 1e5 - 0.05;
                let new = replay.predict(old.to_bits());
                // A third of them got a gradient.
                let new = if i % 3 == 0 {
                    new.wrapping_add(i * 31)
                } else {
                    new
                };
                (old.to_bits(), new)
            })
            .collect()
    }

    #[test]
    fn decay_is_found_from_the_numbers_alone() {
        for (factor, steps) in [
            (1.0 - 2e-7f32, 20),
            (0.999, 20),
            (0.999, 1),
            (1.0 - 1e-6, 60),
        ] {
            let sample = sample(factor, steps);
            let found = Replay::find(&sample).unwrap_or_else(|| panic!("{factor} {steps}"));
            let hits = sample
                .iter()
                .filter(|(old, new)| found.predict(*old) == *new);
            assert!(hits.count() > 2400, "{factor} {steps}: {found:?}");
        }
    }

    #[test]
    fn a_bound_is_below_all_numbers_and_near_one() {
        let pairs: Vec<(u32, u32)> = (1..3000u32)
            .map(|i| {
                (
                    i as f32 * 1e-9,
                    i as f32 * 1e-9 * (0.98 + (i % 97) as f32 * 1e-4),
                )
            })
            .map(|(old, new)| (old.to_bits(), new.to_bits()))
            .chain([(0, 0), (0, 17), (1, 2)])
            .collect();
        let replay = Replay::below(pairs.iter().copied()).unwrap();
        assert!(pairs.iter().all(|&(old, new)| replay.predict(old) <= new));
        assert!(f32::from_bits(replay.factor) > 0.9799);
        for odd in [
            (0x8000_0001, 1),
            (1, 0x8000_0000),
            (8, 0),
            (8, 1),
            (0x7fc0_0000, 9),
        ] {
            let pairs = pairs.iter().copied().chain([odd]);
            assert_eq!(Replay::below(pairs), None, "{odd:x?}");
        }
        assert_eq!(Replay::below([(0, 5)].into_iter()), None);
    }

    #[test]
    fn nothing_is_found_where_nothing_is_repeated() {
        let noise: Vec<(u32, u32)> = (1..3000u32)
            .map(|i| (0x3d00_0000 + i * 977, 0x3d00_0000 + i * 977 + i % 97))
            .collect();
        assert_eq!(Replay::find(&noise), None);
        assert_eq!(Replay::find(&[]), None);
        let same: Vec<_> = (1..99).map(|i| (i, i)).collect();
        assert_eq!(Replay::find(&same), None);
    }

    #[test]
    fn impossible_replays_are_refused() {
        let read = |bytes: &[u8]| Replay::read(&mut Input::new(bytes));
        assert_eq!(read(&[0]), Ok(None));
        let mut half = vec![3];
        half.extend_from_slice(&0.5f32.to_le_bytes());
        assert!(read(&half).unwrap().is_some());
        for factor in [0.0f32, -0.5, f32::NAN, f32::INFINITY] {
            let mut bytes = vec![3];
            bytes.extend_from_slice(&factor.to_le_bytes());
            assert!(read(&bytes).is_err(), "{factor}");
        }
        assert!(read(&[0x81, 0x20, 0, 0, 0x80, 0x3f]).is_err(), "4097 steps");
        assert!(read(&[3, 0]).is_err());
    }

    #[test]
    fn what_is_no_number_stays() {
        let replay = Replay {
            factor: 0.5f32.to_bits(),
            steps: 3,
        };
        assert_eq!(replay.predict(0x7fc0_1234), 0x7fc0_1234);
        assert_eq!(
            replay.predict(f32::INFINITY.to_bits()),
            f32::INFINITY.to_bits()
        );
        assert_eq!(replay.predict(8.0f32.to_bits()), 1.0f32.to_bits());
    }
}
