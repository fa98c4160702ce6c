//! The steps of the engine one by one, each beside its scalar twin; the exam is in `conformance`.

use super::decode::{self, Words};
use super::encode;
use super::*;
use crate::entropy::model::reciprocal;
use crate::entropy::{
    Alphabet, DecodeTable, EncodeTable, Levels, PROB_SCALE, STATE_MIN, SYMBOLS_MAX,
};
use crate::samples::Noise;

fn eight(vector: uint16x8_t) -> [u16; 8] {
    let mut values = [0; 8];
    // SAFETY: 8 values are the 16 bytes of a vector, and NEON was found by the caller.
    unsafe { vst1q_u16(values.as_mut_ptr(), vector) };
    values
}

fn vector(values: [u16; 8]) -> uint16x8_t {
    // SAFETY: 8 values are the 16 bytes of a vector, and NEON was found by the caller.
    unsafe { vld1q_u16(values.as_ptr()) }
}

fn word(noise: &mut Noise) -> u16 {
    u16::from_le_bytes([noise.below(256), noise.below(256)])
}

/// Lanes that are all ones or all zeros, and the same as bits.
fn lanes(noise: &mut Noise) -> ([uint16x8_t; HALVES], [u8; HALVES]) {
    let bits = std::array::from_fn(|_| noise.below(256) & noise.below(256));
    let lanes = bits.map(|bits: u8| {
        vector(std::array::from_fn(|i| {
            if bits >> i & 1 == 1 { u16::MAX } else { 0 }
        }))
    });
    (lanes, bits)
}

fn tables(noise: &mut Noise, alphabet: Alphabet) -> Levels {
    let reach = 1 + usize::from(noise.below(alphabet.size()));
    Levels::from_counts(&std::array::from_fn(|symbol| {
        u32::from(symbol < reach) * u32::from(noise.below(250)).pow(2)
    }))
}

/// # Safety
/// NEON was found.
#[target_feature(enable = "neon")]
fn run_all() {
    let noise = &mut Noise::new(31);
    states_come_back(noise);
    for _ in 0..500 {
        lanes_are_marked_and_take_words_in_their_order(noise);
        marked_words_are_kept_last_first(noise);
        states_advance_by_the_formula(noise);
    }
    for frequency in 1..4096 {
        states_are_divided(frequency, noise);
    }
    for _ in 0..20 {
        slots_have_their_entries::<8, false>(noise, Alphabet::Sixteen);
        slots_have_their_entries::<7, true>(noise, Alphabet::ThirtyTwo);
        symbols_have_their_entries::<false>(noise, Alphabet::Sixteen);
        symbols_have_their_entries::<true>(noise, Alphabet::ThirtyTwo);
    }
}

#[test]
fn each_step_is_that_of_its_scalar_twin() {
    assert!(Neon::detect().is_some());
    // SAFETY: NEON was found.
    unsafe { run_all() };
}

#[target_feature(enable = "neon")]
fn states_come_back(noise: &mut Noise) {
    let states: [u32; LANES] =
        std::array::from_fn(|_| u32::from(word(noise)) << 16 | u32::from(word(noise)));
    let mut back = [0; LANES];
    let halves = States::load(&states);
    for (k, eight_states) in states.as_chunks::<8>().0.iter().enumerate() {
        let (low, high) = (eight(halves.low[k]), eight(halves.high[k]));
        for (i, state) in eight_states.iter().enumerate() {
            assert_eq!(u32::from(high[i]) << 16 | u32::from(low[i]), *state);
        }
    }
    halves.store(&mut back);
    assert_eq!(back, states);
}

