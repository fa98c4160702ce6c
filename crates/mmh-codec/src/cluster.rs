//! Classes of segments: a few distributions, so chosen that coding each segment with the best of
//! them costs least in all (Lloyd's method on histograms, in whole numbers).

use crate::entropy::{Alphabet, Levels, SYMBOLS_MAX, put_tables};
use crate::log2::{LOG_BITS, entropy, log2};

/// Symbol counts of one segment.
pub(crate) type Histogram = [i16; SYMBOLS_MAX];
/// Longest segment: its counts must fit an `i16`.
pub(crate) const SEGMENT_LEN_MAX: usize = 1 << 14;
/// Cost of a symbol that a class has never seen, in bits: worse than any that it has.
const UNSEEN_BITS: i16 = 16;
/// Fractional bits of the costs in the inner loop, where they must fit an `i16`.
const COST_BITS: u32 = 8;
/// What the ids of segments cost besides their entropy, in bits.
const IDS_OVERHEAD: u64 = 20 * 8;

/// The result: distributions, and the class of each segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Clusters {
    pub(crate) levels: Vec<Levels>,
    pub(crate) ids: Vec<u8>,
    /// Estimated bits of tables, ids and symbols, times 2^10.
    pub(crate) cost: u64,
}

/// How long to search.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Most classes, a power of two up to 32.
    pub(crate) classes_max: usize,
    /// Rounds of assigning and averaging for each number of classes.
    pub(crate) rounds: usize,
}

/// The cheapest number of classes among 1, 2, 4, … and the classes themselves.
pub(crate) fn cluster(segments: &[Histogram], alphabet: Alphabet, effort: Effort) -> Clusters {
    let order = by_mean(segments);
    let mut best = one_class(segments, alphabet);
    let mut n_classes = 2;
    while n_classes <= effort.classes_max && n_classes <= segments.len() / 2 {
        let mut ids = vec![0u8; segments.len()];
        for (rank, &segment) in order.iter().enumerate() {
            ids[segment] = u8::try_from(rank * n_classes / order.len()).unwrap_or(0);
        }
        for _ in 0..effort.rounds {
            let levels = average(segments, &ids, n_classes);
            assign(segments, &levels, &mut ids);
        }
        let found = settle(segments, ids, n_classes, alphabet);
        if found.cost >= best.cost {
            break;
        }
        best = found;
        n_classes *= 2;
    }
    best
}

/// All segments in one class.
pub(crate) fn one_class(segments: &[Histogram], alphabet: Alphabet) -> Clusters {
    settle(segments, vec![0; segments.len()], 1, alphabet)
}

/// Indices of the segments, ascending by the mean of their symbols.
fn by_mean(segments: &[Histogram]) -> Vec<usize> {
    let mut keyed: Vec<(u32, usize)> = segments
        .iter()
        .enumerate()
        .map(|(index, histogram)| {
            let (mut sum, mut n) = (0u32, 0u32);
            for (symbol, &count) in (0u32..).zip(histogram) {
                sum += symbol * u32::from(count.unsigned_abs());
                n += u32::from(count.unsigned_abs());
            }
            ((sum << LOG_BITS.min(8)) / n.max(1), index)
        })
        .collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, index)| index).collect()
}

fn sums(segments: &[Histogram], ids: &[u8], n_classes: usize) -> Vec<[u32; SYMBOLS_MAX]> {
    let mut sums = vec![[0u32; SYMBOLS_MAX]; n_classes];
    for (histogram, &id) in segments.iter().zip(ids) {
        for (sum, &count) in sums[usize::from(id)].iter_mut().zip(histogram) {
            *sum += u32::from(count.unsigned_abs());
        }
    }
    sums
}

fn average(segments: &[Histogram], ids: &[u8], n_classes: usize) -> Vec<Levels> {
    sums(segments, ids, n_classes)
        .iter()
        .map(Levels::from_counts)
        .collect()
}

