//! Ranges: any slice of a file equals the slice of the original.

use mmh_core::range::RangeSpec;
use mmh_core::tree::Node;
use mmh_core::{ByteRange, Dtype, ErrorKind};
use mmh_formats::samples::{SampleTensor, torch};
use mmh_repo::Repository;
use proptest::prelude::*;

use crate::scratch::{Scratch, add, noise, target};

fn read(repo: &Repository, what: &str, range: ByteRange) -> mmh_repo::Result<Vec<u8>> {
    let Node::File { id, .. } = repo.node(&target(what))? else {
        panic!("{what} is not a file")
    };
    let reader = repo.open_file(id)?;
    let mut out = Vec::new();
    repo.read_range(&reader, range, &mut |bytes| {
        out.extend_from_slice(&bytes);
        Ok(())
    })?;
    Ok(out)
}

fn fixture() -> (Scratch, Repository, Vec<(&'static str, Vec<u8>)>) {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let tensors: Vec<_> = (0u64..40)
        .map(|i| SampleTensor::new(&format!("layer.{i}"), Dtype::BF16, &[i * 37 + 1, 64]))
        .collect();
    let files = vec![
        ("model.pt", torch::zip(&tensors)),
        ("bytes", noise(3_000_000, 4)),
    ];
    add(&repo, &scratch.files("in", &files), "acme/m");
    (scratch, repo, files)
}

#[test]
fn ranges_across_chunks_and_pools_are_exact() {
    let (_scratch, repo, files) = fixture();
    for (name, bytes) in &files {
        let (what, len) = (format!("acme/m:{name}"), bytes.len());
        for (a, b) in [
            (0, len),
            (0, 1),
            (len - 1, len),
            (63, 4097),
            (70_000, len - 5),
            (5, 5),
        ] {
            let range = ByteRange {
                start: a as u64,
                end: b as u64,
            };
            assert_eq!(
                read(&repo, &what, range).unwrap(),
                bytes[a..b],
                "{name} {a}..{b}"
            );
        }
    }
}

#[test]
fn a_range_outside_is_refused() {
    let (_scratch, repo, files) = fixture();
    let len = files[1].1.len() as u64;
    let error = read(
        &repo,
        "acme/m:bytes",
        ByteRange {
            start: 0,
            end: len + 1,
        },
    )
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(RangeSpec::From(len).resolve(len).is_err());
}

#[test]
fn what_is_not_there_is_not_found() {
    let (_scratch, repo, _) = fixture();
    for what in [
        "acme/none",
        "acme/m@none",
        "acme/m:none",
        "acme/m:bytes/below",
        "datasets/m",
    ] {
        let error = repo.node(&target(what)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{what}: {error}");
    }
}

#[test]
fn any_range_is_the_slice_of_the_original() {
    let (_scratch, repo, files) = fixture();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(60));
    let cases = (
        0usize..2,
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
    );
    runner
        .run(&cases, |(which, a, b)| {
            let (name, bytes) = &files[which];
            let (a, b) = (a.index(bytes.len() + 1), b.index(bytes.len() + 1));
            let (a, b) = (a.min(b), a.max(b));
            let range = ByteRange {
                start: a as u64,
                end: b as u64,
            };
            prop_assert_eq!(
                &read(&repo, &format!("acme/m:{name}"), range).unwrap()[..],
                &bytes[a..b]
            );
            Ok(())
        })
        .unwrap();
}
