//! Every form of the loops gives what the plain form gives, on content of all lengths and kinds.

use super::*;
use crate::bits::pack;
use crate::entropy::{
    Alphabet, Classes, EncodeSet, Engine as _, LANES, Levels, Reference, SYMBOLS_MAX, engines,
};
use crate::layout::{Division, Field, Layout, Plane};
use crate::samples::Noise;

/// The forms that this machine has, beside the plain one.
pub(super) fn others() -> Vec<Kernels> {
    let (_reference, others) = engines().split_last().expect("there is the reference");
    others.iter().map(|engine| engine.kernels()).collect()
}

pub(super) const LENGTHS: [usize; 14] = [
    0, 1, 31, 32, 33, 63, 64, 65, 127, 128, 129, 384, 1000, 16_384,
];

pub(super) fn noise_of(n: usize, noise: &mut Noise) -> Vec<u8> {
    (0..n).map(|_| noise.below(256)).collect()
}

#[test]
fn symbols_are_counted_each() {
    let noise = &mut Noise::new(1);
    for n in LENGTHS {
        let drawn: Vec<u8> = (0..n)
            .map(|_| noise.below(32).min(noise.below(32)))
            .collect();
        for symbols in [drawn, vec![0; n], vec![31; n], vec![16; n]] {
            let plain = (Kernels::PORTABLE.count)(&symbols);
            for (symbol, &count) in (0u8..).zip(&plain) {
                let expected = symbols.iter().filter(|&&s| s == symbol).count();
                assert_eq!(usize::try_from(count), Ok(expected));
            }
            for kernels in others() {
                assert_eq!((kernels.count)(&symbols), plain, "{n}");
            }
        }
    }
}

fn levels(n: usize, noise: &mut Noise) -> Vec<Levels> {
    (0..n)
        .map(|_| {
            let reach = 1 + usize::from(noise.below(32));
            let counts = std::array::from_fn(|i| {
                if i < reach {
                    u32::from(noise.below(250))
                } else {
                    0
                }
            });
            Levels::from_counts(&counts)
        })
        .collect()
}

/// By the definition: the sum of counts times prices, the first of equals.
#[test]
fn each_segment_goes_to_the_first_of_its_cheapest_classes() {
    let noise = &mut Noise::new(2);
    for n_classes in [1, 2, 3, 16, 17, 31, 32] {
        let mut levels = levels(n_classes, noise);
        // Equal classes, and one that knows no symbol.
        levels[n_classes / 2] = levels[0];
        levels[n_classes - 1] = Levels::default();
        let sizes: Vec<u32> = levels.iter().map(|_| u32::from(noise.below(100))).collect();
        let prices = Prices::of(&levels, &sizes);
        let mut segments: Vec<Histogram> = (0..150)
            .map(|_| std::array::from_fn(|_| i16::from(noise.below(200).min(noise.below(200)))))
            .collect();
        segments.push([0; 32]);
        segments.push(std::array::from_fn(|i| if i == 31 { 1 << 14 } else { 0 }));
        let expected: Vec<usize> = segments
            .iter()
            .map(|histogram| {
                let price = |class: &usize| -> i64 {
                    let of = |i: usize| i64::from(prices.pairs[i / 2][*class][i % 2]);
                    let name = i64::from(prices.names[*class]);
                    name + (0..32)
                        .map(|i| i64::from(histogram[i]) * of(i))
                        .sum::<i64>()
                };
                (0..n_classes).min_by_key(price).unwrap()
            })
            .collect();
        for kernels in [vec![Kernels::PORTABLE], others()].concat() {
            let mut ids = vec![77; segments.len()];
            (kernels.assign)(&segments, &prices, &mut ids);
            assert!(
                ids.iter()
                    .zip(&expected)
                    .all(|(&id, &e)| usize::from(id) == e)
            );
        }
    }
}

/// Keys, some of which have no symbol.
fn keys(noise: &mut Noise, holes: bool) -> Keys {
    std::array::from_fn(|_| {
        let key = noise.below(32);
        if holes && key == 0 { RARE } else { key }
    })
}

struct Fields {
    symbols: Vec<u8>,
    bytes: Vec<u8>,
    words: Vec<u16>,
    seen: Seen,
}

