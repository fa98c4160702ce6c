//! Whole pickles: arrays found, named and placed.

use mmh_core::Dtype;
use proptest::prelude::*;

use super::*;
use crate::hostile::{attack, fuzz_parser};
use crate::pickle::torch::storages;
use crate::samples::pickle::{Writer, joblib, numpy, numpy_protocol_5};
use crate::samples::strategy::tensors;
use crate::samples::torch::{legacy, legacy_head};
use crate::samples::{SampleTensor, assert_holds};

fn names(layout: &Layout) -> Vec<&str> {
    layout
        .tensors()
        .map(|(_, info)| info.name.as_str())
        .collect()
}

/// An array of two bytes.
fn array(w: &mut Writer) -> &mut Writer {
    w.global("numpy.core.multiarray", "_reconstruct")
        .raw(b"NR(");
    w.int(1)
        .int(2)
        .raw(b"\x85")
        .global("numpy", "dtype")
        .text("u1")
        .raw(b"\x85R\x89");
    w.bytes(b"ab").raw(b"tb")
}

/// A torch tensor of four elements, seen with an offset, shape and stride.
fn tensor<'a>(
    w: &'a mut Writer,
    key: &str,
    offset: u64,
    shape: &[u64],
    stride: &[u64],
) -> &'a mut Writer {
    w.global("torch._utils", "_rebuild_tensor_v2")
        .raw(b"((")
        .text("storage");
    w.global("torch", "FloatStorage")
        .text(key)
        .text("cpu")
        .int(4)
        .raw(b"tQ");
    w.int(offset).dims(shape).dims(stride).raw(b"\x89NtR")
}

fn parsed(w: &Writer) -> Layout {
    parse(&w.as_bytes().to_vec()).unwrap()
}

#[test]
fn old_protocols_need_a_name_and_new_ones_do_not() {
    assert!(matches(b"\x80\x04N.", ""));
    assert!(!matches(b"\x80\x01N.", ""));
    assert!(!matches(b"\x80", "a.pkl"));
    assert!(matches(b"(dp0\n.", "A.PKL"));
    assert!(!matches(b"(dp0\n.", "a.txt"));
    // What joblib compresses is no pickle yet.
    assert!(!matches(b"\x78\x9c", "a.joblib"));
}

#[test]
fn names_are_paths_through_dicts_lists_and_objects() {
    let mut w = Writer::new(2);
    w.raw(b"}(").text("list").raw(b"](N");
    array(&mut w)
        .raw(b"e")
        .text("object")
        .global("my", "Class")
        .raw(b")\x81}")
        .text("field");
    array(&mut w).raw(b"sb").int(7);
    array(&mut w).raw(b"u.");
    assert_eq!(names(&parsed(&w)), ["list.1", "object.field", "7"]);
}

#[test]
fn a_module_is_named_like_its_state_dict() {
    let mut w = Writer::new(2);
    w.global("my", "Net").raw(b")\x81}(").text("_modules");
    w.global("collections", "OrderedDict")
        .raw(b")R")
        .text("layer");
    w.global("my", "Layer")
        .raw(b")\x81}")
        .text("_parameters")
        .raw(b"}")
        .text("weight");
    array(&mut w).raw(b"ssbsub.");
    assert_eq!(names(&parsed(&w)), ["layer.weight"]);
}

/// Python 2 pickled an ordered dict as a call with a list of pairs.
#[test]
fn an_ordered_dict_of_pairs_is_named_by_its_keys() {
    let mut w = Writer::new(2);
    w.global("collections", "OrderedDict")
        .raw(b"]](")
        .text("a.b");
    array(&mut w).raw(b"ea\x85R.");
    assert_eq!(names(&parsed(&w)), ["a.b"]);
}

#[test]
fn the_first_path_to_a_shared_array_wins_and_cycles_end() {
    let mut w = Writer::new(2);
    w.raw(b"]q\x00(h\x00}").text("x");
    array(&mut w).raw(b"q\x01s}").text("y").raw(b"h\x01se.");
    assert_eq!(names(&parsed(&w)), ["1.x"]);
}

