//! Sources of bytes for tests: one that can be predicted, one that fails.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use mmh_core::ports::Entropy;

/// Gives BLAKE3 of a counter: different at each call, the same in each run. For tests only.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Starts at `rng_seed`.
    #[must_use]
    pub fn new(rng_seed: u64) -> Self {
        Self(AtomicU64::new(rng_seed << 32))
    }
}

impl Entropy for Counter {
    fn fill(&self, out: &mut [u8]) -> io::Result<()> {
        let at = self.0.fetch_add(1, Ordering::Relaxed);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&at.to_le_bytes());
        hasher.finalize_xof().fill(out);
        Ok(())
    }
}

/// Always fails.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dry;

impl Entropy for Dry {
    fn fill(&self, _out: &mut [u8]) -> io::Result<()> {
        Err(io::Error::other("the generator is dry"))
    }
}
