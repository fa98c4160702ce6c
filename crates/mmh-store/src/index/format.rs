//! The bytes of an index run: blocks of sorted entries, then the tail that names and proves them.
//!
//! Pure functions over bytes that may be hostile.

use mmh_core::{ChunkId, Digest, PackId};

use crate::pack::{Entry, FILE_VERSION, Flaw, HEADER_LEN, digest_at, u32_at, u64_at};
use crate::vault::{BLOCK_NAME, PLAIN, Passed, Vault};

/// Length in bytes of an entry: id, pack, offset, frame length, method and raw length.
pub const RUN_ENTRY_LEN: usize = 48;
/// Entries in a block; the last of a run may have fewer.
pub const BLOCK_ENTRIES: usize = 256;
/// Length in bytes of a full block, what a lookup reads.
pub const BLOCK_LEN: usize = RUN_ENTRY_LEN * BLOCK_ENTRIES;
/// Length in bytes of the trailer.
pub const RUN_TRAILER_LEN: usize = 56;
/// Stands near the end of the trailer.
pub const RUN_TRAILER_MAGIC: [u8; 8] = *b"MMH-RUN\n";
/// Longest tail: enough for a run of 10^9 entries. Readers hold tails in memory.
pub const RUN_TAIL_LEN_MAX: u64 = 512 << 20;
/// Length in bytes of the counts at the beginning of the tail.
pub const RUN_COUNTS_LEN: usize = 16;
/// Length in bytes of what the tail has for a block: its first id and its digest.
pub const RUN_FENCE_LEN: usize = 64;
/// Length in bytes of what makes a run unlike any other: 16 random bytes at the end of its tail.
pub const RUN_SALT_LEN: usize = 16;

/// Where a chunk lies, as a run says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Located {
    /// The pack.
    pub pack: PackId,
    /// The record in it.
    pub entry: Entry,
}

/// Writes an entry; `pack_no` is the pack's place in the run's list.
pub(crate) fn encode_entry(entry: &Entry, pack_no: u32, out: &mut Vec<u8>) -> Result<(), Flaw> {
    let offset = u32::try_from(entry.offset).map_err(|_| "an offset beyond 4 GiB in a pack")?;
    out.extend_from_slice(entry.id.as_bytes());
    out.extend_from_slice(&pack_no.to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&entry.stored_len.to_le_bytes());
    out.extend_from_slice(&entry.packed().to_le_bytes());
    Ok(())
}

/// A block whose digest was compared.
#[derive(Debug)]
pub(crate) struct Block(Vec<u8>);

impl Block {
    /// Takes the bytes of a block, as they are stored, if they have the digest that the tail
    /// states.
    pub(crate) fn verified(bytes: Vec<u8>, digest: &Digest, vault: &Vault) -> Result<Self, Flaw> {
        if Digest::of(&bytes) != *digest {
            return Err("a block's digest does not match".into());
        }
        let opened = match vault.open(BLOCK_NAME, &bytes)? {
            Passed::Same(_) => bytes,
            Passed::Other(opened) => opened.to_vec(),
        };
        if !opened.len().is_multiple_of(RUN_ENTRY_LEN) {
            return Err("a block is no list of entries".into());
        }
        Ok(Self(opened))
    }

    /// How many entries it has.
    pub(crate) fn len(&self) -> usize {
        self.0.len() / RUN_ENTRY_LEN
    }

    fn id(&self, i: usize) -> ChunkId {
        ChunkId::from_digest(digest_at(&self.0, i * RUN_ENTRY_LEN))
    }

