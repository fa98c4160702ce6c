//! Reading every pack at a bounded rate, and healing what has rotted.
//!
//! Nothing is decoded and no key is needed: a pack is compared with the digest that names it, and
//! its parity with its own checksums. What cannot be healed is left for [`crate::repair`].

use std::time::Duration;

use mmh_core::ports::{Cancel, Progress};
use mmh_core::{Digest, ErrorKind, PackId};
use tokio::time::Instant;

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::heal::{Healed, Outcome, heal};
use crate::names;
use crate::pack::{Source, TRAILER_LEN, Trailer};
use crate::parity::{CELL_HEAD_LEN, end_mark, read_cells};
use crate::store::Store;
use crate::stripe::ShardReport;
use crate::verify::{Damage, VerifyReport, check_index, check_log};

/// Bytes that are read at once.
const WINDOW: u64 = 1 << 20;

/// How a store is scrubbed.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScrubOptions {
    /// Most bytes to read a second, on average.
    pub rate: Option<u64>,
    /// Go on behind this pack; packs are read in the order of their ids.
    pub after: Option<PackId>,
}

/// What scrubbing read and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScrubReport {
    /// Packs read.
    pub packs: u64,
    /// Bytes read of them.
    pub bytes: u64,
    /// Packs without parity among them: their damage is found and cannot be healed.
    pub without_parity: u64,
    /// Packs that were damaged and are whole again.
    pub healed: Vec<Healed>,
    /// Packs that are damaged and could not be healed.
    pub damaged_packs: Vec<PackId>,
    /// Damage of index runs, log and refs.
    pub damage: Vec<Damage>,
    /// What was found on the stores of a stripe.
    pub shards: ShardReport,
}

impl ScrubReport {
    /// Whether everything is whole now.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.damaged_packs.is_empty()
            && self.damage.is_empty()
            && self.shards.is_clean()
            && self.healed.iter().all(|healed| healed.unwritten.is_none())
    }
}

