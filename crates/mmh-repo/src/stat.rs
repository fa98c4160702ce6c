//! Where bytes are saved: how much is there, how much of it is equal, how far the rest shrank.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use mmh_codec::Method;
use mmh_core::name::{RefName, RepoName, Target};
use mmh_core::tree::Node;
use mmh_core::{ChunkId, FileId, TreeId};
use serde::Serialize;

use crate::add::as_text;
use crate::error::{Error, Result};
use crate::list::Listed;
use crate::repository::Repository;

/// Sizes of one thing (a file, a name, the repository) and the causes of the saving, in bytes.
/// `raw - duplicates - coding - delta - derived = stored`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Saving {
    /// Bytes of the files as users see them.
    pub raw: u64,
    /// Bytes kept for them, without trees and other objects.
    pub stored: u64,
    /// Saved because the same bytes occur again.
    pub duplicates: u64,
    /// Saved by compression; negative where frames cost more than they save.
    pub coding: i64,
    /// Saved by storing differences from other versions: all that chunks with a base save.
    pub delta: u64,
    /// Saved by dropping what can be derived. Always 0 until derivations are written.
    pub derived: u64,
}

/// One file in a report.
#[derive(Debug, Clone, Serialize)]
pub struct FileStat {
    /// Which target it belongs to.
    #[serde(serialize_with = "as_text")]
    pub name: Arc<str>,
    /// Its path.
    pub path: String,
    /// The container that was recognised.
    #[serde(serialize_with = "as_text")]
    pub container: Arc<str>,
    /// Why it is kept as bytes although it looked like a container.
    pub note: Option<String>,
    /// Its share; what an earlier file of the report brought counts as duplicates.
    pub saving: Saving,
}

/// One target in a report.
#[derive(Debug, Clone, Serialize)]
pub struct NameStat {
    /// The target as given.
    pub name: String,
    /// Its share, counted alone: equal bytes of other targets do not count as duplicates.
    pub alone: Saving,
    /// Raw bytes of it that other targets of the report hold too.
    pub shared: u64,
}

/// Where the bytes of some targets are.
#[derive(Debug, Clone, Serialize)]
pub struct StatReport {
    /// Each target.
    pub names: Vec<NameStat>,
    /// Each file, in order of target and path, if that was asked for.
    pub files: Vec<FileStat>,
    /// Everything together.
    pub total: Saving,
    /// Stored bytes by coding method.
    pub methods: BTreeMap<String, MethodStat>,
    /// Distinct chunks of the files.
    pub chunks: u64,
    /// Bytes of all packs and indexes of the repository, history and objects included.
    pub on_disk: u64,
}

/// Chunks that one method coded.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct MethodStat {
    /// How many.
    pub chunks: u64,
    /// Their raw bytes.
    pub raw: u64,
    /// Their stored bytes.
    pub stored: u64,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    raw_len: u32,
    stored_len: u32,
    method: u8,
    /// The target that brought it, and whether another has it too.
    first: usize,
    shared: bool,
}

#[derive(Debug, Default)]
struct Counter {
    seen: HashMap<ChunkId, Seen>,
    total: Saving,
}

/// What a target holds by itself.
enum Alone {
    /// Counted from its files.
    Counted(Counter),
    /// Everything, as it is the only target.
    Sole,
    /// The same tree as an earlier target of the same name, which is counted once.
    Same(usize),
}

impl Alone {
    fn same(&self) -> Option<usize> {
        match self {
            Self::Counted(_) | Self::Sole => None,
            Self::Same(first) => Some(*first),
        }
    }
}

