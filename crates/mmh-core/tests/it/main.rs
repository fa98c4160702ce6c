//! The object model against bytes from outside: one value, one spelling, and nothing else.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cbor;
mod errors;
mod golden;
mod hostile;
mod ids;
mod limits;
mod model;
mod names;
mod objects;
mod paging;
mod ranges;
mod tensors;
mod trees;
