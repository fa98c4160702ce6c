//! Where the command line takes keys from: files, the environment's names of files, or a person.

use std::io::Read;
use std::path::{Path, PathBuf};

use mmh_core::ErrorKind;
use mmh_repo::StoreError;
use mmh_repo::keys::{
    self, Cost, Identity, KeySource, Offer, Passphrase, Recipient, Seed, Slot, slot_name,
};
use zeroize::Zeroizing;

use crate::args::keys::{KeyFiles, SlotArgs};
use crate::args::sync::OtherKeys;
use crate::config::Environment;
use crate::failure::Failure;
use crate::terminal;

/// Longest file with a secret that is read, in bytes.
const SECRET_LEN_MAX: u64 = 1 << 20;
/// The types of slots that a passphrase opens.
const PASSPHRASES: [&str; 2] = ["scrypt", "mmh-rs/argon2id"];

/// The files that were named.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keyring {
    identities: Vec<PathBuf>,
    passphrase: Option<PathBuf>,
    seed: Option<PathBuf>,
    /// What opens signing keys.
    signing: Option<PathBuf>,
}

impl Keyring {
    /// Flags win over the environment, each for itself.
    pub(crate) fn load(files: &KeyFiles, env: &dyn Environment) -> Self {
        let var = |name| env.var(name).map(PathBuf::from);
        let mut identities = files.identity.clone();
        if identities.is_empty() {
            identities.extend(var("MMH_IDENTITY"));
        }
        Self {
            identities,
            passphrase: files
                .passphrase_file
                .clone()
                .or_else(|| var("MMH_PASSPHRASE_FILE")),
            seed: files.seed_file.clone().or_else(|| var("MMH_SEED_FILE")),
            signing: files
                .key_passphrase_file
                .clone()
                .or_else(|| var("MMH_KEY_PASSPHRASE_FILE")),
        }
    }

    /// The files that were named for the other of two repositories.
    pub(crate) fn of_other(keys: &OtherKeys) -> Self {
        Self {
            identities: keys.other_identity.clone(),
            passphrase: keys.other_passphrase_file.clone(),
            seed: keys.other_seed_file.clone(),
            signing: None,
        }
    }

    fn is_empty(&self) -> bool {
        self.identities.is_empty() && self.passphrase.is_none() && self.seed.is_none()
    }

    /// What seals a new signing key.
    pub(crate) fn new_signing_passphrase(&self) -> Result<Passphrase, Failure> {
        let how = "give --key-passphrase-file or MMH_KEY_PASSPHRASE_FILE, run on a terminal to be \
                   asked, or use --plain to keep the key as it is";
        let text = new_passphrase(self.signing.as_deref(), how)?;
        Ok(Passphrase::new(&text))
    }

    /// The passphrase of a signing key, from its file or a person.
    pub(crate) fn signing_passphrase(&self, key: &str) -> mmh_repo::Result<Zeroizing<String>> {
        if let Some(file) = &self.signing {
            return Ok(passphrase_in(&secret_of(file)?));
        }
        if !terminal::is_watched() {
            return Err(mmh_repo::Error::Denied(format!(
                "the key `{key}` is sealed: name a file with its passphrase \
                 (--key-passphrase-file, MMH_KEY_PASSPHRASE_FILE), or run on a terminal to be asked"
            )));
        }
        let text = terminal::ask(&format!("passphrase of the key {key}"));
        text.map_err(|source| {
            let place = "the terminal".to_owned();
            StoreError::Io { place, source }.into()
        })
    }

    /// To whom a new slot is encrypted, and what it is called. Where no key was needed to come
    /// here, a passphrase file is that of the new slot.
    pub(crate) fn recipients(
        &self,
        args: &SlotArgs,
        is_first: bool,
    ) -> Result<(String, Vec<Recipient>), Failure> {
        let mut to = Vec::new();
        for text in &args.recipient {
            to.extend(keys::recipients(text)?);
        }
        for file in &args.recipients_file {
            to.extend(keys::recipients(&read_secret(file)?)?);
        }
        if is_first && to.is_empty() && args.new_passphrase_file.is_none() {
            for file in &self.identities {
                let own = keys::identities(&read_secret(file)?)?;
                to.extend(own.iter().filter_map(Identity::recipient));
            }
        }
        if to.is_empty() {
            let first = self.passphrase.as_ref().filter(|_| is_first);
            let file = args.new_passphrase_file.as_ref().or(first);
            let cost = if args.scrypt {
                Cost::SCRYPT
            } else {
                Cost::ARGON2ID
            };
            let how = "whom is it sealed for? Give --recipient, --new-passphrase-file or \
                       MMH_PASSPHRASE_FILE, or run on a terminal to be asked";
            let text = new_passphrase(file.map(PathBuf::as_path), how)?;
            to.push(Recipient::Passphrase(
                Passphrase::new(&text).with_cost(cost),
            ));
        }
        let name = args.name.clone().unwrap_or_else(|| slot_name(&to));
        Ok((name, to))
    }
}