#[target_feature(enable = "neon")]
fn lanes_are_marked_and_take_words_in_their_order(noise: &mut Noise) {
    let (lanes, bits) = lanes(noise);
    let marked = marks(&lanes);
    let found = vget_lane_u64::<0>(vreinterpret_u64_u8(marked)).to_le_bytes();
    assert_eq!(found, bits);
    let window = std::array::from_fn(|_| noise.below(256));
    let mut next = window.as_chunks::<2>().0.iter();
    let words = Words::new(marked, &window);
    for (k, bits) in bits.into_iter().enumerate() {
        let taken = eight(words.of(k));
        for (i, taken) in taken.into_iter().enumerate() {
            let expected = match bits >> i & 1 {
                1 => u16::from_le_bytes(*next.next().unwrap()),
                _ => 0,
            };
            assert_eq!(taken, expected, "lane {i} of vector {k}");
        }
    }
    assert_eq!(words.used(), LANES - next.len());
}

#[target_feature(enable = "neon")]
fn marked_words_are_kept_last_first(noise: &mut Noise) {
    let (lanes, bits) = lanes(noise);
    let low: [[u16; 8]; HALVES] = std::array::from_fn(|_| std::array::from_fn(|_| word(noise)));
    let mut expected = vec![1, 2, 3];
    for (low, bits) in low.iter().zip(bits).rev() {
        let kept = (0..8).rev().filter(|i| bits >> i & 1 == 1);
        expected.extend(kept.map(|i| low[i]));
    }
    let mut words = vec![1, 2, 3];
    encode::push(&low.map(vector), marks(&lanes), &mut words);
    assert_eq!(words, expected);
}

#[target_feature(enable = "neon")]
fn states_advance_by_the_formula(noise: &mut Noise) {
    let mut draw = || -> [u16; 8] { std::array::from_fn(|_| word(noise)) };
    let (low, high, offset) = (draw(), draw(), draw());
    let frequency = draw().map(|f| f & 0xfff0);
    let (new_low, new_high) =
        decode::advance(vector(low), vector(high), vector(offset), vector(frequency));
    let (new_low, new_high) = (eight(new_low), eight(new_high));
    for i in 0..8 {
        let state = u32::from(high[i]) << 16 | u32::from(low[i]);
        let rank = (state + u32::from(offset[i])) % PROB_SCALE;
        let expected = u32::from(frequency[i] >> 4) * (state >> 12) + rank;
        assert_eq!(
            u32::from(new_high[i]) << 16 | u32::from(new_low[i]),
            expected
        );
    }
}

/// Also just below and at multiples of the frequency, up to the highest state it can be used in.
#[target_feature(enable = "neon")]
fn states_are_divided(frequency: u16, noise: &mut Noise) {
    let end = u32::from(frequency) << 20;
    let drawn = u32::from(word(noise)) << 16 | u32::from(word(noise));
    let multiple = drawn % end / u32::from(frequency) * u32::from(frequency);
    let states = [
        0,
        1,
        end - 1,
        end - u32::from(frequency),
        end - u32::from(frequency) - 1,
        multiple,
        multiple.saturating_sub(1),
        drawn % end,
    ];
    let halves = states.map(|state| {
        let [a, b, c, d] = state.to_le_bytes();
        (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))
    });
    let reciprocal = vdupq_n_f32(reciprocal(u32::from(frequency)));
    let (quotients, ranks) = encode::divide(
        (
            vector(halves.map(|(low, _)| low)),
            vector(halves.map(|(_, high)| high)),
        ),
        vdupq_n_u16(frequency),
        [reciprocal; 2],
    );
    let ranks = eight(ranks);
    for (i, state) in states.into_iter().enumerate() {
        let halves = eight(vreinterpretq_u16_u32(quotients[i / 4]));
        let quotient = u32::from(halves[2 * (i % 4) + 1]) << 16 | u32::from(halves[2 * (i % 4)]);
        assert_eq!(quotient, state / u32::from(frequency), "{state}");
        assert_eq!(u32::from(ranks[i]), state % u32::from(frequency), "{state}");
    }
}

