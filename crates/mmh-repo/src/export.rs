//! Restoring: trees of the repository become files and folders, never outside their target.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use mmh_core::error::shorten;
use mmh_core::tree::Node;
use mmh_core::{ByteRange, Digest, FileId, Verified};
use mmh_formats::read_at::FileSource;
use mmh_store::Lease;
use rayon::prelude::*;
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

/// What there is to restore.
#[derive(Debug, Default)]
struct Plan {
    /// Folders, each before those in it.
    dirs: Vec<PathBuf>,
    files: Vec<PlannedFile>,
    links: Vec<PlannedLink>,
}

#[derive(Debug)]
struct PlannedFile {
    path: PathBuf,
    id: FileId,
    size: u64,
    executable: bool,
}

#[derive(Debug)]
struct PlannedLink {
    path: PathBuf,
    target: String,
    /// How many folders below the root of what is restored.
    depth: usize,
}

/// Files up to this length are restored several at a time; larger ones one after another, with
/// their chunks in parallel.
const SMALL_FILE_LEN: u64 = 4 << 20;
/// Bytes after which comparing a file with what is there may end early.
const COMPARED_LEN: usize = 64 << 20;

impl Plan {
    /// Bytes of all files, as their folders state them.
    fn total(&self) -> u64 {
        let sizes = self.files.iter().map(|f| f.size);
        sizes.fold(0, u64::saturating_add)
    }

