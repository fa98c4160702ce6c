//! How an error becomes one of the exceptions of `mmh.errors`: by its kind, once for all.

use mmh_core::ErrorKind;
use pyo3::prelude::*;

/// Why something did not work, until it becomes an exception.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The library failed.
    Repo(mmh_repo::Error),
    /// Something else, with its kind.
    Other(ErrorKind, String),
    /// Python itself did, as when Ctrl-C was typed.
    Python(PyErr),
}

/// The result of this crate's functions.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::Other(ErrorKind::Invalid, what.into())
    }
}

impl From<mmh_repo::Error> for Failure {
    fn from(error: mmh_repo::Error) -> Self {
        Self::Repo(error)
    }
}

impl From<mmh_repo::StoreError> for Failure {
    fn from(error: mmh_repo::StoreError) -> Self {
        Self::Repo(error.into())
    }
}

impl From<mmh_core::Error> for Failure {
    fn from(error: mmh_core::Error) -> Self {
        Self::Repo(error.into())
    }
}

impl From<mmh_user::Error> for Failure {
    fn from(error: mmh_user::Error) -> Self {
        match error {
            mmh_user::Error::Repo(error) => Self::Repo(error),
            error => Self::Other(error.kind(), error.to_string()),
        }
    }
}

impl From<mmh_formats::Error> for Failure {
    fn from(error: mmh_formats::Error) -> Self {
        Self::Repo(error.into())
    }
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        let (kind, message) = match failure {
            Failure::Python(error) => return error,
            Failure::Repo(error) if error.is_cancelled() => {
                let what = "stopped; what was stored so far is kept, begin again to go on";
                return raise("Cancelled", what);
            }
            Failure::Repo(error) => (error.kind(), error.to_string()),
            Failure::Other(kind, message) => (kind, message),
        };
        raise(class(kind), &message)
    }
}

/// The exception of a kind.
fn class(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "NotFound",
        ErrorKind::Invalid => "Invalid",
        ErrorKind::Unsupported => "Unsupported",
        ErrorKind::Denied => "Denied",
        ErrorKind::Conflict => "Conflict",
        ErrorKind::Unavailable => "Unavailable",
        ErrorKind::Corrupt => "Corrupt",
        ErrorKind::Internal => "Internal",
    }
}

/// Makes the exception of this name; if even that fails, the reason is the exception.
fn raise(class: &str, message: &str) -> PyErr {
    Python::attach(|py| {
        let made = py
            .import("mmh.errors")
            .and_then(|errors| errors.getattr(class))
            .and_then(|class| class.call1((message,)));
        made.map_or_else(|error| error, PyErr::from_value)
    })
}
