//! The type numbers of every format, against tables copied from the specifications: a number has
//! the width that its specification gives it, and a number that is in no table is no tensor.

use mmh_formats::samples::flatbuffer::{Builder, Field};
use mmh_formats::samples::npy::with_header;
use mmh_formats::{ctranslate2, gguf, msgpack, npy, onnx, tflite};

use crate::wire::{message, number, only};

/// Checks each number of `range`: `parsed` gets a number and the bytes that four elements of that
/// type take, and gives what was found; `table` has number, name and bits.
fn check(
    range: std::ops::RangeInclusive<u64>,
    table: &[(u64, &'static str, u64)],
    parsed: impl Fn(u64, usize) -> Option<(&'static str, u64)>,
) {
    for n in range {
        let row = table.iter().find(|row| row.0 == n);
        let len = row.map_or(16, |row| row.2 / 2);
        let expected = row.map(|row| (row.1, len));
        assert_eq!(parsed(n, len as usize), expected, "number {n}");
    }
}

/// `TensorProto.DataType` of `onnx.proto3`: 8 is a string; 18 and 20 have no name here.
#[test]
fn onnx_data_types() {
    let table = [
        (1, "F32", 32),
        (2, "U8", 8),
        (3, "I8", 8),
        (4, "U16", 16),
        (5, "I16", 16),
        (6, "I32", 32),
        (7, "I64", 64),
        (9, "BOOL", 8),
        (10, "F16", 16),
        (11, "F64", 64),
        (12, "U32", 32),
        (13, "U64", 64),
        (14, "C64", 64),
        (15, "C128", 128),
        (16, "BF16", 16),
        (17, "F8_E4M3", 8),
        (18, "U8", 8),
        (19, "F8_E5M2", 8),
        (20, "U8", 8),
        (21, "U4", 4),
        (22, "I4", 4),
        (23, "F4", 4),
        (24, "F8_E8M0", 8),
    ];
    check(0..=60, &table, |data_type, len| {
        let tensor = [
            number(1, 4),
            number(2, data_type),
            message(9, &vec![7; len]),
        ]
        .concat();
        let model = message(7, &message(5, &tensor));
        only(&onnx::parse(&model).unwrap())
    });
}

/// `TensorType` of TensorFlow Lite's `schema.fbs`: 5, 13 and 14 are strings, resources, variants.
#[test]
fn tflite_tensor_types() {
    let table = [
        (0, "F32", 32),
        (1, "F16", 16),
        (2, "I32", 32),
        (3, "U8", 8),
        (4, "I64", 64),
        (6, "BOOL", 8),
        (7, "I16", 16),
        (8, "C64", 64),
        (9, "I8", 8),
        (10, "F64", 64),
        (11, "C128", 128),
        (12, "U64", 64),
        (15, "U32", 32),
        (16, "U16", 16),
        (17, "I4", 4),
        (18, "BF16", 16),
    ];
    check(0..=60, &table, |tensor_type, len| {
        let mut builder = Builder::default();
        let data = builder.bytes(&vec![7; len]);
        let buffer = builder.table(&[Field::Offset(data)]);
        let buffers = builder.offsets(&[buffer]);
        let shape = builder.vector(1, 4u32.to_le_bytes().to_vec());
        let fields = [
            Field::Offset(shape),
            Field::U8(tensor_type as u8),
            Field::U32(0),
        ];
        let tensor = builder.table(&fields);
        let tensors = builder.offsets(&[tensor]);
        let subgraph = builder.table(&[Field::Offset(tensors)]);
        let subgraphs = builder.offsets(&[subgraph]);
        let (none, graphs) = (Field::Absent, Field::Offset(subgraphs));
        let root = builder.table(&[
            none,
            Field::Absent,
            graphs,
            Field::Absent,
            Field::Offset(buffers),
        ]);
        only(&tflite::parse(&builder.finish(root, *b"TFL3")).unwrap())
    });
}

/// One F32 tensor's header for `ggml_type` and a row of `row` elements, then `len` bytes.
fn gguf_file(ggml_type: u32, row: u64, len: u64) -> Vec<u8> {
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend([1u64, 0, 1].map(u64::to_le_bytes).concat());
    out.extend(b"t\x01\0\0\0");
    out.extend(row.to_le_bytes());
    out.extend(ggml_type.to_le_bytes());
    out.extend([0; 8]);
    out.resize(out.len().next_multiple_of(32) + len as usize, 7);
    out
}

/// Elements and bytes of a block as the structures of `ggml-common.h` add up.
#[test]
fn gguf_block_types() {
    let (half, qk) = (2, 256);
    let table = [
        (0, "F32", 1, 4),
        (1, "F16", 1, 2),
        (24, "I8", 1, 1),
        (25, "I16", 1, 2),
        (26, "I32", 1, 4),
        (27, "I64", 1, 8),
        (28, "F64", 1, 8),
        (30, "BF16", 1, 2),
        (2, "Q4_0", 32, half + 32 / 2),
        (3, "Q4_1", 32, 2 * half + 32 / 2),
        (6, "Q5_0", 32, half + 4 + 32 / 2),
        (7, "Q5_1", 32, 2 * half + 4 + 32 / 2),
        (8, "Q8_0", 32, half + 32),
        (9, "Q8_1", 32, 2 * half + 32),
        (10, "Q2_K", qk, 2 * half + qk / 16 + qk / 4),
        (11, "Q3_K", qk, half + qk / 4 + qk / 8 + 12),
        (12, "Q4_K", qk, 2 * half + 12 + qk / 2),
        (13, "Q5_K", qk, 2 * half + 12 + qk / 2 + qk / 8),
        (14, "Q6_K", qk, half + qk / 16 + 3 * qk / 4),
        (15, "Q8_K", qk, 4 + qk + qk / 16 * 2),
        (16, "IQ2_XXS", qk, half + qk / 8 * 2),
        (17, "IQ2_XS", qk, half + qk / 8 * 2 + qk / 32),
        (18, "IQ3_XXS", qk, half + 3 * (qk / 8)),
        (19, "IQ1_S", qk, half + qk / 8 + qk / 16),
        (20, "IQ4_NL", 32, half + 32 / 2),
        (21, "IQ3_S", qk, half + 13 * (qk / 32) + qk / 64),
        (22, "IQ2_S", qk, half + qk / 4 + qk / 16),
        (23, "IQ4_XS", qk, half + 2 + qk / 64 + qk / 2),
        (29, "IQ1_M", qk, qk / 8 + qk / 16 + qk / 32),
        (34, "TQ1_0", qk, half + qk / 64 + (qk - 4 * qk / 64) / 5),
        (35, "TQ2_0", qk, half + qk / 4),
        (39, "MXFP4", 32, 1 + 32 / 2),
    ];
    for ggml_type in 0..=64 {
        let row = table.iter().find(|row| row.0 == ggml_type);
        let (name, elements, bytes) = row.map_or(("", 256, 64), |row| (row.1, row.2, row.3));
        let layout = gguf::parse(&gguf_file(ggml_type, elements * 3, bytes * 3)).unwrap();
        let expected = row.map(|_| (name, bytes * 3));
        assert_eq!(only(&layout), expected, "type {ggml_type}");
        assert_eq!(layout.note().is_none(), row.is_some(), "type {ggml_type}");
        // One byte less does not hold three blocks; one element more does not fill a fourth.
        if row.is_some() {
            assert!(gguf::parse(&gguf_file(ggml_type, elements * 3, bytes * 3 - 1)).is_err());
            assert!(gguf::parse(&gguf_file(ggml_type, elements * 3 + 1, bytes * 3)).is_err());
        }
    }
}

/// A model of one variable `w` with four elements.
fn ctranslate2_model(version: u32, code: u8, count: u32, len: usize) -> Vec<u8> {
    let mut out = version.to_le_bytes().to_vec();
    out.extend(b"\x02\0S\0\x01\0\0\0\x01\0\0\0\x02\0w\0\x01\x04\0\0\0");
    out.push(code);
    out.extend(count.to_le_bytes());
    out.resize(out.len() + len, 7);
    out
}

/// `DataType` of CTranslate2 since version 4 of the file; before it, the width of an element.
#[test]
fn ctranslate2_types_and_widths() {
    let types = [
        (0, "F32", 32),
        (1, "I8", 8),
        (2, "I16", 16),
        (3, "I32", 32),
        (4, "F16", 16),
        (5, "BF16", 16),
    ];
    let widths = [(1, "I8", 8), (2, "I16", 16), (4, "F32", 32)];
    for version in 4..=6 {
        check(0..=255, &types, |code, len| {
            let file = ctranslate2_model(version, code as u8, len as u32, len);
            ctranslate2::parse(&file).ok().as_ref().and_then(only)
        });
    }
    for version in 2..=3 {
        check(0..=255, &widths, |code, len| {
            let file = ctranslate2_model(version, code as u8, 4, len);
            ctranslate2::parse(&file).ok().as_ref().and_then(only)
        });
    }
    for version in [0, 1, 7, u32::MAX] {
        assert!(
            ctranslate2::parse(&ctranslate2_model(version, 0, 16, 16)).is_err(),
            "{version}"
        );
    }
}

/// Every number type of numpy in each byte order; a single byte has none.
#[test]
fn npy_type_codes() {
    let codes = [
        ("b1", "BOOL", 1),
        ("u1", "U8", 1),
        ("i1", "I8", 1),
        ("u2", "U16", 2),
        ("i2", "I16", 2),
        ("u4", "U32", 4),
        ("i4", "I32", 4),
        ("u8", "U64", 8),
        ("i8", "I64", 8),
        ("f2", "F16", 2),
        ("f4", "F32", 4),
        ("f8", "F64", 8),
        ("c8", "C64", 8),
        ("c16", "C128", 16),
    ];
    for (code, name, width) in codes {
        for order in ["<", "=", "|", ">"] {
            let header =
                format!("{{'descr': '{order}{code}', 'fortran_order': False, 'shape': (4,), }}");
            let layout = npy::parse(&with_header(1, &header, &vec![7; width * 4])).unwrap();
            let expected = (order != ">" || width == 1).then_some((name, width as u64 * 4));
            assert_eq!(only(&layout), expected, "{order}{code}");
            assert_eq!(layout.note().is_none(), expected.is_some(), "{order}{code}");
        }
    }
}

/// Every name that flax writes for an element type, and some that it does not.
#[test]
fn flax_type_names() {
    let names = [
        ("bool", "BOOL", 1),
        ("uint8", "U8", 1),
        ("int8", "I8", 1),
        ("uint16", "U16", 2),
        ("int16", "I16", 2),
        ("uint32", "U32", 4),
        ("int32", "I32", 4),
        ("uint64", "U64", 8),
        ("int64", "I64", 8),
        ("float16", "F16", 2),
        ("bfloat16", "BF16", 2),
        ("float32", "F32", 4),
        ("float64", "F64", 8),
        ("complex64", "C64", 8),
        ("complex128", "C128", 16),
        ("float8_e4m3fn", "F8_E4M3", 1),
        ("float8_e5m2", "F8_E5M2", 1),
        ("float", "", 4),
        ("Float32", "", 4),
        ("<f4", "", 4),
        ("", "", 4),
        ("float32\0", "", 4),
    ];
    for (name, dtype, width) in names {
        let data = vec![7; width * 4];
        let mut array = vec![0x93, 0x91, 4, 0xa0 | name.len() as u8];
        array.extend(name.as_bytes());
        array.extend([0xc4, data.len() as u8]);
        array.extend(data);
        let mut file = vec![0x81, 0xa1, b'w', 0xc7, array.len() as u8, 1];
        file.extend(array);
        let expected = (!dtype.is_empty()).then_some((dtype, width as u64 * 4));
        assert_eq!(only(&msgpack::parse(&file).unwrap()), expected, "{name:?}");
    }
}
