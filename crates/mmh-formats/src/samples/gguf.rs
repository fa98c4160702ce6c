//! GGUF files.

use mmh_core::Dtype;

use super::SampleTensor;

/// A file of version 3 with its own alignment and metadata of each kind.
///
/// # Panics
/// If GGUF has no such element type.
#[must_use]
pub fn file(tensors: &[SampleTensor]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend(4u64.to_le_bytes());
    // A string, the alignment, an array of strings, an array of arrays of bytes.
    text(&mut out, "general.architecture");
    out.extend(8u32.to_le_bytes());
    text(&mut out, "llama");
    text(&mut out, "general.alignment");
    out.extend(4u32.to_le_bytes());
    out.extend(ALIGNMENT.to_le_bytes());
    text(&mut out, "tokenizer.ggml.tokens");
    array(&mut out, 8, 2);
    text(&mut out, "<s>");
    text(&mut out, "a");
    text(&mut out, "nested");
    array(&mut out, 9, 2);
    for bytes in [[1, 2], [3, 4]] {
        out.extend(0u32.to_le_bytes());
        out.extend(2u64.to_le_bytes());
        out.extend(bytes);
    }
    let mut offset = 0;
    for tensor in tensors {
        text(&mut out, &tensor.name);
        out.extend(
            u32::try_from(tensor.shape.len())
                .expect("small")
                .to_le_bytes(),
        );
        out.extend(tensor.shape.iter().rev().flat_map(|dim| dim.to_le_bytes()));
        out.extend(type_number(tensor.dtype).to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        offset += tensor.data.len().next_multiple_of(ALIGNMENT as usize);
    }
    for tensor in tensors {
        out.resize(out.len().next_multiple_of(ALIGNMENT as usize), 0);
        out.extend(&tensor.data);
    }
    out
}

fn array(out: &mut Vec<u8>, element_type: u32, len: u64) {
    out.extend(9u32.to_le_bytes());
    out.extend(element_type.to_le_bytes());
    out.extend(len.to_le_bytes());
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn type_number(dtype: Dtype) -> u32 {
    match dtype {
        Dtype::F32 => 0,
        Dtype::F16 => 1,
        Dtype::Q4_0 => 2,
        Dtype::Q8_0 => 8,
        Dtype::Q4_K => 12,
        Dtype::Q6_K => 14,
        Dtype::I8 => 24,
        Dtype::I64 => 27,
        Dtype::F64 => 28,
        Dtype::BF16 => 30,
        other => panic!("no type number for {other}"),
    }
}

/// Not the default of 32, so that a parser must read it.
const ALIGNMENT: u32 = 64;
