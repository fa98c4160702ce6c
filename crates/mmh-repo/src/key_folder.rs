//! Signing keys in a folder of the user, and the border behind which they might live elsewhere.
//!
//! A key `alice` is `alice.pub` and, if it is the user's own, `alice.key`: PEM as it is, or in an age
//! file that a passphrase opens. Certificates are `KEY-ROOT.cert` after the first digits of the two
//! ids. Only the owner may read the folder.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use mmh_crypto::age::{self, Identity, Passphrase, Recipient, armor};
use mmh_crypto::bundle::p256;
use mmh_crypto::sign::{AnyPublicKey, Certificate, SecretKey, Signer, certificate, key};
use mmh_store::SystemEntropy;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::trust::KnownKey;

/// Longest file of the folder that is read, in bytes.
const FILE_LEN_MAX: u64 = 128 << 10;
/// Longest name of a key.
const NAME_LEN_MAX: usize = 64;
/// Fewest digits of an id by which a key may be named.
const SHORT_ID_LEN_MIN: usize = 8;
/// Digits of ids in names of certificates.
const CERT_DIGITS: usize = 16;

/// Where signing keys are. Another implementation may leave them where they cannot be read: it only
/// has to sign.
pub trait KeyProvider: fmt::Debug {
    /// The keys that are there, by name.
    ///
    /// # Errors
    /// Unavailable; Invalid if what is there is no key.
    fn list(&self) -> Result<Vec<KeyInfo>>;

    /// A key that signs snapshots, or certificates if it is a root.
    ///
    /// # Errors
    /// NotFound; Denied if it cannot be unlocked; Invalid if it is of another type.
    fn signer(&self, name: &str) -> Result<Box<dyn Signer>>;

    /// A key that signs bundles for stock tools.
    ///
    /// # Errors
    /// As [`Self::signer`].
    fn bundle_signer(&self, name: &str) -> Result<Box<dyn p256::Signer>>;
}

/// How a secret key is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protection {
    /// A passphrase opens it.
    Sealed,
    /// Whoever reads the file has it.
    Plain,
}

/// A key of the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    /// Its name.
    pub name: String,
    /// What it is for: `composite`, `root` or `p256`.
    pub r#type: &'static str,
    /// Its id.
    pub id: String,
    /// How the secret key is kept, if it is here.
    pub secret: Option<Protection>,
}

/// What a text turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Imported {
    /// A public or secret key, under this name.
    Key(KeyInfo),
    /// A certificate for the key of this id.
    Certificate(String),
}

/// Asks for the passphrase of the key of this name.
pub type Unlock = Box<dyn Fn(&str) -> Result<Zeroizing<String>>>;

/// Keys as files.
pub struct KeyFolder {
    folder: PathBuf,
    unlock: Unlock,
}

impl fmt::Debug for KeyFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyFolder({})", self.folder.display())
    }
}

impl KeyFolder {
    /// Keys below `folder`, which need not exist yet.
    #[must_use]
    pub fn new(folder: PathBuf, unlock: Unlock) -> Self {
        Self { folder, unlock }
    }

    /// Keeps a new key under `name`, sealed with `passphrase` or, without one, as it is.
    ///
    /// # Errors
    /// Invalid for a bad name; Conflict if there is a key of that name; what the system says.
    pub fn create(
        &self,
        name: &str,
        key: &SecretKey,
        passphrase: Option<Passphrase>,
    ) -> Result<KeyInfo> {
        let text = match passphrase {
            None => key.to_pem(),
            Some(passphrase) => {
                let to = [Recipient::Passphrase(passphrase)];
                let sealed = age::encrypt(&to, key.to_pem().as_bytes(), &SystemEntropy)?;
                Zeroizing::new(armor::encode(&sealed))
            }
        };
        self.keep(name, &key.public(), Some(&text))
    }

    /// Takes over a public key, a secret key or a certificate as it was exported. A key gets the
    /// name `name`; a certificate needs none.
    ///
    /// # Errors
    /// Invalid if the text is nothing of that or `name` is bad; Denied if it is sealed and cannot be
    /// unlocked; Conflict if another key has that name.
    pub fn import(&self, text: &str, name: &str) -> Result<Imported> {
        if certificate::is_pem(text) {
            let certificate = Certificate::from_pem(text)?;
            self.add_certificate(&certificate)?;
            return Ok(Imported::Certificate(
                certificate.claims().key.id().to_string(),
            ));
        }
        check_name(name)?;
        let is_secret = armor::is_armored(text.as_bytes()) || key::is_secret_pem(text);
        let public = match is_secret {
            true => self.open(name, text)?.public(),
            false => AnyPublicKey::from_pem(text)?,
        };
        // The secret key of a public one that is here already comes beside it.
        let is_here = self.path(name, "pub").exists() && self.public(name)? == public;
        if is_here && is_secret && !self.path(name, "key").exists() {
            self.write_new(&self.path(name, "key"), text)?;
            return Ok(Imported::Key(self.info(name)?));
        }
        self.keep(name, &public, is_secret.then_some(text))
            .map(Imported::Key)
    }

