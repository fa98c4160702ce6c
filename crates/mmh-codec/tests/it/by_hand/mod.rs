//! Frames put together by hand from FORMAT.md: forms that no encoder of this crate writes but a
//! reader must read, and forms that it must refuse, with the reason that the caller acts upon.

mod planes;

use mmh_codec::entropy::{Alphabet, Classes, EncodeSet, Engine, Levels, Reference};
use mmh_codec::{Decoder, Error, frame_info};
use mmh_core::ErrorKind;

use crate::model;

const LIMIT: usize = 1 << 12;

fn varint(value: usize) -> Vec<u8> {
    let low = u8::try_from(value % 128).expect("seven bits");
    match value / 128 {
        0 => vec![low],
        rest => [vec![low + 128], varint(rest)].concat(),
    }
}

fn sized(content: &[u8]) -> Vec<u8> {
    [&varint(content.len()), content].concat()
}

fn record(coder: u8, content: &[u8]) -> Vec<u8> {
    [&[coder][..], &sized(content)].concat()
}

fn constant(value: u16) -> Vec<u8> {
    record(0, &value.to_le_bytes())
}

fn zstd(content: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(content, 1).expect("zstd works")
}

/// Symbols 0 and 1 in the one distribution that takes a single zero byte: 4095 slots and 1 slot.
fn coded(symbols: &[u8]) -> Vec<u8> {
    let set = EncodeSet::new(&[Levels::default()], Alphabet::Sixteen);
    let groups = vec![0; symbols.len().div_ceil(64)];
    let mut out = vec![1, 1, 0];
    let done = Reference.encode(&set, Classes::Groups(&groups), symbols, &mut out);
    done.expect("the class has both symbols");
    out
}

/// A body of layout 16, bytes: one plane of width 8.
fn bytes(raw_len: usize, plane: &[u8]) -> Vec<u8> {
    [&[1, 3][..], &varint(raw_len), &[16, 0], plane].concat()
}

/// `n` numbers of layout 2, F32, of which only the low 16 bits are not zero.
fn lows(n: usize, low: &[u8]) -> Vec<u8> {
    let zero = constant(0);
    [&[1, 2][..], &varint(4 * n), &[2, 0], &zero, &zero, low].concat()
}

/// `n` numbers of layout 0, BF16, without mantissas: `exponent` is a plane of width 9.
fn exponents(n: usize, exponent: &[u8]) -> Vec<u8> {
    let mantissa = constant(0);
    [&[1, 2][..], &varint(2 * n), &[0, 0], exponent, &mantissa].concat()
}

type InPlace = dyn Fn(&[u8]) -> Vec<u8>;

/// The frame with the checks of `content` behind its header, where its method has any.
fn checked(frame: &[u8], content: &[u8]) -> Vec<u8> {
    let len = frame.iter().skip(2).position(|byte| byte % 128 == *byte);
    match (frame, len) {
        ([_, 2..=4, ..], Some(len)) => {
            let (header, body) = frame.split_at(3 + len);
            let check = twox_hash::XxHash3_64::oneshot(content).to_le_bytes();
            let checks = if header[2] == 0 { &[] } else { &check[..4] };
            [header, checks, body].concat()
        }
        _ => frame.to_vec(),
    }
}

fn read(frame: &[u8]) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    let done = Decoder::new().decode(frame, LIMIT, &mut out);
    let ours = done.map(|()| out);
    assert_eq!(
        ours.clone().ok(),
        model::decode(frame, LIMIT),
        "the model differs: {frame:x?}"
    );
    ours
}

fn reads(what: &str, frame: &[u8], content: &[u8]) {
    let frame = checked(frame, content);
    assert_eq!(read(&frame), Ok(content.to_vec()), "{what}");
    assert_eq!(
        frame_info(&frame).expect("it was decoded").raw_len,
        content.len(),
        "{what}"
    );
}

/// It is refused, and not only because its checks do not match.
fn refuses(what: &str, frame: &[u8], kind: ErrorKind) {
    let error = read(&checked(frame, b"")).expect_err(what);
    assert_eq!(error.kind(), kind, "{what}");
    assert!(!error.to_string().contains("checks"), "{what}: {error}");
}

#[test]
fn heads_and_tails_of_any_length_are_read() {
    let [seven, none] = [constant(7), constant(0)];
    let whole = [&[1, 4, 18, 66, 0][..], &seven, &none].concat();
    let mut block = [0; 18];
    block[0] = 7;
    reads("one block", &whole, &block);
    let head = [&[1, 4, 5, 66, 5][..], &seven, &none, b"abcde"].concat();
    reads("nothing but a head", &head, b"abcde");
    let tail = [&[1, 4, 17, 66, 0][..], &seven, &none, &[9; 17]].concat();
    reads("nothing but a tail", &tail, &[9; 17]);
    let all = [&[1, 4, 1 + 18 + 2, 66, 1][..], &seven, &none, b"abc"].concat();
    reads(
        "head, block, tail",
        &all,
        &[b"a", &block[..], b"bc"].concat(),
    );
    let long_head = [&[1, 4, 19, 66, 19][..], &seven, &none, &[8; 19]].concat();
    reads("a head longer than a block", &long_head, &[8; 19]);
    let too_long = [&[1, 4, 18, 66, 19][..], &seven, &none, &[8; 19]].concat();
    refuses(
        "a head longer than the content",
        &too_long,
        ErrorKind::Corrupt,
    );
    for cut in 1..=3 {
        let short = &all[..all.len() - cut];
        refuses("a tail that is not there", short, ErrorKind::Corrupt);
    }
}

