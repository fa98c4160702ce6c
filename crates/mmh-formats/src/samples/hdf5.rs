//! HDF5 files in the oldest and in the newer form, objects before those that point to them.

use std::collections::BTreeMap;

use mmh_core::Dtype;

use super::SampleTensor;

/// Which structures are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Superblock 0, object headers 1, symbol tables: what h5py writes.
    Old,
    /// Superblock 3, object headers 2, link messages.
    New,
}

/// How the elements of every dataset are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// In one run.
    Contiguous,
    /// Inside the object header.
    Compact,
    /// In chunks of one row each.
    Chunked,
    /// The same, behind a filter.
    Filtered,
}

/// A file whose datasets are `tensors`, with names such as `/group/name`.
///
/// # Panics
/// If the element type is not one of the few that samples need.
#[must_use]
pub fn file(tensors: &[SampleTensor], form: Form, storage: Storage) -> Vec<u8> {
    let superblock_len = if form == Form::Old { 96 } else { 48 };
    let mut writer = Writer {
        out: vec![0; superblock_len],
        form,
        storage,
    };
    let rows = tensors.iter().map(|tensor| {
        let path = tensor.name.strip_prefix('/').expect("names are paths");
        (path.split('/').collect::<Vec<_>>(), tensor)
    });
    let root = writer.group(&rows.collect::<Vec<_>>());
    let head = writer.superblock(root);
    writer.out.splice(..head.len(), head);
    writer.out
}

struct Writer {
    out: Vec<u8>,
    form: Form,
    storage: Storage,
}

const UNDEFINED: u64 = u64::MAX;

impl Writer {
    fn superblock(&self, root: u64) -> Vec<u8> {
        let mut head = b"\x89HDF\r\n\x1a\n".to_vec();
        let end = self.out.len() as u64;
        if self.form == Form::Old {
            head.extend([0, 0, 0, 0, 0, 8, 8, 0, 4, 0, 16, 0, 0, 0, 0, 0]);
            put(&mut head, &[0, UNDEFINED, end, UNDEFINED, 0, root, 0, 0, 0]);
        } else {
            head.extend([3, 8, 8, 0]);
            put(&mut head, &[0, UNDEFINED, end, root]);
            head.extend([0; 4]);
        }
        head
    }

    /// Appends a structure at a multiple of 8 and returns its address.
    fn append(&mut self, bytes: &[u8]) -> u64 {
        self.out.resize(self.out.len().next_multiple_of(8), 0);
        let at = self.out.len() as u64;
        self.out.extend_from_slice(bytes);
        at
    }

    fn group(&mut self, rows: &[(Vec<&str>, &SampleTensor)]) -> u64 {
        let mut children: BTreeMap<&str, Vec<(Vec<&str>, &SampleTensor)>> = BTreeMap::new();
        for (path, tensor) in rows {
            let (first, rest) = path.split_first().expect("a path has a component");
            children
                .entry(first)
                .or_default()
                .push((rest.to_vec(), tensor));
        }
        let mut links = Vec::new();
        for (name, rows) in children {
            let address = match rows.as_slice() {
                [(path, tensor)] if path.is_empty() => self.dataset(tensor),
                rows => self.group(rows),
            };
            links.push((name, address));
        }
        match self.form {
            Form::Old => self.symbol_table(&links),
            Form::New => {
                let messages = links.iter().map(|(name, at)| (0x06, link(name, *at)));
                self.header(&messages.collect::<Vec<_>>())
            }
        }
    }

    /// A group as a B-tree of one symbol node, and a heap.
    fn symbol_table(&mut self, links: &[(&str, u64)]) -> u64 {
        let mut names = vec![0; 8];
        let mut node = b"SNOD\x01\0".to_vec();
        node.extend(u16::try_from(links.len()).expect("small").to_le_bytes());
        for (name, address) in links {
            put(&mut node, &[names.len() as u64, *address, 0, 0, 0]);
            names.extend(name.as_bytes());
            names.push(0);
        }
        let node = self.append(&node);
        let data = self.append(&names);
        let mut heap = b"HEAP\0\0\0\0".to_vec();
        put(&mut heap, &[names.len() as u64, 1, data]);
        let heap = self.append(&heap);
        let mut tree = b"TREE\0\0\x01\0".to_vec();
        put(&mut tree, &[UNDEFINED, UNDEFINED, 0, node, 8]);
        let tree = self.append(&tree);
        let mut message = Vec::new();
        put(&mut message, &[tree, heap]);
        self.header(&[(0x11, message)])
    }

    fn dataset(&mut self, tensor: &SampleTensor) -> u64 {
        let rank = u8::try_from(tensor.shape.len()).expect("small");
        let mut space = match self.form {
            Form::Old => vec![1, rank, 0, 0, 0, 0, 0, 0],
            Form::New => vec![2, rank, 0, 1],
        };
        put(&mut space, &tensor.shape);
        let mut messages = vec![(0x01, space), (0x03, datatype(tensor.dtype))];
        if self.storage == Storage::Filtered {
            messages.push((0x0b, vec![1, 1, 0, 0, 0, 0, 0, 0]));
        }
        messages.push((0x08, self.layout(tensor, rank)));
        self.header(&messages)
    }

