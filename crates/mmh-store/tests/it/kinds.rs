//! Every failure has the kind that says what a caller can do, and a message with its facts.

use std::io;

use mmh_core::{ChunkId, ErrorKind, PackId, SnapshotId};
use mmh_store::Error;
use mmh_store::conformance::change;

fn io(kind: io::ErrorKind) -> Error {
    Error::Io {
        place: "/disk/file".to_owned(),
        source: kind.into(),
    }
}

fn engine(source: object_store::Error) -> Error {
    Error::Engine {
        place: "mmh/log/7".to_owned(),
        source,
    }
}

/// A failure, its kind, and the facts that its message must name.
type Case = (Error, ErrorKind, Vec<String>);

fn case<const N: usize>(error: Error, kind: ErrorKind, facts: [&str; N]) -> Case {
    (error, kind, facts.map(str::to_owned).to_vec())
}

/// Failures to open a place or to accept what a caller asks for.
fn of_places() -> Vec<Case> {
    let (place, reason) = (|| "/repo".to_owned(), "torn".to_owned());
    let bad_setting = Error::BadSetting {
        what: "the length",
        value: 5,
        bounds: "6 to 7",
    };
    let no_archive = Error::NotAnArchive {
        place: place(),
        reason: reason.clone(),
    };
    let version = Error::UnknownVersion {
        what: place(),
        found: 9,
        newest: 3,
    };
    let no_backend = Error::UnsupportedBackend {
        place: place(),
        reason,
    };
    let locked = Error::Locked {
        place: place(),
        reason: "none of 2 slots opens".to_owned(),
    };
    let bad_slot = Error::BadSlot {
        name: "alice".to_owned(),
        reason: "taken",
    };
    let read_only = Error::ReadOnlyKey { what: "write" };
    let not_sealed = Error::NotSealed { place: place() };
    let no_keys = Error::NoKeys { place: place() };
    let none = Error::NotARepository { place: place() };
    let twice = Error::AlreadyARepository { place: place() };
    vec![
        case(none, ErrorKind::NotFound, ["/repo", "mmh init"]),
        case(locked, ErrorKind::Denied, ["/repo", "none of 2 slots"]),
        case(not_sealed, ErrorKind::Denied, ["/repo", "not sealed"]),
        case(no_keys, ErrorKind::Invalid, ["/repo", "no keys"]),
        case(read_only, ErrorKind::Denied, ["write", "root seed"]),
        case(bad_slot, ErrorKind::Invalid, ["alice", "taken"]),
        case(twice, ErrorKind::Invalid, ["/repo", "already"]),
        case(no_archive, ErrorKind::Invalid, ["/repo", "torn"]),
        case(
            version,
            ErrorKind::Unsupported,
            ["/repo", "version 9", "up to 3"],
        ),
        case(no_backend, ErrorKind::Unsupported, ["`/repo`", "torn"]),
        case(
            bad_setting,
            ErrorKind::Invalid,
            ["the length is 5", "6 to 7"],
        ),
    ]
}

/// Failures of one chunk or pack.
fn of_chunks() -> Vec<Case> {
    let (chunk, pack) = (ChunkId::of(b"chunk"), PackId::of(b"pack"));
    let (name, file) = (chunk.to_string(), pack.digest().to_string());
    let reason = || "torn".to_owned();
    let unknown = Error::UnknownFrame {
        chunk,
        reason: reason(),
    };
    let bad = Error::BadFrame {
        chunk,
        reason: reason(),
    };
    let corrupt = Error::CorruptPack {
        pack,
        offset: 16,
        chunk: None,
        reason: reason(),
    };
    vec![
        case(Error::NoSuchChunk { chunk }, ErrorKind::NotFound, [&name]),
        case(unknown, ErrorKind::Unsupported, [&name, "torn"]),
        case(bad, ErrorKind::Invalid, [&name, "torn"]),
        case(corrupt, ErrorKind::Corrupt, [&file, "offset 16: torn"]),
    ]
}

