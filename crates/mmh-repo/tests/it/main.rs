//! The repository as its users see it: files in, fewer bytes, the same files out.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod archive;
mod bases;
mod changing;
mod checking;
mod collecting;
mod committing;
mod comparing;
mod damage;
mod files;
mod forge;
mod history;
mod hostile;
mod inspecting;
mod interrupted;
mod noting;
mod packing;
mod reading;
mod restoring;
mod revisions;
mod saving;
mod scratch;
mod sealed;
mod settings;
mod signing;
mod syncing;
mod whole;
