//! npy and npz files.

use mmh_core::Dtype;

use super::SampleTensor;
use super::zip::{Entry, Form, archive};

/// One array, as numpy writes it.
///
/// # Panics
/// If numpy has no such element type.
#[must_use]
pub fn npy(tensor: &SampleTensor) -> Vec<u8> {
    let shape: Vec<String> = tensor.shape.iter().map(u64::to_string).collect();
    let comma = if shape.len() == 1 { "," } else { "" };
    let descr = match descr(tensor.dtype) {
        code if tensor.dtype.block().1 == 1 => format!("|{code}"),
        code => format!("<{code}"),
    };
    let header = format!(
        "{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}{comma}), }}",
        shape.join(", ")
    );
    with_header(1, &header, &tensor.data)
}

/// An array with any header, in format version `major`.
///
/// # Panics
/// If the header is not small.
#[must_use]
pub fn with_header(major: u8, header: &str, data: &[u8]) -> Vec<u8> {
    let mut out = b"\x93NUMPY".to_vec();
    out.extend([major, 0]);
    let width = if major == 1 { 2 } else { 4 };
    // The elements begin at a multiple of 64, behind a line feed.
    let start = (out.len() + width + header.len() + 1).next_multiple_of(64);
    let len = start - out.len() - width;
    match major {
        1 => out.extend(u16::try_from(len).expect("small").to_le_bytes()),
        _ => out.extend(u32::try_from(len).expect("small").to_le_bytes()),
    }
    out.extend(header.as_bytes());
    out.resize(start - 1, b' ');
    out.push(b'\n');
    out.extend(data);
    out
}

/// An archive of arrays that are stored as they are.
///
/// # Panics
/// As [`npy`].
#[must_use]
pub fn npz(tensors: &[SampleTensor]) -> Vec<u8> {
    let entries = tensors
        .iter()
        .map(|t| Entry::new(&format!("{}.npy", t.name), npy(t)));
    archive(&entries.collect::<Vec<_>>(), Form::Plain)
}

/// numpy's code of an element type, without the byte order.
///
/// # Panics
/// If numpy has none.
pub(super) fn descr(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Bool => "b1",
        Dtype::U8 => "u1",
        Dtype::I8 => "i1",
        Dtype::U16 => "u2",
        Dtype::I16 => "i2",
        Dtype::U32 => "u4",
        Dtype::I32 => "i4",
        Dtype::U64 => "u8",
        Dtype::I64 => "i8",
        Dtype::F16 => "f2",
        Dtype::F32 => "f4",
        Dtype::F64 => "f8",
        Dtype::C64 => "c8",
        Dtype::C128 => "c16",
        other => panic!("numpy has no {other}"),
    }
}
