//! What the values of a block depend on: keys of units of values, computed from the fields that
//! stand before them (FORMAT.md, "Grouped").

use super::block::Plane;

/// Units on either side that a step is compared with.
const WINDOW: usize = 8;
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

impl Context {
    /// The keys of `n` units.
    pub(crate) fn keys(&self, planes: &[Plane], n: usize) -> Vec<u8> {
        match self.keys {
            Keys::None => vec![0; n],
            Keys::Value(field) => match planes.get(field) {
                Some(Plane::Bytes(values)) if values.len() == n => values.clone(),
                _ => vec![0; n],
            },
            Keys::Step(step) => {
                let relative = relative(&step.logs(planes, n));
                relative.iter().map(|r| low_byte((r >> 7) + 128)).collect()
            }
            Keys::Zero { step, minimum } => {
                let relative = relative(&step.logs(planes, n));
                let zeros = step.numbers(planes, n).zip(minimum.numbers(planes, n));
                let keys = relative.iter().zip(zeros).map(|(r, (step, minimum))| {
                    let doubled = (2 * minimum + step / 2).checked_div(step).unwrap_or(31);
                    let zero = u8::try_from(doubled.min(31)).unwrap_or(31);
                    zero << 3 | low_byte(((r >> 9) + 4).clamp(0, 7))
                });
                keys.collect()
            }
        }
    }
}

impl Scale {
    /// The fields of units: the number of the block, and the magnitude of the factor.
    fn parts<'a>(&self, planes: &'a [Plane], n: usize) -> impl Iterator<Item = (u32, u8)> + 'a {
        let whole = planes.get(self.whole);
        let n_blocks = whole.map_or(0, Plane::len).max(1);
        let part = self.part.map(|(field, zero)| (planes.get(field), zero));
        let per_block = (n / n_blocks).max(1);
        let number = move |i: usize| match whole {
            Some(Plane::Words(halves)) => halves
                .get(i / per_block)
                .map_or(0, |&h| u32::from(h & 0x7fff)),
            Some(Plane::Bytes(exponents)) => exponents
                .get(i / per_block)
                .map_or(0, |&e| u32::from(e) << 10),
            None => 0,
        };
        let factor = move |i: usize| match part {
            Some((Some(Plane::Bytes(values)), zero)) => {
                values.get(i).map_or(0, |v| v.abs_diff(zero))
            }
            _ => 1,
        };
        (0..n).map(move |i| (number(i), factor(i)))
    }

    /// Logarithms of the steps in units of 2^-10, with straight lines between powers of two.
    fn logs(&self, planes: &[Plane], n: usize) -> Vec<i32> {
        let log = |(number, factor): (u32, u8)| number.cast_signed() + log2(factor);
        self.parts(planes, n).map(log).collect()
    }

    /// The steps in units of 2^-24, of a block number that is binary16.
    fn numbers<'a>(&self, planes: &'a [Plane], n: usize) -> impl Iterator<Item = u64> + 'a {
        self.parts(planes, n).map(|(half, factor)| {
            let (exponent, mantissa) = (half >> 10, u64::from(half & 0x3ff));
            let number = match exponent {
                0 => mantissa,
                _ => (mantissa | 0x400) << (exponent - 1).min(30),
            };
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
fn relative(logs: &[i32]) -> Vec<i32> {
    let n = logs.len();
    let mut sum: i32 = logs.iter().take(WINDOW).sum();
    let mut relative = Vec::with_capacity(n);
    for (i, log) in logs.iter().enumerate() {
        sum += logs.get(i + WINDOW).copied().unwrap_or(0);
        let count = (i + WINDOW + 1).min(n) - i.saturating_sub(WINDOW);
        let mean = match i32::try_from(count) {
            // The common case, for which division is multiplication.
            Ok(17) => sum.div_euclid(17),
            count => sum.div_euclid(count.unwrap_or(1)),
        };
        relative.push(log - mean);
        if let Some(left) = i.checked_sub(WINDOW) {
            sum -= logs[left];
        }
    }
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
        let naive = |logs: &[i32]| -> Vec<i32> {
            (0..logs.len())
                .map(|i| {
                    let near = &logs[i.saturating_sub(8)..(i + 9).min(logs.len())];
                    let n = i32::try_from(near.len()).unwrap();
                    logs[i] - near.iter().sum::<i32>().div_euclid(n)
                })
                .collect()
        };
        let noise = &mut crate::samples::Noise::new(3);
        for n in [0, 1, 2, 8, 9, 16, 17, 18, 40] {
            let logs: Vec<i32> = (0..n)
                .map(|_| i32::from(noise.below(200)) * 90 - 5000)
                .collect();
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
