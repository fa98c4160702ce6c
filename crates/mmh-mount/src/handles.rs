//! What is in a view, by handles that outlive the process: for doors that ask by them at any time
//! and never say when they are done, as NFS.
//!
//! A handle says the name, the snapshot, and for each folder on the way which of its entries is
//! meant. A snapshot never changes, so a handle stands for the same bytes for ever; and it leads
//! nowhere that its bearer could not have walked to, so that it needs no secret. What was collected,
//! renamed or hidden since is stale.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lru::LruCache;
use mmh_core::name::{RepoName, Target};
use mmh_core::{Digest, FileId, SnapshotId, TreeId};
use mmh_repo::Content;
use rustix::io::Errno;

use crate::files::{Answer, Attr, Files as _, Kind, ROOT, Space};
use crate::names::Named;
use crate::view::{Part, Place, View, child, lock, number};

/// Most bytes of a handle, as NFS has it.
pub const HANDLE_LEN_MAX: usize = 64;
/// For how long a snapshot is not looked for again, as with a mount.
const SNAPSHOT_FRESH: Duration = Duration::from_secs(1);
/// Snapshots that are remembered.
const SNAPSHOTS_MAX: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
/// Files that stay open after a read.
const OPEN_MAX: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");
/// Ways too long for a handle that are remembered.
const DEEP_MAX: NonZeroUsize = NonZeroUsize::new(1 << 16).expect("not zero");
/// Folders below one another.
const DEPTH_MAX: usize = 4096;
/// Bytes of the digest of a name in a handle.
const ID_LEN: usize = 32;

/// What a handle begins with: which kind it is.
const NAMES: u8 = 1;
const LONG_NAMES: u8 = 2;
const IN: u8 = 3;
const DEEP: u8 = 4;

/// The way to something.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Way {
    /// A folder of names, by its path.
    Names(String),
    /// Within a snapshot of a name: the number of the entry in each folder.
    In(RepoName, SnapshotId, Vec<u32>),
}

/// Something of a view.
#[derive(Debug, Clone)]
pub struct Seat {
    way: Way,
    place: Place,
    attr: Attr,
}

impl Seat {
    /// What `stat` says of it.
    #[must_use]
    pub fn attr(&self) -> &Attr {
        &self.attr
    }
}

/// A part of the names of a folder.
#[derive(Debug)]
pub struct Page {
    /// Each name with its inode, and what it is, where that costs nothing to know.
    pub entries: Vec<(String, u64, Option<Seat>)>,
    /// Whether the last of them is the last of the folder.
    pub is_last: bool,
    /// Another one if the names of the folder have changed.
    pub version: u64,
}

type Snapshots = LruCache<(RepoName, SnapshotId), (Instant, u64, Arc<Part>, TreeId)>;

/// A view of all names, by handles.
#[derive(Debug)]
pub struct Handles {
    view: View,
    snapshots: Mutex<Snapshots>,
    open: Mutex<LruCache<FileId, Arc<Content>>>,
    deep: Mutex<LruCache<Digest, Way>>,
}

impl Handles {
    /// By handles what `view` shows, which has to be a whole repository.
    #[must_use]
    pub fn new(view: View) -> Self {
        Self {
            view,
            snapshots: Mutex::new(LruCache::new(SNAPSHOTS_MAX)),
            open: Mutex::new(LruCache::new(OPEN_MAX)),
            deep: Mutex::new(LruCache::new(DEEP_MAX)),
        }
    }

    /// The folder above all.
    #[must_use]
    pub fn root(&self) -> Seat {
        self.names(String::new())
    }

    /// The handle of something: the same whenever and wherever the repository is served.
    #[must_use]
    pub fn handle(&self, seat: &Seat) -> Vec<u8> {
        let handle = spell(&seat.way);
        if handle.len() <= HANDLE_LEN_MAX {
            return handle;
        }
        let digest = Digest::of(&handle);
        let kind = match &seat.way {
            Way::Names(path) => {
                return [&[LONG_NAMES], &Digest::of(path.as_bytes()).as_bytes()[..]].concat();
            }
            Way::In(..) => DEEP,
        };
        lock(&self.deep).put(digest, seat.way.clone());
        [&[kind], &digest.as_bytes()[..]].concat()
    }

