//! A cursor over untrusted bytes: every read is checked, none allocates.

use crate::error::{Result, corrupt};

/// Most bytes of a [`Input::varint`]: 32 bits in groups of 7.
const VARINT_LEN_MAX: u32 = 5;

/// The part of a frame that has not been read yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes that are left.
    pub(crate) fn len(&self) -> usize {
        self.rest.len()
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return corrupt("it ends early");
        };
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// An unsigned number of at most 32 bits, 7 bits a byte, least significant first, in its
    /// shortest spelling.
    pub(crate) fn varint(&mut self) -> Result<usize> {
        let mut value = 0u64;
        for i in 0..VARINT_LEN_MAX {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                if byte == 0 && i > 0 {
                    return corrupt("a number has a longer spelling than it needs");
                }
                return u32::try_from(value)
                    .map(|v| v as usize)
                    .or_else(|_| corrupt("a number exceeds 32 bits"));
            }
        }
        corrupt("a number is too long")
    }

    /// A number, then as many bytes.
    pub(crate) fn sized(&mut self) -> Result<&'a [u8]> {
        let len = self.varint()?;
        self.take(len)
    }

    /// Everything that is left, leaving nothing.
    pub(crate) fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Everything that is left.
    pub(crate) fn finish(self) -> &'a [u8] {
        self.rest
    }

    /// Refuses bytes that nobody asked for.
    pub(crate) fn expect_end(self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            corrupt("bytes are left over")
        }
    }
}

/// Appends `value` in the spelling that [`Input::varint`] reads.
pub(crate) fn put_varint(out: &mut Vec<u8>, value: usize) {
    let mut value = value;
    while value >= 0x80 {
        out.push(low_byte(value) | 0x80);
        value >>= 7;
    }
    out.push(low_byte(value));
}

fn low_byte(value: usize) -> u8 {
    u8::try_from(value & 0x7f).expect("seven bits fit a byte")
}

/// Appends the length of `bytes` and the bytes.
pub(crate) fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends what `put` appends, with its length before it.
pub(crate) fn put_sized_with<T>(
    out: &mut Vec<u8>,
    put: impl FnOnce(&mut Vec<u8>) -> Result<T>,
) -> Result<T> {
    // Most lengths take three bytes; what follows moves if this one does not.
    const ROOM: usize = 3;
    let start = out.len();
    out.extend_from_slice(&[0; ROOM]);
    let done = put(out)?;
    let mut len = Vec::new();
    put_varint(&mut len, out.len() - start - ROOM);
    out.splice(start..start + ROOM, len);
    Ok(done)
}

/// Length of the spelling of `value`.
pub(crate) fn varint_len(value: usize) -> usize {
    (value.max(1).ilog2() / 7 + 1) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length_read_back() {
        for shift in 0..32 {
            for value in [
                (1usize << shift) - 1,
                1 << shift,
                u32::MAX as usize >> shift,
            ] {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                assert_eq!(out.len(), varint_len(value), "{value}");
                let mut input = Input::new(&out);
                assert_eq!(input.varint(), Ok(value));
                assert_eq!(input.expect_end(), Ok(()));
                for cut in 0..out.len() {
                    assert!(Input::new(&out[..cut]).varint().is_err());
                }
            }
        }
    }

    /// One value, one spelling: otherwise two frames of the same content could differ.
    #[test]
    fn longer_spellings_and_larger_numbers_are_refused() {
        for bytes in [
            &[0x80, 0][..],
            &[0x81, 0x80, 0],
            &[0xff; 6],
            &[0xff, 0xff, 0xff, 0xff, 0x1f],
        ] {
            assert!(Input::new(bytes).varint().is_err(), "{bytes:x?}");
        }
    }

    #[test]
    fn a_sized_read_never_exceeds_what_is_there() {
        let mut out = Vec::new();
        put_sized(&mut out, b"abc");
        assert_eq!(Input::new(&out).sized(), Ok(&b"abc"[..]));
        assert!(Input::new(&out[..3]).sized().is_err());
        let mut input = Input::new(&out);
        assert_eq!(input.u8(), Ok(3));
        assert_eq!(input.finish(), b"abc");
        assert!(input.expect_end().is_err());
    }
}
