//! The fields of GGUF's quantised blocks. Source: the block structures of llama.cpp's
//! `ggml-common.h` and the loops that read them in `ggml-quants.c`.

use super::block::{Bits, Blocks, Field, Run};
use super::context::{Context, Keys, Scale};

/// The type numbers of GGUF whose blocks are split.
#[cfg(test)]
const TYPES: [u8; 24] = [
    2, 3, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 29, 34, 35, 39,
];

/// How the blocks of a GGUF type are divided; `None` for other types.
pub(crate) fn blocks(gguf_type: u8) -> Option<Blocks> {
    let (elements, mut fields) = match gguf_type {
        2 | 20 => (32, vec![half("scale", 0), nibbles("codes", 2, 1)]),
        3 => (
            32,
            vec![half("scale", 0), half("minimum", 2), nibbles("codes", 4, 1)],
        ),
        6 => (32, vec![half("scale", 0), fives("codes", 6, 2)]),
        7 => (
            32,
            vec![half("scale", 0), half("minimum", 2), fives("codes", 8, 4)],
        ),
        8 => (32, vec![half("scale", 0), signed("codes", 2, 32)]),
        9 => (
            32,
            vec![half("scale", 0), half("sum", 2), signed("codes", 4, 32)],
        ),
        10 => (256, q2_k()),
        11 => (256, q3_k()),
        12 => (256, q4_k()),
        13 => (256, q5_k()),
        14 => (256, q6_k()),
        15 => (256, q8_k()),
        16 => (256, vec![half("scale", 0), bytes("codes", 2, 64)]),
        17 => (
            256,
            vec![
                half("scale", 0),
                bytes("codes", 2, 64),
                bytes("scales", 66, 8),
            ],
        ),
        18 => (
            256,
            vec![
                half("scale", 0),
                bytes("codes", 2, 64),
                bytes("signs", 66, 32),
            ],
        ),
        19 => (
            256,
            vec![
                half("scale", 0),
                bytes("codes", 2, 32),
                bytes("high", 34, 16),
            ],
        ),
        21 => (256, iq3_s()),
        22 => (256, iq2_s()),
        23 => (256, iq4_xs()),
        29 => (
            256,
            vec![
                bytes("codes", 0, 32),
                bytes("high", 32, 16),
                bytes("scales", 48, 8),
            ],
        ),
        34 => (
            256,
            vec![
                half("scale", 52),
                bytes("codes", 0, 48),
                bytes("high", 48, 4),
            ],
        ),
        35 => (256, vec![half("scale", 64), twos("codes", 0, Vec::new())]),
        39 => (32, vec![bytes("scale", 0, 1), nibbles("codes", 1, 1)]),
        _ => return None,
    };
    for (field, context) in contexts(gguf_type) {
        fields[field].context = Some(context);
    }
    let bits: usize = fields
        .iter()
        .map(|field| field.width as usize * field.per_block)
        .sum();
    Some(Blocks {
        len: bits / 8,
        elements,
        fields,
    })
}

/// What is known of fields, by their index.
fn contexts(gguf_type: u8) -> Vec<(usize, Context)> {
    let unit = |unit, centre, keys| Context { unit, centre, keys };
    let whole = |whole| Scale { whole, part: None };
    let scaled = |whole, field, zero| Scale {
        whole,
        part: Some((field, zero)),
    };
    let step = |scale| Keys::Step(scale);
    let zero = |step, minimum| Keys::Zero { step, minimum };
    let minimums = |units: usize| {
        let values = unit(1, None, Keys::Value(2));
        let zero = zero(scaled(0, 2, 0), scaled(1, 3, 0));
        vec![(3, values), (4, unit(256 / units, None, zero))]
    };
    match gguf_type {
        2 => vec![(1, unit(32, Some(8), step(whole(0))))],
        3 | 7 => vec![(2, unit(32, None, zero(whole(0), whole(1))))],
        6 => vec![(1, unit(32, Some(16), step(whole(0))))],
        8 => vec![(1, unit(32, Some(128), step(whole(0))))],
        9 => vec![(2, unit(32, Some(128), step(whole(0))))],
        10 => minimums(16),
        11 => vec![(2, unit(16, Some(4), step(scaled(0, 1, 32))))],
        12 | 13 => minimums(8),
        14 => vec![
            (1, unit(16, Some(128), Keys::None)),
            (2, unit(16, Some(32), step(scaled(0, 1, 128)))),
        ],
        20 => vec![(1, unit(32, None, step(whole(0))))],
        23 => vec![(2, unit(32, None, step(scaled(0, 1, 32))))],
        39 => vec![(1, unit(32, None, step(whole(0))))],
        _ => Vec::new(),
    }
}

