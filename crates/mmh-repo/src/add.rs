//! Adding: paths of the file system become a new snapshot of a name.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use mmh_core::name::{DEFAULT_BRANCH, RefKind, RefName, Target, check_path};
use mmh_core::object::RefChange;
use mmh_core::tree::Node;
use mmh_core::{ByteRange, ErrorKind, SnapshotId, TreeId};
use mmh_store::{ChunkSink, Writer};
use serde::{Serialize, Serializer};

use crate::base::{BaseSet, Bases};
use crate::card::{CARD_LEN_MAX, base_models};
use crate::change::Onto;
use crate::edit::{Edit, Editor, Edits};
use crate::error::{Error, Result};
use crate::ingest::Ingested;
use crate::list::Listed;
use crate::objects;
use crate::repository::Repository;
use crate::walk::{Found, Kind, WalkOptions, walk};

/// How often a commit that lost a race is tried again on the new state.
const RACES_MAX: usize = 16;

/// How to add.
#[derive(Debug, Clone, Default)]
pub struct AddOptions {
    /// The snapshot's message; a default says what was added.
    pub message: Option<String>,
    /// The tree becomes exactly what is added, instead of that being put over what was there.
    pub replace: bool,
    /// Add what symbolic links point to instead of the links.
    pub follow: bool,
    /// What new tensors are looked for in to be coded as differences, instead of what the branch
    /// held before and what a model card says.
    pub base: Option<Target>,
}

/// What became of one file.
#[derive(Debug, Clone, Serialize)]
pub struct AddedFile {
    /// Its path in the tree.
    #[serde(serialize_with = "as_text")]
    pub path: Arc<str>,
    /// Its length in bytes.
    pub size: u64,
    /// The container that was recognised.
    pub container: &'static str,
    /// Why it is kept as bytes although it looked like a container.
    pub note: Option<String>,
    /// Raw bytes that the repository did not have before.
    pub new_raw: u64,
    /// What those take in the repository.
    pub new_stored: u64,
}

pub(crate) fn as_text<S: Serializer>(
    text: &Arc<str>,
    to: S,
) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

/// What an addition did.
#[derive(Debug, Clone, Serialize)]
pub struct AddReport {
    /// The branch that moved.
    pub name: String,
    /// The snapshot it names now.
    pub snapshot: String,
    /// Whether there was anything new; if not, no snapshot was made.
    pub changed: bool,
    /// Each file, in order of path.
    pub files: Vec<AddedFile>,
    /// What was not added, and why.
    pub skipped: Vec<String>,
    /// Bytes of all files.
    pub raw: u64,
    /// Raw bytes that the repository did not have before.
    pub new_raw: u64,
    /// What those take in the repository.
    pub new_stored: u64,
}

/// What is put on top of a branch.
pub(crate) struct Addition<'a> {
    pub(crate) branch: &'a RefName,
    /// Makes the edits anew for each attempt: of a million files a copy would weigh 200 MB.
    pub(crate) edits: &'a dyn Fn() -> Edits<'a>,
    pub(crate) replace: bool,
    pub(crate) message: &'a str,
    /// On top of what; `None` makes the branch if there is none.
    pub(crate) onto: Option<Onto>,
    /// Who, if not the repository's author.
    pub(crate) author: Option<&'a str>,
}

impl Repository {
    /// Adds files and directories to a branch and commits.
    ///
    /// # Errors
    /// `NotFound`, `Denied`, `Invalid` by what the paths are; `Conflict` if a file changes while
    /// it is read; `Unavailable` when the disk is full or the user cancels. Nothing that was
    /// stored before the error is lost: the next attempt goes on from there.
    pub fn add(&self, paths: &[PathBuf], to: &Target, options: &AddOptions) -> Result<AddReport> {
        if paths.is_empty() {
            return Err(Error::Invalid(
                "nothing to add: name a file or folder".to_owned(),
            ));
        }
        let (found, skipped) = walk(
            paths,
            WalkOptions {
                follow: options.follow,
            },
        )?;
        if found.is_empty() && !options.replace {
            return Err(nothing_in(paths, &skipped));
        }
        let branch = RefName::branch(to.repo.clone(), to.rev.as_deref().unwrap_or(DEFAULT_BRANCH))?;
        let tag = RefName::tag(branch.repo.clone(), branch.rev())?;
        if self.refs()?.refs.contains_key(&tag) {
            return Err(Error::Invalid(format!(
                "`{to}` is a tag, so it cannot be added to"
            )));
        }
        check_paths(&found, to.path.as_deref())?;
        let message = options.message.clone();
        let message = message.unwrap_or_else(|| default_message(paths));
        self.again_if_collected(|| {
            let store = self.store()?;
            let writer = self.block_on(store.writer(self.shop.components.runtime.clone()))?;
            let bases = self.bases(&found, &branch, to.path.as_deref(), options.base.as_ref())?;
            let files = self.shop.ingest(&writer, &found, &bases)?;
            let addition = Addition {
                branch: &branch,
                edits: &|| edits(&found, &files, to.path.as_deref()).collect(),
                replace: options.replace,
                message: &message,
                onto: None,
                author: None,
            };
            let (id, changed) = self.publish(writer, &addition)?;
            let mut report = report(&branch, (&found, files), skipped.clone());
            report.snapshot = id.to_string();
            report.changed = changed;
            Ok(report)
        })
    }

