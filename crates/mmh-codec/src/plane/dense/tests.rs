//! Dense records come back whatever the grid, and no damage of them does harm.

use proptest::prelude::*;

use super::super::testing::{plane_decoder, with_encoder};
use super::super::{Coder, Numbers, PlaneDecoder, put_record};
use super::grid::Grid;
use super::*;
use crate::entropy::engines;
use crate::error::Result;
use crate::input::Input;
use crate::layout::FloatFormat;
use crate::layout::Form;
use crate::samples::{Noise, convolution};

fn kernel(width: usize, height: usize, depth: usize) -> Kernel {
    Kernel {
        width,
        height,
        depth,
    }
}

fn record(values: &[u16], width: u32, grid: Grid) -> Vec<u8> {
    let mut coded = Vec::new();
    with_encoder(|encoder| encoder.dense(values, width, grid, &mut coded)).unwrap();
    let mut out = Vec::new();
    put_record(Coder::Dense, &coded, &mut out);
    out
}

fn read(record: &[u8], width: u32, n: usize) -> Result<Vec<u16>> {
    let mut values = vec![0; n];
    let mut input = Input::new(record);
    plane_decoder(|decoder| decoder.read(&mut input, width, &mut values))?;
    input.expect_end().map(|()| values)
}

fn grid(kernel: Kernel, channels: usize, before: usize, n: usize) -> Grid {
    Grid {
        kernel,
        channels,
        before,
        n,
    }
}

/// The plane of signs and exponents of a convolution.
fn plane(sides: [usize; 3], channels: usize, n: usize) -> Vec<u16> {
    let raw = convolution(mmh_core::Dtype::BF16, sides, channels, n, 5);
    let numbers = raw.as_chunks().0.iter();
    numbers.map(|&x| u16::from_le_bytes(x) >> 6).collect()
}

fn shapes() -> impl Strategy<Value = Grid> {
    let sides = (1usize..5, 1usize..4, 1usize..4);
    let rest = (1usize..9, any::<prop::sample::Index>(), 0usize..700);
    (sides, rest).prop_map(|((width, height, depth), (channels, before, n))| {
        let kernel = kernel(width, height, depth);
        grid(kernel, channels, before.index(channels * kernel.taps()), n)
    })
}

proptest! {
    #[test]
    fn planes_of_any_grid_come_back(grid in shapes(), width in 2u32..14, spread in 0u32..14, seed: u64) {
        let noise = &mut Noise::new(seed | 1);
        let values: Vec<u16> = (0..grid.n)
            .map(|_| u16::try_from(noise.bits() & ((1 << width) - 1)).unwrap() >> (spread % width))
            .collect();
        let record = record(&values, width, grid);
        prop_assert_eq!(read(&record, width, grid.n).unwrap(), values);
    }

    #[test]
    fn noise_is_an_error_or_a_plane(mut bytes in prop::collection::vec(any::<u8>(), 0..60), n in 0usize..200) {
        drop(read(&[&[7, 60], &bytes[..]].concat(), 10, n));
        // Past the grid, where noise would end.
        for (to, from) in bytes.iter_mut().zip([3, 1, 1, 4, 2, 9, 0, 0, 2, 3, 0]) {
            *to = from;
        }
        let len = u8::try_from(bytes.len()).unwrap();
        drop(read(&[&[7, len], &bytes[..]].concat(), 10, n));
    }
}

/// The point of it all: signs and exponents take fewer bits than their entropy.
#[test]
fn neighbours_and_columns_save_bits() {
    let n = 64 * 9 * 60;
    let values = plane([3, 3, 1], 64, n);
    let mut counts = vec![0u32; 1 << 10];
    values.iter().for_each(|&v| counts[usize::from(v)] += 1);
    let entropy = crate::log2::entropy(&counts) / crate::log2::ONE_BIT / 8;
    let dense = record(&values, 10, grid(kernel(3, 3, 1), 64, 0, n));
    assert_eq!(read(&dense, 10, n).unwrap(), values);
    let pointwise = record(
        &values.iter().map(|v| v & 511).collect::<Vec<u16>>(),
        9,
        grid(Kernel::POINT, 64 * 9, 0, n),
    );
    let with_signs = pointwise.len() + n / 8;
    let [entropy, dense, with_signs] = [entropy, dense.len() as u64, with_signs as u64];
    assert!(
        with_signs < entropy - entropy / 16,
        "{with_signs} {entropy}"
    );
    assert!(dense < with_signs - with_signs / 20, "{dense} {with_signs}");
}

