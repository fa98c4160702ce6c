//! One index run: writing it from sorted entries, opening its tail, reading its blocks.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use mmh_core::{ChunkId, Digest, PackId};

use super::filter::Filter;
use super::format::{
    BLOCK_ENTRIES, BLOCK_LEN, Block, Fence, Located, RUN_ENTRY_LEN, RUN_SALT_LEN, RUN_TAIL_LEN_MAX,
    RUN_TRAILER_LEN, RunTail, Stored, encode_entry, encode_trailer, parse_trailer,
};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::names;
use crate::pack::{
    Entry, FILE_VERSION, Flaw, HEADER_LEN, Kind, encode_header, parse_header, publish_as,
};
use crate::staging::StagedFile;
use crate::vault::{BLOCK_NAME, TAIL_NAME, Vault};

/// Bytes at the end of a run that are read at once, in the hope that they hold the whole tail.
const TAIL_GUESS: u64 = 16 << 10;

/// An open run: its tail is in memory, its blocks are not.
#[derive(Debug)]
pub(crate) struct Run {
    name: String,
    id: Digest,
    len: u64,
    tail: RunTail,
    /// How often it was asked for what it does not have.
    vain: AtomicU32,
    filter: OnceLock<Filter>,
}

fn damaged(name: &str, flaw: Flaw) -> Error {
    match flaw {
        Flaw::Version(found) => Error::UnknownVersion {
            what: name.to_owned(),
            found,
            newest: FILE_VERSION,
        },
        Flaw::Damaged(reason) => Error::CorruptIndex {
            object: name.to_owned(),
            reason,
        },
    }
}

/// A read beyond the end of a run is damage of the index.
async fn read(backend: &Backend, name: &str, offset: u64, len: u64) -> Result<bytes::Bytes> {
    backend
        .read_piece(name, offset, len)
        .await
        .map_err(|error| match error {
            Error::Corrupt { reason, .. } => Error::CorruptIndex {
                object: name.to_owned(),
                reason,
            },
            other => other,
        })
}

impl Run {
    /// Opens the run of that name and id, `len` bytes long.
    pub(crate) async fn open(
        backend: &Backend,
        (name, id): (String, Digest),
        len: u64,
    ) -> Result<Self> {
        let flaw = |flaw| damaged(&name, flaw);
        if len < HEADER_LEN + RUN_TRAILER_LEN as u64 {
            return Err(flaw(format!("{len} bytes are no run").into()));
        }
        let guess = len.min(TAIL_GUESS);
        let end = read(backend, &name, len - guess, guess).await?;
        let (tail_len, digest) = parse_trailer(&end, len).map_err(flaw)?;
        if digest != id {
            return Err(flaw("it is another run's content".into()));
        }
        if tail_len > RUN_TAIL_LEN_MAX {
            return Err(flaw(format!("a tail of {tail_len} bytes").into()));
        }
        let trailer_len = RUN_TRAILER_LEN as u64;
        let tail = if tail_len + trailer_len <= guess {
            let stop = end.len() - RUN_TRAILER_LEN;
            end.slice(stop - usize::try_from(tail_len).unwrap_or(stop)..stop)
        } else {
            read(backend, &name, len - trailer_len - tail_len, tail_len).await?
        };
        if Digest::of(&tail) != id {
            return Err(flaw("the tail's digest does not match".into()));
        }
        let vault = backend.vault();
        let opened = vault.open(TAIL_NAME, &tail);
        let opened = opened.map_err(|reason| flaw(reason.into()))?;
        let header = read(backend, &name, 0, HEADER_LEN).await?;
        parse_header(&header, Kind::Run).map_err(flaw)?;
        let stored = Stored {
            run: len,
            tail: tail_len,
        };
        let decoded = RunTail::decode(&opened, stored, vault).map_err(flaw)?;
        for (offset, piece) in [
            (len - guess, &end),
            (len - trailer_len - tail_len, &tail),
            (0, &header),
        ] {
            backend.keep(&name, offset, piece);
        }
        Ok(Self::new(name, id, len, decoded))
    }

