//! Xorbs: runs of packed chunks, as clients send them.
//!
//! Specification, "Xorb Formation & Format". Each chunk has a head of eight bytes: version, packed
//! length (24 bits, little-endian), scheme, raw length (24 bits). A footer may follow, which says
//! again what the chunks say; the client 1.8.0 leaves it out.

use std::ops::Range;

use crate::chunker::CHUNK_LEN_MAX;
use crate::error::{Error, Result};
use crate::hash::XetHash;
use crate::merkle::{Leaf, xorb_hash};
use crate::read::Reader;
use crate::scheme::Scheme;

/// Most raw bytes of a xorb.
pub const XORB_LEN_MAX: usize = 64 << 20;
/// Most chunks of a xorb.
pub const XORB_CHUNKS_MAX: usize = 8192;
/// Bytes of a chunk's head.
pub(crate) const HEAD_LEN: usize = 8;
/// A packed chunk may be so much longer than the longest raw one.
const PACKED_LEN_MAX: usize = 2 * CHUNK_LEN_MAX;

const IDENT: &[u8; 7] = b"XETBLOB";
const IDENT_HASHES: &[u8; 7] = b"XBLBHSH";
const IDENT_BOUNDS: &[u8; 7] = b"XBLBBND";
/// Versions of the footer, its hashes and its bounds.
const VERSIONS: [u8; 3] = [1, 0, 1];
/// Bytes at the footer's end that mean nothing: an upload may put a number there.
const SPARE_LEN: usize = 16;

/// Where a chunk lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The hash of its raw bytes.
    pub hash: XetHash,
    /// Its raw length in bytes.
    pub raw_len: u32,
    /// Its bytes in the xorb, without the head.
    packed: Range<usize>,
    scheme: Scheme,
}

/// A xorb that was read: every chunk was unpacked and hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xorb {
    hash: XetHash,
    spans: Vec<Span>,
}

impl Xorb {
    /// Reads a xorb, with or without a footer. Takes memory for one chunk, and 72 bytes a chunk.
    ///
    /// # Errors
    /// Malformed or Unsupported.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new("xorb", bytes);
        let (mut spans, mut raw_len) = (Vec::new(), 0);
        while !reader.rest().is_empty() && !reader.rest().starts_with(IDENT) {
            if spans.len() == XORB_CHUNKS_MAX {
                return Err(reader.bad(format!("more than {XORB_CHUNKS_MAX} chunks")));
            }
            let span = read_chunk(&mut reader, bytes.len())?;
            raw_len += span.raw_len as usize;
            if raw_len > XORB_LEN_MAX {
                return Err(reader.bad(format!("more than {XORB_LEN_MAX} bytes")));
            }
            spans.push(span);
        }
        if spans.is_empty() {
            return Err(reader.bad("it has no chunk"));
        }
        let hash = xorb_hash(&spans.iter().map(Span::leaf).collect::<Vec<_>>());
        let xorb = Self { hash, spans };
        xorb.check_footer(reader)?;
        Ok(xorb)
    }

    /// Reads a xorb that somebody says has this hash.
    ///
    /// # Errors
    /// Those of [`Self::read`]; WrongHash.
    pub fn read_claimed(bytes: &[u8], claimed: XetHash) -> Result<Self> {
        let xorb = Self::read(bytes)?;
        if xorb.hash != claimed {
            let what = "xorb";
            let actual = xorb.hash;
            return Err(Error::WrongHash {
                what,
                claimed,
                actual,
            });
        }
        Ok(xorb)
    }

    /// Its hash.
    #[must_use]
    pub fn hash(&self) -> XetHash {
        self.hash
    }

    /// Its chunks, in order.
    #[must_use]
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    fn check_footer(&self, mut reader: Reader<'_>) -> Result<()> {
        let found = reader.rest();
        if found.is_empty() {
            return Ok(());
        }
        reader.take(IDENT.len())?;
        let version = reader.u8()?;
        if version != VERSIONS[0] {
            return Err(Error::Unsupported {
                what: "xorb",
                reason: format!("its footer has version {version}"),
            });
        }
        let expected = footer(self.hash, &self.spans);
        let spare = expected.len() - 4 - SPARE_LEN..expected.len() - 4;
        let is_same = found.len() == expected.len()
            && found.get(..spare.start) == expected.get(..spare.start)
            && found.get(spare.end..) == expected.get(spare.end..);
        match is_same {
            true => Ok(()),
            false => Err(reader.bad("its footer is not that of its chunks")),
        }
    }
}

impl Span {
    /// Its hash with its length.
    #[must_use]
    pub fn leaf(&self) -> Leaf {
        (self.hash, u64::from(self.raw_len))
    }

