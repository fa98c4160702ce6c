//! What encoders of deltas spend their time in: sums over a row of differences, and products of it
//! with vectors of columns.

/// Vectors that are taken together.
pub(crate) const RANK: usize = 8;

/// Fills in the product of `row` with each of [`RANK`] vectors of its length, one after the other.
#[inline(always)]
pub(crate) fn products(row: &[i16], vectors: &[i16], out: &mut [i32; RANK]) {
    for (product, vector) in out.iter_mut().zip(vectors.chunks_exact(row.len().max(1))) {
        let pairs = row.iter().zip(vector);
        *product = pairs.map(|(&a, &b)| i32::from(a) * i32::from(b)).sum();
    }
}

/// Adds to each of [`RANK`] sums of vectors two rows, times their parts in it. Sums must stay within 32 bits.
#[inline(always)]
pub(crate) fn add_rows(rows: [&[i16]; 2], parts: [&[i16; RANK]; 2], sums: &mut [i32]) {
    let len = rows[0].len().max(1);
    for (k, sums) in sums.chunks_exact_mut(len).enumerate().take(RANK) {
        let [first, second] = parts.map(|parts| i32::from(parts[k]));
        for (sum, (&a, &b)) in sums.iter_mut().zip(rows[0].iter().zip(rows[1])) {
            *sum += i32::from(a) * first + i32::from(b) * second;
        }
    }
}

/// Adds to `sums` a row's part in each of some directions times the columns', which are one after
/// the other. Sums must stay within 16 bits.
#[inline(always)]
pub(crate) fn incline(parts: &[i16], columns: &[i16], sums: &mut [i16]) {
    let len = sums.len().max(1);
    for (&part, columns) in parts.iter().zip(columns.chunks_exact(len)) {
        for (sum, &column) in sums.iter_mut().zip(columns) {
            *sum = sum.wrapping_add(part.wrapping_mul(column));
        }
    }
}

/// Steps of numbers further below the largest of a row do not count.
pub(crate) const STEPS_REACH: i32 = 20;

/// The sum of the differences of numbers with these exponents, in units of the step of a number
/// whose exponent is `least`. No exponent is more than [`STEPS_REACH`] above it.
#[inline(always)]
pub(crate) fn sum_updates(differences: &[i32], exponents: &[i32], least: i32) -> u64 {
    let scaled = |(&difference, &exponent): (&i32, &i32)| {
        let magnitude = u64::from(difference.unsigned_abs());
        let (up, down) = (exponent - least, least - exponent);
        magnitude << up.clamp(0, STEPS_REACH) >> down.clamp(0, 63)
    };
    differences.iter().zip(exponents).map(scaled).sum()
}

/// The largest entry, see [`relate_updates`].
pub(crate) const ENTRY_MAX: i32 = 8;

/// Fills in differences relative to the usual one, which for the exponent 0 is `2^(size / 2)`: it is
/// [`ENTRY_MAX`], which none exceeds.
#[allow(
    clippy::cast_possible_truncation,
    reason = "entries are small by the line itself"
)]
#[inline(always)]
pub(crate) fn relate_updates(
    differences: &[i32],
    exponents: &[i32],
    size: i32,
    entries: &mut [i16],
) {
    const LARGEST: i32 = 1 << 27;
    let pairs = differences.iter().zip(exponents);
    for (entry, (&difference, &exponent)) in entries.iter_mut().zip(pairs) {
        let octaves = ((size >> 1) - exponent).clamp(0, 31);
        let scaled = (difference.clamp(-LARGEST, LARGEST) * ENTRY_MAX) >> octaves;
        *entry = scaled.clamp(-ENTRY_MAX, ENTRY_MAX) as i16;
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kernels;
    use super::super::tests::others;
    use super::*;
    use crate::samples::Noise;

    #[test]
    fn products_and_sums_are_of_each_vector() {
        let mut out = [0; RANK];
        let vectors: Vec<i16> = (0..2 * 8).collect();
        products(&[3, -1], &vectors, &mut out);
        assert_eq!(out, [-1, 3, 7, 11, 15, 19, 23, 27]);
        let mut sums = [1; 2 * RANK];
        let parts: [i16; RANK] = std::array::from_fn(|k| i16::try_from(k).unwrap());
        add_rows([&[1, 2], &[10, -10]], [&parts, &[1; RANK]], &mut sums);
        assert_eq!(sums[..4], [11, -9, 12, -7]);
        let mut sums = [5, 6, 7];
        incline(&[2, -1], &[1, 2, 3, 10, 20, 30], &mut sums);
        assert_eq!(sums, [-3, -10, -17]);
    }

    #[test]
    fn updates_are_summed_and_related_by_their_steps() {
        let (differences, exponents) = ([3, -4, 100, 0], [20, 18, 0, 20]);
        assert_eq!(
            sum_updates(&differences, &exponents, 0),
            (3 << 20) + (4 << 18) + 100
        );
        let mut entries = [9; 4];
        relate_updates(&differences, &exponents, 2 * 22, &mut entries);
        assert_eq!(entries, [6, -2, 0, 0]);
        relate_updates(&[1, -1, i32::MIN, i32::MAX], &[0; 4], -7, &mut entries);
        assert_eq!(entries, [8, -8, -8, 8]);
    }

    #[test]
    fn all_engines_multiply_vectors_alike() {
        let noise = &mut Noise::new(2);
        for len in [1, 31, 64, 384, 1000] {
            let mut small =
                |n: usize| -> Vec<i16> { (0..n).map(|_| i16::from(noise.below(17)) - 8).collect() };
            let (row, other, vectors) = (small(len), small(len), small(RANK * len));
            let parts = small(2 * RANK);
            let parts = parts.as_chunks::<RANK>().0;
            let run = |kernels: &Kernels| {
                let (mut out, mut sums) = ([0; RANK], vec![9; RANK * len]);
                (kernels.products)(&row, &vectors, &mut out);
                (kernels.add_rows)([&row, &other], [&parts[0], &parts[1]], &mut sums);
                let mut inclined = other.clone();
                (kernels.incline)(&parts[0], &vectors, &mut inclined);
                let differences: Vec<i32> =
                    row.iter().map(|&x| i32::from(x) << (len % 27)).collect();
                let exponents: Vec<i32> = other.iter().map(|&x| i32::from(x) + 8).collect();
                let sum = (kernels.sum_updates)(&differences, &exponents, 3);
                let mut entries = vec![0; len];
                (kernels.relate_updates)(&differences, &exponents, 31, &mut entries);
                (out, sums, inclined, sum, entries)
            };
            let plain = run(&Kernels::PORTABLE);
            for kernels in others() {
                assert!(run(&kernels) == plain, "{len}");
            }
        }
    }
}
