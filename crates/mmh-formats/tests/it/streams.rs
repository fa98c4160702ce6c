//! Files far larger than memory: headers are read, elements are not.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use mmh_core::Dtype;
use mmh_formats::samples::npy::with_header;
use mmh_formats::samples::pickle::Writer;
use mmh_formats::samples::torch::legacy_head;
use mmh_formats::samples::zip::{Entry, Form, around};
use mmh_formats::samples::{SampleTensor, gguf};
use mmh_formats::{Container, ReadAt, probe};

/// A file with a run of zeros that takes no memory, and a count of the bytes read from it.
struct Hollow {
    head: Vec<u8>,
    zeros: u64,
    tail: Vec<u8>,
    read: AtomicU64,
}

impl Hollow {
    fn new(head: Vec<u8>, zeros: u64, tail: Vec<u8>) -> Self {
        Self {
            head,
            zeros,
            tail,
            read: AtomicU64::new(0),
        }
    }
}

impl ReadAt for Hollow {
    fn len(&self) -> u64 {
        self.head.len() as u64 + self.zeros + self.tail.len() as u64
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if offset + buf.len() as u64 > self.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read.fetch_add(buf.len() as u64, Ordering::Relaxed);
        for (i, byte) in (offset..).zip(buf) {
            let tail_at = self.head.len() as u64 + self.zeros;
            *byte = match i {
                i if i < self.head.len() as u64 => self.head[i as usize],
                i if i >= tail_at => self.tail[(i - tail_at) as usize],
                _ => 0,
            };
        }
        Ok(())
    }
}

const GIB_20: u64 = 20 << 30;
/// Enough for headers; a parser that touched the elements would exceed it at once.
const READ_MAX: u64 = 256 << 10;

fn assert_one_tensor(source: &Hollow, container: Container, name: &str) {
    let layout = probe(source, "").unwrap();
    assert_eq!(layout.container(), container, "{:?}", layout.note());
    let (part, info) = layout.tensors().next().unwrap();
    assert_eq!((part.len, info.name.as_str()), (GIB_20, name));
    assert_eq!(part.offset, source.head.len() as u64);
    let read = source.read.load(Ordering::Relaxed);
    assert!(read < READ_MAX, "{read} bytes read");
}

#[test]
fn safetensors_of_20_gib_is_read_by_its_header() {
    let header = format!(
        r#"{{"w":{{"dtype":"F16","shape":[{},1024],"data_offsets":[0,{GIB_20}]}}}}"#,
        GIB_20 / 2048
    );
    let head = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    assert_one_tensor(
        &Hollow::new(head, GIB_20, Vec::new()),
        Container::Safetensors,
        "w",
    );
}

/// The bytes of an array stand in the middle of the pickle's opcodes.
#[test]
fn a_pickle_around_20_gib_is_read_by_its_opcodes() {
    let mut head = Writer::new(4);
    head.raw(b"}").text("w");
    head.global("numpy.core.multiarray", "_reconstruct");
    head.global("numpy", "ndarray")
        .raw(b"K\0\x85C\x01b\x87R(")
        .int(1);
    head.raw(b"\x8a\x05")
        .raw(&(GIB_20 / 4).to_le_bytes()[..5])
        .raw(b"\x85");
    head.global("numpy", "dtype")
        .text("f4")
        .raw(b"\x85R(")
        .int(3)
        .text("<")
        .raw(b"NNN");
    head.int(0).int(0).int(0).raw(b"tb\x89");
    head.raw(b"\x8e").raw(&GIB_20.to_le_bytes());
    let mut tail = Writer::default();
    tail.raw(b"tbs.");
    let source = Hollow::new(head.into_bytes(), GIB_20, tail.into_bytes());
    assert_one_tensor(&source, Container::Pickle, "w");
}

#[test]
fn a_joblib_file_around_20_gib_is_read_by_its_opcodes() {
    let mut head = Writer::new(3);
    head.raw(b"}").text("w");
    head.global("joblib.numpy_pickle", "NumpyArrayWrapper")
        .raw(b")\x81}(")
        .text("shape");
    head.raw(b"\x8a\x05")
        .raw(&GIB_20.to_le_bytes()[..5])
        .raw(b"\x85")
        .text("dtype");
    head.global("numpy", "dtype").text("u1").raw(b"\x85Rub");
    let mut tail = Writer::default();
    tail.raw(b"s.");
    let source = Hollow::new(head.into_bytes(), GIB_20, tail.into_bytes());
    assert_one_tensor(&source, Container::Pickle, "w");
}

