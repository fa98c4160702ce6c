//! What a command works with: runtime, pool, progress, cancellation, and the open repository.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use mmh_core::ErrorKind;
use mmh_core::ports::{Cancel, Progress, Silent, SystemClock};
use mmh_repo::key_folder::KeyFolder;
use mmh_repo::keys::SeedKey;
use mmh_repo::trust::Policy;
use mmh_repo::{
    Access, Backend, Components, Replaced, Repository, Settings, ShardReport, Store, entropy,
};
use mmh_user::{open, trust};
use tokio::runtime::Runtime;

use crate::args::Global;
use crate::args::sync::OtherKeys;
use crate::config::{Config, Setting};
use crate::failure::Failure;
use crate::keys::Keyring;
use crate::output::Output;
use crate::progress::Bar;

/// The state of one run of the program.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) config: Config,
    pub(crate) output: Output,
    pub(crate) keyring: Keyring,
    /// Whether names are read that are not signed as the rules demand.
    untrusted: bool,
    runtime: Runtime,
    components: Components,
    /// The store of the repository that was opened.
    opened: OnceLock<Store>,
}

impl Session {
    /// Starts runtime and pool and listens for Ctrl-C.
    ///
    /// # Errors
    /// Unavailable if threads cannot be started.
    pub(crate) fn start(
        global: &Global,
        config: Config,
        keyring: Keyring,
    ) -> Result<Self, Failure> {
        let internal = |what: String| Failure::Other(ErrorKind::Unavailable, what);
        let output = Output {
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.threads.value.clamp(1, 8))
            .enable_all()
            .build()
            .map_err(|e| internal(format!("cannot start the runtime: {e}")))?;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(config.threads.value)
            .build()
            .map_err(|e| {
                internal(format!(
                    "cannot start {} threads: {e}",
                    config.threads.value
                ))
            })?;
        let watched = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let progress: Arc<dyn Progress> = if watched && !output.quiet && !output.json {
            Arc::new(Bar::default())
        } else {
            Arc::new(Silent)
        };
        let cancel = Cancel::default();
        watch_interrupts(&runtime, cancel.clone());
        let components = Components {
            runtime: runtime.handle().clone(),
            pool: Arc::new(pool),
            progress,
            cancel,
            clock: Arc::new(SystemClock),
            engine: entropy::by_name(config.engine.value)
                .map_err(|e| Failure::invalid(e.to_string()))?,
            key: Arc::new(keyring.clone()),
            trust: Arc::default(),
        };
        Ok(Self {
            config,
            output,
            keyring,
            untrusted: global.untrusted,
            runtime,
            components,
            opened: OnceLock::new(),
        })
    }

