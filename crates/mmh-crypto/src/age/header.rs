//! The textual header of an age file: version line, stanzas, and a MAC over them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::hmac;

use super::FileKey;
use crate::error::{Error, Result};
use crate::kdf;
use crate::secret::Secret;

const VERSION_PREFIX: &[u8] = b"age-encryption.org/";
const VERSION_LINE: &[u8] = b"age-encryption.org/v1";
const COLUMNS: usize = 64;
const MAC_LEN: usize = 32;
/// Longest header that is parsed: about 500 hybrid recipients.
const HEADER_LEN_MAX: usize = 1 << 20;
pub(super) const WHAT: &str = "age header";

/// What one recipient was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stanza {
    /// At least one; the first is the type.
    args: Vec<String>,
    body: Vec<u8>,
}

impl Stanza {
    pub(super) fn new(args: Vec<String>, body: Vec<u8>) -> Self {
        Self { args, body }
    }

    /// The type of recipient.
    pub(super) fn tag(&self) -> &str {
        self.args.first().map_or("", String::as_str)
    }

    /// The arguments after the type, of which there must be `N`.
    pub(super) fn args<const N: usize>(&self) -> Result<[&str; N]> {
        let args: Vec<&str> = self.args.iter().skip(1).map(String::as_str).collect();
        args.try_into().map_err(|args: Vec<_>| {
            let reason = format!("a stanza {} has {} arguments", self.tag(), args.len());
            Error::malformed(WHAT, reason)
        })
    }

    /// The body, which must have `N` bytes.
    pub(super) fn body<const N: usize>(&self) -> Result<&[u8; N]> {
        self.body.as_slice().try_into().map_err(|_| {
            let reason = format!("a stanza {} wraps {} bytes", self.tag(), self.body.len());
            Error::malformed(WHAT, reason)
        })
    }

    fn write(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(b"->");
        for arg in &self.args {
            text.push(b' ');
            text.extend_from_slice(arg.as_bytes());
        }
        let body = encode(&self.body);
        // A body that fills its last line is followed by an empty one.
        let mut lines = body.as_bytes().chunks(COLUMNS);
        for _ in 0..=body.len() / COLUMNS {
            text.push(b'\n');
            text.extend_from_slice(lines.next().unwrap_or_default());
        }
        text.push(b'\n');
    }
}

/// A parsed header and where it lies in its file.
#[derive(Debug)]
pub(super) struct Header<'a> {
    stanzas: Vec<Stanza>,
    mac: [u8; MAC_LEN],
    /// The header up to and with `---`.
    mac_text: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Header<'a> {
    /// Parses the header at the beginning of `file`.
    pub(super) fn parse(file: &'a [u8]) -> Result<Self> {
        let mut lines = Lines { file, at: 0 };
        check_version(lines.next()?)?;
        let mut stanzas = Vec::new();
        loop {
            let start = lines.at;
            let line = lines.next()?;
            if let Some(args) = line.strip_prefix(b"-> ") {
                stanzas.push(parse_stanza(args, &mut lines)?);
                continue;
            }
            let Some(mac) = line.strip_prefix(b"--- ") else {
                return Err(malformed("a line begins neither a stanza nor the end"));
            };
            if stanzas.is_empty() {
                return Err(malformed("it has no stanza"));
            }
            let mac = decode_array(mac).ok_or_else(|| malformed("its MAC is not Base64"))?;
            let (mac_text, _) = file.split_at(start + 3);
            let (_, payload) = file.split_at(lines.at);
            return Ok(Self {
                stanzas,
                mac,
                mac_text,
                payload,
            });
        }
    }

    pub(super) fn stanzas(&self) -> &[Stanza] {
        &self.stanzas
    }

    pub(super) fn payload(&self) -> &'a [u8] {
        self.payload
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn mac_text(&self) -> &'a [u8] {
        self.mac_text
    }

    /// Checks that the header was written by someone who knew the file key.
    pub(super) fn check_mac(&self, file_key: &FileKey) -> Result<()> {
        hmac::verify(&mac_key(file_key), self.mac_text, &self.mac)
            .map_err(|_| Error::Forged { what: WHAT })
    }
}

/// The header of a file with `stanzas`, MAC and all.
pub(super) fn write(stanzas: &[Stanza], file_key: &FileKey) -> Vec<u8> {
    let mut text = [VERSION_LINE, b"\n"].concat();
    stanzas.iter().for_each(|stanza| stanza.write(&mut text));
    text.extend_from_slice(b"---");
    let mac = hmac::sign(&mac_key(file_key), &text);
    text.push(b' ');
    text.extend_from_slice(encode(mac.as_ref()).as_bytes());
    text.push(b'\n');
    text
}

