//! Carrying chunks from one store to another with the same keys, as they are: nothing is coded
//! again, and what is sealed is not even opened but to be checked.
//!
//! What is missing is asked by id, in the order of ids, so that each block of the other side's
//! index is read once; a live [`Peer`] answers at once instead. What arrives goes through an
//! ordinary [`Writer`]: under its lease, into packs of its own, so that no pack id ever comes back
//! to a place where it was collected (docs/decisions/0022), and taken over by the next writer if
//! the process dies. Every chunk is compared with its id before it is put, and what its frame
//! refers to is put before it.

mod carry;
mod extents;

use std::fmt::Debug;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use mmh_core::{ChunkId, ErrorKind};

pub use carry::Carried;

use crate::error::Result;
use crate::keys;
use crate::lease::Lease;
use crate::presence::Presence;
use crate::store::Store;
use crate::writer::Writer;

/// Lookups that are on their way at the same time.
const LOOKUPS: usize = 32;

/// A store that is alive on the other side and answers for itself.
pub trait Peer: Debug + Send + Sync {
    /// Which of these chunks are not in its store, by the rules of [`Store::missing`]; both sorted.
    /// One question and one answer, if the list is not too long for that.
    ///
    /// # Errors
    /// Unavailable; Corrupt.
    fn missing<'a>(&'a self, ids: &'a [ChunkId]) -> BoxFuture<'a, Result<Vec<ChunkId>>>;
}

impl Store {
    /// Which of these sorted chunks are not here so that a commit may rely on them: those in packs
    /// with tombs count as missing. Sorted.
    ///
    /// # Errors
    /// Corrupt or unreachable index.
    pub async fn missing(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>> {
        if let Some(peer) = self.backend().peer() {
            match peer.missing(ids).await {
                // It lives, but cannot read its index: sealed, and without a key.
                Err(error) if error.kind() == ErrorKind::Unsupported => {}
                answer => return answer,
            }
        }
        self.index().refresh().await?;
        self.missing_by_index(ids).await
    }

    /// The same by the index as it was last read here, whoever is alive elsewhere.
    ///
    /// # Errors
    /// Corrupt or unreachable index.
    pub async fn missing_by_index(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>> {
        let presence = Presence::default();
        let pending = |_: &ChunkId| false;
        let look = |id: ChunkId| {
            let (presence, pending) = (&presence, &pending);
            async move { Ok((id, presence.holds(self, &id, pending).await?)) }
        };
        lacking(futures::stream::iter(ids.iter().copied().map(look))).await
    }

    /// Whether chunks have the same ids in both, and are sealed by the same keys or by none.
    #[must_use]
    pub fn shares_keys_with(&self, other: &Self) -> bool {
        match (self.key(), other.key()) {
            (None, None) => true,
            (Some(one), Some(other)) => keys::read_key(one) == keys::read_key(other),
            _ => false,
        }
    }

    /// A lease for a long read, if the place and the key let us take one: where they do not, only
    /// courtesy is lost, and what is collected meanwhile is missed.
    ///
    /// # Errors
    /// Unavailable; Corrupt.
    pub async fn lease_if_allowed(&self, purpose: &str) -> Result<Option<Lease>> {
        if self
            .backend()
            .stripe()
            .is_some_and(|stripe| !stripe.is_writable())
        {
            // Nobody collects either.
            return Ok(None);
        }
        match self.lease(purpose).await {
            Ok(lease) => Ok(Some(lease)),
            Err(error) if error.kind() == ErrorKind::Denied => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Writer {
    /// Like [`Store::missing`]; what is here is relied on from now on.
    ///
    /// # Errors
    /// Corrupt or unreachable index.
    pub async fn missing(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>> {
        let pen = self.pen();
        if let Some(peer) = self.store().backend().peer() {
            match peer.missing(ids).await {
                Err(error) if error.kind() == ErrorKind::Unsupported => {}
                answer => {
                    // It does not say which packs hold the rest.
                    pen.rely_on_any();
                    return answer;
                }
            }
        }
        let look = |id: ChunkId| {
            let pen = Arc::clone(pen);
            async move { Ok((id, pen.find(&id).is_some() || pen.holds(&id).await?)) }
        };
        lacking(futures::stream::iter(ids.iter().copied().map(look))).await
    }
}

/// The ids that were not found, in the order in which they were looked for.
async fn lacking<F: Future<Output = Result<(ChunkId, bool)>>>(
    looks: impl futures::Stream<Item = F>,
) -> Result<Vec<ChunkId>> {
    let found = looks.buffered(LOOKUPS);
    let lacking = found.try_filter_map(async |(id, held)| Ok((!held).then_some(id)));
    lacking.try_collect().await
}
