//! What can go wrong in a store or an archive, with the facts that a reader needs.

use std::io;

use mmh_core::object::RefChange;
use mmh_core::{ChunkId, ErrorKind, PackId, SnapshotId};
use thiserror::Error;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure of a store or an archive.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no repository at the place.
    #[error("{place} is not a repository; `mmh init` makes one")]
    NotARepository {
        /// The place as given.
        place: String,
    },
    /// The repository is sealed, and no key opens it.
    #[error("{place} is sealed: {reason}")]
    Locked {
        /// The place as given.
        place: String,
        /// What was tried.
        reason: String,
    },
    /// A key was given for a repository that is not sealed: somebody may have put another in its
    /// place.
    #[error("{place} is not sealed, but a key was given for it")]
    NotSealed {
        /// The place as given.
        place: String,
    },
    /// A repository without keys was asked for them.
    #[error("{place} is not sealed and has no keys")]
    NoKeys {
        /// The place as given.
        place: String,
    },
    /// The key at hand reads only.
    #[error("a read key cannot {what}; the root seed can")]
    ReadOnlyKey {
        /// What was asked for.
        what: &'static str,
    },
    /// A key slot that cannot be made or taken away.
    #[error("key slot `{name}`: {reason}")]
    BadSlot {
        /// Its name.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// Keys, slots or sealing.
    #[error(transparent)]
    Crypto(#[from] mmh_crypto::Error),
    /// There is a repository already.
    #[error("{place} is already a repository")]
    AlreadyARepository {
        /// The place as given.
        place: String,
    },
    /// The file is not an archive.
    #[error("{place} is not an archive: {reason}")]
    NotAnArchive {
        /// The file.
        place: String,
        /// What it lacks.
        reason: String,
    },
    /// The repository or file has a format version that this build does not know.
    #[error("{what} has format version {found}; this build reads up to {newest}")]
    UnknownVersion {
        /// What was read.
        what: String,
        /// Its version.
        found: u32,
        /// The newest version that this build reads.
        newest: u32,
    },
    /// The place names an engine that this build cannot use.
    #[error("cannot open `{place}`: {reason}")]
    UnsupportedBackend {
        /// The URL as given (shortened).
        place: String,
        /// What is missing.
        reason: String,
    },
    /// A place elsewhere cannot be used with the settings that were given.
    #[error("cannot use `{place}`: {reason}")]
    BadPlace {
        /// The URL without user and password.
        place: String,
        /// What does not fit.
        reason: String,
    },
    /// Nothing says who is asking for a place elsewhere.
    #[error("no credentials for `{place}`: {hint}")]
    NoCredentials {
        /// The URL without user and password.
        place: String,
        /// Where they may be given.
        hint: String,
    },
    /// A log that is there, but another repository's, or none.
    #[error("{place} does not hold this repository's log; it was made with --log {recorded}")]
    NotTheLog {
        /// Where it was looked for.
        place: String,
        /// Where the configuration says that it is.
        recorded: String,
    },
    /// Stores do not make a stripe as they were given.
    #[error("{reason}")]
    BadStripe {
        /// What does not fit.
        reason: String,
    },
    /// Too few stores of a stripe are there.
    #[error("{reason}")]
    StripeLost {
        /// Which ones are not, and why.
        reason: String,
    },
    /// Stores do not agree about the stripe that they are part of.
    #[error("{reason}")]
    StripeMixed {
        /// Which ones.
        reason: String,
    },
    /// An argument is outside its bounds.
    #[error("{what} is {value}; it must be {bounds}")]
    BadSetting {
        /// Which one.
        what: &'static str,
        /// What was given.
        value: u64,
        /// What is accepted.
        bounds: &'static str,
    },
    /// No pack holds the chunk.
    #[error("chunk {chunk} is not in the store")]
    NoSuchChunk {
        /// Which one.
        chunk: ChunkId,
    },
    /// A whole frame that a newer version has written.
    #[error("chunk {chunk}: {reason}")]
    UnknownFrame {
        /// Which chunk.
        chunk: ChunkId,
        /// What the codec says.
        reason: String,
    },
    /// A chunk is here, but another that its frame refers to cannot be had.
    #[error("chunk {chunk} needs its {what} {reference}: {source}")]
    Reference {
        /// Which chunk.
        chunk: ChunkId,
        /// What the other is to it: `base`.
        what: &'static str,
        /// The other.
        reference: ChunkId,
        /// Why it cannot be had.
        source: Box<Self>,
    },
    /// An object that was asked for is not there.
    #[error("{what} is not in the store")]
    NoSuchObject {
        /// Its name.
        what: String,
    },
    /// A record of a pack is damaged.
    #[error("pack {} is damaged at offset {offset}{}: {reason}", pack.digest(), of_chunk(*chunk))]
    CorruptPack {
        /// The pack; its file is named by the digest's hexadecimal digits.
        pack: PackId,
        /// Offset in bytes of the record or section.
        offset: u64,
        /// The chunk that is hit, if it is known.
        chunk: Option<ChunkId>,
        /// What does not hold.
        reason: String,
    },
    /// A part of the index is damaged.
    #[error("index run {object} is damaged: {reason}; run `mmh doctor --rebuild-index`")]
    CorruptIndex {
        /// Its name.
        object: String,
        /// What does not hold.
        reason: String,
    },
    /// The configuration, log or another small object is damaged.
    #[error("{object} is damaged: {reason}")]
    Corrupt {
        /// Its name.
        object: String,
        /// What does not hold.
        reason: String,
    },
    /// What a client of this node sent cannot be taken.
    #[error("{object} was sent, but {reason}")]
    BadArrival {
        /// Its name.
        object: String,
        /// What does not hold.
        reason: &'static str,
    },
    /// A ref does not name what the transaction expected.
    #[error("{} was changed by another writer: expected {}, found {}",
        change.r#ref, or_nothing(change.old.as_ref()), or_nothing(actual.as_ref()))]
    RefConflict {
        /// The change that was refused.
        change: Box<RefChange>,
        /// What the ref names now.
        actual: Option<SnapshotId>,
    },
    /// Garbage collection took away what a transaction needs, before it was committed.
    #[error("what this needs was collected meanwhile (log entry {seq}); do it again")]
    Collected {
        /// The entry that collected it.
        seq: u64,
    },
    /// Chunks that names need are not there, so nothing can be known to be garbage.
    #[error("{missing} chunks that names need are not in the store; nothing was collected")]
    Incomplete {
        /// How many.
        missing: u64,
    },
    /// Another garbage collection ended first.
    #[error("another garbage collection ended at log entry {seq} meanwhile; run it again")]
    Overtaken {
        /// Its entry.
        seq: u64,
    },
    /// Other writers were faster, again and again.
    #[error("other writers won {attempts} races in a row; try again")]
    Busy {
        /// How many attempts were made.
        attempts: u32,
    },
    /// It is not known whether a transaction took place.
    #[error("log entry {seq} was written, but that it will last could not be confirmed: {reason}")]
    Unconfirmed {
        /// The entry's number.
        seq: u64,
        /// The failure of the confirmation.
        reason: String,
    },
    /// An earlier write of the same writer failed; what was flushed before is safe.
    #[error("the writer stopped after an earlier failure: {reason}")]
    WriterFailed {
        /// The first failure.
        reason: String,
    },
    /// A local file operation failed.
    #[error("{place}: {source}")]
    Io {
        /// The file or directory.
        place: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The storage engine failed.
    #[error("{place}: {source}")]
    Engine {
        /// The object.
        place: String,
        /// The engine's reason.
        source: object_store::Error,
    },
    /// The engine of a log elsewhere failed.
    #[error("{place}: {source}")]
    Log {
        /// The object.
        place: String,
        /// What the caller can do.
        kind: ErrorKind,
        /// The engine's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An id, a name or an object is not acceptable, or the operation was cancelled.
    #[error(transparent)]
    Core(#[from] mmh_core::Error),
    /// What was put is not a frame.
    #[error("chunk {chunk} was put with a bad frame: {reason}")]
    BadFrame {
        /// Which chunk.
        chunk: ChunkId,
        /// What the codec says.
        reason: String,
    },
    /// A fault of this program.
    #[error("internal fault: {what}")]
    Internal {
        /// The assumption that did not hold.
        what: String,
    },
}

impl Error {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchChunk { .. } | Self::NoSuchObject { .. } | Self::NotARepository { .. } => {
                ErrorKind::NotFound
            }
            Self::Locked { .. } | Self::NotSealed { .. } | Self::ReadOnlyKey { .. } => {
                ErrorKind::Denied
            }
            Self::Crypto(source) => source.kind(),
            Self::AlreadyARepository { .. }
            | Self::BadSlot { .. }
            | Self::NoKeys { .. }
            | Self::NotAnArchive { .. }
            | Self::BadFrame { .. }
            | Self::BadArrival { .. }
            | Self::BadPlace { .. }
            | Self::BadStripe { .. }
            | Self::BadSetting { .. } => ErrorKind::Invalid,
            Self::NoCredentials { .. } => ErrorKind::Denied,
            Self::UnknownVersion { .. }
            | Self::UnknownFrame { .. }
            | Self::UnsupportedBackend { .. } => ErrorKind::Unsupported,
            Self::CorruptPack { .. } | Self::CorruptIndex { .. } | Self::Corrupt { .. } => {
                ErrorKind::Corrupt
            }
            Self::Incomplete { .. } => ErrorKind::Corrupt,
            Self::RefConflict { .. }
            | Self::Collected { .. }
            | Self::Overtaken { .. }
            | Self::StripeMixed { .. }
            | Self::NotTheLog { .. } => ErrorKind::Conflict,
            Self::Busy { .. }
            | Self::Unconfirmed { .. }
            | Self::StripeLost { .. }
            | Self::WriterFailed { .. } => ErrorKind::Unavailable,
            Self::Io { source, .. } => ErrorKind::of_io(source),
            Self::Engine { source, .. } => kind_of_engine(source),
            Self::Log { kind, .. } => *kind,
            Self::Core(source) => source.kind(),
            Self::Reference { source, .. } => source.kind(),
            Self::Internal { .. } => ErrorKind::Internal,
        }
    }

    /// Names the place of a local failure, for `map_err`.
    pub(crate) fn io(place: impl ToString) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            place: place.to_string(),
            source,
        }
    }

    /// Names the object of an engine's failure, for `map_err`.
    pub(crate) fn engine(place: impl ToString) -> impl FnOnce(object_store::Error) -> Self {
        move |source| Self::Engine {
            place: place.to_string(),
            source,
        }
    }

    /// Whether the engine says that the object is not there.
    pub(crate) fn is_missing_object(&self) -> bool {
        matches!(
            self,
            Self::Engine {
                source: object_store::Error::NotFound { .. },
                ..
            }
        )
    }
}

