//! Commit ids as hubs spell them: the first 20 bytes of a snapshot's digest, in hex. Which snapshots
//! a name has is remembered, so that each is read once and none is looked for in the whole store.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use mmh_core::SnapshotId;
use mmh_core::name::RepoName;
use mmh_repo::{Error, Repository, Result};

/// Names whose history is remembered.
const NAMES_MAX: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");
/// Longest history that is looked through, so that memory is bounded.
const HISTORY_MAX: usize = 1 << 20;
/// Bytes of an id.
const OID_LEN: usize = 20;

type Oid = [u8; OID_LEN];

/// The commit id of a snapshot.
pub(crate) fn oid(id: &SnapshotId) -> String {
    hex(&short(id))
}

fn short(id: &SnapshotId) -> Oid {
    let mut oid = [0; OID_LEN];
    let bytes = id.digest().as_bytes();
    oid.copy_from_slice(&bytes[..OID_LEN]);
    oid
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Bytes from lower-case hex of exactly their length.
pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Histories that are known.
#[derive(Debug)]
pub(crate) struct Commits {
    names: Mutex<LruCache<RepoName, Arc<Mutex<Known>>>>,
}

/// What is reached from the tips of a name.
#[derive(Debug, Default)]
struct Known {
    tips: BTreeSet<SnapshotId>,
    by_oid: HashMap<Oid, SnapshotId>,
    first_ms: u64,
}

impl Commits {
    pub(crate) fn new() -> Self {
        Self {
            names: Mutex::new(LruCache::new(NAMES_MAX)),
        }
    }

    /// The snapshot in a name's history with that commit id; `None` if there is none, or if it is
    /// no commit id.
    ///
    /// # Errors
    /// Those of reading; `Unsupported` for a history without end.
    pub(crate) fn find(
        &self,
        repo: &Repository,
        name: &RepoName,
        oid: &str,
    ) -> Result<Option<SnapshotId>> {
        let Some(oid) = unhex::<OID_LEN>(oid) else {
            return Ok(None);
        };
        self.with(repo, name, |known| known.by_oid.get(&oid).copied())
    }

    /// When a name's history began, in milliseconds since 1970-01-01 UTC.
    ///
    /// # Errors
    /// As [`Commits::find`].
    pub(crate) fn first_ms(&self, repo: &Repository, name: &RepoName) -> Result<u64> {
        self.with(repo, name, |known| known.first_ms)
    }

    fn with<T>(
        &self,
        repo: &Repository,
        name: &RepoName,
        look: impl FnOnce(&Known) -> T,
    ) -> Result<T> {
        let tips = repo.tips(name)?;
        let known = {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(names.get_or_insert(name.clone(), Arc::default))
        };
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.tips != tips && !known.grow(repo, &tips)? {
            *known = Known::default();
            known.grow(repo, &tips)?;
        }
        Ok(look(&known))
    }
}

impl Known {
    /// Reads on from new tips to what is known; false if something known may be reached no longer.
    fn grow(&mut self, repo: &Repository, tips: &BTreeSet<SnapshotId>) -> Result<bool> {
        let mut left: BTreeSet<SnapshotId> = self.tips.difference(tips).copied().collect();
        let mut next: Vec<SnapshotId> = tips.difference(&self.tips).copied().collect();
        let mut fresh: HashMap<Oid, SnapshotId> = HashMap::new();
        let mut first_ms = match self.by_oid.is_empty() {
            true => u64::MAX,
            false => self.first_ms,
        };
        while let Some(id) = next.pop() {
            left.remove(&id);
            let oid = short(&id);
            if self.by_oid.contains_key(&oid) || fresh.insert(oid, id).is_some() {
                continue;
            }
            if self.by_oid.len() + fresh.len() > HISTORY_MAX {
                let text = format!("a history of more than {HISTORY_MAX} snapshots");
                return Err(Error::Unsupported(text));
            }
            let snapshot = repo.snapshot(id)?;
            first_ms = first_ms.min(snapshot.time_ms);
            next.extend(snapshot.parents);
        }
        if !left.is_empty() {
            return Ok(false);
        }
        self.by_oid.extend(fresh);
        self.tips.clone_from(tips);
        self.first_ms = first_ms;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use mmh_core::name::{RefName, Target};
    use mmh_core::object::RefChange;
    use mmh_repo::{Change, Onto};

    use super::*;
    use crate::hub::tests::memory;

    fn put(repo: &Repository, branch: &RefName, n: u64, onto: Onto) -> SnapshotId {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("n"), n.to_string()).unwrap();
        let change = Change {
            folder: Some(folder.path().to_owned()),
            onto,
            message: n.to_string(),
            ..Change::default()
        };
        let done = repo.change(branch, &change).unwrap();
        done.snapshot.parse().unwrap()
    }

    /// Every commit of a name is found by its id, those of other names are not, and what no ref
    /// reaches any longer is not either.
    #[test]
    fn commits_are_those_of_the_history() {
        let (_runtime, repo) = memory();
        let name: RepoName = "acme/a".parse().unwrap();
        let branch = RefName::branch(name.clone(), "main").unwrap();
        let commits = Commits::new();
        let found = |id: &SnapshotId| commits.find(&repo, &name, &oid(id)).unwrap() == Some(*id);
        let mut all = vec![put(&repo, &branch, 0, Onto::Nothing)];
        assert!(found(&all[0]));
        for n in 1..6 {
            let tip = *all.last().unwrap();
            all.push(put(&repo, &branch, n, Onto::Exactly(tip)));
        }
        assert!(all.iter().all(&found));
        let other: RepoName = "acme/b".parse().unwrap();
        let other = RefName::branch(other, "main").unwrap();
        assert!(!found(&put(&repo, &other, 9, Onto::Nothing)));
        let back = RefChange {
            r#ref: branch,
            old: Some(all[5]),
            new: Some(all[2]),
        };
        repo.transact(vec![back], "back", None).unwrap();
        assert!(all[..3].iter().all(&found) && !all[3..].iter().any(&found));
        assert_eq!(commits.find(&repo, &name, "main").unwrap(), None);
        let target: Target = "acme/a".parse().unwrap();
        let newest = repo.resolve(&target).unwrap();
        assert_eq!(oid(&newest.id).len(), 40);
        assert!(commits.first_ms(&repo, &name).unwrap() <= newest.snapshot.time_ms);
    }

    #[test]
    fn hex_is_read_as_it_is_written() {
        assert_eq!(unhex::<3>(&hex(&[0, 0xAB, 0xFF])), Some([0, 0xAB, 0xFF]));
        for bad in ["", "00ab", "00abf", "00abfg", "00ABFF", "00abfff"] {
            assert_eq!(unhex::<3>(bad), None, "{bad}");
        }
    }
}
