//! Apache Parquet, recognised by its magic at both ends; its columns are encoded and compressed
//! by its own means and stay opaque.
//!
//! Specification: the file format in the parquet-format repository.

use crate::container::Container;
use crate::error::Result;
use crate::layout::Layout;
use crate::read_at::ReadAt;
use crate::reader::Reader;

/// Plain files, and files whose footer is encrypted.
const MAGICS: [[u8; 4]; 2] = [*b"PAR1", *b"PARE"];

/// Whether a file that begins with `head` may be Parquet.
#[must_use]
pub fn matches(head: &[u8], _name: &str) -> bool {
    MAGICS.iter().any(|magic| head.starts_with(magic))
}

/// One run of bytes, if the file has the magic at its end too.
///
/// # Errors
/// [`crate::Error::Malformed`] if it has not, or its footer is longer than the file;
/// [`crate::Error::Io`] if it cannot be read.
pub fn parse(source: &dyn ReadAt) -> Result<Layout> {
    let mut reader = Reader::new(source, Container::Parquet);
    let head = reader.array::<4>(0)?;
    let tail = source.len().checked_sub(8).filter(|&at| at >= 4);
    let tail = tail.ok_or_else(|| reader.malformed("shorter than its two magics"))?;
    if !MAGICS.contains(&head) || reader.array(tail + 4)? != head {
        return Err(reader.malformed("no magic at the end"));
    }
    let footer_len = u64::from(reader.u32(tail)?);
    if footer_len > tail - 4 {
        return Err(reader.malformed(format!("a footer of {footer_len} bytes")));
    }
    Ok(Layout::bytes(Container::Parquet, source.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostile::attack;

    #[test]
    fn magic_at_both_ends_is_needed() {
        let file = b"PAR1data\x04\0\0\0PAR1".to_vec();
        assert!(matches(&file, ""));
        assert_eq!(parse(&file).unwrap().container(), Container::Parquet);
        for bad in [
            &b"PAR1"[..],
            b"PAR1\0\0\0\0PARE",
            b"PAR1\x09\0\0\0PAR1",
            b"PAR1PAR1",
        ] {
            assert!(parse(&bad.to_vec()).is_err(), "{bad:?}");
        }
        assert!(!matches(b"PAR2", ""));
        attack(parse, &file, 500);
    }
}
