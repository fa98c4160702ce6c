//! The distributions of a delta. A class has one of magnitudes; how likely the expected sign is
//! depends only on the level of inclination. What is coded are both together.

use super::SIGNED;
use super::forecast::Forecast;
use crate::entropy::{
    Alphabet, DecodeSet, EncodeSet, LEVEL_MAX, LEVEL_STEPS, Levels, SYMBOLS_MAX, put_tables,
    read_tables,
};
use crate::error::{Result, corrupt};
use crate::input::{Input, put_sized};
use crate::kernel::{BEYOND, UNEXPECTED};
use crate::log2::{LOG_BITS, log2};

/// Symbols of magnitudes, 0 among them.
pub(super) const MAGNITUDES: usize = 16;

/// Distributions of magnitudes for each class, of all levels or of one after the other; and of signs
/// for each level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tables {
    magnitudes: Vec<Levels>,
    n_classes: usize,
    /// What the expected and the other sign take from the level of a magnitude, which is its
    /// improbability in eighths of an octave; [`LEVEL_MAX`] and above where it never comes.
    signs: Vec<[u8; 2]>,
}

impl Tables {
    /// Of how often magnitudes came in each class, and the expected and the other sign on each
    /// level.
    pub(super) fn of(magnitudes: &[[u32; SYMBOLS_MAX]], n_classes: u8, signs: &[[u32; 2]]) -> Self {
        let improbability = |counts: &[u32; 2], i: usize| {
            let total = u64::from(counts[0]) + u64::from(counts[1]);
            if counts[i] == 0 {
                return LEVEL_MAX;
            }
            let log = log2(total) - log2(u64::from(counts[i]));
            let steps = (log * LEVEL_STEPS + (1 << (LOG_BITS - 1))) >> LOG_BITS;
            u8::try_from(steps).unwrap_or(LEVEL_MAX).min(LEVEL_MAX - 1)
        };
        Self {
            magnitudes: magnitudes.iter().map(Levels::from_counts).collect(),
            n_classes: usize::from(n_classes),
            signs: signs
                .iter()
                .map(|counts| [improbability(counts, 0), improbability(counts, 1)])
                .collect(),
        }
    }

    pub(super) fn put(&self, forecast: &Forecast, out: &mut Vec<u8>) {
        let n_classes = usize::from(forecast.scheme.n_classes);
        out.push(u8::from(self.magnitudes.len() > n_classes));
        put_sized(out, &put_tables(&self.magnitudes, Alphabet::Sixteen));
        out.extend_from_slice(self.signs.as_flattened());
    }

    pub(super) fn read(input: &mut Input<'_>, forecast: &Forecast) -> Result<Self> {
        let n_classes = usize::from(forecast.scheme.n_classes);
        let levels = forecast.directions.levels();
        let n_tables = match input.u8()? {
            0 => n_classes,
            1 => n_classes * levels,
            _ => return corrupt("levels have no possible tables"),
        };
        let magnitudes = read_tables(input.sized()?, n_tables, Alphabet::Sixteen)?;
        let mut signs = vec![[0; 2]; levels];
        let flat = signs.as_flattened_mut();
        let n = flat.len();
        flat.copy_from_slice(input.take(n)?);
        Ok(Self {
            magnitudes,
            n_classes,
            signs,
        })
    }

    /// Class after class of the first level, then of the second.
    fn joint(&self) -> Vec<Levels> {
        // If they are not of all levels, there are as many for each.
        let n_classes = self.n_classes.max(1);
        let of_levels = self.magnitudes.chunks(n_classes).cycle();
        let of_level = |(signs, classes): (&[u8; 2], &'_ [Levels])| -> Vec<Levels> {
            classes.iter().map(|of| joint(of, *signs)).collect()
        };
        self.signs
            .iter()
            .zip(of_levels)
            .flat_map(of_level)
            .collect()
    }

    pub(super) fn decode_set(&self) -> DecodeSet {
        DecodeSet::new(&self.joint(), SIGNED)
    }

    pub(super) fn encode_set(&self) -> EncodeSet {
        EncodeSet::new(&self.joint(), SIGNED)
    }
}

fn joint(magnitudes: &Levels, [expected, other]: [u8; 2]) -> Levels {
    let less = |level: u8, by: u8| {
        if level == 0 || by >= LEVEL_MAX {
            0
        } else {
            level.saturating_sub(by).max(1)
        }
    };
    let mut levels = [0; SYMBOLS_MAX];
    levels[0] = magnitudes.0[0];
    for kind in 1..MAGNITUDES {
        let level = magnitudes.0[kind];
        levels[kind] = less(level, expected);
        levels[kind | usize::from(UNEXPECTED)] = less(level, other);
    }
    // What is beyond all magnitudes is possible in any class that there is.
    levels[usize::from(BEYOND)] = u8::from(!magnitudes.is_empty());
    Levels(levels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(some: &[(usize, u32)]) -> [u32; SYMBOLS_MAX] {
        let mut counts = [0; SYMBOLS_MAX];
        some.iter().for_each(|&(kind, count)| counts[kind] = count);
        counts
    }

    #[test]
    fn a_magnitude_is_shared_by_its_signs() {
        let magnitudes = [counts(&[(0, 500), (1, 500)]), counts(&[])];
        let tables = Tables::of(&magnitudes, 2, &[[300, 300], [400, 0]]);
        assert_eq!(tables.signs, [[8, 8], [0, LEVEL_MAX]]);
        let joint = tables.joint();
        let (level, first) = (joint[0].0[0], &joint[0].0);
        assert_eq!((first[1], first[17], first[16]), (level - 8, level - 8, 1));
        assert!(joint[1].is_empty() && joint[3].is_empty());
        let second = &joint[2].0;
        assert_eq!((second[1], second[17], second[16]), (level, 0, 1));
    }

    #[test]
    fn levels_may_have_magnitudes_of_their_own() {
        let magnitudes = [counts(&[(0, 500), (1, 500)]), counts(&[(2, 7)])];
        let joint = Tables::of(&magnitudes, 1, &[[1, 1], [1, 1]]).joint();
        assert_eq!(joint.len(), 2);
        assert!(joint[0].0[1] > 0 && joint[1].0[1] == 0 && joint[1].0[18] > 0);
    }

    #[test]
    fn what_was_counted_has_a_level() {
        let tables = Tables::of(&[counts(&[(0, 1 << 30), (15, 1)])], 1, &[[1 << 30, 1]]);
        let joint = &tables.joint()[0].0;
        assert!(joint[0] > 0 && joint[15] > 0 && joint[31] > 0 && joint[16] > 0);
    }
}
