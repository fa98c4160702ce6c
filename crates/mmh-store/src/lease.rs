//! Leases: somebody is at work and says so, so that garbage collection leaves alone for a while
//! what it may have seen. FORMAT.md, "Garbage collection".
//!
//! A lease is a courtesy, not a lock: whoever is stalled beyond its lease loses time, never data,
//! because the log decides what a commit may rely on. So a clock may be wrong by any amount.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::lock::Mutex;
use mmh_core::PackId;
use mmh_core::ports::Clock;

use crate::backend::Backend;
use crate::entropy::Entropy;
use crate::error::Result;
use crate::gc::note::{LeaseNote, LeaseTag};
use crate::names;

/// How long a lease holds unless it is renewed, in milliseconds: an hour.
pub const LEASE_MS: u64 = 60 * 60 * 1000;
/// A lease is renewed when this much of it has passed, in milliseconds: a third.
const RENEW_AFTER_MS: u64 = LEASE_MS / 3;
/// By how much the clocks of two machines are taken to differ at most, in milliseconds.
pub const CLOCK_SKEW_MS: u64 = 10 * 60 * 1000;

/// A lease that is held. Dropped without [`Lease::release`], it ends by itself.
#[derive(Debug)]
pub struct Lease {
    backend: Backend,
    clock: Arc<dyn Clock>,
    name: String,
    seq: u64,
    note: Mutex<LeaseNote>,
    /// When it is to be renewed, in milliseconds since 1970-01-01 UTC.
    renew_at: AtomicU64,
}

impl Lease {
    /// Takes a lease; `seq` is the last log entry that is known.
    pub(crate) async fn take(
        backend: &Backend,
        (clock, entropy): (&Arc<dyn Clock>, &dyn Entropy),
        purpose: &str,
        seq: u64,
    ) -> Result<Self> {
        let now = clock.now_ms();
        let note = LeaseNote {
            r#type: LeaseTag::Tag,
            purpose: purpose.to_owned(),
            started_ms: now,
            expires_ms: now.saturating_add(LEASE_MS),
            seq,
            pins: Vec::new(),
        };
        let name = names::lease(&entropy.draw()?);
        backend.write_note(&name, &note).await?;
        Ok(Self {
            backend: backend.clone(),
            clock: Arc::clone(clock),
            name,
            seq,
            note: Mutex::new(note),
            renew_at: AtomicU64::new(now.saturating_add(RENEW_AFTER_MS)),
        })
    }

    /// The last log entry that was known when it began.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// The object's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is time to renew it. Cheap: called for every chunk.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.clock.now_ms() >= self.renew_at.load(Ordering::Relaxed)
    }

    /// Renews the lease if it is time to. A failure is not reported: it is tried again soon, and
    /// an expired lease endangers nothing.
    pub async fn renew(&self) {
        let now = self.clock.now_ms();
        let due = self.renew_at.load(Ordering::Relaxed);
        let next = now.saturating_add(RENEW_AFTER_MS / 8);
        let relaxed = Ordering::Relaxed;
        let mine = now >= due
            && (self.renew_at)
                .compare_exchange(due, next, relaxed, relaxed)
                .is_ok();
        if !mine {
            return;
        }
        if self.write(|_| ()).await.is_ok() {
            let next = now.saturating_add(RENEW_AFTER_MS);
            self.renew_at.store(next, Ordering::Relaxed);
        }
    }

    /// Says that these packs are published and not yet reached by a ref, and no others.
    pub(crate) async fn pin(&self, pins: Vec<PackId>) -> Result<()> {
        self.write(|note| note.pins = pins).await
    }

    async fn write(&self, change: impl FnOnce(&mut LeaseNote)) -> Result<()> {
        // Held while it is written, so that what is written last is what was changed last.
        let mut note = self.note.lock().await;
        change(&mut note);
        note.expires_ms = self.clock.now_ms().saturating_add(LEASE_MS);
        self.backend.write_note(&self.name, &*note).await
    }

    /// Ends the lease.
    ///
    /// # Errors
    /// Unavailable; the lease then ends by itself.
    pub async fn release(&self) -> Result<()> {
        self.backend.delete(&self.name).await
    }
}

/// Whether a lease may still be held, as far as a clock that shows `now_ms` can tell.
pub(crate) fn is_live(note: &LeaseNote, now_ms: u64) -> bool {
    note.expires_ms.saturating_add(CLOCK_SKEW_MS) >= now_ms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;

    /// A clock that the test turns.
    #[derive(Debug, Default)]
    struct Turned(AtomicU64);

    impl Clock for Turned {
        fn now_ms(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    async fn note(backend: &Backend, lease: &Lease) -> LeaseNote {
        backend.read_note(lease.name()).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_lease_is_renewed_in_time_and_ends_when_it_is_released() {
        let (backend, clock) = (Backend::memory(), Arc::new(Turned::default()));
        let dyn_clock: Arc<dyn Clock> = Arc::clone(&clock) as _;
        let taken = Lease::take(&backend, (&dyn_clock, &SystemEntropy), "write", 7);
        let lease = taken.await.unwrap();
        let first = note(&backend, &lease).await;
        assert_eq!(
            (first.seq, first.started_ms, first.expires_ms),
            (7, 0, LEASE_MS)
        );
        assert!(!lease.is_due());
        clock.0.store(RENEW_AFTER_MS, Ordering::Relaxed);
        assert!(lease.is_due());
        lease.renew().await;
        assert!(!lease.is_due());
        let second = note(&backend, &lease).await;
        assert_eq!(second.started_ms, 0, "it began when it began");
        assert_eq!(second.expires_ms, RENEW_AFTER_MS + LEASE_MS);
        lease.pin(vec![PackId::of(b"p")]).await.unwrap();
        assert_eq!(note(&backend, &lease).await.pins, [PackId::of(b"p")]);
        lease.release().await.unwrap();
        assert_eq!(backend.list(names::LEASES).await.unwrap(), []);
    }

    #[test]
    fn a_lease_lives_a_clock_skew_longer_than_it_says() {
        let note = LeaseNote {
            r#type: LeaseTag::Tag,
            purpose: String::new(),
            started_ms: 0,
            expires_ms: 100,
            seq: 0,
            pins: Vec::new(),
        };
        assert!(is_live(&note, 100 + CLOCK_SKEW_MS));
        assert!(!is_live(&note, 101 + CLOCK_SKEW_MS));
        let forever = LeaseNote {
            expires_ms: u64::MAX,
            ..note
        };
        assert!(is_live(&forever, u64::MAX));
    }
}