fn field(name: &'static str, width: u32, per_block: usize, runs: Vec<Run>) -> Field {
    Field {
        name,
        width,
        per_block,
        runs,
        ..Field::default()
    }
}

/// A 16-bit number, such as a binary16 scale.
fn half(name: &'static str, byte: usize) -> Field {
    halves(name, byte, 1)
}

fn halves(name: &'static str, byte: usize, n: usize) -> Field {
    let pair = |i: usize| {
        [
            Run::new(i, byte + 2 * i, 1),
            Run::new(i, byte + 2 * i + 1, 1).at(8),
        ]
    };
    field(name, 16, n, (0..n).flat_map(pair).collect())
}

fn bytes(name: &'static str, byte: usize, n: usize) -> Field {
    field(name, 8, n, vec![Run::new(0, byte, n)])
}

fn signed(name: &'static str, byte: usize, n: usize) -> Field {
    Field {
        signed: true,
        ..bytes(name, byte, n)
    }
}

/// Groups of 16 bytes: the low halves are 16 elements, the high halves the next 16.
fn nibbles(name: &'static str, byte: usize, groups: usize) -> Field {
    let group = |g: usize| {
        let at = byte + 16 * g;
        [
            Run::new(32 * g, at, 16).bits(0, 4),
            Run::new(32 * g + 16, at, 16).bits(4, 4),
        ]
    };
    field(name, 4, 32 * groups, (0..groups).flat_map(group).collect())
}

/// 32 nibbles, and their fifth bits in the order of elements.
fn fives(name: &'static str, byte: usize, high: usize) -> Field {
    Field {
        bits: Some(Bits { byte: high, at: 4 }),
        ..field(name, 5, 32, nibbles(name, byte, 1).runs)
    }
}

/// Groups of 32 bytes: the low halves are 32 elements, the high halves the next 32.
fn wide_nibbles(byte: usize) -> Vec<Run> {
    let group = |g: usize| {
        let at = byte + 32 * g;
        [
            Run::new(64 * g, at, 32).bits(0, 4),
            Run::new(64 * g + 32, at, 32).bits(4, 4),
        ]
    };
    (0..4).flat_map(group).collect()
}

/// Twice 32 bytes, each of which holds 2 bits of 4 elements that lie 32 apart; `more` adds bits
/// from 2 on.
fn twos(name: &'static str, byte: usize, more: Vec<Run>) -> Field {
    let width = if more.is_empty() { 2 } else { 3 };
    let mut runs = more;
    for (half, part) in (0..2).flat_map(|half| (0..4u32).map(move |part| (half, part))) {
        let symbol = 128 * half + 32 * part as usize;
        runs.push(Run::new(symbol, byte + 32 * half, 32).bits(2 * part, 2));
    }
    field(name, width, 256, runs)
}

fn q2_k() -> Vec<Field> {
    let scales = field("scales", 4, 16, vec![Run::new(0, 0, 16).bits(0, 4)]);
    let minimums = field("minimums", 4, 16, vec![Run::new(0, 0, 16).bits(4, 4)]);
    let codes = twos("codes", 16, Vec::new());
    vec![
        half("scale", 80),
        half("minimum", 82),
        scales,
        minimums,
        codes,
    ]
}

fn q3_k() -> Vec<Field> {
    let mut scales = vec![Run::new(0, 96, 8).bits(0, 4), Run::new(8, 96, 8).bits(4, 4)];
    scales.extend((0..4u32).map(|g| Run::new(4 * g as usize, 104, 4).bits(2 * g, 2).at(4)));
    let high = (0..8u32)
        .map(|g| Run::new(32 * g as usize, 0, 32).bits(g, 1).at(2))
        .collect();
    vec![
        half("scale", 108),
        field("scales", 6, 16, scales),
        twos("codes", 32, high),
    ]
}

