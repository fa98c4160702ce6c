//! The store's promises, tested from outside.
#![allow(clippy::unwrap_used, reason = "all of this crate is tests")]

mod archive;
mod chunks;
mod collect;
mod common;
mod conformance;
mod crash;
mod damage;
mod edges;
mod engines;
mod forged;
mod kill;
mod kinds;
mod linked;
mod lists;
mod mend;
mod parity;
mod refs;
mod salvage;
mod sealed;
mod sim;
mod stripe;
mod sync;
