//! Arrays that are hidden in unknown bytes are found to the byte, or nearly so.

use mmh_core::Dtype;
use proptest::prelude::*;

use super::*;
use crate::hostile::check_layout;

/// xorshift64, for numbers that look like weights.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Nearly normal, with deviation 0.05.
    fn weight(&mut self) -> f64 {
        let sum: f64 = (0..12)
            .map(|_| (self.next() >> 40) as f64 / f64::from(1u32 << 24))
            .sum();
        (sum - 6.0) * 0.05
    }
}

fn weights(dtype: Dtype, n: usize) -> Vec<u8> {
    let mut rng = Rng(0x1234_5678_9abc_def1);
    let mut out = Vec::new();
    for _ in 0..n {
        let weight = rng.weight();
        #[allow(clippy::cast_possible_truncation, reason = "rounding is meant")]
        let single = (weight as f32).to_bits();
        match dtype {
            Dtype::F64 => out.extend(weight.to_le_bytes()),
            Dtype::F32 => out.extend(single.to_le_bytes()),
            Dtype::BF16 => out.extend(u16::try_from(single >> 16).unwrap().to_le_bytes()),
            Dtype::F16 => {
                let exponent = (single >> 23 & 0xff).saturating_sub(112);
                let half = single >> 16 & 0x8000 | exponent << 10 | single >> 13 & 0x3ff;
                out.extend(u16::try_from(half).unwrap().to_le_bytes());
            }
            Dtype::I32 => out.extend(((rng.next() % 30_000) as i32).to_le_bytes()),
            other => panic!("no weights of {other}"),
        }
    }
    out
}

fn noise(len: usize) -> Vec<u8> {
    let mut rng = Rng(99);
    (0..len).map(|_| rng.next().to_le_bytes()[2]).collect()
}

fn sniffed(bytes: &[u8]) -> Layout {
    let layout = Layout::bytes(Container::Unknown, bytes.len() as u64);
    let layout = sniff(&bytes.to_vec(), layout).unwrap();
    check_layout(&layout, bytes.len() as u64);
    layout
}

#[test]
fn each_type_is_told_from_the_others() {
    for dtype in [Dtype::F64, Dtype::F32, Dtype::BF16, Dtype::F16, Dtype::I32] {
        let layout = sniffed(&weights(dtype, 20_000));
        let found: Vec<_> = layout
            .tensors()
            .map(|(part, info)| (part.offset, info.dtype))
            .collect();
        assert_eq!(found, [(0, dtype)], "{dtype}");
        assert_eq!(layout.container(), Container::Array);
        assert_eq!(layout.parts().len(), 1, "{dtype}: the array fills the file");
    }
}

/// The place of an array depends on its content, not on the blocks: a header of any length
/// before it moves the part by exactly that length.
#[test]
fn an_array_behind_noise_is_found_to_the_element() {
    let array = weights(Dtype::F32, 30_000);
    for shift in [1usize, 2, 3, 1001, 5000, 12_345] {
        let bytes = [noise(shift), array.clone(), noise(9000)].concat();
        let layout = sniffed(&bytes);
        let [(part, info)] = layout.tensors().collect::<Vec<_>>()[..] else {
            panic!("{shift}")
        };
        assert_eq!(info.dtype, Dtype::F32);
        let (start, end) = (part.offset as i64, (part.offset + part.len) as i64);
        assert_eq!(
            (start - shift as i64).rem_euclid(4),
            0,
            "{shift}: whole elements"
        );
        assert!(
            (start - shift as i64).abs() <= 32,
            "{shift}: starts at {start}"
        );
        assert!(
            (end - (shift + array.len()) as i64).abs() <= 32,
            "{shift}: ends at {end}"
        );
    }
}

/// Matrices with short headers of odd length between them, as speech toolkits write them.
#[test]
fn arrays_of_different_phase_are_told_apart() {
    let array = weights(Dtype::F32, 10_000);
    let bytes = [&array[..], b"<next>!", &array, b"x", &array].concat();
    let layout = sniffed(&bytes);
    let tensors: Vec<_> = layout.tensors().collect();
    assert_eq!(tensors.len(), 3);
    let covered: u64 = tensors.iter().map(|(part, _)| part.len).sum();
    assert!(covered > bytes.len() as u64 * 99 / 100, "{covered}");
}