fn of_chunk(chunk: Option<ChunkId>) -> String {
    chunk.map_or_else(String::new, |id| format!(" (chunk {id})"))
}

fn or_nothing(id: Option<&SnapshotId>) -> String {
    id.map_or_else(|| "nothing".to_owned(), ToString::to_string)
}

pub(crate) fn kind_of_engine(error: &object_store::Error) -> ErrorKind {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => ErrorKind::NotFound,
        E::AlreadyExists { .. } | E::Precondition { .. } => ErrorKind::Conflict,
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => ErrorKind::Denied,
        E::NotSupported { .. } | E::NotImplemented { .. } => ErrorKind::Unsupported,
        E::InvalidPath { .. } | E::UnknownConfigurationKey { .. } => ErrorKind::Invalid,
        // The local engine wraps the system's reason several layers deep.
        other => io_cause(other).map_or(ErrorKind::Unavailable, ErrorKind::of_io),
    }
}

fn io_cause(error: &object_store::Error) -> Option<&io::Error> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(kind: io::ErrorKind) -> Error {
        let source = Box::new(io::Error::new(kind, "deep inside"));
        let source = object_store::Error::Generic {
            store: "test",
            source,
        };
        Error::engine("/repo/mmh/config")(source)
    }

    /// The system's reason decides, however deep the engine wraps it.
    #[test]
    fn an_engines_failure_has_the_kind_of_its_cause() {
        assert_eq!(
            engine(io::ErrorKind::PermissionDenied).kind(),
            ErrorKind::Denied
        );
        assert_eq!(
            engine(io::ErrorKind::ReadOnlyFilesystem).kind(),
            ErrorKind::Denied
        );
        assert_eq!(
            engine(io::ErrorKind::StorageFull).kind(),
            ErrorKind::Unavailable
        );
        let plain = object_store::Error::Generic {
            store: "test",
            source: "timeout".into(),
        };
        assert_eq!(Error::engine("x")(plain).kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn messages_name_the_place() {
        let text = engine(io::ErrorKind::StorageFull).to_string();
        assert!(
            text.starts_with("/repo/mmh/config: ") && text.contains("deep inside"),
            "{text}"
        );
        let full = Error::io("/repo/mmh/staging")(io::ErrorKind::StorageFull.into());
        assert!(
            full.to_string().starts_with("/repo/mmh/staging: "),
            "{full}"
        );
    }

    #[test]
    fn a_damaged_pack_is_named_as_its_file_is() {
        let (pack, chunk) = (PackId::of(b"p"), Some(ChunkId::of(b"c")));
        let reason = "torn".to_owned();
        let error = Error::CorruptPack {
            pack,
            offset: 77,
            chunk,
            reason,
        };
        let text = error.to_string();
        assert!(text.contains(&pack.digest().to_string()), "{text}");
        assert!(
            text.contains("offset 77") && text.contains("torn"),
            "{text}"
        );
        assert!(text.contains(&ChunkId::of(b"c").to_string()), "{text}");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn a_conflict_says_what_was_expected_and_what_is_there() {
        let r#ref = "models/m@heads/main".parse().unwrap();
        let change = Box::new(RefChange {
            r#ref,
            old: None,
            new: None,
        });
        let actual = Some(SnapshotId::of(b"s"));
        let text = Error::RefConflict { change, actual }.to_string();
        assert!(
            text.contains("models/m@heads/main") && text.contains("expected nothing"),
            "{text}"
        );
        assert!(text.contains(&SnapshotId::of(b"s").to_string()), "{text}");
    }
}
