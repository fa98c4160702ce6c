//! Distributions of symbols: quantised levels as they are stored, and the frequencies they mean.

use crate::log2::{LOG_BITS, log2};

/// Probabilities are in units of 2^-12.
pub const PROB_BITS: u32 = 12;
/// The sum of all frequencies of a model.
pub const PROB_SCALE: u32 = 1 << PROB_BITS;
/// The highest frequency: one below the scale, so that it fits the entry of an alias table.
pub const FREQ_MAX: u16 = 4095;
/// Most symbols of an alphabet.
pub const SYMBOLS_MAX: usize = 32;
/// Steps of a level in one octave of probability.
pub const LEVEL_STEPS: u32 = 8;
/// The highest level, for a symbol that is nearly certain; 0 is a symbol that never comes.
pub const LEVEL_MAX: u8 = 97;

/// 2^(i/8) in units of 2^-16.
const STEP_WEIGHTS: [u64; LEVEL_STEPS as usize] = [
    65_536, 71_468, 77_936, 84_990, 92_682, 101_070, 110_218, 120_194,
];

/// The stored form of a distribution: one level for each symbol. A symbol of level L > 0 has a
/// probability in proportion to 2^(L/8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Levels(pub(crate) [u8; SYMBOLS_MAX]);

impl Levels {
    /// The levels nearest to `counts`. Every symbol that was counted gets one above 0.
    #[must_use]
    pub fn from_counts(counts: &[u32; SYMBOLS_MAX]) -> Self {
        let total: u64 = counts.iter().map(|&c| u64::from(c)).sum();
        let whole = log2(total);
        Self(counts.map(|count| {
            if count == 0 {
                return 0;
            }
            let log = log2(u64::from(count)) + (PROB_BITS << LOG_BITS);
            let steps =
                (log.saturating_sub(whole) * LEVEL_STEPS + (1 << (LOG_BITS - 1))) >> LOG_BITS;
            u8::try_from(steps + 1).map_or(LEVEL_MAX, |level| level.min(LEVEL_MAX))
        }))
    }

    /// Whether no symbol has a level.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&level| level == 0)
    }

    /// The frequencies, whose sum is [`PROB_SCALE`] and each of which is below it. A distribution
    /// with only symbol s gives the least frequency to s ^ 1, and one with no symbol is taken as one
    /// with only symbol 0.
    #[must_use]
    pub fn frequencies(&self) -> [u16; SYMBOLS_MAX] {
        let weights = self.0.map(weight);
        let total: u64 = weights.iter().sum();
        let mut freqs = [0u16; SYMBOLS_MAX];
        let present = weights.iter().filter(|&&w| w > 0).count();
        if present < 2 {
            let only = weights.iter().position(|&w| w > 0).unwrap_or(0);
            freqs[only] = FREQ_MAX;
            freqs[only ^ 1] = 1;
            return freqs;
        }
        for (freq, weight) in freqs.iter_mut().zip(weights) {
            if weight > 0 {
                let share = (weight * u64::from(PROB_SCALE) + total / 2) / total;
                *freq = u16::try_from(share.max(1)).expect("a share is at most the scale");
            }
        }
        settle(&mut freqs);
        freqs
    }
}

fn weight(level: u8) -> u64 {
    let Some(steps) = level.checked_sub(1).map(u32::from) else {
        return 0;
    };
    STEP_WEIGHTS[(steps % LEVEL_STEPS) as usize] << (steps / LEVEL_STEPS)
}

/// Corrects the sum by changing the largest frequency, the first of equals. Rounding is off by
/// less than 32 in all and the largest is at least 126, so it stays positive.
fn settle(freqs: &mut [u16; SYMBOLS_MAX]) {
    let sum: u32 = freqs.iter().map(|&f| u32::from(f)).sum();
    let largest = (0..SYMBOLS_MAX)
        .rev()
        .max_by_key(|&i| freqs[i])
        .unwrap_or(0);
    let settled = (u32::from(freqs[largest]) + PROB_SCALE).saturating_sub(sum);
    freqs[largest] = u16::try_from(settled)
        .unwrap_or(FREQ_MAX)
        .clamp(1, FREQ_MAX);
}