    /// Where the bases of new tensors are looked for: in what was named; else in the file of the
    /// same path that the branch holds, then in the models that a model card among the new files, else
    /// that of the branch, names as its base.
    pub(crate) fn bases(
        &self,
        found: &[Found],
        branch: &RefName,
        below: Option<&str>,
        named: Option<&Target>,
    ) -> Result<Bases<'_>> {
        let mut bases = Bases {
            source: self.source(),
            before: None,
            sets: Vec::new(),
        };
        if let Some(target) = named {
            bases.sets.push(Arc::new(self.base_set(target)?));
            return Ok(bases);
        }
        let mut before = None;
        if let Some(tip) = self.refs()?.refs.get(branch) {
            let tree = objects::snapshot(self.source(), *tip)?.tree;
            bases.before = Some((tree, below.map(str::to_owned)));
            before = Some(tree);
        }
        for target in self.models_of_card(found, before)? {
            match self.base_set(&target) {
                Ok(set) => bases.sets.push(Arc::new(set)),
                Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(bases)
    }

    /// The tensors at or below a target.
    fn base_set(&self, target: &Target) -> Result<BaseSet> {
        let mut set = BaseSet::default();
        match self.find_node(target)? {
            Node::File { id, .. } => set.add_file(self.source(), id)?,
            Node::Dir { id } => {
                let mut all = Vec::new();
                self.list_below(id, "", true, &mut all)?;
                for Listed { node, .. } in all {
                    if let Node::File { id, .. } = node {
                        set.add_file(self.source(), id)?;
                    }
                }
            }
            Node::Link { .. } => {
                return Err(Error::Invalid(format!("`{target}` is a link; name a file")));
            }
        }
        Ok(set)
    }

    /// What a model card among the new files names as base, as far as this repository has it: by
    /// its whole name, else by what comes after the last slash.
    fn models_of_card(&self, found: &[Found], before: Option<TreeId>) -> Result<Vec<Target>> {
        let is_card = |f: &&Found| f.name.eq_ignore_ascii_case("README.md") && f.len() > 0;
        let mut text = Vec::new();
        match (found.iter().find(is_card), before) {
            (Some(card), _) => {
                let opened = File::open(card.path()).map_err(Error::io("open", &card.path()))?;
                let read = opened.take(CARD_LEN_MAX).read_to_end(&mut text);
                read.map_err(Error::io("read", &card.path()))?;
            }
            (None, Some(tree)) => {
                if let Some(Node::File { id, size, .. }) =
                    objects::find(self.source(), tree, "README.md")?
                {
                    let reader = self.open_file(id)?;
                    let range = ByteRange::all(size.min(CARD_LEN_MAX));
                    self.read_range(&reader, range, &mut |piece| {
                        text.extend_from_slice(&piece);
                        Ok(())
                    })?;
                }
            }
            (None, None) => {}
        }
        let models = base_models(&String::from_utf8_lossy(&text));
        let refs = self.refs()?;
        let mains = || {
            let branches = refs.refs.keys().filter(|r| r.kind == RefKind::Branch);
            branches.filter(|r| r.rev() == DEFAULT_BRANCH)
        };
        let last = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
        let find = |model: &String| {
            let whole = mains().find(|r| r.repo.short() == model);
            whole.or_else(|| mains().find(|r| last(r.repo.short()) == last(model)))
        };
        let target = |r: &RefName| Target {
            repo: r.repo.clone(),
            rev: None,
            path: None,
        };
        Ok(models.iter().filter_map(find).map(target).collect())
    }

    /// Writes tree and snapshot on top of the branch and moves it; a lost race is retried on the
    /// new state.
    pub(crate) fn publish(
        &self,
        writer: Writer,
        addition: &Addition<'_>,
    ) -> Result<(SnapshotId, bool)> {
        let Addition {
            branch,
            edits,
            replace,
            message,
            onto,
            author,
        } = addition;
        let command = format!("add {}", branch.repo.short());
        for attempt in 0.. {
            let old = self.refs()?.refs.get(*branch).copied();
            self.check_onto(branch, *onto, old)?;
            let parent = old
                .map(|id| objects::snapshot(self.source(), id))
                .transpose()?;
            let before = parent.map(|s| s.tree);
            let tree = self.edit_tree(&writer, before.filter(|_| !replace), &edits())?;
            if let (Some(id), true) = (old, before == Some(tree)) {
                writer.finish()?;
                return Ok((id, false));
            }
            let parents = old.into_iter().collect();
            let said = (*message, *author);
            let id = self.shop.write_snapshot(&writer, tree, parents, said)?;
            let new = Some(id);
            let change = RefChange {
                r#ref: (*branch).clone(),
                old,
                new,
            };
            match writer.commit(self.commit(vec![change], &command)) {
                Ok(_) => {
                    writer.finish()?;
                    return Ok((id, true));
                }
                Err(mmh_store::Error::RefConflict { .. }) if attempt < RACES_MAX => {}
                Err(e) => return Err(e.into()),
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Whether the branch is where a change needs it.
    fn check_onto(
        &self,
        branch: &RefName,
        onto: Option<Onto>,
        old: Option<SnapshotId>,
    ) -> Result<()> {
        match (onto, old) {
            (None, _) | (Some(Onto::Any), Some(_)) => Ok(()),
            (Some(Onto::Exactly(wanted)), Some(old)) if wanted == old => Ok(()),
            (Some(Onto::Exactly(_)), Some(_)) => Err(Error::Conflict(format!(
                "`{branch}` has moved since; read it again"
            ))),
            (Some(Onto::NoBranch), None) => Ok(()),
            (Some(Onto::NoBranch), Some(_)) => {
                Err(Error::Conflict(format!("`{branch}` exists already")))
            }
            (Some(Onto::Nothing), None) if self.tips(&branch.repo)?.is_empty() => Ok(()),
            (Some(Onto::Nothing), _) => {
                Err(Error::Conflict(format!("`{}` exists already", branch.repo)))
            }
            (Some(_), None) => Err(Error::not_found("branch", &branch.to_string())),
        }
    }

    pub(crate) fn edit_tree(
        &self,
        sink: &dyn ChunkSink,
        base: Option<TreeId>,
        edits: &Edits<'_>,
    ) -> Result<TreeId> {
        let editor = Editor {
            source: self.source(),
            sink,
            encoders: &self.shop.encoders,
        };
        editor.apply(base, edits)
    }
}

impl Found {
    pub(crate) fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File { .. })
    }

    pub(crate) fn len(&self) -> u64 {
        match self.kind {
            Kind::File { len, .. } => len,
            _ => 0,
        }
    }
}

/// What becomes of a tree by what was found, whose files were stored in the same order.
pub(crate) fn edits<'a>(
    found: &'a [Found],
    files: &'a [Ingested],
    below: Option<&'a str>,
) -> impl Iterator<Item = (Cow<'a, str>, Edit)> {
    let mut files = files.iter();
    let mut edit = move |f: &Found| match &f.kind {
        Kind::File { executable, .. } => files.next().map(|file| {
            Edit::Put(Node::File {
                id: file.id,
                size: file.size,
                executable: *executable,
            })
        }),
        Kind::EmptyDir => Some(Edit::MakeDir),
        Kind::Link { target } => Some(Edit::Put(Node::Link {
            target: target.clone(),
        })),
    };
    found
        .iter()
        .filter_map(move |f| Some((place(&f.name, below), edit(f)?)))
}

/// Where something found goes in the tree.
pub(crate) fn place<'a>(name: &'a str, below: Option<&str>) -> Cow<'a, str> {
    below.map_or(Cow::Borrowed(name), |dir| format!("{dir}/{name}").into())
}

