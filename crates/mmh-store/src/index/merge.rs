//! Merging runs: one block of each input in memory, the output streamed.

use std::collections::BTreeSet;
use std::vec::IntoIter;

use mmh_core::PackId;

use super::format::{Located, RUN_SALT_LEN};
use super::run::{Run, RunWriter};
use crate::backend::Backend;
use crate::error::Result;
use crate::names;

/// Reads the entries of a run in order.
struct Cursor<'a> {
    run: &'a Run,
    next_block: u32,
    entries: IntoIter<Located>,
    head: Option<Located>,
}

impl<'a> Cursor<'a> {
    fn new(run: &'a Run) -> Self {
        Self {
            run,
            next_block: 0,
            entries: Vec::new().into_iter(),
            head: None,
        }
    }

    /// Moves to the next entry.
    async fn advance(&mut self, backend: &Backend) -> Result<()> {
        self.head = self.entries.next();
        if self.head.is_none() && self.next_block < self.run.n_blocks() {
            let block = self.run.read_block(backend, self.next_block).await?;
            self.next_block += 1;
            self.entries = self.run.entries(&block)?.into_iter();
            self.head = self.entries.next();
        }
        Ok(())
    }
}

/// The entries of several runs in order of id, all copies of a chunk together.
pub(crate) struct Merged<'a> {
    backend: &'a Backend,
    cursors: Vec<Cursor<'a>>,
}

impl<'a> Merged<'a> {
    pub(crate) async fn begin(
        backend: &'a Backend,
        runs: impl IntoIterator<Item = &'a Run>,
    ) -> Result<Self> {
        let mut cursors: Vec<Cursor<'_>> = runs.into_iter().map(Cursor::new).collect();
        for cursor in &mut cursors {
            cursor.advance(backend).await?;
        }
        Ok(Self { backend, cursors })
    }

    /// Puts every copy of the next chunk into `copies`, the pack with the smallest id first;
    /// `false` at the end.
    pub(crate) async fn next(&mut self, copies: &mut Vec<Located>) -> Result<bool> {
        copies.clear();
        // A few dozen inputs: looking at each head costs less than a heap would.
        let heads = self.cursors.iter().filter_map(|c| c.head);
        let Some(least) = heads.map(|at| at.entry.id).min() else {
            return Ok(false);
        };
        for cursor in &mut self.cursors {
            while let Some(at) = cursor.head.filter(|at| at.entry.id == least) {
                copies.push(at);
                cursor.advance(self.backend).await?;
            }
        }
        copies.sort_unstable_by_key(|at| at.pack);
        copies.dedup_by_key(|at| at.pack);
        Ok(true)
    }
}

/// Merges the runs of these names into one of the next generation and publishes it, without what
/// they say of the packs in `gone`; `None` if nothing is left. Of a chunk in several packs every copy
/// is kept: garbage collection may be about to take any of them away, and a run never says less
/// than those that it replaces.
pub(crate) async fn merge(
    backend: &Backend,
    runs: &[&Run],
    run_names: &[String],
    gone: &BTreeSet<PackId>,
    salt: [u8; RUN_SALT_LEN],
) -> Result<Option<(String, Run)>> {
    let packs = runs.iter().flat_map(|run| run.packs()).copied();
    let packs: BTreeSet<PackId> = packs.filter(|pack| !gone.contains(pack)).collect();
    if packs.is_empty() && !gone.is_empty() {
        return Ok(None);
    }
    let generations = run_names.iter().filter_map(|name| names::parse_run(name));
    let generation = generations
        .map(|(generation, _)| generation)
        .max()
        .unwrap_or(0);
    let mut writer = RunWriter::begin(backend, packs, salt)?;
    let mut merged = Merged::begin(backend, runs.iter().copied()).await?;
    let mut copies = Vec::new();
    while merged.next(&mut copies).await? {
        for at in copies.iter().filter(|at| !gone.contains(&at.pack)) {
            writer.push(&at.pack, &at.entry)?;
        }
    }
    let merged = writer.finish(backend, generation.saturating_add(1)).await?;
    Ok(Some(merged))
}
