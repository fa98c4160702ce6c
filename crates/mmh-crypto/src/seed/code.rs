//! The error-correcting checksum of seed strings: the long code of BIP 93 ("codex32").
//!
//! A BCH code over GF(32) with 15 check symbols. Its generator has eight roots in a row, α^1019 to
//! α^1026, in GF(1024), so any two code words of up to 1,023 symbols differ in nine places: any
//! four wrong symbols, or eight illegible ones, or a mixture with 2·wrong + illegible ≤ 8, are put
//! right. A test ties the generator to the roots, which is the proof.
//!
//! More errors than that are noticed, but for one in 2^29 of random ones at 180 symbols: so many
//! of the 2^75 remainders are within four symbols of a code word.

use zeroize::Zeroizing;

/// Check symbols at the end.
pub(super) const CHECK_LEN: usize = 15;
/// Longest code word, prefix included.
pub(super) const WORD_LEN_MAX: usize = 1023;
/// Twice the number of symbols that can be corrected.
const SYNDROMES: usize = 8;
/// The first of the generator's roots in a row, as a power of α.
const FIRST_ROOT: usize = 1019;
/// Order of α.
const ORDER: usize = 1023;
/// What the remainder of a code word is: BIP 93's constant, so that no shifted or empty string is
/// a code word.
const TARGET: u128 = 0x0433_81e5_70bf_4798_ab26;
/// The remainders of x^15 times 1, 2, 4, 8 and 16, five bits a coefficient.
const GENERATOR: [u128; 5] = [
    0x03d5_9d27_3535_ea62_d897,
    0x07a9_becb_6361_c6c5_1507,
    0x0543_f9b7_e6c3_8d8a_2a0e,
    0x00c5_77ea_eccf_1990_d13c,
    0x0188_7f74_f8dc_71b1_0651,
];

/// An illegible symbol.
pub(super) const ERASED: u8 = 32;

/// The check symbols of `data` under the human-readable part `hrp`.
pub(super) fn checksum(hrp: &str, data: &[u8]) -> [u8; CHECK_LEN] {
    let symbols = data.iter().copied().chain([0; CHECK_LEN]);
    coefficients(remainder(hrp, symbols) ^ TARGET)
}

/// Puts right what is wrong in `word`, data and check symbols. Returns the places that changed,
/// or none if there are too many errors.
pub(super) fn correct(hrp: &str, word: &mut [u8]) -> Option<Vec<usize>> {
    if expanded_len(hrp) + word.len() > WORD_LEN_MAX || word.len() < CHECK_LEN {
        return None;
    }
    let mut erased = Vec::new();
    for (at, symbol) in word.iter_mut().enumerate() {
        if *symbol >= ERASED {
            *symbol = 0;
            erased.push(at);
        }
    }
    if erased.len() > SYNDROMES {
        return None;
    }
    let residue = coefficients(remainder(hrp, word.iter().copied()) ^ TARGET);
    let mut changed = erased.clone();
    if residue != [0; CHECK_LEN] {
        let last = word.len() - 1;
        let erased: Vec<usize> = erased.iter().map(|at| last - at).collect();
        for (degree, magnitude) in errors(&syndromes(&residue), &erased, word.len())? {
            let at = last - degree;
            *word.get_mut(at)? ^= magnitude;
            changed.push(at);
        }
        // The eight roots say nothing of the other seven.
        if remainder(hrp, word.iter().copied()) != TARGET {
            return None;
        }
    }
    changed.sort_unstable();
    changed.dedup();
    Some(changed)
}

/// Symbols that the human-readable part becomes: high bits, a zero, low bits.
pub(super) fn expanded_len(hrp: &str) -> usize {
    2 * hrp.len() + 1
}

/// The remainder of the expanded `hrp` and `symbols` by the generator.
fn remainder(hrp: &str, symbols: impl Iterator<Item = u8>) -> u128 {
    let high = hrp.bytes().map(|byte| byte >> 5);
    let low = hrp.bytes().map(|byte| byte & 31);
    let all = high.chain([0]).chain(low).chain(symbols);
    all.fold(1, |sum, symbol| {
        let top = sum >> (5 * (CHECK_LEN - 1));
        let kept = sum & ((1 << (5 * (CHECK_LEN - 1))) - 1);
        let next = kept << 5 ^ u128::from(symbol);
        (0..).zip(GENERATOR).fold(
            next,
            |sum, (bit, term)| {
                if top >> bit & 1 == 1 { sum ^ term } else { sum }
            },
        )
    })
}

