//! The result of parsing: parts that tile the file, checked when they are built.

use mmh_core::{Dtype, TensorInfo, limits};

use crate::container::Container;
use crate::error::{Error, Result};

/// What a run of bytes is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartKind {
    /// Headers, padding, text, anything that is not an array.
    Bytes,
    /// The raw elements of a tensor (or of a storage that several tensors share).
    Tensor(TensorInfo),
}

/// A run of bytes of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Where it begins.
    pub offset: u64,
    /// How long it is; never 0.
    pub len: u64,
    /// What it is.
    pub kind: PartKind,
}

/// Tensors that this file places in another file beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// The other file's path relative to this file's directory: no `..`, not absolute.
    pub location: String,
    /// Offset, length and description of each tensor in it.
    pub tensors: Vec<(u64, u64, TensorInfo)>,
}

/// Where the tensors of one file lie. The parts are in order, without gap or overlap, and their
/// lengths add up to `len`; only [`LayoutBuilder::finish`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    container: Container,
    len: u64,
    parts: Vec<Part>,
    externals: Vec<External>,
    note: Option<String>,
}

impl Layout {
    /// The container the file turned out to be.
    #[must_use]
    pub fn container(&self) -> Container {
        self.container
    }

    /// The file's length.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a layout is not a collection")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The parts, in order of offset.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Tensors placed in files beside this one.
    #[must_use]
    pub fn externals(&self) -> &[External] {
        &self.externals
    }

    /// Why the file is treated as bytes although it looked like more.
    #[must_use]
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// The tensors among the parts.
    pub fn tensors(&self) -> impl Iterator<Item = (&Part, &TensorInfo)> {
        self.parts.iter().filter_map(|part| match &part.kind {
            PartKind::Tensor(info) => Some((part, info)),
            PartKind::Bytes => None,
        })
    }

    /// One run of bytes.
    #[must_use]
    pub fn bytes(container: Container, len: u64) -> Self {
        let part = Part {
            offset: 0,
            len,
            kind: PartKind::Bytes,
        };
        let parts = if len == 0 { Vec::new() } else { vec![part] };
        Self {
            container,
            len,
            parts,
            externals: Vec::new(),
            note: None,
        }
    }

    /// The same layout with a remark for the user.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}

/// Collects what a parser finds, in any order, and checks that it fits together.
#[derive(Debug)]
pub struct LayoutBuilder {
    container: Container,
    len: u64,
    tensors: Vec<(u64, u64, TensorInfo)>,
    externals: Vec<External>,
    /// Bytes of memory that the tensors take.
    held_len: usize,
}

impl LayoutBuilder {
    /// Starts the layout of a file of `len` bytes.
    #[must_use]
    pub fn new(container: Container, len: u64) -> Self {
        Self {
            container,
            len,
            tensors: Vec::new(),
            externals: Vec::new(),
            held_len: 0,
        }
    }

    /// Places a tensor of exactly the size its type and shape give.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it does not lie within the file or its size is another;
    /// [`Error::TooLarge`] beyond the limits.
    pub fn tensor(&mut self, offset: u64, len: u64, info: TensorInfo) -> Result<()> {
        if info.bytes() != Some(len) {
            let what = format!(
                "tensor `{}` of {} {:?} cannot have {len} bytes",
                mmh_core::error::shorten(&info.name),
                info.dtype,
                info.shape
            );
            return Err(Error::malformed(self.container, what));
        }
        self.place(offset, len, info)
    }

    /// Places an array of whole elements whose shape is not known to match, such as a storage
    /// that several tensors share: its shape becomes one row of elements.
    ///
    /// # Errors
    /// As [`Self::tensor`].
    pub fn storage(&mut self, offset: u64, len: u64, name: String, dtype: Dtype) -> Result<()> {
        let (elements, bytes) = dtype.block();
        if !len.is_multiple_of(u64::from(bytes)) {
            let what = format!("storage of {len} bytes does not hold whole {dtype} elements");
            return Err(Error::malformed(self.container, what));
        }
        let shape = vec![len / u64::from(bytes) * u64::from(elements)];
        self.place(offset, len, TensorInfo { name, dtype, shape })
    }

    fn place(&mut self, offset: u64, len: u64, info: TensorInfo) -> Result<()> {
        let container = self.container;
        info.check()
            .map_err(|e| Error::too_large(container, e.to_string()))?;
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            let what = format!(
                "tensor `{}` at {offset} with {len} bytes does not lie within {} bytes",
                mmh_core::error::shorten(&info.name),
                self.len
            );
            return Err(Error::malformed(container, what));
        }
        if self.tensors.len() >= limits::TENSORS_MAX {
            return Err(Error::too_large(container, "too many tensors"));
        }
        self.held_len += size_of_val(&info) + info.name.len() + size_of_val(info.shape.as_slice());
        if self.held_len > HELD_LEN_MAX {
            return Err(Error::too_large(
                container,
                "names and shapes longer than are kept",
            ));
        }
        if len > 0 {
            self.tensors.push((offset, len, info));
        }
        Ok(())
    }

