//! The arithmetic of scales: logarithms in octaves, and how far a number moves the estimates.

/// A number's logarithm has this many bits behind the point.
pub(super) const LOG_BITS: u32 = 8;
/// An estimate of a scale has this many, so that it can move slowly.
pub(super) const SCALE_BITS: u32 = 16;
/// The greatest scale, in octaves above the least exponent.
const SCALE_MAX: i32 = 256;

/// 65536 · 2^(i/8).
const EIGHTHS: [i32; 8] = [65536, 71468, 77936, 84990, 92682, 101_070, 110_218, 120_194];
/// 65536 · 2^(k/8).
const fn exp2_eighths(k: i32) -> i32 {
    let eighth = EIGHTHS[(k & 7) as usize];
    if k < 0 {
        eighth >> -(k >> 3)
    } else {
        eighth << (k >> 3)
    }
}

/// The logarithm of the middle of the numbers with an exponent and a top bit of the mantissa.
#[inline(always)]
pub(super) fn log2(symbol: i32) -> i32 {
    // 256 · log2(1.25) and 256 · log2(1.75).
    ((symbol >> 1) << LOG_BITS) + if symbol & 1 == 0 { 82 } else { 207 }
}

const PULL_MIN: i32 = -128;
const PULL_MAX: i32 = 64;
/// What a number at k/16 octaves from the prediction says of the scale, k from [`PULL_MIN`] on:
/// 2^(k/8) − 1 (its square beside the variance), at most 6, and more strongly below −4 octaves.
const PULL: [i32; (PULL_MAX - PULL_MIN + 1) as usize] = {
    let mut table = [0; (PULL_MAX - PULL_MIN + 1) as usize];
    let mut k = PULL_MIN;
    while k <= PULL_MAX {
        let square = exp2_eighths(if k > 30 { 30 } else { k });
        let square = if square > 7 << 16 { 7 << 16 } else { square };
        let below = if k < -64 { (k + 64) << 11 } else { 0 };
        table[(k - PULL_MIN) as usize] = square - (1 << 16) + below;
        k += 1;
    }
    table
};

const SIZE_MIN: i32 = -48;
const SIZE_MAX: i32 = 16;
/// 4096 · 2^(k/8): the size of a number at k/8 octaves from the prediction, from [`SIZE_MIN`] on.
const SIZE: [i32; (SIZE_MAX - SIZE_MIN + 1) as usize] = {
    let mut table = [0; (SIZE_MAX - SIZE_MIN + 1) as usize];
    let mut k = SIZE_MIN;
    while k <= SIZE_MAX {
        table[(k - SIZE_MIN) as usize] = exp2_eighths(k) >> 4;
        k += 1;
    }
    table
};

/// How the estimate of a scale moves for a number at `distance` (in 2^-[`LOG_BITS`] octaves) from
/// the prediction, when the estimate moves by `rate` / 65536 of what the number says.
#[inline(always)]
pub(super) fn pull(distance: i32, rate: i32) -> i32 {
    let k = (distance >> (LOG_BITS - 4)).clamp(PULL_MIN, PULL_MAX) - PULL_MIN;
    let pull = PULL.get(k.cast_unsigned() as usize).copied().unwrap_or(0);
    ((pull >> 4) * rate) >> 12
}

/// The size of a number beside the predicted one, times 4096, at most 4.
#[inline(always)]
pub(super) fn size(distance: i32) -> i32 {
    let k = (distance >> (LOG_BITS - 3)).clamp(SIZE_MIN, SIZE_MAX) - SIZE_MIN;
    SIZE.get(k.cast_unsigned() as usize).copied().unwrap_or(0)
}

/// From here on an estimate fades.
const SEEN_MAX: usize = 242;
const RATES: [i32; SEEN_MAX + 1] = {
    let mut rates = [0; SEEN_MAX + 1];
    let (mut seen, mut weight) = (0, 8);
    while seen <= SEEN_MAX {
        rates[seen] = 47274 / weight;
        seen += 1;
        weight += 1;
    }
    rates
};

