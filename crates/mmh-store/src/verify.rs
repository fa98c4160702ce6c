//! Checking everything that a repository holds: packs byte by byte, the index, the log, the refs.
//!
//! Damage is what the report is for; only a failure to look at all is an error.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::StreamExt;
use mmh_core::ports::{Cancel, Progress};
use mmh_core::{ChunkId, Digest, ErrorKind, PackId};
use tokio::runtime::Handle;

use crate::error::{Error, Result};
use crate::frame::{self, Fault, Others};
use crate::log::{Log, RefsView};
use crate::names;
use crate::pack::{Entry, HEADER_LEN, Source, TRAILER_LEN, Trailer, read_footer};
use crate::parity::{CELL_HEAD_LEN, end_mark, read_cells};
use crate::reader::prove_record;
use crate::store::Store;

/// Bytes of records that are read at once: with what they decode to, about what the nearer caches
/// of a core hold.
const WINDOW: u64 = 256 << 10;
/// Windows that a thread checks before it may be another's turn.
const BATCH: usize = 16;

/// How much is checked.
#[derive(Debug, Clone, Copy)]
pub struct VerifyOptions {
    /// Whether every frame is decoded and compared with its id, so that no byte of a pack is left
    /// unproved; else checksums are compared and each pack with the digest that names it, as
    /// [`Store::scrub`] does.
    pub decode: bool,
    /// Packs that are checked at the same time; each costs about 16 MiB of memory at most.
    pub parallel: usize,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            decode: true,
            parallel: 2,
        }
    }
}

/// One damaged place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The object's name: pack, index run, log entry, checkpoint.
    pub object: String,
    /// The pack, if it is one.
    pub pack: Option<PackId>,
    /// Offset in bytes, if it is known.
    pub offset: Option<u64>,
    /// The chunk that is hit, if it is known.
    pub chunk: Option<ChunkId>,
    /// What does not hold.
    pub reason: String,
}

impl Damage {
    fn object(object: impl Into<String>, reason: impl Into<String>) -> Self {
        let (object, reason) = (object.into(), reason.into());
        Self {
            object,
            pack: None,
            offset: None,
            chunk: None,
            reason,
        }
    }

    fn pack(pack: PackId, offset: u64, chunk: Option<ChunkId>, reason: String) -> Self {
        let object = names::pack(&pack);
        Self {
            object,
            pack: Some(pack),
            offset: Some(offset),
            chunk,
            reason,
        }
    }

