//! The history of both sides: snapshots and their parents, read from whichever repository is
//! nearer and has them.

use std::collections::{BTreeSet, HashMap, HashSet};

use mmh_core::object::Snapshot;
use mmh_core::{ErrorKind, SnapshotId, TreeId};

use crate::error::{Error, Result};
use crate::objects;
use crate::repository::Repository;

/// What is known of a snapshot.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub tree: TreeId,
    pub parents: Vec<SnapshotId>,
}

impl From<Snapshot> for Known {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            tree: snapshot.tree,
            parents: snapshot.parents,
        }
    }
}

/// Snapshots of two repositories with the same ids.
pub(super) struct Past<'a> {
    near: &'a Repository,
    far: &'a Repository,
    /// Those that were read; nothing for those that neither side has whole, and why.
    known: HashMap<SnapshotId, std::result::Result<Known, String>>,
}

impl<'a> Past<'a> {
    pub(super) fn of(one: &'a Repository, other: &'a Repository) -> Self {
        let (near, far) = match one.is_elsewhere() && !other.is_elsewhere() {
            true => (other, one),
            false => (one, other),
        };
        let known = HashMap::new();
        Self { near, far, known }
    }

    /// The repository from which objects that both have are read.
    pub(super) fn near(&self) -> &'a Repository {
        self.near
    }

    /// Takes note of snapshots that are not to be read.
    pub(super) fn preload(&mut self, snapshots: impl Iterator<Item = (SnapshotId, Known)>) {
        let known = snapshots.map(|(id, known)| (id, Ok(known)));
        self.known.extend(known);
    }

    /// What a snapshot says; if neither side has it whole, why.
    pub(super) fn learn(&mut self, id: SnapshotId) -> Result<std::result::Result<Known, String>> {
        if let Some(known) = self.known.get(&id) {
            return Ok(known.clone());
        }
        self.near.shop.components.cancel.check()?;
        let read = match objects::snapshot(self.near.source(), id) {
            Err(error) if is_damage(&error) => objects::snapshot(self.far.source(), id),
            read => read,
        };
        let known = match read {
            Ok(snapshot) => Ok(Known::from(snapshot)),
            Err(error) if is_damage(&error) => Err(error.to_string()),
            Err(error) => return Err(error),
        };
        self.known.insert(id, known.clone());
        Ok(known)
    }

    /// Whether `old` is `new` or one of those that it came from.
    pub(super) fn is_ancestor(&mut self, old: SnapshotId, new: SnapshotId) -> Result<bool> {
        let (mut seen, mut open) = (HashSet::new(), vec![new]);
        while let Some(id) = open.pop() {
            if id == old {
                return Ok(true);
            }
            if seen.insert(id)
                && let Ok(known) = self.learn(id)?
            {
                open.extend(known.parents);
            }
        }
        Ok(false)
    }

    /// Adds a snapshot and all it came from.
    pub(super) fn add_history(
        &mut self,
        tip: SnapshotId,
        all: &mut BTreeSet<SnapshotId>,
    ) -> Result<()> {
        let mut open = vec![tip];
        while let Some(id) = open.pop() {
            if all.insert(id)
                && let Ok(known) = self.learn(id)?
            {
                open.extend(known.parents);
            }
        }
        Ok(())
    }
}

/// Whether an error says that something is missing or damaged, and not that it could not be asked
/// for.
pub(super) fn is_damage(error: &Error) -> bool {
    use ErrorKind as K;
    let kind = error.kind();
    let tells = matches!(kind, K::Corrupt | K::NotFound | K::Invalid | K::Unsupported);
    tells && !error.is_cancelled()
}
