//! How a chunk is packed inside a xorb: as it is, by LZ4, or by LZ4 with bytes grouped by their place
//! in groups of four.
//!
//! Specification, "Xorb Formation & Format", compression schemes. LZ4 means its frame format.

use std::io::{Read as _, Write as _};

use lz4_flex::frame::{FrameDecoder, FrameEncoder};

use crate::error::{Error, Result};

/// A way to pack a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Scheme {
    /// As it is.
    None = 0,
    /// A frame of LZ4.
    Lz4 = 1,
    /// Bytes 0, 4, 8 …, then 1, 5, 9 … and so on, as a frame of LZ4.
    Bg4Lz4 = 2,
}

impl Scheme {
    pub(crate) fn of_code(code: u8) -> Result<Self> {
        match code {
            0 => Ok(Self::None),
            1 => Ok(Self::Lz4),
            2 => Ok(Self::Bg4Lz4),
            other => Err(Error::Unsupported {
                what: "xorb",
                reason: format!("its chunks are packed by scheme {other}"),
            }),
        }
    }

    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    /// Packs a chunk, or says that it is not worth it.
    #[must_use]
    pub fn pack(self, raw: &[u8]) -> Option<Vec<u8>> {
        let packed = match self {
            Self::None => return None,
            Self::Lz4 => compress(raw),
            Self::Bg4Lz4 => compress(&split(raw)),
        }?;
        (packed.len() < raw.len()).then_some(packed)
    }

    /// Unpacks a chunk of exactly `raw_len` bytes; takes memory for no more.
    ///
    /// # Errors
    /// Malformed if it is damaged or has another length.
    pub fn unpack(self, packed: &[u8], raw_len: usize) -> Result<Vec<u8>> {
        let raw = match self {
            Self::None => packed.to_vec(),
            Self::Lz4 => decompress(packed, raw_len)?,
            Self::Bg4Lz4 => join(&decompress(packed, raw_len)?),
        };
        if raw.len() != raw_len {
            let reason = format!("a chunk is not of {raw_len} bytes as stated");
            return Err(Error::malformed("xorb", reason));
        }
        Ok(raw)
    }
}

fn compress(raw: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = FrameEncoder::new(Vec::new());
    // A vector takes all that is written.
    encoder.write_all(raw).ok()?;
    encoder.finish().ok()
}

fn decompress(packed: &[u8], raw_len: usize) -> Result<Vec<u8>> {
    let mut raw = Vec::with_capacity(raw_len);
    let mut decoder = FrameDecoder::new(packed).take(raw_len as u64 + 1);
    decoder
        .read_to_end(&mut raw)
        .map_err(|error| Error::malformed("xorb", format!("LZ4: {error}")))?;
    Ok(raw)
}

/// Bytes grouped by their place in groups of four; what is left over goes to the first groups.
fn split(raw: &[u8]) -> Vec<u8> {
    (0..4)
        .flat_map(|lane| raw.iter().skip(lane).step_by(4))
        .copied()
        .collect()
}

/// The inverse of [`split`].
fn join(grouped: &[u8]) -> Vec<u8> {
    let mut raw = vec![0; grouped.len()];
    let mut rest = grouped.iter();
    for lane in 0..4 {
        for to in raw.iter_mut().skip(lane).step_by(4) {
            *to = rest.next().copied().unwrap_or_default();
        }
    }
    raw
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn four_lanes_hold_every_byte() {
        assert_eq!(split(b"0123456789"), b"0481592637");
        assert_eq!(join(b"0481592637"), b"0123456789");
    }

    #[test]
    fn what_does_not_shrink_is_not_packed() {
        assert_eq!(Scheme::Lz4.pack(b"short"), None);
        assert_eq!(Scheme::None.pack(&[0; 1000]), None);
        assert!(Scheme::Lz4.pack(&[0; 1000]).is_some());
        assert_eq!(
            Scheme::of_code(99).unwrap_err().kind(),
            mmh_core::ErrorKind::Unsupported
        );
    }

    /// A frame that grows to more than it states is cut off one byte later.
    #[test]
    fn bombs_are_refused() {
        let bomb = Scheme::Lz4.pack(&vec![0; 10 << 20]).unwrap();
        Scheme::Lz4.unpack(&bomb, 1000).unwrap_err();
        Scheme::Bg4Lz4.unpack(&bomb, 1000).unwrap_err();
        Scheme::None.unpack(&bomb, 1000).unwrap_err();
    }

    proptest! {
        #[test]
        fn chunks_come_back(raw in prop::collection::vec(0u8..4, 0..3000)) {
            prop_assert_eq!(&join(&split(&raw)), &raw);
            for scheme in [Scheme::Lz4, Scheme::Bg4Lz4] {
                prop_assert_eq!(Scheme::of_code(scheme.code()).unwrap(), scheme);
                if let Some(packed) = scheme.pack(&raw) {
                    prop_assert_eq!(&scheme.unpack(&packed, raw.len()).unwrap(), &raw);
                    scheme.unpack(&packed, raw.len() + 1).unwrap_err();
                    scheme.unpack(&packed, raw.len() - 1).unwrap_err();
                }
            }
        }
    }
}
