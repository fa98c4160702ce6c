//! Key slots: age v1 files (<https://c2sp.org/age>), which stock age tools read and write.
//!
//! A repository's root seed or read key is kept in one such file for each set of recipients.
//! Adding or removing a recipient writes a new file of some hundred bytes and no data.
//!
//! ```
//! use mmh_crypto::age::{self, Identity, Recipient};
//! # let entropy = mmh_crypto::testing::Counter::default();
//! let identity = Identity::generate_hybrid(&entropy)?;
//! let recipient: Recipient = identity.recipient().expect("not a passphrase");
//! let file = age::encrypt(&[recipient], b"a root seed", &entropy)?;
//! assert_eq!(**age::decrypt(&[identity], &file)?, *b"a root seed");
//! # Ok::<(), mmh_crypto::Error>(())
//! ```

pub mod armor;
mod header;
mod hybrid;
mod passphrase;
mod payload;
mod recipient;
mod x25519;

use mmh_core::ports::Entropy;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::secret::Secret;

use header::{Header, Stanza};
pub use passphrase::{Cost, Passphrase};
pub use recipient::{Identity, Recipient};

/// What each recipient's stanza wraps.
type FileKey = Secret<16>;
/// Length of a wrapped file key: the key and a tag. Checked before anything is decrypted.
const WRAPPED_LEN: usize = 32;

/// Encrypts `content` to all of `recipients`.
///
/// # Errors
/// Invalid, if there is no recipient, a passphrase is not alone, or recipients that withstand
/// quantum computers are mixed with those that do not; Unavailable, if the generator fails.
pub fn encrypt(recipients: &[Recipient], content: &[u8], entropy: &dyn Entropy) -> Result<Vec<u8>> {
    recipient::check_set(recipients)?;
    let file_key = FileKey::generate(entropy)?;
    let stanzas: Result<Vec<Stanza>> = recipients
        .iter()
        .map(|recipient| recipient.wrap(&file_key, entropy))
        .collect();
    let mut file = header::write(&stanzas?, &file_key);
    payload::encrypt(&file_key, content, entropy, &mut file)?;
    Ok(file)
}

/// Decrypts a file that was encrypted to one of `identities`, binary or in armor.
///
/// # Errors
/// Denied, if it was not; Invalid, if the file is malformed; Corrupt, if its header or content
/// was changed; Unsupported, for another version of age. Nothing is given out then.
pub fn decrypt(identities: &[Identity], file: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    if armor::is_armored(file) {
        return decrypt_binary(identities, &armor::decode(file)?);
    }
    decrypt_binary(identities, file)
}

/// The types of an age file's recipients, as its header says; nothing is proved by that.
///
/// # Errors
/// Invalid, if the file is malformed; Unsupported, for another version of age.
pub fn recipient_types(file: &[u8]) -> Result<Vec<String>> {
    let types = |header: &Header<'_>| {
        let tags = header.stanzas().iter().map(Stanza::tag);
        tags.map(str::to_owned).collect()
    };
    if armor::is_armored(file) {
        let file = armor::decode(file)?;
        return Ok(types(&Header::parse(&file)?));
    }
    Ok(types(&Header::parse(file)?))
}

fn decrypt_binary(identities: &[Identity], file: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let header = Header::parse(file)?;
    for identity in identities {
        if let Some(file_key) = identity.unwrap(header.stanzas())? {
            header.check_mac(&file_key)?;
            return payload::decrypt(&file_key, header.payload());
        }
    }
    Err(Error::NoMatch)
}

/// Wraps the file key under a key that is used for nothing else.
fn wrap(key: &Secret<32>, file_key: &FileKey) -> Vec<u8> {
    let mut body = file_key.expose().to_vec();
    wrap_key(key)
        .seal_in_place_append_tag(zero_nonce(), Aad::empty(), &mut body)
        .expect("16 bytes are within every limit");
    body
}

/// The file key, if `body` was wrapped under `key`.
fn unwrap(key: &Secret<32>, body: &[u8; WRAPPED_LEN]) -> Option<FileKey> {
    let mut body = Zeroizing::new(*body);
    let opened = wrap_key(key).open_in_place(zero_nonce(), Aad::empty(), &mut body[..]);
    let file_key: &[u8; 16] = (*opened.ok()?).try_into().ok()?;
    Some(FileKey::from_bytes(file_key))
}

fn wrap_key(key: &Secret<32>) -> LessSafeKey {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key.expose()).expect("a key of 32 bytes");
    LessSafeKey::new(key)
}

fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// Decrypts hostile `bytes` with one identity of each kind; no answer is a panic.
#[cfg(any(test, feature = "testing"))]
pub fn fuzz_decrypt(bytes: &[u8]) {
    let identities = [
        Identity::Hybrid(crate::xwing::SecretKey::from_secret(Secret::from_bytes(
            &[3; 32],
        ))),
        Identity::X25519(Secret::from_bytes(&[4; 32])),
        Identity::Passphrase(Passphrase::new("fuzz").with_cost_max(Cost::TEST)),
    ];
    // The verdict is the fuzzer's business only if it is a panic.
    drop(decrypt(&identities, bytes));
    if let Ok(header) = Header::parse(bytes) {
        assert!(bytes.starts_with(header.mac_text()), "a header is a prefix");
    }
}
