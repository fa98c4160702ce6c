//! Derivations: operations whose output is fixed bit by bit, and recipes made of them.
//!
//! A *recipe* says how the bytes of a file grow from other bytes: slices of inputs, literal bytes,
//! and outputs of *operations*, which have names, versions and parameters. What an operation
//! computes does not depend on the machine, the compiler, the number of threads or the vector
//! instructions at hand (docs/decisions/0031-derivations.md), so that a file can be dropped and
//! grown again. Pure functions: inputs are read through [`Source`], and whoever calls brings the
//! threads.

mod cast;
mod error;
mod float;
pub mod gguf;
mod grow;
mod ops;
mod recipe;
#[cfg(feature = "testing")]
pub mod samples;

pub use cast::Cast;
pub use error::{Error, Result};
pub use float::NanRule;
pub use grow::{Grower, Source};
pub use ops::{Grain, Job, Op, Params, Registry, Value};
pub use recipe::{Input, NUMERICS, PIECES_MAX, Piece, Recipe, RecipeTag, STEPS_MAX, Step};
