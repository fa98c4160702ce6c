//! Checking: is every byte there and right, and if not, which names and files are hit.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Mutex;

use mmh_core::name::Target;
use mmh_core::tree::Node;
use mmh_core::{ChunkId, ErrorKind, FileId, SnapshotId, TreeId};
use mmh_store::VerifyOptions;
use rayon::prelude::*;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::list::Listed;
use crate::objects;
use crate::repository::{Backing, Repository};

/// Something that is damaged or missing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The name, revision and path that are hit; empty if nothing reachable is.
    pub target: String,
    /// What does not hold, with ids and offsets.
    pub problem: String,
}

/// What a check read and found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CheckReport {
    /// Packs read.
    pub packs: u64,
    /// Distinct chunks compared with their digests.
    pub chunks: u64,
    /// Their raw bytes.
    pub bytes: u64,
    /// Snapshots walked.
    pub snapshots: u64,
    /// Files walked, each content once.
    pub files: u64,
    /// What does not hold.
    pub findings: Vec<Finding>,
    /// Harmless irregularities, such as packs that the next writer will index.
    pub remarks: Vec<String>,
}

impl CheckReport {
    /// Whether everything holds.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

#[derive(Debug, Default)]
struct Walk {
    snapshots: HashSet<SnapshotId>,
    trees: HashSet<TreeId>,
    files: HashSet<FileId>,
    chunks: HashMap<ChunkId, Vec<String>>,
    findings: BTreeSet<Finding>,
}

/// Most places that are remembered for one chunk.
const PLACES_MAX: usize = 16;

impl Repository {
    /// Checks everything: packs, indexes and log, then that every branch and tag with its history
    /// reaches only what is there and right.
    ///
    /// # Errors
    /// `Unavailable` if the store cannot be read or the user cancels. Damage is no error: it is
    /// in the report.
    pub fn check_all(&self) -> Result<CheckReport> {
        let mut report = CheckReport::default();
        let mut bad: HashMap<ChunkId, String> = HashMap::new();
        let c = &self.shop.components;
        let found = match &self.backing {
            Backing::Store(store) => {
                let options = VerifyOptions {
                    decode: true,
                    ..VerifyOptions::default()
                };
                self.block_on(store.verify(options, c.progress.as_ref(), &c.cancel))?
            }
            Backing::Archive(archive, _) => archive.verify(c.progress.as_ref(), &c.cancel)?,
        };
        report.packs = found.packs;
        report.bytes = found.raw_bytes;
        report.chunks = found.chunks;
        for pack in found.unindexed_packs {
            report
                .remarks
                .push(format!("pack {pack} is not indexed yet; the next add will"));
        }
        for pack in &found.missing_packs {
            let problem = format!("pack {pack} is named by the index and missing");
            report.findings.push(Finding {
                target: String::new(),
                problem,
            });
        }
        for damage in found.damage {
            let problem = format!("{}: {}", damage.object, damage.reason);
            if let Some(chunk) = damage.chunk {
                bad.insert(chunk, problem.clone());
            }
            report.findings.push(Finding {
                target: String::new(),
                problem,
            });
        }
        let mut walk = Walk::default();
        for (name, id) in &self.refs()?.refs {
            self.walk_history(*id, &name.to_string(), &mut walk)?;
        }
        let mut located = walk
            .chunks
            .iter()
            .map(|(id, places)| (*id, places))
            .collect::<Vec<_>>();
        located.sort_unstable();
        for (id, places) in located {
            let problem = match (bad.get(&id), self.source().locate(&id)) {
                (Some(problem), _) => problem.clone(),
                (None, Ok(Some(_))) => continue,
                (None, Ok(None)) => format!("chunk {id} is missing"),
                (None, Err(e)) => e.to_string(),
            };
            let finding = |t: &String| Finding {
                target: t.clone(),
                problem: problem.clone(),
            };
            walk.findings.extend(places.iter().map(finding));
        }
        self.conclude(walk, report)
    }