    fn keep(&self, name: &str, public: &AnyPublicKey, secret: Option<&str>) -> Result<KeyInfo> {
        check_name(name)?;
        for extension in ["pub", "key"] {
            if self.path(name, extension).exists() {
                return Err(Error::Conflict(format!("there is a key `{name}` already")));
            }
        }
        if let Some(text) = secret {
            self.write_new(&self.path(name, "key"), text)?;
        }
        self.write_new(&self.path(name, "pub"), &public.to_pem())?;
        self.info(name)
    }

    /// Keeps a certificate, in the place of an older one by the same root for the same key.
    ///
    /// # Errors
    /// What the system says.
    pub fn add_certificate(&self, certificate: &Certificate) -> Result<()> {
        let digits = |id: String| id.get(..CERT_DIGITS).unwrap_or_default().to_owned();
        let key = digits(certificate.claims().key.id().to_string());
        let root = digits(certificate.issuer().to_string());
        let path = self.folder.join(format!("{key}-{root}.cert"));
        let fresh = path.with_extension("new");
        fs::remove_file(&fresh)
            .or_else(if_absent)
            .map_err(Error::io("replace", &fresh))?;
        self.write_new(&fresh, &certificate.to_pem())?;
        fs::rename(&fresh, &path).map_err(Error::io("replace", &path))
    }

    /// The certificates, in order of their files.
    ///
    /// # Errors
    /// Invalid if one is damaged, naming the file; what the system says.
    pub fn certificates(&self) -> Result<Vec<Certificate>> {
        let files = self.files("cert")?;
        let read = |path: PathBuf| {
            let text = read(&path)?;
            Certificate::from_pem(&text).map_err(|e| in_file(&path, &e))
        };
        files.into_iter().map(read).collect()
    }

    /// The certificate for a key that holds longest, if any.
    ///
    /// # Errors
    /// As [`Self::certificates`].
    pub fn certificate_for(&self, id: &str) -> Result<Option<Certificate>> {
        let all = self.certificates()?.into_iter();
        let fitting = all.filter(|c| c.claims().key.id().to_string() == id);
        Ok(fitting.max_by_key(|c| c.claims().not_after_ms))
    }

    /// The name of the key that `text` names: its name, or at least eight digits of its id.
    ///
    /// # Errors
    /// NotFound; Invalid if several fit.
    pub fn find(&self, text: &str) -> Result<KeyInfo> {
        let all = self.list()?;
        if let Some(named) = all.iter().find(|info| info.name == text) {
            return Ok(named.clone());
        }
        let is_id = text.len() >= SHORT_ID_LEN_MIN;
        let mut fitting = all.into_iter().filter(|i| is_id && i.id.starts_with(text));
        match (fitting.next(), fitting.next()) {
            (Some(info), None) => Ok(info),
            (Some(_), Some(_)) => Err(Error::Invalid(format!("`{text}` fits several keys"))),
            (None, _) => Err(Error::Invalid(format!(
                "there is no key `{text}` here; `mmh key list` shows those that are"
            ))),
        }
    }

    /// A public key by its exact name.
    ///
    /// # Errors
    /// NotFound; Invalid if the file is no key.
    pub fn public(&self, name: &str) -> Result<AnyPublicKey> {
        check_name(name)?;
        let path = self.path(name, "pub");
        AnyPublicKey::from_pem(&read(&path)?).map_err(|e| in_file(&path, &e))
    }

    /// The public keys by which snapshots and certificates are verified.
    ///
    /// # Errors
    /// As [`Self::public`].
    pub fn known(&self) -> Result<Vec<KnownKey>> {
        let mut known = Vec::new();
        for label in self.names()? {
            if let AnyPublicKey::Signing(key) = self.public(&label)? {
                known.push(KnownKey { label, key });
            }
        }
        Ok(known)
    }

    /// The text of a secret key as it is kept: sealed, if it is.
    ///
    /// # Errors
    /// NotFound.
    pub fn secret_text(&self, name: &str) -> Result<Zeroizing<String>> {
        check_name(name)?;
        read(&self.path(name, "key"))
    }

    /// A secret key, unlocked.
    ///
    /// # Errors
    /// NotFound if it is not here; Denied if it cannot be unlocked; Invalid if it is damaged or
    /// does not belong to the public key beside it.
    pub fn secret(&self, name: &str) -> Result<SecretKey> {
        let key = self.open(name, &self.secret_text(name)?)?;
        if key.public() != self.public(name)? {
            let path = self.path(name, "key");
            let what = format!("{} is not the key of `{name}.pub`", path.display());
            return Err(Error::Invalid(what));
        }
        Ok(key)
    }