#[test]
fn an_array_at_the_root_is_named_by_its_place() {
    let mut w = Writer::new(2);
    array(&mut w).raw(b".");
    let layout = parsed(&w);
    let (part, info) = layout.tensors().next().unwrap();
    assert_eq!(info.name, format!("array@{}", part.offset));
}

#[test]
fn a_path_longer_than_a_name_is_cut_between_components() {
    let mut w = Writer::new(2);
    for _ in 0..40 {
        w.raw(b"}").text(&"k".repeat(100));
    }
    array(&mut w).raw(&[b's'; 40]).raw(b".");
    let layout = parsed(&w);
    let name = names(&layout)[0];
    assert_eq!(name.len(), 10 * 101 - 1);
}

/// Half a million arrays below one key of a kilobyte would have names of half a gigabyte.
#[test]
fn names_beyond_a_limit_are_short() {
    let n = 40_000;
    let mut w = Writer::new(2);
    w.global("numpy.core.multiarray", "_reconstruct")
        .raw(b"q\x000");
    w.global("numpy", "dtype").text("u1").raw(b"\x85Rq\x010");
    w.int(1).raw(b"\x85q\x020");
    w.raw(b"}").text(&"k".repeat(1000)).raw(b"](");
    for _ in 0..n {
        w.raw(b"h\x00NR(K\x01h\x02h\x01\x89C\x01atb");
    }
    w.raw(b"es.");
    let layout = parsed(&w);
    assert_eq!(layout.tensors().count(), n);
    let len: usize = names(&layout).iter().map(|name| name.len()).sum();
    assert!((32 << 20..36 << 20).contains(&len), "{len}");
}

#[test]
fn an_array_that_claims_another_size_is_bytes() {
    for shape in [&[3][..], &[1], &[u64::from(u32::MAX >> 1); 3]] {
        let mut w = Writer::new(2);
        w.global("numpy.core.multiarray", "_reconstruct")
            .raw(b"NR(");
        w.int(1)
            .dims(shape)
            .global("numpy", "dtype")
            .text("u1")
            .raw(b"\x85R\x89");
        w.bytes(b"ab").raw(b"tb.");
        assert_eq!(parsed(&w).tensors().count(), 0, "{shape:?}");
    }
}

#[test]
fn jax_arrays_and_the_types_of_ml_dtypes_are_found() {
    let mut w = Writer::new(4);
    w.global("jax._src.array", "_reconstruct_array")
        .raw(b"(NN(");
    w.int(1).int(1).raw(b"\x85").global("numpy", "dtype");
    w.global("ml_dtypes", "bfloat16")
        .raw(b"\x85R\x89")
        .bytes(b"ab")
        .raw(b"tNtR.");
    let layout = parsed(&w);
    assert_eq!(layout.tensors().next().unwrap().1.dtype, Dtype::BF16);
}

#[test]
fn a_storage_has_the_name_of_its_first_tensor() {
    let mut w = Writer::new(2);
    w.raw(b"}(").text("late");
    tensor(&mut w, "5", 2, &[2], &[1]).text("z");
    tensor(&mut w, "5", 0, &[2, 2], &[2, 1]).text("a");
    tensor(&mut w, "5", 0, &[2], &[1]).text("turned");
    tensor(&mut w, "6", 0, &[2, 2], &[1, 2])
        .text("alone")
        .raw(b"(")
        .text("storage");
    w.global("torch.cuda", "HalfStorage")
        .text("7")
        .text("cuda:0")
        .int(3)
        .raw(b"tQu.");
    let pickle = scan(&w.as_bytes().to_vec(), Container::Pickle, 0).unwrap();
    let found = storages(&pickle);
    let summary: Vec<_> = found
        .iter()
        .map(|(key, s)| {
            (
                key.as_str(),
                s.name.as_str(),
                s.dtype,
                s.bytes(),
                s.shape.clone(),
            )
        })
        .collect();
    // `a` and `z` both begin at 0, so the name decides; `a` does not cover the storage.
    let expected = [
        ("5", "a", Dtype::F32, Some(16), None),
        ("6", "turned", Dtype::F32, Some(16), None),
        ("7", "alone", Dtype::F16, Some(6), None),
    ];
    assert_eq!(summary, expected);
}