#[test]
fn zeros_within_an_array_do_not_end_it() {
    let array = weights(Dtype::F32, 10_000);
    let bytes = [&array[..], &vec![0; 40_000], &array].concat();
    assert_eq!(sniffed(&bytes).tensors().count(), 1);
}

#[test]
fn noise_zeros_text_and_short_files_have_no_arrays() {
    assert_eq!(sniffed(&noise(100_000)).container(), Container::Unknown);
    assert_eq!(sniffed(&vec![0; 100_000]).container(), Container::Unknown);
    assert_eq!(
        sniffed(&weights(Dtype::F32, 1000)).container(),
        Container::Unknown
    );
    assert_eq!(sniffed(b"").container(), Container::Unknown);
    let machine_text: Vec<u8> = noise(100_000).iter().map(|b| b % 90 + 0x80).collect();
    assert_eq!(sniffed(&machine_text).container(), Container::Unknown);
}

/// Tables of a program: wide integers, but the same few again and again, which a general
/// compressor holds in less.
#[test]
fn integers_that_repeat_stay_bytes() {
    let table: Vec<u8> = (0..20_000u64)
        .flat_map(|i| (0x40_0000 + 24 * (i * i % 53)).to_le_bytes())
        .collect();
    assert_eq!(sniffed(&table).container(), Container::Unknown);
}

#[test]
fn text_is_valid_utf8_without_control_characters() {
    let word = "Gewichte, größer als тысяча\r\n\t";
    for n in [1, 300, 5000] {
        assert_eq!(
            sniffed(word.repeat(n).as_bytes()).container(),
            Container::Text
        );
    }
    assert_eq!(sniffed(b"a\0b").container(), Container::Unknown);
    assert_eq!(sniffed(b"caf\xe9").container(), Container::Unknown);
    assert_eq!(sniffed(b"\x80abc").container(), Container::Unknown);
    assert_eq!(
        sniffed("cut at the end: \u{e9}".as_bytes().split_last().unwrap().1).container(),
        Container::Unknown
    );
}

/// A known container keeps its name, tensors, externals and note, and gains what is found.
#[test]
fn arrays_between_known_tensors_are_added() {
    let array = weights(Dtype::F32, 100_000);
    let bytes = [&[1, 2, 3, 4][..], &array].concat();
    let mut builder = LayoutBuilder::new(Container::Zip, bytes.len() as u64);
    let info = TensorInfo {
        name: "known".to_owned(),
        dtype: Dtype::U8,
        shape: vec![4],
    };
    builder.tensor(0, 4, info).unwrap();
    let layout = builder.finish().unwrap().with_note("remark");
    let layout = sniff(&bytes, layout).unwrap();
    check_layout(&layout, bytes.len() as u64);
    let names: Vec<_> = layout
        .tensors()
        .map(|(_, info)| info.name.as_str())
        .collect();
    assert_eq!(names, ["known", "array@4"]);
    assert_eq!(
        (layout.container(), layout.note()),
        (Container::Zip, Some("remark"))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Whatever the bytes, the parts tile the file.
    #[test]
    fn any_mixture_is_tiled(pieces in prop::collection::vec((0usize..6, 0usize..30_000), 0..6)) {
        let mut bytes = Vec::new();
        for (kind, len) in pieces {
            match kind {
                0 => bytes.extend(noise(len)),
                1 => bytes.extend(vec![0; len]),
                2 => bytes.extend(weights(Dtype::F32, len / 4)),
                3 => bytes.extend(weights(Dtype::F64, len / 8)),
                4 => bytes.extend(weights(Dtype::BF16, len / 2)),
                _ => bytes.extend("text ".repeat(len / 5).as_bytes()),
            }
        }
        sniffed(&bytes);
    }
}
