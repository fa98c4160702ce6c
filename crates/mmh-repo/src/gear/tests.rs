//! Golden cuts, and the published attack on chunk lengths with its model.
//!
//! Truong, Merz, Scarlata, Günther, Paterson: "Breaking and Fixing Content-Defined Chunking"
//! (IACR ePrint 2025/558), and Alexeev, Percival, Zhang: "Chunking Attacks on File Backup Services
//! using Content-Defined Chunking" (ePrint 2025/532). The attacker has files of its choice added,
//! sees the lengths that are stored for them, and wants the chunker's parameters; with these it
//! recognises any known file by its lengths.
//!
//! The chunker that is broken here is keyed as programs of that time are: a public gear table with
//! one secret word added to all its words by exclusive or. Bit k of the hash depends on the bits up
//! to k of the secret alone, so the secret is found from the lowest bits up, each cut ruling out
//! what does not make its masked bits zero.

use fastcdc::v2020::{FastCDC, get_gear_with_seed};
use mmh_crypto::padding::padme;
use mmh_crypto::{RootSeed, Secret};
use mmh_store::conformance::noise;

use super::*;

/// Lengths for the attack: many cuts in few bytes.
const LENS: (usize, usize, usize) = (1 << 10, 4 << 10, 16 << 10);

fn keyed(byte: u8) -> Gear {
    let root = RootSeed::from_secret(Secret::from_bytes(&[byte; 32]));
    Gear::new(&root.chunker_key())
}

/// The public table with a secret word, as others key it; 0 is the public table itself.
fn xored(secret: u64) -> Gear {
    let (words, _) = get_gear_with_seed(secret);
    Gear::of(Box::new(Zeroizing::new(words[..].try_into().unwrap())))
}

/// Lengths of all chunks of `bytes`.
fn cuts(gear: &Gear, bytes: &[u8], lens: (usize, usize, usize)) -> Vec<usize> {
    let (mut all, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let cut = gear.cut(&bytes[at..bytes.len().min(at + lens.2)], lens);
        all.push(cut);
        at += cut;
    }
    all
}

/// With the public table the cuts are those of repositories that are not sealed.
#[test]
fn the_public_table_cuts_as_the_crate_does() {
    let bytes = noise(1, 600_000);
    let (min, average, max) = LENS;
    let theirs = FastCDC::with_level(&bytes, min, average, max, Normalization::Level1);
    let theirs: Vec<usize> = theirs.map(|chunk| chunk.length).collect();
    assert_eq!(cuts(&xored(0), &bytes, LENS), theirs);
}

/// Other cuts would be another repository: these must never change.
#[test]
fn a_known_key_cuts_known_content_where_it_always_did() {
    let lens = (64 << 10, 256 << 10, 1 << 20);
    let found = cuts(&keyed(7), &noise(5, 3 << 20), lens);
    assert_eq!(found.iter().sum::<usize>(), 3 << 20);
    assert_eq!(found, GOLDEN, "{found:?}");
    assert_ne!(found, cuts(&keyed(8), &noise(5, 3 << 20), lens));
}

/// Cuts of 3 MiB of noise under the key of a root seed of sevens.
const GOLDEN: [usize; 9] = [
    322028, 333122, 114599, 366135, 409124, 440612, 529677, 593177, 37254,
];

/// An insertion changes the chunks around it only, as without a key.
#[test]
fn cuts_fall_into_step_again_after_an_insertion() {
    let bytes = noise(2, 400_000);
    let mut longer = bytes.clone();
    longer.splice(1000..1000, *b"inserted");
    let (a, b) = (
        cuts(&keyed(1), &bytes, LENS),
        cuts(&keyed(1), &longer, LENS),
    );
    let same = a.iter().rev().zip(b.iter().rev());
    let same = same.take_while(|(a, b)| a == b).count();
    assert!(same + 4 > a.len(), "{same} of {}", a.len());
}

#[test]
fn the_table_is_not_printed() {
    assert_eq!(format!("{:?}", keyed(1)), "Gear(secret)");
}