/// Cost of each symbol of a class in bits times 2^8.
fn costs(levels: &Levels) -> Histogram {
    let unseen = UNSEEN_BITS << COST_BITS;
    if levels.is_empty() {
        return [unseen; SYMBOLS_MAX];
    }
    let freqs = levels.frequencies();
    std::array::from_fn(|symbol| {
        if levels.0[symbol] == 0 {
            return unseen;
        }
        let bits = (12 << LOG_BITS) - log2(u64::from(freqs[symbol]));
        i16::try_from(bits >> (LOG_BITS - COST_BITS)).unwrap_or(unseen)
    })
}

fn assign(segments: &[Histogram], levels: &[Levels], ids: &mut [u8]) {
    let costs: Vec<Histogram> = levels.iter().map(costs).collect();
    for (histogram, id) in segments.iter().zip(ids) {
        let mut best = i32::MAX;
        for (class, costs) in (0u8..).zip(&costs) {
            let cost = dot(histogram, costs);
            if cost < best {
                (best, *id) = (cost, class);
            }
        }
    }
}

/// At most 2^14 symbols of at most 2^12 each: the sum stays below 2^31.
#[inline]
fn dot(a: &Histogram, b: &Histogram) -> i32 {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| i32::from(a) * i32::from(b))
        .sum()
}

/// Drops classes without segments, and counts what the rest costs.
fn settle(
    segments: &[Histogram],
    mut ids: Vec<u8>,
    n_classes: usize,
    alphabet: Alphabet,
) -> Clusters {
    let mut sizes = vec![0u32; n_classes];
    for &id in &ids {
        sizes[usize::from(id)] += 1;
    }
    let mut renamed = vec![0u8; n_classes];
    let mut used = 0u8;
    for (name, &size) in renamed.iter_mut().zip(&sizes) {
        *name = used;
        used += u8::from(size > 0);
    }
    ids.iter_mut()
        .for_each(|id| *id = renamed[usize::from(*id)]);
    let counts = sums(segments, &ids, usize::from(used.max(1)));
    let levels: Vec<Levels> = counts.iter().map(Levels::from_counts).collect();
    let symbols: u64 = counts
        .iter()
        .zip(&levels)
        .map(|(counts, levels)| cost(counts, levels))
        .sum();
    let tables = 8 * put_tables(&levels, alphabet).len() as u64;
    let names = if used > 1 {
        IDS_OVERHEAD + (entropy(&sizes) >> LOG_BITS)
    } else {
        0
    };
    Clusters {
        levels,
        ids,
        cost: symbols + ((tables + names) << LOG_BITS),
    }
}

