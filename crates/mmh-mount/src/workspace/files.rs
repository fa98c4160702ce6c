//! The calls of the kernel, handed on to the staging folder.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use mmh_core::FileId;
use mmh_core::name::check_file_name;
use mmh_repo::Content;
use rustix::fs::{
    AtFlags, CWD, Dir, FallocateFlags, FileType, Gid, Mode, OFlags, RenameFlags, Timespec,
    Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::{Handle, Node, Work, hole, lock, number};
use crate::error::errno_of_content;
use crate::files::{
    Answer, Attr, Change, Entry, Files, Kind, Listed, New, Opened, ROOT, Space, Who,
};

/// Attribute of the root: the staging folder.
pub(crate) const WORK: &str = "user.mmh.work";
/// Attribute of an unchanged file: its id.
const ID: &str = "user.mmh.id";
/// All attributes of this kind are ours.
const OURS: &str = "user.mmh.";
/// The kernel sees every change, as they go through it.
const VALID: Duration = Duration::from_secs(1);
/// Bytes read at once to fill a hole.
const FILLED_LEN: usize = 4 << 20;
/// The bits of a mode that `chown` takes away.
const SET_ID: u32 = 0o6000;
const SET_GID: u32 = 0o2000;

fn code(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// A name that can be committed; any other is refused at once.
fn checked(name: &OsStr) -> Answer<&OsStr> {
    let text = name.to_str().ok_or(Errno::ILSEQ)?;
    if text.len() > 255 {
        return Err(Errno::NAMETOOLONG);
    }
    check_file_name(text).map_err(|_| Errno::INVAL)?;
    Ok(name)
}

fn kind(meta: &Metadata) -> Kind {
    let kind = meta.file_type();
    if kind.is_dir() {
        Kind::Dir
    } else if kind.is_symlink() {
        Kind::Link
    } else if kind.is_fifo() {
        Kind::Pipe
    } else if kind.is_socket() {
        Kind::Socket
    } else if kind.is_char_device() {
        Kind::CharDevice
    } else if kind.is_block_device() {
        Kind::BlockDevice
    } else {
        Kind::File
    }
}

fn time(seconds: i64, nanos: i64) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let nanos = Duration::from_nanos(nanos.unsigned_abs());
    let base = match seconds >= 0 {
        true => SystemTime::UNIX_EPOCH.checked_add(whole),
        false => SystemTime::UNIX_EPOCH.checked_sub(whole),
    };
    base.and_then(|base| base.checked_add(nanos))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

fn entry(ino: u64, meta: &Metadata) -> Entry {
    let attr = Attr {
        ino,
        kind: kind(meta),
        size: meta.size(),
        blocks: meta.blocks(),
        accessed: time(meta.atime(), meta.atime_nsec()),
        modified: time(meta.mtime(), meta.mtime_nsec()),
        changed: time(meta.ctime(), meta.ctime_nsec()),
        perm: u16::try_from(meta.mode() & 0o7777).unwrap_or(0),
        links: u32::try_from(meta.nlink()).unwrap_or(u32::MAX),
        uid: meta.uid(),
        gid: meta.gid(),
        device: u32::try_from(meta.rdev()).unwrap_or(0),
    };
    Entry { attr, valid: VALID }
}

fn timespec(time: Option<Option<SystemTime>>) -> Timespec {
    let special = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    match time {
        None => special(rustix::fs::UTIME_OMIT),
        Some(None) => special(rustix::fs::UTIME_NOW),
        Some(Some(time)) => match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => Timespec {
                tv_sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: since.subsec_nanos().into(),
            },
            Err(before) => {
                let before = before.duration();
                let nanos = i64::from(before.subsec_nanos());
                let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
                Timespec {
                    tv_sec: -seconds - i64::from(nanos > 0),
                    tv_nsec: (1_000_000_000 - nanos) % 1_000_000_000,
                }
            }
        },
    }
}

impl Work {
    fn node(&self, ino: u64) -> Answer<Arc<Node>> {
        let nodes = lock(&self.nodes);
        Ok(Arc::clone(&nodes.get(&ino).ok_or(Errno::STALE)?.0))
    }

    /// Finds a name and counts one reference to what it is.
    fn find(&self, parent: &Node, name: &OsStr) -> Answer<Entry> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file: File = rustix::fs::openat(&parent.file, name, flags, Mode::empty())?.into();
        let meta = file.metadata().map_err(|e| code(&e))?;
        let ino = number(&meta);
        let mut nodes = lock(&self.nodes);
        let found = nodes.entry(ino).or_insert_with(|| {
            let filling = Default::default();
            (Arc::new(Node { ino, file, filling }), 0)
        });
        found.1 += 1;
        Ok(entry(ino, &meta))
    }

    fn now(&self, node: &Node) -> Answer<Entry> {
        let meta = node.file.metadata().map_err(|e| code(&e))?;
        Ok(entry(node.ino, &meta))
    }

    /// Which file of the repository an inode stands for, if it does.
    fn hole(&self, node: &Node) -> Answer<Option<FileId>> {
        let meta = node.file.metadata().map_err(|e| code(&e))?;
        hole::of(Path::new(&node.path()), &meta).map_err(|_| Errno::IO)
    }

    fn content(&self, id: FileId) -> Answer<Arc<Content>> {
        let opened = Content::open(&self.repo, id, &self.chunks, self.cache.as_ref());
        opened.map_err(|e| errno_of_content(&e))
    }

    /// Makes an inode stand for itself, with the bytes that it had, up to `keep` of them.
    fn fill(&self, node: &Node, keep: u64) -> Answer<()> {
        let _one_at_a_time = lock(&node.filling);
        let path = PathBuf::from(node.path());
        let Some(id) = self.hole(node)? else {
            // The attribute of what is no hole any more must not make it one again.
            return match node.file.metadata().is_ok_and(|meta| meta.is_file()) {
                true => hole::unmark(&path).map_err(|e| code(&e)),
                false => Ok(()),
            };
        };
        let file = File::options().write(true).open(&path);
        let file = file.map_err(|e| code(&e))?;
        if keep == 0 {
            file.set_len(0).map_err(|e| code(&e))?;
            return hole::unmark(&path).map_err(|e| code(&e));
        }
        let before = file.metadata().map_err(|e| code(&e))?;
        let content = self.content(id)?;
        let mut offset = 0;
        loop {
            let piece = content.read(offset, FILLED_LEN);
            let piece = piece.map_err(|e| errno_of_content(&e))?;
            if piece.is_empty() {
                break;
            }
            file.write_all_at(&piece, offset).map_err(|e| code(&e))?;
            offset += piece.len() as u64;
        }
        let times = std::fs::FileTimes::new();
        let times = before.modified().map(|time| times.set_modified(time));
        let kept = times.and_then(|times| file.set_times(times));
        // What it was must not be lost for a change that nobody synced.
        let synced = kept.and_then(|()| file.sync_data());
        synced.map_err(|e| code(&e))?;
        hole::unmark(&path).map_err(|e| code(&e))
    }

    fn opened(&self, node: Arc<Node>, file: File, hole: Option<Arc<Content>>) -> Opened {
        let handle = self.next_handle.fetch_add(1, Ordering::Relaxed);
        let file = Arc::new(file);
        // A hole has other bytes on the disk than it stands for.
        let backing = hole.is_none().then(|| Arc::clone(&file));
        let opened = Arc::new(Handle { node, file, hole });
        lock(&self.handles).insert(handle, opened);
        Opened {
            handle,
            backing,
            same: false,
        }
    }

    fn handle(&self, handle: u64) -> Answer<Arc<Handle>> {
        let handles = lock(&self.handles);
        Ok(Arc::clone(handles.get(&handle).ok_or(Errno::BADF)?))
    }

    /// Gives something new its owner and mode.
    fn own(&self, parent: &Node, name: &OsStr, mode: Option<u32>, who: Who) -> Answer<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file: File = rustix::fs::openat(&parent.file, name, flags, Mode::empty())?.into();
        let meta = file.metadata().map_err(|e| code(&e))?;
        let above = parent.file.metadata().map_err(|e| code(&e))?;
        // Below a folder with that bit the group is the folder's.
        let gid = match above.mode() & SET_GID != 0 {
            true => meta.gid(),
            false => who.gid,
        };
        if (meta.uid(), meta.gid()) != (who.uid, gid) {
            let (uid, gid) = (Uid::from_raw(who.uid), Gid::from_raw(gid));
            rustix::fs::chownat(&file, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
        }
        if let Some(mode) = mode {
            let inherited = if meta.is_dir() {
                meta.mode() & SET_GID
            } else {
                0
            };
            let mode = Mode::from_raw_mode(mode & 0o7777 | inherited);
            rustix::fs::chmodat(&parent.file, name, mode, AtFlags::empty())?;
        }
        Ok(())
    }

    fn set_owner(&self, node: &Node, change: &Change) -> Answer<()> {
        if change.uid.is_none() && change.gid.is_none() {
            return Ok(());
        }
        let (uid, gid) = (change.uid.map(Uid::from_raw), change.gid.map(Gid::from_raw));
        let before = node.file.metadata().map_err(|e| code(&e))?.mode();
        rustix::fs::chownat(&node.file, c"", uid, gid, AtFlags::EMPTY_PATH)?;
        // Whether these bits go is for the kernel to say, by a mode of its own.
        if change.mode.is_none() && before & SET_ID != 0 && !self.is_link(node) {
            let mode = Mode::from_raw_mode(before & 0o7777);
            rustix::fs::chmod(node.path(), mode)?;
        }
        Ok(())
    }

    fn is_link(&self, node: &Node) -> bool {
        node.file.metadata().is_ok_and(|meta| meta.is_symlink())
    }

    /// A path at which attributes can be asked for; links have none.
    fn attributed(&self, ino: u64) -> Answer<String> {
        let node = self.node(ino)?;
        match self.is_link(&node) {
            true => Err(Errno::NOTSUP),
            false => Ok(node.path()),
        }
    }
}