#[test]
fn truncated_and_flipped_records_are_errors_or_planes() {
    let values = plane([3, 1, 1], 4, 500);
    let record = record(&values, 10, grid(kernel(3, 1, 1), 4, 5, 500));
    for cut in 0..record.len() {
        assert!(read(&record[..cut], 10, 500).is_err(), "{cut}");
    }
    for bit in 0..8 * record.len() {
        let mut bad = record.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        if let Ok(values) = read(&bad, 10, 500) {
            assert!(values.iter().all(|value| value >> 10 == 0));
        }
    }
}

/// A plane whose sizes reach the bit of the sign has a second spelling.
#[test]
fn sizes_that_reach_the_sign_are_refused() {
    let values = vec![0x1ff; 100];
    let good = record(&values, 10, grid(kernel(2, 1, 1), 5, 0, 100));
    assert_eq!(read(&good, 10, 100).unwrap(), values);
    assert!(read(&good, 9, 100).is_err());
}

#[test]
fn escapes_are_neither_too_few_nor_too_many() {
    let noise = &mut Noise::new(3);
    let values: Vec<u16> = (0..300).map(|_| u16::from(noise.below(256))).collect();
    let grid = grid(Kernel::POINT, 3, 0, 300);
    let good = record(&values, 9, grid);
    assert_eq!(read(&good, 9, 300).unwrap(), values);
    // The number of escapes stands after the scales of columns and of rows.
    let mut input = Input::new(&good);
    input.u8().and_then(|_| input.varint()).unwrap();
    Grid::read(&mut input, 300).unwrap();
    input.take(2 + 1).and_then(|_| input.sized()).unwrap();
    input.take(1 + 1).and_then(|_| input.sized()).unwrap();
    let at = good.len() - input.len();
    let count = input.varint().unwrap();
    assert!((128..299).contains(&count), "{count}");
    for wrong in [count - 1, count + 1] {
        let mut bad = good.clone();
        let mut spelling = Vec::new();
        crate::input::put_varint(&mut spelling, wrong);
        bad[at..at + 2].copy_from_slice(&spelling);
        assert!(read(&bad, 9, 300).is_err());
    }
}

const fn form(signed: bool) -> Form {
    if signed { Form::Signed } else { Form::Plain }
}

/// Numbers whose first plane is dense, and its record beside those of the other planes; `signed`
/// if that plane has their signs.
fn numbers(format: FloatFormat, signed: bool, grid: Grid) -> (Vec<u8>, Vec<u8>) {
    let noise = &mut Noise::new(8);
    let planes = format.planes_of(form(signed)).into_iter();
    let widths: Vec<u32> = planes.map(|(_, width)| width).collect();
    let mut draw = |width: u32| {
        let word = u16::from_le_bytes([noise.below(256), noise.below(256)]);
        word & (u16::MAX >> (16 - width))
    };
    let (mut planes, mut records) = (Vec::new(), Vec::new());
    for (i, &width) in widths.iter().enumerate() {
        let mut values: Vec<u16> = (0..grid.n).map(|_| draw(width)).collect();
        if i > 0 {
            let shape = super::super::testing::shape(width, 0);
            with_encoder(|encoder| encoder.put(&values, shape, &mut records)).unwrap();
        } else {
            // Some far from the others, with each sign.
            let top = 1 << (width - 1);
            for (place, value) in values.iter_mut().enumerate() {
                if place % 50 > 0 {
                    *value = *value & top | (20 + u16::try_from(place % 9).unwrap());
                }
            }
            records.extend(record(&values, width, grid));
        }
        planes.push(values);
    }
    if signed {
        format.return_signs(&mut planes);
    }
    let mut raw = vec![0; grid.n * format.len()];
    format.join(&planes, &mut raw).unwrap();
    (records, raw)
}

