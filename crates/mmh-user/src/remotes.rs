//! Named remotes: a file of this user that says which places a repository exchanges with.
//!
//! They are no part of the repository: a path means something on one machine only, and whoever
//! reads a bucket need not learn where else its owner keeps copies. Passwords are refused.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use mmh_core::ErrorKind;

use crate::config::{Environment, config_folder};
use crate::error::Error;

/// The remote that is meant when none is named.
pub const DEFAULT: &str = "origin";
/// Longest file that is read, in bytes.
const FILE_LEN_MAX: u64 = 1 << 20;
/// Longest name of a remote, in bytes.
const NAME_LEN_MAX: usize = 64;

/// Places by the names of remotes, for each repository, which is known by its own place.
type All = BTreeMap<String, BTreeMap<String, String>>;

/// The remotes of one repository.
#[derive(Debug)]
pub struct Remotes {
    file: PathBuf,
    /// The repository's own place.
    here: String,
}

impl Remotes {
    /// Those of the repository in this place, which need not be opened for that.
    ///
    /// # Errors
    /// NotFound if this user has no folder for settings.
    pub fn of(place: &str, env: &dyn Environment) -> Result<Self, Error> {
        let folder = config_folder(env).ok_or_else(|| {
            let what = "no folder for settings: HOME is not set".to_owned();
            Error::Other(ErrorKind::NotFound, what)
        })?;
        let file = folder.join("remotes.json");
        // A folder is the same by whatever path.
        let root = fs::canonicalize(place).ok();
        let here = root.map_or_else(|| place.to_owned(), |root| root.display().to_string());
        Ok(Self { file, here })
    }

    fn failed(&self, action: &str) -> impl FnOnce(std::io::Error) -> Error {
        let what = format!("cannot {action} {}", self.file.display());
        move |e| Error::Other(ErrorKind::of_io(&e), format!("{what}: {e}"))
    }

    fn read(&self) -> Result<All, Error> {
        match fs::metadata(&self.file) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(All::new()),
            Ok(meta) if meta.len() > FILE_LEN_MAX => {
                let what = format!("{} is too long", self.file.display());
                return Err(Error::invalid(what));
            }
            _ => {}
        }
        let text = fs::read(&self.file).map_err(self.failed("read"))?;
        serde_json::from_slice(&text)
            .map_err(|e| Error::invalid(format!("{}: {e}", self.file.display())))
    }

    /// Writes all remotes: into a file of its own, renamed when it is whole.
    fn write(&self, all: &All) -> Result<(), Error> {
        let write = || -> std::io::Result<()> {
            let folder = self.file.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(folder)?;
            let half = self.file.with_extension(format!("{}", std::process::id()));
            let mut file = fs::File::create(&half)?;
            file.write_all(&serde_json::to_vec_pretty(all)?)?;
            file.sync_all()?;
            fs::rename(&half, &self.file)
        };
        write().map_err(self.failed("write"))
    }

    /// All of them.
    ///
    /// # Errors
    /// Invalid if the file is damaged; Denied.
    pub fn list(&self) -> Result<BTreeMap<String, String>, Error> {
        Ok(self.read()?.remove(&self.here).unwrap_or_default())
    }

    /// Adds one.
    ///
    /// # Errors
    /// Invalid for an unfit name or a place with a password; Conflict if the name is taken.
    pub fn add(&self, name: &str, place: &str) -> Result<String, Error> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        let first = name
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric());
        if !first || name.len() > NAME_LEN_MAX || !name.bytes().all(fits) {
            let what = "a remote's name has 1 to 64 letters, digits, `-`, `_` and `.`".to_owned();
            return Err(Error::invalid(what));
        }
        if has_password(place) {
            let what = "a place with a password is not kept; name it by variables or files";
            return Err(Error::invalid(what.to_owned()));
        }
        let place = absolute(place);
        let mut all = self.read()?;
        let mine = all.entry(self.here.clone()).or_default();
        if let Some(old) = mine.get(name).filter(|old| **old != place) {
            let what = format!("remote `{name}` is {old} already; `mmh remote rm {name}` first");
            return Err(Error::Other(ErrorKind::Conflict, what));
        }
        mine.insert(name.to_owned(), place.clone());
        self.write(&all)?;
        Ok(place)
    }

    /// Forgets one.
    ///
    /// # Errors
    /// NotFound.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let mut all = self.read()?;
        let mine = all.entry(self.here.clone()).or_default();
        if mine.remove(name).is_none() {
            return Err(unknown(name));
        }
        all.retain(|_, remotes| !remotes.is_empty());
        self.write(&all)
    }

    /// The place that is meant: of a remote, or as it was typed; without a word that of `origin`
    /// or of the only remote.
    ///
    /// # Errors
    /// NotFound if no remote has that name, or none can be meant.
    pub fn place(&self, word: Option<&str>) -> Result<String, Error> {
        let remotes = self.list()?;
        let Some(word) = word else {
            let only = remotes.values().next().filter(|_| remotes.len() == 1);
            let place = remotes.get(DEFAULT).or(only);
            return place.cloned().ok_or_else(|| {
                let what = match remotes.is_empty() {
                    true => "no remote: name a place, or add one with `mmh remote add`".to_owned(),
                    false => "which remote? None of them is `origin`".to_owned(),
                };
                Error::Other(ErrorKind::NotFound, what)
            });
        };
        match remotes.get(word) {
            Some(place) => Ok(place.clone()),
            None if looks_like_a_place(word) => Ok(word.to_owned()),
            None => Err(unknown(word)),
        }
    }
}

