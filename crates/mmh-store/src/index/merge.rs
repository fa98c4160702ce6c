//! Merging runs: one block of each input in memory, the output streamed.

use std::collections::BTreeSet;
use std::vec::IntoIter;

use mmh_core::PackId;

use super::format::Located;
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

/// Merges the runs of these names into one of the next generation and publishes it. Of a chunk in
/// several packs the pack with the smallest id is kept, so that equal inputs give equal runs.
pub(crate) async fn merge(
    backend: &Backend,
    runs: &[&Run],
    run_names: &[String],
) -> Result<(String, Run)> {
    let packs: BTreeSet<PackId> = runs.iter().flat_map(|run| run.packs()).copied().collect();
    let generations = run_names.iter().filter_map(|name| names::parse_run(name));
    let generation = generations
        .map(|(generation, _)| generation)
        .max()
        .unwrap_or(0);
    let mut writer = RunWriter::begin(backend, packs)?;
    let mut cursors: Vec<Cursor<'_>> = runs.iter().map(|run| Cursor::new(run)).collect();
    for cursor in &mut cursors {
        cursor.advance(backend).await?;
    }
    // A few dozen inputs: looking at each head costs less than a heap would.
    while let Some(least) = cursors
        .iter()
        .filter_map(|c| c.head)
        .min_by_key(|at| (at.entry.id, at.pack))
    {
        writer.push(&least.pack, &least.entry)?;
        for cursor in &mut cursors {
            if cursor.head.is_some_and(|at| at.entry.id == least.entry.id) {
                cursor.advance(backend).await?;
            }
        }
    }
    writer.finish(backend, generation.saturating_add(1)).await
}
