//! Why a user's settings, rules or remotes cannot be used.

use mmh_core::ErrorKind;
use thiserror::Error;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure, with the file or variable that it lies in.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The repository, or a key, failed.
    #[error(transparent)]
    Repo(#[from] mmh_repo::Error),
    /// Something else, with its kind.
    #[error("{1}")]
    Other(ErrorKind, String),
}

impl Error {
    pub(crate) fn invalid(message: String) -> Self {
        Self::Other(ErrorKind::Invalid, message)
    }

    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Repo(e) => e.kind(),
            Self::Other(kind, _) => *kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_the_kind_and_words_of_what_failed() {
        let denied = Error::from(mmh_repo::Error::Denied("no".to_owned()));
        assert_eq!(
            (denied.kind(), denied.to_string().as_str()),
            (ErrorKind::Denied, "no")
        );
        let invalid = Error::invalid("bad file".to_owned());
        assert_eq!(invalid.kind(), ErrorKind::Invalid);
        assert_eq!(invalid.to_string(), "bad file");
    }
}
