//! Damaged packs: what is hit is named, what is not hit is read, and nothing wrong is handed out.

use std::fs;
use std::path::{Path, PathBuf};

use mmh_core::ErrorKind;
use mmh_repo::ExportOptions;

use crate::scratch::{Scratch, add, noise, read_tree, target};

fn packs(root: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for shelf in fs::read_dir(root.join("mmh/packs")).unwrap() {
        for pack in fs::read_dir(shelf.unwrap().path()).unwrap() {
            all.push(pack.unwrap().path());
        }
    }
    all
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    let mut permissions = fs::metadata(path).unwrap().permissions();
    #[allow(clippy::permissions_set_readonly_false, reason = "a file of this test")]
    permissions.set_readonly(false);
    fs::set_permissions(path, permissions).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_flipped_bit_is_found_and_its_file_named() {
    let scratch = Scratch::new();
    let repo = scratch.init_without_parity();
    let folder = scratch.files("in", &[("hit", noise(800_000, 1))]);
    add(&repo, &folder, "acme/hit");
    drop(repo);
    let pack = packs(&scratch.path("repo")).pop().unwrap();
    let repo = scratch.open();
    add(
        &repo,
        &scratch.files("other", &[("fine", noise(800_000, 2))]),
        "acme/fine",
    );
    flip(&pack, 400_000);
    let repo = scratch.open();
    let report = repo.check_all().unwrap();
    assert!(!report.is_clean());
    let named = |text: &str| report.findings.iter().any(|f| f.target.contains(text));
    assert!(
        named("models/acme/hit@heads/main:hit"),
        "{:?}",
        report.findings
    );
    assert!(!named("fine"), "{:?}", report.findings);
    assert!(
        repo.check_targets(&[target("acme/fine")])
            .unwrap()
            .is_clean()
    );
    let one = repo.check_targets(&[target("acme/hit")]).unwrap();
    assert!(
        one.findings.iter().all(|f| f.target == "acme/hit:hit"),
        "{:?}",
        one.findings
    );
    assert!(!one.is_clean());
}

#[test]
fn a_damaged_file_is_not_restored() {
    let scratch = Scratch::new();
    let repo = scratch.init_without_parity();
    let folder = scratch.files("in", &[("hit", noise(800_000, 1))]);
    add(&repo, &folder, "acme/hit");
    flip(&packs(&scratch.path("repo"))[0], 300_000);
    let repo = scratch.open();
    let node = repo.node(&target("acme/hit")).unwrap();
    let dest = scratch.path("out");
    let error = repo
        .export(&node, "", &dest, ExportOptions::default())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(read_tree(&dest).is_empty(), "no partial file is left");
}

#[test]
fn a_lost_pack_is_reported_with_what_it_held() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    add(
        &repo,
        &scratch.files("a", &[("a", noise(500_000, 1))]),
        "acme/a",
    );
    let lost = packs(&scratch.path("repo"));
    add(
        &repo,
        &scratch.files("b", &[("b", noise(500_000, 2))]),
        "acme/b",
    );
    drop(repo);
    for pack in lost {
        fs::remove_file(pack).unwrap();
    }
    let repo = scratch.open();
    let report = repo.check_all().unwrap();
    let text = format!("{:?}", report.findings);
    assert!(
        text.contains("missing") && text.contains("acme/a"),
        "{text}"
    );
    assert!(
        !report.findings.iter().any(|f| f.target.contains("acme/b")),
        "{text}"
    );
    assert!(repo.check_targets(&[target("acme/b")]).unwrap().is_clean());
}

#[test]
fn the_index_comes_back_from_the_packs() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let folder = scratch.files(
        "in",
        &[("x", noise(700_000, 3)), ("t", vec![b'a'; 100_000])],
    );
    add(&repo, &folder, "acme/m");
    drop(repo);
    for run in fs::read_dir(scratch.path("repo/mmh/index")).unwrap() {
        fs::remove_file(run.unwrap().path()).unwrap();
    }
    let repo = scratch.open();
    let options = mmh_store::RebuildOptions {
        accept_missing: false,
    };
    assert!(repo.rebuild_index(options).unwrap().chunks > 0);
    assert!(repo.check_all().unwrap().is_clean());
    assert_eq!(scratch.restore(&repo, "acme/m"), read_tree(&folder));
}
