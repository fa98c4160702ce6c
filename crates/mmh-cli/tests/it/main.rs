//! The binary as people and scripts use it.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod archives;
mod bases;
mod elsewhere;
mod errors;
mod hub;
mod index;
mod interrupted;
mod layers;
mod links;
mod model;
mod mounted;
mod nfs;
mod parity;
mod pipes;
mod ranges;
mod sealed;
mod served;
#[path = "../../../mmh-store/tests/it/engines/server.rs"]
#[allow(dead_code, reason = "it starts more servers than are needed here")]
mod server;
mod session;
mod shapes;
mod signing;
mod stripe;
mod support;
mod sync;
mod together;
mod traces;
mod transcripts;
