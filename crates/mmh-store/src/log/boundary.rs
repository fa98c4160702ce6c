//! Taking old entries out of the log, so that a stalled writer is never told that an entry of its
//! own counts which it made under a number that was taken away.
//!
//! The numbers fall into blocks that end at the multiples of [`CHECKPOINT_EVERY`]. Before entries
//! of a block are deleted, a marker with the block's last number is created, and markers stay for
//! ever. So one read of one name tells whether a number is gone; no listing is trusted.

use mmh_core::ports::Cancel;

use super::{CHECKPOINT_EVERY, Log, RefsView};
use crate::error::{Error, Result};
use crate::gc::note::{BoundaryNote, BoundaryTag};
use crate::names;

/// What may be taken out of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The last number that goes: the end of a block.
    last: u64,
    /// The checkpoints that stand for what was before them: either may rot.
    checkpoints: [u64; 2],
}

/// What was taken out of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Truncated {
    /// Entries.
    pub entries: u64,
    /// Checkpoints.
    pub checkpoints: u64,
}

/// The last number of the block that a number lies in.
fn block_end(seq: u64) -> u64 {
    seq.div_ceil(CHECKPOINT_EVERY)
        .saturating_mul(CHECKPOINT_EVERY)
}

impl Log {
    /// Whether the entry of this number may have been taken away, and another one of the same
    /// number may have been made since.
    pub(crate) async fn is_gone(&self, seq: u64) -> Result<bool> {
        let name = names::boundary(block_end(seq));
        let len_max = self.vault.object_len_max::<BoundaryNote>();
        let marker = self.engine.read(&name, len_max).await?;
        Ok(marker.is_some())
    }

    /// The state from which the rest of the log can be followed: before entry 1, or at the oldest
    /// checkpoint that is whole and lies beyond all boundaries.
    pub(crate) async fn oldest(&self) -> Result<RefsView> {
        if !self.is_gone(1).await? {
            return Ok(RefsView::default());
        }
        for (seq, name) in self.checkpoints().await? {
            if self.is_gone(seq).await? {
                continue;
            }
            let Some(view) = self.read_checkpoint_if_whole(seq, &name).await? else {
                continue;
            };
            let entry = self.read_entry(seq).await?;
            if entry.is_some_and(|(_, digest)| view.head == Some(digest)) {
                return Ok(view);
            }
        }
        Err(Error::Corrupt {
            object: names::CHECKPOINTS.to_owned(),
            reason: "old entries are gone, and no later checkpoint can be read".to_owned(),
        })
    }

    /// What may go so that the entries from `keep` on stay: whole blocks, with two whole checkpoints
    /// after them. `None` if there is nothing.
    pub(crate) async fn truncatable(&self, keep: u64) -> Result<Option<Cut>> {
        let newest = self.newest_checkpoint(u64::MAX).await?.seq;
        let older = self.newest_checkpoint(newest).await?.seq;
        let last = keep.saturating_sub(1).min(older.saturating_sub(1));
        let last = last / CHECKPOINT_EVERY * CHECKPOINT_EVERY;
        let checkpoints = [older, newest];
        Ok((last > 0).then_some(Cut { last, checkpoints }))
    }

    /// Marks every block of the cut, then deletes its entries and checkpoints. May be broken off
    /// anywhere and done again.
    pub(crate) async fn truncate(&self, cut: Cut, cancel: &Cancel) -> Result<Truncated> {
        let Cut { last, checkpoints } = cut;
        let mut done = Truncated::default();
        let listed = self.engine.list(names::BOUNDARIES, None).await?;
        let marked = listed.iter().filter_map(|(name, _)| names::parse_seq(name));
        let mut block = marked.max().unwrap_or(0).min(last);
        while block < last {
            cancel.check()?;
            block += CHECKPOINT_EVERY;
            let note = BoundaryNote {
                r#type: BoundaryTag::Tag,
                seq: block,
            };
            let name = names::boundary(block);
            let (bytes, _) = self.vault.seal_object(&name, &note)?;
            // That it is there already is as good.
            self.engine.create(&name, bytes).await?;
        }
        // Others may have made them a moment ago: what stands for old entries lasts before these go.
        self.engine.settle(&names::boundary(last)).await?;
        for seq in checkpoints {
            self.engine.settle(&names::checkpoint(seq)).await?;
            self.engine.settle(&names::entry(seq)).await?;
        }
        for (prefix, count) in [
            (names::LOG, &mut done.entries),
            (names::CHECKPOINTS, &mut done.checkpoints),
        ] {
            for (name, _) in self.engine.list(prefix, None).await? {
                cancel.check()?;
                if names::parse_seq(&name).is_some_and(|seq| seq <= last) {
                    self.engine.delete(&name).await?;
                    *count += 1;
                }
            }
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_end_at_the_numbers_of_checkpoints() {
        for (seq, end) in [(1, 64), (63, 64), (64, 64), (65, 128), (128, 128)] {
            assert_eq!(block_end(seq), end);
        }
        assert_eq!(block_end(0), 0);
        assert_eq!(block_end(u64::MAX), u64::MAX);
    }
}
