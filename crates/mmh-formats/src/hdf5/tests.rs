//! Datasets come back whatever the form of the file; damage is an error.

use mmh_core::Dtype;

use super::*;
use crate::error::Error;
use crate::hostile::attack;
use crate::samples::SampleTensor;
use crate::samples::hdf5::{Form, Storage, file};

const FORMS: [Form; 2] = [Form::Old, Form::New];

fn tensors() -> Vec<SampleTensor> {
    vec![
        SampleTensor::new("/model_weights/conv/bias:0", Dtype::F16, &[3]),
        SampleTensor::new("/model_weights/conv/kernel:0", Dtype::F32, &[2, 3]),
        SampleTensor::new("/model_weights/half", Dtype::BF16, &[3, 1, 2]),
        SampleTensor::new("/step", Dtype::I64, &[1]),
    ]
}

#[test]
fn datasets_in_one_run_are_found() {
    for form in FORMS {
        for storage in [Storage::Contiguous, Storage::Compact] {
            let bytes = file(&tensors(), form, storage);
            assert!(matches(&bytes, "weights.h5"));
            let layout = parse(&bytes).unwrap();
            assert_eq!((layout.container(), layout.note()), (Container::Hdf5, None));
            crate::samples::assert_holds(&layout, &bytes, &tensors());
        }
    }
}

#[test]
fn chunks_are_parts_of_their_own() {
    let rows = [[0, 0], [1, 0]].map(|at| {
        let mut row = SampleTensor::new("/model_weights/conv/kernel:0", Dtype::F32, &[2, 3]);
        let from = at[0] * 12;
        row.data = row.data[from..from + 12].to_vec();
        row.shape = vec![1, 3];
        row.name = format!("{}{at:?}", row.name);
        row
    });
    for form in FORMS {
        let bytes = file(&tensors()[1..2], form, Storage::Chunked);
        crate::samples::assert_holds(&parse(&bytes).unwrap(), &bytes, &rows);
        let bytes = file(&tensors(), form, Storage::Filtered);
        assert_eq!(parse(&bytes).unwrap().tensors().count(), 0);
    }
}

#[test]
fn empty_datasets_and_groups_are_no_parts() {
    for form in FORMS {
        let empty = [SampleTensor::new("/a", Dtype::F32, &[0, 4])];
        let bytes = file(&empty, form, Storage::Contiguous);
        assert_eq!(parse(&bytes).unwrap().parts().len(), 1);
        assert_eq!(
            parse(&file(&[], form, Storage::Contiguous))
                .unwrap()
                .tensors()
                .count(),
            0
        );
    }
}

/// A block of the user's own before the superblock; all addresses are relative to its end.
#[test]
fn a_user_block_shifts_every_address() {
    let inner = file(&tensors(), Form::Old, Storage::Contiguous);
    let mut bytes = vec![b'%'; 512];
    bytes.extend(&inner);
    bytes[512 + 24..512 + 32].copy_from_slice(&512u64.to_le_bytes());
    assert!(matches(&bytes, "v73.mat"));
    crate::samples::assert_holds(&parse(&bytes).unwrap(), &bytes, &tensors());
}

/// Two links to one object, and a group that holds itself.
#[test]
fn hard_links_and_cycles_are_followed_once() {
    let mut bytes = file(&tensors()[3..], Form::New, Storage::Contiguous);
    let root = u64::from_le_bytes(bytes[36..44].try_into().unwrap());
    let name_at = bytes.windows(4).position(|w| w == b"step").unwrap();
    bytes[name_at + 4..name_at + 12].copy_from_slice(&root.to_le_bytes());
    assert_eq!(parse(&bytes).unwrap().tensors().count(), 0);
}

#[test]
fn big_endian_numbers_stay_bytes() {
    let mut bytes = file(&tensors()[1..2], Form::New, Storage::Contiguous);
    let at = bytes
        .windows(5)
        .position(|w| w == [0x11, 0x20, 0, 0, 4])
        .unwrap();
    bytes[at + 1] |= 1;
    assert_eq!(parse(&bytes).unwrap().tensors().count(), 0);
}

#[test]
fn what_is_not_read_is_noted() {
    let mut bytes = file(&tensors()[1..2], Form::New, Storage::Chunked);
    let at = bytes.windows(3).position(|w| w == [3, 2, 3]).unwrap();
    bytes[at] = 4;
    let layout = parse(&bytes).unwrap();
    assert!(layout.note().unwrap().contains("chunk index"));
}

#[test]
fn broken_structures_are_refused() {
    let good = file(&tensors(), Form::Old, Storage::Contiguous);
    for signature in [&b"TREE"[..], b"HEAP", b"SNOD"] {
        let mut bytes = good.clone();
        let at = bytes.windows(4).position(|w| w == signature).unwrap();
        bytes[at] ^= 1;
        assert!(matches!(parse(&bytes), Err(Error::Malformed { .. })));
    }
    let mut bytes = good.clone();
    bytes[13] = 3;
    assert!(matches!(parse(&bytes), Err(Error::Malformed { .. })));
    assert!(matches!(
        parse(&vec![0; 4000]),
        Err(Error::Malformed { .. })
    ));
}

#[test]
fn withstands_bad_input() {
    for form in FORMS {
        for storage in [Storage::Contiguous, Storage::Compact, Storage::Chunked] {
            attack(parse, &file(&tensors(), form, storage), 1500);
        }
    }
}
