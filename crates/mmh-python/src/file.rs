//! Files that are open for reading: of a repository, or plain ones of this machine.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File as Disk;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use mmh_core::{ByteRange, ErrorKind, TensorInfo};
use mmh_formats::read_at::FileSource;
use mmh_formats::{Container, Layout, ReadAt, recognise, safetensors};
use mmh_repo::Content;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use crate::failure::{Failure, Result};
use crate::opening::Opened;

/// Name, element type, shape, offset in the file and length in bytes.
type Tensor = (String, &'static str, Vec<u64>, u64, u64);

/// A file at which ranges are read.
#[pyclass(frozen, module = "mmh._native")]
#[derive(Debug)]
pub(crate) struct File {
    source: Source,
}

enum Source {
    /// Each byte is compared with a digest before it is handed out.
    Stored(Arc<Content>, Arc<Opened>),
    /// Bytes as the disk has them.
    Plain(FileSource, Layout),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stored(content, _) => f.debug_tuple("Stored").field(content).finish(),
            Self::Plain(file, _) => f.debug_tuple("Plain").field(file).finish(),
        }
    }
}

/// A file of a repository, as the parsers of containers see it.
struct Stored<'a>(&'a Arc<Content>);

impl ReadAt for Stored<'_> {
    fn len(&self) -> u64 {
        self.0.size()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_into(offset, buf).map_err(|error| {
            let kind = match error.kind() {
                ErrorKind::Corrupt => io::ErrorKind::InvalidData,
                ErrorKind::NotFound => io::ErrorKind::NotFound,
                ErrorKind::Denied => io::ErrorKind::PermissionDenied,
                _ => io::ErrorKind::Other,
            };
            io::Error::new(kind, error)
        })
    }
}

/// Opens a plain file of this machine, which is read as it is.
#[pyfunction]
pub(crate) fn open_plain(py: Python<'_>, path: PathBuf) -> Result<File> {
    py.detach(|| {
        let failed = |source: io::Error| mmh_repo::Error::Io {
            action: "read",
            path: path.clone(),
            source,
        };
        let file = FileSource::new(Disk::open(&path).map_err(failed)?).map_err(failed)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let layout = recognise(&file, &name)?;
        let source = Source::Plain(file, layout);
        Ok(File { source })
    })
}

impl File {
    pub(crate) fn stored(content: Arc<Content>, opened: Arc<Opened>) -> Self {
        let source = Source::Stored(content, opened);
        Self { source }
    }

    fn size(&self) -> u64 {
        match &self.source {
            Source::Stored(content, _) => content.size(),
            Source::Plain(file, _) => file.len(),
        }
    }

    /// Fills `buf` from `offset`, all of which lies in the file.
    fn fill(&self, py: Python<'_>, offset: u64, buf: &mut [u8]) -> Result<()> {
        match &self.source {
            Source::Stored(content, opened) => opened
                .machine
                .run(py, None, || Ok(content.read_into(offset, buf)?)),
            Source::Plain(file, _) => py.detach(|| Ok(mmh_formats::read_into(file, offset, buf)?)),
        }
    }

    /// The length of a range that must lie in the file, so that nothing else is allocated.
    fn len_of(&self, offset: u64, len: u64) -> Result<usize> {
        let end = offset.saturating_add(len);
        ByteRange { start: offset, end }.within(self.size())?;
        usize::try_from(len).map_err(|_| Failure::invalid("more than memory can address"))
    }

    fn is_safetensors(&self) -> bool {
        self.container() == Container::Safetensors.as_str()
    }

    fn described(&self, py: Python<'_>) -> Result<safetensors::Described> {
        match &self.source {
            Source::Stored(content, opened) => opened
                .machine
                .run(py, None, || Ok(safetensors::describe(&Stored(content))?)),
            Source::Plain(file, _) => py.detach(|| Ok(safetensors::describe(file)?)),
        }
    }
}

#[pymethods]
impl File {
    /// Its length in bytes.
    #[getter(size)]
    fn len(&self) -> u64 {
        self.size()
    }

