//! The loops of dense planes with AVX-512: 64 values at a time, whose levels, classes and sizes
//! are looked up in tables that lie in registers.

use std::arch::x86_64::*;

use super::avx512::{load, load_signed, store, store_doubles, store_signed};
use super::dense::{
    self, Coded, Interleave, KERNELS, Kept, MEANS, Near, PER_SCALE, PREDICTIONS, SIGN, SIZES,
    STEPS, Stage, WEIGHTS,
};

/// Values in a step.
const STEP: usize = 64;
/// A table of 128 bytes, in two vectors. What exceeds 127 is looked up as 127.
type Table = [[u8; STEP]; 2];

/// The level of each absolute value of a prediction, where contexts have it.
static PREDICTION_LEVELS: Table = levels(PREDICTIONS, 1, 3);
/// The level of each sum of the sizes of one neighbour, two, three.
static MEAN_LEVELS: [Table; 4] = [
    [[0; STEP]; 2],
    levels(MEANS, WEIGHTS[1], 0),
    levels(MEANS, WEIGHTS[2], 0),
    levels(MEANS, WEIGHTS[3], 0),
];
/// What a value shows, by its step and, in bit 4, its sign.
static SHOWN: [u8; STEP] = {
    let mut table = [0; STEP];
    let mut i = 0;
    while i < STEP {
        let size = SIZES[i % STEPS];
        let shown = if i & STEPS == 0 { size } else { -size };
        table[i] = shown.to_le_bytes()[0];
        i += 1;
    }
    table
};
/// The numbers of lanes.
static LANES: [u8; STEP] = {
    let mut lanes = [0; STEP];
    let mut i = 0u8;
    while i < 64 {
        lanes[i as usize] = i;
        i += 1;
    }
    lanes
};

/// How many of the limits lie below `weight` times each number, shifted.
const fn levels<const N: usize>(limits: [i16; N], weight: i16, shift: u32) -> Table {
    let mut table = [[0; STEP]; 2];
    let mut x = 0u8;
    while x < 128 {
        let (mut limit, mut level) = (0, 0);
        while limit < N {
            level += (weight * x as i16 > limits[limit]) as u8;
            limit += 1;
        }
        table[x as usize / STEP][x as usize % STEP] = level << shift;
        x += 1;
    }
    // The last place stands for all above.
    assert!(127 * weight > limits[N - 1]);
    table
}

#[inline]
#[target_feature(enable = "avx512f,avx512vbmi")]
fn look_up(table: [__m512i; 2], places: __m512i) -> __m512i {
    _mm512_permutex2var_epi8(table[0], places, table[1])
}

/// As [`dense::contexts`].
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn contexts(near: Near<'_>, known: &mut [u8]) {
    let predictions = PREDICTION_LEVELS.each_ref().map(|half| load(half));
    let means = &MEAN_LEVELS[near.count & 3];
    let means = means.each_ref().map(|half| load(half));
    let most = _mm512_set1_epi16(127);
    let sign = _mm512_set1_epi16(i16::MIN);
    let (steps, last) = known.as_chunks_mut::<STEP>();
    let done = STEP * steps.len();
    let [left, above, before] = near.straight.map(|shown| shown.as_chunks::<STEP>().0);
    let corner = near.corner.as_chunks::<STEP>().0;
    let sources = left.iter().zip(above).zip(before.iter().zip(corner));
    for (known, ((left, above), (before, corner))) in steps.iter_mut().zip(sources) {
        let straight = [left, above, before].map(|shown| load_signed(shown));
        let corner = load_signed(corner);
        // Bytes with an even number, and those with an odd one, as words.
        let even = |x| _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(x));
        let odd = |x| _mm512_srai_epi16::<8>(x);
        let predict = |[left, above, before]: [__m512i; 3], corner| {
            let sum = _mm512_add_epi16(_mm512_add_epi16(left, above), before);
            _mm512_sub_epi16(_mm512_add_epi16(sum, sum), corner)
        };
        let even = predict(straight.map(even), even(corner));
        let odd = predict(straight.map(odd), odd(corner));
        let absolute = |x| _mm512_min_epi16(_mm512_abs_epi16(x), most);
        let together = |even, odd| _mm512_or_si512(even, _mm512_slli_epi16::<8>(odd));
        let prediction = look_up(predictions, together(absolute(even), absolute(odd)));
        let negative = |x| _mm512_srli_epi16::<8>(_mm512_and_si512(x, sign));
        let negative = together(negative(even), negative(odd));
        let [left, above, before] = straight.map(|x| _mm512_abs_epi8(x));
        let sum = _mm512_adds_epu8(_mm512_adds_epu8(left, above), before);
        let sum = _mm512_min_epu8(sum, _mm512_set1_epi8(127));
        let mean = look_up(means, sum);
        let all = _mm512_ternarylogic_epi32::<0xfe>(prediction, negative, mean);
        store(known, all);
    }
    dense::contexts(near.from(done), last);
}

