//! ONNX models with embedded or external tensors.

use mmh_core::Dtype;

use super::SampleTensor;

/// A model whose initializers hold `tensors` as raw data.
///
/// # Panics
/// If an element type has no ONNX number.
#[must_use]
pub fn embedded(tensors: &[SampleTensor]) -> Vec<u8> {
    let initializers = tensors.iter().map(|tensor| {
        let mut proto = header(tensor);
        bytes_field(&mut proto, 9, &tensor.data);
        proto
    });
    model(&initializers.collect::<Vec<_>>())
}

/// A model whose initializers point into a file at `location`, and that file.
///
/// # Panics
/// If an element type has no ONNX number.
#[must_use]
pub fn external(tensors: &[SampleTensor], location: &str) -> (Vec<u8>, Vec<u8>) {
    let mut data = Vec::new();
    let mut initializers = Vec::new();
    for tensor in tensors {
        data.resize(data.len().next_multiple_of(64), 0);
        let mut proto = header(tensor);
        let (offset, len) = (data.len().to_string(), tensor.data.len().to_string());
        for (key, value) in [
            ("location", location),
            ("offset", &offset),
            ("length", &len),
        ] {
            let mut entry = Vec::new();
            bytes_field(&mut entry, 1, key.as_bytes());
            bytes_field(&mut entry, 2, value.as_bytes());
            bytes_field(&mut proto, 13, &entry);
        }
        varint_field(&mut proto, 14, 1);
        initializers.push(proto);
        data.extend_from_slice(&tensor.data);
    }
    (model(&initializers), data)
}

/// `TensorProto` without its data.
pub(crate) fn header(tensor: &SampleTensor) -> Vec<u8> {
    let mut proto = Vec::new();
    for &dim in &tensor.shape {
        varint_field(&mut proto, 1, dim);
    }
    varint_field(
        &mut proto,
        2,
        data_type(tensor.dtype).expect("a type of ONNX"),
    );
    bytes_field(&mut proto, 8, tensor.name.as_bytes());
    proto
}

/// A model around serialised initializers.
pub(crate) fn model(initializers: &[Vec<u8>]) -> Vec<u8> {
    let mut graph = Vec::new();
    bytes_field(&mut graph, 2, b"graph");
    for initializer in initializers {
        bytes_field(&mut graph, 5, initializer);
    }
    around(&graph)
}

/// A model around a serialised graph.
pub(crate) fn around(graph: &[u8]) -> Vec<u8> {
    let mut model = Vec::new();
    varint_field(&mut model, 1, 8);
    bytes_field(&mut model, 2, b"sample");
    bytes_field(&mut model, 7, graph);
    model
}

fn data_type(dtype: Dtype) -> Option<u64> {
    let order = [
        (Dtype::F32, 1),
        (Dtype::U8, 2),
        (Dtype::I8, 3),
        (Dtype::U16, 4),
        (Dtype::I16, 5),
        (Dtype::I32, 6),
        (Dtype::I64, 7),
        (Dtype::Bool, 9),
        (Dtype::F16, 10),
        (Dtype::F64, 11),
        (Dtype::U32, 12),
        (Dtype::U64, 13),
        (Dtype::C64, 14),
        (Dtype::C128, 15),
        (Dtype::BF16, 16),
        (Dtype::F8_E4M3, 17),
        (Dtype::F8_E5M2, 19),
        (Dtype::U4, 21),
        (Dtype::I4, 22),
        (Dtype::F4, 23),
        (Dtype::F8_E8M0, 24),
    ];
    order
        .into_iter()
        .find(|(of, _)| *of == dtype)
        .map(|(_, number)| number)
}

/// Appends a varint.
pub(crate) fn varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            return out.push(low & 0x7f);
        }
        out.push(low | 0x80);
    }
}

/// Appends a field of wire type 0.
pub(crate) fn varint_field(out: &mut Vec<u8>, number: u64, value: u64) {
    varint(out, number << 3);
    varint(out, value);
}

/// Appends a field of wire type 2.
pub(crate) fn bytes_field(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
