//! Mending a store: packs from their parity, else what is whole of them; chunks that are lost from
//! other stores; then the index from what is there.
//!
//! Order: what is whole of a damaged pack is published in a new one, the damaged one is set aside
//! under another name, the index is made anew, lost chunks are put. Interrupted anywhere, nothing
//! is gone that was readable before, and repairing again goes on. Chunks that stay lost are not in
//! the index any more: whoever adds their files again stores them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mmh_codec::{Encoder, Hint, Settings};
use mmh_core::ports::{Cancel, Progress};
use mmh_core::{ChunkId, ErrorKind, PackId};
use tokio::runtime::Handle;

use crate::chunk::{ChunkSink, ChunkSource};
use crate::error::{Error, Result};
use crate::frame::named;
use crate::heal::Healed;
use crate::names;
use crate::pack::{
    Entry, Growing, Kind, PACK_RECORDS_MAX, Record, Source, publish, read_footer, rescue,
};
use crate::rebuild::RebuildOptions;
use crate::scrub::{Pace, Tended, tend, tend_small};
use crate::staging::StagedFile;
use crate::store::Store;
use crate::stripe::ShardReport;

/// What a repair found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepairReport {
    /// Packs read.
    pub packs: u64,
    /// Packs that were damaged and healed from their parity.
    pub healed: Vec<Healed>,
    /// Packs that could not be healed; they lie under `mmh/damaged` now.
    pub set_aside: Vec<PackId>,
    /// Packs that the index named and that are not there.
    pub missing_packs: Vec<PackId>,
    /// Chunks of packs set aside that were whole and are kept.
    pub kept_chunks: u64,
    /// Chunks that were lost here and came from another store.
    pub fetched_chunks: u64,
    /// Chunks that are lost.
    pub lost_chunks: Vec<ChunkId>,
    /// Whether the index was made anew.
    pub index_rebuilt: bool,
    /// What was done on the stores of a stripe.
    pub shards: ShardReport,
}

/// Repairs a store, with other stores to fetch lost chunks from.
pub(crate) async fn repair(
    store: &Store,
    sources: &[Store],
    (progress, cancel): (&dyn Progress, &Cancel),
) -> Result<RepairReport> {
    let mut report = RepairReport::default();
    // Before anything is read of them: of copies that differ one is right.
    let mut pace = Pace::new(None);
    tend_small(store, &mut pace, cancel, &mut report.shards).await?;
    store.index().reopen().await?;
    let damaged_packs = heal_packs(store, &mut report, (progress, cancel)).await?;
    let listed: BTreeSet<PackId> = packs(store)
        .await?
        .into_iter()
        .map(|(pack, _)| pack)
        .collect();
    for pack in store.index().packs().difference(&listed) {
        if store.backend().len(&names::pack(pack)).await?.is_none() {
            report.missing_packs.push(*pack);
        }
    }
    let missing = report.missing_packs.iter();
    let wanted = damaged_packs.iter().chain(missing).copied().collect();
    let mut tables = indexed(store, &wanted, cancel).await?;
    let mut keeper = Keeper::new(store);
    for pack in &damaged_packs {
        cancel.check()?;
        let table = tables.entry(*pack).or_default();
        report.kept_chunks += keep_whole(store, *pack, table, &mut keeper).await?;
    }
    keeper.publish().await?;
    for pack in damaged_packs {
        set_aside(store, pack).await?;
        report.set_aside.push(pack);
    }
    let runs = store.index().runs();
    if !wanted.is_empty() || !runs.damaged.is_empty() || blocks_damaged(store, cancel).await? {
        let options = RebuildOptions {
            accept_missing: true,
        };
        store.rebuild_index(options, progress, cancel).await?;
        report.index_rebuilt = true;
    }
    let hit: BTreeSet<ChunkId> = tables.into_values().flat_map(BTreeMap::into_keys).collect();
    fetch_lost(store, sources, hit, (&mut report, cancel)).await?;
    progress.end();
    Ok(report)
}

/// All packs with their lengths in bytes.
async fn packs(store: &Store) -> Result<Vec<(PackId, u64)>> {
    let listed = store.backend().list(names::PACKS).await?;
    let named = |(name, len): &(String, u64)| names::parse_pack(name).map(|pack| (pack, *len));
    Ok(listed.iter().filter_map(named).collect())
}

