//! X-Wing gives the draft's vectors, and nothing hostile gets past it.

use std::io;
use std::sync::Mutex;

use mmh_core::ErrorKind;
use mmh_core::ports::Entropy;
use mmh_crypto::Secret;
use mmh_crypto::testing::{Counter, Dry};
use mmh_crypto::xwing::{ENCAPSULATED_LEN, PUBLIC_KEY_LEN, PublicKey, SecretKey};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use crate::hex;

/// Gives the bytes that a vector prescribes, in order, and then fails.
#[derive(Debug)]
struct Script(Mutex<Vec<u8>>);

impl Entropy for Script {
    fn fill(&self, out: &mut [u8]) -> io::Result<()> {
        let mut rest = self.0.lock().expect("one thread");
        if rest.len() < out.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        out.copy_from_slice(&rest[..out.len()]);
        rest.drain(..out.len());
        Ok(())
    }
}

fn secret_key(seed: &[u8]) -> SecretKey {
    SecretKey::from_secret(Secret::from_bytes(seed.try_into().expect("32 bytes")))
}

fn sealed_to(key: &SecretKey, info: &[u8]) -> ([u8; ENCAPSULATED_LEN], Vec<u8>) {
    let (encapsulated, sealed) = key
        .public_key()
        .seal(info, b"sixteen byte key", &Counter::new(1))
        .expect("a good key");
    (encapsulated.try_into().expect("1,120 bytes"), sealed)
}

/// The three vectors of draft-connolly-cfrg-xwing-kem, appendix C: seed, encapsulation seed,
/// SHA-256 of the public key and of the ciphertext.
#[test]
fn keys_and_ciphertexts_are_those_of_the_draft() {
    for [seed, eseed, public, ciphertext] in [
        [
            "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26",
            "3cb1eea988004b93103cfb0aeefd2a686e01fa4a58e8a3639ca8a1e3f9ae57e2\
             35b8cc873c23dc62b8d260169afa2f75ab916a58d974918835d25e6a435085b2",
            "2e816deebcd76c5c80d0cd2d174478871658e8e2ff42bc9d4a6e486372e856bb",
            "17cd532d657e44c897ca6583e548a5424fc70bf54f99515a4d2bcf99e3469f33",
        ],
        [
            "badfd6dfaac359a5efbb7bcc4b59d538df9a04302e10c8bc1cbf1a0b3a5120ea",
            "17cda7cfad765f5623474d368ccca8af0007cd9f5e4c849f167a580b14aabdef\
             aee7eef47cb0fca9767be1fda69419dfb927e9df07348b196691abaeb580b32d",
            "c42ba5f8430d7d2c83739338203819f090e8303ce9c8b02107c272bfa5376916",
            "1661ea86d608a1924ba30840cb0a65f13ae051e3aec9cf0f064efc0bc92f2154",
        ],
        [
            "ef58538b8d23f87732ea63b02b4fa0f4873360e2841928cd60dd4cee8cc0d4c9",
            "22a96188d032675c8ac850933c7aff1533b94c834adbb69c6115bad4692d8619\
             f90b0cdf8a7b9c264029ac185b70b83f2801f2f4b3f70c593ea3aeeb613a7f1b",
            "6b080d6b84f095342092fa7a22423e58bd681397ad0ef00eac92bd254db4fa95",
            "d3ca5578500344b5896cffc4fd740c9311946b82951df155e6fd86a7966b43c6",
        ],
    ] {
        let key = secret_key(&hex(seed));
        let bytes = key.public_key().to_bytes();
        assert_eq!(Sha256::digest(&bytes).to_vec(), hex(public));
        let script = Script(Mutex::new(hex(eseed)));
        let (encapsulated, sealed) = key.public_key().seal(b"info", b"key", &script).unwrap();
        assert_eq!(Sha256::digest(&encapsulated).to_vec(), hex(ciphertext));
        let encapsulated = encapsulated.try_into().unwrap();
        let opened = key.open(b"info", &encapsulated, &sealed).unwrap();
        assert_eq!(opened.as_deref(), Some(&b"key"[..]));
    }
}

