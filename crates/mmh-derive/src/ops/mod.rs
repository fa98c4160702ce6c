//! Operations: what a step of a recipe does, found by name and version.
//!
//! An operation is *prepared* with parameters and the lengths of its operands; what comes back is
//! a job whose output length is known and whose output is computed in independent *grains*, in any
//! order and on any thread. Later crates register operations of their own.

mod elementwise;
mod quantise;
mod reorder;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A value of a parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A truth value.
    Bool(bool),
    /// An unsigned number.
    Int(u64),
    /// A text.
    Text(String),
    /// A list of unsigned numbers.
    List(Vec<u64>),
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}
impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Int(value)
    }
}
impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}
impl From<Vec<u64>> for Value {
    fn from(value: Vec<u64>) -> Self {
        Self::List(value)
    }
}

/// Parameters of an operation, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Params(BTreeMap<String, Value>);

impl Params {
    /// No parameters.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more, or another value of one.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// A text.
    ///
    /// # Errors
    /// [`Error::Parameter`] if it is missing or something else.
    pub fn text(&self, name: &str) -> Result<&str> {
        match self.0.get(name) {
            Some(Value::Text(text)) => Ok(text),
            _ => Err(Error::parameter(name, "a text is needed")),
        }
    }

    /// A number.
    ///
    /// # Errors
    /// [`Error::Parameter`] if it is missing or something else.
    pub fn int(&self, name: &str) -> Result<u64> {
        match self.0.get(name) {
            Some(&Value::Int(value)) => Ok(value),
            _ => Err(Error::parameter(name, "a number is needed")),
        }
    }

    /// A number that counts something in memory.
    ///
    /// # Errors
    /// [`Error::Parameter`] if it is missing, something else, or too large for this machine.
    pub fn count(&self, name: &str) -> Result<usize> {
        let value = self.int(name)?;
        usize::try_from(value).map_err(|_| Error::parameter(name, "too large"))
    }

    /// A truth value.
    ///
    /// # Errors
    /// [`Error::Parameter`] if it is missing or something else.
    pub fn bool(&self, name: &str) -> Result<bool> {
        match self.0.get(name) {
            Some(&Value::Bool(value)) => Ok(value),
            _ => Err(Error::parameter(name, "true or false is needed")),
        }
    }

    /// A list of numbers.
    ///
    /// # Errors
    /// [`Error::Parameter`] if it is missing or something else.
    pub fn list(&self, name: &str) -> Result<&[u64]> {
        match self.0.get(name) {
            Some(Value::List(list)) => Ok(list),
            _ => Err(Error::parameter(name, "a list of numbers is needed")),
        }
    }

    /// An element type.
    ///
    /// # Errors
    /// [`Error::Parameter`] if it is missing or none.
    pub fn dtype(&self, name: &str) -> Result<mmh_core::Dtype> {
        let dtype = self.text(name)?.parse();
        dtype.map_err(|_| Error::parameter(name, "an element type is needed"))
    }

    /// Refuses parameters that an operation does not know.
    ///
    /// # Errors
    /// [`Error::Parameter`] for the first one that is not among `known`.
    pub fn only(&self, known: &[&str]) -> Result<()> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(Error::parameter(name, "not known to this operation")),
            None => Ok(()),
        }
    }
}

/// An operation.
pub trait Op: Debug + Send + Sync {
    /// Its name, as in recipes: a family, and what it makes (`gguf.quantise/q4_k`).
    fn name(&self) -> &str;
    /// Its version. Whatever would change a bit of any output needs a new one.
    fn version(&self) -> u32;
    /// Checks parameters against the lengths of the operands, in bytes.
    ///
    /// # Errors
    /// [`Error::Parameter`] and [`Error::Length`].
    fn prepare(&self, params: &Params, operands: &[u64]) -> Result<Box<dyn Job>>;
}

/// How much of its operands a grain of output needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grain {
    /// Bytes of output in a grain; the output is a whole number of them. Never 0.
    pub output: u64,
    /// Of each operand, the bytes that belong to a grain; `None`: every grain needs all of it.
    pub operands: Vec<Option<u64>>,
}

