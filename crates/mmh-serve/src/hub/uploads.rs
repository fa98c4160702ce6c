//! Files that were uploaded and wait for the commit that wants them: on disk, within bounds, kept
//! over a restart, and thrown away when nobody asked for them in time.
//!
//! `arriving` holds what is on its way, `objects/NAME/SHA256` what came whole (of each repository
//! apart: to know a digest is no right to read), `parts` what comes in parts, `leaves` which chunks of
//! Xet those are made of, `changes` what commits under way put together, `xorbs` what files of clients
//! that speak Xet are put together from, `addresses` where those are sent.

mod leaves;
mod parts;
mod xorbs;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::digest::{Context, SHA256};
use axum::http::StatusCode;
use mmh_core::name::RepoName;
use mmh_core::ports::Clock;
use mmh_xet::Leaf;

use super::HubOptions;
use super::commits::hex;
use super::fail::{Fail, Outcome, of_io};
use crate::error::{Error, Result, random};

pub(crate) use leaves::{LEAF_LEN, LeavesWriter, Referred, leaf_bytes, leaf_of, read_list};
use parts::Busy;
pub(crate) use parts::Whole;
pub(crate) use xorbs::{Address, Open, of_xet};

/// How long an upload waits for its commit, and how long its address is good.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// The folder of uploads.
#[derive(Debug)]
pub(crate) struct Uploads {
    root: PathBuf,
    len_max: u64,
    used: Arc<AtomicU64>,
    /// Signs addresses of uploads, as long as this process lives.
    key: [u8; 32],
    clock: Arc<dyn Clock>,
    /// Longer uploads may come in parts of that length.
    part_len: u64,
    busy: Busy,
    addresses: Mutex<()>,
    /// Locked while this lives.
    _lock: File,
}

/// Room that is taken; free again when this is dropped, unless it is kept.
#[derive(Debug)]
pub(crate) struct Room {
    len: u64,
    used: Arc<AtomicU64>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.used.fetch_sub(self.len, Ordering::Relaxed);
    }
}

impl Room {
    /// Stays taken.
    fn keep(mut self) {
        self.len = 0;
    }
}

