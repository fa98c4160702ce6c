//! PyTorch files: a state dict in each of the two forms.

use mmh_core::Dtype;

use super::SampleTensor;
use super::pickle::Writer;
use super::zip::{Entry, Form, archive};

/// What `torch.save` has written since 1.6.
///
/// # Panics
/// If torch has no such storage.
#[must_use]
pub fn zip(tensors: &[SampleTensor]) -> Vec<u8> {
    let mut entries = vec![
        Entry::new("archive/data.pkl", state_dict(tensors, b"")),
        Entry::new("archive/byteorder", b"little".to_vec()),
    ];
    for (key, tensor) in tensors.iter().enumerate() {
        entries.push(Entry::new(
            &format!("archive/data/{key}"),
            tensor.data.clone(),
        ));
    }
    entries.push(Entry::new("archive/version", b"3\n".to_vec()));
    archive(&entries, Form::Aligned)
}

/// What `torch.save` wrote before.
///
/// # Panics
/// As [`zip`].
#[must_use]
pub fn legacy(tensors: &[SampleTensor]) -> Vec<u8> {
    let mut out = legacy_head(true);
    out.extend(state_dict(tensors, b"N"));
    let mut keys = Writer::new(2);
    keys.raw(b"](");
    for key in 0..tensors.len() {
        keys.text(&key.to_string());
    }
    keys.raw(b"e.");
    out.extend(keys.into_bytes());
    for tensor in tensors {
        let width = tensor.dtype.block().1 as usize;
        out.extend(((tensor.data.len() / width) as u64).to_le_bytes());
        out.extend(&tensor.data);
    }
    out
}

/// The three pickles before the object: magic number, protocol version, system.
#[must_use]
pub fn legacy_head(little_endian: bool) -> Vec<u8> {
    let mut out =
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.".to_vec();
    let mut system = Writer::new(2);
    system
        .raw(b"}(")
        .text("protocol_version")
        .int(1001)
        .text("little_endian");
    system.raw(if little_endian { b"\x88u." } else { b"\x89u." });
    out.extend(system.into_bytes());
    out
}

/// An ordered dict of tensors; each has the storage whose key is its ordinal. The persistent ids
/// end with the value that the opcodes in `view` push.
///
/// # Panics
/// As [`zip`].
fn state_dict(tensors: &[SampleTensor], view: &[u8]) -> Vec<u8> {
    let mut w = Writer::new(2);
    w.global("collections", "OrderedDict").raw(b")R(");
    for (key, tensor) in tensors.iter().enumerate() {
        w.text(&tensor.name);
        self::tensor(&mut w, key, tensor, view);
    }
    w.raw(b"u.");
    w.into_bytes()
}

/// The call that rebuilds `tensor` from the whole of storage `key`.
fn tensor(w: &mut Writer, key: usize, tensor: &SampleTensor, view: &[u8]) {
    let n_elements = tensor.data.len() as u64 / u64::from(tensor.dtype.block().1);
    w.global("torch._utils", "_rebuild_tensor_v2").raw(b"((");
    w.text("storage").global("torch", class(tensor.dtype));
    w.text(&key.to_string()).text("cpu").int(n_elements);
    w.raw(view).raw(b"tQ").int(0).dims(&tensor.shape);
    let inner = |i| tensor.shape.iter().skip(i).product();
    let stride: Vec<u64> = (1..=tensor.shape.len()).map(inner).collect();
    w.dims(&stride)
        .raw(b"\x89")
        .global("collections", "OrderedDict")
        .raw(b")RtR");
}

fn class(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F64 => "DoubleStorage",
        Dtype::F32 => "FloatStorage",
        Dtype::F16 => "HalfStorage",
        Dtype::BF16 => "BFloat16Storage",
        Dtype::I64 => "LongStorage",
        Dtype::I32 => "IntStorage",
        Dtype::I16 => "ShortStorage",
        Dtype::I8 => "CharStorage",
        Dtype::U8 => "ByteStorage",
        Dtype::Bool => "BoolStorage",
        Dtype::C64 => "ComplexFloatStorage",
        other => panic!("torch has no storage of {other}"),
    }
}
