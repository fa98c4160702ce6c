//! What the engine of a simulated world holds, what it held before, and what a power cut undoes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, Result};

use super::random::Random;
use crate::backend::Backend;
use crate::staging::MemoryStaging;

/// A change of the engine. The same one may arrive late, or twice.
#[derive(Debug, Clone)]
pub(super) enum Effect {
    /// Writes an object, or creates it only if there is none.
    Put {
        name: String,
        bytes: Bytes,
        create: bool,
    },
    /// Deletes an object.
    Delete { name: String },
}

impl Effect {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Put { name, .. } | Self::Delete { name } => name,
        }
    }
}

/// A staged file that was renamed, and comes back if the rename does not last.
#[derive(Debug, Clone)]
pub(super) struct Renamed {
    pub(super) machine: usize,
    pub(super) bytes: Bytes,
}

/// How a name was before changes that may not last.
#[derive(Debug)]
struct Before {
    bytes: Option<Bytes>,
    renamed: Option<Renamed>,
}

#[derive(Debug)]
pub(super) struct Disk {
    objects: Arc<InMemory>,
    raw: Backend,
    /// Each change: when, which name, and its length then.
    history: Vec<(u64, String, Option<u64>)>,
    /// Names that were changed in a directory which was not synced since.
    volatile: BTreeMap<String, Before>,
    /// Objects whose bytes were not synced when they got their names, with what was.
    unsynced: BTreeMap<String, Bytes>,
}

/// Futures of an engine in memory are ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    future
        .now_or_never()
        .expect("an engine in memory never waits")
}

