//! Keys as people hold them: slots, seed strings, shares, and the files of age.
//!
//! What may be read and what not is in docs/threat-model.md. Secret text is wiped when dropped;
//! nothing here prints it.

use mmh_core::name::Target;
use zeroize::Zeroizing;

pub use mmh_crypto::age::{Cost, Identity, Passphrase, Recipient};
pub use mmh_crypto::seed::{Parsed, Scope, Seed, SeedKey};
pub use mmh_crypto::sign::certificate::PURPOSE_SNAPSHOT;
pub use mmh_crypto::sign::{
    AnyPublicKey, Certificate, KeyId, KeyType, PublicKey, SecretKey, Terms,
};
pub use mmh_crypto::{ReadKey, RootSeed, Secret};
pub use mmh_store::{KeySource, NoKey, Offer, Sealing, Slot, SystemEntropy, slot_name};

use crate::error::{Error, Result};
use crate::objects;
use crate::repository::{Backing, Repository};

/// Which secret leaves a repository, and where its data is.
#[derive(Debug, Clone, Default)]
pub struct SeedOptions {
    /// Give the read key instead of the root seed.
    pub read_only: bool,
    /// Where the data may be found, best first; without any, the place it was opened at.
    pub hints: Vec<String>,
}

/// The lines of a text that hold something: blank ones and comments do not.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let all = text.lines().map(str::trim);
    all.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The identities in a file of age: one in each line, comments begin with `#`.
///
/// # Errors
/// Invalid if a line is no identity.
pub fn identities(text: &str) -> Result<Vec<Identity>> {
    Ok(lines(text)
        .map(str::parse)
        .collect::<mmh_crypto::Result<_>>()?)
}

/// The recipients in a file of age: one in each line, comments begin with `#`.
///
/// # Errors
/// Invalid if a line is no recipient.
pub fn recipients(text: &str) -> Result<Vec<Recipient>> {
    Ok(lines(text)
        .map(str::parse)
        .collect::<mmh_crypto::Result<_>>()?)
}

/// Splits a key so that `threshold` of `count` shares give it back.
///
/// # Errors
/// Invalid for numbers out of bounds; Unavailable without randomness.
pub fn split(key: &SeedKey, (threshold, count): (u8, u8)) -> Result<Vec<Zeroizing<String>>> {
    let secret = match key {
        SeedKey::Root(root) => root.secret(),
        SeedKey::Read(read) => read.secret(),
    };
    let parts = (threshold, count);
    Ok(mmh_crypto::share::split(
        secret.expose(),
        parts,
        "",
        &SystemEntropy,
    )?)
}

/// The key in some shares, one in each line; for `read_only` it is a read key, else a root seed.
///
/// # Errors
/// Invalid if they are misspelt, do not belong together, or are too few or too many.
pub fn combine(text: &str, read_only: bool) -> Result<SeedKey> {
    let shares: Vec<&str> = lines(text).collect();
    let secret = mmh_crypto::share::combine(&shares, "")?;
    let secret = <&[u8; 32]>::try_from(secret.as_slice());
    let secret = secret.map_err(|_| {
        Error::Invalid("these shares are whole, but of something that is no key".to_owned())
    })?;
    let secret = Secret::from_bytes(secret);
    Ok(if read_only {
        SeedKey::Read(ReadKey::from_secret(secret))
    } else {
        SeedKey::Root(RootSeed::from_secret(secret))
    })
}

impl Repository {
    /// The key slots, sorted by name.
    ///
    /// # Errors
    /// Denied for an archive; Unavailable.
    pub fn slots(&self) -> Result<Vec<Slot>> {
        Ok(self.block_on(self.store()?.slots())?)
    }

    /// Adds a key slot; no data is written.
    ///
    /// # Errors
    /// Invalid if the name is taken or the repository is not sealed; Denied for a read key.
    pub fn add_slot(&self, name: &str, recipients: &[Recipient], read_only: bool) -> Result<()> {
        let added = self.store()?.add_slot(name, recipients, read_only);
        Ok(self.block_on(added)?)
    }

    /// Removes a key slot. It keeps out who never opened it, nobody else.
    ///
    /// # Errors
    /// NotFound; Denied for a read key.
    pub fn remove_slot(&self, name: &str) -> Result<()> {
        Ok(self.block_on(self.store()?.remove_slot(name))?)
    }

    /// The key that opened the repository.
    ///
    /// # Errors
    /// Invalid if it is not sealed; Denied for an archive.
    pub fn key(&self) -> Result<&SeedKey> {
        let none = || Error::Invalid("this repository is not sealed and has no key".to_owned());
        self.store()?.key().ok_or_else(none)
    }

