//! ECDSA over P-256 with SHA-256, for bundles that stock tools verify. Keys are those of OpenSSL: a
//! secret one in PKCS #8, a public one as `SubjectPublicKeyInfo`, both in PEM.
//!
//! The one place in this crate that takes random bytes from the system itself: `ring` mixes them
//! with the key and the message, so that a broken generator does not betray the key.

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::pem;

/// `SubjectPublicKeyInfo` of a P-256 key up to the uncompressed point (RFC 5480).
const SPKI_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const POINT_LEN: usize = 65;
const SECRET_LABEL: &str = "PRIVATE KEY";
const PUBLIC_LABEL: &str = "PUBLIC KEY";
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
pub struct SigningKey {
    pkcs8: Zeroizing<Vec<u8>>,
    key: EcdsaKeyPair,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("p256::SigningKey")
    }
}

impl SigningKey {
    /// Draws a new one from the system's generator.
    ///
    /// # Errors
    /// Unavailable, if the generator fails.
    pub fn generate() -> Result<Self> {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random);
        let pkcs8 = pkcs8.map_err(|_| dry())?;
        Self::from_pkcs8(Zeroizing::new(pkcs8.as_ref().to_vec()))
    }

    /// Reads what `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` writes.
    ///
    /// # Errors
    /// Invalid, if it is no such key, or encrypted.
    pub fn from_pem(text: &str) -> Result<Self> {
        Self::from_pkcs8(pem::decode(SECRET_LABEL, text)?)
    }

    fn from_pkcs8(pkcs8: Zeroizing<Vec<u8>>) -> Result<Self> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8, &random);
        let key = key.map_err(|error| malformed(&error.to_string()))?;
        Ok(Self { pkcs8, key })
    }

    /// The key in PEM, as it was read; as secret as the key.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        pem::encode(SECRET_LABEL, &self.pkcs8)
    }
}

impl Signer for SigningKey {
    fn public_key(&self) -> VerifyingKey {
        let point = self.key.public_key().as_ref().try_into();
        VerifyingKey(point.expect("an uncompressed point of 65 bytes"))
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let signature = self.key.sign(&SystemRandom::new(), message);
        Ok(signature.map_err(|_| dry())?.as_ref().to_vec())
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
        let der = pem::decode(PUBLIC_LABEL, text)?;
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
        let der = [&SPKI_HEAD[..], &self.0].concat();
        pem::encode(PUBLIC_LABEL, &der).as_str().to_owned()
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

fn dry() -> Error {
    Error::Entropy(std::io::Error::other("the system's generator failed"))
}

fn malformed(reason: &str) -> Error {
    Error::malformed(WHAT, reason)
}