    /// The ids, in order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = ChunkId> + '_ {
        (0..self.len()).map(|i| self.id(i))
    }

    /// The entry at `i`, with its pack from the run's list; `None` if it is beyond the limits.
    pub(crate) fn entry(&self, i: usize, packs: &[PackId]) -> Option<Located> {
        let at = i * RUN_ENTRY_LEN;
        let word = |n: usize| u32_at(&self.0, at + 32 + 4 * n);
        let pack = *packs.get(word(0) as usize)?;
        let entry = Entry::unpack(self.id(i), u64::from(word(1)), word(2), word(3))?;
        (entry.offset >= HEADER_LEN).then_some(Located { pack, entry })
    }

    /// The place of the first entry whose id is not smaller, by halving.
    fn place(&self, id: &ChunkId) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.id(middle) < *id {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Every entry of an id that lies in this block, in order of packs.
    pub(crate) fn find<'a>(
        &'a self,
        id: &'a ChunkId,
        packs: &'a [PackId],
    ) -> impl Iterator<Item = Located> + 'a {
        let from = self.place(id)..self.len();
        let of_it = from.take_while(|i| self.id(*i) == *id);
        of_it.filter_map(|i| self.entry(i, packs))
    }
}

/// What the tail has for a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fence {
    /// The block's first id.
    pub first: ChunkId,
    /// BLAKE3 of the block.
    pub digest: Digest,
}

/// Lengths in bytes, as they are stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored {
    /// Of the whole run.
    pub run: u64,
    /// Of its tail.
    pub tail: u64,
}

/// How many bytes the blocks of so many entries take.
fn blocks_len(n_entries: u64, vault: &Vault) -> Option<u64> {
    let rest = n_entries % BLOCK_ENTRIES as u64 * RUN_ENTRY_LEN as u64;
    let full = vault.stored_len(BLOCK_LEN as u64);
    let last = if rest == 0 { 0 } else { vault.stored_len(rest) };
    let full = (n_entries / BLOCK_ENTRIES as u64).checked_mul(full)?;
    full.checked_add(last)
}

/// The end of a run: what it covers and where its blocks begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunTail {
    /// How many entries the run has.
    pub n_entries: u64,
    /// The packs it covers, sorted.
    pub packs: Vec<PackId>,
    /// One for each block, in order.
    pub fences: Vec<Fence>,
    /// Random bytes, so that no other run has its name: whoever replaced a run may delete its name
    /// much later. Zeros in a run that has none.
    pub salt: [u8; RUN_SALT_LEN],
}

impl RunTail {
    /// Encodes the tail. The digest of what is stored of it is the run's id.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Flaw> {
        let too_many = |_| Flaw::from("too many packs or blocks for one run");
        let n_packs = u32::try_from(self.packs.len()).map_err(too_many)?;
        let n_blocks = u32::try_from(self.fences.len()).map_err(too_many)?;
        let mut out = Vec::new();
        out.extend_from_slice(&self.n_entries.to_le_bytes());
        out.extend_from_slice(&n_packs.to_le_bytes());
        out.extend_from_slice(&n_blocks.to_le_bytes());
        self.packs
            .iter()
            .for_each(|pack| out.extend_from_slice(pack.as_bytes()));
        for fence in &self.fences {
            out.extend_from_slice(fence.first.as_bytes());
            out.extend_from_slice(fence.digest.as_bytes());
        }
        out.extend_from_slice(&self.salt);
        Ok(out)
    }

    /// Decodes a tail whose digest was compared, of a run with these lengths.
    pub(crate) fn decode(bytes: &[u8], stored: Stored, vault: &Vault) -> Result<Self, Flaw> {
        let counts = bytes
            .first_chunk::<RUN_COUNTS_LEN>()
            .ok_or("the tail is cut off")?;
        let (n_entries, n_packs, n_blocks) = (
            u64_at(counts, 0),
            u32_at(counts, 8) as usize,
            u32_at(counts, 12) as usize,
        );
        let lists = n_packs as u64 * 32 + n_blocks as u64 * RUN_FENCE_LEN as u64;
        // Earlier programs wrote no salt.
        let salt = (bytes.len() as u64).checked_sub(RUN_COUNTS_LEN as u64 + lists);
        let Some((bytes, salt)) = (match salt {
            Some(0) => Some((bytes, [0; RUN_SALT_LEN])),
            Some(_) => bytes.split_last_chunk().map(|(bytes, salt)| (bytes, *salt)),
            None => None,
        })
        .filter(|(bytes, _)| bytes.len() as u64 == RUN_COUNTS_LEN as u64 + lists) else {
            return Err("the tail's counts do not fit its length".into());
        };
        let ends = (HEADER_LEN + RUN_TRAILER_LEN as u64).saturating_add(stored.tail);
        if blocks_len(n_entries, vault).and_then(|len| len.checked_add(ends)) != Some(stored.run)
            || n_entries.div_ceil(BLOCK_ENTRIES as u64) != n_blocks as u64
        {
            return Err("the tail's counts do not fit the run".into());
        }
        let (packs, fences) = bytes[RUN_COUNTS_LEN..].split_at(n_packs * 32);
        let packs: Vec<PackId> = packs
            .chunks_exact(32)
            .map(|b| PackId::from_digest(digest_at(b, 0)))
            .collect();
        let fence = |b: &[u8]| Fence {
            first: ChunkId::from_digest(digest_at(b, 0)),
            digest: digest_at(b, 32),
        };
        let fences: Vec<Fence> = fences.chunks_exact(RUN_FENCE_LEN).map(fence).collect();
        let sorted =
            packs.is_sorted_by(|a, b| a < b) && fences.is_sorted_by_key(|fence| fence.first);
        if !sorted {
            return Err("the tail is not sorted".into());
        }
        Ok(Self {
            n_entries,
            packs,
            fences,
            salt,
        })
    }
}