impl Uploads {
    /// Takes the folder over, and throws away what no commit will want.
    pub(crate) fn open(options: &HubOptions) -> Result<Self> {
        let root = options.uploads.clone();
        let io = |error| Error::io(&root)(error);
        for part in ["arriving", "changes"] {
            match fs::remove_dir_all(root.join(part)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
                _ => fs::create_dir_all(root.join(part)).map_err(io)?,
            }
        }
        for part in ["objects", "leaves", "parts", "xorbs", "addresses"] {
            fs::create_dir_all(root.join(part)).map_err(io)?;
        }
        let mut options_of_lock = OpenOptions::new();
        options_of_lock.write(true).create(true).truncate(false);
        let lock = options_of_lock.open(root.join("lock")).map_err(io)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::Error(error) => io(error),
            TryLockError::WouldBlock => io(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another server uses this folder for uploads",
            )),
        })?;
        let uploads = Self {
            len_max: options.uploads_len,
            used: Arc::default(),
            key: random()?,
            clock: Arc::clone(&options.clock),
            part_len: options.part_len.max(1),
            busy: Busy::default(),
            addresses: Mutex::new(()),
            _lock: lock,
            root,
        };
        uploads.sweep().map_err(Error::io(&uploads.root))?;
        Ok(uploads)
    }

    /// Throws away what waits too long, and counts the rest.
    fn sweep(&self) -> io::Result<()> {
        let now = Duration::from_millis(self.clock.now_ms());
        let mut used = 0;
        for part in ["objects", "leaves"] {
            for folder in fs::read_dir(self.root.join(part))? {
                for object in fs::read_dir(folder?.path())? {
                    let object = object?;
                    let meta = object.metadata()?;
                    if since_1970(&meta)? + KEPT < now {
                        fs::remove_file(object.path())?;
                    } else {
                        used += meta.len();
                    }
                }
            }
        }
        let kept = self.sweep_xorbs(&mut 0)? + self.sweep_parts()?;
        self.used.store(used + kept, Ordering::Relaxed);
        Ok(())
    }

    /// What time it is, in milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Room for so many bytes.
    ///
    /// # Errors
    /// 507 if there is none.
    pub(crate) fn room(&self, len: u64) -> Outcome<Room> {
        let took = self.used.fetch_add(len, Ordering::Relaxed);
        let room = Room {
            len,
            used: Arc::clone(&self.used),
        };
        if took.saturating_add(len) > self.len_max {
            let text = "too much was uploaded and is not committed yet; try later";
            return Err(Fail::new(StatusCode::INSUFFICIENT_STORAGE, text));
        }
        Ok(room)
    }

    fn addresses(&self) -> MutexGuard<'_, ()> {
        self.addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, name: &RepoName, sha256: &[u8; 32]) -> PathBuf {
        let folder = self.root.join("objects").join(folder_of(name));
        folder.join(hex(sha256))
    }

    /// Where the list of an upload's chunks lies, if one does.
    pub(crate) fn leaves(&self, name: &RepoName, sha256: &[u8; 32]) -> PathBuf {
        let folder = self.root.join("leaves").join(folder_of(name));
        folder.join(hex(sha256))
    }

    /// Begins a list of chunks that nobody waits for, of a file that is cut here.
    pub(crate) fn list(&self) -> Outcome<LeavesWriter> {
        let path = Removed(self.root.join("arriving").join(self.unique()?));
        LeavesWriter::create(path, None)
    }

    /// Where an upload lies that came whole.
    pub(crate) fn find(&self, name: &RepoName, sha256: &[u8; 32]) -> Option<(PathBuf, u64)> {
        let path = self.object(name, sha256);
        let len = fs::metadata(&path).ok()?.len();
        Some((path, len))
    }

    /// Puts a file that was compared and is on disk to the uploads; whether it is the first one.
    fn place(&self, from: &Path, name: &RepoName, sha256: &[u8; 32]) -> Outcome<bool> {
        let failed = || of_io("keep an upload");
        let to = self.object(name, sha256);
        let folder = to.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).map_err(failed())?;
        let is_new = !to.exists();
        fs::rename(from, &to).map_err(failed())?;
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed())?;
        Ok(is_new)
    }

    /// Puts the list of an upload's chunks beside it.
    fn place_list(&self, list: LeavesWriter, name: &RepoName, sha256: &[u8; 32]) -> Outcome<()> {
        let failed = || of_io("keep an upload");
        let list = list.finish()?;
        let len = fs::metadata(list.path()).map_err(failed())?.len();
        let room = self.room(len)?;
        let to = self.leaves(name, sha256);
        fs::create_dir_all(to.parent().unwrap_or(&self.root)).map_err(failed())?;
        let before = fs::metadata(&to).map_or(0, |meta| meta.len());
        fs::rename(list.path(), &to).map_err(failed())?;
        room.keep();
        self.used.fetch_sub(before, Ordering::Relaxed);
        Ok(())
    }

    /// An upload was committed.
    pub(crate) fn done(&self, name: &RepoName, sha256: &[u8; 32]) {
        for path in [self.object(name, sha256), self.leaves(name, sha256)] {
            let Ok(len) = fs::metadata(&path).map(|meta| meta.len()) else {
                continue;
            };
            // Another commit may have been faster.
            if fs::remove_file(path).is_ok() {
                self.used.fetch_sub(len, Ordering::Relaxed);
            }
        }
    }

    /// Begins to take in an upload, which is cut into chunks of Xet on the way.
    pub(crate) fn arrive(&self, len: u64) -> Outcome<Arriving> {
        self.arrive_as(len, None)
    }

    /// Begins to take in an upload, whose chunks are told: those of `told`.
    pub(crate) fn arrive_as(&self, len: u64, told: Option<&[Referred]>) -> Outcome<Arriving> {
        let room = self.room(len)?;
        let place = || Ok::<_, Fail>(Removed(self.root.join("arriving").join(self.unique()?)));
        let (path, list) = (place()?, place()?);
        let file = File::create_new(path.path()).map_err(of_io("keep an upload"))?;
        Ok(Arriving {
            file,
            path,
            room,
            len: 0,
            expected: len,
            sha256: Context::new(&SHA256),
            leaves: LeavesWriter::create(list, told)?,
        })
    }

    /// A folder for what a commit puts together; gone when it is dropped.
    pub(crate) fn change(&self) -> Outcome<Removed> {
        let path = self.root.join("changes").join(self.unique()?);
        fs::create_dir(&path).map_err(of_io("make a folder"))?;
        Ok(Removed(path))
    }

    fn unique(&self) -> Outcome<String> {
        let bytes = random::<16>();
        let bytes = bytes.map_err(|e| Fail::new(StatusCode::SERVICE_UNAVAILABLE, e.to_string()))?;
        Ok(hex(&bytes))
    }

    /// Until when, in milliseconds, an address is good that is made now, and the proof that it was.
    pub(crate) fn sign(&self, name: &RepoName, what: &str) -> (u64, String) {
        let until = self.clock.now_ms() + u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX);
        (until, self.proof(name, what, until))
    }

    fn proof(&self, name: &RepoName, what: &str, until: u64) -> String {
        let text = format!("{name}\n{what}\n{until}");
        blake3::keyed_hash(&self.key, text.as_bytes()).to_string()
    }

    /// Whether an address was made here and is good still.
    pub(crate) fn is_signed(&self, name: &RepoName, what: &str, until: u64, by: &str) -> bool {
        let Ok(by) = blake3::Hash::from_hex(by) else {
            return false;
        };
        let expected = blake3::Hash::from_hex(self.proof(name, what, until));
        // The comparison of `Hash` takes constant time.
        expected.is_ok_and(|expected| expected == by) && self.clock.now_ms() <= until
    }
}

