//! The exam of an entropy engine: it must give the bytes of [`Reference`], and withstand any.
//!
//! Call [`examine`] from a test of the engine.

use crate::entropy::{
    Alphabet, Classes, DecodeSet, EncodeSet, Engine, LANES, LEVEL_MAX, Levels, Reference,
    STATES_LEN, SYMBOLS_MAX,
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
        damage_is_noticed_or_harmless(engine, &Case::new(3, 150, alphabet, 3));
        noise_is_harmless(engine, alphabet);
        unknown_classes_are_refused(engine, &Case::new(4, 130, alphabet, 2));
    }
}

impl Case {
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

/// The likeliest and the least likely symbols, in runs that fill and drain the states.
fn extremes_come_back(engine: &dyn Engine, alphabet: Alphabet) {
    let mut lone = Levels::default();
    lone.0[3] = LEVEL_MAX;
    let mut steep = Levels::default();
    steep.0[0] = LEVEL_MAX;
    steep.0[alphabet.size() - 1] = 1;
    for (levels, symbol) in [(lone, 3), (steep, 0), (steep, alphabet.size() - 1)] {
        let n = 1000;
        let symbols = vec![u8::try_from(symbol).unwrap_or(0); n];
        let (groups, each) = (vec![0; n.div_ceil(LANES)], vec![0; n]);
        let levels = vec![levels];
        gives_the_bytes_of_the_reference(
            engine,
            &Case {
                levels,
                alphabet,
                groups,
                each,
                symbols,
            },
        );
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
        let done = engine.encode(&set, classes, &case.symbols, &mut Vec::new());
        assert!(
            done.is_err(),
            "{} encodes in unknown classes",
            engine.name()
        );
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
    fn the_reference_passes_its_own_exam() {
        super::examine(&crate::entropy::Reference);
    }
}
