//! The store: packs, index runs, operation log and refs on any object store, and the archive,
//! a repository in one file.
//!
//! Everything that may touch a network is async over [`object_store::ObjectStore`]. The ports for
//! chunks, [`ChunkSource`] and [`ChunkSink`], are synchronous, so that a computing pool may call
//! them. Byte layouts and the orders of writing and reading are in FORMAT.md, "Store".

mod access;
mod archive;
mod backend;
mod block_on;
mod broken;
mod buffer;
mod cache;
mod chunk;
pub mod config;
#[cfg(feature = "testing")]
pub mod conformance;
mod copy;
mod entropy;
mod error;
#[cfg(feature = "testing")]
pub mod fault;
mod frame;
pub mod gc;
mod heal;
pub mod index;
mod keys;
pub mod lease;
pub mod log;
mod log_engine;
mod log_home;
pub mod names;
pub mod node;
mod objects;
pub mod pack;
pub mod parity;
mod presence;
mod reader;
mod rebuild;
mod recover;
mod repair;
mod scrub;
#[cfg(feature = "testing")]
pub mod sim;
mod staging;
mod store;
mod stripe;
mod sync;
#[cfg(any(feature = "net", feature = "postgres", feature = "nats"))]
mod tls;
mod upload;
mod vault;
mod verify;
mod writer;

pub use access::{Access, CACHE_LEN_DEFAULT};
pub use archive::{Archive, ArchiveWriter, fuzz_archive_table};
pub use backend::Backend;
#[cfg(feature = "testing")]
pub use broken::Broken;
pub use buffer::Buffer;
pub use chunk::{ChunkInfo, ChunkSink, ChunkSource};
pub use config::{CHUNKER, CHUNKER_KEYED, ChunkerParams, Config, FORMAT_VERSION, Sealed};
pub use entropy::{Entropy, SystemEntropy};
pub use error::{Error, Result};
pub use frame::{FRAME_LEN_MAX, REFERENCE_DEPTH_MAX, REFERENCED_MAX, STORED_LEN_MAX};
pub use gc::{GcOptions, GcReport, GcRoots, Marks};
pub use heal::Healed;
pub use keys::{
    KeySource, NoKey, Offer, SLOT_LEN_MAX, SLOT_NAME_LEN_MAX, Sealing, Slot, slot_name,
};
pub use lease::Lease;
pub use log::{Commit, RefsView};
pub use log_engine::LogEngine;
pub use objects::SEAL_LEN;
pub use reader::Reader;
pub use rebuild::{RebuildOptions, RebuildReport};
pub use recover::Recovered;
pub use repair::RepairReport;
pub use scrub::{ScrubOptions, ScrubReport};
pub use staging::{LocalStaging, MemoryStaging, StagedFile, Staging};
pub use store::{InitOptions, OpenOptions, Stats, Store};
pub use stripe::{
    Away, HealedShard, Replaced, SHARD_BLOCK_LEN, SHARD_HEAD_LEN, SHARD_MAGIC, SHARD_PIECE_LEN,
    STRIPE_STORES_MAX, ShardReport, StripeShape,
};
pub use sync::{Carried, Peer};
pub use verify::{Damage, VerifyOptions, VerifyReport};
pub use writer::Writer;
