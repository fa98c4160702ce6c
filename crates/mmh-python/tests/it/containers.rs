//! Small files of many containers, written for Python's tests to read.

use std::fs;
use std::path::Path;

use mmh_core::Dtype;
use mmh_formats::samples::{
    SampleTensor, arrow, gguf, msgpack, npy, onnx, pickle, safetensors, tflite, torch,
};
use serde_json::{Value, json};

/// Tensors of element types that every container here has.
fn tensors() -> Vec<SampleTensor> {
    vec![
        SampleTensor::new("layer.weight", Dtype::F32, &[40, 25]),
        SampleTensor::new("layer.bias", Dtype::F32, &[40]),
        SampleTensor::new("ids", Dtype::I32, &[3, 7]),
    ]
}

/// The files by their names.
fn files(tensors: &[SampleTensor]) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("model.safetensors", safetensors::file(tensors)),
        ("model.gguf", gguf::file(tensors)),
        ("arrays.npz", npy::npz(tensors)),
        ("array.npy", npy::npy(&tensors[0])),
        ("pytorch_model.bin", torch::zip(tensors)),
        ("legacy.pt", torch::legacy(tensors)),
        ("arrays.pkl", pickle::numpy(tensors)),
        ("aligned.joblib", pickle::joblib(tensors, true)),
        ("model.onnx", onnx::embedded(tensors)),
        ("flax_model.msgpack", msgpack::flax(tensors)),
        (
            "model.tflite",
            tflite::model(tensors, tflite::Place::Within),
        ),
        ("batch.arrow", arrow::file(tensors, arrow::Kind::Plain)),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes the files, and beside them what is in them.
pub(crate) fn write(folder: &Path) {
    let tensors = tensors();
    let mut expected = serde_json::Map::new();
    for (name, content) in files(&tensors) {
        fs::write(folder.join(name), content).unwrap();
        let inside = if name == "array.npy" {
            &tensors[..1]
        } else {
            &tensors[..]
        };
        let row = |t: &SampleTensor| {
            json!({
                "name": t.name, "dtype": t.dtype.as_str(), "shape": t.shape, "data": hex(&t.data),
            })
        };
        let rows: Vec<Value> = inside.iter().map(row).collect();
        expected.insert(name.to_owned(), rows.into());
    }
    let text = Value::Object(expected).to_string();
    fs::write(folder.join("expected.json"), text).unwrap();
}
