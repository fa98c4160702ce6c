//! The cheapest coding is found: bounds on size that only a working choice meets.

use mmh_codec::samples::{Noise, convolution, weights};
use mmh_codec::{Hint, Method};
use mmh_core::Dtype;

use crate::{encode, info};

fn percent(raw: &[u8], hint: &Hint) -> (Method, f64) {
    let (method, frame) = encode(raw, hint);
    (method, 100.0 * frame.len() as f64 / raw.len() as f64)
}

/// 1 MiB of normal numbers whose rows differ in scale: 3.5 bits of exponent and top mantissa
/// bit, 7 bits that are noise.
#[test]
fn bf16_weights_are_near_their_entropy() {
    let raw = weights(Dtype::BF16, 384, 1 << 20, 1);
    let (method, by_rows) = percent(&raw, &Hint::tensor(Dtype::BF16, 384));
    assert_eq!(method, Method::Float);
    assert!(by_rows < 66.5, "{by_rows}");
    let (_, zstd) = percent(&raw, &Hint::bytes());
    assert!(zstd > by_rows + 8.0, "{zstd}");
}

/// Knowing the rows is worth something where they differ in scale.
#[test]
fn row_classes_save_bits() {
    let raw = weights(Dtype::BF16, 320, 1 << 19, 6);
    let aligned = percent(&raw, &Hint::tensor(Dtype::BF16, 320)).1;
    let askew = percent(&raw, &Hint::tensor(Dtype::BF16, 0)).1;
    assert!(aligned < askew, "{aligned} {askew}");
}

#[test]
fn widened_numbers_cost_what_they_did_before() {
    let narrow = weights(Dtype::BF16, 256, 1 << 19, 2);
    let wide: Vec<u8> = narrow
        .as_chunks::<2>()
        .0
        .iter()
        .flat_map(|&[a, b]| [0, 0, a, b])
        .collect();
    let before = encode(&narrow, &Hint::tensor(Dtype::BF16, 256)).1.len();
    let after = encode(&wide, &Hint::tensor(Dtype::F32, 256)).1.len();
    assert!(after <= before + 16, "{before} {after}");
}

#[test]
fn rows_that_were_f16_are_found_among_f32() {
    let mut raw = weights(Dtype::F32, 512, 1 << 20, 3);
    for row in raw.chunks_exact_mut(4 * 512).step_by(2) {
        for number in row.chunks_exact_mut(4) {
            number[0] = 0;
            number[1] &= 0xe0;
        }
    }
    let (_, size) = percent(&raw, &Hint::tensor(Dtype::F32, 512));
    // Half of the rows lose 13 bits of 32.
    assert!(size < 83.0 - 100.0 * 13.0 / 64.0 + 1.0, "{size}");
}

#[test]
fn constant_planes_cost_nothing() {
    let zeros = vec![0; 1 << 20];
    for dtype in [Dtype::F32, Dtype::I64, Dtype::Q6_K, Dtype::Bool] {
        let (_, frame) = encode(&zeros, &Hint::tensor(dtype, 256));
        assert!(frame.len() < 100, "{dtype} {}", frame.len());
    }
    let positive: Vec<u8> = weights(Dtype::BF16, 256, 1 << 18, 5)
        .chunks_exact(2)
        .flat_map(|pair| [pair[0], pair[1] & 0x7f])
        .collect();
    let (_, size) = percent(&positive, &Hint::tensor(Dtype::BF16, 256));
    assert!(
        size < 66.5 - 100.0 / 16.0 + 0.5,
        "no bit for a sign that is never set: {size}"
    );
}

/// Equal rows, as in an embedding that was never trained, are for zstd.
#[test]
fn repeated_rows_are_left_to_zstd() {
    let row = weights(Dtype::F32, 1024, 4096, 4);
    let (method, size) = percent(&row.repeat(256), &Hint::tensor(Dtype::F32, 1024));
    assert_eq!(method, Method::Zstd);
    assert!(size < 2.0, "{size}");
}

