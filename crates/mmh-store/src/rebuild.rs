//! Making the index anew from the packs alone: from their footers, or from their records where a
//! footer is damaged.

use std::collections::BTreeSet;

use mmh_core::PackId;
use mmh_core::ports::{Cancel, Progress};

use crate::error::{Error, Result};
use crate::names;
use crate::pack::{Entry, Source, read_footer, rescue};
use crate::store::Store;

/// Entries that are collected before a run is published.
const RUN_ENTRIES: usize = 1 << 17;

/// How the index is made anew.
#[derive(Debug, Clone, Copy, Default)]
pub struct RebuildOptions {
    /// Go on although packs that the old index names are not listed.
    pub accept_missing: bool,
}

/// What a rebuilt index holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RebuildReport {
    /// Packs read.
    pub packs: u64,
    /// Packs whose footer was damaged and whose records were read one by one instead.
    pub rescued_packs: Vec<PackId>,
    /// Packs that gave nothing.
    pub lost_packs: Vec<PackId>,
    /// Packs that the old index named and that are not there.
    pub missing_packs: Vec<PackId>,
    /// Chunks found.
    pub chunks: u64,
}

/// Publishes new runs of all packs, then deletes the old ones.
pub(crate) async fn rebuild(
    store: &Store,
    options: RebuildOptions,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<RebuildReport> {
    let (backend, index) = (store.backend(), store.index());
    index.reopen().await?;
    let old = index.runs();
    let mut listed = backend.list(names::PACKS).await?;
    listed.retain(|(name, _)| names::parse_pack(name).is_some());
    let missing_packs = complete(store, &mut listed).await?;
    let mut report = RebuildReport {
        missing_packs,
        ..RebuildReport::default()
    };
    // A short listing must not make chunks disappear from the index.
    if let Some(pack) = report
        .missing_packs
        .first()
        .filter(|_| !options.accept_missing)
    {
        let reason = "the index names it, but it is not there".to_owned();
        return Err(Error::CorruptPack {
            pack: *pack,
            offset: 0,
            chunk: None,
            reason,
        });
    }
    progress.begin(
        "rebuild index",
        Some(listed.iter().map(|(_, len)| len).sum()),
    );
    let mut written = Written::default();
    let mut damaged = Vec::new();
    for (name, len) in &listed {
        cancel.check()?;
        let Some(pack) = names::parse_pack(name) else {
            continue;
        };
        progress.item(name);
        report.packs += 1;
        match footer_of(store, pack).await? {
            Some(entries) => written.take(store, pack, entries).await?,
            None => damaged.push(pack),
        }
        progress.advance(*len);
    }
    written.publish(store).await?;
    // To name a chunk is to decode it, and its frame may refer to chunks of the whole packs.
    for pack in damaged {
        cancel.check()?;
        let entries = rescue(backend, index, pack).await?;
        if entries.is_empty() {
            report.lost_packs.push(pack);
        } else {
            report.rescued_packs.push(pack);
        }
        written.take(store, pack, entries).await?;
    }
    written.publish(store).await?;
    report.chunks = written.n_entries;
    let replaced = old.open.keys().chain(old.damaged.keys());
    for name in replaced.filter(|name| !written.runs.contains(*name)) {
        backend.delete(name).await?;
    }
    index.reopen().await?;
    progress.end();
    Ok(report)
}

/// What waits for the next run, and the runs that were published.
#[derive(Default)]
struct Written {
    n_entries: u64,
    packs: BTreeSet<PackId>,
    entries: Vec<(PackId, Entry)>,
    runs: BTreeSet<String>,
}

impl Written {
    async fn take(&mut self, store: &Store, pack: PackId, entries: Vec<Entry>) -> Result<()> {
        self.n_entries += entries.len() as u64;
        self.packs.insert(pack);
        self.entries
            .extend(entries.into_iter().map(|entry| (pack, entry)));
        if self.entries.len() >= RUN_ENTRIES {
            self.publish(store).await?;
        }
        Ok(())
    }

    async fn publish(&mut self, store: &Store) -> Result<()> {
        if !self.packs.is_empty() {
            let (packs, entries) = (
                std::mem::take(&mut self.packs),
                std::mem::take(&mut self.entries),
            );
            self.runs
                .insert(store.index().publish_unmerged(packs, entries).await?);
        }
        Ok(())
    }
}

/// Makes sure that packs last which no run named so far. Adds what the listing left out, as a short one does, and returns packs that are missing: each
/// pack that the readable part of the index names is asked for by name.
async fn complete(store: &Store, listed: &mut Vec<(String, u64)>) -> Result<Vec<PackId>> {
    let mut missing = Vec::new();
    let known: BTreeSet<PackId> = listed
        .iter()
        .filter_map(|(name, _)| names::parse_pack(name))
        .collect();
    let indexed = store.index().packs();
    for pack in known.difference(&indexed) {
        store.backend().settle(&names::pack(pack)).await?;
    }
    for pack in indexed.difference(&known) {
        let name = names::pack(pack);
        match store.backend().len(&name).await? {
            Some(len) => listed.push((name, len)),
            None => missing.push(*pack),
        }
    }
    store.forget_collected(&mut missing).await?;
    Ok(missing)
}

/// The entries of a pack, from its footer; `None` if that is damaged.
async fn footer_of(store: &Store, pack: PackId) -> Result<Option<Vec<Entry>>> {
    match read_footer(Source::Published(store.backend(), pack)).await {
        Ok((_, entries)) => Ok(Some(entries)),
        Err(Error::CorruptPack { .. } | Error::Corrupt { .. } | Error::UnknownVersion { .. }) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
