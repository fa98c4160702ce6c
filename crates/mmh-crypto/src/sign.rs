//! Signatures: composite ones for daily use, hash-based ones for roots, over DSSE envelopes.
//!
//! Every signature and key names its algorithm, so that a better one can be added. Signing is
//! deterministic in both: no generator can betray a key, and the same input gives the same bytes.
//!
//! ```
//! use mmh_crypto::sign::{PublicKey, Signer, composite};
//! # use mmh_crypto::Secret;
//! let key = composite::SigningKey::from_seed(Secret::from_bytes(&[7; 64]));
//! let signature = key.sign(b"context", b"message")?;
//! let public = PublicKey::from_bytes(&key.public_key().to_bytes())?;
//! public.verify(b"context", b"message", &signature)?;
//! # Ok::<(), mmh_crypto::Error>(())
//! ```

pub mod certificate;
pub mod composite;
pub mod key;
pub mod root;

use std::fmt;

use mmh_core::Digest;
use mmh_core::object::{Record, RecordSignature};

pub use certificate::{Certificate, Objection, Terms};
pub use key::{AnyPublicKey, KeyType, SecretKey};

use crate::error::{Error, Result};

/// Longest context of a signature, as FIPS 204 and 205 have it.
pub const CONTEXT_LEN_MAX: usize = 255;
/// Context of signatures on records.
const RECORD_CONTEXT: &[u8] = b"mmh-rs record v1";
const PUBLIC_KEY: &str = "public key";

/// How a signature is made. The names are stored with signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// ML-DSA-65 and Ed25519 in one: safe as long as either is.
    MlDsa65Ed25519,
    /// SLH-DSA-SHA2-128s: rests on a hash function alone; large and slow, for roots.
    SlhDsaSha2128s,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::MlDsa65Ed25519, Self::SlhDsaSha2128s];

    /// The name in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MlDsa65Ed25519 => "MLDSA65-Ed25519-SHA512",
            Self::SlhDsaSha2128s => "SLH-DSA-SHA2-128s",
        }
    }

    /// The number at the head of a public key.
    const fn number(self) -> u8 {
        match self {
            Self::MlDsa65Ed25519 => 1,
            Self::SlhDsaSha2128s => 2,
        }
    }

    fn of_number(number: u8) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|known| known.number() == number);
        known.ok_or_else(|| Error::Unsupported {
            what: "signature algorithm",
            name: number.to_string(),
        })
    }
}

impl std::str::FromStr for Algorithm {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|known| known.name() == name);
        known.ok_or_else(|| Error::Unsupported {
            what: "signature algorithm",
            name: mmh_core::error::shorten(name),
        })
    }
}

/// Whose signature it is: BLAKE3 of the public key with its algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(Digest);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for KeyId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let malformed = || Error::malformed("key id", "it has not 64 hexadecimal digits");
        let digits = text.as_bytes();
        let is_digit = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
        if digits.len() != 64 || !digits.iter().all(is_digit) {
            return Err(malformed());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| malformed())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| malformed())?;
        }
        Ok(Self(Digest::from_bytes(bytes)))
    }
}

/// A public key of either algorithm.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublicKey {
    /// See [`Algorithm::MlDsa65Ed25519`].
    Composite(composite::VerifyingKey),
    /// See [`Algorithm::SlhDsaSha2128s`].
    Root(root::VerifyingKey),
}

impl PublicKey {
    /// Parses what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// Unsupported, for another algorithm; Invalid, for a wrong length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let Some((&number, key)) = bytes.split_first() else {
            return Err(Error::malformed(PUBLIC_KEY, "it is empty"));
        };
        match Algorithm::of_number(number)? {
            Algorithm::MlDsa65Ed25519 => {
                composite::VerifyingKey::from_bytes(key).map(Self::Composite)
            }
            Algorithm::SlhDsaSha2128s => root::VerifyingKey::from_bytes(key).map(Self::Root),
        }
    }

    /// The algorithm's number and the key.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let key: &[u8] = match self {
            Self::Composite(key) => key.as_bytes(),
            Self::Root(key) => key.as_bytes(),
        };
        [&[self.algorithm().number()], key].concat()
    }

    /// Which algorithm it belongs to.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Composite(_) => Algorithm::MlDsa65Ed25519,
            Self::Root(_) => Algorithm::SlhDsaSha2128s,
        }
    }

    /// What signatures name it by.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId(Digest::of(&self.to_bytes()))
    }

    /// Checks a signature over `message` for the purpose `context`.
    ///
    /// # Errors
    /// Corrupt, if it is not by this key over this message and context.
    pub fn verify(&self, context: &[u8], message: &[u8], signature: &[u8]) -> Result<()> {
        match self {
            Self::Composite(key) => key.verify(context, message, signature),
            Self::Root(key) => key.verify(context, message, signature),
        }
    }
}