    fn new(name: String, id: Digest, len: u64, tail: RunTail) -> Self {
        Self {
            name,
            id,
            len,
            tail,
            vain: AtomicU32::new(0),
            filter: OnceLock::new(),
        }
    }

    /// Digest of the tail, which proves every block.
    pub(crate) fn id(&self) -> Digest {
        self.id
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// How many entries it has.
    pub(crate) fn n_entries(&self) -> u64 {
        self.tail.n_entries
    }

    /// How many blocks it has.
    pub(crate) fn n_blocks(&self) -> u32 {
        u32::try_from(self.tail.fences.len()).expect("decode compared it with a 32-bit count")
    }

    /// The packs it covers, sorted.
    pub(crate) fn packs(&self) -> &[PackId] {
        &self.tail.packs
    }

    /// The blocks in which entries of the id would lie: most often one, but its copies may begin at
    /// the end of the block before.
    pub(crate) fn blocks_of(&self, id: &ChunkId) -> std::ops::Range<u32> {
        let no = |place: usize| u32::try_from(place).expect("a run has 32-bit many blocks");
        let fences = &self.tail.fences;
        let from = fences.partition_point(|fence| fence.first < *id);
        let end = fences.partition_point(|fence| fence.first <= *id);
        no(from.saturating_sub(1))..no(end)
    }

    /// Whether it is worth looking for the id.
    pub(crate) fn may_have(&self, id: &ChunkId) -> bool {
        self.filter.get().is_none_or(|filter| filter.may_have(id))
    }

    /// Bytes of memory that its filter takes.
    pub(super) fn filter_len(&self) -> u64 {
        self.filter
            .get()
            .map_or(0, |_| Filter::memory_len(self.tail.n_entries))
    }

    /// Takes note that it was asked in vain; `true` once, when that was as often as it has blocks, if
    /// those are not fewer than `blocks_min`.
    pub(super) fn deserves_filter(&self, blocks_min: u32) -> bool {
        let vain = self.vain.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        vain == self.n_blocks() && vain >= blocks_min
    }

    /// Makes the filter, which takes reading all blocks.
    pub(super) async fn load_filter(&self, backend: &Backend) -> Result<()> {
        let mut filter = Filter::new(self.tail.n_entries);
        for no in 0..self.n_blocks() {
            let block = self.read_block(backend, no).await?;
            block.ids().for_each(|id| filter.insert(&id));
        }
        let _another_was_faster = self.filter.set(filter).is_err();
        Ok(())
    }

    /// Looks an id up in one of the blocks that [`Run::blocks_of`] named.
    pub(crate) fn find<'a>(
        &'a self,
        block: &'a Block,
        id: &'a ChunkId,
    ) -> impl Iterator<Item = Located> + 'a {
        block.find(id, &self.tail.packs)
    }

    /// All entries of a block.
    pub(crate) fn entries(&self, block: &Block) -> Result<Vec<Located>> {
        let entry = |i| block.entry(i, &self.tail.packs);
        let all: Option<Vec<Located>> = (0..block.len()).map(entry).collect();
        all.ok_or_else(|| damaged(&self.name, "an entry is beyond the limits".into()))
    }

    /// Reads and checks a block.
    pub(crate) async fn read_block(&self, backend: &Backend, no: u32) -> Result<Block> {
        let first = u64::from(no) * BLOCK_ENTRIES as u64;
        let n = self
            .tail
            .n_entries
            .saturating_sub(first)
            .min(BLOCK_ENTRIES as u64);
        let fence = self
            .tail
            .fences
            .get(no as usize)
            .ok_or_else(|| Error::Internal {
                what: format!("block {no} of {}", self.name),
            })?;
        let vault = backend.vault();
        let offset = HEADER_LEN + u64::from(no) * vault.stored_len(BLOCK_LEN as u64);
        let len = vault.stored_len(n * RUN_ENTRY_LEN as u64);
        let bytes = read(backend, &self.name, offset, len).await?;
        let block = Block::verified(bytes.clone().into(), &fence.digest, vault);
        let block = block.map_err(|flaw| damaged(&self.name, flaw))?;
        backend.keep(&self.name, offset, &bytes);
        Ok(block)
    }
}

