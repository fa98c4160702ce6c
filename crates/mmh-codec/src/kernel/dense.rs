//! The loops of dense planes: from neighbours to contexts and classes, and from the symbols of
//! each tap to codes of numbers in their order. FORMAT.md, "Dense".

/// The steps of a half octave that a symbol with a sign distinguishes, with 0 for all others.
pub(crate) const STEPS: usize = 16;
/// The size of a value at each step, in units of which the scale has 16.
pub(crate) const SIZES: [i8; STEPS] = [0, 1, 1, 1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91];
/// Contexts of each scale in a kernel: 8 of the prediction, for each 8 of the neighbours' sizes.
pub(crate) const PER_SCALE: usize = 64;
/// The bit of a code that is the sign, and of what is known that is the likely sign.
pub(crate) const SIGN: u8 = 0x80;
/// What is known of a value that has no neighbour.
pub(crate) const ALONE: u8 = 7;
/// The limits between levels of the prediction, and of the mean.
pub(super) const PREDICTIONS: [i16; 7] = [4, 10, 18, 28, 40, 56, 80];
pub(super) const MEANS: [i16; 5] = [18, 36, 60, 96, 144];
/// The mean of sizes in units of which a size has 6, by how many there are.
pub(super) const WEIGHTS: [i16; 4] = [0, 6, 3, 2];

/// What the neighbours of some values show: left, above, before; and above the left one. What
/// is no neighbour shows 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Near<'a> {
    pub(crate) straight: [&'a [i8]; 3],
    pub(crate) corner: &'a [i8],
    /// How many of the straight ones are neighbours, at least one.
    pub(crate) count: usize,
}

#[cfg(target_arch = "x86_64")]
impl<'a> Near<'a> {
    /// What is left from value `start` on.
    pub(super) fn from(self, start: usize) -> Self {
        Self {
            straight: self.straight.map(|shown| &shown[start..]),
            corner: &self.corner[start..],
            ..self
        }
    }
}

/// What symbols mean: of each value what was known and its scale.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coded<'a> {
    pub(crate) symbols: &'a [u8],
    pub(crate) known: &'a [u8],
    pub(crate) scales: &'a [u8],
}

#[cfg(target_arch = "x86_64")]
impl Coded<'_> {
    pub(super) fn from(self, start: usize) -> Self {
        Self {
            symbols: &self.symbols[start..],
            known: &self.known[start..],
            scales: &self.scales[start..],
        }
    }
}

/// Where the values of each tap go, kernel after kernel.
#[derive(Debug)]
pub(crate) struct Kept<'a> {
    pub(crate) codes: &'a mut [u8],
    pub(crate) shown: &'a mut [i8],
    /// The kernels of values that no symbol stands for; the first value is of kernel `first`.
    pub(crate) escaped: &'a mut Vec<u32>,
    pub(crate) first: u32,
    /// What is added to each code, so that there is room below for values apart.
    pub(crate) lift: u8,
}

/// What is known of values by their neighbours: the context but for the scale, and [`SIGN`] where
/// a value is likely to be below 0.
#[inline(always)]
pub(super) fn contexts(near: Near<'_>, known: &mut [u8]) {
    let [left, above, before] = near.straight;
    let weight = WEIGHTS[near.count & 3];
    let sizes = left.iter().zip(above).zip(before.iter().zip(near.corner));
    for (known, ((&left, &above), (&before, &corner))) in known.iter_mut().zip(sizes) {
        let [left, above, before] = [left, above, before].map(i16::from);
        let prediction = 2 * (left + above + before) - i16::from(corner);
        let mean = weight * (left.abs() + above.abs() + before.abs());
        let levels = level(prediction.abs(), PREDICTIONS) << 3 | level(mean, MEANS);
        *known = levels | if prediction < 0 { SIGN } else { 0 };
    }
}

/// How many of the limits lie below `x`.
#[inline(always)]
fn level<const N: usize>(x: i16, limits: [i16; N]) -> u8 {
    limits.iter().map(|&limit| u8::from(x > limit)).sum()
}

/// The class of each context: of `map`, in which each scale has [`PER_SCALE`]. Scales beyond its
/// last are as the last.
#[inline(always)]
pub(super) fn classes(map: &[[u8; PER_SCALE]], (scales, known): (&[u8], &[u8]), out: &mut [u8]) {
    let Some(highest) = map.len().checked_sub(1) else {
        return;
    };
    for (class, (&scale, &known)) in out.iter_mut().zip(scales.iter().zip(known)) {
        *class = map[usize::from(scale).min(highest)][usize::from(known) % PER_SCALE];
    }
}

