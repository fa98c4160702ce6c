//! The one place where an error becomes a message and an exit status.

use std::io;

use mmh_core::ErrorKind;
use mmh_repo::StoreError;

/// Why a command ended without success.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The library failed.
    Repo(mmh_repo::Error),
    /// Something else, with its kind.
    Other(ErrorKind, String),
    /// A check found damage; what to say, unless it was printed already.
    Damaged(Option<String>),
    /// The reader of our output went away.
    BrokenPipe,
}

/// Exit status after Ctrl-C, as shells report it: 128 + SIGINT.
const EXIT_CANCELLED: u8 = 130;

impl Failure {
    pub(crate) fn invalid(message: String) -> Self {
        Self::Other(ErrorKind::Invalid, message)
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Repo(e) => e.kind(),
            Self::Other(kind, _) => *kind,
            Self::Damaged(_) => ErrorKind::Corrupt,
            Self::BrokenPipe => ErrorKind::Unavailable,
        }
    }

    fn is_cancelled(&self) -> bool {
        matches!(self, Self::Repo(e) if e.is_cancelled())
    }

    /// The exit status: the error table, 130 after Ctrl-C, 0 when nobody reads us any more.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::BrokenPipe => 0,
            _ if self.is_cancelled() => EXIT_CANCELLED,
            _ => self.kind().exit_code(),
        }
    }

    /// What to tell the user; `None` if all was said.
    pub(crate) fn message(&self) -> Option<String> {
        match self {
            Self::Repo(_) if self.is_cancelled() => Some(
                "stopped; what was stored so far is kept, run the command again to go on"
                    .to_owned(),
            ),
            Self::Repo(e) => Some(e.to_string()),
            Self::Other(_, message) => Some(message.clone()),
            Self::Damaged(message) => message.clone(),
            Self::BrokenPipe => None,
        }
    }

    /// What the user may do next; `None` where the message says it.
    pub(crate) fn advice(&self) -> Option<&'static str> {
        use mmh_repo::Error as E;
        match self {
            Self::Repo(e) if e.is_cancelled() => None,
            // These messages end with what to do.
            Self::Repo(
                E::Conflict(_)
                | E::Changed(_)
                | E::Denied(_)
                | E::Untrusted { .. }
                | E::NothingToUndo
                | E::Pruned { .. }
                | E::BeyondUndo { .. },
            ) => None,
            Self::Repo(E::MissingBase { .. }) => None,
            Self::Repo(E::Store(StoreError::NotARepository { .. })) => None,
            Self::Repo(E::Store(StoreError::Locked { .. })) => Some(
                "name an identity (--identity), a passphrase or a seed by its file \
                 (MMH_PASSPHRASE_FILE, MMH_SEED_FILE), or run on a terminal to be asked",
            ),
            Self::Repo(E::Store(StoreError::NotSealed { .. })) => Some(
                "if it should be sealed, somebody has put another in its place; else leave the key out",
            ),
            Self::Repo(e @ E::Io { .. }) if e.kind() == ErrorKind::NotFound => {
                Some("check the spelling of the path")
            }
            Self::Repo(e) => Some(e.kind().advice()),
            _ => None,
        }
    }
}

impl From<mmh_repo::Error> for Failure {
    fn from(error: mmh_repo::Error) -> Self {
        Self::Repo(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
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

/// Only standard output is written by way of plain `io`; everything else names its path.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::BrokenPipe;
        }
        Self::Other(
            ErrorKind::of_io(&error),
            format!("cannot write to standard output: {error}"),
        )
    }
}

#[cfg(test)]
mod tests;
