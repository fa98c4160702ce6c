//! Bech32 (BIP 173): the alphabet of 32 letters, regrouping of bits, and the checksum that age
//! puts on its recipients and identities. No limit of 90 characters: age has none.

use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// The letters, by value.
pub(crate) const LETTERS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
/// Longest text that is looked at; a hybrid recipient has 1,959 characters.
const TEXT_LEN_MAX: usize = 4096;
const CHECKSUM_LEN: usize = 6;
const WHAT: &str = "Bech32 text";

/// The value of a letter in lower case.
pub(crate) fn value(letter: u8) -> Option<u8> {
    let at = LETTERS.iter().position(|&known| known == letter)?;
    u8::try_from(at).ok()
}

/// Groups of five bits from bytes, the last filled with zeros.
pub(crate) fn to_fives(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut fives = Zeroizing::new(Vec::with_capacity(bytes.len() * 8 / 5 + 1));
    let (mut bits, mut n_bits) = (0u32, 0u32);
    for &byte in bytes {
        bits = bits << 8 | u32::from(byte);
        n_bits += 8;
        while n_bits >= 5 {
            n_bits -= 5;
            fives.push(low_bits(bits >> n_bits, 5));
        }
    }
    if n_bits > 0 {
        fives.push(low_bits(bits << (5 - n_bits), 5));
    }
    fives
}

/// Bytes from groups of five bits; none if the spare bits are not zero or a group is spare.
pub(crate) fn from_fives(fives: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(fives.len() * 5 / 8));
    let (mut bits, mut n_bits) = (0u32, 0u32);
    for &five in fives {
        bits = bits << 5 | u32::from(five);
        n_bits += 5;
        if n_bits >= 8 {
            n_bits -= 8;
            bytes.push(low_bits(bits >> n_bits, 8));
        }
    }
    let spare = bits & ((1 << n_bits) - 1);
    (n_bits < 5 && spare == 0).then_some(bytes)
}

fn low_bits(bits: u32, n: u32) -> u8 {
    let [low, ..] = (bits & ((1 << n) - 1)).to_le_bytes();
    low
}

/// Encodes `bytes` with the human-readable part `hrp` in lower case.
pub(crate) fn encode(hrp: &str, bytes: &[u8]) -> Zeroizing<String> {
    let fives = to_fives(bytes);
    let sum = polymod(hrp, fives.iter().copied().chain([0; CHECKSUM_LEN])) ^ 1;
    let checksum = (0..CHECKSUM_LEN).rev().map(|i| low_bits(sum >> (5 * i), 5));
    let mut text = Zeroizing::new(String::with_capacity(hrp.len() + fives.len() + 7));
    text.push_str(hrp);
    text.push('1');
    for five in fives.iter().copied().chain(checksum) {
        text.push(char::from(LETTERS[usize::from(five)]));
    }
    text
}

/// Decodes text that must be in lower case and begin with `hrp`.
pub(crate) fn decode(hrp: &str, text: &str) -> Result<Zeroizing<Vec<u8>>> {
    if text.len() > TEXT_LEN_MAX {
        return Err(Error::TooLarge {
            what: WHAT,
            value: text.len() as u64,
            limit: TEXT_LEN_MAX as u64,
        });
    }
    let Some((found, data)) = text.rsplit_once('1') else {
        return Err(Error::malformed(WHAT, "it has no separator `1`"));
    };
    if found != hrp {
        return Err(Error::malformed(
            WHAT,
            format!("it should begin with `{hrp}1`"),
        ));
    }
    let fives: Option<Vec<u8>> = data.bytes().map(value).collect();
    let Some(fives) = fives.map(Zeroizing::new) else {
        return Err(Error::malformed(WHAT, "it has a letter that Bech32 lacks"));
    };
    let Some((payload, _)) = fives.split_last_chunk::<CHECKSUM_LEN>() else {
        return Err(Error::malformed(WHAT, "it is too short for a checksum"));
    };
    if polymod(hrp, fives.iter().copied()) != 1 {
        return Err(Error::malformed(WHAT, "its checksum is wrong"));
    }
    from_fives(payload).ok_or_else(|| Error::malformed(WHAT, "its last letter has spare bits"))
}

/// The remainder of BIP 173 over the expanded human-readable part and `fives`.
fn polymod(hrp: &str, fives: impl Iterator<Item = u8>) -> u32 {
    const GENERATOR: [u32; 5] = [
        0x3b6a_57b2,
        0x2650_8e6d,
        0x1ea1_19fa,
        0x3d42_33dd,
        0x2a14_62b3,
    ];
    let high = hrp.bytes().map(|byte| byte >> 5);
    let low = hrp.bytes().map(|byte| byte & 31);
    high.chain([0])
        .chain(low)
        .chain(fives)
        .fold(1, |sum, five| {
            let top = sum >> 25;
            let next = (sum & 0x1ff_ffff) << 5 ^ u32::from(five);
            (0..).zip(GENERATOR).fold(
                next,
                |sum, (bit, term)| {
                    if top >> bit & 1 == 1 { sum ^ term } else { sum }
                },
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Valid strings of BIP 173, in lower case.
    #[test]
    fn accepts_the_vectors_of_bip_173() {
        assert!(decode("a", "a12uel5l").unwrap().is_empty());
        let text = "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw";
        let bytes = decode("abcdef", text).unwrap();
        assert_eq!(bytes.len(), 20);
        assert_eq!(*encode("abcdef", &bytes), text);
        let hrp =
            "an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio";
        decode(hrp, &format!("{hrp}1tt5tgs")).unwrap();
    }

    #[test]
    fn refuses_wrong_prefix_letter_checksum_and_length() {
        for text in [
            "", "a", "1", "a1", "a12uel5", "a12uel5m", "A12UEL5L", "b12uel5l", "a12uEl5l",
            "a1ouel5l",
        ] {
            let error = decode("a", text).unwrap_err();
            assert_eq!(error.kind(), mmh_core::ErrorKind::Invalid, "{text}");
        }
        let long = format!("a1{}", "q".repeat(5000));
        assert!(matches!(decode("a", &long), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn spare_bits_are_refused() {
        assert_eq!(*from_fives(&to_fives(&[0xff])).unwrap(), [0xff]);
        assert!(
            from_fives(&[31, 31]).is_none(),
            "spare bits that are not zero"
        );
        assert!(from_fives(&[31, 28, 0]).is_none(), "a group too many");
        assert!(from_fives(&[0]).is_none(), "less than a byte");
    }

    #[test]
    fn every_length_round_trips() {
        let bytes: Vec<u8> = (0..100u8).map(|i| i.wrapping_mul(77)).collect();
        for len in 0..bytes.len() {
            let text = encode("hrp", &bytes[..len]);
            assert_eq!(*decode("hrp", &text).unwrap(), bytes[..len]);
        }
    }

    /// Bech32 finds any single wrong letter.
    #[test]
    fn a_wrong_letter_is_found() {
        let text = encode("age", &[5; 32]);
        for at in 4..text.len() {
            for letter in LETTERS {
                let mut wrong = text.as_bytes().to_vec();
                if wrong[at] != *letter {
                    wrong[at] = *letter;
                    let wrong = String::from_utf8(wrong).unwrap();
                    assert!(decode("age", &wrong).is_err(), "{wrong}");
                }
            }
        }
    }
}
