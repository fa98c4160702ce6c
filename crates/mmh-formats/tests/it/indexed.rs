//! Files that h5py, onnx, pyarrow and msgpack-numpy wrote (`testdata/make_indexed.py`). All
//! elements count up from 0, those of a chunk from its own first.

use mmh_core::Dtype;
use mmh_formats::hostile::{check_layout, fuzz_parser};
use mmh_formats::onnx::external_layout;
use mmh_formats::samples::{
    SampleTensor, assert_holds, ctranslate2, hdf5, msgpack, onnx, tfcheckpoint, tflite,
};
use mmh_formats::{Container, Layout, ReadAt, Result, probe};

use crate::real::{assert_tensors, counted, read};

/// Datasets that every HDF5 file of ours has beside its layers. The hard link `alias` comes
/// before `half` and names what both lead to; big-endian, text, empty and filtered datasets are
/// not tensors.
const DATASETS: &[(&str, Dtype, &[u64])] = &[
    ("/alias", Dtype::F16, &[5]),
    ("/counter", Dtype::I64, &[]),
    ("/flags", Dtype::U8, &[2]),
    ("/compact", Dtype::I16, &[6]),
    ("/chunked[0, 0]", Dtype::F64, &[1, 3]),
    ("/chunked[1, 0]", Dtype::F64, &[1, 3]),
    ("/chunked[2, 0]", Dtype::F64, &[1, 3]),
    ("/chunked[3, 0]", Dtype::F64, &[1, 3]),
];

fn keras_like(name: &str, n_layers: usize, datasets: &[(&str, Dtype, &[u64])]) {
    let layers = (0..n_layers).flat_map(|i| {
        [("kernel", &[2, 3][..]), ("bias", &[3])].map(|(tensor, shape)| {
            let name = format!("/model_weights/dense_{i:02}/{tensor}:0");
            (name, Dtype::F32, shape)
        })
    });
    let layers: Vec<_> = layers.collect();
    let mut expected = datasets.to_vec();
    expected.extend(
        layers
            .iter()
            .map(|(name, dtype, shape)| (name.as_str(), *dtype, *shape)),
    );
    assert_tensors(name, Container::Hdf5, &expected);
}

/// Twenty layers fill more than one symbol node of their group.
#[test]
fn hdf5_of_the_earliest_form_has_every_plain_dataset() {
    keras_like("earliest.h5", 20, DATASETS);
}

#[test]
fn hdf5_behind_a_user_block_has_the_same() {
    keras_like("user_block.h5", 1, DATASETS);
}

#[test]
fn hdf5_of_the_latest_form_has_its_links() {
    let expected: &[(&str, Dtype, &[u64])] = &[
        ("/layers/kernel", Dtype::F32, &[4, 2]),
        ("/layers/bias", Dtype::F32, &[2]),
    ];
    assert_tensors("latest.h5", Container::Hdf5, expected);
}

/// Groups with more than eight links: their names are in a fractal heap. Chunks are listed in
/// an index that only the newest library writes, so they stay bytes.
#[test]
fn hdf5_of_the_latest_form_has_its_many_links() {
    keras_like("latest_dense.h5", 20, &DATASETS[..4]);
    let layout = probe(&read("latest_dense.h5"), "latest_dense.h5").unwrap();
    assert!(layout.note().unwrap().contains("chunk index"));
}

/// Ninety links: an index of more than one node, and a heap of more than one block.
#[test]
fn hdf5_indexes_and_heaps_of_several_blocks_are_walked() {
    let names: Vec<_> = (0..90).map(|i| format!("/expert_{i:02}.scale")).collect();
    let expected: Vec<(&str, Dtype, &[u64])> = names
        .iter()
        .map(|name| (name.as_str(), Dtype::U8, &[][..]))
        .collect();
    assert_tensors("latest_many.h5", Container::Hdf5, &expected);
}

#[test]
fn onnx_has_initializers_and_constants_of_subgraphs() {
    let expected: &[(&str, Dtype, &[u64])] = &[
        ("w", Dtype::F32, &[3, 5]),
        ("half", Dtype::F16, &[7]),
        ("typed", Dtype::F32, &[3]),
        ("flag", Dtype::Bool, &[]),
        ("outer", Dtype::F64, &[2, 2]),
        ("inner", Dtype::F32, &[4]),
    ];
    let file = read("embedded.onnx");
    let layout = probe(&file, "embedded.onnx").unwrap();
    // Three 4-bit numbers in two bytes: a row of four.
    let (part, info) = layout
        .tensors()
        .find(|(_, info)| info.name == "nibbles")
        .unwrap();
    assert_eq!(
        (part.len, info.dtype, &info.shape[..]),
        (2, Dtype::I4, &[4][..])
    );
    let mut builder = mmh_formats::LayoutBuilder::new(Container::Onnx, layout.len());
    for (part, info) in layout.tensors().filter(|(_, info)| info.name != "nibbles") {
        builder.tensor(part.offset, part.len, info.clone()).unwrap();
    }
    let found = counted(&file, &builder.finish().unwrap());
    for &(name, dtype, shape) in expected {
        assert_eq!(found.get(name), Some(&(dtype, shape.to_vec())), "{name}");
    }
    assert_eq!(found.len(), expected.len());
}

