//! The folders above snapshots: families, organisations, names and revisions.
//!
//! `/models/acme/minilm` is the head of `main`, `/models/acme/minilm@v1` the branch, tag or snapshot
//! of that name, with `%2F` for a slash. A name that others lie below, as `/models/acme` if there is
//! a model `acme` as well, is the folder of those, and its own files are in `acme@main`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mmh_core::Digest;
use mmh_core::name::{DEFAULT_BRANCH, FAMILIES, RepoName, Target, check_rev};
use mmh_repo::RefsView;

use crate::handles::tag;

/// The names of a repository at one state of its log.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// The names at and below each folder: `models/acme` to `minilm`.
    below: BTreeMap<String, BTreeSet<String>>,
    /// The branches and tags of each full name.
    revisions: BTreeMap<String, BTreeSet<String>>,
    /// Folders and full names by digests of them.
    digests: HashMap<Digest, String>,
    /// Full names by the first bytes of those digests.
    tags: HashMap<u64, String>,
}

/// What a path of names stands for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// A folder of names, by its full path.
    Folder(String),
    /// A snapshot.
    Snapshot(Target),
}

impl Names {
    /// The names that these refs give, without those that are not `shown`.
    pub(crate) fn of(refs: &RefsView, shown: &dyn Fn(&RepoName) -> bool) -> Self {
        let mut names = Self::default();
        for family in FAMILIES {
            names.below.insert(family.to_owned(), BTreeSet::new());
        }
        let mut last = None;
        for name in refs.refs.keys().filter(|name| name.is_by_people()) {
            // Refs of one name follow each other.
            let asked = last.filter(|(repo, _)| *repo == &name.repo);
            let (repo, is_shown) = asked.unwrap_or_else(|| (&name.repo, shown(&name.repo)));
            last = Some((repo, is_shown));
            if !is_shown {
                continue;
            }
            let full = name.repo.as_str();
            let revisions = names.revisions.entry(full.to_owned()).or_default();
            revisions.insert(name.rev().to_owned());
            let mut path = full;
            while let Some((above, own)) = path.rsplit_once('/') {
                let below = names.below.entry(above.to_owned()).or_default();
                below.insert(own.to_owned());
                path = above;
            }
        }
        let all = names.below.keys().chain(names.revisions.keys());
        names.digests = all
            .map(|path| (Digest::of(path.as_bytes()), path.clone()))
            .collect();
        let full = names.revisions.keys();
        names.tags = full
            .map(|full| (tag(&Digest::of(full.as_bytes())), full.clone()))
            .collect();
        names
    }

    /// The folder or full name with that digest.
    pub(crate) fn by_digest(&self, digest: &Digest) -> Option<&str> {
        self.digests.get(digest).map(String::as_str)
    }

    /// The full name whose digest begins so.
    pub(crate) fn by_tag(&self, tag: u64) -> Option<&str> {
        self.tags.get(&tag).map(String::as_str)
    }

    /// Whether there is such a folder of names.
    pub(crate) fn is_folder(&self, path: &str) -> bool {
        path.is_empty() || self.below.contains_key(path)
    }

    /// What `name` is in the folder `above`, the root being the empty path.
    pub(crate) fn find(&self, above: &str, name: &str) -> Option<Named> {
        let join = |name: &str| match above {
            "" => name.to_owned(),
            above => format!("{above}/{name}"),
        };
        let Some((own, rev)) = name.split_once('@') else {
            let full = join(name);
            return match self.below.contains_key(&full) {
                true => Some(Named::Folder(full)),
                false => self.snapshot(&full, None),
            };
        };
        let rev = rev.replace("%2F", "/");
        check_rev(&rev).ok()?;
        self.snapshot(&join(own), Some(rev))
    }

    fn snapshot(&self, full: &str, rev: Option<String>) -> Option<Named> {
        let revisions = self.revisions.get(full)?;
        if rev.is_none() && !revisions.contains(DEFAULT_BRANCH) {
            return None;
        }
        let repo: RepoName = full.parse().ok()?;
        let path = None;
        Some(Named::Snapshot(Target { repo, rev, path }))
    }

