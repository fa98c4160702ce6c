//! The kernel's calls, translated: `fuser` on one side, [`Files`] on the other.
//!
//! An inode that is open is read either through us, by way of the kernel's cache, or straight from a
//! file of the disk (passthrough), and all its opens the same way: the kernel refuses mixtures. So
//! the first open decides, under a lock, and the others join.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use fuser::{
    BackingId, BsdFileFlags, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use rustix::io::Errno;

use crate::files::{Attr, Change, Entry, Files, Kind, Listed, New, Opened, Who};

/// Bytes of one request: as many pages as the kernel allows without a change of its settings.
pub(crate) const REQUEST_LEN: u32 = 1 << 20;
/// How deep file systems may be stacked for passthrough: below us one over another, as in containers.
const STACK_DEPTH: u32 = 2;
/// Requests of the kernel's read-ahead on their way at once.
const BACKGROUND: u16 = 32;
const GENERATION: Generation = Generation(0);

/// A file system as the kernel calls it.
pub(crate) struct Kernel<F> {
    files: F,
    writes: bool,
    passthrough: AtomicBool,
    /// How each open inode is read.
    ways: Mutex<HashMap<u64, Way>>,
    /// The inode of each open file, for its release.
    inodes: Mutex<HashMap<u64, u64>>,
    folders: Mutex<HashMap<u64, Arc<Vec<Listed>>>>,
    next_folder: AtomicU64,
}

/// How an inode is read while it is open, and how often it is.
enum Way {
    Kernel(Arc<BackingId>, u64),
    Us(u64),
}

impl<F: Files> Kernel<F> {
    pub(crate) fn new(files: F, writes: bool, passthrough: bool) -> Self {
        Self {
            files,
            writes,
            passthrough: AtomicBool::new(passthrough),
            ways: Mutex::default(),
            inodes: Mutex::default(),
            folders: Mutex::default(),
            next_folder: AtomicU64::new(1),
        }
    }

    /// Decides how a file that was opened is read: by the kernel, from what this returns, else
    /// through us. `register` makes a file of the disk known to the kernel.
    fn opened(
        &self,
        ino: u64,
        opened: &Opened,
        register: impl FnOnce(&std::fs::File) -> io::Result<BackingId>,
    ) -> Option<Arc<BackingId>> {
        lock(&self.inodes).insert(opened.handle, ino);
        let mut ways = lock(&self.ways);
        match ways.get_mut(&ino) {
            Some(Way::Kernel(id, n)) => {
                *n += 1;
                return Some(Arc::clone(id));
            }
            Some(Way::Us(n)) => {
                *n += 1;
                return None;
            }
            None => {}
        }
        let allowed = self.passthrough.load(Ordering::Relaxed);
        let backing = opened.backing.as_ref().filter(|_| allowed);
        match backing.map(|file| register(file)) {
            Some(Ok(id)) => {
                let id = Arc::new(id);
                ways.insert(ino, Way::Kernel(Arc::clone(&id), 1));
                Some(id)
            }
            refused => {
                if let Some(Err(error)) = refused
                    && error.kind() == io::ErrorKind::PermissionDenied
                {
                    // Without the right to, it is never allowed.
                    self.passthrough.store(false, Ordering::Relaxed);
                }
                ways.insert(ino, Way::Us(1));
                None
            }
        }
    }

    fn closed(&self, handle: u64) {
        let Some(ino) = lock(&self.inodes).remove(&handle) else {
            return;
        };
        let mut ways = lock(&self.ways);
        if let Some(Way::Kernel(_, n) | Way::Us(n)) = ways.get_mut(&ino) {
            *n -= 1;
            if *n == 0 {
                ways.remove(&ino);
            }
        }
    }

    fn folder(&self, handle: FileHandle) -> Option<Arc<Vec<Listed>>> {
        lock(&self.folders).get(&handle.0).cloned()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn code(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno.raw_os_error())
}

fn kind(kind: Kind) -> FileType {
    match kind {
        Kind::Dir => FileType::Directory,
        Kind::File => FileType::RegularFile,
        Kind::Link => FileType::Symlink,
        Kind::Pipe => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    }
}

fn attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.blocks,
        atime: attr.accessed,
        mtime: attr.modified,
        ctime: attr.changed,
        crtime: attr.changed,
        kind: kind(attr.kind),
        perm: attr.perm,
        nlink: attr.links,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.device,
        blksize: REQUEST_LEN,
        flags: 0,
    }
}