/// The attacker: bits of the secret that it considers possible, from the lowest up.
///
/// `ends` are where chunks of the chosen bytes end. Returns all secrets, up to the highest bit
/// that any mask looks at, under which each of these cuts is a cut.
fn recover(bytes: &[u8], ends: &[(usize, usize)]) -> Vec<u64> {
    let (table, _) = get_gear_with_seed(0);
    let masks = select_masks(LENS.1, Normalization::Level1);
    // What the hash is without the secret, and by how much each bit of the secret counts: the last
    // 64 bytes of a chunk decide, the first `min` of it are not looked at.
    let windows: Vec<(&[u8], u64)> = ends
        .iter()
        .filter(|(start, end)| (LENS.0 + 64..LENS.2).contains(&(end - start)))
        .map(|(start, end)| {
            let mask = if end - start < LENS.1 {
                masks.0
            } else {
                masks.1
            };
            (&bytes[end - 63..=*end], mask)
        })
        .collect();
    let hash = |window: &[u8], secret: u64| {
        let step =
            |hash: u64, byte: &u8| (hash << 1).wrapping_add(table[usize::from(*byte)] ^ secret);
        window.iter().fold(0, step)
    };
    let mut possible = vec![0u64];
    for bit in 0..48 {
        let below = (2u64 << bit) - 1;
        let both = possible.iter().flat_map(|low| [*low, low | 1 << bit]);
        let fits = |secret: &u64| {
            windows
                .iter()
                .all(|(window, mask)| hash(window, *secret) & mask & below == 0)
        };
        // Nothing rules a bit out before the lowest one that the masks look at.
        let looked_at = (masks.0 | masks.1) & below != 0;
        possible = both.filter(|secret| !looked_at || fits(secret)).collect();
        if possible.is_empty() || possible.len() > 1 << 21 {
            return possible;
        }
    }
    possible
}

/// Start and end of each chunk but the last, from lengths.
fn spans(lengths: &[usize]) -> Vec<(usize, usize)> {
    let mut at = 0;
    let mut all: Vec<(usize, usize)> = lengths
        .iter()
        .map(|len| {
            at += len;
            (at - len, at)
        })
        .collect();
    all.pop();
    all
}

/// What whoever holds the disk of a sealed repository sees of chunks that do not compress: the
/// best guess at a length that the padded one leaves is any of its class; its longest is taken.
fn padded(lengths: &[usize]) -> Vec<usize> {
    let stored = |len: &usize| usize::try_from(padme(*len as u64 + 1) - 1).unwrap();
    lengths.iter().map(stored).collect()
}

/// The content that the attacker chose.
fn chosen() -> Vec<u8> {
    noise(77, 700_000)
}

/// The attack works where it was published to work: a secret word, lengths as they are. What it
/// recovers predicts every cut of a file that it never saw.
#[test]
fn the_attack_recovers_a_secret_word_from_plain_lengths() {
    let secret = 0x0123_4567_89ab_cdef;
    let lengths = cuts(&xored(secret), &chosen(), LENS);
    let found = recover(&chosen(), &spans(&lengths));
    assert_eq!(found.len(), 1, "{} secrets", found.len());
    let other = noise(78, 300_000);
    assert_eq!(
        cuts(&xored(found[0]), &other, LENS),
        cuts(&xored(secret), &other, LENS)
    );
}

/// The same attacker before our padding: not even the secret word is found.
#[test]
fn the_attack_fails_on_padded_lengths() {
    let secret = 0x0123_4567_89ab_cdef;
    let lengths = padded(&cuts(&xored(secret), &chosen(), LENS));
    let ends: Vec<(usize, usize)> = spans(&lengths)
        .into_iter()
        .filter(|(_, end)| *end < chosen().len())
        .collect();
    assert!(ends.len() > 50);
    assert!(recover(&chosen(), &ends).is_empty());
}

/// And before our table: no secret word explains the cuts, even if all lengths are known.
#[test]
fn the_attack_fails_on_a_keyed_table() {
    let lengths = cuts(&keyed(7), &chosen(), LENS);
    assert!(recover(&chosen(), &spans(&lengths)).is_empty());
}

/// What the attacker is after: to see that a known file is stored. It knows how the public table
/// cuts it; a sealed repository's lengths agree no better than those of another file.
#[test]
fn a_known_file_is_recognised_by_public_cuts_and_not_by_keyed_ones() {
    let file = noise(79, 1 << 20);
    let predicted = padded(&cuts(&xored(0), &file, LENS));
    let agreement = |seen: &[usize]| {
        let pairs = seen
            .windows(2)
            .filter(|pair| predicted.windows(2).any(|known| known == *pair));
        pairs.count() as f64 / seen.len() as f64
    };
    let public = agreement(&padded(&cuts(&xored(0), &file, LENS)));
    let keyed_same = agreement(&padded(&cuts(&keyed(7), &file, LENS)));
    let keyed_other = agreement(&padded(&cuts(&keyed(7), &noise(80, 1 << 20), LENS)));
    assert!(
        public > 0.99,
        "the public table gives the file away: {public}"
    );
    assert!(keyed_same < 0.5, "{keyed_same}");
    assert!(
        (keyed_same - keyed_other).abs() < 0.15,
        "{keyed_same} {keyed_other}"
    );
}
