//! Hashes of the protocol: keyed BLAKE3, with a spelling of their own.
//!
//! As text, each of the four groups of eight bytes is a little-endian number in hex, so every group
//! reads backwards.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// Key for the content of chunks ("Hashing Methods", Chunk Hashes).
const CHUNK_KEY: [u8; 32] = [
    102, 151, 245, 119, 91, 149, 80, 222, 49, 53, 203, 172, 165, 151, 24, 28, 157, 228, 33, 16,
    155, 235, 43, 88, 180, 208, 176, 75, 147, 173, 242, 41,
];
/// One chunk in so many may be asked for by any client, whoever stored it.
const SHARED_MODULUS: u64 = 1024;

/// A hash of a chunk, xorb or file.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct XetHash([u8; 32]);

impl XetHash {
    /// The 32 bytes of a hash.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The hash of a chunk's content.
    #[must_use]
    pub fn of_chunk(raw: &[u8]) -> Self {
        Self::keyed(&CHUNK_KEY, raw)
    }

    pub(crate) fn keyed(key: &[u8; 32], bytes: &[u8]) -> Self {
        Self(*blake3::keyed_hash(key, bytes).as_bytes())
    }

    /// Whether clients may ask for this chunk across files and repositories.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.last().is_multiple_of(SHARED_MODULUS)
    }

    /// The first eight bytes as a number, by which tables are sorted.
    pub(crate) fn first(&self) -> u64 {
        self.words()[0]
    }

    /// The last eight bytes as a number, which cuts are decided by.
    pub(crate) fn last(&self) -> u64 {
        self.words()[3]
    }

    /// What shards are sorted by.
    pub(crate) fn order(&self) -> [u64; 4] {
        self.words()
    }

    fn words(&self) -> [u64; 4] {
        let (groups, _) = self.0.as_chunks::<8>();
        std::array::from_fn(|i| groups.get(i).copied().map_or(0, u64::from_le_bytes))
    }
}

impl fmt::Display for XetHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.words()
            .iter()
            .try_for_each(|word| write!(f, "{word:016x}"))
    }
}

impl fmt::Debug for XetHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "XetHash({self})")
    }
}

impl FromStr for XetHash {
    type Err = Error;

    /// # Errors
    /// Malformed, for anything but 64 lower-case hex digits.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::malformed("hash", "it is not 64 lower-case hex digits");
        let is_digit = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 64 || !text.as_bytes().iter().all(is_digit) {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (i, group) in bytes.chunks_mut(8).enumerate() {
            let digits = text.get(16 * i..16 * i + 16).ok_or_else(bad)?;
            let word = u64::from_str_radix(digits, 16).map_err(|_| bad())?;
            group.copy_from_slice(&word.to_le_bytes());
        }
        Ok(Self(bytes))
    }
}

impl serde::Serialize for XetHash {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of the specification: each group of eight bytes is turned around.
    #[test]
    fn text_turns_each_group_of_eight_around() {
        let hash = XetHash(std::array::from_fn(|i| u8::try_from(i).unwrap()));
        let text = "07060504030201000f0e0d0c0b0a0908\
                    17161514131211101f1e1d1c1b1a1918";
        assert_eq!(hash.to_string(), text);
        assert_eq!(text.parse::<XetHash>().unwrap(), hash);
        assert_eq!(format!("{hash:?}"), format!("XetHash({text})"));
        assert_eq!(serde_json::to_string(&hash).unwrap(), format!("\"{text}\""));
    }

    #[test]
    fn other_spellings_are_refused() {
        let good = "0a".repeat(32);
        good.parse::<XetHash>().unwrap();
        let signed = format!("+{}", &good[1..]);
        let wide = "é".repeat(32);
        for bad in ["", "00", &good.to_uppercase(), &good[1..], &signed, &wide] {
            bad.parse::<XetHash>().unwrap_err();
        }
    }

    #[test]
    fn one_chunk_in_a_thousand_is_shared() {
        let mut bytes = [7; 32];
        bytes[24..26].copy_from_slice(&[0, 4]);
        assert!(XetHash(bytes).is_shared());
        bytes[24] = 1;
        assert!(!XetHash(bytes).is_shared());
    }

    proptest! {
        #[test]
        fn text_comes_back(bytes: [u8; 32]) {
            let hash = XetHash(bytes);
            prop_assert_eq!(hash.to_string().parse::<XetHash>().unwrap(), hash);
        }
    }
}
