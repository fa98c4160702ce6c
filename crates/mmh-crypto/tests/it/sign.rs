//! Signatures give the published vectors, and verify for what was signed and nothing else.

use std::collections::HashMap;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mmh_core::object::{Record, RecordTag};
use mmh_core::{Digest, ErrorKind, ObjectId};
use mmh_crypto::Secret;
use mmh_crypto::sign::{
    Algorithm, KeyId, PublicKey, Signer, composite, fuzz_sign, pae, root, sign_record,
    verify_record,
};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use crate::hex;

fn composite_key(byte: u8) -> composite::SigningKey {
    composite::SigningKey::from_seed(Secret::from_bytes(&[byte; 64]))
}

/// Made once: a root's tree takes its time.
fn root_key() -> &'static root::SigningKey {
    static KEY: LazyLock<root::SigningKey> = LazyLock::new(|| {
        let seed: Vec<u8> = (0..48).collect();
        let seed = seed.as_slice().try_into().expect("48 bytes");
        root::SigningKey::from_seed(Secret::from_bytes(seed))
    });
    &KEY
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// The working group's vector: with and without context, and the key from its seeds.
#[test]
fn the_composite_vector_verifies() {
    let text = include_str!("../../testdata/composite/mldsa65-ed25519.txt");
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let fields: HashMap<&str, Vec<u8>> = lines
        .filter_map(|(name, value)| Some((name, STANDARD.decode(value).ok()?)))
        .collect();
    let key = composite::VerifyingKey::from_bytes(&fields["pk"]).unwrap();
    let (m, ctx) = (&fields["m"], &fields["ctx"]);
    key.verify(b"", m, &fields["s"]).unwrap();
    key.verify(ctx, m, &fields["sWithContext"]).unwrap();
    for (ctx, m, s) in [
        (&b""[..], m, "sWithContext"),
        (ctx, m, "s"),
        (b"", ctx, "s"),
    ] {
        let error = key.verify(ctx, m, &fields[s]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
    let seed = fields["sk"].as_slice().try_into().unwrap();
    let secret = composite::SigningKey::from_seed(Secret::from_bytes(seed));
    assert_eq!(secret.public_key(), PublicKey::Composite(key.clone()));
    // Ours is deterministic, the vector's is not; both verify.
    let ours = secret.sign(ctx, m).unwrap();
    key.verify(ctx, m, &ours).unwrap();
}

/// Each half is there because the other may fall: neither may be left out or replaced.
#[test]
fn both_halves_of_a_composite_must_be_right() {
    let (alice, bob) = (composite_key(1), composite_key(2));
    let (a, b) = (
        alice.sign(b"c", b"m").unwrap(),
        bob.sign(b"c", b"m").unwrap(),
    );
    let public = alice.public_key();
    public.verify(b"c", b"m", &a).unwrap();
    let split = composite::SIGNATURE_LEN - 64;
    for forged in [
        [&a[..split], &b[split..]].concat(),
        [&b[..split], &a[split..]].concat(),
        [&a[..split], &[0; 64]].concat(),
        [&vec![0; split][..], &a[split..]].concat(),
        b,
    ] {
        assert!(public.verify(b"c", b"m", &forged).is_err());
    }
}

/// ML-DSA-65 as Wycheproof has it: signatures that take one to six rounds, and a signature that
/// noble-post-quantum 0.7.1 makes with a context. Deterministic, so their digests say all.
#[test]
fn ml_dsa_gives_the_signatures_of_others() {
    use ml_dsa::{MlDsa65, SigningKey};
    let key = SigningKey::<MlDsa65>::from_seed(&[0x2a; 32].into());
    for (first, digest) in [
        (
            0x07,
            "54dffec43b1410c8f11bd3f9534830dd2cb98fcd3809a2af3634a89d936954d9",
        ),
        (
            0x0f,
            "5627158fdfa74d6eee54bf2ae2f362257cca6f13f8e616de2714ddf1400a7e31",
        ),
        (
            0x01,
            "5e558b25ae2f5faed3c160835267448764534050312093c05c46084c92b1c2bf",
        ),
        (
            0x08,
            "d374ef3bfa5184fe05b40c2cbcb574eb564aeaad976c68317b082f91c972410b",
        ),
        (
            0x05,
            "b24ad2b44b4594641324b3b503eb28c01f82b2bef7dbe5d0c20104a137022b19",
        ),
        (
            0x2c,
            "2551eb35723254b4aea274ec377211b04e4d39ebc3f021fa8cd6ed599e6e0cc6",
        ),
    ] {
        let mut message = [0; 32];
        message[0] = first;
        let signature = key
            .expanded_key()
            .sign_deterministic(&message, b"")
            .unwrap();
        assert_eq!(sha256(&signature.encode()), digest, "{first:02x}");
    }
    let key = SigningKey::<MlDsa65>::from_seed(&[7; 32].into());
    let signature = key
        .expanded_key()
        .sign_deterministic(b"message", b"context")
        .unwrap();
    assert_eq!(
        sha256(&signature.encode()),
        "f01f1250a747a4e4e66d973ebee0c61688a5f5317b26901caf887379b821e43b"
    );
}

/// Key generation vectors of NIST's ACVP server, SLH-DSA-SHA2-128s, tests 1, 2 and 10.
#[test]
fn root_keys_are_those_of_nist() {
    for (sk_seed, sk_prf, pk_seed, root) in [
        (
            "AA9CC7DCA491FC86BCB15A709A15E9B3",
            "905C800B6E2FB9B54B6B050EE5E4DE9A",
            "FA5464D1C661FED38B2A51CA3EAE71BA",
            "CAE3D1865215E3D3850E8C1B8292BF42",
        ),
        (
            "6DA324B47C1D24DA378B55FCEA263FFD",
            "A361BFCBB9D323F810B0FFF854F22B89",
            "A2F150C9E9FE2DF741887FD9DE9C69B5",
            "AE2C1522FB1A5C903A719B01CAD2D67F",
        ),
        (
            "F686409BB2BEAB0BC3906D6B5411EAF0",
            "9AC51FF3F017D492247FF1C019FA9D72",
            "3150D34C0BC6A6D72CFB3B0D0315F2CA",
            "9D35B0C4E1F3C35312F2DF5225078DE3",
        ),
    ] {
        let seed = hex(&[sk_seed, sk_prf, pk_seed].concat());
        let seed = Secret::from_bytes(seed.as_slice().try_into().unwrap());
        let key = root::SigningKey::from_seed(seed).public_key();
        assert_eq!(key.to_bytes()[1..], hex(&[pk_seed, root].concat()));
    }
}

/// The same seed, message and context in noble-post-quantum 0.7.1 give these bytes.
#[test]
fn root_signatures_are_those_of_another_implementation() {
    let key = root_key();
    let public = key.public_key();
    assert_eq!(
        public.to_bytes()[17..],
        hex("990ce6298792b128846a8e4a3a68954c")
    );
    let signature = key.sign(b"context", b"message").unwrap();
    assert_eq!(
        sha256(&signature),
        "7a761609d23a469cf8ce2d35acc603177b7f083b748493561fe57fd34bc2a6c7"
    );
    public.verify(b"context", b"message", &signature).unwrap();
    for (context, message) in [(&b"contexT"[..], &b"message"[..]), (b"context", b"messagE")] {
        let error = public.verify(context, message, &signature).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
    for at in [0, 15, 16, 100, 3000, root::SIGNATURE_LEN - 1] {
        let mut changed = signature.clone();
        changed[at] ^= 1;
        assert!(
            public.verify(b"context", b"message", &changed).is_err(),
            "{at}"
        );
    }
}

#[test]
fn every_byte_of_a_composite_signature_counts() {
    let key = composite_key(3);
    let public = key.public_key();
    let signature = key.sign(b"c", b"m").unwrap();
    assert_eq!(signature.len(), composite::SIGNATURE_LEN);
    assert_eq!(signature, key.sign(b"c", b"m").unwrap(), "deterministic");
    for at in (0..signature.len())
        .step_by(61)
        .chain(signature.len() - 64..signature.len())
    {
        let mut changed = signature.clone();
        changed[at] ^= 1;
        let error = public.verify(b"c", b"m", &changed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{at}");
    }
    for len in [0, 1, 64, 3309, signature.len() - 1] {
        assert!(
            public.verify(b"c", b"m", &signature[..len]).is_err(),
            "{len}"
        );
    }
}

/// Under a key of small order one Ed25519 signature fits every message; such keys are refused.
#[test]
fn keys_of_small_order_are_refused() {
    let good = composite_key(3).public_key().to_bytes();
    for point in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        // Not on the curve at all.
        "0200000000000000000000000000000000000000000000000000000000000000",
    ] {
        let mut bytes = good.clone();
        bytes[1953..].copy_from_slice(&hex(point));
        let error = PublicKey::from_bytes(&bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{point}");
    }
}

#[test]
fn contexts_have_a_limit() {
    let key = composite_key(4);
    let signature = key.sign(&[1; 255], b"m").unwrap();
    key.public_key()
        .verify(&[1; 255], b"m", &signature)
        .unwrap();
    assert!(
        key.public_key()
            .verify(&[1; 254], b"m", &signature)
            .is_err()
    );
    for error in [
        key.sign(&[1; 256], b"m").unwrap_err(),
        key.public_key()
            .verify(&[1; 256], b"m", &signature)
            .unwrap_err(),
        root_key().sign(&[1; 256], b"m").unwrap_err(),
        root_key()
            .public_key()
            .verify(&[1; 256], b"m", b"")
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

#[test]
fn public_keys_name_their_algorithm() {
    for key in [composite_key(5).public_key(), root_key().public_key()] {
        let bytes = key.to_bytes();
        assert_eq!(PublicKey::from_bytes(&bytes).unwrap(), key);
        assert_eq!(key.id(), PublicKey::from_bytes(&bytes).unwrap().id());
        for cut in [0, 1, bytes.len() - 1] {
            let error = PublicKey::from_bytes(&bytes[..cut]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
        let name = key.algorithm().name();
        assert_eq!(name.parse::<Algorithm>().unwrap(), key.algorithm());
    }
    assert_ne!(
        composite_key(5).public_key().id(),
        composite_key(6).public_key().id()
    );
    for unknown in [0, 3, 255] {
        let error = PublicKey::from_bytes(&[unknown; 33]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
    let error = "MLDSA44-Ed25519-SHA512".parse::<Algorithm>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn secret_keys_keep_their_seed_and_show_only_their_id() {
    let (key, root) = (composite_key(8), root_key());
    assert_eq!(key.seed(), &Secret::from_bytes(&[8; 64]));
    assert_eq!(root.seed().expose()[47], 47);
    let id = key.public_key().id();
    assert_eq!(format!("{key:?}"), format!("composite::SigningKey({id})"));
    let id = root.public_key().id();
    assert_eq!(format!("{root:?}"), format!("root::SigningKey({id})"));
}

fn record() -> Record {
    Record {
        r#type: RecordTag::default(),
        subject: ObjectId::from_digest(Digest::of(b"subject")),
        payload_type: "application/vnd.in-toto+json".to_owned(),
        payload: b"{}".to_vec().into(),
        signatures: Vec::new(),
    }
}

/// The example of DSSE's protocol document.
#[test]
fn pre_authentication_encoding_is_that_of_dsse() {
    assert_eq!(
        pae("http://example.com/HelloWorld", b"hello world"),
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    );
    assert_ne!(pae("a", b"b c"), pae("a b", b"c"));
}

/// Several keys sign one record; who signs again replaces the own signature.
#[test]
fn records_are_signed_by_several_keys() {
    let (alice, bob) = (composite_key(1), root_key());
    let keys = [alice.public_key(), bob.public_key()];
    let mut signed = record();
    sign_record(&alice, None, &mut signed).unwrap();
    sign_record(bob, None, &mut signed).unwrap();
    for (signature, key) in signed.signatures.iter().zip(&keys) {
        verify_record(&signed, signature, key).unwrap();
        assert_eq!(signature.key_id.parse::<KeyId>().unwrap(), key.id());
    }
    // Each is by its own key.
    let crossed = verify_record(&signed, &signed.signatures[0], &keys[1]).unwrap_err();
    assert_eq!(crossed.kind(), ErrorKind::Corrupt);
    let before = signed.clone();
    sign_record(&alice, None, &mut signed).unwrap();
    assert_eq!(signed.signatures.len(), 2);
    assert_eq!(signed.signatures[1], before.signatures[0]);
}

#[test]
fn ids_of_keys_have_one_spelling() {
    let id = composite_key(1).public_key().id();
    assert_eq!(id.to_string().parse::<KeyId>().unwrap(), id);
    let text = id.to_string();
    for bad in [
        "",
        &text[1..],
        &text.to_uppercase(),
        &format!("+{}", &text[1..]),
    ] {
        assert!(bad.parse::<KeyId>().is_err(), "{bad}");
    }
}

#[test]
fn changed_records_are_refused() {
    let alice = composite_key(1);
    let key = alice.public_key();
    let mut signed = record();
    sign_record(&alice, None, &mut signed).unwrap();
    let changes: [fn(&mut Record); 5] = [
        |r| r.subject = ObjectId::from_digest(Digest::of(b"another")),
        |r| r.payload.push(b' '),
        |r| r.payload_type.push('x'),
        |r| r.signatures[0].algorithm = "SLH-DSA-SHA2-128s".to_owned(),
        |r| r.signatures[0].signature[0] ^= 1,
    ];
    for change in changes {
        let mut changed = signed.clone();
        change(&mut changed);
        let error = verify_record(&changed, &changed.signatures[0], &key).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn what_is_signed_verifies(
        seed in proptest::collection::vec(any::<u8>(), 64),
        context in proptest::collection::vec(any::<u8>(), 0..20),
        message in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let seed = seed.as_slice().try_into().unwrap();
        let key = composite::SigningKey::from_seed(Secret::from_bytes(seed));
        let signature = key.sign(&context, &message).unwrap();
        key.public_key().verify(&context, &message, &signature).unwrap();
        let longer = [&message[..], &[0]].concat();
        prop_assert!(key.public_key().verify(&context, &longer, &signature).is_err());
    }

    #[test]
    fn noise_does_not_verify(bytes in proptest::collection::vec(any::<u8>(), 0..9000)) {
        fuzz_sign(&bytes);
    }
}
