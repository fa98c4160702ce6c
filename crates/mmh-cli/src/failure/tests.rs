//! Every way to fail has its status, its message and its advice.

use std::path::PathBuf;

use mmh_repo::Error as E;

use super::*;

fn io_at(kind: io::ErrorKind) -> E {
    E::Io {
        action: "read",
        path: PathBuf::from("some/path"),
        source: kind.into(),
    }
}

/// One of each failure, with the exit status and kind that scripts rely on.
fn table() -> Vec<(Failure, u8, ErrorKind)> {
    use ErrorKind as K;
    let text = || "what is wrong".to_owned();
    let not_found = E::NotFound {
        what: "path",
        text: text(),
    };
    vec![
        (not_found.into(), 3, K::NotFound),
        (E::NothingToUndo.into(), 3, K::NotFound),
        (E::Invalid(text()).into(), 2, K::Invalid),
        (E::Conflict(text()).into(), 6, K::Conflict),
        (E::Changed("file".into()).into(), 6, K::Conflict),
        (E::Denied(text()).into(), 5, K::Denied),
        (E::Unsupported(text()).into(), 4, K::Unsupported),
        (E::Corrupt(text()).into(), 8, K::Corrupt),
        (io_at(io::ErrorKind::NotFound).into(), 3, K::NotFound),
        (io_at(io::ErrorKind::PermissionDenied).into(), 5, K::Denied),
        (io_at(io::ErrorKind::StorageFull).into(), 7, K::Unavailable),
        (io_at(io::ErrorKind::UnexpectedEof).into(), 8, K::Corrupt),
        (Failure::invalid(text()), 2, K::Invalid),
        (Failure::Other(K::Internal, text()), 1, K::Internal),
        (Failure::Other(K::Unavailable, text()), 7, K::Unavailable),
        (Failure::Damaged(None), 8, K::Corrupt),
        (Failure::Damaged(Some(text())), 8, K::Corrupt),
    ]
}

#[test]
fn every_failure_has_its_status() {
    for (failure, code, kind) in table() {
        assert_eq!(failure.exit_code(), code, "{failure:?}");
        assert_eq!(failure.kind(), kind, "{failure:?}");
    }
}

/// A failure is told once: what was printed already, or has no reader, has no message.
#[test]
fn messages_are_one_line_without_an_end() {
    for (failure, ..) in table() {
        match failure.message() {
            Some(message) => {
                assert!(!message.is_empty() && !message.contains('\n'), "{message}");
                assert!(!message.ends_with('.'), "{message}");
            }
            None => assert!(matches!(failure, Failure::Damaged(None))),
        }
    }
    assert_eq!(Failure::BrokenPipe.message(), None);
}

/// Nobody reads us any more: that is how `| head` ends, and no failure.
#[test]
fn a_broken_pipe_is_success_and_other_write_errors_are_not() {
    let gone = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
    assert!(matches!(gone, Failure::BrokenPipe));
    assert_eq!((gone.exit_code(), gone.advice()), (0, None));
    let full = Failure::from(io::Error::from(io::ErrorKind::StorageFull));
    assert_eq!(full.exit_code(), 7);
    let message = full.message().unwrap();
    assert!(
        message.starts_with("cannot write to standard output: "),
        "{message}"
    );
}

/// Ctrl-C has the status that shells give it, whichever layer noticed it.
#[test]
fn cancelled_work_exits_as_shells_expect() {
    let by_core = Failure::from(mmh_core::Error::Cancelled);
    let by_store = Failure::from(StoreError::Core(mmh_core::Error::Cancelled));
    for failure in [by_core, by_store] {
        assert_eq!(failure.exit_code(), 130, "{failure:?}");
        let message = failure.message().unwrap();
        assert!(message.contains("run the command again"), "{message}");
        assert_eq!(failure.advice(), None, "the message says it");
    }
}

/// Advice comes from the kind, unless the message ends with what to do, or advice would mislead.
#[test]
fn advice_is_given_where_the_message_has_none() {
    for (failure, _, kind) in table() {
        let expected = match &failure {
            Failure::Repo(E::Conflict(_) | E::Changed(_) | E::Denied(_) | E::NothingToUndo)
            | Failure::Other(..)
            | Failure::Damaged(_) => None,
            Failure::Repo(E::Io { .. }) if kind == ErrorKind::NotFound => {
                Some("check the spelling of the path")
            }
            _ => Some(kind.advice()),
        };
        assert_eq!(failure.advice(), expected, "{failure:?}");
    }
}

/// A path in a message is the one that was used.
#[test]
fn messages_of_the_file_system_name_action_and_path() {
    let failure = Failure::from(io_at(io::ErrorKind::PermissionDenied));
    let message = failure.message().unwrap();
    assert!(message.starts_with("cannot read some/path: "), "{message}");
    let core = "a/b:../c".parse::<mmh_core::name::Target>().unwrap_err();
    let message = Failure::from(core).message().unwrap();
    assert!(message.contains("`..`"), "{message}");
}
