//! What lies under the paths that a user names: files, directories and links, in a fixed order.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mmh_core::limits;
use mmh_core::name::check_file_name;

use crate::error::{Error, Result};

/// Something to add. There may be millions of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The path that the user named.
    top: Arc<Path>,
    /// Where in the name begins what lies below that path.
    below: usize,
    /// Where it goes: `/`-separated, relative to the tree's root.
    pub(crate) name: Arc<str>,
    pub(crate) kind: Kind,
}

impl Found {
    /// Where it is.
    pub(crate) fn path(&self) -> PathBuf {
        match self.name.get(self.below..) {
            Some(below) if !below.is_empty() => self.top.join(below),
            _ => self.top.to_path_buf(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File { len: u64, executable: bool },
    EmptyDir,
    Link { target: String },
}

/// How to walk.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WalkOptions {
    /// Add what symbolic links point to instead of the links.
    pub(crate) follow: bool,
}

/// Lists everything below `paths`. One directory alone gives its content; otherwise each path
/// gives an entry of its own name. A path that is a symbolic link itself is followed.
///
/// # Errors
/// `Invalid` for names that are not UTF-8, hold control characters, occur twice, or for links
/// that run in a circle; `NotFound`, `Denied` as the file system says.
pub(crate) fn walk(paths: &[PathBuf], options: WalkOptions) -> Result<(Vec<Found>, Vec<String>)> {
    let mut walker = Walker {
        options,
        top: (Path::new("").into(), 0),
        found: Vec::new(),
        skipped: Vec::new(),
        above: Vec::new(),
    };
    for path in paths {
        let meta = fs::metadata(path).map_err(Error::io("read", path))?;
        if let ([_], true) = (paths, meta.is_dir()) {
            walker.begin(path, 0);
            walker.dir(path, "")?;
        } else {
            let full = fs::canonicalize(path).map_err(Error::io("read", path))?;
            let name = path.file_name().or_else(|| full.file_name());
            let name = name.ok_or_else(|| {
                Error::Invalid(format!("{} has no name of its own", path.display()))
            })?;
            let name = utf8(name, path)?;
            walker.begin(path, name.len() + 1);
            walker.entry(path, name, &meta)?;
        }
    }
    walker.found.shrink_to_fit();
    walker.found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    if let Some(pair) = walker.found.windows(2).find(|w| w[0].name == w[1].name) {
        let (a, b) = (pair[0].path(), pair[1].path());
        return Err(Error::Invalid(format!(
            "{} and {} would both be `{}`",
            a.display(),
            b.display(),
            pair[0].name
        )));
    }
    Ok((walker.found, walker.skipped))
}

fn utf8<'a>(name: &'a std::ffi::OsStr, path: &Path) -> Result<&'a str> {
    let text = name.to_str().ok_or_else(|| {
        Error::Invalid(format!(
            "the name of {} is not UTF-8; rename it first",
            path.display()
        ))
    })?;
    check_file_name(text)?;
    Ok(text)
}

#[derive(Debug)]
struct Walker {
    options: WalkOptions,
    /// The path that the user named, and where names begin below it.
    top: (Arc<Path>, usize),
    found: Vec<Found>,
    skipped: Vec<String>,
    /// The real paths of the directories that we are in, to notice circles of links.
    above: Vec<PathBuf>,
}

impl Walker {
    fn begin(&mut self, top: &Path, below: usize) {
        self.top = (top.into(), below);
    }

    fn take(&mut self, name: &str, kind: Kind) {
        let (top, below) = self.top.clone();
        self.found.push(Found {
            top,
            below,
            name: name.into(),
            kind,
        });
    }

    fn entry(&mut self, path: &Path, name: &str, meta: &fs::Metadata) -> Result<()> {
        let kind = if meta.is_dir() {
            return self.dir(path, name);
        } else if meta.is_file() {
            Kind::File {
                len: meta.len(),
                executable: is_executable(meta),
            }
        } else if meta.is_symlink() {
            let target = fs::read_link(path).map_err(Error::io("read", path))?;
            let target = target.to_str().ok_or_else(|| {
                Error::Invalid(format!(
                    "the target of link {} is not UTF-8",
                    path.display()
                ))
            })?;
            Kind::Link {
                target: target.to_owned(),
            }
        } else {
            self.skipped
                .push(format!("{}: neither file, folder nor link", path.display()));
            return Ok(());
        };
        self.take(name, kind);
        Ok(())
    }

    fn dir(&mut self, path: &Path, name: &str) -> Result<()> {
        let real = fs::canonicalize(path).map_err(Error::io("read", path))?;
        if self.above.contains(&real) {
            return Err(Error::Invalid(format!(
                "{}: links run in a circle",
                path.display()
            )));
        }
        if self.above.len() >= limits::TREE_DEPTH_MAX {
            return Err(Error::Invalid(format!(
                "{}: nested too deep",
                path.display()
            )));
        }
        self.above.push(real);
        let mut empty = true;
        for item in fs::read_dir(path).map_err(Error::io("list", path))? {
            let item = item.map_err(Error::io("list", path))?;
            let below = item.path();
            let own = item.file_name();
            let own = utf8(&own, &below)?;
            let full = if name.is_empty() {
                own.to_owned()
            } else {
                format!("{name}/{own}")
            };
            let meta = if self.options.follow {
                fs::metadata(&below)
            } else {
                fs::symlink_metadata(&below)
            };
            self.entry(&below, &full, &meta.map_err(Error::io("read", &below))?)?;
            empty = false;
        }
        self.above.pop();
        if empty && !name.is_empty() {
            self.take(name, Kind::EmptyDir);
        }
        Ok(())
    }
}

#[cfg(unix)]
fn is_executable(meta: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    meta.permissions().mode() & 0o100 != 0
}

#[cfg(not(unix))]
fn is_executable(_meta: &fs::Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests;
