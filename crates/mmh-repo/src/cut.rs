//! From a layout to chunks: what is read together, what is coded how, what shares a chunk.
//!
//! Tensors are cut at a fixed distance from their first byte, so that equal
//! tensors are equal chunks wherever they lie. Other bytes are cut where their content says so
//! (`FastCDC`, 2020 version, Xia et al.), so that an insertion changes the chunks around it only.
//! Small parts of one kind are pooled: a file with a thousand biases and as many zip headers costs
//! a few chunks for them, not two thousand. FORMAT.md, "Chunking".

use std::collections::BTreeMap;

use fastcdc::v2020::{self, FastCDC, Normalization};
use mmh_codec::Hint;
use mmh_core::{Dtype, TensorInfo, limits};
use mmh_formats::{Layout, Part, PartKind, ReadAt};
use mmh_store::{Buffer, CHUNKER, CHUNKER_KEYED, ChunkerParams};

use crate::error::{Error, Result};
use crate::gear::Gear;

/// Parts shorter than this share chunks with other small parts of their kind.
pub const SMALL_PART_LEN: u64 = 512;
/// A pool of small parts becomes a chunk when it has this many bytes.
pub const POOL_LEN: usize = 256 << 10;
/// After this many pieces all pools become chunks, so that their slices can be written out.
/// A count of the file's own, so that its chunks do not depend on how much is read at once.
const ROUND_PIECES: usize = 1 << 16;

/// How a repository cuts files, checked to be within what the chunker takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunking {
    min: usize,
    average: usize,
    max: usize,
    tensor: usize,
    /// Whether cuts by content need a key.
    keyed: bool,
}

impl Chunking {
    /// Checks a repository's parameters.
    ///
    /// # Errors
    /// `Unsupported` for another algorithm or lengths that the chunker does not take.
    pub fn new(params: &ChunkerParams) -> Result<Self> {
        let of = |n: u32| n as usize;
        let chunking = Self {
            min: of(params.min_len),
            average: of(params.average_len),
            max: of(params.max_len),
            tensor: of(params.tensor_len),
            keyed: params.algorithm == CHUNKER_KEYED,
        };
        let Self {
            min,
            average,
            max,
            tensor,
            keyed,
        } = chunking;
        let lengths = (v2020::MINIMUM_MIN..=v2020::MINIMUM_MAX).contains(&min)
            && (v2020::AVERAGE_MIN..=v2020::AVERAGE_MAX).contains(&average)
            && (v2020::MAXIMUM_MIN..=v2020::MAXIMUM_MAX).contains(&max)
            && min <= average
            && average <= max
            && tensor > 0
            && max.max(tensor) <= limits::CHUNK_LEN_MAX;
        if (keyed || params.algorithm == CHUNKER) && lengths {
            return Ok(chunking);
        }
        Err(Error::Unsupported(format!(
            "this repository cuts chunks in a way unknown here: {params:?}"
        )))
    }
}

impl Chunking {
    /// Bytes of a chunk of a tensor: whole blocks, so that every chunk begins with one.
    pub(crate) fn tensor_len(&self, dtype: Dtype) -> u64 {
        let bytes = u64::from(dtype.block().1);
        (self.tensor as u64 / bytes * bytes).max(bytes)
    }
}

/// A number under which a chunk's id will be known once it is computed.
pub(crate) type Slot = usize;

/// A chunk to be coded.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) slot: Slot,
    pub(crate) raw: Buffer,
    /// Offset and length of its bytes in the file, if they are still to be read.
    unread: Option<(u64, usize)>,
    pub(crate) hint: Hint,
    /// The tensor that it is of, if it is of one alone.
    pub(crate) of: Option<Of>,
}

impl Job {
    /// Reads the bytes unless they are there.
    pub(crate) fn read(&mut self, source: &dyn ReadAt) -> Result<()> {
        if let Some((offset, len)) = self.unread {
            self.raw = Buffer::of_len(len);
            mmh_formats::read_into(source, offset, &mut self.raw)?;
            self.unread = None;
        }
        Ok(())
    }
}

