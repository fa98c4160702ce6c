//! Names of repositories, revisions and paths, parsed once and checked for ever after.
//!
//! `models/acme/minilm@v1:config.json` is repository, revision and path. Repository names follow
//! the rules of model hubs; paths can never leave the folder they are restored into.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result, shorten};
use crate::id::SnapshotId;
use crate::limits;

/// The branch that is meant when none is named.
pub const DEFAULT_BRANCH: &str = "main";

/// The families of repositories, first component of every full name.
pub const FAMILIES: [&str; 4] = ["models", "datasets", "spaces", "trees"];

fn bad(what: &'static str, text: &str, reason: &'static str) -> Error {
    Error::BadName {
        what,
        text: shorten(text),
        reason,
    }
}

/// A full repository name: `models/acme/minilm`, `datasets/squad`, `trees/backup/2026`.
///
/// The first component is one of [`FAMILIES`]; models, datasets and spaces have one or two more,
/// trees up to eight. Parsing `acme/minilm` or `minilm` gives the model of that name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoName(String);

impl RepoName {
    /// The full spelling.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The family: `models`, `datasets`, `spaces` or `trees`.
    #[must_use]
    pub fn family(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// The spelling people type: without `models/`, unless what is left would name something
    /// else, as in `models/datasets/squad`.
    #[must_use]
    pub fn short(&self) -> &str {
        let family =
            |rest: &str| matches!(rest.split_once('/'), Some((f, _)) if FAMILIES.contains(&f));
        let rest = self.0.strip_prefix("models/");
        rest.filter(|rest| !family(rest)).unwrap_or(&self.0)
    }
}

pub(crate) fn check_component(text: &str, part: &str) -> Result<()> {
    let fail = |reason| Err(bad("name", text, reason));
    if part.is_empty() || part.len() > 96 {
        return fail("each part has 1 to 96 characters");
    }
    if !part
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    {
        return fail("use letters, digits, `-`, `_` and `.`");
    }
    if part.starts_with(['-', '.']) || part.ends_with(['-', '.']) || part.contains("..") {
        return fail("a part neither begins nor ends with `-` or `.`, nor holds `..`");
    }
    Ok(())
}

impl FromStr for RepoName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let full = match parts.first() {
            Some(first) if FAMILIES.contains(first) && parts.len() > 1 => text.to_owned(),
            _ => format!("models/{text}"),
        };
        let below: Vec<&str> = full.split('/').skip(1).collect();
        for part in &below {
            check_component(text, part)?;
        }
        let most = if full.starts_with("trees/") { 8 } else { 2 };
        if below.len() > most {
            return Err(bad(
                "name",
                text,
                "too many parts; plain trees begin with `trees/`",
            ));
        }
        Ok(Self(full))
    }
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Checks the name of a branch or tag: parts separated by `/`, as git accepts them.
///
/// # Errors
/// [`Error::BadName`].
pub fn check_rev(text: &str) -> Result<()> {
    let fail = |reason| Err(bad("revision", text, reason));
    if text.is_empty() || text.len() > limits::NAME_LEN_MAX {
        return fail("it has 1 to 255 characters");
    }
    if !text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'))
    {
        return fail("use letters, digits, `-`, `_`, `.` and `/`");
    }
    if text.starts_with('-')
        || text
            .split('/')
            .any(|p| p.is_empty() || p.starts_with('.') || p.ends_with('.') || p.contains(".."))
    {
        return fail("parts are not empty and neither begin nor end with `.`");
    }
    Ok(())
}

/// Checks one file or directory name.
///
/// # Errors
/// [`Error::BadName`].
pub fn check_file_name(text: &str) -> Result<()> {
    let fail = |reason| Err(bad("file name", text, reason));
    if text.is_empty() || text.len() > limits::NAME_LEN_MAX {
        return fail("it has 1 to 255 bytes");
    }
    if text == "." || text == ".." {
        return fail("`.` and `..` are not names");
    }
    if text.contains(['/', '\\']) || text.chars().any(char::is_control) {
        return fail("slashes, backslashes and control characters are not allowed");
    }
    Ok(())
}