/// Checks, before anything is stored, that the tree will be within its limits: a path may get too
/// deep or too long by the folder that it is put below.
pub(crate) fn check_paths(found: &[Found], below: Option<&str>) -> Result<()> {
    found
        .iter()
        .try_for_each(|f| Ok(check_path(&place(&f.name, below))?))
}

/// Says why there is nothing to add.
pub(crate) fn nothing_in(paths: &[PathBuf], skipped: &[String]) -> Error {
    let why = match (skipped, paths) {
        ([first, ..], _) => first.clone(),
        ([], [path]) => format!("{} is empty", path.display()),
        ([], _) => "the folders are empty".to_owned(),
    };
    Error::Invalid(format!("nothing to add: {why}"))
}

pub(crate) fn report(
    branch: &RefName,
    (found, files): (&[Found], Vec<Ingested>),
    skipped: Vec<String>,
) -> AddReport {
    debug_assert_eq!(branch.kind, RefKind::Branch);
    let found = found.iter().filter(|f| f.is_file());
    let files: Vec<AddedFile> = files
        .into_iter()
        .zip(found)
        .map(|(i, f)| AddedFile {
            path: Arc::clone(&f.name),
            size: i.size,
            container: i.container.as_str(),
            note: i.note.map(String::from),
            new_raw: i.new_raw,
            new_stored: i.new_stored,
        })
        .collect();
    let sum = |f: fn(&AddedFile) -> u64| files.iter().map(f).sum();
    let (raw, new_raw, new_stored) = (sum(|f| f.size), sum(|f| f.new_raw), sum(|f| f.new_stored));
    let (name, snapshot) = (branch.to_string(), String::new());
    AddReport {
        name,
        snapshot,
        changed: false,
        files,
        skipped,
        raw,
        new_raw,
        new_stored,
    }
}

fn default_message(paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths
        .iter()
        .take(3)
        .map(|p| {
            p.file_name()
                .map_or_else(|| ".".into(), |n| n.to_string_lossy())
        })
        .collect();
    let more = if paths.len() > 3 {
        format!(" and {} more", paths.len() - 3)
    } else {
        String::new()
    };
    format!("Add {}{more}", names.join(", "))
}
