//! Cryptography of MMH from published standards: keys, sealing, slots, signatures, seeds, shares.
//!
//! Pure functions over bytes: no input or output, no clock, no threads. Random bytes come from
//! [`mmh_core::ports::Entropy`]. docs/FORMAT.md has every byte, docs/decisions the reasons.

pub mod age;
mod bech32;
mod error;
mod kdf;
pub mod keys;
pub mod padding;
pub mod seal;
mod secret;
pub mod seed;
pub mod share;
pub mod sign;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod xwing;

pub use error::{Error, Result};
pub use keys::{ChunkerKey, IdKey, ReadKey, RootSeed};
pub use seal::Sealer;
pub use secret::Secret;