/// Which chunk of which tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Of {
    /// The tensor's place among the parts of the layout.
    pub(crate) part: usize,
    /// The chunk's place among those of the tensor.
    pub(crate) chunk: usize,
}

/// Bytes of the file, in order: a slice of the chunk that `slot` will name.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) slot: Slot,
    pub(crate) start: u32,
    pub(crate) len: u32,
    /// The tensor that begins here, if one does.
    pub(crate) begins: Option<TensorInfo>,
    pub(crate) place: Place,
}

/// How a piece stands to the parts of the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It begins a part that has chunks of its own.
    Begins,
    /// It goes on with that part.
    Continues,
    /// It is a whole small part, in a shared chunk.
    Pooled,
}

#[derive(Debug, Default)]
struct Pool {
    slot: Option<Slot>,
    raw: Vec<u8>,
}

/// A chunk as it comes from its part.
struct Cut {
    len: usize,
    /// Its bytes, unless they are read later.
    raw: Option<Buffer>,
    hint: Hint,
    begins: Option<TensorInfo>,
}

/// Reads a file once, in order, and yields what it consists of.
pub(crate) struct Cutter<'a> {
    source: &'a dyn ReadAt,
    layout: &'a Layout,
    chunking: Chunking,
    gear: Option<&'a Gear>,
    part: usize,
    /// Bytes of the current part that were handed out.
    done: u64,
    /// Chunks of the current part that were handed out.
    chunk: usize,
    /// Bytes read for content-defined cutting, and how many of them were handed out: the others
    /// begin at `done`.
    ahead: Vec<u8>,
    taken: usize,
    pools: BTreeMap<Option<Dtype>, Pool>,
    /// Pieces since the pools were last flushed.
    round: usize,
    next_slot: Slot,
    digests: Option<Digests>,
    /// Whether chunks of tensors are read by whoever codes them.
    leaves_unread: bool,
}

/// Digests of all bytes in the order of the file.
#[derive(Default)]
struct Digests {
    blake3: blake3::Hasher,
    sha256: sha2::Sha256,
}

impl Digests {
    fn update(&mut self, bytes: &[u8]) {
        use sha2::Digest as _;
        self.blake3.update(bytes);
        self.sha256.update(bytes);
    }
}

/// What one step of reading gave.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) jobs: Vec<Job>,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) raw_len: u64,
    /// Whether every slot that was named so far has its job: no pool is open.
    pub(crate) closed: bool,
}

impl<'a> Cutter<'a> {
    pub(crate) fn new(source: &'a dyn ReadAt, layout: &'a Layout, chunking: Chunking) -> Self {
        Self {
            source,
            layout,
            chunking,
            gear: None,
            part: 0,
            done: 0,
            chunk: 0,
            ahead: Vec::new(),
            taken: 0,
            pools: BTreeMap::new(),
            round: 0,
            next_slot: 0,
            digests: None,
            leaves_unread: false,
        }
    }

    /// Leaves chunks of tensors to be read by whoever codes them ([`Job::read`]), in many threads at
    /// once; not together with digests, which take the file in its order.
    pub(crate) fn leaving_unread(mut self) -> Self {
        self.leaves_unread = self.digests.is_none();
        self
    }

    /// Cuts by content with the table of a sealed repository.
    pub(crate) fn keyed(self, gear: Option<&'a Gear>) -> Self {
        Self { gear, ..self }
    }

    /// Length of the first chunk of `window`.
    fn first_cut(&self, window: &[u8]) -> Result<usize> {
        let Chunking {
            min,
            average,
            max,
            keyed,
            ..
        } = self.chunking;
        match (self.gear, keyed) {
            (Some(gear), true) => Ok(gear.cut(window, (min, average, max))),
            (_, false) => {
                let level = Normalization::Level1;
                let cutter = FastCDC::with_level(window, min, average, max, level);
                Ok(cutter.cut(0, window.len()).1)
            }
            (None, true) => Err(Error::Denied(
                "this repository is cut by a key that only its root seed gives".to_owned(),
            )),
        }
    }

