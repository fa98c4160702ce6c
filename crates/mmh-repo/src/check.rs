//! Checking: is every byte there and right, and if not, which names and files are hit.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use mmh_core::name::Target;
use mmh_core::tree::{Entry, Node};
use mmh_core::{ChunkId, ErrorKind, FileId, SnapshotId, TreeId, limits};
use mmh_store::{ChunkSource, VerifyOptions};
use rayon::prelude::*;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::objects;
use crate::read::FileReader;
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

/// What a walk over names, folders and files has seen. Each distinct object is looked at once,
/// so that neither long histories nor hostile trees cost more than what is stored; for each
/// distinct chunk it keeps 20 to 40 bytes.
struct Walk<'a> {
    source: &'a dyn ChunkSource,
    snapshots: HashSet<SnapshotId>,
    trees: HashSet<TreeId>,
    files: HashSet<(Key, u64)>,
    chunks: HashSet<Key>,
    /// What is wrong with the chunks that are not right.
    bad: HashMap<ChunkId, String>,
    /// Chunks to be read, if this walk reads, with the places that want them.
    queue: Option<HashMap<ChunkId, Vec<Arc<str>>>>,
    /// Snapshots whose trees may be gone.
    pruned: BTreeSet<SnapshotId>,
    /// Bytes read and compared.
    bytes: u64,
    findings: BTreeSet<Finding>,
}

/// The first half of an id. That two ids share it would need 2^64 attempts to bring about, and then
/// at worst one of them is not looked at.
type Key = [u8; 16];

fn key(chunk: &ChunkId) -> Key {
    let mut key = [0; 16];
    key.copy_from_slice(&chunk.as_bytes()[..16]);
    key
}

