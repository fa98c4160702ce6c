//! What this crate stands on, against Wycheproof's vectors: an update of a dependency that computes
//! something else, or accepts what it must refuse, does not get past here.

use ml_kem::kem::{Decapsulate, KeyExport};
use ring::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use ring::{hmac, pbkdf2};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::hex;

/// One vector.
struct Vector(Value);

impl Vector {
    /// A field of bytes; none is empty bytes.
    fn bytes(&self, name: &str) -> Vec<u8> {
        hex(self.0[name].as_str().unwrap_or_default())
    }

    fn number(&self, name: &str) -> u64 {
        self.0[name].as_u64().expect("a number")
    }

    /// Whether the vector must be accepted.
    fn is_valid(&self) -> bool {
        self.0["valid"].as_bool().expect("a verdict")
    }

    fn id(&self) -> u64 {
        self.number("id")
    }
}

/// The vectors of one algorithm, of which there must be `count`.
fn vectors(algorithm: &str, count: usize) -> Vec<Vector> {
    let text = include_str!("../../testdata/wycheproof/vectors.json");
    let all: Value = serde_json::from_str(text).expect("JSON");
    let found = all["vectors"][algorithm].as_array().expect("a list");
    assert_eq!(found.len(), count, "{algorithm}");
    found.iter().cloned().map(Vector).collect()
}

/// Sealing gives the vector, opening gives it back; what is invalid does not open.
fn check_aead(name: &str, algorithm: &'static Algorithm, count: usize) {
    for vector in vectors(name, count) {
        let key = UnboundKey::new(algorithm, &vector.bytes("key")).expect("32 bytes");
        let key = LessSafeKey::new(key);
        let nonce = || {
            let nonce: [u8; 12] = vector.bytes("iv").try_into().expect("12 bytes");
            Nonce::assume_unique_for_key(nonce)
        };
        let data = vector.bytes("aad");
        let message = vector.bytes("msg");
        let mut sealed = [vector.bytes("ct"), vector.bytes("tag")].concat();
        let is_right = {
            let mut ours = message.clone();
            key.seal_in_place_append_tag(nonce(), Aad::from(&data), &mut ours)
                .expect("short");
            ours == sealed
        };
        assert_eq!(is_right, vector.is_valid(), "{name} {}", vector.id());
        let opened = key.open_in_place(nonce(), Aad::from(&data), &mut sealed);
        match opened {
            Ok(opened) => {
                assert!(vector.is_valid(), "{name} {} opened", vector.id());
                assert_eq!(opened, message);
            }
            Err(_) => assert!(!vector.is_valid(), "{name} {} did not open", vector.id()),
        }
    }
}

#[test]
fn aes_256_gcm() {
    check_aead("aes-256-gcm", &AES_256_GCM, 10);
}

#[test]
fn chacha20_poly1305() {
    check_aead("chacha20-poly1305", &CHACHA20_POLY1305, 15);
}

/// Points on the twist, not canonical and of low order among them. The last give zero, which the
/// crate refuses: see the tests of X-Wing and of key slots.
#[test]
fn x25519() {
    let (mut n_zero, mut n_other) = (0, 0);
    for vector in vectors("x25519", 40) {
        let secret: [u8; 32] = vector.bytes("private").try_into().unwrap();
        let public: [u8; 32] = vector.bytes("public").try_into().unwrap();
        let shared = x25519_dalek::x25519(secret, public);
        assert_eq!(shared.as_slice(), vector.bytes("shared"), "{}", vector.id());
        let secret = x25519_dalek::StaticSecret::from(secret);
        let agreed = secret.diffie_hellman(&x25519_dalek::PublicKey::from(public));
        assert_eq!(
            agreed.was_contributory(),
            shared != [0; 32],
            "{}",
            vector.id()
        );
        match shared {
            [0, rest @ ..] if rest == [0; 31] => n_zero += 1,
            _ => n_other += 1,
        }
    }
    assert!(
        n_zero > 0 && n_other > 20,
        "both kinds: {n_zero}, {n_other}"
    );
}

