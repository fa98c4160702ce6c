//! Healing packs from their parity: in memory for a reader that meets damage, and on the disk
//! where that may be written.
//!
//! A healed pack is written anew from end to end, parity included, and takes the place of the
//! damaged one in one step. Its bytes are those that it was published with, which its name proves,
//! so nothing is lost whoever else does the same, and wherever it is interrupted.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lru::LruCache;
use mmh_core::PackId;

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::pack::{Entry, Record, Source, TRAILER_LEN, Trailer, publish};
use crate::parity::{self, Geometry, Patches};
use crate::staging::StagedFile;

/// Bytes that are copied at once.
const WINDOW: u64 = 1 << 20;
/// Packs whose healed blocks are kept, because they cannot be written, or that cannot be healed.
const KEPT: NonZeroUsize = NonZeroUsize::new(8).expect("eight is not zero");

/// A pack that was damaged and could be healed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healed {
    /// Which one.
    pub pack: PackId,
    /// Blocks of its content that were made again.
    pub blocks: u64,
    /// Blocks of its parity that were.
    pub parity_blocks: u64,
    /// Length in bytes of a block.
    pub block_len: u64,
    /// Why the healed pack could not be written, if it could not; it was then read all the same.
    pub unwritten: Option<String>,
}

/// What became of a pack that was looked at.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Every block is as it was written.
    Whole,
    /// It was healed, and written unless the note says why not; then this corrects what is read.
    Healed(Healed, Patches),
    /// It has no parity, or more is damaged than that can heal.
    Beyond,
}

/// What a store remembers of healing.
#[derive(Debug)]
pub(crate) struct Infirmary {
    /// Held while a pack is healed, so that it is done once.
    one: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Corrections of packs that could not be written; nothing for those beyond healing.
    kept: LruCache<PackId, Option<Patches>>,
    /// What was healed and not yet told.
    untold: Vec<Healed>,
}

impl Default for Infirmary {
    fn default() -> Self {
        let (kept, untold) = (LruCache::new(KEPT), Vec::new());
        Self {
            one: tokio::sync::Mutex::default(),
            state: Mutex::new(State { kept, untold }),
        }
    }
}

impl Infirmary {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was healed since this was last asked.
    pub(crate) fn take_untold(&self) -> Vec<Healed> {
        std::mem::take(&mut self.state().untold)
    }

    /// The record of a chunk, healed; `None` if the parity cannot heal it, or it is not damaged in
    /// a way that parity knows of.
    pub(crate) async fn record(
        &self,
        backend: &Backend,
        pack: PackId,
        entry: &Entry,
    ) -> Result<Option<Bytes>> {
        let _one = self.one.lock().await;
        let source = Source::Published(backend, pack);
        let kept = self.state().kept.get(&pack).cloned();
        let patches = match kept {
            Some(None) => return Ok(None),
            Some(Some(patches)) => patches,
            None => match heal(backend, pack).await? {
                // Another reader has healed it, or its parity agrees with what is there.
                Outcome::Whole => Patches::default(),
                Outcome::Healed(healed, patches) => {
                    let keep = healed.unwritten.is_some().then(|| patches.clone());
                    let mut state = self.state();
                    keep.map(|patches| state.kept.put(pack, Some(patches)));
                    state.untold.push(healed);
                    patches
                }
                Outcome::Beyond => {
                    self.state().kept.put(pack, None);
                    return Ok(None);
                }
            },
        };
        let record = read_patched(source, &patches, entry.offset, entry.record_len()).await?;
        if Record::frame(&record).is_ok() {
            return Ok(Some(record.into()));
        }
        self.state().kept.put(pack, None);
        Ok(None)
    }
}

