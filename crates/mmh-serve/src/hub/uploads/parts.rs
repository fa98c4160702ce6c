//! Large uploads that come in parts: each is written to its place in one file, whose digest is
//! compared when all are there. Parts that came are kept, also over a restart; one that broke off is
//! sent again alone.
//!
//! `parts/ID` holds `data`, as long as the whole, and `N` for each part that came, with its digest.
//! Nothing is written after the whole was compared: while that goes on, no part is taken in.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use axum::http::StatusCode;
use mmh_core::name::RepoName;

use super::super::commits::hex;
use super::super::fail::{Fail, Outcome, of_io};
use super::{KEPT, LeavesWriter, Uploads};

/// Most parts of an upload; those of longer ones are longer.
const PARTS_MAX: u64 = 4096;
/// Bytes that are read at once.
const READ_LEN: usize = 1 << 20;

/// Folders of uploads with how many parts are on their way to each, or that it is put together.
#[derive(Debug, Clone, Default)]
pub(super) struct Busy(Arc<Mutex<HashMap<PathBuf, usize>>>);

/// For an upload that is put together.
const ALONE: usize = usize::MAX;

/// A use of a folder of parts.
#[derive(Debug)]
struct Held {
    busy: Busy,
    folder: PathBuf,
}

impl Busy {
    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a folder, alone or with others.
    fn hold(&self, folder: &Path, alone: bool) -> Outcome<Held> {
        let mut busy = self.lock();
        let now = busy.entry(folder.to_owned()).or_default();
        let refused = match (alone, *now) {
            (_, ALONE) => Some("it is being put together"),
            (true, 1..) => Some("parts of it are on their way"),
            _ => None,
        };
        if let Some(text) = refused {
            return Err(Fail::new(StatusCode::CONFLICT, text));
        }
        *now = if alone { ALONE } else { *now + 1 };
        Ok(Held {
            busy: self.clone(),
            folder: folder.to_owned(),
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut busy = self.busy.lock();
        match busy.get_mut(&self.folder) {
            Some(now @ 2..) if *now != ALONE => *now -= 1,
            _ => drop(busy.remove(&self.folder)),
        }
    }
}

/// An upload in parts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whole<'a> {
    pub(crate) name: &'a RepoName,
    pub(crate) sha256: &'a [u8; 32],
    pub(crate) len: u64,
}

/// A part on its way.
#[derive(Debug)]
pub(crate) struct Part {
    data: File,
    left: u64,
    digest: blake3::Hasher,
    marker: PathBuf,
    _held: Held,
}

impl Uploads {
    fn parts(&self, whole: &Whole<'_>) -> PathBuf {
        let text = format!("{}\n{}\n{}", whole.name, hex(whole.sha256), whole.len);
        let id = blake3::hash(text.as_bytes()).to_hex();
        self.root.join("parts").join(&id[..32])
    }

    /// How an upload of that length is cut: the length of a part and how many there are; `None` if
    /// it comes whole.
    pub(crate) fn cut(&self, len: u64) -> Option<(u64, u64)> {
        let part_len = self.part_len.max(len.div_ceil(PARTS_MAX));
        (len > self.part_len).then(|| (part_len, len.div_ceil(part_len)))
    }

