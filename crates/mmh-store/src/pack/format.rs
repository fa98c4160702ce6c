//! The bytes of packs and archives: header, records, footer table and trailer.
//!
//! Pure functions. Everything here may be given hostile bytes; a length that was read is compared
//! with what is there before anything is allocated.

use mmh_core::{ChunkId, Digest, limits};

use crate::frame::STORED_LEN_MAX;
use crate::vault::{FOOTER_NAME, PLAIN, Vault};

/// First bytes of packs, archives and index runs. The line ends and the end-of-file character
/// reveal a transfer that took the file for text.
pub const FILE_MAGIC: [u8; 8] = *b"\x89MMH\r\n\x1a\n";
/// Version of the layouts in this module.
pub const FILE_VERSION: u32 = 1;
/// Length in bytes of the header: magic, version, kind.
pub const HEADER_LEN: u64 = HEADER_SIZE as u64;
const HEADER_SIZE: usize = 16;
/// Length in bytes of what stands before each frame: its length and its CRC-32C.
pub const RECORD_HEAD_LEN: u64 = RECORD_HEAD_SIZE as u64;
const RECORD_HEAD_SIZE: usize = 8;
/// Length in bytes of a pack's footer entry: id, frame length, method and raw length.
pub const PACK_ENTRY_LEN: usize = 40;
/// Length in bytes of what follows the table in the footer of a pack: random bytes.
pub const PACK_SALT_LEN: usize = 16;
/// Length in bytes of an archive's footer entry: as a pack's, and the offset.
pub const ARCHIVE_ENTRY_LEN: usize = 48;
/// Most records of a pack.
pub const PACK_RECORDS_MAX: usize = 1 << 16;
/// Length in bytes of the trailer.
pub const TRAILER_LEN: usize = 104;
/// Stands near the end of the trailer.
pub const TRAILER_MAGIC: [u8; 8] = *b"MMH-TAIL";

/// What a file with [`FILE_MAGIC`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A pack.
    Pack = 1,
    /// An archive.
    Archive = 2,
    /// An index run.
    Run = 3,
}

/// Why bytes are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// They do not hold together; the reason.
    Damaged(String),
    /// They are of a version that this build does not know.
    Version(u32),
}

impl<T: Into<String>> From<T> for Flaw {
    fn from(reason: T) -> Self {
        Self::Damaged(reason.into())
    }
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damaged(reason) => f.write_str(reason),
            Self::Version(version) => write!(f, "unknown format version {version}"),
        }
    }
}

/// A record of a pack or archive, as the footer describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The chunk.
    pub id: ChunkId,
    /// Offset in bytes of the record.
    pub offset: u64,
    /// Length in bytes of the frame.
    pub stored_len: u32,
    /// Length in bytes of the chunk.
    pub raw_len: u32,
    /// The frame's second byte: method, and in the upper bits which references it has.
    pub method: u8,
}

impl Entry {
    /// Length in bytes of the record: its head and the frame.
    pub(crate) fn record_len(&self) -> u64 {
        RECORD_HEAD_LEN + u64::from(self.stored_len)
    }

    /// Method and raw length in one word: the length needs 23 bits.
    pub(crate) fn packed(&self) -> u32 {
        u32::from(self.method) << 24 | self.raw_len
    }

    /// Takes [`Entry::packed`] apart and checks the limits on both lengths.
    pub(crate) fn unpack(id: ChunkId, offset: u64, stored_len: u32, packed: u32) -> Option<Self> {
        let [_, _, _, method] = packed.to_le_bytes();
        let raw_len = packed & 0x00ff_ffff;
        let fits =
            raw_len as usize <= limits::CHUNK_LEN_MAX && stored_len as usize <= STORED_LEN_MAX;
        fits.then_some(Self {
            id,
            offset,
            stored_len,
            raw_len,
            method,
        })
    }
}

