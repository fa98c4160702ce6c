//! Lossless coding of tensors and other bytes: field splits, entropy coding, frames.
//!
//! The path of a chunk: [`Encoder`] (`codec`) → a layout divides it into planes (`layout`,
//! `body`) → each plane is given the cheapest coder (`plane`) → symbols go through an
//! [`entropy::Engine`]. Pure: no I/O, no clock, no threads. Decoders take any bytes.
#![doc = include_str!("../README.md")]

mod bits;
mod body;
mod cluster;
mod codec;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod delta;
pub mod entropy;
mod error;
mod frame;
#[cfg(any(test, feature = "testing"))]
pub mod hostile;
mod input;
mod kernel;
mod layout;
mod log2;
mod mix;
mod plane;
#[cfg(any(test, feature = "testing"))]
pub mod samples;
mod settings;
mod zstd;

pub use codec::{Decoder, Encoder};
pub use error::{Error, Result};
pub use frame::{
    CHECK_LEN, ContentId, FRAME_OVERHEAD_MAX, FRAME_VERSION, FrameInfo, HEADER_LEN_MAX,
    METHOD_BITS, Method, PlaneInfo, References, frame_info, references, with_references,
};
pub use plane::BLOCK_LEN;
pub use settings::{Base, Context, Hint, Level, Settings};
