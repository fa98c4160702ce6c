//! Keys of a sealed repository: where they come from when it is opened, and its key slots.
//!
//! A slot is an age file under `mmh/keys/` that holds the root seed or the read key. Which of the
//! two it is, and that it is this repository's, the configuration's proof tells. FORMAT.md, "Key
//! slots".

use std::fmt::Debug;

use bytes::Bytes;
use mmh_core::Digest;
use mmh_crypto::age::{self, Identity, Recipient};
use mmh_crypto::seed::SeedKey;
use mmh_crypto::{ReadKey, RootSeed, Secret};

use crate::backend::Backend;
use crate::config::Config;
use crate::entropy::SystemEntropy;
use crate::error::{Error, Result};
use crate::names;
use crate::objects::is_taken;
use crate::vault::Vault;

/// Longest slot that is read, in bytes: some hundred recipients.
pub const SLOT_LEN_MAX: usize = 1 << 20;
/// Longest name of a slot, in bytes.
pub const SLOT_NAME_LEN_MAX: usize = 64;

/// A key slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its name, which whoever holds the disk sees.
    pub name: String,
    /// The age file.
    pub file: Bytes,
}

impl Slot {
    /// The types of its recipients, as its header says.
    ///
    /// # Errors
    /// Invalid if it is no age file.
    pub fn recipients(&self) -> Result<Vec<String>> {
        Ok(age::recipient_types(&self.file)?)
    }
}

/// What somebody has who opens a repository.
#[derive(Debug)]
pub enum Offer {
    /// Nothing.
    Nothing,
    /// The key itself.
    Key(SeedKey),
    /// What may open a slot.
    Identities(Vec<Identity>),
}

/// Where keys come from.
pub trait KeySource: Send + Sync + Debug {
    /// What is offered for the repository at `place` with these slots. Asked once, and only if the
    /// repository is sealed, so that a person is not asked for nothing.
    ///
    /// # Errors
    /// Whatever keeps the source from answering.
    fn offer(&self, place: &str, slots: &[Slot]) -> Result<Offer>;

    /// Whether an unsealed repository is not what is expected: then it is refused.
    fn expects_sealed(&self) -> bool {
        true
    }
}

/// Has no key.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoKey;

impl KeySource for NoKey {
    fn offer(&self, _place: &str, _slots: &[Slot]) -> Result<Offer> {
        Ok(Offer::Nothing)
    }

    fn expects_sealed(&self) -> bool {
        false
    }
}

impl KeySource for SeedKey {
    fn offer(&self, _place: &str, _slots: &[Slot]) -> Result<Offer> {
        Ok(Offer::Key(self.clone()))
    }
}

impl KeySource for RootSeed {
    fn offer(&self, _place: &str, _slots: &[Slot]) -> Result<Offer> {
        Ok(Offer::Key(SeedKey::Root(self.clone())))
    }
}

/// How a repository is sealed from its beginning on.
#[derive(Debug, Clone)]
pub struct Sealing {
    /// Its secret.
    pub root: RootSeed,
    /// Its first slots: each a name and to whom it is encrypted.
    pub slots: Vec<(String, Vec<Recipient>)>,
}

impl Sealing {
    /// Writes the slots. Called before the configuration exists, so that no repository is ever
    /// without a way to open it.
    pub(crate) async fn write_slots(&self, backend: &Backend) -> Result<()> {
        for (name, recipients) in &self.slots {
            write_slot(backend, name, recipients, self.root.secret()).await?;
        }
        Ok(())
    }
}

/// The read key that belongs to a key.
pub(crate) fn read_key(key: &SeedKey) -> ReadKey {
    match key {
        SeedKey::Root(root) => root.read_key(),
        SeedKey::Read(read) => read.clone(),
    }
}

/// Finds the key of the repository of this configuration; `None` if it is not sealed.
pub(crate) async fn unlock(
    backend: &Backend,
    config: &Config,
    source: &dyn KeySource,
) -> Result<(Option<SeedKey>, Vault)> {
    let locked = |reason: String| Error::Locked {
        place: backend.name().to_owned(),
        reason,
    };
    if config.sealed.is_none() {
        if source.expects_sealed() {
            return Err(Error::NotSealed {
                place: backend.name().to_owned(),
            });
        }
        return Ok((None, Vault::default()));
    }
    let slots = list(backend).await?;
    let key = match source.offer(backend.name(), &slots)? {
        Offer::Key(key) => {
            let fits = config.is_vouched_by(&read_key(&key))?;
            fits.then_some(key)
                .ok_or_else(|| locked("the key is another repository's".to_owned()))?
        }
        Offer::Identities(identities) => open_slots(config, &slots, &identities)
            .await?
            .map_err(locked)?,
        Offer::Nothing => return Err(locked("no key was given".to_owned())),
    };
    let vault = Vault::new(&read_key(&key));
    Ok((Some(key), vault))
}

