//! Bringing refs, and everything that they reach, from one repository to another.
//!
//! The walk stops at what the other side's refs reach already, so its cost follows the difference.
//! What is left is asked for by id, and only what is missing is carried. Then all refs move in one
//! transaction, which is refused if anything was collected there since its refs were read: so a
//! ref never names what is not whole. Where the keys differ, ids differ too, and everything is
//! named anew (see [`translate`]).

mod past;
mod plan;
mod translate;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mmh_core::name::{RefName, Target};
use mmh_core::object::RefChange;
use mmh_core::{ChunkId, ErrorKind, SnapshotId};
use mmh_store::{Carried, Commit, Lease, RefsView, Writer};
use serde::Serialize;

use crate::check::Finding;
use crate::error::{Error, Result};
use crate::repository::Repository;
use past::Past;
pub use plan::{RefReport, What};
use plan::{Wish, judge, wishes};
use translate::Translator;
use wanted::Wanted;

/// How often it is tried again because a ref moved, or something was collected, meanwhile.
const ATTEMPTS: usize = 4;

/// What is brought over, and how.
#[derive(Debug, Clone, Default)]
pub struct SyncOptions {
    /// Only these names (`NAME`), branches or tags (`NAME@REV`); everything without any.
    pub names: Vec<Target>,
    /// Instead of what refs name here: refs there, and snapshots of here that they are to name.
    pub at: Vec<(RefName, SnapshotId)>,
    /// Move refs there even if they then lose what they have.
    pub force: bool,
    /// Remove refs there that are not here.
    pub prune: bool,
    /// Say what would be done, and write nothing.
    pub dry_run: bool,
    /// What is done, for the log there.
    pub command: String,
}

/// What was brought over.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SyncReport {
    /// Whether nothing was written: the rest is then what would be done.
    pub dry_run: bool,
    /// Refs that moved or could not; those that are equal are not listed.
    pub refs: Vec<RefReport>,
    /// Refs that are equal on both sides.
    pub same: u64,
    /// Chunks that were sent.
    pub chunks: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// What is damaged in the source, by name and path.
    pub findings: Vec<Finding>,
}

impl SyncReport {
    /// Refs for which this happened.
    pub fn refs_that(&self, what: What) -> impl Iterator<Item = &RefReport> {
        self.refs.iter().filter(move |r| r.what == what)
    }

    /// Whether every ref that was asked for is where it should be.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let stuck = [What::Diverged, What::Damaged];
        self.refs.iter().all(|r| !stuck.contains(&r.what))
    }
}

impl Repository {
    /// Sends refs, and everything that they reach, to another repository.
    ///
    /// Damage of this side is no error: refs that it hits are left out, and it is in the report, as
    /// are branches that diverged.
    ///
    /// # Errors
    /// `NotFound` for a name that neither side has; `Denied` for an archive, a place that cannot be
    /// written, or a read key there; `Conflict` if refs moved again and again; `Corrupt` for damage
    /// of the other side; `Unavailable`.
    pub fn send(&self, dest: &Self, options: &SyncOptions) -> Result<SyncReport> {
        let mut done = self.send_once(dest, options);
        for _ in 1..ATTEMPTS {
            use mmh_store::Error as E;
            match done {
                Err(Error::Store(E::Collected { .. } | E::RefConflict { .. })) => {
                    done = self.send_once(dest, options);
                }
                _ => break,
            }
        }
        done
    }

    fn send_once(&self, dest: &Self, options: &SyncOptions) -> Result<SyncReport> {
        // Leases first: what is read from here on stays for their time.
        let lease = self.block_on(self.store()?.lease_if_allowed("sync"))?;
        let writer = match options.dry_run {
            true => None,
            false => {
                let runtime = self.shop.components.runtime.clone();
                Some(Arc::new(dest.block_on(dest.store()?.receiver(runtime))?))
            }
        };
        let (here, there) = (self.refs()?, dest.refs()?);
        let sending = Sending {
            source: self,
            dest,
            options,
            lease: lease.as_ref(),
            writer: writer.as_ref(),
            here,
            there,
        };
        let done = sending.run();
        if let Some(lease) = lease {
            // It ends by itself otherwise.
            let _later = self.block_on(lease.release()).is_err();
        }
        done
    }

