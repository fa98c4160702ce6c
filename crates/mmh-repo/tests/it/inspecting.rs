//! Looking into files without a repository: the same cuts and sizes as adding has.

use std::fs;

use mmh_core::{Dtype, ErrorKind};
use mmh_formats::samples::{SampleTensor, gguf, npy, onnx, safetensors, torch};
use mmh_repo::{Error, inspect};

use crate::scratch::{Scratch, add, noise, settings};

fn tensors() -> Vec<SampleTensor> {
    vec![
        SampleTensor::new("a.weight", Dtype::F32, &[128, 300]),
        SampleTensor::new("b.bias", Dtype::F32, &[9]),
        SampleTensor::new("c.weight", Dtype::F32, &[64, 1000]),
    ]
}

/// What an inspection says that a file would take is what adding it takes.
#[test]
fn an_inspection_foretells_what_adding_costs() {
    let scratch = Scratch::new();
    let t = tensors();
    for (name, bytes) in [
        ("m.safetensors", safetensors::file(&t)),
        ("m.gguf", gguf::file(&t)),
        ("m.pt", torch::zip(&t)),
        ("m.npz", npy::npz(&t)),
        ("m.onnx", onnx::embedded(&t)),
        ("noise", noise(3_000_000, 4)),
        ("text.txt", "word ".repeat(9000).into_bytes()),
        ("empty", Vec::new()),
    ] {
        let path = scratch.files(name, &[(name, bytes.clone())]).join(name);
        let report = inspect(&path, &[], settings(), scratch.components()).unwrap();
        assert_eq!(report.raw, bytes.len() as u64, "{name}");
        assert_eq!(
            report.parts.iter().map(|p| p.raw).sum::<u64>(),
            report.raw,
            "{name}"
        );
        // Each name has a store of its own, else tensors would be there already.
        let own = Scratch::new();
        let added = add(&own.init(), &path, "acme/m");
        assert_eq!(report.coded, added.new_stored, "{name}");
        assert_eq!(report.container, added.files[0].container, "{name}");
    }
}

#[test]
fn tensors_are_listed_in_order_of_place_and_bytes_last() {
    let scratch = Scratch::new();
    let t = tensors();
    let path = scratch
        .files("in", &[("m.safetensors", safetensors::file(&t))])
        .join("m.safetensors");
    let report = inspect(&path, &[], settings(), scratch.components()).unwrap();
    let shown: Vec<_> = report
        .parts
        .iter()
        .map(|p| (p.name.as_deref(), p.shape.clone(), p.raw))
        .collect();
    for (part, tensor) in shown.iter().zip(&t) {
        let expected = (
            Some(tensor.name.as_str()),
            tensor.shape.clone(),
            tensor.data.len() as u64,
        );
        assert_eq!(*part, expected);
    }
    assert_eq!(report.parts.len(), 4);
    assert_eq!(report.parts[3].name, None);
    let (before, _) = report.parts[0].bits_per_weight().unwrap();
    assert!((before - 32.0).abs() < 1e-9);
}

#[test]
fn files_beside_are_named() {
    let scratch = Scratch::new();
    let (model, data) = onnx::external(&tensors(), "weights.data");
    let folder = scratch.files("in", &[("m.onnx", model), ("weights.data", data)]);
    let report = inspect(
        &folder.join("m.onnx"),
        &[],
        settings(),
        scratch.components(),
    )
    .unwrap();
    assert_eq!(
        report.externals.first().map(String::as_str),
        Some("weights.data")
    );
}

/// A file that only looks like a container is looked at as bytes, and the reason is given.
#[test]
fn a_broken_container_is_bytes_with_a_reason() {
    let scratch = Scratch::new();
    let mut bytes = safetensors::file(&tensors());
    bytes.truncate(bytes.len() / 2);
    let path = scratch
        .files("in", &[("m.safetensors", bytes.clone())])
        .join("m.safetensors");
    let report = inspect(&path, &[], settings(), scratch.components()).unwrap();
    assert!(report.note.is_some());
    assert_eq!(report.parts.len(), 1);
    assert_eq!(report.parts[0].name, None);
    assert_eq!(report.parts[0].raw, bytes.len() as u64);
}

/// To open a pipe is to wait for its writer, for ever if there is none.
#[cfg(unix)]
#[test]
fn what_is_no_file_is_refused_without_waiting() {
    let scratch = Scratch::new();
    let socket = scratch.path("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    fs::create_dir(scratch.path("dir")).unwrap();
    for (path, word) in [(socket, "no file"), (scratch.path("dir"), "a folder")] {
        let error = inspect(&path, &[], settings(), scratch.components()).unwrap_err();
        assert!(
            matches!(&error, Error::Invalid(text) if text.contains(word)),
            "{error}"
        );
    }
    let error = inspect(&scratch.path("none"), &[], settings(), scratch.components()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn an_inspection_can_be_stopped() {
    let scratch = Scratch::new();
    let path = scratch.files("in", &[("a", vec![1])]).join("a");
    let components = scratch.components();
    components.cancel.cancel();
    assert!(
        inspect(&path, &[], settings(), components)
            .unwrap_err()
            .is_cancelled()
    );
}
