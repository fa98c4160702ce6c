//! Copying a whole repository to another place, byte for byte and checked on arrival.
//!
//! What lies in a repository never changes and does not know where it lies, so a copy is a
//! repository. The log is listed first and its packs are copied before it: whatever an entry that
//! was copied names is there, though others write meanwhile. The configuration comes last, so a
//! copy that was interrupted is no repository, and begun again it goes on where it stopped.

use mmh_core::canonical::Canonical as _;
use mmh_core::object::{Checkpoint, Operation};
use mmh_core::ports::{Cancel, Progress};
use mmh_core::{Digest, PackId};

use crate::backend::Backend;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::gc::note::{BoundaryNote, PrunedNote};
use crate::keys::SLOT_LEN_MAX;
use crate::lease::Lease;
use crate::names;
use crate::objects::SEAL_LEN;
use crate::pack::{Source, read_footer};
use crate::store::Store;

/// Copies everything that `store` holds to `dest` and returns how many bytes that were.
pub(crate) async fn copy(
    store: &Store,
    dest: &Backend,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<u64> {
    if !dest.given().is_empty() {
        return Err(Error::UnsupportedBackend {
            place: dest.name().to_owned(),
            reason: "a copy is not spread over several stores; make a stripe with `mmh init` and \
                     put the content into it"
                .to_owned(),
        });
    }
    if dest.len(names::CONFIG).await?.is_some() {
        return Err(Error::AlreadyARepository {
            place: dest.name().to_owned(),
        });
    }
    check_log_is_beside(store)?;
    // Where no lease may be taken, what is collected meanwhile is missed, and that is said.
    let lease = store.lease_if_allowed("clone").await?;
    let copy = Copy {
        from: store.backend(),
        // Opens what it checks; writes what it is given.
        dest: &dest.clone().with_vault(store.backend().vault().clone()),
        lease: lease.as_ref(),
        progress,
        cancel,
    };
    let done = copy.all().await;
    if let Some(lease) = &lease {
        // It ends by itself otherwise.
        let _later = lease.release().await.is_err();
    }
    done
}

/// Makes an empty repository with the id, the configuration and the keys of this one. One that was
/// made so before and is still empty, or has only got some names, is left as it is.
pub(crate) async fn found(store: &Store, dest: &Backend) -> Result<()> {
    check_log_is_beside(store)?;
    let from = store.backend();
    let read = from.read(names::CONFIG, Config::LEN_MAX + SEAL_LEN).await?;
    let config = read.ok_or_else(|| Error::NoSuchObject {
        what: names::CONFIG.to_owned(),
    })?;
    match dest.read(names::CONFIG, Config::LEN_MAX + SEAL_LEN).await? {
        Some(there) if there == config => return Ok(()),
        Some(_) => {
            return Err(Error::AlreadyARepository {
                place: dest.name().to_owned(),
            });
        }
        None => {}
    }
    for (name, _) in from.list(names::KEYS).await? {
        if let Some(slot) = from.read(&name, SLOT_LEN_MAX).await? {
            dest.write(&name, slot).await?;
        }
    }
    dest.write(names::CONFIG, config).await
}

/// Refuses a repository whose log lives elsewhere.
fn check_log_is_beside(store: &Store) -> Result<()> {
    let Some(log) = &store.config().log else {
        return Ok(());
    };
    // The copy would have the same id, and write into the same log.
    Err(Error::UnsupportedBackend {
        place: store.backend().name().to_owned(),
        reason: format!(
            "its log lives in {log}, and a clone would write into it; make a repository with \
             `mmh init` and `mmh pull` into it"
        ),
    })
}

struct Copy<'a> {
    from: &'a Backend,
    dest: &'a Backend,
    lease: Option<&'a Lease>,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
}

