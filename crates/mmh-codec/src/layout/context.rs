//! What the values of a block depend on: keys of units of values, computed from the fields that
//! stand before them (FORMAT.md, "Grouped").

use std::ops::Range;

use super::block::Plane;

/// Units on either side that a step is compared with.
const WINDOW: usize = 8;
/// Units whose keys are computed at a time: a multiple of those of every block.
const CHUNK: usize = 4096;
/// Units on either side of them that are looked at: the window, in whole blocks.
const HALO: usize = 16;
/// The logarithm of no step at all.
const LOG_NONE: i32 = -4096;

/// Units of values that share a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Context {
    /// Values of a unit, a power of two; divides those of a block.
    pub(crate) unit: usize,
    /// Whether each unit tends to have one value farthest from this one, as scales are made
    /// from the greatest weight.
    pub(crate) centre: Option<u8>,
    pub(crate) keys: Keys,
}

/// What a key is computed from; fields are named by their index in the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// Nothing: all are 0.
    None,
    /// The value of another field.
    Value(usize),
    /// The step between the values of a unit, against that of its neighbours.
    Step(Scale),
    /// Where zero lies among the values, and the step.
    Zero {
        /// The step.
        step: Scale,
        /// What is subtracted.
        minimum: Scale,
    },
}

/// A step: a number for the block, and an integer factor for each unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scale {
    /// A field of binary16, or of exponents of two.
    pub(crate) whole: usize,
    /// A field, and the value in it that stands for 0.
    pub(crate) part: Option<(usize, u8)>,
}

/// Appends the keys of some units, whose steps are known relative to those near.
type PutKeys<'a> = &'a dyn Fn(Range<usize>, &[i32], &mut Vec<u8>);

impl Context {
    /// The keys of `n` units.
    pub(crate) fn keys(&self, planes: &[Plane], n: usize) -> Vec<u8> {
        let by_step = |step: Scale, key: PutKeys<'_>| {
            let mut keys = Vec::with_capacity(n);
            for start in (0..n).step_by(CHUNK) {
                let units = start..(start + CHUNK).min(n);
                let near = start.saturating_sub(HALO)..(units.end + HALO).min(n);
                let relative = relative(&step.logs(planes, n, near.clone()));
                let own = &relative[start - near.start..units.end - near.start];
                key(units, own, &mut keys);
            }
            keys
        };
        match self.keys {
            Keys::None => vec![0; n],
            Keys::Value(field) => match planes.get(field) {
                Some(Plane::Bytes(values)) if values.len() == n => values.clone(),
                _ => vec![0; n],
            },
            Keys::Step(step) => by_step(step, &|_, relative, keys| {
                keys.extend(relative.iter().map(|r| low_byte((r >> 7) + 128)));
            }),
            Keys::Zero { step, minimum } => by_step(step, &|units, relative, keys| {
                let steps = step.numbers(planes, n, units.clone()).into_iter();
                let zeros = steps.zip(minimum.numbers(planes, n, units));
                keys.extend(relative.iter().zip(zeros).map(|(r, (step, minimum))| {
                    let doubled = (2 * minimum + step / 2).checked_div(step).unwrap_or(31);
                    let zero = u8::try_from(doubled.min(31)).unwrap_or(31);
                    zero << 3 | low_byte(((r >> 9) + 4).clamp(0, 7))
                }));
            }),
        }
    }
}

