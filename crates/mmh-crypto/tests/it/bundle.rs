//! Bundles are those of model-signing: its own verifies here, ours verify there.

use mmh_core::ErrorKind;
use mmh_crypto::bundle::{self, Bundle, Resource, Statement, fuzz_bundle, p256};
use mmh_crypto::sign::{Signer as _, composite};
use mmh_crypto::{Error, Result, Secret};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

const KEY: &str = include_str!("../../testdata/bundle/key.pem");
const PUBLIC: &str = include_str!("../../testdata/bundle/public.pem");
const STOCK: &str = include_str!("../../testdata/bundle/stock.sig");

fn key() -> p256::SigningKey {
    p256::SigningKey::from_pem(KEY).expect("the test's key")
}

fn public() -> p256::VerifyingKey {
    p256::VerifyingKey::from_pem(PUBLIC).expect("the test's key")
}

fn second() -> composite::SigningKey {
    composite::SigningKey::from_seed(Secret::from_bytes(&[3; 64]))
}

fn resource(name: &str, content: &[u8]) -> Resource {
    Resource {
        name: name.to_owned(),
        sha256: Sha256::digest(content).into(),
    }
}

/// The model of the stock bundle.
fn statement() -> Statement {
    let resources = vec![resource("sub/b.bin", b"b\n"), resource("a.bin", b"a\n")];
    Statement::new("model", resources).expect("two files")
}

