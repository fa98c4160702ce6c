//! Keys as people keep them: a secret key of any type, a public one, and their texts.
//!
//! Texts are PEM. P-256 keys have the labels that OpenSSL writes, ours have labels of our own.

use std::fmt;
use std::str::FromStr;

use mmh_core::ports::Entropy;
use zeroize::Zeroizing;

use super::{Algorithm, PublicKey, Signer, composite, root};
use crate::bundle::{key_hint, p256};
use crate::error::{Error, Result};
use crate::pem;
use crate::secret::Secret;

const SECRET_LABEL: &str = "MMH SECRET KEY";
const PUBLIC_LABEL: &str = "MMH PUBLIC KEY";
const WHAT: &str = "secret key";

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// Signs snapshots every day: ML-DSA-65 and Ed25519 in one.
    Composite,
    /// Certifies composite keys, for decades: SLH-DSA-SHA2-128s.
    Root,
    /// Signs bundles for stock tools: ECDSA over P-256, which quantum computers will break.
    P256,
}

impl KeyType {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Composite, Self::Root, Self::P256];

    /// The name that people type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Composite => "composite",
            Self::Root => "root",
            Self::P256 => "p256",
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KeyType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|known| known.name() == name);
        known.ok_or_else(|| Error::Unsupported {
            what: "type of key",
            name: mmh_core::error::shorten(name),
        })
    }
}

/// A secret key of any type, in memory.
#[derive(Debug)]
#[non_exhaustive]
pub enum SecretKey {
    /// See [`KeyType::Composite`].
    Composite(Box<composite::SigningKey>),
    /// See [`KeyType::Root`].
    Root(Box<root::SigningKey>),
    /// See [`KeyType::P256`].
    P256(Box<p256::SigningKey>),
}

impl SecretKey {
    /// Draws a new one.
    ///
    /// # Errors
    /// Unavailable, if the generator fails.
    pub fn generate(key_type: KeyType, entropy: &dyn Entropy) -> Result<Self> {
        Ok(match key_type {
            KeyType::Composite => {
                let seed = Secret::generate(entropy)?;
                Self::Composite(Box::new(composite::SigningKey::from_seed(seed)))
            }
            KeyType::Root => {
                let seed = Secret::generate(entropy)?;
                Self::Root(Box::new(root::SigningKey::from_seed(seed)))
            }
            KeyType::P256 => Self::P256(Box::new(p256::SigningKey::generate()?)),
        })
    }

    /// The key that verifies what this one signs.
    #[must_use]
    pub fn public(&self) -> AnyPublicKey {
        match self {
            Self::Composite(key) => AnyPublicKey::Signing(key.public_key()),
            Self::Root(key) => AnyPublicKey::Signing(key.public_key()),
            Self::P256(key) => AnyPublicKey::P256(p256::Signer::public_key(key.as_ref())),
        }
    }

    /// The key as text, which is as secret as the key.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        let ours = |algorithm: Algorithm, seed: &[u8]| {
            let bytes = Zeroizing::new([&[algorithm.number()], seed].concat());
            pem::encode(SECRET_LABEL, &bytes)
        };
        match self {
            Self::Composite(key) => ours(Algorithm::MlDsa65Ed25519, key.seed().expose()),
            Self::Root(key) => ours(Algorithm::SlhDsaSha2128s, key.seed().expose()),
            Self::P256(key) => key.to_pem(),
        }
    }

    /// Reads what [`Self::to_pem`] or OpenSSL wrote.
    ///
    /// # Errors
    /// Invalid, if it is no such text; Unsupported, for another algorithm.
    pub fn from_pem(text: &str) -> Result<Self> {
        if pem::label(text) != Some(SECRET_LABEL) {
            let key = p256::SigningKey::from_pem(text)?;
            return Ok(Self::P256(Box::new(key)));
        }
        let bytes = pem::decode(SECRET_LABEL, text)?;
        let length = || Error::malformed(WHAT, "it has the wrong length");
        let (&number, seed) = bytes.split_first().ok_or_else(length)?;
        match Algorithm::of_number(number)? {
            Algorithm::MlDsa65Ed25519 => {
                let seed = Secret::from_bytes(seed.try_into().map_err(|_| length())?);
                let key = composite::SigningKey::from_seed(seed);
                Ok(Self::Composite(Box::new(key)))
            }
            Algorithm::SlhDsaSha2128s => {
                let seed = Secret::from_bytes(seed.try_into().map_err(|_| length())?);
                Ok(Self::Root(Box::new(root::SigningKey::from_seed(seed))))
            }
        }
    }
}

