//! Runs of blocks that look alike, and where exactly the array in them begins and ends.

use std::ops::Range;

use mmh_core::Dtype;

use super::block::{BLOCK_LEN, Block, Label, classify};
use super::repeat::Repeats;
use crate::error::Result;
use crate::read_at::{ReadAt, read_vec};

/// Fewer blocks of an array are not worth a part of their own.
const RUN_BLOCKS_MIN: u64 = 4;
/// Blocks that look like something else and do not end a run.
const MISSES_MAX: u32 = 1;
/// How far beyond its blocks an array is followed, element by element.
const REACH: u64 = 3 * BLOCK_LEN as u64;
/// Blocks read at once.
const BATCH: u64 = 64;
/// In a longer range, blocks spread over it are looked at first; if none is an array, none of
/// the others is looked at.
const SURVEY_LEN_MIN: u64 = 64 << 20;
const SURVEY_BLOCKS: u64 = 512;

/// Bytes that look like an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Array {
    /// Where in the file; whole elements.
    pub(super) range: Range<u64>,
    /// What its elements look like.
    pub(super) dtype: Dtype,
}

/// The arrays in a range of the file, in order.
pub(super) fn arrays(source: &dyn ReadAt, range: Range<u64>) -> Result<Vec<Array>> {
    let len = range.end - range.start;
    if len >= SURVEY_LEN_MIN && !survey(source, &range)? {
        return Ok(Vec::new());
    }
    let mut finder = Finder {
        range: range.clone(),
        repeats: Repeats::new(),
        run: None,
        found: Vec::new(),
    };
    let mut at = range.start;
    while at < range.end {
        let batch = read_vec(source, at, (BATCH * BLOCK_LEN as u64).min(range.end - at))?;
        // The last block may be short; its bytes are followed, not counted.
        for block in batch.chunks_exact(BLOCK_LEN) {
            finder.block(source, at, block)?;
            at += BLOCK_LEN as u64;
        }
        at += (batch.len() % BLOCK_LEN) as u64;
    }
    finder.close(source)?;
    Ok(finder.found)
}

fn survey(source: &dyn ReadAt, range: &Range<u64>) -> Result<bool> {
    let n_blocks = (range.end - range.start) / BLOCK_LEN as u64;
    for i in 0..SURVEY_BLOCKS {
        let at = range.start + (n_blocks / SURVEY_BLOCKS * i) * BLOCK_LEN as u64;
        let block = read_vec(source, at, BLOCK_LEN as u64)?;
        if matches!(classify(&block), Block::Array(_)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Blocks with one label, and few others between them.
struct Run {
    label: Label,
    blocks: Range<u64>,
    n_blocks: u64,
    misses: u32,
}

struct Finder {
    range: Range<u64>,
    repeats: Repeats,
    run: Option<Run>,
    found: Vec<Array>,
}

impl Finder {
    fn block(&mut self, source: &dyn ReadAt, at: u64, bytes: &[u8]) -> Result<()> {
        let block = match classify(bytes) {
            Block::Array(label) if self.repeats.share(bytes) > label.repeats_max() => Block::Other,
            block => block,
        };
        let end = at + BLOCK_LEN as u64;
        if let Some(run) = &mut self.run {
            match block {
                Block::Array(label) if label == run.label => {
                    run.blocks.end = end;
                    run.n_blocks += 1;
                    run.misses = 0;
                    return Ok(());
                }
                Block::Flat => return Ok(()),
                Block::Array(_) | Block::Other => run.misses += 1,
            }
            if run.misses <= MISSES_MAX {
                return Ok(());
            }
            self.close(source)?;
        }
        if let Block::Array(label) = block {
            self.run = Some(Run {
                label,
                blocks: at..end,
                n_blocks: 1,
                misses: 0,
            });
        }
        Ok(())
    }

    /// Ends the run at hand and keeps it if it is long enough.
    fn close(&mut self, source: &dyn ReadAt) -> Result<()> {
        let Some(run) = self.run.take().filter(|run| run.n_blocks >= RUN_BLOCKS_MIN) else {
            return Ok(());
        };
        let earliest = self
            .found
            .last()
            .map_or(self.range.start, |last| last.range.end);
        // The outermost blocks may hold something else too, such as the header of the array.
        let Run { label, blocks, .. } = run;
        let blocks = blocks.start + BLOCK_LEN as u64..blocks.end - BLOCK_LEN as u64;
        let range =
            start(source, label, &blocks, earliest)?..end(source, label, &blocks, self.range.end)?;
        if range.start < range.end {
            self.found.push(Array {
                range,
                dtype: label.dtype,
            });
        }
        Ok(())
    }
}

/// Where the array of a run begins: followed backwards while the elements have a top byte that
/// the run's first block has too, so that the place depends on the content alone.
fn start(source: &dyn ReadAt, label: Label, blocks: &Range<u64>, earliest: u64) -> Result<u64> {
    let width = label.width() as u64;
    let from = earliest
        .max(blocks.start.saturating_sub(REACH))
        .min(blocks.start);
    let bytes = read_vec(source, from, blocks.start + BLOCK_LEN as u64 - from)?;
    let first = blocks.start - from + label.start as u64;
    let known = tops(element_bytes(&bytes, first), label);
    let before = bytes.get(..index(first)).unwrap_or_default();
    let n = follow(before.rchunks_exact(label.width()), &known) as u64;
    Ok(from + first - n * width)
}

/// Where it ends, in the same way.
fn end(source: &dyn ReadAt, label: Label, blocks: &Range<u64>, latest: u64) -> Result<u64> {
    let from = blocks.end - BLOCK_LEN as u64;
    let to = latest.min(blocks.end + REACH);
    let bytes = read_vec(source, from, to - from)?;
    let elements = element_bytes(&bytes, label.start as u64);
    let in_block = (BLOCK_LEN - label.start) / label.width();
    let known = tops(
        elements.get(..in_block * label.width()).unwrap_or_default(),
        label,
    );
    let after = elements.get(in_block * label.width()..).unwrap_or_default();
    let n = follow(after.chunks_exact(label.width()), &known);
    Ok(from + (label.start + (in_block + n) * label.width()) as u64)
}

/// How many elements go on like the array: one with an unknown top byte may be a rare number,
/// two of them are its end.
fn follow<'a>(elements: impl Iterator<Item = &'a [u8]>, known: &Bytes) -> usize {
    let mut n = 0;
    let mut strangers = 0;
    for element in elements {
        let stranger = element.last().is_none_or(|&top| !known.contains(top));
        strangers = if stranger { strangers + 1 } else { 0 };
        n += 1;
        if strangers == 2 {
            return n - 2;
        }
    }
    n
}

fn element_bytes(bytes: &[u8], from: u64) -> &[u8] {
    bytes.get(index(from)..).unwrap_or_default()
}

/// An offset within the few blocks that are held.
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// A set of byte values.
struct Bytes([bool; 256]);

impl Bytes {
    fn contains(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte)).copied().unwrap_or(false)
    }
}

/// The most significant bytes of whole elements.
fn tops(elements: &[u8], label: Label) -> Bytes {
    let mut known = Bytes([false; 256]);
    for top in elements
        .chunks_exact(label.width())
        .filter_map(<[u8]>::last)
    {
        if let Some(slot) = known.0.get_mut(usize::from(*top)) {
            *slot = true;
        }
    }
    known
}