    /// What a handle stands for.
    ///
    /// # Errors
    /// `EBADF` for what is no handle; `ESTALE` for what is not there any more, or not known.
    pub fn seat(&self, handle: &[u8]) -> Answer<Seat> {
        if handle.len() > HANDLE_LEN_MAX {
            return Err(Errno::BADF);
        }
        let (kind, rest) = handle.split_first().ok_or(Errno::BADF)?;
        match *kind {
            NAMES => {
                let path = std::str::from_utf8(rest).map_err(|_| Errno::BADF)?;
                match self.view.names()?.is_folder(path) {
                    true => Ok(self.names(path.to_owned())),
                    false => Err(Errno::STALE),
                }
            }
            LONG_NAMES => {
                let names = self.view.names()?;
                let path = names.by_digest(&digest(rest)?).ok_or(Errno::STALE)?;
                match names.is_folder(path) {
                    true => Ok(self.names(path.to_owned())),
                    false => Err(Errno::STALE),
                }
            }
            IN => self.walk(self.read_way(rest)?),
            DEEP => {
                let way = lock(&self.deep).get(&digest(rest)?).cloned();
                self.walk(way.ok_or(Errno::STALE)?)
            }
            _ => Err(Errno::BADF),
        }
    }

    /// What a name in a folder is.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, and those of the repository.
    pub fn step(&self, from: &Seat, name: &str) -> Answer<Seat> {
        match (name, &from.attr.kind) {
            (_, kind) if *kind != Kind::Dir => return Err(Errno::NOTDIR),
            (".", _) => return Ok(from.clone()),
            ("..", _) => return self.above(from),
            _ => {}
        }
        match &from.place {
            Place::Names(above) => match self.view.names()?.find(above, name) {
                None => Err(Errno::NOENT),
                Some(Named::Folder(path)) => Ok(self.names(path)),
                Some(Named::Snapshot(target)) => {
                    let (ino, part, tree) = self.view.snapshot(&target)?;
                    let id = part.snapshot.parse().map_err(|_| Errno::IO)?;
                    let way = Way::In(target.repo, id, Vec::new());
                    Ok(self.at(way, ino, Place::Dir(part, tree)))
                }
            },
            Place::Dir(part, tree) => {
                let entries = self.view.entries(*tree)?;
                let n = entries.binary_search_by(|e| e.name.as_str().cmp(name));
                let n = n.map_err(|_| Errno::NOENT)?;
                self.below(from, part, (n, &entries[n]))
            }
            _ => Err(Errno::NOTDIR),
        }
    }

    /// Up to `max` names of a folder, without the first `skip`.
    ///
    /// # Errors
    /// `ENOTDIR`, and those of the repository.
    pub fn list(&self, folder: &Seat, skip: u64, max: usize) -> Answer<Page> {
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        match &folder.place {
            Place::Names(above) => {
                let names = self.view.names()?;
                let all = names.list(above);
                let version = number(&all.iter().map(String::as_str).collect::<Vec<_>>());
                let is_last = all.len().saturating_sub(skip) <= max;
                let some = all.into_iter().skip(skip).take(max);
                let entries = some.map(|name| match names.find(above, &name) {
                    Some(Named::Folder(path)) => {
                        let seat = self.names(path);
                        (name, seat.attr.ino, Some(seat))
                    }
                    // Snapshots are looked for, and vetted, when they are entered.
                    _ => {
                        let ino = number(&["listed", above, &name]);
                        (name, ino, None)
                    }
                });
                Ok(Page {
                    entries: entries.collect(),
                    is_last,
                    version,
                })
            }
            Place::Dir(part, tree) => {
                let all = self.view.entries(*tree)?;
                let some = all.iter().enumerate().skip(skip).take(max);
                let entries = some.map(|(n, entry)| {
                    let seat = self.below(folder, part, (n, entry))?;
                    Ok((entry.name.as_str().to_owned(), seat.attr.ino, Some(seat)))
                });
                Ok(Page {
                    entries: entries.collect::<Answer<_>>()?,
                    is_last: all.len().saturating_sub(skip) <= max,
                    version: 0,
                })
            }
            _ => Err(Errno::NOTDIR),
        }
    }

