//! What the pure crates ask of the world: progress, cancellation, time, randomness, and how
//! content is named.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::id::Digest;

/// Hears how far a long operation has come. Implementations must be cheap: called per chunk.
pub trait Progress: Send + Sync + Debug {
    /// A stage begins; `total` bytes are expected, if known.
    fn begin(&self, stage: &str, total: Option<u64>);
    /// `bytes` more were processed.
    fn advance(&self, bytes: u64);
    /// The name of what is being processed now.
    fn item(&self, name: &str);
    /// The stage is over.
    fn end(&self);
}

/// Ignores progress.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _stage: &str, _total: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn item(&self, _name: &str) {}
    fn end(&self) {}
}

/// A flag that asks a long operation to stop at the next safe point. Clones share the flag.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks for the stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Takes the request back, once what was to stop has stopped: for programs that go on after it.
    pub fn clear(&self) {
        self.0.store(false, Ordering::SeqCst);
    }

    /// Whether a stop was asked for.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Returns an error when a stop was asked for.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }
}

/// The time, handed in so that tests and replays decide it.
pub trait Clock: Send + Sync + Debug {
    /// Milliseconds since 1970-01-01 UTC.
    fn now_ms(&self) -> u64;
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that reads the system clock"
    )]
    fn now_ms(&self) -> u64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A clock that a test sets by hand.
#[derive(Debug, Clone, Copy)]
pub struct FixedClock(pub u64);

impl Clock for FixedClock {
    fn now_ms(&self) -> u64 {
        self.0
    }
}

/// A source of secret random bytes, handed in so that the pure crates need no operating system.
pub trait Entropy: Send + Sync + Debug {
    /// Fills `out` with bytes that nobody can predict.
    ///
    /// # Errors
    /// The system's error, if its generator fails; `out` is not to be used then.
    fn fill(&self, out: &mut [u8]) -> std::io::Result<()>;
}

/// How a repository names content. All ids of one repository come from one of these.
pub trait Ids: Send + Sync + Debug {
    /// The digest of `content` in this repository, the same for equal content.
    fn digest(&self, content: &[u8]) -> Digest;
}

/// BLAKE3 without a key: the names that everybody can compute.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainIds;

impl Ids for PlainIds {
    fn digest(&self, content: &[u8]) -> Digest {
        Digest::of(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_cancel_share_the_flag() {
        let cancel = Cancel::default();
        let other = cancel.clone();
        assert!(other.check().is_ok());
        cancel.cancel();
        assert!(matches!(other.check(), Err(Error::Cancelled)));
        other.clear();
        assert!(!cancel.is_cancelled());
    }
}
