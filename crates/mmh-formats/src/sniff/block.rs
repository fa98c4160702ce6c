//! One block of bytes: does it look like an array, of what, and where do its elements begin?
//!
//! In an array of floats the byte with sign and exponent takes few values and the mantissa bytes
//! take all, so the bytes of one position within the elements have less entropy than all bytes
//! together. The width is the one that separates them best; the type is guessed from the values
//! at the most significant position.

use std::sync::LazyLock;

use mmh_core::Dtype;

/// Bytes looked at as one: enough for a histogram of each position, few enough that one array
/// fills most blocks.
pub(super) const BLOCK_LEN: usize = 4096;

/// What a block looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    /// An array.
    Array(Label),
    /// The same byte nearly everywhere: part of whatever is around it.
    Flat,
    /// Nothing in particular.
    Other,
}

/// The guess for an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label {
    /// The element type.
    pub(super) dtype: Dtype,
    /// The offset of the first element's first byte in the block: less than the width.
    pub(super) start: usize,
}

impl Label {
    /// The share of repeated strings, in thousandths, beyond which a block is no array. Floats
    /// are recognised by their values, integers by little more than their width.
    pub(super) fn repeats_max(self) -> usize {
        match self.dtype {
            Dtype::I16 | Dtype::I32 | Dtype::I64 => 300,
            _ => 500,
        }
    }

    /// Bytes of one element.
    pub(super) fn width(self) -> usize {
        self.dtype.block().1 as usize
    }
}

/// Entropies in units of 2⁻¹⁶ bit.
const BIT: i64 = 1 << 16;
/// What a width must separate, in entropy a byte, to be preferred to the narrower one.
const GAIN_MIN: i64 = BIT * 12 / 100;
/// The same for integers, which have no other feature to be told by.
const GAIN_INTEGER_MIN: i64 = BIT / 2;
/// Below this entropy a byte, a block is flat.
const FLAT_MAX: i64 = BIT / 4;

type Histogram = [u32; 256];

/// The histograms of the bytes at each position modulo a width, and their mean entropy.
struct Positions {
    histograms: Vec<Histogram>,
    entropies: Vec<i64>,
    mean: i64,
}

impl Positions {
    fn new(histograms: Vec<Histogram>) -> Self {
        let entropies: Vec<i64> = histograms.iter().map(entropy).collect();
        let mean =
            entropies.iter().sum::<i64>() / i64::try_from(entropies.len().max(1)).unwrap_or(1);
        Self {
            histograms,
            entropies,
            mean,
        }
    }

    /// The positions modulo half the width.
    fn halved(&self) -> Self {
        let (low, high) = self.histograms.split_at(self.histograms.len() / 2);
        let sums = low.iter().zip(high).map(|(a, b)| {
            let mut sum = *a;
            sum.iter_mut()
                .zip(b)
                .for_each(|(total, &count)| *total += count);
            sum
        });
        Self::new(sums.collect())
    }
}

/// Says what `bytes`, a block of at most [`BLOCK_LEN`] bytes, looks like.
pub(super) fn classify(bytes: &[u8]) -> Block {
    let mut histograms = vec![[0; 256]; 8];
    for group in bytes.chunks(8) {
        for (histogram, &byte) in histograms.iter_mut().zip(group) {
            if let Some(count) = histogram.get_mut(usize::from(byte)) {
                *count += 1;
            }
        }
    }
    let by8 = Positions::new(histograms);
    let by4 = by8.halved();
    let by2 = by4.halved();
    let all = by2.halved().mean;
    if all < FLAT_MAX {
        return Block::Flat;
    }
    let mut best = None;
    let mut least = all;
    for positions in [&by2, &by4, &by8] {
        if least - positions.mean > GAIN_MIN {
            least = positions.mean;
            best = Some(positions);
        }
    }
    match best.and_then(|positions| label(positions, all - least)) {
        Some(label) => Block::Array(label),
        None => Block::Other,
    }
}

/// The guess for an array of the width of `positions`, which separates `gain` a byte.
fn label(positions: &Positions, gain: i64) -> Option<Label> {
    let width = positions.histograms.len();
    let float = positions
        .histograms
        .iter()
        .zip(&positions.entropies)
        .enumerate()
        .filter_map(|(position, (top, &entropy))| {
            Some((entropy, position, float_type(width, top, entropy)?))
        })
        .min_by_key(|&(entropy, position, _)| (entropy, position));
    if let Some((_, top, dtype)) = float {
        return Some(Label {
            dtype,
            start: (top + 1) % width,
        });
    }
    if gain < GAIN_INTEGER_MIN {
        return None;
    }
    // The most significant byte of an integer varies least, and the least significant one of
    // the next element, which follows it, most.
    let next = positions.entropies.iter().cycle().skip(1);
    let steps = positions
        .entropies
        .iter()
        .zip(next)
        .map(|(top, low)| low - top);
    let (_, top) = steps
        .zip(0..width)
        .max_by_key(|&(step, position)| (step, width - position))?;
    let dtype = match width {
        2 => Dtype::I16,
        4 => Dtype::I32,
        _ => Dtype::I64,
    };
    Some(Label {
        dtype,
        start: (top + 1) % width,
    })
}

