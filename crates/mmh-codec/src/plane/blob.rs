//! Short lists of bytes, such as class ids: plain, packed to fewer bits, or as zstd.

use crate::bits::{pack, packed_len, unpack};
use crate::error::{Error, Result, corrupt};
use crate::input::{Input, put_sized};
use crate::zstd::{Packer, Unpacker};

/// The code of a list that is one zstd frame; smaller codes are a width in bits.
const ZSTD: u8 = 9;

/// Appends `bytes` in the shortest form.
pub(crate) fn put_blob(bytes: &[u8], packer: &mut Packer, out: &mut Vec<u8>) -> Result<()> {
    let width = 8 - bytes.iter().fold(0, |all, byte| all | byte).leading_zeros();
    let mut zstd = Vec::new();
    packer.pack(bytes, &mut zstd)?;
    if zstd.len() < packed_len(bytes.len(), width) {
        out.push(ZSTD);
        put_sized(out, &zstd);
    } else {
        let values: Vec<u16> = bytes.iter().copied().map(u16::from).collect();
        out.push(u8::try_from(width).expect("a byte has at most 8 bits"));
        pack(&values, 0, width, out);
    }
    Ok(())
}

/// Reads a list of `n` bytes. The caller bounds `n` by what the frame may hold.
pub(crate) fn read_blob(
    input: &mut Input<'_>,
    n: usize,
    unpacker: &mut Unpacker,
) -> Result<Vec<u8>> {
    match input.u8()? {
        ZSTD => {
            let content = input.sized()?;
            let mut bytes = vec![0; n];
            unpacker.unpack(content, &mut bytes)?;
            Ok(bytes)
        }
        width @ 0..=8 => {
            let packed = input.take(packed_len(n, u32::from(width)))?;
            let mut values = vec![0; n];
            unpack(packed, 0, u32::from(width), 0, &mut values);
            let bytes = values
                .into_iter()
                .map(u8::try_from)
                .collect::<std::result::Result<_, _>>();
            bytes.or_else(|_| corrupt("a byte has more than 8 bits"))
        }
        code => Err(Error::UnknownCode {
            what: "list code",
            code,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(bytes: &[u8]) -> usize {
        let mut out = Vec::new();
        put_blob(bytes, &mut Packer::new(3), &mut out).unwrap();
        let mut input = Input::new(&out);
        let mut unpacker = Unpacker::default();
        assert_eq!(
            read_blob(&mut input, bytes.len(), &mut unpacker).unwrap(),
            bytes
        );
        input.expect_end().unwrap();
        for cut in 0..out.len() {
            assert!(read_blob(&mut Input::new(&out[..cut]), bytes.len(), &mut unpacker).is_err());
        }
        out.len()
    }

    #[test]
    fn lists_take_their_shortest_form() {
        assert_eq!(round_trip(&[]), 1);
        assert_eq!(round_trip(&[0; 100]), 1);
        assert_eq!(round_trip(&[1, 0, 1, 1, 0, 1, 0, 1, 1]), 3);
        assert!(round_trip(&[200; 5000]) < 40);
        assert_eq!(round_trip(&[255, 1, 7]), 4);
    }

    #[test]
    fn unknown_codes_are_told_apart_from_damage() {
        let unpacker = &mut Unpacker::default();
        let error = read_blob(&mut Input::new(&[10, 0]), 1, unpacker).unwrap_err();
        assert_eq!(
            error,
            Error::UnknownCode {
                what: "list code",
                code: 10
            }
        );
    }
}
