//! Taking over what writers that died left behind, so that an interrupted writer loses only the
//! chunk in flight.
//!
//! Two processes may recover at once: a staged file is held by one of them, and a pack that both
//! index is only indexed twice.

use std::collections::BTreeSet;
use std::sync::Arc;

use mmh_core::PackId;

use crate::backend::Backend;
use crate::entropy::Entropy;
use crate::error::{Error, Result};
use crate::index::Index;
use crate::names;
use crate::pack::{Entry, Growing, PACK_SALT_LEN, Source, publish, read_footer, salvage};
use crate::staging::StagedFile;

/// Bytes read at once while a salvaged pack is hashed again.
const HASH_WINDOW: u64 = 1 << 20;
/// Entries of adopted packs that wait for an index run.
const ADOPT_ENTRIES_MAX: usize = 1 << 17;

/// What recovery found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Packs made from what died writers had staged.
    pub salvaged_packs: u64,
    /// Chunks in them.
    pub salvaged_chunks: u64,
    /// Packs that no index run mentioned, the salvaged ones included.
    pub adopted_packs: u64,
}

/// Publishes orphans of the staging area as packs, with so many per cent of parity, then indexes
/// all packs that no run mentions.
pub(crate) async fn recover(
    backend: &Backend,
    index: &Index,
    (parity, entropy): (u32, &dyn Entropy),
) -> Result<Recovered> {
    let mut found = Recovered::default();
    for file in backend
        .staging()
        .orphans()
        .map_err(Error::io(backend.name()))?
    {
        let file: Arc<dyn StagedFile> = file.into();
        let (entries, end) = salvage(&*file, backend, index).await?;
        if entries.is_empty() {
            file.discard().map_err(Error::io(file.name()))?;
            continue;
        }
        found.salvaged_packs += 1;
        found.salvaged_chunks += entries.len() as u64;
        let ends = (parity, entropy.salt()?);
        finish_pack(backend, file, (&entries, end), ends).await?;
    }
    found.adopted_packs = adopt(backend, index).await?;
    Ok(found)
}

/// Cuts the file after its last whole record and makes it a pack.
async fn finish_pack(
    backend: &Backend,
    file: Arc<dyn StagedFile>,
    (entries, end): (&[Entry], u64),
    ends: (u32, [u8; PACK_SALT_LEN]),
) -> Result<()> {
    let place = file.name();
    file.truncate(end).map_err(Error::io(&place))?;
    let mut hasher = blake3::Hasher::new();
    let mut offset = 0;
    while offset < end {
        let len = HASH_WINDOW.min(end - offset);
        hasher.update(&Source::Staged(&*file).read(offset, len).await?);
        offset += len;
    }
    let growing = Growing::resume(Arc::clone(&file), hasher);
    let pack = growing.seal(entries, backend.vault(), ends)?;
    publish(backend, &*file, &pack).await
}

/// Indexes every listed pack that no run covers and that has no tomb. A pack with a damaged footer is left for
/// `verify` to report and for a rebuild to rescue.
async fn adopt(backend: &Backend, index: &Index) -> Result<u64> {
    let listed = backend.list(names::PACKS).await?;
    let known = index.packs();
    let is_new = |pack: &PackId| !known.contains(pack);
    let mut unknown: Vec<PackId> = listed
        .iter()
        .filter_map(|(name, _)| names::parse_pack(name))
        .filter(is_new)
        .collect();
    if unknown.is_empty() {
        return Ok(0);
    }
    // Most often another process has published them with their runs since the runs were listed.
    index.refresh().await?;
    let known = index.packs();
    unknown.retain(|pack| !known.contains(pack));
    let mut adopted = 0;
    let (mut packs, mut entries) = (BTreeSet::new(), Vec::new());
    for pack in unknown {
        // Garbage collection takes a pack out of the index before it deletes it.
        if backend.len(&names::tomb(&pack)).await?.is_some() {
            continue;
        }
        match read_footer(Source::Published(backend, pack)).await {
            Ok((_, table)) => {
                let name = names::pack(&pack);
                backend.settle(&name).await?;
                adopted += 1;
                packs.insert(pack);
                entries.extend(table.into_iter().map(|entry| (pack, entry)));
            }
            Err(Error::CorruptPack { .. } | Error::NoSuchObject { .. }) => {}
            // It was collected meanwhile.
            Err(error) if error.is_missing_object() => {}
            // One rotten byte of a header looks like this; it must not stop every writer.
            Err(Error::UnknownVersion { .. } | Error::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
        if entries.len() >= ADOPT_ENTRIES_MAX {
            index
                .publish(std::mem::take(&mut packs), std::mem::take(&mut entries))
                .await?;
        }
    }
    if !packs.is_empty() {
        index.publish(packs, entries).await?;
    }
    Ok(adopted)
}
