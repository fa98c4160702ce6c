//! Cryptography of MMH from published standards.
//!
//! | module | what | standards |
//! |---|---|---|
//! | [`keys`] | one root seed, and the keys that follow from it | BLAKE3 |
//! | [`seal`], [`padding`] | chunks and structure for other people's disks | AES-256-GCM, Padmé |
//! | [`age`], [`xwing`] | key slots for recipients and passphrases | age v1, X-Wing, HPKE, scrypt, Argon2id |
//! | [`sign`], [`pem`] | composite signatures, hash-based roots, certificates, records | ML-DSA, Ed25519, SLH-DSA, LAMPS, DSSE |
//! | [`bundle`] | signed models for stock tools | OpenSSF Model Signing, ECDSA |
//! | [`seed`] | `mmh1…` strings that correct typing errors | BCH code of BIP 93 |
//! | [`share`] | k of n lists of words | SLIP-39 |
//!
//! Pure functions over bytes: no input or output, no clock, no threads. Random bytes come from
//! [`mmh_core::ports::Entropy`]; only [`bundle::p256`] asks the system itself. docs/FORMAT.md has
//! every byte, docs/decisions the reasons, docs/threat-model.md what is protected and what is not.

pub mod age;
mod bech32;
pub mod bundle;
mod error;
#[cfg(any(test, feature = "testing"))]
pub mod hostile;
mod kdf;
pub mod keys;
pub mod padding;
pub mod pem;
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