fn unknown(name: &str) -> Error {
    let name = mmh_core::error::shorten(name);
    let what = format!("no remote `{name}`; `mmh remote list` shows those there are");
    Error::Other(ErrorKind::NotFound, what)
}

/// Whether a word is a path or a URL.
fn looks_like_a_place(word: &str) -> bool {
    word.contains(['/', '\\']) || word.starts_with('.') || Path::new(word).is_dir()
}

/// Whether a URL has a password before its host.
fn has_password(place: &str) -> bool {
    let rest = place.split_once("://").map(|(_, rest)| rest);
    let authority = rest.and_then(|rest| rest.split('/').next());
    let user = authority.and_then(|authority| authority.rsplit_once('@'));
    user.is_some_and(|(user, _)| user.contains(':'))
}

/// A folder as it is found from anywhere on this machine; a URL as it is.
fn absolute(place: &str) -> String {
    if place.contains("://") {
        return place.to_owned();
    }
    let whole = std::path::absolute(place);
    whole.map_or_else(|_| place.to_owned(), |path| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Home(PathBuf);

    impl Environment for Home {
        fn var(&self, name: &str) -> Option<String> {
            (name == "HOME").then(|| self.0.display().to_string())
        }

        fn starting(&self, _: &[&str]) -> BTreeMap<String, String> {
            BTreeMap::new()
        }
    }

    fn at(home: &Path, here: &str) -> Remotes {
        Remotes::of(here, &Home(home.to_owned())).unwrap()
    }

    #[test]
    fn each_repository_has_remotes_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (at(dir.path(), "/one"), at(dir.path(), "s3://b/two"));
        assert!(one.list().unwrap().is_empty());
        assert_eq!(one.place(None).unwrap_err().kind(), ErrorKind::NotFound);
        one.add("backup", "s3://b/x").unwrap();
        one.add("backup", "s3://b/x").unwrap();
        assert_eq!(
            one.add("backup", "s3://b/y").unwrap_err().kind(),
            ErrorKind::Conflict
        );
        assert!(two.list().unwrap().is_empty());
        assert_eq!(one.place(None).unwrap(), "s3://b/x", "the only one");
        one.add("other", "/somewhere").unwrap();
        assert_eq!(one.place(None).unwrap_err().kind(), ErrorKind::NotFound);
        one.add(DEFAULT, "/origin").unwrap();
        assert_eq!(one.place(None).unwrap(), "/origin");
        assert_eq!(one.place(Some("other")).unwrap(), "/somewhere");
        for word in ["./x", "/x", "gs://x", dir.path().to_str().unwrap()] {
            assert_eq!(one.place(Some(word)).unwrap(), word);
        }
        assert_eq!(
            one.place(Some("none")).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        one.remove("other").unwrap();
        assert_eq!(one.remove("other").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(one.list().unwrap().len(), 2);
    }

    #[test]
    fn passwords_and_odd_names_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let remotes = at(dir.path(), "/one");
        for name in ["", "-x", "a b", "a/b", &"x".repeat(65)] {
            assert_eq!(
                remotes.add(name, "/x").unwrap_err().kind(),
                ErrorKind::Invalid
            );
        }
        for place in ["s3://key:secret@bucket/x", "https://u:p@h"] {
            assert_eq!(
                remotes.add("x", place).unwrap_err().kind(),
                ErrorKind::Invalid
            );
        }
        assert!(!has_password("s3://bucket/a:b@c") && !has_password("mmhs://PIN@host:1"));
        assert!(!dir.path().join(".config/mmh/remotes.json").exists());
        let relative = remotes.add("x", "below/here").unwrap();
        assert!(Path::new(&relative).is_absolute(), "{relative}");
    }

    #[test]
    fn a_damaged_file_is_said_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let remotes = at(dir.path(), "/one");
        remotes.add("x", "/x").unwrap();
        fs::write(&remotes.file, "{").unwrap();
        assert_eq!(remotes.list().unwrap_err().kind(), ErrorKind::Invalid);
        assert!(remotes.add("y", "/y").is_err());
        assert_eq!(fs::read(&remotes.file).unwrap(), b"{");
    }
}
