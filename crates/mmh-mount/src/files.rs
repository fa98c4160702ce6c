//! What a file system is to us: the calls that the kernel makes, without the kernel.
//!
//! Whoever implements [`Files`] deals with numbers of inodes and handles that it made up itself.
//! Every call may come from any thread at any time.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::io::Errno;

/// What a call comes to: a value, or the `errno` that the caller gets.
pub type Answer<T> = Result<T, Errno>;

/// The inode of the root.
pub(crate) const ROOT: u64 = 1;

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Dir,
    /// A file.
    File,
    /// A symbolic link.
    Link,
    /// A named pipe.
    Pipe,
    /// A socket.
    Socket,
    /// A device that is read by characters.
    CharDevice,
    /// A device that is read by blocks.
    BlockDevice,
}

/// What `stat` says of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// Its number.
    pub ino: u64,
    /// What it is.
    pub kind: Kind,
    /// Length in bytes.
    pub size: u64,
    /// Blocks of 512 bytes that it takes.
    pub blocks: u64,
    /// Last read.
    pub accessed: SystemTime,
    /// Last written.
    pub modified: SystemTime,
    /// Last changed in any way.
    pub changed: SystemTime,
    /// Permissions, with the bits for other users, sticky and the like: the lower 12.
    pub perm: u16,
    /// Names that it has.
    pub links: u32,
    /// Whose it is.
    pub uid: u32,
    /// And which group's.
    pub gid: u32,
    /// Of a device: which.
    pub device: u32,
}

/// What a name stands for, and how long the kernel may believe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub attr: Attr,
    /// For how long name and attributes stay so.
    pub valid: Duration,
}

/// A name of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The name.
    pub name: OsString,
    /// The inode that it has now.
    pub ino: u64,
    /// What it is.
    pub kind: Kind,
}

/// An open file.
#[derive(Debug, Clone)]
pub struct Opened {
    /// By which the other calls know it.
    pub handle: u64,
    /// A file of the disk that has the same bytes: the kernel may read (and write) there.
    pub backing: Option<Arc<File>>,
    /// Whether what the kernel has read of it before is still right.
    pub same: bool,
}

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Who {
    /// Whose process.
    pub uid: u32,
    /// And which group's.
    pub gid: u32,
}

/// What is to be made.
#[derive(Debug, Clone, Copy)]
pub enum New<'a> {
    /// A folder with these permissions.
    Dir(u32),
    /// A symbolic link to there.
    Link(&'a OsStr),
    /// What `mknod` makes: mode with the type, and the device.
    Node(u32, u32),
}

/// What `chmod`, `chown`, `truncate` and `utimes` change.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change {
    /// Permissions.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length.
    pub size: Option<u64>,
    /// Time of the last read; `Some(None)` is now.
    pub accessed: Option<Option<SystemTime>>,
    /// Time of the last write.
    pub modified: Option<Option<SystemTime>>,
    /// The open file by which it is done, if by one.
    pub handle: Option<u64>,
}

/// What `statfs` says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes of a block.
    pub block_len: u32,
    /// Blocks in all.
    pub blocks: u64,
    /// Of them free.
    pub free: u64,
    /// Of them free for everybody.
    pub available: u64,
    /// Inodes in all.
    pub files: u64,
    /// Of them free.
    pub files_free: u64,
    /// Longest name in bytes.
    pub name_len_max: u32,
}

/// A file system. What changes something is refused unless it is implemented.
#[allow(
    missing_docs,
    reason = "each is the system call of that name: see its manual page"
)]
pub trait Files: Send + Sync + 'static {
    /// Finds a name in a folder, and counts one reference to its inode.
    fn lookup(&self, parent: u64, name: &OsStr) -> Answer<Entry>;

    /// Counts `n` references less.
    fn forget(&self, ino: u64, n: u64);

    fn attr(&self, ino: u64) -> Answer<Entry>;

    fn read_link(&self, ino: u64) -> Answer<OsString>;

    /// All names of a folder but `.` and `..`, in the order in which they are told.
    fn list(&self, ino: u64) -> Answer<Vec<Listed>>;

    fn open(&self, ino: u64, flags: i32) -> Answer<Opened>;

    /// Up to `len` bytes; fewer only at the end.
    fn read(&self, handle: u64, offset: u64, len: usize) -> Answer<Bytes>;

    fn release(&self, handle: u64);

    fn xattr(&self, ino: u64, name: &OsStr) -> Answer<Vec<u8>>;

    fn xattrs(&self, ino: u64) -> Answer<Vec<OsString>>;

    fn space(&self) -> Answer<Space>;

    fn set_attr(&self, _ino: u64, _change: &Change) -> Answer<Entry> {
        Err(Errno::ROFS)
    }

    fn make(&self, _parent: u64, _name: &OsStr, _new: New<'_>, _who: Who) -> Answer<Entry> {
        Err(Errno::ROFS)
    }

    /// Makes a file with this mode and opens it; opens the one that is there, if there is one and
    /// the flags allow it.
    fn create(
        &self,
        _at: (u64, &OsStr),
        _mode: u32,
        _flags: i32,
        _who: Who,
    ) -> Answer<(Entry, Opened)> {
        Err(Errno::ROFS)
    }

    fn write(&self, _handle: u64, _offset: u64, _bytes: &[u8]) -> Answer<()> {
        Err(Errno::ROFS)
    }

    /// On return the file is on the disk, with its attributes unless `data_only`.
    fn sync(&self, _handle: u64, _data_only: bool) -> Answer<()> {
        Ok(())
    }

    /// On return the names of a folder are on the disk.
    fn sync_dir(&self, _ino: u64) -> Answer<()> {
        Ok(())
    }

    fn allocate(&self, _handle: u64, _offset: u64, _len: u64, _mode: i32) -> Answer<()> {
        Err(Errno::ROFS)
    }

    fn unlink(&self, _parent: u64, _name: &OsStr) -> Answer<()> {
        Err(Errno::ROFS)
    }

    fn remove_dir(&self, _parent: u64, _name: &OsStr) -> Answer<()> {
        Err(Errno::ROFS)
    }

    /// With the flags of `renameat2`.
    fn rename(&self, _from: (u64, &OsStr), _to: (u64, &OsStr), _flags: u32) -> Answer<()> {
        Err(Errno::ROFS)
    }

    fn link(&self, _ino: u64, _parent: u64, _name: &OsStr) -> Answer<Entry> {
        Err(Errno::ROFS)
    }

    fn set_xattr(&self, _ino: u64, _name: &OsStr, _value: &[u8], _flags: i32) -> Answer<()> {
        Err(Errno::ROFS)
    }

    fn remove_xattr(&self, _ino: u64, _name: &OsStr) -> Answer<()> {
        Err(Errno::ROFS)
    }
}
