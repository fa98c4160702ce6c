//! A node's promises, tested over real TLS on loopback.
#![allow(clippy::unwrap_used, reason = "all of this crate is tests")]

mod again;
mod common;
mod conformance;
mod engine;
mod hostile;
mod hub;
mod liar;
mod missing;
mod reconcile;
mod sliced;
mod tls;
mod together;
mod uploads;
