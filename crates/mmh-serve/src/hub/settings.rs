//! What holds for one name: whether it is private or gated, and how it was called before. It stands
//! in a file on a branch of that name, as other hosts of git keep theirs, so that it is versioned,
//! moves along with the name, and comes along in a sync.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use mmh_core::SnapshotId;
use mmh_core::name::{RefName, RepoName};
use mmh_core::tree::Node;
use mmh_repo::refs::Resolved;
use mmh_repo::{Change, Onto, RefsView, Repository};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fail::{Fail, Outcome, of_io};
use super::{Hub, facts};
use crate::token::{Caller, Role};

/// Before branches that only the server itself writes to.
pub(crate) const OWN: &str = "refs/meta/";
/// The branch with the settings of a name,
pub(crate) const BRANCH: &str = "refs/meta/config";
/// and the file on it.
const FILE: &str = "hub.json";
/// Most bytes of that file.
const LEN_MAX: u64 = 64 << 10;
/// Most names that a name is known to have had.
const FORMERLY_MAX: usize = 64;
/// Settings that are remembered.
const KNOWN_MAX: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// Who gets files of a name that everybody may see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Gated {
    /// Whoever sees it.
    #[default]
    No,
    /// Bearers of tokens for it.
    Auto,
    /// The same: here it is always people who hand tokens out.
    Manual,
}

impl Gated {
    /// As clients send it: false, or how access is given.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Null | Value::Bool(false) => Some(Self::No),
            Value::String(text) if text == "auto" => Some(Self::Auto),
            Value::String(text) if text == "manual" => Some(Self::Manual),
            _ => None,
        }
    }

    /// As clients read it.
    pub(crate) fn shown(self) -> Value {
        match self {
            Self::No => false.into(),
            Self::Auto => "auto".into(),
            Self::Manual => "manual".into(),
        }
    }
}

/// What holds for a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    pub(crate) private: bool,
    pub(crate) gated: Gated,
    /// Names that it had, in full.
    pub(crate) formerly: Vec<String>,
}

impl Settings {
    /// Reads a file of settings: an object, and nothing in it that is not known.
    fn parse(text: &str) -> serde_json::Result<Self> {
        let object: serde_json::Map<String, Value> = serde_json::from_str(text)?;
        serde_json::from_value(object.into())
    }
}

/// Settings that were read, and other spellings of names.
#[derive(Debug)]
pub(crate) struct Book {
    known: Mutex<LruCache<SnapshotId, Arc<Settings>>>,
    /// For one state of the log.
    others: Mutex<(u64, Arc<Others>)>,
}

/// Which names are meant by those that are not there.
#[derive(Debug, Default)]
struct Others {
    former: HashMap<RepoName, RepoName>,
    /// By the lower-case spelling; `None` if several differ in case only.
    lower: HashMap<String, Option<RepoName>>,
}

/// What a name of a request stands for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stands {
    /// That name, or one that differs in case.
    For(RepoName),
    /// A name that has another one now.
    Moved(RepoName),
}

impl Book {
    pub(crate) fn new() -> Self {
        Self {
            known: Mutex::new(LruCache::new(KNOWN_MAX)),
            others: Mutex::default(),
        }
    }
}

/// Reads the settings that a snapshot of their branch has.
fn read(repo: &Repository, id: SnapshotId) -> Outcome<Settings> {
    let snapshot = repo.snapshot(id)?;
    let by = None;
    let found = Resolved { id, snapshot, by };
    match repo.node_in(&found, FILE)? {
        Some(Node::File { id, .. }) => {
            let text = facts::text(repo, id, LEN_MAX)?;
            Settings::parse(&text).map_err(|error| {
                let text = format!("{BRANCH}:{FILE} of this repository: {error}");
                Fail::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, text)
            })
        }
        _ => Ok(Settings::default()),
    }
}

/// Which names everybody may read who may read at all: for doors that know nobody by a token.
#[derive(Debug)]
pub struct OpenNames {
    repo: Arc<Repository>,
    known: Mutex<LruCache<SnapshotId, bool>>,
}

impl OpenNames {
    /// Those of a repository.
    #[must_use]
    pub fn new(repo: Arc<Repository>) -> Self {
        let known = Mutex::new(LruCache::new(KNOWN_MAX));
        Self { repo, known }
    }

    /// Whether a name is neither private nor gated. One whose settings cannot be read is not open.
    #[must_use]
    pub fn has(&self, refs: &RefsView, name: &RepoName) -> bool {
        let Ok(branch) = RefName::branch(name.clone(), BRANCH) else {
            return false;
        };
        let Some(id) = refs.refs.get(&branch) else {
            return true;
        };
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(id) {
            return *known;
        }
        let Ok(settings) = read(&self.repo, *id) else {
            return false;
        };
        let open = !settings.private && settings.gated == Gated::No;
        lock().put(*id, open);
        open
    }
}

impl Hub {
    /// What holds for a name.
    ///
    /// # Errors
    /// Those of reading; a file that is no such file is damage: nothing is public by mistake.
    pub(crate) fn settings(&self, name: &RepoName) -> Outcome<Arc<Settings>> {
        let branch = RefName::branch(name.clone(), BRANCH)?;
        match self.repo.refs()?.refs.get(&branch) {
            None => Ok(Arc::default()),
            Some(id) => self.settings_at(*id),
        }
    }