/// Scrubs a store; `done` hears of every pack that need not be read again.
pub(crate) async fn scrub(
    store: &Store,
    options: ScrubOptions,
    done: &(dyn Fn(PackId) + Sync),
    (progress, cancel): (&dyn Progress, &Cancel),
) -> Result<ScrubReport> {
    let mut report = ScrubReport::default();
    let listed = store.backend().list(names::PACKS).await?;
    let mut packs: Vec<(PackId, u64)> = listed
        .iter()
        .filter_map(|(name, len)| names::parse_pack(name).map(|pack| (pack, *len)))
        .filter(|(pack, _)| options.after.is_none_or(|after| *pack > after))
        .collect();
    packs.sort_unstable();
    progress.begin("scrub", Some(packs.iter().map(|(_, len)| len).sum()));
    let mut pace = Pace::new(options.rate);
    for (pack, len) in packs {
        cancel.check()?;
        progress.item(&names::pack(&pack));
        report.packs += 1;
        report.bytes += len;
        if let Some(stripe) = store.backend().stripe() {
            let name = names::pack(&pack);
            stripe
                .tend(&name, (&mut pace, cancel), &mut report.shards)
                .await?;
        }
        match tend(store.backend(), pack, &mut pace, cancel).await {
            Ok(Tended::Whole { parity }) => report.without_parity += u64::from(!parity),
            Ok(Tended::Healed(healed)) => report.healed.push(healed),
            Ok(Tended::Beyond) => report.damaged_packs.push(pack),
            // Collected since it was listed.
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
        progress.advance(len);
        done(pack);
    }
    tend_small(store, &mut pace, cancel, &mut report.shards).await?;
    let mut rest = VerifyReport::default();
    store.index().refresh().await?;
    check_index(store, cancel, &mut rest).await?;
    check_log(store, cancel, &mut rest).await?;
    report.damage = rest.damage;
    progress.end();
    Ok(report)
}

/// Makes the copies of a stripe whole of all that is no pack.
pub(crate) async fn tend_small(
    store: &Store,
    pace: &mut Pace,
    cancel: &Cancel,
    report: &mut ShardReport,
) -> Result<()> {
    let Some(stripe) = store.backend().stripe() else {
        return Ok(());
    };
    report.away = stripe.away();
    for (name, _) in stripe.objects().await? {
        cancel.check()?;
        if names::parse_pack(&name).is_none() {
            stripe.tend(&name, (pace, cancel), report).await?;
        }
    }
    Ok(())
}

fn is_gone(error: &Error) -> bool {
    matches!(error, Error::NoSuchObject { .. }) || error.is_missing_object()
}

/// What became of a pack.
#[derive(Debug)]
pub(crate) enum Tended {
    /// It is what its name says, and so is its parity, if it has any.
    Whole {
        /// Whether it has.
        parity: bool,
    },
    /// It is again.
    Healed(Healed),
    /// It is not.
    Beyond,
}

/// Reads a pack, and heals it if it is damaged.
pub(crate) async fn tend(
    backend: &Backend,
    pack: PackId,
    pace: &mut Pace,
    cancel: &Cancel,
) -> Result<Tended> {
    let source = Source::Published(backend, pack);
    let healed = match is_whole(source, pack, pace, cancel).await {
        Ok(Some(parity)) => return Ok(Tended::Whole { parity }),
        Ok(None) => heal(backend, pack).await,
        Err(error) => Err(error),
    };
    match healed {
        Ok(Outcome::Healed(healed, _)) => Ok(Tended::Healed(healed)),
        // The parity agrees with content that is not the pack's.
        Ok(Outcome::Whole | Outcome::Beyond) => Ok(Tended::Beyond),
        // Of a stripe a part that too few stores have whole cannot be read at all.
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(Tended::Beyond),
        Err(error) => Err(error),
    }
}

/// Whether a pack and its parity are as they were published: `None` if not, else whether there is
/// parity.
pub(crate) async fn is_whole(
    source: Source<'_>,
    pack: PackId,
    pace: &mut Pace,
    cancel: &Cancel,
) -> Result<Option<bool>> {
    let file_len = source.len().await?;
    let mark_len = file_len.min(CELL_HEAD_LEN as u64);
    let mark = match mark_len {
        0 => return Ok(None),
        _ => source.read(file_len - mark_len, mark_len).await?,
    };
    let geometry = end_mark(&mark, file_len);
    let body_len = geometry.map_or(file_len, |geometry| geometry.body_len());
    let Some(content_len) = body_len.checked_sub(TRAILER_LEN as u64) else {
        return Ok(None);
    };
    let mut hasher = blake3::Hasher::new();
    let mut offset = 0;
    while offset < content_len {
        cancel.check()?;
        let len = WINDOW.min(content_len - offset);
        let bytes = source.read(offset, len).await?;
        hasher = tokio::task::spawn_blocking(move || {
            hasher.update(&bytes);
            hasher
        })
        .await
        .map_err(|e| Error::Internal {
            what: format!("a hashing job stopped: {e}"),
        })?;
        offset += len;
        pace.wait(len).await;
    }
    let content = Digest::from_bytes(*hasher.finalize().as_bytes());
    let trailer = source.read(content_len, TRAILER_LEN as u64).await?;
    let named = Trailer::parse(&trailer, body_len).is_ok_and(|trailer| trailer.content == content);
    if !named || content != *pack.digest() {
        return Ok(None);
    }
    let Some(geometry) = geometry else {
        return Ok(Some(false));
    };
    let (_, bad_cells) = read_cells(source, &geometry).await?;
    pace.wait(file_len - body_len).await;
    Ok(bad_cells.is_empty().then_some(true))
}

/// Keeps an average rate by waiting.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: Option<u64>,
    began: Instant,
    bytes: u64,
}

impl Pace {
    /// At most so many bytes a second.
    pub(crate) fn new(rate: Option<u64>) -> Self {
        Self {
            rate,
            began: Instant::now(),
            bytes: 0,
        }
    }

    /// Waits until `len` more bytes may have been read.
    pub(crate) async fn wait(&mut self, len: u64) {
        self.bytes += len;
        if let Some(rate) = self.rate {
            let ahead = ahead(self.bytes, rate).saturating_sub(self.began.elapsed());
            if !ahead.is_zero() {
                tokio::time::sleep(ahead).await;
            }
        }
    }
}

/// The time that so many bytes take at this rate.
fn ahead(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_bytes_a_second() {
        assert_eq!(ahead(0, 10), Duration::ZERO);
        assert_eq!(ahead(5_000_000, 1_000_000), Duration::from_secs(5));
        assert_eq!(ahead(1, 1_000), Duration::from_millis(1));
        assert_eq!(ahead(u64::MAX, 0), Duration::from_nanos(u64::MAX));
    }

    /// Without a rate nothing waits, not even on a runtime that has no clock.
    #[test]
    fn no_rate_is_no_wait() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut pace = Pace::new(None);
            pace.wait(u64::MAX / 2).await;
            assert_eq!(pace.bytes, u64::MAX / 2);
        });
    }
}
