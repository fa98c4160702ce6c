//! Classes of segments: a few distributions, so chosen that coding each segment with the best of
//! them costs least in all (Lloyd's method on histograms, in whole numbers).

use crate::entropy::{Alphabet, CLASSES_MAX, Levels, SYMBOLS_MAX, tables_cost};
use crate::kernel::Kernels;
use crate::log2::{LOG_BITS, entropy, log2};

/// Symbol counts of one segment.
pub(crate) type Histogram = [i16; SYMBOLS_MAX];
/// Most segments that the search for classes looks at.
const SAMPLE_MAX: usize = 1024;
/// Rounds over all segments after the search.
const FINAL_ROUNDS: usize = 2;
/// Longest segment: its counts must fit an `i16`.
pub(crate) const SEGMENT_LEN_MAX: usize = 1 << 14;
/// Cost of a symbol that a class has never seen, in bits: worse than any that it has.
const UNSEEN_BITS: i16 = 16;
/// Fractional bits of the costs in the inner loop, where they must fit an `i16`.
const COST_BITS: u32 = 8;
/// What the name of a class costs that there is not: more than any segment.
const NO_CLASS: i32 = 1 << 28;
/// The search goes on while the symbols gain so many times what tables and ids add.
const ENOUGH: u64 = 4;
/// What the ids of segments cost besides their entropy, in bits.
const IDS_OVERHEAD: u64 = 20 * 8;

/// The result: distributions, and the class of each segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Clusters {
    pub(crate) levels: Vec<Levels>,
    pub(crate) ids: Vec<u8>,
    /// Estimated bits of tables, ids and symbols, times 2^10.
    pub(crate) cost: u64,
    /// Of these, what tables and ids take.
    overhead: u64,
}

/// How long to search.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Most classes, a power of two up to 32.
    pub(crate) classes_max: usize,
    /// Rounds of assigning and averaging for each number of classes.
    pub(crate) rounds: usize,
}

/// The cheapest number of classes among 1, 2, 4, … and the classes themselves, found on a sample
/// of the segments where there are many.
pub(crate) fn cluster(
    segments: &[Histogram],
    alphabet: Alphabet,
    effort: Effort,
    kernels: &Kernels,
) -> Clusters {
    let step = segments.len().div_ceil(SAMPLE_MAX);
    if step <= 1 {
        return search(segments, 1, alphabet, effort, kernels);
    }
    let sample: Vec<Histogram> = segments.iter().step_by(step).copied().collect();
    let Clusters {
        mut levels,
        ids: found,
        ..
    } = search(&sample, step, alphabet, effort, kernels);
    let mut ids = vec![0; segments.len()];
    let mut sizes = sizes(&found, levels.len());
    for round in 0..FINAL_ROUNDS {
        if round > 0 {
            levels = average(segments, &ids, levels.len());
            sizes = self::sizes(&ids, levels.len());
        }
        (kernels.assign)(segments, &Prices::of(&levels, &sizes), &mut ids);
    }
    settle(segments, 1, ids, levels.len(), alphabet)
}

/// `weight`: how many segments one of these stands for.
fn search(
    segments: &[Histogram],
    weight: usize,
    alphabet: Alphabet,
    effort: Effort,
    kernels: &Kernels,
) -> Clusters {
    let order = by_mean(segments);
    let mut best = settle(segments, weight, vec![0; segments.len()], 1, alphabet);
    let mut n_classes = 2;
    while n_classes <= effort.classes_max && n_classes <= segments.len() / 2 {
        let mut ids = vec![0u8; segments.len()];
        for (rank, &segment) in order.iter().enumerate() {
            ids[segment] = u8::try_from(rank * n_classes / order.len()).unwrap_or(0);
        }
        for _ in 0..effort.rounds {
            let levels = average(segments, &ids, n_classes);
            let prices = Prices::of(&levels, &sizes(&ids, n_classes));
            (kernels.assign)(segments, &prices, &mut ids);
        }
        let found = settle(segments, weight, ids, n_classes, alphabet);
        if found.cost >= best.cost {
            break;
        }
        // Symbols gain about a third of it by the next doubling, which adds half as much again.
        let added = found.overhead.saturating_sub(best.overhead);
        let gained = best.cost - found.cost + added;
        best = found;
        if gained < ENOUGH * added {
            break;
        }
        n_classes *= 2;
    }
    best
}

/// What each symbol costs in each class, in bits times 2^8: by pairs of symbols, then by class,
/// which is the order in which vectors add them up. A class that there is not costs the most.
#[derive(Debug)]
pub(crate) struct Prices {
    pub(crate) pairs: [[[i16; 2]; CLASSES_MAX]; SYMBOLS_MAX / 2],
    /// What the name of each class costs.
    pub(crate) names: [i32; CLASSES_MAX],
    pub(crate) n_classes: usize,
}

