//! The repository as its users see it: files in, fewer bytes, the same files out.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod archive;
mod damage;
mod history;
mod hostile;
mod interrupted;
mod reading;
mod saving;
mod scratch;
mod whole;
