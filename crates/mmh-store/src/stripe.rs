//! A repository spread over several stores, so that any few of them may be lost.
//!
//! One [`ObjectStore`](object_store::ObjectStore) over others: packs lie as data and parity
//! *shards*, one on each store; everything else is small and lies on every store as a copy. Above
//! it nobody knows. Writing needs all stores, so whatever was acknowledged survives the loss of as
//! many as there is parity for; reading needs as many as there are data shards. A store that is
//! lost is replaced by an empty one ([`mend`]), under a new *epoch* that shuts out whoever still
//! writes to the old one. FORMAT.md, "Stripes", has the layout and the rules.

mod engine;
mod layout;
mod members;
mod mend;
mod note;
mod read;
mod shard;
mod write;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use lru::LruCache;
use object_store::ObjectMeta;
use object_store::path::Path;

use crate::backend::Backend;
use crate::names;

pub(crate) use engine::StripeEngine;
use layout::Layout;
pub use layout::SHARD_BLOCK_LEN;
pub(crate) use members::{Given, attach, make};
pub(crate) use mend::replace_lost;
pub use mend::{HealedShard, Replaced, ShardReport};
use note::StripeNote;
pub use note::{STRIPE_STORES_MAX, StripeShape};
pub use shard::{SHARD_HEAD_LEN, SHARD_MAGIC, SHARD_PIECE_LEN};

/// Objects whose lengths are remembered.
const METAS_KEPT: NonZeroUsize = NonZeroUsize::new(4096).expect("it is not zero");

/// A store that has a seat.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// Where it is, or was when it was last seen.
    place: String,
    /// The store, or why it cannot be used.
    backend: Result<Backend, String>,
    /// Whether it holds the note that rules.
    told: bool,
}

/// A store that is not there or not part of the stripe, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Away {
    /// Where.
    pub place: String,
    /// Why.
    pub why: String,
}

/// The stores of one repository.
#[derive(Debug)]
pub(crate) struct Stripe {
    /// The note that rules.
    note: StripeNote,
    /// By number of their shards.
    members: Vec<Member>,
    /// Given, but not among them.
    strangers: Vec<Away>,
    /// Empty stores that were given, which may take the place of lost ones.
    spares: Vec<Backend>,
    /// Lengths of objects that never change.
    metas: Mutex<LruCache<String, ObjectMeta>>,
    /// Damaged shards that readers met: object and number.
    met: Mutex<BTreeSet<(String, usize)>>,
}

impl Stripe {
    fn new(
        note: StripeNote,
        members: Vec<Member>,
        strangers: Vec<Away>,
        spares: Vec<Backend>,
    ) -> Self {
        Self {
            note,
            members,
            strangers,
            spares,
            metas: Mutex::new(LruCache::new(METAS_KEPT)),
            met: Mutex::default(),
        }
    }

    /// Stores that belong to the stripe and are not there, then those that were given and do not
    /// belong to it.
    pub(crate) fn away(&self) -> Vec<Away> {
        let lost = self.members.iter().filter_map(|member| {
            let why = member.backend.as_ref().err()?.clone();
            let place = member.place.clone();
            Some(Away { place, why })
        });
        lost.chain(self.strangers.iter().cloned()).collect()
    }

    /// The shape.
    pub(crate) fn shape(&self) -> StripeShape {
        self.note.shape()
    }

    /// The random bytes of the repository.
    pub(crate) fn repository(&self) -> &mmh_core::Digest {
        &self.note.repository
    }

    /// How many damaged shards readers have met and read around.
    pub(crate) fn n_met(&self) -> usize {
        self.met_damage().len()
    }

