//! ECDSA over P-256 with SHA-256, for bundles that stock tools verify. Keys are those of OpenSSL: a
//! secret one in PKCS #8, a public one as `SubjectPublicKeyInfo`, both in PEM.
//!
//! The one place in this crate that takes random bytes from the system itself: `ring` mixes them
//! with the key and the message, so that a broken generator does not betray the key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// `SubjectPublicKeyInfo` of a P-256 key up to the uncompressed point (RFC 5480).
const SPKI_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const POINT_LEN: usize = 65;
/// Longest PEM that is looked at.
const PEM_LEN_MAX: usize = 16 << 10;
const COLUMNS: usize = 64;
const WHAT: &str = "P-256 key";

/// A secret key, or one that lives elsewhere.
pub trait Signer: std::fmt::Debug {
    /// The key that verifies what this one signs.
    fn public_key(&self) -> VerifyingKey;

    /// Signs SHA-256 of `message`; the signature is in DER.
    ///
    /// # Errors
    /// Whatever a key that lives elsewhere has to say.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>>;
}

/// A secret key in memory.
pub struct SigningKey(EcdsaKeyPair);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("p256::SigningKey")
    }
}

impl SigningKey {
    /// Reads what `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` writes.
    ///
    /// # Errors
    /// Invalid, if it is no such key, or encrypted.
    pub fn from_pem(text: &str) -> Result<Self> {
        let der = Zeroizing::new(unwrap_pem(text, "PRIVATE KEY")?);
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der, &random);
        key.map(Self).map_err(|error| malformed(&error.to_string()))
    }
}

impl Signer for SigningKey {
    fn public_key(&self) -> VerifyingKey {
        let point = self.0.public_key().as_ref().try_into();
        VerifyingKey(point.expect("an uncompressed point of 65 bytes"))
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let signature = self.0.sign(&SystemRandom::new(), message);
        let signature = signature
            .map_err(|_| Error::Entropy(std::io::Error::other("the system's generator failed")))?;
        Ok(signature.as_ref().to_vec())
    }
}

/// A public key. Whether it is a point on the curve shows when it verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyingKey([u8; POINT_LEN]);

impl VerifyingKey {
    /// Reads what `openssl pkey -pubout` writes.
    ///
    /// # Errors
    /// Invalid, if it is no P-256 key with an uncompressed point.
    pub fn from_pem(text: &str) -> Result<Self> {
        let der = unwrap_pem(text, "PUBLIC KEY")?;
        let point = der.strip_prefix(&SPKI_HEAD[..]);
        let point: Option<[u8; POINT_LEN]> = point.and_then(|point| point.try_into().ok());
        point
            .filter(|[form, ..]| *form == 4)
            .map(Self)
            .ok_or_else(|| malformed("it is not an uncompressed point on P-256"))
    }

    /// The key in PEM, as OpenSSL writes it.
    #[must_use]
    pub fn to_pem(self) -> String {
        let body = STANDARD.encode([&SPKI_HEAD[..], &self.0].concat());
        let mut text = "-----BEGIN PUBLIC KEY-----\n".to_owned();
        let mut rest = body.as_str();
        while !rest.is_empty() {
            let (line, next) = rest.split_at(rest.len().min(COLUMNS));
            text.push_str(line);
            text.push('\n');
            rest = next;
        }
        text.push_str("-----END PUBLIC KEY-----\n");
        text
    }

    /// Checks a signature in DER over SHA-256 of `message`.
    ///
    /// # Errors
    /// Corrupt, if it is not by this key over this message.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<()> {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, self.0)
            .verify(message, signature)
            .map_err(|_| Error::BadSignature {
                algorithm: "ECDSA P-256",
            })
    }
}

/// The bytes between the lines that begin and end a `label`.
fn unwrap_pem(text: &str, label: &str) -> Result<Vec<u8>> {
    if text.len() > PEM_LEN_MAX {
        return Err(malformed("it is too long"));
    }
    let begin = format!("-----BEGIN {label}-----");
    let end = format!("-----END {label}-----");
    let body = text
        .trim()
        .strip_prefix(&begin)
        .and_then(|rest| rest.strip_suffix(&end))
        .ok_or_else(|| malformed(&format!("it is not a {label} in PEM")))?;
    let body: Zeroizing<String> =
        Zeroizing::new(body.chars().filter(|c| !c.is_ascii_whitespace()).collect());
    STANDARD
        .decode(body.as_bytes())
        .map_err(|_| malformed("it is not Base64"))
}

fn malformed(reason: &str) -> Error {
    Error::malformed(WHAT, reason)
}