/// The coefficients of a remainder, highest first.
fn coefficients(remainder: u128) -> [u8; CHECK_LEN] {
    let mut symbols = [0; CHECK_LEN];
    for (i, symbol) in symbols.iter_mut().rev().enumerate() {
        let [low, ..] = (remainder >> (5 * i)).to_le_bytes();
        *symbol = low & 31;
    }
    symbols
}

/// The error polynomial at the eight roots.
fn syndromes(residue: &[u8; CHECK_LEN]) -> [u16; SYNDROMES] {
    std::array::from_fn(|i| {
        let root = power(FIRST_ROOT + i);
        residue
            .iter()
            .fold(0, |sum, &symbol| mul(sum, root) ^ u16::from(symbol))
    })
}

/// Places (as degrees) and magnitudes of the errors, `erased` degrees among them: Berlekamp and
/// Massey's algorithm, started from the erasures, Chien's search and Forney's formula.
fn errors(
    syndromes: &[u16; SYNDROMES],
    erased: &[usize],
    word_len: usize,
) -> Option<Vec<(usize, u8)>> {
    let locator = locator(syndromes, erased)?;
    let n_errors = degree(&locator);
    let mut found = Vec::with_capacity(n_errors);
    for place in 0..word_len {
        let inverse = power(ORDER - place % ORDER);
        if evaluate(&locator, inverse) == 0 {
            let magnitude = magnitude(syndromes, &locator, place, inverse)?;
            found.push((place, magnitude));
        }
    }
    (found.len() == n_errors).then_some(found)
}

/// The polynomial whose roots are the inverses of the errors' places.
fn locator(syndromes: &[u16; SYNDROMES], erased: &[usize]) -> Option<[u16; SYNDROMES + 1]> {
    let mut locator = [0; SYNDROMES + 1];
    locator[0] = 1;
    for &place in erased {
        let shifted = shift(&locator);
        add_scaled(&mut locator, &shifted, power(place));
    }
    let mut previous = locator;
    let mut len = erased.len();
    for round in erased.len()..SYNDROMES {
        let discrepancy = (0..=round.min(SYNDROMES))
            .fold(0, |sum, i| sum ^ mul(locator[i], syndromes[round - i]));
        previous = shift(&previous);
        if discrepancy == 0 {
            continue;
        }
        let before = locator;
        add_scaled(&mut locator, &previous, discrepancy);
        if 2 * len <= round + erased.len() {
            len = round + 1 + erased.len() - len;
            previous = [0; SYNDROMES + 1];
            add_scaled(&mut previous, &before, inverse(discrepancy));
        }
    }
    let n_wrong = len.checked_sub(erased.len())?;
    (degree(&locator) == len && 2 * n_wrong + erased.len() <= SYNDROMES).then_some(locator)
}

/// Forney's formula. A magnitude outside of GF(32) is no error that a word can have.
fn magnitude(
    syndromes: &[u16; SYNDROMES],
    locator: &[u16; SYNDROMES + 1],
    place: usize,
    inverse_place: u16,
) -> Option<u8> {
    let mut evaluator = [0; SYNDROMES];
    for (i, term) in evaluator.iter_mut().enumerate() {
        *term = (0..=i).fold(0, |sum, j| sum ^ mul(locator[j], syndromes[i - j]));
    }
    // In characteristic two the derivative keeps the odd terms.
    let mut derivative = [0; SYNDROMES];
    for i in (1..=SYNDROMES).step_by(2) {
        derivative[i - 1] = locator[i];
    }
    let slope = evaluate(&derivative, inverse_place);
    if slope == 0 {
        return None;
    }
    // X^(1 - first root).
    let scale = power(place % ORDER * (2 * ORDER + 1 - FIRST_ROOT));
    let value = mul(
        mul(evaluate(&evaluator, inverse_place), scale),
        inverse(slope),
    );
    u8::try_from(value).ok().filter(|&value| value < 32)
}

fn degree(polynomial: &[u16]) -> usize {
    polynomial.iter().rposition(|&term| term != 0).unwrap_or(0)
}

fn evaluate(polynomial: &[u16], at: u16) -> u16 {
    polynomial
        .iter()
        .rev()
        .fold(0, |sum, &term| mul(sum, at) ^ term)
}

/// Times x; what would fall out has no place in a locator of eight errors.
fn shift(polynomial: &[u16; SYNDROMES + 1]) -> [u16; SYNDROMES + 1] {
    let mut shifted = [0; SYNDROMES + 1];
    shifted[1..].copy_from_slice(&polynomial[..SYNDROMES]);
    shifted
}

