//! The binary as people and scripts use it.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod errors;
mod interrupted;
mod session;
mod support;