#[test]
fn parameters_and_subclasses_have_the_name_of_what_they_wrap() {
    let mut w = Writer::new(2);
    w.raw(b"}(")
        .text("p")
        .global("torch._utils", "_rebuild_parameter")
        .raw(b"(");
    tensor(&mut w, "0", 0, &[4], &[1]).raw(b"\x88NtR").text("s");
    w.global("torch._tensor", "_rebuild_from_type_v2").raw(b"(");
    w.global("torch._utils", "_rebuild_tensor_v2")
        .global("my", "Tensor")
        .raw(b"((");
    w.text("storage")
        .global("torch", "FloatStorage")
        .text("1")
        .text("cpu")
        .int(4)
        .raw(b"tQ");
    w.int(0).dims(&[4]).dims(&[1]).raw(b"\x89Nt}tRu.");
    let pickle = scan(&w.as_bytes().to_vec(), Container::Pickle, 0).unwrap();
    let named: Vec<_> = storages(&pickle)
        .into_iter()
        .map(|(key, s)| (key, s.name, s.shape))
        .collect();
    let shape = Some(vec![4]);
    let expected =
        [("0", "p"), ("1", "s")].map(|(k, n)| (k.to_owned(), n.to_owned(), shape.clone()));
    assert_eq!(named, expected);
}

/// A call that rebuilds itself must not be followed for ever.
#[test]
fn a_rebuilding_call_that_names_itself_ends() {
    let mut w = Writer::new(2);
    w.global("torch._tensor", "_rebuild_from_type_v2")
        .raw(b"q\x00(h\x00N(h\x00N)tNtR.");
    assert_eq!(parsed(&w).tensors().count(), 0);
}

#[test]
fn joblib_wrappers_that_say_too_little_are_malformed() {
    let sample = [SampleTensor::new("a", Dtype::F32, &[2])];
    let file = joblib(&sample, true);
    for word in [&b"shape"[..], b"dtype\x63", b"f4"] {
        let at = file.windows(word.len()).position(|w| w == word);
        let mut file = file.clone();
        if let Some(at) = at {
            file[at] = b'?';
            assert!(
                matches!(parse(&file), Err(Error::Malformed { .. })),
                "{word:?}"
            );
        }
    }
    // The elements end behind the file.
    let cut = file.len() - 4;
    assert!(matches!(
        parse(&file[..cut].to_vec()),
        Err(Error::Malformed { .. })
    ));
}

/// Wrappers of objects hold a pickle each, which may hold a wrapper again.
#[test]
fn pickles_within_pickles_are_limited() {
    let mut w = Writer::new(3);
    for _ in 0..10_000 {
        w.global("joblib.numpy_pickle", "NumpyArrayWrapper")
            .raw(b")\x81}(");
        w.text("shape")
            .raw(b")")
            .text("dtype")
            .global("numpy", "dtype")
            .text("O8")
            .raw(b"\x85Rub");
    }
    let result = parse(&w.as_bytes().to_vec());
    assert!(matches!(result, Err(Error::TooLarge { .. })), "{result:?}");
}

