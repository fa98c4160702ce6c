//! Files as doors hand them out: whole in a cache on the disk, or decoded a little ahead of the
//! reader.
//!
//! [`FileCache`] keeps whole files under the digests of their content, [`ChunkCache`] keeps decoded
//! chunks in memory, [`Content`] reads one file by way of both, and [`Repository::prefetch`] fills
//! the former.
//!
//! [`Repository::prefetch`]: crate::Repository::prefetch

mod cache;
mod chunks;
mod content;
mod prefetch;

pub use cache::{CacheStat, FileCache, Partial};
pub use chunks::ChunkCache;
pub use content::Content;
pub use prefetch::{PrefetchReport, Wanted};
