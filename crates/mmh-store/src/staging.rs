//! The staging area: files that grow until they are published, each held by one writer.
//!
//! A file of a writer that died is an *orphan*: nobody holds it, and recovery may take it over.
//! The operating system's file lock says who lives; it goes with the process, however that ends.

mod file_at;
mod local;
mod memory;

use std::fmt::Debug;
use std::io;

pub(crate) use file_at::read_exact_at;
pub(crate) use local::LocalFile;
pub use local::LocalStaging;
pub use memory::MemoryStaging;

/// Makes staged files and finds abandoned ones.
pub trait Staging: Send + Sync + Debug {
    /// Makes an empty file that the caller holds.
    ///
    /// # Errors
    /// The system's.
    fn create(&self) -> io::Result<Box<dyn StagedFile>>;

    /// Takes hold of every file that no living writer holds.
    ///
    /// # Errors
    /// The system's; an area that does not exist yet has no orphans.
    fn orphans(&self) -> io::Result<Vec<Box<dyn StagedFile>>>;

    /// Makes sure that an object lasts which another process published, perhaps a moment ago: it
    /// is seen as soon as it is renamed, before its directory is synced. Whoever builds on such an
    /// object calls this first. An area that does not publish by itself has nothing to do.
    ///
    /// # Errors
    /// The system's.
    fn settle(&self, object: &str) -> io::Result<()> {
        let _engine_keeps_it = object;
        Ok(())
    }
}

/// A growing file, held until it is dropped. Readers may read what was appended, and go on when
/// it is published or discarded meanwhile.
pub trait StagedFile: Send + Sync + Debug {
    /// The file's place, for messages.
    fn name(&self) -> String;

    /// Length in bytes.
    fn len(&self) -> u64;

    /// Whether nothing was appended yet.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the parts one after the other.
    ///
    /// # Errors
    /// The system's; the file may then hold a part of the bytes beyond its old length.
    fn append(&self, parts: &[&[u8]]) -> io::Result<()>;

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` beyond the end.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Cuts the file to `len` bytes.
    ///
    /// # Errors
    /// The system's.
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// Returns when everything appended is on the disk.
    ///
    /// # Errors
    /// The system's.
    fn sync(&self) -> io::Result<()>;

    /// Gives the synced file its final object name without copying, replacing what is there, and
    /// returns `true` when the name is on the disk too; `false` if the area cannot do that and
    /// the caller has to upload the content.
    ///
    /// # Errors
    /// The system's.
    fn publish(&self, object: &str) -> io::Result<bool>;

    /// Removes the file.
    ///
    /// # Errors
    /// The system's.
    fn discard(&self) -> io::Result<()>;
}
