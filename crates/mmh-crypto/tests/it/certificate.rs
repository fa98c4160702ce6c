//! Certificates say what a root said, within their limits, and nothing after a changed byte.

use std::sync::LazyLock;

use mmh_core::ErrorKind;
use mmh_crypto::sign::certificate::{PURPOSE_SNAPSHOT, fuzz_certificate, is_pem};
use mmh_crypto::sign::{Certificate, Objection, Signer, Terms, composite, root};
use mmh_crypto::{Error, Secret};
use proptest::prelude::*;

fn root_of(byte: u8) -> root::SigningKey {
    root::SigningKey::from_seed(Secret::from_bytes(&[byte; 48]))
}

fn daily() -> composite::SigningKey {
    composite::SigningKey::from_seed(Secret::from_bytes(&[2; 64]))
}

fn terms() -> Terms {
    Terms {
        key: daily().public_key(),
        names: ["acme/*", "datasets/squad"]
            .map(|text| text.parse().expect("a pattern"))
            .into(),
        purposes: vec![PURPOSE_SNAPSHOT.to_owned()],
        not_before_ms: 1_000,
        not_after_ms: 2_000,
    }
}

/// Made once: a root takes its time.
static MADE: LazyLock<(root::SigningKey, Certificate)> = LazyLock::new(|| {
    let root = root_of(1);
    let made = Certificate::issue(&root, terms()).expect("good terms");
    (root, made)
});

/// The encoding is part of the format: these bytes must never change.
#[test]
fn the_golden_certificate_is_made_again_and_verifies() {
    let golden = include_bytes!("../../testdata/certificate.cbor");
    let (root, made) = &*MADE;
    assert!(made.to_bytes() == golden, "another encoding");
    let read = Certificate::from_bytes(golden).unwrap();
    assert_eq!(*read.verify(&root.public_key()).unwrap(), terms());
    assert_eq!(read.issuer(), root.public_key().id());
}

#[test]
fn certificates_are_carried_as_text() {
    let (root, made) = &*MADE;
    let text = made.to_pem();
    assert!(is_pem(&text) && !is_pem("-----BEGIN X-----"));
    let read = Certificate::from_pem(&text).unwrap();
    assert_eq!((&read, read.claims()), (made, &terms()));
    read.verify(&root.public_key()).unwrap();
    assert!(Certificate::from_pem(&text[1..]).is_err());
}

/// For other names, at other times and for other purposes a certificate is worth nothing.
#[test]
fn terms_have_limits() {
    let name = |text: &str| text.parse().unwrap();
    let terms = terms();
    for now in [1_000, 2_000] {
        assert_eq!(terms.objection(&name("acme/m"), now), None);
    }
    assert_eq!(terms.objection(&name("datasets/squad"), 1_500), None);
    let early = terms.objection(&name("acme/m"), 999);
    assert_eq!(early, Some(Objection::Early(1_000)));
    let late = terms.objection(&name("acme/m"), 2_001);
    assert_eq!(late, Some(Objection::Expired(2_000)));
    let elsewhere = terms.objection(&name("other/m"), 1_500);
    assert_eq!(elsewhere, Some(Objection::Elsewhere));
    let other = Terms {
        purposes: vec!["baking".to_owned()],
        ..terms
    };
    let objection = other.objection(&name("acme/m"), 1_500);
    assert_eq!(objection, Some(Objection::Elsewhere));
}

#[test]
fn only_roots_certify_and_only_composite_keys_are_certified() {
    let refused = |issuer: &dyn Signer, terms: Terms| {
        let error = Certificate::issue(issuer, terms).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    };
    refused(&daily(), terms());
    /// Says that it is a root, and signs in no time.
    #[derive(Debug)]
    struct Quick(root::SigningKey);
    impl Signer for Quick {
        fn public_key(&self) -> mmh_crypto::sign::PublicKey {
            self.0.public_key()
        }
        fn sign(&self, _context: &[u8], _message: &[u8]) -> Result<Vec<u8>, Error> {
            Ok(vec![0; 7])
        }
    }
    let root = Quick(root_of(1));
    let changes: [fn(&mut Terms); 5] = [
        |t| t.names.clear(),
        |t| t.purposes.clear(),
        |t| t.names = vec!["*".parse().unwrap(); 65],
        |t| t.purposes.push("x".repeat(256)),
        |t| t.not_before_ms = 2_001,
    ];
    for change in changes {
        let mut bad = terms();
        change(&mut bad);
        refused(&root, bad);
    }
    let own = Terms {
        key: root.public_key(),
        ..terms()
    };
    refused(&root, own);
    // Nonsense that is well formed is not believed.
    let made = Certificate::issue(&root, terms()).unwrap();
    let error = made.verify(&root.public_key()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn another_root_or_a_changed_byte_is_refused() {
    let (root, made) = &*MADE;
    let error = made.verify(&root_of(3).public_key()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    let bytes = made.to_bytes();
    let public = root.public_key();
    for at in (0..bytes.len()).step_by(bytes.len() / 400 + 1) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let read = Certificate::from_bytes(&changed);
        let verified = read.and_then(|read| read.verify(&public).cloned());
        assert!(verified.is_err(), "byte {at}");
        assert!(Certificate::from_bytes(&bytes[..at]).is_err(), "cut {at}");
    }
}

proptest! {
    #[test]
    fn noise_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        fuzz_certificate(&bytes);
        prop_assert!(Certificate::from_bytes(&bytes).is_err());
    }
}
