//! What was read from an engine elsewhere and proved right, kept in a folder of this machine.
//!
//! Only verified bytes are kept, under the object they came from and their offset; objects never
//! change, so that an entry never goes stale. Each file ends with a checksum, so that a torn or
//! rotten one is a miss, and whoever reads it compares digests again. Files appear by renaming:
//! any number of processes may share the folder. What was used longest ago goes first.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use mmh_core::Digest;
use mmh_core::ports::{Clock, SystemClock};

use crate::entropy::{Entropy, SystemEntropy};

/// The checksum at the end of a file: CRC-32C of what is before it.
const SUM_LEN: usize = 4;
/// Longer pieces are not kept; records of packs are shorter.
const PIECE_LEN_MAX: usize = 8 << 20;
/// What a file costs beside its bytes: a block of the file system, on average half used.
const FILE_COST: u64 = 2 << 10;
/// A file that was used is marked so, but not more often than this.
const TOUCH_EVERY: Duration = Duration::from_secs(60);
/// When there is too much, so many hundredths of the bound are kept.
const KEPT_PERCENT: u64 = 90;

/// A folder of pieces of objects.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    len_max: u64,
    /// Bytes that were there at the last count, and those put since; other processes' puts are
    /// seen at the next count.
    len: AtomicU64,
    counted: AtomicBool,
}

impl Cache {
    /// A cache in `folder`, which is made when the first piece is kept.
    pub(crate) fn new(folder: PathBuf, len_max: u64) -> Self {
        Self {
            folder,
            len_max,
            len: AtomicU64::new(0),
            counted: AtomicBool::new(false),
        }
    }

    /// The piece of that object at that offset, if it is there and whole. Failures are misses.
    pub(crate) fn get(&self, object: &str, offset: u64, len: u64) -> Option<Bytes> {
        let path = self.path(object, offset, len);
        let mut file = File::open(&path).ok()?;
        match read_piece(&mut file, len) {
            Some(bytes) => {
                touch(&file);
                Some(bytes)
            }
            None => {
                let _gone_already = fs::remove_file(&path).is_err();
                None
            }
        }
    }

    /// Keeps a piece that was proved right. A failure only costs the next reader time.
    pub(crate) fn put(&self, object: &str, offset: u64, bytes: &[u8]) {
        let path = self.path(object, offset, bytes.len() as u64);
        let cost = bytes.len() as u64 + FILE_COST;
        if bytes.len() > PIECE_LEN_MAX || cost > self.len_max / 2 || path.exists() {
            return;
        }
        if write_piece(&path, bytes).is_err() {
            return;
        }
        let len = self.len.fetch_add(cost, Ordering::Relaxed) + cost;
        if len > self.len_max || !self.counted.swap(true, Ordering::Relaxed) {
            self.shrink();
        }
    }

    fn path(&self, object: &str, offset: u64, len: u64) -> PathBuf {
        let key = Digest::of(format!("{object}\n{offset}\n{len}").as_bytes()).to_string();
        self.folder.join(&key[..2]).join(&key[2..])
    }

    /// Counts what is there and, if it is too much, removes what was used longest ago.
    fn shrink(&self) {
        let mut files = Vec::new();
        let folders = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for entry in folders
            .flat_map(|f| fs::read_dir(f.path()))
            .flatten()
            .flatten()
        {
            if let Ok(meta) = entry.metadata()
                && meta.is_file()
                && let Ok(used) = meta.modified()
            {
                files.push((used, meta.len() + FILE_COST, entry.path()));
            }
        }
        let mut len: u64 = files.iter().map(|(_, len, _)| len).sum();
        if len > self.len_max {
            files.sort_unstable();
            let kept = self.len_max / 100 * KEPT_PERCENT;
            for (_, cost, path) in files {
                if len <= kept {
                    break;
                }
                // Another process may have been faster.
                let _gone_already = fs::remove_file(path).is_err();
                len -= cost;
            }
        }
        self.len.store(len, Ordering::Relaxed);
    }
}

/// Reads a piece of `len` bytes, if its checksum holds.
fn read_piece(file: &mut File, len: u64) -> Option<Bytes> {
    let sealed = file.metadata().ok()?.len();
    if sealed != len + SUM_LEN as u64 || len > PIECE_LEN_MAX as u64 {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(sealed).ok()?];
    file.read_exact(&mut bytes).ok()?;
    let (piece, sum) = bytes.split_last_chunk::<SUM_LEN>()?;
    if crc_fast::crc32_iscsi(piece) != u32::from_le_bytes(*sum) {
        return None;
    }
    bytes.truncate(bytes.len() - SUM_LEN);
    Some(bytes.into())
}

/// Writes a piece with its checksum under a random name, then gives it its own.
fn write_piece(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    private_folder(folder)?;
    let name = SystemEntropy.draw().map_err(io::Error::other)?.to_string();
    let partial = folder.join(format!(".{}", &name[..32]));
    let sum = crc_fast::crc32_iscsi(bytes).to_le_bytes();
    let written = fs::write(&partial, [bytes, &sum].concat());
    let renamed = written.and_then(|()| fs::rename(&partial, path));
    if renamed.is_err() {
        let _gone_already = fs::remove_file(&partial).is_err();
    }
    renamed
}