/// Checks a path inside a tree: relative, components separated by `/`.
///
/// # Errors
/// [`Error::BadName`] for the first component that is not a file name.
pub fn check_path(text: &str) -> Result<()> {
    if text.len() > limits::PATH_LEN_MAX {
        return Err(bad("path", text, "longer than 4096 bytes"));
    }
    if text.split('/').count() > limits::TREE_DEPTH_MAX {
        return Err(bad("path", text, "deeper than 64 directories"));
    }
    text.split('/').try_for_each(check_file_name)
}

/// What a ref is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefKind {
    /// A branch: moves with every commit.
    Branch,
    /// A tag: stays.
    Tag,
    /// Leads to who signed a snapshot, which it is called after. No revision that people name.
    Signature,
    /// What a door of the program remembers of a name. No revision that people name.
    Note,
}

/// One ref: `models/acme/minilm@heads/main`, `…@tags/v1`, `…@signatures/SNAPSHOT` or `…@notes/DOOR`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefName {
    /// The repository name.
    pub repo: RepoName,
    /// What it is for.
    pub kind: RefKind,
    /// Its name, checked by [`check_rev`]; of a signature the snapshot's id; of a note the door's.
    rev: String,
}

impl RefName {
    /// Names a branch.
    ///
    /// # Errors
    /// Those of [`check_rev`].
    pub fn branch(repo: RepoName, rev: &str) -> Result<Self> {
        check_rev(rev)?;
        Ok(Self {
            repo,
            kind: RefKind::Branch,
            rev: rev.to_owned(),
        })
    }

    /// Names a tag.
    ///
    /// # Errors
    /// Those of [`check_rev`].
    pub fn tag(repo: RepoName, rev: &str) -> Result<Self> {
        check_rev(rev)?;
        Ok(Self {
            repo,
            kind: RefKind::Tag,
            rev: rev.to_owned(),
        })
    }

    /// Names what a door remembers.
    ///
    /// # Errors
    /// Those of [`check_rev`].
    pub fn note(repo: RepoName, door: &str) -> Result<Self> {
        check_rev(door)?;
        Ok(Self {
            repo,
            kind: RefKind::Note,
            rev: door.to_owned(),
        })
    }

    /// Whether people chose its name: of a branch or a tag. Others are named by the program.
    #[must_use]
    pub fn is_by_people(&self) -> bool {
        matches!(self.kind, RefKind::Branch | RefKind::Tag)
    }

    /// Whether it is what that door remembers.
    #[must_use]
    pub fn is_note(&self, door: &str) -> bool {
        self.kind == RefKind::Note && self.rev == door
    }

    /// Where the signatures of a snapshot under this name are found.
    #[must_use]
    pub fn signature(repo: RepoName, signed: SnapshotId) -> Self {
        Self {
            repo,
            kind: RefKind::Signature,
            rev: signed.to_string(),
        }
    }

    /// The ref of the same name in another repository.
    #[must_use]
    pub fn in_repo(&self, repo: &RepoName) -> Self {
        Self {
            repo: repo.clone(),
            ..self.clone()
        }
    }

    /// The branch's or tag's own name.
    #[must_use]
    pub fn rev(&self) -> &str {
        &self.rev
    }
}

impl fmt::Display for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            RefKind::Branch => "heads",
            RefKind::Tag => "tags",
            RefKind::Signature => "signatures",
            RefKind::Note => "notes",
        };
        write!(f, "{}@{kind}/{}", self.repo, self.rev)
    }
}

impl FromStr for RefName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let shape = || bad("ref", text, "expected NAME@heads/BRANCH or NAME@tags/TAG");
        let (repo, rest) = text.split_once('@').ok_or_else(shape)?;
        let parsed: RepoName = repo.parse()?;
        if parsed.as_str() != repo {
            return Err(bad("ref", text, "the repository's full name is needed"));
        }
        match rest.split_once('/').ok_or_else(shape)? {
            ("heads", rev) => Self::branch(parsed, rev),
            ("tags", rev) => Self::tag(parsed, rev),
            ("signatures", id) => Ok(Self::signature(parsed, id.parse()?)),
            ("notes", door) => Self::note(parsed, door),
            _ => Err(shape()),
        }
    }
}

