//! The store's promises, tested from outside.

mod archive;
mod chunks;
mod common;
mod conformance;
mod crash;
mod damage;
mod refs;
mod salvage;
