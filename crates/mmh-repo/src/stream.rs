//! A file's bytes piece by piece, for doors that wait for a network between pieces and so leave the
//! threads of the pool free: they decide when each piece is decoded, and by which thread.

use bytes::Bytes;
use mmh_core::{ByteRange, FileId, Verified};

use crate::error::Result;
use crate::read::{Shared, Slice};
use crate::repository::Repository;

/// Bytes of a file whose pieces are listed at once,
const WINDOW_LEN: u64 = 64 << 20;
/// and the most pieces, of files of very small parts.
const WINDOW_PIECES: usize = 1024;

/// A part of a file that can be read.
#[derive(Debug)]
pub struct Piece(Slice);

impl Piece {
    /// Bytes that it will be.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> u32 {
        self.0.slice.len()
    }

    /// Fetches, decodes and checks it; blocks, so it belongs on the pool.
    ///
    /// # Errors
    /// `Corrupt` if a chunk is damaged; `Unavailable`.
    pub fn read(&self, repo: &Repository) -> Result<Verified<Bytes>> {
        self.0.read(repo.source(), &repo.shop.components.cancel)
    }
}

/// The first pieces of a range of a file.
#[derive(Debug)]
pub struct Pieces {
    /// The pieces, in order.
    pub pieces: Vec<Piece>,
    /// What of the range is left for the next call.
    pub rest: ByteRange,
}

impl Repository {
    /// Lists the first pieces of a range of a file, and what is left.
    ///
    /// # Errors
    /// `Invalid` for a range outside the file; `NotFound`, `Corrupt`.
    pub fn pieces(&self, id: FileId, range: ByteRange) -> Result<Pieces> {
        let reader = self.open_file(id)?;
        let end = range.end.min(range.start.saturating_add(WINDOW_LEN));
        let window = ByteRange { end, ..range };
        let (mut pieces, mut shared, mut at) = (Vec::new(), Shared::default(), range.start);
        reader.for_each_slice(window, &mut |slice| {
            if pieces.len() < WINDOW_PIECES {
                let offset = at - range.start;
                at += u64::from(slice.len());
                let chunk = shared.chunk(&slice);
                pieces.push(Piece(Slice {
                    offset,
                    slice,
                    chunk,
                }));
            }
            Ok(())
        })?;
        let rest = ByteRange {
            start: at,
            end: range.end,
        };
        Ok(Pieces { pieces, rest })
    }
}