impl Serialize for RefName {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RefName {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// What people type: `NAME[@REV][:PATH]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The repository.
    pub repo: RepoName,
    /// Branch, tag or snapshot id, if given.
    pub rev: Option<String>,
    /// Path inside the tree, if given; without slashes at its ends.
    pub path: Option<String>,
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (head, path) = match text.split_once(':') {
            Some((head, path)) => (head, Some(path.trim_matches('/')).filter(|p| !p.is_empty())),
            None => (text, None),
        };
        let (repo, rev) = match head.split_once('@') {
            Some((repo, rev)) => (repo, Some(rev)),
            None => (head, None),
        };
        if let Some(rev) = rev {
            check_rev(rev)?;
        }
        if let Some(path) = path {
            check_path(path)?;
        }
        let (rev, path) = (rev.map(str::to_owned), path.map(str::to_owned));
        Ok(Self {
            repo: repo.parse()?,
            rev,
            path,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.repo.short())?;
        self.rev.iter().try_for_each(|rev| write!(f, "@{rev}"))?;
        self.path.iter().try_for_each(|path| write!(f, ":{path}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_forms_name_models() {
        let full = |t: &str| t.parse::<RepoName>().unwrap().as_str().to_owned();
        assert_eq!(full("acme/minilm"), "models/acme/minilm");
        assert_eq!(full("gpt2"), "models/gpt2");
        assert_eq!(full("models/acme/minilm"), "models/acme/minilm");
        assert_eq!(full("datasets/squad"), "datasets/squad");
        assert_eq!(full("trees/a/b/c/d"), "trees/a/b/c/d");
    }

    #[test]
    fn hostile_names_are_refused() {
        for text in [
            "", "/", "a/", "../x", "a/..", "a/b/c", ".git", "a b", "a\0", "é", "models/", "-x",
            "x-", "a..b",
        ] {
            assert!(text.parse::<RepoName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn paths_cannot_leave_their_folder() {
        for path in [
            "", "/a", "a/", "a//b", "../a", "a/../b", "./a", "a\\b", "a\nb", "a\0",
        ] {
            assert!(check_path(path).is_err(), "{path:?}");
        }
        assert!(check_path("onnx/model.onnx").is_ok());
        assert!(check_path(&"a/".repeat(64)).is_err());
        assert!(check_path(&"x".repeat(256)).is_err());
    }

    #[test]
    fn targets_split_into_three() {
        let t: Target = "acme/minilm@v1.0:onnx/model.onnx".parse().unwrap();
        assert_eq!(t.repo.as_str(), "models/acme/minilm");
        assert_eq!(t.rev.as_deref(), Some("v1.0"));
        assert_eq!(t.path.as_deref(), Some("onnx/model.onnx"));
        assert_eq!("acme/minilm:/".parse::<Target>().unwrap().path, None);
        assert!("acme/minilm@:x".parse::<Target>().is_err());
    }

    #[test]
    fn a_ref_needs_its_full_name() {
        let text = "models/acme/minilm@heads/feature/x";
        assert_eq!(text.parse::<RefName>().unwrap().to_string(), text);
        assert!("acme/minilm@heads/main".parse::<RefName>().is_err());
        assert!("models/acme/minilm@main".parse::<RefName>().is_err());
    }

    #[test]
    fn signatures_are_called_after_what_is_signed() {
        let signed = SnapshotId::of(b"x");
        let name = RefName::signature("acme/m".parse().unwrap(), signed);
        let text = format!("models/acme/m@signatures/{signed}");
        assert_eq!(
            (name.to_string(), name.kind),
            (text.clone(), RefKind::Signature)
        );
        assert_eq!(text.parse::<RefName>().unwrap(), name);
        for bad in ["", "main", &signed.to_string().to_uppercase()] {
            assert!(
                format!("models/acme/m@signatures/{bad}")
                    .parse::<RefName>()
                    .is_err()
            );
        }
    }

    proptest! {
        #[test]
        fn accepted_text_has_one_spelling(text in "[a-z@:/._-]{0,24}") {
            if let Ok(name) = text.parse::<RefName>() {
                prop_assert_eq!(name.to_string(), text.clone());
            }
            if let Ok(target) = text.parse::<Target>() {
                prop_assert_eq!(target.to_string().parse::<Target>().ok(), Some(target));
            }
        }
    }
}