/// A secret key of either algorithm, or one that lives elsewhere.
pub trait Signer: fmt::Debug {
    /// The key that verifies what this one signs.
    fn public_key(&self) -> PublicKey;

    /// Signs `message` for the purpose `context`.
    ///
    /// # Errors
    /// Invalid, if the context is longer than [`CONTEXT_LEN_MAX`]; whatever a key that lives
    /// elsewhere has to say.
    fn sign(&self, context: &[u8], message: &[u8]) -> Result<Vec<u8>>;
}

/// Adds the signature of `signer` to `record`, in the place of one that it made before. Beside it
/// stands what a root says of the key, if anything.
///
/// # Errors
/// As [`Signer::sign`].
pub fn sign_record(
    signer: &dyn Signer,
    certificate: Option<&Certificate>,
    record: &mut Record,
) -> Result<()> {
    let signature = signer.sign(RECORD_CONTEXT, &record_message(record))?;
    let key = signer.public_key();
    let key_id = key.id().to_string();
    record.signatures.retain(|other| other.key_id != key_id);
    record.signatures.push(RecordSignature {
        algorithm: key.algorithm().name().to_owned(),
        key_id,
        signature: signature.into(),
        certificate: certificate.map(|certificate| certificate.to_bytes().into()),
    });
    Ok(())
}

/// Checks one signature of `record` by `key`.
///
/// # Errors
/// Corrupt, if it names another key or algorithm, or does not verify.
pub fn verify_record(record: &Record, signature: &RecordSignature, key: &PublicKey) -> Result<()> {
    let algorithm = key.algorithm().name();
    if signature.algorithm != algorithm || signature.key_id != key.id().to_string() {
        return Err(Error::BadSignature { algorithm });
    }
    key.verify(
        RECORD_CONTEXT,
        &record_message(record),
        &signature.signature,
    )
}

/// What is signed: the subject, and the record's payload in DSSE's unambiguous encoding.
fn record_message(record: &Record) -> Vec<u8> {
    let envelope = pae(&record.payload_type, &record.payload);
    [record.subject.digest().as_bytes(), envelope.as_slice()].concat()
}

/// DSSE's pre-authentication encoding, version 1.
#[must_use]
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    );
    [head.as_bytes(), payload].concat()
}

/// Refuses contexts that have no encoding.
fn check_context(context: &[u8]) -> Result<u8> {
    u8::try_from(context.len()).map_err(|_| Error::TooLarge {
        what: "context of a signature",
        value: context.len() as u64,
        limit: CONTEXT_LEN_MAX as u64,
    })
}

/// Parses a hostile public key, and checks hostile signatures by known keys.
///
/// # Panics
/// If noise verifies, or a key has two spellings: that is its purpose.
#[cfg(any(test, feature = "testing"))]
pub fn fuzz_sign(bytes: &[u8]) {
    if let Ok(key) = PublicKey::from_bytes(bytes) {
        assert_eq!(key.to_bytes(), bytes);
    }
    let half = bytes.len() / 2;
    let (signature, message) = bytes.split_at(half);
    let composite = composite::SigningKey::from_seed(crate::Secret::from_bytes(&[7; 64]));
    let root = root::VerifyingKey::from_bytes(&[7; root::PUBLIC_KEY_LEN]);
    let root = PublicKey::Root(root.expect("any 32 bytes are a key"));
    for key in [composite.public_key(), root] {
        assert!(key.verify(b"fuzz", message, signature).is_err());
    }
}
