//! Restoring: trees of the repository become files and folders, never outside their target.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use mmh_core::tree::Node;
use mmh_core::{ByteRange, Digest, FileId, TreeId, limits};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::objects;
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
            Node::Dir { id } => self.plan(*id, dest, 0, &mut items)?,
            Node::File {
                id,
                size,
                executable,
            } => {
                let path = if dest.is_dir() {
                    dest.join(name)
                } else {
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

    /// Lists what lies below a directory; directories come before their content.
    fn plan(&self, tree: TreeId, dest: &Path, depth: usize, items: &mut Vec<Item>) -> Result<()> {
        if depth > limits::TREE_DEPTH_MAX {
            return Err(Error::Corrupt(format!("tree {tree} is nested too deep")));
        }
        items.push(Item::Dir(dest.to_owned()));
        for entry in objects::entries(self.source(), tree)? {
            let path = dest.join(&entry.name);
            match entry.node {
                Node::Dir { id } => self.plan(id, &path, depth + 1, items)?,
                Node::File {
                    id,
                    size,
                    executable,
                } => {
                    items.push(Item::File {
                        path,
                        id,
                        size,
                        executable,
                    });
                }
                Node::Link { target } => items.push(Item::Link {
                    path,
                    target,
                    depth,
                }),
            }
        }
        Ok(())
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
                    if self.restore_file(&path, id, executable, options)? {
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
                make_link(&path, &target)?;
            }
        }
        Ok(report)
    }

    /// Writes one file unless it is there already; says whether it was written.
    fn restore_file(
        &self,
        path: &Path,
        id: FileId,
        executable: bool,
        options: ExportOptions,
    ) -> Result<bool> {
        let reader = self.open_file(id)?;
        if let Ok(meta) = fs::symlink_metadata(path) {
            if !meta.is_file() {
                let what = format!("{} is in the way and is no plain file", path.display());
                return Err(Error::Invalid(what));
            }
            if meta.len() == reader.size() && hash_file(path)? == reader.file().blake3 {
                self.progress().advance(meta.len());
                return Ok(false);
            }
            if !options.overwrite {
                let what = format!("{} exists with other content", path.display());
                return Err(Error::Conflict(what));
            }
        }
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        let name = path
            .file_name()
            .map(|n| n.to_string_lossy())
            .unwrap_or_default();
        let partial = parent
            .unwrap_or(Path::new("."))
            .join(format!(".{name:.200}.{}.partial", std::process::id()));
        let written = self
            .write_partial(&partial, &reader, executable)
            .and_then(|()| fs::rename(&partial, path).map_err(Error::io("create", path)));
        if written.is_err() && partial.exists() {
            fs::remove_file(&partial).map_err(Error::io("remove", &partial))?;
        }
        written.map(|()| true)
    }

    fn write_partial(
        &self,
        partial: &Path,
        reader: &crate::read::FileReader<'_>,
        executable: bool,
    ) -> Result<()> {
        let mut file = fs::File::create(partial).map_err(Error::io("create", partial))?;
        self.read_range(reader, ByteRange::all(reader.size()), &mut |bytes| {
            file.write_all(&bytes).map_err(Error::io("write", partial))
        })?;
        set_executable(&file, executable).map_err(Error::io("set the mode of", partial))
    }
}

#[cfg(unix)]
fn set_executable(file: &fs::File, executable: bool) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if executable {
        let mode = file.metadata()?.permissions().mode();
        // Whoever may read it may execute it.
        file.set_permissions(fs::Permissions::from_mode(mode | (mode & 0o444) >> 2))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn set_executable(_file: &fs::File, _executable: bool) -> std::io::Result<()> {
    Ok(())
}

fn make_dir(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => {
            let what = format!("{} is in the way and is no folder", path.display());
            Err(Error::Invalid(what))
        }
        Err(_) => fs::create_dir_all(path).map_err(Error::io("create", path)),
    }
}

#[cfg(unix)]
fn make_link(path: &Path, target: &str) -> Result<()> {
    if let Ok(there) = fs::read_link(path) {
        if there == Path::new(target) {
            return Ok(());
        }
        return Err(Error::Conflict(format!(
            "{} links elsewhere",
            path.display()
        )));
    }
    std::os::unix::fs::symlink(target, path).map_err(Error::io("create", path))
}

#[cfg(not(unix))]
fn make_link(path: &Path, target: &str) -> Result<()> {
    Err(Error::Invalid(format!(
        "{}: links (to `{target}`) need Unix",
        path.display()
    )))
}

/// Whether a link `depth` directories below the root points outside it.
fn leaves(target: &str, depth: usize) -> bool {
    if target.starts_with('/') || target.contains('\\') {
        return true;
    }
    let mut level = depth;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => match level.checked_sub(1) {
                Some(up) => level = up,
                None => return true,
            },
            _ => level += 1,
        }
    }
    false
}

pub(crate) fn hash_file(path: &Path) -> Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    let file = fs::File::open(path).map_err(Error::io("open", path))?;
    hasher
        .update_reader(file)
        .map_err(Error::io("read", path))?;
    Ok(Digest::from_bytes(*hasher.finalize().as_bytes()))
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
        ] {
            assert!(leaves(target, depth), "{target}");
        }
        for (target, depth) in [("a", 0), ("../a", 1), ("a/../b", 0), ("./a", 0)] {
            assert!(!leaves(target, depth), "{target}");
        }
    }
}
