//! What can go wrong when something is mounted, and how failures look to programs that read.

use std::io;
use std::path::PathBuf;

use mmh_core::ErrorKind;
use rustix::io::Errno;
use thiserror::Error;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something is not mounted, or still is.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel has no FUSE, or this system does not show it.
    #[error(
        "there is no /dev/fuse here: load the kernel's module (`modprobe fuse`), or start the \
         container with `--device /dev/fuse`; without it use `mmh get`, or `mmh serve`"
    )]
    NoDevice,
    /// The user may not mount.
    #[error(
        "not allowed to mount at {}: be root (in a container with CAP_SYS_ADMIN), or install \
         `fusermount3`", .0.display()
    )]
    NotAllowed(PathBuf),
    /// Something else is there.
    #[error("{} {why}", place.display())]
    Place {
        /// Where.
        place: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// What is mounted is in use.
    #[error("{} is in use: leave it and close its files first, or use `--lazy`", .0.display())]
    Busy(PathBuf),
    /// The system failed.
    #[error("cannot {action} {}: {source}", place.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        place: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] mmh_repo::Error),
}

impl Error {
    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoDevice => ErrorKind::Unsupported,
            Self::NotAllowed(_) => ErrorKind::Denied,
            Self::Place { .. } => ErrorKind::Invalid,
            Self::Busy(_) => ErrorKind::Conflict,
            Self::Io { source, .. } => ErrorKind::of_io(source),
            Self::Repo(error) => error.kind(),
        }
    }
}

/// The `errno` of a kind, as the table in ARCHITECTURE.md has it.
pub(crate) fn errno_of(kind: ErrorKind) -> Errno {
    match kind {
        ErrorKind::NotFound => Errno::NOENT,
        ErrorKind::Invalid => Errno::INVAL,
        ErrorKind::Unsupported => Errno::NOTSUP,
        ErrorKind::Denied => Errno::ACCESS,
        ErrorKind::Conflict => Errno::BUSY,
        ErrorKind::Unavailable => Errno::AGAIN,
        ErrorKind::Corrupt | ErrorKind::Internal => Errno::IO,
    }
}

/// The `errno` of a failure of the repository. What is not there although a folder names it was
/// collected or is damaged: to a reader that is an error, not an absence.
pub(crate) fn errno(error: &mmh_repo::Error) -> Errno {
    errno_of(error.kind())
}

/// The same for content.
pub(crate) fn errno_of_content(error: &mmh_repo::Error) -> Errno {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::Invalid => Errno::IO,
        kind => errno_of(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_errno_of_the_table() {
        for kind in ErrorKind::ALL {
            let named = match errno_of(kind) {
                Errno::NOENT => "ENOENT",
                Errno::INVAL => "EINVAL",
                Errno::NOTSUP => "ENOTSUP",
                Errno::ACCESS => "EACCES",
                Errno::BUSY => "EBUSY",
                Errno::AGAIN => "EAGAIN",
                _ => "EIO",
            };
            assert_eq!(named, kind.errno());
        }
    }

    #[test]
    fn content_that_is_gone_is_no_absence() {
        let gone = mmh_repo::Error::Invalid("x".to_owned());
        assert_eq!(errno_of_content(&gone), Errno::IO);
        assert_eq!(errno(&gone), Errno::INVAL);
    }

    #[test]
    fn kinds_say_what_to_do() {
        let place = PathBuf::from("/x");
        assert_eq!(Error::NoDevice.kind(), ErrorKind::Unsupported);
        assert_eq!(Error::NotAllowed(place.clone()).kind(), ErrorKind::Denied);
        assert_eq!(Error::Busy(place).kind(), ErrorKind::Conflict);
    }
}
