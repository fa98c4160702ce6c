//! The eight kinds of failure, what each means at every door, and this crate's own errors.

use thiserror::Error;

/// What a caller can do about a failure. Each crate's error maps to one of these, and each door
/// maps a kind to its own code in one place: the methods below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The thing is not here: look elsewhere.
    NotFound,
    /// The request or the input is malformed: correct it.
    Invalid,
    /// A newer version, or another build, may do this.
    Unsupported,
    /// The credentials or permissions at hand do not allow it.
    Denied,
    /// Somebody else changed it first: read again and retry.
    Conflict,
    /// A resource is busy, full or unreachable: try later.
    Unavailable,
    /// Bytes do not match their digest: repair, or use a replica.
    Corrupt,
    /// A fault of this program: report it.
    Internal,
}

impl ErrorKind {
    /// All kinds, in the order of the table in ARCHITECTURE.md.
    pub const ALL: [Self; 8] = [
        Self::NotFound,
        Self::Invalid,
        Self::Unsupported,
        Self::Denied,
        Self::Conflict,
        Self::Unavailable,
        Self::Corrupt,
        Self::Internal,
    ];

    /// The exit status of the command line.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::Invalid => 2,
            Self::NotFound => 3,
            Self::Unsupported => 4,
            Self::Denied => 5,
            Self::Conflict => 6,
            Self::Unavailable => 7,
            Self::Corrupt => 8,
        }
    }

    /// The HTTP status of the network doors.
    #[must_use]
    pub fn http_status(self) -> u16 {
        match self {
            Self::NotFound => 404,
            Self::Invalid => 400,
            Self::Unsupported => 501,
            Self::Denied => 403,
            Self::Conflict => 409,
            Self::Unavailable => 503,
            Self::Corrupt | Self::Internal => 500,
        }
    }

    /// The symbolic `errno` of the mounted folder.
    #[must_use]
    pub fn errno(self) -> &'static str {
        match self {
            Self::NotFound => "ENOENT",
            Self::Invalid => "EINVAL",
            Self::Unsupported => "ENOTSUP",
            Self::Denied => "EACCES",
            Self::Conflict => "EBUSY",
            Self::Unavailable => "EAGAIN",
            Self::Corrupt | Self::Internal => "EIO",
        }
    }

    /// The kind in lower case with underscores, as it stands in JSON output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Invalid => "invalid",
            Self::Unsupported => "unsupported",
            Self::Denied => "denied",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::Corrupt => "corrupt",
            Self::Internal => "internal",
        }
    }

    /// What the reader of a message may do next.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::NotFound => "check the spelling, or list what is there with `mmh ls`",
            Self::Invalid => "correct the request and try again",
            Self::Unsupported => "a newer version may support it",
            Self::Denied => "check permissions and credentials",
            Self::Conflict => "another writer was first; run the command again",
            Self::Unavailable => "free the resource (disk, network) and run the command again",
            Self::Corrupt => {
                "run `mmh verify` to see what is hit, and restore it from another copy"
            }
            Self::Internal => "this is a fault in mmh; please report it with the command you ran",
        }
    }

    /// Maps an operating system error to the kind that says what the caller can do.
    #[must_use]
    pub fn of_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        match error.kind() {
            Io::NotFound | Io::NotADirectory => Self::NotFound,
            Io::PermissionDenied | Io::ReadOnlyFilesystem => Self::Denied,
            Io::AlreadyExists => Self::Conflict,
            Io::InvalidInput | Io::InvalidFilename | Io::IsADirectory => Self::Invalid,
            Io::Unsupported => Self::Unsupported,
            Io::InvalidData | Io::UnexpectedEof => Self::Corrupt,
            _ => Self::Unavailable,
        }
    }
}

