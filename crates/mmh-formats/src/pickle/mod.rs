//! Pickles with arrays inside: numpy, joblib, and torch objects pickled by themselves.
//!
//! The pickle is read as data. Nothing is imported, called or resolved: a tiny symbolic machine
//! keeps what would be built, and the arrays are found in it.

pub(crate) mod heap;
mod joblib;
pub(crate) mod machine;
pub(crate) mod numpy;
mod ops;
pub(crate) mod torch;
mod walk;

use mmh_core::{TensorInfo, limits};

use crate::container::Container;
use crate::error::{Error, Result};
use crate::layout::{Layout, LayoutBuilder};
use crate::pickle::machine::{Pickle, scan};
use crate::pickle::walk::{Found, walk};
use crate::read_at::{ReadAt, Window};
use crate::torch_legacy;

/// Whether the beginning is that of a pickle; protocols 0 and 1 also need a name that says so.
#[must_use]
pub fn matches(head: &[u8], name: &str) -> bool {
    match head {
        [0x80, 2..=5, ..] => true,
        [b'(' | b'c' | b']' | b'}' | b')', ..] => {
            let name = name.to_ascii_lowercase();
            [".pkl", ".pickle", ".p", ".joblib"]
                .iter()
                .any(|end| name.ends_with(end))
        }
        _ => false,
    }
}

/// Locates the arrays in a file of one or more pickles.
///
/// # Errors
/// [`Error::Malformed`] if the first pickle is none; [`Error::TooLarge`] beyond the limits;
/// [`Error::Io`].
pub fn parse(source: &dyn ReadAt) -> Result<Layout> {
    let mut builder = LayoutBuilder::new(Container::Pickle, source.len());
    let first = scan(source, Container::Pickle, 0)?;
    let besides = place_arrays(&first, 0, "", &mut builder)?;
    let mut at = first.end;
    drop(first);
    let mut n_encoded = place_blobs(source, besides, &mut builder)?;
    for ordinal in 1..PICKLES_MAX {
        if at >= source.len() {
            break;
        }
        match scan(source, Container::Pickle, at) {
            Ok(next) => {
                let prefix = ordinal.to_string();
                let besides = place_arrays(&next, 0, &prefix, &mut builder)?;
                at = next.end;
                drop(next);
                n_encoded += place_blobs(source, besides, &mut builder)?;
            }
            Err(error @ Error::Io { .. }) => return Err(error),
            Err(_) => break, // what follows is no pickle: bytes
        }
    }
    Ok(with_encoded(builder.finish()?, n_encoded))
}

/// Says in `layout` that `n` arrays were not located because they are written as text.
pub(crate) fn with_encoded(layout: Layout, n: u64) -> Layout {
    match n {
        0 => layout,
        n => layout.with_note(format!(
            "{n} arrays are written as text, not as raw elements"
        )),
    }
}

/// What a pickle has besides the arrays that were placed.
#[derive(Debug, Default)]
pub(crate) struct Besides {
    /// How many arrays are written as text.
    pub(crate) n_encoded: u64,
    /// Torch files within the file: offset, length and name.
    blobs: Vec<(u64, u64, String)>,
}

/// Places the arrays of a pickle that begins a file or a window at `base` of one; their names
/// stand behind `prefix`.
pub(crate) fn place_arrays(
    pickle: &Pickle,
    base: u64,
    prefix: &str,
    builder: &mut LayoutBuilder,
) -> Result<Besides> {
    let mut besides = Besides::default();
    let mut found = Vec::new();
    walk(&pickle.heap, pickle.root, |path, what| match what {
        Found::Array(array) if found.len() <= limits::TENSORS_MAX => {
            let array = array.into_owned();
            let name = named(prefix, path, array.offset);
            let info = TensorInfo {
                name,
                dtype: array.dtype,
                shape: array.shape,
            };
            found.push((array.offset, array.len, info));
        }
        Found::Blob { offset, len } if besides.blobs.len() <= limits::TENSORS_MAX => {
            besides
                .blobs
                .push((base + offset, len, named(prefix, path, offset)));
        }
        Found::Encoded => besides.n_encoded += 1,
        _ => {}
    });
    for (offset, len, info) in found {
        builder.tensor(base + offset, len, info)?;
    }
    Ok(besides)
}

/// Places the tensors of the torch files inside `source`; files inside those are bytes, so that
/// nesting ends, and one that is named often is read once.
pub(crate) fn place_blobs(
    source: &dyn ReadAt,
    mut besides: Besides,
    builder: &mut LayoutBuilder,
) -> Result<u64> {
    besides.blobs.sort();
    besides.blobs.dedup_by_key(|(offset, ..)| *offset);
    for (base, len, name) in besides.blobs {
        let Some(window) = Window::new(source, base, len) else {
            continue;
        };
        match torch_legacy::parse(&window) {
            Ok(inner) => match inner.tensors().next() {
                // One tensor is one storage: its key says nothing.
                Some((part, info)) if inner.tensors().count() == 1 => {
                    let info = TensorInfo {
                        name,
                        ..info.clone()
                    };
                    builder.tensor(base + part.offset, part.len, info)?;
                }
                _ => adopt(builder, base, &name, &inner)?,
            },
            Err(error @ Error::Io { .. }) => return Err(error),
            Err(_) => {} // not what it seemed: bytes
        }
    }
    Ok(besides.n_encoded)
}

/// Places the tensors of a file that lies at `offset` of another, their names behind `name`.
pub(crate) fn adopt(
    builder: &mut LayoutBuilder,
    offset: u64,
    name: &str,
    inner: &Layout,
) -> Result<()> {
    for (part, info) in inner.tensors() {
        let mut info = info.clone();
        let joined = format!("{name}/{}", info.name);
        if joined.len() <= limits::TENSOR_NAME_LEN_MAX {
            info.name = joined;
        }
        // The window lies within the file, so the sum cannot overflow.
        builder.tensor(offset + part.offset, part.len, info)?;
    }
    Ok(())
}

fn named(prefix: &str, path: &str, offset: u64) -> String {
    let name = if path.is_empty() {
        format!("array@{offset}")
    } else {
        path.to_owned()
    };
    if prefix.is_empty() || prefix.len() + 1 + name.len() > limits::TENSOR_NAME_LEN_MAX {
        return name;
    }
    format!("{prefix}/{name}")
}

/// Most pickles that are read from one file.
const PICKLES_MAX: u32 = 1 << 16;

#[cfg(test)]
mod tests;
