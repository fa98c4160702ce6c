//! Binary logarithms in whole numbers, so that every machine takes the same decisions.

/// Fractional bits of a logarithm or cost.
pub(crate) const LOG_BITS: u32 = 10;
/// One bit of information, in units of a cost.
pub(crate) const ONE_BIT: u64 = 1 << LOG_BITS;

const TABLE_BITS: u32 = 11;
/// Logarithms of 1 + i / 2048.
static FRACTIONS: [u16; 1 << TABLE_BITS] = fractions();

/// log2 of `x` in units of 2^-10 bits, rounded down; 0 for 0.
pub(crate) fn log2(x: u64) -> u32 {
    if x == 0 {
        return 0;
    }
    let exponent = x.ilog2();
    let aligned = if exponent >= TABLE_BITS {
        x >> (exponent - TABLE_BITS)
    } else {
        x << (TABLE_BITS - exponent)
    };
    let fraction = (aligned & ((1 << TABLE_BITS) - 1)) as usize;
    (exponent << LOG_BITS) + u32::from(FRACTIONS[fraction])
}

/// Order-0 cost of symbols with these counts, in units of 2^-10 bits.
pub(crate) fn entropy(counts: &[u32]) -> u64 {
    let total: u64 = counts.iter().map(|&c| u64::from(c)).sum();
    let whole = u64::from(log2(total));
    counts
        .iter()
        .map(|&c| u64::from(c) * whole.saturating_sub(u64::from(log2(u64::from(c)))))
        .sum()
}

const fn fractions() -> [u16; 1 << TABLE_BITS] {
    let mut table = [0u16; 1 << TABLE_BITS];
    let mut i = 0;
    while i < table.len() {
        // Squaring a number of [1, 2) doubles its logarithm: each overflow is one more bit.
        let mut x = ((1u64 << TABLE_BITS) + i as u64) << (31 - TABLE_BITS);
        let mut bit = LOG_BITS;
        let mut fraction = 0u16;
        while bit > 0 {
            bit -= 1;
            x = (x * x) >> 31;
            if x >= 1 << 32 {
                x >>= 1;
                fraction |= 1 << bit;
            }
        }
        table[i] = fraction;
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_floating_point_to_a_thousandth_of_a_bit() {
        for x in (1..5000u64).chain([1 << 20, (1 << 33) - 1, u64::MAX]) {
            let exact = (x as f64).log2() * 1024.0;
            let ours = f64::from(log2(x));
            assert!((exact - ours).abs() <= 2.0, "{x}: {ours} against {exact}");
        }
        assert_eq!(log2(0), 0);
        assert_eq!(log2(1), 0);
        assert_eq!(log2(4096), 12 << LOG_BITS);
    }

    #[test]
    fn logarithms_never_fall() {
        for x in 1..100_000u64 {
            assert!(log2(x) <= log2(x + 1), "{x}");
        }
    }

    #[test]
    fn entropy_of_even_counts_is_the_number_of_bits() {
        assert_eq!(entropy(&[100; 8]), 800 * 3 * ONE_BIT);
        assert_eq!(entropy(&[0, 7, 0]), 0);
        assert_eq!(entropy(&[]), 0);
    }

    /// A table of one distribution for two kinds of content never beats one for each, but for
    /// rounding: what the search for classes stands on.
    #[test]
    fn entropy_of_parts_is_at_most_that_of_the_whole() {
        let noise = &mut crate::samples::Noise::new(3);
        for _ in 0..500 {
            let mut draw = || [0; 16].map(|_: u8| u32::from(noise.below(256)) * 17);
            let (a, b) = (draw(), draw());
            let both: Vec<u32> = a.iter().zip(b).map(|(a, b)| a + b).collect();
            let total: u64 = both.iter().map(|&n| u64::from(n)).sum();
            assert!(entropy(&a) + entropy(&b) <= entropy(&both) + 2 * total);
            assert!(entropy(&both) <= total * 4 * ONE_BIT);
            let mut turned = both.clone();
            turned.rotate_left(5);
            assert_eq!(
                entropy(&turned),
                entropy(&both),
                "the order is of no account"
            );
        }
    }

    #[test]
    fn the_largest_counts_do_not_overflow() {
        assert_eq!(entropy(&[u32::MAX; 2]) >> LOG_BITS, 2 * u64::from(u32::MAX));
        assert_eq!(log2(u64::MAX) >> LOG_BITS, 63);
    }
}
