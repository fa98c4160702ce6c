//! Families of models: versions and fine-tunes are kept as differences, and come back exactly.

use std::fs;

use mmh_core::{Dtype, ErrorKind};
use mmh_formats::samples::{SampleTensor, safetensors};
use mmh_repo::inspect::PartReport;
use mmh_repo::{AddOptions, PackOptions, Repository, UnpackOptions, inspect, pack, unpack};

use crate::scratch::{Scratch, add, noise, settings, target};

const SHAPE: [u64; 2] = [300, 400];

/// BF16 weights of a training, tuned for some steps.
fn weights(training: u64, steps: u64) -> Vec<u8> {
    let n = 300 * 400;
    let bytes = noise(3 * n, training);
    let moves: Vec<_> = (0..steps).map(|s| noise(n, 1000 + s)).collect();
    let number = |i: usize| {
        let [a, b, c] = [bytes[3 * i], bytes[3 * i + 1], bytes[3 * i + 2]];
        // Each is half as frequent as the one above it, as those of weights nearly are.
        let below = u16::try_from((u16::from(a) | 0x100).trailing_zeros()).unwrap();
        let exponent = 0x7a - below;
        let value = u16::from(c & 1) << 15 | exponent << 7 | u16::from(b & 0x7f);
        value + moves.iter().map(|m| u16::from(m[i] < 20)).sum::<u16>()
    };
    (0..n).flat_map(|i| number(i).to_le_bytes()).collect()
}

fn tensor(name: &str, training: u64, steps: u64) -> SampleTensor {
    let mut tensor = SampleTensor::new(name, Dtype::BF16, &SHAPE);
    tensor.data = weights(training, steps);
    tensor
}

pub(crate) fn model(prefix: &str, steps: u64) -> Vec<u8> {
    let name = |i: u64| format!("{prefix}{i}");
    let tensors: Vec<_> = (0..3).map(|i| tensor(&name(i), 50 + i, steps)).collect();
    safetensors::file(&tensors)
}

fn unrelated() -> Vec<u8> {
    let tensors: Vec<_> = (0..3)
        .map(|i| tensor(&format!("w{i}"), 90 + i, 0))
        .collect();
    safetensors::file(&tensors)
}

/// Raw and stored bytes that adding a folder brought.
fn cost(scratch: &Scratch, repo: &Repository, files: &[(&str, Vec<u8>)], to: &str) -> (u64, u64) {
    let folder = scratch.files(&format!("in-{}", to.replace('/', "-")), files);
    let report = add(repo, &folder, to);
    (report.new_raw, report.new_stored)
}

fn assert_small((raw, stored): (u64, u64)) {
    assert!(stored * 4 < raw, "{stored} of {raw}");
}

fn assert_large((raw, stored): (u64, u64)) {
    assert!(stored * 2 > raw, "{stored} of {raw}");
}

#[test]
fn the_next_revision_of_a_file_is_kept_as_a_difference() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    for steps in 0..4 {
        let folder = scratch.files("in", &[("m.safetensors", model("w", steps))]);
        let report = add(&repo, &folder, "acme/m");
        let cost = (report.new_raw, report.new_stored);
        if steps == 0 {
            assert_large(cost);
        } else {
            assert_small(cost);
        }
        let back = scratch.restore(&repo, "acme/m");
        assert_eq!(back["m.safetensors"], model("w", steps));
    }
    let stat = repo.stat(&[], true).unwrap();
    let t = stat.total;
    assert!(t.delta > t.raw / 2, "{t:?}");
    let causes = (t.duplicates + t.delta).cast_signed() + t.coding;
    assert_eq!(t.raw.cast_signed() - causes, t.stored.cast_signed());
    assert!(stat.methods.contains_key("delta"));
    assert!(repo.check_all().unwrap().is_clean());
    assert!(repo.check_targets(&[target("acme/m")]).unwrap().is_clean());
}

#[test]
fn a_model_card_names_the_base() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let card = |base: &str| format!("---\nbase_model: {base}\n---\n# Tuned\n").into_bytes();
    assert_large(cost(
        &scratch,
        &repo,
        &[("a.safetensors", model("w", 0))],
        "acme/base",
    ));
    let tuned = [
        ("README.md", card("acme/base")),
        ("b.safetensors", model("w", 1)),
    ];
    assert_small(cost(&scratch, &repo, &tuned, "acme/tuned"));
    // The owner may be another here; the tensors may have other names.
    let renamed = [
        ("README.md", card("hub/base")),
        ("b.safetensors", model("layer.", 2)),
    ];
    assert_small(cost(&scratch, &repo, &renamed, "acme/renamed"));
    let lost = [
        ("README.md", card("acme/none")),
        ("b.safetensors", model("w", 3)),
    ];
    assert_large(cost(&scratch, &repo, &lost, "acme/alone"));
    let back = scratch.restore(&repo, "acme/renamed");
    assert_eq!(back["b.safetensors"], model("layer.", 2));
    assert!(repo.check_all().unwrap().is_clean());
}

