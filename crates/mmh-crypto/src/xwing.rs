//! X-Wing: the hybrid key encapsulation of ML-KEM-768 and X25519, and HPKE's base mode over it.
//!
//! Sources: draft-connolly-cfrg-xwing-kem, FIPS 203, RFC 7748; RFC 9180 §5.1 and §6.1 with the KEM
//! id 0x647a, HKDF-SHA-256 and ChaCha20-Poly1305. Safe as long as either part is.
//!
//! Stricter than the draft in one point, as age is: an X25519 result of zero, which only points of
//! low order give, is refused on both sides.

use ml_kem::kem::{Decapsulate, KeyExport};
use ml_kem::{B32, DecapsulationKey768, EncapsulationKey768, Seed};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use sha3::{Digest, Sha3_256};
use shake::{ExtendableOutput, Shake256, Update, XofReader};
use x25519_dalek::{PublicKey as X25519Public, StaticSecret};

use mmh_core::ports::Entropy;

use crate::error::{Error, Result};
use crate::kdf;
use crate::secret::Secret;

/// Length of a public key: ML-KEM-768's and X25519's.
pub const PUBLIC_KEY_LEN: usize = 1184 + X_LEN;
/// Length of an encapsulated key: ML-KEM-768's ciphertext and an X25519 share.
pub const ENCAPSULATED_LEN: usize = M_CIPHERTEXT_LEN + X_LEN;
const M_CIPHERTEXT_LEN: usize = 1088;
const X_LEN: usize = 32;

/// The combiner's label: `\.//^\`.
const LABEL: &[u8; 6] = b"\\.//^\\";
/// HPKE's suite: KEM MLKEM768-X25519, KDF HKDF-SHA-256, AEAD ChaCha20-Poly1305.
const SUITE: &[u8; 10] = b"HPKE\x64\x7a\x00\x01\x00\x03";
const LOW_ORDER: &str = "its X25519 part is a point of low order";

/// A public key, checked as FIPS 203 §7.2 asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    ml_kem: Box<EncapsulationKey768>,
    x25519: [u8; X_LEN],
}

impl PublicKey {
    /// Parses the two keys, ML-KEM's first.
    ///
    /// # Errors
    /// Invalid, for another length or numbers out of range.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let malformed = |reason| Error::malformed("X-Wing public key", reason);
        let bytes: &[u8; PUBLIC_KEY_LEN] = bytes
            .try_into()
            .map_err(|_| malformed(format!("it has {} bytes", bytes.len())))?;
        let (ml_kem, &x25519) = bytes.split_last_chunk().expect("longer than 32 bytes");
        let ml_kem = ml_kem
            .try_into()
            .ok()
            .and_then(|key| EncapsulationKey768::new(key).ok())
            .ok_or_else(|| malformed("its ML-KEM part is out of range".to_owned()))?;
        Ok(Self {
            ml_kem: Box::new(ml_kem),
            x25519,
        })
    }

    /// The two keys, ML-KEM's first.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.ml_kem.to_bytes()[..], &self.x25519].concat()
    }

    /// A shared secret and what the owner of the secret key needs to find it again.
    fn encapsulate(&self, entropy: &dyn Entropy) -> Result<(Vec<u8>, Secret<32>)> {
        let message = Secret::<32>::generate(entropy)?;
        let ephemeral = StaticSecret::from(*Secret::<32>::generate(entropy)?.expose());
        let (m_ciphertext, m_shared) = self
            .ml_kem
            .encapsulate_deterministic(&B32::from(*message.expose()));
        let share = X25519Public::from(&ephemeral).to_bytes();
        let x_shared = agree(&ephemeral, &self.x25519)
            .ok_or_else(|| Error::malformed("X-Wing public key", LOW_ORDER))?;
        let shared = combine(&m_shared, &x_shared, &share, &self.x25519);
        Ok(([&m_ciphertext[..], &share].concat(), shared))
    }

    /// `SealBase` of RFC 9180 §6.1 with no associated data: the encapsulated key and the sealed
    /// `plaintext`.
    ///
    /// # Errors
    /// Invalid, if the key's X25519 part has low order; Unavailable, if the generator fails.
    pub fn seal(
        &self,
        info: &[u8],
        plaintext: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<(Vec<u8>, Vec<u8>)> {
        let (encapsulated, shared) = self.encapsulate(entropy)?;
        let (key, nonce) = schedule(&shared, info);
        let mut sealed = plaintext.to_vec();
        key.seal_in_place_append_tag(nonce, Aad::empty(), &mut sealed)
            .expect("short plaintext");
        Ok((encapsulated, sealed))
    }
}

/// A secret key: 32 bytes from which both parts follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretKey(Secret<32>);