impl Repository {
    /// Reports on some targets; on every branch and tag without any. With `each`, every file is
    /// reported on too.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` if an object is damaged or a chunk is missing.
    pub fn stat(&self, targets: &[Target], each: bool) -> Result<StatReport> {
        let targets = if targets.is_empty() {
            self.all_targets()?
        } else {
            targets.to_vec()
        };
        let mut counter = Counter::default();
        let (mut files, mut alone) = (Vec::new(), Vec::new());
        let mut containers: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut done: HashMap<(TreeId, RepoName), usize> = HashMap::new();
        for (i, target) in targets.iter().enumerate() {
            let node = self.find_node(target)?;
            if let Node::Dir { id } = node {
                let first = *done.entry((id, target.repo.clone())).or_insert(i);
                if first != i {
                    alone.push(Alone::Same(first));
                    continue;
                }
            }
            let mut own = (targets.len() > 1).then(Counter::default);
            let name: Arc<str> = target.to_string().into();
            let mut count = |Listed { path, node }| {
                let Node::File { id, .. } = node else {
                    return Ok(());
                };
                self.shop.components.cancel.check()?;
                let counters = (&mut counter, own.as_mut());
                let (saving, file) = self.count_file(id, i, counters)?;
                if each {
                    let container = match containers.get(&*file.container) {
                        Some(known) => Arc::clone(known),
                        None => file.container.into(),
                    };
                    containers.insert(Arc::clone(&container));
                    files.push(FileStat {
                        name: Arc::clone(&name),
                        path,
                        container,
                        note: file.note,
                        saving,
                    });
                }
                Ok(())
            };
            match node {
                Node::Dir { id } => self.each_below((id, ""), true, &mut count)?,
                node => count(Listed {
                    path: target.path.clone().unwrap_or_default(),
                    node,
                })?,
            }
            alone.push(own.map_or(Alone::Sole, Alone::Counted));
        }
        let names = name_stats(&targets, &alone, &counter);
        let mut methods: BTreeMap<String, MethodStat> = BTreeMap::new();
        #[allow(
            clippy::iter_over_hash_type,
            reason = "sums do not depend on the order"
        )]
        for seen in counter.seen.values() {
            let method = methods.entry(method_name(seen.method)).or_default();
            method.chunks += 1;
            method.raw += u64::from(seen.raw_len);
            method.stored += u64::from(seen.stored_len);
        }
        let (total, chunks) = (counter.total, counter.seen.len() as u64);
        Ok(StatReport {
            names,
            files,
            total,
            methods,
            chunks,
            on_disk: self.on_disk()?,
        })
    }

    pub(crate) fn all_targets(&self) -> Result<Vec<Target>> {
        let target = |r: &RefName| Target {
            rev: Some(r.rev().to_owned()),
            repo: r.repo.clone(),
            path: None,
        };
        Ok(self.refs()?.refs.keys().map(target).collect())
    }

    fn count_file(
        &self,
        id: FileId,
        target: usize,
        (all, mut own): (&mut Counter, Option<&mut Counter>),
    ) -> Result<(Saving, mmh_core::object::File)> {
        let reader = self.open_file(id)?;
        let mut saving = Saving {
            raw: reader.size(),
            ..Saving::default()
        };
        if let Some(own) = &mut own {
            own.total.raw += reader.size();
        }
        all.total.raw += reader.size();
        let mut covered = HashMap::new();
        reader.for_each_chunk(&mut |chunk, len| {
            *covered.entry(chunk).or_insert(0u64) += u64::from(len);
            Ok(())
        })?;
        #[allow(
            clippy::iter_over_hash_type,
            reason = "sums do not depend on the order"
        )]
        for (chunk, len) in covered {
            let part = self.count_chunk(chunk, len, target, all)?;
            if let Some(own) = &mut own {
                own.add(chunk, len, all.seen[&chunk]);
            }
            saving.stored += part.stored;
            saving.duplicates += part.duplicates;
            saving.coding += part.coding;
            saving.delta += part.delta;
        }
        all.total.stored += saving.stored;
        all.total.duplicates += saving.duplicates;
        all.total.coding += saving.coding;
        all.total.delta += saving.delta;
        Ok((saving, reader.into_file()))
    }

    fn count_chunk(
        &self,
        chunk: ChunkId,
        len: u64,
        target: usize,
        all: &mut Counter,
    ) -> Result<Saving> {
        if let Some(seen) = all.seen.get_mut(&chunk) {
            seen.shared |= seen.first != target;
            return Ok(Saving {
                duplicates: len,
                ..Saving::default()
            });
        }
        let info = self
            .source()
            .locate(&chunk)?
            .ok_or_else(|| Error::Corrupt(format!("chunk {chunk} is missing from every pack")))?;
        let (raw_len, stored_len, method) = (info.raw_len, info.stored_len, info.method);
        all.seen.insert(
            chunk,
            Seen {
                raw_len,
                stored_len,
                method,
                first: target,
                shared: false,
            },
        );
        Ok(first_use(len, &all.seen[&chunk]))
    }

    fn on_disk(&self) -> Result<u64> {
        match &self.backing {
            crate::repository::Backing::Store(store) => {
                let stats = self.block_on(store.stats())?;
                Ok(stats.pack_bytes + stats.index_bytes)
            }
            crate::repository::Backing::Archive(_, len) => Ok(*len),
        }
    }
}

/// One line for each target.
fn name_stats(targets: &[Target], alone: &[Alone], all: &Counter) -> Vec<NameStat> {
    let named_again: HashSet<usize> = alone.iter().filter_map(Alone::same).collect();
    let line = |(i, target): (usize, &Target)| {
        let first = alone[i].same().unwrap_or(i);
        let (mut saving, mut shared) = (Saving::default(), 0);
        if let Alone::Sole = &alone[first] {
            saving = all.total;
        }
        if let Alone::Counted(own) = &alone[first] {
            saving = own.total;
            let elsewhere = |id: &ChunkId| {
                named_again.contains(&first) || all.seen.get(id).is_some_and(|s| s.shared)
            };
            let held = own.seen.iter().filter(|(id, _)| elsewhere(id));
            shared = held.map(|(_, s)| u64::from(s.raw_len)).sum();
        }
        NameStat {
            name: target.to_string(),
            alone: saving,
            shared,
        }
    };
    targets.iter().enumerate().map(line).collect()
}

fn method_name(code: u8) -> String {
    Method::try_from(code & mmh_codec::METHOD_BITS)
        .map_or_else(|_| format!("method {code}"), |m| m.as_str().to_owned())
}

/// What the first occurrence of a chunk saves. A pooled chunk counts wholly where it is first
/// used; what else of the file lies in it repeatedly counts as duplicates.
fn first_use(len: u64, seen: &Seen) -> Saving {
    let (raw_len, stored) = (u64::from(seen.raw_len), u64::from(seen.stored_len));
    let duplicates = len.saturating_sub(raw_len);
    let saved = (len - duplicates).cast_signed() - stored.cast_signed();
    let (coding, delta) = match u64::try_from(saved) {
        Ok(delta) if is_difference(seen.method) => (0, delta),
        _ => (saved, 0),
    };
    Saving {
        stored,
        duplicates,
        coding,
        delta,
        ..Saving::default()
    }
}

fn is_difference(code: u8) -> bool {
    code & mmh_codec::METHOD_BITS == Method::Delta.code()
}

impl Counter {
    fn add(&mut self, chunk: ChunkId, len: u64, seen: Seen) {
        let part = if self.seen.insert(chunk, seen).is_some() {
            Saving {
                duplicates: len,
                ..Saving::default()
            }
        } else {
            first_use(len, &seen)
        };
        self.total.stored += part.stored;
        self.total.duplicates += part.duplicates;
        self.total.coding += part.coding;
        self.total.delta += part.delta;
    }
}

#[cfg(test)]
mod tests;
