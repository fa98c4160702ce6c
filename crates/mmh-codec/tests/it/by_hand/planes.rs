//! The contents of planes: packed values, symbols and exceptions, distributions, blocks.

use mmh_core::ErrorKind;

use super::{bytes, coded, constant, lows, reads, record, refuses, sized, varint, zstd};

#[test]
fn every_form_of_a_packed_plane_is_read() {
    let packed = |content: &[u8]| record(1, content);
    reads("no bits", &bytes(3, &packed(&[5, 0, 0, 0, 0])), &[5; 3]);
    reads(
        "all zeros",
        &bytes(3, &packed(&[0x50, 0, 4, 0, 4])),
        &[0x50; 3],
    );
    reads(
        "all bits",
        &bytes(2, &packed(&[0, 0, 8, 0, 0, 1, 2])),
        &[1, 2],
    );
    let shifted = [0x80, 0, 6, 0, 4, 0b0011_1001];
    reads(
        "base and zeros",
        &bytes(3, &packed(&shifted)),
        &[0x90, 0xa0, 0xb0],
    );
    let wide = lows(1, &packed(&[0, 0, 16, 0, 0, 0xcd, 0xab]));
    reads("16 bits", &wide, &[0xcd, 0xab, 0, 0]);
    // 70 values: one group, then six values of a segment of two groups.
    let by_segment = [&[0, 0, 1, 1, 1, 2, 8, 1, 0][..], &[0b10_1010]].concat();
    let expected = [&[0; 64][..], &[0, 1, 0, 1, 0, 1]].concat();
    reads("by segment", &bytes(70, &packed(&by_segment)), &expected);
    let listed = zstd(&[1, 0]);
    let by_zstd = [&[0, 0, 1, 1, 1, 2, 9][..], &sized(&listed), &[0b10_1010]].concat();
    reads(
        "by segment, as zstd",
        &bytes(70, &packed(&by_zstd)),
        &expected,
    );
    let of_none = [&[1, 3, 0, 16, 0][..], &packed(&[0, 0, 0, 1, 1, 1, 0])].concat();
    reads("no values", &of_none, &[]);
}

#[test]
fn packed_planes_that_break_a_rule_are_refused() {
    let cases: [(&str, &[u8], ErrorKind); 10] = [
        ("17 bits", &[0, 0, 17, 0, 0], ErrorKind::Corrupt),
        ("255 bits", &[0, 0, 255, 0, 255], ErrorKind::Corrupt),
        ("bits in the base", &[1, 0, 1, 0, 0, 0], ErrorKind::Corrupt),
        (
            "zeros beyond the width",
            &[0, 0, 1, 0, 2],
            ErrorKind::Corrupt,
        ),
        ("an unknown form", &[0, 0, 1, 2, 0], ErrorKind::Unsupported),
        ("too few bits", &[0, 0, 8, 0, 0, 1], ErrorKind::Corrupt),
        ("a byte more", &[0, 0, 8, 0, 0, 1, 2, 3], ErrorKind::Corrupt),
        ("wider than the plane", &[0, 1, 0, 0, 0], ErrorKind::Corrupt),
        (
            "zeros beyond, by segment",
            &[0, 0, 1, 1, 1, 1, 8, 2],
            ErrorKind::Corrupt,
        ),
        (
            "an unknown list",
            &[0, 0, 1, 1, 1, 1, 10, 0],
            ErrorKind::Unsupported,
        ),
    ];
    for (what, content, kind) in cases {
        refuses(what, &bytes(2, &record(1, content)), kind);
    }
    for (first, len) in [(0, 1), (2, 1), (1, 257)] {
        let head = [&[0, 0, 1, 1][..], &varint(first), &varint(len), &[0, 0]].concat();
        refuses("segments", &bytes(2, &record(1, &head)), ErrorKind::Corrupt);
    }
}

