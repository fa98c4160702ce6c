//! Arrow IPC files and streams with one record batch.

use mmh_core::Dtype;

use super::SampleTensor;
use super::flatbuffer::{Builder, Field, Object};

/// What is unusual about the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Plain,
    /// The batch says that its buffers are compressed.
    Compressed,
    /// The last column is said to be a union.
    WithUnion,
}

/// A stream of a schema and one batch, whose columns are `tensors`, named up to the bracket.
///
/// # Panics
/// If the element type is not one of the few that samples need.
#[must_use]
pub fn stream(tensors: &[SampleTensor], kind: Kind) -> Vec<u8> {
    let mut out = Vec::new();
    append(&mut out, tensors, kind);
    out
}

/// The same between the magics of a file, with an empty footer.
///
/// # Panics
/// As [`stream`].
#[must_use]
pub fn file(tensors: &[SampleTensor], kind: Kind) -> Vec<u8> {
    let mut out = b"ARROW1\0\0".to_vec();
    append(&mut out, tensors, kind);
    out.extend(0u32.to_le_bytes());
    out.extend(b"ARROW1");
    out
}

fn append(out: &mut Vec<u8>, tensors: &[SampleTensor], kind: Kind) {
    let mut builder = Builder::default();
    let mut fields = Vec::new();
    for (i, tensor) in tensors.iter().enumerate() {
        let name = tensor.name.split('[').next().unwrap_or_default();
        let name = builder.string(name);
        let (mut type_type, type_table) = type_table(&mut builder, tensor.dtype);
        if kind == Kind::WithUnion && i + 1 == tensors.len() {
            type_type = 14;
        }
        let row = [
            Field::Offset(name),
            Field::U8(1),
            Field::U8(type_type),
            Field::Offset(type_table),
        ];
        fields.push(builder.table(&row));
    }
    let fields = builder.offsets(&fields);
    let schema = builder.table(&[Field::Absent, Field::Offset(fields)]);
    message(out, builder, 1, schema, &[]);

    let mut body = Vec::new();
    let mut buffers = Vec::new();
    for tensor in tensors {
        for data in [&[][..], &tensor.data] {
            body.resize(body.len().next_multiple_of(64), 0);
            buffers.extend((body.len() as u64).to_le_bytes());
            buffers.extend((data.len() as u64).to_le_bytes());
            body.extend_from_slice(data);
        }
    }
    body.resize(body.len().next_multiple_of(64), 0);
    let mut builder = Builder::default();
    let buffers = builder.vector(tensors.len() * 2, buffers);
    let mut row = vec![Field::U64(1), Field::Absent, Field::Offset(buffers)];
    if kind == Kind::Compressed {
        row.push(Field::Offset(builder.table(&[])));
    }
    let batch = builder.table(&row);
    message(out, builder, 3, batch, &body);
    out.extend([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
}

fn type_table(builder: &mut Builder, dtype: Dtype) -> (u8, Object) {
    match dtype {
        Dtype::F32 => (3, builder.table(&[Field::U32(1)])),
        Dtype::I64 => (2, builder.table(&[Field::U32(64), Field::U8(1)])),
        Dtype::U8 => (2, builder.table(&[Field::U32(8)])),
        other => panic!("no column of {other}"),
    }
}

fn message(out: &mut Vec<u8>, mut builder: Builder, kind: u8, header: Object, body: &[u8]) {
    let fields = [
        Field::U32(4),
        Field::U8(kind),
        Field::Offset(header),
        Field::U64(body.len() as u64),
    ];
    let root = builder.table(&fields);
    let mut flat = builder.finish(root, *b"    ");
    flat.resize(flat.len().next_multiple_of(8), 0);
    out.extend([0xff; 4]);
    out.extend(u32::try_from(flat.len()).expect("small").to_le_bytes());
    out.extend(flat);
    out.extend_from_slice(body);
}
