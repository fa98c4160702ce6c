//! TensorFlow Lite models: a flatbuffer whose tensors refer to buffers of raw elements.
//!
//! Specification: `schema.fbs` of TensorFlow Lite. A buffer is a vector of bytes within the
//! flatbuffer or, in files beyond 2 GiB, an offset and a length in the file.

use mmh_core::{Dtype, TensorInfo, limits};

use crate::container::Container;
use crate::error::Result;
use crate::flatbuffer::{Flat, Table, Vector};
use crate::layout::{Layout, LayoutBuilder};
use crate::read_at::ReadAt;
use crate::reader::Reader;

const IDENTIFIER: &[u8] = b"TFL3";

// Positions of fields in the schema.
const MODEL_SUBGRAPHS: u16 = 2;
const MODEL_BUFFERS: u16 = 4;
const SUBGRAPH_TENSORS: u16 = 0;
const TENSOR_SHAPE: u16 = 0;
const TENSOR_TYPE: u16 = 1;
const TENSOR_BUFFER: u16 = 2;
const TENSOR_NAME: u16 = 3;
const BUFFER_DATA: u16 = 0;
const BUFFER_OFFSET: u16 = 1;
const BUFFER_SIZE: u16 = 2;

/// Whether a file that begins with `head` is such a model.
#[must_use]
pub fn matches(head: &[u8], _name: &str) -> bool {
    head.get(4..8) == Some(IDENTIFIER)
}

/// Locates the tensors of a model.
///
/// # Errors
/// [`crate::Error::Malformed`] if the file contradicts itself, [`crate::Error::TooLarge`] beyond
/// limits, [`crate::Error::Io`] if it cannot be read.
pub fn parse(source: &dyn ReadAt) -> Result<Layout> {
    let mut reader = Reader::new(source, Container::Tflite);
    let reader = &mut reader;
    if reader.array::<4>(4)? != *IDENTIFIER {
        return Err(reader.malformed("no identifier TFL3"));
    }
    let mut builder = LayoutBuilder::new(Container::Tflite, source.len());
    let mut flat = Flat::new(0..source.len());
    let model = flat.root(reader)?;
    let buffers = flat.vector(reader, model, MODEL_BUFFERS, 4)?;
    let subgraphs = flat.vector(reader, model, MODEL_SUBGRAPHS, 4)?;
    let (Some(buffers), Some(subgraphs)) = (buffers, subgraphs) else {
        return Err(reader.malformed("a model without buffers or subgraphs"));
    };
    for i in 0..subgraphs.n {
        let subgraph = flat.element(reader, subgraphs, i)?;
        let tensors = flat.vector(reader, subgraph, SUBGRAPH_TENSORS, 4)?;
        let Some(tensors) = tensors else { continue };
        for i in 0..tensors.n {
            let tensor = flat.element(reader, tensors, i)?;
            place(reader, &mut flat, buffers, tensor, &mut builder)?;
        }
    }
    builder.finish()
}

fn place(
    reader: &mut Reader<'_>,
    flat: &mut Flat,
    buffers: Vector,
    tensor: Table,
    builder: &mut LayoutBuilder,
) -> Result<()> {
    let buffer = flat.uint(reader, tensor, TENSOR_BUFFER, 4)?;
    if buffer >= buffers.n {
        return Err(reader.malformed(format!("buffer {buffer} of {}", buffers.n)));
    }
    let Some((offset, len)) = data(reader, flat, buffers, buffer)? else {
        return Ok(());
    };
    let Some(dtype) = dtype(flat.uint(reader, tensor, TENSOR_TYPE, 1)?) else {
        return Ok(());
    };
    let name = flat.string(
        reader,
        tensor,
        TENSOR_NAME,
        limits::TENSOR_NAME_LEN_MAX as u64 / 4,
    )?;
    let shape = shape(reader, flat, tensor)?;
    let info = TensorInfo { name, dtype, shape };
    let whole = len.is_multiple_of(u64::from(dtype.block().1));
    match info.bytes() {
        Some(bytes) if bytes == len => builder.tensor(offset, len, info),
        // A sparse tensor keeps fewer elements than its shape has; 4-bit ones may end in half a
        // byte.
        _ if whole => builder.storage(offset, len, info.name, dtype),
        _ => Ok(()),
    }
}