/// Makes a folder that only its owner may look into: it holds what the repository holds.
pub(crate) fn private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Marks a file as used now, if the mark is old. Order of use is all that hangs on it.
fn touch(file: &File) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(SystemClock.now_ms());
    let old = file.metadata().and_then(|meta| meta.modified());
    let fresh = old.is_ok_and(|old| now.duration_since(old).is_ok_and(|age| age < TOUCH_EVERY));
    if !fresh {
        let _read_only = file.set_modified(now).is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path) -> Vec<PathBuf> {
        let folders = fs::read_dir(folder).into_iter().flatten().flatten();
        let files = folders.flat_map(|f| fs::read_dir(f.path())).flatten();
        files.map(|f| f.unwrap().path()).collect()
    }

    #[test]
    fn a_piece_is_found_by_object_offset_and_length() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().join("made/when/needed"), 1 << 20);
        assert_eq!(cache.get("mmh/packs/aa/x", 16, 3), None);
        cache.put("mmh/packs/aa/x", 16, b"abc");
        cache.put("mmh/packs/aa/x", 16, b"abc");
        assert_eq!(
            cache.get("mmh/packs/aa/x", 16, 3).as_deref(),
            Some(&b"abc"[..])
        );
        for (object, offset, len) in [("mmh/packs/aa/x", 17, 3), ("mmh/packs/aa/y", 16, 3)] {
            assert_eq!(cache.get(object, offset, len), None);
        }
        assert_eq!(cache.get("mmh/packs/aa/x", 16, 2), None);
        assert_eq!(files(&dir.path().join("made/when/needed")).len(), 1);
    }

    /// Another process of the same folder sees what this one keeps.
    #[test]
    fn processes_share_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        Cache::new(dir.path().to_owned(), 1 << 20).put("o", 0, b"shared");
        let other = Cache::new(dir.path().to_owned(), 1 << 20);
        assert_eq!(other.get("o", 0, 6).as_deref(), Some(&b"shared"[..]));
    }

    #[test]
    fn a_damaged_piece_is_a_miss_and_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().to_owned(), 1 << 20);
        cache.put("o", 0, b"0123456789");
        let whole = fs::read(&files(dir.path())[0]).unwrap();
        let flips = (0..whole.len() * 8).map(|bit| {
            let mut bad = whole.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            bad
        });
        let cuts = (0..whole.len()).map(|len| whole[..len].to_vec());
        let longer = [&whole[..], b"x"].concat();
        for bad in flips.chain(cuts).chain([longer]) {
            cache.put("o", 0, b"0123456789");
            fs::write(&files(dir.path())[0], bad).unwrap();
            assert_eq!(cache.get("o", 0, 10), None);
            assert_eq!(files(dir.path()), Vec::<PathBuf>::new());
        }
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let piece = vec![7; 30_000];
        let cache = Cache::new(dir.path().to_owned(), 100_000);
        for (age, name) in [(500, "a"), (400, "b"), (300, "c")] {
            cache.put(name, 0, &piece);
            let path = cache.path(name, 0, 30_000);
            let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - age);
            File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_modified(then)
                .unwrap();
        }
        assert!(cache.get("a", 0, 30_000).is_some(), "used now");
        cache.put("d", 0, &piece);
        let there = |name| cache.get(name, 0, 30_000).is_some();
        assert_eq!(["a", "b", "c", "d"].map(there), [true, false, false, true]);
    }

    #[test]
    fn the_bound_holds_whoever_filled_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let n_before = 40;
        for n in 0..n_before {
            // Each is a process of its own, and has counted nothing but its own.
            Cache::new(dir.path().to_owned(), u64::MAX).put("o", n, &[0; 10_000]);
        }
        let cache = Cache::new(dir.path().to_owned(), 100_000);
        cache.put("o", n_before, &[0; 10_000]);
        let len: u64 = files(dir.path())
            .iter()
            .map(|f| fs::metadata(f).unwrap().len())
            .sum();
        assert!(len <= 100_000, "{len}");
    }

    #[test]
    fn what_does_not_fit_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let none = Cache::new(dir.path().to_owned(), 0);
        none.put("o", 0, b"abc");
        assert_eq!(none.get("o", 0, 3), None);
        let small = Cache::new(dir.path().to_owned(), 10_000);
        small.put("o", 0, &[0; 6_000]);
        assert_eq!(small.get("o", 0, 6_000), None);
        let place = dir.path().join("file");
        fs::write(&place, b"in the way").unwrap();
        let nowhere = Cache::new(place, 1 << 20);
        nowhere.put("o", 0, b"abc");
        assert_eq!(nowhere.get("o", 0, 3), None);
    }

    #[cfg(unix)]
    #[test]
    fn others_cannot_look_in() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("cache");
        Cache::new(folder.clone(), 1 << 20).put("o", 0, b"abc");
        let mode = fs::metadata(folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }
}
