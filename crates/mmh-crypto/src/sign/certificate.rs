//! Certificates: a root says which key may sign which names, for what, and how long.
//!
//! The root is an SLH-DSA key that readers pin; the key that it vouches for changes as often as its
//! owner likes, and readers need not hear of it. Chains have this one link. Bytes are in FORMAT.md,
//! "Signatures".

use mmh_core::canonical::{self, Canonical};
use mmh_core::error::shorten;
use mmh_core::name::RepoName;
use mmh_core::{NamePattern, limits};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{Algorithm, KeyId, PublicKey, Signer};
use crate::error::{Error, Result};
use crate::pem;

/// What a key may be certified for: signing snapshots under a name.
pub const PURPOSE_SNAPSHOT: &str = "snapshot";
/// Context of signatures on certificates.
const CONTEXT: &[u8] = b"mmh-rs certificate v1";
/// Most patterns, and most purposes, of one certificate.
const LISTED_MAX: usize = 64;
const LABEL: &str = "MMH CERTIFICATE";
const WHAT: &str = "certificate";

/// What a root says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The key that may sign.
    pub key: PublicKey,
    /// Under which names.
    pub names: Vec<NamePattern>,
    /// For which purposes, such as [`PURPOSE_SNAPSHOT`]; those that are not known here count
    /// nothing.
    pub purposes: Vec<String>,
    /// The first moment, in milliseconds since 1970-01-01 UTC.
    pub not_before_ms: u64,
    /// The last moment.
    pub not_after_ms: u64,
}

impl Terms {
    /// Why the key may not sign snapshots of `name` at this moment; `None` if it may.
    #[must_use]
    pub fn objection(&self, name: &RepoName, now_ms: u64) -> Option<Objection> {
        if now_ms < self.not_before_ms {
            return Some(Objection::Early(self.not_before_ms));
        }
        if now_ms > self.not_after_ms {
            return Some(Objection::Expired(self.not_after_ms));
        }
        let is_meant = self.names.iter().any(|names| names.matches(name));
        let is_for = self.purposes.iter().any(|p| p == PURPOSE_SNAPSHOT);
        (!is_meant || !is_for).then_some(Objection::Elsewhere)
    }
}

/// Why a certificate does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objection {
    /// It holds from this moment on.
    Early(u64),
    /// It held until this moment.
    Expired(u64),
    /// It is for other names or purposes.
    Elsewhere,
}

/// [`Terms`] with a root's signature, which nobody has checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    said: Vec<u8>,
    terms: Terms,
    issuer: KeyId,
    algorithm: Algorithm,
    signature: Vec<u8>,
}

impl Certificate {
    /// Signs `terms` by the root `issuer`.
    ///
    /// # Errors
    /// Invalid, if the issuer is no SLH-DSA key, the key is no composite one, there is no name or
    /// purpose, too many, or no moment at which it holds.
    pub fn issue(issuer: &dyn Signer, terms: Terms) -> Result<Self> {
        let public = issuer.public_key();
        if public.algorithm() != Algorithm::SlhDsaSha2128s {
            return Err(malformed(
                "only a root certifies: make one of the type `root`",
            ));
        }
        let said = canonical::encode(&wire::Terms::new(&terms, public.id()))
            .map_err(|error| malformed(&error.to_string()))?;
        let signature = issuer.sign(CONTEXT, &said)?;
        let (issuer, algorithm) = (public.id(), public.algorithm());
        let certificate = Self {
            said,
            terms,
            issuer,
            algorithm,
            signature,
        };
        // Whatever this refuses, readers would refuse.
        Self::from_bytes(&certificate.to_bytes())
    }