    fn put(&mut self, path: PathBuf, node: Node, depth: usize) {
        match node {
            Node::Dir { .. } => self.dirs.push(path),
            Node::Link { target } => self.links.push(PlannedLink {
                path,
                target,
                depth,
            }),
            Node::File {
                id,
                size,
                executable,
            } => self.files.push(PlannedFile {
                path,
                id,
                size,
                executable,
            }),
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
        let mut plan = Plan::default();
        match node {
            Node::Dir { id } => {
                // The folder that the user names may be reached by a link, those below may not.
                if !dest.is_dir() {
                    plan.dirs.push(dest.to_owned());
                }
                let mut listed = Vec::new();
                self.list_below(*id, "", true, &mut listed)?;
                for Listed { path, node } in listed {
                    plan.put(dest.join(&path), node, path.matches('/').count());
                }
            }
            Node::File { .. } => {
                let path = if dest.is_dir() {
                    dest.join(name)
                } else {
                    if let Some(parent) = folder_of(dest) {
                        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
                    }
                    dest.to_owned()
                };
                plan.put(path, node.clone(), 0);
            }
            Node::Link { target } => {
                let target = shorten(target);
                return Err(Error::Invalid(format!(
                    "`{name}` is a link to `{target}`; name that, or the folder it lies in"
                )));
            }
        }
        let total = plan.total();
        self.progress().begin("restoring", Some(total));
        let lease = self.read_lease();
        let done = self.restore(plan, options, lease.as_ref());
        if let Some(lease) = lease {
            // One that stays behind ends by itself.
            let _later = self.block_on(lease.release()).is_err();
        }
        self.progress().end();
        done
    }

    /// Asks garbage collection to wait; where that is not allowed, nothing is asked.
    fn read_lease(&self) -> Option<Lease> {
        let store = self.store().ok()?;
        self.block_on(store.lease("read")).ok()
    }

    /// Makes folders, then files, then links, so that nothing is written through one of ours.
    fn restore(
        &self,
        plan: Plan,
        options: ExportOptions,
        lease: Option<&Lease>,
    ) -> Result<ExportReport> {
        plan.dirs.iter().try_for_each(|dir| make_dir(dir))?;
        let (small, large): (Vec<_>, Vec<_>) = plan
            .files
            .iter()
            .partition(|file| file.size <= SMALL_FILE_LEN);
        let one = |file: &&PlannedFile| {
            if let Some(lease) = lease.filter(|lease| lease.is_due()) {
                self.block_on(lease.renew());
            }
            self.restore_file(file, options)
        };
        let pool = &self.shop.components.pool;
        let mut written: Vec<bool> =
            pool.install(|| small.par_iter().map(one).collect::<Result<_>>())?;
        for file in &large {
            written.push(one(file)?);
        }
        let mut report = ExportReport {
            bytes: plan.total(),
            written: written.iter().filter(|written| **written).count() as u64,
            kept: written.iter().filter(|written| !**written).count() as u64,
            skipped: Vec::new(),
        };
        for PlannedLink {
            path,
            target,
            depth,
        } in plan.links
        {
            if !options.unsafe_links && leaves(&target, depth) {
                let (path, target) = (path.display(), shorten(&target));
                let what = format!("{path}: link to `{target}` may leave the folder");
                report.skipped.push(what);
            } else {
                make_link(&path, &target, options)?;
            }
        }
        Ok(report)
    }

    /// Writes one file unless it is there already; says whether it was written.
    fn restore_file(&self, file: &PlannedFile, options: ExportOptions) -> Result<bool> {
        let (path, executable) = (file.path.as_path(), file.executable);
        self.shop.components.cancel.check()?;
        self.progress().item(&path.display().to_string());
        let reader = self.open_file(file.id)?;
        reader.check_size(file.size)?;
        if let Ok(meta) = fs::symlink_metadata(path) {
            if !meta.is_file() {
                let what = format!(
                    "{} is in the way and is no plain file; move it away",
                    path.display()
                );
                return Err(Error::Invalid(what));
            }
            if meta.len() == reader.size() && self.is_there(path, &reader)? {
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
            .write_partial(&partial, &reader, executable)
            .and_then(|()| fs::rename(&partial, path).map_err(Error::io("create", path)));
        if written.is_err() && fs::symlink_metadata(&partial).is_ok() {
            fs::remove_file(&partial).map_err(Error::io("remove", &partial))?;
        }
        written.map(|()| true)
    }

    /// Writes the content under a name of its own and compares it with the digest of the whole, if
    /// the file object has one. Every chunk is compared with its id in any case, and the segments
    /// tile the file.
    fn write_partial(
        &self,
        partial: &Path,
        reader: &FileReader<'_>,
        executable: bool,
    ) -> Result<()> {
        let file = create_new(partial)?;
        let stated = reader.file().blake3;
        let mut hasher = stated.map(|_| blake3::Hasher::new());
        let put = |offset, piece: &[u8]| {
            write_at(&file, piece, offset).map_err(Error::io("write", partial))?;
            self.progress().advance(piece.len() as u64);
            Ok(())
        };
        // Pieces are written anywhere in the file, but its digest takes them in order.
        let mut hash = |piece: Verified<Bytes>| {
            if let Some(hasher) = &mut hasher {
                hasher.update(&piece);
            }
            Ok(())
        };
        self.read_to(reader, ByteRange::all(reader.size()), &put, &mut hash)?;
        let digest = hasher.map(|hasher| Digest::from_bytes(*hasher.finalize().as_bytes()));
        if let Some(stated) = stated.filter(|stated| digest != Some(*stated)) {
            return Err(Error::Corrupt(format!(
                "the parts of a file do not join to what it should be: BLAKE3 {stated}"
            )));
        }
        set_executable(&file, executable).map_err(Error::io("set the mode of", partial))
    }

    /// Whether a file of the same length has the content already: by the digest of the whole, or
    /// piece by piece where there is none.
    fn is_there(&self, path: &Path, reader: &FileReader<'_>) -> Result<bool> {
        if let Some(stated) = reader.file().blake3 {
            return Ok(self.hash_file(path)? == stated);
        }
        let file = fs::File::open(path).map_err(Error::io("open", path))?;
        let source = FileSource::new(file).map_err(Error::io("read", path))?;
        let size = reader.size();
        for start in (0..size).step_by(COMPARED_LEN) {
            let end = size.min(start + COMPARED_LEN as u64);
            let same = AtomicBool::new(true);
            let compare = |offset, piece: &[u8]| {
                let there = mmh_formats::read_vec(&source, start + offset, piece.len() as u64)?;
                same.fetch_and(there == piece, Ordering::Relaxed);
                Ok(())
            };
            let range = ByteRange { start, end };
            self.read_to(reader, range, &compare, &mut |_| Ok(()))?;
            if !same.into_inner() {
                return Ok(false);
            }
        }
        Ok(true)
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

/// Writes all of `bytes` at a place of the file.
#[cfg(unix)]
fn write_at(file: &fs::File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

/// Writes all of `bytes` at a place of the file.
#[cfg(windows)]
fn write_at(file: &fs::File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[n..];
        offset += n as u64;
    }
    Ok(())
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
                "{} is in the way of a link to `{}`; move it away, or use `--overwrite`",
                path.display(),
                shorten(target)
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
mod tests;