impl KeySource for Keyring {
    fn offer(&self, place: &str, slots: &[Slot]) -> mmh_repo::StoreResult<Offer> {
        if let Some(file) = &self.seed {
            let text = secret_of(file)?;
            return Ok(Offer::Key(Seed::parse(&text)?.seed.key));
        }
        let mut identities = Vec::new();
        for file in &self.identities {
            let parsed = keys::identities(&secret_of(file)?);
            identities.extend(parsed.map_err(|e| StoreError::Locked {
                place: file.display().to_string(),
                reason: e.to_string(),
            })?);
        }
        if let Some(file) = &self.passphrase {
            let text = passphrase_in(&secret_of(file)?);
            identities.push(Identity::Passphrase(Passphrase::new(&text)));
        }
        let is_asked = |slot: &Slot| {
            let types = slot.recipients().unwrap_or_default();
            types.iter().any(|t| PASSPHRASES.contains(&t.as_str()))
        };
        if self.is_empty() && slots.iter().any(is_asked) && terminal::is_watched() {
            let text = terminal::ask(&format!("passphrase of {place}"));
            let text = text.map_err(|source| StoreError::Io {
                place: "the terminal".to_owned(),
                source,
            })?;
            identities.push(Identity::Passphrase(Passphrase::new(&text)));
        }
        if identities.is_empty() {
            return Ok(Offer::Nothing);
        }
        Ok(Offer::Identities(identities))
    }

    fn expects_sealed(&self) -> bool {
        !self.is_empty()
    }
}

/// Asks twice, or reads a file; where neither can be, `how` says what to do.
fn new_passphrase(file: Option<&Path>, how: &str) -> Result<Zeroizing<String>, Failure> {
    let text = match file {
        Some(file) => passphrase_in(&read_secret(file)?),
        None if terminal::is_watched() => {
            let failed = |e| Failure::Other(ErrorKind::of_io(&e), format!("the terminal: {e}"));
            let text = terminal::ask("new passphrase").map_err(failed)?;
            let again = terminal::ask("once more").map_err(failed)?;
            if text != again {
                return Err(Failure::invalid("the passphrases differ".to_owned()));
            }
            text
        }
        None => {
            return Err(Failure::invalid(how.to_owned()));
        }
    };
    if text.is_empty() {
        return Err(Failure::invalid("the passphrase is empty".to_owned()));
    }
    Ok(text)
}

/// A passphrase is a file without its last line end.
fn passphrase_in(text: &str) -> Zeroizing<String> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    Zeroizing::new(text.to_owned())
}

fn secret_of(file: &Path) -> mmh_repo::StoreResult<Zeroizing<String>> {
    read(file).map_err(|source| StoreError::Io {
        place: file.display().to_string(),
        source,
    })
}

/// Reads a file with a secret; `-` is standard input.
///
/// # Errors
/// NotFound, Denied; Invalid if it is too long or not text.
pub(crate) fn read_secret(file: &Path) -> Result<Zeroizing<String>, Failure> {
    Ok(secret_of(file)?)
}

fn read(file: &Path) -> std::io::Result<Zeroizing<String>> {
    let mut input: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(file)?)
    };
    let mut text = Zeroizing::new(String::with_capacity(4096));
    let len = input
        .by_ref()
        .take(SECRET_LEN_MAX + 1)
        .read_to_string(&mut text)?;
    if len as u64 > SECRET_LEN_MAX {
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "too long for a secret",
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Vars(&'static [(&'static str, &'static str)]);

    impl Environment for Vars {
        fn var(&self, name: &str) -> Option<String> {
            let found = self.0.iter().find(|(key, _)| *key == name)?;
            Some(found.1.to_owned())
        }

        fn starting(&self, _: &[&str]) -> std::collections::BTreeMap<String, String> {
            std::collections::BTreeMap::new()
        }
    }

    fn files(identity: &[&str], seed: Option<&str>) -> KeyFiles {
        KeyFiles {
            identity: identity.iter().map(PathBuf::from).collect(),
            passphrase_file: None,
            seed_file: seed.map(PathBuf::from),
            key_passphrase_file: None,
        }
    }

    #[test]
    fn flags_win_over_the_environment() {
        let env = Vars(&[("MMH_IDENTITY", "e"), ("MMH_PASSPHRASE_FILE", "p")]);
        let ring = Keyring::load(&files(&["f"], None), &env);
        assert_eq!(ring.identities, [PathBuf::from("f")]);
        assert_eq!(ring.passphrase, Some(PathBuf::from("p")));
        assert!(ring.expects_sealed());
        let ring = Keyring::load(&files(&[], Some("s")), &Vars(&[]));
        assert_eq!(ring.seed, Some(PathBuf::from("s")));
        assert!(!Keyring::load(&files(&[], None), &Vars(&[])).expects_sealed());
    }

    #[test]
    fn only_the_line_end_of_a_passphrase_file_is_left_out() {
        for (file, text) in [
            ("a b \n", "a b "),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
            ("", ""),
        ] {
            assert_eq!(passphrase_in(file).as_str(), text);
        }
    }

    #[test]
    fn without_files_nothing_is_offered() {
        let offer = Keyring::default().offer("place", &[]).unwrap();
        assert!(matches!(offer, Offer::Nothing));
        let ring = Keyring::load(&files(&["/no/such/file"], None), &Vars(&[]));
        let error = ring.offer("place", &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
