//! A stream of fields of up to 33 bits, the first in the lowest bits.

use crate::error::{Result, corrupt};
use crate::kernel::field;

/// Checks that fields that end at bit `at` fill their bytes, and that the last bits are zeros.
pub(super) fn expect_end(fields: &[u8], at: usize) -> Result<()> {
    if at.div_ceil(8) != fields.len() {
        return corrupt("a delta has other bits than its symbols ask for");
    }
    let rest = u32::try_from(8 * fields.len() - at).unwrap_or(0);
    if field(fields, at, rest) != 0 {
        return corrupt("the last byte of a delta is not filled with zeros");
    }
    Ok(())
}

/// Writes fields.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    last: u64,
    n: u32,
}

impl BitWriter {
    /// Appends the lowest `n` bits of `value`, at most 33; the others must be zeros.
    #[inline(always)]
    pub(super) fn put(&mut self, value: u64, n: u32) {
        debug_assert!(n <= 33 && value >> n == 0);
        // Fewer than 32 bits are kept from call to call, so that 33 more fit.
        self.last |= value << self.n;
        self.n += n;
        while self.n >= 32 {
            append(&mut self.bytes, self.last);
            self.last >>= 32;
            self.n -= 32;
        }
    }

    /// The bytes since the last call; the last is filled with zeros.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let len = self.n.div_ceil(8) as usize;
        self.bytes
            .extend_from_slice(&self.last.to_le_bytes()[..len]);
        (self.last, self.n) = (0, 0);
        std::mem::take(&mut self.bytes)
    }
}

/// Appends the lower half of a word. Apart, so that a writer can stay in registers.
#[inline(never)]
fn append(bytes: &mut Vec<u8>, word: u64) {
    bytes.extend_from_slice(&word.to_le_bytes()[..4]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_and_must_fill_the_stream() {
        let fields: Vec<(u64, u32)> = (0..200u32)
            .map(|i| {
                let n = i % 34;
                ((u64::from(i) * 2_654_435_761) & ((1 << n) - 1), n)
            })
            .collect();
        let mut writer = BitWriter::default();
        fields.iter().for_each(|&(value, n)| writer.put(value, n));
        let bytes = writer.take();
        let mut at = 0;
        for &(value, n) in &fields[..199] {
            assert_eq!(field(&bytes, at, n), value);
            at += n as usize;
        }
        assert!(expect_end(&bytes, at).is_err(), "bytes are left");
        at += fields[199].1 as usize;
        assert!(expect_end(&bytes, at).is_ok());
        assert!(
            expect_end(&bytes[..bytes.len() - 1], at).is_err(),
            "bytes lack"
        );
        assert!(
            expect_end(&[&bytes[..], &[0]].concat(), at).is_err(),
            "one more"
        );
        assert!(expect_end(&[], 0).is_ok());
        assert!(expect_end(&[0b10], 1).is_err(), "the rest is not zero");
        assert_eq!(writer.take(), [], "a writer begins anew");
    }
}