fn split(n: usize, work: impl FnOnce(Parts<'_>) -> Seen) -> Fields {
    let (mut symbols, mut bytes, mut words) = (vec![99; n], vec![99; n], vec![99; n]);
    let seen = work(Parts {
        symbols: &mut symbols,
        bytes: &mut bytes,
        words: &mut words,
    });
    Fields {
        symbols,
        bytes,
        words,
        seen,
    }
}

fn agree(a: &Fields, b: &Fields) {
    assert!(a.symbols == b.symbols && a.bytes == b.bytes && a.words == b.words);
    assert_eq!(a.seen, b.seen);
}

#[test]
fn numbers_are_split_by_their_fields() {
    let noise = &mut Noise::new(3);
    for n in LENGTHS {
        let raw = noise_of(4 * n, noise);
        let (twos, fours) = (&raw.as_chunks::<2>().0[..n], raw.as_chunks::<4>().0);
        for holes in [false, true] {
            let keys = keys(noise, holes);
            let bases = Bases {
                bytes: noise.below(128),
                words: u16::from(noise.below(256)) << 2,
            };
            let plain = Kernels::PORTABLE;
            let bf16 = split(n, |parts| (plain.split_bf16)(twos, &keys, bases, parts));
            let f16 = split(n, |parts| (plain.split_f16)(twos, &keys, bases, parts));
            let f32 = split(n, |parts| (plain.split_f32)(fours, &keys, bases, parts));
            for (i, number) in twos.iter().enumerate() {
                let x = u16::from_le_bytes(*number);
                assert_eq!(bf16.symbols[i], keys[usize::from(x >> 6 & 511)]);
                assert_eq!(u16::from(bf16.bytes[i]), x >> 15 << 6 | x & 63);
                assert_eq!(f16.symbols[i], keys[usize::from(x >> 9 & 63)]);
                assert_eq!(f16.words[i], x >> 15 << 9 | x & 511);
            }
            for (i, &[a, b, c, d]) in fours.iter().enumerate() {
                let x = u16::from_le_bytes([c, d]);
                assert_eq!(f32.symbols[i], keys[usize::from(x >> 6 & 511)]);
                assert_eq!(u16::from(f32.bytes[i]), x >> 15 << 6 | x & 63);
                assert_eq!(f32.words[i], u16::from_le_bytes([a, b]));
            }
            assert_eq!(bf16.seen.rare, bf16.symbols.contains(&RARE));
            let differing = bf16.bytes.iter().fold(0, |any, b| any | (b ^ bases.bytes));
            assert_eq!(bf16.seen.bytes, differing);
            for kernels in others() {
                let other = split(n, |parts| (kernels.split_bf16)(twos, &keys, bases, parts));
                agree(&bf16, &other);
                let other = split(n, |parts| (kernels.split_f16)(twos, &keys, bases, parts));
                agree(&f16, &other);
                let other = split(n, |parts| (kernels.split_f32)(fours, &keys, bases, parts));
                agree(&f32, &other);
            }
        }
    }
}

#[test]
fn bytes_and_words_are_packed_alike() {
    let noise = &mut Noise::new(4);
    for n in LENGTHS {
        let bytes = noise_of(n, noise);
        let words: Vec<u16> = noise_of(2 * n, noise)
            .as_chunks()
            .0
            .iter()
            .map(|pair| u16::from_le_bytes(*pair))
            .collect();
        let widened: Vec<u16> = bytes.iter().map(|&byte| u16::from(byte)).collect();
        for kernels in [vec![Kernels::PORTABLE], others()].concat() {
            for width in 0..=16 {
                for shift in [0, 1, 3, 16 - width] {
                    let (mut expected, mut packed) = (vec![9], vec![9]);
                    pack(&words, shift, width, &mut expected);
                    (kernels.pack_words)(&words, shift, width, &mut packed);
                    assert!(packed == expected, "{n} words, {width} bits from {shift}");
                    if width <= 8 && shift < 8 {
                        let (mut expected, mut packed) = (vec![9], vec![9]);
                        pack(&widened, shift, width, &mut expected);
                        (kernels.pack_bytes)(&bytes, shift, width, &mut packed);
                        assert!(packed == expected, "{n} bytes, {width} bits from {shift}");
                    }
                }
            }
        }
    }
}

/// What was packed comes back, by every form, from exactly as many bytes as there are.
#[test]
fn packed_values_are_unpacked() {
    let noise = &mut Noise::new(11);
    for n in LENGTHS {
        for width in 0..=16 {
            for shift in [0, 1, 5, 7, 15] {
                if width + shift > 16 {
                    continue;
                }
                let mask = u16::MAX.checked_shr(16 - width).unwrap_or(0) << shift;
                let base = u16::from_le_bytes([noise.below(256), noise.below(256)]) & !mask;
                let base = base & !u16::MAX.checked_shr(16 - width - shift).unwrap_or(0);
                let draw =
                    |noise: &mut Noise| u16::from_le_bytes([noise.below(256), noise.below(256)]);
                let words: Vec<u16> = (0..n).map(|_| draw(noise) & mask | base).collect();
                let mut packed = Vec::new();
                pack(&words, shift, width, &mut packed);
                let how = Packed { base, shift, width };
                let bytes: Vec<u8> = words.iter().map(|w| w.to_le_bytes()[0]).collect();
                for kernels in [vec![Kernels::PORTABLE], others()].concat() {
                    let mut back = vec![0xeeee; n];
                    (kernels.unpack_words)(&packed, how, &mut back);
                    assert_eq!(back, words, "{n} {width} {shift}");
                    if width + shift <= 8 {
                        let mut back = vec![0xee; n];
                        (kernels.unpack_bytes)(&packed, how, &mut back);
                        assert_eq!(back, bytes, "{n} {width} {shift}");
                    }
                }
            }
        }
    }
}

/// Numbers that are split come back from their fields.
#[test]
fn fields_are_joined_to_numbers() {
    let noise = &mut Noise::new(12);
    for n in LENGTHS {
        let symbols: Vec<u8> = (0..n).map(|_| noise.below(32)).collect();
        let bytes: Vec<u8> = (0..n).map(|_| noise.below(128)).collect();
        let words: Vec<u16> = (0..n)
            .map(|_| u16::from_le_bytes([noise.below(256), noise.below(256)]))
            .collect();
        let pairs: Vec<[u8; 2]> = words.iter().map(|word| word.to_le_bytes()).collect();
        let values: Values = std::array::from_fn(|i| u16::try_from(i * 16 + 3).unwrap());
        let short: Values = std::array::from_fn(|i| u16::try_from(2 * i).unwrap());
        for kernels in [vec![Kernels::PORTABLE], others()].concat() {
            let (mut bf16, mut f16) = (vec![[0; 2]; n], vec![[0; 2]; n]);
            let mut f32 = vec![[0; 4]; n];
            let low: Vec<u16> = words.iter().map(|w| w & 0x3ff).collect();
            let fields = super::Fields {
                symbols: &symbols,
                meaning: Meaning::Values(&values),
                bytes: &bytes,
                words: &[],
                pairs: &pairs,
            };
            (kernels.join_bf16)(fields, &mut bf16);
            (kernels.join_f32)(fields, &mut f32);
            let halves = super::Fields {
                meaning: Meaning::Values(&short),
                words: &low,
                ..fields
            };
            (kernels.join_f16)(halves, &mut f16);
            for i in 0..n {
                let (s, m) = (usize::from(symbols[i]), u32::from(bytes[i]));
                let upper = (m >> 6) << 15 | u32::from(values[s]) << 6 | m & 63;
                assert_eq!(u32::from(u16::from_le_bytes(bf16[i])), upper);
                assert_eq!(
                    u32::from_le_bytes(f32[i]),
                    upper << 16 | u32::from(words[i])
                );
                let half = u32::from(low[i]);
                let half = (half >> 9) << 15 | u32::from(short[s]) << 9 | half & 511;
                assert_eq!(u32::from(u16::from_le_bytes(f16[i])), half);
            }
        }
    }
}

/// Fields and numbers that begin at any byte, and packed values with others behind them.
#[test]
fn places_in_memory_do_not_matter() {
    let noise = &mut Noise::new(14);
    let n = 150;
    let symbols: Vec<u8> = (0..n + 40).map(|_| noise.below(32)).collect();
    let bytes: Vec<u8> = (0..n + 40).map(|_| noise.below(128)).collect();
    let words: Vec<u16> = (0..n + 40)
        .map(|_| u16::from(noise.below(256)) << 2 | u16::from(noise.below(4)))
        .collect();
    let pairs: Vec<[u8; 2]> = words.iter().map(|word| word.to_le_bytes()).collect();
    let values: Values = std::array::from_fn(|i| u16::try_from(2 * i).unwrap());
    let packed = noise_of(3 * n, noise);
    for kernels in others() {
        for by in 0..33 {
            let fields = super::Fields {
                symbols: &symbols[by..by + n],
                meaning: Meaning::Values(&values),
                bytes: &bytes[by / 2..by / 2 + n],
                words: &words[by..by + n],
                pairs: &pairs[by..by + n],
            };
            let run = |kernels: &Kernels| {
                let (mut twos, mut fours) = (vec![[7; 2]; n + 33], vec![[7; 4]; n + 33]);
                (kernels.join_bf16)(fields, &mut twos[by..by + n]);
                let bf16 = twos.clone();
                (kernels.join_f16)(fields, &mut twos[by..by + n]);
                (kernels.join_f32)(fields, &mut fours[by..by + n]);
                (bf16, twos, fours)
            };
            assert!(run(&kernels) == run(&Kernels::PORTABLE), "{by}");
            let width = u32::try_from(by % 15).unwrap() + 1;
            let how = Packed {
                width,
                ..Packed::default()
            };
            let run = |kernels: &Kernels| {
                let (mut bytes, mut words) = (vec![7; n + 33], vec![7; n + 33]);
                (kernels.unpack_words)(&packed[by..], how, &mut words[by..by + n]);
                let narrow = Packed {
                    width: width.min(8),
                    ..how
                };
                (kernels.unpack_bytes)(&packed[by..], narrow, &mut bytes[by..by + n]);
                (bytes, words)
            };
            assert!(run(&kernels) == run(&Kernels::PORTABLE), "{by}");
        }
    }
}

/// A block of symbols of these classes with packed mantissas beside it.
struct Coded {
    set: DecodeSet,
    groups: Vec<u8>,
    block: Vec<u8>,
    packed: Vec<u8>,
    n: usize,
}

impl Coded {
    fn new(n: usize, width: u32, noise: &mut Noise) -> Self {
        let reach = 1 + usize::from(noise.below(32));
        let symbols: Vec<u8> = (0..n)
            .map(|_| noise.below(reach).min(noise.below(reach)))
            .collect();
        let mut counts = [1; SYMBOLS_MAX];
        symbols.iter().for_each(|&s| counts[usize::from(s)] += 1);
        let levels = [
            Levels::from_counts(&[1; SYMBOLS_MAX]),
            Levels::from_counts(&counts),
        ];
        let groups: Vec<u8> = (0..n.div_ceil(LANES)).map(|_| noise.below(2)).collect();
        let mut block = Vec::new();
        let set = EncodeSet::new(&levels, Alphabet::ThirtyTwo);
        Reference
            .encode(&set, Classes::Groups(&groups), &symbols, &mut block)
            .unwrap();
        let words: Vec<u16> = (0..n)
            .map(|_| u16::from_le_bytes([noise.below(256), noise.below(256)]))
            .collect();
        let mut packed = Vec::new();
        pack(&words, 0, width, &mut packed);
        Self {
            set: DecodeSet::new(&levels, Alphabet::ThirtyTwo),
            groups,
            block,
            packed,
            n,
        }
    }

    /// Decodes `block` with `decode`.
    fn fused(&self, decode: DecodeHalves, block: &[u8], values: &Values) -> Result<Vec<[u8; 2]>> {
        let mut raw = vec![[0xee; 2]; self.n];
        let coded = (&self.set, &self.groups[..], block);
        // A buffer with something in it.
        decode(coded, values, &self.packed, &mut vec![7; 100], &mut raw)?;
        Ok(raw)
    }

    /// The same in single steps.
    fn plain(&self, width: u32, block: &[u8], values: &Values) -> Result<Vec<[u8; 2]>> {
        let mut symbols = vec![0; self.n];
        Reference.decode(
            &self.set,
            Classes::Groups(&self.groups),
            block,
            &mut symbols,
        )?;
        let how = Packed {
            width,
            ..Packed::default()
        };
        let (mut bytes, mut words) = (vec![0; self.n], vec![0; self.n]);
        let mut raw = vec![[0; 2]; self.n];
        if width == 7 {
            join::unpack_bytes(&self.packed, how, &mut bytes);
        } else {
            join::unpack_words(&self.packed, how, &mut words);
        }
        let fields = super::Fields {
            symbols: &symbols,
            meaning: Meaning::Values(values),
            bytes: &bytes,
            words: &words,
            pairs: &[],
        };
        if width == 7 {
            join::join_bf16(fields, &mut raw);
        } else {
            join::join_f16(fields, &mut raw);
        }
        Ok(raw)
    }
}

/// Where decoding and joining are one loop, it gives the same numbers and the same errors.
#[test]
fn blocks_are_decoded_and_joined_alike() {
    let noise = &mut Noise::new(13);
    let lengths = (0..300).step_by(7).chain(LENGTHS);
    let values: Values = std::array::from_fn(|i| u16::try_from(2 * i).unwrap());
    for n in lengths {
        for kernels in others() {
            for (decode, width) in [(kernels.decode_bf16, 7), (kernels.decode_f16, 10)] {
                let Some(decode) = decode else { continue };
                let coded = Coded::new(n, width, noise);
                let mut blocks = vec![coded.block.clone()];
                for _ in 0..20 {
                    let mut bad = coded.block.clone();
                    let at = usize::from(noise.below(251)) * bad.len() / 251;
                    bad[at] ^= 1 << noise.below(8);
                    blocks.push(bad);
                    blocks.push(coded.block[..at].to_vec());
                }
                for block in blocks {
                    assert_eq!(
                        coded.fused(decode, &block, &values),
                        coded.plain(width, &block, &values),
                        "{n} {width}"
                    );
                }
            }
        }
    }
}

/// Fields of blocks of each form, and units with and without extremes and lower bits.
#[test]
fn blocks_and_units_are_put_together_alike() {
    let noise = &mut Noise::new(21);
    for kernels in others() {
        for kind in 0..64 {
            let Ok(layout) = Layout::from_code(64 + kind) else {
                continue;
            };
            let Division::Blocks(blocks) = layout.division() else {
                continue;
            };
            let raw = noise_of(blocks.len * 37, noise);
            let planes: Vec<Plane> = (blocks.fields.iter())
                .map(|field| field.split(&raw, blocks.len, kernels.split_field))
                .collect();
            for (field, plane) in blocks.fields.iter().zip(&planes) {
                assert!(field.split(&raw, blocks.len, Field::take) == *plane);
            }
            let mut back = vec![7; raw.len()];
            blocks.join(&planes, &mut back, kernels.join_field);
            assert!(back == raw, "type {kind}");
        }
        for (unit, apart, lower_width) in
            [(1, false, 3), (16, true, 1), (32, true, 0), (32, false, 3)]
        {
            let (n, kept) = (100, unit - usize::from(apart));
            if apart {
                let values = noise_of(unit * n, noise);
                for centre in [0, 8, 255] {
                    let (one, other) = (
                        (kernels.take_extremes)(&values, unit, centre),
                        (Kernels::PORTABLE.take_extremes)(&values, unit, centre),
                    );
                    assert!(one == other, "extremes of {unit}");
                }
            }
            let symbols = noise_of(units::padded(n * kept, unit), noise);
            let symbols: Vec<u8> = symbols.iter().map(|s| s & 31).collect();
            let lower: Vec<u8> = symbols
                .iter()
                .rev()
                .map(|s| s & ((1 << lower_width) - 1))
                .collect();
            let source = Source {
                symbols: &symbols,
                lower: &lower,
                lower_width,
            };
            let starts: Vec<u32> = (0..100)
                .rev()
                .map(|i| i * u32::try_from(kept).unwrap())
                .collect();
            let (places, extremes) = (noise_of(n, noise), noise_of(n, noise));
            let places: Vec<u8> = places.iter().map(|p| p % 16).collect();
            let extremes = apart.then_some((&places[..], &extremes[..]));
            let (mut plain, mut quick) = (vec![0; n * unit], vec![1; n * unit]);
            (Kernels::PORTABLE.restore)(source, &starts, extremes, unit, &mut plain);
            (kernels.restore)(source, &starts, extremes, unit, &mut quick);
            assert!(plain == quick, "{unit} {apart} {lower_width}");
        }
    }
}