    /// Takes an error that says that bytes are wrong; hands any other on.
    fn from_error(object: &str, error: Error) -> Result<Self> {
        match error {
            Error::CorruptPack {
                pack,
                offset,
                chunk,
                reason,
            } => Ok(Self::pack(pack, offset, chunk, reason)),
            error if error.kind() == ErrorKind::Corrupt => {
                Ok(Self::object(object, error.to_string()))
            }
            error @ Error::UnknownVersion { .. } => Ok(Self::object(object, error.to_string())),
            other => Err(other),
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// Packs read.
    pub packs: u64,
    /// Records read.
    pub chunks: u64,
    /// Bytes of the packs.
    pub stored_bytes: u64,
    /// Bytes of the chunks.
    pub raw_bytes: u64,
    /// Log entries read.
    pub operations: u64,
    /// Everything that does not hold.
    pub damage: Vec<Damage>,
    /// Packs that an index run names and that are not there.
    pub missing_packs: Vec<PackId>,
    /// Packs that no index run names: harmless, the next writer adopts them.
    pub unindexed_packs: Vec<PackId>,
}

impl VerifyReport {
    /// Whether nothing is damaged or missing.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty() && self.missing_packs.is_empty()
    }
}

/// Checks a whole store.
pub(crate) async fn verify(
    store: &Store,
    options: VerifyOptions,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<VerifyReport> {
    let mut report = VerifyReport::default();
    store.index().refresh().await?;
    let listed = store.backend().list(names::PACKS).await?;
    let packs: Vec<(PackId, u64)> = listed
        .iter()
        .filter_map(|(name, len)| names::parse_pack(name).map(|pack| (pack, *len)))
        .collect();
    compare_with_index(store, &packs, &mut report).await?;
    progress.begin("verify", Some(packs.iter().map(|(_, len)| len).sum()));
    let checks = packs.iter().map(|(pack, len)| {
        let check = PackCheck {
            store,
            options,
            progress,
            cancel,
        };
        check.run(*pack, *len)
    });
    let mut checks = futures::stream::iter(checks).buffer_unordered(options.parallel.max(1));
    while let Some(found) = checks.next().await {
        let found = found?;
        report.packs += 1;
        report.chunks += found.chunks;
        report.stored_bytes += found.stored_bytes;
        report.raw_bytes += found.raw_bytes;
        report.damage.extend(found.damage);
    }
    check_index(store, cancel, &mut report).await?;
    check_log(store, cancel, &mut report).await?;
    progress.end();
    report
        .damage
        .sort_by(|a, b| (&a.object, a.offset).cmp(&(&b.object, b.offset)));
    Ok(report)
}

async fn compare_with_index(
    store: &Store,
    packs: &[(PackId, u64)],
    report: &mut VerifyReport,
) -> Result<()> {
    let listed: BTreeSet<PackId> = packs.iter().map(|(pack, _)| *pack).collect();
    let indexed = store.index().packs();
    for pack in indexed.difference(&listed) {
        // A listing may be short; the engine is asked for the pack by name.
        if store.backend().len(&names::pack(pack)).await?.is_none() {
            report.missing_packs.push(*pack);
        }
    }
    let mut unindexed = Vec::new();
    for pack in listed.difference(&indexed) {
        // One with a tomb is on its way out.
        if store.backend().len(&names::tomb(pack)).await?.is_none() {
            unindexed.push(*pack);
        }
    }
    report.unindexed_packs = unindexed;
    if !report.missing_packs.is_empty() {
        // Garbage collection takes packs out of the index before it deletes them.
        store.index().refresh().await?;
        let indexed = store.index().packs();
        report.missing_packs.retain(|pack| indexed.contains(pack));
        // What is wrong with the log itself is said below.
        let _damaged = store
            .forget_collected(&mut report.missing_packs)
            .await
            .is_err();
    }
    Ok(())
}

/// Reads every block of every run.
pub(crate) async fn check_index(
    store: &Store,
    cancel: &Cancel,
    report: &mut VerifyReport,
) -> Result<()> {
    let runs = store.index().runs();
    for (name, reason) in &runs.damaged {
        report.damage.push(Damage::object(name, reason));
    }
    for (name, run) in &runs.open {
        for no in 0..run.n_blocks() {
            cancel.check()?;
            let block = run.read_block(store.backend(), no).await;
            match block.and_then(|block| run.entries(&block).map(drop)) {
                Ok(()) => {}
                // A merge took the run away while it was read.
                Err(error) if error.is_missing_object() => break,
                Err(error) => report.damage.push(Damage::from_error(name, error)?),
            }
        }
    }
    Ok(())
}

/// How often the log is followed anew because its beginning was taken away meanwhile.
const RESTARTS_MAX: usize = 8;

/// How far the log could be followed.
enum Followed {
    ToTheEnd(RefsView),
    Damaged,
    Gone,
}

/// Follows the log from its oldest entry, and compares checkpoints.
async fn follow(
    store: &Store,
    checkpoints: &BTreeMap<u64, String>,
    cancel: &Cancel,
    report: &mut VerifyReport,
) -> Result<Followed> {
    let log = store.log();
    let mut view = match log.oldest().await {
        Ok(view) => view,
        Err(error) => {
            report.damage.push(Damage::from_error(names::LOG, error)?);
            return Ok(Followed::Damaged);
        }
    };
    if view.seq > 0 {
        // What is left before the oldest checkpoint can only be followed backwards.
        match log.operations(Some(view.seq + 1), usize::MAX).await {
            Ok(older) => report.operations += older.len() as u64,
            Err(error) => report.damage.push(Damage::from_error(names::LOG, error)?),
        }
    }
    loop {
        cancel.check()?;
        let name = names::entry(view.seq + 1);
        let applied = match log.read_entry(view.seq + 1).await {
            Ok(Some((entry, digest))) => view.apply(&entry, digest, &name),
            Ok(None) if log.is_gone(view.seq.max(1)).await? => return Ok(Followed::Gone),
            Ok(None) => return Ok(Followed::ToTheEnd(view)),
            Err(error) => Err(error),
        };
        if let Err(error) = applied {
            if log.is_gone(view.seq.max(1)).await? {
                return Ok(Followed::Gone);
            }
            report.damage.push(Damage::from_error(&name, error)?);
            return Ok(Followed::Damaged);
        }
        report.operations += 1;
        if let Some(name) = checkpoints.get(&view.seq) {
            match log.read_checkpoint(name).await {
                Ok(Some(checkpoint)) if checkpoint != view => {
                    report
                        .damage
                        .push(Damage::object(name, "it disagrees with the log"));
                }
                Ok(_) => {}
                Err(error) => report.damage.push(Damage::from_error(name, error)?),
            }
        }
    }
}

/// Follows the log from its first entry, compares checkpoints, and looks the snapshots of all
/// refs up.
pub(crate) async fn check_log(
    store: &Store,
    cancel: &Cancel,
    report: &mut VerifyReport,
) -> Result<()> {
    let log = store.log();
    let checkpoints = log.checkpoints().await?;
    let mut again = 0..RESTARTS_MAX;
    let (operations, known) = (report.operations, report.damage.len());
    loop {
        report.operations = operations;
        report.damage.truncate(known);
        let view = match follow(store, &checkpoints, cancel, report).await? {
            Followed::ToTheEnd(view) => view,
            Followed::Damaged => return Ok(()),
            // Garbage collection took away entries that were to come.
            Followed::Gone if again.next().is_some() => continue,
            Followed::Gone => return Ok(()),
        };
        let lost = lost_snapshots(store, &view).await?;
        // Refs that moved on meanwhile may name what was collected since.
        if !lost.is_empty() && has_moved_on(log, view.seq).await? && again.next().is_some() {
            continue;
        }
        if let Err(error) = log.check_no_gap(view.seq).await {
            report.damage.push(Damage::from_error(names::LOG, error)?);
        }
        report.damage.extend(lost);
        return Ok(());
    }
}

/// Whether the log goes beyond the entry of this number.
async fn has_moved_on(log: &Log, seq: u64) -> Result<bool> {
    Ok(log.read_entry(seq + 1).await?.is_some() || log.is_gone(seq.max(1)).await?)
}

/// The refs whose snapshots are not in the store.
async fn lost_snapshots(store: &Store, view: &RefsView) -> Result<Vec<Damage>> {
    // Writers index before they log: what the refs just read name is in the runs by now.
    store.index().refresh().await?;
    let mut lost = Vec::new();
    for (name, id) in &view.refs {
        match store.index().locate(&id.object().chunk()).await {
            Ok(Some(_)) => {}
            Ok(None) => {
                let reason = format!("its snapshot {id} is not in the store");
                lost.push(Damage::object(name.to_string(), reason));
            }
            Err(error) => lost.push(Damage::from_error(&name.to_string(), error)?),
        }
    }
    Ok(lost)
}

/// The check of one pack.
#[derive(Clone, Copy)]
struct PackCheck<'a> {
    store: &'a Store,
    options: VerifyOptions,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
}

impl PackCheck<'_> {
    async fn run(self, pack: PackId, len: u64) -> Result<VerifyReport> {
        let mut report = VerifyReport {
            stored_bytes: len,
            ..VerifyReport::default()
        };
        let name = names::pack(&pack);
        self.progress.item(&name);
        let source = Source::Published(self.store.backend(), pack);
        match read_footer(source).await {
            Ok((trailer, entries)) => {
                let read = self.records(pack, &trailer, &entries, &mut report);
                match read.await {
                    Err(error) if error.is_missing_object() => return Ok(VerifyReport::default()),
                    other => other?,
                }
                self.parity(pack, len, &mut report).await?;
            }
            // Garbage collection has deleted it meanwhile.
            Err(Error::NoSuchObject { .. }) => return Ok(VerifyReport::default()),
            Err(error) if error.is_missing_object() => return Ok(VerifyReport::default()),
            Err(error) => {
                let damage = Damage::from_error(&name, error)?;
                let offset = damage.offset.or(Some(0));
                report.damage.push(Damage {
                    pack: Some(pack),
                    offset,
                    ..damage
                });
                self.progress.advance(len);
            }
        }
        Ok(report)
    }

