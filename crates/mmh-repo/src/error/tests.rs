//! Every error has a kind that says what to do, and a text that says where.

use mmh_core::Error as Core;

use super::*;

/// One error of each variant with its kind and what its text must name.
fn table() -> Vec<(Error, ErrorKind, &'static str)> {
    let io = |kind: io::ErrorKind| Error::io("read", Path::new("some/path"))(kind.into());
    let codec = mmh_codec::Error::UnknownLevel {
        text: "loud".to_owned(),
    };
    let codec_kind = codec.kind();
    let formats = mmh_formats::Error::malformed(mmh_formats::Container::Npy, "bad header");
    let store = mmh_store::Error::Busy { attempts: 9 };
    let text = || "what and where".to_owned();
    vec![
        (Core::Cancelled.into(), ErrorKind::Unavailable, "cancelled"),
        (codec.into(), codec_kind, "loud"),
        (formats.into(), ErrorKind::Invalid, "bad header"),
        (store.into(), ErrorKind::Unavailable, "9"),
        (
            io(io::ErrorKind::NotFound),
            ErrorKind::NotFound,
            "some/path",
        ),
        (
            io(io::ErrorKind::PermissionDenied),
            ErrorKind::Denied,
            "read",
        ),
        (
            io(io::ErrorKind::StorageFull),
            ErrorKind::Unavailable,
            "some/path",
        ),
        (
            Error::not_found("path", "a/b:c"),
            ErrorKind::NotFound,
            "a/b:c",
        ),
        (Error::NothingToUndo, ErrorKind::NotFound, "undo"),
        (Error::Invalid(text()), ErrorKind::Invalid, "what and where"),
        (
            Error::Conflict(text()),
            ErrorKind::Conflict,
            "what and where",
        ),
        (Error::Denied(text()), ErrorKind::Denied, "what and where"),
        (
            Error::Untrusted {
                name: "acme/m".to_owned(),
                snapshot: SnapshotId::of(b"x"),
                who: "by alice".to_owned(),
                why: "it is not signed".to_owned(),
            },
            ErrorKind::Denied,
            "must be signed by alice",
        ),
        (
            Error::Unsupported(text()),
            ErrorKind::Unsupported,
            "what and where",
        ),
        (
            Error::Changed("a/file".into()),
            ErrorKind::Conflict,
            "a/file",
        ),
        (Error::Corrupt(text()), ErrorKind::Corrupt, "what and where"),
    ]
}

#[test]
fn every_error_has_its_kind_and_names_its_place() {
    for (error, kind, named) in table() {
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.to_string().contains(named), "{error}");
    }
}

/// A cancelled command ends quietly; no other failure may look like one.
#[test]
fn only_a_cancellation_is_one() {
    let through_store: Error = mmh_store::Error::Core(Core::Cancelled).into();
    assert!(through_store.is_cancelled());
    let cancelled: Vec<bool> = table().iter().map(|(e, ..)| e.is_cancelled()).collect();
    assert_eq!(cancelled.iter().filter(|c| **c).count(), 1);
    assert!(cancelled[0]);
}

/// Names come from outside; a message must neither flood nor steer a terminal.
#[test]
fn names_in_messages_are_short_and_printable() {
    let hostile = format!("\u{1b}[2J\r\n{}", "x".repeat(5000));
    let text = Error::not_found("name", &hostile).to_string();
    assert!(text.len() < 200, "{}", text.len());
    assert!(!text.chars().any(char::is_control), "{text:?}");
}
