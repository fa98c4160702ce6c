//! Restoring: trees of the repository become files and folders, never outside their target.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use mmh_core::tree::Node;
use mmh_core::{ByteRange, Digest, FileId};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::list::Listed;
use crate::read::FileReader;
use crate::repository::Repository;

/// How to restore.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExportOptions {
    /// Replace files that are there with other content.
    pub overwrite: bool,
    /// Restore links that are absolute or point outside the restored folder.
    pub unsafe_links: bool,
}

/// What was restored.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ExportReport {
    /// Files written.
    pub written: u64,
    /// Files that were there already with the same content.
    pub kept: u64,
    /// Bytes of both.
    pub bytes: u64,
    /// Links that were left out, and why.
    pub skipped: Vec<String>,
}

/// One thing to restore.
#[derive(Debug)]
enum Item {
    Dir(PathBuf),
    File {
        path: PathBuf,
        id: FileId,
        size: u64,
        executable: bool,
    },
    Link {
        path: PathBuf,
        target: String,
        depth: usize,
    },
}

impl Item {
    fn of(Listed { path, node }: Listed, dest: &Path) -> Self {
        let depth = path.matches('/').count();
        let path = dest.join(path);
        match node {
            Node::Dir { .. } => Self::Dir(path),
            Node::Link { target } => Self::Link {
                path,
                target,
                depth,
            },
            Node::File {
                id,
                size,
                executable,
            } => Self::File {
                path,
                id,
                size,
                executable,
            },
        }
    }
}

impl Repository {
    /// Restores a node to `dest`: a directory's content into the folder `dest`, a file as `dest`
    /// (or into it under `name`, if `dest` is a folder).
    ///
    /// # Errors
    /// `Conflict` if a file with other content is in the way (unless told to overwrite);
    /// `Invalid` if a link lies in the way; `Corrupt` if stored data is damaged, in which case no
    /// file with wrong content is left.
    pub fn export(
        &self,
        node: &Node,
        name: &str,
        dest: &Path,
        options: ExportOptions,
    ) -> Result<ExportReport> {
        let mut items = Vec::new();
        match node {
            Node::Dir { id } => {
                // The folder that the user names may be reached by a link, those below may not.
                if !dest.is_dir() {
                    items.push(Item::Dir(dest.to_owned()));
                }
                let mut listed = Vec::new();
                self.list_below(*id, "", true, &mut listed)?;
                items.extend(listed.into_iter().map(|l| Item::of(l, dest)));
            }
            Node::File {
                id,
                size,
                executable,
            } => {
                let path = if dest.is_dir() {
                    dest.join(name)
                } else {
                    if let Some(parent) = folder_of(dest) {
                        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
                    }
                    dest.to_owned()
                };
                items.push(Item::File {
                    path,
                    id: *id,
                    size: *size,
                    executable: *executable,
                });
            }
            Node::Link { target } => {
                return Err(Error::Invalid(format!("`{name}` is a link to `{target}`")));
            }
        }
        let size = |item: &Item| match item {
            Item::File { size, .. } => *size,
            _ => 0,
        };
        self.progress()
            .begin("restoring", Some(items.iter().map(size).sum()));
        let done = self.restore(items, options);
        self.progress().end();
        done
    }

    /// Links are made last, so that nothing is ever written through one of ours.
    fn restore(&self, items: Vec<Item>, options: ExportOptions) -> Result<ExportReport> {
        let mut report = ExportReport::default();
        let mut links = Vec::new();
        for item in items {
            self.shop.components.cancel.check()?;
            match item {
                Item::Dir(path) => make_dir(&path)?,
                Item::File {
                    path,
                    id,
                    size,
                    executable,
                } => {
                    self.progress().item(&path.display().to_string());
                    report.bytes += size;
                    let reader = self.open_file(id)?;
                    reader.check_size(size)?;
                    if self.restore_file(&path, &reader, executable, options)? {
                        report.written += 1;
                    } else {
                        report.kept += 1;
                    }
                }
                Item::Link {
                    path,
                    target,
                    depth,
                } => links.push((path, target, depth)),
            }
        }
        for (path, target, depth) in links {
            if !options.unsafe_links && leaves(&target, depth) {
                let what = format!("{}: link to `{target}` leaves the folder", path.display());
                report.skipped.push(what);
            } else {
                make_link(&path, &target, options)?;
            }
        }
        Ok(report)
    }

    /// Writes one file unless it is there already; says whether it was written.
    fn restore_file(
        &self,
        path: &Path,
        reader: &FileReader<'_>,
        executable: bool,
        options: ExportOptions,
    ) -> Result<bool> {
        if let Ok(meta) = fs::symlink_metadata(path) {
            if !meta.is_file() {
                let what = format!(
                    "{} is in the way and is no plain file; move it away",
                    path.display()
                );
                return Err(Error::Invalid(what));
            }
            if meta.len() == reader.size() && self.hash_file(path)? == reader.file().blake3 {
                let file = fs::File::open(path).map_err(Error::io("open", path))?;
                set_executable(&file, executable).map_err(Error::io("set the mode of", path))?;
                self.progress().advance(meta.len());
                return Ok(false);
            }
            if !options.overwrite {
                let what = format!(
                    "{} exists with other content; move it away, or use `--overwrite`",
                    path.display()
                );
                return Err(Error::Conflict(what));
            }
        }
        let partial = partial_name(path);
        let written = self
            .write_partial(&partial, reader, executable)
            .and_then(|()| fs::rename(&partial, path).map_err(Error::io("create", path)));
        if written.is_err() && fs::symlink_metadata(&partial).is_ok() {
            fs::remove_file(&partial).map_err(Error::io("remove", &partial))?;
        }
        written.map(|()| true)
    }

