//! The vocabulary of MMH-RS: ids, the object model, its one canonical encoding, limits and ports.
//!
//! Pure: no I/O, no clock, no threads. Every other crate of the workspace may use this one, and
//! this one uses none of them.

pub mod canonical;
pub mod error;
pub mod id;
pub mod limits;
pub mod name;
pub mod object;
pub mod pattern;
pub mod ports;
pub mod range;
pub mod tensor;
pub mod tree;
pub mod verified;

pub use error::{Error, ErrorKind, Result};
pub use id::{ChunkId, Digest, FileId, ObjectId, PackId, RecordId, SnapshotId, TreeId};
pub use pattern::NamePattern;
pub use range::ByteRange;
pub use tensor::{Dtype, TensorInfo};
pub use verified::Verified;
