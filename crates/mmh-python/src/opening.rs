//! Opening repositories as the user's settings, rules of trust and keys say.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use mmh_core::ErrorKind;
use mmh_repo::key_folder::KeyFolder;
use mmh_repo::keys::{
    Passphrase, Recipient, RootSeed, Sealing, SystemEntropy, recipients, slot_name,
};
use mmh_repo::trust::Policy;
use mmh_repo::{Backend, Components, InitOptions, Settings};
use mmh_user::{Config, Flags, trust};
use pyo3::prelude::*;
use zeroize::Zeroizing;

use crate::failure::{Failure, Result};
use crate::keys::Keys;
use crate::machine::Machine;

/// What Python hands in: a dictionary with all of these keys.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Options {
    place: Option<String>,
    /// The current folder.
    here: PathBuf,
    /// The environment.
    variables: BTreeMap<String, String>,
    author: Option<String>,
    threads: Option<usize>,
    log: Option<String>,
    level: Option<String>,
    keys: KeyTexts,
    /// Whether names are read that are not signed as the rules demand.
    untrusted: bool,
    /// Bytes of decoded chunks that are kept in memory.
    memory: u64,
}

/// Keys as text.
#[derive(Default, FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct KeyTexts {
    identities: Vec<String>,
    passphrase: Option<String>,
    seed: Option<String>,
}

impl From<KeyTexts> for Keys {
    fn from(texts: KeyTexts) -> Self {
        Self {
            identities: texts.identities.into_iter().map(Zeroizing::new).collect(),
            passphrase: texts.passphrase.map(Zeroizing::new),
            seed: texts.seed.map(Zeroizing::new),
        }
    }
}

/// A repository that is open, with what it was opened by.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) repository: Arc<mmh_repo::Repository>,
    pub(crate) machine: Arc<Machine>,
    pub(crate) place: String,
    pub(crate) config: Config,
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) memory: u64,
}

impl Opened {
    /// Opens another repository with the same threads, and keys of its own.
    ///
    /// # Errors
    /// NotFound, Unsupported, Corrupt, Denied.
    pub(crate) fn other(&self, place: &str, keys: Keys) -> Result<mmh_repo::Repository> {
        let components = Components {
            key: Arc::new(keys),
            ..self.machine.components()
        };
        let mut access = self.config.access();
        // The log that was named is this one's.
        access.log = None;
        let settings = settings(&self.config);
        Ok(mmh_user::open::open(place, &access, settings, components)?)
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        author: config.author.value.clone(),
        level: config.level.value,
        verify_encode: true,
    }
}

/// Settings that were read, and threads that run.
struct Ready {
    config: Config,
    machine: Arc<Machine>,
    variables: BTreeMap<String, String>,
    here: PathBuf,
    memory: u64,
}

impl Ready {
    fn new(options: Options) -> Result<Self> {
        let level = options.level.as_deref().map(str::parse).transpose();
        let level = level.map_err(|_| Failure::invalid("level: use fast, default or archive"))?;
        let flags = Flags {
            repository: options.place,
            author: options.author,
            threads: options.threads,
            engine: None,
            log: options.log,
            level,
        };
        let config = Config::load(&flags, &options.variables)?;
        Ok(Self {
            machine: Machine::start(&config, options.keys.into())?,
            config,
            variables: options.variables,
            here: options.here,
            memory: options.memory,
        })
    }

    fn opened(self, repository: mmh_repo::Repository, place: String) -> Opened {
        Opened {
            repository: Arc::new(repository),
            machine: self.machine,
            place,
            config: self.config,
            variables: self.variables,
            memory: self.memory,
        }
    }
}

/// The rules of trust of the user's folder; none without one.
fn policy(config: &Config) -> Result<Policy> {
    let Some(folder) = &config.folder else {
        return Ok(Policy::default());
    };
    let unlock = |_: &str| {
        Err(mmh_repo::Error::Denied(
            "no key is unlocked here".to_owned(),
        ))
    };
    let keys = KeyFolder::new(folder.join("keys"), Box::new(unlock));
    Ok(trust::policy(folder, &keys)?)
}

/// Opens the repository that the options name.
///
/// # Errors
/// NotFound, Unsupported, Corrupt, Denied; Invalid for settings or rules that cannot be read.
pub(crate) fn open(py: Python<'_>, options: Options) -> Result<Opened> {
    let untrusted = options.untrusted;
    let ready = Ready::new(options)?;
    let mut components = ready.machine.components();
    if !untrusted {
        components.trust = Arc::new(policy(&ready.config)?);
    }
    let place = mmh_user::open::place(&ready.config, &ready.here)?.value;
    let (access, settings) = (ready.config.access(), settings(&ready.config));
    let repository = ready.machine.run(py, None, || {
        Ok(mmh_user::open::open(&place, &access, settings, components)?)
    })?;
    Ok(ready.opened(repository, place))
}

/// Makes a new repository: a sealed one if there is somebody to seal it for.
///
/// # Errors
/// Invalid if there is one already, or for recipients that cannot be read.
pub(crate) fn init(py: Python<'_>, options: Options, sealed_for: &[String]) -> Result<Opened> {
    let passphrase = options.keys.passphrase.clone().map(Zeroizing::new);
    let sealing = sealing(sealed_for, passphrase)?;
    let ready = Ready::new(options)?;
    let set = ready
        .config
        .repository
        .as_ref()
        .map(|set| set.value.clone());
    let place = set.unwrap_or_else(|| ready.here.display().to_string());
    let (access, settings) = (ready.config.access(), settings(&ready.config));
    let components = ready.machine.components();
    let init = InitOptions {
        sealing,
        ..InitOptions::default()
    };
    let repository = ready.machine.run(py, None, || {
        let backend = Backend::parse(&place, &access)?;
        Ok(mmh_repo::Repository::init_with(
            backend, init, settings, components,
        )?)
    })?;
    Ok(ready.opened(repository, place))
}

/// For whom a repository is sealed: a slot for all recipients, and one for the passphrase.
fn sealing(
    sealed_for: &[String],
    passphrase: Option<Zeroizing<String>>,
) -> Result<Option<Sealing>> {
    let mut to: Vec<Recipient> = Vec::new();
    for text in sealed_for {
        to.extend(recipients(text)?);
    }
    let passphrase = passphrase.map(|text| vec![Recipient::Passphrase(Passphrase::new(&text))]);
    let all = [Some(to), passphrase].into_iter().flatten();
    let slots: Vec<_> = all
        .filter(|to| !to.is_empty())
        .map(|to| (slot_name(&to), to))
        .collect();
    if slots.is_empty() {
        return Ok(None);
    }
    let root = RootSeed::generate(&SystemEntropy).map_err(mmh_repo::Error::from)?;
    Ok(Some(Sealing { slots, root }))
}

/// Parses what Python names as text.
///
/// # Errors
/// Invalid.
pub(crate) fn parse<T: std::str::FromStr<Err = mmh_core::Error>>(text: &str) -> Result<T> {
    text.parse()
        .map_err(|error: mmh_core::Error| Failure::Other(ErrorKind::Invalid, error.to_string()))
}
