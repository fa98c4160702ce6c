//! Sealing: AES-256-GCM under keys that are used once, made from what they seal.
//!
//! ```text
//! salt   = BLAKE3 keyed(salt key, len(name): u64 ‖ name ‖ content)       32 bytes
//! key    = BLAKE3 keyed(wrap key, salt ‖ name)                           32 bytes
//! sealed = AES-256-GCM(key, nonce 0, data: name, padded content) ‖ tag ‖ salt
//! ```
//!
//! A chunk's id alone could not give its key: one chunk has many encodings (levels, bases, later
//! encoders), and two of them under one key and nonce would lay both open and let tags be forged.
//! The salt is a function of the very bytes, so a key meets one plaintext only, whatever happens
//! to clocks, counters and generators; sealing the same again gives the same. That is the
//! synthetic-IV idea, at the speed of GCM. With one plaintext a key, the fixed nonce never
//! repeats.
//!
//! GCM does not commit to its key: bytes can be made that open under two keys. Keys here are 256
//! bits that no attacker chooses, and readers compare what they opened with its id besides.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;

use crate::error::{Error, Result};
use crate::keys::derive;
use crate::padding;
use crate::secret::Secret;

/// Length of the salt at the end of sealed bytes.
pub const SALT_LEN: usize = 32;
/// Length of the authentication tag before the salt.
pub const TAG_LEN: usize = 16;
/// What sealing adds besides padding.
pub const OVERHEAD_LEN: usize = SALT_LEN + TAG_LEN;
/// Most bytes that are sealed in one piece: AES-GCM's own limit is near 64 GiB, ours is memory.
pub const SEALED_LEN_MAX: usize = 1 << 30;

const SALT_CONTEXT: &str = "mmh-rs 2026-11-25 seal salt v1";
const WRAP_CONTEXT: &str = "mmh-rs 2026-11-25 seal wrap v1";
const WHAT: &str = "sealed data";

/// Seals and opens named bytes. A name is bound to its bytes, not stored with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealer {
    salt_key: Secret<32>,
    wrap_key: Secret<32>,
}

impl Sealer {
    pub(crate) fn new(key: &Secret<32>) -> Self {
        Self {
            salt_key: derive(SALT_CONTEXT, key.expose()),
            wrap_key: derive(WRAP_CONTEXT, key.expose()),
        }
    }

    /// Replaces `content` by its sealed form. The same name and content give the same bytes.
    ///
    /// # Errors
    /// Invalid, if the content is longer than [`SEALED_LEN_MAX`].
    ///
    /// ```
    /// # use mmh_crypto::{RootSeed, Secret};
    /// let read_key = RootSeed::from_secret(Secret::from_bytes(&[7; 32])).read_key();
    /// let id = read_key.id_key().id(b"weights");
    /// let mut bytes = b"weights".to_vec();
    /// read_key.content().seal(id.as_bytes(), &mut bytes)?;
    /// read_key.content().open(id.as_bytes(), &mut bytes)?;
    /// assert_eq!(bytes, b"weights");
    /// # Ok::<(), mmh_crypto::Error>(())
    /// ```
    pub fn seal(&self, name: &[u8], content: &mut Vec<u8>) -> Result<()> {
        check_len(content.len())?;
        let salt = self.salt(name, content);
        // Room for the padding, so that no plaintext is left behind by a growing vector.
        content.reserve_exact(content.len() / 8 + 2 + OVERHEAD_LEN);
        padding::pad(content);
        let key = self.one_use_key(&salt, name);
        let tag = key
            .seal_in_place_separate_tag(zero_nonce(), Aad::from(name), content)
            .expect("content is far shorter than GCM's limit");
        content.extend_from_slice(tag.as_ref());
        content.extend_from_slice(&salt);
        Ok(())
    }

    /// Replaces sealed bytes by their content. After an error the buffer is empty.
    ///
    /// # Errors
    /// Corrupt, if the bytes were not sealed under this key and name or have changed; Invalid, if
    /// they are longer than [`SEALED_LEN_MAX`].
    pub fn open(&self, name: &[u8], sealed: &mut Vec<u8>) -> Result<()> {
        let opened = self.open_in_place(name, sealed);
        if opened.is_err() {
            sealed.zeroize();
        }
        opened
    }

    fn open_in_place(&self, name: &[u8], sealed: &mut Vec<u8>) -> Result<()> {
        check_len(sealed.len())?;
        let split = sealed.split_last_chunk::<SALT_LEN>();
        let Some((_, &salt)) = split else {
            return Err(Error::Forged { what: WHAT });
        };
        sealed.truncate(sealed.len() - SALT_LEN);
        let key = self.one_use_key(&salt, name);
        let len = key
            .open_in_place(zero_nonce(), Aad::from(name), sealed)
            .map_err(|_| Error::Forged { what: WHAT })?
            .len();
        sealed.truncate(len);
        padding::unpad(sealed, WHAT)
    }

    fn salt(&self, name: &[u8], content: &[u8]) -> [u8; SALT_LEN] {
        let mut hasher = blake3::Hasher::new_keyed(self.salt_key.expose());
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name).update(content);
        *hasher.finalize().as_bytes()
    }

    fn one_use_key(&self, salt: &[u8; SALT_LEN], name: &[u8]) -> LessSafeKey {
        let mut hasher = blake3::Hasher::new_keyed(self.wrap_key.expose());
        hasher.update(salt).update(name);
        let key = Secret::<32>::fill_with(|out| hasher.finalize_xof().fill(out));
        let key = UnboundKey::new(&AES_256_GCM, key.expose()).expect("a key of 32 bytes");
        LessSafeKey::new(key)
    }
}

fn check_len(len: usize) -> Result<()> {
    if len > SEALED_LEN_MAX {
        return Err(Error::TooLarge {
            what: WHAT,
            value: len as u64,
            limit: SEALED_LEN_MAX as u64,
        });
    }
    Ok(())
}

/// The nonce of keys that are used once.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// Opens hostile `bytes`: they are refused, or sealing the content again gives them back.
///
/// # Panics
/// If neither is so: that is its purpose.
#[cfg(any(test, feature = "testing"))]
pub fn fuzz_open(bytes: &[u8]) {
    let sealer = Sealer::new(&Secret::from_bytes(&[9; 32]));
    let mut opened = bytes.to_vec();
    match sealer.open(b"name", &mut opened) {
        Ok(()) => {
            sealer.seal(b"name", &mut opened).expect("it was opened");
            assert_eq!(opened, bytes, "sealed bytes have one spelling");
        }
        Err(_) => assert!(opened.is_empty(), "nothing unauthenticated is handed out"),
    }
}
