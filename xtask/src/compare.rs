//! Comparing files and folders byte by byte.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use crate::shell::{Context as _, Failure, Outcome};

/// What was compared and found equal.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Equal {
    /// Files.
    pub(crate) files: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

impl std::ops::AddAssign for Equal {
    fn add_assign(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
    }
}

/// Compares two files or folders with all that is below; the first difference is an error.
pub(crate) fn trees(left: &Path, right: &Path) -> Outcome<Equal> {
    let kind = fs::symlink_metadata(left)
        .context(left.display())?
        .file_type();
    if kind
        != fs::symlink_metadata(right)
            .context(right.display())?
            .file_type()
    {
        return Err(differ(left, right, "one is of another type"));
    }
    if kind.is_symlink() {
        let (a, b) = (fs::read_link(left), fs::read_link(right));
        if a.context(left.display())? != b.context(right.display())? {
            return Err(differ(left, right, "the links point elsewhere"));
        }
        return Ok(Equal { files: 1, bytes: 0 });
    }
    if !kind.is_dir() {
        return files(left, right);
    }
    let (names, others) = (names(left)?, names(right)?);
    if let Some(name) = names.symmetric_difference(&others).next() {
        return Err(differ(
            left,
            right,
            &format!("only one holds {}", name.to_string_lossy()),
        ));
    }
    let mut equal = Equal::default();
    for name in names {
        equal += trees(&left.join(&name), &right.join(&name))?;
    }
    Ok(equal)
}

fn names(folder: &Path) -> Outcome<BTreeSet<std::ffi::OsString>> {
    let entries = fs::read_dir(folder).context(folder.display())?;
    entries
        .map(|entry| Ok(entry.context(folder.display())?.file_name()))
        .collect()
}

fn files(left: &Path, right: &Path) -> Outcome<Equal> {
    let mut a = fs::File::open(left).context(left.display())?;
    let mut b = fs::File::open(right).context(right.display())?;
    let (mut x, mut y) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut bytes = 0;
    loop {
        let n = fill(&mut a, &mut x).context(left.display())?;
        let m = fill(&mut b, &mut y).context(right.display())?;
        if x[..n] != y[..m] {
            return Err(differ(
                left,
                right,
                &format!("within 1 MiB after byte {bytes}"),
            ));
        }
        if n == 0 {
            return Ok(Equal { files: 1, bytes });
        }
        bytes += n as u64;
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut fs::File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// `len` bytes of a file from `start` on.
pub(crate) fn range(path: &Path, start: u64, len: usize) -> Outcome<Vec<u8>> {
    let mut file = fs::File::open(path).context(path.display())?;
    file.seek(SeekFrom::Start(start)).context(path.display())?;
    let mut bytes = vec![0; len];
    file.read_exact(&mut bytes).context(path.display())?;
    Ok(bytes)
}

/// The total length of the files at and below a path.
pub(crate) fn size(path: &Path) -> Outcome<u64> {
    let meta = fs::symlink_metadata(path).context(path.display())?;
    if !meta.is_dir() {
        return Ok(if meta.is_file() { meta.len() } else { 0 });
    }
    let mut total = 0;
    for name in names(path)? {
        total += size(&path.join(name))?;
    }
    Ok(total)
}

fn differ(left: &Path, right: &Path, why: &str) -> Failure {
    Failure::failed(format!(
        "{} and {} differ: {why}",
        left.display(),
        right.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder
    }

    #[test]
    fn equal_trees_are_counted() {
        let long = vec![7; (1 << 20) + 5];
        let [a, b] = [0, 1].map(|_| folder(&[("x", b"12"), ("d/y", &long), ("d/z", b"")]));
        let equal = trees(a.path(), b.path()).unwrap();
        assert_eq!(
            equal,
            Equal {
                files: 3,
                bytes: (1 << 20) + 7
            }
        );
        assert_eq!(size(a.path()).unwrap(), equal.bytes);
        assert_eq!(range(&a.path().join("x"), 1, 1).unwrap(), b"2");
        assert!(range(&a.path().join("x"), 1, 2).is_err());
    }

    #[test]
    fn every_difference_is_found() {
        let a = folder(&[("x", b"12"), ("d/y", b"3")]);
        for other in [
            folder(&[("x", b"12")]),
            folder(&[("x", b"12"), ("d/y", b"4")]),
            folder(&[("x", b"12"), ("d/y", b"34")]),
            folder(&[("x", b"12"), ("d/y", b"")]),
            folder(&[("x", b"12"), ("d/y", b"3"), ("d/w", b"")]),
            folder(&[("x", b"12"), ("d", b"3")]),
        ] {
            assert!(trees(a.path(), other.path()).is_err());
            assert!(trees(other.path(), a.path()).is_err());
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_are_compared_as_links() {
        use std::os::unix::fs::symlink;
        let (a, b) = (folder(&[("x", b"1")]), folder(&[("x", b"1")]));
        symlink("x", a.path().join("l")).unwrap();
        symlink("x", b.path().join("l")).unwrap();
        assert_eq!(trees(a.path(), b.path()).unwrap().files, 2);
        fs::remove_file(b.path().join("l")).unwrap();
        symlink("y", b.path().join("l")).unwrap();
        assert!(trees(a.path(), b.path()).is_err());
    }
}