impl Scale {
    /// What some of `n` units have: `of_block` makes something of the number of a block, and
    /// `with` something for each unit of that and the magnitude of the unit's factor.
    fn each<B: Copy, T: Copy + Default>(
        &self,
        planes: &[Plane],
        (n, units): (usize, Range<usize>),
        of_block: impl Fn(u32) -> B,
        with: impl Fn(B, u8) -> T,
    ) -> Vec<T> {
        let mut all = Vec::with_capacity(units.len());
        let whole = planes.get(self.whole);
        let per_block = (n / whole.map_or(0, Plane::len).max(1)).max(1);
        let factors = self.part.map(|(field, zero)| match planes.get(field) {
            Some(Plane::Bytes(values)) => (values.get(units.start..).unwrap_or_default(), zero),
            _ => (&[][..], zero),
        });
        let mut block = |number: u32| {
            let (of_block, first) = (of_block(number), all.len());
            match factors {
                None => all.resize(first + per_block, with(of_block, 1)),
                Some((values, zero)) => {
                    let values = values.get(first..first + per_block).unwrap_or_default();
                    all.extend(values.iter().map(|v| with(of_block, v.abs_diff(zero))));
                }
            }
        };
        let blocks = units.start / per_block..units.end / per_block;
        match whole {
            Some(Plane::Words(halves)) => {
                let halves = halves.get(blocks).unwrap_or_default();
                halves.iter().for_each(|&h| block(u32::from(h & 0x7fff)));
            }
            Some(Plane::Bytes(exponents)) => {
                let exponents = exponents.get(blocks).unwrap_or_default();
                exponents.iter().for_each(|&e| block(u32::from(e) << 10));
            }
            None => {}
        }
        all.resize(units.len(), T::default());
        all
    }

    /// Logarithms of the steps in units of 2^-10, with straight lines between powers of two, and
    /// so much more that none is negative.
    fn logs(&self, planes: &[Plane], n: usize, units: Range<usize>) -> Vec<u32> {
        let logs: [u32; 256] = std::array::from_fn(|factor| {
            (log2(u8::try_from(factor).unwrap_or(0)) - LOG_NONE).cast_unsigned()
        });
        self.each(
            planes,
            (n, units),
            |h| h,
            |h, factor| h + logs[usize::from(factor)],
        )
    }

    /// The steps in units of 2^-24, of a block number that is binary16.
    fn numbers(&self, planes: &[Plane], n: usize, units: Range<usize>) -> Vec<u64> {
        let number = |half: u32| {
            let (exponent, mantissa) = (half >> 10, u64::from(half & 0x3ff));
            match exponent {
                0 => mantissa,
                _ => (mantissa | 0x400) << (exponent - 1).min(30),
            }
        };
        self.each(planes, (n, units), number, |number, factor| {
            number * u64::from(factor)
        })
    }
}

/// Logarithm in units of 2^-10, with straight lines between powers of two.
fn log2(x: u8) -> i32 {
    let Some(exponent) = x.checked_ilog2() else {
        return LOG_NONE;
    };
    let fraction = ((u32::from(x) << 10) >> exponent) & 0x3ff;
    ((exponent << 10) | fraction).cast_signed()
}

/// Each less the mean (rounded down) of itself and up to [`WINDOW`] neighbours on either side.
fn relative(logs: &[u32]) -> Vec<i32> {
    const WHOLE: usize = 2 * WINDOW + 1;
    let n = logs.len();
    // Sums may wrap; their differences are small.
    let mut sums = Vec::with_capacity(n + 1);
    sums.push(0u32);
    let mut sum = 0u32;
    sums.extend(logs.iter().map(|&log| {
        sum = sum.wrapping_add(log);
        sum
    }));
    let less = |log: u32, mean: u32| log.cast_signed() - mean.cast_signed();
    let at_edge = |i: usize| {
        let (start, end) = (i.saturating_sub(WINDOW), (i + WINDOW + 1).min(n));
        let count = u32::try_from(end - start).unwrap_or(1);
        less(logs[i], sums[end].wrapping_sub(sums[start]) / count)
    };
    let mut relative: Vec<i32> = (0..n.min(WINDOW)).map(at_edge).collect();
    let (starts, ends) = (&sums[..], sums.get(WHOLE..).unwrap_or_default());
    let middles = logs.iter().skip(WINDOW).zip(starts.iter().zip(ends));
    relative.extend(middles.map(|(&log, (start, end))| less(log, end.wrapping_sub(*start) / 17)));
    relative.extend((relative.len()..n).map(at_edge));
    relative
}

