//! The encoding of calls and replies (XDR, RFC 4506): words of four bytes, the highest first.
//!
//! A length from outside is compared with what is there before anything is made of it.

/// What is not encoded as it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Garbage;

pub(crate) type Read<T> = Result<T, Garbage>;

/// Reads from the front.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn u32(&mut self) -> Read<u32> {
        let (word, rest) = self.0.split_first_chunk().ok_or(Garbage)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*word))
    }

    pub(crate) fn u64(&mut self) -> Read<u64> {
        let (word, rest) = self.0.split_first_chunk().ok_or(Garbage)?;
        self.0 = rest;
        Ok(u64::from_be_bytes(*word))
    }

    /// Bytes of any length up to `max`.
    pub(crate) fn opaque(&mut self, max: usize) -> Read<&'a [u8]> {
        let len = usize::try_from(self.u32()?).map_err(|_| Garbage)?;
        if len > max {
            return Err(Garbage);
        }
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Garbage)?;
        self.0 = rest.get(padding(len)..).ok_or(Garbage)?;
        Ok(bytes)
    }
}

/// Writes to the end.
#[derive(Debug, Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn u32(&mut self, word: u32) -> &mut Self {
        self.0.extend_from_slice(&word.to_be_bytes());
        self
    }

    pub(crate) fn u64(&mut self, word: u64) -> &mut Self {
        self.0.extend_from_slice(&word.to_be_bytes());
        self
    }

    pub(crate) fn bool(&mut self, is: bool) -> &mut Self {
        self.u32(u32::from(is))
    }

    pub(crate) fn opaque(&mut self, bytes: &[u8]) -> &mut Self {
        // Nothing that is written here comes near 4 GiB.
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len() + padding(bytes.len()), 0);
        self
    }
}

/// Bytes that fill the last word.
fn padding(len: usize) -> usize {
    len.wrapping_neg() & 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let mut out = Writer::default();
        out.u32(7)
            .opaque(b"abcde")
            .u64(1 << 40)
            .bool(true)
            .opaque(b"");
        assert_eq!(out.0.len() % 4, 0);
        let mut read = Reader(&out.0);
        assert_eq!(read.u32(), Ok(7));
        assert_eq!(read.opaque(5), Ok(&b"abcde"[..]));
        assert_eq!(read.u64(), Ok(1 << 40));
        assert_eq!(read.u32(), Ok(1));
        assert_eq!(read.opaque(0), Ok(&b""[..]));
        assert_eq!(read.u32(), Err(Garbage));
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for bytes in [
            &[0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4][..],
            &[0, 0, 0, 5, 1, 2, 3, 4],
            &[0, 0, 0, 3, 1, 2, 3],
            &[0, 0],
        ] {
            assert_eq!(Reader(bytes).opaque(usize::MAX), Err(Garbage), "{bytes:?}");
        }
        assert_eq!(Reader(&[0, 0, 0, 4, 1, 2, 3, 4]).opaque(3), Err(Garbage));
    }
}
