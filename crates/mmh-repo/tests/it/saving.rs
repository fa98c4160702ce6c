//! Where bytes are saved: the same tensor is stored once wherever it lies.

use mmh_core::Dtype;
use mmh_formats::samples::{SampleTensor, npy, onnx, safetensors, torch};

use crate::scratch::{Scratch, add, noise, target};

fn tensors() -> Vec<SampleTensor> {
    vec![
        SampleTensor::new("encoder.weight", Dtype::F32, &[512, 900]),
        SampleTensor::new("encoder.bias", Dtype::F32, &[512]),
        SampleTensor::new("decoder.weight", Dtype::F32, &[300, 1000]),
    ]
}

#[test]
fn a_tensor_is_stored_once_across_four_containers() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let t = tensors();
    let folder = scratch.files("in", &[("m.safetensors", safetensors::file(&t))]);
    add(&repo, &folder, "acme/safetensors");
    let size: u64 = t.iter().map(|t| t.data.len() as u64).sum();
    let others = [
        ("torch", "m.pt", torch::zip(&t)),
        ("numpy", "m.npz", npy::npz(&t)),
        ("onnx", "m.onnx", onnx::embedded(&t)),
    ];
    for (name, file, bytes) in others {
        let folder = scratch.files(name, &[(file, bytes)]);
        let report = add(&repo, &folder, &format!("acme/{name}"));
        let new = report.new_raw;
        assert!(new < 20_000, "{name}: {new} bytes of {size} were new");
    }
    let stat = repo.stat(&[], true).unwrap();
    assert_eq!(stat.names.len(), 4);
    for name in &stat.names {
        assert!(
            name.shared > size - 20_000,
            "{}: {} of {size} shared",
            name.name,
            name.shared
        );
    }
    assert!(stat.total.duplicates > 3 * (size - 20_000));
}

#[test]
fn the_causes_of_saving_add_up() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let folder = scratch.files(
        "in",
        &[
            ("a.safetensors", safetensors::file(&tensors())),
            ("b.safetensors", safetensors::file(&tensors())),
            ("noise", noise(2_000_000, 9)),
            ("zeros", vec![0; 4_000_000]),
        ],
    );
    add(&repo, &folder, "acme/m");
    let stat = repo.stat(&[target("acme/m")], true).unwrap();
    let holds = |s: &mmh_repo::stat::Saving| {
        let kept = s.stored.cast_signed() + s.duplicates.cast_signed() + s.coding;
        assert_eq!(kept, s.raw.cast_signed(), "{s:?}");
    };
    holds(&stat.total);
    stat.files.iter().for_each(|f| holds(&f.saving));
    stat.names.iter().for_each(|n| holds(&n.alone));
    let raw: u64 = stat.files.iter().map(|f| f.saving.raw).sum();
    assert_eq!(raw, stat.total.raw);
    let methods: u64 = stat.methods.values().map(|m| m.stored).sum();
    assert_eq!(methods, stat.total.stored);
}

#[test]
fn adding_the_same_tree_again_stores_no_content() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let folder = scratch.files(
        "in",
        &[
            ("m.safetensors", safetensors::file(&tensors())),
            ("x", noise(900_000, 2)),
        ],
    );
    add(&repo, &folder, "acme/m");
    let before = repo.facts().unwrap();
    let again = add(&repo, &folder, "acme/m");
    assert!(!again.changed);
    assert_eq!((again.new_raw, again.new_stored), (0, 0));
    let other = add(&repo, &folder, "acme/copy");
    assert_eq!((other.new_raw, other.new_stored), (0, 0));
    // Only a snapshot and a root were written for the copy.
    assert!(repo.facts().unwrap().chunks <= before.chunks + 2);
}

/// An insertion into plain bytes changes the chunks around it, not all that follow.
#[test]
fn an_insertion_costs_little() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let mut bytes = noise(12_000_000, 5);
    add(
        &repo,
        &scratch.files("a", &[("data", bytes.clone())]),
        "trees/a",
    );
    bytes.splice(
        6_000_000..6_000_000,
        *b"forty bytes more in the middle of it all",
    );
    let report = add(&repo, &scratch.files("b", &[("data", bytes)]), "trees/b");
    assert!(
        report.new_raw < 2_500_000,
        "{} bytes were new",
        report.new_raw
    );
}

/// Files that cannot be made smaller grow by next to nothing, beside the parity of their packs.
#[test]
fn incompressible_files_do_not_grow() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    for (i, len) in [1usize, 100, 5000, 300_000, 3_000_000]
        .into_iter()
        .enumerate()
    {
        let name = format!("trees/n{i}");
        add(
            &repo,
            &scratch.files(&name, &[("n", noise(len, 77 + i as u64))]),
            &name,
        );
        let stat = repo.stat(&[target(&name)], true).unwrap();
        let most = len as u64 + len as u64 / 1000 + 4096;
        assert!(stat.total.stored <= most, "{len} → {}", stat.total.stored);
    }
    let facts = repo.facts().unwrap();
    let raw = 3_305_101u64;
    assert!(
        facts.pack_bytes < raw + raw / 1000 + raw * 4 / 100 + 5 * 12_288,
        "{}",
        facts.pack_bytes
    );
}

/// A tag on the tip of a branch holds as much as the branch, and nothing of it twice.
#[test]
fn two_revisions_of_one_tree_are_counted_alone_and_once_together() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let folder = scratch.files("in", &[("a", noise(100_000, 1))]);
    add(&repo, &folder, "acme/m");
    repo.create_tag(&target("acme/m"), "v1").unwrap();
    let report = repo.stat(&[], true).unwrap();
    assert_eq!(report.total.raw, 100_000);
    assert_eq!(report.files.len(), 1);
    assert_eq!(report.names.len(), 2);
    for name in &report.names {
        assert_eq!(
            (name.alone.raw, name.shared),
            (100_000, 100_000),
            "{}",
            name.name
        );
    }
}