/// Heals every pack that parity can heal, and returns those that it cannot.
async fn heal_packs(
    store: &Store,
    report: &mut RepairReport,
    (progress, cancel): (&dyn Progress, &Cancel),
) -> Result<Vec<PackId>> {
    let listed = packs(store).await?;
    progress.begin("repair", Some(listed.iter().map(|(_, len)| len).sum()));
    let mut beyond = Vec::new();
    let mut pace = Pace::new(None);
    for (pack, len) in listed {
        progress.item(&names::pack(&pack));
        report.packs += 1;
        if let Some(stripe) = store.backend().stripe() {
            let name = names::pack(&pack);
            stripe
                .tend(&name, (&mut pace, cancel), &mut report.shards)
                .await?;
        }
        match tend(store.backend(), pack, &mut pace, cancel).await {
            Ok(Tended::Whole { .. }) => {}
            Ok(Tended::Healed(healed)) => match &healed.unwritten {
                None => report.healed.push(healed),
                // A store that cannot be written cannot be repaired.
                Some(reason) => {
                    return Err(Error::WriterFailed {
                        reason: reason.clone(),
                    });
                }
            },
            Ok(Tended::Beyond) => beyond.push(pack),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        progress.advance(len);
    }
    Ok(beyond)
}

/// What the readable part of the index says of some packs.
async fn indexed(
    store: &Store,
    wanted: &BTreeSet<PackId>,
    cancel: &Cancel,
) -> Result<BTreeMap<PackId, BTreeMap<ChunkId, Entry>>> {
    let mut tables: BTreeMap<PackId, BTreeMap<ChunkId, Entry>> = BTreeMap::new();
    let runs = store.index().runs();
    let holds = |pack: &PackId| wanted.contains(pack);
    for run in runs
        .open
        .values()
        .filter(|run| run.packs().iter().any(holds))
    {
        for no in 0..run.n_blocks() {
            cancel.check()?;
            let block = run.read_block(store.backend(), no).await;
            match block.and_then(|block| run.entries(&block)) {
                Ok(found) => {
                    for at in found.into_iter().filter(|at| holds(&at.pack)) {
                        tables
                            .entry(at.pack)
                            .or_default()
                            .insert(at.entry.id, at.entry);
                    }
                }
                Err(Error::CorruptIndex { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(tables)
}

/// Whether a block of a run that opened is damaged.
async fn blocks_damaged(store: &Store, cancel: &Cancel) -> Result<bool> {
    let mut report = crate::verify::VerifyReport::default();
    crate::verify::check_index(store, cancel, &mut report).await?;
    Ok(!report.damage.is_empty())
}

/// Keeps the whole records of a damaged pack, which `table` and its footer say that it has, or
/// that can be found in it. `table` has all chunks afterwards.
async fn keep_whole(
    store: &Store,
    pack: PackId,
    table: &mut BTreeMap<ChunkId, Entry>,
    keeper: &mut Keeper<'_>,
) -> Result<u64> {
    let source = Source::Published(store.backend(), pack);
    match read_footer(source).await {
        Ok((_, entries)) => table.extend(entries.into_iter().map(|entry| (entry.id, entry))),
        Err(error) if says_damage(&error) => {
            let found = match rescue(store.backend(), store.index(), pack).await {
                Ok(found) => found,
                // Not all of it can be read; what the index says of it is tried.
                Err(error) if says_damage(&error) => Vec::new(),
                Err(error) => return Err(error),
            };
            table.extend(found.into_iter().map(|entry| (entry.id, entry)));
        }
        Err(error) => return Err(error),
    }
    let mut kept = 0;
    for entry in table.values() {
        let record = match source.read(entry.offset, entry.record_len()).await {
            Ok(record) => record,
            Err(error) if says_damage(&error) => continue,
            Err(error) => return Err(error),
        };
        if let Ok(frame) = Record::frame(&record) {
            keeper.put(*entry, frame).await?;
            kept += 1;
        }
    }
    Ok(kept)
}

fn says_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported)
}

/// Writes stored frames into new packs as they are.
struct Keeper<'a> {
    store: &'a Store,
    growing: Option<(Arc<dyn StagedFile>, Growing, Vec<Entry>)>,
}

impl<'a> Keeper<'a> {
    fn new(store: &'a Store) -> Self {
        Self {
            store,
            growing: None,
        }
    }

    async fn put(&mut self, mut entry: Entry, frame: &[u8]) -> Result<()> {
        let backend = self.store.backend();
        let (file, mut growing, mut entries) = match self.growing.take() {
            Some(growing) => growing,
            None => {
                let file = backend.staging().create();
                let file: Arc<dyn StagedFile> = file.map_err(Error::io(backend.name()))?.into();
                let growing = Growing::begin(Arc::clone(&file), Kind::Pack);
                let growing = growing.map_err(Error::io(file.name()))?;
                (file, growing, Vec::new())
            }
        };
        entry.offset = growing.append(frame).map_err(Error::io(file.name()))?;
        entries.push(entry);
        let full =
            growing.len() >= self.store.config().pack_len_max || entries.len() >= PACK_RECORDS_MAX;
        self.growing = Some((file, growing, entries));
        if full { self.publish().await } else { Ok(()) }
    }

    async fn publish(&mut self) -> Result<()> {
        let Some((file, growing, entries)) = self.growing.take() else {
            return Ok(());
        };
        let (backend, parity) = (self.store.backend(), self.store.config().parity);
        let pack = growing.seal(
            &entries,
            backend.vault(),
            (parity, self.store.entropy().salt()?),
        )?;
        publish(backend, &*file, &pack).await
    }
}

/// Gives a pack that cannot be healed a name under which nobody looks for chunks.
async fn set_aside(store: &Store, pack: PackId) -> Result<()> {
    let (backend, name) = (store.backend(), names::pack(&pack));
    backend.copy(&name, &names::damaged(&pack)).await?;
    backend.delete(&name).await
}

/// Puts the chunks that were hit and are not here any more, as far as other stores have them.
async fn fetch_lost(
    store: &Store,
    sources: &[Store],
    hit: BTreeSet<ChunkId>,
    (report, cancel): (&mut RepairReport, &Cancel),
) -> Result<()> {
    let mut lost = Vec::new();
    for id in hit {
        if store.index().locate(&id).await?.is_none() {
            lost.push(id);
        }
    }
    if lost.is_empty() || sources.is_empty() {
        report.lost_chunks = lost;
        return Ok(());
    }
    let handle = Handle::current();
    let writer = store.writer(handle.clone()).await?;
    let (sources, cancel) = (sources.to_vec(), cancel.clone());
    let job = move || -> Result<(u64, Vec<ChunkId>)> {
        let (mut fetched, mut still) = (0, Vec::new());
        for id in lost {
            cancel.check()?;
            match fetch(&sources, &id, &handle)? {
                Some((raw_len, frame)) => {
                    writer.put(id, raw_len, &frame)?;
                    fetched += 1;
                }
                None => still.push(id),
            }
        }
        writer.finish()?;
        Ok((fetched, still))
    };
    let done = tokio::task::spawn_blocking(job).await;
    let (fetched, still) = done.map_err(|e| Error::Internal {
        what: format!("a fetching job stopped: {e}"),
    })??;
    (report.fetched_chunks, report.lost_chunks) = (fetched, still);
    Ok(())
}

/// A chunk from the first store that has it whole: its length and a frame of it. The frame is the
/// other store's if it needs nothing else: what refers to others there might close a circle here.
fn fetch(sources: &[Store], id: &ChunkId, handle: &Handle) -> Result<Option<(u32, Vec<u8>)>> {
    for source in sources {
        let reader = source.reader(handle.clone());
        let raw = match reader.get(id) {
            Ok(raw) => raw,
            Err(error) if tells(&error) => continue,
            Err(error) => return Err(error),
        };
        let raw_len = u32::try_from(raw.len()).expect("a chunk is at most 4 MiB");
        if named(&reader.references(id)?).next().is_none() {
            return Ok(Some((raw_len, reader.frame(id)?.to_vec())));
        }
        return Ok(Some((raw_len, plain_frame(id, &raw)?)));
    }
    Ok(None)
}

/// A frame of a chunk that refers to no other.
pub(crate) fn plain_frame(id: &ChunkId, raw: &[u8]) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    let mut encoder = Encoder::new(Settings::default());
    let encoded = encoder.encode(raw, &Hint::bytes(), &mut frame);
    encoded.map_err(|e| Error::Internal {
        what: format!("chunk {id} cannot be encoded: {e}"),
    })?;
    Ok(frame)
}

/// Whether another store says that it does not have a chunk, or not whole.
fn tells(error: &Error) -> bool {
    use ErrorKind as K;
    matches!(error.kind(), K::NotFound | K::Corrupt | K::Unsupported)
}
