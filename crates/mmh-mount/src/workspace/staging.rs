//! The staging folder of a workspace: made, found again, compared and committed.
//!
//! `about.json` says of what; `tree` is the tree, complete once it has that name; `lock` is held by
//! whoever mounts it, `committing` by whoever commits.

use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mmh_core::name::{DEFAULT_BRANCH, Target};
use mmh_core::tree::Node;
use mmh_core::{Digest, SnapshotId};
use mmh_repo::list::Listed;
use mmh_repo::{CommitReport, Error as RepoError, KnownFile, Repository};
use serde::{Deserialize, Serialize};

use super::hole;
use crate::error::{Error, Result};

/// What a staging folder is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    /// Where the repository is.
    place: String,
    /// Its id.
    repository: String,
    /// The name and branch: `acme/m@main`.
    name: String,
    /// The snapshot that it was made from, or committed to last; none for a new name.
    base: Option<String>,
}

/// A staging folder.
#[derive(Debug)]
pub struct Staging {
    folder: PathBuf,
    about: About,
    /// Held while it is mounted.
    #[allow(dead_code, reason = "it is held")]
    lock: Option<File>,
}

/// What was found when a workspace was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct WorkReport {
    /// Whether it holds changes that were not committed.
    pub recovered: bool,
}

fn io_at(action: &'static str, place: &Path) -> impl FnOnce(io::Error) -> Error {
    let place = place.to_owned();
    move |source| Error::Io {
        action,
        place,
        source,
    }
}

fn conflict(what: String) -> Error {
    Error::Repo(RepoError::Conflict(what))
}

impl Staging {
    /// Opens the workspace of a branch below `works`, for mounting: what is there with changes stays
    /// as it is (unless `discard`), else it is made anew from the head.
    ///
    /// # Errors
    /// `Conflict` if it is mounted already; those of reading the repository and writing the folder.
    pub fn open(
        works: &Path,
        (repo, place): (&Repository, &str),
        target: &Target,
        discard: bool,
    ) -> Result<(Self, WorkReport)> {
        if target.path.is_some() {
            let what = format!("`{target}`: a workspace is of a whole name");
            return Err(Error::Repo(RepoError::Invalid(what)));
        }
        let branch = target.rev.as_deref().unwrap_or(DEFAULT_BRANCH);
        let name = format!("{}@{branch}", target.repo.as_str());
        let repository = repo.facts()?.id;
        let key = Digest::of(format!("{repository}\n{name}").as_bytes()).to_string();
        let folder = works.join(&key[..32]);
        fs::create_dir_all(&folder).map_err(io_at("make", &folder))?;
        let private = Permissions::from_mode(0o700);
        fs::set_permissions(&folder, private).map_err(io_at("protect", &folder))?;
        let lock = take_lock(&folder.join("lock"), &name)?;
        let base = repo.head_of(target)?;
        let mut staging = Self {
            about: About {
                place: place.to_owned(),
                repository,
                name,
                base: base.map(|id| id.to_string()),
            },
            folder,
            lock: Some(lock),
        };
        if !discard && staging.tree().is_dir() {
            staging.about = Self::again(&staging.folder)?.about;
            if !staging.is_clean(repo)? {
                return Ok((staging, WorkReport { recovered: true }));
            }
            staging.about.base = base.map(|id| id.to_string());
        }
        staging.make(repo)?;
        Ok((staging, WorkReport { recovered: false }))
    }

    /// Finds the staging folder of what is mounted at a folder.
    ///
    /// # Errors
    /// `Invalid` if no workspace is mounted there.
    pub fn of_mounted(dir: &Path) -> Result<Self> {
        let mut value = [0; 4096];
        let n = rustix::fs::getxattr(dir, super::files::WORK, &mut value).map_err(|_| {
            Error::Place {
                place: dir.to_owned(),
                why: "is not a workspace: mount one with `mmh mount --rw NAME DIR`",
            }
        })?;
        let folder = String::from_utf8_lossy(&value[..n]).into_owned();
        Self::again(Path::new(&folder))
    }