impl Copy<'_> {
    async fn all(&self) -> Result<u64> {
        let log = self.from.log_engine();
        let entries = log.list(names::LOG, None).await?;
        let checkpoints = log.list(names::CHECKPOINTS, None).await?;
        let mut bytes = self.packs().await?;
        bytes += self.small(names::INDEX, usize::MAX).await?;
        let vault = self.from.vault();
        let entry_max = vault.object_len_max::<Operation>();
        bytes += self.log(&entries, entry_max).await?;
        let checkpoint_max = vault.object_len_max::<Checkpoint>();
        bytes += self.log(&checkpoints, checkpoint_max).await?;
        // After the entries, so that none is missing that no marker covers.
        let markers = log.list(names::BOUNDARIES, None).await?;
        bytes += self
            .log(&markers, vault.object_len_max::<BoundaryNote>())
            .await?;
        let last =
            |listed: &[(String, u64)]| listed.last().and_then(|(name, _)| names::parse_seq(name));
        if last(&markers).is_some_and(|marker| last(&checkpoints) <= Some(marker)) {
            // The log was cut meanwhile, beyond what was listed of it.
            return Err(Error::Busy { attempts: 1 });
        }
        bytes += self
            .small(names::PRUNED, vault.object_len_max::<PrunedNote>())
            .await?;
        bytes += self.small(names::KEYS, SLOT_LEN_MAX).await?;
        bytes += self
            .object(names::CONFIG, Config::LEN_MAX + SEAL_LEN)
            .await?;
        self.progress.end();
        Ok(bytes)
    }

    /// Copies packs that are not there yet.
    async fn packs(&self) -> Result<u64> {
        let listed = self.from.list(names::PACKS).await?;
        let total = listed.iter().map(|(_, len)| len).sum();
        self.progress.begin("copy", Some(total));
        for (name, len) in &listed {
            self.cancel.check()?;
            if let Some(lease) = self.lease {
                lease.renew().await;
            }
            if let Some(pack) = names::parse_pack(name) {
                self.progress.item(name);
                if self.dest.len(name).await? != Some(*len) {
                    self.pack(name, pack).await?;
                }
            }
            self.progress.advance(*len);
        }
        Ok(total)
    }

    /// Copies a pack and compares what arrived with its name.
    async fn pack(&self, name: &str, pack: PackId) -> Result<()> {
        let missing = || Error::NoSuchObject {
            what: name.to_owned(),
        };
        let bytes = self
            .from
            .read(name, usize::MAX)
            .await?
            .ok_or_else(missing)?;
        self.dest.write(name, bytes.clone()).await?;
        let checked = match read_footer(Source::Published(self.dest, pack)).await {
            Ok((trailer, _)) => {
                let end = trailer.footer_offset + trailer.footer_len;
                let end = usize::try_from(end).unwrap_or(usize::MAX);
                let content = bytes.get(..end).map(Digest::of);
                let reason = "its content does not have the digest that names it".to_owned();
                let damaged = Error::CorruptPack {
                    pack,
                    offset: 0,
                    chunk: None,
                    reason,
                };
                (content == Some(*pack.digest()))
                    .then_some(())
                    .ok_or(damaged)
            }
            Err(error) => Err(error),
        };
        if checked.is_err() {
            self.dest.delete(name).await?;
        }
        checked
    }

    /// Copies all small objects below a prefix. What vanishes meanwhile was replaced: an index run
    /// that was merged is made up for when the copy is opened.
    async fn small(&self, prefix: &str, len_max: usize) -> Result<u64> {
        let mut total = 0;
        for (name, _) in self.from.list(prefix).await? {
            self.cancel.check()?;
            total += self.object(&name, len_max).await?;
        }
        Ok(total)
    }

    async fn object(&self, name: &str, len_max: usize) -> Result<u64> {
        let Some(bytes) = self.from.read(name, len_max).await? else {
            return Ok(0);
        };
        let len = bytes.len() as u64;
        self.dest.write(name, bytes).await?;
        Ok(len)
    }

    /// Copies log entries or checkpoints, wherever either log lives.
    async fn log(&self, listed: &[(String, u64)], len_max: usize) -> Result<u64> {
        let (from, dest) = (self.from.log_engine(), self.dest.log_engine());
        let mut total = 0;
        for (name, _) in listed {
            self.cancel.check()?;
            // Entries that were cut off meanwhile are folded into a checkpoint.
            let Some(bytes) = from.read(name, len_max).await? else {
                continue;
            };
            total += bytes.len() as u64;
            if !dest.create(name, bytes.clone()).await?
                && dest.read(name, len_max).await?.as_deref() != Some(&bytes[..])
            {
                return Err(Error::AlreadyARepository {
                    place: dest.place(name),
                });
            }
        }
        Ok(total)
    }
}
