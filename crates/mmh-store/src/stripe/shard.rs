//! A shard: what one store of a stripe holds of an object. Pure functions over hostile bytes.
//!
//! A head says which object and which part of it this is; then come pieces, each with a CRC-32C
//! that also covers the head and the piece's number. So rot, a cut, and bytes that belong
//! elsewhere are all found by whoever reads any range. FORMAT.md, "Stripes", has the layout.

use std::ops::Range;

use mmh_core::Digest;

use crate::pack::{u32_at, u64_at};

/// First bytes of a shard.
pub const SHARD_MAGIC: [u8; 8] = *b"MMH-SHRD";
/// Length in bytes of a shard's head.
pub const SHARD_HEAD_LEN: usize = 48;
/// Bytes of a shard that share one checksum.
pub const SHARD_PIECE_LEN: u64 = 64 << 10;
/// Longest object in bytes.
const OBJECT_LEN_MAX: u64 = 1 << 48;
/// Bytes of the object's name in a head.
const NAME_LEN: usize = 16;
/// Bytes of a checksum.
const CRC_LEN: u64 = 4;
/// A head and the first piece: all of a short copy.
pub(super) const SHARD_START_LEN: u64 = SHARD_HEAD_LEN as u64 + SHARD_PIECE_LEN + CRC_LEN;

/// What a shard says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Shards that hold the object's bytes as they are.
    pub data: u8,
    /// Shards that hold parity; of an object with one data shard, copies.
    pub parity: u8,
    /// Which of them this is; data shards come first.
    pub number: u8,
    /// The object's length in bytes.
    pub len: u64,
    /// Which object of which repository.
    pub object: [u8; NAME_LEN],
}

/// The name of an object in heads: it tells apart objects of equal names of two repositories.
pub(super) fn object_tag(repository: &Digest, name: &str) -> [u8; NAME_LEN] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(repository.as_bytes()).update(name.as_bytes());
    let mut tag = [0; NAME_LEN];
    tag.copy_from_slice(&hasher.finalize().as_bytes()[..NAME_LEN]);
    tag
}

impl Head {
    /// Its bytes.
    pub(super) fn encode(&self) -> [u8; SHARD_HEAD_LEN] {
        let mut out = [0; SHARD_HEAD_LEN];
        out[..8].copy_from_slice(&SHARD_MAGIC);
        (out[8], out[9], out[10]) = (self.data, self.parity, self.number);
        out[16..24].copy_from_slice(&self.len.to_le_bytes());
        out[24..40].copy_from_slice(&self.object);
        let crc = crc_fast::crc32_iscsi(&out[..44]);
        out[44..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a head from the first bytes of a shard.
    ///
    /// # Errors
    /// What does not hold.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let Some(bytes) = bytes.first_chunk::<SHARD_HEAD_LEN>() else {
            return Err("it is shorter than a head");
        };
        if bytes[..8] != SHARD_MAGIC {
            return Err("it is no shard");
        }
        if crc_fast::crc32_iscsi(&bytes[..44]) != u32_at(bytes, 44) {
            return Err("the checksum of its head does not match");
        }
        if bytes[11..16] != [0; 5] || bytes[40..44] != [0; 4] {
            return Err("it is of a newer version");
        }
        if u64_at(bytes, 16) > OBJECT_LEN_MAX {
            return Err("it is too long to be one");
        }
        let mut object = [0; NAME_LEN];
        object.copy_from_slice(&bytes[24..40]);
        Ok(Self {
            data: bytes[8],
            parity: bytes[9],
            number: bytes[10],
            len: u64_at(bytes, 16),
            object,
        })
    }

    /// The checksum of a piece.
    fn crc(&self, number: u64, piece: &[u8]) -> u32 {
        // Without the head's own checksum: with it the sum of any head is the same.
        let mut crc = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        for part in [&self.encode()[..44], &number.to_le_bytes(), piece] {
            crc.update(part);
        }
        u32::try_from(crc.finalize()).expect("it has 32 bits")
    }

    /// Appends a payload in pieces, the first of which has this number.
    pub(super) fn append_pieces(&self, out: &mut Vec<u8>, first: u64, payload: &[u8]) {
        let pieces = payload.chunks(to_usize(SHARD_PIECE_LEN));
        for (number, piece) in (first..).zip(pieces) {
            out.extend_from_slice(piece);
            out.extend_from_slice(&self.crc(number, piece).to_le_bytes());
        }
    }

    /// Takes pieces apart that were read with [`file_range`] for this payload range, and returns
    /// the range; `None` if a checksum does not match or bytes are missing.
    pub(super) fn open_pieces(&self, file: &[u8], payload: &Range<u64>) -> Option<Vec<u8>> {
        let first = payload.start / SHARD_PIECE_LEN;
        let mut out = Vec::with_capacity(file.len());
        for (number, piece) in (first..).zip(file.chunks(to_usize(SHARD_PIECE_LEN + CRC_LEN))) {
            let (piece, crc) = piece.split_last_chunk::<4>()?;
            if u32::from_le_bytes(*crc) != self.crc(number, piece) {
                return None;
            }
            out.extend_from_slice(piece);
        }
        let start = first * SHARD_PIECE_LEN;
        out.truncate(usize::try_from(payload.end - start).ok()?);
        let skipped = usize::try_from(payload.start - start).ok()?;
        let whole = out.len() as u64 == payload.end - start;
        whole.then(|| out.split_off(skipped))
    }
}