    /// Parses what [`Self::to_bytes`] wrote, and checks everything but the signature.
    ///
    /// # Errors
    /// Invalid, if it is malformed; Unsupported, for an unknown algorithm.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let invalid = |error: mmh_core::Error| malformed(&error.to_string());
        let outer: wire::Certificate = canonical::decode(bytes).map_err(invalid)?;
        let said = outer.terms.into_vec();
        let inner: wire::Terms = canonical::decode(&said).map_err(invalid)?;
        let key = PublicKey::from_bytes(&inner.key)?;
        if key.algorithm() != Algorithm::MlDsa65Ed25519 {
            return Err(malformed("only composite keys are certified"));
        }
        let terms = Terms {
            key,
            names: inner.names,
            purposes: inner.purposes,
            not_before_ms: inner.not_before_ms,
            not_after_ms: inner.not_after_ms,
        };
        Ok(Self {
            said,
            terms,
            issuer: inner.issuer.parse()?,
            algorithm: outer.algorithm.parse()?,
            signature: outer.signature.into_vec(),
        })
    }

    /// The canonical encoding.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let outer = wire::Certificate {
            r#type: wire::CertificateTag::Tag,
            terms: ByteBuf::from(self.said.clone()),
            algorithm: self.algorithm.name().to_owned(),
            signature: ByteBuf::from(self.signature.clone()),
        };
        canonical::encode(&outer).expect("within the limits that were checked")
    }

    /// Reads a certificate from PEM.
    ///
    /// # Errors
    /// As [`Self::from_bytes`].
    pub fn from_pem(text: &str) -> Result<Self> {
        Self::from_bytes(&pem::decode(LABEL, text)?)
    }

    /// The certificate as PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode(LABEL, &self.to_bytes()).as_str().to_owned()
    }

    /// Whose signature it claims to have.
    #[must_use]
    pub fn issuer(&self) -> KeyId {
        self.issuer
    }

    /// What it says; true only after [`Self::verify`].
    #[must_use]
    pub fn claims(&self) -> &Terms {
        &self.terms
    }

    /// What it says, if `issuer` signed it.
    ///
    /// # Errors
    /// Denied, if it names another issuer; Corrupt, if the signature does not verify.
    pub fn verify(&self, issuer: &PublicKey) -> Result<&Terms> {
        if self.issuer != issuer.id() {
            return Err(Error::NoMatch);
        }
        // A key that may sign must not let others sign.
        let algorithm = issuer.algorithm();
        if self.algorithm != algorithm || algorithm != Algorithm::SlhDsaSha2128s {
            let algorithm = algorithm.name();
            return Err(Error::BadSignature { algorithm });
        }
        issuer.verify(CONTEXT, &self.said, &self.signature)?;
        Ok(&self.terms)
    }
}

/// Whether a PEM text is meant to be a certificate.
#[must_use]
pub fn is_pem(text: &str) -> bool {
    pem::label(text) == Some(LABEL)
}

fn malformed(reason: &str) -> Error {
    Error::malformed(WHAT, shorten(reason))
}

/// Parses hostile bytes; what is accepted has one spelling, and the signature is still wrong.
///
/// # Panics
/// If it verifies, or has two spellings: that is its purpose.
#[cfg(any(test, feature = "testing"))]
pub fn fuzz_certificate(bytes: &[u8]) {
    if let Ok(certificate) = Certificate::from_bytes(bytes) {
        assert_eq!(certificate.to_bytes(), bytes);
        let root = super::root::VerifyingKey::from_bytes(&[7; super::root::PUBLIC_KEY_LEN]);
        let root = PublicKey::Root(root.expect("any 32 bytes are a key"));
        assert!(certificate.verify(&root).is_err());
    }
}

/// The two canonical objects.
mod wire {
    use super::{
        ByteBuf, Canonical, Deserialize, KeyId, LISTED_MAX, NamePattern, Serialize, limits,
    };
    use mmh_core::{Error, Result};

    /// The value of `type` in the outer object.
    #[derive(Debug, Serialize, Deserialize)]
    pub(super) enum CertificateTag {
        #[serde(rename = "certificate")]
        Tag,
    }

    /// The value of `type` in what is signed.
    #[derive(Debug, Serialize, Deserialize)]
    pub(super) enum TermsTag {
        #[serde(rename = "terms")]
        Tag,
    }

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Certificate {
        pub(super) r#type: CertificateTag,
        pub(super) terms: ByteBuf,
        pub(super) algorithm: String,
        pub(super) signature: ByteBuf,
    }

    impl Canonical for Certificate {
        const WHAT: &'static str = "certificate";
        const LEN_MAX: usize = 64 << 10;

        fn check(&self) -> Result<()> {
            Ok(())
        }
    }

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Terms {
        pub(super) r#type: TermsTag,
        pub(super) issuer: String,
        pub(super) key: ByteBuf,
        pub(super) names: Vec<NamePattern>,
        pub(super) purposes: Vec<String>,
        pub(super) not_before_ms: u64,
        pub(super) not_after_ms: u64,
    }

    impl Terms {
        pub(super) fn new(terms: &super::Terms, issuer: KeyId) -> Self {
            Self {
                r#type: TermsTag::Tag,
                issuer: issuer.to_string(),
                key: ByteBuf::from(terms.key.to_bytes()),
                names: terms.names.clone(),
                purposes: terms.purposes.clone(),
                not_before_ms: terms.not_before_ms,
                not_after_ms: terms.not_after_ms,
            }
        }
    }

    impl Canonical for Terms {
        const WHAT: &'static str = "terms of a certificate";
        const LEN_MAX: usize = 32 << 10;

        fn check(&self) -> Result<()> {
            let bad = |reason: &str| Error::BadObject {
                what: Self::WHAT,
                reason: reason.to_owned(),
            };
            let is_listed = |len: usize| (1..=LISTED_MAX).contains(&len);
            if !is_listed(self.names.len()) || !is_listed(self.purposes.len()) {
                return Err(bad("it has no name or purpose, or too many"));
            }
            if self.purposes.iter().any(|p| p.len() > limits::NAME_LEN_MAX) {
                return Err(bad("a purpose is too long"));
            }
            if self.not_before_ms > self.not_after_ms {
                return Err(bad("it ends before it begins"));
            }
            Ok(())
        }
    }
}