/// The header of a file of this kind.
pub(crate) fn encode_header(kind: Kind) -> [u8; HEADER_SIZE] {
    let mut header = [0; HEADER_SIZE];
    header[..8].copy_from_slice(&FILE_MAGIC);
    header[8..12].copy_from_slice(&FILE_VERSION.to_le_bytes());
    header[12..].copy_from_slice(&(kind as u32).to_le_bytes());
    header
}

/// Checks a header against the kind that is expected.
pub(crate) fn parse_header(bytes: &[u8], kind: Kind) -> Result<(), Flaw> {
    let header = bytes
        .first_chunk::<{ HEADER_SIZE }>()
        .ok_or("shorter than a header")?;
    if header[..8] != FILE_MAGIC {
        return Err("it does not begin with the magic bytes".into());
    }
    match (u32_at(header, 8), u32_at(header, 12)) {
        (FILE_VERSION, found) if found == kind as u32 => Ok(()),
        (FILE_VERSION, found) => Err(format!("kind {found}, not {}", kind as u32).into()),
        (version, _) => Err(Flaw::Version(version)),
    }
}

/// The head of a frame's record.
pub(crate) fn encode_record_head(frame: &[u8]) -> [u8; RECORD_HEAD_SIZE] {
    let mut head = [0; RECORD_HEAD_SIZE];
    let len = u32::try_from(frame.len()).expect("callers check STORED_LEN_MAX");
    head[..4].copy_from_slice(&len.to_le_bytes());
    head[4..].copy_from_slice(&crc_fast::crc32_iscsi(frame).to_le_bytes());
    head
}

/// A record's parts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record;

impl Record {
    /// The frame length that a record's head states, if it is within the limits.
    pub(crate) fn frame_len(head: &[u8]) -> Result<u32, Flaw> {
        let head = head
            .first_chunk::<{ RECORD_HEAD_SIZE }>()
            .ok_or("record is cut off")?;
        let len = u32_at(head, 0);
        if len as usize > STORED_LEN_MAX {
            return Err(format!("a frame of {len} bytes is beyond the limit").into());
        }
        Ok(len)
    }

    /// The frame of a record, after comparing length and checksum.
    pub(crate) fn frame(record: &[u8]) -> Result<&[u8], Flaw> {
        let len = Self::frame_len(record)?;
        let frame = &record[RECORD_HEAD_SIZE..];
        if frame.len() as u64 != u64::from(len) {
            return Err(format!("the record states {len} bytes, not {}", frame.len()).into());
        }
        if crc_fast::crc32_iscsi(frame) != u32_at(record, 4) {
            return Err("the frame's checksum does not match".into());
        }
        Ok(frame)
    }
}

/// What a footer holds besides the entries: for archives the roots, for packs nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Footer table and what follows it, up to the trailer.
    pub footer: Vec<u8>,
    /// The file's last bytes.
    pub trailer: [u8; TRAILER_LEN],
    /// BLAKE3 of everything before the trailer; of an archive, of header and footer.
    pub content: Digest,
}

impl Tail {
    /// Ends a file whose content up to the footer is in `hasher`; of an archive the header only.
    pub(crate) fn new(
        mut hasher: blake3::Hasher,
        footer: Vec<u8>,
        footer_offset: u64,
        n_records: u64,
    ) -> Self {
        let footer_digest = Digest::of(&footer);
        hasher.update(&footer);
        let content = Digest::from_bytes(*hasher.finalize().as_bytes());
        let footer_len = footer.len() as u64;
        let trailer = Trailer {
            footer_offset,
            footer_len,
            n_records,
            footer_digest,
            content,
        };
        Self {
            footer,
            trailer: trailer.encode(),
            content,
        }
    }
}

/// The last bytes of a pack or archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trailer {
    /// Where the footer begins.
    pub footer_offset: u64,
    /// Its length in bytes.
    pub footer_len: u64,
    /// How many entries it has.
    pub n_records: u64,
    /// Its BLAKE3.
    pub footer_digest: Digest,
    /// BLAKE3 of everything before the trailer; of an archive, of header and footer.
    pub content: Digest,
}

