//! Who can open a key slot: recipients, and the identities that answer to them.

use std::fmt;
use std::str::FromStr;

use mmh_core::ports::Entropy;
use zeroize::Zeroizing;

use super::header::{self, Stanza};
use super::passphrase::{self, Passphrase};
use super::{FileKey, hybrid, x25519};
use crate::bech32;
use crate::error::{Error, Result};
use crate::secret::Secret;
use crate::xwing::{PublicKey, SecretKey};

const HYBRID_HRP: &str = "age1pq";
const X25519_HRP: &str = "age";
const HYBRID_SECRET_HRP: &str = "age-secret-key-pq-";
const X25519_SECRET_HRP: &str = "age-secret-key-";

/// To whom a file is encrypted.
#[derive(Debug, Clone)]
pub enum Recipient {
    /// `age1pq1…`: X-Wing. Withstands quantum computers; the one to use.
    Hybrid(PublicKey),
    /// `age1…`: X25519, for tools that know nothing else.
    X25519([u8; 32]),
    /// Whoever knows a passphrase. Alone in its file.
    Passphrase(Passphrase),
}

impl Recipient {
    pub(super) fn wrap(&self, file_key: &FileKey, entropy: &dyn Entropy) -> Result<Stanza> {
        match self {
            Self::Hybrid(key) => hybrid::wrap_for(key, file_key, entropy),
            Self::X25519(key) => x25519::wrap_for(key, file_key, entropy),
            Self::Passphrase(passphrase) => passphrase.wrap_for(file_key, entropy),
        }
    }
}

impl FromStr for Recipient {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.starts_with("age1pq1") {
            let bytes = bech32::decode(HYBRID_HRP, text)?;
            return PublicKey::from_bytes(&bytes).map(Self::Hybrid);
        }
        let bytes = bech32::decode(X25519_HRP, text)?;
        let key = bytes.as_slice().try_into();
        key.map(Self::X25519)
            .map_err(|_| Error::malformed("age recipient", "it has not 32 bytes"))
    }
}

/// The public text of a key; a passphrase has none and shows nothing of itself.
impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hybrid(key) => f.write_str(&bech32::encode(HYBRID_HRP, &key.to_bytes())),
            Self::X25519(key) => f.write_str(&bech32::encode(X25519_HRP, key)),
            Self::Passphrase(_) => f.write_str("passphrase"),
        }
    }
}

/// Opens what was encrypted to its recipient.
#[derive(Debug, Clone)]
pub enum Identity {
    /// `AGE-SECRET-KEY-PQ-1…`.
    Hybrid(SecretKey),
    /// `AGE-SECRET-KEY-1…`.
    X25519(Secret<32>),
    /// A passphrase.
    Passphrase(Passphrase),
}

impl Identity {
    /// Draws a new hybrid identity.
    ///
    /// # Errors
    /// Unavailable, if the generator fails.
    pub fn generate_hybrid(entropy: &dyn Entropy) -> Result<Self> {
        SecretKey::generate(entropy).map(Self::Hybrid)
    }

    /// Draws a new X25519 identity.
    ///
    /// # Errors
    /// Unavailable, if the generator fails.
    pub fn generate_x25519(entropy: &dyn Entropy) -> Result<Self> {
        Secret::generate(entropy).map(Self::X25519)
    }

    /// The recipient that it answers to; a passphrase is not given away.
    #[must_use]
    pub fn recipient(&self) -> Option<Recipient> {
        match self {
            Self::Hybrid(key) => Some(Recipient::Hybrid(key.public_key())),
            Self::X25519(key) => Some(Recipient::X25519(x25519::public_key(key))),
            Self::Passphrase(_) => None,
        }
    }

    /// The secret text of a key, as stock age keeps it in files; a passphrase has none.
    #[must_use]
    pub fn to_secret_text(&self) -> Option<Zeroizing<String>> {
        let mut text = match self {
            Self::Hybrid(key) => bech32::encode(HYBRID_SECRET_HRP, key.secret().expose()),
            Self::X25519(key) => bech32::encode(X25519_SECRET_HRP, key.expose()),
            Self::Passphrase(_) => return None,
        };
        text.make_ascii_uppercase();
        Some(text)
    }

    /// The file key, if one of `stanzas` is for this identity.
    pub(super) fn unwrap(&self, stanzas: &[Stanza]) -> Result<Option<FileKey>> {
        let is_passphrase = |stanza: &Stanza| {
            [passphrase::SCRYPT_TAG, passphrase::ARGON2ID_TAG].contains(&stanza.tag())
        };
        if stanzas.len() > 1 && stanzas.iter().any(is_passphrase) {
            return Err(Error::malformed(header::WHAT, "a passphrase is not alone"));
        }
        for stanza in stanzas {
            let file_key = match self {
                Self::Hybrid(key) => hybrid::unwrap_with(key, stanza)?,
                Self::X25519(key) => x25519::unwrap_with(key, stanza)?,
                Self::Passphrase(passphrase) => passphrase.unwrap_with(stanza)?,
            };
            if file_key.is_some() {
                return Ok(file_key);
            }
        }
        Ok(None)
    }
}

impl FromStr for Identity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let what = "age identity";
        if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            return Err(Error::malformed(what, "it is not in upper case"));
        }
        let lower = Zeroizing::new(text.to_ascii_lowercase());
        let is_hybrid = lower.starts_with("age-secret-key-pq-1");
        let hrp = if is_hybrid {
            HYBRID_SECRET_HRP
        } else {
            X25519_SECRET_HRP
        };
        let bytes = bech32::decode(hrp, &lower)?;
        let key = bytes.as_slice().try_into();
        let key =
            Secret::from_bytes(key.map_err(|_| Error::malformed(what, "it has not 32 bytes"))?);
        Ok(if is_hybrid {
            Self::Hybrid(SecretKey::from_secret(key))
        } else {
            Self::X25519(key)
        })
    }
}

/// Which recipients may share a file.
pub(super) fn check_set(recipients: &[Recipient]) -> Result<()> {
    let what = "set of recipients";
    let count = |is: fn(&Recipient) -> bool| recipients.iter().filter(|r| is(r)).count();
    let n_passphrases = count(|r| matches!(r, Recipient::Passphrase(_)));
    let n_hybrids = count(|r| matches!(r, Recipient::Hybrid(_)));
    if recipients.is_empty() {
        return Err(Error::malformed(what, "it is empty"));
    }
    if n_passphrases > 0 && recipients.len() > 1 {
        return Err(Error::malformed(what, "a passphrase must be alone"));
    }
    if n_hybrids > 0 && n_hybrids < recipients.len() {
        let reason = "X25519 beside hybrid recipients would open the file to quantum computers";
        return Err(Error::malformed(what, reason));
    }
    Ok(())
}
