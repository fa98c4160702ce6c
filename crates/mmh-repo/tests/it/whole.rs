//! Whole trees: what goes in comes out, in any container, of any size, with modes and links.

use std::fs;

use mmh_core::tree::Node;
use mmh_core::{Dtype, ErrorKind};
use mmh_formats::samples::{SampleTensor, onnx, safetensors};
use mmh_repo::{AddOptions, ExportOptions};
use proptest::prelude::*;

use crate::scratch::{Scratch, add, noise, read_tree, target};

#[test]
fn a_tree_of_everything_comes_back_byte_for_byte() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let tensors = [
        SampleTensor::new("wte", Dtype::BF16, &[300, 1000]),
        SampleTensor::new("bias", Dtype::F32, &[7]),
        SampleTensor::new("head", Dtype::F16, &[5000, 3]),
    ];
    let folder = scratch.files(
        "in",
        &[
            ("model.safetensors", safetensors::file(&tensors)),
            ("onnx/model.onnx", onnx::embedded(&tensors)),
            ("config.json", b"{\"hidden_size\": 1000}".to_vec()),
            ("empty", Vec::new()),
            ("one", vec![1]),
            ("noise.bin", noise(5_000_000, 1)),
            ("zeros.bin", vec![0; 3_000_000]),
            ("naïve – ファイル.txt", "text".repeat(40_000).into_bytes()),
        ],
    );
    let report = add(&repo, &folder, "acme/everything");
    assert!(report.changed);
    assert_eq!(report.files.len(), 8);
    assert_eq!(
        scratch.restore(&repo, "acme/everything"),
        read_tree(&folder)
    );
    assert!(repo.check_all().unwrap().is_clean());
    // A new process sees the same.
    assert_eq!(
        scratch.restore(&scratch.open(), "acme/everything"),
        read_tree(&folder)
    );
}

#[test]
fn tensors_of_external_data_are_found_in_the_file_beside() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let tensors = [SampleTensor::new("w", Dtype::F32, &[200, 100])];
    let (model, data) = onnx::external(&tensors, "weights.data");
    let folder = scratch.files("in", &[("m.onnx", model), ("weights.data", data)]);
    let report = add(&repo, &folder, "acme/external");
    let of = |path: &str| {
        report
            .files
            .iter()
            .find(|f| *f.path == *path)
            .unwrap()
            .container
    };
    assert_eq!(of("m.onnx"), "onnx");
    assert_eq!(of("weights.data"), "external");
    assert_eq!(scratch.restore(&repo, "acme/external"), read_tree(&folder));
}

#[cfg(unix)]
#[test]
fn modes_links_and_empty_folders_survive() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let scratch = Scratch::new();
    let repo = scratch.init();
    let folder = scratch.files(
        "in",
        &[("bin/run.sh", b"#!/bin/sh\n".to_vec()), ("a", vec![1])],
    );
    let script = folder.join("bin/run.sh");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(folder.join("void")).unwrap();
    symlink("../a", folder.join("bin/link")).unwrap();
    symlink("/etc/passwd", folder.join("bin/far")).unwrap();
    add(&repo, &folder, "trees/t");
    let dest = scratch.path("out");
    let node = repo.node(&target("trees/t")).unwrap();
    let report = repo
        .export(&node, "", &dest, ExportOptions::default())
        .unwrap();
    assert_eq!(
        fs::metadata(dest.join("bin/run.sh"))
            .unwrap()
            .permissions()
            .mode()
            & 0o111,
        0o111
    );
    assert!(dest.join("void").is_dir());
    assert_eq!(
        fs::read_link(dest.join("bin/link")).unwrap().to_str(),
        Some("../a")
    );
    assert!(fs::symlink_metadata(dest.join("bin/far")).is_err());
    assert_eq!(report.skipped.len(), 1);
    let options = ExportOptions {
        unsafe_links: true,
        ..ExportOptions::default()
    };
    repo.export(&node, "", &dest, options).unwrap();
    assert_eq!(
        fs::read_link(dest.join("bin/far")).unwrap().to_str(),
        Some("/etc/passwd")
    );
}

/// A folder that someone replaced by a link must not lead the restored files elsewhere.
#[cfg(unix)]
#[test]
fn restoring_never_writes_through_a_link() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let folder = scratch.files("in", &[("sub/secret", vec![7])]);
    add(&repo, &folder, "trees/t");
    let (dest, elsewhere) = (scratch.path("out"), scratch.path("elsewhere"));
    fs::create_dir_all(&dest).unwrap();
    fs::create_dir_all(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, dest.join("sub")).unwrap();
    let node = repo.node(&target("trees/t")).unwrap();
    let options = ExportOptions {
        overwrite: true,
        unsafe_links: true,
    };
    let error = repo.export(&node, "", &dest, options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn restoring_keeps_equal_files_and_refuses_to_overwrite_others() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let folder = scratch.files("in", &[("a", vec![1; 100]), ("b", vec![2; 100])]);
    add(&repo, &folder, "trees/t");
    let dest = scratch.files("out", &[("a", vec![1; 100]), ("b", vec![3; 100])]);
    let node = repo.node(&target("trees/t")).unwrap();
    let error = repo
        .export(&node, "", &dest, ExportOptions::default())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(fs::read(dest.join("b")).unwrap(), vec![3; 100]);
    let options = ExportOptions {
        overwrite: true,
        ..ExportOptions::default()
    };
    let report = repo.export(&node, "", &dest, options).unwrap();
    assert_eq!((report.written, report.kept), (1, 1));
    assert_eq!(read_tree(&dest), read_tree(&folder));
}

