//! Buffers for chunks that are used again: a fresh one costs a page fault for every 4 KiB, which for
//! a chunk takes as long as decoding it.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Bytes of idle buffers that are kept; what comes back beyond them is freed.
const IDLE_LEN_MAX: usize = 32 << 20;
/// Shorter buffers are left to the allocator, which does not return them to the system.
const CAPACITY_MIN: usize = 64 << 10;
/// Capacities are multiples of this, so that what is a little longer finds room too.
const CAPACITY_STEP: usize = 128 << 10;
/// How many times longer than what is wanted a buffer may be, so that a few bytes do not keep the
/// longest.
const SLACK: usize = 4;

/// Buffers that nobody uses at the moment, with what was last written to them.
static IDLE: Mutex<Idle> = Mutex::new(Idle {
    buffers: Vec::new(),
    len: 0,
});

struct Idle {
    buffers: Vec<Vec<u8>>,
    /// Sum of their capacities.
    len: usize,
}

impl Idle {
    /// The least of the buffers that fit.
    fn take(&mut self, len: usize) -> Option<Vec<u8>> {
        let fits = |capacity: usize| (len..=len.saturating_mul(SLACK)).contains(&capacity);
        let capacities = self.buffers.iter().map(Vec::capacity).enumerate();
        let (at, capacity) = capacities
            .filter(|(_, capacity)| fits(*capacity))
            .min_by_key(|(_, capacity)| *capacity)?;
        self.len -= capacity;
        Some(self.buffers.swap_remove(at))
    }

    fn put(&mut self, buffer: Vec<u8>) {
        let len = self.len + buffer.capacity();
        if len <= IDLE_LEN_MAX {
            self.len = len;
            self.buffers.push(buffer);
        }
    }
}

fn idle() -> MutexGuard<'static, Idle> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A vector that goes back to a stack of idle ones when it is dropped.
#[derive(Debug, Default)]
pub struct Buffer(Vec<u8>);

impl Buffer {
    /// An idle buffer with whatever it holds, or an empty one, with room for `len` bytes, which will
    /// overwrite it; one without room if they are too few or too many.
    #[must_use]
    pub fn idle(len: usize) -> Self {
        // A length that somebody states costs no memory before the bytes are there.
        if !(CAPACITY_MIN..=IDLE_LEN_MAX).contains(&len) {
            return Self::default();
        }
        let new = || Vec::with_capacity(len.next_multiple_of(CAPACITY_STEP));
        let found = idle().take(len);
        Self(found.unwrap_or_else(new))
    }

    /// A buffer of `len` bytes whose values do not matter, because all will be overwritten.
    #[must_use]
    pub fn of_len(len: usize) -> Self {
        let mut buffer = Self::idle(len);
        buffer.0.resize(len, 0);
        buffer
    }

    /// The content, to be shared; when the last copy is dropped the buffer becomes idle.
    #[must_use]
    pub fn share(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.0.capacity() >= CAPACITY_MIN {
            idle().put(std::mem::take(&mut self.0));
        }
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_has_the_length_that_was_asked_for() {
        for len in [
            0,
            1,
            CAPACITY_MIN - 1,
            CAPACITY_MIN,
            3 * CAPACITY_MIN,
            CAPACITY_MIN,
        ] {
            let mut buffer = Buffer::of_len(len);
            assert_eq!(buffer.len(), len);
            buffer.fill(7);
        }
    }

    #[test]
    fn no_buffer_without_room_is_handed_out() {
        drop((
            Buffer::of_len(CAPACITY_MIN),
            Buffer::of_len(4 * CAPACITY_MIN),
        ));
        for len in [CAPACITY_MIN, 2 * CAPACITY_MIN, 100 * CAPACITY_MIN] {
            let capacity = Buffer::idle(len).capacity();
            assert!(capacity == 0 || (len..=SLACK * len).contains(&capacity));
        }
    }

    #[test]
    fn what_is_shared_outlives_other_uses_of_the_pool() {
        let mut first = Buffer::of_len(CAPACITY_MIN);
        first.fill(1);
        let shared = first.share();
        let part = shared.slice(5..10);
        drop(shared);
        let mut second = Buffer::of_len(CAPACITY_MIN);
        second.fill(2);
        assert_eq!(&part[..], [1; 5]);
    }

    #[test]
    fn only_so_much_stays_idle() {
        let all: Vec<Buffer> = (0..2 * IDLE_LEN_MAX / (1 << 20))
            .map(|_| Buffer::of_len(1 << 20))
            .collect();
        drop(all);
        let idle = idle();
        let capacities = idle.buffers.iter().map(Vec::capacity);
        assert_eq!(capacities.sum::<usize>(), idle.len);
        assert!(idle.len <= IDLE_LEN_MAX);
    }
}