#[test]
fn a_base_can_be_named_and_a_stranger_costs_nothing() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    assert_large(cost(
        &scratch,
        &repo,
        &[("a.safetensors", model("w", 0))],
        "acme/base",
    ));
    let add_on = |name: &str, bytes: Vec<u8>, base: &str| {
        let path = scratch.files(name, &[("m.safetensors", bytes)]);
        let options = AddOptions {
            base: Some(target(base)),
            ..AddOptions::default()
        };
        repo.add(&[path], &target(&format!("acme/{name}")), &options)
    };
    for base in ["acme/base", "acme/base@main:a.safetensors"] {
        let steps = base.len() as u64;
        let report = add_on(&format!("t{steps}"), model("w", steps), base).unwrap();
        assert_small((report.new_raw, report.new_stored));
    }
    let error = add_on("x", model("w", 1), "acme/none").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let alone = Scratch::new();
    let expected = cost(
        &alone,
        &alone.init(),
        &[("m.safetensors", unrelated())],
        "a/b",
    )
    .1;
    let report = add_on("stranger", unrelated(), "acme/base").unwrap();
    // Its header is the same as one that is there already.
    assert!(report.new_stored <= expected && report.new_stored + 200 > expected);
}

/// The same file added in the same way costs the same frames, and added again costs nothing.
#[test]
fn adding_is_repeatable() {
    let costs = || {
        let scratch = Scratch::new();
        let repo = scratch.init();
        let first = cost(
            &scratch,
            &repo,
            &[("m.safetensors", model("w", 0))],
            "acme/m",
        );
        let second = cost(
            &scratch,
            &repo,
            &[("m.safetensors", model("w", 2))],
            "acme/m",
        );
        let again = cost(
            &scratch,
            &repo,
            &[("m.safetensors", model("w", 2))],
            "acme/n",
        );
        assert_eq!(again.0, 0);
        (first, second)
    };
    assert_eq!(costs(), costs());
}

