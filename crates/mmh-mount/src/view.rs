//! A repository, or one snapshot of it, as a file system that cannot be changed.
//!
//! What lies in a snapshot never changes, so the kernel may keep names, attributes and bytes of it
//! for as long as it likes; only names of snapshots are asked for again. Numbers of inodes are
//! digests of snapshot and path, the same after every mount.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use lru::LruCache;
use mmh_core::name::{RepoName, Target};
use mmh_core::tree::{self, Node};
use mmh_core::{Digest, FileId, TreeId};
use mmh_repo::{ChunkCache, Content, FileCache, RefsView, Repository};
use rustix::io::Errno;

use crate::error::{Error, Result, errno, errno_of_content};
use crate::files::{Answer, Attr, Entry, Files, Kind, Listed, Opened, ROOT, Space};
use crate::names::{Named, Names};

/// How long the kernel may believe a name of a snapshot.
const NAME_VALID: Duration = Duration::from_secs(1);
/// And what lies in a snapshot.
const CONTENT_VALID: Duration = Duration::from_secs(24 * 60 * 60);
/// Entries of folders kept in memory, some 200 bytes each.
const ENTRIES_MAX: usize = 1 << 18;
const BLOCK_LEN: u64 = 512;
/// The attribute with the id of a file or folder.
const ID: &str = "user.mmh.id";
/// That with the snapshot that it is part of.
const SNAPSHOT: &str = "user.mmh.snapshot";
/// That with the bytes that a file takes less in the repository than in a folder.
const SAVED: &str = "user.mmh.saved";

/// How to look at a repository.
#[derive(Debug, Default)]
pub struct ViewOptions {
    /// Only this: the root is what it names, else families of names.
    pub target: Option<Target>,
    /// Where whole files are kept.
    pub cache: Option<Arc<FileCache>>,
    /// Bytes of decoded chunks in memory.
    pub memory_len: u64,
    /// Whose everything is: user and group.
    pub owner: (u32, u32),
    /// The time of folders above snapshots, in milliseconds since 1970-01-01 UTC.
    pub now_ms: u64,
    /// Which names there are; all, if nothing decides it.
    pub shown: Option<Shown>,
}

/// Decides whether a name is there for whoever looks.
#[derive(Clone)]
pub struct Shown(Arc<Decide>);

type Decide = dyn Fn(&RefsView, &RepoName) -> bool + Send + Sync;

impl Shown {
    /// Names for which `decide` says yes.
    pub fn new(decide: impl Fn(&RefsView, &RepoName) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(decide))
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}

/// A snapshot that something is part of.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) snapshot: String,
    pub(crate) time: SystemTime,
}

/// What an inode stands for.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Names(String),
    Dir(Arc<Part>, TreeId),
    File(Arc<Part>, FileId, u64, bool),
    Link(Arc<Part>, Arc<str>),
}

#[derive(Debug)]
struct Inode {
    place: Place,
    references: u64,
}

pub(crate) type Entries = Arc<Vec<tree::Entry>>;

