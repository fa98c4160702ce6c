//! Staging in a directory, with file locks; publishes by renaming inside a local repository.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::file_at::{read_exact_at, write_all_at};
use super::{StagedFile, Staging};
use crate::entropy::{Entropy, SystemEntropy};

/// Attempts to make a file of a fresh name before giving up.
const CREATE_ATTEMPTS: usize = 16;

/// Parts of at most this many bytes together are joined and written at once.
const JOIN_LEN_MAX: usize = 64 << 10;

/// Staged files in a directory.
#[derive(Debug, Clone)]
pub struct LocalStaging {
    folder: PathBuf,
    /// The repository's root on the same file system, if files are published by renaming.
    root: Option<PathBuf>,
}

impl LocalStaging {
    /// Staging inside the repository at `root`: publishing is renaming.
    #[must_use]
    pub fn in_repository(root: &Path) -> Self {
        Self {
            folder: root.join("mmh").join("staging"),
            root: Some(root.to_owned()),
        }
    }

    /// Staging in `folder` for a repository elsewhere: publishing is uploading.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            root: None,
        }
    }

    /// Makes `<path>.partial-<random>` beside a file that is to be, held by the caller. Publishing
    /// it under `path`'s file name is renaming.
    pub(crate) fn beside(path: &Path) -> io::Result<LocalFile> {
        let name = SystemEntropy.draw().map_err(io::Error::other)?.to_string();
        let mut partial = path.as_os_str().to_owned();
        partial.push(format!(".partial-{}", &name[..16]));
        let path = PathBuf::from(partial);
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let staging = Self {
            folder: folder.clone(),
            root: Some(folder),
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path);
        match staging.hold(file.map_err(at(&path))?, path)? {
            Some(held) => Ok(held),
            None => Err(io::Error::other("another process took the new file")),
        }
    }

    /// Locks a file; `None` if another holds it, or if its holder has moved it meanwhile. Names
    /// are never used twice, so a file that is still there is the one that was locked.
    fn hold(&self, file: File, path: PathBuf) -> io::Result<Option<LocalFile>> {
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if !path.try_exists()? {
            return Ok(None);
        }
        let len = AtomicU64::new(file.metadata()?.len());
        Ok(Some(LocalFile {
            file,
            path,
            len,
            root: self.root.clone(),
        }))
    }
}

impl Staging for LocalStaging {
    fn create(&self) -> io::Result<Box<dyn StagedFile>> {
        fs::create_dir_all(&self.folder).map_err(at(&self.folder))?;
        for _ in 0..CREATE_ATTEMPTS {
            let name = SystemEntropy.draw().map_err(io::Error::other)?;
            let path = self.folder.join(name.to_string());
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path);
            // Recovery may take and remove an empty file before it is locked: then try again.
            if let Some(held) = self.hold(file.map_err(at(&path))?, path)? {
                return Ok(Box::new(held));
            }
        }
        Err(io::Error::other(format!(
            "{}: cannot hold a new file",
            self.folder.display()
        )))
    }

    fn orphans(&self) -> io::Result<Vec<Box<dyn StagedFile>>> {
        let mut found: Vec<Box<dyn StagedFile>> = Vec::new();
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(at(&self.folder)(error)),
        };
        for entry in entries {
            let entry = entry?;
            if !entry.file_type()?.is_file() {
                continue;
            }
            let path = entry.path();
            match OpenOptions::new().read(true).write(true).open(&path) {
                Ok(file) => {
                    if let Some(held) = self.hold(file, path)? {
                        found.push(Box::new(held));
                    }
                }
                // Published meanwhile, or another user's: not ours to take over.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                    ) => {}
                Err(error) => return Err(at(&path)(error)),
            }
        }
        Ok(found)
    }

    fn settle(&self, object: &str) -> io::Result<()> {
        let Some(root) = &self.root else {
            return Ok(());
        };
        // The directory may be as new as the object.
        let target = root.join(object);
        let above = target.ancestors().skip(1);
        above
            .take_while(|folder| folder.starts_with(root))
            .try_for_each(sync_folder)
    }
}