fn add_scaled(sum: &mut [u16; SYNDROMES + 1], terms: &[u16; SYNDROMES + 1], scale: u16) {
    for (sum, &term) in sum.iter_mut().zip(terms) {
        *sum ^= mul(term, scale);
    }
}

/// GF(1024) is GF(32)[z] modulo z² + z + 1; GF(32) is GF(2)[x] modulo x⁵ + x³ + 1. An element is
/// five bits of the constant and, above them, five bits of z.
const ALPHA: u16 = 217;
/// Powers of α, and their logarithms.
const TABLES: ([u16; ORDER], [u16; ORDER + 1]) = {
    let mut powers = [0; ORDER];
    let mut logarithms = [0; ORDER + 1];
    let mut element = 1;
    let mut i = 0;
    while i < ORDER {
        powers[i] = element;
        #[allow(clippy::cast_possible_truncation, reason = "less than 1,023")]
        {
            logarithms[element as usize] = i as u16;
        }
        element = mul_slowly(element, ALPHA);
        i += 1;
    }
    (powers, logarithms)
};

/// α to the power `exponent`.
fn power(exponent: usize) -> u16 {
    TABLES.0[exponent % ORDER]
}

fn logarithm(element: u16) -> usize {
    usize::from(TABLES.1[usize::from(element)])
}

fn mul(a: u16, b: u16) -> u16 {
    if a == 0 || b == 0 {
        return 0;
    }
    power(logarithm(a) + logarithm(b))
}

/// Of anything but zero.
fn inverse(a: u16) -> u16 {
    power(ORDER - logarithm(a))
}

const fn mul_slowly(a: u16, b: u16) -> u16 {
    let (low, high) = (mul_32(a & 31, b & 31), mul_32(a >> 5, b >> 5));
    let cross = mul_32(a & 31, b >> 5) ^ mul_32(a >> 5, b & 31);
    (low ^ high) | (cross ^ high) << 5
}

const fn mul_32(a: u16, b: u16) -> u16 {
    let mut product = 0;
    let mut bit = 5;
    while bit > 0 {
        bit -= 1;
        product <<= 1;
        if product & 32 != 0 {
            product ^= 0b10_1001;
        }
        if b >> bit & 1 == 1 {
            product ^= a;
        }
    }
    product
}