/// Length in bytes of a shard with a payload of this length.
pub(super) fn file_len(payload_len: u64) -> u64 {
    SHARD_HEAD_LEN as u64 + payload_len + CRC_LEN * payload_len.div_ceil(SHARD_PIECE_LEN)
}

/// Length in bytes of the payload of a shard of this length; `None` if none has it.
pub(super) fn payload_len(file_len: u64) -> Option<u64> {
    let body = file_len.checked_sub(SHARD_HEAD_LEN as u64)?;
    let payload = body.checked_sub(CRC_LEN * body.div_ceil(SHARD_PIECE_LEN + CRC_LEN))?;
    (self::file_len(payload) == file_len).then_some(payload)
}

/// Which bytes of a shard hold all pieces that a range of its payload touches.
pub(super) fn file_range(payload: &Range<u64>, payload_len: u64) -> Range<u64> {
    let first = payload.start / SHARD_PIECE_LEN;
    let end = payload
        .end
        .next_multiple_of(SHARD_PIECE_LEN)
        .min(payload_len);
    let start = SHARD_HEAD_LEN as u64 + first * (SHARD_PIECE_LEN + CRC_LEN);
    start..file_len(end)
}

pub(super) fn to_usize(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::conformance::noise;

    fn head(len: u64) -> Head {
        Head {
            data: 2,
            parity: 1,
            number: 1,
            len,
            object: object_tag(&Digest::of(b"r"), "mmh/x"),
        }
    }

    fn shard(len: usize) -> (Head, Vec<u8>, Vec<u8>) {
        let (head, payload) = (head(len as u64), noise(len as u64, len));
        let mut file = head.encode().to_vec();
        head.append_pieces(&mut file, 0, &payload);
        (head, payload, file)
    }

    fn read(head: &Head, file: &[u8], range: Range<u64>, len: usize) -> Option<Vec<u8>> {
        let at = file_range(&range, len as u64);
        let part = file.get(to_usize(at.start)..to_usize(at.end))?;
        head.open_pieces(part, &range)
    }

    #[test]
    fn a_head_is_read_back_and_every_bit_of_it_counts() {
        let bytes = head(1 << 40).encode();
        assert_eq!(Head::parse(&bytes), Ok(head(1 << 40)));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Head::parse(&bad).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(Head::parse(&bytes[..len]).is_err(), "cut to {len}");
        }
    }

    /// A newer version may use what is zero now: it must not be misread by this one.
    #[test]
    fn reserved_bytes_are_refused() {
        for at in (11..16).chain(40..44) {
            let mut bytes = head(5).encode();
            bytes[at] = 1;
            let crc = crc_fast::crc32_iscsi(&bytes[..44]).to_le_bytes();
            bytes[44..].copy_from_slice(&crc);
            assert_eq!(Head::parse(&bytes), Err("it is of a newer version"));
        }
    }

    #[test]
    fn equal_names_of_two_repositories_have_two_tags() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_ne!(object_tag(&a, "mmh/x"), object_tag(&b, "mmh/x"));
        assert_ne!(object_tag(&a, "mmh/x"), object_tag(&a, "mmh/y"));
    }

    /// Known bytes: written shards must stay readable.
    #[test]
    fn the_layout_is_fixed() {
        let (_, _, file) = shard(70_000);
        assert_eq!(file.len(), 48 + 70_000 + 8);
        let digest = blake3::hash(&file).to_hex();
        assert_eq!(digest[..16], *"5187b40d61b29f75");
    }

    #[test]
    fn a_piece_in_anothers_place_is_found() {
        let (head, _, mut file) = shard(3 << 16);
        let (piece, start) = (to_usize(SHARD_PIECE_LEN + CRC_LEN), SHARD_HEAD_LEN);
        let (first, second) = file[start..].split_at_mut(piece);
        first.swap_with_slice(&mut second[..piece]);
        assert_eq!(read(&head, &file, 0..1, 3 << 16), None);
        assert!(read(&head, &file, 2 << 16..3 << 16, 3 << 16).is_some());
        // Nor is the piece of another shard of the same object taken.
        let other = Head { number: 0, ..head };
        assert_eq!(read(&other, &file, 2 << 16..3 << 16, 3 << 16), None);
    }

    proptest! {
        #[test]
        fn lengths_are_found_from_the_length_of_the_file(len in 0..1u64 << 40) {
            prop_assert_eq!(payload_len(file_len(len)), Some(len));
        }

        #[test]
        fn any_length_is_the_length_of_one_payload_or_none(len: u64) {
            if let Some(payload) = payload_len(len) {
                prop_assert_eq!(file_len(payload), len);
            }
        }

        #[test]
        fn every_range_is_read(len in 1..300_000usize, from: prop::sample::Index, n in 1..100_000u64) {
            let (head, payload, file) = shard(len);
            let start = from.index(len) as u64;
            let end = (start + n).min(len as u64);
            let got = read(&head, &file, start..end, len);
            prop_assert_eq!(got.as_deref(), payload.get(to_usize(start)..to_usize(end)));
        }

        #[test]
        fn a_flip_or_a_cut_is_found(len in 1..200_000usize, at: prop::sample::Index, bit in 0..8u32) {
            let (head, _, file) = shard(len);
            let at = at.index(file.len() - SHARD_HEAD_LEN) + SHARD_HEAD_LEN;
            let mut bad = file.clone();
            bad[at] ^= 1 << bit;
            prop_assert_eq!(read(&head, &bad, 0..len as u64, len), None);
            let cut = head.open_pieces(&file[SHARD_HEAD_LEN..at], &(0..len as u64));
            prop_assert_eq!(cut, None);
        }
    }
}