    /// The container that was recognised.
    #[getter]
    fn container(&self) -> &str {
        match &self.source {
            Source::Stored(content, _) => &content.file().container,
            Source::Plain(_, layout) => layout.container().as_str(),
        }
    }

    /// Why it is kept as bytes although it looked like a container.
    #[getter]
    fn note(&self) -> Option<&str> {
        match &self.source {
            Source::Stored(content, _) => content.file().note.as_deref(),
            Source::Plain(_, layout) => layout.note(),
        }
    }

    /// BLAKE3 of the whole content, if the repository states it.
    #[getter]
    fn blake3(&self) -> Option<String> {
        match &self.source {
            Source::Stored(content, _) => content.file().blake3.map(|digest| digest.to_string()),
            Source::Plain(..) => None,
        }
    }

    /// SHA-256 of the whole content, if the repository states it.
    #[getter]
    fn sha256(&self) -> Option<String> {
        match &self.source {
            Source::Stored(content, _) => content.file().sha256.map(|digest| digest.to_string()),
            Source::Plain(..) => None,
        }
    }

    /// Reads up to `len` bytes at `offset`: fewer only at the end of the file.
    fn read<'py>(&self, py: Python<'py>, offset: u64, len: u64) -> PyResult<Bound<'py, PyBytes>> {
        let end = offset.saturating_add(len).min(self.size());
        let len = self.len_of(offset.min(end), end.saturating_sub(offset))?;
        PyBytes::new_with(py, len, |buf| match buf.is_empty() {
            true => Ok(()),
            false => Ok(self.fill(py, offset, buf)?),
        })
    }

    /// Reads exactly `len` bytes at `offset` into memory that may be changed.
    fn read_array<'py>(
        &self,
        py: Python<'py>,
        offset: u64,
        len: u64,
    ) -> PyResult<Bound<'py, PyByteArray>> {
        let len = self.len_of(offset, len)?;
        PyByteArray::new_with(py, len, |buf| match buf.is_empty() {
            true => Ok(()),
            false => Ok(self.fill(py, offset, buf)?),
        })
    }

    /// The tensors in it.
    fn tensors(&self, py: Python<'_>) -> Result<Vec<Tensor>> {
        if self.is_safetensors() {
            let tensors = self.described(py)?.tensors;
            return Ok(tensors.into_iter().filter_map(whole).collect());
        }
        match &self.source {
            Source::Stored(content, opened) => opened
                .machine
                .run(py, None, || stored_tensors(content, opened)),
            Source::Plain(_, layout) => {
                let all = layout
                    .tensors()
                    .map(|(part, info)| (part.offset, info.clone()));
                Ok(all.filter_map(whole).collect())
            }
        }
    }

    /// The metadata of a safetensors header; nothing elsewhere.
    fn metadata(&self, py: Python<'_>) -> Result<BTreeMap<String, String>> {
        match self.is_safetensors() {
            true => Ok(self.described(py)?.metadata),
            false => Ok(BTreeMap::new()),
        }
    }
}

fn whole((offset, info): (u64, TensorInfo)) -> Option<Tensor> {
    let len = info.bytes()?;
    Some((info.name, info.dtype.as_str(), info.shape, offset, len))
}

/// The tensors that were found when the file was added.
fn stored_tensors(content: &Arc<Content>, opened: &Arc<Opened>) -> Result<Vec<Tensor>> {
    let (size, mut tensors) = (content.size(), Vec::new());
    content.for_each_segment(&mut |at, segment| {
        for span in &segment.tensors {
            let offset = at.saturating_add(span.start);
            let found = (span.skip == 0).then(|| whole((offset, span.info.clone())));
            // What a file object says of a tensor that does not lie in the file is no tensor.
            let fits = |t: &Tensor| t.3.checked_add(t.4).is_some_and(|end| end <= size);
            tensors.extend(found.flatten().filter(fits));
        }
        opened.machine.components().cancel.check()?;
        Ok(())
    })?;
    Ok(tensors)
}