/// Eight 6-bit scales and eight 6-bit minimums in 12 bytes.
fn k_scales(byte: usize) -> [Field; 2] {
    let of = |own: usize, shift: u32| {
        vec![
            Run::new(0, own, 4).bits(0, 6),
            Run::new(4, byte + 8, 4).bits(shift, 4),
            Run::new(4, own, 4).bits(6, 2).at(4),
        ]
    };
    [
        field("scales", 6, 8, of(byte, 0)),
        field("minimums", 6, 8, of(byte + 4, 4)),
    ]
}

fn q4_k() -> Vec<Field> {
    let [scales, minimums] = k_scales(4);
    let codes = field("codes", 4, 256, wide_nibbles(16));
    vec![
        half("scale", 0),
        half("minimum", 2),
        scales,
        minimums,
        codes,
    ]
}

fn q5_k() -> Vec<Field> {
    let [scales, minimums] = k_scales(4);
    let mut runs = wide_nibbles(48);
    runs.extend((0..8u32).map(|g| Run::new(32 * g as usize, 16, 32).bits(g, 1).at(4)));
    let codes = field("codes", 5, 256, runs);
    vec![
        half("scale", 0),
        half("minimum", 2),
        scales,
        minimums,
        codes,
    ]
}

fn q6_k() -> Vec<Field> {
    let mut runs = Vec::new();
    for half in 0..2 {
        for part in 0..4u32 {
            let symbol = 128 * half + 32 * part as usize;
            let low = 64 * half + 32 * (part as usize % 2);
            runs.push(Run::new(symbol, low, 32).bits(4 * (part / 2), 4));
            runs.push(
                Run::new(symbol, 128 + 32 * half, 32)
                    .bits(2 * part, 2)
                    .at(4),
            );
        }
    }
    vec![
        half("scale", 208),
        signed("scales", 192, 16),
        field("codes", 6, 256, runs),
    ]
}

fn q8_k() -> Vec<Field> {
    vec![
        half("scale low", 0),
        half("scale high", 2),
        halves("sums", 260, 16),
        signed("codes", 4, 256),
    ]
}

fn iq3_s() -> Vec<Field> {
    vec![
        half("scale", 0),
        bytes("codes", 2, 64),
        bytes("high", 66, 8),
        bytes("signs", 74, 32),
        bytes("scales", 106, 4),
    ]
}

fn iq2_s() -> Vec<Field> {
    vec![
        half("scale", 0),
        bytes("codes", 2, 64),
        bytes("high", 66, 8),
        bytes("scales", 74, 8),
    ]
}

