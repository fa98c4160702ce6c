//! The same repository in another place: with the same id, keys, names and history.
//!
//! A whole clone is copied byte for byte, operations included, and becomes a repository with its
//! last object. A clone of some names is made as an empty repository of that id with those keys, and
//! the names are sent to it; begun again, it goes on.

use std::sync::Arc;

use mmh_core::SnapshotId;
use mmh_core::name::{DEFAULT_BRANCH, RefName, Target};
use mmh_crypto::seed::{Scope, Seed};
use mmh_store::{Access, Backend};

use crate::error::{Error, Result};
use crate::repository::{Components, Repository, Settings};
use crate::sync::{SyncOptions, SyncReport};

/// What a clone has.
#[derive(Debug)]
pub struct Cloned {
    /// The new repository.
    pub repository: Repository,
    /// The place it was copied from.
    pub from: String,
    /// Bytes copied.
    pub bytes: u64,
    /// What was sent, if the clone does not have all names.
    pub report: Option<SyncReport>,
}

/// Copies a repository from the first of the seed's places that has it: as much of it as the seed
/// is for, and of that only `names`, if there are any. Whoever has the seed opens both.
///
/// # Errors
/// NotFound if no hint leads to the repository, or a name is not there; Corrupt if what is there is
/// damaged or older than the seed; Invalid if there is another repository at `dest` already.
pub fn clone_seed(
    seed: &Seed,
    names: &[Target],
    dest: Backend,
    settings: Settings,
    components: Components,
) -> Result<Cloned> {
    let components = Components {
        key: Arc::new(seed.key.clone()),
        ..components
    };
    let access = Access {
        log: None,
        ..dest.access().clone()
    };
    let mut failures = Vec::new();
    for hint in &seed.hints {
        let opened = Backend::parse_existing(hint, &access)
            .map_err(Error::from)
            .and_then(|from| Repository::open(from, settings.clone(), components.clone()));
        let source = match opened {
            Ok(source) => source,
            Err(error) => {
                failures.push(format!("{}: {error}", mmh_core::error::shorten(hint)));
                continue;
            }
        };
        source.check_state(seed)?;
        let mut options = SyncOptions {
            names: names.to_vec(),
            ..SyncOptions::default()
        };
        match (&seed.scope, seed.state) {
            (Scope::Name(name), _) if names.is_empty() => {
                let (repo, rev, path) = (name.clone(), None, None);
                options.names = vec![Target { repo, rev, path }];
            }
            (Scope::Name(name), _) => {
                if let Some(other) = names.iter().find(|target| target.repo != *name) {
                    return Err(Error::Denied(format!(
                        "the seed is for {name}, not `{other}`"
                    )));
                }
            }
            (Scope::Snapshot, Some(state)) => {
                options.at = source.where_it_is(SnapshotId::from_digest(state))?;
            }
            (Scope::Repository | Scope::Snapshot, _) => {}
        }
        return clone_from(&source, hint, options, dest, (settings, components));
    }
    if failures.is_empty() {
        failures.push("the seed names no place".to_owned());
    }
    Err(Error::not_found(
        "a store for this seed",
        &failures.join("; "),
    ))
}

/// Copies an open repository, or some names of it.
///
/// # Errors
/// As [`clone_seed`]; Denied for an archive.
pub fn clone_place(
    source: &Repository,
    names: &[Target],
    dest: Backend,
    settings: Settings,
    components: Components,
) -> Result<Cloned> {
    let options = SyncOptions {
        names: names.to_vec(),
        ..SyncOptions::default()
    };
    let from = source.store()?.backend();
    let root = from.root().map(|root| root.display().to_string());
    let from = root.unwrap_or_else(|| from.name().to_owned());
    let mut components = components;
    if let Some(key) = source.store()?.key() {
        components.key = Arc::new(key.clone());
    }
    clone_from(source, &from, options, dest, (settings, components))
}

fn clone_from(
    source: &Repository,
    from: &str,
    mut options: SyncOptions,
    dest: Backend,
    (settings, components): (Settings, Components),
) -> Result<Cloned> {
    let (store, c) = (source.store()?, &components);
    let whole = options.names.is_empty() && options.at.is_empty();
    if whole {
        let copied = store.copy_to(&dest, c.progress.as_ref(), &c.cancel);
        let bytes = source.block_on(copied)?;
        let repository = Repository::open(dest, settings, components)?;
        repository.block_on(repository.store()?.recover())?;
        return Ok(Cloned {
            repository,
            from: from.to_owned(),
            bytes,
            report: None,
        });
    }
    source.block_on(store.found_at(&dest))?;
    let repository = Repository::open(dest, settings, components)?;
    options.command = format!("clone {from}");
    let report = source.send(&repository, &options)?;
    Ok(Cloned {
        repository,
        from: from.to_owned(),
        bytes: report.bytes,
        report: Some(report),
    })
}

impl Repository {
    /// Refs that are to name a snapshot in a clone that has nothing else: those that do here, else
    /// the first branch of the name whose history has it.
    fn where_it_is(&self, id: SnapshotId) -> Result<Vec<(RefName, SnapshotId)>> {
        let refs = self.refs()?;
        let by_people = refs.refs.iter().filter(|(name, _)| name.is_by_people());
        let tips: Vec<(&RefName, &SnapshotId)> = by_people.collect();
        let exact = tips.iter().filter(|(_, tip)| **tip == id);
        let exact: Vec<_> = exact.map(|(name, _)| ((*name).clone(), id)).collect();
        if !exact.is_empty() {
            return Ok(exact);
        }
        for (name, tip) in tips {
            for entry in self.history(vec![*tip])? {
                if entry?.0 == id {
                    let branch = RefName::branch(name.repo.clone(), DEFAULT_BRANCH)?;
                    return Ok(vec![(branch, id)]);
                }
            }
        }
        Err(Error::not_found("a name for snapshot", &id.to_string()))
    }
}
