//! Limits at their edge: what just fits is found, one more is refused, in every container.

use mmh_core::Dtype;
use mmh_core::limits::{TENSOR_NAME_LEN_MAX, TENSOR_RANK_MAX};
use mmh_formats::samples::{
    SampleTensor, assert_holds, ctranslate2, gguf, npy, onnx, safetensors, tflite,
};
use mmh_formats::{Container, Error, External, LayoutBuilder, Result, probe, recognise};
use proptest::prelude::*;

type Write = fn(&[SampleTensor]) -> Vec<u8>;

fn of_rank(rank: usize) -> [SampleTensor; 1] {
    [SampleTensor::new("array", Dtype::F32, &vec![1; rank])]
}

fn of_name(len: usize) -> [SampleTensor; 1] {
    [SampleTensor::new(&"n".repeat(len), Dtype::F32, &[2])]
}

#[test]
fn the_highest_rank_is_found_and_one_more_is_not() {
    let writers: [(Container, Write); 6] = [
        (Container::Safetensors, safetensors::file),
        (Container::Gguf, gguf::file),
        (Container::Npy, |tensors| npy::npy(&tensors[0])),
        (Container::Onnx, onnx::embedded),
        (Container::Ctranslate2, ctranslate2::model),
        (Container::Tflite, |tensors| {
            tflite::model(tensors, tflite::Place::Within)
        }),
    ];
    for (container, write) in writers {
        for rank in [0, TENSOR_RANK_MAX] {
            let file = write(&of_rank(rank));
            let layout = recognise(&file, "").unwrap();
            assert_eq!(layout.container(), container, "{rank}: {:?}", layout.note());
            assert_holds(&layout, &file, &of_rank(rank));
        }
        let layout = recognise(&write(&of_rank(TENSOR_RANK_MAX + 1)), "").unwrap();
        assert_eq!(layout.container(), Container::Unknown, "{container}");
        assert!(layout.note().is_some(), "{container}");
    }
}

/// Formats whose names identify a tensor refuse a long one.
#[test]
fn the_longest_name_is_found_and_a_longer_one_refused() {
    let max = TENSOR_NAME_LEN_MAX;
    // The length that CTranslate2 writes counts the NUL behind the name.
    let cases: [(Write, usize); 3] = [
        (safetensors::file, max),
        (gguf::file, max),
        (ctranslate2::model, max - 1),
    ];
    for (write, longest) in cases {
        let file = write(&of_name(longest));
        assert_holds(&recognise(&file, "").unwrap(), &file, &of_name(longest));
        let layout = recognise(&write(&of_name(longest + 1)), "").unwrap();
        let note = layout.note().unwrap();
        assert!(note.contains("beyond limits"), "{note}");
    }
}

/// Formats in which a name is a remark for people cut it, between characters.
#[test]
fn a_name_that_is_cut_stays_text() {
    for (before, max) in [("", 1024), ("x", 1024), ("xy", 1024)] {
        let name = format!("{before}{}", "\u{20ac}".repeat(max));
        let tensor = SampleTensor::new(&name, Dtype::F32, &[2]);
        let file = onnx::embedded(&[tensor]);
        let layout = recognise(&file, "").unwrap();
        let found = &layout.tensors().next().unwrap().1.name;
        assert!(
            found.len() <= TENSOR_NAME_LEN_MAX && found.len() > max - 4,
            "{}",
            found.len()
        );
        let whole = found.trim_end_matches('\u{fffd}');
        assert!(
            name.starts_with(whole) && found.len() - whole.len() <= 3,
            "{found}"
        );
    }
}

#[test]
fn a_location_beside_the_file_is_kept_as_it_is() {
    for (location, inside) in [
        ("model.data", true),
        ("sub/dir/model.data", true),
        ("...", true),
        ("..data", true),
        ("with space", true),
        (".", false),
        ("./model.data", false),
        ("sub/..", false),
        ("sub/", false),
        ("\\\\host\\share", false),
        ("a:b", false),
        ("a\0b", false),
    ] {
        let mut builder = LayoutBuilder::new(Container::Onnx, 0);
        let (location, tensors) = (location.to_owned(), Vec::new());
        let external = External { location, tensors };
        assert_eq!(
            builder.external(external.clone()).is_ok(),
            inside,
            "{external:?}"
        );
        let kept = builder.finish().unwrap();
        assert_eq!(
            kept.externals(),
            if inside { vec![external] } else { vec![] }
        );
    }
}

/// Claims about a file of `len` bytes: offset, elements, whether an element has two bytes.
fn claims() -> impl Strategy<Value = (u64, Vec<(u64, u64, bool)>)> {
    (
        0u64..40,
        prop::collection::vec((0u64..44, 0u64..12, any::<bool>()), 0..6),
    )
}