    /// Names tensors in a file beside this one.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the location is absolute or leaves the directory.
    pub fn external(&mut self, external: External) -> Result<()> {
        let inside = !external.location.is_empty()
            && external
                .location
                .split(['/', '\\'])
                .all(|p| !p.is_empty() && p != ".." && p != ".")
            && !external.location.contains([':', '\0']);
        if !inside {
            let what = format!(
                "external data at `{}` lies outside the model's folder",
                mmh_core::error::shorten(&external.location)
            );
            return Err(Error::malformed(self.container, what));
        }
        self.externals.push(external);
        Ok(())
    }

    /// Sorts the tensors, fills the gaps with bytes and checks that nothing overlaps. Tensors
    /// with exactly the same place are one storage; the first name in order wins.
    ///
    /// # Errors
    /// [`Error::Malformed`] if two tensors overlap in part.
    pub fn finish(mut self) -> Result<Layout> {
        self.tensors
            .sort_by(|a, b| (a.0, a.1, &a.2.name).cmp(&(b.0, b.1, &b.2.name)));
        self.tensors.dedup_by(|b, a| (a.0, a.1) == (b.0, b.1));
        let mut parts: Vec<Part> = Vec::with_capacity(self.tensors.len() * 2 + 1);
        let mut at = 0;
        for (offset, len, info) in self.tensors {
            if offset < at {
                let what = format!(
                    "tensor `{}` at {offset} overlaps the one before, which ends at {at}",
                    mmh_core::error::shorten(&info.name)
                );
                return Err(Error::malformed(self.container, what));
            }
            if offset > at {
                parts.push(Part {
                    offset: at,
                    len: offset - at,
                    kind: PartKind::Bytes,
                });
            }
            parts.push(Part {
                offset,
                len,
                kind: PartKind::Tensor(info),
            });
            at = offset + len;
        }
        if at < self.len {
            parts.push(Part {
                offset: at,
                len: self.len - at,
                kind: PartKind::Bytes,
            });
        }
        let (container, len, externals) = (self.container, self.len, self.externals);
        Ok(Layout {
            container,
            len,
            parts,
            externals,
            note: None,
        })
    }
}

/// Most bytes of memory for the tensors of one file; short headers can make long names.
const HELD_LEN_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn u8s(name: &str, len: u64) -> TensorInfo {
        TensorInfo {
            name: name.to_owned(),
            dtype: Dtype::U8,
            shape: vec![len],
        }
    }

    #[test]
    fn overlapping_tensors_are_refused() {
        let mut builder = LayoutBuilder::new(Container::Npy, 10);
        builder.tensor(0, 5, u8s("a", 5)).unwrap();
        builder.tensor(4, 5, u8s("b", 5)).unwrap();
        assert!(matches!(builder.finish(), Err(Error::Malformed { .. })));
    }

    #[test]
    fn tensors_with_one_place_are_one_part() {
        let mut builder = LayoutBuilder::new(Container::Npy, 5);
        builder.tensor(0, 5, u8s("b", 5)).unwrap();
        builder.tensor(0, 5, u8s("a", 5)).unwrap();
        let layout = builder.finish().unwrap();
        assert_eq!(layout.parts().len(), 1);
        assert_eq!(layout.tensors().next().unwrap().1.name, "a");
    }

    #[test]
    fn memory_for_names_is_limited() {
        let mut builder = LayoutBuilder::new(Container::Npy, 1 << 20);
        let name = "n".repeat(limits::TENSOR_NAME_LEN_MAX);
        let placed = (0..).take_while(|&i| builder.tensor(i, 1, u8s(&name, 1)).is_ok());
        let n = placed.count();
        assert!((50_000..65_536).contains(&n), "{n}");
    }

    #[test]
    fn external_data_stays_in_its_folder() {
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "C:x",
            "a\\..\\b",
        ] {
            let mut builder = LayoutBuilder::new(Container::Onnx, 0);
            let external = External {
                location: bad.to_owned(),
                tensors: Vec::new(),
            };
            assert!(builder.external(external).is_err(), "{bad}");
        }
    }

    proptest! {
        /// Whatever a parser claims, the parts tile the file or the claim is refused.
        #[test]
        fn parts_tile_or_err(len in 0u64..100, claims in prop::collection::vec((0u64..120, 0u64..60), 0..8)) {
            let mut builder = LayoutBuilder::new(Container::Unknown, len);
            for (i, (offset, n)) in claims.into_iter().enumerate() {
                let _ = builder.tensor(offset, n, u8s(&i.to_string(), n)).is_ok();
            }
            if let Ok(layout) = builder.finish() {
                let mut at = 0;
                for part in layout.parts() {
                    prop_assert_eq!(part.offset, at);
                    prop_assert!(part.len > 0);
                    at += part.len;
                }
                prop_assert_eq!(at, len);
            }
        }
    }
}