/// Bell-shaped codes of 8 and of 4 bits, within a hundredth of their entropy.
#[test]
fn narrow_codes_beat_zstd() {
    let mut noise = Noise::new(1);
    #[allow(clippy::cast_possible_truncation, reason = "small numbers")]
    let mut code = |scale: f32| ((noise.normal() * scale) as i8).to_le_bytes()[0];
    let bytes: Vec<u8> = (0..1 << 19).map(|_| code(24.0)).collect();
    let pairs: Vec<u8> = (0..1 << 19)
        .map(|_| code(2.0) & 15 | code(2.0) << 4)
        .collect();
    for (dtype, raw, limit) in [
        (Dtype::I8, &bytes, 83.0),
        (Dtype::F8_E4M3, &bytes, 83.0),
        (Dtype::I4, &pairs, 70.0),
    ] {
        let (_, size) = percent(raw, &Hint::tensor(dtype, 1024));
        let (_, zstd) = percent(raw, &Hint::bytes());
        assert!(
            size < zstd && size < limit,
            "{dtype}: {size} against {zstd}"
        );
    }
}

#[test]
fn noise_is_stored_as_it_is() {
    let mut noise = Noise::new(2);
    let raw: Vec<u8> = (0..100_000).map(|_| noise.below(256)).collect();
    for hint in [
        Hint::bytes(),
        Hint::tensor(Dtype::U8, 100),
        Hint::tensor(Dtype::U64, 0),
    ] {
        let (method, frame) = encode(&raw, &hint);
        assert_eq!(
            (method, frame.len()),
            (Method::Raw, raw.len() + 5),
            "{hint:?}"
        );
    }
}

/// 4 MiB hold no whole number of 22-byte blocks: the second chunk of a tensor begins within
/// one, and must not cost more for it. A chunk that begins with a block must not either.
#[test]
fn a_chunk_may_begin_within_a_block() {
    let mut noise = Noise::new(3);
    let block = |_| {
        let scale = [noise.below(256), 0x20 + noise.below(2)];
        let codes: Vec<u8> = (0..20)
            .map(|_| noise.below(16).min(noise.below(16)) * 17)
            .collect();
        [&scale[..], &codes].concat()
    };
    let tensor: Vec<u8> = (0..205_000).flat_map(block).collect();
    let chunk = 4 << 20;
    let hint = |first| Hint {
        first,
        ..Hint::tensor(Dtype::Q5_0, 0)
    };
    let whole = percent(&tensor[..220_000], &hint(0)).1;
    let cut = percent(
        &tensor[chunk..chunk + 220_000],
        &hint(32 * (chunk as u64 / 22)),
    )
    .1;
    assert!(cut < whole + 0.3, "{cut} {whole}");
    let aligned = percent(&tensor[22 * 190_650..][..220_000], &hint(32 * 190_650)).1;
    assert!(aligned < whole + 0.3, "{aligned} {whole}");
}

#[test]
fn a_frame_tells_its_planes() {
    let raw = weights(Dtype::F32, 256, 1 << 18, 2);
    let (_, frame) = encode(&raw, &Hint::tensor(Dtype::F32, 256));
    let info = info(&frame);
    let planes: Vec<_> = info.planes.iter().map(|p| (p.name, p.coder)).collect();
    assert_eq!(
        planes,
        [
            ("exponent", "rans"),
            ("mantissa", "packed"),
            ("low", "packed")
        ]
    );
    let coded: usize = info.planes.iter().map(|p| p.coded_len).sum();
    assert!(coded < frame.len() && coded + 30 > frame.len());
}

/// Dense coding takes longer to decode: it is chosen where kernels are alike, which saves more
/// of short numbers than of long ones, and not for what has no kernels.
#[test]
fn dense_coding_must_save_enough() {
    let n = 1 << 17;
    let coder = |raw: &[u8], dtype, row_len| {
        let (_, frame) = encode(raw, &Hint::tensor(dtype, row_len));
        info(&frame).planes[0].coder
    };
    for sides in [[3, 3, 1], [3, 3, 3]] {
        let row_len = 16 * sides.iter().product::<usize>() as u64;
        for dtype in [Dtype::BF16, Dtype::F16] {
            let raw = convolution(dtype, sides, 16, n, 4);
            assert_eq!(coder(&raw, dtype, row_len), "dense", "{sides:?} {dtype}");
        }
    }
    for dtype in [Dtype::BF16, Dtype::F16, Dtype::F32] {
        let raw = weights(dtype, 288, n * dtype.block().1 as usize, 4);
        assert_eq!(coder(&raw, dtype, 288), "rans", "{dtype}");
    }
}