impl std::fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// What can be wrong with an id, a name, a range or an encoded object.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A string that should be an id is none.
    #[error("`{text}` is not a {what} id: {reason}")]
    BadId {
        /// The id type that was expected.
        what: &'static str,
        /// The text as given (shortened).
        text: String,
        /// Why it was refused.
        reason: String,
    },
    /// Bytes that should be a canonical object are not.
    #[error("not a canonical {what}: {reason}")]
    NotCanonical {
        /// The object type that was expected.
        what: &'static str,
        /// Why it was refused.
        reason: String,
    },
    /// An object violates a rule of the object model.
    #[error("invalid {what}: {reason}")]
    BadObject {
        /// The object type.
        what: &'static str,
        /// The rule that does not hold.
        reason: String,
    },
    /// A repository name, revision or path is not acceptable.
    #[error("`{text}` is not a valid {what}: {reason}")]
    BadName {
        /// What the text should have been.
        what: &'static str,
        /// The text as given (shortened).
        text: String,
        /// Why it was refused.
        reason: &'static str,
    },
    /// A byte range that does not fit its file.
    #[error("range {text} does not fit a length of {len} bytes")]
    BadRange {
        /// The range as given.
        text: String,
        /// The length it was applied to.
        len: u64,
    },
    /// Bytes whose digest is not the expected one.
    #[error("digest mismatch for {what} {expected}: the bytes hash to {actual}")]
    DigestMismatch {
        /// What was read.
        what: &'static str,
        /// The id that was asked for.
        expected: String,
        /// The id of the bytes that came.
        actual: String,
    },
    /// A limit on outside input was exceeded.
    #[error("{what} is {value}, more than the limit of {limit}")]
    TooLarge {
        /// What was measured.
        what: &'static str,
        /// Its size.
        value: u64,
        /// The limit, from [`crate::limits`].
        limit: u64,
    },
    /// The operation was cancelled through [`crate::ports::Cancel`].
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::BadId { .. }
            | Self::BadName { .. }
            | Self::BadRange { .. }
            | Self::BadObject { .. }
            | Self::TooLarge { .. } => ErrorKind::Invalid,
            Self::NotCanonical { .. } | Self::DigestMismatch { .. } => ErrorKind::Corrupt,
            Self::Cancelled => ErrorKind::Unavailable,
        }
    }
}

/// Shortens outside text for a message: at most 80 characters, control characters escaped.
#[must_use]
pub fn shorten(text: &str) -> String {
    let mut out: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of STYLE: every kind has its own exit status, and none is success.
    #[test]
    fn exit_codes_are_distinct_and_never_zero() {
        let mut codes: Vec<u8> = ErrorKind::ALL.iter().map(|k| k.exit_code()).collect();
        codes.sort_unstable();
        assert_eq!(codes, [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn doors_agree_on_the_error_table() {
        let row = |k: ErrorKind| (k.exit_code(), k.http_status(), k.errno());
        assert_eq!(row(ErrorKind::NotFound), (3, 404, "ENOENT"));
        assert_eq!(row(ErrorKind::Invalid), (2, 400, "EINVAL"));
        assert_eq!(row(ErrorKind::Unsupported), (4, 501, "ENOTSUP"));
        assert_eq!(row(ErrorKind::Denied), (5, 403, "EACCES"));
        assert_eq!(row(ErrorKind::Conflict), (6, 409, "EBUSY"));
        assert_eq!(row(ErrorKind::Unavailable), (7, 503, "EAGAIN"));
        assert_eq!(row(ErrorKind::Corrupt), (8, 500, "EIO"));
        assert_eq!(row(ErrorKind::Internal), (1, 500, "EIO"));
    }

    /// One of each variant; the match has no wildcard, so that a new one needs a line here.
    #[test]
    fn every_variant_has_a_kind_and_a_message() {
        let (text, reason) = ("text".to_owned(), "why".to_owned());
        let (what, len) = ("thing", 7);
        let expected = text.clone();
        let all = [
            Error::BadId {
                what,
                text: text.clone(),
                reason: reason.clone(),
            },
            Error::NotCanonical {
                what,
                reason: reason.clone(),
            },
            Error::BadObject { what, reason },
            Error::BadName {
                what,
                text: text.clone(),
                reason: "why",
            },
            Error::BadRange { text, len },
            Error::DigestMismatch {
                what,
                expected,
                actual: "other".to_owned(),
            },
            Error::TooLarge {
                what,
                value: 9,
                limit: 8,
            },
            Error::Cancelled,
        ];
        for error in all {
            let (kind, message) = match &error {
                Error::BadId { .. } => (ErrorKind::Invalid, "`text` is not a thing id: why"),
                Error::NotCanonical { .. } => (ErrorKind::Corrupt, "not a canonical thing: why"),
                Error::BadObject { .. } => (ErrorKind::Invalid, "invalid thing: why"),
                Error::BadName { .. } => (ErrorKind::Invalid, "`text` is not a valid thing: why"),
                Error::BadRange { .. } => (
                    ErrorKind::Invalid,
                    "range text does not fit a length of 7 bytes",
                ),
                Error::DigestMismatch { .. } => (
                    ErrorKind::Corrupt,
                    "digest mismatch for thing text: the bytes hash to other",
                ),
                Error::TooLarge { .. } => {
                    (ErrorKind::Invalid, "thing is 9, more than the limit of 8")
                }
                Error::Cancelled => (ErrorKind::Unavailable, "cancelled"),
            };
            assert_eq!((error.kind(), error.to_string().as_str()), (kind, message));
        }
    }

    #[test]
    fn shortened_text_is_bounded_and_printable() {
        assert_eq!(shorten("a\nb"), "a\\nb");
        assert_eq!(shorten(&"x".repeat(200)).chars().count(), 81);
    }
}
