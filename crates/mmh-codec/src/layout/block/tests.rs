//! Fields of small blocks, split and joined.

use super::*;

fn field(width: u32, per_block: usize, signed: bool, runs: Vec<Run>) -> Field {
    Field {
        name: "codes",
        width,
        per_block,
        signed,
        runs,
        ..Field::default()
    }
}

fn split(field: &Field, raw: &[u8], block_len: usize) -> Vec<u16> {
    field
        .split(raw, block_len, Field::take)
        .widened()
        .into_owned()
}

fn join(field: &Field, raw: &[u8], back: &mut [u8], block_len: usize) {
    match field.split(raw, block_len, Field::take) {
        Plane::Bytes(values) => field.join(&values, back, block_len, gather),
        Plane::Words(values) => field.join_words(&values, back, block_len),
    }
}

#[test]
fn halves_of_bytes_become_symbols_in_the_order_of_the_table() {
    let runs = vec![Run::new(0, 1, 2).bits(0, 4), Run::new(2, 1, 2).bits(4, 4)];
    let codes = field(4, 4, false, runs);
    let raw = [9, 0x21, 0x43, 8, 0x65, 0x87];
    assert_eq!(split(&codes, &raw, 3), [1, 3, 2, 4, 5, 7, 6, 8]);
    let mut back = [9, 0, 0, 8, 0, 0];
    join(&codes, &raw, &mut back, 3);
    assert_eq!(back, raw);
}

#[test]
fn bits_of_one_symbol_may_come_from_two_places() {
    let runs = vec![
        Run::new(0, 0, 2).bits(0, 4),
        Run::new(0, 2, 1).bits(0, 1).at(4),
        Run::new(1, 2, 1).bits(7, 1).at(4),
    ];
    let codes = field(5, 2, false, runs);
    assert_eq!(split(&codes, &[0x0a, 0x0b, 0x80], 3), [0x0a, 0x1b]);
}

/// 19 symbols: two words of 8 and 3 single ones, of the low and the high parts of bytes.
#[test]
fn long_runs_are_like_short_ones() {
    for (shift, bits, at, signed) in [(0, 8, 0, true), (3, 4, 1, false), (6, 2, 6, true)] {
        let codes = field(
            8,
            19,
            signed,
            vec![Run::new(0, 1, 19).bits(shift, bits).at(at)],
        );
        let raw: Vec<u8> = (0..40u8).map(|i| i.wrapping_mul(91)).collect();
        let values = split(&codes, &raw, 20);
        for (i, value) in values.iter().enumerate() {
            let byte = raw[i / 19 * 20 + 1 + i % 19];
            let taken = (byte >> shift & (u8::MAX >> (8 - bits))) << at;
            assert_eq!(*value, u16::from(taken ^ u8::from(signed) << 7), "{i}");
        }
        let (mut back, mut expected) = (vec![0; 40], raw);
        join(&codes, &expected, &mut back, 20);
        expected
            .iter_mut()
            .for_each(|byte| *byte &= (u8::MAX >> (8 - bits)) << shift);
        (expected[0], expected[20]) = (0, 0);
        assert_eq!(back, expected);
    }
}

#[test]
fn a_byte_has_one_bit_of_eight_symbols() {
    let codes = Field {
        bits: Some(Bits { byte: 1, at: 4 }),
        ..field(5, 32, false, Vec::new())
    };
    let raw = [7, 0b1000_0101, 0b0000_0010, 0, 0b1000_0000];
    let values = split(&codes, &raw, 5);
    let set: Vec<usize> = (0..32).filter(|&i| values[i] == 16).collect();
    assert_eq!(set, [0, 2, 7, 9, 31]);
    let mut back = [7, 0, 0, 0, 0];
    join(&codes, &raw, &mut back, 5);
    assert_eq!(back, raw);
}

#[test]
fn a_step_spreads_consecutive_bytes() {
    let runs = vec![Run::new(0, 0, 2).step(2), Run::new(1, 2, 2).step(2)];
    let codes = field(8, 4, false, runs);
    assert_eq!(split(&codes, &[1, 2, 3, 4], 4), [1, 3, 2, 4]);
    let mut back = [0; 4];
    join(&codes, &[1, 2, 3, 4], &mut back, 4);
    assert_eq!(back, [1, 2, 3, 4]);
}

/// Halves of bytes in turn: each half is one run over all blocks.
#[test]
fn runs_that_cover_blocks_of_one_byte_are_taken_at_once() {
    let half = |which: usize| Run::new(which, 0, 1).step(2);
    let runs = vec![half(0).bits(0, 4), half(1).bits(4, 4)];
    let codes = field(4, 2, false, runs);
    let raw = [0x21, 0x43, 0xf5];
    assert_eq!(split(&codes, &raw, 1), [1, 2, 3, 4, 5, 15]);
    let mut back = [0; 3];
    join(&codes, &raw, &mut back, 1);
    assert_eq!(back, raw);
}

#[test]
fn signed_bytes_keep_their_order() {
    let bytes = field(8, 1, true, vec![Run::new(0, 0, 1)]);
    let raw = [0x80, 0xff, 0, 1, 0x7f];
    assert_eq!(split(&bytes, &raw, 1), [0, 127, 128, 129, 255]);
    let mut back = [0; 5];
    join(&bytes, &raw, &mut back, 1);
    assert_eq!(back, raw);
    assert_eq!(bytes.split(&[], 1, Field::take).len(), 0);
}

/// More blocks than one part, the last part short.
#[test]
fn parts_are_joined_one_after_the_other() {
    let blocks = Blocks {
        len: 3,
        elements: 1,
        fields: vec![
            field(
                16,
                1,
                false,
                vec![Run::new(0, 0, 1), Run::new(0, 1, 1).at(8)],
            ),
            field(8, 1, true, vec![Run::new(0, 2, 1)]),
        ],
    };
    let raw: Vec<u8> = (0..PART_LEN + 30)
        .map(|i| u8::try_from(i * 7 % 251).unwrap())
        .collect();
    let raw = &raw[..raw.len() / 3 * 3];
    let planes: Vec<Plane> = blocks
        .fields
        .iter()
        .map(|f| f.split(raw, 3, Field::take))
        .collect();
    let mut back = vec![0xff; raw.len()];
    blocks.join(&planes, &mut back, join_field);
    assert!(back == raw);
}