    /// Where a symbolic link leads.
    ///
    /// # Errors
    /// `EINVAL` for anything else.
    pub fn read_link(&self, seat: &Seat) -> Answer<String> {
        match &seat.place {
            Place::Link(_, target) => Ok(target.to_string()),
            _ => Err(Errno::INVAL),
        }
    }

    /// Up to `len` proved bytes of a file; fewer only at its end.
    ///
    /// # Errors
    /// `EINVAL` for what is no file, and those of the repository.
    pub fn read(&self, seat: &Seat, offset: u64, len: usize) -> Answer<Bytes> {
        let Place::File(_, id, size, _) = &seat.place else {
            return Err(Errno::INVAL);
        };
        if offset >= *size {
            return Ok(Bytes::new());
        }
        let known = lock(&self.open).get(id).cloned();
        let content = match known {
            Some(content) if content.size() == *size => content,
            _ => {
                let content = self.view.content(*id, *size)?;
                let before = lock(&self.open).push(*id, Arc::clone(&content));
                // Outside of the lock: a file that did not become whole is removed now.
                drop(before);
                content
            }
        };
        let read = content.read(offset, len);
        read.map_err(|e| crate::error::errno_of_content(&e))
    }

    /// How large all of it is.
    ///
    /// # Errors
    /// Those of the repository.
    pub fn space(&self) -> Answer<Space> {
        self.view.space()
    }

    fn at(&self, way: Way, ino: u64, place: Place) -> Seat {
        let attr = self.view.entry(ino, &place).attr;
        Seat { way, place, attr }
    }

    fn names(&self, path: String) -> Seat {
        let ino = match path.is_empty() {
            true => ROOT,
            false => number(&["names", &path]),
        };
        self.at(Way::Names(path.clone()), ino, Place::Names(path))
    }

    fn below(
        &self,
        folder: &Seat,
        part: &Arc<Part>,
        (n, entry): (usize, &mmh_core::tree::Entry),
    ) -> Answer<Seat> {
        let Way::In(repo, snapshot, steps) = &folder.way else {
            return Err(Errno::NOTDIR);
        };
        if steps.len() >= DEPTH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        let n = u32::try_from(n).map_err(|_| Errno::OVERFLOW)?;
        let steps = steps.iter().copied().chain([n]).collect();
        let (ino, place) = child(folder.attr.ino, part, entry);
        Ok(self.at(Way::In(repo.clone(), *snapshot, steps), ino, place))
    }

    /// The folder that something lies in.
    fn above(&self, from: &Seat) -> Answer<Seat> {
        match &from.way {
            Way::Names(path) => {
                let above = path.rsplit_once('/').map_or("", |(above, _)| above);
                Ok(self.names(above.to_owned()))
            }
            Way::In(repo, _, steps) if steps.is_empty() => {
                let above = repo
                    .as_str()
                    .rsplit_once('/')
                    .map_or("", |(above, _)| above);
                Ok(self.names(above.to_owned()))
            }
            Way::In(repo, snapshot, steps) => {
                let steps = steps[..steps.len() - 1].to_vec();
                self.walk(Way::In(repo.clone(), *snapshot, steps))
            }
        }
    }

    /// Goes a way from its beginning.
    fn walk(&self, way: Way) -> Answer<Seat> {
        let Way::In(repo, snapshot, steps) = way else {
            return Err(Errno::BADF);
        };
        let (ino, part, tree) = self.snapshot(&repo, snapshot)?;
        let mut seat = self.at(
            Way::In(repo, snapshot, Vec::new()),
            ino,
            Place::Dir(Arc::clone(&part), tree),
        );
        for n in steps {
            let Place::Dir(_, tree) = &seat.place else {
                return Err(Errno::STALE);
            };
            let entries = self.view.entries(*tree)?;
            let n = usize::try_from(n).map_err(|_| Errno::STALE)?;
            let entry = entries.get(n).ok_or(Errno::STALE)?;
            seat = self.below(&seat, &part, (n, entry))?;
        }
        Ok(seat)
    }