#[test]
fn another_key_info_or_ciphertext_opens_nothing() {
    let (alice, bob) = (secret_key(&[1; 32]), secret_key(&[2; 32]));
    let (encapsulated, sealed) = sealed_to(&alice, b"info");
    assert!(
        alice
            .open(b"info", &encapsulated, &sealed)
            .unwrap()
            .is_some()
    );
    assert!(bob.open(b"info", &encapsulated, &sealed).unwrap().is_none());
    assert!(
        alice
            .open(b"other", &encapsulated, &sealed)
            .unwrap()
            .is_none()
    );
    for cut in 0..sealed.len() {
        let opened = alice.open(b"info", &encapsulated, &sealed[..cut]).unwrap();
        assert!(opened.is_none(), "{cut}");
    }
}

/// A changed encapsulated key gives another shared secret, in either part: ML-KEM rejects
/// implicitly, and the combiner hashes the X25519 share.
#[test]
fn every_part_of_the_encapsulated_key_counts() {
    let key = secret_key(&[1; 32]);
    let (encapsulated, sealed) = sealed_to(&key, b"info");
    for at in (0..ENCAPSULATED_LEN).step_by(37).chain([1087, 1088, 1119]) {
        let mut changed = encapsulated;
        changed[at] ^= 1;
        assert!(
            key.open(b"info", &changed, &sealed).unwrap().is_none(),
            "{at}"
        );
    }
    // X25519 ignores the top bit of a point; the combiner does not.
    let mut changed = encapsulated;
    changed[1119] ^= 0x80;
    assert!(key.open(b"info", &changed, &sealed).unwrap().is_none());
}

#[test]
fn shares_of_low_order_are_refused() {
    let key = secret_key(&[1; 32]);
    let (mut encapsulated, sealed) = sealed_to(&key, b"info");
    for point in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ] {
        encapsulated[1088..].copy_from_slice(&hex(point));
        let error = key.open(b"info", &encapsulated, &sealed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{point}");
    }
}

#[test]
fn public_keys_are_checked() {
    let good = secret_key(&[1; 32]).public_key().to_bytes();
    assert_eq!(good.len(), PUBLIC_KEY_LEN);
    assert_eq!(PublicKey::from_bytes(&good).unwrap().to_bytes(), good);
    for len in [0, 1, 32, 1184, PUBLIC_KEY_LEN - 1] {
        let error = PublicKey::from_bytes(&good[..len]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{len}");
    }
    assert!(PublicKey::from_bytes(&[&good[..], &[0]].concat()).is_err());
    // Coefficients have twelve bits and must be below 3,329.
    for (low, high) in [(0xff, 0x0f), (0x01, 0x0d)] {
        let mut bad = good.clone();
        bad[0] = low;
        bad[1] = bad[1] & 0xf0 | high;
        assert!(PublicKey::from_bytes(&bad).is_err(), "{high:x}{low:x}");
    }
}

#[test]
fn a_dry_generator_stops_everything() {
    let unavailable = |kind| assert_eq!(kind, ErrorKind::Unavailable);
    unavailable(SecretKey::generate(&Dry).unwrap_err().kind());
    let public = secret_key(&[1; 32]).public_key();
    unavailable(public.seal(b"", b"", &Dry).unwrap_err().kind());
    // Enough for ML-KEM's message, not for the X25519 share.
    let half = Script(Mutex::new(vec![1; 32]));
    unavailable(public.seal(b"", b"", &half).unwrap_err().kind());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn seals_and_opens(
        seed in any::<[u8; 32]>(),
        info in proptest::collection::vec(any::<u8>(), 0..80),
        plaintext in proptest::collection::vec(any::<u8>(), 0..80),
        rng_seed in any::<u32>(),
    ) {
        let key = secret_key(&seed);
        let entropy = Counter::new(rng_seed.into());
        let (encapsulated, sealed) = key.public_key().seal(&info, &plaintext, &entropy).unwrap();
        let encapsulated = encapsulated.try_into().unwrap();
        prop_assert_eq!(key.open(&info, &encapsulated, &sealed).unwrap(), Some(plaintext));
    }
}