    /// Computes the digests of the whole content on the way.
    pub(crate) fn with_digests(mut self) -> Self {
        self.digests = Some(Digests::default());
        self
    }

    /// Reads on until the batch holds `len` raw bytes to code, a round of pieces is complete or
    /// the file ends. An empty batch means the end; pools are flushed before it.
    pub(crate) fn next_batch(&mut self, len: u64) -> Result<Batch> {
        let layout = self.layout;
        let mut batch = Batch::default();
        while batch.raw_len < len && batch.pieces.len() < 16_384 {
            let Some(part) = layout.parts().get(self.part) else {
                self.flush_pools(&mut batch);
                break;
            };
            let small = part.len < SMALL_PART_LEN && layout.parts().len() > 1;
            match &part.kind {
                _ if small => self.pooled(part, &mut batch)?,
                PartKind::Tensor(info) => self.tensor_chunk(part, info, &mut batch)?,
                PartKind::Bytes => self.content_chunk(part, &mut batch)?,
            }
            self.round += 1;
            if self.round == ROUND_PIECES {
                self.flush_pools(&mut batch);
                batch.closed = true;
                break;
            }
        }
        Ok(batch)
    }

    /// Turns what lies in the pools into chunks.
    fn flush_pools(&mut self, batch: &mut Batch) {
        self.round = 0;
        for (dtype, pool) in &mut self.pools {
            if let Some(slot) = pool.slot.take() {
                let hint = Hint {
                    dtype: *dtype,
                    row_len: 0,
                    first: 0,
                };
                let raw = Buffer::from(std::mem::take(&mut pool.raw));
                batch.raw_len += raw.len() as u64;
                let of = None;
                batch.jobs.push(Job {
                    slot,
                    raw,
                    unread: None,
                    hint,
                    of,
                });
            }
        }
    }

    /// The digests of everything read, once the end was reached: BLAKE3, SHA-256. None unless they
    /// were asked for.
    pub(crate) fn digests(self) -> Option<(mmh_core::Digest, mmh_core::Digest)> {
        use sha2::Digest as _;
        let Digests { blake3, sha256 } = self.digests?;
        let (blake3, sha256) = (*blake3.finalize().as_bytes(), sha256.finalize().into());
        let of = mmh_core::Digest::from_bytes;
        Some((of(blake3), of(sha256)))
    }

    /// The next `len` bytes of the file; what a layout says of a file was compared with its length.
    fn read(&mut self, offset: u64, len: usize) -> Result<Buffer> {
        let mut bytes = Buffer::of_len(len);
        mmh_formats::read_into(self.source, offset, &mut bytes)?;
        if let Some(digests) = &mut self.digests {
            digests.update(&bytes);
        }
        Ok(bytes)
    }

    fn new_slot(&mut self) -> Slot {
        self.next_slot += 1;
        self.next_slot - 1
    }

    fn advance(&mut self, part: &Part, len: usize) {
        self.done += len as u64;
        self.chunk += 1;
        if self.done == part.len {
            self.part += 1;
            self.done = 0;
            self.chunk = 0;
        }
    }