/// A wrapper's fields are asked for at each BUILD: a huge dict of them, asked a million times,
/// must not take the product.
#[test]
fn a_huge_state_is_not_searched_again_and_again() {
    let mut w = Writer::new(3);
    w.global("joblib.numpy_pickle", "NumpyArrayWrapper")
        .raw(b"q\x000}(");
    w.text("shape").int(0).raw(b"\x85").text("dtype");
    w.global("numpy", "dtype").text("V9").raw(b"\x85R");
    for i in 0..200_000 {
        w.int(i).raw(b"N");
    }
    w.raw(b"uq\x010h\x00)\x81");
    w.raw(&b"h\x01b".repeat(200_000)).raw(b".");
    assert_eq!(parsed(&w).tensors().count(), 0);
}

#[test]
fn bytes_behind_the_last_pickle_are_bytes() {
    let sample = [SampleTensor::new("a", Dtype::F32, &[2])];
    let mut file = numpy(&sample);
    file.extend(b"\xffno pickle");
    assert_holds(&parse(&file).unwrap(), &file, &sample);
}

#[test]
fn what_calls_itself_a_torch_file_inside_must_be_one() {
    let mut w = Writer::new(4);
    w.global("torch.storage", "_load_from_bytes")
        .bytes(b"no torch file")
        .raw(b"\x85R.");
    assert_eq!(parsed(&w).tensors().count(), 0);
}

/// A torch file in a pickle in a torch file, ten thousand times: no call per level.
#[test]
fn torch_files_within_each_other_are_read_one_level_deep() {
    let mut heads = Vec::new();
    let mut len = 0;
    for _ in 0..20_000 {
        let mut w = Writer::default();
        w.raw(&legacy_head(true))
            .global("torch.storage", "_load_from_bytes");
        w.raw(b"\x8e").raw(&u64::to_le_bytes(len));
        len += w.as_bytes().len() as u64 + 5;
        heads.push(w.into_bytes());
    }
    heads.reverse();
    let torch_file = [heads.concat(), b"\x85R.].".repeat(heads.len())].concat();
    let mut w = Writer::new(4);
    w.global("torch.storage", "_load_from_bytes")
        .bytes(&torch_file)
        .raw(b"\x85R.");
    assert_eq!(parsed(&w).tensors().count(), 0);
}

/// One torch file that a pickle names a hundred thousand times is read once: reading it each time
/// would take minutes.
#[test]
fn a_torch_file_named_often_is_read_once() {
    let sample = [SampleTensor::new("a", Dtype::F32, &[2])];
    let mut file = legacy_head(true);
    // An object that takes long to read, then no storages.
    file.extend(
        [
            b"\x80\x02](".to_vec(),
            b"N".repeat(100_000),
            b"e.].".to_vec(),
        ]
        .concat(),
    );
    let mut w = Writer::new(4);
    w.global("torch.storage", "_load_from_bytes")
        .raw(b"q\0")
        .raw(b"0");
    w.bytes(&file)
        .raw(b"q\x010")
        .bytes(&legacy(&sample))
        .raw(b"q\x020](");
    w.raw(&b"h\0h\x01\x85R".repeat(100_000))
        .raw(b"h\0h\x02\x85Re.");
    let layout = parsed(&w);
    assert_eq!(names(&layout), ["100000"]);
}

#[test]
fn protocol_5_buffers_are_located_in_order() {
    let sample = [
        SampleTensor::new("0", Dtype::F32, &[2]),
        SampleTensor::new("1", Dtype::I64, &[3, 1]),
    ];
    let file = numpy_protocol_5(&sample);
    assert_holds(&parse(&file).unwrap(), &file, &sample);
}

const DTYPES: &[Dtype] = &[Dtype::U8, Dtype::F16, Dtype::F32, Dtype::I64, Dtype::C64];

proptest! {
    #[test]
    fn numpy_pickles_hold_what_was_written(tensors in tensors(DTYPES)) {
        let file = numpy(&tensors);
        assert_holds(&parse(&file).unwrap(), &file, &tensors);
    }

    #[test]
    fn joblib_files_hold_what_was_written(tensors in tensors(DTYPES), aligned: bool) {
        let file = joblib(&tensors, aligned);
        assert_holds(&parse(&file).unwrap(), &file, &tensors);
    }

    /// Any opcodes in any order: an error or a layout, and nothing else.
    #[test]
    fn random_opcodes_tile_or_err(body in prop::collection::vec(prop::sample::select(OPCODES), 0..200)) {
        let file = [b"\x80\x04", body.as_slice(), b"."].concat();
        fuzz_parser(parse, &file);
    }
}