    /// Writes the content under a name of its own and compares it with the digest of the whole.
    fn write_partial(
        &self,
        partial: &Path,
        reader: &FileReader<'_>,
        executable: bool,
    ) -> Result<()> {
        let mut file = create_new(partial)?;
        let mut hasher = blake3::Hasher::new();
        self.read_range(reader, ByteRange::all(reader.size()), &mut |bytes| {
            hasher.update(&bytes);
            file.write_all(&bytes).map_err(Error::io("write", partial))
        })?;
        let (digest, stated) = (hasher.finalize(), &reader.file().blake3);
        if digest.as_bytes() != stated.as_bytes() {
            return Err(Error::Corrupt(format!(
                "the parts of a file do not join to what it should be: BLAKE3 {stated}"
            )));
        }
        set_executable(&file, executable).map_err(Error::io("set the mode of", partial))
    }

    /// BLAKE3 of a file outside the repository.
    fn hash_file(&self, path: &Path) -> Result<Digest> {
        let mut hasher = blake3::Hasher::new();
        let mut file = fs::File::open(path).map_err(Error::io("open", path))?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            self.shop.components.cancel.check()?;
            match file.read(&mut buffer).map_err(Error::io("read", path))? {
                0 => return Ok(Digest::from_bytes(*hasher.finalize().as_bytes())),
                n => hasher.update(&buffer[..n]),
            };
        }
    }
}

/// The folder that a path lies in, if the path names one.
fn folder_of(path: &Path) -> Option<&Path> {
    path.parent().filter(|p| !p.as_os_str().is_empty())
}

/// A name beside `path` that fits wherever `path` itself fits and is used once in this process.
fn partial_name(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let (process, n) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let name = format!(".mmh-{process}-{n}.partial");
    folder_of(path).map_or_else(|| PathBuf::from(&name), |dir| dir.join(&name))
}

/// Creates a file that was not there, so that nothing is written through a link that someone put
/// there; what a process that died left under the name is taken away.
fn create_new(path: &Path) -> Result<fs::File> {
    match fs::File::create_new(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path).map_err(Error::io("remove", path))?;
            fs::File::create_new(path)
        }
        other => other,
    }
    .map_err(Error::io("create", path))
}

#[cfg(unix)]
fn set_executable(file: &fs::File, executable: bool) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if executable {
        let mode = file.metadata()?.permissions().mode();
        // Whoever may read it may execute it.
        file.set_permissions(fs::Permissions::from_mode(mode | (mode & 0o444) >> 2))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn set_executable(_file: &fs::File, _executable: bool) -> io::Result<()> {
    Ok(())
}

fn make_dir(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => {
            let what = format!(
                "{} is in the way and is no folder; move it away",
                path.display()
            );
            Err(Error::Invalid(what))
        }
        Err(_) => fs::create_dir_all(path).map_err(Error::io("create", path)),
    }
}

#[cfg(unix)]
fn make_link(path: &Path, target: &str, options: ExportOptions) -> Result<()> {
    if fs::read_link(path).is_ok_and(|there| there == Path::new(target)) {
        return Ok(());
    }
    if let Ok(meta) = fs::symlink_metadata(path) {
        if !options.overwrite || meta.is_dir() {
            return Err(Error::Conflict(format!(
                "{} is in the way of a link to `{target}`; move it away",
                path.display()
            )));
        }
        fs::remove_file(path).map_err(Error::io("remove", path))?;
    }
    std::os::unix::fs::symlink(target, path).map_err(Error::io("create", path))
}

#[cfg(not(unix))]
fn make_link(path: &Path, target: &str, _options: ExportOptions) -> Result<()> {
    Err(Error::Invalid(format!(
        "{}: links (to `{target}`) need Unix",
        path.display()
    )))
}

/// Whether a link `depth` directories below the root may point outside it.
///
/// `..` is taken at the beginning only, where it leaves real folders: after a name it would leave
/// wherever that name leads, and links that point to one another could climb out step by step.
fn leaves(target: &str, depth: usize) -> bool {
    if target.starts_with('/') || target.contains('\\') {
        return true;
    }
    let parts: Vec<_> = target
        .split('/')
        .filter(|p| !p.is_empty() && *p != ".")
        .collect();
    let up = parts.iter().take_while(|p| **p == "..").count();
    up > depth || parts[up..].contains(&"..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_leave_are_recognised() {
        for (target, depth) in [
            ("/etc", 0),
            ("..", 0),
            ("a/../..", 0),
            ("../../x", 1),
            ("a\\b", 0),
            ("a/../b", 0),
            ("x/x/../..", 0),
            ("../x/..", 1),
        ] {
            assert!(leaves(target, depth), "{target}");
        }
        for (target, depth) in [
            ("a", 0),
            ("../a", 1),
            ("..", 1),
            ("./a/b", 0),
            ("./../a", 1),
        ] {
            assert!(!leaves(target, depth), "{target}");
        }
    }
}
