//! The set of chunks that a repository has, and how it differs from that of a node.

use mmh_core::Digest;

use super::sketch::Difference;
#[cfg(feature = "node")]
use super::sketch::{KEY_LEN, Sketcher};
use super::wire::SET_LEN_MAX;
use crate::error::{Error, Result};
use crate::index::Merged;
use crate::store::Store;

impl Store {
    /// The ids of all chunks that the index names, sorted, each once.
    ///
    /// # Errors
    /// Unsupported if there are more than [`SET_LEN_MAX`]; Corrupt for a damaged index; those of
    /// the engine.
    pub async fn chunk_set(&self) -> Result<Vec<Digest>> {
        self.index().refresh().await?;
        let runs = self.index().runs();
        if let Some((object, reason)) = runs.damaged.first_key_value() {
            let (object, reason) = (object.clone(), reason.clone());
            return Err(Error::CorruptIndex { object, reason });
        }
        let open = runs.open.values().map(AsRef::as_ref);
        let mut merged = Merged::begin(self.backend(), open).await?;
        let (mut set, mut copies) = (Vec::new(), Vec::new());
        while merged.next(&mut copies).await? {
            if set.len() == SET_LEN_MAX {
                return Err(Error::UnsupportedBackend {
                    place: self.backend().name().to_owned(),
                    reason: format!("it has more than {SET_LEN_MAX} chunks; go by index"),
                });
            }
            set.extend(copies.first().map(|at| *at.entry.id.digest()));
        }
        Ok(set)
    }

    /// How the chunks of this store and those of `other` differ, in one request, if `other` is a
    /// node that can tell; `None` if it is not or cannot: go by index then.
    ///
    /// # Errors
    /// Those of reading the own index; Denied; Unavailable; Corrupt if the node sends nonsense.
    pub async fn difference(&self, other: &Self) -> Result<Option<Difference>> {
        Ok(self.exchange(other).await?.and_then(|found| found.0))
    }

    /// Like [`Store::difference`]; also how many bytes of symbols that took.
    ///
    /// # Errors
    /// Those of [`Store::difference`].
    #[cfg(feature = "node")]
    pub async fn exchange(&self, other: &Self) -> Result<Option<(Option<Difference>, u64)>> {
        let Some(node) = other.backend().node() else {
            return Ok(None);
        };
        let ours = self.chunk_set().await?;
        let key: [u8; KEY_LEN] = *self.entropy().draw()?.as_bytes();
        let sketch = move || Sketcher::new(&key, ours);
        let sketcher = tokio::task::spawn_blocking(sketch).await;
        let sketcher = sketcher.map_err(|error| Error::Internal {
            what: format!("a sketching job stopped: {error}"),
        })?;
        match node.difference(key, sketcher).await {
            Ok(exchange) => Ok(Some((exchange.difference, exchange.bytes))),
            Err(object_store::Error::NotSupported { .. }) => Ok(None),
            Err(error) => Err(Error::engine(other.backend().name())(error)),
        }
    }

    /// No other place can tell.
    ///
    /// # Errors
    /// None.
    #[cfg(not(feature = "node"))]
    pub async fn exchange(&self, _: &Self) -> Result<Option<(Option<Difference>, u64)>> {
        Ok(None)
    }
}