    fn is_elsewhere(&self) -> bool {
        let store = self.store();
        store.is_ok_and(|store| store.backend().is_elsewhere())
    }
}

/// One attempt.
struct Sending<'a> {
    source: &'a Repository,
    dest: &'a Repository,
    options: &'a SyncOptions,
    lease: Option<&'a Lease>,
    /// None on a dry run.
    writer: Option<&'a Arc<Writer>>,
    here: Arc<RefsView>,
    there: Arc<RefsView>,
}

/// What was found and sent for some refs.
#[derive(Debug, Default)]
struct Sent {
    chunks: u64,
    bytes: u64,
    /// Chunks of the source that are not whole.
    lost: BTreeMap<ChunkId, String>,
    /// Snapshots that the source does not walk to find what is hit: the other side has them.
    known: BTreeSet<SnapshotId>,
}

impl Sending<'_> {
    fn run(self) -> Result<SyncReport> {
        let wishes = wishes(&self.here, &self.there, self.options)?;
        let (source, dest) = (self.source.store()?, self.dest.store()?);
        let (plan, sent) = if source.shares_keys_with(dest) {
            let mut past = Past::of(self.source, self.dest);
            let plan = judge(wishes, &mut past, self.options)?;
            let sent = self.carry(&plan, &mut past)?;
            (plan, sent)
        } else {
            self.translate(wishes)?
        };
        self.conclude(plan, sent)
    }

    /// Carries what the other side lacks for the refs that are to move.
    fn carry(&self, plan: &[Wish], past: &mut Past<'_>) -> Result<Sent> {
        let components = &self.source.shop.components;
        components.progress.begin("looking", None);
        let moves: Vec<&Wish> = plan.iter().filter(|wish| wish.moves()).collect();
        let mut wanted = Wanted::find(self, &moves, past)?;
        components.progress.end();
        let ids = wanted.take_ids();
        let source = self.source.store()?;
        let ports = (components.progress.as_ref(), &components.cancel);
        let carried = match self.writer {
            None => {
                let missing = self.dest.block_on(self.dest.store()?.missing(&ids))?;
                self.source.block_on(source.weigh(&missing))?
            }
            Some(writer) => {
                let missing = self.dest.block_on(writer.missing(&ids))?;
                let from = (source, self.lease);
                let carried = self.source.block_on(writer.carry(from, &missing, ports))?;
                if !wanted.pruned.is_empty() {
                    let noted = self.dest.store()?.add_pruned(&wanted.pruned);
                    self.dest.block_on(noted)?;
                }
                carried
            }
        };
        let Carried {
            chunks,
            bytes,
            mut lost,
        } = carried;
        lost.extend(wanted.lost);
        Ok(Sent {
            chunks,
            bytes,
            lost,
            known: wanted.known,
        })
    }

    /// Names everything anew with the keys of the other side, and puts what is missing there.
    fn translate(&self, wishes: Vec<Wish>) -> Result<(Vec<Wish>, Sent)> {
        let mut translator = Translator::new(self.source, self.dest, self.writer.cloned())?;
        let mut named = Vec::new();
        let mut lost_tips = Vec::new();
        for wish in wishes {
            match wish.new {
                None => named.push(wish),
                // Named by ids of here, which there are others.
                Some(_) if !wish.name.is_by_people() => {}
                Some(tip) => match translator.history(tip)? {
                    Some(id) => named.push(Wish {
                        new: Some(id),
                        ..wish
                    }),
                    None => lost_tips.push(wish.damaged()),
                },
            }
        }
        let mut past = Past::of(self.dest, self.dest);
        past.preload(translator.snapshots());
        let mut plan = judge(named, &mut past, self.options)?;
        plan.extend(lost_tips);
        Ok((plan, translator.sent()))
    }

    /// Leaves out what damage hits, and moves the rest.
    fn conclude(&self, mut plan: Vec<Wish>, sent: Sent) -> Result<SyncReport> {
        let mut report = SyncReport {
            dry_run: self.options.dry_run,
            chunks: sent.chunks,
            bytes: sent.bytes,
            ..SyncReport::default()
        };
        if !sent.lost.is_empty() {
            for wish in &mut plan {
                report.findings.extend(self.find_hits(wish, &sent)?);
            }
            report.findings.sort_unstable();
            report.findings.dedup();
        }
        let changes: Vec<RefChange> = plan.iter().filter_map(Wish::change).collect();
        if let Some(writer) = self.writer {
            writer.flush()?;
            if !changes.is_empty() {
                let commit = Commit {
                    since: Some(self.there.seq),
                    ..self.dest.commit(changes, &self.options.command)
                };
                self.dest
                    .block_on(self.dest.store()?.commit_received(commit))?;
            }
        }
        for wish in plan.iter_mut().filter(|wish| wish.is_of_two_signers()) {
            self.unite(wish)?;
        }
        let is_same = |wish: &Wish| wish.what == What::Same;
        report.same = plan.iter().filter(|wish| is_same(wish)).count() as u64;
        plan.retain(|wish| !is_same(wish));
        report.refs = plan.iter().map(Wish::report).collect();
        report.refs.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(report)
    }

    /// Puts the signatures of this side beside those of the other. What cannot be read here is left
    /// out, as damage is.
    fn unite(&self, wish: &mut Wish) -> Result<()> {
        let (name, signed) = (&wish.name.repo, wish.name.rev().parse());
        let Ok(signed) = signed else {
            return Ok(());
        };
        let ours = match self.source.signature_record(name, signed) {
            Ok(Some(ours)) => ours,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                wish.what = What::Damaged;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if !self.options.dry_run {
            self.dest.merge_signatures(name, signed, &ours)?;
            wish.new = self.dest.refs()?.refs.get(&wish.name).copied();
        }
        wish.what = if wish.new == wish.old {
            What::Ahead
        } else {
            What::Moved
        };
        Ok(())
    }

    /// What damage hits below a ref that was to move; it is left out then.
    fn find_hits(&self, wish: &mut Wish, sent: &Sent) -> Result<Vec<Finding>> {
        let (Some(tip), true) = (wish.tip, wish.moves() || wish.what == What::Damaged) else {
            return Ok(Vec::new());
        };
        let mut known = sent.known.clone();
        known.remove(&tip);
        if wish.what != What::Damaged && !wanted::is_hit(self.source, tip, &known, &sent.lost)? {
            return Ok(Vec::new());
        }
        wish.what = What::Damaged;
        let name = wish.name.to_string();
        let mut hits = self.source.hits(&name, tip, &known, &sent.lost)?;
        if let (true, Some(problem)) = (hits.is_empty(), sent.lost.values().next()) {
            let (target, problem) = (name, problem.clone());
            hits.push(Finding { target, problem });
        }
        Ok(hits)
    }

    /// Whether a ref of the other side names it now.
    fn is_tip_there(&self, id: &SnapshotId) -> bool {
        self.there.refs.values().any(|tip| tip == id)
    }

    /// Refs of the other side with one of these names.
    fn refs_there<'b>(
        &'b self,
        moves: &'b [&Wish],
    ) -> impl Iterator<Item = (&'b RefName, &'b SnapshotId)> {
        let names: BTreeSet<_> = moves.iter().map(|wish| &wish.name.repo).collect();
        let refs = self.there.refs.iter();
        refs.filter(move |(name, _)| names.contains(&name.repo))
    }
}
