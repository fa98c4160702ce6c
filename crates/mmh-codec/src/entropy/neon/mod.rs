//! The engine for 64-bit ARM (every such CPU has NEON), as little-endian as its programs are.

#![allow(
    unsafe_code,
    reason = "functions for CPUs with NEON are called where it was found; vectors are loaded and stored"
)]

mod decode;
mod encode;

use std::arch::aarch64::*;
use std::arch::is_aarch64_feature_detected;

use super::vector::vector_engine;
use super::{Classes, DecodeSet, EncodeSet, Engine, Kernels, LANES};
use crate::error::Result;

vector_engine! {
    /// The engine, on a CPU that has the instructions.
    Neon, "neon", neon, is_aarch64_feature_detected!("neon")
}

/// Vectors of 8 halves of states.
const HALVES: usize = LANES / 8;

/// The low and the high halves of the states, 8 in a vector.
struct States {
    low: [uint16x8_t; HALVES],
    high: [uint16x8_t; HALVES],
}

impl States {
    #[target_feature(enable = "neon")]
    fn load(states: &[u32; LANES]) -> Self {
        let zero = [vdupq_n_u16(0); HALVES];
        let mut halves = Self {
            low: zero,
            high: zero,
        };
        for (k, eight) in states.as_chunks::<8>().0.iter().enumerate() {
            // SAFETY: 8 states are the 32 bytes of two vectors.
            let pair = unsafe { vld2q_u16(eight.as_ptr().cast()) };
            (halves.low[k], halves.high[k]) = (pair.0, pair.1);
        }
        halves
    }

    #[target_feature(enable = "neon")]
    fn store(&self, states: &mut [u32; LANES]) {
        for (k, eight) in states.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let pair = uint16x8x2_t(self.low[k], self.high[k]);
            // SAFETY: 8 states are the 32 bytes of two vectors.
            unsafe { vst2q_u16(eight.as_mut_ptr().cast(), pair) };
        }
    }
}

/// Bytes of 16 numbers, as the numbers.
#[inline]
#[target_feature(enable = "neon")]
fn zip(low: uint8x16_t, high: uint8x16_t) -> [uint16x8_t; 2] {
    [
        vreinterpretq_u16_u8(vzip1q_u8(low, high)),
        vreinterpretq_u16_u8(vzip2q_u8(low, high)),
    ]
}

/// For each vector, which of its lanes are all ones: a bit for each.
#[inline]
#[target_feature(enable = "neon")]
fn marks(lanes: &[uint16x8_t; HALVES]) -> uint8x8_t {
    let bits = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
    let pick = |j: usize| {
        let (first, last) = (lanes[2 * j], lanes[2 * j + 1]);
        let bytes = vuzp1q_u8(vreinterpretq_u8_u16(first), vreinterpretq_u8_u16(last));
        vandq_u8(bytes, bits)
    };
    let halves = (vpaddq_u8(pick(0), pick(1)), vpaddq_u8(pick(2), pick(3)));
    let sums = vpaddq_u8(halves.0, halves.1);
    vget_low_u8(vpaddq_u8(sums, sums))
}

#[cfg(test)]
mod tests;
