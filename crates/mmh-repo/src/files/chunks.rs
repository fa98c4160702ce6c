//! Decoded chunks in memory, each decoded once however many readers want it at the same time.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lru::LruCache;
use mmh_core::{ChunkId, Verified};

use crate::error::Result;

/// A bounded number of bytes of verified chunks; what was used longest ago goes first.
pub struct ChunkCache {
    len_max: u64,
    state: Mutex<State>,
    /// A chunk is there, or will not come.
    decoded: Condvar,
}

struct State {
    chunks: LruCache<ChunkId, Verified<Bytes>>,
    len: u64,
    /// What somebody is decoding.
    busy: HashSet<ChunkId>,
}

impl fmt::Debug for ChunkCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkCache")
            .field("len_max", &self.len_max)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// Lets others try, also when decoding panics.
struct Busy<'a>(&'a ChunkCache, ChunkId);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.lock().busy.remove(&self.1);
        self.0.decoded.notify_all();
    }
}

impl ChunkCache {
    /// A cache of at most `len_max` bytes.
    #[must_use]
    pub fn new(len_max: u64) -> Self {
        let state = State {
            chunks: LruCache::unbounded(),
            len: 0,
            busy: HashSet::new(),
        };
        Self {
            len_max,
            state: Mutex::new(state),
            decoded: Condvar::new(),
        }
    }

    /// How many bytes it may hold.
    #[must_use]
    pub fn len_max(&self) -> u64 {
        self.len_max
    }

    /// How many bytes it holds now.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.lock().len
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The chunk, if it is here already.
    #[must_use]
    pub fn peek(&self, id: &ChunkId) -> Option<Verified<Bytes>> {
        self.lock().chunks.get(id).cloned()
    }

    /// The chunk: from here, from whoever is decoding it now, or from `decode`.
    ///
    /// # Errors
    /// Those of `decode`; others that wait try themselves then.
    pub fn get(
        &self,
        id: &ChunkId,
        decode: impl FnOnce() -> Result<Verified<Bytes>>,
    ) -> Result<Verified<Bytes>> {
        let mut state = self.lock();
        loop {
            if let Some(chunk) = state.chunks.get(id) {
                return Ok(chunk.clone());
            }
            if state.busy.insert(*id) {
                break;
            }
            let waited = self.decoded.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        let busy = Busy(self, *id);
        let chunk = decode()?;
        self.put(*id, chunk.clone());
        drop(busy);
        Ok(chunk)
    }

    fn put(&self, id: ChunkId, chunk: Verified<Bytes>) {
        let mut state = self.lock();
        state.len += chunk.len() as u64;
        if let Some(before) = state.chunks.put(id, chunk) {
            state.len -= before.len() as u64;
        }
        while state.len > self.len_max
            && let Some((_, oldest)) = state.chunks.pop_lru()
        {
            state.len -= oldest.len() as u64;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::error::Error;

    fn chunk(n: u8, len: usize) -> (ChunkId, Verified<Bytes>) {
        let bytes = Bytes::from(vec![n; len]);
        let id = ChunkId::of(&bytes);
        (id, Verified::chunk(&id, bytes).unwrap())
    }

    fn never() -> Result<Verified<Bytes>> {
        panic!("it was there")
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let cache = ChunkCache::new(300);
        let chunks: Vec<_> = (0..4).map(|n| chunk(n, 100)).collect();
        for (id, bytes) in &chunks[..3] {
            cache.get(id, || Ok(bytes.clone())).unwrap();
        }
        cache.get(&chunks[0].0, never).unwrap();
        cache.get(&chunks[3].0, || Ok(chunks[3].1.clone())).unwrap();
        let there: Vec<bool> = chunks.iter().map(|c| cache.peek(&c.0).is_some()).collect();
        assert_eq!(there, [true, false, true, true]);
        assert_eq!((cache.len(), cache.len_max()), (300, 300));
    }

    #[test]
    fn what_does_not_fit_is_handed_out_and_not_kept() {
        let cache = ChunkCache::new(10);
        let (id, bytes) = chunk(1, 11);
        assert_eq!(cache.get(&id, || Ok(bytes.clone())).unwrap(), bytes);
        assert!(cache.is_empty() && cache.peek(&id).is_none());
    }

    #[test]
    fn a_chunk_is_decoded_once_for_all_who_want_it() {
        let cache = Arc::new(ChunkCache::new(1 << 20));
        let (id, bytes) = chunk(7, 1000);
        let decoded = AtomicU32::new(0);
        let ready = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    ready.wait();
                    let got = cache.get(&id, || {
                        decoded.fetch_add(1, Ordering::SeqCst);
                        Ok(bytes.clone())
                    });
                    assert_eq!(got.unwrap(), bytes);
                });
            }
        });
        assert_eq!(decoded.into_inner(), 1);
    }

    #[test]
    fn after_a_failure_others_try() {
        let cache = ChunkCache::new(1 << 20);
        let (id, bytes) = chunk(7, 10);
        let failed = cache.get(&id, || Err(Error::Corrupt("rotten".to_owned())));
        assert!(failed.is_err());
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            cache.get(&id, || panic!("as a codec never does"))
        }));
        assert!(panicked.is_err());
        assert_eq!(cache.get(&id, || Ok(bytes.clone())).unwrap(), bytes);
        assert_eq!(cache.get(&id, never).unwrap(), bytes);
    }
}