/// Reads a part of a pack's body, corrected. What lies behind the file's end counts as zeros.
pub(crate) async fn read_patched(
    source: Source<'_>,
    patches: &Patches,
    offset: u64,
    len: u64,
) -> Result<Vec<u8>> {
    let there = source.len().await?.saturating_sub(offset).min(len);
    let mut bytes = match there {
        0 => Vec::new(),
        _ => source.read(offset, there).await?.to_vec(),
    };
    bytes.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
    patches.apply(offset, &mut bytes);
    Ok(bytes)
}

/// Examines a published pack, and heals it if it is damaged.
pub(crate) async fn heal(backend: &Backend, pack: PackId) -> Result<Outcome> {
    let source = Source::Published(backend, pack);
    let Some(found) = parity::examine(source).await? else {
        return Ok(Outcome::Beyond);
    };
    if found.is_whole() {
        return Ok(Outcome::Whole);
    }
    let Some(patches) = parity::restore(source, &found).await? else {
        return Ok(Outcome::Beyond);
    };
    let mut healed = Healed {
        pack,
        blocks: found.bad_blocks.len() as u64,
        parity_blocks: found.bad_cells.len() as u64,
        block_len: found.geometry.block_len() as u64,
        unwritten: None,
    };
    match rewrite(backend, pack, &found.geometry, &patches).await {
        Ok(true) => {}
        Ok(false) => return Ok(Outcome::Beyond),
        Err(error) => healed.unwritten = Some(error.to_string()),
    }
    Ok(Outcome::Healed(healed, patches))
}

/// Writes a pack anew with its corrections, and puts it in the place of the damaged one; `false`
/// if what comes out is not what the name says.
async fn rewrite(
    backend: &Backend,
    pack: PackId,
    geometry: &Geometry,
    patches: &Patches,
) -> Result<bool> {
    let staged = backend.staging().create();
    let file: Arc<dyn StagedFile> = staged.map_err(Error::io(backend.name()))?.into();
    let source = Source::Published(backend, pack);
    let done = match copy(source, &file, geometry, patches).await {
        Ok(content) if content == Some(pack) => {
            publish(backend, &*file, &pack).await.map(|()| true)
        }
        Ok(_) => Ok(false),
        Err(error) => Err(error),
    };
    if !matches!(done, Ok(true)) {
        // What cannot be removed now is found, and taken over, by the next writer.
        let _left = file.discard().is_err();
    }
    done
}

/// Copies the corrected body, adds its parity anew, and syncs. Returns the pack that it is.
async fn copy(
    source: Source<'_>,
    file: &Arc<dyn StagedFile>,
    geometry: &Geometry,
    patches: &Patches,
) -> Result<Option<PackId>> {
    let body_len = geometry.body_len();
    let Some(content_len) = body_len.checked_sub(TRAILER_LEN as u64) else {
        return Ok(None);
    };
    let mut hasher = blake3::Hasher::new();
    let mut offset = 0;
    while offset < body_len {
        let len = WINDOW.min(body_len - offset);
        let bytes = read_patched(source, patches, offset, len).await?;
        let hashed = usize::try_from(content_len.saturating_sub(offset).min(len)).unwrap_or(0);
        let to = Arc::clone(file);
        hasher = blocking(move || {
            hasher.update(&bytes[..hashed]);
            to.append(&[&bytes]).map(|()| hasher)
        })
        .await?
        .map_err(Error::io(file.name()))?;
        offset += len;
    }
    let (to, geometry) = (Arc::clone(file), *geometry);
    let written = move || {
        parity::append(&*to, &geometry)?;
        to.sync()
    };
    blocking(written).await?.map_err(Error::io(file.name()))?;
    let trailer = Source::Staged(&**file)
        .read(content_len, TRAILER_LEN as u64)
        .await?;
    let content = mmh_core::Digest::from_bytes(*hasher.finalize().as_bytes());
    let fits = Trailer::parse(&trailer, body_len).is_ok_and(|trailer| trailer.content == content);
    Ok(fits.then(|| PackId::from_digest(content)))
}

async fn blocking<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(job)
        .await
        .map_err(|e| Error::Internal {
            what: format!("a healing job stopped: {e}"),
        })
}