/// The rate of an estimate that has seen `seen` numbers: like a mean of all, then fading.
#[inline(always)]
pub(super) fn scale_rate(seen: usize) -> i32 {
    RATES[seen.min(SEEN_MAX)]
}

/// The same for means of columns, whose beginnings are less to be trusted.
#[inline(always)]
pub(super) fn mean_rate(seen: i32) -> i32 {
    65536 / (seen.min(316) + 16)
}

/// Keeps an estimate of a scale where a few steps cannot leave the range of its type.
#[inline(always)]
pub(super) fn within(scale: i32) -> i32 {
    scale.clamp(-SCALE_MAX << SCALE_BITS, SCALE_MAX << SCALE_BITS)
}

/// Keeps a prediction among the exponents that there are.
#[inline(always)]
pub(super) fn possible(scale: i32) -> i32 {
    scale.clamp(0, (SCALE_MAX << SCALE_BITS) - 1)
}

/// A context's index among `n`.
#[inline(always)]
pub(super) fn index(x: i32, n: i32) -> usize {
    x.clamp(0, n - 1).cast_unsigned() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::Noise;

    #[test]
    fn logarithms_are_of_the_middle_of_what_is_open() {
        assert_eq!(log2(2 * 127), (127 << 8) + 82);
        assert_eq!(log2(2 * 127 + 1), (127 << 8) + 207);
        for symbol in 0..512 {
            let below = f64::from(symbol / 2) + [0.0, 1.5f64.log2()][usize::from(symbol % 2 != 0)];
            let above = f64::from(symbol / 2) + [1.5f64.log2(), 1.0][usize::from(symbol % 2 != 0)];
            let log = f64::from(log2(symbol)) / 256.0;
            assert!(below < log && log < above);
        }
    }

    /// Estimates rise with what is larger than predicted, and fall with what is smaller.
    #[test]
    fn a_pull_has_the_direction_of_the_distance() {
        for distance in -3000..3000 {
            let pull = pull(distance, 4000);
            assert!(
                if distance < 0 { pull <= 0 } else { pull >= 0 },
                "{distance}: {pull}"
            );
            assert!(pull >= self::pull(distance - 16, 4000), "{distance}");
        }
        assert_eq!(pull(100_000, 4000), pull(3000, 4000), "and is limited");
        assert_eq!(pull(-100_000, 4000), pull(-3000, 4000));
    }

    /// For normal numbers the estimate settles at their standard deviation.
    #[test]
    fn an_estimate_finds_the_scale_of_normal_numbers() {
        let noise = &mut Noise::new(9);
        let mut scale = 100 << SCALE_BITS;
        for seen in 0..60_000 {
            // A deviation of 2^-20, whose exponent is 107.
            let symbol = (noise.normal() / 1_048_576.0).to_bits() >> 22 & 511;
            let distance = log2(symbol.cast_signed()) - (scale >> (SCALE_BITS - LOG_BITS));
            scale = within(scale + pull(distance, scale_rate(seen)));
        }
        let octaves = f64::from(scale) / f64::from(1 << SCALE_BITS);
        assert!((octaves - 107.0).abs() < 0.2, "{octaves}");
    }

    #[test]
    fn sizes_double_with_each_octave_to_a_limit() {
        assert_eq!(size(0), 4096);
        assert_eq!(size(256), 8192);
        assert_eq!(size(-512), 1024);
        assert_eq!(size(i32::MAX), 4 << 12);
        assert_eq!(size(i32::MIN), 64);
    }

    #[test]
    fn rates_fall_and_then_stay() {
        assert_eq!((scale_rate(0), scale_rate(242)), (47274 / 8, 47274 / 250));
        assert_eq!(scale_rate(usize::MAX), scale_rate(242));
        assert_eq!((mean_rate(0), mean_rate(i32::MAX)), (4096, 65536 / 332));
    }
}
