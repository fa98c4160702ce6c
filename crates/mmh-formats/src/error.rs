//! What can be wrong with a container.

use std::io;

use mmh_core::ErrorKind;
use thiserror::Error;

use crate::container::Container;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a file could not be parsed as the container it seems to be.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read; nothing is said about its content.
    #[error("reading {len} bytes at offset {offset}: {source}")]
    Io {
        /// Where the read began.
        offset: u64,
        /// How much was asked for.
        len: u64,
        /// The system's error.
        source: io::Error,
    },
    /// The file contradicts itself or ends too early.
    #[error("not a valid {container} file: {reason}")]
    Malformed {
        /// The container that its first bytes or name promised.
        container: Container,
        /// The contradiction, with offsets where they help.
        reason: String,
    },
    /// A limit of [`mmh_core::limits`] was exceeded.
    #[error("{container} file beyond limits: {reason}")]
    TooLarge {
        /// The container that its first bytes or name promised.
        container: Container,
        /// Which limit, and by what.
        reason: String,
    },
}

impl Error {
    /// A contradiction in `container`.
    pub fn malformed(container: Container, reason: impl Into<String>) -> Self {
        Self::Malformed {
            container,
            reason: reason.into(),
        }
    }

    /// A limit exceeded in `container`.
    pub fn too_large(container: Container, reason: impl Into<String>) -> Self {
        Self::TooLarge {
            container,
            reason: reason.into(),
        }
    }

    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } => ErrorKind::of_io(source),
            Self::Malformed { .. } | Self::TooLarge { .. } => ErrorKind::Invalid,
        }
    }
}