/// Failures of other objects, of transactions and of writers.
fn of_objects() -> Vec<Case> {
    let (object, reason) = (|| "mmh/log/7".to_owned(), || "torn".to_owned());
    let (old, now) = (SnapshotId::of(b"old"), SnapshotId::of(b"now"));
    let change = Box::new(change("m", Some(old), None));
    let conflict = Error::RefConflict {
        change,
        actual: Some(now),
    };
    let missing = Error::NoSuchObject { what: object() };
    let index = Error::CorruptIndex {
        object: object(),
        reason: reason(),
    };
    let corrupt = Error::Corrupt {
        object: object(),
        reason: reason(),
    };
    let unconfirmed = Error::Unconfirmed {
        seq: 41,
        reason: reason(),
    };
    let failed = Error::WriterFailed { reason: reason() };
    let internal = Error::Internal {
        what: "odd".to_owned(),
    };
    let doctor = "mmh doctor --rebuild-index";
    vec![
        case(missing, ErrorKind::NotFound, ["mmh/log/7"]),
        case(index, ErrorKind::Corrupt, ["mmh/log/7", "torn", doctor]),
        case(corrupt, ErrorKind::Corrupt, ["mmh/log/7", "torn"]),
        case(
            conflict,
            ErrorKind::Conflict,
            [&old.to_string(), &now.to_string()],
        ),
        case(
            Error::Busy { attempts: 12 },
            ErrorKind::Unavailable,
            ["12 races", "try again"],
        ),
        case(unconfirmed, ErrorKind::Unavailable, ["41", "torn"]),
        case(failed, ErrorKind::Unavailable, ["torn"]),
        case(internal, ErrorKind::Internal, ["odd"]),
    ]
}

#[test]
fn a_failure_tells_its_kind_and_its_facts() {
    let all = [of_places(), of_chunks(), of_objects()];
    for (error, kind, words) in all.into_iter().flatten() {
        let text = error.to_string();
        assert_eq!(error.kind(), kind, "{text}");
        for word in words {
            assert!(text.contains(&word), "`{word}` in `{text}`");
        }
    }
}

/// What the disk says decides, and the message names the file.
#[test]
fn a_local_failure_has_the_kind_of_the_system() {
    for (cause, kind) in [
        (io::ErrorKind::NotFound, ErrorKind::NotFound),
        (io::ErrorKind::PermissionDenied, ErrorKind::Denied),
        (io::ErrorKind::ReadOnlyFilesystem, ErrorKind::Denied),
        (io::ErrorKind::AlreadyExists, ErrorKind::Conflict),
        (io::ErrorKind::StorageFull, ErrorKind::Unavailable),
        (io::ErrorKind::QuotaExceeded, ErrorKind::Unavailable),
        (io::ErrorKind::UnexpectedEof, ErrorKind::Corrupt),
    ] {
        assert_eq!(io(cause).kind(), kind, "{cause}");
        assert!(io(cause).to_string().starts_with("/disk/file: "));
    }
}

/// What the engine says decides; what it says nothing about may be tried again.
#[test]
fn an_engines_failure_has_the_kind_it_names() {
    use object_store::Error as E;
    let source = || -> Box<dyn std::error::Error + Send + Sync> { "cause".into() };
    let path = || "mmh/log/7".to_owned();
    for (error, kind) in [
        (
            E::NotFound {
                path: path(),
                source: source(),
            },
            ErrorKind::NotFound,
        ),
        (
            E::AlreadyExists {
                path: path(),
                source: source(),
            },
            ErrorKind::Conflict,
        ),
        (
            E::Precondition {
                path: path(),
                source: source(),
            },
            ErrorKind::Conflict,
        ),
        (
            E::PermissionDenied {
                path: path(),
                source: source(),
            },
            ErrorKind::Denied,
        ),
        (
            E::Unauthenticated {
                path: path(),
                source: source(),
            },
            ErrorKind::Denied,
        ),
        (E::NotSupported { source: source() }, ErrorKind::Unsupported),
        (
            E::UnknownConfigurationKey {
                store: "x",
                key: "k".into(),
            },
            ErrorKind::Invalid,
        ),
        (
            E::NotModified {
                path: path(),
                source: source(),
            },
            ErrorKind::Unavailable,
        ),
        (
            E::Generic {
                store: "x",
                source: source(),
            },
            ErrorKind::Unavailable,
        ),
    ] {
        let error = engine(error);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().starts_with("mmh/log/7: "), "{error}");
    }
}
