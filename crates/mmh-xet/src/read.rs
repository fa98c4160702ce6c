//! Reading numbers and hashes off the front of bytes, never past their end.

use crate::error::{Error, Result};
use crate::hash::XetHash;

/// What is left to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(what: &'static str, rest: &'a [u8]) -> Self {
        Self { what, rest }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn bad(&self, reason: impl Into<String>) -> Error {
        Error::malformed(self.what, reason)
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let split = self.rest.split_at_checked(len);
        let (taken, rest) = split.ok_or_else(|| self.bad("it ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| self.bad("it ends too early"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u24(&mut self) -> Result<u32> {
        self.array()
            .map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]))
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn hash(&mut self) -> Result<XetHash> {
        self.array().map(XetHash::from_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_little_endian_and_end_with_the_bytes() {
        let mut reader = Reader::new("test", &[1, 2, 0, 0, 3, 0, 0, 0, 9]);
        assert_eq!(reader.u8().unwrap(), 1);
        assert_eq!(reader.u24().unwrap(), 2);
        assert_eq!(reader.u32().unwrap(), 3);
        let error = reader.u64().unwrap_err();
        assert_eq!(error.to_string(), "not a valid test: it ends too early");
        assert_eq!(reader.rest(), [9]);
        reader.hash().unwrap_err();
    }
}