    /// Unpacks it out of the bytes that its xorb was read from.
    ///
    /// # Errors
    /// Malformed or WrongHash if these are other bytes.
    pub fn unpack(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let packed = bytes.get(self.packed.clone());
        let packed = packed.ok_or_else(|| Error::malformed("xorb", "it ends too early"))?;
        let raw = self.scheme.unpack(packed, self.raw_len as usize)?;
        let actual = XetHash::of_chunk(&raw);
        if actual != self.hash {
            return Err(Error::WrongHash {
                what: "chunk",
                claimed: self.hash,
                actual,
            });
        }
        Ok(raw)
    }
}

fn read_chunk(reader: &mut Reader<'_>, len: usize) -> Result<Span> {
    let version = reader.u8()?;
    if version != 0 {
        return Err(Error::Unsupported {
            what: "xorb",
            reason: format!("a chunk has version {version}"),
        });
    }
    let packed_len = reader.u24()? as usize;
    let scheme = Scheme::of_code(reader.u8()?)?;
    let raw_len = reader.u24()?;
    if packed_len > PACKED_LEN_MAX || raw_len as usize > CHUNK_LEN_MAX || raw_len == 0 {
        return Err(reader.bad(format!("a chunk of {raw_len} bytes in {packed_len}")));
    }
    let start = len - reader.rest().len();
    let raw = scheme.unpack(reader.take(packed_len)?, raw_len as usize)?;
    Ok(Span {
        hash: XetHash::of_chunk(&raw),
        raw_len,
        packed: start..start + packed_len,
        scheme,
    })
}

/// The eight bytes before a chunk.
pub(crate) fn head(scheme: Scheme, packed_len: u32, raw_len: u32) -> [u8; HEAD_LEN] {
    let [p0, p1, p2, _] = packed_len.to_le_bytes();
    let [r0, r1, r2, _] = raw_len.to_le_bytes();
    [0, p0, p1, p2, scheme.code(), r0, r1, r2]
}

/// The footer with its length behind it.
fn footer(hash: XetHash, spans: &[Span]) -> Vec<u8> {
    let number = |n: usize| {
        let n = u32::try_from(n).expect("a xorb is shorter than 4 GiB by its limits");
        n.to_le_bytes()
    };
    let n_chunks = number(spans.len());
    let mut out = [IDENT.as_slice(), &[VERSIONS[0]], hash.as_bytes()].concat();
    let hashes_at = out.len();
    out.extend(IDENT_HASHES.iter().chain(&VERSIONS[1..2]).chain(&n_chunks));
    spans.iter().for_each(|s| out.extend(s.hash.as_bytes()));
    let bounds_at = out.len();
    out.extend(IDENT_BOUNDS.iter().chain(&VERSIONS[2..]).chain(&n_chunks));
    spans.iter().for_each(|s| out.extend(number(s.packed.end)));
    let mut raw_end = 0;
    for span in spans {
        raw_end += span.raw_len as usize;
        out.extend(number(raw_end));
    }
    out.extend(n_chunks);
    let len = out.len() + 4 + 4 + SPARE_LEN;
    out.extend(number(len - hashes_at));
    out.extend(number(len - bounds_at));
    out.extend([0; SPARE_LEN]);
    out.extend(number(len));
    out
}

/// Makes a xorb of raw chunks.
#[derive(Debug, Default)]
pub struct XorbWriter {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    raw_len: usize,
}

impl XorbWriter {
    /// Appends a chunk, packed by the scheme if that is worth it; says whether there was room.
    pub fn push(&mut self, raw: &[u8], scheme: Scheme) -> bool {
        let fits = !raw.is_empty()
            && raw.len() <= CHUNK_LEN_MAX
            && self.spans.len() < XORB_CHUNKS_MAX
            && self.raw_len + raw.len() <= XORB_LEN_MAX;
        if !fits {
            return false;
        }
        let packed = scheme.pack(raw);
        let scheme = packed.as_ref().map_or(Scheme::None, |_| scheme);
        let packed = packed.as_deref().unwrap_or(raw);
        let len = |n: usize| u32::try_from(n).expect("a chunk is at most 128 KiB");
        let head = head(scheme, len(packed.len()), len(raw.len()));
        self.bytes.extend(head);
        let start = self.bytes.len();
        self.bytes.extend(packed);
        self.raw_len += raw.len();
        self.spans.push(Span {
            hash: XetHash::of_chunk(raw),
            raw_len: len(raw.len()),
            packed: start..self.bytes.len(),
            scheme,
        });
        true
    }

