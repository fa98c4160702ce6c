//! PEM (RFC 7468): keys and certificates as text, lines of 64 characters between two labels.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// Longest text that is looked at, in bytes: a certificate has a fifth of it.
const TEXT_LEN_MAX: usize = 64 << 10;
const COLUMNS: usize = 64;
const WHAT: &str = "PEM text";

/// Writes `bytes` under `label`. No copy is left behind, so that they may be secret.
#[must_use]
pub fn encode(label: &str, bytes: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(bytes));
    let len = body.len() + body.len() / COLUMNS + 2 * label.len() + 40;
    let mut text = Zeroizing::new(String::with_capacity(len));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, next) = rest.split_at(rest.len().min(COLUMNS));
        text.push_str(line);
        text.push('\n');
        rest = next;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

/// The label of a text, if its first line is the beginning of PEM.
#[must_use]
pub fn label(text: &str) -> Option<&str> {
    let first = text.trim_start().lines().next()?;
    first
        .trim_end()
        .strip_prefix("-----BEGIN ")?
        .strip_suffix("-----")
}

/// The bytes under `label`. White space around and within is passed over.
///
/// # Errors
/// Invalid, if the text has another label, is too long, or is no Base64.
pub fn decode(label: &str, text: &str) -> Result<Zeroizing<Vec<u8>>> {
    let malformed = |reason: &str| Error::malformed(WHAT, reason);
    if text.len() > TEXT_LEN_MAX {
        return Err(malformed("it is too long"));
    }
    let begin = format!("-----BEGIN {label}-----");
    let end = format!("-----END {label}-----");
    let body = text
        .trim()
        .strip_prefix(&begin)
        .and_then(|rest| rest.strip_suffix(&end))
        .ok_or_else(|| malformed(&format!("it is not a {label}")))?;
    let mut digits = Zeroizing::new(String::with_capacity(body.len()));
    digits.extend(body.chars().filter(|c| !c.is_ascii_whitespace()));
    let bytes = STANDARD.decode(digits.as_bytes());
    bytes
        .map(Zeroizing::new)
        .map_err(|_| malformed("it is not Base64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_round_trips() {
        let bytes: Vec<u8> = (0..200).collect();
        for len in 0..bytes.len() {
            let text = encode("MMH THING", &bytes[..len]);
            assert_eq!(label(&text), Some("MMH THING"));
            assert_eq!(**decode("MMH THING", &text).unwrap(), bytes[..len]);
            let windows = format!(" \r\n{}\r\n", text.replace('\n', "\r\n"));
            assert_eq!(label(&windows), Some("MMH THING"));
            assert_eq!(**decode("MMH THING", &windows).unwrap(), bytes[..len]);
            assert!(text.lines().all(|line| line.len() <= COLUMNS));
        }
    }

    #[test]
    fn every_cut_and_other_labels_are_refused() {
        let text = encode("A", &[7; 100]);
        for cut in 0..text.len() - 1 {
            assert!(decode("A", &text[..cut]).is_err(), "{cut}");
        }
        assert!(decode("B", &text).is_err());
        assert!(decode("A", &text.replacen('w', "!", 1)).is_err());
        assert!(decode("A", &" ".repeat(TEXT_LEN_MAX + 1)).is_err());
        assert_eq!((label(""), label("x\n-----BEGIN A-----")), (None, None));
    }
}
