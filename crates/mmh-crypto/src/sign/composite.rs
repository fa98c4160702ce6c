//! The composite of ML-DSA-65 and Ed25519, `id-MLDSA65-Ed25519-SHA512`: both must verify.
//!
//! Source: draft-ietf-lamps-pq-composite-sigs as of April 2026 (working group's repository, commit
//! 60fcb1e), FIPS 204, RFC 8032. The draft's identifiers are not final, which is why the
//! algorithm is named beside every signature.

use curve25519_dalek::edwards::CompressedEdwardsY;
use ml_dsa::signature::Keypair;
use ml_dsa::{B32, EncodedSignature, EncodedVerifyingKey, MlDsa65};
use ring::digest::{SHA512, digest};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use super::{PublicKey, Signer, check_context};
use crate::error::{Error, Result};
use crate::secret::Secret;

/// Length of a public key: ML-DSA's, then Ed25519's.
pub const PUBLIC_KEY_LEN: usize = M_PUBLIC_LEN + ED_PUBLIC_LEN;
/// Length of a signature: ML-DSA's, then Ed25519's.
pub const SIGNATURE_LEN: usize = M_SIGNATURE_LEN + 64;
const M_PUBLIC_LEN: usize = 1952;
const M_SIGNATURE_LEN: usize = 3309;
const ED_PUBLIC_LEN: usize = 32;

const PREFIX: &[u8] = b"CompositeAlgorithmSignatures2025";
const LABEL: &[u8] = b"COMPSIG-MLDSA65-Ed25519-SHA512";
const BAD: Error = Error::BadSignature {
    algorithm: "MLDSA65-Ed25519-SHA512",
};

/// A secret key: two seeds of 32 bytes, expanded once.
pub struct SigningKey {
    seed: Secret<64>,
    ml_dsa: Box<ml_dsa::SigningKey<MlDsa65>>,
    ed25519: Ed25519KeyPair,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "composite::SigningKey({})", self.public_key().id())
    }
}

impl SigningKey {
    /// Expands ML-DSA's seed and Ed25519's seed, in this order.
    #[must_use]
    pub fn from_seed(seed: Secret<64>) -> Self {
        let (ml_dsa, ed25519) = seed.expose().split_at(32);
        let ml_dsa = B32::try_from(ml_dsa).expect("32 of 64 bytes");
        let ml_dsa = Box::new(ml_dsa::SigningKey::from_seed(&ml_dsa));
        let ed25519 = Ed25519KeyPair::from_seed_unchecked(ed25519).expect("32 of 64 bytes");
        Self {
            seed,
            ml_dsa,
            ed25519,
        }
    }

    /// The two seeds.
    #[must_use]
    pub fn seed(&self) -> &Secret<64> {
        &self.seed
    }
}

impl Signer for SigningKey {
    fn public_key(&self) -> PublicKey {
        let mut bytes = Box::new([0; PUBLIC_KEY_LEN]);
        let (ml_dsa, ed25519) = bytes.split_at_mut(M_PUBLIC_LEN);
        ml_dsa.copy_from_slice(&self.ml_dsa.verifying_key().encode());
        ed25519.copy_from_slice(self.ed25519.public_key().as_ref());
        PublicKey::Composite(VerifyingKey(bytes))
    }

    fn sign(&self, context: &[u8], message: &[u8]) -> Result<Vec<u8>> {
        let message = representative(context, message)?;
        let ml_dsa = self
            .ml_dsa
            .expanded_key()
            .sign_deterministic(&message, LABEL)
            .expect("the label is shorter than 256 bytes");
        let ed25519 = self.ed25519.sign(&message);
        Ok([&ml_dsa.encode()[..], ed25519.as_ref()].concat())
    }
}

/// A public key. ML-DSA's half may be any bytes; Ed25519's is a point that is not of small order,
/// under which one signature would fit every message.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyingKey(Box<[u8; PUBLIC_KEY_LEN]>);

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "composite::VerifyingKey({PUBLIC_KEY_LEN} bytes)")
    }
}

impl VerifyingKey {
    /// Wraps ML-DSA's key and Ed25519's key, in this order.
    ///
    /// # Errors
    /// Invalid, for a wrong length, or an Ed25519 key that is no point or one of small order.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let malformed = |reason| Error::malformed(super::PUBLIC_KEY, reason);
        let bytes: &[u8; PUBLIC_KEY_LEN] = bytes
            .try_into()
            .map_err(|_| malformed(format!("a composite one has not {} bytes", bytes.len())))?;
        let (_, ed25519) = bytes.split_last_chunk().expect("longer than 32 bytes");
        let point = CompressedEdwardsY(*ed25519).decompress();
        if point.is_none_or(|point| point.is_small_order()) {
            return Err(malformed("its Ed25519 half is a bad point".to_owned()));
        }
        Ok(Self(Box::new(*bytes)))
    }

    /// The two keys, ML-DSA's first.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; PUBLIC_KEY_LEN] {
        &self.0
    }

    /// Checks both signatures over `message` for the purpose `context`.
    ///
    /// # Errors
    /// Corrupt, if either is not by this key over this message and context; Invalid, if the
    /// context is too long.
    pub fn verify(&self, context: &[u8], message: &[u8], signature: &[u8]) -> Result<()> {
        let message = representative(context, message)?;
        let signature: &[u8; SIGNATURE_LEN] = signature.try_into().map_err(|_| BAD)?;
        let (m_signature, ed_signature) = signature.split_at(M_SIGNATURE_LEN);
        let (m_key, ed_key) = self.0.split_at(M_PUBLIC_LEN);

        let m_key = EncodedVerifyingKey::<MlDsa65>::try_from(m_key).map_err(|_| BAD)?;
        let m_key = ml_dsa::VerifyingKey::<MlDsa65>::decode(&m_key);
        let m_signature = EncodedSignature::<MlDsa65>::try_from(m_signature).map_err(|_| BAD)?;
        let m_signature = ml_dsa::Signature::<MlDsa65>::decode(&m_signature).ok_or(BAD)?;
        if !m_key.verify_with_context(&message, LABEL, &m_signature) {
            return Err(BAD);
        }
        UnparsedPublicKey::new(&ED25519, ed_key)
            .verify(&message, ed_signature)
            .map_err(|_| BAD)
    }
}

/// What both algorithms sign: prefix, label, context and hash of the message.
fn representative(context: &[u8], message: &[u8]) -> Result<Vec<u8>> {
    let context_len = [check_context(context)?];
    let hash = digest(&SHA512, message);
    Ok([PREFIX, LABEL, &context_len, context, hash.as_ref()].concat())
}
