//! Archives that other programs or other uses made: what can be unpacked, and where to.

use std::fs;
use std::path::Path;

use mmh_core::ErrorKind;
use mmh_core::tree::Node;
use mmh_repo::archive::{FILE_NAME, FOLDER_NAME};
use mmh_repo::{ExportReport, PackOptions, Result, UnpackOptions, pack, unpack};

use crate::forge::{Forger, plain};
use crate::scratch::{Scratch, noise, read_tree, settings};

fn unpack_to(scratch: &Scratch, archive: &Path, to: &str) -> Result<ExportReport> {
    let options = UnpackOptions::default();
    unpack(
        archive,
        &scratch.path(to),
        &options,
        settings(),
        scratch.components(),
    )
}

/// An archive of several names, or of none, has no one thing to unpack.
#[test]
fn only_an_archive_of_one_name_can_be_unpacked() {
    for names in [
        &[][..],
        &["acme/a", "acme/b"],
        &["trees/file", "trees/folder"],
    ] {
        let scratch = Scratch::new();
        let forger = Forger::new(&scratch);
        let path = forger.path.clone();
        let root = forger.dir(Vec::new());
        let names: Vec<_> = names.iter().map(|n| (*n, root)).collect();
        drop(forger.finish(&names, scratch.components()));
        let error = unpack_to(&scratch, &path, "out").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(
            error
                .to_string()
                .contains(&format!("holds {} names", names.len())),
            "{error}"
        );
        assert!(!scratch.path("out").exists());
    }
}

/// The name says that one file is in it; an archive where that is not so is damaged.
#[test]
fn an_archive_that_claims_to_be_one_file_must_be_one() {
    for n in [0usize, 2] {
        let scratch = Scratch::new();
        let forger = Forger::new(&scratch);
        let path = forger.path.clone();
        let id = forger.file(b"x", b"x");
        let root = forger.dir(
            ["a", "b"][..n]
                .iter()
                .map(|name| (*name, plain(id, 1)))
                .collect(),
        );
        drop(forger.finish(&[(FILE_NAME, root)], scratch.components()));
        let error = unpack_to(&scratch, &path, "out").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{n} files: {error}");
    }
    let scratch = Scratch::new();
    let forger = Forger::new(&scratch);
    let path = forger.path.clone();
    let id = forger.dir(Vec::new());
    let root = forger.dir(vec![("d", Node::Dir { id })]);
    drop(forger.finish(&[(FILE_NAME, root)], scratch.components()));
    let error = unpack_to(&scratch, &path, "out").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "a folder: {error}");
}

/// A name from a hub unpacks as a folder, like one that was packed.
#[test]
fn an_archive_of_any_one_name_unpacks_as_a_folder() {
    for name in [FOLDER_NAME, "acme/m", "datasets/squad"] {
        let scratch = Scratch::new();
        let forger = Forger::new(&scratch);
        let path = forger.path.clone();
        let root = forger.dir(vec![("f", plain(forger.file(b"text", b"text"), 4))]);
        drop(forger.finish(&[(name, root)], scratch.components()));
        let report = unpack_to(&scratch, &path, "out").unwrap();
        assert_eq!((report.written, report.bytes), (1, 4));
        assert_eq!(read_tree(&scratch.path("out"))["f"], b"text");
    }
}

/// Nothing is as much a folder as something; a file that is not there is not.
#[test]
fn an_empty_folder_is_packed_and_a_missing_file_is_not() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("void")).unwrap();
    let archive = scratch.path("void.mmh");
    let report = pack(
        &scratch.path("void"),
        &archive,
        &PackOptions::default(),
        settings(),
        scratch.components(),
    )
    .unwrap();
    assert_eq!((report.files, report.raw), (0, 0));
    assert_eq!(report.stored, fs::metadata(&archive).unwrap().len());
    unpack_to(&scratch, &archive, "out").unwrap();
    assert!(scratch.path("out").is_dir());
    let none = scratch.path("none.mmh");
    let error = pack(
        &scratch.path("none"),
        &none,
        &PackOptions::default(),
        settings(),
        scratch.components(),
    )
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(!none.exists(), "no archive of nothing is left");
}

/// The archive appears under its name only when it is complete.
#[test]
fn a_pack_that_is_stopped_leaves_no_archive() {
    let scratch = Scratch::new();
    let folder = scratch.files("in", &[("a", noise(100_000, 1))]);
    let components = scratch.components();
    components.cancel.cancel();
    let archive = scratch.path("x.mmh");
    let error = pack(
        &folder,
        &archive,
        &PackOptions::default(),
        settings(),
        components,
    )
    .unwrap_err();
    assert!(error.is_cancelled());
    assert!(!archive.exists());
    let left: Vec<_> = fs::read_dir(scratch.dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["in"], "nor anything else");
}
