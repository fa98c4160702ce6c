//! What can go wrong when a frame is written or read.

use mmh_core::ErrorKind;
use thiserror::Error;

use crate::Method;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure of the codec.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are no frame that an encoder of this format writes.
    #[error("corrupt frame: {what}")]
    Corrupt {
        /// The rule that does not hold.
        what: &'static str,
    },
    /// The frame says that it holds more than the caller allows.
    #[error("frame states {raw_len} bytes of content, more than the {limit} expected")]
    FrameTooLarge {
        /// Bytes of content that the frame states.
        raw_len: u64,
        /// The caller's limit in bytes.
        limit: u64,
    },
    /// A frame was to get names for what it does not refer to, or too few.
    #[error("the frame refers to more, or to less, than names were given for")]
    OtherReferences,
    /// The frame has a version that this build does not know.
    #[error("frame version {found} is unknown; this build reads version {newest}")]
    UnknownVersion {
        /// The version found.
        found: u8,
        /// The newest version that this build reads.
        newest: u8,
    },
    /// The frame uses a method, layout or plane code that this build does not know.
    #[error("frame uses {what} {code}, which this build does not know")]
    UnknownCode {
        /// Which code it is.
        what: &'static str,
        /// Its value.
        code: u8,
    },
    /// The frame needs content that the caller did not give.
    #[error("frame needs its {what} {}, which was not given", hex(id))]
    MissingReference {
        /// Which reference it is: `base`.
        what: &'static str,
        /// Its name in the frame.
        id: crate::ContentId,
    },
    /// The caller asked for bytes that the content does not have.
    #[error("bytes {start} to {end} are not within the {raw_len} of the content")]
    RangeOutside {
        /// The first byte asked for.
        start: u64,
        /// One after the last.
        end: u64,
        /// Bytes of content.
        raw_len: u64,
    },
    /// The content to encode is larger than any chunk may be.
    #[error("chunk of {len} bytes exceeds the limit of {limit}")]
    ChunkTooLarge {
        /// Its length in bytes.
        len: u64,
        /// The limit, [`mmh_core::limits::CHUNK_LEN_MAX`].
        limit: u64,
    },
    /// A text names no level.
    #[error("`{text}` is no level; use fast, default or archive")]
    UnknownLevel {
        /// The text as given (shortened).
        text: String,
    },
    /// This machine has no engine of this name.
    #[error("no engine `{name}` on this machine, which has: {found}")]
    UnknownEngine {
        /// The name as given (shortened).
        name: String,
        /// The names that there are.
        found: String,
    },
    /// A frame did not decode to what was encoded: a fault of this crate.
    #[error("a {method} frame of {len} bytes of content did not decode to the same bytes")]
    VerifyFailed {
        /// How it was encoded.
        method: Method,
        /// Bytes of content.
        len: u64,
    },
    /// An engine was asked to code what its tables cannot: a fault of the caller.
    #[error("cannot encode: {what}")]
    Unencodable {
        /// What is missing.
        what: &'static str,
    },
    /// The zstd library failed where it must not.
    #[error("zstd failed: {reason}")]
    Zstd {
        /// Its own words.
        reason: String,
    },
}

impl Error {
    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Corrupt { .. } | Self::FrameTooLarge { .. } => ErrorKind::Corrupt,
            Self::UnknownVersion { .. } | Self::UnknownCode { .. } => ErrorKind::Unsupported,
            Self::MissingReference { .. } => ErrorKind::NotFound,
            Self::ChunkTooLarge { .. }
            | Self::RangeOutside { .. }
            | Self::OtherReferences
            | Self::UnknownLevel { .. }
            | Self::UnknownEngine { .. } => ErrorKind::Invalid,
            Self::VerifyFailed { .. } | Self::Unencodable { .. } | Self::Zstd { .. } => {
                ErrorKind::Internal
            }
        }
    }
}

fn hex(id: &crate::ContentId) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Shorthand of the many checks of the decoder.
pub(crate) fn corrupt<T>(what: &'static str) -> Result<T> {
    Err(Error::Corrupt { what })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Damage, a newer writer, a wrong request and our own fault ask for different reactions.
    #[test]
    fn kinds_tell_the_caller_what_to_do() {
        let corrupt = Error::FrameTooLarge {
            raw_len: 9,
            limit: 8,
        };
        assert_eq!(corrupt.kind(), ErrorKind::Corrupt);
        assert_eq!(
            super::corrupt::<()>("x").unwrap_err().kind(),
            ErrorKind::Corrupt
        );
        let newer = Error::UnknownVersion {
            found: 2,
            newest: 1,
        };
        assert_eq!(newer.kind(), ErrorKind::Unsupported);
        let code = Error::UnknownCode {
            what: "method",
            code: 77,
        };
        assert_eq!(code.kind(), ErrorKind::Unsupported);
        assert_eq!(
            Error::ChunkTooLarge { len: 2, limit: 1 }.kind(),
            ErrorKind::Invalid
        );
        assert_eq!(
            Error::UnknownLevel { text: "max".into() }.kind(),
            ErrorKind::Invalid
        );
        let missing = Error::MissingReference {
            what: "base",
            id: [0xab; 32],
        };
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        assert!(missing.to_string().contains(&"ab".repeat(32)));
        let outside = Error::RangeOutside {
            start: 1,
            end: 9,
            raw_len: 8,
        };
        assert_eq!(outside.kind(), ErrorKind::Invalid);
        assert_eq!(
            outside.to_string(),
            "bytes 1 to 9 are not within the 8 of the content"
        );
        let fault = Error::VerifyFailed {
            method: Method::Raw,
            len: 1,
        };
        assert_eq!(fault.kind(), ErrorKind::Internal);
        assert_eq!(
            fault.to_string(),
            "a raw frame of 1 bytes of content did not decode to the same bytes"
        );
    }

    /// Each message says what was found and what was expected, in one line.
    #[test]
    fn messages_name_the_facts() {
        let cases = [
            (
                Error::Corrupt {
                    what: "it ends early",
                },
                "corrupt frame: it ends early",
            ),
            (
                Error::FrameTooLarge {
                    raw_len: 9,
                    limit: 8,
                },
                "frame states 9 bytes of content, more than the 8 expected",
            ),
            (
                Error::UnknownVersion {
                    found: 3,
                    newest: 1,
                },
                "frame version 3 is unknown; this build reads version 1",
            ),
            (
                Error::UnknownCode {
                    what: "layout",
                    code: 63,
                },
                "frame uses layout 63, which this build does not know",
            ),
            (
                Error::ChunkTooLarge { len: 5, limit: 4 },
                "chunk of 5 bytes exceeds the limit of 4",
            ),
            (
                Error::UnknownLevel { text: "max".into() },
                "`max` is no level; use fast, default or archive",
            ),
            (
                Error::UnknownEngine {
                    name: "x".into(),
                    found: "a, b".into(),
                },
                "no engine `x` on this machine, which has: a, b",
            ),
            (
                Error::Unencodable { what: "a class" },
                "cannot encode: a class",
            ),
            (
                Error::Zstd {
                    reason: "no memory".into(),
                },
                "zstd failed: no memory",
            ),
        ];
        for (error, message) in cases {
            assert_eq!(error.to_string(), message);
        }
        for fault in [
            Error::Unencodable { what: "" },
            Error::Zstd {
                reason: String::new(),
            },
        ] {
            assert_eq!(fault.kind(), ErrorKind::Internal);
        }
    }
}
