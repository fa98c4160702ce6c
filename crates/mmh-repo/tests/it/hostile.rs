//! Archives made by someone who wants us to fail: each object is canonical, together they lie.

use std::fs;

use mmh_core::ErrorKind;
use mmh_core::object::{PageRef, SegmentPage, SegmentPageTag, Segments};
use mmh_core::ports::Cancel;
use mmh_core::range::ByteRange;
use mmh_core::tree::{self, Entry, Node};
use mmh_repo::{Components, ExportOptions};

use crate::forge::{Forger, plain, segment};
use crate::scratch::{Scratch, read_tree, target};

/// Sixty folders, each in the one above under eight names, have 2^180 paths.
#[test]
fn a_check_visits_each_folder_once_however_often_it_is_named() {
    let scratch = Scratch::new();
    let forger = Forger::new(&scratch);
    let mut id = forger.dir(vec![("f", plain(forger.file(b"x", b"x"), 1))]);
    for _ in 0..60 {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        id = forger.dir(names.map(|name| (name, Node::Dir { id })).into());
    }
    let repo = forger.finish(&[("trees/bomb", id)], scratch.components());
    assert!(repo.check_all().unwrap().is_clean());
    let one = repo.check_targets(&[target("trees/bomb")]).unwrap();
    assert!(one.is_clean(), "{:?}", one.findings);
    assert_eq!(one.files, 1);
}

/// What must name every path can be stopped, and stops by itself at a limit.
#[test]
fn a_listing_without_end_can_be_stopped() {
    let scratch = Scratch::new();
    let forger = Forger::new(&scratch);
    let mut id = forger.dir(Vec::new());
    for _ in 0..60 {
        id = forger.dir(["a", "b"].map(|name| (name, Node::Dir { id })).into());
    }
    let cancel = Cancel::default();
    let components = Components {
        cancel: cancel.clone(),
        ..scratch.components()
    };
    let repo = forger.finish(&[("trees/bomb", id)], components);
    let error = std::thread::scope(|scope| {
        let listing = scope.spawn(|| repo.list(&target("trees/bomb"), true).unwrap_err());
        cancel.cancel();
        listing.join().unwrap()
    });
    assert!(error.is_cancelled(), "{error}");
}

/// Recursion without a limit would end the process, not the command.
#[test]
fn folders_nested_without_end_are_an_error_everywhere() {
    let scratch = Scratch::new();
    let forger = Forger::new(&scratch);
    let file = |text: &[u8]| plain(forger.file(text, text), 1);
    let nest = |innermost: Node| {
        let mut id = forger.dir(vec![("x", innermost)]);
        for _ in 0..20_000 {
            id = forger.dir(vec![("x", Node::Dir { id })]);
        }
        id
    };
    let (one, two) = (nest(file(b"1")), nest(file(b"2")));
    let names = [("trees/one", one), ("trees/two", two)];
    let repo = forger.finish(&names, scratch.components());
    let (one, two) = (target("trees/one"), target("trees/two"));
    let too_deep = |error: mmh_repo::Error| {
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("too deep"), "{error}");
    };
    too_deep(repo.diff(&one, &two).unwrap_err());
    too_deep(repo.list(&one, true).unwrap_err());
    too_deep(repo.stat(&[], true).unwrap_err());
    let node = repo.node(&one).unwrap();
    let dest = scratch.path("out");
    too_deep(
        repo.export(&node, "", &dest, ExportOptions::default())
            .unwrap_err(),
    );
    assert_eq!(repo.check_all().unwrap().findings.len(), 2);
}

#[test]
fn a_file_whose_parts_join_to_something_else_is_not_restored() {
    let scratch = Scratch::new();
    let forger = Forger::new(&scratch);
    let id = forger.file(b"what is stored", b"what is claimed");
    let root = forger.dir(vec![("f", plain(id, 14))]);
    let repo = forger.finish(&[("trees/t", root)], scratch.components());
    let dest = scratch.path("out");
    let node = repo.node(&target("trees/t")).unwrap();
    let error = repo
        .export(&node, "", &dest, ExportOptions::default())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(read_tree(&dest).is_empty());
}