    /// Begins to take in a part; they are counted from 1.
    ///
    /// # Errors
    /// 400 if there is no such part, 409 while the whole is compared, 507 without room.
    pub(crate) fn part(&self, whole: &Whole<'_>, n: u64) -> Outcome<Part> {
        let none = || Fail::invalid(format!("there is no part {n}"));
        let (part_len, count) = self.cut(whole.len).ok_or_else(none)?;
        let at = n.checked_sub(1).filter(|at| *at < count).ok_or_else(none)? * part_len;
        let folder = self.parts(whole);
        let failed = || of_io("keep a part");
        let held = self.busy.hold(&folder, false)?;
        fs::create_dir_all(&folder).map_err(failed())?;
        let mut data = self.data(&folder, whole.len)?;
        data.seek(SeekFrom::Start(at)).map_err(failed())?;
        let marker = folder.join(n.to_string());
        // It is not whole while it is written anew.
        match fs::remove_file(&marker) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed()(error)),
            _ => {}
        }
        Ok(Part {
            data,
            left: part_len.min(whole.len - at),
            digest: blake3::Hasher::new(),
            marker,
            _held: held,
        })
    }

    /// The file that parts are written to; made with room for all of them.
    fn data(&self, folder: &Path, len: u64) -> Outcome<File> {
        let path = folder.join("data");
        // Two first parts at the same time make it once.
        let _one = self.busy.lock();
        match OpenOptions::new().write(true).open(&path) {
            Ok(data) => return Ok(data),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(of_io("keep a part")(error)),
        }
        let room = self.room(len)?;
        let data = File::create_new(&path).map_err(of_io("keep a part"))?;
        data.set_len(len).map_err(of_io("keep a part"))?;
        room.keep();
        Ok(data)
    }

    /// Length and digest of a part that came.
    pub(crate) fn came(&self, whole: &Whole<'_>, n: u64) -> Option<(u64, String)> {
        let (part_len, _) = self.cut(whole.len)?;
        let digest = fs::read_to_string(self.parts(whole).join(n.to_string())).ok()?;
        let at = n.checked_sub(1)?.checked_mul(part_len)?;
        Some((part_len.min(whole.len.checked_sub(at)?), digest))
    }

    /// All parts came, with those digests: the whole is kept if it has its own.
    ///
    /// # Errors
    /// 400 for parts that are missing or other, and for another digest; 409 while parts come.
    pub(crate) fn join(&self, whole: &Whole<'_>, digests: &[(u64, String)]) -> Outcome<()> {
        let folder = self.parts(whole);
        let _held = self.busy.hold(&folder, true)?;
        let there = self.find(whole.name, whole.sha256);
        if there.is_some_and(|(_, len)| len == whole.len) && !folder.exists() {
            // Asked again by a client that did not hear the answer.
            return Ok(());
        }
        let (_, count) = self
            .cut(whole.len)
            .ok_or_else(|| Fail::invalid("it has no parts"))?;
        if !folder.join("data").is_file() {
            return Err(Fail::invalid("no part of it came"));
        }
        for n in 1..=count {
            let said = digests.iter().find(|(number, _)| *number == n);
            let came = self.came(whole, n).map(|(_, digest)| digest);
            if came.is_none() || said.map(|(_, digest)| digest) != came.as_ref() {
                return Err(Fail::invalid(format!(
                    "part {n} did not come, or is another"
                )));
            }
        }
        let data = folder.join("data");
        let mut list = self.list()?;
        let found = digest(&data, &mut list)?;
        if found != *whole.sha256 {
            self.forget(&folder, whole.len);
            let (found, wanted) = (hex(&found), hex(whole.sha256));
            return Err(Fail::invalid(format!(
                "the upload has the digest {found}, not {wanted}"
            )));
        }
        self.place_list(list, whole.name, whole.sha256)?;
        let is_new = self.place(&data, whole.name, whole.sha256)?;
        if is_new {
            fs::remove_dir_all(&folder).ok();
        } else {
            self.forget(&folder, whole.len);
        }
        Ok(())
    }

    fn forget(&self, folder: &Path, len: u64) {
        // What stays goes with the next start.
        if fs::remove_dir_all(folder).is_ok() {
            self.used.fetch_sub(len, Ordering::Relaxed);
        }
    }

    /// Throws away parts that wait too long; the room that the others take.
    pub(crate) fn sweep_parts(&self) -> io::Result<u64> {
        let now = std::time::Duration::from_millis(self.now_ms());
        let mut used = 0;
        for folder in fs::read_dir(self.root.join("parts"))? {
            let folder = folder?.path();
            let meta = match fs::metadata(folder.join("data")) {
                Ok(meta) => meta,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    fs::remove_dir_all(&folder)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match super::since_1970(&meta)? + KEPT < now {
                true => fs::remove_dir_all(&folder)?,
                false => used += meta.len(),
            }
        }
        Ok(used)
    }
}

