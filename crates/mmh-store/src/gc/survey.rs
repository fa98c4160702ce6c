//! What lies in which pack, and what is to become of each: one pass over the index, which is
//! sorted, with some hundred bytes of memory for each pack.

use std::collections::{BTreeMap, BTreeSet};

use mmh_core::PackId;

use super::Marks;
use super::run::Run;
use crate::error::{Error, Result};
use crate::frame;
use crate::index::{Located, Merged};
use crate::names;

/// How often the index is read again because it changed under the reader.
const ATTEMPTS: usize = 8;

/// What is known of a pack.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts {
    /// Length in bytes; 0 if it is not there.
    pub len: u64,
    /// Whether it was there, and in the index, before leases and refs were read.
    pub old: bool,
    /// Whether a lease pins it.
    pub pinned: bool,
    /// When its tomb was laid, in milliseconds since 1970-01-01 UTC.
    pub tomb_ms: Option<u64>,
    /// Bytes of its records, as far as the index knows them.
    pub records: u64,
    /// Bytes of its records that must stay here, as there is no better copy.
    pub live: u64,
}

/// What is to become of the packs.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    /// Tombs are to be laid on them.
    pub bury: BTreeSet<PackId>,
    /// Live chunks are to be copied out of them.
    pub copy: BTreeSet<PackId>,
    /// Their tombs have stood long enough.
    pub doomed: BTreeSet<PackId>,
    /// Not there any more, but still in the index or with a tomb.
    pub gone: BTreeSet<PackId>,
    /// Nobody's chunks stay in these: with a tomb, soon with one, or gone.
    pub leaving: BTreeSet<PackId>,
}

impl Run<'_> {
    /// Surveys the packs; also marks what the frames of live chunks refer to.
    pub(super) async fn survey(&mut self, marks: &mut Marks) -> Result<Plan> {
        self.progress.begin("surveying", None);
        for _ in 0..ATTEMPTS {
            self.store.index().refresh().await?;
            let before = marks.len();
            match self.pass(marks).await {
                Err(error) if error.is_missing_object() => continue,
                Err(error) => return Err(error),
                // What was marked meanwhile may have been passed by already.
                Ok(_) if marks.len() > before => continue,
                Ok(found) if found < marks.len() => {
                    let missing = marks.len() - found;
                    return Err(Error::Incomplete { missing });
                }
                Ok(_) => {
                    self.progress.end();
                    return Ok(self.plan());
                }
            }
        }
        Err(Error::Busy {
            attempts: u32::try_from(ATTEMPTS).unwrap_or(u32::MAX),
        })
    }

    /// Reads the index once; returns how many live chunks it has.
    async fn pass(&mut self, marks: &mut Marks) -> Result<u64> {
        let runs = self.store.index().runs();
        if let Some((object, reason)) = runs.damaged.first_key_value() {
            let (object, reason) = (object.clone(), reason.clone());
            return Err(Error::CorruptIndex { object, reason });
        }
        self.meet(runs.open.values().flat_map(|run| run.packs()))
            .await?;
        for facts in self.packs.values_mut() {
            (facts.records, facts.live) = (0, 0);
        }
        let merged = Merged::begin(self.store.backend(), runs.open.values().map(AsRef::as_ref));
        let mut merged = merged.await?;
        let (mut copies, mut found, mut n) = (Vec::new(), 0, 0u32);
        while merged.next(&mut copies).await? {
            n = n.wrapping_add(1);
            if n.is_multiple_of(4096) {
                self.cancel.check()?;
            }
            copies.dedup_by_key(|at| at.pack);
            for at in &copies {
                if let Some(facts) = self.packs.get_mut(&at.pack) {
                    facts.records += at.entry.record_len();
                }
            }
            if marks.contains(&copies[0].entry.id) && self.keep(&copies) {
                found += 1;
                self.refer(&copies, marks).await?;
            }
        }
        Ok(found)
    }

    /// Learns of packs that the index names: a listing may have been short.
    async fn meet(&mut self, named: impl Iterator<Item = &PackId>) -> Result<()> {
        let unknown: BTreeSet<PackId> = named
            .filter(|p| !self.packs.contains_key(p))
            .copied()
            .collect();
        for pack in unknown {
            let len = self.store.backend().len(&names::pack(&pack)).await?;
            let facts = Facts {
                len: len.unwrap_or(0),
                ..Facts::default()
            };
            self.packs.insert(pack, facts);
        }
        Ok(())
    }

    /// Chooses the copy of a live chunk that stays: in a pack without a tomb, else the one with
    /// the smallest id. `false` if no copy is there.
    fn keep(&mut self, copies: &[Located]) -> bool {
        let there = |at: &&Located| self.packs.get(&at.pack).is_some_and(|f| f.len > 0);
        let entombed = |pack: &PackId| self.packs.get(pack).is_some_and(|f| f.tomb_ms.is_some());
        let best = copies
            .iter()
            .filter(there)
            .min_by_key(|at| (entombed(&at.pack), at.pack));
        let Some(at) = best else { return false };
        if let Some(facts) = self.packs.get_mut(&at.pack) {
            facts.live += at.entry.record_len();
        }
        true
    }

    /// Marks what the frames of a live chunk refer to.
    async fn refer(&self, copies: &[Located], marks: &mut Marks) -> Result<()> {
        let refers = |at: &Located| frame::has_references(at.entry.method);
        if !copies.iter().any(refers) || !marks.refer(&copies[0].entry.id) {
            return Ok(());
        }
        for at in copies.iter().filter(|at| refers(at)) {
            if self.packs.get(&at.pack).is_none_or(|f| f.len == 0) {
                continue;
            }
            let frame = self.store.frame_at(at).await?;
            let references = mmh_codec::references(&frame).map_err(|e| Error::CorruptPack {
                pack: at.pack,
                offset: at.entry.offset,
                chunk: Some(at.entry.id),
                reason: e.to_string(),
            })?;
            for (_, id) in frame::named(&references) {
                marks.insert(id);
            }
        }
        Ok(())
    }

    /// Decides what is to become of each pack.
    fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        for (pack, facts) in &self.packs {
            if facts.len == 0 {
                plan.gone.insert(*pack);
            } else if let Some(tomb_ms) = facts.tomb_ms {
                if facts.live > 0 {
                    plan.copy.insert(*pack);
                }
                if self.is_ripe(tomb_ms) {
                    plan.doomed.insert(*pack);
                }
                plan.leaving.insert(*pack);
            } else if facts.old && !facts.pinned {
                let dead = facts.records - facts.live;
                let share = u64::from(self.options.repack_percent.min(99));
                if facts.live == 0 || dead.saturating_mul(100) > facts.records * share {
                    plan.bury.insert(*pack);
                    plan.leaving.insert(*pack);
                    if facts.live > 0 {
                        plan.copy.insert(*pack);
                    }
                }
            }
        }
        plan.leaving.extend(&plan.gone);
        plan
    }

    /// Whether a tomb is old enough, and nobody is at work who may have begun before it.
    pub(super) fn is_ripe(&self, tomb_ms: u64) -> bool {
        let age = self.now_ms.saturating_sub(tomb_ms);
        age >= self.options.grace_ms && self.oldest_lease_ms.is_none_or(|ms| ms > tomb_ms)
    }
}

/// Bytes of some packs.
pub(super) fn len_of(packs: &BTreeMap<PackId, Facts>, some: &BTreeSet<PackId>) -> u64 {
    some.iter()
        .filter_map(|pack| packs.get(pack))
        .map(|facts| facts.len)
        .sum()
}
