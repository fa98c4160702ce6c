//! What can go wrong with keys, sealed bytes, key slots, signatures, seeds and shares.

use mmh_core::ErrorKind;
use thiserror::Error;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a cryptographic operation gave nothing. No message carries secret bytes.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// Text or bytes from outside that are not what they should be.
    #[error("not a valid {what}: {reason}")]
    Malformed {
        /// What was expected.
        what: &'static str,
        /// Why it was refused.
        reason: String,
    },
    /// A limit of this crate was exceeded.
    #[error("{what} is {value}, more than the limit of {limit}")]
    TooLarge {
        /// What was measured.
        what: &'static str,
        /// Its size.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// A version or algorithm that this build does not know.
    #[error("{what} `{name}` is not supported")]
    Unsupported {
        /// What was to be chosen.
        what: &'static str,
        /// The name or number that was found.
        name: String,
    },
    /// None of the identities or passphrases at hand opens the key slot.
    #[error("none of the given identities opens this key slot")]
    NoMatch,
    /// The authentication tag of sealed bytes does not fit: another key, or changed bytes.
    #[error("{what} is damaged or was sealed under another key")]
    Forged {
        /// What was to be opened.
        what: &'static str,
    },
    /// A signature that is not by this key over this message.
    #[error("the {algorithm} signature does not verify")]
    BadSignature {
        /// The algorithm whose check failed.
        algorithm: &'static str,
    },
    /// Shares that do not belong together, or too few of them.
    #[error("the shares cannot be combined: {reason}")]
    Shares {
        /// What is missing or contradictory.
        reason: String,
    },
    /// The source of random bytes failed.
    #[error("no random bytes: {0}")]
    Entropy(#[from] std::io::Error),
}

impl Error {
    /// Outside text or bytes that are not a `what`.
    pub(crate) fn malformed(what: &'static str, reason: impl Into<String>) -> Self {
        Self::Malformed {
            what,
            reason: reason.into(),
        }
    }

    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Malformed { .. } | Self::TooLarge { .. } | Self::Shares { .. } => {
                ErrorKind::Invalid
            }
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::NoMatch => ErrorKind::Denied,
            Self::Forged { .. } | Self::BadSignature { .. } => ErrorKind::Corrupt,
            Self::Entropy(_) => ErrorKind::Unavailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each variant; the inner match has no wildcard, so that a new one needs a line here.
    #[test]
    fn every_variant_has_a_kind_and_a_message() {
        let all = [
            Error::malformed("thing", "why"),
            Error::TooLarge {
                what: "size",
                value: 9,
                limit: 8,
            },
            Error::Unsupported {
                what: "version",
                name: "7".to_owned(),
            },
            Error::NoMatch,
            Error::Forged { what: "chunk" },
            Error::BadSignature { algorithm: "X" },
            Error::Shares {
                reason: "two are alike".to_owned(),
            },
            Error::Entropy(std::io::Error::other("dry")),
        ];
        for error in all {
            let (kind, message) = match &error {
                Error::Malformed { .. } => (ErrorKind::Invalid, "not a valid thing: why"),
                Error::TooLarge { .. } => {
                    (ErrorKind::Invalid, "size is 9, more than the limit of 8")
                }
                Error::Unsupported { .. } => {
                    (ErrorKind::Unsupported, "version `7` is not supported")
                }
                Error::NoMatch => (
                    ErrorKind::Denied,
                    "none of the given identities opens this key slot",
                ),
                Error::Forged { .. } => (
                    ErrorKind::Corrupt,
                    "chunk is damaged or was sealed under another key",
                ),
                Error::BadSignature { .. } => {
                    (ErrorKind::Corrupt, "the X signature does not verify")
                }
                Error::Shares { .. } => (
                    ErrorKind::Invalid,
                    "the shares cannot be combined: two are alike",
                ),
                Error::Entropy(_) => (ErrorKind::Unavailable, "no random bytes: dry"),
            };
            assert_eq!((error.kind(), error.to_string().as_str()), (kind, message));
        }
    }
}
