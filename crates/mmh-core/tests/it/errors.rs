//! What errors say at every door, and the ports through which the world comes in.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use mmh_core::error::{ErrorKind, shorten};
use mmh_core::ports::{Cancel, Progress, Silent};
use proptest::prelude::*;

/// The operating system's errors, each as what the caller can do about it.
#[test]
fn every_io_error_has_a_kind() {
    use io::ErrorKind as Io;
    let rows: [(ErrorKind, &[Io]); 7] = [
        (ErrorKind::NotFound, &[Io::NotFound, Io::NotADirectory]),
        (
            ErrorKind::Denied,
            &[Io::PermissionDenied, Io::ReadOnlyFilesystem],
        ),
        (ErrorKind::Conflict, &[Io::AlreadyExists]),
        (
            ErrorKind::Invalid,
            &[Io::InvalidInput, Io::InvalidFilename, Io::IsADirectory],
        ),
        (ErrorKind::Unsupported, &[Io::Unsupported]),
        (ErrorKind::Corrupt, &[Io::InvalidData, Io::UnexpectedEof]),
        (
            ErrorKind::Unavailable,
            &[
                Io::StorageFull,
                Io::QuotaExceeded,
                Io::FileTooLarge,
                Io::WouldBlock,
                Io::TimedOut,
                Io::Interrupted,
                Io::ConnectionRefused,
                Io::ConnectionReset,
                Io::BrokenPipe,
                Io::ResourceBusy,
                Io::OutOfMemory,
                Io::Other,
            ],
        ),
    ];
    for (kind, errors) in rows {
        for io in errors {
            assert_eq!(ErrorKind::of_io(&io::Error::from(*io)), kind, "{io:?}");
            // A message of one's own changes nothing.
            let worded = io::Error::new(*io, "worded");
            assert_eq!(ErrorKind::of_io(&worded), kind, "{io:?}");
        }
    }
}

/// What scripts compare with: the words of the JSON output, and one advice a kind.
#[test]
fn kinds_have_their_words() {
    let words = ErrorKind::ALL.map(ErrorKind::as_str);
    let expected = [
        "not_found",
        "invalid",
        "unsupported",
        "denied",
        "conflict",
        "unavailable",
        "corrupt",
        "internal",
    ];
    assert_eq!(words, expected);
    for kind in ErrorKind::ALL {
        assert_eq!(kind.to_string(), kind.as_str());
    }
    let advice: BTreeSet<_> = ErrorKind::ALL.map(ErrorKind::advice).into();
    assert_eq!(advice.len(), ErrorKind::ALL.len());
    assert!(!advice.contains(""));
}

/// Text from outside may steer a terminal or hide what follows; in a message it does neither.
#[test]
fn text_in_messages_is_cut_and_escaped() {
    assert_eq!(shorten(""), "");
    assert_eq!(shorten("plain é 名"), "plain é 名");
    assert_eq!(shorten("\u{1b}[2J\r\n\0"), "\\u{1b}[2J\\r\\n\\0");
    assert_eq!(shorten("a\u{202e}b"), "a\\u{202e}b");
    assert_eq!(shorten(&"é".repeat(80)), "é".repeat(80));
    assert_eq!(shorten(&"é".repeat(81)), format!("{}…", "é".repeat(80)));
}

/// Four threads wait for one flag; all of them see it, whoever sets it, and it stays set.
#[test]
fn a_stop_reaches_every_thread() {
    let cancel = Cancel::default();
    let together = Arc::new(Barrier::new(5));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (cancel, together) = (cancel.clone(), Arc::clone(&together));
            std::thread::spawn(move || {
                let before = cancel.is_cancelled();
                together.wait();
                while cancel.check().is_ok() {
                    std::thread::yield_now();
                }
                before
            })
        })
        .collect();
    together.wait();
    cancel.clone().cancel();
    for thread in threads {
        assert!(!thread.join().unwrap(), "nobody had asked for the stop");
    }
    cancel.cancel();
    assert_eq!(cancel.check().unwrap_err().kind(), ErrorKind::Unavailable);
    // A flag of its own is another one.
    assert!(!Cancel::default().is_cancelled());
}

/// Progress is told from many threads at once, through a shared reference and as a trait object.
#[test]
fn progress_is_told_from_many_threads() {
    #[derive(Debug, Default)]
    struct Sum(AtomicU64);
    impl Progress for Sum {
        fn begin(&self, _: &str, total: Option<u64>) {
            assert_eq!(total, Some(400));
        }
        fn advance(&self, bytes: u64) {
            self.0.fetch_add(bytes, Ordering::Relaxed);
        }
        fn item(&self, name: &str) {
            assert_eq!(name, "x");
        }
        fn end(&self) {
            assert_eq!(self.0.load(Ordering::Relaxed), 400);
        }
    }
    let sum = Sum::default();
    for progress in [&sum as &dyn Progress, &Silent] {
        progress.begin("read", Some(400));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    progress.item("x");
                    (0..100).for_each(|_| progress.advance(1));
                });
            }
        });
        progress.end();
    }
}

proptest! {
    /// Whatever comes in, the message is bounded and holds no control character.
    #[test]
    fn shortened_text_is_safe(text in "\\PC{0,40}|[\u{0}-\u{ff}]{0,100}") {
        let short = shorten(&text);
        prop_assert!(!short.chars().any(char::is_control), "{}", short);
        // An escape has ten characters at most: `\u{10ffff}`.
        prop_assert!(short.chars().count() <= 801, "{}", short);
        prop_assert_eq!(short.ends_with('…'), text.chars().count() > 80 || text.ends_with('…'));
    }
}
