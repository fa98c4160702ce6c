//! Sources, names and errors: what a caller may rely on whatever the container.

use std::io;

use mmh_core::{Dtype, ErrorKind};
use mmh_formats::read_at::FileSource;
use mmh_formats::samples::{
    SampleTensor, arrow, gguf, hdf5, msgpack, npy, onnx, pickle, safetensors, torch,
};
use mmh_formats::{Container, Error, ReadAt, Window, probe, read_vec};
use proptest::prelude::*;

/// Objects in repositories hold these names: they never change.
#[test]
fn containers_have_the_names_that_repositories_hold() {
    use Container as C;
    let names = [
        (C::Safetensors, "safetensors"),
        (C::Gguf, "gguf"),
        (C::TorchZip, "torch-zip"),
        (C::TorchLegacy, "torch-legacy"),
        (C::Pickle, "pickle"),
        (C::Npy, "npy"),
        (C::Npz, "npz"),
        (C::Zip, "zip"),
        (C::Onnx, "onnx"),
        (C::External, "external"),
        (C::Hdf5, "hdf5"),
        (C::Tflite, "tflite"),
        (C::TfCheckpoint, "tf-checkpoint"),
        (C::Msgpack, "msgpack"),
        (C::Ctranslate2, "ctranslate2"),
        (C::Parquet, "parquet"),
        (C::Arrow, "arrow"),
        (C::Text, "text"),
        (C::Array, "array"),
        (C::Unknown, "unknown"),
    ];
    for (container, name) in names {
        assert_eq!(container.as_str(), name);
        assert_eq!(
            format!("[{container:>13}]"),
            format!("[{name:>13}]"),
            "it pads in tables"
        );
    }
}

#[test]
fn an_error_says_what_and_where_and_of_which_kind() {
    let io = |kind: io::ErrorKind| Error::Io {
        offset: 7,
        len: 9,
        source: kind.into(),
    };
    for (error, kind, words) in [
        (
            io(io::ErrorKind::PermissionDenied),
            ErrorKind::Denied,
            "9 bytes at offset 7",
        ),
        (
            io(io::ErrorKind::NotFound),
            ErrorKind::NotFound,
            "9 bytes at offset 7",
        ),
        (
            io(io::ErrorKind::UnexpectedEof),
            ErrorKind::Corrupt,
            "9 bytes at offset 7",
        ),
        (
            io(io::ErrorKind::Interrupted),
            ErrorKind::Unavailable,
            "9 bytes at offset 7",
        ),
        (
            Error::malformed(Container::Gguf, "why"),
            ErrorKind::Invalid,
            "gguf file: why",
        ),
        (
            Error::too_large(Container::Npy, "why"),
            ErrorKind::Invalid,
            "npy file beyond limits: why",
        ),
    ] {
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

fn samples() -> Vec<(Container, Vec<u8>)> {
    let named = |a, b| {
        [
            SampleTensor::new(a, Dtype::F32, &[30, 40]),
            SampleTensor::new(b, Dtype::F32, &[50]),
        ]
    };
    let (tensors, datasets) = (named("a", "b"), named("/a", "/b"));
    // Short columns are not worth a part.
    let columns = [SampleTensor::new("c[0]", Dtype::F32, &[2000])];
    vec![
        (Container::Safetensors, safetensors::file(&tensors)),
        (Container::Gguf, gguf::file(&tensors)),
        (Container::TorchZip, torch::zip(&tensors)),
        (Container::TorchLegacy, torch::legacy(&tensors)),
        (Container::Pickle, pickle::joblib(&tensors, true)),
        (Container::Npz, npy::npz(&tensors)),
        (Container::Onnx, onnx::embedded(&tensors)),
        (Container::Msgpack, msgpack::flax(&tensors)),
        (
            Container::Hdf5,
            hdf5::file(&datasets, hdf5::Form::Old, hdf5::Storage::Contiguous),
        ),
        (Container::Arrow, arrow::file(&columns, arrow::Kind::Plain)),
    ]
}

/// A file on the disk, read by four threads at once, has the layout of its bytes in memory.
#[test]
fn threads_that_share_a_file_agree() {
    for (container, bytes) in samples() {
        let expected = probe(&bytes, "").unwrap();
        assert_eq!(expected.container(), container, "{:?}", expected.note());
        assert!(expected.tensors().count() > 0, "{container}");
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &bytes).unwrap();
        let source = FileSource::new(file).unwrap();
        assert_eq!(source.len(), bytes.len() as u64);
        std::thread::scope(|scope| {
            let tasks: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| probe(&source, "").unwrap()))
                .collect();
            for task in tasks {
                assert_eq!(task.join().unwrap(), expected, "{container}");
            }
        });
    }
}

/// A container in the middle of another file is found through a window, at its own offsets, and
/// nothing around it is read.
#[test]
fn a_window_has_the_layout_of_what_it_shows() {
    for (container, bytes) in samples() {
        let around = [vec![0xee; 77], bytes.clone(), vec![0xee; 99]].concat();
        let window = Window::new(&around, 77, bytes.len() as u64).unwrap();
        assert_eq!(
            probe(&window, "").unwrap(),
            probe(&bytes, "").unwrap(),
            "{container}"
        );
    }
}

proptest! {
    /// Windows in windows are slices of slices, and a read is right or an error.
    #[test]
    fn windows_are_slices(
        len in 0usize..40,
        outer in (0usize..44, 0usize..44),
        inner in (0usize..44, 0usize..44),
        read in (0usize..44, 0usize..44),
    ) {
        let bytes: Vec<u8> = (0..len as u8).collect();
        let slice = |of: &[u8], (at, len): (usize, usize)| of.get(at..at + len).map(<[u8]>::to_vec);
        let outer_slice = slice(&bytes, outer);
        let outer_window = Window::new(&bytes, outer.0 as u64, outer.1 as u64);
        prop_assert_eq!(outer_window.is_some(), outer_slice.is_some());
        let (Some(outer_slice), Some(outer_window)) = (outer_slice, outer_window) else {
            return Ok(());
        };
        let inner_slice = slice(&outer_slice, inner);
        let inner_window = Window::new(&outer_window, inner.0 as u64, inner.1 as u64);
        prop_assert_eq!(inner_window.is_some(), inner_slice.is_some());
        let (Some(inner_slice), Some(inner_window)) = (inner_slice, inner_window) else {
            return Ok(());
        };
        let found = read_vec(&inner_window, read.0 as u64, read.1 as u64);
        prop_assert_eq!(found.ok(), slice(&inner_slice, read));
    }
}