    fn pooled(&mut self, part: &Part, batch: &mut Batch) -> Result<()> {
        let info = match &part.kind {
            PartKind::Tensor(info) => Some(info.clone()),
            PartKind::Bytes => None,
        };
        let len = small(part.len);
        let bytes = self.read(part.offset, len as usize)?;
        let key = info.as_ref().map(|info| info.dtype);
        let fresh = self.next_slot;
        let pool = self.pools.entry(key).or_default();
        let slot = *pool.slot.get_or_insert(fresh);
        let start = small(pool.raw.len() as u64);
        pool.raw.extend_from_slice(&bytes);
        let full = pool.raw.len() >= POOL_LEN;
        batch.pieces.push(Piece {
            slot,
            start,
            len,
            begins: info,
            place: Place::Pooled,
        });
        if slot == fresh {
            self.next_slot += 1;
        }
        if full && let Some(pool) = self.pools.get_mut(&key) {
            let raw = Buffer::from(std::mem::take(&mut pool.raw));
            pool.slot = None;
            batch.raw_len += raw.len() as u64;
            batch.jobs.push(Job {
                slot,
                raw,
                unread: None,
                hint: Hint {
                    dtype: key,
                    row_len: 0,
                    first: 0,
                },
                of: None,
            });
        }
        self.advance(part, len as usize);
        Ok(())
    }

    fn tensor_chunk(&mut self, part: &Part, info: &TensorInfo, batch: &mut Batch) -> Result<()> {
        let (elements, bytes) = info.dtype.block();
        let (elements, bytes) = (u64::from(elements), u64::from(bytes));
        let most = self.chunking.tensor_len(info.dtype);
        let len = (part.len - self.done).min(most);
        let len = small(len) as usize;
        let raw = match self.leaves_unread {
            true => None,
            false => Some(self.read(part.offset + self.done, len)?),
        };
        let hint = Hint {
            dtype: Some(info.dtype),
            row_len: info.row_len(),
            first: self.done / bytes * elements,
        };
        let begins = (self.done == 0).then(|| info.clone());
        let cut = Cut {
            len,
            raw,
            hint,
            begins,
        };
        self.emit(cut, part, batch);
        Ok(())
    }

    fn content_chunk(&mut self, part: &Part, batch: &mut Batch) -> Result<()> {
        let max = self.chunking.max;
        let left = part.len - self.done;
        if ((self.ahead.len() - self.taken) as u64) < left.min(max as u64) {
            // Read four times the longest chunk at once, so that little is copied to the front.
            self.ahead.drain(..std::mem::take(&mut self.taken));
            let (known, upto) = (self.ahead.len(), left.min(4 * max as u64));
            self.ahead.resize(small(upto) as usize, 0);
            let offset = part.offset + self.done + known as u64;
            mmh_formats::read_into(self.source, offset, &mut self.ahead[known..])?;
            if let Some(digests) = &mut self.digests {
                digests.update(&self.ahead[known..]);
            }
        }
        let known = &self.ahead[self.taken..];
        let window = &known[..known.len().min(max)];
        let cut = self.first_cut(window)?;
        let mut raw = Buffer::of_len(cut);
        raw.copy_from_slice(&window[..cut]);
        self.taken += cut;
        self.emit(
            Cut {
                len: cut,
                raw: Some(raw),
                hint: Hint::bytes(),
                begins: None,
            },
            part,
            batch,
        );
        Ok(())
    }

    fn emit(&mut self, cut: Cut, part: &Part, batch: &mut Batch) {
        let Cut {
            len,
            raw,
            hint,
            begins,
        } = cut;
        let unread = raw.is_none().then_some((part.offset + self.done, len));
        let (slot, raw) = (self.new_slot(), raw.unwrap_or_default());
        let of = Of {
            part: self.part,
            chunk: self.chunk,
        };
        let place = if self.done == 0 {
            Place::Begins
        } else {
            Place::Continues
        };
        batch.pieces.push(Piece {
            slot,
            start: 0,
            len: small(len as u64),
            begins,
            place,
        });
        batch.raw_len += len as u64;
        let of = matches!(part.kind, PartKind::Tensor(_)).then_some(of);
        batch.jobs.push(Job {
            slot,
            raw,
            unread,
            hint,
            of,
        });
        self.advance(part, len);
    }
}

/// Lengths of chunks and pooled parts are bounded far below 4 GiB.
fn small(len: u64) -> u32 {
    u32::try_from(len).expect("chunks and pools are shorter than 4 GiB")
}

#[cfg(test)]
mod tests;
