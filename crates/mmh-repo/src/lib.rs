//! The library that everything above uses: a [`Repository`] of named trees of files.
//!
//! Files become chunks by way of their containers' layouts, trees of files become snapshots,
//! snapshots get names, and any of it comes back byte for byte. Methods block; an async caller
//! uses `spawn_blocking`. Nothing here prints, reads the environment or ends the process.

pub mod add;
pub mod archive;
mod base;
pub mod bundle;
mod card;
pub mod change;
pub mod check;
pub mod clone;
pub mod commit;
pub mod cut;
mod edit;
pub mod error;
pub mod export;
pub mod files;
pub mod gc;
mod gear;
mod in_order;
mod ingest;
pub mod inspect;
pub mod keep;
pub mod key_folder;
pub mod keys;
pub mod list;
pub mod measure;
#[cfg(test)]
mod memory;
pub mod notes;
mod objects;
mod outside;
mod reach;
pub mod read;
mod recycle;
pub mod refs;
pub mod repair;
pub mod repository;
pub mod sign;
pub mod stat;
pub mod stream;
pub mod sync;
pub mod trust;
mod walk;
mod workshop;

pub use mmh_codec::{Level, entropy};
pub use mmh_store::{
    Access, Away, Backend, CACHE_LEN_DEFAULT, Error as StoreError, GcOptions, GcReport, Healed,
    HealedShard, InitOptions, RebuildOptions, RebuildReport, RefsView, RepairReport, Replaced,
    Result as StoreResult, ScrubOptions, ScrubReport, ShardReport, Store, StripeShape,
};

pub use add::{AddOptions, AddReport};
pub use archive::{PackOptions, UnpackOptions, pack, unpack};
pub use change::{Change, Onto};
pub use check::CheckReport;
pub use commit::{CommitReport, KnownFile};
pub use error::{Error, Result};
pub use export::{ExportOptions, ExportReport};
pub use files::{ChunkCache, Content, FileCache};
pub use inspect::inspect;
pub use keep::Keep;
pub use measure::{MeasureReport, measure};
pub use notes::{Note, NoteEditor};
pub use read::FileReader;
pub use repair::{Repaired, replace_lost};
pub use repository::{Components, Repository, Settings};
pub use stat::StatReport;
pub use stream::{Piece, Pieces};
pub use sync::{SyncOptions, SyncReport};