fn check_signatures(
    name: &str,
    key_field: &str,
    algorithm: &'static dyn VerificationAlgorithm,
    count: usize,
) {
    let mut n_valid = 0;
    for vector in vectors(name, count) {
        let key = UnparsedPublicKey::new(algorithm, vector.bytes(key_field));
        let verified = key.verify(&vector.bytes("msg"), &vector.bytes("sig"));
        assert_eq!(
            verified.is_ok(),
            vector.is_valid(),
            "{name} {}",
            vector.id()
        );
        n_valid += usize::from(verified.is_ok());
    }
    assert!(
        0 < n_valid && n_valid < count,
        "both kinds: {n_valid} of {count}"
    );
}

/// Malleable, truncated and altered signatures among them.
#[test]
fn ed25519() {
    check_signatures("ed25519", "pk", &ED25519, 28);
}

/// Every way to misspell a signature in DER among them.
#[test]
fn ecdsa_p256() {
    check_signatures("ecdsa-p256", "uncompressed", &ECDSA_P256_SHA256_ASN1, 60);
}

#[test]
fn hmac_sha256() {
    for vector in vectors("hmac-sha256", 6) {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &vector.bytes("key"));
        let (message, tag) = (vector.bytes("msg"), vector.bytes("tag"));
        let verified = hmac::verify(&key, &message, &tag);
        assert_eq!(verified.is_ok(), vector.is_valid(), "{}", vector.id());
        let is_right = hmac::sign(&key, &message).as_ref() == tag;
        assert_eq!(is_right, vector.is_valid(), "{}", vector.id());
    }
}

#[test]
fn pbkdf2_hmac_sha256() {
    for vector in vectors("pbkdf2", 12) {
        let iterations = u32::try_from(vector.number("iterationCount")).unwrap();
        let mut derived = vec![0; usize::try_from(vector.number("dkLen")).unwrap()];
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            iterations.try_into().unwrap(),
            &vector.bytes("salt"),
            &vector.bytes("password"),
            &mut derived,
        );
        assert_eq!(derived, vector.bytes("dk"), "{}", vector.id());
    }
}

/// Keys from seeds, and shared secrets from ciphertexts; a ciphertext of a wrong length is refused.
#[test]
fn ml_kem_768() {
    for vector in vectors("ml-kem-768", 10) {
        let seed: Result<[u8; 64], _> = vector.bytes("seed").try_into();
        let ciphertext = vector.bytes("c");
        let Ok(seed) = seed else {
            assert!(
                !vector.is_valid(),
                "{}: a seed of another length",
                vector.id()
            );
            continue;
        };
        let key = ml_kem::DecapsulationKey768::from_seed(seed.into());
        let shared = key.decapsulate_slice(&ciphertext);
        assert_eq!(shared.is_ok(), vector.is_valid(), "{}", vector.id());
        if let Ok(shared) = shared {
            assert_eq!(shared[..], vector.bytes("K"), "{}", vector.id());
            let public = key.encapsulation_key().to_bytes();
            assert_eq!(Sha256::digest(public).to_vec(), vector.bytes("ek"));
        }
    }
}

/// The official vectors of BLAKE3 for no input and one byte: hash, keyed hash, derived key.
#[test]
fn blake3_in_its_three_modes() {
    let key = b"whats the Elvish word for friend";
    let context = "BLAKE3 2019-12-27 16:29:52 test vectors context";
    for (input, hash, keyed, derived) in [
        (
            &[][..],
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
            "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26",
            "2cc39783c223154fea8dfb7c1b1660f2ac2dcbd1c1de8277b0b0dd39b7e50d7d",
        ),
        (
            &[0],
            "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
            "6d7878dfff2f485635d39013278ae14f1454b8c0a3a2d34bc1ab38228a80c95b",
            "b3e2e340a117a499c6cf2398a19ee0d29cca2bb7404c73063382693bf66cb06c",
        ),
    ] {
        assert_eq!(blake3::hash(input).as_bytes()[..], hex(hash));
        assert_eq!(blake3::keyed_hash(key, input).as_bytes()[..], hex(keyed));
        assert_eq!(blake3::derive_key(context, input)[..], hex(derived));
    }
}