impl Prices {
    /// The prices of these distributions, at most [`CLASSES_MAX`], where `sizes` are the segments
    /// that each has had; without sizes, names cost nothing.
    pub(crate) fn of(levels: &[Levels], sizes: &[u32]) -> Self {
        let mut pairs = [[[i16::MAX; 2]; CLASSES_MAX]; SYMBOLS_MAX / 2];
        for (class, levels) in levels.iter().enumerate().take(CLASSES_MAX) {
            let costs = costs(levels);
            for (prices, costs) in pairs.iter_mut().zip(costs.as_chunks().0) {
                prices[class] = *costs;
            }
        }
        let total = log2(sizes.iter().map(|&size| u64::from(size)).sum());
        let mut names = [NO_CLASS; CLASSES_MAX];
        names[..levels.len()].fill(0);
        for (name, &size) in names.iter_mut().zip(sizes) {
            let bits = total - log2(u64::from(size.max(1)));
            *name = i32::try_from(bits >> (LOG_BITS - COST_BITS)).unwrap_or(0);
        }
        Self {
            pairs,
            names,
            n_classes: levels.len(),
        }
    }
}

/// All segments in one class.
#[cfg(test)]
fn one_class(segments: &[Histogram], alphabet: Alphabet) -> Clusters {
    settle(segments, 1, vec![0; segments.len()], 1, alphabet)
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

/// How many segments each class has.
fn sizes(ids: &[u8], n_classes: usize) -> Vec<u32> {
    let mut sizes = vec![0u32; n_classes];
    for &id in ids {
        sizes[usize::from(id)] += 1;
    }
    sizes
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

/// Drops classes without segments, and counts what the rest costs.
fn settle(
    segments: &[Histogram],
    weight: usize,
    mut ids: Vec<u8>,
    n_classes: usize,
    alphabet: Alphabet,
) -> Clusters {
    let sizes = sizes(&ids, n_classes);
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
    let tables = u64::from(tables_cost(&levels, alphabet));
    let names = if used > 1 {
        IDS_OVERHEAD + weight as u64 * (entropy(&sizes) >> LOG_BITS)
    } else {
        0
    };
    let overhead = (tables + names) << LOG_BITS;
    Clusters {
        levels,
        ids,
        cost: weight as u64 * symbols + overhead,
        overhead,
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
        let found = cluster(&segments, Alphabet::ThirtyTwo, EFFORT, &Kernels::PORTABLE);
        assert_eq!(found.levels.len(), 2);
        for (i, &id) in found.ids.iter().enumerate() {
            assert_eq!(id, u8::from(i % 3 != 0));
        }
        assert!(found.cost < one_class(&segments, Alphabet::ThirtyTwo).cost);
    }

    #[test]
    fn equal_segments_share_one_class() {
        let found = cluster(
            &vec![bump(9); 100],
            Alphabet::Sixteen,
            EFFORT,
            &Kernels::PORTABLE,
        );
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
        let found = cluster(&segments, Alphabet::ThirtyTwo, EFFORT, &Kernels::PORTABLE);
        assert!(found.levels.len() > 4);
        for (histogram, &id) in segments.iter().zip(&found.ids) {
            for (count, level) in histogram.iter().zip(found.levels[usize::from(id)].0) {
                assert!(*count == 0 || level > 0);
            }
        }
    }

    #[test]
    fn nothing_to_cluster_is_one_empty_class() {
        let found = cluster(&[], Alphabet::Sixteen, EFFORT, &Kernels::PORTABLE);
        assert_eq!((found.levels.len(), found.ids.len()), (1, 0));
        let empty = cluster(&[[0; 32]; 5], Alphabet::Sixteen, EFFORT, &Kernels::PORTABLE);
        assert_eq!(empty.levels, [Levels::default()]);
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

    #[test]
    fn more_effort_never_costs_more() {
        let segments = varied(300);
        let mut last = one_class(&segments, Alphabet::ThirtyTwo).cost;
        for classes_max in [1, 2, 4, 8, 16, 32] {
            let effort = Effort {
                classes_max,
                rounds: 3,
            };
            let found = cluster(&segments, Alphabet::ThirtyTwo, effort, &Kernels::PORTABLE);
            assert!(found.levels.len() <= classes_max && found.cost <= last);
            assert!(
                found
                    .ids
                    .iter()
                    .all(|&id| usize::from(id) < found.levels.len())
            );
            assert_eq!(
                found,
                cluster(&segments, Alphabet::ThirtyTwo, effort, &Kernels::PORTABLE),
                "every time"
            );
            last = found.cost;
        }
    }

    /// Every class that is stored is used: an empty one would cost its table for nothing.
    #[test]
    fn no_class_is_without_segments() {
        for n in [4, 5, 31, 64, 300] {
            let found = cluster(&varied(n), Alphabet::ThirtyTwo, EFFORT, &Kernels::PORTABLE);
            for class in 0..found.levels.len() {
                let class = u8::try_from(class).unwrap();
                assert!(found.ids.contains(&class), "{class} of {n}");
            }
        }
    }
}