fn who(request: &Request) -> Who {
    Who {
        uid: request.uid(),
        gid: request.gid(),
    }
}

fn flags(opened: &Opened) -> FopenFlags {
    match opened.same {
        true => FopenFlags::FOPEN_KEEP_CACHE,
        false => FopenFlags::empty(),
    }
}

fn time(time: TimeOrNow) -> Option<SystemTime> {
    match time {
        TimeOrNow::SpecificTime(time) => Some(time),
        TimeOrNow::Now => None,
    }
}

fn entry(answer: Result<Entry, Errno>, reply: ReplyEntry) {
    match answer {
        Ok(found) => reply.entry(&found.valid, &attr(&found.attr), GENERATION),
        Err(errno) => reply.error(code(errno)),
    }
}

fn empty(answer: Result<(), Errno>, reply: ReplyEmpty) {
    match answer {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(code(errno)),
    }
}

fn xattr(answer: Result<Vec<u8>, Errno>, room: u32, reply: ReplyXattr) {
    match answer {
        Err(errno) => reply.error(code(errno)),
        Ok(value) => match u32::try_from(value.len()) {
            Ok(len) if room == 0 => reply.size(len),
            Ok(len) if len <= room => reply.data(&value),
            _ => reply.error(code(Errno::RANGE)),
        },
    }
}

