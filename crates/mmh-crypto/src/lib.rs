//! Cryptography of MMH from published standards: the key tree and sealing of chunks.
//!
//! Pure functions over bytes: no input or output, no clock, no threads. Random bytes come from
//! [`mmh_core::ports::Entropy`]. docs/FORMAT.md has every byte, docs/decisions the reasons.

mod error;
pub mod keys;
pub mod padding;
pub mod seal;
mod secret;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use error::{Error, Result};
pub use keys::{ChunkerKey, IdKey, ReadKey, RootSeed};
pub use seal::Sealer;
pub use secret::Secret;
