//! Files that torch, numpy and joblib wrote (`testdata/make.py`). All elements count up from 0.

use std::collections::BTreeMap;

use mmh_core::Dtype;
use mmh_formats::hostile::{check_layout, fuzz_parser};
use mmh_formats::{Container, Layout, ReadAt, Result, probe};

pub(crate) fn read(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/testdata/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Element `i` of `bytes` as a number.
fn element(dtype: Dtype, bytes: &[u8], i: usize) -> f64 {
    let width = dtype.block().1 as usize;
    let bytes = &bytes[i * width..(i + 1) * width];
    match dtype {
        Dtype::F64 => f64::from_le_bytes(bytes.try_into().unwrap()),
        Dtype::F32 => f32::from_le_bytes(bytes.try_into().unwrap()).into(),
        Dtype::BF16 => {
            f32::from_bits(u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) << 16).into()
        }
        // Small whole numbers: 2^(e-15) * (1 + m/1024).
        Dtype::F16 => {
            let bits = u16::from_le_bytes([bytes[0], bytes[1]]);
            let (exponent, mantissa) = (i32::from(bits >> 10), f64::from(bits & 1023));
            if bits == 0 {
                0.0
            } else {
                2f64.powi(exponent - 15) * (1.0 + mantissa / 1024.0)
            }
        }
        _ => {
            let mut wide = [0; 8];
            wide[..width].copy_from_slice(bytes);
            u64::from_le_bytes(wide) as f64
        }
    }
}

/// The tensors of a layout by name; checks that each counts up from 0.
pub(crate) fn counted(file: &[u8], layout: &Layout) -> BTreeMap<String, (Dtype, Vec<u64>)> {
    check_layout(layout, file.len() as u64);
    let tensors = layout.tensors().map(|(part, info)| {
        let bytes = &file[part.offset as usize..(part.offset + part.len) as usize];
        for i in 0..bytes.len() / info.dtype.block().1 as usize {
            assert_eq!(
                element(info.dtype, bytes, i),
                i as f64,
                "{} [{i}]",
                info.name
            );
        }
        (info.name.clone(), (info.dtype, info.shape.clone()))
    });
    tensors.collect()
}

pub(crate) fn assert_tensors(name: &str, container: Container, expected: &[(&str, Dtype, &[u64])]) {
    let file = read(name);
    let layout = probe(&file, name).unwrap();
    assert_eq!(layout.container(), container, "{name}: {:?}", layout.note());
    let expected: BTreeMap<String, (Dtype, Vec<u64>)> = expected
        .iter()
        .map(|&(name, dtype, shape)| (name.to_owned(), (dtype, shape.to_vec())))
        .collect();
    assert_eq!(counted(&file, &layout), expected, "{name}");
}

/// A storage that two tensors share is one part with the name and shape of the first; one that no
/// tensor covers in order is a row. The numpy array beside them is not there: protocol 2 writes its
/// elements as text.
const NESTED: &[(&str, Dtype, &[u64])] = &[
    ("model.plain", Dtype::F32, &[3, 5]),
    ("model.bf16", Dtype::BF16, &[7]),
    ("model.scalar", Dtype::I64, &[]),
    ("model.whole", Dtype::F16, &[4, 6]),
    ("model.transposed", Dtype::F32, &[12]),
    ("model.u16", Dtype::U16, &[5]),
    ("model.f8", Dtype::F8_E4M3, &[1]),
    ("model.parameter", Dtype::F32, &[3]),
    ("optimizer.state.0.exp_avg", Dtype::F32, &[3]),
    ("history.0", Dtype::F64, &[2]),
];

#[test]
fn torch_zip_has_every_storage_by_the_name_of_its_first_tensor() {
    assert_tensors("nested.pt", Container::TorchZip, NESTED);
}

#[test]
fn torch_legacy_has_the_same_tensors() {
    assert_tensors("nested_legacy.pt", Container::TorchLegacy, NESTED);
}

#[test]
fn a_whole_module_has_the_names_of_its_state_dict() {
    let expected: &[(&str, Dtype, &[u64])] = &[
        ("0.weight", Dtype::F32, &[3, 2]),
        ("0.bias", Dtype::F32, &[3]),
        ("1.weight", Dtype::F32, &[3]),
        ("1.bias", Dtype::F32, &[3]),
        ("1.running_mean", Dtype::F32, &[3]),
        ("1.running_var", Dtype::F32, &[3]),
        ("1.num_batches_tracked", Dtype::I64, &[]),
    ];
    assert_tensors("module.pt", Container::TorchZip, expected);
}