/// Makes codes of the symbols of kernels: how far a size is above the base, and the sign. Gives the
/// highest of what is above the base, but for values that no symbol stands for.
#[inline(always)]
pub(super) fn keep_signed(coded: Coded<'_>, kept: Kept<'_>) -> u8 {
    let Coded {
        symbols,
        known,
        scales,
    } = coded;
    let places = kept.codes.iter_mut().zip(kept.shown);
    let coded = symbols.iter().zip(known).zip(scales);
    let mut highest = 0;
    for (kernel, ((code, shown), ((&symbol, &known), &scale))) in
        (kept.first..).zip(places.zip(coded))
    {
        let sign = (symbol << 3 ^ known) & SIGN;
        let step = symbol & 15;
        let size = SIZES[usize::from(step)];
        *shown = if sign == 0 { size } else { -size };
        let above = step.wrapping_add(scale).wrapping_add(kept.lift) & (SIGN - 1);
        *code = above | sign;
        if step == 0 {
            kept.escaped.push(kernel);
        } else {
            highest = above.max(highest);
        }
    }
    highest
}

/// The same without kernels and signs.
#[inline(always)]
pub(super) fn keep(coded: Coded<'_>, kept: Kept<'_>) -> u8 {
    let mut highest = 0;
    let coded = coded.symbols.iter().zip(coded.scales);
    for (value, (code, (&symbol, &scale))) in (kept.first..).zip(kept.codes.iter_mut().zip(coded)) {
        *code = symbol.wrapping_add(scale).wrapping_add(kept.lift);
        if symbol == 0 {
            kept.escaped.push(value);
        } else {
            highest = highest.max(*code);
        }
    }
    highest
}

/// How the codes of taps are brought into the order of numbers: those of the taps along a side of
/// a kernel first, then what came of these along the next side.
#[derive(Debug)]
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "only the engines of x86-64 mix by vectors")
)]
pub(crate) struct Interleave {
    pub(super) taps: usize,
    pub(super) stages: Vec<Stage>,
}

/// The sources that follow each other along a side are mixed, unit by unit.
#[derive(Debug)]
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "only the engines of x86-64 mix by vectors")
)]
pub(super) struct Stage {
    /// Bytes of each kernel in a source.
    pub(super) unit: usize,
    /// Sources that are mixed.
    pub(super) side: usize,
    /// What each vector of the result of [`KERNELS`] kernels takes from the sources.
    pub(super) vectors: Vec<Pick>,
}

/// From byte `first` on of each source, the bytes at these places: of source i where its mask,
/// the one with number i, has a bit.
#[derive(Debug)]
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "only the engines of x86-64 mix by vectors")
)]
pub(super) struct Pick {
    pub(super) first: usize,
    pub(super) places: [u8; KERNELS],
    pub(super) masks: Vec<u64>,
}

/// Kernels whose codes are mixed at once.
pub(super) const KERNELS: usize = 64;
/// Longest unit that a result may have, so that what a vector takes lies in a vector.
const UNIT_MAX: usize = 64;

impl Interleave {
    /// For kernels with these sides, of which the first varies fastest. Without stages if kernels
    /// are too large for vectors.
    pub(crate) fn new(sides: [usize; 3]) -> Self {
        let taps = sides.iter().product();
        let mut stages = Vec::new();
        let mut unit = 1;
        for side in sides.into_iter().filter(|&side| side > 1) {
            if taps <= UNIT_MAX {
                stages.push(Stage::new(unit, side));
            }
            unit *= side;
        }
        Self { taps, stages }
    }
}

impl Stage {
    fn new(unit: usize, side: usize) -> Self {
        let vectors = (0..unit * side).map(|vector| {
            let of = |byte: usize| {
                let at = vector * KERNELS + byte;
                let place = at / (unit * side) * unit + at % unit;
                (place, at / unit % side)
            };
            let first = vector * KERNELS / (unit * side) * unit;
            let mut pick = Pick {
                first,
                places: [0; KERNELS],
                masks: vec![0; side],
            };
            for (byte, to) in pick.places.iter_mut().enumerate() {
                let (place, source) = of(byte);
                *to = u8::try_from(place - first).unwrap_or(0);
                pick.masks[source] |= 1 << byte;
            }
            pick
        });
        Self {
            unit,
            side,
            vectors: vectors.collect(),
        }
    }
}

/// Brings codes into the order of numbers: of each tap, those of as many kernels as `out` has room
/// for. `taps` are parts of equal length.
#[inline(always)]
pub(super) fn interleave(_: &Interleave, taps: &[&[u8]], out: &mut [u8]) {
    for (i, out) in out.chunks_mut(KERNELS * taps.len().max(1)).enumerate() {
        for (tap, codes) in taps.iter().enumerate() {
            let places = out.iter_mut().skip(tap).step_by(taps.len());
            for (place, code) in places.zip(&codes[i * KERNELS..]) {
                *place = *code;
            }
        }
    }
}

#[cfg(test)]
mod tests;
