//! How sizes of chunks are shared out among what lies in them.

use mmh_core::Dtype;
use proptest::prelude::*;

use super::*;

fn info(name: &str) -> TensorInfo {
    TensorInfo {
        name: name.to_owned(),
        dtype: Dtype::F16,
        shape: vec![2, 5],
    }
}

fn piece(slot: Slot, len: u32, begins: Option<&str>, place: Place) -> Piece {
    Piece {
        slot,
        start: 0,
        len,
        begins: begins.map(info),
        place,
    }
}

fn sized(raw: u64, coded: u64, method: &str) -> Sized {
    Sized {
        raw,
        coded,
        method: method.to_owned(),
        ..Sized::default()
    }
}

/// Bytes between tensors never count as theirs, whether they have a chunk or share one.
#[test]
fn bytes_go_to_the_tensor_that_they_belong_to() {
    let sizes = BTreeMap::from([
        (0, sized(100, 50, "zstd")),
        (1, sized(1000, 700, "float")),
        (2, sized(20, 20, "raw")),
        (3, sized(40, 30, "integer")),
    ]);
    let pieces = vec![
        piece(0, 60, None, Place::Pooled),
        piece(1, 1000, Some("large"), Place::Begins),
        piece(2, 20, None, Place::Continues),
        piece(0, 40, None, Place::Pooled),
        piece(3, 40, Some("small"), Place::Pooled),
        piece(2, 20, None, Place::Begins),
        piece(2, 20, None, Place::Continues),
    ];
    let parts = parts(pieces, &sizes);
    let shown: Vec<_> = parts
        .iter()
        .map(|p| (p.name.as_deref(), p.raw, p.coded, p.method.as_str()))
        .collect();
    assert_eq!(
        shown,
        [
            (Some("large"), 1020, 720, "float"),
            (Some("small"), 40, 30, "integer"),
            (None, 140, 90, "zstd"),
        ]
    );
}

#[test]
fn a_file_of_tensors_alone_has_no_other_part() {
    let sizes = BTreeMap::from([(0, sized(20, 10, "float"))]);
    let only = parts(vec![piece(0, 20, Some("w"), Place::Begins)], &sizes);
    assert_eq!(only.len(), 1);
    assert_eq!(only[0].elements, 10);
    assert_eq!(only[0].bits_per_weight(), Some((16.0, 8.0)));
    assert!(parts(Vec::new(), &BTreeMap::new()).is_empty());
}

/// Bits of a weight mean nothing for bytes, nor for a tensor without elements.
#[test]
fn what_has_no_weights_has_no_bits_per_weight() {
    assert_eq!(PartReport::new(None).bits_per_weight(), None);
    let empty = TensorInfo {
        shape: vec![4, 0],
        ..info("empty")
    };
    assert_eq!(PartReport::new(Some(empty)).bits_per_weight(), None);
    let overflow = TensorInfo {
        shape: vec![u64::MAX, 3],
        ..info("huge")
    };
    assert_eq!(PartReport::new(Some(overflow)).bits_per_weight(), None);
}

proptest! {
    /// Shares are rounded up, by less than a byte for each piece, and never lost.
    #[test]
    fn shares_of_a_chunk_add_up(
        lens in prop::collection::vec(1u32..5000, 1..40),
        coded in 0u64..300_000,
    ) {
        let raw = lens.iter().map(|n| u64::from(*n)).sum();
        let sizes = BTreeMap::from([(0, sized(raw, coded, "float"))]);
        let names: Vec<_> = (0..lens.len()).map(|i| i.to_string()).collect();
        let pieces = lens.iter().zip(&names).map(|(n, name)| piece(0, *n, Some(name), Place::Pooled));
        let parts = parts(pieces.collect(), &sizes);
        prop_assert_eq!(parts.iter().map(|p| p.raw).sum::<u64>(), raw);
        let shared: u64 = parts.iter().map(|p| p.coded).sum();
        prop_assert!(shared >= coded && shared < coded + lens.len() as u64);
    }
}