    fn met_damage(&self) -> std::sync::MutexGuard<'_, BTreeSet<(String, usize)>> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn metas(&self) -> std::sync::MutexGuard<'_, LruCache<String, ObjectMeta>> {
        self.metas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn home(&self) -> usize {
        self.note.home as usize
    }

    fn n(&self) -> usize {
        self.members.len()
    }

    /// The stores that are there, with their numbers.
    fn present(&self) -> impl Iterator<Item = (usize, &Backend)> {
        let members = self.members.iter().enumerate();
        members.filter_map(|(number, member)| Some((number, member.backend.as_ref().ok()?)))
    }

    /// Of these the ones that hold everything; if those are too few, all.
    fn whole(&self) -> Vec<(usize, &Backend)> {
        let whole = self
            .present()
            .filter(|(number, _)| !self.note.stores[*number].filling);
        let whole: Vec<_> = whole.collect();
        match whole.len() >= self.note.data as usize {
            true => whole,
            false => self.present().collect(),
        }
    }

    /// How an object of this name and length lies on the stores.
    fn layout(&self, name: &str, len: u64) -> Layout {
        let data = match is_coded(name) {
            true => self.note.data as usize,
            false => 1,
        };
        Layout {
            len,
            data,
            parity: self.n() - data,
        }
    }

    /// The numbers of all shards, in the order in which they are asked: of copies the home's comes
    /// first, which decides.
    fn order(&self, name: &str) -> Vec<usize> {
        let first = match is_coded(name) {
            true => 0,
            false => self.home(),
        };
        let others = (0..self.n()).filter(|number| *number != first);
        std::iter::once(first).chain(others).collect()
    }

    /// Whether all stores are there, so that something can be written.
    pub(crate) fn is_writable(&self) -> bool {
        self.unwritable().is_none()
    }

    /// Why nothing can be written, if so.
    fn unwritable(&self) -> Option<String> {
        let advice = "reading goes on, but writing needs all stores; put an empty one in its \
                      place and run `mmh repair`";
        if let Some(member) = self.members.iter().find(|member| member.backend.is_err()) {
            let why = member.backend.as_ref().err()?;
            return Some(format!(
                "store {} is missing ({why}): {advice}",
                member.place
            ));
        }
        if let Some(member) = self.members.iter().find(|member| !member.told) {
            return Some(format!(
                "store {} does not know yet who belongs to the stripe; run `mmh repair`",
                member.place
            ));
        }
        let filling = self.note.stores.iter().find(|seat| seat.filling)?;
        Some(format!(
            "store {} does not hold everything yet; run `mmh repair`",
            filling.place
        ))
    }
}

/// Whether an object of this name is cut into shards; all others are copied to every store.
fn is_coded(name: &str) -> bool {
    is_below(name, names::PACKS) || is_below(name, names::DAMAGED)
}

/// Whether it is part of the log: made once and never written again.
fn is_of_log(name: &str) -> bool {
    let parts = [names::LOG, names::CHECKPOINTS, names::BOUNDARIES];
    parts.iter().any(|prefix| is_below(name, prefix))
}

/// Whether nobody writes it again with other bytes, so that its length can be remembered.
fn is_fixed(name: &str) -> bool {
    is_coded(name) || is_below(name, names::INDEX)
}

fn is_below(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// The name of an object's shard in its store; `None` for a name that no object has.
fn shard_path(name: &str) -> Option<Path> {
    let rest = name.strip_prefix("mmh/")?;
    Some(Path::from(format!("{}/{rest}", names::SHARDS)))
}

/// The object of a shard of that name.
fn object_of(shard: &str) -> Option<String> {
    let rest = shard.strip_prefix(names::SHARDS)?.strip_prefix('/')?;
    Some(format!("mmh/{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_lie_under_names_of_their_own() {
        let path = shard_path("mmh/packs/aa/x").unwrap();
        assert_eq!(path.as_ref(), "mmh/shards/packs/aa/x");
        assert_eq!(object_of(path.as_ref()).as_deref(), Some("mmh/packs/aa/x"));
        assert_eq!(shard_path("other/x"), None);
        assert_eq!(object_of("mmh/stripe/1"), None);
    }

    #[test]
    fn packs_are_coded_and_the_rest_is_copied() {
        assert!(is_coded("mmh/packs/aa/x") && is_coded("mmh/damaged/x"));
        assert!(!is_coded("mmh/packs") && !is_coded("mmh/packset/x"));
        for log in ["mmh/log/1", "mmh/checkpoint/1", "mmh/boundary/1"] {
            assert!(is_of_log(log) && !is_fixed(log), "{log}");
        }
        assert!(!is_of_log("mmh/leases/x") && is_fixed("mmh/index/x"));
    }
}
