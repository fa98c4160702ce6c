//! The exam of an entropy engine: it must give the bytes of [`Reference`], and withstand any.
//!
//! Call [`examine`] from a test of the engine.

use crate::entropy::{
    Alphabet, Classes, DecodeSet, EachBlock, EncodeSet, Engine, LANES, LEVEL_MAX, Levels,
    Reference, STATES_LEN, SYMBOLS_MAX,
};
use crate::error::Result;
use crate::samples::Noise;

/// One thing to code: distributions, the class of each symbol, the symbols.
struct Case {
    levels: Vec<Levels>,
    alphabet: Alphabet,
    groups: Vec<u8>,
    each: Vec<u8>,
    symbols: Vec<u8>,
}

/// Runs the whole exam.
///
/// # Panics
/// When the engine fails it.
pub fn examine(engine: &dyn Engine) {
    for alphabet in [Alphabet::Sixteen, Alphabet::ThirtyTwo] {
        for n in (0..=3 * LANES).chain([1000, 4096, 10_007]) {
            let case = Case::new(n as u64, n, alphabet, 5);
            gives_the_bytes_of_the_reference(engine, &case);
        }
        for n_classes in [1, 2, 31, 32] {
            let case = Case::new(7, 20_000, alphabet, n_classes);
            gives_the_bytes_of_the_reference(engine, &case);
        }
        extremes_come_back(engine, alphabet);
        every_symbol_comes_back_in_every_place(engine, alphabet);
        every_ratio_of_two_symbols_comes_back(engine, alphabet);
        any_distributions_come_back(engine, alphabet);
        states_of_all_octaves_are_taken(engine, alphabet);
        places_in_memory_do_not_matter(engine, &Case::new(9, 1111, alphabet, 4));
        more_classes_than_symbols_do_not_matter(engine, &Case::new(10, 777, alphabet, 9));
        blocks_of_other_tables_are_read_alike(engine, alphabet);
        no_class_is_needed_for_no_symbol(engine, alphabet);
        long_blocks_may_be_cut_anywhere(engine, &Case::new(8, 3000, alphabet, 3));
        damage_is_noticed_or_harmless(engine, &Case::new(3, 150, alphabet, 3));
        two_blocks_end_as_each_does(engine, &Case::new(11, 1500, alphabet, 20));
        noise_is_harmless(engine, alphabet);
        unknown_classes_are_refused(engine, &Case::new(4, 130, alphabet, 2));
    }
}

impl Case {
    /// These symbols, in classes drawn from all that there are.
    fn of(levels: Vec<Levels>, alphabet: Alphabet, symbols: Vec<u8>, noise: &mut Noise) -> Self {
        let n = symbols.len();
        let draw = |_| noise.below(levels.len());
        let classes: Vec<u8> = (0..n.div_ceil(LANES) + n).map(draw).collect();
        let (groups, each) = classes.split_at(n.div_ceil(LANES));
        Self {
            groups: groups.to_vec(),
            each: each.to_vec(),
            levels,
            alphabet,
            symbols,
        }
    }

    /// Symbols drawn roughly as their distributions say.
    fn new(rng_seed: u64, n: usize, alphabet: Alphabet, n_classes: usize) -> Self {
        let noise = &mut Noise::new(rng_seed);
        let mut counts = vec![[0u32; SYMBOLS_MAX]; n_classes];
        let groups: Vec<u8> = (0..n.div_ceil(LANES))
            .map(|_| noise.below(n_classes))
            .collect();
        let each: Vec<u8> = (0..n).map(|_| noise.below(n_classes)).collect();
        let mut symbols = Vec::new();
        for i in 0..n {
            let class = usize::from(groups[i / LANES]);
            let reach = 1 + (alphabet.size() - 1) * (class + 1) / n_classes;
            let symbol = noise.below(reach).min(noise.below(reach));
            for class in [groups[i / LANES], each[i]] {
                counts[usize::from(class)][usize::from(symbol)] += 1;
            }
            symbols.push(symbol);
        }
        let levels = counts.iter().map(Levels::from_counts).collect();
        Self {
            levels,
            alphabet,
            groups,
            each,
            symbols,
        }
    }

    fn classes(&self) -> [Classes<'_>; 2] {
        [Classes::Groups(&self.groups), Classes::Symbols(&self.each)]
    }

    fn encode(&self, engine: &dyn Engine, classes: Classes<'_>) -> Vec<u8> {
        let set = EncodeSet::new(&self.levels, self.alphabet);
        let mut block = vec![0xaa];
        let done = engine.encode(&set, classes, &self.symbols, &mut block);
        assert_eq!(done, Ok(()), "{} cannot encode", engine.name());
        assert_eq!(block.remove(0), 0xaa, "{} does not append", engine.name());
        block
    }
}