impl<F: Files> Filesystem for Kernel<F> {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let mut wish = |flag| config.add_capabilities(flag).is_ok();
        wish(InitFlags::FUSE_DO_READDIRPLUS);
        wish(InitFlags::FUSE_READDIRPLUS_AUTO);
        wish(InitFlags::FUSE_PARALLEL_DIROPS);
        wish(InitFlags::FUSE_CACHE_SYMLINKS);
        wish(InitFlags::FUSE_ASYNC_DIO);
        if self.writes {
            wish(InitFlags::FUSE_ATOMIC_O_TRUNC);
            // Names are made with the mode that was asked for, and the mask is ours to apply.
            wish(InitFlags::FUSE_DONT_MASK);
        }
        let mut through = self.passthrough.load(Ordering::Relaxed);
        through = through && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok();
        through = through && config.set_max_stack_depth(STACK_DEPTH).is_ok();
        self.passthrough.store(through, Ordering::Relaxed);
        // Each is kept as it is if the kernel has it otherwise.
        let _other = config.set_max_write(REQUEST_LEN).is_err();
        let _other = config.set_max_background(BACKGROUND).is_err();
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(self.files.lookup(parent.0, name), reply);
    }

    fn forget(&self, _: &Request, ino: INodeNo, n: u64) {
        self.files.forget(ino.0, n);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.files.attr(ino.0) {
            Ok(found) => reply.attr(&found.valid, &attr(&found.attr)),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _changed: Option<SystemTime>,
        handle: Option<FileHandle>,
        _created: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = Change {
            mode,
            uid,
            gid,
            size,
            accessed: accessed.map(time),
            modified: modified.map(time),
            handle: handle.map(|handle| handle.0),
        };
        match self.files.set_attr(ino.0, &change) {
            Ok(now) => reply.attr(&now.valid, &attr(&now.attr)),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.files.read_link(ino.0) {
            Ok(target) => reply.data(target.as_encoded_bytes()),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        let new = New::Node(mode & !umask, device);
        entry(self.files.make(parent.0, name, new, who(request)), reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let new = New::Dir(mode & !umask);
        entry(self.files.make(parent.0, name, new, who(request)), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.files.unlink(parent.0, name), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.files.remove_dir(parent.0, name), reply);
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let new = New::Link(target.as_os_str());
        entry(self.files.make(parent.0, name, new, who(request)), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (from, to) = ((parent.0, name), (newparent.0, newname));
        empty(self.files.rename(from, to, flags.bits()), reply);
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(self.files.link(ino.0, parent.0, name), reply);
    }

    fn open(&self, _: &Request, ino: INodeNo, how: OpenFlags, reply: ReplyOpen) {
        let opened = match self.files.open(ino.0, how.0) {
            Ok(opened) => opened,
            Err(errno) => return reply.error(code(errno)),
        };
        let handle = FileHandle(opened.handle);
        match self.opened(ino.0, &opened, |file| reply.open_backing(file)) {
            Some(id) => reply.opened_passthrough(handle, FopenFlags::empty(), &id),
            None => reply.opened(handle, flags(&opened)),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        len: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.files.read(handle.0, offset, len as usize) {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.files.write(handle.0, offset, bytes) {
            Ok(()) => reply.written(u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // Nothing is held back.
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.closed(handle.0);
        self.files.release(handle.0);
        reply.ok();
    }

    fn fsync(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        data_only: bool,
        reply: ReplyEmpty,
    ) {
        empty(self.files.sync(handle.0, data_only), reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(self.files.sync_dir(ino.0), reply);
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.files.list(ino.0) {
            Ok(mut listed) => {
                let itself = |name: &str| Listed {
                    name: name.into(),
                    ino: ino.0,
                    kind: Kind::Dir,
                };
                listed.splice(..0, [itself("."), itself("..")]);
                let handle = self.next_folder.fetch_add(1, Ordering::Relaxed);
                lock(&self.folders).insert(handle, Arc::new(listed));
                reply.opened(FileHandle(handle), FopenFlags::empty());
            }
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let Some(listed) = self.folder(handle) else {
            return reply.error(code(Errno::BADF));
        };
        for (n, item) in after(&listed, offset) {
            if reply.add(INodeNo(item.ino), n + 1, kind(item.kind), &item.name) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let Some(listed) = self.folder(handle) else {
            return reply.error(code(Errno::BADF));
        };
        for (n, item) in after(&listed, offset) {
            // These two are not counted.
            let counted = n >= 2;
            let found = match counted {
                true => self.files.lookup(ino.0, &item.name),
                false => self.files.attr(ino.0),
            };
            // It may have gone since.
            let Ok(found) = found else { continue };
            let of = &found.attr;
            if reply.add(
                INodeNo(of.ino),
                n + 1,
                &item.name,
                &found.valid,
                &attr(of),
                GENERATION,
            ) {
                if counted {
                    self.files.forget(of.ino, 1);
                }
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        lock(&self.folders).remove(&handle.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        match self.files.space() {
            Ok(s) => reply.statfs(
                s.blocks,
                s.free,
                s.available,
                s.files,
                s.files_free,
                s.block_len,
                s.name_len_max,
                s.block_len,
            ),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn setxattr(
        &self,
        _: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        empty(self.files.set_xattr(ino.0, name, value, flags), reply);
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, room: u32, reply: ReplyXattr) {
        xattr(self.files.xattr(ino.0, name), room, reply);
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, room: u32, reply: ReplyXattr) {
        let names = self.files.xattrs(ino.0).map(|names| {
            let mut all = Vec::new();
            for name in names {
                all.extend_from_slice(name.as_encoded_bytes());
                all.push(0);
            }
            all
        });
        xattr(names, room, reply);
    }

    fn removexattr(&self, _: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.files.remove_xattr(ino.0, name), reply);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        how: i32,
        reply: ReplyCreate,
    ) {
        let made = self
            .files
            .create((parent.0, name), mode & !umask, how, who(request));
        let (made, opened) = match made {
            Ok(made) => made,
            Err(errno) => return reply.error(code(errno)),
        };
        let (handle, of, valid) = (FileHandle(opened.handle), attr(&made.attr), made.valid);
        match self.opened(made.attr.ino, &opened, |file| reply.open_backing(file)) {
            Some(id) => {
                let flags = FopenFlags::empty();
                reply.created_passthrough(&valid, &of, GENERATION, handle, flags, &id);
            }
            None => reply.created(&valid, &of, GENERATION, handle, flags(&opened)),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        len: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        empty(self.files.allocate(handle.0, offset, len, mode), reply);
    }
}

/// What comes after this offset of a listing, each with its number.
fn after(listed: &[Listed], offset: u64) -> impl Iterator<Item = (u64, &Listed)> {
    let skip = usize::try_from(offset).unwrap_or(usize::MAX);
    (0..).zip(listed).skip(skip)
}