#[test]
fn a_bundle_of_the_stock_tool_verifies() {
    let bundle = Bundle::parse(STOCK).unwrap();
    let said = bundle.verify_p256(&public()).unwrap();
    assert_eq!(said.resources(), statement().resources());
    assert!(said.ignores(".git") && said.ignores(".git/config") && !said.ignores(".gitx"));
    // Nobody else signed it.
    let error = bundle.verify(&second().public_key()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
}

#[test]
fn both_signatures_of_ours_verify() {
    let text = bundle::sign(&statement(), &key(), Some(&second())).unwrap();
    let bundle = Bundle::parse(&text).unwrap();
    assert_eq!(bundle.verify_p256(&public()).unwrap(), statement());
    assert_eq!(bundle.verify(&second().public_key()).unwrap(), statement());
    let other = composite::SigningKey::from_seed(Secret::from_bytes(&[4; 64]));
    let error = bundle.verify(&other.public_key()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
}

/// Each byte of a bundle is part of what is signed, of a signature, or of JSON's form.
#[test]
fn flipped_bytes_do_not_verify_as_something_else() {
    let text = bundle::sign(&statement(), &key(), Some(&second())).unwrap();
    let step = text.len() / 700 + 1;
    for at in (0..text.len()).step_by(step) {
        for bit in [0, 1, 5] {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] ^= 1 << bit;
            let Ok(changed) = String::from_utf8(bytes) else {
                continue;
            };
            let Ok(bundle) = Bundle::parse(&changed) else {
                continue;
            };
            for verified in [
                bundle.verify_p256(&public()),
                bundle.verify(&second().public_key()),
            ] {
                match verified {
                    Ok(said) => assert_eq!(said, statement(), "{at}"),
                    Err(error) => assert_ne!(error.kind(), ErrorKind::Internal),
                }
            }
        }
    }
    for cut in (0..text.len()).step_by(step) {
        let error = Bundle::parse(&text[..cut]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

/// One half's signature must not serve for the other's, nor for another bundle.
#[test]
fn signatures_are_bound_to_their_payload() {
    let ours = bundle::sign(&statement(), &key(), Some(&second())).unwrap();
    let other = Statement::new("model", vec![resource("a.bin", b"evil")]).unwrap();
    let theirs = bundle::sign(&other, &key(), Some(&second())).unwrap();
    let mut ours: serde_json::Value = serde_json::from_str(&ours).unwrap();
    let theirs: serde_json::Value = serde_json::from_str(&theirs).unwrap();
    ours["dsseEnvelope"]["payload"] = theirs["dsseEnvelope"]["payload"].clone();
    let mixed = Bundle::parse(&ours.to_string()).unwrap();
    for error in [
        mixed.verify_p256(&public()).unwrap_err(),
        mixed.verify(&second().public_key()).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn other_versions_and_payloads_are_unsupported() {
    let text = bundle::sign(&statement(), &key(), None).unwrap();
    for (from, to) in [
        ("bundle.v0.3+json", "bundle.v0.9+json"),
        ("application/vnd.in-toto+json", "text/plain"),
    ] {
        let error = Bundle::parse(&text.replace(from, to)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{to}");
    }
    let many = text.replace(r#""signatures":["#, r#""signatures":[{"sig":""},"#);
    assert!(
        Bundle::parse(&many)
            .unwrap()
            .verify_p256(&public())
            .is_err()
    );
    let endless = format!(r#""signatures":[{}"#, r#"{"sig":""},"#.repeat(16));
    assert!(Bundle::parse(&text.replace(r#""signatures":["#, &endless)).is_err());
}

/// A key that signs whatever it is given, for statements that ours would not make.
fn signed(payload: &str) -> Result<Statement> {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use p256::Signer;
    let message = mmh_crypto::sign::pae("application/vnd.in-toto+json", payload.as_bytes());
    let text = serde_json::json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": { "publicKey": {} },
        "dsseEnvelope": {
            "payload": STANDARD.encode(payload),
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [{ "sig": STANDARD.encode(key().sign(&message)?) }],
        },
    });
    Bundle::parse(&text.to_string())?.verify_p256(&public())
}

/// Well signed nonsense is nonsense.
#[test]
fn statements_are_checked_though_signed() {
    let digest = |content: &[u8]| -> String {
        Sha256::digest(content)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect()
    };
    let a = digest(b"a\n");
    let root = digest(&crate::hex(&a));
    let good = format!(
        r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"name":"m","digest":{{"sha256":"{root}"}}}}],
        "predicateType":"https://model_signing/signature/v1.0","predicate":{{"serialization":{{"method":"files",
        "hash_type":"sha256"}},"resources":[{{"name":"a.bin","algorithm":"sha256","digest":"{a}"}}],"more":1}}}}"#
    );
    assert_eq!(
        signed(&good).unwrap().resources(),
        [resource("a.bin", b"a\n")]
    );
    for (from, to, kind) in [
        ("Statement/v1", "Statement/v2", ErrorKind::Unsupported),
        ("signature/v1.0", "signature/v2.0", ErrorKind::Unsupported),
        (
            r#""method":"files""#,
            r#""method":"shards""#,
            ErrorKind::Unsupported,
        ),
        (
            r#""algorithm":"sha256""#,
            r#""algorithm":"blake3""#,
            ErrorKind::Unsupported,
        ),
        (root.as_str(), a.as_str(), ErrorKind::Invalid),
        ("a.bin", "../a.bin", ErrorKind::Invalid),
        ("a.bin", "/etc/passwd", ErrorKind::Invalid),
        ("a.bin", "", ErrorKind::Invalid),
        (&a[..2], "+1", ErrorKind::Invalid),
        (
            r#""subject":["#,
            r#""subject":[{"name":"x","digest":{"sha256":""}},"#,
            ErrorKind::Invalid,
        ),
        ("resources", "res", ErrorKind::Invalid),
    ] {
        let bad = good.replacen(from, to, if from == &a[..2] { 9 } else { 1 });
        assert_ne!(bad, good, "{from}");
        let error = signed(&bad).unwrap_err();
        assert_eq!(error.kind(), kind, "{from} -> {to}: {error}");
    }
    assert!(signed("").is_err() && signed(&"[".repeat(100_000)).is_err());
}

#[test]
fn statements_without_sense_are_not_made() {
    for resources in [
        vec![],
        vec![resource("a", b""), resource("a", b"x")],
        vec![resource("../a", b"")],
        vec![resource("/a", b"")],
        vec![resource("", b"")],
    ] {
        let error = Statement::new("model", resources).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    assert_eq!(statement().model(), "model");
    let names = statement()
        .resources()
        .iter()
        .map(|r| r.name.clone())
        .collect::<Vec<_>>();
    assert_eq!(names, ["a.bin", "sub/b.bin"]);
}

#[test]
fn keys_are_read_from_pem_and_written_back() {
    use p256::Signer;
    assert_eq!(key().public_key(), public());
    assert_eq!(public().to_pem(), PUBLIC);
    assert_eq!(format!("{:?}", key()), "p256::SigningKey");
    for bad in [
        "",
        PUBLIC,
        "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n",
        &KEY[..KEY.len() / 2],
        &"x".repeat(100_000),
    ] {
        let error = p256::SigningKey::from_pem(bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    for bad in [
        "",
        KEY,
        "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n",
    ] {
        assert!(p256::VerifyingKey::from_pem(bad).is_err());
    }
    // What was made here is read by OpenSSL's rules too.
    let fresh = p256::SigningKey::generate().unwrap();
    let again = p256::SigningKey::from_pem(&fresh.to_pem()).unwrap();
    assert_eq!(again.public_key(), fresh.public_key());
    assert_ne!(fresh.public_key(), public());
    assert_eq!(key().to_pem().as_str(), KEY);
    // A compressed point has another length; another curve another head.
    let changed = PUBLIC.replacen("MFkw", "MFkx", 1);
    assert!(p256::VerifyingKey::from_pem(&changed).is_err());
}

/// A signer that cannot reach its key says so.
#[test]
fn a_signers_error_is_passed_on() {
    #[derive(Debug)]
    struct Unplugged;
    impl p256::Signer for Unplugged {
        fn public_key(&self) -> p256::VerifyingKey {
            public()
        }
        fn sign(&self, _message: &[u8]) -> Result<Vec<u8>> {
            Err(Error::Entropy(std::io::Error::other("unplugged")))
        }
    }
    let error = bundle::sign(&statement(), &Unplugged, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_model_round_trips(
        names in proptest::collection::btree_set("[a-zé]{1,8}(/[a-z ]{1,8}x){0,3}", 1..20),
        model in ".{0,20}",
    ) {
        let resources: Vec<_> = names.iter().map(|name| resource(name, name.as_bytes())).collect();
        let statement = Statement::new(&model, resources).unwrap();
        let text = bundle::sign(&statement, &key(), None).unwrap();
        prop_assert_eq!(Bundle::parse(&text).unwrap().verify_p256(&public()).unwrap(), statement);
    }

    #[test]
    fn noise_is_refused(text in ".{0,200}", json in "[{}\\[\\]\",:a-z0-9]{0,60}") {
        fuzz_bundle(&text);
        fuzz_bundle(&json);
    }
}
