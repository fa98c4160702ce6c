//! Content for tests: numbers that look like weights, from a seed, the same on every machine.

use mmh_core::Dtype;

use crate::layout::{Division, Field, Layout, Plane, block};

/// A small generator of noise (xorshift64*), not for anything secret.
#[derive(Debug, Clone)]
pub struct Noise(u64);

impl Noise {
    /// A generator; equal seeds give equal noise.
    #[must_use]
    pub fn new(rng_seed: u64) -> Self {
        Self(rng_seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A byte below `n`, which is at most 256.
    pub fn below(&mut self, n: usize) -> u8 {
        let byte = (self.bits() >> 33) % (n as u64).clamp(1, 256);
        u8::try_from(byte).unwrap_or(u8::MAX)
    }

    /// About a normal number of variance 1: the sum of twelve even ones.
    pub fn normal(&mut self) -> f32 {
        let sum: u64 = (0..12).map(|_| self.bits() >> 24).sum();
        // Below 2^44: exact, so that every machine subtracts the same.
        narrow(sum as f64 / (1u64 << 40) as f64 - 6.0)
    }
}

/// `n` floats of type `dtype`, the weights of a convolution with kernels of these sides (width,
/// height, depth): taps of a kernel are alike, and input channels differ in scale.
#[must_use]
pub fn convolution(
    dtype: Dtype,
    sides: [usize; 3],
    channels: usize,
    n: usize,
    rng_seed: u64,
) -> Vec<u8> {
    let noise = &mut Noise::new(rng_seed);
    let scale = |_| f32::from(1 + noise.below(64)) / 512.0;
    let scales: Vec<f32> = (0..channels).map(scale).collect();
    let taps: usize = sides.iter().product();
    let mut common = 0.0;
    let mut out = Vec::new();
    for i in 0..n {
        if i % taps == 0 {
            common = noise.normal();
        }
        let x = (common + 0.5 * noise.normal()) * scales[i / taps % channels];
        match dtype {
            Dtype::BF16 => out.extend_from_slice(&x.to_bits().to_le_bytes()[2..]),
            Dtype::F16 => out.extend_from_slice(&half(x).to_le_bytes()),
            Dtype::F64 => out.extend_from_slice(&f64::from(x).to_le_bytes()),
            _ => out.extend_from_slice(&x.to_le_bytes()),
        }
    }
    out
}

/// `len` bytes of elements of type `dtype`, in rows of `row_len` elements whose scales differ:
/// floats are rounded from normal numbers, the codes of other types are theirs times 16, bit
/// patterns of blocks are noise with a bias.
#[must_use]
pub fn weights(dtype: Dtype, row_len: usize, len: usize, rng_seed: u64) -> Vec<u8> {
    let noise = &mut Noise::new(rng_seed);
    let mut out = Vec::with_capacity(len + 16);
    let mut scale = 1.0f32;
    let mut i = 0;
    while out.len() < len {
        if i % row_len.max(1) == 0 {
            scale = f32::from(1 + noise.below(64)) / 1024.0;
        }
        i += 1;
        let x = noise.normal() * scale;
        match dtype {
            Dtype::BF16 => out.extend_from_slice(&x.to_bits().to_le_bytes()[2..]),
            Dtype::F16 => out.extend_from_slice(&half(x).to_le_bytes()),
            Dtype::F32 | Dtype::C64 => out.extend_from_slice(&x.to_le_bytes()),
            Dtype::F64 | Dtype::C128 => out.extend_from_slice(&f64::from(x).to_le_bytes()),
            Dtype::Bool => out.push(u8::from(x > 0.0)),
            Dtype::U16 | Dtype::I16 => out.extend_from_slice(&integer(x).to_le_bytes()[..2]),
            Dtype::U32 | Dtype::I32 => out.extend_from_slice(&integer(x).to_le_bytes()[..4]),
            Dtype::U64 | Dtype::I64 => out.extend_from_slice(&integer(x).to_le_bytes()),
            _ => out.push(integer(x).to_le_bytes()[0]),
        }
    }
    out.truncate(len);
    out
}

/// What training makes of floating point numbers: about half of them move by up to 2^`octaves`
/// places, at most 16 octaves, but none in each third row of 64.
#[must_use]
pub fn moved(base: &[u8], dtype: Dtype, octaves: usize, rng_seed: u64) -> Vec<u8> {
    let noise = &mut Noise::new(rng_seed);
    let len = usize::try_from(dtype.block().1).unwrap_or(1);
    let mut raw = base.to_vec();
    let rows = raw.chunks_mut(64 * len).enumerate();
    for (_, row) in rows.filter(|(i, _)| i % 3 > 0) {
        for number in row.chunks_exact_mut(len) {
            let mut bits = [0; 8];
            bits[..len].copy_from_slice(number);
            let step = (noise.bits() & 0xffff) >> (16 - noise.below(octaves.min(16) + 1));
            let up = noise.below(2) == 0;
            let step = if up { step } else { step.wrapping_neg() };
            let bits = u64::from_le_bytes(bits).wrapping_add(step);
            number.copy_from_slice(&bits.to_le_bytes()[..len]);
        }
    }
    raw
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "rounding to the nearest is what is wanted"
)]
fn narrow(x: f64) -> f32 {
    x as f32
}

/// Rounds toward zero, without subnormals: enough for content.
fn half(x: f32) -> u16 {
    let bits = x.to_bits();
    let exponent = (bits >> 23 & 0xff).saturating_sub(112).min(30);
    let mantissa = if exponent == 0 { 0 } else { bits >> 13 & 0x3ff };
    u16::try_from(bits >> 31 << 15 | exponent << 10 | mantissa).unwrap_or(0)
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "a small number, saturating by definition"
)]
fn integer(x: f32) -> i64 {
    (x * 512.0) as i64
}

