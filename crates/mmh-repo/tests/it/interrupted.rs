//! Additions that do not end as planned: cancelled, or overtaken by changes of the files.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mmh_core::ErrorKind;
use mmh_core::ports::{Cancel, Progress};
use mmh_repo::AddOptions;

use crate::scratch::{Scratch, add, noise, read_tree, target};

/// Does something once so many bytes were processed.
struct Hook {
    seen: AtomicU64,
    at: u64,
    act: Box<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hook")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl Progress for Hook {
    fn begin(&self, _stage: &str, _total: Option<u64>) {}

    fn advance(&self, bytes: u64) {
        let before = self.seen.fetch_add(bytes, Ordering::SeqCst);
        if before < self.at && before + bytes >= self.at {
            (self.act)();
        }
    }

    fn item(&self, _name: &str) {}
    fn end(&self) {}
}

fn hook(at: u64, act: impl Fn() + Send + Sync + 'static) -> Arc<dyn Progress> {
    Arc::new(Hook {
        seen: AtomicU64::new(0),
        at,
        act: Box::new(act),
    })
}

#[test]
fn a_cancelled_addition_goes_on_where_it_stopped() {
    let scratch = Scratch::new();
    scratch.init();
    let folder = scratch.files("in", &[("big", noise(40_000_000, 8))]);
    let cancel = Cancel::default();
    let mut components = scratch.components();
    components.cancel = cancel.clone();
    components.progress = hook(20_000_000, move || cancel.cancel());
    let stopped = scratch.open_with(components);
    let error = stopped.add(
        std::slice::from_ref(&folder),
        &target("a/b"),
        &AddOptions::default(),
    );
    assert!(error.unwrap_err().is_cancelled());
    drop(stopped);
    let repo = scratch.open();
    assert!(repo.names().unwrap().is_empty());
    let report = add(&repo, &folder, "a/b");
    assert!(
        report.new_raw < 25_000_000,
        "{} bytes were coded again",
        report.new_raw
    );
    assert_eq!(scratch.restore(&repo, "a/b"), read_tree(&folder));
    assert!(repo.check_all().unwrap().is_clean());
}

fn add_while(act: impl Fn(PathBuf) + Send + Sync + 'static) -> (Scratch, mmh_repo::Result<()>) {
    let scratch = Scratch::new();
    scratch.init();
    let folder = scratch.files("in", &[("big", noise(60_000_000, 8))]);
    let path = folder.join("big");
    let mut components = scratch.components();
    components.progress = hook(1_000_000, move || act(path.clone()));
    let repo = scratch.open_with(components);
    let result = repo
        .add(&[folder], &target("a/b"), &AddOptions::default())
        .map(drop);
    (scratch, result)
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_reported() {
    let (scratch, result) = add_while(|path| {
        fs::OpenOptions::new()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(1000)
            .unwrap();
    });
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("big"), "{error}");
    assert!(scratch.open().names().unwrap().is_empty());
}

#[test]
fn a_file_that_grows_while_it_is_read_is_reported() {
    let (_scratch, result) = add_while(|path| {
        fs::OpenOptions::new()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(70_000_000)
            .unwrap();
    });
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn a_file_that_vanishes_while_it_is_read_is_reported() {
    let (_scratch, result) = add_while(|path| fs::remove_file(path).unwrap());
    assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound);
}
