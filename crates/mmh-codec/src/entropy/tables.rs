//! The stored form of a set of distributions: levels as Rice-coded differences.

use super::{Alphabet, LEVEL_MAX, Levels};
use crate::bits::{BitReader, BitWriter};
use crate::error::{Result, corrupt};

/// The widest parameter of a Rice code.
const RICE_MAX: u32 = 7;
/// Most that a zigzag difference of two levels can be.
const DIFFERENCE_MAX: u32 = 2 * LEVEL_MAX as u32;

/// How a level is predicted from those before it.
#[derive(Clone, Copy, PartialEq)]
enum Predictor {
    /// The last level.
    Last,
    /// The last but one: symbols come in pairs of one exponent.
    LastButOne,
}

impl Predictor {
    fn predict(self, before: [u8; 2]) -> u8 {
        match self {
            Self::Last => before[1],
            Self::LastButOne => before[0],
        }
    }
}

/// Writes the tables one after the other; FORMAT.md, "Tables".
pub(crate) fn put_tables(tables: &[Levels], alphabet: Alphabet) -> Vec<u8> {
    let mut bits = BitWriter::default();
    for table in tables {
        put_table(table, alphabet, &mut bits);
    }
    bits.finish()
}

/// Bits of the tables.
pub(crate) fn tables_cost(tables: &[Levels], alphabet: Alphabet) -> u32 {
    tables
        .iter()
        .map(|table| Plan::of(table, alphabet).map_or(1, |plan| plan.cost))
        .sum()
}

/// How a table is written.
struct Plan<'a> {
    first: usize,
    /// The levels from the first to the last symbol.
    used: &'a [u8],
    gaps: bool,
    predictor: Predictor,
    rice: u32,
    /// Bits in all.
    cost: u32,
}

impl<'a> Plan<'a> {
    /// None for a table without symbols.
    fn of(table: &'a Levels, alphabet: Alphabet) -> Option<Self> {
        let levels = &table.0[..alphabet.size()];
        let first = levels.iter().position(|&level| level > 0)?;
        let last = levels.iter().rposition(|&level| level > 0)?;
        let used = &levels[first..=last];
        let gaps = used.contains(&0);
        let mut best = (u32::MAX, Predictor::Last, 0);
        for predictor in [Predictor::Last, Predictor::LastButOne] {
            let costs = rice_costs(used, predictor);
            for (rice, cost) in (0..).zip(costs) {
                if cost < best.0 {
                    best = (cost, predictor, rice);
                }
            }
        }
        let (cost, predictor, rice) = best;
        let head = 1 + 2 * position_bits(alphabet) + 1 + 1 + 3 + 7;
        let flags = if gaps { small(used.len()) - 1 } else { 0 };
        Some(Self {
            first,
            used,
            gaps,
            predictor,
            rice,
            cost: head + flags + cost,
        })
    }
}

fn put_table(table: &Levels, alphabet: Alphabet, bits: &mut BitWriter) {
    let Some(plan) = Plan::of(table, alphabet) else {
        return bits.put(0, 1);
    };
    let (used, predictor) = (plan.used, plan.predictor);
    bits.put(1, 1);
    bits.put(small(plan.first), position_bits(alphabet));
    bits.put(small(plan.first + used.len() - 1), position_bits(alphabet));
    bits.put(u32::from(plan.gaps), 1);
    bits.put(u32::from(predictor == Predictor::LastButOne), 1);
    bits.put(plan.rice, 3);
    bits.put(u32::from(used[0]), 7);
    let mut before = [used[0]; 2];
    for &level in &used[1..] {
        if plan.gaps {
            bits.put(u32::from(level > 0), 1);
        }
        if level > 0 {
            bits.put_rice(zigzag(level, predictor.predict(before)), plan.rice);
            before = [before[1], level];
        }
    }
}

/// Reads `n` tables, which must fill `bytes`.
pub(crate) fn read_tables(bytes: &[u8], n: usize, alphabet: Alphabet) -> Result<Vec<Levels>> {
    let mut bits = BitReader::new(bytes);
    let mut tables = Vec::new();
    for _ in 0..n {
        tables.push(read_table(&mut bits, alphabet)?);
    }
    bits.expect_end()?;
    Ok(tables)
}

fn read_table(bits: &mut BitReader<'_>, alphabet: Alphabet) -> Result<Levels> {
    let mut table = Levels::default();
    if bits.take(1)? == 0 {
        return Ok(table);
    }
    let first = bits.take(position_bits(alphabet))? as usize;
    let last = bits.take(position_bits(alphabet))? as usize;
    if first > last {
        return corrupt("a table has its first symbol after its last");
    }
    let gaps = bits.take(1)? == 1;
    let predictor = if bits.take(1)? == 0 {
        Predictor::Last
    } else {
        Predictor::LastButOne
    };
    let rice = bits.take(3)?;
    let level = checked(i32::try_from(bits.take(7)?).unwrap_or(-1))?;
    table.0[first] = level;
    let mut before = [level; 2];
    for symbol in first + 1..=last {
        if gaps && bits.take(1)? == 0 {
            continue;
        }
        let difference = unzigzag(bits.take_rice(rice, DIFFERENCE_MAX)?);
        let level = checked(i32::from(predictor.predict(before)) + difference)?;
        table.0[symbol] = level;
        before = [before[1], level];
    }
    Ok(table)
}