    /// Reads the pack from end to end, window by window.
    async fn records(
        &self,
        pack: PackId,
        trailer: &Trailer,
        entries: &[Entry],
        report: &mut VerifyReport,
    ) -> Result<()> {
        let source = Source::Published(self.store.backend(), pack);
        let mut hasher = (!self.options.decode).then(blake3::Hasher::new);
        if let Some(hasher) = &mut hasher {
            hasher.update(&source.read(0, HEADER_LEN).await?);
        }
        let windows: Vec<&[Entry]> = windows(entries).collect();
        let mut next = 0;
        while let Some(batch) = windows.get(next..).filter(|left| !left.is_empty()) {
            self.cancel.check()?;
            let batch = &batch[..batch.len().min(BATCH)];
            // A file of this machine is read by the thread that checks it.
            let (mut n, mut bad) = (0, Vec::new());
            if self.store.backend().root().is_some() {
                (hasher, n, bad) = self.batch(pack, batch, (hasher, None)).await?;
            }
            if n == 0 {
                let window = &batch[..1];
                let (start, len) = span(window[0]);
                let bytes = Some(source.read(start, len).await?);
                (hasher, n, bad) = self.batch(pack, window, (hasher, bytes)).await?;
            }
            let damage = |(entry, reason): (Entry, String)| {
                Damage::pack(pack, entry.offset, Some(entry.id), reason)
            };
            report.damage.extend(bad.into_iter().map(damage));
            let done = || batch[..n].iter().copied().flatten();
            report.chunks += done().count() as u64;
            report.raw_bytes += done().map(|entry| u64::from(entry.raw_len)).sum::<u64>();
            self.progress.advance(done().map(Entry::record_len).sum());
            next += n;
        }
        self.progress
            .advance(HEADER_LEN + trailer.footer_len + TRAILER_LEN as u64);
        if let Some(mut hasher) = hasher {
            let (offset, len) = (trailer.footer_offset, trailer.footer_len);
            hasher.update(&source.read(offset, len).await?);
            let content = Digest::from_bytes(*hasher.finalize().as_bytes());
            if content != trailer.content && report.damage.is_empty() {
                let reason = "its content does not have the digest that names it".to_owned();
                report.damage.push(Damage::pack(pack, 0, None, reason));
            }
        }
        Ok(())
    }
}

