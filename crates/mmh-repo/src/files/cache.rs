//! Whole decoded files in a folder of this machine, each under the BLAKE3 of its content.
//!
//! The name is the proof: whoever opens a file for the first time in a process reads all of it and
//! compares (some 0.2 s for a GiB in memory), and again whenever its inode, length or modification
//! time changed. What rots on the disk after that is noticed as little as in any other file. Files
//! appear by renaming and disappear by unlinking, so that any number of processes may share the
//! folder; what is open stays whole. What was opened longest ago goes first, what is pinned stays.

use std::collections::HashMap;
use std::fs::{self, File, FileTimes, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use mmh_core::Digest;
use mmh_core::ports::{Clock, SystemClock};
use serde::Serialize;

/// The folder of what is not to go.
const PINS: &str = "pins";
/// How the names of unfinished files begin.
const PARTIAL: &str = ".partial-";
/// How many names are tried for one.
const NAMES_TRIED: usize = 16;
/// Bytes read at once to hash a file.
const HASHED_LEN: usize = 1 << 20;

/// A folder of whole files.
#[derive(Debug)]
pub struct FileCache {
    folder: PathBuf,
    len_max: u64,
    /// What was compared with its name, and how it looked then.
    known: Mutex<HashMap<Digest, Stamp>>,
}

/// By what a change of a file is noticed. The time of the last access is not part of it: that is
/// the order of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    len: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(meta);
        #[cfg(not(unix))]
        let inode = 0;
        Self {
            inode,
            len: meta.len(),
            modified: meta.modified().ok(),
        }
    }
}

/// What a cache holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CacheStat {
    /// Whole files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that are pinned and there.
    pub pinned_files: u64,
    /// Their bytes.
    pub pinned_bytes: u64,
    /// Bytes of files that are being written.
    pub partial_bytes: u64,
}

/// A file of the folder.
#[derive(Debug)]
struct Item {
    path: PathBuf,
    len: u64,
    used: SystemTime,
    pinned: bool,
    partial: bool,
}

