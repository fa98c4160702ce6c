//! Shares are SLIP-39: the reference implementation's vectors, and any k of n.

use mmh_core::ErrorKind;
use mmh_crypto::share::{self, fuzz_combine};
use mmh_crypto::testing::{Counter, Dry};
use proptest::prelude::*;

use crate::hex;

/// All 45: combined they give the secret, or are refused where the vector's secret is empty.
#[test]
fn the_reference_vectors_pass() {
    let text = include_str!("../../testdata/slip39/vectors.json");
    let vectors: Vec<(String, Vec<String>, String, String)> =
        serde_json::from_str(text).expect("the vectors");
    assert_eq!(vectors.len(), 45);
    for (name, mnemonics, secret, _) in vectors {
        let mnemonics: Vec<&str> = mnemonics.iter().map(String::as_str).collect();
        match share::combine(&mnemonics, "TREZOR") {
            Ok(combined) => assert_eq!(combined.as_slice(), hex(&secret), "{name}"),
            Err(error) => {
                assert!(secret.is_empty(), "{name}: {error}");
                assert_eq!(error.kind(), ErrorKind::Invalid, "{name}");
            }
        }
    }
}

fn shares(threshold: u8, count: u8) -> Vec<String> {
    let words = share::split(&[7; 32], (threshold, count), "pass", &Counter::new(1));
    let words = words.expect("possible numbers");
    words.iter().map(|words| words.to_string()).collect()
}

/// What the issue asks: three of five.
#[test]
fn any_three_of_five_combine_and_no_two() {
    let shares = shares(3, 5);
    for a in 0..5 {
        for b in (0..5).filter(|&b| b != a) {
            let two = [shares[a].as_str(), shares[b].as_str()];
            let error = share::combine(&two, "pass").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            for c in (0..5).filter(|c| ![a, b].contains(c)) {
                let three = [two[0], two[1], shares[c].as_str()];
                assert_eq!(*share::combine(&three, "pass").unwrap(), [7; 32]);
            }
        }
    }
}

#[test]
fn a_wrong_passphrase_gives_another_secret() {
    let shares = shares(2, 2);
    let both: Vec<&str> = shares.iter().map(String::as_str).collect();
    let other = share::combine(&both, "Pass").unwrap();
    assert_ne!(*other, [7; 32]);
    assert_eq!(other.len(), 32);
}

#[test]
fn mismatched_shares_are_refused() {
    let ours = shares(2, 3);
    let theirs = share::split(&[7; 32], (2, 3), "pass", &Counter::new(2)).unwrap();
    let short = share::split(&[7; 16], (2, 3), "pass", &Counter::new(1)).unwrap();
    for set in [
        vec![],
        vec![ours[0].as_str()],
        vec![&ours[0], &ours[0]],
        vec![&ours[0], &theirs[1]],
        vec![&ours[0], &short[1]],
        vec![&ours[0], &ours[1], &ours[2]],
        vec![&ours[0], ""],
        vec![&ours[0], "academic"],
        vec![&ours[0]; 300],
    ] {
        let error = share::combine(&set, "pass").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

#[test]
fn what_cannot_be_split_is_refused() {
    for (len, threshold, count, passphrase) in [
        (0, 2, 3, ""),
        (14, 2, 3, ""),
        (33, 2, 3, ""),
        (66, 2, 3, ""),
        (32, 0, 3, ""),
        (32, 1, 3, ""),
        (32, 4, 3, ""),
        (32, 2, 17, ""),
        (32, 2, 3, "naïve"),
        (32, 2, 3, "line\nbreak"),
    ] {
        let error = share::split(
            &vec![1; len],
            (threshold, count),
            passphrase,
            &Counter::new(1),
        );
        assert_eq!(
            error.unwrap_err().kind(),
            ErrorKind::Invalid,
            "{len} {threshold} {count}"
        );
    }
    let error = share::split(&[1; 32], (2, 3), "", &Dry).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(share::combine(&["academic"], "naïve").is_err());
}

/// Shares of the same secret under the same passphrase have nothing in common.
#[test]
fn shares_are_fresh() {
    let entropy = Counter::new(3);
    let [a, b] = [(); 2].map(|()| share::split(&[7; 32], (2, 2), "", &entropy).unwrap());
    let alike = a[0].split(' ').zip(b[0].split(' ')).filter(|(x, y)| x == y);
    assert!(alike.count() < 8);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_secret_and_numbers_round_trip(
        half_len in 8usize..=32,
        threshold in 2u8..=16,
        more in 0u8..=14,
        start in any::<u8>(),
        passphrase in "[ -~]{0,20}",
    ) {
        let secret: Vec<u8> = (start..=255).cycle().take(2 * half_len).collect();
        let count = (threshold + more).min(16);
        let shares = share::split(&secret, (threshold, count), &passphrase, &Counter::new(9)).unwrap();
        let last: Vec<&str> = shares.iter().rev().map(|s| s.as_str()).collect();
        let some = &last[..usize::from(threshold)];
        let combined = share::combine(some, &passphrase).unwrap();
        prop_assert_eq!(combined.as_slice(), secret.as_slice());
    }

    #[test]
    fn hostile_words_are_refused(
        text in "((academic|acid|zero|shadow|pistol|earth)[ \n]){0,70}",
        any_text in ".{0,80}",
    ) {
        fuzz_combine(&text);
        fuzz_combine(&any_text);
    }
}
