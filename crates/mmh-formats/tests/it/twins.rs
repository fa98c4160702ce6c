//! The same tensor has the same bytes, type and shape whichever container holds it.

use mmh_core::Dtype;
use mmh_formats::samples::{
    SampleTensor, assert_holds, gguf, npy, pickle, safetensors, torch, zip,
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