/// The model: each byte belongs to one claim at most, unless two claims are of the same place.
fn expected_owners(len: u64, claims: &[(u64, u64, bool)]) -> Option<Vec<Option<(u64, u64)>>> {
    let mut owners = vec![None; len as usize];
    for &(offset, elements, wide) in claims {
        let bytes = elements * if wide { 2 } else { 1 };
        for at in offset..offset + bytes {
            let owner = owners.get_mut(at as usize)?;
            if owner.is_some_and(|place| place != (offset, bytes)) {
                return None;
            }
            *owner = Some((offset, bytes));
        }
        // An empty tensor has no part, but its place must be in the file all the same.
        if offset > len {
            return None;
        }
    }
    Some(owners)
}

fn build(len: u64, claims: &[(u64, u64, bool)]) -> Result<mmh_formats::Layout> {
    let mut builder = LayoutBuilder::new(Container::Unknown, len);
    for (i, &(offset, elements, wide)) in claims.iter().enumerate() {
        let (dtype, width) = if wide {
            (Dtype::F16, 2)
        } else {
            (Dtype::U8, 1)
        };
        builder.storage(offset, elements * width, i.to_string(), dtype)?;
    }
    builder.finish()
}

/// The rules of safetensors, spelled out naively: in order of offset, each begins where the one
/// before ended, has the length of its shape, and the last ends with the file.
fn is_contiguous(tensors: &[(u64, u64, u64)], data_len: u64) -> bool {
    let mut sorted: Vec<_> = tensors
        .iter()
        .map(|&(begin, end, _)| (begin, end))
        .collect();
    sorted.sort_unstable();
    let begins: Vec<u64> = sorted
        .iter()
        .map(|place| place.0)
        .chain([data_len])
        .collect();
    let ends: Vec<u64> = [0]
        .into_iter()
        .chain(sorted.iter().map(|place| place.1))
        .collect();
    begins == ends
        && tensors
            .iter()
            .all(|&(begin, end, n)| end.checked_sub(begin) == Some(n))
}

proptest! {
    #[test]
    fn the_builder_does_what_a_map_of_bytes_does((len, claims) in claims()) {
        let expected = expected_owners(len, &claims);
        match build(len, &claims) {
            Err(error) => {
                prop_assert!(matches!(error, Error::Malformed { .. }), "{}", error);
                prop_assert!(expected.is_none(), "{} refused: {}", len, error);
            }
            Ok(layout) => {
                let mut owners = vec![None; len as usize];
                for (part, _) in layout.tensors() {
                    for at in part.offset..part.offset + part.len {
                        owners[at as usize] = Some((part.offset, part.len));
                    }
                }
                prop_assert_eq!(Some(owners), expected);
            }
        }
    }

    #[test]
    fn safetensors_offsets_obey_the_rules(
        lens in prop::collection::vec(0u64..5, 0..5),
        twist in prop::option::of((0usize..5, 0usize..3, 0u64..6)),
        rotate in 0usize..5,
        extra in 0usize..12,
    ) {
        let mut at = 0;
        let mut tensors: Vec<(u64, u64, u64)> = lens.iter().map(|len| {
            at += len;
            (at - len, at, *len)
        }).collect();
        let data_len = at + extra.saturating_sub(9) as u64;
        if let Some((i, field, value)) = twist && let Some(tensor) = tensors.get_mut(i) {
            *[&mut tensor.0, &mut tensor.1, &mut tensor.2][field] = value;
        }
        let n = tensors.len().max(1);
        tensors.rotate_left(rotate % n);
        let entry = |(i, (begin, end, n)): (usize, &(u64, u64, u64))| {
            format!(r#""t{i}":{{"dtype":"U8","shape":[{n}],"data_offsets":[{begin},{end}]}}"#)
        };
        let entries: Vec<String> = tensors.iter().enumerate().map(entry).collect();
        let header = format!("{{{}}}", entries.join(","));
        let file = safetensors::with_header(&header, &vec![7; data_len as usize]);
        let parsed = mmh_formats::safetensors::parse(&file);
        prop_assert_eq!(parsed.is_ok(), is_contiguous(&tensors, data_len), "{} {:?}", header, parsed);
    }

    /// Whatever follows a magic number, whatever the name: a layout that tiles, no error.
    #[test]
    fn any_bytes_behind_any_magic_tile(
        magic in prop::sample::select(vec![
            &b"GGUF\x03\0\0\0"[..], b"\x93NUMPY\x01\0", b"PK\x03\x04", b"PK\x05\x06", b"\x89HDF\r\n\x1a\n",
            b"\0\0\0\0TFL3", b"ARROW1\0\0", b"PAR1", b"\x80\x02", b"\x80\x04\x95", b"\x81\xa1k",
            b"\x06\0\0\0\x02\0S\0", b"\x08\x08\x12\x01p\x3a", b"\0\0\x01\x08",
        ]),
        name in prop::sample::select(vec![
            "", "a.index", "a.onnx", "a.safetensors", "a.pkl", "a.npy", "a.bin", "a.h5", "a.msgpack",
        ]),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let file = [magic, &bytes].concat();
        let layout = probe(&file, name).unwrap();
        mmh_formats::hostile::check_layout(&layout, file.len() as u64);
    }
}