    fn layout(&mut self, tensor: &SampleTensor, rank: u8) -> Vec<u8> {
        let len = tensor.data.len();
        let mut message = vec![3];
        match self.storage {
            Storage::Contiguous => {
                message.push(1);
                let at = if len == 0 {
                    UNDEFINED
                } else {
                    self.append(&tensor.data)
                };
                put(&mut message, &[at, len as u64]);
            }
            Storage::Compact => {
                message.push(0);
                message.extend(u16::try_from(len).expect("small").to_le_bytes());
                message.extend_from_slice(&tensor.data);
            }
            Storage::Chunked | Storage::Filtered => {
                message.extend([2, rank + 1]);
                let tree = self.chunk_tree(tensor);
                put(&mut message, &[tree]);
                let inner = tensor.shape.get(1..).unwrap_or_default();
                for &dim in [1]
                    .iter()
                    .chain(inner)
                    .chain(&[u64::from(tensor.dtype.block().1)])
                {
                    message.extend(u32::try_from(dim).expect("small").to_le_bytes());
                }
            }
        }
        message
    }

    /// A leaf with one chunk for each row.
    fn chunk_tree(&mut self, tensor: &SampleTensor) -> u64 {
        let n = tensor.shape.first().copied().unwrap_or(1);
        let row_len = tensor.data.len() / usize::try_from(n.max(1)).expect("small");
        let mut tree = b"TREE\x01\0".to_vec();
        tree.extend(u16::try_from(n).expect("small").to_le_bytes());
        put(&mut tree, &[UNDEFINED, UNDEFINED]);
        for (row, i) in tensor.data.chunks(row_len.max(1)).zip(0u64..) {
            let at = self.append(row);
            tree.extend(u32::try_from(row_len).expect("small").to_le_bytes());
            tree.extend([0; 4]);
            put(&mut tree, &[i]);
            put(&mut tree, &vec![0; tensor.shape.len()]);
            put(&mut tree, &[at]);
        }
        self.append(&tree)
    }

    /// An object header whose last message lies in a continuation block.
    fn header(&mut self, messages: &[(u8, Vec<u8>)]) -> u64 {
        let encoded: Vec<_> = messages
            .iter()
            .map(|(kind, body)| self.message(*kind, body))
            .collect();
        let (last, rest) = encoded
            .split_last()
            .map_or((&[][..], &[][..]), |(l, r)| (&**l, r));
        let continued = match self.form {
            Form::Old => last.to_vec(),
            Form::New => [b"OCHK", last, &[0; 4]].concat(),
        };
        let at = self.append(&continued);
        let mut pointer = Vec::new();
        put(&mut pointer, &[at, continued.len() as u64]);
        let block = [rest.concat(), self.message(0x10, &pointer)].concat();
        let len = u32::try_from(block.len()).expect("small").to_le_bytes();
        let n = u16::try_from(messages.len() + 1)
            .expect("small")
            .to_le_bytes();
        let header = match self.form {
            Form::Old => [&[1, 0], &n[..], &[1, 0, 0, 0], &len, &[0; 4], &block].concat(),
            Form::New => [b"OHDR\x02\x02", &len[..], &block, &[0; 4]].concat(),
        };
        self.append(&header)
    }

    fn message(&self, kind: u8, body: &[u8]) -> Vec<u8> {
        let mut body = body.to_vec();
        let mut message = vec![kind];
        if self.form == Form::Old {
            body.resize(body.len().next_multiple_of(8), 0);
            message.push(0);
        }
        message.extend(u16::try_from(body.len()).expect("small").to_le_bytes());
        message.push(0);
        if self.form == Form::Old {
            message.extend([0; 3]);
        }
        message.extend(body);
        message
    }
}

fn link(name: &str, address: u64) -> Vec<u8> {
    let mut message = vec![1, 0, u8::try_from(name.len()).expect("small")];
    message.extend_from_slice(name.as_bytes());
    put(&mut message, &[address]);
    message
}

fn datatype(dtype: Dtype) -> Vec<u8> {
    let (class, bits, size, exponent) = match dtype {
        Dtype::F32 => (0x11, 0x20, 4, [23, 8, 0, 23]),
        Dtype::F16 => (0x11, 0x20, 2, [10, 5, 0, 10]),
        Dtype::BF16 => (0x11, 0x20, 2, [7, 8, 0, 7]),
        Dtype::I64 => (0x10, 0x08, 8, [0; 4]),
        Dtype::U8 => (0x10, 0x00, 1, [0; 4]),
        other => panic!("no datatype for {other}"),
    };
    let precision = size * 8;
    let mut message = vec![class, bits, 0, 0, size, 0, 0, 0, 0, 0, precision, 0];
    message.extend(exponent);
    message.extend([0; 4]);
    message
}

fn put(out: &mut Vec<u8>, values: &[u64]) {
    values
        .iter()
        .for_each(|value| out.extend(value.to_le_bytes()));
}
