//! Scrubbing and repairing, and which names and files are still hit afterwards.

use mmh_core::PackId;
use mmh_store::{
    Backend, RepairReport, Replaced, ScrubOptions, ScrubReport, ShardReport, Store, SystemEntropy,
};

use crate::check::CheckReport;
use crate::error::Result;
use crate::repository::{Components, Repository};

/// Puts empty stores that `backend` names in the place of lost ones of its stripe, and fills
/// them. Does nothing if the place is no stripe, or nothing is lost. No key is needed.
///
/// # Errors
/// `Unavailable` if too few stores are left; `Conflict` with another repair at the same time.
pub fn replace_lost(
    backend: &Backend,
    components: &Components,
) -> Result<(Vec<Replaced>, ShardReport)> {
    let (progress, cancel) = (components.progress.as_ref(), &components.cancel);
    let replaced = Store::replace_lost(backend, &SystemEntropy, progress, cancel);
    Ok(components.runtime.block_on(replaced)?)
}

/// What a repair did, and what it could not mend.
#[derive(Debug, Clone)]
pub struct Repaired {
    /// What was done to packs, chunks and index.
    pub store: RepairReport,
    /// Everything read again afterwards: its findings name what is hit still.
    pub check: CheckReport,
}

impl Repository {
    /// Reads every pack and heals what has rotted; `done` hears of every pack that need not be
    /// read again.
    ///
    /// # Errors
    /// `Denied` for an archive; `Unavailable`. Damage is in the report.
    pub fn scrub(
        &self,
        options: ScrubOptions,
        done: &(dyn Fn(PackId) + Sync),
    ) -> Result<ScrubReport> {
        let c = &self.shop.components;
        let scrubbed = self
            .store()?
            .scrub(options, done, c.progress.as_ref(), &c.cancel);
        Ok(self.block_on(scrubbed)?)
    }

    /// Mends what can be mended, with lost chunks from other repositories, then checks everything.
    ///
    /// # Errors
    /// `Denied` for an archive or a place that cannot be written; `Unavailable`.
    pub fn repair(&self, sources: &[Self]) -> Result<Repaired> {
        let c = &self.shop.components;
        let stores = sources.iter().map(|source| source.store().cloned());
        let stores = stores.collect::<Result<Vec<_>>>()?;
        let repaired = self
            .store()?
            .repair(&stores, c.progress.as_ref(), &c.cancel);
        let store = self.block_on(repaired)?;
        let check = self.check_all()?;
        Ok(Repaired { store, check })
    }
}