/// How many buckets an alias table has, and so the most symbols that it can code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alphabet {
    /// 16 buckets of 256 slots.
    Sixteen,
    /// 32 buckets of 128 slots.
    ThirtyTwo,
}

impl Alphabet {
    /// The number of symbols and of buckets.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Sixteen => 16,
            Self::ThirtyTwo => 32,
        }
    }

    /// log2 of the slots in a bucket.
    #[must_use]
    pub const fn bucket_bits(self) -> u32 {
        match self {
            Self::Sixteen => 8,
            Self::ThirtyTwo => 7,
        }
    }
}

/// What a decoder needs of one distribution: for each bucket, the slot where its second symbol
/// begins, and an entry for either side of it. An entry is
/// `frequency << 20 | offset << 8 | symbol`; a slot's rank within its symbol is
/// `(slot + offset) % 4096`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(C)]
pub struct DecodeTable {
    /// The first slot of the bucket's second side, counted over all buckets.
    pub threshold: [u32; SYMBOLS_MAX],
    /// Entries of the first sides, then of the second sides.
    pub entries: [[u32; SYMBOLS_MAX]; 2],
}

/// What an encoder needs of one distribution beside its slots, in the form that vectors look up:
/// an entry for each symbol.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct EncodeTable {
    /// `first << 12 | frequency`, where *first* is the place of the symbol's first slot among
    /// the slots of the distribution.
    pub symbols: [u32; SYMBOLS_MAX],
    /// A little less than `1 / frequency`, 0 for 0: multiplied with a state below
    /// `frequency << 20`, rounded as may be, it gives the quotient or one less.
    pub reciprocals: [f32; SYMBOLS_MAX],
}

/// One side of a bucket: a run of slots of one symbol.
pub(super) struct Side {
    bucket: usize,
    second: bool,
    pub(super) symbol: usize,
    pub(super) first_slot: u32,
    pub(super) n_slots: u32,
}

/// Walks the sides of all buckets in slot order. Vose's method, in whole numbers and with a fixed
/// order of choices: both lists are stacks, filled in ascending order of symbols.
pub(super) fn for_each_side(
    freqs: &[u16; SYMBOLS_MAX],
    alphabet: Alphabet,
    mut visit: impl FnMut(&Side),
) {
    let n_buckets = alphabet.size();
    let width = 1u32 << alphabet.bucket_bits();
    let mut rest = freqs.map(u32::from);
    let mut own = [width; SYMBOLS_MAX];
    let mut other: [usize; SYMBOLS_MAX] = std::array::from_fn(|i| i);
    let mut small = Stack::default();
    let mut large = Stack::default();
    for (symbol, &freq) in rest.iter().enumerate().take(n_buckets) {
        if freq < width {
            small.push(symbol)
        } else {
            large.push(symbol)
        }
    }
    while let Some(poor) = small.pop() {
        let Some(rich) = large.top() else { break };
        own[poor] = rest[poor];
        other[poor] = rich;
        rest[rich] -= width - rest[poor];
        if rest[rich] < width {
            large.pop();
            small.push(rich);
        }
    }
    for bucket in 0..n_buckets {
        let first_slot = u32::try_from(bucket).expect("at most 32 buckets") * width;
        let (symbol, n_slots) = (bucket, own[bucket]);
        visit(&Side {
            bucket,
            second: false,
            symbol,
            first_slot,
            n_slots,
        });
        let (symbol, n_slots) = (other[bucket], width - own[bucket]);
        visit(&Side {
            bucket,
            second: true,
            symbol,
            first_slot: first_slot + own[bucket],
            n_slots,
        });
    }
}

#[derive(Default)]
struct Stack {
    items: [usize; SYMBOLS_MAX],
    len: usize,
}

impl Stack {
    fn push(&mut self, item: usize) {
        self.items[self.len] = item;
        self.len += 1;
    }

    fn top(&self) -> Option<usize> {
        self.len.checked_sub(1).map(|last| self.items[last])
    }

    fn pop(&mut self) -> Option<usize> {
        let top = self.top()?;
        self.len -= 1;
        Some(top)
    }
}

