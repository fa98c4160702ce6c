//! Element types against the tables of the formats that define them.

use mmh_core::{Dtype, Error, TensorInfo};
use proptest::prelude::*;

/// GGUF block types: name, elements, and the parts of the block in bytes as the format's own
/// structures list them: scales, minimums, high bits, codes.
const GGUF: [(&str, u32, &[u32]); 25] = [
    ("Q4_0", 32, &[2, 16]),
    ("Q4_1", 32, &[2, 2, 16]),
    ("Q5_0", 32, &[2, 4, 16]),
    ("Q5_1", 32, &[2, 2, 4, 16]),
    ("Q8_0", 32, &[2, 32]),
    ("Q8_1", 32, &[2, 2, 32]),
    ("Q2_K", 256, &[16, 64, 2, 2]),
    ("Q3_K", 256, &[32, 64, 12, 2]),
    ("Q4_K", 256, &[2, 2, 12, 128]),
    ("Q5_K", 256, &[2, 2, 12, 32, 128]),
    ("Q6_K", 256, &[128, 64, 16, 2]),
    ("Q8_K", 256, &[4, 256, 32]),
    ("IQ2_XXS", 256, &[2, 64]),
    ("IQ2_XS", 256, &[2, 64, 8]),
    ("IQ3_XXS", 256, &[2, 96]),
    ("IQ1_S", 256, &[2, 32, 16]),
    ("IQ4_NL", 32, &[2, 16]),
    ("IQ3_S", 256, &[2, 64, 8, 32, 4]),
    ("IQ2_S", 256, &[2, 64, 8, 8]),
    ("IQ4_XS", 256, &[2, 2, 4, 128]),
    ("IQ1_M", 256, &[32, 16, 8]),
    ("TQ1_0", 256, &[48, 4, 2]),
    ("TQ2_0", 256, &[64, 2]),
    ("MXFP4", 32, &[1, 16]),
    ("F32", 1, &[4]),
];

/// Plain types: name and bits of an element.
const PLAIN: [(&str, u32); 21] = [
    ("BOOL", 8),
    ("U8", 8),
    ("I8", 8),
    ("U16", 16),
    ("I16", 16),
    ("U32", 32),
    ("I32", 32),
    ("U64", 64),
    ("I64", 64),
    ("F16", 16),
    ("BF16", 16),
    ("F32", 32),
    ("F64", 64),
    ("C64", 64),
    ("C128", 128),
    ("F8_E4M3", 8),
    ("F8_E5M2", 8),
    ("F8_E8M0", 8),
    ("I4", 4),
    ("U4", 4),
    ("F4", 4),
];

#[test]
fn block_types_have_the_sizes_of_their_structures() {
    for (name, elements, parts) in GGUF {
        let dtype: Dtype = name.parse().unwrap();
        assert_eq!(dtype.block(), (elements, parts.iter().sum()), "{name}");
    }
}

/// The two tables together are all types, so that a new type needs a line in one of them.
#[test]
fn plain_types_have_their_bits_and_no_type_is_left() {
    for (name, bits) in PLAIN {
        let dtype: Dtype = name.parse().unwrap();
        assert!(
            (dtype.bits_per_element() - f64::from(bits)).abs() < f64::EPSILON,
            "{name}"
        );
        let (elements, bytes) = dtype.block();
        assert_eq!(bytes * 8, bits * elements, "{name}");
    }
    let mut named: Vec<&str> = GGUF.iter().map(|g| g.0).chain(PLAIN.map(|p| p.0)).collect();
    named.sort_unstable();
    named.dedup();
    let mut all: Vec<&str> = Dtype::ALL.iter().map(|d| d.as_str()).collect();
    all.sort_unstable();
    assert_eq!(all, named);
}

