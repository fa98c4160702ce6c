//! A disk that fails is an error to report, never a judgement about the file.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use mmh_core::{Dtype, ErrorKind};
use mmh_formats::samples::{
    SampleTensor, arrow, ctranslate2, gguf, hdf5, msgpack, npy, onnx, pickle, safetensors, tflite,
    torch, zip,
};
use mmh_formats::{Error, ReadAt, probe};

/// Reads that fail from the n-th on, or that find the file shorter than it was.
struct Failing {
    bytes: Vec<u8>,
    reads_left: AtomicU64,
    /// What is left of the file since it was opened.
    shrunk_to: u64,
}

impl ReadAt for Failing {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let left = self.reads_left.load(Ordering::Relaxed);
        if left == 0 {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.reads_left.store(left - 1, Ordering::Relaxed);
        if offset + buf.len() as u64 > self.shrunk_to {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.bytes.read_exact_at(buf, offset)
    }
}

/// One file of each container whose parser may go on after an error in a part of it.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let tensors = [
        SampleTensor::new("weight", Dtype::F32, &[40, 50]),
        SampleTensor::new("bias", Dtype::F16, &[40]),
    ];
    let member = |name: &str, content| zip::Entry::new(name, content);
    let bundle = [
        member("a.safetensors", safetensors::file(&tensors)),
        member("b.pkl", pickle::numpy(&tensors)),
        member("c.npy", npy::npy(&tensors[0])),
        member("d.pt", torch::legacy(&tensors)),
    ];
    let mut pickles = pickle::numpy(&tensors);
    pickles.extend(pickle::joblib(&tensors, true));
    let mut blob = pickle::Writer::new(4);
    blob.global("torch.storage", "_load_from_bytes");
    blob.bytes(&torch::legacy(&tensors)).raw(b"\x85R.");
    let mut objects = pickle::numpy_protocol_5(&tensors);
    let header = "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }";
    objects = npy::with_header(1, header, &objects);
    let dataset = [SampleTensor::new("/w", Dtype::F32, &[40, 50])];
    let column = [SampleTensor::new("w[0]", Dtype::F32, &[2000])];
    vec![
        (
            "old hdf5",
            hdf5::file(&dataset, hdf5::Form::Old, hdf5::Storage::Chunked),
        ),
        (
            "new hdf5",
            hdf5::file(&dataset, hdf5::Form::New, hdf5::Storage::Contiguous),
        ),
        ("onnx", onnx::embedded(&tensors)),
        ("tflite", tflite::model(&tensors, tflite::Place::Behind)),
        ("msgpack", msgpack::flax(&tensors)),
        ("ctranslate2", ctranslate2::model(&tensors)),
        ("arrow", arrow::file(&column, arrow::Kind::Plain)),
        ("safetensors", safetensors::file(&tensors)),
        ("gguf", gguf::file(&tensors)),
        ("torch zip", torch::zip(&tensors)),
        ("torch legacy", torch::legacy(&tensors)),
        ("npz", npy::npz(&tensors)),
        ("object npy", objects),
        ("pickles", pickles),
        ("torch in pickle", blob.into_bytes()),
        ("bundle", zip::archive(&bundle, zip::Form::Wide)),
    ]
}

#[test]
fn the_nth_read_failing_is_an_io_error_for_every_n() {
    for (what, bytes) in files() {
        let expected = probe(&bytes, "").unwrap();
        assert!(expected.tensors().count() > 0, "{what}");
        let n_reads = (0..).find(|&n| {
            let (reads_left, shrunk_to) = (AtomicU64::new(n), u64::MAX);
            let source = Failing {
                bytes: bytes.clone(),
                reads_left,
                shrunk_to,
            };
            match probe(&source, "") {
                Ok(layout) => {
                    assert_eq!(layout, expected, "{what}: a failed read was passed over");
                    true
                }
                Err(error @ Error::Io { .. }) => {
                    assert_eq!(error.kind(), ErrorKind::Denied);
                    false
                }
                Err(other) => panic!("{what}: read {n} failed, and that is {other}"),
            }
        });
        assert!(n_reads.unwrap() > 1, "{what}");
    }
}

/// A file may be cut while it is read: what is missing then is not the file's lie.
#[test]
fn a_file_that_shrinks_while_it_is_read_is_an_io_error() {
    for (what, bytes) in files() {
        let expected = probe(&bytes, "").unwrap();
        for shrunk_to in (0..bytes.len() as u64).step_by(97) {
            let reads_left = AtomicU64::new(u64::MAX);
            let source = Failing {
                bytes: bytes.clone(),
                reads_left,
                shrunk_to,
            };
            match probe(&source, "") {
                // All that was needed was still there.
                Ok(layout) => assert_eq!(layout, expected, "{what} of {shrunk_to}"),
                Err(Error::Io { source, .. }) => {
                    assert_eq!(source.kind(), io::ErrorKind::UnexpectedEof);
                }
                Err(other) => panic!("{what} of {shrunk_to}: {other}"),
            }
        }
    }
}
