//! What can be wrong with a recipe, its parameters and its inputs.

use mmh_core::ErrorKind;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Why nothing was derived.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A parameter is unknown, missing or out of its range.
    #[error("parameter `{name}`: {reason}")]
    Parameter {
        /// Its name.
        name: String,
        /// What does not hold.
        reason: String,
    },
    /// An input or output has another length than the operation takes.
    #[error("{what} of {actual}, where {expected} are needed")]
    Length {
        /// What was measured.
        what: &'static str,
        /// Its length.
        actual: u64,
        /// What it should be.
        expected: u64,
    },
    /// Numbers for which the operation has no defined result.
    #[error("a {what} is NaN or infinite, for which the operation defines no result")]
    NotFinite {
        /// Where: in a number of the input, or in a scale that follows.
        what: &'static str,
    },
    /// No operation of this name and version is known here.
    #[error("there is no operation `{name}` of version {version} here")]
    UnknownOp {
        /// The name.
        name: String,
        /// The version.
        version: u32,
    },
    /// A recipe contradicts itself.
    #[error("not a valid recipe: {reason}")]
    Recipe {
        /// What does not hold.
        reason: String,
    },
    /// An input could not be read.
    #[error("an input could not be read: {0}")]
    Source(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The bytes of a recipe are no canonical encoding, or cross a limit.
    #[error(transparent)]
    Core(#[from] mmh_core::Error),
}

impl Error {
    /// A parameter that is not acceptable.
    pub(crate) fn parameter(name: impl Into<String>, reason: impl Into<String>) -> Self {
        let (name, reason) = (name.into(), reason.into());
        Self::Parameter { name, reason }
    }

    /// A length that does not fit.
    pub(crate) fn length(what: &'static str, actual: usize, expected: usize) -> Self {
        let (actual, expected) = (actual as u64, expected as u64);
        Self::Length {
            what,
            actual,
            expected,
        }
    }

    /// A recipe that contradicts itself.
    pub(crate) fn recipe(reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self::Recipe { reason }
    }

    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Parameter { .. }
            | Self::Length { .. }
            | Self::NotFinite { .. }
            | Self::Recipe { .. } => ErrorKind::Invalid,
            Self::UnknownOp { .. } => ErrorKind::Unsupported,
            Self::Source(_) => ErrorKind::Unavailable,
            Self::Core(error) => error.kind(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_say_what_to_do() {
        let unknown = Error::UnknownOp {
            name: "cast".to_owned(),
            version: 9,
        };
        assert_eq!(unknown.kind(), ErrorKind::Unsupported);
        assert!(unknown.to_string().contains("version 9"));
        assert_eq!(Error::parameter("to", "x").kind(), ErrorKind::Invalid);
        assert_eq!(Error::length("row", 1, 2).kind(), ErrorKind::Invalid);
        assert_eq!(
            Error::NotFinite { what: "number" }.kind(),
            ErrorKind::Invalid
        );
        assert_eq!(Error::recipe("x").kind(), ErrorKind::Invalid);
        let source = Error::Source("no disk".into());
        assert_eq!(source.kind(), ErrorKind::Unavailable);
        assert!(source.to_string().ends_with("no disk"));
        let core = Error::from(mmh_core::Error::Cancelled);
        assert_eq!(core.kind(), ErrorKind::Unavailable);
        assert_eq!(core.to_string(), "cancelled");
    }
}