/// A locked file in the staging directory.
#[derive(Debug)]
pub(crate) struct LocalFile {
    file: File,
    path: PathBuf,
    len: AtomicU64,
    root: Option<PathBuf>,
}

impl LocalFile {
    /// Writes the parts one after the other from `offset`, at or beyond the end; many threads may
    /// write beyond it at once, each to a place of its own.
    pub(crate) fn write_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let end = offset + len as u64;
        if len <= JOIN_LEN_MAX {
            write_all_at(&self.file, &parts.concat(), offset)?;
        } else {
            let mut at = offset;
            for part in parts {
                write_all_at(&self.file, part, at)?;
                at += part.len() as u64;
            }
        }
        self.len.fetch_max(end, Ordering::AcqRel);
        Ok(())
    }
}

impl StagedFile for LocalFile {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    fn append(&self, parts: &[&[u8]]) -> io::Result<()> {
        self.write_at(self.len(), parts)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        read_exact_at(&self.file, buf, offset)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.len.store(len, Ordering::Release);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn publish(&self, object: &str) -> io::Result<bool> {
        let Some(root) = &self.root else {
            return Ok(false);
        };
        let target = root.join(object);
        let folder = target
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.ok_or(io::ErrorKind::InvalidInput)?;
        make_folder(folder)?;
        fs::rename(&self.path, &target).map_err(at(&target))?;
        sync_folder(folder)?;
        Ok(true)
    }

    fn discard(&self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

/// Makes a directory with its ancestors, each on the disk before it counts.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_folder(parent)?;
    }
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(at(folder)(error));
        }
        _ => {}
    }
    folder.parent().map_or(Ok(()), sync_folder)
}

/// Syncs the names in a directory. Windows has no such call and keeps names by itself.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all().map_err(at(folder))
    } else {
        Ok(())
    }
}