#[test]
fn one_file_can_be_added_below_a_folder_and_taken_alone() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let folder = scratch.files("in", &[("w.bin", noise(300_000, 3))]);
    add(&repo, &folder.join("w.bin"), "acme/m:sub/dir");
    let node = repo.node(&target("acme/m:sub/dir/w.bin")).unwrap();
    assert!(matches!(node, Node::File { size: 300_000, .. }));
    let dest = scratch.path("alone.bin");
    repo.export(&node, "w.bin", &dest, ExportOptions::default())
        .unwrap();
    assert_eq!(fs::read(dest).unwrap(), noise(300_000, 3));
}

/// A file with more parts than one object may list is described by pages.
#[test]
fn files_of_many_thousand_tensors_are_paged() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let tensors: Vec<_> = (0..6000)
        .map(|i| SampleTensor::new(&format!("t{i}"), Dtype::F32, &[3]))
        .collect();
    let bytes = safetensors::file(&tensors);
    let folder = scratch.files("in", &[("many.safetensors", bytes.clone())]);
    add(&repo, &folder, "acme/many");
    let Node::File { id, .. } = repo.node(&target("acme/many:many.safetensors")).unwrap() else {
        panic!("not a file")
    };
    let reader = repo.open_file(id).unwrap();
    assert!(matches!(
        reader.file().segments,
        mmh_core::object::Segments::Pages(_)
    ));
    let mut found = 0;
    let all = mmh_core::ByteRange::all(reader.size());
    reader
        .for_each_segment(all, &mut |_, segment| {
            found += segment.tensors.len();
            Ok(())
        })
        .unwrap();
    assert_eq!(found, 6000);
    assert_eq!(
        scratch.restore(&repo, "acme/many")["many.safetensors"],
        bytes
    );
}

#[test]
fn nothing_to_add_is_an_error() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let add = |paths: &[std::path::PathBuf]| {
        repo.add(paths, &target("a/b"), &AddOptions::default())
            .unwrap_err()
            .kind()
    };
    assert_eq!(add(&[]), ErrorKind::Invalid);
    fs::create_dir(scratch.path("empty")).unwrap();
    assert_eq!(add(&[scratch.path("empty")]), ErrorKind::Invalid);
    assert!(repo.names().unwrap().is_empty());
    assert_eq!(add(&[scratch.path("absent")]), ErrorKind::NotFound);
}

/// A tree that could not be listed again must not come to be.
#[test]
fn a_path_too_deep_by_its_destination_is_refused_before_anything_is_stored() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let folder = scratch.files("in", &[(&format!("{}f", "d/".repeat(60)), vec![1])]);
    let paths = [folder];
    let add = |to: &str| repo.add(&paths, &target(to), &AddOptions::default());
    let error = add("trees/t:a/a/a/a").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(repo.facts().unwrap().chunks, 0);
    add("trees/t:a/a/a").unwrap();
    assert_eq!(repo.list(&target("trees/t"), true).unwrap().len(), 64);
}

#[test]
fn files_with_the_longest_names_come_back() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let (narrow, wide) = ("n".repeat(255), "漢".repeat(85));
    let folder = scratch.files("in", &[(&narrow, vec![1]), (&wide, vec![2])]);
    add(&repo, &folder, "trees/t");
    assert_eq!(scratch.restore(&repo, "trees/t"), read_tree(&folder));
}

/// The folder that the user names may be a link; what lies below it may not.
#[cfg(unix)]
#[test]
fn the_destination_itself_may_be_a_link_or_lie_in_new_folders() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let folder = scratch.files("in", &[("a", vec![1])]);
    add(&repo, &folder, "trees/t");
    let (real, link) = (scratch.path("real"), scratch.path("link"));
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let options = ExportOptions::default();
    let root = repo.node(&target("trees/t")).unwrap();
    repo.export(&root, "", &link, options).unwrap();
    assert_eq!(read_tree(&real), read_tree(&folder));
    let file = repo.node(&target("trees/t:a")).unwrap();
    let dest = scratch.path("new/folder/b");
    repo.export(&file, "a", &dest, options).unwrap();
    assert_eq!(fs::read(dest).unwrap(), [1]);
}

#[cfg(unix)]
#[test]
fn restoring_again_repairs_modes_and_links() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let scratch = Scratch::new();
    let repo = scratch.init();
    let folder = scratch.files("in", &[("run", vec![1])]);
    fs::set_permissions(folder.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("run", folder.join("link")).unwrap();
    add(&repo, &folder, "trees/t");
    let dest = scratch.files("out", &[("run", vec![1]), ("link", vec![2])]);
    let root = repo.node(&target("trees/t")).unwrap();
    let refused = repo.export(&root, "", &dest, ExportOptions::default());
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
    let options = ExportOptions {
        overwrite: true,
        ..ExportOptions::default()
    };
    repo.export(&root, "", &dest, options).unwrap();
    let mode = fs::metadata(dest.join("run")).unwrap().permissions().mode();
    assert_eq!(mode & 0o100, 0o100);
    assert_eq!(
        fs::read_link(dest.join("link")).unwrap().to_str(),
        Some("run")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Any bytes under any of the names that parsers listen to come back.
    #[test]
    fn any_bytes_under_any_name_come_back(
        files in prop::collection::btree_map(
            "[a-z]{1,8}\\.(safetensors|gguf|pt|pkl|onnx|npz|npy|h5|tflite|msgpack|index|bin|txt)",
            prop::collection::vec(any::<u8>(), 0..3000), 1..6),
    ) {
        let scratch = Scratch::new();
        let repo = scratch.init();
        let list: Vec<_> = files.iter().map(|(n, b)| (n.as_str(), b.clone())).collect();
        let folder = scratch.files("in", &list);
        add(&repo, &folder, "trees/any");
        prop_assert_eq!(scratch.restore(&repo, "trees/any"), files);
    }
}