/// Encodes the trailer of a run.
pub(crate) fn encode_trailer(tail_len: u64, tail_digest: &Digest) -> [u8; RUN_TRAILER_LEN] {
    let mut out = [0; RUN_TRAILER_LEN];
    out[..8].copy_from_slice(&tail_len.to_le_bytes());
    out[8..40].copy_from_slice(tail_digest.as_bytes());
    out[40..44].copy_from_slice(&FILE_VERSION.to_le_bytes());
    out[44..52].copy_from_slice(&RUN_TRAILER_MAGIC);
    let crc = crc_fast::crc32_iscsi(&out[..52]);
    out[52..].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Reads the trailer at the end of `bytes`: length and digest of the tail.
pub(crate) fn parse_trailer(bytes: &[u8], run_len: u64) -> Result<(u64, Digest), Flaw> {
    let bytes = bytes
        .last_chunk::<RUN_TRAILER_LEN>()
        .ok_or("shorter than a trailer")?;
    if bytes[44..52] != RUN_TRAILER_MAGIC {
        return Err("it does not end with a trailer".into());
    }
    if crc_fast::crc32_iscsi(&bytes[..52]) != u32_at(bytes, 52) {
        return Err("the trailer's checksum does not match".into());
    }
    if u32_at(bytes, 40) != FILE_VERSION {
        return Err(Flaw::Version(u32_at(bytes, 40)));
    }
    let tail_len = u64_at(bytes, 0);
    let most = run_len.saturating_sub(HEADER_LEN + RUN_TRAILER_LEN as u64);
    if tail_len > most {
        return Err(format!("a tail of {tail_len} bytes in a run of {run_len}").into());
    }
    Ok((tail_len, digest_at(bytes, 8)))
}

/// Reads any bytes as a whole index run; for fuzzing.
pub fn fuzz_run(bytes: &[u8]) {
    let run_len = bytes.len() as u64;
    let Ok((tail_len, _)) = parse_trailer(bytes, run_len) else {
        return;
    };
    let end = bytes.len() - RUN_TRAILER_LEN;
    let start = end - usize::try_from(tail_len).expect("it lies within the bytes");
    let stored = Stored {
        run: run_len,
        tail: tail_len,
    };
    let Ok(tail) = RunTail::decode(&bytes[start..end], stored, &PLAIN) else {
        return;
    };
    let blocks = &bytes[usize::try_from(HEADER_LEN).expect("16")..start];
    assert_eq!(blocks.chunks(BLOCK_LEN).len(), tail.fences.len());
    for (bytes, fence) in blocks.chunks(BLOCK_LEN).zip(&tail.fences) {
        let Ok(block) = Block::verified(bytes.to_vec(), &fence.digest, &PLAIN) else {
            continue;
        };
        for i in 0..block.len() {
            let _ = block.find(&block.id(i), &tail.packs).count();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pack::{Kind, encode_header};

    /// A run of `n` entries in `n_packs` packs.
    fn run(n: u32, n_packs: u32) -> (Vec<u8>, Vec<Located>) {
        let mut packs: Vec<PackId> = (0..n_packs).map(|i| PackId::of(&i.to_le_bytes())).collect();
        packs.sort();
        let mut all: Vec<Located> = (0..n)
            .map(|i| {
                let id = ChunkId::of(&i.to_le_bytes());
                let entry = Entry {
                    id,
                    offset: 16 + u64::from(i),
                    stored_len: i,
                    raw_len: i,
                    method: 3,
                };
                Located {
                    pack: packs[(i % n_packs) as usize],
                    entry,
                }
            })
            .collect();
        all.sort_by_key(|at| at.entry.id);
        let mut bytes = encode_header(Kind::Run).to_vec();
        let mut tail = RunTail {
            n_entries: u64::from(n),
            packs,
            fences: Vec::new(),
            salt: *b"sixteen of salt!",
        };
        for block in all.chunks(BLOCK_ENTRIES) {
            let mut out = Vec::new();
            for at in block {
                let no = tail.packs.binary_search(&at.pack).unwrap();
                encode_entry(&at.entry, u32::try_from(no).unwrap(), &mut out).unwrap();
            }
            tail.fences.push(Fence {
                first: block[0].entry.id,
                digest: Digest::of(&out),
            });
            bytes.extend_from_slice(&out);
        }
        let tail = tail.encode().unwrap();
        let digest = Digest::of(&tail);
        bytes.extend_from_slice(&tail);
        bytes.extend_from_slice(&encode_trailer(tail.len() as u64, &digest));
        (bytes, all)
    }

    fn decode_tail(bytes: &[u8], run: u64) -> Result<RunTail, Flaw> {
        let tail = bytes.len() as u64;
        RunTail::decode(bytes, Stored { run, tail }, &PLAIN)
    }

    fn decode(bytes: &[u8]) -> Result<RunTail, Flaw> {
        let (len, digest) = parse_trailer(bytes, bytes.len() as u64)?;
        let end = bytes.len() - RUN_TRAILER_LEN;
        let tail = &bytes[end - usize::try_from(len).unwrap()..end];
        if Digest::of(tail) != digest {
            return Err("digest".into());
        }
        decode_tail(tail, bytes.len() as u64)
    }

    /// The layout of FORMAT.md, byte by byte.
    #[test]
    fn the_layout_is_as_documented() {
        let (bytes, all) = run(1, 1);
        assert_eq!(&bytes[..16], b"\x89MMH\r\n\x1a\n\x01\0\0\0\x03\0\0\0");
        let block = &bytes[16..64];
        assert_eq!(&block[..32], all[0].entry.id.as_bytes());
        assert_eq!(
            block[32..],
            [0u32, 16, 0, 3 << 24].map(u32::to_le_bytes).concat()
        );
        let tail = &bytes[64..192];
        assert_eq!(tail[..16], *b"\x01\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0");
        assert_eq!(&tail[16..48], all[0].pack.as_bytes());
        assert_eq!(&tail[48..80], all[0].entry.id.as_bytes());
        assert_eq!(&tail[80..112], blake3::hash(block).as_bytes());
        assert_eq!(tail[112..], *b"sixteen of salt!");
        let trailer = &bytes[192..];
        assert_eq!(trailer.len(), RUN_TRAILER_LEN);
        assert_eq!(trailer[..8], 128u64.to_le_bytes());
        assert_eq!(&trailer[8..40], blake3::hash(tail).as_bytes());
        assert_eq!(&trailer[40..52], b"\x01\0\0\0MMH-RUN\n");
        assert_eq!(
            trailer[52..],
            crc_fast::crc32_iscsi(&trailer[..52]).to_le_bytes()
        );
    }

    #[test]
    fn blocks_find_their_entries_and_no_others() {
        let (bytes, all) = run(600, 3);
        let tail = decode(&bytes).unwrap();
        assert_eq!(tail.fences.len(), 3);
        for (i, part) in all.chunks(BLOCK_ENTRIES).enumerate() {
            let start = 16 + i * BLOCK_LEN;
            let block = bytes[start..start + part.len() * RUN_ENTRY_LEN].to_vec();
            let block = Block::verified(block, &tail.fences[i].digest, &PLAIN).unwrap();
            for at in part {
                assert!(block.find(&at.entry.id, &tail.packs).eq([*at]));
            }
            assert_eq!(block.find(&ChunkId::of(b"none"), &tail.packs).count(), 0);
        }
    }

    #[test]
    fn every_bit_of_tail_and_trailer_counts() {
        let (bytes, _) = run(3, 2);
        decode(&bytes).unwrap();
        for bit in (16 + 3 * 48) * 8..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "cut to {len}");
        }
    }

    /// A run of an earlier program, whose tail ends with the blocks.
    #[test]
    fn a_tail_without_salt_is_read() {
        let (bytes, _) = run(3, 2);
        let tail = &bytes[16 + 3 * 48..bytes.len() - RUN_TRAILER_LEN];
        let without = &tail[..tail.len() - RUN_SALT_LEN];
        let len = (bytes.len() - RUN_SALT_LEN) as u64;
        let old = decode_tail(without, len).unwrap();
        let new = decode(&bytes).unwrap();
        assert_eq!((old.n_entries, &old.packs), (new.n_entries, &new.packs));
        assert_eq!((old.salt, new.salt), ([0; 16], *b"sixteen of salt!"));
        for cut in 1..RUN_SALT_LEN {
            assert!(
                decode_tail(&tail[..tail.len() - cut], bytes.len() as u64 - cut as u64).is_err()
            );
        }
    }

    /// Counts that were forged together with their digest.
    #[test]
    fn counts_that_do_not_fit_are_refused() {
        let (bytes, _) = run(3, 2);
        let end = bytes.len() - RUN_TRAILER_LEN;
        let tail = &bytes[16 + 3 * 48..end];
        let len = bytes.len() as u64;
        assert!(decode_tail(tail, len).is_ok());
        for (at, value) in [
            (0, u64::MAX),
            (0, 4),
            (0, 0),
            (8, u64::MAX),
            (8, 0),
            (8, 1 << 32),
        ] {
            let mut bad = tail.to_vec();
            bad[at..at + 8].copy_from_slice(&u64::to_le_bytes(value));
            assert!(decode_tail(&bad, len).is_err(), "{value} at {at}");
        }
        let mut unsorted = tail.to_vec();
        unsorted[16..48].copy_from_slice(&tail[48..80]);
        assert!(decode_tail(&unsorted, len).is_err(), "a pack twice");
    }

    #[test]
    fn an_entry_of_no_pack_is_nothing() {
        let (bytes, all) = run(1, 1);
        let block = bytes[16..64].to_vec();
        let block = Block::verified(block.clone(), &Digest::of(&block), &PLAIN).unwrap();
        assert_eq!(block.find(&all[0].entry.id, &[]).count(), 0);
        assert!(Block::verified(vec![0; 48], &Digest::of(b""), &PLAIN).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            fuzz_run(&bytes);
        }

        #[test]
        fn mutated_runs_are_read_without_panic(
            n in 0..20u32, n_packs in 1..4u32, at: prop::sample::Index, with: u8,
        ) {
            let (mut bytes, _) = run(n, n_packs);
            let at = at.index(bytes.len());
            bytes[at] = with;
            let trailer = bytes.len() - RUN_TRAILER_LEN;
            let crc = crc_fast::crc32_iscsi(&bytes[trailer..trailer + 52]);
            bytes[trailer + 52..].copy_from_slice(&crc.to_le_bytes());
            fuzz_run(&bytes);
        }
    }
}