pub(super) fn folder(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

impl Disk {
    /// Of these objects; `log_elsewhere` says whether the log has an engine of its own.
    pub(super) fn new(objects: InMemory, log_elsewhere: bool) -> Self {
        let objects = Arc::new(objects);
        let staging = Arc::new(MemoryStaging::default());
        let mut raw = Backend::custom("inspector", Arc::clone(&objects) as _, staging);
        if log_elsewhere {
            let log = raw.log_engine();
            raw = raw.with_log(log);
        }
        let mut disk = Self {
            objects,
            raw,
            history: Vec::new(),
            volatile: BTreeMap::new(),
            unsynced: BTreeMap::new(),
        };
        disk.history = disk
            .list("mmh")
            .into_iter()
            .map(|(name, len)| (0, name, Some(len)))
            .collect();
        disk
    }

    /// The engine without faults, for whoever looks from outside.
    pub(super) fn raw(&self) -> &Backend {
        &self.raw
    }

    pub(super) fn objects(&self) -> &InMemory {
        &self.objects
    }

    pub(super) fn read(&self, name: &str) -> Option<Bytes> {
        let got = now(self.objects.get(&Path::from(name))).ok()?;
        now(got.bytes()).ok()
    }

    /// All names that begin with `prefix` and their lengths.
    pub(super) fn list(&self, prefix: &str) -> Vec<(String, u64)> {
        now(self.raw.list(prefix)).unwrap_or_default()
    }

    /// The names as they were at `at_ms`.
    pub(super) fn list_as_of(&self, prefix: &str, at_ms: u64) -> Vec<(String, u64)> {
        let mut names = BTreeMap::new();
        for (_, name, len) in self.history.iter().take_while(|(ms, ..)| *ms <= at_ms) {
            match len {
                Some(len) => drop(names.insert(name.clone(), *len)),
                None => drop(names.remove(name)),
            }
        }
        let below = |name: &str| {
            name.strip_prefix(prefix)
                .is_some_and(|rest| rest.starts_with('/'))
        };
        names.into_iter().filter(|(name, _)| below(name)).collect()
    }

    /// Makes a change; `lasts` says whether it outlives a power cut from the beginning.
    pub(super) fn apply(&mut self, effect: &Effect, now_ms: u64, lasts: bool) -> Result<()> {
        let path = Path::from(effect.name());
        let before = if lasts {
            None
        } else {
            self.read(effect.name())
        };
        let len = match effect {
            Effect::Put { bytes, create, .. } => {
                let mode = if *create {
                    PutMode::Create
                } else {
                    PutMode::Overwrite
                };
                let options = PutOptions::from(mode);
                now(self.objects.put_opts(&path, bytes.clone().into(), options))?;
                Some(bytes.len() as u64)
            }
            Effect::Delete { .. } => {
                now(self.objects.delete(&path))?;
                None
            }
        };
        self.history.push((now_ms, effect.name().to_owned(), len));
        if !lasts {
            self.volatile
                .entry(effect.name().to_owned())
                .or_insert(Before {
                    bytes: before,
                    renamed: None,
                });
        }
        Ok(())
    }

    /// Says that an object was a staged file before, and will be again if its name is lost.
    pub(super) fn was_renamed(&mut self, name: &str, renamed: Renamed) {
        if let Some(before) = self.volatile.get_mut(name) {
            before.renamed = Some(renamed);
        }
    }

    /// Says that of an object's bytes only these are on the disk.
    pub(super) fn was_not_synced(&mut self, name: &str, synced: Bytes) {
        self.unsynced.insert(name.to_owned(), synced);
    }

    /// Everything in the folder lasts from now on.
    pub(super) fn sync_folder(&mut self, of: &str) {
        self.volatile.retain(|name, _| folder(name) != of);
    }

    #[cfg(test)]
    /// Whether the object would outlive a power cut.
    pub(super) fn lasts(&self, name: &str) -> bool {
        !self.volatile.contains_key(name)
    }

    /// Cuts the power: of what was not synced, any part may be as it was before. Returns staged
    /// files that came back.
    pub(super) fn power_cut(&mut self, rng: &mut Random, now_ms: u64) -> Vec<Renamed> {
        let mut back = Vec::new();
        for (name, before) in std::mem::take(&mut self.volatile) {
            if rng.one_in(2) {
                continue;
            }
            let effect = match before.bytes {
                Some(bytes) => Effect::Put {
                    name,
                    bytes,
                    create: false,
                },
                None => Effect::Delete { name },
            };
            // What was deleted since is not there to be deleted.
            let _gone = self.apply(&effect, now_ms, true).is_err();
            back.extend(before.renamed);
        }
        for (name, bytes) in std::mem::take(&mut self.unsynced) {
            if self.read(&name).is_some() {
                let create = false;
                let cut = Effect::Put {
                    name,
                    bytes,
                    create,
                };
                let _done = self.apply(&cut, now_ms, true).is_ok();
            }
        }
        back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(name: &str, text: &'static str, create: bool) -> Effect {
        Effect::Put {
            name: name.to_owned(),
            bytes: Bytes::from_static(text.as_bytes()),
            create,
        }
    }

    fn delete(name: &str) -> Effect {
        Effect::Delete {
            name: name.to_owned(),
        }
    }

    #[test]
    fn a_create_is_refused_where_there_is_one() {
        let mut disk = Disk::new(InMemory::new(), false);
        disk.apply(&put("mmh/a", "1", true), 1, true).unwrap();
        disk.apply(&put("mmh/a", "2", true), 2, true).unwrap_err();
        assert_eq!(disk.read("mmh/a").unwrap(), "1");
        disk.apply(&put("mmh/a", "3", false), 3, true).unwrap();
        assert_eq!(disk.read("mmh/a").unwrap(), "3");
    }

    #[test]
    fn the_past_can_be_listed() {
        let mut disk = Disk::new(InMemory::new(), false);
        disk.apply(&put("mmh/x/a", "1", true), 10, true).unwrap();
        disk.apply(&put("mmh/xy/b", "1", true), 20, true).unwrap();
        disk.apply(&delete("mmh/x/a"), 30, true).unwrap();
        let a = [("mmh/x/a".to_owned(), 1)];
        assert_eq!(disk.list_as_of("mmh/x", 9), []);
        assert_eq!(disk.list_as_of("mmh/x", 29), a);
        assert_eq!(disk.list_as_of("mmh/x", 30), []);
    }

    #[test]
    fn an_object_that_was_not_synced_is_cut() {
        let mut disk = Disk::new(InMemory::new(), false);
        disk.apply(&put("mmh/a/x", "12", true), 1, true).unwrap();
        disk.was_not_synced("mmh/a/x", Bytes::from_static(b"1"));
        disk.power_cut(&mut Random::new(1), 2);
        assert_eq!(disk.read("mmh/a/x").unwrap(), "1");
    }

    /// Over many cuts each change that was not synced is lost sometimes and kept sometimes, and
    /// what was synced is never lost.
    #[test]
    fn a_power_cut_undoes_what_was_not_synced() {
        let mut seen = [[false; 2]; 3];
        for seed in 0..50 {
            let mut disk = Disk::new(InMemory::new(), false);
            disk.apply(&put("mmh/a/synced", "1", true), 1, false)
                .unwrap();
            disk.sync_folder("mmh/a");
            assert!(disk.lasts("mmh/a/synced"));
            disk.apply(&put("mmh/a/synced", "2", false), 2, false)
                .unwrap();
            disk.apply(&put("mmh/b/new", "1", true), 3, false).unwrap();
            let renamed = Renamed {
                machine: 0,
                bytes: Bytes::from_static(b"1"),
            };
            disk.was_renamed("mmh/b/new", renamed);
            disk.apply(&put("mmh/c/gone", "1", true), 4, true).unwrap();
            disk.apply(&delete("mmh/c/gone"), 5, false).unwrap();
            assert!(!disk.lasts("mmh/b/new"));
            let back = disk.power_cut(&mut Random::new(seed), 6);
            let kept = [
                disk.read("mmh/a/synced").unwrap() == "2",
                disk.read("mmh/b/new").is_some(),
                disk.read("mmh/c/gone").is_none(),
            ];
            assert_eq!(back.len(), usize::from(!kept[1]), "the file comes back");
            for (seen, kept) in seen.iter_mut().zip(kept) {
                seen[usize::from(kept)] = true;
            }
            assert!(
                disk.lasts("mmh/b/new"),
                "after a cut all that is there lasts"
            );
        }
        assert_eq!(seen, [[true; 2]; 3]);
    }
}
