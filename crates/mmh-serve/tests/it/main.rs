//! What nodes and the hub promise, tested over loopback.
#![allow(clippy::unwrap_used, reason = "all of this crate is tests")]

mod again;
mod common;
mod conformance;
mod engine;
mod home;
mod hostile;
mod hub;
mod hub_names;
mod hub_private;
mod lfs_parts;
mod liar;
mod mirror;
mod missing;
mod rates;
mod reconcile;
mod sliced;
mod tls;
mod together;
mod uploads;
mod xet;
mod xet_again;
mod xet_fetch;
