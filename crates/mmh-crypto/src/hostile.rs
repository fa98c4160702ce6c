//! Every parser of this crate behind one door, for fuzzers: the first byte chooses.

use crate::age::{self, Identity, armor};
use crate::keys::RootSeed;
use crate::seed::{Scope, Seed, SeedKey};
use crate::sign::{self, Signer, certificate, composite};
use crate::testing::Counter;
use crate::{Error, Result, Secret, bundle, seal, seed, share, xwing};

/// The fuzz bodies, by the first byte of an input.
const BODIES: [fn(&[u8]); 8] = [
    age::fuzz_decrypt,
    seal::fuzz_open,
    |bytes| seed::fuzz_parse(&String::from_utf8_lossy(bytes)),
    seed::fuzz_content,
    |bytes| share::fuzz_combine(&String::from_utf8_lossy(bytes)),
    sign::fuzz_sign,
    |bytes| bundle::fuzz_bundle(&String::from_utf8_lossy(bytes)),
    certificate::fuzz_certificate,
];

/// Gives hostile bytes to the parser that the first of them names.
///
/// # Panics
/// If a promise of that parser is broken: that is its purpose.
pub fn fuzz_any(bytes: &[u8]) {
    if let Some((&first, rest)) = bytes.split_first() {
        BODIES[usize::from(first) % BODIES.len()](rest);
    }
}

/// Small good inputs of every kind, with their names, from which fuzzing starts.
///
/// # Errors
/// None, unless this crate is broken.
pub fn samples() -> Result<Vec<(&'static str, Vec<u8>)>> {
    let entropy = Counter::new(1);
    let hybrid = Identity::Hybrid(xwing::SecretKey::from_secret(Secret::from_bytes(&[3; 32])));
    let x25519 = Identity::X25519(Secret::from_bytes(&[4; 32]));
    let passphrase = age::Passphrase::new("fuzz").with_cost(age::Cost::Argon2id {
        memory_kib: 8,
        passes: 1,
        lanes: 1,
    });
    let mut files = vec![age::Recipient::Passphrase(passphrase)];
    files.extend([hybrid, x25519].iter().filter_map(Identity::recipient));
    let files: Result<Vec<_>> = files
        .into_iter()
        .map(|recipient| age::encrypt(&[recipient], b"seed", &entropy))
        .collect();
    let [passphrase, hybrid, x25519] = files?
        .try_into()
        .map_err(|_| Error::malformed("samples", "a key has no recipient"))?;
    let mut sealed = b"some content".to_vec();
    seal::Sealer::new(&Secret::from_bytes(&[9; 32])).seal(b"name", &mut sealed)?;
    let seed = Seed {
        key: SeedKey::Root(RootSeed::from_secret(Secret::from_bytes(&[7; 32]))),
        scope: Scope::Repository,
        state: None,
        hints: vec!["s3://bucket".to_owned()],
    };
    let shares = share::split(&[7; 16], (2, 3), "TREZOR", &entropy)?;
    let shares: Vec<&str> = shares.iter().take(2).map(|words| words.as_str()).collect();
    let key = composite::SigningKey::from_seed(Secret::from_bytes(&[8; 64]));
    let content = [&[1, 4][..], &[7; 32], b"\x12models/acme/minilm\x04/mnt"].concat();
    let samples = [
        ("age-armor", 0, armor::encode(&x25519).into_bytes()),
        ("age-hybrid", 0, hybrid),
        ("age-passphrase", 0, passphrase),
        ("age-x25519", 0, x25519),
        ("bundle", 6, include_bytes!("../testdata/bundle/stock.sig").to_vec()),
        ("certificate", 7, include_bytes!("../testdata/certificate.cbor").to_vec()),
        ("public-key", 5, key.public_key().to_bytes()),
        ("sealed", 1, sealed),
        ("seed", 2, seed.to_text()?.as_bytes().to_vec()),
        ("seed-content", 3, content),
        ("shares", 4, shares.join("\n").into_bytes()),
        ("signature", 5, key.sign(b"fuzz", b"")?),
        (
            "statement",
            6,
            br#"{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"m","digest":{"sha256":""}}],
            "predicateType":"https://model_signing/signature/v1.0","predicate":{"serialization":{"method":
            "files","hash_type":"sha256"},"resources":[{"name":"a","algorithm":"sha256","digest":""}]}}"#
                .to_vec(),
        ),
    ];
    let chosen = |(name, body, bytes): (_, u8, Vec<u8>)| (name, [&[body][..], &bytes].concat());
    Ok(samples.into_iter().map(chosen).collect())
}