impl Trailer {
    fn encode(&self) -> [u8; TRAILER_LEN] {
        let mut out = [0; TRAILER_LEN];
        out[..8].copy_from_slice(&self.footer_offset.to_le_bytes());
        out[8..16].copy_from_slice(&self.footer_len.to_le_bytes());
        out[16..24].copy_from_slice(&self.n_records.to_le_bytes());
        out[24..56].copy_from_slice(self.footer_digest.as_bytes());
        out[56..88].copy_from_slice(self.content.as_bytes());
        out[88..92].copy_from_slice(&FILE_VERSION.to_le_bytes());
        out[92..100].copy_from_slice(&TRAILER_MAGIC);
        let crc = crc_fast::crc32_iscsi(&out[..100]);
        out[100..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the trailer at the end of `bytes`, the last bytes of a file of `file_len` bytes.
    pub(crate) fn parse(bytes: &[u8], file_len: u64) -> Result<Self, Flaw> {
        let bytes = bytes
            .last_chunk::<TRAILER_LEN>()
            .ok_or("shorter than a trailer")?;
        if bytes[92..100] != TRAILER_MAGIC {
            return Err("it does not end with a trailer".into());
        }
        if crc_fast::crc32_iscsi(&bytes[..100]) != u32_at(bytes, 100) {
            return Err("the trailer's checksum does not match".into());
        }
        if u32_at(bytes, 88) != FILE_VERSION {
            return Err(Flaw::Version(u32_at(bytes, 88)));
        }
        let trailer = Self {
            footer_offset: u64_at(bytes, 0),
            footer_len: u64_at(bytes, 8),
            n_records: u64_at(bytes, 16),
            footer_digest: digest_at(bytes, 24),
            content: digest_at(bytes, 56),
        };
        let end = trailer.footer_offset.checked_add(trailer.footer_len);
        let whole = end.and_then(|end| end.checked_add(TRAILER_LEN as u64));
        if trailer.footer_offset < HEADER_LEN || whole != Some(file_len) {
            return Err(format!("the trailer does not fit {file_len} bytes").into());
        }
        Ok(trailer)
    }
}

/// Encodes the footer table of a pack; entries are in order of offset, without gaps.
pub(crate) fn encode_footer(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * PACK_ENTRY_LEN);
    for entry in entries {
        out.extend_from_slice(entry.id.as_bytes());
        out.extend_from_slice(&entry.stored_len.to_le_bytes());
        out.extend_from_slice(&entry.packed().to_le_bytes());
    }
    out
}

/// Decodes the footer table of a pack: the records tile the file from header to footer. What
/// makes the pack unlike any other may follow.
pub(crate) fn decode_footer(
    footer: &[u8],
    trailer: &Trailer,
    vault: &Vault,
) -> Result<Vec<Entry>, Flaw> {
    if Digest::of(footer) != trailer.footer_digest {
        return Err("the footer's digest does not match".into());
    }
    let footer = &*vault.open(FOOTER_NAME, footer)?;
    let n = footer.len() / PACK_ENTRY_LEN;
    let over = footer.len() % PACK_ENTRY_LEN;
    if over != 0 && over != PACK_SALT_LEN || n as u64 != trailer.n_records {
        return Err(format!("a footer of {} bytes for {} records", footer.len(), n).into());
    }
    if n > PACK_RECORDS_MAX {
        return Err(format!("{n} records, more than {PACK_RECORDS_MAX}").into());
    }
    let mut entries = Vec::with_capacity(n);
    let mut offset = HEADER_LEN;
    for bytes in footer.chunks_exact(PACK_ENTRY_LEN) {
        let id = ChunkId::from_digest(digest_at(bytes, 0));
        let entry = Entry::unpack(id, offset, u32_at(bytes, 32), u32_at(bytes, 36))
            .ok_or_else(|| Flaw::from(format!("the record at {offset} is beyond the limits")))?;
        offset += entry.record_len();
        entries.push(entry);
    }
    if offset != trailer.footer_offset {
        return Err(format!("records end at {offset}, not {}", trailer.footer_offset).into());
    }
    Ok(entries)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

pub(crate) fn digest_at(bytes: &[u8], at: usize) -> Digest {
    Digest::from_bytes(bytes[at..at + 32].try_into().expect("32 bytes"))
}

/// Reads any bytes as the end of a pack; for fuzzing.
pub fn fuzz_pack_tail(bytes: &[u8]) {
    let file_len = bytes.len() as u64;
    if let Ok(trailer) = Trailer::parse(bytes, file_len) {
        let start = usize::try_from(trailer.footer_offset).expect("it lies within the bytes");
        let footer = &bytes[start..bytes.len() - TRAILER_LEN];
        let entries = decode_footer(footer, &trailer, &PLAIN);
        let records = entries.unwrap_or_default();
        assert!(
            records
                .iter()
                .all(|e| e.offset + e.record_len() <= trailer.footer_offset)
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(n: u8, stored_len: u32) -> Entry {
        let id = ChunkId::of(&[n]);
        Entry {
            id,
            offset: 0,
            stored_len,
            raw_len: stored_len * 2,
            method: n,
        }
    }

    /// A pack of opaque frames, its entries with their offsets.
    fn pack(lens: &[u32]) -> (Vec<u8>, Vec<Entry>) {
        let mut bytes = encode_header(Kind::Pack).to_vec();
        let mut entries = Vec::new();
        for (n, len) in (0u8..).zip(lens) {
            let frame = vec![n; *len as usize];
            entries.push(Entry {
                offset: bytes.len() as u64,
                ..entry(n, *len)
            });
            bytes.extend_from_slice(&encode_record_head(&frame));
            bytes.extend_from_slice(&frame);
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&bytes);
        let footer = encode_footer(&entries);
        let tail = Tail::new(hasher, footer, bytes.len() as u64, entries.len() as u64);
        bytes.extend_from_slice(&tail.footer);
        bytes.extend_from_slice(&tail.trailer);
        (bytes, entries)
    }

    fn decode(bytes: &[u8]) -> Result<Vec<Entry>, Flaw> {
        let trailer = Trailer::parse(bytes, bytes.len() as u64)?;
        let start = usize::try_from(trailer.footer_offset).unwrap();
        decode_footer(&bytes[start..bytes.len() - TRAILER_LEN], &trailer, &PLAIN)
    }

    /// The layout of FORMAT.md, byte by byte. If this fails, old packs do not open any more.
    #[test]
    fn the_layout_is_as_documented() {
        let (bytes, _) = pack(&[3]);
        assert_eq!(&bytes[..16], b"\x89MMH\r\n\x1a\n\x01\0\0\0\x01\0\0\0");
        assert_eq!(&bytes[16..20], 3u32.to_le_bytes());
        assert_eq!(&bytes[20..24], crc_fast::crc32_iscsi(&[0; 3]).to_le_bytes());
        assert_eq!(&bytes[24..27], [0; 3]);
        let footer = &bytes[27..67];
        assert_eq!(&footer[..32], blake3::hash(&[0]).as_bytes());
        assert_eq!(footer[32..], [3, 0, 0, 0, 6, 0, 0, 0]);
        let trailer = &bytes[67..];
        assert_eq!(trailer.len(), TRAILER_LEN);
        assert_eq!(trailer[..24], [27u64, 40, 1].map(u64::to_le_bytes).concat());
        assert_eq!(&trailer[24..56], blake3::hash(footer).as_bytes());
        assert_eq!(&trailer[56..88], blake3::hash(&bytes[..67]).as_bytes());
        assert_eq!(&trailer[88..100], b"\x01\0\0\0MMH-TAIL");
        assert_eq!(
            trailer[100..],
            crc_fast::crc32_iscsi(&trailer[..100]).to_le_bytes()
        );
    }

    #[test]
    fn method_and_length_share_a_word() {
        let id = ChunkId::of(b"");
        let most = u32::try_from(limits::CHUNK_LEN_MAX).unwrap();
        let entry = Entry {
            id,
            offset: 16,
            stored_len: 1,
            raw_len: most,
            method: 255,
        };
        assert_eq!(Entry::unpack(id, 16, 1, entry.packed()), Some(entry));
        assert_eq!(Entry::unpack(id, 16, 1, most + 1), None);
        assert_eq!(Entry::unpack(id, 16, u32::MAX, 0), None);
    }

    #[test]
    fn headers_of_other_kinds_and_versions_are_refused() {
        let header = encode_header(Kind::Pack);
        assert_eq!(parse_header(&header, Kind::Pack), Ok(()));
        assert!(matches!(
            parse_header(&header, Kind::Archive),
            Err(Flaw::Damaged(_))
        ));
        assert!(matches!(
            parse_header(&header[..15], Kind::Pack),
            Err(Flaw::Damaged(_))
        ));
        let mut newer = header;
        newer[8] = 2;
        assert_eq!(parse_header(&newer, Kind::Pack), Err(Flaw::Version(2)));
    }

    #[test]
    fn records_with_wrong_lengths_or_checksums_are_refused() {
        let mut record = encode_record_head(b"abc").to_vec();
        record.extend_from_slice(b"abc");
        assert_eq!(Record::frame(&record), Ok(&b"abc"[..]));
        for len in 0..record.len() {
            assert!(Record::frame(&record[..len]).is_err());
        }
        for bit in 0..record.len() * 8 {
            let mut bad = record.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::frame(&bad).is_err(), "bit {bit}");
        }
    }

    /// Everything in the tail is covered by the trailer's checksum and the footer's digest.
    #[test]
    fn every_bit_of_footer_and_trailer_counts() {
        let (bytes, entries) = pack(&[5, 0, 9]);
        assert_eq!(decode(&bytes), Ok(entries));
        for bit in 54 * 8..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "cut to {len}");
        }
    }

    /// Whatever a trailer states, nothing is allocated or read beyond what is there.
    #[test]
    fn forged_trailers_are_refused() {
        let (bytes, _) = pack(&[5, 6]);
        let at = bytes.len() - TRAILER_LEN;
        for (field, value) in [(0, u64::MAX), (0, 0), (8, u64::MAX), (8, 1), (16, u64::MAX)] {
            let mut bad = bytes.clone();
            bad[at + field..at + field + 8].copy_from_slice(&value.to_le_bytes());
            let crc = crc_fast::crc32_iscsi(&bad[at..at + 100]);
            bad[at + 100..].copy_from_slice(&crc.to_le_bytes());
            assert!(decode(&bad).is_err(), "{value} at {field}");
        }
    }

    proptest! {
        #[test]
        fn footers_make_a_round_trip(lens in prop::collection::vec(0..300u32, 0..50)) {
            let (bytes, entries) = pack(&lens);
            prop_assert_eq!(decode(&bytes), Ok(entries));
            fuzz_pack_tail(&bytes);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            fuzz_pack_tail(&bytes);
            let _ = Record::frame(&bytes).is_ok();
            let _ = parse_header(&bytes, Kind::Pack).is_ok();
        }

        #[test]
        fn mutated_packs_are_read_without_panic(
            lens in prop::collection::vec(0..20u32, 0..5), at: prop::sample::Index, with: u8,
        ) {
            let (mut bytes, _) = pack(&lens);
            let at = at.index(bytes.len());
            bytes[at] = with;
            // The checksum is made right again, so that the mutation reaches what is behind it.
            let trailer = bytes.len() - TRAILER_LEN;
            let crc = crc_fast::crc32_iscsi(&bytes[trailer..trailer + 100]);
            bytes[trailer + 100..].copy_from_slice(&crc.to_le_bytes());
            fuzz_pack_tail(&bytes);
        }
    }
}
