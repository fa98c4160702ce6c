//! Lossless coding of tensors and other bytes: field splits, entropy coding, frames.
//!
//! The unit is a *frame*, the coded form of one chunk. Pure: no I/O, no clock, no threads.

mod bits;
mod body;
mod cluster;
mod codec;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
pub mod entropy;
mod error;
mod frame;
#[cfg(any(test, feature = "testing"))]
pub mod hostile;
mod input;
mod layout;
mod log2;
mod plane;
#[cfg(any(test, feature = "testing"))]
pub mod samples;
mod settings;
mod zstd;

pub use codec::{Decoder, Encoder};
pub use error::{Error, Result};
pub use frame::{FRAME_OVERHEAD_MAX, FRAME_VERSION, FrameInfo, Method, PlaneInfo, frame_info};
pub use plane::BLOCK_LEN;
pub use settings::{Hint, Level, Settings};