fn gives_the_bytes_of_the_reference(engine: &dyn Engine, case: &Case) {
    let set = DecodeSet::new(&case.levels, case.alphabet);
    for classes in case.classes() {
        let block = case.encode(engine, classes);
        assert!(
            block == case.encode(&Reference, classes),
            "{} differs",
            engine.name()
        );
        let mut back = vec![0xee; case.symbols.len()];
        let done = engine.decode(&set, classes, &block, &mut back);
        assert_eq!(done, Ok(()), "{} cannot decode", engine.name());
        assert!(
            back == case.symbols,
            "{} decodes other symbols",
            engine.name()
        );
    }
}

fn every_symbol_comes_back_in_every_place(engine: &dyn Engine, alphabet: Alphabet) {
    let noise = &mut Noise::new(11);
    let size = alphabet.size();
    let mut even = [0; SYMBOLS_MAX];
    even[..size].fill(1);
    let mut uneven = even;
    for (symbol, count) in uneven[..size].iter_mut().enumerate() {
        *count = 1 << (symbol % 12);
    }
    let levels = vec![Levels::from_counts(&even), Levels::from_counts(&uneven)];
    for first in 0..size {
        // Each place has another symbol in the next group, and in the next round.
        let symbol = |i: usize| u8::try_from((i + i / LANES + first) % size).unwrap_or(0);
        let symbols = (0..5 * LANES).map(symbol).collect();
        let case = Case::of(levels.clone(), alphabet, symbols, noise);
        gives_the_bytes_of_the_reference(engine, &case);
    }
}

/// Frequencies from the least to the highest, of which there are only so many levels.
fn every_ratio_of_two_symbols_comes_back(engine: &dyn Engine, alphabet: Alphabet) {
    let noise = &mut Noise::new(12);
    for level in 1..=LEVEL_MAX {
        let (often, seldom) = (noise.below(alphabet.size()), noise.below(alphabet.size()));
        let mut levels = Levels::default();
        levels.0[usize::from(often)] = LEVEL_MAX;
        levels.0[usize::from(seldom)] = level;
        let reach = 2 + usize::from((LEVEL_MAX - level) / 3);
        let symbols = (0..400)
            .map(|_| {
                if noise.below(reach) == 0 {
                    seldom
                } else {
                    often
                }
            })
            .collect();
        let case = Case::of(vec![levels], alphabet, symbols, noise);
        gives_the_bytes_of_the_reference(engine, &case);
    }
}

/// Distributions that fit the symbols badly, so that states take many words or none.
fn any_distributions_come_back(engine: &dyn Engine, alphabet: Alphabet) {
    let noise = &mut Noise::new(13);
    for n_classes in 1..=32 {
        let known = 1 + usize::from(noise.below(alphabet.size()));
        let levels = (0..n_classes)
            .map(|_| {
                let mut levels = Levels::default();
                for level in &mut levels.0[..known] {
                    *level = 1 + noise.below(usize::from(LEVEL_MAX));
                }
                levels
            })
            .collect();
        let symbols = (0..300).map(|_| noise.below(known)).collect();
        let case = Case::of(levels, alphabet, symbols, noise);
        gives_the_bytes_of_the_reference(engine, &case);
    }
}

/// Blocks of states that are all in one octave, the lowest, the highest or any there, and of words
/// that are all zeros, all ones, or noise.
fn states_of_all_octaves_are_taken(engine: &dyn Engine, alphabet: Alphabet) {
    let noise = &mut Noise::new(14);
    for octave in 0..16u8 {
        let n_bytes = LANES / 8 * (16 + usize::from(octave));
        for fill in [Some(0), Some(0xff), None] {
            let mut bytes = |n| {
                (0..n)
                    .map(|_| fill.unwrap_or_else(|| noise.below(256)))
                    .collect()
            };
            let (states, words): (Vec<u8>, Vec<u8>) = (bytes(n_bytes), bytes(2000));
            let block = [&[octave << 4 | octave; LANES / 2], &states[..], &words[..]].concat();
            let case = Case::new(u64::from(octave), 1000, alphabet, 7);
            let set = DecodeSet::new(&case.levels, alphabet);
            for classes in case.classes() {
                let (done, symbols) = decode(engine, &set, classes, &block, 1000);
                assert!(
                    done.is_err(),
                    "{} takes 1000 symbols for more",
                    engine.name()
                );
                assert!(symbols.iter().all(|&s| usize::from(s) < alphabet.size()));
            }
        }
    }
}