    /// The seed of the whole repository, of a name, or (if a revision is given) of a snapshot, as
    /// things are now.
    ///
    /// # Errors
    /// Invalid if the repository is not sealed or a hint is too long; NotFound; Denied if a read
    /// key is to give the root seed.
    pub fn seed(&self, target: Option<&Target>, options: SeedOptions) -> Result<Seed> {
        let key = match (self.key()?, options.read_only) {
            (key, false) => key.clone(),
            (SeedKey::Root(root), true) => SeedKey::Read(root.read_key()),
            (SeedKey::Read(read), true) => SeedKey::Read(read.clone()),
        };
        let (scope, state) = match target {
            None => (Scope::Repository, self.refs()?.head),
            Some(target) => {
                let tip = *self.find(target)?.id.digest();
                let name = Scope::Name(target.repo.clone());
                let is_snapshot = target.rev.is_some();
                (if is_snapshot { Scope::Snapshot } else { name }, Some(tip))
            }
        };
        let mut hints = options.hints;
        if hints.is_empty() {
            let backend = self.store()?.backend();
            let root = backend.root().map(|root| root.display().to_string());
            hints.push(root.unwrap_or_else(|| backend.name().to_owned()));
        }
        Ok(Seed {
            key,
            scope,
            state,
            hints,
        })
    }

    /// Whether the repository still holds what it held when the seed was written: a disk that
    /// shows an older state, or another repository, does not.
    ///
    /// # Errors
    /// Corrupt if it does not; those of reading.
    pub fn check_state(&self, seed: &Seed) -> Result<()> {
        let Some(state) = seed.state else {
            return Ok(());
        };
        let is_there = match seed.scope {
            Scope::Repository => self.log_holds(state)?,
            Scope::Name(_) | Scope::Snapshot => {
                let id = mmh_core::SnapshotId::from_digest(state);
                match objects::snapshot(self.source(), id) {
                    Ok(_) => true,
                    Err(e) if e.kind() == mmh_core::ErrorKind::NotFound => false,
                    Err(e) => return Err(e),
                }
            }
        };
        if is_there {
            return Ok(());
        }
        Err(Error::Corrupt(
            "the store does not hold the state that the seed names: it is an older copy, or its \
             log was cut"
                .to_owned(),
        ))
    }

    /// Whether an entry of the log has this digest.
    fn log_holds(&self, digest: mmh_core::Digest) -> Result<bool> {
        let Backing::Store(store) = &self.backing else {
            return Ok(false);
        };
        let view = self.refs()?;
        if view.head == Some(digest) {
            return Ok(true);
        }
        let mut before = None;
        loop {
            let entries = self.block_on(store.operations(before, LOG_PAGE))?;
            let Some(last) = entries.last() else {
                return Ok(false);
            };
            if entries.iter().any(|entry| entry.prev == Some(digest)) {
                return Ok(true);
            }
            before = Some(last.seq);
        }
    }
}

/// Log entries that are looked at at once.
const LOG_PAGE: usize = 256;

#[cfg(test)]
mod tests {
    use mmh_core::ErrorKind;
    use mmh_crypto::testing::Counter;

    use super::*;

    #[test]
    fn files_of_age_may_have_comments() {
        let a = Identity::generate_hybrid(&Counter::new(1)).unwrap();
        let b = Identity::generate_x25519(&Counter::new(2)).unwrap();
        let secret = |i: &Identity| i.to_secret_text().unwrap();
        let text = format!("# made today\n\n{}\r\n  {}  \n", *secret(&a), *secret(&b));
        assert_eq!(identities(&text).unwrap().len(), 2);
        let public = [&a, &b].map(|i| i.recipient().unwrap().to_string());
        let parsed = recipients(&format!("#\n{}\n{}", public[0], public[1])).unwrap();
        assert_eq!(parsed.len(), 2);
        assert_eq!(parsed[0].to_string(), public[0]);
        for bad in ["AGE-SECRET-KEY-1QQ", "hello"] {
            assert_eq!(identities(bad).unwrap_err().kind(), ErrorKind::Invalid);
            assert_eq!(recipients(bad).unwrap_err().kind(), ErrorKind::Invalid);
        }
        assert!(identities("# nothing\n").unwrap().is_empty());
    }

    #[test]
    fn any_three_of_five_shares_are_the_key() {
        let root = RootSeed::from_secret(Secret::from_bytes(&[7; 32]));
        for key in [SeedKey::Root(root.clone()), SeedKey::Read(root.read_key())] {
            let read_only = matches!(key, SeedKey::Read(_));
            let shares = split(&key, (3, 5)).unwrap();
            for some in [[0, 1, 2], [4, 2, 0], [1, 3, 4]] {
                let text = some.map(|i| shares[i].as_str()).join("\n");
                assert_eq!(combine(&text, read_only).unwrap(), key);
            }
            let two = format!("{}\n{}", *shares[0], *shares[1]);
            assert_eq!(
                combine(&two, read_only).unwrap_err().kind(),
                ErrorKind::Invalid
            );
        }
        assert!(split(&SeedKey::Root(root), (6, 5)).is_err());
    }
}
