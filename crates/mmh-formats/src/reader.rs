//! Reads a header through one small window; every length is compared with the file first.

use crate::container::Container;
use crate::error::{Error, Result};
use crate::read_at::{ReadAt, read_vec};

/// Bytes read at once; parsers jump over tensor data, so more would be wasted.
const WINDOW_LEN: u64 = 16 << 10;

/// Little-endian integers and short strings at absolute offsets of a source.
pub(crate) struct Reader<'a> {
    source: &'a dyn ReadAt,
    container: Container,
    start: u64,
    window: Vec<u8>,
}

impl<'a> Reader<'a> {
    /// Starts with an empty window; `container` is what errors will name.
    pub(crate) fn new(source: &'a dyn ReadAt, container: Container) -> Self {
        Self {
            source,
            container,
            start: 0,
            window: Vec::new(),
        }
    }

    /// The length of the source in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.source.len()
    }

    /// A contradiction in this file.
    pub(crate) fn malformed(&self, reason: impl Into<String>) -> Error {
        Error::malformed(self.container, reason)
    }

    /// A limit exceeded by this file.
    pub(crate) fn too_large(&self, reason: impl Into<String>) -> Error {
        Error::too_large(self.container, reason)
    }

    /// The end of `len` bytes at `at`.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it lies behind the end of the source.
    pub(crate) fn end(&self, at: u64, len: u64) -> Result<u64> {
        at.checked_add(len)
            .filter(|&end| end <= self.len())
            .ok_or_else(|| {
                self.malformed(format!(
                    "{len} bytes at {at} end behind the file's {}",
                    self.len()
                ))
            })
    }

    /// `N` bytes at `at`.
    pub(crate) fn array<const N: usize>(&mut self, at: u64) -> Result<[u8; N]> {
        let end = self.end(at, N as u64)?;
        if at < self.start || end > self.start + self.window.len() as u64 {
            let len = WINDOW_LEN.max(N as u64).min(self.len() - at);
            self.window = read_vec(self.source, at, len)?;
            self.start = at;
        }
        let from = usize::try_from(at - self.start).ok();
        let found = from
            .and_then(|i| self.window.get(i..))
            .and_then(<[u8]>::first_chunk::<N>);
        found
            .copied()
            .ok_or_else(|| self.malformed(format!("nothing at {at}")))
    }

    pub(crate) fn u8(&mut self, at: u64) -> Result<u8> {
        let [byte] = self.array::<1>(at)?;
        Ok(byte)
    }

    pub(crate) fn u16(&mut self, at: u64) -> Result<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, at: u64) -> Result<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub(crate) fn i32(&mut self, at: u64) -> Result<i32> {
        self.array(at).map(i32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, at: u64) -> Result<u64> {
        self.array(at).map(u64::from_le_bytes)
    }

    /// An unsigned integer of `width` bytes, 1 to 8.
    pub(crate) fn uint(&mut self, at: u64, width: u8) -> Result<u64> {
        match width {
            1 => self.u8(at).map(u64::from),
            2 => self.u16(at).map(u64::from),
            4 => self.u32(at).map(u64::from),
            8 => self.u64(at),
            _ => {
                let mut value = 0;
                for i in (0..u64::from(width.min(8))).rev() {
                    value = value << 8 | u64::from(self.u8(at.saturating_add(i))?);
                }
                Ok(value)
            }
        }
    }

    /// A base-128 number of at most 64 bits that lies before `end`; `at` moves behind it.
    pub(crate) fn varint(&mut self, at: &mut u64, end: u64) -> Result<u64> {
        let start = *at;
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            if *at >= end {
                return Err(self.malformed(format!("number at {start} does not end by {end}")));
            }
            let byte = self.u8(*at)?;
            *at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.malformed(format!("number at {start} has more than 64 bits")))
    }

    /// A run of bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond `max`; [`Error::Malformed`] behind the end.
    pub(crate) fn bytes(&self, at: u64, len: u64, max: u64) -> Result<Vec<u8>> {
        if len > max {
            return Err(self.too_large(format!("{len} bytes at {at} where {max} are allowed")));
        }
        let end = self.end(at, len)?;
        let held = at
            .checked_sub(self.start)
            .filter(|_| end <= self.start + self.window.len() as u64)
            .and_then(|i| Some(usize::try_from(i).ok()?..usize::try_from(end - self.start).ok()?))
            .and_then(|range| self.window.get(range));
        match held {
            Some(bytes) => Ok(bytes.to_vec()),
            None => read_vec(self.source, at, len),
        }
    }

    /// A run of bytes as text; bytes that are not UTF-8 become U+FFFD.
    pub(crate) fn text(&self, at: u64, len: u64, max: u64) -> Result<String> {
        let bytes = self.bytes(at, len, max)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_across_and_behind_the_window() {
        let bytes: Vec<u8> = (0..40_000u32).map(|i| (i % 251) as u8).collect();
        let mut reader = Reader::new(&bytes, Container::Unknown);
        for at in [0usize, 1, 16_380, 16_384, 39_992, 5, 33_000] {
            let expected = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
            assert_eq!(reader.u64(at as u64).unwrap(), expected, "{at}");
            assert_eq!(reader.uint(at as u64, 3).unwrap(), expected & 0xff_ffff);
            assert_eq!(reader.bytes(at as u64, 8, 8).unwrap(), bytes[at..at + 8]);
        }
    }

    #[test]
    fn the_end_and_the_limit_are_typed_errors() {
        let bytes = vec![0u8; 10];
        let mut reader = Reader::new(&bytes, Container::Unknown);
        assert!(matches!(reader.u64(3), Err(Error::Malformed { .. })));
        assert!(matches!(reader.u64(u64::MAX), Err(Error::Malformed { .. })));
        assert!(matches!(reader.bytes(0, 9, 8), Err(Error::TooLarge { .. })));
        assert!(matches!(
            reader.bytes(4, 7, 8),
            Err(Error::Malformed { .. })
        ));
    }
}
