//! A share as words: header, value and checksum in groups of ten bits.

use zeroize::Zeroizing;

use super::{SECRET_LEN_MAX, SECRET_LEN_MIN};
use crate::error::{Error, Result};

/// The 1,024 words of SLIP-39, in order.
const WORDS: &str = include_str!("words.txt");
const RADIX_BITS: u32 = 10;
const HEADER_WORDS: usize = 4;
const CHECK_WORDS: usize = 3;
/// Words of the longest secret: 4 + 52 + 3.
const WORDS_MAX: usize = HEADER_WORDS + (SECRET_LEN_MAX * 8).div_ceil(10) + CHECK_WORDS;
const WHAT: &str = "share";

/// What all shares of a secret have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// 15 random bits.
    pub(super) identifier: u16,
    /// Whether the identifier stays out of the encryption.
    pub(super) is_extendable: bool,
    /// Binary logarithm of the cost, 0 to 15.
    pub(super) iteration_exponent: u8,
    /// Groups needed, 1 to 16.
    pub(super) group_threshold: u8,
    /// Groups there are, 1 to 16.
    pub(super) group_count: u8,
}

/// One share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) header: Header,
    pub(super) group: u8,
    pub(super) index: u8,
    /// Shares of its group needed, 1 to 16.
    pub(super) threshold: u8,
    pub(super) value: Zeroizing<Vec<u8>>,
}

impl Share {
    /// Reads words, in any case and with any white space between them.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let words = words();
        let mut numbers = Zeroizing::new(Vec::with_capacity(WORDS_MAX));
        for (at, word) in text.split_whitespace().enumerate() {
            if at == WORDS_MAX {
                return Err(malformed("it has too many words"));
            }
            let word = Zeroizing::new(word.to_ascii_lowercase());
            let number = words.binary_search(&word.as_str()).ok();
            let number = number.and_then(|number| u16::try_from(number).ok());
            let unknown = || malformed(&format!("word {} is not one of the list", at + 1));
            numbers.push(number.ok_or_else(unknown)?);
        }
        Self::from_numbers(&numbers)
    }

    fn from_numbers(numbers: &[u16]) -> Result<Self> {
        let Some((head, rest)) = numbers.split_first_chunk::<HEADER_WORDS>() else {
            return Err(malformed("it has too few words"));
        };
        let Some((value, _)) = rest.split_last_chunk::<CHECK_WORDS>() else {
            return Err(malformed("it has too few words"));
        };
        let head = head
            .iter()
            .fold(0u64, |sum, &n| sum << RADIX_BITS | u64::from(n));
        let field = |shift: u32| (head >> shift & 15).to_le_bytes()[0];
        let [low, high, ..] = (head >> 25).to_le_bytes();
        let header = Header {
            identifier: u16::from_le_bytes([low, high]),
            is_extendable: head >> 24 & 1 == 1,
            iteration_exponent: field(20),
            group_threshold: field(12) + 1,
            group_count: field(8) + 1,
        };
        if checksum(header.is_extendable, numbers.iter().copied()) != 1 {
            return Err(malformed(
                "its checksum is wrong: a word is misspelt or misplaced",
            ));
        }
        if header.group_threshold > header.group_count {
            return Err(malformed("it needs more groups than there are"));
        }
        Ok(Self {
            header,
            group: field(16),
            index: field(4),
            threshold: field(0) + 1,
            value: value_of(value)?,
        })
    }

    /// The words in lower case, a space between them.
    pub(super) fn to_words(&self) -> Zeroizing<String> {
        let header = &self.header;
        let fields = [
            header.iteration_exponent,
            self.group,
            header.group_threshold - 1,
            header.group_count - 1,
            self.index,
            self.threshold - 1,
        ];
        let head = u64::from(header.identifier) << 1 | u64::from(header.is_extendable);
        let head = fields.iter().fold(head, |sum, &f| sum << 4 | u64::from(f));
        let mut numbers = Zeroizing::new(Vec::with_capacity(WORDS_MAX));
        numbers.extend((0..4).rev().map(|i| ten_bits(head >> (RADIX_BITS * i))));
        push_value(&self.value, &mut numbers);
        let padded = numbers.iter().copied().chain([0; CHECK_WORDS]);
        let sum = checksum(header.is_extendable, padded) ^ 1;
        numbers.extend(
            (0..3)
                .rev()
                .map(|i| ten_bits((sum >> (RADIX_BITS * i)).into())),
        );
        let words = words();
        let mut text = Zeroizing::new(String::with_capacity(numbers.len() * 9));
        for word in numbers.iter().filter_map(|&n| words.get(usize::from(n))) {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(word);
        }
        text
    }
}

