//! Blocks against figures worked out by hand, and properties of all blocks.

use proptest::prelude::*;

use super::*;
use crate::cluster::cost;
use crate::entropy::{Alphabet, CLASSES_MAX, Levels, SYMBOLS_MAX};
use crate::log2::ONE_BIT;

fn encode(levels: &[Levels], classes: Classes<'_>, symbols: &[u8]) -> Vec<u8> {
    let set = EncodeSet::new(levels, Alphabet::ThirtyTwo);
    let mut out = Vec::new();
    Reference.encode(&set, classes, symbols, &mut out).unwrap();
    out
}

fn states(block: &[u8]) -> [u32; LANES] {
    take_states(block).unwrap().0
}

fn words(block: &[u8]) -> &[u8] {
    take_states(block).unwrap().1
}

/// In alphabet 16 the distribution without levels gives slot 256 to symbol 1 and all others to
/// symbol 0. So 0 leads from 2^16 to 16 * 4096 + 16, and 1 to 2^16 * 4096 + 256; a second 1 first
/// moves the low word out: (2^28 + 256) / 2^16 * 4096 + 256.
#[test]
fn a_block_worked_out_by_hand() {
    let mut symbols = [0; 65];
    (symbols[0], symbols[64]) = (1, 1);
    let set = EncodeSet::new(&[Levels::default()], Alphabet::Sixteen);
    let mut block = b"before".to_vec();
    let classes = Classes::Groups(&[0, 0]);
    Reference
        .encode(&set, classes, &symbols, &mut block)
        .unwrap();
    let block = block.strip_prefix(b"before").unwrap();
    let mut expected = [0x0001_0010; LANES];
    expected[0] = 0x0100_0100;
    assert_eq!(states(block), expected);
    assert_eq!(words(block), [0x00, 0x01]);
}

#[test]
fn no_symbols_are_the_first_states_alone() {
    let block = encode(&[], Classes::Groups(&[]), &[]);
    assert_eq!(
        block,
        [0; LANES / 2 + 2 * LANES],
        "places, and the bits below"
    );
}

/// The order that lets four vectors of 16 states write 64 symbols by shifts alone.
#[test]
fn the_symbol_at_4i_plus_j_belongs_to_state_16j_plus_i() {
    for at in 0..LANES {
        let mut symbols = [0; LANES];
        symbols[at] = 1;
        let states = states(&encode(
            &[Levels::default()],
            Classes::Groups(&[0]),
            &symbols,
        ));
        let other = states
            .iter()
            .position(|&state| state > 0x0100_0000)
            .unwrap();
        assert_eq!(other, 16 * (at % 4) + at / 4, "symbol {at}");
        assert_eq!(index_in_group(other), at);
    }
}

/// What is missing in a group that is not whole leaves its states as they began.
#[test]
fn a_short_group_leaves_the_other_states_alone() {
    for n in 1..LANES {
        let block = encode(&[Levels::default()], Classes::Groups(&[0]), &vec![0; n]);
        for (k, state) in states(&block).into_iter().enumerate() {
            assert_eq!(state == STATE_MIN, index_in_group(k) >= n, "{k} of {n}");
        }
    }
}

/// An engine is not asked to guess: a caller's mistake must not write a block that cannot be read.
#[test]
fn what_cannot_be_coded_writes_nothing() {
    let set = EncodeSet::new(&[Levels::default()], Alphabet::Sixteen);
    let cases: [(Classes<'_>, &[u8]); 5] = [
        (Classes::Groups(&[0]), &[2]),
        (Classes::Groups(&[0]), &[16]),
        (Classes::Groups(&[0]), &[0; 65]),
        (Classes::Groups(&[1]), &[0]),
        (Classes::Symbols(&[0, 0]), &[0, 0, 0]),
    ];
    for (classes, symbols) in cases {
        let mut out = vec![9];
        let done = Reference.encode(&set, classes, symbols, &mut out);
        assert!(
            matches!(done, Err(Error::Unencodable { .. })),
            "{classes:?}"
        );
        assert_eq!(out, [9], "{classes:?}");
    }
}

/// Some distributions, the class of each group, and symbols that all have a level there.
fn cases() -> impl Strategy<Value = (Vec<Levels>, Vec<u8>, Vec<u8>)> {
    let levels = prop::array::uniform32(prop_oneof![Just(0u8), 1..=97u8]);
    (
        prop::collection::vec(levels, 1..CLASSES_MAX),
        prop::collection::vec((any::<u8>(), any::<u8>()), 0..400),
    )
        .prop_map(|(values, draws)| {
            let levels: Vec<Levels> = values.into_iter().map(Levels).collect();
            let groups: Vec<u8> = draws
                .chunks(LANES)
                .map(|group| group[0].0 % u8::try_from(levels.len()).unwrap())
                .collect();
            let symbols = draws.iter().enumerate().map(|(i, &(_, draw))| {
                let freqs = levels[usize::from(groups[i / LANES])].frequencies();
                let coded: Vec<u8> = (0..32u8).filter(|&s| freqs[usize::from(s)] > 0).collect();
                coded[usize::from(draw) % coded.len()]
            });
            let symbols = symbols.collect();
            (levels, groups, symbols)
        })
}

proptest! {
    /// Symbols of any frequency in any order, whichever way their classes are named.
    #[test]
    fn any_symbols_with_frequencies_come_back((levels, groups, symbols) in cases()) {
        let each: Vec<u8> = (0..symbols.len()).map(|i| groups[i / LANES]).collect();
        let block = encode(&levels, Classes::Groups(&groups), &symbols);
        prop_assert_eq!(&block, &encode(&levels, Classes::Symbols(&each), &symbols));
        let set = DecodeSet::new(&levels, Alphabet::ThirtyTwo);
        for classes in [Classes::Groups(&groups), Classes::Symbols(&each)] {
            let mut back = vec![0xee; symbols.len()];
            Reference.decode(&set, classes, &block, &mut back).unwrap();
            prop_assert_eq!(&back, &symbols);
        }
    }

    /// The choice of coders goes by costs, so the words must be as many as the costs say; what
    /// they lack at most is in the states.
    #[test]
    fn a_block_is_as_long_as_its_cost((levels, groups, symbols) in cases()) {
        let mut bits = 0;
        for (group, &class) in symbols.chunks(LANES).zip(&groups) {
            let mut counts = [0u32; SYMBOLS_MAX];
            group.iter().for_each(|&symbol| counts[usize::from(symbol)] += 1);
            bits += cost(&counts, &levels[usize::from(class)]);
        }
        let bits = bits / ONE_BIT;
        let block = encode(&levels, Classes::Groups(&groups), &symbols);
        let words = 8 * words(&block).len() as u64;
        let in_states = 16 * LANES as u64;
        prop_assert!(words <= bits + bits / 100 + 8, "{} bits in words cost {}", words, bits);
        prop_assert!(bits <= words + in_states + bits / 100 + 8, "{} for {}", words, bits);
    }
}
