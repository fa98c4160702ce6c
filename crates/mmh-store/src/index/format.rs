//! The bytes of an index run: blocks of sorted entries, then the tail that names and proves them.
//!
//! Pure functions over bytes that may be hostile.

use mmh_core::{ChunkId, Digest, PackId};

use crate::pack::{Entry, FILE_VERSION, Flaw, HEADER_LEN, digest_at, u32_at, u64_at};

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
/// Length in bytes of the counts at the beginning of the tail.
pub const RUN_COUNTS_LEN: usize = 16;
/// Length in bytes of what the tail has for a block: its first id and its digest.
pub const RUN_FENCE_LEN: usize = 64;

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
    /// Takes the bytes of a block if they have the digest that the tail states.
    pub(crate) fn verified(bytes: Vec<u8>, digest: &Digest) -> Result<Self, Flaw> {
        if Digest::of(&bytes) != *digest || !bytes.len().is_multiple_of(RUN_ENTRY_LEN) {
            return Err("a block's digest does not match".into());
        }
        Ok(Self(bytes))
    }

    /// How many entries it has.
    pub(crate) fn len(&self) -> usize {
        self.0.len() / RUN_ENTRY_LEN
    }

    fn id(&self, i: usize) -> ChunkId {
        ChunkId::from_digest(digest_at(&self.0, i * RUN_ENTRY_LEN))
    }

    /// The entry at `i`, with its pack from the run's list; `None` if it is beyond the limits.
    pub(crate) fn entry(&self, i: usize, packs: &[PackId]) -> Option<Located> {
        let at = i * RUN_ENTRY_LEN;
        let word = |n: usize| u32_at(&self.0, at + 32 + 4 * n);
        let pack = *packs.get(word(0) as usize)?;
        let entry = Entry::unpack(self.id(i), u64::from(word(1)), word(2), word(3))?;
        (entry.offset >= HEADER_LEN).then_some(Located { pack, entry })
    }

    /// Finds an id by halving.
    pub(crate) fn find(&self, id: &ChunkId, packs: &[PackId]) -> Option<Located> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.id(middle).cmp(id) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return self.entry(middle, packs),
            }
        }
        None
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

/// The end of a run: what it covers and where its blocks begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunTail {
    /// How many entries the run has.
    pub n_entries: u64,
    /// The packs it covers, sorted.
    pub packs: Vec<PackId>,
    /// One for each block, in order.
    pub fences: Vec<Fence>,
}

impl RunTail {
    /// Encodes the tail, and returns its digest, the run's id.
    pub(crate) fn encode(&self) -> Result<(Vec<u8>, Digest), Flaw> {
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
        let digest = Digest::of(&out);
        Ok((out, digest))
    }

    /// Decodes a tail whose digest was compared, of a run of `run_len` bytes.
    pub(crate) fn decode(bytes: &[u8], run_len: u64) -> Result<Self, Flaw> {
        let counts = bytes
            .first_chunk::<RUN_COUNTS_LEN>()
            .ok_or("the tail is cut off")?;
        let (n_entries, n_packs, n_blocks) = (
            u64_at(counts, 0),
            u32_at(counts, 8) as usize,
            u32_at(counts, 12) as usize,
        );
        let lists = n_packs as u64 * 32 + n_blocks as u64 * RUN_FENCE_LEN as u64;
        if bytes.len() as u64 != RUN_COUNTS_LEN as u64 + lists {
            return Err("the tail's counts do not fit its length".into());
        }
        let blocks_len = n_entries.checked_mul(RUN_ENTRY_LEN as u64);
        let ends = (HEADER_LEN + RUN_TRAILER_LEN as u64).saturating_add(bytes.len() as u64);
        if blocks_len.and_then(|len| len.checked_add(ends)) != Some(run_len)
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
            packs.is_sorted_by(|a, b| a < b) && fences.is_sorted_by(|a, b| a.first < b.first);
        if !sorted {
            return Err("the tail is not sorted".into());
        }
        Ok(Self {
            n_entries,
            packs,
            fences,
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
    let crc = crc32c::crc32c(&out[..52]);
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
    if crc32c::crc32c(&bytes[..52]) != u32_at(bytes, 52) {
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
    let Ok(tail) = RunTail::decode(&bytes[start..end], run_len) else {
        return;
    };
    let blocks = &bytes[usize::try_from(HEADER_LEN).expect("16")..start];
    assert_eq!(blocks.chunks(BLOCK_LEN).len(), tail.fences.len());
    for (bytes, fence) in blocks.chunks(BLOCK_LEN).zip(&tail.fences) {
        let Ok(block) = Block::verified(bytes.to_vec(), &fence.digest) else {
            continue;
        };
        for i in 0..block.len() {
            let _ = block.find(&block.id(i), &tail.packs);
        }
    }
}