/// `data` with its check symbols.
pub(super) fn encode(hrp: &str, data: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([data, &checksum(hrp, data)].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bech32;

    /// The generator as a polynomial, highest term first.
    fn generator() -> Vec<u16> {
        let rest = coefficients(GENERATOR[0]);
        [1].into_iter().chain(rest.map(u16::from)).collect()
    }

    /// The proof of the distance: eight consecutive powers of an element of order 1,023 are roots of
    /// the generator, so by the BCH bound words of up to 1,023 symbols differ in nine places.
    #[test]
    fn the_generator_has_eight_roots_in_a_row() {
        let orders = (1..=ORDER).filter(|&n| power(n) == 1);
        assert_eq!(orders.collect::<Vec<_>>(), [ORDER], "α generates the field");
        let ascending: Vec<u16> = generator().into_iter().rev().collect();
        for i in 0..SYNDROMES {
            assert_eq!(evaluate(&ascending, power(FIRST_ROOT + i)), 0, "root {i}");
        }
        for (bit, term) in GENERATOR.into_iter().enumerate() {
            let scaled = coefficients(GENERATOR[0]).map(|c| mul_32(c.into(), 1 << bit));
            assert_eq!(coefficients(term).map(u16::from), scaled);
        }
    }

    /// A field: every product, by tables and by hand.
    #[test]
    fn products_by_logarithm_are_products() {
        for a in 0..1024 {
            for b in (0..1024).step_by(7) {
                assert_eq!(mul(a, b), mul_slowly(a, b), "{a} {b}");
            }
            if a != 0 {
                assert_eq!(mul(a, inverse(a)), 1, "{a}");
            }
        }
    }

    /// Test vector 5 of BIP 93, whose strings begin with `ms`.
    #[test]
    fn the_vector_of_bip_93_is_a_code_word() {
        let text = "00c8vsm32zxfguhpchtlupzry9x8gf2tvdw0s3jn54khce6mua7lqpzygsfjd6an074rxvcemlh8wu3tk\
                    925acdefghjklmnpqrstuvwxy06fhpv80undvarhrak";
        let word: Vec<u8> = text.bytes().filter_map(bech32::value).collect();
        assert_eq!(word.len(), text.len());
        let (data, check) = word.split_at(word.len() - CHECK_LEN);
        assert_eq!(checksum("ms", data), check);
        let mut wrong = word.clone();
        for at in [0, 30, 31, word.len() - 1] {
            wrong[at] ^= 21;
        }
        assert_eq!(
            correct("ms", &mut wrong),
            Some(vec![0, 30, 31, word.len() - 1])
        );
        assert_eq!(wrong, word);
    }

    fn word(len: usize) -> Vec<u8> {
        let data: Vec<u8> = (0..32).map(|i| (i * 7) & 31).cycle().take(len).collect();
        encode("mmh", &data).to_vec()
    }

    /// Exhaustive: every single error, and every pair of places with a few magnitudes.
    #[test]
    fn all_single_and_double_errors_are_corrected() {
        let good = word(20);
        for a in 0..good.len() {
            for magnitude in 1..32 {
                let mut wrong = good.clone();
                wrong[a] ^= magnitude;
                assert_eq!(correct("mmh", &mut wrong), Some(vec![a]));
                assert_eq!(wrong, good);
            }
            for b in 0..a {
                for magnitude in [1, 13, 31] {
                    let mut wrong = good.clone();
                    wrong[a] ^= magnitude;
                    wrong[b] ^= 32 - magnitude;
                    assert_eq!(correct("mmh", &mut wrong), Some(vec![b, a]));
                    assert_eq!(wrong, good);
                }
            }
        }
    }

    /// A small generator of numbers: the tests below are the same in each run.
    fn numbers() -> impl FnMut(usize) -> usize {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        move |below| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % below as u64).unwrap()
        }
    }

    fn places(n: usize, len: usize, next: &mut impl FnMut(usize) -> usize) -> Vec<usize> {
        let mut places = Vec::new();
        while places.len() < n {
            let place = next(len);
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places.sort_unstable();
        places
    }

    /// Every mixture of wrong and illegible symbols within 2·wrong + illegible ≤ 8, at short,
    /// usual and longest lengths.
    #[test]
    fn all_mixtures_within_the_distance_are_corrected() {
        let mut next = numbers();
        for data_len in [0, 1, 20, 160, 1001] {
            let good = word(data_len);
            for n_erased in 0..=SYNDROMES {
                for n_wrong in 0..=(SYNDROMES - n_erased) / 2 {
                    for _ in 0..if data_len > 500 { 4 } else { 40 } {
                        let all = places(n_erased + n_wrong, good.len(), &mut next);
                        let mut bad = good.clone();
                        let mut order = all.clone();
                        // Which of the places are illegible is up to chance as well.
                        order.rotate_left(next(all.len().max(1)));
                        let (erased, wrong) = order.split_at(n_erased);
                        erased.iter().for_each(|&at| bad[at] = ERASED);
                        for &at in wrong {
                            bad[at] ^= 1 + u8::try_from(next(31)).unwrap();
                        }
                        let case = format!("{data_len} {erased:?} {wrong:?}");
                        assert_eq!(correct("mmh", &mut bad), Some(all), "{case}");
                        assert_eq!(bad, good, "{case}");
                    }
                }
            }
        }
    }

    /// Five and more errors: never a panic, and in 20,000 trials never a false correction, of
    /// which about one in 2^29 is to be expected.
    #[test]
    fn more_errors_are_noticed() {
        let mut next = numbers();
        let good = word(160);
        for trial in 0..20_000 {
            let n_wrong = 5 + trial % 20;
            let mut bad = good.clone();
            for at in places(n_wrong, good.len(), &mut next) {
                bad[at] ^= 1 + u8::try_from(next(31)).unwrap();
            }
            assert_eq!(correct("mmh", &mut bad), None, "trial {trial}");
        }
    }

    #[test]
    fn too_many_erasures_and_lengths_out_of_range_are_refused() {
        let mut bad = word(20);
        bad[..9].fill(ERASED);
        assert_eq!(correct("mmh", &mut bad), None);
        assert_eq!(correct("mmh", &mut [0; CHECK_LEN - 1]), None);
        assert_eq!(correct("mmh", &mut [0; WORD_LEN_MAX - 6]), None);
        let longest = word(WORD_LEN_MAX - 7 - CHECK_LEN);
        assert_eq!(correct("mmh", &mut longest.clone()), Some(vec![]));
        // Another human-readable part is another code.
        assert_eq!(correct("ms", &mut word(20)), None);
    }
}
