//! FORMAT.md, "Layouts": for each bit of each symbol, the bit of the unit where it lies.

/// One plane: of each symbol in a unit, the places of its bits, the lowest first.
pub(super) struct Plane {
    pub(super) symbols: Vec<Vec<usize>>,
    pub(super) inverted: bool,
}

pub(super) struct Layout {
    pub(super) method: u8,
    /// Whether its first plane is coded in bins, as no other is.
    pub(super) in_bins: bool,
    /// The GGUF type, if it is one.
    pub(super) kind: Option<u8>,
    pub(super) unit: usize,
    pub(super) planes: Vec<Plane>,
}

impl Layout {
    pub(super) fn of(code: u8) -> Option<Self> {
        let (method, planes) = match code {
            0..=7 => {
                let (below, bits) = [(6, 16), (9, 16), (22, 32), (51, 64)][usize::from(code % 4)];
                (2, float(below, bits, code >= 4))
            }
            10 => (2, float(21, 32, false)),
            16..=19 => (3, (0..1 << (code - 16)).map(|b| bytes(b, 1)).collect()),
            20 => (3, vec![signed(0, 1)]),
            21 => (3, vec![plane(1, |_| vec![7, 0, 1, 2, 3, 4, 5, 6])]),
            22 => (3, vec![plane(2, |e| half(0, e))]),
            _ => (4, blocks(code.checked_sub(64)?)?),
        };
        let bits: usize = planes
            .iter()
            .flat_map(|plane| &plane.symbols)
            .map(Vec::len)
            .sum();
        let unit = bits / 8;
        Some(Self {
            method,
            in_bins: code == 10,
            kind: code.checked_sub(64),
            unit,
            planes,
        })
    }
}

fn plane(n: usize, places: impl Fn(usize) -> Vec<usize>) -> Plane {
    Plane {
        symbols: (0..n).map(places).collect(),
        inverted: false,
    }
}

/// `n` bits of the byte `byte`, from its bit `from` on.
fn part(byte: usize, from: usize, n: usize) -> Vec<usize> {
    (8 * byte + from..8 * byte + from + n).collect()
}

/// The low (0) or the high (1) half of a byte.
fn half(byte: usize, which: usize) -> Vec<usize> {
    part(byte, 4 * which, 4)
}

/// `h@byte`
fn h(byte: usize) -> Plane {
    plane(1, |_| part(byte, 0, 16))
}

/// `8@byte×n`
fn bytes(byte: usize, n: usize) -> Plane {
    plane(n, |e| part(byte + e, 0, 8))
}

fn signed(byte: usize, n: usize) -> Plane {
    Plane {
        inverted: true,
        ..bytes(byte, n)
    }
}

/// Element `e` of `n@byte`, one or more groups.
fn n(byte: usize, e: usize) -> Vec<usize> {
    half(byte + 16 * (e / 32) + e % 16, e / 16 % 2)
}

fn twos(byte: usize, e: usize) -> Vec<usize> {
    part(byte + 32 * (e / 128) + e % 32, 2 * (e / 32 % 4), 2)
}

fn wide(byte: usize, e: usize) -> Vec<usize> {
    half(byte + 32 * (e / 64) + e % 32, e / 32 % 2)
}

fn six(e: usize) -> Vec<usize> {
    let (a, c, l) = (e / 128, e / 32 % 4, e % 32);
    let low = half(64 * a + 32 * (c % 2) + l, c / 2);
    [low, part(128 + 32 * a + l, 2 * c, 2)].concat()
}

fn s3(i: usize) -> Vec<usize> {
    let low = if i < 8 {
        half(96 + i, 0)
    } else {
        half(88 + i, 1)
    };
    [low, part(104 + i % 4, 2 * (i / 4), 2)].concat()
}

fn s6(b: usize) -> [Plane; 2] {
    let later =
        |i: usize, which: usize, top: usize| [half(b + 4 + i, which), part(top, 6, 2)].concat();
    [
        plane(8, |i| {
            if i < 4 {
                part(b + i, 0, 6)
            } else {
                later(i, 0, b + i - 4)
            }
        }),
        plane(8, |i| {
            if i < 4 {
                part(b + 4 + i, 0, 6)
            } else {
                later(i, 1, b + i)
            }
        }),
    ]
}

/// Numbers of `bits` bits with `below` bits under the exponent's plane; the sign is in that plane
/// or in the one below.
fn float(below: usize, bits: usize, signed: bool) -> Vec<Plane> {
    let words = below / 16;
    let mut upper: Vec<usize> = (below..bits - 1).collect();
    let mut lower: Vec<usize> = (16 * words..below).collect();
    if signed { &mut upper } else { &mut lower }.push(bits - 1);
    let mut planes = vec![plane(1, |_| upper.clone()), plane(1, |_| lower.clone())];
    planes.extend(
        (0..words)
            .rev()
            .map(|word| plane(1, |_| part(2 * word, 0, 16))),
    );
    planes
}

fn blocks(kind: u8) -> Option<Vec<Plane>> {
    let with = |low: Vec<usize>, bit: usize| [low, vec![bit]].concat();
    Some(match kind {
        2 | 20 => vec![h(0), plane(32, |e| n(2, e))],
        3 => vec![h(0), h(2), plane(32, |e| n(4, e))],
        6 => vec![h(0), plane(32, |e| with(n(6, e), 8 * 2 + e))],
        7 => vec![h(0), h(2), plane(32, |e| with(n(8, e), 8 * 4 + e))],
        8 => vec![h(0), signed(2, 32)],
        9 => vec![h(0), h(2), signed(4, 32)],
        10 => {
            let [low, high] = [0, 1].map(|which| plane(16, |i| half(i, which)));
            vec![h(80), h(82), low, high, plane(256, |e| twos(16, e))]
        }
        11 => {
            let codes = plane(256, |e| with(twos(32, e), 8 * (e % 32) + e / 32));
            vec![h(108), plane(16, s3), codes]
        }
        12 => {
            let [scales, minimums] = s6(4);
            vec![h(0), h(2), scales, minimums, plane(256, |e| wide(16, e))]
        }
        13 => {
            let [scales, minimums] = s6(4);
            let codes = plane(256, |e| with(wide(48, e), 8 * (16 + e % 32) + e / 32));
            vec![h(0), h(2), scales, minimums, codes]
        }
        14 => vec![h(208), signed(192, 16), plane(256, six)],
        15 => vec![
            h(0),
            h(2),
            plane(16, |i| part(260 + 2 * i, 0, 16)),
            signed(4, 256),
        ],
        16 => vec![h(0), bytes(2, 64)],
        17 => vec![h(0), bytes(2, 64), bytes(66, 8)],
        18 => vec![h(0), bytes(2, 64), bytes(66, 32)],
        19 => vec![h(0), bytes(2, 32), bytes(34, 16)],
        21 => vec![
            h(0),
            bytes(2, 64),
            bytes(66, 8),
            bytes(74, 32),
            bytes(106, 4),
        ],
        22 => vec![h(0), bytes(2, 64), bytes(66, 8), bytes(74, 8)],
        23 => {
            let scale = |i: usize| [half(4 + i / 2, i % 2), part(2, 2 * i, 2)].concat();
            vec![h(0), plane(8, scale), plane(256, |e| n(8, e))]
        }
        29 => vec![bytes(0, 32), bytes(32, 16), bytes(48, 8)],
        34 => vec![h(52), bytes(0, 48), bytes(48, 4)],
        35 => vec![h(64), plane(256, |e| twos(0, e))],
        39 => vec![bytes(0, 1), plane(32, |e| n(1, e))],
        _ => return None,
    })
}