/// All opcodes, those that build things more often, and small numbers as their operands.
const OPCODES: &[u8] = b"\x00\x00\x01\x01\x02\n\n((((012FGIJKLMNNPQRRSTUVXabcdeghijlopqrstu\
    ]]]}}})))\x81\x82\x85\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x94\x95\x96\x97\x98";

#[test]
fn hostile_files_tile_or_err() {
    let sample = [
        SampleTensor::new("a", Dtype::F32, &[2]),
        SampleTensor::new("b", Dtype::U8, &[3]),
    ];
    attack(parse, &numpy(&sample), 3000);
    attack(parse, &numpy_protocol_5(&sample), 2000);
    attack(parse, &joblib(&sample, true), 3000);
}

/// A stale file of joblib's oldest form says where another file is; nothing is followed.
#[test]
fn wrappers_of_arrays_in_other_files_are_not_followed() {
    let mut w = Writer::new(2);
    w.global("joblib.numpy_pickle", "NDArrayWrapper")
        .raw(b")\x81}(");
    w.text("filename")
        .text("model.pkl_01.npy")
        .text("subclass")
        .global("numpy", "ndarray");
    w.raw(b"ub.");
    assert_eq!(parsed(&w).tensors().count(), 0);
}

#[test]
fn joblib_arrays_of_opaque_elements_are_passed_over() {
    let mut w = Writer::new(3);
    w.raw(b"](");
    for (code, order, elements) in [("f4", ">", &b"1234"[..]), ("U2", "<", b"12345678")] {
        w.global("joblib.numpy_pickle", "NumpyArrayWrapper")
            .raw(b")\x81}(");
        w.text("shape")
            .dims(&[1])
            .text("dtype")
            .global("numpy", "dtype")
            .raw(b"(");
        w.text(code)
            .raw(b"\x89\x88tR(")
            .int(3)
            .text(order)
            .raw(b"NNN");
        w.int(0).int(0).int(0).raw(b"tbub").raw(elements);
    }
    array(&mut w).raw(b"e.");
    // The array behind them is found, so their elements were stepped over exactly.
    assert_eq!(names(&parsed(&w)), ["2"]);
}

#[test]
fn joblib_in_fortran_order_has_the_dimensions_as_they_lie() {
    let mut w = Writer::new(3);
    w.global("joblib.numpy_pickle", "NumpyArrayWrapper")
        .raw(b")\x81}(");
    w.text("shape")
        .dims(&[3, 1])
        .text("order")
        .text("F")
        .text("dtype");
    w.global("numpy", "dtype").text("u1").raw(b"\x85Rubabc.");
    assert_eq!(parsed(&w).tensors().next().unwrap().1.shape, [1, 3]);
}

/// The sizes that shapes make must be counted without wrapping around.
#[test]
fn joblib_arrays_of_impossible_size_are_malformed() {
    for shape in [
        &[1 << 30, 1 << 30, 1 << 30][..],
        &[1 << 30, 1 << 30, 16],
        &[5],
    ] {
        let mut w = Writer::new(3);
        w.global("joblib.numpy_pickle", "NumpyArrayWrapper")
            .raw(b")\x81}(");
        w.text("shape").dims(shape).text("dtype");
        w.global("numpy", "dtype").text("f8").raw(b"\x85Rub.");
        let result = parse(&w.as_bytes().to_vec());
        assert!(matches!(result, Err(Error::Malformed { .. })), "{shape:?}");
    }
}