/// A pickled tensor that is the whole of storage 0, an array of `GIB_20` bytes.
fn state_dict() -> Writer {
    // More elements than BININT can say, as in real files of this size.
    let long = [b"\x8a\x05", &GIB_20.to_le_bytes()[..5]].concat();
    let mut w = Writer::new(2);
    w.raw(b"}")
        .text("w")
        .global("torch._utils", "_rebuild_tensor_v2")
        .raw(b"((");
    w.text("storage")
        .global("torch", "ByteStorage")
        .text("0")
        .text("cpu");
    w.raw(&long);
    w.raw(b"tQ").int(0);
    w.raw(&long);
    w.raw(b"\x85").dims(&[1]).raw(b"\x89NtRs.");
    w
}

/// Beyond 4 GiB all numbers of the archive are in zip64 fields.
#[test]
fn a_torch_file_of_20_gib_is_read_by_its_directory_and_pickle() {
    let entries = [
        Entry::new("archive/data.pkl", state_dict().into_bytes()),
        Entry::new("archive/data/0", Vec::new()),
    ];
    let [head, tail] = around(&entries, Form::Wide, GIB_20);
    assert_one_tensor(&Hollow::new(head, GIB_20, tail), Container::TorchZip, "w");
}

#[test]
fn a_legacy_torch_file_of_20_gib_is_read_by_its_pickles() {
    let mut head = legacy_head(true);
    head.extend(state_dict().into_bytes());
    head.extend(b"\x80\x02]X\x01\0\0\x000a.");
    head.extend(GIB_20.to_le_bytes());
    assert_one_tensor(
        &Hollow::new(head, GIB_20, Vec::new()),
        Container::TorchLegacy,
        "w",
    );
}

#[test]
fn an_npz_member_of_20_gib_is_read_by_its_header() {
    let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({GIB_20},), }}");
    let entries = [Entry::new("w.npy", with_header(1, &header, &[]))];
    let [head, tail] = around(&entries, Form::Wide, GIB_20);
    assert_one_tensor(&Hollow::new(head, GIB_20, tail), Container::Npz, "w");
}

#[test]
fn gguf_of_20_gib_is_read_by_its_header() {
    let tensor = SampleTensor::new("w", Dtype::F64, &[]);
    let mut head = gguf::file(&[tensor]);
    // One dimension instead of none: count, then length.
    let at = head
        .windows(9)
        .position(|w| w == b"\x01\0\0\0\0\0\0\0w")
        .unwrap()
        + 9;
    head.truncate(at);
    head.extend(1u32.to_le_bytes());
    head.extend((GIB_20 / 8).to_le_bytes());
    head.extend(28u32.to_le_bytes());
    head.extend(0u64.to_le_bytes());
    head.resize(head.len().next_multiple_of(64), 0);
    assert_one_tensor(&Hollow::new(head, GIB_20, Vec::new()), Container::Gguf, "w");
}

/// 20 GiB of zeros behind any head must neither be read nor take long.
#[test]
fn lengths_that_reach_into_a_huge_file_cost_nothing() {
    let heads: [&[u8]; 7] = [
        b"GGUF\x03\0\0\0\xff\0\0\0\0\0\0\0\xff\xff\0\0\0\0\0\0",
        b"PK\x03\x04",
        b"\x93NUMPY\x02\0\xff\xff\xff\x7f",
        b"\x80\x04\x8e\0\0\0\0\x04\0\0\0",
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.",
        b"\0\0\0\x06\0\0\0\0{",
        b"\xff\xff\xff\x7f",
    ];
    for head in heads {
        let source = Hollow::new(head.to_vec(), GIB_20, Vec::new());
        let layout = probe(&source, "model.pkl").unwrap();
        assert_eq!(layout.len(), source.len());
        let read = source.read.load(Ordering::Relaxed);
        // The safetensors header claims 96 MiB, which it may.
        assert!(read < (100 << 20) + READ_MAX, "{head:?}: {read} bytes read");
    }
}