/// The float type whose sign and exponent the byte with histogram `top` may hold.
fn float_type(width: usize, top: &Histogram, entropy: i64) -> Option<Dtype> {
    // Exponents of numbers that models are made of, as the top byte without its sign holds
    // them: 2^-39 to 2^17 for 8 bits of exponent, 2^-95 to 2^48 for 11 bits.
    let (low, high, entropy_max) = match width {
        2 | 4 => (0x2c, 0x47, 5 * BIT),
        _ => (0x3a, 0x42, 4 * BIT),
    };
    let total = count(top, |_| true);
    let numbers = count(top, |value| (low..=high).contains(&(value & 0x7f)));
    let zeros = top.first().copied().unwrap_or(0);
    let is_float =
        entropy < entropy_max && numbers + zeros >= total - total / 10 && numbers >= total / 8;
    if width == 2 {
        let brain = is_float && entropy < 4 * BIT;
        return if brain {
            Some(Dtype::BF16)
        } else {
            half(top, total, entropy)
        };
    }
    is_float.then_some(if width == 4 { Dtype::F32 } else { Dtype::F64 })
}

/// Binary16: two bits of the mantissa are in the top byte, so it varies more; both signs occur,
/// and numbers beyond 16 do not.
fn half(top: &Histogram, total: u32, entropy: i64) -> Option<Dtype> {
    let zeros = count(top, |value| value & 0x7f == 0);
    let small = count(top, |value| (0x01..0x4c).contains(&(value & 0x7f)));
    let negative = count(top, |value| (0x81..0xcc).contains(&value));
    let both = negative >= small / 16 && negative <= small - small / 16;
    let spread = (BIT..7 * BIT + BIT / 2).contains(&entropy);
    let numbers = small + zeros >= total - total / 10 && small >= total / 8;
    (numbers && both && spread).then_some(Dtype::F16)
}

/// How many bytes have a value to keep.
fn count(histogram: &Histogram, keep: impl Fn(usize) -> bool) -> u32 {
    let kept = histogram
        .iter()
        .enumerate()
        .filter(|&(value, _)| keep(value));
    kept.map(|(_, &n)| n).sum()
}

/// The entropy of a histogram, with the Miller–Madow correction for its few samples.
fn entropy(histogram: &Histogram) -> i64 {
    let total: u32 = histogram.iter().sum();
    if total == 0 {
        return 0;
    }
    let table = &*N_LOG2_N;
    let n_log_n = |n: u32| table.get(n as usize).copied().unwrap_or(0);
    let sum: i64 = histogram.iter().map(|&n| n_log_n(n)).sum();
    let used = histogram.iter().filter(|&&n| n > 0).count();
    // Half a nat for each value beyond the first.
    let half_nat = BIT * 72_135 / 100_000;
    let correction = (i64::try_from(used).unwrap_or(0) - 1) * half_nat;
    let total_log = n_log_n(total);
    ((total_log - sum + correction) / i64::from(total)).min(8 * BIT)
}

/// n · log₂ n in units of 2⁻¹⁶, for every count of a block.
static N_LOG2_N: LazyLock<Vec<i64>> = LazyLock::new(|| {
    (0..=BLOCK_LEN as u64)
        .map(|n| n.cast_signed() * log2(n))
        .collect()
});

/// log₂ in units of 2⁻¹⁶, digit by digit: squaring the mantissa doubles the logarithm.
fn log2(n: u64) -> i64 {
    let Some(whole) = n.checked_ilog2() else {
        return 0;
    };
    let mut mantissa = (u128::from(n) << 62) >> whole;
    let mut log = i64::from(whole);
    for _ in 0..16 {
        mantissa = (mantissa * mantissa) >> 62;
        let digit = mantissa >= 2 << 62;
        mantissa >>= u32::from(digit);
        log = log << 1 | i64::from(digit);
    }
    log
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_right_to_its_last_digit() {
        assert_eq!([1, 2, 4, 4096].map(log2), [0, BIT, 2 * BIT, 12 * BIT]);
        for n in 1..=4096u64 {
            let exact = (n as f64).log2() * BIT as f64;
            assert!((log2(n) as f64 - exact).abs() <= 1.0, "{n}");
        }
    }

    #[test]
    fn entropy_of_equal_counts_is_the_logarithm_of_their_number() {
        let mut histogram = [0; 256];
        assert_eq!(entropy(&histogram), 0);
        histogram[7] = 100;
        assert_eq!(entropy(&histogram), 0);
        histogram.fill(8);
        assert_eq!(entropy(&histogram), 8 * BIT);
    }
}
