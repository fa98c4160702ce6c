//! What is expected before anything was seen: normal numbers of the predicted scale.

use super::adaptive::{KEPT_BITS, KEPT_SCALE};
use super::{PHASES, SYMBOLS};

/// Twice the octaves below the predicted one that symbols reach to.
pub(super) const BELOW: i32 = 24;
/// Octaves below the predicted one where [`NORMAL`] begins.
const LISTED_BELOW: usize = 3;

/// In 2^-15: how often a normal number is below `2^(o − (phase + ½) / 16)` and below 1.5 times
/// that, in units of its standard deviation, for the octaves o = −3 to 2.
const NORMAL: [[i32; 12]; PHASES] = [
    [
        3190, 4770, 6333, 9383, 12300, 17597, 22027, 28110, 31119, 32659, 32765, 32768,
    ],
    [
        3056, 4570, 6069, 9002, 11816, 16968, 21341, 27531, 30772, 32606, 32762, 32768,
    ],
    [
        2927, 4378, 5817, 8635, 11349, 16353, 20659, 26926, 30386, 32535, 32757, 32768,
    ],
    [
        2803, 4194, 5574, 8281, 10897, 15753, 19983, 26299, 29960, 32442, 32749, 32768,
    ],
    [
        2685, 4018, 5341, 7942, 10461, 15167, 19314, 25655, 29497, 32324, 32735, 32768,
    ],
    [
        2571, 3849, 5117, 7615, 10041, 14597, 18655, 24995, 28999, 32176, 32715, 32768,
    ],
    [
        2462, 3687, 4903, 7301, 9635, 14043, 18006, 24324, 28467, 31995, 32685, 32768,
    ],
    [
        2358, 3531, 4697, 6999, 9245, 13505, 17369, 23645, 27905, 31779, 32642, 32768,
    ],
    [
        2259, 3383, 4500, 6709, 8868, 12983, 16746, 22960, 27316, 31526, 32583, 32767,
    ],
    [
        2163, 3240, 4311, 6430, 8506, 12478, 16136, 22274, 26703, 31234, 32505, 32766,
    ],
    [
        2072, 3103, 4130, 6163, 8158, 11988, 15541, 21587, 26069, 30901, 32403, 32763,
    ],
    [
        1984, 2972, 3956, 5906, 7823, 11515, 14961, 20904, 25419, 30529, 32274, 32759,
    ],
    [
        1900, 2847, 3790, 5660, 7500, 11058, 14396, 20225, 24755, 30118, 32115, 32752,
    ],
    [
        1820, 2727, 3630, 5423, 7191, 10616, 13848, 19554, 24081, 29668, 31922, 32741,
    ],
    [
        1742, 2611, 3477, 5197, 6893, 10190, 13316, 18891, 23399, 29182, 31693, 32723,
    ],
    [
        1669, 2501, 3331, 4979, 6607, 9779, 12800, 18238, 22714, 28662, 31425, 32697,
    ],
];

/// The kept sums of the symbols at a phase.
pub(super) fn normal(phase: usize) -> [i32; SYMBOLS] {
    let listed = &NORMAL[phase];
    let octaves_below = usize::try_from(BELOW / 2).unwrap_or(0);
    let mut sums = [0; SYMBOLS];
    for (symbol, sum) in sums.iter_mut().enumerate().skip(1) {
        let (octave, half) = (symbol / 2, symbol % 2);
        // Near zero, half the distance is half as often.
        let (at, halvings) = match octave.checked_sub(octaves_below - LISTED_BELOW) {
            Some(at) => (at, 0),
            None => (0, octaves_below - LISTED_BELOW - octave),
        };
        let share = listed.get(2 * at + half).copied().unwrap_or(1 << 15);
        let kept = (i64::from(share) * i64::from(KEPT_SCALE)) >> 15;
        *sum = i32::try_from(kept >> halvings).unwrap_or(KEPT_SCALE);
    }
    debug_assert!(sums.iter().all(|&sum| sum < 1 << KEPT_BITS));
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often a normal number of deviation 1 is nearer to zero than `x`: the integral of its
    /// density, in steps.
    fn nearer_than(x: f64) -> f64 {
        let (mut sum, step) = (0.0, x.min(6.0) / 2000.0);
        for i in 0..2000 {
            let at = (f64::from(i) + 0.5) * step;
            // e^(-at^2 / 2), by halving until the series is exact.
            let y = -at * at / 2.0 / 1024.0;
            let root = 1.0 + y + y * y / 2.0 + y * y * y / 6.0;
            sum += (0..10).fold(root, |power, _| power * power) * step;
        }
        sum * (2.0 / std::f64::consts::PI).sqrt()
    }

    #[test]
    fn the_table_is_that_of_normal_numbers() {
        for (phase, row) in NORMAL.iter().enumerate() {
            for (i, &listed) in row.iter().enumerate() {
                let octave = i32::try_from(i / 2).unwrap() - 3;
                let half = [1.0, 1.5][i % 2];
                let exponent = f64::from(octave) - (phase as f64 + 0.5) / 16.0;
                let exact = 32768.0 * nearer_than(half * exponent.exp2());
                assert!(
                    (exact - f64::from(listed)).abs() < 1.0,
                    "{phase} {i} {exact}"
                );
            }
        }
    }

    #[test]
    fn sums_ascend_from_zero_at_every_phase() {
        for phase in 0..PHASES {
            let sums = normal(phase);
            assert_eq!(sums[0], 0);
            assert!(sums.windows(2).all(|pair| pair[0] <= pair[1]));
            assert_eq!(sums[SYMBOLS - 1], KEPT_SCALE);
        }
    }
}
