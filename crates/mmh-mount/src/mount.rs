//! Mounting and unmounting.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;

use fuser::{Config, MountOption, Session, SessionACL};
use rustix::fs::{major, minor};
use rustix::mount::UnmountFlags;
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::files::Files;
use crate::kernel::{Kernel, REQUEST_LEN};

/// How the source of our mounts begins in the table of mounts: by that they are known.
const SOURCE: &str = "mmh:";
const DEVICE: &str = "/dev/fuse";
/// The helper that lets users mount who are not root.
const HELPER: &str = "fusermount3";

/// How to mount.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// What the table of mounts shows as its source.
    pub source: String,
    /// Whether it can be written to.
    pub writes: bool,
    /// Whether other users may look; the kernel compares permissions then as in any file system.
    pub others: bool,
    /// Threads that answer the kernel.
    pub threads: usize,
    /// Let the kernel read files of the cache by itself, if it can.
    pub passthrough: bool,
}

/// Something that is mounted. Dropped, it is unmounted.
#[derive(Debug)]
pub struct Mount {
    place: PathBuf,
    thread: Option<JoinHandle<()>>,
    ended: oneshot::Receiver<io::Result<()>>,
}

/// Why a mount ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Somebody unmounted it.
    Unmounted,
    /// We were asked to stop, and did.
    Asked,
}

impl Mount {
    /// Shows `files` at the folder `place`. It is there on return.
    ///
    /// # Errors
    /// `Unsupported` without FUSE; `Denied` without the right to mount; `Invalid` if `place` is no
    /// folder, or something is mounted there.
    pub fn new(files: impl Files, place: &Path, options: &MountOptions) -> Result<Self> {
        let place = check_place(place)?;
        if !Path::new(DEVICE).exists() {
            return Err(Error::NoDevice);
        }
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::FSName(source(&options.source)),
            MountOption::DefaultPermissions,
            MountOption::NoDev,
            MountOption::NoSuid,
            match options.writes {
                true => MountOption::RW,
                false => MountOption::RO,
            },
        ];
        if options.others {
            config.acl = SessionACL::All;
        }
        config.n_threads = Some(options.threads.max(1));
        config.clone_fd = true;
        let kernel = Kernel::new(files, options.writes, options.passthrough);
        let session = Session::new(kernel, &place, &config).map_err(|e| refused(&place, e))?;
        let (told, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("mmh-mount".to_owned());
        let thread = thread.spawn(move || {
            // Nobody listens any more if the mount was dropped.
            let _unheard = told.send(session.run()).is_err();
        });
        let mount = Self {
            place: place.clone(),
            thread: Some(thread.map_err(|source| Error::Io {
                action: "mount at",
                place,
                source,
            })?),
            ended,
        };
        mount.widen_reads();
        Ok(mount)
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Waits until it is unmounted; when `asked` is done first, unmounts it. What is in use then
    /// disappears from its folder and ends when nobody uses it any more: `busy` is told.
    ///
    /// # Errors
    /// Those of the session with the kernel.
    pub async fn wait(
        mut self,
        asked: impl Future<Output = ()>,
        busy: impl FnOnce(),
    ) -> Result<Stop> {
        let stop = tokio::select! {
            ended = &mut self.ended => return self.end(ended).map(|()| Stop::Unmounted),
            () = asked => Stop::Asked,
        };
        match unmount(&self.place, false) {
            Err(Error::Busy(_)) => {
                busy();
                unmount(&self.place, true)?;
            }
            other => other?,
        }
        let ended = (&mut self.ended).await;
        self.end(ended).map(|()| stop)
    }

    fn end(
        &mut self,
        ended: std::result::Result<io::Result<()>, oneshot::error::RecvError>,
    ) -> Result<()> {
        if let Some(thread) = self.thread.take() {
            let _told_below = thread.join().is_err();
        }
        let ended = ended.unwrap_or_else(|_| Err(io::Error::other("its thread died")));
        ended.map_err(|source| Error::Io {
            action: "serve",
            place: self.place.clone(),
            source,
        })
    }

    /// Lets the kernel ask for more at once when it reads ahead. The right to say so is root's;
    /// without it reads take more requests.
    fn widen_reads(&self) {
        let Ok(meta) = fs::metadata(&self.place) else {
            return;
        };
        let (major, minor) = (major(meta.dev()), minor(meta.dev()));
        let setting = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
        let _as_before = fs::write(setting, (REQUEST_LEN >> 10).to_string()).is_err();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        if !thread.is_finished() {
            let _gone_already = unmount(&self.place, true).is_err();
        }
        let _died = thread.join().is_err();
    }
}

/// Unmounts what of ours is mounted at a folder, dead or alive; `lazy` if it is in use.
///
/// # Errors
/// `Invalid` if nothing of ours is there; `Conflict` if it is in use; `Denied`.
pub fn unmount(place: &Path, lazy: bool) -> Result<()> {
    let place = real(place)?;
    if !is_ours(&place) {
        return Err(Error::Place {
            place,
            why: "is not a folder that `mmh mount` has mounted",
        });
    }
    let flags = match lazy {
        true => UnmountFlags::DETACH,
        false => UnmountFlags::empty(),
    };
    match rustix::mount::unmount(&place, flags) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::BUSY) => Err(Error::Busy(place)),
        Err(rustix::io::Errno::PERM) => unmount_by_helper(place, lazy),
        Err(errno) => Err(Error::Io {
            action: "unmount",
            place,
            source: errno.into(),
        }),
    }
}