#[test]
fn every_form_of_symbols_is_read() {
    let all = |head: &[u8], symbols: &[u8]| record(2, &[head, &coded(symbols)].concat());
    let contiguous = all(&[2 << 1 | 1, 40, 0], &[0, 1, 0]);
    reads(
        "two values side by side",
        &bytes(3, &contiguous),
        &[40, 41, 40],
    );
    let apart = all(&[2 << 1, 40, 9, 0], &[0, 1, 1]);
    reads("two values apart", &bytes(3, &apart), &[40, 50, 50]);
    let most = all(&[1 << 1 | 1, 0xff, 0xff, 3, 0], &[0]);
    reads(
        "the highest value of all",
        &lows(1, &most),
        &[0xff, 0xff, 0, 0],
    );
    let lists = [
        vec![8, 1, 0, 2, 0],
        vec![2, 0b10_0001],
        [vec![9], sized(&zstd(&[1, 0, 2, 0]))].concat(),
    ];
    for list in lists {
        // The exceptions 1 and 2, at the first place and three further on.
        let head = [&[1 << 1 | 1, 7, 2, 2, 0, 2][..], &list].concat();
        reads("exceptions", &bytes(4, &all(&head, &[0; 4])), &[1, 7, 7, 2]);
    }
    let every = [&[1 << 1 | 1, 7, 2, 2, 0, 0, 0][..], &coded(&[0; 2])].concat();
    reads(
        "nothing but exceptions",
        &bytes(2, &record(2, &every)),
        &[0, 0],
    );
}

#[test]
fn symbols_that_break_a_rule_are_refused() {
    let corrupt = |what: &str, raw_len: usize, head: &[u8], symbols: &[u8]| {
        let plane = record(2, &[head, &coded(symbols)].concat());
        refuses(what, &bytes(raw_len, &plane), ErrorKind::Corrupt);
    };
    corrupt("no value", 1, &[0, 0], &[0]);
    corrupt("33 values", 1, &[33 << 1 | 1, 0, 0], &[0]);
    corrupt("a symbol for no value", 2, &[1 << 1 | 1, 7, 0], &[0, 1]);
    corrupt(
        "a symbol for no value, not contiguous",
        2,
        &[1 << 1, 7, 0],
        &[0, 1],
    );
    corrupt(
        "more exceptions than values",
        1,
        &[3, 7, 2, 2, 0, 0, 0],
        &[0],
    );
    corrupt(
        "an exception beyond the end",
        2,
        &[3, 7, 1, 1, 2, 0],
        &[0; 2],
    );
    corrupt(
        "a second one beyond the end",
        2,
        &[3, 7, 2, 2, 1, 0, 0],
        &[0; 2],
    );
    corrupt(
        "fewer gaps than exceptions",
        2,
        &[3, 7, 2, 1, 0, 0],
        &[0; 2],
    );
    corrupt(
        "more gaps than exceptions",
        2,
        &[3, 7, 1, 2, 0, 0, 0],
        &[0; 2],
    );
    corrupt("an exception too wide", 1, &[3, 7, 1, 1, 0, 8, 0, 1], &[0]);
    corrupt("fewer symbols than values", 65, &[3, 7, 0], &[1; 64]);
    corrupt("more symbols than values", 64, &[3, 7, 0], &[1; 65]);
    let high = record(2, &[&[3, 0xff, 0xff, 4, 0][..], &coded(&[0])].concat());
    refuses(
        "a value beyond 16 bits",
        &lows(1, &high),
        ErrorKind::Corrupt,
    );
    let next = record(
        2,
        &[&[2 << 1 | 1, 0xff, 0xff, 3, 0][..], &coded(&[0])].concat(),
    );
    refuses(
        "a second one beyond 16 bits",
        &lows(1, &next),
        ErrorKind::Corrupt,
    );
}

/// `n` numbers of layout 10, F32 with bins, of which only the upper 10 bits are not zero: a head, coded
/// symbols, details.
fn fine(n: usize, head: &[u8], symbols: &[u8], details: &[u8]) -> Vec<u8> {
    let plane = record(9, &[head, &sized(&coded(symbols)), details].concat());
    in_layout(10, n, &plane)
}

fn in_layout(layout: u8, n: usize, plane: &[u8]) -> Vec<u8> {
    let zero = constant(0);
    [
        &[1, 2][..],
        &varint(4 * n),
        &[layout, 0],
        plane,
        &zero,
        &zero,
    ]
    .concat()
}

