//! Where the tensors lie in a file: containers parsed to a [`Layout`] whose parts tile the file.
//!
//! A parser reads a header and says name, element type, shape and place of each tensor; it never
//! executes anything, never trusts a length before comparing it with the file, and never decides
//! what is stored: joining the parts gives the file back whatever the parser believed. A file
//! that contradicts itself is [`Container::Unknown`] bytes with a note that says why.

#![warn(clippy::indexing_slicing)]

pub mod arrow;
pub mod container;
pub mod ctranslate2;
pub mod error;
mod externals;
mod flatbuffer;
pub mod gguf;
pub mod hdf5;
#[cfg(any(test, feature = "testing"))]
pub mod hostile;
pub mod layout;
pub mod msgpack;
pub mod npy;
pub mod onnx;
pub mod parquet;
pub mod pickle;
pub mod probe;
mod protobuf;
pub mod read_at;
mod reader;
pub mod safetensors;
#[cfg(any(test, feature = "testing"))]
pub mod samples;
pub mod sniff;
pub mod tfcheckpoint;
pub mod tflite;
pub mod torch_legacy;
mod torch_zip;
pub mod zip;

pub use container::Container;
pub use error::{Error, Result};
pub use layout::{External, Layout, LayoutBuilder, Part, PartKind};
pub use probe::{probe, recognise};
pub use read_at::{ReadAt, Window, read_into, read_vec};