fn checked(level: i32) -> Result<u8> {
    match u8::try_from(level) {
        Ok(level @ 1..=LEVEL_MAX) => Ok(level),
        _ => corrupt("a level is out of range"),
    }
}

fn position_bits(alphabet: Alphabet) -> u32 {
    alphabet.size().ilog2()
}

fn small(symbol: usize) -> u32 {
    u32::try_from(symbol).expect("there are at most 32 symbols")
}

fn zigzag(level: u8, predicted: u8) -> u32 {
    let difference = i32::from(level) - i32::from(predicted);
    (difference.unsigned_abs() << 1) - u32::from(difference < 0)
}

fn unzigzag(code: u32) -> i32 {
    let half = i32::try_from(code.div_ceil(2)).unwrap_or(i32::MAX);
    if code.is_multiple_of(2) { half } else { -half }
}

/// Bits of the differences with this predictor, for each Rice parameter.
fn rice_costs(used: &[u8], predictor: Predictor) -> [u32; RICE_MAX as usize + 1] {
    let mut before = [used[0]; 2];
    let mut costs = [0; RICE_MAX as usize + 1];
    for &level in used[1..].iter().filter(|&&level| level > 0) {
        let code = zigzag(level, predictor.predict(before));
        for (rice, cost) in (0..).zip(&mut costs) {
            *cost += (code >> rice) + 1 + rice;
        }
        before = [before[1], level];
    }
    costs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entropy::SYMBOLS_MAX;

    fn bell(centre: i32) -> Levels {
        Levels(std::array::from_fn(|i| {
            let distance = i32::try_from(i).unwrap() - centre;
            u8::try_from((80 - distance * distance / 2).max(0)).unwrap()
        }))
    }

    #[test]
    fn smooth_tables_take_few_bytes() {
        let tables: Vec<Levels> = (8..24).map(bell).collect();
        let bytes = put_tables(&tables, Alphabet::ThirtyTwo);
        assert_eq!(
            read_tables(&bytes, 16, Alphabet::ThirtyTwo).unwrap(),
            tables
        );
        assert!(bytes.len() <= 16 * 24, "{}", bytes.len());
    }

    #[test]
    fn an_empty_table_is_one_bit() {
        let tables = [Levels::default(); 8];
        let bytes = put_tables(&tables, Alphabet::Sixteen);
        assert_eq!(bytes, [0]);
        assert_eq!(read_tables(&bytes, 8, Alphabet::Sixteen).unwrap(), tables);
    }

    #[test]
    fn every_difference_has_a_zigzag_code() {
        for predicted in 1..=LEVEL_MAX {
            for level in 1..=LEVEL_MAX {
                let code = zigzag(level, predicted);
                assert!(code <= DIFFERENCE_MAX);
                assert_eq!(i32::from(predicted) + unzigzag(code), i32::from(level));
            }
        }
    }

    #[test]
    fn truncated_and_flipped_tables_never_panic() {
        let bytes = put_tables(&[bell(9), bell(20), Levels::default()], Alphabet::ThirtyTwo);
        for cut in 0..bytes.len() {
            assert!(read_tables(&bytes[..cut], 3, Alphabet::ThirtyTwo).is_err());
        }
        for bit in 0..8 * bytes.len() {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            if let Ok(tables) = read_tables(&bad, 3, Alphabet::ThirtyTwo) {
                assert!(
                    tables
                        .iter()
                        .flat_map(|t| t.0)
                        .all(|level| level <= LEVEL_MAX)
                );
            }
        }
    }

    proptest! {
        #[test]
        fn any_tables_come_back(
            values in prop::collection::vec(prop::array::uniform32(0..=LEVEL_MAX), 0..5),
            gap in 0u8..98,
        ) {
            let mut tables: Vec<Levels> = values.into_iter().map(Levels).collect();
            for table in &mut tables {
                table.0.iter_mut().for_each(|level| *level = level.saturating_sub(gap));
            }
            let bytes = put_tables(&tables, Alphabet::ThirtyTwo);
            prop_assert_eq!(tables_cost(&tables, Alphabet::ThirtyTwo).div_ceil(8) as usize, bytes.len());
            prop_assert_eq!(&read_tables(&bytes, tables.len(), Alphabet::ThirtyTwo).unwrap(), &tables);
            for table in &mut tables {
                table.0[16..SYMBOLS_MAX].fill(0);
            }
            let bytes = put_tables(&tables, Alphabet::Sixteen);
            prop_assert_eq!(&read_tables(&bytes, tables.len(), Alphabet::Sixteen).unwrap(), &tables);
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), n in 0usize..33) {
            drop(read_tables(&bytes, n, Alphabet::ThirtyTwo));
            drop(read_tables(&bytes, n, Alphabet::Sixteen));
        }
    }
}