/// A public key of any type.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnyPublicKey {
    /// One of our own algorithms.
    Signing(PublicKey),
    /// See [`KeyType::P256`].
    P256(p256::VerifyingKey),
}

impl AnyPublicKey {
    /// What the key is for.
    #[must_use]
    pub fn key_type(&self) -> KeyType {
        match self {
            Self::Signing(PublicKey::Composite(_)) => KeyType::Composite,
            Self::Signing(PublicKey::Root(_)) => KeyType::Root,
            Self::P256(_) => KeyType::P256,
        }
    }

    /// What signatures name it by, in 64 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::Signing(key) => key.id().to_string(),
            Self::P256(key) => key_hint(key),
        }
    }

    /// The key as text.
    #[must_use]
    pub fn to_pem(&self) -> String {
        match self {
            Self::Signing(key) => pem::encode(PUBLIC_LABEL, &key.to_bytes())
                .as_str()
                .to_owned(),
            Self::P256(key) => key.to_pem(),
        }
    }

    /// Reads what [`Self::to_pem`] or OpenSSL wrote.
    ///
    /// # Errors
    /// Invalid, if it is no such text; Unsupported, for another algorithm.
    pub fn from_pem(text: &str) -> Result<Self> {
        if pem::label(text) != Some(PUBLIC_LABEL) {
            return p256::VerifyingKey::from_pem(text).map(Self::P256);
        }
        let bytes = pem::decode(PUBLIC_LABEL, text)?;
        PublicKey::from_bytes(&bytes).map(Self::Signing)
    }
}

/// Whether a PEM text is meant to be a secret key; it may be of another program.
#[must_use]
pub fn is_secret_pem(text: &str) -> bool {
    pem::label(text)
        .is_some_and(|label| label.ends_with("SECRET KEY") || label.ends_with("PRIVATE KEY"))
}

#[cfg(test)]
mod tests {
    use mmh_core::ErrorKind;

    use super::*;
    use crate::testing::Counter;

    #[test]
    fn texts_of_every_type_come_back() {
        for key_type in KeyType::ALL {
            let key = SecretKey::generate(key_type, &Counter::default()).unwrap();
            let (secret, public) = (key.to_pem(), key.public());
            assert!(is_secret_pem(&secret) && !is_secret_pem(&public.to_pem()));
            let again = SecretKey::from_pem(&secret).unwrap();
            assert_eq!((again.public(), again.to_pem()), (public.clone(), secret));
            assert_eq!(AnyPublicKey::from_pem(&public.to_pem()).unwrap(), public);
            assert_eq!((public.key_type(), public.id().len()), (key_type, 64));
            assert_eq!(key_type.to_string().parse::<KeyType>().unwrap(), key_type);
        }
        let error = "rsa".parse::<KeyType>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn other_texts_are_refused() {
        let secret = |bytes: &[u8]| SecretKey::from_pem(&pem::encode(SECRET_LABEL, bytes)).err();
        let public = |bytes: &[u8]| AnyPublicKey::from_pem(&pem::encode(PUBLIC_LABEL, bytes)).err();
        for (bytes, kind) in [
            (&[][..], ErrorKind::Invalid),
            (&[1], ErrorKind::Invalid),
            (&[2; 48], ErrorKind::Invalid),
            (&[1; 66], ErrorKind::Invalid),
            (&[9; 65], ErrorKind::Unsupported),
        ] {
            assert_eq!(
                secret(bytes).map(|e| e.kind()),
                Some(kind),
                "{}",
                bytes.len()
            );
            assert_eq!(
                public(bytes).map(|e| e.kind()),
                Some(kind),
                "{}",
                bytes.len()
            );
        }
        for text in [
            "",
            "x",
            "-----BEGIN RSA PRIVATE KEY-----\n-----END RSA PRIVATE KEY-----\n",
        ] {
            assert!(SecretKey::from_pem(text).is_err() && AnyPublicKey::from_pem(text).is_err());
        }
    }

    /// A secret key is never printed, and a dry generator makes none.
    #[test]
    fn secrets_stay_secret() {
        for key_type in [KeyType::Composite, KeyType::Root] {
            let key = SecretKey::generate(key_type, &Counter::default()).unwrap();
            assert!(format!("{key:?}").contains(&key.public().id()));
            let error = SecretKey::generate(key_type, &crate::testing::Dry).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable);
        }
    }
}