#[test]
fn the_padding_before_aligned_elements_must_be_there() {
    let sample = [SampleTensor::new("a", Dtype::U8, &[1])];
    let file = joblib(&sample, true);
    // The one element and the two opcodes behind it, then the padding byte by byte.
    for cut in 1..20 {
        let result = parse(&file[..file.len() - cut].to_vec());
        assert!(matches!(result, Err(Error::Malformed { .. })), "{cut}");
    }
}

#[test]
fn keys_that_are_no_text_or_number_leave_no_trace_in_names() {
    let mut w = Writer::new(2);
    w.raw(b"}N}").raw(b"G\0\0\0\0\0\0\0\0}").text("k");
    array(&mut w).raw(b"sss.");
    assert_eq!(names(&parsed(&w)), ["k"]);
}

#[test]
fn items_and_fields_of_list_and_dict_subclasses_are_walked() {
    let mut w = Writer::new(2);
    w.global("my", "List").raw(b")\x81(N");
    array(&mut w).raw(b"e}").text("extra");
    array(&mut w).raw(b"sb(").text("k");
    array(&mut w).raw(b"u.");
    let mut names = names(&parsed(&w))
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    names.sort();
    assert_eq!(names, ["1", "extra", "k"]);
}

#[test]
fn arrays_in_arguments_of_unknown_calls_are_found() {
    let mut w = Writer::new(2);
    w.global("sklearn.tree._tree", "Tree").raw(b"(").int(1);
    array(&mut w).raw(b"tR.");
    assert_eq!(names(&parsed(&w)), ["1"]);
}

#[test]
fn two_names_of_one_place_are_one_tensor() {
    let mut w = Writer::new(5);
    w.raw(b"\x96\x02\0\0\0\0\0\0\0abq\0").raw(b"0}(");
    for name in ["b", "a"] {
        w.text(name)
            .global("numpy._core.numeric", "_frombuffer")
            .raw(b"(h\0");
        w.global("numpy", "dtype")
            .text("u1")
            .raw(b"\x85R")
            .int(2)
            .raw(b"\x85")
            .text("C");
        w.raw(b"tR");
    }
    w.raw(b"u.");
    assert_eq!(names(&parsed(&w)), ["a"]);
}

proptest! {
    /// Any value of plain Python data around an array: it is found, at its place.
    #[test]
    fn an_array_is_found_whatever_is_around_it(
        before in prop::collection::vec(0usize..FILLERS.len(), 0..20),
        after in prop::collection::vec(0usize..FILLERS.len(), 0..20),
    ) {
        let mut w = Writer::new(4);
        w.raw(b"](");
        for &i in &before { w.raw(FILLERS[i]); }
        array(&mut w);
        for &i in &after { w.raw(FILLERS[i]); }
        w.raw(b"e.");
        let layout = parsed(&w);
        let (part, info) = layout.tensors().next().unwrap();
        prop_assert_eq!(&info.name, &before.len().to_string());
        let at = usize::try_from(part.offset).unwrap();
        prop_assert_eq!(&w.as_bytes()[at..at + 2], b"ab");
        prop_assert_eq!(layout.tensors().count(), 1);
    }
}

/// Values of Python, one each.
const FILLERS: &[&[u8]] = &[
    b"N",
    b"\x88",
    b"K\x05",
    b"J\xff\xff\xff\xff",
    b"\x8a\x02\x01\x02",
    b"G\0\0\0\0\0\0\0\0",
    b"\x8c\x01x",
    b"C\x02ab",
    b"\x8e\x02\0\0\0\0\0\0\0ab",
    b"]",
    b"}K\x01K\x02s",
    b"(K\x01K\x02t",
    b"cos\ngetcwd\n",
    b"cos\ngetcwd\n)R",
    b"\x95\x01\0\0\0\0\0\0\0N",
    b"\x8f(K\x01\x90",
    b"cmy\nX\n)\x81}Vf\nNsb",
    b"K\x01\x94",
    b"K\x01K\x020",
];