/// Names the path in an error and keeps its kind.
fn at(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(file: &dyn StagedFile) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(file.len()).unwrap()];
        file.read_at(0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn short_and_long_appends_follow_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let file = LocalStaging::in_folder(dir.path()).create().unwrap();
        let long = vec![7; JOIN_LEN_MAX];
        file.append(&[b"a", b"b"]).unwrap();
        file.append(&[b"c", &long]).unwrap();
        file.append(&[]).unwrap();
        file.append(&[b"", b"d"]).unwrap();
        assert_eq!(bytes(&*file), [&b"abc"[..], &long, b"d"].concat());
    }

    /// Whoever writes beyond the end leaves room for others, and the length is that of the furthest.
    #[test]
    fn places_beyond_the_end_are_filled_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = LocalStaging::beside(&dir.path().join("x")).unwrap();
        file.append(&[b"head"]).unwrap();
        let long = vec![7; JOIN_LEN_MAX + 1];
        file.write_at(6, &[b"c", &long]).unwrap();
        assert_eq!(file.len(), 7 + long.len() as u64);
        file.write_at(4, &[b"a", b"b"]).unwrap();
        file.write_at(file.len(), &[]).unwrap();
        assert_eq!(bytes(&file), [&b"headabc"[..], &long].concat());
        file.append(&[b"end"]).unwrap();
        assert!(bytes(&file).ends_with(b"\x07end"));
    }

    #[test]
    fn a_file_is_held_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let staging = LocalStaging::in_folder(&dir.path().join("made/when/needed"));
        assert!(
            staging.orphans().unwrap().is_empty(),
            "no folder, no orphans"
        );
        let file = staging.create().unwrap();
        file.append(&[b"x"]).unwrap();
        assert!(staging.orphans().unwrap().is_empty());
        drop(file);
        let orphans = staging.orphans().unwrap();
        assert_eq!(orphans.len(), 1);
        assert_eq!(bytes(&*orphans[0]), b"x");
        assert!(
            staging.orphans().unwrap().is_empty(),
            "now it is held again"
        );
    }

    /// A holder that publishes between another's opening and locking of the file.
    #[test]
    fn a_file_that_was_moved_meanwhile_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let staging = LocalStaging::in_repository(dir.path());
        let file = staging.create().unwrap();
        file.append(&[b"pack"]).unwrap();
        let path = PathBuf::from(file.name());
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        assert!(file.publish("mmh/packs/aa/id").unwrap());
        drop(file);
        assert!(staging.hold(opened, path).unwrap().is_none());
        assert_eq!(
            fs::read(dir.path().join("mmh/packs/aa/id")).unwrap(),
            b"pack"
        );
    }

    #[test]
    fn publishing_replaces_what_is_there_and_empties_staging() {
        let dir = tempfile::tempdir().unwrap();
        let staging = LocalStaging::in_repository(dir.path());
        for content in [b"one", b"two"] {
            let file = staging.create().unwrap();
            file.append(&[content]).unwrap();
            file.sync().unwrap();
            assert!(file.publish("mmh/packs/aa/id").unwrap());
        }
        assert_eq!(
            fs::read(dir.path().join("mmh/packs/aa/id")).unwrap(),
            b"two"
        );
        assert_eq!(
            fs::read_dir(dir.path().join("mmh/staging"))
                .unwrap()
                .count(),
            0
        );
    }

    #[test]
    fn what_another_process_published_can_be_settled() {
        let dir = tempfile::tempdir().unwrap();
        let staging = LocalStaging::in_repository(dir.path());
        let file = staging.create().unwrap();
        assert!(file.publish("mmh/packs/aa/id").unwrap());
        staging.settle("mmh/packs/aa/id").unwrap();
        assert!(staging.settle("mmh/packs/bb/id").is_err(), "no directory");
        let elsewhere = LocalStaging::in_folder(dir.path());
        elsewhere.settle("mmh/packs/bb/id").unwrap();
    }

    #[test]
    fn a_folder_elsewhere_leaves_publishing_to_the_caller() {
        let dir = tempfile::tempdir().unwrap();
        let file = LocalStaging::in_folder(dir.path()).create().unwrap();
        assert!(!file.publish("mmh/packs/aa/id").unwrap());
        assert!(Path::new(&file.name()).exists());
    }

    #[test]
    fn folders_and_links_in_staging_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let staging = LocalStaging::in_folder(dir.path());
        fs::create_dir(dir.path().join("folder")).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        assert!(staging.orphans().unwrap().is_empty());
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"in the way").unwrap();
        let error = LocalStaging::in_folder(&file.join("below"))
            .create()
            .unwrap_err();
        assert!(error.to_string().contains("below"), "{error}");
        let staged = LocalStaging::in_repository(dir.path()).create().unwrap();
        let error = staged.publish("file/below").unwrap_err();
        assert!(error.to_string().contains("below"), "{error}");
    }

    #[test]
    fn a_partial_file_lies_beside_its_target() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("x.mmh");
        let file = LocalStaging::beside(&target).unwrap();
        let name = file.name();
        assert!(
            name.starts_with(&format!("{}.partial-", target.display())),
            "{name}"
        );
        file.append(&[b"x"]).unwrap();
        assert!(file.publish("x.mmh").unwrap());
        assert_eq!(fs::read(target).unwrap(), b"x");
        assert!(file.discard().is_err(), "there is nothing left to discard");
    }

    #[test]
    fn reading_beyond_the_end_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = LocalStaging::in_folder(dir.path()).create().unwrap();
        file.append(&[b"abc"]).unwrap();
        let error = file.read_at(1, &mut [0; 3]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        file.truncate(1).unwrap();
        assert_eq!((file.len(), bytes(&*file)), (1, b"a".to_vec()));
    }
}
