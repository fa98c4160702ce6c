//! What can be wrong with bytes of the protocol.

use mmh_core::ErrorKind;

use crate::hash::XetHash;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Why bytes were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// They end too early, contradict themselves or cross a limit.
    #[error("not a valid {what}: {reason}")]
    Malformed {
        /// What they should have been.
        what: &'static str,
        /// What does not hold.
        reason: String,
    },
    /// They are of a version or kind that is not known here.
    #[error("this {what} is not supported: {reason}")]
    Unsupported {
        /// What they are.
        what: &'static str,
        /// Which version or kind.
        reason: String,
    },
    /// They do not have the hash that was claimed.
    #[error("the {what} has the hash {actual}, not {claimed}")]
    WrongHash {
        /// What they are.
        what: &'static str,
        /// What was claimed.
        claimed: XetHash,
        /// What they have.
        actual: XetHash,
    },
    /// They refer to a xorb that nobody knows.
    #[error("xorb {0} is not known")]
    UnknownXorb(XetHash),
}

impl Error {
    /// Bytes that contradict themselves.
    pub(crate) fn malformed(what: &'static str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self::Malformed { what, reason }
    }

    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Malformed { .. } | Self::WrongHash { .. } => ErrorKind::Invalid,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::UnknownXorb(_) => ErrorKind::NotFound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_say_what_to_do() {
        let hash = XetHash::from_bytes([1; 32]);
        assert_eq!(Error::malformed("xorb", "x").kind(), ErrorKind::Invalid);
        assert_eq!(Error::UnknownXorb(hash).kind(), ErrorKind::NotFound);
        let wrong = Error::WrongHash {
            what: "xorb",
            claimed: hash,
            actual: XetHash::default(),
        };
        assert_eq!(wrong.kind(), ErrorKind::Invalid);
        assert!(wrong.to_string().contains(&hash.to_string()), "{wrong}");
        let newer = Error::Unsupported {
            what: "shard",
            reason: "version 9".to_owned(),
        };
        assert_eq!(newer.kind(), ErrorKind::Unsupported);
    }
}