/// Blocks of a quantised type as a quantiser leaves them: scales in binary16 that vary, codes that
/// spread the less the larger the scale, and one code at the end of its range in every 16. Empty
/// for types that have no blocks.
#[must_use]
pub fn quantised(dtype: Dtype, n_blocks: usize, rng_seed: u64) -> Vec<u8> {
    let Some(Division::Blocks(blocks)) = Layout::of(dtype).map(Layout::division) else {
        return Vec::new();
    };
    let noise = &mut Noise::new(rng_seed);
    let scales: Vec<u16> = (0..n_blocks)
        .map(|_| 0x2000 + 16 * u16::from(noise.below(128)))
        .collect();
    let plane = |field: &Field| {
        if field.width > 8 {
            return Plane::Words(scales.repeat(field.per_block));
        }
        let top = u32::from(u8::MAX >> (8 - field.width));
        if field.name == "scale" {
            let exponents = scales
                .iter()
                .map(|scale| 110 + (scale >> 9).to_le_bytes()[0]);
            return Plane::Bytes(exponents.collect());
        }
        if matches!(field.name, "scales" | "minimums") {
            // Both from the same start: a minimum goes with its scale.
            let noise = &mut Noise::new(rng_seed + 1);
            let n = (usize::from(u8::MAX >> (8 - field.width)) + 1) / 4;
            let quarters = 3 * u8::try_from(n).unwrap_or(0);
            let values = (0..n_blocks * field.per_block).map(|_| quarters + noise.below(n));
            return Plane::Bytes(values.collect());
        }
        let code = |i: usize| {
            if i.is_multiple_of(16) && field.per_block > 8 {
                return 0;
            }
            let scale = u32::from(scales[i / field.per_block] - 0x2000);
            // In units of 2^-11.
            let spread = (top + 1) * (2304 - scale);
            let drawn: u32 = (0..4).map(|_| u32::from(noise.below(256))).sum();
            let code = ((top + 1) * 1024 + spread * drawn / 1024).saturating_sub(spread / 2) / 2048;
            code.min(top).to_le_bytes()[0]
        };
        Plane::Bytes((0..n_blocks * field.per_block).map(code).collect())
    };
    let planes: Vec<Plane> = blocks.fields.iter().map(plane).collect();
    let mut raw = vec![0; n_blocks * blocks.len];
    blocks.join(&planes, &mut raw, block::join_field);
    raw
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_content() {
        for &dtype in Dtype::ALL {
            let sample = weights(dtype, 64, 1001, 5);
            assert_eq!(sample.len(), 1001);
            assert_eq!(sample, weights(dtype, 64, 1001, 5));
            assert_ne!(sample, weights(dtype, 64, 1001, 6), "{dtype}");
        }
    }

    #[test]
    fn normal_numbers_have_about_the_mean_and_variance_of_theirs() {
        let noise = &mut Noise::new(1);
        let draws: Vec<f32> = (0..20_000).map(|_| noise.normal()).collect();
        let mean = draws.iter().sum::<f32>() / 20_000.0;
        let variance = draws.iter().map(|x| x * x).sum::<f32>() / 20_000.0;
        assert!(
            mean.abs() < 0.05 && (variance - 1.0).abs() < 0.05,
            "{mean} {variance}"
        );
    }
}
