//! What a delta expects of each number: a class, by the size of the row's update and the number's
//! exponent, and a sign, by the directions that updates have in common.

/// Numbers that are looked at together.
const STRIP: usize = 64;
/// Numbers behind the last column that [`Expected::columns`] must have.
pub(crate) const COLUMNS_REACH: usize = STRIP - 1;
/// The bit of a shift that says that a negative difference is expected.
pub(crate) const NEGATIVE: u8 = 0x80;

/// What is known of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected<'a> {
    /// The expectation for the exponent 0, in half octaves.
    pub(crate) size: i16,
    /// The place of the exponent, and its bits.
    pub(crate) exponent: (u32, u32),
    /// The expectation of the first class, and how often the number of classes is halved.
    pub(crate) least: i16,
    pub(crate) halvings: u32,
    /// Classes of each level.
    pub(crate) n_classes: i16,
    /// The expectation from which on magnitudes have more low bits apart, and the least and the most
    /// of these.
    pub(crate) reach: i16,
    pub(crate) low: (i16, i16),
    /// The inclination above which a number is of the second level.
    pub(crate) threshold: i16,
    /// The part that each direction has in the row.
    pub(crate) factors: &'a [i16],
    /// The parts that it has in the row's columns, from that of the first number on: for each
    /// direction `stride` numbers, of which the last [`COLUMNS_REACH`] are beyond the columns.
    pub(crate) columns: &'a [i16],
    pub(crate) stride: usize,
}

impl Expected<'_> {
    /// The same from number `n` of the row on.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn after(&self, n: usize) -> Self {
        Self {
            columns: self.columns.get(n..).unwrap_or(&[]),
            ..*self
        }
    }

    /// How far each of a strip of numbers is inclined to rise, from number `start` of the row on.
    #[inline(always)]
    fn inclinations(&self, start: usize) -> [i16; STRIP] {
        let mut sums = [0i16; STRIP];
        for (direction, &factor) in self.factors.iter().enumerate() {
            let at = direction * self.stride + start;
            let Some(columns) = self.columns.get(at..).and_then(<[i16]>::first_chunk) else {
                break;
            };
            let columns: &[i16; STRIP] = columns;
            for (sum, column) in sums.iter_mut().zip(columns) {
                *sum = sum.wrapping_add(factor.wrapping_mul(*column));
            }
        }
        sums
    }

    /// Classes and shifts of a strip of numbers with these exponents, from `start` on.
    #[inline(always)]
    fn strip(&self, exponents: &[i16; STRIP], start: usize) -> ([u8; STRIP], [u8; STRIP]) {
        let sums = self.inclinations(start);
        let (mut classes, mut shifts) = ([0; STRIP], [0; STRIP]);
        let targets = classes.iter_mut().zip(&mut shifts);
        for ((class, shift), (exponent, sum)) in targets.zip(exponents.iter().zip(&sums)) {
            let expected = (self.size - 2 * exponent).clamp(0, 63);
            let level = if sum.unsigned_abs() > self.threshold.unsigned_abs() {
                self.n_classes
            } else {
                0
            };
            let above = (expected - self.least).max(0);
            let of_level = (above >> self.halvings).min(self.n_classes - 1);
            [*class, _] = (of_level + level).to_le_bytes();
            let above = (expected - self.reach).max(0);
            let low = (above >> 1).max(self.low.0).min(self.low.1);
            let negative = (sum >> 8) & i16::from(NEGATIVE);
            [*shift, _] = (low | negative).to_le_bytes();
        }
        (classes, shifts)
    }
}

macro_rules! expect {
    ($name:ident, $uint:ty, $doc:literal) => {
        #[doc = $doc]
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_possible_wrap,
            trivial_numeric_casts,
            reason = "an exponent has at most 8 bits"
        )]
        #[inline(always)]
        pub(crate) fn $name(
            base: &[[u8; size_of::<$uint>()]],
            expected: &Expected<'_>,
            classes: &mut [u8],
            shifts: &mut [u8],
        ) {
            let (at, bits) = expected.exponent;
            let strips = base.chunks(STRIP).zip(classes.chunks_mut(STRIP));
            let strips = strips.zip(shifts.chunks_mut(STRIP)).enumerate();
            for (i, ((numbers, classes), shifts)) in strips {
                let mut exponents = [0i16; STRIP];
                for (exponent, number) in exponents.iter_mut().zip(numbers) {
                    let number = <$uint>::from_le_bytes(*number);
                    *exponent = (number >> at & ((1 << bits) - 1)) as i16;
                }
                let (of_class, of_shift) = expected.strip(&exponents, i * STRIP);
                classes.copy_from_slice(&of_class[..classes.len()]);
                shifts.copy_from_slice(&of_shift[..shifts.len()]);
            }
        }
    };
}

expect!(
    expect_words,
    u16,
    "Fills in the class and the shift of each number of 16 bits of a row: the low bits that its difference has apart, and [`NEGATIVE`]."
);
expect!(
    expect_doubles,
    u32,
    "The same for numbers of 32 bits, as [`expect_words`]."
);

