//! SLH-DSA-SHA2-128s (FIPS 205), the signature of long-lived roots.
//!
//! It rests on SHA-256 alone, so it outlives surprises in lattices and curves. Signatures are 7,856
//! bytes and take a fifth of a second, so a root signs keys, and keys sign the rest.

use slh_dsa::{Sha2_128s, Signature};

use super::{PublicKey, Signer, check_context};
use crate::error::{Error, Result};
use crate::secret::Secret;

/// Length of a public key.
pub const PUBLIC_KEY_LEN: usize = 32;
/// Length of a signature.
pub const SIGNATURE_LEN: usize = 7856;
/// Length of the seed: three values of 16 bytes.
pub const SEED_LEN: usize = 48;

const BAD: Error = Error::BadSignature {
    algorithm: "SLH-DSA-SHA2-128s",
};

/// A secret key: `SK.seed`, `SK.prf` and `PK.seed` of FIPS 205, and the tree's root.
pub struct SigningKey {
    seed: Secret<SEED_LEN>,
    key: slh_dsa::SigningKey<Sha2_128s>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "root::SigningKey({})", self.public_key().id())
    }
}

impl SigningKey {
    /// Computes the tree's root; takes some hundredths of a second.
    #[must_use]
    pub fn from_seed(seed: Secret<SEED_LEN>) -> Self {
        let (sk_seed, rest) = seed.expose().split_at(16);
        let (sk_prf, pk_seed) = rest.split_at(16);
        let key = slh_dsa::SigningKey::slh_keygen_internal(sk_seed, sk_prf, pk_seed);
        Self { seed, key }
    }

    /// The three values.
    #[must_use]
    pub fn seed(&self) -> &Secret<SEED_LEN> {
        &self.seed
    }
}

impl Signer for SigningKey {
    fn public_key(&self) -> PublicKey {
        let key: &slh_dsa::VerifyingKey<Sha2_128s> = self.key.as_ref();
        PublicKey::Root(VerifyingKey(key.to_bytes().into()))
    }

    fn sign(&self, context: &[u8], message: &[u8]) -> Result<Vec<u8>> {
        check_context(context)?;
        let signature = self
            .key
            .try_sign_with_context(message, context, None)
            .expect("the context's length was checked");
        Ok(signature.to_bytes().to_vec())
    }
}

/// A public key: `PK.seed` and the tree's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyingKey([u8; PUBLIC_KEY_LEN]);

impl VerifyingKey {
    /// Wraps 32 bytes.
    ///
    /// # Errors
    /// Invalid, for a wrong length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let bytes = bytes.try_into().map_err(|_| {
            let reason = format!("one of a root has not {} bytes", bytes.len());
            Error::malformed(super::PUBLIC_KEY, reason)
        })?;
        Ok(Self(bytes))
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; PUBLIC_KEY_LEN] {
        &self.0
    }

    /// Checks a signature over `message` for the purpose `context`.
    ///
    /// # Errors
    /// Corrupt, if it is not by this key over this message and context; Invalid, if the context is
    /// too long.
    pub fn verify(&self, context: &[u8], message: &[u8], signature: &[u8]) -> Result<()> {
        check_context(context)?;
        let key = slh_dsa::VerifyingKey::<Sha2_128s>::try_from(&self.0[..]).map_err(|_| BAD)?;
        let signature = Signature::<Sha2_128s>::try_from(signature).map_err(|_| BAD)?;
        key.try_verify_with_context(message, context, &signature)
            .map_err(|_| BAD)
    }
}