    fn settings_at(&self, id: SnapshotId) -> Outcome<Arc<Settings>> {
        let lock = || {
            self.book
                .known
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(known) = lock().get(&id) {
            return Ok(Arc::clone(known));
        }
        let settings = Arc::new(read(&self.repo, id)?);
        lock().put(id, Arc::clone(&settings));
        Ok(settings)
    }

    /// Writes what holds for a name; `onto` says whether the name is new.
    pub(crate) fn set(&self, name: &RepoName, to: &Settings, author: &str) -> Outcome<()> {
        let branch = RefName::branch(name.clone(), BRANCH)?;
        let onto = match self.repo.refs()?.refs.get(&branch) {
            Some(id) => Onto::Exactly(*id),
            None => Onto::NoBranch,
        };
        let folder = self.uploads.change()?;
        let text = serde_json::to_string_pretty(to).unwrap_or_default();
        std::fs::write(folder.path().join(FILE), text).map_err(of_io("keep settings"))?;
        let change = Change {
            folder: Some(folder.path().to_owned()),
            onto,
            message: "settings".to_owned(),
            author: Some(author.to_owned()),
            ..Change::default()
        };
        self.repo.change(&branch, &change)?;
        Ok(())
    }

    /// What a caller may do with a name.
    pub(crate) fn role(&self, caller: &Caller, name: &RepoName) -> Outcome<Role> {
        Ok(match self.settings(name)?.private {
            true => caller.granted(name),
            false => caller.with_name(name),
        })
    }

    /// Whether a caller may see a name.
    ///
    /// # Errors
    /// 404, as for a name that is not there; 401 where nobody reads without a token.
    pub(crate) fn sees(&self, caller: &Caller, name: &RepoName) -> Outcome<()> {
        let has = self.role(caller, name)?;
        if has == Role::Nobody && (caller.known || !self.gate.is_private()) {
            return Err(Fail::no_repo());
        }
        Ok(self.gate.check(caller, has, Role::Reader)?)
    }

    /// Whether a caller may have files of a name that they see.
    ///
    /// # Errors
    /// 401 or 403 with the code that says why.
    pub(crate) fn gets(&self, caller: &Caller, name: &RepoName) -> Outcome<()> {
        let free = self.settings(name)?.gated == Gated::No;
        match free || caller.granted(name) >= Role::Reader {
            true => Ok(()),
            false => Err(Fail::gated(name.short(), caller.known)),
        }
    }

    /// What a name of a request stands for.
    pub(crate) fn stands(&self, name: &RepoName) -> Outcome<Stands> {
        let refs = self.repo.refs()?;
        if refs.refs.keys().any(|r| r.repo == *name) {
            return Ok(Stands::For(name.clone()));
        }
        let mut others = self
            .book
            .others
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if others.0 != refs.seq {
            let mut found = Others::default();
            for (r, id) in &refs.refs {
                let lower = r.repo.as_str().to_lowercase();
                let same = found
                    .lower
                    .entry(lower)
                    .or_insert_with(|| Some(r.repo.clone()));
                if same.as_ref() != Some(&r.repo) {
                    *same = None;
                }
                if r.rev() == BRANCH {
                    let settings = self.settings_at(*id)?;
                    let former = settings
                        .formerly
                        .iter()
                        .filter_map(|name| name.parse().ok());
                    found
                        .former
                        .extend(former.map(|name| (name, r.repo.clone())));
                }
            }
            *others = (refs.seq, Arc::new(found));
        }
        let others = Arc::clone(&others.1);
        if let Some(now) = others.former.get(name) {
            return Ok(Stands::Moved(now.clone()));
        }
        let same = others.lower.get(&name.as_str().to_lowercase());
        let same = same.cloned().flatten();
        Ok(Stands::For(same.unwrap_or_else(|| name.clone())))
    }

    /// A name has another one now, under which its settings are already.
    pub(crate) fn moved(&self, from: &RepoName, to: &RepoName, author: &str) -> Outcome<()> {
        let mut settings = Settings::clone(&*self.settings(to)?);
        let other = |name: &String| name != to.as_str() && name != from.as_str();
        settings.formerly.retain(other);
        settings.formerly.push(from.to_string());
        let too_many = settings.formerly.len().saturating_sub(FORMERLY_MAX);
        settings.formerly.drain(..too_many);
        self.set(to, &settings, author)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_they_are_written() {
        let all = Settings {
            private: true,
            gated: Gated::Manual,
            formerly: vec!["models/a/b".to_owned()],
        };
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(Settings::parse(&text).unwrap(), all);
        assert_eq!(Settings::parse("{}").unwrap(), Settings::default());
        for bad in [
            "",
            "[]",
            r#"{"privat":true}"#,
            r#"{"gated":true}"#,
            r#"{"formerly":[1]}"#,
        ] {
            assert!(Settings::parse(bad).is_err(), "{bad}");
        }
    }
}