/// The same block, with one thing wrong with it each time.
#[test]
fn records_within_records_follow_their_rules() {
    let [zero, one] = [constant(0), constant(1)];
    let pair = |coder: u8, head: &[u8], a: &[u8], b: &[u8]| record(coder, &[head, a, b].concat());
    let halves = exponents(2, &pair(5, &[], &one, &constant(3)));
    reads(
        "bytes of 9 bits",
        &halves,
        &(259u16 << 6).to_le_bytes().repeat(2),
    );
    refuses(
        "bytes of 8 bits",
        &bytes(2, &pair(5, &[], &zero, &one)),
        ErrorKind::Corrupt,
    );
    let lower = pair(3, &[5], &zero, &constant(30));
    reads(
        "no upper bits",
        &bytes(2, &pair(3, &[4], &zero, &one)),
        &[1, 1],
    );
    reads(
        "split in bytes",
        &exponents(1, &pair(5, &[], &zero, &lower)),
        &(30u16 << 6).to_le_bytes(),
    );
    let two = constant(2);
    refuses(
        "upper byte too wide",
        &exponents(2, &pair(5, &[], &two, &one)),
        ErrorKind::Corrupt,
    );
    let inner = pair(5, &[], &zero, &one);
    refuses(
        "bytes in bytes",
        &lows(1, &pair(5, &[], &zero, &inner)),
        ErrorKind::Corrupt,
    );
    let parts = [("split in split", &lower), ("bytes in split", &inner)];
    for (what, part) in parts {
        refuses(
            what,
            &bytes(1, &pair(3, &[3], part, &zero)),
            ErrorKind::Corrupt,
        );
        refuses(
            what,
            &bytes(1, &pair(3, &[3], &zero, part)),
            ErrorKind::Corrupt,
        );
    }
    for lower_width in [0, 2, 6, 8, 255] {
        let split = pair(3, &[lower_width], &zero, &zero);
        refuses("split there", &bytes(1, &split), ErrorKind::Corrupt);
    }
    let context = record(4, &coded(&[0]));
    reads(
        "a context",
        &bytes(1, &pair(3, &[3], &zero, &context)),
        &[0],
    );
    refuses(
        "an unknown context",
        &bytes(1, &pair(3, &[3], &one, &context)),
        ErrorKind::Corrupt,
    );
    refuses(
        "a context above",
        &bytes(1, &pair(3, &[3], &context, &zero)),
        ErrorKind::Corrupt,
    );
    refuses("a context alone", &bytes(1, &context), ErrorKind::Corrupt);
    refuses(
        "nothing in a record",
        &bytes(1, &record(0, &[])),
        ErrorKind::Corrupt,
    );
    refuses(
        "more in a record",
        &bytes(1, &record(0, &[1, 0, 0])),
        ErrorKind::Corrupt,
    );
}

/// Codes that later versions may use are told from damage: the user needs another build, not a
/// backup.
#[test]
fn reserved_codes_are_unsupported() {
    for method in 7..=31 {
        refuses("method", &[1, method, 0], ErrorKind::Unsupported);
    }
    for layout in [8, 9, 11, 15, 23, 63, 64, 65, 68, 88, 103 + 1, 255] {
        for method in 2..=4 {
            refuses("layout", &[1, method, 0, layout, 0], ErrorKind::Unsupported);
        }
    }
    for coder in 10..=31 {
        refuses(
            "coder",
            &bytes(1, &record(coder, &[0, 0])),
            ErrorKind::Unsupported,
        );
    }
    refuses("version", &[2, 0, 0], ErrorKind::Unsupported);
    refuses(
        "another method's layout",
        &[1, 2, 0, 16, 0, 0, 2, 0, 0],
        ErrorKind::Corrupt,
    );
}

/// zstd itself takes several frames, and frames to be skipped, for one: bytes could hide there.
#[test]
fn zstd_content_is_one_frame() {
    let packed = zstd(b"abcabcabc");
    let skipped = [0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9];
    let empty = zstd(&[]);
    let places: [&InPlace; 2] = [&|content| [&[1, 1, 9][..], content].concat(), &|content| {
        bytes(9, &record(6, content))
    }];
    for place in places {
        reads("one frame", &place(&packed), b"abcabcabc");
        for more in [&skipped[..], &empty, &[0], &packed[..4]] {
            let longer = [&packed[..], more].concat();
            refuses("bytes after the frame", &place(&longer), ErrorKind::Corrupt);
        }
        for before in [&skipped[..], &empty] {
            let longer = [before, &packed].concat();
            refuses(
                "bytes before the frame",
                &place(&longer),
                ErrorKind::Corrupt,
            );
        }
        let halves = [zstd(b"abca"), zstd(b"bcabc")].concat();
        refuses("two frames", &place(&halves), ErrorKind::Corrupt);
        refuses(
            "shorter content",
            &place(&zstd(b"abcabcab")),
            ErrorKind::Corrupt,
        );
        refuses(
            "longer content",
            &place(&zstd(b"abcabcabca")),
            ErrorKind::Corrupt,
        );
        refuses("nothing", &place(&[]), ErrorKind::Corrupt);
    }
    reads("an empty frame", &[&[1, 1, 0][..], &empty].concat(), &[]);
    refuses("nothing for nothing", &[1, 1, 0], ErrorKind::Corrupt);
    refuses(
        "skipped for nothing",
        &[&[1, 1, 0][..], &skipped].concat(),
        ErrorKind::Corrupt,
    );
    let wide = record(6, &zstd(&[1, 0, 0xff, 1]));
    let expected = [64u16, 511 << 6].map(u16::to_le_bytes).concat();
    reads("two bytes a value", &exponents(2, &wide), &expected);
    let too_wide = record(6, &zstd(&[1, 0, 0, 2]));
    refuses(
        "a value of 10 bits in 9",
        &exponents(2, &too_wide),
        ErrorKind::Corrupt,
    );
}