/// Every engine makes the numbers, whether a code's sign is that of the number or not, and part
/// by part as well as at once.
#[test]
fn dense_numbers_are_joined_by_every_engine() {
    let formats = [
        FloatFormat::Bf16,
        FloatFormat::F16,
        FloatFormat::F32,
        FloatFormat::F64,
    ];
    for format in formats {
        for (sides, before) in [((3, 3, 1), 5), ((1, 1, 1), 7), ((3, 3, 3), 0)] {
            for signed in [false, true] {
                if signed && sides.0 == 1 && format == FloatFormat::F64 {
                    // No encoder has sizes of 13 bits.
                    continue;
                }
                let n = if format == FloatFormat::Bf16 {
                    70_001
                } else {
                    3000
                };
                let kernel = kernel(sides.0, sides.1, sides.2);
                let grid = grid(kernel, 12, before, n);
                let (records, raw) = numbers(format, signed, grid);
                for &engine in engines() {
                    let mut buffers = crate::plane::Buffers::default();
                    let mut decoder = PlaneDecoder {
                        engine,
                        unpacker: &mut crate::zstd::Unpacker::default(),
                        buffers: &mut buffers,
                    };
                    let mut input = Input::new(&records);
                    let numbers =
                        Numbers::read(&mut decoder, &mut input, (format, form(signed)), n).unwrap();
                    input.expect_end().unwrap();
                    for _ in 0..2 {
                        let mut found = vec![0xee; raw.len()];
                        numbers
                            .block(engine, decoder.buffers, 0, &mut found)
                            .unwrap();
                        assert!(found == raw, "{format:?} {sides:?} {signed}");
                    }
                    numbers.into_buffers(decoder.buffers);
                }
            }
        }
    }
}

/// Kernels have no scales of rows: a code of theirs has no room for both scales.
#[test]
fn scales_of_rows_belong_to_no_kernels() {
    let values = plane([3, 1, 1], 4, 500);
    let good = record(&values, 10, grid(kernel(3, 1, 1), 4, 0, 500));
    let mut input = Input::new(&good);
    input.u8().and_then(|_| input.varint()).unwrap();
    Grid::read(&mut input, 500).unwrap();
    input.take(2 + 1).and_then(|_| input.sized()).unwrap();
    let at = good.len() - input.len();
    let rows = [1, 0, 2, 1, 0];
    let mut bad = Vec::new();
    put_record(
        Coder::Dense,
        &[&good[3..at], &rows, &good[at + 1..]].concat(),
        &mut bad,
    );
    assert_eq!(good[..1], [7]);
    assert!(read(&good, 10, 500).is_ok());
    assert_eq!(
        read(&bad, 10, 500).unwrap_err().to_string(),
        crate::error::corrupt::<()>("rows have no possible scales")
            .unwrap_err()
            .to_string()
    );
}

/// The escapes from any place on are those that are left.
#[test]
fn escapes_are_found_from_any_place_on() {
    let mut values = plane([3, 3, 1], 5, 900);
    for value in values.iter_mut().step_by(7) {
        *value &= 0x200;
    }
    let record = record(&values, 10, grid(kernel(3, 3, 1), 5, 8, 900));
    let mut input = Input::new(&record);
    input.u8().and_then(|_| input.varint()).unwrap();
    let plane = plane_decoder(|decoder| decoder.dense(&mut input, (900, 10))).unwrap();
    let all = |from: usize, ends: &[usize]| {
        let (mut escapes, mut found) = (plane.escapes(from), Vec::new());
        for &end in ends {
            let before = found.len();
            escapes.until(end, |place, value| found.push((place, value)));
            assert!(found[before..].iter().all(|(place, _)| *place < end));
        }
        found.sort_unstable();
        found
    };
    let expected = all(0, &[900]);
    assert!(expected.len() >= 900 / 7);
    assert!(
        expected
            .iter()
            .all(|&(place, value)| values[place] == value)
    );
    for from in [1, 9, 100, 450, 899, 900] {
        let rest: Vec<_> = (expected.iter().copied())
            .filter(|(place, _)| *place >= from)
            .collect();
        assert_eq!(
            all(from, &[from, from + 1, 700.max(from), 900]),
            rest,
            "{from}"
        );
    }
}