#[test]
fn a_folder_that_lies_about_a_length_is_found_out() {
    let scratch = Scratch::new();
    let forger = Forger::new(&scratch);
    let id = forger.file(b"four", b"four");
    let root = forger.dir(vec![("honest", plain(id, 4)), ("lies", plain(id, 5))]);
    let repo = forger.finish(&[("trees/t", root)], scratch.components());
    for report in [
        repo.check_all().unwrap(),
        repo.check_targets(&[target("trees/t")]).unwrap(),
    ] {
        let [finding] = &report.findings[..] else {
            panic!("{:?}", report.findings)
        };
        assert!(finding.target.ends_with(":lies"), "{finding:?}");
    }
    let node = repo.node(&target("trees/t")).unwrap();
    let dest = scratch.path("out");
    let error = repo.export(&node, "", &dest, ExportOptions::default());
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Corrupt);
}

/// The lengths of pages are summed before one is read; near the end of all numbers they must
/// neither wrap nor let a byte out that they do not cover.
#[test]
fn pages_that_cover_other_bytes_than_they_say_give_nothing() {
    let scratch = Scratch::new();
    let forger = Forger::new(&scratch);
    let chunk = forger.bytes(&[7; 1000]);
    let page = forger.object(&SegmentPage {
        r#type: SegmentPageTag::Tag,
        segments: vec![segment(&[chunk; 3], 1000)],
    });
    let pages = vec![PageRef(page, u64::MAX - 10), PageRef(page, 10)];
    let id = forger.whole_file(u64::MAX, b"", Segments::Pages(pages));
    let root = forger.dir(vec![("f", plain(id, u64::MAX))]);
    let repo = forger.finish(&[("trees/t", root)], scratch.components());
    let reader = repo.open_file(id).unwrap();
    let mut read = 0;
    let end = ByteRange {
        start: u64::MAX - 5,
        end: u64::MAX,
    };
    for range in [end, ByteRange { start: 0, end: 10 }] {
        let error = repo.read_range(&reader, range, &mut |bytes| {
            read += bytes.len();
            Ok(())
        });
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Corrupt);
    }
    assert_eq!(read, 0);
    assert!(!repo.check_all().unwrap().is_clean());
}

/// Each link alone stays inside by its text; one through the other would climb out.
#[cfg(unix)]
#[test]
fn links_that_climb_through_one_another_are_left_out() {
    let scratch = Scratch::new();
    let forger = Forger::new(&scratch);
    let link = |target: &str| Node::Link {
        target: target.to_owned(),
    };
    let root = forger.dir(vec![
        ("here", link(".")),
        ("out", link("here/here/../../..")),
    ]);
    let repo = forger.finish(&[("trees/t", root)], scratch.components());
    let dest = scratch.path("out");
    let node = repo.node(&target("trees/t")).unwrap();
    let report = repo
        .export(&node, "", &dest, ExportOptions::default())
        .unwrap();
    assert_eq!(report.skipped.len(), 1, "{:?}", report.skipped);
    assert!(fs::symlink_metadata(dest.join("here")).is_ok());
    assert!(fs::symlink_metadata(dest.join("out")).is_err());
}

/// Trees written by the library are read by the same rules.
#[test]
fn an_honest_paged_folder_passes() {
    let scratch = Scratch::new();
    let forger = Forger::new(&scratch);
    let id = forger.file(b"x", b"x");
    let entries = (0..3000).map(|i| Entry {
        name: format!("f{i:05}"),
        node: plain(id, 1),
    });
    let put = &mut |bytes: Vec<u8>| {
        forger.bytes(&bytes);
        Ok::<_, mmh_core::Error>(mmh_core::ObjectId::of(&bytes))
    };
    let root = tree::write(entries.collect(), put).unwrap();
    let repo = forger.finish(&[("trees/t", root)], scratch.components());
    assert_eq!(repo.list(&target("trees/t"), true).unwrap().len(), 3000);
    assert!(repo.check_all().unwrap().is_clean());
}
