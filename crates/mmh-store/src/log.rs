//! The operation log: one entry is one transaction over any number of refs.

use std::collections::BTreeMap;

use mmh_core::name::RefName;
use mmh_core::object::RefChange;
use mmh_core::{Digest, SnapshotId};

/// All refs after a log entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RefsView {
    /// The number of the last entry; 0 for an empty log.
    pub seq: u64,
    /// Its digest; `None` for an empty log.
    pub head: Option<Digest>,
    /// Every ref and what it names.
    pub refs: BTreeMap<RefName, SnapshotId>,
}

/// A transaction to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Commit {
    /// The changes, in any order; each ref at most once.
    pub changes: Vec<RefChange>,
    /// Who does it, as given by the caller.
    pub author: String,
    /// What is done, for people.
    pub command: String,
    /// The operation that this one takes back, if it is an undo.
    pub undoes: Option<u64>,
}