/// Cost of coding symbols with these counts, in bits times 2^10.
pub(crate) fn cost(counts: &[u32; SYMBOLS_MAX], levels: &Levels) -> u64 {
    let freqs = levels.frequencies();
    let bits = |freq: u16| u64::from((12 << LOG_BITS) - log2(u64::from(freq)));
    counts
        .iter()
        .zip(freqs)
        .map(|(&count, freq)| u64::from(count) * bits(freq))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EFFORT: Effort = Effort {
        classes_max: 32,
        rounds: 4,
    };

    fn bump(at: usize) -> Histogram {
        std::array::from_fn(|i| {
            [3000, 1500, 300, 20]
                .get(i.abs_diff(at))
                .copied()
                .unwrap_or(0)
        })
    }

    #[test]
    fn segments_of_two_kinds_fall_into_two_classes() {
        let segments: Vec<Histogram> = (0..64)
            .map(|i| bump(if i % 3 == 0 { 5 } else { 24 }))
            .collect();
        let found = cluster(&segments, Alphabet::ThirtyTwo, EFFORT);
        assert_eq!(found.levels.len(), 2);
        for (i, &id) in found.ids.iter().enumerate() {
            assert_eq!(id, u8::from(i % 3 != 0));
        }
        assert!(found.cost < one_class(&segments, Alphabet::ThirtyTwo).cost);
    }

    #[test]
    fn equal_segments_share_one_class() {
        let found = cluster(&vec![bump(9); 100], Alphabet::Sixteen, EFFORT);
        assert_eq!((found.levels.len(), found.ids), (1, vec![0; 100]));
    }

    /// A class without a symbol could not code it: each class must know all its segments' symbols.
    #[test]
    fn every_symbol_of_a_segment_has_a_level_in_its_class() {
        let segments: Vec<Histogram> = (0..200usize)
            .map(|i| {
                let mut histogram = bump(i * 7 % 32);
                histogram[i % 32] += 1;
                histogram
            })
            .collect();
        let found = cluster(&segments, Alphabet::ThirtyTwo, EFFORT);
        assert!(found.levels.len() > 4);
        for (histogram, &id) in segments.iter().zip(&found.ids) {
            for (count, level) in histogram.iter().zip(found.levels[usize::from(id)].0) {
                assert!(*count == 0 || level > 0);
            }
        }
    }

    #[test]
    fn nothing_to_cluster_is_one_empty_class() {
        let found = cluster(&[], Alphabet::Sixteen, EFFORT);
        assert_eq!((found.levels.len(), found.ids.len()), (1, 0));
        let empty = cluster(&[[0; 32]; 5], Alphabet::Sixteen, EFFORT);
        assert_eq!(empty.levels, [Levels::default()]);
    }

    #[test]
    fn the_longest_segment_does_not_overflow() {
        let mut histogram = [0; 32];
        histogram[0] = i16::try_from(SEGMENT_LEN_MAX).unwrap();
        let unseen = costs(&Levels::default());
        assert_eq!(dot(&histogram, &unseen), (1 << 14) * (16 << 8));
    }

    /// Histograms of two bells each, all different.
    fn varied(n: usize) -> Vec<Histogram> {
        let noise = &mut crate::samples::Noise::new(12);
        (0..n)
            .map(|_| {
                let (a, b) = (noise.below(32), noise.below(32));
                let mut histogram = bump(usize::from(a));
                histogram[usize::from(b)] += i16::from(noise.below(200));
                histogram
            })
            .collect()
    }

    /// The inner loop is written for vectors; this is the same by the definition.
    #[test]
    fn each_segment_goes_to_the_first_of_its_cheapest_classes() {
        let segments = varied(150);
        let levels: Vec<Levels> = segments[..9]
            .iter()
            .chain(&segments[..2])
            .map(|histogram| Levels::from_counts(&histogram.map(|n| u32::try_from(n).unwrap())))
            .chain([Levels::default()])
            .collect();
        let mut ids = vec![77; segments.len()];
        assign(&segments, &levels, &mut ids);
        for (histogram, &id) in segments.iter().zip(&ids) {
            let price = |class: usize| -> i64 {
                let costs = costs(&levels[class]);
                let each = histogram.iter().zip(costs);
                each.map(|(&n, cost)| i64::from(n) * i64::from(cost)).sum()
            };
            let cheapest = (0..levels.len()).min_by_key(|&class| price(class));
            assert_eq!(cheapest, Some(usize::from(id)));
        }
    }

    #[test]
    fn more_effort_never_costs_more() {
        let segments = varied(300);
        let mut last = one_class(&segments, Alphabet::ThirtyTwo).cost;
        for classes_max in [1, 2, 4, 8, 16, 32] {
            let effort = Effort {
                classes_max,
                rounds: 3,
            };
            let found = cluster(&segments, Alphabet::ThirtyTwo, effort);
            assert!(found.levels.len() <= classes_max && found.cost <= last);
            assert!(
                found
                    .ids
                    .iter()
                    .all(|&id| usize::from(id) < found.levels.len())
            );
            assert_eq!(
                found,
                cluster(&segments, Alphabet::ThirtyTwo, effort),
                "every time"
            );
            last = found.cost;
        }
    }

    /// Every class that is stored is used: an empty one would cost its table for nothing.
    #[test]
    fn no_class_is_without_segments() {
        for n in [4, 5, 31, 64, 300] {
            let found = cluster(&varied(n), Alphabet::ThirtyTwo, EFFORT);
            for class in 0..found.levels.len() {
                let class = u8::try_from(class).unwrap();
                assert!(found.ids.contains(&class), "{class} of {n}");
            }
        }
    }
}