impl Files for Work {
    fn lookup(&self, parent: u64, name: &OsStr) -> Answer<Entry> {
        self.find(&*self.node(parent)?, name)
    }

    fn forget(&self, ino: u64, n: u64) {
        let mut nodes = lock(&self.nodes);
        if let Some((_, references)) = nodes.get_mut(&ino)
            && ino != ROOT
        {
            *references = references.saturating_sub(n);
            if *references == 0 {
                nodes.remove(&ino);
            }
        }
    }

    fn attr(&self, ino: u64) -> Answer<Entry> {
        self.now(&*self.node(ino)?)
    }

    fn read_link(&self, ino: u64) -> Answer<OsString> {
        let node = self.node(ino)?;
        let target = rustix::fs::readlinkat(&node.file, c"", Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    fn list(&self, ino: u64) -> Answer<Vec<Listed>> {
        let node = self.node(ino)?;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(node.path(), flags, Mode::empty())?;
        let mut all = Vec::new();
        for item in Dir::read_from(dir)? {
            let item = item?;
            let name = item.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let kind = match item.file_type() {
                FileType::Directory => Kind::Dir,
                FileType::Symlink => Kind::Link,
                FileType::Fifo => Kind::Pipe,
                FileType::Socket => Kind::Socket,
                FileType::CharacterDevice => Kind::CharDevice,
                FileType::BlockDevice => Kind::BlockDevice,
                _ => Kind::File,
            };
            all.push(Listed {
                name: OsString::from_vec(name.to_vec()),
                ino: item.ino(),
                kind,
            });
        }
        Ok(all)
    }

    fn open(&self, ino: u64, flags: i32) -> Answer<Opened> {
        let node = self.node(ino)?;
        let asked = OFlags::from_bits_retain(flags.cast_unsigned());
        let writes = asked.intersects(OFlags::WRONLY | OFlags::RDWR);
        if asked.contains(OFlags::TRUNC) && writes {
            self.fill(&node, 0)?;
        } else if writes {
            self.fill(&node, u64::MAX)?;
        }
        // Offsets come from the kernel; how it reads and what it may is its own business.
        let kept = asked & (OFlags::TRUNC | OFlags::SYNC | OFlags::DSYNC);
        let open =
            |mode| rustix::fs::open(node.path(), kept | mode | OFlags::CLOEXEC, Mode::empty());
        let file = match writes {
            true => open(OFlags::RDWR).or_else(|_| open(asked & OFlags::RWMODE))?,
            false => open(OFlags::RDONLY)?,
        };
        let hole = match writes {
            true => None,
            false => self.hole(&node)?.map(|id| self.content(id)).transpose()?,
        };
        Ok(self.opened(node, file.into(), hole))
    }

    fn read(&self, handle: u64, offset: u64, len: usize) -> Answer<Bytes> {
        let handle = self.handle(handle)?;
        if let Some(content) = &handle.hole
            && self.hole(&handle.node)?.is_some()
        {
            return content.read(offset, len).map_err(|e| errno_of_content(&e));
        }
        let mut bytes = BytesMut::zeroed(len);
        let mut n = 0;
        while n < len {
            match handle.file.read_at(&mut bytes[n..], offset + n as u64) {
                Ok(0) => break,
                Ok(more) => n += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(code(&error)),
            }
        }
        bytes.truncate(n);
        Ok(bytes.freeze())
    }

    fn release(&self, handle: u64) {
        let closed = lock(&self.handles).remove(&handle);
        drop(closed);
    }

    fn xattr(&self, ino: u64, name: &OsStr) -> Answer<Vec<u8>> {
        let path = self.attributed(ino)?;
        match name.to_str() {
            Some(WORK) if ino == ROOT => Ok(self
                .staging
                .folder()
                .as_os_str()
                .as_encoded_bytes()
                .to_vec()),
            Some(ID) => {
                let id = self.hole(&*self.node(ino)?)?.ok_or(Errno::NODATA)?;
                Ok(id.to_string().into_bytes())
            }
            Some(ours) if ours.starts_with(OURS) => Err(Errno::NODATA),
            _ => {
                let mut value = Vec::with_capacity(64 << 10);
                rustix::fs::getxattr(path, name, rustix::buffer::spare_capacity(&mut value))?;
                Ok(value)
            }
        }
    }

    fn xattrs(&self, ino: u64) -> Answer<Vec<OsString>> {
        let path = self.attributed(ino)?;
        let mut list = Vec::with_capacity(64 << 10);
        rustix::fs::listxattr(path, rustix::buffer::spare_capacity(&mut list))?;
        let names = list.split(|byte| *byte == 0);
        let names = names.filter(|name| !name.is_empty() && !name.starts_with(OURS.as_bytes()));
        let mut names: Vec<_> = names.map(|n| OsString::from_vec(n.to_vec())).collect();
        if self.hole(&*self.node(ino)?)?.is_some() {
            names.push(ID.into());
        }
        Ok(names)
    }

    fn space(&self) -> Answer<Space> {
        let root = self.node(ROOT)?;
        let space = rustix::fs::statvfs(root.path())?;
        Ok(Space {
            block_len: u32::try_from(space.f_frsize).unwrap_or(4096),
            blocks: space.f_blocks,
            free: space.f_bfree,
            available: space.f_bavail,
            files: space.f_files,
            files_free: space.f_ffree,
            name_len_max: 255,
        })
    }

    fn set_attr(&self, ino: u64, change: &Change) -> Answer<Entry> {
        let node = self.node(ino)?;
        self.set_owner(&node, change)?;
        if let Some(mode) = change.mode
            && !self.is_link(&node)
        {
            rustix::fs::chmod(node.path(), Mode::from_raw_mode(mode & 0o7777))?;
        }
        if let Some(len) = change.size {
            self.fill(&node, len)?;
            let file = File::options().write(true).open(node.path());
            let cut = file.and_then(|file| file.set_len(len));
            cut.map_err(|e| code(&e))?;
        }
        if change.accessed.is_some() || change.modified.is_some() {
            let times = Timestamps {
                last_access: timespec(change.accessed),
                last_modification: timespec(change.modified),
            };
            rustix::fs::utimensat(&node.file, c"", &times, AtFlags::EMPTY_PATH)?;
        }
        self.now(&node)
    }

    fn make(&self, parent: u64, name: &OsStr, new: New<'_>, who: Who) -> Answer<Entry> {
        let (parent, name) = (self.node(parent)?, checked(name)?);
        let mode = match new {
            New::Dir(mode) => {
                rustix::fs::mkdirat(&parent.file, name, Mode::from_raw_mode(mode & 0o7777))?;
                Some(mode)
            }
            New::Link(target) => {
                if target.to_str().is_none() {
                    return Err(Errno::ILSEQ);
                }
                rustix::fs::symlinkat(target, &parent.file, name)?;
                None
            }
            New::Node(mode, device) => {
                let kind = FileType::from_raw_mode(mode);
                let kind = if mode & 0o170_000 == 0 {
                    FileType::RegularFile
                } else {
                    kind
                };
                let perm = Mode::from_raw_mode(mode & 0o7777);
                rustix::fs::mknodat(&parent.file, name, kind, perm, device.into())?;
                Some(mode)
            }
        };
        self.own(&parent, name, mode, who)?;
        self.find(&parent, name)
    }

    fn create(
        &self,
        at: (u64, &OsStr),
        mode: u32,
        flags: i32,
        who: Who,
    ) -> Answer<(Entry, Opened)> {
        let (parent, name) = (self.node(at.0)?, checked(at.1)?);
        let asked = OFlags::from_bits_retain(flags.cast_unsigned());
        let how = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let perm = Mode::from_raw_mode(mode & 0o7777);
        let file = match rustix::fs::openat(&parent.file, name, how, perm) {
            Ok(file) => file,
            // Somebody else was faster.
            Err(Errno::EXIST) if !asked.contains(OFlags::EXCL) => {
                let found = self.find(&parent, name)?;
                let opened = self.open(found.attr.ino, flags)?;
                return Ok((found, opened));
            }
            Err(errno) => return Err(errno),
        };
        self.own(&parent, name, Some(mode), who)?;
        let made = self.find(&parent, name)?;
        let node = self.node(made.attr.ino)?;
        Ok((made, self.opened(node, file.into(), None)))
    }

    fn write(&self, handle: u64, offset: u64, bytes: &[u8]) -> Answer<()> {
        let handle = self.handle(handle)?;
        let written = handle.file.write_all_at(bytes, offset);
        written.map_err(|e| code(&e))
    }

    fn sync(&self, handle: u64, data_only: bool) -> Answer<()> {
        let file = &self.handle(handle)?.file;
        let synced = match data_only {
            true => file.sync_data(),
            false => file.sync_all(),
        };
        synced.map_err(|e| code(&e))
    }

    fn sync_dir(&self, ino: u64) -> Answer<()> {
        let dir = File::open(self.node(ino)?.path());
        dir.and_then(|dir| dir.sync_all()).map_err(|e| code(&e))
    }

    fn allocate(&self, handle: u64, offset: u64, len: u64, mode: i32) -> Answer<()> {
        let flags = FallocateFlags::from_bits_retain(mode.cast_unsigned());
        rustix::fs::fallocate(&*self.handle(handle)?.file, flags, offset, len)
    }

    fn unlink(&self, parent: u64, name: &OsStr) -> Answer<()> {
        let parent = self.node(parent)?;
        rustix::fs::unlinkat(&parent.file, name, AtFlags::empty())
    }

    fn remove_dir(&self, parent: u64, name: &OsStr) -> Answer<()> {
        let parent = self.node(parent)?;
        rustix::fs::unlinkat(&parent.file, name, AtFlags::REMOVEDIR)
    }

    fn rename(&self, from: (u64, &OsStr), to: (u64, &OsStr), flags: u32) -> Answer<()> {
        let (source, target) = (self.node(from.0)?, self.node(to.0)?);
        let (name, flags) = (checked(to.1)?, RenameFlags::from_bits_retain(flags));
        rustix::fs::renameat_with(&source.file, from.1, &target.file, name, flags)
    }

    fn link(&self, ino: u64, parent: u64, name: &OsStr) -> Answer<Entry> {
        let (node, parent, name) = (self.node(ino)?, self.node(parent)?, checked(name)?);
        let whole = rustix::fs::linkat(&node.file, c"", &parent.file, name, AtFlags::EMPTY_PATH);
        if let Err(Errno::NOENT) = whole {
            // Without the right to do that there is another way, but for links.
            let follow = AtFlags::SYMLINK_FOLLOW;
            rustix::fs::linkat(CWD, node.path(), &parent.file, name, follow)?;
        } else {
            whole?;
        }
        self.find(&parent, name)
    }

    fn set_xattr(&self, ino: u64, name: &OsStr, value: &[u8], flags: i32) -> Answer<()> {
        if name.as_encoded_bytes().starts_with(OURS.as_bytes()) {
            return Err(Errno::PERM);
        }
        let flags = XattrFlags::from_bits_retain(flags.cast_unsigned());
        rustix::fs::setxattr(self.attributed(ino)?, name, value, flags)
    }

    fn remove_xattr(&self, ino: u64, name: &OsStr) -> Answer<()> {
        if name.as_encoded_bytes().starts_with(OURS.as_bytes()) {
            return Err(Errno::PERM);
        }
        rustix::fs::removexattr(self.attributed(ino)?, name)
    }
}