impl DecodeTable {
    /// The table of `levels`; symbols beyond the alphabet must have level 0.
    #[must_use]
    pub fn new(levels: &Levels, alphabet: Alphabet) -> Self {
        let freqs = levels.frequencies();
        let mut table = Self {
            threshold: [0; SYMBOLS_MAX],
            entries: [[0; SYMBOLS_MAX]; 2],
        };
        let mut ranks = [0u32; SYMBOLS_MAX];
        for_each_side(&freqs, alphabet, |side| {
            let offset = ranks[side.symbol].wrapping_sub(side.first_slot) & (PROB_SCALE - 1);
            let symbol = u32::try_from(side.symbol).expect("at most 32 symbols");
            let entry = u32::from(freqs[side.symbol]) << 20 | offset << 8 | symbol;
            table.entries[usize::from(side.second)][side.bucket] = entry;
            if side.second {
                table.threshold[side.bucket] = side.first_slot;
            }
            ranks[side.symbol] += side.n_slots;
        });
        table
    }
}

impl EncodeTable {
    /// The table of `levels`, whose slots it appends, [`PROB_SCALE`] of them: those of each
    /// symbol by rank. Symbols beyond the alphabet must have level 0.
    pub(super) fn new(levels: &Levels, alphabet: Alphabet, slots: &mut Vec<u16>) -> Self {
        let freqs = levels.frequencies();
        let mut table = Self {
            symbols: [0; SYMBOLS_MAX],
            reciprocals: [0.0; SYMBOLS_MAX],
        };
        let mut next = [0u32; SYMBOLS_MAX];
        let mut first = 0;
        for (symbol, &freq) in freqs.iter().enumerate() {
            let freq = u32::from(freq);
            table.symbols[symbol] = (first & (PROB_SCALE - 1)) << 12 | freq;
            table.reciprocals[symbol] = reciprocal(freq);
            next[symbol] = first;
            first += freq;
        }
        let start = slots.len();
        slots.resize(start + PROB_SCALE as usize, 0);
        let slots = &mut slots[start..];
        for_each_side(&freqs, alphabet, |side| {
            let first = next[side.symbol];
            next[side.symbol] = first + side.n_slots;
            let part = &mut slots[first as usize..(first + side.n_slots) as usize];
            for (slot, number) in part.iter_mut().zip(side.first_slot..) {
                *slot = u16::try_from(number).expect("slots are below 4096");
            }
        });
        table
    }
}