/// Symbol 0 stands for the values 4 to 7, symbol 1 for 8 and 9.
const HEAD: [u8; 4] = [2, 4, 0b01_10, 0];

#[test]
fn every_form_of_bins_is_read() {
    let numbers = |values: &[u32]| -> Vec<u8> {
        let all = values.iter().map(|value| value << 21);
        all.flat_map(u32::to_le_bytes).collect()
    };
    let details = [1, 0b011, 1, 0b10];
    let frame = fine(3, &HEAD, &[0, 1, 0], &details);
    reads("four and two", &frame, &numbers(&[5, 9, 6]));
    let frame = fine(2, &[2, 5, 0, 0], &[1, 0], &[0, 0]);
    reads("one each", &frame, &numbers(&[6, 5]));
    let frame = fine(1, &[2, 0xfc, 7, 0b0101, 0], &[1], &[1, 1, 0]);
    reads("the highest", &frame, &numbers(&[1023]));
    let frame = fine(1, &[1, 2, 1, 1, 1, 0, 8, 0xff, 3], &[0], &[1, 0, 0]);
    reads("an exception", &frame, &numbers(&[1023]));
    let frame = fine(0, &HEAD, &[], &[0, 0]);
    reads("nothing", &frame, &[]);
    // Four bins in a byte, and the fifth in the next.
    let frame = fine(1, &[5, 0, 0b1010_1010, 0b10, 0], &[1], &[1, 1, 1, 0]);
    reads("five bins", &frame, &numbers(&[5]));
}

#[test]
fn bins_that_break_a_rule_are_refused() {
    let corrupt = |what: &str, head: &[u8], symbols: &[u8], details: &[u8]| {
        let frame = fine(symbols.len(), head, symbols, details);
        refuses(what, &frame, ErrorKind::Corrupt);
    };
    let right = [1, 0b011, 1, 0b10];
    corrupt("no bin", &[0, 4, 0], &[0], &[0, 0]);
    corrupt(
        "33 bins",
        &[33, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0],
        &[0, 0],
    );
    corrupt("a width of 3", &[1, 8, 3, 0], &[0], &[1, 0, 1, 0]);
    corrupt("an odd start of two", &[1, 5, 1, 0], &[0], &[1, 0, 0]);
    corrupt("an odd start of four", &[1, 6, 2, 0], &[0], &[1, 0, 1, 0]);
    corrupt("a bin at the end", &[1, 0x80, 8, 0, 0], &[0], &[0, 0]);
    corrupt("a bin beyond", &[1, 0x80, 0x80, 4, 0, 0], &[0], &[0, 0]);
    corrupt(
        "widths not filled",
        &[2, 4, 0b1_01_10, 0],
        &[0, 1, 0],
        &right,
    );
    corrupt("a symbol for no bin", &[1, 4, 2, 0], &[0, 1, 0], &right);
    corrupt("no details", &HEAD, &[0, 1, 0], &[]);
    corrupt("no second details", &HEAD, &[0, 1, 0], &[1, 3]);
    corrupt("too few first details", &HEAD, &[0, 1, 0], &[0, 1, 0b10]);
    corrupt("too few second details", &HEAD, &[0, 1, 0], &[1, 3, 0]);
    corrupt("more first details", &HEAD, &[0, 1, 0], &[2, 3, 0, 1, 2]);
    corrupt("more second details", &HEAD, &[0, 1, 0], &[1, 3, 2, 2, 0]);
    corrupt("first not filled", &HEAD, &[0, 1, 0], &[1, 0b1011, 1, 2]);
    corrupt("second not filled", &HEAD, &[0, 1, 0], &[1, 3, 1, 0b110]);
    corrupt("bytes behind", &HEAD, &[0, 1, 0], &[1, 3, 1, 2, 0]);
    let wide = [1, 2, 1, 1, 1, 0, 8, 0, 4];
    corrupt("an exception too wide", &wide, &[0], &[1, 0, 0]);
    let plane = record(9, &[&HEAD[..], &sized(&coded(&[1])), &[1, 0, 0]].concat());
    for (layout, len) in [(2, 4), (6, 4), (0, 2)] {
        let frame = in_layout(layout, 1, &plane);
        let frame = [&[1, 2, len][..], &frame[3..]].concat();
        refuses("bins in another layout", &frame, ErrorKind::Corrupt);
    }
    let frame = in_layout(10, 1, &constant(7));
    refuses("no bins in theirs", &frame, ErrorKind::Corrupt);
    let side = [constant(7), plane.clone()].concat();
    refuses(
        "bins below",
        &[&[1, 2, 4, 2, 0][..], &side, &constant(0)].concat(),
        ErrorKind::Corrupt,
    );
}