/// The digest of a file, whose chunks of Xet are listed on the way.
fn digest(path: &Path, list: &mut LeavesWriter) -> Outcome<[u8; 32]> {
    let failed = || of_io("read parts");
    let mut file = File::open(path).map_err(failed())?;
    let (mut context, mut buffer) = (Context::new(&SHA256), vec![0; READ_LEN]);
    loop {
        match file.read(&mut buffer).map_err(failed())? {
            0 => break,
            n => {
                context.update(&buffer[..n]);
                list.bytes(&buffer[..n])?;
            }
        }
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Ok(digest)
}

impl Part {
    /// How many bytes it has.
    pub(crate) fn len(&self) -> u64 {
        self.left
    }

    /// The next bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Outcome<()> {
        let len = bytes.len() as u64;
        let left = self.left.checked_sub(len);
        self.left = left.ok_or_else(|| Fail::invalid("the part is longer than it should be"))?;
        self.digest.update(bytes);
        self.data.write_all(bytes).map_err(of_io("keep a part"))
    }

    /// All came; gives the digest by which the client names it.
    pub(crate) fn finish(self) -> Outcome<String> {
        if self.left > 0 {
            return Err(Fail::invalid("the part is shorter than it should be"));
        }
        self.data.sync_data().map_err(of_io("keep a part"))?;
        let digest = self.digest.finalize().to_hex().to_string();
        fs::write(self.marker, &digest).map_err(of_io("keep a part"))?;
        Ok(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Hands, digest as sha256, options};
    use super::*;

    fn put(uploads: &Uploads, whole: &Whole<'_>, n: u64, bytes: &[u8]) -> Outcome<String> {
        let mut part = uploads.part(whole, n)?;
        for piece in bytes.chunks(3) {
            part.write(piece)?;
        }
        part.finish()
    }

    fn used(uploads: &Uploads) -> u64 {
        uploads.used.load(Ordering::Relaxed)
    }

    /// Parts come in any order, twice, and over a restart; what is missing or other is refused.
    #[test]
    fn parts_become_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(Hands::default());
        let open = || Uploads::open(&options(folder.path(), &clock)).unwrap();
        let uploads = open();
        let (name, bytes) = ("a/b".parse().unwrap(), b"0123456789abcdefghij-");
        let sha256 = sha256(bytes);
        let whole = Whole {
            name: &name,
            sha256: &sha256,
            len: 21,
        };
        assert_eq!(uploads.cut(21), Some((10, 3)));
        assert_eq!(uploads.cut(10), None);
        let mut digests = vec![
            (2, put(&uploads, &whole, 2, b"xxxxxxxxxx").unwrap()),
            (3, put(&uploads, &whole, 3, b"-").unwrap()),
        ];
        assert_eq!(used(&uploads), 21);
        assert!(uploads.join(&whole, &digests).is_err(), "one is missing");
        digests.push((1, put(&uploads, &whole, 1, &bytes[..10]).unwrap()));
        digests[0].1 = put(&uploads, &whole, 2, &bytes[10..20]).unwrap();
        drop(uploads);
        let uploads = open();
        assert_eq!(used(&uploads), 21);
        assert_eq!(uploads.came(&whole, 3).unwrap(), (1, digests[1].1.clone()));
        let mut wrong = digests.clone();
        wrong.swap(0, 1);
        wrong[0].0 = 2;
        assert!(uploads.join(&whole, &wrong[..1]).is_err());
        for _ in 0..2 {
            uploads.join(&whole, &digests).unwrap();
            let (path, len) = uploads.find(&name, &sha256).unwrap();
            assert_eq!((fs::read(path).unwrap().as_slice(), len), (&bytes[..], 21));
            assert_eq!(used(&uploads), 21 + 40, "and the list of its chunks");
        }
        assert_eq!(
            fs::read_dir(folder.path().join("parts")).unwrap().count(),
            0
        );
    }

    #[test]
    fn parts_that_are_none_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(Hands::default());
        let uploads = Uploads::open(&options(folder.path(), &clock)).unwrap();
        let name = "a/b".parse().unwrap();
        let whole = Whole {
            name: &name,
            sha256: &[7; 32],
            len: 21,
        };
        for n in [0, 4, u64::MAX] {
            assert!(uploads.part(&whole, n).is_err(), "{n}");
        }
        let short = Whole { len: 3, ..whole };
        assert!(uploads.part(&short, 1).is_err(), "it comes whole");
        assert!(put(&uploads, &whole, 1, b"short").is_err());
        assert!(put(&uploads, &whole, 1, b"longer than ten").is_err());
        assert!(uploads.came(&whole, 1).is_none());
        let huge = Whole {
            len: u64::MAX,
            ..whole
        };
        assert!(uploads.part(&huge, 1).is_err(), "there is no such room");
        let all: Vec<(u64, String)> = (1..=3)
            .map(|n| {
                (
                    n,
                    put(
                        &uploads,
                        &whole,
                        n,
                        &b"0123456789"[..if n == 3 { 1 } else { 10 }],
                    )
                    .unwrap(),
                )
            })
            .collect();
        let part = uploads.part(&whole, 1).unwrap();
        let busy = uploads.join(&whole, &all).unwrap_err();
        assert_eq!(busy.status, StatusCode::CONFLICT);
        let other = uploads.part(&whole, 2).unwrap();
        drop((part, other));
        // Both were begun anew and broke off.
        assert!(uploads.join(&whole, &all).is_err());
        put(&uploads, &whole, 1, b"0123456789").unwrap();
        put(&uploads, &whole, 2, b"0123456789").unwrap();
        let lied = uploads.join(&whole, &all).unwrap_err();
        assert!(lied.text.contains("has the digest"), "{}", lied.text);
        assert_eq!(used(&uploads), 0, "the room is free");
        assert!(uploads.find(&name, &[7; 32]).is_none());
    }

    #[test]
    fn parts_wait_no_longer_than_other_uploads() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(Hands::default());
        let name = "a/b".parse().unwrap();
        let whole = Whole {
            name: &name,
            sha256: &[7; 32],
            len: 11,
        };
        let uploads = Uploads::open(&options(folder.path(), &clock)).unwrap();
        put(&uploads, &whole, 2, b"x").unwrap();
        drop(uploads);
        clock.0.store(u64::MAX / 2, Ordering::Relaxed);
        let late = Uploads::open(&options(folder.path(), &clock)).unwrap();
        assert_eq!((used(&late), late.came(&whole, 2)), (0, None));
    }
}