fn iq4_xs() -> Vec<Field> {
    let mut runs = vec![
        Run::new(0, 4, 4).step(2).bits(0, 4),
        Run::new(1, 4, 4).step(2).bits(4, 4),
    ];
    runs.extend((0..4u32).map(|q| Run::new(q as usize, 2, 2).step(4).bits(2 * q, 2).at(4)));
    vec![
        half("scale", 0),
        field("scales", 6, 8, runs),
        nibbles("codes", 8, 8),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(field: &Field, raw: &[u8], block_len: usize) -> Vec<u16> {
        field
            .split(raw, block_len, Field::take)
            .widened()
            .into_owned()
    }

    /// A unit divides its block, and what keys are computed from stands before it.
    #[test]
    fn contexts_look_at_fields_before_their_own() {
        for kind in TYPES {
            let fields = blocks(kind).unwrap().fields;
            for (i, field) in fields.iter().enumerate() {
                let Some(context) = field.context else {
                    continue;
                };
                assert!(field.per_block.is_multiple_of(context.unit), "type {kind}");
                let parts = |scale: Scale| {
                    assert!(scale.whole < i && fields[scale.whole].per_block == 1);
                    if let Some((part, zero)) = scale.part {
                        assert!(part < i && u32::from(zero) < 1 << fields[part].width);
                        assert_eq!(fields[part].per_block, field.per_block / context.unit);
                    }
                };
                match context.keys {
                    Keys::None => {}
                    Keys::Value(of) => assert!(of < i && fields[of].width <= 8),
                    Keys::Step(step) => parts(step),
                    Keys::Zero { step, minimum } => {
                        [step, minimum].map(parts).into_iter().collect()
                    }
                }
            }
        }
    }

    /// Every bit of a block belongs to exactly one bit of one symbol, and the other way round:
    /// what makes a split lossless.
    #[test]
    fn fields_partition_the_bits_of_a_block() {
        for kind in TYPES {
            let blocks = blocks(kind).unwrap();
            let mut taken = vec![0u8; blocks.len];
            for field in &blocks.fields {
                let mut given = vec![0u16; field.per_block];
                for run in &field.runs {
                    for i in 0..run.n {
                        let mask = (u8::MAX >> (8 - run.bits)) << run.shift;
                        assert_eq!(taken[run.byte + i] & mask, 0, "type {kind}: {run:?}");
                        taken[run.byte + i] |= mask;
                        let bits = u16::from(u8::MAX >> (8 - run.bits)) << run.at;
                        let symbol = &mut given[run.symbol + i * run.step];
                        assert_eq!(*symbol & bits, 0, "type {kind}: {run:?}");
                        *symbol |= bits;
                    }
                }
                for (i, symbol) in given.iter_mut().enumerate() {
                    let Some(bits) = field.bits else { break };
                    let mask = 1 << (i % 8);
                    assert_eq!(taken[bits.byte + i / 8] & mask, 0, "type {kind}");
                    taken[bits.byte + i / 8] |= mask;
                    *symbol |= 1 << bits.at;
                }
                let all = u16::MAX >> (16 - field.width);
                assert!(
                    given.iter().all(|&bits| bits == all),
                    "type {kind} {}",
                    field.name
                );
            }
            assert!(taken.iter().all(|&bits| bits == 0xff), "type {kind}");
        }
    }

    /// The 6-bit scales of Q4_K, against the formula of the reader in llama.cpp.
    #[test]
    fn q4_k_scales_are_unpacked_as_its_reader_does() {
        let raw: Vec<u8> = (0..144u32)
            .map(|i| u8::try_from(i * 197 % 251).unwrap())
            .collect();
        let q = &raw[4..16];
        let fields = q4_k();
        let (scales, minimums) = (split(&fields[2], &raw, 144), split(&fields[3], &raw, 144));
        for j in 0..8 {
            let (scale, minimum) = if j < 4 {
                (q[j] & 63, q[j + 4] & 63)
            } else {
                (
                    (q[j + 4] & 15) | (q[j - 4] >> 6) << 4,
                    (q[j + 4] >> 4) | (q[j] >> 6) << 4,
                )
            };
            assert_eq!(
                (scales[j], minimums[j]),
                (u16::from(scale), u16::from(minimum)),
                "{j}"
            );
        }
    }

    /// Elements 0, 32, 64 and 96 of each half of a Q6_K block.
    #[test]
    fn q6_k_codes_are_unpacked_as_its_reader_does() {
        let raw: Vec<u8> = (0..210u32)
            .map(|i| u8::try_from(i * 149 % 253).unwrap())
            .collect();
        let codes = split(&q6_k()[2], &raw, 210);
        for half in 0..2 {
            for l in 0..32 {
                let (ql, qh) = (&raw[64 * half..], u16::from(raw[128 + 32 * half + l]));
                let (a, b) = (u16::from(ql[l]), u16::from(ql[l + 32]));
                let expected = [
                    (a & 15) | (qh & 3) << 4,
                    (b & 15) | (qh >> 2 & 3) << 4,
                    a >> 4 | (qh >> 4 & 3) << 4,
                    b >> 4 | (qh >> 6 & 3) << 4,
                ];
                for (part, value) in expected.into_iter().enumerate() {
                    assert_eq!(codes[128 * half + 32 * part + l], value);
                }
            }
        }
    }

    #[test]
    fn q5_0_codes_get_their_fifth_bit() {
        let mut raw = [0u8; 22];
        raw[2..6].copy_from_slice(&(1u32 << 3 | 1 << 20).to_le_bytes());
        raw[6 + 3] = 0x07;
        raw[6 + 4] = 0x90;
        let codes = split(&fives("codes", 6, 2), &raw, 22);
        assert_eq!((codes[3], codes[19], codes[20]), (0x17, 0, 0x19));
    }
}