/// Writes a run from sorted entries, each once.
#[derive(Debug)]
pub(crate) struct RunWriter {
    file: Arc<dyn StagedFile>,
    vault: Vault,
    tail: RunTail,
    block: Vec<u8>,
    first: Option<ChunkId>,
    last: Option<(ChunkId, u32)>,
}

impl RunWriter {
    /// Begins a run that covers these packs. The salt sees to it that no other has its name.
    pub(crate) fn begin(
        backend: &Backend,
        packs: BTreeSet<PackId>,
        salt: [u8; RUN_SALT_LEN],
    ) -> Result<Self> {
        let file: Arc<dyn StagedFile> = backend
            .staging()
            .create()
            .map_err(Error::io(backend.name()))?
            .into();
        file.append(&[&encode_header(Kind::Run)])
            .map_err(Error::io(file.name()))?;
        let packs = packs.into_iter().collect();
        let tail = RunTail {
            n_entries: 0,
            packs,
            fences: Vec::new(),
            salt,
        };
        Ok(Self {
            file,
            vault: backend.vault().clone(),
            tail,
            block: Vec::with_capacity(BLOCK_LEN),
            first: None,
            last: None,
        })
    }

    /// Adds an entry. They come sorted by id, those of one id by pack.
    pub(crate) fn push(&mut self, pack: &PackId, entry: &Entry) -> Result<()> {
        let fault = |what: String| Error::Internal { what };
        let no = self
            .tail
            .packs
            .binary_search(pack)
            .ok()
            .and_then(|no| u32::try_from(no).ok());
        let no = no.ok_or_else(|| fault(format!("the run does not cover pack {pack}")))?;
        if self.last.is_some_and(|last| last >= (entry.id, no)) {
            return Err(fault("index entries came out of order".to_owned()));
        }
        encode_entry(entry, no, &mut self.block).map_err(|flaw| fault(flaw.to_string()))?;
        self.first.get_or_insert(entry.id);
        self.last = Some((entry.id, no));
        self.tail.n_entries += 1;
        if self.block.len() == BLOCK_LEN {
            self.end_block()
        } else {
            Ok(())
        }
    }

    fn end_block(&mut self) -> Result<()> {
        if let Some(first) = self.first.take() {
            let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK_LEN));
            let block = self.vault.seal(BLOCK_NAME, block)?;
            self.file
                .append(&[&block])
                .map_err(Error::io(self.file.name()))?;
            self.tail.fences.push(Fence {
                first,
                digest: Digest::of(&block),
            });
        }
        Ok(())
    }

    /// Ends the run and publishes it; it is durable when this returns.
    pub(crate) async fn finish(
        mut self,
        backend: &Backend,
        generation: u8,
    ) -> Result<(String, Run)> {
        self.end_block()?;
        let flaw = |flaw: Flaw| Error::Internal {
            what: flaw.to_string(),
        };
        let tail = self
            .vault
            .seal(TAIL_NAME, self.tail.encode().map_err(flaw)?)?;
        let id = Digest::of(&tail);
        let trailer = encode_trailer(tail.len() as u64, &id);
        let place = self.file.name();
        self.file
            .append(&[&tail, &trailer])
            .map_err(Error::io(&place))?;
        self.file.sync().map_err(Error::io(&place))?;
        let name = names::run(generation, &id);
        let len = self.file.len();
        publish_as(backend, &*self.file, &name).await?;
        Ok((name.clone(), Run::new(name, id, len, self.tail)))
    }
}
