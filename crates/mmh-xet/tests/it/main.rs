//! The formats against what the protocol's own library made, and against anything at all.
#![allow(clippy::unwrap_used, reason = "all of this crate is tests")]

mod golden;
mod hostile;
mod round;