    pub(crate) fn components(&self) -> Components {
        self.components.clone()
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            author: self.config.author.value.clone(),
            level: self.config.level.value,
            verify_encode: true,
        }
    }

    /// Where the repository is: as set, else the nearest folder above that holds one.
    ///
    /// # Errors
    /// NotFound if there is none.
    pub(crate) fn place(&self) -> Result<Setting<String>, Failure> {
        let here = std::env::current_dir().map_err(|e| {
            Failure::Other(
                ErrorKind::of_io(&e),
                format!("cannot read the current folder: {e}"),
            )
        });
        // A place that is set needs no current folder.
        let here = match &self.config.repository {
            Some(_) => here.unwrap_or_default(),
            None => here?,
        };
        Ok(open::place(&self.config, &here)?)
    }

    /// Opens the repository.
    ///
    /// # Errors
    /// NotFound, Unsupported, Corrupt; Invalid if the rules of trust cannot be read.
    pub(crate) fn open(&self) -> Result<Repository, Failure> {
        if self.untrusted {
            return self.open_to_look();
        }
        self.open_judging()
    }

    /// Opens the repository to look at names and history, whoever signed them.
    ///
    /// # Errors
    /// NotFound, Unsupported, Corrupt.
    pub(crate) fn open_to_look(&self) -> Result<Repository, Failure> {
        self.open_by(self.components())
    }

    /// Opens the repository with the rules of trust, whatever was typed.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub(crate) fn open_judging(&self) -> Result<Repository, Failure> {
        self.open_by(Components {
            trust: Arc::new(self.policy()?),
            ..self.components()
        })
    }

    /// Opens the repository as [`Session::open`] does, for a server: Ctrl-C does not stop what is
    /// under way, for the server lets it end.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub(crate) fn open_to_serve(&self) -> Result<Repository, Failure> {
        let mut components = self.components();
        components.cancel = Cancel::default();
        components.progress = Arc::new(Silent);
        if !self.untrusted {
            components.trust = Arc::new(self.policy()?);
        }
        self.open_by(components)
    }

    /// The user's folder for signing keys and rules of trust.
    ///
    /// # Errors
    /// NotFound if the system says of no place for it.
    pub(crate) fn folder(&self) -> Result<&Path, Failure> {
        self.config.folder.as_deref().ok_or_else(|| {
            let what = "there is no place for keys and rules of trust: set HOME or XDG_CONFIG_HOME";
            Failure::Other(ErrorKind::NotFound, what.to_owned())
        })
    }

    /// The user's signing keys.
    ///
    /// # Errors
    /// As [`Session::folder`].
    pub(crate) fn key_folder(&self) -> Result<KeyFolder, Failure> {
        let keyring = self.keyring.clone();
        let unlock = Box::new(move |name: &str| keyring.signing_passphrase(name));
        Ok(KeyFolder::new(self.folder()?.join("keys"), unlock))
    }

    /// The rules of trust in force; none where the system says of no place for them.
    ///
    /// # Errors
    /// Invalid for a malformed file or key, naming it.
    pub(crate) fn policy(&self) -> Result<Policy, Failure> {
        match &self.config.folder {
            Some(folder) => Ok(trust::policy(folder, &self.key_folder()?)?),
            None => Ok(Policy::default()),
        }
    }

    /// Milliseconds since 1970-01-01 UTC.
    pub(crate) fn now_ms(&self) -> u64 {
        self.components.clock.now_ms()
    }

    /// Opens the repository with this key.
    ///
    /// # Errors
    /// As [`Session::open`]; Denied if it is another repository's.
    pub(crate) fn open_with(&self, key: SeedKey) -> Result<Repository, Failure> {
        self.open_by(Components {
            key: Arc::new(key),
            ..self.components()
        })
    }

    /// Opens the repository for what is to be done although we were asked to stop.
    ///
    /// # Errors
    /// As [`Session::open_to_look`].
    pub(crate) fn open_to_finish(&self) -> Result<Repository, Failure> {
        self.open_by(Components {
            cancel: Cancel::default(),
            ..self.components()
        })
    }

    fn open_by(&self, components: Components) -> Result<Repository, Failure> {
        let (place, settings) = (self.place()?.value, self.settings());
        let repository = open::open(&place, &self.config.access(), settings, components)?;
        if let Ok(store) = repository.store() {
            self.output.tell_away(&store.backend().away());
            self.opened.get_or_init(|| store.clone());
        }
        Ok(repository)
    }

    /// Puts empty stores that are named in the place of lost ones, if the repository is a stripe.
    ///
    /// # Errors
    /// Unavailable; Conflict; Denied.
    pub(crate) fn replace_lost(&self) -> Result<(Vec<Replaced>, ShardReport), Failure> {
        let place = self.place()?.value;
        if PathBuf::from(&place).is_file() {
            return Ok((Vec::new(), ShardReport::default()));
        }
        let backend = Backend::parse_existing(&place, &self.config.access())?;
        Ok(mmh_repo::replace_lost(&backend, &self.components())?)
    }

    /// How other repositories are reached: the log that was named is this one's.
    fn access_to_others(&self) -> Access {
        Access {
            log: None,
            ..self.config.access()
        }
    }

    /// Opens another repository.
    ///
    /// # Errors
    /// NotFound, Unsupported, Corrupt, each naming the place.
    pub(crate) fn open_other(&self, place: &str) -> Result<Repository, Failure> {
        self.open_other_by(place, &OtherKeys::default())
    }

    /// Opens another repository, with keys of its own if any are named.
    ///
    /// # Errors
    /// As [`Session::open_other`]; Denied.
    pub(crate) fn open_other_by(
        &self,
        place: &str,
        keys: &OtherKeys,
    ) -> Result<Repository, Failure> {
        let mut components = self.components();
        if !keys.is_empty() {
            components.key = Arc::new(Keyring::of_other(keys));
        }
        let backend = Backend::parse_existing(place, &self.access_to_others())?;
        Ok(Repository::open(backend, self.settings(), components)?)
    }

    /// Tells what was healed, and ends without waiting for reads that nobody needs any more.
    pub(crate) fn end(self) {
        let healed = self
            .opened
            .get()
            .map(Store::take_healed)
            .unwrap_or_default();
        self.output.tell_healed(&healed);
        let around = (self.opened.get()).map_or(0, |store| store.backend().shards_read_around());
        self.output.tell_read_around(around);
        self.runtime.shutdown_background();
    }
}

/// The first Ctrl-C asks for a stop at the next safe point, the second ends the process: every
/// state on the disk is valid at any time. On return the handler is in place.
#[cfg(unix)]
fn watch_interrupts(runtime: &Runtime, cancel: Cancel) {
    use tokio::signal::unix::{SignalKind, signal};
    let _inside = runtime.enter();
    // Without a handler Ctrl-C still ends the process, and the repository stays valid.
    let Ok(mut interrupts) = signal(SignalKind::interrupt()) else {
        return;
    };
    runtime.spawn(async move {
        while interrupts.recv().await.is_some() {
            stop(&cancel);
        }
    });
}

#[cfg(not(unix))]
fn watch_interrupts(runtime: &Runtime, cancel: Cancel) {
    runtime.spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            stop(&cancel);
        }
    });
}

#[allow(clippy::exit, reason = "the user insists")]
fn stop(cancel: &Cancel) {
    if cancel.is_cancelled() {
        std::process::exit(130);
    }
    cancel.cancel();
}