/// An operation with its parameters, ready for operands of known lengths.
pub trait Job: Debug + Send + Sync {
    /// Bytes of the whole output.
    fn output_len(&self) -> u64;
    /// What can be computed by itself.
    fn grain(&self) -> Grain;
    /// Computes some grains, one after the other, from the bytes that belong to them.
    ///
    /// # Errors
    /// [`Error::Length`] if the slices do not fit each other; [`Error::NotFinite`] where the
    /// numbers are none that the operation is defined for.
    fn run(&self, operands: &[&[u8]], out: &mut [u8]) -> Result<()>;
}

/// The operations that recipes may name.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    ops: BTreeMap<(String, u32), Arc<dyn Op>>,
}

impl Registry {
    /// The operations of this crate.
    #[must_use]
    pub fn standard() -> Self {
        let mut registry = Self::default();
        registry.add(Arc::new(elementwise::CastOp));
        registry.add(Arc::new(elementwise::XorOp));
        registry.add(Arc::new(reorder::TransposeOp));
        for op in quantise::QuantiseOp::all() {
            registry.add(Arc::new(op));
        }
        registry
    }

    /// Adds an operation, or replaces the one of the same name and version.
    pub fn add(&mut self, op: Arc<dyn Op>) {
        self.ops.insert((op.name().to_owned(), op.version()), op);
    }

    /// Names and versions of all operations, in order.
    pub fn names(&self) -> impl Iterator<Item = (&str, u32)> {
        self.ops
            .keys()
            .map(|(name, version)| (name.as_str(), *version))
    }

    /// Finds an operation.
    ///
    /// # Errors
    /// [`Error::UnknownOp`].
    pub fn find(&self, name: &str, version: u32) -> Result<&dyn Op> {
        let key = (name.to_owned(), version);
        let unknown = || Error::UnknownOp {
            name: mmh_core::error::shorten(name),
            version,
        };
        self.ops.get(&key).map(AsRef::as_ref).ok_or_else(unknown)
    }
}

/// The operands, if there are as many as an operation takes.
fn exactly<const N: usize, T: Copy>(operands: &[T]) -> Result<[T; N]> {
    let all = <[T; N]>::try_from(operands);
    all.map_err(|_| Error::length("number of operands", operands.len(), N))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_found_by_its_name_and_no_other() {
        let registry = Registry::standard();
        let names: Vec<_> = registry.names().collect();
        assert_eq!(names.len(), 3 + crate::gguf::Quantiser::TYPES.len());
        for (name, version) in names {
            let op = registry.find(name, version).unwrap();
            assert_eq!((op.name(), op.version()), (name, version));
            assert!(registry.find(name, version + 1).is_err());
        }
        let error = registry.find("no.such\nthing", 1).unwrap_err();
        assert_eq!(error.kind(), mmh_core::ErrorKind::Unsupported);
        assert!(error.to_string().contains("no.such\\nthing"), "{error}");
    }

    #[test]
    fn parameters_are_of_their_types() {
        let params = Params::new()
            .with("a", "F32")
            .with("b", 7)
            .with("c", true)
            .with("d", vec![1, 2]);
        assert_eq!(params.dtype("a").unwrap(), mmh_core::Dtype::F32);
        assert_eq!(
            (params.int("b").unwrap(), params.count("b").unwrap()),
            (7, 7)
        );
        assert!(params.bool("c").unwrap());
        assert_eq!(params.list("d").unwrap(), [1, 2]);
        params.only(&["a", "b", "c", "d"]).unwrap();
        assert!(params.only(&["a", "b", "c"]).is_err());
        for wrong in [
            params.int("a").is_err(),
            params.text("b").is_err(),
            params.bool("missing").is_err(),
            params.list("c").is_err(),
            params.dtype("d").is_err(),
            params.clone().with("a", "F31").dtype("a").is_err(),
        ] {
            assert!(wrong);
        }
    }
}