/// The repository as a file system.
pub struct View {
    repo: Arc<Repository>,
    options: ViewOptions,
    time: SystemTime,
    chunks: Arc<ChunkCache>,
    inodes: Mutex<HashMap<u64, Inode>>,
    handles: Mutex<HashMap<u64, Arc<Content>>>,
    next_handle: AtomicU64,
    /// What is open, so that all who read a file share what is decoded.
    contents: Mutex<HashMap<FileId, Weak<Content>>>,
    /// Folders by their ids, and how many entries they have in all.
    folders: Mutex<(LruCache<TreeId, Entries>, usize)>,
    names: Mutex<(Option<u64>, Arc<Names>)>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl View {
    /// Looks at a repository.
    ///
    /// # Errors
    /// `NotFound` for a target that is not there; `Invalid` if it is no folder; `Denied` if it is not
    /// signed as it must be.
    pub fn new(repo: Arc<Repository>, options: ViewOptions) -> Result<Self> {
        let root = match &options.target {
            None => Place::Names(String::new()),
            Some(target) => {
                let part = part(&repo, target)?;
                match repo.node(target)? {
                    Node::Dir { id } => Place::Dir(part, id),
                    _ => {
                        let what = format!("`{target}` is not a folder; mount the one it lies in");
                        return Err(Error::Repo(mmh_repo::Error::Invalid(what)));
                    }
                }
            }
        };
        let root = Inode {
            place: root,
            references: 1,
        };
        Ok(Self {
            repo,
            time: time(options.now_ms),
            chunks: Arc::new(ChunkCache::new(options.memory_len)),
            options,
            inodes: Mutex::new(HashMap::from([(ROOT, root)])),
            handles: Mutex::default(),
            next_handle: AtomicU64::new(1),
            contents: Mutex::default(),
            folders: Mutex::new((LruCache::unbounded(), 0)),
            names: Mutex::default(),
        })
    }

    fn place(&self, ino: u64) -> Answer<Place> {
        let inodes = lock(&self.inodes);
        Ok(inodes.get(&ino).ok_or(Errno::STALE)?.place.clone())
    }

    /// The inode that a name in a folder has, and what it is. Nothing is counted.
    fn child(&self, parent: u64, name: &str) -> Answer<(u64, Place)> {
        match self.place(parent)? {
            Place::Names(above) => self.named(&above, name),
            Place::Dir(part, id) => {
                let entries = self.entries(id)?;
                let found = entries.binary_search_by(|e| e.name.as_str().cmp(name));
                let found = &entries[found.map_err(|_| Errno::NOENT)?];
                Ok(child(parent, &part, found))
            }
            _ => Err(Errno::NOTDIR),
        }
    }

    fn named(&self, above: &str, name: &str) -> Answer<(u64, Place)> {
        match self.names()?.find(above, name).ok_or(Errno::NOENT)? {
            Named::Folder(path) => Ok((number(&["names", &path]), Place::Names(path))),
            Named::Snapshot(target) => {
                let (ino, part, tree) = self.snapshot(&target)?;
                Ok((ino, Place::Dir(part, tree)))
            }
        }
    }

    /// The snapshot that a target names, if rules of trust allow it.
    pub(crate) fn snapshot(&self, target: &Target) -> Answer<(u64, Arc<Part>, TreeId)> {
        let resolved = self.repo.resolve(target).map_err(|e| errno(&e))?;
        let part = Part {
            snapshot: resolved.id.to_string(),
            time: time(resolved.snapshot.time_ms),
        };
        let ino = number(&[target.repo.as_str(), &part.snapshot]);
        Ok((ino, Arc::new(part), resolved.snapshot.tree))
    }

    /// The names as they are now.
    pub(crate) fn names(&self) -> Answer<Arc<Names>> {
        let refs = self.repo.refs().map_err(|e| errno(&e))?;
        let mut names = lock(&self.names);
        if names.0 != Some(refs.seq) {
            let shown = |name: &RepoName| match &self.options.shown {
                Some(shown) => (shown.0)(&refs, name),
                None => true,
            };
            *names = (Some(refs.seq), Arc::new(Names::of(&refs, &shown)));
        }
        Ok(Arc::clone(&names.1))
    }

    pub(crate) fn entries(&self, id: TreeId) -> Answer<Entries> {
        if let Some(entries) = lock(&self.folders).0.get(&id) {
            return Ok(Arc::clone(entries));
        }
        let read = self.repo.entries(id).map_err(|e| errno_of_content(&e))?;
        let entries = Arc::new(read);
        let mut folders = lock(&self.folders);
        let (kept, n) = &mut *folders;
        *n += entries.len() + 1;
        if let Some(before) = kept.put(id, Arc::clone(&entries)) {
            *n -= before.len() + 1;
        }
        while *n > ENTRIES_MAX
            && let Some((_, oldest)) = kept.pop_lru()
        {
            *n -= oldest.len() + 1;
        }
        Ok(entries)
    }

    pub(crate) fn entry(&self, ino: u64, place: &Place) -> Entry {
        let (kind, size, perm, time, valid) = match place {
            Place::Names(_) => (Kind::Dir, 0, 0o555, self.time, NAME_VALID),
            Place::Dir(part, _) => (Kind::Dir, 0, 0o555, part.time, CONTENT_VALID),
            Place::File(part, _, size, executable) => {
                let perm = if *executable { 0o555 } else { 0o444 };
                (Kind::File, *size, perm, part.time, CONTENT_VALID)
            }
            Place::Link(part, target) => {
                let len = target.len() as u64;
                (Kind::Link, len, 0o777, part.time, CONTENT_VALID)
            }
        };
        let (uid, gid) = self.options.owner;
        let attr = Attr {
            ino,
            kind,
            size,
            blocks: size.div_ceil(BLOCK_LEN),
            accessed: time,
            modified: time,
            changed: time,
            perm,
            links: if kind == Kind::Dir { 2 } else { 1 },
            uid,
            gid,
            device: 0,
        };
        Entry { attr, valid }
    }

    /// The file's content, shared with whoever has it open.
    pub(crate) fn content(&self, id: FileId, size: u64) -> Answer<Arc<Content>> {
        if let Some(open) = lock(&self.contents).get(&id).and_then(Weak::upgrade) {
            return Ok(open);
        }
        let cache = self.options.cache.as_ref();
        let opened = Content::open(&self.repo, id, &self.chunks, cache);
        let opened = opened.map_err(|e| errno_of_content(&e))?;
        if opened.size() != size {
            // Its folder lies about it.
            return Err(Errno::IO);
        }
        let mut contents = lock(&self.contents);
        contents.retain(|_, content| content.strong_count() > 0);
        contents.insert(id, Arc::downgrade(&opened));
        Ok(opened)
    }
}

fn part(repo: &Repository, target: &Target) -> Result<Arc<Part>> {
    let resolved = repo.resolve(target)?;
    Ok(Arc::new(Part {
        snapshot: resolved.id.to_string(),
        time: time(resolved.snapshot.time_ms),
    }))
}

pub(crate) fn child(parent: u64, part: &Arc<Part>, entry: &tree::Entry) -> (u64, Place) {
    let part = Arc::clone(part);
    let place = match &entry.node {
        Node::Dir { id } => Place::Dir(part, *id),
        Node::Link { target } => Place::Link(part, target.as_str().into()),
        Node::File {
            id,
            size,
            executable,
        } => Place::File(part, *id, *size, *executable),
    };
    (number(&["in", &parent.to_string(), &entry.name]), place)
}

/// A number for an inode: 63 bits of a digest, and neither 0 nor that of the root.
pub(crate) fn number(parts: &[&str]) -> u64 {
    let digest = Digest::of(parts.join("\0").as_bytes());
    let (first, _) = digest
        .as_bytes()
        .split_first_chunk()
        .unwrap_or((&[0; 8], &[]));
    (u64::from_le_bytes(*first) >> 1).max(ROOT + 1)
}

pub(crate) fn time(ms: u64) -> SystemTime {
    let since = Duration::from_millis(ms);
    let time = SystemTime::UNIX_EPOCH.checked_add(since);
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Files for View {
    fn lookup(&self, parent: u64, name: &OsStr) -> Answer<Entry> {
        let name = name.to_str().ok_or(Errno::NOENT)?;
        let (ino, place) = self.child(parent, name)?;
        let entry = self.entry(ino, &place);
        let mut inodes = lock(&self.inodes);
        let inode = inodes.entry(ino).or_insert(Inode {
            place,
            references: 0,
        });
        inode.references += 1;
        Ok(entry)
    }

    fn forget(&self, ino: u64, n: u64) {
        let mut inodes = lock(&self.inodes);
        if let Some(inode) = inodes.get_mut(&ino)
            && ino != ROOT
        {
            inode.references = inode.references.saturating_sub(n);
            if inode.references == 0 {
                inodes.remove(&ino);
            }
        }
    }

    fn attr(&self, ino: u64) -> Answer<Entry> {
        Ok(self.entry(ino, &self.place(ino)?))
    }

    fn read_link(&self, ino: u64) -> Answer<OsString> {
        match self.place(ino)? {
            Place::Link(_, target) => Ok(target.to_string().into()),
            _ => Err(Errno::INVAL),
        }
    }

    fn list(&self, ino: u64) -> Answer<Vec<Listed>> {
        match self.place(ino)? {
            Place::Names(above) => {
                let listed = |name: String| {
                    // What is not signed as it must be is listed, and refused when it is entered.
                    let ino = number(&["listed", &above, &name]);
                    let kind = Kind::Dir;
                    let name = name.into();
                    Listed { name, ino, kind }
                };
                let names = self.names()?.list(&above);
                Ok(names.into_iter().map(listed).collect())
            }
            Place::Dir(part, id) => {
                let listed = |entry: &tree::Entry| {
                    let (ino, place) = child(ino, &part, entry);
                    let kind = self.entry(ino, &place).attr.kind;
                    let name = entry.name.as_str().into();
                    Listed { name, ino, kind }
                };
                Ok(self.entries(id)?.iter().map(listed).collect())
            }
            _ => Err(Errno::NOTDIR),
        }
    }

    fn open(&self, ino: u64, flags: i32) -> Answer<Opened> {
        if flags & ACCESS_MASK != 0 {
            return Err(Errno::ROFS);
        }
        let Place::File(_, id, size, _) = self.place(ino)? else {
            return Err(Errno::ISDIR);
        };
        let content = self.content(id, size)?;
        let backing = content.on_disk().cloned();
        let handle = self.next_handle.fetch_add(1, Ordering::Relaxed);
        lock(&self.handles).insert(handle, content);
        Ok(Opened {
            handle,
            backing,
            same: true,
        })
    }

    fn read(&self, handle: u64, offset: u64, len: usize) -> Answer<Bytes> {
        let content = lock(&self.handles).get(&handle).cloned();
        let read = content.ok_or(Errno::BADF)?.read(offset, len);
        read.map_err(|e| errno_of_content(&e))
    }

    fn release(&self, handle: u64) {
        let closed = lock(&self.handles).remove(&handle);
        // Outside of the lock: a file that did not become whole is removed now.
        drop(closed);
    }

    fn xattr(&self, ino: u64, name: &OsStr) -> Answer<Vec<u8>> {
        let name = name.to_str().ok_or(Errno::NODATA)?;
        let value = match (self.place(ino)?, name) {
            (Place::Dir(_, id), ID) => id.to_string(),
            (Place::File(_, id, ..), ID) => id.to_string(),
            (Place::Dir(part, _) | Place::File(part, ..), SNAPSHOT) => part.snapshot.clone(),
            (Place::File(_, id, ..), SAVED) => {
                let saved = self.repo.saved(id).map_err(|e| errno_of_content(&e))?;
                saved.to_string()
            }
            _ => return Err(Errno::NODATA),
        };
        Ok(value.into_bytes())
    }

    fn xattrs(&self, ino: u64) -> Answer<Vec<OsString>> {
        let names: &[&str] = match self.place(ino)? {
            Place::Names(_) | Place::Link(..) => &[],
            Place::Dir(..) => &[ID, SNAPSHOT],
            Place::File(..) => &[ID, SNAPSHOT, SAVED],
        };
        Ok(names.iter().map(OsString::from).collect())
    }

    fn space(&self) -> Answer<Space> {
        const LEN: u64 = 4096;
        let facts = self.repo.facts().map_err(|e| errno(&e))?;
        Ok(Space {
            block_len: u32::try_from(LEN).unwrap_or(u32::MAX),
            blocks: facts.pack_bytes.div_ceil(LEN),
            name_len_max: 255,
            ..Space::default()
        })
    }
}

/// The bits of the flags of `open` that say whether it is for writing.
const ACCESS_MASK: i32 = 0o3;
