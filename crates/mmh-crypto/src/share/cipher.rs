//! The wide-block cipher of SLIP-39: four Feistel rounds over PBKDF2-HMAC-SHA-256.

use std::num::NonZeroU32;

use ring::pbkdf2;
use zeroize::Zeroizing;

use super::mnemonic::Header;

const ROUNDS: [u8; 4] = [0, 1, 2, 3];
/// Iterations of one round at exponent zero.
const ITERATIONS: u32 = 2500;

pub(super) fn encrypt(secret: &[u8], passphrase: &str, header: &Header) -> Zeroizing<Vec<u8>> {
    rounds(secret, passphrase, header, ROUNDS.into_iter())
}

pub(super) fn decrypt(encrypted: &[u8], passphrase: &str, header: &Header) -> Zeroizing<Vec<u8>> {
    rounds(encrypted, passphrase, header, ROUNDS.into_iter().rev())
}

fn rounds(
    block: &[u8],
    passphrase: &str,
    header: &Header,
    order: impl Iterator<Item = u8>,
) -> Zeroizing<Vec<u8>> {
    let (left, right) = block.split_at(block.len() / 2);
    let mut left = Zeroizing::new(left.to_vec());
    let mut right = Zeroizing::new(right.to_vec());
    for round in order {
        let mask = round_function(round, &right, passphrase, header);
        left.iter_mut().zip(mask.iter()).for_each(|(l, m)| *l ^= m);
        std::mem::swap(&mut left, &mut right);
    }
    // The last swap is taken back.
    let mut joined = Zeroizing::new(Vec::with_capacity(block.len()));
    joined.extend_from_slice(&right);
    joined.extend_from_slice(&left);
    joined
}

fn round_function(round: u8, half: &[u8], passphrase: &str, header: &Header) -> Zeroizing<Vec<u8>> {
    let password = Zeroizing::new([&[round], passphrase.as_bytes()].concat());
    let mut salt = Zeroizing::new(Vec::new());
    if !header.is_extendable {
        salt.extend_from_slice(b"shamir");
        salt.extend_from_slice(&header.identifier.to_be_bytes());
    }
    salt.extend_from_slice(half);
    // The exponent has four bits: at most 2,500 · 2^15.
    let iterations = ITERATIONS << (header.iteration_exponent & 15);
    let iterations = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
    let mut mask = Zeroizing::new(vec![0; half.len()]);
    let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
    pbkdf2::derive(algorithm, iterations, &salt, &password, &mut mask);
    mask
}