/// When a file was written last, since 1970.
fn since_1970(meta: &fs::Metadata) -> io::Result<Duration> {
    let modified = meta.modified()?;
    Ok(modified.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// The folder of a name, whatever characters that has.
fn folder_of(name: &RepoName) -> String {
    let hash = blake3::hash(name.as_str().as_bytes()).to_hex();
    hash[..32].to_owned()
}

/// A file or folder that goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Removed(pub(crate) PathBuf);

impl Removed {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Removed {
    fn drop(&mut self) {
        // What stays is thrown away when the server starts again.
        let gone = fs::remove_file(&self.0).or_else(|_| fs::remove_dir_all(&self.0));
        gone.ok();
    }
}

/// An upload on its way.
pub(crate) struct Arriving {
    file: File,
    path: Removed,
    room: Room,
    len: u64,
    expected: u64,
    sha256: Context,
    leaves: LeavesWriter,
}

impl std::fmt::Debug for Arriving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arriving")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Arriving {
    /// Where it lies meanwhile.
    pub(crate) fn path(&self) -> &Path {
        self.path.path()
    }

    /// How many bytes came.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Whether all bytes came that were to come.
    pub(crate) fn is_whole(&self) -> bool {
        self.len == self.expected
    }

    /// The next bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.len += bytes.len() as u64;
        if self.len > self.expected {
            return Err(Fail::invalid("the upload is longer than it was said to be"));
        }
        self.sha256.update(bytes);
        self.leaves.bytes(bytes)?;
        self.file.write_all(bytes).map_err(of_io("keep an upload"))
    }

    /// The next chunk, of an upload whose chunks are told.
    pub(crate) fn leaf(&mut self, leaf: &Leaf) -> Outcome<()> {
        self.leaves.leaf(leaf)
    }

    /// All came: it is kept under its digest, if it has that.
    pub(crate) fn finish(
        self,
        uploads: &Uploads,
        name: &RepoName,
        sha256: &[u8; 32],
    ) -> Outcome<()> {
        if self.len != self.expected {
            return Err(Fail::invalid(
                "the upload is shorter than it was said to be",
            ));
        }
        let found = self.sha256.finish();
        if found.as_ref() != sha256 {
            let text = format!(
                "the upload has the digest {}, not {}",
                hex(found.as_ref()),
                hex(sha256)
            );
            return Err(Fail::invalid(text));
        }
        self.file.sync_all().map_err(of_io("keep an upload"))?;
        // The list first: without one a file is cut again, when somebody asks for it.
        uploads.place_list(self.leaves, name, sha256)?;
        if uploads.place(self.path.path(), name, sha256)? {
            self.room.keep();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[derive(Debug, Default)]
    pub(super) struct Hands(pub(super) AtomicU64);

    impl Clock for Hands {
        fn now_ms(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    pub(super) fn options(folder: &Path, clock: &Arc<Hands>) -> HubOptions {
        HubOptions {
            uploads: folder.to_owned(),
            uploads_len: 100,
            part_len: 10,
            upstream: None,
            cache: None,
            clock: Arc::clone(clock) as Arc<dyn Clock>,
        }
    }

    pub(super) fn digest(bytes: &[u8]) -> [u8; 32] {
        let mut digest = [0; 32];
        digest.copy_from_slice(aws_lc_rs::digest::digest(&SHA256, bytes).as_ref());
        digest
    }

    fn names() -> (RepoName, RepoName) {
        ("a/b".parse().unwrap(), "a/c".parse().unwrap())
    }

    #[test]
    fn only_what_is_what_it_should_be_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(Hands::default());
        let uploads = Uploads::open(&options(folder.path(), &clock)).unwrap();
        let (name, other) = names();
        let put = |bytes: &[u8], len: u64, sha256: &[u8; 32]| {
            let mut arriving = uploads.arrive(len)?;
            arriving.write(bytes)?;
            arriving.finish(&uploads, &name, sha256)
        };
        let right = digest(b"hello");
        assert!(put(b"hello", 5, &digest(b"other")).is_err());
        assert!(put(b"hello", 6, &right).is_err());
        assert!(put(b"hello", 4, &right).is_err());
        assert!(uploads.find(&name, &right).is_none());
        assert_eq!(uploads.used.load(Ordering::Relaxed), 0);
        for _ in 0..2 {
            put(b"hello", 5, &right).unwrap();
            let list = 4 + 36;
            assert_eq!(uploads.used.load(Ordering::Relaxed), 5 + list);
        }
        let (path, len) = uploads.find(&name, &right).unwrap();
        assert_eq!(
            (fs::read(path).unwrap().as_slice(), len),
            (&b"hello"[..], 5)
        );
        assert!(uploads.find(&other, &right).is_none(), "of another name");
        let arriving = fs::read_dir(folder.path().join("arriving")).unwrap();
        assert_eq!(arriving.count(), 0);
        uploads.done(&name, &right);
        uploads.done(&name, &right);
        assert_eq!(uploads.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn room_is_bounded_and_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(Hands::default());
        let uploads = Uploads::open(&options(folder.path(), &clock)).unwrap();
        let first = uploads.arrive(60).unwrap();
        let refused = uploads.arrive(60).unwrap_err();
        assert_eq!(refused.status, StatusCode::INSUFFICIENT_STORAGE);
        drop(first);
        uploads.arrive(100).unwrap();
        assert!(uploads.arrive(u64::MAX).is_err());
    }

    #[test]
    fn uploads_outlive_a_restart_but_not_their_time() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(Hands::default());
        let (name, _) = names();
        let right = digest(b"x");
        let uploads = Uploads::open(&options(folder.path(), &clock)).unwrap();
        let mut arriving = uploads.arrive(1).unwrap();
        arriving.write(b"x").unwrap();
        arriving.finish(&uploads, &name, &right).unwrap();
        let busy = Uploads::open(&options(folder.path(), &clock));
        assert!(busy.is_err(), "one server at a time");
        drop(uploads);
        let again = Uploads::open(&options(folder.path(), &clock)).unwrap();
        assert!(again.find(&name, &right).is_some());
        assert_eq!(again.used.load(Ordering::Relaxed), 1 + 4 + 36);
        drop(again);
        clock.0.store(u64::MAX / 2, Ordering::Relaxed);
        let late = Uploads::open(&options(folder.path(), &clock)).unwrap();
        assert!(late.find(&name, &right).is_none());
        assert_eq!(late.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn addresses_are_good_for_what_they_were_made_for() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(Hands::default());
        let uploads = Uploads::open(&options(folder.path(), &clock)).unwrap();
        let (name, other) = names();
        let (until, by) = uploads.sign(&name, "what");
        assert!(uploads.is_signed(&name, "what", until, &by));
        assert!(!uploads.is_signed(&other, "what", until, &by));
        assert!(!uploads.is_signed(&name, "else", until, &by));
        assert!(!uploads.is_signed(&name, "what", until + 1, &by));
        assert!(!uploads.is_signed(&name, "what", until, "x"));
        clock.0.store(until + 1, Ordering::Relaxed);
        assert!(!uploads.is_signed(&name, "what", until, &by));
    }

    #[test]
    fn addresses_change_when_xorbs_are_thrown_away() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(Hands::default());
        let options = HubOptions {
            uploads_len: 1 << 20,
            ..options(folder.path(), &clock)
        };
        let uploads = Uploads::open(&options).unwrap();
        let (name, other) = names();
        let first = uploads.address(&name).unwrap();
        assert_eq!(uploads.address(&name).unwrap(), first);
        let others = uploads.address(&other).unwrap();
        assert_ne!(others, first);
        let mut writer = mmh_xet::XorbWriter::default();
        assert!(writer.push(b"hello", mmh_xet::Scheme::None));
        let (xorb, bytes) = writer.finish(false);
        let put = |uploads: &Uploads| uploads.xorbs(&name).put(&bytes, xorb.hash()).unwrap();
        assert!(put(&uploads) && !put(&uploads));
        let used = || 5 + 36 + 4;
        assert_eq!(uploads.used.load(Ordering::Relaxed), used());
        drop(uploads);
        let uploads = Uploads::open(&options).unwrap();
        assert_eq!(uploads.used.load(Ordering::Relaxed), used());
        assert_eq!(
            uploads.address(&name).unwrap(),
            first,
            "it outlives a restart"
        );
        let day = u64::try_from(KEPT.as_millis()).unwrap();
        clock.0.store(day, Ordering::Relaxed);
        uploads.end_xorbs().unwrap();
        assert_eq!(uploads.xorbs(&name).n_chunks(&xorb.hash()), Some(1));
        // To look at it kept it for another day.
        clock.0.store(2 * day, Ordering::Relaxed);
        uploads.end_xorbs().unwrap();
        assert_eq!(uploads.used.load(Ordering::Relaxed), used());
        assert_eq!(uploads.address(&name).unwrap(), first);
        clock.0.fetch_add(1, Ordering::Relaxed);
        uploads.end_xorbs().unwrap();
        assert_eq!(uploads.used.load(Ordering::Relaxed), 0);
        let second = uploads.address(&name).unwrap();
        assert_ne!(second, first);
        assert_eq!(uploads.address(&other).unwrap(), others);
        assert!(put(&uploads));
        uploads.xorbs(&name).done(&xorb.hash());
        uploads.xorbs(&name).done(&xorb.hash());
        assert_eq!(uploads.used.load(Ordering::Relaxed), 0);
        uploads.give_up(&name, &first);
        assert_eq!(uploads.address(&name).unwrap(), second, "of an older one");
        uploads.give_up(&name, &second);
        assert_ne!(uploads.address(&name).unwrap(), second);
        uploads.give_up_all(&other);
        assert_ne!(uploads.address(&other).unwrap(), others);
    }
}
