//! Writers of small valid files, one module a container, for the tests of this and other crates.
//!
//! They share no code with the parsers, so that a mistake cannot cancel itself.

pub mod arrow;
pub mod ctranslate2;
pub mod flatbuffer;
pub mod gguf;
pub mod hdf5;
pub mod msgpack;
pub mod npy;
pub mod onnx;
pub mod pickle;
pub mod safetensors;
#[cfg(test)]
pub(crate) mod strategy;
pub mod tfcheckpoint;
pub mod tflite;
pub mod torch;
pub mod zip;

use mmh_core::{Dtype, TensorInfo};

/// A tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleTensor {
    /// Its name in the file.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its dimensions, outermost first.
    pub shape: Vec<u64>,
    /// Its raw little-endian elements.
    pub data: Vec<u8>,
}

impl SampleTensor {
    /// A tensor whose bytes are drawn from a fixed sequence that depends on the name only, so
    /// that the same name gives the same bytes in every container.
    ///
    /// # Panics
    /// If the shape does not fill whole blocks of the element type.
    #[must_use]
    pub fn new(name: &str, dtype: Dtype, shape: &[u64]) -> Self {
        let info = TensorInfo {
            name: name.to_owned(),
            dtype,
            shape: shape.to_vec(),
        };
        let len = info.bytes().expect("a sample has whole blocks");
        let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let data = (0..len).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        });
        Self {
            data: data.collect(),
            name: info.name,
            dtype,
            shape: info.shape,
        }
    }

    /// What a parser should say of it.
    #[must_use]
    pub fn info(&self) -> TensorInfo {
        TensorInfo {
            name: self.name.clone(),
            dtype: self.dtype,
            shape: self.shape.clone(),
        }
    }
}

/// Checks that `layout` of `file` holds exactly `tensors`, with name, type, shape
/// and bytes.
///
/// # Panics
/// If it does not.
pub fn assert_holds(layout: &crate::Layout, file: &[u8], tensors: &[SampleTensor]) {
    crate::hostile::check_layout(layout, file.len() as u64);
    let mut found: Vec<SampleTensor> = layout
        .tensors()
        .map(|(part, info)| {
            let range = usize::try_from(part.offset).expect("small")
                ..usize::try_from(part.offset + part.len).expect("small");
            SampleTensor {
                name: info.name.clone(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                data: file.get(range).expect("parts lie in the file").to_vec(),
            }
        })
        .collect();
    let mut expected = tensors.to_vec();
    expected.retain(|tensor| !tensor.data.is_empty());
    found.sort_by(|a, b| a.name.cmp(&b.name));
    expected.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(found, expected);
}