/// Symbols, classes and blocks that begin at any byte, and blocks behind other bytes.
fn places_in_memory_do_not_matter(engine: &dyn Engine, case: &Case) {
    let (encode, decode) = (
        EncodeSet::new(&case.levels, case.alphabet),
        DecodeSet::new(&case.levels, case.alphabet),
    );
    let shifted = |bytes: &[u8], by: usize| [&vec![0x55; by], bytes].concat();
    for by_symbol in [false, true] {
        let block = case.encode(&Reference, case.classes()[usize::from(by_symbol)]);
        for by in 0..33 {
            let symbols = shifted(&case.symbols, by);
            let (groups, each) = (shifted(&case.groups, by), shifted(&case.each, by));
            let classes = if by_symbol {
                Classes::Symbols(&each[by..])
            } else {
                Classes::Groups(&groups[by..])
            };
            let mut out = vec![0x77; by];
            let done = engine.encode(&encode, classes, &symbols[by..], &mut out);
            assert_eq!(done, Ok(()));
            assert!(out[..by].iter().all(|&byte| byte == 0x77) && out[by..] == block);
            let mut back = vec![0x99; by + symbols.len()];
            let place = &mut back[by..][..case.symbols.len()];
            assert_eq!(engine.decode(&decode, classes, &out[by..], place), Ok(()));
            assert!(place == case.symbols);
            let around = back.len() - case.symbols.len();
            let kept = back.iter().filter(|&&byte| byte == 0x99).count();
            assert_eq!(kept, around, "{} writes beside the symbols", engine.name());
        }
    }
}

fn more_classes_than_symbols_do_not_matter(engine: &dyn Engine, case: &Case) {
    let (encode, decode) = (
        EncodeSet::new(&case.levels, case.alphabet),
        DecodeSet::new(&case.levels, case.alphabet),
    );
    for more in [1, 63, 64, 65, 1000] {
        let known = vec![u8::try_from(case.levels.len() - 1).unwrap_or(0); more];
        let groups = [&case.groups[..], &known].concat();
        let each = [&case.each[..], &known].concat();
        let longer = [Classes::Groups(&groups), Classes::Symbols(&each)];
        for (longer, classes) in longer.into_iter().zip(case.classes()) {
            let mut block = Vec::new();
            let done = engine.encode(&encode, longer, &case.symbols, &mut block);
            assert_eq!(done, Ok(()));
            assert!(block == case.encode(&Reference, classes));
            let mut back = vec![0; case.symbols.len()];
            assert_eq!(engine.decode(&decode, longer, &block, &mut back), Ok(()));
            assert!(back == case.symbols);
        }
    }
}

/// Blocks that were coded by other distributions, or over the other alphabet.
fn blocks_of_other_tables_are_read_alike(engine: &dyn Engine, alphabet: Alphabet) {
    for rng_seed in 0..20 {
        let n = 500 + 30 * usize::try_from(rng_seed).unwrap_or(0);
        let [case, other] = [rng_seed, rng_seed + 100].map(|seed| Case::new(seed, n, alphabet, 6));
        for coded in [Alphabet::Sixteen, Alphabet::ThirtyTwo] {
            let foreign = Case::new(rng_seed, n, coded, 6);
            for (block_of, levels) in [(&case, &other.levels), (&foreign, &case.levels)] {
                let set = DecodeSet::new(levels, alphabet);
                for classes in block_of.classes() {
                    let block = block_of.encode(&Reference, classes);
                    let (done, symbols) = decode(engine, &set, classes, &block, n);
                    assert!(done.is_err() || symbols == block_of.symbols);
                    assert!(
                        symbols
                            .iter()
                            .all(|&s| s == 0xee || usize::from(s) < alphabet.size())
                    );
                }
            }
        }
    }
}

