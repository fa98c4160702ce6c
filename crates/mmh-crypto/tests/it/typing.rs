//! What people do to keys, seeds and shares when they type them, and what becomes of it.

use mmh_core::ErrorKind;
use mmh_crypto::age::{Identity, Recipient};
use mmh_crypto::seed::{Scope, Seed, SeedKey};
use mmh_crypto::sign::{PublicKey, Signer, composite};
use mmh_crypto::testing::Counter;
use mmh_crypto::{ReadKey, RootSeed, Sealer, Secret, share};
use proptest::prelude::*;

const LETTERS: &[u8] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

fn seed() -> Seed {
    Seed {
        key: SeedKey::Read(ReadKey::from_secret(Secret::from_bytes(&[0x5a; 32]))),
        scope: Scope::Repository,
        state: None,
        hints: vec!["https://example.org/models".to_owned()],
    }
}

/// Two neighbours exchanged are two wrong characters at most.
#[test]
fn exchanged_neighbours_in_a_seed_are_put_right() {
    let text = seed().to_text().unwrap();
    for at in 0..text.len() - 1 {
        let mut typed = text.as_bytes().to_vec();
        typed.swap(at, at + 1);
        let parsed = Seed::parse(&String::from_utf8(typed).unwrap()).unwrap();
        assert_eq!((parsed.seed, parsed.text), (seed(), text.clone()), "{at}");
        assert!([0, 2].contains(&parsed.corrected.len()));
    }
}

/// A character left out or typed twice moves all that follow: that is more than four errors,
/// unless it happens within the last four characters, and never another seed.
#[test]
fn left_out_and_doubled_characters_are_not_taken_for_another_seed() {
    let text = seed().to_text().unwrap();
    for at in 0..text.len() {
        let (before, after) = text.split_at(at);
        for typed in [
            format!("{before}{}", &after[1..]),
            format!("{before}{}{after}", &after[..1]),
        ] {
            match Seed::parse(&typed) {
                Ok(parsed) => assert_eq!(parsed.seed, seed(), "{at}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid, "{at}"),
            }
        }
    }
}

/// Lines read in the wrong order, or one of them twice.
#[test]
fn exchanged_lines_of_a_seed_are_refused() {
    let text = seed().to_text().unwrap();
    let lines: Vec<&str> = (0..text.len())
        .step_by(24)
        .map(|at| &text[at..text.len().min(at + 24)])
        .collect();
    for a in 0..lines.len() {
        for b in 0..a {
            let mut typed = lines.clone();
            typed.swap(a, b);
            assert!(Seed::parse(&typed.join("\n")).is_err(), "{a} {b}");
            typed[b] = typed[a];
            assert!(Seed::parse(&typed.join("\n")).is_err(), "{a} twice");
        }
    }
}

/// Recipients and identities are not corrected, but no single wrong letter goes unnoticed.
#[test]
fn a_wrong_letter_in_an_age_key_is_noticed() {
    let identity = Identity::generate_x25519(&Counter::new(1)).unwrap();
    let recipient = identity.recipient().unwrap().to_string();
    let secret = identity.to_secret_text().unwrap();
    for letter in LETTERS {
        for at in 4..recipient.len() {
            let mut typed = recipient.as_bytes().to_vec();
            if typed[at] != *letter {
                typed[at] = *letter;
                let typed = String::from_utf8(typed).unwrap();
                assert!(typed.parse::<Recipient>().is_err(), "{typed}");
            }
        }
        let letter = letter.to_ascii_uppercase();
        for at in 16..secret.len() {
            let mut typed = secret.as_bytes().to_vec();
            if typed[at] != letter {
                typed[at] = letter;
                let typed = String::from_utf8(typed).unwrap();
                assert!(typed.parse::<Identity>().is_err(), "{at}");
            }
        }
    }
}

/// A misspelt word is named by its place, and not by itself: it may be almost a secret.
#[test]
fn a_misspelt_word_is_named_by_its_place() {
    let shares = share::split(&[3; 32], (2, 3), "", &Counter::new(2)).unwrap();
    let words: Vec<&str> = shares[0].split(' ').collect();
    for at in 0..words.len() {
        let mut typed = words.clone();
        typed[at] = "mispelt";
        let error = share::combine(&[&typed.join(" "), &shares[1]], "").unwrap_err();
        let message = error.to_string();
        assert!(message.contains(&format!("word {} ", at + 1)), "{message}");
        assert!(!message.contains("mispelt"), "{message}");
    }
}

/// Keys may be handed to the threads of a pool.
#[test]
fn keys_are_shared_between_threads() {
    fn assert_shared<T: Send + Sync>() {}
    assert_shared::<RootSeed>();
    assert_shared::<ReadKey>();
    assert_shared::<Sealer>();
    assert_shared::<Identity>();
    assert_shared::<Recipient>();
    assert_shared::<Seed>();
    assert_shared::<PublicKey>();
    assert_shared::<composite::SigningKey>();
    let key = composite::SigningKey::from_seed(Secret::from_bytes(&[1; 64]));
    let signatures: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| key.sign(b"c", b"m")))
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join().unwrap());
        joined.map(Result::unwrap).collect()
    });
    assert!(signatures.windows(2).all(|pair| pair[0] == pair[1]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_age_key_comes_back_from_its_text(bytes in any::<[u8; 32]>(), is_hybrid: bool) {
        let secret = Secret::from_bytes(&bytes);
        let identity = if is_hybrid {
            Identity::Hybrid(mmh_crypto::xwing::SecretKey::from_secret(secret))
        } else {
            Identity::X25519(secret)
        };
        let text = identity.to_secret_text().unwrap();
        let again: Identity = text.parse().unwrap();
        prop_assert_eq!(again.to_secret_text().unwrap(), text);
        let recipient = identity.recipient().unwrap().to_string();
        prop_assert_eq!(again.recipient().unwrap().to_string(), recipient.clone());
        let parsed: Recipient = recipient.parse().unwrap();
        prop_assert_eq!(parsed.to_string(), recipient);
    }
}