#[test]
fn onnx_external_data_is_laid_out_by_its_index() {
    let index = probe(&read("external.onnx"), "external.onnx").unwrap();
    let [external] = index.externals() else {
        panic!("one file")
    };
    assert_eq!(external.location, "external.onnx.data");
    let data = read(&external.location);
    let found = counted(
        &data,
        &external_layout(data.len() as u64, &external.tensors),
    );
    assert_eq!(found["w"], (Dtype::F32, vec![20, 20]));
    assert_eq!(found["b"], (Dtype::F64, vec![300]));
}

#[test]
fn arrow_has_the_buffers_of_numeric_columns() {
    for name in ["table.arrow", "stream.arrow"] {
        let file = read(name);
        let layout = probe(&file, name).unwrap();
        check_layout(&layout, file.len() as u64);
        assert_eq!(layout.container(), Container::Arrow);
        let found: Vec<_> = layout
            .tensors()
            .map(|(_, info)| (info.name.as_str(), info.dtype, info.shape[0]))
            .collect();
        let expected = [
            ("weight[0]", Dtype::F32, 2100),
            ("label[0]", Dtype::I32, 2100),
            ("name[0]", Dtype::I32, 2101),
            ("point.x[0]", Dtype::F64, 2100),
            ("vector.item[0]", Dtype::U16, 4200),
            ("day[0]", Dtype::I32, 2100),
        ];
        assert_eq!(found, expected, "{name}");
        let (part, _) = layout.tensors().next().unwrap();
        let last = (part.offset + part.len) as usize;
        assert_eq!(file[last - 4..last], 2099f32.to_le_bytes());
    }
}

#[test]
fn compressed_columns_stay_bytes() {
    for (name, container) in [
        ("lz4.arrow", Container::Arrow),
        ("table.parquet", Container::Parquet),
    ] {
        let layout = probe(&read(name), name).unwrap();
        assert_eq!(
            (layout.container(), layout.tensors().count()),
            (container, 0),
            "{name}"
        );
    }
}

#[test]
fn msgpack_has_numpy_arrays_by_their_paths() {
    let expected: &[(&str, Dtype, &[u64])] = &[
        ("params.0.W", Dtype::F32, &[4, 3]),
        ("params.0.b", Dtype::F32, &[3]),
        ("other.wide", Dtype::F64, &[2]),
        ("other.codes", Dtype::U16, &[6]),
    ];
    assert_tensors("numpy.msgpack", Container::Msgpack, expected);
}

/// The same two tensors through the probe, in the containers that have an index of their own.
#[test]
fn every_container_gives_the_tensors_that_were_written() {
    let named = |names: [&str; 2]| {
        let shapes: [&[u64]; 2] = [&[3], &[4, 5]];
        [0, 1].map(|i| {
            // One content under whatever name the container allows.
            let content = SampleTensor::new(["a", "b"][i], Dtype::F32, shapes[i]);
            SampleTensor {
                name: names[i].to_owned(),
                ..content
            }
        })
    };
    let (flat, paths, thinc) = (
        named(["a", "b"]),
        named(["/g/a", "/g/b"]),
        named(["params.0.a", "params.0.b"]),
    );
    let files = [
        ("m.onnx", Container::Onnx, onnx::embedded(&flat), &flat),
        (
            "m.tflite",
            Container::Tflite,
            tflite::model(&flat, tflite::Place::Within),
            &flat,
        ),
        (
            "model.bin",
            Container::Ctranslate2,
            ctranslate2::model(&flat),
            &flat,
        ),
        ("m.msgpack", Container::Msgpack, msgpack::flax(&flat), &flat),
        ("model", Container::Msgpack, msgpack::thinc(&thinc), &thinc),
        (
            "m.h5",
            Container::Hdf5,
            hdf5::file(&paths, hdf5::Form::Old, hdf5::Storage::Contiguous),
            &paths,
        ),
    ];
    for (name, container, file, tensors) in files {
        let layout = probe(&file, name).unwrap();
        assert_eq!(layout.container(), container, "{name}: {:?}", layout.note());
        assert_holds(&layout, &file, tensors);
    }
    let indexes = [
        ("m.onnx", onnx::external(&flat, "m.data")),
        ("m.index", tfcheckpoint::checkpoint(&flat)),
    ];
    for (name, (index, data)) in indexes {
        let layout = probe(&index, name).unwrap();
        let [external] = layout.externals() else {
            panic!("{name}")
        };
        assert_holds(
            &external_layout(data.len() as u64, &external.tensors),
            &data,
            &flat,
        );
    }
}

/// Real files cut at many places and flipped at each byte.
#[test]
fn damaged_files_are_errors_or_tiled() {
    fn parse(source: &dyn ReadAt) -> Result<Layout> {
        probe(source, "damaged.onnx")
    }
    for name in [
        "latest.h5",
        "user_block.h5",
        "embedded.onnx",
        "numpy.msgpack",
        "latest_dense.h5",
        "latest_many.h5",
    ] {
        let file = read(name);
        let step = (file.len() / 200).max(1);
        for cut in (0..file.len()).step_by(step) {
            fuzz_parser(parse, &file[..cut]);
        }
        let mut bytes = file.clone();
        for at in (0..bytes.len()).step_by((bytes.len() / 1000).max(1)) {
            for mask in [0x01, 0xff] {
                bytes[at] ^= mask;
                fuzz_parser(parse, &bytes);
                bytes[at] ^= mask;
            }
        }
    }
}
