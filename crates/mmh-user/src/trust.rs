//! The user's rules of trust, `trust.toml` beside the settings. FORMAT.md, "Signatures".
//!
//! A file that cannot be read stops every reading: nobody gets around a rule by damaging it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mmh_core::{ErrorKind, NamePattern};
use mmh_repo::key_folder::KeyFolder;
use mmh_repo::keys::KeyId;
use mmh_repo::trust::{Policy, Rule};
use serde::Deserialize;

use crate::error::Error;

/// Longest file that is read, in bytes.
const FILE_LEN_MAX: u64 = 16 << 20;

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Who may sign which names.
    pub rules: Vec<Rule>,
    /// Keys that count no more.
    pub revoked: BTreeSet<KeyId>,
}

/// The file as it is written. Unknown keys are errors.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    revoked: Vec<String>,
    #[serde(default)]
    rule: Vec<FileRule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRule {
    names: NamePattern,
    keys: Vec<String>,
    #[serde(default = "one")]
    need: usize,
}

fn one() -> usize {
    1
}

/// Where the rules are in the user's folder for settings.
#[must_use]
pub fn file(folder: &Path) -> PathBuf {
    folder.join("trust.toml")
}

/// The policy in force: the rules of the user's folder with the keys that they name. Without a
/// file nothing must be signed.
///
/// # Errors
/// Invalid for a malformed file or key, naming it.
pub fn policy(folder: &Path, keys: &KeyFolder) -> Result<Policy, Error> {
    policy_of(Rules::read(&file(folder))?, keys)
}

/// Rules with the keys of a folder.
///
/// # Errors
/// As [`policy`].
pub fn policy_of(rules: Rules, keys: &KeyFolder) -> Result<Policy, Error> {
    let Rules { rules, revoked } = rules;
    Ok(Policy::new(
        rules,
        revoked,
        keys.known()?,
        keys.certificates()?,
    )?)
}

impl Rules {
    /// Reads a file; without one there are no rules.
    ///
    /// # Errors
    /// Invalid for a malformed file, naming it; what the system says.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let failed = |e: io::Error| {
            let what = format!("cannot read the rules of trust {}: {e}", path.display());
            Error::Other(ErrorKind::of_io(&e), what)
        };
        let len = match fs::metadata(path) {
            Ok(meta) => meta.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(failed(e)),
        };
        if len > FILE_LEN_MAX {
            return Err(failed(io::ErrorKind::FileTooLarge.into()));
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        Self::parse(&text).map_err(|reason| {
            Error::invalid(format!("the rules of trust {}: {reason}", path.display()))
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
        let ids = |texts: Vec<String>| -> Result<BTreeSet<KeyId>, String> {
            let id = |text: &String| text.parse().map_err(|e| format!("`{text}`: {e}"));
            texts.iter().map(id).collect()
        };
        let rule = |rule: FileRule| {
            Ok(Rule {
                names: rule.names,
                keys: ids(rule.keys)?,
                need: rule.need,
            })
        };
        Ok(Self {
            rules: file
                .rule
                .into_iter()
                .map(rule)
                .collect::<Result<_, String>>()?,
            revoked: ids(file.revoked)?,
        })
    }

    /// The text of the file. Patterns and ids have no character that needs escaping.
    fn to_text(&self) -> String {
        let list = |ids: &BTreeSet<KeyId>| {
            let quoted: Vec<String> = ids.iter().map(|id| format!("\"{id}\"")).collect();
            quoted.join(", ")
        };
        let mut text =
            "# Who may sign which names; written by `mmh trust`. The keys are in `keys` \
                        beside this file.\n"
                .to_owned();
        text.push_str(&format!("revoked = [{}]\n", list(&self.revoked)));
        for Rule { names, keys, need } in &self.rules {
            let keys = list(keys);
            text.push_str(&format!(
                "\n[[rule]]\nnames = \"{names}\"\nkeys = [{keys}]\nneed = {need}\n"
            ));
        }
        text
    }

    /// Puts the file in the place of the old one, in one step.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let failed = |e: io::Error| {
            let what = format!("cannot write the rules of trust {}: {e}", path.display());
            Error::Other(ErrorKind::of_io(&e), what)
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let fresh = path.with_extension("toml.new");
        let written = fs::File::create(&fresh).and_then(|mut file| {
            io::Write::write_all(&mut file, self.to_text().as_bytes())?;
            file.sync_all()
        });
        written
            .and_then(|()| fs::rename(&fresh, path))
            .map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> KeyId {
        digit.to_string().repeat(64).parse().unwrap()
    }

    fn rules() -> Rules {
        let rule = |names: &str, keys: &[char], need| Rule {
            names: names.parse().unwrap(),
            keys: keys.iter().map(|digit| id(*digit)).collect(),
            need,
        };
        Rules {
            rules: vec![rule("*", &['a'], 1), rule("acme/*", &['b', 'c'], 2)],
            revoked: BTreeSet::from([id('d')]),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mmh/trust.toml");
        assert_eq!(Rules::read(&path).unwrap(), Rules::default());
        for rules in [rules(), Rules::default()] {
            rules.write(&path).unwrap();
            assert_eq!(Rules::read(&path).unwrap(), rules);
        }
    }

    /// By hand less may be written.
    #[test]
    fn a_rule_asks_for_one_signature_unless_it_says_otherwise() {
        let text = format!("[[rule]]\nnames = 'acme/*'\nkeys = ['{}']\n", id('a'));
        let rules = Rules::parse(&text).unwrap();
        assert_eq!(rules.rules[0].need, 1);
        assert_eq!(rules.rules[0].names.as_str(), "models/acme/*");
    }

    #[test]
    fn malformed_files_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trust.toml");
        let whole = rules().to_text();
        for text in [
            "rules = []",
            "revoked = ['abc']",
            "revoked = 1",
            "[[rule]]\nnames = 'acme/*'",
            "[[rule]]\nnames = 'a//b'\nkeys = []",
            &whole.replace("need = 2", "need = -1"),
            &whole.replace("need", "needs"),
            &whole[..whole.len() - 12],
        ] {
            fs::write(&path, text).unwrap();
            let failure = Rules::read(&path).unwrap_err();
            assert_eq!(failure.kind(), ErrorKind::Invalid, "{text}");
            assert!(failure.to_string().contains("trust.toml"));
        }
        // What cannot be read at all is no empty file.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(Rules::read(&path).is_err());
        assert!(rules().write(&path).is_err());
    }
}