/// Where the elements of a buffer lie in the file, or `None` if it has none.
fn data(
    reader: &mut Reader<'_>,
    flat: &mut Flat,
    buffers: Vector,
    i: u64,
) -> Result<Option<(u64, u64)>> {
    let buffer = flat.element(reader, buffers, i)?;
    if let Some(Vector { at, n }) = flat.vector(reader, buffer, BUFFER_DATA, 1)? {
        return Ok((n > 0).then_some((at, n)));
    }
    let offset = flat.uint(reader, buffer, BUFFER_OFFSET, 8)?;
    let size = flat.uint(reader, buffer, BUFFER_SIZE, 8)?;
    // Offsets 0 and 1 are the schema's marks for "not placed outside".
    if offset <= 1 || size == 0 {
        return Ok(None);
    }
    reader.end(offset, size)?;
    Ok(Some((offset, size)))
}

fn shape(reader: &mut Reader<'_>, flat: &Flat, tensor: Table) -> Result<Vec<u64>> {
    let Some(vector) = flat.vector(reader, tensor, TENSOR_SHAPE, 4)? else {
        return Ok(Vec::new());
    };
    if vector.n > limits::TENSOR_RANK_MAX as u64 {
        return Err(reader.too_large(format!("rank {}", vector.n)));
    }
    (0..vector.n)
        .map(|i| reader.u32(vector.at + i * 4).map(u64::from))
        .collect()
}

/// `TensorType`; `None` for strings, resources and variants.
fn dtype(number: u64) -> Option<Dtype> {
    Some(match number {
        0 => Dtype::F32,
        1 => Dtype::F16,
        2 => Dtype::I32,
        3 => Dtype::U8,
        4 => Dtype::I64,
        6 => Dtype::Bool,
        7 => Dtype::I16,
        8 => Dtype::C64,
        9 => Dtype::I8,
        10 => Dtype::F64,
        11 => Dtype::C128,
        12 => Dtype::U64,
        15 => Dtype::U32,
        16 => Dtype::U16,
        17 => Dtype::I4,
        18 => Dtype::BF16,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::hostile::attack;
    use crate::samples::SampleTensor;
    use crate::samples::tflite::{Place, model};

    fn tensors() -> Vec<SampleTensor> {
        vec![
            SampleTensor::new("conv/kernel", Dtype::F32, &[2, 3]),
            SampleTensor::new("conv/bias", Dtype::F16, &[3]),
            SampleTensor::new("codes", Dtype::I8, &[5]),
        ]
    }

    #[test]
    fn tensors_within_and_behind_the_flatbuffer_are_found() {
        for place in [Place::Within, Place::Behind] {
            let file = model(&tensors(), place);
            assert!(matches(&file, "m.tflite"));
            let layout = parse(&file).unwrap();
            assert_eq!(layout.container(), Container::Tflite);
            crate::samples::assert_holds(&layout, &file, &tensors());
        }
    }

    #[test]
    fn a_sparse_tensor_is_a_storage() {
        let mut tensor = SampleTensor::new("sparse", Dtype::F32, &[3]);
        tensor.shape = vec![10, 10];
        let file = model(&[tensor.clone()], Place::Within);
        tensor.shape = vec![3];
        crate::samples::assert_holds(&parse(&file).unwrap(), &file, &[tensor]);
    }

    #[test]
    fn data_behind_the_end_is_refused() {
        let file = model(&tensors(), Place::Behind);
        let cut = file[..file.len() - 1].to_vec();
        assert!(matches!(parse(&cut), Err(Error::Malformed { .. })));
        assert!(!matches(b"\0\0\0\0TFL2", ""));
    }

    #[test]
    fn withstands_bad_input() {
        attack(parse, &model(&tensors(), Place::Within), 3000);
        attack(parse, &model(&tensors(), Place::Behind), 3000);
    }
}
