//! MessagePack files as flax and as thinc write them.

use std::collections::BTreeMap;

use mmh_core::Dtype;

use super::SampleTensor;

/// A flax state: nested maps by the dots in the names, arrays as extension type 1.
///
/// # Panics
/// If flax has no such element type.
#[must_use]
pub fn flax(tensors: &[SampleTensor]) -> Vec<u8> {
    let rows = tensors
        .iter()
        .map(|tensor| (tensor.name.split('.').collect::<Vec<_>>(), tensor));
    let mut out = Vec::new();
    flax_map(&mut out, &rows.collect::<Vec<_>>());
    out
}

fn flax_map(out: &mut Vec<u8>, rows: &[(Vec<&str>, &SampleTensor)]) {
    let mut children: BTreeMap<&str, Vec<(Vec<&str>, &SampleTensor)>> = BTreeMap::new();
    for (path, tensor) in rows {
        let (first, rest) = path.split_first().expect("a path has a component");
        children
            .entry(first)
            .or_default()
            .push((rest.to_vec(), tensor));
    }
    out.push(0x80 | u8::try_from(children.len()).expect("small"));
    for (key, rows) in children {
        text(out, key);
        match rows.as_slice() {
            [(path, tensor)] if path.is_empty() => flax_array(out, tensor),
            rows => flax_map(out, rows),
        }
    }
}

fn flax_array(out: &mut Vec<u8>, tensor: &SampleTensor) {
    let mut payload = vec![0x93];
    shape(&mut payload, tensor);
    text(
        &mut payload,
        match tensor.dtype {
            Dtype::F32 => "float32",
            Dtype::BF16 => "bfloat16",
            Dtype::F16 => "float16",
            Dtype::F64 => "float64",
            Dtype::I64 => "int64",
            Dtype::I32 => "int32",
            Dtype::U8 => "uint8",
            other => panic!("no name for {other}"),
        },
    );
    bin(&mut payload, &tensor.data);
    out.push(0xc9);
    out.extend(u32::try_from(payload.len()).expect("small").to_be_bytes());
    out.push(1);
    out.extend(payload);
}

/// A thinc model with one node whose parameters are `tensors`, all F32, named `params.0.KEY`.
///
/// # Panics
/// If a name has another form.
#[must_use]
pub fn thinc(tensors: &[SampleTensor]) -> Vec<u8> {
    let mut out = vec![0x82];
    text(&mut out, "nodes");
    out.push(0x90);
    text(&mut out, "params");
    out.extend([0x91, 0xde, 0]);
    out.push(u8::try_from(tensors.len()).expect("small"));
    for tensor in tensors {
        text(
            &mut out,
            tensor
                .name
                .strip_prefix("params.0.")
                .expect("the only node"),
        );
        out.push(0x85);
        bin(&mut out, b"nd");
        out.push(0xc3);
        bin(&mut out, b"type");
        text(&mut out, "<f4");
        bin(&mut out, b"kind");
        bin(&mut out, b"");
        bin(&mut out, b"shape");
        shape(&mut out, tensor);
        bin(&mut out, b"data");
        bin(&mut out, &tensor.data);
    }
    out
}

fn shape(out: &mut Vec<u8>, tensor: &SampleTensor) {
    out.push(0x90 | u8::try_from(tensor.shape.len()).expect("small"));
    for &dim in &tensor.shape {
        out.push(0xcd);
        out.extend(u16::try_from(dim).expect("small").to_be_bytes());
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(0xa0 | u8::try_from(text.len()).expect("small"));
    out.extend_from_slice(text.as_bytes());
}

fn bin(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(0xc5);
    out.extend(u16::try_from(bytes.len()).expect("small").to_be_bytes());
    out.extend_from_slice(bytes);
}