    /// A snapshot of a name, if it still is one and may be seen.
    fn snapshot(&self, repo: &RepoName, id: SnapshotId) -> Answer<(u64, Arc<Part>, TreeId)> {
        let key = (repo.clone(), id);
        if let Some((since, ino, part, tree)) = lock(&self.snapshots).get(&key)
            && since.elapsed() < SNAPSHOT_FRESH
        {
            return Ok((*ino, Arc::clone(part), *tree));
        }
        let digest = Digest::of(repo.as_str().as_bytes());
        if self.view.names()?.by_digest(&digest).is_none() {
            return Err(Errno::STALE);
        }
        let (rev, path) = (Some(id.to_string()), None);
        let repo = repo.clone();
        let found = self.view.snapshot(&Target { repo, rev, path });
        let (ino, part, tree) = found.map_err(|errno| match errno {
            Errno::NOENT | Errno::INVAL => Errno::STALE,
            other => other,
        })?;
        let known = (Instant::now(), ino, Arc::clone(&part), tree);
        lock(&self.snapshots).put(key, known);
        Ok((ino, part, tree))
    }

    /// Reads what [`spell`] has written after the first byte.
    fn read_way(&self, bytes: &[u8]) -> Answer<Way> {
        let (tag, rest) = bytes.split_first_chunk::<TAG_LEN>().ok_or(Errno::BADF)?;
        let (id, mut rest) = rest.split_first_chunk::<ID_LEN>().ok_or(Errno::BADF)?;
        let names = self.view.names()?;
        let name = names.by_tag(u64::from_be_bytes(*tag)).ok_or(Errno::STALE)?;
        let repo: RepoName = name.parse().map_err(|_| Errno::STALE)?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) = read_step(rest).ok_or(Errno::BADF)?;
            steps.push(step);
            rest = after;
        }
        let snapshot = SnapshotId::from_digest(Digest::from_bytes(*id));
        Ok(Way::In(repo, snapshot, steps))
    }
}

/// Bytes of the digest of a name in a handle: which of the names there are is meant.
const TAG_LEN: usize = 8;

/// The bytes of a way, as many as it takes.
fn spell(way: &Way) -> Vec<u8> {
    match way {
        Way::Names(path) => [&[NAMES], path.as_bytes()].concat(),
        Way::In(repo, snapshot, steps) => {
            let name = tag(&Digest::of(repo.as_str().as_bytes()));
            let mut out = vec![IN];
            out.extend_from_slice(&name.to_be_bytes());
            out.extend_from_slice(snapshot.digest().as_bytes());
            for step in steps {
                push_step(&mut out, *step);
            }
            out
        }
    }
}

/// The first bytes of a digest.
pub(crate) fn tag(digest: &Digest) -> u64 {
    let first = digest.as_bytes().first_chunk::<TAG_LEN>();
    u64::from_be_bytes(first.copied().unwrap_or_default())
}

fn digest(bytes: &[u8]) -> Answer<Digest> {
    let bytes: [u8; ID_LEN] = bytes.try_into().map_err(|_| Errno::BADF)?;
    Ok(Digest::from_bytes(bytes))
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn push_step(out: &mut Vec<u8>, mut step: u32) {
    while step >= 0x80 {
        out.push(u8::try_from(step & 0x7f).unwrap_or_default() | 0x80);
        step >>= 7;
    }
    out.push(u8::try_from(step).unwrap_or_default());
}

/// The first step of some bytes, spelled in the only way there is, and what follows it.
fn read_step(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut step = 0u64;
    for (n, byte) in bytes.iter().enumerate().take(5) {
        step |= u64::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            let spelled_once = n == 0 || *byte != 0;
            let step = u32::try_from(step).ok().filter(|_| spelled_once)?;
            return Some((step, &bytes[n + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn steps_are_read_as_they_were_written(steps: Vec<u32>) {
            let mut out = Vec::new();
            steps.iter().for_each(|step| push_step(&mut out, *step));
            let (mut rest, mut read) = (&out[..], Vec::new());
            while let Some((step, after)) = read_step(rest) {
                read.push(step);
                rest = after;
            }
            prop_assert!(rest.is_empty());
            prop_assert_eq!(read, steps);
        }
    }

    #[test]
    fn a_step_has_one_spelling() {
        for bytes in [
            &[0x80, 0][..],
            &[0x80],
            &[0xff; 5],
            &[0xff, 0xff, 0xff, 0xff, 0x1f],
        ] {
            assert_eq!(read_step(bytes), None, "{bytes:x?}");
        }
    }
}
