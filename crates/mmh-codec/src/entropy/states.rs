//! The states at the head of a block: the place of each one's highest bit, then the bits below.
//!
//! States are spread evenly over the octaves from 2^16 to 2^32, so that this takes four bits and a
//! half less than all 32 bits of each.

use super::LANES;
use crate::error::{Result, corrupt};

/// Bytes of the places, four bits each.
const PLACES_LEN: usize = LANES / 2;
/// Bits below the highest one, of a state in the lowest octave.
const BITS_MIN: u32 = 16;
/// The most bytes that the bits below take: 31 for each state.
const BITS_LEN_MAX: usize = 31 * LANES / 8;

/// Appends states of at least 2^16.
pub(super) fn put_states(states: &[u32; LANES], out: &mut Vec<u8>) {
    let place = |state: u32| state.ilog2().saturating_sub(BITS_MIN).to_le_bytes()[0];
    for pair in states.as_chunks::<2>().0 {
        out.push(place(pair[0]) | place(pair[1]) << 4);
    }
    let (mut bits, mut n) = (0u64, 0);
    for state in states {
        let width = state.ilog2();
        bits |= u64::from(state - (1 << width)) << n;
        n += width;
        if n >= 32 {
            out.extend_from_slice(&bits.to_le_bytes()[..4]);
            (bits, n) = (bits >> 32, n - 32);
        }
    }
    out.extend_from_slice(&bits.to_le_bytes()[..n.div_ceil(8) as usize]);
}

/// Reads the states at the head of a block, and gives what follows them.
pub(super) fn take_states(block: &[u8]) -> Result<([u32; LANES], &[u8])> {
    const SHORT: &str = "a block is shorter than its states";
    let Some((places, rest)) = block.split_at_checked(PLACES_LEN) else {
        return corrupt(SHORT);
    };
    let mut widths = [0; LANES];
    for (pair, places) in widths.as_chunks_mut::<2>().0.iter_mut().zip(places) {
        *pair = [places & 15, places >> 4].map(|place| u32::from(place) + BITS_MIN);
    }
    let n_bits: u32 = widths.iter().sum();
    let Some((bits, words)) = rest.split_at_checked(n_bits.div_ceil(8) as usize) else {
        return corrupt(SHORT);
    };
    // Eight bytes can be read wherever a state begins.
    let mut padded = [0; BITS_LEN_MAX + 8];
    padded[..bits.len()].copy_from_slice(bits);
    let at = |bit: u32| -> u64 {
        let eight = padded[bit as usize / 8..].first_chunk();
        u64::from_le_bytes(eight.copied().unwrap_or_default()) >> (bit % 8)
    };
    if at(n_bits) != 0 {
        return corrupt("the states of a block are not filled with zeros");
    }
    let mut states = [0; LANES];
    let mut bit = 0;
    for (state, width) in states.iter_mut().zip(widths) {
        *state = 1 << width | low_double(at(bit)) & ((1 << width) - 1);
        bit += width;
    }
    Ok((states, words))
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "the low half has all the bits that are kept"
)]
fn low_double(x: u64) -> u32 {
    x as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::STATE_MIN;
    use crate::samples::Noise;

    fn drawn(noise: &mut Noise) -> [u32; LANES] {
        [(); LANES].map(|()| {
            let octave = 16 + u32::from(noise.below(16));
            1 << octave | low_double(noise.bits() & ((1 << octave) - 1))
        })
    }

    #[test]
    fn states_of_all_octaves_come_back() {
        let noise = &mut Noise::new(1);
        let mut len = 0;
        for round in 0..200 {
            let states = match round {
                0 => [STATE_MIN; LANES],
                1 => [u32::MAX; LANES],
                _ => drawn(noise),
            };
            let mut block = b"before".to_vec();
            put_states(&states, &mut block);
            block.extend_from_slice(b"after");
            let block = &block[6..];
            assert_eq!(take_states(block), Ok((states, &b"after"[..])));
            for cut in 0..block.len() - 5 {
                assert!(take_states(&block[..cut]).is_err(), "{cut}");
            }
            len += block.len() - 5;
        }
        assert!((215..225).contains(&(len / 200)), "{}", len / 200);
    }

    /// Every state has one spelling, and every spelling is a state.
    #[test]
    fn any_bytes_are_states_or_an_error() {
        let noise = &mut Noise::new(2);
        for len in 0..400 {
            let block: Vec<u8> = (0..len).map(|_| noise.below(256)).collect();
            if let Ok((states, words)) = take_states(&block) {
                assert!(states.iter().all(|&state| state >= STATE_MIN));
                let mut again = Vec::new();
                put_states(&states, &mut again);
                again.extend_from_slice(words);
                assert_eq!(again, block);
            }
        }
    }

    #[test]
    fn filling_bits_are_zeros() {
        let mut states = [STATE_MIN; LANES];
        states[5] = 1 << 17 | 77;
        let mut block = Vec::new();
        put_states(&states, &mut block);
        assert_eq!(block.len(), 32 + 128 + 1, "1025 bits");
        for bit in 1..8 {
            let mut bad = block.clone();
            bad[160] |= 1 << bit;
            assert!(take_states(&bad).is_err());
        }
    }
}
