//! Shares of a secret as words: SLIP-39, which reference tools and hardware wallets read.
//!
//! Any `threshold` of `count` shares give the secret back, fewer say nothing about it. A share of 32
//! bytes is 33 words with a checksum that finds any three wrong ones. We write one group; shares of
//! several groups, which others may have written, are combined too.
//!
//! Source: <https://github.com/satoshilabs/slips/blob/master/slip-0039.md>.
//!
//! ```
//! use mmh_crypto::share;
//! # let entropy = mmh_crypto::testing::Counter::default();
//! let shares = share::split(b"a secret of 32 bytes, no more...", (3, 5), "", &entropy)?;
//! let some: Vec<&str> = [4, 0, 2].map(|i| shares[i].as_str()).into();
//! assert_eq!(share::combine(&some, "")?.as_slice(), b"a secret of 32 bytes, no more...");
//! # Ok::<(), mmh_crypto::Error>(())
//! ```

mod cipher;
mod mnemonic;
mod sharing;

use std::collections::BTreeMap;

use mmh_core::ports::Entropy;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::secret::Secret;

use mnemonic::{Header, Share};

/// Most shares of a secret.
pub const SHARES_MAX: usize = 16;
/// Shortest secret, in bytes; lengths are even.
pub const SECRET_LEN_MIN: usize = 16;
/// Longest secret, in bytes.
pub const SECRET_LEN_MAX: usize = 64;
/// Most mnemonics that are looked at at once: sixteen groups of sixteen.
const MNEMONICS_MAX: usize = 256;
/// Largest exponent that is paid for: ten million rounds, some seconds.
const ITERATION_EXPONENT_MAX: u8 = 10;
/// 20,000 rounds of PBKDF2 in all, the standard's usual choice.
const ITERATION_EXPONENT: u8 = 1;

/// Splits `secret` so that `threshold` of `count` shares give it back.
///
/// The passphrase, of printable ASCII characters, is needed to combine them, but nothing says
/// whether it is right: a wrong one gives another secret. It may be empty.
///
/// # Errors
/// Invalid, for an odd or unsuitable length of the secret, more than [`SHARES_MAX`] shares, a
/// threshold of zero, of one with several shares, or above the count, or another passphrase;
/// Unavailable, if the generator fails.
pub fn split(
    secret: &[u8],
    (threshold, count): (u8, u8),
    passphrase: &str,
    entropy: &dyn Entropy,
) -> Result<Vec<Zeroizing<String>>> {
    check_secret_len(secret.len())?;
    check_passphrase(passphrase)?;
    let [high, low] = *Secret::<2>::generate(entropy)?.expose();
    let header = Header {
        identifier: u16::from_be_bytes([high, low]) >> 1,
        is_extendable: true,
        iteration_exponent: ITERATION_EXPONENT,
        group_threshold: 1,
        group_count: 1,
    };
    let encrypted = cipher::encrypt(secret, passphrase, &header);
    let values = sharing::split(&encrypted, threshold, count, entropy)?;
    let share = |(index, value)| Share {
        header,
        group: 0,
        index,
        threshold,
        value,
    };
    Ok(values
        .into_iter()
        .map(share)
        .map(|s| s.to_words())
        .collect())
}

/// The secret in `mnemonics`, which must be exactly as many as are needed.
///
/// # Errors
/// Invalid, if a mnemonic is misspelt, they do not belong together, or are too few or too many.
pub fn combine(mnemonics: &[&str], passphrase: &str) -> Result<Zeroizing<Vec<u8>>> {
    check_passphrase(passphrase)?;
    if mnemonics.len() > MNEMONICS_MAX {
        return Err(Error::TooLarge {
            what: "number of shares",
            value: mnemonics.len() as u64,
            limit: MNEMONICS_MAX as u64,
        });
    }
    let shares: Result<Vec<Share>> = mnemonics.iter().map(|words| Share::parse(words)).collect();
    let shares = shares?;
    let Some(first) = shares.first() else {
        return Err(refused("there are none"));
    };
    let (header, len) = (first.header, first.value.len());
    if shares
        .iter()
        .any(|s| s.header != header || s.value.len() != len)
    {
        return Err(refused("they are not of one secret"));
    }
    if header.iteration_exponent > ITERATION_EXPONENT_MAX {
        return Err(Error::TooLarge {
            what: "iteration exponent of shares",
            value: header.iteration_exponent.into(),
            limit: ITERATION_EXPONENT_MAX.into(),
        });
    }
    let mut groups: BTreeMap<u8, Vec<&Share>> = BTreeMap::new();
    for share in &shares {
        groups.entry(share.group).or_default().push(share);
    }
    if groups.len() != usize::from(header.group_threshold) {
        let needed = header.group_threshold;
        return Err(refused(&format!("{needed} groups are needed")));
    }
    let mut of_groups = Vec::new();
    for (group, members) in groups {
        of_groups.push((group, combine_group(&members)?));
    }
    let encrypted = sharing::combine(header.group_threshold, &of_groups)?;
    Ok(cipher::decrypt(&encrypted, passphrase, &header))
}