#[test]
fn sets_of_distributions_are_checked() {
    let with = |n_classes: usize, rest: &[u8]| {
        let head = [&[3, 7, 0][..], &varint(n_classes), rest].concat();
        bytes(2, &record(2, &head))
    };
    let block = coded(&[0; 2])[3..].to_vec();
    let set = |tables: &[u8], more: &[u8]| [&sized(tables), more, &block].concat();
    reads(
        "32 classes",
        &with(32, &set(&[0; 4], &[1, 1, 5, 31])),
        &[7, 7],
    );
    refuses(
        "class 32 of 32",
        &with(32, &set(&[0; 4], &[1, 1, 6, 32])),
        ErrorKind::Corrupt,
    );
    refuses(
        "tables kept elsewhere",
        &with(0, &set(&[], &[])),
        ErrorKind::Unsupported,
    );
    refuses(
        "33 classes",
        &with(33, &set(&[0; 5], &[1, 1, 0])),
        ErrorKind::Corrupt,
    );
    refuses(
        "tables left over",
        &with(1, &set(&[0, 0], &[])),
        ErrorKind::Corrupt,
    );
    refuses("no tables", &with(1, &set(&[], &[])), ErrorKind::Corrupt);
    refuses(
        "filling that is not zero",
        &with(1, &set(&[2], &[])),
        ErrorKind::Corrupt,
    );
    // Bits: 1, first, last, gaps, predictor, r (3), level (7).
    let table = |first: u32, last: u32, level: u32| {
        let bits = 1 | first << 1 | last << 5 | level << 14;
        bits.to_le_bytes()[..3].to_vec()
    };
    refuses(
        "level 0",
        &with(1, &set(&table(0, 0, 0), &[])),
        ErrorKind::Corrupt,
    );
    refuses(
        "level 98",
        &with(1, &set(&table(0, 0, 98), &[])),
        ErrorKind::Corrupt,
    );
    refuses(
        "first after last",
        &with(1, &set(&table(1, 0, 9), &[])),
        ErrorKind::Corrupt,
    );
    for level in [1, 97] {
        reads(
            "a lone level",
            &with(1, &set(&table(0, 0, level), &[])),
            &[7, 7],
        );
    }
}

#[test]
fn blocks_that_break_a_rule_are_refused() {
    let plane = |block: &[u8]| {
        let head = [&[2 << 1 | 1, 40, 0, 1, 1, 0][..], block].concat();
        bytes(200, &record(2, &head))
    };
    let symbols: Vec<u8> = (0..200).map(|i| u8::from(i % 3 > 0)).collect();
    let good = coded(&symbols)[3..].to_vec();
    let content: Vec<u8> = symbols.iter().map(|symbol| 40 + symbol).collect();
    reads("the block itself", &plane(&good), &content);
    assert!(good.len() > 160 + 2);
    refuses("no block", &plane(&[]), ErrorKind::Corrupt);
    refuses(
        "no last word",
        &plane(&good[..good.len() - 2]),
        ErrorKind::Corrupt,
    );
    refuses(
        "half a word",
        &plane(&good[..good.len() - 1]),
        ErrorKind::Corrupt,
    );
    for more in [1, 2, 200] {
        let longer = [&good[..], &vec![0; more]].concat();
        refuses("bytes left over", &plane(&longer), ErrorKind::Corrupt);
    }
    // 32 bytes have the places of the states' highest bits, at least 128 have the bits below.
    for byte in [0, 17, 31, 32, 100, 159] {
        for bit in [0, 7] {
            let mut other = good.clone();
            other[byte] ^= 1 << bit;
            refuses("another state", &plane(&other), ErrorKind::Corrupt);
        }
    }
}