impl PackCheck<'_> {
    /// Checks the records of some windows of a pack in a thread of its own, and hashes them if that is
    /// wanted. The thread reads them, unless the bytes of the only window are given. Returns how many
    /// windows it could read, and which records are bad.
    async fn batch(
        &self,
        pack: PackId,
        windows: &[&[Entry]],
        (mut hasher, mut bytes): (Option<blake3::Hasher>, Option<Bytes>),
    ) -> Result<(Option<blake3::Hasher>, usize, Vec<(Entry, String)>)> {
        let windows: Vec<Vec<Entry>> = windows.iter().map(|window| window.to_vec()).collect();
        let decode = self.options.decode;
        let backend = self.store.backend().clone();
        let others = self.store.reader(Handle::current()).without_healing();
        let job = move || {
            let (mut n, mut bad) = (0, Vec::new());
            for window in &windows {
                let (start, len) = span(window);
                let read = || backend.read_here(&names::pack(&pack), start, len);
                let Some(bytes) = bytes.take().or_else(read) else {
                    break;
                };
                if let Some(hasher) = &mut hasher {
                    hasher.update(&bytes);
                }
                bad.extend(check_window(&bytes, start, window, (&others, decode))?);
                n += 1;
            }
            Ok((hasher, n, bad))
        };
        let done = tokio::task::spawn_blocking(job).await;
        done.map_err(|e| Error::Internal {
            what: format!("a checking job stopped: {e}"),
        })?
    }

    /// Reads the cells of the pack's parity, if it has any.
    async fn parity(&self, pack: PackId, len: u64, report: &mut VerifyReport) -> Result<()> {
        let source = Source::Published(self.store.backend(), pack);
        let mark_len = len.min(CELL_HEAD_LEN as u64);
        let mark = source.read(len - mark_len, mark_len).await?;
        let Some(geometry) = end_mark(&mark, len) else {
            return Ok(());
        };
        self.cancel.check()?;
        let (_, bad) = read_cells(source, &geometry).await?;
        let damage = |cell: usize| {
            let reason = "a block of its parity is damaged".to_owned();
            Damage::pack(pack, geometry.cell_offset(cell), None, reason)
        };
        report.damage.extend(bad.into_iter().map(damage));
        self.progress.advance(len - geometry.body_len());
        Ok(())
    }
}

/// Where the records of a window begin, and how long they are together.
fn span(window: &[Entry]) -> (u64, u64) {
    let start = window.first().map_or(HEADER_LEN, |entry| entry.offset);
    (start, window.iter().map(Entry::record_len).sum())
}