#[test]
fn a_file_packed_on_top_of_another_needs_it() {
    let scratch = Scratch::new();
    let files = [
        ("base.safetensors", model("w", 0)),
        ("new.safetensors", model("w", 2)),
    ];
    let folder = scratch.files("in", &files);
    let (base, new) = (
        folder.join("base.safetensors"),
        folder.join("new.safetensors"),
    );
    let archive = scratch.path("new.mmh");
    let mut options = PackOptions {
        bases: vec![base.clone()],
        force: false,
        digests: false,
    };
    let report = pack(&new, &archive, &options, settings(), scratch.components()).unwrap();
    assert_small((report.raw, report.stored));
    let error = pack(&new, &archive, &options, settings(), scratch.components()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "it is there already");
    options.force = true;
    pack(&new, &archive, &options, settings(), scratch.components()).unwrap();

    let out = scratch.path("out.safetensors");
    let unpack_on = |bases: Vec<_>| {
        let options = UnpackOptions {
            bases,
            ..UnpackOptions::default()
        };
        unpack(&archive, &out, &options, settings(), scratch.components())
    };
    for wrong in [Vec::new(), vec![new.clone()]] {
        let error = unpack_on(wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let text = error.to_string();
        assert!(
            text.contains("base.safetensors") && text.contains("--base"),
            "{text}"
        );
        assert!(!out.exists());
    }
    unpack_on(vec![base.clone()]).unwrap();
    assert_eq!(fs::read(&out).unwrap(), model("w", 2));
    fs::remove_file(&out).unwrap();
    unpack_on(vec![folder]).unwrap();
    assert_eq!(fs::read(&out).unwrap(), model("w", 2));
}

/// What the base has itself is left out of the archive.
#[test]
fn a_file_packed_on_top_of_itself_is_almost_nothing() {
    let scratch = Scratch::new();
    let folder = scratch.files("in", &[("m.safetensors", model("w", 0))]);
    let (file, archive) = (folder.join("m.safetensors"), scratch.path("m.mmh"));
    let options = PackOptions {
        bases: vec![file.clone()],
        force: false,
        digests: false,
    };
    let report = pack(&file, &archive, &options, settings(), scratch.components()).unwrap();
    assert!(report.stored < 2000, "{}", report.stored);
    let out = scratch.path("out");
    let mut options = UnpackOptions::default();
    let error = unpack(&archive, &out, &options, settings(), scratch.components()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("m.safetensors"), "{error}");
    options.bases = vec![file];
    unpack(&archive, &out, &options, settings(), scratch.components()).unwrap();
    assert_eq!(fs::read(&out).unwrap(), model("w", 0));
}

#[test]
fn an_inspection_names_the_base_of_each_tensor() {
    let scratch = Scratch::new();
    let files = [
        ("base.safetensors", model("w", 0)),
        ("new.safetensors", model("v", 1)),
    ];
    let folder = scratch.files("in", &files);
    let bases = [folder.join("base.safetensors")];
    let path = folder.join("new.safetensors");
    let report = inspect(&path, &bases, settings(), scratch.components()).unwrap();
    let tensors = report.parts.iter().filter(|p| p.name.is_some());
    let shown: Vec<_> = tensors
        .map(|p| (p.method.as_str(), p.base.as_deref()))
        .collect();
    let expected = ["w0", "w1", "w2"].map(|w| ("delta", Some(w)));
    assert_eq!(shown, expected);
    let alone = inspect(&path, &[], settings(), scratch.components()).unwrap();
    let is_whole = |p: &PartReport| p.base.is_none() && p.method != "delta";
    assert!(alone.parts.iter().all(is_whole));
    assert!(
        alone.parts[0]
            .coders
            .iter()
            .any(|c| c.starts_with("exponent "))
    );
    assert_eq!(alone.level, "default");
}

/// A damaged base takes the versions that need it along, says so, and nothing else.
#[test]
fn damage_of_a_base_is_told_of_every_file_that_needs_it() {
    let scratch = Scratch::new();
    let repo = scratch.init_without_parity();
    cost(
        &scratch,
        &repo,
        &[("a.safetensors", model("w", 0))],
        "acme/base",
    );
    let card = b"---\nbase_model: acme/base\n---\n".to_vec();
    let tuned = [
        ("README.md", card.clone()),
        ("b.safetensors", model("w", 1)),
    ];
    cost(&scratch, &repo, &tuned, "acme/tuned");
    let other = [("c.safetensors", unrelated())];
    cost(&scratch, &repo, &other, "acme/other");
    drop(repo);
    // The packs differ most in length: the first model came first and is the longest but one.
    let first = scratch.files("x", &[("a.safetensors", model("w", 0))]);
    let repo = scratch.open();
    let reader = match repo.node(&target("acme/base:a.safetensors")).unwrap() {
        mmh_core::tree::Node::File { id, .. } => repo.open_file(id).unwrap(),
        node => panic!("{node:?}"),
    };
    let mut chunks = Vec::new();
    reader
        .for_each_chunk(&mut |id, len| {
            chunks.push((id, len));
            Ok(())
        })
        .unwrap();
    let (chunk, _) = *chunks.iter().max_by_key(|(_, len)| *len).unwrap();
    let at = repo.source().locate(&chunk).unwrap().unwrap();
    let digits = at.pack.unwrap().digest().to_string();
    let pack = scratch.path(&format!("repo/mmh/packs/{}/{digits}", &digits[..2]));
    let mut bytes = fs::read(&pack).unwrap();
    bytes[usize::try_from(at.offset).unwrap() + 5000] ^= 4;
    let permissions = fs::metadata(&pack).unwrap().permissions();
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, bytes).unwrap();
    fs::set_permissions(&pack, permissions).unwrap();
    drop(first);

    let repo = scratch.open();
    let report = repo.check_all().unwrap();
    let hit: Vec<_> = report.findings.iter().map(|f| f.target.as_str()).collect();
    let expected = [
        "models/acme/base@heads/main:a.safetensors",
        "models/acme/tuned@heads/main:b.safetensors",
    ];
    assert_eq!(hit.len(), 2, "each chunk once: {:?}", report.findings);
    for (target, name) in hit.iter().zip(expected) {
        let path = name.rsplit(':').next().unwrap();
        assert!(target.ends_with(path), "{target}");
    }
    let chunk = chunk.to_string();
    assert!(report.findings[1].problem.contains(&chunk), "it is named");
    for (name, good) in [
        ("acme/base", false),
        ("acme/tuned", false),
        ("acme/other", true),
    ] {
        let checked = repo.check_targets(&[target(name)]).unwrap();
        assert_eq!(checked.is_clean(), good, "{name}");
    }
    assert_eq!(
        scratch.restore(&repo, "acme/other")["c.safetensors"],
        unrelated()
    );
}
