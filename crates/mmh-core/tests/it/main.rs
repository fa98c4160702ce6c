//! The object model against bytes from outside: one value, one spelling, and nothing else.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cbor;
mod golden;
mod hostile;
mod limits;
mod model;
mod objects;
mod paging;
mod trees;