    /// The workspace that lies in a staging folder, mounted or not.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` if what is there says nothing.
    pub fn again(folder: &Path) -> Result<Self> {
        let path = folder.join("about.json");
        let text = fs::read(&path).map_err(io_at("read", &path))?;
        let about = serde_json::from_slice(&text).map_err(io::Error::from);
        Ok(Self {
            about: about.map_err(io_at("read", &path))?,
            folder: folder.to_owned(),
            lock: None,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The tree.
    #[must_use]
    pub fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// Where its repository is.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.about.place
    }

    /// Name and branch.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.about.name
    }

    /// Commits the tree as it is now to its branch.
    ///
    /// # Errors
    /// `Conflict` if the branch moved since, or a file changes meanwhile; those of adding.
    pub fn commit(&mut self, repo: &Repository, message: Option<String>) -> Result<CommitReport> {
        let _committing = take_lock(&self.folder.join("committing"), &self.about.name)?;
        // Another commit may have moved the base.
        self.about = Self::again(&self.folder)?.about;
        let own = repo.facts()?.id;
        if own != self.about.repository {
            return Err(conflict(format!(
                "{} is of repository {}, not of {own}",
                self.about.name, self.about.repository
            )));
        }
        let known = |path: &Path| -> mmh_repo::Result<Option<KnownFile>> {
            let look = || -> io::Result<Option<KnownFile>> {
                let meta = fs::symlink_metadata(path)?;
                let size = meta.len();
                Ok(hole::of(path, &meta)?.map(|id| KnownFile { id, size }))
            };
            look().map_err(|source| RepoError::Io {
                action: "look at",
                path: path.to_owned(),
                source,
            })
        };
        let target = self.target()?;
        let report = repo.commit_folder((&self.tree(), &known), &target, self.base()?, message)?;
        self.about.base = Some(report.snapshot.clone());
        self.write_about()?;
        Ok(report)
    }

    fn target(&self) -> Result<Target> {
        let parsed = self.about.name.parse();
        Ok(parsed.map_err(RepoError::from)?)
    }

    fn base(&self) -> Result<Option<SnapshotId>> {
        let base = self.about.base.as_deref().map(str::parse);
        Ok(base.transpose().map_err(RepoError::from)?)
    }

    /// On return it is on the disk.
    fn write_about(&self) -> Result<()> {
        let (path, partial) = (
            self.folder.join("about.json"),
            self.folder.join("about.new"),
        );
        let write = || {
            let file = File::create(&partial)?;
            serde_json::to_writer_pretty(&file, &self.about)?;
            file.sync_all()?;
            fs::rename(&partial, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(io_at("write", &path))
    }

    /// Makes the tree anew: folders, links and holes.
    fn make(&self, repo: &Repository) -> Result<()> {
        let (tree, partial) = (self.tree(), self.folder.join("tree.new"));
        for old in [&partial, &tree] {
            if old.exists() {
                fs::remove_dir_all(old).map_err(io_at("remove", old))?;
            }
        }
        fs::create_dir(&partial).map_err(io_at("make", &partial))?;
        self.write_about()?;
        if let Some(base) = self.base()? {
            let time = repo.time_of(base)?;
            let time = SystemTime::UNIX_EPOCH + Duration::from_millis(time);
            for Listed { path, node } in repo.list_snapshot(base)? {
                let path = partial.join(path);
                make_node(&path, &node, time).map_err(io_at("make", &path))?;
            }
        }
        let publish = || {
            // What would be missing after a crash would look like what was removed.
            rustix::fs::syncfs(&File::open(&partial)?)?;
            fs::rename(&partial, &tree)?;
            File::open(&self.folder)?.sync_all()
        };
        publish().map_err(io_at("make", &tree))
    }

    /// Whether nothing was changed since it was made or committed.
    fn is_clean(&self, repo: &Repository) -> Result<bool> {
        let listed = match self.base()? {
            Some(base) => repo.list_snapshot(base)?,
            None => Vec::new(),
        };
        let tree = self.tree();
        for Listed { path, node } in &listed {
            let path = tree.join(path);
            match is_node(&path, node) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(io_at("look at", &path)(error)),
            }
        }
        let n = count(&tree).map_err(io_at("list", &tree))?;
        Ok(n == listed.len())
    }
}

/// Locks a file, or says that somebody else has.
fn take_lock(path: &Path, name: &str) -> Result<File> {
    let file = File::create(path).map_err(io_at("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(conflict(format!(
            "the workspace of `{name}` is in use by another `mmh`"
        ))),
        Err(fs::TryLockError::Error(error)) => Err(io_at("lock", path)(error)),
    }
}

fn make_node(path: &Path, node: &Node, time: SystemTime) -> io::Result<()> {
    match node {
        Node::Dir { .. } => fs::create_dir(path),
        Node::Link { target } => symlink(target, path),
        Node::File {
            id,
            size,
            executable,
        } => {
            let file = File::create_new(path)?;
            file.set_len(*size)?;
            if *size > 0 {
                hole::mark(path, *id, *size)?;
            }
            let mode = if *executable { 0o755 } else { 0o644 };
            file.set_permissions(Permissions::from_mode(mode))?;
            file.set_times(FileTimes::new().set_modified(time).set_accessed(time))
        }
    }
}

/// Whether this is there, unchanged.
fn is_node(path: &Path, node: &Node) -> io::Result<bool> {
    let meta = fs::symlink_metadata(path)?;
    Ok(match node {
        Node::Dir { .. } => meta.is_dir(),
        Node::Link { target } => meta.is_symlink() && fs::read_link(path)? == Path::new(target),
        Node::File {
            id,
            size,
            executable,
        } => {
            let same = meta.is_file() && (meta.permissions().mode() & 0o100 != 0) == *executable;
            same && meta.len() == *size && (*size == 0 || hole::of(path, &meta)? == Some(*id))
        }
    })
}

/// How many files, folders and links are below a folder.
fn count(dir: &Path) -> io::Result<usize> {
    let mut n = 0;
    for item in fs::read_dir(dir)? {
        let item = item?;
        n += 1;
        if item.file_type()?.is_dir() {
            n += count(&item.path())?;
        }
    }
    Ok(n)
}