fn combine_group(members: &[&Share]) -> Result<Zeroizing<Vec<u8>>> {
    let threshold = members.first().map_or(0, |share| share.threshold);
    if members.iter().any(|share| share.threshold != threshold) {
        return Err(refused("they disagree about how many are needed"));
    }
    let values: BTreeMap<u8, &[u8]> = members
        .iter()
        .map(|s| (s.index, s.value.as_slice()))
        .collect();
    if values.len() != members.len() {
        return Err(refused("two of them are the same"));
    }
    if values.len() != usize::from(threshold) {
        return Err(refused(&format!("{threshold} of a group are needed")));
    }
    let values: Vec<_> = values
        .into_iter()
        .map(|(index, value)| (index, Zeroizing::new(value.to_vec())))
        .collect();
    sharing::combine(threshold, &values)
}

fn check_secret_len(len: usize) -> Result<()> {
    if !(SECRET_LEN_MIN..=SECRET_LEN_MAX).contains(&len) || !len.is_multiple_of(2) {
        return Err(Error::malformed(
            "secret to share",
            format!("it has {len} bytes; an even number from 16 to 64 can be shared"),
        ));
    }
    Ok(())
}

fn check_passphrase(passphrase: &str) -> Result<()> {
    if !passphrase.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        let reason = "it has characters besides printable ASCII";
        return Err(Error::malformed("passphrase of shares", reason));
    }
    Ok(())
}

fn refused(reason: &str) -> Error {
    Error::Shares {
        reason: reason.to_owned(),
    }
}

/// Combines hostile text; what is a share has one spelling.
///
/// # Panics
/// If it has another: that is its purpose.
#[cfg(any(test, feature = "testing"))]
pub fn fuzz_combine(text: &str) {
    if let Ok(share) = Share::parse(text) {
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(*share.to_words(), words.join(" ").to_ascii_lowercase());
    }
    let lines: Vec<&str> = text.lines().collect();
    drop(combine(&lines, "TREZOR"));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four bits of a share decide what combining costs; not all of them are paid.
    #[test]
    fn dear_shares_are_refused() {
        let header = Header {
            identifier: 1,
            is_extendable: true,
            iteration_exponent: ITERATION_EXPONENT_MAX + 1,
            group_threshold: 1,
            group_count: 1,
        };
        let share = Share {
            header,
            group: 0,
            index: 0,
            threshold: 1,
            value: Zeroizing::new(vec![5; 16]),
        };
        let error = combine(&[&share.to_words()], "").unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    }

    /// Checked by hand against the list: forty bits of header in four words.
    #[test]
    fn header_fields_are_where_the_standard_has_them() {
        // A share of vector 17 of the reference implementation.
        let words = "eraser senior ceramic snake clay various huge numb argue hesitate auction \
                     category timber browser greatest hanger petition script leaf pickup";
        let share = Share::parse(words).unwrap();
        assert_eq!(share.header.identifier, 9497);
        assert!(!share.header.is_extendable);
        assert_eq!(share.header.iteration_exponent, 0);
        assert_eq!(
            (share.header.group_threshold, share.header.group_count),
            (2, 4)
        );
        assert_eq!((share.group, share.index, share.threshold), (2, 4, 3));
        assert_eq!(*share.to_words(), words);
    }
}
