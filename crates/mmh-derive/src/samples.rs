//! Tensors for tests: every corner that quantisers have, the same on every machine and for ever,
//! because golden files were made of them.

/// A generator of numbers (xorshift64*), for tests only.
#[derive(Debug)]
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        u32::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32).unwrap_or(0)
    }

    /// From 0 to `n - 1`, exactly.
    #[allow(clippy::cast_precision_loss, reason = "24 bits")]
    fn below(&mut self, n: u32) -> f32 {
        ((self.next() >> 8) % n) as f32
    }

    /// Bell-shaped around 0, of size about 0.03.
    fn weight(&mut self) -> f32 {
        let sum = (0..4).map(|_| self.below(4096)).sum::<f32>() - 8190.0;
        sum / 65536.0
    }
}

/// Numbers in a block of one kind.
const BLOCK: usize = 32;

/// `len` numbers: blocks of 32, of sixteen kinds in turn (weights, zeros, constants, ties,
/// outliers, subnormals, numbers near the bounds of what counts as zero, and others).
#[must_use]
pub fn numbers(len: usize, rng_seed: u64) -> Vec<f32> {
    let mut from = Numbers(rng_seed | 1);
    let mut all = Vec::with_capacity(len);
    while all.len() < len {
        let kind = from.next() % 24;
        let factor = 1.0 / (1.0 + from.below(64));
        let at = from.next() as usize % BLOCK;
        for i in 0..BLOCK.min(len - all.len()) {
            let weight = from.weight();
            let sign = if i % 2 == 0 { 1.0 } else { -1.0 };
            all.push(match kind {
                0 => 0.0,
                1 => sign * 0.0,
                2 => factor,
                3 => -weight.abs(),
                4 => weight.abs() + 0.001,
                5 => {
                    if i == at {
                        weight * 1000.0
                    } else {
                        weight
                    }
                }
                6 => (from.below(33) - 16.0) / 2.0 * factor,
                7 => (from.below(17) - 8.0) * 0.125,
                8 => f32::from_bits(from.next() & 0x8000_ffff),
                9 => weight * 1e-13,
                10 => weight * 300_000.0,
                11 => {
                    if from.next().is_multiple_of(4) {
                        weight
                    } else {
                        0.0
                    }
                }
                12 => weight * factor * factor * factor,
                13 => sign * factor,
                14 => weight * 2e-6,
                15 => weight + 0.5,
                _ => weight,
            });
        }
    }
    all
}

/// `len` weights of columns, as an importance matrix has them: most between 0 and 2, some 0.
#[must_use]
pub fn importance(len: usize, rng_seed: u64) -> Vec<f32> {
    let mut from = Numbers(rng_seed | 1);
    let mut one = || match from.next() % 16 {
        0 => 0.0,
        1 => from.below(1000),
        _ => from.below(1 << 16) / 32768.0,
    };
    (0..len).map(|_| one()).collect()
}
