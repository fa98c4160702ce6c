//! Holes: files of the staging folder that stand for files of the repository.
//!
//! A hole has the attribute `user.mmh.hole` with id and length, and that length. One with another
//! length is none: its attribute was about to go when something died. So a hole is filled by writing
//! all, syncing, and removing the attribute; and emptied by truncating, then removing it.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mmh_core::FileId;
use rustix::fs::{Mode, OFlags, XattrFlags};
use rustix::io::Errno;

/// The attribute.
pub(crate) const NAME: &str = "user.mmh.hole";
/// Longest value: an id and a length.
const VALUE_LEN_MAX: usize = 256;

/// Opens an inode as a place: it can be looked at and found again, not read.
pub(crate) fn open_place(path: &Path) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// Marks the file as standing for one of the repository, which has its length.
pub(crate) fn mark(path: &Path, id: FileId, len: u64) -> io::Result<()> {
    let value = format!("{id} {len}");
    Ok(rustix::fs::setxattr(
        path,
        NAME,
        value.as_bytes(),
        XattrFlags::empty(),
    )?)
}

/// Which file of the repository a file stands for, if it does.
///
/// # Errors
/// The system's; an attribute that cannot be read as one is `InvalidData`: rather that than bytes
/// that are not those of the file.
pub(crate) fn of(path: &Path, meta: &Metadata) -> io::Result<Option<FileId>> {
    if !meta.is_file() || meta.len() == 0 {
        return Ok(None);
    }
    let mut value = [0; VALUE_LEN_MAX];
    let n = match rustix::fs::getxattr(path, NAME, &mut value) {
        Ok(n) => n,
        Err(Errno::NODATA | Errno::NOTSUP) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let text = std::str::from_utf8(&value[..n]).ok();
    let parsed = text.and_then(|text| {
        let (id, len) = text.split_once(' ')?;
        Some((id.parse().ok()?, len.parse::<u64>().ok()?))
    });
    let (id, len) = parsed.ok_or(io::ErrorKind::InvalidData)?;
    Ok((len == meta.size()).then_some(id))
}

/// Makes the file stand for itself.
pub(crate) fn unmark(path: &Path) -> io::Result<()> {
    match rustix::fs::removexattr(path, NAME) {
        Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_one_while_it_has_its_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = File::create(&path).unwrap();
        file.set_len(5000).unwrap();
        let id = FileId::of(b"x");
        let is = || of(&path, &std::fs::metadata(&path).unwrap());
        assert_eq!(is().unwrap(), None);
        mark(&path, id, 5000).unwrap();
        assert_eq!(is().unwrap(), Some(id));
        file.set_len(4999).unwrap();
        assert_eq!(is().unwrap(), None);
        file.set_len(0).unwrap();
        assert_eq!(is().unwrap(), None);
        file.set_len(5000).unwrap();
        assert_eq!(is().unwrap(), Some(id));
        unmark(&path).unwrap();
        unmark(&path).unwrap();
        assert_eq!(is().unwrap(), None);
    }

    #[test]
    fn an_attribute_that_says_nothing_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"12345").unwrap();
        let id = FileId::of(b"x");
        for value in [
            "",
            "x",
            "x 5",
            &format!("{id}"),
            &format!("{id} five"),
            "\u{e9}",
        ] {
            let flags = XattrFlags::empty();
            rustix::fs::setxattr(&path, NAME, value.as_bytes(), flags).unwrap();
            let refused = of(&path, &std::fs::metadata(&path).unwrap()).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidData, "{value}");
        }
    }
}