/// Cuts entries into runs whose records are about [`WINDOW`] long.
pub(crate) fn windows(entries: &[Entry]) -> impl Iterator<Item = &[Entry]> {
    let mut rest = entries;
    std::iter::from_fn(move || {
        let mut len = 0;
        let fits = |entry: &&Entry| {
            let before = len;
            len += entry.record_len();
            before < WINDOW
        };
        let n = rest.iter().take_while(fits).count();
        let (window, after) = rest.split_at(n);
        rest = after;
        (n > 0).then_some(window)
    })
}

/// Checks the records that lie in `bytes`, which begin at `start`; returns the bad ones. Without
/// `decode` only checksums are compared, and what frames refer to is looked for.
pub(crate) fn check_window(
    bytes: &Bytes,
    start: u64,
    window: &[Entry],
    (others, decode): (&dyn Others, bool),
) -> Result<Vec<(Entry, String)>> {
    let mut bad = Vec::new();
    for entry in window {
        let at = |offset: u64| usize::try_from(offset - start).unwrap_or(usize::MAX);
        let checked = match bytes.get(at(entry.offset)..at(entry.offset + entry.record_len())) {
            Some(record) if decode => prove_record(record, entry, others),
            Some(record) => check_sums(record, entry, others),
            None => Err(Fault::Damaged("the record is cut off".to_owned())),
        };
        if let Err(fault) = checked {
            match fault.into_failure() {
                Ok(failure) => return Err(failure),
                Err(fault) => bad.push((*entry, fault.to_string())),
            }
        }
    }
    Ok(bad)
}

/// Checks a record as far as that goes without decoding.
fn check_sums(record: &[u8], entry: &Entry, others: &dyn Others) -> std::result::Result<(), Fault> {
    let frame = frame::of_record(record, others.vault(), Some(&entry.id))?;
    if record.len() as u64 != entry.record_len() {
        let reason = "its length is not the footer's".to_owned();
        return Err(Fault::Damaged(reason));
    }
    let references = mmh_codec::references(&frame)?;
    for (what, id) in frame::named(&references) {
        others.find(&id).map_err(|source| Fault::Other {
            what,
            id,
            source: Box::new(source),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(lens: &[u32]) -> Vec<Entry> {
        let mut offset = HEADER_LEN;
        let entry = |len: &u32| {
            let id = ChunkId::of(&offset.to_le_bytes());
            let entry = Entry {
                id,
                offset,
                stored_len: *len,
                raw_len: *len,
                method: 0,
            };
            offset += entry.record_len();
            entry
        };
        lens.iter().map(entry).collect()
    }

    proptest! {
        #[test]
        fn windows_hold_every_entry_once_and_stay_small(
            lens in prop::collection::vec(0..(4u32 << 20), 0..40),
        ) {
            let all = entries(&lens);
            let joined: Vec<Entry> = windows(&all).flatten().copied().collect();
            prop_assert_eq!(&joined, &all);
            for window in windows(&all) {
                let len: u64 = window.iter().map(Entry::record_len).sum();
                let last = window.last().map_or(0, Entry::record_len);
                prop_assert!(!window.is_empty() && len - last < WINDOW);
            }
        }
    }

    #[test]
    fn records_that_are_not_there_are_bad_not_a_panic() {
        let all = entries(&[10, 20]);
        let check = |bytes: &[u8], decode| {
            let bytes = Bytes::copy_from_slice(bytes);
            check_window(
                &bytes,
                HEADER_LEN,
                &all,
                (&frame::Gathered::default(), decode),
            )
            .unwrap()
        };
        let bad = check(b"short", true);
        assert_eq!(bad.len(), 2);
        let bad = check(&[0; 100], false);
        assert_eq!(bad.len(), 2, "zeros are no records");
    }

    #[test]
    fn damage_is_told_from_failure() {
        let corrupt = Error::Corrupt {
            object: "o".to_owned(),
            reason: "torn".to_owned(),
        };
        assert_eq!(Damage::from_error("o", corrupt).unwrap().object, "o");
        let pack = PackId::of(b"p");
        let error = Error::CorruptPack {
            pack,
            offset: 5,
            chunk: None,
            reason: "r".to_owned(),
        };
        let damage = Damage::from_error("x", error).unwrap();
        assert_eq!((damage.pack, damage.offset), (Some(pack), Some(5)));
        assert_eq!(damage.object, names::pack(&pack));
        let gone = Error::NoSuchObject {
            what: "x".to_owned(),
        };
        assert!(
            Damage::from_error("x", gone).is_err(),
            "a failure to look is an error"
        );
    }
}