#[test]
fn torchscript_has_its_parameters_and_buffers() {
    let expected: &[(&str, Dtype, &[u64])] =
        &[("weight", Dtype::F32, &[3, 2]), ("steps", Dtype::I64, &[1])];
    assert_tensors("script.pt", Container::TorchZip, expected);
}

#[test]
fn a_quantised_tensor_is_the_integers_it_holds() {
    assert_tensors(
        "quantised.pt",
        Container::TorchZip,
        &[("q", Dtype::I8, &[2, 3])],
    );
}

/// Dimensions of the array in Fortran order are those of its elements in the file.
const ARRAYS: &[(&str, Dtype, &[u64])] = &[
    ("plain", Dtype::F32, &[5, 7]),
    ("fortran", Dtype::F64, &[4, 2]),
    ("objects.0.inner", Dtype::I32, &[4]),
    ("half", Dtype::F16, &[3]),
];

#[test]
fn numpy_pickles_that_hold_raw_bytes_have_their_arrays() {
    for protocol in 3..=5 {
        let name = format!("numpy_protocol_{protocol}.pkl");
        assert_tensors(&name, Container::Pickle, ARRAYS);
    }
}

#[test]
fn numpy_pickles_that_hold_text_have_a_note() {
    for protocol in 0..=2 {
        let name = format!("numpy_protocol_{protocol}.pkl");
        let layout = probe(&read(&name), &name).unwrap();
        assert_eq!(layout.container(), Container::Pickle);
        assert_eq!(layout.tensors().count(), 0);
        assert!(
            layout.note().unwrap().contains("written as text"),
            "{:?}",
            layout.note()
        );
    }
}

#[test]
fn joblib_has_the_arrays_behind_their_wrappers() {
    assert_tensors("arrays.joblib", Container::Pickle, ARRAYS);
}

#[test]
fn npz_has_an_array_for_each_member() {
    let expected: Vec<_> = ARRAYS
        .iter()
        .map(|&(name, dtype, shape)| {
            // The member holds one object array, and that one array.
            (
                if name == "objects.0.inner" {
                    "objects"
                } else {
                    name
                },
                dtype,
                shape,
            )
        })
        .collect();
    assert_tensors("arrays.npz", Container::Npz, &expected);
}

#[test]
fn what_is_compressed_stays_as_it_is() {
    assert_tensors("compressed.npz", Container::Npz, &[]);
    assert_tensors("compressed.joblib", Container::Unknown, &[]);
    let layout = probe(&read("compressed.npz"), "compressed.npz").unwrap();
    assert!(layout.note().unwrap().contains("compressed"));
}

#[test]
fn pickles_behind_each_other_and_torch_files_in_pickles_are_read() {
    let expected: &[(&str, Dtype, &[u64])] =
        &[("t", Dtype::F32, &[3]), ("1/array@", Dtype::F32, &[5, 7])];
    let file = read("torch_in_pickle.pkl");
    let layout = probe(&file, "torch_in_pickle.pkl").unwrap();
    let found = counted(&file, &layout);
    assert_eq!(found.len(), 2);
    for ((name, found), &(prefix, dtype, shape)) in found.iter().rev().zip(expected) {
        assert!(name.starts_with(prefix), "{name}");
        assert_eq!(found, &(dtype, shape.to_vec()));
    }
}

fn probe_without_name(source: &dyn ReadAt) -> Result<Layout> {
    probe(source, "file.pkl")
}

/// Each real file cut everywhere and with every byte changed: still tiles, or is unknown bytes.
#[test]
fn damaged_files_still_tile() {
    for name in [
        "nested.pt",
        "nested_legacy.pt",
        "quantised.pt",
        "arrays.joblib",
        "arrays.npz",
        "numpy_protocol_0.pkl",
        "numpy_protocol_2.pkl",
        "numpy_protocol_4.pkl",
        "numpy_protocol_5.pkl",
        "torch_in_pickle.pkl",
    ] {
        let mut file = read(name);
        for cut in 0..file.len() {
            fuzz_parser(probe_without_name, &file[..cut]);
        }
        for i in 0..file.len() {
            for mask in [0x01, 0x80, 0xff] {
                file[i] ^= mask;
                fuzz_parser(probe_without_name, &file);
                file[i] ^= mask;
            }
        }
    }
}