    /// The xorb with its bytes, and a footer if that is wanted.
    #[must_use]
    pub fn finish(mut self, with_footer: bool) -> (Xorb, Vec<u8>) {
        let hash = xorb_hash(&self.spans.iter().map(Span::leaf).collect::<Vec<_>>());
        if with_footer {
            self.bytes.extend(footer(hash, &self.spans));
        }
        let spans = self.spans;
        (Xorb { hash, spans }, self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMES: [Scheme; 3] = [Scheme::None, Scheme::Lz4, Scheme::Bg4Lz4];

    fn sample(with_footer: bool) -> (Xorb, Vec<u8>) {
        let mut writer = XorbWriter::default();
        for (i, scheme) in (0u8..).zip(SCHEMES) {
            let raw: Vec<u8> = (0..200u8).map(|n| (n / 50) ^ i).collect();
            assert!(writer.push(&raw, scheme));
        }
        writer.finish(with_footer)
    }

    #[test]
    fn what_is_written_is_read() {
        for with_footer in [false, true] {
            let (xorb, bytes) = sample(with_footer);
            assert_eq!(Xorb::read_claimed(&bytes, xorb.hash()).unwrap(), xorb);
            let schemes: Vec<_> = xorb.spans().iter().map(|s| s.scheme).collect();
            assert_eq!(schemes, SCHEMES);
            let raw = xorb.spans()[2].unpack(&bytes).unwrap();
            assert_eq!((raw.len(), raw[0], raw[199]), (200, 2, 1));
            xorb.spans()[2].unpack(&bytes[..300]).unwrap_err();
        }
        let (footed, plain) = (sample(true), sample(false));
        assert_eq!(footed.0.hash(), plain.0.hash());
        let claimed = XetHash::default();
        let lie = Xorb::read_claimed(&plain.1, claimed).unwrap_err();
        assert!(matches!(lie, Error::WrongHash { .. }), "{lie}");
    }

    /// Whole chunks without what follows are a xorb of their own; any other cut is none.
    #[test]
    fn cuts_are_found() {
        let (xorb, bytes) = sample(true);
        let ends: Vec<_> = xorb.spans().iter().map(|s| s.packed.end).collect();
        for len in 0..bytes.len() {
            let cut = Xorb::read(&bytes[..len]);
            assert_eq!(cut.is_ok(), ends.contains(&len), "{len}");
            if let Ok(cut) = cut {
                assert_eq!(cut.hash() == xorb.hash(), cut.spans().len() == 3);
            }
        }
    }

    /// A flipped bit gives an error or another hash, but for the bytes that mean nothing.
    #[test]
    fn flips_are_found() {
        let (xorb, mut bytes) = sample(true);
        let spare = bytes.len() - 4 - SPARE_LEN..bytes.len() - 4;
        for at in 0..bytes.len() {
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                let same = Xorb::read_claimed(&bytes, xorb.hash());
                // LZ4's frame has flags that change nothing here; the raw bytes are right then.
                let is_harmless = same.as_ref().is_ok_and(|read| {
                    read.spans()
                        .iter()
                        .zip(xorb.spans())
                        .all(|(a, b)| a.hash == b.hash)
                });
                assert!(same.is_err() || is_harmless, "{at} {bit}");
                assert!(!spare.contains(&at) || same.is_ok(), "{at} {bit}");
                bytes[at] ^= 1 << bit;
            }
        }
    }

    #[test]
    fn limits_hold() {
        let mut writer = XorbWriter::default();
        assert!(!writer.push(&[], Scheme::None));
        assert!(!writer.push(&vec![0; CHUNK_LEN_MAX + 1], Scheme::Lz4));
        for _ in 0..XORB_CHUNKS_MAX {
            assert!(writer.push(b"x", Scheme::None));
        }
        assert!(!writer.push(b"x", Scheme::None));
        let (_, mut bytes) = writer.finish(false);
        Xorb::read(&bytes).unwrap();
        bytes.extend(head(Scheme::None, 1, 1));
        bytes.push(b'x');
        let error = Xorb::read(&bytes).unwrap_err();
        assert!(error.to_string().contains("8192 chunks"), "{error}");
        Xorb::read(&[]).unwrap_err();
        // Short bytes that stand for more than a xorb may hold.
        let zeros = Scheme::Lz4.pack(&vec![0; CHUNK_LEN_MAX]).unwrap();
        let len = u32::try_from(zeros.len()).unwrap();
        let packed = [&head(Scheme::Lz4, len, 128 << 10), zeros.as_slice()].concat();
        Xorb::read(&packed.repeat(512)).unwrap();
        let error = Xorb::read(&packed.repeat(513)).unwrap_err();
        assert!(error.to_string().contains("bytes"), "{error}");
    }

    #[test]
    fn unknown_versions_are_not_guessed() {
        let (_, mut bytes) = sample(true);
        bytes[0] = 1;
        let kind = |bytes: &[u8]| Xorb::read(bytes).unwrap_err().kind();
        assert_eq!(kind(&bytes), mmh_core::ErrorKind::Unsupported);
        bytes[0] = 0;
        let at = bytes.windows(7).position(|w| w == IDENT).unwrap();
        bytes[at + 7] = 0;
        assert_eq!(kind(&bytes), mmh_core::ErrorKind::Unsupported);
    }
}