impl SecretKey {
    /// Draws a new one.
    ///
    /// # Errors
    /// Unavailable, if the generator fails.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self> {
        Secret::generate(entropy).map(Self)
    }

    /// Wraps 32 bytes.
    #[must_use]
    pub fn from_secret(secret: Secret<32>) -> Self {
        Self(secret)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn secret(&self) -> &Secret<32> {
        &self.0
    }

    /// The public key that belongs to it.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        let (ml_kem, x25519) = self.expand();
        PublicKey {
            ml_kem: Box::new(ml_kem.encapsulation_key().clone()),
            x25519: X25519Public::from(&x25519).to_bytes(),
        }
    }

    fn expand(&self) -> (DecapsulationKey768, StaticSecret) {
        let mut shake = Shake256::default();
        shake.update(self.0.expose());
        let mut reader = shake.finalize_xof();
        let ml_kem = Secret::<64>::fill_with(|out| reader.read(out));
        let x25519 = Secret::<32>::fill_with(|out| reader.read(out));
        (
            DecapsulationKey768::from_seed(Seed::from(*ml_kem.expose())),
            StaticSecret::from(*x25519.expose()),
        )
    }

    fn decapsulate(&self, encapsulated: &[u8; ENCAPSULATED_LEN]) -> Result<Secret<32>> {
        let (ml_kem, x25519) = self.expand();
        let (m_ciphertext, share) = encapsulated
            .split_last_chunk::<X_LEN>()
            .expect("longer than 32 bytes");
        let m_shared = ml_kem
            .decapsulate_slice(m_ciphertext)
            .expect("a ciphertext of 1,088 bytes");
        let x_shared = agree(&x25519, share)
            .ok_or_else(|| Error::malformed("X-Wing encapsulated key", LOW_ORDER))?;
        let public = X25519Public::from(&x25519).to_bytes();
        Ok(combine(&m_shared, &x_shared, share, &public))
    }

    /// `OpenBase` of RFC 9180 §6.1 with no associated data. `None` says that the bytes were not
    /// sealed to this key.
    ///
    /// # Errors
    /// Invalid, if the encapsulated key's X25519 part has low order.
    pub fn open(
        &self,
        info: &[u8],
        encapsulated: &[u8; ENCAPSULATED_LEN],
        sealed: &[u8],
    ) -> Result<Option<Vec<u8>>> {
        let (key, nonce) = schedule(&self.decapsulate(encapsulated)?, info);
        let mut opened = sealed.to_vec();
        let len = key
            .open_in_place(nonce, Aad::empty(), &mut opened)
            .map(|content| content.len());
        Ok(len.ok().map(|len| {
            opened.truncate(len);
            opened
        }))
    }
}

/// X25519, unless the result says nothing of the secret.
pub(crate) fn agree(secret: &StaticSecret, share: &[u8; X_LEN]) -> Option<Secret<32>> {
    let shared = secret.diffie_hellman(&X25519Public::from(*share));
    shared
        .was_contributory()
        .then(|| Secret::from_bytes(shared.as_bytes()))
}

fn combine(
    m_shared: &[u8],
    x_shared: &Secret<32>,
    share: &[u8; X_LEN],
    public: &[u8; X_LEN],
) -> Secret<32> {
    let mut hash = Sha3_256::new();
    for part in [m_shared, x_shared.expose(), share, public, LABEL] {
        Digest::update(&mut hash, part);
    }
    Secret::fill_with(|out| out.copy_from_slice(&hash.finalize()))
}

/// `KeySchedule` of RFC 9180 §5.1 in base mode, for the one message that is sent.
fn schedule(shared: &Secret<32>, info: &[u8]) -> (LessSafeKey, Nonce) {
    let extract = |salt: &[u8], label: &[u8], ikm: &[u8]| {
        kdf::extract(salt, &[b"HPKE-v1", SUITE, label, ikm])
    };
    let psk_id_hash = extract(&[], b"psk_id_hash", &[]);
    let info_hash = extract(&[], b"info_hash", info);
    let context: [&[u8]; 3] = [&[0], psk_id_hash.expose(), info_hash.expose()];
    let context = context.concat();
    let secret = extract(shared.expose(), b"secret", &[]);
    let key: Secret<32> = kdf::expand(&secret, &[&[0, 32], b"HPKE-v1", SUITE, b"key", &context]);
    let nonce: Secret<12> = kdf::expand(
        &secret,
        &[&[0, 12], b"HPKE-v1", SUITE, b"base_nonce", &context],
    );
    let key = UnboundKey::new(&CHACHA20_POLY1305, key.expose()).expect("a key of 32 bytes");
    (
        LessSafeKey::new(key),
        Nonce::assume_unique_for_key(*nonce.expose()),
    )
}