#[cfg(test)]
mod tests {
    use super::super::Kernels;
    use super::super::tests::others;
    use super::*;
    use crate::samples::Noise;

    const PLAIN: Expected<'_> = Expected {
        size: 2 * 127 + 6,
        exponent: (7, 8),
        least: 0,
        halvings: 0,
        n_classes: 16,
        reach: 13,
        low: (0, 8),
        threshold: i16::MAX,
        factors: &[],
        columns: &[],
        stride: 0,
    };

    fn of(numbers: &[u16], expected: &Expected<'_>) -> (Vec<u8>, Vec<u8>) {
        let numbers: Vec<[u8; 2]> = numbers.iter().map(|n| n.to_le_bytes()).collect();
        let (mut classes, mut shifts) = (vec![9; numbers.len()], vec![9; numbers.len()]);
        expect_words(&numbers, expected, &mut classes, &mut shifts);
        (classes, shifts)
    }

    #[test]
    fn expectations_fall_by_two_half_octaves_with_the_exponent() {
        // 1, 2, 16, 1/2, -1/16, the least exponents.
        let numbers = [0x3f80, 0x4000, 0x4180, 0x3f00, 0xbd80, 0x0080, 0];
        let (classes, shifts) = of(&numbers, &PLAIN);
        assert_eq!(classes, [6, 4, 0, 8, 14, 15, 15]);
        assert_eq!(shifts, [0, 0, 0, 0, 0, 8, 8]);
        let halved = Expected {
            halvings: 1,
            n_classes: 5,
            reach: 6,
            ..PLAIN
        };
        let (classes, shifts) = of(&numbers, &halved);
        assert_eq!(classes, [3, 2, 0, 4, 4, 4, 4]);
        assert_eq!(shifts, [0, 0, 0, 1, 4, 8, 8]);
        let above = Expected {
            least: 5,
            low: (2, 3),
            ..halved
        };
        let (classes, shifts) = of(&numbers, &above);
        assert_eq!(classes, [0, 0, 0, 1, 4, 4, 4]);
        assert_eq!(shifts, [2, 2, 2, 2, 3, 3, 3]);
    }

    #[test]
    fn directions_tell_sign_and_level() {
        let mut columns = vec![0i16; 2 * (3 + COLUMNS_REACH)];
        let stride = 3 + COLUMNS_REACH;
        columns[..3].copy_from_slice(&[5, -5, 1]);
        columns[stride..stride + 3].copy_from_slice(&[1, 1, 2]);
        let expected = Expected {
            threshold: 9,
            factors: &[2, -1],
            columns: &columns,
            stride,
            ..PLAIN
        };
        // Inclinations 9, -11, 0.
        let (classes, shifts) = of(&[0x3f80; 3], &expected);
        assert_eq!(classes, [6, 22, 6]);
        assert_eq!(shifts, [0, NEGATIVE, 0]);
    }

    #[test]
    fn all_engines_expect_alike() {
        let noise = &mut Noise::new(8);
        for round in 0..100usize {
            let n = [1, 63, 64, 65, 384, 1000][round % 6];
            let rank = [0, 1, 8, 16][round % 4];
            let bytes: Vec<u8> = (0..4 * n).map(|_| noise.below(256)).collect();
            let mut small = |n: usize| -> Vec<i16> {
                (0..n).map(|_| i16::from(noise.below(63)) - 31).collect()
            };
            let stride = n + COLUMNS_REACH;
            let (factors, columns) = (small(rank), small(rank * stride));
            let expected = Expected {
                size: [0, 100, 300, 2048, -2048][round % 5],
                exponent: [(7, 8), (10, 5), (23, 8)][round % 3],
                least: i16::from(noise.below(64)),
                halvings: u32::from(noise.below(6)),
                n_classes: i16::from(noise.below(16)) + 1,
                reach: i16::from(noise.below(64)),
                low: (i16::from(noise.below(3)), i16::from(noise.below(3)) + 2),
                threshold: i16::from(noise.below(200)),
                factors: &factors,
                columns: &columns,
                stride,
            };
            let run = |kernels: &Kernels| {
                let (mut classes, mut shifts) = (vec![0; n], vec![0; n]);
                if round % 3 < 2 {
                    let numbers = bytes[..2 * n].as_chunks().0;
                    (kernels.expect_words)(numbers, &expected, &mut classes, &mut shifts);
                } else {
                    let numbers = bytes.as_chunks().0;
                    (kernels.expect_doubles)(numbers, &expected, &mut classes, &mut shifts);
                }
                (classes, shifts)
            };
            let plain = run(&Kernels::PORTABLE);
            let n_classes = expected.n_classes.to_le_bytes()[0];
            assert!(plain.0.iter().all(|&class| class < 2 * n_classes));
            for kernels in others() {
                assert!(run(&kernels) == plain, "round {round}");
            }
        }
    }
}