/// Canonical Base64 without padding.
pub(super) fn encode(bytes: &[u8]) -> String {
    STANDARD_NO_PAD.encode(bytes)
}

/// `N` bytes from their one Base64 spelling.
pub(super) fn decode_array<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    STANDARD_NO_PAD.decode(text).ok()?.try_into().ok()
}

fn mac_key(file_key: &FileKey) -> hmac::Key {
    let key: Secret<32> = kdf::hkdf(file_key.expose(), &[], b"header");
    hmac::Key::new(hmac::HMAC_SHA256, key.expose())
}

fn check_version(line: &[u8]) -> Result<()> {
    let Some(version) = line.strip_prefix(VERSION_PREFIX) else {
        return Err(malformed("it does not begin as age files do"));
    };
    if line == VERSION_LINE {
        return Ok(());
    }
    let name = String::from_utf8_lossy(version);
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(malformed("its version is not a word"));
    }
    Err(Error::Unsupported {
        what: "age version",
        name: mmh_core::error::shorten(&name),
    })
}

fn parse_stanza(args: &[u8], lines: &mut Lines<'_>) -> Result<Stanza> {
    let mut words = Vec::new();
    for word in args.split(|&byte| byte == b' ') {
        if word.is_empty() || !word.iter().all(u8::is_ascii_graphic) {
            return Err(malformed("an argument is empty or not printable"));
        }
        words.push(String::from_utf8_lossy(word).into_owned());
    }
    let mut text = Vec::new();
    loop {
        let line = lines.next()?;
        if line.len() > COLUMNS {
            return Err(malformed("a line of a stanza is longer than 64 columns"));
        }
        text.extend_from_slice(line);
        if line.len() < COLUMNS {
            break;
        }
    }
    let body = STANDARD_NO_PAD
        .decode(&text)
        .map_err(|_| malformed("the body of a stanza is not canonical Base64"))?;
    Ok(Stanza::new(words, body))
}

fn malformed(reason: &str) -> Error {
    Error::malformed(WHAT, reason)
}

/// The lines of a header, each of which must end.
struct Lines<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<&'a [u8]> {
        let rest = self.file.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|&byte| byte == b'\n');
        let Some((line, _)) = end.and_then(|end| rest.split_at_checked(end)) else {
            return Err(malformed("it ends within a line"));
        };
        self.at += line.len() + 1;
        if self.at > HEADER_LEN_MAX {
            return Err(Error::TooLarge {
                what: WHAT,
                value: self.at as u64,
                limit: HEADER_LEN_MAX as u64,
            });
        }
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> FileKey {
        Secret::from_bytes(b"YELLOW SUBMARINE")
    }

    fn stanza(body_len: usize) -> Stanza {
        Stanza::new(vec!["X".to_owned(), "arg".to_owned()], vec![7; body_len])
    }

    /// A body of 48 bytes fills a line of 64 columns; an empty line must follow.
    #[test]
    fn headers_round_trip_at_every_body_length() {
        for len in 0..150 {
            let stanzas = [stanza(len), stanza(150 - len)];
            let mut file = write(&stanzas, &key());
            file.extend_from_slice(b"payload");
            let header = Header::parse(&file).unwrap();
            assert_eq!(header.stanzas(), stanzas);
            assert_eq!(header.payload(), b"payload");
            header.check_mac(&key()).unwrap();
        }
    }

    #[test]
    fn the_mac_covers_every_byte() {
        let file = write(&[stanza(3)], &key());
        for at in 0..file.len() - 45 {
            let mut changed = file.clone();
            changed[at] ^= 1;
            let refused = Header::parse(&changed).and_then(|header| header.check_mac(&key()));
            assert!(refused.is_err(), "byte {at}");
        }
    }

    #[test]
    fn every_cut_is_malformed() {
        let file = write(&[stanza(100)], &key());
        for cut in 0..file.len() {
            let error = Header::parse(&file[..cut]).unwrap_err();
            assert_eq!(error.kind(), mmh_core::ErrorKind::Invalid, "{cut}");
        }
    }

    #[test]
    fn endless_headers_are_refused() {
        let mut file = b"age-encryption.org/v1\n-> X\n".to_vec();
        file.extend(b"A".repeat(64).iter().chain(b"\n").cycle().take(2 << 20));
        assert!(matches!(Header::parse(&file), Err(Error::TooLarge { .. })));
        let mut file = b"age-encryption.org/v1\n-> ".to_vec();
        file.resize(2 << 20, b'A');
        assert!(Header::parse(&file).is_err());
    }

    #[test]
    fn another_version_is_unsupported() {
        let error = Header::parse(b"age-encryption.org/v2\n").unwrap_err();
        assert_eq!(error.to_string(), "age version `v2` is not supported");
    }
}