/// As [`dense::classes`]: the contexts of two scales are looked up at once.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn classes(map: &[[u8; PER_SCALE]], (scales, known): (&[u8], &[u8]), out: &mut [u8]) {
    let Some(highest) = map.len().checked_sub(1) else {
        return;
    };
    let highest = _mm512_set1_epi8(i8::try_from(highest).unwrap_or(i8::MAX));
    let (steps, last) = out.as_chunks_mut::<STEP>();
    let done = STEP * steps.len();
    let sources = scales.as_chunks().0.iter().zip(known.as_chunks().0);
    for (class, (scales, known_here)) in steps.iter_mut().zip(sources) {
        let scale = _mm512_min_epu8(load(scales), highest);
        let second = _mm512_slli_epi16::<6>(_mm512_and_si512(scale, _mm512_set1_epi8(1)));
        let context = _mm512_and_si512(load(known_here), _mm512_set1_epi8(63));
        let context = _mm512_or_si512(context, second);
        let pair = _mm512_and_si512(_mm512_srli_epi16::<1>(scale), _mm512_set1_epi8(0x7f));
        let mut found = _mm512_setzero_si512();
        let mut number = _mm512_setzero_si512();
        for tables in map.chunks(2) {
            let (first, last) = (&tables[0], &tables[tables.len() - 1]);
            let here = _mm512_cmpeq_epi8_mask(pair, number);
            let looked = look_up([load(first), load(last)], context);
            found = _mm512_mask_mov_epi8(found, here, looked);
            number = _mm512_add_epi8(number, _mm512_set1_epi8(1));
        }
        store(class, found);
    }
    dense::classes(map, (&scales[done..], &known[done..]), last);
}

/// As [`dense::keep_signed`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,popcnt")]
pub(super) fn keep_signed(coded: Coded<'_>, kept: Kept<'_>) -> u8 {
    let table = load(&SHOWN);
    let fifteen = _mm512_set1_epi8(15);
    let sign_bit = _mm512_set1_epi8(SIGN.cast_signed());
    let mut highest = _mm512_setzero_si512();
    let Kept {
        codes,
        shown,
        escaped,
        first,
        lift,
    } = kept;
    let lifted = _mm512_set1_epi8(lift.cast_signed());
    let (code_steps, last_codes) = codes.as_chunks_mut::<STEP>();
    let (shown_steps, last_shown) = shown.as_chunks_mut::<STEP>();
    let done = STEP * code_steps.len();
    let symbols = coded.symbols.as_chunks().0.iter();
    let known = coded.known.as_chunks().0;
    let sources = symbols.zip(known).zip(coded.scales.as_chunks().0);
    let places = code_steps.iter_mut().zip(shown_steps);
    let mut kernel = first;
    for ((code, shown), ((symbols, known), scales)) in places.zip(sources) {
        let symbols = load(symbols);
        let step = _mm512_and_si512(symbols, fifteen);
        let sign = _mm512_xor_si512(_mm512_slli_epi16::<3>(symbols), load(known));
        let sign = _mm512_and_si512(sign, sign_bit);
        let above = _mm512_add_epi8(_mm512_add_epi8(step, load(scales)), lifted);
        let above = _mm512_andnot_si512(sign_bit, above);
        store(code, _mm512_or_si512(above, sign));
        let place = _mm512_or_si512(step, _mm512_srli_epi16::<3>(sign));
        store_signed(shown, _mm512_permutexvar_epi8(place, table));
        let apart = _mm512_testn_epi8_mask(step, step);
        highest = _mm512_mask_max_epu8(highest, !apart, highest, above);
        note(apart, kernel, escaped);
        kernel = kernel.wrapping_add(64);
    }
    let kept = Kept {
        codes: last_codes,
        shown: last_shown,
        escaped,
        first: kernel,
        lift,
    };
    most(highest).max(dense::keep_signed(coded.from(done), kept))
}

