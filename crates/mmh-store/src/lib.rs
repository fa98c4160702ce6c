//! The store: packs, index runs, operation log and refs on any object store, and the archive,
//! a repository in one file.
//!
//! Everything that may touch a network is async over [`object_store::ObjectStore`]. The ports for
//! chunks, [`ChunkSource`] and [`ChunkSink`], are synchronous, so that a computing pool may call
//! them. Byte layouts and the orders of writing and reading are in FORMAT.md, "Store".

mod archive;
mod backend;
mod chunk;
pub mod config;
mod entropy;
mod error;
mod log;
mod reader;
mod staging;
mod store;
mod verify;
mod writer;

pub use archive::{Archive, ArchiveWriter};
pub use backend::Backend;
pub use chunk::{ChunkInfo, ChunkSink, ChunkSource};
pub use config::{ChunkerParams, Config};
pub use entropy::{Entropy, SystemEntropy};
pub use error::{Error, Result};
pub use log::{Commit, RefsView};
pub use reader::Reader;
pub use staging::{LocalStaging, MemoryStaging, StagedFile, Staging};
pub use store::{InitOptions, OpenOptions, Stats, Store};
pub use verify::{Damage, RebuildOptions, RebuildReport, VerifyOptions, VerifyReport};
pub use writer::{Recovered, Writer};
