//! Padding against fingerprints by length: a sealed thing's size says little about its content's.
//!
//! Padmé (Nikitin, Barman, Lueks, Underwood, Hubaux, Ford: "Reducing Metadata Leakage from
//! Encrypted Files and Communication with PURBs", 2019): a length keeps only as many leading bits
//! as its own length has digits, so O(log log n) bits leak, at most 12 % are added (3 % from
//! 64 KiB, 1.6 % from 4 GiB). The end is marked by one byte 0x80 and zeros (ISO/IEC 7816-4).

use crate::error::{Error, Result};

/// Byte that ends the content; zeros follow it.
const MARK: u8 = 0x80;

/// The Padmé length of `len` bytes: not less than it, and not much more.
#[must_use]
pub fn padme(len: u64) -> u64 {
    if len < 2 {
        return len;
    }
    let exponent = len.ilog2();
    let kept = exponent.ilog2() + 1;
    // For exponents of one and two all bits are kept.
    let mask = (1u64 << exponent.saturating_sub(kept)) - 1;
    // Only lengths that no memory has would overflow; they stay as they are.
    len.checked_add(mask).map_or(len, |sum| sum & !mask)
}

/// Marks the end of `content` and fills it up.
pub(crate) fn pad(content: &mut Vec<u8>) {
    content.push(MARK);
    let target = usize::try_from(padme(content.len() as u64)).unwrap_or(content.len());
    content.resize(target, 0);
}

/// Takes off what [`pad`] added; any other padding is refused.
pub(crate) fn unpad(padded: &mut Vec<u8>, what: &'static str) -> Result<()> {
    let marked = padded.iter().rposition(|&byte| byte != 0);
    let Some(end) = marked.filter(|&at| padded.get(at) == Some(&MARK)) else {
        return Err(Error::malformed(what, "its padding has no mark"));
    };
    if padme(end as u64 + 1) != padded.len() as u64 {
        return Err(Error::malformed(what, "its padding has another length"));
    }
    padded.truncate(end);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths from the table in the paper's text and worked by hand from its definition.
    #[test]
    fn padme_of_known_lengths() {
        for (len, padded) in [
            (0, 0),
            (1, 1),
            (8, 8),
            (9, 10),
            (100, 104),
            (1000, 1024),
            (1 << 20, 1 << 20),
            ((1 << 20) + 1, (1 << 20) + (1 << 15)),
            (u64::MAX, u64::MAX),
        ] {
            assert_eq!(padme(len), padded, "{len}");
        }
    }

    #[test]
    fn padme_adds_at_most_twelve_percent_and_never_shrinks() {
        for len in (1..70_000).chain((1..2000).map(|i| i * 7919)) {
            let padded = padme(len);
            assert!(padded >= len && (padded - len) * 100 <= 12 * len, "{len}");
            assert_eq!(padme(padded), padded, "{len}: padding is a fixed point");
            assert!(padme(len - 1) <= padded, "{len}: order is kept");
        }
    }

    /// What an observer can tell apart: among all chunks of 1 to 4 MiB, 64 sizes.
    #[test]
    fn few_lengths_are_left() {
        let mut sizes: Vec<u64> = ((1 << 20)..(4 << 20)).step_by(61).map(padme).collect();
        sizes.dedup();
        assert_eq!(sizes.len(), 65);
    }

    #[test]
    fn padding_round_trips() {
        for len in 0..600 {
            let content = vec![0x80; len];
            let mut padded = content.clone();
            pad(&mut padded);
            assert!(padded.len() > len);
            unpad(&mut padded, "thing").unwrap();
            assert_eq!(padded, content);
        }
    }

    #[test]
    fn other_padding_is_refused() {
        for bad in [
            &b""[..],
            &[0],
            &[0; 16],
            &[1, 0],
            &[0x80, 0],
            &[1, 0x80, 0, 0, 0, 0],
        ] {
            let error = unpad(&mut bad.to_vec(), "thing").unwrap_err();
            assert_eq!(error.kind(), mmh_core::ErrorKind::Invalid, "{bad:?}");
        }
    }
}
