//! Formats of the Xet protocol, by which clients of model hubs send and fetch files: content-defined
//! chunks, their hashes, *xorbs* (runs of packed chunks), *shards* (what files and xorbs are made of)
//! and *reconstructions* (which ranges of which xorbs are a file).
//!
//! Pure functions over bytes. The source is the specification of the protocol
//! (<https://huggingface.co/docs/xet>, draft-denis-xet); where its client 1.8.0 does otherwise, the
//! client is followed. What is stored is never in these formats: docs/decisions/0027-xet.md.

mod chunker;
mod error;
mod hash;
#[cfg(feature = "testing")]
pub mod hostile;
mod merkle;
mod read;
mod reconstruction;
mod scheme;
mod shard;
mod virtual_xorb;
mod xorb;

pub use chunker::{CHUNK_LEN_MAX, CHUNK_LEN_MIN, Chunker, cut};
pub use error::{Error, Result};
pub use hash::XetHash;
pub use merkle::{Leaf, Tree, file_hash, range_hash, xorb_hash};
pub use reconstruction::{Fetch, Plan, Term};
pub use scheme::Scheme;
pub use shard::{Chunk, FileInfo, SHARD_LEN_MAX, Segment, Shard, Validity, XorbInfo};
pub use virtual_xorb::{Piece, VirtualXorb};
pub use xorb::{Span, XORB_CHUNKS_MAX, XORB_LEN_MAX, Xorb, XorbWriter};