    /// What is in a folder of names, in order.
    pub(crate) fn list(&self, folder: &str) -> Vec<String> {
        if folder.is_empty() {
            return FAMILIES.map(str::to_owned).to_vec();
        }
        let mut all = Vec::new();
        for own in self.below.get(folder).into_iter().flatten() {
            let full = format!("{folder}/{own}");
            let is_folder = self.below.contains_key(&full);
            let revisions = self.revisions.get(&full);
            let has_main = revisions.is_some_and(|revs| revs.contains(DEFAULT_BRANCH));
            if is_folder || has_main {
                all.push(own.clone());
            }
            for rev in revisions.into_iter().flatten() {
                if rev != DEFAULT_BRANCH || is_folder {
                    all.push(format!("{own}@{}", rev.replace('/', "%2F")));
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use mmh_core::SnapshotId;
    use mmh_core::name::RefName;

    use super::*;

    fn names(refs: &[&str]) -> Names {
        let id = SnapshotId::of(b"x");
        let refs = refs.iter().map(|r| (r.parse::<RefName>().unwrap(), id));
        let view = RefsView {
            seq: 1,
            head: None,
            refs: refs.collect(),
        };
        Names::of(&view, &|name| name.as_str() != "models/hidden")
    }

    fn snapshot(text: &str) -> Option<Named> {
        Some(Named::Snapshot(text.parse().unwrap()))
    }

    fn folder(text: &str) -> Option<Named> {
        Some(Named::Folder(text.to_owned()))
    }

    #[test]
    fn names_are_folders_of_folders() {
        let names = names(&[
            "models/acme/m@heads/main",
            "models/acme/m@tags/v1",
            "models/acme/m@heads/try/it",
            "datasets/squad@heads/main",
            "trees/a/b/c@heads/old",
        ]);
        assert_eq!(names.list(""), ["models", "datasets", "spaces", "trees"]);
        assert_eq!(names.list("models"), ["acme"]);
        assert_eq!(names.list("models/acme"), ["m", "m@try%2Fit", "m@v1"]);
        assert_eq!(names.list("spaces"), [""; 0]);
        assert_eq!(names.list("trees/a/b"), ["c@old"]);
        assert_eq!(names.find("", "models"), folder("models"));
        assert_eq!(names.find("models", "acme"), folder("models/acme"));
        assert_eq!(names.find("models/acme", "m"), snapshot("acme/m"));
        assert_eq!(names.find("datasets", "squad"), snapshot("datasets/squad"));
        let dev = names.find("models/acme", "m@try%2Fit");
        assert_eq!(dev, snapshot("acme/m@try/it"));
        // Snapshots by their ids are found but not listed.
        let by_id = names.find("models/acme", "m@0123abcd");
        assert_eq!(by_id, snapshot("acme/m@0123abcd"));
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let names = names(&["trees/a/b/c@heads/old", "models/m@heads/main"]);
        for (above, name) in [
            ("", "x"),
            ("", "models@main"),
            ("trees/a/b", "c"),
            ("models", "n"),
            ("models", "m@"),
            ("models", "m@a//b"),
            ("models", "m@.."),
            ("models/m", "x"),
        ] {
            assert_eq!(names.find(above, name), None, "{above} {name}");
        }
    }

    #[test]
    fn a_name_with_names_below_it_is_their_folder() {
        let names = names(&["models/acme@heads/main", "models/acme/m@heads/main"]);
        assert_eq!(names.list("models"), ["acme", "acme@main"]);
        assert_eq!(names.find("models", "acme"), folder("models/acme"));
        assert_eq!(names.find("models", "acme@main"), snapshot("acme@main"));
    }

    #[test]
    fn what_is_not_shown_is_not_there() {
        let names = names(&["models/hidden@heads/main", "models/m@heads/main"]);
        assert_eq!(names.list("models"), ["m"]);
        assert_eq!(names.find("models", "hidden"), None);
        assert_eq!(names.find("models", "hidden@main"), None);
        assert_eq!(names.by_digest(&Digest::of(b"models/hidden")), None);
        assert_eq!(names.by_digest(&Digest::of(b"models/m")), Some("models/m"));
    }

    #[test]
    fn signatures_are_no_revisions() {
        let id = SnapshotId::of(b"x");
        let signature = format!("models/m@signatures/{id}");
        let names = names(&["models/m@heads/main", &signature]);
        assert_eq!(names.list("models"), ["m"]);
    }
}
