//! Armor: an age file as text, strict PEM with the label `AGE ENCRYPTED FILE`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Error, Result};

const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const END: &str = "-----END AGE ENCRYPTED FILE-----";
const COLUMNS: usize = 64;
const WHAT: &str = "age armor";

/// Whether `file` seems to be armored: after white space it begins as armor does.
#[must_use]
pub fn is_armored(file: &[u8]) -> bool {
    file.trim_ascii_start().starts_with(BEGIN.as_bytes())
}

/// A binary age file as text.
#[must_use]
pub fn encode(file: &[u8]) -> String {
    let body = STANDARD.encode(file);
    let mut text = format!("{BEGIN}\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, next) = rest.split_at(rest.len().min(COLUMNS));
        text.push_str(line);
        text.push('\n');
        rest = next;
    }
    text.push_str(END);
    text.push('\n');
    text
}

/// The binary age file in an armored one. Lines may end in CRLF, and white space may surround the
/// armor; nothing else is forgiven.
///
/// # Errors
/// Invalid, if the text is not armor as [`encode`] writes it.
pub fn decode(text: &[u8]) -> Result<Vec<u8>> {
    let text = std::str::from_utf8(text.trim_ascii()).map_err(|_| malformed("it is not text"))?;
    let mut lines = text
        .split('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line));
    if lines.next() != Some(BEGIN) {
        return Err(malformed("its first line is not that of armor"));
    }
    let mut body = String::with_capacity(text.len());
    let mut is_short = false;
    loop {
        let Some(line) = lines.next() else {
            return Err(malformed("its end is missing"));
        };
        if line == END {
            break;
        }
        if is_short || line.is_empty() || line.len() > COLUMNS {
            return Err(malformed("a line has the wrong length"));
        }
        is_short = line.len() < COLUMNS;
        body.push_str(line);
    }
    if lines.next().is_some() {
        return Err(malformed("something follows its end"));
    }
    STANDARD
        .decode(&body)
        .map_err(|_| malformed("its body is not canonical Base64"))
}

fn malformed(reason: &str) -> Error {
    Error::malformed(WHAT, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_round_trips() {
        let bytes: Vec<u8> = (0..200).collect();
        for len in 0..bytes.len() {
            let text = encode(&bytes[..len]);
            assert!(is_armored(text.as_bytes()));
            assert_eq!(decode(text.as_bytes()).unwrap(), bytes[..len]);
            let windows = format!(" \r\n{}\r\n", text.replace('\n', "\r\n"));
            assert_eq!(decode(windows.as_bytes()).unwrap(), bytes[..len]);
        }
    }

    #[test]
    fn every_cut_is_refused() {
        let text = encode(&[7; 100]);
        for cut in 0..text.len() - 1 {
            assert!(decode(&text.as_bytes()[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn binary_files_are_not_armored() {
        assert!(!is_armored(b"age-encryption.org/v1\n"));
        assert!(!is_armored(b""));
    }
}