/// As [`dense::keep`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,popcnt")]
pub(super) fn keep(coded: Coded<'_>, kept: Kept<'_>) -> u8 {
    let mut highest = _mm512_setzero_si512();
    let Kept {
        codes,
        shown,
        escaped,
        first,
        lift,
    } = kept;
    let lifted = _mm512_set1_epi8(lift.cast_signed());
    let (code_steps, last) = codes.as_chunks_mut::<STEP>();
    let done = STEP * code_steps.len();
    let symbols = coded.symbols.as_chunks().0.iter();
    let mut value = first;
    for (code, (symbols, scales)) in code_steps
        .iter_mut()
        .zip(symbols.zip(coded.scales.as_chunks().0))
    {
        let symbols = load(symbols);
        let above = _mm512_add_epi8(_mm512_add_epi8(symbols, load(scales)), lifted);
        store(code, above);
        let apart = _mm512_testn_epi8_mask(symbols, symbols);
        highest = _mm512_mask_max_epu8(highest, !apart, highest, above);
        note(apart, value, escaped);
        value = value.wrapping_add(64);
    }
    let kept = Kept {
        codes: last,
        shown,
        escaped,
        first: value,
        lift,
    };
    most(highest).max(dense::keep(coded.from(done), kept))
}

/// Appends the numbers of the values in `mask`, of which the first is `first`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt")]
fn note(mask: u64, first: u32, numbers: &mut Vec<u32>) {
    if mask == 0 {
        return;
    }
    let mut lanes = _mm512_maskz_compress_epi8(mask, load(&LANES));
    let mut left = mask.count_ones() as usize;
    while left > 0 {
        let low = _mm512_cvtepu8_epi32(_mm512_castsi512_si128(lanes));
        let found = _mm512_add_epi32(low, _mm512_set1_epi32(first.cast_signed()));
        let mut sixteen = [0; 16];
        store_doubles(&mut sixteen, found);
        // A copy of fixed length is quicker.
        let now = left.min(16);
        numbers.extend_from_slice(&sixteen);
        numbers.truncate(numbers.len() - 16 + now);
        left -= now;
        lanes = _mm512_alignr_epi32::<4>(_mm512_setzero_si512(), lanes);
    }
}

/// The highest byte.
#[inline]
#[target_feature(enable = "avx512f")]
fn most(vector: __m512i) -> u8 {
    let mut bytes = [0; STEP];
    store(&mut bytes, vector);
    bytes.into_iter().fold(0, u8::max)
}

/// Room for the codes of [`KERNELS`] kernels, and for a vector from the last of them on.
type Mixed = [u8; KERNELS * KERNELS + STEP];

/// As [`dense::interleave`], side by side.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn interleave(how: &Interleave, taps: &[&[u8]], out: &mut [u8]) {
    let Interleave { taps: n, stages } = how;
    let Some((last, first)) = stages.split_last() else {
        return dense::interleave(how, taps, out);
    };
    let (mut one, mut other): (Mixed, Mixed) = ([0; _], [0; _]);
    let (mut from, mut to) = (&mut one, &mut other);
    let tile = KERNELS * n;
    let tiles = out.len() / tile;
    for (i, out) in out.chunks_exact_mut(tile).enumerate() {
        for (place, codes) in from.as_chunks_mut::<STEP>().0.iter_mut().zip(taps) {
            if let Some(codes) = codes[i * KERNELS..].first_chunk() {
                *place = *codes;
            }
        }
        for stage in first {
            mix(stage, from, &mut to[..tile]);
            std::mem::swap(&mut from, &mut to);
        }
        mix(last, from, out);
    }
    let mut rest = [&[][..]; KERNELS];
    for (rest, codes) in rest.iter_mut().zip(taps) {
        *rest = &codes[tiles * KERNELS..];
    }
    dense::interleave(how, &rest[..*n], &mut out[tiles * tile..]);
}

/// Mixes as many sources as fill `out`, one result after the other.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn mix(stage: &Stage, from: &Mixed, out: &mut [u8]) {
    let len = KERNELS * stage.unit;
    for (i, out) in out.chunks_exact_mut(len * stage.side).enumerate() {
        let sources = &from[i * len * stage.side..];
        for (vector, pick) in out.as_chunks_mut().0.iter_mut().zip(&stage.vectors) {
            let places = load(&pick.places);
            let mut all = _mm512_setzero_si512();
            for (j, &mask) in pick.masks.iter().enumerate() {
                if let Some(source) = sources[j * len + pick.first..].first_chunk() {
                    all = _mm512_mask_permutexvar_epi8(all, mask, places, load(source));
                }
            }
            store(vector, all);
        }
    }
}