fn unmount_by_helper(place: PathBuf, lazy: bool) -> Result<()> {
    let mut command = Command::new(HELPER);
    command.arg("-u");
    if lazy {
        command.arg("-z");
    }
    match command.arg("--").arg(&place).output() {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) if String::from_utf8_lossy(&done.stderr).contains("busy") => {
            Err(Error::Busy(place))
        }
        _ => Err(Error::NotAllowed(place)),
    }
}

/// A folder that something can be mounted at; what a dead process of ours left there is unmounted.
fn check_place(place: &Path) -> Result<PathBuf> {
    // Of what is dead the kernel may still remember the attributes.
    if let Err(error) = fs::read_dir(place)
        && error.raw_os_error() == Some(rustix::io::Errno::NOTCONN.raw_os_error())
    {
        unmount(place, true)?;
    }
    let place = real(place)?;
    let why = match fs::metadata(&place) {
        Ok(meta) if !meta.is_dir() => "is not a folder",
        Ok(_) if is_ours(&place) => "has something mounted already: `mmh unmount` it first",
        Ok(_) => return Ok(place),
        Err(source) => {
            let action = "mount at";
            return Err(Error::Io {
                action,
                place,
                source,
            });
        }
    };
    Err(Error::Place { place, why })
}

/// The path without links, also if what is there is dead: only what is above is looked at.
fn real(place: &Path) -> Result<PathBuf> {
    let found = fs::canonicalize(place).or_else(|_| {
        let above = place.parent().filter(|above| !above.as_os_str().is_empty());
        let above = fs::canonicalize(above.unwrap_or(Path::new(".")))?;
        let name = place.file_name().ok_or(io::ErrorKind::NotFound)?;
        Ok(above.join(name))
    });
    found.map_err(|source| Error::Io {
        action: "find",
        place: place.to_owned(),
        source,
    })
}

/// Whether the table of mounts says that the topmost thing there is ours.
fn is_ours(place: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut ours = table.lines().filter_map(|line| {
        let (mount, rest) = line.split_once(" - ")?;
        let at = mount.split(' ').nth(4)?;
        let (kind, rest) = rest.split_once(' ')?;
        let ours = kind.starts_with("fuse") && rest.starts_with(SOURCE);
        (unescape(at) == place.as_os_str().as_encoded_bytes()).then_some(ours)
    });
    ours.next_back() == Some(true)
}

/// What the table of mounts is told: options are separated by commas.
fn source(text: &str) -> String {
    format!("{SOURCE}{}", text.replace([',', '\\'], "_"))
}

/// Undoes how the table of mounts writes blanks and the like: `\040`.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = (first == b'\\')
            .then(|| after.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(first);
                rest = after;
            }
        }
    }
    out
}

/// What the system's refusal to mount means.
fn refused(place: &Path, error: io::Error) -> Error {
    let place = place.to_owned();
    let no_helper = error.kind() == io::ErrorKind::NotFound;
    if error.kind() == io::ErrorKind::PermissionDenied || no_helper {
        return Error::NotAllowed(place);
    }
    Error::Io {
        action: "mount at",
        place,
        source: error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_mounts_is_read_as_the_kernel_writes_it() {
        assert_eq!(unescape("/a\\040b\\134c\\011"), b"/a b\\c\t");
        assert_eq!(unescape("/a\\"), b"/a\\");
        assert_eq!(unescape("/a\\9"), b"/a\\9");
        assert_eq!(unescape("/a\\99x"), b"/a\\99x");
    }

    #[test]
    fn only_what_is_ours_is_unmounted() {
        let dir = tempfile::tempdir().unwrap();
        for place in [dir.path(), Path::new("/proc"), Path::new("/")] {
            let refused = unmount(place, false).unwrap_err();
            assert_eq!(refused.kind(), mmh_core::ErrorKind::Invalid, "{place:?}");
        }
        let nowhere = dir.path().join("no/such");
        let refused = unmount(&nowhere, false).unwrap_err();
        assert_eq!(refused.kind(), mmh_core::ErrorKind::NotFound);
    }

    #[test]
    fn only_folders_are_mounted_at() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"x").unwrap();
        let refused = check_place(&file).unwrap_err();
        assert_eq!(refused.kind(), mmh_core::ErrorKind::Invalid);
        let absent = check_place(&dir.path().join("absent")).unwrap_err();
        assert_eq!(absent.kind(), mmh_core::ErrorKind::NotFound);
        assert_eq!(check_place(dir.path()).unwrap(), real(dir.path()).unwrap());
    }

    #[test]
    fn refusals_say_what_is_missing() {
        let place = Path::new("/x");
        let kind = |kind: io::ErrorKind| refused(place, kind.into()).kind();
        assert_eq!(
            kind(io::ErrorKind::PermissionDenied),
            mmh_core::ErrorKind::Denied
        );
        assert_eq!(kind(io::ErrorKind::NotFound), mmh_core::ErrorKind::Denied);
        assert_eq!(
            kind(io::ErrorKind::OutOfMemory),
            mmh_core::ErrorKind::Unavailable
        );
    }
}
