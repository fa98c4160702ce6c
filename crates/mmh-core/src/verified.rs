//! Bytes that are known to be the right ones: only a digest comparison can make the type.

use std::ops::Deref;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::id::ChunkId;
use crate::ports::{Ids, PlainIds};

/// A value whose bytes were compared with their digest. Readers hand out nothing else, so
/// forgetting to verify does not compile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T>(T);

impl Verified<Bytes> {
    /// Hashes `bytes` and compares with `id`.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`] if they differ.
    pub fn chunk(id: &ChunkId, bytes: Bytes) -> Result<Self> {
        Self::chunk_by(&PlainIds, id, bytes)
    }

    /// Hashes `bytes` as the repository does that has these ids, and compares with `id`.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`] if they differ.
    pub fn chunk_by(ids: &dyn Ids, id: &ChunkId, bytes: Bytes) -> Result<Self> {
        let actual = ChunkId::from_digest(ids.digest(&bytes));
        if actual != *id {
            return Err(Error::DigestMismatch {
                what: ChunkId::WHAT,
                expected: id.to_string(),
                actual: actual.to_string(),
            });
        }
        Ok(Self(bytes))
    }

    /// A part of verified bytes is verified too.
    ///
    /// # Errors
    /// [`Error::BadRange`] if the range does not fit.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Result<Self> {
        if range.start > range.end || range.end > self.0.len() {
            return Err(Error::BadRange {
                text: format!("{}..{}", range.start, range.end),
                len: self.0.len() as u64,
            });
        }
        Ok(Self(self.0.slice(range)))
    }
}

impl<T> Verified<T> {
    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_bytes_become_verified() {
        let id = ChunkId::of(b"abc");
        assert!(Verified::chunk(&id, Bytes::from_static(b"abc")).is_ok());
        let wrong = Verified::chunk(&id, Bytes::from_static(b"abd"));
        assert!(matches!(wrong, Err(Error::DigestMismatch { .. })));
    }

    /// Ids of another repository do not verify here.
    #[test]
    fn the_repositorys_own_ids_decide() {
        #[derive(Debug)]
        struct Other;
        impl Ids for Other {
            fn digest(&self, content: &[u8]) -> crate::Digest {
                crate::Digest::of(&[content, b"!"].concat())
            }
        }
        let id = ChunkId::from_digest(Other.digest(b"abc"));
        assert!(Verified::chunk_by(&Other, &id, Bytes::from_static(b"abc")).is_ok());
        assert!(Verified::chunk(&id, Bytes::from_static(b"abc")).is_err());
        assert!(Verified::chunk_by(&Other, &ChunkId::of(b"abc"), "abc".into()).is_err());
    }

    #[test]
    fn a_slice_outside_is_refused() {
        let id = ChunkId::of(b"abc");
        let all = Verified::chunk(&id, Bytes::from_static(b"abc")).unwrap();
        assert_eq!(&all.slice(1..3).unwrap()[..], b"bc");
        assert!(all.slice(1..4).is_err());
        #[allow(clippy::reversed_empty_ranges, reason = "the hostile case under test")]
        let reversed = all.slice(2..1);
        assert!(reversed.is_err());
    }
}
