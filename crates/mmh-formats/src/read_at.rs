//! Reading at an offset: the only thing a parser may do with a file.

use std::fs::File;
use std::io;

use crate::error::{Error, Result};

/// A source of bytes with a known length, read at offsets. Implementations are stateless, so
/// several threads may read at once.
pub trait ReadAt: Send + Sync {
    /// The length in bytes, fixed when the source was opened.
    fn len(&self) -> u64;

    /// Whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the source ends before `buf` is full (a file may
    /// shrink while it is read); any other error of the source.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for [u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start.checked_add(buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        let bytes = self.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn len(&self) -> u64 {
        ReadAt::len(self.as_slice())
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.as_slice().read_exact_at(buf, offset)
    }
}

/// An open file with the length it had when it was opened.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    len: u64,
}

impl FileSource {
    /// Takes an open file.
    ///
    /// # Errors
    /// If the length cannot be read.
    pub fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file, len })
    }
}

impl ReadAt for FileSource {
    fn len(&self) -> u64 {
        self.len
    }

    #[cfg(unix)]
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buf, offset)
    }

    #[cfg(windows)]
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        use std::os::windows::fs::FileExt;
        while !buf.is_empty() {
            match self.file.seek_read(buf, offset)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => {
                    buf = buf.get_mut(n..).ok_or(io::ErrorKind::UnexpectedEof)?;
                    offset += n as u64;
                }
            }
        }
        Ok(())
    }
}

/// Reads `len` bytes at `offset` after comparing both with the source's length, so that a lying
/// length never allocates.
///
/// # Errors
/// [`Error::Io`] with `UnexpectedEof` if the range does not lie within the source.
pub fn read_vec(source: &dyn ReadAt, offset: u64, len: u64) -> Result<Vec<u8>> {
    let io = |source: io::Error| Error::Io { offset, len, source };
    let fits = offset.checked_add(len).is_some_and(|end| end <= source.len());
    let n = usize::try_from(len).ok().filter(|_| fits);
    let mut buf = vec![0; n.ok_or_else(|| io(io::ErrorKind::UnexpectedEof.into()))?];
    source.read_exact_at(&mut buf, offset).map_err(io)?;
    Ok(buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lying_length_does_not_allocate() {
        let source = vec![1u8, 2, 3];
        assert_eq!(read_vec(&source, 1, 2).unwrap(), [2, 3]);
        assert!(read_vec(&source, 0, u64::MAX).is_err());
        assert!(read_vec(&source, u64::MAX, 2).is_err());
    }
}
