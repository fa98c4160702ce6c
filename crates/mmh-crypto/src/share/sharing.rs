//! Shamir's secret sharing over GF(256), with the digest that SLIP-39 hides in the polynomial.

use mmh_core::ports::Entropy;
use ring::hmac;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{SHARES_MAX, refused};
use crate::error::{Error, Result};
use crate::secret::Secret;

/// Where the polynomial has the secret.
const SECRET_INDEX: u8 = 255;
/// Where it has the secret's digest, by which wrong shares show.
const DIGEST_INDEX: u8 = 254;
const DIGEST_LEN: usize = 4;

type Point = (u8, Zeroizing<Vec<u8>>);

/// `count` points of a polynomial that any `threshold` of them determine.
pub(super) fn split(
    secret: &[u8],
    threshold: u8,
    count: u8,
    entropy: &dyn Entropy,
) -> Result<Vec<Point>> {
    let is_possible = (1..=count).contains(&threshold) && usize::from(count) <= SHARES_MAX;
    if !is_possible || (threshold == 1 && count > 1) {
        let reason = format!("{threshold} of {count} is not possible");
        return Err(Error::malformed("number of shares", reason));
    }
    if threshold == 1 {
        return Ok(vec![(0, Zeroizing::new(secret.to_vec()))]);
    }
    let mut points: Vec<Point> = Vec::with_capacity(count.into());
    for index in 0..threshold - 2 {
        points.push((index, random(secret.len(), entropy)?));
    }
    let mut base: Vec<Point> = points.clone();
    base.push((DIGEST_INDEX, with_digest(secret, entropy)?));
    base.push((SECRET_INDEX, Zeroizing::new(secret.to_vec())));
    for index in threshold - 2..count {
        points.push((index, interpolate(&base, index)));
    }
    Ok(points)
}

/// The secret on the polynomial through `points`, of which there must be `threshold`.
pub(super) fn combine(threshold: u8, points: &[Point]) -> Result<Zeroizing<Vec<u8>>> {
    if let (1, [(_, value)]) = (threshold, points) {
        return Ok(value.clone());
    }
    let secret = interpolate(points, SECRET_INDEX);
    let digest = interpolate(points, DIGEST_INDEX);
    let Some((found, random)) = digest.split_first_chunk::<DIGEST_LEN>() else {
        return Err(refused("they are too short"));
    };
    let expected = digest_of(&secret, random);
    if !bool::from(found.ct_eq(&expected)) {
        return Err(refused("they are not of one secret"));
    }
    Ok(secret)
}

fn random(len: usize, entropy: &dyn Entropy) -> Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; len]);
    entropy.fill(&mut bytes)?;
    Ok(bytes)
}

/// The digest of `secret` under a random key, and the key.
fn with_digest(secret: &[u8], entropy: &dyn Entropy) -> Result<Zeroizing<Vec<u8>>> {
    let key = random(secret.len() - DIGEST_LEN, entropy)?;
    let mut value = Zeroizing::new(Vec::with_capacity(secret.len()));
    value.extend_from_slice(&digest_of(secret, &key));
    value.extend_from_slice(&key);
    Ok(value)
}

fn digest_of(secret: &[u8], key: &[u8]) -> [u8; DIGEST_LEN] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), secret);
    let (digest, _) = tag.as_ref().split_first_chunk().expect("32 bytes");
    *digest
}

/// The polynomial's value at `at`. Lagrange's coefficients depend on indices, which are public;
/// they are multiplied with the secret values without looking at these.
fn interpolate(points: &[Point], at: u8) -> Zeroizing<Vec<u8>> {
    let len = points.first().map_or(0, |(_, value)| value.len());
    let mut sum = Zeroizing::new(vec![0; len]);
    for (index, value) in points {
        let (mut above, mut below) = (Secret::from_bytes(&[1u8]), 1);
        for (other, _) in points.iter().filter(|(other, _)| other != index) {
            above = Secret::from_bytes(&[mul(above.expose()[0], at ^ other)]);
            below = mul(below, index ^ other);
        }
        let coefficient = mul(above.expose()[0], inverse(below));
        for (sum, &byte) in sum.iter_mut().zip(value.iter()) {
            *sum ^= mul(byte, coefficient);
        }
    }
    sum
}

/// The product in GF(256) modulo x⁸ + x⁴ + x³ + x + 1, in constant time.
fn mul(a: u8, b: u8) -> u8 {
    (0..8).rev().fold(0, |product: u8, bit| {
        let carry = (product >> 7).wrapping_neg() & 0x1b;
        (product << 1) ^ carry ^ ((b >> bit & 1).wrapping_neg() & a)
    })
}

/// `a` to the power 254, which is the inverse of all but zero.
fn inverse(a: u8) -> u8 {
    (1..8).fold(1, |product, power| {
        mul(product, (0..power).fold(a, |square, _| mul(square, square)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Counter;

    #[test]
    fn gf256_is_the_field_of_aes() {
        assert_eq!(mul(0x57, 0x83), 0xc1, "FIPS 197, section 4.2");
        assert_eq!(mul(0x57, 0x13), 0xfe);
        for a in 1..=255 {
            assert_eq!(mul(a, inverse(a)), 1, "{a}");
            assert_eq!(mul(a, 1), a);
            for b in (0..=255).step_by(5) {
                assert_eq!(mul(a, b), mul(b, a));
            }
        }
    }

    /// Every choice of `threshold` of `count`, and no smaller one.
    #[test]
    fn any_threshold_of_shares_suffices() {
        let secret: Vec<u8> = (0..32).collect();
        for (threshold, count) in [(1, 1), (2, 2), (2, 5), (3, 5), (5, 5), (6, 7)] {
            let points = split(&secret, threshold, count, &Counter::default()).unwrap();
            assert_eq!(points.len(), usize::from(count));
            for choice in 0u32..1 << count {
                let chosen: Vec<Point> = (0..)
                    .zip(&points)
                    .filter(|(i, _)| choice >> i & 1 == 1)
                    .map(|(_, point)| point.clone())
                    .collect();
                let combined = combine(threshold, &chosen);
                if chosen.len() >= threshold.into() {
                    assert_eq!(combined.unwrap().as_slice(), secret);
                } else {
                    assert!(combined.is_err(), "{threshold} of {count}: {choice:b}");
                }
            }
        }
    }

    /// A changed byte in any share shows in the digest.
    #[test]
    fn changed_shares_are_noticed() {
        let points = split(&[9; 16], 2, 3, &Counter::default()).unwrap();
        for at in 0..16 {
            let mut changed = points[..2].to_vec();
            changed[1].1[at] ^= 1;
            assert!(combine(2, &changed).is_err(), "{at}");
        }
    }

    #[test]
    fn impossible_numbers_are_refused() {
        for (threshold, count) in [(0, 0), (0, 1), (1, 2), (3, 2), (2, 17), (255, 255)] {
            let error = split(&[9; 16], threshold, count, &Counter::default()).unwrap_err();
            assert_eq!(error.kind(), mmh_core::ErrorKind::Invalid);
        }
    }
}