fn low_byte(x: i32) -> u8 {
    u8::try_from(x.clamp(0, 255)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_of_the_neighbours_that_there_are() {
        let naive = |logs: &[u32]| -> Vec<i32> {
            (0..logs.len())
                .map(|i| {
                    let near = &logs[i.saturating_sub(8)..(i + 9).min(logs.len())];
                    let mean = near.iter().sum::<u32>() / u32::try_from(near.len()).unwrap();
                    i32::try_from(logs[i]).unwrap() - i32::try_from(mean).unwrap()
                })
                .collect()
        };
        let noise = &mut crate::samples::Noise::new(3);
        for n in [0, 1, 2, 8, 9, 16, 17, 18, 40] {
            let logs: Vec<u32> = (0..n).map(|_| u32::from(noise.below(200)) * 1300).collect();
            assert_eq!(relative(&logs), naive(&logs), "{n}");
        }
    }

    #[test]
    fn logarithms_are_straight_between_powers_of_two() {
        let logs = [0, 1, 2, 3, 4, 6, 128, 255].map(log2);
        assert_eq!(logs, [-4096, 0, 1024, 1536, 2048, 2560, 7168, 7168 + 1016]);
    }

    #[test]
    fn steps_are_compared_with_their_neighbours() {
        let step = Scale {
            whole: 0,
            part: Some((1, 128)),
        };
        let context = Context {
            unit: 16,
            centre: None,
            keys: Keys::Step(step),
        };
        let halves = Plane::Words(vec![0xbc00, 0x3c00]);
        let factors = Plane::Bytes(vec![129, 127, 130, 126]);
        // Logarithms 15, 15, 16, 16 times 1024: their mean is 15.5.
        assert_eq!(context.keys(&[halves, factors], 4), [124, 124, 132, 132]);
    }

    /// Steps do not depend on where chunks end.
    #[test]
    fn chunks_look_beyond_their_ends() {
        let noise = &mut crate::samples::Noise::new(4);
        let n = 2 * CHUNK + 160;
        let halves: Vec<u16> = (0..n / 16)
            .map(|_| 0x2000 + u16::from(noise.below(256)))
            .collect();
        let factors: Vec<u8> = (0..n).map(|_| noise.below(64)).collect();
        let planes = [Plane::Words(halves), Plane::Bytes(factors)];
        let step = Scale {
            whole: 0,
            part: Some((1, 32)),
        };
        let context = Context {
            unit: 16,
            centre: None,
            keys: Keys::Step(step),
        };
        let all = relative(&step.logs(&planes, n, 0..n));
        let expected: Vec<u8> = all.iter().map(|r| low_byte((r >> 7) + 128)).collect();
        assert!(context.keys(&planes, n) == expected);
    }

    #[test]
    fn zero_lies_where_the_minimum_says() {
        let step = Scale {
            whole: 0,
            part: Some((2, 0)),
        };
        let minimum = Scale {
            whole: 1,
            part: Some((3, 0)),
        };
        let context = Context {
            unit: 32,
            centre: None,
            keys: Keys::Zero { step, minimum },
        };
        let planes = [
            Plane::Words(vec![0x3c00]),
            Plane::Words(vec![0x3800]),
            Plane::Bytes(vec![4, 4, 4, 0]),
            Plane::Bytes(vec![0, 12, 63, 63]),
        ];
        // 0.5 · 12 / 4 = 1.5 and 0.5 · 63 / 4 = 7.9, in halves 3 and 16; the last step is 0.
        let zeros: Vec<u8> = context
            .keys(&planes, 4)
            .iter()
            .map(|key| key >> 3)
            .collect();
        assert_eq!(zeros, [0, 3, 16, 31]);
    }

    /// Whatever fields hold, and however short they are: keys come out, and as many as asked for.
    #[test]
    fn no_content_is_too_strange() {
        let scale = |whole, part| Scale { whole, part };
        let all = [
            Keys::None,
            Keys::Value(1),
            Keys::Step(scale(0, None)),
            Keys::Step(scale(1, Some((9, 1)))),
            Keys::Zero {
                step: scale(0, Some((1, 0))),
                minimum: scale(0, Some((1, 255))),
            },
        ];
        for words in [0, 0x7c00, 0xffff, 0x8000] {
            let planes = [Plane::Words(vec![words; 3]), Plane::Bytes(vec![255; 3])];
            for keys in all {
                let context = Context {
                    unit: 1,
                    centre: None,
                    keys,
                };
                for n in [0, 1, 3, 24] {
                    assert_eq!(context.keys(&planes, n).len(), n);
                }
            }
        }
    }
}
