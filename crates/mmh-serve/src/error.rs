//! What can go wrong before a server serves.

use std::io;

use mmh_core::ErrorKind;

/// The result of most functions here.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a server cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file with a key, a certificate or tokens.
    #[error("{place}: {source}")]
    Io {
        /// The file.
        place: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A file with a key, a certificate or tokens is not what it has to be.
    #[error("{place}: {reason}")]
    BadFile {
        /// The file.
        place: String,
        /// What does not hold.
        reason: String,
    },
    /// Nobody can listen there.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Address and port.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error("TLS: {reason}")]
    Tls {
        /// What the library says.
        reason: String,
    },
    /// Another hub cannot be mirrored.
    #[error("{url}: {reason}")]
    Upstream {
        /// Where it should be.
        url: String,
        /// What does not hold.
        reason: String,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {reason}")]
    Entropy {
        /// What it says.
        reason: String,
    },
}

impl Error {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } => ErrorKind::of_io(source),
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrNotAvailable => {
                ErrorKind::Invalid
            }
            Self::Listen { source, .. } => match ErrorKind::of_io(source) {
                // Somebody else listens there.
                ErrorKind::Conflict => ErrorKind::Unavailable,
                kind => kind,
            },
            Self::BadFile { .. } | Self::Tls { .. } | Self::Upstream { .. } => ErrorKind::Invalid,
            Self::Entropy { .. } => ErrorKind::Unavailable,
        }
    }

    /// Names the file of a failure, for `map_err`.
    pub(crate) fn io(place: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let place = place.display().to_string();
        move |source| Self::Io { place, source }
    }

    /// For `map_err`.
    pub(crate) fn tls(error: impl std::fmt::Display) -> Self {
        let reason = error.to_string();
        Self::Tls { reason }
    }
}

/// Random bytes of the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Error::Entropy {
        reason: error.to_string(),
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_say_what_and_where() {
        let listen = |kind: io::ErrorKind| Error::Listen {
            address: "127.0.0.1:1".to_owned(),
            source: kind.into(),
        };
        assert_eq!(
            listen(io::ErrorKind::AddrInUse).kind(),
            ErrorKind::Unavailable
        );
        assert_eq!(
            listen(io::ErrorKind::PermissionDenied).kind(),
            ErrorKind::Denied
        );
        assert_eq!(
            listen(io::ErrorKind::AddrNotAvailable).kind(),
            ErrorKind::Invalid
        );
        let missing = Error::io(std::path::Path::new("/k.pem"))(io::ErrorKind::NotFound.into());
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        assert!(missing.to_string().starts_with("/k.pem: "), "{missing}");
        assert_eq!(Error::tls("x").to_string(), "TLS: x");
    }

    #[test]
    fn random_bytes_differ() {
        assert_ne!(random::<16>().unwrap(), random::<16>().unwrap());
    }
}