/// The key in the first slot that an identity opens and that is this repository's, or why there is
/// none.
async fn open_slots(
    config: &Config,
    slots: &[Slot],
    identities: &[Identity],
) -> Result<std::result::Result<SeedKey, String>> {
    let (config, slots) = (config.clone(), slots.to_vec());
    let identities = identities.to_vec();
    // A passphrase takes a second of computing.
    let job = move || {
        let mut reasons = Vec::new();
        for slot in &slots {
            match age::decrypt(&identities, &slot.file) {
                Ok(content) => match key_in(&content, &config)? {
                    Some(key) => return Ok(Ok(key)),
                    None => reasons.push(format!("{}: it is another repository's", slot.name)),
                },
                Err(mmh_crypto::Error::NoMatch) => {}
                Err(error) => reasons.push(format!("{}: {error}", slot.name)),
            }
        }
        let none = format!("none of {} key slots opens", slots.len());
        reasons.insert(0, none);
        Ok(Err(reasons.join("; ")))
    };
    let stopped = |e| Error::Internal {
        what: format!("opening a slot stopped: {e}"),
    };
    tokio::task::spawn_blocking(job).await.map_err(stopped)?
}

/// What a slot holds, if it is this repository's.
fn key_in(content: &[u8], config: &Config) -> Result<Option<SeedKey>> {
    let Ok(secret) = <&[u8; 32]>::try_from(content).map(Secret::from_bytes) else {
        return Ok(None);
    };
    let root = RootSeed::from_secret(secret.clone());
    if config.is_vouched_by(&root.read_key())? {
        return Ok(Some(SeedKey::Root(root)));
    }
    let read = ReadKey::from_secret(secret);
    Ok(config.is_vouched_by(&read)?.then_some(SeedKey::Read(read)))
}

/// All slots, sorted by name.
pub(crate) async fn list(backend: &Backend) -> Result<Vec<Slot>> {
    let mut slots = Vec::new();
    for (object, _) in backend.list(names::KEYS).await? {
        let Some(name) = names::parse_slot(&object) else {
            continue;
        };
        if let Some(file) = backend.read(&object, SLOT_LEN_MAX).await? {
            let name = name.to_owned();
            slots.push(Slot { name, file });
        }
    }
    Ok(slots)
}

/// Writes a slot under a name that is free.
pub(crate) async fn write_slot(
    backend: &Backend,
    name: &str,
    recipients: &[Recipient],
    secret: &Secret<32>,
) -> Result<()> {
    let object = names::slot(name).ok_or_else(|| Error::BadSlot {
        name: mmh_core::error::shorten(name),
        reason: "a name has 1 to 64 letters, digits, `-`, `_` or `.`",
    })?;
    let (recipients, secret) = (recipients.to_vec(), secret.clone());
    let job = move || age::encrypt(&recipients, secret.expose(), &SystemEntropy);
    let stopped = |e| Error::Internal {
        what: format!("making a slot stopped: {e}"),
    };
    let file = tokio::task::spawn_blocking(job).await.map_err(stopped)??;
    match backend.create(&object, file).await {
        Ok(()) => Ok(()),
        Err(error) if is_taken(&error) => Err(Error::BadSlot {
            name: name.to_owned(),
            reason: "there is one of that name already",
        }),
        Err(error) => Err(Error::engine(backend.place(&object))(error)),
    }
}

/// A name for a slot that nobody chose: the beginning of a digest.
#[must_use]
pub fn slot_name(recipients: &[Recipient]) -> String {
    if let [only @ Recipient::Passphrase(_)] = recipients {
        return only.to_string();
    }
    let all: Vec<String> = recipients.iter().map(Recipient::to_string).collect();
    let digest = Digest::of(all.join("\n").as_bytes()).to_string();
    format!("key-{}", &digest[..12])
}
