//! Reading at an offset: the only thing a parser may do with a file.

use std::fs::File;
use std::io;

use crate::container::Container;
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
        let end = start
            .checked_add(buf.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
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

/// A part of another source, as if it were a file of its own: a member of an archive.
#[derive(Clone, Copy)]
pub struct Window<'a> {
    source: &'a dyn ReadAt,
    offset: u64,
    len: u64,
}

impl<'a> Window<'a> {
    /// Shows `len` bytes of `source` from `offset`, or `None` if they do not lie within it.
    #[must_use]
    pub fn new(source: &'a dyn ReadAt, offset: u64, len: u64) -> Option<Self> {
        let end = offset.checked_add(len)?;
        (end <= source.len()).then_some(Self {
            source,
            offset,
            len,
        })
    }

    /// Where it begins in the source.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl std::fmt::Debug for Window<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            source: _,
            offset,
            len,
        } = self;
        f.debug_struct("Window")
            .field("offset", offset)
            .field("len", len)
            .finish_non_exhaustive()
    }
}

impl ReadAt for Window<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let fits = offset
            .checked_add(buf.len() as u64)
            .is_some_and(|end| end <= self.len);
        if !fits {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.source.read_exact_at(buf, self.offset + offset)
    }
}

/// Reads `len` bytes at `offset`, both of which the file itself stated: a range outside the
/// source is the file's contradiction, not a failure to read.
///
/// # Errors
/// [`Error::Malformed`] if the range does not lie within the source; [`Error::Io`] if reading
/// fails all the same.
pub fn read_stated(
    source: &dyn ReadAt,
    container: Container,
    offset: u64,
    len: u64,
) -> Result<Vec<u8>> {
    if offset.checked_add(len).is_none_or(|end| end > source.len()) {
        let what = format!(
            "{len} bytes at offset {offset} do not lie within {}",
            source.len()
        );
        return Err(Error::malformed(container, what));
    }
    read_vec(source, offset, len)
}

/// Reads `len` bytes at `offset` after comparing both with the source's length, so that a lying
/// length never allocates.
///
/// # Errors
/// [`Error::Io`] with `UnexpectedEof` if the range does not lie within the source.
pub fn read_vec(source: &dyn ReadAt, offset: u64, len: u64) -> Result<Vec<u8>> {
    let fits = offset
        .checked_add(len)
        .is_some_and(|end| end <= source.len());
    let n = usize::try_from(len).ok().filter(|_| fits);
    let mut buf = vec![
        0;
        n.ok_or_else(|| Error::Io {
            offset,
            len,
            source: io::ErrorKind::UnexpectedEof.into(),
        })?
    ];
    read_into(source, offset, &mut buf)?;
    Ok(buf)
}

/// Fills `buf` from `offset`.
///
/// # Errors
/// [`Error::Io`], with `UnexpectedEof` if the source ends earlier.
pub fn read_into(source: &dyn ReadAt, offset: u64, buf: &mut [u8]) -> Result<()> {
    let len = buf.len() as u64;
    let io = |source: io::Error| Error::Io {
        offset,
        len,
        source,
    };
    source.read_exact_at(buf, offset).map_err(io)
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

    #[test]
    fn a_stated_range_outside_the_file_is_the_files_fault() {
        let source = vec![1u8, 2, 3];
        assert_eq!(read_stated(&source, Container::Zip, 1, 2).unwrap(), [2, 3]);
        for (offset, len) in [(2, 2), (4, 0), (u64::MAX, 1), (0, u64::MAX)] {
            let result = read_stated(&source, Container::Zip, offset, len);
            assert!(
                matches!(result, Err(Error::Malformed { .. })),
                "{offset} {len}"
            );
        }
    }

    #[test]
    fn a_window_shows_its_own_bytes_and_no_others() {
        let source = vec![1u8, 2, 3, 4, 5];
        let window = Window::new(&source, 1, 3).unwrap();
        assert_eq!((window.len(), window.offset()), (3, 1));
        assert_eq!(read_vec(&window, 1, 2).unwrap(), [3, 4]);
        assert!(window.read_exact_at(&mut [0; 2], 2).is_err());
        assert!(window.read_exact_at(&mut [0; 2], u64::MAX).is_err());
        assert!(Window::new(&source, 3, 3).is_none());
        assert!(Window::new(&source, u64::MAX, 3).is_none());
    }
}