    /// Reads every byte of some targets and compares it with its digest.
    ///
    /// # Errors
    /// `NotFound` for an unknown target; `Unavailable`. Damage is in the report.
    pub fn check_targets(&self, targets: &[Target]) -> Result<CheckReport> {
        let mut report = CheckReport::default();
        let mut walk = Walk::default();
        for target in targets {
            self.walk_target(target, &mut walk)?;
        }
        let mut chunks: Vec<_> = walk.chunks.drain().collect();
        chunks.sort_unstable();
        report.chunks = chunks.len() as u64;
        let components = &self.shop.components;
        components.progress.begin("verifying", None);
        let findings = Mutex::new(BTreeSet::new());
        let read = components.pool.install(|| {
            chunks
                .par_iter()
                .try_fold(
                    || 0u64,
                    |sum, (id, places)| -> Result<u64> {
                        components.cancel.check()?;
                        match self.source().get(id) {
                            Ok(bytes) => {
                                components.progress.advance(bytes.len() as u64);
                                Ok(sum + bytes.len() as u64)
                            }
                            Err(e) => {
                                let problem = damage(Error::Store(e))?;
                                let finding = |t: &String| Finding {
                                    target: t.clone(),
                                    problem: problem.clone(),
                                };
                                if let Ok(mut all) = findings.lock() {
                                    all.extend(places.iter().map(finding));
                                }
                                Ok(sum)
                            }
                        }
                    },
                )
                .try_reduce(|| 0, |a, b| Ok(a + b))
        });
        components.progress.end();
        report.bytes = read?;
        walk.findings
            .extend(findings.into_inner().unwrap_or_default());
        self.conclude(walk, report)
    }

    fn conclude(&self, walk: Walk, mut report: CheckReport) -> Result<CheckReport> {
        self.shop.components.cancel.check()?;
        report.snapshots = walk.snapshots.len() as u64;
        report.files = walk.files.len() as u64;
        report.findings.extend(walk.findings);
        Ok(report)
    }

    fn walk_target(&self, target: &Target, walk: &mut Walk) -> Result<()> {
        let Some(path) = &target.path else {
            let tip = self.resolve(target)?;
            walk.snapshots.insert(tip.id);
            return self.walk_tree(tip.snapshot.tree, &format!("{target}:"), walk);
        };
        let prefix = format!(
            "{}:{path}",
            Target {
                path: None,
                ..target.clone()
            }
        );
        match self.node(target)? {
            Node::Dir { id } => self.walk_tree(id, &format!("{prefix}/"), walk),
            Node::File { id, .. } => self.walk_file(id, &prefix, walk),
            Node::Link { .. } => Ok(()),
        }
    }

    /// Walks a snapshot and all it came from.
    fn walk_history(&self, tip: SnapshotId, name: &str, walk: &mut Walk) -> Result<()> {
        let mut open = vec![tip];
        while let Some(id) = open.pop() {
            self.shop.components.cancel.check()?;
            if !walk.snapshots.insert(id) {
                continue;
            }
            let place = if id == tip {
                name.to_owned()
            } else {
                format!("{name} (history, {id})")
            };
            walk.note(id.object().chunk(), &place);
            match objects::snapshot(self.source(), id) {
                Ok(snapshot) => {
                    open.extend(snapshot.parents);
                    self.walk_tree(snapshot.tree, &format!("{place}:"), walk)?;
                }
                Err(e) => walk.find(&place, damage(e)?),
            }
        }
        Ok(())
    }

    fn walk_tree(&self, tree: TreeId, prefix: &str, walk: &mut Walk) -> Result<()> {
        if !walk.trees.insert(tree) {
            return Ok(());
        }
        let mut below = Vec::new();
        match self.list_below(tree, "", true, &mut below) {
            Ok(()) => {}
            Err(e) => walk.find(prefix, damage(e)?),
        }
        for Listed { path, node } in below {
            if let Node::File { id, .. } = node {
                self.walk_file(id, &format!("{prefix}{path}"), walk)?;
            }
        }
        Ok(())
    }

    fn walk_file(&self, id: FileId, place: &str, walk: &mut Walk) -> Result<()> {
        if !walk.files.insert(id) {
            return Ok(());
        }
        walk.note(id.object().chunk(), place);
        let visited = self.open_file(id).and_then(|reader| {
            reader.for_each_chunk(&mut |chunk, _| {
                walk.note(chunk, place);
                Ok(())
            })
        });
        match visited {
            Ok(()) => Ok(()),
            Err(e) => {
                walk.find(place, damage(e)?);
                Ok(())
            }
        }
    }
}

/// Turns an error that means damage into a text, and passes any other on.
fn damage(error: Error) -> Result<String> {
    match error.kind() {
        ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Invalid => Ok(error.to_string()),
        _ => Err(error),
    }
}

impl Walk {
    fn note(&mut self, chunk: ChunkId, place: &str) {
        let places = self.chunks.entry(chunk).or_default();
        if places.len() < PLACES_MAX && places.last().is_none_or(|p| p != place) {
            places.push(place.to_owned());
        }
    }

    fn find(&mut self, target: &str, problem: String) {
        self.findings.insert(Finding {
            target: target.to_owned(),
            problem,
        });
    }
}
