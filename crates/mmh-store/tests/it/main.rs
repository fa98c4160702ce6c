//! The store's promises, tested from outside.

mod conformance;
