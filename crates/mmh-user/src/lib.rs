//! What a user has said once for all: settings in layers, rules of trust, remotes, and where the
//! repository is.
//!
//! Doors that run as somebody (the command line, Python) open repositories by way of this crate, so
//! that all of them obey the same files. It reads those files, and variables only from an
//! [`Environment`] that is handed in; it prints nothing.
//!
//! [`Environment`]: config::Environment

pub mod config;
pub mod error;
pub mod open;
pub mod remotes;
pub mod trust;

pub use config::{Config, Environment, Flags, Setting};
pub use error::{Error, Result};
pub use remotes::Remotes;