    fn open(&self, name: &str, text: &str) -> Result<SecretKey> {
        if !armor::is_armored(text.as_bytes()) {
            return Ok(SecretKey::from_pem(text)?);
        }
        let passphrase = (self.unlock)(name)?;
        let identity = Identity::Passphrase(Passphrase::new(&passphrase));
        let opened = age::decrypt(&[identity], text.as_bytes())?;
        let text = std::str::from_utf8(&opened);
        let text = text.map_err(|_| Error::Invalid(format!("the key `{name}` is no text")))?;
        Ok(SecretKey::from_pem(text)?)
    }

    /// Deletes a key; certificates for it stay.
    ///
    /// # Errors
    /// NotFound if there is none.
    pub fn delete(&self, name: &str) -> Result<()> {
        self.public(name)?;
        for extension in ["key", "pub"] {
            let path = self.path(name, extension);
            fs::remove_file(&path)
                .or_else(if_absent)
                .map_err(Error::io("delete", &path))?;
        }
        Ok(())
    }

    fn info(&self, name: &str) -> Result<KeyInfo> {
        let public = self.public(name)?;
        let path = self.path(name, "key");
        let secret = match path.exists() {
            false => None,
            true if armor::is_armored(read(&path)?.as_bytes()) => Some(Protection::Sealed),
            true => Some(Protection::Plain),
        };
        Ok(KeyInfo {
            name: name.to_owned(),
            r#type: public.key_type().name(),
            id: public.id(),
            secret,
        })
    }

    fn names(&self) -> Result<Vec<String>> {
        let stem = |path: PathBuf| {
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            stem.filter(|name| check_name(name).is_ok())
                .map(str::to_owned)
        };
        Ok(self.files("pub")?.into_iter().filter_map(stem).collect())
    }

    /// The files with this extension, sorted; none if there is no folder.
    fn files(&self, extension: &str) -> Result<Vec<PathBuf>> {
        let failed = || Error::io("read", &self.folder);
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(failed()(e)),
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed())?.path();
            if path.extension().is_some_and(|e| e == extension) {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    fn path(&self, name: &str, extension: &str) -> PathBuf {
        self.folder.join(format!("{name}.{extension}"))
    }

    /// Writes a file that nobody else may read, and that must not be there yet.
    fn write_new(&self, path: &Path, text: &str) -> Result<()> {
        make_folder(&self.folder).map_err(Error::io("create", &self.folder))?;
        write_private(path, text).map_err(Error::io("create", path))
    }
}

impl KeyProvider for KeyFolder {
    fn list(&self) -> Result<Vec<KeyInfo>> {
        self.names()?.iter().map(|name| self.info(name)).collect()
    }

    fn signer(&self, name: &str) -> Result<Box<dyn Signer>> {
        match self.secret(name)? {
            SecretKey::Composite(key) => Ok(key),
            SecretKey::Root(key) => Ok(key),
            _ => Err(wrong_type(
                name,
                "a bundle for stock tools alone (--bundle)",
            )),
        }
    }

    fn bundle_signer(&self, name: &str) -> Result<Box<dyn p256::Signer>> {
        match self.secret(name)? {
            SecretKey::P256(key) => Ok(key),
            _ => Err(wrong_type(name, "no bundle: make a key of the type `p256`")),
        }
    }
}

/// Makes a folder that only its owner may enter.
fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Writes a new file that only its owner may read, durably.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn read(path: &Path) -> Result<Zeroizing<String>> {
    let file = fs::File::open(path).map_err(Error::io("read", path))?;
    let mut text = Zeroizing::new(String::with_capacity(16 << 10));
    let len = file.take(FILE_LEN_MAX + 1).read_to_string(&mut text);
    match len.map_err(Error::io("read", path))? as u64 {
        ..=FILE_LEN_MAX => Ok(text),
        _ => Err(Error::Invalid(format!(
            "{} is too long for a key",
            path.display()
        ))),
    }
}

fn check_name(name: &str) -> Result<()> {
    let is_good = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.' | b'@');
    let has_length = (1..=NAME_LEN_MAX).contains(&name.len());
    if has_length && name.bytes().all(is_good) && !name.starts_with(['.', '-']) {
        return Ok(());
    }
    let name = mmh_core::error::shorten(name);
    Err(Error::Invalid(format!(
        "`{name}` is no name for a key: use letters, digits, `-`, `_`, `.` and `@`"
    )))
}

fn if_absent(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }
}

fn in_file(path: &Path, error: &mmh_crypto::Error) -> Error {
    Error::Invalid(format!("{}: {error}", path.display()))
}

fn wrong_type(name: &str, what: &str) -> Error {
    Error::Invalid(format!("the key `{name}` signs {what}"))
}

#[cfg(test)]
mod tests;