impl FileCache {
    /// A cache in `folder`, which is made when the first file is kept, of at most `len_max` bytes.
    #[must_use]
    pub fn new(folder: PathBuf, len_max: u64) -> Self {
        Self {
            folder,
            len_max,
            known: Mutex::default(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How many bytes it may hold.
    #[must_use]
    pub fn len_max(&self) -> u64 {
        self.len_max
    }

    /// The file of this content, if it is there and right. What is wrong is removed; failures are
    /// misses.
    #[must_use]
    pub fn open(&self, digest: &Digest, len: u64) -> Option<File> {
        let path = self.path(digest);
        let file = File::open(&path).ok()?;
        let stamp = Stamp::of(&file.metadata().ok()?);
        if stamp.len == len && (self.knows(digest, stamp) || is_right(&file, digest)) {
            self.learn(*digest, stamp);
            mark_used(&file);
            return Some(file);
        }
        // Not whatever another process has put there meanwhile.
        if fs::metadata(&path).is_ok_and(|now| Stamp::of(&now) == stamp) {
            let _gone_already = fs::remove_file(&path).is_err();
        }
        None
    }

    /// Whether the file is there, right or wrong.
    #[must_use]
    pub fn holds(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    /// Begins a file of this content and length, for which room is made; `None` if there is none,
    /// as when all is pinned or the disk fails.
    #[must_use]
    pub fn begin(&self, digest: Digest, len: u64) -> Option<Partial> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        if len == 0 || !self.make_room(len) {
            return None;
        }
        let final_path = self.path(&digest);
        private_folder(final_path.parent()?).ok()?;
        // Another machine's process may have our number and share the folder.
        let (path, file) = (0..NAMES_TRIED).find_map(|_| {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{PARTIAL}{}-{n}", std::process::id());
            let path = final_path.with_file_name(name);
            Some((path.clone(), open_new(&path).ok()?))
        })?;
        let partial = Partial {
            file,
            path,
            final_path,
            digest,
        };
        // Whoever finds it without a lock takes it for what a dead process left.
        partial.file.lock().ok()?;
        partial.file.set_len(len).ok()?;
        Some(partial)
    }

    /// Gives a complete file its name, if its content is what the name says.
    ///
    /// `hashed` is the digest of what was written, from whoever computed it while writing; else the
    /// file is read.
    pub fn publish(&self, partial: Partial, hashed: Option<Digest>) -> bool {
        let right = match hashed {
            Some(hashed) => hashed == partial.digest,
            None => is_right(&partial.file, &partial.digest),
        };
        right && self.name(&partial)
    }

    fn name(&self, partial: &Partial) -> bool {
        protect(&partial.file);
        if fs::rename(&partial.path, &partial.final_path).is_err() {
            return false;
        }
        if let Ok(meta) = partial.file.metadata() {
            self.learn(partial.digest, Stamp::of(&meta));
        }
        true
    }

    /// Keeps a file from being removed, now or when it comes.
    ///
    /// # Errors
    /// The system's.
    pub fn pin(&self, digest: &Digest) -> io::Result<()> {
        private_folder(&self.folder.join(PINS))?;
        fs::write(self.pin_path(digest), b"")
    }

    /// Lets a file go when its turn comes; says whether it was pinned.
    ///
    /// # Errors
    /// The system's.
    pub fn unpin(&self, digest: &Digest) -> io::Result<bool> {
        match fs::remove_file(self.pin_path(digest)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What it holds now.
    #[must_use]
    pub fn stat(&self) -> CacheStat {
        let mut stat = CacheStat::default();
        for item in self.items() {
            if item.partial {
                stat.partial_bytes += item.len;
                continue;
            }
            stat.files += 1;
            stat.bytes += item.len;
            if item.pinned {
                stat.pinned_files += 1;
                stat.pinned_bytes += item.len;
            }
        }
        stat
    }

    /// Removes everything that is not pinned, and that too with `pinned`; says what it was.
    #[must_use]
    pub fn clear(&self, pinned: bool) -> CacheStat {
        let mut removed = CacheStat::default();
        for item in self.items() {
            let goes = !item.partial && (pinned || !item.pinned);
            if goes && fs::remove_file(&item.path).is_ok() {
                removed.files += 1;
                removed.bytes += item.len;
                if item.pinned {
                    removed.pinned_files += 1;
                    removed.pinned_bytes += item.len;
                }
            }
        }
        if pinned {
            let _none_there = fs::remove_dir_all(self.folder.join(PINS)).is_err();
        }
        removed
    }

    /// Removes what was used longest ago until `len` bytes more would fit.
    fn make_room(&self, len: u64) -> bool {
        let mut items = self.items();
        let mut held: u64 = items.iter().map(|item| item.len).sum();
        items.retain(|item| !item.pinned && !item.partial);
        items.sort_unstable_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
        let fits = |held: u64| held.checked_add(len).is_some_and(|all| all <= self.len_max);
        let freeable: u64 = items.iter().map(|item| item.len).sum();
        if !fits(held - freeable) {
            return false;
        }
        for item in items {
            if fits(held) {
                break;
            }
            // Another process may have been faster.
            let _gone_already = fs::remove_file(&item.path).is_err();
            held -= item.len;
        }
        true
    }

    /// All files; what died processes left unfinished is removed on the way.
    fn items(&self) -> Vec<Item> {
        let folders = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let folders = folders.filter(|folder| folder.file_name() != PINS);
        let files = folders.flat_map(|folder| fs::read_dir(folder.path()));
        let item = |entry: fs::DirEntry| {
            let (meta, path) = (entry.metadata().ok()?, entry.path());
            let name = entry.file_name();
            let name = name.to_str()?;
            let partial = name.starts_with(PARTIAL);
            if !meta.is_file() || partial && is_orphan(&path) {
                return None;
            }
            let stem = path.parent()?.file_name()?.to_str()?;
            let pin = self.folder.join(PINS).join(format!("{stem}{name}"));
            Some(Item {
                len: meta.len(),
                used: meta.accessed().or_else(|_| meta.modified()).ok()?,
                pinned: !partial && pin.exists(),
                partial,
                path,
            })
        };
        files.flatten().flatten().filter_map(item).collect()
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_string();
        self.folder.join(&hex[..2]).join(&hex[2..])
    }

    fn pin_path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(PINS).join(digest.to_string())
    }

    fn knows(&self, digest: &Digest, stamp: Stamp) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(digest) == Some(&stamp)
    }

    fn learn(&self, digest: Digest, stamp: Stamp) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(digest, stamp);
    }
}

/// A file that is being written. Dropped before it is published, it goes.
#[derive(Debug)]
pub struct Partial {
    file: File,
    path: PathBuf,
    final_path: PathBuf,
    digest: Digest,
}

impl Partial {
    /// The file, which stays the same when it gets its name.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Once it has its name, nothing is here.
        let _named = fs::remove_file(&self.path).is_err();
    }
}

/// Removes an unfinished file that nobody holds.
fn is_orphan(path: &Path) -> bool {
    let Ok(file) = File::open(path) else {
        return true;
    };
    file.try_lock().is_ok() && fs::remove_file(path).is_ok()
}

/// Hashes a file from its beginning and compares.
fn is_right(file: &File, digest: &Digest) -> bool {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; HASHED_LEN];
    let mut reader = Reader { file, offset: 0 };
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => hasher.update(&buffer[..n]),
            Err(_) => return false,
        };
    }
    Digest::from_bytes(*hasher.finalize().as_bytes()) == *digest
}

/// Reads without moving the file's own position, which others use.
struct Reader<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = read_at(self.file, buffer, self.offset)?;
        self.offset += n as u64;
        Ok(n)
    }
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}

fn open_new(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Nobody is to change it by mistake.
fn protect(file: &File) {
    if let Ok(meta) = file.metadata() {
        let mut permissions = meta.permissions();
        permissions.set_readonly(true);
        let _still_right = file.set_permissions(permissions).is_err();
    }
}

/// Makes a folder that only its owner may look into: it holds what the repository holds.
fn private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Order of use is all that hangs on it.
fn mark_used(file: &File) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(SystemClock.now_ms());
    let _read_only = file.set_times(FileTimes::new().set_accessed(now)).is_err();
}

#[cfg(test)]
mod tests;
