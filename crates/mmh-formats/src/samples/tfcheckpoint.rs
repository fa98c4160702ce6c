//! TensorFlow checkpoints of one shard.

use mmh_core::Dtype;

use super::SampleTensor;
use super::onnx::{bytes_field, varint, varint_field};

/// Entries between restart points, and in one block.
const RESTART_INTERVAL: usize = 16;
const BLOCK_ENTRIES: usize = 48;

/// The index and the shard `…data-00000-of-00001` of a checkpoint of `tensors`, which must be
/// sorted by name.
///
/// # Panics
/// If an element type has no number in TensorFlow.
#[must_use]
pub fn checkpoint(tensors: &[SampleTensor]) -> (Vec<u8>, Vec<u8>) {
    let (entries, data) = entries(tensors);
    let mut table = Vec::new();
    let mut handles = Vec::new();
    for chunk in entries.chunks(BLOCK_ENTRIES) {
        let last_key = chunk.last().map(|(key, _)| key.clone()).unwrap_or_default();
        handles.push((last_key, append_block(&mut table, chunk)));
    }
    let meta_index = append_block(&mut table, &[]);
    let index = append_block(&mut table, &handles);
    let mut footer = [meta_index, index].concat();
    footer.resize(40, 0);
    footer.extend(0xdb47_7524_8b80_fb57_u64.to_le_bytes());
    table.extend(footer);
    (table, data)
}

/// Where the first block of [`checkpoint`]'s index ends and its type byte stands.
#[must_use]
pub fn first_block_len(tensors: &[SampleTensor]) -> usize {
    let (entries, _) = entries(tensors);
    let mut table = Vec::new();
    append_block(
        &mut table,
        entries.chunks(BLOCK_ENTRIES).next().unwrap_or_default(),
    );
    table.len() - 5
}

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

fn entries(tensors: &[SampleTensor]) -> (Entries, Vec<u8>) {
    let mut header = Vec::new();
    varint_field(&mut header, 1, 1);
    bytes_field(&mut header, 3, &[0x08, 0x01]);
    let mut entries = vec![(Vec::new(), header)];
    let mut data = Vec::new();
    for tensor in tensors {
        let mut shape = Vec::new();
        for &size in &tensor.shape {
            let mut dim = Vec::new();
            if size != 0 {
                varint_field(&mut dim, 1, size);
            }
            bytes_field(&mut shape, 2, &dim);
        }
        let mut entry = Vec::new();
        varint_field(
            &mut entry,
            1,
            number(tensor.dtype).expect("a type of TensorFlow"),
        );
        bytes_field(&mut entry, 2, &shape);
        varint_field(&mut entry, 4, data.len() as u64);
        varint_field(&mut entry, 5, tensor.data.len() as u64);
        entry.extend([0x35, 1, 2, 3, 4]);
        data.extend_from_slice(&tensor.data);
        entries.push((tensor.name.clone().into_bytes(), entry));
    }
    (entries, data)
}

/// Appends a block with its trailer and returns its handle.
fn append_block(table: &mut Vec<u8>, entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let start = table.len();
    let mut restarts = Vec::new();
    let mut last_key: &[u8] = &[];
    for (i, (key, value)) in entries.iter().enumerate() {
        let mut shared = key.iter().zip(last_key).take_while(|(a, b)| a == b).count();
        if i % RESTART_INTERVAL == 0 {
            restarts.push(table.len() - start);
            shared = 0;
        }
        let unshared = key.get(shared..).unwrap_or_default();
        for n in [shared, unshared.len(), value.len()] {
            varint(table, n as u64);
        }
        table.extend_from_slice(unshared);
        table.extend_from_slice(value);
        last_key = key;
    }
    if restarts.is_empty() {
        restarts.push(0);
    }
    for &n in restarts.iter().chain([&restarts.len()]) {
        table.extend(u32::try_from(n).expect("small").to_le_bytes());
    }
    let mut handle = Vec::new();
    varint(&mut handle, start as u64);
    varint(&mut handle, (table.len() - start) as u64);
    table.extend([0, 0xaa, 0xbb, 0xcc, 0xdd]);
    handle
}

fn number(dtype: Dtype) -> Option<u64> {
    let order = [
        (Dtype::F32, 1),
        (Dtype::F64, 2),
        (Dtype::I32, 3),
        (Dtype::I64, 9),
    ];
    let more = [
        (Dtype::BF16, 14),
        (Dtype::F16, 19),
        (Dtype::I8, 6),
        (Dtype::U8, 4),
    ];
    order
        .into_iter()
        .chain(more)
        .find(|(of, _)| *of == dtype)
        .map(|(_, number)| number)
}