/// The bytes in the value's words; what stands before them must be less than a byte of zeros.
fn value_of(numbers: &[u16]) -> Result<Zeroizing<Vec<u8>>> {
    let n_bits = numbers.len() * 10;
    let padding = n_bits % 16;
    let len = (n_bits - padding) / 8;
    if !(SECRET_LEN_MIN..=SECRET_LEN_MAX).contains(&len) || padding > 8 {
        return Err(malformed("it has an unusual number of words"));
    }
    let mut value = Zeroizing::new(Vec::with_capacity(len));
    let (mut bits, mut n_bits) = (0u32, 0);
    let mut skip = padding;
    for &number in numbers {
        bits = bits << RADIX_BITS | u32::from(number);
        n_bits += 10;
        if skip > 0 {
            n_bits -= skip;
            if bits >> n_bits != 0 {
                return Err(malformed("its padding is not zero"));
            }
            skip = 0;
        }
        while n_bits >= 8 {
            n_bits -= 8;
            value.push((bits >> n_bits).to_le_bytes()[0]);
            bits &= (1 << n_bits) - 1;
        }
    }
    Ok(value)
}

fn push_value(value: &[u8], numbers: &mut Vec<u16>) {
    let padding = value.len() * 8 % 10;
    let (mut bits, mut n_bits) = (0u32, if padding == 0 { 0 } else { 10 - padding });
    for &byte in value {
        bits = bits << 8 | u32::from(byte);
        n_bits += 8;
        if n_bits >= 10 {
            n_bits -= 10;
            numbers.push(ten_bits((bits >> n_bits).into()));
            bits &= (1 << n_bits) - 1;
        }
    }
}

fn ten_bits(bits: u64) -> u16 {
    let [low, high, ..] = bits.to_le_bytes();
    u16::from_le_bytes([low, high & 3])
}

/// The Reed-Solomon remainder over GF(1024), which is one for a right share.
fn checksum(is_extendable: bool, numbers: impl Iterator<Item = u16>) -> u32 {
    const GENERATOR: [u32; 10] = [
        0x00e0_e040,
        0x01c1_c080,
        0x0383_8100,
        0x0707_0200,
        0x0e0e_0009,
        0x1c0c_2412,
        0x3808_6c24,
        0x3090_fc48,
        0x21b1_f890,
        0x03f3_f120,
    ];
    let custom: &[u8] = if is_extendable {
        b"shamir_extendable"
    } else {
        b"shamir"
    };
    let custom = custom.iter().map(|&byte| u16::from(byte));
    custom.chain(numbers).fold(1, |sum, number| {
        let top = sum >> 20;
        let next = (sum & 0xf_ffff) << RADIX_BITS ^ u32::from(number);
        (0..).zip(GENERATOR).fold(
            next,
            |sum, (bit, term)| {
                if top >> bit & 1 == 1 { sum ^ term } else { sum }
            },
        )
    })
}

fn words() -> Vec<&'static str> {
    WORDS.lines().collect()
}

fn malformed(reason: &str) -> Error {
    Error::malformed(WHAT, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(len: usize) -> Share {
        Share {
            header: Header {
                identifier: 0x5a5a,
                is_extendable: true,
                iteration_exponent: 9,
                group_threshold: 2,
                group_count: 16,
            },
            group: 15,
            index: 7,
            threshold: 16,
            value: Zeroizing::new((150..=255).cycle().take(len).collect()),
        }
    }

    /// The list is sorted, which the search relies on, and the first four letters tell words apart.
    #[test]
    fn the_list_has_1024_sorted_words() {
        let words = words();
        assert_eq!(words.len(), 1024);
        assert_eq!((words[0], words[1023]), ("academic", "zero"));
        assert!(words.windows(2).all(|pair| pair[0][..4] < pair[1][..4]));
        assert!(words.iter().all(|word| (4..=8).contains(&word.len())));
    }

    #[test]
    fn every_length_round_trips() {
        for len in (SECRET_LEN_MIN..=SECRET_LEN_MAX).step_by(2) {
            let share = share(len);
            let text = share.to_words();
            assert_eq!(Share::parse(&text).unwrap(), share, "{len}");
            let loud = text.to_ascii_uppercase().replace(' ', "\r\n  ");
            assert_eq!(Share::parse(&loud).unwrap(), share);
        }
        assert_eq!(share(16).to_words().split(' ').count(), 20);
        assert_eq!(share(32).to_words().split(' ').count(), 33);
        assert_eq!(share(64).to_words().split(' ').count(), WORDS_MAX);
    }

    /// The checksum finds any wrong word, and two words in each other's place.
    #[test]
    fn wrong_and_swapped_words_are_found() {
        let text = share(32).to_words();
        let good: Vec<&str> = text.split(' ').collect();
        for at in 0..good.len() {
            for word in words().into_iter().step_by(29).filter(|&w| w != good[at]) {
                let mut wrong = good.clone();
                wrong[at] = word;
                assert!(Share::parse(&wrong.join(" ")).is_err(), "{at} {word}");
            }
            let mut swapped = good.clone();
            swapped.swap(at, (at + 1) % good.len());
            if swapped != good {
                assert!(Share::parse(&swapped.join(" ")).is_err(), "{at}");
            }
            let mut fewer = good.clone();
            fewer.remove(at);
            assert!(Share::parse(&fewer.join(" ")).is_err(), "{at}");
        }
    }
}
