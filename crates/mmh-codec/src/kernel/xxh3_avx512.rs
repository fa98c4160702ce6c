//! XXH3 (64 bits, no seed) of long content with AVX-512: a stripe of 64 bytes is one vector.
//!
//! <https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>, "XXH3 Algorithm Overview".

use std::arch::x86_64::*;

use super::avx512::{load, store};

const PRIME32: [u64; 3] = [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d];
const PRIME64: [u64; 5] = [
    0x9e37_79b1_85eb_ca87,
    0xc2b2_ae3d_27d4_eb4f,
    0x1656_67b1_9e37_79f9,
    0x85eb_ca77_c2b2_ae63,
    0x27d4_eb2f_1656_67c5,
];
/// What the accumulators start with.
const START: [u64; 8] = [
    PRIME32[2], PRIME64[0], PRIME64[1], PRIME64[2], PRIME64[3], PRIME32[1], PRIME64[4], PRIME32[0],
];
/// The specification's default secret.
static SECRET: [u8; 192] = [
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
];
const STRIPE: usize = 64;
/// Stripes between two scramblings: each takes the secret from 8 bytes further on.
const STRIPES: usize = (SECRET.len() - STRIPE) / 8;
/// Shorter content is hashed in other ways.
const LEN_MIN: usize = 241;

/// The part of the secret from `at` on.
#[inline]
#[target_feature(enable = "avx512f")]
fn secret(at: usize) -> __m512i {
    SECRET[at..]
        .first_chunk()
        .map_or(_mm512_setzero_si512(), |part| load(part))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add_stripe(sums: __m512i, stripe: &[u8; STRIPE], secret: __m512i) -> __m512i {
    let data = load(stripe);
    let keyed = _mm512_xor_si512(data, secret);
    let product = _mm512_mul_epu32(keyed, _mm512_srli_epi64::<32>(keyed));
    // Each number goes to the sum beside its own.
    let beside = _mm512_shuffle_epi32::<0b01_00_11_10>(data);
    _mm512_add_epi64(sums, _mm512_add_epi64(product, beside))
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn scramble(sums: __m512i) -> __m512i {
    let sums = _mm512_xor_si512(sums, _mm512_srli_epi64::<47>(sums));
    let keyed = _mm512_xor_si512(sums, secret(SECRET.len() - STRIPE));
    _mm512_mullo_epi64(keyed, _mm512_set1_epi64(PRIME32[0].cast_signed()))
}

/// The hash of any content.
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn xxh3(content: &[u8]) -> u64 {
    let (Some(last), true) = (content.last_chunk(), content.len() >= LEN_MIN) else {
        return twox_hash::XxHash3_64::oneshot(content);
    };
    let mut secrets = [_mm512_setzero_si512(); STRIPES];
    for (i, part) in secrets.iter_mut().enumerate() {
        *part = secret(8 * i);
    }
    let mut sums = load(&bytes_of(START));
    // The last stripe is not among these, even where it is whole.
    let stripes = content[..content.len() - 1].as_chunks::<STRIPE>().0;
    let (blocks, rest) = stripes.as_chunks::<STRIPES>();
    for block in blocks {
        for (stripe, secret) in block.iter().zip(secrets) {
            sums = add_stripe(sums, stripe, secret);
        }
        sums = scramble(sums);
    }
    for (stripe, secret) in rest.iter().zip(secrets) {
        sums = add_stripe(sums, stripe, secret);
    }
    sums = add_stripe(sums, last, secret(SECRET.len() - STRIPE - 7));
    let mut bytes = [0; STRIPE];
    store(&mut bytes, sums);
    merge(&bytes, content.len() as u64)
}

fn bytes_of(numbers: [u64; 8]) -> [u8; STRIPE] {
    let mut bytes = [0; STRIPE];
    for (place, number) in bytes.as_chunks_mut().0.iter_mut().zip(numbers) {
        *place = number.to_le_bytes();
    }
    bytes
}

/// The hash, of the sums of all stripes.
fn merge(sums: &[u8; STRIPE], len: u64) -> u64 {
    let numbers = |bytes: &[u8; 16]| {
        let (halves, _) = bytes.as_chunks();
        [u64::from_le_bytes(halves[0]), u64::from_le_bytes(halves[1])]
    };
    let mut hash = len.wrapping_mul(PRIME64[0]);
    let pairs = sums.as_chunks().0.iter().zip(SECRET[11..].as_chunks().0);
    for (sums, secret) in pairs {
        let ([a, b], [x, y]) = (numbers(sums), numbers(secret));
        let (low, high) = (a ^ x).carrying_mul(b ^ y, 0);
        hash = hash.wrapping_add(low ^ high);
    }
    hash ^= hash >> 37;
    hash = hash.wrapping_mul(0x1656_6791_9e37_79f9);
    hash ^ hash >> 32
}

#[cfg(test)]
mod tests {
    use crate::entropy::Avx512;
    use crate::kernel::Kernels;
    use crate::samples::Noise;

    /// Lengths around stripes, blocks and the shortest that is hashed here.
    #[test]
    fn hashes_are_those_of_the_plain_form() {
        let Some(kernels) = Avx512::detect().map(Kernels::avx512) else {
            return;
        };
        let noise = &mut Noise::new(41);
        let content: Vec<u8> = (0..5000).map(|_| noise.below(256)).collect();
        let lengths = (0..300)
            .chain(960..1100)
            .chain([2048, 2049, 4096, 4999, 5000]);
        for len in lengths {
            for start in [0, 1, 5000 - len] {
                let part = &content[start.min(5000 - len)..][..len];
                let hash = (kernels.xxh3)(part);
                assert_eq!(hash, twox_hash::XxHash3_64::oneshot(part), "{len} {start}");
            }
        }
    }
}