/// All slots, in every state, looked up and fetched.
#[target_feature(enable = "neon")]
fn slots_have_their_entries<const BUCKET_BITS: u32, const WIDE: bool>(
    noise: &mut Noise,
    alphabet: Alphabet,
) {
    let table = DecodeTable::new(&tables(noise, alphabet), alphabet);
    let planes = decode::Planes::<WIDE>::new(&table);
    for first in (0..4096).step_by(LANES) {
        let slots: [u16; LANES] = std::array::from_fn(|k| first + u16::try_from(k).unwrap());
        let states = slots.map(|slot| STATE_MIN | u32::from(word(noise)) << 12 | u32::from(slot));
        let halves = States::load(&states);
        assert_eq!(halves.slots(), slots);
        let entries = slots.map(|slot| {
            let bucket = usize::from(slot >> BUCKET_BITS);
            let side = usize::from(u32::from(slot) >= table.threshold[bucket]);
            table.entries[side][bucket]
        });
        let tables = [table.clone()];
        let fetched = decode::fetch::<BUCKET_BITS>(&tables, &[0; LANES], &slots);
        assert_eq!(fetched, Some(entries));
        assert_eq!(
            decode::fetch::<BUCKET_BITS>(&tables, &[1; LANES], &slots),
            None
        );
        let looked_up = planes.look_up(&halves.low);
        for (found, entries) in looked_up.iter().zip(entries.as_chunks::<16>().0) {
            for found in [found, &decode::Quarter::load(entries)] {
                holds(found, entries);
            }
        }
    }
}

#[target_feature(enable = "neon")]
fn holds(found: &decode::Quarter, entries: &[u32; 16]) {
    let mut symbols = [0; 16];
    // SAFETY: 16 symbols are a vector.
    unsafe { vst1q_u8(symbols.as_mut_ptr(), found.symbols) };
    let offsets = found.offsets.map(eight);
    let frequencies = found.frequencies.map(eight);
    for (i, &entry) in entries.iter().enumerate() {
        assert_eq!(symbols[i], entry.to_le_bytes()[0]);
        let (half, lane) = (i / 8, i % 8);
        assert_eq!(u32::from(offsets[half][lane]) & 0xfff, entry >> 8 & 0xfff);
        assert_eq!(u32::from(frequencies[half][lane]), entry >> 20 << 4);
    }
}

#[target_feature(enable = "neon")]
fn symbols_have_their_entries<const WIDE: bool>(noise: &mut Noise, alphabet: Alphabet) {
    let table = EncodeTable::new(&tables(noise, alphabet), alphabet, &mut Vec::new());
    let planes = encode::Planes::<WIDE>::new(&table);
    let symbols: [u8; 16] = std::array::from_fn(|_| noise.below(alphabet.size()));
    // SAFETY: 16 symbols are a vector.
    let looked_up = planes.look_up(unsafe { vld1q_u8(symbols.as_ptr()) });
    let entry = |k: usize| usize::from(symbols[k % 16]);
    let loaded = encode::Entries::load(
        &std::array::from_fn(|k| table.symbols[entry(k)]),
        &std::array::from_fn(|k| table.reciprocals[entry(k)]),
    );
    for found in [&looked_up, &loaded[0], &loaded[3]] {
        let (frequencies, firsts) = (found.frequency.map(eight), found.first.map(eight));
        let reciprocals = found
            .reciprocals
            .map(|four| eight(vreinterpretq_u16_f32(four)));
        for (i, &symbol) in symbols.iter().enumerate() {
            let entry = table.symbols[usize::from(symbol)];
            assert_eq!(u32::from(frequencies[i / 8][i % 8]), entry & 0xfff);
            assert_eq!(u32::from(firsts[i / 8][i % 8]), entry >> 12);
            let halves = &reciprocals[i / 4][2 * (i % 4)..][..2];
            let bits = u32::from(halves[1]) << 16 | u32::from(halves[0]);
            assert_eq!(bits, table.reciprocals[usize::from(symbol)].to_bits());
        }
    }
    assert!(
        symbols
            .iter()
            .all(|&symbol| usize::from(symbol) < SYMBOLS_MAX)
    );
}