#[test]
fn other_spellings_of_a_type_are_refused() {
    for text in [
        "", "f32", "F32 ", " F32", "FP32", "float32", "Q4_k", "Q4_K_M", "F32\0", "BF", "Ｆ32", "I",
        "F128",
    ] {
        let error = text.parse::<Dtype>().unwrap_err();
        assert!(
            matches!(error, Error::BadName { what: "dtype", .. }),
            "{text:?}"
        );
    }
}

/// Tables in output line up: a width pads the name.
#[test]
fn a_type_is_padded_like_text() {
    assert_eq!(
        format!("{:<6}|{:>5}", Dtype::F32, Dtype::BF16),
        "F32   | BF16"
    );
}

fn info(dtype: Dtype, shape: &[u64]) -> TensorInfo {
    TensorInfo {
        name: String::new(),
        dtype,
        shape: shape.to_vec(),
    }
}

#[test]
fn shapes_follow_a_table() {
    const MOST: u64 = u64::MAX;
    /// Type, shape; elements, bytes, elements of a row.
    type Case = (Dtype, &'static [u64], Option<u64>, Option<u64>, u64);
    let cases: [Case; 16] = [
        (Dtype::F32, &[], Some(1), Some(4), 0),
        (Dtype::F32, &[0], Some(0), Some(0), 0),
        (Dtype::F32, &[3, 0, 5], Some(0), Some(0), 5),
        (Dtype::BF16, &[2, 3, 4], Some(24), Some(48), 12),
        (Dtype::U8, &[MOST], Some(MOST), Some(MOST), MOST),
        (Dtype::U16, &[MOST], Some(MOST), None, MOST),
        (Dtype::U8, &[1 << 32, 1 << 32], None, None, 1 << 32),
        (
            Dtype::U8,
            &[1 << 32, (1 << 32) - 1],
            Some(MOST - (1 << 32) + 1),
            Some(MOST - (1 << 32) + 1),
            (1 << 32) - 1,
        ),
        (Dtype::I4, &[3], Some(3), None, 3),
        (
            Dtype::I4,
            &[MOST - 1],
            Some(MOST - 1),
            Some(MOST / 2),
            MOST - 1,
        ),
        (Dtype::Q6_K, &[2, 256], Some(512), Some(420), 256),
        (Dtype::Q6_K, &[256, 2], Some(512), Some(420), 2),
        (Dtype::I8, &[4, 8, 3, 3], Some(288), Some(288), 72),
        (Dtype::I8, &[4, 8, 9, 3, 3], Some(2592), Some(2592), 81),
        (Dtype::I8, &[2, 9, 1, 1], Some(18), Some(18), 9),
        (Dtype::I8, &[2, 3, 64], Some(384), Some(384), 64),
    ];
    for (dtype, shape, elements, bytes, row) in cases {
        let info = info(dtype, shape);
        assert_eq!(
            (info.elements(), info.bytes()),
            (elements, bytes),
            "{dtype} {shape:?}"
        );
        assert_eq!(info.row_len(), row, "{dtype} {shape:?}");
    }
}

proptest! {
    /// Sizes are what 128-bit arithmetic says, or absent where 64 bits do not hold them.
    #[test]
    fn sizes_agree_with_wide_arithmetic(
        dtype in prop::sample::select(Dtype::ALL),
        shape in prop::collection::vec(prop_oneof![0u64..600, any::<u64>(), Just(1 << 32)], 0..3),
    ) {
        let info = info(dtype, &shape);
        let product: u128 = shape.iter().map(|&d| u128::from(d)).product();
        let elements = u64::try_from(product).ok();
        prop_assert_eq!(info.elements(), elements);
        let (per_block, block_len) = dtype.block();
        let whole = product.is_multiple_of(u128::from(per_block));
        let bytes = elements.filter(|_| whole).and_then(|n| {
            let blocks = u128::from(n) / u128::from(per_block);
            u64::try_from(blocks * u128::from(block_len)).ok()
        });
        prop_assert_eq!(info.bytes(), bytes);
    }
}