/// Chunks read at once by a walk that reads.
const QUEUE_LEN: usize = 1024;
/// Most places that are remembered for a chunk that waits to be read.
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
                    parallel: c.pool.current_num_threads(),
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
            match damage.chunk {
                Some(chunk) => {
                    bad.insert(chunk, problem);
                }
                None => report.findings.push(Finding {
                    target: String::new(),
                    problem,
                }),
            }
        }
        let known = bad.clone();
        let refs = self.refs()?;
        let mut pruned = self.pruned()?;
        for tip in refs.refs.values() {
            pruned.remove(tip);
        }
        let whole = match &self.backing {
            Backing::Store(store) => {
                let reader = store.reader_of_all(c.runtime.clone(), &c.cancel);
                Some(self.block_on(reader)?)
            }
            Backing::Archive(..) => None,
        };
        let source = whole.as_ref().map_or(self.source(), |reader| reader);
        let mut walk = Walk {
            bad,
            pruned,
            ..Walk::new(source)
        };
        for (name, id) in &refs.refs {
            self.walk_history(*id, &name.to_string(), &mut walk)?;
        }
        // What no name reaches is damage all the same.
        let hit: HashSet<String> = walk.findings.iter().map(|f| f.problem.clone()).collect();
        let mut unreached: Vec<String> = known.into_values().filter(|p| !hit.contains(p)).collect();
        unreached.sort_unstable();
        for problem in unreached {
            report.findings.push(Finding {
                target: String::new(),
                problem,
            });
        }
        self.conclude(walk, report)
    }

    /// Reads every byte of some targets and compares it with its digest.
    ///
    /// # Errors
    /// `NotFound` for an unknown target; `Unavailable`. Damage is in the report.
    pub fn check_targets(&self, targets: &[Target]) -> Result<CheckReport> {
        let mut walk = Walk {
            queue: Some(HashMap::new()),
            ..Walk::new(self.source())
        };
        let progress = &self.shop.components.progress;
        progress.begin("verifying", None);
        let walked = targets
            .iter()
            .try_for_each(|target| self.walk_target(target, &mut walk))
            .and_then(|()| self.read_queue(&mut walk));
        progress.end();
        walked?;
        let report = CheckReport {
            chunks: walk.chunks.len() as u64,
            bytes: walk.bytes,
            ..CheckReport::default()
        };
        self.conclude(walk, report)
    }

    /// Which places below a ref damaged chunks hit; snapshots in `known` are not walked.
    pub(crate) fn hits(
        &self,
        name: &str,
        tip: SnapshotId,
        known: &BTreeSet<SnapshotId>,
        lost: &BTreeMap<ChunkId, String>,
    ) -> Result<Vec<Finding>> {
        let mut pruned = self.pruned()?;
        for tip in self.refs()?.refs.values() {
            pruned.remove(tip);
        }
        let mut walk = Walk {
            snapshots: known.iter().copied().collect(),
            bad: lost.iter().map(|(id, why)| (*id, why.clone())).collect(),
            pruned,
            ..Walk::new(self.source())
        };
        self.walk_history(tip, name, &mut walk)?;
        Ok(walk.findings.into_iter().collect())
    }

    /// Reads the chunks that wait, and notes those that are not right.
    fn read_queue(&self, walk: &mut Walk<'_>) -> Result<()> {
        let source = walk.source;
        let Some(queue) = walk.queue.as_mut() else {
            return Ok(());
        };
        let mut chunks: Vec<_> = queue.drain().collect();
        chunks.sort_unstable();
        let components = &self.shop.components;
        let read = |(id, places): (ChunkId, Vec<Arc<str>>)| {
            components.cancel.check()?;
            match source.get(&id) {
                Ok(bytes) => {
                    components.progress.advance(bytes.len() as u64);
                    Ok((id, places, Ok(bytes.len() as u64)))
                }
                Err(e) => Ok((id, places, Err(damage(e.into())?))),
            }
        };
        let pool = &components.pool;
        let done: Vec<_> =
            pool.install(|| chunks.into_par_iter().map(read).collect::<Result<_>>())?;
        for (id, places, outcome) in done {
            match outcome {
                Ok(len) => walk.bytes += len,
                Err(problem) => {
                    for place in places {
                        walk.find(&place, problem.clone());
                    }
                    walk.bad.insert(id, problem);
                }
            }
        }
        Ok(())
    }

    /// Takes note that a place wants a chunk: whether it is right is known already, is looked up,
    /// or will be when it is read.
    fn want(&self, walk: &mut Walk<'_>, chunk: ChunkId, place: &Arc<str>) -> Result<()> {
        if let Some(problem) = walk.bad.get(&chunk) {
            let problem = problem.clone();
            walk.find(place, problem);
            return Ok(());
        }
        let new = walk.chunks.insert(key(&chunk));
        if let Some(queue) = walk.queue.as_mut() {
            if new {
                queue.insert(chunk, vec![Arc::clone(place)]);
            } else if let Some(places) = queue.get_mut(&chunk)
                && places.len() < PLACES_MAX
                && places.last() != Some(place)
            {
                places.push(Arc::clone(place));
            }
            return if queue.len() < QUEUE_LEN {
                Ok(())
            } else {
                self.read_queue(walk)
            };
        }
        if new {
            let problem = match walk.source.locate(&chunk) {
                Ok(Some(_)) => return Ok(()),
                Ok(None) => format!("chunk {chunk} is missing"),
                Err(e) => damage(e.into())?,
            };
            walk.find(place, problem.clone());
            walk.bad.insert(chunk, problem);
        }
        Ok(())
    }

    fn conclude(&self, walk: Walk<'_>, mut report: CheckReport) -> Result<CheckReport> {
        self.shop.components.cancel.check()?;
        report.snapshots = walk.snapshots.len() as u64;
        report.files = walk.files.len() as u64;
        report.findings.extend(walk.findings);
        Ok(report)
    }

    fn walk_target(&self, target: &Target, walk: &mut Walk<'_>) -> Result<()> {
        let Some(path) = &target.path else {
            let tip = self.find(target)?;
            walk.snapshots.insert(tip.id);
            return self.walk_tree(tip.snapshot.tree, &format!("{target}:"), 0, walk);
        };
        let prefix = format!(
            "{}:{path}",
            Target {
                path: None,
                ..target.clone()
            }
        );
        match self.find_node(target)? {
            Node::Dir { id } => self.walk_tree(id, &format!("{prefix}/"), 0, walk),
            Node::File { id, size, .. } => self.walk_file(id, size, &prefix, walk),
            Node::Link { .. } => Ok(()),
        }
    }

    /// Walks a snapshot and all it came from.
    fn walk_history(&self, tip: SnapshotId, name: &str, walk: &mut Walk<'_>) -> Result<()> {
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
            self.want(walk, id.object().chunk(), &place.as_str().into())?;
            match objects::snapshot(walk.source, id) {
                Ok(snapshot) => {
                    open.extend(snapshot.parents);
                    if walk.pruned.contains(&id) {
                        continue;
                    }
                    self.walk_tree(snapshot.tree, &format!("{place}:"), 0, walk)?;
                }
                Err(e) => walk.find(&place, damage(e)?),
            }
        }
        Ok(())
    }

    /// Walks a folder and all below it; `prefix` is its path with what it needs before a name.
    fn walk_tree(
        &self,
        tree: TreeId,
        prefix: &str,
        depth: usize,
        walk: &mut Walk<'_>,
    ) -> Result<()> {
        if !walk.trees.insert(tree) {
            return Ok(());
        }
        self.shop.components.cancel.check()?;
        if depth > limits::TREE_DEPTH_MAX {
            walk.find(prefix, format!("tree {tree} is nested too deep"));
            return Ok(());
        }
        let entries = match objects::entries(walk.source, tree) {
            Ok(entries) => entries,
            Err(e) => {
                walk.find(prefix, damage(e)?);
                return Ok(());
            }
        };
        for Entry { name, node } in entries {
            let place = format!("{prefix}{name}");
            match node {
                Node::File { id, size, .. } => self.walk_file(id, size, &place, walk)?,
                Node::Dir { id } => self.walk_tree(id, &format!("{place}/"), depth + 1, walk)?,
                Node::Link { .. } => {}
            }
        }
        Ok(())
    }

    fn walk_file(&self, id: FileId, size: u64, place: &str, walk: &mut Walk<'_>) -> Result<()> {
        if !walk.files.insert((key(&id.object().chunk()), size)) {
            return Ok(());
        }
        let place: Arc<str> = place.into();
        self.want(walk, id.object().chunk(), &place)?;
        let visited = objects::file(walk.source, id).and_then(|file| {
            let reader = FileReader::new(walk.source, file);
            reader.check_size(size)?;
            reader.for_each_chunk(&mut |chunk, _| self.want(walk, chunk, &place))
        });
        match visited {
            Ok(()) => Ok(()),
            Err(e) => {
                walk.find(&place, damage(e)?);
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

impl<'a> Walk<'a> {
    fn new(source: &'a dyn ChunkSource) -> Self {
        Self {
            source,
            snapshots: HashSet::new(),
            trees: HashSet::new(),
            files: HashSet::new(),
            chunks: HashSet::new(),
            bad: HashMap::new(),
            queue: None,
            pruned: BTreeSet::new(),
            bytes: 0,
            findings: BTreeSet::new(),
        }
    }

    fn find(&mut self, target: &str, problem: String) {
        self.findings.insert(Finding {
            target: target.to_owned(),
            problem,
        });
    }
}
