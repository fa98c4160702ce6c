//! TensorFlow Lite models.

use mmh_core::Dtype;

use super::SampleTensor;
use super::flatbuffer::{Builder, Field};

/// Where the elements go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Into vectors of the flatbuffer.
    Within,
    /// Behind the flatbuffer, as in files beyond 2 GiB.
    Behind,
}

/// A model with one subgraph of `tensors`.
///
/// # Panics
/// If the element type is not one of the few that samples need.
#[must_use]
pub fn model(tensors: &[SampleTensor], place: Place) -> Vec<u8> {
    // The length of the flatbuffer does not depend on the offsets in it: build twice.
    let base = build(tensors, place, 0).len();
    let mut file = build(tensors, place, base);
    if place == Place::Behind {
        tensors
            .iter()
            .for_each(|tensor| file.extend_from_slice(&tensor.data));
    }
    file
}

fn build(tensors: &[SampleTensor], place: Place, base: usize) -> Vec<u8> {
    let mut builder = Builder::default();
    let mut buffers = vec![builder.table(&[])];
    let mut rows = Vec::new();
    let mut at = base.max(2) as u64;
    for (i, tensor) in tensors.iter().enumerate() {
        buffers.push(match place {
            Place::Within => {
                let data = builder.bytes(&tensor.data);
                builder.table(&[Field::Offset(data)])
            }
            Place::Behind => {
                let len = tensor.data.len() as u64;
                at += len;
                builder.table(&[Field::Absent, Field::U64(at - len), Field::U64(len)])
            }
        });
        let name = builder.string(&tensor.name);
        let dims = tensor
            .shape
            .iter()
            .map(|&dim| u32::try_from(dim).expect("small"));
        let dims = dims.flat_map(u32::to_le_bytes).collect();
        let shape = builder.vector(tensor.shape.len(), dims);
        let dtype = match tensor.dtype {
            Dtype::F32 => 0,
            Dtype::F16 => 1,
            Dtype::I32 => 2,
            Dtype::U8 => 3,
            Dtype::I8 => 9,
            other => panic!("no number for {other}"),
        };
        let buffer = Field::U32(u32::try_from(i + 1).expect("small"));
        let fields = [
            Field::Offset(shape),
            Field::U8(dtype),
            buffer,
            Field::Offset(name),
        ];
        rows.push(builder.table(&fields));
    }
    let rows = builder.offsets(&rows);
    let subgraph = builder.table(&[Field::Offset(rows)]);
    let subgraphs = builder.offsets(&[subgraph]);
    let buffers = builder.offsets(&buffers);
    let (version, none) = (Field::U32(3), Field::Absent);
    let fields = [
        version,
        none,
        Field::Offset(subgraphs),
        none,
        Field::Offset(buffers),
    ];
    let root = builder.table(&fields);
    builder.finish(root, *b"TFL3")
}
