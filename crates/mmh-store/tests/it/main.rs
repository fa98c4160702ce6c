//! The store's promises, tested from outside.

mod common;
mod conformance;
mod crash;
mod refs;
