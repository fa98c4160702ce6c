//! Portable files: a folder or file packed into one `.mmh`, and what can be done with it.

use std::fs;

use mmh_core::{Digest, Dtype, ErrorKind};
use mmh_formats::samples::{SampleTensor, safetensors};
use mmh_repo::{AddOptions, PackOptions, Repository, UnpackOptions, pack, unpack};

use crate::scratch::{Scratch, add, noise, read_tree, settings, target};

fn model() -> Vec<u8> {
    safetensors::file(&[SampleTensor::new("w", Dtype::BF16, &[700, 900])])
}

fn roundtrip(scratch: &Scratch, input: &str, archive: &str, output: &str) {
    let (input, archive) = (scratch.path(input), scratch.path(archive));
    pack(
        &input,
        &archive,
        &PackOptions::default(),
        settings(),
        scratch.components(),
    )
    .unwrap();
    let options = UnpackOptions::default();
    unpack(
        &archive,
        &scratch.path(output),
        &options,
        settings(),
        scratch.components(),
    )
    .unwrap();
}

#[test]
fn folders_and_files_come_back_from_one_file() {
    let scratch = Scratch::new();
    let folder = scratch.files("in", &[("a/m.safetensors", model()), ("b", noise(10, 1))]);
    roundtrip(&scratch, "in", "folder.mmh", "folder");
    assert_eq!(read_tree(&scratch.path("folder")), read_tree(&folder));
    roundtrip(
        &scratch,
        "in/a/m.safetensors",
        "file.mmh",
        "file.safetensors",
    );
    assert_eq!(fs::read(scratch.path("file.safetensors")).unwrap(), model());
}

#[test]
fn an_archive_is_a_repository_that_cannot_be_changed() {
    let scratch = Scratch::new();
    let folder = scratch.files("in", &[("m.safetensors", model())]);
    let archive = scratch.path("x.mmh");
    pack(
        &folder,
        &archive,
        &PackOptions::default(),
        settings(),
        scratch.components(),
    )
    .unwrap();
    let repo = Repository::open_archive(&archive, settings(), scratch.components()).unwrap();
    assert_eq!(repo.names().unwrap().len(), 1);
    assert_eq!(repo.list(&target("trees/folder"), true).unwrap().len(), 1);
    assert!(repo.check_all().unwrap().is_clean());
    let stat = repo.stat(&[], true).unwrap();
    assert_eq!(stat.total.raw, model().len() as u64);
    assert_eq!(stat.on_disk, fs::metadata(&archive).unwrap().len());
    let error = repo
        .add(&[folder], &target("a/b"), &AddOptions::default())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(repo.undo().unwrap_err().kind(), ErrorKind::Denied);
}

/// What an archive says of the whole content of a file.
fn digests(repo: &Repository, what: &str) -> (Option<Digest>, Option<Digest>) {
    let node = repo.node(&target(what)).unwrap();
    let mmh_core::tree::Node::File { id, .. } = node else {
        panic!("{what} is no file");
    };
    let reader = repo.open_file(id).unwrap();
    (reader.file().blake3, reader.file().sha256)
}

/// Digests of whole files are noted when they are asked for, and always by `add`; what is restored
/// is the same either way.
#[test]
fn archives_have_whole_digests_only_if_asked() {
    let scratch = Scratch::new();
    let content = model();
    let folder = scratch.files("in", &[("m", content.clone()), ("empty", Vec::new())]);
    let store = scratch.init();
    add(&store, &folder, "a/b");
    let added = digests(&store, "a/b:m");
    assert_eq!(added.0, Some(Digest::of(&content)));
    assert!(added.1.is_some_and(|sha256| Some(sha256) != added.0));
    for with in [false, true] {
        let archive = scratch.path(&format!("{with}.mmh"));
        let options = PackOptions {
            digests: with,
            ..PackOptions::default()
        };
        let components = scratch.components();
        pack(&folder, &archive, &options, settings(), components).unwrap();
        let repo = Repository::open_archive(&archive, settings(), scratch.components()).unwrap();
        let expected = if with { added } else { (None, None) };
        assert_eq!(digests(&repo, "trees/folder:m"), expected);
        assert_eq!(digests(&repo, "trees/folder:empty").0.is_some(), with);
        assert!(repo.check_all().unwrap().is_clean());
        assert_eq!(
            scratch.restore(&repo, "trees/folder"),
            read_tree(&folder),
            "digests: {with}"
        );
    }
}

/// Without a digest of the whole, what is there already is compared with what would be written.
#[test]
fn files_that_are_there_are_kept_and_others_are_not_overwritten() {
    let scratch = Scratch::new();
    scratch.files("in", &[("m", model())]);
    roundtrip(&scratch, "in/m", "m.mmh", "out");
    let restore = |overwrite| {
        let mut options = UnpackOptions::default();
        options.export.overwrite = overwrite;
        let (archive, out) = (scratch.path("m.mmh"), scratch.path("out"));
        unpack(&archive, &out, &options, settings(), scratch.components())
    };
    let report = restore(false).unwrap();
    assert_eq!((report.written, report.kept), (0, 1));
    let whole = model();
    for at in [0, whole.len() / 2, whole.len() - 1] {
        let mut other = whole.clone();
        other[at] ^= 1;
        fs::write(scratch.path("out"), &other).unwrap();
        let error = restore(false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "byte {at}: {error}");
        assert_eq!(fs::read(scratch.path("out")).unwrap(), other);
        let report = restore(true).unwrap();
        assert_eq!((report.written, report.kept), (1, 0));
        assert_eq!(fs::read(scratch.path("out")).unwrap(), whole);
    }
}

#[test]
fn what_is_no_archive_is_refused() {
    let scratch = Scratch::new();
    for (name, bytes) in [
        ("empty", Vec::new()),
        ("noise", noise(5000, 3)),
        ("text", b"mmh".to_vec()),
    ] {
        let path = scratch.files("in", &[(name, bytes)]).join(name);
        let error = Repository::open_archive(&path, settings(), scratch.components()).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Corrupt),
            "{name}: {error}"
        );
    }
}

/// A cut or flipped archive never yields a wrong file.
#[test]
fn damage_to_an_archive_never_goes_unnoticed() {
    let scratch = Scratch::new();
    scratch.files("in", &[("n", noise(3000, 5)), ("t", vec![b'x'; 2000])]);
    let archive = scratch.path("x.mmh");
    pack(
        &scratch.path("in"),
        &archive,
        &PackOptions::default(),
        settings(),
        scratch.components(),
    )
    .unwrap();
    let good = fs::read(&archive).unwrap();
    let original = read_tree(&scratch.path("in"));
    let components = scratch.components();
    let examine = |bytes: &[u8], what: &str| {
        let (bad, out) = (
            scratch.path("bad.mmh"),
            tempfile::tempdir_in(scratch.dir.path()).unwrap(),
        );
        fs::write(&bad, bytes).unwrap();
        let options = UnpackOptions::default();
        if unpack(&bad, out.path(), &options, settings(), components.clone()).is_ok() {
            assert_eq!(read_tree(out.path()), original, "{what}");
        }
    };
    for len in (0..good.len()).step_by(97) {
        examine(&good[..len], &format!("cut at {len}"));
    }
    for at in (0..good.len()).step_by(41) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        examine(&bytes, &format!("flipped in byte {at}"));
    }
}