/// The number that is 3 units in its last place below `1 / freq`, itself rounded down. So much
/// outweighs the rounding of a state of 32 bits to 24 and of the product, 2^-24 of it each, and
/// with quotients below 2^20 it makes at most a difference of 5 * 2^-23 * 2^20 < 1.
pub(super) fn reciprocal(freq: u32) -> f32 {
    const MANTISSA_BITS: u32 = 23;
    if freq == 0 {
        return 0.0;
    }
    // 1 / freq = mantissa * 2^-(24 + octave), with 2^23 <= mantissa <= 2^24.
    let octave = freq.ilog2();
    let mantissa = (1u64 << (MANTISSA_BITS + 1 + octave)) / u64::from(freq) - 3;
    let fraction = u32::try_from(mantissa).expect("at most 2^24") - (1 << MANTISSA_BITS);
    f32::from_bits((126 - octave) << MANTISSA_BITS | fraction)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn levels(values: &[u8]) -> Levels {
        let mut levels = Levels::default();
        levels.0[..values.len()].copy_from_slice(values);
        levels
    }

    #[test]
    fn weights_are_powers_of_two_to_the_eighths() {
        for level in 1..=LEVEL_MAX {
            let exact = 65536.0 * (f64::from(level - 1) / 8.0).exp2();
            assert!((weight(level) as f64 / exact - 1.0).abs() < 1e-5, "{level}");
        }
        assert_eq!(weight(0), 0);
    }

    #[test]
    fn even_counts_give_even_frequencies() {
        let mut counts = [0; SYMBOLS_MAX];
        counts[3..7].fill(1000);
        let freqs = Levels::from_counts(&counts).frequencies();
        assert_eq!(freqs[3..7], [1024; 4]);
        assert_eq!(freqs.iter().sum::<u16>(), 4096);
    }

    #[test]
    fn a_lone_symbol_leaves_one_slot_to_its_neighbour() {
        let mut counts = [0; SYMBOLS_MAX];
        counts[15] = 9;
        let freqs = Levels::from_counts(&counts).frequencies();
        assert_eq!((freqs[15], freqs[14]), (4095, 1));
        assert_eq!(Levels::default().frequencies()[..2], [4095, 1]);
    }

    /// The quantised distribution costs at most a hundredth of a bit more than the true one.
    #[test]
    fn levels_are_fine_enough() {
        let counts: [u32; SYMBOLS_MAX] = std::array::from_fn(|i| (1 << 20) >> (i / 2) | 3);
        let total = f64::from(counts.iter().sum::<u32>());
        let freqs = Levels::from_counts(&counts).frequencies();
        let excess: f64 = (0..SYMBOLS_MAX)
            .map(|i| {
                let p = f64::from(counts[i]) / total;
                p * (p / (f64::from(freqs[i]) / 4096.0)).log2()
            })
            .sum();
        assert!((0.0..0.01).contains(&excess), "{excess}");
    }

    fn check_tables(levels: &Levels, alphabet: Alphabet) {
        let freqs = levels.frequencies();
        let mut slots = vec![7];
        let (decode, encode) = (
            DecodeTable::new(levels, alphabet),
            EncodeTable::new(levels, alphabet, &mut slots),
        );
        let mut counted = [0u32; SYMBOLS_MAX];
        for slot in 0..PROB_SCALE {
            let bucket = (slot >> alphabet.bucket_bits()) as usize;
            let side = usize::from(slot >= decode.threshold[bucket]);
            let entry = decode.entries[side][bucket];
            let symbol = (entry & 0xff) as usize;
            let rank = (slot + (entry >> 8)) & (PROB_SCALE - 1);
            assert_eq!(entry >> 20, u32::from(freqs[symbol]));
            assert!(rank < u32::from(freqs[symbol]));
            let first = encode.symbols[symbol] >> 12 & 0xfff;
            assert_eq!(encode.symbols[symbol] & 0xfff, u32::from(freqs[symbol]));
            assert_eq!(u32::from(slots[(1 + first + rank) as usize]), slot);
            counted[symbol] += 1;
        }
        assert_eq!(counted, freqs.map(u32::from));
        assert_eq!(slots.len(), 1 + PROB_SCALE as usize);
    }

    proptest! {
        /// Any table of levels, even a hostile one, yields a full set of slots that the encoder
        /// and the decoder agree on.
        #[test]
        fn slots_and_ranks_are_a_bijection(values in prop::array::uniform32(0..=LEVEL_MAX), keep in 0u32..) {
            let mut levels = Levels(values);
            for (i, level) in levels.0.iter_mut().enumerate() {
                if keep >> i & 1 == 0 { *level = 0; }
            }
            prop_assert_eq!(levels.frequencies().iter().map(|&f| u32::from(f)).sum::<u32>(), PROB_SCALE);
            check_tables(&levels, Alphabet::ThirtyTwo);
            levels.0[16..].fill(0);
            check_tables(&levels, Alphabet::Sixteen);
        }

        #[test]
        fn the_reciprocal_gives_the_quotient_or_one_less(freq in 1u32..4096, x in any::<u32>(), near in 0u64..3) {
            let limit = u64::from(freq) << 20;
            let x = u64::from(x) % limit;
            // Multiples of the frequency and their neighbours are where rounding shows.
            let multiple = (x / u64::from(freq) * u64::from(freq) + near).saturating_sub(1);
            for x in [x, multiple, limit - 1 - near] {
                #[allow(clippy::cast_possible_truncation, reason = "that is what is examined")]
                let quotient = (x as f32 * reciprocal(freq)) as u64;
                prop_assert!(x / u64::from(freq) - quotient <= 1, "{x} / {freq}");
            }
        }
    }

    #[test]
    fn extreme_tables_are_whole() {
        for values in [
            &[97, 1][..],
            &[1; 32],
            &[97; 32],
            &[0, 97],
            &[1, 97, 1],
            &[],
        ] {
            check_tables(&levels(values), Alphabet::ThirtyTwo);
        }
    }
}
