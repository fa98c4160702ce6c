//! The same tensor has the same bytes, type and shape whichever container holds it.

use mmh_core::Dtype;
use mmh_formats::samples::{
    SampleTensor, assert_holds, gguf, hdf5, npy, onnx, pickle, safetensors, torch, zip,
};
use mmh_formats::{Container, probe};

fn tensors() -> Vec<SampleTensor> {
    vec![
        SampleTensor::new("encoder.weight", Dtype::F32, &[8, 3]),
        SampleTensor::new("encoder.bias", Dtype::F16, &[8]),
        SampleTensor::new("steps", Dtype::I64, &[]),
        SampleTensor::new("none", Dtype::F32, &[0, 4]),
    ]
}

#[test]
fn every_container_gives_the_tensors_that_were_written() {
    let tensors = tensors();
    let files = [
        (Container::Safetensors, safetensors::file(&tensors)),
        (Container::TorchZip, torch::zip(&tensors)),
        (Container::TorchLegacy, torch::legacy(&tensors)),
        (Container::Npz, npy::npz(&tensors)),
        (Container::Pickle, pickle::numpy(&tensors)),
        (Container::Pickle, pickle::joblib(&tensors, true)),
        (Container::Pickle, pickle::joblib(&tensors, false)),
        (Container::Gguf, gguf::file(&tensors)),
    ];
    for (container, file) in files {
        // No name is needed: each of these begins with its magic number.
        let layout = probe(&file, "").unwrap();
        assert_eq!(layout.container(), container, "{:?}", layout.note());
        assert_holds(&layout, &file, &tensors);
    }
}

#[test]
fn containers_inside_an_archive_are_read_where_they_are_stored() {
    let tensors = tensors();
    let inner = safetensors::file(&tensors);
    let mut deflated = zip::Entry::new("other.safetensors", inner.clone());
    deflated.method = 8;
    let entries = [
        zip::Entry::new("readme.txt", b"hello".to_vec()),
        zip::Entry::new("weights/model.safetensors", inner.clone()),
        deflated,
        zip::Entry::new("empty", Vec::new()),
        // An archive in the archive is not opened.
        zip::Entry::new("nested.npz", npy::npz(&tensors)),
    ];
    for form in [zip::Form::Plain, zip::Form::Wide, zip::Form::Aligned] {
        let file = zip::archive(&entries, form);
        let layout = probe(&file, "bundle.zip").unwrap();
        assert_eq!(layout.container(), Container::Zip);
        let named = tensors.iter().map(|tensor| SampleTensor {
            name: format!("weights/model.safetensors/{}", tensor.name),
            ..tensor.clone()
        });
        assert_holds(&layout, &file, &named.collect::<Vec<_>>());
        assert!(layout.note().unwrap().contains("1 members are compressed"));
    }
}

/// Keras v3: a zip that holds its weights as one HDF5 file, stored as it is.
#[test]
fn keras_archives_have_the_datasets_of_the_file_inside() {
    let paths = ["/layers/dense/vars/0", "/layers/dense/vars/1"];
    let rows = paths.map(|path| SampleTensor::new(path, Dtype::F32, &[3, 2]));
    let weights = hdf5::file(&rows, hdf5::Form::Old, hdf5::Storage::Contiguous);
    let entries = [
        zip::Entry::new("metadata.json", b"{}".to_vec()),
        zip::Entry::new("config.json", b"{}".to_vec()),
        zip::Entry::new("model.weights.h5", weights),
    ];
    let file = zip::archive(&entries, zip::Form::Plain);
    let layout = probe(&file, "model.keras").unwrap();
    let named = rows.map(|row| SampleTensor {
        name: format!("model.weights.h5/{}", row.name),
        ..row
    });
    assert_holds(&layout, &file, &named);
}

/// The bytes of a tensor are found whole, at any place, in every container: the promise that one
/// tensor is stored once rests on it.
#[test]
fn one_tensor_has_the_same_bytes_in_every_container() {
    let tensor = SampleTensor::new("w", Dtype::F32, &[64, 64]);
    let one = std::slice::from_ref(&tensor);
    let files = [
        ("a.safetensors", safetensors::file(one)),
        ("a.pt", torch::zip(one)),
        ("old.pth", torch::legacy(one)),
        ("a.npz", npy::npz(one)),
        ("a.npy", npy::npy(&tensor)),
        ("a.pkl", pickle::numpy(one)),
        ("five.pkl", pickle::numpy_protocol_5(one)),
        ("a.joblib", pickle::joblib(one, true)),
        ("a.gguf", gguf::file(one)),
        ("a.onnx", onnx::embedded(one)),
    ];
    for (name, file) in files {
        let layout = probe(&file, name).unwrap();
        let (part, info) = layout.tensors().next().expect(name);
        let bytes = &file[part.offset as usize..(part.offset + part.len) as usize];
        assert_eq!(
            (info.dtype, info.shape.as_slice()),
            (Dtype::F32, &[64, 64][..]),
            "{name}"
        );
        assert!(bytes == tensor.data, "{name}");
    }
}

/// What a file is called decides nothing that its first bytes decide.
#[test]
fn the_first_bytes_win_over_the_name() {
    let tensors = tensors();
    for name in [
        "model.onnx",
        "a.pkl",
        "a.safetensors",
        "a.bin",
        "x.index",
        "a.h5",
        "a.tflite",
    ] {
        let file = torch::zip(&tensors);
        assert_eq!(
            probe(&file, name).unwrap().container(),
            Container::TorchZip,
            "{name}"
        );
        let file = gguf::file(&tensors);
        assert_eq!(
            probe(&file, name).unwrap().container(),
            Container::Gguf,
            "{name}"
        );
    }
}

#[test]
fn a_file_that_lies_about_itself_is_unknown_bytes_with_a_note() {
    let mut file = safetensors::file(&tensors());
    file.push(0);
    let layout = probe(&file, "model.safetensors").unwrap();
    assert_eq!(layout.container(), Container::Unknown);
    assert_eq!(layout.tensors().count(), 0);
    assert_eq!(layout.len(), file.len() as u64);
    assert!(
        layout.note().unwrap().contains("safetensors"),
        "{:?}",
        layout.note()
    );
}