fn no_class_is_needed_for_no_symbol(engine: &dyn Engine, alphabet: Alphabet) {
    let (encode, decode) = (EncodeSet::new(&[], alphabet), DecodeSet::new(&[], alphabet));
    let all: [fn(&[u8]) -> Classes<'_>; 2] = [|c| Classes::Groups(c), |c| Classes::Symbols(c)];
    for classes in all {
        let mut block = Vec::new();
        assert_eq!(
            engine.encode(&encode, classes(&[]), &[], &mut block),
            Ok(())
        );
        assert_eq!(
            engine.decode(&decode, classes(&[]), &block, &mut []),
            Ok(())
        );
        block.push(0);
        assert!(
            engine
                .decode(&decode, classes(&[]), &block, &mut [])
                .is_err()
        );
        assert!(
            engine
                .encode(&encode, classes(&[0]), &[0], &mut Vec::new())
                .is_err()
        );
        assert!(
            engine
                .decode(&decode, classes(&[0; 64]), &[0; 400], &mut [0; 64])
                .is_err()
        );
    }
}

/// Where a block ends, engines go from vectors of words to single ones.
fn long_blocks_may_be_cut_anywhere(engine: &dyn Engine, case: &Case) {
    let set = DecodeSet::new(&case.levels, case.alphabet);
    let n = case.symbols.len();
    for classes in case.classes() {
        let block = case.encode(engine, classes);
        for cut in (block.len() - 400..block.len()).chain((0..block.len()).step_by(13)) {
            assert!(decode(engine, &set, classes, &block[..cut], n).0.is_err());
        }
        // As many symbols as were coded, and no others.
        for other in [n - 1, n + 1, n - LANES, n + LANES] {
            let all = vec![0; other];
            let (groups, each) = (
                [&case.groups, &all[..]].concat(),
                [&case.each, &all[..]].concat(),
            );
            let classes = match classes {
                Classes::Groups(_) => Classes::Groups(&groups),
                Classes::Symbols(_) => Classes::Symbols(&each),
            };
            assert!(decode(engine, &set, classes, &block, other).0.is_err());
        }
    }
}

/// The likeliest and the least likely symbols, in runs that fill and drain the states.
fn extremes_come_back(engine: &dyn Engine, alphabet: Alphabet) {
    let mut lone = Levels::default();
    lone.0[3] = LEVEL_MAX;
    let mut steep = Levels::default();
    steep.0[0] = LEVEL_MAX;
    steep.0[alphabet.size() - 1] = 1;
    for (levels, symbol) in [(lone, 3), (steep, 0), (steep, alphabet.size() - 1)] {
        let symbols = vec![u8::try_from(symbol).unwrap_or(0); 1000];
        let case = Case::of(vec![levels], alphabet, symbols, &mut Noise::new(1));
        gives_the_bytes_of_the_reference(engine, &case);
    }
}

/// Decodes `block` and says how that ended and what it left behind: the same as the reference.
fn decode(
    engine: &dyn Engine,
    set: &DecodeSet,
    classes: Classes<'_>,
    block: &[u8],
    n: usize,
) -> (Result<()>, Vec<u8>) {
    let [found, expected] = [engine, &Reference].map(|engine| {
        let mut symbols = vec![0xee; n];
        (engine.decode(set, classes, block, &mut symbols), symbols)
    });
    assert!(found == expected, "{} ends otherwise", engine.name());
    found
}

/// Each cut is an error. Each flipped bit is an error or gives other symbols: with all the states
/// checked at the end, it never gives the same.
fn damage_is_noticed_or_harmless(engine: &dyn Engine, case: &Case) {
    let set = DecodeSet::new(&case.levels, case.alphabet);
    let n = case.symbols.len();
    for classes in case.classes() {
        let block = case.encode(engine, classes);
        for cut in 0..block.len() {
            let (done, _) = decode(engine, &set, classes, &block[..cut], n);
            assert!(done.is_err(), "{} accepts a cut at {cut}", engine.name());
        }
        for more in [1, 2, 200] {
            let longer = [&block[..], &vec![0; more]].concat();
            assert!(decode(engine, &set, classes, &longer, n).0.is_err());
        }
        for bit in 0..8 * block.len() {
            let mut bad = block.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let (done, back) = decode(engine, &set, classes, &bad, n);
            assert!(
                done.is_err() || back != case.symbols,
                "bit {bit} is without effect"
            );
        }
    }
}

/// Two blocks at once are what they are one after the other, whole, cut or too long, and whichever
/// is the longer.
fn two_blocks_end_as_each_does(engine: &dyn Engine, case: &Case) {
    let (encode, decode) = (
        EncodeSet::new(&case.levels, case.alphabet),
        DecodeSet::new(&case.levels, case.alphabet),
    );
    let all = case.symbols.len();
    let block = |n: usize| {
        let mut block = Vec::new();
        let classes = Classes::Symbols(&case.each[..n]);
        let done = engine.encode(&encode, classes, &case.symbols[..n], &mut block);
        assert_eq!(done, Ok(()));
        block
    };
    let whole = block(all);
    for n in [0, 1, 63, 64, 65, 700, all] {
        let other = block(n);
        for (cut, more) in [(0, 0), (1, 0), (2, 0), (40, 0), (200, 0), (0, 2)] {
            let bad = [&other[..other.len().saturating_sub(cut)], &vec![0; more]].concat();
            let mut alone = vec![0; n];
            let of_bad = Classes::Symbols(&case.each[..n]);
            let expected = engine.decode(&decode, of_bad, &bad, &mut alone).is_ok();
            for swapped in [false, true] {
                let (mut first, mut second) = (vec![0; all], vec![0; n]);
                let mut blocks = [
                    EachBlock {
                        classes: &case.each,
                        coded: &whole,
                        symbols: &mut first,
                    },
                    EachBlock {
                        classes: &case.each[..n],
                        coded: &bad,
                        symbols: &mut second,
                    },
                ];
                if swapped {
                    blocks.reverse();
                }
                let done = engine.decode_two(&decode, blocks);
                let name = engine.name();
                assert_eq!(done.is_ok(), expected, "{name}: {n} symbols, {cut} {more}");
                assert!(!expected || (first == case.symbols && second == case.symbols[..n]));
            }
        }
    }
    let mut unknown = case.each.clone();
    unknown[1000] = 200;
    let blocks = [&case.each, &unknown].map(|classes| (classes, vec![0; all]));
    let [(known, mut first), (unknown, mut second)] = blocks;
    let blocks =
        [(known, &mut first), (unknown, &mut second)].map(|(classes, symbols)| EachBlock {
            classes,
            coded: &whole,
            symbols,
        });
    assert!(engine.decode_two(&decode, blocks).is_err());
}

fn noise_is_harmless(engine: &dyn Engine, alphabet: Alphabet) {
    let noise = &mut Noise::new(99);
    for len in (0..STATES_LEN + 300).step_by(7) {
        let n_classes = 1 + usize::from(noise.below(32));
        let n = 1 + usize::from(noise.below(250));
        let case = Case::new(len as u64, n, alphabet, n_classes);
        let set = DecodeSet::new(&case.levels, alphabet);
        let block: Vec<u8> = (0..len).map(|_| noise.below(256)).collect();
        for classes in case.classes() {
            let (done, back) = decode(engine, &set, classes, &block, n);
            assert!(done.is_err() || back.iter().all(|&s| usize::from(s) < alphabet.size()));
            // Noise behind states that can be.
            let whole = case.encode(&Reference, classes);
            let mut block = whole[..whole.len().min(STATES_LEN)].to_vec();
            block.extend((0..len).map(|_| noise.below(256)));
            let (done, _) = decode(engine, &set, classes, &block, n);
            assert!(done.is_err() || block == whole);
        }
    }
}

fn unknown_classes_are_refused(engine: &dyn Engine, case: &Case) {
    let n = case.symbols.len();
    let (groups, each) = (vec![2; n.div_ceil(LANES)], vec![2; n]);
    let (short_groups, short_each) = (vec![0; n / LANES], vec![0; n - 1]);
    let all = [
        Classes::Groups(&groups),
        Classes::Symbols(&each),
        Classes::Groups(&short_groups),
        Classes::Symbols(&short_each),
    ];
    let block = case.encode(engine, case.classes()[0]);
    for classes in all {
        let set = EncodeSet::new(&case.levels, case.alphabet);
        let mut out = vec![1, 2, 3];
        let done = engine.encode(&set, classes, &case.symbols, &mut out);
        assert!(
            done.is_err(),
            "{} encodes in unknown classes",
            engine.name()
        );
        assert_eq!(out, [1, 2, 3], "{} appends what is none", engine.name());
        let set = DecodeSet::new(&case.levels, case.alphabet);
        let done = engine.decode(&set, classes, &block, &mut vec![0; n]);
        assert!(
            done.is_err(),
            "{} decodes in unknown classes",
            engine.name()
        );
    }
    let set = EncodeSet::new(
        &[Levels::from_counts(&[1; SYMBOLS_MAX])],
        Alphabet::ThirtyTwo,
    );
    let done = engine.encode(&set, Classes::Groups(&[0]), &[32], &mut Vec::new());
    assert!(done.is_err(), "{} encodes what is no symbol", engine.name());
    let mut only = Levels::default();
    only.0[0] = LEVEL_MAX;
    let set = EncodeSet::new(&[only], Alphabet::ThirtyTwo);
    let done = engine.encode(&set, Classes::Groups(&[0]), &[0, 5], &mut Vec::new());
    assert!(
        done.is_err(),
        "{} encodes a symbol without frequency",
        engine.name()
    );
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_engine_of_this_machine_passes() {
        for engine in crate::entropy::engines() {
            super::examine(*engine);
        }
    }
}
