//! What can go wrong when a repository is used.

use std::io;
use std::path::{Path, PathBuf};

use mmh_core::error::shorten;
use mmh_core::{ErrorKind, SnapshotId};
use thiserror::Error;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure, with what a person needs to see where it lies.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// An object, name or range is wrong.
    #[error(transparent)]
    Core(#[from] mmh_core::Error),
    /// A chunk could not be coded.
    #[error(transparent)]
    Codec(#[from] mmh_codec::Error),
    /// A file could not be parsed because it could not be read.
    #[error(transparent)]
    Formats(#[from] mmh_formats::Error),
    /// A key, seed or share is wrong.
    #[error(transparent)]
    Crypto(#[from] mmh_crypto::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] mmh_store::Error),
    /// The file system failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: `read`, `create`.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A name, revision or path is not in the repository.
    #[error("{what} `{text}` is not in the repository")]
    NotFound {
        /// What was looked for.
        what: &'static str,
        /// Its name.
        text: String,
    },
    /// An archive needs other files.
    #[error("this archive was packed on top of {names}; name it with `--base` ({reason})")]
    MissingBase {
        /// The files, as they were named.
        names: String,
        /// Which chunk is missing.
        reason: String,
    },
    /// The files of a snapshot are gone, what it says of itself is not.
    #[error(
        "the files of snapshot {snapshot} were given up by `mmh gc --keep`; `mmh log` still lists it"
    )]
    Pruned {
        /// Which one.
        snapshot: SnapshotId,
    },
    /// What an operation replaced may have been collected.
    #[error(
        "operation {seq} cannot be undone: garbage collection keeps what operations before {floor} \
         replaced no longer"
    )]
    BeyondUndo {
        /// Which one.
        seq: u64,
        /// The first that can be undone.
        floor: u64,
    },
    /// No operation is left that an undo could take back.
    #[error("nothing to undo: the log has no operation that was not taken back already")]
    NothingToUndo,
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The request would overwrite something.
    #[error("{0}")]
    Conflict(String),
    /// The repository does not allow it.
    #[error("{0}")]
    Denied(String),
    /// The reader's policy demands signatures that are not there.
    #[error(
        "`{name}` must be signed {who}, and snapshot {snapshot} is not: {why}; see `mmh trust show \
         {name}`"
    )]
    Untrusted {
        /// The name.
        name: String,
        /// What it names.
        snapshot: SnapshotId,
        /// Who would have had to sign.
        who: String,
        /// What there is instead.
        why: String,
    },
    /// A newer version may do it.
    #[error("{0}")]
    Unsupported(String),
    /// A file changed between the beginning and the end of reading it.
    #[error("{} changed while it was read; add it again when it is quiet", .0.display())]
    Changed(PathBuf),
    /// Stored data is damaged.
    #[error("{0}")]
    Corrupt(String),
}

impl Error {
    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Core(e) => e.kind(),
            Self::Codec(e) => e.kind(),
            Self::Formats(e) => e.kind(),
            Self::Crypto(e) => e.kind(),
            Self::Store(e) => e.kind(),
            Self::Io { source, .. } => ErrorKind::of_io(source),
            Self::NotFound { .. }
            | Self::MissingBase { .. }
            | Self::Pruned { .. }
            | Self::BeyondUndo { .. }
            | Self::NothingToUndo => ErrorKind::NotFound,
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Conflict(_) | Self::Changed(_) => ErrorKind::Conflict,
            Self::Denied(_) | Self::Untrusted { .. } => ErrorKind::Denied,
            Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::Corrupt(_) => ErrorKind::Corrupt,
        }
    }

    pub(crate) fn not_found(what: &'static str, text: &str) -> Self {
        Self::NotFound {
            what,
            text: shorten(text),
        }
    }

    /// Makes a closure that puts an action and a path to a system error.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// Whether the operation was stopped by the user.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        use mmh_core::Error::Cancelled;
        matches!(
            self,
            Self::Core(Cancelled) | Self::Store(mmh_store::Error::Core(Cancelled))
        )
    }
}

#[cfg(test)]
mod tests;
