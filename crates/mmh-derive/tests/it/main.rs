//! Integration tests of the crate: golden files, recipes as bytes, recipes beside a model.
#![allow(clippy::unwrap_used, reason = "all of this crate is tests")]

mod casts;
mod container;
mod golden;
mod model;
mod ops;
mod recipe;
mod registry;
mod threads;
